"""Workflows of one step in their frame: a run is claimed and ended, and a repeat does nothing."""

from __future__ import annotations

import importlib
import json
import types

import pytest

from shared.ledger.connection import Ledger
from tests.conftest import VirtualClock


@pytest.mark.parametrize("name", ["circuit_breaker", "performance_analyzer"])
def test_a_run_is_ended_and_its_event_done_once(
    name: str,
    ledger: Ledger,
    database_url: str,
    virtual_clock: VirtualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("POD", "test")
    exits: list[str] = []
    trigger = {"event": {"timestamp": 1}, "context": {"trace_id": "t"}}
    pd = types.SimpleNamespace(
        steps={"trigger": trigger}, inputs={}, flow=types.SimpleNamespace(exit=exits.append)
    )
    step = importlib.import_module(f"steps.{name}")
    json.dumps(step.handler(pd), allow_nan=False)
    row = ledger.one("SELECT workflow, status FROM runs")
    assert row == {"workflow": name, "status": "DONE"}
    step.handler(pd)
    assert exits == [f"EVENT_DONE: workflow={name}, trace_id=t"]
