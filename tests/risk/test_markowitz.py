"""Weights against closed forms where the constraints do not bind, and against their promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.risk import markowitz


def closed_form_minimum_variance(covariance: Any) -> Any:
    """``C^-1 1 / (1' C^-1 1)``, Merton (1972)."""
    raw = np.linalg.solve(covariance, np.ones(len(covariance)))
    return raw / raw.sum()


def test_uncorrelated_assets_share_by_inverse_variance() -> None:
    covariance = np.diag([0.04, 0.01, 0.02])
    inverse = 1 / np.diag(covariance)
    assert markowitz.weights(covariance) == pytest.approx(inverse / inverse.sum(), abs=1e-6)


def test_minimum_variance_where_nothing_binds() -> None:
    covariance = np.array([[0.040, 0.006, 0.002], [0.006, 0.030, 0.004], [0.002, 0.004, 0.020]])
    expected = closed_form_minimum_variance(covariance)
    assert (expected > 0).all()
    assert markowitz.weights(covariance) == pytest.approx(expected, abs=1e-6)


def test_mean_variance_where_nothing_binds() -> None:
    """``w = C^-1 (mu + v 1) / a`` with ``v`` such that the weights sum to one."""
    covariance = np.array([[0.04, 0.006], [0.006, 0.03]])
    expected_returns, aversion = np.array([0.010, 0.012]), 2.0
    by_mean = np.linalg.solve(covariance, expected_returns) / aversion
    by_one = np.linalg.solve(covariance, np.ones(2)) / aversion
    expected = by_mean + by_one * (1 - by_mean.sum()) / by_one.sum()
    assert ((expected > 0) & (expected < 1)).all()
    found = markowitz.weights(covariance, expected_returns, risk_aversion=aversion)
    assert found == pytest.approx(expected, abs=1e-6)


def test_caps_bind() -> None:
    found = markowitz.weights(np.diag([0.04, 0.0001, 0.02]), cap=0.5)
    assert found[1] == pytest.approx(0.5)
    assert found == pytest.approx([0.5 * 0.02 / 0.06, 0.5, 0.5 * 0.04 / 0.06], abs=1e-6)


@pytest.mark.parametrize(
    ("covariance", "cap", "text"),
    [
        (np.array([[1.0, 2.0], [0.0, 1.0]]), 1.0, "symmetric"),
        (np.ones((2, 3)), 1.0, "symmetric"),
        (np.eye(2), 0.4, "cap"),
    ],
)
def test_impossible_problems_are_refused(covariance: Any, cap: float, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        markowitz.weights(covariance, cap=cap)


@settings(max_examples=25, deadline=None)
@example(seed=1313, count=2, room=1.921875)  # where the momentum stands still before the optimum
@given(seed=st.integers(0, 10_000), count=st.integers(2, 6), room=st.floats(1.05, 3))
def test_weights_are_within_bounds_and_no_feasible_neighbour_is_better(
    seed: int, count: int, room: float
) -> None:
    generator = np.random.default_rng(seed)
    factors = generator.normal(size=(count, count + 2))
    covariance = factors @ factors.T / 100
    cap = min(1.0, room / count)
    found = markowitz.weights(covariance, cap=cap)
    assert found.sum() == pytest.approx(1)
    assert (found >= -1e-9).all()
    assert (found <= cap + 1e-9).all()
    best = found @ covariance @ found
    for _ in range(10):
        other = markowitz.project(found + generator.normal(size=count) * 0.05, cap)
        assert other @ covariance @ other >= best - 1e-7
