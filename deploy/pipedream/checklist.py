"""What has to be there before a script can deploy: words for a person, checked where possible.

Pipedream makes projects, workflows, schedules, accounts and settings in its UI alone. Each item
says what to do; what the API or the synced repository shows of it is looked at, and the rest is
confirmed by the person who did it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from deploy.local.manifest import CronTrigger, HttpTrigger, Project, Workflow
from deploy.pipedream.rest import DeployedWorkflow
from deploy.pipedream.synced import Target
from shared import config

Status = Literal["done", "confirmed", "open"]


@dataclass(frozen=True)
class Seen:
    """What could be looked at. ``None`` where there was nothing to look with.

    Attributes:
        workspace: what the API calls it, where key and workspace are right.
        targets: the workflows' folders in the clone, those that fit.
        misfits: what the clone has otherwise, by workflow.
        deployed: the workflows as the API shows them.
        apps: names of the apps that accounts are connected for.
    """

    workspace: str | None = None
    targets: Mapping[str, Target] | None = None
    misfits: Mapping[str, str] | None = None
    deployed: Mapping[str, DeployedWorkflow] | None = None
    apps: frozenset[str] | None = None


@dataclass(frozen=True)
class Item:
    """One thing to do.

    Attributes:
        name: to confirm it by.
        lines: what to do, in order.
        look: ``None`` where it is as it should be, else what is lacking.
        visible: whether ``look`` can tell at all; what it cannot, a person confirms.
    """

    name: str
    title: str
    lines: tuple[str, ...]
    look: Callable[[Seen], str | None]
    visible: bool = True


@dataclass(frozen=True)
class Progress:
    """An item and how far it is. ``lacking`` says what was seen to be missing."""

    item: Item
    status: Status
    lacking: str | None


def items(project: Project) -> Iterator[Item]:
    """Everything that is to be done once, in the order in which it can be done."""
    yield _key()
    yield _project(project)
    for workflow in project.workflows:
        yield _workflow(workflow)
    for workflow in project.workflows:
        yield _settings(workflow)
    yield _accounts(project)
    yield _variables()
    yield _retention()


def progress(project: Project, seen: Seen, confirmed: frozenset[str]) -> list[Progress]:
    """Where each item stands."""
    found = []
    for item in items(project):
        lacking = item.look(seen)
        if lacking is None:
            found.append(Progress(item, "done", None))
        elif not item.visible and item.name in confirmed:
            found.append(Progress(item, "confirmed", None))
        else:
            found.append(Progress(item, "open", lacking))
    return found


def _key() -> Item:
    return Item(
        "key",
        "An API key, and the workspace",
        (
            "Pipedream, User Settings, API keys: make a key. It can do whatever you can: keep it "
            "in PIPEDREAM_API_KEY of your shell and in no file.",
            "Settings of the workspace: its id, o_..., goes into PIPEDREAM_ORG_ID.",
        ),
        lambda seen: None if seen.workspace else "the API was not reached with a right key",
    )


def _project(project: Project) -> Item:
    return Item(
        "project",
        "A project with GitHub Sync",
        (
            f"Projects, New project: {project.name}. GitHub Sync needs a paid plan.",
            "Configure GitHub Sync with a repository that Pipedream makes, or an empty one.",
            "Clone that repository on the branch production, and name it with --clone.",
        ),
        lambda seen: None if seen.targets is not None else "no clone was named",
    )


def _workflow(workflow: Workflow) -> Item:
    name = workflow.name.replace("_", "-")
    steps = ", then ".join(f"{step.namespace}" for step in workflow.steps)
    return Item(
        f"workflow:{workflow.name}",
        f"The workflow {name}",
        (
            "Edit, Create branch. New workflow; its name is exactly: " + name,
            f"Trigger: {_trigger(workflow)}",
            f"Python steps with exactly these names: {steps}. Their code does not matter yet.",
            *_step_accounts(workflow),
            "Merge to production, and pull the clone.",
        ),
        lambda seen: _workflow_lacks(workflow, seen),
    )


def _trigger(workflow: Workflow) -> str:
    trigger = workflow.trigger
    if isinstance(trigger, CronTrigger):
        return f'Schedule, Cron Expression "{trigger.cron}", timezone {trigger.timezone}.'
    assert isinstance(trigger, HttpTrigger)
    return (
        f"HTTP, {trigger.method}, response: Return a custom response from your workflow; "
        "authorization: Custom token."
    )


def _step_accounts(workflow: Workflow) -> Iterator[str]:
    for step in workflow.steps:
        if step.accounts:
            yield f"{step.namespace}: connect {', '.join(step.accounts)} as props of those names."


def _workflow_lacks(workflow: Workflow, seen: Seen) -> str | None:
    if seen.targets is None:
        return "no clone was named"
    if workflow.name not in seen.targets:
        return (seen.misfits or {}).get(workflow.name, "the clone has no folder of this name")
    deployed = (seen.deployed or {}).get(workflow.name)
    if deployed is not None and isinstance(workflow.trigger, CronTrigger):
        told = ", ".join(deployed.crons) or "none"
        if workflow.trigger.cron not in deployed.crons:
            return f"schedule: expected {workflow.trigger.cron}, was {told}"
    return None


def _settings(workflow: Workflow) -> Item:
    settings = workflow.settings
    return Item(
        f"settings:{workflow.name}",
        f"Settings of {workflow.name.replace('_', '-')}",
        (
            f"Timeout {settings.timeout_seconds} s, memory {settings.memory_mib} MB.",
            "Automatic retry off: a step that has sent an order must not be run again by itself.",
            "Error notifications on.",
        ),
        lambda seen: _settings_lack(workflow, seen),
        visible=False,
    )


def _settings_lack(workflow: Workflow, seen: Seen) -> str:
    target = (seen.targets or {}).get(workflow.name)
    wanted = workflow.settings.timeout_seconds
    if target is not None and target.lambda_timeout not in (None, wanted):
        return f"timeout: expected {wanted} s, was {target.lambda_timeout} s"
    return "memory and retries cannot be seen from here"


def _accounts(project: Project) -> Item:
    return Item(
        "accounts",
        "Connected accounts",
        (
            f"Connect: {', '.join(project.accounts)}. Names and fields as Pipedream offers them.",
            "Share each with the whole workspace: a merge that comes from outside the UI fails "
            "with an account that is private.",
        ),
        lambda seen: _accounts_lack(project, seen),
    )


def _accounts_lack(project: Project, seen: Seen) -> str | None:
    if seen.apps is None:
        return "the API was not reached"
    absent = [app for app in project.accounts if app not in seen.apps]
    return f"no account for {', '.join(absent)}" if absent else None


def _variables() -> Item:
    secrets = [name for name in config.SECRET_VARIABLES if name not in _by_account()]
    return Item(
        "variables",
        "Environment variables",
        (
            "Project settings, Environment variables. Secret ones, each as far as you use it: "
            + ", ".join(secrets),
            "REDIS_URL too, for a cache that both Pipedream and you can reach.",
            "Of all others the defaults hold; .env.example explains them. A pod of its own needs "
            "POD.",
        ),
        lambda seen: "variables cannot be seen from here",
        visible=False,
    )


def _by_account() -> frozenset[str]:
    return frozenset(config.ACCOUNT_FIELDS.values()) | {"DATABASE_URL"}


def _retention() -> Item:
    return Item(
        "retention",
        "Data retention",
        (
            "Settings of each workflow: switch data retention off, if events and exports with "
            "balances shall not stay on Pipedream.",
        ),
        lambda seen: "data retention cannot be seen from here",
        visible=False,
    )
