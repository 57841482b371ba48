"""The step in its frame: what the platform gives, what it exports, what it leaves behind."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from shared import BUILD
from shared.ledger.connection import Ledger
from steps.signal_generator import handler
from tests.signals.builders import AT_MS, market, open_run, scan


@pytest.fixture
def pd(
    ledger: Ledger, database_url: str, virtual_clock: Any, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """The platform's object after a scanner that saw a rising market."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("POD", ledger.pod)
    export = scan(market(), market("ETH/USDT", ai_score=None))
    run = open_run(ledger, export, "trace-1")
    export["run"] = {"run_id": run.run_id, "epoch": run.epoch, "build": BUILD, "elapsed_ms": 0.0}
    trigger = {"context": {"trace_id": "trace-1"}, "event": {"timestamp": AT_MS // 1000}}
    return SimpleNamespace(
        inputs={},
        steps={"trigger": trigger, "market_scanner": {"$return_value": export}},
        flow=SimpleNamespace(exit=lambda reason: f"exit: {reason}"),
    )


def test_the_export_keeps_its_contract(pd: Any) -> None:
    export = json.loads(json.dumps(handler(pd), allow_nan=False))
    assert set(export) == {
        "strategies",
        "regimes",
        "candidates",
        "primarySignal",
        "validation",
        "finalDecision",
        "timestamp",
        "run",
    }
    assert set(export["finalDecision"]) == {
        "decision_id",
        "action",
        "symbol",
        "confidence",
        "size",
        "reasoning",
        "source",
        "strategy",
        "mid",
        "ai_score",
        "ai_score_rank",
        "odds",
        "urgency",
        "win_probability",
        "win_loss_ratio",
    }
    for signal in export["strategies"]:
        assert set(signal) == {
            "symbol",
            "name",
            "signal",
            "strength",
            "confidence",
            "weight",
            "evidence",
            "pnl_quote",
        }
    assert set(export["regimes"]) == {"BTC/USDT", "ETH/USDT"}
    assert export["timestamp"] == AT_MS
    assert [c["symbol"] for c in export["candidates"]] == ["BTC/USDT"]


def test_a_retry_of_the_step_decides_once(pd: Any, ledger: Ledger) -> None:
    first, second = handler(pd), handler(pd)
    assert first["finalDecision"] == second["finalDecision"]
    assert ledger.one("SELECT count(*) AS n FROM decisions") == {"n": 1}


def test_a_run_that_has_lost_its_lease_ends_quietly(pd: Any, ledger: Ledger) -> None:
    ledger.execute("UPDATE leases SET epoch = epoch + 1")
    assert str(handler(pd)).startswith("exit: trading_loop")
    assert ledger.one("SELECT count(*) AS n FROM decisions") == {"n": 0}
