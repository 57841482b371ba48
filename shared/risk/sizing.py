"""How much to stake: quarter Kelly, scaled down, then the smallest of every cap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, Decimal

REFERENCE_VOLATILITY_PERCENT = 60.0  # annualised; above it sizes shrink in proportion
_CENT = Decimal("0.01")


@dataclass(frozen=True)
class Stake:
    """What scales a size. All but ``worth_quote`` and volatility are shares of 0..1.

    Attributes:
        kelly: the full Kelly fraction; may be negative.
        kelly_share: how much of Kelly is staked, a quarter by default.
        size_multiplier: the optimiser's parameter. size_factor: the breaker's.
        decision_size: what the decision asked for.
    """

    worth_quote: Decimal
    kelly: float
    kelly_share: float
    size_multiplier: float
    size_factor: Decimal
    decision_size: float
    volatility_annualised_percent: float


@dataclass(frozen=True)
class Size:
    """A notional in quote currency and, by name, every step that made it smaller."""

    size_quote: Decimal
    adjustments: dict[str, dict[str, float]] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()


def size(stake: Stake, caps: Mapping[str, Decimal]) -> Size:
    """The notional to buy: never above any cap, never negative, zero without an edge.

    Args:
        caps: what each limit leaves, in quote currency, by the limit's name; may be negative.
    """
    if not stake.kelly > 0:
        return Size(Decimal(0), {}, (f"KELLY_NO_EDGE: kelly={stake.kelly:.4f}",))
    wanted = stake.worth_quote * _exact(stake.kelly * stake.kelly_share)
    steps = _Steps(wanted)
    steps.scale("SIZE_MULTIPLIER", _exact(stake.size_multiplier))
    steps.scale("SIZE_FACTOR", stake.size_factor)
    steps.scale("DECISION_SIZE", _exact(stake.decision_size))
    steps.scale("VOLATILITY", _exact(volatility_scale(stake.volatility_annualised_percent)))
    for name, cap in sorted(caps.items(), key=lambda item: item[1], reverse=True):
        steps.clamp(name, cap)
    size_quote = max(steps.value, Decimal(0)).quantize(_CENT, rounding=ROUND_DOWN)
    return Size(size_quote, steps.adjustments, tuple(steps.reasons))


def volatility_scale(volatility_annualised_percent: float) -> float:
    """1 up to the reference volatility, then falling as its inverse."""
    if volatility_annualised_percent <= REFERENCE_VOLATILITY_PERCENT:
        return 1.0
    return REFERENCE_VOLATILITY_PERCENT / volatility_annualised_percent


class _Steps:
    """A value on its way down, and the record of each step."""

    def __init__(self, value: Decimal) -> None:
        self.value = value
        self.adjustments: dict[str, dict[str, float]] = {}
        self.reasons: list[str] = []

    def scale(self, name: str, factor: Decimal) -> None:
        self._to(f"SCALE_{name}", self.value * max(Decimal(0), min(Decimal(1), factor)))

    def clamp(self, name: str, cap: Decimal) -> None:
        self._to(f"LIMIT_{name}", min(self.value, cap))

    def _to(self, name: str, after: Decimal) -> None:
        if after >= self.value:
            return
        before, self.value = self.value, after
        self.adjustments[name] = {"before": float(before), "after": float(after)}
        self.reasons.append(f"{name}: before={before:.2f}, after={after:.2f}")


def _exact(value: float) -> Decimal:
    return Decimal(repr(float(value)))
