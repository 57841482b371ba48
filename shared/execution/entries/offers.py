"""What one venue offers for a symbol now: its book, its rules, and what we have there to spend.

Levels are those within the price collar. Behind the last shown one a further level is assumed, a
little worse, because a book is read only so deep; it is the expected slippage beyond the depth.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property

from shared.execution.rounding import floor_to, limit_price
from shared.execution.types import MarketRules, Side
from shared.market.types import Book

SLIPPAGE_ALLOWANCE_BPS = Decimal(10)

Level = tuple[Decimal, Decimal]
"""Price and quantity."""


@dataclass(frozen=True)
class Offer:
    """One venue's side of a routing decision.

    Attributes:
        funds: what may be spent there: quote currency for a buy, base for a sell.
        collar_bps: how far from this book's mid a price may lie.
        passive: only the best level is taken (slippage has been high).
        penalty_bps: what poor health is expected to cost, on top of the taker fee.
    """

    rules: MarketRules
    book: Book
    side: Side
    funds: Decimal
    collar_bps: Decimal
    passive: bool = False
    penalty_bps: Decimal = Decimal(0)

    @property
    def venue(self) -> str:
        return self.rules.venue

    @cached_property
    def shown(self) -> tuple[Level, ...]:
        """The levels that may be taken, best first."""
        levels = self.book.asks if self.side == "buy" else self.book.bids
        exact = ((Decimal(str(price)), Decimal(str(quantity))) for price, quantity in levels)
        within = tuple(level for level in exact if self._is_within(level[0]))
        return within[:1] if self.passive else within

    def levels(self, quantity: Decimal) -> tuple[Level, ...]:
        """``shown`` and, where it may be, the assumed level behind it, for up to ``quantity``."""
        if self.passive or not self.shown:
            return self.shown
        last = self.shown[-1][0] * (1 + self._sign * SLIPPAGE_ALLOWANCE_BPS / 10_000)
        return (*self.shown, (last, quantity)) if self._is_within(last) else self.shown

    def cost(self, price: Decimal) -> Decimal:
        """What a unit costs at ``price`` with fee and penalty; a sale's proceeds are negative."""
        extra = (self.rules.taker_fee_bps + self.penalty_bps) / 10_000
        return self._sign * price * (1 + self._sign * extra)

    def limit_price(self, quantity: Decimal) -> Decimal:
        """The price that an order of ``quantity`` is given, on the tick grid."""
        price = marketable_price(
            self.book, self.side, quantity, self.collar_bps, passive=self.passive
        )
        return limit_price(price, self.side, self.rules.price_tick)

    def is_large_enough(self, quantity: Decimal) -> bool:
        """Whether the venue takes an order so small. A sale is valued at the collar's worst."""
        price = self.limit_price(quantity) if self.side == "buy" else self._bound
        rules = self.rules
        return quantity >= rules.min_quantity and quantity * price >= rules.min_notional

    def is_affordable(self, quantity: Decimal) -> bool:
        """Whether the funds cover it at its limit price, fee included, as the gate reckons."""
        if self.side == "sell":
            return quantity <= self.funds
        with_fee = 1 + self.rules.taker_fee_bps / 10_000
        return quantity * self.limit_price(quantity) * with_fee <= self.funds

    def dearest_cost(self, quantity: Decimal) -> Decimal | None:
        """The unit cost of the worst level that ``quantity`` needs; ``None`` if not all fits here.

        ``quantity`` is taken on the venue's own grid.
        """
        left = floor_to(quantity, self.rules.quantity_step)
        if left <= 0 or not (self.is_large_enough(left) and self.is_affordable(left)):
            return None
        for price, available in self.levels(left):
            left -= available
            if left <= 0:
                return self.cost(price)
        return None

    @property
    def _sign(self) -> int:
        return 1 if self.side == "buy" else -1

    @cached_property
    def _bound(self) -> Decimal:
        return _bound(self.book, self.side, self.collar_bps)

    def _is_within(self, price: Decimal) -> bool:
        return price <= self._bound if self.side == "buy" else price >= self._bound


def marketable_price(
    book: Book, side: Side, quantity: Decimal, collar_bps: Decimal, *, passive: bool
) -> Decimal:
    """The limit price at which an immediate-or-cancel order can fill in full, within the collar.

    Args:
        collar_bps: how far from the mid the price may lie at most.
        passive: no allowance for levels behind the best one (slippage has been high).
    """
    levels = book.asks if side == "buy" else book.bids
    sign = 1 if side == "buy" else -1
    left, price = quantity, Decimal(str(levels[0][0]))
    if not passive:
        for level_price, level_quantity in levels:
            price = Decimal(str(level_price))
            left -= Decimal(str(level_quantity))
            if left <= 0:
                break
        price *= 1 + sign * SLIPPAGE_ALLOWANCE_BPS / 10_000
    bound = _bound(book, side, collar_bps)
    return min(price, bound) if side == "buy" else max(price, bound)


def _bound(book: Book, side: Side, collar_bps: Decimal) -> Decimal:
    sign = 1 if side == "buy" else -1
    return Decimal(str(book.mid)) * (1 + sign * collar_bps / 10_000)
