"""The AI score: bounds, direction of each feature, and what missing inputs do."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.market import score
from shared.market.score import Evidence

NEUTRAL = Evidence(
    indicators={
        "5m": {"zscore_20": 0.0},
        "15m": {
            "ema_21": 100.0,
            "ema_50": 100.0,
            "atr_14": 1.0,
            "macd_histogram": 0.0,
            "rsi_14": 50.0,
            "return_1_percent": 0.0,
            "relative_volume_ratio": 1.0,
        },
        "1h": {
            "ema_21": 100.0,
            "ema_50": 100.0,
            "atr_14": 1.0,
            "adx_14": 20.0,
            "plus_di_14": 20.0,
            "minus_di_14": 20.0,
        },
        "4h": {"ema_21": 100.0, "ema_50": 100.0, "atr_14": 1.0},
    },
    patterns=[],
    order_flow={"delta_ratio": 0.0},
    microstructure={"imbalance_ratio": 0.0, "spread_bps": 0.0},
)


def changed(timeframe: str, **values: float) -> Evidence:
    indicators = dict(NEUTRAL.indicators)
    indicators[timeframe] = {**indicators[timeframe], **values}
    return dataclasses.replace(NEUTRAL, indicators=indicators)


def pattern(kind: str, direction: str, confidence: float = 0.8) -> dict[str, Any]:
    return {"kind": kind, "direction": direction, "confidence": confidence}


def value(evidence: Evidence) -> float:
    result = score.score(evidence).value
    assert result is not None
    return result


def test_nothing_speaking_for_or_against_leaves_the_intercept() -> None:
    assert value(NEUTRAL) == pytest.approx(1 / (1 + math.exp(0.1)))


@pytest.mark.parametrize(
    ("feature", "better"),
    [
        ("trend_4h", changed("4h", ema_21=101.0)),
        ("trend_1h", changed("1h", ema_21=101.0)),
        ("directed_strength_1h", changed("1h", plus_di_14=30.0)),
        ("momentum_15m", changed("15m", macd_histogram=0.1)),
        ("rsi_15m", changed("15m", rsi_14=60.0)),
        ("volume_behind_move_15m", changed("15m", return_1_percent=0.5)),
        ("stretch_5m", changed("5m", zscore_20=-2.0)),
        (
            "patterns",
            dataclasses.replace(NEUTRAL, patterns=[pattern("ascending_triangle", "bullish")]),
        ),
        ("order_flow", dataclasses.replace(NEUTRAL, order_flow={"delta_ratio": 0.5})),
        (
            "book_imbalance",
            dataclasses.replace(
                NEUTRAL, microstructure={"imbalance_ratio": 0.5, "spread_bps": 0.0}
            ),
        ),
    ],
)
def test_each_feature_alone_raises_the_score(feature: str, better: Evidence) -> None:
    assert value(better) > value(NEUTRAL)
    contributions = score.score(better).contributions
    assert [name for name, c in contributions.items() if c > 0] == [feature]


def test_a_wide_spread_lowers_the_score() -> None:
    wide = {"imbalance_ratio": 0.0, "spread_bps": 20.0}
    worse = score.score(dataclasses.replace(NEUTRAL, microstructure=wide))
    assert worse.contributions["spread"] == pytest.approx(-0.4)


def test_a_level_alone_is_no_direction() -> None:
    levels = [pattern("support", "bullish", 1.0), pattern("resistance", "bearish", 0.5)]
    assert value(dataclasses.replace(NEUTRAL, patterns=levels)) == value(NEUTRAL)


unit = st.floats(-1, 1)


@given(
    ema=st.floats(50, 150),
    rsi=st.floats(0, 100),
    histogram=st.floats(-50, 50),
    delta=unit,
    imbalance=unit,
    spread=st.floats(0, 1_000),
    zscore=st.floats(-10, 10),
)
def test_the_contributions_sum_to_the_logit(
    ema: float,
    rsi: float,
    histogram: float,
    delta: float,
    imbalance: float,
    spread: float,
    zscore: float,
) -> None:
    evidence = changed("15m", rsi_14=rsi, macd_histogram=histogram)
    indicators = dict(evidence.indicators) | {
        "4h": {"ema_21": ema, "ema_50": 100.0, "atr_14": 1.0},
        "5m": {"zscore_20": zscore},
    }
    result = score.score(
        Evidence(
            indicators,
            [],
            {"delta_ratio": delta},
            {"imbalance_ratio": imbalance, "spread_bps": spread},
        )
    )
    assert result.value is not None and 0 < result.value < 1
    logit = math.log(result.value / (1 - result.value))
    assert logit == pytest.approx(sum(result.contributions.values()), abs=1e-9)


def test_a_missing_feature_is_named_and_contributes_nothing() -> None:
    result = score.score(dataclasses.replace(NEUTRAL, order_flow=None))
    assert result.missing == ["order_flow"]
    assert "order_flow" not in result.contributions
    assert result.value is not None


@pytest.mark.parametrize(
    "evidence",
    [
        Evidence({}, [], {"delta_ratio": 1.0}, {"imbalance_ratio": 1.0, "spread_bps": 0.0}),
        dataclasses.replace(NEUTRAL, order_flow=None, microstructure=None, patterns=None),
        Evidence({}, None, None, None),
    ],
)
def test_with_too_much_missing_there_is_no_score(evidence: Evidence) -> None:
    assert score.score(evidence).value is None
