"""The venue interface over an unmodified ccxt client.

What differs between venues is in ``dialects``; everything here holds for all of them. Answers are
validated: a 200 with an empty or foreign body raises nothing in ccxt, and must not pass for
"there is no order".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from shared import clock
from shared.calls import CallLog
from shared.errors import OrderRejected, OrderUnknown, VenueUnavailable
from shared.execution.types import (
    Balance,
    MarketRules,
    OrderStatus,
    OrderTicket,
    VenueFill,
    VenueOrder,
)
from shared.execution.venues import ccxt_loader, markets
from shared.execution.venues.dialects import Dialect
from shared.execution.venues.outcomes import definite_rejection
from shared.market.types import Book, PublicTrade, Quote

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_STATUSES: dict[str, OrderStatus] = {
    "open": "open",
    "closed": "filled",
    "canceled": "cancelled",
    "canceling": "open",
    "expired": "expired",
    "rejected": "rejected",
}


class CcxtVenue:
    """``base.Venue`` over a ccxt client; see there for what each method promises."""

    def __init__(
        self,
        name: str,
        client: Any,
        dialect: Dialect,
        catalogue: markets.Catalogue,
        calls: CallLog,
        *,
        mode: Literal["paper", "simulated", "live"] = "simulated",
    ) -> None:
        self.name = name
        self.mode = mode
        self.protection = dialect.protection
        self.request_validity = dialect.request_validity
        self._client = client
        self._dialect = dialect
        self._catalogue = catalogue
        self._calls = calls

    # Market data -------------------------------------------------------------------------------

    def rules(self, symbol: str) -> MarketRules:
        self._ensure_markets()
        return self._catalogue.rules(symbol)

    def candles(
        self, symbol: str, timeframe: str, *, since_ms: int | None, limit: int
    ) -> NDArray[np.float64]:
        import numpy as np

        self._ensure_markets()
        with self._reading("candles"):
            rows = self._client.fetch_ohlcv(symbol, timeframe, since_ms, limit)
        table = np.array(rows, dtype=np.float64)
        if table.ndim != 2 or table.shape[1] != 6:
            raise VenueUnavailable(
                f"{self.name}: candles of {symbol}: expected rows of 6 numbers, was {table.shape}"
            )
        return table

    def book(self, symbol: str, depth: int = 50) -> Book:
        self._ensure_markets()
        with self._reading("book"):
            answer = self._client.fetch_order_book(symbol, self._dialect.book_depth(depth))
        bids = tuple((float(level[0]), float(level[1])) for level in answer["bids"])
        asks = tuple((float(level[0]), float(level[1])) for level in answer["asks"])
        if not bids or not asks or bids[0][0] >= asks[0][0] or bids[0][0] <= 0:
            raise VenueUnavailable(
                f"{self.name}: book of {symbol}: expected bids below asks on both sides, "
                f"was {bids[:1]} and {asks[:1]}"
            )
        return Book(symbol, bids, asks, answer["timestamp"] or clock.now_ms())

    def trades(self, symbol: str, limit: int = 100) -> list[PublicTrade]:
        self._ensure_markets()
        with self._reading("trades"):
            answer = self._client.fetch_trades(symbol, None, limit)
        return [
            PublicTrade(
                self._present(trade, "timestamp", "trade"),
                trade["side"],
                self._positive(trade, "price", "trade"),
                self._positive(trade, "amount", "trade"),
            )
            for trade in answer
            if trade["side"] in ("buy", "sell")
        ]

    def quotes(self, symbols: Sequence[str]) -> dict[str, Quote]:
        self._ensure_markets()
        with self._reading("quotes"):
            listed = [symbol for symbol in symbols if symbol in self._client.markets]
            answer = self._dialect.tickers(self._client, listed) if listed else {}
        now_ms = clock.now_ms()
        return {
            symbol: Quote(float(ticker["bid"]), float(ticker["ask"]), now_ms)
            for symbol, ticker in answer.items()
            if symbol in listed and _proper_quote(ticker)
        }

    def server_time_ms(self) -> int:
        with self._reading("time"):
            return int(self._dialect.server_time(self._client))

    # The account -------------------------------------------------------------------------------

    def submit(self, ticket: OrderTicket) -> VenueOrder:
        errors = ccxt_loader.errors()
        self._client.last_http_response = None
        try:
            with self._calls.timed(self.name) as call:
                try:
                    answer = self._dialect.create_order(self._client, ticket)
                except errors.BaseError as error:
                    call.fail(type(error).__name__, rate_limited=_is_rate_limit(error))
                    raise
        except errors.BaseError as error:
            meaning = definite_rejection(self.name, self._venues_words(error))
            if meaning is not None:
                raise OrderRejected(f"{self.name}: {meaning}") from error
            raise OrderUnknown(f"{self.name}: {type(error).__name__}") from error
        except Exception as error:  # noqa: BLE001 - after a send nothing may pass for a rejection
            raise OrderUnknown(f"{self.name}: {type(error).__name__} after sending") from error
        venue_order_id = answer.get("id") if isinstance(answer, dict) else None
        if not isinstance(venue_order_id, str) or not venue_order_id:
            raise OrderUnknown(f"{self.name}: the answer to an order holds no order id")
        try:
            return self._order(answer)
        except (VenueUnavailable, KeyError, TypeError, ValueError, ArithmeticError):
            # The order exists; what the answer does not tell of it is asked for by its id.
            return VenueOrder(
                venue_order_id, ticket.client_order_id, ticket.symbol, ticket.side, "open",
                ticket.quantity, Decimal(0), None,
            )  # fmt: skip

    def find_order(self, client_order_id: str, symbol: str, sent_at: datetime) -> VenueOrder | None:
        errors = ccxt_loader.errors()
        self._ensure_markets()
        with self._reading("order by client id"):
            try:
                answer = self._dialect.find_order(
                    self._client, client_order_id, symbol, clock.to_ms(sent_at)
                )
            except errors.OrderNotFound:
                answer = None
        return None if answer is None else self._order(answer)

    def order(self, venue_order_id: str, symbol: str) -> VenueOrder:
        self._ensure_markets()
        with self._reading("order"):
            return self._order(self._client.fetch_order(venue_order_id, symbol))

    def cancel(self, venue_order_id: str, symbol: str) -> None:
        with self._reading("cancel"):
            self._client.cancel_order(venue_order_id, symbol)

    def open_orders(self, symbols: Sequence[str]) -> list[VenueOrder]:
        self._ensure_markets()
        with self._reading("open orders"):
            answers = self._dialect.open_orders(self._client)
            return [self._order(answer) for answer in answers if answer["symbol"] in symbols]

    def fills(self, symbol: str, since: datetime) -> list[VenueFill]:
        self._ensure_markets()
        with self._reading("fills"):
            answers = self._client.fetch_my_trades(symbol, clock.to_ms(since))
            return [self._fill(answer) for answer in answers]

    def balances(self) -> dict[str, Balance]:
        with self._reading("balances"):
            answer = self._dialect.balance(self._client)
            if not isinstance(answer.get("total"), dict) or not answer["total"]:
                raise VenueUnavailable(f"{self.name}: balances: expected currencies, was nothing")
            return {
                currency: Balance(_decimal(total), _decimal(answer["free"].get(currency) or 0))
                for currency, total in answer["total"].items()
                if total is not None
            }

    # Answers -----------------------------------------------------------------------------------

    def _order(self, answer: dict[str, Any]) -> VenueOrder:
        status = _STATUSES.get(str(answer["status"]))
        quantity, filled = answer["amount"], answer["filled"]
        if status is None or not answer["id"] or filled is None:
            raise VenueUnavailable(
                f"{self.name}: order: expected id, status and filled quantity, was "
                f"id={answer['id']!r}, status={answer['status']!r}, filled={filled!r}"
            )
        filled_quantity = _decimal(filled)
        if status == "filled" and quantity is not None and filled_quantity < _decimal(quantity):
            # ccxt calls everything that is over "closed" on some venues
            status = "cancelled"
        average = answer["average"]
        return VenueOrder(
            str(answer["id"]),
            answer["clientOrderId"],
            answer["symbol"],
            answer["side"],
            status,
            _decimal(quantity if quantity is not None else filled),
            filled_quantity,
            _decimal(average) if average and filled_quantity > 0 else None,
        )

    def _fill(self, answer: dict[str, Any]) -> VenueFill:
        fee = answer.get("fee") or {}
        if fee.get("cost") is None or not fee.get("currency"):
            raise VenueUnavailable(f"{self.name}: fill: expected a fee with currency, was {fee!r}")
        liquidity: Literal["maker", "taker"] | None = (
            answer["takerOrMaker"] if answer["takerOrMaker"] in ("maker", "taker") else None
        )
        return VenueFill(
            str(self._present(answer, "id", "fill")),
            str(self._present(answer, "order", "fill")),
            answer["symbol"],
            answer["side"],
            _decimal(self._positive(answer, "price", "fill")),
            _decimal(self._positive(answer, "amount", "fill")),
            _decimal(fee["cost"]),
            fee["currency"],
            liquidity,
            clock.from_ms(self._present(answer, "timestamp", "fill")),
        )

    def _venues_words(self, error: Exception) -> str:
        """The venue's own answer to the order; ccxt keeps only a part of it in its messages."""
        answered = not isinstance(error, ccxt_loader.errors().NetworkError)
        body = self._client.last_http_response if answered else None
        return f"{error} {body}" if body else str(error)

    def _present(self, answer: dict[str, Any], field: str, what: str) -> Any:
        if answer.get(field) is None:
            raise VenueUnavailable(f"{self.name}: {what}: expected {field}, was nothing")
        return answer[field]

    def _positive(self, answer: dict[str, Any], field: str, what: str) -> float:
        value = float(self._present(answer, field, what))
        if not math.isfinite(value) or value <= 0:
            raise VenueUnavailable(f"{self.name}: {what}: {field}: expected > 0, was {value}")
        return value

    def _ensure_markets(self) -> None:
        if not self._catalogue.loaded:
            with self._reading("markets"):
                self._catalogue.ensure()

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        errors = ccxt_loader.errors()
        with self._calls.timed(self.name) as call:
            try:
                yield
            except errors.BaseError as error:
                call.fail(type(error).__name__, rate_limited=_is_rate_limit(error))
                raise VenueUnavailable(f"{self.name}: {what}: {type(error).__name__}") from error
            except (
                KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError,
            ) as error:  # fmt: skip
                call.fail("malformed answer")
                raise VenueUnavailable(f"{self.name}: {what}: malformed answer") from error


def _is_rate_limit(error: Exception) -> bool:
    errors = ccxt_loader.errors()
    return isinstance(error, errors.RateLimitExceeded | errors.DDoSProtection)


def _proper_quote(ticker: dict[str, Any]) -> bool:
    bid, ask = ticker.get("bid"), ticker.get("ask")
    return bid is not None and ask is not None and 0 < float(bid) < float(ask)


def _decimal(value: Any) -> Decimal:
    return Decimal(str(value))
