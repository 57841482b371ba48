"""Rules that move the market, the venues, the people and the platform, in any order."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from interruptions import Killed
from settling import settle
from stateful_invariants import Invariants
from stateful_venue import BASE, QUOTE, Lag
from stateful_world import Workflow, World, buy, sell

from shared.ledger import decisions
from tests.conftest import POD

VENUES = st.sampled_from(["binance", "kraken"])
WORKFLOWS: st.SearchStrategy[Workflow] = st.sampled_from(["trading_loop", "position_manager"])
SIZES = st.sampled_from([60, 12, 30, 100, 400])
URGENCIES = st.sampled_from(["high", "normal"])
MOVES = st.sampled_from(["-0.2", "0.3", "-1", "1", "-2.1", "4", "5.5", "11", "-4.5", "-8"])
POINTS = st.integers(1, 16) | st.integers(17, 40)  # an entry is sent at about the eleventh
FAULTS = st.sampled_from(
    ["", "", "reject", "lose request", "lose answer", "late", "half",
     "lag all", "lag fills", "lag closed",
     "cancel fail", "cancel lose answer", "cancel ignore", "cancel fill first"]
)  # fmt: skip
LAGS: dict[str, Lag] = {"lag all": "all", "lag fills": "fills", "lag closed": "closed"}
MEANWHILE = st.sampled_from(
    ["killed", "same event", "other workflow", "lease expired", "halt", "fall", "down", "jump"]
)
GARBAGE: list[dict[str, Any]] = [
    {"size": -50.0},
    {"size": 1e12},
    {"size": "all of it"},
    {"size": float("nan")},
    {"size": None},
    {"symbol": "DOGE/USDT"},
    {"symbol": None},
    {"exits": None},
    {"exits": {}},
    {"exits": {"stopLoss": -1.0}},
    {"action": "BUY BUY BUY"},
]


class Trading(RuleBasedStateMachine):
    """An example is a history of one pod. ``make_world`` is set by the test that has a database."""

    make_world: ClassVar[Callable[[], World]]

    @initialize(size=st.sampled_from([60, 0, 100]), urgency=URGENCIES, fault=FAULTS)
    def begin(self, size: int, urgency: str, fault: str) -> None:
        self.world = type(self).make_world()
        self.sound = Invariants(self.world)
        if size:
            self.entry(size, urgency, fault)

    # The platform

    @rule(minutes=st.integers(1, 3), fault=FAULTS)
    def minutes(self, minutes: int, fault: str) -> None:
        self._break(fault)
        for _ in range(minutes):
            self.world.minute()

    @rule(fault=FAULTS)
    def position_manager(self, fault: str) -> None:
        self._break(fault)
        self.world.minute("position_manager")

    @rule(workflow=WORKFLOWS)
    def doubled(self, workflow: Workflow) -> None:
        """One event is delivered twice, one after the other."""
        self.world.minute(workflow)
        self.world.fire(self.world.events[-1])

    @rule(minutes=st.sampled_from([1, 2, 4, 15]))
    def skipped(self, minutes: int) -> None:
        """Also a jump of the clock: nothing of ours runs meanwhile."""
        self.world.time.advance(minutes=minutes)

    @rule(workflow=WORKFLOWS, point=st.integers(1, 120), fault=FAULTS)
    def killed_at_statement(self, workflow: Workflow, point: int, fault: str) -> None:
        self._break(fault)
        self.world.time.advance(minutes=1)
        event = self.world.event(workflow)
        self.world.interrupted(event, point, self._die, in_statements=True)

    @rule(workflow=WORKFLOWS, point=POINTS, what=MEANWHILE, fault=FAULTS)
    def interrupted(self, workflow: Workflow, point: int, what: str, fault: str) -> None:
        """At a venue's call something else happens, the end of this run among it."""
        self._break(fault)
        self.world.time.advance(minutes=1)
        event = self.world.event(workflow)
        self.world.interrupted(event, point, lambda: self._meanwhile(what, workflow))

    @precondition(lambda self: self.world.events)
    @rule(back=st.integers(1, 6))
    def event_repeated(self, back: int) -> None:
        """The platform delivers an old event again, with the decision of its time."""
        self.world.time.advance(minutes=3)
        self.world.fire(self.world.events[max(0, len(self.world.events) - back)])

    # What was decided

    @rule(size=SIZES, urgency=URGENCIES, fault=FAULTS)
    def entry(self, size: int, urgency: str, fault: str) -> None:
        self._break(fault)
        self.world.fire(self._entry(size, urgency))

    @rule(size=SIZES, urgency=URGENCIES, point=POINTS, what=MEANWHILE, fault=FAULTS)
    def entry_interrupted(self, size: int, urgency: str, point: int, what: str, fault: str) -> None:
        self._break(fault)
        event = self._entry(size, urgency)
        self.world.interrupted(event, point, lambda: self._meanwhile(what, "trading_loop"))

    @rule(
        size=SIZES,
        urgency=URGENCIES,
        fault=FAULTS,
        moves=st.lists(MOVES, min_size=1, max_size=3),
        later=FAULTS,
    )
    def trade(self, size: int, urgency: str, fault: str, moves: list[str], later: str) -> None:
        """An entry, its stop, and what follows from where the price goes."""
        self.entry(size, urgency, fault)
        self.minutes(1, "")
        for percent in moves:
            self.market(percent)
            self.minutes(1, later)

    @rule(fault=FAULTS)
    def sell_signal(self, fault: str) -> None:
        self._break(fault)
        self.world.time.advance(minutes=1)
        self.world.fire(self.world.event("trading_loop", sell(self._decision_id())))

    @rule(number=st.integers(0, len(GARBAGE) - 1))
    def garbage(self, number: int) -> None:
        """A decision that is none orders nothing."""
        self.world.time.advance(minutes=1)
        identity = self._decision_id()
        steps = buy(self.world, 60, "high", identity)
        steps["risk_management"]["$return_value"] |= GARBAGE[number]
        self.world.fire(self.world.event("trading_loop", steps, is_garbage=True))
        ordered = self.world.ledger.query(
            "SELECT 1 FROM intents JOIN parent_orders USING (parent_id) WHERE decision_id = %s",
            (identity,),
        )
        assert ordered == [], GARBAGE[number]

    # The market, the venues and the people

    @rule(percent=MOVES)
    def market(self, percent: str) -> None:
        self.world.move(self.world.price * (1 + Decimal(percent) / 100))

    @rule(
        venue=VENUES,
        what=st.sampled_from(["down", "half", "nothing fills", "wide", "base", "third"]),
    )
    def venue_changes(self, venue: str, what: str) -> None:
        self._break(what, (venue,))

    @rule()
    def venues_heal(self) -> None:
        for venue in self.world.venues.values():
            venue.heal()

    @rule(
        venue=VENUES,
        what=st.sampled_from(["put right"] * 5 + ["halt", "cash", "coins", "order", "trade"]),
    )
    def person(self, venue: str, what: str) -> None:
        world = self.world
        if what == "halt":
            world.halt()
        elif what == "cash":
            world.venues[venue].human_moves(QUOTE, Decimal(-300))
        elif what == "coins":
            world.venues[venue].human_moves(BASE, Decimal("0.3"))
        elif what in ("order", "trade"):
            world.venues[venue].human_orders(fills=what == "trade")
        else:
            world.undo_what_people_did()
            world.rearm()

    # What holds

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "sound"):
            self.sound.check()

    def teardown(self) -> None:
        if hasattr(self, "sound"):
            settle(self.world, self.sound)

    # Helpers

    def _break(self, fault: str, venues: tuple[str, ...] = ("binance", "kraken")) -> None:
        """For the next order or cancel, for a while, or until the venues heal."""
        for venue in (self.world.venues[name] for name in venues):
            if fault.startswith("cancel "):
                venue.next_cancel = fault.removeprefix("cancel ")
            elif fault in LAGS:
                venue.lag(70, LAGS[fault])  # shorter than the quarantine, as the protocol asks
            elif fault == "down":
                venue.down = True
            elif fault == "wide":
                venue.half_spread = (venue.mid / 100).quantize(Decimal("0.01"))
            elif fault in ("half", "nothing fills"):
                venue.fill_share = Decimal("0.5") if fault == "half" else Decimal(0)
            elif fault in ("base", "third"):
                venue.fee_currency = "base" if fault == "base" else "third"
            elif fault:
                venue.next_submit = fault

    def _decision_id(self) -> str:
        return decisions.decision_id(POD, f"trading_loop-{len(self.world.events)}")

    def _entry(self, size: int, urgency: str) -> Any:
        self.world.time.advance(minutes=1)
        steps = buy(self.world, size, urgency, self._decision_id())
        return self.world.event("trading_loop", steps)

    def _die(self) -> None:
        raise Killed

    def _meanwhile(self, what: str, workflow: Workflow) -> None:
        world = self.world
        if what == "killed":
            self._die()
        elif what == "same event":
            world.fire(world.events[-1])
        elif what == "other workflow":
            other: Workflow = (
                "trading_loop" if workflow == "position_manager" else "position_manager"
            )
            world.fire(world.event(other))
        elif what == "lease expired":
            world.time.advance(seconds=95)
            world.fire(world.event(workflow))
        elif what == "halt":
            world.halt()
        elif what == "fall":
            world.move(world.price * Decimal("0.97"))
        elif what == "down":
            for venue in world.venues.values():
                venue.down = True
        else:
            world.time.advance(seconds=20)
