"""Every row of ``exit_scenarios.txt``: the reason, the minute and the price of each exit."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.conftest import VirtualClock
from tests.risk.managing import scenarios
from tests.risk.managing.minute_bench import MinuteBench
from tests.risk.managing.scenarios import Scenario
from tests.risk.world import World

TABLE = scenarios.read()


@pytest.mark.parametrize("scenario", TABLE, ids=[scenario.name for scenario in TABLE])
def test_exit_scenario(
    scenario: Scenario, world: World, virtual_clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = MinuteBench(world, virtual_clock, monkeypatch)
    outcome = bench.play(scenario)
    if scenario.expected is None:
        assert outcome is None
    else:
        assert outcome is not None
        assert (outcome.reason, outcome.minute) == (
            scenario.expected.reason,
            scenario.expected.minute,
        )
        assert outcome.price == pytest.approx(scenario.expected.price, abs=1e-6)
    halves = [reason for _, reason, fraction in bench.desk.exits if fraction == Decimal("0.5")]
    assert halves == (["partial_profit"] if "half" in scenario.given else [])


def test_the_table_is_large_and_names_every_reason() -> None:
    assert len(TABLE) >= 50
    assert len({scenario.name for scenario in TABLE}) == len(TABLE)
    reasons = {scenario.expected.reason for scenario in TABLE if scenario.expected is not None}
    assert reasons == {"stop", "risk", "trailing", "target", "time", "technical"}
