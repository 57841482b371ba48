"""The comparison of ways back to the target, on prices whose drift is known."""

from __future__ import annotations

import numpy as np
import pytest

from deploy.research import rebalancing
from shared.market.types import Candles


def rising(steps: int, factor: float) -> dict[str, np.ndarray]:
    """BTC rises by ``factor`` in all, evenly; ETH and SOL stand still. A day and more between."""
    still = np.full(steps, 100.0)
    return {"BTC/USDT": np.linspace(100, 100 * factor, steps), "ETH/USDT": still, "SOL/USDT": still}


def test_prices_that_stand_still_cost_nothing() -> None:
    found = rebalancing.measure(rising(100, 1.0), 0.5, 12)
    assert (found.rebalances_a_year, found.cost_percent_a_year, found.off_points) == (0, 0, 0)


@pytest.mark.parametrize(("inner_share", "sold_points"), [(0.0, 5.0), (0.5, 2.5)])
def test_one_crossing_of_the_band_is_one_sale_back_to_where_it_is_to_be_left(
    inner_share: float, sold_points: float
) -> None:
    """BTC reaches 45 of 40 % after a rise of about 13 %, because the equity rises with it."""
    steps = 20_000
    found = rebalancing.measure(rising(steps, 1.1385), inner_share, 12)
    years = steps / (24 * 365.25)
    assert found.rebalances_a_year * years == pytest.approx(1)
    assert found.turnover_percent_a_year * years == pytest.approx(sold_points, abs=0.02)
    assert found.cost_percent_a_year == pytest.approx(found.turnover_percent_a_year * 12e-4)


def test_hours_that_all_symbols_have() -> None:
    def candles(symbol: str, *hours: int) -> Candles:
        times = np.array(hours, dtype=np.int64) * 3_600_000
        values = np.array(hours, dtype=float)
        return Candles(symbol, "1h", times, values, values, values, values, values)

    found = rebalancing.aligned({"A": candles("A", 1, 2, 4), "B": candles("B", 2, 3, 4)})
    assert {symbol: closes.tolist() for symbol, closes in found.items()} == {
        "A": [2.0, 4.0], "B": [2.0, 4.0],
    }  # fmt: skip
