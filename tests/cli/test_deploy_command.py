"""``trading-loop deploy`` as a person calls it, against stand-ins of Pipedream and a Git remote."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.cli.main import main
from deploy.local import manifest, servers
from deploy.local.servers import PROJECT
from deploy.local.wire import pipedream
from deploy.local.wire.pipedream import KEY, ORG_ID, StandIn
from shared.ledger import connection, state
from shared.ledger.connection import Ledger


@dataclass
class Place:
    clone: Path
    stand_in: StandIn
    url: str


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    stand_in = pipedream.make(manifest.load(PROJECT), tmp_path)
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(stand_in.remote), str(clone)], check=True)
    for name, value in (("user.name", "tester"), ("user.email", "tester@localhost")):
        subprocess.run(["git", "-C", str(clone), "config", name, value], check=True)
    with pipedream.serving(stand_in) as url:
        monkeypatch.setenv("PIPEDREAM_API_KEY", KEY)
        monkeypatch.setenv("PIPEDREAM_ORG_ID", ORG_ID)
        monkeypatch.setenv("PIPEDREAM_API_URL", url)
        yield Place(clone, stand_in, url)


def deploy(place: Place, *arguments: str) -> int:
    return main(["deploy", *arguments, "--clone", str(place.clone)])


def test_from_a_plan_to_a_running_deployment_and_back(
    place: Place,
    ledger: Ledger,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    pod = ledger.pod
    monkeypatch.setenv("POD", pod)
    assert deploy(place, "plan", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert len(plan["changes"]) == 9
    assert plan["workflows"] == place.stand_in.workflow_ids
    assert deploy(place, "check") == 1
    assert "9 of 9 steps differ" in capsys.readouterr().out
    assert deploy(place, "push") == 0
    assert "Every step runs the new code." in capsys.readouterr().err
    # The command has closed every connection of this process.
    assert state.read(connection.connect(database_url, pod)).state == "ACTIVE"
    assert deploy(place, "check") == 0
    assert deploy(place, "activate") == 0
    told = capsys.readouterr().err.splitlines()
    assert (told[0], told[-1]) == ("circuit_breaker: on", "trading_loop: on")
    assert set(place.stand_in.active.values()) == {True}
    assert deploy(place, "rollback", "--json") == 0
    (only,) = json.loads(capsys.readouterr().out)
    assert only["build"] == plan["build"]
    assert deploy(place, "deactivate") == 0
    told = capsys.readouterr().err.splitlines()
    assert (told[0], told[-1]) == ("trading_loop: off", "circuit_breaker: off")


def test_a_push_asks_for_the_ledger_that_it_holds(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    assert deploy(place, "push") == 2
    assert "DATABASE_URL: expected the ledger whose trading is held" in capsys.readouterr().err
    assert deploy(place, "push", "--without-ledger") == 0
    assert "No ledger: trading is not paused" in capsys.readouterr().err


def test_all_that_is_lacking_is_named_at_once(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("PIPEDREAM_API_KEY")
    monkeypatch.delenv("PIPEDREAM_ORG_ID")
    assert deploy(place, "plan") == 2
    said = capsys.readouterr().err
    assert "PIPEDREAM_API_KEY, PIPEDREAM_ORG_ID: expected to be set" in said


def test_a_wrong_key_is_told_without_it(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIPEDREAM_API_KEY", "secret-canary")
    assert deploy(place, "check") == 1
    said = capsys.readouterr()
    assert "PIPEDREAM_API_KEY is wrong or was revoked" in said.err
    assert "canary" not in said.err + said.out


def test_the_list_of_what_a_person_does_once_goes_on_where_it_was(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(servers, "DEFAULT_FOLDER", place.clone.parent / "local")

    def init(*arguments: str) -> dict[str, dict[str, str]]:
        code = main(["deploy", "init", "--json", *arguments])
        found = json.loads(capsys.readouterr().out)
        assert code == (1 if any(item["status"] == "open" for item in found) else 0)
        return {item["name"]: item for item in found}

    nothing = init()
    assert nothing["key"]["status"] == "done"
    assert nothing["workflow:trading_loop"]["lacking"] == "no clone was named"
    clone = ("--clone", str(place.clone))
    seen = init(*clone)
    assert {n for n, item in seen.items() if item["status"] == "done"} == {
        "key", "project", *(f"workflow:{name}" for name in place.stand_in.workflow_ids),
    }  # fmt: skip
    assert seen["accounts"]["lacking"] == (
        "no account for postgresql, openai, anthropic, slack_bot"
    )
    names = ("postgresql", "openai", "anthropic", "slack_bot")
    place.stand_in.accounts = [{"id": f"apn_{n}", "app": {"name_slug": n}} for n in names]
    assert init(*clone)["accounts"]["status"] == "done"
    place.stand_in.crons["trading_loop"] = "*/2 * * * *"
    loop = init(*clone)["workflow:trading_loop"]
    assert loop["lacking"] == "schedule: expected * * * * *, was */2 * * * *"
    place.stand_in.crons["trading_loop"] = "* * * * *"
    left = [n for n, item in init(*clone).items() if item["status"] == "open"]
    assert {name.partition(":")[0] for name in left} == {"settings", "variables", "retention"}
    confirmed = init(*clone, *(word for name in left for word in ("--confirm", name)))
    assert {item["status"] for item in confirmed.values()} == {"done", "confirmed"}
    assert {item["status"] for item in init(*clone).values()} == {"done", "confirmed"}


def test_only_what_is_on_the_list_can_be_confirmed(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(servers, "DEFAULT_FOLDER", place.clone.parent / "local")
    assert main(["deploy", "init", "--confirm", "everything"]) == 2
    assert "--confirm: expected one of accounts, key" in capsys.readouterr().err


def test_bundles_are_written_and_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["deploy", "build", "--out", str(tmp_path), "--check"]) == 1
    assert main(["deploy", "build", "--out", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out.partition("\n}")[0].partition("{")[2].join("{}"))
    assert len(told["bundles"]) == 9
    assert main(["deploy", "build", "--out", str(tmp_path), "--check"]) == 0
