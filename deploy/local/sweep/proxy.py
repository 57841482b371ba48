"""A counting TCP proxy: every external call of a process, numbered, and one of them disturbed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from deploy.local.processes import LOOPBACK
from deploy.local.sweep import protocols
from deploy.local.sweep.faults import Fault, Mode, Site
from deploy.local.sweep.protocols import Ended

_BUFFER_BYTES = 1 << 22
_MAX_SILENCE_S = 20.0
_CANCELLED = "canceling statement due to statement timeout"
# The server itself fails the statement, so that its transaction is really in the failed state.
_FAIL = f"DO $$BEGIN RAISE EXCEPTION USING ERRCODE = '57014', MESSAGE = '{_CANCELLED}'; END$$"

Policy = Callable[[Site], Mode | None]
Gate = Callable[[Site], Awaitable[None]]
type Reader = asyncio.StreamReader
type Writer = asyncio.StreamWriter


def undisturbed(site: Site) -> Mode | None:
    """The policy of a fault-free run."""
    return None


def at(*faults: Fault) -> Policy:
    """The policy that strikes at the given sites, each once."""
    by_site = {fault.site: fault.mode for fault in faults}
    return by_site.get


@dataclass(frozen=True)
class Upstreams:
    """Host and port of the servers behind the proxy."""

    sql: tuple[str, int]
    redis: tuple[str, int]
    http: tuple[str, int]


class Lane:
    """The three addresses that one process under test knows, and what went through them.

    Attributes:
        upstreams: the servers behind; may change while nothing is connected.
        calls: the sites in the order of their arrival since ``begin``.
        fired: the faults that struck since ``begin``.
    """

    def __init__(self, upstreams: Upstreams) -> None:
        self.upstreams = upstreams
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()
        self._late: list[tuple[str, bytes]] = []
        self._seen: Counter[str] = Counter()
        self._policy: Policy = undisturbed
        self._gate: Gate | None = None
        self.pid: int | None = None
        self.ports: dict[str, int] = {}
        self.calls: list[Site] = []
        self.fired: list[Fault] = []

    async def start(self) -> None:
        for name, serve in (
            ("sql", self._serve_sql),
            ("redis", self._serve_redis),
            ("http", self._serve_http),
        ):
            server = await asyncio.start_server(
                self._tracked(serve), LOOPBACK, 0, limit=_BUFFER_BYTES
            )
            self._servers.append(server)
            self.ports[name] = server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
        await self.settle()

    def begin(self, policy: Policy = undisturbed, gate: Gate | None = None) -> None:
        """Count from 1 again, under ``policy``. ``gate`` may hold a call back before its fate."""
        self._policy, self._gate = policy, gate
        self._seen.clear()
        self.calls, self.fired = [], []

    async def settle(self) -> None:
        """After the process has ended: until every server has noticed, and late requests arrived.

        PostgreSQL undoes an open transaction when it sees the end of the connection; nothing may
        look at the ledger before.
        """
        while self._connections:
            await asyncio.wait(self._connections)
        await self.deliver_late()

    def kill(self) -> None:
        """SIGKILL the process, if it lives."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def _tracked(
        self, serve: Callable[[Reader, Writer, Reader, Writer], Awaitable[None]]
    ) -> Callable[[Reader, Writer], Awaitable[None]]:
        protocol = serve.__name__.removeprefix("_serve_")

        async def connected(reader: Reader, writer: Writer) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._connections.add(task)
            try:
                upstream = await self._open(protocol)
                try:
                    with contextlib.suppress(Ended, ConnectionError):
                        await serve(reader, writer, *upstream)
                finally:
                    await _leave(*upstream)
            finally:
                writer.transport.abort()
                self._connections.discard(task)

        return connected

    async def _open(self, protocol: str) -> tuple[Reader, Writer]:
        host, port = getattr(self.upstreams, protocol)
        return await asyncio.open_connection(host, port, limit=_BUFFER_BYTES)

    async def _arrive(self, name: str) -> Mode | None:
        self._seen[name] += 1
        site = Site(name, self._seen[name])
        self.calls.append(site)
        if self._gate is not None:
            await self._gate(site)
        mode = self._policy(site)
        if mode is not None:
            self.fired.append(Fault(site, mode))
        return mode

    async def _call(
        self,
        name: str,
        reader: Reader,
        writer: Writer,
        forward: Callable[[], Awaitable[bytes]],
        *,
        time_out: Callable[[], Awaitable[bytes]] | None = None,
        hold: Callable[[], None] | None = None,
    ) -> None:
        """One call and its fate.

        Args:
            forward: has the effect and returns the answer.
            time_out: what a time-out before the effect answers; by default the client hears
                nothing.
            hold: keeps the request, to be delivered late.

        Raises:
            Ended: the connection is to be closed.
        """
        mode = await self._arrive(name)
        match mode:
            case Mode.KILL_BEFORE:
                self.kill()
                raise Ended
            case Mode.EXCEPTION_BEFORE:
                raise Ended
            case Mode.TIMEOUT_BEFORE if time_out is None:
                await _silence(reader)
            case Mode.TIMEOUT_BEFORE if time_out is not None:
                writer.write(await time_out())
                return await writer.drain()
            case Mode.LATE_ARRIVAL if hold is not None:
                hold()
                await _silence(reader)
        answer = await forward()
        match mode:
            case Mode.KILL_AFTER_EFFECT:
                self.kill()
                raise Ended
            case Mode.EXCEPTION_AFTER:
                raise Ended
            case Mode.TIMEOUT_AFTER:
                await _silence(reader)
        writer.write(answer)
        await writer.drain()
        if mode is Mode.KILL_AFTER_ANSWER:
            self.kill()
        return None

    # PostgreSQL

    async def _serve_sql(
        self, reader: Reader, writer: Writer, server: Reader, to_server: Writer
    ) -> None:
        startup = await protocols.read_startup(reader)
        while protocols.wants_encryption(startup):
            writer.write(b"N")
            startup = await protocols.read_startup(reader)
        if protocols.is_cancel(startup):
            to_server.write(startup)
            return

        async def refused() -> bytes:
            return protocols.error("57P03", "the database system is starting up")

        async def log_in() -> bytes:
            to_server.write(startup)
            return await _authenticate(reader, writer, server, to_server)

        await self._call("sql connect", reader, writer, log_in, time_out=refused)
        await self._statements(reader, writer, server, to_server)

    async def _statements(
        self, reader: Reader, writer: Writer, server: Reader, to_server: Writer
    ) -> None:
        written: list[str] = []  # by the transaction so far: what its COMMIT is the commit of
        while True:
            message = await protocols.read_message(reader)
            if message[:1] == b"X":
                to_server.write(message)
                return
            name = protocols.sql_name(message)
            if name == "BEGIN":
                written.clear()
            elif name.startswith(("INSERT", "UPDATE", "DELETE")) and name not in written:
                written.append(name)
            elif name == "COMMIT" and written:
                name = f"COMMIT ({', '.join(written)})"

            async def ask(statement: bytes = message) -> bytes:
                to_server.write(statement)
                return await protocols.read_until_ready(server)

            async def cancelled(kind: str = name.partition(" ")[0]) -> bytes:
                if kind not in ("COMMIT", "ROLLBACK"):
                    return await ask(protocols.query(_FAIL))
                await ask(protocols.query("ROLLBACK"))
                return protocols.error("57014", _CANCELLED) + protocols.ready("I")

            await self._call(f"sql {name}", reader, writer, ask, time_out=cancelled)

    # Redis

    async def _serve_redis(
        self, reader: Reader, writer: Writer, server: Reader, to_server: Writer
    ) -> None:
        while True:
            command = await protocols.read_command(reader)

            async def ask(text: bytes = command) -> bytes:
                to_server.write(text)
                return await protocols.read_reply(server)

            await self._call(f"redis {protocols.redis_name(command)}", reader, writer, ask)

    # HTTP

    async def _serve_http(
        self, reader: Reader, writer: Writer, server: Reader, to_server: Writer
    ) -> None:
        while True:
            request = await protocols.read_http(reader)
            name = f"http {protocols.http_name(request)}"

            service = name.split(" ")[2]

            async def ask(service: str = service, text: bytes = request) -> bytes:
                to_server.write(text)
                answer = await protocols.read_http(server)
                await self.deliver_late(service)
                return answer

            def hold(service: str = service, text: bytes = request) -> None:
                self._late.append((service, text))

            await self._call(name, reader, writer, ask, hold=hold)

    async def deliver_late(self, service: str | None = None) -> None:
        """Send what was held back for ``service``, or for all, and drop the answers."""
        due = [late for late in self._late if service in (None, late[0])]
        self._late = [late for late in self._late if late not in due]
        for _, request in due:
            server, to_server = await self._open("http")
            to_server.write(request)
            with contextlib.suppress(Ended):
                await protocols.read_http(server)
            await _leave(server, to_server)


async def _authenticate(reader: Reader, writer: Writer, server: Reader, to_server: Writer) -> bytes:
    """Pass the log-in to and fro; returns its last part, from "ok" to ReadyForQuery."""
    while True:
        message = await protocols.read_message(server)
        kind = message[:1]
        if kind == b"R" and message[5:9] == b"\0\0\0\0":
            return message + await protocols.read_until_ready(server)
        if kind == b"E":
            writer.write(message)
            await writer.drain()
            raise Ended
        writer.write(message)
        if kind == b"R" and message[5:9] != b"\0\0\0\x0c":  # 12: SASL's last word needs no reply
            to_server.write(await protocols.read_message(reader))


async def _silence(reader: Reader) -> None:
    """Until the client gives up, and always ``Ended``."""
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(_MAX_SILENCE_S):
            while await reader.read(65_536):
                pass
    raise Ended


async def _leave(server: Reader, to_server: Writer) -> None:
    """Close a connection to a server, and wait until the server has closed it, too."""
    with contextlib.suppress(ConnectionError, OSError, TimeoutError):
        if to_server.can_write_eof():
            to_server.write_eof()
        async with asyncio.timeout(_MAX_SILENCE_S):
            while await server.read(65_536):
                pass
    to_server.close()
