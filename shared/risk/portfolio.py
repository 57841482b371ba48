"""What the portfolio may lose: value at risk by historical simulation, correlation, volatility.

Holdings are valued now and carried through the hourly returns of the past weeks. An hour's loss
becomes that of a horizon by the square root of time (J.P. Morgan/Reuters, RiskMetrics Technical
Document, 1996), which understates trends; the parametric figure beside it assumes a normal
distribution, and the larger of the two is what a limit is held against.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.errors import DataUnavailable
from shared.market.types import Candles

Array = NDArray[np.float64]

HORIZON_HOURS = 24
MINIMUM_RETURNS = 120  # five days of hours: six observations beyond the 95 % quantile
HOURS_PER_YEAR = 24 * 365
_TAIL = 0.05
_NORMAL_QUANTILE_95 = 1.6448536269514722


@dataclass(frozen=True)
class TailRisk:
    """Losses as positive amounts of quote currency over ``HORIZON_HOURS``; 0 is the least."""

    var95_quote: float
    cvar95_quote: float
    parametric_var95_quote: float

    @property
    def worst_var_quote(self) -> float:
        return max(self.var95_quote, self.parametric_var95_quote)


def aligned_returns(candles: Mapping[str, Candles]) -> dict[str, Array]:
    """Simple hourly returns by symbol over the hours that every symbol has.

    Raises:
        DataUnavailable: fewer than ``MINIMUM_RETURNS`` hours are common to all.
    """
    if not candles:
        return {}
    times = [np.asarray(series.open_ms) for series in candles.values()]
    common = times[0]
    for other in times[1:]:
        common = np.intersect1d(common, other, assume_unique=True)
    # A return needs two hours in a row: across a gap it would be that of a longer time.
    follows = np.diff(common) == 3_600_000
    found = int(follows.sum())
    if found < MINIMUM_RETURNS:
        names = ", ".join(candles)
        raise DataUnavailable(
            f"hourly returns of {names}: expected at least {MINIMUM_RETURNS}, found {found}"
        )
    returns = {}
    for symbol, series in candles.items():
        close = series.close[np.isin(series.open_ms, common)]
        returns[symbol] = (close[1:] / close[:-1] - 1)[follows]
    return returns


def tail_risk(values_quote: Mapping[str, float], returns: Mapping[str, Array]) -> TailRisk:
    """Value at risk of holdings of ``values_quote`` by symbol. Nothing held risks nothing.

    Raises:
        DataUnavailable: a holding has no returns.
    """
    held = {symbol: value for symbol, value in values_quote.items() if value != 0}
    missing = [symbol for symbol in held if symbol not in returns]
    if missing:
        raise DataUnavailable(f"returns: expected a series of {', '.join(missing)}, found none")
    if not held:
        return TailRisk(0.0, 0.0, 0.0)
    profit = sum((value * returns[symbol] for symbol, value in held.items()), np.zeros(1))
    scale = math.sqrt(HORIZON_HOURS)
    quantile = float(np.quantile(profit, _TAIL))
    return TailRisk(
        max(0.0, -quantile * scale),
        max(0.0, -float(profit[profit <= quantile].mean()) * scale),
        _NORMAL_QUANTILE_95 * float(profit.std(ddof=1)) * scale,
    )


def correlations(symbol: str, returns: Mapping[str, Array]) -> dict[str, float | None]:
    """Pearson's correlation of ``symbol`` with each other; ``None`` where one never moves."""
    own = returns[symbol]
    found: dict[str, float | None] = {}
    for other, series in returns.items():
        if other == symbol:
            continue
        if own.std() == 0 or series.std() == 0:
            found[other] = None
        else:
            found[other] = float(np.corrcoef(own, series)[0, 1])
    return found


def volatility_annualised_percent(returns: Array) -> float:
    """Sample deviation of hourly returns on a year of 8,760 hours, in percent."""
    return float(100 * returns.std(ddof=1) * math.sqrt(HOURS_PER_YEAR))


def portfolio_returns(
    values_quote: Mapping[str, float], returns: Mapping[str, Array], worth_quote: float
) -> Array:
    """Hourly returns of the whole pod, had it held ``values_quote`` all along, cash included."""
    parts = [value * returns[symbol] for symbol, value in values_quote.items() if value != 0]
    if not parts:
        return np.zeros(0)
    profit: Array = np.sum(parts, axis=0) / worth_quote
    return profit
