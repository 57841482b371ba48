"""One self-contained file a step: readable, deterministic, with exact pins and a build's name.

The modules stand in it as texts, each under its path. Pipedream's search for imports therefore
sees only Python's own in the file's code, and installs what the pins name and nothing else.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.pipedream import gate
from deploy.pipedream.pins import Pin
from deploy.pipedream.reach import OWN_PACKAGES, Source
from shared.errors import ConfigurationError

_LOADER = Path(__file__).with_name("loader.py")
_RULE = "#" * 99


@dataclass(frozen=True)
class Contents:
    """What goes into one step's bundle.

    Attributes:
        step: the step's own module; ``modules`` has it, too.
        modules: all of ours that it reaches, ordered by name.
        files: data that these read, text by path.
        pins: of the whole workflow: Pipedream installs one set for all steps of a process.
    """

    workflow: str
    namespace: str
    step: Source
    modules: Sequence[Source]
    files: Mapping[str, str]
    pins: Sequence[Pin]


def build_id(contents: Sequence[Contents], version: str) -> str:
    """The name of a build: a digest of everything in all of its bundles."""
    digest = hashlib.sha256(f"{version}\n{loader_text()}".encode())
    parts: set[tuple[str, str]] = set()
    for one in contents:
        parts |= {(source.path, source.text) for source in one.modules}
        parts |= set(one.files.items())
        parts.add((f"pins of {one.workflow}", "\n".join(map(str, one.pins))))
    for path, text in sorted(parts):
        digest.update(f"{path}\0{len(text)}\0{text}\0".encode())
    return digest.hexdigest()[:12]


def render(contents: Contents, build: str, version: str) -> str:
    """The text of ``entry.py``.

    Raises:
        ConfigurationError: a text cannot be written down, or the file's own code imports
            something that is not Python's.
    """
    pins = [f"# pipedream add-package {pin}" for pin in contents.pins]
    modules = [_module(source, build) for source in contents.modules]
    files = [_file(path, text) for path, text in sorted(contents.files.items())]
    parts = [
        "\n".join([*pins, ""] if pins else []) + _heading(contents, build, version),
        loader_text().rstrip(),
        _opening(build),
        *modules,
        *files,
        _ending(contents.step),
    ]
    text = "\n\n\n".join(parts) + "\n"
    _refuse_imports(contents, text)
    return text


def loader_text() -> str:
    """The loader's code, without the docstring that is about this project's files."""
    text = _LOADER.read_text(encoding="utf-8")
    first = ast.parse(text).body[1]
    return "".join(text.splitlines(keepends=True)[first.lineno - 1 :])


def _heading(contents: Contents, build: str, version: str) -> str:
    lines = [
        f"The step {contents.namespace} of the workflow {contents.workflow}.",
        f"autonomous-trading-loop {version}, build {build}: {len(contents.modules)} modules.",
        "Made by `trading-loop deploy build`. Change the sources that are named below, not this.",
    ]
    return "\n".join(f"# {line}" for line in lines)


def _opening(build: str) -> str:
    roots = (*OWN_PACKAGES, "steps")
    return f'BUILD = "{build}"\n_LOADER = BundleLoader.of(BUILD, {roots!r})'


def _module(source: Source, build: str) -> str:
    text = source.text
    if source.name == "shared":
        text += f'\nBUILD = "{build}"\n'
    written = _literal(source.path, text)
    return f'{_RULE}\n_LOADER.modules["{source.name}"] = ("{source.path}", {written})'


def _file(path: str, text: str) -> str:
    return f'{_RULE}\n_LOADER.files["{path}"] = {_literal(path, text)}'


def _literal(path: str, text: str) -> str:
    """``text`` as a raw literal that begins on its own line, so that it reads as it was written."""
    if "'''" in text or "\r" in text or text.endswith(("'", "\\")):
        raise ConfigurationError(
            f"{path}: expected a text without ''' and carriage returns that does not end in a "
            "quote or backslash"
        )
    # What follows the opening quotes is the text's first line: line numbers stay right.
    return f"r'''{text}'''"


def _ending(step: Source) -> str:
    return f'''{_RULE}
_LOADER.modules.setdefault("steps", ("steps/__init__.py", ""))


def handler(pd: "pipedream"):
    import importlib

    return importlib.import_module("{step.name}").handler(pd)'''


def _refuse_imports(contents: Contents, text: str) -> None:
    """The file's own code is what Pipedream looks through."""
    path = f"{contents.workflow}/{contents.namespace}/entry.py"
    for found in Source("entry", path, text, is_package=False).imports:
        if not gate.is_standard(found.root) and found.root != "steps":
            raise ConfigurationError(
                f"{path}:{found.line}: import {found.module} in a bundle's code"
            )
