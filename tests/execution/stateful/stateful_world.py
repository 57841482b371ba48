"""One pod on two venues, the market, a person, and a platform that fires events.

Runs go through the real frame (``shared.run.run_step``) and the real bodies (``execute``,
``manage``) over a real ledger; only the venues and the clock are the test's.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, Literal

import psycopg2
import pytest
from interruptions import Interruption, Killed, PointedLedger
from stateful_venue import BASE, QUOTE, THIRD, THIRD_MID, StatefulVenue
from wire_checks import WireChecks

from shared import clock, instance
from shared import run as frame
from shared.errors import TradingLoopError
from shared.execution.desk import Desk
from shared.execution.execute import execute
from shared.ledger import connection, decisions, state, transfers
from shared.ledger.decisions import Decision
from shared.risk.manage import manage
from shared.run import Export, Run
from tests.conftest import POD, VirtualClock
from tests.peg_rows import tell_worth

SYMBOL = f"{BASE}/{QUOTE}"
Workflow = Literal["trading_loop", "position_manager"]

_TABLES = (
    "fills, orders, intents, parent_orders, naked_intervals, positions, risk_checks, decisions, "
    "scans, venue_calls, runs, leases, events, alerts, prices, equity, transfers"
)
# What a step may raise for a decision that is none. Nothing else may be raised at all.
_GARBAGE_ERRORS = (
    TradingLoopError, psycopg2.DatabaseError, LookupError, TypeError, ValueError, ArithmeticError,
)  # fmt: skip


@dataclass(frozen=True)
class Event:
    """One event of the platform; a repeat of it carries the same trace, time and decision."""

    workflow: Workflow
    trace_id: str
    at_s: int
    steps: dict[str, Any] = field(default_factory=dict)
    is_garbage: bool = False


class World:
    """Everything that an example moves.

    Attributes:
        events: those that were fired, oldest first.
        price: the mid of the market; each venue's lies its basis away from it.
    """

    def __init__(self, database_url: str, time: VirtualClock, patch: pytest.MonkeyPatch) -> None:
        self.ledger = connection.connect(database_url, POD)
        self.time = time
        self.interruption = Interruption()
        self.venues = {
            venue.name: venue
            for venue in (
                StatefulVenue("binance"),
                StatefulVenue(
                    "kraken",
                    protection="stop_market",
                    request_validity=timedelta(seconds=10),
                    basis=Decimal("0.02"),
                ),
            )
        }
        self.price = Decimal(100)
        self.events: list[Event] = []
        self.checks = WireChecks(self.ledger, self.venues)
        self._empty_ledger()
        self._open_accounts()
        self._patch(patch, database_url)
        for venue in self.venues.values():
            venue.before_submit = self.checks.check
            self.interruption.wrap(venue, self._tick)

    # The platform

    def event(
        self, workflow: Workflow, steps: dict[str, Any] | None = None, *, is_garbage: bool = False
    ) -> Event:
        """A new event of this minute."""
        self.time.advance(seconds=1)
        trace_id = f"{workflow}-{len(self.events)}"
        made = Event(workflow, trace_id, clock.now_ms() // 1000, steps or hold(), is_garbage)
        self.events.append(made)
        return made

    def fire(self, event: Event) -> Any:
        """Deliver an event, as the platform calls the step's handler; ends with a kill."""
        pd = SimpleNamespace(
            inputs={},
            steps={
                "trigger": {
                    "context": {"trace_id": event.trace_id},
                    "event": {"timestamp": event.at_s},
                }
            },
            flow=SimpleNamespace(exit=lambda reason: reason),
        )
        self.time.advance(milliseconds=5)
        body = self._loop(event) if event.workflow == "trading_loop" else manage
        with self.checks.within(event.workflow):
            try:
                export = frame.run_step(
                    pd,
                    workflow=event.workflow,
                    step=event.workflow,
                    body=body,
                    first=True,
                    last=True,
                )
            except Killed:
                with self.interruption.paused():
                    self.ledger.execute("ROLLBACK")  # as the server does for a lost connection
                return None
            except _GARBAGE_ERRORS:
                if not event.is_garbage:
                    raise
                return None
        json.dumps(export, allow_nan=False)
        return export

    def minute(self, workflow: Workflow = "trading_loop", **options: Any) -> Any:
        """The next minute's event."""
        self.time.advance(minutes=1)
        return self.fire(self.event(workflow, **options))

    def interrupted(
        self, event: Event, point: int, act: Callable[[], Any], *, in_statements: bool = False
    ) -> None:
        """Fire, and at the given point do something else in between."""
        with self.interruption.at(point, act, in_statements=in_statements):
            self.fire(event)

    # The market and the people

    def move(self, price: Decimal) -> None:
        """The price goes there on both venues."""
        self.price = min(max(price, Decimal(40)), Decimal(250)).quantize(Decimal("0.01"))
        for venue in self.venues.values():
            venue.move(self.price)

    def halt(self) -> None:
        """A person pulls the kill switch."""
        self._tick()
        state.tighten(self.ledger, "HALTED", reason="drill", set_by="a person", rearm_required=True)
        self._tick()

    def rearm(self) -> None:
        """A person allows trading again."""
        self._tick()
        state.rearm(self.ledger, reason="drill is over", set_by="a person")

    def undo_what_people_did(self) -> None:
        """He takes his orders back, and tells the ledger what he has moved."""
        for venue in self.venues.values():
            venue.human_cancels()
        for venue in self.venues.values():
            for currency, amount in sorted(venue.human.items()):
                if amount:
                    transfers.book(
                        self.ledger, venue.name, currency, amount,
                        note=f"by hand until {clock.now_ms()}", booked_by="a person",
                    )  # fmt: skip
            venue.human.clear()

    def _tick(self) -> None:
        self.time.advance(milliseconds=40)

    # How a run is made

    def _loop(self, event: Event) -> Callable[[Run], Export]:
        """The steps before the last one, by what they leave behind, and then the last one."""

        def body(run: Run) -> Export:
            self._see_prices(run)
            run.steps = event.steps
            risk = event.steps["risk_management"]["$return_value"]
            if isinstance(risk, dict) and risk.get("decision_id"):
                _store_decision(run, risk)
            return execute(run)

        return body

    def _see_prices(self, run: Run) -> None:
        for venue in self.venues.values():
            if venue.down:
                continue
            run.ledger.execute(
                "INSERT INTO prices VALUES (%s, %s, %s, %s, %s, %s, %s, %s, 5e7) "
                "ON CONFLICT (pod, venue, symbol) DO UPDATE "
                "SET bid = excluded.bid, ask = excluded.ask, at = excluded.at, "
                "low_1m = excluded.low_1m, high_1m = excluded.high_1m",
                (
                    POD,
                    venue.name,
                    SYMBOL,
                    venue.bid,
                    venue.ask,
                    clock.now(),
                    venue.bid,
                    venue.ask,
                ),
            )

    def _empty_ledger(self) -> None:
        self.ledger.execute("ROLLBACK")
        self.ledger.execute(f"TRUNCATE {_TABLES} RESTART IDENTITY")
        self.ledger.execute(
            "UPDATE trading_state SET state = 'ACTIVE', reason = '', set_by = '', since = %s, "
            "pause_until = NULL, rearm_required = false, size_factor = 1, "
            "limit_orders_only = false, close_all = false, rearmed_at = NULL WHERE pod = %s",
            (clock.now(), POD),
        )

    def _open_accounts(self) -> None:
        tell_worth(self.ledger, pod=POD)
        for venue in self.venues.values():
            for currency in (QUOTE, THIRD):
                self.ledger.execute(
                    "INSERT INTO transfers (pod, venue, currency, amount, at, note) "
                    "VALUES (%s, %s, %s, %s, %s, 'opening balance')",
                    (POD, venue.name, currency, venue.account[currency], clock.now()),
                )
            self.ledger.execute(
                "INSERT INTO prices VALUES (%s, %s, %s, %s, %s, %s)",
                (POD, venue.name, f"{THIRD}/{QUOTE}", THIRD_MID, THIRD_MID, clock.now()),
            )

    def _patch(self, patch: pytest.MonkeyPatch, database_url: str) -> None:
        for name, value in {
            "POD": POD, "VENUES": ",".join(self.venues), "SYMBOLS": BASE,
            "DATABASE_URL": database_url,
        }.items():  # fmt: skip
            patch.setenv(name, value)
        patch.delenv("REDIS_URL", raising=False)
        patch.setattr(
            instance, "open_ledger", lambda _: PointedLedger(self.ledger, self.interruption)
        )
        patch.setattr(Desk, "open", lambda run: Desk(run, self.venues))


