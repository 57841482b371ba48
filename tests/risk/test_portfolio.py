"""Tail risk against the normal distribution's own numbers and empyrical's definition.

Quantiles of the standard normal: 1.645 for the value at risk and 2.063 for the mean beyond it, at
95 % (Jorion, "Value at Risk", table 5.1). Definitions of the quantile and of the mean at or below
it: quantopian/empyrical, empyrical/tests/test_stats.py (Apache-2.0), test_value_at_risk and
test_conditional_value_at_risk.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import DataUnavailable
from shared.market.types import Candles
from shared.risk import portfolio

HOUR_MS = 3_600_000
ROOT_OF_24 = math.sqrt(24)


def candles(symbol: str, close: Any, first_hour: int = 0) -> Candles:
    values = np.asarray(close, dtype=np.float64)
    opens = HOUR_MS * np.arange(first_hour, first_hour + len(values), dtype=np.int64)
    return Candles(symbol, "1h", opens, values, values, values, values, np.ones(len(values)))


def test_normal_returns_have_the_textbook_tail() -> None:
    returns = {"A": np.random.default_rng(1).normal(0, 0.01, 200_000)}
    tail = portfolio.tail_risk({"A": 1_000}, returns)
    assert tail.var95_quote == pytest.approx(1.645 * 10 * ROOT_OF_24, rel=0.01)
    assert tail.cvar95_quote == pytest.approx(2.063 * 10 * ROOT_OF_24, rel=0.01)
    assert tail.parametric_var95_quote == pytest.approx(1.645 * 10 * ROOT_OF_24, rel=0.01)


def test_small_samples_follow_the_linear_quantile() -> None:
    """Of 21 values the 5 % quantile is the second smallest; the tail is the two at or below it."""
    values = np.arange(-10, 11) / 100
    tail = portfolio.tail_risk({"A": 100}, {"A": np.random.default_rng(2).permutation(values)})
    assert tail.var95_quote == pytest.approx(9 * ROOT_OF_24)
    assert tail.cvar95_quote == pytest.approx(9.5 * ROOT_OF_24)


def test_a_hedge_takes_the_risk_away_and_nothing_held_has_none() -> None:
    series = np.random.default_rng(3).normal(0, 0.01, 500)
    assert portfolio.tail_risk({"A": 100, "B": 100}, {"A": series, "B": -series}) == (
        portfolio.TailRisk(0.0, 0.0, 0.0)
    )
    assert portfolio.tail_risk({"A": 0.0}, {}) == portfolio.TailRisk(0.0, 0.0, 0.0)


def test_a_holding_without_returns_is_named() -> None:
    with pytest.raises(DataUnavailable, match="of B"):
        portfolio.tail_risk({"A": 1, "B": 2}, {"A": np.zeros(200)})


@settings(max_examples=30)
@given(seed=st.integers(0, 9_999), scale=st.floats(0.1, 100))
def test_tail_risk_is_ordered_and_grows_with_size(seed: int, scale: float) -> None:
    returns = {"A": np.random.default_rng(seed).standard_t(3, 300) / 100}
    tail = portfolio.tail_risk({"A": 100}, returns)
    larger = portfolio.tail_risk({"A": 100 * scale}, returns)
    assert tail.cvar95_quote >= tail.var95_quote >= 0
    assert larger.var95_quote == pytest.approx(tail.var95_quote * scale)


def test_returns_are_taken_over_the_hours_that_all_have() -> None:
    a = candles("A", 100 * 1.01 ** np.arange(200))
    b = candles("B", 50 * 1.02 ** np.arange(200), first_hour=50)
    found = portfolio.aligned_returns({"A": a, "B": b})
    assert len(found["A"]) == len(found["B"]) == 149
    assert found["A"] == pytest.approx(0.01)
    assert found["B"] == pytest.approx(0.02)


def test_a_return_across_a_gap_is_left_out() -> None:
    whole = candles("A", 100 * 1.01 ** np.arange(200))
    keep = np.ones(200, dtype=bool)
    keep[100:103] = False
    fields = ("open_ms", "open", "high", "low", "close", "volume")
    holed = Candles("A", "1h", *[getattr(whole, name)[keep] for name in fields])
    found = portfolio.aligned_returns({"A": holed})["A"]
    assert len(found) == 195
    assert found == pytest.approx(0.01)


@pytest.mark.parametrize(("count", "enough"), [(121, True), (120, False)])
def test_the_least_number_of_returns(count: int, enough: bool) -> None:
    series = {"A": candles("A", np.linspace(100, 110, count))}
    if enough:
        assert len(portfolio.aligned_returns(series)["A"]) == portfolio.MINIMUM_RETURNS
    else:
        with pytest.raises(DataUnavailable, match="at least 120, found 119"):
            portfolio.aligned_returns(series)


def test_correlations() -> None:
    series = np.random.default_rng(4).normal(size=300)
    noise = np.random.default_rng(5).normal(size=300)
    # A sum of two independent series of one variance correlates with either by 1 / sqrt(2).
    found = portfolio.correlations(
        "A", {"A": series, "B": -series, "C": series + noise, "D": np.zeros(300)}
    )
    assert found["B"] == pytest.approx(-1)
    assert found["C"] == pytest.approx(1 / math.sqrt(2), abs=0.06)
    assert found["D"] is None
    assert "A" not in found


def test_volatility_is_annualised_over_8760_hours() -> None:
    alternating = np.tile([0.01, -0.01], 5_000)
    expected = 100 * 0.01 * math.sqrt(8760)
    assert portfolio.volatility_annualised_percent(alternating) == pytest.approx(expected, rel=1e-3)


def test_portfolio_returns_dilute_by_cash() -> None:
    found = portfolio.portfolio_returns({"A": 100.0, "B": 0.0}, {"A": np.array([0.1, -0.2])}, 1000)
    assert found == pytest.approx([0.01, -0.02])
