"""A venue's whole listing in one look, without ccxt's market objects.

The universe is chosen among all symbols of a quote currency. ``load_markets`` would build an object
of 60 fields for each market of the venue, 120 MiB of them; the raw answers of ccxt's own endpoints
are read and left at once, and what stays is a small record a symbol.

What the venues tell, as ccxt 4.5.90 reaches it (``fetch_tickers`` has the same sources, but needs
the market objects first):

- Binance, Binance US: ``ticker/24hr`` without a symbol tells turnover in quote, best bid and ask of
  all symbols (weight 80), and nothing of their state: what does not trade has neither turnover nor
  bid. ``exchangeInfo`` of the most traded ones tells their state (weight 20).
- Kraken: ``Ticker`` without a pair tells volume in base, its average price, best bid and ask;
  ``AssetPairs`` names and state.
- Coinbase: ``market/products`` tells turnover in quote and state, and neither bid nor ask: they are
  asked for a symbol at a time, from its book.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from shared.execution.venues.answers import recorder_of

DAY_MS = 86_400_000
_STATES_ASKED = 150  # symbols of one exchangeInfo: the address stays below 4 kB


@dataclass(frozen=True)
class Listed:
    """A symbol as its venue lists it now. ``None`` is not told.

    Attributes:
        market_id: the venue's own name of it.
        active: it can be traded now, as far as the venue tells.
        quote_volume: turnover of 24 hours in quote currency.
    """

    symbol: str
    market_id: str
    active: bool
    quote_volume: float | None
    bid: float | None
    ask: float | None


class ListingDialect(Protocol):
    """How one venue is asked for its listing and a symbol's days."""

    def listing(self, client: Any, quote: str) -> list[Listed]:
        """All symbols against ``quote``. Malformed answers raise as ccxt's parsers do."""

    def days(self, client: Any, market_id: str, count: int, now_ms: int) -> list[list[float]]:
        """``[open_ms, close]`` of the newest daily candles, oldest first, the open one last."""

    def best(self, client: Any, market_id: str) -> tuple[float | None, float | None]:
        """Best bid and ask."""


class BinanceListing:
    """Binance and Binance US."""

    def listing(self, client: Any, quote: str) -> list[Listed]:
        found = list(self._tickers(client.publicGetTicker24hr(), client, quote))
        found.sort(key=lambda listed: -(listed.quote_volume or 0))
        asked = [listed.market_id for listed in found[:_STATES_ASKED] if listed.active]
        if not asked:
            return found
        trading = self._trading(client, asked)
        halted = set(asked) - trading
        return [_inactive(one) if one.market_id in halted else one for one in found]

    def days(self, client: Any, market_id: str, count: int, now_ms: int) -> list[list[float]]:
        rows = client.publicGetKlines({"symbol": market_id, "interval": "1d", "limit": count})
        return [[float(row[0]), _positive(row[4])] for row in rows]

    def best(self, client: Any, market_id: str) -> tuple[float | None, float | None]:
        answer = client.publicGetTickerBookTicker({"symbol": market_id})
        return _number(answer["bidPrice"]), _number(answer["askPrice"])

    def _tickers(self, rows: Any, client: Any, quote: str) -> Iterator[Listed]:
        for row in rows:
            name = str(row["symbol"])
            base = name.removesuffix(quote)
            if not base or base == name:
                continue
            volume, bid, ask = (
                _number(row[field]) for field in ("quoteVolume", "bidPrice", "askPrice")
            )
            symbol = f"{client.safe_currency_code(base)}/{quote}"
            yield Listed(symbol, name, bool(volume and bid and ask), volume, bid, ask)

    def _trading(self, client: Any, market_ids: list[str]) -> set[str]:
        asked = {"symbols": json.dumps(market_ids, separators=(",", ":"))}
        answer = client.publicGetExchangeInfo(asked | {"showPermissionSets": "false"})
        return {row["symbol"] for row in answer["symbols"] if row["status"] == "TRADING"}


