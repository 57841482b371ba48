"""One order and everything that the controls judge it by."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from shared.config import Config
from shared.errors import OrderDenied
from shared.execution.types import MarketRules, OrderTicket, Purpose
from shared.ledger.equity import Standing
from shared.ledger.state import TradingState
from shared.market.types import Book
from shared.risk.facts import Facts


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
        return (as_decimal(self.book.bids[0][0]) + as_decimal(self.book.asks[0][0])) / 2

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


def as_decimal(price: float) -> Decimal:
    """A venue's number as the decimal that it was sent as."""
    return Decimal(repr(float(price)))
