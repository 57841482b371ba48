"""What a venue would refuse is denied before it is sent: at each limit, and one past it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from shared import clock
from shared.execution.types import PriceBand
from shared.ledger.connection import json
from tests.risk.gate_bench import judge, sale
from tests.risk.gate_case import STOP, case, denial, verdict
from tests.risk.world import ETH, World, dec, rules, ticket

NARROW = PriceBand(dec("0.2"), dec("1.2"), dec("0.8"), dec(5), 1)
"""The example of Binance's "Filters"."""

LAST_PRICE = PriceBand(dec("0.99"), dec("1.01"), dec("0.99"), dec("1.01"), 0)
FAR_BELOW = {"order_type": "stop_limit", "stop_price": dec(80)}


@pytest.mark.parametrize(
    ("purpose", "band", "average", "changes", "code"),
    [
        # a buy at 100: the average's 1.2
        ("entry", NARROW, "83.3334", {}, None),
        ("entry", NARROW, "83.3333", {}, "PRICE_BAND"),
        ("entry", NARROW, "100", {"limit_price": dec("100.50")}, None),
        ("entry", NARROW, "83.75", {"limit_price": dec("100.50")}, None),
        ("entry", NARROW, "83.75", {"limit_price": dec("100.51")}, "PRICE_COLLAR"),
        ("entry", NARROW, "83.74", {"limit_price": dec("100.49")}, "PRICE_BAND"),
        ("entry", NARROW, "500", {}, None),  # 0.2 of it
        ("entry", NARROW, "500.01", {}, "PRICE_BAND"),
        ("entry", LAST_PRICE, "99.01", {}, None),
        ("entry", LAST_PRICE, "99.00", {}, "PRICE_BAND"),
        # an exit at 98: the average's 0.8, and up to 5 times of it
        ("exit", NARROW, "122.5", {"limit_price": dec(98)}, None),
        ("exit", NARROW, "122.5", {"limit_price": dec("97.99")}, "PRICE_BAND"),
        ("exit", NARROW, "19.6", {"limit_price": dec(98)}, None),
        ("exit", NARROW, "19.59", {"limit_price": dec(98)}, "PRICE_BAND"),
        ("rebalance", NARROW, "125.01", {"side": "sell"}, "PRICE_BAND"),
        # a stop-limit is judged by its limit, not by its trigger
        ("protect", NARROW, "100", FAR_BELOW | {"limit_price": dec(80)}, None),
        ("protect", NARROW, "100", FAR_BELOW | {"limit_price": dec("79.99")}, "PRICE_BAND"),
        ("protect", NARROW, "95", FAR_BELOW | {"limit_price": dec("78.4")}, None),
        # one at market has no limit on the wire
        ("protect", NARROW, "100",
         {"order_type": "stop_market", "stop_price": dec(80), "limit_price": dec("78.4")}, None),
        # the wide band of the real market: never in the way of what we send
        ("entry", None, "100", {}, None),
        ("protect", None, None, FAR_BELOW | {"limit_price": dec("80.00")}, None),
    ],
)  # fmt: skip
def test_the_price_band(
    purpose: str, band: PriceBand | None, average: str | None, changes: dict[str, Any],
    code: str | None,
) -> None:  # fmt: skip
    market = {} if band is None else {"price_band": band}
    known = None if average is None else dec(average)
    assert verdict(case(purpose, **market, **changes, average_price=known)) == code


def test_the_denial_tells_the_end_that_was_passed() -> None:
    low = denial(case("exit", price_band=NARROW, average_price=dec(140), limit_price=dec(98)))
    assert str(low) == "PRICE_BAND: side=sell, after=98, limit=112.0, average=140"
    high = denial(case("exit", price_band=NARROW, average_price=dec(19), limit_price=dec(98)))
    assert str(high) == "PRICE_BAND: side=sell, after=98, limit=95, average=19"


def test_without_the_average_nothing_is_bought_and_sales_go_on() -> None:
    assert verdict(case(price_band=NARROW)) == "PRICE_BAND_UNKNOWN"
    assert verdict(case("exit", price_band=NARROW, limit_price=dec(98))) is None
    assert verdict(case("protect", price_band=NARROW, **STOP)) is None
    assert verdict(case()) is None  # surely inside: it is not needed
    assert verdict(case(price_band=None)) is None


@pytest.mark.parametrize("broken", ["NaN", "sNaN", "Infinity", "0", "-100"])
def test_an_average_that_is_none_denies(broken: str) -> None:
    told = {"price_band": NARROW, "average_price": Decimal(broken)}
    assert verdict(case(**told)) == "PRICE_AVERAGE"
    below_one = {"price_band": NARROW, "average_price": Decimal("0.5")}
    assert verdict(case(**below_one)) == "PRICE_BAND"  # far away, and a price all the same


def test_what_the_venue_tells_and_nobody_can_read_buys_nothing() -> None:
    unread = {"unread_filters": ("PERCENT_PRICE: was nothing",)}
    assert verdict(case(**unread)) == "RULES_UNREAD"
    assert verdict(case("exit", **unread)) is None
    assert verdict(case("protect", **unread, **STOP)) is None


