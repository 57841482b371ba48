"""Gate's public futures endpoints: contracts with their funding, paid rates, liquidations.

Shapes: Gate API v4, "Query all futures contracts", "Futures market historical funding rate" and
"Query liquidation order history". Funding is what a recording says was paid, or a seeded rule where
it says nothing. The rate of the period under way is not known before it ends: the last one that was
paid stands for it, so that nothing of the future is told. Liquidations are seeded: a minute that
falls far, measured by its neighbours, throws out longs, and one that rises far shorts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from deploy.local.market.funding import FundingHistory
from deploy.local.market.series import Rows
from deploy.local.wire.feed import (
    CLOSE,
    CROSS_QUOTE,
    HIGH,
    LOW,
    MINUTE_MS,
    OPEN,
    OPEN_MS,
    RECENT_MINUTES,
    VOLUME,
    Feed,
    mix,
    text_key,
)
from shared.errors import DataUnavailable

PERIOD_MS = 8 * 3_600_000
MOST_ROWS = 1_000
_HOUR_MINUTES = 60
_USUAL_RATE, _RATE_AMPLITUDE = 0.0001, 0.0002
_CALM_MINUTE_SHARE = 0.05  # of calm minutes have a liquidation all the same
_FAR_SIGMAS = 1.5
_VOLUME_SHARE = 0.004  # of a minute's volume that one liquidation takes, on average
_CONTRACT_USDT = 10.0


class GateFutures:
    """Perpetuals of every coin that the feed has against USDT."""

    def __init__(self, feed: Feed, history: FundingHistory, from_ms: int) -> None:
        """``from_ms``: the prices of that time settle how much a contract holds."""
        self._feed = feed
        self._history = history
        self._from_ms = from_ms
        self._sizes: dict[str, float] = {}
        self._minutes: dict[str, dict[int, list[dict[str, Any]]]] = {}
        self._symbols = [s for s in feed.symbols if not s.endswith(f"/{CROSS_QUOTE}")]

    def answer(self, endpoint: str, query: Mapping[str, str], now_ms: int) -> tuple[int, bytes]:
        """HTTP status and body of ``GET /api/v4/futures/usdt/<endpoint>``."""
        build = {
            "contracts": self._contracts,
            "funding_rate": self._funding_rate,
            "liq_orders": self._liq_orders,
        }.get(endpoint)
        if build is None:
            return 404, b'{"label":"URL_NOT_FOUND","message":"URL not found"}'
        try:
            rows = build(query, now_ms)
        except (KeyError, ValueError) as error:
            refusal = {"label": "INVALID_PARAM_VALUE", "message": f"invalid parameter: {error}"}
            return 400, json.dumps(refusal).encode()
        except DataUnavailable as error:
            refusal = {"label": "SERVER_ERROR", "message": str(error)}
            return 500, json.dumps(refusal).encode()
        return 200, json.dumps(rows).encode()

    def _contracts(self, query: Mapping[str, str], now_ms: int) -> list[dict[str, Any]]:
        return [self._contract(symbol, now_ms) for symbol in self._symbols]

    def _contract(self, symbol: str, now_ms: int) -> dict[str, Any]:
        _, rate = self._paid(symbol, now_ms)
        price = self._feed.state("binance", symbol, now_ms).mid
        return {
            "name": _name(symbol),
            "type": "direct",
            "quanto_multiplier": f"{self._size(symbol):g}",
            "mark_type": "index",
            "last_price": f"{price:.8g}",
            "mark_price": f"{price * (1 + rate):.8g}",
            "index_price": f"{price:.8g}",
            "funding_rate": f"{rate:.8f}",
            "funding_rate_indicative": f"{rate:.8f}",
            "funding_interval": PERIOD_MS // 1000,
            "funding_offset": 0,
            "funding_next_apply": (now_ms // PERIOD_MS + 1) * PERIOD_MS // 1000,
            "in_delisting": False,
        }

    def _funding_rate(self, query: Mapping[str, str], now_ms: int) -> list[dict[str, Any]]:
        symbol, limit = _symbol(query["contract"]), int(query.get("limit", "100"))
        if symbol not in self._symbols:
            raise ValueError(query["contract"])
        rows: list[dict[str, Any]] = []
        at_ms = now_ms
        while len(rows) < limit and at_ms > self._from_ms - 30 * PERIOD_MS:
            paid_ms, rate = self._paid(symbol, at_ms)
            rows.append({"t": paid_ms // 1000, "r": f"{rate:.8f}"})
            at_ms = paid_ms - 1
        return rows

    def _liq_orders(self, query: Mapping[str, str], now_ms: int) -> list[dict[str, Any]]:
        to_s = min(int(query.get("to", now_ms // 1000)), now_ms // 1000)
        from_s = int(query.get("from", to_s - 3600))
        limit = min(int(query.get("limit", "100")), MOST_ROWS)
        wanted = query.get("contract")
        rows = [
            row
            for symbol in self._symbols
            if wanted in (None, _name(symbol))
            for row in self._liquidations(symbol, now_ms)
            if from_s <= row["time"] <= to_s
        ]
        return sorted(rows, key=lambda row: -row["time"])[:limit]

    def _paid(self, symbol: str, at_ms: int) -> tuple[int, float]:
        """When funding was paid last, and at what rate."""
        known = self._history.last(symbol.split("/")[0], at_ms)
        if known is not None:
            return known
        paid_ms = at_ms // PERIOD_MS * PERIOD_MS
        wave = self._unit(symbol, paid_ms, 0) * 2 - 1
        return paid_ms, _USUAL_RATE + _RATE_AMPLITUDE * wave

    def _liquidations(self, symbol: str, now_ms: int) -> list[dict[str, Any]]:
        newest_ms = now_ms // MINUTE_MS * MINUTE_MS
        minutes = range(newest_ms - _HOUR_MINUTES * MINUTE_MS, newest_ms, MINUTE_MS)
        known = self._minutes.get(symbol, {})
        kept = {
            open_ms: known[open_ms] if open_ms in known else self._minute(symbol, open_ms)
            for open_ms in minutes
        }
        self._minutes[symbol] = kept
        return [row for rows in kept.values() for row in rows]

    def _minute(self, symbol: str, open_ms: int) -> list[dict[str, Any]]:
        rows = self._feed.candles("binance", symbol, "1m", open_ms + MINUTE_MS, RECENT_MINUTES)
        if not len(rows) or int(rows[-1, OPEN_MS]) != open_ms:
            return []
        returns = rows[:, CLOSE] / rows[:, OPEN] - 1
        sigmas = float(returns[-1]) / (float(returns.std()) or math.inf)
        return [
            self._liquidation(symbol, rows[-1], was_long=sigmas < 0, number=number)
            for number in range(self._count(symbol, open_ms, abs(sigmas)))
        ]

    def _count(self, symbol: str, open_ms: int, sigmas: float) -> int:
        if sigmas >= _FAR_SIGMAS:
            return round(sigmas)
        return 1 if self._unit(symbol, open_ms, 1) < _CALM_MINUTE_SHARE else 0

    def _liquidation(
        self, symbol: str, row: Rows, *, was_long: bool, number: int
    ) -> dict[str, Any]:
        open_ms = int(row[OPEN_MS])
        part = -math.log1p(-self._unit(symbol, open_ms, 10 * number + 2)) * _VOLUME_SHARE
        contracts = max(1, round(float(row[VOLUME]) * part / self._size(symbol)))
        price = float(row[LOW] + row[CLOSE] if was_long else row[HIGH] + row[CLOSE]) / 2
        second = int(self._unit(symbol, open_ms, 10 * number + 3) * MINUTE_MS) // 1000
        return {
            "time": open_ms // 1000 + second,
            "contract": _name(symbol),
            "size": contracts if was_long else -contracts,
            "order_size": -contracts if was_long else contracts,
            "order_price": f"{price * (0.995 if was_long else 1.005):.8g}",
            "fill_price": f"{price:.8g}",
            "left": 0,
        }

    def _size(self, symbol: str) -> float:
        """A power of ten of coins, worth some ten USDT when the market began."""
        if symbol not in self._sizes:
            rows = self._feed.candles("binance", symbol, "1m", self._from_ms, 1)
            if not len(rows):
                raise DataUnavailable(f"{symbol}: expected a minute closed by {self._from_ms}")
            digits = math.floor(math.log10(float(rows[-1, CLOSE]) / _CONTRACT_USDT))
            self._sizes[symbol] = 10.0**-digits
        return self._sizes[symbol]

    def _unit(self, symbol: str, moment_ms: int, salt: int) -> float:
        """A number in 0..1 that depends on every part."""
        return mix(self._feed.seed, text_key("gate"), text_key(symbol), moment_ms, salt) / 2**64


def _name(symbol: str) -> str:
    return symbol.replace("/", "_")


def _symbol(name: str) -> str:
    return name.replace("_", "/")
