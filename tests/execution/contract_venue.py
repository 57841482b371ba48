"""The adapters over the simulated venues, and orders for them."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from deploy.local.market.source import SourceSpec
from deploy.local.wire.client import WireProcess, key_variables, start_wire
from shared import cache, calls, clock, config
from shared.execution import intents
from shared.execution.rounding import floor_to
from shared.execution.types import OrderTicket
from shared.execution.venues import clients
from shared.execution.venues.ccxt_venue import CcxtVenue
from shared.execution.venues.dialects import DIALECTS
from shared.execution.venues.markets import Catalogue

START = datetime(2025, 5, 6, 12, tzinfo=UTC)
VENUES = ("binance", "binanceus", "coinbase", "kraken")
SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT")
BTC = "BTC/USDT"
_numbers = itertools.count(1)


def start() -> WireProcess:
    """All four venues, each with 1,000,000 USDT and some of the token that fees may be paid in."""
    return start_wire(
        SourceSpec("simulated", SYMBOLS, clock.to_ms(START), 6, 7, None),
        now_ms=clock.to_ms(START),
        balances={name: {"USDT": Decimal(1_000_000), "BNB": Decimal(100)} for name in VENUES},
        seed=7,
    )


def on_wire(name: str, wire: WireProcess) -> CcxtVenue:
    """The adapter as it is built for a replay."""
    variables = {"SIMULATED_WIRE_URL": wire.base_url, "VENUES": ",".join(VENUES)}
    settings = config.load(variables | key_variables(wire.credentials))
    log = calls.CallLog()
    client = clients.client(settings, name)
    catalogue = Catalogue(name, client, SYMBOLS, cache.Cache(None, "test", log))
    return CcxtVenue(name, client, DIALECTS[name], catalogue, log)


def price(venue: CcxtVenue, side: str, factor: str) -> Decimal:
    """A multiple of the best bid (or ask, to buy), on the venue's grid."""
    book = venue.book(BTC)
    best = book.asks[0][0] if side == "buy" else book.bids[0][0]
    return floor_to(Decimal(str(best)) * Decimal(factor), venue.rules(BTC).price_tick)


def ticket(
    venue: CcxtVenue, side: str = "buy", quantity: str = "0.01", **changes: object
) -> OrderTicket:
    """An immediate-or-cancel order that fills, changed as a test wants it."""
    made = OrderTicket(
        client_order_id=intents.client_order_id(f"{venue.name}{next(_numbers)}"),
        venue=venue.name,
        symbol=BTC,
        side=side,  # type: ignore[arg-type]
        order_type="limit",
        time_in_force="IOC",
        quantity=Decimal(quantity),
        limit_price=price(venue, side, "1.002" if side == "buy" else "0.998"),
    )
    return replace(made, **changes)  # type: ignore[arg-type]
