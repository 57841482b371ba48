"""The body of ``POST /v1/workflows``, which makes a workflow from a template.

Pipedream takes no code here: the steps come from the template, a workflow that was shared once in
the UI and is frozen at that version. New code reaches the copy by the synced repository.

Source: https://pipedream.com/docs/rest-api, "Create a workflow"
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deploy.local.manifest import CronTrigger, Workflow
from shared.errors import ConfigurationError

FILE = "deploy/autonomous_trading_loop.json"
LAUNCHED = "trading_loop"


@dataclass(frozen=True)
class Ids:
    """Names of things in a workspace; a person finds each in the UI or by the API.

    Attributes:
        org_id, project_id: the workspace and the project, ``o_...`` and ``proj_...``.
        template_id: of the shared workflow, ``tch_...``.
        accounts: the connected account of each app, ``apn_...``.
    """

    org_id: str
    project_id: str
    template_id: str
    accounts: Mapping[str, str]


PLACEHOLDERS = Ids(
    "o_YOUR_WORKSPACE",
    "proj_YOUR_PROJECT",
    "tch_YOUR_TEMPLATE",
    {
        "postgresql": "apn_YOUR_POSTGRESQL",
        "openai": "apn_YOUR_OPENAI",
        "anthropic": "apn_YOUR_ANTHROPIC",
        "slack_bot": "apn_YOUR_SLACK_BOT",
    },
)
"""What the committed file holds, to be put right before it is sent."""


def body(workflow: Workflow, ids: Ids, *, name: str | None = None) -> dict[str, Any]:
    """The request that makes ``workflow`` from its template.

    Args:
        name: what the copy is called; by default the workflow's own name.

    Raises:
        ConfigurationError: an id does not look like one, or an account is lacking; names all.
    """
    _check(workflow, ids)
    return {
        "org_id": ids.org_id,
        "project_id": ids.project_id,
        "template_id": ids.template_id,
        "steps": [
            {
                "namespace": step.namespace,
                "props": {app: {"authProvisionId": ids.accounts[app]} for app in step.accounts},
            }
            for step in workflow.steps
        ],
        "triggers": [{"props": _trigger(workflow)}],
        "settings": {"name": name or workflow.name.replace("_", "-"), "auto_deploy": False},
    }


def _trigger(workflow: Workflow) -> dict[str, Any]:
    trigger = workflow.trigger
    if isinstance(trigger, CronTrigger):
        return {"cron": {"cron": trigger.cron, "timezone": trigger.timezone}}
    return {}


def _check(workflow: Workflow, ids: Ids) -> None:
    needed = {app for step in workflow.steps for app in step.accounts}
    given = {"org_id": ids.org_id, "project_id": ids.project_id, "template_id": ids.template_id}
    starts = {"org_id": "o_", "project_id": "proj_", "template_id": "tch_"}
    problems = [
        f"{field}: expected {start}..., was {given[field]!r}"
        for field, start in starts.items()
        if not given[field].startswith(start)
    ]
    for app in sorted(needed):
        found = ids.accounts.get(app)
        if found is None or not found.startswith("apn_"):
            problems.append(f"account {app}: expected apn_..., was {found!r}")
    if problems:
        raise ConfigurationError(f"{workflow.name}: " + "; ".join(problems))
