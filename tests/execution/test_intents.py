"""What an intent is written as, which ones nobody knows the outcome of, and what settles them."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from execution_bench import Bench
from scripted_venue import ScriptedVenue

from shared import clock
from shared.execution import intents
from shared.execution.intents import Intent, Outcome
from shared.execution.types import OrderTicket

BTC = "BTC/USDT"


def position(bench: Bench) -> int:
    row = bench.ledger.one(
        "INSERT INTO positions (pod, symbol, sleeve, strategy, opened_at, stop_price) "
        "VALUES ('test', %s, 'tactical', 'momentum', %s, 98) "
        "ON CONFLICT (pod, symbol, sleeve) WHERE closed_at IS NULL "
        "DO UPDATE SET strategy = excluded.strategy RETURNING position_id",
        (BTC, clock.now()),
    )
    assert row is not None
    return int(row["position_id"])


def intent(bench: Bench, key: str = "key", **changes: Any) -> Intent:
    """An entry of 0.5 at 100.10, five cents above what the scripted venue asks."""
    values: dict[str, Any] = {
        "client_order_id": intents.client_order_id(key),
        "venue": "binance",
        "symbol": BTC,
        "side": "buy",
        "order_type": "limit",
        "time_in_force": "IOC",
        "quantity": Decimal("0.5"),
        "limit_price": Decimal("100.10"),
    }
    own = {name: changes.pop(name) for name in ("purpose", "parent_id", "slice") if name in changes}
    fields: dict[str, Any] = {"purpose": "entry", "parent_id": None, "slice": None} | own
    ticket = OrderTicket(**(values | changes))
    mids = (Decimal("100.01"), Decimal("100.02"))
    return Intent(key, position(bench), ticket=ticket, decision_mid=mids[0], arrival_mid=mids[1],
                  **fields)  # fmt: skip


def test_the_client_order_id_is_18_characters_of_the_keys_digest() -> None:
    """The digest is a constant of SHA-256: an id that changes would no longer find old orders."""
    assert intents.client_order_id("abc") == "tlxj4bnp4pahh6uqkb"
    ids = {intents.client_order_id(f"decision:{number}") for number in range(1_000)}
    assert {len(name) for name in ids} == {18}
    assert len(ids) == 1_000


@pytest.mark.parametrize(
    ("venue_mode", "sent", "asks"),
    [
        ("live", "live", True),
        ("simulated", "simulated", True),
        ("paper", "live", False),
        ("live", "paper", False),
        ("live", None, True),  # older than the column
        ("paper", None, True),
    ],
)
def test_who_can_know_of_what_was_sent(venue_mode: Any, sent: str | None, asks: bool) -> None:
    venue = ScriptedVenue()
    venue.mode = venue_mode
    assert intents.asks_of(venue, sent) is asks


def test_an_intent_is_written_in_full_and_once(bench: Bench) -> None:
    venue = bench.venues["binance"]
    venue.request_validity = timedelta(seconds=17)
    made = intent(bench, stop_price=Decimal(97), post_only=True, slice=3)
    assert intents.insert(bench.ledger, made, 7, venue) is True
    row = bench.ledger.one("SELECT * FROM intents")
    assert row is not None
    assert row | {
        "intent_id": made.ticket.client_order_id, "logical_key": "key", "pod": "test",
        "client_order_id": made.ticket.client_order_id, "position_id": made.position_id,
        "parent_id": None, "slice": 3, "venue": "binance", "symbol": BTC, "side": "buy",
        "purpose": "entry", "order_type": "limit", "time_in_force": "IOC",
        "quantity": Decimal("0.5"), "limit_price": Decimal("100.10"), "stop_price": 97,
        "post_only": True, "decision_mid": Decimal("100.01"), "arrival_mid": Decimal("100.02"),
        "epoch": 7, "mode": "simulated", "state": "SENDING", "sent_at": clock.now(),
        "valid_until": clock.now() + timedelta(seconds=17), "error": None, "resolved_at": None,
    } == row  # fmt: skip
    bench.time.advance(minutes=1)
    assert intents.insert(bench.ledger, made, 8, venue) is False
    assert bench.ledger.query("SELECT epoch FROM intents") == [{"epoch": 7}]


def write(bench: Bench, *keys: str) -> list[str]:
    """Intents a second apart; returns their ids."""
    written = []
    for key in keys:
        made = intent(bench, key)
        assert intents.insert(bench.ledger, made, 1, bench.venues["binance"])
        written.append(made.intent_id)
        bench.time.advance(seconds=1)
    return written


@pytest.mark.parametrize("outcome", ["ACKNOWLEDGED", "REJECTED", "DEAD", "UNKNOWN"])
def test_settling_touches_one_intent_and_a_terminal_state_stays(
    bench: Bench, outcome: Outcome
) -> None:
    first, second = write(bench, "a", "b")
    assert intents.settle(bench.ledger, first, outcome, "because") is True
    rows = bench.ledger.query("SELECT state, error, resolved_at FROM intents ORDER BY sent_at")
    resolved_at = None if outcome == "UNKNOWN" else clock.now()
    assert rows == [
        {"state": outcome, "error": "because", "resolved_at": resolved_at},
        {"state": "SENDING", "error": None, "resolved_at": None},
    ]
    again = intents.settle(bench.ledger, first, "ACKNOWLEDGED")
    assert again is (outcome == "UNKNOWN")
    assert bench.states() == ["ACKNOWLEDGED" if again else outcome, "SENDING"]
    error = bench.ledger.one("SELECT error FROM intents WHERE intent_id = %s", (first,))
    assert error == {"error": "because"}  # what was said stays


def test_settling_what_does_not_exist_changes_nothing(bench: Bench) -> None:
    write(bench, "a")
    assert intents.settle(bench.ledger, "another", "DEAD") is False
    assert bench.states() == ["SENDING"]


def test_unresolved_are_those_of_the_pod_that_wait_for_an_outcome_oldest_first(
    bench: Bench,
) -> None:
    sending, unknown, *others, strange = write(bench, "a", "b", "c", "d", "e", "f")
    intents.settle(bench.ledger, unknown, "UNKNOWN")
    outcomes: tuple[Outcome, ...] = ("ACKNOWLEDGED", "REJECTED", "DEAD")
    for intent_id, outcome in zip(others, outcomes, strict=True):
        intents.settle(bench.ledger, intent_id, outcome)
    bench.ledger.execute("UPDATE intents SET pod = 'other' WHERE intent_id = %s", (strange,))
    # the younger one is stored first
    bench.ledger.execute(
        "UPDATE intents SET sent_at = sent_at - interval '1 hour' WHERE intent_id = %s", (unknown,)
    )
    assert [waiting.intent_id for waiting in intents.unresolved(bench.ledger)] == [unknown, sending]


def test_an_intent_is_found_by_its_own_key(bench: Bench) -> None:
    first, second = write(bench, "a", "b")
    for key, intent_id in (("a", first), ("b", second)):
        row = intents.by_key(bench.ledger, key)
        assert row is not None
        assert (row["intent_id"], row["state"]) == (intent_id, "SENDING")
    assert intents.by_key(bench.ledger, "c") is None
