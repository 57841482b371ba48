"""The last answer that a venue gave to this thread, as it came over the wire.

ccxt keeps the last body and headers of a client, but not the status, and one client may serve two
threads. It calls ``on_rest_response`` with all of them before it judges the answer.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """Status, headers and body; there is none where the body did not arrive whole."""

    status: int
    headers: Mapping[str, str]
    body: str


class AnswerRecorder(threading.local):
    """In place of a client's ``on_rest_response``; ``last`` is this thread's last answer."""

    last: Answer | None = None

    def __call__(
        self,
        code: int,
        reason: str,
        url: str,
        method: str,
        response_headers: Mapping[str, str],
        response_body: str,
        request_headers: Any,
        request_body: Any,
    ) -> str:
        self.last = Answer(code, response_headers, response_body)
        return response_body


def recorder_of(client: Any) -> AnswerRecorder:
    """The recorder of a ccxt client, put in place where there is none."""
    known = getattr(client, "on_rest_response", None)
    if isinstance(known, AnswerRecorder):
        return known
    recorder = AnswerRecorder()
    client.on_rest_response = recorder
    return recorder
