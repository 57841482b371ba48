"""Marks of equity, and what is measured from them."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from shared import clock
from shared.errors import DataUnavailable, LeaseLost
from shared.ledger import equity
from shared.ledger.equity import Standing
from tests.risk.world import BTC, ETH, World, quote


def standing(world: World) -> Standing:
    return equity.standing(world.ledger, "USDT", clock.now_ms())


def test_cash_and_holdings_make_equity(world: World) -> None:
    world.fill(world.position(), 2, price=100, fee_quote="0.2")
    marked = equity.mark(world.run, {BTC: quote(110, half_spread=1)})
    assert marked == Decimal("10019.8")  # 10,000 - 200 - 0.2 + 2 x 110
    row = world.ledger.one("SELECT equity_quote, cash_quote, positions_quote FROM equity")
    assert row == {
        "equity_quote": Decimal("10019.8"),
        "cash_quote": Decimal("9799.8"),
        "positions_quote": 220,
    }


def test_a_second_mark_of_the_same_moment_replaces_the_first(world: World) -> None:
    world.fill(world.position(), 1)
    equity.mark(world.run, {BTC: quote(110)})
    equity.mark(world.run, {BTC: quote(120)})
    assert [row["equity_quote"] for row in equity.series(world.ledger, world.now())] == [10020]


def test_without_a_quote_the_last_price_counts_and_without_any_nothing_is_written(
    world: World,
) -> None:
    world.fill(world.position(ETH), 1, symbol=ETH)
    with pytest.raises(DataUnavailable, match="ETH/USDT"):
        equity.mark(world.run, {BTC: quote(110)})
    assert equity.series(world.ledger, world.now() - timedelta(days=9)) == []
    world.price("kraken", ETH, 90, at=world.now() - timedelta(hours=3))
    world.price("binance", ETH, 95, at=world.now() - timedelta(hours=1))
    assert equity.mark(world.run, {}) == 9995


def test_an_unfunded_pod_has_no_equity(world: World) -> None:
    world.ledger.execute("DELETE FROM transfers")
    with pytest.raises(DataUnavailable, match="transfers"):
        equity.mark(world.run, {})


def test_a_lost_lease_marks_nothing(world: World) -> None:
    world.run.epoch = 0
    with pytest.raises(LeaseLost):
        equity.mark(world.run, {})
    assert equity.series(world.ledger, world.now() - timedelta(days=9)) == []


def test_before_the_first_row_the_capital_counts(world: World) -> None:
    found = standing(world)
    assert found.worth_quote == 10_000
    assert (found.equity_quote, found.drawdown_percent, found.day_loss_quote) == (None, None, None)


def test_drawdown_and_losses(world: World) -> None:
    for hours_ago, value in ((50, 12_000), (23, 11_000), (11, 10_500), (0, 9_900)):
        world.equity(value, at=world.now() - timedelta(hours=hours_ago))
    found = standing(world)
    assert found.drawdown_percent == Decimal("17.5")
    assert found.rolling_loss_quote == 1_100
    assert found.day_loss_quote == 1_100  # the row of 23 hours ago is the last before midnight


def test_the_loss_of_a_week_counts_from_its_first_equity(world: World) -> None:
    week = timedelta(days=7)
    for ago, value in ((week + timedelta(seconds=1), 15_000), (week, 12_000), (week / 2, 13_000)):
        world.equity(value, at=world.now() - ago)
    world.equity(11_000)
    assert standing(world).week_start_quote == 12_000
    assert standing(world).week_loss_quote == 1_000
    world.transfer("binance", "USDT", 500, at=world.now() - timedelta(days=1))
    assert standing(world).week_loss_quote == 1_500  # 500 of what is there were paid in


def test_money_paid_in_or_out_is_neither_profit_nor_loss(world: World) -> None:
    world.equity(10_000, at=world.now() - timedelta(hours=3))
    world.transfer("binance", "USDT", 5_000, at=world.now() - timedelta(hours=2))
    world.equity(14_700, at=world.now() - timedelta(hours=1))
    found = standing(world)
    assert found.high_water_quote == 15_000
    assert found.drawdown_percent == 2
    assert found.day_loss_quote == 300
    world.transfer("binance", "USDT", -4_700, at=world.now())
    world.equity(10_000, at=world.now() + timedelta(seconds=1))
    assert standing(world).day_loss_quote == 300


def test_other_pods_do_not_count(world: World) -> None:
    world.ledger.execute("INSERT INTO equity VALUES ('other', %s, 99999, 99999, 0)", (world.now(),))
    assert standing(world).equity_quote is None


def test_hourly_takes_the_last_of_each_hour(world: World) -> None:
    start = world.now().replace(minute=0)
    for minute, value in ((0, 100), (59, 101), (60, 102), (119, 103)):
        world.equity(value, at=start + timedelta(minutes=minute))
    rows = equity.hourly(world.ledger, start)
    assert [row["equity_quote"] for row in rows] == [101, 103]
