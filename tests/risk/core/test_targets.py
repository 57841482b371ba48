"""What the core sleeve is to hold in a universe."""

from __future__ import annotations

from decimal import Decimal

import pytest

from shared import config
from shared.risk.core import targets


def pairs(*names: str) -> tuple[str, ...]:
    return tuple(f"{name}/USDT" for name in names)


def chosen(*names: str, held: tuple[str, ...] = (), **variables: str) -> dict[str, float]:
    found = targets.choose(config.load(variables), pairs(*names), pairs(*held))
    return {symbol.split("/")[0]: float(percent) for symbol, percent in found.percents.items()}


@pytest.mark.parametrize(
    ("universe", "percents"),
    [
        (("BTC", "ETH", "SOL"), {"BTC": 40, "ETH": 30, "SOL": 15}),
        (("BTC", "XRP", "ETH", "SOL"), {"BTC": 40, "ETH": 30, "SOL": 15, "XRP": 15}),
        (
            ("A1", "B2", "BTC", "C3", "ETH", "D4", "SOL", "E5", "F6"),
            {"BTC": 40, "ETH": 30, "SOL": 15, "A1": 3, "B2": 3, "C3": 3, "D4": 3, "E5": 3},
        ),
        (("ETH", "XRP", "ADA"), {"ETH": 30, "XRP": 7.5, "ADA": 7.5}),
        ((), {}),
    ],
)
def test_targets(universe: tuple[str, ...], percents: dict[str, float]) -> None:
    assert chosen(*universe) == percents


def test_a_weight_that_nobody_holds_stays_in_cash_and_is_said() -> None:
    found = targets.choose(config.load({}), pairs("BTC", "SOL"))
    assert sum(found.percents.values()) == 55
    assert found.in_cash == (
        "ETH/USDT: 30 % stays in cash, it is not in the universe",
        "OTHERS: 15 % stays in cash, there are no others",
    )
    assert targets.choose(config.load({}), pairs("BTC", "ETH", "SOL", "XRP")).in_cash == ()


def test_others_that_are_held_keep_their_place_when_the_universe_is_shuffled() -> None:
    names = ("A1", "B2", "C3", "D4", "E5", "F6", "G7")
    before = chosen(*names)
    assert set(before) == {"A1", "B2", "C3", "D4", "E5"}
    after = chosen(*reversed(names), held=tuple(before))
    assert after == before
    assert set(chosen(*names[1:], held=tuple(before))) == {"B2", "C3", "D4", "E5", "F6"}


def test_weights_without_others() -> None:
    assert chosen("BTC", "ETH", "XRP", CORE_WEIGHTS="BTC:60,XRP:20") == {"BTC": 60, "XRP": 20}


@pytest.mark.parametrize(
    ("symbol", "limit"), [("BTC", 45), ("SOL", 20), ("XRP", 12.5), ("ADA", 12.5), ("DOGE", 0)]
)
def test_how_far_a_symbol_may_go(symbol: str, limit: float) -> None:
    universe = pairs("BTC", "ETH", "SOL", "XRP", "ADA")
    found = targets.limit_percent(config.load({}), universe, f"{symbol}/USDT")
    assert found == Decimal(str(limit))


def test_a_symbol_that_has_no_weight_may_not_be_bought() -> None:
    settings = config.load({"CORE_WEIGHTS": "BTC:60"})
    assert targets.limit_percent(settings, pairs("BTC", "ETH"), "ETH/USDT") == 0
