"""Half of a winner is sold once, whatever dies in between, and neither half becomes unsellable."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from shared.errors import VenueUnavailable
from shared.execution.types import MarketRules
from shared.risk import manage as manager
from tests.conftest import VirtualClock
from tests.execution.scripted_venue import ScriptedVenue
from tests.risk.managing.desk_bench import DeskBench
from tests.risk.managing.minute_bench import BenchDesk, BenchVenue
from tests.risk.world import BTC, World, dec, make_run, quote, rules

MakeBench = Callable[..., DeskBench]
FAR = {"TAKE_PROFIT_PERCENT": "50", "TRAILING_ACTIVATION_PERCENT": "40", "MAX_POSITION_SIZE": "95"}


@pytest.fixture
def make(world: World, virtual_clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> MakeBench:
    def made(**settings: str) -> DeskBench:
        return DeskBench(world, virtual_clock, monkeypatch, **FAR | settings)

    return made


class Killed(BaseException):
    """The process ends here."""


def die(*arguments: Any) -> None:
    raise Killed


def halves(bench: DeskBench) -> list[Decimal]:
    return [t.quantity for t in bench.venue.sent if t.side == "sell" and t.stop_price is None]


def test_half_is_sold_once_and_the_rest_is_protected(make: MakeBench) -> None:
    bench = make()
    bought = bench.bought()
    assert [a["action"] for a in bench.manage("110.2")["actions"]] == ["partial_profit"]
    half = Decimal("0.447")  # of 0.895, on the grid of 0.001
    assert (bench.sold(), bench.position.quantity) == (half, bought - half)
    (stop,) = bench.venue.stops.values()
    assert stop.quantity == bought - half
    for mid in ("110.3", "112", "115"):
        bench.loop(mid)
        bench.manage(mid)
    assert bench.sold() == half


@pytest.mark.parametrize("answer", ["", "lose answer", "lose request"])
@pytest.mark.parametrize("dies", [False, True])
def test_a_kill_after_the_sale_sells_no_further_quarter(
    make: MakeBench, monkeypatch: pytest.MonkeyPatch, answer: str, dies: bool
) -> None:
    """The run dies before it notes what the venue said, or never hears of its sale."""
    bench = make()
    # The answer to the sale is lost, not that to the stop's cancel before it.
    submit = ScriptedVenue.submit

    def submit_once(venue: ScriptedVenue, ticket: Any) -> Any:
        if ticket.stop_price is None and not halves(bench):
            venue.next_submit = answer
        return submit(venue, ticket)

    monkeypatch.setattr(ScriptedVenue, "submit", submit_once)
    if dies:
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr("shared.execution.intents.settle", die)
            bench.manage("110.2")
    else:
        bench.manage("110.2")
    for _ in range(8):  # resolved after the quarantine; asked for all the time
        bench.loop("110.3")
        bench.manage("110.3")
    bought, sold = bench.bought(), bench.sold()
    assert sold == Decimal("0.447")
    assert bench.position.quantity == bought - sold
    # Only what never reached the venue is sent again, once it is known not to have.
    assert len(halves(bench)) == (2 if answer == "lose request" else 1)


@pytest.mark.parametrize(
    ("quantity", "stop", "minimum", "is_sold"),
    [
        ("0.5", "98", "5", True),
        ("0.106", "98", "5", True),  # the rest of 0.053 is worth 5.09 where its stop may sell it
        ("0.104", "98", "5", False),  # 0.052 x 98 x 0.98 is 4.99
        ("0.098", "105", "5", True),
        ("0.096", "105", "5", False),
        ("0.003", "98", "0", False),  # half of it is 0.001, under the minimum of 0.002
        ("0.004", "98", "0", True),
        ("0.5", "98", "60", False),
    ],
)
def test_neither_half_becomes_unsellable(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    quantity: str,
    stop: str,
    minimum: str,
    is_sold: bool,
) -> None:
    world.configure(MAX_POSITION_SIZE="20")
    desk = BenchDesk(world)
    desk.prices[BTC] = quote(111)
    told = rules(min_notional=dec(minimum))
    monkeypatch.setattr(BenchVenue, "rules", lambda venue, symbol: told)
    monkeypatch.setattr("shared.execution.desk.Desk.open", lambda run: desk)
    position_id = world.position(
        stop_price=dec(stop), target_price=dec(200), trailing_activation_price=dec(150)
    )
    world.fill(position_id, quantity)
    manager.manage(make_run(world.ledger, "position_manager"))
    expected = [(position_id, "partial_profit", Decimal("0.5"))] if is_sold else []
    assert desk.exits == expected


@pytest.mark.parametrize(
    ("on_kraken", "kraken_knows", "is_sold"),
    [
        ("0.3", True, True),
        ("0.001", True, True),  # dust there is dust either way
        ("0.05", True, False),  # sellable whole, its half is not
        ("0.3", False, False),  # it does not tell its minimums
    ],
)
def test_every_venue_that_holds_a_part_is_asked(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    on_kraken: str,
    kraken_knows: bool,
    is_sold: bool,
) -> None:

    world.configure(MAX_POSITION_SIZE="20")
    desk = BenchDesk(world)
    desk.prices[BTC] = quote(111)
    desk.venues["kraken"] = BenchVenue("kraken", desk)

    def told(venue: BenchVenue, symbol: str) -> MarketRules:
        if venue.name == "kraken" and not kraken_knows:
            raise VenueUnavailable("kraken: BTC/USDT: not listed")
        return rules(venue.name)

    monkeypatch.setattr(BenchVenue, "rules", told)
    monkeypatch.setattr("shared.execution.desk.Desk.open", lambda run: desk)
    position_id = world.position(target_price=dec(200), trailing_activation_price=dec(150))
    world.fill(position_id, "0.5")
    world.fill(position_id, on_kraken, venue="kraken")
    manager.manage(make_run(world.ledger, "position_manager"))
    assert bool(desk.exits) is is_sold
