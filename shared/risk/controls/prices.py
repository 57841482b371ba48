"""What an order is by the market: its book, its distance from it, and other venues' prices."""

from __future__ import annotations

from decimal import Decimal

from shared.errors import OrderDenied
from shared.risk.controls.case import Case, as_decimal

MAX_BOOK_AGE_MS = 15_000
MAX_CLOCK_AHEAD_MS = 1_000

# New risk stops at the first number; exits, which must work in a crash too, at the second.
MAX_DEVIATION_PERCENT = (Decimal(2), Decimal(10))

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
        raise OrderDenied("BOOK_EMPTY", bids=len(case.book.bids), asks=len(case.book.asks))
    bid, ask = as_decimal(case.book.bids[0][0]), as_decimal(case.book.asks[0][0])
    if not (bid.is_finite() and ask.is_finite() and bid > 0 and ask > 0):
        raise OrderDenied("BOOK_NUMBER", bid=bid, ask=ask)
    if bid >= ask:
        raise OrderDenied("BOOK_CROSSED", bid=bid, ask=ask)


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
            raise OrderDenied("PRICE_STOP_ABOVE_MID", stop=ticket.stop_price, mid=case.mid)
        reference = ticket.stop_price
        if case.purpose == "protect":
            width = STOP_LIMIT_OFFSET_PERCENT / 100
    worst = reference * (1 + width if ticket.side == "buy" else 1 - width)
    beyond = ticket.limit_price > worst if ticket.side == "buy" else ticket.limit_price < worst
    if beyond:
        raise OrderDenied(
            "PRICE_COLLAR", side=ticket.side, limit=ticket.limit_price, worst=worst, mid=case.mid
        )


def cross_venue(case: Case) -> None:
    """The venue's mid agrees with what other venues showed a moment ago (C05, C06)."""
    limit = MAX_DEVIATION_PERCENT[0 if case.new_risk else 1]
    for other in case.facts.other_venue_mids or ():
        apart_percent = 100 * abs(case.mid - other) / other
        if apart_percent > limit:
            raise OrderDenied("PRICE_VENUES_APART", mid=case.mid, other=other, limit_percent=limit)
