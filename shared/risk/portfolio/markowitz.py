"""Markowitz weights, long only and capped, by a primal active-set method.

Markowitz, "Portfolio Selection" (1952); the method as in Nocedal and Wright, "Numerical
Optimization" (2nd edition, 2006), algorithm 16.3: from a feasible point to the optimum of the
weights that are at no bound, as far as a bound allows; weights that would gain by leaving theirs
are let go. It ends after about as many steps as there are assets, where a gradient method takes
thousands.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from shared.errors import DataUnavailable
from shared.risk.portfolio import ledoit_wolf

Array = NDArray[np.float64]

REFERENCE_CAP = 0.4
"""The most that any symbol may have in the yardstick: the largest default weight of the core."""

_RIDGE = 1e-10
"""Of the mean variance, added to each: the optimum is then a single one, and moves by as little."""
_STEPS_AN_ASSET = 50
_TOLERANCE = 1e-9
"""Of the steepest slope: what a weight must gain by leaving its bound."""


def minimum_variance(
    returns: Mapping[str, Array], *, cap: float = REFERENCE_CAP
) -> dict[str, float]:
    """The weights of least variance by symbol, from the shrunk covariance of returns.

    A yardstick beside real weights: means of returns are too uncertain to be among its inputs
    (Merton, "On estimating the expected return on the market", 1980). A ``cap`` too low for so
    few symbols is raised to equal weights. No symbol has no weights.

    Raises:
        DataUnavailable: fewer than two returns, one that is no number, or no optimum found.
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
        DataUnavailable: the covariance is so badly conditioned that no optimum was found.
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
    scale = float(np.trace(quadratic)) / count
    ridge = _RIDGE * (scale if scale > 0 else 1.0)
    return _optimum(quadratic + ridge * np.eye(count), linear, cap)


def _optimum(quadratic: Array, linear: Array, cap: float) -> Array:
    count = len(linear)
    current = np.full(count, 1 / count)
    at_zero, at_cap = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
    if current[0] >= cap:  # equal weights are the only ones
        return current
    for _ in range(_STEPS_AN_ASSET * count):
        slope = quadratic @ current - linear
        free = np.flatnonzero(~(at_zero | at_cap))
        step, price = _towards(quadratic, slope, free, at_cap)
        share, first = _until_a_bound(current, step, cap)
        current = current + share * step
        if share < 1:
            at_zero[first], at_cap[first] = step[first] < 0, step[first] > 0
            current[first] = cap if step[first] > 0 else 0.0
            continue
        slope = quadratic @ current - linear
        gain = np.where(at_zero, -slope - price, np.where(at_cap, slope + price, 0.0))
        leaving = int(gain.argmax())
        if gain[leaving] <= _TOLERANCE * float(np.abs(slope).max()):
            return current
        at_zero[leaving] = at_cap[leaving] = False
    raise DataUnavailable(
        f"Markowitz weights of {count} assets: expected an optimum within "
        f"{_STEPS_AN_ASSET * count} steps, found none"
    )


def _towards(
    quadratic: Array, slope: Array, free: NDArray[np.intp], at_cap: NDArray[np.bool_]
) -> tuple[Array, float]:
    """The step of the free weights to their optimum, its sum zero, and the price of that sum."""
    step = np.zeros(len(slope))
    if not len(free):
        return step, -float(slope[at_cap].max())
    count = len(free)
    system = np.ones((count + 1, count + 1))
    # The border in the units of the rest, so that small variances are no small pivots.
    unit = float(np.abs(quadratic).max())
    system[:count, :count] = quadratic[np.ix_(free, free)] / unit
    system[count, count] = 0.0
    solved = np.linalg.solve(system, np.append(-slope[free] / unit, 0.0))
    step[free] = solved[:count]
    return step, float(solved[count]) * unit


def _until_a_bound(current: Array, step: Array, cap: float) -> tuple[float, int]:
    """How much of a step is possible, at most 1, and which weight meets its bound there."""
    room = np.full(len(step), np.inf)
    down, up = step < 0, step > 0
    room[down] = current[down] / -step[down]
    room[up] = (cap - current[up]) / step[up]
    first = int(room.argmin())
    return min(1.0, max(0.0, float(room[first]))), first
