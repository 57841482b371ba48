"""Exits with a stop resting: lifted first, covered again for what is left; stops that trigger."""

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
)
from scripted_venue import ScriptedVenue
from test_races import at_once

from shared import clock
from shared.errors import VenueUnavailable
from shared.execution.exits import leaving, naked, protecting
from shared.execution.exits.protecting import Protection
from shared.execution.types import Balance, OrderTicket, VenueOrder
from shared.ledger import positions
from shared.market.types import Book
from shared.run import Run


def test_an_exit_lifts_the_stop_and_sells_what_is_held(bench: Bench) -> None:
    position_id = protected(bench)
    desk, held = next_run(bench), bench.held()
    results = desk.exit(position_id, reason="target")
    assert [(r.outcome, r.filled_quantity) for r in results] == [("FILLED", held)]
    desk.protect()
    assert desk.settle() == [position_id]
    assert close_reason(bench, position_id) == "target"
    assert bench.venues["binance"].stops == {}
    assert [row["why"] for row in intervals(bench)] == ["no stop rests", "exit: target"]
    assert all(row["seconds"] is not None for row in intervals(bench))


@pytest.mark.parametrize("share", ["0.5", "0.001", "0"])
def test_what_an_exit_has_not_sold_is_protected_again(bench: Bench, share: str) -> None:
    position_id = protected(bench)
    venue = bench.venues["binance"]
    venue.fill_share = Decimal(share)
    desk = next_run(bench)
    desk.exit(position_id, reason="target")
    desk.protect()
    assert bench.held() > 0
    assert_protected(bench)


def test_what_an_unknown_exit_may_sell_is_not_protected_but_the_rest_is(bench: Bench) -> None:
    position_id = protected(bench)
    venue = bench.venues["binance"]
    desk = next_run(bench)
    venue.next_submit = "lose request"
    desk.exit(position_id, reason="partial_profit", fraction=Decimal("0.5"))
    held, done = bench.held(), desk.protect()
    assert resting(venue) == [(held - Decimal("0.298"), Decimal("98.00"))]
    assert done.naked == 1  # half of it, as far as anybody knows
    assert_protected(bench)


def test_below_the_stop_the_rest_of_an_exit_is_not_protected(bench: Bench) -> None:
    """The venue would refuse the stop; the loop sells on, and the interval stays open."""
    position_id = protected(bench)
    venue = bench.venues["binance"]
    venue.fill_share = Decimal("0.5")
    desk = next_run(bench)
    venue.mid = Decimal("97.5")  # without a trigger: the price fell while the stop was lifted
    desk.exit(position_id, reason="stop")
    sent, done = len(venue.sent), desk.protect()
    assert (len(venue.sent), done.naked, venue.stops) == (sent, 1, {})
    assert intervals(bench)[-1] == {"why": "exit: stop", "seconds": None}


@pytest.mark.parametrize("fault", ["fail", "ignore"])
def test_an_exit_whose_cancel_failed_waits_under_its_stop(bench: Bench, fault: str) -> None:
    position_id = protected(bench)
    venue = bench.venues["binance"]
    venue.next_cancel = fault
    desk, sent = next_run(bench), len(venue.sent)
    assert desk.exit(position_id, reason="target") == []
    assert len(venue.sent) == sent
    assert len(venue.stops) == 1
    assert kinds(bench) == ["STOP_NOT_CANCELLED", "EXIT_DELAYED"]
    assert [r.outcome for r in next_run(bench).exit(position_id, reason="target")] == ["FILLED"]


def test_a_stop_that_fills_while_an_exit_lifts_it_leaves_nothing_to_sell(bench: Bench) -> None:
    position_id = protected(bench)
    venue = bench.venues["binance"]
    venue.next_cancel = "fill first"
    desk, sent = next_run(bench), len(venue.sent)
    assert desk.exit(position_id, reason="target") == []
    assert (len(venue.sent), bench.held(), venue.account["BTC"]) == (sent, 0, 0)
    desk.protect()
    assert desk.settle() == [position_id]
    assert close_reason(bench, position_id) == "stop"


def test_a_halt_ends_entries_and_leaves_stops(bench: Bench) -> None:
    protected(bench)
    next_run(bench).cancel_entries("halt")
    assert_protected(bench)
    assert len(bench.venues["binance"].stops) == 1


def test_a_closed_position_is_not_naked(bench: Bench) -> None:
    """What was dust when it was closed is not told of for ever after."""
    position_id = buy(bench)
    naked.begin(bench.ledger, position_id, "binance", why="test")
    desk = next_run(bench)
    desk.exit(position_id, reason="target")
    assert desk.settle() == [position_id]
    assert [row["seconds"] for row in intervals(bench)] == [60]


# Triggered stops --------------------------------------------------------------------------------


