"""The figures that risk management reports of a trade: with it, without it, now and expected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

import numpy as np

from shared import clock
from shared.analysis import metrics as ratios
from shared.ledger import equity
from shared.risk import portfolio
from shared.risk.context import Exposure
from shared.risk.portfolio import markowitz
from shared.risk.staking.kelly import Odds
from shared.risk.staking.sizing import Stake
from shared.run import Export, Run

_PERFORMANCE_WINDOW = timedelta(hours=168)


@dataclass(frozen=True)
class Weighed:
    """A portfolio with and without a trade. Money in quote currency, by symbol.

    Attributes:
        before_quote, after_quote: held and under way in both sleeves.
        correlations: of the candidate with each of them; ``None`` where one never moves.
        tactical: the symbols of the tactical sleeve among them, against which the limit stands.
    """

    symbol: str
    before_quote: Mapping[str, float]
    after_quote: Mapping[str, float]
    tail_before: portfolio.TailRisk
    tail_after: portfolio.TailRisk
    correlations: Mapping[str, float | None]
    tactical: frozenset[str]

    @property
    def tactical_correlations(self) -> dict[str, float | None]:
        return {other: r for other, r in self.correlations.items() if other in self.tactical}


def weigh(
    symbol: str,
    size_quote: Decimal,
    exposure: Exposure,
    returns: Mapping[str, portfolio.Array],
) -> Weighed:
    """What may be lost with and without a purchase of ``size_quote``, and what moves with it.

    Raises:
        DataUnavailable: a holding or the candidate has no returns, or never moved.
    """
    before = exposure.committed_quote
    after = dict(before)
    after[symbol] = after.get(symbol, 0.0) + float(size_quote)
    found = portfolio.correlations(symbol, returns)
    return Weighed(
        symbol=symbol,
        before_quote=before,
        after_quote=after,
        tail_before=portfolio.tail_risk(before, returns),
        tail_after=portfolio.tail_risk(after, returns),
        correlations={other: r for other, r in found.items() if before.get(other, 0) > 0},
        tactical=frozenset(other for other, quote in exposure.tactical_quote.items() if quote > 0),
    )


def of_trade(
    run: Run,
    weighed: Weighed,
    returns: Mapping[str, portfolio.Array],
    stake: Stake,
    odds: Odds,
) -> Export:
    """Tail risk, ratios, correlations and Markowitz weights. Money in quote, over 24 hours.

    ``var95_quote`` and ``cvar95_quote`` are the largest of all methods, which limits are held
    against. ``correlation`` is the highest with a tactical holding. ``sharpe_expected`` and
    ``sortino_expected`` are those of the portfolio with the trade, had it been held through the
    window of returns: history, not a forecast. Ratios are ``None`` where there are too few
    observations or nothing has varied.
    """
    symbol, after, tail = weighed.symbol, weighed.after_quote, weighed.tail_after
    expected = portfolio.portfolio_returns(after, returns, float(stake.worth_quote))
    known = [value for value in weighed.tactical_correlations.values() if value is not None]
    return {
        "var95_quote": tail.var95_quote,
        "cvar95_quote": tail.cvar95_quote,
        "var95_method": tail.var95_method,
        "cvar95_method": tail.cvar95_method,
        "var95_before_quote": weighed.tail_before.var95_quote,
        "cvar95_before_quote": weighed.tail_before.cvar95_quote,
        **{f"{name}_var95_quote": loss.var95_quote for name, loss in tail.by_method.items()},
        **{f"{name}_cvar95_quote": loss.cvar95_quote for name, loss in tail.by_method.items()},
        "horizon_hours": portfolio.HORIZON_HOURS,
        "observations": len(returns[symbol]),
        **_current_ratios(run),
        "sharpe_expected": ratios.sharpe_ratio(expected, ratios.HOURS_PER_YEAR),
        "sortino_expected": ratios.sortino_ratio(expected, ratios.HOURS_PER_YEAR),
        "correlation": max(known) if known else None,
        "correlations": dict(weighed.correlations),
        "correlation_with_portfolio": portfolio.correlation_with_portfolio(
            symbol, weighed.before_quote, returns
        ),
        "markowitz_weights": markowitz.minimum_variance(
            {held: returns[held] for held, value in after.items() if value > 0}
        ),
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
