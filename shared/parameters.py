"""What the optimiser may move, and how far. Limits of money are not here: they are configuration.

Rule 9 of the design: a parameter may move only inside its bounds, and no parameter can loosen a
limit.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

Weight = Annotated[float, Field(ge=0.02, le=0.6)]


class StrategyWeights(BaseModel):
    """Shares of the five strategies in the ensemble; they sum to one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    momentum: Weight = 0.25
    mean_reversion: Weight = 0.20
    arbitrage: Weight = 0.15
    market_making: Weight = 0.10
    trend_following: Weight = 0.30

    @model_validator(mode="after")
    def _sum_to_one(self) -> StrategyWeights:
        total = sum(self.as_dict().values())
        if abs(total - 1) > 1e-6:
            raise ValueError(f"strategy_weights: expected a sum of 1, was {total:.6f}")
        return self

    def as_dict(self) -> dict[str, float]:
        return dict(self.model_dump())


class Parameters(BaseModel):
    """One version of the tunable parameters, frozen and bounded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    strategy_weights: StrategyWeights = StrategyWeights()
    ai_score_threshold: Annotated[float, Field(ge=0.55, le=0.9)] = 0.7
    """Of the score's rank: an entry has to be better than this share of ordinary ones."""
    ensemble_threshold: Annotated[float, Field(ge=0.05, le=0.8)] = 0.12
    cooldown_minutes: Annotated[int, Field(ge=0, le=24 * 60)] = 60
    size_multiplier: Annotated[float, Field(gt=0, le=1)] = 1.0
