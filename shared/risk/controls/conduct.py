"""How the program behaves: orders nobody knows of, rates, the time that a run has left."""

from __future__ import annotations

from shared import clock
from shared.errors import OrderDenied
from shared.risk.controls.case import Case

RUN_LIMIT_MS = 60_000  # the platform kills a cron run after this

# Entries and other new risk, protective stops, exits. Stops follow what is bought and where the
# price moves: they take no room from entries, and leave the last third to exits.
MAX_ORDERS_PER_MINUTE = (20, 40, 60)
MAX_ORDERS_PER_HOUR = (400, 800, 1_200)


def unresolved(case: Case) -> None:
    """No new risk in a symbol while nobody knows what became of an order in it (C21)."""
    if case.new_risk and case.facts.unresolved:
        raise OrderDenied(
            "SYMBOL_UNRESOLVED", symbol=case.ticket.symbol, orders=case.facts.unresolved
        )


def rate(case: Case) -> None:
    """The pod sends no more orders a minute and an hour than its trading can explain (C09)."""
    facts = case.facts
    tier = 0 if case.new_risk else 1 if case.purpose == "protect" else 2
    minute, hour = facts.orders_last_minute, facts.orders_last_hour
    if case.new_risk:
        minute, hour = minute - facts.stops_last_minute, hour - facts.stops_last_hour
    counts = (
        ("minute", minute, MAX_ORDERS_PER_MINUTE[tier]),
        ("hour", hour, MAX_ORDERS_PER_HOUR[tier]),
    )
    for window, before, limit in counts:
        if before + 1 > limit:
            raise OrderDenied("RATE_ORDERS", window=window, after=before + 1, limit=limit)


def run_time(case: Case) -> None:
    """The run lives long enough to hear the answer, and for new risk to ask once more (C30)."""
    started_at = case.facts.run_started_at
    if started_at is None:
        raise OrderDenied("RUN_UNKNOWN", pod=case.config.pod)
    elapsed_ms = case.now_ms - clock.to_ms(started_at)
    needed_ms = case.config.request_timeout_ms * (2 if case.new_risk else 1)
    if elapsed_ms + needed_ms > RUN_LIMIT_MS:
        raise OrderDenied(
            "RUN_TIME", elapsed_ms=elapsed_ms, needed_ms=needed_ms, limit_ms=RUN_LIMIT_MS
        )
