"""Two runs at once: one is stopped at a call until the other has gone through to its end."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from deploy.local.sweep.cases import Result, Stage
from deploy.local.sweep.faults import Site
from deploy.local.sweep.market import MINUTE_MS, START_MS
from deploy.local.sweep.proxy import undisturbed

OTHERS = ("same_event", "two_minutes_later", "position_manager", "circuit_breaker")
"""Who runs meanwhile: the same event delivered twice; the loop of two minutes later, when the
lease of the first has run out; another workflow of the same minute."""
_WAITS_FOR_A_LOCK_S = 0.4  # the other may need what the stopped one holds: then it goes on first


@dataclass(frozen=True)
class Overlap:
    """The subject's run is stopped at ``site`` while ``other`` runs."""

    site: Site
    other: str

    def __str__(self) -> str:
        return f"{self.site}|{self.other}"

    @classmethod
    def parse(cls, text: str) -> Overlap:
        """The inverse of ``str``. Raises ``ValueError``."""
        site, _, other = text.rpartition("|")
        if other not in OTHERS:
            raise ValueError(f"overlap: expected one of {', '.join(OTHERS)}, was {other!r}")
        return cls(Site.parse(site), other)


async def run_overlap(stage: Stage, case: Overlap) -> Result:
    """Both runs, the recovery, the judgement."""
    started = time.perf_counter()
    world, (first, second) = stage.world, stage.world.lanes
    world.load(stage.snapshot)
    held, go_on = asyncio.Event(), asyncio.Event()

    async def gate(site: Site) -> None:
        if site == case.site:
            held.set()
            await go_on.wait()

    stopped, other = await world.fork(first), await world.fork(second)
    first.begin(undisturbed, gate)
    second.begin(undisturbed)
    subject, minute = stage.scenario.subject, stage.scenario.minute
    task = asyncio.create_task(world.run(first, stopped, subject))
    waiting = asyncio.create_task(held.wait())
    await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
    result = Result(stage.scenario.name, stage.seed, runs=2)
    result.fired = [f"{case}"] if held.is_set() else []
    workflow, event_ms = case.other, None
    if case.other in ("same_event", "two_minutes_later"):
        workflow = subject
    if case.other == "two_minutes_later":
        minute += 2
        world.advance(minute)
        event_ms = START_MS + minute * MINUTE_MS
    through = asyncio.create_task(world.run(second, other, workflow, at_ms=event_ms))
    await asyncio.wait((through,), timeout=_WAITS_FOR_A_LOCK_S)
    go_on.set()
    waiting.cancel()
    await task
    await through
    await world.dismiss(first, stopped)
    await world.dismiss(second, other)
    await stage.recover(first, None, undisturbed, result, minute=minute + 1, todo=None)
    stage.judge(result)
    result.wall_ms = round((time.perf_counter() - started) * 1000, 1)
    return result
