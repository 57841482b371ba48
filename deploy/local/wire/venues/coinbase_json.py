"""The JSON shapes of Coinbase Advanced Trade and of the few v2 endpoints that ccxt reads."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from deploy.local.wire.feed import CLOSE, OPEN, VOLUME, mix
from deploy.local.wire.orders import Fill, Order, OrderType, Reason, Status, TimeInForce
from deploy.local.wire.rules import SymbolRules, VenueRules, VenueStatus
from deploy.local.wire.tape import TapeTrade
from deploy.local.wire.venues.base import JSON, iso_micros, iso_seconds, text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

GRANULARITIES = {
    "ONE_MINUTE": "1m",
    "FIVE_MINUTE": "5m",
    "FIFTEEN_MINUTE": "15m",
    "ONE_HOUR": "1h",
    "FOUR_HOUR": "4h",
    "ONE_DAY": "1d",
}
USER_ID = str(uuid.UUID(int=mix(1) << 64 | mix(2), version=4))
# order_configuration: type, time in force
CONFIGURATIONS: dict[str, tuple[OrderType, TimeInForce]] = {
    "market_market_ioc": (OrderType.MARKET, "IOC"),
    "sor_limit_ioc": (OrderType.LIMIT, "IOC"),
    "limit_limit_fok": (OrderType.LIMIT, "FOK"),
    "limit_limit_gtc": (OrderType.LIMIT, "GTC"),
    "limit_limit_gtd": (OrderType.LIMIT, "GTD"),
    "stop_limit_stop_limit_gtc": (OrderType.STOP_LIMIT, "GTC"),
    "stop_limit_stop_limit_gtd": (OrderType.STOP_LIMIT, "GTD"),
}
_CONFIGURATION_NAMES = {form: name for name, form in CONFIGURATIONS.items()}
_TIMES_IN_FORCE: dict[TimeInForce, str] = {
    "IOC": "IMMEDIATE_OR_CANCEL",
    "FOK": "FILL_OR_KILL",
    "GTC": "GOOD_UNTIL_CANCELLED",
    "GTD": "GOOD_UNTIL_DATE_TIME",
}
_STATUSES = {
    Status.OPEN: "OPEN",
    Status.FILLED: "FILLED",
    Status.CANCELLED: "CANCELLED",
    Status.EXPIRED: "CANCELLED",
}
_WIRE_TYPES = {
    OrderType.LIMIT: "LIMIT",
    OrderType.MARKET: "MARKET",
    OrderType.STOP_LIMIT: "STOP_LIMIT",
}
# new_order_failure_reason, message
FAILURES: dict[Reason, tuple[str, str]] = {
    Reason.INSUFFICIENT_FUNDS: ("INSUFFICIENT_FUND", "Insufficient balance in source account"),
    Reason.PRICE_TICK: ("INVALID_PRICE_PRECISION", "Invalid price precision"),
    Reason.QUANTITY_STEP: ("INVALID_SIZE_PRECISION", "Invalid size precision"),
    Reason.MIN_QUANTITY: ("BASE_SIZE_TOO_SMALL", "Order size is below the minimum"),
    Reason.MIN_NOTIONAL: ("QUOTE_SIZE_TOO_SMALL", "Order value is below the minimum"),
    Reason.STOP_WOULD_TRIGGER: (
        "PREVIEW_STOP_PRICE_ABOVE_LAST_TRADE_PRICE",
        "Stop price would trigger immediately",
    ),
    Reason.POST_ONLY_WOULD_TAKE: ("INVALID_LIMIT_PRICE_POST_ONLY", "Post only would take"),
    Reason.PRICE_COLLAR: ("INVALID_LIMIT_PRICE", "Limit price is too far from the market"),
    Reason.END_IN_THE_PAST: ("INVALID_REQUEST", "End time is in the past"),
    Reason.CANCEL_ONLY: ("ORDER_ENTRY_DISABLED", "orderbook is in cancel only mode"),
    Reason.POST_ONLY_MODE: ("ORDER_ENTRY_DISABLED", "orderbook is in post only mode"),
    Reason.MAINTENANCE: ("ORDER_ENTRY_DISABLED", "trading is disabled"),
    Reason.UNKNOWN_SYMBOL: ("INVALID_PRODUCT_ID", "Invalid product_id"),
    Reason.BAD_PARAMETER: ("UNSUPPORTED_ORDER_CONFIGURATION", "Unsupported order configuration"),
}


def product_id(symbol: str) -> str:
    return symbol.replace("/", "-")


def order_uuid(order_id: int) -> str:
    """A UUID that looks like any other and carries the order's number in its last digits."""
    return str(uuid.UUID(int=(mix(order_id, 3) << 64 | order_id) & ~(0xF << 76) | 0x4 << 76))


