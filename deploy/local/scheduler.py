"""When which workflow runs: on a virtual clock without waiting, on the real one with it."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from deploy.local.manifest import Workflow
from shared import clock


@dataclass(frozen=True)
class Tick:
    """``workflow`` is due at ``at_ms``."""

    at_ms: int
    workflow: Workflow


def virtual_ticks(workflows: Sequence[Workflow], from_ms: int, to_ms: int) -> Iterator[Tick]:
    """All ticks from ``from_ms`` (included) to ``to_ms`` (excluded), in order.

    Ticks of the same minute come in the order of ``workflows``.
    """
    due: list[tuple[int, int]] = []
    for rank, workflow in enumerate(workflows):
        if workflow.schedule is not None:
            due.append((next_ms(workflow, from_ms - 1), rank))
    heapq.heapify(due)
    while due and due[0][0] < to_ms:
        at_ms, rank = heapq.heappop(due)
        yield Tick(at_ms, workflows[rank])
        heapq.heappush(due, (next_ms(workflows[rank], at_ms), rank))


def real_ticks(
    workflows: Sequence[Workflow], to_ms: int, sleep: Callable[[float], None]
) -> Iterator[Tick]:
    """Ticks by ``shared.clock``, each when it is due, until ``to_ms`` (excluded).

    Args:
        sleep: waits for so many seconds; injected so that a test need not wait.

    A tick whose turn comes when the next one of its workflow is due already, because runs before
    it took too long, is left out: the workflows work on the present state, not on a backlog.
    """
    for tick in virtual_ticks(workflows, clock.now_ms(), to_ms):
        wait_ms = tick.at_ms - clock.now_ms()
        if wait_ms > 0:
            sleep(wait_ms / 1000)
        if clock.now_ms() < next_ms(tick.workflow, tick.at_ms):
            yield tick


def next_ms(workflow: Workflow, after_ms: int) -> int:
    """The first tick of a scheduled workflow after ``after_ms``."""
    assert workflow.schedule is not None
    return clock.to_ms(workflow.schedule.next_after(clock.from_ms(after_ms)))
