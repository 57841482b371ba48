"""Rows that tell what the quote currency is worth, as a scan would have left them."""

from __future__ import annotations

from datetime import UTC, datetime

from shared.ledger.connection import Ledger

LASTING = datetime(2100, 1, 1, tzinfo=UTC)


def tell_worth(
    ledger: Ledger,
    worth: object = 1,
    *,
    pod: str = "test",
    venue: str = "kraken",
    pair: str = "USDT/USD",
    at: datetime = LASTING,
) -> None:
    """What ``venue`` shows for ``pair``; without ``at`` it never grows old."""
    ledger.execute(
        "INSERT INTO prices (pod, venue, symbol, bid, ask, at) VALUES (%s, %s, %s, %s, %s, %s) "
        "ON CONFLICT (pod, venue, symbol) DO UPDATE SET bid = excluded.bid, ask = excluded.ask, "
        "at = excluded.at",
        (pod, venue, pair, str(worth), str(worth), at),
    )
