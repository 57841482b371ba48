"""The AI score: the chance that a long entry now ends at its target, after costs.

The event is the one of ``shared.market.score.barrier``. The chance comes from a logistic model that
``trading-loop train`` fits to recorded candles and judges on later ones; its file tells how good
it is. Candles enter through ``shared.market.score.features``, the order book through the costs of a
round trip. The contributions, intercept included, sum to the logit.

A feature without a value contributes nothing, as if it were average, and is named; where the
absent ones hold more than a quarter of all weight, or the costs are not known, there is no score.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from shared.market.score.barrier import ExitRules, driftless_logit
from shared.market.score.features import Newest
from shared.market.score.score_model import (
    COST_FEATURES,
    VOLATILITY_FEATURES,
    CostOdds,
    ScoreModel,
    shipped,
)

MAX_MISSING_SHARE = 0.25  # of the sum of absolute coefficients


@dataclass(frozen=True)
class Evidence:
    """What a score is made of: features of candles, and the costs of a round trip."""

    market: Newest
    cost_bps: float | None


@dataclass(frozen=True)
class Odds:
    """What entries of such a chance, at such costs, have earned: measured, not promised.

    An entry wins where anything is left after costs, however it ended; both averages are
    positive, in percent of what was paid.
    """

    win_probability: float
    average_win_percent: float
    average_loss_percent: float


@dataclass(frozen=True)
class Score:
    """A chance, and how it came about.

    Attributes:
        value: the probability; ``None`` where too much was missing.
        rank: the share of ordinary entries whose timing was worse, 0 to 1. It leaves out what the
            volatility and the costs say: by these a coin that moves little would never be
            bought, and a wild one at any time. ``None`` without a value, and where the model has
            no skill, because then all entries are alike; 0 where the costs are higher than any
            that were learned.
        contributions: to the logit, by feature.
        missing: the features without a value, or ``cost``.
        odds: ``None`` unless ``calibrated``.
        calibrated: whether ``value`` may be read as a frequency.
        uncalibrated_because: why not.
        at_ms: the close of the newest candle that it knows.
        model: which model spoke.
    """

    value: float | None
    rank: float | None
    odds: Odds | None
    contributions: dict[str, float]
    missing: list[str]
    calibrated: bool
    uncalibrated_because: list[str]
    at_ms: int | None
    model: str


def score(evidence: Evidence, exits: ExitRules, model: ScoreModel | None = None) -> Score:
    """Score a symbol's moment for a long entry.

    Args:
        exits: the pod's own. The probability is always that of the model's exits; where the
            pod's differ, it is not ``calibrated``.
        model: the shipped one unless told.
    """
    model = shipped() if model is None else model
    values = evidence.market.values | _of_costs(evidence, model)
    contributions, missing, lacking = {"intercept": model.intercept}, [], 0.0
    for feature in model.features:
        if feature.name in values:
            contributions[feature.name] = feature.contribution(values[feature.name])
        else:
            missing.append(feature.name)
            lacking += abs(feature.coefficient)
    if evidence.cost_bps is None:
        missing.insert(0, "cost")
    total = sum(abs(feature.coefficient) for feature in model.features)
    known = evidence.cost_bps is not None and lacking <= MAX_MISSING_SHARE * total
    value = _probability(sum(contributions.values())) if known else None
    reasons = _reasons(evidence.cost_bps, missing, exits, model)
    calibrated = value is not None and not reasons
    return Score(
        value=value,
        rank=None if value is None else _rank(contributions, evidence.cost_bps, model),
        odds=_odds(value, evidence.cost_bps, model) if calibrated else None,
        contributions=contributions,
        missing=missing,
        calibrated=calibrated,
        uncalibrated_because=reasons,
        at_ms=evidence.market.at_ms,
        model=model.model,
    )


def identity() -> str:
    """Which model scores."""
    return shipped().model


def base_rate_logit(cost_bps: float, model: ScoreModel) -> float:
    """Log-odds of all training entries at some costs, between the costs that were looked at."""
    costs, rates = zip(*model.base_rates, strict=True)
    logits = [math.log(rate / (1 - rate)) for rate in rates]
    return float(np.interp(cost_bps, costs, logits))


def _odds(chance: float | None, cost_bps: float | None, model: ScoreModel) -> Odds | None:
    """In proportion between the groups of like chances, and between the two nearest costs."""
    if chance is None or cost_bps is None:
        return None
    tables = model.odds
    costs = [table.cost_bps for table in tables]
    above = min(max(bisect_left(costs, cost_bps), 1), len(costs) - 1)
    below = above - 1
    share = float(np.clip((cost_bps - costs[below]) / (costs[above] - costs[below]), 0, 1))
    cheap, dear = (_at_chance(tables[number], chance) for number in (below, above))
    return Odds(*((1 - share) * a + share * b for a, b in zip(cheap, dear, strict=True)))


def _at_chance(table: CostOdds, chance: float) -> tuple[float, float, float]:
    return tuple(  # type: ignore[return-value]
        float(np.interp(chance, table.chance, column))
        for column in (table.win_share, table.average_win_percent, table.average_loss_percent)
    )


def _of_costs(evidence: Evidence, model: ScoreModel) -> dict[str, float]:
    """``COST_FEATURES``, as far as they can be had, at costs that the model has learned."""
    if evidence.cost_bps is None:
        return {}
    base_rate, driftless_odds = COST_FEATURES
    cost = min(max(evidence.cost_bps, model.base_rates[0][0]), model.base_rates[-1][0])
    values = {base_rate: base_rate_logit(cost, model)}
    volatility = evidence.market.values.get("volatility")
    if volatility is not None:
        share = np.array([math.exp(volatility) / 100])
        logit = driftless_logit(share, np.array([cost]), model.exits.rules())
        values[driftless_odds] = float(logit[0])
    return values


def _reasons(
    cost_bps: float | None, missing: list[str], exits: ExitRules, model: ScoreModel
) -> list[str]:
    reasons = []
    expected = model.exits.rules()
    if exits != expected:
        reasons.append(f"exits: expected {_shown(expected)}, was {_shown(exits)}")
    lowest, highest = model.base_rates[0][0], model.base_rates[-1][0]
    if cost_bps is not None and not lowest <= cost_bps <= highest:
        reasons.append(f"cost_bps: expected {lowest:g}..{highest:g}, was {cost_bps:.4g}")
    if missing:
        reasons.append(f"missing: {', '.join(missing)}")
    return reasons


def _shown(exits: ExitRules) -> str:
    return f"+{exits.take_profit_percent:g} % -{exits.stop_percent:g} % {exits.hours:g} h"


def timing(contributions: Mapping[str, float]) -> float:
    """The part of the logit that neither volatility nor costs have made."""
    apart = ("intercept", *VOLATILITY_FEATURES)
    return sum(part for name, part in contributions.items() if name not in apart)


def _rank(
    contributions: Mapping[str, float], cost_bps: float | None, model: ScoreModel
) -> float | None:
    """Where the timing stands among the quantiles, in proportion between two of them."""
    if cost_bps is None or not model.skill:
        return None
    if cost_bps > model.base_rates[-1][0]:
        return 0.0
    quantiles, value = model.rank_quantiles, timing(contributions)
    if quantiles[0] == quantiles[-1]:  # it knows volatility and nothing else
        return None
    above = bisect_left(quantiles, value)
    if above == 0:
        return 0.0
    if above == len(quantiles):
        return 1.0
    low, high = quantiles[above - 1], quantiles[above]
    return (above - 1 + (value - low) / (high - low)) / (len(quantiles) - 1)


def _probability(logit: float) -> float:
    return 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0
