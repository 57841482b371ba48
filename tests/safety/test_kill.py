"""The kill switch: who may pull it, what it understands, and that it only tightens."""

from __future__ import annotations

from typing import Any

import pytest

from shared.ledger import alerts, state
from shared.ledger.connection import Ledger
from shared.safety import kill
from tests.safety.world import settings

TOKEN = "a-long-token"


@pytest.mark.parametrize(
    ("configured", "headers", "status"),
    [
        (TOKEN, {"authorization": f"Bearer {TOKEN}"}, None),
        (TOKEN, {"Authorization": f"bearer {TOKEN}"}, None),
        (TOKEN, {}, 401),
        (TOKEN, {"authorization": "Bearer wrong"}, 401),
        (TOKEN, {"authorization": f"Bearer {TOKEN}x"}, 401),
        (TOKEN, {"authorization": "Bearer "}, 401),
        (TOKEN, {"authorization": TOKEN}, 401),
        (TOKEN, {"authorization": f"Basic {TOKEN}"}, 401),
        (TOKEN, {"authorization": "Bearer ключ"}, 401),
        (None, {"authorization": f"Bearer {TOKEN}"}, 403),
        (None, {"authorization": "Bearer "}, 403),
        (None, {}, 403),
    ],
)
def test_who_may_pull_it(
    configured: str | None, headers: dict[str, Any], status: int | None
) -> None:
    config = settings(**({"KILL_SWITCH_TOKEN": configured} if configured else {}))
    refusal = kill.authorise(config, headers)
    assert (refusal.status if refusal else None) == status
    assert refusal is None or TOKEN not in str(refusal.body)


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (None, "body: expected a JSON object, was NoneType"),
        ("halt", "body: expected a JSON object, was str"),
        ({}, "action: expected one of halt, reduce, was None"),
        ({"action": "resume", "reason": "x"}, "action: expected one of halt, reduce, was 'resume'"),
        ({"action": "halt"}, "reason: expected a text of 1 to 500 characters, was None"),
        ({"action": "halt", "reason": "  "}, "reason: expected a text"),
        ({"action": "halt", "reason": "x" * 501}, "reason: expected a text"),
        ({"action": "halt", "reason": "x", "force": 1}, "force: expected action and reason only"),
        ({"action": ["halt"], "reason": "x"}, "action: expected one of"),
    ],
)
def test_a_malformed_request_names_its_fault(ledger: Ledger, body: Any, names: str) -> None:
    response = kill.pull(ledger, body)
    assert response.status == 400
    assert names in response.body["error"]
    assert state.read(ledger).state == "ACTIVE"


@pytest.mark.parametrize(
    ("before", "action", "after", "changed"),
    [
        ("ACTIVE", "halt", "HALTED", True),
        ("ACTIVE", "reduce", "REDUCING", True),
        ("REDUCING", "halt", "HALTED", True),
        ("HALTED", "reduce", "HALTED", True),  # now a person has to re-arm
    ],
)
def test_it_only_tightens(
    ledger: Ledger, before: Any, action: str, after: str, changed: bool
) -> None:
    if before != "ACTIVE":
        state.tighten(ledger, before, reason="earlier", set_by="circuit_breaker")
    response = kill.pull(ledger, {"action": action, "reason": "looks wrong"})
    now = state.read(ledger)
    assert (response.status, response.body["changed"]) == (200, changed)
    assert (now.state, now.rearm_required, now.set_by) == (after, True, "kill_switch")


def test_pulled_twice_it_changes_and_tells_once(ledger: Ledger) -> None:
    request = {"action": "halt", "reason": "looks wrong"}
    assert kill.pull(ledger, request).body["changed"] is True
    assert kill.pull(ledger, request).body["changed"] is False
    assert len(alerts.unsent(ledger)) == 1


def test_the_breaker_does_not_undo_it(ledger: Ledger) -> None:
    kill.pull(ledger, {"action": "halt", "reason": "looks wrong"})
    assert state.resume_after_pause(ledger, set_by="circuit_breaker") is False
