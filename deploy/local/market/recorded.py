"""A market source that replays candles recorded in Parquet files."""

from __future__ import annotations

import numpy as np

from deploy.local.market.fear_greed import recorded_index
from deploy.local.market.folder import (
    Folder,
    Span,
    coarser_only,
    covered_spans,
    folders_of,
    latest_window,
    read_opens,
    read_rows,
    spans_of,
    utc,
)
from deploy.local.market.series import NO_ROWS, Rows, Series, SeriesMarket, merge, resample
from deploy.local.market.source import MarketSource, SourceSpec
from shared.errors import DataUnavailable
from shared.market.types import TIMEFRAME_MS, TIMEFRAMES

__all__ = ["Span", "covered_spans", "latest_window", "open_recorded"]

WARM_UP_CANDLES = 1_700
"""Candles before the replayed stretch in each timeframe, where the folder has them."""


def open_recorded(spec: SourceSpec, warm_up_candles: int = WARM_UP_CANDLES) -> MarketSource:
    """Load the candles that ``spec`` names, and ``warm_up_candles`` before them.

    Raises:
        ConfigurationError: the folder does not exist or holds no candles.
        DataUnavailable: a symbol or the hours are not there, or a file is corrupt.
    """
    if spec.data_dir is None:
        raise ValueError(f"data_dir: expected a folder for {spec.kind}, was None")
    chosen: dict[str, Folder] = {}
    series: dict[tuple[str, str], Series] = {}
    for symbol in spec.symbols:
        available = folders_of(spec.data_dir, symbol)
        chosen[symbol] = _choose(available, spec, symbol)
        own = _load(chosen[symbol], spec, warm_up_candles)
        others = [other for other in available if other != chosen[symbol]]
        earlier = [_load(other, spec, warm_up_candles) for other in others]
        for timeframe in TIMEFRAMES:
            rows = own[timeframe]
            if timeframe != "1m":
                rows = _with_history(rows, [other[timeframe] for other in earlier])
            start = spec.from_ms - warm_up_candles * TIMEFRAME_MS[timeframe]
            series[symbol, timeframe] = Series(rows[rows[:, 0] >= start], timeframe)
    exchanges = ", ".join(sorted({folder.exchange for folder in chosen.values()}))
    words = "recorded minutes" if spec.kind == "recorded" else "downloaded recent minutes"
    return SeriesMarket(
        description=f"{words} of {exchanges}, {utc(spec.from_ms)} to {utc(spec.to_ms)} UTC",
        symbols=spec.symbols,
        from_ms=spec.from_ms,
        to_ms=spec.to_ms,
        series=series,
        fear_greed_at=recorded_index(spec.data_dir),
    )


def _choose(available: list[Folder], spec: SourceSpec, symbol: str) -> Folder:
    """The folder with the fewest missing minutes in the wanted hours; spot before futures."""
    covering = [
        folder
        for folder in available
        if any(span.covers(spec.from_ms, spec.to_ms) for span in spans_of(folder, "1m"))
    ]
    if not covering:
        raise DataUnavailable(_not_covered(spec, symbol))

    def rank(folder: Folder) -> tuple[int, bool, str]:
        opens = read_opens(folder, "1m")
        first, last = np.searchsorted(opens, (spec.from_ms, spec.to_ms))
        return -int(last - first), folder.is_perpetual, folder.exchange

    return min(covering, key=rank)


def _not_covered(spec: SourceSpec, symbol: str) -> str:
    assert spec.data_dir is not None
    minutes = "; ".join(map(str, covered_spans(spec.data_dir, symbol))) or "nothing"
    message = (
        f"{symbol}: no minutes for {utc(spec.from_ms)} to {utc(spec.to_ms)} UTC; "
        f"{spec.data_dir} has in 1m: {minutes}"
    )
    coarse = [
        f"{span.timeframe} of {span}"
        for span in coarser_only(spec.data_dir, symbol)
        if span.covers(spec.from_ms, spec.to_ms)
    ]
    if coarse:
        message += (
            f"; only in coarser candles, which cannot be replayed minute by minute: "
            f"{'; '.join(coarse)}"
        )
    return message


def _load(folder: Folder, spec: SourceSpec, warm_up_candles: int) -> dict[str, Rows]:
    """All timeframes of one folder: its files, and resampled finer ones where those lack."""
    loaded: dict[str, Rows] = {}
    finer: str | None = None
    for timeframe in TIMEFRAMES:
        reach_ms = warm_up_candles * _coarsest_ms(folder, timeframe)
        rows = read_rows(folder, timeframe, spec.from_ms - reach_ms, spec.to_ms)
        rows = rows[rows[:, 0] + TIMEFRAME_MS[timeframe] <= spec.to_ms]
        if finer is not None:
            rows = merge(rows, resample(loaded[finer], finer, timeframe))
        loaded[timeframe] = rows
        finer = timeframe
    return loaded


def _coarsest_ms(folder: Folder, timeframe: str) -> int:
    """The coarsest timeframe that has no file of its own and is made of this one."""
    coarsest_ms = TIMEFRAME_MS[timeframe]
    for coarser in TIMEFRAMES[TIMEFRAMES.index(timeframe) + 1 :]:
        if coarser in folder.files:
            break
        coarsest_ms = TIMEFRAME_MS[coarser]
    return coarsest_ms


def _with_history(own: Rows, others: list[Rows]) -> Rows:
    """Candles of other exchanges before the first of ``own``; never between them."""
    first = own[0, 0] if len(own) else np.inf
    history = NO_ROWS
    for rows in others:
        history = merge(history, rows[rows[:, 0] < first])
    return merge(own, history)
