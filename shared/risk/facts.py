"""What the gate has to know about the ledger, fetched in one round trip."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from shared import clock
from shared.execution.types import Mode, OrderTicket
from shared.ledger import events
from shared.run import Run

RUN_LIMIT = timedelta(seconds=60)
"""The platform kills a cron run after this: who sent an order earlier will never hear of it."""

# An order counts at full size while nobody knows what became of it, with its unfilled rest while
# it rests on the venue, and with what the venue has filled but the ledger has not recorded yet.
# What rests in a symbol is counted by account, as venues do: over the pods that share it, in the
# way that the order would go. On paper a pod is alone.
_FACTS = """
WITH pending AS MATERIALIZED (
    SELECT position_id, symbol, venue, side, order_type, limit_price, quantity, true AS unresolved,
           purpose = 'protect' AND (state = 'UNKNOWN' OR sent_at <= %(run_died_before)s)
               AS unknown_stop
    FROM intents
    WHERE pod = %(pod)s AND state IN ('SENDING', 'UNKNOWN')
      AND client_order_id <> %(client_order_id)s
    UNION ALL
    SELECT i.position_id, i.symbol, i.venue, i.side, i.order_type, i.limit_price,
           o.quantity - o.filled_quantity, false, false
    FROM orders o JOIN intents i USING (intent_id)
    WHERE o.pod = %(pod)s AND o.status = 'open' AND i.state NOT IN ('SENDING', 'UNKNOWN')
    UNION ALL
    SELECT i.position_id, i.symbol, i.venue, i.side, i.order_type, i.limit_price,
           o.filled_quantity - recorded.quantity, false, false
    FROM intents i JOIN orders o USING (intent_id)
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(f.quantity), 0) AS quantity FROM fills f
        WHERE f.position_id = i.position_id AND f.intent_id = i.intent_id
    ) AS recorded
    WHERE i.pod = %(pod)s AND i.sent_at > %(now)s - interval '1 hour'
      AND o.filled_quantity > recorded.quantity
),
family AS (SELECT coalesce((SELECT base FROM pods WHERE pod = %(pod)s), %(pod)s) AS base),
account AS MATERIALIZED (
    SELECT %(pod)s AS pod
    UNION SELECT base FROM family WHERE %(mode)s <> 'paper'
    UNION SELECT p.pod FROM pods p JOIN family USING (base) WHERE %(mode)s <> 'paper'
),
resting AS MATERIALIZED (
    SELECT i.position_id, i.order_type
    FROM intents i JOIN account USING (pod)
    WHERE i.state IN ('SENDING', 'UNKNOWN') AND i.client_order_id <> %(client_order_id)s
      AND i.venue = %(venue)s AND i.symbol = %(symbol)s AND coalesce(i.mode, %(mode)s) = %(mode)s
    UNION ALL
    SELECT i.position_id, i.order_type
    FROM orders o JOIN account USING (pod) JOIN intents i USING (intent_id)
    WHERE o.status = 'open' AND i.state NOT IN ('SENDING', 'UNKNOWN')
      AND i.venue = %(venue)s AND i.symbol = %(symbol)s AND coalesce(i.mode, %(mode)s) = %(mode)s
),
own AS MATERIALIZED (
    SELECT sleeve FROM positions WHERE pod = %(pod)s AND position_id = %(position_id)s
),
held AS MATERIALIZED (
    SELECT p.position_id, p.symbol, p.sleeve = (SELECT sleeve FROM own) AS same_sleeve,
           bought.quantity, coalesce(quoted.mid, bought.entry) AS mid
    FROM positions p
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(CASE f.side WHEN 'buy' THEN f.quantity ELSE -f.quantity END
                            - CASE WHEN f.fee_currency = split_part(f.symbol, '/', 1)
                                   THEN f.fee_cost ELSE 0 END), 0) AS quantity,
               sum(f.price * f.quantity) FILTER (WHERE f.side = 'buy')
                   / sum(f.quantity) FILTER (WHERE f.side = 'buy') AS entry
        FROM fills f WHERE f.position_id = p.position_id
    ) AS bought
    LEFT JOIN LATERAL (
        SELECT max((bid + ask) / 2) AS mid FROM prices q
        WHERE q.pod = p.pod AND q.symbol = p.symbol AND q.at > %(now)s - interval '10 minutes'
    ) AS quoted ON true
    WHERE p.pod = %(pod)s AND p.closed_at IS NULL
)
SELECT h.*, p.*, o.*, r.*, m.*, (SELECT sleeve FROM own) AS sleeve,
    (SELECT started_at FROM runs WHERE run_id = %(run_id)s) AS run_started_at,
    (SELECT quantity FROM position_holdings
     WHERE position_id = %(position_id)s AND venue = %(venue)s) AS held_on_venue,
    (SELECT amount FROM balances
     WHERE pod = %(pod)s AND venue = %(venue)s AND currency = %(quote)s) AS venue_cash_quote,
    (SELECT array_agg((bid + ask) / 2) FROM prices
     WHERE pod = %(pod)s AND symbol = %(symbol)s AND venue <> %(venue)s
       AND at BETWEEN %(now)s - interval '90 seconds' AND %(now)s + interval '1 second')
        AS other_venue_mids
