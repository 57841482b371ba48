"""What confidence a found shape deserves: a logistic regression on shapes drawn and walks plain.

Two passes. The first weighs the features by all candidates. The second looks only at what is then
told, because the best of several candidates looks better than it is, and corrects the odds (Platt,
Advances in Large Margin Classifiers, 1999).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deploy.research.patterns import experiment
from deploy.research.patterns.episodes import Reports, episodes_of, is_drawn
from deploy.research.patterns.experiment import Seen
from deploy.research.patterns.shapes import NOISES_ATR
from shared.errors import DataUnavailable
from shared.market.patterns import confidence
from shared.market.patterns.confidence import FAMILIES

Coefficients = dict[str, dict[str, float]]

TARGET = Path(confidence.__file__).with_name("confidence.json")
"""The file that the scanner reads."""

_SHRINKING = 1.0  # scikit-learn's C on standardised features: hardly any
_MIN_ODDS_SLOPE = 0.05  # a flatter correction would turn the order of the features around


@dataclass(frozen=True)
class Sample:
    """Reports of one kind. Each episode weighs one; the plain stretches, as the drawn ones."""

    names: tuple[str, ...]
    features: NDArray[np.float64]
    is_drawn: NDArray[np.bool_]
    weights: NDArray[np.float64]


def fit(drawn: Sequence[Seen], plain: Sequence[Seen]) -> Coefficients:
    """The coefficients of every family of kinds, rounded to six digits.

    Raises:
        DataUnavailable: so few drawings that all or none of what was found is drawn.
    """
    coefficients: Coefficients = {}
    for family in sorted(set(FAMILIES.values())):
        found = sample(family, drawn, plain, lambda seen: seen.candidates)
        coefficients[family] = _regression(_both_answers(family, found))
    for family, weights in list(coefficients.items()):
        told = sample(family, drawn, plain, lambda seen: seen.told(coefficients))
        coefficients[family] = _corrected(weights, _both_answers(family, told))
    return {
        family: {name: float(f"{value:.6g}") for name, value in weights.items()}
        for family, weights in coefficients.items()
    }


def sample(
    family: str, drawn: Sequence[Seen], plain: Sequence[Seen], reported: Callable[[Seen], Reports]
) -> Sample:
    """The reports of each kind of ``family`` in the drawings of it and in the plain stretches."""
    rows, truths, weights = [], [], []
    names: tuple[str, ...] = ()
    for kind in (kind for kind, its_family in FAMILIES.items() if its_family == family):
        own = [seen for seen in drawn if seen.drawing is not None and seen.drawing.kind == kind]
        for stretches, weight in ((own, 1.0), (plain, len(own) / len(plain))):
            for seen in stretches:
                for episode in episodes_of(kind, reported(seen)):
                    real = seen.drawing is not None and is_drawn(episode, seen.drawing)
                    for report in episode.reports:
                        names = tuple(report["features"])
                        rows.append(list(report["features"].values()))
                        truths.append(real)
                        weights.append(weight / len(episode.reports))
    return Sample(names, np.array(rows), np.array(truths), np.array(weights))


def _both_answers(family: str, found: Sample) -> Sample:
    drawn = int(found.is_drawn.sum())
    if 0 < drawn < len(found.is_drawn):
        return found
    raise DataUnavailable(
        f"{family}: expected drawn shapes and chance among what was found, "
        f"was {drawn} of {len(found.is_drawn)} drawn: give more --shapes and --plain"
    )


def _regression(sample: Sample) -> dict[str, float]:
    centre = np.average(sample.features, axis=0, weights=sample.weights)
    spread = sample.features.std(axis=0) + 1e-9
    intercept, slopes = _logistic((sample.features - centre) / spread, sample)
    weights = slopes / spread
    return {"intercept": intercept - float(weights @ centre)} | dict(
        zip(sample.names, weights.tolist(), strict=True)
    )


def _corrected(weights: dict[str, float], told: Sample) -> dict[str, float]:
    slopes = np.array([weights[name] for name in told.names])
    logits = told.features @ slopes + weights["intercept"]
    intercept, (slope,) = _logistic(logits[:, None], told)
    slope = max(float(slope), _MIN_ODDS_SLOPE)
    corrected = {name: slope * value for name, value in weights.items()}
    corrected["intercept"] += intercept
    return corrected


def _logistic(features: NDArray[np.float64], sample: Sample) -> tuple[float, NDArray[np.float64]]:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=_SHRINKING, max_iter=1_000)
    model.fit(features, sample.is_drawn, sample_weight=sample.weights)
    return float(model.intercept_[0]), model.coef_[0]


def write(shapes_each: int, plain_count: int, seed: int, target: Path | None) -> Path:
    """Draw, fit, and write the coefficients with their provenance; returns where."""
    drawn = list(experiment.drawn(shapes_each, seed))
    plain = list(experiment.plain(plain_count, seed))
    document = {
        "provenance": {
            "command": "trading-loop patterns calibrate "
            f"--shapes {shapes_each} --plain {plain_count} --seed {seed}",
            "drawings": len(drawn),
            "plain_stretches": len(plain),
            "candles_a_stretch": len(experiment.JUDGED),
            "noises_atr": list(NOISES_ATR),
        },
        "coefficients": fit(drawn, plain),
    }
    path = TARGET if target is None else target
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return path
