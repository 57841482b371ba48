"""``trading-loop status``: what holds now, on one screen."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from deploy.cli import output

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_STATE_STYLE = {"ACTIVE": "green", "REDUCING": "yellow", "HALTED": "bold red"}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "status",
        help="trading state, equity, positions, last runs, breaker, alerts",
        description="Print what the ledger says about this instance.",
    )
    output.add_json_option(parser)
    parser.set_defaults(handler=handler)


def handler(args: argparse.Namespace) -> int:
    """Print the status; the exit code is 0 whatever the trading state is."""
    from deploy.cli import ledgers
    from shared.ui import dashboard

    with ledgers.open_ledger() as opened:
        model = dashboard.gather(opened.ledger, opened.settings, opened.as_of)
    if args.json:
        output.print_json({"ledger": opened.name} | model)
    else:
        _print(output.console(), model, opened.name)
    return 0


def _print(console: Console, model: dict[str, Any], ledger_name: str) -> None:
    from rich.markup import escape

    state = model["state"]
    style = _STATE_STYLE[state["state"]]
    console.print(
        f"[{style}]{state['state']}[/]  {model['mode']}  pod {model['pod']}  "
        f"as of {model['as_of']:%Y-%m-%d %H:%M:%S} UTC  [dim]{escape(ledger_name)}[/]"
    )
    if state["state"] != "ACTIVE":
        person = " - a person has to re-arm" if state["rearm_required"] else ""
        console.print(f"  {escape(state['reason'])} ({escape(state['set_by'])}){person}")
    console.print(_arming(model))
    _print_equity(console, model)
    for table in (_positions(model), _runs(model), _alerts(model)):
        if table is not None:
            console.print(table)
    _print_breaker(console, model)


def _arming(model: dict[str, Any]) -> str:
    from rich.markup import escape

    armed = model["armed"]
    if armed is None:
        paper = ": ENABLE_LIVE_TRADING alone is paper" if model["mode"] == "LIVE" else ""
        return f"Live trading: not armed{paper}"
    idle = "" if model["mode"] == "LIVE" else ", without effect on mode " + model["mode"]
    until = f"{armed['until']:%Y-%m-%d %H:%M} UTC"
    return f"Live trading: armed until {until} by {escape(armed['by'])}{idle}"


def _print_equity(console: Console, model: dict[str, Any]) -> None:
    from shared.ui.page import number, percent, signed

    equity, currency = model["equity"], model["quote_currency"]
    console.print(
        f"Equity {number(equity['equity_quote'])} {currency}, today "
        f"{signed(equity['day_pnl_quote'])}, drawdown {percent(equity['drawdown_percent'])}, "
        f"{len(model['positions'])} open position(s)"
    )


def _positions(model: dict[str, Any]) -> Table | None:
    from shared.ui.page import number, price, quantity, signed, signed_percent

    if not model["positions"]:
        return None
    table = _table("Open positions", "symbol strategy", "quantity entry mid value profit % stop")
    for position in model["positions"]:
        table.add_row(
            position["symbol"],
            position["strategy"],
            quantity(position["quantity"]),
            price(position["average_entry_price"]),
            price(position["mid"]),
            number(position["value_quote"]),
            signed(position["pnl_quote"]),
            signed_percent(position["pnl_percent"]),
            price(position["stop_price"] or None),
        )
    return table


def _runs(model: dict[str, Any]) -> Table | None:
    from rich.text import Text

    from shared.ui.page import ago, number

    if not model["workflows"]:
        return None
    table = _table("Workflows, 24 h", "workflow ended", "last took_ms runs failed")
    table.add_column("error")
    for run in model["workflows"]:
        table.add_row(
            run["workflow"],
            run["status"].lower(),
            f"{ago(run['event_at'], model['as_of'])} ago",
            number(run["duration_ms"], 0),
            str(run["runs"]),
            str(run["failures"]),
            Text(run["error"] or ""),
        )
    return table


def _alerts(model: dict[str, Any]) -> Table | None:
    from rich.text import Text

    if not model["alerts"]:
        return None
    table = _table("Alerts", "time severity title", "")
    for alert in model["alerts"][:5]:
        table.add_row(f"{alert['at']:%m-%d %H:%M}", alert["severity"], Text(alert["title"]))
    return table


def _print_breaker(console: Console, model: dict[str, Any]) -> None:
    from rich.markup import escape

    from shared.ui.page import ago

    breaker = model["breaker"]
    if breaker["at"] is None:
        console.print("Circuit breaker: has not reported yet")
        return
    age = ago(breaker["at"], model["as_of"])
    troubled = [check for check in breaker["checks"] if check["tone"] != "up"]
    console.print(f"Circuit breaker: {breaker['status']}, checked {age} ago")
    for check in troubled:
        detail = f": {check['detail']}" if check["detail"] else ""
        console.print(f"  {check['name']} {str(check['status']).lower()}{escape(detail)}")


def _table(title: str, left: str, right: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in left.split():
        table.add_column(name)
    for name in right.split():
        table.add_column(name.replace("_", " "), justify="right")
    return table
