"""All bundles of the project at once, from its manifest, and whether written ones are current."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.local.manifest import Project, Step, Workflow
from deploy.pipedream import bundle, gate
from deploy.pipedream.bundle import Contents
from deploy.pipedream.pins import Pin, Pins
from deploy.pipedream.reach import Library, Source
from shared import VERSION
from shared.errors import ConfigurationError

FOLDER = "bundles"
ENTRY = "entry.py"


@dataclass(frozen=True)
class Bundle:
    """A step's finished file.

    Attributes:
        modules: how many of ours are in it.
    """

    workflow: str
    namespace: str
    text: str
    modules: int
    pins: tuple[Pin, ...]

    @property
    def path(self) -> str:
        """Where it lies below the folder of bundles."""
        return f"{self.workflow}/{self.namespace}/{ENTRY}"

    @property
    def size_bytes(self) -> int:
        return len(self.text.encode())

    @property
    def sha256(self) -> str:
        """Of its bytes; Pipedream tells the same as ``codeHash``."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True)
class Build:
    """All bundles of one state of the sources."""

    build: str
    bundles: tuple[Bundle, ...]

    def of(self, workflow: str) -> list[Bundle]:
        """The bundles of one workflow, in the order of its steps."""
        return [one for one in self.bundles if one.workflow == workflow]


def build(project: Project) -> Build:
    """Bundle every step of every workflow.

    Raises:
        ConfigurationError: a step stands in no workflow, an import is refused, a pin is wrong, or
            a bundle is larger than ``limits.bundle_bytes``.
    """
    library, pins = Library(project.root), Pins.read(project.root / "requirements")
    _refuse_orphans(project)
    contents = [one for workflow in project.workflows for one in _contents(workflow, library, pins)]
    name = bundle.build_id(contents, VERSION)
    bundles = tuple(
        Bundle(
            one.workflow,
            one.namespace,
            bundle.render(one, name, VERSION),
            len(one.modules),
            tuple(one.pins),
        )
        for one in contents
    )
    _refuse_large(bundles, project.limits.bundle_bytes)
    return Build(name, bundles)


def write(built: Build, folder: Path) -> list[str]:
    """Write every bundle that differs from what ``folder`` holds; returns their paths."""
    changed = stale(built, folder)
    for one in built.bundles:
        if one.path in changed:
            path = folder / one.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(one.text.encode())
    for stranger in _strangers(built, folder):
        (folder / stranger).unlink()
    return changed


def stale(built: Build, folder: Path) -> list[str]:
    """The paths below ``folder`` that are absent, differ, or belong to no step any more."""
    differing = [
        one.path
        for one in built.bundles
        if not (folder / one.path).is_file()
        or (folder / one.path).read_bytes() != one.text.encode()
    ]
    return differing + _strangers(built, folder)


def _strangers(built: Build, folder: Path) -> list[str]:
    known = {one.path for one in built.bundles}
    found = (path.relative_to(folder).as_posix() for path in folder.glob(f"*/*/{ENTRY}"))
    return sorted(path for path in found if path not in known)


def _contents(workflow: Workflow, library: Library, pins: Pins) -> Iterable[Contents]:
    reached = {step.namespace: _reach(step, library) for step in workflow.steps}
    everything = [source for _, sources in reached.values() for source in sources]
    needed = pins.closure(gate.third_party(everything, pins))
    for step in workflow.steps:
        source, modules = reached[step.namespace]
        yield Contents(
            workflow=workflow.name,
            namespace=step.namespace,
            step=source,
            modules=modules,
            files=_files(modules, library),
            pins=needed,
        )


def _reach(step: Step, library: Library) -> tuple[Source, list[Source]]:
    source = library.step(step.file)
    return source, library.reached(source)


def _files(modules: Iterable[Source], library: Library) -> Mapping[str, str]:
    files: dict[str, str] = {}
    for source in modules:
        for path, content in library.data_files(source).items():
            try:
                files[path] = content.decode("utf-8")
            except UnicodeDecodeError:
                raise ConfigurationError(
                    f"{path}: expected text in UTF-8, which a bundle can hold"
                ) from None
    return files


def _refuse_orphans(project: Project) -> None:
    named = {step.file for workflow in project.workflows for step in workflow.steps}
    for path in sorted((project.root / "steps").glob("*.py")):
        if path.name != "__init__.py" and f"steps/{path.name}" not in named:
            raise ConfigurationError(f"steps/{path.name}: expected to be a step of some workflow")


def _refuse_large(bundles: Iterable[Bundle], limit: int) -> None:
    for one in bundles:
        if one.size_bytes > limit:
            raise ConfigurationError(
                f"{one.path}: limits.bundle_bytes: expected at most {limit}, was {one.size_bytes}"
            )
