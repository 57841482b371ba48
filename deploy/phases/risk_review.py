"""Risk calculations, held against what really happened: every order against its limits again.

The gate judges each order before it is sent. This looks back over a whole stretch with queries of
its own, so that an error in the gate or in its facts would show.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from deploy.cli.check import Check
from deploy.phases.findings import failed, ok
from deploy.phases.runs_seen import Stretch
from shared.config import Config
from shared.ledger.connection import Ledger

_ROOM_PERCENT = Decimal(1)
"""How far fills may end above the size that was approved: prices move while a parent is worked."""

_UNAPPROVED = """
SELECT i.intent_id FROM intents i JOIN parent_orders p USING (parent_id)
LEFT JOIN risk_checks r ON r.decision_id = p.decision_id
WHERE i.pod = %(pod)s AND i.purpose = 'entry' AND p.decision_id IS NOT NULL
  AND i.sent_at > %(since)s AND i.sent_at <= %(until)s AND r.approved IS NOT TRUE
ORDER BY i.sent_at LIMIT 5
"""
_TOO_LARGE = """
SELECT p.parent_id, sum(f.price * f.quantity) AS bought, r.size_quote
FROM fills f JOIN intents i USING (intent_id) JOIN parent_orders p USING (parent_id)
JOIN risk_checks r ON r.decision_id = p.decision_id
WHERE f.pod = %(pod)s AND i.purpose = 'entry' AND f.side = 'buy'
  AND p.created_at > %(since)s AND p.created_at <= %(until)s
GROUP BY p.parent_id, r.size_quote
HAVING sum(f.price * f.quantity) > r.size_quote * (1 + %(room)s / 100)
ORDER BY p.parent_id LIMIT 5
"""
# Open at the moment at which each was opened; as of one instant, the later ones count the earlier.
_TOO_MANY = """
SELECT p.opened_at, count(o.position_id) AS open FROM positions p JOIN positions o
  ON o.pod = p.pod AND o.sleeve = 'tactical' AND o.opened_at <= p.opened_at
 AND (o.closed_at IS NULL OR o.closed_at > p.opened_at)
WHERE p.pod = %(pod)s AND p.sleeve = 'tactical'
  AND p.opened_at > %(since)s AND p.opened_at <= %(until)s
GROUP BY p.position_id, p.opened_at HAVING count(o.position_id) > %(most)s
ORDER BY p.opened_at LIMIT 5
"""
_WHILE_HALTED = """
WITH states AS (
    SELECT at, detail->>'to' AS state, lead(at) OVER (ORDER BY event_id) AS ended_at
    FROM events WHERE pod = %(pod)s AND kind = 'STATE_CHANGED'
)
SELECT i.intent_id FROM intents i JOIN states s
  ON s.state <> 'ACTIVE' AND i.sent_at > s.at AND (s.ended_at IS NULL OR i.sent_at < s.ended_at)
WHERE i.pod = %(pod)s AND i.side = 'buy'
  AND i.sent_at > %(since)s AND i.sent_at <= %(until)s ORDER BY i.sent_at LIMIT 5
"""


def checks(ledger: Ledger, settings: Config, stretch: Stretch) -> Iterator[Check]:
    """Every rule by name, with the first orders that break it."""
    bound: dict[str, Any] = {
        "pod": ledger.pod,
        "since": stretch.since,
        "until": stretch.until,
        "room": _ROOM_PERCENT,
        "most": settings.max_positions,
    }
    rules = (
        ("risk: approved", "every entry has an approved risk check", _UNAPPROVED),
        ("risk: sizes", "no entry was filled beyond its approved size", _TOO_LARGE),
        ("risk: positions", f"never more than {settings.max_positions} open", _TOO_MANY),
        ("risk: halts", "nothing was bought while trading was not ACTIVE", _WHILE_HALTED),
    )
    for name, rule, sql in rules:
        rows = ledger.query(sql, bound)
        if rows:
            shown = "; ".join(", ".join(f"{k}={v}" for k, v in row.items()) for row in rows)
            yield failed(name, f"broken: {rule}: {shown}", "find out why before going on")
        else:
            yield ok(name, rule)
