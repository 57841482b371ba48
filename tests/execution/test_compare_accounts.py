"""Balances: a difference is told, and only a real one."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from execution_bench import Bench
from scripted_venue import ScriptedVenue
from test_resolve import count_requests

from shared import clock
from shared.execution.types import Balance
from shared.ledger import state, transfers


def buy(bench: Bench, size_quote: str = "60") -> None:
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry(size_quote))
    assert [result.outcome for result in desk.work()] == ["FILLED"]


def alerts(bench: Bench) -> list[dict[str, Any]]:
    return bench.ledger.query("SELECT title FROM alerts ORDER BY alert_id")


def while_the_venue_is_asked(venue: ScriptedVenue, *acts: Any) -> list[int]:
    """Let ``acts`` happen after the venue has answered, one an answer; returns the answers."""
    balances, waiting, answers = venue.balances, list(acts), [0]

    def answer() -> dict[str, Balance]:
        said = balances()
        answers[0] += 1
        if waiting:
            waiting.pop(0)()
        return said

    venue.balances = answer  # type: ignore[method-assign]
    return answers


def another_workflow_buys(bench: Bench) -> Any:
    """The position manager adds a fill, to the account and to the ledger."""

    def act() -> None:
        venue = bench.venues["binance"]
        venue.account["BTC"] += Decimal("0.01")
        venue.account["USDT"] -= Decimal(1)
        bench.ledger.execute(
            "INSERT INTO fills SELECT (jsonb_populate_record(f, jsonb_build_object("
            "'venue_trade_id', %s::text, 'quantity', 0.01, 'price', 100, 'fee_cost', 0))).* "
            "FROM fills f LIMIT 1",
            (f"other-{clock.now_ms()}-{venue.account['BTC']}",),
        )

    return act


def test_a_fill_that_lands_between_the_two_readings_is_no_difference(bench: Bench) -> None:
    """The venue answered before it, and the ledger is read after it."""
    buy(bench)
    venue = bench.venues["binance"]
    # what the ledger has read is one fill old already: nothing agrees at the first look
    late = another_workflow_buys(bench)
    venue.account["BTC"] += Decimal("0.01")
    venue.account["USDT"] -= Decimal(1)
    venue_before = dict(venue.account)

    def lands() -> None:
        late()
        venue.account.update(venue_before)

    answers = while_the_venue_is_asked(venue, lands)
    found = bench.desk().reconcile()
    assert found.clean
    assert answers == [1]
    assert alerts(bench) == []


def test_two_fills_around_one_answer_are_looked_at_again(bench: Bench) -> None:
    """The answer is of a moment between them: it agrees with neither reading of the ledger."""
    buy(bench)
    venue = bench.venues["binance"]
    act = another_workflow_buys(bench)

    def two() -> None:
        act()
        act()

    balances = venue.balances
    one_fill = [True]

    def between() -> dict[str, Balance]:
        said = balances()
        if one_fill:
            one_fill.clear()
            said["BTC"] = Balance(said["BTC"].total + Decimal("0.01"), said["BTC"].free)
            two()
        return said

    venue.balances = between  # type: ignore[method-assign]
    found = bench.desk().reconcile()
    assert found.clean
    assert alerts(bench) == []


def test_a_venue_that_never_stands_still_is_busy_and_nobody_is_alarmed(bench: Bench) -> None:
    buy(bench)
    venue = bench.venues["binance"]
    venue.account["BTC"] += Decimal("0.005")  # never equal
    act = another_workflow_buys(bench)
    answers = while_the_venue_is_asked(venue, act, act)
    found = bench.desk().reconcile()
    assert (found.busy, found.differences, found.clean) == (["binance"], [], False)
    assert answers == [2]
    assert alerts(bench) == []
    # once it stands still, the same difference is one
    assert [d["currency"] for d in bench.desk().reconcile().differences] == ["BTC"]


def test_a_difference_that_an_order_in_flight_may_have_made_is_busy(bench: Bench) -> None:
    """Another run's intent is committed, and its order has been filled before it could say so."""
    buy(bench, "30")
    bench.ledger.execute(
        "INSERT INTO intents SELECT (jsonb_populate_record(i, jsonb_build_object('intent_id', "
        "'x', 'client_order_id', 'x', 'logical_key', 'x', 'state', 'SENDING'))).* FROM intents i"
    )
    bench.venues["binance"].account["USDT"] -= Decimal(10)
    found = bench.desk().reconcile()
    assert (found.busy, found.differences, found.clean) == (["binance"], [], False)
    assert alerts(bench) == []


