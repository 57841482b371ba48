"""Child processes that end with their parent, and servers that refuse to run as root."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import socket
import subprocess
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import IO

LOOPBACK = "127.0.0.1"
_UNPRIVILEGED_ID = 1000  # the uid that root appears as inside its own user namespace


def free_port() -> int:
    """A TCP port of the loopback interface that nothing listens on at this moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


class Watchdog:
    """Signals ``pid`` when this process dies, however it dies.

    A shell waits on a pipe that only this process holds: at the end of this process the kernel
    closes the pipe, the shell reads its end and sends the signal. ``release`` ends the watch.
    """

    def __init__(self, pid: int, signal_name: str) -> None:
        script = f"read -r line && exit 0; kill -{signal_name} {pid}"
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def release(self) -> None:
        """Stop watching, without a signal."""
        pipe = self._shell.stdin
        if pipe is None or pipe.closed:
            return
        try:
            pipe.write(b"released\n")
            pipe.close()
        except BrokenPipeError:  # the shell has been killed from outside
            pass
        self._shell.wait()


def spawn(
    command: Sequence[str | Path], *, log: IO[bytes], folder: Path, text: str | None = None
) -> subprocess.Popen[bytes]:
    """Start a server in its own session, so that Ctrl-C reaches this process alone.

    Args:
        log: where its standard output and error go.
        text: what it reads on its standard input.
    """
    process = subprocess.Popen(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL if text is None else subprocess.PIPE,
        stdout=log,
        stderr=subprocess.STDOUT,
        cwd=folder,
        start_new_session=True,
        preexec_fn=unprivileged(),
    )
    if text is not None and process.stdin is not None:
        process.stdin.write(text.encode())
        process.stdin.close()
    return process


def stop(process: subprocess.Popen[bytes], signal_number: int, timeout_s: float) -> None:
    """Signal ``process`` and wait; kill it if it has not ended after ``timeout_s``."""
    if process.poll() is not None:
        return
    process.send_signal(signal_number)
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def is_alive(pid: int) -> bool:
    """Whether a process of that id exists and has not ended."""
    status = Path(f"/proc/{pid}/stat")
    try:
        os.kill(pid, 0)
        return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


@cache
def unprivileged() -> Callable[[], None] | None:
    """What a child does before its program starts, so that it does not run as root.

    ``None`` for an ordinary user. Root enters a user namespace in which it is uid 1000 (no change
    to the system, and its own files stay its own); where the kernel forbids that, it becomes
    ``nobody``.
    """
    if os.geteuid() != 0:
        return None
    return _enter_namespace if _namespaces_work() else _become_nobody


def own(folder: Path) -> None:
    """Give ``folder`` to the user that ``unprivileged`` children run as."""
    if unprivileged() is not _become_nobody:
        return
    account = pwd.getpwnam("nobody")
    for path in (folder, *folder.rglob("*")):
        shutil.chown(path, account.pw_uid, account.pw_gid)


def describe(command: Sequence[str | Path]) -> str:
    """The command line as a person would type it."""
    return shlex.join(str(part) for part in command)


def _namespaces_work() -> bool:
    try:
        result = subprocess.run(["/bin/sh", "-c", ":"], preexec_fn=_enter_namespace, check=False)
    except subprocess.SubprocessError:  # raised for an exception inside preexec_fn
        return False
    return result.returncode == 0


def _enter_namespace() -> None:
    os.unshare(os.CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{_UNPRIVILEGED_ID} 0 1")
    Path("/proc/self/gid_map").write_text(f"{_UNPRIVILEGED_ID} 0 1")


def _become_nobody() -> None:
    account = pwd.getpwnam("nobody")
    os.setgroups([])
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
