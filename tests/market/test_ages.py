"""Each input at its limit of age, and a millisecond past it."""

from __future__ import annotations

import pytest

from shared.errors import DataUnavailable
from shared.market import ages
from tests.market.fakes import NOW_MS


@pytest.mark.parametrize("name", list(ages.MAX_AGE_MS))
@pytest.mark.parametrize(
    ("beyond_ms", "fresh"), [(0, True), (1, False)], ids=["at the limit", "past it"]
)
def test_the_limit_of_age(name: str, beyond_ms: int, fresh: bool) -> None:
    at_ms = NOW_MS - ages.MAX_AGE_MS[name] - beyond_ms
    assert ages.is_fresh(name, at_ms, NOW_MS) is fresh
    if not fresh:
        with pytest.raises(DataUnavailable, match=f"{name}: at_ms: was {at_ms}, expected within"):
            ages.check(name, at_ms, NOW_MS)


@pytest.mark.parametrize("name", list(ages.MAX_AGE_MS))
@pytest.mark.parametrize(("ahead_ms", "fresh"), [(5_000, True), (5_001, False)])
def test_a_clock_may_be_ahead_by_a_little(name: str, ahead_ms: int, fresh: bool) -> None:
    assert ages.is_fresh(name, NOW_MS + ahead_ms, NOW_MS) is fresh


def test_the_limits_of_what_venues_tell() -> None:
    limits = {
        "microstructure": 30_000,
        "order_flow": 300_000,
        "order_flow.cvd": 180_000,
        "liquidations": 600_000,
        "funding": 3_600_000,
        "fear_greed": 172_800_000,
        "headlines": 86_400_000,
        "headlines.feed": 7_200_000,
    }
    assert {name: ages.MAX_AGE_MS[name] for name in limits} == limits
