"""The clone of the repository that Pipedream keeps in step with a project.

Folders of workflows are made by Pipedream alone: a folder that a script adds becomes no workflow,
and one that it removes may delete one. Nothing here makes or removes a folder. The format is that
of repositories that are in use (``<slug>-p_<id>/workflow.yaml`` and one folder a step).
"""

from __future__ import annotations

import difflib
import re
import subprocess
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from deploy.local.manifest import Project
from deploy.pipedream.build import ENTRY, Build, Bundle
from shared.errors import ConfigurationError, TradingLoopError

BRANCH = "production"
_FOLDER = re.compile(r"^(?P<slug>.+)-(?P<id>p_[A-Za-z0-9]+)$")


class GitFailed(TradingLoopError):
    """A git command did not work; the text is git's own."""


@dataclass(frozen=True)
class Target:
    """A workflow's folder in the clone.

    Attributes:
        workflow_id: ``p_...``, as in the folder's name.
        lambda_timeout: the timeout in seconds that ``workflow.yaml`` tells, where it does.
    """

    workflow: str
    workflow_id: str
    folder: str
    namespaces: tuple[str, ...]
    lambda_timeout: int | None


@dataclass(frozen=True)
class Change:
    """One file that a push would change. ``before`` is ``None`` where there is none yet."""

    bundle: Bundle
    path: str
    before: str | None

    @property
    def added(self) -> int:
        """How many lines are new."""
        return sum(line.startswith("+") for line in self._body())

    @property
    def removed(self) -> int:
        """How many lines go."""
        return sum(line.startswith("-") for line in self._body())

    def diff(self) -> str:
        """The difference, for a person."""
        return "".join(self._lines())

    def _body(self) -> Iterable[str]:
        return (line for line in self._lines() if not line.startswith(("+++", "---")))

    def _lines(self) -> list[str]:
        before = (self.before or "").splitlines(keepends=True)
        after = self.bundle.text.splitlines(keepends=True)
        return list(difflib.unified_diff(before, after, self.path, self.path))


