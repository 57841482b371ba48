"""What an order does to the money: sizes, shares, exposure, cash, losses."""

from __future__ import annotations

from shared import clock
from shared.errors import OrderDenied
from shared.risk import limits
from shared.risk.controls.case import Case
from shared.risk.controls.conduct import MAX_CLOCK_AHEAD_MS
from shared.risk.core import targets

MAX_EQUITY_AGE_MS = 10 * 60_000
MAX_BALANCE_AGE_MS = 60_000  # a run lives no longer


def position_size(case: Case) -> None:
    """Held and under way in the tactical symbol stays within MAX_POSITION_SIZE (C03, C07)."""
    limit = case.config.max_position_size
    if case.new_tactical_risk and case.symbol_exposure_quote > limit:
        raise OrderDenied("POSITION_SIZE", after=case.symbol_exposure_quote, limit=limit)


def position_share(case: Case) -> None:
    """Held and under way in the tactical symbol stays within its percentage of equity (C03)."""
    if not case.new_tactical_risk:
        return
    limit = case.worth_quote * case.config.position_size_percent / 100
    if case.symbol_exposure_quote > limit:
        raise OrderDenied("POSITION_SHARE", after=case.symbol_exposure_quote, limit=limit)


def gross(case: Case) -> None:
    """The tactical sleeve stays within its number of full sizes, both together in the equity."""
    if not case.new_risk:
        return
    sizes = case.config.max_positions * case.config.max_position_size
    if case.new_tactical_risk and case.sleeve_exposure_quote > sizes:
        raise OrderDenied("EXPOSURE_GROSS", after=case.sleeve_exposure_quote, limit=sizes)
    if case.total_exposure_quote > case.worth_quote:
        raise OrderDenied("EXPOSURE_GROSS", after=case.total_exposure_quote, limit=case.worth_quote)


def core_weight(case: Case) -> None:
    """A core symbol stays within its target weight and the band, the sleeve within its share."""
    if not case.new_core_risk:
        return
    config, worth = case.config, case.worth_quote
    sleeve = worth * config.core_sleeve_percent / 100
    limit = sleeve * targets.limit_percent(config, case.buyable, case.ticket.symbol) / 100
    if case.symbol_exposure_quote > limit:
        raise OrderDenied("CORE_WEIGHT", after=case.symbol_exposure_quote, limit=limit)
    widest = sleeve + worth * config.rebalance_band_percent / 100
    if case.sleeve_exposure_quote > widest:
        raise OrderDenied("CORE_SLEEVE", after=case.sleeve_exposure_quote, limit=widest)


def venue_exposure(case: Case) -> None:
    """What is held and under way on one venue stays within its share of the equity (C07).

    A venue may stop answering, or paying out, with all that is on it.
    """
    if not case.new_risk:
        return
    before = case.lately.venue_held_quote + case.facts.venue_pending_buy_quote
    after = before + case.notional_quote
    limit = case.worth_quote * case.config.max_venue_exposure_percent / 100
    if after > limit:
        raise OrderDenied("EXPOSURE_VENUE", venue=case.ticket.venue, after=after, limit=limit)


def position_count(case: Case) -> None:
    """The order's own tactical position is within MAX_POSITIONS (C07)."""
    if not case.new_tactical_risk:
        return
    count = case.facts.other_positions + 1
    if count > case.config.max_positions:
        raise OrderDenied("POSITION_COUNT", after=count, limit=case.config.max_positions)


def equity_age(case: Case) -> None:
    """Losses are judged by an equity that is not old (C08, C13).

    Before the first row of equity there has been no trade, and what was paid in is the equity.
    """
    if not case.new_risk:
        return
    at, standing = case.standing.at, case.standing
    if (at is None) != (standing.equity_quote is None):
        raise OrderDenied("EQUITY_MISSING", pod=case.config.pod, at=at)
    if at is None:
        return
    age_ms = case.now_ms - clock.to_ms(at)
    if not -MAX_CLOCK_AHEAD_MS <= age_ms <= MAX_EQUITY_AGE_MS:
        raise OrderDenied("EQUITY_STALE", age_ms=age_ms, limit_ms=MAX_EQUITY_AGE_MS)


def daily_loss(case: Case) -> None:
    """No new risk once the day's or the last 24 hours' loss has reached its limit (C08)."""
    if case.new_risk:
        limits.deny_at_daily_loss(case.config, case.standing)


def weekly_loss(case: Case) -> None:
    """No new risk once the last seven days' loss has reached its limit (C08)."""
    if case.new_risk:
        limits.deny_at_weekly_loss(case.config, case.standing)


def drawdown(case: Case) -> None:
    """No new risk once the drawdown from the high-water mark has reached its first tier (C08)."""
    if case.new_risk:
        limits.deny_at_drawdown(case.config, case.standing)


def balance_age(case: Case) -> None:
    """This run has compared the venue's balances with the ledger's, and they agreed (C13, C23)."""
    if not case.new_risk:
        return
    if case.compared_at is None:
        raise OrderDenied("BALANCE_UNCOMPARED", venue=case.ticket.venue)
    age_ms = case.now_ms - clock.to_ms(case.compared_at)
    if not -MAX_CLOCK_AHEAD_MS <= age_ms <= MAX_BALANCE_AGE_MS:
        raise OrderDenied("BALANCE_STALE", age_ms=age_ms, limit_ms=MAX_BALANCE_AGE_MS)


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
        raise OrderDenied("BALANCE_SHORT", venue=case.ticket.venue, after=needed, limit=free)