@pytest.mark.parametrize(
    ("purpose", "known", "code"),
    [
        ("entry", {"resting_orders": 199}, None),
        ("entry", {"resting_orders": 200}, "ORDERS_RESTING"),
        ("protect", {"resting_orders": 199}, None),
        ("protect", {"resting_orders": 200}, "ORDERS_RESTING"),
        ("exit", {"resting_orders": 10_000}, None),
        ("entry", {"resting_orders": 10_000, "max_orders": None}, None),
        ("protect", {"resting_stops": 4}, None),
        ("protect", {"resting_stops": 5}, "STOPS_RESTING"),
        ("exit", {"resting_stops": 10_000}, None),
        ("protect", {"resting_stops": 10_000, "max_stop_orders": None}, None),
        # what is bought needs room for its stop, unless its stop has it already
        ("entry", {"resting_stops": 4}, None),
        ("entry", {"resting_stops": 5}, "STOPS_RESTING"),
        ("entry", {"resting_stops": 5, "own_resting_stops": 1}, None),
        ("entry", {"resting_stops": 10_000, "max_stop_orders": None}, None),
        ("rebalance", {"resting_stops": 5, "resting_orders": 200, "side": "sell"}, None),
    ],
)
def test_the_number_of_orders(purpose: str, known: dict[str, Any], code: str | None) -> None:
    stop = STOP if purpose == "protect" else {}
    assert verdict(case(purpose, **stop, **known)) == code


# Orders and cancels in a window ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "entry", "stop", "leave"),
    [("messages_last_minute", 60, 80, 120), ("messages_last_hour", 1_200, 1_600, 2_400)],
)
def test_new_risk_stops_first_then_stops_and_exits_last(
    name: str, entry: int, stop: int, leave: int
) -> None:
    for purpose, changes, limit in (("entry", {}, entry), ("protect", STOP, stop),
                                    ("exit", {}, leave)):  # fmt: skip
        assert verdict(case(purpose, **changes, **{name: limit - 1})) is None
        assert verdict(case(purpose, **changes, **{name: limit})) == "RATE_MESSAGES"


@pytest.mark.parametrize(
    ("name", "limit"), [("symbol_messages_last_minute", 30), ("symbol_messages_last_hour", 600)]
)
def test_one_symbol_takes_half(name: str, limit: int) -> None:
    assert verdict(case(**{name: limit - 1})) is None
    assert verdict(case(**{name: limit})) == "RATE_SYMBOL_MESSAGES"
    assert verdict(case("exit", **{name: 10_000})) is None
    assert verdict(case("protect", **STOP, **{name: 10_000})) is None


def cancels(world: World, count: int, symbol: str = "SOL/USDT", age_s: float = 0) -> None:
    """Cancels that were sent, as ``cancelling`` notes them."""
    world.ledger.execute(
        "INSERT INTO events (pod, at, kind, detail) SELECT 'test', %s, 'CANCEL_SENT', %s "
        "FROM generate_series(1, %s)",
        (clock.from_ms(clock.now_ms() - round(age_s * 1_000)), json({"symbol": symbol}), count),
    )


@pytest.mark.parametrize(
    ("count", "age_s", "entry", "leave"),
    [
        (59, 0, None, None),
        (60, 0, "RATE_MESSAGES", None),
        (119, 0, "RATE_MESSAGES", None),
        (120, 0, "RATE_MESSAGES", "RATE_MESSAGES"),
        (1_199, 61, None, None),
        (1_200, 61, "RATE_MESSAGES", None),
        (2_399, 3_599, "RATE_MESSAGES", None),
        (2_400, 3_599, "RATE_MESSAGES", "RATE_MESSAGES"),
        (5_000, 3_600, None, None),
    ],
)
def test_a_burst_of_cancels(
    world: World, holding: int, count: int, age_s: float, entry: str | None, leave: str | None
) -> None:
    cancels(world, count, age_s=age_s)
    eth = world.position(ETH)
    assert judge(world, ticket(symbol=ETH), position_id=eth) == entry
    assert judge(world, sale(), purpose="exit", position_id=holding) == leave


def test_orders_and_cancels_count_together_and_by_symbol(world: World) -> None:
    btc, eth = world.position(), world.position(ETH)
    cancels(world, 28, ETH)
    stop = {"side": "sell", "purpose": "protect", "order_type": "stop_limit"}
    world.intent(eth, symbol=ETH, **stop)
    assert judge(world, ticket(symbol=ETH), position_id=eth) is None
    cancels(world, 1, ETH)
    assert judge(world, ticket(symbol=ETH), position_id=eth) == "RATE_SYMBOL_MESSAGES"
    assert judge(world, ticket(), position_id=btc) is None


def test_another_pods_cancels_and_other_events_do_not_count(world: World) -> None:
    cancels(world, 500)
    world.ledger.execute("UPDATE events SET pod = 'other' WHERE event_id % 2 = 0")
    world.ledger.execute("UPDATE events SET kind = 'STOP_DENIED' WHERE event_id % 2 = 1")
    assert judge(world, ticket(), position_id=world.position()) is None


