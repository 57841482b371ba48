"""Tracking error, and the trades that are worth their cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from shared.risk.core import plan, tracking
from shared.risk.core.plan import Market, Plan, Trade
from shared.risk.core.sleeve import Sleeve

CHEAP = Market(Decimal(11), Decimal(11), Decimal(5), Decimal(5), Decimal("0.01"))
BAND = Decimal(5)


def sleeve(**values: float) -> Sleeve:
    targets = {name: Decimal(50) for name in ("A", "B")}
    held = {name: Decimal(str(value)) for name, value in values.items()}
    return Sleeve(Decimal(10_000), Decimal(20), held, targets)


def returns(correlation: float = 0.0, deviation: float = 0.01) -> dict[str, np.ndarray]:
    """500 hours of a deviation of 1 % and a correlation, exactly, in the sample."""
    noise = np.random.default_rng(7).standard_normal((500, 2))
    noise -= noise.mean(axis=0)
    white = noise @ np.linalg.inv(np.linalg.cholesky(noise.T @ noise / 500)).T
    root = np.linalg.cholesky(np.array([[1, correlation], [correlation, 1]]))
    a, b = (white @ root.T * deviation).T
    return {"A": a, "B": b}


def sell(symbol: str, amount: float) -> Trade:
    return Trade("sell", symbol, Decimal(str(amount)), Decimal(0))


def test_the_error_of_one_symbol_is_its_deviation_over_a_day() -> None:
    """100 too much of 1 % an hour: 100 x 1 % x sqrt(24)."""
    off = sleeve(A=1_100, B=1_000)
    assert tracking.error_quote(off, [], returns()) == pytest.approx(math.sqrt(24), rel=1e-3)
    assert tracking.error_quote(off, [sell("A", 50)], returns()) == pytest.approx(
        math.sqrt(24) / 2, rel=1e-3
    )
    assert tracking.error_quote(off, [sell("A", 100)], returns()) == 0


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_what_moves_together_makes_up_for_each_other(correlation: float) -> None:
    """(1, -1) has the variance 2 - 2 rho; shrinkage takes a little of rho."""
    off = sleeve(A=1_100, B=900)
    exact = 100 * 0.01 * math.sqrt(24 * (2 - 2 * correlation))
    assert tracking.error_quote(off, [], returns(correlation)) == pytest.approx(exact, rel=0.05)


def planned(of: Sleeve, market: Market, *, to_target: bool = False, **of_returns: float) -> Plan:
    def replan(barred: Sequence[str]) -> Plan:
        return plan.make(
            of,
            {"A": market, "B": CHEAP},
            cash_quote=Decimal(10_000),
            band_percent=BAND,
            to_target=to_target,
            barred=barred,
        )

    return tracking.worth_their_cost(replan, of, returns(**of_returns))


def test_a_trade_that_costs_less_than_it_brings_stays() -> None:
    found = planned(sleeve(A=1_100, B=1_000), CHEAP)
    assert [trade.symbol for trade in found.trades] == ["A"]
    assert found.skipped == {}


@pytest.mark.parametrize(
    ("cost_bps", "trades"),
    [(480, 1), (500, 0)],  # half of 100 takes 50 x 1 % x sqrt(24) = 2.45 away: 490 bps of it
)
def test_a_trade_must_bring_more_than_it_costs(cost_bps: int, trades: int) -> None:
    dear = replace(CHEAP, sell_cost_bps=Decimal(cost_bps))
    found = planned(sleeve(A=1_100, B=1_000), dear)
    assert len(found.trades) == trades
    if not trades:
        assert found.skipped["A"].startswith("COST: sell 50.00 costs 2.5000, tracking error falls")


def test_the_others_are_planned_anew_without_it() -> None:
    dear = replace(CHEAP, sell_cost_bps=Decimal(2_000))
    found = planned(sleeve(A=1_100, B=1_100), dear)
    assert [trade.symbol for trade in found.trades] == ["B"]
    assert set(found.skipped) == {"A"}


def test_a_sale_that_takes_the_sleeve_further_away_is_not_made() -> None:
    """B is nearly as much short as A is over, and they move together: to sell A alone is worse."""
    off = sleeve(A=1_100, B=901)
    alone = planned(off, CHEAP, correlation=0.95)
    assert alone.trades == ()
    assert alone.skipped["A"].startswith("COST: sell 50.00")
    both = planned(off, CHEAP, to_target=True, correlation=0.95)
    assert [(trade.side, trade.symbol) for trade in both.trades] == [("sell", "A"), ("buy", "B")]
