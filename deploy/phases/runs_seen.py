"""What the ledger tells of a pod's runs: which came, which did not, which failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from deploy.cli.check import Check
from deploy.local.manifest import Project, Workflow
from deploy.phases.findings import failed, ok
from shared.ledger.connection import Ledger

LEAST_COVERAGE_PERCENT = 99.0
"""Of the ticks of a stretch. A platform may miss one now and then; an hour in four days it may
not."""

_NEVER_ENDED_AFTER = timedelta(minutes=5)
_NEVER_ENDED = "never ended: was killed, or its answer was lost"


@dataclass(frozen=True)
class Stretch:
    """A time of a pod: after ``since``, up to and with ``until``."""

    since: datetime
    until: datetime

    @property
    def hours(self) -> float:
        return (self.until - self.since) / timedelta(hours=1)


def newest_event(ledger: Ledger) -> datetime | None:
    """The newest tick of the trading loop that the ledger has."""
    row = ledger.one(
        "SELECT max(event_at) AS at FROM runs WHERE pod = %s AND workflow = 'trading_loop'",
        (ledger.pod,),
    )
    return None if row is None else row["at"]


def scheduled(project: Project) -> list[Workflow]:
    """The workflows that run by themselves."""
    return [workflow for workflow in project.workflows if workflow.schedule is not None]


def coverage(ledger: Ledger, project: Project, stretch: Stretch) -> Iterator[Check]:
    """Whether each scheduled workflow has run at nearly all of its ticks."""
    rows = ledger.query(
        "SELECT workflow, count(DISTINCT event_at) AS ticks FROM runs WHERE pod = %s "
        "AND event_at > %s AND event_at <= %s GROUP BY workflow",
        (ledger.pod, stretch.since, stretch.until),
    )
    ran = {row["workflow"]: int(row["ticks"]) for row in rows}
    for workflow in scheduled(project):
        expected, found = _ticks(workflow, stretch), ran.get(workflow.name, 0)
        percent = 100 * found / expected if expected else 0.0
        text = f"{found} of {expected} ticks in {stretch.hours:.0f} h ({percent:.1f} %)"
        name = f"runs of {workflow.name}"
        if percent >= LEAST_COVERAGE_PERCENT:
            yield ok(name, text)
        else:
            yield failed(name, f"{text}, expected {LEAST_COVERAGE_PERCENT:g} %", "let it run on")


def failures(
    ledger: Ledger, stretch: Stretch, now: datetime, explained: Mapping[str, str]
) -> Iterator[Check]:
    """No run has failed or never ended, but for errors that a person explains.

    Args:
        explained: why, by a part of the error's text.
    """
    rows = ledger.query(
        "SELECT workflow, coalesce(error, %s) AS error, count(*) AS runs, max(event_at) AS at "
        "FROM runs WHERE pod = %s AND event_at > %s AND event_at <= %s "
        "AND (status = 'FAILED' OR status = 'RUNNING' AND started_at < %s) "
        "GROUP BY 1, 2 ORDER BY 1, 2",
        (_NEVER_ENDED, ledger.pod, stretch.since, stretch.until, now - _NEVER_ENDED_AFTER),
    )
    used: set[str] = set()
    for row in rows:
        why = next((part for part in explained if part in row["error"]), None)
        text = f"{row['runs']} x {row['workflow']}: {row['error'][:200]}"
        if why is None:
            advice = "mend it, or say why it does not matter: --explain 'PART OF THE TEXT=WHY'"
            yield failed("failed runs", text, advice)
        else:
            used.add(why)
            yield ok("failed runs", f"{text}; explained: {explained[why]}")
    if not rows:
        yield ok("failed runs", "none")
    for part in sorted(explained.keys() - used):
        yield failed("explanations", f"{part!r} is a part of no error", "leave it away")


def _ticks(workflow: Workflow, stretch: Stretch) -> int:
    schedule, count = workflow.schedule, 0
    assert schedule is not None
    moment = schedule.next_after(stretch.since)
    while moment <= stretch.until:
        count += 1
        moment = schedule.next_after(moment)
    return count