@pytest.mark.parametrize(("high", "reason"), [(None, "stop"), ("102", "stop"), ("103", "trailing")])
def test_a_triggered_stop_closes_the_position(bench: Bench, high: Any, reason: str) -> None:
    """One that has trailed is the trailing stop doing its work, as where the loop sees it first."""
    position_id = protected(bench)
    bench.ledger.execute("UPDATE positions SET high_water_price = %s", (high,))
    venue = bench.venues["binance"]
    venue.move("97.9")
    desk = next_run(bench)
    desk.protect()
    assert desk.settle() == [position_id]
    assert close_reason(bench, position_id) == reason
    assert kinds(bench)[-1] == "STOP_TRIGGERED"
    fill = bench.ledger.one("SELECT price FROM fills WHERE side = 'sell'")
    assert fill == {"price": Decimal("97.85")}
    log = bench.ledger.one("SELECT slippage_bps FROM order_log WHERE purpose = 'protect'")
    assert log is not None
    assert round(log["slippage_bps"], 1) == Decimal("15.3")  # against its own trigger


def test_a_stop_that_the_price_has_jumped_is_sold_by_the_loop(bench: Bench) -> None:
    position_id = protected(bench)
    venue = bench.venues["binance"]
    venue.move("90")  # below its limit of 96.04
    desk = next_run(bench)
    assert len(venue.stops) == 1
    assert [r.outcome for r in desk.exit(position_id, reason="stop")] == ["FILLED"]
    assert desk.settle() == [position_id]
    assert close_reason(bench, position_id) == "stop"


def test_a_stop_that_fills_in_part_rests_on_for_what_is_held(bench: Bench) -> None:
    protected(bench)
    venue = bench.venues["binance"]
    venue.fill_share = Decimal("0.5")
    venue.move("97.9")
    desk = next_run(bench)
    desk.protect()
    assert_protected(bench)
    venue.fill_share = Decimal(1)
    venue.move("97.9")
    desk = next_run(bench)
    desk.protect()
    assert len(desk.settle()) == 1


# Parts ------------------------------------------------------------------------------------------


def part(bench: Bench, position_id: int) -> list[str]:
    desk = next_run(bench)
    results = desk.exit(position_id, reason="partial_profit", fraction=Decimal("0.5"))
    desk.protect()
    return [result.outcome for result in results]


@pytest.mark.parametrize("fault", ["lose answer", "lose request"])
def test_a_part_of_unknown_fate_is_not_sold_again(bench: Bench, fault: str) -> None:
    """The run that sent it may have died before it could note that a part was taken."""
    position_id = protected(bench)
    venue = bench.venues["binance"]
    held, venue.next_submit = bench.held(), fault
    assert part(bench, position_id) == ["UNKNOWN"]
    assert part(bench, position_id) == []
    assert venue.account["BTC"] >= held / 2
    assert_protected(bench)


@pytest.mark.parametrize("what", ["reject", "nothing filled"])
def test_a_part_that_sold_nothing_may_be_tried_again(bench: Bench, what: str) -> None:
    position_id = protected(bench)
    venue = bench.venues["binance"]
    if what == "reject":
        venue.next_submit = "reject"
    else:
        venue.fill_share = Decimal(0)
    assert part(bench, position_id) in (["REJECTED"], ["NOT_FILLED"])
    venue.fill_share = Decimal(1)
    assert part(bench, position_id) == ["FILLED"]
    assert part(bench, position_id) == []
    assert_protected(bench)


