"""Whether ledger and venues agree to the last digit, and if not, where."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from deploy.local.wire.orders import Fill
from deploy.local.wire.venues import coinbase_json, kraken_json
from shared.ledger.connection import Ledger

TOLERANCE = Decimal("1e-9")
FillId = tuple[str, str]
Difference = dict[str, Any]


def fill_ids(ledger: Ledger) -> frozenset[FillId]:
    """Venue and trade id of every fill in the ledger."""
    rows = ledger.query("SELECT venue, venue_trade_id FROM fills WHERE pod = %s", (ledger.pod,))
    return frozenset((row["venue"], row["venue_trade_id"]) for row in rows)


def differences(
    ledger: Ledger, venues: Mapping[str, Any], earlier_fills: frozenset[FillId]
) -> list[Difference]:
    """What ledger and venues tell differently; empty where they agree.

    Args:
        venues: the accounts as the stand-ins tell them, by venue.
        earlier_fills: fills that these stand-ins have never seen.
    """
    return [
        *_balances(ledger, venues),
        *_fills(ledger, venues, earlier_fills),
        *_open_orders(ledger, venues),
    ]


def _balances(ledger: Ledger, venues: Mapping[str, Any]) -> list[Difference]:
    rows = ledger.query(
        "SELECT venue, currency, amount FROM balances WHERE pod = %s", (ledger.pod,)
    )
    in_ledger = {(row["venue"], row["currency"]): row["amount"] for row in rows}
    at_venue = {
        (venue, currency): Decimal(amounts["free"]) + Decimal(amounts["locked"])
        for venue, account in venues.items()
        for currency, amounts in account["balances"].items()
    }
    found = []
    for venue, currency in sorted(in_ledger.keys() | at_venue.keys()):
        ours = in_ledger.get((venue, currency), Decimal(0))
        theirs = at_venue.get((venue, currency), Decimal(0))
        if abs(ours - theirs) > TOLERANCE:
            found.append(_difference("balance", venue, currency, f"{ours:f}", f"{theirs:f}"))
    return found


def _fills(
    ledger: Ledger, venues: Mapping[str, Any], earlier_fills: frozenset[FillId]
) -> list[Difference]:
    in_ledger = fill_ids(ledger) - earlier_fills
    at_venue = {
        (venue, trade_id(venue, fill))
        for venue, account in venues.items()
        for fill in account["fills"]
    }
    return _one_sided("fill", in_ledger, at_venue)


def trade_id(venue: str, row: Mapping[str, Any]) -> str:
    """The id by which ``venue`` tells its clients of a fill of its account."""
    fill = Fill(
        trade_id=row["trade_id"],
        order_id=row["order_id"],
        symbol=row["symbol"],
        side=row["side"],
        price=Decimal(row["price"]),
        quantity=Decimal(row["quantity"]),
        cost=Decimal(row["cost"]),
        fee=Decimal(row["fee"]),
        fee_currency=row["fee_currency"],
        is_maker=row["is_maker"],
        at_ms=row["at_ms"],
    )
    if venue == "kraken":
        return kraken_json.trade_txid(fill)
    if venue == "coinbase":
        return coinbase_json.trade_uuid(fill.trade_id)
    return str(fill.trade_id)


def _open_orders(ledger: Ledger, venues: Mapping[str, Any]) -> list[Difference]:
    rows = ledger.query(
        "SELECT o.venue, i.client_order_id FROM orders o JOIN intents i USING (intent_id) "
        "WHERE o.pod = %s AND o.status = 'open'",
        (ledger.pod,),
    )
    in_ledger = {(row["venue"], row["client_order_id"]) for row in rows}
    at_venue = {
        (venue, str(order["client_order_id"]))
        for venue, account in venues.items()
        for order in account["orders"]
        if order["status"] == "open"
    }
    return _one_sided("open order", in_ledger, at_venue)


def _one_sided(
    kind: str, in_ledger: frozenset[FillId] | set[FillId], at_venue: set[FillId]
) -> list[Difference]:
    only_ours = [_difference(kind, *key, "present", "absent") for key in in_ledger - at_venue]
    only_theirs = [_difference(kind, *key, "absent", "present") for key in at_venue - in_ledger]
    return sorted(only_ours + only_theirs, key=lambda found: (found["venue"], found["name"]))


def _difference(kind: str, venue: str, name: str, ledger: str, at_venue: str) -> Difference:
    return {"kind": kind, "venue": venue, "name": name, "ledger": ledger, "at_venue": at_venue}
