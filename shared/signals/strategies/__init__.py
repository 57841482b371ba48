"""The five strategies, one a file."""

from __future__ import annotations

from shared.signals.strategies.arbitrage import Arbitrage
from shared.signals.strategies.base import Strategy
from shared.signals.strategies.market_making import MarketMaking
from shared.signals.strategies.mean_reversion import MeanReversion
from shared.signals.strategies.momentum import Momentum
from shared.signals.strategies.trend_following import TrendFollowing

ALL: tuple[Strategy, ...] = (
    Momentum(),
    MeanReversion(),
    Arbitrage(),
    MarketMaking(),
    TrendFollowing(),
)
"""In the order of their export; their names are the fields of ``StrategyWeights``."""
