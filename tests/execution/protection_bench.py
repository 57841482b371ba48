"""What tests of protection ask of a bench: an open position, the stops that rest, what is naked."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from typing import Any

from execution_bench import Bench
from scripted_venue import ScriptedVenue

from shared import clock
from shared.execution.desk import Desk
from shared.execution.exits import covers
from shared.execution.types import OrderTicket
from shared.ledger.connection import Row


def buy(bench: Bench, size_quote: str = "60") -> int:
    """A filled entry, not protected yet; returns the position. The stop is decided at 98."""
    desk = bench.desk()
    desk.reconcile()
    strategy = f"of {clock.now():%H:%M}"  # a new one each time, or the gate would throttle it
    desk.enter(dataclasses.replace(bench.entry(size_quote), strategy=strategy))
    assert [result.outcome for result in desk.work()] == ["FILLED"]
    row = bench.ledger.one("SELECT max(position_id) AS id FROM positions")
    assert row is not None
    return int(row["id"])


def protected(bench: Bench, size_quote: str = "60") -> int:
    """An open position with its stop."""
    position_id = buy(bench, size_quote)
    next_run(bench).protect()
    assert len(bench.venues["binance"].stops) == 1
    return position_id


def next_run(bench: Bench) -> Desk:
    """The desk of the next minute, reconciled."""
    desk = bench.desk()
    desk.reconcile(compare_accounts=False)
    return desk


def stop_at(bench: Bench, price: str) -> None:
    bench.ledger.execute("UPDATE positions SET stop_price = %s", (Decimal(price),))


def resting(venue: ScriptedVenue) -> list[tuple[Decimal, Decimal]]:
    """Quantity and trigger of each stop that rests, as the venue has it."""
    return [(_rest(venue, ticket), _trigger(ticket)) for ticket in venue.stops.values()]


def intervals(bench: Bench) -> list[Row]:
    return bench.ledger.query(
        "SELECT why, extract(epoch FROM until - since)::int AS seconds FROM naked_intervals "
        "ORDER BY interval_id"
    )


def kinds(bench: Bench) -> list[str]:
    """The kinds of events that tell of stops and exits."""
    rows = bench.ledger.query(
        "SELECT kind FROM events WHERE kind LIKE 'STOP%%' OR kind LIKE 'EXIT%%' ORDER BY event_id",
        {},
    )
    return [row["kind"] for row in rows]


def close_reason(bench: Bench, position_id: int) -> Any:
    row = bench.ledger.one(
        "SELECT close_reason FROM positions WHERE position_id = %s", (position_id,)
    )
    assert row is not None
    return row["close_reason"]


def assert_protected(bench: Bench, *, reached: bool = False) -> None:
    """Each holding has one stop for exactly what is held and not under way; nothing else rests.

    Args:
        reached: the price is at the stop or below: what is held may be without one.
    """
    for venue in bench.venues.values():
        assert venue.locked() <= venue.account.get("BTC", Decimal(0))
        known = [cover for cover in covers.of_pod(bench.ledger) if cover.venue == venue.name]
        expected = [covers.wanted(cover, venue.rules(cover.symbol)) for cover in known]
        quantities = [stop.quantity for stop in expected if stop.quantity > 0]
        found = [quantity for quantity, _ in resting(venue)]
        assert found == quantities or (reached and found == [])
        assert [cover.resting for cover in known if cover.stops] == found


def _rest(venue: ScriptedVenue, ticket: OrderTicket) -> Decimal:
    return ticket.quantity - venue.orders[ticket.client_order_id].filled_quantity


def _trigger(ticket: OrderTicket) -> Decimal:
    assert ticket.stop_price is not None
    return ticket.stop_price