def order_number(text_id: str) -> int | None:
    """The order of a UUID that ``order_uuid`` made; ``None`` for any other text."""
    try:
        number = uuid.UUID(text_id).int & 0xFFFFFFFFFFFFFFFF
    except ValueError:
        return None
    return number if order_uuid(number) == text_id.lower() else None


def trade_uuid(trade_id: int) -> str:
    return str(uuid.UUID(int=mix(trade_id, 4) << 64 | trade_id, version=4))


def account_uuid(currency: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, currency))


def fee_summary(venue: VenueRules) -> JSON:
    return {
        "total_volume": 0,
        "total_fees": 0,
        "fee_tier": {
            "pricing_tier": "Intro 1",
            "usd_from": "0",
            "usd_to": "10000",
            "taker_fee_rate": str(venue.taker_fee_bps / 10_000),
            "maker_fee_rate": str(venue.maker_fee_bps / 10_000),
        },
        "margin_rate": None,
        "goods_and_services_tax": None,
        "advanced_trade_only_volume": 0,
        "advanced_trade_only_fees": 0,
        "coinbase_pro_volume": 0,
        "coinbase_pro_fees": 0,
        "total_balance": "",
    }


KEY_PERMISSIONS: JSON = {
    "can_view": True,
    "can_trade": True,
    "can_transfer": False,
    "portfolio_uuid": str(uuid.UUID(int=mix(5) << 64 | mix(6), version=4)),
    "portfolio_type": "DEFAULT",
}

# v2 answers with all accounts at once, so no page has a neighbour.
WHOLE_PAGE: JSON = {
    "ending_before": None,
    "starting_after": None,
    "previous_ending_before": None,
    "next_starting_after": None,
    "limit": 250,
    "order": "desc",
    "previous_uri": None,
    "next_uri": None,
}


def crypto_currency(name: str, index: int) -> JSON:
    return {
        "asset_id": account_uuid(f"asset {name}"),
        "code": name,
        "name": name,
        "color": "#000000",
        "sort_index": index,
        "exponent": 8,
        "type": "crypto",
        "address_regex": "",
    }


def product(rules: SymbolRules, day: NDArray[np.float64], mid: float, status: VenueStatus) -> JSON:
    """A product with the figures of its last 24 hours."""
    first, last = float(day[0, OPEN]), float(day[-1, CLOSE])
    volume = float(day[:, VOLUME].sum())
    name = product_id(rules.symbol)
    tick = format(rules.price_tick, "f")
    return {
        "product_id": name,
        "price": f"{last:.{rules.price_decimals}f}",
        "price_percentage_change_24h": f"{(last / first - 1) * 100:.8f}",
        "volume_24h": f"{volume:.8f}",
        "volume_percentage_change_24h": "",
        "approximate_quote_24h_volume": f"{volume * (first + last) / 2:.2f}",
        "base_increment": format(rules.quantity_step, "f"),
        "quote_increment": tick,
        "price_increment": tick,
        "quote_min_size": format(rules.min_notional, "f"),
        "quote_max_size": "50000000",
        "base_min_size": format(rules.min_quantity, "f"),
        "base_max_size": "1000000",
        "base_name": rules.base,
        "quote_name": rules.quote,
        "watched": False,
        "is_disabled": status == "maintenance",
        "new": False,
        "status": "offline" if status == "maintenance" else "online",
        "cancel_only": status == "cancel_only",
        "limit_only": False,
        "post_only": status == "post_only",
        "trading_disabled": status == "maintenance",
        "auction_mode": False,
        "product_type": "SPOT",
        "quote_currency_id": rules.quote,
        "base_currency_id": rules.base,
        "fcm_trading_session_details": None,
        "mid_market_price": f"{mid:.{rules.price_decimals + 1}f}",
        "alias": "",
        "alias_to": [],
        "base_display_symbol": rules.base,
        "quote_display_symbol": rules.quote,
        "view_only": False,
        "display_name": name,
        "product_venue": "CBE",
    }


