"""``trading-loop arm``: let this pod send real orders, for some hours."""

from __future__ import annotations

import argparse
import sys
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from deploy.cli import output

if TYPE_CHECKING:
    from deploy.cli.check import Check
    from shared.config import Config
    from shared.ledger.connection import Ledger

MOST_HOURS = 168
"""A week. Who wants to go on longer looks at it once a week and arms again."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "arm",
        help="let this pod send real orders for some hours",
        description="Write a token that lets this pod trade live until it expires. It needs "
        "ENABLE_LIVE_TRADING=true, a migrated ledger, the phases before live, trading that is not "
        "HALTED, and keys for every venue that cannot withdraw: each venue is asked. Without a "
        "valid token the loop trades on paper.",
    )
    parser.add_argument("--live", action="store_true", required=True, help="for live trading")
    parser.add_argument(
        "--hours", type=_hours, required=True, metavar="N", help=f"above 0, at most {MOST_HOURS}"
    )
    parser.add_argument("--reason", metavar="TEXT", help="why; kept in the ledger")
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    output.add_json_option(parser)
    parser.set_defaults(handler=handler)


def handler(args: argparse.Namespace) -> int:
    """Check, ask, write the token; the exit code is 1 where a check fails or a person says no."""
    from deploy.cli import arming, environment, ledgers
    from shared.ledger import arming as tokens

    settings = environment.settings()
    _refuse_unattended(args)
    report = list(arming.of_settings(settings))
    if _failed(report):
        return _refused(args, report)
    with ledgers.open_ledger() as opened:
        settings = opened.settings
        report += arming.of_ledger(opened.ledger)
        if not _failed(report):
            report += arming.of_keys(settings)
        if _failed(report):
            return _refused(args, report)
        if not args.yes and not _confirmed(settings, opened.ledger, args.hours):
            print("Not armed.", file=sys.stderr)
            return 1
        token = tokens.arm(
            opened.ledger,
            timedelta(hours=float(args.hours)),
            armed_by=output.person(),
            reason=args.reason,
            terms=(terms := arming.terms(settings, opened.ledger)),
        )
    if args.json:
        output.print_json({"armed": True, "token": vars(token), "terms": terms})
    else:
        print(
            f"Live trading is armed until {token.expires_at:%Y-%m-%d %H:%M} UTC. "
            "End it earlier: trading-loop disarm. Stop at once: trading-loop halt --reason TEXT"
        )
    return 0


def _hours(text: str) -> Decimal:
    try:
        hours = Decimal(text)
    except InvalidOperation:
        hours = Decimal("NaN")
    if not hours.is_finite() or not 0 < hours <= MOST_HOURS:
        raise argparse.ArgumentTypeError(
            f"expected hours above 0 and at most {MOST_HOURS}, was {text!r}"
        )
    return hours


def _refuse_unattended(args: argparse.Namespace) -> None:
    from shared.errors import ConfigurationError

    if not args.yes and not sys.stdin.isatty():
        raise ConfigurationError("--yes: expected where no person sits at a terminal to confirm")


def _confirmed(settings: Config, ledger: Ledger, hours: Decimal) -> bool:
    """Show what is agreed to, on the side of the errors, and take the pod's name for a yes."""
    from deploy.cli import arming
    from shared.ledger import stages

    stage = stages.in_force(ledger).stage
    settings = stages.bounded(settings, stage)
    print(
        f"Pod {settings.pod} will send real orders for {hours} h:\n"
        f"  to        {', '.join(settings.venues)}\n"
        f"  in        {', '.join(arming.pairs(settings))}\n"
        f"  capital   {settings.capital_quote} {settings.quote_currency}\n"
        f"  stage     {stage.number}: {stages.described(stage)}\n"
        f"  position  at most {settings.max_position_size} {settings.quote_currency} and "
        f"{settings.position_size_percent} %, {settings.max_positions} at a time\n"
        f"  loss      at most {settings.max_daily_loss} {settings.quote_currency} and "
        f"{settings.daily_loss_percent} % a day, halt at {settings.drawdown_halt_percent} % "
        f"drawdown\n"
        f"Type the pod's name to arm it: ",
        end="",
        file=sys.stderr,
        flush=True,
    )
    return sys.stdin.readline().strip() == settings.pod


def _failed(report: list[Check]) -> bool:
    return any(check.verdict == "FAIL" for check in report)


def _refused(args: argparse.Namespace, report: list[Check]) -> int:
    failures: list[dict[str, Any]] = [vars(c) for c in report if c.verdict == "FAIL"]
    if args.json:
        output.print_json({"armed": False, "failures": failures})
    else:
        print("trading-loop: not armed", file=sys.stderr)
        for failure in failures:
            advice = f" ({failure['advice']})" if failure["advice"] else ""
            print(f"  {failure['name']}: {failure['detail']}{advice}", file=sys.stderr)
    return 1
