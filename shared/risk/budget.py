"""Whether the pod can bear what it would hold: VaR, CVaR and correlation, for whoever buys."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from shared import clock
from shared.config import Config
from shared.errors import OrderDenied
from shared.execution.venues.base import PublicVenue
from shared.ledger import equity, positions
from shared.ledger.equity import Standing
from shared.risk import context, measures, portfolio
from shared.run import Run


def of(config: Config, standing: Standing) -> portfolio.LossBudget:
    """What a day may lose, by the equity and by how far it lies below its high-water mark.

    Before the first row of equity there has been no trade, so nothing has been lost.

    Raises:
        OrderDenied: ``EQUITY_MISSING`` or ``DRAWDOWN_UNKNOWN``.
    """
    worth, fallen_percent = standing.worth_quote, standing.drawdown_percent
    if worth is None or worth <= 0:
        raise OrderDenied("EQUITY_MISSING", pod=config.pod)
    if standing.equity_quote is None:
        fallen_percent = Decimal(0)
    if fallen_percent is None:
        raise OrderDenied("DRAWDOWN_UNKNOWN", high_water=standing.high_water_quote)
    return portfolio.loss_budget(
        float(worth), float(config.max_drawdown_percent), float(fallen_percent)
    )


def refusals(config: Config, standing: Standing, weighed: measures.Weighed) -> list[OrderDenied]:
    """Everything that speaks against a purchase; none if it may be made.

    Raises:
        OrderDenied: the budget is not known.
    """
    return portfolio.refusals(
        weighed.tail_before,
        weighed.tail_after,
        of(config, standing),
        weighed.tactical_correlations,
        config.correlation_limit,
    )


def deny_beyond(
    run: Run, symbol: str, size_quote: Decimal, venues: Mapping[str, PublicVenue]
) -> None:
    """Refuse to add ``size_quote`` to an open position of ``symbol`` beyond the budget.

    ``venues`` are asked for hourly candles that the cache does not have.

    Raises:
        OrderDenied: ``VAR_LIMIT``, ``CVAR_LIMIT``, ``CORRELATION_...``, or the budget is not known.
        DataUnavailable: too few hourly returns of what is held.
    """
    held = {position.symbol for position in positions.open_positions(run.ledger)}
    hourly = context.hourly_candles(run, {symbol, *held}, venues)
    returns = portfolio.aligned_returns(hourly)
    weighed = measures.weigh(symbol, size_quote, context.exposure(run, hourly), returns)
    standing = equity.standing(run.ledger, run.config.quote_currency, clock.now_ms())
    refused = refusals(run.config, standing, weighed)
    if refused:
        raise refused[0]