class KrakenListing:
    """Kraken spot."""

    def listing(self, client: Any, quote: str) -> list[Listed]:
        pairs = client.publicGetAssetPairs()["result"]
        names = {
            key: (client.safe_currency_code(pair["base"]), pair["status"] == "online")
            for key, pair in pairs.items()
            if client.safe_currency_code(pair["quote"]) == quote
            and pair.get("aclass_base", "currency") == "currency"
        }
        tickers = client.publicGetTicker()["result"]
        return [
            self._listed(f"{base}/{quote}", key, online, tickers.get(key))
            for key, (base, online) in names.items()
        ]

    def days(self, client: Any, market_id: str, count: int, now_ms: int) -> list[list[float]]:
        answer = client.publicGetOHLC({"pair": market_id, "interval": 1440})["result"]
        (rows,) = [value for key, value in answer.items() if key != "last"]
        return [[float(row[0]) * 1000, _positive(row[4])] for row in rows[-count:]]

    def best(self, client: Any, market_id: str) -> tuple[float | None, float | None]:
        (row,) = client.publicGetTicker({"pair": market_id})["result"].values()
        return _number(row["b"][0]), _number(row["a"][0])

    def _listed(self, symbol: str, key: str, online: bool, row: Any) -> Listed:
        if row is None:
            return Listed(symbol, key, online, None, None, None)
        volume, price = _number(row["v"][1]), _number(row["p"][1])
        turnover = None if volume is None or price is None else volume * price
        return Listed(symbol, key, online, turnover, _number(row["b"][0]), _number(row["a"][0]))


class CoinbaseListing:
    """Coinbase Advanced Trade."""

    def listing(self, client: Any, quote: str) -> list[Listed]:
        answer = client.v3PublicGetBrokerageMarketProducts({"product_type": "SPOT"})
        return [
            Listed(
                f"{client.safe_currency_code(row['base_currency_id'])}/{quote}",
                str(row["product_id"]),
                _is_open(row),
                _number(row.get("approximate_quote_24h_volume")),
                None,
                None,
            )
            for row in answer["products"]
            if row["quote_currency_id"] == quote
        ]

    def days(self, client: Any, market_id: str, count: int, now_ms: int) -> list[list[float]]:
        start = (now_ms - count * DAY_MS) // 1000
        answer = client.v3PublicGetBrokerageMarketProductsProductIdCandles(
            {
                "product_id": market_id,
                "granularity": "ONE_DAY",
                "start": str(start),
                "end": str(now_ms // 1000),
            }
        )
        rows = [[float(row["start"]) * 1000, _positive(row["close"])] for row in answer["candles"]]
        return sorted(rows)

    def best(self, client: Any, market_id: str) -> tuple[float | None, float | None]:
        asked = {"product_id": market_id, "limit": 1}
        book = client.v3PublicGetBrokerageMarketProductBook(asked)["pricebook"]
        sides = (book["bids"], book["asks"])
        bid, ask = (_number(side[0]["price"]) if side else None for side in sides)
        return bid, ask


LISTINGS: dict[str, ListingDialect] = {
    "binance": BinanceListing(),
    "binanceus": BinanceListing(),
    "kraken": KrakenListing(),
    "coinbase": CoinbaseListing(),
}


def forget_last_answer(client: Any) -> None:
    """Let go of the text of a listing, which ccxt and the recorder of answers would hold on to."""
    client.last_http_response = None
    recorder_of(client).last = None


def _is_open(row: dict[str, Any]) -> bool:
    closed = ("is_disabled", "trading_disabled", "cancel_only", "auction_mode", "view_only")
    return row["status"] == "online" and not any(row.get(name) for name in closed)


def _inactive(listed: Listed) -> Listed:
    return Listed(
        listed.symbol, listed.market_id, False, listed.quote_volume, listed.bid, listed.ask
    )


def _number(value: Any) -> float | None:
    """A finite number above 0, or ``None``: venues tell 0 or nothing where there is none."""
    if value is None or value == "":
        return None
    number = float(value)
    return number if math.isfinite(number) and number > 0 else None


def _positive(value: Any) -> float:
    number = _number(value)
    if number is None:
        raise ValueError(f"close: expected a number above 0, was {value!r}")
    return number
