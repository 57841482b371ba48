"""The real workflows as bundles in processes, under a schedule that fails: the books hold."""

from __future__ import annotations

import io
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from rich.console import Console

from deploy.local import report
from deploy.local.faithful import environment
from deploy.local.market.choose import SIMULATED_FROM_MS
from deploy.local.market.source import SourceSpec
from deploy.local.replay import Replay, ReplayOptions
from deploy.local.schedule_faults.rates import FaultRates
from deploy.local.session import LocalSession, SessionOptions
from shared.ledger import parameters
from tests.local.faithful.test_same_ledger import EAGER

MINUTES = 40
SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT")
SPEC = SourceSpec("simulated", SYMBOLS, SIMULATED_FROM_MS, MINUTES / 60, 4, None)
RATES = FaultRates(seed=5, late=0.06, double=0.06, miss=0.05, overlap=0.06, retry=0.06, kill=0.06)


def test_the_books_hold_whatever_befalls_the_schedule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "interpreter", lambda lock, folder, say: Path(sys.executable))
    options = ReplayOptions(
        SPEC, "conservative", Decimal(10_000), "none", None, False, faithful=True, faults=RATES
    )
    session_options = SessionOptions(
        SPEC, "faulty", fresh=True, faithful=True, models="none", folder=tmp_path
    )
    with LocalSession(session_options, {}) as session:
        parameters.put(session.ledger, EAGER, set_by="test", reason="test", evidence={})
        outcome = Replay(session, options, Console(file=io.StringIO())).run()
    befell = outcome.report["schedule_faults"]
    assert befell["violations"] == []
    assert outcome.report["ledger_matches_venue"]
    assert outcome.report["orders"]["filled"] > 0, outcome.report
    happened = {kind.partition(",")[0] for kind, n in befell["faults"].items() if n["happened"]}
    assert happened == {"late", "double", "miss", "overlap", "retry", "kill"}
    usage = outcome.report["usage"]["trading_loop"]
    assert usage["cold_starts"] > 1 and 64 < usage["peak_mib"] < 256
    printed = io.StringIO()
    report.show(Console(file=printed), outcome.report, outcome.tally, resumed=False)
    assert f"Faults of the schedule: {RATES}" in printed.getvalue()
    assert "Invariants violated: 0" in printed.getvalue()
