"""A minute of the scanner over HTTP: seconds and requests, cold and warm, for 3 and 20 symbols.

``python -m benchmarks.scan_minute [--delay-ms 100] [--minutes 5] [--json]``

The step itself runs, as the local Pipedream runs it, against the simulated wire, whose services
answer after ``--delay-ms``. Requests are counted at the server. Cold is an empty Redis and ledger
and a process that knows no markets; lost is an empty Redis beside a ledger to which the hourly
workflow has just copied the candles; warm are the minutes after the windows are whole. The bound
is one round trip: everything asked at once. Seconds include what the stand-ins take, which share
the machine.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import timing
from deploy.local.market.source import SourceSpec
from deploy.local.scheduler import Tick
from deploy.local.session import VENUES, LocalSession, SessionOptions
from deploy.local.wire.faults import rules
from shared.execution.venues import clients
from shared.market.candles import candle_store

MOST_REQUESTS = 3  # a symbol and venue in a warm minute
MOST_SECONDS = 10.0  # a warm minute of 20 symbols at 100 ms
_FROM_MS = 1_767_571_200_000
_BASES = (
    "BTC", "ETH", "SOL", "XRP", "DOGE", "ADA", "AVAX", "LINK", "DOT", "LTC", "BCH", "UNI", "ATOM",
    "XLM", "ETC", "FIL", "APT", "ARB", "NEAR", "INJ",
)  # fmt: skip
_SLOWED = (*VENUES, "fng")
_MOST_COLD_MINUTES = 30


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; the exit code is 1 where a bound is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scan_minute")
    parser.add_argument("--delay-ms", type=int, default=100, help="of each answer; default: 100")
    parser.add_argument("--minutes", type=int, default=5, help="warm ones; default: 5")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(arguments)
    results = [measure(count, args.delay_ms, args.minutes) for count in (3, 20)]
    within = (
        all(r["warm"]["most_requests_a_symbol_and_venue"] <= MOST_REQUESTS for r in results)
        and results[-1]["warm"]["seconds"] <= MOST_SECONDS
    )
    if args.json:
        timing.print_json({"delay_ms": args.delay_ms, "within_bounds": within, "runs": results})
    else:
        _print(results, args.delay_ms)
    return 0 if within else 1


def measure(symbols: int, delay_ms: int, minutes: int) -> dict[str, Any]:
    """Seconds and requests of the kinds of minute for so many symbols."""
    with _session(symbols, delay_ms) as session:
        scans = _Scans(session)
        cold = scans.next()
        whole_after = 1
        while scans.is_filling() and whole_after < _MOST_COLD_MINUTES:
            scans.next()
            whole_after += 1
        warm = [scans.next() for _ in range(minutes)]
        history = scans.keep_history()
        scans.lose_redis()
        lost = scans.next()
    return {
        "symbols": symbols,
        "bound_seconds": delay_ms / 1000,
        "cold": cold,
        "whole_after_minutes": whole_after,
        "warm": {
            "seconds": statistics.median(minute["seconds"] for minute in warm),
            "requests": max(minute["requests"] for minute in warm),
            "most_requests_a_symbol_and_venue": max(
                minute["most_requests_a_symbol_and_venue"] for minute in warm
            ),
            "by_venue": warm[-1]["by_venue"],
            "missing": warm[-1]["missing"],
        },
        "history": history,
        "lost": lost,
    }


class _Scans:
    """One scan a minute of a session, each with its seconds and requests."""

    def __init__(self, session: LocalSession) -> None:
        self._session = session
        loop = session.project.workflow("trading_loop")
        self._step = loop.steps[0].namespace
        self._loop = loop.model_copy(update={"steps": loop.steps[:1]})
        self._at_ms = _FROM_MS
        self._candles = 0

    def next(self) -> dict[str, Any]:
        """Scan the next minute."""
        self._at_ms += 60_000
        self._session.advance(self._at_ms)
        # The last step, which gives the lease back, is not run.
        self._session.ledger.execute("UPDATE leases SET expires_at = '-infinity'")
        before = Counter(self._session.wire.stats())
        started = time.perf_counter()
        result = self._session.run_tick(Tick(self._at_ms, self._loop))
        seconds = time.perf_counter() - started
        if (failed := result.failed_step) is not None:
            raise SystemExit(failed.traceback or str(failed.error))
        export = result.export_of(self._step)
        asked = Counter(self._session.wire.stats()) - before
        return self._summary(export, asked, seconds)

    def is_filling(self) -> bool:
        """Whether the last minute asked for more candles than the newest of each symbol."""
        return self._candles > len(self._session.settings.symbols)

    def keep_history(self) -> dict[str, Any]:
        """Run the hourly workflow, which copies the candles into the ledger for the first time."""
        analysis = self._session.project.workflow("performance_analyzer")
        started = time.perf_counter()
        result = self._session.run_tick(Tick(self._at_ms, analysis))
        seconds = round(time.perf_counter() - started, 3)
        if (failed := result.failed_step) is not None:
            raise SystemExit(failed.traceback or str(failed.error))
        kept = result.export_of(analysis.steps[0].namespace)["housekeeping"]["candles_kept"]
        return {"seconds": seconds, "candles": kept}

    def lose_redis(self) -> None:
        import redis

        redis.Redis.from_url(self._session.servers.redis_url).flushall()
        candle_store._remembered.clear()

    def _summary(
        self, export: dict[str, Any], asked: Counter[str], seconds: float
    ) -> dict[str, Any]:
        by_venue = {
            venue: sum(n for route, n in asked.items() if route.startswith(f"{venue} "))
            for venue in VENUES
        }
        self._candles = sum(
            n for route, n in asked.items() if route.endswith(("klines", "OHLC", "candles"))
        )
        markets = export["signals"]["markets"]
        return {
            "seconds": round(seconds, 3),
            "requests": sum(asked.values()),
            "by_venue": by_venue,
            "most_requests_a_symbol_and_venue": max(by_venue.values()) / len(markets),
            "candle_requests": self._candles,
            "served": sum(market["venue"] is not None for market in markets),
            "missing": sum(len(market["missing"]) for market in markets),
        }


@contextmanager
def _session(symbols: int, delay_ms: int) -> Iterator[LocalSession]:
    names = _BASES[:symbols]
    pairs = tuple(f"{base}/USDT" for base in names)
    spec = SourceSpec("simulated", pairs, _FROM_MS, 2.0, 0, None)
    clients._clients.clear()
    candle_store._remembered.clear()
    with tempfile.TemporaryDirectory() as folder:
        options = SessionOptions(spec, "benchmark", models="none", folder=Path(folder))
        variables = {"SYMBOLS": ",".join(names), "NEWS_FEEDS": "", "DERIVATIVES_VENUE": "off"}
        with LocalSession(options, variables) as session:
            session.wire.faults(
                [rules.slow(service, "/*", delay_ms, times=None) for service in _SLOWED]
            )
            yield session


def _print(results: list[dict[str, Any]], delay_ms: int) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "symbols", "minute", "seconds", "x one round trip", "requests", "candles", "served"
    )
    for result in results:
        for kind in ("cold", "lost", "warm"):
            minute = result[kind]
            table.add_row(
                str(result["symbols"]),
                kind,
                f"{minute['seconds']:.2f}",
                f"{minute['seconds'] / result['bound_seconds']:.1f}",
                str(minute["requests"]),
                str(minute.get("candle_requests", "-")),
                str(minute.get("served", "-")),
            )
    console = Console()
    console.print(f"3 venues, {delay_ms} ms an answer")
    console.print(table)
    for result in results:
        warm = result["warm"]
        console.print(
            f"{result['symbols']} symbols: windows whole after {result['whole_after_minutes']} "
            f"minutes; warm at most {warm['most_requests_a_symbol_and_venue']:.1f} requests a "
            f"symbol and venue ({warm['by_venue']}); {result['history']['candles']} candles kept "
            f"by the first hourly run in {result['history']['seconds']:.1f} s"
        )


if __name__ == "__main__":
    sys.exit(main())
