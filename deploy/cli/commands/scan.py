"""``trading-loop scan``: everything that the scanner computes for one symbol at one minute."""

from __future__ import annotations

import argparse
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from deploy.cli import output
from deploy.cli.arguments import minute

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

EXIT_FAILED = 1
_MINUTE_HOURS = 1 / 60
Market = dict[str, Any]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "scan",
        help="what the scanner sees of one symbol at one minute",
        description="Run the real market scanner once, with the clock at --at, against venues "
        "that are simulated at the wire, and print all that it computed.",
    )
    parser.add_argument("--source", choices=("recorded", "live", "simulated"))
    parser.add_argument("--data", metavar="DIR", help="recorded candles; default: MARKET_DATA_DIR")
    parser.add_argument("--symbol", type=_symbol, default="BTC/USDT", help="default: BTC/USDT")
    parser.add_argument(
        "--at", type=minute, required=True, metavar="ISO", help="the minute, UTC if no zone"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the simulated market; default: 0")
    output.add_json_option(parser)
    parser.set_defaults(handler=handler)


def handler(args: argparse.Namespace) -> int:
    """Scan and print; the exit code is 1 if the step failed."""
    import sys

    export = _scan(args)
    if isinstance(export, str):
        print(export, file=sys.stderr)
        return EXIT_FAILED
    if args.json:
        output.print_json(export)
    else:
        _print(output.console(), export)
    return 0


def _scan(args: argparse.Namespace) -> dict[str, Any] | str:
    """The step's export, or the error that ended it."""
    from deploy.cli import environment
    from deploy.local.market.choose import choose_source
    from deploy.local.scheduler import Tick
    from deploy.local.servers import DEFAULT_FOLDER
    from deploy.local.session import LocalSession, SessionOptions
    from shared import clock
    from shared.ledger import connection

    variables, at_ms = environment.variables(), clock.to_ms(args.at)
    variables.pop("SYMBOLS", None)  # --symbol names it, also where the loop would choose
    spec, _ = choose_source(
        args.data or variables.get("MARKET_DATA_DIR"),
        (args.symbol,),
        _MINUTE_HOURS,
        args.seed,
        kind="recorded" if args.data and args.source is None else args.source,
        from_ms=at_ms,
        live_dir=str(DEFAULT_FOLDER / "market"),
    )
    database = f"scan_{os.getpid():012d}"
    with LocalSession(SessionOptions(spec, database, fresh=True), variables) as session:
        loop = session.project.workflow("trading_loop")
        try:
            result = session.run_tick(
                Tick(at_ms, loop.model_copy(update={"steps": loop.steps[:1]}))
            )
        finally:
            connection.close_all()
            session.servers.drop_database(database)
    if (failed := result.failed_step) is not None:
        return failed.traceback or str(failed.error)
    export: dict[str, Any] = result.export_of(loop.steps[0].namespace)
    return export


def _print(console: Console, export: dict[str, Any]) -> None:
    from rich.markup import escape

    (market,) = export["signals"]["markets"]
    at = datetime.fromtimestamp(export["signals"]["timestamp"] / 1000, tz=UTC)
    console.print(f"[bold]{market['symbol']}[/] at {at:%Y-%m-%d %H:%M:%S} UTC, {market['venue']}")
    console.print(
        f"price {_number(market['price'])}   AI score {_number(market['ai_score'])} "
        f"(not calibrated)   next action {export['nextAction']}"
    )
    if "anomaly" in market:
        console.print(f"[bold red]anomaly:[/] {escape(market['anomaly'])}")
    if market["indicators"]:
        console.print(_indicators(market))
    console.print(_rows("Score: contributions to the logit", market["contributions"]))
    for title, name in (
        ("Order flow", "order_flow"),
        ("Order book", "microstructure"),
        ("Sentiment", "sentiment"),
    ):
        if market[name] is not None:
            console.print(_rows(title, market[name]))
    console.print(_venues(market))
    if market["patterns"]:
        console.print(_patterns(market))
    missing = [*market["missing"], *export["missing"]]
    console.print(f"Missing: {escape('; '.join(missing) or 'nothing')}")


def _indicators(market: Market) -> Table:
    timeframes = market["indicators"]
    table = _table("Indicators of closed candles", "", *timeframes)
    names = dict.fromkeys(name for values in timeframes.values() for name in values)
    for name in names:
        cells = (values.get(name) for values in timeframes.values())
        show = _moment if name.endswith("_at_ms") else _number
        table.add_row(name, *(show(cell) for cell in cells))
    return table


def _patterns(market: Market) -> Table:
    table = _table("Patterns", "kind", "timeframe", "direction", "confidence", "points", "newest")
    for pattern in market["patterns"]:
        newest_ms, newest_price = pattern["points"][-1]
        table.add_row(
            pattern["kind"],
            pattern["timeframe"],
            pattern["direction"],
            _number(pattern["confidence"]),
            str(len(pattern["points"])),
            f"{_moment(newest_ms)}  {_number(newest_price)}",
        )
    return table


def _venues(market: Market) -> Table:
    table = _table("Venues", "", "bid", "ask", "at")
    for venue, quote in market["venues"].items():
        bid, ask = _number(quote["bid"]), _number(quote["ask"])
        table.add_row(venue, bid, ask, _moment(quote["at_ms"]))
    return table


def _rows(title: str, values: dict[str, Any]) -> Table:
    table = _table(title, "", "value")
    for name, value in values.items():
        if isinstance(value, dict):
            shown = "   ".join(f"{key} {_number(item)}" for key, item in value.items())
        else:
            shown = _moment(value) if name.endswith("at_ms") else _number(value)
        table.add_row(name, shown)
    return table


def _table(title: str, first: str, *others: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.2f}" if abs(value) >= 1_000 else f"{value:.5g}"


def _moment(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "-"
    return f"{datetime.fromtimestamp(milliseconds / 1000, tz=UTC):%m-%d %H:%M:%S}"


def _symbol(text: str) -> str:
    symbol = text.strip().upper()
    if symbol.count("/") != 1 or not symbol.replace("/", "").isalnum():
        raise argparse.ArgumentTypeError(f"expected a symbol such as BTC/USDT, was {text!r}")
    return symbol
