"""The figures of a model on entries that it did not know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.research.score import measures
from deploy.research.score.dataset import Dataset
from deploy.research.score.measures import Bin, Interval
from deploy.research.score.plan import Plan, day
from deploy.research.score.predict import Predicted
from shared.clock import from_ms

Floats = NDArray[np.float64]

_VOLATILITY_GROUPS = 20


@dataclass(frozen=True)
class Group:
    """The figures of one symbol, year or cost."""

    name: str
    entries: int
    observed: float
    predicted: float
    skill: float
    auc: float | None


@dataclass(frozen=True)
class Judgement:
    """What a stretch of unseen entries says about the model, at the shown costs.

    Attributes:
        skill: Brier skill against the base rate that was known before, with its interval.
        skill_in_hindsight: against the stretch's own base rate, which nobody could have known.
        volatility_skill, volatility_auc: of a model that is told volatility and nothing else.
        auc_at_equal_volatility: AUC among entries to which that model gives like chances (20
            groups): what there is to know besides how much the price will move. 0.5 is nothing.
        skill_an_hour_late, auc_an_hour_late: for entries an hour after the features.
        net_return_percent: mean result after costs of all entries; ``_top`` of the tenth with
            the highest chances, ``_ranked_high`` of those whose timing ranks above the threshold.
        timing_auc: of the timing alone; ``ranked_high``: the share of entries above the threshold.
    """

    from_day: str
    to_day: str
    entries: int
    observed: float
    predicted: float
    base_rate: float
    brier: float
    brier_of_base_rate: float
    skill: Interval
    skill_in_hindsight: Interval
    log_loss: float
    log_loss_of_base_rate: float
    auc: float | None
    volatility_skill: float
    volatility_auc: float | None
    auc_at_equal_volatility: float | None
    boosting_skill: float
    boosting_auc: float | None
    skill_an_hour_late: float
    auc_an_hour_late: float | None
    net_return_percent: float
    net_return_percent_top: float
    observed_top: float
    timing_auc: float | None
    ranked_high: float
    net_return_percent_ranked_high: float | None
    observed_ranked_high: float | None
    reliability: list[Bin]
    by_symbol: list[Group]
    by_year: list[Group]
    by_cost: list[Group]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def judge(data: Dataset, predicted: Predicted, plan: Plan, seed: int) -> Judgement:
    """All figures of a stretch."""
    rows, chances, reference = predicted.rows, predicted.chances, predicted.reference
    won, at_ms = data.won[rows, plan.shown], data.at_ms[rows]
    net_percent = 100 * data.net_return[rows, plan.shown]
    late, won_late = data.late[rows], data.won_late[rows, plan.shown]

    def interval(against: Floats | float) -> Interval:
        return measures.skill_interval(
            chances,
            against,
            won,
            at_ms,
            block_days=plan.block_days,
            samples=plan.bootstraps,
            seed=seed,
        )

    return Judgement(
        from_day=day(int(at_ms.min())),
        to_day=day(int(at_ms.max())),
        entries=len(rows),
        observed=float(won.mean()),
        predicted=float(chances.mean()),
        base_rate=float(reference.mean()),
        brier=measures.brier(chances, won),
        brier_of_base_rate=measures.brier(reference, won),
        skill=interval(reference),
        skill_in_hindsight=interval(float(won.mean())),
        log_loss=measures.log_loss(chances, won),
        log_loss_of_base_rate=measures.log_loss(reference, won),
        auc=measures.auc(chances, won),
        volatility_skill=measures.skill(predicted.by_volatility, reference, won),
        volatility_auc=measures.auc(predicted.by_volatility, won),
        auc_at_equal_volatility=measures.auc_within(chances, won, _like_volatility(predicted)),
        boosting_skill=measures.skill(predicted.boosted, reference, won),
        boosting_auc=measures.auc(predicted.boosted, won),
        skill_an_hour_late=measures.skill(chances[late], reference[late], won_late[late]),
        auc_an_hour_late=measures.auc(chances[late], won_late[late]),
        net_return_percent=float(net_percent.mean()),
        net_return_percent_top=float(net_percent[predicted.top].mean()),
        observed_top=float(won[predicted.top].mean()),
        timing_auc=measures.auc(predicted.timing, won),
        ranked_high=float(predicted.ranked_high.mean()),
        net_return_percent_ranked_high=_mean(net_percent[predicted.ranked_high]),
        observed_ranked_high=_mean(won[predicted.ranked_high]),
        reliability=measures.reliability(chances, won),
        by_symbol=list(_groups(predicted, won, data.symbol[rows], data.symbols)),
        by_year=list(_by_year(predicted, won, at_ms)),
        by_cost=list(_by_cost(data, predicted, plan)),
    )


def _mean(values: NDArray[Any]) -> float | None:
    """``None`` where there are none: a model without timing ranks nothing high."""
    return float(values.mean()) if len(values) else None


def _like_volatility(predicted: Predicted) -> NDArray[np.int64]:
    chances = predicted.by_volatility
    edges = np.quantile(chances, np.linspace(0, 1, _VOLATILITY_GROUPS + 1)[1:-1])
    return np.searchsorted(edges, chances, side="right")


def _by_year(
    predicted: Predicted, won: NDArray[np.bool_], at_ms: NDArray[np.int64]
) -> Iterator[Group]:
    years = np.array([from_ms(int(moment)).year for moment in at_ms])
    names, position = np.unique(years, return_inverse=True)
    return _groups(predicted, won, position, tuple(str(name) for name in names))


def _groups(
    predicted: Predicted,
    won: NDArray[np.bool_],
    position: NDArray[np.int64],
    names: tuple[str, ...],
) -> Iterator[Group]:
    for number, name in enumerate(names):
        chosen = position == number
        if chosen.any():
            chances, reference = predicted.chances[chosen], predicted.reference[chosen]
            yield _group(name, chances, reference, won[chosen])


def _by_cost(data: Dataset, predicted: Predicted, plan: Plan) -> Iterator[Group]:
    for number, cost in enumerate(plan.costs_bps):
        chances, reference = predicted.at_costs[:, number], predicted.base_rates[:, number]
        yield _group(f"{cost} bps", chances, reference, data.won[predicted.rows, number])


def _group(name: str, chances: Floats, reference: Floats, won: NDArray[np.bool_]) -> Group:
    return Group(
        name=name,
        entries=len(won),
        observed=float(won.mean()),
        predicted=float(chances.mean()),
        skill=measures.skill(chances, reference, won),
        auc=measures.auc(chances, won),
    )
