"""Weights against closed forms where the constraints do not bind, and against their promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.errors import DataUnavailable
from shared.risk.portfolio import markowitz


def closed_form_minimum_variance(covariance: Any) -> Any:
    """``C^-1 1 / (1' C^-1 1)``, Merton (1972)."""
    raw = np.linalg.solve(covariance, np.ones(len(covariance)))
    return raw / raw.sum()


def feasible(point: Any, cap: float) -> Any:
    """The nearest weights in ``0..cap`` that sum to one, by bisection of the shift."""
    low, high = float(point.min()) - cap, float(point.max())
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if np.clip(point - middle, 0, cap).sum() > 1 else (low, middle)
    return np.clip(point - (low + high) / 2, 0, cap)


def test_uncorrelated_assets_share_by_inverse_variance() -> None:
    covariance = np.diag([0.04, 0.01, 0.02])
    inverse = 1 / np.diag(covariance)
    assert markowitz.weights(covariance) == pytest.approx(inverse / inverse.sum(), abs=1e-8)


def test_minimum_variance_where_nothing_binds() -> None:
    covariance = np.array([[0.040, 0.006, 0.002], [0.006, 0.030, 0.004], [0.002, 0.004, 0.020]])
    expected = closed_form_minimum_variance(covariance)
    assert (expected > 0).all()
    assert markowitz.weights(covariance) == pytest.approx(expected, abs=1e-8)


def test_mean_variance_where_nothing_binds() -> None:
    """``w = C^-1 (mu + v 1) / a`` with ``v`` such that the weights sum to one."""
    covariance = np.array([[0.04, 0.006], [0.006, 0.03]])
    expected_returns, aversion = np.array([0.010, 0.012]), 2.0
    by_mean = np.linalg.solve(covariance, expected_returns) / aversion
    by_one = np.linalg.solve(covariance, np.ones(2)) / aversion
    expected = by_mean + by_one * (1 - by_mean.sum()) / by_one.sum()
    assert ((expected > 0) & (expected < 1)).all()
    found = markowitz.weights(covariance, expected_returns, risk_aversion=aversion)
    assert found == pytest.approx(expected, abs=1e-8)


def test_caps_bind() -> None:
    found = markowitz.weights(np.diag([0.04, 0.0001, 0.02]), cap=0.5)
    assert found[1] == pytest.approx(0.5)
    assert found == pytest.approx([0.5 * 0.02 / 0.06, 0.5, 0.5 * 0.04 / 0.06], abs=1e-8)


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
@example(seed=1313, count=2, room=1.921875)  # where a gradient method once stood still
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
        other = feasible(found + generator.normal(size=count) * 0.05, cap)
        assert other @ covariance @ other >= best - 1e-9


def test_minimum_variance_by_symbol_from_returns() -> None:
    generator = np.random.default_rng(11)
    returns = {"B": generator.normal(0, 0.02, 5_000), "A": generator.normal(0, 0.01, 5_000)}
    found = markowitz.minimum_variance(returns, cap=1.0)
    assert found == pytest.approx({"A": 0.8, "B": 0.2}, abs=0.02)  # by inverse variance: 4 to 1
    assert markowitz.minimum_variance(returns, cap=0.6) == pytest.approx({"A": 0.6, "B": 0.4})
    more = returns | {f"C{n}": generator.normal(0, 0.05, 5_000) for n in range(3)}
    assert max(markowitz.minimum_variance(more).values()) == pytest.approx(0.4)


@pytest.mark.parametrize("cap", [0.1, 0.4, 1.0])
def test_one_symbol_takes_all_and_none_has_no_weights(cap: float) -> None:
    returns = {"A": np.random.default_rng(1).normal(size=200)}
    assert markowitz.minimum_variance(returns, cap=cap) == {"A": 1.0}
    assert markowitz.minimum_variance({}, cap=cap) == {}


def test_perfectly_correlated_symbols_have_weights_all_the_same() -> None:
    series = np.random.default_rng(2).normal(0, 0.01, 300)
    found = markowitz.minimum_variance({"A": series, "B": series, "C": 2 * series}, cap=1.0)
    assert sum(found.values()) == pytest.approx(1)
    assert found["A"] == pytest.approx(found["B"]) == pytest.approx(0.5, abs=0.01)


def test_returns_that_are_no_numbers_have_no_weights() -> None:
    with pytest.raises(DataUnavailable, match="finite"):
        markowitz.minimum_variance({"A": np.array([0.1, np.nan]), "B": np.array([0.1, 0.2])})


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000), assets=st.integers(1, 25), hours=st.integers(2, 60),
    cap=st.floats(0.01, 1),
)  # fmt: skip
def test_any_returns_have_weights_within_their_bounds(
    seed: int, assets: int, hours: int, cap: float
) -> None:
    """More symbols than hours, too: the sample's covariance is singular then."""
    generator = np.random.default_rng(seed)
    returns = {f"S{n}": generator.standard_t(3, hours) / 100 for n in range(assets)}
    found = markowitz.minimum_variance(returns, cap=cap)
    assert list(found) == sorted(returns)
    assert sum(found.values()) == pytest.approx(1)
    assert all(-1e-9 <= weight <= max(cap, 1 / assets) + 1e-9 for weight in found.values())


def test_without_variance_the_best_returns_are_filled_up_to_the_cap() -> None:
    found = markowitz.weights(np.zeros((4, 4)), np.array([0.01, 0.04, 0.02, 0.03]), cap=0.4)
    assert found == pytest.approx([0, 0.4, 0.2, 0.4], abs=1e-8)
    assert markowitz.weights(np.zeros((4, 4))) == pytest.approx([0.25] * 4)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 100_000), count=st.integers(1, 30), room=st.floats(1, 4),
    rank=st.integers(1, 40), aversion=st.floats(0.1, 20), scale=st.floats(1e-8, 1e4),
)  # fmt: skip
def test_the_optimum_keeps_the_conditions_of_karush_kuhn_and_tucker(
    seed: int, count: int, room: float, rank: int, aversion: float, scale: float
) -> None:
    """One price for all: weights between their bounds pay it, those at zero would pay more, those
    at the cap less. Of singular covariances, too."""
    generator = np.random.default_rng(seed)
    factors = generator.normal(size=(count, rank))
    covariance = scale * factors @ factors.T
    expected = scale * generator.normal(size=count)
    cap = min(1.0, room / count)
    found = markowitz.weights(covariance, expected, cap=cap, risk_aversion=aversion)
    slope = (aversion * covariance @ found - expected) / scale
    tolerance = 1e-6 * (1 + float(np.abs(slope).max()))
    assert found.sum() == pytest.approx(1)
    below, above = found < cap - 1e-9, found > 1e-9
    if below.any() and above.any():
        assert slope[above].max() <= slope[below].min() + tolerance
