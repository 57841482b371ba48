"""No size exceeds any cap, and every step down is told."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.risk.staking.sizing import Stake, size, volatility_scale

CAPS = {"A": Decimal(500), "B": Decimal(1000)}


def stake(**changes: Any) -> Stake:
    values: dict[str, Any] = {
        "worth_quote": Decimal(10_000),
        "kelly": 0.08,
        "kelly_share": 0.25,
        "trust": 1.0,
        "probe_quote": None,
        "stop_scale": 1.0,
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
    assert sized.bound_by == "KELLY"


@pytest.mark.parametrize("name", ["size_multiplier", "decision_size", "size_factor"])
def test_every_scale_halves(name: str) -> None:
    half = Decimal("0.5") if name == "size_factor" else 0.5
    sized = size(stake(**{name: half}), CAPS)
    assert sized.size_quote == Decimal("100.00")
    assert sized.adjustments[f"SCALE_{name.upper()}"] == {"before": 200.0, "after": 100.0}


@pytest.mark.parametrize(
    ("field", "step"), [("trust", "ESTIMATION_ERROR"), ("stop_scale", "STOP_DISTANCE")]
)
def test_doubt_and_a_wider_stop_shrink(field: str, step: str) -> None:
    sized = size(stake(**{field: 0.25}), CAPS)
    assert sized.size_quote == Decimal("50.00")
    assert sized.adjustments[f"SCALE_{step}"] == {"before": 200.0, "after": 50.0}
    assert sized.bound_by == f"SCALE_{step}"


@pytest.mark.parametrize(
    ("kelly", "trust", "probe", "size_quote", "bound_by"),
    [
        (0.08, 1.0, "50", "200.00", "KELLY"),  # an edge is worth more than a probe
        (0.08, 0.1, "50", "50.00", "PROBE"),  # an edge that is hardly known is not
        (-0.2, 0.0, "50", "50.00", "PROBE"),
        (-0.2, 0.0, None, "0", "KELLY_NO_EDGE"),
        (-0.2, 0.0, "900", "500.00", "LIMIT_A"),  # a probe meets every cap
    ],
)
def test_probes(
    kelly: float, trust: float, probe: str | None, size_quote: str, bound_by: str
) -> None:
    spent = None if probe is None else Decimal(probe)
    sized = size(stake(kelly=kelly, trust=trust, probe_quote=spent), CAPS)
    assert sized.size_quote == Decimal(size_quote)
    assert sized.bound_by == bound_by
    assert any(reason.startswith("PROBE: ") for reason in sized.reasons) == (
        "PROBE" in bound_by or bound_by == "LIMIT_A"
    )


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
