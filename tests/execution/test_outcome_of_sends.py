"""What a send returns and leaves in the ledger, for every answer that a venue may give."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from execution_bench import Bench
from scripted_venue import ScriptedVenue
from test_intents import intent

from shared import clock
from shared.errors import LeaseLost, VenueUnavailable
from shared.execution import intents, sending
from shared.execution.intents import Intent
from shared.execution.types import OrderResult, OrderTicket, VenueFill, VenueOrder
from shared.ledger import throttles
from shared.risk.controls import conduct

ASK, BID = Decimal("100.05"), Decimal("99.95")
HALF = Decimal("0.25")


def send(bench: Bench, made: Intent | None = None) -> OrderResult:
    venue = bench.venues["binance"]
    book = venue.book("BTC/USDT")
    return sending.send(
        bench.desk()._run, venue, made or intent(bench), venue.rules("BTC/USDT"),
        dataclasses.replace(book, at_ms=clock.now_ms()),
    )  # fmt: skip


def order_row(bench: Bench) -> Any:
    return bench.ledger.one("SELECT status, filled_quantity, average_price FROM orders")


def events(bench: Bench, kind: str) -> list[Any]:
    rows = bench.ledger.query("SELECT detail FROM events WHERE kind = %s", (kind,))
    return [row["detail"] for row in rows]


def test_a_filled_order(bench: Bench) -> None:
    result = send(bench)
    assert result == OrderResult(
        intents.client_order_id("key"), "binance", "BTC/USDT", "buy", Decimal("0.5"), "FILLED",
        Decimal("0.5"), ASK, Decimal(0), "",
    )  # fmt: skip
    assert bench.states() == ["ACKNOWLEDGED"]
    assert order_row(bench) == {
        "status": "filled", "filled_quantity": Decimal("0.5"), "average_price": ASK
    }  # fmt: skip
    assert events(bench, "ORDER_UNKNOWN") == events(bench, "ORDER_STATE_UNREAD") == []


@pytest.mark.parametrize(
    ("share", "outcome", "filled"), [("0.5", "PARTIALLY_FILLED", "0.25"), ("0", "NOT_FILLED", "0")]
)
def test_an_order_that_fills_in_part_or_not_at_all(
    bench: Bench, share: str, outcome: str, filled: str
) -> None:
    bench.venues["binance"].fill_share = Decimal(share)
    result = send(bench)
    assert (result.outcome, result.filled_quantity) == (outcome, Decimal(filled))
    assert bench.held() == Decimal(filled)
    assert order_row(bench)["status"] == "cancelled"


def test_a_rejection_is_final_and_says_why(bench: Bench) -> None:
    bench.venues["binance"].next_submit = "reject"
    result = send(bench)
    assert result == OrderResult(
        intents.client_order_id("key"), "binance", "BTC/USDT", "buy", Decimal("0.5"), "REJECTED",
        Decimal(0), None, Decimal(0), "binance: insufficient funds",
    )  # fmt: skip
    row = bench.ledger.one("SELECT state, error, resolved_at FROM intents")
    assert row == {
        "state": "REJECTED", "error": "binance: insufficient funds", "resolved_at": clock.now()
    }  # fmt: skip
    assert order_row(bench) is None


@pytest.mark.parametrize("fault", ["lose request", "lose answer"])
def test_a_lost_answer_is_unknown_and_an_event(bench: Bench, fault: str) -> None:
    bench.venues["binance"].next_submit = fault
    result = send(bench)
    assert (result.outcome, result.detail) == ("UNKNOWN", "binance: RequestTimeout")
    row = bench.ledger.one("SELECT state, error, resolved_at FROM intents")
    assert row == {"state": "UNKNOWN", "error": "binance: RequestTimeout", "resolved_at": None}
    assert events(bench, "ORDER_UNKNOWN") == [
        {"intent": intents.client_order_id("key"), "error": "binance: RequestTimeout"}
    ]
    assert bench.held() == 0


def test_a_denied_order_leaves_nothing_and_is_not_sent(bench: Bench) -> None:
    result = send(bench, intent(bench, limit_price=Decimal("100.51")))
    assert result.outcome == "DENIED"
    assert result.detail.startswith("PRICE_COLLAR")
    assert bench.states() == []
    assert bench.venues["binance"].sent == []


def test_what_a_denial_decides_outlives_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The denial undoes its transaction; that a strategy waits for a person from now on stays."""
    monkeypatch.setattr(conduct, "MAX_REPEATED_ENTRIES", 0)
    result = send(bench)
    assert (result.outcome, result.detail.split(":")[0]) == ("DENIED", "REPEATED_ENTRIES")
    (tripped,) = throttles.tripped(bench.ledger)
    assert (tripped["symbol"], tripped["strategy"]) == ("BTC/USDT", "momentum")


