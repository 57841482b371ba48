"""How good probabilities are: Brier score and skill, log loss, AUC, reliability."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deploy.research.score.plan import DAY_MS

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_SMALLEST = 1e-15


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def above_zero(self) -> bool:
        return self.low > 0


@dataclass(frozen=True)
class Bin:
    """Entries with similar probabilities: what was said, and what became of them."""

    count: int
    predicted: float
    observed: float


def brier(chances: Floats, won: Flags) -> float:
    """Mean squared distance between probability and outcome; lower is better."""
    return float(np.mean((chances - won) ** 2))


def log_loss(chances: Floats, won: Flags) -> float:
    """Mean negative logarithm of the probability that was given to what happened."""
    certain = np.clip(np.where(won, chances, 1 - chances), _SMALLEST, 1)
    return float(-np.log(certain).mean())


def skill(chances: Floats, reference: Floats | float, won: Flags) -> float:
    """Brier skill: 1 minus the Brier score over that of a reference forecast."""
    ours = (chances - won) ** 2
    return float(1 - ours.sum() / ((reference - won) ** 2).sum())


def skill_interval(
    chances: Floats,
    reference: Floats | float,
    won: Flags,
    at_ms: NDArray[np.int64],
    *,
    block_days: int,
    samples: int,
    seed: int,
) -> Interval:
    """Brier skill with a moving-block bootstrap over days; the symbols of a day stay together."""
    day = at_ms // DAY_MS
    days, position = np.unique(day, return_inverse=True)
    ours = np.bincount(position, (chances - won) ** 2)
    theirs = np.bincount(position, (reference - won) ** 2)
    random = np.random.default_rng(seed)
    blocks = -(-len(days) // block_days)
    starts = random.integers(0, len(days), (samples, blocks))
    drawn = (starts[:, :, None] + np.arange(block_days)) % len(days)  # the end joins the start
    drawn = drawn.reshape(samples, -1)
    skills = 1 - ours[drawn].sum(axis=1) / theirs[drawn].sum(axis=1)
    low, high = np.quantile(skills, [0.025, 0.975])
    return Interval(skill(chances, reference, won), float(low), float(high))


def auc(chances: Floats, won: Flags) -> float | None:
    """The chance that a winning entry was given more than a losing one; ties count half.

    ``None`` where all entries ended alike.
    """
    positives = int(won.sum())
    negatives = len(won) - positives
    if not positives or not negatives:
        return None
    _, position, counts = np.unique(chances, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[position]
    return float((ranks[won].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def auc_within(chances: Floats, won: Flags, groups: NDArray[np.int64]) -> float | None:
    """AUC among entries of the same group, the groups weighted by their pairs."""
    total = weight = 0.0
    for group in np.unique(groups):
        chosen = groups == group
        part, positives = auc(chances[chosen], won[chosen]), int(won[chosen].sum())
        if part is not None:
            pairs = positives * (int(chosen.sum()) - positives)
            total, weight = total + part * pairs, weight + pairs
    return total / weight if weight else None


def reliability(chances: Floats, won: Flags, bins: int = 10) -> list[Bin]:
    """Equally many entries a bin, by probability; equal probabilities stay together."""
    edges = np.unique(np.quantile(chances, np.linspace(0, 1, bins + 1)[1:-1]))
    position = np.searchsorted(edges, chances, side="right")
    return [
        Bin(int(chosen.sum()), float(chances[chosen].mean()), float(won[chosen].mean()))
        for number in np.unique(position)
        for chosen in [position == number]
    ]
