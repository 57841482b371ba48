"""Every control of the gate, at its limit and one unit past it.

The fixture's pod has 10,000 of capital, so MAX_POSITION_SIZE=100 binds before 2 % of equity.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared import clock
from shared.errors import OrderDenied
from shared.execution.types import MarketRules, Mode, OrderTicket
from shared.ledger import state
from shared.market.types import Book
from shared.risk import gate
from tests.risk.world import BTC, ETH, World, book, dec, rules, ticket

Check = Callable[..., str | None]


def judge(
    world: World,
    order: OrderTicket | None = None,
    *,
    purpose: Any = "entry",
    position_id: int,
    market: MarketRules | None = None,
    seen: Book | None = None,
    now_ms: int | None = None,
    mode: Mode = "paper",
) -> str | None:
    """The code of the denial, or ``None`` where the order passes."""
    order = order or ticket()
    try:
        with world.ledger.transaction():
            gate.check(
                world.run,
                order,
                purpose=purpose,
                position_id=position_id,
                rules=market or rules(order.venue, order.symbol),
                book=seen or book(symbol=order.symbol),
                now_ms=clock.now_ms() if now_ms is None else now_ms,
                mode=mode,
            )
    except OrderDenied as denied:
        return denied.code
    return None


@pytest.fixture
def position(world: World) -> int:
    return world.position()


@pytest.fixture
def holding(world: World, position: int) -> int:
    """One coin in the position, on binance."""
    world.fill(position, 1)
    return position


def sale(**changes: Any) -> OrderTicket:
    return ticket(**({"side": "sell", "quantity": dec(1), "limit_price": dec("99.9")} | changes))


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


def deny_change_during_check(
    world: World, position: int, database_url: str, mode: str, change: str
) -> None:
    """Until the gate's transaction ends, nobody else can make ``change``."""
    import psycopg2

    other = psycopg2.connect(database_url)
    other.autocommit = True
    try:
        with world.ledger.transaction(), other.cursor() as cursor:
            gate.check(
                world.run,
                ticket(),
                purpose="entry",
                position_id=position,
                rules=rules(),
                book=book(),
                now_ms=clock.now_ms(),
                mode=mode,  # type: ignore[arg-type]
            )
            cursor.execute("SET lock_timeout = '50ms'")
            with pytest.raises(psycopg2.errors.LockNotAvailable):
                cursor.execute(change)
    finally:
        other.close()


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
        gate.deny_unless_numbers(ticket(**{name: Decimal(value)}))


@pytest.mark.parametrize("value", [None, Decimal("NaN")])
def test_a_stop_order_needs_its_stop_price(value: Decimal | None) -> None:
    with pytest.raises(OrderDenied, match="ORDER_"):
        gate.deny_unless_numbers(sale(order_type="stop_limit", stop_price=value))


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
    assert judge(world, sale(quantity=dec("0.2")), purpose="exit", position_id=position) == leave


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


@pytest.mark.parametrize("unresolved", ["SENDING", "UNKNOWN"])
def test_an_unresolved_order_blocks_its_symbol_for_entries(
    world: World, holding: int, unresolved: str
) -> None:
    other = world.position(ETH)
    world.intent(other, symbol=ETH, state=unresolved, quantity="0.1")
    world.intent(holding, state=unresolved, quantity="0.1")
    assert judge(world, ticket(symbol=ETH), position_id=other) == "SYMBOL_UNRESOLVED"
    assert judge(world, sale(), purpose="exit", position_id=holding) is None


@pytest.mark.parametrize(("resting", "code"), [("100", "ORDER_SELF_MATCH"), ("100.01", None)])
def test_own_resting_orders_are_not_met(
    world: World, position: int, resting: str, code: str | None
) -> None:
    world.intent(position, side="sell", order_status="open", quantity="0.1", limit_price=resting)
    assert judge(world, position_id=position) == code


@pytest.mark.parametrize("kind", ["stop_limit", "stop_market"])
def test_a_resting_protective_stop_does_not_count_as_an_opposing_order(
    world: World, position: int, kind: str
) -> None:
    world.intent(position, side="sell", order_status="open", order_type=kind, limit_price=97)
    assert judge(world, position_id=position) is None


@pytest.mark.parametrize(
    ("quantity", "in_flight", "code"),
    [
        ("1", "0", None),
        ("1.001", "0", "HOLDING_EXCEEDED"),
        ("0.4", "0.6", None),
        ("0.401", "0.6", "HOLDING_EXCEEDED"),
    ],
)
@pytest.mark.parametrize("kind", ["SENDING", "UNKNOWN", "open"])
def test_a_sale_is_at_most_what_is_held(
    world: World, holding: int, quantity: str, in_flight: str, code: str | None, kind: str
) -> None:
    if in_flight != "0":
        how = {"order_status": "open"} if kind == "open" else {"state": kind}
        world.intent(holding, side="sell", quantity=in_flight, limit_price=101, **how)  # type: ignore[arg-type]
    order = sale(quantity=dec(quantity))
    assert judge(world, order, purpose="exit", position_id=holding) == code


