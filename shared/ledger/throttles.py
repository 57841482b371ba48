"""Strategies that were carried out too often in a row: nothing but a person lets them go on.

After RTS 6 (Commission Delegated Regulation (EU) 2017/589), article 15 (3): after a number of
repeated executions a system is disabled until a designated member of staff enables it again.
"""

from __future__ import annotations

from shared import clock
from shared.errors import OrderDenied
from shared.ledger import alerts, events
from shared.ledger.connection import Ledger, Row


def trip(ledger: Ledger, symbol: str, strategy: str, detail: str) -> bool:
    """Keep a strategy from buying a symbol until a person allows it, and tell him.

    Returns:
        Whether it was free until now.
    """
    now = clock.now()
    with ledger.transaction():
        changed = ledger.execute(
            "INSERT INTO throttles (pod, symbol, strategy, tripped_at, detail) "
            "VALUES (%s, %s, %s, %s, %s) "
            "ON CONFLICT (pod, symbol, strategy) WHERE reenabled_at IS NULL DO NOTHING",
            (ledger.pod, symbol, strategy, now, detail),
        )
        if changed == 0:
            return False
        events.record(
            ledger,
            "THROTTLE_TRIPPED",
            {"symbol": symbol, "strategy": strategy, "denial": detail},
        )
        alerts.put(
            ledger,
            f"throttle:{symbol}:{strategy}:{clock.iso(now)}",
            "HIGH",
            f"{strategy} buys {symbol} too often",
            f"{detail}. It buys no more of it until a person allows it again: "
            "trading-loop rearm --throttles --reason TEXT",
        )
    return True


def tripped(ledger: Ledger) -> list[Row]:
    """Rows ``symbol, strategy, tripped_at, detail`` of what waits for a person, oldest first."""
    return ledger.query(
        "SELECT symbol, strategy, tripped_at, detail FROM throttles "
        "WHERE pod = %s AND reenabled_at IS NULL ORDER BY tripped_at, throttle_id",
        (ledger.pod,),
    )


def deny(ledger: Ledger, symbol: str, strategy: str | None) -> None:
    """Refuse what the gate would refuse, before anything is planned.

    Raises:
        OrderDenied: ``STRATEGY_THROTTLED``.
    """
    for row in tripped(ledger):
        if (row["symbol"], row["strategy"]) == (symbol, strategy):
            raise OrderDenied(
                "STRATEGY_THROTTLED",
                symbol=symbol,
                strategy=strategy,
                since=clock.iso(row["tripped_at"]),
            )


def reenable(ledger: Ledger, *, reason: str, by: str) -> list[Row]:
    """A person allows all of them again. Returns them; executions are counted anew from now."""
    with ledger.transaction():
        # Those that are freed are those that are told: one that trips meanwhile stays.
        freed = ledger.query(
            "WITH freed AS (UPDATE throttles SET reenabled_at = %s, reenabled_by = %s, reason = %s "
            "WHERE pod = %s AND reenabled_at IS NULL "
            "RETURNING throttle_id, symbol, strategy, tripped_at, detail) "
            "SELECT symbol, strategy, tripped_at, detail FROM freed "
            "ORDER BY tripped_at, throttle_id",
            (clock.now(), by, reason, ledger.pod),
        )
        if not freed:
            return []
        names = [f"{row['strategy']} {row['symbol']}" for row in freed]
        events.record(
            ledger, "THROTTLES_REENABLED", {"throttles": names, "reason": reason, "by": by}
        )
    return freed
