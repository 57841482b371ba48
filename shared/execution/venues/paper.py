"""Paper trading: the live book, our own fills, and no private call at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

from shared.errors import OrderRejected, VenueUnavailable
from shared.execution.types import (
    Balance,
    MarketRules,
    OrderTicket,
    VenueFill,
    VenueOrder,
)
from shared.execution.venues import markets, paper_matching, paper_orders
from shared.execution.venues.base import PublicVenue
from shared.execution.venues.listings import Listed
from shared.execution.venues.paper_matching import PAPER_PREFIX, Taker
from shared.execution.venues.paper_orders import PaperOrder
from shared.ledger.connection import Ledger
from shared.market.types import Book, PublicTrade, Quote

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class PaperVenue:
    """``base.Venue`` that fills orders against the depth of the live book.

    Immediate-or-cancel limit orders fill when they are sent, from the book as it is then: the
    latency is the real one of reading it. A protective stop rests in the ledger, which is its only
    memory, and is looked at by ``order``: it triggers when the best bid is at or below its stop
    price at that time, takes what the book gives within its limit, and the rest stays. What the
    price did between two looks is not seen.

    Its account is the ledger itself: an order that was not finished never existed, and a cancel
    that was not noted was never asked for.
    """

    mode: Literal["paper", "simulated", "live"] = "paper"
    request_validity = timedelta(0)

    def __init__(
        self,
        public: PublicVenue,
        ledger: Ledger,
        *,
        protection: Literal["stop_limit", "stop_market"] = "stop_limit",
    ) -> None:
        self.name = public.name
        self.protection = protection
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

    def average_price(self, symbol: str) -> Decimal:
        return self._public.average_price(symbol)

    def server_time_ms(self) -> int:
        return self._public.server_time_ms()

    def listing(self, quote_currency: str) -> list[Listed]:
        return self._public.listing(quote_currency)

    def daily_closes(self, market_id: str, count: int) -> list[list[float]]:
        return self._public.daily_closes(market_id, count)

    def best_of(self, market_id: str) -> tuple[float | None, float | None]:
        return self._public.best_of(market_id)

    def submit(self, ticket: OrderTicket) -> VenueOrder:
        try:
            rules, book = self._public.rules(ticket.symbol), self._public.book(ticket.symbol)
        except VenueUnavailable as error:
            raise OrderRejected(f"{error}; nothing sent") from error
        if ticket.stop_price is not None:
            return self._rest(ticket, ticket.stop_price, book, rules)
        if ticket.time_in_force != "IOC" or ticket.order_type != "limit" or ticket.post_only:
            raise OrderRejected(
                f"{self.name}: paper takes immediate-or-cancel limit orders and stops that sell"
            )
        taker = Taker(
            ticket.client_order_id, ticket.symbol, ticket.side, ticket.quantity, ticket.limit_price
        )
        order = VenueOrder(
            f"{PAPER_PREFIX}{ticket.client_order_id}", ticket.client_order_id, ticket.symbol,
            ticket.side, "expired", ticket.quantity, Decimal(0), None,
        )  # fmt: skip
        return self._take(order, taker, book, rules)

    def find_order(self, client_order_id: str, symbol: str, sent_at: datetime) -> VenueOrder | None:
        order_id = f"{PAPER_PREFIX}{client_order_id}"
        if order_id in self._orders:
            return self._orders[order_id]
        known = paper_orders.find(self._ledger, self.name, order_id)
        return None if known is None else self._seen(known)

    def order(self, venue_order_id: str, symbol: str) -> VenueOrder:
        """Its state now; a stop that rests is looked at, once in a run after it has filled."""
        if venue_order_id in self._orders:
            return self._orders[venue_order_id]
        known = paper_orders.find(self._ledger, self.name, venue_order_id)
        if known is None:
            raise VenueUnavailable(f"{self.name}: order {venue_order_id}: paper knows none")
        return self._seen(known)

    def cancel(self, venue_order_id: str, symbol: str) -> None:
        order = self.order(venue_order_id, symbol)
        if order.status == "open":
            self._orders[venue_order_id] = replace(order, status="cancelled")

    def open_orders(self, symbols: Sequence[str]) -> list[VenueOrder]:
        stops = paper_orders.resting(self._ledger, self.name, symbols)
        states = [self._orders.get(stop.venue_order_id, stop.as_order("open")) for stop in stops]
        return [order for order in states if order.status == "open"]

    def fills(self, symbol: str, since: datetime) -> list[VenueFill]:
        return [fill for fill in self._fills if fill.symbol == symbol and fill.filled_at >= since]

    def fills_of(self, order: VenueOrder) -> list[VenueFill]:
        return [fill for fill in self._fills if fill.venue_order_id == order.venue_order_id]

    def balances(self) -> dict[str, Balance]:
        rows = self._ledger.query(
            "SELECT currency, amount FROM balances WHERE pod = %s AND venue = %s",
            (self._ledger.pod, self.name),
        )
        locked = paper_orders.locked(self._ledger, self.name)
        return {
            row["currency"]: Balance(
                row["amount"], row["amount"] - locked.get(row["currency"], Decimal(0))
            )
            for row in rows
        }

    def _rest(
        self, ticket: OrderTicket, stop_price: Decimal, book: Book, rules: MarketRules
    ) -> VenueOrder:
        """A stop is taken, or refused as a venue would."""
        markets.check_grid(ticket, rules)
        if ticket.side != "sell" or ticket.order_type not in ("stop_limit", "stop_market"):
            raise OrderRejected(f"{self.name}: paper takes stops that sell, was {ticket.side}")
        if Decimal(str(book.bids[0][0])) <= stop_price:
            raise OrderRejected(f"{self.name}: stop_price: {stop_price} would trigger at once")
        base = ticket.symbol.split("/")[0]
        held = self.balances().get(base)
        if held is None or held.free < ticket.quantity:
            free = Decimal(0) if held is None else held.free
            raise OrderRejected(
                f"{self.name}: quantity: was {ticket.quantity}, expected at most {free} {base}"
            )
        return VenueOrder(
            f"{PAPER_PREFIX}{ticket.client_order_id}", ticket.client_order_id, ticket.symbol,
            ticket.side, "open", ticket.quantity, Decimal(0), None,
        )  # fmt: skip

    def _seen(self, known: PaperOrder) -> VenueOrder:
        """An order of the ledger as it is now."""
        if not known.rests:
            # What an earlier process sent and did not finish has expired.
            return known.as_order("expired" if known.status == "open" else known.status)
        book = self._public.book(known.symbol)
        if known.stop_price is None or Decimal(str(book.bids[0][0])) > known.stop_price:
            return known.as_order("open")
        rules = self._public.rules(known.symbol)
        return self._take(known.as_order("open"), known.taker(), book, rules)

    def _take(self, order: VenueOrder, taker: Taker, book: Book, rules: MarketRules) -> VenueOrder:
        """``order`` after it has taken from the book; its status stands for what is left."""
        fills = paper_matching.take(taker, book, rules)
        filled = order.filled_quantity + sum((f.quantity for f in fills), Decimal(0))
        before = (order.average_price or Decimal(0)) * order.filled_quantity
        value = before + sum((f.price * f.quantity for f in fills), Decimal(0))
        after = replace(
            order,
            status="filled" if filled == order.quantity else order.status,
            filled_quantity=filled,
            average_price=value / filled if filled else None,
        )
        if fills or order.status != "open":
            self._orders[order.venue_order_id] = after
            self._fills.extend(fills)
        return after
