"""What each position holds on each venue, and which stop covers it there.

One query tells it for all of them, without a word to a venue.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from shared import clock
from shared.execution import bands
from shared.execution.rounding import ceil_to, floor_to
from shared.execution.types import MarketRules
from shared.ledger.connection import Ledger
from shared.risk.controls.prices import STOP_LIMIT_OFFSET_PERCENT

STOP_TOLERANCE_BPS = Decimal(10)
"""A stop may rest this much lower than was decided before it is replaced: each replacement leaves
the position naked for a moment. The loop watches the decided stop itself, every minute."""

_COVERED_SHARE = Decimal("0.999")
_LONGEST_WAIT = timedelta(minutes=15)

# An intent belongs to its position from the day that it was opened: that finds it by an index.
_COVERS = """
WITH resting AS MATERIALIZED (
    SELECT i.position_id, i.venue, count(*) AS stops, min(i.stop_price) AS stop_price,
           sum(o.quantity - o.filled_quantity) AS quantity, min(o.updated_at) AS seen_at
    FROM orders o JOIN intents i USING (intent_id)
    WHERE o.pod = %(pod)s AND o.status = 'open' AND i.purpose = 'protect'
    GROUP BY i.position_id, i.venue
), held AS MATERIALIZED (
    SELECT p.position_id, f.venue, f.quantity
    FROM positions p CROSS JOIN LATERAL (
        SELECT venue, sum(CASE side WHEN 'buy' THEN quantity ELSE -quantity END
                          - CASE WHEN fee_currency = split_part(symbol, '/', 1)
                                 THEN fee_cost ELSE 0 END) AS quantity
        FROM fills WHERE position_id = p.position_id GROUP BY venue
    ) f
    WHERE p.pod = %(pod)s AND p.closed_at IS NULL AND p.stop_price > 0
), bare AS MATERIALIZED (
    SELECT position_id, venue, since FROM naked_intervals WHERE pod = %(pod)s AND until IS NULL
), places AS (
    SELECT position_id, venue FROM held UNION SELECT position_id, venue FROM resting
    UNION SELECT position_id, venue FROM bare
)
SELECT position_id, venue, p.symbol, p.stop_price, greatest(h.quantity, 0) AS held,
       coalesce(r.stops, 0) AS stops, coalesce(r.quantity, 0) AS resting,
       r.stop_price AS resting_stop_price, r.seen_at, b.since AS naked_since, sent.*
FROM places JOIN positions p USING (position_id)
LEFT JOIN held h USING (position_id, venue)
LEFT JOIN resting r USING (position_id, venue)
LEFT JOIN bare b USING (position_id, venue)
CROSS JOIN LATERAL (
    SELECT coalesce(sum(l.quantity - l.filled_quantity) FILTER (
               WHERE l.side = 'sell' AND l.purpose <> 'protect'
                 AND (l.state IN ('SENDING', 'UNKNOWN') OR l.order_status = 'open')), 0)
               AS in_flight,
           count(*) FILTER (WHERE l.purpose = 'protect') AS sent_stops,
           count(*) FILTER (WHERE l.purpose = 'protect' AND l.state IN ('SENDING', 'UNKNOWN'))
               AS unknown_stops,
           count(*) FILTER (WHERE l.purpose = 'protect' AND l.state = 'REJECTED')
               AS rejected_stops,
           max(l.sent_at) FILTER (WHERE l.purpose = 'protect' AND l.state = 'REJECTED')
               AS last_rejected_at
    FROM order_log l
    WHERE l.pod = p.pod AND l.symbol = p.symbol AND l.sent_at > p.opened_at - interval '1 day'
      AND l.position_id = p.position_id AND l.venue = places.venue
) sent
WHERE position_id = coalesce(%(position_id)s, position_id) AND venue = coalesce(%(venue)s, venue)
ORDER BY position_id, venue
"""


@dataclass(frozen=True)
class Cover:
    """One position on one venue. Quantities in base currency, prices in quote currency.

    Attributes:
        stop_price: as decided; what rests may be lower.
        held: 0 where the position is closed.
        stops, resting, resting_stop_price: how many protective stops rest, what they would still
            sell, and the lowest of their triggers.
        seen_at: when their venue last said so.
        naked_since: since when something sellable is held here without a stop, as far as noted.
        in_flight: sales under way that are no protective stops.
        sent_stops: how many protective stops were ever sent for this position here.
        unknown_stops: of these, how many may or may not rest.
    """

    position_id: int
    venue: str
    symbol: str
    stop_price: Decimal
    held: Decimal
    stops: int
    resting: Decimal
    resting_stop_price: Decimal | None
    seen_at: datetime | None
    naked_since: datetime | None
    in_flight: Decimal
    sent_stops: int
    unknown_stops: int
    rejected_stops: int
    last_rejected_at: datetime | None

    @property
    def is_doubtful(self) -> bool:
        """A cancel went out since the stop was last seen resting, and nobody knows its outcome."""
        if self.seen_at is None or self.naked_since is None:
            return False
        return self.seen_at < self.naked_since

    @property
    def is_waiting(self) -> bool:
        """After a refusal the next try comes 1, 2, 4, 8, then 15 minutes later.

        A venue that refuses once for a reason that lasts would refuse every minute, and each
        refusal counts against us in its limits and in the breaker's failure rate.
        """
        if self.last_rejected_at is None:
            return False
        wait = min(timedelta(minutes=2 ** min(self.rejected_stops - 1, 4)), _LONGEST_WAIT)
        return clock.now() < self.last_rejected_at + wait


@dataclass(frozen=True)
class Stop:
    """The stop that is to rest: on the venue's grid; ``quantity`` 0 for none."""

    quantity: Decimal
    stop_price: Decimal
    limit_price: Decimal


