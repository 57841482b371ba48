"""How long positions were without a stop on the venue that holds them.

An interval begins with the fill that brings what no stop covers, or before a stop is cancelled; it
ends when a stop rests for it or nothing sellable is held. Where we do not know whether a cancelled
stop still rests, the interval goes on: the figure is rather too high than too low.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from shared import clock
from shared.ledger import alerts
from shared.ledger.connection import Ledger

ALERT_AFTER = timedelta(seconds=120)

# The first change since it was last covered that could have uncovered it.
_UNCOVERED_AT = """
SELECT least(
    (SELECT min(filled_at) FROM fills WHERE position_id = %(position_id)s AND venue = %(venue)s
       AND side = 'buy' AND recorded_at > covered.at),
    (SELECT min(o.updated_at) FROM orders o JOIN intents i USING (intent_id)
     WHERE o.pod = %(pod)s AND i.symbol = %(symbol)s AND i.position_id = %(position_id)s
       AND i.venue = %(venue)s AND i.purpose = 'protect'
       AND o.status IN ('cancelled', 'expired', 'rejected') AND o.updated_at > covered.at)
) AS at
FROM (SELECT coalesce(max(until), '-infinity') AS at FROM naked_intervals
      WHERE position_id = %(position_id)s AND venue = %(venue)s) AS covered
"""

_SECONDS = """
SELECT coalesce(sum(extract(epoch FROM upper(span) - lower(span))), 0) AS seconds
FROM unnest((SELECT range_agg(tstzrange(since, coalesce(until, greatest(%s, since))))
             FROM naked_intervals WHERE position_id = %s)) AS span
"""


def begin(
    ledger: Ledger, position_id: int, venue: str, *, why: str, since: datetime | None = None
) -> bool:
    """Open an interval; returns ``False`` where one is open already, which then goes on."""
    now = clock.now()
    changed = ledger.execute(
        "INSERT INTO naked_intervals (pod, position_id, venue, since, why) "
        "VALUES (%s, %s, %s, %s, %s) ON CONFLICT (position_id, venue) WHERE until IS NULL "
        "DO NOTHING",
        (ledger.pod, position_id, venue, now if since is None else min(since, now), why),
    )
    return changed == 1


def end(ledger: Ledger, position_id: int, venue: str) -> None:
    """It is covered now, or gone."""
    ledger.execute(
        "UPDATE naked_intervals SET until = greatest(since, %s) "
        "WHERE position_id = %s AND venue = %s AND until IS NULL",
        (clock.now(), position_id, venue),
    )


def end_all(ledger: Ledger, position_id: int) -> None:
    """The position is closed: what is left of it is dust."""
    ledger.execute(
        "UPDATE naked_intervals SET until = greatest(since, %s) "
        "WHERE position_id = %s AND until IS NULL",
        (clock.now(), position_id),
    )


def retract(ledger: Ledger, position_id: int, venue: str) -> None:
    """The stop was not cancelled after all, and has been resting all the time."""
    ledger.execute(
        "DELETE FROM naked_intervals WHERE position_id = %s AND venue = %s AND until IS NULL",
        (position_id, venue),
    )


def uncovered_at(ledger: Ledger, position_id: int, venue: str, symbol: str) -> datetime:
    """When what is held without a stop now came, or its stop ended; the present if not known."""
    row = ledger.one(
        _UNCOVERED_AT,
        {"pod": ledger.pod, "position_id": position_id, "venue": venue, "symbol": symbol},
    )
    at: datetime | None = None if row is None else row["at"]
    return clock.now() if at is None else at


def seconds(ledger: Ledger, position_id: int) -> float:
    """For how long the position was without a stop on at least one venue, until now."""
    row = ledger.one(_SECONDS, (clock.now(), position_id))
    return 0.0 if row is None else float(Decimal(row["seconds"]))


def tell(ledger: Ledger, position_id: int, venue: str, symbol: str, since: datetime) -> None:
    """Alert HIGH, once an hour, of what has been naked for longer than two minutes."""
    lasted = clock.now() - since
    if lasted <= ALERT_AFTER:
        return
    alerts.put(
        ledger,
        f"naked:{position_id}:{venue}:{clock.now():%Y-%m-%dT%H}",
        "HIGH",
        f"{symbol} on {venue} has no stop resting there",
        f"Position {position_id} has been without one for {lasted.total_seconds():.0f} s. "
        "The loop watches its stop price every minute and goes on trying to place one.",
    )
