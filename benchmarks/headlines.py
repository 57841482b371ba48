"""What headlines cost: ``python -m benchmarks.headlines [--json]``.

Loading is measured in processes of its own, each beside one that loads nothing more than the
scanner has loaded anyway. The minutes take turns: one without any headlines, one in which 60 are
known and no feed is due, and one in which a feed has brought 30 new ones.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from email.utils import formatdate
from types import SimpleNamespace
from typing import Any

from benchmarks import timing
from shared import clock
from shared.cache import Cache
from shared.calls import CallLog
from shared.config import Config
from shared.market import sentiment
from shared.market.sentiment import fear_greed, feeds, headlines, lexicon
from shared.market.sentiment.headlines import Feed, Headline

SYMBOLS = tuple(f"{asset}/USDT" for asset in ("BTC", "ETH", "SOL"))
_URL = "https://news.example/rss"
_LOAD = {
    "feedparser": "import feedparser",
    "VADER and its lexicon": "from shared.market.sentiment import lexicon; lexicon.score('x')",
}
_PROBE = """
import json, sys, time, requests, shared.market.sentiment
def resident():
    with open("/proc/self/statm") as pages: return int(pages.read().split()[1]) * 4096 / 2**20
before, start = resident(), time.perf_counter()
exec(sys.argv[1])
print(json.dumps([1000 * (time.perf_counter() - start), resident() - before]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.headlines")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    loads = {name: _load(code) for name, code in _LOAD.items()}
    minutes = timing.medians_ms(_candidates(), options.rounds)
    if options.json:
        timing.print_json({"load": loads, "median_ms": minutes})
        return
    rows = [(name, *values) for name, values in loads.items()]
    timing.print_table("Loading, once a process", ("", "ms", "MiB"), rows)
    base = minutes["a minute without headlines"]
    times = [(name, ms, ms - base) for name, ms in minutes.items()]
    timing.print_table("In a process that runs on", ("", "ms", "ms more"), times)


def _load(code: str, processes: int = 5) -> tuple[float, float]:
    """Milliseconds and MiB that ``code`` takes in a new process, medians."""
    command = [sys.executable, "-c", _PROBE, code]
    found = [
        json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        for _ in range(processes)
    ]
    return statistics.median(f[0] for f in found), statistics.median(f[1] for f in found)


def _candidates() -> dict[str, Any]:
    now_ms = clock.now_ms()
    clock.install(lambda: now_ms)
    known = tuple(
        Headline(f"Bitcoin and Ether rise {n}", now_ms - n * 60_000, 0.3) for n in range(60)
    )
    fear_greed._known["https://fng.example/"] = fear_greed.Index(
        "https://fng.example/", now_ms, now_ms, 40, now_ms
    )
    headlines._known[_URL] = Feed(now_ms, now_ms, headlines=known)
    body = _body(now_ms)

    def minute(news: str) -> None:
        calls = CallLog()
        config = Config(news_feeds=news, fear_greed_url="https://fng.example/")  # type: ignore[arg-type]
        run: Any = SimpleNamespace(config=config, calls=calls, cache=Cache(None, "b", calls))
        seen = sentiment.read(run)
        for symbol in SYMBOLS:
            seen.of(symbol)
        seen.newest(SYMBOLS)

    def new_feed() -> None:
        for entry in feeds.parse(body)[: headlines.MAX_ENTRIES]:
            lexicon.score(entry.title)

    return {
        "a minute without headlines": lambda: minute("off"),
        "a minute with 60 headlines, none new": lambda: minute(_URL),
        "parsing and scoring 30 new ones": new_feed,
    }


def _body(now_ms: int) -> bytes:
    item = "<item><title>Bitcoin climbs as traders return {}</title><pubDate>{}</pubDate></item>"
    items = "".join(item.format(n, formatdate(now_ms / 1000 - 60 * n)) for n in range(30))
    return f'<rss version="2.0"><channel><title>n</title>{items}</channel></rss>'.encode()


if __name__ == "__main__":
    main()
