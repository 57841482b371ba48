"""Which tick has which fault, and in which order the ticks then come."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from deploy.local.schedule_faults.rates import FaultRates
from deploy.local.scheduler import Tick

Kind = Literal["none", "late", "double", "miss", "overlap", "retry", "kill"]
Doubled = Literal["same event after", "same event meanwhile", "other event"]

QUIET_MS = 10 * 60_000
"""The end of a stretch without faults, in which what they have left behind comes to rest."""
_DOUBLED: tuple[Doubled, ...] = ("same event after", "same event meanwhile", "other event")
_LATE_S = (5, 200)
_MOST_LINES = 20_000  # a minute of the scanner runs about as many lines of our own code
_MINUTE_MS = 60_000


@dataclass(frozen=True)
class Planned:
    """What befalls one tick.

    Attributes:
        late_ms: how long after its time it is delivered.
        doubled: how, if it is.
        step, line: where the run is stopped, fails or is killed.
        ticks_under_way: how many further ticks of its workflow an overlapping run sees come.
    """

    kind: Kind = "none"
    late_ms: int = 0
    doubled: Doubled = "same event after"
    step: str = ""
    line: int = 1
    ticks_under_way: int = 1


@dataclass(order=True)
class Delivery:
    """A tick as it comes to its workflow, at ``at_ms``."""

    at_ms: int
    number: int
    tick: Tick = field(compare=False)
    planned: Planned = field(compare=False)


def plan(rates: FaultRates, tick: Tick) -> Planned:
    """What befalls ``tick``: a function of seed, workflow and time alone."""
    # what is drawn decides a test, not a secret
    source = random.Random(f"{rates.seed}/{tick.workflow.name}/{tick.at_ms}")  # noqa: S311
    draw, kind = source.random(), "none"
    for name, rate in rates.by_kind().items():
        if draw < rate:
            kind = name
            break
        draw -= rate
    late_ms = source.randint(*_LATE_S) * 1000
    return Planned(
        kind=kind,  # type: ignore[arg-type]  # the names of the rates
        late_ms=late_ms if kind == "late" else 0,
        doubled=source.choice(_DOUBLED),
        step=source.choice(tick.workflow.steps).namespace,
        line=math.ceil(math.exp(source.uniform(0, math.log(_MOST_LINES)))),
        ticks_under_way=source.choice((1, 2)),
    )


def deliveries(ticks: Iterable[Tick], rates: FaultRates, to_ms: int) -> Iterator[Delivery]:
    """The ticks in the order in which they come; late ones after what came before them.

    A tick that misses is among them, so that it can be counted. The last ``QUIET_MS`` before
    ``to_ms`` have no faults.
    """
    late: list[Delivery] = []
    for number, tick in enumerate(ticks):
        quiet = tick.at_ms >= to_ms - QUIET_MS
        planned = Planned() if quiet else plan(rates, tick)
        while late and late[0].at_ms <= tick.at_ms:
            yield heapq.heappop(late)
        delivery = Delivery(tick.at_ms + planned.late_ms, number, tick, planned)
        if planned.late_ms:
            heapq.heappush(late, delivery)
        else:
            yield delivery
    while late:
        yield heapq.heappop(late)
