"""A stand-in for Slack's Web API: what ``chat.postMessage`` and ``auth.test`` answer.

Shapes: https://api.slack.com/methods/chat.postMessage, https://api.slack.com/methods/auth.test and
https://api.slack.com/apis/rate-limits. Errors come with status 200 and ``ok: false``; only a rate
limit (429 with ``Retry-After``) and a broken server have a status of their own.

``GET /_messages`` lists what was posted. ``POST /_faults`` with a list of faults, each
``{"status": 500}``, ``{"status": 429, "retry_after": 30}`` or ``{"error": "channel_not_found"}``,
makes the next calls fail in that order.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

Fault = Mapping[str, Any]

_TOKEN_PREFIXES = ("xoxb-", "xoxp-")
_MAX_TEXT = 40_000


class Workspace:
    """The messages of one workspace, in memory, and the faults that are still to come.

    ``clock`` tells the milliseconds since the epoch that time stamps are made of.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self.messages: list[dict[str, Any]] = []
        self.faults: deque[Fault] = deque()
        self._clock = clock

    def post(self, channel: str, content: Mapping[str, Any]) -> dict[str, Any]:
        """Keep a message and return what Slack answers."""
        count = len(self.messages) + 1
        stamp = f"{self._clock() // 1000}.{count:06d}"
        message = {
            "type": "message",
            "subtype": "bot_message",
            "text": content.get("text", ""),
            "ts": stamp,
            "username": "trading-loop",
            "bot_id": "B00000001",
        }
        if "blocks" in content:
            message["blocks"] = content["blocks"]
        answer = {"ok": True, "channel": _channel_id(channel), "ts": stamp, "message": message}
        self.messages.append({"channel": channel, **content, "ts": stamp})
        return answer


def build_app(clock: Callable[[], int]) -> web.Application:
    """The application, to be mounted under ``/slack``; its methods are below ``/api``."""
    workspace = Workspace(clock)
    app = web.Application()

    async def post_message(request: web.Request) -> web.Response:
        refused = _refusal(workspace, request)
        if refused is not None:
            return refused
        content = await _arguments(request)
        problem = _problem(content)
        if problem is not None:
            return _error(problem)
        channel = str(content.pop("channel"))
        return web.json_response(workspace.post(channel, content))

    async def auth_test(request: web.Request) -> web.Response:
        refused = _refusal(workspace, request)
        if refused is not None:
            return refused
        return web.json_response(
            {
                "ok": True,
                "url": "https://simulated.slack.com/",
                "team": "Simulated",
                "user": "trading-loop",
                "team_id": "T00000001",
                "user_id": "U00000001",
                "bot_id": "B00000001",
                "is_enterprise_install": False,
            }
        )

    async def list_messages(request: web.Request) -> web.Response:
        return web.json_response(workspace.messages)

    async def script_faults(request: web.Request) -> web.Response:
        workspace.faults.extend(await request.json())
        return web.json_response({"faults": len(workspace.faults)})

    app.router.add_post("/api/chat.postMessage", post_message)
    app.router.add_post("/api/auth.test", auth_test)
    app.router.add_get("/_messages", list_messages)
    app.router.add_post("/_faults", script_faults)
    return app


def _refusal(workspace: Workspace, request: web.Request) -> web.Response | None:
    """The answer to a call that gets nowhere: a scripted fault, or a token that is not one."""
    if workspace.faults:
        return _faulty(workspace.faults.popleft())
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme != "Bearer" or not token:
        return _error("not_authed")
    return None if token.startswith(_TOKEN_PREFIXES) else _error("invalid_auth")


def _faulty(fault: Fault) -> web.Response:
    status = int(fault.get("status", 200))
    if status == 429:
        return web.json_response(
            {"ok": False, "error": "ratelimited"},
            status=429,
            headers={"Retry-After": str(fault["retry_after"])},
        )
    if status >= 500:
        return web.Response(text="upstream connect error", status=status)
    return _error(str(fault["error"]))


async def _arguments(request: web.Request) -> dict[str, Any]:
    """Slack takes JSON or a form; in a form ``blocks`` is JSON text."""
    if request.content_type == "application/json":
        return dict(await request.json())
    form: dict[str, Any] = dict(await request.post())
    if isinstance(form.get("blocks"), str):
        form["blocks"] = json.loads(form["blocks"])
    return form


def _problem(content: Mapping[str, Any]) -> str | None:
    """Slack's error code for arguments that it would not take."""
    if not content.get("channel"):
        return "channel_not_found"
    if not content.get("text") and not content.get("blocks"):
        return "no_text"
    if len(str(content.get("text", ""))) > _MAX_TEXT:
        return "msg_too_long"
    return None


def _error(code: str) -> web.Response:
    return web.json_response({"ok": False, "error": code})


def _channel_id(channel: str) -> str:
    """Slack answers with the channel's id, whatever name it was posted to."""
    return "C" + hashlib.sha256(channel.encode()).hexdigest()[:9].upper()
