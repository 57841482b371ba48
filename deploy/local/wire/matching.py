"""The matching model of one simulated venue.

Time moves only by ``advance``. Orders that can execute at once walk the synthetic book of the
minute; what they take stays taken until the next minute. Resting orders are matched against whole
minutes that opened after they were placed, and always to their disadvantage: a limit order fills
only where the price went strictly through it, a stop at the worse of its price and the open, and
an order whose time ends within a minute does not fill in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from deploy.local.wire.account import ZERO, Account
from deploy.local.wire.book import SyntheticBook
from deploy.local.wire.checks import RequestChecks
from deploy.local.wire.conditions import Conditions
from deploy.local.wire.feed import Feed
from deploy.local.wire.market import MarketView, Minute
from deploy.local.wire.orders import Fill, Order, OrderRequest, Reason, Refused, Status
from deploy.local.wire.rules import SymbolRules, VenueRules, symbol_rules
from deploy.local.wire.settlement import Settlement


class Exchange:
    """Orders, fills and the account of one venue.

    Attributes:
        venue: its rules, which stay.
        conditions: what holds at the moment, which tests and sweeps change.
    """

    def __init__(
        self, venue: VenueRules, feed: Feed, balances: Mapping[str, Decimal], now_ms: int
    ) -> None:
        self.venue = venue
        self.feed = feed
        self.conditions = Conditions()
        self.account = Account(balances)
        self.settlement = Settlement(venue, self.account)
        self.orders: dict[int, Order] = {}
        self.fills: list[Fill] = []
        self.rules: dict[str, SymbolRules] = {
            symbol: symbol_rules(venue.name, symbol, feed.state(venue.name, symbol, now_ms).mid)
            for symbol in (
                *feed.symbols,
                *feed.token_symbols(venue.fee_token),
                *feed.peg_symbols(venue.name),
            )
        }
        self.market = MarketView(venue.name, feed, self.rules, now_ms, self.conditions)
        self.checks = RequestChecks(venue, self.rules, self.market, self.conditions)
        # Ids begin at the second of the start: a venue that is started again later, for a replay
        # that goes on, gives none of them twice.
        self._first_id = now_ms // 1000
        self._open: dict[int, Order] = {}
        self._by_client_id: dict[str, Order] = {}

    # Reading

    @property
    def now_ms(self) -> int:
        """The market's time."""
        return self.market.now_ms

    @property
    def clock_ms(self) -> int:
        """The venue's own clock, which may be wrong."""
        return self._stamp(self.now_ms)

    def book(self, symbol: str) -> SyntheticBook:
        """The book of ``symbol`` now. Raises ``Refused`` for a symbol that is not listed."""
        if symbol not in self.rules:
            raise Refused(Reason.UNKNOWN_SYMBOL, symbol)
        return self.market.book(symbol)

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
        self.settlement.reserve(order, self._needed(order))
        self.orders[order.order_id] = self._open[order.order_id] = order
        if request.client_order_id is not None:
            self._by_client_id[request.client_order_id] = order
        if not order.waits_for_stop:
            self._take_from_book(order)
            if order.is_open and not request.rests:
                self._close(order, Status.EXPIRED)
        return order

    def check(self, request: OrderRequest) -> Order:
        """The order that ``place`` would accept, were there the funds for it; nothing changes.

        Raises:
            Refused: the venue's rules do not allow it.
        """
        quantity = self.checks.quantity(request, self.open_orders(request.symbol))
        triggered = self.checks.stop_is_passed(request)
        return Order(
            order_id=self._first_id + len(self.orders),
            request=request,
            quantity=quantity,
            created_ms=self.clock_ms,
            updated_ms=self.clock_ms,
            placed_ms=self.now_ms,
            triggered=triggered,
        )

    def cancel(self, order: Order) -> Order:
        """Cancel an open order. Raises ``Refused`` where it is no longer open."""
        self.checks.cancel()
        if not order.is_open:
            raise Refused(Reason.UNKNOWN_ORDER, str(order.order_id))
        order.updated_ms = self.clock_ms
        self._close(order, Status.CANCELLED)
        return order

    def advance(self, now_ms: int) -> None:
        """Move time on and match resting orders against every minute that closes on the way.

        Raises:
            ValueError: ``now_ms`` lies before the present.
        """
        if now_ms < self.now_ms:
            raise ValueError(f"now_ms: expected at least {self.now_ms}, was {now_ms}")
        if self._open:
            # Nothing is matched unless the venue is online: "no trades will occur", as Kraken says.
            if self.conditions.status == "online":
                symbols = {order.symbol for order in self._open.values()}
                for minute in self.market.minutes_until(now_ms, symbols):
                    self._match_minute(minute)
            for order in self.open_orders():
                self._end_by(order, now_ms)
        self.market.now_ms = now_ms

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

    def _stamp(self, market_ms: int) -> int:
        """A moment of the market by the venue's clock."""
        return market_ms + self.conditions.clock_offset_ms

    # Money

    def _needed(self, order: Order) -> Decimal:
        """What the rest of an order may cost at most, in the currency that it pays with."""
        request = order.request
        price = request.limit_price or (request.stop_price if order.waits_for_stop else None)
        if price is None and order.side == "buy":
            return self.settlement.needed(order, self.market.cost_of(order))
        return self.settlement.needed(order, (price or ZERO) * order.remaining)

    def _execute(
        self, order: Order, price: Decimal, quantity: Decimal, *, is_maker: bool, at_ms: int
    ) -> None:
        fill = self.settlement.execute(
            order,
            self._first_id + len(self.fills),
            price,
            quantity,
            is_maker=is_maker,
            at_ms=self._stamp(at_ms),
            token_price=self._token_price(order),
        )
        self.fills.append(fill)
        if not order.remaining:
            self._close(order, Status.FILLED)

    def _token_price(self, order: Order) -> Decimal | None:
        """What the venue's token costs in the order's quote, where it takes its fees in it."""
        token = self.venue.fee_token
        if token is None or not self.conditions.fee_token:
            return None
        return self.market.cross(token, order.quote)

    def _close(self, order: Order, status: Status) -> None:
        order.status = status
        self.settlement.keep(order, ZERO)
        del self._open[order.order_id]

    # Matching

    def _take_from_book(self, order: Order) -> None:
        rules, book = self.rules[order.symbol], self.book(order.symbol)
        wanted = self._steps_at_once(order, rules)
        for level in self.market.opposite(order.request):
            if not wanted:
                break
            taken = min(level[1], wanted)
            book.take(level, taken)
            wanted -= taken
            self._execute(
                order,
                level[0] * rules.price_tick,
                taken * rules.quantity_step,
                is_maker=False,
                at_ms=self.now_ms,
            )
        if order.is_open and order.fills and order.request.limit_price is not None:
            self.settlement.keep(order, self._needed(order))

    def _steps_at_once(self, order: Order, rules: SymbolRules) -> int:
        """How much an order takes from the book: all, a scripted part, or nothing (FOK)."""
        wanted = most = int(order.remaining / rules.quantity_step)
        share = self.conditions.next_fill_share()
        if share is not None:
            most = int(wanted * share)
        if order.request.time_in_force == "FOK":
            return wanted if min(most, self.market.available(order.request)) >= wanted else 0
        return most

    def _match_minute(self, minute: Minute) -> None:
        for order in self.open_orders(minute.symbol):
            ended = self._end_by(order, minute.closed_ms - 1)
            if order.placed_ms <= minute.open_ms and not ended:
                self._match_order(order, minute)

    def _end_by(self, order: Order, until_ms: int) -> bool:
        """End an order whose time is over by ``until_ms``, the client's or the venue's."""
        ends = []
        if order.request.expires_ms is not None:
            ends.append(order.request.expires_ms - self.conditions.clock_offset_ms)
        if self.conditions.expire_after_ms is not None:
            ends.append(order.placed_ms + self.conditions.expire_after_ms)
        if not ends or min(ends) > until_ms:
            return False
        order.timed_out = True
        # An end that lies in the past was set only now: nothing has happened before the present.
        order.updated_ms = self._stamp(max(min(ends), self.now_ms))
        self._close(order, Status.EXPIRED)
        return True

    def _match_order(self, order: Order, minute: Minute) -> None:
        buys, closed_ms = order.side == "buy", minute.closed_ms
        limit, stop = order.request.limit_price, order.request.stop_price
        if stop is not None and not order.triggered:
            if (minute.high >= stop) if buys else (minute.low <= stop):
                order.triggered = True
                order.updated_ms = self._stamp(closed_ms)
                price = max(stop, minute.open) if buys else min(stop, minute.open)
                self._fill_triggered(order, price, closed_ms)
            return
        assert limit is not None  # only limit orders rest
        if (minute.low < limit) if buys else (minute.high > limit):
            self._execute(
                order, limit, self._quantity_of_minute(order), is_maker=True, at_ms=closed_ms
            )
            if order.is_open:
                self.settlement.keep(order, self._needed(order))

    def _quantity_of_minute(self, order: Order) -> Decimal:
        """How much of a resting order fills in one minute: its part of the scripted minutes."""
        step, minutes = self.rules[order.symbol].quantity_step, self.conditions.resting_fill_minutes
        part = -(-int(order.quantity / step) // minutes) * step
        return min(order.remaining, part)

    def _fill_triggered(self, order: Order, price: Decimal, closed_ms: int) -> None:
        """Execute a stop at ``price``; beyond its limit it stays open as a limit order."""
        limit, quantity = order.request.limit_price, order.remaining
        within = limit is None or (price <= limit if order.side == "buy" else price >= limit)
        if limit is None and order.side == "buy":
            step = self.rules[order.symbol].quantity_step
            quantity = self.settlement.affordable(order, price, step)
        if within and quantity:
            self._execute(order, price, quantity, is_maker=False, at_ms=closed_ms)
        if order.is_open and not order.request.rests:
            self._close(order, Status.EXPIRED)
