"""What each kind of fault does to one call: whether the service acts, and what the client sees."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from deploy.local.wire.faults import bodies
from deploy.local.wire.faults.schema import Rule
from deploy.local.wire.venues.base import dump

# How often a silent connection is looked at: whether the client is still there.
_POLL_SECONDS = 0.01
_RETRY_AFTER_SECONDS = 60
# Closing a socket with this set sends RST instead of FIN.
_LINGER_ZERO = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Call:
    """One request that meets a fault.

    Attributes:
        act: lets the service act; what it answers. May be called again.
        now_ms: the market's time.
        released: whether silent connections are to end now.
    """

    rule: Rule
    request: web.Request
    act: Callable[[], Awaitable[web.Response]]
    now_ms: int
    released: Callable[[], bool]


async def lose_request(call: Call) -> web.Response:
    return close(call.request)


async def lose_answer(call: Call) -> web.Response:
    await call.act()
    transport = call.request.transport
    if transport is not None:
        transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO
        )
        transport.abort()
    return web.Response()


async def hang(call: Call) -> web.Response:
    await _wait(call, call.rule.parameters["hold_ms"])
    return close(call.request)


async def hang_after(call: Call) -> web.Response:
    await call.act()
    return await hang(call)


async def duplicate_request(call: Call) -> web.Response:
    first = await call.act()
    second = await call.act()
    return first if call.rule.parameters["answer"] == "first" else second


async def duplicate_rows(call: Call) -> web.Response:
    return _rewritten(await call.act(), bodies.doubled_rows)


async def drop_fields(call: Call) -> web.Response:
    names = frozenset(call.rule.parameters["fields"])
    return _rewritten(await call.act(), lambda value: bodies.without(value, names))


async def status(call: Call) -> web.Response:
    given = call.rule.parameters
    headers = given["headers"]
    if given["body"] is None:
        wait = headers.get("Retry-After", "")
        seconds = int(wait) if wait.isdecimal() else _RETRY_AFTER_SECONDS
        body = bodies.error_body(call.rule.service, given["status"], call.now_ms, seconds)
    else:
        body = given["body"].encode()
    return _response(body, given["status"], headers)


async def status_after(call: Call) -> web.Response:
    await call.act()
    return await status(call)


async def truncate(call: Call) -> web.Response:
    answer = await call.act()
    body, given = _body(answer), call.rule.parameters
    size = given["bytes"] if given["share"] is None else int(len(body) * given["share"])
    return web.Response(body=body[:size], status=answer.status, content_type=answer.content_type)


async def malformed(call: Call) -> web.Response:
    form = call.rule.parameters["form"]
    answer = await call.act() if call.rule.parameters["act"] else None
    if form == "wrong_types":
        assert answer is not None  # a rule that says otherwise is refused
        return _rewritten(answer, bodies.wrong_types)
    return _response({"html": bodies.HTML, "empty": b"", "object": b"{}"}[form], 200)


async def redirect(call: Call) -> web.Response:
    given, request = call.rule.parameters, call.request
    if given["act"]:
        await call.act()
    location = given["location"] or f"http://{request.host}{request.raw_path}"
    return web.Response(status=307, headers={"Location": location})


async def slow(call: Call) -> web.Response:
    answer = await call.act()
    await _wait(call, call.rule.parameters["delay_ms"])
    return answer


EFFECTS: dict[str, Callable[[Call], Awaitable[web.Response]]] = {
    "lose_request": lose_request,
    "lose_answer": lose_answer,
    "hang": hang,
    "hang_after": hang_after,
    "duplicate_request": duplicate_request,
    "duplicate_rows": duplicate_rows,
    "status": status,
    "status_after": status_after,
    "truncate": truncate,
    "malformed": malformed,
    "redirect": redirect,
    "slow": slow,
    "drop_fields": drop_fields,
}
"""All kinds but ``late`` and ``stale``, which need the layer's memory."""


def close(request: web.Request) -> web.Response:
    """End the connection without an answer; the returned one reaches nobody."""
    if request.transport is not None:
        request.transport.close()
    return web.Response()


async def _wait(call: Call, most_ms: int) -> None:
    """Wait so long in real time, or until the client has gone or the layer lets go."""
    ends = time.monotonic() + most_ms / 1000
    while (left := ends - time.monotonic()) > 0:
        transport = call.request.transport
        if call.released() or transport is None or transport.is_closing():
            return
        await asyncio.sleep(min(left, _POLL_SECONDS))


def _body(answer: web.Response) -> bytes:
    assert isinstance(answer.body, bytes | bytearray)  # no service streams or sends files
    return bytes(answer.body)


def _rewritten(answer: web.Response, change: Callable[[Any], Any]) -> web.Response:
    """``answer`` with its JSON changed; one that is no JSON stays as it is."""
    try:
        value = json.loads(_body(answer))
    except ValueError:
        return answer
    body = dump(change(value))
    return web.Response(body=body, status=answer.status, content_type=answer.content_type)


def _response(body: bytes, code: int, headers: dict[str, str] | None = None) -> web.Response:
    kind = "text/html" if body.startswith(b"<") else "application/json"
    return web.Response(body=body, status=code, headers=headers, content_type=kind)
