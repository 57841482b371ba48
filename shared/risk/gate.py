"""The last look at an order before it may exist: every order passes ``check``, or is never sent.

``check`` runs inside the transaction that writes the intent, after ``run.guard()``. It holds the
trading state row, so that a halt either comes before the order and stops it or waits until the
intent is committed; so does the order of another workflow, which then finds this one's intent.
One function is one control; ``CONTROLS`` is the order in which they run. Whatever a control needs
and cannot find denies: nothing passes for want of data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from shared import clock
from shared.config import Config
from shared.errors import OrderDenied
from shared.execution.types import MarketRules, Mode, OrderTicket, Purpose
from shared.ledger import arming, equity, state
from shared.ledger.equity import Standing
from shared.ledger.state import TradingState
from shared.market.types import Book
from shared.risk import facts, limits
from shared.risk.facts import Facts
from shared.run import Run

MAX_BOOK_AGE_MS = 15_000
MAX_CLOCK_AHEAD_MS = 1_000
MAX_EQUITY_AGE_MS = 10 * 60_000
RUN_LIMIT_MS = 60_000  # the platform kills a cron run after this

# New risk stops at the first number; exits, which must work in a crash too, at the second.
MAX_DEVIATION_PERCENT = (Decimal(2), Decimal(10))
# Entries and other new risk, protective stops, exits. Stops follow what is bought and where the
# price moves: they take no room from entries, and leave the last third to exits.
MAX_ORDERS_PER_MINUTE = (20, 40, 60)
MAX_ORDERS_PER_HOUR = (400, 800, 1_200)

STOP_LIMIT_OFFSET_PERCENT = Decimal(2)
"""How far below its trigger a protective stop still sells. A stop-limit that the price has jumped
rests unfilled and protects nothing, so the way down is wide (freqtrade takes 1 %, and the gaps of
10 October 2025 went further); it is bounded, because what an emptied book shows is no price."""

MAX_EXIT_COLLAR_PERCENT = Decimal(10)
"""How far below the mid an exit may sell at most. It has to work where spreads are wide: on 10
October 2025 they were 22 %. ``leaving`` begins far closer and widens with each try in vain."""


@dataclass(frozen=True)
class Case:
    """One order and everything that the controls judge it by.

    Attributes:
        buyable: the symbols in which this run may take new risk.
    """

    config: Config
    ticket: OrderTicket
    purpose: Purpose
    rules: MarketRules
    book: Book
    now_ms: int
    trading: TradingState
    facts: Facts
    standing: Standing
    buyable: tuple[str, ...]

    @property
    def new_risk(self) -> bool:
        """Buying is new risk. Selling on a spot account never is: it is bounded by holdings."""
        return self.ticket.side == "buy"

    @property
    def mid(self) -> Decimal:
        return (_money(self.book.bids[0][0]) + _money(self.book.asks[0][0])) / 2

    @property
    def notional_quote(self) -> Decimal:
        return self.ticket.quantity * self.ticket.limit_price

    @property
    def is_stop(self) -> bool:
        """It rests away from the market until its trigger is reached."""
        return self.ticket.order_type in ("stop_limit", "stop_market")

    @property
    def symbol_exposure_quote(self) -> Decimal:
        """What the symbol would hold after this order and every order still under way."""
        held = self.facts.symbol_held_quantity * self.mid
        return held + self.facts.symbol_pending_buy_quote + self.notional_quote

    @property
    def worth_quote(self) -> Decimal:
        worth = self.standing.worth_quote
        if worth is None:
            raise OrderDenied("EQUITY_MISSING", pod=self.config.pod)
        return worth


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
    deny_unless_state_allows(trading, ticket, purpose)
    deny_unless_numbers(ticket)
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


def deny_unless_state_allows(trading: TradingState, ticket: OrderTicket, purpose: Purpose) -> None:
    """A halt lets nothing through but what shrinks a position (C31)."""
    expected = {"entry": ("buy",), "exit": ("sell",), "protect": ("sell",)}
    if ticket.side not in expected.get(purpose, ("buy", "sell")):
        raise OrderDenied("ORDER_SIDE", purpose=purpose, side=ticket.side)
    if trading.state == "HALTED" and purpose not in ("exit", "protect"):
        raise OrderDenied("STATE_HALTED", purpose=purpose, reason=trading.reason)
    if trading.state != "ACTIVE" and ticket.side != "sell":
        raise OrderDenied(f"STATE_{trading.state}", purpose=purpose, reason=trading.reason)
    if trading.limit_orders_only and ticket.order_type == "market" and ticket.side == "buy":
        raise OrderDenied("STATE_LIMIT_ORDERS_ONLY", order_type=ticket.order_type)


def deny_unless_numbers(ticket: OrderTicket) -> None:
    """Every number of the ticket is finite and above zero (C02)."""
    numbers = {"quantity": ticket.quantity, "limit_price": ticket.limit_price}
    if ticket.order_type in ("stop_limit", "stop_market"):
        if ticket.stop_price is None:
            raise OrderDenied("ORDER_STOP_PRICE", stop_price=None)
        numbers["stop_price"] = ticket.stop_price
    for name, value in numbers.items():
        if not (isinstance(value, Decimal) and value.is_finite() and value > 0):
            raise OrderDenied("ORDER_NUMBER", field=name, value=value)


def _names(case: Case) -> None:
    """The ticket, its rules, its book and its position speak of the same market (C15)."""
    ticket, rules = case.ticket, case.rules
    if (rules.venue, rules.symbol, case.book.symbol) != (
        ticket.venue,
        ticket.symbol,
        ticket.symbol,
    ):
        raise OrderDenied("MARKET_MISMATCH", ticket=ticket.symbol, rules=rules.symbol)
    if case.facts.position_symbol != ticket.symbol:
        raise OrderDenied(
            "POSITION_MISMATCH", ticket=ticket.symbol, position=case.facts.position_symbol
        )


def _allow_list(case: Case) -> None:
    """New risk only in the universe and on its venues. What is held may always be sold (C15)."""
    if not case.new_risk:
        return
    if case.ticket.symbol not in case.buyable:
        raise OrderDenied("SYMBOL_NOT_ALLOWED", symbol=case.ticket.symbol)
    if case.ticket.venue not in case.config.venues:
        raise OrderDenied("VENUE_NOT_ALLOWED", venue=case.ticket.venue)


def _book(case: Case) -> None:
    """The book is fresh, has both sides and is not crossed (C13)."""
    age_ms = case.now_ms - case.book.at_ms
    if not -MAX_CLOCK_AHEAD_MS <= age_ms <= MAX_BOOK_AGE_MS:
        raise OrderDenied("BOOK_STALE", age_ms=age_ms, limit_ms=MAX_BOOK_AGE_MS)
    if not case.book.bids or not case.book.asks:
        raise OrderDenied("BOOK_EMPTY", bids=len(case.book.bids), asks=len(case.book.asks))
    bid, ask = _money(case.book.bids[0][0]), _money(case.book.asks[0][0])
    if not (bid.is_finite() and ask.is_finite() and bid > 0 and ask > 0):
        raise OrderDenied("BOOK_NUMBER", bid=bid, ask=ask)
    if bid >= ask:
        raise OrderDenied("BOOK_CROSSED", bid=bid, ask=ask)


def _collar(case: Case) -> None:
    """The limit price is not far on the expensive side of the mid (C05).

    A protective stop rests away from the market on purpose: it lies below the mid, and its limit
    is held against its own trigger, at the wide offset that a gap asks for. An exit has the width
    that a wide spread asks for.
    """
    ticket, width = case.ticket, case.config.price_collar_bps / 10_000
    reference = case.mid
    if case.purpose == "exit":
        width = max(width, MAX_EXIT_COLLAR_PERCENT / 100)
    if case.is_stop and ticket.stop_price is not None:
        if ticket.stop_price >= case.mid:
            raise OrderDenied("PRICE_STOP_ABOVE_MID", stop=ticket.stop_price, mid=case.mid)
        reference = ticket.stop_price
        if case.purpose == "protect":
            width = STOP_LIMIT_OFFSET_PERCENT / 100
    worst = reference * (1 + width if ticket.side == "buy" else 1 - width)
    beyond = ticket.limit_price > worst if ticket.side == "buy" else ticket.limit_price < worst
    if beyond:
        raise OrderDenied(
            "PRICE_COLLAR", side=ticket.side, limit=ticket.limit_price, worst=worst, mid=case.mid
        )


def _cross_venue(case: Case) -> None:
    """The venue's mid agrees with what other venues showed a moment ago (C05, C06)."""
    limit = MAX_DEVIATION_PERCENT[0 if case.new_risk else 1]
    for other in case.facts.other_venue_mids or ():
        apart_percent = 100 * abs(case.mid - other) / other
        if apart_percent > limit:
            raise OrderDenied("PRICE_VENUES_APART", mid=case.mid, other=other, limit_percent=limit)


