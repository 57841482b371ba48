"""All mutants of a module against its tests: who is noticed, who survives."""

from __future__ import annotations

import ast
import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from typing import Literal

import pytest

from scripts.mutation import mutants, session
from scripts.mutation.mutants import Mutant
from scripts.mutation.session import Outcome
from scripts.mutation.targets import Target

Fate = Literal["killed", "survived", "timeout"]

_FORK = multiprocessing.get_context("fork")
_SLOWER = 4  # a mutant may take so many times as long as the tests themselves
_START_S = 30.0


class Broken(Exception):
    """The tests fail without any mutation, so that they can judge none."""


@dataclass(frozen=True)
class Verdict:
    """What became of one mutant; ``by`` is the test that noticed it first."""

    mutant: Mutant
    fate: Fate
    by: str | None = None


def judge(target: Target, databases: Sequence[str], tell: Callable[[str], None]) -> list[Verdict]:
    """Try every mutant of a target, as many at once as there are databases.

    Raises:
        Broken: a test of the target fails as it is.
    """
    source = target.source()
    session.warm_up(target.tests)
    clean = _clean_run(target, source, databases[0])
    found = mutants.of(source, target.functions)
    tell(f"{target.path}: {len(found)} mutants, {len(clean.seconds)} tests")
    coverage = _Coverage(source, clean)
    verdicts: list[Verdict] = []
    killers: Counter[tuple[str, str]] = Counter()
    waiting, running, free = list(reversed(found)), list[_Trial](), list(databases)
    while waiting or running:
        while waiting and free:
            mutant = waiting.pop()
            # First those that have noticed others of the same function, then the quick ones.
            tests = sorted(
                coverage.tests(mutant.line),
                key=lambda test: (-killers[mutant.symbol, test], clean.seconds[test]),  # noqa: B023
            )
            if not tests:  # nothing executes it, so nothing can notice
                verdicts.append(Verdict(mutant, "survived"))
                tell(f"  not executed: line {mutant.line}: {mutant.change}")
                continue
            running.append(_Trial(target, mutant, tests, clean, free.pop()))
        for trial, verdict in _ended(running):
            free.append(trial.database)
            verdicts.append(verdict)
            if verdict.by is not None:
                killers[verdict.mutant.symbol, verdict.by] += 1
            if verdict.fate == "survived":
                tell(f"  survived: line {verdict.mutant.line}: {verdict.mutant.change}")
    return sorted(verdicts, key=lambda verdict: verdict.mutant.line)


def _clean_run(target: Target, source: str, database: str) -> Outcome:
    ours, theirs = _FORK.Pipe(duplex=False)
    process = _FORK.Process(
        target=session.run, args=(theirs, database, target, source, None), kwargs={"trace": True}
    )
    process.start()
    theirs.close()
    try:
        outcome: Outcome = ours.recv()
    except EOFError:
        raise Broken(f"{target.path}: the tests ended without a word") from None
    process.join()
    if outcome.exit_code != 0:
        raise Broken(f"{target.path}: without a mutation, {outcome.failed} fails")
    return outcome


class _Trial:
    """One mutant under test, in a process of its own that is killed when its time is over."""

    def __init__(
        self,
        target: Target,
        mutant: Mutant,
        tests: Sequence[str],
        clean: Outcome,
        database: str,
    ) -> None:
        self.mutant, self.database = mutant, database
        self.answer, theirs = _FORK.Pipe(duplex=False)
        self.deadline = time.monotonic() + _START_S
        self.deadline += _SLOWER * sum(clean.seconds[test] for test in tests)
        self._process: ForkProcess = _FORK.Process(
            target=session.run,
            args=(theirs, database, target, mutant.source, tests),
            kwargs={"trace": False},
        )
        self._process.start()
        theirs.close()

    def verdict(self) -> Verdict | None:
        """What is known by now; ``None`` while it runs."""
        if self.answer.poll():
            return self._answered()
        if time.monotonic() > self.deadline:
            self._process.kill()
            self._process.join()
            return Verdict(self.mutant, "timeout")
        return None

    def _answered(self) -> Verdict:
        try:
            outcome: Outcome = self.answer.recv()
        except EOFError:  # it took the whole process down
            self._process.join()
            return Verdict(self.mutant, "killed")
        self._process.join()
        if outcome.exit_code == pytest.ExitCode.OK:
            return Verdict(self.mutant, "survived")
        if outcome.failed is None:
            raise Broken(f"pytest ended with {outcome.exit_code} without a test that failed")
        return Verdict(self.mutant, "killed", outcome.failed)


def _ended(running: list[_Trial]) -> Iterator[tuple[_Trial, Verdict]]:
    """Wait until a trial ends or is out of time, and take it out."""
    first = min((trial.deadline for trial in running), default=0.0)
    answers: list[Connection] = [trial.answer for trial in running]
    connection.wait(answers, timeout=max(0.0, first - time.monotonic()))
    for trial in list(running):
        verdict = trial.verdict()
        if verdict is not None:
            running.remove(trial)
            yield trial, verdict


class _Coverage:
    """Which tests execute a line's statement, as the clean run has seen it."""

    def __init__(self, source: str, clean: Outcome) -> None:
        self._clean = clean
        self._headers: list[range] = []
        self._in_functions: set[int] = set()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                # Defaults of arguments are made at import.
                first, last = node.body[0].lineno, node.end_lineno or 0
                self._in_functions |= set(range(first, last + 1))
            if isinstance(node, ast.stmt):
                self._headers.append(_header(node))
        self._headers.sort(key=len)

    def tests(self, line: int) -> list[str]:
        """What runs at import, as a constant does, is judged by every test."""
        if line not in self._in_functions:
            return list(self._clean.lines)
        header = next(header for header in self._headers if line in header)
        lines = self._clean.lines.items()
        return [test for test, executed in lines if not executed.isdisjoint(header)]


def _header(node: ast.stmt) -> range:
    """The lines of a statement; of a compound one, those before its body."""
    body: list[ast.stmt] | None = getattr(node, "body", None)
    end = body[0].lineno if body else (node.end_lineno or node.lineno) + 1
    return range(node.lineno, max(end, node.lineno + 1))
