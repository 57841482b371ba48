"""HTTP workflows on localhost, called with a real client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests

from deploy.local import events
from deploy.local.events import Request
from deploy.local.http import BODY_LIMIT_BYTES, HttpWorkflows
from deploy.local.manifest import Project, Workflow
from deploy.local.platform import Platform, WorkflowResult
from shared.errors import ConfigurationError
from tests.local.conftest import AT_MS, MakeProject

_PAGE = (
    "def handler(pd):\n"
    "    event = pd.steps['trigger']['event']\n"
    "    pd.respond({'status': 200, 'headers': {'Content-Type': 'text/html'},\n"
    "                'body': '<p>' + event['query'].get('q', '') + '</p>'})\n"
)
_ECHO = (
    "def handler(pd):\n"
    "    event = pd.steps['trigger']['event']\n"
    "    if event['body'] == 'silent': return\n"
    "    if event['body'] == 'fail': raise ValueError('secret')\n"
    "    pd.respond({'status': 201, 'body': event})\n"
)


@pytest.fixture
def project(make_project: MakeProject) -> Project:
    return make_project(
        dashboard=[_PAGE],
        kill_switch=[_ECHO],
        triggers={
            "dashboard": {"type": "http", "method": "GET", "path": "/dashboard"},
            "kill_switch": {"type": "http", "method": "POST", "path": "/kill_switch"},
        },
    )


@pytest.fixture
def server(project: Project) -> Iterator[HttpWorkflows]:
    platform = Platform(project, {})

    def serve(workflow: Workflow, request: Request) -> WorkflowResult:
        context = events.context("test", workflow, AT_MS, key="1")
        return platform.run_workflow(workflow, events.http_event(request), context)

    with HttpWorkflows(project, serve, port=0) as started:
        yield started


def test_page(server: HttpWorkflows) -> None:
    answer = requests.get(f"{server.url}/dashboard?q=a%20b", timeout=5)
    assert (answer.status_code, answer.text) == (200, "<p>a b</p>")
    assert answer.headers["Content-Type"] == "text/html"


def test_root_leads_to_the_dashboard(server: HttpWorkflows) -> None:
    answer = requests.get(server.url, timeout=5)
    assert answer.url.endswith("/dashboard") and answer.status_code == 200


def test_event_has_the_documented_shape(server: HttpWorkflows) -> None:
    answer = requests.post(
        f"{server.url}/kill_switch?a=1", json={"reason": "x"}, headers={"X-Token": "t"}, timeout=5
    )
    event = answer.json()
    assert answer.status_code == 201
    assert set(event) == {"body", "client_ip", "headers", "method", "path", "query", "url"}
    assert event["body"] == {"reason": "x"}
    assert event["headers"]["x-token"] == "t"
    assert event["query"] == {"a": "1"}
    assert event["path"] == "/kill_switch" and event["method"] == "POST"
    assert event["url"] == f"{server.url}/kill_switch?a=1"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/kill_switch", 405),
        ("POST", "/dashboard", 405),
        ("DELETE", "/dashboard", 405),
        ("HEAD", "/nothing", 404),
    ],
)
def test_refused(server: HttpWorkflows, method: str, path: str, status: int) -> None:
    answer = requests.request(method, server.url + path, timeout=5)
    assert answer.status_code == status
    if status == 405:
        assert answer.headers["Allow"] in ("GET", "POST")


def test_body_limit(server: HttpWorkflows) -> None:
    url = f"{server.url}/kill_switch"
    assert requests.post(url, data=b"x" * BODY_LIMIT_BYTES, timeout=5).status_code == 201
    answer = requests.post(
        url, headers={"Content-Length": str(BODY_LIMIT_BYTES + 1)}, data=b"", timeout=5
    )
    assert answer.status_code == 413


def test_no_respond_is_400_and_a_failure_500_without_its_text(server: HttpWorkflows) -> None:
    url = f"{server.url}/kill_switch"
    assert requests.post(url, data="silent", timeout=5).status_code == 400
    failed = requests.post(url, data="fail", timeout=5)
    assert failed.status_code == 500 and "secret" not in failed.text


def test_a_foreign_name_for_this_machine_is_refused(server: HttpWorkflows) -> None:
    answer = requests.get(f"{server.url}/dashboard", headers={"Host": "evil.example:80"}, timeout=5)
    assert answer.status_code == 403


def test_port_in_use(server: HttpWorkflows, project: Project) -> None:
    port = int(server.url.rpartition(":")[2])
    with pytest.raises(ConfigurationError, match=f"port {port}: .*--port"):
        HttpWorkflows(project, lambda workflow, request: None, port=port)  # type: ignore[arg-type,return-value]
