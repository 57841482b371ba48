"""Bundles in processes of their own leave the same ledger behind as sources in this one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.local.faithful import environment
from deploy.local.market.choose import SIMULATED_FROM_MS
from deploy.local.market.source import SourceSpec
from deploy.local.scheduler import virtual_ticks
from deploy.local.session import LocalSession, SessionOptions
from shared.ledger import connection, parameters
from shared.parameters import Parameters

MINUTES = 22
SPEC = SourceSpec("simulated", ("BTC/USDT", "ETH/USDT"), SIMULATED_FROM_MS, MINUTES / 60, 3, None)
EAGER = Parameters(ensemble_threshold=0.05, ai_score_threshold=0.55, cooldown_minutes=0)

TABLES = (
    "trading_state", "runs", "events", "scans", "decisions", "risk_checks", "positions",
    "parent_orders", "intents", "orders", "fills", "transfers", "equity", "prices", "parameters",
    "performance", "alerts", "naked_intervals",
)  # fmt: skip
MEASURED = ("duration_ms", "elapsed_ms", "latency_ms", "mean_latency_ms", "build", "milliseconds")
"""How long something took is the machine's, and a source has no build."""


def _without_measured(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_measured(v) for k, v in value.items() if k not in MEASURED}
    if isinstance(value, list):
        return [_without_measured(item) for item in value]
    return value


def _ledger_of(tmp_path: Path, *, faithful: bool) -> dict[str, list[str]]:
    options = SessionOptions(
        SPEC, "same_ledger", fresh=True, faithful=faithful, models="none", folder=tmp_path
    )
    with LocalSession(options, {}) as session:
        parameters.put(session.ledger, EAGER, set_by="test", reason="test", evidence={})
        ticks = virtual_ticks(
            session.project.workflows, SIMULATED_FROM_MS, SIMULATED_FROM_MS + MINUTES * 60_000
        )
        for tick in ticks:
            failed = session.run_tick(tick).failed_step
            assert failed is None, f"{failed.namespace}: {failed.traceback or failed.error}"
        rows = {name: session.ledger.query(f"SELECT * FROM {name}") for name in TABLES}  # noqa: S608
        connection.close_all()
    return {
        name: sorted(
            json.dumps(_without_measured(row), default=str, sort_keys=True) for row in found
        )
        for name, found in rows.items()
    }


def test_both_modes_leave_the_same_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "interpreter", lambda lock, folder, say: Path(sys.executable))
    fast, faithful = (
        _ledger_of(tmp_path / mode, faithful=mode == "slow") for mode in ("fast", "slow")
    )
    assert len(fast["runs"]) > 2 * MINUTES
    assert fast["orders"] and fast["fills"]
    for name in TABLES:
        assert faithful[name] == fast[name], name
