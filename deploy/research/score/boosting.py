"""Gradient boosting on the same entries: what the compact model leaves on the table."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deploy.research.score.dataset import Dataset
from deploy.research.score.fit import base_rates, design
from deploy.research.score.folds import Rows
from deploy.research.score.plan import ALL_FEATURES, Plan


def predict(data: Dataset, train: Rows, test: Rows, plan: Plan, seed: int) -> NDArray[np.float64]:
    """Chances of ``test`` at the shown costs, by trees that learned ``train`` at these costs.

    Settings are moderate and not searched for, so that the comparison is a hint, not a contest.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    rates = base_rates(data, train, plan)
    model = HistGradientBoostingClassifier(
        max_iter=plan.boosting_rounds,
        learning_rate=0.05,
        max_leaf_nodes=12,
        min_samples_leaf=200,
        l2_regularization=10.0,
        early_stopping=False,
        random_state=seed,
    )
    model.fit(
        design(data, train, plan.shown, ALL_FEATURES, rates, plan), data.won[train, plan.shown]
    )
    values = design(data, test, plan.shown, ALL_FEATURES, rates, plan)
    return np.asarray(model.predict_proba(values)[:, 1])
