"""Which symbols a venue lists, with their grids and fees: read once, kept in the cache.

Loading all markets of a venue costs a second and 120 MiB, so a run takes the few that it trades
from Redis, or from the ledger when Redis is lost, and only a run that finds nothing asks the venue.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

from shared import clock
from shared.cache import Cache
from shared.errors import OrderRejected, VenueUnavailable
from shared.execution.types import MarketRules, OrderTicket
from shared.execution.venues import filters
from shared.ledger.connection import Ledger
from shared.market import peg
from shared.market.fees import ENTRY_TIER

_TTL_SECONDS = 6 * 3600

_KNOWN = "catalogued_symbols"  # on a client: the symbols that its markets were loaded for

# Fees may be taken in the venue's own token: its price is known, although it is not traded.
_FEE_TOKENS = {"binance": "BNB", "binanceus": "BNB"}


def check_grid(ticket: OrderTicket, rules: MarketRules) -> None:
    """Refuse what is off the venue's grid or below its minimum; ccxt would round it in silence.

    Raises:
        OrderRejected: names the field, its value and what was expected; nothing was sent.
    """
    _on_grid(ticket, "quantity", ticket.quantity, rules.quantity_step)
    if ticket.order_type != "stop_market":  # its limit price is not sent
        _on_grid(ticket, "limit_price", ticket.limit_price, rules.price_tick)
    if ticket.stop_price is not None:
        _on_grid(ticket, "stop_price", ticket.stop_price, rules.price_tick)
    if ticket.quantity < rules.min_quantity:
        raise _refused(ticket, "quantity", ticket.quantity, f"at least {rules.min_quantity}")
    notional = ticket.quantity * ticket.limit_price
    if notional < rules.min_notional:
        raise _refused(ticket, "notional", notional, f"at least {rules.min_notional}")


def _on_grid(ticket: OrderTicket, name: str, value: Decimal, grid: Decimal) -> None:
    if value <= 0 or value % grid != 0:
        raise _refused(ticket, name, value, f"a multiple of {grid} above 0")


def _refused(ticket: OrderTicket, name: str, value: object, expected: str) -> OrderRejected:
    return OrderRejected(
        f"{ticket.venue}: {ticket.symbol}: {name}: was {value}, expected {expected}; nothing sent"
    )


class Catalogue:
    """The markets that this system may touch on one venue."""

    def __init__(
        self,
        name: str,
        client: Any,
        symbols: tuple[str, ...],
        cache: Cache,
        ledger: Callable[[], Ledger] | None = None,
    ) -> None:
        """``ledger`` gives one for the calling thread; it keeps a copy beside the cache's."""
        self._name = name
        self._client = client
        self._symbols = symbols
        self._cache = cache
        self._ledger = ledger
        self._loading = threading.RLock()

    @property
    def loaded(self) -> bool:
        """Whether this process knows the markets already; waits where a thread is loading them.

        A warm process may know those of an earlier universe, in which some are lacking.
        """
        with self._loading:  # a client has its markets before it has their ids
            if not self._symbols:
                return self._client.markets is not None
            known = getattr(self._client, _KNOWN, self._symbols)
            return bool(self._client.markets) and set(self._symbols) <= set(known)

    def ensure(self) -> None:
        """Give the client its markets: from the cache, from the ledger, or else from the venue.

        All markets of a venue cross the network once in six hours, as long as one of the two
        stores is there, however many processes start cold meanwhile. Threads that ask side by side
        wait for the first of them.
        """
        with self._loading:
            if not self._symbols:
                self._client.set_markets([])  # a universe that has not been chosen yet
            elif not self.loaded:
                self._fill()
                setattr(self._client, _KNOWN, self._symbols)

    def _fill(self) -> None:
        kept = self._cache.get(self._key)
        if kept is not None:
            self._client.set_markets(json.loads(kept))
            return
        wanted = self._kept_in_ledger() or self._load()
        self._client.set_markets(wanted)
        self._cache.set(self._key, json.dumps(wanted, default=str).encode(), _TTL_SECONDS)

    @property
    def _key(self) -> str:
        """Fees differ with keys, and a replay of other symbols wants others."""
        whose = "account" if self._client.apiKey else "public"
        return f"catalogue:{self._name}:{whose}:{','.join(self._symbols)}"

    def _load(self) -> list[dict[str, Any]]:
        # ccxt gives back what it has unless it is told to ask again
        listed = self._client.load_markets(*([True] if self._client.markets else []))
        wanted = [listed[symbol] for symbol in listed if self._wanted(symbol)]
        self._add_fees(wanted)
        if self._ledger is not None:
            self._ledger().execute(
                "INSERT INTO venue_catalogues (name, markets, loaded_at) VALUES (%s, %s, %s) "
                "ON CONFLICT (name) DO UPDATE SET markets = excluded.markets, "
                "loaded_at = excluded.loaded_at",
                (self._key, json.dumps(wanted, default=str), clock.now()),
            )
        return wanted

    def _kept_in_ledger(self) -> list[dict[str, Any]] | None:
        if self._ledger is None:
            return None
        row = self._ledger().one(
            "SELECT markets FROM venue_catalogues WHERE name = %s AND loaded_at > %s",
            (self._key, clock.now() - timedelta(seconds=_TTL_SECONDS)),
        )
        return None if row is None else list(row["markets"])

    def rules(self, symbol: str) -> MarketRules:
        """The grid, minimums and fees of ``symbol``.

        Raises:
            VenueUnavailable: the venue does not list it, or leaves out what is needed.
        """
        market = self._client.markets.get(symbol)
        if market is None:
            raise VenueUnavailable(f"{self._name}: {symbol}: not listed")
        precision, limits = market["precision"], market["limits"]
        told = filters.read(market.get("info"))
        return MarketRules(
            venue=self._name,
            symbol=symbol,
            price_tick=self._number(precision["price"], symbol, "price tick"),
            quantity_step=self._number(precision["amount"], symbol, "quantity step"),
            min_quantity=Decimal(str(limits["amount"]["min"] or 0)),
            min_notional=Decimal(str((limits.get("cost") or {}).get("min") or 0)),
            taker_fee_bps=Decimal(str(market["taker"])) * 10_000,
            maker_fee_bps=Decimal(str(market["maker"])) * 10_000,
            is_open=market.get("active") is True,  # what a venue does not tell is closed
            price_band=told.price_band,
            max_orders=told.max_orders,
            max_stop_orders=told.max_stop_orders,
            unread_filters=told.unread,
        )

    def _wanted(self, symbol: str) -> bool:
        bases = {pair.split("/")[0] for pair in self._symbols}
        base, _, quote = symbol.partition("/")
        quotes = {pair.split("/")[1] for pair in self._symbols}
        takes_fees = base == _FEE_TOKENS.get(self._name) and quote in quotes
        tells_worth = any(symbol in peg.pairs(quote) for quote in quotes)
        in_universe = symbol in self._symbols or (base in bases and quote in bases)
        return in_universe or takes_fees or tells_worth

    def _add_fees(self, wanted: list[dict[str, Any]]) -> None:
        fees = self._account_fees() if self._asks_for_fees() else {}
        entry = ENTRY_TIER[self._name]
        for market in wanted:
            own = fees.get(market["symbol"]) or {}
            market["taker"] = float(own["taker"] if own.get("taker") else entry.taker_bps / 10_000)
            market["maker"] = float(own["maker"] if own.get("maker") else entry.maker_bps / 10_000)

    def _account_fees(self) -> dict[str, Any]:
        """Taker and maker fee of the account, by symbol."""
        client = self._client
        if self._name != "binanceus":
            own: dict[str, Any] = client.fetch_trading_fees()
            return own
        # For Binance US, ccxt's unified call asks a path that only Binance has.
        rows = [client.parse_trading_fee(row) for row in client.sapi_get_asset_query_trading_fee()]
        return {row["symbol"]: row for row in rows}

    def _asks_for_fees(self) -> bool:
        return bool(self._client.apiKey) and bool(self._client.has.get("fetchTradingFees"))

    def _number(self, value: Any, symbol: str, what: str) -> Decimal:
        if value is None or Decimal(str(value)) <= 0:
            raise VenueUnavailable(f"{self._name}: {symbol}: {what}: expected > 0, was {value!r}")
        return Decimal(str(value))
