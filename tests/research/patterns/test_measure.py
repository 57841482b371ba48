"""A short version of the measurement: floors clearly below what the report measures."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from deploy.research.patterns import shapes, walks
from deploy.research.patterns.episodes import (
    WINDOW,
    Episode,
    Report,
    Reports,
    episodes_of,
    is_drawn,
    reports,
)
from deploy.research.patterns.experiment import Seen
from deploy.research.patterns.measure import detections, reliability
from shared.market import patterns
from shared.market.types import Candles

SHAPES_A_KIND = 24
WALK_CANDLES = 3_000

RECALL_FLOOR = dict.fromkeys(shapes.KINDS, 0.6) | {"breakout": 0.4}
"""At a noise of a quarter of an average true range."""
FALSE_ALARM_CEILING = dict.fromkeys(shapes.KINDS, 6.0) | {"support": 25.0, "resistance": 25.0}
"""In 1,000 candles of a random walk."""


@functools.cache
def found_share(kind: str, noise_atr: float) -> float:
    """The share of drawings that are told within 30 candles after their last turn."""
    hits = 0
    for seed in range(SHAPES_A_KIND):
        drawing = shapes.draw(kind, noise_atr, np.random.default_rng([50, seed]))
        last = drawing.points[-1][0]
        told = reports(drawing.candles, range(last - 4, last + 30), patterns.find)
        hits += any(is_drawn(episode, drawing) for episode in episodes_of(kind, told))
    return hits / SHAPES_A_KIND


@pytest.mark.parametrize("kind", shapes.KINDS)
def test_drawn_shapes_are_found(kind: str) -> None:
    assert found_share(kind, 0.25) >= RECALL_FLOOR[kind]


def test_noise_makes_shapes_harder_to_find() -> None:
    kinds = ("ascending_triangle", "head_and_shoulders")
    clear, noisy = (sum(found_share(kind, noise) for kind in kinds) for noise in (0.1, 1.0))
    assert noisy < clear


@pytest.mark.parametrize("walk", [walks.gaussian, walks.clustered])
def test_false_alarms_on_random_walks_are_few(walk: walks.Walk) -> None:
    candles = walk(np.random.default_rng(17), WALK_CANDLES)
    told = reports(candles, range(WINDOW, WALK_CANDLES), patterns.find)
    for kind in shapes.KINDS:
        rate = 1_000 * len(episodes_of(kind, told)) / (WALK_CANDLES - WINDOW)
        assert rate <= FALSE_ALARM_CEILING[kind], kind


def considered(candles: Candles) -> list[Report]:
    return [pattern for pattern, _ in patterns.measured(candles)]


def test_what_is_reported_does_not_know_what_comes_later() -> None:
    candles = walks.gaussian(np.random.default_rng(2), 700)
    other = walks.gaussian(np.random.default_rng(3), 700)
    ends = range(440, 500, 4)
    told = reports(candles, ends, considered)
    for name in ("open", "high", "low", "close", "volume"):
        getattr(candles, name)[500:] = getattr(other, name)[500:]
    assert reports(candles, ends, considered) == told
    assert any(found for _, found in told)


def report(kind: str, *times: int, confidence: float = 0.5) -> dict[str, object]:
    return {"kind": kind, "points": [[t, 1.0] for t in times], "confidence": confidence}


def test_reports_that_share_half_of_their_points_are_one_episode() -> None:
    told: Reports = [
        (1, [report("support", 10, 20)]),
        (2, [report("support", 10, 20, 30), report("resistance", 10, 20)]),
        (3, [report("support", 20, 30, 40), report("support", 70, 80)]),
        (20, [report("support", 20, 30, 40)]),
    ]
    found = sorted(episodes_of("support", told), key=lambda episode: episode.seen_at)
    assert [episode.seen_at for episode in found] == [[1, 2, 3], [3], [20]]


def seen(kind: str | None, told: Reports) -> Seen:
    """A stretch with a drawing of ``kind`` from candle 10 to 20, and what is told of it."""
    candles = walks.gaussian(np.random.default_rng(0), 30)
    drawing = None
    if kind is not None:
        turns = tuple((index, 100.0) for index in (10, 12, 15, 17, 20))
        drawing = shapes.Drawing(kind, candles, turns, 0.1, 5.0)
    made = Seen(candles, drawing, [])
    made.__dict__["reported"] = told
    return made


HOUR = 3_600_000
HEAD = (10 * HOUR, 12 * HOUR, 15 * HOUR, 17 * HOUR, 20 * HOUR)
ELSEWHERE = tuple(time - 8 * HOUR for time in HEAD)


def test_precision_and_recall_by_hand() -> None:
    kind = "head_and_shoulders"
    drawn = [
        seen(kind, [(21, [report(kind, *HEAD)]), (22, [report(kind, *HEAD)])]),
        seen(kind, [(14, [report(kind, *ELSEWHERE)])]),
        seen(kind, []),
        seen(kind, [(20, [report(kind, *HEAD)]), (25, [report(kind, *ELSEWHERE)])]),
    ]
    plain = [seen(None, [(9, [report(kind, *HEAD)])]), seen(None, [])]
    (row,) = detections(drawn, plain)
    assert (row.kind, row.noise_atr, row.drawings) == (kind, 0.1, 4)
    assert row.recall == 2 / 4
    # Two right, two elsewhere, and by chance half an episode a stretch in four stretches.
    assert row.precision == pytest.approx(2 / (4 + 2))
    assert row.delay_candles == 0.5


def test_reliability_counts_an_episode_once() -> None:
    kind = "head_and_shoulders"
    both = [report(kind, *HEAD, confidence=c) for c in (0.85, 0.95)]
    drawn = [seen(kind, [(20, both[:1]), (21, both[1:])])]
    plain = [seen(None, [(20, [report(kind, *HEAD, confidence=0.85)])])]
    rows = {row.low: row for row in reliability(drawn, plain)}
    assert rows[0.8].episodes == 1.5 and rows[0.8].drawn_share == pytest.approx(1 / 3)
    assert rows[0.9].episodes == 0.5 and rows[0.9].drawn_share == 1


def test_a_shape_elsewhere_is_not_the_drawn_one() -> None:
    drawing = seen("head_and_shoulders", []).drawing
    assert drawing is not None
    here = Episode("head_and_shoulders", [21], [report("head_and_shoulders", *HEAD)])
    there = Episode("head_and_shoulders", [21], [report("head_and_shoulders", *ELSEWHERE)])
    other = Episode("support", [21], [report("support", *HEAD)])
    assert [is_drawn(e, drawing) for e in (here, there, other)] == [True, False, False]
