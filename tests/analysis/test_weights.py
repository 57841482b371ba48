"""Learned weights: worthless strategies change nothing, proven ones move a notch."""

from __future__ import annotations

import random
from typing import Any

import pytest
from annotated_types import Ge, Le

from shared import parameters
from shared.analysis import weights as w
from shared.parameters import StrategyWeights

NAMES = tuple(StrategyWeights.model_fields)


def trades(seed: int, count: int, edge: dict[str, float] | None = None) -> list[dict[str, Any]]:
    """Trades with a deviation of 1.5 %, and a mean of ``edge`` by strategy, else of zero."""
    source = random.Random(seed)  # noqa: S311
    rows = []
    for _ in range(count):
        name = source.choice(NAMES)
        rows.append(
            {"strategy": name, "return_percent": source.gauss((edge or {}).get(name, 0.0), 1.5)}
        )
    return rows


def test_on_worthless_strategies_it_changes_almost_nothing() -> None:
    changed = sum(
        w.propose(trades(seed, 300), StrategyWeights()).weights is not None for seed in range(1_000)
    )
    assert changed <= 50  # 5 %


def test_a_strong_edge_is_found() -> None:
    found = [
        w.propose(trades(seed, 600, {"momentum": 1.5, "arbitrage": -1.0}), StrategyWeights())
        for seed in range(20)
    ]
    assert sum(p.evidence.get("raised") == "momentum" for p in found) >= 18
    moved = [p.weights for p in found if p.weights is not None]
    assert len(moved) >= 18
    for new in moved:
        differences = [abs(new.as_dict()[n] - StrategyWeights().as_dict()[n]) for n in NAMES]
        assert max(differences) == pytest.approx(w.NOTCH)
        assert sum(new.as_dict().values()) == pytest.approx(1)


def test_an_edge_of_the_earlier_half_only_proves_nothing() -> None:
    rows = trades(1, 300, {"momentum": 3.0}) + trades(2, 300)
    assert w.propose(rows, StrategyWeights()).weights is None


@pytest.mark.parametrize(("count", "few"), [(99, True), (100, False)])
def test_too_few_trades(count: int, few: bool) -> None:
    reason = w.propose(trades(3, count), StrategyWeights()).reason
    assert reason.startswith("TRADES_TOO_FEW") == few


def test_the_bounds_are_those_of_the_parameters() -> None:
    bounds = parameters.Weight.__metadata__[0].metadata  # type: ignore[attr-defined]
    assert [b.ge for b in bounds if isinstance(b, Ge)] == [w.LOWEST]
    assert [b.le for b in bounds if isinstance(b, Le)] == [w.HIGHEST]


def test_five_notches_from_the_defaults_is_the_end() -> None:
    current = StrategyWeights()
    for _ in range(5):
        moved = w.moved_by_a_notch(current, "momentum", "trend_following")
        assert moved is not None
        current = moved
    assert w.moved_by_a_notch(current, "momentum", "trend_following") is None


def test_no_weight_falls_below_its_bound() -> None:
    current = StrategyWeights()
    moves = 0
    while (moved := w.moved_by_a_notch(current, "momentum", "market_making")) is not None:
        current, moves = moved, moves + 1
    assert moves == 4
    assert current.market_making == 0.02


def test_shrinking_is_a_posterior_mean() -> None:
    """50 trades of mean 2 beside 50 of mean 0: all mean 1, halfway for a prior worth 50."""
    import numpy as np

    got = w.shrunk_means({"a": np.full(50, 2.0), "b": np.zeros(50)})
    assert got == pytest.approx({"a": 1.5, "b": 0.5})


def test_welch_t_by_hand() -> None:
    """Means 2 and 4, variances 1 and 4, three each: -2 / sqrt(1/3 + 4/3)."""
    import numpy as np

    got = w.welch_t(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0]))
    assert got == pytest.approx(-2 / (5 / 3) ** 0.5)
    assert w.welch_t(np.ones(5), np.ones(5)) is None


@pytest.mark.parametrize(("difference", "back"), [(-0.1, True), (0.1, False)])
def test_a_change_that_does_worse_is_taken_back(difference: float, back: bool) -> None:
    rows = [{"strategy": "momentum", "return_percent": difference}] * 20
    rows += [{"strategy": "arbitrage", "return_percent": 0.0}] * 20
    current = w.moved_by_a_notch(StrategyWeights(), "momentum", "arbitrage")
    assert current is not None
    proposal = w.review(rows, current, {"raised": "momentum", "lowered": "arbitrage"})
    assert (proposal.weights == StrategyWeights()) == back
    assert w.review(rows[1:], current, {"raised": "momentum", "lowered": "arbitrage"}).reason == (
        "REVIEW_TOO_EARLY"
    )
