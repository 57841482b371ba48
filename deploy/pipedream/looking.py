"""What the API and the clone show of a project that is being set up; nothing here is an error."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from deploy.local.manifest import Project
from deploy.pipedream.checklist import Seen
from deploy.pipedream.rest import BASE_URL, ApiError, DeployedWorkflow, PipedreamApi
from deploy.pipedream.synced import Clone, Target
from shared.errors import ConfigurationError


def look(project: Project, variables: Mapping[str, str], clone: Path | None) -> Seen:
    """Whatever can be seen now. A wrong key, or a clone that does not fit, shows nothing.

    Raises:
        ConfigurationError: ``clone`` is no clone of a synced repository.
    """
    targets, misfits = (None, None) if clone is None else _targets(project, clone)
    try:
        api = _api(variables)
        if api is None:
            return Seen(targets=targets, misfits=misfits)
        workspace = api.workspace()
        return Seen(
            workspace=str(workspace.get("orgname") or workspace.get("id")),
            targets=targets,
            misfits=misfits,
            deployed=_deployed(api, targets or {}),
            apps=frozenset(map(app_of, api.accounts())),
        )
    except ApiError:
        return Seen(targets=targets, misfits=misfits)


def _api(variables: Mapping[str, str]) -> PipedreamApi | None:
    key, org_id = variables.get("PIPEDREAM_API_KEY"), variables.get("PIPEDREAM_ORG_ID")
    if not key or not org_id:
        return None
    url = variables.get("PIPEDREAM_API_URL") or BASE_URL
    return PipedreamApi(SecretStr(key), org_id, base_url=url)


def _targets(project: Project, folder: Path) -> tuple[dict[str, Target], dict[str, str]]:
    """The workflows that the clone has as they should be, and what is wrong with the others."""
    clone = Clone(folder)
    targets: dict[str, Target] = {}
    misfits: dict[str, str] = {}
    for workflow in project.workflows:
        alone = project.model_copy(update={"workflows": (workflow,)})
        try:
            targets |= clone.targets(alone)
        except ConfigurationError as error:
            misfits[workflow.name] = str(error).partition("? ")[2] or str(error)
    return targets, misfits


def _deployed(api: PipedreamApi, targets: Mapping[str, Target]) -> dict[str, DeployedWorkflow]:
    return {name: api.workflow(target.workflow_id) for name, target in targets.items()}


def app_of(account: Mapping[str, Any]) -> str:
    """The name of an account's app, however deep the account tells it."""
    app = account.get("app")
    name = app.get("name_slug") if isinstance(app, dict) else app
    return str(name or account.get("name_slug") or account.get("name"))
