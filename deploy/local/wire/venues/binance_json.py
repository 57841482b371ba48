"""The JSON shapes of Binance spot."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import TYPE_CHECKING

from deploy.local.wire.checks import COLLAR_MINUTES
from deploy.local.wire.feed import CLOSE, HIGH, LOW, OPEN, OPEN_MS, VOLUME
from deploy.local.wire.orders import Fill, Order, OrderType, Status
from deploy.local.wire.rules import SymbolRules, VenueRules, VenueStatus
from deploy.local.wire.tape import TapeTrade, buy_share
from deploy.local.wire.venues.base import JSON, text
from shared.market.types import TIMEFRAME_MS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

INTERVALS: dict[str, int] = dict(TIMEFRAME_MS)
DAY_MS = 86_400_000
# A candle's number of trades is not known; this many units of its quote volume count as one.
_QUOTE_PER_TRADE = 1_000.0
_WIRE_TYPES = {
    OrderType.LIMIT: "LIMIT",
    OrderType.MARKET: "MARKET",
    OrderType.STOP: "STOP_LOSS",
    OrderType.STOP_LIMIT: "STOP_LOSS_LIMIT",
}
_STATUSES = {
    Status.OPEN: "NEW",
    Status.FILLED: "FILLED",
    Status.CANCELLED: "CANCELED",
    Status.EXPIRED: "EXPIRED",
}
_SYMBOL_STATUSES: dict[VenueStatus, str] = {
    "online": "TRADING",
    "cancel_only": "CANCEL_ONLY",
    "maintenance": "BREAK",
}
API_RESTRICTIONS: JSON = {
    "ipRestrict": True,
    "createTime": 0,
    "enableReading": True,
    "enableSpotAndMarginTrading": True,
    "enableWithdrawals": False,
    "enableInternalTransfer": False,
    "enableMargin": False,
    "enableFutures": False,
    "permitsUniversalTransfer": False,
    "enableVanillaOptions": False,
    "enablePortfolioMarginTrading": False,
    "enableFixApiTrade": False,
    "enableFixReadOnly": False,
}

NameOf = Callable[[Order], str]


def exchange_info(
    rules: Iterable[SymbolRules],
    *,
    status: VenueStatus,
    collar: tuple[Decimal, Decimal] | None,
    venue: VenueRules,
    now_ms: int,
) -> JSON:
    """Symbols with their filters; all have the one status of the venue."""
    common = _common_filters(collar, venue)
    limits = [
        ("REQUEST_WEIGHT", "MINUTE", 1, 6000),
        ("ORDERS", "SECOND", 10, 100),
        ("ORDERS", "DAY", 1, 200000),
        ("RAW_REQUESTS", "MINUTE", 5, 61000),
    ]
    return {
        "timezone": "UTC",
        "serverTime": now_ms,
        "rateLimits": [
            {"rateLimitType": kind, "interval": unit, "intervalNum": count, "limit": limit}
            for kind, unit, count, limit in limits
        ],
        "exchangeFilters": [],
        "symbols": [_symbol(item, _SYMBOL_STATUSES[status], common) for item in rules],
    }


def _common_filters(collar: tuple[Decimal, Decimal] | None, venue: VenueRules) -> list[JSON]:
    filters: list[JSON] = []
    if collar is not None:
        least, most = (format(multiple, "f") for multiple in collar)
        sides = ("bid", "ask") if venue.price_filter == "PERCENT_PRICE_BY_SIDE" else ("",)
        multiples: dict[str, str] = {}
        for side in sides:
            name = f"{side}Multiplier" if side else "multiplier"
            multiples |= {f"{name}Up": most, f"{name}Down": least}
        filters.append(
            {"filterType": venue.price_filter, **multiples, "avgPriceMins": COLLAR_MINUTES}
        )
    if venue.most_orders is not None:
        filters.append({"filterType": "MAX_NUM_ORDERS", "maxNumOrders": venue.most_orders})
    if venue.most_stops is not None:
        filters.append({"filterType": "MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders": venue.most_stops})
    return filters


def _symbol(rules: SymbolRules, status: str, common_filters: list[JSON]) -> JSON:
    tick, step = text(rules.price_tick), text(rules.quantity_step)
    return {
        "symbol": rules.symbol.replace("/", ""),
        "status": status,
        "baseAsset": rules.base,
        "baseAssetPrecision": 8,
        "quoteAsset": rules.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": [
            "LIMIT",
            "LIMIT_MAKER",
            "MARKET",
            "STOP_LOSS",
            "STOP_LOSS_LIMIT",
        ],
        "icebergAllowed": False,
        "ocoAllowed": False,
        "otoAllowed": False,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": False,
        "cancelReplaceAllowed": False,
        "amendAllowed": False,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": tick,
                "maxPrice": "1000000.00000000",
                "tickSize": tick,
            },
            {
                "filterType": "LOT_SIZE",
                "minQty": text(rules.min_quantity),
                "maxQty": "9000000.00000000",
                "stepSize": step,
            },
            {
                "filterType": "NOTIONAL",
                "minNotional": text(rules.min_notional),
                "applyMinToMarket": True,
                "maxNotional": "9000000.00000000",
                "applyMaxToMarket": False,
                "avgPriceMins": 5,
            },
            *common_filters,
        ],
        "permissions": [],
        "permissionSets": [["SPOT"]],
        "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
        "allowedSelfTradePreventionModes": ["EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH"],
    }


def klines(rows: Iterable[list[float]], rules: SymbolRules, duration_ms: int) -> bytes:
    """Candle rows as text; written by hand, since a thousand of them are asked for at once."""
    digits = rules.price_decimals
    zeros = "0" * (8 - digits)
    parts = []
    for row in rows:
        open_ms, open_, high, low, close, volume = row
        bought = volume * buy_share(open_, high, low, close)
        quote = volume * (open_ + close) / 2
        parts.append(
            f'[{int(open_ms)},"{open_:.{digits}f}{zeros}","{high:.{digits}f}{zeros}",'
            f'"{low:.{digits}f}{zeros}","{close:.{digits}f}{zeros}","{volume:.8f}",'
            f'{int(open_ms) + duration_ms - 1},"{quote:.8f}",{_trade_count(quote)},'
            f'"{bought:.8f}","{bought * (open_ + close) / 2:.8f}","0"]'
        )
    return f"[{','.join(parts)}]".encode()


def _trade_count(quote_volume: float) -> int:
    return round(quote_volume / _QUOTE_PER_TRADE)


def trades(rows: Iterable[TapeTrade], rules: SymbolRules) -> JSON:
    prices, steps = 10**rules.price_decimals, 10**rules.quantity_decimals
    return [
        {
            "id": trade.trade_id,
            "price": f"{trade.price_ticks / prices:.8f}",
            "qty": f"{trade.steps / steps:.8f}",
            "quoteQty": f"{trade.price_ticks / prices * trade.steps / steps:.8f}",
            "time": trade.at_ms,
            "isBuyerMaker": not trade.taker_buys,
            "isBestMatch": True,
        }
        for trade in rows
    ]


def agg_trades(rows: Iterable[TapeTrade], rules: SymbolRules) -> JSON:
    prices, steps = 10**rules.price_decimals, 10**rules.quantity_decimals
    return [
        {
            "a": trade.trade_id,
            "p": f"{trade.price_ticks / prices:.8f}",
            "q": f"{trade.steps / steps:.8f}",
            "f": trade.trade_id,
            "l": trade.trade_id,
            "T": trade.at_ms,
            "m": not trade.taker_buys,
            "M": True,
        }
        for trade in rows
    ]


def ticker_24hr(
    rows: NDArray[np.float64],
    rules: SymbolRules,
    best: tuple[list[str], list[str]],
    now_ms: int,
) -> JSON:
    """The last day's figures, from its closed minutes."""
    bid, ask = best
    first, last = float(rows[0, OPEN]), float(rows[-1, CLOSE])
    volume = float(rows[:, VOLUME].sum())
    quote = float((rows[:, VOLUME] * (rows[:, OPEN] + rows[:, CLOSE])).sum()) / 2
    return {
        "symbol": rules.symbol.replace("/", ""),
        "priceChange": f"{last - first:.8f}",
        "priceChangePercent": f"{(last / first - 1) * 100:.3f}",
        "weightedAvgPrice": f"{quote / volume if volume else last:.8f}",
        "prevClosePrice": f"{first:.8f}",
        "lastPrice": f"{last:.8f}",
        "lastQty": f"{rules.min_quantity:.8f}",
        "bidPrice": bid[0],
        "bidQty": bid[1],
        "askPrice": ask[0],
        "askQty": ask[1],
        "openPrice": f"{first:.8f}",
        "highPrice": f"{float(rows[:, HIGH].max()):.8f}",
        "lowPrice": f"{float(rows[:, LOW].min()):.8f}",
        "volume": f"{volume:.8f}",
        "quoteVolume": f"{quote:.8f}",
        "openTime": int(rows[0, OPEN_MS]),
        "closeTime": now_ms,
        "firstId": -1,
        "lastId": -1,
        "count": _trade_count(quote),
    }


