"""What a day may lose, and what is said against a trade; each limit at its edge."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.risk import portfolio
from shared.risk.portfolio import LossBudget, TailLoss, TailRisk, loss_budget, refusals


def risk(var: float, cvar: float) -> TailRisk:
    return TailRisk(TailLoss(var, cvar), TailLoss(var / 2, cvar / 2), TailLoss(0, 0))


BUDGET = LossBudget(var95_quote=500.0, cvar95_quote=1_000.0)
SMALL = risk(100, 150)


@pytest.mark.parametrize(
    ("drawdown_percent", "cvar_budget"),
    [
        (0.0, 1_000.0),  # at the mark: all of 10 %
        (5.0, 10_000 - 9_000 / 0.95),  # the mark is 10,526.32, its floor 9,473.68
        (10.0, 0.0),
        (12.0, 0.0),
        (100.0, 0.0),
        (-1.0, 10_000 - 9_000 / 1.01),  # above the mark until the next row is written
    ],
)
def test_the_budget(drawdown_percent: float, cvar_budget: float) -> None:
    budget = loss_budget(10_000, 10, drawdown_percent)
    assert budget.var95_quote == pytest.approx(500)
    assert budget.cvar95_quote == pytest.approx(cvar_budget, abs=1e-9)


@given(
    worth=st.floats(1, 1e7), limit=st.floats(0.1, 99), fallen=st.floats(0, 99), more=st.floats(0, 9)
)
def test_a_deeper_drawdown_never_leaves_more(
    worth: float, limit: float, fallen: float, more: float
) -> None:
    shallow, deep = (loss_budget(worth, limit, min(f, 100)) for f in (fallen, fallen + more))
    assert 0 <= deep.cvar95_quote <= shallow.cvar95_quote <= worth * limit / 100 * (1 + 1e-9)


@pytest.mark.parametrize(
    ("after", "codes"),
    [
        (risk(499.99, 999.99), []),
        (risk(500, 999.99), ["VAR_LIMIT"]),
        (risk(499.99, 1_000), ["CVAR_LIMIT"]),
        (risk(600, 2_000), ["VAR_LIMIT", "CVAR_LIMIT"]),
        (risk(math.nan, 100), ["VAR_LIMIT"]),
        (risk(100, math.nan), ["CVAR_LIMIT"]),
    ],
)
def test_tail_limits_at_their_edge(after: TailRisk, codes: list[str]) -> None:
    assert [denied.code for denied in refusals(SMALL, after, BUDGET, {}, 0.7)] == codes


@pytest.mark.parametrize(
    ("correlation", "code"),
    [
        (0.7, None),
        (math.nextafter(0.7, 1), "CORRELATION_LIMIT"),
        (1.0, "CORRELATION_LIMIT"),
        (0.0, None),
        (-1.0, None),  # a hedge is welcome
        (None, "CORRELATION_UNKNOWN"),
        (math.nan, "CORRELATION_LIMIT"),
    ],
)
def test_correlation_at_its_edge(correlation: Any, code: str | None) -> None:
    found = refusals(SMALL, SMALL, BUDGET, {"ETH/USDT": correlation}, 0.7)
    assert [denied.code for denied in found] == ([] if code is None else [code])


def test_a_refusal_tells_before_after_and_limit() -> None:
    found = refusals(SMALL, risk(600, 2_000), BUDGET, {"A": 0.9, "B": 0.2, "C": 0.8}, 0.7)
    assert [str(denied) for denied in found] == [
        "VAR_LIMIT: before=100.00, after=600.00, limit=500.00, method=historical, horizon_hours=24",
        "CVAR_LIMIT: before=150.00, after=2000.00, limit=1000.00, method=historical, "
        "horizon_hours=24",
        "CORRELATION_LIMIT: with=A, correlation=0.900, limit=0.7",
        "CORRELATION_LIMIT: with=C, correlation=0.800, limit=0.7",
    ]


def test_the_horizon_is_a_day() -> None:
    assert portfolio.HORIZON_HOURS == 24
