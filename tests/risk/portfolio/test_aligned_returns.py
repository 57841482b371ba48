"""Hourly returns over common hours; what is too short, full of holes or no number is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from shared.errors import DataUnavailable
from shared.risk import portfolio
from tests.risk.portfolio.portfolio_bench import candles, without


def test_returns_are_taken_over_the_hours_that_all_have() -> None:
    a = candles("A", 100 * 1.01 ** np.arange(200))
    b = candles("B", 50 * 1.02 ** np.arange(200), first_hour=50)
    found = portfolio.aligned_returns({"A": a, "B": b})
    assert len(found["A"]) == len(found["B"]) == 149
    assert found["A"] == pytest.approx(0.01)
    assert found["B"] == pytest.approx(0.02)


def test_a_return_across_a_gap_is_left_out_for_all() -> None:
    holed = without(candles("A", 100 * 1.01 ** np.arange(200)), slice(100, 103))
    whole = candles("B", 100 * 1.03 ** np.arange(200))
    found = portfolio.aligned_returns({"A": holed, "B": whole})
    assert len(found["A"]) == len(found["B"]) == 195
    assert found["A"] == pytest.approx(0.01)
    assert found["B"] == pytest.approx(0.03)


def test_only_the_newest_window_is_looked_at() -> None:
    growth = np.where(np.arange(1_500) < 500, 1.05, 1.001)
    found = portfolio.aligned_returns({"A": candles("A", np.cumprod(growth))})["A"]
    assert len(found) == portfolio.WINDOW_HOURS
    assert found == pytest.approx(0.001)


@pytest.mark.parametrize(("count", "enough"), [(121, True), (120, False)])
def test_the_least_number_of_returns(count: int, enough: bool) -> None:
    series = {"A": candles("A", np.linspace(100, 110, count))}
    if enough:
        assert len(portfolio.aligned_returns(series)["A"]) == portfolio.MINIMUM_RETURNS
    else:
        with pytest.raises(DataUnavailable, match="of A: expected at least 120, found 119"):
            portfolio.aligned_returns(series)


def test_a_holding_whose_history_begins_late_is_too_short_for_all() -> None:
    series = {
        "A": candles("A", np.linspace(100, 110, 400)),
        "B": candles("B", np.linspace(1, 2, 90), first_hour=310),
    }
    with pytest.raises(DataUnavailable, match="of A, B: expected at least 120, found 89"):
        portfolio.aligned_returns(series)


def test_every_other_hour_is_a_gap_and_nothing_is_left() -> None:
    whole = candles("A", np.linspace(100, 110, 1_000))
    with pytest.raises(DataUnavailable, match="found 0"):
        portfolio.aligned_returns({"A": without(whole, slice(0, None, 2))})


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0, -1.0])
def test_a_close_that_is_no_price_is_refused(bad: float) -> None:
    close = np.linspace(100, 110, 300)
    close[150] = bad
    with pytest.raises(DataUnavailable, match="closes of A: expected positive"):
        portfolio.aligned_returns({"A": candles("A", close)})


def test_nothing_held_needs_no_returns() -> None:
    assert portfolio.aligned_returns({}) == {}


def test_volatility_is_annualised_over_8760_hours() -> None:
    alternating = np.tile([0.01, -0.01], 5_000)
    expected = 100 * 0.01 * math.sqrt(8760)
    assert portfolio.volatility_annualised_percent(alternating) == pytest.approx(expected, rel=1e-3)


def test_portfolio_returns_dilute_by_cash() -> None:
    returns: dict[str, Any] = {"A": np.array([0.1, -0.2])}
    found = portfolio.portfolio_returns({"A": 100.0, "B": 0.0}, returns, 1000)
    assert found == pytest.approx([0.01, -0.02])
