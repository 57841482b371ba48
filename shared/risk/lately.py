"""What the gate has to know about the last day: of the market, of this pod's orders and entries."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from shared import clock
from shared.execution.types import OrderTicket
from shared.market import peg
from shared.run import Run

REPEAT_WINDOW = timedelta(hours=24)
"""Entries further back than this do not count as repeated."""

# One application of a strategy is one parent order, however many slices and venues it took. It has
# been carried out once something of it was filled, and while nobody knows. An entry of another
# strategy in between begins the count anew, and so does a person.
_LATELY = """
WITH own AS MATERIALIZED (
    SELECT strategy, sleeve FROM positions
    WHERE pod = %(pod)s AND position_id = %(position_id)s
),
applied AS MATERIALIZED (
    SELECT coalesce(i.parent_id, i.intent_id) AS application, max(i.sent_at) AS at,
           p.strategy = own.strategy AS is_same
    FROM intents i JOIN positions p USING (position_id) JOIN own ON own.sleeve = p.sleeve
    WHERE i.pod = %(pod)s AND i.symbol = %(symbol)s AND i.side = 'buy'
      AND i.sent_at > %(repeats_from)s AND i.client_order_id <> %(client_order_id)s
      AND coalesce(i.parent_id, i.intent_id) IS DISTINCT FROM %(parent_id)s
      AND (i.state IN ('SENDING', 'UNKNOWN')
           OR EXISTS (SELECT 1 FROM orders o
                      WHERE o.intent_id = i.intent_id AND o.filled_quantity > 0))
    GROUP BY 1, 3
)
SELECT market.*, sent.*, (SELECT strategy FROM own) AS strategy,
    (SELECT coalesce(sum(h.quantity * coalesce(
        (SELECT max((q.bid + q.ask) / 2) FROM prices q
         WHERE q.pod = p.pod AND q.symbol = p.symbol AND q.at > %(now)s - interval '10 minutes'),
        (SELECT sum(f.price * f.quantity) / sum(f.quantity) FROM fills f
         WHERE f.position_id = p.position_id AND f.side = 'buy'))), 0)
     FROM positions p JOIN position_holdings h USING (position_id)
     WHERE p.pod = %(pod)s AND p.closed_at IS NULL AND h.venue = %(venue)s) AS venue_held_quote,
    (SELECT tripped_at FROM throttles
     WHERE pod = %(pod)s AND symbol = %(symbol)s AND strategy = (SELECT strategy FROM own)
       AND reenabled_at IS NULL) AS throttled_at,
    (SELECT count(*) FROM applied WHERE is_same
       AND at > coalesce((SELECT max(at) FROM applied WHERE NOT is_same), '-infinity')
       AND at > coalesce((SELECT max(reenabled_at) FROM throttles
                          WHERE pod = %(pod)s AND symbol = %(symbol)s
                            AND strategy = (SELECT strategy FROM own)), '-infinity'))
        AS repeated_entries,
    (SELECT array_agg((bid + ask) / 2) FROM prices
     WHERE pod = %(pod)s AND symbol = %(peg_pair)s AND at > %(now)s - interval '10 minutes')
        AS quote_worths,
    (SELECT array_agg(CASE WHEN split_part(symbol, '/', 1) = %(quote)s
                           THEN (bid + ask) / 2 ELSE 2 / (bid + ask) END) FROM prices
     WHERE pod = %(pod)s AND symbol = ANY(%(peg_crosses)s)
       AND at > %(now)s - interval '10 minutes') AS quote_cross_worths
FROM (
    SELECT min(low_1m) AS low_1m, max(high_1m) AS high_1m,
           coalesce(max(volume_24h_quote) FILTER (WHERE venue = %(venue)s), min(volume_24h_quote))
               AS volume_24h_quote
    FROM prices
    WHERE pod = %(pod)s AND symbol = %(symbol)s
      AND at BETWEEN %(now)s - interval '90 seconds' AND %(now)s + interval '1 second'
) market
CROSS JOIN (
    SELECT count(*) AS trades_last_day,
           count(*) FILTER (WHERE symbol = %(symbol)s) AS symbol_trades_last_day,
           count(*) FILTER (WHERE symbol = %(symbol)s AND sent_at > %(now)s - interval '1 hour')
               AS symbol_trades_last_hour,
           count(*) FILTER (WHERE symbol = %(symbol)s AND sent_at > %(now)s - interval '1 minute')
               AS symbol_trades_last_minute
    FROM intents
    WHERE pod = %(pod)s AND sent_at > %(now)s - interval '1 day' AND purpose <> 'protect'
      AND client_order_id <> %(client_order_id)s
) sent
"""


@dataclass(frozen=True)
class Lately:
    """The last day, as far as one order is judged by it. ``None`` where nobody has told it.

    Attributes:
        low_1m, high_1m: of the last closed minute, on the venue whose candles the scan has.
        volume_24h_quote: traded in 24 h on the order's venue, or where that is not known on the
            venue that traded least of those that are.
        venue_held_quote: all open positions on the order's venue, at their newest price of ten
            minutes, or at what they cost.
        trades_last_day: orders of all symbols but protective stops; ``symbol_`` of the order's.
        strategy: the one that the order's position follows.
        repeated_entries: how often in a row that strategy has been carried out in the symbol,
            without the order's own parent.
        throttled_at: since when it needs a person to go on.
        quote_worths: of a unit of the quote currency in what it is pegged to, by venue;
            ``quote_cross_worths`` in other stablecoins. Of the last ten minutes.
    """

    low_1m: Decimal | None
    high_1m: Decimal | None
    volume_24h_quote: Decimal | None
    venue_held_quote: Decimal
    trades_last_day: int
    symbol_trades_last_day: int
    symbol_trades_last_hour: int
    symbol_trades_last_minute: int
    strategy: str | None
    throttled_at: datetime | None
    repeated_entries: int
    quote_worths: list[Decimal] | None
    quote_cross_worths: list[Decimal] | None


def fetch(
    run: Run, ticket: OrderTicket, position_id: int, parent_id: str | None, now_ms: int
) -> Lately:
    """Read what an order is judged by, inside the caller's transaction.

    Args:
        parent_id: of the parent order that the order is a slice of.
    """
    now, quote = clock.from_ms(now_ms), run.config.quote_currency
    row = run.ledger.one(
        _LATELY,
        {
            "pod": run.ledger.pod,
            "position_id": position_id,
            "parent_id": parent_id,
            "client_order_id": ticket.client_order_id,
            "symbol": ticket.symbol,
            "venue": ticket.venue,
            "now": now,
            "repeats_from": now - REPEAT_WINDOW,
            "quote": quote,
            "peg_pair": peg.direct_pair(quote),
            "peg_crosses": list(peg.cross_pairs(quote)),
        },
    )
    if row is None:  # a SELECT without FROM always has its row
        raise AssertionError("lately: expected one row")
    return Lately(**row)
