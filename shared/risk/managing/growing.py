"""Adding to a position: a pyramid above +5 %, and averaging down below -2 %, each once.

Nothing is added while anything of the position is still being bought, was sold in part, or is of
unknown outcome, nor outside ``ACTIVE``. The parent order and the raised stop are committed
together, so that a run that dies leaves both or neither.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from shared import clock
from shared.errors import DataUnavailable, OrderDenied
from shared.execution.types import MarketRules
from shared.ledger import equity, state
from shared.ledger.equity import Standing
from shared.ledger.positions import Position
from shared.market.types import Quote
from shared.risk import budget, looks
from shared.risk.managing import adjustments
from shared.risk.managing.additions import Addition, Terms, plan_average_down, plan_pyramid
from shared.risk.managing.adjustments import Action, action, gain_percent, market_rules
from shared.run import Run

if TYPE_CHECKING:
    from shared.execution.desk import Desk

PYRAMID_PERCENT = Decimal(5)
AVERAGE_DOWN_PERCENT = Decimal(-2)


def pyramid(run: Run, desk: Desk, position: Position, quote: Quote) -> Action | None:
    """Add above +5 %, once, with the stop raised so that the whole loses no more at it."""
    if gain_percent(position, _exact(quote.bid)) <= PYRAMID_PERCENT:
        return None
    if not _may_grow(run, position, without=("pyramid",)):
        return None
    terms = _terms(run, desk, position, quote)
    if terms is None:
        return None
    addition = plan_pyramid(position, terms, _headroom_quote(run, position, quote))
    return _add(run, desk, position, quote, addition, terms, "pyramid")


def average_down(run: Run, desk: Desk, position: Position, quote: Quote) -> Action | None:
    """Add below -2 %, once, under the same stop, within the risk of a full-size position.

    Only while the bid is nearer to the entry than to the stop, so never under a stop that lies 4 %
    below the entry or nearer, and with hourly momentum known and not lost. Beyond the middle the
    market has told more against the entry than is left to be told by the stop, and what is added
    there has less room than the noise that it has just come through.
    """
    if not run.config.average_down or not _is_little_under_water(position, _exact(quote.bid)):
        return None
    if not _may_grow(run, position, without=("pyramid", "average_down")):
        return None
    terms, trend = _terms(run, desk, position, quote), _trend(run, desk, position)
    if terms is None or trend is None or trend.is_lost:
        return None
    headroom = _headroom_quote(run, position, quote)
    addition = plan_average_down(position, terms, headroom, risk_budget_quote(run))
    return _add(run, desk, position, quote, addition, terms, "average_down")


def risk_budget_quote(run: Run) -> Decimal:
    """What a position of full size loses at the configured stop, before fees and gaps."""
    return full_size_quote(run) * run.config.stop_loss_percent / 100


def full_size_quote(run: Run) -> Decimal:
    """The largest that a tactical position may be; 0 while equity is not known."""
    standing: Standing = equity.standing(run.ledger, run.config.quote_currency, clock.now_ms())
    if standing.worth_quote is None:
        return Decimal(0)
    share = standing.worth_quote * run.config.position_size_percent / 100
    return min(run.config.max_position_size, share)


def _is_little_under_water(position: Position, bid: Decimal) -> bool:
    entry = position.average_entry_price
    if entry is None or gain_percent(position, bid) >= AVERAGE_DOWN_PERCENT:
        return False
    return entry - bid < bid - position.stop_price


def _may_grow(run: Run, position: Position, *, without: tuple[str, ...]) -> bool:
    """Whether it stands still and whole, without these additions, and new risk is allowed."""
    if position.sold_quantity > 0 or position.exit_reason is not None:
        return False
    row = run.ledger.one(
        "SELECT 1 AS found WHERE EXISTS (SELECT 1 FROM parent_orders WHERE position_id = %(id)s "
        "AND (state = 'WORKING' OR reason = ANY(%(without)s))) OR EXISTS (SELECT 1 FROM intents "
        "WHERE pod = %(pod)s AND symbol = %(symbol)s AND state IN ('SENDING', 'UNKNOWN'))",
        {
            "id": position.position_id,
            "without": list(without),
            "pod": run.ledger.pod,
            "symbol": position.symbol,
        },
    )
    return row is None and state.read(run.ledger).allows_new_risk


def _terms(run: Run, desk: Desk, position: Position, quote: Quote) -> Terms | None:
    """By the venue that takes the highest fee; ``None`` where none tells its rules."""
    fees = [rules.taker_fee_bps for rules in _known_rules(desk, position.symbol)]
    if not fees:
        return None
    ceiling = _exact(quote.mid) * (1 + run.config.price_collar_bps / 10_000)
    return Terms(_exact(quote.bid), ceiling, max(fees) / 10_000)


def _trend(run: Run, desk: Desk, position: Position) -> looks.Momentum | None:
    venue = next(iter(desk.venues), None)
    return None if venue is None else looks.momentum(run, venue, position.symbol)


def _headroom_quote(run: Run, position: Position, quote: Quote) -> Decimal:
    return full_size_quote(run) - position.quantity * _exact(quote.mid)


def _add(
    run: Run,
    desk: Desk,
    position: Position,
    quote: Quote,
    addition: Addition | None,
    terms: Terms,
    reason: str,
) -> Action | None:
    if addition is None or not _is_sendable(desk, position, addition, terms):
        return None
    # The desk divides by the ceiling again: what is planned is a quantity.
    size_quote = addition.quantity * terms.ceiling
    try:
        budget.deny_beyond(run, position.symbol, size_quote, desk.venues)
        with run.ledger.transaction():
            run.guard()
            desk.add(position.position_id, size_quote, _exact(quote.mid), reason)
            stop = adjustments.raise_stop(run, position, addition.stop_price, why=reason)
    except (OrderDenied, DataUnavailable) as refused:
        return action(position, f"{reason}_refused", detail=str(refused))
    return action(position, reason, size_quote=size_quote, stop=stop)


def _is_sendable(desk: Desk, position: Position, addition: Addition, terms: Terms) -> bool:
    return any(
        addition.quantity >= max(rules.min_quantity, rules.quantity_step)
        and addition.quantity * terms.bid >= rules.min_notional
        for rules in _known_rules(desk, position.symbol)
    )


def _known_rules(desk: Desk, symbol: str) -> list[MarketRules]:
    told = (market_rules(desk, name, symbol) for name in desk.venues)
    return [rules for rules in told if rules is not None]


def _exact(price: float) -> Decimal:
    return Decimal(repr(float(price)))
