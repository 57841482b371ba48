"""Limits on new risk that sizing and the gate ask alike."""

from __future__ import annotations

from decimal import Decimal

from shared.config import Config
from shared.errors import OrderDenied
from shared.ledger.equity import Standing


def daily_loss_limit(config: Config, start_quote: Decimal) -> Decimal:
    """The loss at which a day's new risk ends: MAX_DAILY_LOSS or the percentage, if smaller."""
    return min(config.max_daily_loss, start_quote * config.daily_loss_percent / 100)


def deny_at_daily_loss(config: Config, standing: Standing) -> None:
    """No new risk once the loss of the UTC day or of the last 24 hours has reached its limit.

    Before the first row of equity there has been no trade, so there is no loss to ask for.

    Raises:
        OrderDenied: ``LOSS_DAILY``, or ``LOSS_UNKNOWN`` where a window has no start.
    """
    if standing.equity_quote is None:
        return
    for window, start, loss in (
        ("day", standing.day_start_quote, standing.day_loss_quote),
        ("24h", standing.rolling_start_quote, standing.rolling_loss_quote),
    ):
        if start is None or start <= 0 or loss is None:
            raise OrderDenied("LOSS_UNKNOWN", window=window)
        limit = daily_loss_limit(config, start)
        if loss >= limit:
            raise OrderDenied("LOSS_DAILY", window=window, loss=loss, limit=limit)


def deny_at_weekly_loss(config: Config, standing: Standing) -> None:
    """No new risk once the loss of the last seven days has reached MAX_WEEKLY_LOSS_PERCENT.

    It is counted from the equity seven days ago, or the first there is, with open positions and
    fees. Re-arming accepts a drawdown; it does not begin a new week.

    Raises:
        OrderDenied: ``LOSS_WEEKLY``, or ``LOSS_UNKNOWN`` where the week has no start.
    """
    if standing.equity_quote is None:
        return
    start, loss = standing.week_start_quote, standing.week_loss_quote
    if start is None or start <= 0 or loss is None:
        raise OrderDenied("LOSS_UNKNOWN", window="week")
    limit = start * config.max_weekly_loss_percent / 100
    if loss >= limit:
        raise OrderDenied("LOSS_WEEKLY", window="week", loss=loss, limit=limit)


def deny_at_drawdown(config: Config, standing: Standing) -> None:
    """No new risk once the drawdown has reached its first tier.

    Raises:
        OrderDenied: ``DRAWDOWN_LIMIT``, or ``DRAWDOWN_UNKNOWN`` without a high-water mark.
    """
    if standing.equity_quote is None:
        return
    fallen_percent, limit_percent = standing.drawdown_percent, config.max_drawdown_percent
    if fallen_percent is None:
        raise OrderDenied("DRAWDOWN_UNKNOWN", high_water=standing.high_water_quote)
    if fallen_percent >= limit_percent:
        raise OrderDenied(
            "DRAWDOWN_LIMIT", drawdown_percent=fallen_percent, limit_percent=limit_percent
        )
