"""What a venue has told us to wait for, kept in PostgreSQL so that every later run honours it.

Sources: RFC 9110, 10.2.3 (Retry-After); Binance, "Limits" (418 is a ban of 2 minutes to 3 days for
going on after a 429).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from shared.ledger.connection import Ledger

_SHORTEST_BAN = timedelta(minutes=2)
_LONGEST_BAN = timedelta(days=3)
_UNREADABLE = timedelta(minutes=1)  # a Retry-After that nobody can read still means: wait


@dataclass(frozen=True)
class Block:
    """Ask nothing of ``venue`` before ``until``. ``banned``: it has answered 418."""

    venue: str
    until: datetime
    banned: bool
    reason: str


def in_force(ledger: Ledger, at: datetime) -> dict[str, Block]:
    """The blocks that hold at a time, by venue."""
    rows = ledger.query(
        "SELECT venue, blocked_until, banned, reason FROM venue_limits WHERE blocked_until > %s",
        (at,),
    )
    return {
        row["venue"]: Block(row["venue"], row["blocked_until"], row["banned"], row["reason"])
        for row in rows
    }


def record(ledger: Ledger, block: Block, at: datetime) -> None:
    """Keep a block; one that holds longer already stays."""
    ledger.execute(
        "INSERT INTO venue_limits AS v (venue, blocked_until, banned, reason, at) "
        "VALUES (%s, %s, %s, %s, %s) ON CONFLICT (venue) DO UPDATE SET "
        "blocked_until = excluded.blocked_until, banned = excluded.banned, "
        "reason = excluded.reason, at = excluded.at "
        "WHERE v.blocked_until < excluded.blocked_until",
        (block.venue, block.until, block.banned, block.reason, at),
    )


def block_of(venue: str, status: int, headers: Mapping[str, str], at: datetime) -> Block | None:
    """The block that an answer asks for, or ``None``.

    A 429 without Retry-After asks for none: Binance answers so when only the count of orders is
    used up, which says nothing of exits and cancels.
    """
    if status not in (418, 429):
        return None
    wait = _wait(headers.get("Retry-After"), at)
    if status == 418:
        wait = max(wait or timedelta(0), _SHORTEST_BAN)
    if wait is None or wait <= timedelta(0):
        return None
    return Block(venue, at + min(wait, _LONGEST_BAN), status == 418, f"HTTP {status}")


def _wait(retry_after: str | None, at: datetime) -> timedelta | None:
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isdecimal():
        return timedelta(seconds=min(int(text), int(_LONGEST_BAN.total_seconds())))
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return _UNREADABLE
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment - at
