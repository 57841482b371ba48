"""Orders of unknown outcome: who is asked, until when, and when a person hears of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

import pytest
from execution_bench import Bench

from shared.execution.desk import Desk
from shared.execution.intents import QUARANTINE
from shared.execution.reconciling.findings import TELL_AFTER
from shared.execution.venues.paper import PaperVenue

UNKNOWN_ALERT = "binance: nobody knows what became of an order in BTC/USDT"


def leave_unknown(bench: Bench, fault: str = "lose request") -> str:
    """An entry is sent and nothing is heard of it; returns its intent."""
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry())
    venue = bench.venues["binance"]
    venue.next_submit = fault
    assert [result.outcome for result in desk.work()] == ["UNKNOWN"]
    return venue.sent[-1].client_order_id


def titles(bench: Bench) -> list[str]:
    rows = bench.ledger.query("SELECT title FROM alerts WHERE severity = 'HIGH' ORDER BY at")
    return [row["title"] for row in rows]


def test_the_intent_says_how_and_until_when_it_was_sent(bench: Bench) -> None:
    venue = bench.venues["binance"]
    venue.request_validity = timedelta(seconds=17)
    venue.mode = "live"
    bench.arm()
    leave_unknown(bench)
    row = bench.ledger.one("SELECT mode, valid_until - sent_at AS validity FROM intents")
    assert row == {"mode": "live", "validity": timedelta(seconds=17)}


@pytest.mark.parametrize(("validity_s", "dead"), [(30, True), (31, False)])
def test_nothing_is_dead_while_its_request_may_still_be_worked_on(
    bench: Bench, validity_s: int, dead: bool
) -> None:
    """120 s and a little after it was sent: 30 s of validity and 90 s of quarantine are over."""
    bench.venues["binance"].request_validity = timedelta(seconds=validity_s)
    leave_unknown(bench)
    assert timedelta(seconds=90) == QUARANTINE
    bench.time.advance(seconds=60.5)
    bench.desk().reconcile()
    assert bench.states() == (["DEAD"] if dead else ["UNKNOWN"])


@pytest.mark.parametrize("mode", ["simulated", "live"])
def test_paper_is_never_asked_about_what_was_really_sent(
    bench: Bench, mode: Literal["simulated", "live"]
) -> None:
    """It may rest at the real venue, of which paper knows nothing."""
    bench.arm()
    venue = bench.venues["binance"]
    venue.mode = mode
    intent_id = leave_unknown(bench, "lose answer")
    for _ in range(20):
        desk = Desk(bench.desk()._run, {"binance": PaperVenue(venue, bench.ledger)})
        found = desk.reconcile()
        assert found.still_unknown == [intent_id]
        assert not found.clean
        assert desk.work() == []
    assert bench.states() == ["UNKNOWN"]
    assert titles(bench) == [UNKNOWN_ALERT]
    body = bench.ledger.one("SELECT body FROM alerts")
    assert body is not None
    assert f"it was sent {mode}, and this run is paper" in body["body"]
    # armed again, it is found
    assert bench.desk().reconcile().resolved == [intent_id]
    assert bench.held() == venue.account["BTC"] > 0


def test_an_open_order_of_another_mode_is_asked_of_nobody(bench: Bench) -> None:
    venue = bench.venues["binance"]
    venue.mode = "live"
    bench.arm()
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry())
    fills = venue.fills
    venue.fills = lambda symbol, since: []  # type: ignore[method-assign]
    desk.work()
    asked: list[str] = []
    venue.mode, order = "simulated", venue.order

    def ask(venue_order_id: str, symbol: str) -> Any:
        asked.append(venue_order_id)
        return order(venue_order_id, symbol)

    venue.order = ask  # type: ignore[method-assign]
    found = bench.desk().reconcile(compare_accounts=False)
    assert asked == []
    assert found.unread == ["binance: binance-1 was sent live"]
    assert titles(bench) == ["binance: an order of live trading is open, and this run is simulated"]
    venue.mode, venue.fills = "live", fills  # type: ignore[method-assign]
    bench.desk().reconcile(compare_accounts=False)
    assert asked == ["binance-1"]
    assert bench.held() == venue.account["BTC"] > 0


def test_a_person_hears_of_it_after_ten_minutes_and_then_once_an_hour(bench: Bench) -> None:
    intent_id = leave_unknown(bench)
    venue = bench.venues["binance"]
    venue.down = True
    for minute in range(1, 100):
        bench.desk().reconcile(compare_accounts=False)
        told = [title for title in titles(bench) if title == UNKNOWN_ALERT]
        over = timedelta(minutes=minute) > TELL_AFTER
        # sent one minute past midnight: told at 00:12, then with the hour
        assert len(told) == (0 if not over else 2 if minute >= 59 else 1)
    row = bench.ledger.one("SELECT body FROM alerts ORDER BY at LIMIT 1")
    assert row is not None
    assert intent_id in row["body"]
    assert "2025-05-06T00:01:00Z" in row["body"]
    assert "ExchangeNotAvailable" in row["body"]


def test_fills_that_a_venue_never_tells_are_told_to_a_person(bench: Bench) -> None:
    venue = bench.venues["binance"]
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry())
    venue.fills = lambda symbol, since: []  # type: ignore[method-assign]
    desk.work()
    for minute in range(1, 15):
        found = bench.desk().reconcile(compare_accounts=False)
        assert len(found.unread) == 1
        assert titles(bench) == (
            ["binance: fills of an order in BTC/USDT are missing"]
            if timedelta(minutes=minute) > TELL_AFTER
            else []
        )


def test_a_venue_that_is_not_configured_any_more_leaves_its_order_unknown(bench: Bench) -> None:
    intent_id = leave_unknown(bench)
    for _ in range(15):
        found = Desk(bench.desk()._run, {}).reconcile()
    assert found.still_unknown == [intent_id]
    assert titles(bench) == [UNKNOWN_ALERT]


def test_a_quiet_minute_asks_the_venues_nothing(bench: Bench) -> None:
    venue = bench.venues["binance"]
    asked = count_requests(venue)
    bench.desk().reconcile(compare_accounts=False)
    assert asked == []
    bench.desk().reconcile()
    assert sorted(asked) == ["balances", "open_orders"]


def count_requests(venue: Any) -> list[str]:
    asked: list[str] = []
    for name in ("find_order", "order", "open_orders", "fills", "balances", "quotes"):
        original = getattr(venue, name)

        def ask(*arguments: Any, _name: str = name, _original: Any = original) -> Any:
            asked.append(_name)
            return _original(*arguments)

        setattr(venue, name, ask)
    return asked
