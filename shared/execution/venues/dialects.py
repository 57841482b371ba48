"""Where ccxt's unified calls do not mean the same on every venue.

Facts about ccxt 4.5.90: the unified client order id does not reach Coinbase's wire, and on Kraken
``fetch_order`` looks a client id up in the wrong field.

The fills of an order are asked for by its id, whole: by a time, Binance answers with the oldest
500 of a day and Kraken with the newest 50 of all pairs, so that a stop that rested for weeks would
never show its fills. Sources: Binance and Binance US, "Account trade list" (``orderId`` goes with
``fromId`` and ``limit``, not with a time); Coinbase Advanced, "List fills" (``order_ids``,
``cursor``); Kraken, "Query orders info" and "Query trades info" (at most 20 ids).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import timedelta
from typing import Any, Literal, Protocol

from shared.execution.types import OrderTicket
from shared.execution.venues import ccxt_loader, order_forms
from shared.execution.venues.order_forms import KRAKEN_DEADLINE, OrderForms

BINANCE_FILLS = 1_000
COINBASE_FILLS = 100
KRAKEN_FILLS = 19
"""How many fills are asked for at once. Kraken takes 20 ids, but after 20 of them ccxt asks once
more with none."""

_NO_REFERENCE_PRICE = "-2043"

_MOST_PAGES = 20  # a venue that shows the same page again and again must not hold the run up


class Dialect(Protocol):
    """The calls that need a word of their own on some venue.

    Attributes:
        protection, request_validity: as in ``base.Venue``.
        forms: the kinds of order that the venue takes.
        time_resolution_ms: how finely ccxt tells the venue's clock.
    """

    time_resolution_ms: int
    protection: Literal["stop_limit", "stop_market"]
    request_validity: timedelta
    forms: OrderForms

    def book_depth(self, wanted: int) -> int:
        """The nearest depth that the venue serves."""

    def tickers(self, client: Any, symbols: list[str]) -> dict[str, Any]:
        """Best bid and ask of ``symbols`` in one request."""

    def server_time(self, client: Any) -> int:
        """The venue's clock in milliseconds."""

    def average_price(self, client: Any, market_id: str, minutes: int) -> Any:
        """The number by which the venue judges limit prices, as it is told.

        Args:
            minutes: over which it averages by its rules; 0 for its last price.
        """

    def create_order(self, client: Any, ticket: OrderTicket) -> Any:
        """Send a ticket that ``forms`` has passed, with our client id on the wire."""

    def find_order(self, client: Any, client_order_id: str, symbol: str, since_ms: int) -> Any:
        """The order with our client id, or ``None``."""

    def open_orders(self, client: Any) -> list[Any]:
        """All resting orders of the account."""

    def fills_of(self, client: Any, venue_order_id: str, symbol: str) -> list[Any]:
        """The executions of one order: one request, on Kraken two, as long as a page holds them."""

    def balance(self, client: Any) -> Any:
        """Totals and what is free."""


class _Common(ABC):
    time_resolution_ms = 1_000
    protection: Literal["stop_limit", "stop_market"] = "stop_limit"
    request_validity: timedelta
    forms: OrderForms

    def book_depth(self, wanted: int) -> int:
        return wanted

    def tickers(self, client: Any, symbols: list[str]) -> dict[str, Any]:
        answer: dict[str, Any] = client.fetch_tickers(symbols)
        return answer

    def server_time(self, client: Any) -> int:
        return int(client.fetch_time())

    def open_orders(self, client: Any) -> list[Any]:
        answer: list[Any] = client.fetch_open_orders()
        return answer

    def balance(self, client: Any) -> Any:
        return client.fetch_balance()

    def average_price(self, client: Any, market_id: str, minutes: int) -> Any:
        raise ValueError(f"{market_id}: expected no price band, had one of {minutes} minutes")

    def create_order(self, client: Any, ticket: OrderTicket) -> Any:
        at_market = ticket.order_type == "stop_market"
        return client.create_order(
            ticket.symbol,
            "market" if at_market else "limit",
            ticket.side,
            float(ticket.quantity),
            None if at_market else float(ticket.limit_price),
            self._parameters(client, ticket) | {self.forms.client_id_field: ticket.client_order_id},
        )

    @abstractmethod
    def _parameters(self, client: Any, ticket: OrderTicket) -> dict[str, Any]:
        """What the venue wants beside symbol, side, quantity and limit, in its own names."""


