"""The sweep in short: the calls around an order's sending, and a baseline that fails there.

Everything is real here but its length: processes, SIGKILL, PostgreSQL, Redis and HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from deploy.local.servers import EmbeddedServers
from deploy.local.sweep import campaign, overlap
from deploy.local.sweep.baseline_stage import BaselineStage
from deploy.local.sweep.cases import Result, Stage
from deploy.local.sweep.faults import Fault, Mode, Site
from deploy.local.sweep.market import MINUTE_MS, START_MS
from deploy.local.sweep.overlap import Overlap
from deploy.local.sweep.proxy import at
from deploy.local.sweep.scenarios import SCENARIOS
from deploy.local.sweep.world import World
from shared import clock
from shared.ledger import connection
from shared.ledger.connection import Row

SEND = Site("http POST binance /api/v3/order", 1)
PLAN = Site("sql INSERT rebalances", 1)
PLAN_COMMIT = "sql COMMIT (INSERT rebalances, "
LATE = ("same_id_resend", Mode.LATE_ARRIVAL)


def in_a_world(servers: EmbeddedServers, work: Callable[[World], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        world = World(servers)
        await world.start()
        try:
            return await work(world)
        finally:
            await world.stop()

    previous = clock._virtual_now_ms
    connection.close_all()
    try:
        return asyncio.run(run())
    finally:
        clock.install(previous)


def around_the_send(sites: list[Site]) -> list[Fault]:
    """The intent's commit, the send, and the commit of what came of it."""
    place = sites.index(SEND)
    commits = [site for site in sites if site.name.startswith("sql COMMIT")]
    before = [site for site in commits if sites.index(site) < place][-1]
    after = next(site for site in commits if sites.index(site) > place)
    return [
        Fault(before, Mode.KILL_AFTER_EFFECT),
        Fault(before, Mode.EXCEPTION_AFTER),
        *(Fault(SEND, mode) for mode in (Mode.KILL_AFTER_EFFECT, Mode.TIMEOUT_AFTER)),
        Fault(SEND, Mode.LATE_ARRIVAL),
        Fault(after, Mode.KILL_BEFORE),
    ]


def test_an_order_is_neither_lost_nor_doubled_whatever_strikes_around_its_sending(
    servers: EmbeddedServers,
) -> None:
    async def work(world: World) -> list[Result]:
        stage = Stage(world, replace(SCENARIOS["entry"], models=False), 1)
        await stage.prepare()
        assert stage.reference.bought > 0
        faults = around_the_send(stage.reference.sites)
        results = [await stage.run(at(fault)) for fault in faults]
        return [*results, await overlap.run_overlap(stage, Overlap(SEND, "same_event"))]

    results = in_a_world(servers, work)
    assert [result.fired for result in results if len(result.fired) != 1] == []
    assert [(r.fired, r.violations) for r in results if r.violations] == []


def test_a_rebalance_of_two_symbols_is_planned_and_carried_out_once(
    servers: EmbeddedServers,
) -> None:
    """One is sold, then another is bought, and the run that plans it dies around its commit."""
    rows = "SELECT at, trades FROM rebalances ORDER BY at"

    async def work(world: World) -> tuple[list[Result], list[list[Row]]]:
        stage = Stage(world, SCENARIOS["core_swap_plan"], 1)
        await stage.prepare()
        planned = [world.ledger.query(rows)]
        commit = next(s for s in stage.reference.sites if s.name.startswith(PLAN_COMMIT))
        results = []
        for fault in (
            Fault(PLAN, Mode.KILL_AFTER_EFFECT),
            Fault(commit, Mode.KILL_BEFORE),
            Fault(commit, Mode.KILL_AFTER_EFFECT),
            Fault(commit, Mode.EXCEPTION_AFTER),
        ):
            results.append(await stage.run(at(fault)))
            planned.append(world.ledger.query(rows))
        return results, planned

    results, planned = in_a_world(servers, work)
    assert [len(result.fired) for result in results] == [1, 1, 1, 1]
    assert [(r.fired, r.violations) for r in results if r.violations] == []
    for funded, swapped in planned:  # once, by whichever run
        assert {trade["side"] for trade in funded["trades"]} == {"buy"}
        assert {(trade["side"], trade["symbol"]) for trade in swapped["trades"]} == {
            ("sell", "BTC/USDT"),
            ("buy", "ETH/USDT"),
        }
    minutes = [(clock.to_ms(swapped["at"]) - START_MS) // MINUTE_MS for _, swapped in planned]
    assert minutes == [20, 25, 25, 20, 20]


def test_the_baselines_break_where_they_must(servers: EmbeddedServers) -> None:
    """Otherwise the sweep would prove nothing: it must be able to see a failure."""

    async def work(world: World) -> dict[tuple[str, Mode], Result]:
        found = {}
        for program in ("send_then_write", "same_id_resend"):
            stage = BaselineStage(world, program, "instant", 1)
            await stage.prepare()
            for mode in (Mode.KILL_AFTER_EFFECT, Mode.LATE_ARRIVAL):
                found[program, mode] = await stage.run(at(Fault(SEND, mode)))
        told = campaign.replay_command({"order": "first", **found[LATE].as_json()})
        found["again", LATE[1]] = await campaign.run_case(world, told.split('"')[1])
        return found

    found = in_a_world(servers, work)
    kinds = {key: {kind for kind, _ in result.violations} for key, result in found.items()}
    assert all(len(result.fired) == 1 for result in found.values())
    assert kinds["send_then_write", Mode.KILL_AFTER_EFFECT] == {
        "duplicate_order",
        "orphan_order",
        "lost_fill",
    }
    assert kinds["same_id_resend", Mode.KILL_AFTER_EFFECT] == set()
    assert "duplicate_order" in kinds[LATE]
    assert found["again", LATE[1]].violations == found[LATE].violations  # the command repeats it
