"""Whether a limit price lies within its venue's price band, and how it is brought inside.

The band is a multiple of an average that only the venue knows (``MarketRules.price_band``). It is
wide on most markets, and asking for the average takes a request, so it is asked for only where it
can matter. What is bought outside the band is denied by the gate. What is sold is brought inside:
a position must not stay unsold, or without its stop, for the sake of a price.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from shared.errors import VenueUnavailable
from shared.execution.intents import Intent
from shared.execution.rounding import ceil_to, floor_to
from shared.execution.types import MarketRules, OrderTicket, PriceBand, Side
from shared.execution.venues.base import Venue
from shared.market.types import Book

MOST_TIMES_APART = Decimal(4)
"""So many times as high as the mid, or as low, the average of five minutes may be unasked: the
price has fallen by three quarters in five minutes, or risen fourfold. Beyond that the venue itself
refuses, definitely, and its average has followed the price before it is tried again."""

MARGIN_BPS = Decimal(10)
"""How far inside the band a price is put: the average moves on until the order arrives."""


def limits(band: PriceBand, side: Side, average: Decimal) -> tuple[Decimal, Decimal]:
    """The lowest and the highest price that the venue takes, both included."""
    if side == "buy":
        return average * band.lowest_buy_multiple, average * band.highest_buy_multiple
    return average * band.lowest_sell_multiple, average * band.highest_sell_multiple


def is_sure(band: PriceBand, side: Side, price: Decimal, mid: Decimal) -> bool:
    """Whether ``price`` is inside whatever the average is, up to ``MOST_TIMES_APART`` the mid."""
    low, _ = limits(band, side, mid * MOST_TIMES_APART)
    _, high = limits(band, side, mid / MOST_TIMES_APART)
    return low <= price <= high


def average_for(
    venue: Venue, side: Side, price: Decimal, rules: MarketRules, book: Book
) -> Decimal | None:
    """The venue's average, where ``price`` is to be judged by it.

    ``None`` where the venue has no band, the price is surely inside, or the venue does not answer:
    the gate says what that means for the order.
    """
    band = rules.price_band
    if band is None or is_sure(band, side, price, Decimal(str(book.mid))):
        return None
    try:
        return venue.average_price(rules.symbol)
    except VenueUnavailable:
        return None  # counted in the call log


def has_limit(ticket: OrderTicket) -> bool:
    """Whether a price of the ticket goes over the wire: one at market has none to be judged."""
    return ticket.order_type in ("limit", "stop_limit")


def fitted_sale(intent: Intent, rules: MarketRules, average: Decimal | None) -> Intent:
    """The sale with its limit price inside the band; unchanged where it is, or nobody knows."""
    if rules.price_band is None or average is None:
        return intent
    ticket = intent.ticket
    low, high = limits(rules.price_band, "sell", average)
    lowest = _inside(low, rules)
    highest = floor_to(high * (1 - MARGIN_BPS / 10_000), rules.price_tick)
    price = min(max(ticket.limit_price, lowest), highest)
    return replace(intent, ticket=replace(ticket, limit_price=price))


def lowest_sale(rules: MarketRules, average: Decimal | None) -> Decimal | None:
    """The lowest price at which a sale is put into the band; ``None`` where nobody knows of one."""
    if rules.price_band is None or average is None:
        return None
    low, _ = limits(rules.price_band, "sell", average)
    return _inside(low, rules)


def _inside(low: Decimal, rules: MarketRules) -> Decimal:
    return ceil_to(low * (1 + MARGIN_BPS / 10_000), rules.price_tick)
