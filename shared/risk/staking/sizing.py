"""How much to stake: quarter Kelly, scaled down, then the smallest of every cap.

Every step that made it smaller is told with its value before and after; the last one told is the
one that binds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, Decimal

from shared.risk.exits import REFERENCE_VOLATILITY_PERCENT

_CENT = Decimal("0.01")


@dataclass(frozen=True)
class Stake:
    """What scales a size. All but ``worth_quote`` and volatility are shares of 0..1.

    Attributes:
        kelly: the full Kelly fraction; may be negative.
        kelly_share: how much of Kelly is staked, a quarter by default.
        trust: what the estimation error of the odds leaves of it.
        probe_quote: what may be spent where Kelly stakes less, on paper; ``None`` for nothing.
        stop_scale: the configured stop distance over this trade's: a wider stop is held smaller,
            so that the loss at it stays the same.
        size_multiplier: the optimiser's parameter. size_factor: the breaker's.
        decision_size: what the decision asked for.
    """

    worth_quote: Decimal
    kelly: float
    kelly_share: float
    trust: float
    probe_quote: Decimal | None
    stop_scale: float
    size_multiplier: float
    size_factor: Decimal
    decision_size: float
    volatility_annualised_percent: float


@dataclass(frozen=True)
class Size:
    """A notional in quote currency and, by name, every step that made it smaller.

    Attributes:
        bound_by: the step that set it: the last of ``adjustments``, or what it began with.
    """

    size_quote: Decimal
    bound_by: str
    adjustments: dict[str, dict[str, float]] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()


def size(stake: Stake, caps: Mapping[str, Decimal]) -> Size:
    """The notional to buy: never above any cap, never negative, zero without an edge.

    Args:
        caps: what each limit leaves, in quote currency, by the limit's name; may be negative.
    """
    steps = _begin(stake)
    if steps is None:
        none = f"KELLY_NO_EDGE: kelly={stake.kelly:.4f}"
        return Size(Decimal(0), "KELLY_NO_EDGE", {}, (none,))
    steps.scale("SIZE_MULTIPLIER", _exact(stake.size_multiplier))
    steps.scale("SIZE_FACTOR", stake.size_factor)
    steps.scale("DECISION_SIZE", _exact(stake.decision_size))
    steps.scale("VOLATILITY", _exact(volatility_scale(stake.volatility_annualised_percent)))
    steps.scale("STOP_DISTANCE", _exact(stake.stop_scale))
    for name, cap in sorted(caps.items(), key=lambda item: item[1], reverse=True):
        steps.clamp(name, cap)
    size_quote = max(steps.value, Decimal(0)).quantize(_CENT, rounding=ROUND_DOWN)
    return Size(size_quote, steps.bound_by, steps.adjustments, tuple(steps.reasons))


def _begin(stake: Stake) -> _Steps | None:
    """Kelly's stake as far as it can be trusted, or a probe where that is more."""
    steps = None
    if stake.kelly > 0:
        steps = _Steps("KELLY", stake.worth_quote * _exact(stake.kelly * stake.kelly_share))
        steps.scale("ESTIMATION_ERROR", _exact(stake.trust))
    if stake.probe_quote is not None and (steps is None or stake.probe_quote > steps.value):
        steps = _Steps("PROBE", stake.probe_quote)
        steps.reasons.append(f"PROBE: size={stake.probe_quote:.2f}, kelly={stake.kelly:.4f}")
    return steps


def volatility_scale(volatility_annualised_percent: float) -> float:
    """1 up to the reference volatility, then falling as its inverse."""
    if volatility_annualised_percent <= REFERENCE_VOLATILITY_PERCENT:
        return 1.0
    return REFERENCE_VOLATILITY_PERCENT / volatility_annualised_percent


class _Steps:
    """A value on its way down, and the record of each step."""

    def __init__(self, origin: str, value: Decimal) -> None:
        self.value = value
        self.bound_by = origin
        self.adjustments: dict[str, dict[str, float]] = {}
        self.reasons: list[str] = []

    def scale(self, name: str, factor: Decimal) -> None:
        self._to(f"SCALE_{name}", self.value * max(Decimal(0), min(Decimal(1), factor)))

    def clamp(self, name: str, cap: Decimal) -> None:
        self._to(f"LIMIT_{name}", min(self.value, cap))

    def _to(self, name: str, after: Decimal) -> None:
        if after >= self.value:
            return
        before, self.value, self.bound_by = self.value, after, name
        self.adjustments[name] = {"before": float(before), "after": float(after)}
        self.reasons.append(f"{name}: before={before:.2f}, after={after:.2f}")


def _exact(value: float) -> Decimal:
    return Decimal(repr(float(value)))
