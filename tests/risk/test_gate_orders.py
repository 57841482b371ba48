"""Controls of the gate at their limits: what else is under way, holdings, stops, rates, tokens."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest

from shared import clock
from shared.errors import OrderDenied
from shared.execution.types import Mode
from shared.ledger import state
from shared.risk import gate
from tests.risk.gate_bench import deny_change_during_check, judge, quieten, sale
from tests.risk.world import ETH, World, book, dec, rules, ticket


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
    ("stops", "stop", "leave", "entry"),
    [
        (39, None, None, None),
        (40, "RATE_ORDERS", None, None),
        (59, "RATE_ORDERS", None, None),
        (60, "RATE_ORDERS", "RATE_ORDERS", "RATE_MESSAGES"),
    ],
)
def test_stops_take_no_room_from_entries_and_leave_some_to_exits(
    world: World, holding: int, stops: int, stop: str | None, leave: str | None, entry: str | None
) -> None:
    other = world.position(ETH)
    for _ in range(stops):
        world.intent(
            other, symbol="SOL/USDT", venue="kraken", side="sell", purpose="protect",
            order_type="stop_limit", order_status="cancelled",
        )  # fmt: skip
    order = sale(order_type="stop_limit", stop_price=dec(98), limit_price=dec(97))
    assert judge(world, order, purpose="protect", position_id=holding) == stop
    assert judge(world, sale(), purpose="exit", position_id=holding) == leave
    assert judge(world, ticket(symbol=ETH), position_id=other) == entry


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
    quieten(world, "BTC/USDT", book())
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
