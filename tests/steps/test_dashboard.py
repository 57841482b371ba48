"""The dashboard's step, run by the local Pipedream from its workflow file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.local import events, manifest
from deploy.local.pd import Response
from deploy.local.platform import Platform
from deploy.local.results import WorkflowResult
from shared.ledger.connection import Ledger

PROJECT = Path(__file__).resolve().parents[2]
TOKEN = "a-token-for-this-test"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, database_url: str) -> pytest.MonkeyPatch:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("POD", "test")
    return monkeypatch


def get(target: str = "/dashboard", **headers: str) -> WorkflowResult:
    project = manifest.load(PROJECT)
    workflow = next(w for w in project.workflows if w.name == "dashboard")
    request = events.Request("GET", target, "localhost", "127.0.0.1", headers, b"")
    context = events.context("test", workflow, 1_746_700_000_000, key="request")
    return Platform(project, {}).run_workflow(workflow, events.http_event(request), context)


def answer(result: WorkflowResult) -> Response:
    assert result.failed_step is None, result.failed_step
    assert result.response is not None
    return result.response


def test_the_page_is_answered_without_a_run_or_a_lease(environment: Any, ledger: Ledger) -> None:
    response = answer(get())
    assert response.status == 200
    assert response.body.startswith("<!doctype html>")
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert ledger.query("SELECT 1 FROM runs") == ledger.query("SELECT 1 FROM leases") == []


def test_the_figures_as_json(environment: Any) -> None:
    response = answer(get("/dashboard?format=json"))
    assert response.headers["Content-Type"] == "application/json"
    model = json.loads(json.dumps(response.body))
    assert model["pod"] == "test"
    assert model["state"]["state"] == "ACTIVE"
    assert model["equity"]["equity_quote"] is None


@pytest.mark.parametrize(
    ("target", "headers", "status"),
    [
        ("/dashboard", {}, 401),
        ("/dashboard", {"Authorization": "Bearer wrong"}, 401),
        ("/dashboard", {"Authorization": f"Basic {TOKEN}"}, 401),
        ("/dashboard", {"Authorization": "Bearer"}, 401),
        ("/dashboard?token=", {}, 401),
        ("/dashboard?token=\u00e4", {}, 401),
        ("/dashboard", {"Authorization": f"Bearer {TOKEN}"}, 200),
        ("/dashboard", {"AUTHORIZATION": f"bearer {TOKEN}"}, 200),
        (f"/dashboard?token={TOKEN}", {}, 200),
        (f"/dashboard?format=json&token={TOKEN}", {}, 200),
    ],
)
def test_a_configured_token_is_asked_for(
    environment: Any, target: str, headers: dict[str, str], status: int
) -> None:
    environment.setenv("DASHBOARD_TOKEN", TOKEN)
    response = answer(get(target, **headers))
    assert response.status == status
    if status == 401:
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert TOKEN not in str(response.body)


def test_live_trading_is_not_shown_to_everybody(environment: Any) -> None:
    environment.setenv("ENABLE_LIVE_TRADING", "true")
    assert answer(get()).status == 403
    environment.setenv("DASHBOARD_TOKEN", TOKEN)
    assert answer(get(Authorization=f"Bearer {TOKEN}")).status == 200


def test_an_unreachable_ledger_is_said_and_no_address_is_told(environment: Any) -> None:
    environment.setenv("DATABASE_URL", "postgresql://user:hidden@127.0.0.1:1/none")
    response = answer(get())
    assert response.status == 503
    assert "hidden" not in response.body
    assert "127.0.0.1" not in response.body


@pytest.mark.parametrize(("wire", "seconds"), [("http://127.0.0.1:1", 5), (None, 60)])
def test_it_reloads_often_only_where_a_load_costs_nothing(
    environment: Any, wire: str | None, seconds: int
) -> None:
    if wire:
        environment.setenv("SIMULATED_WIRE_URL", wire)
    assert f'http-equiv="refresh" content="{seconds}"' in answer(get()).body
