"""Where a symbol can be bought now: which venues are worth asking, and what their books offer.

A book costs a request, so those of the venues that cannot win are not read: the one that should be
cheapest by its stored quote comes first, and another only if its quote is below the dearest level
that the whole quantity would need there, or if not all of it fits. Several are read side by side,
each in a thread of its own, for each has its own client; nothing there touches the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from shared import clock
from shared.errors import OrderDenied, VenueUnavailable
from shared.execution.entries.offers import Offer
from shared.execution.types import MarketRules
from shared.execution.venues.base import Venue
from shared.ledger.connection import Row
from shared.market.types import Book
from shared.risk.controls.prices import room_in
from shared.run import Run

_PRICE_MAX_AGE = timedelta(seconds=90)
_HEALTH_WINDOW = timedelta(minutes=15)

_FAILURE_COST_BPS = Decimal(10)
"""What an order that fails costs: the slice waits for a minute, and 10 bps is about one standard
deviation of a minute's return at 70 % annualised volatility (0.7 / sqrt(525,600))."""

# Buys under way are reckoned as the gate does. The newest run of a venue speaks for it.
_STANDINGS = """
SELECT q.venue, q.ask,
       coalesce((SELECT b.amount FROM balances b WHERE b.pod = %(pod)s AND b.venue = q.venue
                 AND b.currency = %(quote)s), 0) AS cash,
       coalesce((SELECT sum((l.quantity - l.filled_quantity) * l.limit_price) FROM order_log l
                 WHERE l.pod = %(pod)s AND l.venue = q.venue AND l.side = 'buy'
                   AND (l.state IN ('SENDING', 'UNKNOWN') OR l.order_status = 'open')), 0)
           AS pending,
       coalesce(c.calls, 0) AS calls, coalesce(c.failures, 0) AS failures,
       coalesce(c.newest_failed, false) AS newest_failed
FROM prices q LEFT JOIN (
    SELECT venue, sum(calls) AS calls, sum(failures) AS failures,
           (array_agg(failures >= calls ORDER BY at DESC, run_id DESC))[1] AS newest_failed
    FROM venue_calls WHERE pod = %(pod)s AND at >= %(healthy_since)s GROUP BY venue
) c ON c.venue = q.venue
WHERE q.pod = %(pod)s AND q.symbol = %(symbol)s AND q.at >= %(priced_since)s
  AND q.venue = ANY(%(venues)s)
  AND NOT EXISTS (SELECT 1 FROM venue_limits v
                  WHERE v.venue = q.venue AND v.blocked_until > %(now)s)
"""


@dataclass(frozen=True)
class Candidate:
    """A venue that may be bought on, before its book is read.

    Attributes:
        funds: free quote currency, less what buys under way may still take.
        penalty_bps: the failed share of its recent calls, priced.
        unit_cost: the stored ask with fee and penalty.
        smallest_quantity: below this the venue takes nothing, at any price within the collar.
    """

    venue: Venue
    rules: MarketRules
    funds: Decimal
    penalty_bps: Decimal
    unit_cost: Decimal
    smallest_quantity: Decimal


