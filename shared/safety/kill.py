"""The switch that a person pulls from outside. It can only reduce risk."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Any

from shared import clock
from shared.config import Config
from shared.ledger import alerts, state
from shared.ledger.connection import Ledger

SET_BY = "kill_switch"
_ACTIONS: dict[str, state.State] = {"halt": "HALTED", "reduce": "REDUCING"}
_REASON_MAX = 500


@dataclass(frozen=True)
class Response:
    """What the HTTP caller gets."""

    status: int
    body: dict[str, Any]


def authorise(config: Config, headers: dict[str, Any]) -> Response | None:
    """``None`` if the bearer token is right, else the refusal.

    Without ``KILL_SWITCH_TOKEN`` everybody is refused. The comparison takes the same time
    wherever the first wrong character is.
    """
    if config.kill_switch_token is None:
        return Response(403, {"error": "KILL_SWITCH_TOKEN: expected to be configured, was not set"})
    given = next((v for k, v in headers.items() if k.lower() == "authorization"), None)
    scheme, _, token = str(given or "").partition(" ")
    expected = config.kill_switch_token.get_secret_value()
    matches = hmac.compare_digest(token.strip().encode(), expected.encode())
    if scheme.lower() != "bearer" or not matches:
        return Response(401, {"error": "Authorization: expected Bearer and the right token"})
    return None


def pull(ledger: Ledger, request: Any) -> Response:
    """Tighten the trading state as ``request`` asks: ``{"action", "reason"}``.

    The state stays until a person re-arms it by another way. Asking for less than what is in
    force already changes nothing.
    """
    refusal = _malformed(request)
    if refusal is not None:
        return Response(400, {"error": refusal})
    action, reason = request["action"], request["reason"].strip()
    with ledger.transaction():
        changed = state.tighten(
            ledger, _ACTIONS[action], reason=reason, set_by=SET_BY, rearm_required=True
        )
        present = state.read(ledger)
        if changed:
            alerts.put(
                ledger,
                f"kill:{action}:{clock.iso(clock.now())}",
                "CRITICAL",
                "Kill switch pulled",
                f"State: {present.state}\nReason: {reason}\nA person has to re-arm.",
            )
    return Response(
        200,
        {
            "state": present.state,
            "changed": changed,
            "since": clock.iso(present.since),
            "rearm_required": present.rearm_required,
        },
    )


def _malformed(request: Any) -> str | None:
    """What is wrong with the request, naming field, value and what was expected."""
    if not isinstance(request, dict):
        return f"body: expected a JSON object, was {type(request).__name__}"
    unknown = sorted(set(request) - {"action", "reason"})
    if unknown:
        return f"{unknown[0]}: expected action and reason only"
    action, reason = request.get("action"), request.get("reason")
    if not isinstance(action, str) or action not in _ACTIONS:
        return f"action: expected one of {', '.join(_ACTIONS)}, was {action!r}"
    if not isinstance(reason, str) or not 0 < len(reason.strip()) <= _REASON_MAX:
        return f"reason: expected a text of 1 to {_REASON_MAX} characters, was {reason!r:.60}"
    return None
