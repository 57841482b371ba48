"""What a portfolio may lose: value at risk and the mean beyond it, correlations, covariance.

Money is in quote currency. Everything is estimated from the newest ``WINDOW_HOURS`` hourly returns
that all symbols have, and nothing from fewer than ``MINIMUM_RETURNS`` of them.
"""

from __future__ import annotations

from shared.risk.portfolio.correlation import correlation_with_portfolio, correlations
from shared.risk.portfolio.covariance import Shrunk, ledoit_wolf
from shared.risk.portfolio.limits import LossBudget, loss_budget, refusals
from shared.risk.portfolio.returns import (
    HOURS_PER_YEAR,
    MINIMUM_RETURNS,
    WINDOW_HOURS,
    Array,
    aligned_returns,
    portfolio_returns,
    volatility_annualised_percent,
)
from shared.risk.portfolio.tail import (
    DECAY,
    HORIZON_HOURS,
    METHODS,
    TailLoss,
    TailRisk,
    tail_risk,
)

__all__ = [
    "DECAY",
    "HORIZON_HOURS",
    "HOURS_PER_YEAR",
    "METHODS",
    "MINIMUM_RETURNS",
    "WINDOW_HOURS",
    "Array",
    "LossBudget",
    "Shrunk",
    "TailLoss",
    "TailRisk",
    "aligned_returns",
    "correlation_with_portfolio",
    "correlations",
    "ledoit_wolf",
    "loss_budget",
    "portfolio_returns",
    "refusals",
    "tail_risk",
    "volatility_annualised_percent",
]
