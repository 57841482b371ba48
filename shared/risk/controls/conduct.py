"""How the program behaves: orders nobody knows of, rates, repeats, the time that a run has left."""

from __future__ import annotations

from collections.abc import Mapping

from shared import clock
from shared.errors import OrderDenied
from shared.risk.controls.case import Case
from shared.risk.lately import REPEAT_WINDOW

RUN_LIMIT_MS = 60_000  # the platform kills a cron run after this
MAX_CLOCK_AHEAD_MS = 1_000

# Entries and other new risk, protective stops, exits. Stops follow what is bought and where the
# price moves: among orders they take no room from entries, and leave the last third to exits.
MAX_ORDERS_PER_MINUTE = (20, 40, 60)
MAX_ORDERS_PER_HOUR = (400, 800, 1_200)

# Of new risk alone, stops not counted: a pod's day, and one symbol, which may use up half a pod's.
MAX_TRADES_PER_DAY = 2_000
MAX_SYMBOL_TRADES = {"minute": 10, "hour": 200, "day": 1_000}

# Orders of every kind and cancels, in the same tiers. An entry brings a stop, and the cancel of the
# stop before it; a stop that follows the price is a cancel and an order, and so is an exit.
MAX_MESSAGES_PER_MINUTE = (60, 80, 120)
MAX_MESSAGES_PER_HOUR = (1_200, 1_600, 2_400)
MAX_SYMBOL_MESSAGES = {"minute": 30, "hour": 600}

MAX_REPEATED_ENTRIES = 10
"""So often in a row a strategy may be carried out in a symbol within ``REPEAT_WINDOW``, with no
entry of another strategy and no person in between. One entry is one parent order: ten slices over
four venues are one. Positions of a day, closed and opened again ten times, are a loop that pays
fees, not a strategy."""

REPEATED = "REPEATED_ENTRIES"


def unresolved(case: Case) -> None:
    """No new risk in a symbol while nobody knows what became of an order in it (C21)."""
    if case.new_risk and case.facts.unresolved:
        raise OrderDenied(
            "SYMBOL_UNRESOLVED", symbol=case.ticket.symbol, orders=case.facts.unresolved, limit=0
        )


def rate(case: Case) -> None:
    """The pod sends no more orders than its trading can explain (C09)."""
    facts, tier = case.facts, _tier(case)
    minute, hour = facts.orders_last_minute, facts.orders_last_hour
    if case.new_risk:
        minute, hour = minute - facts.stops_last_minute, hour - facts.stops_last_hour
    sent = {"minute": minute, "hour": hour}
    limits = {"minute": MAX_ORDERS_PER_MINUTE[tier], "hour": MAX_ORDERS_PER_HOUR[tier]}
    if case.new_risk:
        sent["day"], limits["day"] = case.lately.trades_last_day, MAX_TRADES_PER_DAY
    if beyond := _one_too_many(sent, limits):
        raise OrderDenied("RATE_ORDERS", **beyond)


def symbol_rate(case: Case) -> None:
    """No symbol takes more than half of what the pod may send (C09). Of new risk alone."""
    if not case.new_risk:
        return
    sent = {
        "minute": case.lately.symbol_trades_last_minute,
        "hour": case.lately.symbol_trades_last_hour,
        "day": case.lately.symbol_trades_last_day,
    }
    if beyond := _one_too_many(sent, MAX_SYMBOL_TRADES):
        raise OrderDenied("RATE_SYMBOL", symbol=case.ticket.symbol, **beyond)


def messages(case: Case) -> None:
    """Orders and cancels together keep to their rate: new risk stops first, exits last (C09).

    A cancel itself passes no control, so none is ever kept back; what is held against an order is
    what the pod has sent before it.
    """
    facts, tier = case.facts, _tier(case)
    sent = {"minute": facts.messages_last_minute, "hour": facts.messages_last_hour}
    limits = {"minute": MAX_MESSAGES_PER_MINUTE[tier], "hour": MAX_MESSAGES_PER_HOUR[tier]}
    if beyond := _one_too_many(sent, limits):
        raise OrderDenied("RATE_MESSAGES", **beyond)


def symbol_messages(case: Case) -> None:
    """No symbol takes more than half of the orders and cancels (C09). Of new risk alone."""
    if not case.new_risk:
        return
    sent = {
        "minute": case.facts.symbol_messages_last_minute,
        "hour": case.facts.symbol_messages_last_hour,
    }
    if beyond := _one_too_many(sent, MAX_SYMBOL_MESSAGES):
        raise OrderDenied("RATE_SYMBOL_MESSAGES", symbol=case.ticket.symbol, **beyond)


def _tier(case: Case) -> int:
    """Which of three limits holds: that of new risk, of protective stops, or of exits."""
    return 0 if case.new_risk else 1 if case.purpose == "protect" else 2


def _one_too_many(sent: Mapping[str, int], limits: Mapping[str, int]) -> dict[str, object]:
    """The first window in which one more would pass its limit; empty where none would."""
    for window, limit in limits.items():
        before = sent[window]
        if before + 1 > limit:
            return {"window": window, "before": before, "after": before + 1, "limit": limit}
    return {}


def repeated(case: Case) -> None:
    """A strategy that was carried out too often in a row waits for a person (C10).

    The caller of the gate notes the denial, because the gate's own transaction is rolled back.
    """
    if not case.new_risk:
        return
    lately, whose = case.lately, {"symbol": case.ticket.symbol, "strategy": case.lately.strategy}
    if lately.throttled_at is not None:
        raise OrderDenied("STRATEGY_THROTTLED", **whose, since=clock.iso(lately.throttled_at))
    before, limit = lately.repeated_entries, MAX_REPEATED_ENTRIES
    if before + 1 > limit:
        hours = REPEAT_WINDOW.total_seconds() / 3_600
        raise OrderDenied(
            REPEATED, **whose, before=before, after=before + 1, limit=limit, window_hours=hours
        )


def run_time(case: Case) -> None:
    """The run lives long enough to hear the answer, and for new risk to ask once more (C30)."""
    started_at = case.facts.run_started_at
    if started_at is None:
        raise OrderDenied("RUN_UNKNOWN", pod=case.config.pod)
    elapsed_ms = case.now_ms - clock.to_ms(started_at)
    if case.new_risk and elapsed_ms < -MAX_CLOCK_AHEAD_MS:
        raise OrderDenied("RUN_TIME", after_ms=elapsed_ms, limit_ms=-MAX_CLOCK_AHEAD_MS)
    needed_ms = case.config.request_timeout_ms * (2 if case.new_risk else 1)
    if elapsed_ms + needed_ms > RUN_LIMIT_MS:
        raise OrderDenied(
            "RUN_TIME", before_ms=elapsed_ms, after_ms=elapsed_ms + needed_ms, limit_ms=RUN_LIMIT_MS
        )
