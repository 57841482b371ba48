"""Virtual days on which any call may fail, with every workflow on its schedule."""

from __future__ import annotations

import random
import time

from deploy.local import manifest
from deploy.local.scheduler import virtual_ticks
from deploy.local.servers import PROJECT
from deploy.local.sweep import evidence, invariants
from deploy.local.sweep.cases import MAX_COST_QUOTE, MAX_POSITIONS, Result
from deploy.local.sweep.children import Child
from deploy.local.sweep.market import MINUTE_MS, START_MS, swinging
from deploy.local.sweep.policies import at_rate
from deploy.local.sweep.proxy import undisturbed
from deploy.local.sweep.scenarios import HISTORY_SEED
from deploy.local.sweep.world import World
from shared.ledger import parameters
from shared.parameters import Parameters

RATES = (0.01, 0.02, 0.03, 0.05)
_VENUES = ("binance", "coinbase", "kraken")
_DISTURBED_MINUTES = 50  # of every hour; the rest is quiet, and then the books are judged
# Many small trades: a day on which nothing is bought proves nothing.
_EAGER = Parameters(ensemble_threshold=0.05, ai_score_threshold=0.55, cooldown_minutes=0)
_SETTINGS = {
    "STOP_LOSS_PERCENT": "0.3",
    "TAKE_PROFIT_PERCENT": "0.6",
    "TIME_STOP_HOURS": "0.5",
    "MAX_DAILY_LOSS": "100000",
    "DAILY_LOSS_PERCENT": "99",
    "MAX_DRAWDOWN_PERCENT": "97",
    "DRAWDOWN_ALERT_PERCENT": "98",
    "DRAWDOWN_HALT_PERCENT": "99",
}


async def run_days(world: World, hours: int, seed: int, rate: float) -> Result:
    """``hours`` of virtual time from one seed. After each hour's faults, quiet minutes follow,
    and then the books are judged.

    The breaker runs, too, and pauses trading after failed calls, as it should; each hour starts
    re-armed, so that there is something to go wrong.
    """
    started = time.perf_counter()
    source = swinging(seed, (hours + 1) * 60, history_seed=HISTORY_SEED)
    await world.renew(source, _VENUES, _SETTINGS, seed)
    parameters.put(world.ledger, _EAGER, set_by="sweep", reason="soak", evidence={})
    rng = random.Random(seed)  # noqa: S311 - repeatable on purpose
    lane, child = world.lanes[0], None
    result = Result("soak", seed)
    project = manifest.load(PROJECT)
    for tick in virtual_ticks(project.workflows, START_MS, START_MS + hours * 60 * MINUTE_MS):
        minute = (tick.at_ms - START_MS) // MINUTE_MS
        if tick.at_ms > world.now_ms:
            if minute % 60 == 0:
                # Before the market moves on: a stop that fills in this minute is known to nobody.
                _judge(world, result, minute)
                _rearm(world)
            world.advance(minute)
            if minute % 5 == 0 and invariants.naked(world.accounts(), evidence.dust(world.ledger)):
                result.naked_seconds += 300
        disturbed = minute % 60 < _DISTURBED_MINUTES
        lane.begin(at_rate(rate, rng) if disturbed else undisturbed)
        if child is None or not child.alive:
            child = await world.fork(lane)
        await world.run(lane, child, tick.workflow.name)
        result.runs += 1
        result.recovery_fired += [str(fault) for fault in lane.fired]
    _judge(world, result, hours * 60)
    result.minutes = hours * 60
    result.resolve_seconds = evidence.resolution_seconds(world.ledger, START_MS)
    result.note = _told(world)
    if isinstance(child, Child):
        await world.dismiss(lane, child)
    result.wall_ms = round((time.perf_counter() - started) * 1000, 1)
    return result


def _judge(world: World, result: Result, minute: int) -> None:
    accounts = {name: world.accounts()[name] for name in _VENUES}
    found = invariants.judge(
        evidence.collect(
            world.ledger, accounts, max_cost_quote=MAX_COST_QUOTE, max_positions=MAX_POSITIONS
        ),
        expect_protection=False,
    )
    known = {tuple(violation) for violation in result.violations}
    for violation in found:
        if (violation.kind, violation.what) not in known:
            result.violations.append([violation.kind, violation.what])
            result.fired.append(f"seen at minute {minute}")


def _rearm(world: World) -> None:
    """As a person would by the dashboard: this is about orders, not about the breaker."""
    world.ledger.execute(
        "UPDATE trading_state SET state = 'ACTIVE', pause_until = NULL, rearm_required = false, "
        "close_all = false, size_factor = 1, limit_orders_only = false, since = to_timestamp(%s), "
        "reason = 'soak' WHERE pod = %s",
        (world.now_ms / 1000, world.ledger.pod),
    )


def _told(world: World) -> str:
    row = world.ledger.one(
        "SELECT count(*) AS orders, (SELECT count(*) FROM fills) AS fills, "
        "(SELECT count(*) FROM trades) AS trades FROM orders"
    )
    assert row is not None
    return f"orders={row['orders']} fills={row['fills']} trades={row['trades']}"
