"""Shapes drawn and walks plain, searched once; what was seen in them is kept for every measure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from deploy.research.patterns import shapes, walks
from deploy.research.patterns.episodes import Report, Reports, reports
from deploy.research.patterns.shapes import BEFORE, KINDS, NOISES_ATR, STRETCH, Drawing
from shared.market import patterns
from shared.market.patterns.confidence import Coefficients
from shared.market.types import Candles

JUDGED = range(BEFORE, BEFORE + STRETCH)


@dataclass(frozen=True, eq=False)
class Seen:
    """A stretch of candles, the shape drawn in it if any, and every candidate in it."""

    candles: Candles
    drawing: Drawing | None
    candidates: Reports

    @cached_property
    def reported(self) -> Reports:
        """What the scanner tells."""
        return self.told(None)

    def told(self, coefficients: Coefficients | None) -> Reports:
        """What the scanner would tell with other coefficients than those of its file."""
        return [
            (end, patterns.told_of([(p, p["features"]) for p in found], coefficients))
            for end, found in self.candidates
        ]


def drawn(shapes_each: int, seed: int) -> Iterator[Seen]:
    """``shapes_each`` drawings of each kind and noise level."""
    for index, kind in enumerate(KINDS):
        for level, noise_atr in enumerate(NOISES_ATR):
            for number in range(shapes_each):
                random = np.random.default_rng([seed, 0, index, level, number])
                drawing = shapes.draw(kind, noise_atr, random)
                yield Seen(drawing.candles, drawing, _searched(drawing.candles))


def plain(count: int, seed: int) -> Iterator[Seen]:
    """``count`` stretches of random walk, every second one with clustered volatility."""
    for number in range(count):
        random = np.random.default_rng([seed, 1, number])
        walk = walks.clustered if number % 2 else walks.gaussian
        candles = walk(random, BEFORE + STRETCH)
        yield Seen(candles, None, _searched(candles))


def _searched(candles: Candles) -> Reports:
    return reports(candles, JUDGED, _candidates)


def _candidates(candles: Candles) -> list[Report]:
    return [pattern | {"features": values} for pattern, values in patterns.measured(candles)]
