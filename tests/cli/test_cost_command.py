"""``trading-loop cost``: tables for a person, JSON for a program, an error for no report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.cli.main import main
from deploy.local.servers import PROJECT

USAGE = {
    "runs": 60, "seconds_p50": 0.41, "seconds_p99": 1.2, "seconds_max": 4.0, "peak_mib": 180.3,
    "runs_by_segments": {"1": 60},
}  # fmt: skip
SCHEDULED = ("circuit_breaker", "position_manager", "trading_loop", "performance_analyzer")


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "run.json"
    times = {"from": "2026-01-05T00:00:00Z", "to": "2026-01-05T01:00:00Z"}
    path.write_text(json.dumps(times | {"usage": dict.fromkeys(SCHEDULED, USAGE)}))
    return path


def test_a_person_sees_each_workflow_and_the_floor(
    report: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cost", "--from-run", str(report)]) == 0
    printed = capsys.readouterr().out
    loop = next(line for line in printed.splitlines() if "trading_loop" in line)
    assert [cell.strip() for cell in loop.strip("│").split("│")] == [
        "trading_loop", "1,440", "0.41", "1.20", "4.00", "28.8", "180", "1.00",
        "1,440", "2,880", "5,760",
    ]  # fmt: skip
    assert "The floor of 3,192 credits a day, one a run at 256 MiB, is met." in printed
    assert "Each request to dashboard or kill_switch costs at least one credit more." in printed


def test_a_program_reads_json(report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", "--from-run", str(report), "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert document["floor_a_day"] == 3192 and document["above_floor"] == []
    assert document["credits_a_day"]["every 5 min"] == {
        "256 MiB": 888.0, "512 MiB": 1776.0, "1024 MiB": 3552.0,
    }  # fmt: skip
    assert document["workflows"]["trading_loop"]["by_memory"]["256 MiB"]["fits"] is True


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file or directory: make one with"),
        ("no json", "expected JSON: make one with"),
        ("[]", "usage: expected a report of a run"),
        ("{}", "usage: expected a report of a run"),
        ('{"usage": {}, "from": "", "to": ""}', "usage.circuit_breaker: expected runs"),
    ],
)
def test_what_is_no_report(
    text: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.json"
    if text is not None:
        path.write_text(text)
    assert main(["cost", "--from-run", str(path)]) == 2
    assert message in capsys.readouterr().err


def test_the_measurement_of_the_project_is_48_hours_within_its_limits(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """``reports/faithful.json``: two days of bundles in processes of 256 MiB, none failed."""
    report = json.loads((PROJECT / "reports" / "faithful.json").read_text())
    assert report["failed_runs"] == 0 and report["ledger_matches_venue"]
    assert report["runs"] == {
        "circuit_breaker": 2880,
        "performance_analyzer": 48,
        "position_manager": 576,
        "trading_loop": 2880,
    }
    assert main(["cost", "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert document["credits_a_day"]["every 1 min"]["256 MiB"] == document["floor_a_day"] == 3192
    fits = [w["by_memory"]["256 MiB"]["fits"] for w in document["workflows"].values()]
    assert fits == [True] * 4
