"""Orders on paper as the ledger knows them: it is their only memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from shared.execution.types import OrderStatus, Side, VenueOrder
from shared.execution.venues.paper_matching import PAPER_PREFIX, Taker
from shared.ledger.connection import Ledger, Row

_SELECT = """
    SELECT o.venue_order_id, o.status, i.client_order_id, i.symbol, i.side, i.order_type,
           i.quantity, i.limit_price, i.stop_price, f.fills,
           coalesce(f.quantity, 0) AS filled, coalesce(f.value, 0) AS value
    FROM orders o JOIN intents i USING (intent_id) LEFT JOIN LATERAL (
        SELECT count(*) AS fills, sum(quantity) AS quantity, sum(price * quantity) AS value
        FROM fills WHERE fills.intent_id = o.intent_id) f ON true
    WHERE o.pod = %s AND o.venue = %s
"""


@dataclass(frozen=True)
class PaperOrder:
    """An order with what the ledger has of its fills."""

    venue_order_id: str
    client_order_id: str
    symbol: str
    side: Side
    order_type: str
    status: OrderStatus
    quantity: Decimal
    limit_price: Decimal
    stop_price: Decimal | None
    filled: Decimal
    value: Decimal
    fills: int

    @property
    def rests(self) -> bool:
        """Whether it waits for its trigger, or for what is left of it after its trigger."""
        return self.status == "open" and self.stop_price is not None

    @property
    def left(self) -> Decimal:
        return self.quantity - self.filled

    def taker(self) -> Taker:
        """What is left of it, as it takes from the book once it has triggered."""
        at_market = self.order_type == "stop_market"
        return Taker(
            self.client_order_id, self.symbol, self.side, self.left,
            None if at_market else self.limit_price, first_number=self.fills,
        )  # fmt: skip

    def as_order(self, status: OrderStatus) -> VenueOrder:
        return VenueOrder(
            self.venue_order_id, self.client_order_id, self.symbol, self.side, status,
            self.quantity, self.filled, self.value / self.filled if self.filled else None,
        )  # fmt: skip


def find(ledger: Ledger, venue: str, venue_order_id: str) -> PaperOrder | None:
    """The order with this id, if it is one on paper."""
    if not venue_order_id.startswith(PAPER_PREFIX):
        return None
    row = ledger.one(
        f"{_SELECT} AND o.venue_order_id = %s",  # noqa: S608 - a constant
        (ledger.pod, venue, venue_order_id),
    )
    return None if row is None else _of(row)


def resting(ledger: Ledger, venue: str, symbols: Sequence[str]) -> list[PaperOrder]:
    """The stops that rest on ``symbols``, oldest first."""
    rows = ledger.query(
        f"{_SELECT} AND o.status = 'open' AND i.stop_price IS NOT NULL AND i.symbol = ANY(%s) "  # noqa: S608
        "AND starts_with(o.venue_order_id, %s) ORDER BY o.created_at, o.venue_order_id",
        (ledger.pod, venue, list(symbols), PAPER_PREFIX),
    )
    return [_of(row) for row in rows]


def locked(ledger: Ledger, venue: str) -> dict[str, Decimal]:
    """What the resting stops hold back, by currency: they all sell."""
    rows = ledger.query(
        "SELECT split_part(i.symbol, '/', 1) AS currency, sum(i.quantity - coalesce("
        "  (SELECT sum(quantity) FROM fills WHERE fills.intent_id = i.intent_id), 0)) AS amount "
        "FROM orders o JOIN intents i USING (intent_id) WHERE o.pod = %s AND o.venue = %s "
        "AND o.status = 'open' AND i.stop_price IS NOT NULL GROUP BY 1",
        (ledger.pod, venue),
    )
    return {row["currency"]: row["amount"] for row in rows}


def _of(row: Row) -> PaperOrder:
    return PaperOrder(**row)
