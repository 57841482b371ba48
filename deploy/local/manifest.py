"""``pipedream.yaml`` and ``workflows/*.yaml`` as typed, frozen models."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from deploy.local.cron import Cron
from shared.errors import ConfigurationError

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class CronTrigger(_Model):
    """Runs on a schedule."""

    type: Literal["cron"]
    cron: str
    timezone: str = "UTC"

    @model_validator(mode="after")
    def _parses(self) -> CronTrigger:
        Cron.parse(self.cron, self.timezone)
        return self

    @cached_property
    def schedule(self) -> Cron:
        return Cron.parse(self.cron, self.timezone)


class HttpTrigger(_Model):
    """Runs when its address is called."""

    type: Literal["http"]
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: Annotated[str, Field(pattern=r"^/[A-Za-z0-9_/-]*$")]


class Settings(_Model):
    """What a run may take on Pipedream."""

    timeout_seconds: Annotated[int, Field(ge=1, le=750)]
    memory_mib: Annotated[int, Field(ge=128, le=10_240)]


class Step(_Model):
    """One code step. ``accounts`` and ``data_stores`` are its only inputs, as on Pipedream."""

    namespace: Name
    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9_./-]+\.py$")]
    accounts: tuple[Name, ...] = ()
    data_stores: tuple[Name, ...] = ()


class Workflow(_Model):
    """A trigger and the steps that run after it, in order."""

    name: Name
    description: str
    trigger: Annotated[CronTrigger | HttpTrigger, Field(discriminator="type")]
    settings: Settings
    steps: Annotated[tuple[Step, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_differ(self) -> Workflow:
        names = [step.namespace for step in self.steps]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"steps: expected different namespaces, {repeated[0]} stands twice")
        if "trigger" in names:
            raise ValueError("steps: expected no step named trigger, which Pipedream uses itself")
        return self

    @property
    def schedule(self) -> Cron | None:
        """When it runs by itself; ``None`` for an HTTP workflow."""
        return self.trigger.schedule if isinstance(self.trigger, CronTrigger) else None


class Limits(_Model):
    """Limits of the platform that no workflow can raise."""

    payload_bytes: Annotated[int, Field(gt=0)]
    memory_mib: Annotated[int, Field(gt=0)]
    bundle_bytes: Annotated[int, Field(gt=0)] = 1_000_000
    """Of one step's code. Pipedream documents none; this is a bound of our own."""


class _ProjectFile(_Model):
    name: str
    runtime: Literal["python3.12"]
    workflows: Annotated[tuple[Name, ...], Field(min_length=1)]
    limits: Limits
    accounts: tuple[Name, ...]
    packages: str
    pods: Annotated[tuple[str, ...], Field(min_length=1)]


class Project(_Model):
    """The whole project. ``workflows`` stand in the order in which ticks of a minute are served."""

    root: Path
    name: str
    workflows: tuple[Workflow, ...]
    limits: Limits
    accounts: tuple[Name, ...]
    pods: tuple[str, ...]

    def workflow(self, name: str) -> Workflow:
        """The workflow of that name.

        Raises:
            ConfigurationError: there is none.
        """
        for workflow in self.workflows:
            if workflow.name == name:
                return workflow
        known = ", ".join(workflow.name for workflow in self.workflows)
        raise ConfigurationError(f"workflow: expected one of {known}, was {name}")


def load(root: Path) -> Project:
    """Read the project below ``root``.

    Raises:
        ConfigurationError: names file, key, value and what was expected.
    """
    path = root / "pipedream.yaml"
    project = _parse(_ProjectFile, path)
    workflows = tuple(_workflow(root, name) for name in project.workflows)
    _refuse_unlisted(root, project.workflows)
    _refuse_unknown_accounts(workflows, project.accounts, path)
    _refuse_shared_routes(workflows)
    return Project(
        root=root,
        name=project.name,
        workflows=workflows,
        limits=project.limits,
        accounts=project.accounts,
        pods=project.pods,
    )


def _workflow(root: Path, name: str) -> Workflow:
    path = root / "workflows" / f"{name}.yaml"
    workflow = _parse(Workflow, path)
    if workflow.name != name:
        raise ConfigurationError(f"{path}: name: expected {name}, was {workflow.name}")
    for index, step in enumerate(workflow.steps):
        if ".." in Path(step.file).parts:
            raise ConfigurationError(
                f"{path}: steps.{index}.file: expected a file of the project, was {step.file}"
            )
    return workflow


def _parse[M: BaseModel](model: type[M], path: Path) -> M:
    try:
        data: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: expected a file, there is none") from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}: expected YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise ConfigurationError(f"{path}: expected keys and values, was {type(data).__name__}")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(_explain(problem) for problem in error.errors())
        raise ConfigurationError(f"{path}: {problems}") from None


def _explain(problem: ErrorDetails) -> str:
    key = ".".join(str(part) for part in problem["loc"]) or "file"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{key}: {message}, was {problem['input']!r}"


def _refuse_unlisted(root: Path, listed: tuple[str, ...]) -> None:
    for path in sorted((root / "workflows").glob("*.yaml")):
        if path.stem not in listed:
            raise ConfigurationError(
                f"{path}: expected to be listed under workflows in {root / 'pipedream.yaml'}"
            )


def _refuse_unknown_accounts(
    workflows: tuple[Workflow, ...], accounts: tuple[str, ...], path: Path
) -> None:
    for workflow in workflows:
        for step in workflow.steps:
            for account in step.accounts:
                if account not in accounts:
                    raise ConfigurationError(
                        f"{path}: accounts: expected {account}, which {workflow.name} uses in "
                        f"{step.namespace}"
                    )


def _refuse_shared_routes(workflows: tuple[Workflow, ...]) -> None:
    owners: dict[tuple[str, str], str] = {}
    for workflow in workflows:
        if isinstance(workflow.trigger, HttpTrigger):
            route = (workflow.trigger.method, workflow.trigger.path)
            if route in owners:
                raise ConfigurationError(
                    f"workflows/{workflow.name}.yaml: trigger: {' '.join(route)} belongs to "
                    f"{owners[route]} already"
                )
            owners[route] = workflow.name
