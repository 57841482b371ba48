"""A venue whose answers a test writes: it holds an account, counts sends, and fails on command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shared import clock
from shared.errors import OrderRejected, OrderUnknown, VenueUnavailable
from shared.execution import bands
from shared.execution.types import (
    Balance,
    MarketRules,
    OrderStatus,
    OrderTicket,
    PriceBand,
    VenueFill,
    VenueOrder,
)
from shared.market.types import Book, PublicTrade, Quote


class ScriptedVenue:
    """Fills immediate-or-cancel orders at the best price, with a fee in quote currency.

    Attributes:
        sent: every ticket that reached the venue.
        next_submit: ``""``, ``"reject"``, ``"lose answer"`` (accepted, but the answer is lost),
            ``"lose request"`` (never arrived).
        next_cancel: ``""``, ``"fail"`` (nothing happens), ``"lose answer"`` (cancelled, but the
            answer is lost), ``"ignore"`` (taken, but not carried out), ``"fill first"`` (the
            order fills before the cancel arrives).
        takes_stops: whether it knows stop orders at all.
        stops: the tickets of the stop orders that rest here, by the venue's order id.
        fill_share: which share of a quantity fills.
        hides_orders: queries by client id find nothing.
        price_band: judged against ``average``, or the mid where that is ``None``.
        max_stop_orders: it refuses a further one.
        averages_asked: how often it was asked for its average.
    """

    mode: Literal["paper", "simulated", "live"] = "simulated"
    protection: Literal["stop_limit", "stop_market"] = "stop_limit"
    request_validity = timedelta(seconds=30)

    def __init__(self, name: str = "binance", *, mid: str = "100", cash: str = "10000") -> None:
        self.name = name
        self.mid = Decimal(mid)
        self.fee_bps = Decimal(10)
        self.account: dict[str, Decimal] = {"USDT": Decimal(cash)}
        self.sent: list[OrderTicket] = []
        self.orders: dict[str, VenueOrder] = {}
        self.executions: list[VenueFill] = []
        self.resting: list[VenueOrder] = []
        self.next_submit = ""
        self.next_cancel = ""
        self.takes_stops = True
        self.stops: dict[str, OrderTicket] = {}
        self.cancels: list[str] = []
        self.fill_share = Decimal(1)
        self.hides_orders = False
        self.down = False
        self.price_band: PriceBand | None = None
        self.average: Decimal | None = None
        self.max_stop_orders: int | None = None
        self.averages_asked = 0

    def rules(self, symbol: str) -> MarketRules:
        return MarketRules(
            self.name, symbol, Decimal("0.01"), Decimal("0.001"), Decimal("0.001"), Decimal(5),
            self.fee_bps, self.fee_bps, True, self.price_band, None, self.max_stop_orders,
        )  # fmt: skip

    def average_price(self, symbol: str) -> Decimal:
        self._answer()
        self.averages_asked += 1
        return self.mid if self.average is None else self.average

    def candles(
        self, symbol: str, timeframe: str, *, since_ms: int | None, limit: int
    ) -> NDArray[np.float64]:
        raise VenueUnavailable(f"{self.name}: candles: none scripted")

    def book(self, symbol: str, depth: int = 50) -> Book:
        self._answer()
        bid, ask = float(self.mid - Decimal("0.05")), float(self.mid + Decimal("0.05"))
        return Book(symbol, ((bid, 1000.0),), ((ask, 1000.0),), clock.now_ms())

    def trades(self, symbol: str, limit: int = 200) -> list[PublicTrade]:
        return []

    def quotes(self, symbols: Sequence[str]) -> dict[str, Quote]:
        self._answer()
        book = self.book(symbols[0])
        quote = Quote(book.bids[0][0], book.asks[0][0], clock.now_ms())
        return dict.fromkeys(symbols, quote)

    def server_time_ms(self) -> int:
        return clock.now_ms()

    def submit(self, ticket: OrderTicket) -> VenueOrder:
        fault, self.next_submit = self.next_submit, ""
        self.sent.append(ticket)
        if fault == "reject":
            raise OrderRejected(f"{self.name}: insufficient funds")
        if fault == "lose request":
            raise OrderUnknown(f"{self.name}: RequestTimeout")
        self._refuse(ticket)
        order = self._rest(ticket) if ticket.stop_price is not None else self._execute(ticket)
        if fault == "lose answer":
            raise OrderUnknown(f"{self.name}: RequestTimeout")
        return order

    def find_order(self, client_order_id: str, symbol: str, sent_at: datetime) -> VenueOrder | None:
        self._answer()
        return None if self.hides_orders else self.orders.get(client_order_id)

    def order(self, venue_order_id: str, symbol: str) -> VenueOrder:
        self._answer()
        return next(o for o in self.orders.values() if o.venue_order_id == venue_order_id)

    def cancel(self, venue_order_id: str, symbol: str) -> None:
        self._answer()
        fault, self.next_cancel = self.next_cancel, ""
        self.cancels.append(venue_order_id)
        if fault == "fill first":
            ticket = self.stops[venue_order_id]
            self._fill_stop(venue_order_id, ticket, self.bid, ticket.quantity)
        if fault in ("fail", "fill first"):
            raise VenueUnavailable(f"{self.name}: cancel: OrderNotFound")
        if fault == "ignore":
            return
        self.resting = [o for o in self.resting if o.venue_order_id != venue_order_id]
        self._end_stop(venue_order_id, "cancelled")
        if fault == "lose answer":
            raise VenueUnavailable(f"{self.name}: cancel: RequestTimeout")

    def move(self, mid: str | Decimal) -> None:
        """The price goes to ``mid``: stops that the bid reaches trigger, and fill within limits.

        They fill by ``fill_share``; what is left rests on.
        """
        self.mid = Decimal(mid)
        for venue_order_id, ticket in list(self.stops.items()):
            assert ticket.stop_price is not None
            reached = self.bid <= ticket.stop_price
            if reached and (ticket.order_type == "stop_market" or self.bid >= ticket.limit_price):
                rest = self._rest_of(ticket)
                filled = (rest * self.fill_share).quantize(Decimal("0.001"))
                self._fill_stop(venue_order_id, ticket, self.bid, filled)

    @property
    def bid(self) -> Decimal:
        return self.mid - Decimal("0.05")

    def locked(self, currency: str = "BTC") -> Decimal:
        """What resting stops keep from being sold otherwise."""
        return sum(
            (self._rest_of(t) for t in self.stops.values() if t.symbol.split("/")[0] == currency),
            Decimal(0),
        )

    def open_orders(self, symbols: Sequence[str]) -> list[VenueOrder]:
        self._answer()
        return list(self.resting)

    def fills(self, symbol: str, since: datetime) -> list[VenueFill]:
        self._answer()
        return [fill for fill in self.executions if fill.symbol == symbol]

    def fills_of(self, order: VenueOrder) -> list[VenueFill]:
        executions = self.fills(order.symbol, datetime.min.replace(tzinfo=UTC))
        return [fill for fill in executions if fill.venue_order_id == order.venue_order_id]

    def balances(self) -> dict[str, Balance]:
        self._answer()
        return {
            currency: Balance(held, held - self.locked(currency))
            for currency, held in self.account.items()
        }

    def foreign_order(self) -> None:
        """Somebody else's order rests on the account."""
        order = VenueOrder(
            "foreign-1", None, "BTC/USDT", "buy", "open", Decimal(1), Decimal(0), None
        )
        self.resting.append(order)

    def _answer(self) -> None:
        if self.down:
            raise VenueUnavailable(f"{self.name}: ExchangeNotAvailable")

    def _refuse(self, ticket: OrderTicket) -> None:
        if self.price_band is not None and ticket.order_type != "stop_market":
            average = self.mid if self.average is None else self.average
            low, high = bands.limits(self.price_band, ticket.side, average)
            if not low <= ticket.limit_price <= high:
                raise OrderRejected(f"{self.name}: PERCENT_PRICE_BY_SIDE")
        if ticket.stop_price is not None:
            if self.max_stop_orders is not None and len(self.stops) >= self.max_stop_orders:
                raise OrderRejected(f"{self.name}: MAX_NUM_ALGO_ORDERS")
            if not self.takes_stops:
                raise OrderRejected(f"{self.name}: no stop orders")
            if self.bid <= ticket.stop_price:
                raise OrderRejected(f"{self.name}: the stop would trigger immediately")
        base = ticket.symbol.split("/")[0]
        free = self.account.get(base, Decimal(0)) - self.locked(base)
        if ticket.side == "sell" and ticket.quantity > free:
            raise OrderRejected(f"{self.name}: insufficient funds")

    def _rest(self, ticket: OrderTicket) -> VenueOrder:
        order = VenueOrder(
            f"{self.name}-{len(self.orders) + 1}", ticket.client_order_id, ticket.symbol,
            ticket.side, "open", ticket.quantity, Decimal(0), None,
        )  # fmt: skip
        self.orders[ticket.client_order_id] = order
        self.stops[order.venue_order_id] = ticket
        self.resting.append(order)
        return order

    def _rest_of(self, ticket: OrderTicket) -> Decimal:
        return ticket.quantity - self.orders[ticket.client_order_id].filled_quantity

    def _fill_stop(
        self, venue_order_id: str, ticket: OrderTicket, price: Decimal, quantity: Decimal
    ) -> None:
        order = self.orders[ticket.client_order_id]
        filled = order.filled_quantity + quantity
        base, quote = ticket.symbol.split("/")
        fee = price * quantity * self.fee_bps / 10_000
        self.account[base] -= quantity
        self.account[quote] += price * quantity - fee
        self.orders[ticket.client_order_id] = replace(
            order, filled_quantity=filled, average_price=price
        )
        self.executions.append(
            VenueFill(
                f"s{len(self.executions) + 1}",
                venue_order_id,
                ticket.symbol,
                "sell",
                price,
                quantity,
                fee,
                quote,
                "taker",
                clock.now(),
            )  # fmt: skip
        )
        if filled >= ticket.quantity:
            self._end_stop(venue_order_id, "filled")

    def _end_stop(self, venue_order_id: str, status: OrderStatus) -> None:
        ticket = self.stops.pop(venue_order_id, None)
        if ticket is not None:
            order = self.orders[ticket.client_order_id]
            self.orders[ticket.client_order_id] = replace(order, status=status)
            self.resting = [o for o in self.resting if o.venue_order_id != venue_order_id]

    def _execute(self, ticket: OrderTicket) -> VenueOrder:
        number = len(self.orders) + 1
        price = self.mid + (Decimal("0.05") if ticket.side == "buy" else Decimal("-0.05"))
        filled = (ticket.quantity * self.fill_share).quantize(Decimal("0.001"))
        fee = price * filled * self.fee_bps / 10_000
        base, quote = ticket.symbol.split("/")
        sign = 1 if ticket.side == "buy" else -1
        self.account[base] = self.account.get(base, Decimal(0)) + sign * filled
        self.account[quote] -= sign * price * filled + fee
        order = VenueOrder(
            f"{self.name}-{number}", ticket.client_order_id, ticket.symbol, ticket.side,
            "filled" if filled == ticket.quantity else "cancelled", ticket.quantity, filled,
            price if filled else None,
        )  # fmt: skip
        self.orders[ticket.client_order_id] = order
        if filled:
            self.executions.append(
                VenueFill(
                    f"t{number}",
                    order.venue_order_id,
                    ticket.symbol,
                    ticket.side,
                    price,
                    filled,
                    fee,
                    quote,
                    "taker",
                    clock.now(),
                )  # fmt: skip
            )
        return replace(order, status="open", filled_quantity=Decimal(0), average_price=None)
