"""The stage of the roll-out: what the gate lets a live pod buy, below its own limits."""

from __future__ import annotations

import pytest

from shared import clock
from shared.errors import ConfigurationError
from shared.ledger import stages
from shared.market.types import Book
from tests.risk.gate_bench import judge, sale
from tests.risk.world import World, dec, ticket


@pytest.fixture(autouse=True)
def armed(world: World) -> None:
    """Live, with limits of its own that are far above the first stage."""
    world.configure(MAX_POSITION_SIZE="5000", POSITION_SIZE_PERCENT="50", MAX_POSITIONS="10")
    world.ledger.execute(
        "INSERT INTO arm_tokens (pod, armed_by, armed_at, expires_at) "
        "VALUES ('test', 'test', now(), now() + interval '1 hour')"
    )


def raise_stage(world: World, number: int) -> None:
    for stage in stages.STAGES[1:number]:
        stages.raise_to(world.ledger, stage, raised_by="test", evidence={})


def bought(world: World, position: int, quote: str, mode: str = "live") -> str | None:
    order = ticket(quantity=dec(quote) / 100)
    deep = Book("BTC/USDT", ((99.99, 1e4),), ((100.01, 1e4),), clock.now_ms())
    return judge(world, order, position_id=position, mode=mode, seen=deep)  # type: ignore[arg-type]


def test_the_first_stage_bounds_a_position_by_one_percent(world: World, position: int) -> None:
    world.equity(5_000)  # 1 % is 50
    assert bought(world, position, "50") is None
    assert bought(world, position, "50.1") == "STAGE_POSITION"
    assert bought(world, position, "50.1", mode="simulated") is None
    assert bought(world, position, "50.1", mode="paper") is None


def test_the_first_stage_bounds_everything_together_by_a_hundred(
    world: World, position: int
) -> None:
    world.equity(50_000)  # 1 % is 500
    assert bought(world, position, "100") is None
    assert bought(world, position, "100.1") == "STAGE_EXPOSURE"
    other = world.position("ETH/USDT")
    world.fill(other, "0.4", symbol="ETH/USDT")
    world.price("binance", "ETH/USDT", 100)
    assert bought(world, position, "60") is None
    assert bought(world, position, "60.1") == "STAGE_EXPOSURE"


@pytest.mark.parametrize(
    ("number", "most"), [(1, "100"), (2, "250"), (3, "500"), (4, "1000"), (5, "2000")]
)
def test_each_stage_lets_a_little_more(world: World, position: int, number: int, most: str) -> None:
    world.equity(200_000)
    raise_stage(world, number)
    assert bought(world, position, most) is None
    refused = bought(world, position, str(dec(most) + 1))
    assert refused == (None if number == 5 else "STAGE_EXPOSURE")


def test_the_stage_of_another_pod_does_not_count(world: World, position: int) -> None:
    world.equity(200_000)
    world.ledger.execute("INSERT INTO live_stages VALUES ('other', 5, now(), 'me', '{}')")
    assert bought(world, position, "101") == "STAGE_EXPOSURE"


def test_a_sale_is_never_bounded(world: World, position: int) -> None:
    world.equity(5_000)
    world.fill(position, 10)
    order = sale(quantity=dec(10))
    assert judge(world, order, purpose="exit", position_id=position, mode="live") is None


def test_a_stage_is_raised_by_one_and_told(world: World) -> None:
    with pytest.raises(ConfigurationError, match="expected 2, one above the present, was 3"):
        stages.raise_to(world.ledger, stages.STAGES[2], raised_by="me", evidence={})
    stages.raise_to(world.ledger, stages.STAGES[1], raised_by="me", evidence={"clean": True})
    found = stages.in_force(world.ledger)
    assert (found.stage.number, found.raised_by) == (2, "me")
    (alert,) = world.ledger.query("SELECT title, body FROM alerts")
    assert alert["title"] == "Live limits were raised to stage 2"
    assert alert["body"] == "pod test, by me: at most 250 in all and 1 % a position"
