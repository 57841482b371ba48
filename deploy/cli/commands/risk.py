"""``trading-loop risk``: is the value at risk that gates orders what it says?"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.cli import output
from deploy.cli.arguments import instant
from shared import clock
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from deploy.research.risk.backtest import Result
    from deploy.research.risk.plan import Stretch


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``risk`` with its action ``backtest``."""
    parser = subparsers.add_parser("risk", help="judge the value at risk on recorded days")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    backtest = actions.add_parser(
        "backtest",
        help="forecast VaR and CVaR on every recorded day; count and test the breaches",
    )
    backtest.add_argument("--symbols", help="for example BTC/USDT,ETH/USDT (default: all with 1h)")
    backtest.add_argument("--data", metavar="DIR", help="recorded hours; default: MARKET_DATA_DIR")
    backtest.add_argument("--exchange", default="binance", help="whose candles (default: binance)")
    backtest.add_argument(
        "--from",
        dest="unseen_from",
        type=instant,
        metavar="ISO",
        help="first of the unseen days (default: 2025-01-01, after the last that choices saw)",
    )
    backtest.add_argument(
        "--until", type=instant, metavar="ISO", help="end of the unseen days (default: all)"
    )
    backtest.add_argument(
        "--choices",
        action="store_true",
        help="also compare windows, decays and horizon rules on the years before (minutes)",
    )
    backtest.add_argument(
        "--out", metavar="DIR", type=Path, help="write report.md, report.json and var.png here"
    )
    output.add_json_option(backtest)
    backtest.set_defaults(handler=run_backtest)


def run_backtest(args: argparse.Namespace) -> int:
    """Forecast, judge, print, and with ``--out`` write. Exit code 0 also where a method fails.

    Raises:
        ConfigurationError: no folder of candles, ``--from`` is no later than the choices, or
            matplotlib is absent.
        DataUnavailable: a symbol is not there, or there are too few hours.
    """
    data_dir = args.data or os.environ.get("MARKET_DATA_DIR")
    if not data_dir:
        raise ConfigurationError("--data: expected a folder; MARKET_DATA_DIR is not set either")
    if args.out is not None and importlib.util.find_spec("matplotlib") is None:
        raise ConfigurationError(
            "--out: expected the package matplotlib, which is not installed: "
            "run make setup-research"
        )
    from deploy.research.risk import backtest, plan
    from deploy.research.score.dataset import read_hours

    watch = clock.Stopwatch()
    seen, unseen = _stretches(args.unseen_from, args.until)
    named = _symbols(args.symbols)
    hours = read_hours(data_dir, args.exchange, named, unseen.until_ms)
    alone = named or tuple(symbol for symbol in plan.SYMBOLS if symbol in hours)
    result = backtest.run(
        hours,
        plan.holdings(tuple(hours), alone),
        (seen, unseen),
        with_choices=args.choices,
        progress=lambda text: print(f"{watch.seconds():6.0f} s  {text}", file=sys.stderr),
    )
    _tell(result, args)
    return 0


def _tell(result: Result, args: argparse.Namespace) -> None:
    from deploy.research.risk import plots, report

    command = _command(args)
    text, document = report.as_markdown(result, command), report.as_json(result, command)
    if args.json:
        output.print_json(document)
    else:
        print(text, end="")
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "report.md").write_text(text, encoding="utf-8")
        written = f"{json.dumps(document, indent=1)}\n"
        (args.out / "report.json").write_text(written, encoding="utf-8")
        plots.breaches(result, args.out / "var.png")


def _stretches(unseen_from: datetime | None, until: datetime | None) -> tuple[Stretch, Stretch]:
    """The days that choices saw, and those that nothing was chosen on."""
    from deploy.research.risk.plan import CHOSEN_UNTIL_MS, Stretch

    begin = CHOSEN_UNTIL_MS if unseen_from is None else clock.to_ms(unseen_from)
    if begin < CHOSEN_UNTIL_MS:
        raise ConfigurationError(
            f"--from: expected no day before {clock.iso(clock.from_ms(CHOSEN_UNTIL_MS))}, until "
            f"which window and decay were chosen; was {clock.iso(clock.from_ms(begin))}"
        )
    end = clock.now_ms() if until is None else clock.to_ms(until)
    if end <= begin:
        raise ConfigurationError(
            f"--until: expected a time after {clock.iso(clock.from_ms(begin))}, "
            f"was {clock.iso(clock.from_ms(end))}"
        )
    return Stretch("seen by the choices", 0, CHOSEN_UNTIL_MS), Stretch("unseen", begin, end)


def _symbols(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    symbols = tuple(dict.fromkeys(part.strip().upper() for part in text.split(",") if part.strip()))
    if not symbols:
        raise ConfigurationError(f"--symbols: expected some like BTC/USDT, was {text!r}")
    return symbols


def _command(args: argparse.Namespace) -> str:
    """What makes the same report again from the same data."""
    parts: list[Any] = ["trading-loop risk backtest"]
    if args.symbols:
        parts.append(f"--symbols {args.symbols}")
    if args.exchange != "binance":
        parts.append(f"--exchange {args.exchange}")
    for name, value in (("--from", args.unseen_from), ("--until", args.until)):
        if value is not None:
            parts.append(f"{name} {clock.iso(value)}")
    if args.choices:
        parts.append("--choices")
    return " ".join(parts)
