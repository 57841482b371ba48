"""Keep the core sleeve at its targets: look, plan, carry out over minutes, end.

A plan is a row in the ledger, written together with the parents that sell. When those have ended,
the parents that buy are written together with the row's next state; the trading loop works them all
minute by minute. So a run may die anywhere: its successor finds what was committed and goes on, and
what was ordered is known by keys that are derived from the rebalance.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from shared import clock
from shared.errors import DataUnavailable, OrderDenied
from shared.ledger import equity, events, positions
from shared.risk import budget, context, portfolio
from shared.risk.core import carrying, conditions, looking, markets, plan, records, tracking
from shared.risk.core.looking import Look
from shared.risk.core.plan import Plan, Trade
from shared.risk.core.records import PlannedTrade, Rebalance
from shared.risk.core.sleeve import Need
from shared.risk.portfolio import markowitz
from shared.run import Export, Run

if TYPE_CHECKING:
    from shared.execution.desk import Desk

BUYS_WITHIN = timedelta(hours=1)
"""A plan whose sales took longer is not bought to its end: it was made for other prices."""


@dataclass
class Report:
    """What the position manager tells of the sleeve.

    Attributes:
        needed: a weight or the whole is a band off.
        reason: why it is needed, why nothing is done about it, or what is under way.
        least_variance: by symbol, in percent: a yardstick beside the targets, told with a plan. It
            is Markowitz's portfolio, long only and capped, and moves nothing.
        opened: how many orders were opened by this run.
    """

    needed: bool = False
    reason: str = ""
    weights: dict[str, dict[str, float]] = field(default_factory=dict)
    trades: list[Export] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    in_cash: tuple[str, ...] = ()
    least_variance: dict[str, float] = field(default_factory=dict)
    opened: int = 0

    def as_export(self) -> Export:
        skipped = [{"symbol": symbol, "reason": why} for symbol, why in self.skipped.items()]
        return {
            "needed": self.needed,
            "reason": self.reason,
            "weights": self.weights,
            "trades": self.trades,
            "skipped": skipped,
            "in_cash": list(self.in_cash),
            "least_variance_percent": self.least_variance,
        }


def rebalance(run: Run, desk: Desk) -> Report:
    """Carry on what is under way, or plan what is needed and allowed. At most one at a time.

    Raises:
        LeaseLost: another run has taken over; nothing was written.
    """
    under_way = records.under_way(run.ledger)
    if under_way is not None:
        return _carry_on(run, desk, under_way)
    held = {
        position.symbol: position
        for position in positions.open_positions(run.ledger)
        if position.sleeve == "core" and position.is_held
    }
    if run.config.core_sleeve_percent == 0 and not held:
        return Report(reason="CORE_OFF: CORE_SLEEVE_PERCENT is 0")
    try:
        look = looking.at(run, desk, held)
    except DataUnavailable as missing:
        return Report(reason=f"DATA_MISSING: {missing}")
    need = look.sleeve.need(run.config.rebalance_band_percent)
    if need is None:
        return _report(look, None, "WITHIN_BAND")
    try:
        return _plan_and_begin(run, desk, look, need)
    except OrderDenied as denied:
        return _report(look, need, str(denied))
    except DataUnavailable as missing:
        return _report(look, need, f"DATA_MISSING: {missing}")


def _plan_and_begin(run: Run, desk: Desk, look: Look, need: Need) -> Report:
    symbols = look.sleeve.symbols
    conditions.deny_if_recent(run, first_funding=need.reason == "FIRST_FUNDING")
    is_live = any(venue.mode == "live" for venue in desk.venues.values())
    conditions.deny_unless_allowed(run, is_live=is_live)
    conditions.deny_while_busy(run.ledger, symbols)
    conditions.deny_unless_calm(run.ledger, symbols)
    found, least_variance = _plan(run, desk, look, need)
    report = _report(look, need, str(need))
    report.least_variance = least_variance
    report.skipped |= found.skipped
    if not found.trades:
        report.reason = f"NO_TRADE: {need}"
        return report
    planned = Rebalance(
        records.identity(run.ledger.pod, run.event_at),
        clock.now(),
        str(need),
        look.sleeve.weights(),
        [_planned(trade, look) for trade in found.trades],
        found.skipped,
        "SELLING",
        None,
    )
    with run.ledger.transaction():
        run.guard()
        new = records.insert(
            run.ledger,
            planned,
            equity_quote=look.sleeve.equity_quote,
            sleeve_quote=look.sleeve.size_quote,
        )
        if not new:
            raise OrderDenied("REBALANCE_EXISTS", rebalance=planned.rebalance_id)
        opened, refused = carrying.begin(run, desk, planned)
        events.record(
            run.ledger,
            "REBALANCE_PLANNED",
            {"rebalance_id": planned.rebalance_id, "reason": planned.reason, "trades": opened},
        )
    report.opened, report.skipped = opened, report.skipped | refused
    report.trades = [_exported(trade) for trade in planned.trades]
    return report


def _plan(run: Run, desk: Desk, look: Look, need: Need) -> tuple[Plan, dict[str, float]]:
    """The cheapest plan whose trades are worth their cost, within what a day may lose.

    Beside it the weights of least variance, in percent.

    Where bringing only the farthest back is worth nothing, because it offsets another, all are
    brought to their targets.
    """
    pod_symbols = {position.symbol for position in positions.open_positions(run.ledger)}
    hourly = context.hourly_candles(run, {*look.sleeve.symbols, *pod_symbols}, desk.venues)
    returns = portfolio.aligned_returns(hourly)
    exposure = context.exposure(run, hourly)
    known = markets.gather(run, desk.venues, look.quotes, look.held)
    pending = sum(exposure.pending_quote.values(), Decimal(0))
    cash = max(context.cash_quote(run) - pending, Decimal(0))
    found = Plan()
    for to_target in dict.fromkeys((need.to_target, True)):
        found = tracking.worth_their_cost(
            lambda barred, all_the_way=to_target: plan.make(  # type: ignore[misc]
                look.sleeve,
                known,
                cash_quote=cash,
                band_percent=run.config.rebalance_band_percent,
                to_target=all_the_way,
                barred=barred,
            ),
            look.sleeve,
            returns,
        )
        if found.trades:
            break
    _deny_beyond_budget(run, found, exposure.committed_quote, returns)
    least = markowitz.minimum_variance({s: returns[s] for s in look.sleeve.symbols})
    return found, {symbol: round(100 * weight, 2) for symbol, weight in least.items()}


def _deny_beyond_budget(
    run: Run,
    found: Plan,
    before: dict[str, float],
    returns: dict[str, portfolio.Array],
) -> None:
    """VaR and CVaR of everything held, with the rebalance, stay within the pod's budget.

    A rebalance that lowers both is never refused for them.
    """
    after = dict(before)
    for trade in found.trades:
        after[trade.symbol] = after.get(trade.symbol, 0.0) + float(trade.signed_quote)
    tail_before, tail = portfolio.tail_risk(before, returns), portfolio.tail_risk(after, returns)
    standing = equity.standing(run.ledger, run.config.quote_currency, clock.now_ms())
    allowed = budget.of(run.config, standing)
    grows = tail.var95_quote > tail_before.var95_quote or (
        tail.cvar95_quote > tail_before.cvar95_quote
    )
    refused = portfolio.refusals(tail_before, tail, allowed, {}, run.config.correlation_limit)
    if grows and refused:
        raise refused[0]


def _planned(trade: Trade, look: Look) -> PlannedTrade:
    price = markets.mid(look.quotes[trade.symbol])
    position = look.held.get(trade.symbol)
    planned = PlannedTrade(trade.side, trade.symbol, trade.notional_quote, price, trade.cost_quote)
    if trade.side == "buy" or position is None:
        return planned
    quantity = min(trade.notional_quote / price, position.quantity)
    return replace(planned, position_id=position.position_id, quantity=quantity)


def _carry_on(run: Run, desk: Desk, under_way: Rebalance) -> Report:
    """Wait for its orders, then begin the buys, then end it."""
    report = Report(
        needed=True,
        reason=f"{under_way.state}: {under_way.reason}",
        weights=under_way.weights,
        trades=[_exported(trade) for trade in under_way.trades],
        skipped=dict(under_way.skipped),
    )
    if records.is_working(run.ledger, under_way.rebalance_id):
        return report
    if under_way.state == "BUYING":
        carrying.finish(run, under_way)
        report.reason = f"DONE: {under_way.reason}"
        return report
    is_live = any(venue.mode == "live" for venue in desk.venues.values())
    try:
        if clock.now() - under_way.at > BUYS_WITHIN:
            raise OrderDenied("REBALANCE_LATE", planned=clock.iso(under_way.at))
        conditions.deny_unless_allowed(run, is_live=is_live)
    except OrderDenied as denied:
        carrying.end(run, under_way, str(denied))
        report.reason = f"ENDED: {denied}"
        return report
    report.opened, refused = carrying.buy(run, desk, under_way)
    report.skipped |= refused
    return report


def _report(look: Look, need: Need | None, reason: str) -> Report:
    return Report(
        needed=need is not None,
        reason=reason,
        weights=look.sleeve.weights(),
        in_cash=look.in_cash,
    )


def _exported(trade: PlannedTrade) -> Export:
    return {
        "side": trade.side,
        "symbol": trade.symbol,
        "notional_quote": float(trade.notional_quote),
        "cost_quote": float(trade.cost_quote),
    }
