"""The AI score's model as a file: what training writes and the scanner reads."""

from __future__ import annotations

import functools
import hashlib
import json
from importlib import resources
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared.errors import ConfigurationError
from shared.market.score.barrier import ExitRules

SCHEMA = 3
COST_FEATURES = ("base_rate", "driftless_odds")
"""Made of the costs: ``base_rate`` is the log-odds of all training entries at these costs,
``driftless_odds`` those of ``shared.market.score.barrier`` at the present volatility."""

VOLATILITY_FEATURES = (
    *COST_FEATURES,
    "volatility_6h",
    "range_24h",
    "volatility_7d",
    "volatility_30d",
    "volatility_90d",
)
"""How much the price will move, and what it costs. All others are the timing: whether this moment
is a better one than others in which the price moves as much."""

_FILE = "score_model.json"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FeatureWeight(_Part):
    """How one feature enters: cut to ``low..high``, less ``mean``, over ``scale``."""

    name: str
    low: float
    high: float
    mean: float
    scale: float = Field(gt=0)
    coefficient: float

    def contribution(self, value: float) -> float:
        """What a value adds to the logit."""
        cut = min(max(value, self.low), self.high)
        return self.coefficient * (cut - self.mean) / self.scale


class Exits(_Part):
    take_profit_percent: float = Field(gt=0)
    stop_percent: float = Field(gt=0)
    hours: float = Field(gt=0)

    def rules(self) -> ExitRules:
        return ExitRules(self.take_profit_percent, self.stop_percent, self.hours)


class Training(_Part):
    """Where a model comes from: ``until_ms`` is the newest moment that it has learned from."""

    exchange: str
    symbols: list[str]
    from_ms: int
    until_ms: int
    entries: int
    command: str
    seed: int


class CostOdds(_Part):
    """What entries of like chances earned at some costs, in ascending order of their chance.

    Attributes:
        cost_bps: of a round trip.
        chance: mean AI score of each group; the other lists go along with it.
        win_share: entries that earned anything after costs.
        average_win_percent, average_loss_percent: what these earned and the others lost, both
            positive, in percent of what was paid.
    """

    cost_bps: float = Field(gt=0)
    chance: list[float] = Field(min_length=1)
    entries: list[int]
    win_share: list[float]
    average_win_percent: list[float]
    average_loss_percent: list[float]

    @model_validator(mode="after")
    def _is_a_table(self) -> CostOdds:
        columns = (
            self.entries,
            self.win_share,
            self.average_win_percent,
            self.average_loss_percent,
        )
        if any(len(column) != len(self.chance) for column in columns):
            raise ValueError("odds: expected columns of the same length")
        if sorted(self.chance) != self.chance:
            raise ValueError(f"odds: expected ascending chances, was {self.chance}")
        if not all(0 < share < 1 for share in self.win_share):
            raise ValueError(f"odds: expected shares within 0..1, was {self.win_share}")
        if not all(size > 0 for size in self.average_win_percent + self.average_loss_percent):
            raise ValueError("odds: expected averages above 0")
        return self


class ScoreModel(_Part):
    """A logistic model over ``features``.

    Attributes:
        model: the beginning of the SHA-256 of the rest.
        skill: whether unseen data showed any; without it ``base_rate`` alone has a weight, and
            the score is the base rate of the costs.
        base_rates: share of training entries that ended with the event, by costs in bps.
        rank_quantiles: of the timing's part of the logit, over all entries that it has learned
            from, from the lowest to the highest in equal shares.
        odds: measured in the walk-forward, by ascending costs.
        out_of_sample: figures of the report, for people.
    """

    schema_version: Literal[3]
    model: str
    skill: bool
    exits: Exits
    intercept: float
    features: list[FeatureWeight] = Field(min_length=1)
    base_rates: list[tuple[float, float]] = Field(min_length=2)
    rank_quantiles: list[float] = Field(min_length=2)
    odds: list[CostOdds] = Field(min_length=2)
    trained: Training
    out_of_sample: dict[str, Any]

    @model_validator(mode="after")
    def _in_order(self) -> ScoreModel:
        costs = [cost for cost, _ in self.base_rates]
        if any(later <= sooner for sooner, later in zip(costs, costs[1:], strict=False)):
            raise ValueError(f"base_rates: expected ascending costs, was {costs}")
        if not all(0 < rate < 1 for _, rate in self.base_rates):
            raise ValueError(f"base_rates: expected rates within 0..1, was {self.base_rates}")
        priced = [odds.cost_bps for odds in self.odds]
        if any(later <= sooner for sooner, later in zip(priced, priced[1:], strict=False)):
            raise ValueError(f"odds: expected ascending costs, was {priced}")
        if sorted(self.rank_quantiles) != self.rank_quantiles:
            raise ValueError("rank_quantiles: expected ascending values")
        return self


def parse(text: str) -> ScoreModel:
    """A model from its JSON.

    Raises:
        ConfigurationError: names the field, its value and what was expected.
    """
    try:
        document = json.loads(text)
        model = ScoreModel.model_validate(document)
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"score model: expected JSON, {error}") from None
    except ValidationError as error:
        problems = (
            f"{'.'.join(map(str, problem['loc'])) or 'document'}: {problem['msg']}, "
            f"was {problem['input']!r:.80}"
            for problem in error.errors()
        )
        raise ConfigurationError(f"score model: {'; '.join(problems)}") from None
    if model.model != identity(document):
        raise ConfigurationError(
            f"score model: model: expected {identity(document)}, was {model.model}: "
            "the file was changed after training"
        )
    return model


def identity(document: dict[str, Any]) -> str:
    """What a model is called: the beginning of a hash over everything but the name."""
    rest = {key: value for key, value in document.items() if key != "model"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()[:12]


@functools.cache
def shipped() -> ScoreModel:
    """The model that belongs to this version of the code."""
    return parse((resources.files("shared.market.score") / _FILE).read_text(encoding="utf-8"))
