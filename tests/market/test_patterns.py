"""Patterns on shapes that are drawn for the purpose."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from shared.market import patterns
from shared.market.candle_rows import sliced
from shared.market.patterns.pivots import find_pivots, looked_at
from shared.market.types import Candles
from tests.market.fakes import as_candles, walk

LEG = 8  # candles from one turn to the next


def drawn(*turns: float, leg: int = LEG, volume_at_end: float = 10.0) -> Candles:
    """Candles along straight lines between ``turns``, after a quiet lead-in at the first."""
    path = [np.full(30, turns[0])]
    for start, end in zip(turns[:-1], turns[1:], strict=True):
        path.append(np.linspace(start, end, leg + 1)[1:])
    close = np.concatenate(path)
    opened = np.append(close[0], close[:-1])
    rows = walk(len(close), "1h")
    rows[:, 1:5] = np.column_stack(
        (opened, np.maximum(opened, close) + 0.05, np.minimum(opened, close) - 0.05, close)
    )
    rows[:, 5] = 10.0
    rows[-1, 5] = volume_at_end
    return as_candles(rows, "1h")


def mirrored(candles: Candles) -> Candles:
    """The same shape upside down, around 100."""
    upside_down = {"open": "open", "high": "low", "low": "high", "close": "close"}
    columns = {name: 200 - getattr(candles, source) for name, source in upside_down.items()}
    return dataclasses.replace(candles, **columns)


def kinds(candles: Candles) -> dict[str, dict[str, Any]]:
    return {pattern["kind"]: pattern for pattern in patterns.find(candles)}


ASCENDING = drawn(90, 110, 98, 110, 102, 110, 106, 108)
SYMMETRICAL = drawn(100, 116, 86, 111, 91, 107, 95, 101)
HEAD = drawn(90, 105, 97, 115, 97, 105, 99)
CHANNEL = drawn(90, 110, 92, 112, 94, 114, 96, 105)


@pytest.mark.parametrize(
    ("candles", "kind", "direction"),
    [
        (ASCENDING, "ascending_triangle", "bullish"),
        (mirrored(ASCENDING), "descending_triangle", "bearish"),
        (SYMMETRICAL, "symmetrical_triangle", "neutral"),
        (mirrored(SYMMETRICAL), "symmetrical_triangle", "neutral"),
        (HEAD, "head_and_shoulders", "bearish"),
        (mirrored(HEAD), "inverse_head_and_shoulders", "bullish"),
    ],
)
def test_a_drawn_shape_is_found(candles: Candles, kind: str, direction: str) -> None:
    found = kinds(candles)[kind]
    assert found["direction"] == direction
    assert 0.5 < found["confidence"] <= 1
    assert found["timeframe"] == "1h"
    assert len(found["points"]) >= 5
    times = [ms for ms, _ in found["points"]]
    assert times == sorted(times) and set(times) <= set(candles.open_ms.tolist())


@pytest.mark.parametrize("candles", [CHANNEL, mirrored(CHANNEL), drawn(100, 101, 100)])
def test_no_shape_is_seen_where_there_is_none(candles: Candles) -> None:
    assert not [k for k in kinds(candles) if "triangle" in k or "shoulders" in k]


def test_points_are_the_turns_that_were_drawn() -> None:
    found = kinds(HEAD)["head_and_shoulders"]
    prices = [price for _, price in found["points"]]
    assert prices == pytest.approx([105, 97, 115, 97, 105], abs=0.06)
    assert found["neckline"] == pytest.approx(97, abs=0.06)
    assert found["confirmed"] is False
    below = drawn(90, 105, 97, 115, 97, 105, 94)
    assert kinds(below)["head_and_shoulders"]["confirmed"] is True


def test_a_triangle_that_the_price_has_left_is_over() -> None:
    assert "ascending_triangle" not in kinds(drawn(90, 110, 98, 110, 102, 110, 106, 116))


def test_a_head_that_the_price_has_passed_is_over() -> None:
    assert "head_and_shoulders" not in kinds(drawn(90, 105, 97, 115, 97, 105, 99, 118))


def test_a_head_that_does_not_stand_out_is_none() -> None:
    assert "head_and_shoulders" not in kinds(drawn(90, 105, 97, 105.5, 97, 105, 99))


def test_levels_count_their_touches() -> None:
    found = patterns.find(drawn(95, 110, 100, 110, 100, 110, 100, 105))
    resistance = next(p for p in found if p["kind"] == "resistance")
    support = next(p for p in found if p["kind"] == "support")
    assert (resistance["touches"], support["touches"]) == (3, 3)
    assert resistance["price"] == pytest.approx(110, abs=0.06)
    assert support["price"] == pytest.approx(100, abs=0.06)
    assert resistance["confidence"] == 0.75
    assert len(resistance["points"]) == 3


@pytest.mark.parametrize(("volume", "confirmed"), [(30.0, True), (10.0, False)])
def test_a_breakout_is_confirmed_by_volume(volume: float, confirmed: bool) -> None:
    turns = (95, 110, 100, 110, 100, 110, 100, 113)
    up = drawn(*turns, leg=3, volume_at_end=volume)
    for candles, direction in ((up, "bullish"), (mirrored(up), "bearish")):
        found = kinds(candles)["breakout"]
        assert found["direction"] == direction
        assert found["volume_confirmed"] is confirmed
        assert found["volume_ratio"] == pytest.approx(volume / 10)
        assert found["touches"] == 3
        assert found["points"][-1] == [candles.open_ms[-1], candles.close[-1]]
        assert found["confidence"] == (0.75 if confirmed else 0.375)


def test_a_breakout_is_told_once_and_not_without_volume_to_compare_with() -> None:
    turns = (95, 110, 100, 110, 100, 110, 100, 113, 116)
    assert "breakout" not in kinds(drawn(*turns, leg=3))
    silent = drawn(*turns[:-1], leg=3)
    silent.volume[:] = 0
    assert "breakout" not in kinds(silent)


def test_pivots_once_confirmed_never_move() -> None:
    candles = as_candles(walk(200, "15m", seed=8), "15m")
    whole = find_pivots(looked_at(candles))
    assert len(whole) > 10
    for end in range(40, 200, 7):
        earlier = find_pivots(looked_at(sliced(candles, slice(0, end))))
        assert earlier == whole[: len(earlier)]


def test_pivots_alternate_and_are_extremes() -> None:
    candles = as_candles(walk(200, "15m", seed=8), "15m")
    view = looked_at(candles)
    pivots = find_pivots(view)
    for one, other in zip(pivots[:-1], pivots[1:], strict=True):
        assert one.kind != other.kind and one.index < other.index
        between = slice(one.index, other.index + 1)
        extremes = (max(view.high[between]), min(view.low[between]))
        assert {one.price, other.price} == set(extremes)


def test_a_short_window_shows_nothing() -> None:
    assert patterns.find(as_candles(walk(27, "1h"), "1h")) == []
