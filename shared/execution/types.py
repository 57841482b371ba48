"""Orders, fills and market rules, in ``Decimal``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

Mode = Literal["paper", "simulated", "live"]
"""Where orders end: nowhere, at the local stand-ins, or at the real venue."""

Side = Literal["buy", "sell"]
Purpose = Literal["entry", "exit", "rebalance", "protect"]
Urgency = Literal["normal", "high"]
OrderType = Literal["limit", "market", "stop_limit", "stop_market"]
TimeInForce = Literal["IOC", "FOK", "GTC", "GTD"]
OrderStatus = Literal["open", "filled", "cancelled", "expired", "rejected"]


@dataclass(frozen=True)
class PriceBand:
    """Between which multiples of a venue's own average a limit price has to lie, ends included.

    Attributes:
        average_minutes: over how many minutes the venue averages; 0 where it takes its last price.
    """

    lowest_buy_multiple: Decimal
    highest_buy_multiple: Decimal
    lowest_sell_multiple: Decimal
    highest_sell_multiple: Decimal
    average_minutes: int


@dataclass(frozen=True)
class MarketRules:
    """What a venue accepts for a symbol, and what it charges.

    Attributes:
        is_open: the venue says that the market trades: not halted, nor only for cancels.
        price_band: ``None``, as are the two counts, where the venue tells of no such rule.
        max_orders: how many orders of an account may be open in the symbol, stops among them.
        max_stop_orders: how many of these may be stops.
        unread_filters: rules that the venue tells and nobody here can read, with what is wrong.
    """

    venue: str
    symbol: str
    price_tick: Decimal
    quantity_step: Decimal
    min_quantity: Decimal
    min_notional: Decimal
    taker_fee_bps: Decimal
    maker_fee_bps: Decimal
    is_open: bool
    price_band: PriceBand | None = None
    max_orders: int | None = None
    max_stop_orders: int | None = None
    unread_filters: tuple[str, ...] = ()


@dataclass(frozen=True)
class OrderTicket:
    """Exactly what is sent to a venue.

    Attributes:
        limit_price: for ``stop_market``, which has none on the wire, the worst price reckoned with.
        stop_price: the trigger of a stop order.
        expires_at: when a ``GTD`` order ends by itself.
    """

    client_order_id: str
    venue: str
    symbol: str
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce
    quantity: Decimal
    limit_price: Decimal
    stop_price: Decimal | None = None
    post_only: bool = False
    expires_at: datetime | None = None


@dataclass(frozen=True)
class VenueOrder:
    """What a venue says about an order of ours."""

    venue_order_id: str
    client_order_id: str | None
    symbol: str
    side: Side
    status: OrderStatus
    quantity: Decimal
    filled_quantity: Decimal
    average_price: Decimal | None


@dataclass(frozen=True)
class VenueFill:
    """One execution against an order of ours.

    Attributes:
        fee_cost, fee_currency: both ``None`` where the venue has not told its fee.
    """

    venue_trade_id: str
    venue_order_id: str
    symbol: str
    side: Side
    price: Decimal
    quantity: Decimal
    fee_cost: Decimal | None
    fee_currency: str | None
    liquidity: Literal["maker", "taker"] | None
    filled_at: datetime


@dataclass(frozen=True)
class Balance:
    """One currency on one venue."""

    total: Decimal
    free: Decimal


@dataclass(frozen=True)
class Exits:
    """When a position is to be closed. Prices in quote currency."""

    stop_price: Decimal
    target_price: Decimal
    trailing_activation_price: Decimal
    trailing_distance_percent: Decimal
    time_stop_at: datetime


@dataclass(frozen=True)
class StopOnly:
    """The exits of a core position: a stop far away, and nothing else ends it by its price."""

    stop_price: Decimal


@dataclass(frozen=True)
class EntryOrder:
    """A position to be opened or added to, as risk management has approved it.

    Attributes:
        key: names the parent order where no decision stands behind it: whoever repeats the same
            key finds the same parent. Without either, the parent is of this run.
    """

    decision_id: str | None
    symbol: str
    size_quote: Decimal
    decision_mid: Decimal
    strategy: str
    sleeve: Literal["tactical", "core"]
    urgency: Urgency
    exits: Exits | StopOnly
    key: str | None = None


@dataclass(frozen=True)
class OrderResult:
    """What came of one intent.

    ``outcome`` is ``DENIED`` (never sent), ``FILLED``, ``PARTIALLY_FILLED``, ``NOT_FILLED``,
    ``OPEN``, ``REJECTED`` or ``UNKNOWN``; ``detail`` says why in one line.
    """

    intent_id: str | None
    venue: str
    symbol: str
    side: Side
    quantity: Decimal
    outcome: str
    filled_quantity: Decimal
    average_price: Decimal | None
    fee_quote: Decimal
    detail: str
