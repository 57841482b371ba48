"""Orders, fills and refusals of the simulated venues, before any venue's own words for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Literal

Side = Literal["buy", "sell"]
TimeInForce = Literal["IOC", "FOK", "GTC", "GTD"]


class OrderType(StrEnum):
    LIMIT = "limit"
    MARKET = "market"
    STOP = "stop"
    STOP_LIMIT = "stop_limit"


class Status(StrEnum):
    OPEN = "open"
    FILLED = "filled"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Reason(StrEnum):
    """Why a venue refuses; each personality has its own answer for each."""

    INSUFFICIENT_FUNDS = "insufficient_funds"
    PRICE_TICK = "price_tick"
    QUANTITY_STEP = "quantity_step"
    MIN_QUANTITY = "min_quantity"
    MIN_NOTIONAL = "min_notional"
    DUPLICATE_CLIENT_ID = "duplicate_client_id"
    STOP_WOULD_TRIGGER = "stop_would_trigger"
    POST_ONLY_WOULD_TAKE = "post_only_would_take"
    PRICE_COLLAR = "price_collar"
    TOO_MANY_STOPS = "too_many_stops"
    TOO_MANY_ORDERS = "too_many_orders"
    END_IN_THE_PAST = "end_in_the_past"
    DEADLINE_ELAPSED = "deadline_elapsed"
    CANCEL_ONLY = "cancel_only"
    POST_ONLY_MODE = "post_only_mode"
    MAINTENANCE = "maintenance"
    UNKNOWN_SYMBOL = "unknown_symbol"
    UNKNOWN_ORDER = "unknown_order"
    BAD_PARAMETER = "bad_parameter"


class Refused(Exception):
    """The venue does not do what it was asked; nothing has changed."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}" if detail else str(reason))


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """What a client asks for.

    Attributes:
        quantity: in base; ``None`` for a market order by ``quote_quantity``.
        quote_quantity: how much quote a market order spends or brings in.
        limit_price: ``None`` for a market order and for a stop that becomes one.
        expires_ms: when a GTD order ends, by the venue's clock.
        user_reference: a number of the client's that many orders may share (Kraken's userref).
    """

    symbol: str
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce
    quantity: Decimal | None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    quote_quantity: Decimal | None = None
    client_order_id: str | None = None
    post_only: bool = False
    expires_ms: int | None = None
    user_reference: int | None = None

    @property
    def rests(self) -> bool:
        """Whether what cannot be executed at once stays open."""
        return self.limit_price is not None and self.time_in_force in ("GTC", "GTD")


@dataclass(frozen=True, slots=True)
class Fill:
    """One execution. ``cost`` is price times quantity, in quote, without the fee."""

    trade_id: int
    order_id: int
    symbol: str
    side: Side
    price: Decimal
    quantity: Decimal
    cost: Decimal
    fee: Decimal
    fee_currency: str
    is_maker: bool
    at_ms: int


@dataclass(slots=True)
class Order:
    """An order that a venue has accepted.

    Attributes:
        created_ms, updated_ms: by the venue's clock.
        placed_ms: when it was accepted, by the market's clock.
        timed_out: whether it was the time that ended it, rather than a lack of counterparties.
        fees: those in the currency of the venue's rules, without what its own token has paid.
        reserved: what it holds back, in the currency that it pays with.
    """

    order_id: int
    request: OrderRequest
    quantity: Decimal
    created_ms: int
    updated_ms: int
    placed_ms: int
    status: Status = Status.OPEN
    triggered: bool = False
    timed_out: bool = False
    filled_quantity: Decimal = Decimal(0)
    cost: Decimal = Decimal(0)
    fees: Decimal = Decimal(0)
    reserved: Decimal = Decimal(0)
    fills: list[Fill] = field(default_factory=list)

    @property
    def symbol(self) -> str:
        return self.request.symbol

    @property
    def side(self) -> Side:
        return self.request.side

    @property
    def base(self) -> str:
        return self.request.symbol.partition("/")[0]

    @property
    def quote(self) -> str:
        return self.request.symbol.partition("/")[2]

    @property
    def pays_in(self) -> str:
        """The currency that the order gives away."""
        return self.quote if self.side == "buy" else self.base

    @property
    def client_order_id(self) -> str | None:
        return self.request.client_order_id

    @property
    def remaining(self) -> Decimal:
        return self.quantity - self.filled_quantity

    @property
    def is_open(self) -> bool:
        return self.status is Status.OPEN

    @property
    def average_price(self) -> Decimal | None:
        return self.cost / self.filled_quantity if self.filled_quantity else None

    @property
    def waits_for_stop(self) -> bool:
        return self.request.stop_price is not None and not self.triggered
