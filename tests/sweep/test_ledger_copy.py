"""Going back puts every row and every sequence to where it was."""

from __future__ import annotations

from deploy.local.sweep.ledger_copy import LedgerCopy
from shared.ledger import events
from shared.ledger.connection import Ledger


def content(ledger: Ledger) -> list[tuple[int, str]]:
    rows = ledger.query("SELECT event_id, kind FROM events ORDER BY event_id")
    return [(row["event_id"], row["kind"]) for row in rows]


def test_rows_and_sequences_go_back(database_url: str, ledger: Ledger) -> None:
    copy = LedgerCopy(database_url)
    events.record(ledger, "FIRST", {})
    copy.save("one")
    events.record(ledger, "SECOND", {})
    ledger.execute("UPDATE trading_state SET state = 'HALTED'")
    copy.save("two")
    copy.load("one")
    before = content(ledger)
    state = ledger.one("SELECT state FROM trading_state")
    events.record(ledger, "THIRD", {})
    after = content(ledger)
    copy.load("two")
    both = content(ledger)
    copy.close()
    assert [kind for _, kind in before] == ["FIRST"]
    assert state == {"state": "ACTIVE"}
    assert after[1] == (before[0][0] + 1, "THIRD")
    assert [kind for _, kind in both] == ["FIRST", "SECOND"]
