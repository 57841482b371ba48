"""``trading-loop rearm``: a person allows trading again."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from deploy.cli import output

if TYPE_CHECKING:
    from shared.ledger.connection import Ledger


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "rearm",
        help="allow trading again after a halt",
        description="End a halt or a pause. Who did it and why is kept in the ledger. The circuit "
        "breaker halts again within a minute if the cause is still there.",
    )
    parser.add_argument("--reason", required=True, metavar="TEXT", help="why; kept in the ledger")
    parser.add_argument(
        "--throttles",
        action="store_true",
        help="leave the halt alone, and let strategies go on that were carried out too often",
    )
    output.add_json_option(parser)
    parser.set_defaults(handler=handler)


def handler(args: argparse.Namespace) -> int:
    """Set the state to ACTIVE, or free what is throttled, and say what holds now."""
    from deploy.cli import ledgers

    with ledgers.open_ledger() as opened, opened.own_time():
        act = _reenable if args.throttles else _rearm
        act(opened.ledger, args.reason, as_json=args.json)
    return 0


def _rearm(ledger: Ledger, reason: str, *, as_json: bool) -> None:
    from shared.ledger import state, throttles

    changed = state.rearm(ledger, reason=reason, set_by=output.person())
    waiting = throttles.tripped(ledger)
    if as_json:
        present = vars(state.read(ledger))
        output.print_json({"changed": changed, "state": present, "throttles": waiting})
        return
    print("Trading is ACTIVE." if changed else "Nothing changed: trading was ACTIVE already.")
    for row in waiting:
        print(f"Still throttled: {row['strategy']} in {row['symbol']}, since {row['tripped_at']}.")
    if waiting:
        print("To let these go on: trading-loop rearm --throttles --reason TEXT")


def _reenable(ledger: Ledger, reason: str, *, as_json: bool) -> None:
    from shared.ledger import throttles

    freed = throttles.reenable(ledger, reason=reason, by=output.person())
    if as_json:
        output.print_json({"reenabled": freed})
        return
    for row in freed:
        print(f"{row['strategy']} may buy {row['symbol']} again.")
    if not freed:
        print("Nothing changed: no strategy was throttled.")