def book_ticker(symbol: str, best: tuple[list[str], list[str]]) -> JSON:
    bid, ask = best
    return {
        "symbol": symbol.replace("/", ""),
        "bidPrice": bid[0],
        "bidQty": bid[1],
        "askPrice": ask[0],
        "askQty": ask[1],
    }


def account(balances: JSON, venue: VenueRules, now_ms: int) -> JSON:
    return {
        "makerCommission": int(venue.maker_fee_bps),
        "takerCommission": int(venue.taker_fee_bps),
        "buyerCommission": 0,
        "sellerCommission": 0,
        "commissionRates": {
            "maker": text(venue.maker_fee_bps / 10_000),
            "taker": text(venue.taker_fee_bps / 10_000),
            "buyer": "0.00000000",
            "seller": "0.00000000",
        },
        "canTrade": True,
        "canWithdraw": False,
        "canDeposit": True,
        "brokered": False,
        "requireSelfTradePrevention": False,
        "preventSor": False,
        "updateTime": now_ms,
        "accountType": "SPOT",
        "balances": balances,
        "permissions": ["SPOT"],
        "uid": 1,
    }


def coin(name: str, free: str, locked: str) -> JSON:
    return {
        "coin": name,
        "name": name,
        "free": free,
        "locked": locked,
        "freeze": "0",
        "withdrawing": "0",
        "ipoing": "0",
        "ipoable": "0",
        "storage": "0",
        "isLegalMoney": False,
        "trading": True,
        "depositAllEnable": False,
        "withdrawAllEnable": False,
        "networkList": [],
    }


