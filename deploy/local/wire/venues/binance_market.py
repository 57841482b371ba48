"""Binance spot: what needs no key."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from deploy.local.wire.checks import COLLAR_MINUTES
from deploy.local.wire.feed import MINUTE_MS
from deploy.local.wire.orders import Reason, Refused
from deploy.local.wire.rules import SymbolRules, VenueName
from deploy.local.wire.venues import binance_json as shape
from deploy.local.wire.venues.base import (
    JSON,
    ApiError,
    Params,
    Personality,
    dump,
    integer,
    text,
)

MOST_CANDLES = 1000
MOST_LEVELS = 5000
MOST_TRADES = 1000


def failure(status: int, code: int, message: str) -> ApiError:
    """An error in Binance's form."""
    return ApiError(status, {"code": code, "msg": message})


class BinanceMarket(Personality):
    """Symbols, candles, books, trades and tickers."""

    name: VenueName = "binance"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._symbols = {symbol.replace("/", ""): symbol for symbol in self.exchange.rules}
        self._public: dict[tuple[str, str], Callable[[Params], bytes]] = {
            ("GET", "/api/v3/ping"): lambda _: b"{}",
            ("GET", "/api/v3/time"): lambda _: dump({"serverTime": self.clock_ms}),
            ("GET", "/api/v3/exchangeInfo"): self._exchange_info,
            ("GET", "/api/v3/klines"): self._klines,
            ("GET", "/api/v3/depth"): self._depth,
            ("GET", "/api/v3/trades"): self._trades,
            ("GET", "/api/v3/aggTrades"): self._agg_trades,
            ("GET", "/api/v3/ticker/24hr"): self._ticker_24hr,
            ("GET", "/api/v3/ticker/bookTicker"): self._book_ticker,
            ("GET", "/api/v3/ticker/price"): self._ticker_price,
            ("GET", "/api/v3/avgPrice"): self._average_price,
            ("GET", "/api/v3/referencePrice"): self._reference_price,
            ("GET", "/sapi/v1/system/status"): lambda _: dump(self._system_status()),
            ("GET", "/fapi/v1/exchangeInfo"): lambda _: b'{"symbols":[]}',
            ("GET", "/dapi/v1/exchangeInfo"): lambda _: b'{"symbols":[]}',
        }

    def _symbol(self, params: Params) -> str:
        given = params.get("symbol", "")
        try:
            return self._symbols[given]
        except KeyError:
            raise Refused(Reason.UNKNOWN_SYMBOL, given) from None

    def _rules(self, params: Params) -> SymbolRules:
        return self.exchange.rules[self._symbol(params)]

    def _several(self, params: Params) -> list[str]:
        """The symbols that ``symbols`` names; all where it is absent."""
        if "symbols" not in params:
            return list(self.exchange.rules)
        try:
            names = json.loads(params["symbols"])
        except ValueError:
            raise Refused(Reason.BAD_PARAMETER, "symbols: expected a JSON list") from None
        return [self._symbol({"symbol": name}) for name in names]

    def _system_status(self) -> JSON:
        offline = self.exchange.conditions.status == "maintenance"
        return {"status": int(offline), "msg": "system_maintenance" if offline else "normal"}

    def _exchange_info(self, params: Params) -> bytes:
        exchange = self.exchange
        return self.kept(
            "exchangeInfo",
            lambda: shape.exchange_info(
                exchange.rules.values(),
                status=exchange.conditions.status,
                collar=exchange.checks.collar(),
                venue=exchange.venue,
                now_ms=self.clock_ms,
            ),
        )

    def _klines(self, params: Params) -> bytes:
        symbol, interval = self._symbol(params), params.get("interval", "")
        if interval not in shape.INTERVALS:
            raise failure(400, -1120, "Invalid interval.")
        limit = max(1, integer(params, "limit", 500, most=MOST_CANDLES))
        key = ("klines", symbol, interval, limit, params.get("startTime"), params.get("endTime"))
        return self.kept(key, lambda: self._klines_body(symbol, interval, limit, params))

    def _klines_body(self, symbol: str, interval: str, limit: int, params: Params) -> bytes:
        duration_ms = shape.INTERVALS[interval]
        last_open_ms = integer(params, "endTime", self.now_ms) // duration_ms * duration_ms
        end_ms = min(self.now_ms, last_open_ms + duration_ms)
        start_ms = integer(params, "startTime", 0)
        current = self.feed.open_candle(self.name, symbol, interval, self.now_ms)
        if start_ms:
            first_ms = -(-start_ms // duration_ms) * duration_ms
            end_ms = min(end_ms, first_ms + limit * duration_ms)
            limit = max(0, min(limit, (end_ms - first_ms) // duration_ms + 1))
        closed = self.feed.candles(self.name, symbol, interval, end_ms, max(1, limit))
        rows: list[list[float]] = closed.tolist()
        rows = [row for row in rows if row[0] >= start_ms]
        if current is not None and end_ms > current[0] >= start_ms:
            rows.append(current)
        return shape.klines(rows[-limit:], self.exchange.rules[symbol], duration_ms)

    def _depth(self, params: Params) -> bytes:
        symbol = self._symbol(params)
        limit = integer(params, "limit", 100, most=MOST_LEVELS)
        version = self.exchange.book(symbol).version

        def build() -> JSON:
            bids, asks = self.levels(symbol, limit)
            update_id = self.now_ms // MINUTE_MS * 1000 + version
            return {"lastUpdateId": update_id, "bids": bids, "asks": asks}

        return self.kept(("depth", symbol, limit, version), build)

    def _trades(self, params: Params) -> bytes:
        rules = self._rules(params)
        limit = integer(params, "limit", 500, most=MOST_TRADES)
        return self.kept(
            ("trades", rules.symbol, limit),
            lambda: shape.trades(self.tape.newest(rules, self.now_ms, limit), rules),
        )

    def _agg_trades(self, params: Params) -> bytes:
        rules = self._rules(params)
        limit = integer(params, "limit", 500, most=MOST_TRADES)
        start_ms = integer(params, "startTime", 0)
        return self.kept(
            ("aggTrades", rules.symbol, limit, start_ms),
            lambda: shape.agg_trades(self.tape.since(rules, start_ms, self.now_ms, limit), rules),
        )

    def _version(self) -> int:
        """Grows with every quantity that is taken out of a book."""
        return len(self.exchange.fills)

    def _ticker_24hr(self, params: Params) -> bytes:
        if "symbol" in params:
            symbol = self._symbol(params)
            return self.kept(("24hr", symbol, self._version()), lambda: self._day(symbol))
        symbols = self._several(params)
        return self.kept(
            ("24hr", tuple(symbols), self._version()), lambda: [self._day(name) for name in symbols]
        )

    def _day(self, symbol: str) -> JSON:
        rows = self.feed.candles(self.name, symbol, "1m", self.now_ms, 1440)
        return shape.ticker_24hr(rows, self.exchange.rules[symbol], self._best(symbol), self.now_ms)

    def _best(self, symbol: str) -> tuple[list[str], list[str]]:
        bids, asks = self.levels(symbol, 1)
        nothing = ["0.00000000", "0.00000000"]
        return (bids[0] if bids else nothing), (asks[0] if asks else nothing)

    def _book_ticker(self, params: Params) -> bytes:
        if "symbol" in params:
            symbol = self._symbol(params)
            return self.kept(
                ("best", symbol, self._version()),
                lambda: shape.book_ticker(symbol, self._best(symbol)),
            )
        symbols = self._several(params)
        return self.kept(
            ("best", tuple(symbols), self._version()),
            lambda: [shape.book_ticker(name, self._best(name)) for name in symbols],
        )

    def _average_price(self, params: Params) -> bytes:
        average = self.exchange.checks.average(self._symbol(params))
        return dump({"mins": COLLAR_MINUTES, "price": text(average), "closeTime": self.clock_ms})

    def _reference_price(self, params: Params) -> bytes:
        """Here the same figure; Binance takes the plain mean of the trades of as long a time."""
        symbol = self._symbol(params)
        price = text(self.exchange.checks.average(symbol))
        told = {"symbol": params["symbol"], "referencePrice": price, "timestamp": self.clock_ms}
        return dump(told)

    def _ticker_price(self, params: Params) -> bytes:
        several = "symbol" not in params
        symbols = self._several(params) if several else [self._symbol(params)]
        rows = [
            {
                "symbol": name.replace("/", ""),
                "price": f"{self.exchange.market.last(name):.8f}",
            }
            for name in symbols
        ]
        return dump(rows if several else rows[0])
