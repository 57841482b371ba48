"""``trading-loop doctor``: is everything there that trading needs?"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from deploy.cli import output

if TYPE_CHECKING:
    from deploy.cli.check import Check
    from shared.config import Config

_STYLE = {"OK": "green", "WARN": "yellow", "FAIL": "bold red"}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "doctor",
        help="check configuration, servers, venues, keys",
        description="Check what trading needs; each line says OK, WARN or FAIL and what to do. "
        "The exit code is 1 if a line says FAIL.",
    )
    parser.add_argument("--offline", action="store_true", help="do not ask the venues")
    output.add_json_option(parser)
    parser.set_defaults(handler=handler)


def handler(args: argparse.Namespace) -> int:
    """Run every check and print the report."""
    report = list(checks(offline=args.offline))
    if args.json:
        output.print_json([vars(check) for check in report])
    else:
        _print(report)
    return 1 if any(check.verdict == "FAIL" for check in report) else 0


def checks(*, offline: bool) -> Iterator[Check]:
    """The checks in the order in which their failures explain each other."""
    from deploy.cli import checks, environment, regions

    yield checks.python_version()
    yield checks.packages(environment.PROJECT / "requirements" / "local.txt")
    check, settings = checks.configuration(environment.settings)
    yield check
    if settings is None:
        return
    yield checks.database(settings)
    yield checks.redis(settings)
    yield checks.model_keys(settings)
    yield checks.alerting(settings)
    yield checks.live_tokens(settings)
    yield from regions.checks(settings)
    if not offline:
        yield from _venues(settings)


def _venues(settings: Config) -> Iterator[Check]:
    from deploy.cli import checks
    from shared.execution.venues import clients

    for name in settings.venues:
        # The loop's own client: Kraken refuses a nonce that is below the loop's last one.
        exchange = clients.client(settings, name)
        yield checks.venue_clock(name, exchange)
        if None not in clients.credentials(settings, name):
            yield checks.key_permissions(name, exchange)


def _print(report: list[Check]) -> None:
    from rich.markup import escape

    console = output.console()
    for check in report:
        style = _STYLE[check.verdict]
        console.print(f"[{style}]{check.verdict:<4}[/] {check.name:<15} {escape(check.detail)}")
        if check.advice:
            console.print(f"{'':21}[dim]{escape(check.advice)}[/]")
