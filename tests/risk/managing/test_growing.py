"""Pyramids and averaging down with the real desk and the real gate, filled slice by slice."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest

from shared.errors import OrderDenied
from shared.execution.desk import Desk
from shared.ledger import state
from tests.conftest import VirtualClock
from tests.risk.managing.desk_bench import DeskBench
from tests.risk.world import World

MakeBench = Callable[..., DeskBench]
FAR = {"TAKE_PROFIT_PERCENT": "50", "TRAILING_ACTIVATION_PERCENT": "40"}
WIDE = {"STOP_LOSS_PERCENT": "5", "MAX_POSITION_SIZE": "200", "POSITION_SIZE_PERCENT": "2"}


@pytest.fixture
def make(world: World, virtual_clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> MakeBench:
    def made(**settings: str) -> DeskBench:
        return DeskBench(world, virtual_clock, monkeypatch, **settings)

    return made


def kinds(export: dict[str, object]) -> list[str]:
    actions = export["actions"]
    assert isinstance(actions, list)
    return [action["action"] for action in actions]


@pytest.mark.parametrize(
    "way",
    [
        ["106"] * 12,
        ["106.1", "106.3", "106.5", "106.4", "106.5", "106.6", "106.4", "106.2", "106", "106"],
        ["107", "108", "109", "110", "111"],  # it runs away: nothing is bought after it
        ["106.52", "106.53", "106.54", "106.4", "106.6"],
    ],
)
@pytest.mark.parametrize("fill_share", ["1", "0.4"])
def test_a_pyramid_never_adds_risk_whatever_its_slices_pay(
    make: MakeBench, way: list[str], fill_share: str
) -> None:
    bench = make(size="60", **FAR)
    before = bench.loss_at_stop()
    assert kinds(bench.manage("106")) == ["pyramid"]
    assert bench.position.stop_price > 100
    bench.venue.fill_share = Decimal(fill_share)
    for mid in way:
        assert bench.loop(mid) == []
        assert bench.loss_at_stop() <= before
    paid = [f.price for f in bench.venue.executions if f.side == "buy"][1:]
    assert all(price <= Decimal(106) * Decimal("1.005") for price in paid)
    if way[0] == "107":
        assert paid == []
    else:
        assert paid
    assert "pyramid" not in kinds(bench.manage(way[-1]))  # once


def test_a_refused_addition_leaves_the_stop_where_it_was(
    make: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make(size="60", **FAR)

    def refuse(*arguments: object) -> str:
        raise OrderDenied("TEST_REFUSED", why="test")

    monkeypatch.setattr(Desk, "add", refuse)
    assert kinds(bench.manage("106")) == ["pyramid_refused"]
    assert bench.position.stop_price == 98
    assert bench.events("STOP_RAISED") == []


@pytest.mark.parametrize(
    ("way", "mid", "settings"),
    [("pyramid", "106", FAR), ("average_down", "97.6", WIDE)],
)
def test_what_a_day_may_lose_bounds_additions_too(
    make: MakeBench, way: str, mid: str, settings: dict[str, str]
) -> None:
    """A market of 3 % an hour: a day in twenty loses a quarter of what is held, some 20 quote."""
    bench = make(size="80", **settings)
    rough = bench.world.variables | {"MAX_DRAWDOWN_PERCENT": "0.3"}
    bench.hourly_step_percent = 3.0
    bench.world.configure(**rough)
    (refused,) = bench.manage(mid)["actions"]
    assert refused["action"] == f"{way}_refused"
    assert refused["detail"].startswith("VAR_LIMIT: ")
    assert bench.bought() == bench.position.quantity
    assert bench.events("STOP_RAISED") == []
    bench.world.configure(MAX_DRAWDOWN_PERCENT="10")
    assert kinds(bench.manage(mid)) == [way]


def test_the_raised_stop_rests_before_the_first_slice_is_bought(make: MakeBench) -> None:
    bench = make(size="60", **FAR)
    bench.manage("106")
    (ticket,) = bench.venue.stops.values()
    assert ticket.stop_price is not None
    assert ticket.stop_price >= bench.position.stop_price
    assert ticket.quantity == bench.bought() == bench.position.quantity


def test_averaging_down_keeps_its_stop_and_its_budget(make: MakeBench) -> None:
    """Stop 5 % below; 80 of at most 200: at 97.6 half as much is added, once."""
    bench = make(size="80", **WIDE)
    held = bench.position.quantity
    assert kinds(bench.manage("97.6")) == ["average_down"]
    for mid in ("97.6", "97.4", "97.5", "97.6", "97.7", "97.6", "97.5", "97.4", "97.3", "97.2"):
        assert bench.loop(mid) == []
    grown = bench.position
    assert grown.quantity == pytest.approx(held * Decimal("1.5"), abs=Decimal("0.002"))
    assert grown.stop_price == 95
    assert bench.loss_at_stop() <= Decimal(200) * 5 / 100
    assert grown.average_entry_price is not None
    assert grown.average_entry_price < Decimal("99.5")
    assert kinds(bench.manage("97.2")) == []


@pytest.mark.parametrize(
    ("why", "mid", "size", "settings"),
    [
        ("switched off", "97.6", "80", {"AVERAGE_DOWN": "false"}),
        ("not below -2 %", "98.2", "80", {}),
        ("nearer to the stop than to the entry", "97.4", "80", {}),
        ("the stop of the defaults", "98.06", "80", {"STOP_LOSS_PERCENT": "2"}),
        ("the stop of the aggressive profile", "97.9", "80", {"STOP_LOSS_PERCENT": "3"}),
        ("full size already", "97.6", "199", {}),
        ("the budget is used up", "97.6", "80", {"MAX_POSITION_SIZE": "81"}),
        ("averages are falling", "97.6", "80", {}),
        ("averages are not known", "97.6", "80", {}),
        ("reducing", "97.6", "80", {}),
        ("halted", "97.6", "80", {}),
    ],
)
def test_no_averaging_down(
    make: MakeBench, why: str, mid: str, size: str, settings: dict[str, str]
) -> None:
    bench = make(size=size, **WIDE | settings)
    if why.startswith("averages"):
        bench.trend = -1 if "falling" in why else 0
    if why in ("reducing", "halted"):
        state.tighten(bench.world.ledger, why.upper(), reason="test", set_by="test")
    assert kinds(bench.manage(mid)) == []
    bench.loop(mid)
    assert bench.bought() == bench.position.quantity
