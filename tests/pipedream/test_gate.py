"""The import gate: where an import stands makes no difference, and what it refuses it names."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.local import manifest
from deploy.local.servers import PROJECT
from deploy.pipedream import build, gate
from shared.errors import ConfigurationError
from tests.pipedream.conftest import Write

_PLACES = {
    "at the top": "import {0}\n",
    "in a function": "def f():\n    import {0}\n",
    "while type checking": (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import {0}\n"
    ),
    "in a try": "try:\n    import {0}\nexcept ImportError:\n    pass\n",
    "from it": "from {0} import thing\n",
    "below it": "import {0}.part\n",
    "by import_module": 'import importlib\nimportlib.import_module("{0}")\n',
    "by a computed name below it": 'import importlib\nimportlib.import_module(f"{0}.{{x}}")\n',
    "by __import__": '__import__("{0}")\n',
}


@pytest.mark.parametrize("place", _PLACES.values(), ids=_PLACES.keys())
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("leftpad", "expected Python's own or a pin"),
        ("urllib3", "expected Python's own or a pin"),  # brought along, but not asked for
        ("tomllib", "Pipedream would install a package of this name"),
        ("pipedream", "PyPI's package of that name is something else"),
    ],
)
def test_a_stranger_is_refused_wherever_it_stands(
    project_folder: Path, write: Write, place: str, name: str, why: str
) -> None:
    write("shared/counting.py", place.format(name))
    with pytest.raises(ConfigurationError, match=rf"shared/counting.py:\d: import {name}.*{why}"):
        build.build(manifest.load(project_folder))


def test_all_strangers_are_named_at_once(project_folder: Path, write: Write) -> None:
    write("shared/counting.py", "import leftpad\nimport rightpad\n")
    with pytest.raises(ConfigurationError, match=r"leftpad.*rightpad"):
        build.build(manifest.load(project_folder))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("from . import other\n", r"counting.py:1: expected an absolute import"),
        ("from shared import absent_thing.x\n", r"invalid syntax"),
        ("import shared.absent\n", r"import shared.absent: expected a module of ours"),
        ("import importlib\nimportlib.import_module(name)\n", r"counting.py:2: dynamic import"),
        ('import importlib\nimportlib.import_module(f"{x}.y")\n', r"counting.py:2: dynamic"),
    ],
)
def test_what_cannot_be_followed_is_refused(
    project_folder: Path, write: Write, text: str, message: str
) -> None:
    write("shared/counting.py", text)
    with pytest.raises((ConfigurationError, SyntaxError), match=message):
        build.build(manifest.load(project_folder))


def test_what_nothing_reaches_is_not_looked_at(project_folder: Path) -> None:
    built = build.build(manifest.load(project_folder))
    assert all("unreached" not in one.text for one in built.bundles)


@pytest.mark.parametrize("name", ["json", "zoneinfo", "importlib", "graphlib"])
def test_python_is_no_stranger(name: str) -> None:
    assert gate.is_standard(name)


def test_this_project_passes() -> None:
    built = build.build(manifest.load(PROJECT))
    steps = {step.namespace for flow in manifest.load(PROJECT).workflows for step in flow.steps}
    assert {one.namespace for one in built.bundles} == steps
