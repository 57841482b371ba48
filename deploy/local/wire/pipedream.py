"""A stand-in for Pipedream's REST API and for the repository that it keeps in step.

A workflow's steps tell the hashes of what the bare repository's ``production`` branch holds, as
soon as ``deploys_after`` reads have been answered since the push. Shapes after
https://pipedream.com/docs/rest-api, as far as documented. That a workflow which is made from a
template gets a folder of the repository is not documented; the stand-in lets it.
"""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from deploy.local.manifest import CronTrigger, Project, Workflow
from deploy.local.processes import LOOPBACK

ORG_ID = "o_standin"
PROJECT_ID = "proj_standin"
KEY = "pd-stand-in-key"
_PAGE = 100
_AUTHOR = ("-c", "user.name=pdgit", "-c", "user.email=git+auto@pipedream.com")


@dataclass
class StandIn:
    """What Pipedream knows.

    Attributes:
        remote: the bare repository.
        active: by workflow id.
        deploys_after: how many reads of a workflow still show the code before the last push.
        broken: workflow ids whose deploys fail: they keep the code that they had.
        failures: HTTP status by method and path beginning, each answered once in turn.
        lost_answers: how many of the next ``POST /workflows`` are carried out and answered by 500.
        templates: the workflows of the project that have been shared, by template id.
        created: the bodies of ``POST /workflows``.
        accounts: what the workspace has connected.
    """

    remote: Path
    workflow_ids: dict[str, str]
    crons: dict[str, str | None]
    active: dict[str, bool] = field(default_factory=dict)
    deploys_after: int = 0
    broken: set[str] = field(default_factory=set)
    failures: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    lost_answers: int = 0
    templates: dict[str, Workflow] = field(default_factory=dict)
    created: list[dict[str, Any]] = field(default_factory=list)
    accounts: list[dict[str, Any]] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    _live: dict[str, str] = field(default_factory=dict)
    _reads: Counter[str] = field(default_factory=Counter)

    def app(self) -> web.Application:
        """The API below ``/v1``."""
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/v1/users/me", self._me)
        app.router.add_get(f"/v1/workspaces/{ORG_ID}", self._workspace)
        app.router.add_get(f"/v1/workspaces/{ORG_ID}/accounts", self._accounts)
        app.router.add_post("/v1/workflows", self._create)
        app.router.add_get("/v1/workflows/{id}", self._workflow)
        app.router.add_put("/v1/workflows/{id}", self._switch)
        app.router.add_get("/v1/workflows/{id}/$errors/event_summaries", self._errors)
        return app

    @web.middleware
    async def _guard(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        self.calls[f"{request.method} {request.path}"] += 1
        for (method, start), statuses in self.failures.items():
            if method == request.method and request.path.startswith(start) and statuses:
                headers = {"Retry-After": "1"} if statuses[0] == 429 else {}
                return web.json_response(
                    {"error": "planned"}, status=statuses.pop(0), headers=headers
                )
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return web.json_response({"error": "invalid api key"}, status=401)
        return await handler(request)

    async def _me(self, request: web.Request) -> web.Response:
        return web.json_response({"data": {"id": "u_standin", "username": "stand-in"}})

    async def _workspace(self, request: web.Request) -> web.Response:
        return web.json_response({"data": {"id": ORG_ID, "orgname": "stand-in"}})

    async def _accounts(self, request: web.Request) -> web.Response:
        start = int(request.query.get("after", "0"))
        limit = min(int(request.query.get("limit", str(_PAGE))), _PAGE)
        part = self.accounts[start : start + limit]
        page = {"count": len(part), "end_cursor": str(start + len(part))}
        return web.json_response({"page_info": page, "data": part})

    async def _create(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.created.append(body)
        if (body.get("org_id"), body.get("project_id")) != (ORG_ID, PROJECT_ID):
            return web.json_response({"error": "project not found"}, status=404)
        template = self.templates.get(body.get("template_id", ""))
        if template is None:
            return web.json_response({"error": "template not found"}, status=404)
        made = f"p_made{len(self.created)}"
        name = body["settings"]["name"]
        work = self.remote.parent / "pipedream"
        _git(work, "pull", "--quiet", "--ff-only", "origin", "production")
        _write_workflow(work, template, made, name=name)
        commit_as_pipedream(work, f"Create {name}")
        self.workflow_ids[name.replace("-", "_")] = made
        self.crons[name.replace("-", "_")] = _cron_of(body)
        self._deployed(made)
        if self.lost_answers:
            self.lost_answers -= 1
            return web.json_response({"error": "planned"}, status=500)
        return web.json_response({"data": {"id": made, "active": False, "steps": []}})

    async def _switch(self, request: web.Request) -> web.Response:
        workflow_id, body = request.match_info["id"], await request.json()
        if workflow_id not in self.workflow_ids.values():
            return web.json_response({"error": "record not found"}, status=404)
        self.active[workflow_id] = bool(body["active"])
        return web.json_response({"data": {"id": workflow_id, "active": body["active"]}})

    async def _errors(self, request: web.Request) -> web.Response:
        return web.json_response({"data": []})

    async def _workflow(self, request: web.Request) -> web.Response:
        workflow_id = request.match_info["id"]
        names = [name for name, known in self.workflow_ids.items() if known == workflow_id]
        if not names:
            return web.json_response({"error": "record not found"}, status=404)
        steps = self._steps(names[0], workflow_id)
        cron = self.crons[names[0]]
        trigger = {"id": f"ti_{workflow_id}", "timezone": "UTC"} | ({"cron": cron} if cron else {})
        answer = {"triggers": [trigger], "steps": steps}
        return web.json_response(answer | {"active": self.active.get(workflow_id, False)})

    def _steps(self, workflow: str, workflow_id: str) -> list[dict[str, Any]]:
        commit = self._deployed(workflow_id)
        folder = f"{workflow.replace('_', '-')}-{workflow_id}"
        described = yaml.safe_load(_show(self.remote, commit, f"{folder}/workflow.yaml"))
        return [
            {
                "id": f"c_{step['namespace']}",
                "namespace": step["namespace"],
                "lang": "python3.12",
                "savedComponent": {
                    "id": f"sc_{step['namespace']}",
                    "codeHash": hashlib.sha256(
                        _show(self.remote, commit, f"{folder}/{step['namespace']}/entry.py")
                    ).hexdigest(),
                },
            }
            for step in described["steps"]
        ]

    def _deployed(self, workflow_id: str) -> str:
        """The commit whose code runs; a push takes some reads to get there."""
        head = _git(self.remote, "rev-parse", "production").decode().strip()
        live = self._live.setdefault(workflow_id, head)
        if live != head and workflow_id not in self.broken:
            self._reads[workflow_id] += 1
            if self._reads[workflow_id] > self.deploys_after:
                self._live[workflow_id], self._reads[workflow_id] = head, 0
        return self._live[workflow_id]


def make(project: Project, folder: Path) -> StandIn:
    """A synced repository as Pipedream makes one, and the API beside it."""
    remote, work = folder / "remote.git", folder / "pipedream"
    subprocess.run(
        ["git", "init", "--quiet", "--bare", "--initial-branch=production", str(remote)], check=True
    )
    subprocess.run(["git", "clone", "--quiet", str(remote), str(work)], check=True)
    ids = {workflow.name: _made_id(workflow) for workflow in project.workflows}
    for workflow in project.workflows:
        _write_workflow(work, workflow, ids[workflow.name])
    (work / "README.md").write_text(f"Project {PROJECT_ID}\n")
    commit_as_pipedream(work, "Initial commit")
    crons = {
        workflow.name: workflow.trigger.cron if isinstance(workflow.trigger, CronTrigger) else None
        for workflow in project.workflows
    }
    templates = {template_id(workflow.name): workflow for workflow in project.workflows}
    stand_in = StandIn(remote, ids, crons, templates=templates)
    for workflow_id in ids.values():
        stand_in._deployed(workflow_id)
    return stand_in


def template_id(workflow: str) -> str:
    """Of a workflow that a person has shared in the UI."""
    return f"tch_{workflow}"


@contextmanager
def serving(stand_in: StandIn) -> Iterator[str]:
    """Serve the API in a thread; yields its base address, with ``/v1``."""
    loop, runner = asyncio.new_event_loop(), web.AppRunner(stand_in.app(), access_log=None)

    async def start() -> int:
        await runner.setup()
        await web.TCPSite(runner, LOOPBACK, 0).start()
        port: int = runner.addresses[0][1]
        return port

    port = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever, name="pipedream-stand-in", daemon=True)
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{port}/v1"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def commit_as_pipedream(work: Path, message: str) -> None:
    """What an edit in the UI does, once merged."""
    _git(work, "add", "--all")
    _git(work, *_AUTHOR, "commit", "--quiet", "--message", message)
    _git(work, "push", "--quiet", "origin", "HEAD:production")


def _cron_of(body: dict[str, Any]) -> str | None:
    for trigger in body["triggers"]:
        if "cron" in trigger["props"]:
            return str(trigger["props"]["cron"]["cron"])
    return None


def _write_workflow(
    work: Path, workflow: Workflow, workflow_id: str, *, name: str | None = None
) -> None:
    name = name or workflow.name.replace("_", "-")
    folder = work / f"{name}-{workflow_id}"
    folder.mkdir()
    (folder / ".workflow.state").write_text(
        f"# DO NOT EDIT THIS FILE\n---\nschema: workflow.state/2022.04\nid: {workflow_id}\n"
    )
    described = {
        "schema": "workflow/2022.04",
        "name": name,
        "settings": {
            "error_notification": True,
            "lambda_timeout": workflow.settings.timeout_seconds,
        },
        "triggers": [{"id": f"ti_{workflow_id}"}],
        "steps": [
            {
                "namespace": step.namespace,
                "runtime": "python3.12",
                "uses": f"./{step.namespace}/entry.py",
            }
            for step in workflow.steps
        ],
    }
    (folder / "workflow.yaml").write_text(yaml.safe_dump(described, sort_keys=False))
    for step in workflow.steps:
        (folder / step.namespace).mkdir()
        (folder / step.namespace / "entry.py").write_text(
            'def handler(pd: "pipedream"):\n    return None\n'
        )


def _made_id(workflow: Workflow) -> str:
    return f"p_{hashlib.sha256(workflow.name.encode()).hexdigest()[:7]}"


def _show(repository: Path, commit: str, path: str) -> bytes:
    return _git(repository, "show", f"{commit}:{path}")


def _git(folder: Path, *arguments: str) -> bytes:
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, check=True)
    return done.stdout
