"""``trading-loop run``: the real workflows on their schedules, over a market of the past."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from rich.console import Console

from deploy.local import postgres, resume, summary
from deploy.local.http import HttpWorkflows
from deploy.local.market.source import SourceSpec
from deploy.local.platform import WorkflowResult
from deploy.local.progress import Progress
from deploy.local.schedule_faults import judgement
from deploy.local.schedule_faults.plan import deliveries
from deploy.local.schedule_faults.rates import FaultRates
from deploy.local.schedule_faults.serving import FaultyServing
from deploy.local.scheduler import Tick, real_ticks, virtual_ticks
from deploy.local.session import LocalSession, Models
from deploy.local.tally import Tally
from shared import VERSION, clock
from shared.errors import LedgerUnavailable


@contextmanager
def _seldom_collecting() -> Iterator[None]:
    """Leave what was loaded at the start to itself: venues' answers make much short-lived garbage,
    and looking through all modules again for each heap of it costs a tenth of a replay."""
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


@dataclass(frozen=True)
class ReplayOptions:
    """What to replay.

    Attributes:
        port: where the dashboard is served; ``None`` serves none.
        realtime: wait for every minute, instead of going as fast as it can.
        faithful: see ``SessionOptions``; it has a ledger of its own.
        faults: what befalls the schedule on purpose; not at real pace.
    """

    spec: SourceSpec
    profile: str
    capital_quote: Decimal
    models: Models
    port: int | None
    realtime: bool
    faithful: bool = False
    faults: FaultRates | None = None

    @property
    def database(self) -> str:
        """The ledger's database, the same for the same arguments and build."""
        mode = ["faithful"] if self.faithful else []
        mode += [] if self.faults is None else [str(self.faults)]
        return resume.database_name(
            self.spec.to_json(), self.profile, str(self.capital_quote), self.models, VERSION, *mode
        )


@dataclass(frozen=True)
class Outcome:
    """A finished replay: its JSON document and what does not belong into it."""

    report: dict[str, Any]
    tally: Tally
    resumed: bool


