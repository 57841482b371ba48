"""Prices from measured runs. The figures are Pipedream's own examples and sums done by hand."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.local import manifest
from deploy.local.cost import Cost, project_cost
from deploy.local.servers import PROJECT
from shared.errors import ConfigurationError

REAL = manifest.load(PROJECT)


def measured(**changed: Any) -> dict[str, Any]:
    quick = {
        "runs": 10,
        "seconds_p50": 0.5,
        "seconds_p99": 2.0,
        "seconds_max": 3.0,
        "peak_mib": 150.0,
        "runs_by_segments": {"1": 10},
    }
    return quick | changed


def cost_of(**workflows: dict[str, Any]) -> Cost:
    names = [workflow.name for workflow in REAL.workflows if workflow.schedule is not None]
    return project_cost({name: workflows.get(name, measured()) for name in names}, REAL)


def test_runs_of_one_segment_cost_the_floor() -> None:
    """1,440 minutes of loop and breaker, 288 of the manager, 24 hours of the analyzer."""
    cost = cost_of()
    assert cost.credits_a_day(256) == cost.floor_a_day == 1440 + 1440 + 288 + 24 == 3192
    assert cost.above_floor == ()


@pytest.mark.parametrize(
    ("memory_mib", "cadence_minutes", "credits"),
    [
        (256, 1, 3192),
        (512, 1, 6384),
        (1024, 1, 12768),
        (300, 1, 6384),  # each begun 256 MiB counts
        (256, 2, 720 + 720 + 288 + 24),
        (256, 5, 288 * 3 + 24),
        (512, 5, 2 * (288 * 3 + 24)),
    ],
)
def test_memory_multiplies_and_a_slower_cadence_divides(
    memory_mib: int, cadence_minutes: int, credits: int
) -> None:
    assert cost_of().credits_a_day(memory_mib, cadence_minutes) == credits


def test_a_workflow_that_runs_longer_passes_the_floor_by_what_it_was_measured() -> None:
    """A quarter of the runs took more than 30 s, one of twenty more than 60 s."""
    slow = measured(seconds_p99=61.0, runs_by_segments={"1": 15, "2": 4, "3": 1})
    cost = cost_of(trading_loop=slow)
    assert cost.above_floor == ("trading_loop",)
    loop = next(c for c in cost.workflows if c.workflow == "trading_loop")
    assert loop.credits_a_run(256) == pytest.approx((15 + 8 + 3) / 20)
    assert cost.credits_a_day(256) == pytest.approx(3192 + 1440 * 0.3)
    assert loop.margin_seconds == pytest.approx(29.0)


def test_memory_that_is_too_small_is_told() -> None:
    cost = cost_of(trading_loop=measured(peak_mib=300.0), circuit_breaker=measured(peak_mib=None))
    fits = {c.workflow: [c.fits(mib) for mib in (256, 512)] for c in cost.workflows}
    assert fits["trading_loop"] == [False, True]
    assert fits["circuit_breaker"] == [None, None]


@pytest.mark.parametrize(
    ("usage", "message"),
    [
        ({}, "usage.circuit_breaker: expected runs, seconds_p50"),
        ({"circuit_breaker": {"runs": 1}}, "usage.circuit_breaker: expected runs"),
        ({"circuit_breaker": measured(runs_by_segments={})}, "expected 1 or more, was 0"),
    ],
)
def test_what_was_not_measured_has_no_price(usage: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        project_cost(usage, REAL)
