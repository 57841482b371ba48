"""A venue's clock may differ from ours: by how much is measured seldom, and then reckoned with.

The offset is kept in Redis for an hour, and measured anew when the venue finds a request's time
wrong. Our requests carry the venue's time, not ours: ccxt takes its time from the client's
``milliseconds`` and ``seconds``, which add the offset (Binance's timestamp, Coinbase's token), and
so does Kraken's deadline. Kraken's nonce goes by our clock: it must only ever grow.

In a replay our clock is the venue's, so nothing is measured until a venue complains.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from shared import clock
from shared.cache import Cache
from shared.errors import VenueUnavailable

WARN_MS = 500
REFUSE_MS = 1_000

_TTL_SECONDS = 3_600
_RETRY_SECONDS = 300  # how long a clock that could not be corrected is left alone
_SETTLED_MS = 60_000  # a complaint so soon after a correction: correcting does not help
OFFSET_OPTION = "clockOffsetMs"
_STATE_OPTION = "clockState"

Report = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True)
class Offset:
    """What has to be added to our clock for the venue's.

    Attributes:
        uncertainty_ms: half of the round trip and half of the venue's resolution.
        corrected: whether the venue takes our requests' time with it.
    """

    offset_ms: int
    uncertainty_ms: int
    measured_at_ms: int
    corrected: bool


class VenueTime:
    """The clock of one venue, as one run knows it."""

    def __init__(
        self,
        venue: str,
        client: Any,
        *,
        ask: Callable[[], int],
        resolution_ms: int,
        cache: Cache,
        report: Report,
    ) -> None:
        """``ask`` reads the venue's clock; ``report`` keeps a fact for a person to find."""
        self._venue = venue
        self._client = client
        self._ask = ask
        self._resolution_ms = resolution_ms
        self._cache = cache
        self._report = report

    def ensure(self) -> None:
        """Before a signed request: know the offset. Costs nothing in a replay, seldom elsewhere."""
        if clock.is_virtual() or self._current() is not None:
            return
        stored = self._cache.get(self._key)
        if stored is not None:
            self._use(Offset(**json.loads(stored)))
            return
        try:
            self._keep(self._measure())
        except VenueUnavailable:
            return  # no complaint so far: the venue itself judges the request's time

    def complain(self) -> None:
        """The venue has found the time of a request wrong: measure again, or take no new risk."""
        before = self._current()
        just_corrected = before is not None and clock.now_ms() - before.measured_at_ms < _SETTLED_MS
        try:
            found = self._measure()
        except VenueUnavailable:
            known = 0 if before is None else before.offset_ms
            found = Offset(known, REFUSE_MS + 1, clock.now_ms(), corrected=False)
        if just_corrected or found.uncertainty_ms > REFUSE_MS:
            found = Offset(
                found.offset_ms, found.uncertainty_ms, found.measured_at_ms, corrected=False
            )
            self._report("CLOCK_UNCORRECTED", {"venue": self._venue} | asdict(found))
        self._keep(found)

    def refusal(self) -> str | None:
        """Why no new risk may be sent, or ``None``."""
        known = self._current()
        if known is None or known.corrected:
            return None
        return (
            f"clock: the venue's differs and could not be corrected "
            f"(offset {known.offset_ms} ms, known to {known.uncertainty_ms} ms)"
        )

    @property
    def _key(self) -> str:
        return f"clock:{self._venue}"

    def _current(self) -> Offset | None:
        known: Offset | None = self._client.options.get(_STATE_OPTION)
        if known is None:
            return None
        kept_for_ms = 1_000 * (_TTL_SECONDS if known.corrected else _RETRY_SECONDS)
        return known if clock.now_ms() - known.measured_at_ms < kept_for_ms else None

    def _measure(self) -> Offset:
        before_ms = clock.now_ms()
        theirs_ms = self._ask()
        after_ms = clock.now_ms()
        uncertainty_ms = (after_ms - before_ms + self._resolution_ms) // 2
        # A clock that tells whole seconds is half a second further than it says, on average.
        offset_ms = theirs_ms + self._resolution_ms // 2 - (before_ms + after_ms) // 2
        if abs(offset_ms) > WARN_MS + uncertainty_ms:
            detail = {"venue": self._venue, "offset_ms": offset_ms, "known_to_ms": uncertainty_ms}
            self._report("CLOCK_OFFSET", detail)
        if abs(offset_ms) <= uncertainty_ms:
            offset_ms = 0  # no more than the measurement can see
        too_vague = abs(offset_ms) > REFUSE_MS and uncertainty_ms > REFUSE_MS
        return Offset(offset_ms, uncertainty_ms, after_ms, corrected=not too_vague)

    def _keep(self, found: Offset) -> None:
        self._use(found)
        ttl = _TTL_SECONDS if found.corrected else _RETRY_SECONDS
        self._cache.set(self._key, json.dumps(asdict(found)).encode(), ttl)

    def _use(self, found: Offset) -> None:
        self._client.options[_STATE_OPTION] = found
        self._client.options[OFFSET_OPTION] = found.offset_ms
