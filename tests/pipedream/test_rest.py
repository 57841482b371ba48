"""The REST client over HTTP: what it repeats, what it never repeats, and what it tells."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from deploy.local import manifest
from deploy.local.wire import pipedream
from deploy.local.wire.pipedream import KEY, ORG_ID, PROJECT_ID, StandIn, template_id
from deploy.pipedream import template
from deploy.pipedream.rest import ApiError, PipedreamApi
from deploy.pipedream.template import Ids
from shared.errors import ConfigurationError


@pytest.fixture
def stand_in(project_folder: Path, tmp_path: Path) -> StandIn:
    folder = tmp_path / "standin"
    folder.mkdir()
    return pipedream.make(manifest.load(project_folder), folder)


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def api(stand_in: StandIn, waits: list[float]) -> Iterator[PipedreamApi]:
    with pipedream.serving(stand_in) as url:
        yield PipedreamApi(SecretStr(KEY), ORG_ID, base_url=url, sleep=waits.append)


def only(stand_in: StandIn) -> str:
    (workflow_id,) = stand_in.workflow_ids.values()
    return workflow_id


def test_a_workflow_is_read_with_hashes_and_schedule(api: PipedreamApi, stand_in: StandIn) -> None:
    found = api.workflow(only(stand_in))
    assert [step.namespace for step in found.steps] == ["first", "second"]
    assert all(len(step.code_hash or "") == 64 for step in found.steps)
    assert found.crons == ("* * * * *",)
    assert found.active is False
    api.set_active(only(stand_in), True)
    assert api.workflow(only(stand_in)).active is True


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_reading_and_switching_are_repeated(
    api: PipedreamApi, stand_in: StandIn, waits: list[float], status: int
) -> None:
    stand_in.failures = {("GET", "/v1/users"): [status, status], ("PUT", "/v1/w"): [status]}
    assert api.me()["username"] == "stand-in"
    api.set_active(only(stand_in), True)
    assert waits == [1.0, 1.0 if status == 429 else 2.0, 1.0]


def test_in_the_end_the_refusal_is_told(
    api: PipedreamApi, stand_in: StandIn, waits: list[float]
) -> None:
    stand_in.failures = {("GET", "/v1/users"): [500] * 9}
    with pytest.raises(ApiError, match=r"GET /users/me: HTTP 500: .*status\.pipedream") as caught:
        api.me()
    assert caught.value.status == 500
    assert waits == [1.0, 2.0, 4.0]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_creating_is_never_repeated(
    api: PipedreamApi, stand_in: StandIn, waits: list[float], status: int
) -> None:
    stand_in.failures = {("POST", "/v1/workflows"): [status]}
    one = next(iter(stand_in.templates.values()))
    ids = Ids(ORG_ID, PROJECT_ID, template_id(one.name), {"postgresql": "apn_1"})
    with pytest.raises(ApiError, match=f"HTTP {status}"):
        api.create_workflow(template.body(one, ids))
    assert stand_in.calls["POST /v1/workflows"] == 1
    assert waits == []
    assert api.create_workflow(template.body(one, ids, name="a-copy")) == "p_made1"


def test_a_wrong_key_is_told_and_never_shown(stand_in: StandIn) -> None:
    with pipedream.serving(stand_in) as url:
        api = PipedreamApi(SecretStr("secret-canary"), ORG_ID, base_url=url)
        with pytest.raises(ApiError, match="PIPEDREAM_API_KEY is wrong or was revoked") as caught:
            api.me()
    assert "canary" not in f"{caught.value!r} {caught.value.__context__!r} {api!r} {vars(api)!r}"


def test_an_unknown_workflow_says_what_to_look_at(api: PipedreamApi) -> None:
    with pytest.raises(ApiError, match="HTTP 404: .*PIPEDREAM_ORG_ID"):
        api.workflow("p_unknown")


def test_nobody_listening_says_where(waits: list[float]) -> None:
    api = PipedreamApi(SecretStr(KEY), ORG_ID, base_url="http://127.0.0.1:9/v1", sleep=waits.append)
    with pytest.raises(ApiError, match=r"ConnectionError: is http://127.0.0.1:9/v1 reachable"):
        api.me()
    assert len(waits) == 3


def test_all_pages_are_read(api: PipedreamApi, stand_in: StandIn) -> None:
    stand_in.accounts = [{"id": f"apn_{n}", "name": "slack"} for n in range(250)]
    assert [account["id"] for account in api.accounts()] == [f"apn_{n}" for n in range(250)]


@pytest.mark.parametrize(
    ("key", "org_id", "message"),
    [
        ("  ", ORG_ID, "PIPEDREAM_API_KEY: expected"),
        (KEY, "workspace", "PIPEDREAM_ORG_ID: expected o_..., was 'workspace'"),
    ],
)
def test_what_cannot_be_right_is_named(key: str, org_id: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        PipedreamApi(SecretStr(key), org_id)
