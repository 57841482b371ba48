"""Chart patterns as features, and the comparison with the model without them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from deploy.research.score import pattern_votes
from deploy.research.score.dataset import build
from deploy.research.score.plan import DAY_MS, QUICK
from shared.market import patterns
from shared.market.types import Candles
from tests.research.score.market import candles


def pattern(kind: str, direction: str, confidence: float) -> dict[str, Any]:
    return {"kind": kind, "direction": direction, "confidence": confidence}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], 0.0),
        ([pattern("ascending_triangle", "bullish", 0.6)], 0.6),
        ([pattern("head_and_shoulders", "bearish", 0.4)], -0.4),
        ([pattern("symmetrical_triangle", "neutral", 0.9)], 0.0),
        ([pattern("support", "bullish", 0.9)], 0.0),
        ([pattern("breakout", "bullish", 0.8), pattern("double_triangle", "bullish", 0.7)], 1.0),
    ],
)
def test_shapes_vote_by_direction_and_confidence(
    found: list[dict[str, Any]], expected: float
) -> None:
    assert pattern_votes.vote(found, pattern_votes.VOTES["shapes"]) == pytest.approx(expected)


def test_patterns_that_tell_something_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pattern finder that knows the future improves the model; one that says nothing does not."""
    hours = {"A/USDT": candles("A/USDT", 700, seed=1)}
    plan = dataclasses.replace(
        QUICK, unseen_from_ms=QUICK.until_ms - 60 * DAY_MS, smallest_training=200
    )
    monkeypatch.setattr(pattern_votes, "_JUDGED_MS", 200 * DAY_MS)
    data = build(hours, plan)
    won = dict(zip(data.at_ms.tolist(), data.won[:, plan.shown].tolist(), strict=True))

    def knowing(seen: Candles) -> list[patterns.Pattern]:
        assert seen.closed_ms <= data.at_ms.max()
        future = won.get(seen.closed_ms, False) and seen.timeframe == "1h"
        return [pattern("breakout", "bullish", 1.0)] if future else []

    monkeypatch.setattr(patterns, "find", knowing)
    told = pattern_votes.with_votes(data, hours)
    assert told.columns["shapes_1h"].sum() == data.won[:, plan.shown].sum()
    _, shapes, levels = pattern_votes.compare(told, plan, seed=1)
    gain = float(shapes.split()[2])
    assert gain > 0.1
    assert np.isclose(float(levels.split()[2]), 0, atol=0.01)
