"""One run of a workflow at a time, and a writer that lost its lease writes nothing."""

from __future__ import annotations

import threading

import pytest

from shared.errors import LeaseLost
from shared.ledger import connection, leases
from shared.ledger.connection import Ledger
from tests.conftest import VirtualClock


def test_the_epoch_grows_with_every_holder(ledger: Ledger, virtual_clock: VirtualClock) -> None:
    first = leases.acquire(ledger, "trading_loop", "a")
    assert first is not None
    leases.release(ledger, "trading_loop", first)
    second = leases.acquire(ledger, "trading_loop", "b")
    assert second == first + 1


def test_a_held_lease_is_refused_to_others(ledger: Ledger, virtual_clock: VirtualClock) -> None:
    assert leases.acquire(ledger, "trading_loop", "a") is not None
    assert leases.acquire(ledger, "trading_loop", "b") is None
    assert leases.acquire(ledger, "circuit_breaker", "b") is not None


@pytest.mark.parametrize(("seconds", "taken"), [(leases.LEASE_SECONDS, False), (91, True)])
def test_a_lease_can_be_taken_over_after_it_expired(
    ledger: Ledger, virtual_clock: VirtualClock, seconds: int, taken: bool
) -> None:
    leases.acquire(ledger, "trading_loop", "a")
    virtual_clock.advance(seconds=seconds)
    assert (leases.acquire(ledger, "trading_loop", "b") is not None) == taken


def test_a_retry_of_the_same_event_fences_its_predecessor_off(
    ledger: Ledger, virtual_clock: VirtualClock
) -> None:
    first = leases.acquire(ledger, "trading_loop", "a")
    second = leases.acquire(ledger, "trading_loop", "a")
    assert first is not None
    assert second is not None
    leases.guard(ledger, "trading_loop", second)
    with pytest.raises(LeaseLost):
        leases.guard(ledger, "trading_loop", first)


def test_an_expired_holder_is_refused_even_before_anybody_takes_over(
    ledger: Ledger, virtual_clock: VirtualClock
) -> None:
    epoch = leases.acquire(ledger, "trading_loop", "a")
    assert epoch is not None
    virtual_clock.advance(seconds=91)
    with pytest.raises(LeaseLost):
        leases.guard(ledger, "trading_loop", epoch)


def test_a_release_by_a_stale_holder_changes_nothing(
    ledger: Ledger, virtual_clock: VirtualClock
) -> None:
    first = leases.acquire(ledger, "trading_loop", "a")
    second = leases.acquire(ledger, "trading_loop", "a")
    assert first is not None
    assert second is not None
    leases.release(ledger, "trading_loop", first)
    leases.guard(ledger, "trading_loop", second)


def test_of_many_at_once_one_gets_it(
    ledger: Ledger, database_url: str, virtual_clock: VirtualClock
) -> None:
    got: list[int] = []
    barrier = threading.Barrier(6)

    def contend(holder: str) -> None:
        own = connection.connect(database_url, "test")
        barrier.wait()
        epoch = leases.acquire(own, "trading_loop", holder)
        if epoch is not None:
            got.append(epoch)
        connection.close_all()

    threads = [threading.Thread(target=contend, args=(f"run {n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1


def test_in_real_time_the_databases_clock_decides(ledger: Ledger) -> None:
    leases.acquire(ledger, "trading_loop", "a")
    row = ledger.one(
        "SELECT extract(epoch FROM expires_at - clock_timestamp()) AS seconds FROM leases"
    )
    assert row is not None
    assert 80 < float(row["seconds"]) <= leases.LEASE_SECONDS


# What may happen between two runs, a and b, one step a word. ``a+`` takes the lease, ``a!`` writes,
# ``a-`` gives it back; ``wait`` lets it expire; ``ahead`` and ``back`` move the database's clock by
# an hour, ``slew`` moves it back by a second. ``no`` after a step: it is refused.
INTERLEAVINGS = [
    ("a+ a! a- b+ b! b-", "one after the other"),
    ("a+ b+no a! a- b+ b!", "the second waits for the first"),
    ("a+ wait b+ a!no b! a- b! b-", "taken over after it expired; the late release does nothing"),
    ("a+ wait a!no a-", "expired, and nobody came"),
    ("a+ wait a+ a! a- b+ b!", "the same event comes again after it expired"),
    ("a+ a- a!no", "nothing is written after the release"),
    ("a+ a- b+ a- b! b-", "a second release is not the new holder's"),
    ("a+ ahead b+ a!no b!", "the clock jumps ahead: the lease passes on, the first is fenced off"),
    ("a+ back a! b+ a!no b!", "it jumps back: the holder goes on until it is taken over"),
    ("a+ back b+ b! a!no a- b!", "it jumps back after the holder died: nobody is locked out"),
    ("a+ slew b+no a! a- b+ b!", "it is slewed by a second: nothing changes"),
    ("a+ back a! a- b+ b!", "it jumps back and the holder ends as it should"),
]


@pytest.mark.parametrize(
    "steps", [steps for steps, _ in INTERLEAVINGS], ids=[why for _, why in INTERLEAVINGS]
)
def test_interleavings(ledger: Ledger, virtual_clock: VirtualClock, steps: str) -> None:
    """At every moment at most one epoch can write, and every writer's epoch is the newest."""
    epochs: dict[str, int] = {}
    newest = 0
    for step in steps.split():
        run, refused = step[0], step.endswith("no")
        match step.removesuffix("no")[1:]:
            case "+":
                epoch = leases.acquire(ledger, "trading_loop", run)
                assert (epoch is None) == refused, step
                if epoch is not None:
                    assert epoch > newest
                    newest = epochs[run] = epoch
            case "!":
                assert writes(ledger, epochs[run]) != refused, step
                assert refused or epochs[run] == newest
            case "-":
                leases.release(ledger, "trading_loop", epochs[run])
            case _:
                virtual_clock.advance(seconds=JUMPS[step])


JUMPS = {"wait": leases.LEASE_SECONDS + 1, "ahead": 3600, "back": -3600, "slew": -1}


def writes(ledger: Ledger, epoch: int) -> bool:
    try:
        with ledger.transaction():
            leases.guard(ledger, "trading_loop", epoch)
    except LeaseLost:
        return False
    return True


def test_a_lease_is_not_taken_over_while_a_write_is_under_way(
    ledger: Ledger, database_url: str, virtual_clock: VirtualClock
) -> None:
    """It expires in the middle of a transaction that holds the guard: who comes has to wait."""
    first = leases.acquire(ledger, "trading_loop", "a")
    assert first is not None
    taken = threading.Event()

    def take() -> None:
        own = connection.connect(database_url, "test")
        assert leases.acquire(own, "trading_loop", "b") == first + 1
        taken.set()
        connection.close_all()

    other = threading.Thread(target=take)
    with ledger.transaction():
        leases.guard(ledger, "trading_loop", first)
        virtual_clock.advance(seconds=leases.LEASE_SECONDS + 1)
        other.start()
        assert not taken.wait(0.5)
    other.join(10)
    assert taken.is_set()
