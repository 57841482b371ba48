"""Windows of closed candles: kept in the cache, brought up to date with as little as possible.

A warm minute asks the venue once a symbol, for the newest minutes. Higher timeframes are rolled
up from the next lower one where that fills the period whole, and asked for otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
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
_TTL_SECONDS_MAX = 7 * 86_400


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
    """The candle windows of a pod, by venue, symbol and timeframe."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def read(self, venue: str, symbols: Sequence[str], now_ms: int) -> dict[str, Windows]:
        """What the cache holds, checked, without what is not closed at ``now_ms``."""
        wanted = [(symbol, timeframe) for symbol in symbols for timeframe in TIMEFRAMES]
        blobs = self._cache.get_many([_key(venue, *which) for which in wanted])
        found: dict[str, Windows] = {symbol: {} for symbol in symbols}
        for (symbol, timeframe), blob in zip(wanted, blobs, strict=True):
            candles = None if blob is None else _decoded(symbol, timeframe, blob, now_ms)
            if candles is not None:
                found[symbol][timeframe] = candles
        return found

    def read_one(self, venue: str, symbol: str, timeframe: str, now_ms: int) -> Candles | None:
        """One window from the cache."""
        blob = self._cache.get(_key(venue, symbol, timeframe))
        return None if blob is None else _decoded(symbol, timeframe, blob, now_ms)

    def write(self, venue: str, symbol: str, refreshed: Refreshed) -> None:
        """Keep what a refresh has changed."""
        for_write = {
            _key(venue, symbol, timeframe): candle_codec.encode(refreshed.windows[timeframe])
            for timeframe in refreshed.changed
            if timeframe in refreshed.windows
        }
        self._cache.set_many(for_write, _TTL_SECONDS_MAX)


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
    cached = store.read_one(name, symbol, timeframe, now_ms)
    if cached is not None and not is_stale(cached, now_ms):
        return cached
    if isinstance(venue, str):
        return None
    result = Refreshed()
    after = _fetch(venue, symbol, timeframe, cached, now_ms)
    _take(result, timeframe, cached, after, now_ms)
    store.write(name, symbol, result)
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


def _decoded(symbol: str, timeframe: str, blob: bytes, now_ms: int) -> Candles | None:
    candles = candle_codec.decode(symbol, timeframe, blob)
    if candles is None:
        return None
    candles = closed_by(candles, now_ms)
    return candles if len(candles) else None


def _key(venue: str, symbol: str, timeframe: str) -> str:
    return f"candles:{venue}:{symbol}:{timeframe}"
