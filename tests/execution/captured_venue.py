"""The adapters as they are built for live trading, but for the address and one known market."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from deploy.local.wire.client import key_variables, make_credentials
from shared import cache, calls, config
from shared.execution import intents
from shared.execution.types import OrderTicket
from shared.execution.venues import clients
from shared.execution.venues.ccxt_venue import CcxtVenue
from shared.execution.venues.dialects import DIALECTS
from shared.execution.venues.markets import Catalogue

NOW = datetime(2025, 5, 6, 12, tzinfo=UTC)
SYMBOL = "BTC/USDT"
VENUES = ("binance", "binanceus", "coinbase", "kraken")
MARKET_IDS = {
    "binance": "BTCUSDT",
    "binanceus": "BTCUSDT",
    "coinbase": "BTC-USDT",
    "kraken": "XBTUSDT",
}
OWN_ID = intents.client_order_id("captured")
CREDENTIALS = make_credentials(5)


def settings(base_url: str) -> config.Config:
    """All venues at one address, with keys that open nothing."""
    variables = {"SIMULATED_WIRE_URL": base_url, "VENUES": ",".join(VENUES)}
    return config.load(variables | key_variables(CREDENTIALS))


def client(name: str, base_url: str) -> Any:
    """The ccxt client of a venue, which knows one market."""
    made = clients.client(settings(base_url), name)
    made.set_markets([market(MARKET_IDS[name])])
    return made


def adapter(name: str, base_url: str, **collaborators: Any) -> CcxtVenue:
    """The adapter over that client; ``traffic`` and ``time`` where a test is about them."""
    log = calls.CallLog()
    made = client(name, base_url)
    catalogue = Catalogue(name, made, (SYMBOL,), cache.Cache(None, "test", log))
    return CcxtVenue(name, made, DIALECTS[name], catalogue, log, **collaborators)


def market(market_id: str) -> dict[str, Any]:
    kinds = dict.fromkeys(
        ("margin", "swap", "future", "option", "contract", "linear", "inverse"), False
    )
    return kinds | {
        "id": market_id,
        "symbol": SYMBOL,
        "base": "BTC",
        "quote": "USDT",
        "baseId": "BTC",
        "quoteId": "USDT",
        "type": "spot",
        "spot": True,
        "active": True,
        "precision": {"price": 0.1, "amount": 0.00001},
        "limits": {
            "amount": {"min": 0.001, "max": None},
            "price": {"min": None, "max": None},
            "cost": {"min": 5, "max": None},
        },
        "taker": 0.001,
        "maker": 0.001,
        "info": {"orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS_LIMIT"]},
    }


def ticket(venue: CcxtVenue, side: str, time_in_force: str, **changes: Any) -> OrderTicket:
    made = OrderTicket(
        client_order_id=OWN_ID,
        venue=venue.name,
        symbol=SYMBOL,
        side=side,  # type: ignore[arg-type]
        order_type="limit",
        time_in_force=time_in_force,  # type: ignore[arg-type]
        quantity=Decimal("0.01"),
        limit_price=Decimal("99000.1"),
    )
    return replace(made, **changes)
