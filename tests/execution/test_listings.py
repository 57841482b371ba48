"""A venue's whole listing: over the wire with the real client, and answers that make no sense."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import contract_venue
import pytest

from deploy.local.wire.client import WireProcess
from shared import clock
from shared.errors import VenueUnavailable
from shared.execution.venues.ccxt_venue import CcxtVenue
from shared.execution.venues.listings import DAY_MS, LISTINGS, Listed

VENUES = contract_venue.VENUES


@pytest.fixture(scope="module")
def wire() -> Iterator[WireProcess]:
    with contract_venue.start() as started:
        yield started


@pytest.fixture(autouse=True)
def market_time() -> Iterator[None]:
    clock.install(lambda: clock.to_ms(contract_venue.START))
    yield
    clock.install(None)


@pytest.fixture(params=VENUES)
def venue(request: pytest.FixtureRequest, wire: WireProcess) -> CcxtVenue:
    return contract_venue.on_wire(request.param, wire)


def test_a_listing_tells_turnover_and_state_of_every_symbol(venue: CcxtVenue) -> None:
    found = {listed.symbol: listed for listed in venue.listing("USDT")}
    assert set(contract_venue.SYMBOLS) <= set(found)
    assert all(symbol.endswith("/USDT") for symbol in found)
    btc = found["BTC/USDT"]
    assert btc.active
    assert btc.quote_volume is not None
    assert btc.quote_volume > 1e6
    book = venue.book("BTC/USDT")
    best = (btc.bid, btc.ask) if btc.bid else venue.best_of(btc.market_id)
    assert best == (book.bids[0][0], book.asks[0][0])


def test_it_needs_no_market_objects(venue: CcxtVenue) -> None:
    venue._client.markets = None
    assert venue.listing("USDT")
    assert venue._client.markets is None
    assert venue._client.last_http_response is None


def test_daily_closes_are_those_of_the_candles(venue: CcxtVenue) -> None:
    (btc,) = [one for one in venue.listing("USDT") if one.symbol == "BTC/USDT"]
    days = venue.daily_closes(btc.market_id, 182)
    assert 181 <= len(days) <= 183
    assert all(later[0] - earlier[0] == DAY_MS for earlier, later in pairwise(days))
    assert 180 <= (clock.now_ms() - days[0][0]) / DAY_MS < 183
    candles = venue.candles("BTC/USDT", "1d", since_ms=None, limit=10)
    assert days[-10:] == candles[:, [0, 4]].tolist()


def test_kraken_calls_bitcoin_by_its_unified_name(wire: WireProcess) -> None:
    kraken = contract_venue.on_wire("kraken", wire)
    (btc,) = [one for one in kraken.listing("USDT") if one.symbol == "BTC/USDT"]
    assert btc.market_id == "XBTUSDT"


# Without a wire ----------------------------------------------------------------------------------

TICKER = {"symbol": "AAAUSDT", "quoteVolume": "5.0", "bidPrice": "1.0", "askPrice": "1.1"}
PAIR = {"base": "AAA", "quote": "USDT", "status": "online", "aclass_base": "currency"}
DAY = {"v": ["1", "5.0"], "p": ["1", "2.0"], "b": ["1.0"], "a": ["1.1"]}
PRODUCT = {
    "product_id": "AAA-USDT", "base_currency_id": "AAA", "quote_currency_id": "USDT",
    "status": "online", "approximate_quote_24h_volume": "5.0",
}  # fmt: skip


def binance(ticker: Any = TICKER, status: str = "TRADING") -> Any:
    return SimpleNamespace(
        safe_currency_code=lambda code: code,
        publicGetTicker24hr=lambda: [ticker],
        publicGetExchangeInfo=lambda asked: {"symbols": [{"symbol": "AAAUSDT", "status": status}]},
    )


def kraken(pair: Any = PAIR, day: Any = DAY) -> Any:
    return SimpleNamespace(
        safe_currency_code=lambda code: code,
        publicGetAssetPairs=lambda: {"result": {"AAAUSDT": pair}},
        publicGetTicker=lambda: {"result": {"AAAUSDT": day}},
    )


def coinbase(product: Any = PRODUCT) -> Any:
    return SimpleNamespace(
        safe_currency_code=lambda code: code,
        v3PublicGetBrokerageMarketProducts=lambda asked: {"products": [product]},
    )


def only(venue: str, client: Any) -> Listed:
    (listed,) = LISTINGS[venue].listing(client, "USDT")
    return listed


@pytest.mark.parametrize(
    ("venue", "client", "active"),
    [
        ("binance", binance(), True),
        ("binance", binance(status="BREAK"), False),
        ("binance", binance(TICKER | {"bidPrice": "0.00000000"}), False),
        ("binance", binance(TICKER | {"quoteVolume": "0.00000000"}), False),
        ("kraken", kraken(), True),
        ("kraken", kraken(PAIR | {"status": "cancel_only"}), False),
        ("coinbase", coinbase(), True),
        ("coinbase", coinbase(PRODUCT | {"status": "delisted"}), False),
        ("coinbase", coinbase(PRODUCT | {"trading_disabled": True}), False),
        ("coinbase", coinbase(PRODUCT | {"cancel_only": True}), False),
    ],
)
def test_only_what_can_be_traded_now_is_active(venue: str, client: Any, active: bool) -> None:
    assert only(venue, client).active is active


@pytest.mark.parametrize(
    ("venue", "client"),
    [
        ("binance", binance(TICKER | {"quoteVolume": "NaN", "bidPrice": "", "askPrice": "-1"})),
        ("kraken", kraken(day=DAY | {"v": ["1", "nan"], "b": ["0"], "a": ["inf"]})),
        ("kraken", kraken(day=None)),
        ("coinbase", coinbase(PRODUCT | {"approximate_quote_24h_volume": ""})),
    ],
)
def test_numbers_that_are_none_are_missing(venue: str, client: Any) -> None:
    listed = only(venue, client)
    assert (listed.quote_volume, listed.bid, listed.ask) == (None, None, None)


def test_krakens_turnover_is_volume_times_average_price() -> None:
    assert only("kraken", kraken()).quote_volume == 10.0


@pytest.mark.parametrize(
    ("venue", "client"),
    [
        ("binance", binance(TICKER | {"symbol": "USDT"})),
        ("binance", binance(TICKER | {"symbol": "AAABTC"})),
        ("kraken", kraken(PAIR | {"quote": "ZEUR"})),
        ("kraken", kraken(PAIR | {"aclass_base": "tokenized_asset"})),
        ("coinbase", coinbase(PRODUCT | {"quote_currency_id": "USD"})),
    ],
)
def test_other_markets_are_left_out(venue: str, client: Any) -> None:
    assert LISTINGS[venue].listing(client, "USDT") == []


@pytest.mark.parametrize("answer", [[{}], None, {"code": -1}, [None]])
def test_a_malformed_listing_is_no_listing(
    wire: WireProcess, monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    venue = contract_venue.on_wire("binance", wire)
    monkeypatch.setattr(venue._client, "publicGetTicker24hr", lambda: answer, raising=False)
    with pytest.raises(VenueUnavailable, match="listing: malformed answer"):
        venue.listing("USDT")


def test_a_close_that_is_no_price_is_refused(
    wire: WireProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    venue = contract_venue.on_wire("binance", wire)
    rows = [[0, "1", "1", "1", "-5", "1"]]
    monkeypatch.setattr(venue._client, "publicGetKlines", lambda asked: rows, raising=False)
    with pytest.raises(VenueUnavailable, match="candles: malformed answer"):
        venue.daily_closes("BTCUSDT", 5)
