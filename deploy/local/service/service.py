"""The loop on the present: real venues' markets, the clock of this machine, all workflows.

The same bundles run as on Pipedream, each workflow in a process with its limits (see
``deploy.local.faithful``), under the settings of the environment. What trades for real on
Pipedream trades for real here and nothing else does: ``ENABLE_LIVE_TRADING`` and an arm token in
the ledger decide it in the steps. No stand-in can be reached.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.local import accounts, events, manifest
from deploy.local.faithful import start
from deploy.local.http import HttpWorkflows
from deploy.local.platform import Platform, WorkflowResult
from deploy.local.scheduler import Tick
from deploy.local.servers import DEFAULT_FOLDER, PROJECT
from deploy.local.service.lanes import Lane, failure
from shared import clock, config
from shared.errors import ConfigurationError, TradingLoopError
from shared.ledger import connection, migrate

STOPS_WITHIN_S = 50.0
"""A run under way at the stop has this long; the service is to be gone 60 s after it was asked."""
_REPORT_EVERY_S = 3600.0
_LOOK_EVERY_S = 0.5
_JOIN_S = 0.1

NewId = Callable[[], str]


class LaneEnded(TradingLoopError):
    """A workflow is served no more, though nobody asked for it."""


@dataclass(frozen=True)
class ServiceOptions:
    """What to serve.

    Attributes:
        port: of the dashboard and the kill switch, on the loopback interface; ``None``: neither.
        hours: after which it ends by itself; ``None``: never.
        folder: where bundles and the pinned Python are kept.
    """

    port: int | None
    hours: float | None = None
    folder: Path = DEFAULT_FOLDER
    root: Path = PROJECT


class Service:
    """Starts and stops what the loop needs; a context manager.

    Args:
        variables: settings in force.
        say: is told what happens, a line at a time, from several threads.
        new_id: makes the ids of events. They are not made of the time, as a replay's are: after
            the clock was set back, the same minute comes a second time, and is no repetition.

    Raises:
        ConfigurationError: on entering: a setting is wrong, or the ledger is nowhere.
        LedgerUnavailable: on entering: PostgreSQL does not answer. Later it may go and come back.
    """

    def __init__(
        self,
        options: ServiceOptions,
        variables: Mapping[str, str],
        say: Callable[[str], None],
        *,
        new_id: NewId = lambda: str(uuid.uuid4()),
    ) -> None:
        self._options = options
        self._variables = {name: variables[name] for name in config.VARIABLES if name in variables}
        self.settings = config.load(variables)
        _refuse(self.settings)
        self._secrets = self.settings.secrets()
        self._say = say
        self._new_id = new_id
        self._stop = threading.Event()
        self._asked_to_stop = 0
        self._stack = ExitStack()
        self.project = manifest.load(options.root)
        self.lanes: tuple[Lane, ...] = ()
        self.url: str | None = None

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def run(self) -> None:
        """Serve every tick until ``stop`` is called or the hours are over.

        Raises:
            LaneEnded: something went wrong outside of any run, such as the output being gone. A
                loop that trades without its breaker is not left alone: who started it starts it
                again.
        """
        watch, reported_s = clock.Stopwatch(), 0.0
        hours, ended = self._options.hours, list[str]()
        for lane in self.lanes:
            lane.start()
        while not self._asked_to_stop and not ended:
            time.sleep(_LOOK_EVERY_S)
            seconds = watch.seconds()
            if hours is not None and seconds >= hours * 3600:
                break
            self._go_on_with_paused()
            if seconds - reported_s >= _REPORT_EVERY_S:
                self.tell(self.summary())
                reported_s = seconds
            ended = [lane.workflow.name for lane in self.lanes if not lane.is_alive]
        self._end_runs()
        self.tell(self.summary())
        if ended:
            raise LaneEnded(f"{', '.join(ended)}: expected to be served on, the thread has ended")

    def stop(self) -> None:
        """Begin no further run; ``run`` returns when those under way have ended.

        The second call has them ended by force, which is safe at any line, as it is on Pipedream.
        May be called from a signal handler, and therefore touches no lock: ``run`` looks at it.
        """
        self._asked_to_stop += 1

    def summary(self) -> str:
        """What was done since the beginning, in one line."""
        parts = []
        for lane in self.lanes:
            done = lane.counts
            part = f"{lane.workflow.name} {done.runs}"
            if done.failed:
                part += f" ({done.failed} failed)"
            if lane.ticker.missed:
                part += f" ({lane.ticker.missed} ticks missed)"
            parts.append(part)
        credits = sum(lane.counts.credits for lane in self.lanes)
        return f"runs: {', '.join(parts)}; {credits} credits on Pipedream"

    def tell(self, text: str) -> None:
        """Say a line with its time, and without any secret of the settings."""
        for secret in self._secrets:
            text = text.replace(secret, "(secret)")
        self._say(f"{clock.iso(clock.now())} {text}")

    def _open(self) -> None:
        settings, options = self.settings, self._options
        assert settings.database_url is not None
        self._prepare_ledger(settings.database_url.get_secret_value())
        self._engine = start.engine(
            self.project, self._variables, options.folder, self._say, paced=False, virtual=False
        )
        self._stack.callback(self._engine.close)
        self.platform = Platform(self.project, accounts.connected(self._variables), self._engine)
        self.platform.load_all()
        self.lanes = tuple(
            Lane(workflow, self._serve_tick, self.tell, self._stop)
            for workflow in self.project.workflows
            if workflow.schedule is not None
        )
        if options.port is not None:
            server = HttpWorkflows(
                self.project, self._serve_request, options.port, paused=self.platform.paused
            )
            self._stack.enter_context(server)
            self.url = server.url
        self.tell(self._opening())

    def _opening(self) -> str:
        settings = self.settings
        live = "may trade with real money, while an arm token is in force"
        mode = live if settings.enable_live_trading else "trades on paper"
        served = f"; dashboard {self.url}/dashboard" if self.url else ""
        return (
            f"pod {settings.pod} follows {', '.join(settings.symbols)} in "
            f"{settings.quote_currency} on {', '.join(settings.venues)} and {mode}{served}"
        )

    def _prepare_ledger(self, url: str) -> None:
        """Bring the tables up to date, and give a new paper ledger its capital, once."""
        settings = self.settings
        try:
            ledger = connection.connect(url, settings.pod)
            migrate.migrate(ledger)
            funded = ledger.one("SELECT 1 FROM transfers WHERE pod = %s LIMIT 1", (ledger.pod,))
            if settings.trading_mode == "paper" and funded is None:
                shares = accounts.equal_shares(
                    settings.capital_quote, settings.venues, settings.quote_currency
                )
                accounts.fund(ledger, shares)
        finally:
            connection.close_all()

    def _serve_tick(self, tick: Tick) -> WorkflowResult:
        return self.platform.run_workflow(
            tick.workflow,
            events.cron_event(tick.workflow, tick.at_ms),
            self._context(tick.workflow, tick.at_ms),
        )

    def _serve_request(
        self, workflow: manifest.Workflow, request: events.Request
    ) -> WorkflowResult:
        result = self.platform.run_workflow(
            workflow, events.http_event(request), self._context(workflow, clock.now_ms())
        )
        if result.failed:
            self.tell(failure(result))
        return result

    def _context(self, workflow: manifest.Workflow, at_ms: int) -> dict[str, object]:
        return events.context(
            self.settings.pod, workflow, at_ms, key=self._new_id(), now_ms=clock.now_ms()
        )

    def _go_on_with_paused(self) -> None:
        self.platform.paused.end_due()
        for result in self.platform.take_continued():
            if result.failed:
                self.tell(failure(result))

    def _end_runs(self) -> None:
        """Wait for the runs under way, and end by force what takes too long."""
        self._stop.set()
        self.tell("stopping; runs under way go on to their end")
        watch = clock.Stopwatch()
        late = self.lanes
        while late := tuple(lane for lane in late if not lane.join(_JOIN_S)):
            if watch.seconds() >= STOPS_WITHIN_S or self._asked_to_stop >= 2:
                break
        if late:
            self._engine.kill_running()
            self.tell(f"ended by force: {', '.join(lane.workflow.name for lane in late)}")
            for lane in late:
                lane.join(_LOOK_EVERY_S)


def _refuse(settings: config.Config) -> None:
    if settings.simulated_wire_url is not None:
        raise ConfigurationError(
            "SIMULATED_WIRE_URL: expected to be unset for a service on the present, "
            f"was {settings.simulated_wire_url}"
        )
    if settings.database_url is None:
        raise ConfigurationError(
            "DATABASE_URL: expected the PostgreSQL in which the ledger outlives the service, "
            "was not set"
        )
