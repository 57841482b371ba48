"""``trading-loop cancel``: end a parent order before it is filled."""

from __future__ import annotations

import argparse

from deploy.cli import output


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "cancel",
        help="end a parent order; what it has bought stays",
        description="End a parent order: none of its slices is sent any more. It takes effect "
        "with the next order, because every slice passes its parent in its own transaction. What "
        "was bought stays open and is managed as before. `trading-loop orders` lists the parents.",
    )
    parser.add_argument("parent", metavar="PARENT_ID", help="as `trading-loop orders` shows it")
    parser.add_argument("--reason", required=True, metavar="TEXT", help="why; kept in the ledger")
    output.add_json_option(parser)
    parser.set_defaults(handler=handler)


def handler(args: argparse.Namespace) -> int:
    """Cancel, and say what holds now.

    Raises:
        ConfigurationError: there is no such parent.
    """
    from deploy.cli import ledgers
    from shared.errors import ConfigurationError
    from shared.execution.entries import parents

    with ledgers.open_ledger() as opened, opened.own_time():
        ledger = opened.ledger
        changed = parents.cancel(ledger, args.parent, f"{output.person()}: {args.reason}")
        row = ledger.one(
            "SELECT state, ended_reason FROM parent_orders WHERE pod = %s AND parent_id = %s",
            (ledger.pod, args.parent),
        )
    if row is None:
        raise ConfigurationError(
            f"PARENT_ID: expected a parent order of pod {ledger.pod!r}, was {args.parent!r}"
        )
    if args.json:
        output.print_json({"changed": changed, "parent_id": args.parent} | row)
    elif changed:
        print(f"{args.parent} is cancelled.")
    else:
        print(f"Nothing changed: it was {row['state']} already ({row['ended_reason']}).")
    return 0
