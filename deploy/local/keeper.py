"""Keeps one PostgreSQL alive for as long as any process uses it: a small process of its own.

Every user of the server holds a shared lock on the file ``users``. The keeper waits for the
exclusive one. The kernel gives it to the keeper when the last user is gone, whether that one said
goodbye or was killed; then the keeper stops the server and ends.

``python -m deploy.local.keeper FOLDER COMMAND...`` returns at once; the keeper goes on.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from deploy.local import processes

USERS = "users"
ADDRESS = "server.json"
LOG = "server.log"
_STOP_TIMEOUT_S = 15.0
_PR_SET_PDEATHSIG = 1


def keep(folder: Path, port: int, command: Sequence[str]) -> None:
    """Run ``command``, and stop it when nobody holds ``users`` any more."""
    with (folder / LOG).open("wb") as log:
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            preexec_fn=_before_start(),
        )
    # A killed server must not stay behind as a zombie: the next one would take it for alive.
    threading.Thread(target=server.wait, daemon=True).start()
    address = folder / ADDRESS
    address.write_text(json.dumps({"port": port, "pid": server.pid}))
    with (folder / USERS).open("a") as users:
        fcntl.flock(users, fcntl.LOCK_EX)
        processes.stop(server, signal.SIGINT, _STOP_TIMEOUT_S)  # PostgreSQL's "fast" shutdown
        if address.exists() and json.loads(address.read_text())["pid"] == server.pid:
            address.unlink()


def _before_start() -> Callable[[], None]:
    """Have the child step down from root and, on Linux, end when the keeper is killed."""
    step_down = processes.unprivileged()
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def prepare() -> None:
        if step_down is not None:
            step_down()
        if libc is not None:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)

    return prepare


def main(arguments: Sequence[str]) -> None:
    folder, port, *command = arguments
    if os.fork():
        os._exit(0)
    keep(Path(folder), int(port), command)


if __name__ == "__main__":
    main(sys.argv[1:])
