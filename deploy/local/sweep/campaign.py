"""What a worker does of a sweep: its share of the cases, one stage after the other."""

from __future__ import annotations

import math
import random
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from deploy.local.sweep import baselines, overlap, soak
from deploy.local.sweep.baseline_stage import FILLS, BaselineStage
from deploy.local.sweep.cases import Result, Stage
from deploy.local.sweep.faults import Fault, modes_for
from deploy.local.sweep.overlap import OTHERS, Overlap
from deploy.local.sweep.policies import nth_call
from deploy.local.sweep.proxy import at
from deploy.local.sweep.scenarios import SCENARIOS
from deploy.local.sweep.world import World

_ATTEMPTS = 3

Say = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Plan:
    """What is to be swept.

    Attributes:
        scenarios: names of our own; baselines are swept if ``with_baselines``.
        match: only sites whose name contains this; everything where it is empty.
        first_order: every site times every mode.
        pairs: faults in a run and in its recovery, drawn at random, over all scenarios.
        overlaps: runs stopped at a call while another goes through, over all scenarios.
        days: virtual days of soak.
        workers: processes that share the work.
        minutes: after which no further case is begun.
        done: keys of the cases that an earlier sweep of this build has run.
    """

    scenarios: tuple[str, ...] = tuple(SCENARIOS)
    match: str = ""
    first_order: bool = True
    with_baselines: bool = True
    pairs: int = 0
    overlaps: int = 0
    days: int = 0
    workers: int = 2
    seed: int = 1
    minutes: float | None = None
    done: frozenset[str] = frozenset()


class Worker:
    """One of the processes that share a plan.

    Args:
        share: which one, from 0.
        say: takes messages for the parent: ``{"kind": ...}`` with plain values.
    """

    def __init__(self, plan: Plan, share: int, say: Say) -> None:
        self._plan = plan
        self._share = share
        self._say = say
        self._world = World()
        self._began = time.monotonic()

    async def run(self) -> None:
        """Everything that falls to this worker."""
        try:
            await self._world.start()
            async for stage, system in self._stages():
                await self._sweep(stage, system)
            for key, day in self._mine("soak", range(self._plan.days)):
                seed = self._plan.seed * 1000 + day
                rate = soak.RATES[day % len(soak.RATES)]
                self._tell("soak", "ours", key, await soak.run_days(self._world, 24, seed, rate))
        except BaseException as error:
            trace = traceback.format_exc()
            self._say({"kind": "failed", "error": f"{type(error).__name__}: {error}\n{trace}"})
            raise
        finally:
            await self._world.stop()
        self._say({"kind": "done"})

    async def _stages(self) -> AsyncIterator[tuple[Stage, str]]:
        for name in self._plan.scenarios:
            yield Stage(self._world, SCENARIOS[name], self._plan.seed), "ours"
        if self._plan.with_baselines:
            for program in baselines.PROGRAMS:
                for fill in FILLS:
                    yield BaselineStage(self._world, program, fill, self._plan.seed), program

    async def _sweep(self, stage: Stage, system: str) -> None:
        if self._is_over():
            return
        if not await self._prepare(stage):
            return
        reference = stage.reference
        sites = sorted(s for s in set(reference.sites) if self._plan.match in str(s))
        cases = [Fault(site, mode) for site in sites for mode in modes_for(site)]
        self._say(
            {
                "kind": "stage",
                "system": system,
                "stage": stage.scenario.name,
                "sites": [str(site) for site in sites],
                "cases": len(cases),
                "protects": reference.protects,
            }
        )
        if self._plan.first_order:
            for key, fault in self._mine(f"{stage.scenario.name} first", cases):
                self._tell("first", system, key, await stage.run(at(fault)))
        if cases:
            await self._pairs(stage, system, cases)
        if system == "ours" and sites:
            await self._overlaps(stage)

    async def _prepare(self, stage: Stage) -> bool:
        """Whether the stage stands; a machine that stalls for a request's time-out may spoil one
        attempt, but not each of them."""
        error = ""
        for _ in range(_ATTEMPTS):
            try:
                await stage.prepare()
            except AssertionError as failure:
                error = str(failure)
            else:
                return True
        self._say({"kind": "unprepared", "stage": stage.scenario.name, "error": error})
        return False

    async def _pairs(self, stage: Stage, system: str, cases: list[Fault]) -> None:
        count = math.ceil(self._plan.pairs / len(self._plan.scenarios))
        if system != "ours":
            count //= 10  # a baseline has a tenth of our calls
        for key, number in self._mine(f"{stage.scenario.name} pair", range(count)):
            rng = self._rng(stage, "pair", number)
            second = nth_call(rng.randint(1, max(1, stage.reference.recovery_calls)), rng)
            self._tell("pair", system, key, await stage.run(at(rng.choice(cases)), second))

    async def _overlaps(self, stage: Stage) -> None:
        sites = sorted(set(stage.reference.sites))
        count = math.ceil(self._plan.overlaps / len(self._plan.scenarios))
        for key, number in self._mine(f"{stage.scenario.name} overlap", range(count)):
            rng = self._rng(stage, "overlap", number)
            others = [other for other in OTHERS if other != stage.scenario.subject]
            case = Overlap(rng.choice(sites), rng.choice(others))
            self._tell("overlap", "ours", key, await overlap.run_overlap(stage, case))

    def _rng(self, stage: Stage, kind: str, number: int) -> random.Random:
        return random.Random(  # noqa: S311 - repeatable on purpose
            f"{self._plan.seed} {stage.scenario.name} {kind} {number}"
        )

    def _mine[T](self, kind: str, cases: Iterable[T]) -> Iterator[tuple[str, T]]:
        """This worker's cases that are still to be run, each with its key, until time is over."""
        keys = ((f"{self._plan.seed} {kind} {case}", case) for case in cases)
        todo = ((key, case) for key, case in keys if key not in self._plan.done)
        for index, (key, case) in enumerate(todo):
            if self._is_over():
                return
            if index % self._plan.workers == self._share:
                yield key, case

    def _is_over(self) -> bool:
        limit = self._plan.minutes
        return limit is not None and time.monotonic() - self._began > 60 * limit

    def _tell(self, order: str, system: str, key: str, result: Result) -> None:
        said = {"kind": "result", "order": order, "system": system, "key": key}
        self._say(said | result.as_json())


def replay_command(message: dict[str, Any]) -> str:
    """The command that repeats one case exactly."""
    parts = [message["scenario"], f"seed={message['seed']}"]
    kind = "overlap" if message["order"] == "overlap" else "fault"
    parts += [f"{kind}={fault}" for fault in message["fired"]]
    parts += [f"then={fault}" for fault in message["recovery_fired"]]
    return f'python -m deploy.local.sweep --case "{"; ".join(parts)}"'


async def run_case(world: World, text: str) -> Result:
    """Repeat the case that ``replay_command`` named. Raises ``ValueError``."""
    name, *options = text.split("; ")
    given = [option.partition("=")[::2] for option in options]
    seed = int(dict(given)["seed"])
    program, _, fill = name.partition("/")
    stage = (
        BaselineStage(world, program, fill, seed)
        if fill
        else Stage(world, SCENARIOS[program], seed)
    )
    await stage.prepare()
    for key, value in given:
        if key == "overlap":
            return await overlap.run_overlap(stage, Overlap.parse(value))
    faults = {
        wanted: [Fault.parse(value) for key, value in given if key == wanted]
        for wanted in ("fault", "then")
    }
    return await stage.run(at(*faults["fault"]), at(*faults["then"]))
