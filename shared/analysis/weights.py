"""Strategy weights learned from realised trades, and the reasons to leave them alone.

The default outcome is NO CHANGE. A change moves one notch of weight from one strategy to another,
inside the bounds of ``shared.parameters`` and at most five notches from the defaults. It is named
by the earlier half of the trades and has to prove itself on the later half, which it has not seen:

1. Each strategy's mean return a trade is shrunk towards the mean of all trades, with a prior worth
   ``PRIOR_TRADES`` trades (the posterior mean under a normal prior). The highest gains a notch,
   the lowest gives one.
2. On the later half, Welch's t of the two strategies' returns has to pass ``MINIMUM_T``. For
   worthless strategies that happens in about 1 % of evaluations.
3. Evaluations are a week apart (``shared.analysis.analyse``), because each is another chance to
   be fooled.

A change is taken back when, in the trades opened since, the strategy that gained does worse than
the one that gave. Weights are all that is moved here: no limit, no size, no threshold.

Not built: deflated Sharpe over all trials, a challenger that runs in the shadow, learning of
entries, exits, sizing and risk parameters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.parameters import StrategyWeights

NOTCH = 0.02
MAX_DRIFT = 5 * NOTCH
LOWEST, HIGHEST = 0.02, 0.6  # of shared.parameters.Weight; a test holds them together
PRIOR_TRADES = 50
MINIMUM_TRADES = 100
MINIMUM_TRADES_A_HALF = 20
MINIMUM_T = 2.5

Trade = Mapping[str, Any]
ReturnsByStrategy = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Proposal:
    """New weights, or ``None`` for no change; why; and the numbers behind it."""

    weights: StrategyWeights | None
    reason: str
    evidence: dict[str, Any] = field(default_factory=dict)


def propose(trades: Sequence[Trade], current: StrategyWeights) -> Proposal:
    """What the closed ``trades``, oldest first, say about the weights in force.

    A trade has ``strategy`` and ``return_percent``, which is after fees.
    """
    usable = [t for t in trades if t["return_percent"] is not None and _known(t, current)]
    if len(usable) < MINIMUM_TRADES:
        return Proposal(None, f"TRADES_TOO_FEW: trades={len(usable)}, needed={MINIMUM_TRADES}")
    half = len(usable) // 2
    earlier, later = _by_strategy(usable[:half]), _by_strategy(usable[half:])
    rated = [s for s in earlier if _enough(earlier, s) and _enough(later, s)]
    if len(rated) < 2:
        return Proposal(
            None,
            f"STRATEGIES_TOO_FEW: strategies={len(rated)}, needed=2 with "
            f"{MINIMUM_TRADES_A_HALF} trades in each half",
        )
    means = shrunk_means(earlier)
    raised, lowered = max(rated, key=means.__getitem__), min(rated, key=means.__getitem__)
    t = welch_t(later[raised], later[lowered])
    evidence = {
        "raised": raised,
        "lowered": lowered,
        "notch": NOTCH,
        "trades": len(usable),
        "shrunk_mean_percent": {name: round(means[name], 6) for name in sorted(means)},
        "held_out_t": None if t is None else round(t, 4),
        "needed_t": MINIMUM_T,
        "held_out_trades": {name: len(later[name]) for name in (raised, lowered)},
    }
    if t is None or t <= MINIMUM_T:
        return Proposal(
            None, f"NOT_PROVEN: t={evidence['held_out_t']}, needed={MINIMUM_T}", evidence
        )
    moved = moved_by_a_notch(current, raised, lowered)
    if moved is None:
        return Proposal(None, f"AT_BOUND: raised={raised}, lowered={lowered}", evidence)
    return Proposal(moved, f"WEIGHTS_MOVED: from={lowered}, to={raised}, by={NOTCH}", evidence)


def review(trades: Sequence[Trade], current: StrategyWeights, evidence: Trade) -> Proposal:
    """Whether the last change, with its ``evidence``, is to be taken back.

    ``trades`` are those opened since. Taking back needs less proof than changing: it is enough
    that the strategy that gained has done worse than the one that gave.
    """
    raised, lowered = str(evidence["raised"]), str(evidence["lowered"])
    since = _by_strategy([t for t in trades if t["return_percent"] is not None])
    if not (_enough(since, raised) and _enough(since, lowered)):
        return Proposal(None, "REVIEW_TOO_EARLY")
    difference = float(since[raised].mean() - since[lowered].mean())
    if difference >= 0:
        return Proposal(None, f"CHANGE_HOLDS: difference_percent={difference:.4f}")
    back = moved_by_a_notch(current, lowered, raised)
    if back is None:
        return Proposal(None, f"AT_BOUND: raised={lowered}, lowered={raised}")
    reason = f"ROLLED_BACK: from={raised}, to={lowered}, difference_percent={difference:.4f}"
    return Proposal(back, reason, {"rolled_back": True, "raised": lowered, "lowered": raised})


def shrunk_means(returns: ReturnsByStrategy) -> dict[str, float]:
    """Posterior mean return of each strategy: ``(n x own mean + k x all mean) / (n + k)``."""
    overall = float(np.concatenate(list(returns.values())).mean())
    return {
        name: (values.sum() + PRIOR_TRADES * overall) / (len(values) + PRIOR_TRADES)
        for name, values in returns.items()
    }


def welch_t(first: NDArray[np.float64], second: NDArray[np.float64]) -> float | None:
    """Welch's t of the difference of means (Biometrika 1947); ``None`` without variance."""
    error = first.var(ddof=1) / len(first) + second.var(ddof=1) / len(second)
    if not error > 0:
        return None
    return float((first.mean() - second.mean()) / math.sqrt(error))


def moved_by_a_notch(current: StrategyWeights, raised: str, lowered: str) -> StrategyWeights | None:
    """``current`` with one notch moved, or ``None`` where a bound forbids it."""
    weights, defaults = current.as_dict(), StrategyWeights().as_dict()
    weights[raised] = round(weights[raised] + NOTCH, 10)
    weights[lowered] = round(weights[lowered] - NOTCH, 10)
    for name in (raised, lowered):
        drift = abs(weights[name] - defaults[name])
        if not LOWEST <= weights[name] <= HIGHEST or drift > MAX_DRIFT + 1e-9:
            return None
    return StrategyWeights(**weights)


def _known(trade: Trade, current: StrategyWeights) -> bool:
    return trade["strategy"] in type(current).model_fields


def _by_strategy(trades: Sequence[Trade]) -> ReturnsByStrategy:
    found: dict[str, list[float]] = {}
    for trade in trades:
        found.setdefault(trade["strategy"], []).append(float(trade["return_percent"]))
    return {name: np.array(values) for name, values in found.items()}


def _enough(returns: ReturnsByStrategy, strategy: str) -> bool:
    return len(returns.get(strategy, ())) >= MINIMUM_TRADES_A_HALF
