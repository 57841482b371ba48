"""Random walks as candles, in which every pattern that is found is found by chance.

Paths are in units of one average true range of the walk and have ``STEPS`` steps a candle, so that
highs and lows come from a path and not from a formula.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from shared.market.candles.candle_rows import sliced
from shared.market.types import TIMEFRAME_MS, Candles

STEPS = 12
ATR_LOG_PRICE = 0.005
"""One average true range in log price: half a percent, as an hour of BTC/USDT has."""
TIMEFRAME = "1h"
_SYMBOL = "DRAWN/USDT"
_START_PRICE = 100.0
_SIGMA = 0.68  # standard deviation of a candle's return, at which its true range averages one unit
_GARCH_ALPHA, _GARCH_BETA, _TAIL_FREEDOM = 0.10, 0.88, 4
_BLOCK = 24

Floats = NDArray[np.float64]
Walk = Callable[[Generator, int], Candles]


def gaussian_steps(random: Generator, candles: int) -> Floats:
    """Steps of a Brownian motion."""
    return random.normal(0, _SIGMA / STEPS**0.5, candles * STEPS)


def clustered_steps(random: Generator, candles: int) -> Floats:
    """Steps with volatility clusters and fat tails: GARCH(1,1) with Student's t of 4 degrees.

    Bollerslev, Journal of Econometrics 31 (1986) and Review of Economics and Statistics 69 (1987).
    Student's t is a Gaussian whose variance is drawn anew for each candle, which makes the
    candle's inner path a Brownian motion again.
    """
    long_run = _SIGMA**2
    variance, variances = long_run, np.empty(candles)
    mixed = (_TAIL_FREEDOM - 2) / random.chisquare(_TAIL_FREEDOM, candles)
    unit = random.normal(0, 1, candles)
    for i in range(candles):
        variances[i] = variance * mixed[i]
        squared = variances[i] * unit[i] ** 2
        surplus = 1 - _GARCH_ALPHA - _GARCH_BETA
        variance = long_run * surplus + _GARCH_ALPHA * squared + _GARCH_BETA * variance
    steps = random.normal(0, 1, (candles, STEPS))
    bridge = steps - steps.mean(axis=1, keepdims=True) + unit[:, None] / STEPS**0.5
    return (bridge * np.sqrt(variances / STEPS)[:, None]).ravel()


def gaussian(random: Generator, count: int) -> Candles:
    """A walk of independent normal returns."""
    return from_path(random, _path(gaussian_steps(random, count)))


def clustered(random: Generator, count: int) -> Candles:
    """A walk of fat-tailed returns whose volatility comes in clusters."""
    return from_path(random, _path(clustered_steps(random, count)))


def bootstrapped(recorded: Candles) -> Walk:
    """Walks of blocks of 24 recorded candles in random order: what is left of the market when all
    that lasts longer than a day is destroyed (Kuensch, Annals of Statistics 17 (1989))."""

    def walk(random: Generator, count: int) -> Candles:
        starts = random.integers(1, len(recorded) - _BLOCK, -(-count // _BLOCK))
        picked = (starts[:, None] + np.arange(_BLOCK)).ravel()[:count]
        before = recorded.close[picked - 1]
        close = np.cumsum(np.log(recorded.close[picked] / before))
        base = _START_PRICE * np.exp(np.append(0.0, close[:-1]))
        scale = base / before
        return Candles(
            symbol=_SYMBOL,
            timeframe=TIMEFRAME,
            open_ms=np.arange(count, dtype=np.int64) * TIMEFRAME_MS[TIMEFRAME],
            open=recorded.open[picked] * scale,
            high=recorded.high[picked] * scale,
            low=recorded.low[picked] * scale,
            close=recorded.close[picked] * scale,
            volume=recorded.volume[picked],
        )

    return walk


def from_path(random: Generator, path: Floats) -> Candles:
    """The candles of a path in units of one average true range, ``STEPS`` steps each.

    Volume is lognormal noise and grows with the candle's range, as it does in markets.
    """
    count = (len(path) - 1) // STEPS
    nodes = np.arange(count)[:, None] * STEPS + np.arange(STEPS + 1)
    inside = path[nodes]
    price = _START_PRICE * np.exp(ATR_LOG_PRICE * inside)
    spread = inside.max(axis=1) - inside.min(axis=1)
    volume = random.lognormal(0, 0.4, count) * (0.3 + spread)
    opens = np.arange(count, dtype=np.int64) * TIMEFRAME_MS[TIMEFRAME]
    return Candles(
        symbol=_SYMBOL,
        timeframe=TIMEFRAME,
        open_ms=opens,
        open=np.ascontiguousarray(price[:, 0]),
        high=price.max(axis=1),
        low=price.min(axis=1),
        close=np.ascontiguousarray(price[:, -1]),
        volume=volume,
    )


def price_of(path_value: float) -> float:
    """The price at a value of a path."""
    return float(_START_PRICE * np.exp(ATR_LOG_PRICE * path_value))


def window(candles: Candles, last: int, length: int) -> Candles:
    """At most ``length`` candles up to and with the one at index ``last``."""
    return sliced(candles, slice(max(0, last + 1 - length), last + 1))


def _path(steps: Floats) -> Floats:
    return np.append(0.0, np.cumsum(steps))
