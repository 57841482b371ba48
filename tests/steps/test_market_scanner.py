"""The step ``market_scanner`` in its frame."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from shared import clock
from shared.execution.venues import registry
from shared.ledger import leases
from shared.ledger.connection import Ledger
from shared.market import sentiment
from shared.market.candles import candle_store
from steps.market_scanner import handler
from tests.conftest import VirtualClock
from tests.market.fakes import FakeVenue, healthy_venue, mood


class StandInPd:
    """What the step uses of ``pd``."""

    def __init__(self, trace_id: str) -> None:
        event = {"timestamp": clock.now_ms() // 1000}
        self.steps = {"trigger": {"context": {"trace_id": trace_id}, "event": event}}
        self.inputs: dict[str, Any] = {}
        self.exits: list[str] = []
        self.flow = SimpleNamespace(exit=self.exits.append)


@pytest.fixture
def venue(
    database_url: str,
    redis_url: str,
    virtual_clock: VirtualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> FakeVenue:
    for name, value in {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "POD": "test",
        "SYMBOLS": "BTC,ETH",
        "DERIVATIVES_VENUE": "off",
    }.items():
        monkeypatch.setenv(name, value)
    primary = healthy_venue()
    monkeypatch.setattr(registry, "open_venues", lambda run: {"binance": primary})
    monkeypatch.setattr(sentiment, "read", lambda run: mood(clock.now_ms()))
    candle_store._remembered.clear()
    return primary


@pytest.mark.usefixtures("venue")
def test_the_step_scans_and_hands_its_lease_on(ledger: Ledger) -> None:
    export = handler(StandInPd("a"))
    markets = export["signals"]["markets"]
    assert [market["symbol"] for market in markets] == ["BTC/USDT", "ETH/USDT"]
    assert {"signals", "aiScore", "nextAction", "calibrated", "parameters", "run"} <= set(export)
    kept = ledger.one("SELECT run_id, payload->'nextAction' AS action FROM scans")
    assert kept == {"run_id": export["run"]["run_id"], "action": export["nextAction"]}
    leases.guard(ledger, "trading_loop", export["run"]["epoch"])


def test_an_overlapping_run_ends_without_a_scan(venue: FakeVenue, ledger: Ledger) -> None:
    handler(StandInPd("a"))
    venue.calls.clear()
    second = StandInPd("b")
    assert handler(second) is None
    assert second.exits == ["LEASE_HELD: workflow=trading_loop"]
    assert venue.calls == []
    assert len(ledger.query("SELECT * FROM scans")) == 1


def test_what_the_venue_answered_is_counted_for_the_breaker(
    ledger: Ledger, venue: FakeVenue
) -> None:
    handler(StandInPd("a"))
    services = {row["venue"] for row in ledger.query("SELECT venue FROM venue_calls")}
    assert services == {"redis"}  # the venue's own calls are counted by its adapter
