"""The figures that risk management reports of a trade: with it, without it, now and expected."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal

import numpy as np

from shared import clock
from shared.analysis import metrics as ratios
from shared.ledger import equity
from shared.risk import markowitz, portfolio
from shared.risk.context import Exposure
from shared.risk.kelly import Odds
from shared.risk.sizing import Stake
from shared.run import Export, Run

_PERFORMANCE_WINDOW = timedelta(hours=168)


def of_trade(
    run: Run,
    symbol: str,
    size_quote: Decimal,
    exposure: Exposure,
    returns: Mapping[str, portfolio.Array],
    stake: Stake,
    odds: Odds,
) -> Export:
    """Tail risk, ratios, correlations and Markowitz weights. Money in quote, over 24 hours.

    ``sharpe_expected`` and ``sortino_expected`` are those of the portfolio with the trade, had it
    been held through the window of returns: history, not a forecast. Ratios are ``None`` where
    there are too few observations or nothing has varied.
    """
    before = exposure.committed_quote
    after = dict(before)
    after[symbol] = after.get(symbol, 0.0) + float(size_quote)
    tail_before = portfolio.tail_risk(before, returns)
    tail = portfolio.tail_risk(after, returns)
    expected = portfolio.portfolio_returns(after, returns, float(stake.worth_quote))
    return {
        "var95_quote": tail.var95_quote,
        "cvar95_quote": tail.cvar95_quote,
        "parametric_var95_quote": tail.parametric_var95_quote,
        "var95_before_quote": tail_before.var95_quote,
        "cvar95_before_quote": tail_before.cvar95_quote,
        "horizon_hours": portfolio.HORIZON_HOURS,
        "observations": len(returns[symbol]),
        **_current_ratios(run),
        "sharpe_expected": ratios.sharpe_ratio(expected, ratios.HOURS_PER_YEAR),
        "sortino_expected": ratios.sortino_ratio(expected, ratios.HOURS_PER_YEAR),
        **_correlation(symbol, before, returns),
        "markowitz_weights": _weights(after, returns),
        "volatility_annualised_percent": stake.volatility_annualised_percent,
        "kelly_fraction": stake.kelly,
        "win_probability": odds.win_probability,
        "win_loss_ratio": odds.win_loss_ratio,
        "break_even_probability": odds.break_even_probability,
        "win_probability_deviation": odds.deviation,
        "prior": odds.prior,
        "prior_win_probability": odds.prior_win_probability,
        "kelly_trust": odds.trust,
        "trades_in_history": odds.trades,
        "equity_quote": float(stake.worth_quote),
    }


def _current_ratios(run: Run) -> Export:
    """Ratios of the pod's own hourly equity over the last week."""
    rows = equity.hourly(run.ledger, clock.now() - _PERFORMANCE_WINDOW)
    curve = np.array([float(row["equity_quote"]) for row in rows])
    if len(curve) <= ratios.MINIMUM_HOURLY_RETURNS:
        return {"sharpe_current": None, "sortino_current": None}
    hourly = ratios.simple_returns(curve)
    return {
        "sharpe_current": ratios.sharpe_ratio(hourly, ratios.HOURS_PER_YEAR),
        "sortino_current": ratios.sortino_ratio(hourly, ratios.HOURS_PER_YEAR),
    }


def _correlation(
    symbol: str, held: Mapping[str, float], returns: Mapping[str, portfolio.Array]
) -> Export:
    """With each holding, and the highest of them; ``None`` where nothing else is held."""
    found = portfolio.correlations(symbol, returns)
    with_held = {other: value for other, value in found.items() if held.get(other, 0) > 0}
    known = [value for value in with_held.values() if value is not None]
    return {"correlation": max(known) if known else None, "correlations": with_held}


def _weights(held: Mapping[str, float], returns: Mapping[str, portfolio.Array]) -> dict[str, float]:
    """Weights of least variance over what would be held, as a yardstick beside the real ones."""
    symbols = sorted(symbol for symbol, value in held.items() if value > 0)
    if len(symbols) < 2:
        return dict.fromkeys(symbols, 1.0)
    covariance = np.cov(np.array([returns[symbol] for symbol in symbols]))
    return dict(zip(symbols, markowitz.weights(covariance).tolist(), strict=True))
