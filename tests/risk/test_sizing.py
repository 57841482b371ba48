"""No size exceeds any cap, and every step down is told."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.risk.sizing import Stake, size, volatility_scale

CAPS = {"A": Decimal(500), "B": Decimal(1000)}


def stake(**changes: Any) -> Stake:
    values: dict[str, Any] = {
        "worth_quote": Decimal(10_000),
        "kelly": 0.08,
        "kelly_share": 0.25,
        "size_multiplier": 1.0,
        "size_factor": Decimal(1),
        "decision_size": 1.0,
        "volatility_annualised_percent": 50.0,
    } | changes
    return Stake(**values)


def test_a_quarter_of_kelly() -> None:
    sized = size(stake(), CAPS)
    assert sized.size_quote == Decimal("200.00")
    assert sized.adjustments == {}
    assert sized.reasons == ()


@pytest.mark.parametrize("name", ["size_multiplier", "decision_size", "size_factor"])
def test_every_scale_halves(name: str) -> None:
    half = Decimal("0.5") if name == "size_factor" else 0.5
    sized = size(stake(**{name: half}), CAPS)
    assert sized.size_quote == Decimal("100.00")
    assert sized.adjustments[f"SCALE_{name.upper()}"] == {"before": 200.0, "after": 100.0}


@pytest.mark.parametrize(("volatility", "scale"), [(0, 1.0), (60, 1.0), (120, 0.5), (240, 0.25)])
def test_volatility_scale(volatility: float, scale: float) -> None:
    assert volatility_scale(volatility) == scale


def test_the_smallest_cap_wins_and_is_named() -> None:
    sized = size(stake(kelly=0.8), {"LARGE": Decimal(900), "SMALL": Decimal("99.999")})
    assert sized.size_quote == Decimal("99.99")
    assert sized.adjustments["LIMIT_SMALL"] == {"before": 900.0, "after": 99.999}
    assert sized.reasons[-1] == "LIMIT_SMALL: before=900.00, after=100.00"


@pytest.mark.parametrize("kelly", [0.0, -0.3, float("nan")])
def test_no_edge_no_size(kelly: float) -> None:
    sized = size(stake(kelly=kelly), CAPS)
    assert sized.size_quote == 0
    assert sized.reasons[0].startswith("KELLY_NO_EDGE")


share = st.floats(0, 1)


@settings(max_examples=80)
@given(
    kelly=st.floats(-1, 1),
    multiplier=share,
    factor=st.decimals("0.01", 1, places=2),
    wanted=share,
    volatility=st.floats(0, 1000),
    caps=st.lists(st.decimals(-100, 20_000, places=3), min_size=1, max_size=4),
)
def test_never_above_a_cap_nor_below_zero(
    kelly: float,
    multiplier: float,
    factor: Decimal,
    wanted: float,
    volatility: float,
    caps: list[Decimal],
) -> None:
    asked = stake(
        kelly=kelly,
        size_multiplier=multiplier,
        size_factor=factor,
        decision_size=wanted,
        volatility_annualised_percent=volatility,
    )
    sized = size(asked, {f"CAP_{number}": cap for number, cap in enumerate(caps)})
    assert sized.size_quote >= 0
    assert all(sized.size_quote <= max(cap, Decimal(0)) for cap in caps)
    assert sized.size_quote <= Decimal(10_000) * Decimal(max(kelly, 0)) / 4 + Decimal("0.01")
