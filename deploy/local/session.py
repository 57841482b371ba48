"""A local Pipedream with all that it needs, started and stopped together."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from deploy.local import accounts, events, manifest, resume, venue_check
from deploy.local.engines import Disturbance, Engine, InProcess
from deploy.local.market.source import SourceSpec
from deploy.local.platform import Platform, WorkflowResult
from deploy.local.scheduler import Tick
from deploy.local.servers import DEFAULT_FOLDER, PROJECT, EmbeddedServers
from deploy.local.wire.client import WireProcess, key_variables, start_wire
from shared import clock, config
from shared.ledger import connection, migrate
from shared.ledger.connection import Ledger

Models = Literal["stand-in", "none"]
VENUES = ("binance", "coinbase", "kraken")
_MODEL_KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY")


@dataclass(frozen=True)
class SessionOptions:
    """What a session is to be.

    Attributes:
        spec: the market that the stand-ins show.
        database: name of the ledger's database; see ``resume.prepare``.
        models: with ``none`` no model has a key, so that the ensemble decides.
        fresh: start with an empty ledger even where there is one to go on from.
        faithful: run bundles in processes with the platform's limits; ``paced`` is whether their
            time goes on as fast as the machine's.
        root: the project whose workflows run.
    """

    spec: SourceSpec
    database: str
    profile: str = "conservative"
    capital_quote: Decimal = Decimal(10_000)
    models: Models = "stand-in"
    fresh: bool = False
    faithful: bool = False
    paced: bool = False
    folder: Path = DEFAULT_FOLDER
    root: Path = PROJECT


class LocalSession:
    """Servers, ledger, stand-ins, virtual clock and platform; a context manager.

    Args:
        variables: settings in force, as ``deploy.cli.environment.variables`` reads them. Keys of
            real venues and models, and ``ENABLE_LIVE_TRADING``, are replaced: a session sends
            nothing to the outside. ``DATABASE_URL`` and ``REDIS_URL`` name servers to use in
            place of embedded ones; the ledger is a database of its own on that server.
        say: is told what takes long.

    Attributes:
        engine: who runs the steps' code.
        position: how far the ledger had come when the session began.
        earlier_fills: venue and trade id of the fills that it had then, which the stand-ins of
            this session have never seen.

    Inside the context the environment of the process is the session's, as it would be on
    Pipedream, and ``shared.clock`` tells its time.
    """

    ledger: Ledger
    wire: WireProcess
    settings: config.Config
    position: resume.Position
    earlier_fills: frozenset[tuple[str, str]]

    def __init__(
        self,
        options: SessionOptions,
        variables: Mapping[str, str],
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.options = options
        self._say = say
        self.project = manifest.load(options.root)
        given = {name: variables[name] for name in config.VARIABLES if variables.get(name)}
        own_servers = "DATABASE_URL" not in given and "REDIS_URL" not in given
        self._variables = given | self._replaced(given, own_servers)
        if options.models == "none":
            for name in _MODEL_KEYS:
                self._variables.pop(name, None)
        self.pod = config.load(self._variables).pod
        self.servers = EmbeddedServers(
            options.folder,
            durable=False,
            database_url=given.get("DATABASE_URL"),
            redis_url=given.get("REDIS_URL"),
        )
        self.now_ms = options.spec.from_ms
        self._stack = ExitStack()
        self._request_numbers = itertools.count(1)

    @property
    def database_url(self) -> str:
        return self.servers.database_url(self.options.database)

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop everything that was started, and give environment and clock back."""
        self._stack.close()

    def advance(self, now_ms: int) -> None:
        """Move the time of the session and of the stand-ins on."""
        self.now_ms = now_ms
        self.wire.advance(now_ms)

    def run_tick(self, tick: Tick) -> WorkflowResult:
        """Run a workflow that is due; the time moves to the tick."""
        self.move_to(tick.at_ms)
        return self.hand_over(tick)

    def move_to(self, at_ms: int) -> None:
        """Move the time on to ``at_ms``; paused runs that are due until then go on first."""
        self.go_on_until(at_ms)
        if at_ms > self.now_ms:
            self.advance(at_ms)

    def hand_over(
        self,
        tick: Tick,
        *,
        number: int = 1,
        own_event: bool = False,
        disturbance: Disturbance | None = None,
        auto_retry: bool = False,
    ) -> WorkflowResult:
        """Run the workflow of ``tick`` now, whatever time it is.

        Args:
            number: 2 where the same tick is delivered once more: another execution, of the same
                event, or, with ``own_event``, of an event that has a trace id of its own.
            disturbance, auto_retry: see ``Platform.run_workflow``.
        """
        workflow, at_ms = tick.workflow, tick.at_ms
        key = f"{at_ms} again {number}" if own_event else ""
        return self.platform.run_workflow(
            workflow,
            events.cron_event(workflow, at_ms),
            events.context(self.pod, workflow, at_ms, key=key, number=number, now_ms=self.now_ms),
            disturbance=disturbance,
            auto_retry=auto_retry,
        )

    def go_on_until(self, until_ms: int) -> None:
        """Continue the paused runs whose pause ends by ``until_ms``; the time moves with them."""
        while (due_ms := self.platform.paused.next_due_ms()) is not None and due_ms <= until_ms:
            if due_ms > self.now_ms:
                self.advance(due_ms)
            self.platform.paused.end_due()

    def is_done(self, tick: Tick) -> bool:
        """Whether the ledger had this run already when the session began."""
        if tick.at_ms != self.position.at_ms:
            return False
        return events.trace_id(self.pod, tick.workflow.name, tick.at_ms) in self.position.done

    def run_workflow(self, name: str, at_ms: int) -> WorkflowResult:
        """Run the scheduled workflow ``name`` as at ``at_ms``, due or not."""
        return self.run_tick(Tick(at_ms, self.project.workflow(name)))

    def serve(self, workflow: manifest.Workflow, request: events.Request) -> WorkflowResult:
        """Run an HTTP workflow, in the thread of the request."""
        key = f"request {next(self._request_numbers)}"
        return self.platform.run_workflow(
            workflow,
            events.http_event(request),
            events.context(self.pod, workflow, self.now_ms, key=key),
        )

    def _replaced(self, given: Mapping[str, str], own_servers: bool) -> dict[str, str]:
        """Settings that hold for a session whatever a person has set for the real thing."""
        spec = self.options.spec
        quote = spec.symbols[0].partition("/")[2]
        replaced = {
            "PROFILE": self.options.profile,
            "SYMBOLS": ",".join(symbol.partition("/")[0] for symbol in spec.symbols),
            "QUOTE_CURRENCY": quote,
            "VENUES": ",".join(VENUES),
            "CAPITAL_QUOTE": str(self.options.capital_quote),
            "ENABLE_LIVE_TRADING": "false",
            "SLACK_BOT_TOKEN": "xoxb-local",
            "OPENAI_API_KEY": "sk-stand-in",
            "ANTHROPIC_API_KEY": "sk-ant-stand-in",
        }
        if given.get("SYMBOLS", "").strip().upper() == config.AUTO:
            replaced["SYMBOLS"] = config.AUTO  # chosen by the loop, among those of the market
        if not own_servers:  # a cache or a server that a real pod may share
            digest = hashlib.sha256(self.options.database.encode()).hexdigest()
            replaced["POD"] = f"r-{digest[:12]}"
        return replaced

    def _open(self) -> None:
        self._stack.enter_context(self.servers)
        self._stack.callback(connection.close_all)
        self._stack.enter_context(_virtual_clock(self))
        url = resume.prepare(
            self.servers, self.options.database, self.pod, fresh=self.options.fresh
        )
        self.ledger = connection.connect(url, self.pod)
        migrate.migrate(self.ledger)
        self._start_from_ledger()
        self._clear_cache()
        self._variables |= self._addresses(url)
        self.settings = config.load(self._variables)
        self._stack.enter_context(_environment(self._variables))
        self.engine = self._start_engine()
        self._stack.callback(self.engine.close)
        self.platform = Platform(self.project, accounts.connected(self._variables), self.engine)
        self.platform.load_all()

    def _start_engine(self) -> Engine:
        options = self.options
        if not options.faithful:
            return InProcess(self.project.root)
        from deploy.local.faithful import start

        return start.engine(
            self.project, self._variables, options.folder, self._say, paced=options.paced
        )

    def _start_from_ledger(self) -> None:
        """Take up time and balances from the ledger, and start the stand-ins from there."""
        spec = self.options.spec
        self.position = resume.position(self.ledger)
        if self.position.at_ms is not None:
            self.now_ms = self.position.at_ms
        quote = spec.symbols[0].partition("/")[2]
        accounts.fund(self.ledger, accounts.equal_shares(self.options.capital_quote, VENUES, quote))
        self.earlier_fills = venue_check.fill_ids(self.ledger)
        self.wire = start_wire(
            spec, now_ms=self.now_ms, balances=accounts.held(self.ledger), seed=spec.seed
        )
        self._stack.callback(self.wire.stop)

    def _addresses(self, database_url: str) -> dict[str, str]:
        base = self.wire.base_url
        return key_variables(self.wire.credentials) | {
            "DATABASE_URL": database_url,
            "REDIS_URL": self.servers.redis_url,
            "SIMULATED_WIRE_URL": base,
        }

    def _clear_cache(self) -> None:
        """An earlier replay may have left candles there that lie in this one's future."""
        import redis

        client = redis.Redis.from_url(self.servers.redis_url, retry=None)
        try:
            for key in client.scan_iter(match=f"{self.pod}:*", count=1000):
                client.delete(key)
        finally:
            client.close()


@contextmanager
def _virtual_clock(session: LocalSession) -> Iterator[None]:
    clock.install(lambda: session.now_ms)
    try:
        yield
    finally:
        clock.install(None)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Exactly ``variables`` of all settings, as long as the context lasts."""
    before = {name: os.environ[name] for name in config.VARIABLES if name in os.environ}
    _set_variables(variables)
    try:
        yield
    finally:
        _set_variables(before)


def _set_variables(variables: Mapping[str, str]) -> None:
    for name in config.VARIABLES:
        os.environ.pop(name, None)
    os.environ.update({name: variables[name] for name in config.VARIABLES if name in variables})
