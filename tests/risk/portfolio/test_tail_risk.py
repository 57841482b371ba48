"""Tail risk against the normal distribution's own numbers, other people's definitions and worlds
whose volatility is known.

Quantiles of the standard normal: 1.645 for the value at risk and 2.063 for the mean beyond it, at
95 % (Jorion, "Value at Risk", table 5.1). Definitions of the quantile and of the mean at or below
it: quantopian/empyrical, empyrical/tests/test_stats.py (Apache-2.0), test_value_at_risk and
test_conditional_value_at_risk.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import DataUnavailable
from shared.risk import portfolio
from shared.risk.portfolio import tail
from tests.risk.portfolio.portfolio_bench import normal

ROOT_OF_24 = math.sqrt(24)


def test_normal_returns_have_the_textbook_tail_by_every_method() -> None:
    risk = portfolio.tail_risk({"A": 1_000}, {"A": normal(1, 200_000)})
    for name, loss in risk.by_method.items():
        room = 0.06 if name == "filtered" else 0.01  # the volatility of now is an estimate
        assert loss.var95_quote == pytest.approx(1.645 * 10 * ROOT_OF_24, rel=room), name
        assert loss.cvar95_quote == pytest.approx(2.063 * 10 * ROOT_OF_24, rel=room), name


def test_small_samples_follow_the_linear_quantile() -> None:
    """Of 21 values the 5 % quantile is the second smallest; the tail is the two at or below it."""
    values = np.arange(-10, 11) / 100
    loss = tail.historical(100 * np.random.default_rng(2).permutation(values))
    assert loss.var95_quote == pytest.approx(9 * ROOT_OF_24)
    assert loss.cvar95_quote == pytest.approx(9.5 * ROOT_OF_24)


def test_the_limit_is_held_against_the_largest() -> None:
    one, other = portfolio.TailLoss(5, 6), portfolio.TailLoss(4, 9)
    risk = portfolio.TailRisk(historical=one, filtered=other, parametric=portfolio.TailLoss(1, 1))
    assert (risk.var95_quote, risk.var95_method) == (5, "historical")
    assert (risk.cvar95_quote, risk.cvar95_method) == (9, "filtered")


def test_the_weighted_volatility_is_that_of_riskmetrics() -> None:
    """Var' = 0.9 var + 0.1 r^2, begun at the mean square, known before the return it is for."""
    profits = np.array([1.0, -2.0, 3.0])
    first = 14 / 3
    second = 0.9 * first + 0.1 * 1
    third = 0.9 * second + 0.1 * 4
    now = 0.9 * third + 0.1 * 9
    expected = np.sqrt([first, second, third, now])
    assert tail.ewma_volatility(profits, 0.9) == pytest.approx(expected)
    assert math.isclose(tail.DECAY**24, 0.94)  # RiskMetrics, of daily data


def test_filtering_divides_by_what_was_known_before_and_multiplies_by_what_is_known_now() -> None:
    """Of 21 values the 5 % quantile is the second smallest, as above."""
    profits = [3.0 if hour % 5 == 0 else -1.0 - 0.1 * hour for hour in range(21)]
    variance = sum(profit**2 for profit in profits) / 21
    standardised = []
    for profit in profits:
        standardised.append(profit / math.sqrt(variance))
        variance = 0.9 * variance + 0.1 * profit**2
    expected = -sorted(standardised)[1] * math.sqrt(variance) * ROOT_OF_24
    assert tail.filtered(np.array(profits), 0.9).var95_quote == pytest.approx(expected)


def test_a_storm_raises_the_filtered_tail_before_the_history_sees_it() -> None:
    """A week at three times the volatility, after five calm ones."""
    profits = np.concatenate((normal(3, 832), 3 * normal(4, 168)))
    calm = tail.historical(normal(3, 832)).var95_quote
    assert tail.historical(profits).var95_quote < 1.4 * calm
    assert tail.filtered(profits).var95_quote > 1.8 * calm
    # A quick decay comes close to what is known of the storm, whose VaR is three times as large.
    assert tail.filtered(profits, decay=0.97).var95_quote == pytest.approx(3 * calm, rel=0.15)


