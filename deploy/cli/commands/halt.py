"""``trading-loop halt``: stop trading now, until a person re-arms."""

from __future__ import annotations

import argparse

from deploy.cli import output


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "halt",
        help="stop trading until a person re-arms",
        description="Halt: from now on only cancels and exits are sent. It takes effect with the "
        "next order, because every order passes this state in its own transaction.",
    )
    parser.add_argument("--reason", required=True, metavar="TEXT", help="why; kept in the ledger")
    parser.add_argument(
        "--close-all", action="store_true", help="also close what is open, at the next minutes"
    )
    output.add_json_option(parser)
    parser.set_defaults(handler=handler)


def handler(args: argparse.Namespace) -> int:
    """Halt, and say what holds now."""
    from deploy.cli import ledgers
    from shared.ledger import state

    with ledgers.open_ledger() as opened, opened.own_time():
        changed = state.tighten(
            opened.ledger,
            "HALTED",
            reason=args.reason,
            set_by=output.person(),
            rearm_required=True,
            close_all=args.close_all,
        )
        present = state.read(opened.ledger)
    if args.json:
        output.print_json({"changed": changed, "state": vars(present)})
    elif changed:
        closing = " Open positions will be closed." if present.close_all else ""
        print(f"Trading is HALTED.{closing} Allow it again: trading-loop rearm --reason TEXT")
    else:
        print(f"Nothing changed: trading was HALTED already ({present.reason}).")
    return 0