# What rests, by the ledger -----------------------------------------------------------------------

RESTING = {"side": "sell", "purpose": "protect", "order_type": "stop_limit"}


@pytest.mark.parametrize(
    ("order", "counts"),
    [
        ({"order_status": "open"}, True),
        ({"state": "SENDING"}, True),
        ({"state": "UNKNOWN"}, True),
        ({"order_status": "cancelled"}, False),
        ({"order_status": "filled"}, False),
        ({"state": "REJECTED"}, False),
        ({"state": "DEAD"}, False),
        ({"order_status": "open", "symbol": ETH}, False),
        ({"order_status": "open", "venue": "kraken"}, False),
    ],
)
def test_which_stops_take_room(
    world: World, holding: int, order: dict[str, Any], counts: bool
) -> None:
    other = world.position(ETH)
    four_rest(world, other)
    stop = sale(order_type="stop_limit", stop_price=dec(98), limit_price=dec(97))
    assert judge(world, stop, purpose="protect", position_id=holding) is None
    world.intent(other, **RESTING | {"quantity": "0.001"} | order)
    expected = "STOPS_RESTING" if counts else None
    assert judge(world, stop, purpose="protect", position_id=holding) == expected


def four_rest(world: World, position_id: int) -> None:
    for _ in range(4):
        world.intent(position_id, **RESTING, quantity="0.001", order_status="open")


@pytest.mark.parametrize(
    ("mode", "pods", "counts"),
    [
        ("simulated", [("other", "test")], True),  # of a pod that was made from this one's template
        ("simulated", [], False),  # of another project, with keys of its own
        ("paper", [("other", "test")], False),  # on paper each pod is alone
    ],
)
def test_the_venue_counts_by_account(
    world: World, holding: int, mode: Any, pods: list[tuple[str, str]], counts: bool
) -> None:
    for pod, base in pods:
        world.ledger.execute(
            "INSERT INTO pods (pod, base, settings, created_at, created_by) "
            "VALUES (%s, %s, '{}', now(), 'test')",
            (pod, base),
        )
    theirs = world.position(pod="other")
    for _ in range(5):
        world.intent(theirs, **RESTING, order_status="open")
    world.ledger.execute("UPDATE intents SET pod = 'other', mode = %s WHERE position_id = %s",
                         (mode, theirs))  # fmt: skip
    world.ledger.execute("UPDATE orders SET pod = 'other' WHERE intent_id IN "
                         "(SELECT intent_id FROM intents WHERE pod = 'other')")  # fmt: skip
    stop = sale(order_type="stop_limit", stop_price=dec(98), limit_price=dec(97))
    found = judge(world, stop, purpose="protect", position_id=holding, mode=mode)
    assert found == ("STOPS_RESTING" if counts else None)


@pytest.mark.parametrize("under_way", [{"order_status": "open"}, {"state": "UNKNOWN"}])
@pytest.mark.parametrize(
    ("sent_in", "code"),
    [
        ("simulated", "STOPS_RESTING"),
        ("paper", None),  # it rests nowhere
        (None, "STOPS_RESTING"),  # older than the column
    ],
)
def test_what_went_another_way_takes_no_room(
    world: World, holding: int, under_way: dict[str, Any], sent_in: str | None, code: str | None
) -> None:
    other = world.position(ETH)
    for _ in range(5):
        world.intent(other, **RESTING, **under_way)
    world.ledger.execute("UPDATE intents SET mode = %s WHERE position_id = %s", (sent_in, other))
    stop = sale(order_type="stop_limit", stop_price=dec(98), limit_price=dec(97))
    found = judge(world, stop, purpose="protect", position_id=holding, mode="simulated")
    assert found == code


def test_a_base_sees_its_pods_and_a_pod_its_base(world: World, holding: int) -> None:
    world.ledger.execute(
        "INSERT INTO pods (pod, base, settings, created_at, created_by) "
        "VALUES ('test', 'mother', '{}', now(), 'test')"
    )
    theirs = world.position(pod="mother")
    for _ in range(5):
        world.intent(theirs, **RESTING, order_status="open")
    for table in ("intents", "orders"):
        world.ledger.execute(f"UPDATE {table} SET pod = 'mother' WHERE intent_id LIKE 'i%%' AND "  # noqa: S608
                             "intent_id IN (SELECT intent_id FROM intents "
                             "WHERE position_id = %s)", (theirs,))  # fmt: skip
    stop = sale(order_type="stop_limit", stop_price=dec(98), limit_price=dec(97))
    judged = judge(world, stop, purpose="protect", position_id=holding, mode="simulated")
    assert judged == "STOPS_RESTING"


def test_a_position_whose_stop_rests_may_grow(world: World) -> None:
    own, other = world.position(), world.position(ETH)
    four_rest(world, other)
    world.intent(other, **RESTING, quantity="0.001", order_status="open")
    assert judge(world, ticket(), position_id=own) == "STOPS_RESTING"
    world.intent(own, **RESTING, quantity="0.001", order_status="open")
    assert judge(world, ticket(), position_id=own) is None
    assert judge(world, ticket(), position_id=own, market=rules(max_stop_orders=None)) is None