@pytest.mark.parametrize("state", ["DEAD", "REJECTED"])
def test_an_order_that_came_late_counts_while_it_rests(
    world: World, holding: int, state: str
) -> None:
    """The venue shows it, so it is under way, whatever its intent was taken for."""
    world.intent(holding, side="sell", quantity="0.6", limit_price=101, state=state,
                 order_status="open")  # fmt: skip
    fits, too_much = sale(quantity=dec("0.4")), sale(quantity=dec("0.401"))
    assert judge(world, fits, purpose="exit", position_id=holding) is None
    assert judge(world, too_much, purpose="exit", position_id=holding) == "HOLDING_EXCEEDED"


@pytest.mark.parametrize(
    ("state", "age_s", "purpose", "code"),
    [
        ("UNKNOWN", 0, "exit", None),
        ("SENDING", 60, "exit", None),  # its run is dead
        ("SENDING", 59, "exit", "HOLDING_EXCEEDED"),  # its run may still hear that it rests
        ("UNKNOWN", 600, "protect", "HOLDING_EXCEEDED"),
    ],
)
def test_a_stop_of_unknown_fate_keeps_no_exit_back(
    world: World, holding: int, state: str, age_s: int, purpose: str, code: str | None
) -> None:
    world.intent(
        holding, side="sell", quantity=1, purpose="protect", order_type="stop_limit",
        limit_price=97, state=state, sent_at=clock.now() - timedelta(seconds=age_s),
    )  # fmt: skip
    stop = {"order_type": "stop_limit", "stop_price": dec(98), "limit_price": dec(97)}
    order = sale(quantity=dec(1), **(stop if purpose == "protect" else {}))
    assert judge(world, order, purpose=purpose, position_id=holding) == code


def test_a_stop_that_rests_keeps_exits_back_until_it_is_cancelled(
    world: World, holding: int
) -> None:
    world.intent(holding, side="sell", quantity=1, purpose="protect", order_type="stop_limit",
                 limit_price=97, order_status="open")  # fmt: skip
    order = sale(quantity=dec("0.5"))
    assert judge(world, order, purpose="exit", position_id=holding) == "HOLDING_EXCEEDED"


@pytest.mark.parametrize("trading", ["REDUCING", "HALTED"])
def test_protection_is_placed_in_every_state(world: World, holding: int, trading: str) -> None:
    state.tighten(world.ledger, trading, reason="test", set_by="test")  # type: ignore[arg-type]
    order = sale(order_type="stop_limit", stop_price=dec(98), limit_price=dec(97))
    assert judge(world, order, purpose="protect", position_id=holding) is None


def test_a_stop_meets_no_order_of_ours_when_it_is_placed(world: World, holding: int) -> None:
    """A bid of ours rests far above the stop's limit, but the stop does not trade yet."""
    world.intent(holding, order_status="open", quantity="0.1", limit_price="99")
    order = sale(order_type="stop_limit", stop_price=dec(98), limit_price=dec(97))
    assert judge(world, order, purpose="protect", position_id=holding) is None


def test_a_stop_lies_on_the_price_grid(world: World, holding: int) -> None:
    order = sale(order_type="stop_limit", stop_price=dec("98.001"), limit_price=dec(97))
    assert judge(world, order, purpose="protect", position_id=holding) == "PRICE_TICK"


def test_a_sale_needs_the_holding_on_its_own_venue(world: World, holding: int) -> None:
    elsewhere = sale(venue="kraken")
    assert judge(world, elsewhere, purpose="exit", position_id=holding) == "HOLDING_EXCEEDED"


@pytest.mark.parametrize(
    ("minute", "hour", "entry", "leave"),
    [
        (19, 0, None, None),
        (20, 0, "RATE_ORDERS", None),
        (59, 0, "RATE_ORDERS", None),
        (60, 0, "RATE_ORDERS", "RATE_ORDERS"),
        (0, 399, None, None),
        (0, 400, "RATE_ORDERS", None),
        (0, 1199, "RATE_ORDERS", None),
        (0, 1200, "RATE_ORDERS", "RATE_ORDERS"),
    ],
)
def test_order_rate(
    world: World, minute: int, hour: int, entry: str | None, leave: str | None, holding: int
) -> None:
    other = world.position(ETH)
    earlier = clock.now() - timedelta(minutes=30)
    for count, sent_at in ((minute, clock.now()), (hour, earlier)):
        world.ledger.execute(
            "INSERT INTO intents (intent_id, logical_key, client_order_id, pod, position_id, "
            "venue, symbol, side, purpose, order_type, time_in_force, quantity, limit_price, "
            "decision_mid, arrival_mid, epoch, sent_at, valid_until, state) "
            "SELECT n || %(tag)s, n || %(tag)s, n || %(tag)s, 'test', %(position)s, 'binance', "
            "'SOL/USDT', 'buy', 'entry', 'limit', 'IOC', 1, 1, 1, 1, 1, %(at)s, %(at)s, 'DEAD' "
            "FROM generate_series(1, %(count)s) AS n",
            {"tag": f"-{sent_at}", "position": other, "at": sent_at, "count": count},
        )
    assert judge(world, ticket(symbol=ETH), position_id=other) == entry
    assert judge(world, sale(), purpose="exit", position_id=holding) == leave


