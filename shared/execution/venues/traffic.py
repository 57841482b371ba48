"""Whether a venue may be asked now, by its own word and by our budget."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from shared import clock
from shared.cache import Cache
from shared.errors import VenueUnavailable
from shared.execution.venues import limits
from shared.execution.venues.budget import Budget
from shared.execution.venues.limits import Block
from shared.ledger.connection import Ledger


class Traffic:
    """One for all venues of a step."""

    def __init__(
        self, blocks: Mapping[str, Block], ledger: Callable[[], Ledger], cache: Cache
    ) -> None:
        """``blocks`` hold as the step begins; ``ledger`` gives one for the calling thread."""
        self._ledger = ledger
        self._cache = cache
        self._blocks = dict(blocks)
        self._budgets: dict[str, Budget] = {}
        self._lock = threading.Lock()

    def check(self, venue: str, call: str, *, new_risk: bool = False) -> None:
        """Pass, or refuse without touching the network.

        Raises:
            VenueUnavailable: the venue has told us to wait, or ``call`` can wait and the minute's
                budget is used up but for the reserve.
        """
        with self._lock:
            block = self._blocks.get(venue)
            budget = self._budgets.setdefault(venue, Budget(venue, self._cache))
        if block is not None and clock.now() < block.until:
            raise VenueUnavailable(
                f"{venue}: {call}: blocked until {clock.iso(block.until)} ({block.reason})"
            )
        if not budget.allows(call, new_risk=new_risk):
            raise VenueUnavailable(f"{venue}: {call}: this minute's budget is used up")

    def heed(self, venue: str, status: int, headers: Mapping[str, str]) -> None:
        """Keep what an answer asks us to wait for."""
        block = limits.block_of(venue, status, headers, clock.now())
        if block is None:
            return
        with self._lock:
            self._blocks[venue] = block
        limits.record(self._ledger(), block, clock.now())
