"""Controls of the gate at their limits: state, side, prices, grid.

The fixture's pod has 10,000 of capital, so MAX_POSITION_SIZE=100 binds before 2 % of equity.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared import clock
from shared.errors import OrderDenied
from shared.ledger import state
from shared.market.types import Book
from shared.risk.controls.order import deny_unless_numbers
from tests.risk.gate_bench import deny_change_during_check, judge, sale
from tests.risk.world import BTC, ETH, World, book, dec, rules, ticket

Check = Callable[..., str | None]


def test_an_ordinary_entry_and_exit_pass(world: World, holding: int) -> None:
    other = world.position(ETH)
    assert judge(world, ticket(symbol=ETH), position_id=other) is None
    assert judge(world, sale(), purpose="exit", position_id=holding) is None


@pytest.mark.parametrize("halt", ["REDUCING", "HALTED"])
def test_a_halt_lets_only_sales_through(world: World, holding: int, halt: Any) -> None:
    state.tighten(world.ledger, halt, reason="test", set_by="test")
    assert judge(world, position_id=holding) == f"STATE_{halt}"
    assert judge(world, ticket(), purpose="rebalance", position_id=holding) == f"STATE_{halt}"
    assert judge(world, sale(), purpose="exit", position_id=holding) is None
    rebalance = judge(world, sale(), purpose="rebalance", position_id=holding)
    assert rebalance == ("STATE_HALTED" if halt == "HALTED" else None)


def test_a_pod_without_state_is_halted(world: World, position: int) -> None:
    world.ledger.execute("DELETE FROM trading_state")
    assert judge(world, position_id=position) == "STATE_HALTED"


def test_the_state_row_is_held_until_the_transaction_ends(
    world: World, position: int, database_url: str
) -> None:
    halt = "UPDATE trading_state SET state = 'HALTED'"
    deny_change_during_check(world, position, database_url, "paper", halt)


def test_limit_orders_only_refuses_market_entries_not_market_exits(
    world: World, holding: int
) -> None:
    state.set_restrictions(world.ledger, size_factor=Decimal(1), limit_orders_only=True)
    market_buy = ticket(order_type="market")
    assert judge(world, market_buy, position_id=holding) == "STATE_LIMIT_ORDERS_ONLY"
    assert judge(world, sale(order_type="market"), purpose="exit", position_id=holding) is None


@pytest.mark.parametrize(
    ("purpose", "side"), [("entry", "sell"), ("exit", "buy"), ("protect", "buy")]
)
def test_the_side_fits_the_purpose(world: World, position: int, purpose: Any, side: Any) -> None:
    assert judge(world, ticket(side=side), purpose=purpose, position_id=position) == "ORDER_SIDE"


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["quantity", "limit_price"]),
    value=st.sampled_from(["NaN", "sNaN", "Infinity", "-Infinity", "0", "-1", "-0"]),
)
def test_numbers_that_are_none_never_pass(name: str, value: str) -> None:
    with pytest.raises(OrderDenied, match="ORDER_NUMBER"):
        deny_unless_numbers(ticket(**{name: Decimal(value)}))


@pytest.mark.parametrize("value", [None, Decimal("NaN")])
def test_a_stop_order_needs_its_stop_price(value: Decimal | None) -> None:
    with pytest.raises(OrderDenied, match="ORDER_"):
        deny_unless_numbers(sale(order_type="stop_limit", stop_price=value))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 0.0, -1.0])
def test_a_book_of_impossible_prices_is_denied(world: World, position: int, bad: float) -> None:
    denied = judge(world, position_id=position, seen=book(bid=bad, ask=100.01))
    assert denied == "BOOK_NUMBER"


def test_symbol_and_venue_have_to_be_configured(world: World, holding: int) -> None:
    doge = world.position("DOGE/USDT")
    assert judge(world, ticket(symbol="DOGE/USDT"), position_id=doge) == "SYMBOL_NOT_ALLOWED"
    assert judge(world, ticket(venue="binanceus"), position_id=holding) == "VENUE_NOT_ALLOWED"
    world.configure(SYMBOLS="ETH")  # no longer traded, but still held: it may be sold
    assert judge(world, sale(), purpose="exit", position_id=holding) is None


def test_everything_speaks_of_the_same_market(world: World, position: int) -> None:
    assert judge(world, position_id=position, market=rules(symbol=ETH)) == "MARKET_MISMATCH"
    assert judge(world, position_id=position, seen=book(symbol=ETH)) == "MARKET_MISMATCH"
    assert judge(world, ticket(symbol=ETH), position_id=position) == "POSITION_MISMATCH"
    assert judge(world, position_id=position + 1) == "POSITION_MISMATCH"


@pytest.mark.parametrize(
    ("age_ms", "code"),
    [(0, None), (15_000, None), (15_001, "BOOK_STALE"), (-1_000, None), (-1_001, "BOOK_STALE")],
)
def test_book_age(world: World, position: int, age_ms: int, code: str | None) -> None:
    seen = book(at_ms=clock.now_ms() - age_ms)
    assert judge(world, position_id=position, seen=seen) == code


def test_crossed_and_empty_books(world: World, position: int) -> None:
    assert judge(world, position_id=position, seen=book(100.01, 100.01)) == "BOOK_CROSSED"
    empty = Book(BTC, (), ((100.0, 1.0),), clock.now_ms())
    assert judge(world, position_id=position, seen=empty) == "BOOK_EMPTY"


@pytest.mark.parametrize(
    ("side", "price", "code"),
    [
        ("buy", "100.50", None),
        ("buy", "100.51", "PRICE_COLLAR"),
        ("buy", "90", None),
        ("sell", "90", None),
        ("sell", "89.99", "PRICE_COLLAR"),
        ("sell", "110", None),
    ],
)
def test_price_collar_of_50_bps_and_of_10_percent_for_exits(
    world: World, position: int, side: str, price: str, code: str | None
) -> None:
    world.fill(position, "0.5")
    order = ticket(side=side, limit_price=dec(price), quantity=dec("0.1"))
    purpose = "entry" if side == "buy" else "exit"
    assert judge(world, order, purpose=purpose, position_id=position) == code


@pytest.mark.parametrize(
    ("stop", "limit", "code"),
    [
        ("98", "97.51", None),
        ("98", "96.04", None),  # 2 % below
        ("98", "96.03", "PRICE_COLLAR"),
        ("99.99", "99.8", None),
        ("100", "99.8", "PRICE_STOP_ABOVE_MID"),
    ],
)
@pytest.mark.parametrize("kind", ["stop_limit", "stop_market"])
def test_a_protective_stop_is_held_against_its_trigger(
    world: World, holding: int, stop: str, limit: str, code: str | None, kind: str
) -> None:
    order = sale(order_type=kind, stop_price=dec(stop), limit_price=dec(limit))
    assert judge(world, order, purpose="protect", position_id=holding) == code


@pytest.mark.parametrize(
    ("other_mid", "entry", "leave"),
    [
        ("100", None, None),
        ("98.04", None, None),  # 100 / 98.04 is 1.999 % above
        ("98.03", "PRICE_VENUES_APART", None),
        ("90.91", "PRICE_VENUES_APART", None),  # 9.999 %
        ("90.90", "PRICE_VENUES_APART", "PRICE_VENUES_APART"),
    ],
)
def test_other_venues_have_to_agree(
    world: World, position: int, other_mid: str, entry: str | None, leave: str | None
) -> None:
    world.fill(position, "0.2")
    world.price("kraken", BTC, other_mid)
    small = ticket(quantity=dec("0.1"))
    assert judge(world, small, position_id=position) == entry
    all_of_it = sale(quantity=dec("0.2"))
    world.ledger.execute("DELETE FROM prices WHERE venue = 'binanceus'")  # which agrees with us
    left = judge(world, all_of_it, purpose="exit", position_id=position, calm=False)
    assert left == leave
    assert judge(world, all_of_it, purpose="exit", position_id=position) is None  # it shows 100


def test_old_prices_of_other_venues_do_not_count(world: World, position: int) -> None:
    world.price("kraken", BTC, 50, at=clock.now() - timedelta(seconds=91))
    assert judge(world, position_id=position) is None


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"quantity": dec("0.5005")}, "QUANTITY_STEP"),
        ({"limit_price": dec("100.001")}, "PRICE_TICK"),
        ({"quantity": dec("0.05")}, None),
        ({"quantity": dec("0.049")}, "NOTIONAL_MINIMUM"),
        ({"quantity": dec("0.001")}, "QUANTITY_MINIMUM"),
    ],
)
def test_the_venues_grid(
    world: World, position: int, changes: dict[str, Decimal], code: str | None
) -> None:
    assert judge(world, ticket(**changes), position_id=position) == code


def test_rules_without_a_grid_deny(world: World, position: int) -> None:
    broken = rules(quantity_step=0)
    assert judge(world, position_id=position, market=broken) == "RULES_NUMBER"
