"""A market with a past out of the simulated one and a future that a scenario writes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from deploy.local.market.series import Rows, Series, SeriesMarket, merge, resample
from deploy.local.market.simulated import open_simulated
from deploy.local.market.source import SourceSpec
from shared.market.types import TIMEFRAME_MS, TIMEFRAMES

MINUTE_MS = 60_000
START_MS = 1_767_571_200_000
"""2026-01-05 00:00 UTC."""
SYMBOL = "BTC/USDT"
MINUTES = 59  # from an hour on, the simulated market has crashes of its own
NO_OTHERS: Mapping[str, Mapping[int, float]] = MappingProxyType({})
_HALF_RANGE = 0.0002  # of a minute's high and low around open and close


def scripted(
    seed: int,
    closes: Mapping[int, float],
    *,
    history_seed: int,
    minutes: int = MINUTES,
    others: Mapping[str, Mapping[int, float]] = NO_OTHERS,
) -> SeriesMarket:
    """A market whose minute ``n`` after the start closes at a known price.

    Args:
        seed: of the small noise on the minutes; nothing turns on it.
        closes: of ``SYMBOL`` by minute, as a multiple of the price at the start; in between it
            stands still.
        minutes: how long it goes on.
        others: the closes of further symbols. What ``SYMBOL`` does is the same without them.
    """
    series: dict[tuple[str, str], Series] = {}
    pasts = []
    for number, (symbol, written) in enumerate({SYMBOL: closes, **others}.items()):
        own_seed = history_seed + number  # one past for all would make them one asset
        spec = SourceSpec("simulated", (symbol,), START_MS, MINUTES / 60, own_seed, None)
        past = open_simulated(spec)
        assert isinstance(past, SeriesMarket)
        series |= _continued(symbol, past, written, seed + number, minutes)
        pasts.append(past)
    return SeriesMarket(
        description="a scenario's candles",
        symbols=(SYMBOL, *others),
        from_ms=START_MS,
        to_ms=START_MS + minutes * MINUTE_MS,
        series=series,
        fear_greed_at=pasts[0].fear_greed_at,
    )


def swinging(seed: int, minutes: int, *, history_seed: int) -> SeriesMarket:
    """A market that rises by 0.4 % an hour in swings of 40 minutes: much to buy and to leave."""
    rng = np.random.default_rng(seed)
    time = np.arange(minutes)
    swing = 0.004 * np.sin(2 * np.pi * (time + rng.integers(40)) / 40)
    noise = np.cumsum(rng.normal(0, 0.0003, minutes))
    levels = np.exp(swing + noise + 0.004 / 60 * time)
    closes = dict(enumerate(levels.tolist()))
    return scripted(seed, closes, history_seed=history_seed, minutes=minutes)


def _continued(
    symbol: str, past: SeriesMarket, closes: Mapping[int, float], seed: int, minutes: int
) -> dict[tuple[str, str], Series]:
    """Every timeframe of a symbol: what had closed before the start, then what is written."""
    known = {name: _closed_before(past.series[symbol, name].rows, name) for name in TIMEFRAMES}
    rows = np.concatenate((known["1m"], _future(known["1m"], closes, seed, minutes)))
    series = {(symbol, "1m"): Series(rows, "1m")}
    finer = "1m"
    for name in TIMEFRAMES[1:]:
        rows = merge(resample(rows, finer, name), known[name])
        series[symbol, name], finer = Series(rows, name), name
    return series


def _closed_before(rows: Rows, timeframe: str) -> Rows:
    return rows[rows[:, 0] + TIMEFRAME_MS[timeframe] <= START_MS]


def _future(past: Rows, closes: Mapping[int, float], seed: int, minutes: int) -> Rows:
    rng = np.random.default_rng(seed)
    first, volume = past[-1, 4], past[-60:, 5].mean()
    level, before = 1.0, first
    rows = []
    for minute in range(minutes):
        level = closes.get(minute, level)
        close = round(first * level * (1 + rng.uniform(-1, 1) * _HALF_RANGE / 4), 2)
        high, low = max(before, close), min(before, close)
        rows.append(
            [
                START_MS + minute * MINUTE_MS,
                before,
                round(high * (1 + _HALF_RANGE / 4), 2),
                round(low * (1 - _HALF_RANGE / 4), 2),
                close,
                volume,
            ]
        )
        before = close
    return np.array(rows)
