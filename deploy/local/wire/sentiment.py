"""The fear-and-greed index as alternative.me publishes it (GET /fng/)."""

from __future__ import annotations

import json
from typing import Protocol

_CLASSES = (
    (24, "Extreme Fear"),
    (49, "Fear"),
    (50, "Neutral"),
    (74, "Greed"),
    (100, "Extreme Greed"),
)
_DAY_SECONDS = 86_400


class SentimentSource(Protocol):
    """The part of a market source that knows the mood of the market."""

    def fear_greed(self, at_ms: int) -> tuple[int, int] | None: ...


def classification(value: int) -> str:
    """The publisher's word for a value from 0 to 100."""
    return next(name for most, name in _CLASSES if value <= most)


def fear_greed_answer(source: SentimentSource, now_ms: int) -> tuple[int, bytes]:
    """HTTP status and body at ``now_ms``; 503 where the source knows no index."""
    known = source.fear_greed(now_ms)
    if known is None:
        return 503, b'{"metadata":{"error":"no data"}}'
    value, at_ms = known
    next_update = max(0, at_ms // 1000 + _DAY_SECONDS - now_ms // 1000)
    row = {
        "value": str(value),
        "value_classification": classification(value),
        "timestamp": str(at_ms // 1000),
        "time_until_update": str(next_update),
    }
    body = {"name": "Fear and Greed Index", "data": [row], "metadata": {"error": None}}
    return 200, json.dumps(body).encode()
