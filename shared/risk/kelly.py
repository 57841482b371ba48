"""The Kelly fraction, and an honest guess at the odds that go into it.

Kelly, "A New Interpretation of Information Rate" (1956): ``f = (p (b + 1) - 1) / b``, with ``p``
the chance to win and ``b`` the average win over the average loss.

Where ``p`` comes from. The prior is the break-even win rate ``1 / (b + 1)`` of the configured
exits after costs: it claims no edge at all, and by it alone every size is zero. A fresh ledger
has no trades to say otherwise, so the present evidence (the AI score's rank, as far as the
decision is confident) shifts the prior's mean, by at most ``MAX_SHIFT``. That shift is an
assumption, not a measurement: it lets a new pod begin with small positions, and it has the weight
of ``PRIOR_TRADES`` trades only, so that the pod's own results overrule it. A win probability or a
ratio from a model can lower what comes out, never raise it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from shared.config import Config

PRIOR_TRADES = 20.0
MAX_SHIFT = 0.05
_SHIFT_PER_EVIDENCE = 0.2  # evidence of 0.75 and more asks for the whole shift
ROUND_TRIP_COST_PERCENT = 0.3  # taker fees of 10 bps both ways and 5 bps of slippage each
MINIMUM_OUTCOMES = 20  # closed trades before the realised ratio replaces the configured one


@dataclass(frozen=True)
class History:
    """Closed trades after fees. Average win and loss in percent of cost, both positive."""

    wins: int
    losses: int
    average_win_percent: float | None
    average_loss_percent: float | None


@dataclass(frozen=True)
class Odds:
    """Chance to win and average win over average loss, with what they were made of."""

    win_probability: float
    win_loss_ratio: float
    prior_mean: float
    trades: int


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


def configured_ratio(config: Config) -> float:
    """Win over loss of the configured target and stop, after the costs of a round trip."""
    win = float(config.take_profit_percent) - ROUND_TRIP_COST_PERCENT
    loss = float(config.stop_loss_percent) + ROUND_TRIP_COST_PERCENT
    if win <= 0:
        raise ValueError(
            f"TAKE_PROFIT_PERCENT: expected above the costs of {ROUND_TRIP_COST_PERCENT} %, "
            f"was {config.take_profit_percent}"
        )
    return win / loss


def evidence(ai_score_rank: float | None, confidence: float) -> float | None:
    """The AI score's rank, drawn towards 0.5 by a lack of confidence if it speaks for the trade."""
    if ai_score_rank is None:
        return None
    return ai_score_rank if ai_score_rank <= 0.5 else 0.5 + (ai_score_rank - 0.5) * confidence


def odds(
    config: Config,
    history: History,
    *,
    evidence: float | None,
    model_win_probability: float | None,
    model_win_loss_ratio: float | None,
) -> Odds:
    """The odds of the next trade.

    Args:
        evidence: 0..1, from ``evidence``; 0.5 says nothing, less speaks against the trade.
            ``None`` is no evidence: the prior stays at break-even.
        model_win_probability, model_win_loss_ratio: opinions that can only lower the result.
    """
    ratio = _ratio(config, history)
    if model_win_loss_ratio is not None and 0 < model_win_loss_ratio < ratio:
        # The prior stays where it was, so that a worse ratio lowers the stake.
        prior_ratio, ratio = ratio, model_win_loss_ratio
    else:
        prior_ratio = ratio
    shift = 0.0 if evidence is None else _SHIFT_PER_EVIDENCE * (evidence - 0.5)
    mean = break_even_probability(prior_ratio) + max(-MAX_SHIFT, min(MAX_SHIFT, shift))
    mean = max(0.0, min(1.0, mean))
    trades = history.wins + history.losses
    posterior = (mean * PRIOR_TRADES + history.wins) / (PRIOR_TRADES + trades)
    if model_win_probability is not None:
        posterior = min(posterior, model_win_probability)
    return Odds(posterior, ratio, mean, trades)


def _ratio(config: Config, history: History) -> float:
    enough = history.wins + history.losses >= MINIMUM_OUTCOMES
    win, loss = history.average_win_percent, history.average_loss_percent
    if enough and win is not None and loss is not None and win > 0 and loss > 0:
        return win / loss
    return configured_ratio(config)
