"""The sweep in short: the calls around an order's sending, and a baseline that fails there.

Everything is real here but its length: processes, SIGKILL, PostgreSQL, Redis and HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from deploy.local.sweep import campaign, overlap
from deploy.local.sweep.baseline_stage import BaselineStage
from deploy.local.sweep.cases import Result, Stage
from deploy.local.sweep.faults import Fault, Mode, Site, modes_for
from deploy.local.sweep.overlap import Overlap
from deploy.local.sweep.proxy import at
from deploy.local.sweep.scenarios import SCENARIOS
from deploy.local.sweep.world import World
from shared import clock
from shared.ledger import connection

SEND = Site("http POST binance /api/v3/order", 1)


def in_a_world(work: Callable[[World], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        world = World()
        try:
            await world.start()
            return await work(world)
        finally:
            await world.stop()

    previous = clock._virtual_now_ms
    connection.close_all()
    try:
        return asyncio.run(run())
    finally:
        clock.install(previous)


def around_the_send(sites: list[Site]) -> list[Site]:
    """The intent's commit, the send, and the commit of what came of it."""
    place = sites.index(SEND)
    commits = [site for site in sites if site.name.startswith("sql COMMIT")]
    before = [site for site in commits if sites.index(site) < place][-1]
    after = [site for site in commits if sites.index(site) > place][0]
    return [before, SEND, after]


def test_an_order_is_neither_lost_nor_doubled_whatever_strikes_around_its_sending() -> None:
    async def work(world: World) -> tuple[list[Result], int]:
        stage = Stage(world, SCENARIOS["entry"], 1)
        await stage.prepare()
        sites = around_the_send(stage.reference.sites)
        assert stage.reference.bought > 0
        faults = [Fault(site, mode) for site in sites for mode in modes_for(site)]
        results = [await stage.run(at(fault)) for fault in faults]
        stopped = Overlap(SEND, "same_event")
        return [*results, await overlap.run_overlap(stage, stopped)], len(faults) + 1

    results, expected = in_a_world(work)
    assert len(results) == expected
    assert [result.fired for result in results if len(result.fired) != 1] == []
    assert [(r.fired, r.violations) for r in results if r.violations] == []


@pytest.mark.parametrize(
    ("program", "mode", "kinds"),
    [
        ("send_then_write", Mode.KILL_AFTER_EFFECT, {"duplicate_order", "orphan_order"}),
        ("same_id_resend", Mode.KILL_AFTER_EFFECT, set()),
        ("same_id_resend", Mode.LATE_ARRIVAL, {"duplicate_order"}),
    ],
)
def test_a_baseline_breaks_where_it_must(program: str, mode: Mode, kinds: set[str]) -> None:
    """Otherwise the sweep would prove nothing: it must be able to see a failure."""

    async def work(world: World) -> tuple[Result, Result]:
        stage = BaselineStage(world, program, "instant", 1)
        await stage.prepare()
        result = await stage.run(at(Fault(SEND, mode)))
        told = campaign.replay_command({"order": "first", **result.as_json()})
        return result, await campaign.run_case(world, told.split('"')[1])

    result, again = in_a_world(work)
    assert result.fired == [f"{SEND}:{mode}"]
    seen = {kind for kind, _ in result.violations}
    assert seen >= kinds
    assert bool(seen) is bool(kinds)
    assert again.violations == result.violations  # the command repeats the case
