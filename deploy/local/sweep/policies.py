"""Faults that are drawn: one at a random call of a recovery, or some per cent of all calls."""

from __future__ import annotations

import random

from deploy.local.sweep.faults import Mode, Site, modes_for
from deploy.local.sweep.proxy import Policy


def nth_call(number: int, rng: random.Random) -> Policy:
    """Strikes at the ``number``-th call, from 1, in a mode that is drawn."""
    arrived = 0

    def policy(site: Site) -> Mode | None:
        nonlocal arrived
        arrived += 1
        return rng.choice(modes_for(site)) if arrived == number else None

    return policy


def at_rate(share: float, rng: random.Random) -> Policy:
    """Strikes at each call with the probability ``share``, in a mode that is drawn."""

    def policy(site: Site) -> Mode | None:
        return rng.choice(modes_for(site)) if rng.random() < share else None

    return policy
