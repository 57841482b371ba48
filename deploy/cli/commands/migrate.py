"""``trading-loop migrate``: bring the ledger up to this build."""

from __future__ import annotations

import argparse

from deploy.cli import output


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "migrate",
        help="bring the ledger's tables up to this build",
        description="Apply the migrations that the ledger lacks; nothing happens if it has all.",
    )
    output.add_json_option(parser)
    parser.set_defaults(handler=handler)


def handler(args: argparse.Namespace) -> int:
    """Migrate and say what was applied."""
    from deploy.cli import ledgers
    from shared.ledger import migrate

    with ledgers.open_ledger(migrated=False) as opened:
        applied = migrate.migrate(opened.ledger)
    if args.json:
        output.print_json({"applied": applied})
    elif applied:
        print(f"Applied {', '.join(applied)}.")
    else:
        print("The ledger has every migration of this build.")
    return 0
