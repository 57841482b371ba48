"""Ticks on a virtual and on a real clock."""

from __future__ import annotations

from collections import Counter

from deploy.local import manifest
from deploy.local.scheduler import real_ticks, virtual_ticks
from deploy.local.servers import PROJECT
from tests.conftest import VirtualClock
from tests.local.conftest import AT_MS

_HOUR_MS = 3_600_000
_WORKFLOWS = manifest.load(PROJECT).workflows


def test_two_days_of_ticks() -> None:
    """48 h of minutes, of five minutes and of hours: counted by hand."""
    ticks = list(virtual_ticks(_WORKFLOWS, AT_MS, AT_MS + 48 * _HOUR_MS))
    assert Counter(tick.workflow.name for tick in ticks) == {
        "trading_loop": 2880,
        "circuit_breaker": 2880,
        "position_manager": 576,
        "performance_analyzer": 48,
    }
    assert [tick.at_ms for tick in ticks] == sorted(tick.at_ms for tick in ticks)
    assert ticks[-1].at_ms == AT_MS + 48 * _HOUR_MS - 60_000


def test_ticks_of_a_minute_come_in_the_order_of_the_project() -> None:
    first = [t.workflow.name for t in virtual_ticks(_WORKFLOWS, AT_MS, AT_MS + 1)]
    assert first == ["circuit_breaker", "position_manager", "trading_loop", "performance_analyzer"]


def test_a_start_between_minutes_waits_for_the_next_one() -> None:
    ticks = list(virtual_ticks(_WORKFLOWS, AT_MS + 1, AT_MS + 60_001))
    assert {tick.at_ms for tick in ticks} == {AT_MS + 60_000}


def test_real_ticks_sleep_until_they_are_due(virtual_clock: VirtualClock) -> None:
    virtual_clock.advance(seconds=10)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        virtual_clock.advance(seconds=seconds)

    ticks = list(real_ticks(_WORKFLOWS, AT_MS + 180_000, sleep))
    assert slept == [50.0, 60.0]
    assert [t.workflow.name for t in ticks] == ["circuit_breaker", "trading_loop"] * 2


def test_real_ticks_that_a_newer_one_overtook_are_left_out(virtual_clock: VirtualClock) -> None:
    served = []
    for tick in real_ticks(_WORKFLOWS, AT_MS + 180_000, lambda s: virtual_clock.advance(seconds=s)):
        served.append((tick.workflow.name, (tick.at_ms - AT_MS) // 60_000))
        if len(served) == 1:
            virtual_clock.advance(seconds=100)  # the first run takes that long
    assert served == [
        ("circuit_breaker", 0),
        ("position_manager", 0),  # the loop's first tick is overtaken by its second
        ("performance_analyzer", 0),
        ("circuit_breaker", 1),
        ("trading_loop", 1),
        ("circuit_breaker", 2),
        ("trading_loop", 2),
    ]
