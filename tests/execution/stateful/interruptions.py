"""What happens in the midst of a run: between two statements, or before or after a venue's call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from shared.ledger.connection import Ledger, Parameters, Row

VENUE_CALLS = (
    "submit", "find_order", "order", "cancel", "open_orders", "fills", "balances", "quotes", "book",
)  # fmt: skip


class Killed(BaseException):
    """The process is gone. No handler of ours catches it."""


class Interruption:
    """Does something once, at the n-th point of what follows.

    A venue's call has two points, before and after its effect. A statement has one, before it,
    which is after the effect of the one before. Only the thread that made this counts: books that
    are read side by side are no points, because their order would be the machine's.
    """

    def __init__(self) -> None:
        self._left = 0
        self._act: Callable[[], None] | None = None
        self._in_statements = False
        self._owner = threading.get_ident()

    @contextmanager
    def at(self, point: int, act: Callable[[], None], *, in_statements: bool) -> Iterator[None]:
        """Within the block; what the block does not reach does not happen."""
        self._left, self._act, self._in_statements = point, act, in_statements
        try:
            yield
        finally:
            self._left, self._act = 0, None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What a test asks for itself is no point."""
        left, self._left = self._left, 0
        try:
            yield
        finally:
            self._left = left

    def point(self, *, is_statement: bool = False) -> None:
        if self._left == 0 or threading.get_ident() != self._owner:
            return
        if is_statement and not self._in_statements:
            return
        self._left -= 1
        if self._left == 0 and self._act is not None:
            act, self._act = self._act, None
            act()

    def wrap(self, venue: object, tick: Callable[[], None]) -> None:
        """Let each call of a venue be two points, and take its time."""
        for name in VENUE_CALLS:
            setattr(venue, name, self._wrapped(getattr(venue, name), tick))

    def _wrapped(self, method: Callable[..., Any], tick: Callable[[], None]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if threading.get_ident() != self._owner:
                return method(*arguments, **options)
            tick()
            self.point()
            result = method(*arguments, **options)
            self.point()
            return result

        return call


class PointedLedger(Ledger):
    """A ledger whose statements are points."""

    def __init__(self, ledger: Ledger, interruption: Interruption) -> None:
        super().__init__(ledger._connection, ledger.pod)
        self._interruption = interruption

    def query(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        self._interruption.point(is_statement=True)
        return super().query(sql, parameters)

    def one(self, sql: str, parameters: Parameters = ()) -> Row | None:
        self._interruption.point(is_statement=True)
        return super().one(sql, parameters)

    def execute(self, sql: str, parameters: Parameters = ()) -> int:
        self._interruption.point(is_statement=True)
        return super().execute(sql, parameters)
