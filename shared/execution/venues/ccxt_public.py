"""Market data over an unmodified ccxt client, validated: ``base.PublicVenue``.

A 200 with an empty or foreign body raises nothing in ccxt, and must not pass for "nothing there".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from shared import clock
from shared.calls import Call, CallLog
from shared.errors import VenueUnavailable
from shared.execution.types import MarketRules
from shared.execution.venues import ccxt_loader, markets, outcomes, public_trades
from shared.execution.venues.answers import recorder_of
from shared.execution.venues.dialects import Dialect
from shared.execution.venues.listings import LISTINGS, Listed, forget_last_answer
from shared.execution.venues.traffic import Traffic
from shared.execution.venues.venue_time import VenueTime
from shared.market.types import Book, PublicTrade, Quote

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class CcxtPublic:
    """See ``base.PublicVenue`` for what each method promises."""

    def __init__(
        self,
        name: str,
        client: Any,
        dialect: Dialect,
        catalogue: markets.Catalogue,
        calls: CallLog,
        *,
        traffic: Traffic | None = None,
        time: VenueTime | None = None,
    ) -> None:
        """Without ``traffic`` nothing is held back; without ``time`` its clock counts as ours."""
        self.name = name
        self._client = client
        self._dialect = dialect
        self._catalogue = catalogue
        self._calls = calls
        self._traffic = traffic
        self._time = time
        self._answers = recorder_of(client)

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
            return public_trades.newest(self.name, self._client, symbol, limit)

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

    def average_price(self, symbol: str) -> Decimal:
        band = self.rules(symbol).price_band
        if band is None:
            raise VenueUnavailable(f"{self.name}: average price: {symbol} has no price band")
        with self._reading("average price"):
            market_id = self._client.market(symbol)["id"]
            price = Decimal(
                str(self._dialect.average_price(self._client, market_id, band.average_minutes))
            )
        if not price.is_finite() or price <= 0:
            raise VenueUnavailable(f"{self.name}: average price: expected > 0, was {price}")
        return price

    def server_time_ms(self) -> int:
        with self._reading("time"):
            return int(self._dialect.server_time(self._client))

    def listing(self, quote_currency: str) -> list[Listed]:
        with self._reading("listing"):
            listed = LISTINGS[self.name].listing(self._client, quote_currency)
        forget_last_answer(self._client)
        return listed

    def daily_closes(self, market_id: str, count: int) -> list[list[float]]:
        with self._reading("candles"):
            return LISTINGS[self.name].days(self._client, market_id, count, clock.now_ms())

    def best_of(self, market_id: str) -> tuple[float | None, float | None]:
        with self._reading("quotes"):
            return LISTINGS[self.name].best(self._client, market_id)

    # Calls and answers -------------------------------------------------------------------------

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        errors = ccxt_loader.errors()
        if self._traffic is not None:
            self._traffic.check(self.name, what)
        self._answers.last = None
        with self._calls.timed(self.name) as call:
            try:
                yield
            except errors.BaseError as error:
                self._note(call, error)
                raise VenueUnavailable(f"{self.name}: {what}: {type(error).__name__}") from error
            except (
                KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError,
            ) as error:  # fmt: skip
                call.fail("malformed answer")
                raise VenueUnavailable(f"{self.name}: {what}: malformed answer") from error

    def _note(self, call: Call, error: Exception) -> None:
        """What a failed call tells of the venue's health, its limits and its clock."""
        errors = ccxt_loader.errors()
        rate_limited = isinstance(error, errors.RateLimitExceeded | errors.DDoSProtection)
        call.fail(type(error).__name__, rate_limited=rate_limited)
        answer = self._answers.last
        if answer is None:
            return
        if self._traffic is not None:
            self._traffic.heed(self.name, answer.status, answer.headers)
        if self._time is not None and outcomes.blames_the_clock(self.name, answer):
            self._time.complain()

    def _ensure_markets(self) -> None:
        if not self._catalogue.loaded:
            with self._reading("markets"):
                self._catalogue.ensure()

    def _present(self, answer: dict[str, Any], field: str, what: str) -> Any:
        if answer.get(field) is None:
            raise VenueUnavailable(f"{self.name}: {what}: expected {field}, was nothing")
        return answer[field]

    def _positive(self, answer: dict[str, Any], field: str, what: str) -> float:
        value = float(self._present(answer, field, what))
        if not math.isfinite(value) or value <= 0:
            raise VenueUnavailable(f"{self.name}: {what}: {field}: expected > 0, was {value}")
        return value


def _proper_quote(ticker: dict[str, Any]) -> bool:
    bid, ask = ticker.get("bid"), ticker.get("ask")
    return bid is not None and ask is not None and 0 < float(bid) < float(ask)
