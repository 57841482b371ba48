"""Which venue takes an order: the one where it costs least, fees included, with money or goods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from shared.errors import VenueUnavailable
from shared.execution.types import MarketRules, Side
from shared.execution.venues.base import Venue
from shared.market.types import Book, Quote

_SLIPPAGE_ALLOWANCE_BPS = Decimal(10)


@dataclass(frozen=True)
class Route:
    """A venue with the book that it showed, and what a unit costs there."""

    venue: Venue
    rules: MarketRules
    book: Book


def rank_for_buying(
    venues: Mapping[str, Venue],
    quotes: Mapping[str, Quote],
    cash_quote: Mapping[str, Decimal],
    symbol: str,
    notional_quote: Decimal,
) -> list[str]:
    """The venues that can pay for ``notional_quote``, cheapest unit price after taker fee first.

    Args:
        quotes: best bid and ask by venue; a venue without one cannot be compared and is left out.
        cash_quote: free quote currency by venue.
    """
    costs: dict[str, Decimal] = {}
    for name, venue in venues.items():
        quote = quotes.get(name)
        if quote is None:
            continue
        try:
            fee = venue.rules(symbol).taker_fee_bps / 10_000
        except VenueUnavailable:
            continue  # it does not list the symbol, or does not answer: the others serve
        if cash_quote.get(name, Decimal(0)) >= notional_quote * (1 + fee):
            costs[name] = Decimal(str(quote.ask)) * (1 + fee)
    return sorted(costs, key=lambda name: (costs[name], name))


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
        price *= 1 + sign * _SLIPPAGE_ALLOWANCE_BPS / 10_000
    bound = Decimal(str(book.mid)) * (1 + sign * collar_bps / 10_000)
    return min(price, bound) if side == "buy" else max(price, bound)
