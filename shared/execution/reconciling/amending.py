"""Orders that turn up after they were given up.

DEAD and REJECTED are final: no intent ever leaves them. But the venue is right about what exists.
Where it shows an order of such an intent, the order and its fills are written like any other and
count in every limit, and the contradiction is told: event ORDER_AMENDED, alert HIGH.
"""

from __future__ import annotations

from shared.execution.types import VenueOrder
from shared.ledger import alerts, events
from shared.ledger.connection import Ledger, Row

LATE_ORDER = "late order"
"""The exit reason of a position that was closed when an order of it turned up: it is sold."""

_LAST_KNOWN = {
    "DEAD": "DEAD exists",
    "REJECTED": "REJECTED exists",
    "ACKNOWLEDGED": "over has filled more",
}

_INTENT = (
    "SELECT i.state, i.error, i.symbol, i.side, i.quantity, i.position_id, p.sleeve, p.closed_at "
    "FROM intents i JOIN positions p USING (position_id) WHERE i.intent_id = %s FOR UPDATE OF p"
)


def amend_if_given_up(ledger: Ledger, intent_id: str, venue_name: str, order: VenueOrder) -> bool:
    """Inside the transaction that first writes the order: tell it, and see that it is managed.

    Returns whether the intent had been given up.
    """
    intent = ledger.one(_INTENT, (intent_id,))
    if intent is None or intent["state"] not in ("DEAD", "REJECTED"):
        return False
    _tell(ledger, intent_id, intent, venue_name, order, _managed(ledger, intent_id, intent))
    return True


def amend_short(ledger: Ledger, intent_id: str, venue_name: str, order: VenueOrder) -> None:
    """Tell that an order that was over has filled more than the ledger knows.

    Call it before the fills are written, so that they go to a position that is managed.
    """
    with ledger.transaction():
        intent = ledger.one(_INTENT, (intent_id,))
        if intent is None:
            raise AssertionError(f"{intent_id}: expected the intent of an order of ours")
        _tell(ledger, intent_id, intent, venue_name, order, _managed(ledger, intent_id, intent))


def _tell(
    ledger: Ledger, intent_id: str, intent: Row, venue_name: str, order: VenueOrder, managed: str
) -> None:
    detail = {
        "intent": intent_id,
        "state": intent["state"],
        "error": intent["error"],
        "venue": venue_name,
        "venue_order_id": order.venue_order_id,
        "position_id": intent["position_id"],
        "managed": managed,
    }
    first_time = alerts.put(
        ledger,
        f"amended:{intent_id}",
        "HIGH",
        f"{venue_name}: an order that was {_LAST_KNOWN[intent['state']]}",
        f"{intent['side']} {intent['quantity']:f} {intent['symbol']}, {order.venue_order_id} on "
        f"the venue, {intent_id} to us: {managed}. Orders and fills are in the ledger now.",
    )
    if first_time:
        events.record(ledger, "ORDER_AMENDED", detail)


def _managed(ledger: Ledger, intent_id: str, intent: Row) -> str:
    if intent["side"] == "buy" and intent["closed_at"] is not None:
        return _give_it_a_position(ledger, intent_id, intent)
    return "its position is open" if intent["closed_at"] is None else "its position is closed"


def _give_it_a_position(ledger: Ledger, intent_id: str, intent: Row) -> str:
    """What a closed position has bought belongs to nobody: reopen it, or hand it to its successor.

    A symbol has one open position in a sleeve. Reopened, it is to be left at once: what was decided
    about it is over.
    """
    successor = ledger.one(
        "SELECT position_id FROM positions WHERE pod = %s AND symbol = %s AND sleeve = %s "
        "AND closed_at IS NULL FOR UPDATE",
        (ledger.pod, intent["symbol"], intent["sleeve"]),
    )
    if successor is not None:
        ledger.execute(
            "UPDATE intents SET position_id = %s WHERE intent_id = %s",
            (successor["position_id"], intent_id),
        )
        return f"position {successor['position_id']} has taken it over"
    ledger.execute(
        "UPDATE positions SET closed_at = NULL, close_reason = NULL, exit_reason = %s "
        "WHERE position_id = %s",
        (LATE_ORDER, intent["position_id"]),
    )
    return f"position {intent['position_id']} is open again, to be sold"
