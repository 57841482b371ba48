"""The whole scan over venues of our own making."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from shared.errors import LeaseLost
from shared.ledger import leases, parameters, state
from shared.ledger.connection import Ledger
from shared.market import packing, scan, sentiment
from shared.market.candles import candle_store, candle_upkeep
from shared.market.gathering import gather
from shared.market.score import entry_score
from shared.market.technical import indicators
from shared.market.types import TIMEFRAMES, Book, PublicTrade, Quote
from shared.parameters import Parameters
from shared.run import Export
from tests.conftest import VirtualClock
from tests.market.fakes import NOW_MS, FakeVenue, healthy_venue, make_run, mood

SYMBOL = "BTC/USDT"
Venues = dict[str, FakeVenue]


@pytest.fixture(autouse=True)
def _cold(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that remembers nothing; a mood that needs no network."""
    candle_store._remembered.clear()
    monkeypatch.setattr(sentiment, "read", lambda run: mood())


@pytest.fixture
def venues(virtual_clock: VirtualClock) -> Venues:
    first = healthy_venue("binance")
    second, third = healthy_venue("coinbase"), FakeVenue("kraken", mid=first.mid)
    return {"binance": first, "coinbase": second, "kraken": third}


def scaled(rows: Any, factor: float) -> Any:
    """Candles at another price."""
    changed = rows.copy()
    changed[:, 1:5] *= factor
    return changed


def market(export: Export) -> dict[str, Any]:
    (only,) = packing.unpack(export["signals"])
    return dict(only)


def test_a_healthy_minute(ledger: Ledger, redis_url: str, venues: Venues) -> None:
    export = scan.scan(make_run(ledger, redis_url=redis_url), venues)
    assert json.loads(json.dumps(export, allow_nan=False)) == export
    seen = market(export)
    assert seen["venue"] == "binance" and seen["symbol"] == SYMBOL
    assert seen["price"] == pytest.approx(venues["binance"].mid)
    assert list(seen["indicators"]) == list(TIMEFRAMES)
    for values in seen["indicators"].values():
        assert set(values) == {*indicators.NAMES, "close", "closed_at_ms"}
        assert values["closed_at_ms"] <= NOW_MS
    assert {pattern["timeframe"] for pattern in seen["patterns"]} <= {"15m", "1h", "4h"}
    assert seen["patterns"]
    assert seen["order_flow"]["delta_ratio"] == 0.5
    assert seen["microstructure"]["spread_bps"] == pytest.approx(1.0)
    assert list(seen["venues"]) == ["binance", "coinbase", "kraken"]
    assert seen["sentiment"]["fear_greed_index"] == 40
    assert [note.split(":")[0] for note in seen["missing"]] == [
        "order_flow.cvd",  # which begins with this run's trades
        "order_flow.large",
        "microstructure.slippage_bps.10000",  # more than the asks of this book are worth
    ]
    assert "anomaly" not in seen and export["missing"] == []
    assert export["calibrated"] is True
    assert export["aiScore"] == seen["ai_score"]
    logit = sum(seen["contributions"].values())
    assert seen["ai_score"] == pytest.approx(1 / (1 + np.exp(-logit)), rel=1e-2)  # of 3 digits


def test_the_export_stays_small(ledger: Ledger, venues: Venues) -> None:
    """Six megabytes is what the platform allows; three symbols take a hundredth of it."""
    export = scan.scan(make_run(ledger, symbols="BTC,ETH,SOL"), venues)
    assert len(json.dumps(export)) < 60_000


