"""``trading-loop cost``: credits a day on Pipedream, from what a run was measured to take."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.cli import output

if TYPE_CHECKING:
    from rich.table import Table

    from deploy.local.cost import Cost

_REPORT = Path("reports/faithful.json")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "cost",
        help="credits a day on Pipedream, by workflow, memory and cadence",
        description="Project the seconds and the memory that the runs of each workflow were "
        "measured to take in the faithful mode: a run costs ceil(seconds / 30) x ceil(MiB / 256) "
        "credits. Latency of real venues comes on top of the seconds of this machine.",
    )
    parser.add_argument(
        "--from-run",
        type=Path,
        metavar="FILE",
        help="the report of `trading-loop run --faithful --json FILE`; default: the measurement "
        f"in {_REPORT}",
    )
    output.add_json_option(parser)
    parser.set_defaults(handler=handler)


def handler(args: argparse.Namespace) -> int:
    """Print the tables."""
    from deploy.local import cost, manifest
    from deploy.local.servers import PROJECT

    path = args.from_run or PROJECT / _REPORT
    project = manifest.load(PROJECT)
    report = _read(path)
    projected = cost.project_cost(report["usage"], project)
    on_request = [workflow.name for workflow in project.workflows if workflow.schedule is None]
    if args.json:
        output.print_json(projected.to_json() | {"on_request": on_request, "from_run": str(path)})
        return 0
    console = output.console()
    console.print(f"Measured from {report['from']} to {report['to']}, {path}", soft_wrap=True)
    console.print(_by_workflow(projected))
    console.print(_by_cadence(projected))
    for line in _remarks(projected, on_request):
        console.print(line, soft_wrap=True)
    return 0


def _read(path: Path) -> dict[str, Any]:
    """Raises ``ConfigurationError`` where it is no report of a run."""
    from shared.errors import ConfigurationError

    hint = "make one with `trading-loop run --faithful --json FILE`"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}: {hint}") from None
    except ValueError:
        raise ConfigurationError(f"{path}: expected JSON: {hint}") from None
    for name in ("usage", "from", "to"):
        if not isinstance(report, dict) or name not in report:
            raise ConfigurationError(f"{path}: {name}: expected a report of a run: {hint}")
    return report


def _by_workflow(projected: Cost) -> Table:
    from rich.table import Table

    from deploy.local.cost import MEMORIES_MIB

    table = Table(title="credits by workflow, at its own schedule", title_justify="left")
    table.add_column("workflow")
    names = ["runs a day", "p50 s", "p99 s", "longest s", "margin s", "peak MiB", "credits a run"]
    for name in (*names, *(f"a day at {memory} MiB" for memory in MEMORIES_MIB)):
        table.add_column(name, justify="right")
    for cost in projected.workflows:
        table.add_row(
            cost.workflow,
            f"{cost.runs_a_day:,}",
            f"{cost.seconds_p50:.2f}",
            f"{cost.seconds_p99:.2f}",
            f"{cost.seconds_max:.2f}",
            f"{cost.margin_seconds:.1f}",
            "unknown" if cost.peak_mib is None else f"{cost.peak_mib:.0f}",
            f"{cost.credits_a_run(MEMORIES_MIB[0]):.2f}",
            *(_at(cost.credits_a_day(m), cost.fits(m)) for m in MEMORIES_MIB),
        )
    return table


def _at(credits: float, fits: bool | None) -> str:
    return "too small" if fits is False else f"{credits:,.0f}"


def _by_cadence(projected: Cost) -> Table:
    from rich.table import Table

    from deploy.local.cost import CADENCES_MINUTES, MEMORIES_MIB

    table = Table(title="credits a day, all workflows", title_justify="left")
    table.add_column("no oftener than every")
    for memory in MEMORIES_MIB:
        table.add_column(f"{memory} MiB", justify="right")
    for cadence in CADENCES_MINUTES:
        totals = (projected.credits_a_day(memory, cadence) for memory in MEMORIES_MIB)
        table.add_row(f"{cadence} min", *(f"{total:,.0f}" for total in totals))
    return table


def _remarks(projected: Cost, on_request: list[str]) -> list[str]:
    floor = f"{projected.floor_a_day:,} credits a day, one a run at 256 MiB"
    above = ", ".join(projected.above_floor)
    kept = f"The floor of {floor}, is met."
    passed = f"The floor of {floor}, is passed by: {above}."
    requests = f"Each request to {' or '.join(on_request)} costs at least one credit more."
    return [passed if above else kept, *([requests] if on_request else [])]
