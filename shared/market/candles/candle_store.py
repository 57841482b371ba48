"""Windows of closed candles as a pod keeps them: in the cache, with what this process remembers.

How they are brought up to a minute is told in ``candle_refresh``; how they are made whole over
several runs, in ``candle_upkeep``; what remains of them for good, in ``history``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shared import clock
from shared.cache import Cache
from shared.execution.venues.base import PublicVenue
from shared.market.candles import candle_codec
from shared.market.candles.candle_refresh import Refreshed, Windows, fetch, refresh, take
from shared.market.candles.candle_rows import closed_by, is_stale
from shared.market.candles.candle_upkeep import Notes, notes_from_bytes, notes_to_bytes
from shared.market.candles.flash_prints import without_flash_prints
from shared.market.types import TIMEFRAMES, Candles
from shared.run import Run

__all__ = ["CandleStore", "Refreshed", "Windows", "refresh", "window"]

_TTL_SECONDS = 7 * 86_400
_NOTES_TTL_SECONDS = 86_400  # what a venue lacked yesterday is asked for again
_MAX_REMEMBERED = 512  # windows of 77 kB at most: 40 MB
_remembered: dict[str, tuple[bytes, Candles]] = {}


class CandleStore:
    """The candle windows of a pod, by venue, symbol and timeframe.

    Beside each window lies its head of 24 bytes with a checksum. What this process has read or
    written before is used again where the head still names it, so that a warm minute moves a few
    hundred bytes; a cache that was emptied is empty here too.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    @property
    def is_there(self) -> bool:
        """Whether what is written now can be read by the next run."""
        return self._cache.available

    def read(
        self,
        venue: str,
        symbols: Sequence[str],
        now_ms: int,
        timeframes: Sequence[str] = TIMEFRAMES,
    ) -> dict[str, Windows]:
        """What the cache holds, checked, without what is not closed at ``now_ms``."""
        wanted = {
            _key(venue, symbol, timeframe): (symbol, timeframe)
            for symbol in symbols
            for timeframe in timeframes
        }
        known = self._unchanged(list(wanted))
        unknown = [key for key in wanted if key not in known]
        for key, blob in zip(unknown, self._cache.get_many(unknown), strict=True):
            decoded = None if blob is None else candle_codec.decode(*wanted[key], blob)
            if blob is not None and decoded is not None:
                known[key] = decoded
                _remember(key, candle_codec.head(blob), decoded)
        found: dict[str, Windows] = {symbol: {} for symbol in symbols}
        for key, (symbol, timeframe) in wanted.items():
            if key in known and len(candles := closed_by(known[key], now_ms)):
                found[symbol][timeframe] = candles
        return found

    def write(self, venue: str, refreshed: Mapping[str, Refreshed]) -> None:
        """Keep what the refreshes of some symbols have changed."""
        values: dict[str, bytes] = {}
        for symbol, result in refreshed.items():
            for timeframe in result.changed:
                key, candles = _key(venue, symbol, timeframe), result.windows[timeframe]
                values[key] = blob = candle_codec.encode(candles)
                values[_head_key(key)] = head = candle_codec.head(blob)
                _remember(key, head, candles)
        self._cache.set_many(values, _TTL_SECONDS)

    def read_notes(self, venue: str, symbols: Sequence[str]) -> dict[str, Notes]:
        """What was learnt of the windows' holes and ends."""
        blobs = self._cache.get_many([_notes_key(venue, symbol) for symbol in symbols])
        return {symbol: notes_from_bytes(blob) for symbol, blob in zip(symbols, blobs, strict=True)}

    def write_notes(self, venue: str, notes: Mapping[str, Notes]) -> None:
        """Keep the notes of some symbols for a day."""
        values = {_notes_key(venue, name): notes_to_bytes(known) for name, known in notes.items()}
        self._cache.set_many(values, _NOTES_TTL_SECONDS)

    def _unchanged(self, keys: list[str]) -> dict[str, Candles]:
        """The remembered windows that the cache still holds."""
        remembered = [key for key in keys if key in _remembered]
        heads = self._cache.get_many([_head_key(key) for key in remembered])
        return {
            key: _remembered[key][1]
            for key, head in zip(remembered, heads, strict=True)
            if head == _remembered[key][0]
        }


def window(run: Run, venue: str | PublicVenue, symbol: str, timeframe: str) -> Candles | None:
    """The window of closed candles of ``symbol``, or ``None`` where there is no fresh one.

    Flash prints are left out of it, see ``flash_prints``.

    Args:
        venue: the name of a venue reads the cache and nothing else; a venue itself is asked where
            the cache is empty or too old.

    Raises:
        DataUnavailable, VenueUnavailable: the venue was asked and did not answer as it should.
    """
    now_ms, store = clock.now_ms(), CandleStore(run.cache)
    name = venue if isinstance(venue, str) else venue.name
    cached = store.read(name, [symbol], now_ms, [timeframe])[symbol].get(timeframe)
    if cached is None or is_stale(cached, now_ms):
        if isinstance(venue, str):
            return None
        result = Refreshed()
        take(result, timeframe, cached, fetch(venue, symbol, timeframe, cached, now_ms), now_ms)
        store.write(name, {symbol: result})
        cached = result.windows.get(timeframe)
    return None if cached is None else without_flash_prints(cached).candles


def _remember(key: str, head: bytes, candles: Candles) -> None:
    if len(_remembered) >= _MAX_REMEMBERED:
        _remembered.clear()
    _remembered[key] = (head, candles)


def _key(venue: str, symbol: str, timeframe: str) -> str:
    return f"candles:{venue}:{symbol}:{timeframe}"


def _notes_key(venue: str, symbol: str) -> str:
    return f"candles:{venue}:{symbol}:notes"


def _head_key(key: str) -> str:
    return f"{key}:head"