class Liquidity:
    """The offers for buying one symbol in one run; books are read when they are needed."""

    def __init__(
        self, candidates: Sequence[Candidate], symbol: str, collar_bps: Decimal, *, passive: bool
    ) -> None:
        self._unread = sorted(candidates, key=lambda found: found.unit_cost)
        self._symbol = symbol
        self._collar_bps = collar_bps
        self._passive = passive
        self._offers: dict[str, Offer] = {}

    def offers(self, quantity: Decimal) -> list[Offer]:
        """What can win a part of ``quantity``, cheapest quote first; unreadable venues are out."""
        while not self._offers and (able := self._able(quantity)):
            self._read(able[:1])
        costs = [offer.dearest_cost(quantity) for offer in self._offers.values()]
        bar = min((cost for cost in costs if cost is not None), default=None)
        able = self._able(quantity)
        self._read([found for found in able if bar is None or found.unit_cost < bar])
        return list(self._offers.values())

    def drop(self, venue: str) -> Offer:
        """Take a venue out, because it has had its order; returns what it had offered."""
        return self._offers.pop(venue)

    def _able(self, quantity: Decimal) -> list[Candidate]:
        return [found for found in self._unread if found.smallest_quantity <= quantity]

    def _read(self, candidates: Sequence[Candidate]) -> None:
        self._unread = [found for found in self._unread if found not in candidates]
        if len(candidates) > 1:
            with ThreadPoolExecutor(len(candidates), thread_name_prefix="books") as pool:
                books = list(pool.map(self._book, candidates))
        else:
            books = [self._book(found) for found in candidates]
        for found, book in zip(candidates, books, strict=True):
            if book is not None:
                self._offers[found.rules.venue] = Offer(
                    rules=found.rules,
                    book=book,
                    side="buy",
                    # the gate lets an order take a share of the book only; the other venues serve
                    funds=min(found.funds, self._room_quote(book)),
                    collar_bps=self._collar_bps,
                    passive=self._passive,
                    penalty_bps=found.penalty_bps,
                )

    def _book(self, found: Candidate) -> Book | None:
        try:
            book = found.venue.book(self._symbol)
            self._room_quote(book)
        except VenueUnavailable:
            return None  # nothing was sent: the other venues serve; counted in the call log
        except OrderDenied:
            return None  # made of numbers that are none: the gate would refuse it
        return book

    def _room_quote(self, book: Book) -> Decimal:
        """What an order may spend at most; at its limit price that buys a little less."""
        return room_in(book, self._collar_bps) * Decimal(str(book.asks[0][0]))


def candidates_for_buying(run: Run, venues: Mapping[str, Venue], symbol: str) -> list[Candidate]:
    """The venues that can take the smallest order and have a price not older than 90 s.

    A venue takes nothing while it is blocked in ``venue_limits``, while all calls of its newest
    run have failed, while the market is closed there, or while it does not tell its rules.
    """
    now = clock.now()
    rows = run.ledger.query(
        _STANDINGS,
        {
            "pod": run.ledger.pod,
            "symbol": symbol,
            "quote": run.config.quote_currency,
            "venues": list(venues),
            "now": now,
            "priced_since": now - _PRICE_MAX_AGE,
            "healthy_since": now - _HEALTH_WINDOW,
        },
    )
    found = (_candidate(run, venues[row["venue"]], symbol, row) for row in rows)
    return [candidate for candidate in found if candidate is not None]


def _candidate(run: Run, venue: Venue, symbol: str, row: Row) -> Candidate | None:
    penalty_bps = _penalty_bps(run, row)
    if penalty_bps is None:
        return None
    try:
        rules = venue.rules(symbol)
    except VenueUnavailable:
        return None  # it does not list the symbol, or does not answer: the others serve
    if not rules.is_open:
        return None
    with_fee = 1 + rules.taker_fee_bps / 10_000
    dearest_price = row["ask"] * (1 + run.config.price_collar_bps / 10_000)
    smallest = max(rules.min_quantity, rules.quantity_step, rules.min_notional / dearest_price)
    funds = row["cash"] - row["pending"] * with_fee
    if funds < smallest * row["ask"] * with_fee:
        return None
    unit_cost = row["ask"] * (with_fee + penalty_bps / 10_000)
    return Candidate(venue, rules, funds, penalty_bps, unit_cost, smallest)


def _penalty_bps(run: Run, row: Row) -> Decimal | None:
    """The price of the failed share of a venue's recent calls; ``None`` where it takes nothing."""
    calls, failures = Decimal(row["calls"]), Decimal(row["failures"])
    newest_failed = row["newest_failed"]
    own = run.calls.by_service.get(row["venue"])  # of this step, not in the ledger yet
    if own is not None:
        calls, failures = calls + own.calls, failures + own.failures
        newest_failed = own.failures >= own.calls
    if newest_failed:
        return None
    return _FAILURE_COST_BPS * failures / calls if calls else Decimal(0)