def status(order: Order) -> str:
    if order.is_open and order.filled_quantity:
        return "PARTIALLY_FILLED"
    return _STATUSES[order.status]


def _common(order: Order) -> JSON:
    request = order.request
    shared: JSON = {
        "symbol": order.symbol.replace("/", ""),
        "orderId": order.order_id,
        "orderListId": -1,
        "price": text(request.limit_price or Decimal(0)),
        "origQty": text(order.quantity),
        "executedQty": text(order.filled_quantity),
        "origQuoteOrderQty": text(request.quote_quantity or Decimal(0)),
        "cummulativeQuoteQty": text(order.cost),
        "status": status(order),
        "timeInForce": request.time_in_force,
        "type": "LIMIT_MAKER" if request.post_only else _WIRE_TYPES[request.order_type],
        "side": order.side.upper(),
        "selfTradePreventionMode": "EXPIRE_MAKER",
    }
    if request.stop_price is not None:
        shared["stopPrice"] = text(request.stop_price)
    return shared


def order(order: Order, name_of: NameOf) -> JSON:
    """An order as queries show it."""
    return {
        **_common(order),
        "clientOrderId": name_of(order),
        "stopPrice": text(order.request.stop_price or Decimal(0)),
        "icebergQty": "0.00000000",
        "time": order.created_ms,
        "updateTime": order.updated_ms,
        "isWorking": not order.waits_for_stop,
        "workingTime": -1 if order.waits_for_stop else order.created_ms,
    }


def new_order(order: Order, name_of: NameOf, kind: str) -> JSON:
    """The answer to a new order: ACK, RESULT or FULL."""
    acknowledged = {
        "symbol": order.symbol.replace("/", ""),
        "orderId": order.order_id,
        "orderListId": -1,
        "clientOrderId": name_of(order),
        "transactTime": order.created_ms,
    }
    if kind == "ACK":
        return acknowledged
    result = {**acknowledged, **_common(order), "workingTime": order.created_ms}
    if kind == "FULL":
        result["fills"] = [
            {
                "price": text(fill.price),
                "qty": text(fill.quantity),
                "commission": text(fill.fee),
                "commissionAsset": fill.fee_currency,
                "tradeId": fill.trade_id,
            }
            for fill in order.fills
        ]
    return result


def cancelled(order: Order, name_of: NameOf, cancel_id: str | None) -> JSON:
    """The answer to a cancel, which carries an id of its own."""
    return {
        **_common(order),
        "origClientOrderId": name_of(order),
        "clientOrderId": cancel_id or f"cancel_{order.order_id}",
        "transactTime": order.updated_ms,
    }


def my_trade(fill: Fill) -> JSON:
    return {
        "symbol": fill.symbol.replace("/", ""),
        "id": fill.trade_id,
        "orderId": fill.order_id,
        "orderListId": -1,
        "price": text(fill.price),
        "qty": text(fill.quantity),
        "quoteQty": text(fill.cost),
        "commission": text(fill.fee),
        "commissionAsset": fill.fee_currency,
        "time": fill.at_ms,
        "isBuyer": fill.side == "buy",
        "isMaker": fill.is_maker,
        "isBestMatch": True,
    }
