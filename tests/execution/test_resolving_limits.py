"""The resolver at the moment of its limits, and over several orders at once."""

from __future__ import annotations

from typing import Any

import pytest
from execution_bench import Bench
from test_intents import write
from test_resolve import leave_unknown

from shared import clock
from shared.execution import intents
from shared.execution.reconciling import resolving
from shared.execution.reconciling.findings import Reconciliation
from shared.execution.types import OrderTicket


def resolve(bench: Bench, venues: Any = None) -> Reconciliation:
    """What the resolver alone finds now, in a run that has just begun."""
    found = Reconciliation()
    run = bench.run()
    resolving.resolve(run, bench.venues if venues is None else venues, found)
    return found


@pytest.mark.parametrize(("after_ms", "state"), [(120_000, "UNKNOWN"), (120_001, "DEAD")])
def test_death_comes_after_validity_and_quarantine_not_with_them(
    bench: Bench, after_ms: int, state: str
) -> None:
    """30 s in which its request can make an order, and 90 s in which queries may lag."""
    intent_id = leave_unknown(bench)
    bench.time.advance(milliseconds=after_ms)
    found = resolve(bench)
    assert bench.states() == [state]
    assert (found.resolved, found.still_unknown) == (
        ([intent_id], []) if state == "DEAD" else ([], [intent_id])
    )
    row = bench.ledger.one("SELECT error FROM intents")
    died = "no order, no fill and no balance of the venue shows it after quarantine"
    assert (row == {"error": died}) is (state == "DEAD")


@pytest.mark.parametrize(("after_ms", "told"), [(600_000, 0), (600_001, 1)])
def test_a_person_is_told_after_ten_minutes_not_with_them(
    bench: Bench, after_ms: int, told: int
) -> None:
    leave_unknown(bench)
    bench.venues["binance"].down = True
    bench.time.advance(milliseconds=after_ms)
    assert resolve(bench).unread != []
    assert len(bench.ledger.query("SELECT 1 FROM alerts")) == told


def test_every_order_is_looked_for_whatever_became_of_those_before(bench: Bench) -> None:
    """The first is found, the second is not and stays unknown, the third is found again."""
    venue, ids = bench.venues["binance"], write(bench, "a", "b", "c")
    for key in ("a", "c"):
        row = intents.by_key(bench.ledger, key)
        assert row is not None
        venue.next_submit = ""
        venue.submit(ticket_of(row))
    found = resolve(bench)
    assert found.resolved == [ids[0], ids[2]]
    assert found.still_unknown == [ids[1]]
    assert bench.states() == ["ACKNOWLEDGED", "SENDING", "ACKNOWLEDGED"]


def ticket_of(row: Any) -> OrderTicket:
    return OrderTicket(
        row["client_order_id"], row["venue"], row["symbol"], row["side"], row["order_type"],
        row["time_in_force"], row["quantity"], row["limit_price"],
    )  # fmt: skip


def test_the_event_of_a_death_names_order_and_venue(bench: Bench) -> None:
    intent_id = leave_unknown(bench)
    bench.time.advance(minutes=5)
    resolve(bench)
    rows = bench.ledger.query("SELECT detail FROM events WHERE kind = 'ORDER_DEAD'")
    assert rows == [{"detail": {"intent": intent_id, "venue": "binance"}}]


def test_an_order_of_a_venue_that_nobody_can_ask_is_named_as_unread(bench: Bench) -> None:
    intent_id = leave_unknown(bench)
    found = resolve(bench, venues={})
    assert found.still_unknown == [intent_id]
    assert len(found.unread) == 1
    assert "binance" in found.unread[0]
    assert not found.clean


def test_an_order_of_another_mode_is_told_at_once(bench: Bench) -> None:
    """No later run of this mode can find it out either."""
    leave_unknown(bench)
    bench.ledger.execute("UPDATE intents SET mode = 'live'")
    before = clock.now()
    found = resolve(bench)
    assert (found.resolved, len(found.still_unknown)) == ([], 1)
    row = bench.ledger.one("SELECT severity, body, at FROM alerts")
    assert row is not None
    assert (row["severity"], row["at"]) == ("HIGH", before)
    assert "it was sent live, and this run is simulated: nobody can ask" in row["body"]
