"""Patterns on shapes that are drawn for the purpose."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from shared.market import patterns
from shared.market.candles.candle_rows import sliced
from shared.market.patterns import confidence, levels
from shared.market.patterns import pivots as pivots_module
from shared.market.patterns.pivots import LOOKBACK, SCALES_ATRS, Pivot, View, find_pivots, looked_at
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
    assert len(resistance["points"]) == 3


def broken(volume: float) -> Candles:
    """A resistance with three touches that the newest candle leaves upwards."""
    turns = (95, 110, 100, 110, 100, 110, 100, 113)
    return drawn(*turns, leg=3, volume_at_end=volume)


def only_breakout(candles: Candles) -> dict[str, Any]:
    (found,) = [p for p, _ in patterns.measured(candles) if p["kind"] == "breakout"]
    return found


@pytest.mark.parametrize(("volume", "confirmed"), [(30.0, True), (10.0, False)])
def test_a_breakout_is_confirmed_by_volume(volume: float, confirmed: bool) -> None:
    up = broken(volume)
    for candles, direction in ((up, "bullish"), (mirrored(up), "bearish")):
        found = only_breakout(candles)
        assert found["direction"] == direction
        assert found["volume_confirmed"] is confirmed
        assert found["volume_ratio"] == pytest.approx(volume / 10)
        assert found["touches"] == 3
        assert found["points"][-1] == [candles.open_ms[-1], candles.close[-1]]


def test_volume_makes_a_breakout_more_credible() -> None:
    features = [
        next(values for p, values in patterns.measured(broken(volume)) if p["kind"] == "breakout")
        for volume in (10.0, 40.0)
    ]
    quiet, loud = (confidence.of("breakout", values) for values in features)
    assert quiet < loud
    assert "breakout" in kinds(broken(40.0))


def test_a_breakout_is_told_once_and_not_without_volume_to_compare_with() -> None:
    turns = (95, 110, 100, 110, 100, 110, 100, 113, 116)
    later = drawn(*turns, leg=3, volume_at_end=40.0)
    assert not [p for p, _ in patterns.measured(later) if p["kind"] == "breakout"]
    silent = drawn(*turns[:-1], leg=3)
    silent.volume[:] = 0
    assert not [p for p, _ in patterns.measured(silent) if p["kind"] == "breakout"]


def test_a_level_that_a_close_has_left_is_over() -> None:
    through = drawn(95, 110, 100, 110, 100, 120, 100, 105)
    assert not [p for p in patterns.find(through) if p.get("price") == pytest.approx(110, abs=1)]


def test_touches_lie_within_the_width_and_the_largest_group_comes_first() -> None:
    prices = (100.0, 100.4, 103.0, 103.2, 103.6, 103.9, 110.0)
    highs = [Pivot(10 * i, price, "high") for i, price in enumerate(prices)]
    found = levels.cluster(highs, 1.0)
    assert [[pivot.price for pivot in level.pivots] for level in found] == [
        [103.0, 103.2, 103.6, 103.9],
        [100.0, 100.4],
    ]


def test_what_is_too_likely_chance_is_not_told() -> None:
    walked = as_candles(walk(1_000, "15m", seed=3), "15m")
    windows = [sliced(walked, slice(0, end)) for end in range(420, 1_000, 20)]
    considered, told = 0, 0
    for window in (*windows, HEAD, ASCENDING, broken(40.0)):
        considered += len(patterns.measured(window))
        for pattern in patterns.find(window):
            told += 1
            assert confidence.MIN_CONFIDENCE <= pattern["confidence"] < 1
    assert 2 < told < considered / 2


def test_every_kind_has_coefficients_for_its_features() -> None:
    known = confidence._coefficients()
    assert set(confidence.FAMILIES) == set(patterns.KINDS)
    assert set(confidence.FAMILIES.values()) == set(known)
    assert confidence.of("support", dict.fromkeys(set(known["level"]) - {"intercept"}, 0.0)) < 0.5
    with pytest.raises(KeyError):
        confidence.of("support", {"unheard_of": 1.0})


def test_given_coefficients_are_a_logistic_function() -> None:
    given = {"level": {"intercept": -1.0, "touches": 0.5}}
    assert confidence.of("support", {"touches": 2.0}, given) == 0.5
    assert confidence.of("resistance", {"touches": 4.0}, given) == pytest.approx(0.731, abs=1e-3)


def long_walk(seed: int) -> Candles:
    return as_candles(walk(700, "15m", seed=seed), "15m")


def timed(candles: Candles) -> list[set[tuple[int, float]]]:
    """The pivots of each scale by their times."""
    view = looked_at(candles)
    assert view is not None
    return [{(view.open_ms[p.index], p.price) for p in scale} for scale in find_pivots(view)]


@pytest.mark.parametrize("seed", range(4))
def test_pivots_once_confirmed_never_move(seed: int) -> None:
    candles = long_walk(seed)
    whole = timed(sliced(candles, slice(0, LOOKBACK + 14)))
    assert len(whole[0]) > 5
    for end in range(40, LOOKBACK + 14, 7):
        for earlier, later in zip(timed(sliced(candles, slice(0, end))), whole, strict=True):
            assert earlier <= later


@pytest.mark.parametrize("seed", range(4))
def test_what_was_found_is_found_again_in_later_and_longer_windows(seed: int) -> None:
    """Every point of a shape is a pivot of some scale as long as it is in view."""
    candles = long_walk(seed)
    seen = 0
    for end in range(450, 690, 16):
        now = sliced(candles, slice(end - 420, end))
        longer = sliced(candles, slice(0, end))
        assert patterns.find(longer) == patterns.find(now)
        later = sliced(candles, slice(end - 410, end + 10))
        oldest = later.open_ms[-LOOKBACK]
        still = set.union(*timed(later))
        for pattern, _ in patterns.measured(now):
            if pattern["kind"] == "breakout":
                continue
            seen += 1
            assert {(ms, price) for ms, price in pattern["points"] if ms >= oldest} <= still
    assert seen > 5


def test_pivots_alternate_and_are_extremes() -> None:
    candles = long_walk(8)
    view = looked_at(candles)
    assert view is not None
    for pivots in find_pivots(view):
        for one, other in zip(pivots[:-1], pivots[1:], strict=True):
            assert one.kind != other.kind and one.index < other.index
            # The order within a candle is unknown: its other end may lie farther out.
            upto, after = slice(one.index, other.index), slice(one.index + 1, other.index + 1)
            if one.kind == "high":
                assert (max(view.high[upto]), min(view.low[after])) == (one.price, other.price)
            else:
                assert (min(view.low[upto]), max(view.high[after])) == (one.price, other.price)


def test_a_coarser_scale_is_what_a_zigzag_of_its_own_would_find() -> None:
    for seed in range(5):
        view = looked_at(long_walk(seed))
        assert view is not None
        for scale, coarse in zip(SCALES_ATRS[1:], find_pivots(view)[1:], strict=True):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(pivots_module, "SCALES_ATRS", (scale,))
                (own,) = find_pivots(view)
            assert coarse[2:] == own[-len(coarse[2:]) :]
            assert len(coarse) > 3


def test_a_price_beyond_the_pivot_before_confirms_a_turn() -> None:
    turns = [
        Pivot(0, 110.0, "high"),
        Pivot(5, 100.0, "low"),
        Pivot(10, 113.0, "high"),
        Pivot(20, 90.0, "low"),
    ]
    atr = [1.0] * 21
    atr[5] = 10.0  # so that by its own noise the low would need a rise to 120
    assert pivots_module._coarser(turns, atr, 2.0) == turns[:3]


def closes_with(touches: dict[int, float], closes: dict[int, float]) -> tuple[View, list[Pivot]]:
    """Sixty candles that close at 95 but for some, and highs at some of them."""
    close = [closes.get(i, 95.0) for i in range(60)]
    flat = [1.0] * 60
    view = View(list(range(60)), close, close, close, flat, flat)
    return view, [Pivot(i, price, "high") for i, price in touches.items()]


@pytest.mark.parametrize(
    ("touches", "closes", "standing"),
    [
        ({10: 100.0, 20: 100.2, 30: 100.1}, {}, [10, 20, 30]),
        # Broken after the first touch, the level starts anew with the second.
        ({10: 100.0, 20: 100.2, 30: 100.1}, {15: 101.0}, [20, 30]),
        # Within the margin of each touch, but not within that of the level between them.
        ({10: 100.9, 20: 100.0, 30: 100.0}, {15: 101.2}, None),
        # The newest close breaks it only now.
        ({10: 100.0, 20: 100.2, 30: 100.1}, {59: 105.0}, [10, 20, 30]),
    ],
)
def test_a_level_stands_until_a_close_leaves_it(
    touches: dict[int, float], closes: dict[int, float], standing: list[int] | None
) -> None:
    view, highs = closes_with(touches, closes)
    found = levels._unbroken(highs, view)
    expected = [] if standing is None else [standing]
    assert [[pivot.index for pivot in level.pivots] for level in found] == expected


def test_the_three_nearest_levels_of_a_side_are_told() -> None:
    steps = {10 + 2 * i: 115.0 - 3 * (i // 2) for i in range(10)}
    view, highs = closes_with(steps, {})
    prices = [p["price"] for p, _ in levels.find(view, [highs])]
    assert prices == [103.0, 106.0, 109.0]


def test_turns_of_a_flat_market_are_none() -> None:
    rows = walk(300, "1h")
    rows[:, 1:5] = 100.0
    assert patterns.find(as_candles(rows, "1h")) == []


def test_a_short_window_shows_nothing() -> None:
    assert patterns.find(as_candles(walk(27, "1h"), "1h")) == []
