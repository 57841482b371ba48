"""The stochastic model of the simulated market: returns, volatility, volume and events.

What it reproduces are the stylised facts of R. Cont, "Empirical properties of asset returns",
Quantitative Finance 1 (2001): heavy tails, no linear autocorrelation, volatility clustering,
volume that moves with volatility; and the daily rhythm of crypto markets, whose volume peaks when
Europe and America trade at once.

A return is ``volatility x (loading x market shock + rest x own shock) + drift``; shocks are
Student t; the logarithm of volatility is a sum of two first-order autoregressions, a slow one
that all symbols share and a quick one of each (stochastic volatility: S. Taylor, "Modelling
Financial Time Series", 1986) plus the level of the regime in force.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MINUTES_PER_YEAR = 525_600
SHOCK_DEGREES = 5.0
"""Of Student's t, whose tail exponent it is: those of returns lie between 2 and 5 (Cont, 3.2)."""
MEAN_REGIME_HOURS = 9.0
SLOW_DEVIATION, QUICK_DEVIATION = 0.35, 0.30
"""Standard deviations of the two parts of the logarithm of volatility."""


@dataclass(frozen=True)
class Asset:
    """What a symbol is like.

    Attributes:
        price: in US dollars, where the replayed stretch starts.
        volatility_annualised: a fraction, 0.5 is 50 % a year.
        loading: share of the market's shock in its own, 0 to 1.
        volume_quote: traded in an average minute.
    """

    price: float
    volatility_annualised: float
    loading: float
    volume_quote: float


# Levels of spring 2025, rounded
KNOWN: dict[str, Asset] = {
    "BTC": Asset(95_000, 0.48, 0.90, 1_100_000),
    "ETH": Asset(1_800, 0.68, 0.87, 700_000),
    "SOL": Asset(146, 0.82, 0.84, 260_000),
    "XRP": Asset(2.15, 0.80, 0.80, 190_000),
    "BNB": Asset(600, 0.50, 0.80, 110_000),
    "DOGE": Asset(0.172, 0.95, 0.82, 110_000),
    "ADA": Asset(0.68, 0.90, 0.82, 60_000),
    "AVAX": Asset(20.5, 0.95, 0.82, 30_000),
    "LINK": Asset(14.2, 0.90, 0.82, 30_000),
    "LTC": Asset(84.0, 0.75, 0.78, 25_000),
    "DOT": Asset(4.1, 0.85, 0.82, 20_000),
    "USDC": Asset(1.0, 0.004, 0.0, 400_000),
}


@dataclass(frozen=True)
class Regime:
    """A state of the market: its drift in volatilities a minute, and its level of volatility."""

    name: str
    drift: float
    log_volatility: float


REGIMES: tuple[Regime, ...] = (
    Regime("rising", 0.03, 0.0),
    Regime("quiet", 0.0, -0.45),
    Regime("falling", -0.03, 0.15),
    Regime("volatile", 0.0, 0.6),
)


def asset_of(base: str) -> Asset:
    """What is known of ``base``, or a made-up asset that is always the same for that name."""
    if base in KNOWN:
        return KNOWN[base]
    rng = np.random.default_rng(zlib.crc32(base.encode()))
    return Asset(
        price=float(10 ** rng.uniform(-1, 2)),
        volatility_annualised=float(rng.uniform(0.7, 1.3)),
        loading=float(rng.uniform(0.75, 0.85)),
        volume_quote=float(10 ** rng.uniform(3.7, 4.7)),
    )


def daily_rhythm(minute_of_day: Array) -> Array:
    """Volume relative to its average over the day: busiest near 15:00 UTC, quiet at 05 and 21."""
    scaled: Array = _activity(minute_of_day / 60) / _activity(np.arange(0, 24, 1 / 60)).mean()
    return scaled


def _activity(hour: Array) -> Array:
    """The hours of BTC, ETH and SOL in May 2025, smoothed into three waves."""
    asia = 0.60 * _bump(hour, 1.5, 2.0)
    europe = 0.45 * _bump(hour, 8.0, 1.2)
    europe_and_america = 1.05 * _bump(hour, 15.2, 2.4)
    total: Array = 0.58 + asia + europe + europe_and_america
    return total


def _bump(hour: Array, centre: float, width: float) -> Array:
    distance = np.abs(hour - centre)
    distance = np.minimum(distance, 24 - distance)
    bell: Array = np.exp(-0.5 * (distance / width) ** 2)
    return bell


