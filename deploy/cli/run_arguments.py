"""The arguments of ``trading-loop run``, read and refused."""

from __future__ import annotations

import argparse
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.cli.arguments import minute

if TYPE_CHECKING:
    from deploy.local.schedule_faults.rates import FaultRates

QUOTE = "USDT"
DEFAULT_PORT = 8080
_OF_A_REPLAY: dict[str, Any] = {
    "data": None,
    "start": None,
    "hours": 48.0,
    "symbols": ("BTC", "ETH", "SOL"),
    "profile": "conservative",
    "capital": Decimal(10_000),
    "seed": 0,
    "models": "stand-in",
    "json": None,
    "schedule_faults": None,
}
_OPTIONS = {"start": "--from"}


def add(parser: argparse.ArgumentParser) -> None:
    """Declare every argument."""
    parser.add_argument(
        "--source",
        choices=("recorded", "live", "simulated"),
        help="default: recorded if MARKET_DATA_DIR is set, else live, else simulated",
    )
    parser.add_argument("--data", metavar="DIR", help="recorded candles; default: MARKET_DATA_DIR")
    parser.add_argument(
        "--from", dest="start", type=minute, metavar="ISO", help="first minute, UTC if no zone"
    )
    parser.add_argument(
        "--hours", type=_hours, help="default: 48; of the present with --realtime: without end"
    )
    parser.add_argument("--symbols", type=_symbols, help="default: BTC,ETH,SOL")
    parser.add_argument(
        "--profile", choices=("conservative", "aggressive"), help="default: conservative"
    )
    parser.add_argument("--capital", type=_capital, help=f"in {QUOTE}; default: 10000")
    parser.add_argument("--seed", type=int, help="of all that is random; default: 0")
    parser.add_argument("--models", choices=("stand-in", "none"), help="default: stand-in")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument(
        "--no-serve", action="store_true", help="serve no dashboard, end when it is finished"
    )
    parser.add_argument(
        "--port", type=_port, default=DEFAULT_PORT, help="of the dashboard; default: 8080"
    )
    parser.add_argument(
        "--realtime",
        action="store_true",
        help="a minute takes a minute; with --source live: follow the present, as a service, under "
        "the settings of the environment",
    )
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


def is_service(args: argparse.Namespace) -> bool:
    """Whether the present is to be followed, in place of a replay."""
    return bool(args.realtime) and args.source == "live"


def refuse_of_a_replay(args: argparse.Namespace) -> None:
    """A service takes its settings from the environment, as on Pipedream.

    Raises:
        ConfigurationError: an argument was given that only a replay has.
    """
    from shared.errors import ConfigurationError

    given = [name for name in _OF_A_REPLAY if name != "hours" and getattr(args, name) is not None]
    options = [_OPTIONS.get(name, f"--{name.replace('_', '-')}") for name in given]
    if args.fresh:
        options.append("--fresh")
    if options:
        raise ConfigurationError(
            f"--realtime --source live: expected the settings of the environment, "
            f"and none of {', '.join(options)}"
        )


def fill_in(args: argparse.Namespace) -> None:
    """Give each argument of a replay that was not given its default.

    Raises:
        ConfigurationError: two arguments do not go together.
    """
    from shared.errors import ConfigurationError

    for name, default in _OF_A_REPLAY.items():
        if getattr(args, name) is None:
            setattr(args, name, default)
    if args.realtime and args.schedule_faults is not None:
        raise ConfigurationError(
            "--schedule-faults: expected without --realtime, whose schedule is the machine's"
        )


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


def _faults(text: str) -> FaultRates:
    from deploy.local.schedule_faults.rates import FaultRates
    from shared.errors import ConfigurationError

    try:
        return FaultRates.parse(text)
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
