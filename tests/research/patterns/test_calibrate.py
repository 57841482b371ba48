"""The confidence is fitted as described, and keeps its word."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from deploy.research.patterns import calibrate, shapes
from deploy.research.patterns.experiment import Seen
from shared.errors import DataUnavailable
from shared.market.patterns import KINDS, confidence

pytest.importorskip("sklearn", reason="needs what make setup-research installs")


def test_a_known_relation_is_found_again() -> None:
    random = np.random.default_rng(1)
    features = random.normal((3.0, 100.0), (1.0, 40.0), (20_000, 2))
    logit = -1 + 0.8 * features[:, 0] - 0.02 * features[:, 1]
    real = random.random(20_000) < 1 / (1 + np.exp(-logit))
    sample = calibrate.Sample(("touches", "waited"), features, real, np.ones(20_000))
    found = calibrate._regression(sample)
    assert found["intercept"] == pytest.approx(-1, abs=0.15)
    assert found["touches"] == pytest.approx(0.8, abs=0.05)
    assert found["waited"] == pytest.approx(-0.02, abs=0.002)


def test_the_second_pass_takes_overconfidence_away() -> None:
    random = np.random.default_rng(2)
    features = random.normal(0, 2, (20_000, 1))
    real = random.random(20_000) < 1 / (1 + np.exp(1 - 0.5 * features[:, 0]))
    sample = calibrate.Sample(("touches",), features, real, np.ones(20_000))
    corrected = calibrate._corrected({"intercept": 0.0, "touches": 2.0}, sample)
    assert corrected["touches"] == pytest.approx(0.5, abs=0.05)
    assert corrected["intercept"] == pytest.approx(-1, abs=0.1)


def stretch(kind: str | None, reported: int) -> Seen:
    candles = shapes.draw("support", 0.1, np.random.default_rng(0)).candles
    turns = ((310, 100.0), (320, 90.0), (330, 110.0), (340, 90.0), (350, 100.0))
    drawing = None if kind is None else shapes.Drawing(kind, candles, turns, 0.1, 5.0)
    points = [[index * 3_600_000, price] for index, price in turns]
    told = {"kind": "head_and_shoulders", "points": points, "features": {"waited": 1.0}}
    return Seen(candles, drawing, [(360 + i, [told]) for i in range(reported)])


def test_a_sample_weighs_an_episode_once_and_plain_stretches_as_drawn_ones() -> None:
    drawn = [stretch("head_and_shoulders", 4), stretch("head_and_shoulders", 1)]
    plain = [stretch(None, 2), stretch(None, 0), stretch(None, 0), stretch(None, 0)]
    sample = calibrate.sample("shoulders", drawn, plain, lambda seen: seen.candidates)
    assert sample.names == ("waited",)
    assert sample.is_drawn.tolist() == [True] * 5 + [False] * 2
    assert sample.weights.tolist() == [0.25] * 4 + [1.0] + [0.25] * 2


def test_too_few_drawings_are_refused() -> None:
    with pytest.raises(DataUnavailable, match="was 0 of 0 drawn: give more --shapes"):
        calibrate.fit([stretch("support", 0)], [stretch(None, 0)])


def test_the_file_tells_where_it_comes_from() -> None:
    document = json.loads(calibrate.TARGET.read_text(encoding="utf-8"))
    command = document["provenance"]["command"]
    assert re.fullmatch(
        r"trading-loop patterns calibrate --shapes \d+ --plain \d+ --seed \d+", command
    )
    assert document["coefficients"] == confidence._coefficients()
    assert {confidence.FAMILIES[kind] for kind in KINDS} == set(document["coefficients"])
