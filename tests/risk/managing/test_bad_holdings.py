"""A position that its venue does not hold, or does not list: the real desk, run after run."""

from __future__ import annotations

from decimal import Decimal

import pytest

from shared.errors import VenueUnavailable
from shared.execution.types import MarketRules
from shared.market.types import Book, Quote
from tests.conftest import VirtualClock
from tests.execution.scripted_venue import ScriptedVenue
from tests.risk.managing.desk_bench import DeskBench
from tests.risk.world import BTC, World


@pytest.fixture
def bench(world: World, virtual_clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> DeskBench:
    return DeskBench(world, virtual_clock, monkeypatch)


def kinds(bench: DeskBench) -> list[str]:
    return [t["kind"] for t in bench.manage("99")["troubles"]]


def test_more_than_the_venue_holds(bench: DeskBench) -> None:
    """Somebody has taken most of it away: what is there is sold, the rest is told."""
    for order_id in list(bench.venue.stops):
        bench.venue.cancel(order_id, BTC)
    bench.venue.account["BTC"] = Decimal("0.3")
    assert "POSITION_EXCEEDS_VENUE" in kinds(bench)
    (action,) = bench.loop("97")
    assert action["reason"] == "stop"
    assert bench.sold() == Decimal("0.3")
    assert bench.venue.account["BTC"] == 0
    for _ in range(3):
        (action,) = bench.loop("97")
        assert action["orders"] == []
    assert bench.sold() == Decimal("0.3")
    assert len(bench.events("EXIT_UNSOLD")) == 1
    assert "POSITION_EXCEEDS_VENUE" in kinds(bench)


def test_a_delisted_symbol(bench: DeskBench, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(venue: ScriptedVenue, symbol: str, depth: int = 50) -> MarketRules:
        raise VenueUnavailable(f"{venue.name}: {symbol}: not listed")

    def no_book(venue: ScriptedVenue, symbol: str, depth: int = 50) -> Book:
        raise VenueUnavailable(f"{venue.name}: {symbol}: not listed")

    def no_quotes(venue: ScriptedVenue, symbols: list[str]) -> dict[str, Quote]:
        return {}

    monkeypatch.setattr(ScriptedVenue, "rules", unknown)
    monkeypatch.setattr(ScriptedVenue, "book", no_book)
    monkeypatch.setattr(ScriptedVenue, "quotes", no_quotes)
    bench.world.ledger.execute("DELETE FROM prices")
    monkeypatch.setattr(
        bench, "_see_prices", lambda: bench.world.ledger.execute("DELETE FROM prices")
    )  # noqa: E501
    export = bench.manage("99")
    assert {t["kind"] for t in export["troubles"]} == {"POSITION_UNPRICED", "POSITION_UNTRADABLE"}
    (row,) = export["portfolio"]["positions"]
    assert (row["pnl_sold_now_quote"], export["portfolio"]["pnl_mid_quote"]) == (None, None)
    assert any("not listed" in text for text in export["portfolio"]["missing"])
    assert bench.loop("99") == []
    assert bench.sold() == 0


def test_dust_alone_is_managed_and_closed_by_its_stop(bench: DeskBench) -> None:
    """A first slice filled next to nothing, and no venue takes so little back."""
    held = bench.position.quantity
    bench.world.fill(bench.position_id, held - Decimal("0.002"), side="sell", price=100)
    bench.venue.account["BTC"] = Decimal("0.002")
    assert "POSITION_BELOW_MINIMUM" in kinds(bench)
    (action,) = bench.loop("97")
    assert (action["reason"], action["orders"]) == ("stop", [])
    assert bench.position.close_reason == "stop"
    assert bench.events("EXIT_UNSOLD") == []
