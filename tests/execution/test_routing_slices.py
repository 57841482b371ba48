"""A slice over several venues: split, refused, unknown, raced, and never bought twice."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from execution_bench import Bench
from scripted_venue import ScriptedVenue

from shared import clock
from shared.errors import VenueUnavailable
from shared.execution.desk import Desk
from shared.execution.entries import liquidity, parents, slices
from shared.execution.types import MarketRules, OrderResult
from shared.ledger import connection
from shared.market.types import Book
from shared.run import Run

WHOLE = Decimal("0.895")  # 90 USDT at the collar's worst price of 100.5, on a grid of 0.001


def shows(venue: ScriptedVenue, *asks: tuple[float, float]) -> ScriptedVenue:
    """Let the venue's book show these asks."""
    venue.book = lambda symbol, depth=50: Book(  # type: ignore[method-assign]
        symbol, ((99.9, 1000.0),), asks, clock.now_ms()
    )
    return venue


def entered(bench: Bench, *, urgency: str = "high") -> Desk:
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry(urgency=urgency))
    return desk


def next_minute(bench: Bench) -> list[OrderResult]:
    desk = bench.desk()
    desk.reconcile()
    return desk.work()


def sent(*venues: ScriptedVenue) -> list[Decimal]:
    return [sum((ticket.quantity for ticket in v.sent), Decimal(0)) for v in venues]


def test_a_slice_is_split_over_two_venues(make_bench: Callable[..., Bench]) -> None:
    binance = shows(ScriptedVenue("binance"), (100.05, 0.5), (100.4, 1000.0))
    kraken = shows(ScriptedVenue("kraken"), (100.1, 1000.0))
    bench = make_bench(binance, kraken)
    results = entered(bench).work()
    assert [result.outcome for result in results] == ["FILLED", "FILLED"]
    assert sent(binance, kraken) == [Decimal("0.5"), Decimal("0.395")]
    assert bench.held() == WHOLE
    keys = bench.ledger.query("SELECT logical_key FROM intents ORDER BY logical_key")
    (parent,) = bench.ledger.query("SELECT parent_id, state FROM parent_orders")
    assert [row["logical_key"] for row in keys] == [
        f"{parent['parent_id']}:0:binance", f"{parent['parent_id']}:0:kraken",
    ]  # fmt: skip
    assert parent["state"] == "DONE"


# Which books are read ----------------------------------------------------------------------------


def reads(venue: ScriptedVenue) -> list[str]:
    """From now on, the names of the threads that read the venue's book."""
    seen: list[str] = []
    book = venue.book

    def noted(symbol: str, depth: int = 50) -> Book:
        seen.append(threading.current_thread().name)
        return book(symbol, depth)

    venue.book = noted  # type: ignore[method-assign]
    return seen


def test_a_venue_that_cannot_win_is_not_read(make_bench: Callable[..., Bench]) -> None:
    binance, kraken = ScriptedVenue("binance"), ScriptedVenue("kraken")
    kraken.fee_bps = Decimal(40)
    seen = reads(kraken)
    entered(make_bench(binance, kraken)).work()
    assert (len(binance.sent), seen) == (1, [])


def test_venues_that_may_win_are_read_side_by_side(make_bench: Callable[..., Bench]) -> None:
    """Each waits until the other has been asked too."""
    binance = shows(ScriptedVenue("binance"), (100.05, 0.2), (100.4, 1000.0))
    meeting = threading.Barrier(2, timeout=5)
    others = []
    for name in ("coinbase", "kraken"):
        venue = shows(ScriptedVenue(name), (100.1, 0.4), (100.45, 1000.0))
        book = venue.book
        venue.book = lambda *a, book=book: meeting.wait() >= 0 and book(*a)  # type: ignore
        others.append(venue)
    bench = make_bench(binance, *others)
    entered(bench).work()
    assert sent(binance, *others) == [Decimal("0.2"), Decimal("0.4"), Decimal("0.295")]


