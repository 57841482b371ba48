"""Rows of candles from outside, turned into ``Candles`` or refused by name.

What a venue or a cache says is not believed: every value is checked, duplicates and disorder are
repaired, the candle that is still open is dropped, and holes stay holes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import DataUnavailable
from shared.market.types import TIMEFRAME_MS, Candles

WINDOW = 1_600  # what the slowest indicator, the EMA of 200, needs: see ``warmup.SETTLED``
COLUMNS = ("open_ms", "open", "high", "low", "close", "volume")


def from_rows(symbol: str, timeframe: str, rows: Any, now_ms: int) -> Candles:
    """The closed candles among ``[open_ms, open, high, low, close, volume]`` rows, oldest first.

    Of several rows for the same time the last one counts: venues send corrections later.

    Raises:
        DataUnavailable: a row is malformed, or opens later than the candle after the present one;
            names the field, its value and what was expected.
    """
    label, step = f"{symbol} {timeframe}", TIMEFRAME_MS[timeframe]
    table = _as_table(label, rows)
    if not np.isfinite(table).all():
        row, column = (int(axis[0]) for axis in np.nonzero(~np.isfinite(table)))
        raise _malformed(label, row, COLUMNS[column], table[row, column], "a finite number")
    order = np.argsort(table[:, 0], kind="stable")
    table = table[order]
    table = table[_changes(table[:, 0], at_end=True)]
    opens = table[:, 0].astype(np.int64)
    if len(opens) and opens[-1] > now_ms + step:  # the venue's clock may be a little ahead of ours
        expected = f"at most {now_ms + step}"
        raise _malformed(label, len(opens) - 1, "open_ms", int(opens[-1]), expected)
    closed = opens + step <= now_ms
    table, opens = table[closed], opens[closed]
    columns = (np.ascontiguousarray(table[:, i]) for i in range(1, 6))
    candles = Candles(symbol, timeframe, opens, *columns)
    problem = find_problem(candles)
    if problem is not None:
        raise DataUnavailable(problem)
    return candles


def find_problem(candles: Candles) -> str | None:
    """What is wrong with the values, in one line, or ``None``."""
    label = f"{candles.symbol} {candles.timeframe}"
    low, high, step = candles.low, candles.high, TIMEFRAME_MS[candles.timeframe]
    body_top = np.maximum(candles.open, candles.close)
    body_bottom = np.minimum(candles.open, candles.close)
    # Comparisons with NaN are false, so that a NaN fails whichever check it meets.
    rules = (
        ("open_ms", candles.open_ms, candles.open_ms % step == 0, f"a multiple of {step}"),
        ("low", low, (low > 0) & (low <= body_bottom), "> 0 and <= open and close"),
        ("high", high, (high >= body_top) & (high < np.inf), "finite and >= open and close"),
        ("volume", candles.volume, (candles.volume >= 0) & (candles.volume < np.inf), ">= 0"),
    )
    for name, values, right, expected in rules:
        if not right.all():
            at = int(np.argmin(right))
            return str(_malformed(label, at, name, values[at], expected))
    if len(candles) > 1 and not (np.diff(candles.open_ms) > 0).all():
        return f"{label}: open_ms: expected ascending times"
    return None


def gaps(candles: Candles) -> int:
    """How many candles are absent between the first and the last one."""
    if len(candles) < 2:
        return 0
    step = TIMEFRAME_MS[candles.timeframe]
    span = int(candles.open_ms[-1] - candles.open_ms[0])
    return span // step + 1 - len(candles)


def is_stale(candles: Candles, now_ms: int) -> bool:
    """Whether more than one candle, and three minutes for a slow venue, are lacking at the end."""
    return now_ms - candles.closed_ms > 2 * TIMEFRAME_MS[candles.timeframe] + 180_000


def merged(older: Candles, newer: Candles) -> Candles:
    """Both series as one, at most ``WINDOW`` long; where they overlap, ``newer`` counts."""
    if not len(older) or not len(newer):
        return newer if len(newer) else older
    opens = np.concatenate((older.open_ms, newer.open_ms))
    order = np.argsort(opens, kind="stable")
    keep = order[_changes(opens[order], at_end=True)][-WINDOW:]
    columns = (
        np.concatenate((getattr(older, name), getattr(newer, name)))[keep] for name in COLUMNS[1:]
    )
    return Candles(newer.symbol, newer.timeframe, opens[keep], *columns)


def sliced(candles: Candles, part: slice) -> Candles:
    """A part of the series, sharing its memory."""
    columns = (getattr(candles, name)[part] for name in COLUMNS)
    return Candles(candles.symbol, candles.timeframe, *columns)


def closed_by(candles: Candles, now_ms: int) -> Candles:
    """The candles that are closed at ``now_ms``."""
    last_open = now_ms - TIMEFRAME_MS[candles.timeframe]
    end = int(np.searchsorted(candles.open_ms, last_open, side="right"))
    return candles if end == len(candles) else sliced(candles, slice(0, end))


def roll_up(finer: Candles, timeframe: str, since_ms: int) -> Candles:
    """Candles of ``timeframe`` from ``since_ms`` on, of the periods that ``finer`` fills whole."""
    step = TIMEFRAME_MS[timeframe]
    ratio = step // TIMEFRAME_MS[finer.timeframe]
    start = int(np.searchsorted(finer.open_ms, since_ms))
    part = sliced(finer, slice(start, None))
    if not len(part):
        return Candles(finer.symbol, timeframe, *(getattr(part, name) for name in COLUMNS))
    period = part.open_ms // step
    first = np.flatnonzero(_changes(period, at_end=False))
    size = np.diff(np.append(first, len(period)))
    whole = size == ratio
    last = first + size - 1
    return Candles(
        symbol=finer.symbol,
        timeframe=timeframe,
        open_ms=period[first][whole] * step,
        open=part.open[first][whole],
        high=np.maximum.reduceat(part.high, first)[whole],
        low=np.minimum.reduceat(part.low, first)[whole],
        close=part.close[last][whole],
        volume=np.add.reduceat(part.volume, first)[whole],
    )


def _changes(values: NDArray[Any], *, at_end: bool) -> NDArray[np.bool_]:
    """Marks the last of each run of equal values, or the first."""
    marks = np.ones(len(values), dtype=bool)
    if at_end:
        marks[:-1] = values[1:] != values[:-1]
    else:
        marks[1:] = values[1:] != values[:-1]
    return marks


def _as_table(label: str, rows: Any) -> NDArray[np.float64]:
    try:
        table = np.asarray(rows, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataUnavailable(f"{label}: rows: expected numbers, {error}") from error
    if table.size == 0:
        return np.empty((0, 6))
    if table.ndim != 2 or table.shape[1] != 6:
        raise DataUnavailable(f"{label}: rows: expected 6 columns, was shape {table.shape}")
    return table


def _malformed(label: str, row: int, field: str, value: object, expected: str) -> DataUnavailable:
    return DataUnavailable(f"{label}: row {row}: {field}: was {value}, expected {expected}")
