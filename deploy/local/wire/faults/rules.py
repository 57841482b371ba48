"""Fault rules that read as sentences: ``lose_answer("binance", "POST /api/v3/order")``.

``where`` is a method and a path, or a path alone for any method; a path that ends with ``*`` stands
for all that begin so. Every rule also takes ``times`` (once; ``None`` for without end), ``after``,
``probability`` and ``contains``; see ``schema.Rule``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

FaultRule = dict[str, Any]


def rule(kind: str, service: str, where: str, **fields: Any) -> FaultRule:
    """A rule of any kind."""
    method, space, path = where.partition(" ")
    if not space:
        method, path = "*", where
    return {"kind": kind, "service": service, "method": method, "path": path, **fields}


def lose_request(service: str, where: str, **fields: Any) -> FaultRule:
    """The connection closes before the service sees the request."""
    return rule("lose_request", service, where, **fields)


def lose_answer(service: str, where: str, **fields: Any) -> FaultRule:
    """The service acts; the connection is reset before the answer."""
    return rule("lose_answer", service, where, **fields)


def hang(service: str, where: str, **fields: Any) -> FaultRule:
    """The service sees nothing; silence until the client gives up or ``hold_ms`` have passed."""
    return rule("hang", service, where, **fields)


def hang_after(service: str, where: str, **fields: Any) -> FaultRule:
    """The service acts, then silence as with ``hang``."""
    return rule("hang_after", service, where, **fields)


def late(venue: str, where: str, delay_ms: int, **fields: Any) -> FaultRule:
    """The connection closes; the request arrives ``delay_ms`` of the market's time later."""
    return rule("late", venue, where, delay_ms=delay_ms, **fields)


def duplicate_request(
    service: str, where: str, *, answer: Literal["first", "second"] = "first", **fields: Any
) -> FaultRule:
    """The service gets the request twice; the client sees one of the answers."""
    return rule("duplicate_request", service, where, answer=answer, **fields)


def duplicate_rows(service: str, where: str, **fields: Any) -> FaultRule:
    """Every list of objects with ids comes doubled."""
    return rule("duplicate_rows", service, where, **fields)


def status(
    service: str,
    where: str,
    code: int,
    *,
    body: str | None = None,
    headers: Mapping[str, str] | None = None,
    acts: bool = False,
    **fields: Any,
) -> FaultRule:
    """The HTTP status ``code``, by default with the service's own body for it.

    Args:
        acts: whether the service does what it was asked before.
    """
    kind = "status_after" if acts else "status"
    return rule(kind, service, where, status=code, body=body, headers=dict(headers or {}), **fields)


def rate_limited(
    service: str, where: str, retry_after_seconds: int, *, banned: bool = False, **fields: Any
) -> FaultRule:
    """429, or 418 for a ban, with ``Retry-After``."""
    headers = {"Retry-After": str(retry_after_seconds)}
    return status(service, where, 418 if banned else 429, headers=headers, **fields)


def truncate(
    service: str, where: str, *, to_bytes: int | None = None, share: float | None = None,
    **fields: Any,
) -> FaultRule:  # fmt: skip
    """The service acts; its answer is cut to so many bytes or to a share of them."""
    return rule("truncate", service, where, bytes=to_bytes, share=share, **fields)


def malformed(
    service: str,
    where: str,
    form: Literal["html", "empty", "object", "wrong_types"],
    *,
    acts: bool = True,
    **fields: Any,
) -> FaultRule:
    """Status 200 with HTML, nothing, ``{}``, or the answer with every value of another type."""
    return rule("malformed", service, where, form=form, act=acts, **fields)


def redirect(
    service: str, where: str, *, location: str | None = None, acts: bool = False, **fields: Any
) -> FaultRule:
    """307 to ``location``, by default to the same address."""
    return rule("redirect", service, where, location=location, act=acts, **fields)


def slow(service: str, where: str, delay_ms: int, **fields: Any) -> FaultRule:
    """The service acts at once; its answer takes ``delay_ms`` of real time."""
    return rule("slow", service, where, delay_ms=delay_ms, **fields)


def drop_fields(service: str, where: str, names: Sequence[str], **fields: Any) -> FaultRule:
    """The keys of these names are missing from the answer, however deep they lie."""
    return rule("drop_fields", service, where, fields=list(names), **fields)


def stale(service: str, where: str, **fields: Any) -> FaultRule:
    """The last answer to the same question, without asking the service; see ``layer``."""
    return rule("stale", service, where, **fields)
