"""The Kelly fraction, the odds that go into it, and how far these can be trusted.

Kelly, "A New Interpretation of Information Rate" (1956): ``f = (p (b + 1) - 1) / b``, with ``p``
the chance to win and ``b`` the average win over the average loss. A trade wins where anything is
left after costs; target, stop and time stop are three ways to end, and both averages count all
of them.

Where ``p`` and ``b`` come from. The prior is what entries of such an AI score have earned in
recordings that the score's model did not know (``shared.market.score``): it has the weight of
``PRIOR_TRADES`` trades, and the pod's own closed trades are counted beside it, so that a hundred
of them overrule it. Without a measured prior the break-even chance of the configured exits stands
in for it, which stakes nothing. An opinion of a model can lower what comes out, never raise it.

How far they can be trusted. The full fraction is right only for a known ``p``. For an estimate
with the deviation ``s`` it is multiplied by ``z^2 / (1 + z^2)`` with ``z = (p - q) / s`` and the
break-even chance ``q = 1 / (b + 1)`` (Baker and McHale, "Optimal Betting Under Parameter
Uncertainty: Improving the Kelly Criterion", Decision Analysis 10, 2013).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from shared.config import Config

PRIOR_TRADES = 20.0
ROUND_TRIP_COST_PERCENT = 0.3  # taker fees of 10 bps both ways and 5 bps of slippage each
_ONE_SIDED_95 = 1.6448536269514722


@dataclass(frozen=True)
class History:
    """Closed trades after fees. Average win and loss in percent of cost, both positive."""

    wins: int
    losses: int
    average_win_percent: float | None
    average_loss_percent: float | None


@dataclass(frozen=True)
class Odds:
    """Chance to win and average win over average loss, with what they were made of.

    Attributes:
        prior_win_probability: before the pod's own trades.
        prior: ``measured`` by the score's model, or ``break_even`` where it is not known.
        trades: closed ones of the pod that were counted.
        deviation: of ``win_probability`` as an estimate.
        model_objects: whether a model's own win probability is no better than break-even.
    """

    win_probability: float
    win_loss_ratio: float
    prior_win_probability: float
    prior: str
    trades: int
    deviation: float
    model_objects: bool = False

    @property
    def break_even_probability(self) -> float:
        return break_even_probability(self.win_loss_ratio)

    @property
    def kelly(self) -> float:
        return kelly_fraction(self.win_probability, self.win_loss_ratio)

    @property
    def trust(self) -> float:
        """What estimation error leaves of the fraction: 0 without an edge, towards 1 beyond it."""
        edge = self.win_probability - self.break_even_probability
        if edge <= 0:
            return 0.0
        squared = (edge / self.deviation) ** 2
        return squared / (1 + squared)

    @property
    def may_have_an_edge(self) -> bool:
        """Whether the 95 % bound of the win probability lies above break-even."""
        bound = self.win_probability + _ONE_SIDED_95 * self.deviation
        return bound > self.break_even_probability


def kelly_fraction(win_probability: float, win_loss_ratio: float) -> float:
    """The share of capital to stake; negative where the odds are against the bet.

    Raises:
        ValueError: the probability is not within 0..1, or the ratio is not above 0.
    """
    if not 0 <= win_probability <= 1:
        raise ValueError(f"win_probability: expected 0..1, was {win_probability}")
    if not (win_loss_ratio > 0 and math.isfinite(win_loss_ratio)):
        raise ValueError(f"win_loss_ratio: expected above 0, was {win_loss_ratio}")
    return (win_probability * (win_loss_ratio + 1) - 1) / win_loss_ratio


def break_even_probability(win_loss_ratio: float) -> float:
    """The win rate at which Kelly stakes nothing."""
    return 1 / (win_loss_ratio + 1)


def odds(
    config: Config,
    history: History,
    *,
    measured: Mapping[str, float] | None,
    model_win_probability: float | None,
    model_win_loss_ratio: float | None,
) -> Odds:
    """The odds of the next trade.

    The win probability is the mean of a beta distribution, its deviation that distribution's. The
    averages of wins and losses are means over the prior's trades and the pod's own.

    Args:
        measured: ``win_probability``, ``average_win_percent`` and ``average_loss_percent`` of
            entries of such a score; ``None`` where nobody has measured them.
        model_win_probability, model_win_loss_ratio: opinions that can only lower the result.
    """
    win_percent, loss_percent = _configured(config)
    if measured is None:
        prior = break_even_probability(win_percent / loss_percent)
    else:
        prior = measured["win_probability"]
        win_percent = measured["average_win_percent"]
        loss_percent = measured["average_loss_percent"]
    trades = history.wins + history.losses
    posterior = (prior * PRIOR_TRADES + history.wins) / (PRIOR_TRADES + trades)
    deviation = math.sqrt(posterior * (1 - posterior) / (PRIOR_TRADES + trades + 1))
    wins = _blend(win_percent, prior, history.average_win_percent, history.wins)
    losses = _blend(loss_percent, 1 - prior, history.average_loss_percent, history.losses)
    ratio = wins / losses
    if model_win_loss_ratio is not None and model_win_loss_ratio > 0:
        ratio = min(ratio, model_win_loss_ratio)
    objects = False
    if model_win_probability is not None:
        objects = model_win_probability <= break_even_probability(ratio)
        posterior = min(posterior, model_win_probability)
    return Odds(
        win_probability=posterior,
        win_loss_ratio=ratio,
        prior_win_probability=prior,
        prior="break_even" if measured is None else "measured",
        trades=trades,
        deviation=deviation,
        model_objects=objects,
    )


def _configured(config: Config) -> tuple[float, float]:
    """Win and loss of the configured target and stop in percent, after a round trip's costs."""
    win = float(config.take_profit_percent) - ROUND_TRIP_COST_PERCENT
    if win <= 0:
        raise ValueError(
            f"TAKE_PROFIT_PERCENT: expected above the costs of {ROUND_TRIP_COST_PERCENT} %, "
            f"was {config.take_profit_percent}"
        )
    return win, float(config.stop_loss_percent) + ROUND_TRIP_COST_PERCENT


def _blend(prior_percent: float, share: float, own_percent: float | None, count: int) -> float:
    """The mean over the prior's wins (or losses) and the pod's own."""
    if own_percent is None or own_percent <= 0 or count == 0:
        return prior_percent
    weight = share * PRIOR_TRADES
    return (weight * prior_percent + count * own_percent) / (weight + count)
