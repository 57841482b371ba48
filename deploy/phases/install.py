"""Phase 2, install: every step runs the code of these sources, and every workflow was heard from.

The document installs seven components one after the other; here they are workflows of one build.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from deploy.cli.check import Check
from deploy.local.manifest import Project, Workflow
from deploy.phases import runs_seen
from deploy.phases.findings import doubtful, failed, ok
from deploy.pipedream.deployment import Difference
from shared import VERSION
from shared.ledger.connection import Ledger

_TICKS_HEARD_WITHIN = 3


def deployed(differences: Sequence[Difference], steps: int, build: str) -> Check:
    """Whether the hashes that Pipedream tells are those of the bundles."""
    if not differences:
        return ok("deployed code", f"all {steps} steps run build {build}")
    shown = "; ".join(map(str, differences[:3]))
    return failed(
        "deployed code", f"{len(differences)} of {steps} steps differ: {shown}",
        "trading-loop deploy push",
    )  # fmt: skip


def heard_from(ledger: Ledger, project: Project, build: str, now: datetime) -> Iterator[Check]:
    """Whether each scheduled workflow has lately ended a run of this build without an error.

    The others leave no run: they only answer requests.
    """
    rows = ledger.query(
        "SELECT DISTINCT ON (workflow) workflow, event_at, build FROM runs "
        "WHERE pod = %s AND status = 'DONE' ORDER BY workflow, event_at DESC",
        (ledger.pod,),
    )
    newest = {row["workflow"]: row for row in rows}
    for workflow in runs_seen.scheduled(project):
        name = f"{workflow.name} heard from"
        row = newest.get(workflow.name)
        if row is None:
            yield failed(name, "never", "trading-loop deploy activate, and wait for its tick")
            continue
        since = _heard_since(workflow, now)
        text = f"last at {row['event_at']:%Y-%m-%d %H:%M} UTC, build {row['build']}"
        if row["event_at"] < since:
            yield failed(name, f"{text}, expected after {since:%Y-%m-%d %H:%M}", "is it active?")
        elif row["build"] != f"{VERSION}+{build}":
            yield failed(name, f"{text}, expected {VERSION}+{build}", "wait for its next tick")
        else:
            yield ok(name, text)
    silent = [w.name for w in project.workflows if w.schedule is None]
    if silent:
        yield doubtful(
            "HTTP workflows", f"{', '.join(silent)}: leave no run, cannot be seen from here",
            "call each once, then --accept 'HTTP workflows=WHAT THEY ANSWERED'",
        )  # fmt: skip


def _heard_since(workflow: Workflow, now: datetime) -> datetime:
    """Some ticks ago, and ten minutes at least."""
    schedule = workflow.schedule
    assert schedule is not None
    first = schedule.next_after(now)
    apart = schedule.next_after(first) - first
    return now - max(_TICKS_HEARD_WITHIN * apart, timedelta(minutes=10))
