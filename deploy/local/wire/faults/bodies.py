"""What each service says with a status that is no 200, and how an answer is spoilt.

Error bodies: Binance's error codes and limits pages (-1000, -1003, -1007, -1008), Kraken's list of
API errors, Coinbase's errors of REST calls, Slack's and the model vendors' error objects. Behind
every one of them stands a proxy: statuses without a body of their own get its HTML.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from deploy.local.wire.venues.base import dump

HTML = b"<html><head><title>502 Bad Gateway</title></head><body>Bad Gateway</body></html>"
_BINANCE_ADVICE = "Please use WebSocket Streams for live updates to avoid"
_BINANCE_WEIGHT = (
    "Too much request weight used; current limit is 6000 request weight per 1 MINUTE. "
    f"{_BINANCE_ADVICE} polling the API."
)
_BINANCE_TIMEOUT = (
    "Timeout waiting for response from backend server. "
    "Send status unknown; execution status unknown."
)
_BINANCE_OVERLOADED = (
    "Server is currently overloaded with other requests. Please try again in a few minutes."
)


def error_body(service: str, status: int, now_ms: int, retry_after_seconds: int) -> bytes:
    """The body that ``service`` sends with ``status``; a proxy's HTML where it has none."""
    family = "binance" if service.startswith("binance") else service
    build = _BODIES.get((family, status))
    return HTML if build is None else dump(build(now_ms, retry_after_seconds))


def _banned(now_ms: int, retry_after_seconds: int) -> Any:
    until_ms = now_ms + retry_after_seconds * 1000
    text = f"Way too much request weight used; IP banned until {until_ms}."
    return {"code": -1003, "msg": f"{text} {_BINANCE_ADVICE} bans."}


def _fixed(body: Any) -> Callable[[int, int], Any]:
    return lambda *_: body


def _coinbase(name: str, message: str) -> Callable[[int, int], Any]:
    return _fixed({"errors": [{"id": name, "message": message}]})


def _openai(kind: str, message: str) -> Callable[[int, int], Any]:
    return _fixed({"error": {"message": message, "type": kind, "param": None, "code": kind}})


def _anthropic(kind: str, message: str) -> Callable[[int, int], Any]:
    return _fixed({"type": "error", "error": {"type": kind, "message": message}})


_BODIES: dict[tuple[str, int], Callable[[int, int], Any]] = {
    ("binance", 418): _banned,
    ("binance", 429): _fixed({"code": -1003, "msg": _BINANCE_WEIGHT}),
    ("binance", 500): _fixed(
        {"code": -1000, "msg": "An unknown error occurred while processing the request."}
    ),
    ("binance", 503): _fixed({"code": -1008, "msg": _BINANCE_OVERLOADED}),
    ("binance", 504): _fixed({"code": -1007, "msg": _BINANCE_TIMEOUT}),
    ("coinbase", 429): _coinbase("rate_limit_exceeded", "Too many requests"),
    ("coinbase", 500): _coinbase("internal_server_error", "Internal server error"),
    ("kraken", 429): _fixed({"error": ["EAPI:Rate limit exceeded"]}),
    ("kraken", 500): _fixed({"error": ["EGeneral:Internal error"]}),
    ("kraken", 503): _fixed({"error": ["EService:Unavailable"]}),
    ("gate", 429): _fixed({"label": "TOO_MANY_REQUESTS", "message": "Request Rate Limit Exceeded"}),
    ("gate", 500): _fixed({"label": "INTERNAL", "message": "internal server error"}),
    ("openai", 429): _openai("rate_limit_exceeded", "Rate limit reached."),
    ("openai", 500): _openai("server_error", "The server had an error."),
    ("openai", 503): _openai("server_error", "The engine is currently overloaded."),
    ("anthropic", 429): _anthropic("rate_limit_error", "Number of requests exceeded."),
    ("anthropic", 500): _anthropic("api_error", "Internal server error"),
    ("anthropic", 529): _anthropic("overloaded_error", "Overloaded"),
    ("slack", 429): _fixed({"ok": False, "error": "ratelimited"}),
    ("slack", 500): _fixed({"ok": False, "error": "internal_error"}),
}


def doubled_rows(value: Any) -> Any:
    """Every list of objects with ids comes twice, as where pages overlap.

    An object keyed by ids, as Kraken sends its orders, can hold no row twice and stays as it is.
    """
    if isinstance(value, dict):
        return {key: doubled_rows(item) for key, item in value.items()}
    if not isinstance(value, list):
        return value
    rows = [doubled_rows(item) for item in value]
    return rows * 2 if rows and all(map(_has_id, rows)) else rows


def _has_id(row: Any) -> bool:
    return isinstance(row, dict) and any(key == "id" or key.endswith(("_id", "Id")) for key in row)


def without(value: Any, names: Collection[str]) -> Any:
    """``value`` without the keys of these names, however deep they lie."""
    if isinstance(value, dict):
        return {key: without(item, names) for key, item in value.items() if key not in names}
    if isinstance(value, list):
        return [without(item, names) for item in value]
    return value


def wrong_types(value: Any) -> Any:
    """``value`` with its keys, and at each leaf another type than it had."""
    if isinstance(value, dict):
        return {key: wrong_types(item) for key, item in value.items()}
    if isinstance(value, list):
        return {"items": len(value)}
    return [value] if isinstance(value, str) else "unexpected"
