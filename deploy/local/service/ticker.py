"""When a workflow is due by the clock of this machine, whatever that clock does."""

from __future__ import annotations

from deploy.local.manifest import Workflow
from deploy.local.scheduler import Tick, next_ms

SET_BACK_MS = 2 * 60_000
"""A clock that is further back than this was set: waiting until it is where it was would stop the
loop for that long. A smaller step, as time servers make them, is waited for."""
LONGEST_SLEEP_MS = 31 * 24 * 60 * 60_000


class Ticker:
    """Gives each tick once, and after a sleep only the newest that is due.

    Args:
        now_ms: when it begins; a minute that has begun already is left to the next one.

    Attributes:
        missed: ticks that were due while nobody asked, and are not made up for. Those that lie
            more than a month back are not counted.
        set_back: how often the clock was found to be set back.
    """

    def __init__(self, workflow: Workflow, now_ms: int) -> None:
        self._workflow = workflow
        self._seen_ms = now_ms
        self._next_ms = next_ms(workflow, now_ms)
        self.missed = 0
        self.set_back = 0

    def take(self, now_ms: int) -> Tick | None:
        """The tick to run now, late or not; ``None`` where none is due."""
        if now_ms < self._seen_ms - SET_BACK_MS:
            self.set_back += 1
            self._next_ms = next_ms(self._workflow, now_ms)
            self._seen_ms = now_ms
            return None
        self._seen_ms = max(self._seen_ms, now_ms)
        if now_ms < self._next_ms:
            return None
        newest_ms = max(self._next_ms, next_ms(self._workflow, now_ms - LONGEST_SLEEP_MS))
        while (following_ms := next_ms(self._workflow, newest_ms)) <= now_ms:
            newest_ms = following_ms
            self.missed += 1
        self._next_ms = following_ms
        return Tick(newest_ms, self._workflow)

    def wait_ms(self, now_ms: int) -> int:
        """How long until the next tick, 0 at least."""
        return max(0, self._next_ms - now_ms)
