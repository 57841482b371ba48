"""One case: go back to the minute before, strike, let fault-free minutes pass, judge."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any

from deploy.local import manifest
from deploy.local.servers import PROJECT
from deploy.local.sweep import evidence, invariants
from deploy.local.sweep.children import Child
from deploy.local.sweep.faults import Fault, Site
from deploy.local.sweep.market import scripted
from deploy.local.sweep.proxy import Lane, Policy, at, undisturbed
from deploy.local.sweep.scenarios import HISTORY_SEED, Scenario
from deploy.local.sweep.world import MODEL_SETTINGS, Snapshot, World
from shared.ledger import parameters
from shared.parameters import Parameters

MAX_RECOVERY_MINUTES = 8
MAX_COST_QUOTE = Decimal(100)
MAX_POSITIONS = 5
_MINUTELY = ("circuit_breaker", "trading_loop")
_NEVER = Parameters(ensemble_threshold=0.8, ai_score_threshold=0.9)
_OPEN = Parameters(ensemble_threshold=0.05, ai_score_threshold=0.55)


@dataclass
class Result:
    """What came of a case; plain values, so that it passes between processes.

    Attributes:
        fired: the faults that struck, in the disturbed run and in the recovery.
        violations: ``[kind, what]`` each.
        missed_entry: the fault-free run bought, and this one did not.
        resolve_seconds: of each intent whose outcome was not known at once.
        naked_seconds: minutes' ends at which something sellable had no stop, times 60.
    """

    scenario: str
    seed: int
    fired: list[str] = field(default_factory=list)
    recovery_fired: list[str] = field(default_factory=list)
    violations: list[list[str]] = field(default_factory=list)
    missed_entry: bool = False
    resolve_seconds: list[float] = field(default_factory=list)
    naked_seconds: int = 0
    minutes: int = 0
    runs: int = 0
    wall_ms: float = 0.0
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Reference:
    """The fault-free run of a scenario.

    Attributes:
        sites: the external calls of the subject's run.
        recovery_calls: how many calls the minutes after it make.
        bought: what was bought from the subject's run to the end.
        protects: whether everything held has a stop at the end.
    """

    sites: list[Site]
    recovery_calls: int
    bought: Decimal
    protects: bool
    result: Result


class Stage:
    """A scenario in a world, ready to be gone through again and again.

    Attributes:
        program: what a child runs, see ``zygote.ChildSpec``.
        reference: the fault-free run that others are compared with.
    """

    program = "workflows"
    snapshot: Snapshot
    reference: Reference
    bought_before: Decimal

    def __init__(self, world: World, scenario: Scenario, seed: int) -> None:
        self.world = world
        self.scenario = scenario
        self.seed = seed
        self._project = manifest.load(PROJECT)

    async def prepare(self) -> None:
        """Fault-free minutes up to the subject's run, then a snapshot, then the reference.

        Raises:
            AssertionError: a run of the preparation failed, or the reference breaks an invariant.
        """
        world, scenario = self.world, self.scenario
        settings = dict(scenario.settings) | (MODEL_SETTINGS if scenario.models else {})
        source = scripted(
            self.seed, scenario.closes, history_seed=HISTORY_SEED, others=scenario.other_closes
        )
        await world.renew(source, scenario.venues, settings, self.seed)
        if scenario.limit_orders_only:
            world.ledger.execute("UPDATE trading_state SET limit_orders_only = true")
        lane = world.lanes[0]
        lane.begin()
        child = await world.fork(lane)
        self._set(_NEVER, "quiet")
        for minute in range(scenario.minute):
            if minute == scenario.quiet_minutes:
                self._set(_OPEN, "open")
            world.advance(minute)
            for workflow in self._due(minute):
                disturbed = workflow == "trading_loop" and minute == scenario.minute - 1
                earlier = scenario.earlier if disturbed else None
                lane.begin(undisturbed if earlier is None else at(earlier))
                child = await self._expect(lane, child, workflow, earlier)
        if scenario.open_minutes == 0:
            self._set(_OPEN, "open")
        world.advance(scenario.minute)
        due = self._due(scenario.minute)
        for workflow in due[: due.index(scenario.subject)]:
            lane.begin()
            child = await self._expect(lane, child, workflow, None)
        await world.dismiss(lane, child)
        self.snapshot = world.save(scenario.name)
        self.bought_before = evidence.bought_quantity(world.ledger)
        self.reference = await self._refer()

    async def _expect(
        self, lane: Lane, child: Child, workflow: str, earlier: Fault | None
    ) -> Child:
        end = await self.world.run(lane, child, workflow)
        if earlier is None:
            assert end.alive and end.failed is None, f"{self.scenario.name}: {workflow}: {end}"
        else:
            assert lane.fired == [earlier], f"{self.scenario.name}: {earlier} was not reached"
        return child if end.alive else await self.world.fork(lane, self.program)

    async def _refer(self) -> Reference:
        self.reference = Reference([], 0, Decimal(0), False, Result(self.scenario.name, self.seed))
        sites: list[Site] = []
        lane = self.world.lanes[0]
        result = await self.run(undisturbed, recorded=sites)
        assert not result.violations and not result.note, (
            f"{self.scenario.name} without a fault: {result.violations} {result.note}"
        )
        bought = self._bought()
        protects = not invariants.naked(self.world.accounts())
        return Reference(sites, len(lane.calls), bought, protects, result)

    async def run(
        self,
        policy: Policy,
        recovery: Policy = undisturbed,
        *,
        recorded: list[Site] | None = None,
    ) -> Result:
        """The subject's run under ``policy``, then minutes under ``recovery``, then the judgement.

        ``recorded`` receives the calls of the subject's run.
        """
        started = time.perf_counter()
        world, lane = self.world, self.world.lanes[0]
        world.load(self.snapshot)
        child = await world.fork(lane, self.program)
        lane.begin(policy)
        end = await world.run(lane, child, self.scenario.subject)
        result = Result(self.scenario.name, self.seed, fired=[str(f) for f in lane.fired], runs=1)
        if recorded is not None:
            recorded.extend(lane.calls)
            if not end.worked:
                result.note = f"{end}"
        due = self._due(self.scenario.minute)
        rest = due[due.index(self.scenario.subject) + 1 :]
        await self.recover(lane, child, recovery, result, minute=self.scenario.minute, todo=rest)
        self.judge(result)
        result.wall_ms = round((time.perf_counter() - started) * 1000, 1)
        return result

    async def recover(
        self,
        lane: Lane,
        child: Child | None,
        policy: Policy,
        result: Result,
        *,
        minute: int,
        todo: list[str] | None,
    ) -> None:
        """Minutes until nothing is open any more; a process that dies is replaced at its next run.

        Args:
            minute: the present one, or the next where nothing of it has run yet.
            todo: what is left to run of it; ``None`` for everything.
        """
        world, worked, open_before = self.world, 0, False
        lane.begin(policy)
        if todo is None:
            world.advance(minute)
            todo = self._due(minute)
        while True:
            for workflow in todo:
                if child is None or not child.alive:
                    child = await world.fork(lane, self.program)
                end = await world.run(lane, child, workflow)
                result.runs += 1
                worked += workflow == "trading_loop" and end.worked
            if self._naked():
                result.naked_seconds += 60
            struck = len(lane.fired)
            if struck > len(result.recovery_fired):
                result.recovery_fired = [str(fault) for fault in lane.fired]
                worked = 0
            result.minutes = minute - self.scenario.minute
            most = max(MAX_RECOVERY_MINUTES, self.scenario.recovery_minutes)
            if result.minutes >= most + 4 * bool(struck):
                break
            open_before = open_before or not self._is_at_rest()
            over = result.minutes >= self.scenario.recovery_minutes
            if over and self._has_settled(result.minutes, worked, open_before=open_before):
                break
            minute += 1
            world.advance(minute)
            todo = self._due(minute)
        if child is not None:
            await world.dismiss(lane, child)

    def _has_settled(self, minutes: int, worked: int, *, open_before: bool) -> bool:
        """Whether the books may be judged: one whole run of the loop has passed, and two where
        an order was open or unknown in between, since that is what could be sent again."""
        return worked >= 1 + open_before and self._is_at_rest()

    def _is_at_rest(self) -> bool:
        return evidence.is_at_rest(self.world.ledger)

    def _bought(self) -> Decimal:
        """In base, since the snapshot."""
        return evidence.bought_quantity(self.world.ledger) - self.bought_before

    def _naked(self) -> bool:
        """Whether something sellable has no stop at this moment."""
        return bool(invariants.naked(self.world.accounts()))

    def judge(self, result: Result) -> None:
        world, reference = self.world, self.reference
        found = invariants.judge(
            evidence.collect(
                world.ledger,
                {name: world.accounts()[name] for name in self.scenario.venues},
                max_cost_quote=MAX_COST_QUOTE,
                max_positions=MAX_POSITIONS,
                rebalance_min_hours=self.scenario.rebalance_min_hours,
            ),
            expect_protection=reference.protects,
        )
        result.violations += [[violation.kind, violation.what] for violation in found]
        result.missed_entry = reference.bought > 0 and self._bought() <= 0
        result.resolve_seconds = evidence.resolution_seconds(world.ledger, self.snapshot.now_ms)

    def _set(self, values: Parameters, reason: str) -> None:
        parameters.put(self.world.ledger, values, set_by="sweep", reason=reason, evidence={})

    def _due(self, minute: int) -> list[str]:
        """The workflows of a minute, in the order in which the project serves them."""
        managed = ("position_manager",) if minute % 5 == 0 else ()
        due = (*_MINUTELY, *managed)
        return [flow.name for flow in self._project.workflows if flow.name in due]
