"""Markowitz weights, long only and capped, by projected gradient descent.

Markowitz, "Portfolio Selection" (1952). The projection onto the capped simplex finds the shift
that makes the clipped weights sum to one (Wang and Lu, "Projection onto the capped simplex",
2015), here by bisection.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from shared.risk.portfolio import ledoit_wolf

Array = NDArray[np.float64]

_ITERATIONS = 2_000
_TOLERANCE = 1e-10


def minimum_variance(returns: Mapping[str, Array], *, cap: float = 1.0) -> dict[str, float]:
    """The weights of least variance by symbol, from the shrunk covariance of returns.

    A yardstick beside real weights: means of returns are too uncertain to be among its inputs
    (Merton, "On estimating the expected return on the market", 1980). A ``cap`` too low for so
    few symbols is raised to equal weights. No symbol has no weights.

    Raises:
        DataUnavailable: fewer than two returns, or one that is no number.
    """
    if not returns:
        return {}
    symbols = sorted(returns)
    covariance = ledoit_wolf(np.array([returns[symbol] for symbol in symbols]).T).covariance
    found = weights(covariance, cap=max(cap, 1 / len(symbols)))
    return dict(zip(symbols, found.tolist(), strict=True))


def weights(
    covariance: Array, expected: Array | None = None, *, cap: float = 1.0, risk_aversion: float = 1
) -> Array:
    """Weights that minimise ``risk_aversion / 2 w'Cw - expected'w``; they sum to one.

    Without ``expected`` returns this is the portfolio of least variance.

    Raises:
        ValueError: the covariance is no symmetric matrix of numbers, or the cap is too low to
            reach a sum of one.
    """
    covariance = np.asarray(covariance, dtype=np.float64)
    count = len(covariance)
    if covariance.shape != (count, count) or not np.allclose(covariance, covariance.T):
        raise ValueError(f"covariance: expected a symmetric matrix, shape was {covariance.shape}")
    if not np.isfinite(covariance).all():
        raise ValueError("covariance: expected finite numbers")
    if cap * count < 1 - 1e-12:
        raise ValueError(f"cap: expected at least {1 / count:.4f} for {count} assets, was {cap}")
    linear = np.zeros(count) if expected is None else np.asarray(expected, dtype=np.float64)
    quadratic = covariance if expected is None else risk_aversion * covariance
    steepest = float(np.linalg.eigvalsh(quadratic)[-1])
    if steepest <= 0:
        return project(linear if expected is not None else np.full(count, 1 / count), cap)
    return _descend(quadratic, linear, cap, 1 / steepest)


def project(point: Array, cap: float) -> Array:
    """The nearest weights in ``0..cap`` that sum to one."""
    low, high = float(point.min()) - cap, float(point.max())
    for _ in range(100):
        middle = (low + high) / 2
        if np.clip(point - middle, 0, cap).sum() > 1:
            low = middle
        else:
            high = middle
    return np.clip(point - (low + high) / 2, 0, cap)


def _descend(quadratic: Array, linear: Array, cap: float, step: float) -> Array:
    """Nesterov's accelerated gradient, projected; stops when a plain step moves nothing.

    The momentum may turn around and stand still for a moment far from the optimum; it then begins
    anew (O'Donoghue and Candes, "Adaptive restart for accelerated gradient schemes", 2015).
    """
    current = project(np.full(len(linear), 1 / len(linear)), cap)
    ahead, momentum = current, 1.0
    for _ in range(_ITERATIONS):
        following = project(ahead - step * (quadratic @ ahead - linear), cap)
        next_momentum = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        moved = following - current
        ahead = following + (momentum - 1) / next_momentum * moved
        current, momentum = following, next_momentum
        if float(np.abs(moved).max()) < _TOLERANCE:
            plain = project(current - step * (quadratic @ current - linear), cap)
            if float(np.abs(plain - current).max()) < _TOLERANCE:
                break
            ahead, momentum = current, 1.0
    return current
