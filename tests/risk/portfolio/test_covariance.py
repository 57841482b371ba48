"""The shrunk covariance, equal to scikit-learn's to the last digits."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import DataUnavailable
from shared.risk import portfolio
from tests.risk.portfolio.portfolio_bench import normal

covariance_module = pytest.importorskip("sklearn.covariance")


def assert_same(observations: Any) -> portfolio.Shrunk:
    ours = portfolio.ledoit_wolf(observations)
    theirs, shrinkage = covariance_module.ledoit_wolf(observations)
    scale = float(np.abs(theirs).max())
    assert ours.shrinkage == pytest.approx(shrinkage, abs=1e-12)
    assert ours.covariance == pytest.approx(theirs, abs=1e-12 * max(scale, 1e-300), rel=1e-12)
    return ours


def singular() -> Any:
    """Three assets of which one is the sum of the others."""
    two = np.array([normal(1), normal(2)])
    return np.vstack((two, two.sum(axis=0))).T


@pytest.mark.parametrize(
    ("name", "observations"),
    [
        ("independent", np.array([normal(seed) for seed in range(5)]).T),
        ("one factor", (normal(1)[:, None] + 0.3 * np.array([normal(s) for s in range(2, 6)]).T)),
        ("singular", singular()),
        ("perfectly correlated", np.outer(normal(1), [1.0, 2.0, -0.5])),
        ("identical", np.outer(normal(1), [1.0, 1.0])),
        ("one asset", normal(1)[:, None]),
        ("more assets than observations", np.random.default_rng(3).normal(size=(20, 50))),
        ("heavy tails", np.random.default_rng(4).standard_t(3, (300, 8))),
        ("one never moves", np.array([normal(1), np.zeros(500)]).T),
        ("two observations", np.array([[0.01, -0.02], [0.03, 0.01]])),
    ],
)
def test_equal_to_scikit_learn(name: str, observations: Any) -> None:
    assert_same(observations)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 99_999),
    count=st.integers(2, 400),
    assets=st.integers(1, 25),
    scale=st.floats(1e-6, 1e3),
)
def test_equal_to_scikit_learn_on_any_returns(
    seed: int, count: int, assets: int, scale: float
) -> None:
    generator = np.random.default_rng(seed)
    mixing = generator.normal(size=(assets, assets))
    shrunk = assert_same(scale * generator.standard_t(4, (count, assets)) @ mixing)
    assert 0 <= shrunk.shrinkage <= 1
    assert np.linalg.eigvalsh(shrunk.covariance)[0] >= -1e-12 * np.abs(shrunk.covariance).max()


@pytest.mark.recorded_data
@pytest.mark.skipif("MARKET_DATA_DIR" not in os.environ, reason="no recorded candles")
def test_equal_to_scikit_learn_on_recorded_returns() -> None:
    from deploy.research.score.dataset import read_hours

    hours = read_hours(os.environ["MARKET_DATA_DIR"], "binance", None, 1_735_689_600_000)
    returns = portfolio.aligned_returns(hours)
    shrunk = assert_same(np.array(list(returns.values())).T)
    assert len(returns) == 9
    assert 0 < shrunk.shrinkage < 0.2


def test_a_singular_covariance_becomes_one_that_can_be_inverted() -> None:
    for observations in (singular(), np.outer(normal(1), [1.0, 2.0, -0.5])):
        sample = np.cov(observations.T)
        shrunk = portfolio.ledoit_wolf(observations).covariance
        assert np.linalg.matrix_rank(sample) < len(sample)
        assert np.linalg.matrix_rank(shrunk) == len(sample)


@pytest.mark.parametrize(
    ("observations", "text"),
    [
        (np.zeros((1, 3)), r"at least 2 observations of at least 1 asset, was of shape \(1, 3\)"),
        (np.zeros((3, 0)), "at least 1 asset"),
        (np.zeros(5), "of shape"),
        (np.array([[0.1, np.nan], [0.2, 0.1]]), "finite"),
        (np.array([[0.1, np.inf], [0.2, 0.1]]), "finite"),
    ],
)
def test_what_has_no_covariance_is_refused(observations: Any, text: str) -> None:
    with pytest.raises(DataUnavailable, match=text):
        portfolio.ledoit_wolf(observations)