def test_a_killed_run_has_taken_its_part(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    position_id = protected(bench)
    monkeypatch.setattr(positions, "mark_partial_taken", None)  # never reached
    assert part(bench, position_id) == ["FILLED"]
    assert part(bench, position_id) == []


# Two workflows ----------------------------------------------------------------------------------


def test_two_workflows_place_one_stop(
    bench: Bench, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    buy(bench)
    venue = bench.venues["binance"]
    venue.account["BTC"] += Decimal(5)  # the venue itself would take a second one
    bench.time.advance(minutes=1)
    bench.see_prices()
    runs = [bench.run("trading_loop"), bench.run("position_manager")]
    at_once(monkeypatch, database_url, [(run, _protecting(bench)) for run in runs])
    assert len(venue.stops) == 1
    venue.account["BTC"] -= Decimal(5)
    next_run(bench).protect()
    assert_protected(bench)


def test_the_gate_keeps_a_second_stop_out_whatever_its_key(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that count the stops differently: the holding control denies the second."""
    protected(bench)
    from shared.execution.exits import covers

    real = covers.of_position
    uncovered = {"stops": 0, "resting": Decimal(0), "resting_stop_price": None}

    def stale(*arguments: Any) -> Any:
        cover = real(*arguments)
        assert cover is not None
        return covers.Cover(**vars(cover) | uncovered)

    monkeypatch.setattr(
        covers, "of_pod", lambda ledger: [stale(ledger, row["position_id"], "binance")
                                          for row in ledger.query("SELECT * FROM positions")]
    )  # fmt: skip
    monkeypatch.setattr(covers, "of_position", stale)
    desk = next_run(bench)
    assert desk.protect().refused == 1
    assert len(bench.venues["binance"].stops) == 1
    why = bench.ledger.one("SELECT detail->>'why' AS why FROM events WHERE kind = 'STOP_DENIED'")
    assert why is not None
    assert why["why"].startswith("HOLDING_EXCEEDED")


def test_one_leaves_while_the_other_protects(
    bench: Bench, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    position_id = buy(bench)
    venue = bench.venues["binance"]
    venue.account["BTC"] += Decimal(5)
    bench.time.advance(minutes=1)
    bench.see_prices()

    def leave(run: Run) -> Any:
        return leaving.leave(run, bench.venues, position_id, reason="stop", fraction=Decimal(1))

    runs = [bench.run("trading_loop"), bench.run("position_manager")]
    at_once(monkeypatch, database_url, [(runs[0], _protecting(bench)), (runs[1], leave)])
    assert (
        len([t for t in venue.sent if t.side == "sell"]) == 1
    )  # the gate lets one of them through


def _protecting(bench: Bench) -> Callable[[Run], Any]:
    return lambda run: protecting.protect(run, bench.venues, Protection())


def spread_wide(venue: ScriptedVenue, half_spread: str) -> None:
    """From now on the best bid lies so far below the mid, as a share of it, and binds orders."""
    submit = venue.submit
    far = Decimal(half_spread)

    def book(symbol: str, depth: int = 50) -> Book:
        bid, ask = float(venue.mid * (1 - far)), float(venue.mid * (1 + far))
        return Book(symbol, ((bid, 1000.0),), ((ask, 1000.0),), clock.now_ms())

    def bound(ticket: OrderTicket) -> VenueOrder:
        reaches = ticket.limit_price <= venue.mid * (1 - far)
        venue.fill_share = Decimal(1 if reaches else 0)
        return submit(ticket)

    venue.book, venue.submit = book, bound  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("half_spread", "tries"),
    [("0.004", 1), ("0.02", 1), ("0.03", 2), ("0.07", 3), ("0.099", 4)],
)
def test_an_exit_widens_until_it_reaches_the_bid(
    bench: Bench, half_spread: str, tries: int
) -> None:
    """2 % below the mid, as far as the stop that it takes away, then 4, 8 and 10 %."""
    position_id, venue = protected(bench), bench.venues["binance"]
    spread_wide(venue, half_spread)
    outcomes = []
    for _ in range(tries):
        desk = next_run(bench)
        outcomes += [result.outcome for result in desk.exit(position_id, reason="stop")]
        desk.protect()
    assert outcomes == ["NOT_FILLED"] * (tries - 1) + ["FILLED"]
    assert bench.held() == 0


def test_an_exit_sells_no_deeper_than_ten_percent(bench: Bench) -> None:
    position_id, venue = protected(bench), bench.venues["binance"]
    spread_wide(venue, "0.11")
    for _ in range(6):
        desk = next_run(bench)
        assert [r.outcome for r in desk.exit(position_id, reason="stop")] == ["NOT_FILLED"]
    assert min(ticket.limit_price for ticket in venue.sent if ticket.side == "sell") == 90


def held_by_another_position(bench: Bench, quantity: str) -> None:
    """A position of the core sleeve that has bought so much of the same coin."""
    ledger, venue = bench.ledger, bench.venues["binance"]
    ledger.execute(
        "INSERT INTO positions (pod, symbol, sleeve, strategy, opened_at, stop_price) "
        "VALUES ('test', 'BTC/USDT', 'core', 'core', %s, 0)",
        (clock.now(),),
    )
    ledger.execute(
        "INSERT INTO fills SELECT (jsonb_populate_record(f, jsonb_build_object('venue_trade_id', "
        "'core', 'fee_cost', 0, 'quantity', %s::numeric, 'position_id', "
        "(SELECT max(position_id) FROM positions)))).* FROM fills f LIMIT 1",
        (quantity,),
    )
    venue.account["BTC"] += Decimal(quantity)
    venue.account["USDT"] -= Decimal(quantity) * venue.mid


@pytest.mark.parametrize(
    ("sold_unheard", "left"), [("0", "0.597"), ("0.2", "0.397"), ("0.597", "0")]
)
def test_an_exit_is_capped_by_what_the_venue_has_free_and_others_do_not_hold(
    bench: Bench, sold_unheard: str, left: str
) -> None:
    """60 USDT bought 0.597; a sale of it that nobody told us of leaves the other position's."""
    position_id, venue = protected(bench), bench.venues["binance"]
    assert bench.held() == Decimal("0.597")
    held_by_another_position(bench, "0.5")
    venue.account["BTC"] -= Decimal(sold_unheard)
    desk = next_run(bench)
    results = desk.exit(position_id, reason="target")
    assert sum((result.quantity for result in results), Decimal(0)) == Decimal(left)


def test_an_exit_does_not_wait_for_balances(bench: Bench) -> None:
    position_id, venue = protected(bench), bench.venues["binance"]
    desk = next_run(bench)

    def unavailable() -> dict[str, Balance]:
        raise VenueUnavailable("binance: balances: RequestTimeout")

    venue.balances = unavailable  # type: ignore[method-assign]
    assert [result.outcome for result in desk.exit(position_id, reason="stop")] == ["FILLED"]
