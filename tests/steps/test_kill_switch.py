"""The kill switch as a step: it answers the request, and needs no lease."""

from __future__ import annotations

import types
from typing import Any

import pytest

from shared.ledger import state
from shared.ledger.connection import Ledger
from steps import kill_switch


@pytest.mark.parametrize(
    ("token", "status", "after"), [("right", 200, "HALTED"), ("wrong", 401, "ACTIVE")]
)
def test_it_halts_and_answers(
    ledger: Ledger,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    token: str,
    status: int,
    after: str,
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("KILL_SWITCH_TOKEN", "right")
    monkeypatch.setenv("POD", "test")
    answers: list[Any] = []
    event = {
        "headers": {"authorization": f"Bearer {token}"},
        "body": {"action": "halt", "reason": "looks wrong"},
    }
    pd = types.SimpleNamespace(
        steps={"trigger": {"event": event, "context": {}}}, inputs={}, respond=answers.append
    )
    export = kill_switch.handler(pd)
    assert (answers[0]["status"], export["status"]) == (status, status)
    assert state.read(ledger).state == after
