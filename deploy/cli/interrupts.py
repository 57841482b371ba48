"""Ctrl-C and SIGTERM end a command in the same way, and neither is lost."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_AGAIN_AFTER_S = 0.02


@contextmanager
def interrupted_by_sigterm() -> Iterator[threading.Event]:
    """Turn the first SIGTERM into ``KeyboardInterrupt``; later ones let the tidying finish.

    Python drops an exception that comes up inside a ``__del__`` or a callback of the garbage
    collector. An interrupt that hits such a moment, Ctrl-C's too, is sent once more.

    Yields an event that tells whether a SIGTERM came. Python gives signals to the main thread
    only: elsewhere nothing is installed.
    """
    terminated, raised = threading.Event(), threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield terminated
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        terminated.set()
        if not raised.is_set():
            raised.set()
            raise KeyboardInterrupt

    def report(unraisable: sys.UnraisableHookArgs) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            previous_report(unraisable)
            return
        raised.clear()
        _send_later(signal.SIGTERM if terminated.is_set() else signal.SIGINT)

    previous = signal.signal(signal.SIGTERM, interrupt)
    previous_report, sys.unraisablehook = sys.unraisablehook, report
    try:
        yield terminated
    finally:
        sys.unraisablehook = previous_report
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def signals_call(stop: Callable[[], None]) -> Iterator[None]:
    """Let each SIGTERM and Ctrl-C call ``stop``, which may come at any line, and raise nothing."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: stop()) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _send_later(number: signal.Signals) -> None:
    """Signal the main thread when it has left what swallowed the exception."""
    target = threading.main_thread().ident
    assert target is not None
    timer = threading.Timer(_AGAIN_AFTER_S, signal.pthread_kill, (target, number))
    timer.daemon = True
    timer.start()
