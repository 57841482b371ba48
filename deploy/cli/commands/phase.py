"""``trading-loop phase``: setup, install, test and live, each with its own exit conditions."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.cli import deployments, output
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from deploy.cli.check import Check
    from deploy.cli.ledgers import OpenLedger
    from deploy.phases.findings import Findings
    from shared.ledger.phases import Phase

EXIT_OPEN = 1
_STYLE = {"OK": "green", "WARN": "yellow", "FAIL": "bold red"}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "phase",
        help="the phases before live trading: what is passed, and what is open",
        description="Check the exit conditions of a phase and write into the ledger that it is "
        "passed. Live trading cannot be armed before setup, install and test are.",
    )
    output.add_json_option(parser)
    parser.set_defaults(handler=status)
    actions = parser.add_subparsers(dest="action", metavar="PHASE")
    _add_setup(actions)
    _add_install(actions)
    _add_test(actions)
    _add_drill(actions)
    _add_live(actions)


def status(args: argparse.Namespace) -> int:
    """Which phases are passed; the exit code is 0 in any case."""
    from deploy.cli import ledgers
    from shared.ledger import phases, stages

    with ledgers.open_ledger() as opened:
        passed, present = phases.passed(opened.ledger), stages.in_force(opened.ledger)
        pod = opened.ledger.pod
    if args.json:
        shown = {phase: vars(passed[phase]) if phase in passed else None for phase in phases.ORDER}
        bounds = vars(present.stage) | {"since": present.since, "raised_by": present.raised_by}
        output.print_json({"pod": pod, "phases": shown, "stage": bounds})
        return 0
    for phase in phases.ORDER:
        found = passed.get(phase)
        when = "open" if found is None else (
            f"passed {found.passed_at:%Y-%m-%d %H:%M} UTC by {found.passed_by}, {found.build}"
        )  # fmt: skip
        print(f"{phase:<8} {when}")
    stage = present.stage
    print(f"limits   stage {stage.number} of {len(stages.STAGES)}: {stages.described(stage)}")
    return 0


def setup(args: argparse.Namespace) -> int:
    """Accounts, environment, ledger, venues."""
    from deploy.cli import ledgers
    from deploy.phases import setup as phase

    with ledgers.open_ledger() as opened:
        found = phase.checks(opened.settings, offline=args.offline)
        return _conclude(args, opened, "setup", found)


def install(args: argparse.Namespace) -> int:
    """Deployed, hashes equal, every workflow heard from."""
    from deploy.cli import ledgers
    from deploy.local import manifest
    from deploy.local.servers import PROJECT
    from deploy.phases import install as phase
    from deploy.pipedream import build

    project = manifest.load(PROJECT)
    built = build.build(project)
    with ledgers.open_ledger() as opened:
        args.pod = opened.ledger.pod if _is_made_from_templates(opened) else None
        with deployments.opened(args) as deployment:
            differences = deployment.check(built)
    with ledgers.open_ledger() as opened:
        found = [
            phase.deployed(differences, len(built.bundles), built.build),
            *phase.heard_from(opened.ledger, project, built.build, opened.as_of),
        ]
        return _conclude(args, opened, "install", found, build=built.build)


def test(args: argparse.Namespace) -> int:
    """48 hours of mock trading, and what they have shown."""
    from deploy.cli import ledgers
    from deploy.local import manifest
    from deploy.local.servers import PROJECT
    from deploy.phases import mock_run

    with ledgers.open_ledger() as opened, opened.own_time():
        found = mock_run.checks(
            opened.ledger, opened.settings, manifest.load(PROJECT), opened.as_of,
            _pairs("--explain", args.explain),
        )  # fmt: skip
        return _conclude(args, opened, "test", found)


def drill(args: argparse.Namespace) -> int:
    """Trip the halt on paper, see it work, lift it."""
    from deploy.cli import ledgers
    from deploy.phases import drill as drills

    with ledgers.open_ledger() as opened, opened.own_time():
        done = drills.run(opened.ledger, person=output.person())
    if args.json:
        output.print_json(vars(done) | {"passed": done.passed})
    else:
        print(
            f"Halted after {done.halted_ms:.1f} ms; a buy was refused after {done.refused_ms:.1f} "
            f"ms ({done.refusal or 'NOT REFUSED'}); exits "
            f"{'pass' if done.exits_pass else 'DO NOT PASS'}; trading is "
            f"{'ACTIVE again' if done.rearmed else 'still halted'}."
        )
    return 0 if done.passed else EXIT_OPEN


def live(args: argparse.Namespace) -> int:
    """How the stage in force goes; with ``--raise`` the next one, after a clean report."""
    from deploy.cli import ledgers
    from deploy.local import manifest
    from deploy.local.servers import PROJECT
    from deploy.phases import live as phase
    from deploy.phases.findings import judged

    explained = _pairs("--explain", args.explain)
    with ledgers.open_ledger() as opened:
        found = phase.checks(
            opened.ledger, opened.settings, manifest.load(PROJECT), opened.as_of, explained
        )
        if not args.raise_limits:
            return _conclude(args, opened, "live", found)
        return _raise(args, opened, judged(found, _pairs("--accept", args.accept)))


def _add_setup(actions: Any) -> None:
    parser = actions.add_parser("setup", help="accounts, environment, ledger, venues")
    parser.add_argument("--offline", action="store_true", help="do not ask the venues")
    _add_common(parser)
    parser.set_defaults(handler=setup)


def _add_install(actions: Any) -> None:
    parser = actions.add_parser("install", help="deployed, hashes equal, all heard from")
    parser.add_argument(
        "--clone", type=Path, required=True, metavar="DIR", help="of the synced repository"
    )
    _add_common(parser)
    parser.set_defaults(handler=install)


def _add_test(actions: Any) -> None:
    parser = actions.add_parser("test", help="48 hours of mock trading, and what they show")
    _add_explain(parser)
    _add_common(parser)
    parser.set_defaults(handler=test)


def _add_drill(actions: Any) -> None:
    parser = actions.add_parser("drill", help="trip a halt on paper, measure, lift it")
    output.add_json_option(parser)
    parser.set_defaults(handler=drill)


def _add_live(actions: Any) -> None:
    parser = actions.add_parser("live", help="how live trading goes; --raise its limits")
    parser.add_argument(
        "--raise", dest="raise_limits", action="store_true",
        help="to the next stage, after a clean report of this one",
    )  # fmt: skip
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    _add_explain(parser)
    _add_common(parser)
    parser.set_defaults(handler=live)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--accept", action="append", default=[], metavar="NAME=WHY",
        help="pass in spite of this warning; kept as evidence",
    )  # fmt: skip
    output.add_json_option(parser)


def _add_explain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--explain", action="append", default=[], metavar="PART=WHY",
        help="why failed runs with PART in their error do not matter; kept as evidence",
    )  # fmt: skip


def _is_made_from_templates(opened: OpenLedger) -> bool:
    from shared.ledger import pods

    return pods.named(opened.ledger, opened.ledger.pod) is not None


def _conclude(
    args: argparse.Namespace,
    opened: OpenLedger,
    phase: Phase,
    checks: Sequence[Check] | Iterator[Check],
    *,
    build: str | None = None,
) -> int:
    """Show what was found, and write that the phase is passed if it is."""
    from deploy.phases.findings import failed, judged
    from shared.ledger import phases, runs

    listed = list(checks)
    if phase != "live" and (missing := phases.open_before(opened.ledger, phase)):
        listed.insert(0, failed("phases", f"not passed before: {', '.join(missing)}"))
    found = judged(listed, _pairs("--accept", args.accept))
    if not found.open:
        phases.record(
            opened.ledger, phase, passed_by=output.person(), build=build or runs.THIS_BUILD,
            evidence=found.as_evidence(),
        )  # fmt: skip
    _show(args, phase, found)
    return EXIT_OPEN if found.open else 0


def _raise(args: argparse.Namespace, opened: OpenLedger, found: Findings) -> int:
    from shared.ledger import phases, stages

    present = stages.in_force(opened.ledger).stage
    if present == stages.STAGES[-1]:
        raise ConfigurationError(f"--raise: stage {present.number} is the last one")
    if "live" not in phases.passed(opened.ledger):
        raise ConfigurationError("--raise: expected `trading-loop phase live` to be passed first")
    following = stages.of_number(present.number + 1)
    _show(args, "live", found)
    if found.open or not (args.yes or _confirmed(opened.ledger.pod, stages.described(following))):
        print("Not raised.", file=sys.stderr)
        return EXIT_OPEN
    stages.raise_to(
        opened.ledger, following, raised_by=output.person(), evidence=found.as_evidence()
    )
    print(f"Stage {following.number}: {stages.described(following)}.", file=sys.stderr)
    return 0


def _confirmed(pod: str, terms: str) -> bool:
    if not sys.stdin.isatty():
        raise ConfigurationError("--yes: expected where no person sits at a terminal to confirm")
    question = f"Pod {pod} may then have {terms}.\nType the pod's name to raise its limits: "
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip() == pod


def _show(args: argparse.Namespace, phase: str, found: Findings) -> None:
    if args.json:
        shown = {"phase": phase, "passed": not found.open} | found.as_evidence()
        output.print_json(shown)
        return
    from rich.markup import escape

    console = output.console()
    for check in found.checks:
        accepted = found.accepted.get(check.name) if check.verdict == "WARN" else None
        style = _STYLE[check.verdict]
        console.print(f"[{style}]{check.verdict:<4}[/] {check.name:<32} {escape(check.detail)}")
        if accepted is not None:
            console.print(f"{'':38}[dim]accepted: {escape(accepted)}[/]")
        elif check.advice:
            console.print(f"{'':38}[dim]{escape(check.advice)}[/]")
    left = len(found.open)
    print(f"Phase {phase} is passed." if not left else f"Phase {phase}: {left} to do.")


def _pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, equals, why = text.rpartition("=")
        if not (name and equals and why.strip()):
            raise ConfigurationError(f"{option}: expected NAME=WHY, was {text!r}")
        found[name] = why.strip()
    return found
