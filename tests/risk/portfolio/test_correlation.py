"""Correlations of a candidate with each holding and with all of them together."""

from __future__ import annotations

import math

import numpy as np
import pytest

from shared.risk import portfolio
from tests.risk.portfolio.portfolio_bench import normal


def test_equal_to_numpys() -> None:
    returns = {f"S{n}": np.random.default_rng(n).standard_t(3, 300) / 100 for n in range(6)}
    expected = np.corrcoef(np.array(list(returns.values())))
    found = portfolio.correlations("S2", returns)
    assert list(found) == ["S0", "S1", "S3", "S4", "S5"]
    for other, value in found.items():
        assert value == pytest.approx(expected[2, int(other[1])], abs=1e-12)
    assert portfolio.correlations("S2", {"S2": returns["S2"]}) == {}


def test_with_each_holding() -> None:
    series, noise = normal(4, 5_000), normal(5, 5_000)
    # A sum of two independent series of one variance correlates with either by 1 / sqrt(2).
    returns = {"A": series, "B": -2 * series, "C": series + noise, "D": np.zeros(5_000)}
    found = portfolio.correlations("A", returns)
    assert found["B"] == pytest.approx(-1)
    assert found["C"] == pytest.approx(1 / math.sqrt(2), abs=0.02)
    assert found["D"] is None
    assert "A" not in found


def test_a_series_that_never_moves_correlates_with_nothing() -> None:
    returns = {"A": np.full(200, 0.01), "B": normal(1, 200)}
    assert portfolio.correlations("A", returns) == {"B": None}
    assert portfolio.correlation_with_portfolio("A", {"B": 5.0}, returns) is None


def test_with_the_portfolio_as_a_whole() -> None:
    one, other = normal(1, 5_000), normal(2, 5_000)
    returns = {"A": one, "B": one, "C": other}
    # 3 B + 4 C has a deviation of 5, and 3 of it is A's.
    found = portfolio.correlation_with_portfolio("A", {"A": 50.0, "B": 3.0, "C": 4.0}, returns)
    assert found == pytest.approx(3 / 5, abs=0.02)
    assert portfolio.correlation_with_portfolio("A", {"A": 50.0, "C": 0.0}, returns) is None


def test_never_outside_of_its_range() -> None:
    series = normal(7, 200)
    found = portfolio.correlations("A", {"A": series, "B": series * 3, "C": series / -7})
    assert found["B"] is not None
    assert 1 - 1e-12 < found["B"] <= 1
    assert found["C"] is not None
    assert -1 <= found["C"] < -1 + 1e-12
