"""Windows of closed candles: kept in the cache, brought up to date with as little as possible.

A warm minute asks the venue once a symbol, for the newest minutes. Higher timeframes are rolled
up from the next lower one where that fills the period whole, and asked for otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shared import clock
from shared.cache import Cache
from shared.errors import DataUnavailable, VenueError
from shared.execution.venues.base import PublicVenue
from shared.market import candle_codec
from shared.market.candle_rows import (
    WINDOW,
    closed_by,
    from_rows,
    gaps,
    is_stale,
    merged,
    roll_up,
)
from shared.market.types import TIMEFRAME_MS, TIMEFRAMES, Candles
from shared.run import Run

Windows = dict[str, Candles]

_FINER: dict[str, str] = dict(zip(TIMEFRAMES[1:], TIMEFRAMES[:-1], strict=True))
_CALL_CAPS: dict[str, int] = {"binance": 1_000, "binanceus": 1_000, "kraken": 720, "coinbase": 300}
_SMALLEST_CAP = 300
_TTL_SECONDS = 7 * 86_400
_MAX_REMEMBERED = 512  # windows of 48 kB at most: 25 MB
_remembered: dict[str, tuple[bytes, Candles]] = {}


@dataclass
class Refreshed:
    """The windows of one symbol after a refresh.

    Attributes:
        windows: by timeframe; a timeframe that could not be had, or is too old, is absent.
        changed: timeframes that differ from the cache.
        missing: what is lacking and why, ``<timeframe>:<reason>``.
    """

    windows: Windows = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


class CandleStore:
    """The candle windows of a pod, by venue, symbol and timeframe.

    Beside each window lies its head of 24 bytes with a checksum. What this process has read or
    written before is used again where the head still names it, so that a warm minute moves a few
    hundred bytes; a cache that was emptied is empty here too.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

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

    def _unchanged(self, keys: list[str]) -> dict[str, Candles]:
        """The remembered windows that the cache still holds."""
        remembered = [key for key in keys if key in _remembered]
        heads = self._cache.get_many([_head_key(key) for key in remembered])
        return {
            key: _remembered[key][1]
            for key, head in zip(remembered, heads, strict=True)
            if head == _remembered[key][0]
        }


def refresh(venue: PublicVenue, symbol: str, cached: Windows, now_ms: int) -> Refreshed:
    """Bring the windows of ``symbol`` up to ``now_ms``.

    Raises:
        DataUnavailable, VenueUnavailable: the one-minute candles, which everything rests on,
            cannot be had. The failure of another timeframe is named in ``missing``.
    """
    result = Refreshed()
    for timeframe in TIMEFRAMES:
        before = cached.get(timeframe)
        after: Candles | None
        try:
            after = _refresh_one(venue, symbol, timeframe, before, result.windows, now_ms)
        except (DataUnavailable, VenueError) as error:
            if timeframe == "1m":
                raise
            result.missing.append(f"{timeframe}:{error}")
            after = before
        _take(result, timeframe, before, after, now_ms)
        if "1m" not in result.windows:
            raise DataUnavailable(f"{symbol} {result.missing[0]}")
    return result


def window(run: Run, venue: str | PublicVenue, symbol: str, timeframe: str) -> Candles | None:
    """The window of closed candles of ``symbol``, or ``None`` where there is no fresh one.

    Args:
        venue: the name of a venue reads the cache and nothing else; a venue itself is asked where
            the cache is empty or too old.

    Raises:
        DataUnavailable, VenueUnavailable: the venue was asked and did not answer as it should.
    """
    now_ms, store = clock.now_ms(), CandleStore(run.cache)
    name = venue if isinstance(venue, str) else venue.name
    cached = store.read(name, [symbol], now_ms, [timeframe])[symbol].get(timeframe)
    if cached is not None and not is_stale(cached, now_ms):
        return cached
    if isinstance(venue, str):
        return None
    result = Refreshed()
    after = _fetch(venue, symbol, timeframe, cached, now_ms)
    _take(result, timeframe, cached, after, now_ms)
    store.write(name, {symbol: result})
    return result.windows.get(timeframe)


def _take(
    result: Refreshed, timeframe: str, before: Candles | None, after: Candles | None, now_ms: int
) -> None:
    if after is None or not len(after):
        result.missing.append(f"{timeframe}:no candles")
        return
    if is_stale(after, now_ms):
        result.missing.append(f"{timeframe}:stale since {after.closed_ms}")
        return
    result.windows[timeframe] = after
    if after is not before:
        result.changed.append(timeframe)
    if lacking := gaps(after):
        result.missing.append(f"{timeframe}:gaps={lacking}")


def _refresh_one(
    venue: PublicVenue,
    symbol: str,
    timeframe: str,
    before: Candles | None,
    fresh: Windows,
    now_ms: int,
) -> Candles:
    step = TIMEFRAME_MS[timeframe]
    newest_due = now_ms // step * step - step
    if before is not None:
        if before.open_ms[-1] >= newest_due:
            return before
        finer = fresh.get(_FINER.get(timeframe, ""))
        if finer is not None:
            rolled = roll_up(finer, timeframe, before.closed_ms)
            if len(rolled) == (newest_due - int(before.open_ms[-1])) // step:
                return merged(before, rolled)
    return _fetch(venue, symbol, timeframe, before, now_ms)


def _fetch(
    venue: PublicVenue, symbol: str, timeframe: str, before: Candles | None, now_ms: int
) -> Candles:
    step, cap = TIMEFRAME_MS[timeframe], _CALL_CAPS.get(venue.name, _SMALLEST_CAP)
    # From the last known candle on, which a venue may have corrected, to the one still open.
    wanted = 0 if before is None else (now_ms - int(before.open_ms[-1])) // step + 1
    if before is None or wanted > cap:
        rows = venue.candles(symbol, timeframe, since_ms=None, limit=min(WINDOW, cap))
        return from_rows(symbol, timeframe, rows, now_ms)
    since_ms = int(before.open_ms[-1])
    rows = venue.candles(symbol, timeframe, since_ms=since_ms, limit=wanted)
    return merged(before, from_rows(symbol, timeframe, rows, now_ms))


def _remember(key: str, head: bytes, candles: Candles) -> None:
    if len(_remembered) >= _MAX_REMEMBERED:
        _remembered.clear()
    _remembered[key] = (head, candles)


def _key(venue: str, symbol: str, timeframe: str) -> str:
    return f"candles:{venue}:{symbol}:{timeframe}"


def _head_key(key: str) -> str:
    return f"{key}:head"
