"""The choices behind the value at risk, measured on the years before it is judged.

Which window, which decay, and whether an hour becomes a day by the square root of 24 or by summing
overlapping days. They are compared by the quantile loss, which is least for the true quantile
(Koenker and Bassett, "Regression quantiles", 1978; Gneiting, "Making and evaluating point
forecasts", 2011), relative to that of the plainest choice for each portfolio.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from deploy.research.risk.days import Days
from deploy.research.risk.plan import DAILY_DECAYS, WINDOWS
from shared.risk.portfolio import HORIZON_HOURS, Array, tail

HORIZONS = ("square root", "sums")


@dataclass(frozen=True, order=True)
class Choice:
    """``daily_decay`` is ``None`` without a filter; ``horizon`` is one of ``HORIZONS``."""

    horizon: str
    window_hours: int
    daily_decay: float | None

    def var95(self, profits: Array) -> float:
        """The 24-hour VaR that this choice gives at the end of hourly profits."""
        return _at_horizon(self.horizon, self.scaled(profits))

    def scaled(self, profits: Array) -> Array:
        """The newest profits at the volatility of now, or as they were without a filter."""
        window = profits[-self.window_hours :]
        if self.daily_decay is None:
            return window
        volatility = tail.ewma_volatility(window, self.daily_decay ** (1 / HORIZON_HOURS))
        found: Array = window / volatility[:-1] * volatility[-1]
        return found


@dataclass(frozen=True)
class Measured:
    """How a choice did: means over portfolios, and the rates from the least to the largest."""

    choice: Choice
    relative_loss: float
    mean_rate: float
    least_rate: float
    largest_rate: float


PLAINEST = Choice("square root", max(WINDOWS), None)


def all_choices() -> list[Choice]:
    return [
        Choice(horizon, window, decay)
        for horizon in HORIZONS
        for window in WINDOWS
        for decay in (None, *DAILY_DECAYS)
    ]


def measure(portfolios: Mapping[str, Days], until_ms: int) -> list[Measured]:
    """Every choice on the days of each portfolio that begin before ``until_ms``, best first."""
    losses: dict[Choice, list[float]] = {choice: [] for choice in all_choices()}
    rates: dict[Choice, list[float]] = {choice: [] for choice in all_choices()}
    for days in portfolios.values():
        chosen_on = np.flatnonzero(days.begin_ms < until_ms)
        if not len(chosen_on):
            continue
        profit = days.profit[chosen_on]
        windows = [days.window(int(day), max(WINDOWS)) @ days.values for day in chosen_on]
        for by_root in (choice for choice in losses if choice.horizon == HORIZONS[0]):
            scaled = [by_root.scaled(window) for window in windows]  # the same for both horizons
            for horizon in HORIZONS:
                choice = Choice(horizon, by_root.window_hours, by_root.daily_decay)
                var = np.array([_at_horizon(horizon, profits) for profits in scaled])
                losses[choice].append(quantile_loss(profit, var))
                rates[choice].append(float((profit < -var).mean()))
    plain = np.array(losses[PLAINEST])
    if not len(plain):  # no portfolio has days that early
        return []
    measured = [
        Measured(
            choice,
            relative_loss=float(np.mean(np.array(losses[choice]) / plain)),
            mean_rate=float(np.mean(rates[choice])),
            least_rate=min(rates[choice]),
            largest_rate=max(rates[choice]),
        )
        for choice in losses
    ]
    return sorted(measured, key=lambda one: one.relative_loss)


def _at_horizon(horizon: str, profits: Array) -> float:
    if horizon == HORIZONS[0]:
        return tail.historical(profits).var95_quote
    return max(0.0, -float(np.quantile(summed(profits), tail.TAIL)))


def summed(profits: Array) -> Array:
    """Profits of every run of 24 hours, overlapping."""
    running = np.concatenate(([0.0], np.cumsum(profits)))
    sums: Array = running[HORIZON_HOURS:] - running[:-HORIZON_HOURS]
    return sums


def quantile_loss(profit: Array, var95: Array) -> float:
    """Mean loss of forecasting the 5 % quantile as ``-var95``."""
    beyond = profit + var95
    return float(np.mean(np.where(beyond < 0, (tail.TAIL - 1) * beyond, tail.TAIL * beyond)))
