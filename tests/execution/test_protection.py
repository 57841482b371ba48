"""A stop rests on the venue for all that is held: placed, replaced, and never simply removed."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from execution_bench import Bench
from protection_bench import (
    assert_protected,
    buy,
    close_reason,
    intervals,
    kinds,
    next_run,
    protected,
    resting,
    stop_at,
)
from scripted_venue import ScriptedVenue

from shared.execution.exits import naked
from shared.ledger import alerts, state

HELD = Decimal("0.597")  # 60 USDT at 100.05 with its fee, on the step of 0.001


def test_a_stop_rests_for_what_was_bought(bench: Bench) -> None:
    buy(bench)
    done = next_run(bench).protect()
    venue = bench.venues["binance"]
    assert resting(venue) == [(bench.held(), Decimal("98.00"))]
    ticket = venue.sent[-1]
    assert (ticket.order_type, ticket.time_in_force, ticket.side) == ("stop_limit", "GTC", "sell")
    assert ticket.limit_price == Decimal("96.04")  # 2 % below
    assert (done.placed, done.stops, done.naked) == (1, 1, 0)
    assert_protected(bench)


def test_a_venue_names_the_kind_of_stop(bench: Bench) -> None:
    bench.venues["binance"].protection = "stop_market"
    buy(bench)
    next_run(bench).protect()
    assert bench.venues["binance"].sent[-1].order_type == "stop_market"


def test_a_quiet_minute_asks_no_venue_anything(bench: Bench, monkeypatch: Any) -> None:
    protected(bench)
    desk = next_run(bench)
    bench.venues["binance"].down = True  # every request would fail
    before = len(bench.venues["binance"].sent)
    done = desk.protect()
    assert (done.stops, done.naked, done.placed, done.refused) == (1, 0, 0, 0)
    assert len(bench.venues["binance"].sent) == before
    assert "STOP_DELAYED" not in kinds(bench)


@pytest.mark.parametrize("trading", ["REDUCING", "HALTED"])
def test_what_is_naked_is_protected_in_every_state(bench: Bench, trading: Any) -> None:
    buy(bench)
    state.tighten(bench.ledger, trading, reason="test", set_by="test")
    next_run(bench).protect()
    assert_protected(bench)


def test_more_fills_replace_the_stop_by_a_larger_one(bench: Bench) -> None:
    position_id = protected(bench, "40")
    venue = bench.venues["binance"]
    desk = bench.desk()
    desk.add(position_id, Decimal(30), Decimal(100), "pyramid")
    for _ in range(4):
        desk = next_run(bench)
        desk.work()
        desk.protect()
        assert_protected(bench)
    assert bench.held() > Decimal("0.6")
    assert len(venue.stops) == 1
    assert len(venue.cancels) == len([t for t in venue.sent if t.side == "sell"]) - 1


@pytest.mark.parametrize(
    ("stop", "replaced"),
    [("98.09", 0), ("98.10", 1), ("99.00", 1), ("99.95", 0)],  # 10 bps is 98.098; the bid is 99.95
)
def test_a_stop_follows_its_price_beyond_10_bps(bench: Bench, stop: str, replaced: int) -> None:
    protected(bench)
    stop_at(bench, stop)
    done = next_run(bench).protect()
    assert done.replaced == replaced
    expected = Decimal(stop) if replaced else Decimal("98.00")
    assert resting(bench.venues["binance"]) == [(bench.held(), expected)]


def test_a_rejected_stop_is_told_and_tried_again_ever_more_seldom(bench: Bench) -> None:
    buy(bench)
    venue = bench.venues["binance"]
    venue.takes_stops = False
    tries = []
    for minute in range(16):
        before = len(venue.sent)
        done = next_run(bench).protect()
        assert (done.stops, done.naked) == (0, 1)
        if len(venue.sent) > before:
            tries.append(minute)
    assert tries == [0, 1, 3, 7, 15]
    assert kinds(bench) == ["STOP_REJECTED"] * 5
    venue.takes_stops = True
    for _ in range(15):
        next_run(bench).protect()
    assert_protected(bench)


def test_below_its_stop_nothing_is_sent_and_the_naked_time_is_told(bench: Bench) -> None:
    """The venue would refuse it, and the loop sells."""
    position_id = buy(bench)
    venue = bench.venues["binance"]
    venue.move("98.05")
    before = len(venue.sent)
    for _ in range(3):
        done = next_run(bench).protect()
    assert len(venue.sent) == before
    assert (done.naked, done.naked_seconds) == (1, 180)
    assert naked.seconds(bench.ledger, position_id) == 180
    told = [row["alert_id"] for row in alerts.unsent(bench.ledger)]
    assert len(told) == 1
    assert told[0].startswith(f"test:naked:{position_id}:binance:")


def test_dust_needs_no_stop(bench: Bench) -> None:
    """0.05 at the stop's limit of 96.04 is under the venue's 5 USDT."""
    venue = bench.venues["binance"]
    venue.fill_share = Decimal("0.05") / HELD
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry("60"))
    desk.work()
    before = len(venue.sent)
    done = next_run(bench).protect()
    assert Decimal(0) < bench.held() < Decimal("0.052")
    assert (len(venue.sent), done.naked, intervals(bench)) == (before, 0, [])


# Naked intervals ---------------------------------------------------------------------------------


def test_an_interval_begins_with_the_fill(bench: Bench) -> None:
    position_id = buy(bench)
    next_run(bench).protect()  # a minute later
    assert intervals(bench) == [{"why": "no stop rests", "seconds": 60}]
    assert naked.seconds(bench.ledger, position_id) == 60


def test_a_stop_that_ended_on_the_venue_is_missed_and_placed_again(bench: Bench) -> None:
    protected(bench)
    venue = bench.venues["binance"]
    venue.cancel(next(iter(venue.stops)), "BTC/USDT")  # a person did it
    desk = next_run(bench)
    bench.time.advance(seconds=5)
    desk.protect()
    assert_protected(bench)
    assert intervals(bench)[1:] == [{"why": "no stop rests", "seconds": 5}]


def test_seconds_on_two_venues_at_once_count_once(bench: Bench) -> None:
    position_id = buy(bench)
    naked.begin(bench.ledger, position_id, "binance", why="test")
    bench.time.advance(seconds=10)
    naked.begin(bench.ledger, position_id, "kraken", why="test")
    bench.time.advance(seconds=10)
    naked.end(bench.ledger, position_id, "binance")
    bench.time.advance(seconds=10)
    assert naked.seconds(bench.ledger, position_id) == 30
    naked.end_all(bench.ledger, position_id)
    bench.time.advance(seconds=10)
    assert naked.seconds(bench.ledger, position_id) == 30


# Cancels -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "rests_after", "naked_time"),
    [
        ("fail", "98.00", []),  # it was never cancelled: never naked
        ("ignore", "98.00", [{"why": "replacing", "seconds": None}]),  # it may be, any moment
        ("lose answer", "99.00", [{"why": "replacing", "seconds": 0}]),  # the order tells
    ],
)
def test_a_cancel_is_believed_when_the_order_says_so(
    bench: Bench, fault: str, rests_after: str, naked_time: list[Any]
) -> None:
    protected(bench)
    venue = bench.venues["binance"]
    stop_at(bench, "99")
    venue.next_cancel = fault
    desk = next_run(bench)
    bench.time.advance(seconds=1)
    desk.protect()
    assert [trigger for _, trigger in resting(venue)] == [Decimal(rests_after)]
    assert intervals(bench)[1:] == naked_time
    next_run(bench).protect()
    assert [trigger for _, trigger in resting(venue)] == [Decimal("99.00")]
    assert_protected(bench)


def test_a_cancel_of_unknown_outcome_is_followed_by_nothing(bench: Bench) -> None:
    protected(bench)
    venue = bench.venues["binance"]
    stop_at(bench, "99")
    answered = venue.order
    desk = next_run(bench)
    bench.time.advance(seconds=1)
    venue.next_cancel = "lose answer"
    venue.order = _unavailable  # type: ignore[method-assign]
    before = len(venue.sent)
    desk.protect()
    assert desk.protect().naked == 1  # asked again, and still not known
    assert len(venue.sent) == before
    assert "STOP_NOT_CANCELLED" in kinds(bench)
    venue.order = answered  # type: ignore[method-assign]
    next_run(bench).protect()
    assert resting(venue) == [(bench.held(), Decimal("99.00"))]
    assert intervals(bench)[1:] == [{"why": "replacing", "seconds": 60}]


def test_a_cancel_may_be_carried_out_a_moment_after_its_answer(bench: Bench) -> None:
    protected(bench)
    venue = bench.venues["binance"]
    stop_at(bench, "99")
    desk, answered = next_run(bench), venue.order
    earlier = [next(iter(venue.resting))]
    venue.order = lambda *asked: earlier.pop() if earlier else answered(*asked)  # type: ignore[method-assign]
    assert desk.protect().replaced == 1
    assert_protected(bench)


def test_a_stop_that_fills_while_it_is_cancelled_is_not_sent_again(bench: Bench) -> None:
    position_id = protected(bench)
    venue = bench.venues["binance"]
    stop_at(bench, "99")
    venue.next_cancel = "fill first"
    desk = next_run(bench)
    before = len(venue.sent)
    desk.protect()
    assert len(venue.sent) == before
    assert (bench.held(), venue.account["BTC"]) == (0, 0)
    assert desk.settle() == [position_id]
    assert close_reason(bench, position_id) == "stop"


def test_late_in_a_run_the_old_stop_is_left_alone(bench: Bench) -> None:
    protected(bench)
    stop_at(bench, "99")
    desk = next_run(bench)
    bench.time.advance(seconds=31)
    assert desk.protect().replaced == 0
    assert resting(bench.venues["binance"]) == [(bench.held(), Decimal("98.00"))]


# Unknown stops -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["lose answer", "lose request"])
def test_an_unknown_stop_is_not_sent_again_until_it_is_resolved(bench: Bench, fault: str) -> None:
    buy(bench)
    venue = bench.venues["binance"]
    venue.next_submit = fault
    desk = next_run(bench)
    done = desk.protect()
    assert (done.refused, done.naked) == (1, 1)
    sent, venue.down = len(venue.sent), True
    assert desk.protect().naked == 1
    venue.down = False
    assert (len(venue.sent), kinds(bench)) == (sent, [])  # nor was the venue asked for a book
    for _ in range(4):  # found, or dead after its quarantine
        desk = next_run(bench)
        desk.reconcile()
        desk.protect()
    assert_protected(bench)
    assert len(venue.sent) == sent + (fault == "lose request")


def test_an_unknown_stop_keeps_no_exit_back(bench: Bench) -> None:
    position_id = buy(bench)
    venue = bench.venues["binance"]
    venue.next_submit = "lose request"
    desk = next_run(bench)
    desk.protect()
    results = desk.exit(position_id, reason="target")
    assert [result.outcome for result in results] == ["FILLED"]
    assert bench.held() == 0
    assert desk.settle() == []  # the stop may still come to rest: it is not forgotten


def test_a_stop_that_comes_to_rest_after_its_position_was_sold_is_cancelled(bench: Bench) -> None:
    position_id = buy(bench)
    venue = bench.venues["binance"]
    venue.account["BTC"] += Decimal(5)  # somebody else's, so that it can rest at all
    venue.next_submit = "lose answer"
    desk = next_run(bench)
    desk.protect()
    assert [r.outcome for r in desk.exit(position_id, reason="target")] == ["FILLED"]
    assert len(venue.stops) == 1
    desk = next_run(bench)
    desk.protect()
    assert venue.stops == {}
    assert desk.settle() == [position_id]
    assert close_reason(bench, position_id) == "target"


# Two venues --------------------------------------------------------------------------------------


def test_each_venue_has_its_own_stop(make_bench: Callable[..., Bench]) -> None:
    first, second = ScriptedVenue(), ScriptedVenue("kraken")
    second.protection = "stop_market"
    bench = make_bench(first, second)
    position_id = buy(bench, "40")
    first.fee_bps = Decimal(40)  # the second is cheaper now
    bench.desk().add(position_id, Decimal(30), Decimal(100), "pyramid")
    next_run(bench).work()
    next_run(bench).protect()
    assert [len(first.stops), len(second.stops)] == [1, 1]
    assert next(iter(second.stops.values())).order_type == "stop_market"
    assert_protected(bench)


def _unavailable(*arguments: Any) -> Any:
    from shared.errors import VenueUnavailable

    raise VenueUnavailable("binance: order: RequestTimeout")
