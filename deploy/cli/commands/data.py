"""``trading-loop data``: candles of an exchange or the ledger into a folder; what a folder has."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from deploy.cli.arguments import instant
from shared import clock
from shared.errors import ConfigurationError
from shared.market.types import TIMEFRAMES

if TYPE_CHECKING:
    from deploy.local.market.download import Downloaded
    from deploy.local.market.folder import Span

_END_OF_TIME_MS = 2**62


def add_parser(subparsers: Any) -> None:
    """Register ``data`` with its actions ``download``, ``export`` and ``spans``."""
    parser = subparsers.add_parser("data", help="download or export candles; what a folder has")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    fetch = actions.add_parser("download", help="public candles from an exchange into a folder")
    fetch.add_argument("--exchange", required=True, help="as ccxt names it, for example kraken")
    fetch.add_argument("--symbols", required=True, help="for example BTC/USDT,ETH/USDT")
    fetch.add_argument("--timeframe", default="1m", help=f"{', '.join(TIMEFRAMES)} (default 1m)")
    fetch.add_argument(
        "--from",
        dest="start",
        type=instant,
        required=True,
        help="ISO 8601, UTC if no zone",
    )
    fetch.add_argument("--to", dest="end", type=instant, help="ISO 8601, excluded (default: now)")
    fetch.add_argument("--out", required=True, help="folder; becomes <out>/<exchange>/<SYMBOL>/")
    fetch.add_argument("--json", action="store_true", help="print the result as JSON")
    fetch.set_defaults(handler=run_download)

    export = actions.add_parser("export", help="candles that the ledger keeps into a folder")
    export.add_argument("--venue", required=True, help="for example binance")
    export.add_argument("--symbols", required=True, help="for example BTC/USDT,ETH/USDT")
    export.add_argument("--timeframe", default="1m", choices=TIMEFRAMES, help="default 1m")
    export.add_argument(
        "--from", dest="start", type=instant, help="ISO 8601, UTC if no zone (default: all)"
    )
    export.add_argument("--to", dest="end", type=instant, help="ISO 8601, excluded (default: all)")
    export.add_argument("--out", required=True, help="folder; becomes <out>/<venue>/<SYMBOL>/")
    export.add_argument("--json", action="store_true", help="print the result as JSON")
    export.set_defaults(handler=run_export)

    spans = actions.add_parser("spans", help="what a folder of candles has")
    spans.add_argument("--data", help="folder (default: MARKET_DATA_DIR)")
    spans.add_argument("--json", action="store_true", help="print the list as JSON")
    spans.set_defaults(handler=run_spans)


def run_download(args: argparse.Namespace) -> int:
    """Complete one file a symbol. Exit code 0 also where the exchange left stretches open.

    Raises:
        ConfigurationError: an argument is wrong.
        DataUnavailable: the exchange failed; what had arrived is saved.
    """
    from deploy.local.market.download import check, download, open_exchange

    symbols = _symbols(args)
    start = clock.to_ms(args.start)
    end = clock.now_ms() if args.end is None else clock.to_ms(args.end)
    if start >= end:
        raise ConfigurationError(
            f"--from: expected before --to ({clock.iso(clock.from_ms(end))}), "
            f"was {clock.iso(args.start)}"
        )
    client = open_exchange(args.exchange)
    for symbol in symbols:  # all of them before the first long download
        check(client, symbol, args.timeframe)
    results: dict[str, Downloaded] = {}
    with _progress() as bars:
        for symbol in symbols:
            bar = bars.add_task(
                f"{symbol} {args.timeframe}", total=min(end, clock.now_ms()) - start
            )
            results[symbol] = download(
                client,
                symbol,
                args.timeframe,
                (start, end),
                Path(args.out),
                partial(bars.advance, bar),
            )
    _report(results, args)
    return 0


def run_export(args: argparse.Namespace) -> int:
    """Write what the ledger has of each symbol.

    Raises:
        ConfigurationError: an argument is wrong, or there is no ledger.
        DataUnavailable: the ledger has nothing of a symbol; those before it are written.
    """
    from deploy.cli import ledgers
    from deploy.local.market.export import export

    stretch = (
        0 if args.start is None else clock.to_ms(args.start),
        _END_OF_TIME_MS if args.end is None else clock.to_ms(args.end),
    )
    with ledgers.open_ledger() as opened:
        results = {
            symbol: export(
                opened.ledger, args.venue, symbol, args.timeframe, stretch, Path(args.out)
            )
            for symbol in _symbols(args)
        }
    if args.json:
        listed = [asdict(r) | {"path": str(r.path), "symbol": name} for name, r in results.items()]
        print(json.dumps(listed))
        return 0
    for symbol, result in results.items():
        print(f"{symbol}: {result.candles} candles, {result.missing} missing, in {result.path}")
    return 0


def run_spans(args: argparse.Namespace) -> int:
    """List the stretches without a hole of every symbol and timeframe in a folder.

    Raises:
        ConfigurationError: no folder was named, or it holds no candles.
        DataUnavailable: a file is corrupt.
    """
    from deploy.local.market.folder import folders, spans_of

    data_dir = args.data or os.environ.get("MARKET_DATA_DIR")
    if not data_dir:
        raise ConfigurationError("--data: expected a folder; MARKET_DATA_DIR is not set either")
    found = [
        span
        for folder in folders(data_dir)
        for timeframe in TIMEFRAMES
        for span in spans_of(folder, timeframe)
    ]
    if args.json:
        print(json.dumps([asdict(span) for span in found]))
    else:
        _table(found)
    return 0


def _symbols(args: argparse.Namespace) -> list[str]:
    symbols = [part.strip().upper() for part in args.symbols.split(",") if part.strip()]
    if not symbols:
        raise ConfigurationError(f"--symbols: expected some like BTC/USDT, was {args.symbols!r}")
    return symbols


class _Bars(Protocol):
    def add_task(self, description: str, *, total: float) -> Any: ...
    def advance(self, bar: Any, advance: float) -> None: ...


@contextmanager
def _progress() -> Iterator[_Bars]:
    """Bars on the error stream, so that ``--json`` stays clean."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), Remaining())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        yield bars


def _report(results: dict[str, Downloaded], args: argparse.Namespace) -> None:
    from deploy.local.market.folder import utc

    for symbol, result in results.items():
        for start, end in result.unanswered:
            print(
                f"{symbol}: {args.exchange} gave no candles for {utc(start)} to {utc(end)} UTC",
                file=sys.stderr,
            )
    if args.json:
        listed = [
            asdict(result) | {"path": str(result.path), "symbol": symbol}
            for symbol, result in results.items()
        ]
        print(json.dumps(listed))
        return
    for symbol, result in results.items():
        print(f"{symbol}: {result.candles} candles, {result.added} of them new, in {result.path}")


def _table(found: list[Span]) -> None:
    from rich.console import Console
    from rich.table import Table

    from deploy.local.market.folder import utc

    table = Table("exchange", "symbol", "timeframe", "from (UTC)", "to (UTC)", "candles", "missing")
    for span in found:
        table.add_row(
            span.exchange,
            span.folder,
            span.timeframe,
            utc(span.from_ms),
            utc(span.to_ms),
            f"{span.candles:,}",
            f"{span.missing:,}",
        )
    Console().print(table)
