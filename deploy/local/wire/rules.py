"""What each simulated venue accepts for a symbol, and what it charges.

Ticks, steps and minimums of the listed symbols are those that the venues published for them
(exchangeInfo, AssetPairs, products; 2025). Symbols that are not listed get increments of the same
relative size, derived from a price.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

VenueName = Literal["binance", "binanceus", "coinbase", "kraken"]
VenueStatus = Literal["online", "cancel_only", "post_only", "maintenance"]
VENUES: tuple[VenueName, ...] = ("binance", "binanceus", "coinbase", "kraken")


@dataclass(frozen=True, slots=True)
class SymbolRules:
    """Increments and minimums of one symbol on one venue; prices and notionals in quote."""

    symbol: str
    price_decimals: int
    quantity_decimals: int
    min_quantity: Decimal
    min_notional: Decimal

    @property
    def base(self) -> str:
        return self.symbol.partition("/")[0]

    @property
    def quote(self) -> str:
        return self.symbol.partition("/")[2]

    @property
    def price_tick(self) -> Decimal:
        return Decimal(1).scaleb(-self.price_decimals)

    @property
    def quantity_step(self) -> Decimal:
        return Decimal(1).scaleb(-self.quantity_decimals)


@dataclass(frozen=True, slots=True)
class VenueRules:
    """What holds for all symbols of a venue.

    Attributes:
        fee_in: ``received`` takes the fee from what a fill brings in (base on buys, quote on
            sells); ``quote`` always takes it in quote, on top of the cost of a buy.
        duplicate_client_id: ``reject_open`` refuses a client id that an open order bears;
            ``return_original`` answers with the order that bore it first.
        stop_triggers_at_once: whether a stop that the price has already passed becomes active
            instead of being refused.
        statuses: those that the venue can have; Binance has no post-only mode.
        fee_token: the venue's own coin, in which it may take its fees, by a quarter cheaper.
        price_collar: least and most of a limit price as multiples of the average of the last five
            minutes; ``None`` where no figure is published.
        most_stops: how many orders of a symbol may wait for their stop; ``None`` for any number.
        most_orders: how many orders of a symbol may be open, those among them.
        price_filter: which of Binance's filters tells the collar, and refuses by it.
    """

    name: VenueName
    taker_fee_bps: Decimal
    maker_fee_bps: Decimal
    fee_in: Literal["received", "quote"]
    duplicate_client_id: Literal["reject_open", "return_original"]
    stop_triggers_at_once: bool
    statuses: tuple[VenueStatus, ...] = ("online", "cancel_only", "post_only", "maintenance")
    fee_token: str | None = None
    price_collar: tuple[Decimal, Decimal] | None = None
    most_stops: int | None = None
    most_orders: int | None = None
    price_filter: Literal["PERCENT_PRICE", "PERCENT_PRICE_BY_SIDE"] | None = None


def _binance(name: VenueName, taker_fee_bps: int, maker_fee_bps: int) -> VenueRules:
    """Binance's rules, which its region for the United States shares but for fees and filters.

    The filters are those of their exchangeInfo: for BTC, ETH and SOL against USDT on Binance, and
    for BTC and ETH on Binance US (2025-05-28).
    """
    return VenueRules(
        name,
        Decimal(taker_fee_bps),
        Decimal(maker_fee_bps),
        "received",
        "reject_open",
        stop_triggers_at_once=False,
        statuses=("online", "cancel_only", "maintenance"),
        fee_token="BNB",
        price_collar=(Decimal("0.2"), Decimal(5)),
        most_stops=5,
        most_orders=200,
        price_filter="PERCENT_PRICE_BY_SIDE" if name == "binance" else "PERCENT_PRICE",
    )


VENUE_RULES: dict[VenueName, VenueRules] = {
    "binance": _binance("binance", 10, 10),
    "binanceus": _binance("binanceus", 60, 40),
    "coinbase": VenueRules(
        "coinbase",
        Decimal(120),
        Decimal(60),
        "quote",
        "return_original",
        stop_triggers_at_once=False,
    ),
    "kraken": VenueRules(
        "kraken", Decimal(40), Decimal(25), "quote", "reject_open", stop_triggers_at_once=True
    ),
}

# symbol: (price decimals, quantity decimals, minimum quantity, minimum notional). Binance's crosses
# trade here in tenfold lots, so that a fill's notional is exact in the 8 decimals of a balance.
_PUBLISHED: dict[VenueName, dict[str, tuple[int, int, str, str]]] = {
    "binance": {
        "BTC/USDT": (2, 5, "0.00001", "5"),
        "ETH/USDT": (2, 4, "0.0001", "5"),
        "SOL/USDT": (2, 3, "0.001", "5"),
        "ETH/BTC": (5, 3, "0.001", "0.0001"),
        "SOL/BTC": (6, 2, "0.01", "0.0001"),
    },
    "binanceus": {
        "BTC/USDT": (2, 5, "0.00001", "1"),
        "ETH/USDT": (2, 4, "0.0001", "1"),
        "SOL/USDT": (2, 3, "0.001", "1"),
        "ETH/BTC": (5, 3, "0.001", "0.0001"),
        "SOL/BTC": (6, 2, "0.01", "0.0001"),
    },
    "coinbase": {
        "BTC/USDT": (2, 8, "0.00000001", "1"),
        "ETH/USDT": (2, 8, "0.00000001", "1"),
        "SOL/USDT": (2, 8, "0.00000001", "1"),
        "ETH/BTC": (5, 8, "0.00000001", "0.000016"),
        "SOL/BTC": (7, 8, "0.00000001", "0.000016"),
    },
    "kraken": {
        "BTC/USDT": (1, 8, "0.00005", "0.5"),
        "ETH/USDT": (2, 8, "0.001", "0.5"),
        "SOL/USDT": (2, 8, "0.02", "0.5"),
        "ETH/BTC": (5, 8, "0.001", "0.00002"),
        "SOL/BTC": (7, 8, "0.02", "0.00002"),
    },
}
_MIN_NOTIONAL_USDT: dict[VenueName, str] = {
    "binance": "5",
    "binanceus": "1",
    "coinbase": "1",
    "kraken": "0.5",
}


def symbol_rules(venue: VenueName, symbol: str, price: float) -> SymbolRules:
    """The rules of ``symbol`` on ``venue``; ``price`` scales those of a symbol not listed."""
    published = _PUBLISHED[venue].get(symbol)
    if published is not None:
        price_decimals, quantity_decimals, min_quantity, min_notional = published
        return SymbolRules(
            symbol, price_decimals, quantity_decimals, Decimal(min_quantity), Decimal(min_notional)
        )
    magnitude = math.floor(math.log10(price))
    price_decimals = min(8, max(2, 4 - magnitude))
    quantity_decimals = min(5, max(0, magnitude + 1), 8 - price_decimals)
    return SymbolRules(
        symbol,
        price_decimals,
        quantity_decimals,
        Decimal(1).scaleb(-quantity_decimals),
        Decimal(_MIN_NOTIONAL_USDT[venue]),
    )
