"""``trading-loop disarm``: nothing is bought any more; what is open is managed until it is sold."""

from __future__ import annotations

import argparse
import sys

from deploy.cli import output


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "disarm",
        help="revoke the leave to trade live",
        description="Revoke the arm token. Nothing is bought any more, not even by a run that is "
        "under way. While a position or an order is open that was sent live, runs go on to manage "
        "it: stops, exits and cancels still reach the venue. Once all is sold, trading is paper.",
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
            f"Still open on a venue: {shown}. They are managed until they are sold, as long as "
            "ENABLE_LIVE_TRADING stays true; nothing is bought.",
            file=sys.stderr,
        )
    return 0
