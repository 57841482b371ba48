"""``trading-loop deploy pod`` and ``pods`` as a person calls them, against a stand-in."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from deploy.cli import environment
from deploy.cli.main import main
from deploy.local import manifest
from deploy.local.servers import PROJECT
from deploy.local.wire import pipedream
from deploy.local.wire.pipedream import KEY, ORG_ID, PROJECT_ID, StandIn, template_id
from shared import config
from shared.ledger import connection, pods, state, transfers
from shared.ledger.connection import Ledger

WORKFLOWS = [workflow.name for workflow in manifest.load(PROJECT).workflows]
ACCOUNTS = ("postgresql", "openai", "anthropic", "slack_bot")
TEMPLATES = [f"--template={name}={template_id(name)}" for name in WORKFLOWS]
ALPHA = ["alpha", "--capital", "900", "--universe", "BTC,ETH", "--project", PROJECT_ID, *TEMPLATES]


@dataclass
class Place:
    stand_in: StandIn
    clone: Path
    database_url: str

    @property
    def ledger(self) -> Ledger:
        """The command has closed the connections of this process."""
        return connection.connect(self.database_url, "test")

    def workflows_of(self, pod: str) -> dict[str, Any]:
        rows = self.ledger.query(
            "SELECT workflow, workflow_id FROM pod_workflows WHERE pod = %s", (pod,)
        )
        return {row["workflow"]: row["workflow_id"] for row in rows}


@pytest.fixture
def place(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    for name in config.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(environment.variables, "__defaults__", (tmp_path / "none",))
    stand_in = pipedream.make(manifest.load(PROJECT), tmp_path)
    stand_in.accounts = [{"id": f"apn_{app}", "app": {"name_slug": app}} for app in ACCOUNTS]
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(stand_in.remote), str(clone)], check=True)
    for name, value in (("user.name", "tester"), ("user.email", "tester@localhost")):
        subprocess.run(["git", "-C", str(clone), "config", name, value], check=True)
    with pipedream.serving(stand_in) as url:
        monkeypatch.setenv("PIPEDREAM_API_KEY", KEY)
        monkeypatch.setenv("PIPEDREAM_ORG_ID", ORG_ID)
        monkeypatch.setenv("PIPEDREAM_API_URL", url)
        monkeypatch.setenv("DATABASE_URL", database_url)
        monkeypatch.setenv("POD", "test")
        yield Place(stand_in, clone, database_url)


def pod(*arguments: str) -> int:
    return main(["deploy", "pod", *arguments])


def listed(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    capsys.readouterr()
    assert main(["pods", "--json"]) == 0
    return {one["pod"]: one for one in json.loads(capsys.readouterr().out)}


def test_a_pod_is_cloned_deployed_switched_on_and_taken_out_of_service(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pod(*ALPHA, "--profile", "aggressive", "--parameters", "MAX_POSITIONS=3") == 0
    made = place.workflows_of("alpha")
    assert sorted(made) == sorted(WORKFLOWS)
    assert len(set(made.values())) == len(WORKFLOWS)
    assert [body["settings"] for body in place.stand_in.created] == [
        {"name": f"{name.replace('_', '-')}-alpha", "auto_deploy": False} for name in WORKFLOWS
    ]
    (loop,) = (b for b in place.stand_in.created if b["template_id"] == "tch_trading_loop")
    assert loop["steps"][0]["props"] == {"postgresql": {"authProvisionId": "apn_postgresql"}}

    found = listed(capsys)
    assert sorted(found) == ["alpha", "test"]
    assert Decimal(found["alpha"]["capital_quote"]) == 900
    assert found["alpha"]["settings"] == {
        "CAPITAL_QUOTE": "900",
        "SYMBOLS": "BTC,ETH",
        "PROFILE": "aggressive",
        "MAX_POSITIONS": "3",
    }
    assert (found["alpha"]["state"], found["alpha"]["may_trade_live"]) == ("ACTIVE", False)
    assert found["alpha"]["workflows"] == made
    assert main(["pods"]) == 0
    assert "alpha" in capsys.readouterr().out

    of_alpha = ["--clone", str(place.clone), "--pod", "alpha"]
    assert main(["deploy", "push", *of_alpha]) == 0
    assert main(["deploy", "check", *of_alpha]) == 0
    assert main(["deploy", "activate", *of_alpha]) == 0
    assert {place.stand_in.active[workflow_id] for workflow_id in made.values()} == {True}
    others = set(place.stand_in.workflow_ids.values()) - set(made.values())
    assert not any(place.stand_in.active.get(workflow_id) for workflow_id in others)
    original = ["--clone", str(place.clone)]
    assert main(["deploy", "check", *original]) == 1  # the originals run on
    capsys.readouterr()
    assert main(["deploy", "rollback", *original, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert main(["deploy", "rollback", *of_alpha, "--json"]) == 0
    (only,) = json.loads(capsys.readouterr().out)
    assert main(["deploy", "rollback", only["build"], *of_alpha]) == 0
    capsys.readouterr()
    assert main(["deploy", "push", *original]) == 0
    assert "pod alpha still runs other code" in capsys.readouterr().err

    assert pod("alpha", "--remove") == 0
    told = capsys.readouterr().err.splitlines()
    assert (told[0], told[-1]) == ("trading_loop: off", "circuit_breaker: off")
    assert not any(place.stand_in.active[workflow_id] for workflow_id in made.values())
    assert listed(capsys)["alpha"]["state"] == "REMOVED"
    assert pod(*ALPHA) == 2  # the name has a history
    assert "this one was removed" in capsys.readouterr().err


def test_the_same_command_again_changes_nothing_and_other_settings_are_refused(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pod(*ALPHA) == 0
    before = place.workflows_of("alpha")
    assert pod(*ALPHA) == 0
    assert place.workflows_of("alpha") == before
    assert len(place.stand_in.created) == len(WORKFLOWS)
    assert transfers.total(place.ledger.of_pod("alpha"), "binance", "USDT") == 300
    assert pod(*[a.replace("900", "901") for a in ALPHA]) == 2
    assert "is there with other settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "told"),
    [(401, "PIPEDREAM_API_KEY is wrong"), (404, "no such thing"), (429, "too many requests")],
)
def test_a_refusal_is_told_and_the_command_goes_on_from_there(
    place: Place, capsys: pytest.CaptureFixture[str], status: int, told: str
) -> None:
    assert pod(*ALPHA[:-1]) == 2  # one template is lacking: nothing is made
    assert f"expected WORKFLOW=tch_... of {WORKFLOWS[-1]}" in capsys.readouterr().err
    assert place.stand_in.created == []
    place.stand_in.failures = {("POST", "/v1/workflows"): [status]}
    assert pod(*ALPHA) == 1
    assert told in capsys.readouterr().err
    assert place.workflows_of("alpha") == {}
    assert pod(*ALPHA) == 0
    assert None not in place.workflows_of("alpha").values()


@pytest.mark.parametrize("made", [True, False])
def test_a_request_without_an_answer_is_never_sent_again_by_itself(
    place: Place, capsys: pytest.CaptureFixture[str], made: bool
) -> None:
    if made:
        place.stand_in.lost_answers = 1
    else:
        place.stand_in.failures = {("POST", "/v1/workflows"): [500]}
    assert pod(*ALPHA) == 1
    first = WORKFLOWS[0]
    assert place.workflows_of("alpha") == {first: None}
    posts = place.stand_in.calls["POST /v1/workflows"]
    assert pod(*ALPHA) == 2
    assert f"{first.replace('_', '-')}-alpha: asked for before" in capsys.readouterr().err
    assert place.stand_in.calls["POST /v1/workflows"] == posts
    if made:
        assert pod(*ALPHA, "--made", f"{first}=p_nowhere") == 1  # no such workflow
        assert place.workflows_of("alpha") == {first: None}
        found = ["--made", f"{first}={place.stand_in.workflow_ids[f'{first}_alpha']}"]
    else:
        found = ["--not-made", first]
    assert pod(*ALPHA, *found) == 0
    ids = place.workflows_of("alpha")
    assert ids == {name: place.stand_in.workflow_ids[f"{name}_alpha"] for name in WORKFLOWS}
    assert pod(*ALPHA, *found) == 2  # there is nothing left to be found
    assert "without an answer, there is none" in capsys.readouterr().err


def test_a_wrong_key_makes_nothing(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPEDREAM_API_KEY", "secret-canary")
    assert pod(*ALPHA) == 1
    said = capsys.readouterr().err
    assert "PIPEDREAM_API_KEY is wrong" in said
    assert "canary" not in said
    assert pods.named(place.ledger, "alpha") is None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["--parameters", "KRAKEN_SECRET=x"], "KRAKEN_SECRET: expected variables that a pod may"),
        (["--parameters", "ENABLE_LIVE_TRADING=true"], "ENABLE_LIVE_TRADING: expected variables"),
        (["--parameters", "ENABLE_CIRCUIT_BREAKER=false"], "ENABLE_CIRCUIT_BREAKER: expected var"),
        (["--parameters", "POD=main"], "POD: expected variables that a pod may set"),
        (["--parameters", "MAX_POSITIONS=0"], "MAX_POSITIONS: was '0'"),
        (["--parameters", "MAX_POSITIONS"], "--parameters: expected NAME=VALUE"),
        (["--parameters", "CAPITAL_QUOTE=1"], "CAPITAL_QUOTE: has an option of its own"),
        (["--universe", "BTC-ETH"], "SYMBOLS"),
        (["--account", "openai"], "--account: expected NAME=VALUE"),
        (["--may-trade-live"], "expected at most 0 USDT, which pod test has there"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_made(
    place: Place, capsys: pytest.CaptureFixture[str], changes: list[str], told: str
) -> None:
    assert pod(*ALPHA, *changes) == 2
    assert told in capsys.readouterr().err
    assert place.stand_in.created == []
    assert pods.named(place.ledger, "alpha") is None
    assert state.read(place.ledger.of_pod("alpha")).state == "HALTED"  # never set up


@pytest.mark.parametrize("name", ["Alpha", "a_b", "1a", "x" * 17])
def test_a_name_that_is_no_pods_is_refused(
    place: Place, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert pod(name, *ALPHA[1:]) == 2
    assert "POD: was" in capsys.readouterr().err


def test_every_variable_that_is_lacking_is_named_at_once(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIPEDREAM_API_KEY")
    monkeypatch.delenv("PIPEDREAM_ORG_ID")
    assert pod(*ALPHA) == 2
    assert "PIPEDREAM_API_KEY, PIPEDREAM_ORG_ID: expected to be set" in capsys.readouterr().err


def test_the_capital_of_a_live_pod_is_taken_from_the_base(place: Place) -> None:
    for venue in ("binance", "coinbase", "kraken"):
        transfers.book(place.ledger, venue, "USDT", Decimal(1000), note="paid in", booked_by="me")
    assert pod(*ALPHA, "--may-trade-live") == 0
    totals = {
        name: transfers.total(place.ledger.of_pod(name), "kraken", "USDT")
        for name in ("test", "alpha")
    }
    assert totals == {"test": 700, "alpha": 300}
    found = pods.named(place.ledger, "alpha")
    assert found is not None and found.may_trade_live


def test_settings_are_changed_and_neither_money_nor_the_way(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ["alpha", "--capital", "900", "--change", "--universe"]
    assert pod(*own, "SOL") == 2  # there is no such pod yet
    assert pod(*ALPHA, "--parameters", "MAX_POSITIONS=3") == 0
    assert pod(*own, "SOL", "--parameters", "MAX_POSITIONS=4") == 0
    found = pods.named(place.ledger, "alpha")
    assert found is not None
    expected = {"CAPITAL_QUOTE": "900", "SYMBOLS": "SOL", "MAX_POSITIONS": "4"}
    assert found.settings == expected
    for wrong in (["SOL", "--may-trade-live"], ["SOL", "--parameters", "MAX_POSITIONS=0"]):
        assert pod(*own, *wrong) == 2
    assert pod("alpha", "--capital", "901", "--change", "--universe", "SOL") == 2
    assert "expected the capital and the way that it has" in capsys.readouterr().err
    found = pods.named(place.ledger, "alpha")
    assert found is not None and found.settings == expected
    kinds = [row["kind"] for row in place.ledger.query("SELECT kind FROM events")]
    assert kinds.count("POD_CHANGED") == 1


def test_the_runs_of_a_removed_pod_end_even_where_pipedream_is_down(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pod(*ALPHA) == 0
    place.stand_in.failures = {("PUT", "/v1/workflows"): [401]}
    assert pod("alpha", "--remove") == 1
    found = pods.named(place.ledger, "alpha")
    assert found is not None and found.removed_at is not None
    assert pod("alpha", "--remove") == 0  # again, until all are off


def test_the_trading_of_the_pod_is_held_while_its_code_changes(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pod(*ALPHA) == 0
    made = place.workflows_of("alpha")
    place.stand_in.broken = {made["trading_loop"]}
    of_alpha = ["--clone", str(place.clone), "--pod", "alpha", "--timeout", "0"]
    assert main(["deploy", "push", *of_alpha]) == 1
    assert "trading_loop/market_scanner" in capsys.readouterr().err
    assert state.read(place.ledger.of_pod("alpha")).state == "REDUCING"
    assert state.read(place.ledger).state == "ACTIVE"
    assert main(["deploy", "push", "--clone", str(place.clone), "--pod", "nobody"]) == 2


def test_a_pod_that_holds_something_stays(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert pod(*ALPHA) == 0
    place.ledger.execute(
        "INSERT INTO positions (pod, symbol, strategy, opened_at, stop_price) "
        "VALUES ('alpha', 'BTC/USDT', 'momentum', now(), 90)"
    )
    assert pod("alpha", "--remove") == 2
    assert "was 1 positions and 0 orders" in capsys.readouterr().err
    found = pods.named(place.ledger, "alpha")
    assert found is not None and found.removed_at is None
    assert state.read(place.ledger.of_pod("alpha")).state == "ACTIVE"  # and goes on
    assert pod("beta", "--remove") == 2


@pytest.mark.parametrize("bought", [True, False])
def test_a_run_under_way_buys_before_its_pod_is_removed_or_not_at_all(
    place: Place, capsys: pytest.CaptureFixture[str], bought: bool
) -> None:
    """An order's transaction holds the trading state; the removal waits for it, then looks."""
    assert pod(*ALPHA) == 0
    own, codes = place.ledger.of_pod("alpha"), list[int]()
    removal = threading.Thread(target=lambda: codes.append(pod("alpha", "--remove")))
    with own.transaction():
        assert state.read(own, lock=True).state == "ACTIVE"
        removal.start()
        while not own.query("SELECT 1 FROM pg_locks WHERE NOT granted"):
            assert removal.is_alive(), "it did not wait"
        if bought:
            own.execute(
                "INSERT INTO positions (pod, symbol, strategy, opened_at, stop_price) "
                "VALUES ('alpha', 'BTC/USDT', 'momentum', now(), 90)"
            )
    removal.join()
    assert codes == [2 if bought else 0]
    assert state.read(own).state == ("ACTIVE" if bought else "HALTED")


def test_capital_that_one_venue_lacks_is_taken_from_none(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """The venue that is asked last has too little: what was booked before is booked no more."""
    for venue, amount in (("binance", 1000), ("coinbase", 1000), ("kraken", 1)):
        transfers.book(place.ledger, venue, "USDT", Decimal(amount), note="paid in", booked_by="me")
    assert pod(*ALPHA, "--may-trade-live") == 2
    assert "kraken: expected at most 1 USDT" in capsys.readouterr().err
    assert pods.named(place.ledger, "alpha") is None
    assert transfers.total(place.ledger, "binance", "USDT") == 1000
    assert transfers.total(place.ledger.of_pod("alpha"), "binance", "USDT") == 0
