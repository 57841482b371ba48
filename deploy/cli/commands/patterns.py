"""``trading-loop patterns``: how well chart patterns are found, what they are worth, and a look."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from deploy.cli import output
from deploy.cli.arguments import instant
from shared.errors import ConfigurationError
from shared.market.types import TIMEFRAMES


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``patterns`` with its actions ``report``, ``show`` and ``calibrate``."""
    parser = subparsers.add_parser("patterns", help="measure chart patterns; draw them; calibrate")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_report(actions)
    _add_show(actions)
    _add_calibrate(actions)


def _add_report(actions: Any) -> None:
    parser = actions.add_parser(
        "report",
        help="precision, recall and false alarms on drawn shapes; what follows on recorded candles",
    )
    _add_drawing(parser, shapes=20, plain=400, seed=1)
    parser.add_argument("--data", metavar="DIR", help="recorded candles; default: MARKET_DATA_DIR")
    parser.add_argument("--out", metavar="DIR", type=Path, help="folder for the plots and report")
    output.add_json_option(parser)
    parser.set_defaults(handler=run_report)


def _add_show(actions: Any) -> None:
    parser = actions.add_parser(
        "show", help="draw recorded candles with the patterns found in them"
    )
    parser.add_argument("--symbol", default="BTC/USDT", help="default: BTC/USDT")
    parser.add_argument("--exchange", default="binance", help="default: binance")
    parser.add_argument("--timeframe", choices=TIMEFRAMES, default="1h", help="default: 1h")
    parser.add_argument(
        "--at", type=instant, required=True, metavar="ISO", help="closed by then; UTC if no zone"
    )
    parser.add_argument("--data", metavar="DIR", help="recorded candles; default: MARKET_DATA_DIR")
    parser.add_argument("--out", metavar="FILE", type=Path, help="PNG; default: a list only")
    output.add_json_option(parser)
    parser.set_defaults(handler=run_show)


def _add_calibrate(actions: Any) -> None:
    parser = actions.add_parser("calibrate", help="measure anew what each confidence means")
    _add_drawing(parser, shapes=12, plain=300, seed=20_180_101)
    parser.add_argument(
        "--out", metavar="FILE", type=Path, help="default: the file that the scanner reads"
    )
    parser.set_defaults(handler=run_calibrate)


def _add_drawing(parser: argparse.ArgumentParser, *, shapes: int, plain: int, seed: int) -> None:
    parser.add_argument(
        "--shapes",
        type=_count,
        default=shapes,
        help=f"drawings of each kind and noise level (default {shapes})",
    )
    parser.add_argument(
        "--plain", type=_count, default=plain, help=f"stretches of random walk (default {plain})"
    )
    parser.add_argument("--seed", type=int, default=seed, help=f"default: {seed}")


def run_report(args: argparse.Namespace) -> int:
    """Measure, print, and with ``--out`` draw.

    Raises:
        ConfigurationError, DataUnavailable: the folder of recorded candles is of no use.
    """
    if args.out is not None:
        _needs("matplotlib")
    from deploy.research.patterns import report, tables

    result = report.measured(args.shapes, args.plain, args.seed, _data_dir(args))
    paths = [] if args.out is None else report.draw(result, args.out)
    if args.json:
        output.print_json(result.as_json() | {"plots": [str(path) for path in paths]})
        return 0
    console = output.console()
    for part in tables.of(result):
        console.print(part)
    for path in paths:
        console.print(f"plot: {path}")
    return 0


def run_show(args: argparse.Namespace) -> int:
    """Find the patterns of one recorded window, list them, and with ``--out`` draw them.

    Raises:
        ConfigurationError, DataUnavailable: there are no such recorded candles.
    """
    if args.out is not None:
        _needs("matplotlib")
    from deploy.research.patterns import drawing, recorded, tables
    from shared import clock
    from shared.market import patterns

    data_dir = _data_dir(args)
    if data_dir is None:
        raise ConfigurationError("--data: expected a folder; MARKET_DATA_DIR is not set either")
    series = (args.exchange, args.symbol.upper(), args.timeframe)
    candles = recorded.closed_by(data_dir, series, clock.to_ms(args.at))
    found = patterns.find(candles)
    if args.out is not None:
        drawing.chart(candles, found, args.out)
    if args.json:
        output.print_json(found)
    else:
        output.console().print(tables.of_patterns(candles, found))
    return 0


def run_calibrate(args: argparse.Namespace) -> int:
    """Fit the confidence on drawn shapes and plain walks and write it."""
    _needs("sklearn")
    from deploy.research.patterns import calibrate

    target = calibrate.write(args.shapes, args.plain, args.seed, args.out)
    print(f"confidence of patterns written to {target}")
    return 0


def _needs(*packages: str) -> None:
    """Raises ConfigurationError where a package that only research needs is absent."""
    from importlib.util import find_spec

    absent = [name for name in packages if find_spec(name) is None]
    if absent:
        raise ConfigurationError(
            f"patterns: expected the package {absent[0]}, which is not installed: "
            "run make setup-research"
        )


def _data_dir(args: argparse.Namespace) -> str | None:
    return args.data or os.environ.get("MARKET_DATA_DIR")


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, was {text}")
    return count
