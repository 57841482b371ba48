"""What an order is by the market: its book, its distance from it, and other venues' prices."""

from __future__ import annotations

from decimal import Decimal

from shared.errors import OrderDenied
from shared.market import peg
from shared.market.types import Book
from shared.risk.controls.case import Case, as_decimal

MAX_BOOK_AGE_MS = 15_000
MAX_CLOCK_AHEAD_MS = 1_000

# New risk stops at the first number; exits, which must work in a crash too, at the second.
MAX_DEVIATION_PERCENT = (Decimal(2), Decimal(10))

MAX_SPREAD_BPS = Decimal(50)
"""The widest spread into which anything is bought. Half of it is the cost of getting in, and where
the best prices are further apart than this the mid says little about what anything is worth."""

MAX_DEPTH_SHARE_PERCENT = Decimal(25)
"""The share of what the book offers within the collar that one order may take. What it takes is
gone for whoever has to leave a minute later; a quarter leaves the price its footing."""

MAX_VOLUME_SHARE_PERCENT = Decimal("0.1")
"""The share of a day's traded value that one order may be. Ten slices an hour stay far below the
tenth of the volume at which an order begins to be the market."""

MAX_MINUTE_RANGE_PERCENT = Decimal(2)
"""The range of a minute in which nothing is bought any more: as wide as the default stop is away,
so that a stop would be no protection. On 10 October 2025 bitcoin fell by more in its worst minutes,
and on 21 October 2021 by 87 % in one on a single venue."""

STOP_LIMIT_OFFSET_PERCENT = Decimal(2)
"""How far below its trigger a protective stop still sells. A stop-limit that the price has jumped
rests unfilled and protects nothing, so the way down is wide (freqtrade takes 1 %, and the gaps of
10 October 2025 went further); it is bounded, because what an emptied book shows is no price."""

MAX_EXIT_COLLAR_PERCENT = Decimal(10)
"""How far below the mid an exit may sell at most. It has to work where spreads are wide: on 10
October 2025 they were 22 %. ``leaving`` begins far closer and widens with each try in vain."""


def book(case: Case) -> None:
    """The book is fresh, has both sides and is not crossed (C13)."""
    age_ms = case.now_ms - case.book.at_ms
    if not -MAX_CLOCK_AHEAD_MS <= age_ms <= MAX_BOOK_AGE_MS:
        raise OrderDenied("BOOK_STALE", age_ms=age_ms, limit_ms=MAX_BOOK_AGE_MS)
    if not case.book.bids or not case.book.asks:
        bids, asks = (len(side or ()) for side in (case.book.bids, case.book.asks))
        raise OrderDenied("BOOK_EMPTY", bids=bids, asks=asks, expected="both")
    bid, ask = case.bid, case.ask
    if not (bid.is_finite() and ask.is_finite() and bid > 0 and ask > 0):
        raise OrderDenied("BOOK_NUMBER", bid=bid, ask=ask, expected="above 0")
    if bid >= ask:
        raise OrderDenied("BOOK_CROSSED", bid=bid, ask=ask, expected="bid below ask")


def collar(case: Case) -> None:
    """The limit price is not far on the expensive side of the mid (C05).

    A protective stop rests away from the market on purpose: it lies below the mid, and its limit
    is held against its own trigger, at the wide offset that a gap asks for. An exit has the width
    that a wide spread asks for.
    """
    ticket, width = case.ticket, case.config.price_collar_bps / 10_000
    reference = case.mid
    if case.purpose == "exit":
        width = max(width, MAX_EXIT_COLLAR_PERCENT / 100)
    if case.is_stop and ticket.stop_price is not None:
        if ticket.stop_price >= case.mid:
            raise OrderDenied("PRICE_STOP_ABOVE_MID", after=ticket.stop_price, limit=case.mid)
        reference = ticket.stop_price
        if case.purpose == "protect":
            width = STOP_LIMIT_OFFSET_PERCENT / 100
    worst = reference * (1 + width if ticket.side == "buy" else 1 - width)
    beyond = ticket.limit_price > worst if ticket.side == "buy" else ticket.limit_price < worst
    if beyond:
        raise OrderDenied(
            "PRICE_COLLAR", side=ticket.side, after=ticket.limit_price, limit=worst, mid=case.mid
        )


def cross_venue(case: Case) -> None:
    """What other venues showed a moment ago bears the price out (C05, C06).

    New risk needs a second source, and every source has to agree: whichever of them is wrong,
    nothing is bought by it. A sale is refused only where no other source agrees: one venue that
    shows nonsense keeps no sale back on the others. With one configured venue there is no second
    source; then the collar, the spread and the minute's range have to do.
    """
    others = case.facts.other_venue_mids or []
    if case.new_risk and not others and case.expects_second_source:
        raise OrderDenied("PRICE_ONE_SOURCE", symbol=case.ticket.symbol, sources=1, expected=2)
    if not others:
        return
    for other in others:
        _deny_unless_positive("other_venue_mids", other)
    limit = MAX_DEVIATION_PERCENT[0 if case.new_risk else 1]
    apart = {100 * abs(case.mid - other) / other: other for other in others}
    judged = max(apart) if case.new_risk else min(apart)
    if judged > limit:
        raise OrderDenied(
            "PRICE_VENUES_APART",
            mid=case.mid,
            other=apart[judged],
            apart_percent=round(judged, 4),
            limit_percent=limit,
        )


