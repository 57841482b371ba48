"""The ledger and the venues agree, or nothing new is risked.

First in every run: find out what became of orders that nobody knows of, bring open orders up to
date, and, where new risk is wanted, compare balances and look for orders that are not ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any

from shared import clock
from shared.errors import VenueUnavailable
from shared.execution import fills, intents
from shared.execution.intents import QUARANTINE, Unresolved
from shared.execution.sending import acknowledge, import_fills
from shared.execution.types import VenueOrder
from shared.execution.venues.base import Venue
from shared.ledger import alerts, events, state
from shared.run import Run

BALANCE_TOLERANCE = Decimal("1e-8")


@dataclass
class Reconciliation:
    """What reconciliation found. ``clean`` is whether new risk may be taken."""

    resolved: list[str] = field(default_factory=list)
    still_unknown: list[str] = field(default_factory=list)
    refreshed: int = 0
    unread: list[str] = field(default_factory=list)
    differences: list[dict[str, str]] = field(default_factory=list)
    foreign_orders: list[str] = field(default_factory=list)
    accounts_compared: bool = False

    @property
    def clean(self) -> bool:
        found = self.still_unknown or self.unread or self.differences or self.foreign_orders
        return self.accounts_compared and not found

    def as_export(self) -> dict[str, Any]:
        return asdict(self) | {"clean": self.clean}


def reconcile(run: Run, venues: Mapping[str, Venue], *, compare_accounts: bool) -> Reconciliation:
    """Resolve, refresh, and with ``compare_accounts`` compare with what the venues hold."""
    found = Reconciliation()
    for unresolved in intents.unresolved(run.ledger):
        _resolve(run, venues, unresolved, found)
    _refresh_open_orders(run, venues, found)
    if compare_accounts:
        for venue in venues.values():
            _compare_account(run, venue, found)
        found.accounts_compared = True
    return found


def _resolve(
    run: Run, venues: Mapping[str, Venue], unresolved: Unresolved, found: Reconciliation
) -> None:
    """Ask the venue by our own id. An entry is never sent again, whatever the answer."""
    intent_id, asked_at = unresolved.intent_id, clock.now()
    try:
        venue = venues[unresolved.venue]
        order = venue.find_order(intent_id, unresolved.symbol, unresolved.sent_at)
    except (VenueUnavailable, KeyError) as error:
        found.still_unknown.append(intent_id)
        found.unread.append(f"{unresolved.venue}: {error}")
        return
    if order is not None:
        acknowledge(run, intent_id, venue.name, order)
        if not import_fills(run, venue, intent_id, order, unresolved.sent_at):
            found.unread.append(f"{venue.name}: fills of {intent_id}")
        found.resolved.append(intent_id)
    elif asked_at > unresolved.valid_until + QUARANTINE:
        intents.settle(run.ledger, intent_id, "DEAD", "no venue query shows it after quarantine")
        events.record(run.ledger, "ORDER_DEAD", {"intent": intent_id, "venue": venue.name})
        found.resolved.append(intent_id)
    else:
        found.still_unknown.append(intent_id)


def _refresh_open_orders(run: Run, venues: Mapping[str, Venue], found: Reconciliation) -> None:
    for row in fills.open_orders(run.ledger):
        try:
            venue = venues[row["venue"]]
            order = venue.order(row["venue_order_id"], row["symbol"])
        except (VenueUnavailable, KeyError) as error:
            found.unread.append(f"{row['venue']}: {error}")
            continue
        if not import_fills(run, venue, row["intent_id"], order, row["sent_at"]):
            found.unread.append(f"{venue.name}: fills of {row['intent_id']}")
        found.refreshed += 1


def _compare_account(run: Run, venue: Venue, found: Reconciliation) -> None:
    try:
        held = venue.balances()
        resting = venue.open_orders(run.config.pairs)
    except VenueUnavailable as error:
        found.unread.append(str(error))
        return
    expected = _expected_balances(run, venue.name)
    watched = {run.config.quote_currency, *run.config.symbols}
    for currency in sorted(watched):
        total = held[currency].total if currency in held else Decimal(0)
        difference = total - expected.get(currency, Decimal(0))
        if abs(difference) > BALANCE_TOLERANCE:
            _report_difference(run, venue.name, currency, total, difference, found)
    _look_for_foreign_orders(run, venue, resting, found)


def _expected_balances(run: Run, venue_name: str) -> dict[str, Decimal]:
    rows = run.ledger.query(
        "SELECT currency, amount FROM balances WHERE pod = %s AND venue = %s",
        (run.ledger.pod, venue_name),
    )
    return {row["currency"]: row["amount"] for row in rows}


def _report_difference(
    run: Run,
    venue_name: str,
    currency: str,
    total: Decimal,
    difference: Decimal,
    found: Reconciliation,
) -> None:
    detail = {
        "venue": venue_name,
        "currency": currency,
        "venue_total": format(total, "f"),
        "ledger_total": format(total - difference, "f"),
        "difference": format(difference, "f"),
    }
    found.differences.append(detail)
    told = f"difference:{venue_name}:{currency}:{clock.now():%Y-%m-%dT%H}"
    first_this_hour = alerts.put(
        run.ledger,
        told,
        "HIGH",
        f"{venue_name}: {currency} differs from the ledger by {difference:f}",
        "No new positions are opened while they differ.",
    )
    if first_this_hour:
        events.record(run.ledger, "RECONCILE_DIFFERENCE", detail)


def _look_for_foreign_orders(
    run: Run, venue: Venue, resting: list[VenueOrder], found: Reconciliation
) -> None:
    if not resting:
        return
    # Ours by the venue's id, or by our own while another run is still waiting for the answer.
    rows = run.ledger.query(
        "SELECT i.client_order_id, o.venue_order_id FROM intents i LEFT JOIN orders o "
        "USING (intent_id) WHERE i.venue = %s "
        "AND (o.venue_order_id = ANY(%s) OR i.client_order_id = ANY(%s))",
        (
            venue.name,
            [order.venue_order_id for order in resting],
            [order.client_order_id for order in resting],
        ),
    )
    ours = {value for row in rows for value in row.values() if value is not None}
    foreign = sorted(
        order.venue_order_id
        for order in resting
        if order.venue_order_id not in ours and order.client_order_id not in ours
    )
    if not foreign or found.still_unknown:
        return  # an order of an unresolved intent of ours would look foreign
    found.foreign_orders.extend(foreign)
    reason = f"{venue.name}: orders that are not ours: {', '.join(foreign)}"
    if state.tighten(
        run.ledger, "HALTED", reason=reason, set_by="reconciliation", rearm_required=True
    ):
        alerts.put(run.ledger, f"foreign:{foreign[0]}", "CRITICAL", "Foreign order", reason)
