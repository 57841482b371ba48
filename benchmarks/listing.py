"""Memory and time of one look at a venue's whole listing, beside ccxt's own ``load_markets``.

``python -m benchmarks.listing [--symbols 2000] [--rounds 3] [--json]``

A server on this machine answers as Binance does, with as many symbols as asked for, each as long
as Binance's are. Each round is a fresh interpreter with an unmodified ccxt client: one that only
asks for the time, one that reads the listing as the choice of the universe does, and one that
loads all markets. The peak is the kernel's high-water mark of resident memory; what a way costs
is its peak above that of the client alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from benchmarks import timing

_PROJECT = Path(__file__).resolve().parents[1]
WAYS = ("client", "listing", "load_markets")
_GROUPS = [f"TRD_GRP_{number:03}" for number in range(2, 202)]

_CHILD = """
import json, resource, sys, time
from shared import config
from shared.calls import CallLog
from shared.cache import Cache
from shared.execution.venues import clients
from shared.execution.venues.ccxt_public import CcxtPublic
from shared.execution.venues.dialects import DIALECTS
from shared.execution.venues.markets import Catalogue
way, base = sys.argv[1:]
client = clients.client(config.load({"SIMULATED_WIRE_URL": base}), "binance", private=False)
log = CallLog()
catalogue = Catalogue("binance", client, (), Cache(None, "bench", log))
venue = CcxtPublic("binance", client, DIALECTS["binance"], catalogue, log)
venue.server_time_ms()
started = time.perf_counter()
found = 0
if way == "listing":
    found = len(venue.listing("USDT"))
elif way == "load_markets":
    found = len(client.load_markets())
seconds = time.perf_counter() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"seconds": seconds, "peak_mib": peak, "found": found}))
"""


def _symbol(name: str, base: str) -> dict[str, Any]:
    """As long as a symbol of Binance's ``exchangeInfo``, with its permissions."""
    return {
        "symbol": name,
        "status": "TRADING",
        "baseAsset": base,
        "baseAssetPrecision": 8,
        "quoteAsset": "USDT",
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS", "STOP_LOSS_LIMIT"],
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000.00000000",
             "tickSize": "0.01000000"},
            {"filterType": "LOT_SIZE", "minQty": "0.00001000", "maxQty": "9000.00000000",
             "stepSize": "0.00001000"},
            {"filterType": "NOTIONAL", "minNotional": "5.00000000", "applyMinToMarket": True,
             "maxNotional": "9000000.00000000", "applyMaxToMarket": False, "avgPriceMins": 5},
            {"filterType": "MARKET_LOT_SIZE", "minQty": "0.00000000", "maxQty": "120.00000000",
             "stepSize": "0.00000000"},
        ],
        "permissions": [],
        "permissionSets": [["SPOT", "MARGIN", *_GROUPS]],
    }  # fmt: skip


def _ticker(name: str, place: int) -> dict[str, Any]:
    volume = f"{1e9 / (place + 1):.8f}"
    prices = dict.fromkeys(
        ("weightedAvgPrice", "prevClosePrice", "lastPrice", "openPrice", "highPrice", "lowPrice"),
        "100.00000000",
    )
    return prices | {
        "symbol": name,
        "priceChange": "1.00000000",
        "priceChangePercent": "1.000",
        "lastQty": "0.10000000",
        "bidPrice": "99.99000000",
        "bidQty": "1.00000000",
        "askPrice": "100.01000000",
        "askQty": "1.00000000",
        "volume": volume,
        "quoteVolume": volume,
        "openTime": 0,
        "closeTime": 86_400_000,
        "firstId": 1,
        "lastId": 2,
        "count": 1_000,
    }


class _Binance:
    """The three answers, ready to be sent."""

    def __init__(self, count: int) -> None:
        bases = [f"C{number:04}" for number in range(count)]
        self._symbols = {f"{base}USDT": _symbol(f"{base}USDT", base) for base in bases}
        self._tickers = json.dumps([_ticker(f"{b}USDT", n) for n, b in enumerate(bases)]).encode()

    def answer(self, path: str, query: dict[str, list[str]]) -> bytes:
        if path.endswith("/ticker/24hr"):
            return self._tickers
        if path.endswith("/time"):
            return b'{"serverTime":1746532800000}'
        rows = list(self._symbols.values())
        if "symbols" in query:
            rows = [self._symbols[name] for name in json.loads(query["symbols"][0])]
        if query.get("showPermissionSets") == ["false"]:
            rows = [row | {"permissionSets": []} for row in rows]
        return json.dumps({"timezone": "UTC", "rateLimits": [], "symbols": rows}).encode()


@contextmanager
def _served(count: int) -> Iterator[str]:
    binance = _Binance(count)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            body = binance.answer(parts.path, parse_qs(parts.query))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing is told of requests."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def measure(count: int, rounds: int) -> dict[str, dict[str, float]]:
    """Medians by way: peak above the client's own, seconds, and how many symbols were found."""
    with _served(count) as base:
        seen = {way: [_round(way, base) for _ in range(rounds)] for way in WAYS}
    medians = {
        way: {name: statistics.median(row[name] for row in rows) for name in rows[0]}
        for way, rows in seen.items()
    }
    alone = medians["client"]["peak_mib"]
    return {way: row | {"added_mib": row["peak_mib"] - alone} for way, row in medians.items()}


def _round(way: str, base: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, way, base],
        cwd=_PROJECT, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--symbols", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.symbols, options.rounds)
    if options.json:
        timing.print_json({"symbols": options.symbols, "rounds": options.rounds, "ways": found})
        return
    columns = ("way", "peak MiB", "added MiB", "seconds", "symbols found")
    timing.print_table(
        f"{options.symbols} symbols, medians of {options.rounds} fresh processes",
        columns,
        [
            (way, row["peak_mib"], row["added_mib"], row["seconds"], int(row["found"]))
            for way, row in found.items()
        ],
    )
    listing, markets = found["listing"]["added_mib"], found["load_markets"]["added_mib"]
    if listing > 0:
        print(f"load_markets adds {markets / listing:.1f} times as much memory as the listing")


if __name__ == "__main__":
    main()
