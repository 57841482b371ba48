"""Checks of the money: drawdown, daily loss, exposure."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from shared.config import Config
from shared.safety.checks.base import Result, graded, unknown
from shared.safety.facts import Facts

EQUITY_MAX_AGE = timedelta(minutes=15)
_MAX_GROSS_PERCENT = Decimal(100)  # a spot account without credit holds no more than its equity


def drawdown(facts: Facts, config: Config) -> Result:
    """Fall of equity below its high-water mark, in percent of the mark."""
    problem, fall = _problem(facts), facts.standing.drawdown_percent
    if problem or fall is None:
        return unknown(problem or "no high-water mark")
    return graded(
        fall,
        warning=config.max_drawdown_percent,
        critical=config.drawdown_halt_percent,
        detail=f"{fall:.2f} % below {facts.standing.high_water_quote:.2f}",
    )


def daily_loss(facts: Facts, config: Config) -> Result:
    """The larger of the losses since midnight UTC and over 24 hours, in quote currency.

    The limit is the smaller of MAX_DAILY_LOSS and DAILY_LOSS_PERCENT of the equity from which
    that loss is counted.
    """
    problem, standing = _problem(facts), facts.standing
    day, rolling = standing.day_loss_quote, standing.rolling_loss_quote
    if problem or day is None or rolling is None:
        return unknown(problem or "no equity to compare with")
    span, loss = max((("since midnight", day), ("in 24 h", rolling)), key=lambda pair: pair[1])
    start = loss + (standing.equity_quote or Decimal(0))
    limit = min(config.max_daily_loss, start * config.daily_loss_percent / 100)
    detail = f"{loss:.2f} lost {span}" if loss > 0 else "nothing lost"
    return graded(max(loss, Decimal(0)), warning=None, critical=limit, detail=detail)


def exposure(facts: Facts, config: Config) -> Result:
    """Value of all positions in percent of equity, and the number of tactical positions."""
    problem, worth = _problem(facts), facts.standing.equity_quote
    if problem or not worth or facts.positions_quote is None:
        return unknown(problem or "no equity")
    gross = 100 * facts.positions_quote / worth
    detail = f"{facts.tactical_positions} of {config.max_positions} positions"
    result = graded(gross, warning=None, critical=_MAX_GROSS_PERCENT, detail=detail)
    if facts.tactical_positions <= config.max_positions:
        return result
    return Result("CRITICAL", result.value, result.limit, detail)


def _problem(facts: Facts) -> str | None:
    if facts.standing.at is None:
        return "no equity yet"
    age = facts.now - facts.standing.at
    if age > EQUITY_MAX_AGE:
        return f"newest equity is {age.total_seconds() / 60:.0f} min old"
    return None
