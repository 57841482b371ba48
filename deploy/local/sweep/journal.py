"""What was swept of one build, kept on disk: a long sweep goes on where it was stopped.

A journal belongs to the exact sources that were swept. Any change of them begins another one.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

from deploy.local.servers import DEFAULT_FOLDER, PROJECT

SWEPT = ("shared", "steps", "workflows", "deploy", "pipedream.yaml", "requirements/runtime.txt")
"""What a result depends on."""

_KEPT = ("stage", "result")


def build() -> str | None:
    """A digest of the sources under sweep, or ``None`` where they are not as committed."""
    try:
        if _git("status", "--porcelain", "--", *SWEPT):
            return None
        trees = _git("ls-tree", "HEAD", "--", *SWEPT)
    except (OSError, subprocess.CalledProcessError):
        return None
    return hashlib.sha256(trees.encode()).hexdigest()[:16]


class Journal:
    """The messages of earlier sweeps of this build, and those of the present one.

    Attributes:
        earlier: what was there before.
    """

    def __init__(self, path: Path | None, earlier: list[dict[str, Any]]) -> None:
        self._path = path
        self.earlier = earlier

    @classmethod
    def open(cls, *, fresh: bool, folder: Path = DEFAULT_FOLDER) -> Journal:
        """The journal of this build; of sources that are not committed none is kept."""
        name = build()
        if name is None:
            return cls(None, [])
        path = folder / "sweep" / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        if fresh:
            path.unlink(missing_ok=True)
        return cls(path, _read(path))

    @property
    def done(self) -> frozenset[str]:
        """The keys of the cases that need not be run again."""
        return frozenset(m["key"] for m in self.earlier if m["kind"] == "result")

    @property
    def seconds(self) -> float:
        """How long the earlier sweeps took together."""
        return sum(m["seconds"] for m in self.earlier if m["kind"] == "ended")

    def add(self, message: dict[str, Any]) -> None:
        """Keep a message of ``campaign.Worker``."""
        if message["kind"] in _KEPT:
            self._write(message)

    def end(self, seconds: float) -> None:
        self._write({"kind": "ended", "seconds": seconds})

    def _write(self, message: dict[str, Any]) -> None:
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(message) + "\n")


def _read(path: Path) -> list[dict[str, Any]]:
    """Whole lines only: the last one may have been cut by a kill."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(PROJECT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