def price_book(
    symbol: str, bids: Iterable[list[str]], asks: Iterable[list[str]], now_ms: int
) -> JSON:
    return {
        "product_id": product_id(symbol),
        "bids": [{"price": price, "size": size} for price, size in bids],
        "asks": [{"price": price, "size": size} for price, size in asks],
        "time": iso_micros(now_ms),
    }


def public_trades(rows: Iterable[TapeTrade], rules: SymbolRules) -> JSON:
    prices, steps = 10**rules.price_decimals, 10**rules.quantity_decimals
    return [
        {
            "trade_id": str(trade.trade_id),
            "product_id": product_id(rules.symbol),
            "price": f"{trade.price_ticks / prices:.{rules.price_decimals}f}",
            "size": f"{trade.steps / steps:.{rules.quantity_decimals}f}",
            "time": iso_micros(trade.at_ms),
            "side": "SELL" if trade.taker_buys else "BUY",  # the side of the order that rested
            "bid": "",
            "ask": "",
        }
        for trade in rows
    ]


def candles(rows: Iterable[list[float]], rules: SymbolRules) -> bytes:
    """Candles as text, written by hand; the order is the caller's."""
    digits = rules.price_decimals
    parts = [
        f'{{"start":"{int(open_ms) // 1000}","low":"{low:.{digits}f}","high":"{high:.{digits}f}",'
        f'"open":"{open_:.{digits}f}","close":"{close:.{digits}f}","volume":"{volume:.8f}"}}'
        for open_ms, open_, high, low, close, volume in rows
    ]
    return f'{{"candles":[{",".join(parts)}]}}'.encode()


def account_v3(currency: str, free: Decimal, locked: Decimal, now_ms: int) -> JSON:
    kind = "ACCOUNT_TYPE_FIAT" if currency in ("USD", "EUR") else "ACCOUNT_TYPE_CRYPTO"
    return {
        "uuid": account_uuid(currency),
        "name": f"{currency} Wallet",
        "currency": currency,
        "available_balance": {"value": text(free), "currency": currency},
        "default": True,
        "active": True,
        "created_at": "2023-01-04T06:20:06.456Z",
        "updated_at": iso_seconds(now_ms),
        "deleted_at": None,
        "type": kind,
        "ready": True,
        "hold": {"value": text(locked), "currency": currency},
        "retail_portfolio_id": KEY_PERMISSIONS["portfolio_uuid"],
        "platform": "ACCOUNT_PLATFORM_CONSUMER",
    }


def account_v2(currency: str, total: Decimal, now_ms: int) -> JSON:
    identity = account_uuid(currency)
    return {
        "id": identity,
        "name": f"{currency} Wallet",
        "primary": False,
        "type": "wallet",
        "currency": {
            "asset_id": account_uuid(f"asset {currency}"),
            "code": currency,
            "name": currency,
            "color": "#000000",
            "exponent": 8,
            "slug": currency.lower(),
            "type": "crypto",
            "rewards": None,
        },
        "balance": {"amount": text(total), "currency": currency},
        "created_at": "2023-01-04T06:20:06Z",
        "updated_at": iso_seconds(now_ms),
        "resource": "account",
        "resource_path": f"/v2/accounts/{identity}",
        "allow_deposits": True,
        "allow_withdrawals": True,
    }


def configuration(order: Order) -> JSON:
    """The ``order_configuration`` that makes this order."""
    request = order.request
    size = text(order.quantity)
    if request.order_type is OrderType.MARKET:
        if request.quote_quantity is not None:
            return {"market_market_ioc": {"quote_size": format(request.quote_quantity, "f")}}
        return {"market_market_ioc": {"base_size": size}}
    values: JSON = {
        "base_size": size,
        "limit_price": format(request.limit_price or Decimal(0), "f"),
    }
    if request.stop_price is not None:
        direction = "UP" if request.side == "buy" else "DOWN"
        values["stop_price"] = format(request.stop_price, "f")
        values["stop_direction"] = f"STOP_DIRECTION_STOP_{direction}"
    elif request.rests:
        values["post_only"] = request.post_only
    if request.expires_ms is not None:
        values["end_time"] = iso_micros(request.expires_ms)
    return {_CONFIGURATION_NAMES[request.order_type, request.time_in_force]: values}


