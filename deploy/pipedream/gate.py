"""The import gate: nothing leaves for Pipedream that would make it install a stranger's package.

On every deploy Pipedream looks through a step's imports and installs the newest package of each
name that it does not know as a part of Python. Whatever is neither Python's, nor pinned, nor ours
in the bundle therefore fails the build: an attacker could own that name.

The list of Python's modules by which Pipedream goes (pipreqs, 0.5.0) lacks some that Python has;
those are refused like strangers.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from deploy.pipedream.pins import Pins
from deploy.pipedream.reach import OWN_PACKAGES, Import, Source
from shared.errors import ConfigurationError

UNKNOWN_TO_PIPREQS = frozenset({"tomllib"})
"""Modules of Python 3.12 that pipreqs takes for packages of PyPI."""

_NEVER = {"pipedream": "the runtime has none, and PyPI's package of that name is something else"}


def third_party(sources: Iterable[Source], pins: Pins) -> set[str]:
    """The pinned distributions that some modules import.

    Raises:
        ConfigurationError: names every import that may not be deployed, with file and line.
    """
    needed: set[str] = set()
    problems: list[str] = []
    for source in sources:
        for found in source.imports:
            if found.root in OWN_PACKAGES or is_standard(found.root):
                continue
            distribution = pins.distribution(found.root)
            if distribution is None or found.root in _NEVER:
                problems.append(_refused(source, found))
            else:
                needed.add(distribution)
    if problems:
        raise ConfigurationError("import gate: " + "; ".join(problems))
    return needed


def is_standard(root: str) -> bool:
    """Whether ``root`` is a part of Python that Pipedream knows as one."""
    return root in sys.stdlib_module_names and root not in UNKNOWN_TO_PIPREQS


def _refused(source: Source, found: Import) -> str:
    where = f"{source.path}:{found.line}: import {found.module}"
    if found.root in _NEVER:
        return f"{where}: {_NEVER[found.root]}"
    if found.root in UNKNOWN_TO_PIPREQS:
        return f"{where}: Pipedream would install a package of this name from PyPI"
    return f"{where}: expected Python's own or a pin of requirements/runtime.in"
