"""Workflows called over HTTP: once, with the token, to one address."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pydantic import SecretStr

from deploy.cli.main import main
from deploy.pipedream.invoking import invoke
from deploy.pipedream.rest import ApiError
from shared.errors import ConfigurationError

TOKEN = SecretStr("canary-token-of-the-switch")
HALTED = {"state": "HALTED", "changed": True}


class Trigger:
    """A workflow's HTTP trigger: answers as told, and keeps what it was sent."""

    def __init__(self, status: int, body: Any, headers: dict[str, str]) -> None:
        self.answer, self.requests = (status, body, headers), []
        handler = type("Handler", (_Handler,), {"trigger": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    requests: list[tuple[dict[str, str], Any]]


class _Handler(BaseHTTPRequestHandler):
    trigger: Trigger

    def do_POST(self) -> None:  # noqa: N802 - the name is the library's
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.trigger.requests.append(
            ({k.lower(): v for k, v in self.headers.items()}, json.loads(body))
        )
        status, answer, headers = self.trigger.answer
        text = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(text))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Nothing: the tests look at ``requests``."""


@pytest.fixture
def trigger() -> Iterator[Callable[..., Trigger]]:
    made: list[Trigger] = []

    def make(status: int = 200, body: Any = HALTED, **headers: str) -> Trigger:
        made.append(Trigger(status, body, headers))
        return made[-1]

    yield make
    for one in made:
        one.server.shutdown()
        one.server.server_close()


def test_the_body_and_the_token_arrive_once(trigger: Callable[..., Trigger]) -> None:
    switch = trigger()
    answered = invoke(switch.url, TOKEN, {"action": "halt", "reason": "a drill"})
    assert (answered.status, answered.body) == (200, HALTED)
    ((headers, body),) = switch.requests
    assert body == {"action": "halt", "reason": "a drill"}
    assert headers["authorization"] == f"Bearer {TOKEN.get_secret_value()}"


@pytest.mark.parametrize("status", [401, 408, 409, 429, 500, 503])
def test_a_refusal_is_told_and_never_sent_again(
    trigger: Callable[..., Trigger], status: int
) -> None:
    switch = trigger(status, {"error": "no"}, **{"Retry-After": "0"})
    with pytest.raises(ApiError, match=f"HTTP {status}: .*no") as refused:
        invoke(switch.url, TOKEN, {})
    assert refused.value.status == status
    assert len(switch.requests) == 1
    assert TOKEN.get_secret_value() not in str(refused.value)


def test_the_token_follows_no_redirect(trigger: Callable[..., Trigger]) -> None:
    elsewhere = trigger()
    switch = trigger(307, "", Location=elsewhere.url)
    with pytest.raises(ApiError, match="HTTP 307"):
        invoke(switch.url, TOKEN, {})
    assert elsewhere.requests == []


def test_silence_leaves_it_open_whether_it_arrived(trigger: Callable[..., Trigger]) -> None:
    switch = trigger()
    switch.server.shutdown()
    switch.server.server_close()
    with pytest.raises(ApiError, match="it is not known whether the request arrived") as silent:
        invoke(switch.url, TOKEN, {})
    assert silent.value.status is None


@pytest.mark.parametrize(
    "url", ["http://elsewhere.example/", "ftp://x/", "eo123.m.pipedream.net", "https://u:p@x/", ""]
)
def test_the_token_goes_over_https_alone(url: str) -> None:
    with pytest.raises(ConfigurationError, match="url: expected the https address"):
        invoke(url, TOKEN, {})


def test_halt_by_the_deployed_switch(
    trigger: Callable[..., Trigger],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    switch = trigger()
    monkeypatch.setenv("KILL_SWITCH_TOKEN", TOKEN.get_secret_value())
    assert main(["halt", "--reason", "a drill", "--url", switch.url]) == 0
    assert "HALTED" in capsys.readouterr().out
    assert switch.requests[0][1] == {"action": "halt", "reason": "a drill"}
    monkeypatch.delenv("KILL_SWITCH_TOKEN")
    assert main(["halt", "--reason", "a drill", "--url", switch.url]) == 2
    assert "KILL_SWITCH_TOKEN: expected to be set" in capsys.readouterr().err
