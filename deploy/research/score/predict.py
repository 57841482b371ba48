"""Predictions of entries by models that did not know them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deploy.research.score import boosting
from deploy.research.score.dataset import Dataset
from deploy.research.score.fit import Fitted, train
from deploy.research.score.folds import Fold, Rows, purged, walk_forward
from deploy.research.score.plan import Plan, day

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Predicted:
    """Unseen entries at the shown costs, and what was known of them before.

    Attributes:
        rows: positions in the data.
        chances: of the model; ``boosted`` of the trees, for comparison.
        reference: the base rate of what each one's model had learned from.
        top: whether the chance is in the highest tenth of its stretch.
    """

    rows: Rows
    chances: Floats
    boosted: Floats
    reference: Floats
    top: NDArray[np.bool_]


def predict(data: Dataset, fold: Fold, plan: Plan, seed: int) -> tuple[Predicted, Fitted]:
    """Learn a fold's training part, and predict the rest of it."""
    fitted = train(data, fold.train, plan)
    chances = 1 / (1 + np.exp(-fitted.logits(data, fold.test, plan.shown, plan)))
    predicted = Predicted(
        rows=fold.test,
        chances=chances,
        boosted=boosting.predict(data, fold.train, fold.test, plan, seed),
        reference=np.full(len(fold.test), fitted.base_rates[plan.shown]),
        top=chances >= np.quantile(chances, 0.9),
    )
    return predicted, fitted


def predict_history(
    data: Dataset, plan: Plan, seed: int, progress: Callable[[str], None]
) -> Predicted:
    """The walk-forward over everything before the unseen stretch."""
    before = purged(data.at_ms, np.arange(len(data)), plan.unseen_from_ms, plan)
    folds = walk_forward(
        data.at_ms,
        before,
        plan.unseen_from_ms,
        plan,
        folds=plan.folds,
        first_share=plan.first_share,
    )
    parts = []
    for number, fold in enumerate(folds, start=1):
        predicted, fitted = predict(data, fold, plan, seed)
        parts.append(predicted)
        progress(
            f"fold {number} of {plan.folds}: {day(fold.from_ms)} to {day(fold.to_ms)}, learned "
            f"{len(fold.train):,} entries by {len(fitted.names)} features, "
            f"C = {fitted.strength:g}, predicted {len(fold.test):,}"
        )
    return _joined(parts)


def predict_unseen(data: Dataset, plan: Plan, seed: int) -> tuple[Predicted, Fitted, Fold]:
    """The model of everything before the unseen stretch, and what it says of that stretch."""
    rows = np.arange(len(data))
    fold = Fold(
        plan.unseen_from_ms,
        plan.until_ms,
        purged(data.at_ms, rows, plan.unseen_from_ms, plan),
        rows[data.at_ms >= plan.unseen_from_ms],
    )
    predicted, fitted = predict(data, fold, plan, seed)
    return predicted, fitted, fold


def _joined(parts: Iterable[Predicted]) -> Predicted:
    listed = list(parts)
    return Predicted(
        rows=np.concatenate([part.rows for part in listed]),
        chances=np.concatenate([part.chances for part in listed]),
        boosted=np.concatenate([part.boosted for part in listed]),
        reference=np.concatenate([part.reference for part in listed]),
        top=np.concatenate([part.top for part in listed]),
    )
