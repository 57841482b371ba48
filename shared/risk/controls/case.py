"""One order and everything that the controls judge it by."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from shared.config import Config
from shared.errors import OrderDenied
from shared.execution.types import MarketRules, OrderTicket, Purpose
from shared.ledger.equity import Standing
from shared.ledger.state import TradingState
from shared.market.types import Book
from shared.risk.facts import Facts
from shared.risk.lately import Lately


@dataclass(frozen=True)
class Case:
    """One order and everything that the controls judge it by.

    Attributes:
        buyable: the symbols in which this run may take new risk.
        compared_at: when this run last found the venue's balances equal to the ledger's.
        average_price: the venue's own, by which it judges limit prices; ``None`` where it was not
            needed, or not told.
    """

    config: Config
    ticket: OrderTicket
    purpose: Purpose
    rules: MarketRules
    book: Book
    now_ms: int
    trading: TradingState
    facts: Facts
    lately: Lately
    standing: Standing
    buyable: tuple[str, ...]
    compared_at: datetime | None
    average_price: Decimal | None

    @property
    def new_risk(self) -> bool:
        """Buying is new risk. Selling on a spot account never is: it is bounded by holdings."""
        return self.ticket.side == "buy"

    @property
    def bid(self) -> Decimal:
        return as_decimal(self.book.bids[0][0])

    @property
    def ask(self) -> Decimal:
        return as_decimal(self.book.asks[0][0])

    @property
    def mid(self) -> Decimal:
        return (self.bid + self.ask) / 2

    @property
    def expects_second_source(self) -> bool:
        """Whether a symbol has to be priced by two venues at least.

        Not where one venue is configured, nor where a person lets the universe take symbols that
        only one of several lists.
        """
        config = self.config
        alone_is_allowed = config.chooses_symbols and config.universe_backup_venues == 0
        return len(config.venues) > 1 and not alone_is_allowed

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
    def sleeve_exposure_quote(self) -> Decimal:
        """The same of the whole sleeve that the order belongs to."""
        others = self.facts.others_held_quote + self.facts.others_pending_buy_quote
        return others + self.symbol_exposure_quote

    @property
    def total_exposure_quote(self) -> Decimal:
        """The same of both sleeves."""
        facts = self.facts
        elsewhere = facts.other_sleeve_held_quote + facts.other_sleeve_pending_buy_quote
        return elsewhere + self.sleeve_exposure_quote

    @property
    def new_tactical_risk(self) -> bool:
        """New risk under the tactical sleeve's limits: all but a buy for the core sleeve."""
        return self.new_risk and self.facts.sleeve != "core"

    @property
    def new_core_risk(self) -> bool:
        return self.new_risk and self.facts.sleeve == "core"

    @property
    def worth_quote(self) -> Decimal:
        worth = self.standing.worth_quote
        if worth is None:
            raise OrderDenied("EQUITY_MISSING", pod=self.config.pod)
        return worth


def as_decimal(price: float) -> Decimal:
    """A venue's number as the decimal that it was sent as."""
    return Decimal(repr(float(price)))
