"""What the gate is told of the ledger: each kind of row, in which sum it counts and in which not.

The order that asks buys BTC/USDT at 100 on binance. Sums are compared as a whole, so that a row
that counts where it should not is noticed as well as one that does not count.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from shared import clock
from shared.execution.types import OrderTicket
from shared.ledger import events
from shared.ledger.connection import json
from shared.risk import facts
from shared.risk.facts import Facts
from tests.risk.world import BTC, ETH, World, dec, make_run, ticket

PENDING = (
    "symbol_pending_buy_quote",
    "others_pending_buy_quote",
    "other_sleeve_pending_buy_quote",
    "venue_pending_buy_quote",
    "unresolved",
    "pending_sell_quantity",
    "unknown_stop_quantity",
    "opposing",
)
MESSAGES = (
    "messages_last_hour",
    "messages_last_minute",
    "symbol_messages_last_hour",
    "symbol_messages_last_minute",
)
RATES = ("orders_last_hour", "orders_last_minute", "stops_last_hour", "stops_last_minute")

# What an order of 2 at 30 adds where it counts in full.
BUY = {"symbol_pending_buy_quote": 60, "venue_pending_buy_quote": 60}
SELL = {"pending_sell_quantity": 2}
OPEN = {"order_status": "open"}
STOP = {"side": "sell", "purpose": "protect", "order_type": "stop_limit"}


def ask(world: World, position_id: int, order: OrderTicket | None = None) -> Facts:
    return facts.fetch(world.run, order or ticket(), position_id, clock.now_ms(), "paper")


def some(found: Facts, names: tuple[str, ...]) -> dict[str, Any]:
    """The fields that are not zero."""
    return {name: value for name, value in asdict(found).items() if name in names and value}


def ago(**duration: float) -> Any:
    return clock.now() - timedelta(**duration)


def place(world: World, position_id: int, *, age_s: float = 0, **changes: Any) -> str:
    row: dict[str, Any] = {"quantity": 2, "limit_price": 30} | changes
    return world.intent(position_id, sent_at=ago(seconds=age_s), **row)


def give_to_another_pod(world: World) -> None:
    for table in ("intents", "orders", "fills"):
        world.ledger.execute(f"UPDATE {table} SET pod = 'other'")  # noqa: S608 - names from above


@pytest.fixture
def position(world: World) -> int:
    return world.position()


@pytest.mark.parametrize(
    ("order", "counts"),
    [
        # nobody knows what became of it: full size
        ({"state": "SENDING"}, BUY | {"unresolved": 1}),
        ({"state": "UNKNOWN"}, BUY | {"unresolved": 1}),
        ({"state": "UNKNOWN", **OPEN}, BUY | {"unresolved": 1}),  # once, not twice
        ({"state": "SENDING", "venue": "kraken"},
         {"symbol_pending_buy_quote": 60, "unresolved": 1}),
        ({"state": "SENDING", "symbol": ETH},
         {"others_pending_buy_quote": 60, "venue_pending_buy_quote": 60}),
        ({"state": "SENDING", "symbol": ETH, "venue": "kraken"}, {"others_pending_buy_quote": 60}),
        ({"state": "UNKNOWN", "side": "sell"}, SELL | {"unresolved": 1}),
        ({"state": "UNKNOWN", "side": "sell", "venue": "kraken"}, {"unresolved": 1}),
        ({"state": "SENDING", "side": "sell", "age_s": 600}, SELL | {"unresolved": 1}),
        # it is over, or the venue has not been heard of it
        ({"state": "REJECTED"}, {}),
        ({"state": "DEAD"}, {}),
        ({"state": "ACKNOWLEDGED"}, {}),
        ({"order_status": "cancelled"}, {}),
        # it rests: what is left of it
        (OPEN, BUY),
        (OPEN | {"venue": "kraken"}, {"symbol_pending_buy_quote": 60}),
        (OPEN | {"age_s": 7_200}, BUY),
        (OPEN | {"age_s": 7_200, "filled": "0.5"},
         {"symbol_pending_buy_quote": 45, "venue_pending_buy_quote": 45}),
        (OPEN | {"side": "sell", "limit_price": 101}, SELL),
        (OPEN | {"side": "sell", "limit_price": 101, "venue": "kraken"}, {}),
        # it has filled, and the fills are not in the ledger yet: an hour long
        (OPEN | {"filled": "0.5"}, BUY),
        ({"order_status": "filled", "filled": 2}, BUY),
        ({"order_status": "cancelled", "filled": "0.5"},
         {"symbol_pending_buy_quote": 15, "venue_pending_buy_quote": 15}),
        ({"order_status": "filled", "filled": 2, "age_s": 3_599.999}, BUY),
        ({"order_status": "filled", "filled": 2, "age_s": 3_600}, {}),
        ({"order_status": "filled", "filled": 2, "side": "sell", "limit_price": 101}, SELL),
    ],
)  # fmt: skip
def test_an_order_under_way_counts(
    world: World, position: int, order: dict[str, Any], counts: dict[str, int]
) -> None:
    place(world, position, **order)
    assert some(ask(world, position), PENDING) == counts
    give_to_another_pod(world)
    assert some(ask(world, position), PENDING) == {}


def test_buys_under_way_count_by_sleeve(world: World, position: int) -> None:
    core, eth = world.position(sleeve="core"), world.position(ETH, sleeve="core")
    place(world, core, state="UNKNOWN", quantity=1, limit_price=7)
    place(world, eth, symbol=ETH, quantity=1, limit_price=11, **OPEN)
    found = ask(world, position)
    assert (found.symbol_pending_buy_quote, found.others_pending_buy_quote) == (0, 0)
    assert found.other_sleeve_pending_buy_quote == 18
    assert found.venue_pending_buy_quote == 18  # the cash is the same
    assert found.unresolved == 1  # and so is the symbol
    seen_by_core = ask(world, core)
    assert seen_by_core.symbol_pending_buy_quote == 7
    assert seen_by_core.others_pending_buy_quote == 11
    assert seen_by_core.other_sleeve_pending_buy_quote == 0


@pytest.mark.parametrize("order", [{"state": "UNKNOWN"}, OPEN])
def test_a_sale_of_another_position_claims_nothing_of_this_one(
    world: World, position: int, order: dict[str, Any]
) -> None:
    other = world.position(sleeve="core")
    place(world, other, side="sell", limit_price=101, **order)
    place(world, other, **STOP, state="UNKNOWN")
    found = ask(world, position)
    assert (found.pending_sell_quantity, found.unknown_stop_quantity) == (0, 0)


def test_fills_of_other_orders_are_not_those_of_this_one(world: World, position: int) -> None:
    world.fill(position, 2)  # the same position, but another order
    other = world.position(sleeve="core")
    place(world, position, order_status="filled", filled=2)
    world.fill(other, 2)
    assert some(ask(world, position), PENDING) == BUY


@pytest.mark.parametrize(("recorded", "missing_quote"), [("0.5", 45), ("2", 0)])
def test_fills_that_are_recorded_are_held_and_no_longer_under_way(
    world: World, position: int, recorded: str, missing_quote: int
) -> None:
    world.fill(position, 2)
    world.ledger.execute("UPDATE intents SET sent_at = %s, limit_price = 30", (clock.now(),))
    world.ledger.execute("UPDATE fills SET quantity = %s", (dec(recorded),))
    found = ask(world, position)
    assert found.symbol_pending_buy_quote == missing_quote
    assert found.symbol_held_quantity == dec(recorded)


@pytest.mark.parametrize(
    ("stop", "unknown"),
    [
        ({"state": "UNKNOWN"}, 2),
        ({"state": "SENDING", "age_s": 60}, 2),  # the run that sent it is dead
        ({"state": "SENDING", "age_s": 59.999}, 0),
        ({"state": "UNKNOWN", "purpose": "exit"}, 0),
        ({"state": "SENDING", "age_s": 60, "purpose": "exit"}, 0),
        (OPEN, 0),
    ],
)
def test_a_stop_of_unknown_fate(
    world: World, position: int, stop: dict[str, Any], unknown: int
) -> None:
    place(world, position, **(STOP | stop))
    found = ask(world, position)
    assert (found.pending_sell_quantity, found.unknown_stop_quantity) == (2, unknown)
    elsewhere = ask(world, position, ticket(venue="kraken"))
    assert (elsewhere.pending_sell_quantity, elsewhere.unknown_stop_quantity) == (0, 0)


@pytest.mark.parametrize(
    ("ours", "resting", "opposing"),
    [
        ("buy", {"side": "sell", "limit_price": 100}, 1),
        ("buy", {"side": "sell", "limit_price": "100.01"}, 0),
        ("sell", {"side": "buy", "limit_price": 100}, 1),
        ("sell", {"side": "buy", "limit_price": "99.99"}, 0),
        ("buy", {"side": "buy", "limit_price": 100}, 0),
        ("sell", {"side": "sell", "limit_price": 100}, 0),
        ("buy", {"side": "sell", "limit_price": 100, "venue": "kraken"}, 0),
        ("buy", {"side": "sell", "limit_price": 100, "symbol": ETH}, 0),
        ("buy", {"side": "sell", "limit_price": 100, "order_type": "stop_limit"}, 0),
        ("buy", {"side": "sell", "limit_price": 100, "order_type": "stop_market"}, 0),
        ("buy", {"side": "sell", "limit_price": 100, "order_status": "filled"}, 0),
        ("buy", {"side": "sell", "limit_price": 100, "state": "UNKNOWN"}, 0),  # it is unresolved
        ("buy", {"side": "sell", "limit_price": 100, "order_status": "cancelled", "filled": 1}, 1),
    ],
)
def test_an_order_of_ours_on_the_other_side(
    world: World, position: int, ours: str, resting: dict[str, Any], opposing: int
) -> None:
    place(world, position, **(OPEN | resting))
    assert ask(world, position, ticket(side=ours)).opposing == opposing


def test_an_intent_does_not_count_against_itself(world: World, position: int) -> None:
    place(world, position, state="SENDING")
    row = world.ledger.one("SELECT client_order_id FROM intents")
    assert row is not None
    found = ask(world, position, ticket(client_order_id=row["client_order_id"]))
    assert some(found, PENDING + RATES) == {}


# Holdings ----------------------------------------------------------------------------------------


def test_a_ledger_without_trades_holds_nothing(world: World, position: int) -> None:
    found = ask(world, position)
    assert (found.symbol_held_quantity, found.others_held_quote, found.other_positions) == (0, 0, 0)
    assert some(found, PENDING + RATES) == {}
    assert ask(world, position, ticket(symbol=ETH)).symbol_held_quantity == 0  # nor a position


def test_what_the_symbol_and_the_others_hold(world: World, position: int) -> None:
    world.fill(position, 3)
    world.fill(position, 1, side="sell")
    world.ledger.execute("UPDATE fills SET fee_cost = 0.1, fee_currency = 'BTC' WHERE side = 'buy'")
    core = world.position(sleeve="core")
    world.fill(core, 4, venue="kraken", price=20)  # the symbol in the other sleeve
    world.fill(world.position("SOL/USDT", sleeve="core"), 1, symbol="SOL/USDT", price=30)
    eth = world.position(ETH)
    world.fill(eth, 5, symbol=ETH, price=10)
    show(world, "binance", ETH, bid=12, ask=14)
    show(world, "kraken", ETH, bid=10, ask=12)
    world.position("SOL/USDT", closed_at=clock.now(), close_reason="stop")
    found = ask(world, position)
    assert found.position_symbol == BTC
    assert found.sleeve == "tactical"
    assert found.symbol_held_quantity == Decimal("1.9")  # 3 - 0.1 - 1
    assert found.others_held_quote == 65  # 5 at 13, the higher of the two mids
    assert found.other_sleeve_held_quote == 110  # 4 at 20, 1 at 30
    assert found.other_positions == 1
    seen_by_core = ask(world, core)
    assert (seen_by_core.sleeve, seen_by_core.symbol_held_quantity) == ("core", 4)
    assert (seen_by_core.others_held_quote, seen_by_core.other_positions) == (30, 1)
    assert seen_by_core.other_sleeve_held_quote == 65 + Decimal("1.9") * 100
    assert ask(world, position, ticket(symbol=ETH)).symbol_held_quantity == 5


def show(world: World, venue: str, symbol: str, *, bid: float, ask: float) -> None:
    world.price(venue, symbol, bid)
    world.ledger.execute(
        "UPDATE prices SET ask = %s WHERE venue = %s AND symbol = %s", (dec(ask), venue, symbol)
    )


@pytest.mark.parametrize(("age_s", "worth"), [(599.999, 20), (600, 15)])
def test_a_holding_is_worth_its_price_of_ten_minutes_or_what_it_cost(
    world: World, position: int, age_s: float, worth: int
) -> None:
    other = world.position(ETH)
    world.fill(other, 1, symbol=ETH, price=10)
    world.fill(other, 1, symbol=ETH, price=20)
    world.fill(other, 1, symbol=ETH, price=50, side="sell")
    world.price("binance", ETH, 20, at=ago(seconds=age_s))
    world.price("binance", "SOL/USDT", 900)
    assert ask(world, position).others_held_quote == worth  # one is left


def test_the_average_entry_weighs_quantities(world: World, position: int) -> None:
    other = world.position(ETH)
    world.fill(other, 3, symbol=ETH, price=10)
    world.fill(other, 1, symbol=ETH, price=30)
    assert ask(world, position).others_held_quote == 60  # 4 at 15


def test_positions_that_are_closed_or_of_another_pod_hold_nothing(
    world: World, position: int
) -> None:
    closed = world.position(ETH, closed_at=clock.now(), close_reason="stop")
    strange = world.position(ETH, pod="other")
    for other in (closed, strange):
        world.fill(other, 1, symbol=ETH)
    found = ask(world, position)
    assert (found.others_held_quote, found.other_positions) == (0, 0)
    assert ask(world, closed).position_symbol is None
    assert ask(world, strange).position_symbol is None


def test_prices_of_another_pod_value_nothing(world: World, position: int) -> None:
    world.fill(world.position(ETH), 1, symbol=ETH, price=10)
    world.price("binance", ETH, 500)
    world.price("kraken", BTC, 500)
    world.ledger.execute("UPDATE prices SET pod = 'other'")
    found = ask(world, position)
    assert (found.others_held_quote, found.other_venue_mids) == (10, None)


def test_what_the_position_holds_on_the_orders_venue(world: World, position: int) -> None:
    assert ask(world, position).held_on_venue is None
    world.fill(position, 3, venue="kraken")
    world.fill(world.position(sleeve="core"), 4)
    assert ask(world, position).held_on_venue is None
    world.fill(position, 2)
    assert ask(world, position).held_on_venue == 2


def test_the_cash_of_the_orders_venue(world: World, position: int) -> None:
    world.transfer("binance", "EUR", 7)
    world.ledger.execute(
        "INSERT INTO transfers (pod, venue, currency, amount, at, note) "
        "VALUES ('other', 'binance', 'USDT', 9, %s, 'of another pod')",
        (clock.now(),),
    )
    assert ask(world, position).venue_cash_quote == 6_000
    assert ask(world, position, ticket(venue="coinbase")).venue_cash_quote is None


# Other venues, rates, the run --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age_s", "counts"), [(90, True), (90.001, False), (0, True), (-1, True), (-1.001, False)]
)
def test_what_other_venues_showed_within_90_seconds(
    world: World, position: int, age_s: float, counts: bool
) -> None:
    show(world, "kraken", BTC, bid=101, ask=103)
    world.price("binance", BTC, 77)
    world.price("kraken", ETH, 55)
    world.ledger.execute("UPDATE prices SET at = %s", (ago(seconds=age_s),))
    assert ask(world, position).other_venue_mids == ([102] if counts else None)


@pytest.mark.parametrize(
    ("age_s", "purpose", "counts"),
    [
        (0, "entry", {"orders_last_hour": 1, "orders_last_minute": 1}),
        (59.999, "entry", {"orders_last_hour": 1, "orders_last_minute": 1}),
        (60, "entry", {"orders_last_hour": 1}),
        (3_599.999, "entry", {"orders_last_hour": 1}),
        (3_600, "entry", {}),
        (59.999, "protect", dict.fromkeys(RATES, 1)),
        (60, "protect", {"orders_last_hour": 1, "stops_last_hour": 1}),
        (3_599.999, "protect", {"orders_last_hour": 1, "stops_last_hour": 1}),
        (3_600, "protect", {}),
    ],
)
def test_orders_of_the_last_minute_and_hour(
    world: World, position: int, age_s: float, purpose: str, counts: dict[str, int]
) -> None:
    place(world, position, age_s=age_s, purpose=purpose, state="REJECTED")
    assert some(ask(world, position), RATES) == counts
    give_to_another_pod(world)
    assert some(ask(world, position), RATES) == {}


@pytest.mark.parametrize("is_cancel", [False, True])
@pytest.mark.parametrize("symbol", [BTC, ETH])
@pytest.mark.parametrize(
    ("age_s", "windows"),
    [(0, 2), (59.999, 2), (60, 1), (119, 1), (3_599.999, 1), (3_600, 0)],
)
def test_orders_and_cancels_of_the_last_minute_and_hour(
    world: World, position: int, is_cancel: bool, symbol: str, age_s: float, windows: int
) -> None:
    if is_cancel:
        world.ledger.execute(
            "INSERT INTO events (pod, kind, detail, at) VALUES ('test', %s, %s, %s)",
            (events.CANCEL_SENT, json({"symbol": symbol}), ago(seconds=age_s)),
        )
    else:
        place(world, position, age_s=age_s, symbol=symbol, state="REJECTED")
    seen = ("messages_last_hour", "messages_last_minute")[:windows]
    own = tuple(f"symbol_{name}" for name in seen) if symbol == BTC else ()
    assert some(ask(world, position), MESSAGES) == dict.fromkeys((*seen, *own), 1)
    for table in ("intents", "events"):
        world.ledger.execute(f"UPDATE {table} SET pod = 'other'")  # noqa: S608 - names from above
    assert some(ask(world, position), MESSAGES) == {}


def test_the_start_of_the_run_that_asks(world: World, position: int) -> None:
    started_at = clock.now()
    world.run.run_id = make_run(world.ledger, "position_manager").run_id
    world.ledger.execute(
        "UPDATE runs SET started_at = %s WHERE run_id <> %s", (ago(seconds=9), world.run.run_id)
    )
    assert ask(world, position).run_started_at == started_at
