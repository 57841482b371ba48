"""Fitting the logistic model: design matrix, choice inside the training part, calibration."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from deploy.research.score.dataset import Dataset
from deploy.research.score.folds import Rows, walk_forward
from deploy.research.score.measures import log_loss
from deploy.research.score.plan import Plan
from shared.errors import DataUnavailable
from shared.market.score.barrier import driftless_logit
from shared.market.score.score_model import VOLATILITY_FEATURES

Floats = NDArray[np.float64]
Costs = int | NDArray[np.int64]
"""Positions in the plan's costs: one for all entries, or one each."""


@dataclass(frozen=True)
class Fitted:
    """A model in the shape in which it is written."""

    names: tuple[str, ...]
    low: Floats
    high: Floats
    mean: Floats
    scale: Floats
    coefficients: Floats
    intercept: float
    base_rates: Floats
    strength: float

    def logits(
        self, data: Dataset, rows: Rows, cost: int | NDArray[np.int64], plan: Plan
    ) -> Floats:
        """The log-odds of entries at costs, given by their position in the plan."""
        values = design(data, rows, cost, self.names, self.base_rates, plan)
        scaled = (np.clip(values, self.low, self.high) - self.mean) / self.scale
        return np.asarray(scaled @ self.coefficients + self.intercept)

    def timing(self, data: Dataset, rows: Rows, plan: Plan) -> Floats:
        """The part of the log-odds that neither volatility nor costs make, by entry."""
        values = design(data, rows, plan.shown, self.names, self.base_rates, plan)
        scaled = (np.clip(values, self.low, self.high) - self.mean) / self.scale
        apart = np.array([name in VOLATILITY_FEATURES for name in self.names])
        return np.asarray(scaled @ np.where(apart, 0.0, self.coefficients))


@dataclass(frozen=True)
class Choice:
    """What the inner walk-forward chose, and the calibration that it found."""

    names: tuple[str, ...]
    strength: float
    slope: float
    shift: float
    log_loss: float


def design(
    data: Dataset,
    rows: Rows,
    cost: Costs,
    names: tuple[str, ...],
    base_rates: Floats,
    plan: Plan,
) -> Floats:
    """One row an entry, one column a feature."""
    position = np.broadcast_to(np.asarray(cost), rows.shape)
    costs = np.asarray(plan.costs_bps, dtype=np.float64)[position]
    columns = []
    for name in names:
        if name == "base_rate":
            columns.append(np.log(base_rates / (1 - base_rates))[position])
        elif name == "driftless_odds":
            columns.append(driftless_logit(data.volatility[rows], costs, plan.exits))
        else:
            columns.append(data.columns[name][rows])
    return np.column_stack(columns)


def base_rates(data: Dataset, rows: Rows, plan: Plan) -> Floats:
    """The share of winning entries at each cost.

    Raises:
        DataUnavailable: at some costs no entry won, or all did: nothing can be learned there.
    """
    if len(rows) < plan.smallest_training:
        raise DataUnavailable(
            f"entries to learn from: expected at least {plan.smallest_training}, was {len(rows)}"
        )
    rates = data.won[rows].mean(axis=0)
    for cost, rate in zip(plan.costs_bps, rates, strict=True):
        if not 0 < rate < 1:
            raise DataUnavailable(
                f"base rate at {cost} bps: expected above 0 and below 1, was {rate:g}"
            )
    return np.asarray(rates)


def fit(data: Dataset, rows: Rows, names: tuple[str, ...], strength: float, plan: Plan) -> Fitted:
    """Winsorise, standardise and fit; each entry at some of the costs, in turn."""
    from sklearn.linear_model import LogisticRegression

    rates = base_rates(data, rows, plan)
    learned, cost = _in_turn(rows, plan)
    values = design(data, learned, cost, names, rates, plan)
    low, high = np.quantile(values, [plan.winsorised, 1 - plan.winsorised], axis=0)
    values = np.clip(values, low, high)
    mean, scale = values.mean(axis=0), values.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)  # one that never changes tells nothing
    model = LogisticRegression(C=strength, solver="newton-cholesky")
    model.fit((values - mean) / scale, data.won[learned, cost])
    return Fitted(
        names, low, high, mean, scale, model.coef_[0], float(model.intercept_[0]), rates, strength
    )


def choose(data: Dataset, rows: Rows, plan: Plan) -> Choice:
    """Features and regularisation by an inner walk-forward over ``rows`` alone.

    The pooled predictions of the best candidate also give the calibration (Platt, Probabilistic
    Outputs for Support Vector Machines, 1999): a slope and a shift of the logit.
    """
    until_ms = int(data.at_ms[rows].max()) + 1
    folds = list(
        walk_forward(
            data.at_ms, rows, until_ms, plan, folds=plan.inner_folds, first_share=plan.first_share
        )
    )
    best: Choice | None = None
    for names in plan.feature_sets:
        for strength in plan.strengths:
            logits, won = [], []
            for fold in folds:
                fitted = fit(data, fold.train, names, strength, plan)
                tested, cost = _in_turn(fold.test, plan)
                logits.append(fitted.logits(data, tested, cost, plan))
                won.append(data.won[tested, cost])
            slope, shift, loss = _platt(np.concatenate(logits), np.concatenate(won))
            if best is None or loss < best.log_loss:
                best = Choice(names, strength, slope, shift, loss)
    assert best is not None  # a plan has candidates
    return best


def calibrated(fitted: Fitted, slope: float, shift: float) -> Fitted:
    """The model whose logit is ``slope * logit + shift``: the calibration folded in."""
    return replace(
        fitted,
        coefficients=slope * fitted.coefficients,
        intercept=slope * fitted.intercept + shift,
    )


def train(data: Dataset, rows: Rows, plan: Plan) -> Fitted:
    """Choose inside ``rows``, then fit to all of them and fold the calibration in."""
    choice = choose(data, rows, plan)
    fitted = fit(data, rows, choice.names, choice.strength, plan)
    return calibrated(fitted, choice.slope, choice.shift)


def _in_turn(rows: Rows, plan: Plan) -> tuple[Rows, NDArray[np.int64]]:
    """Each entry with some costs: entry by entry the next ones of the plan's."""
    count = len(plan.costs_bps)
    repeats = min(plan.costs_an_entry, count)
    repeated = np.repeat(rows, repeats)
    return repeated, (repeated * repeats + np.tile(np.arange(repeats), len(rows))) % count


def _platt(logits: Floats, won: NDArray[np.bool_]) -> tuple[float, float, float]:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=np.inf, solver="newton-cholesky")
    model.fit(logits[:, None], won)
    slope, shift = float(model.coef_[0, 0]), float(model.intercept_[0])
    if slope <= 0:  # turned round: the inner predictions were worse than nothing
        slope, shift = 1.0, 0.0
    chances = 1 / (1 + np.exp(-(slope * logits + shift)))
    return slope, shift, log_loss(chances, won)
