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
