"""What the system asks of a venue."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, Protocol

from shared.execution.types import Balance, MarketRules, Mode, OrderTicket, VenueFill, VenueOrder
from shared.execution.venues.listings import Listed
from shared.market.types import Book, PublicTrade, Quote

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class PublicVenue(Protocol):
    """Market data. Every call raises ``VenueUnavailable`` where the answer is missing or wrong."""

    name: str

    def rules(self, symbol: str) -> MarketRules:
        """Tick, step, minimums and fees; from the cache, seldom from the network."""

    def candles(
        self, symbol: str, timeframe: str, *, since_ms: int | None, limit: int
    ) -> NDArray[np.float64]:
        """Rows ``[open_ms, open, high, low, close, volume]``, oldest first.

        The last row may be the candle that is still open. Venues cap ``limit``: Binance 1,000,
        Kraken 720, Coinbase 300.
        """

    def book(self, symbol: str, depth: int = 50) -> Book:
        """The order book, best level first, never crossed, never empty on a side."""

    def trades(self, symbol: str, limit: int = 100) -> list[PublicTrade]:
        """The newest public trades, oldest first."""

    def quotes(self, symbols: Sequence[str]) -> dict[str, Quote]:
        """Best bid and ask of several symbols in one request; absent symbols are left out."""

    def average_price(self, symbol: str) -> Decimal:
        """What the ends of ``rules.price_band`` are multiples of: the venue's own average, now."""

    def server_time_ms(self) -> int:
        """The venue's clock."""

    # Of any symbol of the venue, traded here or not, by the venue's own name of it

    def listing(self, quote_currency: str) -> list[Listed]:
        """All symbols against ``quote_currency``: for the choice of the universe, once a day."""

    def daily_closes(self, market_id: str, count: int) -> list[list[float]]:
        """``[open_ms, close]`` of the newest ``count`` days, oldest first, the open one last."""

    def best_of(self, market_id: str) -> tuple[float | None, float | None]:
        """Best bid and ask; ``None`` for a side that is empty."""


class Venue(PublicVenue, Protocol):
    """A venue on which this pod has an account.

    Attributes:
        mode: where orders end.
        protection: the kind of stop order that rests here for a position.
        request_validity: after this time a request that was sent can no longer make an order.
    """

    mode: Mode
    protection: Literal["stop_limit", "stop_market"]
    request_validity: timedelta

    def submit(self, ticket: OrderTicket) -> VenueOrder:
        """Send an order once.

        Raises:
            OrderRejected: the venue has definitely refused it.
            OrderUnknown: anything else went wrong after the first byte could have left.
        """

    def find_order(self, client_order_id: str, symbol: str, sent_at: datetime) -> VenueOrder | None:
        """Look an order up by our own id; ``None`` where the venue shows none by that id."""

    def order(self, venue_order_id: str, symbol: str) -> VenueOrder:
        """The present state of an acknowledged order."""

    def cancel(self, venue_order_id: str, symbol: str) -> None:
        """Ask for a cancel. Whether it came in time is seen by ``order``."""

    def open_orders(self, symbols: Sequence[str]) -> list[VenueOrder]:
        """All resting orders on ``symbols``, ours or not."""

    def fills(self, symbol: str, since: datetime) -> list[VenueFill]:
        """Our executions in ``symbol`` since a time, whoever ordered them, oldest first.

        One page of them, as long as the venue makes it: enough to find what nobody expected in the
        last minutes, and no proof of what happened in the last weeks.
        """

    def fills_of(self, order: VenueOrder) -> list[VenueFill]:
        """All executions of one order that the venue shows, however old, oldest first."""

    def balances(self) -> dict[str, Balance]:
        """What the account holds, by currency."""