@pytest.mark.parametrize(
    "trouble", ["no cash", "no quote", "blocked", "no rules", "failing", "closed"]
)
def test_a_venue_that_is_not_fit_takes_nothing(
    make_bench: Callable[..., Bench], trouble: str
) -> None:
    best, backup = ScriptedVenue("binance"), ScriptedVenue("kraken", mid="100.2")
    if trouble == "no cash":
        best = ScriptedVenue("binance", cash="4")
    bench = make_bench(best, backup)
    desk = entered(bench)
    seen = reads(best)
    ledger = bench.ledger
    if trouble == "no quote":
        ledger.execute("UPDATE prices SET venue = 'coinbase' WHERE venue = 'binance'")
    if trouble == "blocked":
        ledger.execute(
            "INSERT INTO venue_limits VALUES ('binance', %s, false, '429', %s)",
            (clock.now() + timedelta(seconds=1), clock.now()),
        )
    if trouble == "no rules":
        best.rules = _no_rules  # type: ignore[method-assign]
    if trouble == "failing":
        calls(bench, desk._run.run_id, failures=3, of=3)
    if trouble == "closed":
        told = best.rules
        best.rules = lambda symbol: replace(told(symbol), is_open=False)  # type: ignore[method-assign]
    desk.work()
    assert sent(best, backup) == [0, WHOLE]
    assert seen == []


def test_a_thin_book_gives_a_quarter_and_the_others_serve(
    make_bench: Callable[..., Bench],
) -> None:
    """Of the 2 that binance offers within the collar, a little less than 0.5 at the limit price."""
    best = shows(ScriptedVenue("binance"), (100.05, 2.0))
    backup = shows(ScriptedVenue("kraken"), (100.2, 1000.0))
    bench = make_bench(best, backup)
    results = entered(bench).work()
    assert [result.outcome for result in results] == ["FILLED", "FILLED"]
    here, there = sent(best, backup)
    assert Decimal("0.49") <= here <= Decimal("0.5")
    assert here + there == WHOLE


def test_a_book_of_impossible_numbers_offers_nothing(make_bench: Callable[..., Bench]) -> None:
    best = shows(ScriptedVenue("binance"), (100.05, float("nan")))
    backup = ScriptedVenue("kraken", mid="100.2")
    bench = make_bench(best, backup)
    entered(bench).work()
    assert sent(best, backup) == [0, WHOLE]


def test_a_block_that_is_over_keeps_nobody_out(bench: Bench) -> None:
    desk = entered(bench)
    bench.ledger.execute(
        "INSERT INTO venue_limits VALUES ('binance', %s, false, '429', %s)",
        (clock.now(), clock.now()),
    )
    assert [result.outcome for result in desk.work()] == ["FILLED"]


def test_failures_of_late_make_a_venue_dearer(make_bench: Callable[..., Bench]) -> None:
    """Half of Binance's calls failed: 5 bps, where Kraken asks for 2 bps more."""
    best, backup = ScriptedVenue("binance"), ScriptedVenue("kraken", mid="100.02")
    bench = make_bench(best, backup)
    desk = entered(bench)
    calls(bench, desk._run.run_id, failures=2, of=4)
    desk.work()
    assert sent(best, backup) == [0, WHOLE]


def test_the_calls_of_this_step_count_before_they_are_in_the_ledger(
    make_bench: Callable[..., Bench],
) -> None:
    best, backup = ScriptedVenue("binance"), ScriptedVenue("kraken", mid="100.2")
    desk = entered(make_bench(best, backup))
    with pytest.raises(VenueUnavailable), desk._run.calls.timed("binance"):
        raise VenueUnavailable("binance: balances: ExchangeNotAvailable")
    desk.work()
    assert sent(best, backup) == [0, WHOLE]


def calls(bench: Bench, run_id: int, *, failures: int, of: int) -> None:
    bench.ledger.execute(
        "INSERT INTO venue_calls VALUES ('test', %s, 'binance', %s, %s, %s, 0, 1, 1, NULL)",
        (run_id, clock.now(), of, failures),
    )


def _no_rules(symbol: str) -> MarketRules:
    raise VenueUnavailable("binance: markets: ExchangeNotAvailable")


# Fail-over ---------------------------------------------------------------------------------------


def pair(make_bench: Callable[..., Bench]) -> tuple[Bench, ScriptedVenue, ScriptedVenue]:
    best, backup = ScriptedVenue("binance"), ScriptedVenue("kraken", mid="100.2")
    return make_bench(best, backup), best, backup


