"""``trading-loop phase`` as a person calls it: what it writes, and what it refuses."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from deploy.cli.check import Check
from deploy.cli.commands import doctor
from deploy.cli.main import main
from deploy.local import manifest
from deploy.local.servers import PROJECT
from deploy.local.wire import pipedream
from deploy.local.wire.pipedream import KEY, ORG_ID
from deploy.pipedream import build
from shared import VERSION, clock
from shared.ledger import phases, stages
from shared.ledger.connection import Ledger
from tests.ledger_seed import pass_phases
from tests.phases import conftest
from tests.phases.conftest import END, Mock

mock, clean = conftest.mock, conftest.clean
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def at_the_end() -> Iterator[None]:
    """Commands about a ledger of the outside take the time from the clock."""
    clock.install(lambda: clock.to_ms(END))
    yield
    clock.install(None)


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[Check]:
    """What ``doctor`` finds."""
    found = [Check("database", "OK", "PostgreSQL 16"), Check("alerts", "WARN", "no token")]
    monkeypatch.setattr(doctor, "checks", lambda *, offline: iter(found))
    return found


def passed(ledger: Ledger) -> dict[Any, phases.Passed]:
    return dict(phases.passed(ledger))


def output_of(capsys: Capture) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    return shown


def test_setup_passes_when_every_warning_is_accepted_with_a_reason(
    mock: Mock, checked: list[Check], capsys: Capture
) -> None:
    assert main(["phase", "setup"]) == 1
    assert "Phase setup: 2 to do." in capsys.readouterr().out
    assert passed(mock.ledger) == {}
    accepted = ["--accept", "alerts=I look at the ledger", "--accept", "venue keys=paper first"]
    assert main(["phase", "setup", *accepted, "--json"]) == 0
    shown = output_of(capsys)
    assert shown["passed"] is True
    row = passed(mock.ledger)["setup"]
    assert row.evidence["accepted"] == {
        "alerts": "I look at the ledger",
        "venue keys": "paper first",
    }
    assert [check["name"] for check in row.evidence["checks"]] == [
        "database",
        "alerts",
        "venue keys",
    ]


def test_a_failure_can_be_accepted_by_nobody(
    mock: Mock, checked: list[Check], capsys: Capture
) -> None:
    checked.append(Check("region", "FAIL", "binance: take no customers of us"))
    for accepted in ("region=I know", "nothing=x", "database=x"):
        assert main(["phase", "setup", "--accept", accepted]) == 2
        assert "--accept: expected one of the warnings alerts, venue keys" in (
            capsys.readouterr().err
        )
    assert main(["phase", "setup", "--accept", "alerts="]) == 2
    assert passed(mock.ledger) == {}


def test_the_ledger_of_setup_cannot_be_done_without(
    mock: Mock, checked: list[Check], capsys: Capture
) -> None:
    checked[0] = Check("database", "WARN", "DATABASE_URL is not set")
    assert main(["phase", "setup", "--accept", "database=later"]) == 2
    assert passed(mock.ledger) == {}


def test_a_phase_waits_for_the_one_before(clean: Mock, capsys: Capture) -> None:
    assert main(["phase", "test"]) == 1
    assert "not passed before: setup, install" in capsys.readouterr().out
    assert passed(clean.ledger) == {}
    pass_phases(clean.ledger)
    clean.ledger.execute("DELETE FROM phases WHERE phase = 'test'")
    assert main(["phase", "test"]) == 0
    assert "Phase test is passed." in capsys.readouterr().out
    assert passed(clean.ledger)["test"].evidence["checks"][0]["name"] == "mock run"


def test_an_explanation_is_kept_as_evidence(clean: Mock) -> None:
    pass_phases(clean.ledger)
    clean.ledger.execute("DELETE FROM phases WHERE phase = 'test'")
    clean.ledger.execute(
        "UPDATE runs SET status = 'FAILED', error = 'x: a=b boom' "
        "WHERE event_at = '2025-05-08T10:00Z' AND workflow = 'trading_loop'"
    )
    assert main(["phase", "test"]) == 1
    assert main(["phase", "test", "--explain", "a=b boom=the test broke it"]) == 0
    details = [c["detail"] for c in passed(clean.ledger)["test"].evidence["checks"]]
    assert "1 x trading_loop: x: a=b boom; explained: the test broke it" in details


def test_install_asks_pipedream_for_the_hashes(
    mock: Mock, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = pipedream.make(mock.project, tmp_path)
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(stand_in.remote), str(clone)], check=True)
    for name, value in (("user.name", "tester"), ("user.email", "tester@localhost")):
        subprocess.run(["git", "-C", str(clone), "config", name, value], check=True)
    built = build.build(manifest.load(PROJECT))
    mock.runs(2, build=f"{VERSION}+{built.build}")
    phases.record(mock.ledger, "setup", passed_by="me", build="b", evidence={})
    arguments = ["phase", "install", "--clone", str(clone), "--accept", "HTTP workflows=200"]
    with pipedream.serving(stand_in) as url:
        monkeypatch.setenv("PIPEDREAM_API_KEY", KEY)
        monkeypatch.setenv("PIPEDREAM_ORG_ID", ORG_ID)
        monkeypatch.setenv("PIPEDREAM_API_URL", url)
        assert main(arguments) == 1
        assert "9 of 9 steps differ" in capsys.readouterr().out
        assert main(["deploy", "push", "--clone", str(clone)]) == 0
        assert main(arguments) == 0
    assert passed(mock.ledger)["install"].build == built.build


def test_the_drill_is_a_command(mock: Mock, capsys: Capture) -> None:
    assert main(["phase", "drill", "--json"]) == 0
    shown = output_of(capsys)
    assert (shown["passed"], shown["refusal"]) == (True, "STATE_HALTED")
    assert main(["phase", "drill"]) == 0
    assert "trading is ACTIVE again" in capsys.readouterr().out


@pytest.fixture
def watched(mock: Mock, monkeypatch: pytest.MonkeyPatch) -> Mock:
    monkeypatch.setenv("ENABLE_LIVE_TRADING", "true")
    mock.runs(32)
    mock.traces(END - timedelta(hours=20))
    mock.entry(at=END - timedelta(hours=5), filled="0.5", mode="live")
    pass_phases(mock.ledger)
    mock.ledger.execute(
        "INSERT INTO arm_tokens (pod, armed_by, armed_at, expires_at) "
        "VALUES ('test', 'me', %s, %s)",
        (END - timedelta(hours=30), END + timedelta(hours=18)),
    )
    return mock


def test_limits_are_raised_a_step_at_a_time_by_a_person_after_a_clean_report(
    watched: Mock, capsys: Capture
) -> None:
    assert main(["phase", "live", "--raise", "--yes"]) == 2
    assert "expected `trading-loop phase live` to be passed first" in capsys.readouterr().err
    assert main(["phase", "live"]) == 0
    assert stages.in_force(watched.ledger).stage.number == 1  # a report raises nothing
    assert main(["phase", "live", "--raise"]) == 2  # nobody sits there to confirm
    assert main(["phase", "live", "--raise", "--yes"]) == 0
    assert "Stage 2: at most 250 in all and 1 % a position." in capsys.readouterr().err
    assert main(["phase", "live", "--raise", "--yes"]) == 1  # its own day begins now
    assert "0.0 h since" in capsys.readouterr().out
    assert stages.in_force(watched.ledger).stage.number == 2


def test_limits_are_not_raised_while_something_is_wrong(watched: Mock, capsys: Capture) -> None:
    assert main(["phase", "live"]) == 0
    watched.event("RECONCILE_DIFFERENCE", END - timedelta(hours=1))
    assert main(["phase", "live", "--raise", "--yes"]) == 1
    assert "Not raised." in capsys.readouterr().err
    assert stages.in_force(watched.ledger).stage.number == 1


def test_the_last_stage_is_the_last(watched: Mock, capsys: Capture) -> None:
    watched.ledger.execute("INSERT INTO live_stages VALUES ('test', 5, now(), 'me', '{}')")
    assert main(["phase", "live", "--raise", "--yes"]) == 2
    assert "stage 5 is the last one" in capsys.readouterr().err


def test_the_status_shows_what_is_passed_and_the_stage(mock: Mock, capsys: Capture) -> None:
    assert main(["phase", "--json"]) == 0
    shown = output_of(capsys)
    assert shown["phases"] == dict.fromkeys(phases.ORDER)
    assert (shown["stage"]["number"], shown["stage"]["exposure_quote"]) == (1, "100")
    pass_phases(mock.ledger)
    assert main(["phase"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("setup    passed 2025-05-08 12:00 UTC by test")
    assert lines[3] == "live     open"
    assert lines[4] == "limits   stage 1 of 5: at most 100 in all and 1 % a position"
