"""The scan with a flow that goes on from run to run, and a derivatives venue beside the others."""

from __future__ import annotations

from typing import Any

import pytest

from shared.ledger.connection import Ledger
from shared.market import scan, sentiment
from shared.market.candles import candle_store
from shared.market.derivatives import reading
from shared.run import Export, Run
from tests.conftest import VirtualClock
from tests.market.fakes import FakeVenue, healthy_venue, make_run, mood
from tests.market.gate_server import gate_server


@pytest.fixture(autouse=True)
def _cold(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that remembers nothing; a mood that needs no network."""
    candle_store._remembered.clear()
    reading._remembered.clear()
    monkeypatch.setattr(sentiment, "read", lambda run: mood())


@pytest.fixture
def venue(virtual_clock: VirtualClock) -> FakeVenue:
    return healthy_venue("binance")


def scanned(run: Run, venue: FakeVenue) -> tuple[Export, dict[str, Any]]:
    """The export, and its market as the ledger keeps it."""
    export = scan.scan(run, {"binance": venue})
    row = run.ledger.one("SELECT payload FROM scans ORDER BY at DESC LIMIT 1")
    assert row is not None
    return export, row["payload"]["signals"]["markets"][0]


def test_the_cumulative_delta_grows_from_run_to_run(
    ledger: Ledger, redis_url: str, venue: FakeVenue, virtual_clock: VirtualClock
) -> None:
    """Each minute 3 are bought and 1 is sold; the first answer reaches back three seconds."""
    run = make_run(ledger, redis_url=redis_url)
    ledger.execute("UPDATE leases SET expires_at = expires_at + interval '1 hour'")
    for minute in range(4):
        _, market = scanned(run, venue)
        cvd = market["order_flow"]["cvd"]
        expected = 2 * venue.mid * (minute + 1)
        assert cvd["5m"]["delta_quote"] == pytest.approx(expected, rel=1e-6)
        virtual_clock.advance(minutes=1)
    assert cvd["15m"]["trades"] == 8
    # These trades have no numbers and never overlap: there is a hole in each minute.
    assert cvd["15m"]["missed_trades"] == 3
    assert cvd["5m"]["covered_share"] == round(4 * 3 / 300, 3)
    assert any(note.startswith("order_flow.gap:an unknown number") for note in market["missing"])


def test_a_lost_redis_begins_the_sums_anew_and_says_since_when(
    ledger: Ledger, redis_url: str, venue: FakeVenue, virtual_clock: VirtualClock
) -> None:
    import redis

    run = make_run(ledger, redis_url=redis_url)
    scanned(run, venue)
    redis.Redis.from_url(redis_url).flushall()
    virtual_clock.advance(minutes=1)
    _, market = scanned(run, venue)
    assert market["order_flow"]["cvd"]["60m"]["trades"] == 2
    since_ms = virtual_clock.now_ms - 3_000
    assert any(note.endswith(f"whole since {since_ms}") for note in market["missing"])


def test_funding_and_liquidations_stand_beside_each_market(
    ledger: Ledger, redis_url: str, venue: FakeVenue
) -> None:
    with gate_server() as gate:
        settings = {"simulated_wire_url": gate.base, "derivatives_venue": "gate"}
        _, market = scanned(make_run(ledger, redis_url=redis_url, **settings), venue)
        assert market["derivatives"]["funding"]["funding_rate_8h"] == 0.0002
        assert market["derivatives"]["liquidations"]["long_5m_usdt"] == 0
        assert gate.count("contracts") == gate.count("liq_orders") == 1


def test_a_derivatives_venue_that_fails_or_is_off_costs_the_scan_nothing_else(
    ledger: Ledger, venue: FakeVenue, virtual_clock: VirtualClock
) -> None:
    with gate_server() as gate:
        gate.says("contracts", b"", status=503)
        run = make_run(ledger, simulated_wire_url=gate.base, derivatives_venue="gate")
        export, market = scanned(run, venue)
    assert market["derivatives"]["funding"] is None
    assert market["microstructure"] is not None
    assert "derivatives:no contract of BTC is known" in market["missing"]
    assert "derivatives.funding:gate: contracts: ExchangeNotAvailable" in export["missing"]
    run.config = run.config.model_copy(update={"derivatives_venue": "off"})
    virtual_clock.advance(seconds=1)
    assert scanned(run, venue)[1]["derivatives"] is None
