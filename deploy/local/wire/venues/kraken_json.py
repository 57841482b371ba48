"""The JSON shapes of Kraken spot, and its names: XBT for BTC, an X before the oldest coins."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING

from deploy.local.wire.feed import CLOSE, HIGH, LOW, OPEN, OPEN_MS, VOLUME
from deploy.local.wire.orders import Fill, Order, OrderType, Status
from deploy.local.wire.rules import SymbolRules, VenueRules, VenueStatus
from deploy.local.wire.tape import TapeTrade
from deploy.local.wire.venues.base import JSON, iso_seconds, text
from shared.market.types import TIMEFRAME_MS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ALT_NAMES = {"BTC": "XBT", "DOGE": "XDG"}
# Coins that Kraken listed before it gave up prefixes.
_PREFIXED = {"XBT", "ETH", "LTC", "XRP", "XLM", "XMR", "ZEC", "XDG", "ETC", "REP", "MLN"}
_WIRE_TYPES = {
    OrderType.LIMIT: "limit",
    OrderType.MARKET: "market",
    OrderType.STOP: "stop-loss",
    OrderType.STOP_LIMIT: "stop-loss-limit",
}
_STATUSES = {
    Status.OPEN: "open",
    Status.FILLED: "closed",
    Status.CANCELLED: "canceled",
    Status.EXPIRED: "canceled",
}
_DAY_MS = TIMEFRAME_MS["1d"]
_ID_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# Ids count in steps of a number that has no factor in common with 36**16: they look unordered,
# and can be read back.
_ID_RANGE = 36**16
_ID_STEP = 4_871_906_113_240_229_357_961_331
_ID_INVERSE = pow(_ID_STEP, -1, _ID_RANGE)
_QUOTE_PER_TRADE = 1_000.0


def short_name(currency: str) -> str:
    return _ALT_NAMES.get(currency, currency)


def asset_id(currency: str) -> str:
    name = short_name(currency)
    if name == "USD":
        return "ZUSD"  # currencies of states have a prefix of their own
    return f"X{name}" if name in _PREFIXED else name


def alt_name(symbol: str) -> str:
    base, _, quote = symbol.partition("/")
    return short_name(base) + short_name(quote)


def ws_name(symbol: str) -> str:
    base, _, quote = symbol.partition("/")
    return f"{short_name(base)}/{short_name(quote)}"


def pair_id(symbol: str) -> str:
    """The key of a pair: the full asset names where both have a prefix, else the short ones."""
    base, _, quote = symbol.partition("/")
    if symbol == "USDT/USD":
        return "USDTZUSD"  # the one pair of a coin without a prefix that shows that of the dollar
    ids = asset_id(base), asset_id(quote)
    both = all(name[0] == "X" and name[1:] in _PREFIXED for name in ids)
    return "".join(ids) if both else alt_name(symbol)


def server_time(now_ms: int) -> JSON:
    return {"unixtime": now_ms // 1000, "rfc1123": iso_seconds(now_ms)}


def system_status(status: VenueStatus, now_ms: int) -> JSON:
    return {"status": status, "timestamp": iso_seconds(now_ms)}


def asset(currency: str) -> JSON:
    decimals = {"USDT": 8, "USD": 4}.get(currency, 10)
    return {
        "aclass": "currency",
        "altname": short_name(currency),
        "decimals": decimals,
        "display_decimals": 5,
        "status": "enabled",
    }


def asset_pair(rules: SymbolRules, venue: VenueRules, status: VenueStatus) -> JSON:
    """A pair. It knows no maintenance of its own: only the system does."""
    return {
        "altname": alt_name(rules.symbol),
        "wsname": ws_name(rules.symbol),
        "aclass_base": "currency",
        "base": asset_id(rules.base),
        "aclass_quote": "currency",
        "quote": asset_id(rules.quote),
        "lot": "unit",
        "cost_decimals": rules.price_decimals + rules.quantity_decimals,
        "pair_decimals": rules.price_decimals,
        "lot_decimals": rules.quantity_decimals,
        "lot_multiplier": 1,
        "leverage_buy": [],
        "leverage_sell": [],
        "fees": [[0, float(venue.taker_fee_bps / 100)]],
        "fees_maker": [[0, float(venue.maker_fee_bps / 100)]],
        "fee_volume_currency": "ZUSD",
        "margin_call": 80,
        "margin_stop": 40,
        "ordermin": format(rules.min_quantity, "f"),
        "costmin": format(rules.min_notional, "f"),
        "tick_size": format(rules.price_tick, "f"),
        "status": "cancel_only" if status == "maintenance" else status,
    }


def ticker(
    rows: NDArray[np.float64],
    rules: SymbolRules,
    bids: list[list[str]],
    asks: list[list[str]],
    now_ms: int,
) -> JSON:
    """Figures since midnight UTC and of the last 24 hours, from their closed minutes."""
    midnight_ms = now_ms - now_ms % _DAY_MS
    today = rows[rows[:, OPEN_MS] >= midnight_ms]
    spans = [today if len(today) else rows[-1:], rows]
    digits = rules.price_decimals

    def best(levels: list[list[str]]) -> list[str]:
        price, quantity = levels[0] if levels else ["0", "0"]
        return [price, str(int(float(quantity))), quantity]

    return {
        "a": best(asks),
        "b": best(bids),
        "c": [f"{rows[-1, CLOSE]:.{digits}f}", f"{rules.min_quantity:.8f}"],
        "v": [f"{span[:, VOLUME].sum():.8f}" for span in spans],
        "p": [f"{_vwap(span):.{digits}f}" for span in spans],
        "t": [_trade_count(span) for span in spans],
        "l": [f"{span[:, LOW].min():.{digits}f}" for span in spans],
        "h": [f"{span[:, HIGH].max():.{digits}f}" for span in spans],
        "o": f"{spans[0][0, OPEN]:.{digits}f}",
    }


def _quote_volume(rows: NDArray[np.float64]) -> float:
    return float((rows[:, VOLUME] * (rows[:, OPEN] + rows[:, CLOSE])).sum()) / 2


def _vwap(rows: NDArray[np.float64]) -> float:
    volume = float(rows[:, VOLUME].sum())
    return _quote_volume(rows) / volume if volume else float(rows[-1, CLOSE])


def _trade_count(rows: NDArray[np.float64]) -> int:
    return round(_quote_volume(rows) / _QUOTE_PER_TRADE)


def ohlc(rows: Iterable[list[float]], rules: SymbolRules, last: int) -> bytes:
    """Candle rows as text, written by hand: Kraken always sends all 720."""
    digits = rules.price_decimals
    parts = []
    for open_ms, open_, high, low, close, volume in rows:
        middle = (open_ + close) / 2
        parts.append(
            f'[{int(open_ms) // 1000},"{open_:.{digits}f}","{high:.{digits}f}",'
            f'"{low:.{digits}f}","{close:.{digits}f}","{middle:.{digits}f}","{volume:.8f}",'
            f"{round(volume * middle / _QUOTE_PER_TRADE)}]"
        )
    pair = pair_id(rules.symbol)
    return f'{{"error":[],"result":{{"{pair}":[{",".join(parts)}],"last":{last}}}}}'.encode()


def depth(bids: list[list[str]], asks: list[list[str]], now_ms: int) -> JSON:
    second = now_ms // 1000
    return {
        "asks": [[price, quantity, second] for price, quantity in asks],
        "bids": [[price, quantity, second] for price, quantity in bids],
    }


def since_ms(since: str | None) -> int:
    """The ``since`` of Trades: seconds or nanoseconds, by its size."""
    if since is None or not since.isdecimal():
        return 0
    value = int(since)
    return value // 1_000_000 if value > 10**14 else value * 1000


def trades(rows: Iterable[TapeTrade], rules: SymbolRules) -> JSON:
    prices, steps = 10**rules.price_decimals, 10**rules.quantity_decimals
    return [
        [
            f"{trade.price_ticks / prices:.{rules.price_decimals}f}",
            f"{trade.steps / steps:.8f}",
            trade.at_ms / 1000,
            "b" if trade.taker_buys else "s",
            "l",
            "",
            trade.trade_id,
        ]
        for trade in rows
    ]


def trade_volume(symbols: Iterable[str], venue: VenueRules) -> JSON:
    def fees(rate_bps: Decimal) -> JSON:
        percent = f"{rate_bps / 100:.4f}"
        fee: JSON = {"fee": percent, "minfee": percent, "maxfee": percent}
        fee |= {"nextfee": None, "nextvolume": None, "tiervolume": "0.0000"}
        return {pair_id(symbol): fee for symbol in symbols}

    symbols = list(symbols)
    return {
        "currency": "ZUSD",
        "volume": "0.0000",
        "fees": fees(venue.taker_fee_bps),
        "fees_maker": fees(venue.maker_fee_bps),
    }


def _txid(letter: str, number: int) -> str:
    """An id of Kraken's form, ``OABCDE-FGHIJ-KLMNOP``: a letter and 16 digits of base 36."""
    value, digits = number * _ID_STEP % _ID_RANGE, ""
    for _ in range(16):
        value, digit = divmod(value, 36)
        digits = _ID_DIGITS[digit] + digits
    return f"{letter}{digits[:5]}-{digits[5:10]}-{digits[10:]}"


