"""Events and contexts of triggers, in the shapes that Pipedream documents.

Ids are derived from the pod, the workflow and the tick, so that a run that is repeated after a
crash carries the same trace id, by which the ledger knows it again.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo

from deploy.local.manifest import Workflow
from shared import clock

_NAMESPACE = uuid.UUID("7b0f2f2e-6a5c-5d0e-9f43-2f4f0a9d6c11")


def trace_id(pod: str, workflow: str, at_ms: int) -> str:
    """The id that all attempts at one tick share."""
    return str(uuid.uuid5(_NAMESPACE, f"{pod}/{workflow}/{at_ms}"))


def cron_event(workflow: Workflow, at_ms: int) -> dict[str, Any]:
    """What a schedule hands to the first step; ``timestamp`` is in seconds since the epoch."""
    schedule = workflow.schedule
    if schedule is None:
        raise ValueError(f"{workflow.name}: expected a workflow with a schedule")
    moment = clock.from_ms(at_ms)
    return {
        "interval_seconds": None,
        "cron": schedule.text,
        "timestamp": at_ms // 1000,
        "timezone_configured": _iso8601(moment, schedule.timezone),
        "timezone_utc": _iso8601(moment, "UTC"),
    }


def context(
    pod: str,
    workflow: Workflow,
    at_ms: int,
    *,
    key: str = "",
    number: int = 1,
    now_ms: int | None = None,
) -> dict[str, Any]:
    """The context of a run.

    Args:
        at_ms: when it was due.
        key: tells apart runs of one workflow at the same millisecond, by their trace ids.
        number: tells apart executions of one event.
        now_ms: when it is delivered; by default when it was due.
    """
    identity = trace_id(pod, workflow.name, at_ms) if not key else _id(pod, workflow.name, key)
    return {
        "id": _id(identity, "execution", *([] if number == 1 else [str(number)])),
        "trace_id": identity,
        "ts": clock.iso(clock.from_ms(at_ms if now_ms is None else now_ms)),
        "deployment_id": f"d_{_id(workflow.name, 'deployment')[:8]}",
        "emitter_id": f"ti_{_id(workflow.name, 'emitter')[:8]}",
        "owner_id": "o_local",
        "platform_version": "local",
        "replay": False,
        "test": False,
        "workflow_id": f"p_{_id(workflow.name, 'workflow')[:8]}",
        "workflow_name": workflow.name,
    }


@dataclass(frozen=True)
class Request:
    """An HTTP request as it came in. ``target`` is path and query."""

    method: str
    target: str
    host: str
    client_ip: str
    headers: dict[str, str]
    body: bytes


def http_event(request: Request) -> dict[str, Any]:
    """What an HTTP trigger hands to the first step; a JSON body is parsed, other text is not."""
    parts = urlsplit(request.target)
    return {
        "body": _body(request),
        "client_ip": request.client_ip,
        "headers": {name.lower(): value for name, value in request.headers.items()},
        "method": request.method,
        "path": parts.path,
        "query": dict(parse_qsl(parts.query, keep_blank_values=True)),
        "url": f"http://{request.host}{request.target}",
    }


def _body(request: Request) -> Any:
    if not request.body:
        return None
    text = request.body.decode("utf-8", "replace")
    kind = next((v for k, v in request.headers.items() if k.lower() == "content-type"), "")
    if not kind.startswith("application/json"):
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _iso8601(moment: datetime, timezone: str) -> dict[str, Any]:
    local = moment.astimezone(ZoneInfo(timezone))
    return {
        "timezone": timezone,
        "iso8601": {
            "timestamp": local.isoformat(timespec="milliseconds"),
            "date": local.date().isoformat(),
            "time": local.timetz().isoformat(timespec="milliseconds"),
        },
    }


def _id(*parts: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, "/".join(parts)))