def test_the_backup_takes_the_slice_when_the_best_is_unreadable(
    make_bench: Callable[..., Bench],
) -> None:
    bench, best, backup = pair(make_bench)
    desk = entered(bench)
    best.down = True
    desk.work()
    assert sent(best, backup) == [0, WHOLE]


def test_a_rejection_fails_over_in_the_same_run(make_bench: Callable[..., Bench]) -> None:
    bench, best, backup = pair(make_bench)
    desk = entered(bench)
    best.next_submit = "reject"
    assert [result.outcome for result in desk.work()] == ["REJECTED", "FILLED"]
    assert bench.held() == WHOLE
    assert next_minute(bench) == []


def test_a_rejected_part_goes_to_the_venue_that_has_had_none(
    make_bench: Callable[..., Bench],
) -> None:
    binance = shows(ScriptedVenue("binance"), (100.05, 0.5), (100.4, 1000.0))
    kraken = shows(ScriptedVenue("kraken"), (100.1, 1000.0))
    bench = make_bench(binance, kraken)
    desk = entered(bench)
    binance.next_submit = "reject"
    desk.work()
    assert sent(kraken) == [WHOLE]


def test_what_the_gate_denies_one_venue_is_not_lost_to_the_others(
    make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Binance's money has gone between the routing and the order."""
    bench, best, backup = pair(make_bench)
    desk = entered(bench)
    check = liquidity.candidates_for_buying

    def then_spend(*arguments: Any) -> Any:
        found = check(*arguments)
        bench.ledger.execute(
            "INSERT INTO transfers (pod, venue, currency, amount, at, note) "
            "VALUES ('test', 'binance', 'USDT', -9990, %s, 'taken out')",
            (clock.now(),),
        )
        return found

    monkeypatch.setattr(liquidity, "candidates_for_buying", then_spend)
    denied, filled = desk.work()
    assert (denied.outcome, denied.detail.split(":")[0]) == ("DENIED", "BALANCE_SHORT")
    assert filled.outcome == "FILLED"
    assert sent(best, backup) == [0, WHOLE]


def test_an_unknown_order_does_not_fail_over(make_bench: Callable[..., Bench]) -> None:
    bench, best, backup = pair(make_bench)
    desk = entered(bench)
    best.next_submit = "lose answer"
    assert [result.outcome for result in desk.work()] == ["UNKNOWN"]
    best.down = True  # nobody can tell what became of it
    for _ in range(3):
        next_minute(bench)
    assert sent(best, backup) == [WHOLE, 0]


def test_after_an_unknown_part_the_other_parts_wait(make_bench: Callable[..., Bench]) -> None:
    binance = shows(ScriptedVenue("binance"), (100.05, 0.5), (100.4, 1000.0))
    kraken = shows(ScriptedVenue("kraken"), (100.1, 1000.0))
    bench = make_bench(binance, kraken)
    desk = entered(bench)
    binance.next_submit = "lose answer"
    assert [result.outcome for result in desk.work()] == ["UNKNOWN"]
    assert sent(binance, kraken) == [Decimal("0.5"), 0]
    next_minute(bench)  # found and filled: what is left is bought, and no more
    assert bench.held() == WHOLE
    assert sum(sent(binance, kraken)) == WHOLE


def test_a_venue_that_dies_between_book_and_send_is_replaced_once_that_is_certain(
    make_bench: Callable[..., Bench],
) -> None:
    """The order never arrived. While that is not known, its size is bought nowhere else."""
    bench, best, backup = pair(make_bench)
    desk = entered(bench, urgency="normal")
    best.next_submit = "lose request"
    desk.work()
    backup.move("99.9")  # from now on it is the cheaper one
    bench.ledger.execute("DELETE FROM prices WHERE symbol = 'BTC/USDT'")
    while bench.states()[0] == "UNKNOWN":
        assert sent(best, backup) == [Decimal("0.099"), 0]
        next_minute(bench)
    assert bench.states()[0] == "DEAD"
    for _ in range(10):
        next_minute(bench)
    assert sent(best, backup) == [Decimal("0.099"), WHOLE]
    assert bench.held() == WHOLE


# Two at once, and again --------------------------------------------------------------------------


def race(
    monkeypatch: pytest.MonkeyPatch, database_url: str, runs: list[Run], body: Callable[[Run], Any]
) -> list[OrderResult]:
    """Let the runs meet, each on its own connection, before they ask for the parent's row."""
    meeting, hold = threading.Barrier(len(runs), timeout=20), parents.hold_working
    results: list[OrderResult] = []

    def together(*arguments: Any) -> None:
        meeting.wait()
        hold(*arguments)

    def act(run: Run) -> None:
        try:
            results.extend(body(replace(run, ledger=connection.connect(database_url, "test"))))
        finally:
            connection.close_all()

    monkeypatch.setattr(parents, "hold_working", together)
    threads = [threading.Thread(target=act, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return results


@pytest.mark.parametrize("apart", [False, True])
def test_two_runs_send_one_slice_once(
    make_bench: Callable[..., Bench],
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    apart: bool,
) -> None:
    """To the same venue, or each to another one, under another key."""
    venues = [ScriptedVenue("binance"), ScriptedVenue("kraken")]
    bench = make_bench(*venues)
    entered(bench)
    (parent,) = parents.working(bench.ledger)
    runs = [bench.run("trading_loop"), bench.run("position_manager")]
    seen_by = {runs[0].run_id: venues[:1], runs[1].run_id: venues[1:] if apart else venues[:1]}

    def buy(run: Run) -> list[OrderResult]:
        return slices.work(run, {v.name: v for v in seen_by[run.run_id]}, parent, may_buy=True)

    results = race(monkeypatch, database_url, runs, buy)
    assert sorted(result.outcome for result in results) == ["DENIED", "FILLED"]
    (denied,) = [result.detail for result in results if result.outcome == "DENIED"]
    assert denied.startswith("PARENT_EXCEEDED")
    assert sum(sent(*venues)) == WHOLE


def test_a_repeat_of_the_run_sends_nothing(bench: Bench) -> None:
    desk = entered(bench)
    (parent,) = parents.working(bench.ledger)
    desk.work()
    (again,) = slices.work(bench.run(), bench.venues, parent, may_buy=True)
    assert again.outcome == "FILLED"  # what came of it the first time
    assert sent(*bench.venues.values()) == [WHOLE]


@pytest.mark.parametrize("seed", range(4))
def test_no_trouble_makes_it_buy_more_than_is_due(
    make_bench: Callable[..., Bench], seed: int
) -> None:
    """A parent's whole life under random trouble, judged by what the venues have really filled."""
    chance = random.Random(seed)
    venues = [ScriptedVenue(name) for name in ("binance", "coinbase", "kraken")]
    bench = make_bench(*venues)
    entered(bench, urgency="normal").work()
    (parent,) = parents.working(bench.ledger)
    for _ in range(13):
        bench.ledger.execute("DELETE FROM prices WHERE symbol = 'BTC/USDT'")
        for venue in venues:
            mid = Decimal(100) + Decimal(chance.randrange(-10, 11)) / 100
            shows(venue, (float(mid + Decimal("0.05")), chance.choice([0.05, 0.06, 1000.0])))
            venue.move(mid)
            venue.fill_share = Decimal(chance.choice(["0", "0.5", "1", "1"]))
            venue.next_submit = chance.choice(["", "", "", "reject", "lose answer", "lose request"])
            venue.hides_orders = chance.random() < 0.1
        if chance.random() < 0.2:
            bench.time.advance(minutes=1)  # a run is missed
        desk = bench.desk()
        desk.reconcile()
        chance.choice(venues).down = chance.random() < 0.2
        desk.work()
        desk.work()  # a repeat of the same minute
        for venue in venues:
            venue.down = False
        bought = sum((fill.quantity for venue in venues for fill in venue.executions), Decimal(0))
        slices_due = int((clock.now() - parent.created_at) / timedelta(minutes=1)) + 1
        assert bought <= parent.quantity * min(slices_due, parent.slices) / parent.slices
        known, in_flight = parents.progress(bench.ledger, parent.parent_id)
        assert known <= bought <= known + in_flight
    assert bought > 0
