"""What a pattern's confidence means: of 100 shapes scored 0.7, 70 were drawn and not chance.

It is measured. ``trading-loop patterns calibrate`` draws shapes with noise into random walks and
lets the detectors search both these and as many plain walks, half of which have volatility
clusters and fat tails. A logistic regression then tells from the features of what was found how
often it was a drawn shape. Its coefficients, and how they came about, are in ``confidence.json``.

The measure assumes that every second stretch of 250 candles holds a shape of the kind. Its odds,
``c / (1 - c)``, are therefore the weight of the evidence for a shape against chance; whoever
believes that shapes are rarer multiplies them by his own odds. It is no probability that the
price will rise or fall.

On 320 other drawings and 160 other walks (``trading-loop patterns report --shapes 8 --plain 160``)
it kept its word below 0.4 and above 0.8, and was too sure by 0.05 to 0.15 between.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from importlib import resources

Features = dict[str, float]

MIN_CONFIDENCE = 0.1
"""Below it a shape is not worth being told: nine of ten are chance."""

FAMILIES: dict[str, str] = {
    "ascending_triangle": "triangle_with_level_side",
    "descending_triangle": "triangle_with_level_side",
    "symmetrical_triangle": "symmetrical_triangle",
    "head_and_shoulders": "shoulders",
    "inverse_head_and_shoulders": "shoulders",
    "support": "level",
    "resistance": "level",
    "breakout": "breakout",
}
"""Kinds that are each other's mirror image are measured together."""

Coefficients = Mapping[str, Mapping[str, float]]
"""By family: ``intercept`` and the weight of each feature."""


@functools.cache
def _coefficients() -> Coefficients:
    text = (resources.files("shared.market.patterns") / "confidence.json").read_text("utf-8")
    families: Coefficients = json.loads(text)["coefficients"]
    return families


def of(kind: str, features: Features, coefficients: Coefficients | None = None) -> float:
    """The share of such shapes that were drawn, 0 to 1; from the file unless others are given."""
    weights = (_coefficients() if coefficients is None else coefficients)[FAMILIES[kind]]
    logit = weights["intercept"]
    for name, value in features.items():
        logit += weights[name] * value
    return 1 / (1 + math.exp(-logit))