def _grid(case: Case) -> None:
    """Quantity and notional are ones that the venue accepts (C12)."""
    ticket, rules = case.ticket, case.rules
    if not (rules.quantity_step > 0 and rules.price_tick > 0):
        raise OrderDenied("RULES_NUMBER", step=rules.quantity_step, tick=rules.price_tick)
    if ticket.quantity % rules.quantity_step != 0:
        raise OrderDenied("QUANTITY_STEP", quantity=ticket.quantity, step=rules.quantity_step)
    for price in (ticket.limit_price, ticket.stop_price):
        if price is not None and price % rules.price_tick != 0:
            raise OrderDenied("PRICE_TICK", price=price, tick=rules.price_tick)
    if ticket.quantity < rules.min_quantity:
        raise OrderDenied("QUANTITY_MINIMUM", quantity=ticket.quantity, minimum=rules.min_quantity)
    if case.notional_quote < rules.min_notional:
        raise OrderDenied(
            "NOTIONAL_MINIMUM", notional=case.notional_quote, minimum=rules.min_notional
        )


def _position_size(case: Case) -> None:
    """Held and under way in the symbol stays within MAX_POSITION_SIZE (C03, C07)."""
    limit = case.config.max_position_size
    if case.new_risk and case.symbol_exposure_quote > limit:
        raise OrderDenied("POSITION_SIZE", after=case.symbol_exposure_quote, limit=limit)