def test_a_warm_minute_asks_for_what_is_new_and_looks_at_higher_timeframes_no_more(
    ledger: Ledger,
    redis_url: str,
    venues: Venues,
    virtual_clock: VirtualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    computed: list[str] = []

    def compute(window: Any) -> dict[str, float]:
        computed.append(window.timeframe)
        return indicators.compute(window)

    monkeypatch.setattr(indicators, "newest", indicators.Memo(compute))
    run = make_run(ledger, redis_url=redis_url)
    monkeypatch.setattr(candle_upkeep, "wanting", lambda venue, refreshed: [])  # long enough
    cold = scan.scan(run, venues)
    venues["binance"].calls.clear()
    computed.clear()
    virtual_clock.advance(minutes=1)
    warm = scan.scan(run, venues)
    assert [call[0] for call in venues["binance"].calls] == ["candles", "book", "trades"]
    assert computed == ["1m"]
    assert market(warm)["indicators"]["1h"] == market(cold)["indicators"]["1h"]
    assert market(warm)["indicators"]["1m"] != market(cold)["indicators"]["1m"]
    monkeypatch.setattr(indicators, "newest", indicators.Memo(indicators.compute))
    candle_store._remembered.clear()
    again = market(scan.scan(run, venues)) | {"missing": []}  # it has seen these trades before
    assert again == market(warm) | {"missing": []}


def test_the_ledger_keeps_the_scan_and_the_prices(
    ledger: Ledger, venues: Venues, virtual_clock: VirtualClock
) -> None:
    export = scan.scan(make_run(ledger), venues)
    row = ledger.one("SELECT * FROM scans")
    assert row is not None
    kept = packing.pack([packing.brief(m) for m in row["payload"]["signals"]["markets"]])
    assert packing.unpack(kept) == packing.unpack(export["signals"])
    assert row["payload"] | {"signals": None} == export | {"signals": None}
    assert (row["ai_score"], row["next_action"]) == (export["aiScore"], export["nextAction"])
    prices = ledger.query("SELECT venue, symbol, bid, ask, at FROM prices ORDER BY venue")
    told = [price["venue"] for price in prices if price["symbol"] == SYMBOL]
    assert told == ["binance", "coinbase", "kraken"]
    best = venues["binance"].book(SYMBOL)
    assert prices[0]["bid"] == Decimal(str(best.bids[0][0]))
    assert prices[0]["ask"] == Decimal(str(best.asks[0][0]))


def test_range_and_volume_are_kept_for_the_venue_that_tells_its_candles(
    ledger: Ledger, venues: Venues
) -> None:
    scan.scan(make_run(ledger), venues)
    rows = ledger.query("SELECT venue, low_1m, high_1m, volume_24h_quote FROM prices")
    kept = {row.pop("venue"): list(row.values()) for row in rows}
    minutes = venues["binance"].rows["1m"]
    newest = minutes[minutes[:, 0] + 60_000 <= NOW_MS][-1]
    low, high, volume = kept.pop("binance")
    assert (low, high) == (Decimal(str(newest[3])), Decimal(str(newest[2])))
    assert volume > 0
    assert kept == {"coinbase": [None] * 3, "kraken": [None] * 3}


def test_a_run_that_lost_its_lease_writes_nothing(ledger: Ledger, venues: Venues) -> None:
    run = make_run(ledger)
    leases.release(ledger, "trading_loop", run.epoch)
    with pytest.raises(LeaseLost):
        scan.scan(run, venues)
    assert ledger.query("SELECT * FROM scans") == []
    assert ledger.query("SELECT * FROM prices") == []


def test_parameters_and_trading_state_reach_the_export_and_the_threshold_decides(
    ledger: Ledger, venues: Venues, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = entry_score.score

    def ranked(*arguments: Any) -> entry_score.Score:
        return dataclasses.replace(score(*arguments), rank=0.7)

    monkeypatch.setattr(entry_score, "score", ranked)
    run = make_run(ledger)
    for threshold, action in ((0.69, "TRADE"), (0.7, "WAIT"), (0.71, "WAIT")):
        values = Parameters(ai_score_threshold=threshold)
        version = parameters.put(ledger, values, set_by="test", reason="test", evidence={}).version
        export = scan.scan(run, venues)
        assert export["nextAction"] == action
        assert export["aiScoreRank"] == 0.7
        assert export["parameters"]["version"] == version
    state.tighten(ledger, "REDUCING", reason="drawdown", set_by="breaker")
    state.set_restrictions(ledger, size_factor=Decimal("0.5"), limit_orders_only=True)
    assert scan.scan(run, venues)["trading_state"] == {
        "state": "REDUCING",
        "size_factor": 0.5,
        "limit_orders_only": True,
    }


def test_opportunities_are_ranked_by_score(ledger: Ledger, virtual_clock: VirtualClock) -> None:
    venue, asks = healthy_venue(), {"BTC/USDT": 100.3, "ETH/USDT": 100.01, "SOL/USDT": 100.2}

    def book(symbol: str) -> Book:
        return Book(symbol, ((100.0, 500.0),), ((asks[symbol], 500.0),), NOW_MS)

    venue.rows = {name: scaled(rows, 100 / venue.mid) for name, rows in venue.rows.items()}
    venue.answers["book"] = book
    export = scan.scan(make_run(ledger, symbols="BTC,ETH,SOL"), {"binance": venue})
    ranked = export["signals"]["opportunities"]
    assert [entry["rank"] for entry in ranked] == [1, 2, 3]
    assert [entry["symbol"] for entry in ranked] == ["ETH/USDT", "SOL/USDT", "BTC/USDT"]
    scores = [entry["ai_score"] for entry in ranked]
    assert scores == sorted(scores, reverse=True) and scores[0] == export["aiScore"]


@pytest.mark.parametrize("broken", ["candles", "book", "candles:1m:BTC/USDT"])
def test_the_next_venue_takes_over(ledger: Ledger, venues: Venues, broken: str) -> None:
    venues["binance"].broken = {broken}
    seen = market(scan.scan(make_run(ledger), venues))
    assert seen["venue"] == "coinbase"
    assert seen["price"] == pytest.approx(venues["coinbase"].mid)
    assert any(note.startswith("binance: binance.") for note in seen["missing"])
    assert "binance" not in seen["venues"]


def test_without_any_venue_the_symbol_is_unknown_and_nothing_is_traded(
    ledger: Ledger, venues: Venues
) -> None:
    for venue in venues.values():
        venue.broken = {"candles", "book", "trades", "quotes"}
    export = scan.scan(make_run(ledger), venues)
    seen = market(export)
    for name in ("venue", "price", "price_at_ms", "order_flow", "microstructure", "ai_score"):
        assert seen[name] is None
    assert {"price", "indicators", "patterns", "order_flow", "microstructure"} <= set(
        seen["missing"]
    )
    assert export["aiScore"] is None and export["nextAction"] == "WAIT"
    assert export["signals"]["opportunities"] == []
    assert ledger.query("SELECT * FROM prices") == []
    assert ledger.one("SELECT ai_score FROM scans") == {"ai_score": None}


@pytest.fixture
def _hanging() -> Iterator[threading.Event]:
    release = threading.Event()
    yield release
    release.set()


def test_a_venue_that_hangs_is_left_behind(
    ledger: Ledger,
    venues: Venues,
    _hanging: threading.Event,  # noqa: PT019
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gather.gather, "__kwdefaults__", {"deadline_s": 4.0})
    for name in ("binance", "kraken"):
        venues[name].answers["book"] = lambda symbol: _hanging.wait(30)
        venues[name].answers["quotes"] = lambda symbols: _hanging.wait(30)
    export = scan.scan(make_run(ledger), venues)
    seen = market(export)
    assert seen["venue"] == "coinbase"
    assert "binance: no answer in time" in seen["missing"]
    assert "quotes.kraken:no answer in time" in export["missing"]


def test_stale_inputs_are_missing(ledger: Ledger, venues: Venues) -> None:
    old = NOW_MS - 600_000
    venues["binance"].answers["trades"] = lambda s: [PublicTrade(old, "buy", 100.0, 1.0)]
    venues["kraken"].answers["quotes"] = lambda s: {SYMBOL: Quote(99, 100, old)}
    venues["coinbase"].answers["quotes"] = lambda s: {}
    seen = market(scan.scan(make_run(ledger), venues))
    assert seen["order_flow"] is None
    assert any(note.startswith("order_flow:") for note in seen["missing"])
    assert list(seen["venues"]) == ["binance"]
    assert "venues.coinbase:no quote" in seen["missing"]
    assert any("venues.kraken: at_ms" in note for note in seen["missing"])


def test_a_flash_print_is_an_anomaly_and_no_price(ledger: Ledger, venues: Venues) -> None:
    """LINK printed 0.0001 on 2020-03-12."""
    venues["binance"].answers["book"] = lambda symbol: Book(
        symbol, ((0.0001, 5.0),), ((0.00011, 5.0),), NOW_MS
    )
    export = scan.scan(make_run(ledger), venues)
    seen = market(export)
    assert "venues disagree" in seen["anomaly"]
    assert seen["ai_score"] is None
    assert export["signals"]["opportunities"] == [] and export["nextAction"] == "WAIT"
    kept = {row["venue"] for row in ledger.query("SELECT venue FROM prices")}
    assert kept == {"coinbase", "kraken"}


def test_a_flash_print_in_the_candles_is_an_anomaly(ledger: Ledger, venues: Venues) -> None:
    rows = venues["binance"].rows["1m"]
    last = np.flatnonzero(rows[:, 0] == NOW_MS - 60_000)[0]
    rows[last, 3:5] = 0.0001
    seen = market(scan.scan(make_run(ledger), venues))
    assert "1m flash print close 0.0001" in seen["anomaly"]
    assert seen["ai_score"] is None


MALFORMED: list[tuple[str, Any, str]] = [
    ("candles", lambda timeframe: [["x"] * 6], "binance: BTC/USDT 1m: rows: expected numbers"),
    ("candles", lambda timeframe: [[1, 2]], "binance: BTC/USDT 1m: rows: expected 6 columns"),
    ("candles", lambda timeframe: [], "binance: BTC/USDT 1m:no candles"),
    ("book", lambda symbol: Book(symbol, (), ((1.0, 1.0),), NOW_MS), "book.bids: was empty"),
    (
        "book",
        lambda symbol: Book(symbol, ((float("nan"), 1.0),), ((1.0, 1.0),), NOW_MS),
        "book.bids: was (nan, 1.0)",
    ),
    ("trades", lambda symbol: [], "order_flow:trades: expected one"),
    (
        "trades",
        lambda symbol: [PublicTrade(NOW_MS, "buy", float("nan"), 1.0)],
        "order_flow:trade.price: was nan",
    ),
]


@pytest.mark.parametrize(("method", "answer", "note"), MALFORMED)
def test_a_malformed_answer_is_named_and_never_used(
    ledger: Ledger, venues: Venues, method: str, answer: Any, note: str
) -> None:
    venues["binance"].answers[method] = answer
    seen = market(scan.scan(make_run(ledger), venues))
    assert any(note in line for line in seen["missing"]), seen["missing"]
    assert json.dumps(seen, allow_nan=False)


def test_twenty_symbols_fit_into_64_kb(ledger: Ledger, venues: Venues) -> None:
    symbols = [f"S{number:02d}" for number in range(20)]
    export = scan.scan(make_run(ledger, symbols=",".join(symbols)), venues)
    assert len(export["signals"]["markets"]) == 20
    assert len(json.dumps(export, separators=(",", ":"))) < 64_000
