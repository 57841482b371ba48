"""The baselines on the same stage: one signal, one order wanted, the same faults."""

from __future__ import annotations

from decimal import Decimal

from deploy.local.sweep import baselines
from deploy.local.sweep.cases import Reference, Result, Stage
from deploy.local.sweep.market import scripted
from deploy.local.sweep.scenarios import HISTORY_SEED, Scenario
from deploy.local.sweep.world import World
from deploy.local.venue_check import trade_id

FILLS = {"instant": "50", "resting": "1"}  # PRICE_COLLAR_BPS, by which a baseline is told
_FILLED_AT = {baselines.SIGNAL_MINUTE + 1: 0.997}  # the price comes down to the resting order
_RECOVERY_MINUTES = 5


class BaselineStage(Stage):
    """A baseline before the minute of its signal.

    Args:
        program: a name in ``baselines.PROGRAMS``.
        fill: ``instant`` or ``resting``.
    """

    def __init__(self, world: World, program: str, fill: str, seed: int) -> None:
        scenario = Scenario(
            f"{program}/{fill}",
            "a signal to buy",
            subject="loop",
            venues=(baselines.VENUE,),
            quiet_minutes=baselines.SIGNAL_MINUTE,
            closes=_FILLED_AT if fill == "resting" else {},
            settings={"PRICE_COLLAR_BPS": FILLS[fill]},
        )
        super().__init__(world, scenario, seed)
        self.program = program

    async def prepare(self) -> None:
        """Two minutes without a signal, the snapshot, the reference."""
        world, scenario = self.world, self.scenario
        source = scripted(self.seed, scenario.closes, history_seed=HISTORY_SEED)
        await world.renew(source, scenario.venues, scenario.settings, self.seed)
        lane = world.lanes[0]
        lane.begin()
        child = await world.fork(lane, self.program)
        for minute in range(scenario.minute):
            world.advance(minute)
            child = await self._expect(lane, child, "loop", None)
        world.advance(scenario.minute)
        await world.dismiss(lane, child)
        self.snapshot = world.save("baseline")
        self.bought_before = Decimal(0)
        self.reference = await self._refer()

    def _due(self, minute: int) -> list[str]:
        return ["loop"]

    def _has_settled(self, minutes: int, worked: int, *, open_before: bool) -> bool:
        return minutes >= _RECOVERY_MINUTES

    def _bought(self) -> Decimal:
        fills = self.world.accounts()[baselines.VENUE]["fills"]
        return sum((Decimal(fill["quantity"]) for fill in fills), Decimal(0))

    def _is_at_rest(self) -> bool:
        return True

    def _naked(self) -> bool:
        return False  # neither places a stop; what is compared is the entry

    def judge(self, result: Result) -> None:
        """One signal is one order; books are the two tables."""
        account, ledger = self.world.accounts()[baselines.VENUE], self.world.ledger
        orders = account["orders"]
        known = {
            row["venue_order_id"] for row in ledger.query("SELECT venue_order_id FROM naive_trades")
        }
        recorded = {
            row["venue_trade_id"] for row in ledger.query("SELECT venue_trade_id FROM naive_fills")
        }
        for order in orders[1:]:
            result.violations.append(["duplicate_order", f"order {order['order_id']}"])
        for order in orders:
            if str(order["order_id"]) not in known:
                result.violations.append(["orphan_order", f"order {order['order_id']}"])
        for fill in account["fills"]:
            if trade_id(baselines.VENUE, fill) not in recorded:
                result.violations.append(["lost_fill", f"trade {fill['trade_id']}"])
        result.missed_entry = not orders

    async def _refer(self) -> Reference:
        reference = await super()._refer()
        assert reference.bought == Decimal(baselines.QUANTITY), f"bought {reference.bought}"
        return reference
