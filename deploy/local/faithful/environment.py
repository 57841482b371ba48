"""A Python made only of the runtime's pins, as a step has it on Pipedream."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from shared.errors import ConfigurationError

_READY = ".ready"


def interpreter(lock: Path, folder: Path, say: Callable[[str], None]) -> Path:
    """The interpreter of the environment that ``lock`` describes; made once, then found again.

    Args:
        lock: ``requirements/runtime.txt``, with versions and hashes.
        folder: where environments are kept, one for each lock.
        say: is told that a minute of work begins.

    Raises:
        ConfigurationError: this is no Python 3.12, or a pin cannot be installed; what pip said is
            in it. Nothing half made is left to be used.
    """
    if sys.version_info[:2] != (3, 12):
        raise ConfigurationError(
            f"python: expected 3.12, which Pipedream runs, was {sys.version.split()[0]}"
        )
    digest = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()[:12]
    home = folder / f"python-{digest}"
    python = home / "bin" / "python"
    if not (home / _READY).exists():
        say("Making a Python of the pinned packages only; this takes about a minute, once.")
        _run([sys.executable, "-m", "venv", "--clear", str(home)], lock)
        _run([str(python), "-m", "pip", "install", "--quiet", "--require-hashes",
              "--disable-pip-version-check", "--requirement", str(lock)], lock)  # fmt: skip
        (home / _READY).touch()
    return python


def _run(command: list[str], lock: Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())[-600:]
        raise ConfigurationError(f"{lock}: expected pins that can be installed: {said}")


def main() -> None:
    """Make the environment ahead of its first use, as an image does."""
    from deploy.local.servers import DEFAULT_FOLDER, PROJECT

    print(interpreter(PROJECT / "requirements" / "runtime.txt", DEFAULT_FOLDER, print))


if __name__ == "__main__":
    main()
