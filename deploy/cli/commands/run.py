"""``trading-loop run``: the whole loop over recorded, downloaded or simulated hours."""

from __future__ import annotations

import argparse
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.cli.arguments import minute

if TYPE_CHECKING:
    from deploy.local.schedule_faults.rates import FaultRates

EXIT_FAILED_RUNS = 1
_QUOTE = "USDT"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "run",
        help="run the loop over recorded, live or simulated hours",
        description="Run the real workflows minute by minute on a virtual clock, against venues "
        "that are simulated at the wire. Started again with the same arguments it goes on where "
        "it was stopped.",
    )
    parser.add_argument(
        "--source",
        choices=("recorded", "live", "simulated"),
        help="default: recorded if MARKET_DATA_DIR is set, else live, else simulated",
    )
    parser.add_argument("--data", metavar="DIR", help="recorded candles; default: MARKET_DATA_DIR")
    parser.add_argument(
        "--from", dest="start", type=minute, metavar="ISO", help="first minute, UTC if no zone"
    )
    parser.add_argument("--hours", type=_hours, default=48.0, help="default: 48")
    parser.add_argument(
        "--symbols", type=_symbols, default=("BTC", "ETH", "SOL"), help="default: BTC,ETH,SOL"
    )
    parser.add_argument("--profile", choices=("conservative", "aggressive"), default="conservative")
    parser.add_argument(
        "--capital", type=_capital, default=Decimal(10_000), help=f"in {_QUOTE}; default: 10000"
    )
    parser.add_argument("--seed", type=int, default=0, help="of all that is random; default: 0")
    parser.add_argument(
        "--models", choices=("stand-in", "none"), default="stand-in", help="default: stand-in"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument(
        "--no-serve", action="store_true", help="serve no dashboard, end when it is finished"
    )
    parser.add_argument("--port", type=_port, default=8080, help="of the dashboard; default: 8080")
    parser.add_argument("--realtime", action="store_true", help="a minute takes a minute")
    parser.add_argument(
        "--faithful",
        action="store_true",
        help="run the bundles, each workflow in a process with Pipedream's limits",
    )
    parser.add_argument(
        "--schedule-faults",
        type=_faults,
        metavar="RATES",
        help="let ticks be late, double, missing or overlapping, and runs be retried or killed, "
        "by seed and share of ticks: "
        "seed=7,late=0.02,double=0.01,miss=0.01,overlap=0.01,retry=0.01,kill=0.01",
    )
    parser.add_argument("--fresh", action="store_true", help="start anew, forget a stopped run")
    parser.set_defaults(handler=handler)


def handler(args: argparse.Namespace) -> int:
    """Replay, report, and tell by the exit code whether any run failed."""
    from rich.console import Console

    from deploy.cli import environment
    from deploy.local import report, servers, summary
    from deploy.local.market.choose import choose_source
    from deploy.local.replay import Replay, ReplayOptions
    from deploy.local.session import LocalSession, SessionOptions
    from shared import clock

    variables = environment.variables()
    spec, reason = choose_source(
        args.data or variables.get("MARKET_DATA_DIR"),
        tuple(f"{base}/{_QUOTE}" for base in args.symbols),
        args.hours,
        args.seed,
        kind="recorded" if args.data and args.source is None else args.source,
        from_ms=None if args.start is None else clock.to_ms(args.start),
        live_dir=str(servers.DEFAULT_FOLDER / "market"),
    )
    console = Console(highlight=False)
    console.print(f"Market: {spec.kind}. {reason}", soft_wrap=True, markup=False)
    options = ReplayOptions(
        spec=spec,
        profile=args.profile,
        capital_quote=args.capital,
        models=args.models,
        port=None if args.no_serve else args.port,
        realtime=args.realtime,
        faithful=args.faithful,
        faults=args.schedule_faults,
    )
    session_options = SessionOptions(
        spec=spec,
        database=options.database,
        profile=args.profile,
        capital_quote=args.capital,
        models=args.models,
        fresh=args.fresh,
        faithful=args.faithful,
        paced=args.realtime,
        root=servers.PROJECT,
    )
    with LocalSession(session_options, variables, console.print) as session:
        replay = Replay(session, options, console)
        with replay.serving():
            outcome = replay.run()
            if args.json is not None:
                summary.write(outcome.report, args.json)
            report.show(console, outcome.report, outcome.tally, resumed=outcome.resumed)
            replay.keep_serving()
    befell = outcome.report.get("schedule_faults")
    violated = befell is not None and bool(befell["violations"])
    return EXIT_FAILED_RUNS if outcome.tally.failed_runs or violated else 0


def _faults(text: str) -> FaultRates:
    from deploy.local.schedule_faults.rates import FaultRates
    from shared.errors import ConfigurationError

    try:
        return FaultRates.parse(text)
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = 0.0
    if not 1 / 60 <= hours <= 24 * 366:
        raise argparse.ArgumentTypeError(f"expected a number of hours above 0, was {text!r}")
    return hours


def _symbols(text: str) -> tuple[str, ...]:
    symbols = tuple(part.strip().upper() for part in text.split(",") if part.strip())
    if not symbols or not all(symbol.isalnum() for symbol in symbols):
        raise argparse.ArgumentTypeError(f"expected symbols such as BTC,ETH,SOL, was {text!r}")
    if len(set(symbols)) != len(symbols):
        raise argparse.ArgumentTypeError(f"expected every symbol once, was {text!r}")
    return symbols


def _capital(text: str) -> Decimal:
    try:
        capital = Decimal(text)
    except InvalidOperation:
        capital = Decimal(0)
    if not capital.is_finite() or capital <= 0:
        raise argparse.ArgumentTypeError(f"expected an amount above 0, was {text!r}")
    return capital


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"expected 0 to 65535, was {text!r}")
    return int(text)
