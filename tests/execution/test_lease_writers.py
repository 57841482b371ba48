"""A run that has lost its lease writes nothing and sends nothing, whichever way it goes.

Exempt is what only tells what has happened: outcomes, orders, fills, events, alerts and halts; see
``shared/execution/sending.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from execution_bench import Bench

from shared.errors import LeaseLost
from shared.execution.desk import Desk

DECIDES = ("intents", "positions", "parent_orders", "naked_intervals", "equity")

Prepare = Callable[[Bench], Any]


def held(bench: Bench) -> int:
    row = bench.ledger.one("SELECT position_id FROM positions")
    assert row is not None
    return int(row["position_id"])


def nothing(bench: Bench) -> None:
    """As it is."""


def dust(bench: Bench) -> None:
    """What is held is worth less than any venue takes, and nothing more is wanted."""
    bench.ledger.execute("UPDATE parent_orders SET state = 'EXPIRED'")
    bench.ledger.execute("UPDATE positions SET exit_reason = 'time'")
    bench.venues["binance"].mid = Decimal("0.5")
    bench.ledger.execute("UPDATE prices SET bid = 0.5")


def lost(bench: Bench) -> None:
    """An order of which no venue knows, old enough to be given up."""
    bench.ledger.execute(
        "INSERT INTO intents SELECT (jsonb_populate_record(i, jsonb_build_object('intent_id', "
        "'x', 'client_order_id', 'x', 'logical_key', 'x', 'state', 'UNKNOWN'))).* FROM intents i"
    )
    bench.time.advance(minutes=5)


WRITERS: list[tuple[str, Prepare, Callable[[Desk, Bench], Any]]] = [
    ("enters", nothing, lambda desk, bench: desk.enter(bench.entry("30"))),
    (
        "adds",
        nothing,
        lambda desk, bench: desk.add(held(bench), Decimal(20), Decimal(100), "pyramid"),
    ),
    ("sends a slice", nothing, lambda desk, _: desk.work()),
    ("leaves", nothing, lambda desk, bench: desk.exit(held(bench), reason="stop")),
    (
        "sells a part",
        nothing,
        lambda desk, bench: desk.exit(held(bench), reason="x", fraction=Decimal("0.9")),
    ),
    ("cancels entries", nothing, lambda desk, _: desk.cancel_entries("drill")),
    ("closes", dust, lambda desk, _: desk.settle()),
    ("gives up an order", lost, lambda desk, _: desk.reconcile(compare_accounts=False)),
]


@pytest.mark.parametrize(
    ("prepare", "write"),
    [(prepare, write) for _, prepare, write in WRITERS],
    ids=[name for name, _, _ in WRITERS],
)
def test_who_has_lost_the_lease(
    bench: Bench, prepare: Prepare, write: Callable[[Desk, Bench], Any]
) -> None:
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry("80", urgency="normal"))
    desk.work()
    prepare(bench)
    later = bench.desk()
    later.reconciliation = desk.reconciliation  # clean
    sent, before = len(bench.venues["binance"].sent), written(bench)
    bench.ledger.execute("UPDATE leases SET epoch = epoch + 1, holder = 'another run'")
    with pytest.raises(LeaseLost):
        write(later, bench)
    assert len(bench.venues["binance"].sent) == sent
    assert written(bench) == before


def written(bench: Bench) -> dict[str, Any]:
    return {
        table: bench.ledger.query(f"SELECT * FROM {table}")  # noqa: S608 - names from this file
        for table in DECIDES
    }