def regimes(rng: np.random.Generator, steps: int, step_minutes: int) -> NDArray[np.int64]:
    """An index into ``REGIMES`` for every step; durations are geometric, none follows itself."""
    mean_steps = MEAN_REGIME_HOURS * 60 / step_minutes
    state = int(rng.integers(len(REGIMES)))
    parts: list[NDArray[np.int64]] = []
    filled = 0
    while filled < steps:
        length = int(rng.geometric(1 / mean_steps))
        parts.append(np.full(length, state, dtype=np.int64))
        filled += length
        state = (state + int(rng.integers(1, len(REGIMES)))) % len(REGIMES)
    return np.concatenate(parts)[:steps]


def log_volatilities(
    rng: np.random.Generator, steps: int, symbols: int, step_minutes: int
) -> Array:
    """``steps x symbols``: the slow part that all share and the quick part of each."""
    slow = _autoregression(rng, steps, half_life=12 * 60 / step_minutes, deviation=SLOW_DEVIATION)
    quick = [
        _autoregression(rng, steps, half_life=45 / step_minutes, deviation=QUICK_DEVIATION)
        for _ in range(symbols)
    ]
    return slow[:, None] + np.column_stack(quick)


def _autoregression(
    rng: np.random.Generator, steps: int, half_life: float, deviation: float
) -> Array:
    keep = 0.5 ** (1 / half_life)
    noise = rng.standard_normal(steps + 1) * deviation
    shocks = (noise[1:] * (1 - keep**2) ** 0.5).tolist()
    value = float(noise[0])  # drawn from the stationary distribution
    path = []
    for shock in shocks:  # a plain loop over floats: faster than numpy for a recursion
        value = keep * value + shock
        path.append(value)
    return np.array(path)


def returns(
    rng: np.random.Generator,
    assets: list[Asset],
    minute_of_day: Array,
    step_minutes: int,
) -> tuple[Array, Array]:
    """Logarithmic returns and the volatility of each step in force, both ``steps x symbols``."""
    steps = len(minute_of_day)
    state = regimes(rng, steps, step_minutes)
    level = np.array([regime.log_volatility for regime in REGIMES])[state]
    drift = np.array([regime.drift for regime in REGIMES])[state] * step_minutes**0.5
    base = np.array([asset.volatility_annualised for asset in assets])
    log_volatility = log_volatilities(rng, steps, len(assets), step_minutes) + level[:, None]
    volatility = (
        base
        * (step_minutes / MINUTES_PER_YEAR) ** 0.5
        * np.exp(log_volatility - _level())
        * np.sqrt(daily_rhythm(minute_of_day))[:, None]
    )
    loading = np.array([asset.loading for asset in assets])
    unit = ((SHOCK_DEGREES - 2) / SHOCK_DEGREES) ** 0.5  # Student's t with variance 1
    market = rng.standard_t(SHOCK_DEGREES, steps)[:, None] * unit
    own = rng.standard_t(SHOCK_DEGREES, (steps, len(assets))) * unit
    shocks = loading * market + np.sqrt(1 - loading**2) * own
    return volatility * (shocks + loading * drift[:, None]), volatility


def _level() -> float:
    """What the logarithm of volatility exceeds on average, in the root mean square.

    ``E[exp(2 h)] = exp(2 Var h)`` for a normal ``h``; the regimes are about equally frequent.
    """
    regime = 0.5 * np.log(np.mean([np.exp(2 * regime.log_volatility) for regime in REGIMES]))
    return float(SLOW_DEVIATION**2 + QUICK_DEVIATION**2 + regime)


def bridge_extremes(
    rng: np.random.Generator, change: Array, volatility: Array
) -> tuple[Array, Array]:
    """How far a step's price runs above and below its start, as logarithms (>= 0 and <= 0).

    The maximum ``M`` of a Brownian bridge from 0 to ``x`` with variance ``v`` has
    ``P(M > m) = exp(-2 m (m - x) / v)`` (Karatzas and Shreve, "Brownian Motion and Stochastic
    Calculus", 4.3.40), which is inverted here; the minimum is its mirror image.
    """
    # -log1p(-u) is the logarithm of a uniform that is never 0
    up = 2 * volatility**2 * -np.log1p(-rng.random(change.shape))
    down = 2 * volatility**2 * -np.log1p(-rng.random(change.shape))
    return (
        (change + np.sqrt(change**2 + up)) / 2,
        (change - np.sqrt(change**2 + down)) / 2,
    )


def volumes(
    rng: np.random.Generator,
    assets: list[Asset],
    change: Array,
    usual: Array,
    minute_of_day: Array,
    step_minutes: int,
) -> Array:
    """Traded per step in the quote currency: the day's rhythm, busier where prices move."""
    average = np.array([asset.volume_quote for asset in assets]) * step_minutes
    activity = 0.5 + 0.5 * np.abs(change) / usual
    noise = np.exp(0.5 * rng.standard_normal(change.shape) - 0.125)
    traded: Array = average * daily_rhythm(minute_of_day)[:, None] * activity * noise
    return traded