class BinanceDialect(_Common):
    """Binance.

    Its price filters go by a symbol's reference price where it has one, else by the average of
    trades ("Filters", as of 2026-05-06).
    """

    has_reference_price = True

    time_resolution_ms = 1
    # recvWindow is looked at again before the matching engine, which answers within 10 s
    request_validity = timedelta(seconds=5 + 10)
    forms = OrderForms(("limit", "stop_limit"), ("IOC", "FOK", "GTC"))

    def book_depth(self, wanted: int) -> int:
        return next((depth for depth in (5, 10, 20, 50, 100, 500) if depth >= wanted), 1000)

    def tickers(self, client: Any, symbols: list[str]) -> dict[str, Any]:
        answer: dict[str, Any] = client.fetch_bids_asks(symbols)
        return answer

    def average_price(self, client: Any, market_id: str, minutes: int) -> Any:
        reference = _reference_price(client, market_id) if self.has_reference_price else None
        if reference is not None:
            return reference
        asked = {"symbol": market_id}
        if minutes == 0:
            return client.publicGetTickerPrice(asked)["price"]
        answer = client.publicGetAvgPrice(asked)
        if int(answer["mins"]) != minutes:
            raise ValueError(f"avgPrice: expected {minutes} minutes, was {answer['mins']!r}")
        return answer["price"]

    def find_order(self, client: Any, client_order_id: str, symbol: str, since_ms: int) -> Any:
        return client.fetch_order(None, symbol, {"clientOrderId": client_order_id})

    def fills_of(self, client: Any, venue_order_id: str, symbol: str) -> list[Any]:
        found: list[Any] = []
        from_id = 0
        for _ in range(_MOST_PAGES):
            page = client.fetch_order_trades(
                venue_order_id, symbol, None, BINANCE_FILLS, {"fromId": from_id}
            )
            found += page
            if len(page) < BINANCE_FILLS:
                break
            from_id = max(int(trade["id"]) for trade in page) + 1
        return found

    def _parameters(self, client: Any, ticket: OrderTicket) -> dict[str, Any]:
        return order_forms.binance(ticket)


class BinanceUSDialect(BinanceDialect):
    """Binance US, which is Binance's but for what was added there since."""

    has_reference_price = False


class KrakenDialect(_Common):
    """Kraken spot."""

    protection: Literal["stop_limit", "stop_market"] = "stop_market"
    request_validity = KRAKEN_DEADLINE
    forms = OrderForms(("limit", "stop_market"), ("IOC", "GTC", "GTD"))

    def find_order(self, client: Any, client_order_id: str, symbol: str, since_ms: int) -> Any:
        own_id = {"clientOrderId": client_order_id}
        for orders in (
            client.fetch_open_orders(symbol, None, None, own_id),
            client.fetch_closed_orders(symbol, None, None, own_id),
        ):
            for order in orders:
                if order["clientOrderId"] == client_order_id:
                    return order
        return None

    def fills_of(self, client: Any, venue_order_id: str, symbol: str) -> list[Any]:
        # ccxt's own word for it is Python's "True"
        trades = client.fetch_order(venue_order_id, symbol, {"trades": "true"})["trades"]
        ids = sorted({trade["id"] for trade in trades})
        found: list[Any] = []
        for first in range(0, len(ids), KRAKEN_FILLS):
            asked = {"trades": ids[first : first + KRAKEN_FILLS]}
            found += client.fetch_order_trades(venue_order_id, symbol, None, None, asked)
        return found

    def _parameters(self, client: Any, ticket: OrderTicket) -> dict[str, Any]:
        return order_forms.kraken(ticket, client.milliseconds())


class CoinbaseDialect(_Common):
    """Coinbase Advanced Trade."""

    request_validity = timedelta(seconds=120)  # the token of a request expires then
    forms = OrderForms(("limit", "stop_limit"), ("IOC", "FOK", "GTC", "GTD"), "client_order_id")

    def tickers(self, client: Any, symbols: list[str]) -> dict[str, Any]:
        """Its public tickers hold no bid and ask: the best prices are private, the books public."""
        if client.apiKey:
            answer: dict[str, Any] = client.fetch_bids_asks(symbols)
            return answer
        return {symbol: _best(client.fetch_order_book(symbol, 1)) for symbol in symbols}

    def find_order(self, client: Any, client_order_id: str, symbol: str, since_ms: int) -> Any:
        for order in client.fetch_orders(symbol, since_ms - 60_000, 100):
            if order["clientOrderId"] == client_order_id:
                return order
        return None

    def fills_of(self, client: Any, venue_order_id: str, symbol: str) -> list[Any]:
        found: list[Any] = []
        asked: dict[str, Any] = {"order_ids": [venue_order_id]}
        for _ in range(_MOST_PAGES):
            page = client.fetch_my_trades(symbol, None, COINBASE_FILLS, asked)
            found += page
            # ccxt writes the cursor of the next page into the page's first raw fill
            cursors = {trade["info"].get("cursor") for trade in page} - {None, ""}
            if not cursors:
                break
            asked = asked | {"cursor": cursors.pop()}
        return found

    def _parameters(self, client: Any, ticket: OrderTicket) -> dict[str, Any]:
        return order_forms.coinbase(ticket)


def _reference_price(client: Any, market_id: str) -> Any:
    """``None`` where the symbol has none now (null), or never had one (-2043)."""
    try:
        return client.publicGetReferencePrice({"symbol": market_id})["referencePrice"]
    except ccxt_loader.errors().ExchangeError as error:
        if _NO_REFERENCE_PRICE not in str(error):
            raise
        return None


def _best(book: dict[str, Any]) -> dict[str, Any]:
    return {
        "bid": book["bids"][0][0] if book["bids"] else None,
        "ask": book["asks"][0][0] if book["asks"] else None,
    }


DIALECTS: dict[str, Dialect] = {
    "binance": BinanceDialect(),
    "binanceus": BinanceUSDialect(),
    "kraken": KrakenDialect(),
    "coinbase": CoinbaseDialect(),
}
