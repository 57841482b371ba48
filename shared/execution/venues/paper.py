"""Paper trading: the live book, our own fills, and no private call at all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

from shared import clock
from shared.errors import OrderRejected, VenueUnavailable
from shared.execution.rounding import floor_to
from shared.execution.types import Balance, MarketRules, OrderTicket, VenueFill, VenueOrder
from shared.execution.venues.base import PublicVenue
from shared.ledger.connection import Ledger
from shared.market.types import Book, PublicTrade, Quote

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PAPER_PREFIX = "paper-"


class PaperVenue:
    """``base.Venue`` that fills immediate-or-cancel orders against the depth of the live book.

    Its account is the ledger itself, so it remembers nothing of its own: an order that this
    process did not finish never existed.
    """

    mode: Literal["paper", "simulated", "live"] = "paper"
    protection: Literal["stop_limit", "stop_market"] = "stop_limit"
    request_validity = timedelta(0)  # an order that is not filled in its own run never was

    def __init__(self, public: PublicVenue, ledger: Ledger) -> None:
        self.name = public.name
        self._public = public
        self._ledger = ledger
        self._orders: dict[str, VenueOrder] = {}
        self._fills: list[VenueFill] = []

    def rules(self, symbol: str) -> MarketRules:
        return self._public.rules(symbol)

    def candles(
        self, symbol: str, timeframe: str, *, since_ms: int | None, limit: int
    ) -> NDArray[np.float64]:
        return self._public.candles(symbol, timeframe, since_ms=since_ms, limit=limit)

    def book(self, symbol: str, depth: int = 50) -> Book:
        return self._public.book(symbol, depth)

    def trades(self, symbol: str, limit: int = 100) -> list[PublicTrade]:
        return self._public.trades(symbol, limit)

    def quotes(self, symbols: Sequence[str]) -> dict[str, Quote]:
        return self._public.quotes(symbols)

    def server_time_ms(self) -> int:
        return self._public.server_time_ms()

    def submit(self, ticket: OrderTicket) -> VenueOrder:
        if ticket.time_in_force != "IOC" or ticket.order_type != "limit":
            raise OrderRejected(f"{self.name}: paper takes immediate-or-cancel limit orders only")
        rules = self._public.rules(ticket.symbol)
        fills = self._match(ticket, self._public.book(ticket.symbol), rules)
        filled = sum((fill.quantity for fill in fills), Decimal(0))
        value = sum((fill.price * fill.quantity for fill in fills), Decimal(0))
        order = VenueOrder(
            venue_order_id=f"{PAPER_PREFIX}{ticket.client_order_id}",
            client_order_id=ticket.client_order_id,
            symbol=ticket.symbol,
            side=ticket.side,
            status="filled" if filled == ticket.quantity else "expired",
            quantity=ticket.quantity,
            filled_quantity=filled,
            average_price=value / filled if filled else None,
        )
        self._orders[order.venue_order_id] = order
        self._fills.extend(fills)
        return order

    def find_order(self, client_order_id: str, symbol: str, sent_at: datetime) -> VenueOrder | None:
        return self._orders.get(f"{PAPER_PREFIX}{client_order_id}")

    def order(self, venue_order_id: str, symbol: str) -> VenueOrder:
        """As it was filled in this process; one that an earlier process left unfinished expired."""
        known = self._orders.get(venue_order_id)
        if known is not None:
            return known
        row = venue_order_id.startswith(PAPER_PREFIX) and self._ledger.one(
            "SELECT i.client_order_id, i.side, i.quantity FROM orders o JOIN intents i "
            "USING (intent_id) WHERE o.pod = %s AND o.venue = %s AND o.venue_order_id = %s",
            (self._ledger.pod, self.name, venue_order_id),
        )
        if not row:
            raise VenueUnavailable(f"{self.name}: order {venue_order_id}: paper knows none")
        return VenueOrder(
            venue_order_id, row["client_order_id"], symbol, row["side"], "expired",
            row["quantity"], Decimal(0), None,
        )  # fmt: skip

    def cancel(self, venue_order_id: str, symbol: str) -> None:
        """Nothing rests on paper."""

    def open_orders(self, symbols: Sequence[str]) -> list[VenueOrder]:
        return []

    def fills(self, symbol: str, since: datetime) -> list[VenueFill]:
        return [fill for fill in self._fills if fill.symbol == symbol and fill.filled_at >= since]

    def balances(self) -> dict[str, Balance]:
        rows = self._ledger.query(
            "SELECT currency, amount FROM balances WHERE pod = %s AND venue = %s",
            (self._ledger.pod, self.name),
        )
        return {row["currency"]: Balance(row["amount"], row["amount"]) for row in rows}

    def _match(self, ticket: OrderTicket, book: Book, rules: MarketRules) -> list[VenueFill]:
        levels = book.asks if ticket.side == "buy" else book.bids
        left, fills = ticket.quantity, []
        for number, (level_price, level_quantity) in enumerate(levels):
            price = Decimal(str(level_price))
            within = (
                price <= ticket.limit_price if ticket.side == "buy" else price >= ticket.limit_price
            )
            quantity = floor_to(min(left, Decimal(str(level_quantity))), rules.quantity_step)
            if not within or left <= 0:
                break
            if quantity > 0:
                fills.append(self._fill(ticket, number, price, quantity, rules))
                left -= quantity
        return fills

    def _fill(
        self,
        ticket: OrderTicket,
        number: int,
        price: Decimal,
        quantity: Decimal,
        rules: MarketRules,
    ) -> VenueFill:
        return VenueFill(
            venue_trade_id=f"{PAPER_PREFIX}{ticket.client_order_id}-{number}",
            venue_order_id=f"{PAPER_PREFIX}{ticket.client_order_id}",
            symbol=ticket.symbol,
            side=ticket.side,
            price=price,
            quantity=quantity,
            fee_cost=price * quantity * rules.taker_fee_bps / 10_000,
            fee_currency=ticket.symbol.split("/")[1],
            liquidity="taker",
            filled_at=clock.now(),
        )
