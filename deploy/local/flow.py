"""``pd.flow``: the pauses of a run, and the runs that wait for the end of theirs.

A pause begins at the end of the step that asked for it, and ends the execution. What comes after
it is a new segment, with its own execution id, price and timeout, and the same trace id.

Time is ``shared.clock``. Nothing here waits: whoever moves the time, in a replay the session,
asks which pauses are over (``PausedRuns.next_due_ms``) and continues those runs, each at its own
time and before anything that is due later. Ticks that fall into a pause are not held up by it. In
a replay at real pace a pause is found to be over at the next tick; after the end of a replay, when
time stands still, only a link ends one. Waiting runs live in this process and are lost with it.

Sources: https://pipedream.com/docs/workflows/building-workflows/code/python/delay and
https://pipedream.com/docs/workflows/building-workflows/code/python/rerun. What they leave open is
decided here: the last of several pauses that one step asks for holds; the data of a call of
``resume_url`` has the shape of an HTTP trigger's event; runs with an error or an exit do not pause.
"""

from __future__ import annotations

import math
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from deploy.local import exports
from shared import clock

JsonObject = dict[str, Any]
LINK_PREFIX = "/_flow/"
DEFAULT_TIMEOUT_MS = 24 * 60 * 60 * 1000
DEFAULT_MAX_RETRIES = 10
MAX_RETRIES = 8
RETRIES_SPAN_MS = 10 * 60 * 60 * 1000
LONGEST_MS = 365 * DEFAULT_TIMEOUT_MS  # "as little as one millisecond, or as long as one year"


@dataclass(frozen=True)
class Pause:
    """What a step asked for.

    Attributes:
        token: names the pause in its two links.
        kind: the platform's own ``retry`` runs a step again that has failed.
        milliseconds: after which it ends by itself; a suspension is cancelled then.
        context_json: what ``rerun`` hands to the next run of the step.
    """

    kind: Literal["delay", "suspend", "rerun", "retry"]
    token: str
    milliseconds: float
    context_json: str = "null"


@dataclass(frozen=True)
class Ending:
    """How a pause ended. ``request`` is the call of ``resume_url`` as an event."""

    how: Literal["elapsed", "resumed", "cancelled"]
    request: JsonObject | None = None


@dataclass
class FlowState:
    """What ``pd.flow`` knows and changes of one run.

    Attributes:
        segment: 1 until the first pause.
        runs: how often the present step has been run, with this time.
        retries: how often the platform has retried it.
        run_context: the JSON text that the step gave to ``rerun``, if this is a rerun.
        callback_request: the call of ``resume_url`` that ended the pause before a rerun.
    """

    exit_reason: str | None = None
    pause: Pause | None = None
    token: str | None = None
    segment: int = 1
    runs: int = 1
    retries: int = 0
    run_context: str | None = None
    callback_request: JsonObject | None = None


class Flow:
    """``pd.flow``. Nothing here stops the step: it acts when the step has ended."""

    def __init__(self, state: FlowState, paused: PausedRuns[Any]) -> None:
        self._state = state
        self._paused = paused

    def exit(self, reason: str = "") -> None:
        """Run no step after this one."""
        self._state.exit_reason = str(reason)

    def delay(self, ms: float) -> dict[str, str | None]:
        """Go on with the next step after ``ms`` milliseconds, or when ``resume_url`` is called.

        Returns:
            ``resume_url`` and ``cancel_url``; ``None`` where no HTTP is served.
        """
        return self._pause("delay", _milliseconds("delay: ms", ms))

    def suspend(self, timeout_ms: float = DEFAULT_TIMEOUT_MS) -> dict[str, str | None]:
        """Go on when ``resume_url`` is called; after ``timeout_ms`` the run is cancelled."""
        return self._pause("suspend", _milliseconds("suspend: timeout_ms", timeout_ms))

    def rerun(
        self, delay_ms: float, context: Any = None, max_retries: int = DEFAULT_MAX_RETRIES
    ) -> dict[str, str | None]:
        """Run this step again after ``delay_ms``, or when ``resume_url`` is called.

        ``pd.context["run"]`` has ``runs``, in a rerun ``context``, and after a call of
        ``resume_url`` ``callback_request``. A step that was rerun ``max_retries`` times is not
        run again: the next one follows at once.

        Raises:
            ExportError: ``context`` is no plain JSON.
        """
        delay_ms = _milliseconds("rerun: delay_ms", delay_ms)
        if type(max_retries) is not int or max_retries < 0:
            raise ValueError(f"pd.flow.rerun: max_retries: expected 0 or more, was {max_retries!r}")
        text = exports.encode(context, "rerun", "context")
        links = self._pause("rerun", delay_ms, text)
        if self._state.runs > max_retries:
            self._state.pause = None
        return links

    def _pause(
        self, kind: Literal["delay", "suspend", "rerun"], milliseconds: float, text: str = "null"
    ) -> dict[str, str | None]:
        token = self._state.token or self._paused.open()
        self._state.token = token
        self._state.pause = Pause(kind, token, milliseconds, text)
        return self._paused.links(token)


