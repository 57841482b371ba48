"""One run of pytest on one mutant, in a process forked for it."""

from __future__ import annotations

import gc
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from types import CodeType, ModuleType
from typing import Any

import pytest

from scripts.mutation.targets import PROJECT, Target

_TOOL = sys.monitoring.COVERAGE_ID
_WITHOUT = ("randomly", "xdist", "cacheprovider")
_OPTIONS = ["-x", "-q", "--assert=plain", *(f"-pno:{plugin}" for plugin in _WITHOUT)]


@dataclass
class Outcome:
    """What one session of pytest has shown.

    Attributes:
        exit_code: pytest's own: 0 all passed, 1 a test failed, more where it could not even run.
        failed: the test that failed first; ``None`` where none did.
        lines: for each test, the lines of the target that it executed (where that was asked for).
        seconds: for each test, how long it took.
    """

    exit_code: int
    failed: str | None = None
    lines: dict[str, set[int]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def warm_up(tests: Sequence[str]) -> None:
    """Import what the tests need, and forget what is ours: a fork then loads only the project."""
    _silently([*_OPTIONS, "--collect-only", *tests], [])
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None) or ""
        own = path.startswith(str(PROJECT)) and not path.startswith(sys.prefix)
        if own and not name.startswith("scripts"):
            del sys.modules[name]
    gc.freeze()  # what is here stays: no fork has to look through it


def run(
    answer: Connection,
    database: str,
    target: Target,
    source: str,
    chosen: Sequence[str] | None,
    *,
    trace: bool,
) -> None:
    """In the forked process: test ``source`` in the target's place, and send back an ``Outcome``.

    Args:
        database: the address of the database that its tests use and nobody else does.
        chosen: ids of the tests to run, in this order; ``None`` for all of the target's files.
        trace: note which lines each test executes.
    """
    os.environ["TEST_DATABASE_URL"] = database
    sys.meta_path.insert(0, _Finder(target, source))
    observer = _Observer(target, chosen, trace=trace)
    files = target.tests if chosen is None else dict.fromkeys(n.split("::")[0] for n in chosen)
    options = [option for option in _OPTIONS if chosen is not None or option != "-x"]
    code = _silently([*options, *files], [observer])
    answer.send(Outcome(int(code), observer.failed, observer.lines, observer.seconds))
    answer.close()
    os._exit(0)  # whatever the parent has to tidy up is not this process's to tidy


def _silently(arguments: list[str], plugins: list[object]) -> int:
    """Run pytest without a word; its own output of a mutant tells nobody anything."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    kept = [os.dup(number) for number in (1, 2)]
    try:
        for number in (1, 2):
            os.dup2(quiet, number)
        return int(pytest.main(arguments, plugins=plugins))
    finally:
        for number, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, number)
            os.close(copy)
        os.close(quiet)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Gives the changed source to whoever imports the target."""

    def __init__(self, target: Target, source: str) -> None:
        self._target, self._source = target, source
        self._path = str(PROJECT / target.path)

    def find_spec(
        self, fullname: str, path: Any, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._target.module:
            return None
        return importlib.util.spec_from_loader(fullname, self, origin=self._path)

    def get_source(self, fullname: str) -> str:
        return self._source

    def get_code(self, fullname: str) -> CodeType:
        code = compile(self._source, self._path, "exec")
        assert isinstance(code, CodeType)
        return code


class _Observer:
    """A pytest plugin: chooses and orders tests, times them, and traces the target's lines."""

    def __init__(self, target: Target, chosen: Sequence[str] | None, *, trace: bool) -> None:
        self._path = str(PROJECT / target.path)
        self._chosen, self._trace = chosen, trace
        self._seen: set[int] = set()
        self.failed: str | None = None
        self.lines: dict[str, set[int]] = {}
        self.seconds: dict[str, float] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self._chosen is not None:
            by_id = {item.nodeid: item for item in items}
            items[:] = [by_id[name] for name in self._chosen if name in by_id]

    def pytest_sessionstart(self) -> None:
        if self._trace:
            events = sys.monitoring.events.LINE
            sys.monitoring.use_tool_id(_TOOL, "mutation")
            sys.monitoring.register_callback(_TOOL, events, self._on_line)
            sys.monitoring.set_events(_TOOL, events)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        self._seen = set()
        started = time.perf_counter()
        if self._trace:
            sys.monitoring.restart_events()
        done = yield
        self.seconds[item.nodeid] = time.perf_counter() - started
        self.lines[item.nodeid] = self._seen
        return done

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and self.failed is None:
            self.failed = report.nodeid

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed and self.failed is None:
            self.failed = report.nodeid

    def _on_line(self, code: CodeType, line: int) -> object:
        if code.co_filename == self._path:
            self._seen.add(line)
        return sys.monitoring.DISABLE  # once a test is enough
