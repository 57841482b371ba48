"""A ledger as 48 hours of mock trading leave it, written row by row."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from deploy.cli import environment
from deploy.local import manifest
from deploy.local.manifest import Project
from deploy.local.servers import PROJECT
from deploy.phases import drill, runs_seen
from shared import config
from shared.config import Config
from shared.ledger import connection
from shared.ledger.connection import Ledger, json
from shared.ledger.runs import THIS_BUILD

END = datetime(2025, 5, 8, 12, 0, tzinfo=UTC)
_numbers = itertools.count(1)


@dataclass
class Mock:
    """What is written into the pod's ledger."""

    database_url: str
    project: Project
    settings: Config

    @property
    def ledger(self) -> Ledger:
        """A command closes the connections of its process."""
        return connection.connect(self.database_url, "test")

    def runs(self, hours: float = 49, *, end: datetime = END, build: str = THIS_BUILD) -> None:
        """Every scheduled workflow at each of its ticks."""
        for workflow in runs_seen.scheduled(self.project):
            schedule = workflow.schedule
            assert schedule is not None
            moment, rows = schedule.next_after(end - timedelta(hours=hours)), []
            while moment <= end:
                rows.append(moment)
                moment = schedule.next_after(moment)
            self.ledger.execute(
                "INSERT INTO runs (pod, workflow, trace_id, event_at, epoch, build, started_at, "
                "finished_at, status) SELECT 'test', %s, %s || at, at, 1, %s, at, at, 'DONE' "
                "FROM unnest(%s) AS at",
                (workflow.name, workflow.name, build, rows),
            )

    def run_id(self) -> int:
        row = self.ledger.one("SELECT min(run_id) AS run_id FROM runs")
        assert row is not None
        return int(row["run_id"])

    def traces(self, at: datetime = END) -> None:
        """One row of what each component leaves, and a filled order."""
        execute, run_id = self.ledger.execute, self.run_id()
        execute(
            "INSERT INTO scans (pod, run_id, at, parameters_version, next_action, payload) "
            "VALUES ('test', %s, %s, 1, 'WAIT', '{}')",
            (run_id, at),
        )
        execute("INSERT INTO performance VALUES ('test', %s, 24, '{}', '[]', '[]')", (at,))
        execute("INSERT INTO health VALUES ('test', %s, 'HEALTHY', '{}', '[]', '{}')", (at,))
        execute("INSERT INTO equity VALUES ('test', %s, 10000, 10000, 0)", (at,))
        execute(
            "INSERT INTO transfers (pod, venue, currency, amount, at, note) "
            "VALUES ('test', 'binance', 'USDT', 10000, %s, 'paid in')",
            (at - timedelta(days=9),),
        )
        self.entry(at=at - timedelta(hours=2), filled="0.5")

    def entry(
        self,
        *,
        at: datetime,
        approved: bool = True,
        size: int = 100,
        filled: str | None = None,
        mode: str = "paper",
        open_hours: float = 1,
    ) -> int:
        """A decision, its check, its position and its order; returns the position."""
        number, ledger = next(_numbers), self.ledger
        ledger.execute(
            "INSERT INTO decisions (decision_id, pod, run_id, at, symbol, action, source, strategy,"
            " confidence, size_fraction, mid_price, reasoning, inputs) VALUES "
            "(%s, 'test', %s, %s, 'BTC/USDT', 'BUY', 'ensemble', 'momentum', 0.8, 1, 100, '', "
            "'{}')",
            (f"d{number}", self.run_id(), at),
        )
        ledger.execute(
            "INSERT INTO risk_checks VALUES (%s, 'test', %s, %s, %s, '{}', '{}', '[]', '{}')",
            (f"d{number}", at, approved, size),
        )
        row = ledger.one(
            "INSERT INTO positions (pod, symbol, strategy, opened_at, closed_at, close_reason, "
            "stop_price) VALUES ('test', %s, 'momentum', %s, %s, 'stop', 90) RETURNING position_id",
            (f"S{number}/USDT", at, at + timedelta(hours=open_hours)),
        )
        assert row is not None
        position = int(row["position_id"])
        ledger.execute(
            "INSERT INTO parent_orders (parent_id, pod, position_id, decision_id, symbol, side, "
            "purpose, reason, quantity, decision_mid, urgency, slices, interval_seconds, "
            "created_at, expires_at) VALUES (%s, 'test', %s, %s, 'BTC/USDT', 'buy', 'entry', '', "
            "1, 100, 'high', 1, 60, %s, %s)",
            (f"p{number}", position, f"d{number}", at, at),
        )
        ledger.execute(
            "INSERT INTO intents (intent_id, logical_key, client_order_id, pod, position_id, "
            "parent_id, venue, symbol, side, purpose, order_type, time_in_force, quantity, "
            "limit_price, decision_mid, arrival_mid, epoch, sent_at, valid_until, state, mode) "
            "VALUES (%(id)s, %(id)s, %(id)s, 'test', %(position)s, %(parent)s, 'binance', "
            "'BTC/USDT', 'buy', 'entry', 'limit', 'IOC', 1, 100, 100, 100, 1, %(at)s, %(at)s, "
            "'ACKNOWLEDGED', %(mode)s)",
            {"id": f"i{number}", "position": position, "parent": f"p{number}", "at": at,
             "mode": mode},
        )  # fmt: skip
        if filled is not None:
            for side, name in (("buy", "b"), ("sell", "s")):  # sold again at what was paid
                ledger.execute(
                    "INSERT INTO fills VALUES ('binance', %s, %s, %s, %s, 'test', 'BTC/USDT', %s, "
                    "100, %s, 0, 'USDT', 0, 'taker', %s, %s)",
                    (f"{name}{number}", f"o{number}", f"i{number}", position, side,
                     Decimal(filled), at, at),
                )  # fmt: skip
        return position

    def event(self, kind: str, at: datetime, **detail: Any) -> None:
        self.ledger.execute(
            "INSERT INTO events (pod, at, kind, detail) VALUES ('test', %s, %s, %s)",
            (at, kind, json(detail)),
        )

    def drill(self, at: datetime = END, *, passed: bool = True) -> None:
        self.event(drill.KIND, at, passed=passed, refused_ms=3.1)


@pytest.fixture
def mock(database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Mock:
    for name in config.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(environment.variables, "__defaults__", (tmp_path / "none",))
    for name, value in {"DATABASE_URL": database_url, "POD": "test"}.items():
        monkeypatch.setenv(name, value)
    return Mock(database_url, manifest.load(PROJECT), config.load({"POD": "test"}))


@pytest.fixture
def clean(mock: Mock) -> Mock:
    """A mock run that nothing is wrong with."""
    mock.runs()
    mock.traces()
    mock.drill()
    return mock
