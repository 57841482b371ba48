"""``trading-loop train``: fit the AI score's model to recorded candles, judge it on later ones."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared import clock
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from deploy.research.score.plan import Plan
    from deploy.research.score.train import Trained

_NEEDED = ("sklearn", "matplotlib")


def add_parser(subparsers: Any) -> None:
    """Register ``train``."""
    parser = subparsers.add_parser("train", help="fit and judge the AI score's model")
    parser.add_argument("--data", help="folder of candles (default: MARKET_DATA_DIR)")
    parser.add_argument("--exchange", default="binance", help="whose candles (default binance)")
    parser.add_argument("--symbols", help="for example BTC/USDT,ETH/USDT (default: all with 1h)")
    parser.add_argument("--out", help="write the model here (default: it is only reported)")
    parser.add_argument("--report", help="write report.json, report.txt and reliability.png here")
    parser.add_argument("--seed", type=int, default=1, help="of bootstrap and trees (default 1)")
    parser.add_argument("--quick", action="store_true", help="fewer entries, folds and choices")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Train, print the report, and write what was asked for. Exit code 0 also without skill.

    Raises:
        ConfigurationError: no folder, or packages for training are absent.
        DataUnavailable: a symbol is not there, or there is too little data.
    """
    _check_packages()
    data_dir = args.data or os.environ.get("MARKET_DATA_DIR")
    if not data_dir:
        raise ConfigurationError("--data: expected a folder; MARKET_DATA_DIR is not set either")
    from deploy.research.score import plan as plans
    from deploy.research.score.dataset import read_hours
    from deploy.research.score.train import train_model

    watch = clock.Stopwatch()
    plan = plans.QUICK if args.quick else plans.FULL
    hours = read_hours(data_dir, args.exchange, _symbols(args.symbols), plan.until_ms)
    trained = train_model(
        hours,
        plan,
        exchange=args.exchange,
        command=_command(args),
        seed=args.seed,
        progress=lambda text: print(f"{watch.seconds():6.0f} s  {text}", file=sys.stderr),
    )
    _report(trained, plan, args)
    print(f"{watch.seconds() / 60:.1f} minutes, {_peak_mib():.0f} MiB at most", file=sys.stderr)
    return 0


def _report(trained: Trained, plan: Plan, args: argparse.Namespace) -> None:
    from deploy.research.score import plots, report

    document, text = report.as_document(trained, plan), report.as_text(trained, plan)
    print(json.dumps(document, indent=1) if args.json else text)
    if args.report:
        folder = Path(args.report)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.json").write_text(f"{json.dumps(document, indent=1)}\n", encoding="utf-8")
        (folder / "report.txt").write_text(f"{text}\n", encoding="utf-8")
        image = folder / "reliability.png"
        plots.reliability(image, trained.history, trained.unseen, plan.shown_cost_bps)
    if args.out:
        written = f"{json.dumps(trained.document, indent=1)}\n"
        Path(args.out).write_text(written, encoding="utf-8")


def _check_packages() -> None:
    absent = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if absent:
        raise ConfigurationError(
            f"packages: expected {' and '.join(_NEEDED)}, {' and '.join(absent)} absent: "
            "make setup-research"
        )


def _symbols(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    symbols = tuple(part.strip().upper() for part in text.split(",") if part.strip())
    if not symbols:
        raise ConfigurationError(f"--symbols: expected some like BTC/USDT, was {text!r}")
    return symbols


def _command(args: argparse.Namespace) -> str:
    """What makes the same model again from the same data."""
    parts = ["trading-loop train", f"--exchange {args.exchange}", f"--seed {args.seed}"]
    if args.symbols:
        parts.append(f"--symbols {args.symbols}")
    if args.quick:
        parts.append("--quick")
    return " ".join(parts)


def _peak_mib() -> float:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)
