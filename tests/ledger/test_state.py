"""The trading state: it tightens by itself and loosens only as the rules allow."""

from __future__ import annotations

import threading
from datetime import timedelta
from decimal import Decimal

import pytest

from shared import clock
from shared.ledger import connection, events, state
from shared.ledger.connection import Ledger
from tests.conftest import VirtualClock


def test_a_pod_without_a_row_may_not_trade(database_url: str) -> None:
    unknown = connection.connect(database_url, "other")
    assert state.read(unknown).state == "HALTED"
    assert state.read(unknown).rearm_required


@pytest.mark.parametrize(
    ("present", "wanted", "result"),
    [
        ("ACTIVE", "REDUCING", "REDUCING"),
        ("ACTIVE", "HALTED", "HALTED"),
        ("REDUCING", "HALTED", "HALTED"),
        ("HALTED", "REDUCING", "HALTED"),
        ("REDUCING", "ACTIVE", "REDUCING"),
        ("HALTED", "ACTIVE", "HALTED"),
    ],
)
def test_tighten_never_loosens(
    ledger: Ledger, virtual_clock: VirtualClock, present: str, wanted: str, result: str
) -> None:
    if present != "ACTIVE":
        state.tighten(ledger, present, reason="first", set_by="test")  # type: ignore[arg-type]
    state.tighten(ledger, wanted, reason="second", set_by="test")  # type: ignore[arg-type]
    assert state.read(ledger).state == result


def test_a_pause_ends_when_its_time_is_over_and_not_before(
    ledger: Ledger, virtual_clock: VirtualClock
) -> None:
    until = clock.now() + timedelta(hours=1)
    state.tighten(ledger, "HALTED", reason="loss", set_by="breaker", pause_until=until)
    virtual_clock.advance(minutes=59)
    assert not state.resume_after_pause(ledger, set_by="breaker")
    virtual_clock.advance(minutes=1)
    assert state.resume_after_pause(ledger, set_by="breaker")
    assert state.read(ledger).state == "ACTIVE"


def test_a_critical_halt_needs_a_person(ledger: Ledger, virtual_clock: VirtualClock) -> None:
    until = clock.now() + timedelta(hours=24)
    state.tighten(
        ledger, "HALTED", reason="drawdown", set_by="breaker", pause_until=until,
        rearm_required=True, close_all=True,
    )  # fmt: skip
    virtual_clock.advance(hours=48)
    assert not state.resume_after_pause(ledger, set_by="breaker")
    assert state.rearm(ledger, reason="looked at it", set_by="a person")
    now = state.read(ledger)
    assert (now.state, now.rearm_required, now.close_all) == ("ACTIVE", False, False)


def test_a_halt_without_an_end_does_not_end_by_itself(
    ledger: Ledger, virtual_clock: VirtualClock
) -> None:
    state.tighten(ledger, "HALTED", reason="a person", set_by="test")
    virtual_clock.advance(hours=1000)
    assert not state.resume_after_pause(ledger, set_by="breaker")


def test_a_later_pause_prolongs_and_an_earlier_one_does_not(
    ledger: Ledger, virtual_clock: VirtualClock
) -> None:
    late, early = clock.now() + timedelta(hours=2), clock.now() + timedelta(hours=1)
    state.tighten(ledger, "HALTED", reason="1", set_by="test", pause_until=late)
    state.tighten(ledger, "HALTED", reason="2", set_by="test", pause_until=early)
    assert state.read(ledger).pause_until == late


def test_every_change_is_an_event(ledger: Ledger, virtual_clock: VirtualClock) -> None:
    state.tighten(ledger, "REDUCING", reason="careful", set_by="test")
    state.tighten(ledger, "REDUCING", reason="again", set_by="test")  # changes nothing
    state.rearm(ledger, reason="fine", set_by="test")
    assert [(e["detail"]["from"], e["detail"]["to"]) for e in events.recent(ledger)] == [
        ("REDUCING", "ACTIVE"),
        ("ACTIVE", "REDUCING"),
    ]


def test_restrictions_are_set_and_taken_back(ledger: Ledger, virtual_clock: VirtualClock) -> None:
    state.set_restrictions(ledger, size_factor=Decimal("0.5"), limit_orders_only=True)
    now = state.read(ledger)
    assert (now.size_factor, now.limit_orders_only) == (Decimal("0.5"), True)


def test_a_halt_waits_for_a_transaction_that_has_read_the_state(
    ledger: Ledger, database_url: str, virtual_clock: VirtualClock
) -> None:
    """No order slips by: its transaction holds the row that the halt wants to change."""
    order: list[str] = []
    reading, done = threading.Event(), threading.Event()

    def halt() -> None:
        reading.wait()
        own = connection.connect(database_url, "test")
        state.tighten(own, "HALTED", reason="drill", set_by="test")
        order.append("halted")
        connection.close_all()
        done.set()

    thread = threading.Thread(target=halt)
    thread.start()
    with ledger.transaction():
        state.read(ledger, lock=True)
        reading.set()
        done.wait(0.2)
        order.append("committed")
    thread.join()
    assert order == ["committed", "halted"]


def test_only_what_the_same_one_tightened_is_lifted(ledger: Ledger) -> None:
    assert not state.lift(ledger, set_by="deploy:a", reason="done")
    state.tighten(ledger, "REDUCING", reason="change", set_by="deploy:a", rearm_required=True)
    assert not state.lift(ledger, set_by="deploy:b", reason="done")
    assert state.lift(ledger, set_by="deploy:a", reason="done")
    assert state.read(ledger).state == "ACTIVE"
    state.tighten(ledger, "REDUCING", reason="change", set_by="deploy:a", rearm_required=True)
    state.tighten(ledger, "HALTED", reason="drawdown", set_by="breaker")
    assert not state.lift(ledger, set_by="deploy:a", reason="done")
    assert state.read(ledger).state == "HALTED"


@pytest.mark.parametrize("paused", ["REDUCING", "HALTED"])
def test_a_pause_that_was_there_before_outlives_what_is_lifted(
    ledger: Ledger, virtual_clock: VirtualClock, paused: state.State
) -> None:
    """The breaker has paused trading for an hour; code that is deployed meanwhile does not end it,
    nor does the deployment leave anything that a person has to end."""
    until = clock.now() + timedelta(hours=1)
    state.tighten(ledger, paused, reason="losses", set_by="breaker", pause_until=until)
    state.tighten(ledger, "REDUCING", reason="change", set_by="deploy:a", rearm_required=True)
    virtual_clock.advance(hours=2)
    assert not state.resume_after_pause(ledger, set_by="breaker")  # not while code changes
    virtual_clock.advance(hours=-2)
    assert not state.lift(ledger, set_by="deploy:a", reason="deployed")
    present = state.read(ledger)
    assert (present.state, present.pause_until, present.rearm_required) == (paused, until, False)
    assert not state.resume_after_pause(ledger, set_by="breaker")
    virtual_clock.advance(hours=2)
    assert state.resume_after_pause(ledger, set_by="breaker")
    assert state.read(ledger).state == "ACTIVE"
