"""The last look at an order before it may exist: every order passes ``check``, or is never sent.

``check`` runs inside the transaction that writes the intent, after ``run.guard()``. It holds the
trading state row, so that a halt either comes before the order and stops it or waits until the
intent is committed; so does the order of another workflow, which then finds this one's intent.
One function is one control; ``CONTROLS`` is the order in which they run. Whatever a control needs
and cannot find denies: nothing passes for want of data.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from shared.errors import OrderDenied
from shared.execution.types import MarketRules, Mode, OrderTicket, Purpose
from shared.ledger import arming, equity, stages, state, throttles
from shared.ledger.connection import Ledger
from shared.market.types import Book
from shared.risk import facts, lately
from shared.risk.controls import conduct, money, order, prices, stage, venue
from shared.risk.controls.case import Case
from shared.run import Run

CONTROLS: tuple[Callable[[Case], None], ...] = (
    order.names,
    order.rules,
    order.facts,
    order.allow_list,
    prices.book,
    prices.collar,
    prices.cross_venue,
    prices.quote_peg,
    prices.spread,
    prices.minute_range,
    prices.depth,
    prices.volume,
    order.grid,
    venue.filters,
    venue.price_band,
    venue.resting_orders,
    venue.resting_stops,
    money.position_size,
    money.position_share,
    money.gross,
    money.core_weight,
    money.venue_exposure,
    money.position_count,
    money.equity_age,
    money.daily_loss,
    money.drawdown,
    money.weekly_loss,
    money.balance_age,
    money.balance,
    conduct.unresolved,
    order.self_match,
    order.holding,
    conduct.rate,
    conduct.symbol_rate,
    conduct.messages,
    conduct.symbol_messages,
    conduct.repeated,
    conduct.run_time,
)


def check(
    run: Run,
    ticket: OrderTicket,
    *,
    purpose: Purpose,
    position_id: int,
    rules: MarketRules,
    book: Book,
    now_ms: int,
    mode: Mode,
    parent_id: str | None = None,
    average_price: Decimal | None = None,
) -> None:
    """Let the order pass, or refuse it.

    Call it inside the intent's transaction, after ``run.guard()`` and before or after the intent
    itself is inserted (an intent of the same client order id is not counted against itself).

    Args:
        mode: where the order would end.
        parent_id: of the parent order that the order is a slice of.
        average_price: the venue's own, as ``bands.average_for`` has asked for it.

    Raises:
        OrderDenied: a control refuses; ``code`` names it and the numbers are in ``detail``.
        LedgerUnavailable: the facts cannot be read, so the order must not be sent.
    """
    trading = state.read(run.ledger, lock=True)
    # These controls need no facts, and numbers that are not numbers must
    # not reach its arithmetic.
    order.deny_unless_state_allows(trading, ticket, purpose)
    order.deny_unless_numbers(ticket)
    if mode == "live" and ticket.side == "buy":
        arming.demand(run.ledger)
    known = facts.fetch(run, ticket, position_id, now_ms, mode)
    recent = lately.fetch(run, ticket, position_id, parent_id, now_ms)
    stands = equity.standing(run.ledger, run.config.quote_currency, now_ms)
    case = Case(
        run.config, ticket, purpose, rules, book, now_ms, trading, known, recent, stands,
        run.universe.buyable, run.compared_at.get(ticket.venue), average_price,
    )  # fmt: skip
    for control in CONTROLS:
        control(case)
    if mode == "live":
        stage.deny_beyond(case, stages.in_force(run.ledger).stage)


def note(ledger: Ledger, denied: OrderDenied) -> None:
    """Keep what a denial decides beyond its order; call it after the transaction has ended.

    A strategy that was carried out too often stays throttled until a person allows it again.
    """
    if denied.code == conduct.REPEATED:
        throttles.trip(
            ledger, str(denied.detail["symbol"]), str(denied.detail["strategy"]), str(denied)
        )
