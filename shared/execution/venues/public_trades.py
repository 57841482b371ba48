"""The newest public trades of a venue, read from its own answer.

ccxt's requests, without its unified trade of twenty fields: a minute reads some hundred trades of
each symbol, and that took more time than the rest of the scan together. Sources: Binance,
"Compressed/Aggregate trades list" (``m``: the buyer was the maker); Coinbase Advanced, "Get public
market trades" (``side`` is the resting order's, as its Exchange documents it: a buy is a
down-tick); Kraken, "Get recent trades" (``b`` or ``s`` of the taker, the trade's number last).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from shared.market.types import PublicTrade

_COINBASE_MOST = 1_000

Reader = Callable[[Any, str, int], list[PublicTrade]]


def _binance(client: Any, symbol: str, limit: int) -> list[PublicTrade]:
    request = {"symbol": client.market(symbol)["id"], "limit": limit}
    return [
        PublicTrade(
            int(row["T"]),
            "sell" if row["m"] else "buy",
            _positive("p", row["p"]),
            _positive("q", row["q"]),
            int(row["a"]),
        )
        for row in client.publicGetAggTrades(request)
    ]


def _coinbase(client: Any, symbol: str, limit: int) -> list[PublicTrade]:
    request = {"product_id": client.market(symbol)["id"], "limit": min(limit, _COINBASE_MOST)}
    answer = client.v3PublicGetBrokerageMarketProductsProductIdTicker(request)
    takers = {"BUY": "sell", "SELL": "buy"}
    return [
        PublicTrade(
            _milliseconds(client.parse8601(row["time"])),
            takers[row["side"]],  # type: ignore[arg-type]
            _positive("price", row["price"]),
            _positive("size", row["size"]),
            _number(row["trade_id"]),
        )
        for row in answer["trades"]
        if row["side"] in takers
    ]


def _kraken(client: Any, symbol: str, limit: int) -> list[PublicTrade]:
    pair = client.market(symbol)["id"]
    answer = client.publicGetTrades({"pair": pair, "count": limit})["result"]
    return [
        PublicTrade(
            round(1000 * _positive("time", row[2])),
            {"b": "buy", "s": "sell"}[row[3]],  # type: ignore[arg-type]
            _positive("price", row[0]),
            _positive("volume", row[1]),
            int(row[6]) if len(row) > 6 else None,
        )
        for row in answer[pair]
    ]


READERS: dict[str, Reader] = {
    "binance": _binance,
    "binanceus": _binance,
    "coinbase": _coinbase,
    "kraken": _kraken,
}
"""By venue: client, symbol and how many are wanted, to trades with the taker's side, oldest first
as far as the venue says them so.

Raises:
    KeyError, TypeError, ValueError: the answer is not what the venue documents.
"""


def newest(venue: str, client: Any, symbol: str, limit: int) -> list[PublicTrade]:
    """At most ``limit`` of the newest trades, oldest first. Raises as ``READERS`` do."""
    trades = READERS[venue](client, symbol, limit)
    trades.sort(key=lambda trade: (trade.at_ms, trade.trade_id or 0))
    return trades[-limit:]


def _positive(field: str, value: Any) -> float:
    number = float(value)
    if not (number > 0 and math.isfinite(number)):
        raise ValueError(f"{field}: expected > 0, was {value!r}")
    return number


def _number(trade_id: str) -> int | None:
    return int(trade_id) if trade_id.isdecimal() else None


def _milliseconds(moment: int | None) -> int:
    if moment is None:
        raise ValueError("time: expected ISO 8601, was something else")
    return int(moment)
