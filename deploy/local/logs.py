"""What a step prints, kept apart from what everything else in the process prints."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

_lock = threading.Lock()
_buffers = threading.local()


class _Router(io.TextIOBase):
    """Stands in for ``sys.stdout``: text goes to the printing thread's capture, if it has one."""

    def __init__(self, original: IO[str]) -> None:
        self.original = original
        self.captures = 0

    def write(self, text: str) -> int:
        target: IO[str] = getattr(_buffers, "current", None) or self.original
        return target.write(text)

    def flush(self) -> None:
        self.original.flush()

    def isatty(self) -> bool:
        return self.original.isatty()

    def fileno(self) -> int:
        return self.original.fileno()


@contextmanager
def capture() -> Iterator[io.StringIO]:
    """Collects what this thread prints. Threads that a step starts print past it."""
    buffer = io.StringIO()
    outer = getattr(_buffers, "current", None)
    _enter()
    _buffers.current = buffer
    try:
        yield buffer
    finally:
        _buffers.current = outer
        _leave()


def _enter() -> None:
    with _lock:
        if not isinstance(sys.stdout, _Router):
            sys.stdout = _Router(sys.stdout)
        sys.stdout.captures += 1


def _leave() -> None:
    with _lock:
        router = sys.stdout
        if isinstance(router, _Router):
            router.captures -= 1
            if router.captures == 0:
                sys.stdout = router.original
