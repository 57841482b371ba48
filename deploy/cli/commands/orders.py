"""``trading-loop orders``: what is being bought, what rests on a venue, what nobody knows yet."""

from __future__ import annotations

import argparse
from datetime import datetime
from typing import TYPE_CHECKING, Any

from deploy.cli import output

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "orders",
        help="working parents with their progress, open orders, unknown outcomes",
        description="Print what is under way, as the ledger has it. A parent is bought in slices; "
        "`trading-loop cancel PARENT` ends it.",
    )
    output.add_json_option(parser)
    parser.set_defaults(handler=handler)


def handler(args: argparse.Namespace) -> int:
    """Print what is under way; the exit code is 0 whatever it is."""
    from deploy.cli import ledgers
    from shared.ledger import underway

    with ledgers.open_ledger() as opened:
        found = underway.gather(opened.ledger)
        name, as_of = opened.name, opened.as_of
    if args.json:
        output.print_json({"ledger": name, "as_of": as_of} | found)
    else:
        _print(output.console(), found, as_of)
    return 0


def _print(console: Console, found: dict[str, Any], as_of: datetime) -> None:
    tables = (_parents(found), _open_orders(found, as_of), _unknown(found, as_of))
    for table in tables:
        if table is not None:
            console.print(table)
    if not any(tables):
        console.print("Nothing is under way.")


def _parents(found: dict[str, Any]) -> Table | None:
    from shared.ui.page import quantity

    if not found["parents"]:
        return None
    table = _table("Working parents", "parent symbol why", "slices filled in_flight of % until")
    for parent in found["parents"]:
        table.add_row(
            parent["parent_id"],
            parent["symbol"],
            parent["reason"],
            f"{min(parent['slices_sent'], parent['slices'])}/{parent['slices']}",
            quantity(parent["filled_quantity"]),
            quantity(parent["in_flight_quantity"]),
            quantity(parent["quantity"]),
            f"{100 * parent['filled_quantity'] / parent['quantity']:.0f}",
            f"{parent['expires_at']:%H:%M:%S}",
        )
    return table


def _open_orders(found: dict[str, Any], as_of: datetime) -> Table | None:
    from shared.ui.page import ago, price, quantity

    if not found["open_orders"]:
        return None
    table = _table("Open orders", "venue order symbol side purpose", "filled of limit stop age")
    for order in found["open_orders"]:
        table.add_row(
            *(order["venue"], order["client_order_id"], order["symbol"]),
            *(order["side"], order["purpose"]),
            quantity(order["filled_quantity"]),
            quantity(order["quantity"]),
            price(order["limit_price"]),
            price(order["stop_price"]),
            ago(order["sent_at"], as_of),
        )
    return table


def _unknown(found: dict[str, Any], as_of: datetime) -> Table | None:
    from rich.text import Text

    from shared.ui.page import ago, quantity

    if not found["unknown_intents"]:
        return None
    table = _table("Unknown outcomes", "venue order symbol side purpose", "quantity age")
    table.add_column("error")
    for intent in found["unknown_intents"]:
        table.add_row(
            *(intent["venue"], intent["client_order_id"], intent["symbol"]),
            *(intent["side"], intent["purpose"]),
            quantity(intent["quantity"]),
            ago(intent["sent_at"], as_of),
            Text(intent["error"] or ""),
        )
    return table


def _table(title: str, left: str, right: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in left.split():
        table.add_column(name, no_wrap=True)
    for name in right.split():
        table.add_column(name.replace("_", " "), justify="right")
    return table
