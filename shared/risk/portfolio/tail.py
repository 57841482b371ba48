"""Value at risk (VaR 95) and the mean loss beyond it (CVaR 95) over 24 hours, by three methods.

What is held is valued now and carried through the hourly profits of the last weeks:

* ``historical``: their own tail (historical simulation).
* ``filtered``: each hour's profit is divided by the volatility that was known before it and
  multiplied by that of now (Hull and White, "Incorporating volatility updating into the historical
  simulation method for value at risk", 1998; Barone-Adesi, Giannopoulos and Vosper, "VaR without
  correlations for portfolios of derivative securities", 1999). The volatility is the exponentially
  weighted one of the J.P. Morgan/Reuters "RiskMetrics Technical Document" (1996), of the whole
  portfolio: assets keep moving together as they did in that hour.
* ``parametric``: normal, from the shrunk covariance of the assets. A check: its mean beyond the VaR
  is too small where tails are fat.

A limit is held against the largest of the three.

An hour becomes a day by the square root of 24, as RiskMetrics does. Overlapping sums of 24 hours
would need no such rule, but see few independent days: on 2018 to 2024 their quantile loss was the
larger one with every window, and with 120 hours 13 % of days broke their VaR instead of 7 %. The
window of 1,000 hours is that of the least loss in those years, and so is RiskMetrics' decay of 0.94
a day. ``trading-loop risk backtest`` measures all of that, and judges the methods on later data
(``reports/risk``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from shared.errors import DataUnavailable
from shared.risk.portfolio.covariance import ledoit_wolf
from shared.risk.portfolio.returns import Array

HORIZON_HOURS = 24
TAIL = 0.05
DECAY = 0.94 ** (1 / 24)
"""Of the squared profits' weights, an hour: a half-life of eleven days."""

METHODS = ("historical", "filtered", "parametric")

_NORMAL_QUANTILE = 1.6448536269514722
_NORMAL_MEAN_BEYOND = 2.0627128075074257  # density at the quantile over the tail
_LEAST_VOLATILITY = 0.1
"""Of the window's own deviation. A market that stood still is not known to be calm, and one hour
after it would otherwise become a loss without measure."""


@dataclass(frozen=True)
class TailLoss:
    """Losses as positive amounts over ``HORIZON_HOURS``; 0 is the least."""

    var95_quote: float
    cvar95_quote: float


_NOTHING = TailLoss(0.0, 0.0)


@dataclass(frozen=True)
class TailRisk:
    """The tail by each method. What limits are held against is the largest."""

    historical: TailLoss
    filtered: TailLoss
    parametric: TailLoss

    @property
    def var95_quote(self) -> float:
        return max(loss.var95_quote for loss in self.by_method.values())

    @property
    def cvar95_quote(self) -> float:
        return max(loss.cvar95_quote for loss in self.by_method.values())

    @property
    def var95_method(self) -> str:
        """Whose VaR is the largest."""
        by_method = self.by_method
        return max(by_method, key=lambda name: by_method[name].var95_quote)

    @property
    def cvar95_method(self) -> str:
        """Whose CVaR is the largest."""
        by_method = self.by_method
        return max(by_method, key=lambda name: by_method[name].cvar95_quote)

    @property
    def by_method(self) -> dict[str, TailLoss]:
        return {name: getattr(self, name) for name in METHODS}


def tail_risk(values_quote: Mapping[str, float], returns: Mapping[str, Array]) -> TailRisk:
    """The tail of holdings of ``values_quote`` by symbol. Nothing held risks nothing.

    Raises:
        DataUnavailable: a holding has no returns, or its price never moved: what it may lose is
            not known.
    """
    held = {symbol: value for symbol, value in values_quote.items() if value != 0}
    _refuse_unknown(held, returns)
    if not held:
        return TailRisk(_NOTHING, _NOTHING, _NOTHING)
    by_asset = np.array([returns[symbol] for symbol in held]).T
    values = np.array(list(held.values()))
    profits = by_asset @ values
    return TailRisk(historical(profits), filtered(profits), parametric(by_asset, values))


def historical(profits: Array) -> TailLoss:
    """The 5 % quantile of hourly profits and the mean at or below it, over the horizon.

    The quantile is interpolated linearly (Hyndman and Fan 1996, type 7).
    """
    quantile = float(np.quantile(profits, TAIL))
    beyond = float(profits[profits <= quantile].mean())
    return TailLoss(max(0.0, -quantile * _SCALE), max(0.0, -beyond * _SCALE))


def filtered(profits: Array, decay: float = DECAY) -> TailLoss:
    """The tail of hourly profits as they would be at the volatility of now, over the horizon."""
    volatility = ewma_volatility(profits, decay)
    if volatility[-1] == 0:  # nothing has moved: a hedge without a remainder
        return _NOTHING
    return historical(profits / volatility[:-1] * volatility[-1])


def parametric(by_asset: Array, values: Array) -> TailLoss:
    """The tail of a normal distribution with the assets' shrunk covariance and a mean of zero."""
    covariance = ledoit_wolf(by_asset).covariance
    deviation = math.sqrt(max(0.0, float(values @ covariance @ values))) * _SCALE
    return TailLoss(_NORMAL_QUANTILE * deviation, _NORMAL_MEAN_BEYOND * deviation)


def ewma_volatility(profits: Array, decay: float = DECAY) -> Array:
    """The volatility known before each profit, and behind the newest: one value more than profits.

    It starts from the mean square of all, and is never less than a tenth of its root.
    """
    squares = profits * profits
    mean_square = float(squares.mean())
    variances = accumulate(
        squares.tolist(), lambda old, new: decay * old + (1 - decay) * new, initial=mean_square
    )
    floor = _LEAST_VOLATILITY * math.sqrt(mean_square)
    return np.maximum(np.sqrt(np.fromiter(variances, np.float64, len(profits) + 1)), floor)


_SCALE = math.sqrt(HORIZON_HOURS)


def _refuse_unknown(held: Mapping[str, float], returns: Mapping[str, Array]) -> None:
    missing = [symbol for symbol in held if symbol not in returns]
    if missing:
        raise DataUnavailable(f"returns: expected a series of {', '.join(missing)}, found none")
    still = [symbol for symbol in held if not returns[symbol].any()]
    if still:
        raise DataUnavailable(
            f"returns of {', '.join(still)}: expected a price that moves, "
            f"all {len(returns[still[0]])} were 0"
        )
