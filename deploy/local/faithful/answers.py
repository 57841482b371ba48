"""What a step asks ``pd`` for is done here, by the same platform as in the fast mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deploy.local.pd import Pipedream


def answer(pd: Pipedream, message: dict[str, Any]) -> dict[str, Any]:
    """Do what a step asked for; an error is raised again where the step called."""
    arguments, options = list(message["arguments"]), message["options"]
    try:
        value = _target(pd, message["call"])(*arguments, **options)
    except Exception as error:  # noqa: BLE001 - it is raised again where the step called
        return {"error": str(error), "kind": type(error).__name__}
    return {"value": list(value) if hasattr(value, "__next__") else value}


def _target(pd: Pipedream, name: str) -> Callable[..., Any]:
    kind, _, rest = name.partition(".")
    if kind == "respond":
        return lambda response: pd.respond(_with_bytes(response))
    if kind == "store":
        store, _, method = rest.rpartition(".")
        found: Callable[..., Any] = getattr(pd.inputs[store], method)
        return found
    target: Callable[..., Any] = getattr(getattr(pd, kind), rest)
    return target


def _with_bytes(response: dict[str, Any]) -> dict[str, Any]:
    if not response.pop("$bytes", False):
        return response
    return response | {"body": response["body"].encode("latin-1")}
