"""The comparison of indicators with TA-Lib: what it judges and what it does not."""

from __future__ import annotations

import pytest

from deploy.research.indicator_reference import compare, relative_difference
from shared.market.candles.candle_rows import sliced
from shared.market.technical import indicators
from tests.market.fakes import as_candles, walk

HISTORY = as_candles(walk(3_000, "1h", seed=2), "1h")


def values_of(count: int) -> dict[str, float]:
    return indicators.compute(sliced(HISTORY, slice(-count, None)))


def test_settled_values_agree_and_a_changed_one_does_not() -> None:
    values = values_of(1_600)
    found = {one.name: one for one in compare(values, {}, HISTORY)}
    assert set(found) == set(indicators.NAMES)
    assert all(one.agrees for one in found.values())
    changed = compare(values | {"adx_14": values["adx_14"] * 1.00001}, {}, HISTORY)
    assert [one.name for one in changed if not one.agrees] == ["adx_14"]


def test_a_settling_value_is_told_and_not_judged() -> None:
    values = values_of(1_000)
    settling = indicators.settling(values, 1_000)
    (told,) = (one for one in compare(values, settling, HISTORY) if one.name == "ema_200")
    assert told.agrees and told.seed_weight == 0.00034
    assert told.difference is not None and 1e-6 < told.difference < 1e-3
    (judged,) = (one for one in compare(values, {}, HISTORY) if one.name == "ema_200")
    assert not judged.agrees


def test_a_value_that_talib_does_not_have_does_not_agree() -> None:
    short = sliced(HISTORY, slice(-50, None))
    (one,) = (c for c in compare(values_of(1_600), {}, short) if c.name == "ema_200")
    assert one.expected is None and one.difference is None and not one.agrees


def test_a_history_with_another_end_is_refused() -> None:
    with pytest.raises(ValueError, match="history: expected to end at"):
        compare(values_of(1_600), {}, sliced(HISTORY, slice(0, -1)))


@pytest.mark.parametrize(
    ("name", "value", "expected", "difference"),
    [
        ("rsi_14", 50.0, 40.0, 0.2),
        ("macd", -1e-9, 1e-9, 2.0),
        ("macd", 0.0, 0.0, 0.0),
        ("stochastic_k", 0.0, 1e-12, 1e-8),  # rounding of running sums, against 1e-4
        ("stochastic_k", 0.0, 1e-3, 1.0),
    ],
)
def test_differences_are_relative_to_the_larger_value(
    name: str, value: float, expected: float, difference: float
) -> None:
    assert relative_difference(name, value, expected) == pytest.approx(difference)
