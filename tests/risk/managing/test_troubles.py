"""Positions that cannot be managed as they should be: named, told once, and nobody else's matter.

Each row makes one of two positions bad. The other one, whose stop is due, is left all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from shared.errors import DataUnavailable, LedgerUnavailable, OrderDenied, VenueUnavailable
from shared.execution.types import MarketRules
from shared.ledger import state
from shared.risk import manage as manager
from shared.risk.managing import adjustments
from shared.run import Export
from tests.conftest import VirtualClock
from tests.risk.managing.minute_bench import BenchDesk, BenchVenue
from tests.risk.world import BTC, ETH, World, make_run, quote, rules

Spoil = Callable[["Scene"], None]


class Scene:
    """A position in BTC to be spoilt, and one in ETH under its stop, on two venues."""

    def __init__(self, world: World, patch: pytest.MonkeyPatch) -> None:
        world.configure(MAX_POSITION_SIZE="20")
        self.world, self.patch = world, patch
        self.desk = BenchDesk(world)
        self.desk.venues["kraken"] = BenchVenue("kraken", self.desk)
        patch.setattr("shared.execution.desk.Desk.open", lambda run: self.desk)
        patch.setattr("shared.market.candles.candle_store.window", lambda *arguments: None)
        self.spoilt, self.sound = world.position(BTC), world.position(ETH)
        world.fill(self.spoilt, "0.5")
        world.fill(self.sound, "0.5", symbol=ETH)
        self.desk.prices = {BTC: quote(100), ETH: quote(97)}
        for venue in self.desk.venues:
            for symbol, price in self.desk.prices.items():
                world.price(venue, symbol, price.mid)

    def manage(self) -> Export:
        run = make_run(self.world.ledger, "position_manager")
        run.config = self.world.run.config
        return manager.manage(run)

    def loop(self) -> list[dict[str, Any]]:
        run = make_run(self.world.ledger)
        run.config = self.world.run.config
        return manager.manage_exits(run, self.desk)  # type: ignore[arg-type]

    def told(self, kind: str) -> tuple[int, int]:
        """How many events and alerts of a kind there are."""
        events = self.world.ledger.query("SELECT 1 FROM events WHERE kind = %s", (kind,))
        alerts = self.world.ledger.query(
            "SELECT 1 FROM alerts WHERE alert_id LIKE %s", (f"%{kind}%",)
        )
        return len(events), len(alerts)


def without_a_price(scene: Scene) -> None:
    del scene.desk.prices[BTC]


def priced_by_one(scene: Scene) -> None:
    scene.world.ledger.execute("DELETE FROM prices WHERE symbol = %s AND venue = 'kraken'", (BTC,))


def delisted(scene: Scene) -> None:
    """The venue does not know the symbol any more: no price, no book, no rules."""

    def unknown(venue: BenchVenue, symbol: str) -> MarketRules:
        if symbol == BTC:
            raise VenueUnavailable(f"{venue.name}: {symbol}: not listed")
        return rules(venue.name, symbol)

    scene.patch.setattr(BenchVenue, "rules", unknown)
    del scene.desk.prices[BTC]


def on_a_venue_that_left_the_settings(scene: Scene) -> None:
    del scene.desk.venues["binance"]


def below_the_minimum(scene: Scene) -> None:
    scene.world.fill(scene.spoilt, "0.499", side="sell")


def below_the_smallest_notional(scene: Scene) -> None:
    scene.world.fill(scene.spoilt, "0.46", side="sell")


def more_than_the_venue_holds(scene: Scene) -> None:
    scene.desk.reconciliation.differences.append(
        {"venue": "binance", "currency": "BTC", "venue_total": "0.1", "ledger_total": "0.5"}
    )


def failing(error: Exception) -> Spoil:
    def spoil(scene: Scene) -> None:
        follow = adjustments.follow

        def fail(run: Any, position: Any, *arguments: Any) -> Any:
            if position.symbol == BTC:
                raise error
            return follow(run, position, *arguments)

        scene.patch.setattr(adjustments, "follow", fail)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "kind", "word"),
    [
        (without_a_price, "POSITION_UNPRICED", "no venue tells a price"),
        (priced_by_one, "POSITION_ONE_PRICE", "priced by binance alone"),
        (delisted, "POSITION_UNTRADABLE", "binance: BTC/USDT: not listed"),
        (on_a_venue_that_left_the_settings, "POSITION_UNTRADABLE", "binance: is not configured"),
        (below_the_minimum, "POSITION_BELOW_MINIMUM", "quantity=0.001, minimum=0.002"),
        (below_the_smallest_notional, "POSITION_BELOW_MINIMUM", "notional=4.0000, minimum=5"),
        (more_than_the_venue_holds, "POSITION_EXCEEDS_VENUE", "holds 0.1 BTC, expected 0.5"),
        (failing(VenueUnavailable("binance: gone")), "POSITION_NOT_MANAGED", "binance: gone"),
        (failing(OrderDenied("TEST_DENIED", why="x")), "POSITION_NOT_MANAGED", "TEST_DENIED"),
    ],
)
def test_a_bad_position_is_named_and_the_other_one_managed(
    world: World, monkeypatch: pytest.MonkeyPatch, spoil: Spoil, kind: str, word: str
) -> None:
    scene = Scene(world, monkeypatch)
    spoil(scene)
    export = scene.manage()
    named = [t for t in export["troubles"] if t["kind"] == kind and t["symbol"] == BTC]
    assert len(named) == 1
    assert word in named[0]["detail"]
    assert [(left, why) for left, why, _ in scene.desk.exits] == [(scene.sound, "stop")]
    assert scene.told(kind) == (1, 1)
    scene.manage()
    assert scene.told(kind) == (1, 1)  # told once, named in each export


def test_a_sound_portfolio_has_no_troubles(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Scene(world, monkeypatch).manage()["troubles"] == []


def test_the_loop_tells_of_a_missing_price_in_its_minute(
    world: World, monkeypatch: pytest.MonkeyPatch, virtual_clock: VirtualClock
) -> None:
    scene = Scene(world, monkeypatch)
    without_a_price(scene)
    actions = scene.loop()
    assert [action["position_id"] for action in actions] == [scene.sound]
    assert scene.told("POSITION_UNPRICED") == (1, 1)
    virtual_clock.advance(minutes=1)
    assert scene.loop() == []
    assert scene.told("POSITION_UNPRICED") == (1, 1)
    virtual_clock.advance(hours=1)
    scene.loop()
    assert scene.told("POSITION_UNPRICED") == (2, 2)  # it lasts


def test_closing_everything_reaches_a_position_without_a_price(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(world, monkeypatch)
    without_a_price(scene)
    sent: list[int] = []
    monkeypatch.setattr(scene.desk, "exit", lambda number, **options: sent.append(number) or [])
    state.tighten(world.ledger, "HALTED", reason="test", set_by="test", close_all=True)
    scene.loop()
    assert sent == [scene.spoilt, scene.sound]


@pytest.mark.parametrize(
    ("quantity", "is_told"),
    [("0.5", True), ("0.001", False)],  # dust is closed as dust, without a cry for help
)
def test_an_exit_that_sends_nothing_is_told_unless_it_is_dust(
    world: World, monkeypatch: pytest.MonkeyPatch, quantity: str, is_told: bool
) -> None:
    scene = Scene(world, monkeypatch)
    if quantity != "0.5":
        world.fill(scene.spoilt, "0.499", side="sell")
    scene.desk.prices[BTC] = quote(97)
    monkeypatch.setattr(scene.desk, "exit", lambda number, **options: [])
    actions = scene.loop()
    assert {action["reason"] for action in actions} == {"stop"}
    assert scene.told("EXIT_UNSOLD") == ((2, 2) if is_told else (1, 1))


def test_a_lost_ledger_is_no_trouble_of_a_position(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(world, monkeypatch)
    failing(LedgerUnavailable("PostgreSQL: gone"))(scene)
    with pytest.raises(LedgerUnavailable):
        scene.manage()


def test_a_position_that_is_gone_is_no_trouble(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(world, monkeypatch)
    failing(DataUnavailable("position 1: closed meanwhile"))(scene)
    export = scene.manage()
    assert export["troubles"] == []
    assert {action["action"] for action in export["actions"]} == {"none", "exit"}
    assert (export["exited"], export["adjusted"]) == (1, 0)
