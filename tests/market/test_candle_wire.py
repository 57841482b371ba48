"""Candles over HTTP: many threads on one client, bodies that are no candles, symbols unknown."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from deploy.local.wire.client import WireProcess
from deploy.local.wire.faults import rules
from shared import clock
from shared.errors import DataUnavailable, VenueError
from shared.execution.venues.ccxt_venue import CcxtVenue
from shared.market import peg
from shared.market.candles.candle_refresh import refresh
from shared.market.types import TIMEFRAMES
from tests.execution import contract_venue
from tests.execution.contract_venue import BTC, START, SYMBOLS

CANDLES = {
    "binance": "GET /api/v3/klines",
    "coinbase": "GET /api/v3/brokerage/market/products/BTC-USDT/candles",
    "kraken": "GET /0/public/OHLC",
}
NOW_MS = clock.to_ms(START)


@pytest.fixture(scope="module")
def wire() -> Iterator[WireProcess]:
    with contract_venue.start() as started:
        yield started


@pytest.fixture(params=CANDLES)
def venue(
    request: pytest.FixtureRequest, wire: WireProcess, virtual_clock: Any
) -> Iterator[CcxtVenue]:
    virtual_clock.set(START)
    yield contract_venue.on_wire(request.param, wire)
    wire.clear_faults()


def test_every_timeframe_comes_whole(venue: CcxtVenue) -> None:
    result = refresh(venue, BTC, {}, NOW_MS)
    assert list(result.windows) == list(TIMEFRAMES)
    assert result.missing == []
    assert {window.closed_ms for window in result.windows.values()} <= {NOW_MS, 1746489600000}


def test_threads_that_share_a_client_get_their_own_answers(venue: CcxtVenue) -> None:
    """Each symbol's book, candles and trades, asked by eight threads at once."""
    alone = {symbol: venue.book(symbol) for symbol in SYMBOLS}

    def ask(number: int) -> bool:
        symbol = SYMBOLS[number % 3]
        book = venue.book(symbol)
        rows = venue.candles(symbol, "1h", since_ms=None, limit=5)
        trades = venue.trades(symbol)
        near = 0.95 * book.mid < rows[-1, 4] < 1.05 * book.mid
        return (
            near and abs(trades[-1].price / book.mid - 1) < 0.05 and book.bids == alone[symbol].bids
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(48)))


BODIES = [
    ("cut", lambda name, where: rules.truncate(name, where, share=0.5, times=None)),
    ("html", lambda name, where: rules.malformed(name, where, "html", times=None)),
    ("empty", lambda name, where: rules.malformed(name, where, "empty", times=None)),
    ("object", lambda name, where: rules.malformed(name, where, "object", times=None)),
    ("wrong types", lambda name, where: rules.malformed(name, where, "wrong_types", times=None)),
    ("busy", lambda name, where: rules.status(name, where, 503, times=None)),
    ("reset", lambda name, where: rules.lose_answer(name, where, times=None)),
]


@pytest.mark.parametrize(("kind", "fault"), BODIES, ids=[kind for kind, _ in BODIES])
def test_a_body_that_holds_no_candles_is_refused(
    venue: CcxtVenue, wire: WireProcess, kind: str, fault: Any
) -> None:
    wire.faults([fault(venue.name, CANDLES[venue.name])])
    with pytest.raises((VenueError, DataUnavailable)) as caught:
        refresh(venue, BTC, {}, NOW_MS)
    assert venue.name in str(caught.value) or BTC in str(caught.value)
    wire.clear_faults()
    assert list(refresh(venue, BTC, {}, NOW_MS).windows) == list(TIMEFRAMES)


def test_a_symbol_that_is_not_listed_is_refused_without_a_request(
    venue: CcxtVenue, wire: WireProcess
) -> None:
    venue.book(BTC)
    before = wire.stats()
    with pytest.raises(VenueError, match="BadSymbol"):
        refresh(venue, "NOPE/USDT", {}, NOW_MS)
    assert wire.stats() == before
    assert set(venue.quotes((BTC, "NOPE/USDT"))) == {BTC}


def test_a_venue_tells_what_a_tether_is_worth_by_the_pair_that_it_lists(venue: CcxtVenue) -> None:
    told = venue.quotes(peg.pairs("USDT"))
    (pair,) = told
    assert pair == ("USDC/USDT" if venue.name == "binance" else "USDT/USD")
    assert told[pair].mid == pytest.approx(1, rel=0.002)