def _position_share(case: Case) -> None:
    """Held and under way in the symbol stays within its percentage of equity (C03)."""
    if not case.new_risk:
        return
    limit = case.worth_quote * case.config.position_size_percent / 100
    if case.symbol_exposure_quote > limit:
        raise OrderDenied("POSITION_SHARE", after=case.symbol_exposure_quote, limit=limit)


def _gross(case: Case) -> None:
    """All positions and orders together stay within their number of full sizes, and in equity."""
    if not case.new_risk:
        return
    others = case.facts.others_held_quote + case.facts.others_pending_buy_quote
    after = others + case.symbol_exposure_quote
    limit = min(case.config.max_positions * case.config.max_position_size, case.worth_quote)
    if after > limit:
        raise OrderDenied("EXPOSURE_GROSS", after=after, limit=limit)


def _position_count(case: Case) -> None:
    """The order's own position is within MAX_POSITIONS (C07)."""
    count = case.facts.other_positions + 1
    if case.new_risk and count > case.config.max_positions:
        raise OrderDenied("POSITION_COUNT", after=count, limit=case.config.max_positions)


def _equity_age(case: Case) -> None:
    """Losses are judged by an equity that is not old (C08, C13)."""
    if not case.new_risk or case.standing.at is None:
        return
    age_ms = case.now_ms - clock.to_ms(case.standing.at)
    if age_ms > MAX_EQUITY_AGE_MS:
        raise OrderDenied("EQUITY_STALE", age_ms=age_ms, limit_ms=MAX_EQUITY_AGE_MS)


def _daily_loss(case: Case) -> None:
    """No new risk once the day's or the last 24 hours' loss has reached its limit (C08)."""
    if case.new_risk:
        limits.deny_at_daily_loss(case.config, case.standing)


