"""Where a fault strikes and what it does."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Protocol = Literal["sql", "redis", "http"]


class Mode(StrEnum):
    """What happens to one external call.

    Kills are SIGKILL. ``late_arrival``: the client hears nothing until it gives up, and its
    request reaches the server only after the client's next call there, or its end.
    """

    KILL_BEFORE = "kill_before"
    KILL_AFTER_EFFECT = "kill_after_effect"
    KILL_AFTER_ANSWER = "kill_after_answer"
    EXCEPTION_BEFORE = "exception_before"
    EXCEPTION_AFTER = "exception_after"
    TIMEOUT_BEFORE = "timeout_before"
    TIMEOUT_AFTER = "timeout_after"
    LATE_ARRIVAL = "late_arrival"


_READ = (Mode.KILL_BEFORE, Mode.EXCEPTION_BEFORE, Mode.TIMEOUT_BEFORE)
_WRITE = (*_READ, Mode.KILL_AFTER_EFFECT, Mode.KILL_AFTER_ANSWER, Mode.EXCEPTION_AFTER)
_READING_WORDS = {
    "sql": ("connect", "SELECT", "BEGIN", "ROLLBACK"),
    "redis": ("GET", "MGET", "AUTH", "HELLO", "CLIENT"),
}
_KRAKEN_WRITES = ("AddOrder", "CancelOrder", "EditOrder", "AmendOrder")
_MODELS = ("openai", "anthropic")


@dataclass(frozen=True, order=True)
class Site:
    """One external call of a run: the ``nth`` (from 1) of that name.

    The number counts calls of the same name and not all calls, because the scanner's threads ask
    several venues at once and the order between them differs from run to run.
    """

    name: str
    nth: int

    @property
    def protocol(self) -> Protocol:
        return self.name.partition(" ")[0]  # type: ignore[return-value]

    def __str__(self) -> str:
        return f"{self.name}#{self.nth}"

    @classmethod
    def parse(cls, text: str) -> Site:
        """The inverse of ``str``. Raises ``ValueError`` where ``text`` names no site."""
        name, mark, nth = text.rpartition("#")
        if not mark or name.partition(" ")[0] not in ("sql", "redis", "http"):
            raise ValueError(f"site: expected PROTOCOL NAME#N, was {text!r}")
        return cls(name, int(nth))


@dataclass(frozen=True)
class Fault:
    """A mode at a site."""

    site: Site
    mode: Mode

    def __str__(self) -> str:
        return f"{self.site}:{self.mode}"

    @classmethod
    def parse(cls, text: str) -> Fault:
        """The inverse of ``str``. Raises ``ValueError``."""
        site, _, mode = text.rpartition(":")
        return cls(Site.parse(site), Mode(mode))


def modes_for(site: Site) -> tuple[Mode, ...]:
    """The modes that mean something of their own at ``site``.

    A call that changes nothing has no effect to be before or after of: three modes cover it. A
    statement has no ``timeout_after``: PostgreSQL undoes what it cancels, and psycopg2 has no
    time-out of its own, so that it waits until the platform kills it: ``kill_after_effect``.
    Only a request can arrive late.
    """
    if is_read(site):
        return _READ
    if site.protocol == "http":
        return (*_WRITE, Mode.TIMEOUT_AFTER, Mode.LATE_ARRIVAL)
    return _WRITE if site.protocol == "sql" else (*_WRITE, Mode.TIMEOUT_AFTER)


def is_read(site: Site) -> bool:
    """Whether the call leaves everything outside the process as it was."""
    words = site.name.split(" ")
    if site.protocol != "http":
        return words[1] in _READING_WORDS[site.protocol]
    _, method, service, path = words
    if service == "kraken":  # asks for private data by POST, too
        return not path.endswith(_KRAKEN_WRITES)
    return method == "GET" or service in _MODELS
