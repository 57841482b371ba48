"""The project's own files, and what is refused in somebody's slip of the pen."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from deploy.local import manifest
from deploy.local.servers import PROJECT
from shared.errors import ConfigurationError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copy(PROJECT / "pipedream.yaml", tmp_path)
    shutil.copytree(PROJECT / "workflows", tmp_path / "workflows")
    return tmp_path


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_the_projects_own_files() -> None:
    project = manifest.load(PROJECT)
    crons = {w.name: w.schedule.text for w in project.workflows if w.schedule is not None}
    assert crons == {
        "circuit_breaker": "* * * * *",
        "position_manager": "*/5 * * * *",
        "trading_loop": "* * * * *",
        "performance_analyzer": "0 * * * *",
    }
    steps = [step.namespace for step in project.workflow("trading_loop").steps]
    assert steps == ["market_scanner", "signal_generator", "risk_management", "order_execution"]
    assert project.limits.payload_bytes == 6_000_000
    assert project.workflow("kill_switch").schedule is None


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("workflows/trading_loop.yaml", '"* * * * *"', '"61 * * * *"', "trigger.*minute.*'61'"),
        ("workflows/trading_loop.yaml", "memory_mib", "memory_mb", "settings.memory_mb: Extra"),
        ("workflows/trading_loop.yaml", "timeout_seconds: 60", "timeout_seconds: 900", "900"),
        ("workflows/trading_loop.yaml", "risk_management,", "market_scanner,", "stands twice"),
        (
            "workflows/trading_loop.yaml",
            "name: trading_loop",
            "name: loop",
            "expected trading_loop",
        ),
        ("workflows/trading_loop.yaml", "steps/risk", "../risk", "file of the project"),
        ("workflows/dashboard.yaml", "accounts: [postgresql]", "accounts: [mysql]", "mysql"),
        ("workflows/dashboard.yaml", "type: http", "type: mail", "trigger.*'http'"),
        ("pipedream.yaml", "  - dashboard\n", "", "dashboard.yaml: expected to be listed"),
        ("pipedream.yaml", "python3.12", "python3.13", "runtime: .*3.13"),
        ("pipedream.yaml", "  - dashboard\n", "  - dashboard\n  - arbitrage\n", "there is none"),
        ("pipedream.yaml", "name:", "{", "expected YAML"),
    ],
)
def test_refused(root: Path, file: str, old: str, new: str, message: str) -> None:
    _replace(root / file, old, new)
    with pytest.raises(ConfigurationError, match=message):
        manifest.load(root)


def test_two_workflows_cannot_share_a_route(root: Path) -> None:
    kill_switch = root / "workflows/kill_switch.yaml"
    _replace(kill_switch, "method: POST, path: /kill_switch", "method: GET, path: /dashboard")
    with pytest.raises(ConfigurationError, match="GET /dashboard belongs to dashboard already"):
        manifest.load(root)


def test_unknown_workflow_is_named() -> None:
    with pytest.raises(ConfigurationError, match="expected one of .*trading_loop.*, was trade"):
        manifest.load(PROJECT).workflow("trade")
