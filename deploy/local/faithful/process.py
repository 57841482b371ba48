"""A process that runs the steps of a workflow: started, spoken to, measured, ended."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

GONE = "the process has ended"
_WORKER = Path(__file__).with_name("worker.py")
_LOOK_EVERY_S = 0.02
_PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024
_STOP_S = 2


@dataclass(eq=False)
class StepProcess:
    """A worker. ``used_at_ms`` is the loop's time, not the machine's."""

    popen: subprocess.Popen[bytes]
    connection: socket.socket
    scratch: tempfile.TemporaryDirectory[str]
    used_at_ms: int
    _buffer: bytes = field(default=b"", repr=False)

    @classmethod
    def start(cls, python: Path, variables: Mapping[str, str], now_ms: int) -> StepProcess:
        """A new process whose environment is ``variables`` and what no process does without."""
        ours, theirs = socket.socketpair()
        scratch = tempfile.TemporaryDirectory(prefix="step-")
        with theirs:
            popen = subprocess.Popen(
                [str(python), "-I", str(_WORKER), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                env=_bare(scratch.name) | dict(variables),
                cwd=scratch.name,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        return cls(popen, ours, scratch, now_ms)

    def send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # reading sees its end
            self.connection.settimeout(None)
            self.connection.sendall(json.dumps(message).encode() + b"\n")

    def receive(self, look: Callable[[], str | None]) -> dict[str, Any] | str:
        """The next message, or why there is none.

        Args:
            look: asked every now and then; what it returns ends the waiting.
        """
        self.connection.settimeout(_LOOK_EVERY_S)
        while b"\n" not in self._buffer:
            try:
                part = self.connection.recv(1 << 20)
            except TimeoutError:
                if (reason := look()) is not None:
                    return reason
                continue
            except ConnectionResetError:
                part = b""
            if not part:
                return GONE
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def resident_kib(self) -> int:
        """0 where the system does not tell: there no memory is limited."""
        try:
            statm = Path(f"/proc/{self.popen.pid}/statm").read_text()
            return int(statm.split()[1]) * _PAGE_KIB
        except (OSError, IndexError):
            return 0

    def kill(self) -> None:
        """End it at whatever line it is in."""
        self.popen.kill()
        self.popen.wait()

    def let_go(self) -> None:
        """Tell it that nothing more will come; it ends then by itself."""
        self.connection.close()

    def stop(self) -> None:
        """Wait for its end, or bring it about, and remove its files."""
        self.let_go()
        try:
            self.popen.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self.scratch.cleanup()


def _bare(home: str) -> dict[str, str]:
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": home, "TMPDIR": home, "LANG": "C.UTF-8"}
