"""What the quote currency is worth: which pairs tell it, who is asked, what is kept of it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from shared.ledger.connection import Ledger
from shared.market import peg, scan, sentiment
from shared.market.types import Quote
from shared.run import Export
from tests.conftest import VirtualClock
from tests.market.fakes import NOW_MS, FakeVenue, healthy_venue, make_run, mood

Venues = dict[str, FakeVenue]


@pytest.fixture(autouse=True)
def _calm_mood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentiment, "read", lambda run: mood())


@pytest.fixture
def venues(virtual_clock: VirtualClock) -> Venues:
    first = healthy_venue("binance")
    second, third = FakeVenue("coinbase", mid=first.mid), FakeVenue("kraken", mid=first.mid)
    return {"binance": first, "coinbase": second, "kraken": third}


@pytest.mark.parametrize(
    ("currency", "direct", "crosses"),
    [
        ("USDT", "USDT/USD", ("USDC/USDT", "USDT/USDC")),
        ("USDC", "USDC/USD", ("USDT/USDC", "USDC/USDT")),
        ("DAI", "DAI/USD", ("USDT/DAI", "DAI/USDT", "USDC/DAI", "DAI/USDC")),
        ("EURC", "EURC/EUR", ()),
        ("USD", None, ()),
        ("EUR", None, ()),
    ],
)
def test_the_pairs_that_tell_a_worth(
    currency: str, direct: str | None, crosses: tuple[str, ...]
) -> None:
    assert peg.direct_pair(currency) == direct
    assert peg.cross_pairs(currency) == crosses
    assert peg.pairs(currency) == (() if direct is None else (direct, *crosses))


@pytest.mark.parametrize(
    ("currency", "pair", "price", "worth"),
    [
        ("USDT", "USDT/USD", "0.98", "0.98"),
        ("USDT", "USDC/USDT", "1.25", "0.8"),  # a tether buys less of the other
        ("USDC", "USDC/USDT", "0.87", "0.87"),
    ],
)
def test_a_worth_is_told_from_either_side(currency: str, pair: str, price: str, worth: str) -> None:
    assert peg.worth(currency, pair, Decimal(price)) == Decimal(worth)


def test_the_farthest_of_all_counts() -> None:
    assert peg.distance_percent([Decimal("0.995"), Decimal("1.008"), Decimal(1)]) == Decimal("0.8")


def kept(ledger: Ledger) -> dict[tuple[str, str], float]:
    rows = ledger.query("SELECT venue, symbol, bid, ask FROM prices WHERE symbol LIKE 'USD%%'")
    return {(row["venue"], row["symbol"]): float(row["bid"] + row["ask"]) / 2 for row in rows}


def scanned(ledger: Ledger, venues: Venues) -> Export:
    return scan.scan(make_run(ledger), venues)


def test_the_other_venues_tell_it_with_their_quotes(ledger: Ledger, venues: Venues) -> None:
    venues["kraken"].pegs = {"USDT/USD": 0.98}
    venues["coinbase"].pegs = {"USDC/USDT": 1.25}
    export = scanned(ledger, venues)
    assert kept(ledger) == pytest.approx(
        {("kraken", "USDT/USD"): 0.98, ("coinbase", "USDC/USDT"): 1.25}
    )
    assert export["quote_worth"] == pytest.approx(
        {"kraken USDT/USD": 0.98, "coinbase USDC/USDT": 0.8}, abs=1e-6
    )
    assert [venue.count("quotes") for venue in venues.values()] == [0, 1, 1]
    assert export["missing"] == []


def test_a_venue_that_is_alone_is_asked_itself(ledger: Ledger, venues: Venues) -> None:
    venues["binance"].pegs = {"USDC/USDT": 1.0}
    export = scanned(ledger, {"binance": venues["binance"]})
    assert list(kept(ledger)) == [("binance", "USDC/USDT")]
    assert export["quote_worth"] == {"binance USDC/USDT": 1.0}


def _silent(venues: Venues) -> None:
    for venue in venues.values():
        venue.pegs = {}


def _crossed(venues: Venues) -> None:
    for venue in venues.values():
        venue.answers["quotes"] = lambda symbols: {"USDT/USD": Quote(1.01, 0.99, NOW_MS)}


def _old(venues: Venues) -> None:
    for venue in venues.values():
        venue.answers["quotes"] = lambda symbols: {"USDT/USD": Quote(1.0, 1.0, NOW_MS - 31_000)}


def _down(venues: Venues) -> None:
    for venue in venues.values():
        venue.broken.add("quotes")


@pytest.mark.parametrize(
    ("spoil", "note"),
    [
        (_silent, None),
        (_crossed, "venues.kraken.USDT/USD: bid, ask: was 1.01, 0.99, expected 0 < bid <= ask"),
        (_old, f"venues.kraken.USDT/USD: at_ms: was {NOW_MS - 31_000}, expected within 30000 ms"),
        (_down, "quotes.kraken:kraken.quotes: ConnectionError"),
    ],
)
@pytest.mark.parametrize("names", [("binance", "kraken"), ("binance",)])
def test_what_nobody_tells_is_missing(
    ledger: Ledger, venues: Venues, spoil: Any, note: str | None, names: tuple[str, ...]
) -> None:
    spoil(venues)
    export = scanned(ledger, {name: venues[name] for name in names})
    assert kept(ledger) == {}
    assert export["quote_worth"] == {}
    assert "quote_peg:no venue tells USDT/USD or USDC/USDT or USDT/USDC" in export["missing"]
    expected = (note or "").replace("kraken", names[-1])
    assert any(told.startswith(expected) for told in export["missing"])


def test_a_currency_of_a_state_needs_none(ledger: Ledger, venues: Venues) -> None:
    _silent(venues)
    export = scan.scan(make_run(ledger, quote_currency="USD"), venues)
    assert not any(told.startswith("quote_peg") for told in export["missing"])
