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
from stateful_venue import BASE, QUOTE, StatefulVenue
from stateful_world import Workflow, World, buy, sell

from shared.ledger import decisions
from tests.conftest import POD

VENUES = st.sampled_from(["binance", "kraken"])
WORKFLOWS: st.SearchStrategy[Workflow] = st.sampled_from(["trading_loop", "position_manager"])
SIZES = st.sampled_from([12, 30, 60, 100, 400])
URGENCIES = st.sampled_from(["normal", "high"])
MOVES = st.sampled_from(["-0.2", "0.2", "-1", "1", "-2.1", "3.2", "5.5", "11", "-4.5", "-8"])
SUBMIT_FAULTS = st.sampled_from(["reject", "lose request", "lose answer", "late"])
CANCEL_FAULTS = st.sampled_from(["fail", "lose answer", "ignore", "fill first"])
MEANWHILE = st.sampled_from(
    ["same event", "other workflow", "lease expired", "halt", "fall", "down", "jump"]
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

    @initialize()
    def begin(self) -> None:
        self.world = type(self).make_world()
        self.sound = Invariants(self.world)

    # The platform

    @rule(workflow=WORKFLOWS)
    def cron(self, workflow: Workflow) -> None:
        self.world.minute(workflow)

    @rule(workflow=WORKFLOWS)
    def cron_doubled(self, workflow: Workflow) -> None:
        self.world.minute(workflow)
        self.world.fire(self.world.events[-1])

    @rule(minutes=st.sampled_from([1, 2, 4, 15]))
    def cron_skipped(self, minutes: int) -> None:
        """Also a jump of the clock: nothing of ours runs meanwhile."""
        self.world.time.advance(minutes=minutes)

    @rule(workflow=WORKFLOWS, point=st.integers(1, 90), in_statements=st.booleans())
    def killed(self, workflow: Workflow, point: int, in_statements: bool) -> None:
        self._interrupted(workflow, point, self._die, in_statements=in_statements)

    @rule(size=SIZES, urgency=URGENCIES, point=st.integers(1, 24))
    def killed_while_entering(self, size: int, urgency: str, point: int) -> None:
        event = self._entry(size, urgency)
        self.world.interrupted(event, point, self._die)

    @rule(workflow=WORKFLOWS, point=st.integers(1, 24), meanwhile=MEANWHILE)
    def overlapped(self, workflow: Workflow, point: int, meanwhile: str) -> None:
        self.world.time.advance(minutes=1)
        event = self.world.event(workflow)
        self.world.interrupted(event, point, lambda: self._meanwhile(meanwhile, workflow))

    @rule(size=SIZES, urgency=URGENCIES, point=st.integers(1, 24), meanwhile=MEANWHILE)
    def overlapped_while_entering(
        self, size: int, urgency: str, point: int, meanwhile: str
    ) -> None:
        event = self._entry(size, urgency)
        self.world.interrupted(event, point, lambda: self._meanwhile(meanwhile, "trading_loop"))

    @precondition(lambda self: self.world.events)
    @rule(back=st.integers(1, 6))
    def event_repeated(self, back: int) -> None:
        """The platform delivers an old event again, with the decision of its time."""
        self.world.time.advance(minutes=3)
        self.world.fire(self.world.events[max(0, len(self.world.events) - back)])

    # What was decided

    @rule(size=SIZES, urgency=URGENCIES)
    def entry(self, size: int, urgency: str) -> None:
        self.world.fire(self._entry(size, urgency))

    @rule()
    def sell_signal(self) -> None:
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

    # The market and the venues

    @rule(percent=MOVES)
    def market(self, percent: str) -> None:
        self.world.move(self.world.price * (1 + Decimal(percent) / 100))

    @rule(venue=VENUES, fault=SUBMIT_FAULTS)
    def next_order(self, venue: str, fault: str) -> None:
        self._venue(venue).next_submit = fault

    @rule(venue=VENUES, fault=CANCEL_FAULTS)
    def next_cancel(self, venue: str, fault: str) -> None:
        self._venue(venue).next_cancel = fault

    @rule(venue=VENUES, down=st.booleans())
    def outage(self, venue: str, down: bool) -> None:
        self._venue(venue).down = down

    @rule(venue=VENUES, seconds=st.sampled_from([30, 70]))
    def queries_lag(self, venue: str, seconds: int) -> None:
        """Shorter than the quarantine, which is what the protocol asks of a venue."""
        self._venue(venue).lag(seconds)

    @rule(venue=VENUES, share=st.sampled_from(["0", "0.4", "1"]))
    def fills_in_part(self, venue: str, share: str) -> None:
        self._venue(venue).fill_share = Decimal(share)

    @rule(venue=VENUES, currency=st.sampled_from(["quote", "base", "third"]))
    def fees(self, venue: str, currency: Any) -> None:
        self._venue(venue).fee_currency = currency

    # People

    @rule()
    def halt(self) -> None:
        self.world.halt()

    @rule()
    def rearm(self) -> None:
        self.world.rearm()

    @rule(venue=VENUES, fills=st.booleans())
    def person_orders(self, venue: str, fills: bool) -> None:
        self._venue(venue).human_orders(fills=fills)

    @rule(venue=VENUES, amount=st.sampled_from(["-300", "250"]))
    def person_moves_cash(self, venue: str, amount: str) -> None:
        self._venue(venue).human_moves(QUOTE, Decimal(amount))

    @rule(venue=VENUES)
    def person_pays_coins_in(self, venue: str) -> None:
        self._venue(venue).human_moves(BASE, Decimal("0.3"))

    @rule()
    def person_books(self) -> None:
        self.world.book_what_people_moved()

    # What holds

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "sound"):
            self.sound.check()

    def teardown(self) -> None:
        if hasattr(self, "sound"):
            settle(self.world, self.sound)

    # Helpers

    def _venue(self, name: str) -> StatefulVenue:
        return self.world.venues[name]

    def _decision_id(self) -> str:
        return decisions.decision_id(POD, f"trading_loop-{len(self.world.events)}")

    def _entry(self, size: int, urgency: str) -> Any:
        self.world.time.advance(minutes=1)
        steps = buy(self.world, size, urgency, self._decision_id())
        return self.world.event("trading_loop", steps)

    def _interrupted(
        self, workflow: Workflow, point: int, act: Callable[[], Any], *, in_statements: bool
    ) -> None:
        self.world.time.advance(minutes=1)
        event = self.world.event(workflow)
        self.world.interrupted(event, point, act, in_statements=in_statements)

    def _die(self) -> None:
        raise Killed

    def _meanwhile(self, what: str, workflow: Workflow) -> None:
        world = self.world
        if what == "same event":
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


