"""Worlds on one database: each begins with an empty ledger."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from stateful_world import World

from tests.conftest import DEFAULT_START, VirtualClock


@pytest.fixture
def make_world(
    database_url: str, virtual_clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], World]:
    """Makes the world of an example; the one before it is over."""

    def make() -> World:
        virtual_clock.set(DEFAULT_START)
        return World(database_url, virtual_clock, monkeypatch)

    return make


@pytest.fixture
def world(make_world: Callable[[], World]) -> World:
    return make_world()
