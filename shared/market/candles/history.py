"""Closed candles in PostgreSQL: written each hour from the windows, read when those are lost.

The minute writes none. Windows in the cache hold the newest 1,600 candles of each series, which is
a day of minutes; once an hour the analysis copies what the ledger lacks of them. So a candle is
written once, in one statement for all series, and an hour that was missed is made up for by the
next. A window that the cache lost is read from here, and the venue is asked for the last hour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shared.ledger.connection import Ledger, Row
from shared.market.candles.candle_rows import COLUMNS, WINDOW, find_problem, sliced
from shared.market.types import TIMEFRAME_MS, TIMEFRAMES, Candles

Series = tuple[str, str]
"""Symbol and timeframe."""

KEPT_AT_ONCE = 30_000
"""Three symbols' windows whole; an hour of 20 symbols brings 1,600."""
PRUNED_AT_ONCE = 20_000
_MOST_ABSENT = 10
"""A longer hole in what was kept ends the part that a window is filled from."""
_NEWEST = """
    SELECT s.symbol, s.timeframe, c.* FROM candle_series s
    JOIN unnest(%s::text[], %s::text[], %s::bigint[]) AS wanted (symbol, timeframe, last_ms)
        USING (symbol, timeframe)
    CROSS JOIN LATERAL (
        SELECT array_agg(open_ms ORDER BY open_ms) AS open_ms,
            array_agg(open ORDER BY open_ms) AS open, array_agg(high ORDER BY open_ms) AS high,
            array_agg(low ORDER BY open_ms) AS low, array_agg(close ORDER BY open_ms) AS close,
            array_agg(volume ORDER BY open_ms) AS volume
        FROM (SELECT * FROM candles WHERE series_id = s.series_id AND open_ms <= wanted.last_ms
              ORDER BY open_ms DESC LIMIT %s) AS newest
    ) AS c WHERE s.venue = %s AND c.open_ms IS NOT NULL
"""
_BETWEEN = """
    SELECT open_ms, open, high, low, close, volume FROM candles
    JOIN candle_series USING (series_id) WHERE venue = %s AND symbol = %s AND timeframe = %s
    AND open_ms >= %s AND open_ms < %s ORDER BY open_ms
"""


def keep(ledger: Ledger, venue: str, windows: Sequence[Candles]) -> int:
    """Write the candles of ``windows`` that are newer than the newest kept one of their series.

    Returns:
        How many were written: at most ``KEPT_AT_ONCE``, of each series the oldest first, so that a
        later call goes on there. A candle that was revised after it was written stays as it was.
    """
    if not windows:
        return 0
    _ensure_series(ledger, venue, windows)
    known = {(row["symbol"], row["timeframe"]): row for row in _series(ledger, venue)}
    columns: list[list[Any]] = [[] for _ in range(1 + len(COLUMNS))]
    share = KEPT_AT_ONCE // len(windows)
    for window in windows:
        row = known[window.symbol, window.timeframe]
        newest_ms = -1 if row["newest_ms"] is None else int(row["newest_ms"])
        first = int(np.searchsorted(window.open_ms, newest_ms, "right"))
        part = sliced(window, slice(first, first + share))
        columns[0] += [row["series_id"]] * len(part)
        for values, name in zip(columns[1:], COLUMNS, strict=True):
            values += getattr(part, name).tolist()
    if not columns[0]:
        return 0
    return ledger.execute(
        "INSERT INTO candles (series_id, open_ms, open, high, low, close, volume) "
        "SELECT * FROM unnest(%s::integer[], %s::bigint[], %s::float8[], %s::float8[], "
        "%s::float8[], %s::float8[], %s::float8[]) ON CONFLICT DO NOTHING",
        columns,
    )


def newest(
    ledger: Ledger, venue: str, series: Sequence[Series], now_ms: int, limit: int = WINDOW
) -> dict[Series, Candles]:
    """The newest kept candles of each series that were closed by ``now_ms``, without long holes.

    A series that was never kept, or whose values cannot be right, is absent.
    """
    if not series:
        return {}
    symbols, timeframes = zip(*series, strict=True)
    rows = ledger.query(
        _NEWEST,
        (
            list(symbols),
            list(timeframes),
            [now_ms - TIMEFRAME_MS[timeframe] for timeframe in timeframes],
            limit,
            venue,
        ),
    )
    found = {(row["symbol"], row["timeframe"]): _candles(row) for row in rows}
    return {key: _unbroken(kept) for key, kept in found.items() if find_problem(kept) is None}


def read(
    ledger: Ledger, venue: str, symbol: str, timeframe: str, from_ms: int, to_ms: int
) -> Candles:
    """The kept candles that open from ``from_ms`` to before ``to_ms``, holes and all."""
    rows = ledger.query(_BETWEEN, (venue, symbol, timeframe, from_ms, to_ms))
    columns = {name: [row[name] for row in rows] for name in COLUMNS}
    return _candles(columns | {"symbol": symbol, "timeframe": timeframe})


def prune(ledger: Ledger, now_ms: int, retention_days: int) -> int:
    """Delete candles older than ``retention_days``, but never those that a window may need.

    At most ``PRUNED_AT_ONCE`` of a timeframe go at a time, the oldest first.
    """
    deleted = 0
    for timeframe in TIMEFRAMES:
        needed_ms = max(retention_days * 86_400_000, WINDOW * TIMEFRAME_MS[timeframe])
        deleted += ledger.execute(
            "DELETE FROM candles WHERE (series_id, open_ms) IN (SELECT series_id, open_ms "
            "FROM candles JOIN candle_series USING (series_id) WHERE timeframe = %s "
            "AND open_ms < %s ORDER BY open_ms LIMIT %s)",
            (timeframe, now_ms - needed_ms, PRUNED_AT_ONCE),
        )
    return deleted


def _ensure_series(ledger: Ledger, venue: str, windows: Sequence[Candles]) -> None:
    ledger.execute(
        "INSERT INTO candle_series (venue, symbol, timeframe) "
        "SELECT %s, * FROM unnest(%s::text[], %s::text[]) ON CONFLICT DO NOTHING",
        (venue, [w.symbol for w in windows], [w.timeframe for w in windows]),
    )


def _series(ledger: Ledger, venue: str) -> list[Row]:
    """Every series of ``venue`` with its newest candle, each by one look into the index."""
    return ledger.query(
        "SELECT series_id, symbol, timeframe, (SELECT open_ms FROM candles c "
        "WHERE c.series_id = s.series_id ORDER BY open_ms DESC LIMIT 1) AS newest_ms "
        "FROM candle_series s WHERE venue = %s",
        (venue,),
    )


def _candles(row: Mapping[str, Any]) -> Candles:
    columns = (np.array(row[name], dtype=np.float64) for name in COLUMNS[1:])
    opens = np.array(row["open_ms"], dtype=np.int64)
    return Candles(row["symbol"], row["timeframe"], opens, *columns)


def _unbroken(candles: Candles) -> Candles:
    """The part after the newest hole that is too long to be a quiet time."""
    step = TIMEFRAME_MS[candles.timeframe]
    long_holes = np.flatnonzero(np.diff(candles.open_ms) > (1 + _MOST_ABSENT) * step)
    return sliced(candles, slice(int(long_holes[-1]) + 1, None)) if len(long_holes) else candles
