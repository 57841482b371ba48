"""What an answer to an order proves.

An order that was sent has three outcomes. Only what stands in ``rejections`` is a rejection;
anything else (time-outs, 5xx, malformed answers, words that nobody has listed) leaves the order
UNKNOWN. Exception classes decide nothing: ccxt maps Binance's "Duplicate order sent." to the same
class as a bad price, and an order that exists already is no rejection. So the answer itself is
read: it must be whole, of the venue's own shape, and hold no trace of an order.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from typing import Any

from shared.execution.venues.answers import Answer
from shared.execution.venues.rejections import DEFINITE_REJECTIONS

# Coinbase writes these where another field holds the reason.
_NO_REASON = frozenset({"", "UNKNOWN_FAILURE_REASON", "UNKNOWN_PREVIEW_FAILURE_REASON"})


def definite_rejection(venue: str, answer: Answer | None) -> str | None:
    """What a venue's answer to an order means, or ``None`` where it proves nothing.

    Every reason that the answer holds has to be a listed one.

    Args:
        venue: ``binance``, ``binanceus``, ``kraken`` or ``coinbase``.
        answer: as it came over the wire; ``None`` where none came whole.
    """
    if answer is None or answer.status >= 500:
        return None
    family = _family(venue)
    meanings = [_meaning(family, word) for word in _WORDS[family](answer)]
    if not meanings or None in meanings:
        return None
    return meanings[0]


def blames_the_clock(venue: str, answer: Answer) -> bool:
    """Whether the venue has found the time of a request wrong."""
    family = _family(venue)
    return any(
        word.startswith("-1021 ") or word == "EService:Deadline elapsed"
        for word in _WORDS[family](answer)
    )


def _family(venue: str) -> str:
    return "binance" if venue == "binanceus" else venue


def _meaning(family: str, word: str) -> str | None:
    for pattern, meaning in _patterns(family):
        if pattern.fullmatch(word):
            return meaning
    return None


@functools.cache
def _patterns(family: str) -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple(
        (re.compile(pattern, re.DOTALL), meaning)
        for entry_family, pattern, meaning in DEFINITE_REJECTIONS
        if entry_family == family
    )


def _body(answer: Answer) -> dict[str, Any]:
    try:
        body = json.loads(answer.body)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _binance_words(answer: Answer) -> list[str]:
    """``{"code": -2010, "msg": "..."}`` with a 4xx, as ``-2010 ...``."""
    body = _body(answer)
    code, message = body.get("code"), body.get("msg")
    if set(body) != {"code", "msg"} or not isinstance(code, int) or not isinstance(message, str):
        return []
    return [f"{code} {message}"] if 400 <= answer.status < 500 else []


def _kraken_words(answer: Answer) -> list[str]:
    """``{"error": ["EOrder:..."]}``, with no result."""
    body = _body(answer)
    errors = body.get("error")
    if not isinstance(errors, list) or body.get("result"):
        return []
    return [str(error) for error in errors if not str(error).startswith("W")]


def _coinbase_words(answer: Answer) -> list[str]:
    """The reasons of ``error_response``, or the ``error`` of a request that was not taken."""
    body = _body(answer)
    if not body and (answer.status, answer.body.strip()) == (401, "Unauthorized"):
        return ["HTTP 401 Unauthorized"]
    if body.get("success") is True or body.get("order_id") or body.get("success_response"):
        return []
    response = body.get("error_response")
    if body.get("success") is False and isinstance(response, dict):
        fields = ("error", "new_order_failure_reason", "preview_failure_reason")
        reasons = [str(response.get(field) or "") for field in fields]
        return [r.removeprefix("PREVIEW_") for r in reasons if r not in _NO_REASON]
    if "success" not in body and isinstance(body.get("error"), str):
        return [body["error"]] if 400 <= answer.status < 500 else []
    return []


_WORDS: dict[str, Callable[[Answer], list[str]]] = {
    "binance": _binance_words,
    "kraken": _kraken_words,
    "coinbase": _coinbase_words,
}