def of_pod(ledger: Ledger) -> list[Cover]:
    """Wherever an open position holds something, a stop rests or a naked interval is open."""
    return _read(ledger, None, None)


def of_position(ledger: Ledger, position_id: int, venue: str) -> Cover | None:
    """One of them, as it is now."""
    return next(iter(_read(ledger, position_id, venue)), None)


def wanted(cover: Cover, rules: MarketRules) -> Stop:
    """The stop for all that is held and not under way, or none where the venue takes none so small.

    The trigger is rounded up: a stop acts rather too early than too late.
    """
    quantity = floor_to(max(cover.held - cover.in_flight, Decimal(0)), rules.quantity_step)
    stop_price = ceil_to(cover.stop_price, rules.price_tick)
    limit_price = ceil_to(stop_price * (1 - STOP_LIMIT_OFFSET_PERCENT / 100), rules.price_tick)
    if quantity < rules.min_quantity or quantity * limit_price < rules.min_notional:
        quantity = Decimal(0)
    return Stop(quantity, stop_price, limit_price)


def within_band(stop: Stop, rules: MarketRules, average_price: Decimal | None) -> Stop:
    """The stop, raised as far as the venue's price band asks for.

    Its trigger rises with its limit: a stop that sells a little early protects, and one whose limit
    is as high as its trigger would rest unfilled after a jump. What rests is not judged again, so a
    stop is right as long as it is not below the decided one.
    """
    lowest = bands.lowest_sale(rules, average_price)
    if lowest is None or stop.limit_price >= lowest:
        return stop
    below_trigger = 1 - STOP_LIMIT_OFFSET_PERCENT / 100
    stop_price = max(stop.stop_price, ceil_to(lowest / below_trigger, rules.price_tick))
    return Stop(stop.quantity, stop_price, ceil_to(stop_price * below_trigger, rules.price_tick))


def is_right(cover: Cover, stop: Stop) -> bool:
    """Whether what rests is what is wanted, within the tolerance of its price."""
    if stop.quantity == 0 or cover.resting_stop_price is None:
        return cover.stops == 0 and stop.quantity == 0
    highest = cover.resting_stop_price * (1 + STOP_TOLERANCE_BPS / 10_000)
    one_of_that_size = cover.stops == 1 and cover.resting == stop.quantity
    return one_of_that_size and stop.stop_price <= highest


def is_naked(cover: Cover, rules: MarketRules) -> bool:
    """Whether something is held, sellable at the stop's price, that no stop covers to 99.9 %.

    What is below the quantity step cannot be covered. An order of unknown fate covers nothing.
    """
    if cover.is_doubtful:
        return True
    sellable = floor_to(cover.held, rules.quantity_step)
    too_small = sellable < rules.min_quantity or sellable * cover.stop_price < rules.min_notional
    if sellable <= 0 or too_small:
        return False
    return cover.resting < min(sellable, cover.held * _COVERED_SHARE)


def _read(ledger: Ledger, position_id: int | None, venue: str | None) -> list[Cover]:
    rows = ledger.query(_COVERS, {"pod": ledger.pod, "position_id": position_id, "venue": venue})
    return [Cover(**row | {"held": row["held"] or Decimal(0)}) for row in rows]
