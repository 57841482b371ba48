"""Whatever dies between whichever two statements: the next runs protect what is held."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from execution_bench import Bench
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from protection_bench import assert_protected, buy, protected, stop_at
from scripted_venue import ScriptedVenue

from shared.execution.desk import Desk
from shared.execution.exits import covers
from shared.ledger.connection import Ledger

_VENUE_CALLS = ("submit", "cancel", "order", "book", "fills", "find_order")


class Killed(BaseException):
    """The process is gone. No handler of ours catches it."""


class Killer:
    """Kills right before the n-th call to ledger or venue: that is right after the one before it.

    Attributes:
        spared: the last block ended before its kill was due.
    """

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        self._bench, self._left, self.spared = bench, 0, False
        for name in ("query", "one", "execute"):
            monkeypatch.setattr(Ledger, name, self._wrapped(getattr(Ledger, name)))
        for venue in bench.venues.values():
            for name in _VENUE_CALLS:
                monkeypatch.setattr(venue, name, self._wrapped(getattr(venue, name)))

    @contextlib.contextmanager
    def at(self, call: int) -> Iterator[None]:
        """Within the block; the block ends at the kill, and the connection with it."""
        self._left = call
        try:
            yield
        except Killed:
            self._bench.ledger._depth = 0
            self._bench.ledger.execute("ROLLBACK")
        self.spared = self._left > 0
        self._left = 0

    def _wrapped(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if self._left == 0:
                return method(*arguments, **options)
            self._left -= 1
            if self._left == 0:
                raise Killed
            return method(*arguments, **options)

        return call


def whole_run(bench: Bench, act: Callable[[Desk], Any] = lambda desk: None) -> Desk:
    """What each run of the trading loop does, around ``act``."""
    desk = bench.desk()
    desk.reconcile()
    desk.protect()
    for row in bench.ledger.query("SELECT * FROM positions WHERE closed_at IS NULL"):
        reached = any(venue.bid <= row["stop_price"] for venue in bench.venues.values())
        if row["exit_reason"] is not None or reached:
            desk.exit(row["position_id"], reason=row["exit_reason"] or "stop")
    act(desk)
    desk.work()
    desk.protect()
    desk.settle()
    return desk


def assert_sound(bench: Bench) -> None:
    """All that is held is protected, once; ledger and venue agree; nothing is naked any more."""
    assert_protected(bench)
    venue = bench.venues["binance"]
    assert bench.held() == venue.account.get("BTC", Decimal(0)) >= 0
    assert len(venue.stops) <= 1
    open_intervals = "SELECT * FROM naked_intervals WHERE until IS NULL"
    assert bench.ledger.query(open_intervals) == []


def _raise_stop(bench: Bench) -> None:
    stop_at(bench, "99")


def _nothing(bench: Bench) -> None:
    """The stop is missing, that is all."""


def _end_stop(bench: Bench) -> None:
    venue = bench.venues["binance"]
    venue._end_stop(next(iter(venue.stops)), "cancelled")


CASES: dict[str, tuple[bool, Callable[[Bench], None], Decimal | None]] = {
    # whether a stop rests before, what changes, what share of the position is left
    "first stop": (False, _nothing, None),
    "replaced": (True, _raise_stop, None),
    "ended on the venue": (True, _end_stop, None),
    "a part is sold": (True, _nothing, Decimal("0.5")),
    "left whole": (True, _nothing, Decimal(1)),
}


@pytest.mark.parametrize("case", list(CASES))
def test_a_death_at_any_statement_is_mended_by_the_next_runs(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    rests, change, share = CASES[case]
    venue = bench.venues["binance"]
    killer, call = Killer(bench, monkeypatch), 0
    while not killer.spared:
        call += 1
        position_id = protected(bench) if rests else buy(bench)
        bought = bench.held()
        change(bench)
        desk = bench.desk()
        venue.fill_share = Decimal("0.6")  # an exit sells only a part at first
        with killer.at(call):
            desk.reconcile(compare_accounts=False)
            desk.protect()
            if share is not None:
                desk.exit(position_id, reason="target", fraction=share)
            desk.protect()
        venue.fill_share = Decimal(1)
        for _ in range(4):  # an intent that was never sent is dead after two minutes
            whole_run(bench)
            assert len(venue.stops) <= 1
        assert_sound(bench)
        if share == Decimal("0.5"):
            assert bench.held() >= bought / 2 - Decimal("0.001")  # no second part
        whole_run(bench, lambda desk, p=position_id: desk.exit(p, reason="test"))  # type: ignore[misc]
        assert bench.held() == 0
        assert venue.stops == {}
    assert call > 20


STEPS = st.one_of(
    st.tuples(st.just("add"), st.sampled_from(["12", "25"])),
    st.tuples(st.just("part"), st.sampled_from(["0.4", "1"])),
    st.tuples(st.just("leave"), st.sampled_from(["0", "0.4", "1"])),
    st.tuples(st.just("move"), st.sampled_from(["95", "97.9", "99", "100", "101", "103"])),
    st.tuples(st.just("stop"), st.sampled_from(["98.05", "98.5", "99", "99.6"])),
    st.tuples(st.just("submit"), st.sampled_from(["reject", "lose answer", "lose request"])),
    st.tuples(st.just("cancel"), st.sampled_from(["fail", "lose answer", "ignore", "fill first"])),
    st.tuples(st.just("kill"), st.sampled_from([f"{n}" for n in range(1, 90, 3)])),
)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(STEPS, min_size=2, max_size=6))
def test_after_any_history_what_is_held_is_protected(
    bench: Bench, steps: list[tuple[str, str]]
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        _live_through(bench, Killer(bench, monkeypatch), steps)


def _live_through(bench: Bench, killer: Killer, steps: list[tuple[str, str]]) -> None:
    venue = bench.venues["binance"]
    venue.move("100")
    position_id = buy(bench, "40")
    for kind, value in steps:
        venue.fill_share = Decimal(value) if kind in ("part", "leave") else Decimal(1)
        if kind == "submit":
            venue.next_submit = value
        elif kind == "cancel":
            venue.next_cancel = value
        elif kind == "move":
            venue.move(value)
        elif kind == "stop":
            bench.ledger.execute(
                "UPDATE positions SET stop_price = greatest(stop_price, %s) "
                "WHERE closed_at IS NULL", (Decimal(value),)
            )  # fmt: skip
        with killer.at(int(value) if kind == "kill" else 0):
            whole_run(bench, _act(bench, position_id, kind, value))
        _assert_nothing_is_claimed_twice(bench, venue)
    venue.next_submit = venue.next_cancel = ""
    venue.fill_share = Decimal(1)
    venue.move("105")
    for _ in range(18):  # an unknown order dies in two minutes, a refused stop waits up to 15
        whole_run(bench)
    assert_sound(bench)
    whole_run(bench, lambda desk: desk.exit(position_id, reason="test"))
    assert_sound(bench)
    assert (bench.held(), venue.stops) == (0, {})
    assert bench.ledger.query("SELECT 1 FROM positions WHERE closed_at IS NULL") == []


def _act(bench: Bench, position_id: int, kind: str, value: str) -> Callable[[Desk], Any]:
    def act(desk: Desk) -> None:
        row = bench.ledger.one(
            "SELECT 1 FROM positions WHERE position_id = %s AND closed_at IS NULL "
            "AND exit_reason IS NULL", (position_id,)
        )  # fmt: skip
        if row is None:
            return
        if kind == "add":
            desk.add(position_id, Decimal(value), venue_mid(bench), "pyramid")
        elif kind in ("part", "leave"):
            fraction = Decimal("0.5") if kind == "part" else Decimal(1)
            desk.exit(position_id, reason="target", fraction=fraction)

    return act


def venue_mid(bench: Bench) -> Decimal:
    return bench.venues["binance"].mid


def _assert_nothing_is_claimed_twice(bench: Bench, venue: ScriptedVenue) -> None:
    assert len(venue.stops) <= 1
    assert venue.locked() <= venue.account.get("BTC", Decimal(0))
    for cover in covers.of_pod(bench.ledger):
        if not cover.unknown_stops:
            assert cover.resting + cover.in_flight <= cover.held or cover.stops == 0
