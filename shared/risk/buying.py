"""Whether a purchase is made, and how large: every limit, the odds, the caps, the portfolio.

It passes the limits, is sized by Kelly and every cap, and is approved only if the portfolio with it
stays within what the drawdown limit still allows to lose in a day.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from shared import clock
from shared.errors import OrderDenied
from shared.ledger import equity, parameters, state, throttles
from shared.ledger.equity import Standing
from shared.ledger.state import TradingState
from shared.risk import budget, context, exits, limits, measures, portfolio
from shared.risk.answer import Answer, Decision, price_of
from shared.risk.exits import EntryExits
from shared.risk.staking import caps, kelly, probe, sizing
from shared.run import Run


def judge(run: Run, decision: Decision) -> Answer:
    """The answer to a decision to buy.

    Raises:
        OrderDenied, DataUnavailable: refused before anything could be reckoned.
    """
    symbol, mid = str(decision["symbol"]), price_of(decision)
    trading = state.read(run.ledger)
    standing = equity.standing(run.ledger, run.config.quote_currency, clock.now_ms())
    refused = _refusals(
        lambda: _deny_unless_active(trading),
        lambda: _deny_unless_traded(run, symbol),
        lambda: limits.deny_at_daily_loss(run.config, standing),
        lambda: limits.deny_at_weekly_loss(run.config, standing),
        lambda: limits.deny_at_drawdown(run.config, standing),
        lambda: throttles.deny(run.ledger, symbol, decision["strategy"]),
        lambda: _deny_beyond_positions(run, symbol),
    )
    if refused:
        return Answer(reasoning=refused)
    hourly = context.hourly_candles(run, {symbol} | _open_symbols(run, "tactical", "core"))
    returns = portfolio.aligned_returns(hourly)
    exposure = context.exposure(run, hourly)
    odds = _odds(run, decision)
    volatility = portfolio.volatility_annualised_percent(returns[symbol])
    scales = run.config.exit_scaling == "volatility"
    ratio = exits.volatility_ratio(hourly[symbol]) if scales else None
    planned = exits.for_entry(run.config, mid, clock.now_ms(), volatility_ratio=ratio)
    stake = _stake(run, decision, trading, standing, odds, volatility, planned)
    sized = sizing.size(stake, caps.of(run, symbol, exposure, standing, planned))
    weighed = measures.weigh(symbol, sized.size_quote, exposure, returns)
    metrics = measures.of_trade(run, weighed, returns, stake, odds)
    wanted = sized.size_quote > 0
    denied = budget.refusals(run.config, standing, weighed) if wanted else []
    approved = wanted and not denied
    return Answer(
        approved,
        sized.size_quote if approved else Decimal(0),
        exits.as_export(planned),
        metrics | {"size_bound_by": sized.bound_by},
        [*sized.reasons, *map(str, denied)],
        sized.adjustments,
    )


def _refusals(*rules: Callable[[], None]) -> list[str]:
    """What every rule says against it; all of them are asked."""
    found = []
    for rule in rules:
        try:
            rule()
        except OrderDenied as denied:
            found.append(str(denied))
    return found


def _deny_unless_active(trading: TradingState) -> None:
    if not trading.allows_new_risk:
        raise OrderDenied(f"STATE_{trading.state}", reason=trading.reason)


def _deny_unless_traded(run: Run, symbol: str) -> None:
    if symbol not in run.universe.buyable:
        raise OrderDenied("SYMBOL_NOT_ALLOWED", symbol=symbol)


def _deny_beyond_positions(run: Run, symbol: str) -> None:
    """A symbol that only the core sleeve holds may be bought: the limits are the tactical ones."""
    open_symbols = _open_symbols(run, "tactical")
    if symbol in open_symbols:
        # Adding to a winner is the position manager's business.
        raise OrderDenied("POSITION_OPEN", symbol=symbol)
    if len(open_symbols) + 1 > run.config.max_positions:
        raise OrderDenied(
            "POSITION_COUNT", after=len(open_symbols) + 1, limit=run.config.max_positions
        )


def _open_symbols(run: Run, *sleeves: str) -> set[str]:
    rows = run.ledger.query(
        "SELECT DISTINCT symbol FROM positions WHERE pod = %s AND closed_at IS NULL "
        "AND sleeve = ANY(%s)",
        (run.ledger.pod, list(sleeves)),
    )
    return {row["symbol"] for row in rows}


def _odds(run: Run, decision: Decision) -> kelly.Odds:
    return kelly.odds(
        run.config,
        context.history(run),
        measured=decision["odds"],
        model_win_probability=decision["win_probability"],
        model_win_loss_ratio=decision["win_loss_ratio"],
    )


def _stake(
    run: Run,
    decision: Decision,
    trading: TradingState,
    standing: Standing,
    odds: kelly.Odds,
    volatility: float,
    planned: EntryExits,
) -> sizing.Stake:
    worth = standing.worth_quote
    if worth is None or worth <= 0:
        raise OrderDenied("EQUITY_MISSING", pod=run.config.pod)
    return sizing.Stake(
        worth_quote=worth,
        kelly=odds.kelly,
        kelly_share=run.config.kelly_fraction,
        trust=odds.trust,
        probe_quote=probe.quote(run.config, odds, worth),
        stop_scale=float(run.config.stop_loss_percent / planned.stop_distance_percent),
        size_multiplier=parameters.current(run.ledger).values.size_multiplier,
        size_factor=trading.size_factor,
        decision_size=float(decision["size"]),
        volatility_annualised_percent=volatility,
    )
