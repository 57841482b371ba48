"""Which tick has which fault: by the seed alone, in the shares that were asked for."""

from __future__ import annotations

from collections import Counter

import pytest

from deploy.local import manifest
from deploy.local.schedule_faults.plan import QUIET_MS, Delivery, deliveries, plan
from deploy.local.schedule_faults.rates import FaultRates
from deploy.local.scheduler import Tick, virtual_ticks
from deploy.local.servers import PROJECT
from shared.errors import ConfigurationError
from tests.local.conftest import AT_MS

HOUR_MS = 3_600_000
TO_MS = AT_MS + 48 * HOUR_MS
WORKFLOWS = manifest.load(PROJECT).workflows
RATES = FaultRates(seed=7, late=0.1, double=0.05, miss=0.05, overlap=0.04, retry=0.03, kill=0.02)


def ticks() -> list[Tick]:
    return list(virtual_ticks(WORKFLOWS, AT_MS, TO_MS))


def of_two_days(rates: FaultRates) -> list[Delivery]:
    return list(deliveries(ticks(), rates, TO_MS))


def test_each_fault_befalls_its_share_of_the_ticks() -> None:
    """Within four standard deviations of a binomial draw of each of the 6,384 ticks."""
    kinds = Counter(plan(RATES, tick).kind for tick in ticks())
    total = sum(kinds.values())
    assert total == 2880 * 2 + 576 + 48
    for name, rate in RATES.by_kind().items():
        expected, deviation = rate * total, (total * rate * (1 - rate)) ** 0.5
        assert abs(kinds[name] - expected) < 4 * deviation, name  # type: ignore[index]


def test_a_seed_gives_the_same_faults_and_another_one_others() -> None:
    first, again = of_two_days(RATES), of_two_days(RATES)
    assert [d.planned for d in first] == [d.planned for d in again]
    other = of_two_days(FaultRates.parse(str(RATES).replace("seed=7", "seed=8")))
    assert [d.planned for d in first] != [d.planned for d in other]


def test_every_tick_is_delivered_once_and_in_the_order_of_arrival() -> None:
    found = of_two_days(RATES)
    assert [d.at_ms for d in found] == sorted(d.at_ms for d in found)
    key = lambda tick: (tick.at_ms, tick.workflow.name)  # noqa: E731
    assert sorted(key(d.tick) for d in found) == sorted(key(tick) for tick in ticks())
    overtaken = [d for d in found if d.planned.late_ms > 60_000]
    assert overtaken and all(d.at_ms == d.tick.at_ms + d.planned.late_ms for d in overtaken)


def test_the_end_is_quiet() -> None:
    found = of_two_days(FaultRates(miss=1.0))
    faulty = [d.tick.at_ms for d in found if d.planned.kind != "none"]
    assert max(faulty) == TO_MS - QUIET_MS - 60_000
    assert all(d.planned.kind == "none" for d in found if d.tick.at_ms >= TO_MS - QUIET_MS)


def test_nothing_befalls_a_schedule_without_rates() -> None:
    assert {d.planned.kind for d in of_two_days(FaultRates())} == {"none"}


def test_rates_are_read_as_they_are_written() -> None:
    assert str(FaultRates.parse("seed=7,late=0.02,kill=1e-3")) == "seed=7,late=0.02,kill=0.001"
    assert FaultRates.parse(str(RATES)) == RATES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("later=0.1", "was 'later=0.1', did you mean late"),
        ("late", "as late=0.02, was 'late'"),
        ("late=much", "late: expected a number, was 'much'"),
        ("late=0.1,late=0.2", "once at most"),
        ("seed=1.5", "seed: expected a whole number, was '1.5'"),
        ("late=-0.1", "late: expected 0 to 1, was -0.1"),
        ("miss=nan", "miss: expected 0 to 1, was nan"),
        ("late=0.6,miss=0.6", "expected 1 at most together, was 1.2"),
        ("", "was ''"),
    ],
)
def test_rates_that_make_no_sense(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match="schedule faults") as caught:
        FaultRates.parse(text)
    assert message in str(caught.value)