def hold() -> dict[str, Any]:
    """What the earlier steps say in a quiet minute."""
    return _exports({"action": "HOLD", "approved": False, "decision_id": None, "size": 0.0}, {})


def buy(world: World, size_quote: int, urgency: str, decision_id: str) -> dict[str, Any]:
    """An approved entry at the present price, with the default exits around it."""
    mid = float(world.price)
    exits = {
        "stopLoss": round(mid * 0.98, 4),
        "takeProfit": round(mid * 1.05, 4),
        "trailingStop": {
            "enabled": True,
            "activation": round(mid * 1.03, 4),
            "distance_percent": 1.0,
        },
        "timeStop": clock.now_ms() + 86_400_000,
    }
    risk = {
        "action": "BUY", "approved": True, "decision_id": decision_id, "size": float(size_quote),
        "exits": exits,
    }  # fmt: skip
    return _exports(risk, {"mid": mid, "urgency": urgency})


def sell(decision_id: str) -> dict[str, Any]:
    """An approved exit by signal."""
    return _exports(
        {"action": "SELL", "approved": True, "decision_id": decision_id, "size": 0.0}, {}
    )


def _exports(risk: dict[str, Any], final: dict[str, Any]) -> dict[str, Any]:
    risk = {"symbol": SYMBOL, "exits": None, "reasoning": ["NO_CANDIDATE"]} | risk
    final = {"action": risk["action"], "symbol": SYMBOL, "strategy": "mean_reversion"} | final
    return {
        "signal_generator": {"$return_value": {"finalDecision": final}},
        "risk_management": {"$return_value": risk},
    }


def _store_decision(run: Run, risk: dict[str, Any]) -> None:
    """As ``signal_generator`` does; a repeat of the event finds the first one."""
    action = "SELL" if risk["action"] == "SELL" else "BUY"
    with run.ledger.transaction():
        run.guard()
        decisions.record(
            run.ledger,
            run.run_id,
            Decision(
                risk["decision_id"],
                SYMBOL,
                action,
                "ensemble",
                "mean_reversion",
                0.8,
                1.0,
                Decimal(100),
                "scripted",
                {},
                [],
            ),  # fmt: skip
        )
