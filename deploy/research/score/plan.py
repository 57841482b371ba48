"""How the score's model is trained and judged: every choice that was not learned from data."""

from __future__ import annotations

from dataclasses import dataclass

from shared.clock import from_ms
from shared.market.score.barrier import ExitRules
from shared.market.score.score_model import VOLATILITY_FEATURES

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

ALL_FEATURES: tuple[str, ...] = (
    *VOLATILITY_FEATURES,
    "volume_1h",
    "trend_1h",
    "rsi_1h",
    "directed_strength_1h",
    "momentum_24h",
    "momentum_72h",
    "below_high_7d",
    "above_low_7d",
    "breakout_1h",
    "rsi_4h",
    "directed_strength_4h",
    "bollinger_4h",
    "momentum_7d",
    "trend_1d",
    "momentum_30d",
    "below_high_90d",
    "hour_sine",
    "hour_cosine",
    "weekend",
)


@dataclass(frozen=True)
class Plan:
    """Choices of a training.

    Attributes:
        costs_bps: round-trip costs at which each entry is labelled.
        shown_cost_bps: the costs of which the report speaks: two taker fees of 10 bps and 5 bps
            of slippage each way. One of ``costs_bps``.
        every_hours: entries that are looked at; every hour of the day comes in turn. Labels of
            neighbouring hours overlap, so that the others would add little.
        costs_an_entry: at how many of the costs each entry is learned, in turn.
        folds: parts of the time before ``unseen_from_ms``, after its first ``first_share``, that
            are predicted one after the other from what lies before them.
        inner_folds: the same inside a training part, to choose features and regularisation.
        embargo_ms: kept free before a predicted part besides the horizon of the labels.
        unseen_from_ms, until_ms: the stretch that is predicted once, by the model that is written.
        winsorised: share of training values cut off at each end.
        candidates: feature sets, and inverse strengths of regularisation, to choose from.
        block_days: consecutive days that stay together in the bootstrap, with all symbols: a
            label runs for a day, and quiet and wild weeks follow each other.
        rank_threshold: the document's threshold, which is compared with the rank.
    """

    exits: ExitRules = ExitRules(5, 2, 24)
    costs_bps: tuple[int, ...] = (10, 20, 30, 50, 80, 120, 180)
    shown_cost_bps: int = 30
    every_hours: int = 4
    costs_an_entry: int = 2
    folds: int = 5
    first_share: float = 2 / 7
    inner_folds: int = 3
    embargo_ms: int = DAY_MS
    unseen_from_ms: int = 1_735_689_600_000  # 2025-01-01
    until_ms: int = 1_751_328_000_000  # 2025-07-01
    winsorised: float = 0.005
    feature_sets: tuple[tuple[str, ...], ...] = (VOLATILITY_FEATURES, ALL_FEATURES)
    strengths: tuple[float, ...] = (1e-4, 1e-3, 1e-2)
    bootstraps: int = 2_000
    block_days: int = 7
    rank_threshold: float = 0.7
    boosting_rounds: int = 120
    smallest_training: int = 2_000

    @property
    def horizon_ms(self) -> int:
        return round(self.exits.hours * HOUR_MS)

    @property
    def shown(self) -> int:
        """The position of ``shown_cost_bps``."""
        return self.costs_bps.index(self.shown_cost_bps)


FULL = Plan()
QUICK = Plan(
    costs_bps=(20, 30, 80),
    every_hours=4,
    folds=3,
    inner_folds=2,
    strengths=(1e-3,),
    bootstraps=300,
    boosting_rounds=20,
    smallest_training=300,
)
"""For tests on generated candles: fewer entries, folds and choices, the same way."""


def day(milliseconds: int) -> str:
    """``2025-01-01``."""
    return f"{from_ms(milliseconds):%Y-%m-%d}"
