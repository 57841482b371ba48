"""Send a cancel, and let the gate know that one was sent."""

from __future__ import annotations

from shared.execution.venues.base import Venue
from shared.ledger import events
from shared.ledger.connection import Ledger


def cancel(ledger: Ledger, venue: Venue, venue_order_id: str, symbol: str) -> None:
    """Note the cancel, then ask the venue for it. Whether it came in time is seen by its order.

    It is noted first, so that one whose process dies meanwhile counts in the rates too.

    Raises:
        VenueUnavailable: it was refused, or nobody knows.
    """
    detail = {"venue": venue.name, "symbol": symbol, "venue_order_id": venue_order_id}
    events.record(ledger, events.CANCEL_SENT, detail)
    venue.cancel(venue_order_id, symbol)
