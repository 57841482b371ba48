"""The position manager and the loop, minute by minute, over a real ledger and written candles."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from shared import clock
from shared.errors import VenueUnavailable
from shared.execution.exits.protecting import Protection
from shared.execution.reconciling.findings import Reconciliation
from shared.execution.types import MarketRules, OrderResult
from shared.ledger import positions, runs, state
from shared.ledger.positions import Position
from shared.market.candles import candle_store
from shared.market.types import Book, Candles, Quote
from shared.risk import manage as manager
from shared.run import Run
from tests.conftest import VirtualClock
from tests.risk.managing.scenarios import Candle, Outcome, Scenario
from tests.risk.world import BTC, World, dec, make_run, rules

MINUTE_MS = 60_000
HOUR_MS = 3_600_000


class BenchVenue:
    """Tells rules, and a book at the bench's prices, but no history."""

    def __init__(self, name: str, desk: BenchDesk) -> None:
        self.name = name
        self._desk = desk

    def rules(self, symbol: str) -> MarketRules:
        return rules(self.name, symbol)

    def book(self, symbol: str) -> Book:
        quote = self._desk.prices.get(symbol)
        if quote is None:
            raise VenueUnavailable(f"{self.name}: {symbol}: no book")
        return Book(symbol, ((quote.bid, 1000.0),), ((quote.ask, 1000.0),), clock.now_ms())

    def candles(self, symbol: str, timeframe: str, **window: Any) -> list[Any]:
        raise VenueUnavailable(f"{self.name}: {symbol}: no candles")


