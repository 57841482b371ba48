"""What the gate is told of the last day, at the edges of its windows and over several venues."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from shared import clock
from shared.risk import lately
from shared.risk.lately import Lately
from tests.peg_rows import tell_worth
from tests.risk.world import BTC, ETH, World, dec, ticket


def ask(world: World, position_id: int) -> Lately:
    return lately.fetch(world.run, ticket(), position_id, None, clock.now_ms())


def ago(**duration: float) -> datetime:
    return clock.now() - timedelta(**duration)


# The market ---------------------------------------------------------------------------------------


def minute(world: World, venue: str, low: object, high: object, at: datetime | None = None) -> None:
    world.price(venue, BTC, 100, at=at)
    world.ledger.execute(
        "UPDATE prices SET low_1m = %s, high_1m = %s WHERE venue = %s AND symbol = %s",
        (dec(low), dec(high), venue, BTC),
    )


def test_the_widest_range_of_all_venues_counts(world: World, position: int) -> None:
    minute(world, "kraken", 98, 101)
    minute(world, "coinbase", 99, 103)
    found = ask(world, position)
    assert (found.low_1m, found.high_1m) == (98, 103)


@pytest.mark.parametrize(
    ("age_s", "is_told"), [(-1, True), (-1.001, False), (90, True), (90.001, False)]
)
def test_a_minute_is_told_for_90_seconds(
    world: World, position: int, age_s: float, is_told: bool
) -> None:
    minute(world, "kraken", 98, 101, at=ago(seconds=age_s))
    assert (ask(world, position).low_1m == 98) is is_told


@pytest.mark.parametrize("pair", ["USDT/USD", "USDC/USDT"])
@pytest.mark.parametrize(("age_s", "is_told"), [(599.999, True), (600, False), (700, False)])
def test_a_worth_is_told_for_ten_minutes(
    world: World, position: int, pair: str, age_s: float, is_told: bool
) -> None:
    world.ledger.execute("DELETE FROM prices")
    tell_worth(world.ledger, 1, pair=pair, at=ago(seconds=age_s))
    found = ask(world, position)
    told = found.quote_worths if pair == "USDT/USD" else found.quote_cross_worths
    assert (told == [1]) is is_told


@pytest.mark.parametrize(("age_s", "worth"), [(599.999, 320), (600, 200), (630, 200)])
def test_what_a_venue_holds_is_worth_its_newest_price_or_its_cost(
    world: World, position: int, age_s: float, worth: int
) -> None:
    assert ask(world, position).venue_held_quote == 0
    world.fill(world.position(ETH), 2, symbol=ETH, price=100)
    world.price("kraken", ETH, 160, at=ago(seconds=age_s))
    assert ask(world, position).venue_held_quote == worth


# Repeated entries ---------------------------------------------------------------------------------


def enter(world: World, position_id: int, **changes: Any) -> None:
    row = {"order_status": "filled", "quantity": "0.001", "filled": "0.001"} | changes
    world.intent(position_id, **row)


def reenabled(world: World, at: datetime, *, symbol: str = BTC, strategy: str = "momentum") -> None:
    world.ledger.execute(
        "INSERT INTO throttles (pod, symbol, strategy, tripped_at, detail, reenabled_at, "
        "reenabled_by, reason) VALUES ('test', %s, %s, %s, 'test', %s, 'person:ada', 'test')",
        (symbol, strategy, at, at),
    )


def test_what_came_with_another_strategys_entry_is_not_after_it(
    world: World, position: int
) -> None:
    enter(world, position, sent_at=ago(minutes=5))
    other = world.position(closed_at=clock.now(), close_reason="stop", strategy="breakout")
    enter(world, other, sent_at=ago(minutes=5))
    assert ask(world, position).repeated_entries == 0


def test_only_what_came_after_the_last_time_that_a_person_allowed_it_counts(
    world: World, position: int
) -> None:
    for minutes in (9, 7, 5, 3):
        enter(world, position, sent_at=ago(minutes=minutes))
    reenabled(world, ago(minutes=8))
    assert ask(world, position).repeated_entries == 3
    reenabled(world, ago(minutes=5))  # with the third
    assert ask(world, position).repeated_entries == 1


@pytest.mark.parametrize("other", [{"symbol": ETH}, {"strategy": "breakout"}])
def test_what_a_person_allowed_elsewhere_changes_nothing_here(
    world: World, position: int, other: dict[str, str]
) -> None:
    enter(world, position, sent_at=ago(minutes=9))
    reenabled(world, ago(minutes=5), **other)
    assert ask(world, position).repeated_entries == 1
