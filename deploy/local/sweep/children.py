"""The harness's end of the processes under test: fork one, give it a run, notice its death."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local.servers import PROJECT
from deploy.local.sweep.zygote import ChildSpec
from shared.errors import TradingLoopError

_START_TIMEOUT_S = 60.0
_FORK_TIMEOUT_S = 10.0
_RUN_TIMEOUT_S = 60.0  # what the platform gives a cron run


class ZygoteFailed(TradingLoopError):
    """The warm process did not start or has ended."""


@dataclass(frozen=True)
class RunEnd:
    """How a run ended.

    Attributes:
        alive: whether its process outlived it.
        failed: step and error, where a step raised.
        exit: the reason that it gave to ``pd.flow.exit``, where it did.
    """

    alive: bool
    failed: str | None = None
    exit: str | None = None

    @property
    def worked(self) -> bool:
        """Whether it ran to its end and was not turned away."""
        return self.alive and self.failed is None and self.exit is None


class Child:
    """A process under test."""

    def __init__(
        self, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.pid = pid
        self.alive = True
        self._reader = reader
        self._writer = writer

    async def run(self, order: dict[str, Any]) -> RunEnd:
        """Let it work on ``order``; a run that takes longer than the platform allows is killed."""
        try:
            self._writer.write(json.dumps(order).encode() + b"\n")
            async with asyncio.timeout(_RUN_TIMEOUT_S):
                line = await self._reader.readline()
        except TimeoutError:
            os.kill(self.pid, 9)
            line = b""
        except ConnectionError:
            line = b""
        if not line:
            await self.end()
            return RunEnd(alive=False)
        answer = json.loads(line)
        return RunEnd(alive=True, failed=answer["failed"], exit=answer["exit"])

    async def end(self) -> None:
        """Close its line, at which it exits, and wait until it has."""
        self.alive = False
        self._writer.close()
        while _exists(self.pid):
            await asyncio.sleep(0.0005)


class Nursery:
    """Owns the zygote and the socket on which its children report.

    Args:
        folder: where the socket lies; short, since a socket's path may have 107 characters.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "children"
        self._arrived: asyncio.Queue[Child] = asyncio.Queue()
        self._process: asyncio.subprocess.Process | None = None
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Raises ``ZygoteFailed``."""
        self._server = await asyncio.start_unix_server(self._greet, self._path)
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "deploy.local.sweep.zygote"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=PROJECT,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(_START_TIMEOUT_S):
            if await self._process.stdout.readline() != b"ready\n":
                raise ZygoteFailed("zygote: expected to become ready, ended")

    async def stop(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            await self._process.wait()
        if self._server is not None:
            self._server.close()

    async def fork(self, variables: dict[str, str], program: str = "workflows") -> Child:
        """A new child. One at a time: the next to report is the one that was asked for."""
        assert self._process is not None and self._process.stdin is not None
        spec = ChildSpec(variables, str(self._path), program)
        self._process.stdin.write(spec.to_json().encode() + b"\n")
        async with asyncio.timeout(_FORK_TIMEOUT_S):
            return await self._arrived.get()

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pid = int(await reader.readline())
        await self._arrived.put(Child(pid, reader, writer))


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
