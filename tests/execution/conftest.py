"""A desk on scripted venues over a real ledger."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from execution_bench import Bench
from scripted_venue import ScriptedVenue

from shared.ledger.connection import Ledger
from tests.conftest import VirtualClock


@pytest.fixture
def bench(ledger: Ledger, virtual_clock: VirtualClock) -> Bench:
    return Bench(ledger, virtual_clock, [ScriptedVenue()])


@pytest.fixture
def make_bench(ledger: Ledger, virtual_clock: VirtualClock) -> Callable[..., Bench]:
    def make(*venues: ScriptedVenue) -> Bench:
        return Bench(ledger, virtual_clock, list(venues))

    return make