def test_a_calm_after_a_storm_lowers_the_filtered_tail_and_not_the_limit() -> None:
    returns = {"A": np.concatenate((3 * normal(4, 500), normal(3, 500)))}
    risk = portfolio.tail_risk({"A": 100}, returns)
    assert risk.filtered.var95_quote < 0.8 * risk.historical.var95_quote
    assert risk.var95_quote == max(risk.historical.var95_quote, risk.parametric.var95_quote)


def test_an_hour_after_a_standstill_is_no_loss_without_measure() -> None:
    profits = np.concatenate((normal(3, 100), np.zeros(800), normal(4, 100)))
    loss = tail.filtered(profits, decay=0.9)
    assert loss.cvar95_quote < 10 * tail.historical(normal(4, 100)).cvar95_quote


def test_a_hedge_takes_the_risk_away_and_nothing_held_has_none() -> None:
    series = normal(3)
    hedged = portfolio.tail_risk({"A": 100, "B": 100}, {"A": series, "B": -series})
    alone = portfolio.tail_risk({"A": 100}, {"A": series})
    assert hedged.historical.var95_quote == pytest.approx(0, abs=1e-12)
    assert hedged.filtered.var95_quote == pytest.approx(0, abs=1e-12)
    # Shrinking takes away a little of the hedge, to the safe side.
    assert 0 < hedged.parametric.var95_quote < 0.15 * alone.parametric.var95_quote
    nothing = portfolio.tail_risk({"A": 0.0}, {})
    assert (nothing.var95_quote, nothing.cvar95_quote) == (0, 0)


def test_perfectly_correlated_assets_are_one_asset() -> None:
    series = normal(5)
    together = portfolio.tail_risk({"A": 60, "B": 20}, {"A": series, "B": 2 * series})
    alone = portfolio.tail_risk({"A": 100}, {"A": series})
    assert together.historical.var95_quote == pytest.approx(alone.historical.var95_quote)
    assert together.filtered.cvar95_quote == pytest.approx(alone.filtered.cvar95_quote)
    assert together.parametric.var95_quote == pytest.approx(alone.parametric.var95_quote, rel=0.02)


def test_more_assets_than_observations_still_have_a_tail() -> None:
    returns = {f"S{i}": normal(i, 130) for i in range(200)}
    risk = portfolio.tail_risk(dict.fromkeys(returns, 1.0), returns)
    known = 1.645 * 0.01 * math.sqrt(200) * ROOT_OF_24
    assert risk.parametric.var95_quote == pytest.approx(known, rel=0.15)


def test_a_holding_without_returns_is_named() -> None:
    with pytest.raises(DataUnavailable, match="a series of B, found none"):
        portfolio.tail_risk({"A": 1, "B": 2}, {"A": normal(1)})


def test_what_a_price_that_never_moved_may_lose_is_not_known() -> None:
    returns = {"A": normal(1, 200), "B": np.zeros(200)}
    with pytest.raises(DataUnavailable, match="of B: expected a price that moves, all 200 were 0"):
        portfolio.tail_risk({"A": 1, "B": 2}, returns)
    assert portfolio.tail_risk({"A": 1, "B": 0}, returns).var95_quote > 0


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 9_999), scale=st.floats(0.1, 100))
def test_tail_risk_is_ordered_and_grows_with_size(seed: int, scale: float) -> None:
    generator = np.random.default_rng(seed)
    returns = {name: generator.standard_t(3, 300) / 100 for name in "AB"}
    small = portfolio.tail_risk({"A": 100, "B": 30}, returns)
    large = portfolio.tail_risk({"A": 100 * scale, "B": 30 * scale}, returns)
    for name, loss in small.by_method.items():
        assert loss.cvar95_quote >= loss.var95_quote >= 0
        assert large.by_method[name].var95_quote == pytest.approx(loss.var95_quote * scale)
        assert large.by_method[name].cvar95_quote == pytest.approx(loss.cvar95_quote * scale)
    assert small.var95_quote == max(loss.var95_quote for loss in small.by_method.values())
    assert small.cvar95_quote == max(loss.cvar95_quote for loss in small.by_method.values())


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 9_999))
def test_returns_that_only_grow_lose_nothing_by_simulation(seed: int) -> None:
    gains = np.abs(np.random.default_rng(seed).normal(0, 0.01, 200)) + 1e-6
    risk = portfolio.tail_risk({"A": 100}, {"A": gains})
    assert risk.historical == risk.filtered == portfolio.TailLoss(0.0, 0.0)
    assert risk.var95_quote == risk.parametric.var95_quote > 0
