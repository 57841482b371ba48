"""Kraken spot: what needs no key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deploy.local.wire.orders import Reason, Refused
from deploy.local.wire.rules import SymbolRules
from deploy.local.wire.venues import kraken_json as shape
from deploy.local.wire.venues.base import JSON, Params, Personality, dump, integer

MOST_CANDLES = 720
MOST_LEVELS = 500
MOST_TRADES = 1000
_INTERVALS = {"1": "1m", "5": "5m", "15": "15m", "60": "1h", "240": "4h", "1440": "1d"}


def wrapped(result: JSON) -> JSON:
    """A result in the envelope that every answer of Kraken has."""
    return {"error": [], "result": result}


class KrakenMarket(Personality):
    """Assets, pairs, candles, books, trades and tickers."""

    name = "kraken"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._pairs: dict[str, str] = {}
        for symbol in self.exchange.rules:
            names = (shape.pair_id(symbol), shape.alt_name(symbol), shape.ws_name(symbol))
            self._pairs.update(dict.fromkeys(names, symbol))
        self._public: dict[str, Callable[[Params], bytes]] = {
            "Time": lambda _: dump(wrapped(shape.server_time(self.clock_ms))),
            "SystemStatus": lambda _: dump(
                wrapped(shape.system_status(self.exchange.conditions.status, self.clock_ms))
            ),
            "Assets": lambda _: self.kept("Assets", lambda: wrapped(self._assets())),
            "AssetPairs": self._asset_pairs,
            "Ticker": self._ticker,
            "OHLC": self._ohlc,
            "Depth": self._depth,
            "Trades": self._trades,
        }

    def _symbol(self, name: str) -> str:
        try:
            return self._pairs[name]
        except KeyError:
            raise Refused(Reason.UNKNOWN_SYMBOL, name) from None

    def _rules(self, params: Params) -> SymbolRules:
        return self.exchange.rules[self._symbol(params.get("pair", ""))]

    def _several(self, params: Params) -> list[str]:
        """The symbols that ``pair`` names, divided by commas; all where it is absent."""
        names = params.get("pair")
        if not names:
            return list(self.exchange.rules)
        return [self._symbol(name) for name in names.split(",")]

    def _assets(self) -> JSON:
        names = {part for symbol in self.exchange.rules for part in symbol.split("/")}
        return {shape.asset_id(name): shape.asset(name) for name in sorted(names)}

    def _asset_pairs(self, params: Params) -> bytes:
        symbols = self._several(params)
        venue, status = self.exchange.venue, self.exchange.conditions.status
        return self.kept(
            ("AssetPairs", *symbols),
            lambda: wrapped(
                {
                    shape.pair_id(name): shape.asset_pair(self.exchange.rules[name], venue, status)
                    for name in symbols
                }
            ),
        )

    def _ticker(self, params: Params) -> bytes:
        symbols = self._several(params)
        return self.kept(
            ("Ticker", len(self.exchange.fills), *symbols),
            lambda: wrapped({shape.pair_id(name): self._day(name) for name in symbols}),
        )

    def _day(self, symbol: str) -> JSON:
        rows = self.feed.candles(self.name, symbol, "1m", self.now_ms, 1440)
        bids, asks = self.levels(symbol, 1)
        return shape.ticker(rows, self.exchange.rules[symbol], bids, asks, self.now_ms)

    def _ohlc(self, params: Params) -> bytes:
        rules, interval = self._rules(params), params.get("interval", "1")
        timeframe = _INTERVALS.get(interval)
        if timeframe is None:
            raise Refused(Reason.BAD_PARAMETER, "interval")
        since_ms = integer(params, "since", 0) * 1000

        def build() -> bytes:
            rows: list[list[float]] = self.feed.candles(
                self.name, rules.symbol, timeframe, self.now_ms, MOST_CANDLES
            ).tolist()
            current = self.feed.open_candle(self.name, rules.symbol, timeframe, self.now_ms)
            if current is not None:
                rows = [*rows, current][-MOST_CANDLES:]
            committed = rows if current is None else rows[:-1]
            last = int(committed[-1][0]) // 1000 if committed else 0
            return shape.ohlc([row for row in rows if row[0] > since_ms], rules, last)

        return self.kept(("OHLC", rules.symbol, interval, since_ms), build)

    def _depth(self, params: Params) -> bytes:
        rules = self._rules(params)
        count = integer(params, "count", 100, most=MOST_LEVELS)
        version = self.exchange.book(rules.symbol).version

        def build() -> JSON:
            bids, asks = self.levels(rules.symbol, count)
            return wrapped({shape.pair_id(rules.symbol): shape.depth(bids, asks, self.now_ms)})

        return self.kept(("Depth", rules.symbol, count, version), build)

    def _trades(self, params: Params) -> bytes:
        rules = self._rules(params)
        count = integer(params, "count", MOST_TRADES, most=MOST_TRADES)
        since_ms = shape.since_ms(params.get("since"))

        def build() -> JSON:
            found = self.tape.since(rules, since_ms, self.now_ms, count)
            last_ms = found[-1].at_ms if found else self.now_ms
            rows = shape.trades(found, rules)
            return wrapped({shape.pair_id(rules.symbol): rows, "last": f"{last_ms}000000"})

        return self.kept(("Trades", rules.symbol, count, since_ms), build)