@pytest.mark.parametrize(
    ("stops", "stop", "leave"),
    [(39, None, None), (40, "RATE_ORDERS", None), (60, "RATE_ORDERS", "RATE_ORDERS")],
)
def test_stops_take_no_room_from_entries_and_leave_some_to_exits(
    world: World, holding: int, stops: int, stop: str | None, leave: str | None
) -> None:
    other = world.position(ETH)
    for _ in range(stops):
        world.intent(
            other, symbol=ETH, venue="kraken", side="sell", purpose="protect",
            order_type="stop_limit", order_status="cancelled",
        )  # fmt: skip
    order = sale(order_type="stop_limit", stop_price=dec(98), limit_price=dec(97))
    assert judge(world, order, purpose="protect", position_id=holding) == stop
    assert judge(world, sale(), purpose="exit", position_id=holding) == leave
    assert judge(world, ticket(symbol=ETH), position_id=other) is None


@pytest.mark.parametrize(
    ("elapsed_ms", "entry", "leave"),
    [
        (44_000, None, None),
        (44_001, "RUN_TIME", None),
        (52_000, "RUN_TIME", None),
        (52_001, "RUN_TIME", "RUN_TIME"),
    ],
)
def test_remaining_run_time_for_8_second_requests(
    world: World, holding: int, elapsed_ms: int, entry: str | None, leave: str | None
) -> None:
    other = world.position(ETH)
    now_ms = clock.now_ms() + elapsed_ms
    seen, own = book(symbol=ETH, at_ms=now_ms), book(at_ms=now_ms)
    buy = ticket(symbol=ETH)
    assert judge(world, buy, position_id=other, now_ms=now_ms, seen=seen) == entry
    sold = judge(world, sale(), purpose="exit", position_id=holding, now_ms=now_ms, seen=own)
    assert sold == leave


def test_a_run_that_the_ledger_does_not_know_sends_nothing(world: World, position: int) -> None:
    world.run = dataclasses.replace(world.run, run_id=999_999)
    assert judge(world, position_id=position) == "RUN_UNKNOWN"


def test_a_denial_tells_its_numbers(world: World, position: int) -> None:
    with pytest.raises(OrderDenied) as caught, world.ledger.transaction():
        gate.check(
            world.run,
            ticket(quantity=dec("1.5")),
            purpose="entry",
            position_id=position,
            rules=rules(),
            book=book(),
            now_ms=clock.now_ms(),
            mode="paper",
        )
    assert str(caught.value) == "POSITION_SIZE: after=150.00, limit=100"


@pytest.mark.parametrize(
    ("mode", "token", "expected"),
    [
        ("live", "none", "LIVE_NOT_ARMED"),
        ("live", "expired", "LIVE_NOT_ARMED"),
        ("live", "revoked", "LIVE_NOT_ARMED"),
        ("live", "of another pod", "LIVE_NOT_ARMED"),
        ("live", "valid", None),
        ("simulated", "none", None),
        ("paper", "none", None),
    ],
)
def test_a_live_buy_needs_a_token_at_that_moment(
    world: World, position: int, mode: Mode, token: str, expected: str | None
) -> None:
    if token != "none":
        pod = "other" if token == "of another pod" else world.run.ledger.pod
        world.ledger.execute(
            "INSERT INTO arm_tokens (pod, armed_by, armed_at, expires_at, revoked_at) VALUES (%s, "
            "'test', now() - interval '2 hours', now() + %s * interval '1 hour', %s)",
            (pod, -1 if token == "expired" else 1, clock.now() if token == "revoked" else None),
        )
    assert judge(world, position_id=position, mode=mode) == expected


def test_a_live_sale_needs_no_token(world: World, position: int) -> None:
    world.fill(position, 1, price=100)
    sale = ticket(side="sell", quantity=dec("0.5"))
    assert judge(world, order=sale, purpose="exit", position_id=position, mode="live") is None


def test_a_token_cannot_be_revoked_between_the_gate_and_the_intent(
    world: World, position: int, database_url: str
) -> None:

    world.ledger.execute(
        "INSERT INTO arm_tokens (pod, armed_by, armed_at, expires_at) "
        "VALUES (%s, 'test', now(), now() + interval '1 hour')",
        (world.run.ledger.pod,),
    )
    revoke = "UPDATE arm_tokens SET revoked_at = now()"
    deny_change_during_check(world, position, database_url, "live", revoke)
