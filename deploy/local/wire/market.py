"""The books and prices of one venue as its orders meet them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from deploy.local.wire.book import SyntheticBook, synthesise
from deploy.local.wire.conditions import Conditions
from deploy.local.wire.feed import (
    CLOSE,
    HIGH,
    LOW,
    MINUTE_MS,
    OPEN,
    OPEN_MS,
    PEG_PAIR,
    VOLUME,
    Feed,
    MarketState,
    floor_minute,
)
from deploy.local.wire.orders import Order, OrderRequest, Reason, Refused
from deploy.local.wire.rules import SymbolRules, VenueName

if TYPE_CHECKING:
    from deploy.local.wire.book import BookSide

ZERO = Decimal(0)


class Minute(NamedTuple):
    """A minute of the market that is over, with its prices on the grid of the venue."""

    open_ms: int
    symbol: str
    open: Decimal
    high: Decimal
    low: Decimal

    @property
    def closed_ms(self) -> int:
        return self.open_ms + MINUTE_MS


class MarketView:
    """One venue at ``now_ms``, the market's time. What is taken out of a book stays out of it
    until the next minute."""

    def __init__(
        self,
        venue: VenueName,
        feed: Feed,
        rules: Mapping[str, SymbolRules],
        now_ms: int,
        conditions: Conditions,
    ) -> None:
        self.now_ms = now_ms
        self._venue = venue
        self._feed = feed
        self._rules = rules
        self._conditions = conditions
        self._books: dict[str, SyntheticBook] = {}

    def book(self, symbol: str) -> SyntheticBook:
        """The book of ``symbol`` now, without what was taken out of it in this minute."""
        known = self._books.get(symbol)
        if known is None or known.minute_ms != floor_minute(self.now_ms):
            state = self._state(symbol)
            known = synthesise(self._venue, self._rules[symbol], state, self._feed.seed)
            self._books[symbol] = known
        return known

    def last(self, symbol: str) -> Decimal:
        """The newest price."""
        return Decimal(self._state(symbol).mid)

    def _state(self, symbol: str) -> MarketState:
        """As the feed has it, at the worth that a tether is given here at the moment."""
        state = self._feed.state(self._venue, symbol, self.now_ms)
        worth = float(self._conditions.tether_worth)
        if worth == 1 or symbol != PEG_PAIR[self._venue]:
            return state
        return replace(state, mid=state.mid * (worth if symbol.startswith("USDT/") else 1 / worth))

    def average(self, symbol: str, minutes: int) -> Decimal:
        """The price of the last minutes, weighted by their volumes."""
        rows = self._feed.candles(self._venue, symbol, "1m", self.now_ms, minutes)
        volume = float(rows[:, VOLUME].sum())
        if not volume:
            return self.last(symbol)
        turnover = float((rows[:, VOLUME] * (rows[:, OPEN] + rows[:, CLOSE])).sum()) / 2
        return Decimal(turnover / volume)

    def cross(self, base: str, quote: str) -> Decimal:
        """What ``base`` costs in ``quote``, by their prices in tethers."""
        price = self.last(f"{base}/USDT")
        return price if quote == "USDT" else price / self.last(f"{quote}/USDT")

    def minutes_until(self, now_ms: int, symbols: Iterable[str]) -> list[Minute]:
        """The minutes of ``symbols`` that close from now until ``now_ms``, in the order of time."""
        since_ms = floor_minute(self.now_ms)
        count = (floor_minute(now_ms) - since_ms) // MINUTE_MS
        minutes = []
        for symbol in symbols if count else ():
            decimals = self._rules[symbol].price_decimals
            for row in self._feed.candles(self._venue, symbol, "1m", now_ms, count).tolist():
                if row[OPEN_MS] >= since_ms:
                    prices = (
                        Decimal(f"{row[column]:.{decimals}f}") for column in (OPEN, HIGH, LOW)
                    )
                    minutes.append(Minute(int(row[OPEN_MS]), symbol, *prices))
        return sorted(minutes)

    def opposite(self, request: OrderRequest) -> Iterator[list[int]]:
        """The levels that ``request`` may take, best first."""
        limit, tick = request.limit_price, self._rules[request.symbol].price_tick
        ticks = None if limit is None else int(limit / tick)
        return self.book(request.symbol).walk(_taken_side(request), ticks)

    def available(self, request: OrderRequest) -> int:
        """How many steps ``request`` could take at once."""
        return sum(level[1] for level in self.opposite(request))

    def best_price(self, request: OrderRequest) -> Decimal:
        """The best price on the side that ``request`` takes from.

        Raises:
            Refused: that side is used up.
        """
        ticks = self.book(request.symbol).best_ticks(_taken_side(request))
        if ticks is None:
            raise Refused(Reason.INSUFFICIENT_FUNDS, f"{request.symbol}: the book is used up")
        return ticks * self._rules[request.symbol].price_tick

    def quantity_for(self, request: OrderRequest, budget: Decimal) -> Decimal:
        """How much base the book gives for ``budget`` in quote."""
        rules = self._rules[request.symbol]
        steps = 0
        for level in self.book(request.symbol).walk(_taken_side(request), None):
            price = level[0] * rules.price_tick
            taken = min(level[1], int(budget / price / rules.quantity_step))
            steps += taken
            budget -= taken * rules.quantity_step * price
            if taken < level[1]:
                break
        return steps * rules.quantity_step

    def cost_of(self, order: Order) -> Decimal:
        """What the rest of a buy at market costs in quote, as far as the book reaches."""
        rules = self._rules[order.symbol]
        left, cost = int(order.remaining / rules.quantity_step), ZERO
        for level in self.book(order.symbol).walk("ask", None):
            taken = min(left, level[1])
            cost += taken * rules.quantity_step * level[0] * rules.price_tick
            left -= taken
            if not left:
                break
        return cost


def _taken_side(request: OrderRequest) -> BookSide:
    return "ask" if request.side == "buy" else "bid"