def _drawdown(case: Case) -> None:
    """No new risk once the drawdown from the high-water mark has reached its first tier (C08)."""
    if case.new_risk:
        limits.deny_at_drawdown(case.config, case.standing)


def _balance(case: Case) -> None:
    """The venue's cash pays for the order, its fee and every buy already under way there."""
    if not case.new_risk:
        return
    cash = case.facts.venue_cash_quote
    if cash is None:
        raise OrderDenied("BALANCE_MISSING", venue=case.ticket.venue)
    with_fee = 1 + case.rules.taker_fee_bps / 10_000
    free = cash - case.facts.venue_pending_buy_quote * with_fee
    needed = case.notional_quote * with_fee
    if needed > free:
        raise OrderDenied("BALANCE_SHORT", venue=case.ticket.venue, needed=needed, free=free)


def _unresolved(case: Case) -> None:
    """No new risk in a symbol while nobody knows what became of an order in it (C21)."""
    if case.new_risk and case.facts.unresolved:
        raise OrderDenied(
            "SYMBOL_UNRESOLVED", symbol=case.ticket.symbol, orders=case.facts.unresolved
        )


def _self_match(case: Case) -> None:
    """No order of ours rests on the other side at a price that would meet this one (C16).

    A stop meets nobody when it is placed, and a stop that rests meets nobody either.
    """
    if case.facts.opposing and not case.is_stop:
        raise OrderDenied("ORDER_SELF_MATCH", orders=case.facts.opposing)


def _holding(case: Case) -> None:
    """A sale is at most what the position holds on the venue and no other sale claims (C17).

    A stop of which nobody knows whether it rests keeps no exit back: if it does rest, it has locked
    what the exit would sell, and the venue itself refuses the exit.
    """
    if case.new_risk:
        return
    held = case.facts.held_on_venue or Decimal(0)
    claimed = case.facts.pending_sell_quantity
    if case.purpose == "exit":
        claimed -= case.facts.unknown_stop_quantity
    if case.ticket.quantity > held - claimed:
        raise OrderDenied(
            "HOLDING_EXCEEDED", quantity=case.ticket.quantity, held=held, in_flight=claimed
        )


def _rate(case: Case) -> None:
    """The pod sends no more orders a minute and an hour than its trading can explain (C09)."""
    facts = case.facts
    tier = 0 if case.new_risk else 1 if case.purpose == "protect" else 2
    minute, hour = facts.orders_last_minute, facts.orders_last_hour
    if case.new_risk:
        minute, hour = minute - facts.stops_last_minute, hour - facts.stops_last_hour
    counts = (
        ("minute", minute, MAX_ORDERS_PER_MINUTE[tier]),
        ("hour", hour, MAX_ORDERS_PER_HOUR[tier]),
    )
    for window, before, limit in counts:
        if before + 1 > limit:
            raise OrderDenied("RATE_ORDERS", window=window, after=before + 1, limit=limit)


def _run_time(case: Case) -> None:
    """The run lives long enough to hear the answer, and for new risk to ask once more (C30)."""
    started_at = case.facts.run_started_at
    if started_at is None:
        raise OrderDenied("RUN_UNKNOWN", pod=case.config.pod)
    elapsed_ms = case.now_ms - clock.to_ms(started_at)
    needed_ms = case.config.request_timeout_ms * (2 if case.new_risk else 1)
    if elapsed_ms + needed_ms > RUN_LIMIT_MS:
        raise OrderDenied(
            "RUN_TIME", elapsed_ms=elapsed_ms, needed_ms=needed_ms, limit_ms=RUN_LIMIT_MS
        )


CONTROLS: tuple[Callable[[Case], None], ...] = (
    _names,
    _allow_list,
    _book,
    _collar,
    _cross_venue,
    _grid,
    _position_size,
    _position_share,
    _gross,
    _position_count,
    _equity_age,
    _daily_loss,
    _drawdown,
    _balance,
    _unresolved,
    _self_match,
    _holding,
    _rate,
    _run_time,
)


def _money(price: float) -> Decimal:
    """A venue's number as the decimal that it was sent as."""
    return Decimal(repr(float(price)))
