"""A fall to three times the stop's distance costs no more than the rest of a day's loss."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import config
from shared.errors import OrderDenied
from shared.ledger import equity, positions
from shared.ledger.connection import Ledger
from shared.ledger.equity import Standing
from shared.risk.staking import gaps
from tests.conftest import VirtualClock
from tests.risk.world import BTC, World, make_run

SETTINGS = config.load({})  # MAX_DAILY_LOSS 50, stop 2 %
WORTH = Decimal(10_000)


def standing(now: str, day_start: str, rolling_start: str) -> Standing:
    return Standing(
        capital_quote=WORTH,
        at=None,
        equity_quote=Decimal(now),
        high_water_quote=WORTH,
        day_start_quote=Decimal(day_start),
        rolling_start_quote=Decimal(rolling_start),
        week_start_quote=WORTH,
    )


def cap(stands: Standing, held: str = "0", pending: str = "0", stop: str = "2") -> Decimal:
    return gaps.cap_quote(
        SETTINGS,
        stands,
        worth_quote=WORTH,
        held_loss_quote=Decimal(held),
        pending_quote=Decimal(pending),
        stop_distance_percent=Decimal(stop),
    )


FLAT = standing("10000", "10000", "10000")


@pytest.mark.parametrize(
    ("stands", "held", "pending", "stop", "expected"),
    [
        (FLAT, "0", "0", "2", "833.33"),  # 50 of loss at 6 %
        (FLAT, "0", "0", "5", "333.33"),  # at 15 %
        (FLAT, "0", "0", "40", "50.00"),  # nothing falls by more than all of it
        (FLAT, "20", "0", "2", "500.00"),
        (FLAT, "20", "100", "2", "400.00"),  # 100 under way may lose 6
        (FLAT, "60", "0", "2", "-166.67"),
        (standing("9970", "10000", "10000"), "0", "0", "2", "333.33"),  # 30 of 50 are lost
        (standing("9970", "9970", "10000"), "0", "0", "2", "333.33"),  # by the last 24 hours
        (standing("10400", "10000", "10000"), "0", "0", "2", "833.33"),  # a gain adds nothing
    ],
)
def test_what_a_day_still_lets_gap(
    stands: Standing, held: str, pending: str, stop: str, expected: str
) -> None:
    assert cap(stands, held, pending, stop) == pytest.approx(Decimal(expected), abs=Decimal("0.01"))


def test_before_any_equity_the_capital_stands_for_it() -> None:
    assert cap(Standing(WORTH, None, None, None, None, None, None)) == pytest.approx(
        Decimal("833.33"), abs=Decimal("0.01")
    )


@pytest.mark.parametrize("stop", ["0", "-1", "NaN"])
def test_a_stop_that_is_none_is_denied(stop: str) -> None:
    with pytest.raises(OrderDenied, match="EXIT_STOP_DISTANCE"):
        cap(FLAT, stop=stop)


@given(
    held=st.decimals(0, 49, places=2),
    stop=st.decimals("0.5", 30, places=2),
)
def test_all_gaps_together_stay_within_the_day(held: Decimal, stop: Decimal) -> None:
    allowed = cap(FLAT, str(held), "0", str(stop))
    gap = min(Decimal(1), 3 * stop / 100)
    assert held + allowed * gap <= Decimal("50.0000001")


def test_held_positions_count_from_here_to_three_times_their_stop(
    ledger: Ledger, virtual_clock: VirtualClock
) -> None:
    world = World(ledger, make_run(ledger))
    world.transfer("binance", "USDT", 10_000, at=world.now() - timedelta(days=1))
    position = world.position()  # stop at 98
    world.fill(position, "2", price="100")
    held = positions.open_positions(ledger)
    assert equity.standing(ledger, "USDT", 0).worth_quote == 10_000
    assert gaps.held_loss_quote(held, {BTC: 100.0}) == 12  # 2 x 3 x 2
    assert gaps.held_loss_quote(held, {BTC: 104.0}) == 36
    assert gaps.held_loss_quote(held, {BTC: 97.0}) == 12  # at its stop already
