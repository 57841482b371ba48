"""How long indicators remember: the numbers that the documentation names, and their meaning."""

from __future__ import annotations

import pytest

from shared.market.candles.candle_rows import WINDOW
from shared.market.technical import warmup


def test_a_window_settles_every_indicator() -> None:
    assert max(warmup.SETTLED.values()) == 1_582 <= WINDOW
    assert warmup.usable(WINDOW) == frozenset(warmup.FIRST)
    assert warmup.settling(WINDOW) == {}


@pytest.mark.parametrize(
    ("name", "usable", "settled"),
    [
        ("ema_200", 891, 1_582),
        ("ema_50", 223, 396),
        ("ema_9", 40, 71),
        ("rsi_14", 109, 326),
        ("adx_14", 153, 383),
        ("macd_signal", 121, 331),
        ("bollinger_upper", 20, 20),
        ("stochastic_d", 18, 18),
    ],
)
def test_candles_that_an_indicator_needs(name: str, usable: int, settled: int) -> None:
    assert (warmup.USABLE[name], warmup.SETTLED[name]) == (usable, settled)
    assert name not in warmup.usable(usable - 1) and name in warmup.usable(usable)
    assert name not in warmup.settling(settled)
    assert (name in warmup.settling(settled - 1)) == (usable < settled)


def test_the_weight_of_a_seed_by_hand() -> None:
    """An EMA of 9 keeps 8/10 with every candle, an RSI 13/14 and a window of 20 nothing."""
    assert warmup.seed_weight("ema_9", 9) == 1
    assert warmup.seed_weight("ema_9", 11) == pytest.approx(0.64)
    assert warmup.seed_weight("rsi_14", 17) == pytest.approx((13 / 14) ** 2)
    assert warmup.seed_weight("zscore_20", 20) == 0
    assert warmup.seed_weight("zscore_20", 19) == 1


def test_what_is_looked_at_holds_nothing_of_a_seed_but_the_slowest() -> None:
    weights = {name: warmup.seed_weight(name, warmup.MEMORY) for name in warmup.FIRST}
    assert weights.pop("ema_200") > 0.01
    assert max(weights.values()) < 2e-8