def test_an_order_for_a_parent_that_does_not_work_is_denied(bench: Bench) -> None:
    result = send(bench, intent(bench, parent_id="gone", slice=0))
    assert (result.outcome, result.detail.split(":")[0]) == ("DENIED", "PARENT_ENDED")
    assert bench.venues["binance"].sent == []


def test_a_run_without_the_lease_writes_and_sends_nothing(bench: Bench) -> None:
    venue, made, run = bench.venues["binance"], intent(bench), bench.desk()._run
    bench.ledger.execute("UPDATE leases SET epoch = epoch + 1, holder = 'another run'")
    with pytest.raises(LeaseLost):
        sending.send(run, venue, made, venue.rules("BTC/USDT"), venue.book("BTC/USDT"))
    assert bench.states() == []
    assert venue.sent == []


@pytest.mark.parametrize(
    ("outcome", "again"),
    [("ACKNOWLEDGED", "UNKNOWN"), ("UNKNOWN", "UNKNOWN"), ("SENDING", "UNKNOWN"),
     ("REJECTED", "REJECTED"), ("DEAD", "NOT_FILLED")],
)  # fmt: skip
def test_a_repeat_tells_what_is_known_and_sends_nothing(
    bench: Bench, outcome: Any, again: str
) -> None:
    made = intent(bench)
    intents.insert(bench.ledger, made, 1, bench.venues["binance"])
    if outcome != "SENDING":
        intents.settle(bench.ledger, made.intent_id, outcome, "said before")
    result = send(bench, made)
    assert (result.intent_id, result.outcome) == (made.intent_id, again)
    assert result.detail == ("" if outcome == "SENDING" else "said before")
    assert bench.venues["binance"].sent == []


