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
    others = [other for other in returns if other != symbol]
    if not others:
        return {}
    found = _pearson(returns[symbol], np.array([returns[other] for other in others]))
    return dict(zip(others, found, strict=True))


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
    if not profits:
        return None
    return _pearson(returns[symbol], np.sum(profits, axis=0)[np.newaxis])[0]


def _pearson(own: Array, others: Array) -> list[float | None]:
    """Of one series with each row of ``others``."""
    moves = (np.ptp(others, axis=1) != 0) & (np.ptp(own) != 0)
    own = own - own.mean()
    others = others - others.mean(axis=1, keepdims=True)
    together = others @ own
    alone = np.linalg.norm(others, axis=1) * np.linalg.norm(own)
    found = np.divide(together, alone, out=np.zeros(len(others)), where=moves)
    return [
        min(1.0, max(-1.0, float(value))) if moving else None
        for value, moving in zip(found, moves, strict=True)
    ]
