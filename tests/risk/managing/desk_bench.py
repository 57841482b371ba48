"""A position bought by the real desk through the real gate on a scripted venue, run by run."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from shared import clock
from shared.execution.desk import Desk
from shared.execution.types import EntryOrder
from shared.ledger import positions, runs
from shared.ledger.positions import Position
from shared.market.candles import candle_store
from shared.market.types import Candles
from shared.risk import exits, manage
from shared.run import Export, Run
from tests.conftest import VirtualClock
from tests.execution.scripted_venue import ScriptedVenue
from tests.risk.world import BTC, World, make_run

HOUR_MS = 3_600_000


class DeskBench:
    """10,000 USDT on one venue and a position of ``size`` entered at 100.

    Attributes:
        trend: what the hourly averages say, 1 rising, -1 falling, 0 not known.
        hourly_step_percent: by how much an hour's price usually moved until a day ago.
    """

    def __init__(
        self,
        world: World,
        time: VirtualClock,
        patch: pytest.MonkeyPatch,
        *,
        size: str = "90",
        **settings: str,
    ) -> None:
        world.configure(VENUES="binance", **settings)
        self.world, self.time, self.venue = world, time, ScriptedVenue()
        self.venue.account["USDT"] = Decimal(6000)  # what the world has transferred there
        self.trend, self.hourly_step_percent = 1, 0.0
        patch.setattr(candle_store, "window", self._window)
        patch.setattr(Desk, "open", lambda run: Desk(run, {"binance": self.venue}))
        self._see_prices()
        desk = Desk.open(self.world.run)
        desk.reconcile()
        made = exits.for_entry(world.run.config, Decimal(100), clock.now_ms())
        order = EntryOrder(
            None, BTC, Decimal(size), Decimal(100), "momentum", "tactical", "high", made
        )
        desk.enter(order)
        desk.work()
        desk.protect()
        (self.position_id,) = [p.position_id for p in positions.open_positions(world.ledger)]

    @property
    def position(self) -> Position:
        found = positions.by_id(self.world.ledger, self.position_id)
        assert found is not None
        return found

    def manage(self, mid: str) -> Export:
        """A run of the position manager, a minute later, at another price."""
        run = self._run("position_manager", mid)
        export = manage.manage(run)
        runs.finish(self.world.ledger, run.run_id, run.epoch, duration_ms=1.0)
        return export

    def loop(self, mid: str) -> list[dict[str, Any]]:
        """A run of the trading loop's last step, a minute later; returns what its exits did."""
        run = self._run("trading_loop", mid)
        desk = Desk.open(run)
        desk.reconcile()
        desk.protect()
        actions = manage.manage_exits(run, desk)
        desk.work()
        desk.protect()
        desk.settle()
        runs.finish(self.world.ledger, run.run_id, run.epoch, duration_ms=1.0)
        return actions

    def sold(self) -> Decimal:
        return sum((f.quantity for f in self.venue.executions if f.side == "sell"), Decimal(0))

    def bought(self) -> Decimal:
        return sum((f.quantity for f in self.venue.executions if f.side == "buy"), Decimal(0))

    def loss_at_stop(self) -> Decimal:
        """Cash that would be missing in the end, all fees counted, were all sold at the stop."""
        held = self.position
        back = held.quantity * held.stop_price * (1 - self.venue.fee_bps / 10_000)
        return -held.quote_flow - back

    def events(self, kind: str) -> list[dict[str, Any]]:
        rows = self.world.ledger.query(
            "SELECT detail FROM events WHERE kind = %s ORDER BY event_id", (kind,)
        )
        return [row["detail"] for row in rows]

    def _run(self, workflow: str, mid: str) -> Run:
        self.time.advance(minutes=1)
        self.venue.move(mid)
        self._see_prices()
        settings = self.world.run.config
        self.world.run = make_run(self.world.ledger, workflow)
        self.world.run.config = settings
        return self.world.run

    def _see_prices(self) -> None:
        self.world.price("binance", BTC, self.venue.mid)
        self.world.calm(mid=self.venue.mid)

    def _window(self, run: Run, venue: Any, symbol: str, timeframe: str) -> Candles | None:
        if timeframe != "1h" or not self.trend:
            return None
        steps = np.random.default_rng(5).standard_normal(126)
        rough = self.hourly_step_percent * np.cumsum(steps - steps.mean())
        rise = self.trend * 0.02 * np.arange(1, 9) ** 2
        close = 100.0 + np.concatenate([rough, np.zeros(24), rise])
        end = clock.now_ms() // HOUR_MS * HOUR_MS
        opens = end - HOUR_MS * np.arange(len(close), 0, -1, dtype=np.int64)
        return Candles(symbol, "1h", opens, close, close, close, close, np.ones(len(close)))
