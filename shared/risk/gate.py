"""The last look at an order before it may exist: every order passes ``check``, or is never sent.

``check`` runs inside the transaction that writes the intent, after ``run.guard()``. It holds the
trading state row, so that a halt either comes before the order and stops it or waits until the
intent is committed; so does the order of another workflow, which then finds this one's intent.
One function is one control; ``CONTROLS`` is the order in which they run. Whatever a control needs
and cannot find denies: nothing passes for want of data.
"""

from __future__ import annotations

from collections.abc import Callable

from shared.execution.types import MarketRules, Mode, OrderTicket, Purpose
from shared.ledger import arming, equity, state
from shared.market.types import Book
from shared.risk import facts
from shared.risk.controls import conduct, money, order, prices
from shared.risk.controls.case import Case
from shared.run import Run

CONTROLS: tuple[Callable[[Case], None], ...] = (
    order.names,
    order.allow_list,
    prices.book,
    prices.collar,
    prices.cross_venue,
    order.grid,
    money.position_size,
    money.position_share,
    money.gross,
    money.core_weight,
    money.position_count,
    money.equity_age,
    money.daily_loss,
    money.drawdown,
    money.balance,
    conduct.unresolved,
    order.self_match,
    order.holding,
    conduct.rate,
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
) -> None:
    """Let the order pass, or refuse it.

    Call it inside the intent's transaction, after ``run.guard()`` and before or after the intent
    itself is inserted (an intent of the same client order id is not counted against itself).

    Args:
        mode: where the order would end.

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
    known = facts.fetch(run, ticket, position_id, now_ms)
    stands = equity.standing(run.ledger, run.config.quote_currency, now_ms)
    case = Case(
        run.config, ticket, purpose, rules, book, now_ms, trading, known, stands,
        run.universe.buyable,
    )  # fmt: skip
    for control in CONTROLS:
        control(case)
