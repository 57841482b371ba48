"""Controls of the gate at their limits: sizes, exposure, losses, drawdown, cash."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from shared import clock
from tests.risk.gate_bench import judge
from tests.risk.world import ETH, World, dec, ticket


@pytest.mark.parametrize(
    ("quantity", "code"), [("1", None), ("1.001", "POSITION_SIZE")]
)  # fmt: skip
def test_position_size_alone(world: World, position: int, quantity: str, code: str | None) -> None:
    assert judge(world, ticket(quantity=dec(quantity)), position_id=position) == code


@pytest.mark.parametrize(
    "already",
    [
        {"fill": "0.4"},
        {"state": "UNKNOWN", "quantity": "0.4"},
        {"state": "SENDING", "quantity": "0.4"},
        {"order_status": "open", "quantity": "0.4"},
        {"order_status": "open", "quantity": "0.4", "filled": "0.1"},  # 0.1 not yet recorded
        {"order_status": "filled", "quantity": "0.4", "filled": "0.4"},  # not recorded at all
    ],
)
def test_position_size_counts_everything_under_way(
    world: World, position: int, already: dict[str, Any]
) -> None:
    if "fill" in already:
        world.fill(position, already["fill"])
    else:
        world.intent(position, **already)
    # 0.6 fits exactly beside 0.4; an unresolved order would block the symbol on its own account,
    # so what is asked is only whether the size control speaks first.
    assert judge(world, ticket(quantity=dec("0.601")), position_id=position) == "POSITION_SIZE"
    assert judge(world, ticket(quantity=dec("0.6")), position_id=position) in (
        None,
        "SYMBOL_UNRESOLVED",
    )


@pytest.mark.parametrize("status", ["cancelled", "expired", "rejected"])
def test_what_is_over_counts_nothing(world: World, position: int, status: str) -> None:
    world.intent(position, order_status=status, quantity="0.9")
    world.intent(position, state="REJECTED", quantity="0.9")
    world.intent(position, state="DEAD", quantity="0.9")
    assert judge(world, ticket(quantity=dec(1)), position_id=position) is None


def test_an_intent_is_not_counted_against_itself(world: World, position: int) -> None:
    world.intent(position, state="SENDING", quantity=1)
    row = world.ledger.one("SELECT client_order_id FROM intents")
    assert row is not None
    own = ticket(client_order_id=row["client_order_id"], quantity=dec(1))
    assert judge(world, own, position_id=position) is None


@pytest.mark.parametrize(("quantity", "code"), [("0.8", None), ("0.801", "POSITION_SHARE")])
def test_position_share_of_equity(
    world: World, position: int, quantity: str, code: str | None
) -> None:
    world.equity(4000)  # 2 % are 80
    assert judge(world, ticket(quantity=dec(quantity)), position_id=position) == code


@pytest.mark.parametrize(("quantity", "code"), [("0.5", None), ("0.501", "EXPOSURE_GROSS")])
def test_gross_exposure(world: World, position: int, quantity: str, code: str | None) -> None:
    world.configure(MAX_POSITIONS="2")  # 200 in all
    other = world.position(ETH)
    world.fill(other, 1, symbol=ETH)
    world.price("binance", ETH, 120)
    world.intent(other, symbol=ETH, quantity="0.3", order_status="open")
    assert judge(world, ticket(quantity=dec(quantity)), position_id=position) == code


def test_gross_exposure_takes_cost_where_no_price_is_known(world: World, position: int) -> None:
    world.configure(MAX_POSITIONS="2")
    other = world.position(ETH)
    world.fill(other, "1.5", symbol=ETH)
    assert judge(world, ticket(quantity=dec("0.501")), position_id=position) == "EXPOSURE_GROSS"


@pytest.mark.parametrize(("quantity", "code"), [("0.5", None), ("0.501", "EXPOSURE_VENUE")])
def test_what_one_venue_holds(world: World, position: int, quantity: str, code: str | None) -> None:
    """Half of 1,000: 320 in ETH at the highest of its newest prices, 100 in SOL at cost, 30 under
    way, 50 here."""
    world.configure(MAX_POSITION_SIZE="1000", POSITION_SIZE_PERCENT="100", MAX_DAILY_LOSS="100000")
    world.equity(1_000)
    for symbol, price in ((ETH, 100), ("SOL/USDT", 50)):
        world.fill(world.position(symbol), 2, symbol=symbol, price=price)
    world.price("kraken", ETH, 160)
    world.price("coinbase", ETH, 150)
    elsewhere = world.position("ADA/USDT")
    world.fill(elsewhere, 1, symbol="ADA/USDT", venue="kraken", price=400)
    world.intent(elsewhere, symbol="ADA/USDT", quantity="0.3", order_status="open")
    done = world.position("XRP/USDT", closed_at=clock.now(), close_reason="stop")
    world.fill(done, 9, symbol="XRP/USDT")
    assert judge(world, ticket(quantity=dec(quantity)), position_id=position) == code


@pytest.mark.parametrize(("limit", "code"), [("2", None), ("1", "POSITION_COUNT")])
def test_number_of_positions(world: World, position: int, limit: str, code: str | None) -> None:
    world.configure(MAX_POSITIONS=limit)
    world.position(ETH)
    world.position("SOL/USDT", closed_at=clock.now(), close_reason="stop")
    assert judge(world, position_id=position) == code


@pytest.mark.parametrize(("minutes", "code"), [(10, None), (11, "EQUITY_STALE")])
def test_equity_age(world: World, position: int, minutes: int, code: str | None) -> None:
    world.equity(10_000, at=clock.now() - timedelta(minutes=minutes))
    assert judge(world, position_id=position) == code


def test_without_capital_nothing_is_bought(world: World, position: int) -> None:
    world.ledger.execute("DELETE FROM transfers")
    assert judge(world, position_id=position) == "EQUITY_MISSING"


@pytest.mark.parametrize(("now_equity", "code"), [("9950.01", None), ("9950", "LOSS_DAILY")])
@pytest.mark.parametrize("start_hours_ago", [13, 1])  # before midnight, and after
def test_daily_loss_of_50(
    world: World, position: int, now_equity: str, code: str | None, start_hours_ago: int
) -> None:
    world.equity(10_000, at=clock.now() - timedelta(hours=start_hours_ago))
    world.equity(now_equity)
    assert judge(world, position_id=position) == code


@pytest.mark.parametrize(("now_equity", "code"), [("950.01", None), ("950", "LOSS_DAILY")])
def test_daily_loss_of_5_percent(
    world: World, position: int, now_equity: str, code: str | None
) -> None:
    world.configure(MAX_DAILY_LOSS="1000")
    world.equity(1_000, at=clock.now() - timedelta(hours=1))
    world.equity(now_equity)
    assert judge(world, ticket(quantity=dec("0.1")), position_id=position) == code


@pytest.mark.parametrize(("hours_ago", "code"), [(23, "LOSS_DAILY"), (25, None)])
def test_daily_loss_over_the_last_24_hours(
    world: World, position: int, hours_ago: int, code: str | None
) -> None:
    """The loss came before midnight, so that the UTC day alone would not see it."""
    world.equity(10_000, at=clock.now() - timedelta(hours=hours_ago))
    world.equity(9_900, at=clock.now() - timedelta(hours=14))
    world.equity(9_900)
    assert judge(world, position_id=position) == code


@pytest.mark.parametrize(("now_equity", "code"), [("9000.01", None), ("9000", "DRAWDOWN_LIMIT")])
def test_drawdown_tier(world: World, position: int, now_equity: str, code: str | None) -> None:
    world.equity(10_000, at=clock.now() - timedelta(days=9))
    world.equity(now_equity, at=clock.now() - timedelta(days=8))
    world.equity(now_equity)
    assert judge(world, position_id=position) == code


@pytest.mark.parametrize(
    ("cash", "code"), [("50.05", None), ("50.04", "BALANCE_SHORT"), (None, "BALANCE_MISSING")]
)
def test_cash_on_the_venue_pays_fee_included(
    world: World, position: int, cash: str | None, code: str | None
) -> None:
    if cash is not None:
        world.transfer("coinbase", "USDT", cash)
    assert judge(world, ticket(venue="coinbase"), position_id=position) == code


def test_cash_is_reserved_by_open_buys(world: World, position: int) -> None:
    world.transfer("coinbase", "USDT", "100.10")
    other = world.position(ETH)
    world.intent(other, symbol=ETH, venue="coinbase", quantity="0.5", order_status="open")
    assert judge(world, ticket(venue="coinbase"), position_id=position) is None
    more = ticket(venue="coinbase", quantity=dec("0.501"))
    assert judge(world, more, position_id=position) == "BALANCE_SHORT"
