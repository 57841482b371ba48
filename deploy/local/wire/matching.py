"""The matching model of one simulated venue.

Time moves only by ``advance``. Orders that can execute at once walk the synthetic book of the
minute; what they take stays taken until the next minute. Resting orders are matched against whole
minutes that opened after they were placed, and always to their disadvantage: a limit order fills
only where the price went strictly through it, a stop at the worse of its price and the open.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING

from deploy.local.wire.account import ZERO, Account
from deploy.local.wire.book import SyntheticBook, synthesise
from deploy.local.wire.conditions import Conditions
from deploy.local.wire.feed import HIGH, LOW, MINUTE_MS, OPEN, OPEN_MS, Feed, floor_minute
from deploy.local.wire.orders import (
    Fill,
    Order,
    OrderRequest,
    Reason,
    Refused,
    Status,
)
from deploy.local.wire.rules import SymbolRules, VenueRules, symbol_rules
from deploy.local.wire.settlement import BPS, Settlement

if TYPE_CHECKING:
    from deploy.local.wire.book import BookSide

# When it opened, the symbol, and its open, high and low.
Minute = tuple[int, str, Decimal, Decimal, Decimal]


class Exchange:
    """Orders, fills and the account of one venue."""

    def __init__(
        self, venue: VenueRules, feed: Feed, balances: Mapping[str, Decimal], now_ms: int
    ) -> None:
        self.venue = venue
        self.feed = feed
        self.now_ms = now_ms
        self.conditions = Conditions()
        self.account = Account(balances)
        self.settlement = Settlement(venue, self.account)
        self.orders: dict[int, Order] = {}
        self.fills: list[Fill] = []
        self.rules: dict[str, SymbolRules] = {
            symbol: symbol_rules(venue.name, symbol, feed.state(venue.name, symbol, now_ms).mid)
            for symbol in feed.symbols
        }
        # Ids begin at the second of the start: a venue that is started again later, for a replay
        # that goes on, gives none of them twice.
        self._first_id = now_ms // 1000
        self._open: dict[int, Order] = {}
        self._by_client_id: dict[str, Order] = {}
        self._books: dict[str, SyntheticBook] = {}

    # Reading

    def book(self, symbol: str) -> SyntheticBook:
        """The book of ``symbol`` now, without what was taken out of it in this minute."""
        rules = self._rules_of(symbol)
        known = self._books.get(symbol)
        if known is None or known.minute_ms != floor_minute(self.now_ms):
            state = self.feed.state(self.venue.name, symbol, self.now_ms)
            known = synthesise(self.venue.name, rules, state, self.feed.seed)
            self._books[symbol] = known
        return known

    def open_orders(self, symbol: str | None = None) -> list[Order]:
        return [order for order in self._open.values() if symbol in (None, order.symbol)]

    def order(self, order_id: int) -> Order:
        """Raises ``Refused`` where there is none of that id."""
        try:
            return self.orders[order_id]
        except KeyError:
            raise Refused(Reason.UNKNOWN_ORDER, str(order_id)) from None

    def order_by_client_id(self, client_order_id: str) -> Order:
        """The newest order of that client id. Raises ``Refused`` where there is none."""
        try:
            return self._by_client_id[client_order_id]
        except KeyError:
            raise Refused(Reason.UNKNOWN_ORDER, client_order_id) from None

    # Writing

    def place(self, request: OrderRequest) -> Order:
        """Accept an order and execute what can be executed at once.

        Raises:
            Refused: the venue's rules or the balance do not allow it; nothing has changed.
        """
        original = self._original_of(request)
        if original is not None:
            return original
        order = self.check(request)
        rules = self._rules_of(request.symbol)
        self.settlement.reserve(order, self._needed(order))
        self.orders[order.order_id] = self._open[order.order_id] = order
        if request.client_order_id is not None:
            self._by_client_id[request.client_order_id] = order
        if not order.waits_for_stop:
            self._take_from_book(order, rules)
            if order.is_open and (request.time_in_force == "IOC" or request.limit_price is None):
                self._close(order, Status.EXPIRED)
        return order

    def check(self, request: OrderRequest) -> Order:
        """The order that ``place`` would accept, were there the funds for it; nothing changes.

        Raises:
            Refused: the venue's rules do not allow it.
        """
        rules = self._rules_of(request.symbol)
        self._check_increments(request, rules)
        quantity = self._quantity(request, rules)
        self._check_minimums(request, quantity, rules)
        triggered = self._check_stop(request)
        if request.post_only and self._is_marketable(request, rules):
            raise Refused(Reason.POST_ONLY_WOULD_TAKE, f"limit_price={request.limit_price}")
        order = Order(
            self._first_id + len(self.orders), request, quantity, self.now_ms, self.now_ms
        )
        order.triggered = triggered
        return order

    def cancel(self, order: Order) -> Order:
        """Cancel an open order. Raises ``Refused`` where it is no longer open."""
        if not order.is_open:
            raise Refused(Reason.UNKNOWN_ORDER, str(order.order_id))
        order.updated_ms = self.now_ms
        self._close(order, Status.CANCELLED)
        return order

    def advance(self, now_ms: int) -> None:
        """Move time on and match resting orders against every minute that closes on the way.

        Raises:
            ValueError: ``now_ms`` lies before the present.
        """
        if now_ms < self.now_ms:
            raise ValueError(f"now_ms: expected at least {self.now_ms}, was {now_ms}")
        since_ms = floor_minute(self.now_ms)
        count = (floor_minute(now_ms) - since_ms) // MINUTE_MS
        if count and self._open:
            for minute in self._closed_minutes(since_ms, now_ms, count):
                self._match_minute(*minute)
        self.now_ms = now_ms

    # Checks

    def _rules_of(self, symbol: str) -> SymbolRules:
        try:
            return self.rules[symbol]
        except KeyError:
            raise Refused(Reason.UNKNOWN_SYMBOL, symbol) from None

    def _original_of(self, request: OrderRequest) -> Order | None:
        client_id = request.client_order_id
        earlier = self._by_client_id.get(client_id) if client_id is not None else None
        if earlier is None:
            return None
        if self.venue.duplicate_client_id == "return_original":
            return earlier
        if earlier.is_open:
            raise Refused(Reason.DUPLICATE_CLIENT_ID, str(client_id))
        return None

    def _check_increments(self, request: OrderRequest, rules: SymbolRules) -> None:
        for price in (request.limit_price, request.stop_price):
            if price is not None and (price <= 0 or price % rules.price_tick):
                raise Refused(Reason.PRICE_TICK, f"price={price}, tick={rules.price_tick}")
        quantity = request.quantity
        if quantity is not None and (quantity <= 0 or quantity % rules.quantity_step):
            raise Refused(Reason.QUANTITY_STEP, f"quantity={quantity}, step={rules.quantity_step}")
        if quantity is None and request.quote_quantity is None:
            raise Refused(Reason.BAD_PARAMETER, "quantity: expected a number, was absent")

    def _quantity(self, request: OrderRequest, rules: SymbolRules) -> Decimal:
        """The quantity in base; for an order by quote, what the book gives for that much."""
        if request.quantity is not None:
            return request.quantity
        budget = request.quote_quantity
        assert budget is not None  # _check_increments has refused it otherwise
        if request.side == "buy" and self.venue.fee_in == "quote":
            budget = budget / (1 + self.venue.taker_fee_bps / BPS)
        steps = 0
        for level in self.book(request.symbol).walk(_taken_side(request), None):
            price = level[0] * rules.price_tick
            taken = min(level[1], int(budget / price / rules.quantity_step))
            steps += taken
            budget -= taken * rules.quantity_step * price
            if taken < level[1]:
                break
        return steps * rules.quantity_step

    def _check_minimums(self, request: OrderRequest, quantity: Decimal, rules: SymbolRules) -> None:
        if quantity < rules.min_quantity:
            raise Refused(Reason.MIN_QUANTITY, f"quantity={quantity}, minimum={rules.min_quantity}")
        price = request.limit_price or request.stop_price
        if price is None:
            price = self._best_price(request, rules)
        notional = request.quote_quantity or price * quantity
        if notional < rules.min_notional:
            raise Refused(Reason.MIN_NOTIONAL, f"notional={notional}, minimum={rules.min_notional}")

    def _check_stop(self, request: OrderRequest) -> bool:
        """Whether the stop is passed already, on a venue that lets it act then."""
        if request.stop_price is None:
            return False
        last = Decimal(self.feed.state(self.venue.name, request.symbol, self.now_ms).mid)
        passed = (
            last <= request.stop_price if request.side == "sell" else last >= request.stop_price
        )
        if passed and not self.venue.stop_triggers_at_once:
            raise Refused(
                Reason.STOP_WOULD_TRIGGER, f"stop_price={request.stop_price}, last={last:.8f}"
            )
        return passed

    def _best_price(self, request: OrderRequest, rules: SymbolRules) -> Decimal:
        ticks = self.book(request.symbol).best_ticks(_taken_side(request))
        if ticks is None:
            raise Refused(Reason.INSUFFICIENT_FUNDS, f"{request.symbol}: the book is used up")
        return ticks * rules.price_tick

    def _is_marketable(self, request: OrderRequest, rules: SymbolRules) -> bool:
        limit_ticks = _ticks(request.limit_price, rules)
        book = self.book(request.symbol)
        return any(True for _ in book.walk(_taken_side(request), limit_ticks))

    # Money

    def _needed(self, order: Order) -> Decimal:
        """What the rest of an order may cost at most, in the currency that it pays with."""
        request = order.request
        price = request.limit_price or (request.stop_price if order.waits_for_stop else None)
        if price is None and order.side == "buy":
            return self.settlement.needed(order, self._market_cost(order))
        return self.settlement.needed(order, (price or ZERO) * order.remaining)

    def _market_cost(self, order: Order) -> Decimal:
        rules = self.rules[order.symbol]
        left, cost = int(order.remaining / rules.quantity_step), ZERO
        for level in self.book(order.symbol).walk("ask", None):
            taken = min(left, level[1])
            cost += taken * rules.quantity_step * level[0] * rules.price_tick
            left -= taken
            if not left:
                break
        return cost

    def _execute(
        self, order: Order, price: Decimal, quantity: Decimal, *, is_maker: bool, at_ms: int
    ) -> None:
        trade_id = self._first_id + len(self.fills)
        fill = self.settlement.execute(
            order, trade_id, price, quantity, is_maker=is_maker, at_ms=at_ms
        )
        self.fills.append(fill)
        if not order.remaining:
            self._close(order, Status.FILLED)

    def _close(self, order: Order, status: Status) -> None:
        order.status = status
        self.settlement.keep(order, ZERO)
        del self._open[order.order_id]

    # Matching

    def _take_from_book(self, order: Order, rules: SymbolRules) -> None:
        book = self.book(order.symbol)
        limit_ticks = _ticks(order.request.limit_price, rules)
        for level in book.walk(_taken_side(order.request), limit_ticks):
            wanted = int(order.remaining / rules.quantity_step)
            taken = min(level[1], wanted)
            book.take(level, taken)
            self._execute(
                order,
                level[0] * rules.price_tick,
                taken * rules.quantity_step,
                is_maker=False,
                at_ms=self.now_ms,
            )
            if taken == wanted:
                return
        if order.fills and order.request.limit_price is not None:
            self.settlement.keep(order, self._needed(order))

    def _closed_minutes(self, since_ms: int, now_ms: int, count: int) -> list[Minute]:
        """The minutes of all symbols with open orders, in the order of time."""
        minutes: list[Minute] = []
        for symbol in sorted({order.symbol for order in self._open.values()}):
            decimals = self.rules[symbol].price_decimals
            for row in self.feed.candles(self.venue.name, symbol, "1m", now_ms, count).tolist():
                if row[OPEN_MS] >= since_ms:
                    open_, high, low = (
                        Decimal(f"{row[column]:.{decimals}f}") for column in (OPEN, HIGH, LOW)
                    )
                    minutes.append((int(row[OPEN_MS]), symbol, open_, high, low))
        return sorted(minutes)

    def _match_minute(
        self, open_ms: int, symbol: str, open_price: Decimal, high: Decimal, low: Decimal
    ) -> None:
        for order in self.open_orders(symbol):
            if order.created_ms <= open_ms:
                self._match_order(order, open_ms + MINUTE_MS, open_price, high, low)

    def _match_order(
        self, order: Order, closed_ms: int, open_price: Decimal, high: Decimal, low: Decimal
    ) -> None:
        buys = order.side == "buy"
        limit, stop = order.request.limit_price, order.request.stop_price
        if stop is not None and not order.triggered:
            if (high >= stop) if buys else (low <= stop):
                order.triggered = True
                order.updated_ms = closed_ms
                price = max(stop, open_price) if buys else min(stop, open_price)
                self._fill_triggered(order, price, closed_ms)
            return
        assert limit is not None  # only limit orders rest
        if (low < limit) if buys else (high > limit):
            self._execute(order, limit, order.remaining, is_maker=True, at_ms=closed_ms)

    def _fill_triggered(self, order: Order, price: Decimal, closed_ms: int) -> None:
        """Execute a stop at ``price``; beyond its limit it stays open as a limit order."""
        limit = order.request.limit_price
        if limit is not None and (price > limit if order.side == "buy" else price < limit):
            return
        quantity = order.remaining
        if limit is None and order.side == "buy":
            step = self.rules[order.symbol].quantity_step
            quantity = self.settlement.affordable(order, price, step)
        if quantity:
            self._execute(order, price, quantity, is_maker=False, at_ms=closed_ms)
        if order.is_open:
            self._close(order, Status.EXPIRED)


def _taken_side(request: OrderRequest) -> BookSide:
    return "ask" if request.side == "buy" else "bid"


def _ticks(price: Decimal | None, rules: SymbolRules) -> int | None:
    return None if price is None else int(price / rules.price_tick)
