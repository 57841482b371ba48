"""A server on this machine that writes down each request that reaches its socket."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

# What changes with each request: times, nonces and signatures.
VARIABLE = {"timestamp", "signature", "nonce", "recvWindow"}


@dataclass(frozen=True)
class Captured:
    """A request as it came in: the path below the venue's prefix, and all its parameters."""

    method: str
    path: str
    fields: dict[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict, compare=False)

    def steady(self) -> dict[str, Any]:
        return {name: value for name, value in self.fields.items() if name not in VARIABLE}


@dataclass
class Capture:
    """The requests received, oldest first; ``fault``, where there is one, answers them.

    ``answers`` are the bodies by method and path, such as ``POST /binance/api/v3/order``.
    """

    answers: Mapping[str, Any]
    base_url: str = ""
    requests: list[Captured] = field(default_factory=list)
    fault: Callable[[BaseHTTPRequestHandler], None] | None = None

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0)).decode()
        address = urlsplit(handler.path)
        fields: dict[str, Any] = dict(parse_qsl(address.query))
        fields |= json.loads(body) if body.startswith("{") else dict(parse_qsl(body))
        path = "/" + address.path.split("/", 2)[2]
        self.requests.append(Captured(handler.command, path, fields, dict(handler.headers)))
        if self.fault is not None:
            self.fault(handler)
            return
        reply(handler, 200, self.answers[f"{handler.command} {address.path}"])


def reply(handler: BaseHTTPRequestHandler, status: int, answer: Any, **headers: str) -> None:
    body = json.dumps(answer).encode()
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection without a word, after the request was read."""
    handler.close_connection = True


def reply_part(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"result"')
    handler.close_connection = True


FAULTS: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {
    "500": lambda handler: reply(handler, 500, {}),
    "502": lambda handler: reply(handler, 502, {}),
    "503 with Retry-After": lambda handler: reply(handler, 503, {}, Retry_After="0"),
    "429 with Retry-After": lambda handler: reply(handler, 429, {}, Retry_After="0"),
    "307 to itself": lambda handler: reply(handler, 307, {}, Location=handler.path),
    "an answer cut short": reply_part,
    "no answer": hang_up,
}


@contextmanager
def listen(answers: Mapping[str, Any]) -> Iterator[Capture]:
    """A server on a port of its own, with connections that are kept, as those of venues are."""
    captured = Capture(answers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            captured.handle(self)

        def do_POST(self) -> None:
            captured.handle(self)

        def do_DELETE(self) -> None:
            captured.handle(self)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    captured.base_url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield captured
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
