"""The step in its frame: a run is claimed, ended, and repeated as the same event does nothing."""

from __future__ import annotations

import json
import types
from typing import Any

import pytest

from shared.ledger.connection import Ledger
from steps import circuit_breaker as step


def test_a_run_is_ended_and_its_event_done_once(
    ledger: Ledger, database_url: str, virtual_clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("POD", "test")
    exits: list[str] = []
    trigger = {"event": {"timestamp": 1}, "context": {"trace_id": "t"}}
    pd = types.SimpleNamespace(
        steps={"trigger": trigger}, inputs={}, flow=types.SimpleNamespace(exit=exits.append)
    )
    export = step.handler(pd)
    json.dumps(export, allow_nan=False)
    assert ledger.one("SELECT workflow, status FROM runs") == {
        "workflow": "circuit_breaker",
        "status": "DONE",
    }
    step.handler(pd)
    assert exits == ["EVENT_DONE: workflow=circuit_breaker, trace_id=t"]
