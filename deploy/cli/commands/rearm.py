"""``trading-loop rearm``: a person allows trading again."""

from __future__ import annotations

import argparse

from deploy.cli import output


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "rearm",
        help="allow trading again after a halt",
        description="End a halt or a pause. Who did it and why is kept in the ledger. The circuit "
        "breaker halts again within a minute if the cause is still there.",
    )
    parser.add_argument("--reason", required=True, metavar="TEXT", help="why; kept in the ledger")
    output.add_json_option(parser)
    parser.set_defaults(handler=handler)


def handler(args: argparse.Namespace) -> int:
    """Set the state to ACTIVE, and say what holds now."""
    from deploy.cli import ledgers
    from shared.ledger import state

    with ledgers.open_ledger() as opened, opened.own_time():
        changed = state.rearm(opened.ledger, reason=args.reason, set_by=output.person())
        present = state.read(opened.ledger)
    if args.json:
        output.print_json({"changed": changed, "state": vars(present)})
    else:
        print("Trading is ACTIVE." if changed else "Nothing changed: trading was ACTIVE already.")
    return 0
