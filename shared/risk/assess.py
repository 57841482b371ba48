"""The body of the step ``risk_management``: whether to act on a decision, and how large.

A HOLD is answered at once. A SELL is always allowed: it can only shrink. A BUY passes the limits,
is sized by Kelly and every cap, and is approved only if the portfolio with it stays within half
of what the drawdown limit allows to lose in a day.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from shared import clock
from shared.errors import DataUnavailable, OrderDenied
from shared.ledger import equity, parameters, state, throttles
from shared.ledger.connection import json
from shared.ledger.equity import Standing
from shared.ledger.state import TradingState
from shared.risk import context, exits, gaps, kelly, limits, measures, portfolio, probe, sizing
from shared.risk.context import Exposure
from shared.risk.exits import EntryExits
from shared.run import Export, Run

Decision = dict[str, Any]

BOOK_SHARE = Decimal("0.1")
"""Of the depth within 50 bps: a position that the book can take back at once, ten times over."""


@dataclass
class Answer:
    """What risk management says; starts as a refusal without a reason."""

    approved: bool = False
    size_quote: Decimal = Decimal(0)
    exits: Export | None = None
    metrics: Export = field(default_factory=dict)
    reasoning: list[str] = field(default_factory=list)
    adjustments: dict[str, dict[str, float]] = field(default_factory=dict)


def assess(run: Run) -> Export:
    """Judge the final decision of ``signal_generator``; the first answer to a decision stands.

    Raises:
        DataUnavailable: there is no final decision to judge.
        LeaseLost: another run has taken over; nothing was written.
    """
    decision = run.export_of("signal_generator")["finalDecision"]
    answer = _judge(run, decision)
    export = {
        "approved": answer.approved,
        "decision_id": decision["decision_id"],
        "action": decision["action"],
        "symbol": decision["symbol"],
        "size": float(answer.size_quote),
        "exits": answer.exits,
        "metrics": answer.metrics,
        "reasoning": answer.reasoning,
        "adjustments": answer.adjustments,
    }
    return _kept(run, export, answer)


def _judge(run: Run, decision: Decision) -> Answer:
    judges = {"HOLD": _hold, "SELL": _sell, "BUY": _buy}
    try:
        return judges[decision["action"]](run, decision)
    except (OrderDenied, DataUnavailable) as refused:
        code = "" if isinstance(refused, OrderDenied) else "DATA_MISSING: "
        return Answer(reasoning=[f"{code}{refused}"])


def _hold(run: Run, decision: Decision) -> Answer:
    return Answer(reasoning=[f"ACTION_HOLD: source={decision['source']}"])


def _sell(run: Run, decision: Decision) -> Answer:
    """A sale of all that is held, valued at the decision's mid."""
    row = run.ledger.one(
        "SELECT position_id FROM positions WHERE pod = %s AND symbol = %s "
        "AND sleeve = 'tactical' AND closed_at IS NULL",
        (run.ledger.pod, decision["symbol"]),
    )
    held = None if row is None else _held_quantity(run, row["position_id"])
    if not held:
        raise OrderDenied("POSITION_MISSING", symbol=decision["symbol"])
    worth = held * _price(decision)
    return Answer(True, worth, reasoning=[f"SELL_HOLDING: quantity={held}, worth={worth:.2f}"])


def _held_quantity(run: Run, position_id: int) -> Decimal:
    row = run.ledger.one(
        "SELECT sum(quantity) AS quantity FROM position_holdings WHERE position_id = %s",
        (position_id,),
    )
    return (
        Decimal(0) if row is None or row["quantity"] is None else max(row["quantity"], Decimal(0))
    )


def _buy(run: Run, decision: Decision) -> Answer:
    symbol, mid = str(decision["symbol"]), _price(decision)
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
    sized = sizing.size(stake, _caps(run, symbol, exposure, standing, stake, planned))
    weighed = measures.weigh(symbol, sized.size_quote, exposure, returns)
    metrics = measures.of_trade(run, weighed, returns, stake, odds)
    refused = _portfolio_refusals(run, sized.size_quote, weighed, standing)
    approved = sized.size_quote > 0 and not refused
    return Answer(
        approved,
        sized.size_quote if approved else Decimal(0),
        exits.as_export(planned),
        metrics | {"size_bound_by": sized.bound_by},
        [*sized.reasons, *refused],
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


def _caps(
    run: Run,
    symbol: str,
    exposure: Exposure,
    standing: Standing,
    stake: sizing.Stake,
    planned: EntryExits,
) -> dict[str, Decimal]:
    """What each limit leaves for this symbol, in quote currency."""
    config, worth = run.config, stake.worth_quote
    tactical = exposure.tactical_quote
    taken, under_way = tactical.get(symbol, Decimal(0)), sum(tactical.values(), Decimal(0))
    pending = sum(exposure.tactical_pending_quote.values(), Decimal(0))
    return {
        "POSITION_SIZE": config.max_position_size - taken,
        "POSITION_SHARE": worth * config.position_size_percent / 100 - taken,
        "EXPOSURE_TACTICAL": config.max_positions * config.max_position_size - under_way,
        "EXPOSURE_GROSS": worth - exposure.gross_quote,
        "BALANCE": context.cash_quote(run) - sum(exposure.pending_quote.values(), Decimal(0)),
        "BOOK_DEPTH": context.book_depth_quote(run, symbol) * BOOK_SHARE,
        "GAP": gaps.cap_quote(
            config,
            standing,
            worth_quote=worth,
            held_loss_quote=gaps.held_loss_quote(exposure.open_positions, exposure.prices),
            pending_quote=pending,
            stop_distance_percent=planned.stop_distance_percent,
        ),
    }


def _portfolio_refusals(
    run: Run, size_quote: Decimal, weighed: measures.Weighed, standing: Standing
) -> list[str]:
    if size_quote <= 0 or standing.worth_quote is None:
        return []  # nothing is bought
    # Without a first row of equity nothing has been lost; any other gap was refused before.
    fallen_percent = standing.drawdown_percent or Decimal(0)
    budget = portfolio.loss_budget(
        float(standing.worth_quote), float(run.config.max_drawdown_percent), float(fallen_percent)
    )
    denied = portfolio.refusals(
        weighed.tail_before,
        weighed.tail_after,
        budget,
        weighed.tactical_correlations,
        run.config.correlation_limit,
    )
    return [str(one) for one in denied]


def _price(decision: Decision) -> Decimal:
    mid = decision["mid"]
    if mid is None:
        raise DataUnavailable(f"decision {decision['decision_id']}: expected a mid, was null")
    return Decimal(str(mid))


def _kept(run: Run, export: Export, answer: Answer) -> Export:
    """Write the answer once; a repeat of the decision gets the answer that was written."""
    if export["decision_id"] is None:
        return export
    with run.ledger.transaction():
        run.guard()
        written = run.ledger.execute(
            "INSERT INTO risk_checks (decision_id, pod, at, approved, size_quote, exits, metrics, "
            "reasoning, adjustments) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) "
            "ON CONFLICT (decision_id) DO NOTHING",
            (
                export["decision_id"],
                run.ledger.pod,
                clock.now(),
                answer.approved,
                answer.size_quote,
                json(answer.exits),
                json(answer.metrics),
                json(answer.reasoning),
                json(answer.adjustments),
            ),
        )
        if written:
            return export
        row = run.ledger.one(
            "SELECT approved, size_quote::float8 AS size, exits, metrics, reasoning, adjustments "
            "FROM risk_checks WHERE decision_id = %s",
            (export["decision_id"],),
        )
    return export if row is None else export | row