def test_an_order_that_fills_after_it_was_refreshed_is_no_difference(bench: Bench) -> None:
    """It rested when it was asked for, and was filled when the balances were."""
    buy(bench)
    venue = bench.venues["binance"]
    intent = bench.ledger.one("SELECT intent_id FROM intents")
    assert intent is not None
    filled = venue.orders[intent["intent_id"]]
    bench.ledger.execute("DELETE FROM fills")
    bench.ledger.execute("UPDATE orders SET status = 'open', filled_quantity = 0")
    resting = replace(filled, status="open", filled_quantity=Decimal(0), average_price=None)
    answers = [resting]
    order = venue.order
    venue.order = lambda *key: answers.pop() if answers else order(*key)  # type: ignore[method-assign]
    found = bench.desk().reconcile()
    assert found.clean
    assert bench.held() == venue.account["BTC"]
    assert alerts(bench) == []


def test_fills_that_a_venue_does_not_tell_are_not_a_difference(bench: Bench) -> None:
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry())
    venue = bench.venues["binance"]
    venue.fills = lambda symbol, since: []  # type: ignore[method-assign]
    desk.work()
    found = bench.desk().reconcile()
    assert (found.busy, found.differences, found.clean) == (["binance"], [], False)
    assert len(found.unread) == 1
    assert alerts(bench) == []


@pytest.mark.parametrize("currency", ["BNB", "EUR"])
def test_a_currency_that_the_ledger_has_ever_moved_is_compared(bench: Bench, currency: str) -> None:
    """Fees are taken in it, so that it is bought and spent like money."""
    transfers.book(bench.ledger, "binance", currency, Decimal(2), note="for fees", booked_by="test")
    found = bench.desk().reconcile()
    assert [(d["currency"], d["difference"]) for d in found.differences] == [(currency, "-2")]
    bench.venues["binance"].account[currency] = Decimal(2)
    assert bench.desk().reconcile().clean


def test_fees_in_a_third_currency_are_compared(bench: Bench) -> None:
    venue = bench.venues["binance"]
    fetch = venue.fills
    venue.fills = lambda symbol, since: [  # type: ignore[method-assign]
        replace(f, fee_cost=Decimal("0.25"), fee_currency="BNB") for f in fetch(symbol, since)
    ]
    transfers.book(bench.ledger, "binance", "BNB", Decimal(1), note="in", booked_by="test")
    venue.account["BNB"] = Decimal(1)
    fee_bps, venue.fee_bps = venue.fee_bps, Decimal(0)
    buy(bench)
    venue.fee_bps = fee_bps
    found = bench.desk().reconcile()
    assert [(d["currency"], d["difference"]) for d in found.differences] == [("BNB", "0.25")]
    venue.account["BNB"] = Decimal("0.75")
    assert bench.desk().reconcile().clean


def test_a_difference_tells_both_totals_once_an_hour_and_how_to_book_it(bench: Bench) -> None:
    venue = bench.venues["binance"]
    venue.account["USDT"] += Decimal(25)
    for _ in range(3):
        assert len(bench.desk().reconcile().differences) == 1
    events = bench.ledger.query("SELECT detail FROM events WHERE kind = 'RECONCILE_DIFFERENCE'")
    assert [event["detail"] for event in events] == [
        {"venue": "binance", "currency": "USDT", "venue_total": "10025", "ledger_total": "10000",
         "difference": "25"}
    ]  # fmt: skip
    row = bench.ledger.one("SELECT body FROM alerts")
    assert row is not None
    assert "trading-loop transfer binance USDT 25 --note TEXT" in row["body"]
    assert state.read(bench.ledger).state == "ACTIVE"
    # a person does what it says
    transfers.book(bench.ledger, "binance", "USDT", Decimal(25), note="gift", booked_by="test")
    assert bench.desk().reconcile().clean


def test_an_equal_account_is_asked_once_and_read_once(bench: Bench) -> None:
    buy(bench)
    asked = count_requests(bench.venues["binance"])
    assert bench.desk().reconcile().clean
    assert sorted(asked) == ["balances", "open_orders"]
