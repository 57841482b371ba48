"""The whole way to Pipedream, against a stand-in of its API and a real Git remote."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydantic import SecretStr

from deploy.local import manifest
from deploy.local.wire import pipedream
from deploy.local.wire.pipedream import KEY, ORG_ID, StandIn
from deploy.pipedream import build
from deploy.pipedream.deployment import Deployment, DeploymentIncomplete, start_order
from deploy.pipedream.rest import ApiError, PipedreamApi
from deploy.pipedream.synced import Clone, GitFailed
from shared import clock
from shared.errors import ConfigurationError
from shared.ledger import state
from shared.ledger.connection import Ledger
from tests.pipedream.conftest import Write

TIMEOUT_S = 60.0


@dataclass
class Place:
    """A project, its clone, Pipedream, and a clock that only waiting moves."""

    project: Path
    clone: Path
    stand_in: StandIn
    url: str
    ledger: Ledger
    now_s: float = 0.0
    said: list[str] = field(default_factory=list)

    def deployment(self) -> Deployment:
        api = PipedreamApi(SecretStr(KEY), ORG_ID, base_url=self.url, sleep=self.wait)
        return Deployment(
            manifest.load(self.project),
            Clone(self.clone),
            api,
            self.ledger,
            sleep=self.wait,
            seconds=lambda: self.now_s,
            say=self.said.append,
        )

    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    def build(self) -> build.Build:
        return build.build(manifest.load(self.project))

    def push(self) -> build.Build:
        built = self.build()
        self.deployment().push(built, timeout_s=TIMEOUT_S)
        return built

    def state(self) -> str:
        return state.read(self.ledger).state


@pytest.fixture
def place(project_folder: Path, tmp_path: Path, ledger: Ledger) -> Iterator[Place]:
    outside = tmp_path / "outside"
    outside.mkdir()
    stand_in = pipedream.make(manifest.load(project_folder), outside)
    clone = outside / "clone"
    git(outside, "clone", "--quiet", str(stand_in.remote), str(clone))
    git(clone, "config", "user.name", "tester")
    git(clone, "config", "user.email", "tester@localhost")
    with pipedream.serving(stand_in) as url:
        yield Place(project_folder, clone, stand_in, url, ledger)


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_a_plan_names_every_change_and_makes_none(place: Place) -> None:
    plan = place.deployment().plan(place.build())
    assert [change.path.partition("/")[2] for change in plan.changes] == [
        "first/entry.py",
        "second/entry.py",
    ]
    assert all(change.added > 50 and change.removed == 1 for change in plan.changes)
    assert "+# The step first of the workflow one." in plan.changes[0].diff()
    assert git(place.clone, "status", "--porcelain") == ""
    assert plan.remarks == []


def test_a_push_deploys_waits_for_every_hash_and_holds_trading_meanwhile(place: Place) -> None:
    place.stand_in.deploys_after = 3
    seen: list[str] = []
    wait = place.wait

    def watch(seconds: float) -> None:
        seen.append(place.state())
        wait(seconds)

    place.wait = watch  # type: ignore[method-assign]
    built = place.push()
    assert seen == ["REDUCING"] * 3
    assert place.state() == "ACTIVE"
    assert place.deployment().check(built) == []
    subject = git(place.stand_in.remote, "log", "-1", "--format=%s", "production").strip()
    assert subject == f"Deploy build {built.build}"
    assert "Every step runs the new code." in place.said


def test_a_push_of_what_runs_already_changes_nothing(place: Place) -> None:
    place.push()
    before = git(place.stand_in.remote, "rev-parse", "production")
    assert place.deployment().plan(place.build()).changes == []
    place.push()
    assert git(place.stand_in.remote, "rev-parse", "production") == before


def test_a_hash_that_never_arrives_is_named_and_trading_stays_held(place: Place) -> None:
    place.stand_in.broken = set(place.stand_in.workflow_ids.values())
    with pytest.raises(DeploymentIncomplete, match=r"after 60 s: one/first: expected .*, was "):
        place.push()
    assert place.state() == "REDUCING"
    assert place.now_s > TIMEOUT_S
    place.stand_in.broken = set()
    place.push()
    assert place.state() == "ACTIVE"


def test_a_halt_meanwhile_is_not_lifted(place: Place) -> None:
    place.stand_in.deploys_after = 1
    wait = place.wait

    def halt(seconds: float) -> None:
        state.tighten(place.ledger, "HALTED", reason="drawdown", set_by="breaker")
        wait(seconds)

    place.wait = halt  # type: ignore[method-assign]
    place.push()
    assert place.state() == "HALTED"
    assert "Trading stays HALTED: drawdown" in place.said


def test_a_pause_that_is_over_meanwhile_ends_after_the_deployment(place: Place) -> None:
    state.tighten(
        place.ledger, "HALTED", reason="losses", set_by="breaker", pause_until=clock.now()
    )
    place.stand_in.deploys_after = 1
    wait, resumed = place.wait, list[bool]()

    def check(seconds: float) -> None:
        resumed.append(state.resume_after_pause(place.ledger, set_by="breaker"))
        wait(seconds)

    place.wait = check  # type: ignore[method-assign]
    built = place.push()
    assert resumed == [False]
    told = f"the pause from before goes on; build {built.build} is deployed"
    assert f"Trading stays HALTED: {told}" in place.said
    assert state.resume_after_pause(place.ledger, set_by="breaker")


def test_a_refused_push_leaves_nothing_behind(place: Place) -> None:
    hook = place.stand_in.remote / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho 'protected branch' >&2\nexit 1\n")
    hook.chmod(0o755)
    head = git(place.clone, "rev-parse", "HEAD")
    with pytest.raises(GitFailed, match="protected branch"):
        place.push()
    assert git(place.clone, "rev-parse", "HEAD") == head
    assert git(place.clone, "status", "--porcelain") == ""
    hook.unlink()
    assert place.push()


def test_what_was_edited_in_the_ui_meanwhile_is_taken_over_first(place: Place) -> None:
    place.push()
    work = place.clone.parent / "pipedream"
    git(work, "pull", "--quiet")
    (entry,) = work.glob("one-*/first/entry.py")
    entry.write_text(entry.read_text() + "# edited in the UI\n")
    pipedream.commit_as_pipedream(work, "Edited in the editor")
    plan = place.deployment().plan(place.build())
    assert [change.removed for change in plan.changes] == [1]
    assert "-# edited in the UI" in plan.changes[0].diff()
    differences = place.deployment().check(place.build())
    assert [str(found).partition(":")[0] for found in differences] == ["one/first"]


def test_an_earlier_build_comes_back(place: Place, write: Write) -> None:
    old = place.push()
    write("shared/counting.py", "looked_at = [1]\n")
    new = place.push()
    deployment = place.deployment()
    assert [name for name, _ in deployment.builds()] == [new.build, old.build]
    deployment.rollback(old.build, timeout_s=TIMEOUT_S)
    assert place.deployment().check(old) == []
    assert len(place.deployment().check(new)) == 2
    assert place.state() == "ACTIVE"
    with pytest.raises(ConfigurationError, match=f"expected one of {old.build}, {new.build}"):
        place.deployment().rollback("000000000000", timeout_s=TIMEOUT_S)


def test_workflows_are_switched_in_the_safe_order(place: Place) -> None:
    (workflow_id,) = place.stand_in.workflow_ids.values()
    place.deployment().activate()
    assert place.stand_in.active == {workflow_id: True}
    place.deployment().deactivate()
    assert place.stand_in.active == {workflow_id: False}


def test_the_breaker_starts_first_and_the_loop_last() -> None:
    from deploy.local.servers import PROJECT

    order = start_order(manifest.load(PROJECT))
    assert order == (
        "circuit_breaker",
        "kill_switch",
        "dashboard",
        "performance_analyzer",
        "position_manager",
        "trading_loop",
    )


def _rename(place: Place, change: str) -> None:
    work = place.clone.parent / "pipedream"
    (folder,) = work.glob("one-p_*")
    match change:
        case "other name":
            folder.rename(work / folder.name.replace("one-", "two-"))
        case "twice":
            (work / "one-p_other").mkdir()
            (work / "one-p_other" / "workflow.yaml").write_text("steps: []\n")
        case "other steps":
            path = folder / "workflow.yaml"
            path.write_text(path.read_text().replace("namespace: second", "namespace: sec-ond"))
        case "no description":
            (folder / "workflow.yaml").write_text("- just a list\n")
    pipedream.commit_as_pipedream(work, change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("other name", "one: expected one folder of this name, was none"),
        ("twice", "one: expected one folder of this name, was one-p_.*, one-p_other"),
        ("other steps", "steps: expected first, second, was first, sec-ond"),
        ("no description", "workflow.yaml: expected a workflow's description"),
    ],
)
def test_a_repository_of_another_project_is_refused(
    place: Place, change: str, message: str
) -> None:
    _rename(place, change)
    with pytest.raises(ConfigurationError, match=message):
        place.push()
    assert place.state() == "ACTIVE"


def test_a_folder_is_never_made(place: Place) -> None:
    work = place.clone.parent / "pipedream"
    for path in work.glob("one-p_*/second/entry.py"):
        path.unlink()
    pipedream.commit_as_pipedream(work, "The step is described and has no folder")
    with pytest.raises(ConfigurationError, match="expected a folder that Pipedream has made"):
        place.push()


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (("checkout", "--quiet", "-b", "mine"), "expected the branch production, was mine"),
        (("mv", "README.md", "READ.md"), "expected a clean work tree, was changed"),
    ],
)
def test_a_clone_in_another_state_is_refused(
    place: Place, prepare: tuple[str, ...], message: str
) -> None:
    git(place.clone, *prepare)
    with pytest.raises(ConfigurationError, match=message):
        Clone(place.clone)


def test_no_clone_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="expected a clone of the synced repository"):
        Clone(tmp_path)


def test_an_api_that_is_down_leaves_trading_held_after_the_push(place: Place) -> None:
    place.stand_in.failures = {("GET", "/v1/workflows"): [500] * 20}
    with pytest.raises(ApiError, match="HTTP 500"):
        place.push()
    assert place.state() == "REDUCING"


def test_timeouts_that_differ_are_remarked(place: Place) -> None:
    work = place.clone.parent / "pipedream"
    (path,) = work.glob("one-p_*/workflow.yaml")
    path.write_text(path.read_text().replace("lambda_timeout: 60", "lambda_timeout: 30"))
    pipedream.commit_as_pipedream(work, "Another timeout")
    plan = place.deployment().plan(place.build())
    assert plan.remarks == ["one: timeout: expected 60 s, was 30 s"]
