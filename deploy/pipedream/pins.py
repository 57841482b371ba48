"""Exact pins: what is directly asked for, and all that each of those brings along.

``requirements/runtime.in`` names what a step may import; ``requirements/runtime.txt`` holds the
whole lock, with a comment under each package that says who wants it. A deployed step names the
whole of its share: what a pin brings along would else be the newest of the day.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from shared.errors import ConfigurationError

IMPORTED_AS = {"talib": "ta-lib", "psycopg2": "psycopg2-binary"}
"""Where a package is imported under another name than the one it is installed by."""

_ON_PIPEDREAM = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "python_full_version": "3.12.0",
    "python_version": "3.12",
    "sys_platform": "linux",
}
_VIA = re.compile(r"^\s+#(?:\s+via)?\s*(?P<by>\S.*)?$")


@dataclass(frozen=True)
class Pin:
    """A distribution in one exact version. ``name`` is written as in the lock."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"


class Pins:
    """The lock of the runtime.

    Args:
        asked_for: text of ``requirements/runtime.in``.
        lock: text of ``requirements/runtime.txt``.

    Raises:
        ConfigurationError: a line is no exact pin, a package stands twice, or the two files
            disagree; names file, line and what was expected.
    """

    def __init__(self, asked_for: str, lock: str) -> None:
        self._direct = _direct(asked_for)
        self._locked, self._wanted_by = _locked(lock)
        for name, version in self._direct.items():
            pin = self._locked.get(name)
            if pin is None or pin.version != version:
                held = "nothing" if pin is None else pin.version
                raise ConfigurationError(
                    f"runtime.txt: {name}: expected {version} as in runtime.in, was {held}; "
                    "run make lock"
                )

    @classmethod
    def read(cls, folder: Path) -> Pins:
        """The pins of a project's ``requirements`` folder."""
        texts = [
            (folder / name).read_text(encoding="utf-8") for name in ("runtime.in", "runtime.txt")
        ]
        return cls(*texts)

    def distribution(self, root: str) -> str | None:
        """The pinned distribution that is imported as ``root``; ``None`` where none is."""
        name = canonicalize_name(IMPORTED_AS.get(root, root))
        return name if name in self._direct else None

    def closure(self, distributions: Iterable[str]) -> list[Pin]:
        """The pins of some directly named distributions and of all that they need, by name."""
        needed = set(distributions)
        grown = True
        while grown:
            more = {name for name, by in self._wanted_by.items() if by & needed} - needed
            needed |= more
            grown = bool(more)
        return sorted((self._locked[name] for name in needed), key=lambda pin: pin.name.lower())


def _direct(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        written = line.partition("#")[0].strip()
        if not written:
            continue
        name, version = _exact("runtime.in", number, written)
        if name in found:
            raise ConfigurationError(
                f"runtime.in:{number}: {name}: expected one pin, was {found[name]} before and "
                f"{version} here"
            )
        found[name] = version
    return found


def _locked(text: str) -> tuple[dict[str, Pin], dict[str, set[str]]]:
    pins: dict[str, Pin] = {}
    wanted_by: dict[str, set[str]] = {}
    current: str | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if line and not line[0].isspace() and not line.startswith("#"):
            current = _take(number, line.rstrip("\\").strip(), pins)
        elif current is not None and (via := _VIA.match(line)) is not None and via["by"]:
            by = via["by"].strip()
            if not by.startswith("-r"):
                wanted_by.setdefault(current, set()).add(canonicalize_name(by))
    return pins, wanted_by


def _take(number: int, written: str, pins: dict[str, Pin]) -> str | None:
    """Add a line's pin, unless it is of another platform; returns its canonical name."""
    requirement, _, marker = written.partition(";")
    name, version = _exact("runtime.txt", number, requirement.strip())
    if marker.strip() and not Marker(marker.strip()).evaluate(_ON_PIPEDREAM):
        return None
    if name in pins:
        raise ConfigurationError(
            f"runtime.txt:{number}: {name}: expected one pin, was {pins[name].version} before and "
            f"{version} here"
        )
    pins[name] = Pin(requirement.partition("==")[0].strip(), version)
    return name


def _exact(file: str, number: int, written: str) -> tuple[str, str]:
    try:
        requirement = Requirement(written)
    except InvalidRequirement as error:
        raise ConfigurationError(
            f"{file}:{number}: expected name==version, was {written!r}: {error}"
        ) from None
    specifiers = list(requirement.specifier)
    if len(specifiers) != 1 or specifiers[0].operator != "==" or "*" in specifiers[0].version:
        raise ConfigurationError(
            f"{file}:{number}: {requirement.name}: expected one exact version (==), was {written!r}"
        )
    return canonicalize_name(requirement.name), specifiers[0].version
