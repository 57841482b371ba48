"""From candles to a model and the report on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.research.score import odds
from deploy.research.score.dataset import Dataset, build
from deploy.research.score.fit import Fitted
from deploy.research.score.folds import Fold
from deploy.research.score.judge import Judgement, judge
from deploy.research.score.odds import Checked
from deploy.research.score.plan import Plan, day
from deploy.research.score.predict import predict_history, predict_unseen
from shared.errors import DataUnavailable
from shared.market.score.score_model import SCHEMA, ScoreModel, identity
from shared.market.types import Candles

_DIGITS = 7
_QUANTILES = 100


@dataclass(frozen=True)
class Trained:
    """A model as it is written, and how it was judged.

    Attributes:
        history: the walk-forward before the unseen stretch.
        unseen: the stretch that the written model has never met.
        odds: those of the document at the shown costs, beside what the unseen entries earned.
    """

    document: dict[str, Any]
    history: Judgement
    unseen: Judgement
    odds: list[Checked]

    @property
    def skill(self) -> bool:
        return bool(self.document["skill"])


def train_model(
    hours: dict[str, Candles],
    plan: Plan,
    *,
    exchange: str,
    command: str,
    seed: int,
    progress: Callable[[str], None] = lambda text: None,
) -> Trained:
    """Learn, judge, and write down what can be stood by.

    The model has skill if the whole 95 % interval of its Brier skill lies above zero, in the
    walk-forward as well as in the unseen stretch. Otherwise the base rate is written.

    Raises:
        DataUnavailable: too little data, named.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        data = build(hours, plan, progress)
        _check(data, plan)
        past = predict_history(data, plan, seed, progress)
        progress(f"unseen: {day(plan.unseen_from_ms)} to {day(plan.until_ms)}")
        latest, fitted, fold = predict_unseen(data, plan, seed)
        history, unseen = judge(data, past, plan, seed), judge(data, latest, plan, seed)
        measured = odds.measure(data, past, plan)
        checked = odds.check(measured, data, latest, plan)
    skill = history.skill.above_zero and unseen.skill.above_zero
    document = _document(fitted if skill else without_skill(fitted), skill, data, fold, plan)
    document |= {
        "rank_quantiles": _quantiles(fitted.timing(data, fold.train, plan)),
        "odds": measured,
        "trained": document["trained"] | {"exchange": exchange, "command": command, "seed": seed},
        "out_of_sample": {"walk_forward": _short(history), "unseen": _short(unseen)},
    }
    document = _rounded(document)
    document["model"] = identity(document)
    ScoreModel.model_validate(document)
    return Trained(document, history, unseen, checked)


def without_skill(fitted: Fitted) -> Fitted:
    """The model that says the base rate of the costs, whatever the market does."""
    logits = np.log(fitted.base_rates / (1 - fitted.base_rates))
    return Fitted(
        names=("base_rate",),
        low=np.array([logits.min()]),
        high=np.array([logits.max()]),
        mean=np.zeros(1),
        scale=np.ones(1),
        coefficients=np.ones(1),
        intercept=0.0,
        base_rates=fitted.base_rates,
        strength=fitted.strength,
    )


def _check(data: Dataset, plan: Plan) -> None:
    unseen = int((data.at_ms >= plan.unseen_from_ms).sum())
    if unseen < plan.smallest_training // 4:
        raise DataUnavailable(
            f"entries from {day(plan.unseen_from_ms)} on, to judge the model: expected at least "
            f"{plan.smallest_training // 4}, was {unseen}"
        )


def _document(fitted: Fitted, skill: bool, data: Dataset, fold: Fold, plan: Plan) -> dict[str, Any]:
    columns = (fitted.low, fitted.high, fitted.mean, fitted.scale, fitted.coefficients)
    keys = ("low", "high", "mean", "scale", "coefficient")
    return {
        "schema_version": SCHEMA,
        "skill": skill,
        "exits": {
            "take_profit_percent": plan.exits.take_profit_percent,
            "stop_percent": plan.exits.stop_percent,
            "hours": plan.exits.hours,
        },
        "intercept": fitted.intercept,
        "features": [
            {"name": name} | {key: float(c[i]) for key, c in zip(keys, columns, strict=True)}
            for i, name in enumerate(fitted.names)
        ],
        "base_rates": [
            [float(cost), float(rate)]
            for cost, rate in zip(plan.costs_bps, fitted.base_rates, strict=True)
        ],
        "trained": {
            "symbols": list(data.symbols),
            "from_ms": int(data.at_ms[fold.train].min()),
            "until_ms": int(data.at_ms[fold.train].max()) + plan.horizon_ms,
            "entries": len(fold.train),
        },
    }


def _quantiles(timing: NDArray[np.float64]) -> list[float]:
    values = np.quantile(timing, np.linspace(0, 1, _QUANTILES + 1))
    return [float(value) for value in values]


def _short(judgement: Judgement) -> dict[str, Any]:
    """What is worth carrying in the model's file."""
    whole = judgement.as_dict()
    return {name: value for name, value in whole.items() if not isinstance(value, list)}


def _rounded(value: Any) -> Any:
    """Floats to seven significant digits: what differs beyond is arithmetic, not knowledge."""
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value