def retry_delay_ms(retries: int) -> float:
    """How long the platform waits before it retries a step that it has retried so often.

    Eight retries over ten hours, each wait twice the one before
    (https://pipedream.com/docs/workflows/building-workflows/settings); that the waits double
    exactly, and how long the first is, is decided here.
    """
    return RETRIES_SPAN_MS / (2**MAX_RETRIES - 1) * 2.0**retries


def _milliseconds(name: str, value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or not 0 <= value <= LONGEST_MS:
        raise ValueError(f"pd.flow.{name}: expected 0 to {LONGEST_MS} milliseconds, was {value!r}")
    number: float = value
    return number


@dataclass
class _Waiting[Run]:
    """``run`` is ``None`` while the step that asked for the pause still runs."""

    run: Run | None = None
    due_ms: float = math.inf
    early: Ending | None = None


class PausedRuns[Run]:
    """Runs that wait for the end of a pause. Safe to use from several threads.

    Args:
        go_on: continues a run; called in the thread in which its pause was found to be over.

    Attributes:
        base_url: where the links are served; ``None`` where nothing serves them.
    """

    def __init__(self, go_on: Callable[[Run, Ending], None]) -> None:
        self._go_on = go_on
        self._lock = threading.Lock()
        self._waiting: dict[str, _Waiting[Run]] = {}
        self.base_url: str | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def open(self) -> str:
        """A token for a step that asks for a pause. Its links work from now on."""
        token = secrets.token_urlsafe(18)  # whoever knows it can end the pause
        with self._lock:
            self._waiting[token] = _Waiting()
        return token

    def links(self, token: str) -> dict[str, str | None]:
        """``resume_url`` and ``cancel_url``."""
        base = None if self.base_url is None else f"{self.base_url}{LINK_PREFIX}{token}"
        return {
            "resume_url": base and f"{base}/resume",
            "cancel_url": base and f"{base}/cancel",
        }

    def close(self, token: str) -> None:
        """Forget a step that asked for a pause and ended without one."""
        with self._lock:
            del self._waiting[token]

    def park(self, token: str, run: Run, milliseconds: float) -> None:
        """Let ``run`` wait. It goes on at once if one of its links was called before."""
        with self._lock:
            early = self._waiting[token].early
            if early is None:
                self._waiting[token] = _Waiting(run, clock.now_ms() + milliseconds)
            else:
                del self._waiting[token]
        if early is not None:
            self._go_on(run, early)

    def next_due_ms(self) -> int | None:
        """When the first pause ends, in full milliseconds since the epoch; ``None``: none does."""
        if not self._waiting:
            return None
        with self._lock:
            due_ms = min((waiting.due_ms for waiting in self._waiting.values()), default=math.inf)
        return None if math.isinf(due_ms) else math.ceil(due_ms)

    def end_due(self) -> None:
        """Continue, in order, the runs whose pause is over by now."""
        while (run := self._take_due()) is not None:
            self._go_on(run, Ending("elapsed"))

    def answer(self, token: str, ending: Ending) -> Callable[[], None] | None:
        """End a pause from outside.

        Returns:
            What to call to continue the run; ``None`` if no such pause is open.
        """
        with self._lock:
            waiting = self._waiting.get(token)
            if waiting is None or waiting.early is not None:
                return None
            if waiting.run is None:
                self._waiting[token] = replace(waiting, early=ending)
                return lambda: None  # the step's own thread does
            run = waiting.run
            del self._waiting[token]
        return lambda: self._go_on(run, ending)

    def _take_due(self) -> Run | None:
        with self._lock:
            parked = [(w.due_ms, token) for token, w in self._waiting.items() if w.run is not None]
            if not parked:
                return None
            due_ms, token = min(parked)
            return self._waiting.pop(token).run if due_ms <= clock.now_ms() else None
