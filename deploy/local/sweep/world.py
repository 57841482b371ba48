"""Everything around the process under test, and how it is put back to a state known before."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from aiohttp import web

from deploy.local import accounts
from deploy.local.processes import LOOPBACK
from deploy.local.servers import EmbeddedServers
from deploy.local.sweep import baselines
from deploy.local.sweep.children import Child, Nursery, RunEnd
from deploy.local.sweep.ledger_copy import LedgerCopy
from deploy.local.sweep.market import MINUTE_MS, START_MS
from deploy.local.sweep.proxy import Lane, Upstreams
from deploy.local.wire import control, snapshots
from deploy.local.wire.client import make_credentials
from deploy.local.wire.server import Wire
from deploy.local.wire.venues.base import Credentials
from shared import clock
from shared.ledger import connection, migrate
from shared.ledger.connection import Ledger

POD = "sweep"
CAPITAL = Decimal(10_000)
LANES = 2
_DATABASE = "sweep"
_CREDENTIALS = make_credentials(1)

COMMON_SETTINGS = {
    "POD": POD,
    "SYMBOLS": "BTC",
    "QUOTE_CURRENCY": "USDT",
    "CAPITAL_QUOTE": str(CAPITAL),
    "TWAP_SLICES": "3",
    "REQUEST_TIMEOUT_MS": "400",
    "AI_TIMEOUT_SECONDS": "0.8",
    "SLACK_BOT_TOKEN": "xoxb-local",
    "ENABLE_LIVE_TRADING": "false",
}
MODEL_SETTINGS = {"OPENAI_API_KEY": "sk-stand-in", "ANTHROPIC_API_KEY": "sk-ant-stand-in"}


@dataclass(frozen=True)
class Snapshot:
    """A moment of the whole world, to go back to as often as wanted."""

    now_ms: int
    ledger: str
    redis: dict[Any, tuple[Any, int]]
    wire: snapshots.Snapshot


class World:
    """Servers, wire, proxy and warm process of one worker. Time stands still between ``advance``.

    Args:
        servers: running ones to use, in a database of its own; else it starts some for itself.

    Attributes:
        lanes: one for each process that may run at once.
        ledger: a connection of the harness's own, past the proxy.
    """

    ledger: Ledger
    wire: Wire

    def __init__(self, servers: EmbeddedServers | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="sweep-")
        folder = Path(self._folder.name)
        self._owns_servers = servers is None
        self._servers = servers or EmbeddedServers(folder, durable=False)
        self._nursery = Nursery(folder)
        self._runner: web.AppRunner | None = None
        self._shared: list[Any] = []
        self._settings: dict[str, str] = {}
        self.now_ms = START_MS
        self.lanes: list[Lane] = []

    async def start(self) -> None:
        """Start everything; takes some seconds."""
        import redis

        if self._owns_servers:
            self._servers.start()
        clock.install(lambda: self.now_ms)
        url = self._servers.create_database(_DATABASE)
        self.ledger = connection.connect(url, POD)
        migrate.migrate(self.ledger)
        self.ledger.execute(baselines.SCHEMA)
        self._copy = LedgerCopy(url)
        self._copy.save("empty")
        self._redis = redis.Redis.from_url(self._servers.redis_url, retry=None)
        await self._nursery.start()
        sql, cache = urlsplit(url), urlsplit(self._servers.redis_url)
        assert sql.port is not None and cache.port is not None
        self._upstreams = Upstreams((LOOPBACK, sql.port), (LOOPBACK, cache.port), (LOOPBACK, 0))
        for _ in range(LANES):
            self.lanes.append(Lane(self._upstreams))
            await self.lanes[-1].start()

    async def stop(self) -> None:
        for lane in self.lanes:
            lane.kill()
            await lane.stop()
        await self._nursery.stop()
        if self._runner is not None:
            await self._runner.cleanup()
        connection.close_all()
        self._copy.close()
        self._redis.close()
        if self._owns_servers:
            self._servers.stop()
        else:
            self._servers.drop_database(_DATABASE)
        clock.install(None)
        self._folder.cleanup()

    async def renew(
        self, source: Any, venues: tuple[str, ...], settings: Mapping[str, str], seed: int
    ) -> None:
        """An empty, funded ledger, an empty cache, and venues that show ``source``."""
        self.now_ms = START_MS
        self._copy.load("empty")
        self._redis.flushdb()
        shares = accounts.equal_shares(CAPITAL, venues, "USDT")
        accounts.fund(self.ledger, shares)
        self.wire = Wire(
            source,
            seed=seed,
            balances=shares,
            credentials={name: Credentials(**keys) for name, keys in _CREDENTIALS.items()},
            now_ms=self.now_ms,
        )
        self._settings = {"VENUES": ",".join(venues)} | dict(settings)
        for name in venues:
            self._settings[f"{name.upper()}_API_KEY"] = _CREDENTIALS[name]["api_key"]
            self._settings[f"{name.upper()}_SECRET"] = _CREDENTIALS[name]["secret"]
        await self._serve_wire()

    async def _serve_wire(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        self._runner = web.AppRunner(self.wire.app(), access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, LOOPBACK, 0).start()
        port = self._runner.addresses[0][1]
        for lane in self.lanes:
            lane.upstreams = Upstreams(self._upstreams.sql, self._upstreams.redis, (LOOPBACK, port))

    # Going back

    def save(self, name: str) -> Snapshot:
        """Remember this moment under ``name``; nothing may be running."""
        self._copy.save(name)
        kept: dict[Any, tuple[Any, int]] = {}
        for key in self._redis.keys("*"):
            kept[key] = (self._redis.dump(key), max(0, self._redis.pttl(key)))
        return Snapshot(self.now_ms, name, kept, self.wire.snapshot())

    def load(self, snapshot: Snapshot) -> None:
        """Go back to ``snapshot``, which was taken of this very market."""
        self.now_ms = snapshot.now_ms
        self.wire.restore(snapshot.wire)
        self._copy.load(snapshot.ledger)
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.flushdb()
        for key, (value, ttl_ms) in snapshot.redis.items():
            pipeline.restore(key, ttl_ms, value)
        pipeline.execute()

    # Time and runs

    def advance(self, minute: int) -> None:
        """To the start of ``minute`` after the beginning; resting orders are matched."""
        self.now_ms = START_MS + minute * MINUTE_MS
        self.wire.advance(self.now_ms)

    async def fork(self, lane: Lane, program: str = "workflows") -> Child:
        """A new process whose every connection leads through ``lane``."""
        ports = lane.ports
        addresses = {
            "DATABASE_URL": _through(self._servers.database_url(_DATABASE), ports["sql"]),
            "REDIS_URL": _through(self._servers.redis_url, ports["redis"]),
            "SIMULATED_WIRE_URL": f"http://{LOOPBACK}:{ports['http']}",
        }
        child = await self._nursery.fork(COMMON_SETTINGS | self._settings | addresses, program)
        lane.pid = child.pid
        return child

    async def run(
        self, lane: Lane, child: Child, workflow: str, *, at_ms: int | None = None
    ) -> RunEnd:
        """One run at the present minute, or for the event of ``at_ms``; ``child`` may not survive.

        Requests that were held back arrive by the end of the run.
        """
        event_ms = self.now_ms if at_ms is None else at_ms
        order = {"workflow": workflow, "at_ms": event_ms, "now_ms": self.now_ms}
        end = await child.run(order)
        if not end.alive:
            lane.pid = None
            await lane.settle()
        await lane.deliver_late()
        return end

    async def dismiss(self, lane: Lane, child: Child) -> None:
        """Let a child exit, if it lives."""
        if child.alive:
            await child.end()
        lane.pid = None
        await lane.settle()

    def accounts(self) -> dict[str, Any]:
        """Balances, orders and fills of every venue, as the venues themselves have them."""
        return control.accounts(self.wire.venues)


def _through(url: str, port: int) -> str:
    parts = urlsplit(url)
    assert parts.port is not None
    return urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.port}", f":{port}")))
