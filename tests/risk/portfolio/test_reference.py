"""Numbers of other people's packages on the same series; their versions stand in reference.json.

empyrical and quantstats: annualised by 8,760 hours, simple returns, a target of zero. They tell
losses as negative numbers. PyPortfolioOpt: minimum volatility and quadratic utility on the 20
stocks of its own tests.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.analysis import metrics
from shared.risk.portfolio import markowitz, tail

REFERENCE: dict[str, Any] = json.loads(
    (Path(__file__).parent / "reference.json").read_text(encoding="utf-8")
)
PERIODS = REFERENCE["periods_per_year"]
MARKOWITZ = REFERENCE["markowitz"]


@pytest.fixture(params=sorted(REFERENCE["ratios"]))
def case(request: pytest.FixtureRequest) -> tuple[Any, dict[str, Any]]:
    found = REFERENCE["ratios"][request.param]
    return np.array(found["returns"]), found


def test_sharpe_and_sortino(case: Any) -> None:
    returns, expected = case
    for package in ("empyrical", "quantstats"):
        sharpe, sortino = expected[package]["sharpe"], expected[package]["sortino"]
        assert metrics.sharpe_ratio(returns, PERIODS) == pytest.approx(sharpe, rel=1e-10)
        assert metrics.sortino_ratio(returns, PERIODS) == pytest.approx(sortino, rel=1e-10)


def test_volatility_and_drawdown(case: Any) -> None:
    returns, expected = case
    curve = np.concatenate(([1.0], np.cumprod(1 + returns)))
    for package, volatility in (("empyrical", "annual_volatility"), ("quantstats", "volatility")):
        assert metrics.annual_volatility(returns, PERIODS) == pytest.approx(
            expected[package][volatility], rel=1e-10
        )
        assert metrics.max_drawdown(curve) == pytest.approx(
            -expected[package]["max_drawdown"], rel=1e-10
        )


def test_value_at_risk_and_the_mean_beyond_it(case: Any) -> None:
    """Ours are of a day: the square root of 24 times theirs, which are of an hour."""
    returns, expected = case
    loss = tail.historical(returns)
    scale = math.sqrt(24)
    theirs = expected["empyrical"]
    assert loss.var95_quote == pytest.approx(-scale * theirs["value_at_risk"], rel=1e-10)
    assert loss.cvar95_quote == pytest.approx(
        -scale * theirs["conditional_value_at_risk"], rel=1e-10
    )


@pytest.mark.parametrize(
    "problem", MARKOWITZ["cases"], ids=lambda p: f"{p['problem']}, cap {p['cap']}"
)
def test_weights_of_pyportfolioopt(problem: dict[str, Any]) -> None:
    expected = None if problem["risk_aversion"] is None else np.array(MARKOWITZ["expected_returns"])
    found = markowitz.weights(
        np.array(MARKOWITZ["covariance"]),
        expected,
        cap=problem["cap"],
        risk_aversion=problem["risk_aversion"] or 1.0,
    )
    assert found == pytest.approx(np.array(problem["weights"]), abs=1e-6)


def test_the_published_minimum_volatility() -> None:
    """robertmartin8/PyPortfolioOpt, tests/test_efficient_frontier.py, test_min_volatility:
    a return of 0.15056821399482578 and a volatility of 0.15915084514118694."""
    covariance = np.array(MARKOWITZ["covariance"])
    found = markowitz.weights(covariance)
    assert found @ np.array(MARKOWITZ["expected_returns"]) == pytest.approx(
        0.15056821399482578, abs=1e-7
    )
    assert math.sqrt(found @ covariance @ found) == pytest.approx(0.15915084514118694, abs=1e-12)
