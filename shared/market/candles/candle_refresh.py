"""The windows of one symbol, brought up to a minute with as little as possible.

A warm minute asks the venue once a symbol, for the newest minutes. Higher timeframes are rolled
up from the next lower one where that fills the period whole, and asked for otherwise. Now and then
a higher timeframe is asked for in place of the minutes, and compared (``candle_check``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from shared.errors import DataUnavailable, VenueError
from shared.execution.venues.base import PublicVenue
from shared.market.candles import candle_check, candle_source
from shared.market.candles.candle_check import Difference
from shared.market.candles.candle_rows import is_stale, merged, roll_up
from shared.market.candles.candle_source import FINER, Allowance
from shared.market.types import TIMEFRAME_MS, TIMEFRAMES, Candles

Windows = dict[str, Candles]


@dataclass
class Refreshed:
    """The windows of one symbol after a refresh.

    Attributes:
        windows: by timeframe; a timeframe that could not be had, or is too old, is absent.
        changed: timeframes that differ from the cache.
        missing: what is lacking and why, ``<timeframe>:<reason>``.
        differences: where a window was not the venue's; it is now.
        pending: timeframes that are still to be asked for.
    """

    windows: Windows = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)

    def replace(self, timeframe: str, candles: Candles) -> None:
        """Take ``candles`` for the window of ``timeframe``, to be kept in the cache."""
        self.windows[timeframe] = candles
        self.keep(timeframe)

    def keep(self, timeframe: str) -> None:
        """Let the window of ``timeframe``, where there is one, be written to the cache."""
        if timeframe in self.windows and timeframe not in self.changed:
            self.changed.append(timeframe)

    def copy(self) -> Refreshed:
        """One that may be changed by itself."""
        return Refreshed(
            dict(self.windows),
            list(self.changed),
            list(self.missing),
            list(self.differences),
            list(self.pending),
        )


def refresh(
    venue: PublicVenue,
    symbol: str,
    cached: Windows,
    now_ms: int,
    *,
    check: str | None = None,
) -> Refreshed:
    """Bring the windows of ``symbol`` up to ``now_ms``, whatever that takes.

    Raises:
        DataUnavailable, VenueUnavailable: as for ``begin``.
    """
    result = begin(venue, symbol, cached, now_ms, check=check)
    complete(venue, symbol, result, cached, now_ms, Allowance(len(TIMEFRAMES)))
    return result


def begin(
    venue: PublicVenue,
    symbol: str,
    cached: Windows,
    now_ms: int,
    *,
    check: str | None = None,
) -> Refreshed:
    """The part of a refresh that cannot wait: one request, and what follows from its answer.

    Args:
        check: a timeframe to compare with the venue's, in place of asking for the newest minute.

    Raises:
        DataUnavailable, VenueUnavailable: the one-minute candles, which everything rests on,
            cannot be had.
    """
    result = Refreshed()
    if check is not None and candle_check.can_wait(cached, check, now_ms):
        return _checked(venue, symbol, cached, check, now_ms)
    minutes = cached.get("1m")
    newer = _up_to_date(venue.name, "1m", minutes, None, now_ms)
    if newer is None:
        newer = fetch(venue, symbol, "1m", minutes, now_ms)
    take(result, "1m", minutes, newer, now_ms)
    if "1m" not in result.windows:
        raise DataUnavailable(f"{symbol} {result.missing[0]}")
    for timeframe in TIMEFRAMES[1:]:
        before, finer = cached.get(timeframe), result.windows.get(FINER[timeframe])
        after = _up_to_date(venue.name, timeframe, before, finer, now_ms)
        if after is None:
            result.pending.append(timeframe)
        else:
            take(result, timeframe, before, after, now_ms)
    return result


def complete(
    venue: PublicVenue,
    symbol: str,
    result: Refreshed,
    cached: Windows,
    now_ms: int,
    allowance: Allowance,
) -> None:
    """Ask for the timeframes that ``begin`` has left, as far as ``allowance`` goes.

    One that cannot be had is named in ``missing``; what the cache held of it is used while it is
    not too old.
    """
    for timeframe in result.pending:
        before, finer = cached.get(timeframe), result.windows.get(FINER[timeframe])
        after = _up_to_date(venue.name, timeframe, before, finer, now_ms)
        if after is None:
            try:
                allowance.take()
                after = fetch(venue, symbol, timeframe, before, now_ms)
            except (DataUnavailable, VenueError) as error:
                result.missing.append(f"{timeframe}:{error}")
                after = before
        take(result, timeframe, before, after, now_ms)
    result.pending.clear()
    result.windows = {name: result.windows[name] for name in TIMEFRAMES if name in result.windows}


def take(
    result: Refreshed, timeframe: str, before: Candles | None, after: Candles | None, now_ms: int
) -> None:
    """Put ``after`` into ``result``, or name why there is no window."""
    if after is None or not len(after):
        result.missing.append(f"{timeframe}:no candles")
    elif is_stale(after, now_ms):
        result.missing.append(f"{timeframe}:stale since {after.closed_ms}")
    elif after is before:
        result.windows[timeframe] = after
    else:
        result.replace(timeframe, after)


def fetch(
    venue: PublicVenue, symbol: str, timeframe: str, before: Candles | None, now_ms: int
) -> Candles:
    """What is new after ``before``, joined to it; the newest window where one answer cannot join.

    Raises:
        DataUnavailable, VenueUnavailable: there is no answer, or it is not to be believed.
    """
    step = TIMEFRAME_MS[timeframe]
    # From the last known candle on, which a venue may have corrected, to the one still open.
    wanted = 0 if before is None else (now_ms - int(before.open_ms[-1])) // step + 1
    if before is None or wanted > candle_source.supply(venue.name).cap:
        return candle_source.newest(venue, symbol, timeframe, now_ms)
    since_ms = int(before.open_ms[-1])
    found = candle_source.since(venue, symbol, timeframe, since_ms, wanted, now_ms)
    return merged(before, found)


def _checked(
    venue: PublicVenue, symbol: str, cached: Windows, timeframe: str, now_ms: int
) -> Refreshed:
    """The cached windows, one of them compared with the venue's and repaired by it."""
    result = Refreshed()
    for name in TIMEFRAMES:
        take(result, name, cached.get(name), cached.get(name), now_ms)
    try:
        theirs = candle_check.ask(venue, symbol, timeframe, now_ms)
    except (DataUnavailable, VenueError) as error:
        result.missing.append(f"{timeframe}:not checked:{error}")
        return result
    found = candle_check.compare(result.windows[timeframe], theirs)
    if found is not None:
        result.replace(timeframe, merged(result.windows[timeframe], theirs))
        result.differences.append(found)
        result.missing.append(f"{timeframe}:{found.told()}")
    return result


def _up_to_date(
    venue: str, timeframe: str, before: Candles | None, finer: Candles | None, now_ms: int
) -> Candles | None:
    """The window as far as no request is needed: it is fresh, or ``finer`` fills what lacks."""
    step = TIMEFRAME_MS[timeframe]
    newest_due = now_ms // step * step - step
    if before is None:
        if finer is None or timeframe not in candle_source.supply(venue).built:
            return None
        return roll_up(finer, timeframe, int(finer.open_ms[0]))
    if before.open_ms[-1] >= newest_due:
        return before
    if finer is None:
        return None
    rolled = roll_up(finer, timeframe, before.closed_ms)
    whole = len(rolled) == (newest_due - int(before.open_ms[-1])) // step
    return merged(before, rolled) if whole else None
