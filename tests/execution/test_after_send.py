"""Whatever goes wrong after the first byte may have left, an order never passes for a rejection.

A run is made to fail at every statement and every call that follows the send. Each time the next
runs must find the order, write its fills once, and send nothing a second time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from execution_bench import Bench
from scripted_venue import ScriptedVenue

from shared.errors import LeaseLost, LedgerUnavailable
from shared.execution import intents, sending
from shared.execution.types import OrderTicket, VenueOrder
from shared.ledger import leases
from shared.ledger.connection import Ledger
from shared.risk.facts import RUN_LIMIT

FAULTS = (SystemExit, LedgerUnavailable, ValueError)


class Steps:
    """Counts what a run does after it has sent, and fails at the step that is asked for."""

    def __init__(self, fault: type[BaseException], at: int, *, after: bool) -> None:
        self.fault, self.at, self.after = fault, at, after
        self.sent = self.failed = False
        self.count = 0

    def run(self, act: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        if not self.sent or self.failed:
            return act(*arguments, **options)
        self.count += 1
        if self.count != self.at:
            return act(*arguments, **options)
        self.failed = True
        if self.after:
            act(*arguments, **options)
        raise self.fault("here")


@contextmanager
def failing(
    monkeypatch: pytest.MonkeyPatch, venue: ScriptedVenue, steps: Steps, *, answer_lost: bool
) -> Iterator[None]:
    """Fail inside statements (BEGIN and COMMIT among them) and inside the venue's answers."""

    def through(act: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments, **options: steps.run(act, *arguments, **options)

    def submit(ticket: OrderTicket) -> VenueOrder:
        venue.next_submit = "lose answer" if answer_lost else ""
        steps.sent = True  # from here on the order may exist
        return submitted(ticket)

    submitted = venue.submit
    with monkeypatch.context() as patch:
        for name in ("query", "one", "execute"):
            patch.setattr(Ledger, name, through(getattr(Ledger, name)))
        for name in ("order", "fills", "quotes"):
            patch.setattr(venue, name, through(getattr(venue, name)))
        patch.setattr(venue, "submit", submit)
        yield


@pytest.mark.parametrize("answer_lost", [False, True], ids=["answered", "answer lost"])
@pytest.mark.parametrize("after", [False, True], ids=["before its effect", "after its effect"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_failure_at_any_step_after_the_send_is_found_out_by_query(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    fault: type[BaseException],
    after: bool,
    answer_lost: bool,
) -> None:
    venue = bench.venues["binance"]
    for at in range(1, 60):
        steps = Steps(fault, at, after=after)
        desk = bench.desk()
        desk.reconcile()
        desk.enter(bench.entry("90"))
        sent_before = len(venue.sent)
        with failing(monkeypatch, venue, steps, answer_lost=answer_lost):
            if_reached(desk.work, fault)
        assert len(venue.sent) == sent_before + 1
        assert_never_rejected(bench)
        settle_and_check(bench)
        empty(bench)
        if not steps.failed:
            break
    assert not steps.failed, "the loop did not reach the end of the run"
    assert at > (3 if answer_lost else 15)  # else the steps are not where they are counted


def if_reached(work: Callable[[], Any], fault: type[BaseException]) -> None:
    try:
        work()
    except fault:
        return


def assert_never_rejected(bench: Bench) -> None:
    # a connection that died within a transaction has rolled it back
    bench.ledger._depth = 0
    assert not {"REJECTED", "DEAD"} & set(bench.states())


def settle_and_check(bench: Bench) -> None:
    venue = bench.venues["binance"]
    sent = len(venue.sent)
    for _ in range(2):
        desk = bench.desk()
        found = desk.reconcile()
        desk.work()
    assert found.clean
    assert bench.states() == ["ACKNOWLEDGED"]
    assert bench.held() == venue.account["BTC"] > 0
    assert len(venue.sent) == sent


def empty(bench: Bench) -> None:
    """Everything as before the entry, on both sides."""
    venue = bench.venues["binance"]
    for table in ("fills", "orders", "intents", "parent_orders", "naked_intervals", "positions"):
        bench.ledger.execute(f"DELETE FROM {table}")  # noqa: S608 - names from the line above
    bench.ledger.execute("DELETE FROM equity")
    venue.account = {"USDT": venue.account["USDT"] * 0 + 10_000}
    venue.orders.clear()
    venue.executions.clear()


def test_an_intent_that_lay_too_long_is_not_sent_any_more(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process stood still between commit and send; by now others may take it for dead."""
    insert = intents.insert

    def then_stand_still(*arguments: Any) -> bool:
        done = insert(*arguments)
        bench.time.advance(seconds=sending.SEND_WITHIN.total_seconds() + 0.001)
        return done

    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry())
    monkeypatch.setattr(intents, "insert", then_stand_still)
    (result,) = desk.work()
    assert (result.outcome, result.detail.split(":")[0]) == ("REJECTED", "SEND_LATE")
    assert bench.venues["binance"].sent == []
    assert bench.states() == ["REJECTED"]


def test_who_has_lost_the_lease_while_sending_still_says_what_came_of_it(bench: Bench) -> None:
    """Outcome, order and fills tell what happened: they need no lease. A next intent does."""
    venue = bench.venues["binance"]
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry("30", urgency="normal"))
    submit = venue.submit

    def overtaken(ticket: OrderTicket) -> VenueOrder:
        order = submit(ticket)
        bench.ledger.execute("UPDATE leases SET epoch = epoch + 1, holder = 'another run'")
        return order

    venue.submit = overtaken  # type: ignore[method-assign]
    assert [result.outcome for result in desk.work()] == ["FILLED"]
    assert bench.states() == ["ACKNOWLEDGED"]
    assert bench.held() == venue.account["BTC"] > 0
    with pytest.raises(LeaseLost):
        desk.enter(bench.entry("30"))


def test_a_lease_outlives_the_longest_run() -> None:
    """Else a run that is still sending could be taken over, or its order be taken for dead."""
    assert timedelta(seconds=leases.LEASE_SECONDS) > RUN_LIMIT
    assert RUN_LIMIT < intents.QUARANTINE
    assert RUN_LIMIT > sending.SEND_WITHIN