class Clone:
    """A work tree of the synced repository, on the branch that is deployed.

    Raises:
        ConfigurationError: it is no clone, is on another branch, has changes of its own, or is of
            another project.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / ".git").exists():
            raise ConfigurationError(f"{folder}: expected a clone of the synced repository")
        branch = self._git("rev-parse", "--abbrev-ref", "HEAD").strip()
        if branch != BRANCH:
            raise ConfigurationError(f"{folder}: expected the branch {BRANCH}, was {branch}")
        if dirty := self._git("status", "--porcelain").strip():
            raise ConfigurationError(
                f"{folder}: expected a clean work tree, was changed: {' '.join(dirty.split())}"
            )

    @property
    def head(self) -> str:
        """The commit that the work tree shows."""
        return self._git("rev-parse", "HEAD").strip()

    def pull(self) -> None:
        """Take over what was edited in the UI meanwhile. Raises ``GitFailed`` on a conflict."""
        self._git("pull", "--quiet", "--ff-only", "origin", BRANCH)

    def targets(self, project: Project, pod: str | None = None) -> dict[str, Target]:
        """The folder of every workflow of ours.

        Args:
            pod: whose copies of the workflows; by default the workflows themselves.

        Raises:
            ConfigurationError: names everything that does not fit: a workflow without a folder,
                two folders for one, steps that the UI names otherwise.
        """
        found = {w.name: self._folders_of(w.name, pod) for w in project.workflows}
        problems: list[str] = []
        targets: dict[str, Target] = {}
        for workflow in project.workflows:
            folders = found[workflow.name]
            if len(folders) != 1:
                what = "none" if not folders else ", ".join(folders)
                name = slug_of(workflow.name, pod)
                problems.append(f"{name}: expected one folder of this name, was {what}")
                continue
            target = self._target(workflow.name, folders[0])
            expected = tuple(step.namespace for step in workflow.steps)
            if target.namespaces != expected:
                problems.append(
                    f"{folders[0]}: steps: expected {', '.join(expected)}, "
                    f"was {', '.join(target.namespaces) or 'none'}"
                )
            targets[workflow.name] = target
        if problems:
            raise ConfigurationError(
                f"{self.folder}: is this the project's repository? " + "; ".join(problems)
            )
        return targets

    def changes(self, built: Build, targets: Mapping[str, Target]) -> list[Change]:
        """What the bundles would change."""
        found = []
        for one in built.bundles:
            path = f"{targets[one.workflow].folder}/{one.namespace}/{ENTRY}"
            file = self.folder / path
            before = file.read_bytes().decode("utf-8", "replace") if file.is_file() else None
            if before != one.text:
                found.append(Change(one, path, before))
        return found

    def write(self, changes: Iterable[Change]) -> None:
        """Put the bundles into their folders, which must be there."""
        for change in changes:
            path = self.folder / change.path
            if not path.parent.is_dir():
                raise ConfigurationError(
                    f"{path.parent}: expected a folder that Pipedream has made; add the step in "
                    "the UI and merge it first"
                )
            path.write_bytes(change.bundle.text.encode())

    def put_back(self, entries: Mapping[str, bytes]) -> bool:
        """Write earlier code of steps that are still there; whether anything changed."""
        changed = False
        for path, text in entries.items():
            file = self.folder / path
            if file.is_file() and file.read_bytes() != text:
                file.write_bytes(text)
                changed = True
        return changed

    def commit(self, message: str) -> str:
        """Commit what was written; returns the commit."""
        self._git("add", "--all", "--", f":(glob)*/*/{ENTRY}")
        self._git("commit", "--quiet", "--message", message)
        return self.head

    def push(self) -> None:
        """Deploy: what arrives on the branch goes live. Raises ``GitFailed`` if refused."""
        self._git("push", "--quiet", "origin", f"HEAD:{BRANCH}")

    def undo(self, commit: str) -> None:
        """Go back to ``commit``, after a push that was refused."""
        self._git("reset", "--quiet", "--hard", commit)

    def entries_of(self, commit: str, folders: Collection[str]) -> dict[str, bytes]:
        """Every step's code as it was at ``commit``, by path; of some ``folders`` only."""
        listed = self._git("ls-tree", "-r", "--name-only", commit).splitlines()
        return {
            path: self._git("show", f"{commit}:{path}").encode()
            for path in listed
            if path.endswith(f"/{ENTRY}") and path.partition("/")[0] in folders
        }

    def history(self) -> list[tuple[str, str]]:
        """Commits of the branch with their subjects, newest first."""
        lines = self._git("log", "--format=%H %s", "--max-count=200").splitlines()
        return [(line[:40], line[41:]) for line in lines]

    def _folders_of(self, workflow: str, pod: str | None) -> list[str]:
        folders = (path for path in sorted(self.folder.iterdir()) if path.is_dir())
        return [path.name for path in folders if _slug(path.name) == slug_of(workflow, pod)]

    def _target(self, workflow: str, folder: str) -> Target:
        path = self.folder / folder / "workflow.yaml"
        try:
            described = yaml.safe_load(path.read_text(encoding="utf-8"))
            steps = described["steps"] or []
            namespaces = tuple(str(step["namespace"]) for step in steps)
            timeout = (described.get("settings") or {}).get("lambda_timeout")
        except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
            raise ConfigurationError(
                f"{path}: expected a workflow's description: {type(error).__name__}"
            ) from None
        match = _FOLDER.match(folder)
        assert match is not None
        return Target(workflow, match["id"], folder, namespaces, timeout)

    def _git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(self.folder), *arguments], capture_output=True, text=True, check=False
        )
        if done.returncode:
            said = " ".join(done.stderr.split())[-400:]
            raise GitFailed(f"git {arguments[0]}: {said or f'exit code {done.returncode}'}")
        return done.stdout


def slug_of(workflow: str, pod: str | None) -> str:
    """What a workflow is called, with ``_`` for ``-``; a pod's copy has the pod's name behind."""
    return workflow if pod is None else f"{workflow}_{pod.replace('-', '_')}"


def _slug(folder: str) -> str | None:
    """``trading-loop-p_Ab1`` is the folder of ``trading_loop``."""
    match = _FOLDER.match(folder)
    return None if match is None else re.sub(r"[^a-z0-9]+", "_", match["slug"].lower())
