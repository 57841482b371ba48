"""The whole state of a wire, kept in memory to go back to: what a sweep of crashes starts from.

Orders, fills, accounts, what was taken out of the books, nonces, settings, the time, requests on
their way and the counters of faults go back. The market source, its feed and the tapes derived
from it are shared: they are functions of the seed and the time.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deploy.local.wire.faults.layer import FaultState
from deploy.local.wire.venues.base import Personality
from shared.errors import ConfigurationError

MOST_SNAPSHOTS = 256
# Answers of the minute; built again from the rest.
_DERIVED = "_bodies"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A wire at one moment. Never changed: going back copies it again."""

    now_ms: int
    venues: Mapping[str, dict[str, Any]]
    faults: FaultState


class Snapshots:
    """The newest ``MOST_SNAPSHOTS`` snapshots of one wire, by id."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, Snapshot] = OrderedDict()
        self._count = 0

    def keep(self, snapshot: Snapshot) -> int:
        """Remember it, and forget the oldest where there are too many. Returns its id."""
        self._count += 1
        self._kept[self._count] = snapshot
        if len(self._kept) > MOST_SNAPSHOTS:
            self._kept.popitem(last=False)
        return self._count

    def get(self, snapshot_id: Any) -> Snapshot:
        """Raises ``ConfigurationError`` where there is none of that id, or no longer."""
        known = self._kept.get(snapshot_id) if isinstance(snapshot_id, int) else None
        if known is None:
            raise ConfigurationError(
                f"id: expected one of the newest {MOST_SNAPSHOTS} snapshots, was {snapshot_id!r}"
            )
        return known


def take(now_ms: int, venues: Mapping[str, Personality], faults: FaultState) -> Snapshot:
    """The state of a wire now."""
    states = {name: _copied(venue, vars(venue)) for name, venue in venues.items()}
    return Snapshot(now_ms, states, faults.copy())


def go_back(snapshot: Snapshot, venues: Mapping[str, Personality]) -> None:
    """Put every venue back into its state of then."""
    for name, venue in venues.items():
        state = _copied(venue, snapshot.venues[name])
        vars(venue).clear()
        vars(venue).update(state)


def _copied(venue: Personality, state: Mapping[str, Any]) -> dict[str, Any]:
    """A deep copy of a venue's attributes that shares what never changes."""
    exchange = state["exchange"]
    shared: list[object] = [
        *(venue, venue.feed, venue.tape, venue.credentials, exchange.venue),
        *(value for value in state.values() if _is_routing(value)),
        *exchange.rules.values(),
        *exchange.fills,
        *(order.request for order in exchange.orders.values()),
    ]
    memo: dict[int, object] = {id(one): one for one in shared}
    memo[id(state[_DERIVED])] = {}
    return copy.deepcopy(dict(state), memo)


def _is_routing(value: object) -> bool:
    """A table of handlers. They hold the venue itself, not its state."""
    return isinstance(value, dict) and bool(value) and all(map(callable, value.values()))
