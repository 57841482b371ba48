"""The dashboard over HTTP: who may see it, and in which form.

It takes no lease and claims no event, unlike every step that acts: it only reads, two readers
may look at once, and a page must not fill the log of runs.
"""

from __future__ import annotations

import hmac
import os
from typing import Any

from shared import config, instance
from shared.config import Config
from shared.errors import LedgerUnavailable
from shared.instance import open_ledger
from shared.run import Export
from shared.ui import dashboard, page

_REFRESH_SECONDS = {"simulated": 5, "paper": 60, "live": 60}
"""On Pipedream each load costs a credit, on this machine none."""


_UNREACHABLE = "The ledger cannot be reached. Trading stops until it can be.\n"


def respond(pd: Any) -> Export:
    """Answer the request with the page, or with its figures for ``?format=json``.

    401 without the token where one is configured, 403 for live trading without one, 503 while
    the ledger cannot be reached.
    """
    event = pd.steps["trigger"]["event"]
    # Tokens are the project's, so that a stranger is refused before the ledger is asked.
    response = _refusal(config.load(os.environ, pd.inputs), event) or _of_instance(pd, event)
    pd.respond(response)
    return {"status": response["status"]}


def _of_instance(pd: Any, event: dict[str, Any]) -> dict[str, Any]:
    try:
        opened = instance.opened(pd)
    except LedgerUnavailable:
        return _text(503, _UNREACHABLE)
    if isinstance(opened, str):
        return _text(410, f"{opened}\n")
    return answer(opened[0], event)


def answer(settings: Config, event: dict[str, Any]) -> dict[str, Any]:
    """Status, headers and body for an HTTP ``event``."""
    refusal = _refusal(settings, event)
    if refusal is not None:
        return refusal
    try:
        model = dashboard.gather(open_ledger(settings), settings)
    except LedgerUnavailable:
        return _text(503, _UNREACHABLE)
    if event["query"].get("format") == "json":
        headers = page.headers() | {"Content-Type": "application/json"}
        return {"status": 200, "headers": headers, "body": dashboard.as_json(model)}
    body = page.render(model, refresh_seconds=_REFRESH_SECONDS[settings.trading_mode])
    return {"status": 200, "headers": page.headers(), "body": body}


def _refusal(settings: Config, event: dict[str, Any]) -> dict[str, Any] | None:
    if settings.dashboard_token is None:
        if settings.trading_mode != "live":
            return None
        return _text(403, "DASHBOARD_TOKEN: expected to be set where trading is live.\n")
    given = event["headers"].get("authorization", "")
    scheme, _, token = given.partition(" ")
    if scheme.lower() != "bearer":
        token = event["query"].get("token", "")
    expected = settings.dashboard_token.get_secret_value()
    if hmac.compare_digest(token.strip().encode(), expected.encode()):
        return None
    refused = _text(401, "Expected the header Authorization: Bearer <DASHBOARD_TOKEN>.\n")
    refused["headers"]["WWW-Authenticate"] = "Bearer"
    return refused


def _text(status: int, body: str) -> dict[str, Any]:
    headers = page.headers() | {"Content-Type": "text/plain; charset=utf-8"}
    return {"status": status, "headers": headers, "body": body}
