"""Which of our own modules a step reaches, and what each of them imports from outside.

Everything is read from the syntax tree, so that an import inside a function, under
``TYPE_CHECKING`` or in a ``try`` counts like any other: Pipedream would look at it too.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shared.errors import ConfigurationError

OWN_PACKAGES = ("shared",)
_RESOURCES = "importlib.resources"


@dataclass(frozen=True)
class Import:
    """One import: ``module`` as it is written, with the line that it stands in.

    ``names`` are what ``from module import names`` takes; empty for a plain ``import``.
    """

    module: str
    names: tuple[str, ...]
    line: int

    @property
    def root(self) -> str:
        return self.module.partition(".")[0]


@dataclass(frozen=True)
class Source:
    """A module of ours.

    Attributes:
        name: as it is imported, for example ``shared.clock``.
        path: of its file, relative to the project, with slashes.
        is_package: whether it is an ``__init__.py``.
    """

    name: str
    path: str
    text: str
    is_package: bool

    @functools.cached_property
    def imports(self) -> tuple[Import, ...]:
        """Every import in it. Raises ``ConfigurationError`` where one cannot be followed."""
        return tuple(_imports(self))


class Library:
    """Our modules by name, read from the project's folder.

    Args:
        root: the project's folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    @functools.cache  # noqa: B019 - a library lives as long as one build
    def find(self, name: str) -> Source | None:
        """The module ``name``, or ``None`` where there is no such file."""
        stem = Path(*name.split("."))
        for path, is_package in ((stem / "__init__.py", True), (stem.with_suffix(".py"), False)):
            if (self._root / path).is_file():
                text = (self._root / path).read_text(encoding="utf-8")
                return Source(name, path.as_posix(), text, is_package)
        return None

    def step(self, path: str) -> Source:
        """The source file of a step, under the name ``steps.<stem>``.

        Raises:
            ConfigurationError: there is no such file.
        """
        file = self._root / path
        if not file.is_file():
            raise ConfigurationError(f"{path}: expected the file of a step, there is none")
        return Source(f"steps.{file.stem}", path, file.read_text(encoding="utf-8"), False)

    def reached(self, start: Source) -> list[Source]:
        """``start`` and every module of ours that it imports, directly or not, ordered by name.

        Raises:
            ConfigurationError: a module of ours is imported that does not exist.
        """
        found: dict[str, Source] = {}
        waiting = [start]
        while waiting:
            source = waiting.pop()
            if source.name in found:
                continue
            found[source.name] = source
            for name in sorted(self._own_modules(source)):
                waiting.append(self._required(name, source))
        return sorted(found.values(), key=lambda source: source.name)

    def data_files(self, source: Source) -> dict[str, bytes]:
        """The files beside the modules of its package, where it reads any, by path.

        A module that imports ``importlib.resources`` may read every file of its own package that
        is not Python, in subfolders too, as long as these are no packages.
        """
        if not any(_reads_resources(found) for found in source.imports):
            return {}
        folder = (self._root / source.path).parent
        return {
            path.relative_to(self._root).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.suffix not in (".py", ".pyc") and _belongs(path, folder)
        }

    def _own_modules(self, source: Source) -> set[str]:
        names: set[str] = set()
        for found in source.imports:
            if found.root in OWN_PACKAGES:
                names.add(found.module)
                modules = (f"{found.module}.{name}" for name in found.names)
                names |= {name for name in modules if self.find(name) is not None}
        return names | {parent for name in names for parent in _parents(name)}

    def _required(self, name: str, by: Source) -> Source:
        source = self.find(name)
        if source is None:
            raise ConfigurationError(f"{by.path}: import {name}: expected a module of ours")
        return source


def _imports(source: Source) -> Iterator[Import]:
    for node in ast.walk(ast.parse(source.text, source.path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, (), node.lineno)
        elif isinstance(node, ast.ImportFrom):
            if node.level or node.module is None:
                raise ConfigurationError(
                    f"{source.path}:{node.lineno}: expected an absolute import, was a relative one"
                )
            yield Import(node.module, tuple(alias.name for alias in node.names), node.lineno)
        elif isinstance(node, ast.Call) and _is_dynamic(node):
            yield Import(_written(source, node), (), node.lineno)


def _is_dynamic(node: ast.Call) -> bool:
    function = node.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in ("import_module", "__import__")


def _written(source: Source, node: ast.Call) -> str:
    """The package that a dynamic import takes from; what follows its first dot may be computed."""
    argument = node.args[0] if node.args else None
    if isinstance(argument, ast.JoinedStr):
        argument = argument.values[0]
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        name, dot, _ = argument.value.partition(".")
        if isinstance(node.args[0], ast.Constant):
            return argument.value
        if dot:
            return name
    raise ConfigurationError(
        f"{source.path}:{node.lineno}: dynamic import: expected a literal package name in front"
    )


def _reads_resources(found: Import) -> bool:
    return found.module.startswith(_RESOURCES) or (
        found.module == "importlib" and "resources" in found.names
    )


def _belongs(path: Path, folder: Path) -> bool:
    """Whether no package lies between ``folder`` and ``path``."""
    if "__pycache__" in path.parts:
        return False
    between = path.parent
    while between != folder:
        if (between / "__init__.py").exists():
            return False
        between = between.parent
    return True


def _parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    for count in range(1, len(parts)):
        yield ".".join(parts[:count])
