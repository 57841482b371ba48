"""Any history of orders, faults, deaths, overlaps, people and prices keeps the invariants.

``HYPOTHESIS_PROFILE=long`` tries many more histories, each of them longer. What they have found is
kept in ``test_histories.py``.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from stateful_machine import Trading
from stateful_world import World

_IS_LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"


def test_any_history_keeps_the_invariants(make_world: Callable[[], World]) -> None:
    machine = type("Trading", (Trading,), {"make_world": staticmethod(make_world)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=2_000 if _IS_LONG else 20,
            stateful_step_count=80 if _IS_LONG else 20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
