"""HTTP workflows on localhost, served from a thread of this process."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from deploy.local.events import Request, http_event
from deploy.local.flow import LINK_PREFIX, Ending, PausedRuns
from deploy.local.manifest import HttpTrigger, Project, Workflow
from deploy.local.pd import Response
from deploy.local.platform import WorkflowResult
from deploy.local.processes import LOOPBACK
from shared.errors import ConfigurationError
from shared.ledger import connection

BODY_LIMIT_BYTES = 512 * 1024
DEFAULT_PORT = 8080
_LOCAL_NAMES = ("localhost", "127.0.0.1")

Serve = Callable[[Workflow, Request], WorkflowResult]


class HttpWorkflows:
    """Serves the HTTP workflows of a project; a context manager.

    Args:
        serve: runs a workflow for a request.
        port: the port of the loopback interface; 0 takes a free one.
        paused: runs whose links, ``resume_url`` and ``cancel_url``, are served as well.
    """

    def __init__(
        self,
        project: Project,
        serve: Serve,
        port: int = DEFAULT_PORT,
        *,
        paused: PausedRuns[Any] | None = None,
    ) -> None:
        routes = {
            (workflow.trigger.method, workflow.trigger.path): workflow
            for workflow in project.workflows
            if isinstance(workflow.trigger, HttpTrigger)
        }
        values = {"routes": routes, "serve": staticmethod(serve), "paused": paused}
        handler = type("Handler", (_Handler,), values)
        try:
            self._server = ThreadingHTTPServer((LOOPBACK, port), handler)
        except OSError as error:
            raise ConfigurationError(
                f"port {port}: expected a free port of {LOOPBACK}: {error.strerror}; "
                "choose another one with --port"
            ) from None
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._running = False
        self._paused = paused

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        return f"http://{LOOPBACK}:{self._server.server_address[1]}"

    def start(self) -> None:
        self._thread.start()
        self._running = True
        if self._paused is not None:
            self._paused.base_url = self.url

    def stop(self) -> None:
        """Stop serving and give the port back. May be called twice."""
        if self._running:
            self._server.shutdown()
            self._thread.join()
            self._running = False
            if self._paused is not None:
                self._paused.base_url = None
        self._server.server_close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class _Refused(Exception):
    """A request that no workflow sees."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.response = Response(status, f"{message}\n", headers or {})


class _Handler(BaseHTTPRequestHandler):
    """Routes one request to its workflow. Class attributes are set by ``HttpWorkflows``."""

    routes: dict[tuple[str, str], Workflow]
    serve: Serve
    paused: PausedRuns[Any] | None
    protocol_version = "HTTP/1.1"
    server_version = "trading-loop"
    sys_version = ""
    disable_nagle_algorithm = True  # otherwise headers and body wait for each other, 40 ms
    timeout = 30

    def do_GET(self) -> None:  # noqa: N802 - the name is the library's
        self._answer()

    do_POST = do_GET  # noqa: N815
    do_PUT = do_GET  # noqa: N815
    do_PATCH = do_GET  # noqa: N815
    do_DELETE = do_GET  # noqa: N815
    do_HEAD = do_GET  # noqa: N815

    def _answer(self) -> None:
        go_on: Callable[[], None] | None = None
        try:
            response, go_on = self._response()
        except _Refused as refused:
            response = refused.response
        finally:
            connection.close_all()  # this thread's; it serves this browser connection only
        self._send(response)
        if go_on is not None:
            self._go_on(go_on)

    def _response(self) -> tuple[Response, Callable[[], None] | None]:
        """The answer, and what remains to be done when the client has it."""
        self._refuse_foreign_names()
        path = self.path.partition("?")[0]
        if path == "/" and self.command == "GET" and ("GET", "/dashboard") in self.routes:
            return Response(302, "", {"Location": "/dashboard"}), None
        if path.startswith(LINK_PREFIX):
            return self._end_pause(path)
        workflow = self._route(path)
        return _response_of(self.serve(workflow, self._request())), None

    def _end_pause(self, path: str) -> tuple[Response, Callable[[], None] | None]:
        """``resume_url`` or ``cancel_url``: any method will do."""
        token, _, action = path.removeprefix(LINK_PREFIX).partition("/")
        go_on = None
        if self.paused is not None and action in ("resume", "cancel"):
            event = http_event(self._request())
            ending = Ending("resumed", event) if action == "resume" else Ending("cancelled")
            go_on = self.paused.answer(token, ending)
        if go_on is None:
            raise self._refused(404, "no run waits for this link")
        self.close_connection = True  # this thread is busy with the run from now on
        return Response(200, f"{action}: accepted\n", {}), go_on

    def _go_on(self, go_on: Callable[[], None]) -> None:
        self.wfile.flush()
        try:
            go_on()
        finally:
            connection.close_all()

    def _request(self) -> Request:
        return Request(
            method=self.command,
            target=self.path,
            host=self.headers.get("Host", LOOPBACK),
            client_ip=str(self.client_address[0]),
            headers=dict(self.headers.items()),
            body=self._body(),
        )

    def _refuse_foreign_names(self) -> None:
        """A page of another site must not reach this server by a name that it points here."""
        name = self.headers.get("Host", LOOPBACK).rpartition(":")[0] or self.headers.get("Host", "")
        if name not in _LOCAL_NAMES:
            raise self._refused(403, f"Host: expected one of {', '.join(_LOCAL_NAMES)}")

    def _route(self, path: str) -> Workflow:
        workflow = self.routes.get((self.command, path))
        if workflow is not None:
            return workflow
        allowed = sorted(method for method, known in self.routes if known == path)
        if allowed:
            raise self._refused(
                405, f"{path}: expected {', '.join(allowed)}", {"Allow": ", ".join(allowed)}
            )
        raise self._refused(404, f"{path}: no workflow is served here")

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding"):
            raise self._refused(411, "expected a Content-Length")
        text = self.headers.get("Content-Length", "0")
        if not (text.isascii() and text.isdigit()):
            raise self._refused(400, f"Content-Length: expected a number, was {text!r}")
        if int(text) > BODY_LIMIT_BYTES:
            raise self._refused(413, f"body: expected at most {BODY_LIMIT_BYTES} bytes, was {text}")
        return self.rfile.read(int(text))

    def _refused(
        self, status: int, message: str, headers: dict[str, str] | None = None
    ) -> _Refused:
        self.close_connection = True  # the body, if there is one, has not been read
        return _Refused(status, message, headers)

    def _send(self, response: Response) -> None:
        body, kind = _encoded(response.body)
        headers = {"Content-Type": kind, "Cache-Control": "no-store"} | response.headers
        self.send_response(response.status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close" if self.close_connection else "keep-alive")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Requests are not printed: the terminal shows the progress of the loop."""


def _response_of(result: WorkflowResult) -> Response:
    failed = result.failed_step
    if result.response is not None:
        return result.response
    if failed is not None:
        return Response(500, f"{result.workflow}: the step {failed.namespace} failed\n", {})
    if result.pause is not None:
        return Response(400, "$.respond() not called for this invocation\n", {})
    return Response(400, "No pd.respond called in workflow\n", {})


def _encoded(body: Any) -> tuple[bytes, str]:
    if isinstance(body, bytes):
        return body, "application/octet-stream"
    if isinstance(body, str):
        return body.encode(), "text/plain; charset=utf-8"
    return json.dumps(body).encode(), "application/json"
