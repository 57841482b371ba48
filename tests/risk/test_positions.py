"""Positions as the ledger tells them."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.errors import DataUnavailable
from shared.ledger import positions
from tests.risk.world import ETH, World


def test_open_positions_come_from_fills(world: World) -> None:
    world.position("SOL/USDT", closed_at=world.now(), close_reason="stop")
    held = world.position()
    world.fill(held, 2, price=100, fee_quote="0.2")
    world.fill(held, 1, price=110, side="sell")
    waiting = world.position(ETH)
    found = {position.position_id: position for position in positions.open_positions(world.ledger)}
    assert set(found) == {held, waiting}
    assert found[held].quantity == 1
    assert found[held].average_entry_price == 100
    assert found[held].quote_flow == Decimal("-90.2")
    assert found[held].is_held
    assert not found[waiting].is_held
    assert found[waiting].average_entry_price is None


def test_by_id(world: World) -> None:
    closed = world.position(closed_at=world.now(), close_reason="stop")
    found = positions.by_id(world.ledger, closed)
    assert found is not None
    assert found.close_reason == "stop"
    assert positions.by_id(world.ledger, closed + 1) is None


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.decimals(1, 300, places=2), min_size=1, max_size=6))
def test_stops_and_highs_only_rise(world: World, prices: list[Decimal]) -> None:
    position_id = world.position(f"X{world.run.run_id}{hash(tuple(prices)) % 10**9}/USDT")
    stop, high = Decimal(98), Decimal(0)
    for price in prices:
        stop, high = max(stop, price), max(high, price)
        assert positions.tighten_stop(world.ledger, position_id, price) == stop
        assert positions.raise_high_water(world.ledger, position_id, price) == high
    world.ledger.execute(
        "UPDATE positions SET closed_at = %s, close_reason = 'test' WHERE position_id = %s",
        (world.now(), position_id),
    )


def test_a_closed_position_is_not_touched(world: World) -> None:
    closed = world.position(closed_at=world.now(), close_reason="stop")
    with pytest.raises(DataUnavailable, match="closed meanwhile"):
        positions.tighten_stop(world.ledger, closed, Decimal(99))


def test_partial_profit_is_news_once(world: World) -> None:
    position_id = world.position()
    assert positions.mark_partial_taken(world.ledger, position_id)
    assert not positions.mark_partial_taken(world.ledger, position_id)


def test_trades_since(world: World) -> None:
    won = world.closed_trade(5)
    found = positions.trades_since(world.ledger, world.now() - timedelta(minutes=1))
    assert [(row["position_id"], row["pnl_quote"]) for row in found] == [(won, 5)]
    assert positions.trades_since(world.ledger, world.now() + timedelta(minutes=1)) == []
