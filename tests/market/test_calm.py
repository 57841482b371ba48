"""A quiet minute and a day's volume, from candles whose sums were done by hand."""

from __future__ import annotations

import numpy as np
import pytest

from shared.market import calm
from shared.market.calm import Calm
from shared.market.types import Candles
from tests.market.fakes import NOW_MS, as_candles

HOUR, MINUTE = 3_600_000, 60_000


def hours(count: int, *, until_ms: int = NOW_MS, volume: float = 2.0, without: int = 0) -> Candles:
    """Hours of a typical price of 105; ``without`` of them are left out."""
    opens = until_ms - HOUR * np.arange(count, 0, -1)
    rows = np.array([[at, 100.0, 120.0, 90.0, 105.0, volume] for at in opens]).reshape(-1, 6)
    return as_candles(np.delete(rows, range(1, 1 + without), axis=0), "1h")


def minute(closed_ms: int) -> Candles:
    return as_candles(np.array([[closed_ms - MINUTE, 100.0, 101.5, 99.5, 101.0, 1.0]]), "1m")


@pytest.mark.parametrize(
    ("candles", "quote"),
    [
        (hours(24), 24 * 2 * 105),
        (hours(40), 24 * 2 * 105),  # the last 24 alone
        (hours(24, without=3), 21 * 2 * 105),  # three hours without a trade
        (hours(24, volume=0.0), 0),
        (hours(24, until_ms=NOW_MS - 2 * HOUR), 24 * 2 * 105),
        (hours(24, until_ms=NOW_MS - 3 * HOUR), None),  # nobody has told the newest
        (hours(24, until_ms=NOW_MS + HOUR), None),
        (hours(23), None),
        (hours(0), None),
        (None, None),
    ],
)
def test_the_volume_of_24_closed_hours(candles: Candles | None, quote: float | None) -> None:
    assert calm.measure(None, candles, NOW_MS).volume_24h_quote == quote


@pytest.mark.parametrize(
    ("age_ms", "told"), [(0, True), (180_000, True), (180_001, False), (-1, False)]
)
def test_the_range_of_the_last_closed_minute(age_ms: int, told: bool) -> None:
    found = calm.measure(minute(NOW_MS - age_ms), None, NOW_MS)
    assert found == Calm(*((99.5, 101.5) if told else (None, None)), None)


def test_without_minutes_there_is_no_range() -> None:
    empty = as_candles(np.empty((0, 6)), "1m")
    assert calm.measure(empty, None, NOW_MS) == calm.measure(None, None, NOW_MS)
    assert calm.measure(None, None, NOW_MS) == Calm(None, None, None)