def test_a_key_that_another_run_takes_meanwhile_is_denied(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = intent(bench)
    intents.insert(bench.ledger, made, 1, bench.venues["binance"])
    monkeypatch.setattr(intents, "by_key", lambda ledger, key: None)
    result = send(bench, made)
    assert (result.outcome, result.detail) == ("DENIED", "INTENT_EXISTS: logical_key=key")
    assert bench.venues["binance"].sent == []


@pytest.mark.parametrize(("late_ms", "sent"), [(5_000, 1), (5_001, 0)])
def test_an_intent_is_sent_within_five_seconds_or_not_at_all(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, late_ms: int, sent: int
) -> None:
    insert = intents.insert

    def then_stand_still(*arguments: Any) -> bool:
        done = insert(*arguments)
        bench.time.advance(milliseconds=late_ms)
        return done

    monkeypatch.setattr(intents, "insert", then_stand_still)
    result = send(bench)
    assert len(bench.venues["binance"].sent) == sent
    assert result.outcome == ("FILLED" if sent else "REJECTED")
    if not sent:
        assert result.detail == "SEND_LATE: not sent, 0:00:05.001000 after its intent was begun"
        assert bench.states() == ["REJECTED"]


# Fills --------------------------------------------------------------------------------------------


def count(venue: ScriptedVenue, name: str) -> list[tuple[Any, ...]]:
    """The arguments of each call of a method from now on."""
    calls: list[tuple[Any, ...]] = []
    original = getattr(venue, name)

    def counted(*arguments: Any) -> Any:
        calls.append(arguments)
        return original(*arguments)

    setattr(venue, name, counted)
    return calls


def answer_in_full(venue: ScriptedVenue) -> None:
    """The answer to an order tells how it ended, as Binance's does."""
    submit = venue.submit

    def told(ticket: OrderTicket) -> VenueOrder:
        submit(ticket)
        return venue.orders[ticket.client_order_id]

    venue.submit = told  # type: ignore[method-assign]


def test_an_answer_with_the_id_alone_has_its_state_asked_for(bench: Bench) -> None:
    asked = count(bench.venues["binance"], "order")
    assert send(bench).outcome == "FILLED"
    assert asked == [("binance-1", "BTC/USDT")]


def test_an_answer_that_tells_the_end_is_not_asked_about_again(bench: Bench) -> None:
    venue = bench.venues["binance"]
    answer_in_full(venue)
    asked = count(venue, "order")
    assert send(bench).outcome == "FILLED"
    assert asked == []
    assert bench.held() == Decimal("0.5")


def test_fills_are_asked_for_by_the_order(bench: Bench) -> None:
    """By a time, a venue shows one page of those of all orders."""
    asked = count(bench.venues["binance"], "fills_of")
    send(bench)
    assert [order.venue_order_id for (order,) in asked] == ["binance-1"]


def test_where_nothing_filled_no_fills_are_asked_for(bench: Bench) -> None:
    venue = bench.venues["binance"]
    venue.fill_share = Decimal(0)
    asked = count(venue, "fills_of")
    assert send(bench).outcome == "NOT_FILLED"
    assert asked == []


def test_fills_that_are_recorded_are_not_asked_for_again(bench: Bench) -> None:
    venue = bench.venues["binance"]
    made = intent(bench)
    send(bench, made)
    asked = count(venue, "fills_of")
    order = venue.orders[made.intent_id]
    run = bench.desk()._run
    assert sending.import_fills(run, venue, made.intent_id, order) is True
    assert asked == []


def test_fills_of_other_orders_are_left_alone(bench: Bench) -> None:
    venue = bench.venues["binance"]
    send(bench, intent(bench, "first", quantity=Decimal("0.3")))
    venue.executions[0] = dataclasses.replace(venue.executions[0], venue_trade_id="renamed")
    send(bench, intent(bench, "second", quantity=Decimal("0.2")))
    assert bench.held() == Decimal("0.5")


def hide_fills(venue: ScriptedVenue, shown: list[VenueFill]) -> None:
    def fills(symbol: str, since: datetime) -> list[VenueFill]:
        return shown

    venue.fills = fills  # type: ignore[method-assign]


@pytest.mark.parametrize("in_full", [False, True])
def test_an_order_stays_open_in_the_ledger_while_its_fills_are_missing(
    bench: Bench, in_full: bool
) -> None:
    venue, told = bench.venues["binance"], bench.venues["binance"].fills
    if in_full:
        answer_in_full(venue)
    hide_fills(venue, [])
    made = intent(bench)
    assert send(bench, made).outcome == "OPEN"
    assert order_row(bench) == {"status": "open", "filled_quantity": 0, "average_price": None}

    half = dataclasses.replace(told("BTC/USDT", clock.now())[0], quantity=HALF)
    hide_fills(venue, [half])
    run, order = bench.desk()._run, venue.orders[made.intent_id]
    assert sending.import_fills(run, venue, made.intent_id, order) is False
    assert order_row(bench) == {"status": "open", "filled_quantity": HALF, "average_price": ASK}

    hide_fills(venue, [half, dataclasses.replace(half, venue_trade_id="rest")])
    assert sending.import_fills(run, venue, made.intent_id, order) is True
    assert order_row(bench)["status"] == "filled"
    assert bench.held() == Decimal("0.5")


@pytest.mark.parametrize("unread", ["order", "fills"])
def test_a_venue_that_does_not_answer_after_the_send_leaves_the_order_open(
    bench: Bench, unread: str
) -> None:
    def unavailable(*_: Any) -> Any:
        raise VenueUnavailable("binance: RequestTimeout")

    venue = bench.venues["binance"]
    setattr(venue, unread, unavailable)
    assert send(bench).outcome == "OPEN"
    assert bench.states() == ["ACKNOWLEDGED"]
    assert order_row(bench) == {"status": "open", "filled_quantity": 0, "average_price": None}
    intent_id = intents.client_order_id("key")
    assert events(bench, "ORDER_STATE_UNREAD") == [
        {"intent": intent_id, "error": "binance: RequestTimeout"}
    ]
    open_order = dataclasses.replace(venue.orders[intent_id], status="open")
    assert sending.import_fills(bench.desk()._run, venue, intent_id, open_order) is False


def test_an_order_that_was_given_up_stays_so_and_is_an_amendment(bench: Bench) -> None:
    venue, made = bench.venues["binance"], intent(bench)
    intents.insert(bench.ledger, made, 1, venue)
    intents.settle(bench.ledger, made.intent_id, "DEAD", "given up")
    order = venue.submit(made.ticket)
    run = bench.desk()._run
    for _ in range(2):
        sending.acknowledge(run, made.intent_id, "binance", order)
        assert bench.states() == ["DEAD"]
        assert [detail["state"] for detail in events(bench, "ORDER_AMENDED")] == ["DEAD"]


@pytest.mark.parametrize(
    ("filled", "status"), [("0", "cancelled"), ("0.001", "open"), ("0.5", "open")]
)
def test_an_order_that_ended_is_over_at_once_only_where_nothing_filled(
    bench: Bench, filled: str, status: str
) -> None:
    """Else it stays open until its fills are in the ledger, however this run ends."""
    made = intent(bench)
    intents.insert(bench.ledger, made, 1, bench.venues["binance"])
    order = VenueOrder(
        "v-1", made.intent_id, "BTC/USDT", "buy", "cancelled", Decimal("0.5"), Decimal(filled), ASK
    )
    sending.acknowledge(bench.desk()._run, made.intent_id, "binance", order)
    row = order_row(bench)
    assert (row["status"], row["filled_quantity"]) == (status, 0)
    assert bench.states() == ["ACKNOWLEDGED"]


@pytest.mark.parametrize(
    ("state", "status", "filled", "outcome"),
    [
        ("REJECTED", None, "0", "REJECTED"),
        ("DEAD", None, "0", "NOT_FILLED"),
        ("SENDING", None, "0", "UNKNOWN"),
        ("UNKNOWN", None, "0", "UNKNOWN"),
        ("ACKNOWLEDGED", None, "0", "UNKNOWN"),
        ("ACKNOWLEDGED", "open", "0", "OPEN"),
        ("ACKNOWLEDGED", "open", "0.499", "OPEN"),
        ("ACKNOWLEDGED", "open", "0.5", "FILLED"),
        ("ACKNOWLEDGED", "filled", "0.5", "FILLED"),
        ("ACKNOWLEDGED", "filled", "0.499", "PARTIALLY_FILLED"),
        ("ACKNOWLEDGED", "cancelled", "0.001", "PARTIALLY_FILLED"),
        ("ACKNOWLEDGED", "cancelled", "0", "NOT_FILLED"),
        # its order turned up after it was given up: what the venue has counts
        ("DEAD", "open", "0", "OPEN"),
        ("REJECTED", "cancelled", "0.2", "PARTIALLY_FILLED"),
    ],
)
def test_the_outcome_of_a_row(state: str, status: str | None, filled: str, outcome: str) -> None:
    row = {
        "state": state, "order_status": status, "filled_quantity": Decimal(filled),
        "quantity": Decimal("0.5"),
    }  # fmt: skip
    assert sending.outcome_of(row) == outcome
