"""Purged walk-forward: nothing is learned whose label reaches into what is predicted."""

from __future__ import annotations

import dataclasses

import numpy as np

from deploy.research.score.folds import purged, walk_forward
from deploy.research.score.plan import DAY_MS, FULL, HOUR_MS

AT_MS = np.arange(1_000) * HOUR_MS


def test_a_label_that_overlaps_the_test_is_not_learned() -> None:
    before_ms = 500 * HOUR_MS
    without_embargo = dataclasses.replace(FULL, embargo_ms=0)
    kept = purged(AT_MS, np.arange(1_000), before_ms, without_embargo)
    # The label of hour 476 is complete at hour 500; that of 477 would see an hour of the test.
    assert kept.tolist() == list(range(477))
    assert len(purged(AT_MS, np.arange(1_000), before_ms, FULL)) == 477 - 24


def test_every_fold_learns_from_the_past_and_predicts_what_follows() -> None:
    folds = list(
        walk_forward(AT_MS, np.arange(1_000), 1_000 * HOUR_MS, FULL, folds=4, first_share=0.2)
    )
    assert len(folds) == 4
    predicted = np.concatenate([fold.test for fold in folds])
    assert predicted.tolist() == list(range(200, 1_000))  # each entry once, in order
    for fold in folds:
        last_label_ms = AT_MS[fold.train].max() + FULL.horizon_ms
        assert last_label_ms + DAY_MS <= AT_MS[fold.test].min()
        assert fold.train.min() == 0  # expanding
    sizes = [len(fold.train) for fold in folds]
    assert sizes == sorted(sizes)


def test_only_the_given_entries_are_used() -> None:
    rows = np.arange(0, 600, 3)
    for fold in walk_forward(AT_MS, rows, 600 * HOUR_MS, FULL, folds=3, first_share=0.3):
        assert set(fold.train) <= set(rows)
        assert set(fold.test) <= set(rows)