def quote_peg(case: Case) -> None:
    """Nothing is bought with a stablecoin that has lost its peg (C15).

    What the venues tell against the currency of the peg counts; only where none of them has such a
    pair do pairs with other stablecoins, and then a break of either denies. Every source has to
    agree, as with ``cross_venue``. A currency of a state has no peg to lose.
    """
    currency = case.config.quote_currency
    if not case.new_risk or peg.direct_pair(currency) is None:
        return
    worths = case.lately.quote_worths or case.lately.quote_cross_worths
    if not worths:
        raise OrderDenied(
            "QUOTE_PEG_UNKNOWN", currency=currency, expected=peg.direct_pair(currency)
        )
    for worth in worths:
        _deny_unless_positive("quote_worths", worth)
    apart = peg.distance_percent(worths)
    if apart > peg.MAX_DISTANCE_PERCENT:
        raise OrderDenied(
            "QUOTE_PEG",
            currency=currency,
            apart_percent=round(apart, 4),
            limit_percent=peg.MAX_DISTANCE_PERCENT,
        )


def spread(case: Case) -> None:
    """Nothing is bought where the best bid and ask are far apart (C06)."""
    spread_bps = 10_000 * (case.ask - case.bid) / case.mid
    if case.new_risk and spread_bps > MAX_SPREAD_BPS:
        raise OrderDenied("BOOK_SPREAD", spread_bps=round(spread_bps, 4), limit_bps=MAX_SPREAD_BPS)


def depth(case: Case) -> None:
    """An order takes no more than its share of what is offered within the collar (C04)."""
    if not case.new_risk:
        return
    limit = room_in(case.book, case.config.price_collar_bps)
    if case.ticket.quantity > limit:
        raise OrderDenied("BOOK_DEPTH", after=case.ticket.quantity, limit=limit)


def room_in(book: Book, collar_bps: Decimal) -> Decimal:
    """How much an order may buy from ``book``, in base currency.

    Raises:
        OrderDenied: ``BOOK_NUMBER`` where a level is made of numbers that are none.
    """
    best_bid, best_ask = as_decimal(book.bids[0][0]), as_decimal(book.asks[0][0])
    worst = (best_bid + best_ask) / 2 * (1 + collar_bps / 10_000)
    levels = [(as_decimal(price), as_decimal(quantity)) for price, quantity in book.asks]
    for price, quantity in levels:
        if not (price.is_finite() and price > 0 and quantity.is_finite() and quantity >= 0):
            raise OrderDenied("BOOK_NUMBER", price=price, quantity=quantity, expected="above 0")
    offered = sum((quantity for price, quantity in levels if price <= worst), Decimal(0))
    return offered * MAX_DEPTH_SHARE_PERCENT / 100


def minute_range(case: Case) -> None:
    """Nothing is bought in a minute that moves too far (C06): the last closed one and this."""
    if not case.new_risk:
        return
    low, high = case.lately.low_1m, case.lately.high_1m
    if low is None or high is None:
        raise OrderDenied("PRICE_RANGE_UNKNOWN", symbol=case.ticket.symbol)
    _deny_unless_positive("low_1m", low)
    _deny_unless_positive("high_1m", high)
    range_percent = 100 * (max(high, case.mid) / min(low, case.mid) - 1)
    if range_percent > MAX_MINUTE_RANGE_PERCENT:
        raise OrderDenied(
            "PRICE_RANGE",
            range_percent=round(range_percent, 4),
            limit_percent=MAX_MINUTE_RANGE_PERCENT,
        )


def volume(case: Case) -> None:
    """An order is no more than its share of what the market trades in a day (C04)."""
    if not case.new_risk:
        return
    traded = case.lately.volume_24h_quote
    if traded is None:
        raise OrderDenied("VOLUME_UNKNOWN", symbol=case.ticket.symbol)
    _deny_unless_positive("volume_24h_quote", traded)
    limit = traded * MAX_VOLUME_SHARE_PERCENT / 100
    if case.notional_quote > limit:
        raise OrderDenied("VOLUME_SHARE", after=case.notional_quote, limit=limit)


def _deny_unless_positive(field: str, value: Decimal) -> None:
    if not (value.is_finite() and value > 0):
        raise OrderDenied("MARKET_NUMBER", field=field, value=value, expected="above 0")
