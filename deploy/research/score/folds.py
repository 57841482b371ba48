"""Purged walk-forward: what may be learned from, for each stretch that is predicted.

A label looks ahead for the time stop. An entry is learned from only if its label was complete,
plus an embargo, before the predicted stretch begins (Lopez de Prado, Advances in Financial
Machine Learning, 2018, chapter 7; training on later data is not used at all).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deploy.research.score.plan import Plan

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Fold:
    """Entries to learn from, and the later ones to predict, as positions in the data."""

    from_ms: int
    to_ms: int
    train: Rows
    test: Rows


def purged(at_ms: NDArray[np.int64], rows: Rows, before_ms: int, plan: Plan) -> Rows:
    """Those of ``rows`` whose label and embargo are over by ``before_ms``."""
    return rows[at_ms[rows] + plan.horizon_ms + plan.embargo_ms <= before_ms]


def walk_forward(
    at_ms: NDArray[np.int64],
    rows: Rows,
    until_ms: int,
    plan: Plan,
    *,
    folds: int,
    first_share: float,
) -> Iterator[Fold]:
    """Equally long stretches up to ``until_ms``, each with all that lies before it.

    Args:
        rows: the entries to take from; later ones than ``until_ms`` are left out.
        first_share: of the time, at the beginning, that is never predicted.
    """
    start_ms = int(at_ms[rows].min())
    first_ms = start_ms + round(first_share * (until_ms - start_ms))
    edges = np.linspace(first_ms, until_ms, folds + 1).round().astype(np.int64).tolist()
    for from_ms, to_ms in zip(edges[:-1], edges[1:], strict=True):
        test = rows[(at_ms[rows] >= from_ms) & (at_ms[rows] < to_ms)]
        yield Fold(from_ms, to_ms, purged(at_ms, rows, from_ms, plan), test)