def status(order: Order) -> str:
    return "EXPIRED" if order.timed_out else _STATUSES[order.status]


def order(order: Order) -> JSON:
    """An order as the historical endpoints show it."""
    request = order.request
    in_quote = request.quote_quantity is not None
    percent = order.filled_quantity / order.quantity * 100
    net = order.cost + order.fees if order.side == "buy" else order.cost - order.fees
    average = order.average_price
    stops = "STOP_PENDING" if order.waits_for_stop and order.is_open else "STOP_TRIGGERED"
    return {
        "order_id": order_uuid(order.order_id),
        "product_id": product_id(order.symbol),
        "user_id": USER_ID,
        "order_configuration": configuration(order),
        "side": order.side.upper(),
        "client_order_id": order.client_order_id or "",
        "status": status(order),
        "time_in_force": _TIMES_IN_FORCE[request.time_in_force],
        "created_time": iso_micros(order.created_ms),
        "completion_percentage": f"{percent:.2f}",
        "filled_size": text(order.filled_quantity),
        "average_filled_price": "0" if average is None else f"{average:.16f}",
        "fee": "",
        "number_of_fills": str(len(order.fills)),
        "filled_value": text(order.cost),
        "pending_cancel": False,
        "size_in_quote": in_quote,
        "total_fees": text(order.fees),
        "size_inclusive_of_fees": in_quote,
        "total_value_after_fees": text(net),
        "trigger_status": stops if request.stop_price is not None else "INVALID_ORDER_TYPE",
        "order_type": _WIRE_TYPES[request.order_type],
        "reject_reason": "REJECT_REASON_UNSPECIFIED",
        "settled": order.status is Status.FILLED,
        "product_type": "SPOT",
        "reject_message": "",
        "cancel_message": "User requested cancel" if order.status is Status.CANCELLED else "",
        "order_placement_source": "RETAIL_ADVANCED",
        "outstanding_hold_amount": text(order.reserved),
        "is_liquidation": False,
        "last_fill_time": iso_micros(order.fills[-1].at_ms) if order.fills else None,
        "edit_history": [],
        "leverage": "",
        "margin_type": "UNKNOWN_MARGIN_TYPE",
    }


def accepted(order: Order) -> JSON:
    identity = order_uuid(order.order_id)
    return {
        "success": True,
        "failure_reason": "UNKNOWN_FAILURE_REASON",
        "order_id": identity,
        "success_response": {
            "order_id": identity,
            "product_id": product_id(order.symbol),
            "side": order.side.upper(),
            "client_order_id": order.client_order_id or "",
        },
        "order_configuration": configuration(order),
    }


def rejected(reason: Reason, detail: str, given_configuration: Any) -> JSON:
    """A refusal in the form of an answer; those that its preview gives are named after it."""
    code, message = FAILURES[reason]
    if "STOP_DIRECTION_STOP_UP" in str(given_configuration):
        code = code.replace("PRICE_ABOVE", "PRICE_BELOW")
    return {
        "success": False,
        "failure_reason": "UNKNOWN_FAILURE_REASON",
        "order_id": "",
        "error_response": {
            "error": code,
            "message": message,
            "error_details": detail,
            "new_order_failure_reason": code,
            "preview_failure_reason": code if code.startswith("PREVIEW_") else f"PREVIEW_{code}",
        },
        "order_configuration": given_configuration,
    }


def fill(fill: Fill) -> JSON:
    return {
        "entry_id": trade_uuid(fill.trade_id).replace("-", ""),
        "trade_id": trade_uuid(fill.trade_id),
        "order_id": order_uuid(fill.order_id),
        "trade_time": iso_micros(fill.at_ms),
        "trade_type": "FILL",
        "price": format(fill.price, "f"),
        "size": text(fill.quantity),
        "commission": text(fill.fee),
        "product_id": product_id(fill.symbol),
        "sequence_timestamp": iso_micros(fill.at_ms),
        "liquidity_indicator": "MAKER" if fill.is_maker else "TAKER",
        "size_in_quote": False,
        "user_id": USER_ID,
        "side": fill.side.upper(),
    }
