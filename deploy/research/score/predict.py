"""Predictions of entries by models that did not know them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from deploy.research.score import boosting
from deploy.research.score.dataset import Dataset
from deploy.research.score.fit import Fitted, train
from deploy.research.score.folds import Fold, Rows, purged, walk_forward
from deploy.research.score.plan import Plan, day
from shared.market.score.score_model import VOLATILITY_FEATURES

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Predicted:
    """Unseen entries at the shown costs, and what was known of them before.

    Attributes:
        rows: positions in the data.
        at_costs: the model's chances, by entry and position in the plan's costs; ``chances``
            are those at the shown costs. For comparison there: ``boosted`` the trees', and
            ``by_volatility`` those of a model that is told volatility and nothing else.
        base_rates: of what each one's model had learned from, by entry and position in the costs;
            ``reference`` are those at the shown costs.
        top: whether the chance is in the highest tenth of its stretch.
        timing: the part of the log-odds besides volatility and costs; ``ranked_high`` is whether
            it passes the rank threshold among the entries that its model has learned from.
    """

    rows: Rows
    shown: int
    at_costs: Floats
    base_rates: Floats
    boosted: Floats
    by_volatility: Floats
    top: NDArray[np.bool_]
    timing: Floats
    ranked_high: NDArray[np.bool_]

    @property
    def chances(self) -> Floats:
        return self.at_costs[:, self.shown]

    @property
    def reference(self) -> Floats:
        return self.base_rates[:, self.shown]


def predict(data: Dataset, fold: Fold, plan: Plan, seed: int) -> tuple[Predicted, Fitted]:
    """Learn a fold's training part, and predict the rest of it."""
    fitted = train(data, fold.train, plan)
    only_volatility = train(data, fold.train, replace(plan, feature_sets=(VOLATILITY_FEATURES,)))
    logits = [fitted.logits(data, fold.test, cost, plan) for cost in range(len(plan.costs_bps))]
    at_costs = _chances(np.column_stack(logits))
    shown = at_costs[:, plan.shown]
    timing, learned = (fitted.timing(data, rows, plan) for rows in (fold.test, fold.train))
    predicted = Predicted(
        rows=fold.test,
        shown=plan.shown,
        at_costs=at_costs,
        base_rates=np.tile(fitted.base_rates, (len(fold.test), 1)),
        boosted=boosting.predict(data, fold.train, fold.test, plan, seed),
        by_volatility=_chances(only_volatility.logits(data, fold.test, plan.shown, plan)),
        top=shown >= np.quantile(shown, 0.9),
        timing=timing,
        ranked_high=timing > np.quantile(learned, plan.rank_threshold),
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


def _chances(logits: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-logits)))


def _joined(parts: Iterable[Predicted]) -> Predicted:
    listed = list(parts)
    return Predicted(
        rows=np.concatenate([part.rows for part in listed]),
        shown=listed[0].shown,
        at_costs=np.concatenate([part.at_costs for part in listed]),
        base_rates=np.concatenate([part.base_rates for part in listed]),
        boosted=np.concatenate([part.boosted for part in listed]),
        by_volatility=np.concatenate([part.by_volatility for part in listed]),
        top=np.concatenate([part.top for part in listed]),
        timing=np.concatenate([part.timing for part in listed]),
        ranked_high=np.concatenate([part.ranked_high for part in listed]),
    )
