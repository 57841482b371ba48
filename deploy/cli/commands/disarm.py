"""``trading-loop disarm``: no real order is sent any more; trading is paper again."""

from __future__ import annotations

import argparse
import sys

from deploy.cli import output


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "disarm",
        help="revoke the leave to trade live",
        description="Revoke the arm token. While a position is open that was bought live, every "
        "run then stops with an error, and only what rests on the venue protects it. To stop "
        "buying and still be sold out of what is open, halt instead.",
    )
    parser.add_argument("--reason", metavar="TEXT", help="why; kept in the ledger")
    output.add_json_option(parser)
    parser.set_defaults(handler=handler)


def handler(args: argparse.Namespace) -> int:
    """Revoke, and say what stays behind."""
    from deploy.cli import ledgers
    from shared.ledger import arming

    with ledgers.open_ledger() as opened:
        changed = arming.disarm(opened.ledger, by=output.person(), reason=args.reason)
        left = arming.open_live_positions(opened.ledger)
    if args.json:
        output.print_json({"changed": changed, "open_live_positions": left})
        return 0
    print("Live trading is disarmed." if changed else "Nothing changed: it was not armed.")
    if left:
        shown = ", ".join(f"{row['position_id']} ({row['symbol']})" for row in left)
        print(
            f"Still open on a venue: {shown}. Nothing manages them until the pod is armed again "
            "or they are closed by hand.",
            file=sys.stderr,
        )
    return 0