FROM (
    SELECT max(symbol) FILTER (WHERE position_id = %(position_id)s) AS position_symbol,
           coalesce(sum(quantity) FILTER (WHERE same_sleeve AND symbol = %(symbol)s), 0)
               AS symbol_held_quantity,
           coalesce(sum(quantity * mid) FILTER (WHERE same_sleeve AND symbol <> %(symbol)s), 0)
               AS others_held_quote,
           coalesce(sum(quantity * mid) FILTER (WHERE NOT same_sleeve), 0)
               AS other_sleeve_held_quote,
           count(*) FILTER (WHERE same_sleeve AND position_id <> %(position_id)s)
               AS other_positions
    FROM held
) h
CROSS JOIN (
    SELECT coalesce(sum(notional) FILTER (WHERE buys AND same_sleeve AND symbol = %(symbol)s), 0)
               AS symbol_pending_buy_quote,
           coalesce(sum(notional) FILTER (WHERE buys AND same_sleeve AND symbol <> %(symbol)s), 0)
               AS others_pending_buy_quote,
           coalesce(sum(notional) FILTER (WHERE buys AND NOT same_sleeve), 0)
               AS other_sleeve_pending_buy_quote,
           coalesce(sum(notional) FILTER (WHERE buys AND venue = %(venue)s), 0)
               AS venue_pending_buy_quote,
           count(*) FILTER (WHERE unresolved AND symbol = %(symbol)s) AS unresolved,
           coalesce(sum(quantity) FILTER (WHERE NOT buys AND venue = %(venue)s
                                          AND position_id = %(position_id)s), 0)
               AS pending_sell_quantity,
           coalesce(sum(quantity) FILTER (WHERE unknown_stop AND venue = %(venue)s
                                          AND position_id = %(position_id)s), 0)
               AS unknown_stop_quantity,
           count(*) FILTER (
               WHERE NOT unresolved AND venue = %(venue)s AND symbol = %(symbol)s
                 AND side <> %(side)s AND order_type NOT IN ('stop_limit', 'stop_market')
                 AND CASE WHEN buys THEN limit_price >= %(limit_price)s
                          ELSE limit_price <= %(limit_price)s END) AS opposing
    FROM (SELECT pending.*, side = 'buy' AS buys, quantity * limit_price AS notional,
                 p.sleeve = (SELECT sleeve FROM own) AS same_sleeve
          FROM pending JOIN positions p USING (position_id)) q
) p
CROSS JOIN (
    SELECT count(*) AS orders_last_hour,
           count(*) FILTER (WHERE sent_at > %(now)s - interval '1 minute') AS orders_last_minute,
           count(*) FILTER (WHERE purpose = 'protect') AS stops_last_hour,
           count(*) FILTER (WHERE purpose = 'protect'
                              AND sent_at > %(now)s - interval '1 minute') AS stops_last_minute
    FROM intents WHERE pod = %(pod)s AND sent_at > %(now)s - interval '1 hour'
      AND client_order_id <> %(client_order_id)s
) o
CROSS JOIN (
    SELECT count(*) AS resting_orders,
           count(*) FILTER (WHERE order_type IN ('stop_limit', 'stop_market')) AS resting_stops,
           count(*) FILTER (WHERE order_type IN ('stop_limit', 'stop_market')
                              AND position_id = %(position_id)s) AS own_resting_stops
    FROM resting
) r
CROSS JOIN (
    SELECT count(*) AS messages_last_hour,
           count(*) FILTER (WHERE at > %(now)s - interval '1 minute') AS messages_last_minute,
           count(*) FILTER (WHERE symbol = %(symbol)s) AS symbol_messages_last_hour,
           count(*) FILTER (WHERE symbol = %(symbol)s AND at > %(now)s - interval '1 minute')
               AS symbol_messages_last_minute
    FROM (
        SELECT sent_at AS at, symbol FROM intents
        WHERE pod = %(pod)s AND sent_at > %(now)s - interval '1 hour'
          AND client_order_id <> %(client_order_id)s
        UNION ALL
        SELECT at, detail ->> 'symbol' FROM events
        WHERE pod = %(pod)s AND kind = %(cancel_sent)s AND at > %(now)s - interval '1 hour'
    ) sent
) m
"""


@dataclass(frozen=True)
class Facts:
    """The state of the book of this pod at the moment of one order. Money in quote currency.

    ``None`` where the ledger holds nothing on the subject; the gate decides what that means.

    Attributes:
        sleeve: of the order's position. ``symbol_`` and ``others_`` are of this sleeve, of the
            order's symbol and of all others; ``other_sleeve_`` is everything in the other sleeve.
        other_positions: of this sleeve.
        unknown_stop_quantity: of ``pending_sell_quantity``, what belongs to protective stops that
            may or may not rest: their run has heard no answer, or is dead.
        stops_last_hour, stops_last_minute: how many of the orders were protective stops.
        resting_orders: of the account in the order's symbol on its venue, what rests and what may.
        resting_stops: how many of these are stops; ``own_resting_stops`` of the order's position.
        messages_last_hour, messages_last_minute: orders of every kind and cancels, as they were
            sent; ``symbol_`` of the order's symbol.
    """

    run_started_at: datetime | None
    position_symbol: str | None
    sleeve: Literal["tactical", "core"] | None
    symbol_held_quantity: Decimal
    others_held_quote: Decimal
    other_sleeve_held_quote: Decimal
    other_positions: int
    symbol_pending_buy_quote: Decimal
    others_pending_buy_quote: Decimal
    other_sleeve_pending_buy_quote: Decimal
    venue_pending_buy_quote: Decimal
    unresolved: int
    pending_sell_quantity: Decimal
    unknown_stop_quantity: Decimal
    opposing: int
    held_on_venue: Decimal | None
    venue_cash_quote: Decimal | None
    orders_last_hour: int
    orders_last_minute: int
    stops_last_hour: int
    stops_last_minute: int
    resting_orders: int
    resting_stops: int
    own_resting_stops: int
    messages_last_hour: int
    messages_last_minute: int
    symbol_messages_last_hour: int
    symbol_messages_last_minute: int
    other_venue_mids: list[Decimal] | None


def fetch(run: Run, ticket: OrderTicket, position_id: int, now_ms: int, mode: Mode) -> Facts:
    """Read the facts for ``ticket`` inside the caller's transaction.

    Args:
        mode: where the order would end.
    """
    row = run.ledger.one(
        _FACTS,
        {
            "pod": run.ledger.pod,
            "run_id": run.run_id,
            "position_id": position_id,
            "client_order_id": ticket.client_order_id,
            "symbol": ticket.symbol,
            "venue": ticket.venue,
            "side": ticket.side,
            "limit_price": ticket.limit_price,
            "quote": run.config.quote_currency,
            "now": clock.from_ms(now_ms),
            "mode": mode,
            "cancel_sent": events.CANCEL_SENT,
            "run_died_before": clock.from_ms(now_ms) - RUN_LIMIT,
        },
    )
    if row is None:  # a SELECT without FROM always has its row
        raise AssertionError("facts: expected one row")
    return Facts(**row)
