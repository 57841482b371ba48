"""Small projects made of a few lines, to try the local Pipedream on."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.local import events, manifest
from deploy.local.manifest import Project, Workflow
from deploy.local.market.source import SourceSpec
from deploy.local.platform import Platform, WorkflowResult
from deploy.local.servers import EmbeddedServers
from deploy.local.wire.client import make_credentials

MakeProject = Callable[..., Project]
AT_MS = 1_746_489_600_000  # 2025-05-06T00:00:00Z


@pytest.fixture
def make_project(tmp_path: Path) -> MakeProject:
    """``make_project(loop=["def handler(pd): ...", ...])`` writes and loads a project."""

    def make(
        *, triggers: dict[str, dict[str, Any]] | None = None, **workflows: list[str]
    ) -> Project:
        _write(tmp_path / "pipedream.yaml", _project_file(list(workflows)))
        for name, sources in workflows.items():
            steps = []
            for index, source in enumerate(sources):
                file = tmp_path / "steps" / f"{name}_{index}.py"
                file.parent.mkdir(exist_ok=True)
                file.write_text(textwrap.dedent(source))
                steps.append({"namespace": f"step_{index}", "file": f"steps/{file.name}"})
                steps[-1] |= {"accounts": ["openai"], "data_stores": ["store"]}
            trigger = (triggers or {}).get(name, {"type": "cron", "cron": "* * * * *"})
            _write(
                tmp_path / "workflows" / f"{name}.yaml",
                {
                    "name": name,
                    "description": name,
                    "trigger": trigger,
                    "settings": {"timeout_seconds": 60, "memory_mib": 256},
                    "steps": steps,
                },
            )
        return manifest.load(tmp_path)

    return make


def run(project: Project, name: str = "loop", at_ms: int = AT_MS) -> WorkflowResult:
    """One run of a workflow, with the account ``openai`` connected."""
    workflow = project.workflow(name)
    platform = Platform(project, {"openai": {"api_key": "sk-1"}, "slack_bot": {"bot_token": "x"}})
    return run_on(platform, workflow, at_ms)


def run_on(platform: Platform, workflow: Workflow, at_ms: int = AT_MS) -> WorkflowResult:
    return platform.run_workflow(
        workflow, events.cron_event(workflow, at_ms), events.context("test", workflow, at_ms)
    )


def _project_file(workflows: list[str]) -> dict[str, Any]:
    return {
        "name": "small",
        "runtime": "python3.12",
        "workflows": workflows,
        "limits": {"payload_bytes": 6_000_000, "memory_mib": 256},
        "accounts": ["openai"],
        "packages": "requirements/runtime.in",
        "pods": ["main"],
    }


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(content))


class FakeWire:
    """Stands in for the process of simulated venues, where a test is not about them."""

    def __init__(self, spec: SourceSpec, *, now_ms: int, balances: Any, seed: int) -> None:
        self.base_url = "http://127.0.0.1:9"
        self.credentials = make_credentials(seed)
        self.balances = balances
        self.advanced = [now_ms]
        self.stopped = False

    def advance(self, now_ms: int) -> None:
        self.advanced.append(now_ms)

    def accounts(self) -> dict[str, Any]:
        return {
            venue: {
                "balances": {
                    currency: {"free": f"{amount:f}", "locked": "0"}
                    for currency, amount in amounts.items()
                },
                "orders": [],
                "fills": [],
            }
            for venue, amounts in self.balances.items()
        }

    def stop(self) -> None:
        self.stopped = True


@pytest.fixture
def fake_wire(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions start no process of simulated venues."""
    monkeypatch.setattr("deploy.local.session.start_wire", FakeWire)


@pytest.fixture
def variables(servers: EmbeddedServers, redis_url: str) -> dict[str, str]:
    """Settings that make a session use the servers of the tests."""
    return {"DATABASE_URL": servers.database_url(), "REDIS_URL": redis_url}


def spec(minutes: int) -> SourceSpec:
    """A stretch of a simulated market that begins at AT_MS."""
    return SourceSpec("simulated", ("BTC/USDT", "ETH/USDT"), AT_MS, minutes / 60, 7, None)
