"""``python -m deploy.local.sweep``: the crash sweep; ``--help`` tells the options."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import uvloop
from rich.console import Console

from deploy.local.servers import PROJECT
from deploy.local.sweep import workers
from deploy.local.sweep.campaign import Plan, run_case
from deploy.local.sweep.journal import Journal
from deploy.local.sweep.scenarios import SCENARIOS
from deploy.local.sweep.world import World

DEFAULT_JSON = PROJECT / "reports" / "sweep.json"
_QUICK_SCENARIOS = ("entry", "unknown_kraken")
_QUICK_MATCH = "http POST"


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 where nothing was broken, 1 where something was."""
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(given)
    console = Console()
    if options.case is not None:
        return uvloop.run(_replay(console, options.case))
    started = time.monotonic()
    journal = Journal.open(fresh=options.fresh)
    if journal.done:
        console.print(f"{len(journal.done):,} cases of this build are done; --fresh begins anew.")
    report = workers.sweep(_plan(options), console, journal)
    seconds = time.monotonic() - started
    journal.end(seconds)
    document = report.as_json(given, journal.seconds + seconds)
    console.print(report.table())
    for failure in report.tallies["ours"].failures[:10]:
        console.print(f"{failure['violations'][0]}  {failure['replay']}", soft_wrap=True)
    for name, error in report.unprepared.items():
        console.print(f"[red]{name} could not be swept:[/] {error}", soft_wrap=True)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(document, indent=1) + "\n")
    console.print(f"{options.json}", soft_wrap=True)
    return 0 if report.clean else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.local.sweep",
        description="Kill and break every external call of a run, restart, and check the books.",
    )
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="default: all")
    parser.add_argument("--sites", default="", help="only sites whose name contains this")
    parser.add_argument("--pairs", type=int, default=0, help="pairs of faults, drawn at random")
    parser.add_argument("--overlaps", type=int, default=0, help="overlapping runs, drawn")
    parser.add_argument("--days", type=int, default=0, help="virtual days of random faults")
    parser.add_argument("--no-first", action="store_true", help="leave out the first order")
    parser.add_argument("--no-baselines", action="store_true")
    parser.add_argument("--minutes", type=float, help="begin no further case after this time")
    parser.add_argument("--fresh", action="store_true", help="forget what was swept before")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="two scenarios, requests that write")
    parser.add_argument("--json", type=Path, default=DEFAULT_JSON)
    parser.add_argument("--case", help="repeat one case, as a report names it")
    return parser


def _plan(options: argparse.Namespace) -> Plan:
    scenarios = tuple(options.scenario or (_QUICK_SCENARIOS if options.quick else SCENARIOS))
    return Plan(
        scenarios=scenarios,
        match=options.sites or (_QUICK_MATCH if options.quick else ""),
        first_order=not options.no_first,
        with_baselines=not options.no_baselines,
        pairs=options.pairs,
        overlaps=options.overlaps,
        days=options.days,
        workers=options.workers,
        seed=options.seed,
        minutes=options.minutes,
    )


async def _replay(console: Console, text: str) -> int:
    world = World()
    try:
        await world.start()
        result = await run_case(world, text)
    finally:
        await world.stop()
    console.print_json(json.dumps(result.as_json()))
    return 1 if result.violations else 0


if __name__ == "__main__":
    sys.exit(main())
