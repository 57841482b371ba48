"""The core sleeve on the dashboard, over a real ledger."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from shared import config
from shared.ledger.connection import Ledger
from shared.ui import dashboard, page
from tests import ledger_seed as seed
from tests.ui.test_page import NOW

SETTINGS = config.load({"POD": "test", "CORE_SLEEVE_PERCENT": "20"})


def hold(ledger: Ledger, symbol: str, price: int, quantity: str, *, quoted: bool = True) -> None:
    at = NOW - timedelta(hours=1)
    position_id = seed.open_row(ledger, symbol, "core", at, Decimal(1))
    ledger.execute("UPDATE positions SET sleeve = 'core' WHERE position_id = %s", (position_id,))
    seed.fill(ledger, position_id, symbol, "buy", Decimal(price), Decimal(quantity), at)
    if quoted:
        seed.quote(ledger, symbol, Decimal(price), NOW)


@pytest.fixture
def funded(ledger: Ledger) -> Ledger:
    ledger.execute("INSERT INTO equity VALUES ('test', %s, 10000, 9000, 1000)", (NOW,))
    hold(ledger, "BTC/USDT", 50_000, "0.018")
    return ledger


def core(ledger: Ledger, settings: Any = SETTINGS) -> Any:
    return dashboard.gather(ledger, settings, NOW)["core"]


def test_weights_stand_beside_their_targets(funded: Ledger) -> None:
    found = core(funded)
    assert found["share_percent"] == 20
    assert [(w["symbol"], w["current_percent"], w["target_percent"]) for w in found["weights"]] == [
        ("BTC/USDT", 45, 40), ("ETH/USDT", 0, 30), ("SOL/USDT", 0, 15),
    ]  # fmt: skip
    assert found["in_cash"] == ["OTHERS: 15 % stays in cash, there are no others"]


def test_the_page_shows_them_and_counts_tactical_positions_only(funded: Ledger) -> None:
    model = dashboard.gather(funded, SETTINGS, NOW)
    assert model["risk"]["positions"] == 0
    text = page.render(model)
    assert "Core sleeve" in text
    assert "target" in text.split("Core sleeve")[1].split("Value at risk")[0]


def test_without_a_core_sleeve_nothing_is_shown(ledger: Ledger) -> None:
    model = dashboard.gather(ledger, config.load({"POD": "test"}), NOW)
    assert model["core"] is None
    assert "Core sleeve" not in page.render(model)


def test_what_is_left_of_a_sleeve_that_was_configured_away_is_shown(funded: Ledger) -> None:
    (weight,) = core(funded, config.load({"POD": "test"}))["weights"]
    assert (weight["symbol"], weight["target_percent"]) == ("BTC/USDT", 0)


def test_a_weight_without_a_price_is_not_known(funded: Ledger) -> None:
    hold(funded, "ETH/USDT", 2_000, "0.1", quoted=False)
    assert {weight["current_percent"] for weight in core(funded)["weights"]} == {None}
    assert "Core sleeve" in page.render(dashboard.gather(funded, SETTINGS, NOW))
