"""Pipedream's REST API, as far as it is documented and needed. It carries no Python code.

The key of a user can do everything that the user can: it is sent in one header and stands in no
message, log or representation. Only calls that change nothing, or that say what a state shall be,
are sent again after a failure; one that creates something never is.

Source: https://pipedream.com/docs/rest-api
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from shared.errors import ConfigurationError, TradingLoopError

if TYPE_CHECKING:
    import requests

BASE_URL = "https://api.pipedream.com/v1"
_TIMEOUT_S = (5.0, 30.0)  # to connect, and between two bytes
_ATTEMPTS = 4
_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 60.0
_PAGE = 100
_TEMPORARY = frozenset({429, 500, 502, 503, 504})

JsonObject = dict[str, Any]


class ApiError(TradingLoopError):
    """Pipedream refused a call or could not be reached; the text says what can be done.

    ``status`` is that of the answer, ``None`` where there was none.
    """

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class DeployedStep:
    """A step of a deployed workflow. ``code_hash`` is the SHA-256 of its code, where told."""

    namespace: str
    code_hash: str | None


@dataclass(frozen=True)
class DeployedWorkflow:
    """A workflow as the API shows it."""

    workflow_id: str
    name: str | None
    active: bool | None
    steps: tuple[DeployedStep, ...]
    crons: tuple[str, ...]


class PipedreamApi:
    """The calls that a deployment needs.

    Args:
        key: a user's API key.
        org_id: the workspace, ``o_...``; an attribute, too.
        sleep: waits for seconds between attempts.
    """

    def __init__(
        self,
        key: SecretStr,
        org_id: str,
        *,
        base_url: str = BASE_URL,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not key.get_secret_value().strip():
            raise ConfigurationError("PIPEDREAM_API_KEY: expected a user's API key, was empty")
        if not org_id.startswith("o_"):
            raise ConfigurationError(f"PIPEDREAM_ORG_ID: expected o_..., was {org_id!r}")
        self._key = key
        self.org_id = org_id
        self._base_url = base_url.rstrip("/")
        self._sleep = sleep

    def me(self) -> JsonObject:
        """Whose key it is."""
        return _data(self._get("/users/me"), "/users/me")

    def workspace(self) -> JsonObject:
        """The workspace, with its quotas."""
        path = f"/workspaces/{self.org_id}"
        return _data(self._get(path), path)

    def workflow(self, workflow_id: str) -> DeployedWorkflow:
        """A deployed workflow: its steps with the hashes of their code, and its schedules."""
        path = f"/workflows/{workflow_id}"
        return _workflow(workflow_id, self._get(path, {"org_id": self.org_id}))

    def set_active(self, workflow_id: str, active: bool) -> None:  # noqa: FBT001 - the API's word
        """Switch a workflow on or off."""
        body = {"active": active, "org_id": self.org_id}
        self._call("PUT", f"/workflows/{workflow_id}", body=body, repeatable=True)

    def create_workflow(self, body: Mapping[str, Any]) -> str:
        """Make a workflow from a template; returns its id. Never sent twice.

        Raises:
            ApiError: refused; or no answer, in which case a workflow may have been made.
        """
        answer = self._call("POST", "/workflows", body=dict(body), repeatable=False)
        made = answer.get("data", answer)
        if not isinstance(made, dict) or not isinstance(made.get("id"), str):
            raise ApiError("POST /workflows: expected data.id in the answer, there is none")
        workflow_id: str = made["id"]
        return workflow_id

    def accounts(self, app: str | None = None) -> Iterator[JsonObject]:
        """The connected accounts of the workspace, without their secrets."""
        query = {} if app is None else {"query": app}
        return self._pages(f"/workspaces/{self.org_id}/accounts", query)

    def errors(self, workflow_id: str, limit: int = 20) -> list[JsonObject]:
        """The newest errors of a workflow; Pipedream keeps a hundred."""
        path = f"/workflows/{workflow_id}/$errors/event_summaries"
        answer = self._get(path, {"expand": "event", "limit": str(limit), "org_id": self.org_id})
        return list(answer.get("data") or [])

    def _pages(self, path: str, query: Mapping[str, str]) -> Iterator[JsonObject]:
        after: str | None = None
        while True:
            asked = (
                dict(query) | {"limit": str(_PAGE)} | ({} if after is None else {"after": after})
            )
            answer = self._get(path, asked)
            found = answer.get("data") or []
            yield from found
            page = answer.get("page_info") or {}
            following = page.get("end_cursor")
            if len(found) < _PAGE or not following or following == after:
                return
            after = following

    def _get(self, path: str, query: Mapping[str, str] | None = None) -> JsonObject:
        return self._call("GET", path, query=query, repeatable=True)

    def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: JsonObject | None = None,
        repeatable: bool,
    ) -> JsonObject:
        wait_s = _FIRST_WAIT_S
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._once(method, path, query, body)
            except _Temporary as failure:
                if not repeatable or attempt == _ATTEMPTS:
                    raise failure.error from None
                self._sleep(min(failure.retry_after_s or wait_s, _LONGEST_WAIT_S))
                wait_s *= 2
        raise AssertionError("the last attempt has returned or raised")

    def _once(
        self, method: str, path: str, query: Mapping[str, str] | None, body: JsonObject | None
    ) -> JsonObject:
        import requests

        try:
            answer = requests.request(
                method,
                self._base_url + path,
                params=dict(query or {}),
                json=body,
                headers={"Authorization": f"Bearer {self._key.get_secret_value()}"},
                timeout=_TIMEOUT_S,
                allow_redirects=False,  # the key goes to the named host and to no other
            )
        except requests.RequestException as error:
            raise _Temporary(
                ApiError(f"{method} {path}: {type(error).__name__}: is {self._base_url} reachable?")
            ) from None
        return _read(method, path, answer)


class _Temporary(Exception):
    """What may pass; ``error`` is what to tell if it does not."""

    def __init__(self, error: ApiError, retry_after_s: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.retry_after_s = retry_after_s


def _read(method: str, path: str, answer: requests.Response) -> JsonObject:
    if answer.status_code in _TEMPORARY:
        error = _refusal(method, path, answer)
        raise _Temporary(error, _seconds(answer.headers.get("Retry-After")))
    if not 200 <= answer.status_code < 300:
        raise _refusal(method, path, answer)
    if not answer.content:
        return {}
    try:
        value = answer.json()
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ApiError(f"{method} {path}: expected a JSON object, was {answer.content[:60]!r}")
    return value


def _refusal(method: str, path: str, answer: requests.Response) -> ApiError:
    said = " ".join(answer.text.split())[:200]
    hint = {
        400: "the request is not what this version of the API expects",
        401: "PIPEDREAM_API_KEY is wrong or was revoked: User Settings, API keys",
        403: "the key's user may not do this: ask an admin of the workspace",
        404: "no such thing for this key: check PIPEDREAM_ORG_ID and the ids of the workflows",
        429: "too many requests: try again in a minute",
    }.get(answer.status_code, "Pipedream's side: see https://status.pipedream.com")
    text = f"{method} {path}: HTTP {answer.status_code}: {hint}"
    return ApiError(f"{text} ({said})" if said else text, answer.status_code)


def _seconds(header: str | None) -> float | None:
    try:
        return max(0.0, float(header)) if header is not None else None
    except ValueError:  # a date: the usual wait does
        return None


def _data(answer: JsonObject, path: str) -> JsonObject:
    data = answer.get("data", answer)
    if not isinstance(data, dict):
        raise ApiError(f"GET {path}: data: expected an object, was {type(data).__name__}")
    return data


def _workflow(workflow_id: str, answer: JsonObject) -> DeployedWorkflow:
    found = _data(answer, f"/workflows/{workflow_id}")
    steps, triggers = found.get("steps"), found.get("triggers")
    if not isinstance(steps, list) or not isinstance(triggers, list):
        raise ApiError(f"GET /workflows/{workflow_id}: expected steps and triggers in the answer")
    return DeployedWorkflow(
        workflow_id=workflow_id,
        name=found.get("name"),
        active=found.get("active"),
        steps=tuple(_step(step) for step in steps if step.get("namespace")),
        crons=tuple(trigger["cron"] for trigger in triggers if trigger.get("cron")),
    )


def _step(step: JsonObject) -> DeployedStep:
    component = step.get("savedComponent") or {}
    return DeployedStep(step["namespace"], component.get("codeHash"))
