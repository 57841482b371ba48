"""``trading-loop scan``: everything that the scanner computes for one symbol at one minute."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from deploy.cli import output
from deploy.cli.arguments import minute

if TYPE_CHECKING:
    from deploy.local.market.source import SourceSpec
    from deploy.research.indicator_reference import Comparison

EXIT_FAILED = 1
_MINUTE_HOURS = 1 / 60


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
    parser.add_argument(
        "--check",
        action="store_true",
        help="put TA-Lib's value over the whole history beside each indicator; exit code 1 where "
        "a settled one differs by more than 1e-6",
    )
    output.add_json_option(parser)
    parser.set_defaults(handler=handler)


@dataclass(frozen=True)
class _Scanned:
    """A scan from an empty cache, and what it cost.

    Attributes:
        requests: by service, as the stand-ins counted them.
    """

    spec: SourceSpec
    export: dict[str, Any]
    seconds: float
    requests: dict[str, int]


def handler(args: argparse.Namespace) -> int:
    """Scan and print; the exit code is 1 if the step failed or an indicator differs."""
    import sys

    scanned = _scan(args)
    if isinstance(scanned, str):
        print(scanned, file=sys.stderr)
        return EXIT_FAILED
    comparisons = _checked(scanned) if args.check else []
    if args.json:
        output.print_json(_document(scanned, comparisons, with_check=args.check))
    else:
        from deploy.cli import scan_tables

        console = output.console()
        scan_tables.print_scan(console, scanned.export, scanned.seconds, scanned.requests)
        if args.check:
            scan_tables.print_check(console, comparisons)
    return 0 if all(one.agrees for one in comparisons) else EXIT_FAILED


def _checked(scanned: _Scanned) -> list[Comparison]:
    from deploy.research import indicator_check

    (market,) = scanned.export["signals"]["markets"]
    return indicator_check.check(scanned.spec, market)


def _document(
    scanned: _Scanned, comparisons: list[Comparison], *, with_check: bool
) -> dict[str, Any]:
    """The export as the next steps see it; with a check, what it found and the cost as well."""
    if not with_check:
        return scanned.export
    return scanned.export | {
        "check": [asdict(one) | {"agrees": one.agrees} for one in comparisons],
        "seconds": scanned.seconds,
        "requests": scanned.requests,
    }


def _scan(args: argparse.Namespace) -> _Scanned | str:
    """One run of the scanner's step, or the error that ended it."""
    from deploy.cli import environment
    from deploy.local.market.choose import choose_source
    from deploy.local.scheduler import Tick
    from deploy.local.servers import DEFAULT_FOLDER
    from deploy.local.session import LocalSession, SessionOptions
    from shared import clock
    from shared.ledger import connection

    variables, at_ms = environment.variables(), clock.to_ms(args.at)
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
            requests = _by_service(session.wire.stats())
            # By name and with all digits, as the ledger keeps it.
            kept = session.ledger.one("SELECT payload FROM scans ORDER BY at DESC LIMIT 1")
        finally:
            connection.close_all()
            session.servers.drop_database(database)
    if (failed := result.failed_step) is not None:
        return failed.traceback or str(failed.error)
    assert kept is not None  # a step that worked has written its row
    export: dict[str, Any] = result.export_of(loop.steps[0].namespace) | kept["payload"]
    return _Scanned(spec, export, result.seconds, requests)


def _by_service(routes: dict[str, int]) -> dict[str, int]:
    """Requests by the service that the stand-ins' routes begin with."""
    counted: Counter[str] = Counter()
    for route, count in routes.items():
        counted[route.partition(" ")[0]] += count
    return dict(counted)


def _symbol(text: str) -> str:
    symbol = text.strip().upper()
    if symbol.count("/") != 1 or not symbol.replace("/", "").isalnum():
        raise argparse.ArgumentTypeError(f"expected a symbol such as BTC/USDT, was {text!r}")
    return symbol
