"""A venue that serves candles of our own making, and a run over it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared import cache, clock
from shared.calls import CallLog
from shared.config import Config
from shared.errors import VenueUnavailable
from shared.execution.types import MarketRules
from shared.ledger import leases, runs
from shared.ledger.connection import Ledger
from shared.market.sentiment import Sentiment
from shared.market.sentiment.headlines import Headline
from shared.market.types import TIMEFRAME_MS, Book, Candles, PublicTrade, Quote
from shared.run import Run

NOW_MS = 1_746_489_600_000  # 2025-05-06T00:00:00Z, where the virtual clock of the tests stands


def walk(count: int, timeframe: str, *, end_ms: int = NOW_MS, seed: int = 1) -> NDArray[np.float64]:
    """``count`` rows of a random walk whose last candle closes at or before ``end_ms``."""
    random = np.random.default_rng(seed)
    step = TIMEFRAME_MS[timeframe]
    opens = (end_ms // step - count + np.arange(count)) * step
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.004, count)))
    before = np.append(100.0, close[:-1])
    high = np.maximum(before, close) * (1 + np.abs(random.normal(0, 0.002, count)))
    low = np.minimum(before, close) * (1 - np.abs(random.normal(0, 0.002, count)))
    volume = random.lognormal(3, 0.5, count)
    return np.column_stack((opens, before, high, low, close, volume))


def rolled(minutes: NDArray[np.float64], timeframe: str) -> NDArray[np.float64]:
    """The rows of a higher timeframe, straight from minutes, in plain Python."""
    step, periods = TIMEFRAME_MS[timeframe], {}
    for row in minutes.tolist():
        periods.setdefault(int(row[0]) // step, []).append(row)
    rows = [
        [
            p * step,
            r[0][1],
            max(x[2] for x in r),
            min(x[3] for x in r),
            r[-1][4],
            sum(x[5] for x in r),
        ]
        for p, r in periods.items()
        if len(r) == step // 60_000
    ]
    return np.array(rows).reshape(-1, 6)


def as_candles(rows: NDArray[np.float64], timeframe: str, symbol: str = "BTC/USDT") -> Candles:
    columns = (np.ascontiguousarray(rows[:, i]) for i in range(1, 6))
    return Candles(symbol, timeframe, rows[:, 0].astype(np.int64), *columns)


class FakeVenue:
    """Answers from tables; counts its calls.

    Attributes:
        pegs: mids of the pairs that tell a stablecoin's worth.
        broken: names methods that fail.
    """

    def __init__(self, name: str = "binance", *, mid: float = 100.0, cap: int = 1_000) -> None:
        self.name, self.mid, self.cap = name, mid, cap
        self.calls: list[tuple[str, ...]] = []
        self.rows: dict[str, NDArray[np.float64]] = {}
        self.pegs = {"USDT/USD": 1.0}
        self.broken: set[str] = set()
        self.answers: dict[str, Callable[..., Any]] = {}
        self.now_ms: Callable[[], int] = clock.now_ms

    def _called(self, method: str, *what: str) -> None:
        self.calls.append((method, *what))
        if method in self.broken or ":".join((method, *what)) in self.broken:
            raise VenueUnavailable(f"{self.name}.{method}: ConnectionError")

    def rules(self, symbol: str) -> MarketRules:
        raise VenueUnavailable("rules: not asked for in a scan")

    def server_time_ms(self) -> int:
        return self.now_ms()

    def candles(
        self, symbol: str, timeframe: str, *, since_ms: int | None, limit: int
    ) -> NDArray[np.float64]:
        self._called("candles", timeframe, symbol)
        if "candles" in self.answers:
            return self.answers["candles"](timeframe)
        rows = self.rows[timeframe]
        rows = rows[rows[:, 0] <= self.now_ms()]
        if since_ms is None:
            return rows[-min(limit, self.cap) :]
        return rows[rows[:, 0] >= since_ms][: min(limit, self.cap)]

    def book(self, symbol: str, depth: int = 50) -> Book:
        self._called("book", symbol)
        if "book" in self.answers:
            return self.answers["book"](symbol)
        tick = self.mid * 1e-4
        bids = tuple((self.mid - tick * (i + 0.5), 2.0) for i in range(depth))
        asks = tuple((self.mid + tick * (i + 0.5), 1.0) for i in range(depth))
        return Book(symbol, bids, asks, self.now_ms())

    def trades(self, symbol: str, limit: int = 200) -> list[PublicTrade]:
        self._called("trades", symbol)
        if "trades" in self.answers:
            return self.answers["trades"](symbol)
        at = self.now_ms()
        return [
            PublicTrade(at - 3_000, "buy", self.mid, 3.0),
            PublicTrade(at - 1_000, "sell", self.mid, 1.0),
        ]

    def quotes(self, symbols: Sequence[str]) -> dict[str, Quote]:
        self._called("quotes")
        if "quotes" in self.answers:
            return self.answers["quotes"](symbols)
        mids = {symbol: self.mid for symbol in symbols if not symbol.startswith("USD")} | {
            pair: mid for pair, mid in self.pegs.items() if pair in symbols
        }
        now_ms = self.now_ms()
        return {pair: Quote(mid * 0.9999, mid * 1.0001, now_ms) for pair, mid in mids.items()}

    def count(self, method: str) -> int:
        return sum(call[0] == method for call in self.calls)


def healthy_venue(name: str = "binance", *, end_ms: int = NOW_MS, seed: int = 1) -> FakeVenue:
    """A venue with consistent windows of every timeframe up to ``end_ms`` and two hours more."""
    venue = FakeVenue(name)
    minutes = walk(5_000, "1m", end_ms=end_ms + 7_200_000, seed=seed)
    venue.rows["1m"] = minutes
    for timeframe in ("5m", "15m", "1h", "4h", "1d"):
        recent = rolled(minutes, timeframe)
        older = walk(1_200, timeframe, end_ms=int(recent[0, 0]), seed=seed)
        scale = recent[0, 1] / older[-1, 4]
        older[:, 1:5] *= scale
        venue.rows[timeframe] = np.vstack((older, recent))
    venue.mid = float(minutes[minutes[:, 0] < end_ms][-1, 4])
    return venue


def make_run(ledger: Ledger, *, redis_url: str | None = None, **settings: Any) -> Run:
    """A run of the trading loop that holds its lease."""
    config = Config.model_validate(
        {"pod": ledger.pod, "symbols": "BTC", "derivatives_venue": "off"} | settings
    )
    calls = CallLog()
    epoch = leases.acquire(ledger, "trading_loop", f"trace-{clock.now_ms()}")
    assert epoch is not None
    run_id = runs.start(ledger, "trading_loop", f"trace-{clock.now_ms()}", clock.now(), epoch)
    assert run_id is not None
    return Run(
        config=config,
        ledger=ledger,
        cache=cache.Cache(redis_url, ledger.pod, calls),
        calls=calls,
        workflow="trading_loop",
        step="market_scanner",
        trace_id=f"trace-{clock.now_ms()}",
        event_at=clock.now(),
        run_id=run_id,
        epoch=epoch,
    )


def mood(at_ms: int = NOW_MS, *told: Headline, missing: tuple[str, ...] = ()) -> Sentiment:
    """A fear-and-greed index of 40, and headlines that came a minute ago."""
    index = {
        "fear_greed_index": 40,
        "fear_greed_at_ms": at_ms,
        "fear_greed_fetched_at_ms": at_ms,
    }
    return Sentiment(at_ms, index, told, at_ms - 60_000, missing)
