"""An HTTP server on 127.0.0.1 that speaks Binance's and Kraken's public routes for one market.

Binance: https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints
(klines from ``startTime`` on, 1,000 at most). Kraken: https://docs.kraken.com/api-reference (OHLC:
the newest 720 whatever ``since`` says; Trades: 1,000 after a cursor in nanoseconds, and ``last``).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

MINUTE_MS = 60_000
START_MS = 1_746_403_200_000  # 2025-05-05 00:00 UTC, a Monday
NOW_MS = START_MS + 2 * 86_400_000


@dataclass
class Trade:
    at_ms: int
    price: float
    quantity: float


@dataclass
class Exchange:
    """What the server knows: trades, out of which it makes its candles, and its time.

    Attributes:
        fail_after: requests for candles that are answered before it starts to fail.
    """

    trades: list[Trade]
    now_ms: int
    fail_after: int | None = None
    trades_a_page: int = 1000
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def candles(self, step_ms: int) -> list[list[float]]:
        """``[open_ms, o, h, l, c, v]``, by a plain loop: independent of the code under test."""
        made: dict[int, list[float]] = {}
        for trade in self.trades:
            start = trade.at_ms // step_ms * step_ms
            if start not in made:
                made[start] = [start, trade.price, trade.price, trade.price, trade.price, 0.0]
            row = made[start]
            row[2], row[3] = max(row[2], trade.price), min(row[3], trade.price)
            row[4] = trade.price
            row[5] += trade.quantity
        return [made[start] for start in sorted(made)]

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, Any]:
        self.asked.append((path, query))
        if path.endswith(("/klines", "/OHLC", "/Trades")) and self.fail_after is not None:
            if self.fail_after == 0:
                return 503, {"msg": "Service unavailable"}
            self.fail_after -= 1
        name = path.rsplit("/", 1)[-1]
        return 200, getattr(self, f"_{name.lower()}")(query)

    def count(self, route: str) -> int:
        return sum(path.endswith(route) for path, _ in self.asked)

    def _time(self, query: dict[str, str]) -> Any:
        seconds = {"error": [], "result": {"unixtime": self.now_ms // 1000}}
        return seconds | {"serverTime": self.now_ms}

    def _exchangeinfo(self, query: dict[str, str]) -> Any:
        symbol = {
            "symbol": "BTCUSDT",
            "status": "TRADING",
            "baseAsset": "BTC",
            "quoteAsset": "USDT",
            "baseAssetPrecision": 8,
            "quotePrecision": 8,
            "orderTypes": ["LIMIT", "MARKET"],
            "isSpotTradingAllowed": True,
            "isMarginTradingAllowed": False,
            "filters": [],
            "permissions": ["SPOT"],
        }
        return {"timezone": "UTC", "symbols": [symbol]}

    def _klines(self, query: dict[str, str]) -> Any:
        step = {"1m": 1, "5m": 5, "15m": 15, "1h": 60, "4h": 240, "1d": 1440}[query["interval"]]
        since = int(query.get("startTime", 0))
        found = [row for row in self.candles(step * MINUTE_MS) if row[0] >= since]
        return [
            [int(row[0]), *[str(value) for value in row[1:]], int(row[0]) + step * MINUTE_MS - 1]
            for row in found[: int(query.get("limit", 500))]
        ]

    def _assets(self, query: dict[str, str]) -> Any:
        asset = {"aclass": "currency", "decimals": 10, "display_decimals": 5, "status": "enabled"}
        names = (("XXBT", "XBT"), ("USDT", "USDT"))
        return {"error": [], "result": {key: asset | {"altname": name} for key, name in names}}

    def _assetpairs(self, query: dict[str, str]) -> Any:
        pair = {
            "altname": "XBTUSDT",
            "wsname": "XBT/USDT",
            "base": "XXBT",
            "quote": "USDT",
            "pair_decimals": 1,
            "lot_decimals": 8,
            "cost_decimals": 8,
            "fees": [[0, 0.26]],
            "fees_maker": [[0, 0.16]],
            "ordermin": "0.0001",
            "costmin": "0.5",
            "tick_size": "0.1",
            "status": "online",
        }
        return {"error": [], "result": {"XBTUSDT": pair}}

    def _ohlc(self, query: dict[str, str]) -> Any:
        step = int(query["interval"]) * MINUTE_MS
        newest = [row for row in self.candles(step) if row[0] <= self.now_ms][-720:]
        since = int(query.get("since", 0)) * 1000
        rows = [
            [int(row[0]) // 1000, *map(str, row[1:5]), "0", str(row[5]), 1]
            for row in newest
            if row[0] > since
        ]
        return {"error": [], "result": {"XBTUSDT": rows, "last": self.now_ms // 1000}}

    def _trades(self, query: dict[str, str]) -> Any:
        since_ns = int(query["since"])
        found = [trade for trade in self.trades if trade.at_ms * 1_000_000 > since_ns]
        page = found[: self.trades_a_page]
        last = page[-1].at_ms * 1_000_000 if page else since_ns
        rows = [
            [str(t.price), str(t.quantity), t.at_ms / 1000, "b", "m", "", index]
            for index, t in enumerate(page)
        ]
        return {"error": [], "result": {"XBTUSDT": rows, "last": str(last)}}


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:  # noqa: N802 - named by the base class
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        status, answer = self.server.exchange.answer(parts.path, query)
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the tests look at ``Exchange.asked``."""
