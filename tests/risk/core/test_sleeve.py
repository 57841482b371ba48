"""The drift of the core sleeve: at the band, and one unit inside it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from shared.risk.core.sleeve import Sleeve

BAND = Decimal(5)
TARGETS = {"BTC": Decimal(40), "ETH": Decimal(30), "SOL": Decimal(15), "XRP": Decimal(15)}


def sleeve(
    share: float = 20, equity: float = 10_000, targets: Any = None, **values: float
) -> Sleeve:
    """20 % of 10,000: the weights below are of 2,000."""
    return Sleeve(
        Decimal(str(equity)),
        Decimal(str(share)),
        {symbol: Decimal(str(value)) for symbol, value in values.items()},
        TARGETS if targets is None else targets,
    )


ON_TARGET = {"BTC": 800, "ETH": 600, "SOL": 300, "XRP": 300}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"BTC": 899.99}, None),
        ({"BTC": 900}, "WEIGHT_OFF"),
        ({"BTC": 700.01}, None),
        ({"BTC": 700}, "WEIGHT_OFF"),
        ({"SOL": 200}, "WEIGHT_OFF"),
        ({"SOL": 0}, "WEIGHT_OFF"),
        ({"DOGE": 99.99}, None),  # no longer wanted, and small
        ({"DOGE": 100}, "WEIGHT_OFF"),
    ],
)
def test_need(changes: dict[str, float], reason: str | None) -> None:
    need = sleeve(**(ON_TARGET | changes)).need(BAND)
    assert (None if need is None else need.reason) == reason


def test_the_farthest_symbol_is_told() -> None:
    need = sleeve(**(ON_TARGET | {"BTC": 920, "ETH": 460})).need(BAND)
    assert str(need) == "WEIGHT_OFF: symbol=ETH, current=23.00, target=30.00"


def test_nothing_held_is_a_first_funding_and_a_sleeve_of_nothing_is_closed() -> None:
    funding = sleeve().need(BAND)
    assert funding is not None
    assert (funding.reason, funding.to_target) == ("FIRST_FUNDING", True)
    closed = sleeve(share=0, targets={}, BTC=1).need(BAND)
    assert closed is not None
    assert (closed.reason, closed.to_target) == ("CLOSED", True)
    assert sleeve(share=0, targets={}).need(BAND) is None
    assert sleeve(targets={}).need(BAND) is None  # a universe without any of them


@pytest.mark.parametrize(
    ("each", "reason"), [(9, "SLEEVE_OFF"), (9.01, None), (10.99, None), (11, "SLEEVE_OFF")]
)
def test_a_sleeve_that_is_off_as_a_whole(each: float, reason: str | None) -> None:
    """Half of 200 in ten symbols: each a point of the sleeve off, together 5 % of the equity."""
    targets = {f"C{n}": Decimal(10) for n in range(10)}
    found = sleeve(50, 200, targets, **dict.fromkeys(targets, each)).need(BAND)
    assert (None if found is None else found.reason) == reason


def test_a_share_that_was_changed_needs_a_rebalance() -> None:
    need = sleeve(share=30, **ON_TARGET).need(BAND)
    assert need is not None
    assert need.reason == "WEIGHT_OFF"  # BTC is 26.7 % of a sleeve of 3,000
    assert sleeve(share=21, **ON_TARGET).need(BAND) is None


def test_weights_as_exported() -> None:
    found = sleeve(BTC=900, DOGE=20).weights()
    assert found["BTC"] == {"current": 45.0, "target": 40.0}
    assert found["SOL"] == {"current": 0.0, "target": 15.0}
    assert found["DOGE"] == {"current": 1.0, "target": 0.0}
    assert sleeve(share=0, targets={}, BTC=30, ETH=10).weights()["BTC"]["current"] == 75.0


def test_cash_of_the_sleeve_makes_no_other_symbol_larger() -> None:
    """BTC was stopped out and may not be bought: the others stand where they stood."""
    without = {symbol: target for symbol, target in TARGETS.items() if symbol != "BTC"}
    held = {symbol: value for symbol, value in ON_TARGET.items() if symbol != "BTC"}
    found = sleeve(targets=without, **held)
    assert found.need(BAND) is None
    assert found.weights()["ETH"] == {"current": 30.0, "target": 30.0}