class BenchDesk:
    """Sells at the bid into the ledger, and notes what it was asked for."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.prices: dict[str, Quote] = {}
        self.venues: dict[str, Any] = {"binance": BenchVenue("binance", self)}
        self.reconciliation = Reconciliation()
        self.protection = Protection()
        self.exits: list[tuple[int, str, Decimal]] = []
        self.additions: list[tuple[int, Decimal, str]] = []

    def reconcile(self) -> Reconciliation:
        return self.reconciliation

    def protect(self) -> Protection:
        return self.protection

    def quotes(self, symbols: Sequence[str]) -> dict[str, Quote]:
        return {symbol: self.prices[symbol] for symbol in symbols if symbol in self.prices}

    def exit(
        self, position_id: int, *, reason: str, fraction: Decimal = Decimal(1)
    ) -> list[OrderResult]:
        held = positions.by_id(self._world.ledger, position_id)
        assert held is not None
        bid = dec(self.prices[held.symbol].bid)
        sold = held.quantity * fraction
        self._world.fill(position_id, sold, side="sell", price=bid, symbol=held.symbol)
        self.exits.append((position_id, reason, fraction))
        return [
            OrderResult("i", "binance", held.symbol, "sell", sold, "FILLED", sold, bid, dec(0), "")
        ]

    def add(self, position_id: int, size_quote: Decimal, decision_mid: Decimal, reason: str) -> str:
        self.additions.append((position_id, size_quote, reason))
        return "parent"


class MinuteBench:
    """One position, and the candles that have closed so far."""

    def __init__(self, world: World, time: VirtualClock, patch: pytest.MonkeyPatch) -> None:
        world.configure(MAX_POSITION_SIZE="20")  # no room for additions
        self.world, self.time, self.desk = world, time, BenchDesk(world)
        self.hours: str | None = None
        self._minutes: list[tuple[int, Candle]] = []
        patch.setattr("shared.execution.desk.Desk.open", lambda run: self.desk)
        patch.setattr(candle_store, "window", self._window)

    def play(self, scenario: Scenario) -> Outcome | None:
        """Live through the scenario's minutes; how the position was left, if it was."""
        given = scenario.given
        position_id = self._enter(given)
        hours, _, minutes = given.get("age", "0:00").partition(":")
        self.time.advance(hours=int(hours), minutes=int(minutes))
        self.hours = given.get("hours")
        unseen: list[Candle] = []
        for minute, candle in enumerate(scenario.candles, 1):
            if minute == int(given.get("close_all", "0")):
                state.tighten(
                    self.world.ledger, "HALTED", reason="test", set_by="test", close_all=True
                )
            before = self._position(position_id)
            unseen.append(candle)
            self._close(candle, float(given.get("spread", "0")))
            if minute % 5 == 0:
                self._look("position_manager")
            self._look("trading_loop", dies=minute in scenario.dead())
            whole = [reason for _, reason, fraction in self.desk.exits if fraction == 1]
            if whole:
                return Outcome(whole[0], minute, self._price(whole[0], before, unseen))
            if minute not in scenario.dead():
                unseen = []
        return None

    def _enter(self, given: dict[str, str]) -> int:
        def price(name: str, usual: int) -> Decimal | None:
            told = given.get(name, str(usual))
            return None if told == "none" else dec(told)

        now = self.world.now()
        position_id = self.world.position(
            strategy=given.get("strategy", "momentum"),
            stop_price=price("stop", 98),
            target_price=price("target", 105),
            trailing_activation_price=price("activation", 103),
            trailing_distance_percent=price("distance", 1),
            time_stop_at=None if given.get("time") == "none" else now + timedelta(hours=24),
        )
        self.world.fill(position_id, "0.5", at=now)
        return position_id

    def _close(self, candle: Candle, spread: float) -> None:
        """A candle closes, and its minute's runs begin five seconds later."""
        opened_ms = clock.now_ms() // MINUTE_MS * MINUTE_MS
        self._minutes.append((opened_ms, candle))
        self.time.now_ms = opened_ms + MINUTE_MS + 5_000
        half = spread / 2
        self.desk.prices[BTC] = Quote(candle.close - half, candle.close + half, clock.now_ms())

    def _look(self, workflow: str, *, dies: bool = False) -> None:
        """A run of a workflow; one that dies leaves its row in the ledger and nothing else."""
        run = make_run(self.world.ledger, workflow)
        run.config = self.world.run.config
        if dies:
            return
        if workflow == "position_manager":
            manager.manage(run)
        else:
            manager.manage_exits(run, self.desk)  # type: ignore[arg-type]
        runs.finish(self.world.ledger, run.run_id, run.epoch, duration_ms=1.0)

    def _price(self, reason: str, before: Position, unseen: list[Candle]) -> float:
        """Where the stop that rested since the look before has sold, or else the bid."""
        stop = float(before.stop_price)
        met = next((candle for candle in unseen if candle.low <= stop), None)
        if reason in ("stop", "trailing") and met is not None:
            return min(met.open, stop)
        return self.desk.prices[BTC].bid

    def _position(self, position_id: int) -> Position:
        found = positions.by_id(self.world.ledger, position_id)
        assert found is not None
        return found

    def _window(self, run: Run, venue: Any, symbol: str, timeframe: str) -> Candles | None:
        if timeframe == "1h":
            return self._hourly()
        if not self._minutes:
            return None
        opens = np.array([at for at, _ in self._minutes], dtype=np.int64)
        rows = np.array([(c.open, c.high, c.low, c.close) for _, c in self._minutes]).T
        return Candles(symbol, "1m", opens, *rows, np.ones(len(opens)))

    def _hourly(self) -> Candles | None:
        """Flat for a long time, then an accelerating move over the last eight closed hours."""
        if self.hours is None:
            return None
        sign = -1 if self.hours == "falling" else 1
        close = np.concatenate([np.full(150, 100.0), 100 + sign * 0.02 * np.arange(1, 9) ** 2])
        end = clock.now_ms() // HOUR_MS * HOUR_MS
        opens = end - HOUR_MS * np.arange(len(close), 0, -1, dtype=np.int64)
        return Candles(BTC, "1h", opens, close, close, close, close, np.ones(len(close)))