class Replay:
    """Runs every tick of the stretch that has not been run yet.

    Args:
        sleep: waits for seconds, in a replay at real pace.
    """

    def __init__(
        self,
        session: LocalSession,
        options: ReplayOptions,
        console: Console,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._session = session
        self._options = options
        self._console = console
        self._sleep = sleep
        self.tally = Tally()
        self._faulty = None if options.faults is None else FaultyServing(session)
        self._url: str | None = None

    def run(self) -> Outcome:
        """Replay to the end.

        Raises:
            LedgerUnavailable: PostgreSQL has gone; the same call goes on where this one stopped.
        """
        watch = clock.Stopwatch()
        spec, position = self._options.spec, self._session.position
        resumed = position.at_ms is not None
        start_ms = spec.from_ms if position.at_ms is None else position.at_ms
        if resumed:
            self.tally.add_earlier(self._session.ledger)
            self._say(f"Going on at {clock.iso(clock.from_ms(start_ms))}; --fresh starts anew.")
        progress = Progress(
            self._console,
            self._session.ledger,
            from_ms=spec.from_ms,
            to_ms=spec.to_ms,
            start_ms=start_ms,
            dashboard_url=self._url,
        )
        with progress, self._pace(start_ms), _seldom_collecting():
            for tick in self._served(self._ticks(start_ms)):
                progress.update(tick.at_ms, self.tally)
        return self._finish(watch, resumed)

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Serve the dashboard and the kill switch, if the options name a port."""
        if self._options.port is None:
            yield
            return
        with HttpWorkflows(
            self._session.project,
            self._session.serve,
            self._options.port,
            paused=self._session.platform.paused,
        ) as server:
            self._url = server.url
            self._say(f"Dashboard: {server.url}/dashboard")
            yield
        self._url = None

    def keep_serving(self) -> None:
        """Wait for Ctrl-C where something is served."""
        if self._url is None:
            return
        try:
            self._say(f"The dashboard stays at {self._url}/dashboard until Ctrl-C.")
            while True:
                self._sleep(3600)
        except KeyboardInterrupt:
            self._say("Stopped.")
        for result in self._session.platform.take_continued():
            self.tally.add(result)
            if result.failed:
                self._say(f"FAILED {result.workflow} after a pause, trace {result.trace_id}")

    def _ticks(self, start_ms: int) -> Iterator[Tick]:
        workflows, to_ms = self._session.project.workflows, self._options.spec.to_ms
        if self._options.realtime:
            return real_ticks(workflows, to_ms, self._sleep)
        return virtual_ticks(workflows, start_ms, to_ms)

    @contextmanager
    def _pace(self, start_ms: int) -> Iterator[None]:
        """At real pace the market's time goes on as fast as the machine's."""
        if self._options.realtime:
            watch = clock.Stopwatch()
            clock.install(lambda: start_ms + round(watch.milliseconds()))
        try:
            yield
        finally:
            clock.install(lambda: self._session.now_ms)

    def _served(self, ticks: Iterator[Tick]) -> Iterator[Tick]:
        """Run what the ledger does not have yet, and yield each tick that was dealt with."""
        if self._faulty is None or self._options.faults is None:
            for tick in ticks:
                if not self._session.is_done(tick):
                    self._count([self._session.run_tick(tick)])
                yield tick
            return
        to_ms = self._options.spec.to_ms
        try:
            for delivery in deliveries(ticks, self._options.faults, to_ms):
                if not self._session.is_done(delivery.tick):
                    self._count(self._faulty.serve(delivery))
                yield delivery.tick
        finally:
            left = self._faulty.finish()  # also after Ctrl-C: no run must stand still for ever
        self._count(left)

    def _count(self, results: list[WorkflowResult]) -> None:
        self._count_continued()
        for result in results:
            self._stop_without_ledger(result)
            self.tally.add(result)

    def _count_continued(self) -> None:
        for result in self._session.platform.take_continued():
            self._stop_without_ledger(result)
            self.tally.add(result)

    def _stop_without_ledger(self, result: WorkflowResult) -> None:
        """A statement that took too long is a failed run; a server that is gone ends the replay."""
        failed = result.failed_step
        if failed is None or not isinstance(failed.error, LedgerUnavailable):
            return
        if not postgres.answers(self._session.database_url):
            raise LedgerUnavailable(
                f"PostgreSQL is gone, the replay stopped at "
                f"{clock.iso(clock.from_ms(self._session.now_ms))}; the same command goes on there"
            )

    def _finish(self, watch: clock.Stopwatch, resumed: bool) -> Outcome:
        self._session.go_on_until(self._options.spec.to_ms - 1)
        self._count_continued()
        if waiting := len(self._session.platform.paused):
            self._say(f"{waiting} runs still wait for the end of a pause.")
        self._session.advance(self._options.spec.to_ms)
        resume.mark_finished(self._session.ledger)
        report = summary.build(self._session, self.tally)
        if self._faulty is not None:
            report["schedule_faults"] = self._judged(self._faulty, resumed)
        report |= {"usage": self.tally.usage_as_json()}
        report |= {"wall_seconds": round(watch.seconds(), 3)}
        report |= {"peak_rss_mib": round(summary.peak_rss_mib(), 1)}
        return Outcome(report, self.tally, resumed)

    def _judged(self, faulty: FaultyServing, resumed: bool) -> dict[str, Any]:
        """What befell the schedule, and whether the books held.

        The stand-ins of a replay that was stopped in between have not seen its earlier orders:
        there the books cannot be judged, and ``violations`` is null.
        """
        return {
            "rates": str(self._options.faults),
            "faults": faulty.as_json(),
            "runs_disturbed": self.tally.injected_as_json(),
            "trading_state": judgement.trading_state(self._session),
            "violations": None if resumed else judgement.judge(self._session),
        }

    def _say(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, highlight=False)
