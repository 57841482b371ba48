"""What an order does to the money: sizes, shares, exposure, cash, losses."""

from __future__ import annotations

from shared import clock
from shared.errors import OrderDenied
from shared.risk import limits
from shared.risk.controls.case import Case

MAX_EQUITY_AGE_MS = 10 * 60_000


def position_size(case: Case) -> None:
    """Held and under way in the symbol stays within MAX_POSITION_SIZE (C03, C07)."""
    limit = case.config.max_position_size
    if case.new_risk and case.symbol_exposure_quote > limit:
        raise OrderDenied("POSITION_SIZE", after=case.symbol_exposure_quote, limit=limit)


def position_share(case: Case) -> None:
    """Held and under way in the symbol stays within its percentage of equity (C03)."""
    if not case.new_risk:
        return
    limit = case.worth_quote * case.config.position_size_percent / 100
    if case.symbol_exposure_quote > limit:
        raise OrderDenied("POSITION_SHARE", after=case.symbol_exposure_quote, limit=limit)


def gross(case: Case) -> None:
    """All positions and orders together stay within their number of full sizes, and in equity."""
    if not case.new_risk:
        return
    others = case.facts.others_held_quote + case.facts.others_pending_buy_quote
    after = others + case.symbol_exposure_quote
    limit = min(case.config.max_positions * case.config.max_position_size, case.worth_quote)
    if after > limit:
        raise OrderDenied("EXPOSURE_GROSS", after=after, limit=limit)


def position_count(case: Case) -> None:
    """The order's own position is within MAX_POSITIONS (C07)."""
    count = case.facts.other_positions + 1
    if case.new_risk and count > case.config.max_positions:
        raise OrderDenied("POSITION_COUNT", after=count, limit=case.config.max_positions)


def equity_age(case: Case) -> None:
    """Losses are judged by an equity that is not old (C08, C13)."""
    if not case.new_risk or case.standing.at is None:
        return
    age_ms = case.now_ms - clock.to_ms(case.standing.at)
    if age_ms > MAX_EQUITY_AGE_MS:
        raise OrderDenied("EQUITY_STALE", age_ms=age_ms, limit_ms=MAX_EQUITY_AGE_MS)


def daily_loss(case: Case) -> None:
    """No new risk once the day's or the last 24 hours' loss has reached its limit (C08)."""
    if case.new_risk:
        limits.deny_at_daily_loss(case.config, case.standing)


def drawdown(case: Case) -> None:
    """No new risk once the drawdown from the high-water mark has reached its first tier (C08)."""
    if case.new_risk:
        limits.deny_at_drawdown(case.config, case.standing)


def balance(case: Case) -> None:
    """The venue's cash pays for the order, its fee and every buy already under way there."""
    if not case.new_risk:
        return
    cash = case.facts.venue_cash_quote
    if cash is None:
        raise OrderDenied("BALANCE_MISSING", venue=case.ticket.venue)
    with_fee = 1 + case.rules.taker_fee_bps / 10_000
    free = cash - case.facts.venue_pending_buy_quote * with_fee
    needed = case.notional_quote * with_fee
    if needed > free:
        raise OrderDenied("BALANCE_SHORT", venue=case.ticket.venue, needed=needed, free=free)
