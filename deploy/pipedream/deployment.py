"""From bundles to running workflows: plan, push, check, switch on and off, and back again.

New code goes live when it arrives on the synced branch, a workflow at a time. Until every step
tells the hash of its new code, steps of two builds may meet: the ledger is held at REDUCING for
that time, and a run whose steps are of different builds stops by itself (``shared.run``).
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from deploy.local.manifest import Project
from deploy.pipedream.build import Build
from deploy.pipedream.rest import PipedreamApi
from deploy.pipedream.synced import Change, Clone, GitFailed, Target
from shared.errors import ConfigurationError, TradingLoopError
from shared.ledger import pods, state
from shared.ledger.connection import Ledger

STARTED_FIRST = ("circuit_breaker", "kill_switch", "dashboard")
STARTED_LAST = ("position_manager", "trading_loop")
_LOOK_EVERY_S = 5.0
_BUILD = re.compile(rb'^BUILD = "([0-9a-f]{12})"$', re.MULTILINE)


class DeploymentIncomplete(TradingLoopError):
    """Some steps do not run what they should; the text names each of them."""


@dataclass(frozen=True)
class Difference:
    """A step whose deployed code is not the expected one. ``found`` is ``None`` if not told."""

    workflow: str
    namespace: str
    expected: str
    found: str | None

    def __str__(self) -> str:
        found = "no hash" if self.found is None else self.found[:12]
        return f"{self.workflow}/{self.namespace}: expected {self.expected[:12]}, was {found}"


@dataclass(frozen=True)
class Plan:
    """What a push would do.

    Attributes:
        remarks: what a person should look at, and no reason not to push.
    """

    build: str
    targets: Mapping[str, Target]
    changes: Sequence[Change]
    remarks: Sequence[str]


class Deployment:
    """One project, its clone, and the API.

    Args:
        ledger: held at REDUCING while code changes; ``None`` where none can be reached from here.
        pod: whose copies of the workflows are meant; by default the workflows themselves.
        sleep, seconds: wait, and tell the time of a clock that only goes forward.
        say: is told what happens.
    """

    def __init__(
        self,
        project: Project,
        clone: Clone,
        api: PipedreamApi,
        ledger: Ledger | None,
        *,
        pod: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
        seconds: Callable[[], float] = time.monotonic,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._project = project
        self._clone = clone
        self._api = api
        self._ledger = ledger
        self._pod = pod
        self._sleep = sleep
        self._seconds = seconds
        self._say = say

    def plan(self, built: Build) -> Plan:
        """Take over what the UI changed, and compare. Changes no file of a step."""
        self._clone.pull()
        targets = self._targets()
        return Plan(
            built.build, targets, self._clone.changes(built, targets), self._remarks(targets)
        )

    def push(self, built: Build, *, timeout_s: float) -> Plan:
        """Write, commit, push and wait until everything runs.

        Raises:
            GitFailed: the push was refused; nothing is left in the clone.
            DeploymentIncomplete: after ``timeout_s`` some step runs something else. Trading stays
                at REDUCING until a person re-arms or a later push of the same build succeeds.
        """
        plan = self.plan(built)
        expected = {f"{one.workflow}/{one.namespace}": one.sha256 for one in built.bundles}
        with self._paused(built.build):
            if plan.changes:
                self._deploy(plan.changes, f"Deploy build {built.build}")
            self.wait(plan.targets, expected, timeout_s=timeout_s)
        return plan

    def check(self, built: Build) -> list[Difference]:
        """Which steps do not run the code of ``built``."""
        targets = self._targets()
        expected = {f"{one.workflow}/{one.namespace}": one.sha256 for one in built.bundles}
        return self._differences(targets, expected)

    def wait(
        self, targets: Mapping[str, Target], expected: Mapping[str, str], *, timeout_s: float
    ) -> None:
        """Until every step tells the expected hash. Raises ``DeploymentIncomplete``."""
        started, before = self._seconds(), -1
        while differences := self._differences(targets, expected):
            if self._seconds() - started > timeout_s:
                listed = "; ".join(map(str, differences))
                raise DeploymentIncomplete(
                    f"after {timeout_s:g} s: {listed}. The project's Changelog page tells why a "
                    "merge failed; trading stays at REDUCING"
                )
            if len(differences) != before:
                self._say(f"{len(differences)} steps still run other code")
                before = len(differences)
            self._sleep(_LOOK_EVERY_S)
        self._say("Every step runs the new code.")

    def activate(self) -> None:
        """Switch everything on: the breaker first, the loop last."""
        self._switch(start_order(self._project), active=True)

    def deactivate(self) -> None:
        """Switch everything off: the loop first, the breaker last."""
        self._switch(tuple(reversed(start_order(self._project))), active=False)

    def pods_beside(self) -> list[str]:
        """The pods whose copies a push of the originals leaves as they are."""
        if self._ledger is None or self._pod is not None:
            return []
        present = pods.of_base(self._ledger, self._ledger.pod)
        return [pod.pod for pod in present if pod.removed_at is None]

    def _targets(self) -> dict[str, Target]:
        return self._clone.targets(self._project, self._pod)

    def builds(self) -> list[tuple[str, str]]:
        """Earlier builds and their commits, newest first."""
        found: dict[str, str] = {}
        folders = {target.folder for target in self._targets().values()}
        for commit, _ in self._clone.history():
            names = set(_builds_in(self._clone.entries_of(commit, folders)))
            if len(names) == 1 and (name := names.pop()) is not None:
                found.setdefault(name, commit)
        return list(found.items())

    def rollback(self, build: str, *, timeout_s: float) -> None:
        """Deploy the code of an earlier build again, as a new commit.

        Raises:
            ConfigurationError: the branch has no such build, or it has other steps than now.
            GitFailed, DeploymentIncomplete: as for ``push``.
        """
        self._clone.pull()
        targets = self._targets()
        commit = dict(self.builds()).get(build)
        if commit is None:
            known = ", ".join(name for name, _ in self.builds()) or "none"
            raise ConfigurationError(f"build: expected one of {known}, was {build!r}")
        folders = {target.folder for target in targets.values()}
        entries = self._clone.entries_of(commit, folders)
        expected = _expected(targets, entries)
        with self._paused(build):
            self._restore(entries, f"Roll back to build {build}")
            self.wait(targets, expected, timeout_s=timeout_s)

    def _deploy(self, changes: Sequence[Change], message: str) -> None:
        before = self._clone.head
        self._clone.write(changes)
        self._clone.commit(message)
        self._push_or_undo(before)

    def _restore(self, entries: Mapping[str, bytes], message: str) -> None:
        before = self._clone.head
        if self._clone.put_back(entries):
            self._clone.commit(message)
            self._push_or_undo(before)

    def _push_or_undo(self, before: str) -> None:
        try:
            self._clone.push()
        except GitFailed:
            self._clone.undo(before)
            raise
        self._say(f"Pushed {self._clone.head[:12]}.")

    @contextmanager
    def _paused(self, build: str) -> Iterator[None]:
        """Hold the ledger at REDUCING; it is let go only where all went well."""
        if self._ledger is None:
            self._say("No ledger: trading is not paused while the code changes.")
            yield
            return
        by = f"deploy:{build}"
        state.tighten(
            self._ledger,
            "REDUCING",
            reason="code is being deployed",
            set_by=by,
            rearm_required=True,
        )
        yield
        if not state.lift(self._ledger, set_by=by, reason=f"build {build} is deployed"):
            present = state.read(self._ledger)
            self._say(f"Trading stays {present.state}: {present.reason}")

    def _differences(
        self, targets: Mapping[str, Target], expected: Mapping[str, str]
    ) -> list[Difference]:
        found: list[Difference] = []
        for target in targets.values():
            deployed = self._api.workflow(target.workflow_id)
            hashes = {step.namespace: step.code_hash for step in deployed.steps}
            for namespace in target.namespaces:
                wanted = expected[f"{target.workflow}/{namespace}"]
                if hashes.get(namespace) != wanted:
                    told = hashes.get(namespace)
                    found.append(Difference(target.workflow, namespace, wanted, told))
        return found

    def _switch(self, order: Sequence[str], *, active: bool) -> None:
        targets = self._targets()
        for name in order:
            self._api.set_active(targets[name].workflow_id, active)
            self._say(f"{name}: {'on' if active else 'off'}")

    def _remarks(self, targets: Mapping[str, Target]) -> list[str]:
        remarks = []
        for workflow in self._project.workflows:
            told, wanted = targets[workflow.name].lambda_timeout, workflow.settings.timeout_seconds
            if told is not None and told != wanted:
                remarks.append(f"{workflow.name}: timeout: expected {wanted} s, was {told} s")
        return remarks


def start_order(project: Project) -> tuple[str, ...]:
    """The workflows in the order in which they are safely started."""
    names = [workflow.name for workflow in project.workflows]
    between = [name for name in names if name not in STARTED_FIRST + STARTED_LAST]
    return tuple(name for name in (*STARTED_FIRST, *between, *STARTED_LAST) if name in names)


def _builds_in(entries: Mapping[str, bytes]) -> Iterator[str | None]:
    for text in entries.values():
        match = _BUILD.search(text)
        yield match[1].decode() if match else None


def _expected(targets: Mapping[str, Target], entries: Mapping[str, bytes]) -> dict[str, str]:
    expected = {}
    for target in targets.values():
        for namespace in target.namespaces:
            path = f"{target.folder}/{namespace}/entry.py"
            if path not in entries:
                raise ConfigurationError(
                    f"{path}: expected in the earlier build, which had no such step"
                )
            expected[f"{target.workflow}/{namespace}"] = hashlib.sha256(entries[path]).hexdigest()
    return expected
