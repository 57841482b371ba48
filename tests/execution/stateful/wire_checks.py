"""What must be true of each order at the moment at which it reaches a venue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal

from stateful_venue import BASE, StatefulVenue

from shared import clock
from shared.execution.types import OrderTicket
from shared.ledger import state
from shared.ledger.connection import Ledger, Row
from shared.risk.controls.conduct import MAX_ORDERS_PER_MINUTE

MAX_POSITION_QUOTE = Decimal(100)  # the configuration's default

_NOTHING = Decimal(0)
_INTENT = (
    "SELECT i.*, p.closed_at FROM intents i JOIN positions p USING (position_id) "
    "WHERE client_order_id = %s"
)
_DUST = (
    "SELECT coalesce(sum(h.quantity), 0) AS quantity FROM position_holdings h "
    "JOIN positions p USING (position_id) WHERE p.closed_at IS NOT NULL"
)
_KNOWN_FILLS = "SELECT coalesce(sum(quantity), 0) AS quantity FROM fills WHERE intent_id = ANY(%s)"
_UNKNOWN_STOPS = (
    "SELECT count(*) AS stops FROM intents WHERE venue = %s AND purpose = 'protect' "
    "AND state IN ('SENDING', 'UNKNOWN')"
)


class WireChecks:
    """Judges every ticket by the truth of the venues, not by what the ledger believes.

    Attributes:
        taken_at: when another run last took the lease of a workflow.
    """

    def __init__(self, ledger: Ledger, venues: Mapping[str, StatefulVenue]) -> None:
        self._ledger = ledger
        self._venues = venues
        self._workflows: list[str] = []
        self._stops: dict[tuple[int, str], Decimal] = {}
        self._sent_at: list[datetime] = []
        self.taken_at: dict[str, datetime] = {}

    @contextmanager
    def within(self, workflow: str) -> Iterator[None]:
        """A run of a workflow, maybe in the midst of another one."""
        if workflow in self._workflows:
            self.taken_at[workflow] = clock.now()
        self._workflows.append(workflow)
        try:
            yield
        finally:
            self._workflows.pop()

    def check(self, venue: StatefulVenue, ticket: OrderTicket) -> None:
        intent = self._ledger.one(_INTENT, (ticket.client_order_id,))
        assert intent is not None, "I2: an order without a committed intent"
        assert intent["venue"] == venue.name
        assert intent["quantity"] == ticket.quantity
        already = [t.client_order_id for v in self._venues.values() for t in v.sent]
        assert ticket.client_order_id not in already, "I2: sent a second time"
        self._check_lease(intent)
        self._check_rate()
        if ticket.side == "buy":
            self._check_state(intent)
            self._check_exposure(venue, ticket)
        else:
            self._check_sale(venue, ticket, intent)
        if intent["purpose"] == "protect":
            self._check_stop(ticket, intent)

    def _check_lease(self, intent: Row) -> None:
        workflow = self._workflows[-1]
        row = self._ledger.one("SELECT epoch FROM leases WHERE workflow = %s", (workflow,))
        assert row is not None
        if intent["epoch"] < row["epoch"]:
            assert intent["sent_at"] <= self.taken_at[workflow], "I10: by a run without its lease"

    def _check_rate(self) -> None:
        now = clock.now()
        self._sent_at = [at for at in self._sent_at if at > now - timedelta(minutes=1)] + [now]
        assert len(self._sent_at) <= MAX_ORDERS_PER_MINUTE[2], "I4: orders a minute"

    def _check_state(self, intent: Row) -> None:
        trading = state.read(self._ledger)
        if trading.state != "ACTIVE":
            assert intent["sent_at"] < trading.since, f"I3: a buy while {trading.state}"

    def _check_exposure(self, venue: StatefulVenue, ticket: OrderTicket) -> None:
        """All that is held, that may still arrive, and this one, at this venue's price.

        A fill that its venue has denied is known from the next comparison of balances on: another
        parent may buy in the same run as if it had not been.
        """
        dust = self._ledger.one(_DUST)
        assert dust is not None
        held = sum((v.account[BASE] - v.coins_of_others for v in self._every), _NOTHING)
        coming = [t for v in self._every for t in v.in_transit if t.side == "buy"] + [ticket]
        after = (held - dust["quantity"] - self._denied_quantity()) * venue.mid
        after += sum((t.quantity * t.limit_price for t in coming), _NOTHING)
        assert after <= MAX_POSITION_QUOTE + Decimal("0.01"), f"I4: {after} in the symbol"

    def _denied_quantity(self) -> Decimal:
        denied = [(v, intent_id) for v in self._every for intent_id in sorted(v.denied)]
        filled = sum((v.orders[intent_id].filled_quantity for v, intent_id in denied), _NOTHING)
        known = self._ledger.one(_KNOWN_FILLS, ([intent_id for _, intent_id in denied],))
        assert known is not None
        return filled - known["quantity"]

    def _check_sale(self, venue: StatefulVenue, ticket: OrderTicket, intent: Row) -> None:
        """A sale is of what is there, and not for sale already."""
        unknown = self._ledger.one(_UNKNOWN_STOPS, (venue.name,))
        assert unknown is not None
        if unknown["stops"] > (intent["purpose"] == "protect"):
            return  # it may have locked what is to be sold: then the venue refuses
        held = venue.account[BASE] - venue.coins_of_others
        coming = sum((t.quantity for t in venue.in_transit if t.side == "sell"), _NOTHING)
        free = held - coming - venue.locked(BASE)
        assert ticket.quantity <= free, f"a sale of {ticket.quantity} where {free} is free"

    def _check_stop(self, ticket: OrderTicket, intent: Row) -> None:
        assert ticket.stop_price is not None
        place = (intent["position_id"], ticket.venue)
        highest = self._stops.get(place, _NOTHING)
        assert ticket.stop_price >= highest, f"a stop fell from {highest} to {ticket.stop_price}"
        self._stops[place] = ticket.stop_price

    @property
    def _every(self) -> list[StatefulVenue]:
        return list(self._venues.values())