def order_txid(order: Order) -> str:
    return _txid("O", order.order_id)


def trade_txid(fill: Fill) -> str:
    return _txid("T", fill.trade_id)


def order_id(txid: str) -> int | None:
    """The order that bears ``txid``; ``None`` for what is no order's id."""
    digits = txid[1:].replace("-", "")
    if txid[:1] != "O" or len(digits) != 16 or not digits.isalnum() or not digits.isascii():
        return None
    return int(digits, 36) * _ID_INVERSE % _ID_RANGE


def description(order: Order, volume: Decimal) -> str:
    """An order in one line, as AddOrder confirms it."""
    request = order.request
    head = f"{order.side} {text(volume)} {alt_name(order.symbol)} @ "
    if request.order_type is OrderType.MARKET:
        return head + "market"
    if request.order_type is OrderType.LIMIT:
        return f"{head}limit {request.limit_price}"
    tail = "" if request.limit_price is None else f" -> limit {request.limit_price}"
    return f"{head}stop loss {request.stop_price}{tail}"


def order(order: Order, with_trades: bool) -> JSON:
    """An order as QueryOrders, OpenOrders and ClosedOrders show it."""
    request = order.request
    prices = [price for price in (request.stop_price, request.limit_price) if price is not None]
    first, second = (*prices, Decimal(0), Decimal(0))[:2]
    average = order.average_price or Decimal(0)
    shown: JSON = {
        "refid": None,
        "userref": request.user_reference,
        "cl_ord_id": order.client_order_id,
        "status": "expired" if order.timed_out else _STATUSES[order.status],
        "opentm": order.created_ms / 1000,
        "starttm": 0,
        "expiretm": 0 if request.expires_ms is None else request.expires_ms / 1000,
        "descr": {
            "pair": alt_name(order.symbol),
            "type": order.side,
            "ordertype": _WIRE_TYPES[request.order_type],
            "price": format(first, "f"),
            "price2": format(second, "f"),
            "leverage": "none",
            "order": description(order, order.quantity),
            "close": "",
        },
        "vol": text(order.quantity),
        "vol_exec": text(order.filled_quantity),
        "cost": text(order.cost, 5),
        "fee": text(order.fees, 5),
        "price": text(average.quantize(Decimal("1e-8"), ROUND_HALF_UP), 5),
        "stopprice": text(request.stop_price or Decimal(0), 5),
        "limitprice": "0.00000",
        "misc": "stopped" if order.triggered else "",
        "oflags": "post,fciq" if request.post_only else "fciq",
        "reason": None,
    }
    if order.status is Status.EXPIRED:
        shown["reason"] = "Order expired" if order.timed_out else "Insufficient market depth"
    if order.status is Status.CANCELLED:
        shown["reason"] = "User requested"
    if not order.is_open:
        shown["closetm"] = order.updated_ms / 1000
    if with_trades:
        shown["trades"] = [trade_txid(fill) for fill in order.fills]
    return shown


def my_trade(fill: Fill, order: Order) -> JSON:
    return {
        "ordertxid": order_txid(order),
        "postxid": trade_txid(fill),
        "pair": pair_id(fill.symbol),
        "time": fill.at_ms / 1000,
        "type": fill.side,
        "ordertype": _WIRE_TYPES[order.request.order_type],
        "price": text(fill.price, 5),
        "cost": text(fill.cost, 5),
        "fee": text(fill.fee, 5),
        "vol": text(fill.quantity),
        "margin": "0.00000",
        "leverage": "0",
        "misc": "",
        "trade_id": fill.trade_id,
        "maker": fill.is_maker,
    }
