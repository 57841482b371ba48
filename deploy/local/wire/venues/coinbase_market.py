"""Coinbase Advanced Trade: products, candles, books and trades, and the v2 reference data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from deploy.local.wire.orders import Reason, Refused
from deploy.local.wire.rules import SymbolRules
from deploy.local.wire.venues import coinbase_json as shape
from deploy.local.wire.venues.base import (
    JSON,
    ApiError,
    Personality,
    dump,
    integer,
    iso_seconds,
)
from shared.market.types import TIMEFRAME_MS

MOST_CANDLES = 300
MOST_LEVELS = 500
MOST_TRADES = 1000
BROKERAGE = "/api/v3/brokerage/"

Query = Mapping[str, list[str]]
Handler = Callable[[Query, str], bytes]


class CoinbaseMarket(Personality):
    """What needs no key; most of it is also served to those who have one."""

    name = "coinbase"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._products = {shape.product_id(symbol): symbol for symbol in self.exchange.rules}
        self._public: dict[str, Handler] = {
            "/v2/time": lambda *_: dump(self._time_v2()),
            "/v2/currencies": lambda *_: dump({"data": []}),
            "/v2/currencies/crypto": lambda *_: self._currencies(),
            "/v2/exchange-rates": lambda *_: self._exchange_rates(),
            f"{BROKERAGE}time": lambda *_: dump(self._time_v3()),
            f"{BROKERAGE}market/products": self._list_products,
            f"{BROKERAGE}market/products/*": self._product,
            f"{BROKERAGE}market/products/*/ticker": self._ticker,
            f"{BROKERAGE}market/products/*/candles": self._candles,
            f"{BROKERAGE}market/product_book": self._product_book,
        }

    def _time_v2(self) -> JSON:
        return {"data": {"iso": iso_seconds(self.clock_ms), "epoch": self.clock_ms // 1000}}

    def _time_v3(self) -> JSON:
        return {
            "iso": iso_seconds(self.clock_ms),
            "epochSeconds": str(self.clock_ms // 1000),
            "epochMillis": str(self.clock_ms),
        }

    def _names(self) -> list[str]:
        return sorted({part for symbol in self.exchange.rules for part in symbol.split("/")})

    def _currencies(self) -> bytes:
        return self.kept(
            "currencies",
            lambda: {
                "data": [shape.crypto_currency(name, i) for i, name in enumerate(self._names())]
            },
        )

    def _exchange_rates(self) -> bytes:
        """One US dollar in each currency, where a tether counts as one."""

        def build() -> JSON:
            rates = {"USDT": "1"}
            for symbol in self.exchange.rules:
                base, _, quote = symbol.partition("/")
                if quote == "USDT":
                    mid = self.feed.state(self.name, symbol, self.now_ms).mid
                    rates[base] = f"{1 / mid:.16f}"
            return {"data": {"currency": "USD", "rates": rates}}

        return self.kept("exchange-rates", build)

    def _rules(self, product_id: str) -> SymbolRules:
        symbol = self._products.get(product_id)
        if symbol is None:
            raise ApiError(
                404, {"error": "NOT_FOUND", "error_details": "valid product_id is required"}
            )
        return self.exchange.rules[symbol]

    def _several(self, query: Query) -> list[SymbolRules]:
        """The products that the query names; all where it names none."""
        named = query.get("product_ids", []) + query.get("product_id", [])
        return [self._rules(name) for name in named] or list(self.exchange.rules.values())

    def _product_json(self, rules: SymbolRules) -> JSON:
        day = self.feed.candles(self.name, rules.symbol, "1m", self.now_ms, 1440)
        mid = self.feed.state(self.name, rules.symbol, self.now_ms).mid
        return shape.product(rules, day, mid, self.exchange.conditions.status)

    def _list_products(self, query: Query, _: str) -> bytes:
        if query.get("product_type", ["SPOT"]) != ["SPOT"]:
            return b'{"products":[],"num_products":0}'
        listed = self._several(query)

        def build() -> JSON:
            products = [self._product_json(rules) for rules in listed]
            return {"products": products, "num_products": len(products)}

        return self.kept(("products", *(rules.symbol for rules in listed)), build)

    def _product(self, query: Query, product_id: str) -> bytes:
        rules = self._rules(product_id)
        return self.kept(("product", rules.symbol), lambda: self._product_json(rules))

    def _ticker(self, query: Query, product_id: str) -> bytes:
        rules = self._rules(product_id)
        limit = max(1, integer_of(query, "limit", 100, MOST_TRADES))
        version = self.exchange.book(rules.symbol).version

        def build() -> JSON:
            newest = reversed(self.tape.newest(rules, self.now_ms, limit))
            bids, asks = self.levels(rules.symbol, 1)
            return {
                "trades": shape.public_trades(newest, rules),
                "best_bid": bids[0][0] if bids else "",
                "best_ask": asks[0][0] if asks else "",
            }

        return self.kept(("ticker", rules.symbol, limit, version), build)

    def _candles(self, query: Query, product_id: str) -> bytes:
        rules = self._rules(product_id)
        timeframe = shape.GRANULARITIES.get(first_of(query, "granularity", ""))
        if timeframe is None:
            raise Refused(Reason.BAD_PARAMETER, "granularity: not supported")
        start = integer_of(query, "start", 0)
        end = integer_of(query, "end", self.now_ms // 1000)
        key = ("candles", rules.symbol, timeframe, start, end)
        return self.kept(key, lambda: self._candles_body(rules, timeframe, start, end))

    def _candles_body(self, rules: SymbolRules, timeframe: str, start: int, end: int) -> bytes:
        """Newest first, from ``start`` to ``end``, both included; the newest 300 of them."""
        duration_ms = TIMEFRAME_MS[timeframe]
        start_ms, end_ms = start * 1000, end * 1000
        until_ms = min(self.now_ms, end_ms + duration_ms)
        wanted = min(MOST_CANDLES, max(1, (until_ms - start_ms) // duration_ms + 1))
        rows: list[list[float]] = self.feed.candles(
            self.name, rules.symbol, timeframe, until_ms, wanted
        ).tolist()
        current = self.feed.open_candle(self.name, rules.symbol, timeframe, self.now_ms)
        if current is not None:
            rows.append(current)
        chosen = [row for row in reversed(rows) if start_ms <= row[0] <= end_ms]
        return shape.candles(chosen[:MOST_CANDLES], rules)

    def _product_book(self, query: Query, _: str) -> bytes:
        rules = self._rules(first_of(query, "product_id", ""))
        limit = integer_of(query, "limit", MOST_LEVELS, MOST_LEVELS)
        version = self.exchange.book(rules.symbol).version

        def build() -> JSON:
            bids, asks = self.levels(rules.symbol, limit)
            return {"pricebook": shape.price_book(rules.symbol, bids, asks, self.now_ms)}

        return self.kept(("book", rules.symbol, limit, version), build)

    def _best_bid_ask(self, query: Query, _: str) -> bytes:
        listed = self._several(query)

        def build() -> JSON:
            books = [
                shape.price_book(rules.symbol, *self.levels(rules.symbol, 1), self.now_ms)
                for rules in listed
            ]
            return {"pricebooks": books}

        key = ("best", len(self.exchange.fills), *(rules.symbol for rules in listed))
        return self.kept(key, build)


def first_of(query: Query, name: str, default: str) -> str:
    values: Iterable[str] = query.get(name, ())
    return next(iter(values), default)


def integer_of(query: Query, name: str, default: int, most: int | None = None) -> int:
    given = query.get(name)
    return integer({} if not given else {name: given[0]}, name, default, most=most)
