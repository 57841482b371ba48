"""How a candidate moves with what is held.

Pearson's correlation, as it was: shrinking it, as the covariance is, would pull it towards zero and
so loosen the limit that it is held against.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from shared.risk.portfolio.returns import Array


def correlations(symbol: str, returns: Mapping[str, Array]) -> dict[str, float | None]:
    """Pearson's correlation of ``symbol`` with each other; ``None`` where one never moves."""
    own = returns[symbol]
    return {other: _pearson(own, series) for other, series in returns.items() if other != symbol}


def correlation_with_portfolio(
    symbol: str, held_quote: Mapping[str, float], returns: Mapping[str, Array]
) -> float | None:
    """Pearson's correlation of ``symbol`` with the profit of all that is held, itself left out.

    ``None`` where nothing else is held, or one of the two never moves.
    """
    profits = [
        value * returns[other]
        for other, value in held_quote.items()
        if value != 0 and other != symbol
    ]
    return _pearson(returns[symbol], np.sum(profits, axis=0)) if profits else None


def _pearson(one: Array, other: Array) -> float | None:
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(np.clip(np.corrcoef(one, other)[0, 1], -1, 1))
