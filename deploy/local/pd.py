"""The ``pd`` object that a step is given."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from deploy.local import exports
from deploy.local.flow import Flow, FlowState, PausedRuns

JsonObject = dict[str, Any]


class RespondError(Exception):
    """``pd.respond`` came too late: the client has been answered when the run paused."""


@dataclass(frozen=True)
class Response:
    """What ``pd.respond`` was given."""

    status: int
    body: Any
    headers: dict[str, str]


@dataclass
class RunState:
    """What the steps of one run share. ``steps`` holds JSON texts: every step reads a copy."""

    steps: dict[str, str]
    payload_bytes: int
    flow: FlowState = field(default_factory=FlowState)
    response: Response | None = None
    emails: list[JsonObject] = field(default_factory=list)


class Send:
    """``pd.send``. An e-mail is kept in the run's result; nothing leaves this machine."""

    def __init__(self, state: RunState) -> None:
        self._state = state

    def email(self, subject: str, text: str, html: str | None = None) -> None:
        """Keep an e-mail."""
        self._state.emails.append({"subject": subject, "text": text, "html": html})


class Pipedream:
    """The ``pd`` object of one step.

    Attributes:
        steps: the trigger and the exports of earlier steps, a copy of this step's own.
        inputs: connected accounts as ``{name: {"$auth": {...}}}`` and data stores.
        context: the context of the trigger, and ``run``, see ``Flow.rerun``.
    """

    def __init__(self, state: RunState, inputs: JsonObject, paused: PausedRuns[Any]) -> None:
        self._state = state
        self.steps: JsonObject = {name: json.loads(text) for name, text in state.steps.items()}
        self.inputs = inputs
        self.context: JsonObject = self.steps["trigger"]["context"] | {"run": _run(state.flow)}
        self.flow = Flow(state.flow, paused)
        self.send = Send(state)
        self.exported: JsonObject = {}

    def export(self, key: str, value: Any) -> None:
        """Give later steps ``value`` as ``pd.steps[<this step>][key]``."""
        self.exported[key] = value

    def respond(self, response: Mapping[str, Any]) -> None:
        """Answer the HTTP request that triggered the run. The first answer goes out.

        Raises:
            RespondError: ``pd.flow.delay`` was called, or the run has paused.
            ValueError: ``status`` or ``body`` is missing, or ``status`` is no HTTP status.
        """
        flow = self._state.flow
        if flow.segment > 1 or (flow.pause is not None and flow.pause.kind == "delay"):
            raise RespondError("pd.respond: expected before pd.flow.delay and before any pause")
        for required in ("status", "body"):
            if required not in response:
                raise ValueError(f"pd.respond: expected {required}, was {sorted(response)}")
        status = response["status"]
        if type(status) is not int or not 200 <= status <= 599:
            raise ValueError(f"pd.respond: status: expected 200 to 599, was {status!r}")
        body = response["body"]
        if not isinstance(body, bytes):
            body = json.loads(exports.encode(body, "respond", "body"))
        headers = {str(k): str(v) for k, v in (response.get("headers") or {}).items()}
        if self._state.response is None:
            self._state.response = Response(status, body, headers)


def _run(flow: FlowState) -> JsonObject:
    run: JsonObject = {"runs": flow.runs}
    if flow.run_context is not None:
        run["context"] = json.loads(flow.run_context)
    if flow.callback_request is not None:
        run["callback_request"] = flow.callback_request
    return run
