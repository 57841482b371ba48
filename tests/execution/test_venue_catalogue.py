"""The markets of a venue cross the network seldom, with Redis or without it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from shared.cache import Cache
from shared.calls import CallLog
from shared.execution.venues.markets import Catalogue
from shared.ledger.connection import Ledger
from tests.conftest import VirtualClock

BTC, ETH = "BTC/USDT", "ETH/USDT"


class Listing:
    """A venue that counts how often all its markets are asked for."""

    def __init__(self) -> None:
        self.loads = 0

    def _load(self) -> dict[str, Any]:
        self.loads += 1
        return {symbol: {"symbol": symbol} for symbol in (BTC, ETH, "DOGE/USDT")}

    def cold(self, *, api_key: str | None = None) -> Any:
        """The client of a new process."""
        client = SimpleNamespace(
            markets=None, apiKey=api_key, load_markets=self._load, has={"fetchTradingFees": False}
        )
        client.set_markets = lambda markets: setattr(
            client, "markets", {market["symbol"]: market for market in markets}
        )
        return client


def start_cold(
    listing: Listing,
    ledger: Ledger | None,
    redis_url: str | None,
    symbols: tuple[str, ...] = (BTC,),
    api_key: str | None = None,
) -> dict[str, Any]:
    """What a new process knows after it has made sure of its markets."""
    client = listing.cold(api_key=api_key)
    store = Cache(redis_url, "test", CallLog())
    known = None if ledger is None else (lambda: ledger)
    Catalogue("kraken", client, symbols, store, known).ensure()
    markets: dict[str, Any] = client.markets
    return markets


@pytest.mark.parametrize("stores", ["both", "redis only", "ledger only"])
def test_cold_processes_share_one_load_of_six_hours(
    ledger: Ledger, redis_url: str, virtual_clock: VirtualClock, stores: str
) -> None:
    listing = Listing()
    known = None if stores == "redis only" else ledger
    address = None if stores == "ledger only" else redis_url
    seen = [start_cold(listing, known, address) for _ in range(5)]
    assert listing.loads == 1
    assert all(markets == seen[0] for markets in seen)
    assert set(seen[0]) == {BTC}
    assert seen[0][BTC]["taker"] == 0.004


def test_redis_is_filled_again_from_the_ledger(
    ledger: Ledger, redis_url: str, virtual_clock: VirtualClock
) -> None:
    listing = Listing()
    start_cold(listing, ledger, None)
    start_cold(listing, ledger, redis_url)
    start_cold(listing, None, redis_url)
    assert listing.loads == 1


def test_the_ledgers_copy_grows_old(ledger: Ledger, virtual_clock: VirtualClock) -> None:
    listing = Listing()
    start_cold(listing, ledger, None)
    virtual_clock.advance(hours=5, minutes=59)
    start_cold(listing, ledger, None)
    assert listing.loads == 1
    virtual_clock.advance(minutes=1)
    start_cold(listing, ledger, None)
    start_cold(listing, ledger, None)
    assert listing.loads == 2


def test_an_accounts_fees_and_other_symbols_have_copies_of_their_own(
    ledger: Ledger, redis_url: str, virtual_clock: VirtualClock
) -> None:
    listing = Listing()
    start_cold(listing, ledger, redis_url)
    start_cold(listing, ledger, redis_url, api_key="key")
    assert set(start_cold(listing, ledger, redis_url, (BTC, ETH))) == {BTC, ETH}
    assert listing.loads == 3


def test_a_warm_process_asks_again_where_the_universe_has_grown(
    ledger: Ledger, virtual_clock: VirtualClock
) -> None:
    listing, store = Listing(), Cache(None, "test", CallLog())
    client = listing.cold()
    client.load_markets = _like_ccxt(listing, client)
    for symbols, loads in (((BTC,), 1), ((BTC,), 1), ((BTC, ETH), 2), ((ETH,), 2), ((), 2)):
        catalogue = Catalogue("kraken", client, symbols, store, lambda: ledger)
        catalogue.ensure()
        assert listing.loads == loads
        assert set(symbols) <= set(client.markets)
        assert catalogue.loaded


def test_a_universe_that_is_not_chosen_yet_loads_nothing(virtual_clock: VirtualClock) -> None:
    listing = Listing()
    client = listing.cold()
    Catalogue("kraken", client, (), Cache(None, "test", CallLog())).ensure()
    assert (listing.loads, client.markets) == (0, {})


def _like_ccxt(listing: Listing, client: Any) -> Any:
    """ccxt's ``load_markets`` gives back what the client has unless it is told to ask again."""

    def load_markets(reload: bool = False) -> dict[str, Any]:
        known: dict[str, Any] | None = client.markets
        return known if known and not reload else listing._load()

    return load_markets


@pytest.mark.parametrize(("told", "is_open"), [(True, True), (False, False), (None, False)])
def test_a_market_is_open_where_the_venue_says_so(told: bool | None, is_open: bool) -> None:
    market = {
        "symbol": BTC,
        "active": told,
        "precision": {"price": 0.01, "amount": 0.001},
        "limits": {"amount": {"min": 0.001}, "cost": {"min": 5}},
        "taker": 0.001,
        "maker": 0.001,
    }
    client = SimpleNamespace(markets={BTC: market})
    catalogue = Catalogue("kraken", client, (BTC,), Cache(None, "test", CallLog()))
    assert catalogue.rules(BTC).is_open is is_open
    del market["active"]
    assert not catalogue.rules(BTC).is_open
