# pipedream add-package aiohappyeyeballs==2.7.1
# pipedream add-package aiohttp==3.14.5
# pipedream add-package aiohttp-fast-zlib==0.3.0
# pipedream add-package aiosignal==1.4.0
# pipedream add-package annotated-types==0.8.0
# pipedream add-package anthropic==2.12.0
# pipedream add-package anyio==4.16.0
# pipedream add-package attrs==26.1.0
# pipedream add-package ccxt==4.5.90
# pipedream add-package certifi==2026.10.18
# pipedream add-package cffi==2.0.0
# pipedream add-package charset-normalizer==3.4.7
# pipedream add-package coincurve==21.0.0
# pipedream add-package cryptography==50.0.2
# pipedream add-package docstring-parser==0.18.0
# pipedream add-package feedparser==6.0.14
# pipedream add-package feedparser-sgmllib==2.1.0
# pipedream add-package frozenlist==1.8.0
# pipedream add-package h11==0.16.0
# pipedream add-package httpcore2==2.16.2
# pipedream add-package httpx2==2.16.2
# pipedream add-package idna==3.18
# pipedream add-package jiter==0.19.0
# pipedream add-package multidict==6.9.1
# pipedream add-package numpy==2.5.5
# pipedream add-package openai==3.54.0
# pipedream add-package opentelemetry-api==1.45.2
# pipedream add-package orjson==3.13.0
# pipedream add-package propcache==0.5.2
# pipedream add-package psycopg2-binary==2.9.13
# pipedream add-package pycparser==3.0
# pipedream add-package pydantic==2.14.3
# pipedream add-package pydantic-core==2.50.4
# pipedream add-package redis==8.1.0
# pipedream add-package requests==2.34.2
# pipedream add-package sniffio==1.3.1
# pipedream add-package ta-lib==0.8.2
# pipedream add-package truststore==0.10.5
# pipedream add-package typing-extensions==4.16.0
# pipedream add-package typing-inspection==0.4.5
# pipedream add-package urllib3==2.8.0
# pipedream add-package uvloop==0.22.1
# pipedream add-package vadersentiment==3.3.2
# pipedream add-package yarl==1.25.1
# pipedream add-package zlib-ng==1.0.0
# The step order_execution of the workflow trading_loop.
# autonomous-trading-loop 0.1.0, build 82ee4aba0498: 167 modules.
# Made by `trading-loop deploy build`. Change the sources that are named below, not this.


import io
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any, cast


class BundleLoader:
    """Finds and runs the modules of one build, once for all steps of the process.

    Another step of the same build adds its texts to the loader that is there already, so that a
    module which was imported before is not run again. What another build has left in a process
    that outlived a deploy is forgotten first: two builds never mix.

    ``modules`` holds a path and a text by module name, ``files`` a text by path.
    """

    def __init__(self, build: str) -> None:
        self.build = build
        self.modules: dict[str, tuple[str, str]] = {}
        self.files: dict[str, str] = {}

    @classmethod
    def of(cls, build: str, roots: tuple[str, ...]) -> "BundleLoader":
        present: list[Any] = [f for f in sys.meta_path if type(f).__name__ == cls.__name__]
        for finder in present:
            if finder.build == build:
                return finder
            sys.meta_path.remove(finder)
            for name in [name for name in sys.modules if name.partition(".")[0] in roots]:
                del sys.modules[name]
        loader = cls(build)
        sys.meta_path.insert(0, loader)
        return loader

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name not in self.modules:
            return None
        origin, loader = self.modules[name][0], cast(Any, self)
        spec = ModuleSpec(name, loader, origin=origin, is_package=origin.endswith("/__init__.py"))
        spec.has_location = True  # so that the module has a __file__
        return spec

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        path, text = self.modules[module.__name__]
        exec(compile(text, path, "exec", dont_inherit=True), module.__dict__)

    def get_source(self, name: str) -> str:
        return self.modules[name][1]  # tracebacks show its lines

    def get_resource_reader(self, name: str) -> Any:
        folder = self.modules[name][0].removesuffix("/__init__.py")
        return SimpleNamespace(files=lambda: _resource(self.files, folder))


def _resource(files: dict[str, str], path: str) -> Any:
    """A file or folder of data, as ``importlib.resources`` shows it."""
    from importlib.resources.abc import Traversable

    class Resource(Traversable):
        def __init__(self, path: str) -> None:
            self._path = path

        @property
        def name(self) -> str:
            return self._path.rpartition("/")[2]

        def is_file(self) -> bool:
            return self._path in files

        def is_dir(self) -> bool:
            return any(path.startswith(f"{self._path}/") for path in files)

        def iterdir(self) -> Any:
            start = f"{self._path}/"
            below = {p[len(start) :].partition("/")[0] for p in files if p.startswith(start)}
            return (Resource(start + name) for name in sorted(below))

        def joinpath(self, *names: str) -> Any:  # type: ignore[override]
            return Resource("/".join((self._path, *names)))

        def read_bytes(self) -> bytes:
            return files[self._path].encode()

        def read_text(self, encoding: str | None = None) -> str:
            return files[self._path]

        def open(self, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            stream = io.BytesIO(self.read_bytes())
            return stream if "b" in mode else io.TextIOWrapper(stream, *arguments, **options)

    return Resource(path)


BUILD = "82ee4aba0498"
_LOADER = BundleLoader.of(BUILD, ('shared', 'steps'))


###################################################################################################
_LOADER.modules["shared"] = ("shared/__init__.py", r'''"""The trading system itself, independent of where it runs.

Data flows one way: market > signals > risk > execution > ledger. ``analysis`` reads the ledger
and writes parameters, ``safety`` watches all of it, ``ui`` shows it.
"""

VERSION = "0.1.0"

BUILD = "source"
"""Which build this code is of. A bundle says its own: steps of different builds do not work
together on one run."""

BUILD = "82ee4aba0498"
''')


###################################################################################################
_LOADER.modules["shared.analysis"] = ("shared/analysis/__init__.py", r'''"""How well it trades: metrics, benchmarks, learned weights, a model's view."""
''')


###################################################################################################
_LOADER.modules["shared.analysis.metrics"] = ("shared/analysis/metrics.py", r'''"""Returns, risk and trade statistics, from equity points and closed trades.

Conventions, the same for the strategy and for its benchmarks:

* Ratios come from simple returns between hourly equity points. A point stands for an hour if it
  is the last one at or before the full hour and not older than an hour. Hours without a point are
  left out, never filled.
* A year has 365 days of 24 hours, because the markets never close: 8,760 returns a year.
* The risk-free rate and the target return are zero.
* What is undefined is ``None``: too few observations, no variance, no loss. It is never 0.

Formulas: Sharpe, "The Sharpe Ratio" (1994), with the sample standard deviation; Sortino and Price,
"Performance Measurement in a Downside Risk Framework" (1994); Young, "Calmar Ratio: A Smoother
Tool" (1991); value at risk as the historical quantile with linear interpolation (Hyndman and Fan
1996, type 7). The same definitions as the package empyrical, whose published test tables are ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

HOUR_MS = 3_600_000
HOURS_PER_YEAR = 24 * 365
MINIMUM_HOURLY_RETURNS = 24

_NO_VARIANCE = 1e-12  # below this a deviation is rounding error of equal returns

Returns = NDArray[np.float64]


class EquityMetrics(TypedDict):
    """How an equity curve went. Percentages stand as percent; ``None`` means undefined."""

    points: int
    hourly_returns: int
    total_return_percent: float | None
    sharpe: float | None
    sortino: float | None
    calmar: float | None
    max_drawdown_percent: float | None
    volatility_percent: float | None
    var95_percent: float | None


class TradeMetrics(TypedDict):
    """How closed trades went, after fees. ``None`` means undefined."""

    trades: int
    wins: int
    losses: int
    win_rate_percent: float | None
    average_win_quote: float | None
    average_loss_quote: float | None
    profit_factor: float | None
    expectancy_quote: float | None
    average_return_percent: float | None
    best_quote: float | None
    worst_quote: float | None
    total_pnl_quote: float


def equity_metrics(
    times_ms: ArrayLike,
    equity: ArrayLike,
    *,
    minimum_returns: int = MINIMUM_HOURLY_RETURNS,
) -> EquityMetrics:
    """Metrics of an equity curve whose points may lie at any times, oldest first.

    Total return and maximum drawdown use every point; the ratios, ``volatility_percent`` (a year)
    and ``var95_percent`` (the loss that one hour exceeds in 5 % of cases, positive) use hourly
    returns and need ``minimum_returns`` of them.

    Raises:
        ValueError: the arrays differ in length, times do not ascend, or equity is not positive.
    """
    times = np.asarray(times_ms, dtype=np.int64)
    values = np.asarray(equity, dtype=np.float64)
    _refuse_malformed(times, values)
    returns = simple_returns(hourly_points(times, values))
    enough = len(returns) >= minimum_returns
    drawdown = max_drawdown(values)
    return EquityMetrics(
        points=len(values),
        hourly_returns=len(returns),
        total_return_percent=_percent(values[-1] / values[0] - 1) if len(values) > 1 else None,
        sharpe=sharpe_ratio(returns, HOURS_PER_YEAR) if enough else None,
        sortino=sortino_ratio(returns, HOURS_PER_YEAR) if enough else None,
        calmar=calmar_ratio(returns, HOURS_PER_YEAR) if enough else None,
        max_drawdown_percent=_percent(drawdown),
        volatility_percent=_percent(annual_volatility(returns, HOURS_PER_YEAR)) if enough else None,
        var95_percent=_percent(value_at_risk(returns)) if enough else None,
    )


def hourly_points(times_ms: NDArray[np.int64], equity: Returns) -> Returns:
    """The last value of each hour that has one; a point on the full hour closes that hour."""
    if len(times_ms) == 0:
        return equity
    hour = -(-times_ms // HOUR_MS)
    is_last = np.append(hour[1:] != hour[:-1], True)
    return equity[is_last]


def simple_returns(equity: Returns) -> Returns:
    """``equity[i] / equity[i - 1] - 1``, as fractions."""
    return equity[1:] / equity[:-1] - 1


def sharpe_ratio(returns: Returns, periods_per_year: float) -> float | None:
    """Annualised mean over sample deviation; ``None`` without variance or a second return."""
    deviation = _deviation(returns)
    if deviation is None or deviation < _NO_VARIANCE:
        return None
    return float(returns.mean() / deviation * math.sqrt(periods_per_year))


def sortino_ratio(returns: Returns, periods_per_year: float) -> float | None:
    """Annualised mean over downside deviation below zero; ``None`` where no return is negative."""
    if len(returns) < 2:
        return None
    downside = math.sqrt(float(np.mean(np.minimum(returns, 0.0) ** 2)))
    if downside < _NO_VARIANCE:
        return None
    return float(returns.mean() / downside * math.sqrt(periods_per_year))


def calmar_ratio(returns: Returns, periods_per_year: float) -> float | None:
    """Compound annual growth over maximum drawdown; ``None`` where nothing was ever lost.

    A week's growth compounded to a year may be any number; it is ``None`` where it overflows.
    """
    if len(returns) < 2:
        return None
    curve = np.concatenate(([1.0], np.cumprod(1 + returns)))
    drawdown = max_drawdown(curve)
    if drawdown is None or drawdown < _NO_VARIANCE:
        return None
    log_growth = math.log(curve[-1]) * periods_per_year / len(returns)
    return math.expm1(log_growth) / drawdown if log_growth < 700 else None


def annual_volatility(returns: Returns, periods_per_year: float) -> float | None:
    """Sample standard deviation times the root of ``periods_per_year``, as a fraction."""
    deviation = _deviation(returns)
    return None if deviation is None else deviation * math.sqrt(periods_per_year)


def max_drawdown(equity: Returns) -> float | None:
    """The largest fall from a running peak, as a positive fraction of that peak."""
    if len(equity) < 2:
        return None
    peaks = np.maximum.accumulate(equity)
    return float(np.max(1 - equity / peaks))


def value_at_risk(returns: Returns, tail: float = 0.05) -> float | None:
    """The historical loss that is exceeded in a share ``tail`` of periods, as a positive fraction.

    Negative where even the tail is a gain.
    """
    return float(-np.quantile(returns, tail)) if len(returns) else None


def trade_metrics(trades: Iterable[Mapping[str, Any]]) -> TradeMetrics:
    """Statistics of rows of the view ``trades`` (``pnl_quote``, ``return_percent``).

    A trade that ended at exactly zero counts as a trade, not as a win or a loss.
    ``profit_factor`` is gross profit over gross loss, ``expectancy_quote`` the mean of all trades.
    """
    rows = list(trades)
    pnl = np.array([float(row["pnl_quote"]) for row in rows])
    wins, losses = pnl[pnl > 0], pnl[pnl < 0]
    returns = [float(r["return_percent"]) for r in rows if r["return_percent"] is not None]
    return TradeMetrics(
        trades=len(pnl),
        wins=len(wins),
        losses=len(losses),
        win_rate_percent=100 * len(wins) / len(pnl) if len(pnl) else None,
        average_win_quote=_mean(wins),
        average_loss_quote=_mean(losses),
        profit_factor=float(wins.sum() / -losses.sum()) if len(losses) else None,
        expectancy_quote=_mean(pnl),
        average_return_percent=_mean(np.array(returns)),
        best_quote=float(pnl.max()) if len(pnl) else None,
        worst_quote=float(pnl.min()) if len(pnl) else None,
        total_pnl_quote=float(pnl.sum()),
    )


WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
Breakdown = dict[str, TradeMetrics]


def by_hour(trades: Sequence[Mapping[str, Any]]) -> Breakdown:
    """By the UTC hour ("00" to "23") in which a position was opened."""
    return _grouped(trades, lambda row: f"{row['opened_at'].hour:02d}")


def by_weekday(trades: Sequence[Mapping[str, Any]]) -> Breakdown:
    """By the UTC weekday on which a position was opened."""
    return _grouped(trades, lambda row: WEEKDAYS[row["opened_at"].weekday()])


def by_symbol(trades: Sequence[Mapping[str, Any]]) -> Breakdown:
    """By market, for example ``BTC/USDT``."""
    return _grouped(trades, lambda row: str(row["symbol"]))


def by_strategy(trades: Sequence[Mapping[str, Any]]) -> Breakdown:
    """By the strategy that opened the position."""
    return _grouped(trades, lambda row: str(row["strategy"]))


def _grouped(
    trades: Sequence[Mapping[str, Any]], key: Callable[[Mapping[str, Any]], str]
) -> Breakdown:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in trades:
        groups.setdefault(key(row), []).append(row)
    return {name: trade_metrics(groups[name]) for name in sorted(groups)}


def _refuse_malformed(times_ms: NDArray[np.int64], equity: Returns) -> None:
    if times_ms.shape != equity.shape or times_ms.ndim != 1:
        raise ValueError(
            "times_ms and equity: expected two series of one length, "
            f"were of shapes {times_ms.shape} and {equity.shape}"
        )
    if np.any(np.diff(times_ms) <= 0):
        raise ValueError("times_ms: expected strictly ascending times")
    if not np.all(np.isfinite(equity) & (equity > 0)):
        bad = int(np.argmin(np.isfinite(equity) & (equity > 0)))
        raise ValueError(f"equity[{bad}]: expected a positive number, was {equity[bad]}")


def _deviation(returns: Returns) -> float | None:
    return float(returns.std(ddof=1)) if len(returns) > 1 else None


def _mean(values: Returns) -> float | None:
    return float(values.mean()) if len(values) else None


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else float(100 * fraction)
''')


###################################################################################################
_LOADER.modules["shared.cache"] = ("shared/cache.py", r'''"""Redis, as a cache and nothing more: losing it changes speed, never safety."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shared.calls import CallLog

_TIMEOUT_S = 1.0
_clients: dict[str, Any] = {}


class Cache:
    """Bytes by key. After a first failure it answers "not there" until the run is over."""

    def __init__(self, redis_url: str | None, pod: str, calls: CallLog) -> None:
        self._client = _client(redis_url) if redis_url else None
        self._prefix = f"{pod}:"
        self._calls = calls

    @property
    def available(self) -> bool:
        return self._client is not None

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values in the order of ``keys``; ``None`` where there is none."""
        if self._client is None or not keys:
            return [None] * len(keys)
        found = self._guarded(lambda c: c.mget([self._prefix + key for key in keys]))
        return [None] * len(keys) if found is None else list(found)

    def get(self, key: str) -> bytes | None:
        return self.get_many([key])[0]

    def set_many(self, values: dict[str, bytes], ttl_seconds: int) -> None:
        """Keep ``values`` for ``ttl_seconds``."""
        if self._client is None or not values:
            return

        def write(client: Any) -> None:
            pipeline = client.pipeline(transaction=False)
            for key, value in values.items():
                pipeline.set(self._prefix + key, value, ex=ttl_seconds)
            pipeline.execute()

        self._guarded(write)

    def set(self, key: str, value: bytes, ttl_seconds: int) -> None:
        self.set_many({key: value}, ttl_seconds)

    def add(self, key: str, amount: int, ttl_seconds: int) -> int | None:
        """Add to a counter that all pods share; its new value, or ``None`` where Redis is lost."""
        if self._client is None:
            return None

        def count(client: Any) -> int:
            pipeline = client.pipeline(transaction=False)
            pipeline.incrby(f"shared:{key}", amount)
            pipeline.expire(f"shared:{key}", ttl_seconds)
            return int(pipeline.execute()[0])

        counted: int | None = self._guarded(count)
        return counted

    def _guarded(self, action: Any) -> Any:
        import redis

        with self._calls.timed("redis") as call:
            try:
                return action(self._client)
            except redis.RedisError as error:
                call.fail(type(error).__name__)
                self._client = None
                return None


def _client(redis_url: str) -> Any:
    if redis_url not in _clients:
        import redis

        _clients[redis_url] = redis.Redis.from_url(
            redis_url, retry=None, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S
        )
    return _clients[redis_url]
''')


###################################################################################################
_LOADER.modules["shared.calls"] = ("shared/calls.py", r'''"""How the outside world answered during a run: counted by service, kept for the breaker."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from shared import clock
from shared.ledger.connection import Ledger


@dataclass
class ServiceCalls:
    """Counts and latencies of one service in one run."""

    calls: int = 0
    failures: int = 0
    rate_limited: int = 0
    total_latency_ms: float = 0.0
    max_latency_ms: float = 0.0
    last_error: str | None = None


class Call:
    """One call while it is under way."""

    def __init__(self) -> None:
        self.error: str | None = None
        self.rate_limited = False

    def fail(self, error: str, *, rate_limited: bool = False) -> None:
        """Count this call as failed. ``error`` must hold no secret and no address."""
        self.error = error[:200]
        self.rate_limited = rate_limited


class CallLog:
    """Collects calls from several threads; an exception inside ``timed`` counts as a failure."""

    def __init__(self) -> None:
        self.by_service: dict[str, ServiceCalls] = {}
        self._lock = threading.Lock()

    @contextmanager
    def timed(self, service: str) -> Iterator[Call]:
        call, watch = Call(), clock.Stopwatch()
        try:
            yield call
        except Exception as error:
            if call.error is None:
                call.fail(type(error).__name__)
            raise
        finally:
            self._add(service, call, watch.milliseconds())

    def _add(self, service: str, call: Call, latency_ms: float) -> None:
        with self._lock:
            entry = self.by_service.setdefault(service, ServiceCalls())
            entry.calls += 1
            entry.total_latency_ms += latency_ms
            entry.max_latency_ms = max(entry.max_latency_ms, latency_ms)
            if call.error is not None:
                entry.failures += 1
                entry.rate_limited += call.rate_limited
                entry.last_error = call.error

    def flush(self, ledger: Ledger, run_id: int) -> None:
        """Add what was collected to the run's rows and start anew."""
        with self._lock:
            collected, self.by_service = self.by_service, {}
        for service, entry in sorted(collected.items()):
            ledger.execute(
                "INSERT INTO venue_calls AS v VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) "
                "ON CONFLICT (run_id, venue) DO UPDATE SET "
                "mean_latency_ms = (v.mean_latency_ms * v.calls "
                "  + excluded.mean_latency_ms * excluded.calls) / (v.calls + excluded.calls), "
                "calls = v.calls + excluded.calls, failures = v.failures + excluded.failures, "
                "rate_limited = v.rate_limited + excluded.rate_limited, "
                "max_latency_ms = greatest(v.max_latency_ms, excluded.max_latency_ms), "
                "last_error = coalesce(excluded.last_error, v.last_error)",
                (
                    ledger.pod,
                    run_id,
                    service,
                    clock.now(),
                    entry.calls,
                    entry.failures,
                    entry.rate_limited,
                    entry.total_latency_ms / entry.calls,
                    entry.max_latency_ms,
                    entry.last_error,
                ),
            )
''')


###################################################################################################
_LOADER.modules["shared.clock"] = ("shared/clock.py", r'''"""The one place where the system learns what time it is.

A replay installs its own source of time, so that the same code runs on a virtual clock. All
times are aware ``datetime`` in UTC, or integer milliseconds since the epoch where the name ends
in ``_ms``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

_virtual_now_ms: Callable[[], int] | None = None


def install(now_ms: Callable[[], int] | None) -> None:
    """Take the time from ``now_ms`` from now on; ``None`` restores the system clock."""
    global _virtual_now_ms
    _virtual_now_ms = now_ms


def is_virtual() -> bool:
    """Whether the time comes from a replay."""
    return _virtual_now_ms is not None


def now_ms() -> int:
    """Milliseconds since the epoch, UTC."""
    return _virtual_now_ms() if _virtual_now_ms is not None else time.time_ns() // 1_000_000


def now() -> datetime:
    """The current time, aware, UTC."""
    return from_ms(now_ms())


def from_ms(milliseconds: int) -> datetime:
    """The aware UTC time that lies ``milliseconds`` after the epoch."""
    return datetime.fromtimestamp(milliseconds / 1000, tz=UTC)


def to_ms(moment: datetime) -> int:
    """Milliseconds since the epoch of an aware ``moment``.

    Raises:
        ValueError: ``moment`` has no time zone, so that it names no instant.
    """
    if moment.tzinfo is None:
        raise ValueError(f"moment: expected a time with a time zone, was {moment.isoformat()}")
    return round(moment.timestamp() * 1000)


def iso(moment: datetime) -> str:
    """``2025-05-06T12:00:00Z``; milliseconds only where there are any."""
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return text.replace(".000Z", "Z")


class Stopwatch:
    """Measures a duration by the machine's monotonic clock, which no replay bends."""

    def __init__(self) -> None:
        self._started_at = time.perf_counter()

    def seconds(self) -> float:
        return time.perf_counter() - self._started_at

    def milliseconds(self) -> float:
        return self.seconds() * 1000
''')


###################################################################################################
_LOADER.modules["shared.config"] = ("shared/config.py", r'''"""Every setting of the system: typed, bounded, frozen, read from environment variables.

A setting ``MAX_POSITIONS`` is the field ``max_positions``. Money is in the quote currency and
``Decimal``; percentages stand as percent (2 is two percent), never as a fraction.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from shared.errors import ConfigurationError

Percent = Annotated[Decimal, Field(gt=0, le=100)]
Ratio = Annotated[float, Field(ge=0, le=1)]
VenueName = Literal["binance", "binanceus", "coinbase", "kraken"]
TradingMode = Literal["paper", "live", "simulated"]
MAX_EXIT_SCALE = Decimal("2.5")
"""How many times the configured distances exits may lie away where they scale with volatility."""
AUTO = "AUTO"
"""In place of symbols: the loop chooses them."""
OTHERS = "OTHERS"
"""Among the core weights: the symbols of the universe that have no weight of their own."""


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _feeds(value: object) -> object:
    return () if isinstance(value, str) and value.strip().lower() == "off" else _split(value)


def _check_feed(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or parts.username or parts.password:
        raise ValueError(f"expected https addresses without user names, was {url}")
    return url


def _weights(value: object) -> object:
    """``BTC:40,ETH:30`` as pairs of a name and its percent."""
    parts = _split(value)
    if not isinstance(parts, tuple) or not all(isinstance(part, str) for part in parts):
        return parts
    pairs = [part.rpartition(":") for part in parts]
    return tuple((name.strip().upper(), weight.strip()) for name, _, weight in pairs)


def _check_weights(weights: tuple[tuple[str, Decimal], ...]) -> tuple[tuple[str, Decimal], ...]:
    names = [name for name, _ in weights]
    total = sum((weight for _, weight in weights), Decimal(0))
    if len(set(names)) < len(names):
        raise ValueError(f"expected each name once, was {','.join(names)}")
    if total > 100:
        raise ValueError(f"expected at most 100 percent together, was {total}")
    return weights


def _upper(value: object) -> object:
    parts = _split(value)
    if isinstance(parts, tuple):
        return tuple(part.upper() if isinstance(part, str) else part for part in parts)
    return parts


class Config(BaseModel):
    """The settings in force. Frozen; unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    # Which instance this is and what it trades
    pod: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,15}$")] = "main"
    profile: Literal["conservative", "aggressive"] = "conservative"
    symbols: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[A-Z0-9]{2,10}$")], ...],
        BeforeValidator(_upper),
        Field(min_length=1, max_length=40),
    ] = ("BTC", "ETH", "SOL")
    quote_currency: Annotated[str, Field(pattern=r"^[A-Z]{3,5}$")] = "USDT"
    venues: Annotated[
        tuple[VenueName, ...], BeforeValidator(_split), Field(min_length=1, max_length=4)
    ] = ("binance", "coinbase", "kraken")
    # Where the person trades from; doctor holds VENUES against it. It changes nothing else.
    region: Literal["unknown", "us", "eu", "uk", "ca", "other"] = "unknown"
    capital_quote: Annotated[Decimal, Field(gt=0)] = Decimal(10_000)

    # The universe, where SYMBOLS is auto: the most traded symbols of the primary venue that pass
    universe_size: Annotated[int, Field(ge=1, le=40)] = 20
    universe_refresh_hours: Annotated[float, Field(ge=1, le=24 * 7)] = 24
    universe_min_age_days: Annotated[int, Field(ge=31, le=290)] = 180
    universe_min_volume_quote: Annotated[Decimal, Field(gt=0)] = Decimal(5_000_000)
    universe_max_spread_bps: Annotated[Decimal, Field(gt=0, le=1000)] = Decimal(10)
    universe_min_volatility_percent: Annotated[float, Field(ge=0, le=1000)] = 20
    universe_max_volatility_percent: Annotated[float, Field(gt=0, le=10_000)] = 200
    universe_backup_venues: Annotated[int, Field(ge=0, le=3)] = 1

    # Exchange APIs
    coinbase_api_key: SecretStr | None = None
    coinbase_secret: SecretStr | None = None
    binance_api_key: SecretStr | None = None
    binance_secret: SecretStr | None = None
    kraken_api_key: SecretStr | None = None
    kraken_secret: SecretStr | None = None

    # Risk limits
    max_position_size: Annotated[Decimal, Field(gt=0)] = Decimal(100)
    max_daily_loss: Annotated[Decimal, Field(gt=0)] = Decimal(50)
    max_drawdown_percent: Percent = Decimal(10)
    drawdown_alert_percent: Percent = Decimal(15)
    drawdown_halt_percent: Percent = Decimal(20)
    max_positions: Annotated[int, Field(ge=1, le=100)] = 5
    position_size_percent: Percent = Decimal(2)
    daily_loss_percent: Percent = Decimal(5)
    max_weekly_loss_percent: Percent = Decimal(10)
    max_venue_exposure_percent: Percent = Decimal(50)
    correlation_limit: Ratio = 0.7
    kelly_fraction: Annotated[float, Field(gt=0, le=1)] = 0.25
    # Share of equity that a paper pod may spend on a trade whose odds nobody has measured yet
    paper_probe_percent: Annotated[Decimal, Field(ge=0, le=2)] = Decimal("0.5")

    # The core sleeve: held at target weights, beside the tactical sleeve that trades on signals.
    # The limits above bind the tactical sleeve; OTHERS stands for the rest of the universe.
    core_sleeve_percent: Annotated[Decimal, Field(ge=0, le=100)] = Decimal(0)
    core_weights: Annotated[
        tuple[tuple[Annotated[str, Field(pattern=r"^[A-Z0-9]{2,10}$")], Percent], ...],
        BeforeValidator(_weights),
        AfterValidator(_check_weights),
        Field(min_length=1, max_length=8),
    ] = (("BTC", Decimal(40)), ("ETH", Decimal(30)), ("SOL", Decimal(15)), (OTHERS, Decimal(15)))
    core_stop_percent: Annotated[Decimal, Field(gt=0, lt=100)] = Decimal(20)
    rebalance_band_percent: Annotated[Decimal, Field(ge=1, le=50)] = Decimal(5)
    rebalance_min_hours: Annotated[float, Field(ge=0, le=24 * 90)] = 24

    # Trading parameters
    min_sharpe_ratio: Annotated[float, Field(ge=-10, le=10)] = 1.5
    target_win_rate: Ratio = 0.55
    stop_loss_percent: Percent = Decimal(2)
    take_profit_percent: Percent = Decimal(5)
    trailing_activation_percent: Percent = Decimal(3)
    trailing_distance_percent: Percent = Decimal(1)
    time_stop_hours: Annotated[float, Field(gt=0, le=24 * 30)] = 24
    # Fixed: the percentages above as they are. Volatility: 0.5 to 2.5 times as far, as the symbol
    # swings; what a position risks stays the same.
    exit_scaling: Literal["fixed", "volatility"] = "fixed"
    average_down: bool = True  # once below -2 %, only where the stop lies more than twice as far
    twap_slices: Annotated[int, Field(ge=1, le=60)] = 10
    twap_interval_seconds: Annotated[int, Field(ge=60, le=3600)] = 60
    price_collar_bps: Annotated[Decimal, Field(gt=0, le=1000)] = Decimal(50)

    # AI configuration
    openai_api_key: SecretStr | None = None
    anthropic_api_key: SecretStr | None = None
    openai_model: str = "gpt-5.4-mini-2026-03-17"
    anthropic_model: str = "claude-haiku-4-5-20251001"
    ai_temperature: Annotated[float, Field(ge=0, le=2)] = 0.3
    ai_confidence_threshold: Ratio = 0.7
    ai_timeout_seconds: Annotated[float, Field(gt=0, le=20)] = 8

    # System settings
    enable_live_trading: bool = False
    enable_circuit_breaker: bool = True
    enable_auto_optimization: bool = True
    log_level: Literal["verbose", "debug", "info", "warning", "error"] = "verbose"
    database_url: SecretStr | None = None
    # Scans and candles; candles that fill an indicator's window stay longer, see market/history
    retention_days: Annotated[int, Field(ge=7, le=3650)] = 90
    redis_url: SecretStr | None = None
    request_timeout_ms: Annotated[int, Field(ge=100, le=20_000)] = 8_000
    slack_bot_token: SecretStr | None = None
    slack_channel: str = "trading-alerts"
    dashboard_token: SecretStr | None = None
    kill_switch_token: SecretStr | None = None
    fear_greed_url: str = "https://api.alternative.me/fng/?limit=1"
    # Funding rates and liquidations of perpetuals, without keys; "off" for none.
    derivatives_venue: Literal["gate", "off"] = "gate"
    # RSS or Atom feeds of headlines, "off" for none. Requests stay within these addresses' hosts.
    news_feeds: Annotated[
        tuple[Annotated[str, AfterValidator(_check_feed)], ...],
        BeforeValidator(_feeds),
        Field(max_length=6),
    ] = (
        "https://www.coindesk.com/arc/outboundfeeds/rss/",
        "https://cointelegraph.com/rss",
        "https://decrypt.co/feed",
    )

    # Where the local Pipedream's stand-ins listen. Never set on Pipedream.
    simulated_wire_url: str | None = None

    @model_validator(mode="after")
    def _tiers_ascend(self) -> Config:
        tiers = (self.max_drawdown_percent, self.drawdown_alert_percent, self.drawdown_halt_percent)
        if not tiers[0] <= tiers[1] <= tiers[2]:
            raise ValueError(
                "MAX_DRAWDOWN_PERCENT <= DRAWDOWN_ALERT_PERCENT <= DRAWDOWN_HALT_PERCENT: "
                f"expected ascending values, was {tiers[0]}, {tiers[1]}, {tiers[2]}"
            )
        return self

    @model_validator(mode="after")
    def _scaled_stops_are_prices(self) -> Config:
        if self.exit_scaling == "fixed":
            return self
        for name in ("stop_loss_percent", "trailing_distance_percent"):
            percent = getattr(self, name)
            if percent * MAX_EXIT_SCALE >= 100:
                raise ValueError(
                    f"{name.upper()}: expected less than {100 / MAX_EXIT_SCALE:f} where "
                    f"EXIT_SCALING is volatility, was {percent}"
                )
        return self

    @model_validator(mode="after")
    def _universe_can_be_chosen(self) -> Config:
        if AUTO in self.symbols and self.symbols != (AUTO,):
            raise ValueError(f"SYMBOLS: expected auto alone or names, was {','.join(self.symbols)}")
        if not self.chooses_symbols:
            return self
        if self.universe_backup_venues >= len(self.venues):
            raise ValueError(
                f"UNIVERSE_BACKUP_VENUES: expected less than the {len(self.venues)} VENUES, "
                f"was {self.universe_backup_venues}"
            )
        if self.universe_min_volatility_percent >= self.universe_max_volatility_percent:
            raise ValueError(
                "UNIVERSE_MIN_VOLATILITY_PERCENT < UNIVERSE_MAX_VOLATILITY_PERCENT: was "
                f"{self.universe_min_volatility_percent}, {self.universe_max_volatility_percent}"
            )
        return self

    @model_validator(mode="after")
    def _live_never_meets_a_stand_in(self) -> Config:
        if self.simulated_wire_url is None:
            return self
        if self.enable_live_trading:
            raise ValueError(
                "SIMULATED_WIRE_URL: expected to be unset where ENABLE_LIVE_TRADING is true, "
                f"was {self.simulated_wire_url}"
            )
        host = urlsplit(self.simulated_wire_url).hostname
        if host not in ("127.0.0.1", "localhost", "::1"):
            raise ValueError(
                "SIMULATED_WIRE_URL: expected an address of this machine, "
                f"was {self.simulated_wire_url}"
            )
        return self

    @property
    def trading_mode(self) -> TradingMode:
        """``simulated`` sends orders to the local stand-ins, ``paper`` sends none at all.

        ``live`` needs an arm token in the ledger as well, which execution asks for.
        """
        if self.simulated_wire_url is not None:
            return "simulated"
        return "live" if self.enable_live_trading else "paper"

    @property
    def chooses_symbols(self) -> bool:
        """Whether ``SYMBOLS`` is ``auto``: the loop chooses the universe, see ``Run.pairs``."""
        return self.symbols == (AUTO,)

    @property
    def pairs(self) -> tuple[str, ...]:
        """The configured symbols as ccxt names them, for example ``BTC/USDT``.

        None where the loop chooses them: ``Run.pairs`` and ``Run.universe`` tell what a run trades.
        """
        if self.chooses_symbols:
            return ()
        return tuple(f"{base}/{self.quote_currency}" for base in self.symbols)

    def secrets(self) -> tuple[str, ...]:
        """The values that must never reach a log, an export or an exception."""
        values = (getattr(self, name) for name in type(self).model_fields)
        return tuple(v.get_secret_value() for v in values if isinstance(v, SecretStr))


PROFILES: dict[str, dict[str, str]] = {
    "conservative": {},
    "aggressive": {
        "MAX_POSITION_SIZE": "500",
        "MAX_DAILY_LOSS": "250",
        "MAX_POSITIONS": "10",
        "KELLY_FRACTION": "0.5",
        "AI_CONFIDENCE_THRESHOLD": "0.6",
        "STOP_LOSS_PERCENT": "3",
        "TAKE_PROFIT_PERCENT": "8",
        "CORE_SLEEVE_PERCENT": "20",
    },
}
"""What a profile changes. A variable that is set by hand wins over its profile."""

VARIABLES: tuple[str, ...] = tuple(sorted(name.upper() for name in Config.model_fields))
SECRET_VARIABLES: tuple[str, ...] = tuple(
    sorted(
        name.upper()
        for name, field in Config.model_fields.items()
        if "SecretStr" in str(field.annotation)
    )
)

# `$auth` fields of Pipedream's connected accounts and the variables that they stand for
ACCOUNT_FIELDS: dict[tuple[str, str], str] = {
    ("openai", "api_key"): "OPENAI_API_KEY",
    ("anthropic", "api_key"): "ANTHROPIC_API_KEY",
    ("slack_bot", "bot_token"): "SLACK_BOT_TOKEN",
    ("slack", "oauth_access_token"): "SLACK_BOT_TOKEN",
    ("coinbase_developer_platform", "api_key_id"): "COINBASE_API_KEY",
    ("coinbase_developer_platform", "secret_key"): "COINBASE_SECRET",
}


def load(environ: Mapping[str, str], inputs: Mapping[str, Any] | None = None) -> Config:
    """Read the configuration of one run.

    Args:
        environ: environment variables; only the known names are looked at, but a name that
            resembles a known one is refused as a slip of the pen.
        inputs: ``pd.inputs`` of the step; connected accounts fill what no variable sets.

    Raises:
        ConfigurationError: names each variable, its value and what was expected.
    """
    _refuse_misspelt(environ)
    given = {name: environ[name] for name in VARIABLES if environ.get(name, "") != ""}
    return _validated(_from_accounts(inputs or {}) | given)


def load_file_values(values: Mapping[str, str | None], path: Path) -> dict[str, str]:
    """The values of a ``.env`` file, in which every name has to be known."""
    for name in values:
        if name not in VARIABLES:
            raise ConfigurationError(f"{path}: {name}: not a known variable{_nearest(name)}")
    return {name: value for name, value in values.items() if value is not None}


def _validated(given: dict[str, str]) -> Config:
    profile = given.get("PROFILE", "conservative")
    merged = PROFILES.get(profile, {}) | given
    try:
        return _build(tuple(sorted(merged.items())))
    except ValidationError as error:
        raise ConfigurationError(_explain(error, merged)) from None


@functools.lru_cache(maxsize=8)
def _build(items: tuple[tuple[str, str], ...]) -> Config:
    return Config.model_validate({name.lower(): value for name, value in items})


def _from_accounts(inputs: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, account in inputs.items():
        auth = account.get("$auth") if isinstance(account, Mapping) else None
        if not isinstance(auth, Mapping):
            continue
        if name == "postgresql":
            found["DATABASE_URL"] = _postgres_url(auth)
        for (app, field), variable in ACCOUNT_FIELDS.items():
            if app == name and auth.get(field):
                found[variable] = str(auth[field])
    return found


def _postgres_url(auth: Mapping[str, Any]) -> str:
    from urllib.parse import quote

    missing = [f for f in ("user", "password", "host", "port", "database") if not auth.get(f)]
    if missing:
        raise ConfigurationError(f"account postgresql: expected the fields {', '.join(missing)}")
    user, password = quote(str(auth["user"]), safe=""), quote(str(auth["password"]), safe="")
    return f"postgresql://{user}:{password}@{auth['host']}:{auth['port']}/{auth['database']}"


def _refuse_misspelt(environ: Mapping[str, str]) -> None:
    for name in environ:
        if _is_misspelt(name):
            raise ConfigurationError(f"{name}: not a known variable{_nearest(name)}")


@functools.lru_cache(maxsize=1024)  # the same names come with every run of a warm process
def _is_misspelt(name: str) -> bool:
    known = name in VARIABLES
    return not known and bool(difflib.get_close_matches(name, VARIABLES, n=1, cutoff=0.9))


def _nearest(name: str) -> str:
    matches = difflib.get_close_matches(name.upper(), VARIABLES, n=1, cutoff=0.6)
    return f"; did you mean {matches[0]}?" if matches else ""


def _explain(error: ValidationError, given: Mapping[str, str]) -> str:
    return "; ".join(_lines(error, given))


def _lines(error: ValidationError, given: Mapping[str, str]) -> Iterable[str]:
    for problem in error.errors():
        name = str(problem["loc"][0]).upper() if problem["loc"] else ""
        if not name:
            yield problem["msg"].removeprefix("Value error, ")
            continue
        shown = "(secret)" if name in SECRET_VARIABLES else repr(given.get(name, problem["input"]))
        yield f"{name}: was {shown}; {problem['msg'][:1].lower()}{problem['msg'][1:]}"
''')


###################################################################################################
_LOADER.modules["shared.errors"] = ("shared/errors.py", r'''"""Errors, each named for the reaction it demands of the caller."""

from __future__ import annotations


class TradingLoopError(Exception):
    """Base of all errors that this project raises on purpose."""


class ConfigurationError(TradingLoopError):
    """Stop before anything starts; a person has to correct the configuration."""


class DataUnavailable(TradingLoopError):
    """An input is missing, stale or malformed: whatever needs it abstains, the rest goes on."""


class LedgerUnavailable(TradingLoopError):
    """The ledger cannot be reached: end the run now, send nothing; the next run tries again."""


class LeaseLost(TradingLoopError):
    """Another run has taken over: write nothing, send nothing, end quietly."""


class OrderDenied(TradingLoopError):
    """A rule refuses an order before it is sent. Nothing went out.

    Attributes:
        code: ``CATEGORY_CONDITION``.
        detail: the numbers, as ``key=value`` pairs.
    """

    def __init__(self, code: str, **detail: object) -> None:
        self.code = code
        self.detail = detail
        pairs = ", ".join(f"{key}={value}" for key, value in detail.items())
        super().__init__(f"{code}: {pairs}" if pairs else code)


class VenueError(TradingLoopError):
    """A venue did not answer as it should. Base of the three outcomes below."""


class VenueUnavailable(VenueError):
    """A read failed; use another venue or abstain. Never raised for an order that was sent."""


class OrderRejected(VenueError):
    """The venue has definitely refused an order: it does not exist and will not."""


class OrderUnknown(VenueError):
    """An order may or may not exist: block its symbol, count it in full, resolve it by query."""


class ModelUnavailable(TradingLoopError):
    """A model gave no usable answer: the decision is HOLD."""
''')


###################################################################################################
_LOADER.modules["shared.execution"] = ("shared/execution/__init__.py", r'''"""Orders that are never lost and never doubled: venues, intents, reconciliation, quality."""
''')


###################################################################################################
_LOADER.modules["shared.execution.bands"] = ("shared/execution/bands.py", r'''"""Whether a limit price lies within its venue's price band, and how it is brought inside.

The band is a multiple of an average that only the venue knows (``MarketRules.price_band``). It is
wide on most markets, and asking for the average takes a request, so it is asked for only where it
can matter. What is bought outside the band is denied by the gate. What is sold is brought inside:
a position must not stay unsold, or without its stop, for the sake of a price.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from shared.errors import VenueUnavailable
from shared.execution.intents import Intent
from shared.execution.rounding import ceil_to, floor_to
from shared.execution.types import MarketRules, OrderTicket, PriceBand, Side
from shared.execution.venues.base import Venue
from shared.market.types import Book

MOST_TIMES_APART = Decimal(4)
"""So many times as high as the mid, or as low, the average of five minutes may be unasked: the
price has fallen by three quarters in five minutes, or risen fourfold. Beyond that the venue itself
refuses, definitely, and its average has followed the price before it is tried again."""

MARGIN_BPS = Decimal(10)
"""How far inside the band a price is put: the average moves on until the order arrives."""


def limits(band: PriceBand, side: Side, average: Decimal) -> tuple[Decimal, Decimal]:
    """The lowest and the highest price that the venue takes, both included."""
    if side == "buy":
        return average * band.lowest_buy_multiple, average * band.highest_buy_multiple
    return average * band.lowest_sell_multiple, average * band.highest_sell_multiple


def is_sure(band: PriceBand, side: Side, price: Decimal, mid: Decimal) -> bool:
    """Whether ``price`` is inside whatever the average is, up to ``MOST_TIMES_APART`` the mid."""
    low, _ = limits(band, side, mid * MOST_TIMES_APART)
    _, high = limits(band, side, mid / MOST_TIMES_APART)
    return low <= price <= high


def average_for(
    venue: Venue, side: Side, price: Decimal, rules: MarketRules, book: Book
) -> Decimal | None:
    """The venue's average, where ``price`` is to be judged by it.

    ``None`` where the venue has no band, the price is surely inside, or the venue does not answer:
    the gate says what that means for the order.
    """
    band = rules.price_band
    if band is None or is_sure(band, side, price, Decimal(str(book.mid))):
        return None
    try:
        return venue.average_price(rules.symbol)
    except VenueUnavailable:
        return None  # counted in the call log


def has_limit(ticket: OrderTicket) -> bool:
    """Whether a price of the ticket goes over the wire: one at market has none to be judged."""
    return ticket.order_type in ("limit", "stop_limit")


def fitted_sale(intent: Intent, rules: MarketRules, average: Decimal | None) -> Intent:
    """The sale with its limit price inside the band; unchanged where it is, or nobody knows."""
    if rules.price_band is None or average is None:
        return intent
    ticket = intent.ticket
    low, high = limits(rules.price_band, "sell", average)
    lowest = _inside(low, rules)
    highest = floor_to(high * (1 - MARGIN_BPS / 10_000), rules.price_tick)
    price = min(max(ticket.limit_price, lowest), highest)
    return replace(intent, ticket=replace(ticket, limit_price=price))


def lowest_sale(rules: MarketRules, average: Decimal | None) -> Decimal | None:
    """The lowest price at which a sale is put into the band; ``None`` where nobody knows of one."""
    if rules.price_band is None or average is None:
        return None
    low, _ = limits(rules.price_band, "sell", average)
    return _inside(low, rules)


def _inside(low: Decimal, rules: MarketRules) -> Decimal:
    return ceil_to(low * (1 + MARGIN_BPS / 10_000), rules.price_tick)
''')


###################################################################################################
_LOADER.modules["shared.execution.cancelling"] = ("shared/execution/cancelling.py", r'''"""Send a cancel, and let the gate know that one was sent."""

from __future__ import annotations

from shared.execution.venues.base import Venue
from shared.ledger import events
from shared.ledger.connection import Ledger


def cancel(ledger: Ledger, venue: Venue, venue_order_id: str, symbol: str) -> None:
    """Note the cancel, then ask the venue for it. Whether it came in time is seen by its order.

    It is noted first, so that one whose process dies meanwhile counts in the rates too.

    Raises:
        VenueUnavailable: it was refused, or nobody knows.
    """
    detail = {"venue": venue.name, "symbol": symbol, "venue_order_id": venue_order_id}
    events.record(ledger, events.CANCEL_SENT, detail)
    venue.cancel(venue_order_id, symbol)
''')


###################################################################################################
_LOADER.modules["shared.execution.desk"] = ("shared/execution/desk.py", r'''"""The execution desk: the one place through which positions are opened, worked and left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal

from shared import clock
from shared.errors import VenueUnavailable
from shared.execution.entries import entering, parents, slices
from shared.execution.exits import leaving, protecting, reducing
from shared.execution.exits.closing import close_finished_positions
from shared.execution.exits.protecting import Protection
from shared.execution.reconciling.reconcile import Reconciliation, compare, reconcile
from shared.execution.types import EntryOrder, OrderResult
from shared.execution.venues.base import Venue
from shared.execution.venues.registry import open_venues
from shared.market.types import Quote
from shared.run import Run

_FRESH = timedelta(seconds=10)


class Desk:
    """Opens, works and leaves positions on behalf of one run.

    Attributes:
        venues: the run's venues by name, the primary one first.
        reconciliation: what ``reconcile`` found, or ``None`` before it has run.
        protection: what ``protect`` has done in this run, and what was true when it last ended.
    """

    def __init__(self, run: Run, venues: Mapping[str, Venue]) -> None:
        self._run = run
        self.venues = dict(venues)
        self.reconciliation: Reconciliation | None = None
        self.protection = Protection()

    @classmethod
    def open(cls, run: Run) -> Desk:
        """A desk on the venues of the configuration."""
        return cls(run, open_venues(run))

    def reconcile(self, *, compare_accounts: bool = True) -> Reconciliation:
        """First in every run that may order. New risk goes only where all was compared."""
        found = reconcile(self._run, self.venues, compare_accounts=compare_accounts)
        self.reconciliation = found
        return found

    def enter(self, order: EntryOrder) -> str:
        """Write a position and its parent order; ``work`` sends the slices that are due."""
        return entering.enter(self._run, self.venues, order)

    def add(self, position_id: int, size_quote: Decimal, decision_mid: Decimal, reason: str) -> str:
        """Buy more for an open position, by a parent order like an entry's."""
        return entering.add(
            self._run,
            self.venues,
            position_id,
            size_quote=size_quote,
            decision_mid=decision_mid,
            reason=reason,
        )

    def reduce(self, position_id: int, quantity: Decimal, decision_mid: Decimal, key: str) -> str:
        """Sell a part of a position by a parent order; a repeat of ``key`` finds the same one."""
        return reducing.reduce(
            self._run,
            self.venues,
            position_id,
            quantity=quantity,
            decision_mid=decision_mid,
            key=key,
        )

    def work(self) -> list[OrderResult]:
        """Send the slices that are due; end parents that are complete, over or not allowed."""
        working = parents.working(self._run.ledger)
        venues = self._venues_for_risk() if working else {}
        kept_out = {name: venue for name, venue in self.venues.items() if name not in venues}
        return [
            result
            for parent in working
            for result in slices.work(
                self._run, venues, parent, may_buy=bool(venues), kept_out=kept_out
            )
        ]

    def exit(
        self,
        position_id: int,
        *,
        reason: str,
        fraction: Decimal = Decimal(1),
    ) -> list[OrderResult]:
        """Sell ``fraction`` of what a position really holds; may be repeated in every run."""
        return leaving.leave(self._run, self.venues, position_id, reason=reason, fraction=fraction)

    def protect(self) -> Protection:
        """Let stops rest for all that is held: after reconciliation, and after anything was done.

        The first call mends what a run that died has left without a stop.
        """
        protecting.protect(self._run, self.venues, self.protection)
        return self.protection

    def settle(self) -> list[int]:
        """Close the positions that hold nothing sellable any more; returns their ids."""
        return close_finished_positions(self._run, self.venues)

    def cancel_entries(self, reason: str) -> int:
        """End every parent that buys and cancel what rests on a venue; returns how many."""
        return leaving.cancel_entries(self._run, self.venues, reason)

    def quotes(self, symbols: Sequence[str]) -> dict[str, Quote]:
        """Best bid and ask by symbol, not older than 10 s.

        What the scanner stored in this minute serves; the rest is asked of the primary venue, or
        of the next one that answers.
        """
        found = self._stored_quotes(symbols)
        for venue in self.venues.values():
            missing = [symbol for symbol in symbols if symbol not in found]
            if not missing:
                break
            try:
                found |= venue.quotes(missing)
            except VenueUnavailable:
                continue  # counted in the call log; the next venue is asked
        return found

    def _stored_quotes(self, symbols: Sequence[str]) -> dict[str, Quote]:
        rows = self._run.ledger.query(
            "SELECT venue, symbol, bid, ask, at FROM prices "
            "WHERE pod = %s AND symbol = ANY(%s) AND at >= %s",
            (self._run.ledger.pod, list(symbols), clock.now() - _FRESH),
        )
        order = {name: number for number, name in enumerate(self.venues)}
        usable = [row for row in rows if row["venue"] in order]
        usable.sort(key=lambda row: -order[row["venue"]])  # the primary venue overwrites others
        return {
            row["symbol"]: Quote(float(row["bid"]), float(row["ask"]), clock.to_ms(row["at"]))
            for row in usable
        }

    def _venues_for_risk(self) -> dict[str, Venue]:
        """The venues that were reconciled; a venue that is out of reach is left to its backups."""
        done = self.reconciliation
        if done is None:
            done = self.reconcile()
        elif not done.accounts_compared:
            compare(self._run, self.venues, done)
        return {name: venue for name, venue in self.venues.items() if done.allows_risk_on(name)}
''')


###################################################################################################
_LOADER.modules["shared.execution.entries"] = ("shared/execution/entries/__init__.py", r'''"""From an approved size to slices on venues: positions opened, worked, added to."""
''')


###################################################################################################
_LOADER.modules["shared.execution.entries.entering"] = ("shared/execution/entries/entering.py", r'''"""Open a position, or add to one: a row for the position and a parent order to be worked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from shared import clock
from shared.errors import DataUnavailable, OrderDenied, VenueUnavailable
from shared.execution.entries import parents
from shared.execution.entries.parents import NewParent
from shared.execution.types import EntryOrder, Exits, Purpose, Urgency
from shared.execution.venues.base import Venue
from shared.ledger import arming
from shared.run import Run

_ROOM_ABOVE_MINIMUM = Decimal("1.1")  # rounding down and a moved price must leave it sendable


@dataclass(frozen=True)
class _Buy:
    """What a parent order is to buy, and on whose word."""

    symbol: str
    size_quote: Decimal
    decision_mid: Decimal
    purpose: Purpose
    reason: str
    urgency: Urgency
    decision_id: str | None


def enter(run: Run, venues: Mapping[str, Venue], order: EntryOrder) -> str:
    """Write position and parent in one transaction; a repeat of decision or key finds them.

    Returns:
        The parent's id.

    Raises:
        OrderDenied: no venue takes an order as small as the whole size, or none tells its minimum;
            or the symbol's position is being left; or the venues are live and the pod not armed.
    """
    smallest = smallest_buy_quote(venues, order.symbol, order.decision_mid)
    if order.size_quote < smallest:
        raise OrderDenied("SIZE_BELOW_MINIMUM", size=order.size_quote, minimum=smallest)
    buy = _Buy(
        order.symbol,
        order.size_quote,
        order.decision_mid,
        "entry" if order.sleeve == "tactical" else "rebalance",
        order.strategy,
        order.urgency,
        order.decision_id,
    )
    with run.ledger.transaction():
        run.guard()
        _deny_unless_armed(run, venues)
        position_id = _position_for(run, order)
        name = order.decision_id or f"{position_id}:{clock.iso(run.event_at)}"
        key = order.key or f"entry:{run.ledger.pod}:{name}"
        parent = _parent(run, venues, key, position_id, buy)
        parents.insert(run.ledger, parent)
    return parent.parent_id


def add(
    run: Run,
    venues: Mapping[str, Venue],
    position_id: int,
    *,
    size_quote: Decimal,
    decision_mid: Decimal,
    reason: str,
) -> str:
    """Buy more for an open position, once a run at most. Returns the parent's id.

    Raises:
        DataUnavailable: the position is not open, or is being left.
        OrderDenied: as ``enter``.
    """
    ledger = run.ledger
    with ledger.transaction():
        run.guard()
        _deny_unless_armed(run, venues)
        row = ledger.one(
            "SELECT symbol FROM positions WHERE position_id = %s AND closed_at IS NULL "
            "AND exit_reason IS NULL FOR UPDATE",
            (position_id,),
        )
        if row is None:
            raise DataUnavailable(
                f"position {position_id}: expected to be open and to stay, was not"
            )
        buy = _Buy(row["symbol"], size_quote, decision_mid, "entry", reason, "normal", None)
        key = f"add:{ledger.pod}:{position_id}:{clock.iso(run.event_at)}"
        parent = _parent(run, venues, key, position_id, buy)
        parents.insert(ledger, parent)
    return parent.parent_id


def smallest_buy_quote(venues: Mapping[str, Venue], symbol: str, mid: Decimal) -> Decimal:
    """The least that may be entered, in quote: the smallest order of the easiest venue, with room.

    Raises:
        OrderDenied: no venue tells its minimum.
    """
    return min(_smallest_notionals(venues, symbol, mid)) * _ROOM_ABOVE_MINIMUM


def _deny_unless_armed(run: Run, venues: Mapping[str, Venue]) -> None:
    """The gate would deny each slice; what nobody may buy is not planned either."""
    if any(venue.mode == "live" for venue in venues.values()):
        arming.demand(run.ledger)


def _position_for(run: Run, order: EntryOrder) -> int:
    ledger = run.ledger
    present = ledger.one(
        "SELECT position_id, exit_reason FROM positions WHERE pod = %s AND symbol = %s "
        "AND sleeve = %s AND closed_at IS NULL FOR UPDATE",
        (ledger.pod, order.symbol, order.sleeve),
    )
    if present is not None and present["exit_reason"] is not None:
        # bought now, it would be sold in the next minute, for two fees
        raise OrderDenied("POSITION_LEAVING", symbol=order.symbol, why=present["exit_reason"])
    row = present or ledger.one(
        "INSERT INTO positions (pod, symbol, sleeve, strategy, decision_id, opened_at, "
        "stop_price, target_price, trailing_activation_price, trailing_distance_percent, "
        "time_stop_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING position_id",
        (
            ledger.pod,
            order.symbol,
            order.sleeve,
            order.strategy,
            order.decision_id,
            clock.now(),
            order.exits.stop_price,
            *_exits_beyond_the_stop(order),
        ),
    )
    if row is None:
        raise DataUnavailable("positions: expected the new row, was nothing")
    return int(row["position_id"])


def _exits_beyond_the_stop(order: EntryOrder) -> tuple[object, ...]:
    """Target, activation and distance of the trailing stop, time stop; nulls where none is set."""
    if not isinstance(order.exits, Exits):
        return (None, None, None, None)
    exits = order.exits
    return (
        exits.target_price,
        exits.trailing_activation_price,
        exits.trailing_distance_percent,
        exits.time_stop_at,
    )


def _parent(
    run: Run, venues: Mapping[str, Venue], parent_id: str, position_id: int, buy: _Buy
) -> NewParent:
    config = run.config
    # Sized at the collar's worst price against the decision's mid, so that a price that moves
    # within the collar stays within what was approved; beyond that the gate's limits bind.
    worst_price = buy.decision_mid * (1 + config.price_collar_bps / 10_000)
    slices = 1
    if buy.urgency == "normal":
        # By the venue that asks for most, so that a slice has every venue to choose from.
        minimum = max(_smallest_notionals(venues, buy.symbol, buy.decision_mid))
        slices = parents.slices_for(buy.size_quote, config.twap_slices, minimum)
    return NewParent(
        parent_id=parent_id,
        position_id=position_id,
        decision_id=buy.decision_id,
        symbol=buy.symbol,
        side="buy",
        purpose=buy.purpose,
        reason=buy.reason,
        quantity=buy.size_quote / worst_price,
        decision_mid=buy.decision_mid,
        urgency=buy.urgency,
        slices=slices,
        interval_seconds=config.twap_interval_seconds,
    )


def _smallest_notionals(venues: Mapping[str, Venue], symbol: str, mid: Decimal) -> list[Decimal]:
    """What the smallest order costs on each venue that tells it; the others take none now."""
    known = []
    for venue in venues.values():
        try:
            rules = venue.rules(symbol)
        except VenueUnavailable:
            continue  # counted in the call log
        smallest_quantity = max(rules.min_quantity, rules.quantity_step)
        known.append(max(rules.min_notional, smallest_quantity * mid))
    if not known:
        raise OrderDenied("MARKET_RULES_MISSING", symbol=symbol)
    return known
''')


###################################################################################################
_LOADER.modules["shared.execution.entries.liquidity"] = ("shared/execution/entries/liquidity.py", r'''"""Where a symbol can be bought now: which venues are worth asking, and what their books offer.

A book costs a request, so those of the venues that cannot win are not read: the one that should be
cheapest by its stored quote comes first, and another only if its quote is below the dearest level
that the whole quantity would need there, or if not all of it fits. Several are read side by side,
each in a thread of its own, for each has its own client; nothing there touches the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from shared import clock
from shared.errors import OrderDenied, VenueUnavailable
from shared.execution.entries.offers import Offer
from shared.execution.types import MarketRules
from shared.execution.venues.base import Venue
from shared.ledger.connection import Row
from shared.market.types import Book
from shared.risk.controls.prices import room_in
from shared.run import Run

_PRICE_MAX_AGE = timedelta(seconds=90)
_HEALTH_WINDOW = timedelta(minutes=15)

_FAILURE_COST_BPS = Decimal(10)
"""What an order that fails costs: the slice waits for a minute, and 10 bps is about one standard
deviation of a minute's return at 70 % annualised volatility (0.7 / sqrt(525,600))."""

# Buys under way are reckoned as the gate does. The newest run of a venue speaks for it.
_STANDINGS = """
SELECT q.venue, q.ask,
       coalesce((SELECT b.amount FROM balances b WHERE b.pod = %(pod)s AND b.venue = q.venue
                 AND b.currency = %(quote)s), 0) AS cash,
       coalesce((SELECT sum((l.quantity - l.filled_quantity) * l.limit_price) FROM order_log l
                 WHERE l.pod = %(pod)s AND l.venue = q.venue AND l.side = 'buy'
                   AND (l.state IN ('SENDING', 'UNKNOWN') OR l.order_status = 'open')), 0)
           AS pending,
       coalesce(c.calls, 0) AS calls, coalesce(c.failures, 0) AS failures,
       coalesce(c.newest_failed, false) AS newest_failed
FROM prices q LEFT JOIN (
    SELECT venue, sum(calls) AS calls, sum(failures) AS failures,
           (array_agg(failures >= calls ORDER BY at DESC, run_id DESC))[1] AS newest_failed
    FROM venue_calls WHERE pod = %(pod)s AND at >= %(healthy_since)s GROUP BY venue
) c ON c.venue = q.venue
WHERE q.pod = %(pod)s AND q.symbol = %(symbol)s AND q.at >= %(priced_since)s
  AND q.venue = ANY(%(venues)s)
  AND NOT EXISTS (SELECT 1 FROM venue_limits v
                  WHERE v.venue = q.venue AND v.blocked_until > %(now)s)
"""


@dataclass(frozen=True)
class Candidate:
    """A venue that may be bought on, before its book is read.

    Attributes:
        funds: free quote currency, less what buys under way may still take.
        penalty_bps: the failed share of its recent calls, priced.
        unit_cost: the stored ask with fee and penalty.
        smallest_quantity: below this the venue takes nothing, at any price within the collar.
    """

    venue: Venue
    rules: MarketRules
    funds: Decimal
    penalty_bps: Decimal
    unit_cost: Decimal
    smallest_quantity: Decimal


class Liquidity:
    """The offers for buying one symbol in one run; books are read when they are needed."""

    def __init__(
        self, candidates: Sequence[Candidate], symbol: str, collar_bps: Decimal, *, passive: bool
    ) -> None:
        self._unread = sorted(candidates, key=lambda found: found.unit_cost)
        self._symbol = symbol
        self._collar_bps = collar_bps
        self._passive = passive
        self._offers: dict[str, Offer] = {}

    def offers(self, quantity: Decimal) -> list[Offer]:
        """What can win a part of ``quantity``, cheapest quote first; unreadable venues are out."""
        while not self._offers and (able := self._able(quantity)):
            self._read(able[:1])
        costs = [offer.dearest_cost(quantity) for offer in self._offers.values()]
        bar = min((cost for cost in costs if cost is not None), default=None)
        able = self._able(quantity)
        self._read([found for found in able if bar is None or found.unit_cost < bar])
        return list(self._offers.values())

    def drop(self, venue: str) -> Offer:
        """Take a venue out, because it has had its order; returns what it had offered."""
        return self._offers.pop(venue)

    def _able(self, quantity: Decimal) -> list[Candidate]:
        return [found for found in self._unread if found.smallest_quantity <= quantity]

    def _read(self, candidates: Sequence[Candidate]) -> None:
        self._unread = [found for found in self._unread if found not in candidates]
        if len(candidates) > 1:
            with ThreadPoolExecutor(len(candidates), thread_name_prefix="books") as pool:
                books = list(pool.map(self._book, candidates))
        else:
            books = [self._book(found) for found in candidates]
        for found, book in zip(candidates, books, strict=True):
            if book is not None:
                self._offers[found.rules.venue] = Offer(
                    rules=found.rules,
                    book=book,
                    side="buy",
                    # the gate lets an order take a share of the book only; the other venues serve
                    funds=min(found.funds, self._room_quote(book)),
                    collar_bps=self._collar_bps,
                    passive=self._passive,
                    penalty_bps=found.penalty_bps,
                )

    def _book(self, found: Candidate) -> Book | None:
        try:
            book = found.venue.book(self._symbol)
            self._room_quote(book)
        except VenueUnavailable:
            return None  # nothing was sent: the other venues serve; counted in the call log
        except OrderDenied:
            return None  # made of numbers that are none: the gate would refuse it
        return book

    def _room_quote(self, book: Book) -> Decimal:
        """What an order may spend at most; at its limit price that buys a little less."""
        return room_in(book, self._collar_bps) * Decimal(str(book.asks[0][0]))


def candidates_for_buying(run: Run, venues: Mapping[str, Venue], symbol: str) -> list[Candidate]:
    """The venues that can take the smallest order and have a price not older than 90 s.

    A venue takes nothing while it is blocked in ``venue_limits``, while all calls of its newest
    run have failed, while the market is closed there, or while it does not tell its rules.
    """
    now = clock.now()
    rows = run.ledger.query(
        _STANDINGS,
        {
            "pod": run.ledger.pod,
            "symbol": symbol,
            "quote": run.config.quote_currency,
            "venues": list(venues),
            "now": now,
            "priced_since": now - _PRICE_MAX_AGE,
            "healthy_since": now - _HEALTH_WINDOW,
        },
    )
    found = (_candidate(run, venues[row["venue"]], symbol, row) for row in rows)
    return [candidate for candidate in found if candidate is not None]


def _candidate(run: Run, venue: Venue, symbol: str, row: Row) -> Candidate | None:
    penalty_bps = _penalty_bps(run, row)
    if penalty_bps is None:
        return None
    try:
        rules = venue.rules(symbol)
    except VenueUnavailable:
        return None  # it does not list the symbol, or does not answer: the others serve
    if not rules.is_open:
        return None
    with_fee = 1 + rules.taker_fee_bps / 10_000
    dearest_price = row["ask"] * (1 + run.config.price_collar_bps / 10_000)
    smallest = max(rules.min_quantity, rules.quantity_step, rules.min_notional / dearest_price)
    funds = row["cash"] - row["pending"] * with_fee
    if funds < smallest * row["ask"] * with_fee:
        return None
    unit_cost = row["ask"] * (with_fee + penalty_bps / 10_000)
    return Candidate(venue, rules, funds, penalty_bps, unit_cost, smallest)


def _penalty_bps(run: Run, row: Row) -> Decimal | None:
    """The price of the failed share of a venue's recent calls; ``None`` where it takes nothing."""
    calls, failures = Decimal(row["calls"]), Decimal(row["failures"])
    newest_failed = row["newest_failed"]
    own = run.calls.by_service.get(row["venue"])  # of this step, not in the ledger yet
    if own is not None:
        calls, failures = calls + own.calls, failures + own.failures
        newest_failed = own.failures >= own.calls
    if newest_failed:
        return None
    return _FAILURE_COST_BPS * failures / calls if calls else Decimal(0)
''')


###################################################################################################
_LOADER.modules["shared.execution.entries.offers"] = ("shared/execution/entries/offers.py", r'''"""What one venue offers for a symbol now: its book, its rules, and what we have there to spend.

Levels are those within the price collar. Behind the last shown one a further level is assumed, a
little worse, because a book is read only so deep; it is the expected slippage beyond the depth.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property

from shared.execution.rounding import floor_to, limit_price
from shared.execution.types import MarketRules, Side
from shared.market.types import Book

SLIPPAGE_ALLOWANCE_BPS = Decimal(10)

Level = tuple[Decimal, Decimal]
"""Price and quantity."""


@dataclass(frozen=True)
class Offer:
    """One venue's side of a routing decision.

    Attributes:
        funds: what may be spent there: quote currency for a buy, base for a sell.
        collar_bps: how far from this book's mid a price may lie.
        passive: only the best level is taken (slippage has been high).
        penalty_bps: what poor health is expected to cost, on top of the taker fee.
    """

    rules: MarketRules
    book: Book
    side: Side
    funds: Decimal
    collar_bps: Decimal
    passive: bool = False
    penalty_bps: Decimal = Decimal(0)

    @property
    def venue(self) -> str:
        return self.rules.venue

    @cached_property
    def shown(self) -> tuple[Level, ...]:
        """The levels that may be taken, best first."""
        levels = self.book.asks if self.side == "buy" else self.book.bids
        exact = ((Decimal(str(price)), Decimal(str(quantity))) for price, quantity in levels)
        within = tuple(level for level in exact if self._is_within(level[0]))
        return within[:1] if self.passive else within

    def levels(self, quantity: Decimal) -> tuple[Level, ...]:
        """``shown`` and, where it may be, the assumed level behind it, for up to ``quantity``."""
        if self.passive or not self.shown:
            return self.shown
        last = self.shown[-1][0] * (1 + self._sign * SLIPPAGE_ALLOWANCE_BPS / 10_000)
        return (*self.shown, (last, quantity)) if self._is_within(last) else self.shown

    def cost(self, price: Decimal) -> Decimal:
        """What a unit costs at ``price`` with fee and penalty; a sale's proceeds are negative."""
        extra = (self.rules.taker_fee_bps + self.penalty_bps) / 10_000
        return self._sign * price * (1 + self._sign * extra)

    def limit_price(self, quantity: Decimal) -> Decimal:
        """The price that an order of ``quantity`` is given, on the tick grid."""
        price = marketable_price(
            self.book, self.side, quantity, self.collar_bps, passive=self.passive
        )
        return limit_price(price, self.side, self.rules.price_tick)

    def is_large_enough(self, quantity: Decimal) -> bool:
        """Whether the venue takes an order so small. A sale is valued at the collar's worst."""
        price = self.limit_price(quantity) if self.side == "buy" else self._bound
        rules = self.rules
        return quantity >= rules.min_quantity and quantity * price >= rules.min_notional

    def is_affordable(self, quantity: Decimal) -> bool:
        """Whether the funds cover it at its limit price, fee included, as the gate reckons."""
        if self.side == "sell":
            return quantity <= self.funds
        with_fee = 1 + self.rules.taker_fee_bps / 10_000
        return quantity * self.limit_price(quantity) * with_fee <= self.funds

    def dearest_cost(self, quantity: Decimal) -> Decimal | None:
        """The unit cost of the worst level that ``quantity`` needs; ``None`` if not all fits here.

        ``quantity`` is taken on the venue's own grid.
        """
        left = floor_to(quantity, self.rules.quantity_step)
        if left <= 0 or not (self.is_large_enough(left) and self.is_affordable(left)):
            return None
        for price, available in self.levels(left):
            left -= available
            if left <= 0:
                return self.cost(price)
        return None

    @property
    def _sign(self) -> int:
        return 1 if self.side == "buy" else -1

    @cached_property
    def _bound(self) -> Decimal:
        return _bound(self.book, self.side, self.collar_bps)

    def _is_within(self, price: Decimal) -> bool:
        return price <= self._bound if self.side == "buy" else price >= self._bound


def marketable_price(
    book: Book, side: Side, quantity: Decimal, collar_bps: Decimal, *, passive: bool
) -> Decimal:
    """The limit price at which an immediate-or-cancel order can fill in full, within the collar.

    Args:
        collar_bps: how far from the mid the price may lie at most.
        passive: no allowance for levels behind the best one (slippage has been high).
    """
    levels = book.asks if side == "buy" else book.bids
    sign = 1 if side == "buy" else -1
    left, price = quantity, Decimal(str(levels[0][0]))
    if not passive:
        for level_price, level_quantity in levels:
            price = Decimal(str(level_price))
            left -= Decimal(str(level_quantity))
            if left <= 0:
                break
        price *= 1 + sign * SLIPPAGE_ALLOWANCE_BPS / 10_000
    bound = _bound(book, side, collar_bps)
    return min(price, bound) if side == "buy" else max(price, bound)


def _bound(book: Book, side: Side, collar_bps: Decimal) -> Decimal:
    sign = 1 if side == "buy" else -1
    return Decimal(str(book.mid)) * (1 + sign * collar_bps / 10_000)
''')


###################################################################################################
_LOADER.modules["shared.execution.entries.parents"] = ("shared/execution/entries/parents.py", r'''"""TWAP: a parent order lives in the ledger, and each run sends the slice that is due.

A step cannot sleep for ten minutes, so the schedule is state: slice ``n`` of a parent is due
``n x interval`` after the parent was made. A slice asks for what is missing from the schedule, so
that missed minutes and unfilled rests are caught up without a memory of their own: at most three
slices at once, because a TWAP that is caught up in one order is a TWAP no more. What does not fit
into the overtime of three slices is not bought.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from shared import clock
from shared.errors import OrderDenied
from shared.execution.types import Purpose, Side, Urgency
from shared.ledger import events
from shared.ledger.connection import Ledger

_OVERTIME_SLICES = 3  # chances to fill what the schedule has left unfilled
_CATCH_UP_SLICES = 3  # the most that one slice asks for, in slices
ADDITIONS = ("pyramid", "average_down")
"""Reasons of parents that add to a position within a risk that was reckoned at one worst price."""

_JITTER_SHARE = 0.25  # of an interval: a run that is so early in its minute sends its slice

_PROGRESS = """
coalesce(sum(l.filled_quantity), 0) AS filled_quantity,
coalesce(sum(l.quantity - l.filled_quantity) FILTER (
    WHERE l.state IN ('SENDING', 'UNKNOWN') OR l.order_status = 'open'), 0) AS in_flight_quantity
"""
# A HOLD ends no parent: a symbol with an open position is offered to no model for buying, so that
# a HOLD is about another symbol, or for want of an answer. A SELL is about this one.
_WORKING = f"""
SELECT p.parent_id, p.position_id, p.symbol, p.side, p.purpose, p.reason, p.quantity,
       p.decision_mid, p.urgency, p.slices, p.interval_seconds, p.created_at, p.expires_at,
       max(l.slice) AS last_slice, {_PROGRESS},
       (SELECT min(d.decision_id) FROM decisions d
        WHERE d.pod = p.pod AND d.at > p.created_at AND d.symbol = p.symbol
          AND d.action = 'SELL' AND p.purpose = 'entry') AS sell_decision_id,
       EXISTS (SELECT 1 FROM fills f
               WHERE f.position_id = p.position_id AND f.side = 'sell'
                 AND f.filled_at > p.created_at) AS position_sold
FROM parent_orders p LEFT JOIN order_log l USING (parent_id)
WHERE p.pod = %s AND p.state = 'WORKING' GROUP BY p.parent_id ORDER BY p.created_at, p.parent_id
"""  # noqa: S608 - nothing but the constant above is put in


@dataclass(frozen=True)
class Parent:
    """A working parent order with what has become of it so far, in base quantity.

    Attributes:
        sell_decision_id: a decision to sell the symbol that is younger than this entry.
        position_sold: something of its position was sold after it was made.
    """

    parent_id: str
    position_id: int
    symbol: str
    side: Side
    purpose: Purpose
    reason: str
    quantity: Decimal
    decision_mid: Decimal
    urgency: Urgency
    slices: int
    interval_seconds: int
    created_at: datetime
    expires_at: datetime
    filled_quantity: Decimal
    in_flight_quantity: Decimal
    last_slice: int | None
    sell_decision_id: str | None = None
    position_sold: bool = False

    def ceiling(self, collar_bps: Decimal) -> Decimal | None:
        """The most that a slice may pay for a unit: an addition is not bought after the price."""
        if self.reason not in ADDITIONS:
            return None
        return self.decision_mid * (1 + collar_bps / 10_000)


@dataclass(frozen=True)
class NewParent:
    """What is needed to open a parent order."""

    parent_id: str
    position_id: int
    decision_id: str | None
    symbol: str
    side: Side
    purpose: Purpose
    reason: str
    quantity: Decimal
    decision_mid: Decimal
    urgency: Urgency
    slices: int
    interval_seconds: int


def slices_for(notional_quote: Decimal, wanted: int, min_notional: Decimal) -> int:
    """How many slices a size allows: each well above the venue's minimum, at least one.

    A slice keeps twice the minimum, so that a rest after a partial fill can still be sent.
    """
    if min_notional <= 0:
        return wanted
    return max(1, min(wanted, int(notional_quote / (2 * min_notional))))


def due_slice(parent: Parent, now: datetime) -> int | None:
    """The number of the slice that is due now, or ``None`` where it was sent already.

    Minutes are not exact: a slice is due a quarter of an interval before its time.
    """
    elapsed = (now - parent.created_at).total_seconds() / parent.interval_seconds
    number = int(elapsed + _JITTER_SHARE)
    if parent.last_slice is not None and number <= parent.last_slice:
        return None
    return number


def quantity_due(parent: Parent, number: int) -> Decimal:
    """What slice ``number`` asks for: what is missing from the schedule, three slices at most.

    What is in flight counts as done until its outcome is known, so it is never sent twice.
    """
    scheduled = _scheduled(parent.quantity, parent.slices, number)
    missing = scheduled - parent.filled_quantity - parent.in_flight_quantity
    return max(Decimal(0), min(missing, parent.quantity * _CATCH_UP_SLICES / parent.slices))


def _scheduled(quantity: Decimal, slices: int, number: int) -> Decimal:
    """What is to be filled or in flight once slice ``number`` has been sent."""
    return quantity * min(number + 1, slices) / slices


def insert(ledger: Ledger, parent: NewParent) -> bool:
    """Open a parent; ``False`` where it exists already."""
    now = clock.now()
    lifetime = timedelta(seconds=parent.interval_seconds * (parent.slices + _OVERTIME_SLICES))
    changed = ledger.execute(
        "INSERT INTO parent_orders (parent_id, pod, position_id, decision_id, symbol, side, "
        "purpose, reason, quantity, decision_mid, urgency, slices, interval_seconds, created_at, "
        "expires_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) "
        "ON CONFLICT (parent_id) DO NOTHING",
        (
            parent.parent_id,
            ledger.pod,
            parent.position_id,
            parent.decision_id,
            parent.symbol,
            parent.side,
            parent.purpose,
            parent.reason,
            parent.quantity,
            parent.decision_mid,
            parent.urgency,
            parent.slices,
            parent.interval_seconds,
            now,
            now + lifetime,
        ),
    )
    return changed == 1


def working(ledger: Ledger) -> list[Parent]:
    """All parents that still want something, oldest first."""
    return [Parent(**row) for row in ledger.query(_WORKING, (ledger.pod,))]


def progress(ledger: Ledger, parent_id: str) -> tuple[Decimal, Decimal]:
    """Filled and in-flight base quantity of a parent now."""
    row = ledger.one(
        f"SELECT {_PROGRESS} FROM order_log l WHERE l.parent_id = %s",  # noqa: S608 - nothing but the constant above is put in
        (parent_id,),
    )
    if row is None:  # an aggregate without GROUP BY always has its row
        raise AssertionError("progress: expected one row")
    return row["filled_quantity"], row["in_flight_quantity"]


def hold_working(ledger: Ledger, parent_id: str, number: int | None, quantity: Decimal) -> None:
    """Inside an intent's transaction: the parent still wants ``quantity``, in slice ``number``.

    Holds the parent's row until the commit. So the parent ends only afterwards, and of two runs
    that send for it at once, the second sees what the first has in flight: whatever their keys and
    venues are, a parent never has more filled and in flight than is due.

    Args:
        number: the slice that the intent belongs to; ``None`` for the parent as a whole.

    Raises:
        OrderDenied: another workflow has ended the parent, or it wants less by now.
    """
    row = ledger.one(
        "SELECT state, quantity, slices FROM parent_orders WHERE parent_id = %s FOR NO KEY UPDATE",
        (parent_id,),
    )
    if row is None or row["state"] != "WORKING":
        state = None if row is None else row["state"]
        raise OrderDenied("PARENT_ENDED", parent_id=parent_id, state=state)
    # A statement of its own: it has to see what was committed while the row was waited for.
    filled, in_flight = progress(ledger, parent_id)
    last = row["slices"] - 1
    due = _scheduled(row["quantity"], row["slices"], last if number is None else number)
    if filled + in_flight + quantity > due:
        raise OrderDenied(
            "PARENT_EXCEEDED",
            parent_id=parent_id,
            quantity=quantity,
            filled=filled,
            in_flight=in_flight,
            due=due,
        )


def end(
    ledger: Ledger, parent_id: str, state: Literal["DONE", "EXPIRED", "CANCELLED"], reason: str
) -> bool:
    """Close a parent; nothing more is sent for it. ``False`` where it is not working."""
    changed = ledger.execute(
        "UPDATE parent_orders SET state = %s, ended_reason = %s "
        "WHERE parent_id = %s AND pod = %s AND state = 'WORKING'",
        (state, reason, parent_id, ledger.pod),
    )
    return changed == 1


def cancel(ledger: Ledger, parent_id: str, reason: str) -> bool:
    """A person ends a working parent; ``False`` where it has ended or does not exist.

    It holds from the next order on, because each passes ``hold_working``. Slices never rest on a
    venue, so there is nothing else to cancel; what was bought stays, and is managed as before.
    """
    with ledger.transaction():
        ended = end(ledger, parent_id, "CANCELLED", reason)
        if ended:
            events.record(ledger, "PARENT_CANCELLED", {"parent_id": parent_id, "reason": reason})
    return ended


def cancel_of_position(ledger: Ledger, position_id: int, reason: str) -> int:
    """Close all that a position still wants, because it is to be left whole."""
    return ledger.execute(
        "UPDATE parent_orders SET state = 'CANCELLED', ended_reason = %s "
        "WHERE position_id = %s AND state = 'WORKING'",
        (reason, position_id),
    )
''')


###################################################################################################
_LOADER.modules["shared.execution.entries.routing"] = ("shared/execution/entries/routing.py", r'''"""Which venues take an order, and how much each: the cheapest split, fees and slippage included."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from itertools import combinations

from shared.execution.entries.offers import Level, Offer

_Run = tuple[Decimal, int]
"""Some lots that cost the same: the cost of one, and how many."""


@dataclass(frozen=True)
class Allocation:
    """What one venue is to be sent, and what it is expected to cost in quote currency.

    ``cost_quote`` holds fee and health penalty; for a sale it is negative, the proceeds after fee.
    """

    venue: str
    quantity: Decimal
    cost_quote: Decimal


def allocate(
    quantity: Decimal, offers: Sequence[Offer], *, order_cost_quote: Decimal = Decimal(0)
) -> tuple[Allocation, ...]:
    """Split ``quantity`` over ``offers``: first as much as can be had, then at the lowest cost.

    The objective, exactly. Offers that can take no order up to ``quantity`` by themselves are left
    out. A split is a multiple of the common lot for each venue, where the common lot is the least
    common multiple of the remaining venues' steps: a fine grid must not win for the crumbs that a
    coarse one leaves over. (Real steps are powers of ten; what is left is less than one step, and
    the next slice asks for it.) Each part is zero or at least its venue's minimum quantity and
    notional, at most what the funds pay at its limit price with fee, and at most the depth within
    the collar. Among all splits of at most ``quantity`` the result

    1. has the largest total quantity,
    2. then the lowest total cost: levels taken, taker fees, penalties, ``order_cost_quote`` for
       each order,
    3. then the fewest orders, then the venues that come first in ``offers``.

    Within a set of venues the costs are convex in lots, so filling up from the minimums by the
    cheapest next lot is optimal; trying every set (15 for four venues) makes the whole optimal.

    Returns:
        The parts, largest first; nothing where no order is possible.
    """
    able = [offer for offer in offers if _share(offer, offer.rules.quantity_step, quantity)]
    if not able:
        return ()
    lot = _common_lot([offer.rules.quantity_step for offer in able])
    shares = [share for offer in able if (share := _share(offer, lot, quantity)) is not None]
    wanted = int(quantity // lot)
    best: _Plan | None = None
    for size in range(1, len(shares) + 1):
        for chosen in combinations(shares, size):
            plan = _cheapest(chosen, wanted, order_cost_quote)
            if plan is not None and (best is None or plan.rank < best.rank):
                best = plan  # of equals, the first: it has the fewest orders
    if best is None:
        return ()
    parts = [share.allocation(lots) for share, lots in best.parts]
    return tuple(sorted(parts, key=lambda part: -part.quantity))


@dataclass(frozen=True)
class _Share:
    """One venue's possible share, in lots: nothing, or ``low`` to ``high``."""

    offer: Offer
    lot: Decimal
    low: int
    high: int
    runs: tuple[_Run, ...]

    def cost(self, lots: int) -> Decimal:
        return sum((cost * count for cost, count in _first(self.runs, lots)), Decimal(0))

    @cached_property
    def cost_of_low(self) -> Decimal:
        return self.cost(self.low)

    @cached_property
    def above_low(self) -> tuple[_Run, ...]:
        """What follows the smallest possible share, up to the largest."""
        return tuple(_after(_first(self.runs, self.high), self.low))

    def allocation(self, lots: int) -> Allocation:
        return Allocation(self.offer.venue, lots * self.lot, self.cost(lots))


@dataclass(frozen=True)
class _Plan:
    """One way to split, with what it is judged by; the lower rank is the better plan."""

    parts: tuple[tuple[_Share, int], ...]
    cost: Decimal

    @property
    def rank(self) -> tuple[int, Decimal]:
        return -sum(lots for _, lots in self.parts), self.cost


def _cheapest(chosen: Sequence[_Share], wanted: int, order_cost: Decimal) -> _Plan | None:
    """The cheapest way to get as much as these venues together can, each with its minimum."""
    lots = [share.low for share in chosen]
    left = min(wanted, sum(share.high for share in chosen)) - sum(lots)
    if left < 0:
        return None
    cost = order_cost * len(chosen) + sum((s.cost_of_low for s in chosen), Decimal(0))
    steps = [
        (lot_cost, number, count)
        for number, share in enumerate(chosen)
        for lot_cost, count in share.above_low
    ]
    for lot_cost, number, count in sorted(steps):
        taken = min(left, count)
        lots[number] += taken
        cost += lot_cost * taken
        left -= taken
    return _Plan(tuple(zip(chosen, lots, strict=True)), cost)


def _share(offer: Offer, lot: Decimal, quantity: Decimal) -> _Share | None:
    """How much of ``quantity`` the venue can take in lots, or ``None`` where it can take none."""
    runs = tuple(_runs(offer, offer.levels(quantity), lot))
    most = min(int(quantity // lot), sum(count for _, count in runs))
    counts = range(1, most + 1)
    low = 1 + bisect_left(counts, True, key=lambda n: offer.is_large_enough(n * lot))
    high = bisect_left(counts, True, key=lambda n: not offer.is_affordable(n * lot))
    return _Share(offer, lot, low, high, runs) if low <= high else None


def _runs(offer: Offer, levels: Sequence[Level], lot: Decimal) -> Iterator[_Run]:
    """The venue's lots, cheapest first. One that lies across levels costs what it takes of each."""
    lacking, begun = lot, Decimal(0)
    for price, available in levels:
        unit = offer.cost(price)
        if lacking < lot:
            taken = min(lacking, available)
            lacking, begun, available = lacking - taken, begun + taken * unit, available - taken
            if lacking > 0:
                continue
            yield begun, 1
            lacking, begun = lot, Decimal(0)
        whole = int(available // lot)
        if whole:
            yield unit * lot, whole
        rest = available - whole * lot
        lacking, begun = lot - rest, rest * unit


def _first(runs: Sequence[_Run], lots: int) -> Iterator[_Run]:
    for cost, count in runs:
        taken = min(count, lots)
        if taken <= 0:
            return
        yield cost, taken
        lots -= taken


def _after(runs: Iterator[_Run], lots: int) -> Iterator[_Run]:
    for cost, count in runs:
        skipped = min(count, lots)
        lots -= skipped
        if count > skipped:
            yield cost, count - skipped


def _common_lot(steps: Sequence[Decimal]) -> Decimal:
    ratios = [step.as_integer_ratio() for step in steps]
    scale = math.lcm(*(denominator for _, denominator in ratios))
    whole = math.lcm(*(top * scale // denominator for top, denominator in ratios))
    return Decimal(whole) / Decimal(scale)
''')


###################################################################################################
_LOADER.modules["shared.execution.entries.slices"] = ("shared/execution/entries/slices.py", r'''"""Work the parent orders: send the slice that is due, over the venues where it costs least.

Those that buy are worked here, those that sell a part of a core position in ``exits/reducing``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Literal

from shared import clock
from shared.errors import VenueUnavailable
from shared.execution.entries import liquidity, parents, routing
from shared.execution.entries.liquidity import Liquidity
from shared.execution.entries.offers import Offer
from shared.execution.entries.parents import Parent
from shared.execution.exits import reducing
from shared.execution.sending import send
from shared.execution.ticketing import Wish, marketable_intent
from shared.execution.types import OrderResult
from shared.execution.venues.base import Venue
from shared.ledger import state
from shared.ledger.state import TradingState
from shared.run import Run

NONE_KEPT_OUT: Mapping[str, Venue] = MappingProxyType({})
_NOTHING_LEFT = ("DENIED", "REJECTED")  # outcomes that leave no order on the venue


def work(
    run: Run,
    venues: Mapping[str, Venue],
    parent: Parent,
    *,
    may_buy: bool,
    kept_out: Mapping[str, Venue] = NONE_KEPT_OUT,
) -> list[OrderResult]:
    """Send what ``parent`` is due, or end it where its time, reason or permission is over.

    Args:
        venues: those that an order may go to in this run.
        kept_out: those that may take one in a later run, of which this parent has overtime.
    """
    now, trading = clock.now(), state.read(run.ledger)
    over = _why_over(run, parent, now, trading)
    if over is not None:
        parents.end(run.ledger, parent.parent_id, *over)
        return []
    number = parents.due_slice(parent, now)
    if number is None or not may_buy:
        return []
    send_slice = _buy if parent.side == "buy" else reducing.sell
    results = send_slice(run, venues, parent, number, passive=trading.limit_orders_only)
    if number >= parent.slices - 1:
        _end_if_complete(run, {**venues, **kept_out}, parent)
    return results


def _why_over(
    run: Run, parent: Parent, now: datetime, trading: TradingState
) -> tuple[Literal["EXPIRED", "CANCELLED"], str] | None:
    """A parent is not worked to its end for its own sake: what it was made for must still hold."""
    if parent.sell_decision_id is not None:
        return "CANCELLED", f"decision {parent.sell_decision_id} says SELL"
    buys = parent.side == "buy"
    if buys and parent.position_sold:
        return "CANCELLED", "its position is being sold"
    if buys and parent.symbol not in run.universe.buyable:
        return "CANCELLED", f"{parent.symbol} is no longer in the universe"
    if not trading.allows_new_risk:
        return "CANCELLED", f"trading is {trading.state}"
    if now >= parent.expires_at:
        return "EXPIRED", f"its time is over, {parent.filled_quantity:f} filled"
    return None


def _buy(
    run: Run, venues: Mapping[str, Venue], parent: Parent, number: int, *, passive: bool
) -> list[OrderResult]:
    """Send the parts of a slice, largest first, each venue at most one.

    After each part the rest is allocated anew among the venues that have had none. So what a venue
    refuses, or the gate denies it, goes to the next best ones; what filled in part is carried into
    the next slice; and after an unknown outcome nothing more is sent.
    """
    results: list[OrderResult] = []
    left = parents.quantity_due(parent, number)
    if left <= 0:
        return results
    candidates = liquidity.candidates_for_buying(run, venues, parent.symbol)
    market = Liquidity(candidates, parent.symbol, run.config.price_collar_bps, passive=passive)
    while parts := routing.allocate(left, market.offers(left)):
        part = parts[0]
        offer = market.drop(part.venue)
        result = _send(run, venues[part.venue], parent, number, part.quantity, offer)
        if result is None:
            continue
        results.append(result)
        if result.outcome == "UNKNOWN":
            break  # it counts as in flight; its symbol is blocked until it is resolved
        if result.outcome not in _NOTHING_LEFT:
            left -= part.quantity
    return results


def _send(
    run: Run, venue: Venue, parent: Parent, number: int, quantity: Decimal, offer: Offer
) -> OrderResult | None:
    wish = Wish(
        logical_key=f"{parent.parent_id}:{number}:{venue.name}",
        position_id=parent.position_id,
        symbol=parent.symbol,
        side="buy",
        purpose=parent.purpose,
        quantity=quantity,
        decision_mid=parent.decision_mid,
        parent_id=parent.parent_id,
        slice=number,
    )
    intent = marketable_intent(
        wish,
        offer.rules,
        offer.book,
        collar_bps=offer.collar_bps,
        passive=offer.passive,
        ceiling=parent.ceiling(run.config.price_collar_bps),
    )
    return None if intent is None else send(run, venue, intent, offer.rules, offer.book)


def _end_if_complete(run: Run, venues: Mapping[str, Venue], parent: Parent) -> None:
    """After the last slice: a rest that no venue takes is told, and ends the parent."""
    filled, _ = parents.progress(run.ledger, parent.parent_id)
    rest = parent.quantity - filled
    smallest = [_smallest_order(venue, parent) for venue in venues.values()]
    known = [order for order in smallest if order is not None]
    if known and rest < min(known):
        told = "filled" if rest <= 0 else f"filled but for {rest:f}, which no venue takes"
        parents.end(run.ledger, parent.parent_id, "DONE", told)


def _smallest_order(venue: Venue, parent: Parent) -> Decimal | None:
    try:
        rules = venue.rules(parent.symbol)
    except VenueUnavailable:
        return None  # it takes no order of any size now
    return max(rules.min_quantity, rules.quantity_step, rules.min_notional / parent.decision_mid)
''')


###################################################################################################
_LOADER.modules["shared.execution.execute"] = ("shared/execution/execute.py", r'''"""The last step of the trading loop: reconcile, protect, leave, enter, work, protect, mark."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from shared import clock
from shared.errors import DataUnavailable, OrderDenied
from shared.execution import quality
from shared.execution.desk import Desk
from shared.execution.types import EntryOrder, Exits, OrderResult
from shared.ledger import equity, events
from shared.risk.manage import manage_exits
from shared.run import Export, Run

_MAX_DECISION_AGE = timedelta(minutes=2)  # twice as long as a run may last


def execute(run: Run) -> Export:
    """Carry out what risk management approved, and everything that was due before it.

    Exits and reconciliation happen whatever the decision is; they never wait for a model.
    """
    risk = run.export_of("risk_management")
    desk = Desk.open(run)
    wants_risk = risk["approved"] and risk["action"] == "BUY"
    reconciliation = desk.reconcile(compare_accounts=wants_risk)
    desk.protect()
    exits = manage_exits(run, desk)
    results, note = _carry_out(run, desk, risk)
    results += desk.work()
    protection = desk.protect() if exits or results else desk.protection
    closed = desk.settle()
    return {
        "status": _status(risk, results, exits, note),
        "reason": note,
        "execution": {
            "orders": [_order(result) for result in results],
            "exits": exits,
            "positions_closed": closed,
            "protection": protection.as_export(),
        },
        "quality": quality.of_intents(
            run.ledger, [result.intent_id for result in results if result.intent_id]
        ),
        "reconciliation": reconciliation.as_export(),
        "equity_quote": _mark_equity(run, desk),
    }


def _carry_out(run: Run, desk: Desk, risk: Export) -> tuple[list[OrderResult], str]:
    if not risk["approved"]:
        return [], "; ".join(risk["reasoning"]) or "not approved"
    decision = run.export_of("signal_generator")["finalDecision"]
    try:
        _deny_if_stale(run, risk["decision_id"])
        if risk["action"] == "SELL":
            return _sell(run, desk, decision)
        if risk["action"] != "BUY":
            raise OrderDenied("ACTION_UNKNOWN", action=risk["action"])
        parent_id = desk.enter(_entry(risk, decision))
    except OrderDenied as denied:
        return [], f"DENIED {denied}"
    return [], f"working {parent_id}"


def _deny_if_stale(run: Run, decision_id: str | None) -> None:
    """A platform may repeat a failed event hours later, and finds the decision of that time."""
    row = run.ledger.one("SELECT at FROM decisions WHERE decision_id = %s", (decision_id,))
    if row is not None and clock.now() - row["at"] > _MAX_DECISION_AGE:
        raise OrderDenied("DECISION_STALE", decided_at=clock.iso(row["at"]))


def _sell(run: Run, desk: Desk, decision: Export) -> tuple[list[OrderResult], str]:
    row = run.ledger.one(
        "SELECT position_id FROM positions WHERE pod = %s AND symbol = %s "
        "AND sleeve = 'tactical' AND closed_at IS NULL",
        (run.ledger.pod, decision["symbol"]),
    )
    if row is None:
        return [], f"POSITION_MISSING: symbol={decision['symbol']}"
    return desk.exit(row["position_id"], reason="signal"), "signal"


def _entry(risk: Export, decision: Export) -> EntryOrder:
    exits = risk["exits"]
    if exits is None:
        raise OrderDenied("EXITS_MISSING", decision_id=risk["decision_id"])
    trailing = exits["trailingStop"]
    return EntryOrder(
        decision_id=risk["decision_id"],
        symbol=risk["symbol"],
        size_quote=Decimal(str(risk["size"])),
        decision_mid=Decimal(str(decision["mid"])),
        strategy=decision["strategy"],
        sleeve="tactical",
        urgency=decision["urgency"],
        exits=Exits(
            stop_price=Decimal(str(exits["stopLoss"])),
            target_price=Decimal(str(exits["takeProfit"])),
            trailing_activation_price=Decimal(str(trailing["activation"])),
            trailing_distance_percent=Decimal(str(trailing["distance_percent"])),
            time_stop_at=clock.from_ms(int(exits["timeStop"])),
        ),
    )


def _status(
    risk: Export, results: list[OrderResult], exits: list[dict[str, Any]], note: str
) -> str:
    if any(result.outcome == "UNKNOWN" for result in results):
        return "UNKNOWN"
    if results or exits:
        return "EXECUTED"
    if note.startswith("DENIED "):
        return "REJECTED"
    if risk["approved"]:
        return "WORKING"
    return "IDLE" if risk["action"] == "HOLD" else "REJECTED"


def _order(result: OrderResult) -> dict[str, Any]:
    return {
        "intent_id": result.intent_id,
        "venue": result.venue,
        "symbol": result.symbol,
        "side": result.side,
        "quantity": float(result.quantity),
        "outcome": result.outcome,
        "filled_quantity": float(result.filled_quantity),
        "average_price": None if result.average_price is None else float(result.average_price),
        "detail": result.detail,
    }


def _mark_equity(run: Run, desk: Desk) -> float | None:
    """Write the minute's equity; without a price for everything held it is not written.

    The gate takes no new risk on an equity that has become old.
    """
    try:
        return float(equity.mark(run, desk.quotes(run.pairs)))
    except DataUnavailable as missing:
        events.record(run.ledger, "EQUITY_UNMARKED", {"why": str(missing)})
        return None
''')


###################################################################################################
_LOADER.modules["shared.execution.exits"] = ("shared/execution/exits/__init__.py", r'''"""What ends or guards a position: sales, stops that rest on venues, closing."""
''')


###################################################################################################
_LOADER.modules["shared.execution.exits.closing"] = ("shared/execution/exits/closing.py", r'''"""Positions end when nothing sellable is left of them and nothing is under way."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from shared import clock
from shared.errors import VenueUnavailable
from shared.execution.exits import naked
from shared.execution.venues.base import Venue
from shared.ledger import events, state
from shared.ledger.connection import Row
from shared.run import Run

_CANDIDATES = """
SELECT s.position_id, s.symbol, s.bought_quantity, s.quantity, s.sold_quantity,
       s.exit_reason,
       s.high_water_price >= s.trailing_activation_price AS has_trailed,
       (SELECT i.purpose FROM fills f JOIN intents i USING (intent_id)
        WHERE f.position_id = s.position_id AND f.side = 'sell'
        ORDER BY f.filled_at DESC, i.sent_at DESC LIMIT 1) AS last_sold_by,
       (SELECT jsonb_object_agg(h.venue, h.quantity::text) FROM position_holdings h
        WHERE h.position_id = s.position_id) AS by_venue,
       (SELECT bid FROM prices p WHERE p.pod = s.pod AND p.symbol = s.symbol
        ORDER BY p.at DESC, p.venue LIMIT 1) AS bid
FROM position_summary s
WHERE s.pod = %(pod)s AND s.closed_at IS NULL
  AND (s.sold_quantity > 0 OR s.bought_quantity = 0 OR s.exit_reason IS NOT NULL)
  AND s.position_id = coalesce(%(position_id)s, s.position_id)
  AND NOT EXISTS (SELECT 1 FROM parent_orders p
                  WHERE p.position_id = s.position_id AND p.state = 'WORKING')
  AND NOT EXISTS (SELECT 1 FROM order_log l WHERE l.position_id = s.position_id
                  AND (l.state IN ('SENDING', 'UNKNOWN') OR l.order_status = 'open'))
"""


def close_finished_positions(run: Run, venues: Mapping[str, Venue]) -> list[int]:
    """Close what is empty, or holds only dust that no venue would take; returns the ids.

    Dust stays in the balances, and in the position's record as ``dust_quantity``.
    """
    closed = []
    for row in run.ledger.query(_CANDIDATES, {"pod": run.ledger.pod, "position_id": None}):
        if row["bought_quantity"] > 0 and not _is_dust(venues, row):
            continue
        if _close(run, row):
            closed.append(int(row["position_id"]))
    return closed


def _close(run: Run, row: Row) -> bool:
    """Close it unless something of it has changed since it was looked at."""
    with run.ledger.transaction():
        run.guard()
        state.read(run.ledger, lock=True)  # no order is under way that cannot be seen
        again = {"pod": run.ledger.pod, "position_id": row["position_id"]}
        if run.ledger.query(_CANDIDATES, again) != [row]:
            return False
        run.ledger.execute(
            "UPDATE positions SET closed_at = %s, close_reason = %s WHERE position_id = %s",
            (clock.now(), _reason(row), row["position_id"]),
        )
        naked.end_all(run.ledger, row["position_id"])
        if row["last_sold_by"] == "protect":
            detail = {"position_id": row["position_id"], "symbol": row["symbol"]}
            events.record(run.ledger, "STOP_TRIGGERED", detail | {"reason": _reason(row)})
    return True


def _reason(row: Row) -> str:
    """What sold the last of it. A stop that has trailed is the trailing stop doing its work."""
    if row["bought_quantity"] <= 0:
        return "not filled"
    if row["last_sold_by"] == "protect":
        return "trailing" if row["has_trailed"] else "stop"
    return row["exit_reason"] or "sold"


def _is_dust(venues: Mapping[str, Venue], row: Row) -> bool:
    for venue_name, held in (row["by_venue"] or {}).items():
        quantity = Decimal(held)
        if quantity <= 0:
            continue
        venue = venues.get(venue_name)
        if venue is None or row["bid"] is None:
            return False
        try:
            rules = venue.rules(row["symbol"])
        except VenueUnavailable:
            return False  # it may be sellable: ask again in the next run
        if quantity >= rules.min_quantity and quantity * row["bid"] >= rules.min_notional:
            return False
    return True
''')


###################################################################################################
_LOADER.modules["shared.execution.exits.covers"] = ("shared/execution/exits/covers.py", r'''"""What each position holds on each venue, and which stop covers it there.

One query tells it for all of them, without a word to a venue.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from shared import clock
from shared.execution import bands
from shared.execution.rounding import ceil_to, floor_to
from shared.execution.types import MarketRules
from shared.ledger.connection import Ledger
from shared.risk.controls.prices import STOP_LIMIT_OFFSET_PERCENT

STOP_TOLERANCE_BPS = Decimal(10)
"""A stop may rest this much lower than was decided before it is replaced: each replacement leaves
the position naked for a moment. The loop watches the decided stop itself, every minute."""

_COVERED_SHARE = Decimal("0.999")
_LONGEST_WAIT = timedelta(minutes=15)

# An intent belongs to its position from the day that it was opened: that finds it by an index.
_COVERS = """
WITH resting AS MATERIALIZED (
    SELECT i.position_id, i.venue, count(*) AS stops, min(i.stop_price) AS stop_price,
           sum(o.quantity - o.filled_quantity) AS quantity, min(o.updated_at) AS seen_at
    FROM orders o JOIN intents i USING (intent_id)
    WHERE o.pod = %(pod)s AND o.status = 'open' AND i.purpose = 'protect'
    GROUP BY i.position_id, i.venue
), held AS MATERIALIZED (
    SELECT p.position_id, f.venue, f.quantity
    FROM positions p CROSS JOIN LATERAL (
        SELECT venue, sum(CASE side WHEN 'buy' THEN quantity ELSE -quantity END
                          - CASE WHEN fee_currency = split_part(symbol, '/', 1)
                                 THEN fee_cost ELSE 0 END) AS quantity
        FROM fills WHERE position_id = p.position_id GROUP BY venue
    ) f
    WHERE p.pod = %(pod)s AND p.closed_at IS NULL AND p.stop_price > 0
), bare AS MATERIALIZED (
    SELECT position_id, venue, since FROM naked_intervals WHERE pod = %(pod)s AND until IS NULL
), places AS (
    SELECT position_id, venue FROM held UNION SELECT position_id, venue FROM resting
    UNION SELECT position_id, venue FROM bare
)
SELECT position_id, venue, p.symbol, p.stop_price, greatest(h.quantity, 0) AS held,
       coalesce(r.stops, 0) AS stops, coalesce(r.quantity, 0) AS resting,
       r.stop_price AS resting_stop_price, r.seen_at, b.since AS naked_since, sent.*
FROM places JOIN positions p USING (position_id)
LEFT JOIN held h USING (position_id, venue)
LEFT JOIN resting r USING (position_id, venue)
LEFT JOIN bare b USING (position_id, venue)
CROSS JOIN LATERAL (
    SELECT coalesce(sum(l.quantity - l.filled_quantity) FILTER (
               WHERE l.side = 'sell' AND l.purpose <> 'protect'
                 AND (l.state IN ('SENDING', 'UNKNOWN') OR l.order_status = 'open')), 0)
               AS in_flight,
           count(*) FILTER (WHERE l.purpose = 'protect') AS sent_stops,
           count(*) FILTER (WHERE l.purpose = 'protect' AND l.state IN ('SENDING', 'UNKNOWN'))
               AS unknown_stops,
           count(*) FILTER (WHERE l.purpose = 'protect' AND l.state = 'REJECTED')
               AS rejected_stops,
           max(l.sent_at) FILTER (WHERE l.purpose = 'protect' AND l.state = 'REJECTED')
               AS last_rejected_at
    FROM order_log l
    WHERE l.pod = p.pod AND l.symbol = p.symbol AND l.sent_at > p.opened_at - interval '1 day'
      AND l.position_id = p.position_id AND l.venue = places.venue
) sent
WHERE position_id = coalesce(%(position_id)s, position_id) AND venue = coalesce(%(venue)s, venue)
ORDER BY position_id, venue
"""


@dataclass(frozen=True)
class Cover:
    """One position on one venue. Quantities in base currency, prices in quote currency.

    Attributes:
        stop_price: as decided; what rests may be lower.
        held: 0 where the position is closed.
        stops, resting, resting_stop_price: how many protective stops rest, what they would still
            sell, and the lowest of their triggers.
        seen_at: when their venue last said so.
        naked_since: since when something sellable is held here without a stop, as far as noted.
        in_flight: sales under way that are no protective stops.
        sent_stops: how many protective stops were ever sent for this position here.
        unknown_stops: of these, how many may or may not rest.
    """

    position_id: int
    venue: str
    symbol: str
    stop_price: Decimal
    held: Decimal
    stops: int
    resting: Decimal
    resting_stop_price: Decimal | None
    seen_at: datetime | None
    naked_since: datetime | None
    in_flight: Decimal
    sent_stops: int
    unknown_stops: int
    rejected_stops: int
    last_rejected_at: datetime | None

    @property
    def is_doubtful(self) -> bool:
        """A cancel went out since the stop was last seen resting, and nobody knows its outcome."""
        if self.seen_at is None or self.naked_since is None:
            return False
        return self.seen_at < self.naked_since

    @property
    def is_waiting(self) -> bool:
        """After a refusal the next try comes 1, 2, 4, 8, then 15 minutes later.

        A venue that refuses once for a reason that lasts would refuse every minute, and each
        refusal counts against us in its limits and in the breaker's failure rate.
        """
        if self.last_rejected_at is None:
            return False
        wait = min(timedelta(minutes=2 ** min(self.rejected_stops - 1, 4)), _LONGEST_WAIT)
        return clock.now() < self.last_rejected_at + wait


@dataclass(frozen=True)
class Stop:
    """The stop that is to rest: on the venue's grid; ``quantity`` 0 for none."""

    quantity: Decimal
    stop_price: Decimal
    limit_price: Decimal


def of_pod(ledger: Ledger) -> list[Cover]:
    """Wherever an open position holds something, a stop rests or a naked interval is open."""
    return _read(ledger, None, None)


def of_position(ledger: Ledger, position_id: int, venue: str) -> Cover | None:
    """One of them, as it is now."""
    return next(iter(_read(ledger, position_id, venue)), None)


def wanted(cover: Cover, rules: MarketRules) -> Stop:
    """The stop for all that is held and not under way, or none where the venue takes none so small.

    The trigger is rounded up: a stop acts rather too early than too late.
    """
    quantity = floor_to(max(cover.held - cover.in_flight, Decimal(0)), rules.quantity_step)
    stop_price = ceil_to(cover.stop_price, rules.price_tick)
    limit_price = ceil_to(stop_price * (1 - STOP_LIMIT_OFFSET_PERCENT / 100), rules.price_tick)
    if quantity < rules.min_quantity or quantity * limit_price < rules.min_notional:
        quantity = Decimal(0)
    return Stop(quantity, stop_price, limit_price)


def within_band(stop: Stop, rules: MarketRules, average_price: Decimal | None) -> Stop:
    """The stop, raised as far as the venue's price band asks for.

    Its trigger rises with its limit: a stop that sells a little early protects, and one whose limit
    is as high as its trigger would rest unfilled after a jump. What rests is not judged again, so a
    stop is right as long as it is not below the decided one.
    """
    lowest = bands.lowest_sale(rules, average_price)
    if lowest is None or stop.limit_price >= lowest:
        return stop
    below_trigger = 1 - STOP_LIMIT_OFFSET_PERCENT / 100
    stop_price = max(stop.stop_price, ceil_to(lowest / below_trigger, rules.price_tick))
    return Stop(stop.quantity, stop_price, ceil_to(stop_price * below_trigger, rules.price_tick))


def is_right(cover: Cover, stop: Stop) -> bool:
    """Whether what rests is what is wanted, within the tolerance of its price."""
    if stop.quantity == 0 or cover.resting_stop_price is None:
        return cover.stops == 0 and stop.quantity == 0
    highest = cover.resting_stop_price * (1 + STOP_TOLERANCE_BPS / 10_000)
    one_of_that_size = cover.stops == 1 and cover.resting == stop.quantity
    return one_of_that_size and stop.stop_price <= highest


def is_naked(cover: Cover, rules: MarketRules) -> bool:
    """Whether something is held, sellable at the stop's price, that no stop covers to 99.9 %.

    What is below the quantity step cannot be covered. An order of unknown fate covers nothing.
    """
    if cover.is_doubtful:
        return True
    sellable = floor_to(cover.held, rules.quantity_step)
    too_small = sellable < rules.min_quantity or sellable * cover.stop_price < rules.min_notional
    if sellable <= 0 or too_small:
        return False
    return cover.resting < min(sellable, cover.held * _COVERED_SHARE)


def _read(ledger: Ledger, position_id: int | None, venue: str | None) -> list[Cover]:
    rows = ledger.query(_COVERS, {"pod": ledger.pod, "position_id": position_id, "venue": venue})
    return [Cover(**row | {"held": row["held"] or Decimal(0)}) for row in rows]
''')


###################################################################################################
_LOADER.modules["shared.execution.exits.leaving"] = ("shared/execution/exits/leaving.py", r'''"""Leave a position: sell what is really held, wherever it is held, as often as it takes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal

from shared import clock
from shared.errors import VenueUnavailable
from shared.execution import bands, cancelling
from shared.execution.entries import parents
from shared.execution.exits import protecting
from shared.execution.reconciling import sharing
from shared.execution.sending import send
from shared.execution.ticketing import Wish, marketable_intent
from shared.execution.types import OrderResult
from shared.execution.venues.base import Venue
from shared.ledger import alerts, events
from shared.ledger.connection import Row
from shared.risk.controls.prices import MAX_EXIT_COLLAR_PERCENT, STOP_LIMIT_OFFSET_PERCENT
from shared.risk.facts import RUN_LIMIT
from shared.run import Run

_IN_VAIN_WITHIN = timedelta(minutes=15)

_PLACES = """
SELECT h.venue, p.symbol FROM position_holdings h JOIN positions p USING (position_id)
WHERE h.position_id = %s AND h.quantity > 0 ORDER BY h.venue
"""

# A stop of which nobody knows whether it rests keeps no exit back: the gate says why.
_FREE = """
SELECT h.quantity - coalesce((
           SELECT sum(l.quantity - l.filled_quantity) FROM order_log l
           WHERE l.position_id = h.position_id AND l.venue = h.venue AND l.side = 'sell'
             AND (l.order_status = 'open' OR l.state IN ('SENDING', 'UNKNOWN')
                  AND NOT (l.purpose = 'protect'
                           AND (l.state = 'UNKNOWN' OR l.sent_at <= %s)))), 0) AS quantity
FROM position_holdings h WHERE h.position_id = %s AND h.venue = %s
"""

_OF_OTHERS = """
SELECT coalesce(sum(h.quantity), 0) AS quantity
FROM position_holdings h JOIN positions p USING (position_id)
WHERE p.pod = %s AND p.symbol = %s AND p.closed_at IS NULL
  AND p.position_id <> %s AND h.venue = %s
"""

# Sales of a part, and how many of them have sold something or still may.
_PARTS = """
SELECT count(*) AS sent,
       count(*) FILTER (WHERE filled_quantity > 0 OR state IN ('SENDING', 'UNKNOWN')
                           OR order_status = 'open') AS taken
FROM order_log WHERE pod = %s AND position_id = %s AND starts_with(logical_key, %s)
"""


def leave(
    run: Run, venues: Mapping[str, Venue], position_id: int, *, reason: str, fraction: Decimal
) -> list[OrderResult]:
    """Sell ``fraction`` of what the position holds and has not under way, on each venue.

    The stops that rest there are cancelled first, because they lock what is to be sold; whoever
    calls this lets ``protecting.protect`` cover again what was not sold.

    Selling is state-based: a repeat in the next run sells only what is left, so that it may be
    repeated until nothing is left. A whole exit ends the position's entries first. A part is sold
    once on each venue in a position's life: while its sale may still fill, nothing is sold.
    """
    if fraction >= 1:
        _commit_to_leaving(run, position_id, reason)
    results = []
    for row in run.ledger.query(_PLACES, (position_id,)):
        result = _leave_venue(run, venues, position_id, row, reason, fraction)
        if result is not None:
            results.append(result)
    return results


def _commit_to_leaving(run: Run, position_id: int, reason: str) -> None:
    """From now on nothing is bought for the position, and each run sells what is left of it."""
    with run.ledger.transaction():
        run.guard()
        # The position first: who adds to it holds this row, so no parent slips in between.
        run.ledger.execute(
            "UPDATE positions SET exit_reason = %s WHERE position_id = %s AND closed_at IS NULL",
            (reason, position_id),
        )
        parents.cancel_of_position(run.ledger, position_id, reason)


def cancel_entries(run: Run, venues: Mapping[str, Venue], reason: str) -> int:
    """End every parent that buys and cancel what rests on a venue; returns how many."""
    ledger = run.ledger
    with ledger.transaction():
        run.guard()
        ended = ledger.execute(
            "UPDATE parent_orders SET state = 'CANCELLED', ended_reason = %s "
            "WHERE pod = %s AND state = 'WORKING' AND side = 'buy'",
            (reason, ledger.pod),
        )
    resting = ledger.query(
        "SELECT o.venue, o.venue_order_id, i.symbol FROM orders o JOIN intents i "
        "USING (intent_id) WHERE o.pod = %s AND o.status = 'open' AND i.purpose <> 'protect'",
        (ledger.pod,),
    )
    for row in resting:
        try:
            venue = venues[row["venue"]]
            cancelling.cancel(ledger, venue, row["venue_order_id"], row["symbol"])
        except (VenueUnavailable, KeyError) as error:
            events.record(ledger, "CANCEL_FAILED", {**row, "error": str(error)})
    return ended + len(resting)


def _leave_venue(
    run: Run,
    venues: Mapping[str, Venue],
    position_id: int,
    row: Row,
    reason: str,
    fraction: Decimal,
) -> OrderResult | None:
    key = _key(run, position_id, row["venue"], fraction)
    if key is None:
        return None
    try:
        venue = venues[row["venue"]]
        if not protecting.lift(run, venue, position_id, why=f"exit: {reason}"):
            raise VenueUnavailable(f"{venue.name}: a stop may still rest")
        quantity = sellable(run, venue, position_id, row["symbol"]) * fraction
        return None if quantity <= 0 else _sell(run, venue, position_id, row, key, quantity)
    except (VenueUnavailable, KeyError) as error:
        _tell_delayed(run, position_id, row, str(error))
        return None


def _key(run: Run, position_id: int, venue_name: str, fraction: Decimal) -> str | None:
    """The sale's logical key, or ``None`` where the part was sold here, or still may be.

    A whole exit has a key of its run, since its size follows from what is left. A part would be
    taken of the rest again by a run that does not know of the first sale, so it is known by its
    intent: only one that certainly sold nothing is followed by another.
    """
    if fraction >= 1:
        name = f"exit:{run.ledger.pod}:{position_id}:{venue_name}"
        return f"{name}:{run.workflow}:{clock.iso(run.event_at)}"
    name = f"partial:{run.ledger.pod}:{position_id}:{venue_name}:"
    parts = run.ledger.one(_PARTS, (run.ledger.pod, position_id, name))
    if parts is None or parts["taken"]:
        return None
    return f"{name}{parts['sent']}"


def sellable(run: Run, venue: Venue, position_id: int, symbol: str) -> Decimal:
    """What a position holds on a venue that no sale under way claims and that is really there."""
    quantity = _free(run, position_id, venue.name)
    return _really_there(run, venue, position_id, symbol, quantity)


def _free(run: Run, position_id: int, venue_name: str) -> Decimal:
    """What no sale under way claims of a holding."""
    died_before = clock.now() - RUN_LIMIT
    row = run.ledger.one(_FREE, (died_before, position_id, venue_name))
    return Decimal(0) if row is None else row["quantity"]


def _really_there(
    run: Run, venue: Venue, position_id: int, symbol: str, quantity: Decimal
) -> Decimal:
    """``quantity``, or less where the venue has less that is free and not of others.

    The ledger may not have heard yet of a sale that the venue has made; what is left there then
    belongs to other positions, or to other pods on the account. What of theirs is locked by their
    stops is not free, and counts in the total. No exit waits for a venue that does not tell its
    balances: it still refuses to sell what is not there.
    """
    currency = symbol.split("/")[0]
    try:
        balance = venue.balances().get(currency)
    except VenueUnavailable:
        return quantity
    if balance is None:
        return Decimal(0)
    row = run.ledger.one(_OF_OTHERS, (run.ledger.pod, symbol, position_id, venue.name))
    others = Decimal(0) if row is None else row["quantity"]
    others += sharing.held_by_others(run.ledger, venue).get(currency, Decimal(0))
    return min(quantity, balance.free, balance.total - others)


def _sell(
    run: Run, venue: Venue, position_id: int, row: Row, key: str, quantity: Decimal
) -> OrderResult | None:
    book = venue.book(row["symbol"])
    rules = venue.rules(row["symbol"])
    wish = Wish(
        logical_key=key,
        position_id=position_id,
        symbol=row["symbol"],
        side="sell",
        purpose="exit",
        quantity=quantity,
        decision_mid=Decimal(str(book.mid)),
    )
    collar_bps = _collar_bps(run, position_id, venue.name)
    intent = marketable_intent(wish, rules, book, collar_bps=collar_bps)
    if intent is None:
        return None
    price = intent.ticket.limit_price
    average = bands.average_for(venue, "sell", price, rules, book)
    intent = bands.fitted_sale(intent, rules, average)
    best_bid = Decimal(str(book.bids[0][0]))
    if intent.ticket.limit_price > max(price, best_bid):
        least = intent.ticket.limit_price
        why = f"{venue.name}: takes no sale below {least}, and the bid is {best_bid}"
        _tell_delayed(run, position_id, row, why)
    return send(run, venue, intent, rules, book, average_price=average)


def _collar_bps(run: Run, position_id: int, venue_name: str) -> Decimal:
    """How far below the mid this exit may sell: as far as the stop that it replaces at first, and
    twice as far after each try that sold nothing, so that a wide spread holds nobody for long."""
    row = run.ledger.one(
        "SELECT count(*) AS in_vain FROM order_log WHERE position_id = %s AND venue = %s "
        "AND purpose = 'exit' AND filled_quantity = 0 AND state = 'ACKNOWLEDGED' "
        "AND sent_at > %s",
        (position_id, venue_name, clock.now() - _IN_VAIN_WITHIN),
    )
    in_vain = 0 if row is None else int(row["in_vain"])
    first = max(run.config.price_collar_bps, STOP_LIMIT_OFFSET_PERCENT * 100)
    return min(first * 2**in_vain, max(first, MAX_EXIT_COLLAR_PERCENT * 100))


def _tell_delayed(run: Run, position_id: int, row: Row, why: str) -> None:
    detail = {"position_id": position_id, "venue": row["venue"], "why": why}
    events.record(run.ledger, "EXIT_DELAYED", detail)
    alerts.put(
        run.ledger,
        f"exit-delayed:{position_id}:{clock.now():%Y-%m-%dT%H}",
        "HIGH",
        f"{row['symbol']}: an exit on {row['venue']} is delayed",
        f"{why}. It is tried again in every run.",
    )
''')


###################################################################################################
_LOADER.modules["shared.execution.exits.naked"] = ("shared/execution/exits/naked.py", r'''"""How long positions were without a stop on the venue that holds them.

An interval begins with the fill that brings what no stop covers, or before a stop is cancelled; it
ends when a stop rests for it or nothing sellable is held. Where we do not know whether a cancelled
stop still rests, the interval goes on: the figure is rather too high than too low.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from shared import clock
from shared.ledger import alerts
from shared.ledger.connection import Ledger

ALERT_AFTER = timedelta(seconds=120)

# The first change since it was last covered that could have uncovered it.
_UNCOVERED_AT = """
SELECT least(
    (SELECT min(filled_at) FROM fills WHERE position_id = %(position_id)s AND venue = %(venue)s
       AND side = 'buy' AND recorded_at > covered.at),
    (SELECT min(o.updated_at) FROM orders o JOIN intents i USING (intent_id)
     WHERE o.pod = %(pod)s AND i.symbol = %(symbol)s AND i.position_id = %(position_id)s
       AND i.venue = %(venue)s AND i.purpose = 'protect'
       AND o.status IN ('cancelled', 'expired', 'rejected') AND o.updated_at > covered.at)
) AS at
FROM (SELECT coalesce(max(until), '-infinity') AS at FROM naked_intervals
      WHERE position_id = %(position_id)s AND venue = %(venue)s) AS covered
"""

_SECONDS = """
SELECT coalesce(sum(extract(epoch FROM upper(span) - lower(span))), 0) AS seconds
FROM unnest((SELECT range_agg(tstzrange(since, coalesce(until, greatest(%s, since))))
             FROM naked_intervals WHERE position_id = %s)) AS span
"""


def begin(
    ledger: Ledger, position_id: int, venue: str, *, why: str, since: datetime | None = None
) -> bool:
    """Open an interval; returns ``False`` where one is open already, which then goes on."""
    now = clock.now()
    changed = ledger.execute(
        "INSERT INTO naked_intervals (pod, position_id, venue, since, why) "
        "VALUES (%s, %s, %s, %s, %s) ON CONFLICT (position_id, venue) WHERE until IS NULL "
        "DO NOTHING",
        (ledger.pod, position_id, venue, now if since is None else min(since, now), why),
    )
    return changed == 1


def end(ledger: Ledger, position_id: int, venue: str) -> None:
    """It is covered now, or gone."""
    ledger.execute(
        "UPDATE naked_intervals SET until = greatest(since, %s) "
        "WHERE position_id = %s AND venue = %s AND until IS NULL",
        (clock.now(), position_id, venue),
    )


def end_all(ledger: Ledger, position_id: int) -> None:
    """The position is closed: what is left of it is dust."""
    ledger.execute(
        "UPDATE naked_intervals SET until = greatest(since, %s) "
        "WHERE position_id = %s AND until IS NULL",
        (clock.now(), position_id),
    )


def retract(ledger: Ledger, position_id: int, venue: str) -> None:
    """The stop was not cancelled after all, and has been resting all the time."""
    ledger.execute(
        "DELETE FROM naked_intervals WHERE position_id = %s AND venue = %s AND until IS NULL",
        (position_id, venue),
    )


def uncovered_at(ledger: Ledger, position_id: int, venue: str, symbol: str) -> datetime:
    """When what is held without a stop now came, or its stop ended; the present if not known."""
    row = ledger.one(
        _UNCOVERED_AT,
        {"pod": ledger.pod, "position_id": position_id, "venue": venue, "symbol": symbol},
    )
    at: datetime | None = None if row is None else row["at"]
    return clock.now() if at is None else at


def seconds(ledger: Ledger, position_id: int) -> float:
    """For how long the position was without a stop on at least one venue, until now."""
    row = ledger.one(_SECONDS, (clock.now(), position_id))
    return 0.0 if row is None else float(Decimal(row["seconds"]))


def tell(ledger: Ledger, position_id: int, venue: str, symbol: str, since: datetime) -> None:
    """Alert HIGH, once an hour, of what has been naked for longer than two minutes."""
    lasted = clock.now() - since
    if lasted <= ALERT_AFTER:
        return
    alerts.put(
        ledger,
        f"naked:{position_id}:{venue}:{clock.now():%Y-%m-%dT%H}",
        "HIGH",
        f"{symbol} on {venue} has no stop resting there",
        f"Position {position_id} has been without one for {lasted.total_seconds():.0f} s. "
        "The loop watches its stop price every minute and goes on trying to place one.",
    )
''')


###################################################################################################
_LOADER.modules["shared.execution.exits.protecting"] = ("shared/execution/exits/protecting.py", r'''"""Stops that rest on the venue, so that protection outlives us.

For every open position and each venue that holds something sellable of it, one stop rests there
for all that is held and not under way. Where quantity or stop price have changed it is replaced:
cancelled, confirmed by asking for the order, and only then sent anew, because the venue locks what
a stop would sell. A death in between is mended by the next run, first thing after reconciliation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from shared import clock
from shared.errors import VenueUnavailable
from shared.execution import bands, cancelling, intents
from shared.execution.exits import covers, naked
from shared.execution.exits.covers import Cover, Stop
from shared.execution.intents import Intent
from shared.execution.sending import import_fills, send
from shared.execution.types import MarketRules, OrderTicket, VenueOrder
from shared.execution.venues.base import Venue
from shared.ledger import events
from shared.ledger.connection import Row
from shared.market.types import Book
from shared.run import Run

_REPLACES_WITHIN = timedelta(seconds=30)
"""A replacement takes five requests, and the platform kills a run after 60 s: later than this in a
run the old stop is left alone, because the new one might not be sent any more."""

_CONFIRMATIONS = 3
"""How often an order is asked for after its cancel: some venues take a cancel and carry it out a
moment later. What is still open then is left to the next run."""

_RESTING = """
SELECT o.venue_order_id, o.intent_id, i.symbol
FROM orders o JOIN intents i USING (intent_id)
WHERE o.pod = %s AND o.status = 'open' AND i.purpose = 'protect'
  AND i.position_id = %s AND i.venue = %s ORDER BY i.sent_at
"""


@dataclass
class Protection:
    """What was done in one run, and what is true at its end.

    Attributes:
        placed, replaced, refused: stops that were sent where none rested, in place of another,
            and that were denied, rejected or of unknown fate.
        stops: how many rest.
        naked: how many positions and venues hold something sellable without a stop.
        naked_seconds: for how long the longest of these has been so.
    """

    placed: int = 0
    replaced: int = 0
    refused: int = 0
    stops: int = 0
    naked: int = 0
    naked_seconds: float = 0.0

    def as_export(self) -> dict[str, Any]:
        return asdict(self)


def protect(run: Run, venues: Mapping[str, Venue], done: Protection) -> None:
    """Let a stop rest wherever one should. Without need for a change it asks no venue anything.

    It works in every trading state, and never raises for what a venue does: a stop that cannot
    rest is an event and an open naked interval, and the loop goes on watching the price.
    """
    done.stops, done.naked, done.naked_seconds = 0, 0, 0.0
    for cover in covers.of_pod(run.ledger):
        venue = venues.get(cover.venue)
        try:
            if venue is None:
                raise VenueUnavailable(f"{cover.venue}: is not configured")
            rules = venue.rules(cover.symbol)
            if covers.is_naked(cover, rules):
                cover = _begun(run, cover)
            cover = _mended(run, venue, rules, cover, done)
            is_naked = covers.is_naked(cover, rules)
        except VenueUnavailable as error:
            _tell(run, cover, "STOP_DELAYED", str(error))
            cover = covers.of_position(run.ledger, cover.position_id, cover.venue) or cover
            is_naked = cover.held > cover.resting
        _note(run, cover, done, is_naked=is_naked)


def lift(run: Run, venue: Venue, position_id: int, *, why: str) -> bool:
    """Cancel the stops of a position on a venue and import what they have filled.

    Returns whether none rests there any more. If one might, nothing may be sold on the strength of
    its cancel: it still protects, and still locks what it would sell.
    """
    lifted = True
    for row in run.ledger.query(_RESTING, (run.ledger.pod, position_id, venue.name)):
        # Noted first: if this run dies after the cancel, the time without a stop has been counted.
        began = naked.begin(run.ledger, position_id, venue.name, why=why)
        rests = _cancel(run, venue, row)
        if rests == "untouched" and began:
            naked.retract(run.ledger, position_id, venue.name)
        lifted = lifted and rests == "no"
    return lifted


def _mended(run: Run, venue: Venue, rules: MarketRules, cover: Cover, done: Protection) -> Cover:
    """The cover after everything was done for it that can be done now."""
    stop = covers.wanted(cover, rules)
    if covers.is_right(cover, stop) or cover.unknown_stops:
        return cover  # what became of an unknown stop is for reconciliation to find out
    book: Book | None = None
    average: Decimal | None = None
    if stop.quantity > 0:
        if cover.is_waiting:
            return cover
        book = venue.book(cover.symbol)
        average = _average_price(venue, stop, rules, book)
        if _is_reached(covers.within_band(stop, rules, average), book):
            return cover  # the venue would refuse it: the old stop triggers, or the loop sells
    replaces = cover.stops > 0
    if replaces and clock.now() - run.event_at > _REPLACES_WITHIN:
        return cover
    if replaces:
        lift(run, venue, cover.position_id, why="replacing")
    cover = _again(run, cover)  # a stop whose cancel is not confirmed still counts as resting
    stop = covers.wanted(cover, rules)
    if book is None or stop.quantity == 0 or cover.stops or cover.unknown_stops:
        return cover
    outcome = _place(run, venue, rules, book, cover, stop, average)
    if outcome not in ("OPEN", "FILLED", "PARTIALLY_FILLED"):
        done.refused += 1
    elif replaces:
        done.replaced += 1
    else:
        done.placed += 1
    return _again(run, cover)


def _again(run: Run, cover: Cover) -> Cover:
    found = covers.of_position(run.ledger, cover.position_id, cover.venue)
    if found is None:  # nothing held, nothing resting, nothing noted
        nothing = {"held": Decimal(0), "stops": 0, "resting": Decimal(0), "naked_since": None}
        return Cover(**asdict(cover) | nothing)
    return found


def _is_reached(stop: Stop, book: Book) -> bool:
    return Decimal(str(book.bids[0][0])) <= stop.stop_price


def _average_price(venue: Venue, stop: Stop, rules: MarketRules, book: Book) -> Decimal | None:
    """The venue's own, where the stop's limit is to be judged by it."""
    if venue.protection == "stop_market":
        return None
    return bands.average_for(venue, "sell", stop.limit_price, rules, book)


def _place(
    run: Run,
    venue: Venue,
    rules: MarketRules,
    book: Book,
    cover: Cover,
    decided: Stop,
    average_price: Decimal | None,
) -> str:
    """Send the stop. Its key counts what was sent before it: who races for it finds the same one.

    It is measured against its own trigger: the mid of the moment when it was placed says nothing
    about a fill hours later.
    """
    stop = covers.within_band(decided, rules, average_price)
    if stop != decided:
        why = f"decided at {decided.stop_price}, and the venue takes no stop so low"
        _tell(run, cover, "STOP_RAISED", f"{why}: placed at {stop.stop_price}")
    key = f"protect:{run.ledger.pod}:{cover.position_id}:{venue.name}:{cover.sent_stops}"
    ticket = OrderTicket(
        client_order_id=intents.client_order_id(key),
        venue=venue.name,
        symbol=cover.symbol,
        side="sell",
        order_type=venue.protection,
        time_in_force="GTC",
        quantity=stop.quantity,
        limit_price=stop.limit_price,
        stop_price=stop.stop_price,
    )
    intent = Intent(
        logical_key=key,
        position_id=cover.position_id,
        parent_id=None,
        slice=None,
        purpose="protect",
        ticket=ticket,
        decision_mid=stop.stop_price,
        arrival_mid=stop.stop_price,
    )
    result = send(run, venue, intent, rules, book, average_price=average_price)
    if result.outcome in ("DENIED", "REJECTED"):
        _tell(run, cover, f"STOP_{result.outcome}", result.detail)
    return result.outcome


def _cancel(run: Run, venue: Venue, row: Row) -> str:
    """Whether the stop still rests: ``no``, ``untouched``, or ``unknown``.

    The cancel's own answer proves nothing: a stop that fills meanwhile is no longer there to be
    cancelled, and an answer can be lost. The order itself tells.
    """
    error = ""
    try:
        cancelling.cancel(run.ledger, venue, row["venue_order_id"], row["symbol"])
    except VenueUnavailable as refused:
        error = str(refused)
    try:
        order = _after_cancel(venue, row, tries=1 if error else _CONFIRMATIONS)
    except VenueUnavailable as unread:
        _tell_not_cancelled(run, venue, row, str(unread))
        return "unknown"
    if order.status == "open":
        _tell_not_cancelled(run, venue, row, error or "still open after its cancel")
        return "untouched" if error else "unknown"
    complete = import_fills(run, venue, row["intent_id"], order)
    return "no" if complete else "unknown"


def _after_cancel(venue: Venue, row: Row, *, tries: int) -> VenueOrder:
    order = venue.order(row["venue_order_id"], row["symbol"])
    for _ in range(tries - 1):
        if order.status != "open":
            break
        order = venue.order(row["venue_order_id"], row["symbol"])
    return order


def _note(run: Run, cover: Cover, done: Protection, *, is_naked: bool) -> None:
    """Open or close the naked interval, and tell what has lasted."""
    ledger, where = run.ledger, (cover.position_id, cover.venue)
    done.stops += cover.stops
    if not is_naked:
        if cover.naked_since is not None:
            naked.end(ledger, *where)
        return
    since = _begun(run, cover).naked_since or clock.now()
    done.naked += 1
    done.naked_seconds = max(done.naked_seconds, (clock.now() - since).total_seconds())
    naked.tell(ledger, *where, cover.symbol, since)


def _begun(run: Run, cover: Cover) -> Cover:
    """With its naked interval open, since the change that uncovered it."""
    if cover.naked_since is not None:
        return cover
    ledger, where = run.ledger, (cover.position_id, cover.venue)
    since = naked.uncovered_at(ledger, *where, cover.symbol)
    naked.begin(ledger, *where, why="no stop rests", since=since)
    return replace(cover, naked_since=since)


def _tell(run: Run, cover: Cover, kind: str, why: str) -> None:
    detail = {"position_id": cover.position_id, "venue": cover.venue, "why": why}
    events.record(run.ledger, kind, detail)


def _tell_not_cancelled(run: Run, venue: Venue, row: Row, why: str) -> None:
    detail = {"venue": venue.name, "venue_order_id": row["venue_order_id"], "why": why}
    events.record(run.ledger, "STOP_NOT_CANCELLED", detail)
''')


###################################################################################################
_LOADER.modules["shared.execution.exits.reducing"] = ("shared/execution/exits/reducing.py", r'''"""Sell a part of a position over some minutes: a parent order that sells.

The schedule, the keys and the lock are those of parents that buy, so a kill at any point and a
repeat sell nothing twice. What differs is where: on the venues that hold the position, the best
price after fees first. Each sale lifts the stop that rests there, because a stop locks what it
would sell; whoever works the parents lets ``protecting.protect`` cover the rest again.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from shared.errors import DataUnavailable, OrderDenied, VenueUnavailable
from shared.execution.entries import parents, routing
from shared.execution.entries.offers import Offer
from shared.execution.entries.parents import NewParent, Parent
from shared.execution.exits import leaving, protecting
from shared.execution.sending import send
from shared.execution.ticketing import Wish, marketable_intent
from shared.execution.types import MarketRules, OrderResult
from shared.execution.venues.base import Venue
from shared.run import Run

MAX_SLICES = 3
"""Each slice leaves the rest without a stop for as long as it takes to replace it, so a sale is cut
into fewer parts than a buy."""

_NOTHING_LEFT = ("DENIED", "REJECTED")  # outcomes that leave no order on the venue

_HOLDING = """
SELECT h.venue, h.quantity FROM position_holdings h
WHERE h.position_id = %s AND h.quantity > 0 ORDER BY h.venue
"""


def reduce(
    run: Run,
    venues: Mapping[str, Venue],
    position_id: int,
    *,
    quantity: Decimal,
    decision_mid: Decimal,
    key: str,
) -> str:
    """Write a parent that sells ``quantity`` of a position; a repeat of ``key`` finds it.

    Returns:
        The parent's id, which is ``key``.

    Raises:
        DataUnavailable: the position is not open, or is being left.
        OrderDenied: no venue that holds it takes an order as small as this.
    """
    ledger = run.ledger
    with ledger.transaction():
        run.guard()
        row = ledger.one(
            "SELECT symbol FROM positions WHERE pod = %s AND position_id = %s "
            "AND closed_at IS NULL AND exit_reason IS NULL FOR UPDATE",
            (ledger.pod, position_id),
        )
        if row is None:
            raise DataUnavailable(
                f"position {position_id}: expected to be open and to stay, was not"
            )
        minimums = _minimums(run, venues, position_id, row["symbol"], decision_mid)
        notional = quantity * decision_mid
        if not minimums or notional < min(minimums):
            raise OrderDenied("SIZE_BELOW_MINIMUM", size=notional, minimum=min(minimums, default=0))
        wanted = min(run.config.twap_slices, MAX_SLICES)
        parents.insert(
            ledger,
            NewParent(
                parent_id=key,
                position_id=position_id,
                decision_id=None,
                symbol=row["symbol"],
                side="sell",
                purpose="rebalance",
                reason="rebalance",
                quantity=quantity,
                decision_mid=decision_mid,
                urgency="normal",
                slices=parents.slices_for(notional, wanted, max(minimums)),
                interval_seconds=run.config.twap_interval_seconds,
            ),
        )
    return key


def smallest_sale_quote(
    run: Run, venues: Mapping[str, Venue], position_id: int, symbol: str, mid: Decimal
) -> Decimal | None:
    """The least that may be sold of a position, in quote; ``None`` where no venue tells."""
    return min(_minimums(run, venues, position_id, symbol, mid), default=None)


def sell(
    run: Run, venues: Mapping[str, Venue], parent: Parent, number: int, *, passive: bool
) -> list[OrderResult]:
    """Send the parts of slice ``number``, largest first, each venue at most one."""
    results: list[OrderResult] = []
    left = parents.quantity_due(parent, number)
    offers = _offers(run, venues, parent, passive=passive) if left > 0 else {}
    while parts := routing.allocate(left, list(offers.values())):
        part = parts[0]
        offer = offers.pop(part.venue)
        result = _sell(run, venues[part.venue], parent, number, part.quantity, offer)
        results.append(result)
        if result.outcome == "UNKNOWN":
            break  # it counts as in flight; nothing more is sent until it is resolved
        if result.outcome not in _NOTHING_LEFT:
            left -= part.quantity
    return results


def _sell(
    run: Run, venue: Venue, parent: Parent, number: int, quantity: Decimal, offer: Offer
) -> OrderResult:
    if not protecting.lift(run, venue, parent.position_id, why="rebalance"):
        return _not_sent(parent, venue, quantity, "a stop may still rest")
    wish = Wish(
        logical_key=f"{parent.parent_id}:{number}:{venue.name}",
        position_id=parent.position_id,
        symbol=parent.symbol,
        side="sell",
        purpose="rebalance",
        # the stop may have sold something before it was lifted
        quantity=min(quantity, leaving.sellable(run, venue, parent.position_id, parent.symbol)),
        decision_mid=parent.decision_mid,
        parent_id=parent.parent_id,
        slice=number,
    )
    intent = marketable_intent(
        wish, offer.rules, offer.book, collar_bps=offer.collar_bps, passive=offer.passive
    )
    if intent is None:
        return _not_sent(parent, venue, quantity, "nothing that the venue takes is left there")
    return send(run, venue, intent, offer.rules, offer.book)


def _not_sent(parent: Parent, venue: Venue, quantity: Decimal, why: str) -> OrderResult:
    return OrderResult(
        None, venue.name, parent.symbol, "sell", quantity, "DENIED", Decimal(0), None, Decimal(0),
        why,
    )  # fmt: skip


def _offers(
    run: Run, venues: Mapping[str, Venue], parent: Parent, *, passive: bool
) -> dict[str, Offer]:
    """What each venue that holds the position pays for it now."""
    offers = {}
    for row in run.ledger.query(_HOLDING, (parent.position_id,)):
        venue = venues.get(row["venue"])
        rules = None if venue is None else _rules(venue, parent.symbol)
        if venue is None or rules is None:
            continue
        try:
            book = venue.book(parent.symbol)
        except VenueUnavailable:
            continue  # nothing was sent: the other venues serve; counted in the call log
        offers[venue.name] = Offer(
            rules=rules,
            book=book,
            side="sell",
            funds=row["quantity"],
            collar_bps=run.config.price_collar_bps,
            passive=passive,
        )
    return offers


def _minimums(
    run: Run, venues: Mapping[str, Venue], position_id: int, symbol: str, mid: Decimal
) -> list[Decimal]:
    """The smallest sale on each venue that holds the position and can sell so much, in quote."""
    found = []
    for row in run.ledger.query(_HOLDING, (position_id,)):
        venue = venues.get(row["venue"])
        rules = None if venue is None else _rules(venue, symbol)
        if rules is None:
            continue
        smallest = max(rules.min_notional, max(rules.min_quantity, rules.quantity_step) * mid)
        if smallest <= row["quantity"] * mid:
            found.append(smallest)
    return found


def _rules(venue: Venue, symbol: str) -> MarketRules | None:
    try:
        return venue.rules(symbol)
    except VenueUnavailable:
        return None  # it takes no order of any size now
''')


###################################################################################################
_LOADER.modules["shared.execution.fees"] = ("shared/execution/fees.py", r'''"""What a fee in a third currency, such as BNB, is worth in quote.

A fill is written at once, whether or not its fee has a price: what was bought must be in the
ledger. ``fills.fee_quote`` is null until there is one, and each run tries again. A fee that the
venue has not told is null altogether, and nothing is made up for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from shared import clock
from shared.errors import VenueUnavailable
from shared.execution.types import VenueFill
from shared.execution.venues.base import Venue
from shared.ledger import alerts, events
from shared.ledger.connection import Ledger
from shared.market.types import Quote
from shared.run import Run


def in_quote(fill: VenueFill, rates: Mapping[str, Decimal]) -> Decimal | None:
    """The fee of a fill in quote currency; ``None`` where it is untold or has no rate."""
    if fill.fee_cost is None or fill.fee_currency is None:
        return None
    base, quote = fill.symbol.split("/")
    if fill.fee_currency == quote:
        return fill.fee_cost
    if fill.fee_currency == base:
        return fill.fee_cost * fill.price
    rate = rates.get(fill.fee_currency)
    return None if rate is None else fill.fee_cost * rate


def rates(run: Run, venue: Venue, executions: Sequence[VenueFill]) -> dict[str, Decimal]:
    """What a unit of each third currency is worth in which a venue took the fees of ``executions``.

    A currency that the venue tells no price of is left out, and told once an hour.
    """
    found: dict[str, Decimal] = {}
    asked: set[str] = set()
    for fill in executions:
        currency, pair = fill.fee_currency, fill.symbol.split("/")
        if currency is None or currency in pair or currency in asked:
            continue
        asked.add(currency)
        rate = _rate(run, venue, currency, pair[1])
        if rate is not None:
            found[currency] = rate
    return found


def value_later(run: Run, venues: Mapping[str, Venue]) -> int:
    """Value the fees that had no price when they were taken; returns how many have one now.

    Their value is that of the first price that is known, not of the moment of the fill.
    """
    waiting = run.ledger.query(
        "SELECT DISTINCT venue, fee_currency, split_part(symbol, '/', 2) AS quote FROM fills "
        "WHERE pod = %s AND fee_quote IS NULL AND fee_cost IS NOT NULL ORDER BY 1, 2, 3",
        (run.ledger.pod,),
    )
    valued = 0
    for row in waiting:
        venue = venues.get(row["venue"])
        rate = None if venue is None else _rate(run, venue, row["fee_currency"], row["quote"])
        if rate is not None:
            valued += run.ledger.execute(
                "UPDATE fills SET fee_quote = fee_cost * %s WHERE pod = %s AND venue = %s "
                "AND fee_currency = %s AND split_part(symbol, '/', 2) = %s AND fee_quote IS NULL",
                (rate, run.ledger.pod, row["venue"], row["fee_currency"], row["quote"]),
            )
    return valued


def _rate(run: Run, venue: Venue, currency: str, quote_currency: str) -> Decimal | None:
    market = f"{currency}/{quote_currency}"
    try:
        quote = venue.quotes([market]).get(market)
    except VenueUnavailable:
        quote = None  # counted in the call log
    if quote is None:
        _tell_missing(run.ledger, venue.name, market)
        return None
    _keep_price(run.ledger, venue.name, market, quote)
    return Decimal(str(quote.mid))


def _tell_missing(ledger: Ledger, venue_name: str, market: str) -> None:
    told = alerts.put(
        ledger,
        f"fee-unvalued:{venue_name}:{market}:{clock.now():%Y-%m-%dT%H}",
        "WARNING",
        f"{venue_name}: no price of {market} for a fee",
        "The fill is in the ledger and its fee is missing from sums until there is a price.",
    )
    if told:
        events.record(ledger, "FEE_UNVALUED", {"venue": venue_name, "market": market})


def _keep_price(ledger: Ledger, venue_name: str, market: str, quote: Quote) -> None:
    """The currency is part of the equity from now on."""
    ledger.execute(
        "INSERT INTO prices (pod, venue, symbol, bid, ask, at) VALUES (%s, %s, %s, %s, %s, %s) "
        "ON CONFLICT (pod, venue, symbol) DO UPDATE "
        "SET bid = excluded.bid, ask = excluded.ask, at = excluded.at",
        (
            ledger.pod,
            venue_name,
            market,
            Decimal(str(quote.bid)),
            Decimal(str(quote.ask)),
            clock.now(),
        ),
    )
''')


###################################################################################################
_LOADER.modules["shared.execution.fills"] = ("shared/execution/fills.py", r'''"""What venues say about our orders, written into the ledger: orders and fills.

Both writes may be repeated any number of times and in any order. A fill is what its trade id first
said; what an order has filled never falls and never exceeds what was ordered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from shared import clock
from shared.execution import fees
from shared.execution.types import VenueFill, VenueOrder
from shared.ledger import alerts, events
from shared.ledger.connection import Ledger, Row


def record_order(ledger: Ledger, intent_id: str, venue: str, order: VenueOrder) -> bool:
    """Keep the newest state of an order; returns whether the ledger had not known it.

    Its filled quantity never falls, and never exceeds the intent's.
    """
    now = clock.now()
    row = ledger.one(
        "INSERT INTO orders AS o (venue, venue_order_id, intent_id, pod, status, quantity, "
        "filled_quantity, average_price, created_at, updated_at) "
        "SELECT %(venue)s, %(order)s, i.intent_id, %(pod)s, %(status)s, %(quantity)s, "
        "least(%(filled)s, i.quantity), %(average)s, %(now)s, %(now)s "
        "FROM intents i WHERE i.intent_id = %(intent)s "
        "ON CONFLICT (venue, venue_order_id) DO UPDATE SET "
        "status = CASE WHEN o.status = 'open' THEN excluded.status ELSE o.status END, "
        "filled_quantity = greatest(o.filled_quantity, excluded.filled_quantity), "
        "average_price = coalesce(excluded.average_price, o.average_price), "
        "updated_at = excluded.updated_at "
        "RETURNING xmax = 0 AS is_new",  # PostgreSQL's own mark of a row that was not there before
        {
            "venue": venue,
            "order": order.venue_order_id,
            "intent": intent_id,
            "pod": ledger.pod,
            "status": order.status,
            "quantity": order.quantity,
            "filled": order.filled_quantity,
            "average": order.average_price,
            "now": now,
        },
    )
    return row is not None and bool(row["is_new"])


def record_fills(
    ledger: Ledger,
    venue: str,
    fills: Sequence[VenueFill],
    fee_rates: Mapping[str, Decimal] | None = None,
) -> int:
    """Write the fills of our own orders; returns how many were new.

    Fills of orders that the ledger does not know are left out: reconciliation looks for those. A
    fill that contradicts an earlier one of its trade id, or that would fill more than was ordered,
    changes nothing and is told as an event and an alert. So is a fill without its fee, which is
    written all the same; its fee is added when the venue tells it later.

    Args:
        fee_rates: what a unit of a fee's currency is worth in quote, where it is neither of the
            symbol's own two. A fee without a rate is valued later.
    """
    with ledger.transaction():
        return sum(_record_fill(ledger, venue, fill, fee_rates or {}) for fill in fills)


def open_orders(ledger: Ledger) -> list[Row]:
    """Orders that may still fill: venue, venue_order_id, intent_id, mode, symbol, sent_at."""
    return ledger.query(
        "SELECT o.venue, o.venue_order_id, o.intent_id, i.mode, i.symbol, i.sent_at, i.purpose "
        "FROM orders o JOIN intents i USING (intent_id) "
        "WHERE o.pod = %s AND o.status = 'open' ORDER BY i.sent_at",
        (ledger.pod,),
    )


def filled_of(ledger: Ledger, intent_id: str) -> Decimal:
    """The quantity of an intent that the ledger has fills for."""
    row = ledger.one(
        "SELECT coalesce(sum(quantity), 0) AS quantity FROM fills WHERE intent_id = %s",
        (intent_id,),
    )
    return Decimal(0) if row is None else row["quantity"]


def _record_fill(
    ledger: Ledger, venue: str, fill: VenueFill, fee_rates: Mapping[str, Decimal]
) -> int:
    # The order's row is held, so that two imports at once do not fill it beyond its quantity.
    order = ledger.one(
        "SELECT i.intent_id, i.position_id, i.quantity FROM orders o JOIN intents i "
        "USING (intent_id) WHERE o.venue = %s AND o.venue_order_id = %s AND o.pod = %s "
        "FOR UPDATE OF o",
        (venue, fill.venue_order_id, ledger.pod),
    )
    if order is None:
        return 0
    known = ledger.one(
        "SELECT venue_order_id, side, price, quantity FROM fills "
        "WHERE venue = %s AND symbol = %s AND venue_trade_id = %s",
        (venue, fill.symbol, fill.venue_trade_id),
    )
    if known is not None:
        said = _as_said(fill)
        if known != said:
            _tell(ledger, "FILL_CONTRADICTED", venue, fill, {"first": known, "now": said})
        elif fill.fee_cost is not None:
            _add_fee(ledger, venue, fill, fees.in_quote(fill, fee_rates))
        return 0
    recorded = filled_of(ledger, order["intent_id"])
    if recorded + fill.quantity > order["quantity"]:
        ordered = {"ordered": order["quantity"], "recorded": recorded, "now": _as_said(fill)}
        _tell(ledger, "FILL_EXCEEDS_ORDER", venue, fill, ordered)
        return 0
    if fill.fee_cost is None:
        _tell_fee_untold(ledger, venue, fill)
    return _insert(ledger, venue, fill, order, fees.in_quote(fill, fee_rates))


def _add_fee(ledger: Ledger, venue: str, fill: VenueFill, fee_quote: Decimal | None) -> None:
    added = ledger.execute(
        "UPDATE fills SET fee_cost = %s, fee_currency = %s, fee_quote = %s WHERE venue = %s "
        "AND symbol = %s AND venue_trade_id = %s AND fee_cost IS NULL",
        (
            fill.fee_cost,
            fill.fee_currency,
            fee_quote,
            venue,
            fill.symbol,
            fill.venue_trade_id,
        ),
    )
    if added:
        detail = {"venue": venue, "trade": fill.venue_trade_id, "order": fill.venue_order_id}
        events.record(ledger, "FEE_TOLD", detail)


def _insert(
    ledger: Ledger, venue: str, fill: VenueFill, order: Row, fee_quote: Decimal | None
) -> int:
    return ledger.execute(
        "INSERT INTO fills (venue, venue_trade_id, venue_order_id, intent_id, position_id, pod, "
        "symbol, side, price, quantity, fee_cost, fee_currency, fee_quote, liquidity, filled_at, "
        "recorded_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) "
        "ON CONFLICT (venue, symbol, venue_trade_id) DO NOTHING",
        (
            venue,
            fill.venue_trade_id,
            fill.venue_order_id,
            order["intent_id"],
            order["position_id"],
            ledger.pod,
            fill.symbol,
            fill.side,
            fill.price,
            fill.quantity,
            fill.fee_cost,
            fill.fee_currency,
            fee_quote,
            fill.liquidity,
            fill.filled_at,
            clock.now(),
        ),
    )


def _as_said(fill: VenueFill) -> Row:
    return {
        "venue_order_id": fill.venue_order_id,
        "side": fill.side,
        "price": fill.price,
        "quantity": fill.quantity,
    }


def _tell_fee_untold(ledger: Ledger, venue: str, fill: VenueFill) -> None:
    detail = {"venue": venue, "trade": fill.venue_trade_id, "order": fill.venue_order_id}
    events.record(ledger, "FEE_UNTOLD", detail)
    alerts.put(
        ledger,
        f"fee-untold:{venue}:{fill.symbol}:{fill.venue_trade_id}",
        "HIGH",
        f"{venue}: fill {fill.venue_trade_id} of {fill.symbol} came without its fee",
        "The fill is in the ledger without a fee. While the balances differ by it, no new "
        "positions are opened, and the venue is asked for it again.",
    )


def _tell(ledger: Ledger, kind: str, venue: str, fill: VenueFill, detail: Row) -> None:
    """Once for a trade id: a venue repeats what it says in every run."""
    first_time = alerts.put(
        ledger,
        f"{kind}:{venue}:{fill.symbol}:{fill.venue_trade_id}",
        "HIGH",
        f"{venue}: fill {fill.venue_trade_id} of {fill.symbol} is not as it should be",
        f"{kind}: {detail}. The ledger stays as it was; balances tell what is true.",
    )
    if first_time:
        events.record(ledger, kind, {"venue": venue, "trade": fill.venue_trade_id, **detail})
''')


###################################################################################################
_LOADER.modules["shared.execution.intents"] = ("shared/execution/intents.py", r'''"""Intents: what is about to be sent, committed before the first byte leaves.

An intent is unique by its logical key, and its client order id is derived from that key. So a run
that repeats finds the intent of its predecessor, and never makes a second order.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from shared import clock
from shared.execution.types import OrderTicket, Purpose, Side
from shared.execution.venues.base import Venue
from shared.ledger.connection import Ledger, Row

Outcome = Literal["ACKNOWLEDGED", "REJECTED", "UNKNOWN", "DEAD"]

QUARANTINE = timedelta(seconds=90)
"""How long an order that no query shows stays UNKNOWN after ``valid_until``, when its request can
no longer make an order: queries may lag behind the matching engine, and it is longer than the 60 s
after which the platform kills a run that might still be sending."""


@dataclass(frozen=True)
class Intent:
    """One order that is to be sent once."""

    logical_key: str
    position_id: int
    parent_id: str | None
    slice: int | None
    purpose: Purpose
    ticket: OrderTicket
    decision_mid: Decimal
    arrival_mid: Decimal

    @property
    def intent_id(self) -> str:
        return self.ticket.client_order_id


@dataclass(frozen=True)
class Unresolved:
    """An intent of which nobody knows yet what became of it.

    Attributes:
        mode: which way it was sent; ``None`` where it is older than that column, when nothing
            could be sent live.
        valid_until: from then on its request can no longer make an order.
    """

    intent_id: str
    mode: str | None
    venue: str
    symbol: str
    side: Side
    purpose: Purpose
    quantity: Decimal
    sent_at: datetime
    valid_until: datetime


def client_order_id(logical_key: str) -> str:
    """18 characters that Binance, Coinbase and Kraken all take, derived from the logical key."""
    digest = hashlib.sha256(logical_key.encode()).digest()
    return "tl" + base64.b32encode(digest).decode()[:16].lower()


def asks_of(venue: Venue, mode: str | None) -> bool:
    """Whether this venue can know of what was sent in ``mode``.

    Paper knows nothing of what was really sent, and its silence would pass for proof of death.
    """
    return mode is None or venue.mode == mode


def insert(ledger: Ledger, intent: Intent, epoch: int, venue: Venue) -> bool:
    """Write the intent as SENDING. Returns ``False`` where its logical key exists already."""
    now, ticket = clock.now(), intent.ticket
    changed = ledger.execute(
        "INSERT INTO intents (intent_id, logical_key, client_order_id, pod, position_id, "
        "parent_id, slice, venue, symbol, side, purpose, order_type, time_in_force, quantity, "
        "limit_price, stop_price, post_only, decision_mid, arrival_mid, epoch, mode, sent_at, "
        "valid_until) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, "
        "%s, %s, %s, %s, %s, %s) ON CONFLICT (logical_key) DO NOTHING",
        (
            intent.intent_id,
            intent.logical_key,
            ticket.client_order_id,
            ledger.pod,
            intent.position_id,
            intent.parent_id,
            intent.slice,
            ticket.venue,
            ticket.symbol,
            ticket.side,
            intent.purpose,
            ticket.order_type,
            ticket.time_in_force,
            ticket.quantity,
            ticket.limit_price,
            ticket.stop_price,
            ticket.post_only,
            intent.decision_mid,
            intent.arrival_mid,
            epoch,
            venue.mode,
            now,
            now + venue.request_validity,
        ),
    )
    return changed == 1


def settle(ledger: Ledger, intent_id: str, outcome: Outcome, error: str | None = None) -> bool:
    """Note what became of a send. A terminal state is never left again; returns if it was noted."""
    changed = ledger.execute(
        "UPDATE intents SET state = %s, error = coalesce(%s, error), "
        "resolved_at = CASE WHEN %s = 'UNKNOWN' THEN NULL ELSE %s END "
        "WHERE intent_id = %s AND state IN ('SENDING', 'UNKNOWN')",
        (outcome, error, outcome, clock.now(), intent_id),
    )
    return changed == 1


def unresolved(ledger: Ledger) -> list[Unresolved]:
    """Intents that were sent, or may have been, without a known outcome; oldest first."""
    rows = ledger.query(
        "SELECT intent_id, mode, venue, symbol, side, purpose, quantity, sent_at, valid_until "
        "FROM intents WHERE pod = %s AND state IN ('SENDING', 'UNKNOWN') ORDER BY sent_at",
        (ledger.pod,),
    )
    return [Unresolved(**row) for row in rows]


def by_key(ledger: Ledger, logical_key: str) -> Row | None:
    """The intent with a logical key, with what came of it (a row of ``order_log``)."""
    return ledger.one("SELECT * FROM order_log WHERE logical_key = %s", (logical_key,))
''')


###################################################################################################
_LOADER.modules["shared.execution.quality"] = ("shared/execution/quality.py", r'''"""How well orders were executed: slippage, fills, price, fees, time, and the cost of missing out.

Everything is computed from ``execution_quality``, the ledger's view with one row an order. A cost
is positive, a gain negative. A figure that has nothing to be computed from is ``None``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from shared.ledger.connection import Ledger, Row

Figures = dict[str, Any]

# Slippage is weighted by what was filled, the fill rate by what was ordered at the mid on arrival.
# The mean price of several symbols means nothing. An order that was rejected was wanted, too.
_FIGURES: Mapping[str, str] = {
    "orders_sent": "count(*)",
    "orders_filled": "count(*) FILTER (WHERE filled_quantity > 0)",
    "rejected": "count(*) FILTER (WHERE state = 'REJECTED')",
    "unknown": "count(*) FILTER (WHERE state IN ('SENDING', 'UNKNOWN'))",
    "fees_unknown": "count(*) FILTER (WHERE fills > 0 AND fee_quote IS NULL)",
    "fill_rate_percent": "100 * sum(filled_quantity * arrival_mid) / sum(quantity * arrival_mid)",
    "average_price": "CASE WHEN min(symbol) = max(symbol) "
    "THEN sum(notional_quote) / sum(filled_quantity) FILTER (WHERE fills > 0) END",
    "filled_quote": "sum(notional_quote)",
    "fees_quote": "sum(fee_quote)",
    "fee_bps": "10000 * sum(fee_quote) / sum(notional_quote) FILTER (WHERE fee_quote IS NOT NULL)",
    "slippage_bps": "sum(slippage_bps * notional_quote) / sum(notional_quote)",
    "arrival_slippage_bps": "sum(arrival_slippage_bps * notional_quote) / sum(notional_quote)",
    "maker_percent": "100 * sum(coalesce(maker_quote, 0)) "
    "/ nullif(sum(coalesce(maker_quote, 0) + coalesce(taker_quote, 0)), 0)",
    "time_to_first_fill_ms": "percentile_cont(0.5) WITHIN GROUP (ORDER BY time_to_first_fill_ms)",
    "time_to_fill_ms": "percentile_cont(0.5) WITHIN GROUP (ORDER BY time_to_fill_ms)",
    "time_to_fill_p95_ms": "percentile_cont(0.95) WITHIN GROUP (ORDER BY time_to_fill_ms)",
}
_COUNTS = ("orders_sent", "orders_filled", "rejected", "unknown", "fees_unknown")
_GROUPED = (  # constants only; {condition} is one of the two below
    "SELECT CASE WHEN GROUPING(venue) = 0 THEN 'by_venue' WHEN GROUPING(symbol) = 0 "  # noqa: S608
    "THEN 'by_symbol' WHEN GROUPING(hour_utc) = 0 THEN 'by_hour' ELSE 'total' END AS grouped_by, "
    "coalesce(venue, symbol, to_char(hour_utc, 'FM00')) AS name, "
    + ", ".join(f"{expression} AS {name}" for name, expression in _FIGURES.items())
    + " FROM execution_quality WHERE {condition} "
    "GROUP BY GROUPING SETS ((), (venue), (symbol), (hour_utc)) ORDER BY 1, 2"
)
_ORDER = (
    "SELECT intent_id, venue, symbol, side, purpose, state, hour_utc, quantity, filled_quantity, "
    "fill_rate_percent, average_price, notional_quote AS filled_quote, fee_quote AS fees_quote, "
    "fee_bps, slippage_bps, arrival_slippage_bps, 100 * coalesce(maker_quote, 0) "
    "/ nullif(coalesce(maker_quote, 0) + coalesce(taker_quote, 0), 0) AS maker_percent, "
    "time_to_first_fill_ms, time_to_fill_ms "
    "FROM execution_quality WHERE intent_id = ANY(%s) ORDER BY sent_at, intent_id"
)
# The fee of a parent is unknown where that of a filled order is.
_SHORTFALL = """
WITH worked AS (
    SELECT parent_id, sum(filled_quantity) AS filled_quantity,
           sum(notional_quote) AS notional_quote,
           CASE WHEN bool_and(fills = 0 OR fee_quote IS NOT NULL)
                THEN coalesce(sum(fee_quote), 0) END AS fees_quote,
           (array_agg(arrival_mid ORDER BY sent_at DESC))[1] AS last_mid
    FROM execution_quality
    WHERE pod = %(pod)s AND sent_at > %(since)s AND parent_id IS NOT NULL
    GROUP BY parent_id
), ended AS (
    SELECT quantity * decision_mid AS wanted_quote, sign,
           sign * (coalesce(notional_quote, 0) - filled_quantity * decision_mid) AS execution_quote,
           fees_quote,
           sign * (quantity - filled_quantity) * (last_mid - decision_mid) AS missed_quote
    FROM (SELECT *, CASE side WHEN 'buy' THEN 1 ELSE -1 END AS sign FROM parent_orders) p
    LEFT JOIN worked USING (parent_id)
    WHERE pod = %(pod)s AND state <> 'WORKING'
      AND created_at > %(since)s AND created_at <= %(until)s
)
SELECT count(*) AS parents,
       count(*) FILTER (WHERE missed_quote IS NULL OR fees_quote IS NULL) AS parents_unvalued,
       sum(execution_quote) FILTER (WHERE valued) AS execution_quote,
       sum(fees_quote) FILTER (WHERE valued) AS fees_quote,
       sum(missed_quote) FILTER (WHERE valued) AS missed_quote,
       sum(execution_quote + fees_quote + missed_quote) AS shortfall_quote,
       10000 * sum(execution_quote + fees_quote + missed_quote)
           / sum(wanted_quote) FILTER (WHERE valued) AS shortfall_bps
FROM (SELECT *, missed_quote IS NOT NULL AND fees_quote IS NOT NULL AS valued FROM ended) v
"""


def of_intents(ledger: Ledger, intent_ids: Sequence[str]) -> Figures:
    """Quality of some orders: the figures of all, ``by_venue``, ``by_symbol``, ``by_hour``, and
    ``orders`` one by one, as JSON types.

    ``slippage_bps`` is against the mid when the trade was decided, ``arrival_slippage_bps``
    against the mid when the order left. Times to fill are milliseconds from the moment of
    sending, by our clock, to the venue's time of the first and last fill: over several orders the
    median. ``fees_unknown`` counts filled orders with a fee that has no known value in quote.
    """
    if not intent_ids:
        return _without_orders() | {"orders": []}
    ids = list(intent_ids)
    figures = _grouped(ledger, "intent_id = ANY(%(ids)s)", {"ids": ids})
    orders = ledger.query(_ORDER, (ids,))
    return _exported(figures) | {"orders": [_exported(order) for order in orders]}


def of_window(ledger: Ledger, since: datetime, until: datetime) -> Figures:
    """Quality of the pod's orders sent after ``since`` and until ``until``, in exact decimals.

    Stops that rest for protection are left out: they are there not to be filled.
    """
    return _grouped(
        ledger,
        "pod = %(pod)s AND sent_at > %(since)s AND sent_at <= %(until)s AND purpose <> 'protect'",
        {"pod": ledger.pod, "since": since, "until": until},
    )


def shortfall(ledger: Ledger, since: datetime, until: datetime) -> Row:
    """Implementation shortfall of the parent orders made in the window that have ended.

    After Perold, The Implementation Shortfall: Paper versus Reality (1988): what the whole
    quantity would have cost at the mid of the decision, against what was paid, with fees, and
    what was missed. The missed part is valued at the mid on arrival of the parent's last order:
    the ledger keeps no later price. A parent without an order has none, and neither has one with
    a fee of unknown value: ``parents_unvalued`` counts both, and the sums leave them out.
    """
    row = ledger.one(_SHORTFALL, {"pod": ledger.pod, "since": since, "until": until})
    assert row is not None  # an aggregate without groups has one row
    return row


def _grouped(ledger: Ledger, condition: str, parameters: Mapping[str, Any]) -> Figures:
    found = _without_orders()
    for row in ledger.query(_GROUPED.format(condition=condition), parameters):
        grouped_by, name = row.pop("grouped_by"), row.pop("name")
        if grouped_by == "total":
            found |= row
        else:
            found[grouped_by][name] = row
    return found


def _without_orders() -> Figures:
    unknown = dict.fromkeys(_FIGURES) | dict.fromkeys(_COUNTS, 0)
    return unknown | {"by_venue": {}, "by_symbol": {}, "by_hour": {}}


def _exported(value: Any) -> Any:
    """Exact decimals as the numbers of JSON, to ten digits."""
    if isinstance(value, dict):
        return {name: _exported(item) for name, item in value.items()}
    if value is None or isinstance(value, int | str):
        return value
    return float(f"{value:.10g}")
''')


###################################################################################################
_LOADER.modules["shared.execution.reconciling"] = ("shared/execution/reconciling/__init__.py", r'''"""The ledger and the venues made to agree, before anything new is risked."""
''')


###################################################################################################
_LOADER.modules["shared.execution.reconciling.accounts"] = ("shared/execution/reconciling/accounts.py", r'''"""Compare what a venue holds with what the ledger says.

The exchange wins: where they differ, the ledger is what is wrong. Nothing is corrected by itself,
because nobody knows yet by what; but no new risk is taken while they differ, a sale is bounded by
what the venue really has, and a person is told both totals. Money that somebody moved is booked
with ``trading-loop transfer``. Pods of one project share its keys, and so its accounts: what the
ledger says of all of them together is compared with the account (``sharing``).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from shared import clock
from shared.execution.reconciling import sharing
from shared.execution.venues.base import Venue
from shared.ledger import alerts, events
from shared.ledger.connection import Ledger
from shared.run import Run

BALANCE_TOLERANCE = Decimal("1e-8")

_NOTHING = Decimal(0)


@dataclass(frozen=True)
class Difference:
    """One currency whose total on the venue is not the ledger's."""

    currency: str
    venue_total: Decimal
    ledger_total: Decimal

    @property
    def amount(self) -> Decimal:
        return self.venue_total - self.ledger_total

    @property
    def text(self) -> str:
        return f"{self.currency} is {self.venue_total:f} there and {self.ledger_total:f} here"


@dataclass(frozen=True)
class Comparison:
    """One look at an account.

    Attributes:
        moved: the ledger changed while the venue was asked, so the two are of different moments.
    """

    differences: tuple[Difference, ...]
    moved: bool = False


def compare(run: Run, venue: Venue, *, only: frozenset[str] | None = None) -> Comparison:
    """Read the ledger, the venue, and where they differ the ledger again.

    Another workflow may write its fills while the venue is asked. What agrees with the ledger of
    either moment agrees.

    Args:
        only: the currencies that matter; otherwise the configured ones and all that the ledger
            has ever moved there, such as a token that fees are taken in.

    Raises:
        VenueUnavailable: the balances cannot be read.
    """
    before = _ledger_totals(run.ledger, venue)
    held = {currency: balance.total for currency, balance in venue.balances().items()}
    bases = (pair.split("/")[0] for pair in run.pairs)
    watched = only or frozenset({run.config.quote_currency, *bases, *before})
    unequal = _differences(watched, held, before)
    if not unequal:
        return Comparison(())
    after = _ledger_totals(run.ledger, venue)
    if after == before:
        return Comparison(unequal)
    unequal_now = _differences(watched, held, after)
    return Comparison(unequal_now, moved=True)


def report(run: Run, venue_name: str, difference: Difference) -> dict[str, str]:
    """Tell a difference, with both totals, once an hour and currency; returns its detail."""
    detail = {
        "venue": venue_name,
        "currency": difference.currency,
        "venue_total": format(difference.venue_total, "f"),
        "ledger_total": format(difference.ledger_total, "f"),
        "difference": format(difference.amount, "f"),
    }
    first_this_hour = alerts.put(
        run.ledger,
        f"difference:{venue_name}:{difference.currency}:{clock.now():%Y-%m-%dT%H}",
        "HIGH",
        f"{venue_name}: {difference.currency} differs from the ledger by {difference.amount:f}",
        f"{difference.text}. No new positions are opened while they differ. If money was moved, "
        f"book it: trading-loop transfer {venue_name} {difference.currency} "
        f"{difference.amount:f} --note TEXT",
    )
    if first_this_hour:
        events.record(run.ledger, "RECONCILE_DIFFERENCE", detail)
    return detail


def _ledger_totals(ledger: Ledger, venue: Venue) -> dict[str, Decimal]:
    rows = ledger.query(
        "SELECT currency, amount FROM balances WHERE pod = %s AND venue = %s",
        (ledger.pod, venue.name),
    )
    totals = {row["currency"]: row["amount"] for row in rows}
    for currency, amount in sharing.held_by_others(ledger, venue).items():
        totals[currency] = totals.get(currency, _NOTHING) + amount
    return totals


def _differences(
    watched: frozenset[str], held: dict[str, Decimal], expected: dict[str, Decimal]
) -> tuple[Difference, ...]:
    return tuple(
        Difference(currency, there, here)
        for currency in sorted(watched)
        if abs((there := held.get(currency, _NOTHING)) - (here := expected.get(currency, _NOTHING)))
        > BALANCE_TOLERANCE
    )
''')


###################################################################################################
_LOADER.modules["shared.execution.reconciling.amending"] = ("shared/execution/reconciling/amending.py", r'''"""Orders that turn up after they were given up.

DEAD and REJECTED are final: no intent ever leaves them. But the venue is right about what exists.
Where it shows an order of such an intent, the order and its fills are written like any other and
count in every limit, and the contradiction is told: event ORDER_AMENDED, alert HIGH.
"""

from __future__ import annotations

from shared.execution.types import VenueOrder
from shared.ledger import alerts, events
from shared.ledger.connection import Ledger, Row

LATE_ORDER = "late order"
"""The exit reason of a position that was closed when an order of it turned up: it is sold."""

_LAST_KNOWN = {
    "DEAD": "DEAD exists",
    "REJECTED": "REJECTED exists",
    "ACKNOWLEDGED": "over has filled more",
}

_INTENT = (
    "SELECT i.state, i.error, i.symbol, i.side, i.quantity, i.position_id, p.sleeve, p.closed_at "
    "FROM intents i JOIN positions p USING (position_id) WHERE i.intent_id = %s FOR UPDATE OF p"
)


def amend_if_given_up(ledger: Ledger, intent_id: str, venue_name: str, order: VenueOrder) -> bool:
    """Inside the transaction that first writes the order: tell it, and see that it is managed.

    Returns whether the intent had been given up.
    """
    intent = ledger.one(_INTENT, (intent_id,))
    if intent is None or intent["state"] not in ("DEAD", "REJECTED"):
        return False
    _tell(ledger, intent_id, intent, venue_name, order, _managed(ledger, intent_id, intent))
    return True


def amend_short(ledger: Ledger, intent_id: str, venue_name: str, order: VenueOrder) -> None:
    """Tell that an order that was over has filled more than the ledger knows.

    Call it before the fills are written, so that they go to a position that is managed.
    """
    with ledger.transaction():
        intent = ledger.one(_INTENT, (intent_id,))
        if intent is None:
            raise AssertionError(f"{intent_id}: expected the intent of an order of ours")
        _tell(ledger, intent_id, intent, venue_name, order, _managed(ledger, intent_id, intent))


def _tell(
    ledger: Ledger, intent_id: str, intent: Row, venue_name: str, order: VenueOrder, managed: str
) -> None:
    detail = {
        "intent": intent_id,
        "state": intent["state"],
        "error": intent["error"],
        "venue": venue_name,
        "venue_order_id": order.venue_order_id,
        "position_id": intent["position_id"],
        "managed": managed,
    }
    first_time = alerts.put(
        ledger,
        f"amended:{intent_id}",
        "HIGH",
        f"{venue_name}: an order that was {_LAST_KNOWN[intent['state']]}",
        f"{intent['side']} {intent['quantity']:f} {intent['symbol']}, {order.venue_order_id} on "
        f"the venue, {intent_id} to us: {managed}. Orders and fills are in the ledger now.",
    )
    if first_time:
        events.record(ledger, "ORDER_AMENDED", detail)


def _managed(ledger: Ledger, intent_id: str, intent: Row) -> str:
    if intent["side"] == "buy" and intent["closed_at"] is not None:
        return _give_it_a_position(ledger, intent_id, intent)
    return "its position is open" if intent["closed_at"] is None else "its position is closed"


def _give_it_a_position(ledger: Ledger, intent_id: str, intent: Row) -> str:
    """What a closed position has bought belongs to nobody: reopen it, or hand it to its successor.

    A symbol has one open position in a sleeve. Reopened, it is to be left at once: what was decided
    about it is over.
    """
    successor = ledger.one(
        "SELECT position_id FROM positions WHERE pod = %s AND symbol = %s AND sleeve = %s "
        "AND closed_at IS NULL FOR UPDATE",
        (ledger.pod, intent["symbol"], intent["sleeve"]),
    )
    if successor is not None:
        ledger.execute(
            "UPDATE intents SET position_id = %s WHERE intent_id = %s",
            (successor["position_id"], intent_id),
        )
        return f"position {successor['position_id']} has taken it over"
    ledger.execute(
        "UPDATE positions SET closed_at = NULL, close_reason = NULL, exit_reason = %s "
        "WHERE position_id = %s",
        (LATE_ORDER, intent["position_id"]),
    )
    return f"position {intent['position_id']} is open again, to be sold"
''')


###################################################################################################
_LOADER.modules["shared.execution.reconciling.findings"] = ("shared/execution/reconciling/findings.py", r'''"""What a reconciliation finds; ``clean`` decides whether new risk may be taken."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any

TELL_AFTER = timedelta(minutes=10)
"""For so long something about an order may be unknown before a person hears of it, then hourly."""


@dataclass
class Reconciliation:
    """What reconciliation found.

    Attributes:
        resolved, still_unknown: intents whose outcome was unknown, by what is known of them now.
        amended: intents that were given up, and of which an order has turned up.
        refreshed: how many open orders were brought up to date.
        unread: what a venue did not tell, or cannot be asked; ``silent`` are those venues.
        differences: currencies whose total on a venue is not the ledger's.
        busy: venues whose balances could not be compared, because orders of ours moved them.
        foreign_orders: the venue's ids of orders that are not ours.
        accounts_compared: whether balances and resting orders were looked at.
    """

    resolved: list[str] = field(default_factory=list)
    still_unknown: list[str] = field(default_factory=list)
    amended: list[str] = field(default_factory=list)
    refreshed: int = 0
    unread: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    differences: list[dict[str, str]] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)
    foreign_orders: list[str] = field(default_factory=list)
    accounts_compared: bool = False

    @property
    def clean(self) -> bool:
        """Everything is known, compared and equal. An amendment waits for the next run's look."""
        found = (
            self.still_unknown
            or self.amended
            or self.unread
            or self.differences
            or self.busy
            or self.foreign_orders
        )
        return self.accounts_compared and not found

    def allows_risk_on(self, venue_name: str) -> bool:
        """Whether new risk may go to one venue while another is out of reach.

        What is wrong with the ledger (a difference, a stranger, an amendment) stops all venues.
        A venue that does not answer, or is too busy to be compared, is only left out: the ledger
        counts what it holds, and an order of unknown outcome there blocks its symbol everywhere.
        """
        wrong = self.amended or self.differences or self.foreign_orders
        left_out = venue_name in self.silent or venue_name in self.busy
        return self.accounts_compared and not wrong and not left_out

    def cannot_read(self, venue_name: str, what: str) -> None:
        """Note what a venue did not tell; once, however often it was asked."""
        told = f"{venue_name}: {what}"
        if told not in self.unread:
            self.unread.append(told)
        if venue_name not in self.silent:
            self.silent.append(venue_name)

    def as_export(self) -> dict[str, Any]:
        return asdict(self) | {"clean": self.clean}
''')


###################################################################################################
_LOADER.modules["shared.execution.reconciling.owners"] = ("shared/execution/reconciling/owners.py", r'''"""Whose order it is that a venue shows: ours, known or new, another pod's, or a stranger's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from shared.execution.types import VenueOrder
from shared.ledger.connection import Ledger, Row

Kind = Literal["known", "under way", "given up", "another pod's", "foreign"]


@dataclass(frozen=True)
class Owner:
    """Who an order belongs to.

    Attributes:
        kind: ``known``: in the ledger. ``under way``: of an intent whose outcome is not known
            yet. ``given up``: of an intent that is DEAD or REJECTED. ``another pod's``: its intent
            is in this ledger, under another pod: not ours to book, and nobody's attack either.
            ``foreign``: everything else, a second order under an id of ours among it.
        intent_id: of the intent of this pod, where there is one.
    """

    kind: Kind
    intent_id: str | None = None


def owners(ledger: Ledger, venue_name: str, orders: Sequence[VenueOrder]) -> dict[str, Owner]:
    """The owner of each order, by the venue's id."""
    if not orders:
        return {}
    rows = ledger.query(
        "SELECT i.intent_id, i.client_order_id, i.pod, i.state, o.venue_order_id "
        "FROM intents i LEFT JOIN orders o USING (intent_id) WHERE i.venue = %s "
        "AND (o.venue_order_id = ANY(%s) OR i.client_order_id = ANY(%s))",
        (
            venue_name,
            [order.venue_order_id for order in orders],
            [order.client_order_id for order in orders],
        ),
    )
    return {order.venue_order_id: _owner(ledger.pod, order, rows) for order in orders}


def _owner(pod: str, order: VenueOrder, rows: Sequence[Row]) -> Owner:
    for row in rows:
        if row["venue_order_id"] == order.venue_order_id:
            kind: Kind = "known" if row["pod"] == pod else "another pod's"
            return Owner(kind, row["intent_id"])
    for row in rows:
        if row["client_order_id"] != order.client_order_id or row["venue_order_id"] is not None:
            continue
        if row["pod"] != pod:
            return Owner("another pod's")
        given_up = row["state"] in ("DEAD", "REJECTED")
        kind = "given up" if given_up else "under way"
        return Owner(kind, row["intent_id"])
    return Owner("foreign")
''')


###################################################################################################
_LOADER.modules["shared.execution.reconciling.reconcile"] = ("shared/execution/reconciling/reconcile.py", r'''"""The ledger and the venues agree, or nothing new is risked.

First in every run: bring open orders up to date, find out what became of orders that nobody knows
of, and, where new risk is wanted, compare balances and look for orders that are not ours. A minute
in which nothing is open and nothing is wanted asks the venues nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from shared import clock
from shared.errors import VenueUnavailable
from shared.execution import fees
from shared.execution.intents import QUARANTINE
from shared.execution.reconciling import accounts, sharing, strangers, untold_fees
from shared.execution.reconciling.accounts import Comparison
from shared.execution.reconciling.findings import Reconciliation
from shared.execution.reconciling.refreshing import refresh_open_orders
from shared.execution.reconciling.resolving import resolve
from shared.execution.venues.base import Venue
from shared.ledger.connection import Ledger, Row
from shared.run import Run

__all__ = ["Reconciliation", "compare", "reconcile"]


def reconcile(run: Run, venues: Mapping[str, Venue], *, compare_accounts: bool) -> Reconciliation:
    """Refresh, resolve, and with ``compare_accounts`` compare with what the venues hold.

    Open orders come first: a stop that was filled in between would make the balances differ, by
    which an order of unknown outcome is judged.
    """
    found = Reconciliation()
    pending = _pending(run.ledger)
    if pending["open_orders"]:
        refresh_open_orders(run, venues, found)
    if pending["unresolved"]:
        resolve(run, venues, found)
    if pending["unvalued_fees"]:
        fees.value_later(run, venues)
    if compare_accounts:
        compare(run, venues, found)
    return found


def compare(run: Run, venues: Mapping[str, Venue], found: Reconciliation) -> None:
    """Balances and resting orders of every venue; what differs is told, what is foreign halts."""
    for venue in venues.values():
        _compare_account(run, venue, found)
    found.accounts_compared = True


def _compare_account(run: Run, venue: Venue, found: Reconciliation) -> None:
    try:
        resting = venue.open_orders(run.pairs)
        comparison = _settled_comparison(run, venue, found)
        if comparison.differences:
            late = strangers.look_for_late(run, venue, found)
            if untold_fees.ask(run, venue) or late:
                comparison = _settled_comparison(run, venue, found)
    except VenueUnavailable as error:
        found.cannot_read(venue.name, str(error))
        return
    if not comparison.differences:
        run.compared_at[venue.name] = clock.now()
    elif comparison.moved:
        found.busy.append(venue.name)
    else:
        for difference in comparison.differences:
            found.differences.append(accounts.report(run, venue.name, difference))
    strangers.look_at_resting(run, venue, resting, found)


def _settled_comparison(run: Run, venue: Venue, found: Reconciliation) -> Comparison:
    """A difference is looked at twice where orders of ours may have made it.

    One of them may have been filled since it was last asked for. ``moved`` then means that the
    venue is still too busy to tell: the ledger moved again, an order has no known outcome, or the
    fills of one are not all in the ledger. So it is where another pod on the account has such
    orders, which only its own runs bring up to date.
    """
    comparison = accounts.compare(run, venue)
    if not comparison.differences:
        return comparison
    if comparison.moved or _under_way(run.ledger, venue.name):
        complete = refresh_open_orders(run, {venue.name: venue}, found, only=venue.name)
        comparison = accounts.compare(run, venue)
        moved = comparison.moved or not complete or _in_flight(run.ledger, venue.name)
        comparison = Comparison(comparison.differences, moved)
    if comparison.differences and not comparison.moved and sharing.others_move(run, venue):
        return Comparison(comparison.differences, moved=True)
    return comparison


def _pending(ledger: Ledger) -> Row:
    """What there is to do, in one question: in most minutes nothing."""
    row = ledger.one(
        "SELECT EXISTS (SELECT 1 FROM orders WHERE pod = %(pod)s AND status = 'open') "
        "AS open_orders, "
        "EXISTS (SELECT 1 FROM intents WHERE pod = %(pod)s AND state IN ('SENDING', 'UNKNOWN')) "
        "AS unresolved, "
        "EXISTS (SELECT 1 FROM fills WHERE pod = %(pod)s AND fee_quote IS NULL "
        "AND fee_cost IS NOT NULL) AS unvalued_fees",
        {"pod": ledger.pod},
    )
    if row is None:  # a SELECT without FROM always has its row
        raise AssertionError("pending: expected one row")
    return row


def _in_flight(ledger: Ledger, venue_name: str) -> bool:
    """Whether an order may be changing the account of which the ledger knows no outcome.

    One whose quarantine is over may not: what differs then is told, and waits for a person.
    """
    row = ledger.one(
        "SELECT 1 AS found FROM intents WHERE pod = %s AND venue = %s "
        "AND state IN ('SENDING', 'UNKNOWN') AND valid_until >= %s LIMIT 1",
        (ledger.pod, venue_name, clock.now() - QUARANTINE),
    )
    return row is not None


def _under_way(ledger: Ledger, venue_name: str) -> bool:
    row = ledger.one(
        "SELECT 1 AS found FROM orders WHERE pod = %s AND venue = %s AND status = 'open' LIMIT 1",
        (ledger.pod, venue_name),
    )
    return row is not None or _in_flight(ledger, venue_name)
''')


###################################################################################################
_LOADER.modules["shared.execution.reconciling.refreshing"] = ("shared/execution/reconciling/refreshing.py", r'''"""Bring the orders that may still fill up to date, with their fills."""

from __future__ import annotations

from collections.abc import Mapping

from shared import clock
from shared.errors import VenueUnavailable
from shared.execution import fills, intents
from shared.execution.reconciling.findings import TELL_AFTER, Reconciliation
from shared.execution.sending import import_fills
from shared.execution.venues.base import Venue
from shared.ledger import alerts
from shared.ledger.connection import Row
from shared.run import Run


def refresh_open_orders(
    run: Run, venues: Mapping[str, Venue], found: Reconciliation, *, only: str | None = None
) -> bool:
    """Ask for every order that counts as open, or for those on the venue ``only``.

    Returns whether the ledger has all that they have filled.

    An order that was sent in another mode is asked of nobody. It stays open, counts in the limits
    and stops new risk.
    """
    complete = True
    for row in fills.open_orders(run.ledger):
        if only is not None and row["venue"] != only:
            continue
        venue = venues.get(row["venue"])
        if venue is not None and intents.asks_of(venue, row["mode"]):
            complete &= _refresh(run, venue, row, found)
            continue
        complete = False
        if venue is None:
            found.cannot_read(row["venue"], f"is not configured, has {row['venue_order_id']}")
        else:
            found.cannot_read(venue.name, f"{row['venue_order_id']} was sent {row['mode']}")
            _tell_other_mode(run, venue, row)
    return complete


def _refresh(run: Run, venue: Venue, row: Row, found: Reconciliation) -> bool:
    try:
        order = venue.order(row["venue_order_id"], row["symbol"])
    except VenueUnavailable as error:
        found.cannot_read(row["venue"], str(error))
        return False
    found.refreshed += 1
    complete = import_fills(run, venue, row["intent_id"], order, just_asked=True)
    if not complete:
        found.cannot_read(venue.name, f"fills of {row['intent_id']}")
        if row["purpose"] != "protect" and clock.now() - row["sent_at"] > TELL_AFTER:
            _tell_fills_missing(run, venue, row)
    return complete


def _tell_fills_missing(run: Run, venue: Venue, row: Row) -> None:
    """Not of a stop: it may have been resting for days when its first fill comes a little late."""
    alerts.put(
        run.ledger,
        f"fills-missing:{row['intent_id']}:{clock.now():%Y-%m-%dT%H}",
        "HIGH",
        f"{venue.name}: fills of an order in {row['symbol']} are missing",
        f"{row['venue_order_id']} on the venue, {row['intent_id']} to us, sent at "
        f"{clock.iso(row['sent_at'])}: the venue says that it has filled and does not tell all its "
        f"fills. No new positions are opened meanwhile.",
    )


def _tell_other_mode(run: Run, venue: Venue, row: Row) -> None:
    alerts.put(
        run.ledger,
        f"other-mode:{row['intent_id']}:{clock.now():%Y-%m-%dT%H}",
        "HIGH",
        f"{venue.name}: an order of {row['mode']} trading is open, and this run is {venue.mode}",
        f"{row['venue_order_id']} on the venue, {row['intent_id']} to us: nobody follows it until "
        f"runs are {row['mode']} again. No new positions are opened meanwhile.",
    )
''')


###################################################################################################
_LOADER.modules["shared.execution.reconciling.resolving"] = ("shared/execution/reconciling/resolving.py", r'''"""Find out what became of orders of unknown outcome, by asking. Nothing is ever sent again.

An order is DEAD when four things hold at once, asked for after its request could no longer make an
order: no order has our id, no fill since it was sent is of an order that nobody knows, and the
venue holds of both currencies exactly what the ledger says. Anything less leaves it UNKNOWN, which
stops new risk and is told to a person once it lasts.
"""

from __future__ import annotations

from collections.abc import Mapping

from shared import clock
from shared.errors import VenueUnavailable
from shared.execution import intents
from shared.execution.intents import QUARANTINE, Unresolved
from shared.execution.reconciling import accounts, strangers
from shared.execution.reconciling.findings import TELL_AFTER, Reconciliation
from shared.execution.reconciling.owners import Owner
from shared.execution.venues.base import Venue
from shared.ledger import alerts, events
from shared.run import Run


def resolve(run: Run, venues: Mapping[str, Venue], found: Reconciliation) -> None:
    """Ask the venues about every intent of unknown outcome, oldest first."""
    for unresolved in intents.unresolved(run.ledger):
        doubt = _doubt(run, venues.get(unresolved.venue), unresolved, found)
        if doubt is None:
            found.resolved.append(unresolved.intent_id)
            continue
        found.still_unknown.append(unresolved.intent_id)
        if clock.now() - unresolved.sent_at > TELL_AFTER:
            _tell(run, unresolved, doubt)


def _doubt(
    run: Run, venue: Venue | None, unresolved: Unresolved, found: Reconciliation
) -> str | None:
    """Why its outcome is still not known, or ``None`` where it is known now."""
    if venue is None:
        found.cannot_read(unresolved.venue, "is not configured")
        return f"{unresolved.venue} is not among the configured venues"
    if not intents.asks_of(venue, unresolved.mode):
        doubt = f"it was sent {unresolved.mode}, and this run is {venue.mode}: nobody can ask"
        _tell(run, unresolved, doubt)
        return doubt
    asked_at = clock.now()
    try:
        order = venue.find_order(unresolved.intent_id, unresolved.symbol, unresolved.sent_at)
        if order is not None:
            owner = Owner("under way", unresolved.intent_id)
            strangers.adopt(run, venue, owner, order, found)
            return None
        if asked_at <= unresolved.valid_until + QUARANTINE:
            return "no query shows it, and it may still come"
        return _doubt_of_death(run, venue, unresolved, found)
    except VenueUnavailable as error:
        found.cannot_read(venue.name, str(error))
        return str(error)


def _doubt_of_death(
    run: Run, venue: Venue, unresolved: Unresolved, found: Reconciliation
) -> str | None:
    """The other evidence; writes DEAD where all of it agrees."""
    strangers.look_at_fills(run, venue, unresolved.symbol, unresolved.sent_at, found)
    still = run.ledger.one(
        "SELECT 1 AS still FROM intents WHERE intent_id = %s AND state IN ('SENDING', 'UNKNOWN')",
        (unresolved.intent_id,),
    )
    if still is None:
        return None  # its fills have shown it
    pair = frozenset(unresolved.symbol.split("/"))
    unequal = accounts.compare(run, venue, only=pair).differences
    if unequal:
        return "balances differ: " + "; ".join(difference.text for difference in unequal)
    with run.ledger.transaction():
        run.guard()
        why = "no order, no fill and no balance of the venue shows it after quarantine"
        if intents.settle(run.ledger, unresolved.intent_id, "DEAD", why):
            detail = {"intent": unresolved.intent_id, "venue": venue.name}
            events.record(run.ledger, "ORDER_DEAD", detail)
    return None


def _tell(run: Run, unresolved: Unresolved, doubt: str) -> None:
    alerts.put(
        run.ledger,
        f"unknown:{unresolved.intent_id}:{clock.now():%Y-%m-%dT%H}",
        "HIGH",
        f"{unresolved.venue}: nobody knows what became of an order in {unresolved.symbol}",
        f"{unresolved.side} {unresolved.quantity:f}, sent at {clock.iso(unresolved.sent_at)} as "
        f"{unresolved.intent_id}. {doubt}. Look for that client order id in the venue's order "
        f"history, and at its balances; money that a person moved is booked with `trading-loop "
        f"transfer`. It is never sent again; new positions wait.",
    )
''')


###################################################################################################
_LOADER.modules["shared.execution.reconciling.sharing"] = ("shared/execution/reconciling/sharing.py", r'''"""Other pods on the same accounts: what is theirs there, and whether it is moving.

Pods that were made from templates have the keys of their project. The ledger tells what each of
them holds; the venue tells only the sum.
"""

from __future__ import annotations

from decimal import Decimal

from shared.execution.venues.base import Venue
from shared.ledger import pods
from shared.ledger.connection import Ledger, Row
from shared.run import Run


def held_by_others(ledger: Ledger, venue: Venue) -> dict[str, Decimal]:
    """What the ledger says that other pods hold of this account, by currency."""
    others = pods.sharing_accounts(ledger, venue.mode)
    return pods.held_by(ledger, others, venue.name, venue.mode) if others else {}


def others_move(run: Run, venue: Venue) -> bool:
    """Whether an order of another pod may explain a difference.

    One of which nobody knows the outcome may; one that rests there may if the venue tells
    something else of it than the ledger: its fills are still to be written, by its own pod's runs.

    Raises:
        VenueUnavailable: one of those orders cannot be read.
    """
    others = pods.sharing_accounts(run.ledger, venue.mode)
    if not others:
        return False
    if _in_flight(run.ledger, others, venue):
        return True
    for row in _open_orders(run.ledger, others, venue):
        order = venue.order(row["venue_order_id"], row["symbol"])
        if order.status != "open" or order.filled_quantity != row["filled_quantity"]:
            return True
    return False


def _in_flight(ledger: Ledger, others: list[str], venue: Venue) -> bool:
    row = ledger.one(
        "SELECT 1 AS found FROM intents WHERE pod = ANY(%s) AND venue = %s AND mode = %s "
        "AND state IN ('SENDING', 'UNKNOWN') LIMIT 1",
        (others, venue.name, venue.mode),
    )
    return row is not None


def _open_orders(ledger: Ledger, others: list[str], venue: Venue) -> list[Row]:
    return ledger.query(
        "SELECT o.venue_order_id, o.filled_quantity, i.symbol FROM orders o "
        "JOIN intents i USING (intent_id) WHERE o.pod = ANY(%s) AND o.venue = %s "
        "AND i.mode = %s AND o.status = 'open' ORDER BY o.created_at",
        (others, venue.name, venue.mode),
    )
''')


###################################################################################################
_LOADER.modules["shared.execution.reconciling.strangers"] = ("shared/execution/reconciling/strangers.py", r'''"""Orders of the account that the ledger does not know: ours that came late, or somebody else's.

Ours are adopted. Somebody else's halt trading until a person re-arms: the account is this
system's alone, and who else can order on it can also be a thief.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from shared import clock
from shared.errors import VenueUnavailable
from shared.execution import fills
from shared.execution.reconciling import amending, owners
from shared.execution.reconciling.findings import Reconciliation
from shared.execution.reconciling.owners import Owner
from shared.execution.sending import acknowledge, import_fills
from shared.execution.types import VenueOrder
from shared.execution.venues.base import Venue
from shared.ledger import alerts, events, state
from shared.run import Run

CLOCK_MARGIN = timedelta(seconds=60)
"""How far a venue's clock may be behind ours, where we ask it for what came since a time."""

LATE_WITHIN = timedelta(hours=24)
"""How long after it was sent an order that was given up is still looked for."""

_MOST_LOOKED_FOR = 5  # a difference stays for as long as a person lets it


def adopt(run: Run, venue: Venue, owner: Owner, order: VenueOrder, found: Reconciliation) -> None:
    """Write an order of ours with its fills, whatever its intent was taken for."""
    if owner.intent_id is None:
        raise AssertionError(f"{order.venue_order_id}: expected an order of this pod")
    acknowledge(run, owner.intent_id, venue.name, order)
    if not import_fills(run, venue, owner.intent_id, order):
        found.cannot_read(venue.name, f"fills of {owner.intent_id}")
    if owner.kind == "given up":
        found.amended.append(owner.intent_id)


def look_at_resting(
    run: Run, venue: Venue, resting: Sequence[VenueOrder], found: Reconciliation
) -> None:
    """Adopt what is ours and was given up; halt on what is not ours."""
    foreign = []
    owner_of = owners.owners(run.ledger, venue.name, resting)
    for order in resting:
        owner = owner_of[order.venue_order_id]
        if owner.kind == "given up":
            adopt(run, venue, owner, order, found)
        elif owner.kind == "foreign" and not (
            order.client_order_id is None and found.still_unknown
        ):
            # without an id of its own it may be the one that is still looked for
            foreign.append(order.venue_order_id)
    if foreign:
        _halt(run, venue, sorted(foreign), found)


def look_at_fills(
    run: Run, venue: Venue, symbol: str, since: datetime, found: Reconciliation
) -> None:
    """Ask the venue what was filled since a time, and who ordered what the ledger does not know.

    An order of ours is adopted. One whose own answer shows that it is not ours is foreign, and is
    told once: it is over, so that it does not halt again after a person has re-armed.

    Raises:
        VenueUnavailable: the fills, or one of those orders, cannot be read.
    """
    executions = venue.fills(symbol, since - CLOCK_MARGIN)
    unknown = _not_in_ledger(run, venue.name, {fill.venue_order_id for fill in executions})
    orders = [venue.order(venue_order_id, symbol) for venue_order_id in unknown]
    owner_of = owners.owners(run.ledger, venue.name, orders)
    foreign = []
    for order in orders:
        owner = owner_of[order.venue_order_id]
        if owner.kind in ("given up", "under way"):
            adopt(run, venue, owner, order, found)
        elif owner.kind == "foreign":
            foreign.append(order.venue_order_id)
    new = [order_id for order_id in foreign if not _told(run, venue.name, order_id)]
    if new:
        _halt(run, venue, sorted(new), found)


def look_for_late(run: Run, venue: Venue, found: Reconciliation) -> bool:
    """Look for what the ledger lacks of our orders, because something differs; whether it is found.

    Orders that were given up are looked for by the fills of their symbols, and by our own ids where
    nobody had seen one at all. Orders that ended short are asked for once more.
    """
    given_up = run.ledger.query(
        "SELECT intent_id, symbol, sent_at, state FROM order_log WHERE pod = %s AND venue = %s "
        "AND state IN ('DEAD', 'REJECTED') AND (mode IS NULL OR mode = %s) "
        "AND venue_order_id IS NULL AND sent_at > %s ORDER BY state, sent_at DESC LIMIT %s",
        (run.ledger.pod, venue.name, venue.mode, clock.now() - LATE_WITHIN, _MOST_LOOKED_FOR),
    )
    before = len(found.amended)
    try:
        for symbol in sorted({row["symbol"] for row in given_up}):
            oldest = min(row["sent_at"] for row in given_up if row["symbol"] == symbol)
            look_at_fills(run, venue, symbol, oldest, found)
        for row in given_up:
            if row["state"] == "DEAD" and row["intent_id"] not in found.amended:
                order = venue.find_order(row["intent_id"], row["symbol"], row["sent_at"])
                if order is not None:
                    owner = Owner("given up", row["intent_id"])
                    adopt(run, venue, owner, order, found)
        _fill_up(run, venue, found)
    except VenueUnavailable as error:
        found.cannot_read(venue.name, str(error))
    return len(found.amended) > before


def _fill_up(run: Run, venue: Venue, found: Reconciliation) -> None:
    """Ask again for orders that ended short: a venue may call an order over before it shows all
    of its fills.

    Raises:
        VenueUnavailable: one of those orders cannot be read.
    """
    short = run.ledger.query(
        "SELECT intent_id, venue_order_id, symbol FROM order_log WHERE pod = %s "
        "AND venue = %s AND order_status <> 'open' AND filled_quantity < quantity "
        "AND (mode IS NULL OR mode = %s) AND sent_at > %s ORDER BY sent_at DESC LIMIT %s",
        (run.ledger.pod, venue.name, venue.mode, clock.now() - LATE_WITHIN, _MOST_LOOKED_FOR),
    )
    for row in short:
        order = venue.order(row["venue_order_id"], row["symbol"])
        if order.filled_quantity <= fills.filled_of(run.ledger, row["intent_id"]):
            continue
        amending.amend_short(run.ledger, row["intent_id"], venue.name, order)
        if not import_fills(run, venue, row["intent_id"], order):
            found.cannot_read(venue.name, f"fills of {row['intent_id']}")
        found.amended.append(row["intent_id"])


def _not_in_ledger(run: Run, venue_name: str, order_ids: set[str]) -> list[str]:
    """Known by any pod is known: an account that two pods share shows the fills of both."""
    rows = run.ledger.query(
        "SELECT venue_order_id FROM orders WHERE venue = %s AND venue_order_id = ANY(%s)",
        (venue_name, sorted(order_ids)),
    )
    return sorted(order_ids - {row["venue_order_id"] for row in rows})


def _told(run: Run, venue_name: str, order_id: str) -> bool:
    row = run.ledger.one(
        "SELECT 1 AS told FROM events WHERE pod = %s AND kind = 'FOREIGN_ORDER' "
        "AND detail->>'venue' = %s AND detail->>'order' = %s",
        (run.ledger.pod, venue_name, order_id),
    )
    return row is not None


def _halt(run: Run, venue: Venue, foreign: list[str], found: Reconciliation) -> None:
    found.foreign_orders.extend(foreign)
    reason = f"{venue.name}: orders that are not ours: {', '.join(foreign)}"
    with run.ledger.transaction():
        halted = state.tighten(
            run.ledger, "HALTED", reason=reason, set_by="reconciliation", rearm_required=True
        )
        for order_id in foreign:
            if not _told(run, venue.name, order_id):
                events.record(run.ledger, "FOREIGN_ORDER", {"venue": venue.name, "order": order_id})
        if halted:
            at = f"{clock.now():%Y-%m-%dT%H:%M}"
            alerts.put(
                run.ledger, f"foreign:{foreign[0]}:{at}", "CRITICAL", "Foreign order", reason
            )
''')


###################################################################################################
_LOADER.modules["shared.execution.reconciling.untold_fees"] = ("shared/execution/reconciling/untold_fees.py", r'''"""Fees that a venue had not told with their fills, asked for again where the balances differ."""

from __future__ import annotations

from shared import clock
from shared.execution import fees, fills
from shared.execution.reconciling.strangers import LATE_WITHIN
from shared.execution.venues.base import Venue
from shared.ledger.connection import Ledger
from shared.run import Run

_MOST_ASKED_FOR = 5  # a difference stays for as long as a person lets it


def ask(run: Run, venue: Venue) -> bool:
    """Ask for the fills of the last day's orders whose fees are untold; whether one is told now.

    Later a person has booked the difference, or will: a fee that came after that would make the
    balances differ the other way.

    Raises:
        VenueUnavailable: one of those orders, or its fills, cannot be read.
    """
    before = _untold(run.ledger, venue.name)
    rows = run.ledger.query(
        "SELECT DISTINCT f.venue_order_id, f.symbol FROM fills f JOIN intents i USING (intent_id) "
        "WHERE f.pod = %s AND f.venue = %s AND f.fee_cost IS NULL AND f.filled_at > %s "
        "AND (i.mode IS NULL OR i.mode = %s) ORDER BY 1 LIMIT %s",
        (
            run.ledger.pod,
            venue.name,
            clock.now() - LATE_WITHIN,
            venue.mode,
            _MOST_ASKED_FOR,
        ),
    )
    for row in rows:
        executions = venue.fills_of(venue.order(row["venue_order_id"], row["symbol"]))
        rates = fees.rates(run, venue, executions)
        fills.record_fills(run.ledger, venue.name, executions, rates)
    return bool(rows) and _untold(run.ledger, venue.name) < before


def _untold(ledger: Ledger, venue_name: str) -> int:
    row = ledger.one(
        "SELECT count(*) AS untold FROM fills WHERE pod = %s AND venue = %s AND fee_cost IS NULL",
        (ledger.pod, venue_name),
    )
    return 0 if row is None else int(row["untold"])
''')


###################################################################################################
_LOADER.modules["shared.execution.rounding"] = ("shared/execution/rounding.py", r'''"""Quantities and prices on a venue's grid, always rounded towards safety."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from shared.execution.types import Side


def floor_to(value: Decimal, step: Decimal) -> Decimal:
    """The largest multiple of ``step`` that is not above ``value``."""
    return (value / step).to_integral_value(ROUND_FLOOR) * step


def ceil_to(value: Decimal, step: Decimal) -> Decimal:
    """The smallest multiple of ``step`` that is not below ``value``."""
    return (value / step).to_integral_value(ROUND_CEILING) * step


def limit_price(price: Decimal, side: Side, tick: Decimal) -> Decimal:
    """``price`` on the tick grid: never above it for a buy, never below it for a sell."""
    return floor_to(price, tick) if side == "buy" else ceil_to(price, tick)
''')


###################################################################################################
_LOADER.modules["shared.execution.sending"] = ("shared/execution/sending.py", r'''"""The order protocol: intent first, send once, three outcomes.

1. One short transaction holds the lease, passes the gate (trading state and every limit, with
   unknown orders at full size) and inserts the intent under its unique logical key.
2. The order is sent, once, with retries off.
3. A second transaction notes what happened: acknowledged with its fills, definitely rejected, or
   UNKNOWN. If this process dies anywhere in between, the intent stays behind as SENDING and the
   resolver of the next run finds out by query.

Which writes need the lease: the intent, and whatever decides something (DEAD, parents, positions).
What tells only what has happened needs none: outcome, order, fills, events, alerts, and a halt.
Whoever sent an order must be able to say what became of it, even when its lease has passed on.
"""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from decimal import Decimal

from shared import clock
from shared.errors import OrderDenied, OrderRejected, OrderUnknown, VenueUnavailable
from shared.execution import bands, fees, fills, intents
from shared.execution.entries import parents
from shared.execution.intents import Intent
from shared.execution.reconciling import amending
from shared.execution.types import MarketRules, OrderResult, VenueOrder
from shared.execution.venues.base import Venue
from shared.ledger import events
from shared.ledger.connection import Row
from shared.market.types import Book
from shared.risk import gate
from shared.run import Run

SEND_WITHIN = timedelta(seconds=5)
"""An intent that was committed longer ago is not sent any more: this process stood still, and by
the time that the order arrives another run may have taken it for dead."""


def send(
    run: Run,
    venue: Venue,
    intent: Intent,
    rules: MarketRules,
    book: Book,
    *,
    average_price: Decimal | None = None,
) -> OrderResult:
    """Take one intent through the protocol. Never raises for what a venue does.

    Args:
        average_price: the venue's own, where the caller has asked for it; else it is asked for
            here, if the order's price is to be judged by it.

    Raises:
        LeaseLost: another run has taken over; nothing was written and nothing sent.
        LedgerUnavailable: it does not answer; what was sent by then stays SENDING.
    """
    ticket = intent.ticket
    if average_price is None and bands.has_limit(ticket):
        average_price = bands.average_for(venue, ticket.side, ticket.limit_price, rules, book)
    sent_at = clock.now()
    try:
        with run.ledger.transaction():
            run.guard()
            known = intents.by_key(run.ledger, intent.logical_key)
            if known is not None:
                return _as_result(known)
            if intent.parent_id is not None:
                parents.hold_working(run.ledger, intent.parent_id, intent.slice, ticket.quantity)
            gate.check(
                run,
                ticket,
                purpose=intent.purpose,
                position_id=intent.position_id,
                rules=rules,
                book=book,
                now_ms=clock.now_ms(),
                mode=venue.mode,
                parent_id=intent.parent_id,
                average_price=average_price,
            )
            if not intents.insert(run.ledger, intent, run.epoch, venue):
                raise OrderDenied("INTENT_EXISTS", logical_key=intent.logical_key)
    except OrderDenied as denied:
        gate.note(run.ledger, denied)
        return _result(intent, "DENIED", detail=str(denied))
    if clock.now() - sent_at > SEND_WITHIN:
        late = f"SEND_LATE: not sent, {clock.now() - sent_at} after its intent was begun"
        intents.settle(run.ledger, intent.intent_id, "REJECTED", late)
        return _result(intent, "REJECTED", detail=late)
    try:
        order = venue.submit(ticket)
    except OrderRejected as rejected:
        intents.settle(run.ledger, intent.intent_id, "REJECTED", str(rejected))
        return _result(intent, "REJECTED", detail=str(rejected))
    except OrderUnknown as unknown:
        intents.settle(run.ledger, intent.intent_id, "UNKNOWN", str(unknown))
        events.record(
            run.ledger, "ORDER_UNKNOWN", {"intent": intent.intent_id, "error": str(unknown)}
        )
        return _result(intent, "UNKNOWN", detail=str(unknown))
    acknowledge(run, intent.intent_id, venue.name, order)
    import_fills(run, venue, intent.intent_id, order)
    final = intents.by_key(run.ledger, intent.logical_key)
    return _result(intent, "UNKNOWN") if final is None else _as_result(final)


def acknowledge(run: Run, intent_id: str, venue_name: str, order: VenueOrder) -> None:
    """Note that the venue has the order.

    What it says to have filled is noted with the fills themselves: an order whose fills are not
    in the ledger stays open there, so that they are asked for however this run ends. An intent
    that was given up stays as it is, and its order is an amendment.
    """
    if order.filled_quantity > 0:
        order = _still_open(order, Decimal(0))
    with run.ledger.transaction():
        intents.settle(run.ledger, intent_id, "ACKNOWLEDGED")
        if fills.record_order(run.ledger, intent_id, venue_name, order):
            amending.amend_if_given_up(run.ledger, intent_id, venue_name, order)


def import_fills(
    run: Run, venue: Venue, intent_id: str, order: VenueOrder, *, just_asked: bool = False
) -> bool:
    """Bring order and fills of an acknowledged intent up to date.

    Some venues answer an order with its id alone, so its state is asked for again while it
    counts as open, unless it was ``just_asked`` for. Returns whether the ledger now has the whole
    of it; what a venue does not tell now is asked for by the next run.
    """
    try:
        if order.status == "open" and not just_asked:
            order = venue.order(order.venue_order_id, order.symbol)
        missing = order.filled_quantity > fills.filled_of(run.ledger, intent_id)
        own = venue.fills_of(order) if missing else []
        fee_rates = fees.rates(run, venue, own)
    except VenueUnavailable as error:
        events.record(run.ledger, "ORDER_STATE_UNREAD", {"intent": intent_id, "error": str(error)})
        return False
    with run.ledger.transaction():
        fills.record_fills(run.ledger, venue.name, own, fee_rates)
        recorded = fills.filled_of(run.ledger, intent_id)
        complete = recorded >= order.filled_quantity
        if not complete:  # it may be closed on the venue, but fills are still to come: keep asking
            order = _still_open(order, recorded)
        fills.record_order(run.ledger, intent_id, venue.name, order)
    return complete


def _still_open(order: VenueOrder, recorded: Decimal) -> VenueOrder:
    """As it counts in the limits while fills are missing: what has no fill yet is under way."""
    return dataclasses.replace(
        order,
        status="open",
        filled_quantity=recorded,
        average_price=order.average_price if recorded > 0 else None,
    )


def _result(intent: Intent, outcome: str, detail: str = "") -> OrderResult:
    ticket = intent.ticket
    return OrderResult(
        intent.intent_id,
        ticket.venue,
        ticket.symbol,
        ticket.side,
        ticket.quantity,
        outcome,
        Decimal(0),
        None,
        Decimal(0),
        detail,
    )


def _as_result(row: Row) -> OrderResult:
    return OrderResult(
        row["intent_id"],
        row["venue"],
        row["symbol"],
        row["side"],
        row["quantity"],
        outcome_of(row),
        row["filled_quantity"],
        row["average_price"],
        Decimal(0),
        row["error"] or "",
    )


def outcome_of(row: Row) -> str:
    """The outcome of an ``order_log`` row in the words of ``OrderResult``."""
    if row["state"] in ("REJECTED", "DEAD") and row["order_status"] is None:
        return "REJECTED" if row["state"] == "REJECTED" else "NOT_FILLED"
    if row["order_status"] is None:
        return "UNKNOWN"
    if row["filled_quantity"] >= row["quantity"]:
        return "FILLED"
    if row["order_status"] == "open":
        return "OPEN"
    return "PARTIALLY_FILLED" if row["filled_quantity"] > 0 else "NOT_FILLED"
''')


###################################################################################################
_LOADER.modules["shared.execution.ticketing"] = ("shared/execution/ticketing.py", r'''"""From a wish to an order on the venue's grid."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from shared.execution import intents
from shared.execution.entries import offers
from shared.execution.intents import Intent
from shared.execution.rounding import floor_to, limit_price
from shared.execution.types import MarketRules, OrderTicket, Purpose, Side
from shared.market.types import Book


@dataclass(frozen=True)
class Wish:
    """What is wanted of one venue now. ``decision_mid`` is the mid when the trade was decided."""

    logical_key: str
    position_id: int
    symbol: str
    side: Side
    purpose: Purpose
    quantity: Decimal
    decision_mid: Decimal
    parent_id: str | None = None
    slice: int | None = None


def marketable_intent(
    wish: Wish,
    rules: MarketRules,
    book: Book,
    *,
    collar_bps: Decimal,
    passive: bool = False,
    ceiling: Decimal | None = None,
) -> Intent | None:
    """An immediate-or-cancel limit order, or ``None`` where the venue takes none so small.

    The quantity is rounded down and the price away from paying more, so rounding never raises
    what is risked.

    Args:
        ceiling: the most that a purchase may pay; none is made where the best ask lies above it.
    """
    quantity = floor_to(wish.quantity, rules.quantity_step)
    if quantity <= 0:
        return None
    wanted = offers.marketable_price(book, wish.side, quantity, collar_bps, passive=passive)
    if ceiling is not None and wish.side == "buy":
        if Decimal(str(book.asks[0][0])) > ceiling:
            return None
        wanted = min(wanted, ceiling)
    price = limit_price(wanted, wish.side, rules.price_tick)
    if quantity < rules.min_quantity or quantity * price < rules.min_notional:
        return None
    ticket = OrderTicket(
        client_order_id=intents.client_order_id(wish.logical_key),
        venue=rules.venue,
        symbol=wish.symbol,
        side=wish.side,
        order_type="limit",
        time_in_force="IOC",
        quantity=quantity,
        limit_price=price,
    )
    return Intent(
        logical_key=wish.logical_key,
        position_id=wish.position_id,
        parent_id=wish.parent_id,
        slice=wish.slice,
        purpose=wish.purpose,
        ticket=ticket,
        decision_mid=wish.decision_mid,
        arrival_mid=Decimal(str(book.mid)),
    )
''')


###################################################################################################
_LOADER.modules["shared.execution.types"] = ("shared/execution/types.py", r'''"""Orders, fills and market rules, in ``Decimal``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

Mode = Literal["paper", "simulated", "live"]
"""Where orders end: nowhere, at the local stand-ins, or at the real venue."""

Side = Literal["buy", "sell"]
Purpose = Literal["entry", "exit", "rebalance", "protect"]
Urgency = Literal["normal", "high"]
OrderType = Literal["limit", "market", "stop_limit", "stop_market"]
TimeInForce = Literal["IOC", "FOK", "GTC", "GTD"]
OrderStatus = Literal["open", "filled", "cancelled", "expired", "rejected"]


@dataclass(frozen=True)
class PriceBand:
    """Between which multiples of a venue's own average a limit price has to lie, ends included.

    Attributes:
        average_minutes: over how many minutes the venue averages; 0 where it takes its last price.
    """

    lowest_buy_multiple: Decimal
    highest_buy_multiple: Decimal
    lowest_sell_multiple: Decimal
    highest_sell_multiple: Decimal
    average_minutes: int


@dataclass(frozen=True)
class MarketRules:
    """What a venue accepts for a symbol, and what it charges.

    Attributes:
        is_open: the venue says that the market trades: not halted, nor only for cancels.
        price_band: ``None``, as are the two counts, where the venue tells of no such rule.
        max_orders: how many orders of an account may be open in the symbol, stops among them.
        max_stop_orders: how many of these may be stops.
        unread_filters: rules that the venue tells and nobody here can read, with what is wrong.
    """

    venue: str
    symbol: str
    price_tick: Decimal
    quantity_step: Decimal
    min_quantity: Decimal
    min_notional: Decimal
    taker_fee_bps: Decimal
    maker_fee_bps: Decimal
    is_open: bool
    price_band: PriceBand | None = None
    max_orders: int | None = None
    max_stop_orders: int | None = None
    unread_filters: tuple[str, ...] = ()


@dataclass(frozen=True)
class OrderTicket:
    """Exactly what is sent to a venue.

    Attributes:
        limit_price: for ``stop_market``, which has none on the wire, the worst price reckoned with.
        stop_price: the trigger of a stop order.
        expires_at: when a ``GTD`` order ends by itself.
    """

    client_order_id: str
    venue: str
    symbol: str
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce
    quantity: Decimal
    limit_price: Decimal
    stop_price: Decimal | None = None
    post_only: bool = False
    expires_at: datetime | None = None


@dataclass(frozen=True)
class VenueOrder:
    """What a venue says about an order of ours."""

    venue_order_id: str
    client_order_id: str | None
    symbol: str
    side: Side
    status: OrderStatus
    quantity: Decimal
    filled_quantity: Decimal
    average_price: Decimal | None


@dataclass(frozen=True)
class VenueFill:
    """One execution against an order of ours.

    Attributes:
        fee_cost, fee_currency: both ``None`` where the venue has not told its fee.
    """

    venue_trade_id: str
    venue_order_id: str
    symbol: str
    side: Side
    price: Decimal
    quantity: Decimal
    fee_cost: Decimal | None
    fee_currency: str | None
    liquidity: Literal["maker", "taker"] | None
    filled_at: datetime


@dataclass(frozen=True)
class Balance:
    """One currency on one venue."""

    total: Decimal
    free: Decimal


@dataclass(frozen=True)
class Exits:
    """When a position is to be closed. Prices in quote currency."""

    stop_price: Decimal
    target_price: Decimal
    trailing_activation_price: Decimal
    trailing_distance_percent: Decimal
    time_stop_at: datetime


@dataclass(frozen=True)
class StopOnly:
    """The exits of a core position: a stop far away, and nothing else ends it by its price."""

    stop_price: Decimal


@dataclass(frozen=True)
class EntryOrder:
    """A position to be opened or added to, as risk management has approved it.

    Attributes:
        key: names the parent order where no decision stands behind it: whoever repeats the same
            key finds the same parent. Without either, the parent is of this run.
    """

    decision_id: str | None
    symbol: str
    size_quote: Decimal
    decision_mid: Decimal
    strategy: str
    sleeve: Literal["tactical", "core"]
    urgency: Urgency
    exits: Exits | StopOnly
    key: str | None = None


@dataclass(frozen=True)
class OrderResult:
    """What came of one intent.

    ``outcome`` is ``DENIED`` (never sent), ``FILLED``, ``PARTIALLY_FILLED``, ``NOT_FILLED``,
    ``OPEN``, ``REJECTED`` or ``UNKNOWN``; ``detail`` says why in one line.
    """

    intent_id: str | None
    venue: str
    symbol: str
    side: Side
    quantity: Decimal
    outcome: str
    filled_quantity: Decimal
    average_price: Decimal | None
    fee_quote: Decimal
    detail: str
''')


###################################################################################################
_LOADER.modules["shared.execution.venues"] = ("shared/execution/venues/__init__.py", r'''"""Venues behind one interface: ``base.Venue``."""
''')


###################################################################################################
_LOADER.modules["shared.execution.venues.answers"] = ("shared/execution/venues/answers.py", r'''"""The last answer that a venue gave to this thread, as it came over the wire.

ccxt keeps the last body and headers of a client, but not the status, and one client may serve two
threads. It calls ``on_rest_response`` with all of them before it judges the answer.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """Status, headers and body; there is none where the body did not arrive whole."""

    status: int
    headers: Mapping[str, str]
    body: str


class AnswerRecorder(threading.local):
    """In place of a client's ``on_rest_response``; ``last`` is this thread's last answer."""

    last: Answer | None = None

    def __call__(
        self,
        code: int,
        reason: str,
        url: str,
        method: str,
        response_headers: Mapping[str, str],
        response_body: str,
        request_headers: Any,
        request_body: Any,
    ) -> str:
        self.last = Answer(code, response_headers, response_body)
        return response_body


def recorder_of(client: Any) -> AnswerRecorder:
    """The recorder of a ccxt client, put in place where there is none."""
    known = getattr(client, "on_rest_response", None)
    if isinstance(known, AnswerRecorder):
        return known
    recorder = AnswerRecorder()
    client.on_rest_response = recorder
    return recorder
''')


###################################################################################################
_LOADER.modules["shared.execution.venues.base"] = ("shared/execution/venues/base.py", r'''"""What the system asks of a venue."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, Protocol

from shared.execution.types import Balance, MarketRules, Mode, OrderTicket, VenueFill, VenueOrder
from shared.execution.venues.listings import Listed
from shared.market.types import Book, PublicTrade, Quote

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class PublicVenue(Protocol):
    """Market data. Every call raises ``VenueUnavailable`` where the answer is missing or wrong."""

    name: str

    def rules(self, symbol: str) -> MarketRules:
        """Tick, step, minimums and fees; from the cache, seldom from the network."""

    def candles(
        self, symbol: str, timeframe: str, *, since_ms: int | None, limit: int
    ) -> NDArray[np.float64]:
        """Rows ``[open_ms, open, high, low, close, volume]``, oldest first.

        The last row may be the candle that is still open. Venues cap ``limit``: Binance 1,000,
        Kraken 720, Coinbase 300.
        """

    def book(self, symbol: str, depth: int = 50) -> Book:
        """The order book, best level first, never crossed, never empty on a side."""

    def trades(self, symbol: str, limit: int = 100) -> list[PublicTrade]:
        """The newest public trades, oldest first."""

    def quotes(self, symbols: Sequence[str]) -> dict[str, Quote]:
        """Best bid and ask of several symbols in one request; absent symbols are left out."""

    def average_price(self, symbol: str) -> Decimal:
        """What the ends of ``rules.price_band`` are multiples of: the venue's own average, now."""

    def server_time_ms(self) -> int:
        """The venue's clock."""

    # Of any symbol of the venue, traded here or not, by the venue's own name of it

    def listing(self, quote_currency: str) -> list[Listed]:
        """All symbols against ``quote_currency``: for the choice of the universe, once a day."""

    def daily_closes(self, market_id: str, count: int) -> list[list[float]]:
        """``[open_ms, close]`` of the newest ``count`` days, oldest first, the open one last."""

    def best_of(self, market_id: str) -> tuple[float | None, float | None]:
        """Best bid and ask; ``None`` for a side that is empty."""


class Venue(PublicVenue, Protocol):
    """A venue on which this pod has an account.

    Attributes:
        mode: where orders end.
        protection: the kind of stop order that rests here for a position.
        request_validity: after this time a request that was sent can no longer make an order.
    """

    mode: Mode
    protection: Literal["stop_limit", "stop_market"]
    request_validity: timedelta

    def submit(self, ticket: OrderTicket) -> VenueOrder:
        """Send an order once.

        Raises:
            OrderRejected: the venue has definitely refused it.
            OrderUnknown: anything else went wrong after the first byte could have left.
        """

    def find_order(self, client_order_id: str, symbol: str, sent_at: datetime) -> VenueOrder | None:
        """Look an order up by our own id; ``None`` where the venue shows none by that id."""

    def order(self, venue_order_id: str, symbol: str) -> VenueOrder:
        """The present state of an acknowledged order."""

    def cancel(self, venue_order_id: str, symbol: str) -> None:
        """Ask for a cancel. Whether it came in time is seen by ``order``."""

    def open_orders(self, symbols: Sequence[str]) -> list[VenueOrder]:
        """All resting orders on ``symbols``, ours or not."""

    def fills(self, symbol: str, since: datetime) -> list[VenueFill]:
        """Our executions in ``symbol`` since a time, whoever ordered them, oldest first.

        One page of them, as long as the venue makes it: enough to find what nobody expected in the
        last minutes, and no proof of what happened in the last weeks.
        """

    def fills_of(self, order: VenueOrder) -> list[VenueFill]:
        """All executions of one order that the venue shows, however old, oldest first."""

    def balances(self) -> dict[str, Balance]:
        """What the account holds, by currency."""
''')


###################################################################################################
_LOADER.modules["shared.execution.venues.budget"] = ("shared/execution/venues/budget.py", r'''"""How much may be asked of a venue in a minute: a soft limit that all runs share through Redis.

What a run takes, it takes from the counter in blocks, so that a minute costs one or two additions
and not one a request. A lost Redis means that there is no soft limit; the venue's own (``limits``)
always holds.

Sources: Binance's and Binance US's "Limits" and the weights beside each endpoint; Kraken's "Spot
REST rate limits" (starter tier: a counter of 15 that falls by 0.33 a second; orders do not count);
Coinbase Advanced, "Rate limits" (10,000 requests an hour and key).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from shared import clock
from shared.cache import Cache

RESERVED_PERCENT = 30
"""The share that is kept for cancels, exits and reconciliation."""

_BLOCK_PERCENT = 5
_TTL_SECONDS = 120


@dataclass(frozen=True)
class Allowance:
    """What a venue allows in a minute, and what each of our calls takes of it."""

    per_minute: int
    weights: Mapping[str, int]
    weight_else: int = 1


_BINANCE = MappingProxyType(
    {
        "listing": 100, "markets": 20, "candles": 2, "book": 5, "trades": 25, "quotes": 4,
        "time": 1, "average price": 4,
        "submit": 1, "cancel": 1, "order": 4, "order by client id": 4, "open orders": 80,
        "fills": 20, "balances": 20,
    }
)  # fmt: skip
_BINANCE_US = MappingProxyType(
    {
        "listing": 50, "markets": 10, "candles": 1, "book": 1, "trades": 1, "quotes": 2, "time": 1,
        "average price": 2,
        "submit": 1, "cancel": 1, "order": 2, "order by client id": 2, "open orders": 40,
        "fills": 10, "balances": 10,
    }
)  # fmt: skip
_KRAKEN = MappingProxyType(
    {
        "order": 1, "order by client id": 2, "open orders": 1, "fills": 2, "balances": 1,
    }
)  # fmt: skip

ALLOWANCES: dict[str, Allowance] = {
    "binance": Allowance(6_000, _BINANCE),
    "binanceus": Allowance(1_200, _BINANCE_US),
    "kraken": Allowance(15 + 20, _KRAKEN, weight_else=0),
    "coinbase": Allowance(10_000 // 60, MappingProxyType({})),
}

# An exit needs a book, a cancel and a look at the account; a scan can do without for a minute.
_SPARED = frozenset({"listing", "candles", "trades", "new risk"})


class Budget:
    """What this run may still ask of one venue in this minute."""

    def __init__(self, venue: str, cache: Cache) -> None:
        self._allowance = ALLOWANCES[venue]
        self._venue = venue
        self._cache = cache
        self._lock = threading.Lock()
        self._minute = -1
        self._granted = 0
        self._used_by_all = 0

    def allows(self, call: str, *, new_risk: bool = False) -> bool:
        """Take what ``call`` costs, and tell whether it may be made.

        Only what can wait is ever refused: candles, public trades and orders that take new risk.
        """
        weight = self._allowance.weights.get(call, self._allowance.weight_else)
        if weight == 0:
            return True
        with self._lock:
            self._take(weight)
            spared = new_risk or call in _SPARED
            return not (spared and self._used_by_all > self._ordinary)

    @property
    def _ordinary(self) -> int:
        return self._allowance.per_minute * (100 - RESERVED_PERCENT) // 100

    def _take(self, weight: int) -> None:
        minute = clock.now_ms() // 60_000
        if minute != self._minute:
            self._minute, self._granted, self._used_by_all = minute, 0, 0
        if self._granted < weight:
            block = max(weight, self._allowance.per_minute * _BLOCK_PERCENT // 100)
            used = self._cache.add(f"budget:{self._venue}:{minute}", block, _TTL_SECONDS)
            self._used_by_all = 0 if used is None else used
            self._granted += block
        self._granted -= weight
''')


###################################################################################################
_LOADER.modules["shared.execution.venues.ccxt_loader"] = ("shared/execution/venues/ccxt_loader.py", r'''"""Load single exchange classes of ccxt without the hundred others.

``import ccxt`` executes the modules of every exchange: 0.6 s and 75 MiB in each cold run. A
stand-in for the parent package with the same search path lets ``ccxt.binance`` and its like be
imported alone (0.25 s, 42 MiB). The classes themselves are ccxt's, unmodified.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from typing import Any


def exchange_class(name: str) -> type[Any]:
    """The ccxt class of an exchange id, for example ``binance``."""
    _ensure_parent()
    found: type[Any] = getattr(importlib.import_module(f"ccxt.{name}"), name)
    return found


def errors() -> Any:
    """The module ``ccxt.base.errors``."""
    _ensure_parent()
    return importlib.import_module("ccxt.base.errors")


def _ensure_parent() -> None:
    if "ccxt" in sys.modules:
        return
    spec = importlib.util.find_spec("ccxt")
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError("ccxt: expected an installed package, found none")
    parent = types.ModuleType("ccxt")
    parent.__path__ = list(spec.submodule_search_locations)
    parent.__spec__ = spec
    sys.modules["ccxt"] = parent
''')


###################################################################################################
_LOADER.modules["shared.execution.venues.ccxt_public"] = ("shared/execution/venues/ccxt_public.py", r'''"""Market data over an unmodified ccxt client, validated: ``base.PublicVenue``.

A 200 with an empty or foreign body raises nothing in ccxt, and must not pass for "nothing there".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from shared import clock
from shared.calls import Call, CallLog
from shared.errors import VenueUnavailable
from shared.execution.types import MarketRules
from shared.execution.venues import ccxt_loader, markets, outcomes, public_trades
from shared.execution.venues.answers import recorder_of
from shared.execution.venues.dialects import Dialect
from shared.execution.venues.listings import LISTINGS, Listed, forget_last_answer
from shared.execution.venues.traffic import Traffic
from shared.execution.venues.venue_time import VenueTime
from shared.market.types import Book, PublicTrade, Quote

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class CcxtPublic:
    """See ``base.PublicVenue`` for what each method promises."""

    def __init__(
        self,
        name: str,
        client: Any,
        dialect: Dialect,
        catalogue: markets.Catalogue,
        calls: CallLog,
        *,
        traffic: Traffic | None = None,
        time: VenueTime | None = None,
    ) -> None:
        """Without ``traffic`` nothing is held back; without ``time`` its clock counts as ours."""
        self.name = name
        self._client = client
        self._dialect = dialect
        self._catalogue = catalogue
        self._calls = calls
        self._traffic = traffic
        self._time = time
        self._answers = recorder_of(client)

    def rules(self, symbol: str) -> MarketRules:
        self._ensure_markets()
        return self._catalogue.rules(symbol)

    def candles(
        self, symbol: str, timeframe: str, *, since_ms: int | None, limit: int
    ) -> NDArray[np.float64]:
        import numpy as np

        self._ensure_markets()
        with self._reading("candles"):
            rows = self._client.fetch_ohlcv(symbol, timeframe, since_ms, limit)
        table = np.array(rows, dtype=np.float64)
        if table.ndim != 2 or table.shape[1] != 6:
            raise VenueUnavailable(
                f"{self.name}: candles of {symbol}: expected rows of 6 numbers, was {table.shape}"
            )
        return table

    def book(self, symbol: str, depth: int = 50) -> Book:
        self._ensure_markets()
        with self._reading("book"):
            answer = self._client.fetch_order_book(symbol, self._dialect.book_depth(depth))
        bids = tuple((float(level[0]), float(level[1])) for level in answer["bids"])
        asks = tuple((float(level[0]), float(level[1])) for level in answer["asks"])
        if not bids or not asks or bids[0][0] >= asks[0][0] or bids[0][0] <= 0:
            raise VenueUnavailable(
                f"{self.name}: book of {symbol}: expected bids below asks on both sides, "
                f"was {bids[:1]} and {asks[:1]}"
            )
        return Book(symbol, bids, asks, answer["timestamp"] or clock.now_ms())

    def trades(self, symbol: str, limit: int = 100) -> list[PublicTrade]:
        self._ensure_markets()
        with self._reading("trades"):
            return public_trades.newest(self.name, self._client, symbol, limit)

    def quotes(self, symbols: Sequence[str]) -> dict[str, Quote]:
        self._ensure_markets()
        with self._reading("quotes"):
            listed = [symbol for symbol in symbols if symbol in self._client.markets]
            answer = self._dialect.tickers(self._client, listed) if listed else {}
        now_ms = clock.now_ms()
        return {
            symbol: Quote(float(ticker["bid"]), float(ticker["ask"]), now_ms)
            for symbol, ticker in answer.items()
            if symbol in listed and _proper_quote(ticker)
        }

    def average_price(self, symbol: str) -> Decimal:
        band = self.rules(symbol).price_band
        if band is None:
            raise VenueUnavailable(f"{self.name}: average price: {symbol} has no price band")
        with self._reading("average price"):
            market_id = self._client.market(symbol)["id"]
            price = Decimal(
                str(self._dialect.average_price(self._client, market_id, band.average_minutes))
            )
        if not price.is_finite() or price <= 0:
            raise VenueUnavailable(f"{self.name}: average price: expected > 0, was {price}")
        return price

    def server_time_ms(self) -> int:
        with self._reading("time"):
            return int(self._dialect.server_time(self._client))

    def listing(self, quote_currency: str) -> list[Listed]:
        with self._reading("listing"):
            listed = LISTINGS[self.name].listing(self._client, quote_currency)
        forget_last_answer(self._client)
        return listed

    def daily_closes(self, market_id: str, count: int) -> list[list[float]]:
        with self._reading("candles"):
            return LISTINGS[self.name].days(self._client, market_id, count, clock.now_ms())

    def best_of(self, market_id: str) -> tuple[float | None, float | None]:
        with self._reading("quotes"):
            return LISTINGS[self.name].best(self._client, market_id)

    # Calls and answers -------------------------------------------------------------------------

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        errors = ccxt_loader.errors()
        if self._traffic is not None:
            self._traffic.check(self.name, what)
        self._answers.last = None
        with self._calls.timed(self.name) as call:
            try:
                yield
            except errors.BaseError as error:
                self._note(call, error)
                raise VenueUnavailable(f"{self.name}: {what}: {type(error).__name__}") from error
            except (
                KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError,
            ) as error:  # fmt: skip
                call.fail("malformed answer")
                raise VenueUnavailable(f"{self.name}: {what}: malformed answer") from error

    def _note(self, call: Call, error: Exception) -> None:
        """What a failed call tells of the venue's health, its limits and its clock."""
        errors = ccxt_loader.errors()
        rate_limited = isinstance(error, errors.RateLimitExceeded | errors.DDoSProtection)
        call.fail(type(error).__name__, rate_limited=rate_limited)
        answer = self._answers.last
        if answer is None:
            return
        if self._traffic is not None:
            self._traffic.heed(self.name, answer.status, answer.headers)
        if self._time is not None and outcomes.blames_the_clock(self.name, answer):
            self._time.complain()

    def _ensure_markets(self) -> None:
        if not self._catalogue.loaded:
            with self._reading("markets"):
                self._catalogue.ensure()

    def _present(self, answer: dict[str, Any], field: str, what: str) -> Any:
        if answer.get(field) is None:
            raise VenueUnavailable(f"{self.name}: {what}: expected {field}, was nothing")
        return answer[field]

    def _positive(self, answer: dict[str, Any], field: str, what: str) -> float:
        value = float(self._present(answer, field, what))
        if not math.isfinite(value) or value <= 0:
            raise VenueUnavailable(f"{self.name}: {what}: {field}: expected > 0, was {value}")
        return value


def _proper_quote(ticker: dict[str, Any]) -> bool:
    bid, ask = ticker.get("bid"), ticker.get("ask")
    return bid is not None and ask is not None and 0 < float(bid) < float(ask)
''')


###################################################################################################
_LOADER.modules["shared.execution.venues.ccxt_venue"] = ("shared/execution/venues/ccxt_venue.py", r'''"""The account on a venue over an unmodified ccxt client: ``base.Venue``.

What differs between venues is in ``dialects``; everything here holds for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from shared import clock
from shared.calls import CallLog
from shared.errors import OrderRejected, OrderUnknown, VenueUnavailable
from shared.execution.types import (
    Balance,
    OrderStatus,
    OrderTicket,
    VenueFill,
    VenueOrder,
)
from shared.execution.venues import ccxt_loader, markets, outcomes
from shared.execution.venues.ccxt_public import CcxtPublic
from shared.execution.venues.dialects import Dialect
from shared.execution.venues.traffic import Traffic
from shared.execution.venues.venue_time import VenueTime

_STATUSES: dict[str, OrderStatus] = {
    "open": "open",
    "closed": "filled",
    "canceled": "cancelled",
    "canceling": "open",
    "expired": "expired",
    "rejected": "rejected",
}


class CcxtVenue(CcxtPublic):
    """See ``base.Venue`` for what each method promises."""

    def __init__(
        self,
        name: str,
        client: Any,
        dialect: Dialect,
        catalogue: markets.Catalogue,
        calls: CallLog,
        *,
        mode: Literal["paper", "simulated", "live"] = "simulated",
        traffic: Traffic | None = None,
        time: VenueTime | None = None,
    ) -> None:
        super().__init__(name, client, dialect, catalogue, calls, traffic=traffic, time=time)
        self.mode = mode
        self.protection = dialect.protection
        self.request_validity = dialect.request_validity

    def submit(self, ticket: OrderTicket) -> VenueOrder:
        self._pass_or_refuse(ticket)
        answer = self._send(ticket)
        venue_order_id = answer.get("id") if isinstance(answer, dict) else None
        if not isinstance(venue_order_id, str) or not venue_order_id:
            raise OrderUnknown(f"{self.name}: the answer to an order holds no order id")
        try:
            return self._order(answer)
        except (VenueUnavailable, KeyError, TypeError, ValueError, ArithmeticError):
            # The order exists; what the answer does not tell of it is asked for by its id.
            return VenueOrder(
                venue_order_id, ticket.client_order_id, ticket.symbol, ticket.side, "open",
                ticket.quantity, Decimal(0), None,
            )  # fmt: skip

    def find_order(self, client_order_id: str, symbol: str, sent_at: datetime) -> VenueOrder | None:
        errors = ccxt_loader.errors()
        self._ensure_account()
        with self._reading("order by client id"):
            try:
                answer = self._dialect.find_order(
                    self._client, client_order_id, symbol, clock.to_ms(sent_at)
                )
            except errors.OrderNotFound:
                answer = None
        return None if answer is None else self._order(answer)

    def order(self, venue_order_id: str, symbol: str) -> VenueOrder:
        self._ensure_account()
        with self._reading("order"):
            return self._order(self._client.fetch_order(venue_order_id, symbol))

    def cancel(self, venue_order_id: str, symbol: str) -> None:
        self._ensure_account()
        with self._reading("cancel"):
            self._client.cancel_order(venue_order_id, symbol)

    def open_orders(self, symbols: Sequence[str]) -> list[VenueOrder]:
        self._ensure_account()
        with self._reading("open orders"):
            answers = self._dialect.open_orders(self._client)
            return [self._order(answer) for answer in answers if answer["symbol"] in symbols]

    def fills(self, symbol: str, since: datetime) -> list[VenueFill]:
        self._ensure_account()
        with self._reading("fills"):
            answers = self._client.fetch_my_trades(symbol, clock.to_ms(since))
            return [self._fill(answer) for answer in answers]

    def fills_of(self, order: VenueOrder) -> list[VenueFill]:
        self._ensure_account()
        with self._reading("fills of an order"):
            answers = self._dialect.fills_of(self._client, order.venue_order_id, order.symbol)
            found = [self._fill(answer) for answer in answers]
        own = [fill for fill in found if fill.venue_order_id == order.venue_order_id]
        return sorted(own, key=lambda fill: fill.filled_at)

    def balances(self) -> dict[str, Balance]:
        self._ensure_account()
        with self._reading("balances"):
            answer = self._dialect.balance(self._client)
            if not isinstance(answer.get("total"), dict) or not answer["total"]:
                raise VenueUnavailable(f"{self.name}: balances: expected currencies, was nothing")
            return {
                currency: Balance(_decimal(total), _decimal(answer["free"].get(currency) or 0))
                for currency, total in answer["total"].items()
                if total is not None
            }

    # Sending -----------------------------------------------------------------------------------

    def _pass_or_refuse(self, ticket: OrderTicket) -> None:
        """Everything that may fail before the first byte leaves.

        Raises:
            OrderRejected: nothing was sent.
        """
        self._dialect.forms.check(ticket)
        new_risk = ticket.side == "buy"
        try:
            self._ensure_account()
            markets.check_grid(ticket, self._catalogue.rules(ticket.symbol))
            if self._traffic is not None:
                self._traffic.check(self.name, "submit", new_risk=new_risk)
        except VenueUnavailable as error:
            raise OrderRejected(f"{error}; nothing sent") from error
        refusal = self._time.refusal() if self._time is not None and new_risk else None
        if refusal is not None:
            raise OrderRejected(f"{self.name}: {refusal}; nothing sent")

    def _send(self, ticket: OrderTicket) -> Any:
        errors = ccxt_loader.errors()
        answered = self._answers.last = None
        self._client.last_request_url = None  # set by ccxt as it hands a request to the network
        try:
            with self._calls.timed(self.name) as call:
                try:
                    return self._dialect.create_order(self._client, ticket)
                except errors.BaseError as error:
                    answered = self._answers.last  # what follows may ask the venue for its time
                    self._note(call, error)
                    raise
        except Exception as error:  # noqa: BLE001 - after a send nothing may pass for a rejection
            name = type(error).__name__
            if self._client.last_request_url is None:
                why = error if isinstance(error, errors.BaseError) else "could not be signed"
                raise OrderRejected(f"{self.name}: {name}: {why}; nothing sent") from error
            meaning = outcomes.definite_rejection(self.name, answered)
            if meaning is not None:
                raise OrderRejected(f"{self.name}: {meaning}") from error
            raise OrderUnknown(f"{self.name}: {name}") from error

    def _ensure_account(self) -> None:
        """What a signed request needs: the markets, and the venue's time."""
        self._ensure_markets()
        if self._time is not None:
            self._time.ensure()

    # Answers -----------------------------------------------------------------------------------

    def _order(self, answer: dict[str, Any]) -> VenueOrder:
        status = _STATUSES.get(str(answer["status"]))
        quantity, filled = answer["amount"], answer["filled"]
        if status is None or not answer["id"] or filled is None:
            raise VenueUnavailable(
                f"{self.name}: order: expected id, status and filled quantity, was "
                f"id={answer['id']!r}, status={answer['status']!r}, filled={filled!r}"
            )
        filled_quantity = _decimal(filled)
        if status == "filled" and quantity is not None and filled_quantity < _decimal(quantity):
            # ccxt calls everything that is over "closed" on some venues
            status = "cancelled"
        average = answer["average"]
        return VenueOrder(
            str(answer["id"]),
            answer["clientOrderId"],
            answer["symbol"],
            answer["side"],
            status,
            _decimal(quantity if quantity is not None else filled),
            filled_quantity,
            _decimal(average) if average and filled_quantity > 0 else None,
        )

    def _fill(self, answer: dict[str, Any]) -> VenueFill:
        fee_cost, fee_currency = _fee(answer.get("fee"))
        liquidity: Literal["maker", "taker"] | None = (
            answer["takerOrMaker"] if answer["takerOrMaker"] in ("maker", "taker") else None
        )
        return VenueFill(
            str(self._present(answer, "id", "fill")),
            str(self._present(answer, "order", "fill")),
            answer["symbol"],
            answer["side"],
            _decimal(self._positive(answer, "price", "fill")),
            _decimal(self._positive(answer, "amount", "fill")),
            fee_cost,
            fee_currency,
            liquidity,
            clock.from_ms(self._present(answer, "timestamp", "fill")),
        )


def _fee(told: Any) -> tuple[Decimal, str] | tuple[None, None]:
    """A fee and its currency. What is missing or no number hides no fill: it is unknown."""
    if not isinstance(told, dict) or told.get("cost") is None or not told.get("currency"):
        return None, None
    try:
        cost = _decimal(told["cost"])
    except ArithmeticError:
        return None, None
    return (cost, str(told["currency"])) if cost.is_finite() else (None, None)


def _decimal(value: Any) -> Decimal:
    return Decimal(str(value))
''')


###################################################################################################
_LOADER.modules["shared.execution.venues.clients"] = ("shared/execution/venues/clients.py", r'''"""One ccxt client a venue and process: keys, addresses, time-outs, and the time it goes by.

A scan asks a venue in several threads over the one client. That is sound: what ccxt 4.5.90 keeps
of a request on its client (``last_*``) it never reads back on a public call, the answers' recorder
is one a thread, and the pool of connections below gives each thread a connection of its own that
stays open. Further clients would take 4 to 10 ms and up to 270 KiB each, and nothing else.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

from shared import clock
from shared.config import Config
from shared.execution.venues.ccxt_loader import exchange_class
from shared.execution.venues.pace import RATES, Pace
from shared.execution.venues.venue_time import OFFSET_OPTION

_clients: dict[tuple[str, str | None, str | None, bool], Any] = {}
_nonce = itertools.count()

SIDE_BY_SIDE = 8
"""How many requests a client can have under way; more wait for nothing but are not kept alive."""

# Only spot is traded; without these, binance loads futures, margin pairs and currencies too.
_OPTIONS: dict[str, dict[str, Any]] = {
    "binance": {
        "defaultType": "spot",
        "fetchMarkets": {"types": ["spot"]},
        "fetchCurrencies": False,
        "fetchMargins": False,
        "recvWindow": 5_000,
        "warnOnFetchOpenOrdersWithoutSymbol": False,
    },
    "coinbase": {
        "fetchBalance": "v3PrivateGetBrokerageAccounts",
        "createMarketBuyOrderRequiresPrice": False,
    },
}
_OPTIONS["binanceus"] = _OPTIONS["binance"]


def credentials(config: Config, venue: str) -> tuple[str | None, str | None]:
    """API key and secret of a venue; ``None`` where not configured."""
    family = "binance" if venue == "binanceus" else venue
    key = getattr(config, f"{family}_api_key")
    secret = getattr(config, f"{family}_secret")
    return (
        key.get_secret_value() if key else None,
        secret.get_secret_value().replace("\\n", "\n") if secret else None,
    )


def client(config: Config, venue: str, *, private: bool = True) -> Any:
    """The ccxt client for ``venue``, built once a process.

    Without ``private`` it has no keys, so that it can sign nothing.
    """
    api_key, secret = credentials(config, venue) if private else (None, None)
    # One that paces itself by the wall clock would wait for ever on a clock that stands still.
    identity = (venue, config.simulated_wire_url, api_key, clock.is_virtual())
    if identity not in _clients:
        _clients[identity] = _build(config, venue, api_key, secret)
    return _clients[identity]


def _build(config: Config, venue: str, api_key: str | None, secret: str | None) -> Any:
    simulated = config.simulated_wire_url is not None
    built = exchange_class(venue)(
        {
            "apiKey": api_key,
            "secret": secret,
            "timeout": config.request_timeout_ms,
            # ccxt's own limiter starts empty in each process and makes Kraken wait 3 s a call; on
            # a clock that stands still it would wait for ever.
            "enableRateLimit": not (simulated or clock.is_virtual() or venue == "kraken"),
            "options": _OPTIONS.get(venue, {}),
        }
    )
    built.options["maxRetriesOnFailure"] = 0
    # A redirect would send an order again, and its key to whatever place the answer names.
    built.session.max_redirects = 0
    _keep_connections(built.session)
    if built.enableRateLimit and venue in RATES:
        built.throttle = Pace(RATES[venue])
    # Requests carry the venue's time (see venue_time); parsed answers carry the venue's anyway.
    built.options[OFFSET_OPTION] = 0
    built.milliseconds = lambda: clock.now_ms() + built.options[OFFSET_OPTION]
    built.seconds = lambda: built.milliseconds() // 1000
    if venue == "kraken":
        # ccxt reads its own last nonce back as a float, which would round ours
        built.nonce = built.incrementing_nonce = _increasing_nonce
    if config.simulated_wire_url is not None:
        _redirect(built, f"{config.simulated_wire_url}/{venue}")
    return built


def _keep_connections(session: Any) -> None:
    """As many open connections to one host as threads may ask it; the default is ten."""
    from requests.adapters import HTTPAdapter

    adapter = HTTPAdapter(pool_connections=4, pool_maxsize=2 * SIDE_BY_SIDE, max_retries=0)
    for scheme in ("https://", "http://"):
        session.mount(scheme, adapter)


def _increasing_nonce() -> int:
    """Kraken wants each nonce above the last, also within a millisecond."""
    return clock.now_ms() * 1_000_000 + next(_nonce) % 1_000_000


def _redirect(built: Any, base: str) -> None:
    built.urls["api"] = _at(built.urls["api"], base)
    built.hostname = None


def _at(url: Any, base: str) -> Any:
    """``url`` at another host; of a table of them, each, however deep it lies."""
    if isinstance(url, dict):
        return {name: _at(inner, base) for name, inner in url.items()}
    return re.sub(r"^https?://[^/]+", base, url) if isinstance(url, str) else url
''')


###################################################################################################
_LOADER.modules["shared.execution.venues.dialects"] = ("shared/execution/venues/dialects.py", r'''"""Where ccxt's unified calls do not mean the same on every venue.

Facts about ccxt 4.5.90: the unified client order id does not reach Coinbase's wire, and on Kraken
``fetch_order`` looks a client id up in the wrong field.

The fills of an order are asked for by its id, whole: by a time, Binance answers with the oldest
500 of a day and Kraken with the newest 50 of all pairs, so that a stop that rested for weeks would
never show its fills. Sources: Binance and Binance US, "Account trade list" (``orderId`` goes with
``fromId`` and ``limit``, not with a time); Coinbase Advanced, "List fills" (``order_ids``,
``cursor``); Kraken, "Query orders info" and "Query trades info" (at most 20 ids).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import timedelta
from typing import Any, Literal, Protocol

from shared.execution.types import OrderTicket
from shared.execution.venues import ccxt_loader, order_forms
from shared.execution.venues.order_forms import KRAKEN_DEADLINE, OrderForms

BINANCE_FILLS = 1_000
COINBASE_FILLS = 100
KRAKEN_FILLS = 19
"""How many fills are asked for at once. Kraken takes 20 ids, but after 20 of them ccxt asks once
more with none."""

_NO_REFERENCE_PRICE = "-2043"

_MOST_PAGES = 20  # a venue that shows the same page again and again must not hold the run up


class Dialect(Protocol):
    """The calls that need a word of their own on some venue.

    Attributes:
        protection, request_validity: as in ``base.Venue``.
        forms: the kinds of order that the venue takes.
        time_resolution_ms: how finely ccxt tells the venue's clock.
    """

    time_resolution_ms: int
    protection: Literal["stop_limit", "stop_market"]
    request_validity: timedelta
    forms: OrderForms

    def book_depth(self, wanted: int) -> int:
        """The nearest depth that the venue serves."""

    def tickers(self, client: Any, symbols: list[str]) -> dict[str, Any]:
        """Best bid and ask of ``symbols`` in one request."""

    def server_time(self, client: Any) -> int:
        """The venue's clock in milliseconds."""

    def average_price(self, client: Any, market_id: str, minutes: int) -> Any:
        """The number by which the venue judges limit prices, as it is told.

        Args:
            minutes: over which it averages by its rules; 0 for its last price.
        """

    def create_order(self, client: Any, ticket: OrderTicket) -> Any:
        """Send a ticket that ``forms`` has passed, with our client id on the wire."""

    def find_order(self, client: Any, client_order_id: str, symbol: str, since_ms: int) -> Any:
        """The order with our client id, or ``None``."""

    def open_orders(self, client: Any) -> list[Any]:
        """All resting orders of the account."""

    def fills_of(self, client: Any, venue_order_id: str, symbol: str) -> list[Any]:
        """The executions of one order: one request, on Kraken two, as long as a page holds them."""

    def balance(self, client: Any) -> Any:
        """Totals and what is free."""


class _Common(ABC):
    time_resolution_ms = 1_000
    protection: Literal["stop_limit", "stop_market"] = "stop_limit"
    request_validity: timedelta
    forms: OrderForms

    def book_depth(self, wanted: int) -> int:
        return wanted

    def tickers(self, client: Any, symbols: list[str]) -> dict[str, Any]:
        answer: dict[str, Any] = client.fetch_tickers(symbols)
        return answer

    def server_time(self, client: Any) -> int:
        return int(client.fetch_time())

    def open_orders(self, client: Any) -> list[Any]:
        answer: list[Any] = client.fetch_open_orders()
        return answer

    def balance(self, client: Any) -> Any:
        return client.fetch_balance()

    def average_price(self, client: Any, market_id: str, minutes: int) -> Any:
        raise ValueError(f"{market_id}: expected no price band, had one of {minutes} minutes")

    def create_order(self, client: Any, ticket: OrderTicket) -> Any:
        at_market = ticket.order_type == "stop_market"
        return client.create_order(
            ticket.symbol,
            "market" if at_market else "limit",
            ticket.side,
            float(ticket.quantity),
            None if at_market else float(ticket.limit_price),
            self._parameters(client, ticket) | {self.forms.client_id_field: ticket.client_order_id},
        )

    @abstractmethod
    def _parameters(self, client: Any, ticket: OrderTicket) -> dict[str, Any]:
        """What the venue wants beside symbol, side, quantity and limit, in its own names."""


class BinanceDialect(_Common):
    """Binance.

    Its price filters go by a symbol's reference price where it has one, else by the average of
    trades ("Filters", as of 2026-05-06).
    """

    has_reference_price = True

    time_resolution_ms = 1
    # recvWindow is looked at again before the matching engine, which answers within 10 s
    request_validity = timedelta(seconds=5 + 10)
    forms = OrderForms(("limit", "stop_limit"), ("IOC", "FOK", "GTC"))

    def book_depth(self, wanted: int) -> int:
        return next((depth for depth in (5, 10, 20, 50, 100, 500) if depth >= wanted), 1000)

    def tickers(self, client: Any, symbols: list[str]) -> dict[str, Any]:
        answer: dict[str, Any] = client.fetch_bids_asks(symbols)
        return answer

    def average_price(self, client: Any, market_id: str, minutes: int) -> Any:
        reference = _reference_price(client, market_id) if self.has_reference_price else None
        if reference is not None:
            return reference
        asked = {"symbol": market_id}
        if minutes == 0:
            return client.publicGetTickerPrice(asked)["price"]
        answer = client.publicGetAvgPrice(asked)
        if int(answer["mins"]) != minutes:
            raise ValueError(f"avgPrice: expected {minutes} minutes, was {answer['mins']!r}")
        return answer["price"]

    def find_order(self, client: Any, client_order_id: str, symbol: str, since_ms: int) -> Any:
        return client.fetch_order(None, symbol, {"clientOrderId": client_order_id})

    def fills_of(self, client: Any, venue_order_id: str, symbol: str) -> list[Any]:
        found: list[Any] = []
        from_id = 0
        for _ in range(_MOST_PAGES):
            page = client.fetch_order_trades(
                venue_order_id, symbol, None, BINANCE_FILLS, {"fromId": from_id}
            )
            found += page
            if len(page) < BINANCE_FILLS:
                break
            from_id = max(int(trade["id"]) for trade in page) + 1
        return found

    def _parameters(self, client: Any, ticket: OrderTicket) -> dict[str, Any]:
        return order_forms.binance(ticket)


class BinanceUSDialect(BinanceDialect):
    """Binance US, which is Binance's but for what was added there since."""

    has_reference_price = False


class KrakenDialect(_Common):
    """Kraken spot."""

    protection: Literal["stop_limit", "stop_market"] = "stop_market"
    request_validity = KRAKEN_DEADLINE
    forms = OrderForms(("limit", "stop_market"), ("IOC", "GTC", "GTD"))

    def find_order(self, client: Any, client_order_id: str, symbol: str, since_ms: int) -> Any:
        own_id = {"clientOrderId": client_order_id}
        for orders in (
            client.fetch_open_orders(symbol, None, None, own_id),
            client.fetch_closed_orders(symbol, None, None, own_id),
        ):
            for order in orders:
                if order["clientOrderId"] == client_order_id:
                    return order
        return None

    def fills_of(self, client: Any, venue_order_id: str, symbol: str) -> list[Any]:
        # ccxt's own word for it is Python's "True"
        trades = client.fetch_order(venue_order_id, symbol, {"trades": "true"})["trades"]
        ids = sorted({trade["id"] for trade in trades})
        found: list[Any] = []
        for first in range(0, len(ids), KRAKEN_FILLS):
            asked = {"trades": ids[first : first + KRAKEN_FILLS]}
            found += client.fetch_order_trades(venue_order_id, symbol, None, None, asked)
        return found

    def _parameters(self, client: Any, ticket: OrderTicket) -> dict[str, Any]:
        return order_forms.kraken(ticket, client.milliseconds())


class CoinbaseDialect(_Common):
    """Coinbase Advanced Trade."""

    request_validity = timedelta(seconds=120)  # the token of a request expires then
    forms = OrderForms(("limit", "stop_limit"), ("IOC", "FOK", "GTC", "GTD"), "client_order_id")

    def tickers(self, client: Any, symbols: list[str]) -> dict[str, Any]:
        """Its public tickers hold no bid and ask: the best prices are private, the books public."""
        if client.apiKey:
            answer: dict[str, Any] = client.fetch_bids_asks(symbols)
            return answer
        return {symbol: _best(client.fetch_order_book(symbol, 1)) for symbol in symbols}

    def find_order(self, client: Any, client_order_id: str, symbol: str, since_ms: int) -> Any:
        for order in client.fetch_orders(symbol, since_ms - 60_000, 100):
            if order["clientOrderId"] == client_order_id:
                return order
        return None

    def fills_of(self, client: Any, venue_order_id: str, symbol: str) -> list[Any]:
        found: list[Any] = []
        asked: dict[str, Any] = {"order_ids": [venue_order_id]}
        for _ in range(_MOST_PAGES):
            page = client.fetch_my_trades(symbol, None, COINBASE_FILLS, asked)
            found += page
            # ccxt writes the cursor of the next page into the page's first raw fill
            cursors = {trade["info"].get("cursor") for trade in page} - {None, ""}
            if not cursors:
                break
            asked = asked | {"cursor": cursors.pop()}
        return found

    def _parameters(self, client: Any, ticket: OrderTicket) -> dict[str, Any]:
        return order_forms.coinbase(ticket)


def _reference_price(client: Any, market_id: str) -> Any:
    """``None`` where the symbol has none now (null), or never had one (-2043)."""
    try:
        return client.publicGetReferencePrice({"symbol": market_id})["referencePrice"]
    except ccxt_loader.errors().ExchangeError as error:
        if _NO_REFERENCE_PRICE not in str(error):
            raise
        return None


def _best(book: dict[str, Any]) -> dict[str, Any]:
    return {
        "bid": book["bids"][0][0] if book["bids"] else None,
        "ask": book["asks"][0][0] if book["asks"] else None,
    }


DIALECTS: dict[str, Dialect] = {
    "binance": BinanceDialect(),
    "binanceus": BinanceUSDialect(),
    "kraken": KrakenDialect(),
    "coinbase": CoinbaseDialect(),
}
''')


###################################################################################################
_LOADER.modules["shared.execution.venues.filters"] = ("shared/execution/venues/filters.py", r'''"""What Binance's filters say of a symbol beyond grid and minimums: the price band, the counts.

Binance and Binance US list them in ``exchangeInfo``, and ccxt leaves them in a market's ``info``.
Kraken and Coinbase list nothing of the kind. A filter that is not listed is no rule. One that is
listed and cannot be read is named: nobody knows what the venue would refuse, so nothing is bought
there, but what is held is not locked in by a number that has got another form.

Sources: Binance, "Filters" (binance-spot-api-docs/filters.md, 2026-05-08); Binance US, "Filters"
(binance-us-api-docs/filters.md). PERCENT_PRICE and PERCENT_PRICE_BY_SIDE judge ``price``, never
``stopPrice``; a symbol that lists both has to pass both. Algo orders are stops and take-profits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from shared.execution.types import PriceBand

_BAND_FIELDS = {
    "PERCENT_PRICE": ("multiplierDown", "multiplierUp", "multiplierDown", "multiplierUp"),
    "PERCENT_PRICE_BY_SIDE": (
        "bidMultiplierDown",
        "bidMultiplierUp",
        "askMultiplierDown",
        "askMultiplierUp",
    ),
}
"""Where each filter holds the lowest and highest multiple of a buy, then of a sale."""

_COUNT_FIELDS = {"MAX_NUM_ORDERS": "maxNumOrders", "MAX_NUM_ALGO_ORDERS": "maxNumAlgoOrders"}


@dataclass(frozen=True)
class Filters:
    """As in ``MarketRules``."""

    price_band: PriceBand | None = None
    max_orders: int | None = None
    max_stop_orders: int | None = None
    unread: tuple[str, ...] = ()


def read(info: object) -> Filters:
    """The filters in ``info``, a venue's own record of a market as ccxt keeps it."""
    if not isinstance(info, dict) or not isinstance(info.get("filters"), list):
        return Filters()
    bands: list[PriceBand] = []
    counts: dict[str, int] = {}
    unread: list[str] = []
    for kind, told in _named(info["filters"]):
        try:
            if kind in _BAND_FIELDS:
                bands.append(_band(told, _BAND_FIELDS[kind]))
            elif kind in _COUNT_FIELDS:
                counts[kind] = _whole(told, _COUNT_FIELDS[kind], least=1)
        except _Malformed as error:
            unread.append(f"{kind} {error}")
    minutes = {band.average_minutes for band in bands}
    if len(minutes) > 1:
        unread.append(f"avgPriceMins: expected one for all filters, was {sorted(minutes)}")
    return Filters(
        _narrowest(bands) if len(minutes) == 1 else None,
        counts.get("MAX_NUM_ORDERS"),
        counts.get("MAX_NUM_ALGO_ORDERS"),
        tuple(unread),
    )


class _Malformed(Exception):
    """A field of a filter, what was expected of it, and what it was."""

    def __init__(self, field: str, expected: str, value: object) -> None:
        super().__init__(f"{field}: expected {expected}, was {value!r}")


def _named(listed: Iterable[Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(str(one["filterType"]), one) for one in listed if "filterType" in one]


def _band(told: Mapping[str, Any], fields: tuple[str, ...]) -> PriceBand:
    lowest_buy, highest_buy, lowest_sell, highest_sell = (_multiple(told, f) for f in fields)
    for name, low, high in (("buy", lowest_buy, highest_buy), ("sell", lowest_sell, highest_sell)):
        if low > high:
            raise _Malformed(f"multiples of a {name}", "the lowest first", (str(low), str(high)))
    minutes = _whole(told, "avgPriceMins", least=0)
    return PriceBand(lowest_buy, highest_buy, lowest_sell, highest_sell, minutes)


def _narrowest(bands: list[PriceBand]) -> PriceBand:
    """What passes every filter of a symbol; they average over the same minutes."""
    return PriceBand(
        max(band.lowest_buy_multiple for band in bands),
        min(band.highest_buy_multiple for band in bands),
        max(band.lowest_sell_multiple for band in bands),
        min(band.highest_sell_multiple for band in bands),
        bands[0].average_minutes,
    )


def _multiple(told: Mapping[str, Any], field: str) -> Decimal:
    value = _number(told, field)
    if value <= 0:
        raise _Malformed(field, "above 0", told[field])
    return value


def _whole(told: Mapping[str, Any], field: str, *, least: int) -> int:
    value = _number(told, field)
    if value != value.to_integral_value() or value < least:
        raise _Malformed(field, f"a whole number from {least}", told[field])
    return int(value)


def _number(told: Mapping[str, Any], field: str) -> Decimal:
    if field not in told:
        raise _Malformed(field, "a number", "nothing")
    try:
        value = Decimal(str(told[field]))
    except ArithmeticError:
        value = Decimal("NaN")
    if not value.is_finite():
        raise _Malformed(field, "a number", told[field])
    return value
''')


###################################################################################################
_LOADER.modules["shared.execution.venues.limits"] = ("shared/execution/venues/limits.py", r'''"""What a venue has told us to wait for, kept in PostgreSQL so that every later run honours it.

Sources: RFC 9110, 10.2.3 (Retry-After); Binance, "Limits" (418 is a ban of 2 minutes to 3 days for
going on after a 429).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from shared.ledger.connection import Ledger

_SHORTEST_BAN = timedelta(minutes=2)
_LONGEST_BAN = timedelta(days=3)
_UNREADABLE = timedelta(minutes=1)  # a Retry-After that nobody can read still means: wait


@dataclass(frozen=True)
class Block:
    """Ask nothing of ``venue`` before ``until``. ``banned``: it has answered 418."""

    venue: str
    until: datetime
    banned: bool
    reason: str


def in_force(ledger: Ledger, at: datetime) -> dict[str, Block]:
    """The blocks that hold at a time, by venue."""
    rows = ledger.query(
        "SELECT venue, blocked_until, banned, reason FROM venue_limits WHERE blocked_until > %s",
        (at,),
    )
    return {
        row["venue"]: Block(row["venue"], row["blocked_until"], row["banned"], row["reason"])
        for row in rows
    }


def record(ledger: Ledger, block: Block, at: datetime) -> None:
    """Keep a block; one that holds longer already stays."""
    ledger.execute(
        "INSERT INTO venue_limits AS v (venue, blocked_until, banned, reason, at) "
        "VALUES (%s, %s, %s, %s, %s) ON CONFLICT (venue) DO UPDATE SET "
        "blocked_until = excluded.blocked_until, banned = excluded.banned, "
        "reason = excluded.reason, at = excluded.at "
        "WHERE v.blocked_until < excluded.blocked_until",
        (block.venue, block.until, block.banned, block.reason, at),
    )


def block_of(venue: str, status: int, headers: Mapping[str, str], at: datetime) -> Block | None:
    """The block that an answer asks for, or ``None``.

    A 429 without Retry-After asks for none: Binance answers so when only the count of orders is
    used up, which says nothing of exits and cancels.
    """
    if status not in (418, 429):
        return None
    wait = _wait(headers.get("Retry-After"), at)
    if status == 418:
        wait = max(wait or timedelta(0), _SHORTEST_BAN)
    if wait is None or wait <= timedelta(0):
        return None
    return Block(venue, at + min(wait, _LONGEST_BAN), status == 418, f"HTTP {status}")


def _wait(retry_after: str | None, at: datetime) -> timedelta | None:
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isdecimal():
        return timedelta(seconds=min(int(text), int(_LONGEST_BAN.total_seconds())))
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return _UNREADABLE
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment - at
''')


###################################################################################################
_LOADER.modules["shared.execution.venues.listings"] = ("shared/execution/venues/listings.py", r'''"""A venue's whole listing in one look, without ccxt's market objects.

The universe is chosen among all symbols of a quote currency. ``load_markets`` would build an object
of 60 fields for each market of the venue, 120 MiB of them; the raw answers of ccxt's own endpoints
are read and left at once, and what stays is a small record a symbol.

What the venues tell, as ccxt 4.5.90 reaches it (``fetch_tickers`` has the same sources, but needs
the market objects first):

- Binance, Binance US: ``ticker/24hr`` without a symbol tells turnover in quote, best bid and ask of
  all symbols (weight 80), and nothing of their state: what does not trade has neither turnover nor
  bid. ``exchangeInfo`` of the most traded ones tells their state (weight 20).
- Kraken: ``Ticker`` without a pair tells volume in base, its average price, best bid and ask;
  ``AssetPairs`` names and state.
- Coinbase: ``market/products`` tells turnover in quote and state, and neither bid nor ask: they are
  asked for a symbol at a time, from its book.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from shared.execution.venues.answers import recorder_of

DAY_MS = 86_400_000
_STATES_ASKED = 150  # symbols of one exchangeInfo: the address stays below 4 kB


@dataclass(frozen=True)
class Listed:
    """A symbol as its venue lists it now. ``None`` is not told.

    Attributes:
        market_id: the venue's own name of it.
        active: it can be traded now, as far as the venue tells.
        quote_volume: turnover of 24 hours in quote currency.
    """

    symbol: str
    market_id: str
    active: bool
    quote_volume: float | None
    bid: float | None
    ask: float | None


class ListingDialect(Protocol):
    """How one venue is asked for its listing and a symbol's days."""

    def listing(self, client: Any, quote: str) -> list[Listed]:
        """All symbols against ``quote``. Malformed answers raise as ccxt's parsers do."""

    def days(self, client: Any, market_id: str, count: int, now_ms: int) -> list[list[float]]:
        """``[open_ms, close]`` of the newest daily candles, oldest first, the open one last."""

    def best(self, client: Any, market_id: str) -> tuple[float | None, float | None]:
        """Best bid and ask."""


class BinanceListing:
    """Binance and Binance US."""

    def listing(self, client: Any, quote: str) -> list[Listed]:
        found = list(self._tickers(client.publicGetTicker24hr(), client, quote))
        found.sort(key=lambda listed: -(listed.quote_volume or 0))
        asked = [listed.market_id for listed in found[:_STATES_ASKED] if listed.active]
        if not asked:
            return found
        trading = self._trading(client, asked)
        halted = set(asked) - trading
        return [_inactive(one) if one.market_id in halted else one for one in found]

    def days(self, client: Any, market_id: str, count: int, now_ms: int) -> list[list[float]]:
        rows = client.publicGetKlines({"symbol": market_id, "interval": "1d", "limit": count})
        return [[float(row[0]), _positive(row[4])] for row in rows]

    def best(self, client: Any, market_id: str) -> tuple[float | None, float | None]:
        answer = client.publicGetTickerBookTicker({"symbol": market_id})
        return _number(answer["bidPrice"]), _number(answer["askPrice"])

    def _tickers(self, rows: Any, client: Any, quote: str) -> Iterator[Listed]:
        for row in rows:
            name = str(row["symbol"])
            base = name.removesuffix(quote)
            if not base or base == name:
                continue
            volume, bid, ask = (
                _number(row[field]) for field in ("quoteVolume", "bidPrice", "askPrice")
            )
            symbol = f"{client.safe_currency_code(base)}/{quote}"
            yield Listed(symbol, name, bool(volume and bid and ask), volume, bid, ask)

    def _trading(self, client: Any, market_ids: list[str]) -> set[str]:
        asked = {"symbols": json.dumps(market_ids, separators=(",", ":"))}
        answer = client.publicGetExchangeInfo(asked | {"showPermissionSets": "false"})
        return {row["symbol"] for row in answer["symbols"] if row["status"] == "TRADING"}


class KrakenListing:
    """Kraken spot."""

    def listing(self, client: Any, quote: str) -> list[Listed]:
        pairs = client.publicGetAssetPairs()["result"]
        names = {
            key: (client.safe_currency_code(pair["base"]), pair["status"] == "online")
            for key, pair in pairs.items()
            if client.safe_currency_code(pair["quote"]) == quote
            and pair.get("aclass_base", "currency") == "currency"
        }
        tickers = client.publicGetTicker()["result"]
        return [
            self._listed(f"{base}/{quote}", key, online, tickers.get(key))
            for key, (base, online) in names.items()
        ]

    def days(self, client: Any, market_id: str, count: int, now_ms: int) -> list[list[float]]:
        answer = client.publicGetOHLC({"pair": market_id, "interval": 1440})["result"]
        (rows,) = [value for key, value in answer.items() if key != "last"]
        return [[float(row[0]) * 1000, _positive(row[4])] for row in rows[-count:]]

    def best(self, client: Any, market_id: str) -> tuple[float | None, float | None]:
        (row,) = client.publicGetTicker({"pair": market_id})["result"].values()
        return _number(row["b"][0]), _number(row["a"][0])

    def _listed(self, symbol: str, key: str, online: bool, row: Any) -> Listed:
        if row is None:
            return Listed(symbol, key, online, None, None, None)
        volume, price = _number(row["v"][1]), _number(row["p"][1])
        turnover = None if volume is None or price is None else volume * price
        return Listed(symbol, key, online, turnover, _number(row["b"][0]), _number(row["a"][0]))


class CoinbaseListing:
    """Coinbase Advanced Trade."""

    def listing(self, client: Any, quote: str) -> list[Listed]:
        answer = client.v3PublicGetBrokerageMarketProducts({"product_type": "SPOT"})
        return [
            Listed(
                f"{client.safe_currency_code(row['base_currency_id'])}/{quote}",
                str(row["product_id"]),
                _is_open(row),
                _number(row.get("approximate_quote_24h_volume")),
                None,
                None,
            )
            for row in answer["products"]
            if row["quote_currency_id"] == quote
        ]

    def days(self, client: Any, market_id: str, count: int, now_ms: int) -> list[list[float]]:
        start = (now_ms - count * DAY_MS) // 1000
        answer = client.v3PublicGetBrokerageMarketProductsProductIdCandles(
            {
                "product_id": market_id,
                "granularity": "ONE_DAY",
                "start": str(start),
                "end": str(now_ms // 1000),
            }
        )
        rows = [[float(row["start"]) * 1000, _positive(row["close"])] for row in answer["candles"]]
        return sorted(rows)

    def best(self, client: Any, market_id: str) -> tuple[float | None, float | None]:
        asked = {"product_id": market_id, "limit": 1}
        book = client.v3PublicGetBrokerageMarketProductBook(asked)["pricebook"]
        sides = (book["bids"], book["asks"])
        bid, ask = (_number(side[0]["price"]) if side else None for side in sides)
        return bid, ask


LISTINGS: dict[str, ListingDialect] = {
    "binance": BinanceListing(),
    "binanceus": BinanceListing(),
    "kraken": KrakenListing(),
    "coinbase": CoinbaseListing(),
}


def forget_last_answer(client: Any) -> None:
    """Let go of the text of a listing, which ccxt and the recorder of answers would hold on to."""
    client.last_http_response = None
    recorder_of(client).last = None


def _is_open(row: dict[str, Any]) -> bool:
    closed = ("is_disabled", "trading_disabled", "cancel_only", "auction_mode", "view_only")
    return row["status"] == "online" and not any(row.get(name) for name in closed)


def _inactive(listed: Listed) -> Listed:
    return Listed(
        listed.symbol, listed.market_id, False, listed.quote_volume, listed.bid, listed.ask
    )


def _number(value: Any) -> float | None:
    """A finite number above 0, or ``None``: venues tell 0 or nothing where there is none."""
    if value is None or value == "":
        return None
    number = float(value)
    return number if math.isfinite(number) and number > 0 else None


def _positive(value: Any) -> float:
    number = _number(value)
    if number is None:
        raise ValueError(f"close: expected a number above 0, was {value!r}")
    return number
''')


###################################################################################################
_LOADER.modules["shared.execution.venues.live"] = ("shared/execution/venues/live.py", r'''"""Whether orders reach a real venue: the switch, a token that expires, and what is live already.

``ENABLE_LIVE_TRADING=true`` alone is paper. A person arms the pod for some hours as well, with
``trading-loop arm``. When the token has expired or was revoked, nothing is bought any more: the
gate asks for it in each buy's transaction. But as long as a position or an order is live, runs stay
live without it, because exits, stops, cancels and reconciliation of what is really held must go on:
a position that nobody manages loses more than one that is sold. Once all is flat, runs are paper.

The switch is stronger. Where it is off, nothing is sent, whatever is held: the person has said so.
"""

from __future__ import annotations

from shared import clock
from shared.execution.types import Mode
from shared.ledger import alerts, arming
from shared.run import Run


def mode_of(run: Run) -> Mode:
    """Where the orders of this run end; paper, unless everything says otherwise."""
    if run.config.trading_mode == "simulated":
        return "simulated"
    if run.config.trading_mode != "live" or clock.is_virtual():
        return "paper"
    if arming.current(run.ledger) is not None:
        return "live"
    if not arming.is_anything_live(run.ledger):
        return "paper"
    _tell_selling_only(run)
    return "live"


def _tell_selling_only(run: Run) -> None:
    alerts.put(
        run.ledger,
        f"live-unarmed:{run.ledger.pod}:{clock.now():%Y-%m-%dT%H}",
        "HIGH",
        "Live trading is not armed, and something is still live",
        f"pod {run.ledger.pod}: what is open is managed until it is sold, and nothing is bought. "
        "Then runs are paper, unless the pod is armed again.",
    )
''')


###################################################################################################
_LOADER.modules["shared.execution.venues.markets"] = ("shared/execution/venues/markets.py", r'''"""Which symbols a venue lists, with their grids and fees: read once, kept in the cache.

Loading all markets of a venue costs a second and 120 MiB, so a run takes the few that it trades
from Redis, or from the ledger when Redis is lost, and only a run that finds nothing asks the venue.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

from shared import clock
from shared.cache import Cache
from shared.errors import OrderRejected, VenueUnavailable
from shared.execution.types import MarketRules, OrderTicket
from shared.execution.venues import filters
from shared.ledger.connection import Ledger
from shared.market import peg
from shared.market.fees import ENTRY_TIER

_TTL_SECONDS = 6 * 3600

_KNOWN = "catalogued_symbols"  # on a client: the symbols that its markets were loaded for

# Fees may be taken in the venue's own token: its price is known, although it is not traded.
_FEE_TOKENS = {"binance": "BNB", "binanceus": "BNB"}


def check_grid(ticket: OrderTicket, rules: MarketRules) -> None:
    """Refuse what is off the venue's grid or below its minimum; ccxt would round it in silence.

    Raises:
        OrderRejected: names the field, its value and what was expected; nothing was sent.
    """
    _on_grid(ticket, "quantity", ticket.quantity, rules.quantity_step)
    if ticket.order_type != "stop_market":  # its limit price is not sent
        _on_grid(ticket, "limit_price", ticket.limit_price, rules.price_tick)
    if ticket.stop_price is not None:
        _on_grid(ticket, "stop_price", ticket.stop_price, rules.price_tick)
    if ticket.quantity < rules.min_quantity:
        raise _refused(ticket, "quantity", ticket.quantity, f"at least {rules.min_quantity}")
    notional = ticket.quantity * ticket.limit_price
    if notional < rules.min_notional:
        raise _refused(ticket, "notional", notional, f"at least {rules.min_notional}")


def _on_grid(ticket: OrderTicket, name: str, value: Decimal, grid: Decimal) -> None:
    if value <= 0 or value % grid != 0:
        raise _refused(ticket, name, value, f"a multiple of {grid} above 0")


def _refused(ticket: OrderTicket, name: str, value: object, expected: str) -> OrderRejected:
    return OrderRejected(
        f"{ticket.venue}: {ticket.symbol}: {name}: was {value}, expected {expected}; nothing sent"
    )


class Catalogue:
    """The markets that this system may touch on one venue."""

    def __init__(
        self,
        name: str,
        client: Any,
        symbols: tuple[str, ...],
        cache: Cache,
        ledger: Callable[[], Ledger] | None = None,
    ) -> None:
        """``ledger`` gives one for the calling thread; it keeps a copy beside the cache's."""
        self._name = name
        self._client = client
        self._symbols = symbols
        self._cache = cache
        self._ledger = ledger
        self._loading = threading.RLock()

    @property
    def loaded(self) -> bool:
        """Whether this process knows the markets already; waits where a thread is loading them.

        A warm process may know those of an earlier universe, in which some are lacking.
        """
        with self._loading:  # a client has its markets before it has their ids
            if not self._symbols:
                return self._client.markets is not None
            known = getattr(self._client, _KNOWN, self._symbols)
            return bool(self._client.markets) and set(self._symbols) <= set(known)

    def ensure(self) -> None:
        """Give the client its markets: from the cache, from the ledger, or else from the venue.

        All markets of a venue cross the network once in six hours, as long as one of the two
        stores is there, however many processes start cold meanwhile. Threads that ask side by side
        wait for the first of them.
        """
        with self._loading:
            if not self._symbols:
                self._client.set_markets([])  # a universe that has not been chosen yet
            elif not self.loaded:
                self._fill()
                setattr(self._client, _KNOWN, self._symbols)

    def _fill(self) -> None:
        kept = self._cache.get(self._key)
        if kept is not None:
            self._client.set_markets(json.loads(kept))
            return
        wanted = self._kept_in_ledger() or self._load()
        self._client.set_markets(wanted)
        self._cache.set(self._key, json.dumps(wanted, default=str).encode(), _TTL_SECONDS)

    @property
    def _key(self) -> str:
        """Fees differ with keys, and a replay of other symbols wants others."""
        whose = "account" if self._client.apiKey else "public"
        return f"catalogue:{self._name}:{whose}:{','.join(self._symbols)}"

    def _load(self) -> list[dict[str, Any]]:
        # ccxt gives back what it has unless it is told to ask again
        listed = self._client.load_markets(*([True] if self._client.markets else []))
        wanted = [listed[symbol] for symbol in listed if self._wanted(symbol)]
        self._add_fees(wanted)
        if self._ledger is not None:
            self._ledger().execute(
                "INSERT INTO venue_catalogues (name, markets, loaded_at) VALUES (%s, %s, %s) "
                "ON CONFLICT (name) DO UPDATE SET markets = excluded.markets, "
                "loaded_at = excluded.loaded_at",
                (self._key, json.dumps(wanted, default=str), clock.now()),
            )
        return wanted

    def _kept_in_ledger(self) -> list[dict[str, Any]] | None:
        if self._ledger is None:
            return None
        row = self._ledger().one(
            "SELECT markets FROM venue_catalogues WHERE name = %s AND loaded_at > %s",
            (self._key, clock.now() - timedelta(seconds=_TTL_SECONDS)),
        )
        return None if row is None else list(row["markets"])

    def rules(self, symbol: str) -> MarketRules:
        """The grid, minimums and fees of ``symbol``.

        Raises:
            VenueUnavailable: the venue does not list it, or leaves out what is needed.
        """
        market = self._client.markets.get(symbol)
        if market is None:
            raise VenueUnavailable(f"{self._name}: {symbol}: not listed")
        precision, limits = market["precision"], market["limits"]
        told = filters.read(market.get("info"))
        return MarketRules(
            venue=self._name,
            symbol=symbol,
            price_tick=self._number(precision["price"], symbol, "price tick"),
            quantity_step=self._number(precision["amount"], symbol, "quantity step"),
            min_quantity=Decimal(str(limits["amount"]["min"] or 0)),
            min_notional=Decimal(str((limits.get("cost") or {}).get("min") or 0)),
            taker_fee_bps=Decimal(str(market["taker"])) * 10_000,
            maker_fee_bps=Decimal(str(market["maker"])) * 10_000,
            is_open=market.get("active") is True,  # what a venue does not tell is closed
            price_band=told.price_band,
            max_orders=told.max_orders,
            max_stop_orders=told.max_stop_orders,
            unread_filters=told.unread,
        )

    def _wanted(self, symbol: str) -> bool:
        bases = {pair.split("/")[0] for pair in self._symbols}
        base, _, quote = symbol.partition("/")
        quotes = {pair.split("/")[1] for pair in self._symbols}
        takes_fees = base == _FEE_TOKENS.get(self._name) and quote in quotes
        tells_worth = any(symbol in peg.pairs(quote) for quote in quotes)
        in_universe = symbol in self._symbols or (base in bases and quote in bases)
        return in_universe or takes_fees or tells_worth

    def _add_fees(self, wanted: list[dict[str, Any]]) -> None:
        fees = self._account_fees() if self._asks_for_fees() else {}
        entry = ENTRY_TIER[self._name]
        for market in wanted:
            own = fees.get(market["symbol"]) or {}
            market["taker"] = float(own["taker"] if own.get("taker") else entry.taker_bps / 10_000)
            market["maker"] = float(own["maker"] if own.get("maker") else entry.maker_bps / 10_000)

    def _account_fees(self) -> dict[str, Any]:
        """Taker and maker fee of the account, by symbol."""
        client = self._client
        if self._name != "binanceus":
            own: dict[str, Any] = client.fetch_trading_fees()
            return own
        # For Binance US, ccxt's unified call asks a path that only Binance has.
        rows = [client.parse_trading_fee(row) for row in client.sapi_get_asset_query_trading_fee()]
        return {row["symbol"]: row for row in rows}

    def _asks_for_fees(self) -> bool:
        return bool(self._client.apiKey) and bool(self._client.has.get("fetchTradingFees"))

    def _number(self, value: Any, symbol: str, what: str) -> Decimal:
        if value is None or Decimal(str(value)) <= 0:
            raise VenueUnavailable(f"{self._name}: {symbol}: {what}: expected > 0, was {value!r}")
        return Decimal(str(value))
''')


###################################################################################################
_LOADER.modules["shared.execution.venues.order_forms"] = ("shared/execution/venues/order_forms.py", r'''"""Which kinds of order a venue takes, and in which form ccxt's ``create_order`` wants them.

Everything that a venue does not take is refused here, before anything is sent. So is a plain
market order, which has no price collar, and whose quantity ccxt gives to Coinbase as quote.

Sources: Binance and Binance US, "New order" (LIMIT_MAKER takes no timeInForce; no GTD on spot);
Coinbase Advanced, "Create Order" (order configurations; no stop-market order); Kraken, "Add Order"
(timeinforce GTC, IOC or GTD; ``deadline`` in RFC 3339).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from shared import clock
from shared.errors import OrderRejected
from shared.execution.types import OrderTicket

KRAKEN_DEADLINE = timedelta(seconds=10)  # the venue takes 2 s to 60 s

Parameters = dict[str, Any]


@dataclass(frozen=True)
class OrderForms:
    """What a venue takes.

    Attributes:
        order_types, times_in_force: the values of a ticket that the venue knows.
        client_id_field: ccxt's parameter that carries our id to this venue's wire.
    """

    order_types: tuple[str, ...]
    times_in_force: tuple[str, ...]
    client_id_field: str = "clientOrderId"
    stops: tuple[str, ...] = field(default=("stop_limit", "stop_market"), init=False)

    def check(self, ticket: OrderTicket) -> None:
        """Refuse what the venue does not take.

        Raises:
            OrderRejected: names the field, its value and what was expected; nothing was sent.
        """
        if ticket.order_type not in self.order_types:
            raise _refused(ticket, "order_type", ticket.order_type, _one_of(self.order_types))
        if ticket.time_in_force not in self.times_in_force:
            raise _refused(
                ticket, "time_in_force", ticket.time_in_force, _one_of(self.times_in_force)
            )
        self._check_stop(ticket)
        self._check_end(ticket)
        if ticket.post_only and (
            ticket.order_type != "limit" or ticket.time_in_force not in ("GTC", "GTD")
        ):
            form = f"{ticket.order_type} {ticket.time_in_force}"
            raise _refused(ticket, "post_only", True, f"false for a {form} order")

    def _check_stop(self, ticket: OrderTicket) -> None:
        if ticket.order_type not in self.stops:
            if ticket.stop_price is not None:
                raise _refused(ticket, "stop_price", ticket.stop_price, "none without a stop order")
            return
        if ticket.stop_price is None:
            raise _refused(ticket, "stop_price", None, f"a trigger for a {ticket.order_type}")
        if ticket.time_in_force != "GTC":
            raise _refused(ticket, "time_in_force", ticket.time_in_force, "GTC for a stop order")

    def _check_end(self, ticket: OrderTicket) -> None:
        if ticket.time_in_force != "GTD":
            if ticket.expires_at is not None:
                raise _refused(ticket, "expires_at", ticket.expires_at, "none without GTD")
        elif ticket.expires_at is None or ticket.expires_at <= clock.now():
            raise _refused(ticket, "expires_at", ticket.expires_at, "a time to come for GTD")


def binance(ticket: OrderTicket) -> Parameters:
    """``LIMIT``, ``LIMIT_MAKER`` and ``STOP_LOSS_LIMIT``."""
    if ticket.post_only:
        return {"postOnly": True}  # -1106: LIMIT_MAKER takes no timeInForce
    return _timing(ticket) | _trigger(ticket)


def coinbase(ticket: OrderTicket) -> Parameters:
    """``limit_limit_*``, ``sor_limit_ioc`` and ``stop_limit_stop_limit_gtc``."""
    parameters = _timing(ticket) | _trigger(ticket)
    if ticket.post_only:
        parameters["postOnly"] = True
    if ticket.expires_at is not None:
        parameters["end_time"] = _rfc3339(clock.to_ms(ticket.expires_at))
    if ticket.stop_price is not None:
        down = ticket.side == "sell"
        parameters["stop_direction"] = f"STOP_DIRECTION_STOP_{'DOWN' if down else 'UP'}"
    return parameters


def kraken(ticket: OrderTicket, venue_now_ms: int) -> Parameters:
    """``limit`` and ``stop-loss``.

    All but a stop carry a deadline, after which the engine does not match them. A stop has none:
    it may have to match in a month, and the documents do not say that a resting one is exempt.
    """
    if ticket.order_type == "stop_market":
        return _trigger(ticket)
    parameters = _timing(ticket)
    if ticket.post_only:
        parameters["postOnly"] = True
    if ticket.expires_at is not None:
        parameters["expiretm"] = str(clock.to_ms(ticket.expires_at) // 1000)
    deadline_ms = venue_now_ms + KRAKEN_DEADLINE // timedelta(milliseconds=1)
    return parameters | {"deadline": _rfc3339(deadline_ms)}


def _timing(ticket: OrderTicket) -> Parameters:
    return {"timeInForce": ticket.time_in_force}


def _trigger(ticket: OrderTicket) -> Parameters:
    return {} if ticket.stop_price is None else {"stopLossPrice": float(ticket.stop_price)}


def _rfc3339(at_ms: int) -> str:
    return clock.from_ms(at_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _one_of(values: tuple[str, ...]) -> str:
    return f"one of {', '.join(values)}"


def _refused(ticket: OrderTicket, name: str, value: object, expected: str) -> OrderRejected:
    return OrderRejected(f"{ticket.venue}: {name}: was {value}, expected {expected}; nothing sent")
''')


###################################################################################################
_LOADER.modules["shared.execution.venues.outcomes"] = ("shared/execution/venues/outcomes.py", r'''"""What an answer to an order proves.

An order that was sent has three outcomes. Only what stands in ``rejections`` is a rejection;
anything else (time-outs, 5xx, malformed answers, words that nobody has listed) leaves the order
UNKNOWN. Exception classes decide nothing: ccxt maps Binance's "Duplicate order sent." to the same
class as a bad price, and an order that exists already is no rejection. So the answer itself is
read: it must be whole, of the venue's own shape, and hold no trace of an order.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from typing import Any

from shared.execution.venues.answers import Answer
from shared.execution.venues.rejections import DEFINITE_REJECTIONS

# Coinbase writes these where another field holds the reason.
_NO_REASON = frozenset({"", "UNKNOWN_FAILURE_REASON", "UNKNOWN_PREVIEW_FAILURE_REASON"})


def definite_rejection(venue: str, answer: Answer | None) -> str | None:
    """What a venue's answer to an order means, or ``None`` where it proves nothing.

    Every reason that the answer holds has to be a listed one.

    Args:
        venue: ``binance``, ``binanceus``, ``kraken`` or ``coinbase``.
        answer: as it came over the wire; ``None`` where none came whole.
    """
    if answer is None or answer.status >= 500:
        return None
    family = _family(venue)
    meanings = [_meaning(family, word) for word in _WORDS[family](answer)]
    if not meanings or None in meanings:
        return None
    return meanings[0]


def blames_the_clock(venue: str, answer: Answer) -> bool:
    """Whether the venue has found the time of a request wrong."""
    family = _family(venue)
    return any(
        word.startswith("-1021 ") or word == "EService:Deadline elapsed"
        for word in _WORDS[family](answer)
    )


def _family(venue: str) -> str:
    return "binance" if venue == "binanceus" else venue


def _meaning(family: str, word: str) -> str | None:
    for pattern, meaning in _patterns(family):
        if pattern.fullmatch(word):
            return meaning
    return None


@functools.cache
def _patterns(family: str) -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple(
        (re.compile(pattern, re.DOTALL), meaning)
        for entry_family, pattern, meaning in DEFINITE_REJECTIONS
        if entry_family == family
    )


def _body(answer: Answer) -> dict[str, Any]:
    try:
        body = json.loads(answer.body)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _binance_words(answer: Answer) -> list[str]:
    """``{"code": -2010, "msg": "..."}`` with a 4xx, as ``-2010 ...``."""
    body = _body(answer)
    code, message = body.get("code"), body.get("msg")
    if set(body) != {"code", "msg"} or not isinstance(code, int) or not isinstance(message, str):
        return []
    return [f"{code} {message}"] if 400 <= answer.status < 500 else []


def _kraken_words(answer: Answer) -> list[str]:
    """``{"error": ["EOrder:..."]}``, with no result."""
    body = _body(answer)
    errors = body.get("error")
    if not isinstance(errors, list) or body.get("result"):
        return []
    return [str(error) for error in errors if not str(error).startswith("W")]


def _coinbase_words(answer: Answer) -> list[str]:
    """The reasons of ``error_response``, or the ``error`` of a request that was not taken."""
    body = _body(answer)
    if not body and (answer.status, answer.body.strip()) == (401, "Unauthorized"):
        return ["HTTP 401 Unauthorized"]
    if body.get("success") is True or body.get("order_id") or body.get("success_response"):
        return []
    response = body.get("error_response")
    if body.get("success") is False and isinstance(response, dict):
        fields = ("error", "new_order_failure_reason", "preview_failure_reason")
        reasons = [str(response.get(field) or "") for field in fields]
        return [r.removeprefix("PREVIEW_") for r in reasons if r not in _NO_REASON]
    if "success" not in body and isinstance(body.get("error"), str):
        return [body["error"]] if 400 <= answer.status < 500 else []
    return []


_WORDS: dict[str, Callable[[Answer], list[str]]] = {
    "binance": _binance_words,
    "kraken": _kraken_words,
    "coinbase": _coinbase_words,
}
''')


###################################################################################################
_LOADER.modules["shared.execution.venues.pace"] = ("shared/execution/venues/pace.py", r'''"""How fast a venue is asked by one process: a token bucket that all its threads share.

ccxt's own limiter keeps one time a client and looks at it without a lock, so that threads which
ask side by side pass it together. This one takes its place.

Sources: Coinbase Advanced, "REST API rate limits" (10 public requests a second and address, of
which ccxt counts each as three).
Binance counts weights by the minute, of which ccxt's costs are a fifth; ``budget`` keeps to its
6,000 a minute over all runs, and this bucket only keeps one scan from taking half of it at once.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from shared import clock


@dataclass(frozen=True)
class Rate:
    """So many of ccxt's cost units a second, after a burst of at most ``burst`` of them."""

    per_second: float
    burst: float


RATES: dict[str, Rate] = {
    "binance": Rate(20.0, 400.0),
    "binanceus": Rate(20.0, 400.0),
    "coinbase": Rate(30.0, 30.0),
}


class Pace:
    """Waits until a request may start; made to stand in for a client's ``throttle``."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._tokens = rate.burst
        self._watch = clock.Stopwatch()
        self._seen_s = 0.0
        self._lock = threading.Lock()

    def __call__(self, cost: float | None = None) -> None:
        """Take ``cost`` units, one where none is given, and sleep until they are there."""
        wait_s = self.reserve(1.0 if cost is None else float(cost))
        if wait_s > 0:
            time.sleep(wait_s)

    def reserve(self, cost: float) -> float:
        """Take ``cost`` units now; how many seconds to wait before they may be used."""
        with self._lock:
            now_s = self._watch.seconds()
            earned = (now_s - self._seen_s) * self._rate.per_second
            self._tokens = min(self._rate.burst, self._tokens + earned) - cost
            self._seen_s = now_s
            return max(0.0, -self._tokens / self._rate.per_second)
''')


###################################################################################################
_LOADER.modules["shared.execution.venues.paper"] = ("shared/execution/venues/paper.py", r'''"""Paper trading: the live book, our own fills, and no private call at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

from shared.errors import OrderRejected, VenueUnavailable
from shared.execution.types import (
    Balance,
    MarketRules,
    OrderTicket,
    VenueFill,
    VenueOrder,
)
from shared.execution.venues import markets, paper_matching, paper_orders
from shared.execution.venues.base import PublicVenue
from shared.execution.venues.listings import Listed
from shared.execution.venues.paper_matching import PAPER_PREFIX, Taker
from shared.execution.venues.paper_orders import PaperOrder
from shared.ledger.connection import Ledger
from shared.market.types import Book, PublicTrade, Quote

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class PaperVenue:
    """``base.Venue`` that fills orders against the depth of the live book.

    Immediate-or-cancel limit orders fill when they are sent, from the book as it is then: the
    latency is the real one of reading it. A protective stop rests in the ledger, which is its only
    memory, and is looked at by ``order``: it triggers when the best bid is at or below its stop
    price at that time, takes what the book gives within its limit, and the rest stays. What the
    price did between two looks is not seen.

    Its account is the ledger itself: an order that was not finished never existed, and a cancel
    that was not noted was never asked for.
    """

    mode: Literal["paper", "simulated", "live"] = "paper"
    request_validity = timedelta(0)

    def __init__(
        self,
        public: PublicVenue,
        ledger: Ledger,
        *,
        protection: Literal["stop_limit", "stop_market"] = "stop_limit",
    ) -> None:
        self.name = public.name
        self.protection = protection
        self._public = public
        self._ledger = ledger
        self._orders: dict[str, VenueOrder] = {}
        self._fills: list[VenueFill] = []

    def rules(self, symbol: str) -> MarketRules:
        return self._public.rules(symbol)

    def candles(
        self, symbol: str, timeframe: str, *, since_ms: int | None, limit: int
    ) -> NDArray[np.float64]:
        return self._public.candles(symbol, timeframe, since_ms=since_ms, limit=limit)

    def book(self, symbol: str, depth: int = 50) -> Book:
        return self._public.book(symbol, depth)

    def trades(self, symbol: str, limit: int = 100) -> list[PublicTrade]:
        return self._public.trades(symbol, limit)

    def quotes(self, symbols: Sequence[str]) -> dict[str, Quote]:
        return self._public.quotes(symbols)

    def average_price(self, symbol: str) -> Decimal:
        return self._public.average_price(symbol)

    def server_time_ms(self) -> int:
        return self._public.server_time_ms()

    def listing(self, quote_currency: str) -> list[Listed]:
        return self._public.listing(quote_currency)

    def daily_closes(self, market_id: str, count: int) -> list[list[float]]:
        return self._public.daily_closes(market_id, count)

    def best_of(self, market_id: str) -> tuple[float | None, float | None]:
        return self._public.best_of(market_id)

    def submit(self, ticket: OrderTicket) -> VenueOrder:
        try:
            rules, book = self._public.rules(ticket.symbol), self._public.book(ticket.symbol)
        except VenueUnavailable as error:
            raise OrderRejected(f"{error}; nothing sent") from error
        if ticket.stop_price is not None:
            return self._rest(ticket, ticket.stop_price, book, rules)
        if ticket.time_in_force != "IOC" or ticket.order_type != "limit" or ticket.post_only:
            raise OrderRejected(
                f"{self.name}: paper takes immediate-or-cancel limit orders and stops that sell"
            )
        taker = Taker(
            ticket.client_order_id, ticket.symbol, ticket.side, ticket.quantity, ticket.limit_price
        )
        order = VenueOrder(
            f"{PAPER_PREFIX}{ticket.client_order_id}", ticket.client_order_id, ticket.symbol,
            ticket.side, "expired", ticket.quantity, Decimal(0), None,
        )  # fmt: skip
        return self._take(order, taker, book, rules)

    def find_order(self, client_order_id: str, symbol: str, sent_at: datetime) -> VenueOrder | None:
        order_id = f"{PAPER_PREFIX}{client_order_id}"
        if order_id in self._orders:
            return self._orders[order_id]
        known = paper_orders.find(self._ledger, self.name, order_id)
        return None if known is None else self._seen(known)

    def order(self, venue_order_id: str, symbol: str) -> VenueOrder:
        """Its state now; a stop that rests is looked at, once in a run after it has filled."""
        if venue_order_id in self._orders:
            return self._orders[venue_order_id]
        known = paper_orders.find(self._ledger, self.name, venue_order_id)
        if known is None:
            raise VenueUnavailable(f"{self.name}: order {venue_order_id}: paper knows none")
        return self._seen(known)

    def cancel(self, venue_order_id: str, symbol: str) -> None:
        order = self.order(venue_order_id, symbol)
        if order.status == "open":
            self._orders[venue_order_id] = replace(order, status="cancelled")

    def open_orders(self, symbols: Sequence[str]) -> list[VenueOrder]:
        stops = paper_orders.resting(self._ledger, self.name, symbols)
        states = [self._orders.get(stop.venue_order_id, stop.as_order("open")) for stop in stops]
        return [order for order in states if order.status == "open"]

    def fills(self, symbol: str, since: datetime) -> list[VenueFill]:
        return [fill for fill in self._fills if fill.symbol == symbol and fill.filled_at >= since]

    def fills_of(self, order: VenueOrder) -> list[VenueFill]:
        return [fill for fill in self._fills if fill.venue_order_id == order.venue_order_id]

    def balances(self) -> dict[str, Balance]:
        rows = self._ledger.query(
            "SELECT currency, amount FROM balances WHERE pod = %s AND venue = %s",
            (self._ledger.pod, self.name),
        )
        locked = paper_orders.locked(self._ledger, self.name)
        return {
            row["currency"]: Balance(
                row["amount"], row["amount"] - locked.get(row["currency"], Decimal(0))
            )
            for row in rows
        }

    def _rest(
        self, ticket: OrderTicket, stop_price: Decimal, book: Book, rules: MarketRules
    ) -> VenueOrder:
        """A stop is taken, or refused as a venue would."""
        markets.check_grid(ticket, rules)
        if ticket.side != "sell" or ticket.order_type not in ("stop_limit", "stop_market"):
            raise OrderRejected(f"{self.name}: paper takes stops that sell, was {ticket.side}")
        if Decimal(str(book.bids[0][0])) <= stop_price:
            raise OrderRejected(f"{self.name}: stop_price: {stop_price} would trigger at once")
        base = ticket.symbol.split("/")[0]
        held = self.balances().get(base)
        if held is None or held.free < ticket.quantity:
            free = Decimal(0) if held is None else held.free
            raise OrderRejected(
                f"{self.name}: quantity: was {ticket.quantity}, expected at most {free} {base}"
            )
        return VenueOrder(
            f"{PAPER_PREFIX}{ticket.client_order_id}", ticket.client_order_id, ticket.symbol,
            ticket.side, "open", ticket.quantity, Decimal(0), None,
        )  # fmt: skip

    def _seen(self, known: PaperOrder) -> VenueOrder:
        """An order of the ledger as it is now."""
        if not known.rests:
            # What an earlier process sent and did not finish has expired.
            return known.as_order("expired" if known.status == "open" else known.status)
        book = self._public.book(known.symbol)
        if known.stop_price is None or Decimal(str(book.bids[0][0])) > known.stop_price:
            return known.as_order("open")
        rules = self._public.rules(known.symbol)
        return self._take(known.as_order("open"), known.taker(), book, rules)

    def _take(self, order: VenueOrder, taker: Taker, book: Book, rules: MarketRules) -> VenueOrder:
        """``order`` after it has taken from the book; its status stands for what is left."""
        fills = paper_matching.take(taker, book, rules)
        filled = order.filled_quantity + sum((f.quantity for f in fills), Decimal(0))
        before = (order.average_price or Decimal(0)) * order.filled_quantity
        value = before + sum((f.price * f.quantity for f in fills), Decimal(0))
        after = replace(
            order,
            status="filled" if filled == order.quantity else order.status,
            filled_quantity=filled,
            average_price=value / filled if filled else None,
        )
        if fills or order.status != "open":
            self._orders[order.venue_order_id] = after
            self._fills.extend(fills)
        return after
''')


###################################################################################################
_LOADER.modules["shared.execution.venues.paper_matching"] = ("shared/execution/venues/paper_matching.py", r'''"""What the live book would have given for an order on paper."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from shared import clock
from shared.execution.rounding import floor_to
from shared.execution.types import MarketRules, Side, VenueFill
from shared.market.types import Book

PAPER_PREFIX = "paper-"


@dataclass(frozen=True)
class Taker:
    """An order that takes from the book now.

    Attributes:
        limit_price: the worst price; ``None`` for one at the market.
        first_number: the number of its next fill, so that trade ids do not repeat.
    """

    client_order_id: str
    symbol: str
    side: Side
    quantity: Decimal
    limit_price: Decimal | None
    first_number: int = 0


def take(taker: Taker, book: Book, rules: MarketRules) -> list[VenueFill]:
    """Its fills: level by level, in whole steps, within its limit, with the taker fee."""
    left = taker.quantity
    fills: list[VenueFill] = []
    for price, offered in _levels(taker, book):
        quantity = floor_to(min(left, offered), rules.quantity_step)
        if left <= 0 or not _within(taker, price):
            break
        if quantity > 0:
            number = taker.first_number + len(fills)
            fills.append(_fill(taker, number, price, quantity, rules))
            left -= quantity
    return fills


def _levels(taker: Taker, book: Book) -> list[tuple[Decimal, Decimal]]:
    levels = book.asks if taker.side == "buy" else book.bids
    return [(Decimal(str(price)), Decimal(str(quantity))) for price, quantity in levels]


def _within(taker: Taker, price: Decimal) -> bool:
    if taker.limit_price is None:
        return True
    return price <= taker.limit_price if taker.side == "buy" else price >= taker.limit_price


def _fill(
    taker: Taker, number: int, price: Decimal, quantity: Decimal, rules: MarketRules
) -> VenueFill:
    return VenueFill(
        venue_trade_id=f"{PAPER_PREFIX}{taker.client_order_id}-{number}",
        venue_order_id=f"{PAPER_PREFIX}{taker.client_order_id}",
        symbol=taker.symbol,
        side=taker.side,
        price=price,
        quantity=quantity,
        fee_cost=price * quantity * rules.taker_fee_bps / 10_000,
        fee_currency=taker.symbol.split("/")[1],
        liquidity="taker",
        filled_at=clock.now(),
    )
''')


###################################################################################################
_LOADER.modules["shared.execution.venues.paper_orders"] = ("shared/execution/venues/paper_orders.py", r'''"""Orders on paper as the ledger knows them: it is their only memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from shared.execution.types import OrderStatus, Side, VenueOrder
from shared.execution.venues.paper_matching import PAPER_PREFIX, Taker
from shared.ledger.connection import Ledger, Row

_SELECT = """
    SELECT o.venue_order_id, o.status, i.client_order_id, i.symbol, i.side, i.order_type,
           i.quantity, i.limit_price, i.stop_price, f.fills,
           coalesce(f.quantity, 0) AS filled, coalesce(f.value, 0) AS value
    FROM orders o JOIN intents i USING (intent_id) LEFT JOIN LATERAL (
        SELECT count(*) AS fills, sum(quantity) AS quantity, sum(price * quantity) AS value
        FROM fills WHERE fills.intent_id = o.intent_id) f ON true
    WHERE o.pod = %s AND o.venue = %s
"""


@dataclass(frozen=True)
class PaperOrder:
    """An order with what the ledger has of its fills."""

    venue_order_id: str
    client_order_id: str
    symbol: str
    side: Side
    order_type: str
    status: OrderStatus
    quantity: Decimal
    limit_price: Decimal
    stop_price: Decimal | None
    filled: Decimal
    value: Decimal
    fills: int

    @property
    def rests(self) -> bool:
        """Whether it waits for its trigger, or for what is left of it after its trigger."""
        return self.status == "open" and self.stop_price is not None

    @property
    def left(self) -> Decimal:
        return self.quantity - self.filled

    def taker(self) -> Taker:
        """What is left of it, as it takes from the book once it has triggered."""
        at_market = self.order_type == "stop_market"
        return Taker(
            self.client_order_id, self.symbol, self.side, self.left,
            None if at_market else self.limit_price, first_number=self.fills,
        )  # fmt: skip

    def as_order(self, status: OrderStatus) -> VenueOrder:
        return VenueOrder(
            self.venue_order_id, self.client_order_id, self.symbol, self.side, status,
            self.quantity, self.filled, self.value / self.filled if self.filled else None,
        )  # fmt: skip


def find(ledger: Ledger, venue: str, venue_order_id: str) -> PaperOrder | None:
    """The order with this id, if it is one on paper."""
    if not venue_order_id.startswith(PAPER_PREFIX):
        return None
    row = ledger.one(
        f"{_SELECT} AND o.venue_order_id = %s",  # noqa: S608 - a constant
        (ledger.pod, venue, venue_order_id),
    )
    return None if row is None else _of(row)


def resting(ledger: Ledger, venue: str, symbols: Sequence[str]) -> list[PaperOrder]:
    """The stops that rest on ``symbols``, oldest first."""
    rows = ledger.query(
        f"{_SELECT} AND o.status = 'open' AND i.stop_price IS NOT NULL AND i.symbol = ANY(%s) "  # noqa: S608
        "AND starts_with(o.venue_order_id, %s) ORDER BY o.created_at, o.venue_order_id",
        (ledger.pod, venue, list(symbols), PAPER_PREFIX),
    )
    return [_of(row) for row in rows]


def locked(ledger: Ledger, venue: str) -> dict[str, Decimal]:
    """What the resting stops hold back, by currency: they all sell."""
    rows = ledger.query(
        "SELECT split_part(i.symbol, '/', 1) AS currency, sum(i.quantity - coalesce("
        "  (SELECT sum(quantity) FROM fills WHERE fills.intent_id = i.intent_id), 0)) AS amount "
        "FROM orders o JOIN intents i USING (intent_id) WHERE o.pod = %s AND o.venue = %s "
        "AND o.status = 'open' AND i.stop_price IS NOT NULL GROUP BY 1",
        (ledger.pod, venue),
    )
    return {row["currency"]: row["amount"] for row in rows}


def _of(row: Row) -> PaperOrder:
    return PaperOrder(**row)
''')


###################################################################################################
_LOADER.modules["shared.execution.venues.public_trades"] = ("shared/execution/venues/public_trades.py", r'''"""The newest public trades of a venue, read from its own answer.

ccxt's requests, without its unified trade of twenty fields: a minute reads some hundred trades of
each symbol, and that took more time than the rest of the scan together. Sources: Binance,
"Compressed/Aggregate trades list" (``m``: the buyer was the maker); Coinbase Advanced, "Get public
market trades" (``side`` is the resting order's, as its Exchange documents it: a buy is a
down-tick); Kraken, "Get recent trades" (``b`` or ``s`` of the taker, the trade's number last).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from shared.market.types import PublicTrade

_COINBASE_MOST = 1_000

Reader = Callable[[Any, str, int], list[PublicTrade]]


def _binance(client: Any, symbol: str, limit: int) -> list[PublicTrade]:
    request = {"symbol": client.market(symbol)["id"], "limit": limit}
    return [
        PublicTrade(
            int(row["T"]),
            "sell" if row["m"] else "buy",
            _positive("p", row["p"]),
            _positive("q", row["q"]),
            int(row["a"]),
        )
        for row in client.publicGetAggTrades(request)
    ]


def _coinbase(client: Any, symbol: str, limit: int) -> list[PublicTrade]:
    request = {"product_id": client.market(symbol)["id"], "limit": min(limit, _COINBASE_MOST)}
    answer = client.v3PublicGetBrokerageMarketProductsProductIdTicker(request)
    takers = {"BUY": "sell", "SELL": "buy"}
    return [
        PublicTrade(
            _milliseconds(client.parse8601(row["time"])),
            takers[row["side"]],  # type: ignore[arg-type]
            _positive("price", row["price"]),
            _positive("size", row["size"]),
            _number(row["trade_id"]),
        )
        for row in answer["trades"]
        if row["side"] in takers
    ]


def _kraken(client: Any, symbol: str, limit: int) -> list[PublicTrade]:
    pair = client.market(symbol)["id"]
    answer = client.publicGetTrades({"pair": pair, "count": limit})["result"]
    return [
        PublicTrade(
            round(1000 * _positive("time", row[2])),
            {"b": "buy", "s": "sell"}[row[3]],  # type: ignore[arg-type]
            _positive("price", row[0]),
            _positive("volume", row[1]),
            int(row[6]) if len(row) > 6 else None,
        )
        for row in answer[pair]
    ]


READERS: dict[str, Reader] = {
    "binance": _binance,
    "binanceus": _binance,
    "coinbase": _coinbase,
    "kraken": _kraken,
}
"""By venue: client, symbol and how many are wanted, to trades with the taker's side, oldest first
as far as the venue says them so.

Raises:
    KeyError, TypeError, ValueError: the answer is not what the venue documents.
"""


def newest(venue: str, client: Any, symbol: str, limit: int) -> list[PublicTrade]:
    """At most ``limit`` of the newest trades, oldest first. Raises as ``READERS`` do."""
    trades = READERS[venue](client, symbol, limit)
    trades.sort(key=lambda trade: (trade.at_ms, trade.trade_id or 0))
    return trades[-limit:]


def _positive(field: str, value: Any) -> float:
    number = float(value)
    if not (number > 0 and math.isfinite(number)):
        raise ValueError(f"{field}: expected > 0, was {value!r}")
    return number


def _number(trade_id: str) -> int | None:
    return int(trade_id) if trade_id.isdecimal() else None


def _milliseconds(moment: int | None) -> int:
    if moment is None:
        raise ValueError("time: expected ISO 8601, was something else")
    return int(moment)
''')


###################################################################################################
_LOADER.modules["shared.execution.venues.registry"] = ("shared/execution/venues/registry.py", r'''"""The venues of a run, by the configuration's order and mode."""

from __future__ import annotations

import threading
from collections.abc import Callable

from shared import clock
from shared.errors import ConfigurationError
from shared.execution.types import Mode
from shared.execution.venues import clients, limits, live
from shared.execution.venues.base import Venue
from shared.execution.venues.ccxt_public import CcxtPublic
from shared.execution.venues.ccxt_venue import CcxtVenue
from shared.execution.venues.dialects import DIALECTS
from shared.execution.venues.markets import Catalogue
from shared.execution.venues.paper import PaperVenue
from shared.execution.venues.paper_matching import PAPER_PREFIX
from shared.execution.venues.traffic import Traffic
from shared.execution.venues.venue_time import VenueTime
from shared.instance import open_ledger
from shared.ledger import events
from shared.ledger.connection import Ledger
from shared.run import Run


def open_venues(run: Run) -> dict[str, Venue]:
    """The configured venues, first the primary one.

    Orders reach a wire only in ``simulated`` mode, or in ``live`` mode with a valid arm token or
    while something is live already (see ``live``). Everything else is paper.

    Raises:
        ConfigurationError: orders are to be sent, and a venue has no keys; or a position is open
            that was bought in another mode. Selling on paper what is really held would leave it to
            nobody, and a real sale of what was bought on paper or from the stand-ins would sell
            somebody else's. With ``ENABLE_LIVE_TRADING`` off, no run touches a live position: the
            person who turned the switch has taken it over.
    """
    mode = live.mode_of(run)
    _refuse_mixture(run, mode)
    blocks = limits.in_force(run.ledger, clock.now())
    traffic = Traffic(blocks, _ledger_by_thread(run), run.cache)
    return {name: _open(run, name, traffic, mode) for name in run.config.venues}


def _refuse_mixture(run: Run, mode: Mode) -> None:
    """Every order that the open positions have, or may have, was sent in this run's mode.

    Where an intent does not tell its mode it is older than live trading: its order was on paper,
    as its id shows, or at the stand-ins.
    """
    row = run.ledger.one(
        "SELECT position_id, mode FROM (SELECT p.position_id, coalesce(i.mode, "
        "CASE WHEN starts_with(o.venue_order_id, %s) THEN 'paper' ELSE 'simulated' END) AS mode "
        "FROM positions p JOIN intents i ON i.position_id = p.position_id "
        "AND i.pod = p.pod AND i.symbol = p.symbol AND i.sent_at > p.opened_at - interval '1 day' "
        "LEFT JOIN orders o USING (intent_id) "
        "WHERE p.pod = %s AND p.closed_at IS NULL AND (o.intent_id IS NOT NULL "
        "OR i.mode IS NOT NULL AND i.state IN ('SENDING', 'UNKNOWN'))) AS sent "
        "WHERE mode <> %s ORDER BY position_id LIMIT 1",
        (PAPER_PREFIX, run.ledger.pod, mode),
    )
    if row is None:
        return
    if row["mode"] == "live" and not run.config.enable_live_trading:
        raise ConfigurationError(
            f"position {row['position_id']}: it is open on a real venue, and ENABLE_LIVE_TRADING "
            f"is false, expected true until it is closed: no run manages it, and only what rests "
            f"on the venue protects it. Turn the switch on again (without a token it is only "
            f"sold), or close it by hand"
        )
    raise ConfigurationError(
        f"position {row['position_id']}: its orders were {row['mode']}, and this run is {mode}: "
        f"expected it to be closed first, by a run that is {row['mode']}"
    )


def _open(run: Run, name: str, traffic: Traffic, mode: Mode) -> Venue:
    sends_orders = mode != "paper"
    client = clients.client(run.config, name, private=sends_orders)
    dialect = DIALECTS[name]
    ledger = _ledger_by_thread(run)
    catalogue = Catalogue(name, client, run.pairs, run.cache, ledger)
    if not sends_orders:
        public = CcxtPublic(name, client, dialect, catalogue, run.calls, traffic=traffic)
        return PaperVenue(public, run.ledger, protection=dialect.protection)
    if None in clients.credentials(run.config, name):
        family = "BINANCE" if name == "binanceus" else name.upper()
        raise ConfigurationError(
            f"{family}_API_KEY, {family}_SECRET: expected both to send orders to {name}"
        )
    public = CcxtPublic(name, client, dialect, catalogue, run.calls, traffic=traffic)
    time = VenueTime(
        name,
        client,
        ask=public.server_time_ms,
        resolution_ms=dialect.time_resolution_ms,
        cache=run.cache,
        report=lambda kind, detail: events.record(ledger(), kind, detail),
    )
    return CcxtVenue(
        name, client, dialect, catalogue, run.calls,
        mode=mode, traffic=traffic, time=time,
    )  # fmt: skip


def _ledger_by_thread(run: Run) -> Callable[[], Ledger]:
    """A scan asks venues in threads of its own, and a connection belongs to one thread."""
    owner = threading.get_ident()

    def ledger() -> Ledger:
        mine = threading.get_ident() == owner or run.config.database_url is None
        return run.ledger if mine else open_ledger(run.config)

    return ledger
''')


###################################################################################################
_LOADER.modules["shared.execution.venues.rejections"] = ("shared/execution/venues/rejections.py", r'''"""The answers that prove that an order does not exist, in each venue's own words.

A row is the venue's family, a pattern that one of its words has to match as a whole, and what it
means. ``outcomes`` says what a word is. What is not listed proves nothing; among the published
errors that is true of Binance's -1000, -1001, -1003, -1006, -1007, -1008, -1016 and "Duplicate
order sent.", of Kraken's EService (but for its market modes), "EGeneral:Internal error" and
"EOrder:Reduce only:Position is closed" (which may have filled in part), and of Coinbase's
UNKNOWN_FAILURE_REASON, COMMANDER_REJECTED_NEW_ORDER and DUPLICATE_CLIENT_ORDER_ID.

Sources: Binance and Binance US, "Error codes" (binance-spot-api-docs/errors.md, 2025-01-09;
binance-us-api-docs/errors.md, 2022-08-22); Kraken, "Spot Error Messages" (docs.kraken.com, as of
2026-05); Coinbase Advanced, "Create Order", the values of ``new_order_failure_reason`` and
``preview_failure_reason``.
"""

from __future__ import annotations

DEFINITE_REJECTIONS: tuple[tuple[str, str, str], ...] = (
    # Binance: the request never reached the matching engine
    ("binance", r"-1002 .*", "not authorised"),
    ("binance", r"-1013 .*", "a filter of the symbol failed"),
    ("binance", r"-1014 .*", "unsupported combination of order parameters"),
    ("binance", r"-1015 .*", "too many orders in the interval"),
    ("binance", r"-1020 .*", "the operation is not supported"),
    ("binance", r"-1021 .*", "the timestamp is outside recvWindow"),
    ("binance", r"-1022 .*", "the signature is not valid"),
    ("binance", r"-1100 .*", "illegal characters in a parameter"),
    ("binance", r"-1101 .*", "too many parameters"),
    ("binance", r"-1102 .*", "a mandatory parameter is missing"),
    ("binance", r"-1103 .*", "an unknown parameter was sent"),
    ("binance", r"-1104 .*", "not all parameters were read"),
    ("binance", r"-1105 .*", "a parameter was empty"),
    ("binance", r"-1106 .*", "a parameter was sent that is not required"),
    ("binance", r"-1108 .*", "a parameter overflowed"),
    ("binance", r"-1111 .*", "more precision than the symbol has"),
    ("binance", r"-1112 .*", "no orders on the book"),
    ("binance", r"-1114 .*", "a time in force was sent that is not required"),
    ("binance", r"-1115 .*", "invalid time in force"),
    ("binance", r"-1116 .*", "invalid order type"),
    ("binance", r"-1117 .*", "invalid side"),
    ("binance", r"-1118 .*", "the client order id was empty"),
    ("binance", r"-1121 .*", "no such symbol"),
    ("binance", r"-1128 .*", "invalid combination of optional parameters"),
    ("binance", r"-1130 .*", "invalid data in a parameter"),
    ("binance", r"-2014 .*", "the key's format is invalid"),
    ("binance", r"-2015 .*", "the key, its address or its permission is invalid"),
    # Binance: the matching engine refused it
    ("binance", r"-2010 Account has insufficient balance for requested action\.",
     "insufficient balance"),
    ("binance", r"-2010 Market is closed\.", "the market is closed"),
    ("binance", r"-2010 Stop loss limit orders are not supported for this symbol\.",
     "the symbol takes no stop-limit orders"),
    ("binance", r"-2010 (Market|Iceberg|Stop loss|Take profit|Take profit limit|Trailing stop) "
     r"orders are not supported for this symbol\.", "the symbol takes no such order"),
    ("binance", r"-2010 Price \* QTY is zero or less\.", "the notional is too small"),
    ("binance", r"-2010 IcebergQty exceeds QTY\.", "the visible quantity exceeds the whole"),
    ("binance", r"-2010 This action is disabled on this account\.", "disabled on this account"),
    ("binance", r"-2010 This account may not place or cancel orders\.", "may not trade"),
    ("binance", r"-2010 Unsupported order combination\.?", "unsupported order combination"),
    ("binance", r"-2010 (Order|Stop price) would trigger immediately\.",
     "the stop would trigger at once"),
    ("binance", r"-2010 Order would immediately match and take\.", "it would match at once"),
    ("binance", r"-2010 This symbol is not permitted for this account\.",
     "the symbol is not permitted for this account"),
    ("binance", r"-2010 This symbol is restricted for this account\.",
     "the symbol is restricted for this account"),
    ("binance", r"-2010 Rest API trading is not enabled\.", "trading is not enabled here"),
    ("binance", r"-2010 Order book liquidity is less than .*minimum quantity\.",
     "too little on the book"),
    # Kraken
    ("kraken", r"EOrder:Insufficient funds.*", "insufficient funds"),
    ("kraken", r"EOrder:Insufficient margin.*", "insufficient margin"),
    ("kraken", r"EOrder:Order minimum not met.*", "below the minimum quantity"),
    ("kraken", r"EOrder:Cost minimum not met.*", "below the minimum cost"),
    ("kraken", r"EOrder:Tick size check failed", "the price is off the tick grid"),
    ("kraken", r"EOrder:Invalid price", "invalid price"),
    ("kraken", r"EOrder:Orders limit exceeded", "too many open orders"),
    ("kraken", r"EOrder:Rate limit exceeded", "the pair's order rate limit is exceeded"),
    ("kraken", r"EOrder:Domain rate limit exceeded", "the domain's rate limit is exceeded"),
    ("kraken", r"EOrder:Scheduled orders limit exceeded", "too many scheduled orders"),
    ("kraken", r"EOrder:Positions limit exceeded", "too many positions"),
    ("kraken", r"EOrder:Trading agreement required", "the account may not trade"),
    ("kraken", r"EOrder:Post only order", "it would match at once"),
    ("kraken", r"EOrder:Unknown position", "no such position"),
    ("kraken", r"EOrder:Cannot open (opposing )?position", "the account may not trade on margin"),
    ("kraken", r"EOrder:Margin (allowance exceeded|level too low|position size exceeded)",
     "a margin limit is exceeded"),
    ("kraken", r"EQuery:Unknown asset pair", "no such pair"),
    ("kraken", r"EGeneral:Invalid arguments(:.*)?", "invalid arguments"),
    ("kraken", r"EGeneral:Permission denied", "the key may not do this"),
    ("kraken", r"EGeneral:Temporary lockout", "locked out after too many invalid keys"),
    ("kraken", r"EAPI:Invalid key", "invalid key"),
    ("kraken", r"EAPI:Invalid signature", "invalid signature"),
    ("kraken", r"EAPI:Invalid nonce", "the nonce did not increase"),
    ("kraken", r"EAPI:Rate limit exceeded", "the key's rate limit is exceeded"),
    ("kraken", r"EAccount:Invalid permissions", "the account may not do this"),
    ("kraken", r"EAuth:Account (temporary disabled|unconfirmed)", "the account is not enabled"),
    ("kraken", r"EAuth:(Rate limit exceeded|Too many requests)", "too many attempts to log in"),
    ("kraken", r"EBM:limit exceeded:CAL", "a purchase limit of the country is exceeded"),
    ("kraken", r"EService:Market in (cancel_only|post_only|limit_only) mode",
     "the market takes no such order"),
    # Coinbase
    ("coinbase", r"INSUFFICIENT_FUNDS?", "insufficient funds"),
    ("coinbase", r"(INVALID|INSUFFICIENT)_LEDGER_BALANCE", "the balance does not cover it"),
    ("coinbase", r"UNSUPPORTED_ORDER_CONFIGURATION", "this kind of order is not supported"),
    ("coinbase", r"INVALID_ORDER_CONFIG", "the order's configuration is invalid"),
    ("coinbase", r"INVALID_SIDE", "invalid side"),
    ("coinbase", r"INVALID_PRODUCT_ID", "no such product"),
    ("coinbase", r"INVALID_SIZE_PRECISION", "the size is off the grid"),
    ("coinbase", r"INVALID_(STOP_)?PRICE_PRECISION", "the price is off the grid"),
    ("coinbase", r"INVALID_(BASE|QUOTE)_SIZE_TOO_(LARGE|SMALL)", "size out of bounds"),
    ("coinbase", r"INVALID_PRICE_TOO_LARGE", "price out of bounds"),
    ("coinbase", r"INVALID_LIMIT_PRICE", "the price is outside the allowed band"),
    ("coinbase", r"INVALID_LIMIT_PRICE_POST_ONLY", "it would match at once"),
    ("coinbase", r"INVALID_NO_LIQUIDITY", "nothing on the book"),
    ("coinbase", r"INVALID_REQUEST", "invalid request"),
    ("coinbase", r"INVALID_STOP_PRICE", "invalid stop price"),
    ("coinbase", r"STOP_PRICE_(ABOVE|BELOW)_(LIMIT|LAST_TRADE)_PRICE",
     "the stop price lies on the wrong side"),
    ("coinbase", r"STOP_TRIGGER_PRICE_OUT_OF_BOUNDS", "the stop price is out of bounds"),
    ("coinbase", r"INELIGIBLE_PAIR", "the account may not trade this pair"),
    ("coinbase", r"ORDER_ENTRY_DISABLED", "the venue takes no orders now"),
    ("coinbase", r"UNTRADABLE_PRODUCT", "the product cannot be traded"),
    ("coinbase", r"PRODUCT_TRADING_HALTED|TRADING_DISABLED", "trading is halted"),
    ("coinbase", r"NOT_ALLOWED_BY_MARKET_STATE", "the market takes no such order now"),
    ("coinbase", r"GEOFENCING_RESTRICTION", "not allowed in this region"),
    ("coinbase", r"FOK_DISABLED", "fill-or-kill is disabled"),
    ("coinbase", r"FOK_ONLY_ALLOWED_ON_LIMIT_ORDERS", "fill-or-kill needs a limit order"),
    ("coinbase", r"POST_ONLY_NOT_ALLOWED_WITH_FOK", "post-only excludes fill-or-kill"),
    ("coinbase", r"INVALID_END_TIME|END_TIME_(TOO_FAR_IN_FUTURE|IS_IN_THE_PAST)",
     "the end of the order's time is out of bounds"),
    ("coinbase", r"GTD_ORDERS_MUST_HAVE_END_TIME", "the end of the order's time is missing"),
    ("coinbase", r"LIMIT_PRICE_TOO_FAR_FROM_MARKET", "the price is too far from the market"),
    ("coinbase", r"LIMIT_ORDER_PRICE_EXCEEDS_PRICE_BAND_ON_(BUY|SELL)",
     "the price is outside the price band"),
    ("coinbase", r"BREACHED_(PRICE_LIMIT|RISK_LIMIT)", "a limit of the venue is breached"),
    ("coinbase", r"COMPLIANCE_PURCHASE_LIMIT_EXCEEDED", "a purchase limit is exceeded"),
    ("coinbase", r"INVALID_ARGUMENT", "invalid argument"),
    ("coinbase", r"PERMISSION_DENIED", "the key may not do this"),
    ("coinbase", r"HTTP 401 Unauthorized", "the key or the token is not valid"),
)  # fmt: skip
''')


###################################################################################################
_LOADER.modules["shared.execution.venues.traffic"] = ("shared/execution/venues/traffic.py", r'''"""Whether a venue may be asked now, by its own word and by our budget."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from shared import clock
from shared.cache import Cache
from shared.errors import VenueUnavailable
from shared.execution.venues import limits
from shared.execution.venues.budget import Budget
from shared.execution.venues.limits import Block
from shared.ledger.connection import Ledger


class Traffic:
    """One for all venues of a step."""

    def __init__(
        self, blocks: Mapping[str, Block], ledger: Callable[[], Ledger], cache: Cache
    ) -> None:
        """``blocks`` hold as the step begins; ``ledger`` gives one for the calling thread."""
        self._ledger = ledger
        self._cache = cache
        self._blocks = dict(blocks)
        self._budgets: dict[str, Budget] = {}
        self._lock = threading.Lock()

    def check(self, venue: str, call: str, *, new_risk: bool = False) -> None:
        """Pass, or refuse without touching the network.

        Raises:
            VenueUnavailable: the venue has told us to wait, or ``call`` can wait and the minute's
                budget is used up but for the reserve.
        """
        with self._lock:
            block = self._blocks.get(venue)
            budget = self._budgets.setdefault(venue, Budget(venue, self._cache))
        if block is not None and clock.now() < block.until:
            raise VenueUnavailable(
                f"{venue}: {call}: blocked until {clock.iso(block.until)} ({block.reason})"
            )
        if not budget.allows(call, new_risk=new_risk):
            raise VenueUnavailable(f"{venue}: {call}: this minute's budget is used up")

    def heed(self, venue: str, status: int, headers: Mapping[str, str]) -> None:
        """Keep what an answer asks us to wait for."""
        block = limits.block_of(venue, status, headers, clock.now())
        if block is None:
            return
        with self._lock:
            self._blocks[venue] = block
        limits.record(self._ledger(), block, clock.now())
''')


###################################################################################################
_LOADER.modules["shared.execution.venues.venue_time"] = ("shared/execution/venues/venue_time.py", r'''"""A venue's clock may differ from ours: by how much is measured seldom, and then reckoned with.

The offset is kept in Redis for an hour, and measured anew when the venue finds a request's time
wrong. Our requests carry the venue's time, not ours: ccxt takes its time from the client's
``milliseconds`` and ``seconds``, which add the offset (Binance's timestamp, Coinbase's token), and
so does Kraken's deadline. Kraken's nonce goes by our clock: it must only ever grow.

In a replay our clock is the venue's, so nothing is measured until a venue complains.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from shared import clock
from shared.cache import Cache
from shared.errors import VenueUnavailable

WARN_MS = 500
REFUSE_MS = 1_000

_TTL_SECONDS = 3_600
_RETRY_SECONDS = 300  # how long a clock that could not be corrected is left alone
_SETTLED_MS = 60_000  # a complaint so soon after a correction: correcting does not help
OFFSET_OPTION = "clockOffsetMs"
_STATE_OPTION = "clockState"

Report = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True)
class Offset:
    """What has to be added to our clock for the venue's.

    Attributes:
        uncertainty_ms: half of the round trip and half of the venue's resolution.
        corrected: whether the venue takes our requests' time with it.
    """

    offset_ms: int
    uncertainty_ms: int
    measured_at_ms: int
    corrected: bool


class VenueTime:
    """The clock of one venue, as one run knows it."""

    def __init__(
        self,
        venue: str,
        client: Any,
        *,
        ask: Callable[[], int],
        resolution_ms: int,
        cache: Cache,
        report: Report,
    ) -> None:
        """``ask`` reads the venue's clock; ``report`` keeps a fact for a person to find."""
        self._venue = venue
        self._client = client
        self._ask = ask
        self._resolution_ms = resolution_ms
        self._cache = cache
        self._report = report

    def ensure(self) -> None:
        """Before a signed request: know the offset. Costs nothing in a replay, seldom elsewhere."""
        if clock.is_virtual() or self._current() is not None:
            return
        stored = self._cache.get(self._key)
        if stored is not None:
            self._use(Offset(**json.loads(stored)))
            return
        try:
            self._keep(self._measure())
        except VenueUnavailable:
            return  # no complaint so far: the venue itself judges the request's time

    def complain(self) -> None:
        """The venue has found the time of a request wrong: measure again, or take no new risk."""
        before = self._current()
        just_corrected = before is not None and clock.now_ms() - before.measured_at_ms < _SETTLED_MS
        try:
            found = self._measure()
        except VenueUnavailable:
            known = 0 if before is None else before.offset_ms
            found = Offset(known, REFUSE_MS + 1, clock.now_ms(), corrected=False)
        if just_corrected or found.uncertainty_ms > REFUSE_MS:
            found = Offset(
                found.offset_ms, found.uncertainty_ms, found.measured_at_ms, corrected=False
            )
            self._report("CLOCK_UNCORRECTED", {"venue": self._venue} | asdict(found))
        self._keep(found)

    def refusal(self) -> str | None:
        """Why no new risk may be sent, or ``None``."""
        known = self._current()
        if known is None or known.corrected:
            return None
        return (
            f"clock: the venue's differs and could not be corrected "
            f"(offset {known.offset_ms} ms, known to {known.uncertainty_ms} ms)"
        )

    @property
    def _key(self) -> str:
        return f"clock:{self._venue}"

    def _current(self) -> Offset | None:
        known: Offset | None = self._client.options.get(_STATE_OPTION)
        if known is None:
            return None
        kept_for_ms = 1_000 * (_TTL_SECONDS if known.corrected else _RETRY_SECONDS)
        return known if clock.now_ms() - known.measured_at_ms < kept_for_ms else None

    def _measure(self) -> Offset:
        before_ms = clock.now_ms()
        theirs_ms = self._ask()
        after_ms = clock.now_ms()
        uncertainty_ms = (after_ms - before_ms + self._resolution_ms) // 2
        # A clock that tells whole seconds is half a second further than it says, on average.
        offset_ms = theirs_ms + self._resolution_ms // 2 - (before_ms + after_ms) // 2
        if abs(offset_ms) > WARN_MS + uncertainty_ms:
            detail = {"venue": self._venue, "offset_ms": offset_ms, "known_to_ms": uncertainty_ms}
            self._report("CLOCK_OFFSET", detail)
        if abs(offset_ms) <= uncertainty_ms:
            offset_ms = 0  # no more than the measurement can see
        too_vague = abs(offset_ms) > REFUSE_MS and uncertainty_ms > REFUSE_MS
        return Offset(offset_ms, uncertainty_ms, after_ms, corrected=not too_vague)

    def _keep(self, found: Offset) -> None:
        self._use(found)
        ttl = _TTL_SECONDS if found.corrected else _RETRY_SECONDS
        self._cache.set(self._key, json.dumps(asdict(found)).encode(), ttl)

    def _use(self, found: Offset) -> None:
        self._client.options[_STATE_OPTION] = found
        self._client.options[OFFSET_OPTION] = found.offset_ms
''')


###################################################################################################
_LOADER.modules["shared.instance"] = ("shared/instance.py", r'''"""Which pod a run is of: its configuration and its ledger.

``POD`` names the pod of a project. A workflow that was made from a template for another pod has
the same environment variables, because on Pipedream these belong to the project; it is known by
its id (``shared.ledger.pods``), and what its pod has set lies over the project's variables.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from shared import config
from shared.config import Config
from shared.errors import ConfigurationError
from shared.ledger import pods, stages
from shared.ledger.connection import Ledger, connect
from shared.ledger.pods import Pod

POD_VARIABLES = frozenset(
    {
        "PROFILE", "SYMBOLS", "VENUES", "CAPITAL_QUOTE",
        "UNIVERSE_SIZE", "UNIVERSE_REFRESH_HOURS", "UNIVERSE_MIN_AGE_DAYS",
        "UNIVERSE_MIN_VOLUME_QUOTE", "UNIVERSE_MAX_SPREAD_BPS", "UNIVERSE_MIN_VOLATILITY_PERCENT",
        "UNIVERSE_MAX_VOLATILITY_PERCENT", "UNIVERSE_BACKUP_VENUES",
        "MAX_POSITION_SIZE", "MAX_DAILY_LOSS", "MAX_DRAWDOWN_PERCENT", "DRAWDOWN_ALERT_PERCENT",
        "DRAWDOWN_HALT_PERCENT", "MAX_POSITIONS", "POSITION_SIZE_PERCENT", "DAILY_LOSS_PERCENT",
        "CORRELATION_LIMIT", "KELLY_FRACTION", "CORE_SLEEVE_PERCENT", "CORE_WEIGHTS",
        "CORE_STOP_PERCENT", "MIN_SHARPE_RATIO", "TARGET_WIN_RATE", "STOP_LOSS_PERCENT",
        "TAKE_PROFIT_PERCENT", "TRAILING_ACTIVATION_PERCENT", "TRAILING_DISTANCE_PERCENT",
        "TIME_STOP_HOURS", "TWAP_SLICES", "TWAP_INTERVAL_SECONDS", "PRICE_COLLAR_BPS",
        "MAX_WEEKLY_LOSS_PERCENT", "MAX_VENUE_EXPOSURE_PERCENT", "REBALANCE_BAND_PERCENT",
        "REBALANCE_MIN_HOURS", "EXIT_SCALING", "AVERAGE_DOWN", "PAPER_PROBE_PERCENT",
        "AI_CONFIDENCE_THRESHOLD", "ENABLE_AUTO_OPTIMIZATION", "SLACK_CHANNEL",
    }
)  # fmt: skip
"""What a pod may set for itself: what it trades, with how much and within which limits. Not among
them: secrets and addresses, the breaker's switch, and the switch of live trading, which a pod of
its own kind can only lack (``Pod.may_trade_live``). A variable that is new is not among them."""


def opened(pd: Any, *, workflow: str | None = None) -> tuple[Config, Ledger] | str:
    """Configuration and ledger of the run that ``pd`` is of, or why it must not go on.

    Args:
        workflow: the name of the workflow in this project; a copy that is no pod's is told by it.

    Raises:
        ConfigurationError: a variable is wrong, or the workflow is a copy of nobody's.
        LedgerUnavailable: the ledger does not answer.
    """
    settings = config.load(os.environ, pd.inputs)
    ledger = open_ledger(settings)
    pod = _pod_of(ledger, pd, workflow)
    if pod is not None:
        if pod.removed_at is not None:
            return f"POD_REMOVED: pod={pod.pod}"
        _refuse_foreign(pod, settings)
        settings = config.load(overlaid(os.environ, pod), pd.inputs)
        ledger = ledger.of_pod(pod.pod)
    if settings.trading_mode == "live":
        settings = stages.bounded(settings, stages.in_force(ledger).stage)
    return settings, ledger


def ledger_of(pd: Any, settings: Config) -> Ledger:
    """The ledger of the pod that ``pd`` is of, whatever its settings are worth.

    For a halt, which a variable that is wrong must not keep from its pod.
    """
    ledger = open_ledger(settings)
    pod = _pod_of(ledger, pd, None)
    return ledger if pod is None else ledger.of_pod(pod.pod)


def overlaid(variables: Mapping[str, str], pod: Pod) -> dict[str, str]:
    """The project's variables, and over them what the pod has set for itself.

    Raises:
        ConfigurationError: the pod sets what no pod may.
    """
    refuse_unsettable(pod.settings, f"pod {pod.pod}")
    own = {"POD": pod.pod, **pod.settings}
    if not pod.may_trade_live:
        own["ENABLE_LIVE_TRADING"] = "false"
    return {**variables, **own}


def refuse_unsettable(settings: Mapping[str, str], where: str) -> None:
    """Raises ``ConfigurationError`` that names every variable which no pod may set for itself."""
    refused = sorted(set(settings) - POD_VARIABLES)
    if refused:
        raise ConfigurationError(
            f"{where}: {', '.join(refused)}: expected variables that a pod may set for itself: "
            + ", ".join(sorted(POD_VARIABLES & set(config.VARIABLES)))
        )


def open_ledger(settings: Config) -> Ledger:
    """The ledger that the configuration names.

    Raises:
        ConfigurationError: ``DATABASE_URL`` is not set and no account is connected.
        LedgerUnavailable: it does not answer.
    """
    if settings.database_url is None:
        raise ConfigurationError(
            "DATABASE_URL: expected a PostgreSQL address or a connected account, was not set"
        )
    return connect(settings.database_url.get_secret_value(), settings.pod)


def _pod_of(ledger: Ledger, pd: Any, workflow: str | None) -> Pod | None:
    context: Mapping[str, Any] = pd.steps["trigger"]["context"]
    if "workflow_id" not in context:  # a handler that is called by hand
        return None
    pod = pods.of_workflow(ledger, str(context["workflow_id"]))
    if pod is None and workflow is not None and "workflow_name" in context:
        name = re.sub(r"[^a-z0-9]+", "_", str(context["workflow_name"]).lower())
        if name.startswith(f"{workflow}_"):
            raise ConfigurationError(
                f"workflow {context['workflow_id']}: it is called {context['workflow_name']!r}, as "
                f"a copy of {workflow} for a pod, and the ledger knows it as no pod's: expected "
                f"it to be made by `trading-loop deploy pod`, or another name. It would trade as "
                f"{ledger.pod}"
            )
    return pod


def _refuse_foreign(pod: Pod, settings: Config) -> None:
    if pod.base != settings.pod:
        raise ConfigurationError(
            f"pod {pod.pod}: expected the variables of the project whose POD is {pod.base}, was "
            f"{settings.pod}: its workflow was copied into another project"
        )
''')


###################################################################################################
_LOADER.modules["shared.ledger"] = ("shared/ledger/__init__.py", r'''"""PostgreSQL, the truth about orders, fills, money and state."""
''')


###################################################################################################
_LOADER.modules["shared.ledger.alerts"] = ("shared/ledger/alerts.py", r'''"""Alerts: written to an outbox together with what they tell of, sent afterwards.

Trading never waits for Slack, and an alert is never lost because Slack was down.
"""

from __future__ import annotations

from typing import Literal

from shared import clock
from shared.ledger.connection import Ledger, Row

Severity = Literal["INFO", "WARNING", "HIGH", "CRITICAL"]


def put(ledger: Ledger, alert_id: str, severity: Severity, title: str, body: str) -> bool:
    """Queue an alert. The same ``alert_id`` is told only once. Returns whether it is new."""
    changed = ledger.execute(
        "INSERT INTO alerts (alert_id, pod, at, severity, title, body) "
        "VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (alert_id) DO NOTHING",
        (f"{ledger.pod}:{alert_id}", ledger.pod, clock.now(), severity, title, body),
    )
    return changed == 1


def unsent(ledger: Ledger, limit: int = 20) -> list[Row]:
    """What is still to be sent, oldest first."""
    return ledger.query(
        "SELECT alert_id, at, severity, title, body, attempts FROM alerts "
        "WHERE pod = %s AND sent_at IS NULL AND attempts < 10 ORDER BY at LIMIT %s",
        (ledger.pod, limit),
    )


def mark(ledger: Ledger, alert_id: str, *, error: str | None) -> None:
    """Note an attempt: sent if ``error`` is ``None``."""
    ledger.execute(
        "UPDATE alerts SET attempts = attempts + 1, last_error = %s, "
        "sent_at = CASE WHEN %s THEN %s END WHERE alert_id = %s",
        (error, error is None, clock.now(), alert_id),
    )
''')


###################################################################################################
_LOADER.modules["shared.ledger.arming"] = ("shared/ledger/arming.py", r'''"""Arm tokens: a person's leave to trade live, for some hours and for one pod.

They go by the database's clock, because a token is written on one machine and asked for on another.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from shared import clock
from shared.errors import OrderDenied
from shared.ledger import alerts, events, phases, state
from shared.ledger.connection import Ledger, Row


@dataclass(frozen=True)
class Token:
    """A leave that is in force: who gave it, and from when until when it counts."""

    token_id: int
    armed_by: str
    armed_at: datetime
    expires_at: datetime


_CURRENT = (
    "SELECT token_id, armed_by, armed_at, expires_at FROM arm_tokens WHERE pod = %s "
    "AND revoked_at IS NULL AND armed_at <= now() AND expires_at > now() "
    "ORDER BY expires_at DESC LIMIT 1"
)


def current(ledger: Ledger) -> Token | None:
    """The token of this pod that is valid now, or ``None``."""
    row = ledger.one(_CURRENT, (ledger.pod,))
    return None if row is None else Token(**row)


def demand(ledger: Ledger) -> None:
    """Let new risk be taken live only with a token; call it inside the intent's transaction.

    The token is held until that transaction ends: what ``disarm`` finds committed may be on its
    way, and after it no run, not even one under way, buys anything.

    Raises:
        OrderDenied: no token is valid now.
    """
    if ledger.one(f"{_CURRENT} FOR SHARE", (ledger.pod,)) is None:
        raise OrderDenied("LIVE_NOT_ARMED", pod=ledger.pod)


def arm(
    ledger: Ledger, duration: timedelta, *, armed_by: str, reason: str | None, terms: dict[str, Any]
) -> Token:
    """Write a token that takes the place of any other; it is told in the events and as an alert.

    Args:
        terms: what was agreed to, such as venues and capital; kept with the event.

    Raises:
        OrderDenied: a phase before live trading is not passed; or trading is HALTED, and a person
            has to re-arm the state first.
    """
    with ledger.transaction():
        phases.demand_before_live(ledger)
        present = state.read_for_update(ledger)
        if present.state == "HALTED":
            raise OrderDenied("TRADING_HALTED", reason=present.reason)
        _revoke(ledger)
        row = ledger.one(
            "INSERT INTO arm_tokens (pod, armed_by, armed_at, expires_at) "
            "VALUES (%s, %s, now(), now() + %s) RETURNING token_id, armed_by, armed_at, expires_at",
            (ledger.pod, armed_by, duration),
        )
        assert row is not None  # INSERT ... RETURNING of one row
        token = Token(**row)
        until = clock.iso(token.expires_at)
        detail = {"token_id": token.token_id, "by": armed_by, "until": until, "reason": reason}
        events.record(ledger, "LIVE_ARMED", detail | terms)
        alerts.put(
            ledger,
            f"live-armed-{token.token_id}",
            "HIGH",
            f"Live trading is armed until {until}",
            f"pod {ledger.pod}, by {armed_by}: {reason or 'no reason given'}",
        )
    return token


def disarm(ledger: Ledger, *, by: str, reason: str | None) -> bool:
    """Revoke every token of this pod. Returns whether one was in force."""
    with ledger.transaction():
        token = current(ledger)
        _revoke(ledger)
        if token is None:
            return False
        detail = {"token_id": token.token_id, "by": by, "reason": reason}
        events.record(ledger, "LIVE_DISARMED", detail)
        alerts.put(
            ledger,
            f"live-disarmed-{token.token_id}",
            "HIGH",
            "Live trading is disarmed",
            f"pod {ledger.pod}, by {by}: {reason or 'no reason given'}",
        )
    return True


def open_live_positions(ledger: Ledger) -> list[Row]:
    """Open positions with orders that were sent live: ``position_id``, ``symbol``."""
    return ledger.query(
        "SELECT position_id, symbol FROM positions p WHERE pod = %s AND closed_at IS NULL "
        "AND EXISTS (SELECT 1 FROM intents i WHERE i.position_id = p.position_id "
        "AND i.mode = 'live') ORDER BY position_id",
        (ledger.pod,),
    )


def is_anything_live(ledger: Ledger) -> bool:
    """Whether a position is open that was ordered live, or a live order may still fill.

    A position may have been given an order that was sent before it was opened, as late as orders
    are looked for: a day.
    """
    row = ledger.one(
        "SELECT EXISTS (SELECT 1 FROM positions p JOIN intents i ON i.position_id = p.position_id "
        "AND i.pod = p.pod AND i.symbol = p.symbol AND i.sent_at > p.opened_at - interval '1 day' "
        "WHERE p.pod = %(pod)s AND p.closed_at IS NULL AND i.mode = 'live') "
        "OR EXISTS (SELECT 1 FROM intents WHERE pod = %(pod)s "
        "AND state IN ('SENDING', 'UNKNOWN') AND mode = 'live') "
        "OR EXISTS (SELECT 1 FROM orders o JOIN intents i USING (intent_id) "
        "WHERE o.pod = %(pod)s AND o.status = 'open' AND i.mode = 'live') AS live",
        {"pod": ledger.pod},
    )
    return row is not None and bool(row["live"])


def _revoke(ledger: Ledger) -> None:
    ledger.execute(
        "UPDATE arm_tokens SET revoked_at = now() WHERE pod = %s AND revoked_at IS NULL",
        (ledger.pod,),
    )
''')


###################################################################################################
_LOADER.modules["shared.ledger.connection"] = ("shared/ledger/connection.py", r'''"""One connection to PostgreSQL a process and thread, and transactions on it."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg2
import psycopg2.extensions
import psycopg2.extras

from shared.errors import LedgerUnavailable

Row = dict[str, Any]
Parameters = Mapping[str, Any] | Sequence[Any]

_STATEMENT_TIMEOUT_MS = 15_000
_CONNECT_TIMEOUT_S = 5
_IN_TRANSACTION = (
    psycopg2.extensions.TRANSACTION_STATUS_INTRANS,
    psycopg2.extensions.TRANSACTION_STATUS_INERROR,
)
_local = threading.local()


class Ledger:
    """Statements on behalf of one pod.

    Outside ``transaction()`` each statement commits by itself. ``numeric`` comes back as
    ``Decimal``, ``timestamptz`` as an aware ``datetime``, ``jsonb`` as Python objects.
    """

    def __init__(self, connection: psycopg2.extensions.connection, pod: str) -> None:
        self._connection = connection
        self.pod = pod

    def of_pod(self, pod: str) -> Ledger:
        """The same ledger on behalf of another pod."""
        return Ledger(self._connection, pod)

    def query(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """All rows, as dictionaries.

        Raises:
            LedgerUnavailable: the connection is gone or the statement took too long.
        """
        with _named_errors(), self._connection.cursor() as cursor:
            cursor.execute(sql, parameters or None)
            return [dict(row) for row in cursor.fetchall()]

    def one(self, sql: str, parameters: Parameters = ()) -> Row | None:
        """The first row, or ``None``."""
        with _named_errors(), self._connection.cursor() as cursor:
            cursor.execute(sql, parameters or None)
            row = cursor.fetchone()
            return None if row is None else dict(row)

    def execute(self, sql: str, parameters: Parameters = ()) -> int:
        """Run a statement and return how many rows it changed."""
        with _named_errors(), self._connection.cursor() as cursor:
            cursor.execute(sql, parameters or None)
            return int(cursor.rowcount)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing. A transaction inside another joins it.

        It is the connection's, so that one of another pod's ledger on the same connection joins
        too: a ``BEGIN`` of its own would do nothing, and its ``COMMIT`` would end the outer one.
        """
        if self._is_in_transaction():
            yield
            return
        with _named_errors():
            self.execute("BEGIN")
            try:
                yield
                self.execute("COMMIT")
            except BaseException:
                if self._is_in_transaction():
                    self.execute("ROLLBACK")
                raise

    def _is_in_transaction(self) -> bool:
        return self._connection.get_transaction_status() in _IN_TRANSACTION


def json(value: Any) -> psycopg2.extras.Json:
    """A parameter for a ``jsonb`` column; ``Decimal`` and times become strings."""
    return psycopg2.extras.Json(value, dumps=_dumps)


def connect(database_url: str, pod: str) -> Ledger:
    """The ledger of ``pod``, over this thread's connection, which a warm process reuses.

    Raises:
        LedgerUnavailable: nothing answers at ``database_url``.
    """
    cached: dict[str, psycopg2.extensions.connection] = _local.__dict__.setdefault("by_url", {})
    connection = cached.get(database_url)
    if connection is None or connection.closed:
        connection = cached[database_url] = _open(database_url)
    return Ledger(connection, pod)


def close_all() -> None:
    """Close this thread's connections, for example before the server is stopped."""
    for connection in _local.__dict__.pop("by_url", {}).values():
        connection.close()


def _open(database_url: str) -> psycopg2.extensions.connection:
    with _named_errors():
        connection = psycopg2.connect(
            database_url,
            connect_timeout=_CONNECT_TIMEOUT_S,
            application_name="trading-loop",
            cursor_factory=psycopg2.extras.RealDictCursor,
            options=f"-c statement_timeout={_STATEMENT_TIMEOUT_MS} -c timezone=UTC",
        )
    connection.autocommit = True
    return connection


@functools.cache
def _encoder() -> Any:
    import json as json_module
    from datetime import datetime
    from decimal import Decimal

    def encode(value: object) -> str:
        if isinstance(value, Decimal):
            return format(value, "f")
        if isinstance(value, datetime):
            return value.isoformat()
        raise TypeError(f"expected a JSON value, was {type(value).__name__}")

    return functools.partial(json_module.dumps, default=encode, allow_nan=False)


def _dumps(value: Any) -> str:
    text: str = _encoder()(value)
    return text


@contextmanager
def _named_errors() -> Iterator[None]:
    try:
        yield
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
        first_line = str(error).strip().splitlines()[:1]
        raise LedgerUnavailable(f"PostgreSQL: {first_line[0] if first_line else 'gone'}") from error
''')


###################################################################################################
_LOADER.modules["shared.ledger.equity"] = ("shared/ledger/equity.py", r'''"""Equity: what the pod is worth, minute by minute, and how far it has fallen.

Money that a person pays in or takes out is neither profit nor loss: an earlier equity is restated
by the transfers in quote currency that came after it, before it is compared with the present.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from shared import clock
from shared.errors import DataUnavailable
from shared.ledger.connection import Ledger, Row
from shared.market.types import Quote
from shared.run import Run

_STANDING = """
WITH rearmed AS MATERIALIZED (
    SELECT coalesce((SELECT rearmed_at FROM trading_state WHERE pod = %(pod)s), '-infinity') AS at
),
flows AS MATERIALIZED (
    SELECT at, amount FROM transfers
    WHERE pod = %(pod)s AND currency = %(quote)s
      AND at > (SELECT min(at) FROM equity WHERE pod = %(pod)s)
),
restated AS NOT MATERIALIZED (
    SELECT at, equity_quote,
           equity_quote + coalesce((SELECT sum(amount) FROM flows f WHERE f.at > e.at), 0) AS value
    FROM equity e WHERE pod = %(pod)s
)
SELECT
    (SELECT sum(amount) FROM transfers WHERE pod = %(pod)s AND currency = %(quote)s)
        AS capital_quote,
    (SELECT at FROM restated ORDER BY at DESC LIMIT 1) AS at,
    (SELECT equity_quote FROM restated ORDER BY at DESC LIMIT 1) AS equity_quote,
    coalesce(
        CASE WHEN EXISTS (SELECT 1 FROM flows)
             THEN (SELECT max(value) FROM restated WHERE at >= (SELECT at FROM rearmed))
             ELSE (SELECT equity_quote FROM equity
                   WHERE pod = %(pod)s AND at >= (SELECT at FROM rearmed)
                   ORDER BY equity_quote DESC LIMIT 1)
        END,
        (SELECT equity_quote FROM restated ORDER BY at DESC LIMIT 1)
    ) AS high_water_quote,
    coalesce((SELECT value FROM restated WHERE at <= %(day_start)s ORDER BY at DESC LIMIT 1),
             (SELECT value FROM restated ORDER BY at LIMIT 1)) AS day_start_quote,
    (SELECT value FROM restated WHERE at >= %(rolling_start)s ORDER BY at LIMIT 1)
        AS rolling_start_quote,
    (SELECT value FROM restated WHERE at >= %(week_start)s ORDER BY at LIMIT 1)
        AS week_start_quote
"""


@dataclass(frozen=True)
class Standing:
    """Where the pod stands. Money in quote currency; ``None`` where there is no row yet.

    Attributes:
        capital_quote: all transfers in quote currency.
        at, equity_quote: the newest row.
        high_water_quote: the highest equity since a person last re-armed (or ever), restated to
            today's capital.
        day_start_quote: equity at midnight UTC, or at the first row if that is younger.
        rolling_start_quote: the first equity of the last 24 hours.
        week_start_quote: the first equity of the last seven days.
    """

    capital_quote: Decimal | None
    at: datetime | None
    equity_quote: Decimal | None
    high_water_quote: Decimal | None
    day_start_quote: Decimal | None
    rolling_start_quote: Decimal | None
    week_start_quote: Decimal | None

    @property
    def worth_quote(self) -> Decimal | None:
        """Equity, or before its first row the capital that was paid in."""
        return self.capital_quote if self.equity_quote is None else self.equity_quote

    @property
    def drawdown_percent(self) -> Decimal | None:
        """How far equity lies below its high-water mark, 0 at the mark."""
        if self.equity_quote is None or self.high_water_quote is None:
            return None
        if self.high_water_quote <= 0:
            return None
        return 100 * (self.high_water_quote - self.equity_quote) / self.high_water_quote

    @property
    def day_loss_quote(self) -> Decimal | None:
        """What was lost since midnight UTC; negative where it was gained."""
        return self._loss_since(self.day_start_quote)

    @property
    def rolling_loss_quote(self) -> Decimal | None:
        """What was lost in the last 24 hours; negative where it was gained."""
        return self._loss_since(self.rolling_start_quote)

    @property
    def week_loss_quote(self) -> Decimal | None:
        """What was lost in the last seven days; negative where it was gained."""
        return self._loss_since(self.week_start_quote)

    def _loss_since(self, start: Decimal | None) -> Decimal | None:
        if self.equity_quote is None or start is None:
            return None
        return start - self.equity_quote


@dataclass(frozen=True)
class Mark:
    """One row of equity, in quote currency."""

    at: datetime
    equity_quote: Decimal
    cash_quote: Decimal
    positions_quote: Decimal


def standing(ledger: Ledger, quote_currency: str, now_ms: int) -> Standing:
    """Equity, high-water mark and losses in one round trip."""
    now = clock.from_ms(now_ms)
    row = ledger.one(
        _STANDING,
        {
            "pod": ledger.pod,
            "quote": quote_currency,
            "day_start": now.replace(hour=0, minute=0, second=0, microsecond=0),
            "rolling_start": now - timedelta(hours=24),
            "week_start": now - timedelta(days=7),
        },
    )
    if row is None:  # a SELECT without FROM always has its row
        raise AssertionError("standing: expected one row")
    return Standing(**row)


def series(ledger: Ledger, since: datetime) -> list[Row]:
    """Rows ``at, equity_quote, cash_quote, positions_quote`` since a time, oldest first."""
    return ledger.query(
        "SELECT at, equity_quote, cash_quote, positions_quote FROM equity "
        "WHERE pod = %s AND at >= %s ORDER BY at",
        (ledger.pod, since),
    )


def hourly(ledger: Ledger, since: datetime) -> list[Row]:
    """The last row ``at, equity_quote`` of each hour since a time, oldest first."""
    return ledger.query(
        "SELECT DISTINCT ON (date_trunc('hour', at)) at, equity_quote FROM equity "
        "WHERE pod = %s AND at >= %s ORDER BY date_trunc('hour', at), at DESC",
        (ledger.pod, since),
    )


def value(run: Run, quotes: Mapping[str, Quote]) -> Mark:
    """What the pod is worth at the mids of ``quotes``, by the ledger's balances.

    A currency without a quote is priced by the last mid that the ledger has seen, whatever its
    age.

    Raises:
        DataUnavailable: a currency is held for which there is neither.
    """
    rows = run.ledger.query(
        "SELECT currency, sum(amount) AS amount FROM balances WHERE pod = %s "
        "GROUP BY currency HAVING sum(amount) <> 0",
        (run.ledger.pod,),
    )
    amounts: dict[str, Decimal] = {row["currency"]: row["amount"] for row in rows}
    cash = amounts.pop(run.config.quote_currency, Decimal(0))
    holdings = sum(
        (amount * _mid(run, currency, quotes) for currency, amount in amounts.items()), Decimal(0)
    )
    return Mark(clock.now(), cash + holdings, cash, holdings)


def mark(run: Run, quotes: Mapping[str, Quote]) -> Decimal:
    """Value the pod, write the equity row of this moment and return the equity, in quote.

    Raises:
        DataUnavailable: a held currency has no price, or the pod has never been funded.
        LeaseLost: another run has taken over.
    """
    with run.ledger.transaction():
        run.guard()
        made = value(run, quotes)
        if made.equity_quote == 0 and made.cash_quote == 0:
            raise DataUnavailable(
                f"equity: expected transfers for pod {run.ledger.pod}, found none"
            )
        run.ledger.execute(
            "INSERT INTO equity (pod, at, equity_quote, cash_quote, positions_quote) "
            "VALUES (%s, %s, %s, %s, %s) ON CONFLICT (pod, at) DO UPDATE SET "
            "equity_quote = excluded.equity_quote, cash_quote = excluded.cash_quote, "
            "positions_quote = excluded.positions_quote",
            (run.ledger.pod, made.at, made.equity_quote, made.cash_quote, made.positions_quote),
        )
    return made.equity_quote


def _mid(run: Run, currency: str, quotes: Mapping[str, Quote]) -> Decimal:
    symbol = f"{currency}/{run.config.quote_currency}"
    if symbol in quotes:
        quote = quotes[symbol]
        return (Decimal(repr(float(quote.bid))) + Decimal(repr(float(quote.ask)))) / 2
    row = run.ledger.one(
        "SELECT (bid + ask) / 2 AS mid FROM prices WHERE pod = %s AND symbol = %s "
        "ORDER BY at DESC LIMIT 1",
        (run.ledger.pod, symbol),
    )
    if row is None:
        raise DataUnavailable(f"equity: expected a price of {symbol}, found none")
    mid: Decimal = row["mid"]
    return mid
''')


###################################################################################################
_LOADER.modules["shared.ledger.events"] = ("shared/ledger/events.py", r'''"""The log of what happened that a person would want to find later."""

from __future__ import annotations

from typing import Any

from shared import clock
from shared.ledger.connection import Ledger, Row, json

CANCEL_SENT = "CANCEL_SENT"
"""A cancel goes to a venue; its detail names ``symbol``. The gate counts these in its rates."""


def record(ledger: Ledger, kind: str, detail: dict[str, Any]) -> None:
    """Write one event. ``kind`` is upper case, for example ``RECONCILE_DIFFERENCE``."""
    ledger.execute(
        "INSERT INTO events (pod, at, kind, detail) VALUES (%s, %s, %s, %s)",
        (ledger.pod, clock.now(), kind, json(detail)),
    )


def recent(ledger: Ledger, limit: int = 50) -> list[Row]:
    """The newest events first."""
    return ledger.query(
        "SELECT at, kind, detail FROM events WHERE pod = %s ORDER BY event_id DESC LIMIT %s",
        (ledger.pod, limit),
    )
''')


###################################################################################################
_LOADER.modules["shared.ledger.leases"] = ("shared/ledger/leases.py", r'''"""One run of a workflow at a time: a lease row with a growing epoch, the fencing token.

Redis locks and platform queues may fail; a writer that lost its lease is refused here, because
every write that matters happens in a transaction that holds ``guard``.

What a jump of the database's clock does: forwards, a lease expires early, another run takes it
over, and the earlier holder is fenced off by the epoch. Backwards, a lease seems to last longer
than any lease does; once that is more than twice ``LEASE_SECONDS`` it may be taken over as if it
had expired, because otherwise a holder that died would lock everybody out until the clock is back
where it was. Neither lets two holders write: the epoch decides, not the time.
"""

from __future__ import annotations

from datetime import datetime

from shared import clock
from shared.errors import LeaseLost
from shared.ledger.connection import Ledger

LEASE_SECONDS = 90  # longer than the 60 s after which the platform kills a cron run


def acquire(ledger: Ledger, workflow: str, holder: str) -> int | None:
    """Take the lease for the event ``holder`` and return its new epoch, or ``None`` if it is held.

    A retry of the same event takes its own lease over; the earlier attempt is fenced off.
    """
    key = {"pod": ledger.pod, "workflow": workflow, "holder": holder, "now": _lease_now()}
    ledger.execute(
        "INSERT INTO leases (pod, workflow) VALUES (%(pod)s, %(workflow)s) ON CONFLICT DO NOTHING",
        key,
    )
    row = ledger.one(
        "UPDATE leases SET epoch = epoch + 1, holder = %(holder)s, "
        "expires_at = coalesce(%(now)s, clock_timestamp()) + make_interval(secs => %(secs)s) "
        "WHERE pod = %(pod)s AND workflow = %(workflow)s "
        "AND (holder IS NULL OR holder = %(holder)s "
        "     OR expires_at < coalesce(%(now)s, clock_timestamp()) "
        "     OR expires_at > coalesce(%(now)s, clock_timestamp()) "
        "                     + make_interval(secs => %(far)s)) "
        "RETURNING epoch",
        key | {"secs": LEASE_SECONDS, "far": 2 * LEASE_SECONDS},
    )
    return None if row is None else int(row["epoch"])


def guard(ledger: Ledger, workflow: str, epoch: int) -> None:
    """Hold the lease row until the transaction ends, so that nobody can take it over meanwhile.

    Raises:
        LeaseLost: the lease has passed to another run, or has expired.
    """
    row = ledger.one(
        "SELECT epoch FROM leases WHERE pod = %(pod)s AND workflow = %(workflow)s "
        "AND epoch = %(epoch)s AND holder IS NOT NULL "
        "AND expires_at >= coalesce(%(now)s, clock_timestamp()) FOR SHARE",
        {"pod": ledger.pod, "workflow": workflow, "epoch": epoch, "now": _lease_now()},
    )
    if row is None:
        raise LeaseLost(f"{workflow}: epoch {epoch} no longer holds the lease")


def release(ledger: Ledger, workflow: str, epoch: int) -> None:
    """Give the lease back; does nothing if it was lost."""
    ledger.execute(
        "UPDATE leases SET holder = NULL WHERE pod = %s AND workflow = %s AND epoch = %s",
        (ledger.pod, workflow, epoch),
    )


def _lease_now() -> datetime | None:
    """Leases go by the database's clock, which all runs share; in a replay by the virtual one."""
    return clock.now() if clock.is_virtual() else None
''')


###################################################################################################
_LOADER.modules["shared.ledger.phases"] = ("shared/ledger/phases.py", r'''"""The phases of a roll-out that a pod has passed: setup, install, test, live.

Live trading cannot be armed while one before it is not passed. Checking a phase is a command of a
person (``trading-loop phase``); what it found stands here as evidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from shared import clock
from shared.errors import OrderDenied
from shared.ledger import events
from shared.ledger.connection import Ledger, json

Phase = Literal["setup", "install", "test", "live"]
ORDER: tuple[Phase, ...] = ("setup", "install", "test", "live")
BEFORE_LIVE: tuple[Phase, ...] = ORDER[:-1]


@dataclass(frozen=True)
class Passed:
    """When a phase was passed last, by whom, with which code, and what was seen."""

    phase: Phase
    passed_at: datetime
    passed_by: str
    build: str
    evidence: dict[str, Any]


def passed(ledger: Ledger) -> dict[Phase, Passed]:
    """The newest pass of each phase that this pod has passed."""
    rows = ledger.query(
        "SELECT DISTINCT ON (phase) phase, passed_at, passed_by, build, evidence FROM phases "
        "WHERE pod = %s ORDER BY phase, phase_id DESC",
        (ledger.pod,),
    )
    return {row["phase"]: Passed(**row) for row in rows}


def open_before(ledger: Ledger, phase: Phase) -> list[Phase]:
    """The phases that have to be passed before ``phase`` and are not."""
    done = passed(ledger)
    return [earlier for earlier in ORDER[: ORDER.index(phase)] if earlier not in done]


def demand_before_live(ledger: Ledger) -> None:
    """Let nothing be armed before its time.

    Raises:
        OrderDenied: ``PHASE_OPEN``, with the phases that are not passed.
    """
    missing = open_before(ledger, "live")
    if missing:
        raise OrderDenied("PHASE_OPEN", pod=ledger.pod, phases="+".join(missing))


def record(
    ledger: Ledger, phase: Phase, *, passed_by: str, build: str, evidence: dict[str, Any]
) -> None:
    """Write that a phase was passed."""
    with ledger.transaction():
        ledger.execute(
            "INSERT INTO phases (pod, phase, passed_at, passed_by, build, evidence) "
            "VALUES (%s, %s, %s, %s, %s, %s)",
            (ledger.pod, phase, clock.now(), passed_by, build, json(evidence)),
        )
        detail = {"phase": phase, "by": passed_by, "build": build}
        events.record(ledger, "PHASE_PASSED", detail)
''')


###################################################################################################
_LOADER.modules["shared.ledger.pods"] = ("shared/ledger/pods.py", r'''"""Pods that are made from templates: which instance a workflow is, and who shares its accounts.

On Pipedream environment variables belong to a project, so that a copy of a workflow has those of
the original. What makes it another pod is a row here, found by the workflow's id. Such a pod has
the project's keys, and so the project's accounts at the venues: ``base`` is the pod that ``POD``
names, and all pods of one base share one account a venue.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from shared.clock import Stopwatch
from shared.ledger.connection import Ledger

_KNOWN_FOR_SECONDS = 60.0
_strangers: dict[tuple[str, str], Stopwatch] = {}
"""Workflows that are no pod's, with who asked, and since when this process knows it."""


@dataclass(frozen=True)
class Pod:
    """A pod's row.

    Attributes:
        base: the pod of the project whose variables it has.
        settings: its own variables, by name.
        may_trade_live: without it the pod is paper, whatever the project's variables say.
    """

    pod: str
    base: str
    settings: Mapping[str, str]
    may_trade_live: bool
    created_at: datetime
    created_by: str
    removed_at: datetime | None


_COLUMNS = "p.pod, p.base, p.settings, p.may_trade_live, p.created_at, p.created_by, p.removed_at"


def of_workflow(ledger: Ledger, workflow_id: str) -> Pod | None:
    """The pod that the workflow is of; ``None`` for one that goes by ``POD`` alone.

    A pod's workflows are written down before they are switched on, so that what is no pod's now
    need not be asked for in every run of a warm process.
    """
    key = (ledger.pod, workflow_id)
    since = _strangers.get(key)
    if since is not None and since.seconds() < _KNOWN_FOR_SECONDS:
        return None
    row = ledger.one(
        f"SELECT {_COLUMNS} FROM pods p JOIN pod_workflows w USING (pod) "  # noqa: S608 column names of ours
        "WHERE w.workflow_id = %s",
        (workflow_id,),
    )
    if row is None:
        _strangers[key] = Stopwatch()
        return None
    return Pod(**row)


def named(ledger: Ledger, pod: str) -> Pod | None:
    """The pod of that name, if it was made from templates."""
    row = ledger.one(f"SELECT {_COLUMNS} FROM pods p WHERE pod = %s", (pod,))  # noqa: S608 column names of ours
    return None if row is None else Pod(**row)


def of_base(ledger: Ledger, base: str) -> list[Pod]:
    """The pods of a project, removed ones too, by name."""
    rows = ledger.query(
        f"SELECT {_COLUMNS} FROM pods p WHERE base = %s ORDER BY pod",  # noqa: S608 column names of ours
        (base,),
    )
    return [Pod(**row) for row in rows]


def sharing_accounts(ledger: Ledger, mode: str) -> list[str]:
    """The other pods with money on the same accounts, where orders are sent in ``mode``.

    A pod that may not trade live has none there, and on paper every pod has accounts of its own.
    """
    if mode == "paper":
        return []
    rows = ledger.query(
        "WITH family AS (SELECT coalesce((SELECT base FROM pods WHERE pod = %(pod)s), %(pod)s) "
        "AS base) SELECT base AS pod FROM family WHERE base <> %(pod)s UNION ALL "
        "SELECT p.pod FROM pods p JOIN family USING (base) WHERE p.pod <> %(pod)s "
        "AND (p.may_trade_live OR %(mode)s <> 'live') ORDER BY pod",
        {"pod": ledger.pod, "mode": mode},
    )
    return [row["pod"] for row in rows]


def held_by(ledger: Ledger, pods: list[str], venue: str, mode: str) -> dict[str, Decimal]:
    """What the ledger says that ``pods`` hold on a venue: what was paid in, and fills of ``mode``.

    What one of them trades on paper meanwhile is on no venue, and is left out.
    """
    rows = ledger.query(
        "SELECT currency, sum(amount) AS amount FROM ("
        "SELECT currency, amount FROM transfers WHERE pod = ANY(%(pods)s) AND venue = %(venue)s "
        "UNION ALL SELECT m.currency, m.amount FROM fills f JOIN intents i USING (intent_id) "
        "CROSS JOIN LATERAL (VALUES "
        "(split_part(f.symbol, '/', 1), CASE f.side WHEN 'buy' THEN f.quantity "
        "ELSE -f.quantity END), "
        "(split_part(f.symbol, '/', 2), CASE f.side WHEN 'buy' THEN -f.price * f.quantity "
        "ELSE f.price * f.quantity END), "
        "(f.fee_currency, -f.fee_cost)) AS m (currency, amount) "
        "WHERE f.pod = ANY(%(pods)s) AND f.venue = %(venue)s AND i.mode = %(mode)s "
        "AND m.amount IS NOT NULL) AS movements GROUP BY currency",
        {"pods": pods, "venue": venue, "mode": mode},
    )
    return {row["currency"]: row["amount"] for row in rows}
''')


###################################################################################################
_LOADER.modules["shared.ledger.positions"] = ("shared/ledger/positions.py", r'''"""Positions as the ledger tells them: quantities and costs from fills, exits as decided.

Stops only ever rise and high-water marks too: SQL sees to it, whatever a caller asks for.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from typing import Literal

from shared.errors import DataUnavailable
from shared.ledger.connection import Ledger, Row


@dataclass(frozen=True)
class Position:
    """One position. Prices and money in quote currency, quantities in base currency.

    Attributes:
        exit_reason: set once it is to be left whole; selling goes on until nothing is held.
        quantity: what is held now, fees that were paid in base already gone.
        average_entry_price: ``None`` until the first fill.
        quote_flow: proceeds minus costs minus fees in quote: the profit once it is all sold.
    """

    position_id: int
    symbol: str
    sleeve: Literal["tactical", "core"]
    strategy: str
    decision_id: str | None
    opened_at: datetime
    exit_reason: str | None
    closed_at: datetime | None
    close_reason: str | None
    stop_price: Decimal
    target_price: Decimal | None
    trailing_activation_price: Decimal | None
    trailing_distance_percent: Decimal | None
    high_water_price: Decimal | None
    time_stop_at: datetime | None
    partial_taken: bool
    quantity: Decimal
    bought_quantity: Decimal
    sold_quantity: Decimal
    average_entry_price: Decimal | None
    cost_quote: Decimal
    proceeds_quote: Decimal
    fees_quote: Decimal
    quote_flow: Decimal
    first_fill_at: datetime | None

    @property
    def is_held(self) -> bool:
        return self.quantity > 0 and self.average_entry_price is not None


_COLUMNS = ", ".join(field.name for field in fields(Position))
_SELECT = f"SELECT {_COLUMNS} FROM position_summary WHERE pod = %s "  # noqa: S608 our own names


def open_positions(ledger: Ledger) -> list[Position]:
    """The positions that are not closed, oldest first; those still without fills included."""
    rows = ledger.query(
        "SELECT position_id FROM positions WHERE pod = %s AND closed_at IS NULL "
        "ORDER BY position_id",
        (ledger.pod,),
    )
    # One look-up a position reaches only its own fills; the view as a whole would sum them all.
    found = (by_id(ledger, row["position_id"]) for row in rows)
    return [position for position in found if position is not None]


def by_id(ledger: Ledger, position_id: int) -> Position | None:
    """One position of this pod, open or closed."""
    row = ledger.one(_SELECT + "AND position_id = %s", (ledger.pod, position_id))
    return None if row is None else Position(**row)


def tighten_stop(ledger: Ledger, position_id: int, stop_price: Decimal) -> Decimal:
    """Raise a stop; a lower one changes nothing. Returns the stop in force."""
    return _raise(ledger, position_id, "stop_price", stop_price)


def raise_high_water(ledger: Ledger, position_id: int, price: Decimal) -> Decimal:
    """Note a price; only a new high changes anything. Returns the high-water mark in force."""
    return _raise(ledger, position_id, "high_water_price", price)


def mark_partial_taken(ledger: Ledger, position_id: int) -> bool:
    """Note that part of the profit was taken. Returns whether it is news."""
    changed = ledger.execute(
        "UPDATE positions SET partial_taken = true "
        "WHERE pod = %s AND position_id = %s AND NOT partial_taken",
        (ledger.pod, position_id),
    )
    return changed == 1


def trades_since(ledger: Ledger, since: datetime) -> list[Row]:
    """Rows of the view ``trades`` closed since a time, oldest first."""
    return ledger.query(
        "SELECT * FROM trades WHERE pod = %s AND closed_at >= %s ORDER BY closed_at, position_id",
        (ledger.pod, since),
    )


def _raise(
    ledger: Ledger,
    position_id: int,
    column: Literal["stop_price", "high_water_price"],
    price: Decimal,
) -> Decimal:
    row = ledger.one(
        f"UPDATE positions SET {column} = greatest({column}, %s) "  # noqa: S608 one of two names
        f"WHERE pod = %s AND position_id = %s AND closed_at IS NULL RETURNING {column} AS price",
        (price, ledger.pod, position_id),
    )
    if row is None:
        raise DataUnavailable(f"position {position_id}: expected to be open, was closed meanwhile")
    in_force: Decimal = row["price"]
    return in_force
''')


###################################################################################################
_LOADER.modules["shared.ledger.runs"] = ("shared/ledger/runs.py", r'''"""Runs: which event was worked on, by which build, with what end."""

from __future__ import annotations

from datetime import datetime

from shared import BUILD, VERSION, clock
from shared.ledger.connection import Ledger

THIS_BUILD = f"{VERSION}+{BUILD}"
"""What a run is marked with: the version, and which build of it, as a bundle tells."""


def start(
    ledger: Ledger, workflow: str, trace_id: str, event_at: datetime, epoch: int
) -> int | None:
    """Claim an event and return the run's id, or ``None`` if it has been done already."""
    row = ledger.one(
        "INSERT INTO runs (pod, workflow, trace_id, event_at, epoch, build, started_at) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s) "
        "ON CONFLICT (pod, workflow, trace_id) DO UPDATE "
        "SET epoch = excluded.epoch, started_at = excluded.started_at, status = 'RUNNING', "
        "    error = NULL, finished_at = NULL "
        "WHERE runs.status <> 'DONE' RETURNING run_id",
        (ledger.pod, workflow, trace_id, event_at, epoch, THIS_BUILD, clock.now()),
    )
    return None if row is None else int(row["run_id"])


def finish(
    ledger: Ledger, run_id: int, epoch: int, *, duration_ms: float, error: str | None = None
) -> None:
    """Close the run: ``DONE``, or ``FAILED`` with its error.

    A holder whose event was taken over in the meantime changes nothing.
    """
    ledger.execute(
        "UPDATE runs SET status = %s, finished_at = %s, duration_ms = %s, error = %s "
        "WHERE run_id = %s AND epoch = %s AND status = 'RUNNING'",
        ("DONE" if error is None else "FAILED", clock.now(), duration_ms, error, run_id, epoch),
    )
''')


###################################################################################################
_LOADER.modules["shared.ledger.stages"] = ("shared/ledger/stages.py", r'''"""How much may be traded live: a little at first, and more only when a person has raised it.

The document's staged roll-out: $100 and 1 % a position for the first 24 hours, then step by step.
A stage only ever bounds what the configuration allows. Without a row the first one is in force.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from shared import clock
from shared.config import Config
from shared.errors import ConfigurationError
from shared.ledger import alerts, events
from shared.ledger.connection import Ledger, json


@dataclass(frozen=True)
class Stage:
    """Bounds on what is bought live.

    Attributes:
        number: 1 for the first; each is reached from the one before.
        exposure_quote: most that positions and orders may be worth together; ``None`` where the
            configuration alone bounds it.
        position_percent: most that a position may be worth, of equity.
    """

    number: int
    exposure_quote: Decimal | None
    position_percent: Decimal


STAGES: tuple[Stage, ...] = (
    Stage(1, Decimal(100), Decimal(1)),
    Stage(2, Decimal(250), Decimal(1)),
    Stage(3, Decimal(500), Decimal(2)),
    Stage(4, Decimal(1000), Decimal(2)),
    Stage(5, None, Decimal(100)),
)
"""The first is the document's "$100 test capital, 1 % position size"; the last is full automation.
The steps between follow its "gradually increase limits" and its required capital of $100-1000."""


@dataclass(frozen=True)
class InForce:
    """The stage of a pod. ``since`` and ``raised_by`` are ``None`` for the first."""

    stage: Stage
    since: datetime | None
    raised_by: str | None


def in_force(ledger: Ledger) -> InForce:
    """The highest stage that a person has raised this pod to."""
    row = ledger.one(
        "SELECT stage, raised_at, raised_by FROM live_stages WHERE pod = %s "
        "ORDER BY stage DESC LIMIT 1",
        (ledger.pod,),
    )
    if row is None:
        return InForce(STAGES[0], None, None)
    return InForce(of_number(row["stage"]), row["raised_at"], row["raised_by"])


def of_number(number: int) -> Stage:
    """Raises ``ConfigurationError`` for a stage that this build does not know."""
    for stage in STAGES:
        if stage.number == number:
            return stage
    raise ConfigurationError(f"stage: expected 1 to {len(STAGES)}, was {number}")


def raise_to(ledger: Ledger, stage: Stage, *, raised_by: str, evidence: dict[str, Any]) -> None:
    """Write that a person has raised the limits; told in the events and as an alert.

    Raises:
        ConfigurationError: it is not the stage after the one in force.
    """
    with ledger.transaction():
        present = in_force(ledger).stage
        if stage.number != present.number + 1:
            raise ConfigurationError(
                f"stage: expected {present.number + 1}, one above the present, was {stage.number}"
            )
        ledger.execute(
            "INSERT INTO live_stages (pod, stage, raised_at, raised_by, evidence) "
            "VALUES (%s, %s, %s, %s, %s)",
            (ledger.pod, stage.number, clock.now(), raised_by, json(evidence)),
        )
        events.record(ledger, "LIVE_STAGE_RAISED", {"stage": stage.number, "by": raised_by})
        alerts.put(
            ledger,
            f"stage:{stage.number}",
            "HIGH",
            f"Live limits were raised to stage {stage.number}",
            f"pod {ledger.pod}, by {raised_by}: {described(stage)}",
        )


def bounded(config: Config, stage: Stage) -> Config:
    """The configuration with the stage's bounds, so that sizing asks for no more than is let by."""
    largest = config.max_position_size
    if stage.exposure_quote is not None:
        largest = min(largest, stage.exposure_quote)
    percent = min(config.position_size_percent, stage.position_percent)
    return config.model_copy(
        update={"max_position_size": largest, "position_size_percent": percent}
    )


def described(stage: Stage) -> str:
    """The bounds in words."""
    if stage.exposure_quote is None:
        return "the configuration's own limits"
    return f"at most {stage.exposure_quote} in all and {stage.position_percent} % a position"
''')


###################################################################################################
_LOADER.modules["shared.ledger.state"] = ("shared/ledger/state.py", r'''"""The trading state: one row that every order passes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

from shared import clock
from shared.ledger import events
from shared.ledger.connection import Ledger

State = Literal["ACTIVE", "REDUCING", "HALTED"]
_SEVERITY: dict[str, int] = {"ACTIVE": 0, "REDUCING": 1, "HALTED": 2}


@dataclass(frozen=True)
class TradingState:
    """What is allowed now.

    ``ACTIVE`` allows everything, ``REDUCING`` only orders that shrink a position, ``HALTED`` only
    cancels and exits. ``size_factor`` multiplies new sizes; ``close_all`` asks the position
    manager to close what is open. ``rearmed_at`` is when a person last ended a halt: by that he
    accepts the equity of that moment, and drawdown is counted from there.
    """

    state: State
    reason: str
    set_by: str
    since: datetime
    pause_until: datetime | None
    rearm_required: bool
    size_factor: Decimal
    limit_orders_only: bool
    close_all: bool
    rearmed_at: datetime | None = None

    @property
    def allows_new_risk(self) -> bool:
        return self.state == "ACTIVE"


def read(ledger: Ledger, *, lock: bool = False) -> TradingState:
    """The state in force.

    ``lock`` holds it until the transaction ends: no halt can slip by, and no other order. Two
    workflows have two leases, and both would pass a limit that only one of them may use up.
    """
    sql = (
        "SELECT state, reason, set_by, since, pause_until, rearm_required, size_factor, "
        "limit_orders_only, close_all, rearmed_at FROM trading_state WHERE pod = %s"
    )
    row = ledger.one(sql + " FOR NO KEY UPDATE" if lock else sql, (ledger.pod,))
    if row is None:
        # A pod without a row has never been set up: nothing may trade.
        return TradingState(
            "HALTED",
            "no trading state in the ledger",
            "default",
            clock.now(),
            None,
            True,
            Decimal(1),
            False,
            False,
        )
    return TradingState(**row)


def tighten(
    ledger: Ledger,
    state: State,
    *,
    reason: str,
    set_by: str,
    pause_until: datetime | None = None,
    rearm_required: bool = False,
    close_all: bool = False,
) -> bool:
    """Move to a state at least as strict as the present one. Returns whether it changed."""
    with ledger.transaction():
        present = read_for_update(ledger)
        stricter = _SEVERITY[state] > _SEVERITY[present.state]
        longer = pause_until is not None and (
            present.pause_until is None or pause_until > present.pause_until
        )
        harder = (rearm_required and not present.rearm_required) or (
            close_all and not present.close_all
        )
        if not (stricter or harder or (longer and state == present.state)):
            return False
        new_state = state if stricter else present.state
        ledger.execute(
            "UPDATE trading_state SET state = %s, reason = %s, set_by = %s, since = %s, "
            "pause_until = greatest(pause_until, %s), rearm_required = rearm_required OR %s, "
            "close_all = close_all OR %s WHERE pod = %s",
            (
                new_state,
                reason,
                set_by,
                clock.now(),
                pause_until,
                rearm_required,
                close_all,
                ledger.pod,
            ),
        )
        events.record(
            ledger,
            "STATE_CHANGED",
            {
                "from": present.state,
                "to": new_state,
                "reason": reason,
                "set_by": set_by,
            },
        )
    return True


def set_restrictions(ledger: Ledger, *, size_factor: Decimal, limit_orders_only: bool) -> None:
    """Set what the breaker's warnings ask for; both are recomputed by each of its runs."""
    ledger.execute(
        "UPDATE trading_state SET size_factor = %s, limit_orders_only = %s WHERE pod = %s",
        (size_factor, limit_orders_only, ledger.pod),
    )


def resume_after_pause(ledger: Ledger, *, set_by: str) -> bool:
    """End a pause whose time is over. The caller has seen every check healthy."""
    with ledger.transaction():
        present = read_for_update(ledger)
        over = present.pause_until is not None and present.pause_until <= clock.now()
        if present.state == "ACTIVE" or present.rearm_required or not over:
            return False
        _activate(ledger, present, reason="pause is over and every check is healthy", set_by=set_by)
    return True


def rearm(ledger: Ledger, *, reason: str, set_by: str) -> bool:
    """A person allows trading again. Returns whether the state changed."""
    with ledger.transaction():
        present = read_for_update(ledger)
        if present.state == "ACTIVE":
            return False
        _activate(ledger, present, reason=reason, set_by=set_by)
        ledger.execute(
            "UPDATE trading_state SET rearmed_at = %s WHERE pod = %s", (clock.now(), ledger.pod)
        )
    return True


def lift(ledger: Ledger, *, set_by: str, reason: str) -> bool:
    """End what ``set_by`` has tightened, unless something else has tightened since.

    A pause that was in force before it, and that it only kept from ending by itself, goes on.

    Args:
        set_by: who tightened, without a pause of his own.
    """
    with ledger.transaction():
        present = read_for_update(ledger)
        if present.state == "ACTIVE" or present.set_by != set_by:
            return False
        if present.pause_until is not None:
            ledger.execute(
                "UPDATE trading_state SET rearm_required = false, reason = %s WHERE pod = %s",
                (f"the pause from before goes on; {reason}", ledger.pod),
            )
            return False
        _activate(ledger, present, reason=reason, set_by=set_by)
    return True


def read_for_update(ledger: Ledger) -> TradingState:
    """Hold the row against every other change and every new order until the transaction ends."""
    ledger.execute("SELECT 1 FROM trading_state WHERE pod = %s FOR UPDATE", (ledger.pod,))
    return read(ledger)


def _activate(ledger: Ledger, present: TradingState, *, reason: str, set_by: str) -> None:
    ledger.execute(
        "UPDATE trading_state SET state = 'ACTIVE', reason = %s, set_by = %s, since = %s, "
        "pause_until = NULL, rearm_required = false, close_all = false WHERE pod = %s",
        (reason, set_by, clock.now(), ledger.pod),
    )
    events.record(
        ledger,
        "STATE_CHANGED",
        {
            "from": present.state,
            "to": "ACTIVE",
            "reason": reason,
            "set_by": set_by,
        },
    )
''')


###################################################################################################
_LOADER.modules["shared.ledger.throttles"] = ("shared/ledger/throttles.py", r'''"""Strategies that were carried out too often in a row: nothing but a person lets them go on.

After RTS 6 (Commission Delegated Regulation (EU) 2017/589), article 15 (3): after a number of
repeated executions a system is disabled until a designated member of staff enables it again.
"""

from __future__ import annotations

from shared import clock
from shared.errors import OrderDenied
from shared.ledger import alerts, events
from shared.ledger.connection import Ledger, Row


def trip(ledger: Ledger, symbol: str, strategy: str, detail: str) -> bool:
    """Keep a strategy from buying a symbol until a person allows it, and tell him.

    Returns:
        Whether it was free until now.
    """
    now = clock.now()
    with ledger.transaction():
        changed = ledger.execute(
            "INSERT INTO throttles (pod, symbol, strategy, tripped_at, detail) "
            "VALUES (%s, %s, %s, %s, %s) "
            "ON CONFLICT (pod, symbol, strategy) WHERE reenabled_at IS NULL DO NOTHING",
            (ledger.pod, symbol, strategy, now, detail),
        )
        if changed == 0:
            return False
        events.record(
            ledger,
            "THROTTLE_TRIPPED",
            {"symbol": symbol, "strategy": strategy, "denial": detail},
        )
        alerts.put(
            ledger,
            f"throttle:{symbol}:{strategy}:{clock.iso(now)}",
            "HIGH",
            f"{strategy} buys {symbol} too often",
            f"{detail}. It buys no more of it until a person allows it again: "
            "trading-loop rearm --throttles --reason TEXT",
        )
    return True


def tripped(ledger: Ledger) -> list[Row]:
    """Rows ``symbol, strategy, tripped_at, detail`` of what waits for a person, oldest first."""
    return ledger.query(
        "SELECT symbol, strategy, tripped_at, detail FROM throttles "
        "WHERE pod = %s AND reenabled_at IS NULL ORDER BY tripped_at, throttle_id",
        (ledger.pod,),
    )


def deny(ledger: Ledger, symbol: str, strategy: str | None) -> None:
    """Refuse what the gate would refuse, before anything is planned.

    Raises:
        OrderDenied: ``STRATEGY_THROTTLED``.
    """
    for row in tripped(ledger):
        if (row["symbol"], row["strategy"]) == (symbol, strategy):
            raise OrderDenied(
                "STRATEGY_THROTTLED",
                symbol=symbol,
                strategy=strategy,
                since=clock.iso(row["tripped_at"]),
            )


def reenable(ledger: Ledger, *, reason: str, by: str) -> list[Row]:
    """A person allows all of them again. Returns them; executions are counted anew from now."""
    with ledger.transaction():
        # Those that are freed are those that are told: one that trips meanwhile stays.
        freed = ledger.query(
            "WITH freed AS (UPDATE throttles SET reenabled_at = %s, reenabled_by = %s, reason = %s "
            "WHERE pod = %s AND reenabled_at IS NULL "
            "RETURNING throttle_id, symbol, strategy, tripped_at, detail) "
            "SELECT symbol, strategy, tripped_at, detail FROM freed "
            "ORDER BY tripped_at, throttle_id",
            (clock.now(), by, reason, ledger.pod),
        )
        if not freed:
            return []
        names = [f"{row['strategy']} {row['symbol']}" for row in freed]
        events.record(
            ledger, "THROTTLES_REENABLED", {"throttles": names, "reason": reason, "by": by}
        )
    return freed
''')


###################################################################################################
_LOADER.modules["shared.ledger.universes"] = ("shared/ledger/universes.py", r'''"""Which symbols a run trades, and the history of how they were chosen.

Where ``SYMBOLS`` names symbols, they are the universe; where it is ``auto``, the newest choice in
the table ``universes`` is. A symbol outside it in which a position is open belongs to the run all
the same: it is looked at, managed and sold, and never bought.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from shared import clock
from shared.config import Config
from shared.ledger.connection import Ledger, Row, json

_IN_FORCE = """
SELECT u.universe_id, u.chosen_at, u.symbols, u.limits, c.started_at, c.failed_at, c.failure,
       (SELECT array_agg(DISTINCT symbol ORDER BY symbol) FROM positions
        WHERE pod = %(pod)s AND closed_at IS NULL) AS held
FROM (SELECT 1) AS always
LEFT JOIN LATERAL (
    SELECT universe_id, chosen_at, symbols, limits FROM universes
    WHERE pod = %(pod)s AND venue = %(venue)s AND quote_currency = %(quote)s
    ORDER BY chosen_at DESC, universe_id DESC LIMIT 1
) AS u ON true
LEFT JOIN universe_choices AS c ON c.pod = %(pod)s
"""

_HELD = """
SELECT array_agg(DISTINCT symbol ORDER BY symbol) AS held FROM positions
WHERE pod = %(pod)s AND closed_at IS NULL
"""


@dataclass(frozen=True)
class Universe:
    """The symbols of one run.

    Attributes:
        buyable: what new risk may be taken in; most traded first where it was chosen.
        leaving: what is held outside of ``buyable``.
        universe_id, chosen_at, limits: of the choice; ``None`` where the symbols are configured,
            or nothing has been chosen yet.
        started_at: since when a choice is being made.
        failed_at, failure: the newest failure of the choice that is being made.
    """

    buyable: tuple[str, ...]
    leaving: tuple[str, ...] = ()
    universe_id: int | None = None
    chosen_at: datetime | None = None
    limits: Mapping[str, Any] | None = None
    started_at: datetime | None = None
    failed_at: datetime | None = None
    failure: str | None = None

    @property
    def pairs(self) -> tuple[str, ...]:
        """All that a run looks at, manages and may sell."""
        return self.buyable + self.leaving


def in_force(ledger: Ledger, config: Config) -> Universe:
    """The universe of this moment, in one statement.

    Nothing is buyable where the symbols are to be chosen and have not been yet.
    """
    if not config.chooses_symbols:
        row = ledger.one(_HELD, {"pod": ledger.pod})
        return Universe(config.pairs, _leaving(row, config.pairs))
    row = ledger.one(
        _IN_FORCE,
        {"pod": ledger.pod, "venue": config.venues[0], "quote": config.quote_currency},
    )
    if row is None:  # one row is joined to, whatever there is
        raise AssertionError("universe: expected one row")
    buyable = tuple(row["symbols"] or ())
    return Universe(
        buyable,
        _leaving(row, buyable),
        row["universe_id"],
        row["chosen_at"],
        row["limits"],
        row["started_at"],
        row["failed_at"],
        row["failure"],
    )


def _leaving(row: Row | None, buyable: Sequence[str]) -> tuple[str, ...]:
    held = (row["held"] if row else None) or ()
    return tuple(symbol for symbol in held if symbol not in buyable)


def store(
    ledger: Ledger,
    config: Config,
    *,
    members: Sequence[Mapping[str, Any]],
    excluded: Sequence[Sequence[Any]],
    limits: Mapping[str, Any],
) -> None:
    """Put a choice in force and end its making. Call it inside a transaction, after the guard.

    Args:
        members: figures by ``symbol``, in the order of their rank.
        excluded: ``[symbol, reason, value, limit]``, most traded first.
    """
    ledger.execute(
        "INSERT INTO universes (pod, venue, quote_currency, chosen_at, symbols, members, excluded, "
        "limits) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
        (
            ledger.pod,
            config.venues[0],
            config.quote_currency,
            clock.now(),
            [member["symbol"] for member in members],
            json(members),
            json(excluded),
            json(limits),
        ),
    )
    ledger.execute("DELETE FROM universe_choices WHERE pod = %s", (ledger.pod,))


def progress(ledger: Ledger) -> Mapping[str, Any] | None:
    """What the choice that is being made knows so far; ``None`` where it has not begun."""
    row = ledger.one("SELECT progress FROM universe_choices WHERE pod = %s", (ledger.pod,))
    return None if row is None else row["progress"]


def keep_progress(
    ledger: Ledger, progress: Mapping[str, Any] | None, *, failure: str | None
) -> None:
    """Remember how far a choice has come, and why it could not go on where it could not."""
    ledger.execute(
        "INSERT INTO universe_choices (pod, started_at, progress, failed_at, failure) "
        "VALUES (%s, %s, %s, %s, %s) ON CONFLICT (pod) DO UPDATE SET "
        "started_at = excluded.started_at, progress = excluded.progress, "
        "failed_at = excluded.failed_at, failure = excluded.failure",
        (
            ledger.pod,
            clock.from_ms(progress["at_ms"]) if progress else clock.now(),
            None if progress is None else json(progress),
            None if failure is None else clock.now(),
            failure,
        ),
    )


def latest(ledger: Ledger, count: int = 1) -> list[Row]:
    """The newest choices, newest first, with all that was kept of them."""
    return ledger.query(
        "SELECT universe_id, venue, quote_currency, chosen_at, symbols, members, excluded, limits "
        "FROM universes WHERE pod = %s ORDER BY chosen_at DESC, universe_id DESC LIMIT %s",
        (ledger.pod, count),
    )


def ever_chosen(ledger: Ledger, symbols: Sequence[str]) -> set[str]:
    """Those of ``symbols`` that any universe of the last 45 days held: no position is kept longer
    than its time stop, which is 30 days at most."""
    rows = ledger.query(
        "SELECT DISTINCT member FROM universes CROSS JOIN unnest(symbols) AS member "
        "WHERE pod = %s AND chosen_at > %s AND member = ANY(%s)",
        (ledger.pod, clock.now() - timedelta(days=45), list(symbols)),
    )
    return {row["member"] for row in rows}


def forget_progress(ledger: Ledger) -> None:
    """Let the next choice begin anew."""
    ledger.execute("DELETE FROM universe_choices WHERE pod = %s", (ledger.pod,))
''')


###################################################################################################
_LOADER.modules["shared.market"] = ("shared/market/__init__.py", r'''"""What the market looks like: candles, indicators, patterns, order flow, microstructure, score."""
''')


###################################################################################################
_LOADER.modules["shared.market.candles"] = ("shared/market/candles/__init__.py", r'''"""Candles from venues: checked, kept in Redis and in the ledger, brought up to date."""
''')


###################################################################################################
_LOADER.modules["shared.market.candles.candle_check"] = ("shared/market/candles/candle_check.py", r'''"""Higher timeframes against the venue's own, one series every five minutes, in turn.

Windows are rolled up from minutes, so that an error in them, or a minute that the venue revised
later, would stay. The comparison takes the place of the request for the newest minute, in a minute
that closes no other candle, so that no minute makes more than three requests a symbol; the minute
series is then one candle behind until the next run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shared.execution.venues.base import PublicVenue
from shared.market.candles import candle_source
from shared.market.candles.candle_rows import COLUMNS, sliced
from shared.market.types import TIMEFRAME_MS, TIMEFRAMES, Candles

HIGHER = TIMEFRAMES[1:]
EVERY_MINUTES = 5
COMPARED = 20
"""How many of the newest candles are compared."""

_AT_MINUTE = 3
_PRICE_TOLERANCE = 1e-9
_VOLUME_TOLERANCE = 1e-6  # sums of up to 1,440 volumes with eight decimals


@dataclass(frozen=True)
class Difference:
    """Where a window of ours was not the venue's, beyond rounding.

    Attributes:
        candles: how many of the compared ones differ or are absent in ours.
        first_open_ms: the oldest of them.
        largest_percent: the largest difference of a price, in percent of the venue's.
    """

    symbol: str
    timeframe: str
    candles: int
    first_open_ms: int
    largest_percent: float

    def told(self) -> str:
        """For the list of what is missing."""
        return (
            f"{self.candles} candles were not the venue's, by up to "
            f"{self.largest_percent:.4g} %; repaired"
        )


def due(symbols: Sequence[str], now_ms: int) -> tuple[str, str] | None:
    """The series whose turn it is in this minute: symbol and timeframe."""
    turn, minute = divmod(now_ms // 60_000, EVERY_MINUTES)
    if minute != _AT_MINUTE or not symbols:
        return None
    which = turn % (len(symbols) * len(HIGHER))
    return symbols[which // len(HIGHER)], HIGHER[which % len(HIGHER)]


def can_wait(cached: Mapping[str, Candles], timeframe: str, now_ms: int) -> bool:
    """Whether the newest minute may be left for the next run: nothing else lacks in ``cached``."""
    for name in TIMEFRAMES:
        behind = 1 if name == "1m" else 0
        step = TIMEFRAME_MS[name]
        window = cached.get(name)
        if window is None or window.open_ms[-1] < now_ms // step * step - (1 + behind) * step:
            return False
    return len(cached[timeframe]) > COMPARED


def ask(venue: PublicVenue, symbol: str, timeframe: str, now_ms: int) -> Candles:
    """The venue's newest closed candles.

    Raises:
        DataUnavailable, VenueUnavailable: there is no answer, or it is not to be believed.
    """
    step = TIMEFRAME_MS[timeframe]
    since_ms = now_ms // step * step - COMPARED * step
    return candle_source.since(venue, symbol, timeframe, since_ms, COMPARED + 1, now_ms)


def compare(ours: Candles, theirs: Candles) -> Difference | None:
    """What differs beyond rounding in the time that both series cover."""
    # What comes before the window is not missing from it.
    theirs = sliced(theirs, slice(int(np.searchsorted(theirs.open_ms, ours.open_ms[0])), None))
    _, left, right = np.intersect1d(ours.open_ms, theirs.open_ms, return_indices=True)
    absent = np.setdiff1d(theirs.open_ms, ours.open_ms)
    prices_apart = np.max(
        [
            np.abs(getattr(ours, name)[left] / getattr(theirs, name)[right] - 1)
            for name in COLUMNS[1:5]
        ],
        axis=0,
        initial=0.0,
    )
    volumes_apart = np.abs(ours.volume[left] - theirs.volume[right])
    wrong = (prices_apart > _PRICE_TOLERANCE) | (
        volumes_apart > _VOLUME_TOLERANCE * np.maximum(theirs.volume[right], 1.0)
    )
    times = np.concatenate((ours.open_ms[left][wrong], absent))
    if not len(times):
        return None
    largest = float(prices_apart[wrong].max(initial=0.0))
    return Difference(ours.symbol, ours.timeframe, len(times), int(times.min()), 100 * largest)
''')


###################################################################################################
_LOADER.modules["shared.market.candles.candle_codec"] = ("shared/market/candles/candle_codec.py", r'''"""Candles as bytes for the cache, and back with checks.

A header of magic, version, number of candles, length of a candle and CRC-32 of the body; then
``open_ms`` as int64 and five columns of float64, little-endian. One copy to write, none to read.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

from shared.market.candles.candle_rows import COLUMNS, WINDOW, find_problem
from shared.market.types import TIMEFRAME_MS, Candles

_HEADER = struct.Struct("<4sHHQI4x")  # 24 bytes, so that the columns stay aligned to 8
_MAGIC = b"CNDL"
_VERSION = 1


def encode(candles: Candles) -> bytes:
    """The bytes of ``candles``."""
    types = ("<i8",) + ("<f8",) * 5
    body = b"".join(
        np.ascontiguousarray(getattr(candles, name), dtype=kind).tobytes()
        for name, kind in zip(COLUMNS, types, strict=True)
    )
    step = TIMEFRAME_MS[candles.timeframe]
    return _HEADER.pack(_MAGIC, _VERSION, len(candles), step, zlib.crc32(body)) + body


def decode(symbol: str, timeframe: str, blob: bytes) -> Candles | None:
    """The candles in ``blob``, or ``None`` where it is not wholly what this build writes.

    A cache may hold anything: an older version, half a value, another's data. None of it is an
    error, because the venue can be asked instead.
    """
    if len(blob) < _HEADER.size:
        return None
    magic, version, count, step, checksum = _HEADER.unpack_from(blob)
    expected_size = _HEADER.size + 48 * count
    if (magic, version, step, len(blob)) != (
        _MAGIC,
        _VERSION,
        TIMEFRAME_MS[timeframe],
        expected_size,
    ):
        return None
    if not 0 < count <= WINDOW or zlib.crc32(memoryview(blob)[_HEADER.size :]) != checksum:
        return None
    open_ms = np.frombuffer(blob, "<i8", count, _HEADER.size)
    values = np.frombuffer(blob, "<f8", 5 * count, _HEADER.size + 8 * count).reshape(5, count)
    candles = Candles(symbol, timeframe, open_ms, *values)
    return None if find_problem(candles) else candles


def head(blob: bytes) -> bytes:
    """The header of encoded candles: two windows with the same head are the same."""
    return blob[: _HEADER.size]
''')


###################################################################################################
_LOADER.modules["shared.market.candles.candle_refresh"] = ("shared/market/candles/candle_refresh.py", r'''"""The windows of one symbol, brought up to a minute with as little as possible.

A warm minute asks the venue once a symbol, for the newest minutes. Higher timeframes are rolled
up from the next lower one where that fills the period whole, and asked for otherwise. Now and then
a higher timeframe is asked for in place of the minutes, and compared (``candle_check``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from shared.errors import DataUnavailable, VenueError
from shared.execution.venues.base import PublicVenue
from shared.market.candles import candle_check, candle_source
from shared.market.candles.candle_check import Difference
from shared.market.candles.candle_rows import is_stale, merged, roll_up
from shared.market.candles.candle_source import FINER, Allowance
from shared.market.types import TIMEFRAME_MS, TIMEFRAMES, Candles

Windows = dict[str, Candles]


@dataclass
class Refreshed:
    """The windows of one symbol after a refresh.

    Attributes:
        windows: by timeframe; a timeframe that could not be had, or is too old, is absent.
        changed: timeframes that differ from the cache.
        missing: what is lacking and why, ``<timeframe>:<reason>``.
        differences: where a window was not the venue's; it is now.
        pending: timeframes that are still to be asked for.
    """

    windows: Windows = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)

    def replace(self, timeframe: str, candles: Candles) -> None:
        """Take ``candles`` for the window of ``timeframe``, to be kept in the cache."""
        self.windows[timeframe] = candles
        self.keep(timeframe)

    def keep(self, timeframe: str) -> None:
        """Let the window of ``timeframe``, where there is one, be written to the cache."""
        if timeframe in self.windows and timeframe not in self.changed:
            self.changed.append(timeframe)

    def copy(self) -> Refreshed:
        """One that may be changed by itself."""
        return Refreshed(
            dict(self.windows),
            list(self.changed),
            list(self.missing),
            list(self.differences),
            list(self.pending),
        )


def refresh(
    venue: PublicVenue,
    symbol: str,
    cached: Windows,
    now_ms: int,
    *,
    check: str | None = None,
) -> Refreshed:
    """Bring the windows of ``symbol`` up to ``now_ms``, whatever that takes.

    Raises:
        DataUnavailable, VenueUnavailable: as for ``begin``.
    """
    result = begin(venue, symbol, cached, now_ms, check=check)
    complete(venue, symbol, result, cached, now_ms, Allowance(len(TIMEFRAMES)))
    return result


def begin(
    venue: PublicVenue,
    symbol: str,
    cached: Windows,
    now_ms: int,
    *,
    check: str | None = None,
) -> Refreshed:
    """The part of a refresh that cannot wait: one request, and what follows from its answer.

    Args:
        check: a timeframe to compare with the venue's, in place of asking for the newest minute.

    Raises:
        DataUnavailable, VenueUnavailable: the one-minute candles, which everything rests on,
            cannot be had.
    """
    result = Refreshed()
    if check is not None and candle_check.can_wait(cached, check, now_ms):
        return _checked(venue, symbol, cached, check, now_ms)
    minutes = cached.get("1m")
    newer = _up_to_date(venue.name, "1m", minutes, None, now_ms)
    if newer is None:
        newer = fetch(venue, symbol, "1m", minutes, now_ms)
    take(result, "1m", minutes, newer, now_ms)
    if "1m" not in result.windows:
        raise DataUnavailable(f"{symbol} {result.missing[0]}")
    for timeframe in TIMEFRAMES[1:]:
        before, finer = cached.get(timeframe), result.windows.get(FINER[timeframe])
        after = _up_to_date(venue.name, timeframe, before, finer, now_ms)
        if after is None:
            result.pending.append(timeframe)
        else:
            take(result, timeframe, before, after, now_ms)
    return result


def complete(
    venue: PublicVenue,
    symbol: str,
    result: Refreshed,
    cached: Windows,
    now_ms: int,
    allowance: Allowance,
) -> None:
    """Ask for the timeframes that ``begin`` has left, as far as ``allowance`` goes.

    One that cannot be had is named in ``missing``; what the cache held of it is used while it is
    not too old.
    """
    for timeframe in result.pending:
        before, finer = cached.get(timeframe), result.windows.get(FINER[timeframe])
        after = _up_to_date(venue.name, timeframe, before, finer, now_ms)
        if after is None:
            try:
                allowance.take()
                after = fetch(venue, symbol, timeframe, before, now_ms)
            except (DataUnavailable, VenueError) as error:
                result.missing.append(f"{timeframe}:{error}")
                after = before
        take(result, timeframe, before, after, now_ms)
    result.pending.clear()
    result.windows = {name: result.windows[name] for name in TIMEFRAMES if name in result.windows}


def take(
    result: Refreshed, timeframe: str, before: Candles | None, after: Candles | None, now_ms: int
) -> None:
    """Put ``after`` into ``result``, or name why there is no window."""
    if after is None or not len(after):
        result.missing.append(f"{timeframe}:no candles")
    elif is_stale(after, now_ms):
        result.missing.append(f"{timeframe}:stale since {after.closed_ms}")
    elif after is before:
        result.windows[timeframe] = after
    else:
        result.replace(timeframe, after)


def fetch(
    venue: PublicVenue, symbol: str, timeframe: str, before: Candles | None, now_ms: int
) -> Candles:
    """What is new after ``before``, joined to it; the newest window where one answer cannot join.

    Raises:
        DataUnavailable, VenueUnavailable: there is no answer, or it is not to be believed.
    """
    step = TIMEFRAME_MS[timeframe]
    # From the last known candle on, which a venue may have corrected, to the one still open.
    wanted = 0 if before is None else (now_ms - int(before.open_ms[-1])) // step + 1
    if before is None or wanted > candle_source.supply(venue.name).cap:
        return candle_source.newest(venue, symbol, timeframe, now_ms)
    since_ms = int(before.open_ms[-1])
    found = candle_source.since(venue, symbol, timeframe, since_ms, wanted, now_ms)
    return merged(before, found)


def _checked(
    venue: PublicVenue, symbol: str, cached: Windows, timeframe: str, now_ms: int
) -> Refreshed:
    """The cached windows, one of them compared with the venue's and repaired by it."""
    result = Refreshed()
    for name in TIMEFRAMES:
        take(result, name, cached.get(name), cached.get(name), now_ms)
    try:
        theirs = candle_check.ask(venue, symbol, timeframe, now_ms)
    except (DataUnavailable, VenueError) as error:
        result.missing.append(f"{timeframe}:not checked:{error}")
        return result
    found = candle_check.compare(result.windows[timeframe], theirs)
    if found is not None:
        result.replace(timeframe, merged(result.windows[timeframe], theirs))
        result.differences.append(found)
        result.missing.append(f"{timeframe}:{found.told()}")
    return result


def _up_to_date(
    venue: str, timeframe: str, before: Candles | None, finer: Candles | None, now_ms: int
) -> Candles | None:
    """The window as far as no request is needed: it is fresh, or ``finer`` fills what lacks."""
    step = TIMEFRAME_MS[timeframe]
    newest_due = now_ms // step * step - step
    if before is None:
        if finer is None or timeframe not in candle_source.supply(venue).built:
            return None
        return roll_up(finer, timeframe, int(finer.open_ms[0]))
    if before.open_ms[-1] >= newest_due:
        return before
    if finer is None:
        return None
    rolled = roll_up(finer, timeframe, before.closed_ms)
    whole = len(rolled) == (newest_due - int(before.open_ms[-1])) // step
    return merged(before, rolled) if whole else None
''')


###################################################################################################
_LOADER.modules["shared.market.candles.candle_rows"] = ("shared/market/candles/candle_rows.py", r'''"""Rows of candles from outside, turned into ``Candles`` or refused by name.

What a venue or a cache says is not believed: every value is checked, duplicates and disorder are
repaired, the candle that is still open is dropped, and holes stay holes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import DataUnavailable
from shared.market.types import TIMEFRAME_MS, Candles

WINDOW = 1_600  # what the slowest indicator, the EMA of 200, needs: see ``warmup.SETTLED``
COLUMNS = ("open_ms", "open", "high", "low", "close", "volume")


def from_rows(symbol: str, timeframe: str, rows: Any, now_ms: int) -> Candles:
    """The closed candles among ``[open_ms, open, high, low, close, volume]`` rows, oldest first.

    Of several rows for the same time the last one counts: venues send corrections later.

    Raises:
        DataUnavailable: a row is malformed, or opens later than the candle after the present one;
            names the field, its value and what was expected.
    """
    label, step = f"{symbol} {timeframe}", TIMEFRAME_MS[timeframe]
    table = _as_table(label, rows)
    if not np.isfinite(table).all():
        row, column = (int(axis[0]) for axis in np.nonzero(~np.isfinite(table)))
        raise _malformed(label, row, COLUMNS[column], table[row, column], "a finite number")
    order = np.argsort(table[:, 0], kind="stable")
    table = table[order]
    table = table[_changes(table[:, 0], at_end=True)]
    opens = table[:, 0].astype(np.int64)
    if len(opens) and opens[-1] > now_ms + step:  # the venue's clock may be a little ahead of ours
        expected = f"at most {now_ms + step}"
        raise _malformed(label, len(opens) - 1, "open_ms", int(opens[-1]), expected)
    closed = opens + step <= now_ms
    table, opens = table[closed], opens[closed]
    columns = (np.ascontiguousarray(table[:, i]) for i in range(1, 6))
    candles = Candles(symbol, timeframe, opens, *columns)
    problem = find_problem(candles)
    if problem is not None:
        raise DataUnavailable(problem)
    return candles


def find_problem(candles: Candles) -> str | None:
    """What is wrong with the values, in one line, or ``None``."""
    label = f"{candles.symbol} {candles.timeframe}"
    low, high, step = candles.low, candles.high, TIMEFRAME_MS[candles.timeframe]
    body_top = np.maximum(candles.open, candles.close)
    body_bottom = np.minimum(candles.open, candles.close)
    # Comparisons with NaN are false, so that a NaN fails whichever check it meets.
    rules = (
        ("open_ms", candles.open_ms, candles.open_ms % step == 0, f"a multiple of {step}"),
        ("low", low, (low > 0) & (low <= body_bottom), "> 0 and <= open and close"),
        ("high", high, (high >= body_top) & (high < np.inf), "finite and >= open and close"),
        ("volume", candles.volume, (candles.volume >= 0) & (candles.volume < np.inf), ">= 0"),
    )
    for name, values, right, expected in rules:
        if not right.all():
            at = int(np.argmin(right))
            return str(_malformed(label, at, name, values[at], expected))
    if len(candles) > 1 and not (np.diff(candles.open_ms) > 0).all():
        return f"{label}: open_ms: expected ascending times"
    return None


def gaps(candles: Candles) -> int:
    """How many candles are absent between the first and the last one."""
    if len(candles) < 2:
        return 0
    step = TIMEFRAME_MS[candles.timeframe]
    span = int(candles.open_ms[-1] - candles.open_ms[0])
    return span // step + 1 - len(candles)


def is_stale(candles: Candles, now_ms: int) -> bool:
    """Whether more than one candle, and three minutes for a slow venue, are lacking at the end."""
    return now_ms - candles.closed_ms > 2 * TIMEFRAME_MS[candles.timeframe] + 180_000


def merged(older: Candles, newer: Candles) -> Candles:
    """Both series as one, at most ``WINDOW`` long; where they overlap, ``newer`` counts."""
    if not len(older) or not len(newer):
        return newer if len(newer) else older
    opens = np.concatenate((older.open_ms, newer.open_ms))
    order = np.argsort(opens, kind="stable")
    keep = order[_changes(opens[order], at_end=True)][-WINDOW:]
    columns = (
        np.concatenate((getattr(older, name), getattr(newer, name)))[keep] for name in COLUMNS[1:]
    )
    return Candles(newer.symbol, newer.timeframe, opens[keep], *columns)


def sliced(candles: Candles, part: slice) -> Candles:
    """A part of the series, sharing its memory."""
    columns = (getattr(candles, name)[part] for name in COLUMNS)
    return Candles(candles.symbol, candles.timeframe, *columns)


def closed_by(candles: Candles, now_ms: int) -> Candles:
    """The candles that are closed at ``now_ms``."""
    last_open = now_ms - TIMEFRAME_MS[candles.timeframe]
    end = int(np.searchsorted(candles.open_ms, last_open, side="right"))
    return candles if end == len(candles) else sliced(candles, slice(0, end))


def roll_up(finer: Candles, timeframe: str, since_ms: int) -> Candles:
    """Candles of ``timeframe`` from ``since_ms`` on, of the periods that ``finer`` fills whole."""
    step = TIMEFRAME_MS[timeframe]
    ratio = step // TIMEFRAME_MS[finer.timeframe]
    start = int(np.searchsorted(finer.open_ms, since_ms))
    part = sliced(finer, slice(start, None))
    if not len(part):
        return Candles(finer.symbol, timeframe, *(getattr(part, name) for name in COLUMNS))
    period = part.open_ms // step
    first = np.flatnonzero(_changes(period, at_end=False))
    size = np.diff(np.append(first, len(period)))
    whole = size == ratio
    last = first + size - 1
    return Candles(
        symbol=finer.symbol,
        timeframe=timeframe,
        open_ms=period[first][whole] * step,
        open=part.open[first][whole],
        high=np.maximum.reduceat(part.high, first)[whole],
        low=np.minimum.reduceat(part.low, first)[whole],
        close=part.close[last][whole],
        volume=np.add.reduceat(part.volume, first)[whole],
    )


def _changes(values: NDArray[Any], *, at_end: bool) -> NDArray[np.bool_]:
    """Marks the last of each run of equal values, or the first."""
    marks = np.ones(len(values), dtype=bool)
    if at_end:
        marks[:-1] = values[1:] != values[:-1]
    else:
        marks[1:] = values[1:] != values[:-1]
    return marks


def _as_table(label: str, rows: Any) -> NDArray[np.float64]:
    try:
        table = np.asarray(rows, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataUnavailable(f"{label}: rows: expected numbers, {error}") from error
    if table.size == 0:
        return np.empty((0, 6))
    if table.ndim != 2 or table.shape[1] != 6:
        raise DataUnavailable(f"{label}: rows: expected 6 columns, was shape {table.shape}")
    return table


def _malformed(label: str, row: int, field: str, value: object, expected: str) -> DataUnavailable:
    return DataUnavailable(f"{label}: row {row}: {field}: was {value}, expected {expected}")
''')


###################################################################################################
_LOADER.modules["shared.market.candles.candle_source"] = ("shared/market/candles/candle_source.py", r'''"""What a venue gives of candles, and how a part of a series is asked for.

Sources: Binance and Binance US, "Kline/Candlestick data" (1,000 a call, from any time on); Kraken,
"Get OHLC data" (the newest 720 and no others, whatever ``since`` says); Coinbase Advanced, "Get
product candles" (300 a call), for which ccxt 4.5.90 knows no four hours.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from shared.errors import DataUnavailable
from shared.execution.venues.base import PublicVenue
from shared.market.candles.candle_rows import WINDOW, from_rows, roll_up
from shared.market.types import TIMEFRAME_MS, TIMEFRAMES, Candles

FINER: dict[str, str] = dict(zip(TIMEFRAMES[1:], TIMEFRAMES[:-1], strict=True))


@dataclass(frozen=True)
class Supply:
    """What a venue serves.

    Attributes:
        cap: candles in one answer.
        pages: whether candles before the newest ``cap`` can be had.
        built: timeframes that it does not serve; they are rolled up from the next lower one.
        lists_every_minute: whether a time without a trade has a candle, with volume 0.
    """

    cap: int
    pages: bool = True
    built: frozenset[str] = frozenset()
    lists_every_minute: bool = False


_SUPPLIES: dict[str, Supply] = {
    "binance": Supply(1_000, lists_every_minute=True),
    "binanceus": Supply(1_000, lists_every_minute=True),
    "coinbase": Supply(300, built=frozenset({"4h"})),
    "kraken": Supply(720, pages=False),
}


def supply(venue: str) -> Supply:
    """What ``venue`` serves; the least of all for a venue that is not known."""
    return _SUPPLIES.get(venue, Supply(300))


def page_size(venue: str, timeframe: str) -> int:
    """How many candles of ``timeframe`` one request brings at most."""
    given = supply(venue)
    return given.cap // _ratio(timeframe) if timeframe in given.built else given.cap


def _ratio(timeframe: str) -> int:
    """How many candles of the next lower timeframe make one of ``timeframe``."""
    return TIMEFRAME_MS[timeframe] // TIMEFRAME_MS[FINER[timeframe]]


class Allowance:
    """How many requests may still be made for candles that can wait, counted over threads."""

    def __init__(self, requests: int, has_time: Callable[[], bool] = lambda: True) -> None:
        self._left = requests
        self._most = requests
        self._has_time = has_time
        self._lock = threading.Lock()

    @property
    def spent(self) -> int:
        return self._most - self._left

    @property
    def left(self) -> int:
        """How many requests may be begun now."""
        return self._left if self._has_time() else 0

    def take(self) -> None:
        """Count one request.

        Raises:
            DataUnavailable: this run has made as many as it may, or has no time left.
        """
        with self._lock:
            if not self._has_time():
                raise DataUnavailable("put off: this run's time is up")
            if self._left <= 0:
                raise DataUnavailable(f"put off: this run has made its {self._most} requests")
            self._left -= 1


def newest(venue: PublicVenue, symbol: str, timeframe: str, now_ms: int) -> Candles:
    """As many of the newest closed candles as one answer holds, at most a window.

    Raises:
        DataUnavailable, VenueUnavailable: there is no answer, or it is not to be believed.
    """
    return _ask(venue, symbol, timeframe, None, WINDOW, now_ms)


def since(
    venue: PublicVenue, symbol: str, timeframe: str, since_ms: int, count: int, now_ms: int
) -> Candles:
    """The closed candles from ``since_ms`` on, at most ``count`` and one answer's worth.

    Raises:
        DataUnavailable, VenueUnavailable: as for ``newest``.
    """
    return _ask(venue, symbol, timeframe, since_ms, count, now_ms)


def _ask(
    venue: PublicVenue, symbol: str, timeframe: str, since_ms: int | None, count: int, now_ms: int
) -> Candles:
    most = min(count, page_size(venue.name, timeframe))
    if timeframe not in supply(venue.name).built:
        rows = venue.candles(symbol, timeframe, since_ms=since_ms, limit=most)
        return from_rows(symbol, timeframe, rows, now_ms)
    finer = FINER[timeframe]
    rows = venue.candles(symbol, finer, since_ms=since_ms, limit=most * _ratio(timeframe))
    parts = from_rows(symbol, finer, rows, now_ms)
    return roll_up(parts, timeframe, int(parts.open_ms[0]) if len(parts) else 0)
''')


###################################################################################################
_LOADER.modules["shared.market.candles.candle_store"] = ("shared/market/candles/candle_store.py", r'''"""Windows of closed candles as a pod keeps them: in the cache, with what this process remembers.

How they are brought up to a minute is told in ``candle_refresh``; how they are made whole over
several runs, in ``candle_upkeep``; what remains of them for good, in ``history``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shared import clock
from shared.cache import Cache
from shared.execution.venues.base import PublicVenue
from shared.market.candles import candle_codec
from shared.market.candles.candle_refresh import Refreshed, Windows, fetch, refresh, take
from shared.market.candles.candle_rows import closed_by, is_stale
from shared.market.candles.candle_upkeep import Notes, notes_from_bytes, notes_to_bytes
from shared.market.candles.flash_prints import without_flash_prints
from shared.market.types import TIMEFRAMES, Candles
from shared.run import Run

__all__ = ["CandleStore", "Refreshed", "Windows", "refresh", "window"]

_TTL_SECONDS = 7 * 86_400
_NOTES_TTL_SECONDS = 86_400  # what a venue lacked yesterday is asked for again
_MAX_REMEMBERED = 512  # windows of 77 kB at most: 40 MB
_remembered: dict[str, tuple[bytes, Candles]] = {}


class CandleStore:
    """The candle windows of a pod, by venue, symbol and timeframe.

    Beside each window lies its head of 24 bytes with a checksum. What this process has read or
    written before is used again where the head still names it, so that a warm minute moves a few
    hundred bytes; a cache that was emptied is empty here too.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    @property
    def is_there(self) -> bool:
        """Whether what is written now can be read by the next run."""
        return self._cache.available

    def read(
        self,
        venue: str,
        symbols: Sequence[str],
        now_ms: int,
        timeframes: Sequence[str] = TIMEFRAMES,
    ) -> dict[str, Windows]:
        """What the cache holds, checked, without what is not closed at ``now_ms``."""
        wanted = {
            _key(venue, symbol, timeframe): (symbol, timeframe)
            for symbol in symbols
            for timeframe in timeframes
        }
        known = self._unchanged(list(wanted))
        unknown = [key for key in wanted if key not in known]
        for key, blob in zip(unknown, self._cache.get_many(unknown), strict=True):
            decoded = None if blob is None else candle_codec.decode(*wanted[key], blob)
            if blob is not None and decoded is not None:
                known[key] = decoded
                _remember(key, candle_codec.head(blob), decoded)
        found: dict[str, Windows] = {symbol: {} for symbol in symbols}
        for key, (symbol, timeframe) in wanted.items():
            if key in known and len(candles := closed_by(known[key], now_ms)):
                found[symbol][timeframe] = candles
        return found

    def write(self, venue: str, refreshed: Mapping[str, Refreshed]) -> None:
        """Keep what the refreshes of some symbols have changed."""
        values: dict[str, bytes] = {}
        for symbol, result in refreshed.items():
            for timeframe in result.changed:
                key, candles = _key(venue, symbol, timeframe), result.windows[timeframe]
                values[key] = blob = candle_codec.encode(candles)
                values[_head_key(key)] = head = candle_codec.head(blob)
                _remember(key, head, candles)
        self._cache.set_many(values, _TTL_SECONDS)

    def read_notes(self, venue: str, symbols: Sequence[str]) -> dict[str, Notes]:
        """What was learnt of the windows' holes and ends."""
        blobs = self._cache.get_many([_notes_key(venue, symbol) for symbol in symbols])
        return {symbol: notes_from_bytes(blob) for symbol, blob in zip(symbols, blobs, strict=True)}

    def write_notes(self, venue: str, notes: Mapping[str, Notes]) -> None:
        """Keep the notes of some symbols for a day."""
        values = {_notes_key(venue, name): notes_to_bytes(known) for name, known in notes.items()}
        self._cache.set_many(values, _NOTES_TTL_SECONDS)

    def _unchanged(self, keys: list[str]) -> dict[str, Candles]:
        """The remembered windows that the cache still holds."""
        remembered = [key for key in keys if key in _remembered]
        heads = self._cache.get_many([_head_key(key) for key in remembered])
        return {
            key: _remembered[key][1]
            for key, head in zip(remembered, heads, strict=True)
            if head == _remembered[key][0]
        }


def window(run: Run, venue: str | PublicVenue, symbol: str, timeframe: str) -> Candles | None:
    """The window of closed candles of ``symbol``, or ``None`` where there is no fresh one.

    Flash prints are left out of it, see ``flash_prints``.

    Args:
        venue: the name of a venue reads the cache and nothing else; a venue itself is asked where
            the cache is empty or too old.

    Raises:
        DataUnavailable, VenueUnavailable: the venue was asked and did not answer as it should.
    """
    now_ms, store = clock.now_ms(), CandleStore(run.cache)
    name = venue if isinstance(venue, str) else venue.name
    cached = store.read(name, [symbol], now_ms, [timeframe])[symbol].get(timeframe)
    if cached is None or is_stale(cached, now_ms):
        if isinstance(venue, str):
            return None
        result = Refreshed()
        take(result, timeframe, cached, fetch(venue, symbol, timeframe, cached, now_ms), now_ms)
        store.write(name, {symbol: result})
        cached = result.windows.get(timeframe)
    return None if cached is None else without_flash_prints(cached).candles


def _remember(key: str, head: bytes, candles: Candles) -> None:
    if len(_remembered) >= _MAX_REMEMBERED:
        _remembered.clear()
    _remembered[key] = (head, candles)


def _key(venue: str, symbol: str, timeframe: str) -> str:
    return f"candles:{venue}:{symbol}:{timeframe}"


def _notes_key(venue: str, symbol: str) -> str:
    return f"candles:{venue}:{symbol}:notes"


def _head_key(key: str) -> str:
    return f"{key}:head"
''')


###################################################################################################
_LOADER.modules["shared.market.candles.candle_upkeep"] = ("shared/market/candles/candle_upkeep.py", r'''"""Windows made whole over several runs: holes are asked for once, short windows page by page.

A run first serves every symbol with its newest candles, and then spends what is left of its
requests here. What was learnt is kept beside the windows in the cache: that a venue has nothing
older, and up to when holes were asked for. A minute without a trade has no candle on Coinbase and
Kraken; it is named once it was asked for, and not asked for again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, wait
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from shared.errors import DataUnavailable, VenueError
from shared.execution.venues.base import PublicVenue
from shared.market.candles import candle_source
from shared.market.candles.candle_refresh import Refreshed
from shared.market.candles.candle_rows import WINDOW, gaps, merged
from shared.market.candles.candle_source import Allowance
from shared.market.types import TIMEFRAME_MS, Candles

_MOST_TRIES = 3
"""So often a page may fail before the venue counts as having nothing older. An empty answer and a
failed one cannot be told apart; the cache forgets after a day."""


@dataclass(frozen=True)
class Note:
    """What is known of one series beside its candles.

    Attributes:
        oldest: the venue has nothing older than the window.
        asked_ms: holes before this time were asked for; what is absent there, the venue lacks.
        tries: pages that failed or were empty in turn.
    """

    oldest: bool = False
    asked_ms: int = 0
    tries: int = 0


Notes = dict[str, Note]
"""By timeframe, of one symbol."""


@dataclass(frozen=True)
class _Job:
    symbol: str
    timeframe: str
    work: Callable[[PublicVenue, Candles, Note, int], tuple[Candles, Note]]


def notes_to_bytes(notes: Notes) -> bytes:
    """Notes as the cache keeps them."""
    rows = {name: [int(n.oldest), n.asked_ms, n.tries] for name, n in notes.items()}
    return json.dumps(rows).encode()


def notes_from_bytes(blob: bytes | None) -> Notes:
    """Notes from the cache; none where they cannot be read, which costs requests only."""
    if blob is None:
        return {}
    try:
        rows = json.loads(blob)
        return {
            str(name): Note(bool(oldest), int(asked_ms), int(tries))
            for name, (oldest, asked_ms, tries) in rows.items()
        }
    except (ValueError, TypeError, AttributeError):
        return {}


def wanting(venue: str, refreshed: Mapping[str, Refreshed]) -> list[str]:
    """The symbols with a window that has holes, or is short and could be made longer."""
    least = WINDOW if candle_source.supply(venue).pages else 0
    return [
        symbol
        for symbol, result in refreshed.items()
        if any(len(w) < least or gaps(w) for w in result.windows.values())
    ]


def keep_up(
    venue: PublicVenue,
    refreshed: Mapping[str, Refreshed],
    notes: Mapping[str, Notes],
    now_ms: int,
    allowance: Allowance,
    pool: Executor,
    seconds: float,
) -> dict[str, Notes]:
    """Fill holes and lengthen windows of ``refreshed`` by as many requests as may be made.

    Returns:
        The notes that have changed, by symbol. What takes longer than ``seconds`` is left to the
        next run.
    """
    kept = {symbol: dict(notes.get(symbol, {})) for symbol in refreshed}
    jobs = list(_jobs(venue.name, refreshed, kept))[: allowance.left]
    futures = {
        pool.submit(_work, job, venue, refreshed, kept, now_ms, allowance): job for job in jobs
    }
    done, _ = wait(futures, timeout=max(0.0, seconds))
    changed: dict[str, Notes] = {}
    for future in done:
        job, (candles, note) = futures[future], future.result()
        result = refreshed[job.symbol]
        if candles is not result.windows[job.timeframe]:
            result.replace(job.timeframe, candles)
        if note != kept[job.symbol].get(job.timeframe, Note()):
            kept[job.symbol][job.timeframe] = note
            changed[job.symbol] = kept[job.symbol]
    return changed


def lacking(refreshed: Refreshed, notes: Notes) -> list[str]:
    """The holes of a symbol's windows in words, ``<timeframe>:gaps=<count>``."""
    found = []
    for timeframe, window in refreshed.windows.items():
        count = gaps(window)
        if not count:
            continue
        asked_ms = notes.get(timeframe, Note()).asked_ms
        open_question = len(_holes(window, asked_ms))
        suffix = "" if open_question else " (asked for, not to be had)"
        found.append(f"{timeframe}:gaps={count}{suffix}")
    return found


def _jobs(
    venue: str, refreshed: Mapping[str, Refreshed], notes: Mapping[str, Notes]
) -> Iterator[_Job]:
    """Holes of all symbols first, then one page a series, the shortest series first."""
    short: list[tuple[int, _Job]] = []
    for symbol, result in refreshed.items():
        for timeframe, window in result.windows.items():
            note = notes[symbol].get(timeframe, Note())
            if gaps(window) and len(_holes(window, note.asked_ms)):
                yield _Job(symbol, timeframe, _fill_hole)
            elif len(window) < WINDOW and not note.oldest and candle_source.supply(venue).pages:
                short.append((len(window), _Job(symbol, timeframe, _add_page)))
    yield from (job for _, job in sorted(short, key=lambda entry: entry[0]))


def _work(
    job: _Job,
    venue: PublicVenue,
    refreshed: Mapping[str, Refreshed],
    notes: Mapping[str, Notes],
    now_ms: int,
    allowance: Allowance,
) -> tuple[Candles, Note]:
    window = refreshed[job.symbol].windows[job.timeframe]
    note = notes[job.symbol].get(job.timeframe, Note())
    try:
        allowance.take()
    except DataUnavailable:
        return window, note
    try:
        return job.work(venue, window, note, now_ms)
    except (DataUnavailable, VenueError):
        tries = note.tries + 1
        return window, replace(note, tries=tries, oldest=note.oldest or tries >= _MOST_TRIES)


def _fill_hole(
    venue: PublicVenue, window: Candles, note: Note, now_ms: int
) -> tuple[Candles, Note]:
    """Ask for what is absent, oldest first. An answer settles it, whatever is in it; a request that
    fails is made again by the next runs, up to ``_MOST_TRIES`` times."""
    step = TIMEFRAME_MS[window.timeframe]
    holes = _holes(window, note.asked_ms)
    first_ms = int(holes[0])
    page = candle_source.page_size(venue.name, window.timeframe)
    count = min((int(holes[-1]) - first_ms) // step + 1, page)
    asked = replace(note, asked_ms=first_ms + count * step, tries=0)
    try:
        found = candle_source.since(venue, window.symbol, window.timeframe, first_ms, count, now_ms)
    except (DataUnavailable, VenueError):
        tries = note.tries + 1
        return window, asked if tries >= _MOST_TRIES else replace(note, tries=tries)
    return merged(found, window), asked


def _add_page(venue: PublicVenue, window: Candles, note: Note, now_ms: int) -> tuple[Candles, Note]:
    """Ask for the candles before the window's oldest."""
    step = TIMEFRAME_MS[window.timeframe]
    count = min(WINDOW - len(window), candle_source.page_size(venue.name, window.timeframe))
    oldest_ms = int(window.open_ms[0])
    since_ms = oldest_ms - count * step
    found = candle_source.since(venue, window.symbol, window.timeframe, since_ms, count, now_ms)
    if not (found.open_ms < oldest_ms).any():
        return window, replace(note, oldest=True)
    return merged(found, window), replace(note, tries=0)


def _holes(window: Candles, asked_ms: int) -> Any:
    """The opening times that are absent in ``window`` and were not asked for, oldest first."""
    step = TIMEFRAME_MS[window.timeframe]
    whole = np.arange(window.open_ms[0], window.open_ms[-1] + step, step)
    absent = np.setdiff1d(whole, window.open_ms, assume_unique=True)
    return absent[absent >= asked_ms]
''')


###################################################################################################
_LOADER.modules["shared.market.candles.flash_prints"] = ("shared/market/candles/flash_prints.py", r'''"""Candles with a price that nobody could have traded at, and windows without it.

A single trade far off the market (LINK at 0.0001 on Binance on 2020-03-12, Bitcoin at 0.06 on
Coinbase on 2017-04-15) stands in a candle's low for good. It would widen the true range, draw a
level and trigger a stop. A price counts as a flash print where it is less than half or more than
twice what is usual: the median of five closes around it, and those of the candles before and after.
Falls that last move the median with them, so that they stay as they were.

A print in the newest candle cannot be told from the start of such a fall. It is left out all the
same, and named to ``crosscheck``, so that nothing is bought until the next candles have settled it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from shared.market.candles.memo import Memo
from shared.market.types import Candles

MOST_TIMES = 2.0
_NEIGHBOURS = 2

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FlashPrint:
    """One price that was left out: of the candle that opened at ``open_ms``, in its ``column``."""

    timeframe: str
    open_ms: int
    column: str
    price: float
    usual: float

    def told(self) -> str:
        """In one line."""
        return (
            f"flash print {self.column} {self.price:.8g} in {self.open_ms}, usual {self.usual:.8g}"
        )


@dataclass(frozen=True)
class Cleaned:
    """A window without its flash prints, and those that it had, oldest first."""

    candles: Candles
    prints: tuple[FlashPrint, ...] = ()

    @property
    def newest(self) -> FlashPrint | None:
        """The print in the newest candle, where there is one."""
        last = self.prints[-1] if self.prints else None
        return last if last is not None and last.open_ms == self.candles.open_ms[-1] else None


def without_flash_prints(candles: Candles) -> Cleaned:
    """``candles`` with open and close that are prints put to the usual price, and lows and highs
    drawn back to what is left. The same object where there is none, which is almost always.
    """
    if len(candles) <= _NEIGHBOURS or not _is_suspect(candles):
        return Cleaned(candles)
    usual = _usual(candles.close)
    least, most = _band(usual)
    wrong = {
        name: (getattr(candles, name) < least) | (getattr(candles, name) > most)
        for name in ("open", "high", "low", "close")
    }
    marked = np.flatnonzero(np.logical_or.reduce(list(wrong.values())))
    if not len(marked):
        return Cleaned(candles)
    opened = np.where(wrong["open"], usual, candles.open)
    closed = np.where(wrong["close"], usual, candles.close)
    top, bottom = np.maximum(opened, closed), np.minimum(opened, closed)
    high = np.maximum(np.where(wrong["high"], top, candles.high), top)
    low = np.minimum(np.where(wrong["low"], bottom, candles.low), bottom)
    prints = tuple(
        FlashPrint(
            candles.timeframe,
            int(candles.open_ms[at]),
            name,
            float(getattr(candles, name)[at]),
            float(usual[at]),
        )
        for at in marked
        for name in ("open", "high", "low", "close")
        if wrong[name][at]
    )
    cleaned = replace(candles, open=opened, high=high, low=low, close=closed)
    return Cleaned(cleaned, prints)


newest: Memo[Cleaned] = Memo(without_flash_prints)


def _is_suspect(candles: Candles) -> bool:
    """Whether any price may be a print: cheap, and never false where one is."""
    bottom = np.minimum(candles.open, candles.close)
    top = np.maximum(candles.open, candles.close)
    wide = (candles.low * MOST_TIMES < top).any() or (candles.high > MOST_TIMES * bottom).any()
    ratio = candles.close[1:] / candles.close[:-1]
    return bool(wide or (ratio > MOST_TIMES).any() or (ratio * MOST_TIMES < 1).any())


def _usual(close: Floats) -> Floats:
    """The median of each close with two neighbours on each side, as far as they exist."""
    width = 2 * _NEIGHBOURS + 1
    usual = np.empty_like(close)
    if len(close) >= width:
        around = np.lib.stride_tricks.sliding_window_view(close, width)
        usual[_NEIGHBOURS:-_NEIGHBOURS] = np.median(around, axis=1)
    edge = {*range(_NEIGHBOURS), *range(max(0, len(close) - _NEIGHBOURS), len(close))}
    for at in edge if len(close) >= width else range(len(close)):
        usual[at] = np.median(close[max(0, at - _NEIGHBOURS) : at + _NEIGHBOURS + 1])
    return usual


def _band(usual: Floats) -> tuple[Floats, Floats]:
    """The least and the most that a price of each candle may be."""
    padded = np.concatenate((usual[:1], usual, usual[-1:]))
    beside = np.lib.stride_tricks.sliding_window_view(padded, 3)
    return beside.min(axis=1) / MOST_TIMES, beside.max(axis=1) * MOST_TIMES
''')


###################################################################################################
_LOADER.modules["shared.market.candles.memo"] = ("shared/market/candles/memo.py", r'''"""Results of the last candle window of each series, so that a window is analysed once.

A higher timeframe changes seldom. A result belongs to the window's content, not only to its
time: a venue's correction is a new window. Starting cold changes speed and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from shared.market.candles.candle_rows import COLUMNS
from shared.market.types import Candles

_MAX_SERIES = 512


class Memo[Result]:
    """The newest result by venue, symbol and timeframe. Results must not be changed by callers."""

    def __init__(self, compute: Callable[[Candles], Result]) -> None:
        self._compute = compute
        self._kept: dict[tuple[str, str, str], tuple[Candles, Result]] = {}

    def __call__(self, venue: str, candles: Candles) -> Result:
        """The result for ``candles`` of ``venue``, computed if the window is a new one."""
        series = (venue, candles.symbol, candles.timeframe)
        known = self._kept.get(series)
        if known is not None and _same(known[0], candles):
            return known[1]
        result = self._compute(candles)
        if len(self._kept) >= _MAX_SERIES:
            self._kept.clear()
        self._kept[series] = (candles, result)
        return result


def _same(one: Candles, other: Candles) -> bool:
    return one is other or all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in COLUMNS
    )
''')


###################################################################################################
_LOADER.modules["shared.market.fees"] = ("shared/market/fees.py", r'''"""What venues charge at their entry tier: one table for all who know no account's own rates.

The charge of a real order comes from the venue's market rules, which ask for the account's own
fees where there are keys. These figures stand in for them without keys, and filter opportunities.

Sources: Coinbase Advanced, tier "Intro 1" below 1,000 USD of volume in 30 days (maker 0.60 %, taker
1.20 %; as in ccxt 4.5's class); Kraken Pro, tier from 0 USD on (maker 0.25 %, taker 0.40 %, where
ccxt 4.5's class still has the lower ones of before); Binance and Binance US, ccxt 4.5's classes
(0.10 % each).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fees:
    """Maker and taker fee in basis points of notional."""

    maker_bps: float
    taker_bps: float


ENTRY_TIER: dict[str, Fees] = {
    "binance": Fees(10, 10),
    "binanceus": Fees(10, 10),
    "coinbase": Fees(60, 120),
    "kraken": Fees(25, 40),
}
''')


###################################################################################################
_LOADER.modules["shared.market.kinds"] = ("shared/market/kinds.py", r'''"""What is no coin of its own: stablecoins, fiat, wrapped and staked copies, leveraged tokens.

The lists name what venues list today. What they do not know yet is caught by two rules: a token
whose name is another coin's with a suffix of leverage, and a price that stays at one quote.
"""

from __future__ import annotations

import re
from collections.abc import Collection


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# CoinGecko's category "Stablecoins", those that a venue of ours has listed
STABLECOINS = _names(
    "USDT USDC DAI TUSD FDUSD BUSD USDP PAX PYUSD GUSD USDD FRAX LUSD SUSD RLUSD USDS USDE SUSDE "
    "USD1 USDG USDQ USDR USDX XUSD BFUSD GHO CRVUSD USDK HUSD UST AUSD USD0 DUSD USDY USDB "
    "EURC EURT EURI AEUR EURS EURQ EURR EURA EURCV TGBP GYEN ZUSD XSGD BIDR IDRT VAI"
)
# ISO 4217, those that a venue of ours trades against
FIAT = _names(
    "USD EUR GBP AUD CAD CHF JPY TRY BRL ARS MXN COP ZAR PLN RON CZK UAH RUB NGN AED KRW INR IDR "
    "SGD HKD NZD NOK SEK DKK"
)
# Coins that stand for another one, with its price or nearly so
WRAPPED = _names(
    "WBTC WETH WBETH BETH STETH WSTETH CBBTC CBETH TBTC RETH WEETH EETH EZETH RSETH METH CMETH "
    "SFRXETH FRXETH OSETH SWETH LSETH STSOL MSOL JITOSOL BNSOL JUPSOL BBSOL INF LBTC SOLVBTC "
    "KBTC BTCB RENBTC HBTC WBNB SLISBNB WAVAX SAVAX STMATIC WSOL WTRX WAXL WNXM WCFG"
)
_LEVERAGED = re.compile(r"^(.{2,})(?:UP|DOWN|BULL|BEAR|[2-9]L|[2-9]S)$")
_NAME = re.compile(r"^[A-Z0-9]{1,15}$")

STABLE_VOLATILITY_PERCENT = 8.0
"""Annualised; no coin that floats has stayed below it for 30 days, and no currency of a large
country has stayed above it against another for long."""
STABLE_DISTANCE_PERCENT = 5.0
"""How far the price of a stablecoin may stand from one quote."""


def kind_of(base: str, bases: Collection[str]) -> str | None:
    """Why ``base`` is no coin to trade, ``None`` where its name does not tell.

    Args:
        bases: all that the venue lists. ``BTCUP`` is leveraged because there is a ``BTC``; ``JUP``
            is a coin, because there is no ``J``.
    """
    if not _NAME.fullmatch(base):
        return "KIND_NAME"
    for kind, names in (
        ("KIND_STABLECOIN", STABLECOINS),
        ("KIND_FIAT", FIAT),
        ("KIND_WRAPPED", WRAPPED),
    ):
        if base in names:
            return kind
    leveraged = _LEVERAGED.fullmatch(base)
    return "KIND_LEVERAGED" if leveraged and leveraged[1] in bases else None


def is_pegged(price_quote: float, volatility_percent: float) -> bool:
    """Whether a price behaves as that of a stablecoin which no list names yet."""
    near = abs(price_quote - 1) * 100 <= STABLE_DISTANCE_PERCENT
    return near and volatility_percent < STABLE_VOLATILITY_PERCENT
''')


###################################################################################################
_LOADER.modules["shared.market.packing"] = ("shared/market/packing.py", r'''"""Tables of a scan without their column names in every row, and back.

A scan of 20 symbols holds some four thousand values. With the name of each beside it the export
would be twice as large, and every later step and Pipedream's limit would carry it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Market = dict[str, Any]
DIGITS = {
    "indicators": 6,
    "order_flow": 6,
    "derivatives": 6,
    "contributions": 3,
    "odds": 4,
    "settling": 2,
}
"""Significant digits of the tables that hold no prices to trade at."""

_MOST_NOTES = 8
_LONGEST_NOTE = 90
_DOT = "."


def compact(value: Any, digits: int = 8) -> Any:
    """``value`` with floats of so many significant digits, which keeps it small."""
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    if isinstance(value, dict):
        return {key: compact(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [compact(item, digits) for item in value]
    return value


def brief(market: Market) -> Market:
    """A market as the next steps need it: fewer digits, and the first of many notes.

    The ledger keeps the whole of it.
    """
    shorter = {name: compact(market[name], n) for name, n in DIGITS.items() if market.get(name)}
    for name in ("missing", "uncalibrated_because"):
        if notes := market.get(name):
            shorter[name] = _first(notes)
    return market | shorter


def pack(markets: Sequence[Market]) -> dict[str, Any]:
    """``{"columns": {...}, "markets": [...]}``: what ``unpack`` turns back into ``markets``.

    Each table of a market (``indicators``, ``microstructure``, ...) becomes a row of values.
    ``columns`` names them by table, with a dot between the levels of a table in a table:
    ``1h.rsi_14``. A value that a market does not have is ``null``.
    """
    flat = [{k: _flat(v) if isinstance(v, dict) else v for k, v in m.items()} for m in markets]
    columns: dict[str, dict[str, None]] = {}
    for market in flat:
        for section, value in market.items():
            if isinstance(value, dict):
                columns.setdefault(section, {}).update(dict.fromkeys(value))
    return {
        "columns": {section: list(names) for section, names in columns.items()},
        "markets": [
            {
                section: [value.get(name) for name in columns[section]]
                if isinstance(value, dict)
                else value
                for section, value in market.items()
            }
            for market in flat
        ],
    }


def unpack(signals: Mapping[str, Any]) -> list[Market]:
    """The markets of a scan's ``signals``, with their tables by name and without nulls in them.

    Signals that were never packed are returned as they are.
    """
    columns = signals.get("columns")
    if columns is None:
        return list(signals["markets"])
    return [
        {
            section: _deep(value, columns[section])
            if section in columns and value is not None
            else value
            for section, value in market.items()
        }
        for market in signals["markets"]
    ]


def _first(notes: Sequence[str]) -> list[str]:
    more = [f"and {len(notes) - _MOST_NOTES} more"] if len(notes) > _MOST_NOTES else []
    return [note[:_LONGEST_NOTE] for note in notes[:_MOST_NOTES]] + more


def _flat(table: Mapping[str, Any]) -> dict[str, Any]:
    return dict(_leaves(table, ""))


def _leaves(table: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if _DOT in name:
            raise ValueError(f"{path}{name}: expected a name without a dot")
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}{name}{_DOT}")
        else:
            yield path + name, value


def _deep(row: Sequence[Any], names: Sequence[str]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for name, value in zip(names, row, strict=True):
        if value is None:
            continue
        *outer, last = name.split(_DOT)
        inner = table
        for part in outer:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return table
''')


###################################################################################################
_LOADER.modules["shared.market.peg"] = ("shared/market/peg.py", r'''"""What a unit of the quote currency is worth, by the pairs of venues that tell it.

All sums of a pod are in its quote currency, and a stablecoin is worth its dollar only as long as
the market believes so: USDC fell to 0.87 on 11 March 2023. Against other coins that looks like a
rise of everything.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from shared.market.kinds import FIAT

MAX_DISTANCE_PERCENT = Decimal(1)
"""So far the quote currency may stand from its peg before nothing is bought with it any more."""

# Both are traded against each other and against every other stablecoin.
_YARDSTICKS = ("USDT", "USDC")


def direct_pair(currency: str) -> str | None:
    """The pair against the currency that ``currency`` is pegged to; ``None`` for that itself."""
    if currency in FIAT:
        return None
    return f"{currency}/{'EUR' if 'EUR' in currency else 'USD'}"


def cross_pairs(currency: str) -> tuple[str, ...]:
    """Pairs with other stablecoins, which tell of a broken peg, but not whose it is."""
    if currency in FIAT or "EUR" in currency:
        return ()
    others = [other for other in _YARDSTICKS if other != currency]
    return tuple(pair for o in others for pair in (f"{o}/{currency}", f"{currency}/{o}"))


def pairs(currency: str) -> tuple[str, ...]:
    """Every pair that tells what ``currency`` is worth; none for a currency of a state."""
    direct = direct_pair(currency)
    return () if direct is None else (direct, *cross_pairs(currency))


def worth(currency: str, pair: str, price: Decimal) -> Decimal:
    """What a unit of ``currency`` is worth where one of its ``pairs`` costs ``price``."""
    return price if pair.startswith(f"{currency}/") else 1 / price


def distance_percent(worths: Iterable[Decimal]) -> Decimal:
    """The farthest that any of ``worths`` stands from one. Raises ``ValueError`` for none."""
    return max(100 * abs(worth - 1) for worth in worths)
''')


###################################################################################################
_LOADER.modules["shared.market.technical"] = ("shared/market/technical/__init__.py", r'''"""Technical indicators of a window of candles, and how long each remembers its start."""
''')


###################################################################################################
_LOADER.modules["shared.market.technical.indicators"] = ("shared/market/technical/indicators.py", r'''"""Technical indicators of one window of closed candles: the newest value of each.

Definitions and defaults are TA-Lib's. A value is a function of the window alone. One whose
warm-up the window is too short for, or whose denominator is zero, is absent and named; one that
still carries a little of its seed is told with the seed's weight (``warmup``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from shared.market.candles.candle_rows import sliced
from shared.market.candles.memo import Memo
from shared.market.technical import warmup
from shared.market.technical.talib_lean import functions
from shared.market.types import TIMEFRAME_MS, Candles

_YEAR_MS = 365 * 86_400_000  # crypto trades on every day of the year
_AVERAGED = 20  # candles in the volume baseline, the VWAP, the bands and the z-score
_BAND_DEVIATIONS = 2
_VOLATILITY_RETURNS = 30
_STOCHASTIC_REACH = 18  # candles behind a stochastic of 14, 3, 3

NAMES: tuple[str, ...] = tuple(warmup.FIRST)

Array = NDArray[np.float64]


def compute(candles: Candles) -> dict[str, float]:
    """The newest value of each of ``NAMES`` that the window allows, ``close`` and ``closed_at_ms``.

    Prices are in quote currency, ``atr_14`` too. ``obv`` is the on-balance volume of the newest
    500 candles, in base currency; one that counts from the listing differs by a constant that
    moves along. The VWAP is the rolling one over 20 candles, of typical prices; relative volume
    compares with the mean of the 20 candles before. Volatility is the standard deviation of the
    last 30 log returns times the square root of the candles in a year.
    """
    if not len(candles):
        return {}
    usable = warmup.usable(len(candles))
    recent = sliced(candles, slice(-warmup.MEMORY, None))
    values = _with_memory(recent)
    values |= _stochastic(recent) | _bands(recent) | _from_volume(recent) | _from_returns(recent)
    if "ema_200" in usable:
        values["ema_200"] = functions().EMA(candles.close, 200).item(-1)
    found = {n: value for n, value in values.items() if n in usable and math.isfinite(value)}
    return found | {"close": candles.close.item(-1), "closed_at_ms": candles.closed_ms}


def absent(values: Mapping[str, float], count: int) -> list[str]:
    """What ``compute`` could not give for a window of ``count`` candles, and why.

    ``ema_200: 320 of 1582 candles`` names the candles that a settled value needs.
    """
    usable = warmup.usable(count)
    return [
        f"{name}: not defined, nothing moved or traded"
        if name in usable
        else f"{name}: {count} of {warmup.SETTLED[name]} candles"
        for name in NAMES
        if name not in values
    ]


def settling(values: Mapping[str, float], count: int) -> dict[str, float]:
    """The share of the seed in each of ``values`` that has not forgotten it to 1e-6."""
    weights = warmup.settling(count)
    return {name: float(f"{weight:.2g}") for name, weight in weights.items() if name in values}


def _with_memory(candles: Candles) -> dict[str, float]:
    ta, close = functions(), candles.close
    macd, signal, histogram = ta.MACD(close, 12, 26, 9)
    values = {
        "macd": macd.item(-1),
        "macd_signal": signal.item(-1),
        "macd_histogram": histogram.item(-1),
        "atr_14": ta.ATR(candles.high, candles.low, close, 14).item(-1),
        "ema_9": ta.EMA(close, 9).item(-1),
        "ema_21": ta.EMA(close, 21).item(-1),
        "ema_50": ta.EMA(close, 50).item(-1),
        "obv": ta.OBV(close, candles.volume).item(-1),
    }
    if len(close) > 1:
        values["macd_histogram_previous"] = histogram.item(-2)
        values |= _quotients(candles)
    return values


def _quotients(candles: Candles) -> dict[str, float]:
    """RSI and the directional indicators: quotients of averages of moves."""
    ta, high, low, close = functions(), candles.high, candles.low, candles.close
    values = {
        "rsi_14": ta.RSI(close, 14).item(-1),
        "adx_14": ta.ADX(high, low, close, 14).item(-1),
        "plus_di_14": ta.PLUS_DI(high, low, close, 14).item(-1),
        "minus_di_14": ta.MINUS_DI(high, low, close, 14).item(-1),
    }
    if close[-1] == close[-2]:
        _drop_unforgotten(values, candles)
    return values


def _drop_unforgotten(values: dict[str, float], candles: Candles) -> None:
    """Take out the quotients of averages whose seed the last move left in force.

    While nothing moves, numerator and denominator fade together, and the seed with them: what
    counts is the candles up to the newest move. Without any, TA-Lib tells 0.
    """
    close_moved = candles.close[1:] != candles.close[:-1]
    range_moved = close_moved | (candles.high != candles.low)[1:]
    for name in tuple(values):
        moves = np.flatnonzero(close_moved if name == "rsi_14" else range_moved)
        if not len(moves) or name not in warmup.usable(int(moves[-1]) + 2):
            del values[name]


def _stochastic(candles: Candles) -> dict[str, float]:
    """Slow %K and %D of 14, 3, 3: means of where a close lies in the range of 14 candles."""
    if len(candles) < _STOCHASTIC_REACH:
        return {}
    high, low, close = (a[-_STOCHASTIC_REACH:] for a in (candles.high, candles.low, candles.close))
    if (high[:5] == low[:5]).any() and not _has_ranges(high, low):
        return {}
    k, d = functions().STOCH(high, low, close, 14, 3, 0, 3, 0)
    return {"stochastic_k": float(k[-1]), "stochastic_d": float(d[-1])}


def _has_ranges(high: Array, low: Array) -> bool:
    """Whether each of the five ranges of 14 candles behind %D is wider than nothing."""
    return all(high[i : i + 14].max() > low[i : i + 14].min() for i in range(5))


def _bands(candles: Candles) -> dict[str, float]:
    """Bollinger's bands and the z-score, of the population's deviation as John Bollinger has it."""
    if len(candles) < _AVERAGED:
        return {}
    close = float(candles.close[-1])
    offsets = candles.close[-_AVERAGED:] - close  # exact zeros where nothing moves
    mean_offset = float(offsets.sum()) / _AVERAGED
    deviations = offsets - mean_offset
    deviation = math.sqrt(float(deviations @ deviations) / _AVERAGED)
    mean = close + mean_offset
    values = {
        "bollinger_upper": mean + _BAND_DEVIATIONS * deviation,
        "bollinger_middle": mean,
        "bollinger_lower": mean - _BAND_DEVIATIONS * deviation,
    }
    return values | ({"zscore_20": -mean_offset / deviation} if deviation > 0 else {})


def _from_volume(candles: Candles) -> dict[str, float]:
    count = len(candles)
    if count < _AVERAGED:
        return {}
    values: dict[str, float] = {}
    high, low, close = (a[-_AVERAGED:] for a in (candles.high, candles.low, candles.close))
    volume = candles.volume[-_AVERAGED:]
    total, newest = float(volume.sum()), float(volume[-1])
    if total > 0:
        vwap = float((high + low + close) @ volume) / (3 * total)
        values["vwap_distance_percent"] = 100 * (float(close[-1]) / vwap - 1)
    if count > _AVERAGED:
        baseline = float(candles.volume[-_AVERAGED - 1 : -1].sum()) / _AVERAGED
        if baseline > 0:
            values["relative_volume_ratio"] = newest / baseline
    return values


def _from_returns(candles: Candles) -> dict[str, float]:
    close, values = candles.close, {}
    if len(close) >= 2:
        values["return_1_percent"] = 100 * (float(close[-1]) / float(close[-2]) - 1)
    if len(close) > _VOLATILITY_RETURNS:
        logs = np.log(close[-_VOLATILITY_RETURNS - 1 :])
        returns = logs[1:] - logs[:-1]
        deviations = returns - float(returns.sum()) / _VOLATILITY_RETURNS
        variance = float(deviations @ deviations) / (_VOLATILITY_RETURNS - 1)
        periods = _YEAR_MS / TIMEFRAME_MS[candles.timeframe]
        values["volatility_annualised_percent"] = 100 * math.sqrt(variance * periods)
    return values


newest: Memo[dict[str, float]] = Memo(compute)
"""``compute``, once for each window of a venue."""
''')


###################################################################################################
_LOADER.modules["shared.market.technical.talib_lean"] = ("shared/market/technical/talib_lean.py", r'''"""TA-Lib's functions without what its package imports besides.

``import talib`` imports pandas and polars wherever they are installed, only to accept their
series: 0.3 s and 40 MB for steps that hand over numpy arrays.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

_UNWANTED = ("pandas", "polars")


@functools.cache
def functions() -> Any:
    """The module of TA-Lib's functions, for float64 arrays."""
    absent = [name for name in _UNWANTED if name not in sys.modules]
    for name in absent:
        sys.modules[name] = None  # type: ignore[assignment]  # makes an import of it fail
    try:
        from talib import _ta_lib
    finally:
        for name in absent:
            del sys.modules[name]
    return _ta_lib
''')


###################################################################################################
_LOADER.modules["shared.market.technical.warmup"] = ("shared/market/technical/warmup.py", r'''"""How long an indicator remembers where its series began, and when its value may be used.

An exponential average starts from a seed, the plain mean of its first candles, and forgets it by
the factor ``1 - alpha`` with every further candle. What is left after ``count`` candles is the
seed's weight:

- EMA of n (alpha = 2 / (n + 1), seeded by n candles): (1 - alpha) ** (count - n).
- Wilder's averages of 14 (alpha = 1 / 14) behind RSI, ATR and the directional indicators:
  (13 / 14) ** (count - 15). The directional indicators sum 13 moves first: count - 14.
- ADX averages what is itself settling. A memory of d ** k behind an average of the same memory
  leaves (1 + k / 14) * d ** k, for k = count - 28.
- MACD is as slow as its EMA of 26; the signal, an EMA of 9 behind it, adds its own seed of nine
  values and at most 0.2 / (1 - 0.8 / d) = 1.47 times what is left of the MACD's.

Everything else looks at a fixed number of candles and has no memory before them. What the value is
off by is the weight times the distance of the seed from the value of an endless series. For a
price that distance is of the price's own order. Ranges and moves differ by orders of magnitude,
and a MACD crosses zero: there the weight has to be ``_SWING`` times smaller for the same accuracy.
"""

from __future__ import annotations

import bisect
import functools
from collections.abc import Callable

TOLERANCE = 1e-6
"""The relative difference from TA-Lib on an endless series below which a value is settled."""
USABLE_WEIGHT = 1e-3
"""A seed with more weight than this, a thousandth, makes the value absent."""
MEMORY = 500
"""Candles after which every seed but the EMA 200's weighs less than 2e-8: no more are looked at."""
_SWING = 1e4
_FAR = 100_000  # candles; every weight is below any limit by then

_WILDER = 13 / 14
_SLOW = 25 / 27  # of the EMA of 26
_SIGNAL = 0.8  # of the EMA of 9


def _ema(length: int) -> Callable[[int], float]:
    return lambda count: float((1 - 2 / (length + 1)) ** (count - length))


def _wilder(seeded_by: int) -> Callable[[int], float]:
    return lambda count: float(_WILDER ** (count - seeded_by))


def _adx(count: int) -> float:
    return float((1 + (count - 28) / 14) * _WILDER ** (count - 28))


def _macd(count: int) -> float:
    return float(_SLOW ** (count - 26))


def _macd_signal(count: int) -> float:
    return float(_SIGNAL ** (count - 34) + 0.2 / (1 - _SIGNAL / _SLOW) * _macd(count))


_WEIGHTS: dict[str, Callable[[int], float]] = {
    "rsi_14": _wilder(15),
    "atr_14": _wilder(15),
    "plus_di_14": _wilder(14),
    "minus_di_14": _wilder(14),
    "adx_14": _adx,
    "macd": _macd,
    "macd_signal": _macd_signal,
    "macd_histogram": _macd_signal,
    "macd_histogram_previous": lambda count: _macd_signal(count - 1),
    "ema_9": _ema(9),
    "ema_21": _ema(21),
    "ema_50": _ema(50),
    "ema_200": _ema(200),
}

FIRST: dict[str, int] = {
    "rsi_14": 15,
    "macd": 34,
    "macd_signal": 34,
    "macd_histogram": 34,
    "macd_histogram_previous": 35,
    "bollinger_upper": 20,
    "bollinger_middle": 20,
    "bollinger_lower": 20,
    "atr_14": 15,
    "adx_14": 28,
    "plus_di_14": 15,
    "minus_di_14": 15,
    "ema_9": 9,
    "ema_21": 21,
    "ema_50": 50,
    "ema_200": 200,
    "obv": MEMORY,
    "stochastic_k": 18,
    "stochastic_d": 18,
    "vwap_distance_percent": 20,
    "relative_volume_ratio": 21,
    "zscore_20": 20,
    "return_1_percent": 2,
    "volatility_annualised_percent": 31,
}
"""The candles that the definition needs at least; TA-Lib's first value comes with them."""


def seed_weight(name: str, count: int) -> float:
    """The share of the value that still comes from the seed; 0 where nothing is remembered."""
    if count < FIRST[name]:
        return 1.0
    weight = _WEIGHTS.get(name)
    return 0.0 if weight is None else weight(count)


def _candles_for(name: str, limit: float) -> int:
    """The fewest candles that leave the seed no more weight than ``limit``."""
    candidates = range(FIRST[name], _FAR)
    at = bisect.bisect_left(candidates, True, key=lambda count: seed_weight(name, count) <= limit)
    return candidates[at]


def _settled_weight(name: str) -> float:
    return TOLERANCE if name.startswith("ema_") else TOLERANCE / _SWING


USABLE: dict[str, int] = {name: _candles_for(name, USABLE_WEIGHT) for name in FIRST}
"""With fewer candles than this a value is absent: 891 for the EMA of 200, 223 for that of 50."""
SETTLED: dict[str, int] = {name: _candles_for(name, _settled_weight(name)) for name in FIRST}
"""From so many candles on a value is that of an endless series within ``TOLERANCE``.

1,582 for the EMA of 200, which is why windows hold more.
"""


@functools.lru_cache(maxsize=4_096)
def usable(count: int) -> frozenset[str]:
    """The indicators that ``count`` candles are enough for."""
    return frozenset(name for name, needed in USABLE.items() if count >= needed)


@functools.lru_cache(maxsize=4_096)
def settling(count: int) -> dict[str, float]:
    """The seed's weight in each indicator that is usable but not settled. Not to be changed."""
    return {
        name: seed_weight(name, count)
        for name, needed in SETTLED.items()
        if USABLE[name] <= count < needed
    }
''')


###################################################################################################
_LOADER.modules["shared.market.types"] = ("shared/market/types.py", r'''"""Market data as it comes from a venue, validated, with its times.

Analysis uses ``float``; whatever becomes money is turned into ``Decimal`` by execution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Timeframe = Literal["1m", "5m", "15m", "1h", "4h", "1d"]
TIMEFRAMES: tuple[Timeframe, ...] = ("1m", "5m", "15m", "1h", "4h", "1d")
TIMEFRAME_MS: dict[str, int] = {
    "1m": 60_000,
    "5m": 300_000,
    "15m": 900_000,
    "1h": 3_600_000,
    "4h": 14_400_000,
    "1d": 86_400_000,
}


@dataclass(frozen=True)
class Candles:
    """Closed candles of one symbol and timeframe, oldest first, as equally long arrays.

    ``open_ms`` is the time at which a candle opens; it is closed ``TIMEFRAME_MS`` later.
    """

    symbol: str
    timeframe: str
    open_ms: NDArray[np.int64]
    open: NDArray[np.float64]
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    volume: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.open_ms)

    @property
    def closed_ms(self) -> int:
        """When the newest candle closed: the time that this series is about."""
        return int(self.open_ms[-1]) + TIMEFRAME_MS[self.timeframe]


@dataclass(frozen=True)
class Quote:
    """The best bid and ask of a symbol on a venue, and when they were read."""

    bid: float
    ask: float
    at_ms: int

    @property
    def mid(self) -> float:
        return (self.bid + self.ask) / 2


@dataclass(frozen=True)
class Book:
    """An order book: ``(price, quantity)`` from the best level outwards, and when it was read."""

    symbol: str
    bids: tuple[tuple[float, float], ...]
    asks: tuple[tuple[float, float], ...]
    at_ms: int

    @property
    def mid(self) -> float:
        return (self.bids[0][0] + self.asks[0][0]) / 2


@dataclass(frozen=True)
class PublicTrade:
    """A trade between others. ``side`` is the taker's.

    ``trade_id`` is the venue's number of the trade, which grows by one from each trade of a symbol
    to the next; ``None`` where the venue tells no number.
    """

    at_ms: int
    side: Literal["buy", "sell"]
    price: float
    quantity: float
    trade_id: int | None = None
''')


###################################################################################################
_LOADER.modules["shared.risk"] = ("shared/risk/__init__.py", r'''"""To be described."""
''')


###################################################################################################
_LOADER.modules["shared.risk.budget"] = ("shared/risk/budget.py", r'''"""Whether the pod can bear what it would hold: VaR, CVaR and correlation, for whoever buys."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from shared import clock
from shared.config import Config
from shared.errors import OrderDenied
from shared.execution.venues.base import PublicVenue
from shared.ledger import equity, positions
from shared.ledger.equity import Standing
from shared.risk import context, measures, portfolio
from shared.run import Run


def of(config: Config, standing: Standing) -> portfolio.LossBudget:
    """What a day may lose, by the equity and by how far it lies below its high-water mark.

    Before the first row of equity there has been no trade, so nothing has been lost.

    Raises:
        OrderDenied: ``EQUITY_MISSING`` or ``DRAWDOWN_UNKNOWN``.
    """
    worth, fallen_percent = standing.worth_quote, standing.drawdown_percent
    if worth is None or worth <= 0:
        raise OrderDenied("EQUITY_MISSING", pod=config.pod)
    if standing.equity_quote is None:
        fallen_percent = Decimal(0)
    if fallen_percent is None:
        raise OrderDenied("DRAWDOWN_UNKNOWN", high_water=standing.high_water_quote)
    return portfolio.loss_budget(
        float(worth), float(config.max_drawdown_percent), float(fallen_percent)
    )


def refusals(config: Config, standing: Standing, weighed: measures.Weighed) -> list[OrderDenied]:
    """Everything that speaks against a purchase; none if it may be made.

    Raises:
        OrderDenied: the budget is not known.
    """
    return portfolio.refusals(
        weighed.tail_before,
        weighed.tail_after,
        of(config, standing),
        weighed.tactical_correlations,
        config.correlation_limit,
    )


def deny_beyond(
    run: Run, symbol: str, size_quote: Decimal, venues: Mapping[str, PublicVenue]
) -> None:
    """Refuse to add ``size_quote`` to an open position of ``symbol`` beyond the budget.

    ``venues`` are asked for hourly candles that the cache does not have.

    Raises:
        OrderDenied: ``VAR_LIMIT``, ``CVAR_LIMIT``, ``CORRELATION_...``, or the budget is not known.
        DataUnavailable: too few hourly returns of what is held.
    """
    held = {position.symbol for position in positions.open_positions(run.ledger)}
    hourly = context.hourly_candles(run, {symbol, *held}, venues)
    returns = portfolio.aligned_returns(hourly)
    weighed = measures.weigh(symbol, size_quote, context.exposure(run, hourly), returns)
    standing = equity.standing(run.ledger, run.config.quote_currency, clock.now_ms())
    refused = refusals(run.config, standing, weighed)
    if refused:
        raise refused[0]
''')


###################################################################################################
_LOADER.modules["shared.risk.context"] = ("shared/risk/context.py", r'''"""What the ledger and the market tell risk management before a purchase."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from shared import clock
from shared.errors import DataUnavailable, VenueUnavailable
from shared.execution.venues.base import PublicVenue
from shared.ledger import positions
from shared.ledger.positions import Position
from shared.market import packing
from shared.market.candles import candle_store
from shared.market.types import Candles
from shared.risk.portfolio import MINIMUM_RETURNS
from shared.risk.staking.kelly import History
from shared.run import Run

_HISTORY = timedelta(days=90)
_CASH_MARGIN = Decimal("0.99")  # room for fees and for the collar


# What is in flight for a working parent is part of what it may still take. What a venue has filled
# and the ledger has not recorded counts for an hour, as it does at the gate.
_PENDING = """
SELECT symbol, is_tactical, sum(quote) AS quote FROM (
    SELECT w.symbol, p.sleeve = 'tactical' AS is_tactical,
           greatest(w.quantity - coalesce(f.quantity, 0), 0) * w.decision_mid AS quote
    FROM parent_orders w JOIN positions p USING (position_id)
    LEFT JOIN LATERAL (
        SELECT sum(fills.quantity) AS quantity FROM fills JOIN intents USING (intent_id)
        WHERE fills.position_id = w.position_id AND intents.parent_id = w.parent_id
    ) f ON true
    WHERE w.pod = %(pod)s AND w.state = 'WORKING' AND w.side = 'buy'
    UNION ALL
    SELECT i.symbol, p.sleeve = 'tactical',
           greatest(CASE WHEN i.state IN ('SENDING', 'UNKNOWN') OR o.status = 'open'
                         THEN i.quantity ELSE coalesce(o.filled_quantity, 0) END
                    - recorded.quantity, 0)
               * i.limit_price
    FROM intents i JOIN positions p USING (position_id)
    LEFT JOIN parent_orders w ON w.parent_id = i.parent_id
    LEFT JOIN orders o ON o.intent_id = i.intent_id
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(f.quantity), 0) AS quantity FROM fills f
        WHERE f.position_id = i.position_id AND f.intent_id = i.intent_id
    ) AS recorded
    WHERE i.pod = %(pod)s AND i.side = 'buy' AND w.state IS DISTINCT FROM 'WORKING'
      AND (i.state IN ('SENDING', 'UNKNOWN') OR o.status = 'open'
           OR i.sent_at > %(now)s - interval '1 hour')
) AS still GROUP BY symbol, is_tactical HAVING sum(quote) > 0
"""


@dataclass(frozen=True)
class Exposure:
    """What is held and under way. Money in quote currency.

    Attributes:
        prices: newest hourly close by symbol.
        pending_quote: by symbol, what parents that buy may still take, and what orders of ended
            parents may have bought, or still buy, beyond the fills that are recorded; one of
            unknown outcome counts whole. ``tactical_pending_quote`` is of the tactical sleeve.
    """

    open_positions: list[Position]
    prices: dict[str, float]
    pending_quote: dict[str, Decimal]
    tactical_pending_quote: dict[str, Decimal]

    @property
    def held_quote(self) -> dict[str, float]:
        """What is held by symbol, both sleeves together."""
        return self._held(self.open_positions)

    @property
    def tactical_quote(self) -> dict[str, Decimal]:
        """Held and under way in the tactical sleeve, by symbol."""
        tactical = [p for p in self.open_positions if p.sleeve == "tactical"]
        taken = {s: Decimal(repr(value)) for s, value in self._held(tactical).items()}
        for symbol, pending in self.tactical_pending_quote.items():
            taken[symbol] = taken.get(symbol, Decimal(0)) + pending
        return taken

    def _held(self, positions: Iterable[Position]) -> dict[str, float]:
        held: dict[str, float] = {}
        for position in positions:
            if position.is_held:
                worth = float(position.quantity) * self.prices[position.symbol]
                held[position.symbol] = held.get(position.symbol, 0.0) + worth
        return held

    @property
    def committed_quote(self) -> dict[str, float]:
        """Held and under way together, by symbol."""
        committed = dict(self.held_quote)
        for symbol, pending in self.pending_quote.items():
            committed[symbol] = committed.get(symbol, 0.0) + float(pending)
        return committed

    @property
    def gross_quote(self) -> Decimal:
        return sum((Decimal(repr(v)) for v in self.committed_quote.values()), Decimal(0))


def history(run: Run) -> History:
    """The tactical trades of the last 90 days, after fees."""
    row = run.ledger.one(
        "SELECT count(*) FILTER (WHERE pnl_quote > 0) AS wins, "
        "count(*) FILTER (WHERE pnl_quote <= 0) AS losses, "
        "avg(return_percent) FILTER (WHERE pnl_quote > 0)::float8 AS average_win_percent, "
        "-avg(return_percent) FILTER (WHERE pnl_quote <= 0)::float8 AS average_loss_percent "
        "FROM trades WHERE pod = %s AND sleeve = 'tactical' AND closed_at >= %s",
        (run.ledger.pod, clock.now() - _HISTORY),
    )
    if row is None:  # an aggregate always has its row
        raise AssertionError("history: expected one row")
    return History(**row)


def exposure(run: Run, closes: dict[str, Candles]) -> Exposure:
    """Open positions at the newest closes, and what may still be bought."""
    pending: dict[str, Decimal] = {}
    tactical: dict[str, Decimal] = {}
    for row in run.ledger.query(_PENDING, {"pod": run.ledger.pod, "now": clock.now()}):
        pending[row["symbol"]] = pending.get(row["symbol"], Decimal(0)) + row["quote"]
        if row["is_tactical"]:
            tactical[row["symbol"]] = row["quote"]
    return Exposure(
        open_positions=positions.open_positions(run.ledger),
        prices={symbol: float(series.close[-1]) for symbol, series in closes.items()},
        pending_quote=pending,
        tactical_pending_quote=tactical,
    )


def cash_quote(run: Run) -> Decimal:
    """The quote currency on all venues, less a margin for fees; execution splits it as it can."""
    return sum(cash_by_venue(run).values(), Decimal(0))


def cash_by_venue(run: Run) -> dict[str, Decimal]:
    """The quote currency on each venue, less a margin for fees and the collar.

    Raises:
        DataUnavailable: no venue has any.
    """
    rows = run.ledger.query(
        "SELECT venue, greatest(amount, 0) AS amount FROM balances "
        "WHERE pod = %s AND currency = %s",
        (run.ledger.pod, run.config.quote_currency),
    )
    if not rows:
        raise DataUnavailable(f"balances: expected {run.config.quote_currency}, found none")
    return {row["venue"]: row["amount"] * _CASH_MARGIN for row in rows}


def held_by_venue(run: Run, prices: Mapping[str, float]) -> dict[str, Decimal]:
    """What open positions of both sleeves are worth on each venue, in quote currency."""
    rows = run.ledger.query(
        "SELECT h.venue, p.symbol, sum(h.quantity) AS quantity "
        "FROM positions p JOIN position_holdings h USING (position_id) "
        "WHERE p.pod = %s AND p.closed_at IS NULL GROUP BY h.venue, p.symbol",
        (run.ledger.pod,),
    )
    held: dict[str, Decimal] = {}
    for row in rows:
        worth = row["quantity"] * Decimal(repr(prices[row["symbol"]]))
        held[row["venue"]] = held.get(row["venue"], Decimal(0)) + worth
    return held


def book_depth_quote(run: Run, symbol: str) -> Decimal:
    """What the thinner side of the symbol's book holds within 50 bps, as the scanner saw it.

    Bids count like asks: whatever is bought has to be sold again.

    Raises:
        DataUnavailable: this minute's scan knows no book of the symbol.
    """
    scan = run.export_of("market_scanner")
    for market in packing.unpack(scan["signals"]):
        book = market["microstructure"] if market["symbol"] == symbol else None
        if book is not None:
            depth = book["depth_50bps_quote"]
            return Decimal(repr(float(min(depth["bid"], depth["ask"]))))
    raise DataUnavailable(f"{symbol} book depth: expected the scan of this run to know it")


def hourly_candles(
    run: Run, symbols: set[str], venues: Mapping[str, PublicVenue] | None = None
) -> dict[str, Candles]:
    """Hourly candles of each symbol: from the cache, else from the first venue that answers.

    ``venues`` are the ones that the caller has open; without them they are opened when needed.

    Raises:
        DataUnavailable: names the symbols that nobody has candles of.
    """
    found: dict[str, Candles] = {}
    for symbol in sorted(symbols):
        series = _cached(run, symbol) or _asked(run, symbol, venues)
        if series is not None:
            found[symbol] = series
    missing = sorted(symbols - set(found))
    if missing:
        raise DataUnavailable(
            f"hourly candles of {', '.join(missing)}: expected at least {MINIMUM_RETURNS}, "
            "found none"
        )
    return found


def _cached(run: Run, symbol: str) -> Candles | None:
    for venue in run.config.venues:
        series = candle_store.window(run, venue, symbol, "1h")
        if series is not None and len(series) > MINIMUM_RETURNS:
            return series
    return None


def _asked(run: Run, symbol: str, venues: Mapping[str, PublicVenue] | None) -> Candles | None:
    from shared.execution.venues.registry import open_venues

    for venue in (open_venues(run) if venues is None else venues).values():
        try:
            series = candle_store.window(run, venue, symbol, "1h")
        except (VenueUnavailable, DataUnavailable):
            continue  # counted in the call log; the next venue is asked
        if series is not None:
            return series
    return None
''')


###################################################################################################
_LOADER.modules["shared.risk.controls"] = ("shared/risk/controls/__init__.py", r'''"""The controls that the gate runs: one function is one control, one file one subject."""
''')


###################################################################################################
_LOADER.modules["shared.risk.controls.case"] = ("shared/risk/controls/case.py", r'''"""One order and everything that the controls judge it by."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from shared.config import Config
from shared.errors import OrderDenied
from shared.execution.types import MarketRules, OrderTicket, Purpose
from shared.ledger.equity import Standing
from shared.ledger.state import TradingState
from shared.market.types import Book
from shared.risk.facts import Facts
from shared.risk.lately import Lately


@dataclass(frozen=True)
class Case:
    """One order and everything that the controls judge it by.

    Attributes:
        buyable: the symbols in which this run may take new risk.
        compared_at: when this run last found the venue's balances equal to the ledger's.
        average_price: the venue's own, by which it judges limit prices; ``None`` where it was not
            needed, or not told.
    """

    config: Config
    ticket: OrderTicket
    purpose: Purpose
    rules: MarketRules
    book: Book
    now_ms: int
    trading: TradingState
    facts: Facts
    lately: Lately
    standing: Standing
    buyable: tuple[str, ...]
    compared_at: datetime | None
    average_price: Decimal | None

    @property
    def new_risk(self) -> bool:
        """Buying is new risk. Selling on a spot account never is: it is bounded by holdings."""
        return self.ticket.side == "buy"

    @property
    def bid(self) -> Decimal:
        return as_decimal(self.book.bids[0][0])

    @property
    def ask(self) -> Decimal:
        return as_decimal(self.book.asks[0][0])

    @property
    def mid(self) -> Decimal:
        return (self.bid + self.ask) / 2

    @property
    def expects_second_source(self) -> bool:
        """Whether a symbol has to be priced by two venues at least.

        Not where one venue is configured, nor where a person lets the universe take symbols that
        only one of several lists.
        """
        config = self.config
        alone_is_allowed = config.chooses_symbols and config.universe_backup_venues == 0
        return len(config.venues) > 1 and not alone_is_allowed

    @property
    def notional_quote(self) -> Decimal:
        return self.ticket.quantity * self.ticket.limit_price

    @property
    def is_stop(self) -> bool:
        """It rests away from the market until its trigger is reached."""
        return self.ticket.order_type in ("stop_limit", "stop_market")

    @property
    def symbol_exposure_quote(self) -> Decimal:
        """What the symbol would hold after this order and every order still under way."""
        held = self.facts.symbol_held_quantity * self.mid
        return held + self.facts.symbol_pending_buy_quote + self.notional_quote

    @property
    def sleeve_exposure_quote(self) -> Decimal:
        """The same of the whole sleeve that the order belongs to."""
        others = self.facts.others_held_quote + self.facts.others_pending_buy_quote
        return others + self.symbol_exposure_quote

    @property
    def total_exposure_quote(self) -> Decimal:
        """The same of both sleeves."""
        facts = self.facts
        elsewhere = facts.other_sleeve_held_quote + facts.other_sleeve_pending_buy_quote
        return elsewhere + self.sleeve_exposure_quote

    @property
    def new_tactical_risk(self) -> bool:
        """New risk under the tactical sleeve's limits: all but a buy for the core sleeve."""
        return self.new_risk and self.facts.sleeve != "core"

    @property
    def new_core_risk(self) -> bool:
        return self.new_risk and self.facts.sleeve == "core"

    @property
    def worth_quote(self) -> Decimal:
        worth = self.standing.worth_quote
        if worth is None:
            raise OrderDenied("EQUITY_MISSING", pod=self.config.pod)
        return worth


def as_decimal(price: float) -> Decimal:
    """A venue's number as the decimal that it was sent as."""
    return Decimal(repr(float(price)))
''')


###################################################################################################
_LOADER.modules["shared.risk.controls.conduct"] = ("shared/risk/controls/conduct.py", r'''"""How the program behaves: orders nobody knows of, rates, repeats, the time that a run has left."""

from __future__ import annotations

from collections.abc import Mapping

from shared import clock
from shared.errors import OrderDenied
from shared.risk.controls.case import Case
from shared.risk.lately import REPEAT_WINDOW

RUN_LIMIT_MS = 60_000  # the platform kills a cron run after this
MAX_CLOCK_AHEAD_MS = 1_000

# Entries and other new risk, protective stops, exits. Stops follow what is bought and where the
# price moves: among orders they take no room from entries, and leave the last third to exits.
MAX_ORDERS_PER_MINUTE = (20, 40, 60)
MAX_ORDERS_PER_HOUR = (400, 800, 1_200)

# Of new risk alone, stops not counted: a pod's day, and one symbol, which may use up half a pod's.
MAX_TRADES_PER_DAY = 2_000
MAX_SYMBOL_TRADES = {"minute": 10, "hour": 200, "day": 1_000}

# Orders of every kind and cancels, in the same tiers. An entry brings a stop, and the cancel of the
# stop before it; a stop that follows the price is a cancel and an order, and so is an exit.
MAX_MESSAGES_PER_MINUTE = (60, 80, 120)
MAX_MESSAGES_PER_HOUR = (1_200, 1_600, 2_400)
MAX_SYMBOL_MESSAGES = {"minute": 30, "hour": 600}

MAX_REPEATED_ENTRIES = 10
"""So often in a row a strategy may be carried out in a symbol within ``REPEAT_WINDOW``, with no
entry of another strategy and no person in between. One entry is one parent order: ten slices over
four venues are one. Positions of a day, closed and opened again ten times, are a loop that pays
fees, not a strategy."""

REPEATED = "REPEATED_ENTRIES"


def unresolved(case: Case) -> None:
    """No new risk in a symbol while nobody knows what became of an order in it (C21)."""
    if case.new_risk and case.facts.unresolved:
        raise OrderDenied(
            "SYMBOL_UNRESOLVED", symbol=case.ticket.symbol, orders=case.facts.unresolved, limit=0
        )


def rate(case: Case) -> None:
    """The pod sends no more orders than its trading can explain (C09)."""
    facts, tier = case.facts, _tier(case)
    minute, hour = facts.orders_last_minute, facts.orders_last_hour
    if case.new_risk:
        minute, hour = minute - facts.stops_last_minute, hour - facts.stops_last_hour
    sent = {"minute": minute, "hour": hour}
    limits = {"minute": MAX_ORDERS_PER_MINUTE[tier], "hour": MAX_ORDERS_PER_HOUR[tier]}
    if case.new_risk:
        sent["day"], limits["day"] = case.lately.trades_last_day, MAX_TRADES_PER_DAY
    if beyond := _one_too_many(sent, limits):
        raise OrderDenied("RATE_ORDERS", **beyond)


def symbol_rate(case: Case) -> None:
    """No symbol takes more than half of what the pod may send (C09). Of new risk alone."""
    if not case.new_risk:
        return
    sent = {
        "minute": case.lately.symbol_trades_last_minute,
        "hour": case.lately.symbol_trades_last_hour,
        "day": case.lately.symbol_trades_last_day,
    }
    if beyond := _one_too_many(sent, MAX_SYMBOL_TRADES):
        raise OrderDenied("RATE_SYMBOL", symbol=case.ticket.symbol, **beyond)


def messages(case: Case) -> None:
    """Orders and cancels together keep to their rate: new risk stops first, exits last (C09).

    A cancel itself passes no control, so none is ever kept back; what is held against an order is
    what the pod has sent before it.
    """
    facts, tier = case.facts, _tier(case)
    sent = {"minute": facts.messages_last_minute, "hour": facts.messages_last_hour}
    limits = {"minute": MAX_MESSAGES_PER_MINUTE[tier], "hour": MAX_MESSAGES_PER_HOUR[tier]}
    if beyond := _one_too_many(sent, limits):
        raise OrderDenied("RATE_MESSAGES", **beyond)


def symbol_messages(case: Case) -> None:
    """No symbol takes more than half of the orders and cancels (C09). Of new risk alone."""
    if not case.new_risk:
        return
    sent = {
        "minute": case.facts.symbol_messages_last_minute,
        "hour": case.facts.symbol_messages_last_hour,
    }
    if beyond := _one_too_many(sent, MAX_SYMBOL_MESSAGES):
        raise OrderDenied("RATE_SYMBOL_MESSAGES", symbol=case.ticket.symbol, **beyond)


def _tier(case: Case) -> int:
    """Which of three limits holds: that of new risk, of protective stops, or of exits."""
    return 0 if case.new_risk else 1 if case.purpose == "protect" else 2


def _one_too_many(sent: Mapping[str, int], limits: Mapping[str, int]) -> dict[str, object]:
    """The first window in which one more would pass its limit; empty where none would."""
    for window, limit in limits.items():
        before = sent[window]
        if before + 1 > limit:
            return {"window": window, "before": before, "after": before + 1, "limit": limit}
    return {}


def repeated(case: Case) -> None:
    """A strategy that was carried out too often in a row waits for a person (C10).

    The caller of the gate notes the denial, because the gate's own transaction is rolled back.
    """
    if not case.new_risk:
        return
    lately, whose = case.lately, {"symbol": case.ticket.symbol, "strategy": case.lately.strategy}
    if lately.throttled_at is not None:
        raise OrderDenied("STRATEGY_THROTTLED", **whose, since=clock.iso(lately.throttled_at))
    before, limit = lately.repeated_entries, MAX_REPEATED_ENTRIES
    if before + 1 > limit:
        hours = REPEAT_WINDOW.total_seconds() / 3_600
        raise OrderDenied(
            REPEATED, **whose, before=before, after=before + 1, limit=limit, window_hours=hours
        )


def run_time(case: Case) -> None:
    """The run lives long enough to hear the answer, and for new risk to ask once more (C30)."""
    started_at = case.facts.run_started_at
    if started_at is None:
        raise OrderDenied("RUN_UNKNOWN", pod=case.config.pod)
    elapsed_ms = case.now_ms - clock.to_ms(started_at)
    if case.new_risk and elapsed_ms < -MAX_CLOCK_AHEAD_MS:
        raise OrderDenied("RUN_TIME", after_ms=elapsed_ms, limit_ms=-MAX_CLOCK_AHEAD_MS)
    needed_ms = case.config.request_timeout_ms * (2 if case.new_risk else 1)
    if elapsed_ms + needed_ms > RUN_LIMIT_MS:
        raise OrderDenied(
            "RUN_TIME", before_ms=elapsed_ms, after_ms=elapsed_ms + needed_ms, limit_ms=RUN_LIMIT_MS
        )
''')


###################################################################################################
_LOADER.modules["shared.risk.controls.money"] = ("shared/risk/controls/money.py", r'''"""What an order does to the money: sizes, shares, exposure, cash, losses."""

from __future__ import annotations

from shared import clock
from shared.errors import OrderDenied
from shared.risk import limits
from shared.risk.controls.case import Case
from shared.risk.controls.conduct import MAX_CLOCK_AHEAD_MS
from shared.risk.core import targets

MAX_EQUITY_AGE_MS = 10 * 60_000
MAX_BALANCE_AGE_MS = 60_000  # a run lives no longer


def position_size(case: Case) -> None:
    """Held and under way in the tactical symbol stays within MAX_POSITION_SIZE (C03, C07)."""
    limit = case.config.max_position_size
    if case.new_tactical_risk and case.symbol_exposure_quote > limit:
        raise OrderDenied("POSITION_SIZE", after=case.symbol_exposure_quote, limit=limit)


def position_share(case: Case) -> None:
    """Held and under way in the tactical symbol stays within its percentage of equity (C03)."""
    if not case.new_tactical_risk:
        return
    limit = case.worth_quote * case.config.position_size_percent / 100
    if case.symbol_exposure_quote > limit:
        raise OrderDenied("POSITION_SHARE", after=case.symbol_exposure_quote, limit=limit)


def gross(case: Case) -> None:
    """The tactical sleeve stays within its number of full sizes, both together in the equity."""
    if not case.new_risk:
        return
    sizes = case.config.max_positions * case.config.max_position_size
    if case.new_tactical_risk and case.sleeve_exposure_quote > sizes:
        raise OrderDenied("EXPOSURE_GROSS", after=case.sleeve_exposure_quote, limit=sizes)
    if case.total_exposure_quote > case.worth_quote:
        raise OrderDenied("EXPOSURE_GROSS", after=case.total_exposure_quote, limit=case.worth_quote)


def core_weight(case: Case) -> None:
    """A core symbol stays within its target weight and the band, the sleeve within its share."""
    if not case.new_core_risk:
        return
    config, worth = case.config, case.worth_quote
    sleeve = worth * config.core_sleeve_percent / 100
    limit = sleeve * targets.limit_percent(config, case.buyable, case.ticket.symbol) / 100
    if case.symbol_exposure_quote > limit:
        raise OrderDenied("CORE_WEIGHT", after=case.symbol_exposure_quote, limit=limit)
    widest = sleeve + worth * config.rebalance_band_percent / 100
    if case.sleeve_exposure_quote > widest:
        raise OrderDenied("CORE_SLEEVE", after=case.sleeve_exposure_quote, limit=widest)


def venue_exposure(case: Case) -> None:
    """What is held and under way on one venue stays within its share of the equity (C07).

    A venue may stop answering, or paying out, with all that is on it.
    """
    if not case.new_risk:
        return
    before = case.lately.venue_held_quote + case.facts.venue_pending_buy_quote
    after = before + case.notional_quote
    limit = case.worth_quote * case.config.max_venue_exposure_percent / 100
    if after > limit:
        raise OrderDenied("EXPOSURE_VENUE", venue=case.ticket.venue, after=after, limit=limit)


def position_count(case: Case) -> None:
    """The order's own tactical position is within MAX_POSITIONS (C07)."""
    if not case.new_tactical_risk:
        return
    count = case.facts.other_positions + 1
    if count > case.config.max_positions:
        raise OrderDenied("POSITION_COUNT", after=count, limit=case.config.max_positions)


def equity_age(case: Case) -> None:
    """Losses are judged by an equity that is not old (C08, C13).

    Before the first row of equity there has been no trade, and what was paid in is the equity.
    """
    if not case.new_risk:
        return
    at, standing = case.standing.at, case.standing
    if (at is None) != (standing.equity_quote is None):
        raise OrderDenied("EQUITY_MISSING", pod=case.config.pod, at=at)
    if at is None:
        return
    age_ms = case.now_ms - clock.to_ms(at)
    if not -MAX_CLOCK_AHEAD_MS <= age_ms <= MAX_EQUITY_AGE_MS:
        raise OrderDenied("EQUITY_STALE", age_ms=age_ms, limit_ms=MAX_EQUITY_AGE_MS)


def daily_loss(case: Case) -> None:
    """No new risk once the day's or the last 24 hours' loss has reached its limit (C08)."""
    if case.new_risk:
        limits.deny_at_daily_loss(case.config, case.standing)


def weekly_loss(case: Case) -> None:
    """No new risk once the last seven days' loss has reached its limit (C08)."""
    if case.new_risk:
        limits.deny_at_weekly_loss(case.config, case.standing)


def drawdown(case: Case) -> None:
    """No new risk once the drawdown from the high-water mark has reached its first tier (C08)."""
    if case.new_risk:
        limits.deny_at_drawdown(case.config, case.standing)


def balance_age(case: Case) -> None:
    """This run has compared the venue's balances with the ledger's, and they agreed (C13, C23)."""
    if not case.new_risk:
        return
    if case.compared_at is None:
        raise OrderDenied("BALANCE_UNCOMPARED", venue=case.ticket.venue)
    age_ms = case.now_ms - clock.to_ms(case.compared_at)
    if not -MAX_CLOCK_AHEAD_MS <= age_ms <= MAX_BALANCE_AGE_MS:
        raise OrderDenied("BALANCE_STALE", age_ms=age_ms, limit_ms=MAX_BALANCE_AGE_MS)


def balance(case: Case) -> None:
    """The venue's cash pays for the order, its fee and every buy already under way there."""
    if not case.new_risk:
        return
    cash = case.facts.venue_cash_quote
    if cash is None:
        raise OrderDenied("BALANCE_MISSING", venue=case.ticket.venue)
    with_fee = 1 + case.rules.taker_fee_bps / 10_000
    free = cash - case.facts.venue_pending_buy_quote * with_fee
    needed = case.notional_quote * with_fee
    if needed > free:
        raise OrderDenied("BALANCE_SHORT", venue=case.ticket.venue, after=needed, limit=free)
''')


###################################################################################################
_LOADER.modules["shared.risk.controls.order"] = ("shared/risk/controls/order.py", r'''"""What an order is by itself: allowed by the state, made of numbers, for a market it fits."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from decimal import Decimal
from typing import get_args

from shared.errors import OrderDenied
from shared.execution.types import OrderTicket, OrderType, Purpose
from shared.ledger.equity import Standing
from shared.ledger.state import TradingState
from shared.risk.controls.case import Case

_NUMBERS_OF_RULES = ("price_tick", "quantity_step", "min_quantity", "min_notional", "taker_fee_bps")
_FACTS_OF_SALES = ("held_on_venue", "pending_sell_quantity", "unknown_stop_quantity")
_MAY_BE_MISSING = frozenset(
    {
        "run_started_at",
        "position_symbol",
        "held_on_venue",
        "venue_cash_quote",
        "other_venue_mids",
        "low_1m",
        "high_1m",
        "volume_24h_quote",
        "throttled_at",
        "quote_worths",
        "quote_cross_worths",
        *(field.name for field in dataclasses.fields(Standing)),
    }
)


def deny_unless_state_allows(trading: TradingState, ticket: OrderTicket, purpose: Purpose) -> None:
    """A halt lets nothing through but what shrinks a position (C31)."""
    expected = {"entry": ("buy",), "exit": ("sell",), "protect": ("sell",)}
    if ticket.side not in expected.get(purpose, ("buy", "sell")):
        raise OrderDenied("ORDER_SIDE", purpose=purpose, side=ticket.side)
    if trading.state == "HALTED" and purpose not in ("exit", "protect"):
        raise OrderDenied("STATE_HALTED", purpose=purpose, reason=trading.reason)
    if trading.state != "ACTIVE" and ticket.side != "sell":
        raise OrderDenied(f"STATE_{trading.state}", purpose=purpose, reason=trading.reason)
    if trading.limit_orders_only and ticket.order_type == "market" and ticket.side == "buy":
        raise OrderDenied("STATE_LIMIT_ORDERS_ONLY", order_type=ticket.order_type)


def deny_unless_numbers(ticket: OrderTicket) -> None:
    """The ticket is of a known type, and all its numbers are finite and above zero (C02)."""
    if ticket.order_type not in get_args(OrderType):
        raise OrderDenied("ORDER_TYPE", order_type=ticket.order_type, expected="a known type")
    numbers = {"quantity": ticket.quantity, "limit_price": ticket.limit_price}
    if ticket.order_type in ("stop_limit", "stop_market"):
        if ticket.stop_price is None:
            raise OrderDenied("ORDER_STOP_PRICE", stop_price=None, expected="above 0")
        numbers["stop_price"] = ticket.stop_price
    for name, value in numbers.items():
        if not (isinstance(value, Decimal) and value.is_finite() and value > 0):
            raise OrderDenied("ORDER_NUMBER", field=name, value=value, expected="above 0")


def rules(case: Case) -> None:
    """The venue's rules are numbers (C02), and its market is open to new risk (C12).

    A market may have opened again since it was asked: what is held is tried to be sold.
    """
    told = case.rules
    for name in _NUMBERS_OF_RULES:
        value = getattr(told, name)
        if not (isinstance(value, Decimal) and value.is_finite() and value >= 0):
            raise OrderDenied("RULES_NUMBER", field=name, value=value, expected="not below 0")
    for name, grid in (("price_tick", told.price_tick), ("quantity_step", told.quantity_step)):
        if grid == 0:
            raise OrderDenied("RULES_NUMBER", field=name, value=grid, expected="above 0")
    if case.new_risk and told.is_open is not True:
        raise OrderDenied("MARKET_CLOSED", venue=told.venue, symbol=told.symbol)


def facts(case: Case) -> None:
    """What the ledger and the clock tell is numbers, none of them below zero (C02).

    A sale is judged by what it needs: what is held, and what other sales claim of it.
    """
    known = vars(case.facts)
    judged = {"now_ms": case.now_ms, "book.at_ms": case.book.at_ms}
    judged |= {name: known[name] for name in _FACTS_OF_SALES}
    if case.new_risk:
        judged |= known | vars(case.lately) | _judged_standing(case)
    for name, value in judged.items():
        if name in _MAY_BE_MISSING and value is None:
            continue  # the control that needs it says what is missing
        if not _is_fact(value):
            raise OrderDenied("FACT_INVALID", field=name, value=value, expected="not below 0")
    if case.new_risk and case.facts.sleeve not in ("tactical", "core"):
        raise OrderDenied("FACT_INVALID", field="sleeve", value=case.facts.sleeve, expected="known")


def _judged_standing(case: Case) -> dict[str, object]:
    """Once there is equity, it counts: who took profits out may have paid in less than nothing."""
    standing = vars(case.standing)
    if case.standing.equity_quote is None:
        return standing
    return {name: value for name, value in standing.items() if name != "capital_quote"}


def _is_fact(value: object) -> bool:
    if isinstance(value, Decimal):
        return value.is_finite() and value >= 0
    if isinstance(value, int):
        return value >= 0
    return isinstance(value, str | datetime | list)


def names(case: Case) -> None:
    """The ticket, its rules, its book and its position speak of the same market (C15)."""
    ticket, rules = case.ticket, case.rules
    if (rules.venue, rules.symbol, case.book.symbol) != (
        ticket.venue,
        ticket.symbol,
        ticket.symbol,
    ):
        raise OrderDenied(
            "MARKET_MISMATCH",
            ticket=f"{ticket.venue} {ticket.symbol}",
            rules=f"{rules.venue} {rules.symbol}",
            book=case.book.symbol,
        )
    if case.facts.position_symbol != ticket.symbol:
        raise OrderDenied(
            "POSITION_MISMATCH", ticket=ticket.symbol, position=case.facts.position_symbol
        )


def allow_list(case: Case) -> None:
    """New risk only in the universe and on its venues. What is held may always be sold (C15)."""
    if not case.new_risk:
        return
    if case.ticket.symbol not in case.buyable:
        raise OrderDenied("SYMBOL_NOT_ALLOWED", symbol=case.ticket.symbol)
    if case.ticket.venue not in case.config.venues:
        raise OrderDenied("VENUE_NOT_ALLOWED", venue=case.ticket.venue)


def grid(case: Case) -> None:
    """Quantity and notional are ones that the venue accepts (C12)."""
    ticket, rules = case.ticket, case.rules
    if ticket.quantity % rules.quantity_step != 0:
        raise OrderDenied(
            "QUANTITY_STEP", after=ticket.quantity, expected=_multiple(rules.quantity_step)
        )
    for price in (ticket.limit_price, ticket.stop_price):
        if price is not None and price % rules.price_tick != 0:
            raise OrderDenied("PRICE_TICK", after=price, expected=_multiple(rules.price_tick))
    if ticket.quantity < rules.min_quantity:
        raise OrderDenied("QUANTITY_MINIMUM", after=ticket.quantity, limit=rules.min_quantity)
    if case.notional_quote < rules.min_notional:
        raise OrderDenied("NOTIONAL_MINIMUM", after=case.notional_quote, limit=rules.min_notional)


def _multiple(grid: Decimal) -> str:
    return f"a multiple of {grid}"


def self_match(case: Case) -> None:
    """No order of ours rests on the other side at a price that would meet this one (C16).

    A stop meets nobody when it is placed, and a stop that rests meets nobody either.
    """
    if case.facts.opposing and not case.is_stop:
        raise OrderDenied("ORDER_SELF_MATCH", orders=case.facts.opposing, limit=0)


def holding(case: Case) -> None:
    """A sale is at most what the position holds on the venue and no other sale claims (C17).

    A stop of which nobody knows whether it rests keeps no exit back: if it does rest, it has locked
    what the exit would sell, and the venue itself refuses the exit.
    """
    if case.new_risk:
        return
    held = case.facts.held_on_venue or Decimal(0)
    claimed = case.facts.pending_sell_quantity
    if case.purpose == "exit":
        claimed -= case.facts.unknown_stop_quantity
    if case.ticket.quantity > held - claimed:
        raise OrderDenied(
            "HOLDING_EXCEEDED",
            after=case.ticket.quantity,
            limit=held - claimed,
            held=held,
            in_flight=claimed,
        )
''')


###################################################################################################
_LOADER.modules["shared.risk.controls.prices"] = ("shared/risk/controls/prices.py", r'''"""What an order is by the market: its book, its distance from it, and other venues' prices."""

from __future__ import annotations

from decimal import Decimal

from shared.errors import OrderDenied
from shared.market import peg
from shared.market.types import Book
from shared.risk.controls.case import Case, as_decimal

MAX_BOOK_AGE_MS = 15_000
MAX_CLOCK_AHEAD_MS = 1_000

# New risk stops at the first number; exits, which must work in a crash too, at the second.
MAX_DEVIATION_PERCENT = (Decimal(2), Decimal(10))

MAX_SPREAD_BPS = Decimal(50)
"""The widest spread into which anything is bought. Half of it is the cost of getting in, and where
the best prices are further apart than this the mid says little about what anything is worth."""

MAX_DEPTH_SHARE_PERCENT = Decimal(25)
"""The share of what the book offers within the collar that one order may take. What it takes is
gone for whoever has to leave a minute later; a quarter leaves the price its footing."""

MAX_VOLUME_SHARE_PERCENT = Decimal("0.1")
"""The share of a day's traded value that one order may be. Ten slices an hour stay far below the
tenth of the volume at which an order begins to be the market."""

MAX_MINUTE_RANGE_PERCENT = Decimal(2)
"""The range of a minute in which nothing is bought any more: as wide as the default stop is away,
so that a stop would be no protection. On 10 October 2025 bitcoin fell by more in its worst minutes,
and on 21 October 2021 by 87 % in one on a single venue."""

STOP_LIMIT_OFFSET_PERCENT = Decimal(2)
"""How far below its trigger a protective stop still sells. A stop-limit that the price has jumped
rests unfilled and protects nothing, so the way down is wide (freqtrade takes 1 %, and the gaps of
10 October 2025 went further); it is bounded, because what an emptied book shows is no price."""

MAX_EXIT_COLLAR_PERCENT = Decimal(10)
"""How far below the mid an exit may sell at most. It has to work where spreads are wide: on 10
October 2025 they were 22 %. ``leaving`` begins far closer and widens with each try in vain."""


def book(case: Case) -> None:
    """The book is fresh, has both sides and is not crossed (C13)."""
    age_ms = case.now_ms - case.book.at_ms
    if not -MAX_CLOCK_AHEAD_MS <= age_ms <= MAX_BOOK_AGE_MS:
        raise OrderDenied("BOOK_STALE", age_ms=age_ms, limit_ms=MAX_BOOK_AGE_MS)
    if not case.book.bids or not case.book.asks:
        bids, asks = (len(side or ()) for side in (case.book.bids, case.book.asks))
        raise OrderDenied("BOOK_EMPTY", bids=bids, asks=asks, expected="both")
    bid, ask = case.bid, case.ask
    if not (bid.is_finite() and ask.is_finite() and bid > 0 and ask > 0):
        raise OrderDenied("BOOK_NUMBER", bid=bid, ask=ask, expected="above 0")
    if bid >= ask:
        raise OrderDenied("BOOK_CROSSED", bid=bid, ask=ask, expected="bid below ask")


def collar(case: Case) -> None:
    """The limit price is not far on the expensive side of the mid (C05).

    A protective stop rests away from the market on purpose: it lies below the mid, and its limit
    is held against its own trigger, at the wide offset that a gap asks for. An exit has the width
    that a wide spread asks for.
    """
    ticket, width = case.ticket, case.config.price_collar_bps / 10_000
    reference = case.mid
    if case.purpose == "exit":
        width = max(width, MAX_EXIT_COLLAR_PERCENT / 100)
    if case.is_stop and ticket.stop_price is not None:
        if ticket.stop_price >= case.mid:
            raise OrderDenied("PRICE_STOP_ABOVE_MID", after=ticket.stop_price, limit=case.mid)
        reference = ticket.stop_price
        if case.purpose == "protect":
            width = STOP_LIMIT_OFFSET_PERCENT / 100
    worst = reference * (1 + width if ticket.side == "buy" else 1 - width)
    beyond = ticket.limit_price > worst if ticket.side == "buy" else ticket.limit_price < worst
    if beyond:
        raise OrderDenied(
            "PRICE_COLLAR", side=ticket.side, after=ticket.limit_price, limit=worst, mid=case.mid
        )


def cross_venue(case: Case) -> None:
    """What other venues showed a moment ago bears the price out (C05, C06).

    New risk needs a second source, and every source has to agree: whichever of them is wrong,
    nothing is bought by it. A sale is refused only where no other source agrees: one venue that
    shows nonsense keeps no sale back on the others. With one configured venue there is no second
    source; then the collar, the spread and the minute's range have to do.
    """
    others = case.facts.other_venue_mids or []
    if case.new_risk and not others and case.expects_second_source:
        raise OrderDenied("PRICE_ONE_SOURCE", symbol=case.ticket.symbol, sources=1, expected=2)
    if not others:
        return
    for other in others:
        _deny_unless_positive("other_venue_mids", other)
    limit = MAX_DEVIATION_PERCENT[0 if case.new_risk else 1]
    apart = {100 * abs(case.mid - other) / other: other for other in others}
    judged = max(apart) if case.new_risk else min(apart)
    if judged > limit:
        raise OrderDenied(
            "PRICE_VENUES_APART",
            mid=case.mid,
            other=apart[judged],
            apart_percent=round(judged, 4),
            limit_percent=limit,
        )


def quote_peg(case: Case) -> None:
    """Nothing is bought with a stablecoin that has lost its peg (C15).

    What the venues tell against the currency of the peg counts; only where none of them has such a
    pair do pairs with other stablecoins, and then a break of either denies. Every source has to
    agree, as with ``cross_venue``. A currency of a state has no peg to lose.
    """
    currency = case.config.quote_currency
    if not case.new_risk or peg.direct_pair(currency) is None:
        return
    worths = case.lately.quote_worths or case.lately.quote_cross_worths
    if not worths:
        raise OrderDenied(
            "QUOTE_PEG_UNKNOWN", currency=currency, expected=peg.direct_pair(currency)
        )
    for worth in worths:
        _deny_unless_positive("quote_worths", worth)
    apart = peg.distance_percent(worths)
    if apart > peg.MAX_DISTANCE_PERCENT:
        raise OrderDenied(
            "QUOTE_PEG",
            currency=currency,
            apart_percent=round(apart, 4),
            limit_percent=peg.MAX_DISTANCE_PERCENT,
        )


def spread(case: Case) -> None:
    """Nothing is bought where the best bid and ask are far apart (C06)."""
    spread_bps = 10_000 * (case.ask - case.bid) / case.mid
    if case.new_risk and spread_bps > MAX_SPREAD_BPS:
        raise OrderDenied("BOOK_SPREAD", spread_bps=round(spread_bps, 4), limit_bps=MAX_SPREAD_BPS)


def depth(case: Case) -> None:
    """An order takes no more than its share of what is offered within the collar (C04)."""
    if not case.new_risk:
        return
    limit = room_in(case.book, case.config.price_collar_bps)
    if case.ticket.quantity > limit:
        raise OrderDenied("BOOK_DEPTH", after=case.ticket.quantity, limit=limit)


def room_in(book: Book, collar_bps: Decimal) -> Decimal:
    """How much an order may buy from ``book``, in base currency.

    Raises:
        OrderDenied: ``BOOK_NUMBER`` where a level is made of numbers that are none.
    """
    best_bid, best_ask = as_decimal(book.bids[0][0]), as_decimal(book.asks[0][0])
    worst = (best_bid + best_ask) / 2 * (1 + collar_bps / 10_000)
    levels = [(as_decimal(price), as_decimal(quantity)) for price, quantity in book.asks]
    for price, quantity in levels:
        if not (price.is_finite() and price > 0 and quantity.is_finite() and quantity >= 0):
            raise OrderDenied("BOOK_NUMBER", price=price, quantity=quantity, expected="above 0")
    offered = sum((quantity for price, quantity in levels if price <= worst), Decimal(0))
    return offered * MAX_DEPTH_SHARE_PERCENT / 100


def minute_range(case: Case) -> None:
    """Nothing is bought in a minute that moves too far (C06): the last closed one and this."""
    if not case.new_risk:
        return
    low, high = case.lately.low_1m, case.lately.high_1m
    if low is None or high is None:
        raise OrderDenied("PRICE_RANGE_UNKNOWN", symbol=case.ticket.symbol)
    _deny_unless_positive("low_1m", low)
    _deny_unless_positive("high_1m", high)
    range_percent = 100 * (max(high, case.mid) / min(low, case.mid) - 1)
    if range_percent > MAX_MINUTE_RANGE_PERCENT:
        raise OrderDenied(
            "PRICE_RANGE",
            range_percent=round(range_percent, 4),
            limit_percent=MAX_MINUTE_RANGE_PERCENT,
        )


def volume(case: Case) -> None:
    """An order is no more than its share of what the market trades in a day (C04)."""
    if not case.new_risk:
        return
    traded = case.lately.volume_24h_quote
    if traded is None:
        raise OrderDenied("VOLUME_UNKNOWN", symbol=case.ticket.symbol)
    _deny_unless_positive("volume_24h_quote", traded)
    limit = traded * MAX_VOLUME_SHARE_PERCENT / 100
    if case.notional_quote > limit:
        raise OrderDenied("VOLUME_SHARE", after=case.notional_quote, limit=limit)


def _deny_unless_positive(field: str, value: Decimal) -> None:
    if not (value.is_finite() and value > 0):
        raise OrderDenied("MARKET_NUMBER", field=field, value=value, expected="above 0")
''')


###################################################################################################
_LOADER.modules["shared.risk.controls.stage"] = ("shared/risk/controls/stage.py", r'''"""What the stage of the roll-out lets a live pod buy, below every limit of its configuration."""

from __future__ import annotations

from shared.errors import OrderDenied
from shared.ledger.stages import Stage
from shared.risk.controls.case import Case


def deny_beyond(case: Case, stage: Stage) -> None:
    """All positions together, and each of them, stay within the stage. Both sleeves count.

    Raises:
        OrderDenied: ``STAGE_EXPOSURE`` or ``STAGE_POSITION``.
    """
    if not case.new_risk:
        return
    most, after = stage.exposure_quote, case.total_exposure_quote
    if most is not None and after > most:
        raise OrderDenied("STAGE_EXPOSURE", stage=stage.number, after=after, limit=most)
    limit, after = case.worth_quote * stage.position_percent / 100, case.symbol_exposure_quote
    if after > limit:
        raise OrderDenied("STAGE_POSITION", stage=stage.number, after=after, limit=limit)
''')


###################################################################################################
_LOADER.modules["shared.risk.controls.venue"] = ("shared/risk/controls/venue.py", r'''"""What the venue itself would refuse: prices outside its band, and more orders than it keeps (C12).

It is denied here, so that nothing is journalled and sent that cannot be accepted, and so that a
refusal by the venue stays a surprise that is looked at.
"""

from __future__ import annotations

from shared.errors import OrderDenied
from shared.execution import bands
from shared.risk.controls.case import Case


def filters(case: Case) -> None:
    """Nothing is bought where the venue tells a rule that cannot be read."""
    rules = case.rules
    if case.new_risk and rules.unread_filters:
        raise OrderDenied(
            "RULES_UNREAD",
            venue=rules.venue,
            symbol=rules.symbol,
            filter=rules.unread_filters[0],
        )


def price_band(case: Case) -> None:
    """The limit price lies within the venue's band around its own average.

    A stop-limit is judged by its limit price, as it is placed; what is at market has no price to be
    judged (Binance, "Filters"). Where the average is needed and not known nothing is bought; a sale
    goes on, and the venue judges it.
    """
    band, ticket = case.rules.price_band, case.ticket
    if band is None or not bands.has_limit(ticket):
        return
    if bands.is_sure(band, ticket.side, ticket.limit_price, case.mid):
        return
    average = case.average_price
    if average is None:
        if case.new_risk:
            raise OrderDenied("PRICE_BAND_UNKNOWN", venue=ticket.venue, symbol=ticket.symbol)
        return
    if not (average.is_finite() and average > 0):
        raise OrderDenied("PRICE_AVERAGE", venue=ticket.venue, value=average, expected="above 0")
    low, high = bands.limits(band, ticket.side, average)
    if not low <= ticket.limit_price <= high:
        raise OrderDenied(
            "PRICE_BAND",
            side=ticket.side,
            after=ticket.limit_price,
            limit=low if ticket.limit_price < low else high,
            average=average,
        )


def resting_orders(case: Case) -> None:
    """No more orders rest in the symbol than the venue keeps of an account.

    A sale that does not rest is not held back by a count in which unknown orders are: if they do
    rest, the venue itself refuses.
    """
    limit = case.rules.max_orders
    if limit is None or not (case.new_risk or case.is_stop):
        return
    before = case.facts.resting_orders
    if before + 1 > limit:
        raise OrderDenied(
            "ORDERS_RESTING", venue=case.ticket.venue, before=before, after=before + 1, limit=limit
        )


def resting_stops(case: Case) -> None:
    """A stop finds room among those that the venue keeps, and so will the stop of what is bought.

    What is bought where no further stop may rest would have none. A position whose stop rests there
    already has its room: that stop is replaced.
    """
    limit, facts = case.rules.max_stop_orders, case.facts
    if limit is None or not (case.new_risk or case.is_stop):
        return
    if case.new_risk and facts.own_resting_stops:
        return
    before = facts.resting_stops
    if before + 1 > limit:
        raise OrderDenied(
            "STOPS_RESTING",
            purpose=case.purpose,
            venue=case.ticket.venue,
            before=before,
            after=before + 1,
            limit=limit,
        )
''')


###################################################################################################
_LOADER.modules["shared.risk.core"] = ("shared/risk/core/__init__.py", r'''"""The core sleeve: held at target weights beside the tactical one, and brought back to them."""
''')


###################################################################################################
_LOADER.modules["shared.risk.core.carrying"] = ("shared/risk/core/carrying.py", r'''"""Carry a rebalance out through the desk: parents that sell, then parents that buy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.errors import DataUnavailable, OrderDenied
from shared.execution.types import EntryOrder, StopOnly
from shared.ledger import events, positions
from shared.risk.core import records
from shared.risk.core.records import PlannedTrade, Rebalance
from shared.run import Run

if TYPE_CHECKING:
    from shared.execution.desk import Desk

STRATEGY = "core"


def begin(run: Run, desk: Desk, planned: Rebalance) -> tuple[int, dict[str, str]]:
    """Open the sales; where there are none, the buys. Inside the transaction of the plan.

    Returns:
        How many orders were opened, and what was refused, by symbol.
    """
    opened, refused = 0, {}
    for trade in planned.of_side("sell"):
        try:
            _sell(desk, planned, trade)
            opened += 1
        except (OrderDenied, DataUnavailable) as denied:
            refused[trade.symbol] = str(denied)
    if opened:
        return opened, refused
    opened, more = buy(run, desk, planned)
    return opened, refused | more


def buy(run: Run, desk: Desk, planned: Rebalance) -> tuple[int, dict[str, str]]:
    """Open the buys and move the rebalance on, in one transaction."""
    opened, refused = 0, {}
    with run.ledger.transaction():
        run.guard()
        for trade in planned.of_side("buy"):
            try:
                desk.enter(_entry(run, planned, trade))
                opened += 1
            except OrderDenied as denied:
                refused[trade.symbol] = str(denied)
        records.advance(run.ledger, planned.rebalance_id, "BUYING")
    return opened, refused


def finish(run: Run, planned: Rebalance) -> None:
    """End it as done, and hold each stop at its distance below what was paid, if that is higher."""
    with run.ledger.transaction():
        run.guard()
        traded = records.traded_quote(run.ledger, planned.rebalance_id)
        told = f"sold {traded['sell']:.2f}, bought {traded['buy']:.2f}"
        records.advance(run.ledger, planned.rebalance_id, "DONE", told)
        for position in positions.open_positions(run.ledger):
            paid = position.average_entry_price
            if position.sleeve == "core" and position.is_held and paid is not None:
                stop = paid * (100 - run.config.core_stop_percent) / 100
                positions.tighten_stop(run.ledger, position.position_id, stop)
        events.record(
            run.ledger, "REBALANCE_DONE", {"rebalance_id": planned.rebalance_id, "traded": told}
        )


def end(run: Run, planned: Rebalance, why: str) -> None:
    """End it before all was carried out; what was traded stays."""
    with run.ledger.transaction():
        run.guard()
        records.advance(run.ledger, planned.rebalance_id, "ENDED", why)
        events.record(
            run.ledger, "REBALANCE_ENDED", {"rebalance_id": planned.rebalance_id, "why": why}
        )


def _sell(desk: Desk, planned: Rebalance, trade: PlannedTrade) -> None:
    if trade.position_id is None or trade.quantity is None:
        raise DataUnavailable(f"{trade.symbol}: expected a position to sell from, was none")
    key = records.parent_id(planned.rebalance_id, trade)
    desk.reduce(trade.position_id, trade.quantity, trade.mid, key)


def _entry(run: Run, planned: Rebalance, trade: PlannedTrade) -> EntryOrder:
    """A stop far away and no other exit; where the symbol is held already, its stop stays."""
    return EntryOrder(
        decision_id=None,
        symbol=trade.symbol,
        size_quote=trade.notional_quote,
        decision_mid=trade.mid,
        strategy=STRATEGY,
        sleeve="core",
        urgency="normal",
        exits=StopOnly(trade.mid * (100 - run.config.core_stop_percent) / 100),
        key=records.parent_id(planned.rebalance_id, trade),
    )
''')


###################################################################################################
_LOADER.modules["shared.risk.core.conditions"] = ("shared/risk/core/conditions.py", r'''"""When the core sleeve is left alone, however far off it is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta

from shared import clock
from shared.errors import OrderDenied
from shared.ledger import arming, equity, state
from shared.ledger.connection import Ledger
from shared.risk import limits
from shared.risk.core import records
from shared.run import Run
from shared.signals import regime

RETRY_HOURS = 1  # after this the rest of a rebalance that did not get far is planned anew
SCAN_MAX_AGE = timedelta(minutes=3)

_SCANNED = """
SELECT s.at, (
    SELECT jsonb_object_agg(m->>'symbol', m)
    FROM jsonb_array_elements(s.payload#>'{signals,markets}') AS m
    WHERE m->>'symbol' = ANY(%(symbols)s)) AS markets
FROM scans s WHERE s.pod = %(pod)s AND s.at <= %(now)s ORDER BY s.at DESC LIMIT 1
"""

_BUSY = """
SELECT symbol FROM parent_orders
WHERE pod = %(pod)s AND state = 'WORKING' AND symbol = ANY(%(symbols)s)
UNION SELECT symbol FROM intents
WHERE pod = %(pod)s AND state IN ('SENDING', 'UNKNOWN') AND symbol = ANY(%(symbols)s)
ORDER BY symbol
"""


def deny_unless_allowed(run: Run, *, is_live: bool) -> None:
    """Nothing is rebalanced while anything restricts trading, or nothing could be bought.

    A storm that the breaker measures is such a restriction: it halves sizes then.

    Raises:
        OrderDenied: names what restricts.
    """
    trading = state.read(run.ledger)
    if not trading.allows_new_risk:
        raise OrderDenied(f"STATE_{trading.state}", reason=trading.reason)
    if trading.size_factor < 1 or trading.limit_orders_only:
        raise OrderDenied(
            "STATE_RESTRICTED",
            size_factor=trading.size_factor,
            limit_orders_only=trading.limit_orders_only,
        )
    if is_live:
        arming.demand(run.ledger)
    standing = equity.standing(run.ledger, run.config.quote_currency, clock.now_ms())
    limits.deny_at_daily_loss(run.config, standing)
    limits.deny_at_weekly_loss(run.config, standing)
    limits.deny_at_drawdown(run.config, standing)


def deny_if_recent(run: Run, *, first_funding: bool) -> None:
    """At most one rebalance in ``REBALANCE_MIN_HOURS``; what was not carried out waits for an hour.

    What it costs to be off for a day is small beside a second round of fees and spreads. But what
    a halt or the venues have left untraded has not been paid for once, nor has a first funding.
    """
    now, hours = clock.now(), run.config.rebalance_min_hours
    for attempt in records.attempts(run.ledger, now - timedelta(hours=hours)):
        is_paid_for = attempt.is_carried_out and not first_funding
        wait_hours = hours if is_paid_for else min(hours, RETRY_HOURS)
        if now - attempt.at < timedelta(hours=wait_hours):
            raise OrderDenied(
                "REBALANCE_RECENT", last=clock.iso(attempt.at), minimum_hours=wait_hours
            )


def deny_while_busy(ledger: Ledger, symbols: Sequence[str]) -> None:
    """None while an order in one of the symbols is not resolved, or a parent works there."""
    rows = ledger.query(_BUSY, {"pod": ledger.pod, "symbols": list(symbols)})
    if rows:
        raise OrderDenied("ORDERS_UNDER_WAY", symbols="+".join(row["symbol"] for row in rows))


def deny_unless_calm(ledger: Ledger, symbols: Collection[str]) -> None:
    """The newest scan knows every symbol, doubts no price, and sees no storm.

    Raises:
        OrderDenied: the scan is missing or old, knows a symbol not or not its volatility, holds
            an anomaly, or a symbol is 1.75 times as volatile as usual.
    """
    now = clock.now()
    scan = ledger.one(_SCANNED, {"pod": ledger.pod, "symbols": list(symbols), "now": now})
    if scan is None or now - scan["at"] > SCAN_MAX_AGE:
        at = None if scan is None else clock.iso(scan["at"])
        raise OrderDenied("SCAN_STALE", last=at, maximum_minutes=SCAN_MAX_AGE.seconds // 60)
    markets = scan["markets"] or {}
    for symbol in symbols:
        if symbol not in markets:
            raise OrderDenied("MARKET_MISSING", symbol=symbol)
        market = markets[symbol]
        if "anomaly" in market and market["anomaly"] is not None:
            raise OrderDenied("MARKET_ANOMALY", symbol=symbol, anomaly=market["anomaly"])
        ratio = regime.volatility_ratio(market)
        if ratio is None:
            raise OrderDenied("VOLATILITY_UNKNOWN", symbol=symbol)
        if ratio >= regime.VOLATILE_RATIO:
            raise OrderDenied(
                "MARKET_VOLATILE", symbol=symbol, ratio=f"{ratio:.2f}", limit=regime.VOLATILE_RATIO
            )
''')


###################################################################################################
_LOADER.modules["shared.risk.core.looking"] = ("shared/risk/core/looking.py", r'''"""Look at the core sleeve: what it holds, at which prices, and what it may hold now."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from shared import clock
from shared.errors import DataUnavailable
from shared.ledger import equity
from shared.ledger.positions import Position
from shared.market.types import Quote
from shared.risk.controls.money import MAX_EQUITY_AGE_MS
from shared.risk.core import markets, records, targets
from shared.risk.core.sleeve import Sleeve
from shared.run import Run

if TYPE_CHECKING:
    from shared.execution.desk import Desk


@dataclass(frozen=True)
class Look:
    """The sleeve, and what it was seen by.

    Attributes:
        held: core positions by symbol; those that are being left are no part of it.
        in_cash: shares of the targets that nothing is bought for now, and why.
    """

    sleeve: Sleeve
    quotes: dict[str, Quote]
    held: dict[str, Position]
    in_cash: tuple[str, ...]


def at(run: Run, desk: Desk, held: dict[str, Position]) -> Look:
    """The sleeve now, at the mids of quotes that are not older than 10 s.

    Raises:
        DataUnavailable: a price or the equity is missing or old.
    """
    config = run.config
    locked = records.locked(run.ledger)
    staying = {symbol: position for symbol, position in held.items() if symbol not in locked}
    wanted = targets.choose(config, run.universe.buyable, held)
    open_to_us = {s: percent for s, percent in wanted.percents.items() if s not in locked}
    if config.core_sleeve_percent == 0:
        open_to_us = {}
    symbols = sorted({*open_to_us, *staying})
    quotes = desk.quotes(symbols)
    unpriced = [symbol for symbol in symbols if symbol not in quotes]
    if unpriced:
        raise DataUnavailable(f"prices of {', '.join(unpriced)}: expected a quote, found none")
    sleeve = Sleeve(
        equity_quote=_worth(run),
        share_percent=config.core_sleeve_percent,
        values_quote={
            symbol: position.quantity * markets.mid(quotes[symbol])
            for symbol, position in staying.items()
        },
        targets_percent=open_to_us,
    )
    kept_out = tuple(f"{s}: {why}" for s, why in locked.items() if s in wanted.percents)
    return Look(sleeve, quotes, staying, (*wanted.in_cash, *kept_out))


def _worth(run: Run) -> Decimal:
    """The equity of the last minutes, or before its first row the capital."""
    standing = equity.standing(run.ledger, run.config.quote_currency, clock.now_ms())
    worth = standing.worth_quote
    if worth is None or worth <= 0:
        raise DataUnavailable(f"equity: expected a number above 0, was {worth}")
    if standing.at is not None:
        age_ms = clock.now_ms() - clock.to_ms(standing.at)
        if age_ms > MAX_EQUITY_AGE_MS:
            raise DataUnavailable(f"equity: expected one of the last 10 minutes, was {age_ms} ms")
    return worth
''')


###################################################################################################
_LOADER.modules["shared.risk.core.markets"] = ("shared/risk/core/markets.py", r'''"""What it costs to trade the symbols of the sleeve now, and what else the plan has to know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

from shared.errors import OrderDenied, VenueUnavailable
from shared.execution.entries import entering
from shared.execution.exits import reducing
from shared.execution.types import MarketRules
from shared.execution.venues.base import Venue
from shared.ledger.positions import Position
from shared.market.types import Quote
from shared.risk.core.plan import Market
from shared.run import Run


def mid(quote: Quote) -> Decimal:
    return (_exact(quote.bid) + _exact(quote.ask)) / 2


def gather(
    run: Run,
    venues: Mapping[str, Venue],
    quotes: Mapping[str, Quote],
    held: Mapping[str, Position],
) -> dict[str, Market]:
    """The market of each symbol that has a quote and of which a venue tells its rules.

    A buy costs the lowest taker fee among the venues and half of the spread; a sale the lowest of
    those that hold the position.

    Args:
        held: core positions by symbol.
    """
    found: dict[str, Market] = {}
    for symbol, quote in quotes.items():
        rules = [rule for venue in venues.values() if (rule := _rules(venue, symbol)) is not None]
        if not rules:
            continue
        price, position = mid(quote), held.get(symbol)
        half_spread_bps = 10_000 * (_exact(quote.ask) - price) / price
        holders = [rule for rule in rules if position is None or _holds(run, position, rule.venue)]
        found[symbol] = Market(
            buy_cost_bps=_lowest_fee(rules) + half_spread_bps,
            sell_cost_bps=_lowest_fee(holders or rules) + half_spread_bps,
            min_buy_quote=_smallest_buy(venues, symbol, price),
            min_sell_quote=None
            if position is None
            else reducing.smallest_sale_quote(run, venues, position.position_id, symbol, price),
            lot_quote=max(rule.quantity_step for rule in holders or rules) * price,
        )
    return found


def _smallest_buy(venues: Mapping[str, Venue], symbol: str, price: Decimal) -> Decimal | None:
    try:
        return entering.smallest_buy_quote(venues, symbol, price)
    except OrderDenied:
        return None  # no venue tells its minimum


def _lowest_fee(rules: Iterable[MarketRules]) -> Decimal:
    return min(rule.taker_fee_bps for rule in rules)


def _holds(run: Run, position: Position, venue_name: str) -> bool:
    row = run.ledger.one(
        "SELECT 1 FROM position_holdings WHERE position_id = %s AND venue = %s AND quantity > 0",
        (position.position_id, venue_name),
    )
    return row is not None


def _rules(venue: Venue, symbol: str) -> MarketRules | None:
    try:
        return venue.rules(symbol)
    except VenueUnavailable:
        return None  # it does not list the symbol, or does not answer: the others serve


def _exact(price: float) -> Decimal:
    return Decimal(repr(float(price)))
''')


###################################################################################################
_LOADER.modules["shared.risk.core.plan"] = ("shared/risk/core/plan.py", r'''"""The cheapest set of trades that brings the core sleeve back inside its band. Pure functions.

A symbol that is a band or more off is traded, and only as far as half a band from its target. With
proportional costs it is right to trade to the edge of a band and no further (Davis and Norman,
"Portfolio selection with transaction costs", Mathematics of Operations Research 15, 1990), but each
rebalance also costs a minimum notional and a stop that is replaced. On recorded hours from August
2020 to June 2025 half a band cost 27 % less than going all the way and left weights no further off;
the edge itself cost another quarter less, for twice as many rebalances and weights that were 20 %
further off (``deploy/research/rebalancing.py``).

Where that is less than a venue's minimum, the minimum is traded, but never past the target. Sales
come first; what they and the cash cannot pay for is paid by selling what lies above its target,
the cheapest first.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from itertools import combinations

from shared.execution.types import Side
from shared.risk.core.sleeve import Sleeve

INNER_SHARE = Decimal("0.5")
"""Of the band, how far from its target a traded symbol is left."""


@dataclass(frozen=True)
class Market:
    """What trading one symbol takes. Money in quote currency.

    Attributes:
        buy_cost_bps, sell_cost_bps: fee, half of the spread and slippage.
        min_buy_quote, min_sell_quote: the smallest trade; ``None`` where none is possible now.
        lot_quote: one step of quantity, at the mid.
    """

    buy_cost_bps: Decimal
    sell_cost_bps: Decimal
    min_buy_quote: Decimal | None
    min_sell_quote: Decimal | None
    lot_quote: Decimal


@dataclass(frozen=True)
class Trade:
    """One trade, at the mid, and what it costs."""

    side: Side
    symbol: str
    notional_quote: Decimal
    cost_quote: Decimal

    @property
    def signed_quote(self) -> Decimal:
        return self.notional_quote if self.side == "buy" else -self.notional_quote


@dataclass(frozen=True)
class Plan:
    """Sales first, then buys; and what was left out, with the reason, by symbol."""

    trades: tuple[Trade, ...] = ()
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def cost_quote(self) -> Decimal:
        return sum((trade.cost_quote for trade in self.trades), Decimal(0))


@dataclass(frozen=True)
class _Sale:
    """What may be sold of a symbol: nothing where that is allowed, else ``low`` to ``high``."""

    symbol: str
    low: Decimal
    high: Decimal
    must: bool
    lot: Decimal
    cost_share: Decimal

    @property
    def price_of_cash(self) -> Decimal:
        """What a unit of proceeds costs."""
        return self.cost_share / (1 - self.cost_share)


def make(
    sleeve: Sleeve,
    markets: Mapping[str, Market],
    *,
    cash_quote: Decimal,
    band_percent: Decimal,
    to_target: bool,
    barred: Collection[str] = (),
    inner_share: Decimal = INNER_SHARE,
) -> Plan:
    """The cheapest plan.

    Args:
        markets: of every symbol that may be traded; one without a market is left out by name.
        cash_quote: what may be spent.
        to_target: trade everything that is off, and all the way.
        barred: symbols that are not to be traded.
        inner_share: of the band, how far from its target a traded symbol is left.
    """
    skipped: dict[str, str] = {}
    sales: list[_Sale] = []
    buys: list[tuple[str, Decimal]] = []
    traded = [symbol for symbol in sleeve.symbols if symbol not in barred]
    for symbol in traded:
        off = sleeve.off_quote(symbol)
        if off == 0:
            continue
        if symbol not in markets:
            skipped[symbol] = "MARKET_MISSING: no venue tells its rules and prices"
            continue
        must = _is_to_be_traded(sleeve, symbol, band_percent, to_target=to_target)
        inner_percent = Decimal(0) if to_target else band_percent * inner_share
        least = _least(sleeve, symbol, inner_percent)
        if off > 0:
            sale = _sale(sleeve, symbol, markets[symbol], least if must else Decimal(0), must)
            if isinstance(sale, _Sale):
                sales.append(sale)
            elif must:
                skipped[symbol] = sale
        elif must:
            amount = _buy_quote(markets[symbol], least, -off)
            if isinstance(amount, Decimal):
                buys.append((symbol, amount))
            else:
                skipped[symbol] = amount
    return _paid_for(sales, buys, markets, cash_quote, skipped)


def _is_to_be_traded(
    sleeve: Sleeve, symbol: str, band_percent: Decimal, *, to_target: bool
) -> bool:
    """What has no target any more goes whenever something is traded at all."""
    if to_target or sleeve.target_quote(symbol) == 0:
        return True
    return abs(sleeve.off_quote(symbol)) * 100 >= band_percent * sleeve.size_quote


def _least(sleeve: Sleeve, symbol: str, inner_percent: Decimal) -> Decimal:
    """The smallest trade that leaves the symbol so near to its target."""
    off = abs(sleeve.off_quote(symbol))
    if sleeve.target_quote(symbol) == 0:
        return off
    return max(off - sleeve.size_quote * inner_percent / 100, Decimal(0))


def _sale(sleeve: Sleeve, symbol: str, market: Market, least: Decimal, must: bool) -> _Sale | str:
    """What may be sold of a symbol that is above its target, or why nothing."""
    value, off, lot = sleeve.value_quote(symbol), sleeve.off_quote(symbol), market.lot_quote
    minimum = market.min_sell_quote
    if minimum is None:
        return "MARKET_CLOSED: no venue that holds it takes a sale now"
    high = _floor(off, lot)  # of a whole holding the crumb below a lot stays behind, as dust
    if off < value:
        high = min(high, _floor(max(value - minimum, Decimal(0)), lot))  # what stays is sellable
    low = min(_ceil(max(least, minimum), lot), high) if off < value else high
    if low < minimum:
        return f"NOTIONAL_MINIMUM: notional={high:.2f}, minimum={minimum:.2f}"
    return _Sale(symbol, low, high, must, lot, market.sell_cost_bps / 10_000)


def _buy_quote(market: Market, least: Decimal, most: Decimal) -> Decimal | str:
    minimum = market.min_buy_quote
    if minimum is None:
        return "MARKET_CLOSED: no venue takes a buy now"
    amount = max(least, minimum)
    if amount > most:
        return f"NOTIONAL_MINIMUM: notional={most:.2f}, minimum={minimum:.2f}"
    return amount


def _paid_for(
    sales: Sequence[_Sale],
    buys: Sequence[tuple[str, Decimal]],
    markets: Mapping[str, Market],
    cash_quote: Decimal,
    skipped: dict[str, str],
) -> Plan:
    """The cheapest sales that pay for the buys; what cannot be paid for is cut, nearest first."""
    costs = {symbol: markets[symbol].buy_cost_bps / 10_000 for symbol, _ in buys}
    needed = sum((amount * (1 + costs[symbol]) for symbol, amount in buys), Decimal(0))
    sold = _cheapest_sales(sales, needed - cash_quote)
    by_symbol = {sale.symbol: sale for sale in sales}
    trades = [
        Trade("sell", symbol, amount, amount * by_symbol[symbol].cost_share)
        for symbol, amount in sold.items()
    ]
    left = cash_quote + sum((t.notional_quote - t.cost_quote for t in trades), Decimal(0))
    for symbol, amount in sorted(buys, key=lambda buy: -buy[1]):
        affordable = min(amount, max(left, Decimal(0)) / (1 + costs[symbol]))
        minimum = markets[symbol].min_buy_quote or Decimal(0)
        if affordable < amount:
            skipped[symbol] = f"CASH_SHORT: needed={amount:.2f}, free={max(left, 0):.2f}"
        if affordable < minimum:
            continue
        cost = affordable * costs[symbol]
        trades.append(Trade("buy", symbol, affordable, cost))
        left -= affordable + cost
    return Plan(tuple(trades), skipped)


def _cheapest_sales(sales: Sequence[_Sale], needed_quote: Decimal) -> dict[str, Decimal]:
    """What to sell of each so that the proceeds reach ``needed_quote`` at the lowest cost.

    Every set of optional sales is tried; within a set each takes its least, and the cheapest fill
    up. Exact but for the last lot. Where even everything is too little, everything is sold.
    """
    musts = [sale for sale in sales if sale.must]
    others = [sale for sale in sales if not sale.must]
    best: tuple[Decimal, Decimal, dict[str, Decimal]] | None = None
    for count in range(len(others) + 1):
        for chosen in combinations(others, count):
            amounts, short = _filled([*musts, *chosen], needed_quote)
            cost = sum(
                (amounts[sale.symbol] * sale.cost_share for sale in [*musts, *chosen]), Decimal(0)
            )
            if best is None or (short, cost) < best[:2]:
                best = (short, cost, amounts)
    return {} if best is None else best[2]


def _filled(chosen: Sequence[_Sale], needed_quote: Decimal) -> tuple[dict[str, Decimal], Decimal]:
    """Each at its least, then the cheapest up to its most; and what is still missing then."""
    amounts = {sale.symbol: sale.low for sale in chosen}
    missing = needed_quote - sum((sale.low * (1 - sale.cost_share) for sale in chosen), Decimal(0))
    for sale in sorted(chosen, key=lambda sale: sale.price_of_cash):
        if missing <= 0:
            break
        more = min(_ceil(missing / (1 - sale.cost_share), sale.lot), sale.high - sale.low)
        amounts[sale.symbol] += more
        missing -= more * (1 - sale.cost_share)
    return amounts, max(missing, Decimal(0))


def _floor(amount: Decimal, lot: Decimal) -> Decimal:
    return (amount / lot).to_integral_value(ROUND_FLOOR) * lot


def _ceil(amount: Decimal, lot: Decimal) -> Decimal:
    return (amount / lot).to_integral_value(ROUND_CEILING) * lot
''')


###################################################################################################
_LOADER.modules["shared.risk.core.rebalance"] = ("shared/risk/core/rebalance.py", r'''"""Keep the core sleeve at its targets: look, plan, carry out over minutes, end.

A plan is a row in the ledger, written together with the parents that sell. When those have ended,
the parents that buy are written together with the row's next state; the trading loop works them all
minute by minute. So a run may die anywhere: its successor finds what was committed and goes on, and
what was ordered is known by keys that are derived from the rebalance.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from shared import clock
from shared.errors import DataUnavailable, OrderDenied
from shared.ledger import equity, events, positions
from shared.risk import budget, context, portfolio
from shared.risk.core import carrying, conditions, looking, markets, plan, records, tracking
from shared.risk.core.looking import Look
from shared.risk.core.plan import Plan, Trade
from shared.risk.core.records import PlannedTrade, Rebalance
from shared.risk.core.sleeve import Need
from shared.risk.portfolio import markowitz
from shared.run import Export, Run

if TYPE_CHECKING:
    from shared.execution.desk import Desk

BUYS_WITHIN = timedelta(hours=1)
"""A plan whose sales took longer is not bought to its end: it was made for other prices."""


@dataclass
class Report:
    """What the position manager tells of the sleeve.

    Attributes:
        needed: a weight or the whole is a band off.
        reason: why it is needed, why nothing is done about it, or what is under way.
        least_variance: by symbol, in percent: a yardstick beside the targets, told with a plan. It
            is Markowitz's portfolio, long only and capped, and moves nothing.
        opened: how many orders were opened by this run.
    """

    needed: bool = False
    reason: str = ""
    weights: dict[str, dict[str, float]] = field(default_factory=dict)
    trades: list[Export] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    in_cash: tuple[str, ...] = ()
    least_variance: dict[str, float] = field(default_factory=dict)
    opened: int = 0

    def as_export(self) -> Export:
        skipped = [{"symbol": symbol, "reason": why} for symbol, why in self.skipped.items()]
        return {
            "needed": self.needed,
            "reason": self.reason,
            "weights": self.weights,
            "trades": self.trades,
            "skipped": skipped,
            "in_cash": list(self.in_cash),
            "least_variance_percent": self.least_variance,
        }


def rebalance(run: Run, desk: Desk) -> Report:
    """Carry on what is under way, or plan what is needed and allowed. At most one at a time.

    Raises:
        LeaseLost: another run has taken over; nothing was written.
    """
    under_way = records.under_way(run.ledger)
    if under_way is not None:
        return _carry_on(run, desk, under_way)
    held = {
        position.symbol: position
        for position in positions.open_positions(run.ledger)
        if position.sleeve == "core" and position.is_held
    }
    if run.config.core_sleeve_percent == 0 and not held:
        return Report(reason="CORE_OFF: CORE_SLEEVE_PERCENT is 0")
    try:
        look = looking.at(run, desk, held)
    except DataUnavailable as missing:
        return Report(reason=f"DATA_MISSING: {missing}")
    need = look.sleeve.need(run.config.rebalance_band_percent)
    if need is None:
        return _report(look, None, "WITHIN_BAND")
    try:
        return _plan_and_begin(run, desk, look, need)
    except OrderDenied as denied:
        return _report(look, need, str(denied))
    except DataUnavailable as missing:
        return _report(look, need, f"DATA_MISSING: {missing}")


def _plan_and_begin(run: Run, desk: Desk, look: Look, need: Need) -> Report:
    symbols = look.sleeve.symbols
    conditions.deny_if_recent(run, first_funding=need.reason == "FIRST_FUNDING")
    is_live = any(venue.mode == "live" for venue in desk.venues.values())
    conditions.deny_unless_allowed(run, is_live=is_live)
    conditions.deny_while_busy(run.ledger, symbols)
    conditions.deny_unless_calm(run.ledger, symbols)
    found, least_variance = _plan(run, desk, look, need)
    report = _report(look, need, str(need))
    report.least_variance = least_variance
    report.skipped |= found.skipped
    if not found.trades:
        report.reason = f"NO_TRADE: {need}"
        return report
    planned = Rebalance(
        records.identity(run.ledger.pod, run.event_at),
        clock.now(),
        str(need),
        look.sleeve.weights(),
        [_planned(trade, look) for trade in found.trades],
        found.skipped,
        "SELLING",
        None,
    )
    with run.ledger.transaction():
        run.guard()
        new = records.insert(
            run.ledger,
            planned,
            equity_quote=look.sleeve.equity_quote,
            sleeve_quote=look.sleeve.size_quote,
        )
        if not new:
            raise OrderDenied("REBALANCE_EXISTS", rebalance=planned.rebalance_id)
        opened, refused = carrying.begin(run, desk, planned)
        events.record(
            run.ledger,
            "REBALANCE_PLANNED",
            {"rebalance_id": planned.rebalance_id, "reason": planned.reason, "trades": opened},
        )
    report.opened, report.skipped = opened, report.skipped | refused
    report.trades = [_exported(trade) for trade in planned.trades]
    return report


def _plan(run: Run, desk: Desk, look: Look, need: Need) -> tuple[Plan, dict[str, float]]:
    """The cheapest plan whose trades are worth their cost, within what a day may lose.

    Beside it the weights of least variance, in percent.

    Where bringing only the farthest back is worth nothing, because it offsets another, all are
    brought to their targets.
    """
    pod_symbols = {position.symbol for position in positions.open_positions(run.ledger)}
    hourly = context.hourly_candles(run, {*look.sleeve.symbols, *pod_symbols}, desk.venues)
    returns = portfolio.aligned_returns(hourly)
    exposure = context.exposure(run, hourly)
    known = markets.gather(run, desk.venues, look.quotes, look.held)
    pending = sum(exposure.pending_quote.values(), Decimal(0))
    cash = max(context.cash_quote(run) - pending, Decimal(0))
    found = Plan()
    for to_target in dict.fromkeys((need.to_target, True)):
        found = tracking.worth_their_cost(
            lambda barred, all_the_way=to_target: plan.make(  # type: ignore[misc]
                look.sleeve,
                known,
                cash_quote=cash,
                band_percent=run.config.rebalance_band_percent,
                to_target=all_the_way,
                barred=barred,
            ),
            look.sleeve,
            returns,
        )
        if found.trades:
            break
    _deny_beyond_budget(run, found, exposure.committed_quote, returns)
    least = markowitz.minimum_variance({s: returns[s] for s in look.sleeve.symbols})
    return found, {symbol: round(100 * weight, 2) for symbol, weight in least.items()}


def _deny_beyond_budget(
    run: Run,
    found: Plan,
    before: dict[str, float],
    returns: dict[str, portfolio.Array],
) -> None:
    """VaR and CVaR of everything held, with the rebalance, stay within the pod's budget.

    A rebalance that lowers both is never refused for them.
    """
    after = dict(before)
    for trade in found.trades:
        after[trade.symbol] = after.get(trade.symbol, 0.0) + float(trade.signed_quote)
    tail_before, tail = portfolio.tail_risk(before, returns), portfolio.tail_risk(after, returns)
    standing = equity.standing(run.ledger, run.config.quote_currency, clock.now_ms())
    allowed = budget.of(run.config, standing)
    grows = tail.var95_quote > tail_before.var95_quote or (
        tail.cvar95_quote > tail_before.cvar95_quote
    )
    refused = portfolio.refusals(tail_before, tail, allowed, {}, run.config.correlation_limit)
    if grows and refused:
        raise refused[0]


def _planned(trade: Trade, look: Look) -> PlannedTrade:
    price = markets.mid(look.quotes[trade.symbol])
    position = look.held.get(trade.symbol)
    planned = PlannedTrade(trade.side, trade.symbol, trade.notional_quote, price, trade.cost_quote)
    if trade.side == "buy" or position is None:
        return planned
    quantity = min(trade.notional_quote / price, position.quantity)
    return replace(planned, position_id=position.position_id, quantity=quantity)


def _carry_on(run: Run, desk: Desk, under_way: Rebalance) -> Report:
    """Wait for its orders, then begin the buys, then end it."""
    report = Report(
        needed=True,
        reason=f"{under_way.state}: {under_way.reason}",
        weights=under_way.weights,
        trades=[_exported(trade) for trade in under_way.trades],
        skipped=dict(under_way.skipped),
    )
    if records.is_working(run.ledger, under_way.rebalance_id):
        return report
    if under_way.state == "BUYING":
        carrying.finish(run, under_way)
        report.reason = f"DONE: {under_way.reason}"
        return report
    is_live = any(venue.mode == "live" for venue in desk.venues.values())
    try:
        if clock.now() - under_way.at > BUYS_WITHIN:
            raise OrderDenied("REBALANCE_LATE", planned=clock.iso(under_way.at))
        conditions.deny_unless_allowed(run, is_live=is_live)
    except OrderDenied as denied:
        carrying.end(run, under_way, str(denied))
        report.reason = f"ENDED: {denied}"
        return report
    report.opened, refused = carrying.buy(run, desk, under_way)
    report.skipped |= refused
    return report


def _report(look: Look, need: Need | None, reason: str) -> Report:
    return Report(
        needed=need is not None,
        reason=reason,
        weights=look.sleeve.weights(),
        in_cash=look.in_cash,
    )


def _exported(trade: PlannedTrade) -> Export:
    return {
        "side": trade.side,
        "symbol": trade.symbol,
        "notional_quote": float(trade.notional_quote),
        "cost_quote": float(trade.cost_quote),
    }
''')


###################################################################################################
_LOADER.modules["shared.risk.core.records"] = ("shared/risk/core/records.py", r'''"""Rebalances in the ledger: planned once, carried out over minutes, ended once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from shared import clock
from shared.execution.types import Side
from shared.ledger.connection import Ledger, json

State = Literal["SELLING", "BUYING", "DONE", "ENDED"]

LOCKED = timedelta(days=7)
"""After a stop or another exit by risk the sleeve buys the symbol again only then: what has fallen
by a fifth is not bought back at once because it is below its target."""

_CARRIED_OUT_SHARE = Decimal("0.5")
"""Of a trade's planned notional. A whole one stays a little under its plan too: its slices are
rounded down to lots, and sized at the worst price of the collar."""

_ATTEMPTS = """
SELECT r.at, bool_and(coalesce(filled.quote, 0) >=
                      %(share)s * (planned.trade->>'notional_quote')::numeric) AS is_carried_out
FROM rebalances r
CROSS JOIN LATERAL jsonb_array_elements(r.trades) AS planned(trade)
CROSS JOIN LATERAL (
    SELECT sum(f.price * f.quantity) AS quote FROM intents i JOIN fills f USING (intent_id)
    WHERE i.pod = r.pod AND i.symbol = planned.trade->>'symbol' AND i.sent_at >= r.at
      AND i.parent_id = concat_ws(':', r.rebalance_id, planned.trade->>'side',
                                  planned.trade->>'symbol')
) AS filled
WHERE r.pod = %(pod)s AND r.at > %(since)s
GROUP BY r.rebalance_id, r.at ORDER BY r.at DESC
"""

_COLUMNS = "rebalance_id, at, reason, weights, trades, skipped, state, ended_reason"


@dataclass(frozen=True)
class PlannedTrade:
    """One trade of a rebalance, as it was planned. ``quantity`` is set for a sale."""

    side: Side
    symbol: str
    notional_quote: Decimal
    mid: Decimal
    cost_quote: Decimal
    position_id: int | None = None
    quantity: Decimal | None = None

    def as_json(self) -> dict[str, Any]:
        return dict(vars(self))

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> PlannedTrade:
        numbers = ("notional_quote", "mid", "cost_quote", "quantity")
        exact = {name: Decimal(row[name]) for name in numbers if row[name] is not None}
        return cls(**(row | exact))


@dataclass(frozen=True)
class Rebalance:
    """One row. ``weights`` are those before it."""

    rebalance_id: str
    at: datetime
    reason: str
    weights: dict[str, dict[str, float]]
    trades: list[PlannedTrade]
    skipped: dict[str, str]
    state: State
    ended_reason: str | None

    def of_side(self, side: Side) -> list[PlannedTrade]:
        return [trade for trade in self.trades if trade.side == side]


@dataclass(frozen=True)
class Attempt:
    """When a rebalance was planned, and whether each of its trades was filled by half or more."""

    at: datetime
    is_carried_out: bool


def identity(pod: str, event_at: datetime) -> str:
    """A repeat of the run finds the rebalance that it has planned."""
    return f"rebalance:{pod}:{clock.iso(event_at)}"


def parent_id(rebalance_id: str, trade: PlannedTrade) -> str:
    return f"{rebalance_id}:{trade.side}:{trade.symbol}"


def insert(
    ledger: Ledger,
    rebalance: Rebalance,
    *,
    equity_quote: Decimal,
    sleeve_quote: Decimal,
) -> bool:
    """Write the plan; ``False`` where it was written before, or another is being carried out."""
    changed = ledger.execute(
        "INSERT INTO rebalances (rebalance_id, pod, at, reason, equity_quote, sleeve_quote, "
        "weights, trades, skipped, state) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) "
        "ON CONFLICT DO NOTHING",
        (
            rebalance.rebalance_id,
            ledger.pod,
            rebalance.at,
            rebalance.reason,
            equity_quote,
            sleeve_quote,
            json(rebalance.weights),
            json([trade.as_json() for trade in rebalance.trades]),
            json(rebalance.skipped),
            rebalance.state,
        ),
    )
    return changed == 1


def under_way(ledger: Ledger) -> Rebalance | None:
    """The rebalance that is being carried out."""
    row = ledger.one(
        f"SELECT {_COLUMNS} FROM rebalances "  # noqa: S608 our own names
        "WHERE pod = %s AND state IN ('SELLING', 'BUYING')",
        (ledger.pod,),
    )
    if row is None:
        return None
    trades = [PlannedTrade.from_json(trade) for trade in row["trades"]]
    return Rebalance(**(row | {"trades": trades}))


def attempts(ledger: Ledger, since: datetime) -> list[Attempt]:
    """The rebalances that were planned after ``since``, newest first."""
    rows = ledger.query(_ATTEMPTS, {"pod": ledger.pod, "since": since, "share": _CARRIED_OUT_SHARE})
    return [Attempt(**row) for row in rows]


def advance(ledger: Ledger, rebalance_id: str, state: State, reason: str | None = None) -> None:
    """Move on; ``DONE`` and ``ENDED`` take the reason and are never left."""
    over = state in ("DONE", "ENDED")
    ledger.execute(
        "UPDATE rebalances SET state = %s, ended_at = %s, ended_reason = %s "
        "WHERE pod = %s AND rebalance_id = %s AND state IN ('SELLING', 'BUYING')",
        (state, clock.now() if over else None, reason if over else None, ledger.pod, rebalance_id),
    )


def is_working(ledger: Ledger, rebalance_id: str) -> bool:
    """Whether a parent of the rebalance still wants something."""
    row = ledger.one(
        "SELECT 1 FROM parent_orders WHERE pod = %s AND state = 'WORKING' "
        "AND starts_with(parent_id, %s)",
        (ledger.pod, f"{rebalance_id}:"),
    )
    return row is not None


def traded_quote(ledger: Ledger, rebalance_id: str) -> dict[Side, Decimal]:
    """What its orders have really sold and bought, in quote, without fees."""
    rows = ledger.query(
        "SELECT f.side, sum(f.price * f.quantity) AS quote FROM parent_orders p "
        "JOIN intents i USING (parent_id) JOIN fills f USING (intent_id) "
        "WHERE p.pod = %s AND starts_with(p.parent_id, %s) GROUP BY f.side",
        (ledger.pod, f"{rebalance_id}:"),
    )
    nothing: dict[Side, Decimal] = {"sell": Decimal(0), "buy": Decimal(0)}
    return nothing | {row["side"]: row["quote"] for row in rows}


def locked(ledger: Ledger) -> dict[str, str]:
    """Symbols that the sleeve does not buy now, with the reason: an exit that is not long ago.

    Whatever ended a core position but a rebalance locks it.
    """
    rows = ledger.query(
        "SELECT symbol, max(closed_at) AS closed_at, "
        "bool_or(closed_at IS NULL) AS is_leaving FROM positions "
        "WHERE pod = %(pod)s AND sleeve = 'core' AND ("
        "  closed_at > %(since)s AND close_reason NOT IN ('sold', 'not filled') "
        "  OR closed_at IS NULL AND exit_reason IS NOT NULL) GROUP BY symbol",
        {"pod": ledger.pod, "since": clock.now() - LOCKED},
    )
    return {
        row["symbol"]: "LEAVING: it is being sold"
        if row["is_leaving"]
        else f"LOCKED: left on {clock.iso(row['closed_at'])}, bought again after 7 days"
        for row in rows
    }
''')


###################################################################################################
_LOADER.modules["shared.risk.core.sleeve"] = ("shared/risk/core/sleeve.py", r'''"""The core sleeve at one moment: what it holds, what it should, and whether that is far off."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

Reason = Literal["CLOSED", "FIRST_FUNDING", "WEIGHT_OFF", "SLEEVE_OFF"]


@dataclass(frozen=True)
class Need:
    """Why the sleeve is to be rebalanced. Weights in percent."""

    reason: Reason
    detail: str

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"

    @property
    def to_target(self) -> bool:
        """Whether every symbol is brought to its target, and not only those outside the band."""
        return self.reason != "WEIGHT_OFF"


@dataclass(frozen=True)
class Sleeve:
    """Values at mids, in quote currency; weights in percent of the sleeve.

    The sleeve is ``share_percent`` of the equity, invested or not: so a symbol that was stopped
    out, or is not in the universe, is cash of the sleeve and makes no other symbol larger.

    Attributes:
        values_quote: what is held by symbol.
        targets_percent: by symbol; absent is 0.
    """

    equity_quote: Decimal
    share_percent: Decimal
    values_quote: dict[str, Decimal]
    targets_percent: dict[str, Decimal]

    @property
    def size_quote(self) -> Decimal:
        return self.equity_quote * self.share_percent / 100

    @property
    def held_quote(self) -> Decimal:
        return sum(self.values_quote.values(), Decimal(0))

    @property
    def symbols(self) -> list[str]:
        """Everything held or wanted, targets first."""
        held = [symbol for symbol in self.values_quote if symbol not in self.targets_percent]
        return [*self.targets_percent, *held]

    def value_quote(self, symbol: str) -> Decimal:
        return self.values_quote.get(symbol, Decimal(0))

    def target_quote(self, symbol: str) -> Decimal:
        return self.size_quote * self.targets_percent.get(symbol, Decimal(0)) / 100

    def off_quote(self, symbol: str) -> Decimal:
        """How much more of it is held than the target; negative is too little."""
        return self.value_quote(symbol) - self.target_quote(symbol)

    def weight_percent(self, symbol: str) -> Decimal:
        """Of the sleeve; of what is held, where the sleeve is to be no more."""
        whole = self.size_quote or self.held_quote
        return 100 * self.value_quote(symbol) / whole if whole else Decimal(0)

    def weights(self) -> dict[str, dict[str, float]]:
        """By symbol, as exported and kept."""
        return {
            symbol: {
                "current": round(float(self.weight_percent(symbol)), 4),
                "target": round(float(self.targets_percent.get(symbol, Decimal(0))), 4),
            }
            for symbol in self.symbols
        }

    def need(self, band_percent: Decimal) -> Need | None:
        """Why it is to be rebalanced, or ``None`` while everything is within the band.

        Args:
            band_percent: points of the sleeve for a symbol, points of the equity for the sleeve.
        """
        held = self.held_quote
        wanted = sum((self.target_quote(symbol) for symbol in self.symbols), Decimal(0))
        if wanted == 0:
            return Need("CLOSED", "no core sleeve is configured") if held > 0 else None
        if held == 0:
            return Need("FIRST_FUNDING", f"sleeve={self.size_quote:.2f}")
        farthest = max(self.symbols, key=lambda symbol: abs(self.off_quote(symbol)))
        if abs(self.off_quote(farthest)) * 100 >= band_percent * self.size_quote:
            current = self.weight_percent(farthest)
            target = self.targets_percent.get(farthest, Decimal(0))
            return Need(
                "WEIGHT_OFF", f"symbol={farthest}, current={current:.2f}, target={target:.2f}"
            )
        if abs(held - wanted) * 100 >= band_percent * self.equity_quote:
            current, target = (100 * part / self.equity_quote for part in (held, wanted))
            return Need("SLEEVE_OFF", f"current={current:.2f}, target={target:.2f} of the equity")
        return None
''')


###################################################################################################
_LOADER.modules["shared.risk.core.targets"] = ("shared/risk/core/targets.py", r'''"""What the core sleeve is to hold, in percent of the sleeve, and how far each symbol may go.

The sleeve is ``CORE_SLEEVE_PERCENT`` of the equity. A weight that finds no symbol to be held in
stays in cash: it is not given to the others, which would make them larger than was asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal

from shared.config import OTHERS, Config

MAX_OTHERS = 5
"""How many symbols share the weight of OTHERS at most: thinner shares fall below the minimums of
venues, and each brings a stop and a spread of its own."""


@dataclass(frozen=True)
class Targets:
    """The weights to be held, by symbol, in percent of the sleeve.

    Attributes:
        in_cash: what of the configured weights is held by nobody, and why, one line each.
    """

    percents: dict[str, Decimal]
    in_cash: tuple[str, ...] = ()


def choose(config: Config, buyable: Sequence[str], held: Collection[str] = ()) -> Targets:
    """The targets in a universe.

    The weight of OTHERS is split evenly over at most ``MAX_OTHERS`` symbols without a weight of
    their own: those that the sleeve holds already come first, then the universe's order. So a
    universe that is put in another order by a day's turnover makes no trade.

    Args:
        buyable: the run's universe, in its order.
        held: the symbols that the core sleeve holds now.
    """
    percents: dict[str, Decimal] = {}
    in_cash: list[str] = []
    own = _own_symbols(config)
    for symbol, percent in own.items():
        if symbol in buyable:
            percents[symbol] = percent
        else:
            in_cash.append(f"{symbol}: {percent:f} % stays in cash, it is not in the universe")
    shared_percent = _others_percent(config)
    if shared_percent > 0:
        others = [symbol for symbol in buyable if symbol not in own]
        others.sort(key=lambda symbol: symbol not in held)  # stable: else the universe's order
        others = others[:MAX_OTHERS]
        percents |= {symbol: shared_percent / len(others) for symbol in others}
        if not others:
            in_cash.append(f"{OTHERS}: {shared_percent:f} % stays in cash, there are no others")
    return Targets(percents, tuple(in_cash))


def limit_percent(config: Config, buyable: Sequence[str], symbol: str) -> Decimal:
    """How much of the sleeve a symbol may be at most: its target and the band.

    0 for a symbol that the sleeve does not buy at all.
    """
    own = _own_symbols(config)
    target = own.get(symbol, Decimal(0))
    if symbol not in own:
        others = sum(other not in own for other in buyable)
        target = _others_percent(config) / min(max(others, 1), MAX_OTHERS)
    if symbol not in buyable or target == 0:
        return Decimal(0)
    return target + config.rebalance_band_percent


def _own_symbols(config: Config) -> dict[str, Decimal]:
    quote = config.quote_currency
    return {f"{name}/{quote}": share for name, share in config.core_weights if name != OTHERS}


def _others_percent(config: Config) -> Decimal:
    return dict(config.core_weights).get(OTHERS, Decimal(0))
''')


###################################################################################################
_LOADER.modules["shared.risk.core.tracking"] = ("shared/risk/core/tracking.py", r'''"""How far the sleeve may stray from its targets, in money: what a rebalance is worth.

The ex-ante tracking error is the standard deviation of the difference between what is held and
what should be held: ``sqrt(d' C d)``, with ``d`` the differences in quote currency and ``C`` the
covariance of returns (Roll, "A mean/variance analysis of tracking error", Journal of Portfolio
Management 18, 1992). Here it is that of the ``HORIZON_HOURS`` until the next rebalance may come.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from shared.risk import portfolio
from shared.risk.core.plan import Plan, Trade
from shared.risk.core.sleeve import Sleeve
from shared.risk.portfolio import Array

HORIZON_HOURS = 24


def error_quote(sleeve: Sleeve, trades: Sequence[Trade], returns: Mapping[str, Array]) -> float:
    """The tracking error of the sleeve after ``trades``: one standard deviation, in quote.

    Args:
        returns: hourly, over the same hours, of every symbol that is held or wanted.
    """
    symbols = sleeve.symbols
    off = {symbol: float(sleeve.off_quote(symbol)) for symbol in symbols}
    for trade in trades:
        off[trade.symbol] += float(trade.signed_quote)
    covariance = portfolio.ledoit_wolf(np.array([returns[s] for s in symbols]).T).covariance
    apart = np.array([off[symbol] for symbol in symbols])
    return math.sqrt(max(float(apart @ covariance @ apart), 0.0) * HORIZON_HOURS)


def worth_their_cost(
    replan: Callable[[Sequence[str]], Plan], sleeve: Sleeve, returns: Mapping[str, Array]
) -> Plan:
    """The plan without the trades that cost as much as they take from the tracking error, or more.

    A trade is judged by what the error would be without it. The one that is worth least goes
    first, and the rest is planned anew, because it may have paid for another.

    Args:
        replan: the plan that does not trade the given symbols.
    """
    dropped: dict[str, str] = {}
    while True:
        plan = replan(list(dropped))
        gains = {trade: _gain_quote(trade, plan, sleeve, returns) for trade in plan.trades}
        lost = {t: gain - float(t.cost_quote) for t, gain in gains.items()}
        worst = min(lost, key=lambda trade: lost[trade], default=None)
        if worst is None or lost[worst] > 0:
            return Plan(plan.trades, plan.skipped | dropped)
        dropped[worst.symbol] = (
            f"COST: {worst.side} {worst.notional_quote:.2f} costs {worst.cost_quote:.4f}, "
            f"tracking error falls by {gains[worst]:.4f}"
        )


def _gain_quote(trade: Trade, plan: Plan, sleeve: Sleeve, returns: Mapping[str, Array]) -> float:
    others = [other for other in plan.trades if other is not trade]
    return error_quote(sleeve, others, returns) - error_quote(sleeve, plan.trades, returns)
''')


###################################################################################################
_LOADER.modules["shared.risk.exit_rules"] = ("shared/risk/exit_rules.py", r'''"""When an open position is left: one pure function over a position and what was seen since.

Precedence, the first that holds: stop, risk, trailing, target, time, technical. A stop comes
before a target that the same candle touched, because nobody knows which came first and the loss
is the safe assumption. One order is known: the bid is younger than every candle. So a candle whose
high raises the trailing stop above the bid is left at once; and where that high has reached the
target too, the target came first, since the price fell from there.

A position of the core sleeve is held for its weight: it is left for stop and risk alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

from shared.ledger.positions import Position
from shared.market.types import Quote
from shared.risk.exits import trailing_stop

Reason = Literal["stop", "risk", "trailing", "target", "time", "technical"]
PRECEDENCE: tuple[Reason, ...] = ("stop", "risk", "trailing", "target", "time", "technical")


@dataclass(frozen=True)
class Seen:
    """The lowest and highest trade since the last look, all of it after the entry.

    ``low`` counts against the stop: lows from before the stop was raised to where it is are left
    out, unless they had reached the stop of their own time. It is infinite where none is left.
    """

    low: float
    high: float


@dataclass(frozen=True)
class Momentum:
    """The trend on hourly candles, newest values: averages and the MACD histogram, in quote."""

    ema_9: float
    ema_21: float
    macd_histogram: float
    macd_histogram_previous: float

    @property
    def is_lost(self) -> bool:
        """The short average is under the long one, and the histogram is negative and falling."""
        falling = self.macd_histogram < self.macd_histogram_previous
        return self.ema_9 < self.ema_21 and self.macd_histogram < 0 and falling


@dataclass(frozen=True)
class ExitSignal:
    """Why to leave, the price that was crossed if there is one, and what was seen."""

    reason: Reason
    trigger: float | None
    seen: float | None


def decide_exit(
    position: Position,
    quote: Quote,
    *,
    now: datetime,
    seen: Seen | None = None,
    risk: bool = False,
    momentum: Momentum | None = None,
) -> ExitSignal | None:
    """Whether to leave, by the executable price (the bid) and the extremes since the last look.

    Args:
        position: held, that is with an entry price.
        seen: ``None`` where no whole candle lies between the last look and now.
        risk: everything is to be closed, whatever this position does.
        momentum: ``None`` where the averages are not known; then there is no technical exit.
    """
    lowest = quote.bid if seen is None else min(quote.bid, seen.low)
    highest = quote.bid if seen is None else max(quote.bid, seen.high)
    stop = float(position.stop_price)
    is_trailing = _has_trailed(position)
    if lowest <= stop and not is_trailing:
        return ExitSignal("stop", stop, lowest)
    if risk:
        return ExitSignal("risk", None, quote.bid)
    if lowest <= stop:
        # A stop that has been raised above the entry is the trailing stop doing its work.
        return ExitSignal("trailing", stop, lowest)
    if position.sleeve == "core":
        return None
    if position.target_price is not None and highest >= float(position.target_price):
        return ExitSignal("target", float(position.target_price), highest)
    raised = raised_stop(position, Decimal(repr(float(highest))))
    if raised is not None and quote.bid <= float(raised):
        return ExitSignal("trailing", float(raised), quote.bid)
    if position.time_stop_at is not None and now >= position.time_stop_at:
        return ExitSignal("time", None, quote.bid)
    if momentum is not None and momentum.is_lost:
        return ExitSignal("technical", momentum.ema_21, momentum.ema_9)
    return None


def raised_stop(position: Position, high: Decimal) -> Decimal | None:
    """The trailing stop that ``high`` asks for, or ``None`` where it would not tighten.

    It is active once the high has reached the activation price, and then for good.
    """
    activation, distance = position.trailing_activation_price, position.trailing_distance_percent
    if activation is None or distance is None:
        return None
    highest = high if position.high_water_price is None else max(high, position.high_water_price)
    if highest < activation:
        return None
    stop = trailing_stop(highest, distance)
    return stop if stop > position.stop_price else None


def _has_trailed(position: Position) -> bool:
    activation, high = position.trailing_activation_price, position.high_water_price
    return activation is not None and high is not None and high >= activation
''')


###################################################################################################
_LOADER.modules["shared.risk.exits"] = ("shared/risk/exits.py", r'''"""Where a new position is to be left again: stop, target, trailing stop, time stop.

With ``EXIT_SCALING=fixed`` the configured percentages hold as they stand. With ``volatility`` the
distances of stop, target and trailing stop grow and shrink together with the symbol's current
volatility, so that a stop is as seldom met by noise in a wild week as in a quiet one. The time
stop stays. A wider stop is no larger risk, because sizing divides by ``stop_distance_percent``.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from shared import clock
from shared.config import MAX_EXIT_SCALE, Config
from shared.errors import DataUnavailable
from shared.execution.types import Exits
from shared.market.types import TIMEFRAME_MS, Candles

REFERENCE_VOLATILITY_PERCENT = 60.0
"""Annualised volatility at which the configured percentages hold: that of a large coin in an
ordinary year, and the one from which sizing shrinks."""

MIN_EXIT_SCALE = Decimal("0.5")  # nearer, and the spread and an ordinary minute would meet the stop
GAP_MULTIPLE = Decimal(3)
"""How many stop distances a price that jumps over the stop is taken to cost."""

_CURRENT_HOURS = 72  # long enough for a spread of +-8 % in the estimate, short enough to be current
_MINIMUM_HOURS = 48
_HOURS_PER_YEAR = 24 * 365
_CENT_OF_A_CENT = Decimal("0.00000001")


@dataclass(frozen=True)
class EntryExits(Exits):
    """The exits of a position that is still to be entered.

    Attributes:
        entry_price: the mid that the prices were reckoned from, in quote currency.
        scale: by how much the configured percentages were stretched, 1 where they hold as they are.
    """

    entry_price: Decimal
    scale: Decimal

    @property
    def stop_distance_percent(self) -> Decimal:
        """How far the stop lies below the entry: what a unit of notional loses at the stop."""
        return 100 * (self.entry_price - self.stop_price) / self.entry_price


def for_entry(
    config: Config, mid: Decimal, now_ms: int, *, volatility_ratio: float | None = None
) -> EntryExits:
    """The exits of a position that is entered around ``mid``, from the configured percentages.

    Args:
        volatility_ratio: the symbol's current volatility over the reference, see
            ``volatility_ratio``; only looked at where ``EXIT_SCALING`` is ``volatility``.

    Raises:
        DataUnavailable: the mid is no price, or the exits scale with a volatility that is missing.
    """
    if not (mid.is_finite() and mid > 0):
        raise DataUnavailable(f"mid: expected a price above 0, was {mid}")
    scale = _scale(config, volatility_ratio)
    return EntryExits(
        stop_price=_moved(mid, -config.stop_loss_percent * scale),
        target_price=_moved(mid, config.take_profit_percent * scale),
        trailing_activation_price=_moved(mid, config.trailing_activation_percent * scale),
        trailing_distance_percent=config.trailing_distance_percent * scale,
        time_stop_at=clock.from_ms(now_ms) + timedelta(hours=config.time_stop_hours),
        entry_price=mid,
        scale=scale,
    )


def volatility_ratio(hourly: Candles) -> float:
    """The volatility of the last three days over the reference, both annualised.

    It is the sample deviation of hourly returns; one across a missing hour is not counted.

    Raises:
        DataUnavailable: fewer than 48 returns are known in those days, or the price never moved.
    """
    opens, closes = hourly.open_ms[-_CURRENT_HOURS - 1 :], hourly.close[-_CURRENT_HOURS - 1 :]
    returns = [
        float(closes[n] / closes[n - 1] - 1)
        for n in range(1, len(closes))
        if opens[n] - opens[n - 1] == TIMEFRAME_MS["1h"]
    ]
    if len(returns) < _MINIMUM_HOURS:
        raise DataUnavailable(
            f"hourly returns of {hourly.symbol}: expected at least {_MINIMUM_HOURS}, "
            f"found {len(returns)}"
        )
    deviation = statistics.stdev(returns)
    if not deviation > 0:
        raise DataUnavailable(f"volatility of {hourly.symbol}: expected above 0, was {deviation}")
    return 100 * deviation * math.sqrt(_HOURS_PER_YEAR) / REFERENCE_VOLATILITY_PERCENT


def as_export(exits: Exits) -> dict[str, object]:
    """The shape of ``steps.risk_management``'s export."""
    return {
        "stopLoss": float(exits.stop_price),
        "takeProfit": float(exits.target_price),
        "trailingStop": {
            "enabled": True,
            "activation": float(exits.trailing_activation_price),
            "distance_percent": float(exits.trailing_distance_percent),
        },
        "timeStop": clock.to_ms(exits.time_stop_at),
    }


def trailing_stop(high_water: Decimal, distance_percent: Decimal) -> Decimal:
    """The stop that follows a high at ``distance_percent`` below it."""
    return _moved(high_water, -distance_percent)


def _scale(config: Config, ratio: float | None) -> Decimal:
    """The ratio within its bounds: a stop is never nearer than half of what is configured, and
    never wider than two and a half times."""
    if config.exit_scaling == "fixed":
        return Decimal(1)
    if ratio is None or not math.isfinite(ratio) or ratio <= 0:
        raise DataUnavailable(f"volatility_ratio: expected a number above 0, was {ratio}")
    return min(max(Decimal(repr(float(ratio))), MIN_EXIT_SCALE), MAX_EXIT_SCALE)


def _moved(price: Decimal, percent: Decimal) -> Decimal:
    return (price * (100 + percent) / 100).quantize(_CENT_OF_A_CENT)
''')


###################################################################################################
_LOADER.modules["shared.risk.facts"] = ("shared/risk/facts.py", r'''"""What the gate has to know about the ledger, fetched in one round trip."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from shared import clock
from shared.execution.types import Mode, OrderTicket
from shared.ledger import events
from shared.run import Run

RUN_LIMIT = timedelta(seconds=60)
"""The platform kills a cron run after this: who sent an order earlier will never hear of it."""

# An order counts at full size while nobody knows what became of it, with its unfilled rest while
# it rests on the venue, and with what the venue has filled but the ledger has not recorded yet.
# What rests in a symbol is counted by account, as venues do: over the pods that share it, in the
# way that the order would go. On paper a pod is alone.
_FACTS = """
WITH pending AS MATERIALIZED (
    SELECT position_id, symbol, venue, side, order_type, limit_price, quantity, true AS unresolved,
           purpose = 'protect' AND (state = 'UNKNOWN' OR sent_at <= %(run_died_before)s)
               AS unknown_stop
    FROM intents
    WHERE pod = %(pod)s AND state IN ('SENDING', 'UNKNOWN')
      AND client_order_id <> %(client_order_id)s
    UNION ALL
    SELECT i.position_id, i.symbol, i.venue, i.side, i.order_type, i.limit_price,
           o.quantity - o.filled_quantity, false, false
    FROM orders o JOIN intents i USING (intent_id)
    WHERE o.pod = %(pod)s AND o.status = 'open' AND i.state NOT IN ('SENDING', 'UNKNOWN')
    UNION ALL
    SELECT i.position_id, i.symbol, i.venue, i.side, i.order_type, i.limit_price,
           o.filled_quantity - recorded.quantity, false, false
    FROM intents i JOIN orders o USING (intent_id)
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(f.quantity), 0) AS quantity FROM fills f
        WHERE f.position_id = i.position_id AND f.intent_id = i.intent_id
    ) AS recorded
    WHERE i.pod = %(pod)s AND i.sent_at > %(now)s - interval '1 hour'
      AND o.filled_quantity > recorded.quantity
),
family AS (SELECT coalesce((SELECT base FROM pods WHERE pod = %(pod)s), %(pod)s) AS base),
account AS MATERIALIZED (
    SELECT %(pod)s AS pod
    UNION SELECT base FROM family WHERE %(mode)s <> 'paper'
    UNION SELECT p.pod FROM pods p JOIN family USING (base) WHERE %(mode)s <> 'paper'
),
resting AS MATERIALIZED (
    SELECT i.position_id, i.order_type
    FROM intents i JOIN account USING (pod)
    WHERE i.state IN ('SENDING', 'UNKNOWN') AND i.client_order_id <> %(client_order_id)s
      AND i.venue = %(venue)s AND i.symbol = %(symbol)s AND coalesce(i.mode, %(mode)s) = %(mode)s
    UNION ALL
    SELECT i.position_id, i.order_type
    FROM orders o JOIN account USING (pod) JOIN intents i USING (intent_id)
    WHERE o.status = 'open' AND i.state NOT IN ('SENDING', 'UNKNOWN')
      AND i.venue = %(venue)s AND i.symbol = %(symbol)s AND coalesce(i.mode, %(mode)s) = %(mode)s
),
own AS MATERIALIZED (
    SELECT sleeve FROM positions WHERE pod = %(pod)s AND position_id = %(position_id)s
),
held AS MATERIALIZED (
    SELECT p.position_id, p.symbol, p.sleeve = (SELECT sleeve FROM own) AS same_sleeve,
           bought.quantity, coalesce(quoted.mid, bought.entry) AS mid
    FROM positions p
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(CASE f.side WHEN 'buy' THEN f.quantity ELSE -f.quantity END
                            - CASE WHEN f.fee_currency = split_part(f.symbol, '/', 1)
                                   THEN f.fee_cost ELSE 0 END), 0) AS quantity,
               sum(f.price * f.quantity) FILTER (WHERE f.side = 'buy')
                   / sum(f.quantity) FILTER (WHERE f.side = 'buy') AS entry
        FROM fills f WHERE f.position_id = p.position_id
    ) AS bought
    LEFT JOIN LATERAL (
        SELECT max((bid + ask) / 2) AS mid FROM prices q
        WHERE q.pod = p.pod AND q.symbol = p.symbol AND q.at > %(now)s - interval '10 minutes'
    ) AS quoted ON true
    WHERE p.pod = %(pod)s AND p.closed_at IS NULL
)
SELECT h.*, p.*, o.*, r.*, m.*, (SELECT sleeve FROM own) AS sleeve,
    (SELECT started_at FROM runs WHERE run_id = %(run_id)s) AS run_started_at,
    (SELECT quantity FROM position_holdings
     WHERE position_id = %(position_id)s AND venue = %(venue)s) AS held_on_venue,
    (SELECT amount FROM balances
     WHERE pod = %(pod)s AND venue = %(venue)s AND currency = %(quote)s) AS venue_cash_quote,
    (SELECT array_agg((bid + ask) / 2) FROM prices
     WHERE pod = %(pod)s AND symbol = %(symbol)s AND venue <> %(venue)s
       AND at BETWEEN %(now)s - interval '90 seconds' AND %(now)s + interval '1 second')
        AS other_venue_mids
FROM (
    SELECT max(symbol) FILTER (WHERE position_id = %(position_id)s) AS position_symbol,
           coalesce(sum(quantity) FILTER (WHERE same_sleeve AND symbol = %(symbol)s), 0)
               AS symbol_held_quantity,
           coalesce(sum(quantity * mid) FILTER (WHERE same_sleeve AND symbol <> %(symbol)s), 0)
               AS others_held_quote,
           coalesce(sum(quantity * mid) FILTER (WHERE NOT same_sleeve), 0)
               AS other_sleeve_held_quote,
           count(*) FILTER (WHERE same_sleeve AND position_id <> %(position_id)s)
               AS other_positions
    FROM held
) h
CROSS JOIN (
    SELECT coalesce(sum(notional) FILTER (WHERE buys AND same_sleeve AND symbol = %(symbol)s), 0)
               AS symbol_pending_buy_quote,
           coalesce(sum(notional) FILTER (WHERE buys AND same_sleeve AND symbol <> %(symbol)s), 0)
               AS others_pending_buy_quote,
           coalesce(sum(notional) FILTER (WHERE buys AND NOT same_sleeve), 0)
               AS other_sleeve_pending_buy_quote,
           coalesce(sum(notional) FILTER (WHERE buys AND venue = %(venue)s), 0)
               AS venue_pending_buy_quote,
           count(*) FILTER (WHERE unresolved AND symbol = %(symbol)s) AS unresolved,
           coalesce(sum(quantity) FILTER (WHERE NOT buys AND venue = %(venue)s
                                          AND position_id = %(position_id)s), 0)
               AS pending_sell_quantity,
           coalesce(sum(quantity) FILTER (WHERE unknown_stop AND venue = %(venue)s
                                          AND position_id = %(position_id)s), 0)
               AS unknown_stop_quantity,
           count(*) FILTER (
               WHERE NOT unresolved AND venue = %(venue)s AND symbol = %(symbol)s
                 AND side <> %(side)s AND order_type NOT IN ('stop_limit', 'stop_market')
                 AND CASE WHEN buys THEN limit_price >= %(limit_price)s
                          ELSE limit_price <= %(limit_price)s END) AS opposing
    FROM (SELECT pending.*, side = 'buy' AS buys, quantity * limit_price AS notional,
                 p.sleeve = (SELECT sleeve FROM own) AS same_sleeve
          FROM pending JOIN positions p USING (position_id)) q
) p
CROSS JOIN (
    SELECT count(*) AS orders_last_hour,
           count(*) FILTER (WHERE sent_at > %(now)s - interval '1 minute') AS orders_last_minute,
           count(*) FILTER (WHERE purpose = 'protect') AS stops_last_hour,
           count(*) FILTER (WHERE purpose = 'protect'
                              AND sent_at > %(now)s - interval '1 minute') AS stops_last_minute
    FROM intents WHERE pod = %(pod)s AND sent_at > %(now)s - interval '1 hour'
      AND client_order_id <> %(client_order_id)s
) o
CROSS JOIN (
    SELECT count(*) AS resting_orders,
           count(*) FILTER (WHERE order_type IN ('stop_limit', 'stop_market')) AS resting_stops,
           count(*) FILTER (WHERE order_type IN ('stop_limit', 'stop_market')
                              AND position_id = %(position_id)s) AS own_resting_stops
    FROM resting
) r
CROSS JOIN (
    SELECT count(*) AS messages_last_hour,
           count(*) FILTER (WHERE at > %(now)s - interval '1 minute') AS messages_last_minute,
           count(*) FILTER (WHERE symbol = %(symbol)s) AS symbol_messages_last_hour,
           count(*) FILTER (WHERE symbol = %(symbol)s AND at > %(now)s - interval '1 minute')
               AS symbol_messages_last_minute
    FROM (
        SELECT sent_at AS at, symbol FROM intents
        WHERE pod = %(pod)s AND sent_at > %(now)s - interval '1 hour'
          AND client_order_id <> %(client_order_id)s
        UNION ALL
        SELECT at, detail ->> 'symbol' FROM events
        WHERE pod = %(pod)s AND kind = %(cancel_sent)s AND at > %(now)s - interval '1 hour'
    ) sent
) m
"""


@dataclass(frozen=True)
class Facts:
    """The state of the book of this pod at the moment of one order. Money in quote currency.

    ``None`` where the ledger holds nothing on the subject; the gate decides what that means.

    Attributes:
        sleeve: of the order's position. ``symbol_`` and ``others_`` are of this sleeve, of the
            order's symbol and of all others; ``other_sleeve_`` is everything in the other sleeve.
        other_positions: of this sleeve.
        unknown_stop_quantity: of ``pending_sell_quantity``, what belongs to protective stops that
            may or may not rest: their run has heard no answer, or is dead.
        stops_last_hour, stops_last_minute: how many of the orders were protective stops.
        resting_orders: of the account in the order's symbol on its venue, what rests and what may.
        resting_stops: how many of these are stops; ``own_resting_stops`` of the order's position.
        messages_last_hour, messages_last_minute: orders of every kind and cancels, as they were
            sent; ``symbol_`` of the order's symbol.
    """

    run_started_at: datetime | None
    position_symbol: str | None
    sleeve: Literal["tactical", "core"] | None
    symbol_held_quantity: Decimal
    others_held_quote: Decimal
    other_sleeve_held_quote: Decimal
    other_positions: int
    symbol_pending_buy_quote: Decimal
    others_pending_buy_quote: Decimal
    other_sleeve_pending_buy_quote: Decimal
    venue_pending_buy_quote: Decimal
    unresolved: int
    pending_sell_quantity: Decimal
    unknown_stop_quantity: Decimal
    opposing: int
    held_on_venue: Decimal | None
    venue_cash_quote: Decimal | None
    orders_last_hour: int
    orders_last_minute: int
    stops_last_hour: int
    stops_last_minute: int
    resting_orders: int
    resting_stops: int
    own_resting_stops: int
    messages_last_hour: int
    messages_last_minute: int
    symbol_messages_last_hour: int
    symbol_messages_last_minute: int
    other_venue_mids: list[Decimal] | None


def fetch(run: Run, ticket: OrderTicket, position_id: int, now_ms: int, mode: Mode) -> Facts:
    """Read the facts for ``ticket`` inside the caller's transaction.

    Args:
        mode: where the order would end.
    """
    row = run.ledger.one(
        _FACTS,
        {
            "pod": run.ledger.pod,
            "run_id": run.run_id,
            "position_id": position_id,
            "client_order_id": ticket.client_order_id,
            "symbol": ticket.symbol,
            "venue": ticket.venue,
            "side": ticket.side,
            "limit_price": ticket.limit_price,
            "quote": run.config.quote_currency,
            "now": clock.from_ms(now_ms),
            "mode": mode,
            "cancel_sent": events.CANCEL_SENT,
            "run_died_before": clock.from_ms(now_ms) - RUN_LIMIT,
        },
    )
    if row is None:  # a SELECT without FROM always has its row
        raise AssertionError("facts: expected one row")
    return Facts(**row)
''')


###################################################################################################
_LOADER.modules["shared.risk.gate"] = ("shared/risk/gate.py", r'''"""The last look at an order before it may exist: every order passes ``check``, or is never sent.

``check`` runs inside the transaction that writes the intent, after ``run.guard()``. It holds the
trading state row, so that a halt either comes before the order and stops it or waits until the
intent is committed; so does the order of another workflow, which then finds this one's intent.
One function is one control; ``CONTROLS`` is the order in which they run. Whatever a control needs
and cannot find denies: nothing passes for want of data.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from shared.errors import OrderDenied
from shared.execution.types import MarketRules, Mode, OrderTicket, Purpose
from shared.ledger import arming, equity, stages, state, throttles
from shared.ledger.connection import Ledger
from shared.market.types import Book
from shared.risk import facts, lately
from shared.risk.controls import conduct, money, order, prices, stage, venue
from shared.risk.controls.case import Case
from shared.run import Run

CONTROLS: tuple[Callable[[Case], None], ...] = (
    order.names,
    order.rules,
    order.facts,
    order.allow_list,
    prices.book,
    prices.collar,
    prices.cross_venue,
    prices.quote_peg,
    prices.spread,
    prices.minute_range,
    prices.depth,
    prices.volume,
    order.grid,
    venue.filters,
    venue.price_band,
    venue.resting_orders,
    venue.resting_stops,
    money.position_size,
    money.position_share,
    money.gross,
    money.core_weight,
    money.venue_exposure,
    money.position_count,
    money.equity_age,
    money.daily_loss,
    money.drawdown,
    money.weekly_loss,
    money.balance_age,
    money.balance,
    conduct.unresolved,
    order.self_match,
    order.holding,
    conduct.rate,
    conduct.symbol_rate,
    conduct.messages,
    conduct.symbol_messages,
    conduct.repeated,
    conduct.run_time,
)


def check(
    run: Run,
    ticket: OrderTicket,
    *,
    purpose: Purpose,
    position_id: int,
    rules: MarketRules,
    book: Book,
    now_ms: int,
    mode: Mode,
    parent_id: str | None = None,
    average_price: Decimal | None = None,
) -> None:
    """Let the order pass, or refuse it.

    Call it inside the intent's transaction, after ``run.guard()`` and before or after the intent
    itself is inserted (an intent of the same client order id is not counted against itself).

    Args:
        mode: where the order would end.
        parent_id: of the parent order that the order is a slice of.
        average_price: the venue's own, as ``bands.average_for`` has asked for it.

    Raises:
        OrderDenied: a control refuses; ``code`` names it and the numbers are in ``detail``.
        LedgerUnavailable: the facts cannot be read, so the order must not be sent.
    """
    trading = state.read(run.ledger, lock=True)
    # These controls need no facts, and numbers that are not numbers must
    # not reach its arithmetic.
    order.deny_unless_state_allows(trading, ticket, purpose)
    order.deny_unless_numbers(ticket)
    if mode == "live" and ticket.side == "buy":
        arming.demand(run.ledger)
    known = facts.fetch(run, ticket, position_id, now_ms, mode)
    recent = lately.fetch(run, ticket, position_id, parent_id, now_ms)
    stands = equity.standing(run.ledger, run.config.quote_currency, now_ms)
    case = Case(
        run.config, ticket, purpose, rules, book, now_ms, trading, known, recent, stands,
        run.universe.buyable, run.compared_at.get(ticket.venue), average_price,
    )  # fmt: skip
    for control in CONTROLS:
        control(case)
    if mode == "live":
        stage.deny_beyond(case, stages.in_force(run.ledger).stage)


def note(ledger: Ledger, denied: OrderDenied) -> None:
    """Keep what a denial decides beyond its order; call it after the transaction has ended.

    A strategy that was carried out too often stays throttled until a person allows it again.
    """
    if denied.code == conduct.REPEATED:
        throttles.trip(
            ledger, str(denied.detail["symbol"]), str(denied.detail["strategy"]), str(denied)
        )
''')


###################################################################################################
_LOADER.modules["shared.risk.lately"] = ("shared/risk/lately.py", r'''"""What the gate has to know about the last day: of the market, of this pod's orders and entries."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from shared import clock
from shared.execution.types import OrderTicket
from shared.market import peg
from shared.run import Run

REPEAT_WINDOW = timedelta(hours=24)
"""Entries further back than this do not count as repeated."""

# One application of a strategy is one parent order, however many slices and venues it took. It has
# been carried out once something of it was filled, and while nobody knows. An entry of another
# strategy in between begins the count anew, and so does a person.
_LATELY = """
WITH own AS MATERIALIZED (
    SELECT strategy, sleeve FROM positions
    WHERE pod = %(pod)s AND position_id = %(position_id)s
),
applied AS MATERIALIZED (
    SELECT coalesce(i.parent_id, i.intent_id) AS application, max(i.sent_at) AS at,
           p.strategy = own.strategy AS is_same
    FROM intents i JOIN positions p USING (position_id) JOIN own ON own.sleeve = p.sleeve
    WHERE i.pod = %(pod)s AND i.symbol = %(symbol)s AND i.side = 'buy'
      AND i.sent_at > %(repeats_from)s AND i.client_order_id <> %(client_order_id)s
      AND coalesce(i.parent_id, i.intent_id) IS DISTINCT FROM %(parent_id)s
      AND (i.state IN ('SENDING', 'UNKNOWN')
           OR EXISTS (SELECT 1 FROM orders o
                      WHERE o.intent_id = i.intent_id AND o.filled_quantity > 0))
    GROUP BY 1, 3
)
SELECT market.*, sent.*, (SELECT strategy FROM own) AS strategy,
    (SELECT coalesce(sum(h.quantity * coalesce(
        (SELECT max((q.bid + q.ask) / 2) FROM prices q
         WHERE q.pod = p.pod AND q.symbol = p.symbol AND q.at > %(now)s - interval '10 minutes'),
        (SELECT sum(f.price * f.quantity) / sum(f.quantity) FROM fills f
         WHERE f.position_id = p.position_id AND f.side = 'buy'))), 0)
     FROM positions p JOIN position_holdings h USING (position_id)
     WHERE p.pod = %(pod)s AND p.closed_at IS NULL AND h.venue = %(venue)s) AS venue_held_quote,
    (SELECT tripped_at FROM throttles
     WHERE pod = %(pod)s AND symbol = %(symbol)s AND strategy = (SELECT strategy FROM own)
       AND reenabled_at IS NULL) AS throttled_at,
    (SELECT count(*) FROM applied WHERE is_same
       AND at > coalesce((SELECT max(at) FROM applied WHERE NOT is_same), '-infinity')
       AND at > coalesce((SELECT max(reenabled_at) FROM throttles
                          WHERE pod = %(pod)s AND symbol = %(symbol)s
                            AND strategy = (SELECT strategy FROM own)), '-infinity'))
        AS repeated_entries,
    (SELECT array_agg((bid + ask) / 2) FROM prices
     WHERE pod = %(pod)s AND symbol = %(peg_pair)s AND at > %(now)s - interval '10 minutes')
        AS quote_worths,
    (SELECT array_agg(CASE WHEN split_part(symbol, '/', 1) = %(quote)s
                           THEN (bid + ask) / 2 ELSE 2 / (bid + ask) END) FROM prices
     WHERE pod = %(pod)s AND symbol = ANY(%(peg_crosses)s)
       AND at > %(now)s - interval '10 minutes') AS quote_cross_worths
FROM (
    SELECT min(low_1m) AS low_1m, max(high_1m) AS high_1m,
           coalesce(max(volume_24h_quote) FILTER (WHERE venue = %(venue)s), min(volume_24h_quote))
               AS volume_24h_quote
    FROM prices
    WHERE pod = %(pod)s AND symbol = %(symbol)s
      AND at BETWEEN %(now)s - interval '90 seconds' AND %(now)s + interval '1 second'
) market
CROSS JOIN (
    SELECT count(*) AS trades_last_day,
           count(*) FILTER (WHERE symbol = %(symbol)s) AS symbol_trades_last_day,
           count(*) FILTER (WHERE symbol = %(symbol)s AND sent_at > %(now)s - interval '1 hour')
               AS symbol_trades_last_hour,
           count(*) FILTER (WHERE symbol = %(symbol)s AND sent_at > %(now)s - interval '1 minute')
               AS symbol_trades_last_minute
    FROM intents
    WHERE pod = %(pod)s AND sent_at > %(now)s - interval '1 day' AND purpose <> 'protect'
      AND client_order_id <> %(client_order_id)s
) sent
"""


@dataclass(frozen=True)
class Lately:
    """The last day, as far as one order is judged by it. ``None`` where nobody has told it.

    Attributes:
        low_1m, high_1m: of the last closed minute, on the venue whose candles the scan has.
        volume_24h_quote: traded in 24 h on the order's venue, or where that is not known on the
            venue that traded least of those that are.
        venue_held_quote: all open positions on the order's venue, at their newest price of ten
            minutes, or at what they cost.
        trades_last_day: orders of all symbols but protective stops; ``symbol_`` of the order's.
        strategy: the one that the order's position follows.
        repeated_entries: how often in a row that strategy has been carried out in the symbol,
            without the order's own parent.
        throttled_at: since when it needs a person to go on.
        quote_worths: of a unit of the quote currency in what it is pegged to, by venue;
            ``quote_cross_worths`` in other stablecoins. Of the last ten minutes.
    """

    low_1m: Decimal | None
    high_1m: Decimal | None
    volume_24h_quote: Decimal | None
    venue_held_quote: Decimal
    trades_last_day: int
    symbol_trades_last_day: int
    symbol_trades_last_hour: int
    symbol_trades_last_minute: int
    strategy: str | None
    throttled_at: datetime | None
    repeated_entries: int
    quote_worths: list[Decimal] | None
    quote_cross_worths: list[Decimal] | None


def fetch(
    run: Run, ticket: OrderTicket, position_id: int, parent_id: str | None, now_ms: int
) -> Lately:
    """Read what an order is judged by, inside the caller's transaction.

    Args:
        parent_id: of the parent order that the order is a slice of.
    """
    now, quote = clock.from_ms(now_ms), run.config.quote_currency
    row = run.ledger.one(
        _LATELY,
        {
            "pod": run.ledger.pod,
            "position_id": position_id,
            "parent_id": parent_id,
            "client_order_id": ticket.client_order_id,
            "symbol": ticket.symbol,
            "venue": ticket.venue,
            "now": now,
            "repeats_from": now - REPEAT_WINDOW,
            "quote": quote,
            "peg_pair": peg.direct_pair(quote),
            "peg_crosses": list(peg.cross_pairs(quote)),
        },
    )
    if row is None:  # a SELECT without FROM always has its row
        raise AssertionError("lately: expected one row")
    return Lately(**row)
''')


###################################################################################################
_LOADER.modules["shared.risk.limits"] = ("shared/risk/limits.py", r'''"""Limits on new risk that sizing and the gate ask alike."""

from __future__ import annotations

from decimal import Decimal

from shared.config import Config
from shared.errors import OrderDenied
from shared.ledger.equity import Standing


def daily_loss_limit(config: Config, start_quote: Decimal) -> Decimal:
    """The loss at which a day's new risk ends: MAX_DAILY_LOSS or the percentage, if smaller."""
    return min(config.max_daily_loss, start_quote * config.daily_loss_percent / 100)


def deny_at_daily_loss(config: Config, standing: Standing) -> None:
    """No new risk once the loss of the UTC day or of the last 24 hours has reached its limit.

    Before the first row of equity there has been no trade, so there is no loss to ask for.

    Raises:
        OrderDenied: ``LOSS_DAILY``, or ``LOSS_UNKNOWN`` where a window has no start.
    """
    if standing.equity_quote is None:
        return
    for window, start, loss in (
        ("day", standing.day_start_quote, standing.day_loss_quote),
        ("24h", standing.rolling_start_quote, standing.rolling_loss_quote),
    ):
        if start is None or start <= 0 or loss is None:
            raise OrderDenied("LOSS_UNKNOWN", window=window)
        limit = daily_loss_limit(config, start)
        if loss >= limit:
            raise OrderDenied("LOSS_DAILY", window=window, loss=loss, limit=limit)


def deny_at_weekly_loss(config: Config, standing: Standing) -> None:
    """No new risk once the loss of the last seven days has reached MAX_WEEKLY_LOSS_PERCENT.

    It is counted from the equity seven days ago, or the first there is, with open positions and
    fees. Re-arming accepts a drawdown; it does not begin a new week.

    Raises:
        OrderDenied: ``LOSS_WEEKLY``, or ``LOSS_UNKNOWN`` where the week has no start.
    """
    if standing.equity_quote is None:
        return
    start, loss = standing.week_start_quote, standing.week_loss_quote
    if start is None or start <= 0 or loss is None:
        raise OrderDenied("LOSS_UNKNOWN", window="week")
    limit = start * config.max_weekly_loss_percent / 100
    if loss >= limit:
        raise OrderDenied("LOSS_WEEKLY", window="week", loss=loss, limit=limit)


def deny_at_drawdown(config: Config, standing: Standing) -> None:
    """No new risk once the drawdown has reached its first tier.

    Raises:
        OrderDenied: ``DRAWDOWN_LIMIT``, or ``DRAWDOWN_UNKNOWN`` without a high-water mark.
    """
    if standing.equity_quote is None:
        return
    fallen_percent, limit_percent = standing.drawdown_percent, config.max_drawdown_percent
    if fallen_percent is None:
        raise OrderDenied("DRAWDOWN_UNKNOWN", high_water=standing.high_water_quote)
    if fallen_percent >= limit_percent:
        raise OrderDenied(
            "DRAWDOWN_LIMIT", drawdown_percent=fallen_percent, limit_percent=limit_percent
        )
''')


###################################################################################################
_LOADER.modules["shared.risk.looks"] = ("shared/risk/looks.py", r'''"""What the position manager sees of a position: quote, extremes since the last look, momentum."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared import clock
from shared.ledger import equity, state
from shared.ledger.positions import Position
from shared.market.candles import candle_store
from shared.market.types import Candles, Quote
from shared.risk.exit_rules import Momentum, Seen
from shared.run import Run

if TYPE_CHECKING:
    from shared.execution.desk import Desk

_MINUTE_MS = 60_000
# A mean-reverting entry is made while momentum is lost; that loss must not close it.
_FOLLOWS_MOMENTUM = ("momentum", "trend_following")

STOP_RAISED = "STOP_RAISED"
"""The event that tells of a raised stop: without its time, a low from before it would meet it."""

_SINCE = """
SELECT looked.at, raised.raises
FROM (SELECT (SELECT started_at FROM runs
              WHERE pod = %(pod)s AND workflow = %(workflow)s AND event_at < %(event_at)s
                AND status = 'DONE' ORDER BY event_at DESC LIMIT 1) AS at) AS looked
CROSS JOIN LATERAL (
    SELECT jsonb_agg(jsonb_build_object(
               'position_id', detail -> 'position_id', 'before', detail -> 'before',
               'at_ms', floor(extract(epoch FROM e.at) * 1000)) ORDER BY e.event_id) AS raises
    FROM events e WHERE e.pod = %(pod)s AND e.kind = %(kind)s AND e.at >= looked.at
) AS raised
"""


@dataclass(frozen=True)
class Look:
    """One held position and its market. ``quote`` is ``None`` where no venue tells a price."""

    position: Position
    quote: Quote | None
    seen: Seen | None
    momentum: Momentum | None


def at(run: Run, desk: Desk, held: Sequence[Position], *, with_candles: bool) -> list[Look]:
    """Look at every held position.

    ``with_candles`` adds the extremes of the minutes since the last run of this workflow, which
    a run without market data of its own must leave to the one that looks every minute.
    """
    quotes = desk.quotes(sorted({position.symbol for position in held}))
    venue = next(iter(desk.venues), None)
    window = _Window.open(run) if with_candles and venue is not None else None
    return [
        Look(
            position,
            quotes.get(position.symbol),
            None if venue is None or window is None else _seen(run, venue, position, window),
            None if venue is None else _momentum_since_entry(run, venue, position),
        )
        for position in held
    ]


def momentum(run: Run, venue: str, symbol: str) -> Momentum | None:
    """The trend on closed hours; ``None`` where the averages are not known."""
    window = candle_store.window(run, venue, symbol, "1h")
    return None if window is None else _trend(window)


def risk_exit(run: Run) -> str | None:
    """Why every position is to be closed now, or ``None``.

    The breaker asks for it in the trading state; a drawdown beyond its last tier asks by itself,
    so that it does not depend on the breaker being alive.
    """
    trading = state.read(run.ledger)
    if trading.close_all:
        return f"STATE_CLOSE_ALL: reason={trading.reason}"
    stands = equity.standing(run.ledger, run.config.quote_currency, clock.now_ms())
    fallen, limit = stands.drawdown_percent, run.config.drawdown_halt_percent
    if fallen is not None and fallen > limit:
        return f"DRAWDOWN_HALT: drawdown_percent={fallen:.2f}, limit_percent={limit}"
    return None


@dataclass(frozen=True)
class _Raise:
    """A stop that rose: in which minute, and from where."""

    minute_ms: int
    before: float


@dataclass(frozen=True)
class _Window:
    """What a run has to catch up with: since the last run that was done, and stops raised since.

    ``since_ms`` is ``None`` before the first such run: then all counts that is after the entry.
    """

    since_ms: int | None
    raises: Mapping[int, Sequence[_Raise]]

    @classmethod
    def open(cls, run: Run) -> _Window:
        """A run that failed may have seen nothing, so its minutes are looked at again."""
        row = run.ledger.one(_SINCE, {"pod": run.ledger.pod, "workflow": run.workflow,
                                      "event_at": run.event_at, "kind": STOP_RAISED})  # fmt: skip
        if row is None or row["at"] is None:
            return cls(None, {})
        raises: dict[int, list[_Raise]] = {}
        for raised in row["raises"] or []:
            at = _minute(int(raised["at_ms"]))
            raises.setdefault(raised["position_id"], []).append(_Raise(at, raised["before"]))
        return cls(_minute(clock.to_ms(row["at"])), raises)


def _minute(at_ms: int) -> int:
    return at_ms // _MINUTE_MS * _MINUTE_MS


def _seen(run: Run, venue: str, position: Position, window: _Window) -> Seen | None:
    if position.first_fill_at is None:
        return None
    candles = candle_store.window(run, venue, position.symbol, "1m")
    if candles is None:
        return None
    entered_ms = clock.to_ms(position.first_fill_at)
    since_ms = entered_ms if window.since_ms is None else max(window.since_ms, entered_ms)
    rows = (candles.open_ms >= since_ms).nonzero()[0]
    if not len(rows):
        return None
    raises = window.raises.get(position.position_id, ())
    lows = [
        low
        for low, open_ms in zip(candles.low[rows], candles.open_ms[rows], strict=True)
        if _counts(float(low), int(open_ms), raises)
    ]
    return Seen(float(min(lows, default=math.inf)), float(candles.high[rows].max()))


def _counts(low: float, open_ms: int, raises: Sequence[_Raise]) -> bool:
    """Whether a low may meet the stop: it is not older than the stop, or met the one before it.

    The minute in which the stop rose counts as after it: rather left too early than too late.
    """
    before = next((known.before for known in raises if open_ms < known.minute_ms), None)
    return before is None or low <= before


def _momentum_since_entry(run: Run, venue: str, position: Position) -> Momentum | None:
    if position.strategy not in _FOLLOWS_MOMENTUM or position.first_fill_at is None:
        return None
    window = candle_store.window(run, venue, position.symbol, "1h")
    if window is None or window.closed_ms <= clock.to_ms(position.first_fill_at):
        return None  # no hour has closed since the entry: nothing new is known
    return _trend(window)


def _trend(window: Candles) -> Momentum | None:
    from shared.market.technical import indicators

    values = indicators.compute(window)
    names = ("ema_9", "ema_21", "macd_histogram", "macd_histogram_previous")
    if not all(name in values for name in names):
        return None
    return Momentum(*(values[name] for name in names))
''')


###################################################################################################
_LOADER.modules["shared.risk.manage"] = ("shared/risk/manage.py", r'''"""The position manager: leave what is due, protect and grow what runs, tell what is held.

It decides by pure rules (``exit_rules``, ``adjustments``) and acts through the desk only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from shared import clock
from shared.errors import DataUnavailable, OrderDenied, VenueUnavailable
from shared.execution.types import OrderResult
from shared.ledger import events, positions
from shared.ledger.positions import Position
from shared.market.types import Quote
from shared.risk import looks
from shared.risk.core.rebalance import rebalance
from shared.risk.exit_rules import decide_exit
from shared.risk.looks import Look
from shared.risk.managing import adjustments, growing, report, troubles
from shared.risk.managing.holdings import Holdings
from shared.risk.managing.troubles import Trouble
from shared.run import Export, Run

if TYPE_CHECKING:
    from shared.execution.desk import Desk

Action = dict[str, Any]

_URGENT = ("stop", "risk", "trailing")  # reasons for which each minute may cost more


def manage_exits(run: Run, desk: Desk) -> list[Action]:
    """Leave every position that is due, and raise the trailing stops of the others.

    For every minute of the trading loop. Returns what was done, exits and moved stops alike.
    """
    held = _held(run)
    if not held:
        return []
    seen = looks.at(run, desk, held, with_candles=True)
    manager = _Manager(run, desk)
    manager.leave_or_follow(seen)
    manager.tell(troubles.unpriced(seen))
    return manager.actions


def manage(run: Run) -> Export:
    """The body of the workflow ``position_manager``.

    A position that cannot be managed is named in ``troubles`` and told, and the others are managed;
    nothing about it is guessed.
    """
    from shared.execution.desk import Desk

    desk = Desk.open(run)
    desk.reconcile()
    desk.protect()
    held = _held(run)
    seen = looks.at(run, desk, held, with_candles=False) if held else []
    manager = _Manager(run, desk)
    for look in manager.leave_or_follow(seen):
        manager.adjust(look)
    protection = desk.protect() if manager.actions else desk.protection
    core = rebalance(run, desk)
    staying = _held(run)
    holdings = Holdings.read(run.ledger, staying)
    ids = {position.position_id for position in staying}
    manager.tell(
        troubles.found(run, desk, [x for x in seen if x.position.position_id in ids], holdings)
    )
    exited = [action for action in manager.actions if action["action"] == "exit"]
    adjusted = [action for action in manager.actions if action["action"] not in ("exit", "none")]
    return {
        "managed": sum(look.quote is not None for look in seen),
        "exited": len(exited),
        "adjusted": len(adjusted),
        "rebalanced": core.opened,
        "rebalancing": core.as_export(),
        "portfolio": report.portfolio(run, desk, staying, holdings),
        "unpriced": sorted(look.position.symbol for look in seen if look.quote is None),
        "troubles": [trouble.as_export() for trouble in manager.troubles],
        "protection": protection.as_export(),
        "actions": manager.actions,
    }


def _held(run: Run) -> list[Position]:
    return [position for position in positions.open_positions(run.ledger) if position.is_held]


class _Manager:
    """Acts on looks, one position after the other, and notes what was done and what went wrong."""

    def __init__(self, run: Run, desk: Desk) -> None:
        self._run = run
        self._desk = desk
        self.actions: list[Action] = []
        self.troubles: list[Trouble] = []

    def leave_or_follow(self, seen: Sequence[Look]) -> list[Look]:
        """Leave what is due, raise the other stops; returns the looks at positions that stay."""
        if not seen:
            return []
        risk = looks.risk_exit(self._run)
        return [look for look in seen if self._each(look, lambda x: self._stays(x, risk))]

    def adjust(self, look: Look) -> None:
        """Partial profit, else a pyramid, else averaging down."""
        self._each(look, self._adjusted)

    def tell(self, found: Sequence[Trouble]) -> None:
        """Name them in the export, and by an event and an alert where they are news."""
        for trouble in found:
            self.troubles.append(trouble)
            troubles.tell(self._run, trouble)

    def _each(self, look: Look, act: Callable[[Look], bool]) -> bool:
        """One position at a time: what goes wrong with it keeps nobody from the next."""
        try:
            return act(look)
        except (DataUnavailable, VenueUnavailable, OrderDenied) as error:
            self.tell([troubles.of_position(look.position, "POSITION_NOT_MANAGED", str(error))])
            return False

    def _stays(self, look: Look, risk: str | None) -> bool:
        action = _leave(self._run, self._desk, look, risk)
        if action is not None:
            self.actions.append(action)
            self._tell_if_unsold(look, action)
            return False
        if look.quote is None:
            return False
        try:
            moved = adjustments.follow(self._run, look.position, _bid(look.quote), look.seen)
        except DataUnavailable as gone:  # the other workflow has closed it since it was read
            self.actions.append(adjustments.action(look.position, "none", skipped=str(gone)))
            return False
        if moved is not None:
            self.actions.append(moved)
        return True

    def _tell_if_unsold(self, look: Look, action: Action) -> None:
        """An exit that sends no order has to be known: only dust may end so."""
        if action["orders"]:
            return
        held = Holdings.read(self._run.ledger, [look.position])
        price = None if look.quote is None else look.quote.bid
        if held.of(look.position.position_id) and not troubles.is_dust(
            self._desk, look.position, held, price
        ):
            detail = f"its exit ({action['reason']}) could send no order; it is tried every minute"
            self.tell([troubles.of_position(look.position, "EXIT_UNSOLD", detail)])

    def _adjusted(self, look: Look) -> bool:
        """By the position as it is after its stop was raised."""
        run, desk, quote = self._run, self._desk, look.quote
        position = positions.by_id(run.ledger, look.position.position_id)
        if position is None or quote is None or position.sleeve != "tactical":
            return False
        done = (
            adjustments.take_partial(run, desk, position, _bid(quote))
            or growing.pyramid(run, desk, position, quote)
            or growing.average_down(run, desk, position, quote)
        )
        if done is not None:
            self.actions.append(done)
        return done is not None


def _leave(run: Run, desk: Desk, look: Look, risk: str | None) -> Action | None:
    position = look.position
    detail: dict[str, Any]
    if position.exit_reason is not None:  # being left already: what was not filled is sold on
        reason, detail = position.exit_reason, {"continued": True}
    elif look.quote is not None:
        signal = decide_exit(
            position,
            look.quote,
            now=clock.now(),
            seen=look.seen,
            risk=risk is not None,
            momentum=look.momentum,
        )
        if signal is None:
            return None
        reason, detail = signal.reason, {"trigger": signal.trigger, "seen": signal.seen}
    elif risk is not None:  # closing everything needs no price of ours: the venue has its book
        reason, detail = "risk", {"trigger": None, "seen": None}
    else:
        return None
    if reason == "risk":
        detail["detail"] = risk
    action = _exit(position, reason, desk.exit(position.position_id, reason=reason)) | detail
    if "continued" not in detail:
        events.record(run.ledger, "EXIT_DECIDED", action)
    return action


def _exit(position: Position, reason: str, results: Sequence[OrderResult]) -> Action:
    return {
        "position_id": position.position_id,
        "symbol": position.symbol,
        "action": "exit",
        "reason": reason,
        "urgency": "high" if reason in _URGENT else "normal",
        "orders": [
            {
                "venue": result.venue,
                "outcome": result.outcome,
                "quantity": float(result.quantity),
                "filled_quantity": float(result.filled_quantity),
                "detail": result.detail,
            }
            for result in results
        ],
    }


def _bid(quote: Quote) -> Decimal:
    return Decimal(repr(float(quote.bid)))
''')


###################################################################################################
_LOADER.modules["shared.risk.managing"] = ("shared/risk/managing/__init__.py", r'''"""What is done to positions that stay open, and what is told of all of them."""
''')


###################################################################################################
_LOADER.modules["shared.risk.managing.additions"] = ("shared/risk/managing/additions.py", r'''"""How much may be added to a position that is open: two pure plans, in Decimal, with fees.

Both reckon with the worst that can be paid. An addition's slices are sent over minutes, so each
has a ceiling that no slice passes (``parents.Parent.ceiling``); what fills below it, or fills in
part, risks less. Quantities are in base currency, prices and money in quote currency.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_UP, Decimal

from shared.ledger.positions import Position
from shared.risk.exits import GAP_MULTIPLE

ADDED_SHARE = Decimal("0.5")  # of the quantity held: an addition is never the larger part
_CENT_OF_A_CENT = Decimal("0.00000001")


@dataclass(frozen=True)
class Terms:
    """At what an addition would be bought and sold again.

    Attributes:
        bid: what a unit could be sold for now.
        ceiling: the most that any slice may pay for a unit, before its fee.
        fee: the taker's fee, as a share of the notional.
    """

    bid: Decimal
    ceiling: Decimal
    fee: Decimal

    @property
    def unit_cost(self) -> Decimal:
        """What a unit costs at most, with its fee."""
        return self.ceiling * (1 + self.fee)

    def proceeds(self, price: Decimal) -> Decimal:
        """What a unit brings at ``price``, without its fee."""
        return price * (1 - self.fee)


@dataclass(frozen=True)
class Addition:
    """What may be added, and the stop under which the whole then stands."""

    quantity: Decimal
    stop_price: Decimal


def plan_pyramid(position: Position, terms: Terms, headroom_quote: Decimal) -> Addition | None:
    """How much may be added to a winner, or ``None``: the whole loses no more at its stop.

    With ``q`` held under the stop ``S``, adding ``a`` that costs ``u`` a unit keeps the loss at
    the stop, fees on both sides included, where the stop rises to ``S + (v - S) a / (q + a)``.
    There ``v = u / (1 - fee)`` is the price at which a unit would be sold without a loss. That stop
    has to stay half the trailing distance below the bid, or noise would meet it at once.
    """
    distance, stop = position.trailing_distance_percent, position.stop_price
    if distance is None or not position.is_held or terms.bid <= stop:
        return None
    even = terms.unit_cost / (1 - terms.fee)
    share = (terms.bid * (1 - distance / 200) - stop) / (even - stop)
    if not 0 < share < 1:
        return None
    by_stop = position.quantity * share / (1 - share)
    by_size = max(headroom_quote, Decimal(0)) / terms.ceiling
    quantity = min(position.quantity * ADDED_SHARE, by_stop, by_size)
    if quantity <= 0:
        return None
    rise = (even - stop) * quantity / (position.quantity + quantity)
    return Addition(quantity, (stop + rise).quantize(_CENT_OF_A_CENT, rounding=ROUND_UP))


def plan_average_down(
    position: Position, terms: Terms, headroom_quote: Decimal, budget_quote: Decimal
) -> Addition | None:
    """How much may be added to a loser under its unchanged stop, or ``None``.

    Args:
        budget_quote: what a position of full size under the configured stop loses at that stop.

    The whole, bought with its fees, may lose ``budget_quote`` at the stop, and ``GAP_MULTIPLE``
    times as much where the price jumps over it by as many stop distances. The second binds: an
    addition is bought nearer to the stop, but falls through the same gap as the rest.
    """
    entry, stop = position.average_entry_price, position.stop_price
    if entry is None or position.quantity <= 0 or not 0 <= stop < terms.bid < entry:
        return None
    beyond = max(entry - GAP_MULTIPLE * (entry - stop), Decimal(0))
    by_stop = _affordable(position, entry, terms, stop, budget_quote)
    by_gap = _affordable(position, entry, terms, beyond, budget_quote * GAP_MULTIPLE)
    by_size = max(headroom_quote, Decimal(0)) / terms.ceiling
    quantity = min(position.quantity * ADDED_SHARE, by_stop, by_gap, by_size)
    return Addition(quantity, stop) if quantity > 0 else None


def _affordable(
    position: Position, entry: Decimal, terms: Terms, sold_at: Decimal, budget_quote: Decimal
) -> Decimal:
    """What may be added so that the whole, sold at ``sold_at``, loses no more than the budget."""
    back = terms.proceeds(sold_at)
    left = budget_quote - position.quantity * (entry * (1 + terms.fee) - back)
    return left / (terms.unit_cost - back)
''')


###################################################################################################
_LOADER.modules["shared.risk.managing.adjustments"] = ("shared/risk/managing/adjustments.py", r'''"""What makes a position that stays open safer: its stop raised, its profit taken in part.

What adds to one stands in ``managing.growing``.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from shared.errors import DataUnavailable, VenueUnavailable
from shared.execution.types import MarketRules
from shared.ledger import events, positions
from shared.ledger.positions import Position
from shared.risk.controls.prices import STOP_LIMIT_OFFSET_PERCENT
from shared.risk.exit_rules import Seen, raised_stop
from shared.risk.looks import STOP_RAISED
from shared.run import Run

if TYPE_CHECKING:
    from shared.execution.desk import Desk

PARTIAL_PROFIT_PERCENT = Decimal(10)
_HALF = Decimal("0.5")
_TAKEN = ("FILLED", "PARTIALLY_FILLED", "OPEN")

Action = dict[str, Any]


def follow(run: Run, position: Position, bid: Decimal, seen: Seen | None) -> Action | None:
    """Raise the high-water mark and the trailing stop; tells of a stop that moved."""
    high = bid if seen is None else max(bid, Decimal(repr(seen.high)))
    stop = raised_stop(position, high)
    if stop is None and position.high_water_price is not None and high <= position.high_water_price:
        return None
    with run.ledger.transaction():
        run.guard()
        positions.raise_high_water(run.ledger, position.position_id, high)
        if stop is None:
            return None
        stop = raise_stop(run, position, stop, why="trailing")
    return action(position, "tighten_stop", before=position.stop_price, after=stop)


def raise_stop(run: Run, position: Position, stop_price: Decimal, *, why: str) -> Decimal:
    """Raise a stop inside the caller's transaction; a lower one changes nothing.

    Its time is told by an event, so that the next look leaves out what lay below it before.
    Returns the stop in force.

    Raises:
        DataUnavailable: the position has been closed meanwhile.
    """
    stop = positions.tighten_stop(run.ledger, position.position_id, stop_price)
    if stop > position.stop_price:
        told = action(position, why, before=position.stop_price, after=stop)
        events.record(run.ledger, STOP_RAISED, told)
    return stop


def take_partial(run: Run, desk: Desk, position: Position, bid: Decimal) -> Action | None:
    """Sell half above +10 %, once, where both halves stay sellable.

    The desk sells a part once, whatever became of this run: the mark below only tells of it. A sale
    of unknown fate is not marked: either it is found to have sold something, or it may be repeated.
    """
    if position.partial_taken or position.sold_quantity > 0:
        return None
    if gain_percent(position, bid) <= PARTIAL_PROFIT_PERCENT:
        return None
    if not _halves_are_sellable(run, desk, position, bid):
        return None
    results = desk.exit(position.position_id, reason="partial_profit", fraction=_HALF)
    if not results:
        return None  # it was sent before, or no venue could be asked
    if any(result.outcome in _TAKEN for result in results):
        with run.ledger.transaction():
            run.guard()
            positions.mark_partial_taken(run.ledger, position.position_id)
    return action(position, "partial_profit", outcomes=[r.outcome for r in results])


def gain_percent(position: Position, price: Decimal) -> Decimal:
    """How far ``price`` lies above the average entry.

    Raises:
        DataUnavailable: the position has no entry yet.
    """
    entry = position.average_entry_price
    if entry is None:
        raise DataUnavailable(f"position {position.position_id}: expected an entry price")
    return 100 * (price - entry) / entry


def _halves_are_sellable(run: Run, desk: Desk, position: Position, bid: Decimal) -> bool:
    """Whether a half can be sold, and the other still be protected and sold in a fall.

    The half that is sold may go as far below the bid as an exit's first try does; the half that
    stays has to be large enough for its stop. What lies on a venue as dust is dust either way.
    """
    rows = run.ledger.query(
        "SELECT venue, quantity FROM position_holdings WHERE position_id = %s AND quantity > 0",
        (position.position_id,),
    )
    worst = 1 - STOP_LIMIT_OFFSET_PERCENT / 100
    sellable = 0
    for row in rows:
        rules = market_rules(desk, row["venue"], position.symbol)
        if rules is None:
            return False  # without the venue's minimums nothing is adjusted there
        if not _is_takeable(rules, row["quantity"], bid):
            continue
        sold = row["quantity"] * _HALF // rules.quantity_step * rules.quantity_step
        rest = row["quantity"] - sold
        if not _is_takeable(rules, sold, bid * worst):
            return False
        if not _is_takeable(rules, rest, position.stop_price * worst):
            return False
        sellable += 1
    return sellable > 0


def _is_takeable(rules: MarketRules, quantity: Decimal, price: Decimal) -> bool:
    quantity = quantity // rules.quantity_step * rules.quantity_step
    return (
        quantity >= rules.min_quantity and quantity * price >= rules.min_notional and quantity > 0
    )


def market_rules(desk: Desk, venue_name: str, symbol: str) -> MarketRules | None:
    """The venue's minimums for a symbol, or ``None`` where it does not tell them."""
    venue = desk.venues.get(venue_name)
    if venue is None:
        return None
    try:
        return venue.rules(symbol)
    except VenueUnavailable:
        return None


def action(position: Position, kind: str, **detail: Any) -> Action:
    """What was done to a position, as it is exported."""
    shown = {k: float(v) if isinstance(v, Decimal) else v for k, v in detail.items()}
    return {"position_id": position.position_id, "symbol": position.symbol, "action": kind} | shown
''')


###################################################################################################
_LOADER.modules["shared.risk.managing.growing"] = ("shared/risk/managing/growing.py", r'''"""Adding to a position: a pyramid above +5 %, and averaging down below -2 %, each once.

Nothing is added while anything of the position is still being bought, was sold in part, or is of
unknown outcome, nor outside ``ACTIVE``. The parent order and the raised stop are committed
together, so that a run that dies leaves both or neither.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from shared import clock
from shared.errors import DataUnavailable, OrderDenied
from shared.execution.types import MarketRules
from shared.ledger import equity, state
from shared.ledger.equity import Standing
from shared.ledger.positions import Position
from shared.market.types import Quote
from shared.risk import budget, looks
from shared.risk.managing import adjustments
from shared.risk.managing.additions import Addition, Terms, plan_average_down, plan_pyramid
from shared.risk.managing.adjustments import Action, action, gain_percent, market_rules
from shared.run import Run

if TYPE_CHECKING:
    from shared.execution.desk import Desk

PYRAMID_PERCENT = Decimal(5)
AVERAGE_DOWN_PERCENT = Decimal(-2)


def pyramid(run: Run, desk: Desk, position: Position, quote: Quote) -> Action | None:
    """Add above +5 %, once, with the stop raised so that the whole loses no more at it."""
    if gain_percent(position, _exact(quote.bid)) <= PYRAMID_PERCENT:
        return None
    if not _may_grow(run, position, without=("pyramid",)):
        return None
    terms = _terms(run, desk, position, quote)
    if terms is None:
        return None
    addition = plan_pyramid(position, terms, _headroom_quote(run, position, quote))
    return _add(run, desk, position, quote, addition, terms, "pyramid")


def average_down(run: Run, desk: Desk, position: Position, quote: Quote) -> Action | None:
    """Add below -2 %, once, under the same stop, within the risk of a full-size position.

    Only while the bid is nearer to the entry than to the stop, so never under a stop that lies 4 %
    below the entry or nearer, and with hourly momentum known and not lost. Beyond the middle the
    market has told more against the entry than is left to be told by the stop, and what is added
    there has less room than the noise that it has just come through.
    """
    if not run.config.average_down or not _is_little_under_water(position, _exact(quote.bid)):
        return None
    if not _may_grow(run, position, without=("pyramid", "average_down")):
        return None
    terms, trend = _terms(run, desk, position, quote), _trend(run, desk, position)
    if terms is None or trend is None or trend.is_lost:
        return None
    headroom = _headroom_quote(run, position, quote)
    addition = plan_average_down(position, terms, headroom, risk_budget_quote(run))
    return _add(run, desk, position, quote, addition, terms, "average_down")


def risk_budget_quote(run: Run) -> Decimal:
    """What a position of full size loses at the configured stop, before fees and gaps."""
    return full_size_quote(run) * run.config.stop_loss_percent / 100


def full_size_quote(run: Run) -> Decimal:
    """The largest that a tactical position may be; 0 while equity is not known."""
    standing: Standing = equity.standing(run.ledger, run.config.quote_currency, clock.now_ms())
    if standing.worth_quote is None:
        return Decimal(0)
    share = standing.worth_quote * run.config.position_size_percent / 100
    return min(run.config.max_position_size, share)


def _is_little_under_water(position: Position, bid: Decimal) -> bool:
    entry = position.average_entry_price
    if entry is None or gain_percent(position, bid) >= AVERAGE_DOWN_PERCENT:
        return False
    return entry - bid < bid - position.stop_price


def _may_grow(run: Run, position: Position, *, without: tuple[str, ...]) -> bool:
    """Whether it stands still and whole, without these additions, and new risk is allowed."""
    if position.sold_quantity > 0 or position.exit_reason is not None:
        return False
    row = run.ledger.one(
        "SELECT 1 AS found WHERE EXISTS (SELECT 1 FROM parent_orders WHERE position_id = %(id)s "
        "AND (state = 'WORKING' OR reason = ANY(%(without)s))) OR EXISTS (SELECT 1 FROM intents "
        "WHERE pod = %(pod)s AND symbol = %(symbol)s AND state IN ('SENDING', 'UNKNOWN'))",
        {
            "id": position.position_id,
            "without": list(without),
            "pod": run.ledger.pod,
            "symbol": position.symbol,
        },
    )
    return row is None and state.read(run.ledger).allows_new_risk


def _terms(run: Run, desk: Desk, position: Position, quote: Quote) -> Terms | None:
    """By the venue that takes the highest fee; ``None`` where none tells its rules."""
    fees = [rules.taker_fee_bps for rules in _known_rules(desk, position.symbol)]
    if not fees:
        return None
    ceiling = _exact(quote.mid) * (1 + run.config.price_collar_bps / 10_000)
    return Terms(_exact(quote.bid), ceiling, max(fees) / 10_000)


def _trend(run: Run, desk: Desk, position: Position) -> looks.Momentum | None:
    venue = next(iter(desk.venues), None)
    return None if venue is None else looks.momentum(run, venue, position.symbol)


def _headroom_quote(run: Run, position: Position, quote: Quote) -> Decimal:
    return full_size_quote(run) - position.quantity * _exact(quote.mid)


def _add(
    run: Run,
    desk: Desk,
    position: Position,
    quote: Quote,
    addition: Addition | None,
    terms: Terms,
    reason: str,
) -> Action | None:
    if addition is None or not _is_sendable(desk, position, addition, terms):
        return None
    # The desk divides by the ceiling again: what is planned is a quantity.
    size_quote = addition.quantity * terms.ceiling
    try:
        budget.deny_beyond(run, position.symbol, size_quote, desk.venues)
        with run.ledger.transaction():
            run.guard()
            desk.add(position.position_id, size_quote, _exact(quote.mid), reason)
            stop = adjustments.raise_stop(run, position, addition.stop_price, why=reason)
    except (OrderDenied, DataUnavailable) as refused:
        return action(position, f"{reason}_refused", detail=str(refused))
    return action(position, reason, size_quote=size_quote, stop=stop)


def _is_sendable(desk: Desk, position: Position, addition: Addition, terms: Terms) -> bool:
    return any(
        addition.quantity >= max(rules.min_quantity, rules.quantity_step)
        and addition.quantity * terms.bid >= rules.min_notional
        for rules in _known_rules(desk, position.symbol)
    )


def _known_rules(desk: Desk, symbol: str) -> list[MarketRules]:
    told = (market_rules(desk, name, symbol) for name in desk.venues)
    return [rules for rules in told if rules is not None]


def _exact(price: float) -> Decimal:
    return Decimal(repr(float(price)))
''')


###################################################################################################
_LOADER.modules["shared.risk.managing.holdings"] = ("shared/risk/managing/holdings.py", r'''"""On which venues each open position lies, read once a run."""

from __future__ import annotations

from dataclasses import dataclass

from shared.ledger.connection import Ledger, Row
from shared.ledger.positions import Position


@dataclass(frozen=True)
class Holdings:
    """Rows ``venue, quantity`` by position, in base currency, largest first."""

    by_position: dict[int, list[Row]]

    @classmethod
    def read(cls, ledger: Ledger, held: list[Position]) -> Holdings:
        """Where the positions lie; a venue that holds nothing any more is left out."""
        found: dict[int, list[Row]] = {position.position_id: [] for position in held}
        if held:
            rows = ledger.query(
                "SELECT position_id, venue, quantity FROM position_holdings "
                "WHERE position_id = ANY(%s) AND quantity > 0 ORDER BY quantity DESC, venue",
                (list(found),),
            )
            for row in rows:
                found[row["position_id"]].append(row)
        return cls(found)

    def of(self, position_id: int) -> list[Row]:
        """The rows of one position; none where it was not held when they were read."""
        return self.by_position.get(position_id, [])
''')


###################################################################################################
_LOADER.modules["shared.risk.managing.report"] = ("shared/risk/managing/report.py", r'''"""What is held and what it is worth: at the mid, at the bid, and sold into the books now."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from shared import clock
from shared.errors import DataUnavailable, VenueUnavailable
from shared.execution.exits import naked
from shared.ledger import equity
from shared.ledger.connection import Row
from shared.ledger.positions import Position
from shared.market.types import Book, Quote
from shared.risk.managing.holdings import Holdings
from shared.run import Export, Run

if TYPE_CHECKING:
    from shared.execution.desk import Desk

BOOK_FROM_QUOTE = Decimal(1_000)
"""From this notional on the best bid alone is no promise, and the venue is asked for its book."""


def portfolio(run: Run, desk: Desk, held: list[Position], holdings: Holdings) -> Export:
    """The summary of ``position_manager``; what is not known is null and named in ``missing``."""
    quotes = desk.quotes(sorted({position.symbol for position in held})) if held else {}
    missing: list[str] = []
    rows = [
        _row(position, quotes.get(position.symbol))
        | _sold_now(
            desk,
            position,
            quotes.get(position.symbol),
            holdings.of(position.position_id),
            missing,
        )
        | {"naked_seconds": naked.seconds(run.ledger, position.position_id)}
        for position in held
    ]
    stands = equity.standing(run.ledger, run.config.quote_currency, clock.now_ms())
    summary: Export = {
        "equity_quote": None,
        "cash_quote": None,
        "positions_quote": None,
        "exposure_percent": None,
        "open_positions": len(held),
        "pnl_mid_quote": _sum(rows, "pnl_mid_quote"),
        "pnl_bid_quote": _sum(rows, "pnl_bid_quote"),
        "day_pnl_quote": _number(None if stands.day_loss_quote is None else -stands.day_loss_quote),
        "drawdown_percent": _number(stands.drawdown_percent),
        "missing": missing,
        "positions": rows,
    }
    try:
        worth = equity.value(run, quotes)
    except DataUnavailable as unknown:
        missing.append(str(unknown))
        return summary
    return summary | {
        "equity_quote": float(worth.equity_quote),
        "cash_quote": float(worth.cash_quote),
        "positions_quote": float(worth.positions_quote),
        "exposure_percent": float(100 * worth.positions_quote / worth.equity_quote)
        if worth.equity_quote > 0
        else None,
    }


def proceeds(book: Book, quantity: Decimal) -> Decimal | None:
    """What ``quantity`` brings in quote, sold into the bids; ``None`` where they are too few."""
    left, brought = quantity, Decimal(0)
    for price, available in book.bids:
        taken = min(left, Decimal(repr(float(available))))
        brought += taken * Decimal(repr(float(price)))
        left -= taken
        if left <= 0:
            return brought
    return None


def _sold_now(
    desk: Desk,
    position: Position,
    quote: Quote | None,
    holdings: list[Row],
    missing: list[str],
) -> Export:
    """The profit after selling everything where it is held, with the taker's fee."""
    brought = position.quote_flow
    for holding in holdings:
        try:
            brought += _brought(desk, position.symbol, quote, holding)
        except VenueUnavailable as error:
            missing.append(f"{position.symbol}: {error}")
            return {"pnl_sold_now_quote": None}
    return {"pnl_sold_now_quote": float(brought)}


def _brought(desk: Desk, symbol: str, quote: Quote | None, holding: Row) -> Decimal:
    """What one venue's part would bring: a small one at the bid, a large one into the book.

    Raises:
        VenueUnavailable: the venue tells no fee or no book, or its book shows too few bids.
    """
    name, quantity = holding["venue"], holding["quantity"]
    venue = desk.venues.get(name)
    if venue is None:
        raise VenueUnavailable(f"{name} is not configured")
    keeps = 1 - venue.rules(symbol).taker_fee_bps / 10_000
    if quote is not None:
        at_the_bid: Decimal = quantity * Decimal(repr(float(quote.bid)))
        if at_the_bid < BOOK_FROM_QUOTE:
            return at_the_bid * keeps
    sold = proceeds(venue.book(symbol), quantity)
    if sold is None:
        raise VenueUnavailable(f"{name} shows fewer bids than are held")
    return sold * keeps


def _row(position: Position, quote: Quote | None) -> Export:
    """A position and its profit: at the mid, and at the bid, which could really be had."""
    priced = {} if quote is None else {"mid": quote.mid, "bid": quote.bid}
    flow, cost = float(position.quote_flow), float(position.cost_quote)
    quantity = float(position.quantity)
    profits = {
        f"pnl_{name}_quote": flow + quantity * price for name, price in priced.items()
    }  # what was sold already and all fees are in the flow
    if quote is not None and cost > 0:
        profits["pnl_percent"] = 100 * profits["pnl_mid_quote"] / cost
    return (
        {
            "position_id": position.position_id,
            "symbol": position.symbol,
            "sleeve": position.sleeve,
            "strategy": position.strategy,
            "quantity": quantity,
            "average_entry_price": _number(position.average_entry_price),
            "stop_price": float(position.stop_price),
            "target_price": _number(position.target_price),
            "high_water_price": _number(position.high_water_price),
        }
        | priced
        | profits
    )


def _sum(rows: list[Export], name: str) -> float | None:
    """``None`` where one of them is not known: a part is no total."""
    if any(name not in row for row in rows):
        return None
    return float(sum(row[name] for row in rows))


def _number(value: Decimal | None) -> float | None:
    return None if value is None else float(value)
''')


###################################################################################################
_LOADER.modules["shared.risk.managing.troubles"] = ("shared/risk/managing/troubles.py", r'''"""Positions that cannot be managed as they should be: named in the export, told by an event.

Nothing here stops a run, and nothing is guessed: each kind is told once in its period, with an
alert, and the other positions are managed all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from shared import clock
from shared.errors import VenueUnavailable
from shared.ledger import alerts, events
from shared.ledger.alerts import Severity
from shared.ledger.positions import Position
from shared.risk.managing.holdings import Holdings
from shared.run import Run

if TYPE_CHECKING:
    from shared.execution.desk import Desk
    from shared.risk.looks import Look

Kind = Literal[
    "POSITION_UNPRICED",
    "POSITION_UNTRADABLE",
    "POSITION_ONE_PRICE",
    "POSITION_BELOW_MINIMUM",
    "POSITION_EXCEEDS_VENUE",
    "POSITION_NOT_MANAGED",
    "EXIT_UNSOLD",
]
_HOURLY, _DAILY = "%Y-%m-%dT%H", "%Y-%m-%d"
_TOLD: dict[Kind, tuple[Severity, str]] = {
    "POSITION_UNPRICED": ("HIGH", _HOURLY),
    "POSITION_UNTRADABLE": ("HIGH", _HOURLY),
    "POSITION_ONE_PRICE": ("INFO", _DAILY),
    "POSITION_BELOW_MINIMUM": ("WARNING", _DAILY),
    "POSITION_EXCEEDS_VENUE": ("HIGH", _HOURLY),
    "POSITION_NOT_MANAGED": ("HIGH", _HOURLY),
    "EXIT_UNSOLD": ("HIGH", _HOURLY),
}
_PRICED_WITHIN = timedelta(seconds=150)  # the manager may run just before the scan of its minute


@dataclass(frozen=True)
class Trouble:
    """What is wrong with one position."""

    position_id: int
    symbol: str
    kind: Kind
    detail: str

    def as_export(self) -> dict[str, Any]:
        return asdict(self)


def of_position(position: Position, kind: Kind, detail: str) -> Trouble:
    """A trouble of ``position``."""
    return Trouble(position.position_id, position.symbol, kind, detail)


def tell(run: Run, trouble: Trouble) -> None:
    """Alert and event, once in the period of its kind."""
    severity, period = _TOLD[trouble.kind]
    is_news = alerts.put(
        run.ledger,
        f"{trouble.kind}:{trouble.position_id}:{clock.now().strftime(period)}",
        severity,
        f"{trouble.symbol}: {trouble.kind.replace('_', ' ').lower()}",
        f"Position {trouble.position_id}: {trouble.detail}",
    )
    if is_news:
        events.record(run.ledger, trouble.kind, trouble.as_export())


def unpriced(looks: Sequence[Look]) -> list[Trouble]:
    """Positions of which no venue tells a price: only a risk exit and what rests can end them."""
    return [
        of_position(
            look.position,
            "POSITION_UNPRICED",
            "no venue tells a price, so none of its exits but a close of everything can be decided",
        )
        for look in looks
        if look.quote is None
    ]


def found(run: Run, desk: Desk, looks: Sequence[Look], holdings: Holdings) -> list[Trouble]:
    """What is wrong with the positions now, apart from what their exits say."""
    if not looks:
        return []
    sources = _price_sources(run, [look.position.symbol for look in looks])
    troubles = unpriced(looks)
    for look in looks:
        troubles += _untradable(desk, look, holdings)
        troubles += _beyond_the_venue(desk, look.position, holdings)
        known = sources.get(look.position.symbol, [])
        if look.quote is not None and len(desk.venues) > 1 and len(known) < 2:
            detail = f"priced by {', '.join(known) or 'one venue'} alone: nothing confirms it"
            troubles.append(of_position(look.position, "POSITION_ONE_PRICE", detail))
    return troubles


def is_dust(desk: Desk, position: Position, holdings: Holdings, price: float | None) -> bool:
    """Whether it is known that no venue takes an order as small as what is held there."""
    rows = holdings.of(position.position_id)
    if not rows or price is None:
        return False
    try:
        return all(
            _smallness(desk, position.symbol, row["venue"], row["quantity"], price) for row in rows
        )
    except VenueUnavailable:
        return False


def _untradable(desk: Desk, look: Look, holdings: Holdings) -> list[Trouble]:
    position, price = look.position, None if look.quote is None else look.quote.bid
    troubles = []
    for row in holdings.of(position.position_id):
        try:
            small = _smallness(desk, position.symbol, row["venue"], row["quantity"], price)
        except VenueUnavailable as error:
            troubles.append(of_position(position, "POSITION_UNTRADABLE", str(error)))
            continue
        if small is not None:
            troubles.append(of_position(position, "POSITION_BELOW_MINIMUM", small))
    return troubles


def _smallness(
    desk: Desk, symbol: str, venue_name: str, quantity: Decimal, price: float | None
) -> str | None:
    """Why a venue takes no order as small as ``quantity``, or ``None``.

    Raises:
        VenueUnavailable: the venue does not list the symbol, is not configured, or is silent.
    """
    venue = desk.venues.get(venue_name)
    if venue is None:
        raise VenueUnavailable(f"{venue_name}: is not configured")
    rules = venue.rules(symbol)
    sellable = quantity // rules.quantity_step * rules.quantity_step
    smallest = max(rules.min_quantity, rules.quantity_step)
    if sellable < smallest:
        return f"{venue_name}: quantity={quantity:f}, minimum={smallest:f}"
    if price is None:
        return None
    notional = sellable * Decimal(repr(float(price)))
    if notional < rules.min_notional:
        return f"{venue_name}: notional={notional:.4f}, minimum={rules.min_notional:f}"
    return None


def _beyond_the_venue(desk: Desk, position: Position, holdings: Holdings) -> list[Trouble]:
    """Where the venue has less of the currency than the ledger: found by reconciliation."""
    if desk.reconciliation is None:
        return []
    venues = {row["venue"] for row in holdings.of(position.position_id)}
    base = position.symbol.split("/")[0]
    return [
        of_position(
            position,
            "POSITION_EXCEEDS_VENUE",
            f"{difference['venue']}: holds {difference['venue_total']} {base}, "
            f"expected {difference['ledger_total']}: at most what is there is sold",
        )
        for difference in desk.reconciliation.differences
        if difference["currency"] == base
        and difference["venue"] in venues
        and Decimal(difference["venue_total"]) < Decimal(difference["ledger_total"])
    ]


def _price_sources(run: Run, symbols: list[str]) -> dict[str, list[str]]:
    rows = run.ledger.query(
        "SELECT symbol, array_agg(venue ORDER BY venue) AS venues FROM prices "
        "WHERE pod = %s AND symbol = ANY(%s) AND at >= %s GROUP BY symbol",
        (run.ledger.pod, symbols, clock.now() - _PRICED_WITHIN),
    )
    return {row["symbol"]: row["venues"] for row in rows}
''')


###################################################################################################
_LOADER.modules["shared.risk.measures"] = ("shared/risk/measures.py", r'''"""The figures that risk management reports of a trade: with it, without it, now and expected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

import numpy as np

from shared import clock
from shared.analysis import metrics as ratios
from shared.ledger import equity
from shared.risk import portfolio
from shared.risk.context import Exposure
from shared.risk.portfolio import markowitz
from shared.risk.staking.kelly import Odds
from shared.risk.staking.sizing import Stake
from shared.run import Export, Run

_PERFORMANCE_WINDOW = timedelta(hours=168)


@dataclass(frozen=True)
class Weighed:
    """A portfolio with and without a trade. Money in quote currency, by symbol.

    Attributes:
        before_quote, after_quote: held and under way in both sleeves.
        correlations: of the candidate with each of them; ``None`` where one never moves.
        tactical: the symbols of the tactical sleeve among them, against which the limit stands.
    """

    symbol: str
    before_quote: Mapping[str, float]
    after_quote: Mapping[str, float]
    tail_before: portfolio.TailRisk
    tail_after: portfolio.TailRisk
    correlations: Mapping[str, float | None]
    tactical: frozenset[str]

    @property
    def tactical_correlations(self) -> dict[str, float | None]:
        return {other: r for other, r in self.correlations.items() if other in self.tactical}


def weigh(
    symbol: str,
    size_quote: Decimal,
    exposure: Exposure,
    returns: Mapping[str, portfolio.Array],
) -> Weighed:
    """What may be lost with and without a purchase of ``size_quote``, and what moves with it.

    Raises:
        DataUnavailable: a holding or the candidate has no returns, or never moved.
    """
    before = exposure.committed_quote
    after = dict(before)
    after[symbol] = after.get(symbol, 0.0) + float(size_quote)
    found = portfolio.correlations(symbol, returns)
    return Weighed(
        symbol=symbol,
        before_quote=before,
        after_quote=after,
        tail_before=portfolio.tail_risk(before, returns),
        tail_after=portfolio.tail_risk(after, returns),
        correlations={other: r for other, r in found.items() if before.get(other, 0) > 0},
        tactical=frozenset(other for other, quote in exposure.tactical_quote.items() if quote > 0),
    )


def of_trade(
    run: Run,
    weighed: Weighed,
    returns: Mapping[str, portfolio.Array],
    stake: Stake,
    odds: Odds,
) -> Export:
    """Tail risk, ratios, correlations and Markowitz weights. Money in quote, over 24 hours.

    ``var95_quote`` and ``cvar95_quote`` are the largest of all methods, which limits are held
    against. ``correlation`` is the highest with a tactical holding. ``sharpe_expected`` and
    ``sortino_expected`` are those of the portfolio with the trade, had it been held through the
    window of returns: history, not a forecast. Ratios are ``None`` where there are too few
    observations or nothing has varied.
    """
    symbol, after, tail = weighed.symbol, weighed.after_quote, weighed.tail_after
    expected = portfolio.portfolio_returns(after, returns, float(stake.worth_quote))
    known = [value for value in weighed.tactical_correlations.values() if value is not None]
    return {
        "var95_quote": tail.var95_quote,
        "cvar95_quote": tail.cvar95_quote,
        "var95_method": tail.var95_method,
        "cvar95_method": tail.cvar95_method,
        "var95_before_quote": weighed.tail_before.var95_quote,
        "cvar95_before_quote": weighed.tail_before.cvar95_quote,
        **{f"{name}_var95_quote": loss.var95_quote for name, loss in tail.by_method.items()},
        **{f"{name}_cvar95_quote": loss.cvar95_quote for name, loss in tail.by_method.items()},
        "horizon_hours": portfolio.HORIZON_HOURS,
        "observations": len(returns[symbol]),
        **_current_ratios(run),
        "sharpe_expected": ratios.sharpe_ratio(expected, ratios.HOURS_PER_YEAR),
        "sortino_expected": ratios.sortino_ratio(expected, ratios.HOURS_PER_YEAR),
        "correlation": max(known) if known else None,
        "correlations": dict(weighed.correlations),
        "correlation_with_portfolio": portfolio.correlation_with_portfolio(
            symbol, weighed.before_quote, returns
        ),
        "markowitz_weights": markowitz.minimum_variance(
            {held: returns[held] for held, value in after.items() if value > 0}
        ),
        "volatility_annualised_percent": stake.volatility_annualised_percent,
        "kelly_fraction": stake.kelly,
        "win_probability": odds.win_probability,
        "win_loss_ratio": odds.win_loss_ratio,
        "break_even_probability": odds.break_even_probability,
        "win_probability_deviation": odds.deviation,
        "prior": odds.prior,
        "prior_win_probability": odds.prior_win_probability,
        "kelly_trust": odds.trust,
        "trades_in_history": odds.trades,
        "equity_quote": float(stake.worth_quote),
    }


def _current_ratios(run: Run) -> Export:
    """Ratios of the pod's own hourly equity over the last week."""
    rows = equity.hourly(run.ledger, clock.now() - _PERFORMANCE_WINDOW)
    curve = np.array([float(row["equity_quote"]) for row in rows])
    if len(curve) <= ratios.MINIMUM_HOURLY_RETURNS:
        return {"sharpe_current": None, "sortino_current": None}
    hourly = ratios.simple_returns(curve)
    return {
        "sharpe_current": ratios.sharpe_ratio(hourly, ratios.HOURS_PER_YEAR),
        "sortino_current": ratios.sortino_ratio(hourly, ratios.HOURS_PER_YEAR),
    }
''')


###################################################################################################
_LOADER.modules["shared.risk.portfolio"] = ("shared/risk/portfolio/__init__.py", r'''"""What a portfolio may lose: value at risk and the mean beyond it, correlations, covariance.

Money is in quote currency. Everything is estimated from the newest ``WINDOW_HOURS`` hourly returns
that all symbols have, and nothing from fewer than ``MINIMUM_RETURNS`` of them.
"""

from __future__ import annotations

from shared.risk.portfolio.correlation import correlation_with_portfolio, correlations
from shared.risk.portfolio.covariance import Shrunk, ledoit_wolf
from shared.risk.portfolio.limits import LossBudget, loss_budget, refusals
from shared.risk.portfolio.returns import (
    HOURS_PER_YEAR,
    MINIMUM_RETURNS,
    WINDOW_HOURS,
    Array,
    aligned_returns,
    portfolio_returns,
    volatility_annualised_percent,
)
from shared.risk.portfolio.tail import (
    DECAY,
    HORIZON_HOURS,
    METHODS,
    TailLoss,
    TailRisk,
    tail_risk,
)

__all__ = [
    "DECAY",
    "HORIZON_HOURS",
    "HOURS_PER_YEAR",
    "METHODS",
    "MINIMUM_RETURNS",
    "WINDOW_HOURS",
    "Array",
    "LossBudget",
    "Shrunk",
    "TailLoss",
    "TailRisk",
    "aligned_returns",
    "correlation_with_portfolio",
    "correlations",
    "ledoit_wolf",
    "loss_budget",
    "portfolio_returns",
    "refusals",
    "tail_risk",
    "volatility_annualised_percent",
]
''')


###################################################################################################
_LOADER.modules["shared.risk.portfolio.correlation"] = ("shared/risk/portfolio/correlation.py", r'''"""How a candidate moves with what is held.

Pearson's correlation, as it was: shrinking it, as the covariance is, would pull it towards zero and
so loosen the limit that it is held against.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from shared.risk.portfolio.returns import Array


def correlations(symbol: str, returns: Mapping[str, Array]) -> dict[str, float | None]:
    """Pearson's correlation of ``symbol`` with each other; ``None`` where one never moves."""
    others = [other for other in returns if other != symbol]
    if not others:
        return {}
    found = _pearson(returns[symbol], np.array([returns[other] for other in others]))
    return dict(zip(others, found, strict=True))


def correlation_with_portfolio(
    symbol: str, held_quote: Mapping[str, float], returns: Mapping[str, Array]
) -> float | None:
    """Pearson's correlation of ``symbol`` with the profit of all that is held, itself left out.

    ``None`` where nothing else is held, or one of the two never moves.
    """
    profits = [
        value * returns[other]
        for other, value in held_quote.items()
        if value != 0 and other != symbol
    ]
    if not profits:
        return None
    return _pearson(returns[symbol], np.sum(profits, axis=0)[np.newaxis])[0]


def _pearson(own: Array, others: Array) -> list[float | None]:
    """Of one series with each row of ``others``."""
    moves = (np.ptp(others, axis=1) != 0) & (np.ptp(own) != 0)
    own = own - own.mean()
    others = others - others.mean(axis=1, keepdims=True)
    together = others @ own
    alone = np.linalg.norm(others, axis=1) * np.linalg.norm(own)
    found = np.divide(together, alone, out=np.zeros(len(others)), where=moves)
    return [
        min(1.0, max(-1.0, float(value))) if moving else None
        for value, moving in zip(found, moves, strict=True)
    ]
''')


###################################################################################################
_LOADER.modules["shared.risk.portfolio.covariance"] = ("shared/risk/portfolio/covariance.py", r'''"""A covariance that can be inverted and trusted: the sample's, shrunk towards equal variances.

Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance matrices" (Journal
of Multivariate Analysis 88, 2004): the sample covariance S and m I, with m the mean variance, are
mixed so that the expected squared error is least. Perfectly correlated assets, or more of them than
observations, make S singular and the mixture regular.

``sklearn.covariance.ledoit_wolf`` is the same estimator, and tests hold this one equal to it. It is
not used here because a step would pay 1.8 s and 140 MiB to import it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shared.errors import DataUnavailable
from shared.risk.portfolio.returns import Array


@dataclass(frozen=True)
class Shrunk:
    """A covariance, its sums divided by the number of observations, and how far it was shrunk."""

    covariance: Array
    shrinkage: float


def ledoit_wolf(observations: Array) -> Shrunk:
    """The shrunk covariance of ``observations``, one a row and one asset a column.

    The distance of S from its target, d^2 = |S - m I|^2 / p, and its sampling error, b^2 = sum over
    observations of |x x' - S|^2 / (p n^2) and never more than d^2, give the shrinkage b^2 / d^2
    (lemmata 3.2 to 3.4; |.| is Frobenius' norm). One asset has nothing to be shrunk towards.

    Raises:
        DataUnavailable: fewer than two observations, no asset, or a value that is no number.
    """
    rows = np.asarray(observations, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[0] < 2 or rows.shape[1] < 1:
        raise DataUnavailable(
            "covariance: expected at least 2 observations of at least 1 asset, "
            f"was of shape {rows.shape}"
        )
    if not np.isfinite(rows).all():
        raise DataUnavailable("covariance: expected finite returns only")
    count, assets = rows.shape
    centred = rows - rows.mean(axis=0)
    sample = centred.T @ centred / count
    mean_variance = float(np.trace(sample)) / assets
    target = mean_variance * np.eye(assets)
    shrinkage = _shrinkage(centred, sample, target)
    return Shrunk((1 - shrinkage) * sample + shrinkage * target, shrinkage)


def _shrinkage(centred: Array, sample: Array, target: Array) -> float:
    count, assets = centred.shape
    distance = float(np.sum((sample - target) ** 2)) / assets
    # The sum of |x x' - S|^2 without its p x p terms: |x x'| is x'x, and the mean of x x' is S.
    lengths = np.einsum("ij,ij->i", centred, centred)
    error = (float(np.mean(lengths**2)) - float(np.sum(sample**2))) / (count * assets)
    # One asset lies on its target exactly, and so do assets that never move.
    return min(max(error, 0.0), distance) / distance if distance > 0 else 0.0
''')


###################################################################################################
_LOADER.modules["shared.risk.portfolio.limits"] = ("shared/risk/portfolio/limits.py", r'''"""Whether a portfolio with a trade is still one that the pod can bear."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shared.errors import OrderDenied
from shared.risk.portfolio.tail import HORIZON_HOURS, TailRisk

VAR_SHARE = 0.5
"""Of the drawdown limit that a day's value at risk may take."""


@dataclass(frozen=True)
class LossBudget:
    """What a day may lose. Each limit is passed when its figure reaches it."""

    var95_quote: float
    cvar95_quote: float


def loss_budget(
    worth_quote: float, max_drawdown_percent: float, drawdown_percent: float
) -> LossBudget:
    """The budget of a pod that is worth ``worth_quote`` and ``drawdown_percent`` below its mark.

    VaR may take half of the drawdown limit, as the specification has it: one day in twenty is
    worse than that. Days of that kind lose CVaR on average, so CVaR may take what is left until
    the limit is reached: the mean bad day alone must not end trading. At the mark that is the
    whole limit; in a drawdown it shrinks with the distance to the floor, as the risk that Grossman
    and Zhou hold to be optimal does ("Optimal investment strategies for controlling drawdowns",
    Mathematical Finance 3, 1993). Beyond the limit nothing is left.
    """
    kept = (100 - max_drawdown_percent) / (100 - drawdown_percent) if drawdown_percent < 100 else 1
    return LossBudget(
        var95_quote=VAR_SHARE * worth_quote * max_drawdown_percent / 100,
        cvar95_quote=max(0.0, worth_quote * (1 - kept)),
    )


def refusals(
    before: TailRisk,
    after: TailRisk,
    budget: LossBudget,
    correlations: Mapping[str, float | None],
    correlation_limit: float,
) -> list[OrderDenied]:
    """Everything that speaks against a trade; none if it may be made.

    Args:
        correlations: of the candidate with each tactical holding, ``None`` where it is not known.
            The core sleeve's holdings are no part of them: they are held for good, most of the
            market moves with them, and VaR bounds what they may lose together.
    """
    found = [
        OrderDenied(
            code,
            before=f"{before_quote:.2f}",
            after=f"{after_quote:.2f}",
            limit=f"{limit_quote:.2f}",
            method=method,
            horizon_hours=HORIZON_HOURS,
        )
        for code, before_quote, after_quote, limit_quote, method in (
            ("VAR_LIMIT", before.var95_quote, after.var95_quote, budget.var95_quote,
             after.var95_method),
            ("CVAR_LIMIT", before.cvar95_quote, after.cvar95_quote, budget.cvar95_quote,
             after.cvar95_method),
        )
        if not after_quote < limit_quote
    ]  # fmt: skip
    return found + _too_alike(correlations, correlation_limit)


def _too_alike(correlations: Mapping[str, float | None], limit: float) -> list[OrderDenied]:
    found = []
    for other, value in correlations.items():
        if value is None:
            found.append(OrderDenied("CORRELATION_UNKNOWN", **{"with": other}))
        elif not value <= limit:
            detail = {"with": other, "correlation": f"{value:.3f}", "limit": limit}
            found.append(OrderDenied("CORRELATION_LIMIT", **detail))
    return found
''')


###################################################################################################
_LOADER.modules["shared.risk.portfolio.markowitz"] = ("shared/risk/portfolio/markowitz.py", r'''"""Markowitz weights, long only and capped, by a primal active-set method.

Markowitz, "Portfolio Selection" (1952); the method as in Nocedal and Wright, "Numerical
Optimization" (2nd edition, 2006), algorithm 16.3: from a feasible point to the optimum of the
weights that are at no bound, as far as a bound allows; weights that would gain by leaving theirs
are let go. It ends after about as many steps as there are assets, where a gradient method takes
thousands.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from shared.errors import DataUnavailable
from shared.risk.portfolio import ledoit_wolf

Array = NDArray[np.float64]

REFERENCE_CAP = 0.4
"""The most that any symbol may have in the yardstick: the largest default weight of the core."""

_RIDGE = 1e-10
"""Of the mean variance, added to each: the optimum is then a single one, and moves by as little."""
_STEPS_AN_ASSET = 50
_TOLERANCE = 1e-9
"""Of the steepest slope: what a weight must gain by leaving its bound."""


def minimum_variance(
    returns: Mapping[str, Array], *, cap: float = REFERENCE_CAP
) -> dict[str, float]:
    """The weights of least variance by symbol, from the shrunk covariance of returns.

    A yardstick beside real weights: means of returns are too uncertain to be among its inputs
    (Merton, "On estimating the expected return on the market", 1980). A ``cap`` too low for so
    few symbols is raised to equal weights. No symbol has no weights.

    Raises:
        DataUnavailable: fewer than two returns, one that is no number, or no optimum found.
    """
    if not returns:
        return {}
    symbols = sorted(returns)
    covariance = ledoit_wolf(np.array([returns[symbol] for symbol in symbols]).T).covariance
    found = weights(covariance, cap=max(cap, 1 / len(symbols)))
    return dict(zip(symbols, found.tolist(), strict=True))


def weights(
    covariance: Array, expected: Array | None = None, *, cap: float = 1.0, risk_aversion: float = 1
) -> Array:
    """Weights that minimise ``risk_aversion / 2 w'Cw - expected'w``; they sum to one.

    Without ``expected`` returns this is the portfolio of least variance.

    Raises:
        DataUnavailable: the covariance is so badly conditioned that no optimum was found.
        ValueError: the covariance is no symmetric matrix of numbers, or the cap is too low to
            reach a sum of one.
    """
    covariance = np.asarray(covariance, dtype=np.float64)
    count = len(covariance)
    if covariance.shape != (count, count) or not np.allclose(covariance, covariance.T):
        raise ValueError(f"covariance: expected a symmetric matrix, shape was {covariance.shape}")
    if not np.isfinite(covariance).all():
        raise ValueError("covariance: expected finite numbers")
    if cap * count < 1 - 1e-12:
        raise ValueError(f"cap: expected at least {1 / count:.4f} for {count} assets, was {cap}")
    linear = np.zeros(count) if expected is None else np.asarray(expected, dtype=np.float64)
    quadratic = covariance if expected is None else risk_aversion * covariance
    scale = float(np.trace(quadratic)) / count
    ridge = _RIDGE * (scale if scale > 0 else 1.0)
    return _optimum(quadratic + ridge * np.eye(count), linear, cap)


def _optimum(quadratic: Array, linear: Array, cap: float) -> Array:
    count = len(linear)
    current = np.full(count, 1 / count)
    at_zero, at_cap = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
    if current[0] >= cap:  # equal weights are the only ones
        return current
    for _ in range(_STEPS_AN_ASSET * count):
        slope = quadratic @ current - linear
        free = np.flatnonzero(~(at_zero | at_cap))
        step, price = _towards(quadratic, slope, free, at_cap)
        share, first = _until_a_bound(current, step, cap)
        current = current + share * step
        if share < 1:
            at_zero[first], at_cap[first] = step[first] < 0, step[first] > 0
            current[first] = cap if step[first] > 0 else 0.0
            continue
        slope = quadratic @ current - linear
        gain = np.where(at_zero, -slope - price, np.where(at_cap, slope + price, 0.0))
        leaving = int(gain.argmax())
        if gain[leaving] <= _TOLERANCE * float(np.abs(slope).max()):
            return current
        at_zero[leaving] = at_cap[leaving] = False
    raise DataUnavailable(
        f"Markowitz weights of {count} assets: expected an optimum within "
        f"{_STEPS_AN_ASSET * count} steps, found none"
    )


def _towards(
    quadratic: Array, slope: Array, free: NDArray[np.intp], at_cap: NDArray[np.bool_]
) -> tuple[Array, float]:
    """The step of the free weights to their optimum, its sum zero, and the price of that sum."""
    step = np.zeros(len(slope))
    if not len(free):
        return step, -float(slope[at_cap].max())
    count = len(free)
    system = np.ones((count + 1, count + 1))
    # The border in the units of the rest, so that small variances are no small pivots.
    unit = float(np.abs(quadratic).max())
    system[:count, :count] = quadratic[np.ix_(free, free)] / unit
    system[count, count] = 0.0
    solved = np.linalg.solve(system, np.append(-slope[free] / unit, 0.0))
    step[free] = solved[:count]
    return step, float(solved[count]) * unit


def _until_a_bound(current: Array, step: Array, cap: float) -> tuple[float, int]:
    """How much of a step is possible, at most 1, and which weight meets its bound there."""
    room = np.full(len(step), np.inf)
    down, up = step < 0, step > 0
    room[down] = current[down] / -step[down]
    room[up] = (cap - current[up]) / step[up]
    first = int(room.argmin())
    return min(1.0, max(0.0, float(room[first]))), first
''')


###################################################################################################
_LOADER.modules["shared.risk.portfolio.returns"] = ("shared/risk/portfolio/returns.py", r'''"""Hourly returns over the hours that all symbols have, and what is read from them directly."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from shared.errors import DataUnavailable
from shared.market.types import Candles

Array = NDArray[np.float64]

HOUR_MS = 3_600_000
HOURS_PER_YEAR = 24 * 365
WINDOW_HOURS = 1_000
"""The newest returns that are looked at: six weeks. Chosen with ``DECAY``, see ``tail``."""
MINIMUM_RETURNS = 120
"""Five days of hours: six observations beyond the 95 % quantile. With no more than these, one day
in 15 instead of one in 20 broke the historical VaR of the years 2018 to 2024."""


def aligned_returns(candles: Mapping[str, Candles]) -> dict[str, Array]:
    """Simple hourly returns by symbol over the hours that every symbol has, the newest
    ``WINDOW_HOURS`` of them.

    A return across a gap would be that of a longer time; it is left out.

    Raises:
        DataUnavailable: fewer than ``MINIMUM_RETURNS`` are common to all, or a close is no
            positive number.
    """
    if not candles:
        return {}
    common = _common_hours(candles)
    follows = np.flatnonzero(np.diff(common) == HOUR_MS)[-WINDOW_HOURS:]
    if len(follows) < MINIMUM_RETURNS:
        raise DataUnavailable(
            f"hourly returns of {', '.join(candles)}: expected at least {MINIMUM_RETURNS}, "
            f"found {len(follows)}"
        )
    returns = {}
    for symbol, series in candles.items():
        close = series.close[np.isin(series.open_ms, common, assume_unique=True)]
        if not (np.isfinite(close) & (close > 0)).all():
            raise DataUnavailable(f"hourly closes of {symbol}: expected positive numbers only")
        returns[symbol] = close[follows + 1] / close[follows] - 1
    return returns


def portfolio_returns(
    values_quote: Mapping[str, float], returns: Mapping[str, Array], worth_quote: float
) -> Array:
    """Hourly returns of the whole pod, had it held ``values_quote`` all along, cash included."""
    parts = [value * returns[symbol] for symbol, value in values_quote.items() if value != 0]
    if not parts:
        return np.zeros(0)
    profit: Array = np.sum(parts, axis=0) / worth_quote
    return profit


def volatility_annualised_percent(returns: Array) -> float:
    """Sample deviation of hourly returns on a year of 8,760 hours, in percent."""
    return float(100 * returns.std(ddof=1) * math.sqrt(HOURS_PER_YEAR))


def _common_hours(candles: Mapping[str, Candles]) -> NDArray[np.int64]:
    times = [np.asarray(series.open_ms) for series in candles.values()]
    common = times[0]
    for other in times[1:]:
        common = np.intersect1d(common, other, assume_unique=True)
    return common
''')


###################################################################################################
_LOADER.modules["shared.risk.portfolio.tail"] = ("shared/risk/portfolio/tail.py", r'''"""Value at risk (VaR 95) and the mean loss beyond it (CVaR 95) over 24 hours, by three methods.

What is held is valued now and carried through the hourly profits of the last weeks:

* ``historical``: their own tail (historical simulation).
* ``filtered``: each hour's profit is divided by the volatility that was known before it and
  multiplied by that of now (Hull and White, "Incorporating volatility updating into the historical
  simulation method for value at risk", 1998; Barone-Adesi, Giannopoulos and Vosper, "VaR without
  correlations for portfolios of derivative securities", 1999). The volatility is the exponentially
  weighted one of the J.P. Morgan/Reuters "RiskMetrics Technical Document" (1996), of the whole
  portfolio: assets keep moving together as they did in that hour.
* ``parametric``: normal, from the shrunk covariance of the assets. A check: its mean beyond the VaR
  is too small where tails are fat.

A limit is held against the largest of the three.

An hour becomes a day by the square root of 24, as RiskMetrics does. Overlapping sums of 24 hours
would need no such rule, but see few independent days: on 2018 to 2024 their quantile loss was the
larger one with every window, and with 120 hours 13 % of days broke their VaR instead of 7 %. The
window of 1,000 hours is that of the least loss in those years, and so is RiskMetrics' decay of 0.94
a day. ``trading-loop risk backtest`` measures all of that, and judges the methods on later data
(``reports/risk``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from shared.errors import DataUnavailable
from shared.risk.portfolio.covariance import ledoit_wolf
from shared.risk.portfolio.returns import Array

HORIZON_HOURS = 24
TAIL = 0.05
DECAY = 0.94 ** (1 / 24)
"""Of the squared profits' weights, an hour: a half-life of eleven days."""

METHODS = ("historical", "filtered", "parametric")

_NORMAL_QUANTILE = 1.6448536269514722
_NORMAL_MEAN_BEYOND = 2.0627128075074257  # density at the quantile over the tail
_LEAST_VOLATILITY = 0.1
"""Of the window's own deviation. A market that stood still is not known to be calm, and one hour
after it would otherwise become a loss without measure."""


@dataclass(frozen=True)
class TailLoss:
    """Losses as positive amounts over ``HORIZON_HOURS``; 0 is the least."""

    var95_quote: float
    cvar95_quote: float


_NOTHING = TailLoss(0.0, 0.0)


@dataclass(frozen=True)
class TailRisk:
    """The tail by each method. What limits are held against is the largest."""

    historical: TailLoss
    filtered: TailLoss
    parametric: TailLoss

    @property
    def var95_quote(self) -> float:
        return max(loss.var95_quote for loss in self.by_method.values())

    @property
    def cvar95_quote(self) -> float:
        return max(loss.cvar95_quote for loss in self.by_method.values())

    @property
    def var95_method(self) -> str:
        """Whose VaR is the largest."""
        by_method = self.by_method
        return max(by_method, key=lambda name: by_method[name].var95_quote)

    @property
    def cvar95_method(self) -> str:
        """Whose CVaR is the largest."""
        by_method = self.by_method
        return max(by_method, key=lambda name: by_method[name].cvar95_quote)

    @property
    def by_method(self) -> dict[str, TailLoss]:
        return {name: getattr(self, name) for name in METHODS}


def tail_risk(values_quote: Mapping[str, float], returns: Mapping[str, Array]) -> TailRisk:
    """The tail of holdings of ``values_quote`` by symbol. Nothing held risks nothing.

    Raises:
        DataUnavailable: a holding has no returns, or its price never moved: what it may lose is
            not known.
    """
    held = {symbol: value for symbol, value in values_quote.items() if value != 0}
    _refuse_unknown(held, returns)
    if not held:
        return TailRisk(_NOTHING, _NOTHING, _NOTHING)
    by_asset = np.array([returns[symbol] for symbol in held]).T
    values = np.array(list(held.values()))
    profits = by_asset @ values
    return TailRisk(historical(profits), filtered(profits), parametric(by_asset, values))


def historical(profits: Array) -> TailLoss:
    """The 5 % quantile of hourly profits and the mean at or below it, over the horizon.

    The quantile is interpolated linearly (Hyndman and Fan 1996, type 7).
    """
    quantile = float(np.quantile(profits, TAIL))
    beyond = float(profits[profits <= quantile].mean())
    return TailLoss(max(0.0, -quantile * _SCALE), max(0.0, -beyond * _SCALE))


def filtered(profits: Array, decay: float = DECAY) -> TailLoss:
    """The tail of hourly profits as they would be at the volatility of now, over the horizon."""
    volatility = ewma_volatility(profits, decay)
    if volatility[-1] == 0:  # nothing has moved: a hedge without a remainder
        return _NOTHING
    return historical(profits / volatility[:-1] * volatility[-1])


def parametric(by_asset: Array, values: Array) -> TailLoss:
    """The tail of a normal distribution with the assets' shrunk covariance and a mean of zero."""
    covariance = ledoit_wolf(by_asset).covariance
    deviation = math.sqrt(max(0.0, float(values @ covariance @ values))) * _SCALE
    return TailLoss(_NORMAL_QUANTILE * deviation, _NORMAL_MEAN_BEYOND * deviation)


def ewma_volatility(profits: Array, decay: float = DECAY) -> Array:
    """The volatility known before each profit, and behind the newest: one value more than profits.

    It starts from the mean square of all, and is never less than a tenth of its root.
    """
    squares = profits * profits
    mean_square = float(squares.mean())
    variances = accumulate(
        squares.tolist(), lambda old, new: decay * old + (1 - decay) * new, initial=mean_square
    )
    floor = _LEAST_VOLATILITY * math.sqrt(mean_square)
    return np.maximum(np.sqrt(np.fromiter(variances, np.float64, len(profits) + 1)), floor)


_SCALE = math.sqrt(HORIZON_HOURS)


def _refuse_unknown(held: Mapping[str, float], returns: Mapping[str, Array]) -> None:
    missing = [symbol for symbol in held if symbol not in returns]
    if missing:
        raise DataUnavailable(f"returns: expected a series of {', '.join(missing)}, found none")
    still = [symbol for symbol in held if not returns[symbol].any()]
    if still:
        raise DataUnavailable(
            f"returns of {', '.join(still)}: expected a price that moves, "
            f"all {len(returns[still[0]])} were 0"
        )
''')


###################################################################################################
_LOADER.modules["shared.risk.staking"] = ("shared/risk/staking/__init__.py", r'''"""How much a purchase spends: odds, probes, the size and every cap on it."""
''')


###################################################################################################
_LOADER.modules["shared.risk.staking.kelly"] = ("shared/risk/staking/kelly.py", r'''"""The Kelly fraction, the odds that go into it, and how far these can be trusted.

Kelly, "A New Interpretation of Information Rate" (1956): ``f = (p (b + 1) - 1) / b``, with ``p``
the chance to win and ``b`` the average win over the average loss. A trade wins where anything is
left after costs; target, stop and time stop are three ways to end, and both averages count all
of them.

Where ``p`` and ``b`` come from. The prior is what entries of such an AI score have earned in
recordings that the score's model did not know (``shared.market.score``): it has the weight of
``PRIOR_TRADES`` trades, and the pod's own closed trades are counted beside it, so that a hundred
of them overrule it. Without a measured prior the break-even chance of the configured exits stands
in for it, which stakes nothing. An opinion of a model can lower what comes out, never raise it.

How far they can be trusted. The full fraction is right only for a known ``p``. For an estimate
with the deviation ``s`` it is multiplied by ``z^2 / (1 + z^2)`` with ``z = (p - q) / s`` and the
break-even chance ``q = 1 / (b + 1)`` (Baker and McHale, "Optimal Betting Under Parameter
Uncertainty: Improving the Kelly Criterion", Decision Analysis 10, 2013).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from shared.config import Config

PRIOR_TRADES = 20.0
ROUND_TRIP_COST_PERCENT = 0.3  # taker fees of 10 bps both ways and 5 bps of slippage each
_ONE_SIDED_95 = 1.6448536269514722


@dataclass(frozen=True)
class History:
    """Closed trades after fees. Average win and loss in percent of cost, both positive."""

    wins: int
    losses: int
    average_win_percent: float | None
    average_loss_percent: float | None


@dataclass(frozen=True)
class Odds:
    """Chance to win and average win over average loss, with what they were made of.

    Attributes:
        prior_win_probability: before the pod's own trades.
        prior: ``measured`` by the score's model, or ``break_even`` where it is not known.
        trades: closed ones of the pod that were counted.
        deviation: of ``win_probability`` as an estimate.
        model_objects: whether a model's own win probability is no better than break-even.
    """

    win_probability: float
    win_loss_ratio: float
    prior_win_probability: float
    prior: str
    trades: int
    deviation: float
    model_objects: bool = False

    @property
    def break_even_probability(self) -> float:
        return break_even_probability(self.win_loss_ratio)

    @property
    def kelly(self) -> float:
        return kelly_fraction(self.win_probability, self.win_loss_ratio)

    @property
    def trust(self) -> float:
        """What estimation error leaves of the fraction: 0 without an edge, towards 1 beyond it."""
        edge = self.win_probability - self.break_even_probability
        if edge <= 0:
            return 0.0
        squared = (edge / self.deviation) ** 2
        return squared / (1 + squared)

    @property
    def may_have_an_edge(self) -> bool:
        """Whether the 95 % bound of the win probability lies above break-even."""
        bound = self.win_probability + _ONE_SIDED_95 * self.deviation
        return bound > self.break_even_probability


def kelly_fraction(win_probability: float, win_loss_ratio: float) -> float:
    """The share of capital to stake; negative where the odds are against the bet.

    Raises:
        ValueError: the probability is not within 0..1, or the ratio is not above 0.
    """
    if not 0 <= win_probability <= 1:
        raise ValueError(f"win_probability: expected 0..1, was {win_probability}")
    if not (win_loss_ratio > 0 and math.isfinite(win_loss_ratio)):
        raise ValueError(f"win_loss_ratio: expected above 0, was {win_loss_ratio}")
    return (win_probability * (win_loss_ratio + 1) - 1) / win_loss_ratio


def break_even_probability(win_loss_ratio: float) -> float:
    """The win rate at which Kelly stakes nothing."""
    return 1 / (win_loss_ratio + 1)


def odds(
    config: Config,
    history: History,
    *,
    measured: Mapping[str, float] | None,
    model_win_probability: float | None,
    model_win_loss_ratio: float | None,
) -> Odds:
    """The odds of the next trade.

    The win probability is the mean of a beta distribution, its deviation that distribution's. The
    averages of wins and losses are means over the prior's trades and the pod's own.

    Args:
        measured: ``win_probability``, ``average_win_percent`` and ``average_loss_percent`` of
            entries of such a score; ``None`` where nobody has measured them.
        model_win_probability, model_win_loss_ratio: opinions that can only lower the result.
    """
    win_percent, loss_percent = _configured(config)
    if measured is None:
        prior = break_even_probability(win_percent / loss_percent)
    else:
        prior = measured["win_probability"]
        win_percent = measured["average_win_percent"]
        loss_percent = measured["average_loss_percent"]
    trades = history.wins + history.losses
    posterior = (prior * PRIOR_TRADES + history.wins) / (PRIOR_TRADES + trades)
    deviation = math.sqrt(posterior * (1 - posterior) / (PRIOR_TRADES + trades + 1))
    wins = _blend(win_percent, prior, history.average_win_percent, history.wins)
    losses = _blend(loss_percent, 1 - prior, history.average_loss_percent, history.losses)
    ratio = wins / losses
    if model_win_loss_ratio is not None and model_win_loss_ratio > 0:
        ratio = min(ratio, model_win_loss_ratio)
    objects = False
    if model_win_probability is not None:
        objects = model_win_probability <= break_even_probability(ratio)
        posterior = min(posterior, model_win_probability)
    return Odds(
        win_probability=posterior,
        win_loss_ratio=ratio,
        prior_win_probability=prior,
        prior="break_even" if measured is None else "measured",
        trades=trades,
        deviation=deviation,
        model_objects=objects,
    )


def _configured(config: Config) -> tuple[float, float]:
    """Win and loss of the configured target and stop in percent, after a round trip's costs."""
    win = float(config.take_profit_percent) - ROUND_TRIP_COST_PERCENT
    if win <= 0:
        raise ValueError(
            f"TAKE_PROFIT_PERCENT: expected above the costs of {ROUND_TRIP_COST_PERCENT} %, "
            f"was {config.take_profit_percent}"
        )
    return win, float(config.stop_loss_percent) + ROUND_TRIP_COST_PERCENT


def _blend(prior_percent: float, share: float, own_percent: float | None, count: int) -> float:
    """The mean over the prior's wins (or losses) and the pod's own."""
    if own_percent is None or own_percent <= 0 or count == 0:
        return prior_percent
    weight = share * PRIOR_TRADES
    return (weight * prior_percent + count * own_percent) / (weight + count)
''')


###################################################################################################
_LOADER.modules["shared.risk.staking.sizing"] = ("shared/risk/staking/sizing.py", r'''"""How much to stake: quarter Kelly, scaled down, then the smallest of every cap.

Every step that made it smaller is told with its value before and after; the last one told is the
one that binds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, Decimal

from shared.risk.exits import REFERENCE_VOLATILITY_PERCENT

_CENT = Decimal("0.01")


@dataclass(frozen=True)
class Stake:
    """What scales a size. All but ``worth_quote`` and volatility are shares of 0..1.

    Attributes:
        kelly: the full Kelly fraction; may be negative.
        kelly_share: how much of Kelly is staked, a quarter by default.
        trust: what the estimation error of the odds leaves of it.
        probe_quote: what may be spent where Kelly stakes less, on paper; ``None`` for nothing.
        stop_scale: the configured stop distance over this trade's: a wider stop is held smaller,
            so that the loss at it stays the same.
        size_multiplier: the optimiser's parameter. size_factor: the breaker's.
        decision_size: what the decision asked for.
    """

    worth_quote: Decimal
    kelly: float
    kelly_share: float
    trust: float
    probe_quote: Decimal | None
    stop_scale: float
    size_multiplier: float
    size_factor: Decimal
    decision_size: float
    volatility_annualised_percent: float


@dataclass(frozen=True)
class Size:
    """A notional in quote currency and, by name, every step that made it smaller.

    Attributes:
        bound_by: the step that set it: the last of ``adjustments``, or what it began with.
    """

    size_quote: Decimal
    bound_by: str
    adjustments: dict[str, dict[str, float]] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()


def size(stake: Stake, caps: Mapping[str, Decimal]) -> Size:
    """The notional to buy: never above any cap, never negative, zero without an edge.

    Args:
        caps: what each limit leaves, in quote currency, by the limit's name; may be negative.
    """
    steps = _begin(stake)
    if steps is None:
        none = f"KELLY_NO_EDGE: kelly={stake.kelly:.4f}"
        return Size(Decimal(0), "KELLY_NO_EDGE", {}, (none,))
    steps.scale("SIZE_MULTIPLIER", _exact(stake.size_multiplier))
    steps.scale("SIZE_FACTOR", stake.size_factor)
    steps.scale("DECISION_SIZE", _exact(stake.decision_size))
    steps.scale("VOLATILITY", _exact(volatility_scale(stake.volatility_annualised_percent)))
    steps.scale("STOP_DISTANCE", _exact(stake.stop_scale))
    for name, cap in sorted(caps.items(), key=lambda item: item[1], reverse=True):
        steps.clamp(name, cap)
    size_quote = max(steps.value, Decimal(0)).quantize(_CENT, rounding=ROUND_DOWN)
    return Size(size_quote, steps.bound_by, steps.adjustments, tuple(steps.reasons))


def _begin(stake: Stake) -> _Steps | None:
    """Kelly's stake as far as it can be trusted, or a probe where that is more."""
    steps = None
    if stake.kelly > 0:
        steps = _Steps("KELLY", stake.worth_quote * _exact(stake.kelly * stake.kelly_share))
        steps.scale("ESTIMATION_ERROR", _exact(stake.trust))
    if stake.probe_quote is not None and (steps is None or stake.probe_quote > steps.value):
        steps = _Steps("PROBE", stake.probe_quote)
        steps.reasons.append(f"PROBE: size={stake.probe_quote:.2f}, kelly={stake.kelly:.4f}")
    return steps


def volatility_scale(volatility_annualised_percent: float) -> float:
    """1 up to the reference volatility, then falling as its inverse."""
    if volatility_annualised_percent <= REFERENCE_VOLATILITY_PERCENT:
        return 1.0
    return REFERENCE_VOLATILITY_PERCENT / volatility_annualised_percent


class _Steps:
    """A value on its way down, and the record of each step."""

    def __init__(self, origin: str, value: Decimal) -> None:
        self.value = value
        self.bound_by = origin
        self.adjustments: dict[str, dict[str, float]] = {}
        self.reasons: list[str] = []

    def scale(self, name: str, factor: Decimal) -> None:
        self._to(f"SCALE_{name}", self.value * max(Decimal(0), min(Decimal(1), factor)))

    def clamp(self, name: str, cap: Decimal) -> None:
        self._to(f"LIMIT_{name}", min(self.value, cap))

    def _to(self, name: str, after: Decimal) -> None:
        if after >= self.value:
            return
        before, self.value, self.bound_by = self.value, after, name
        self.adjustments[name] = {"before": float(before), "after": float(after)}
        self.reasons.append(f"{name}: before={before:.2f}, after={after:.2f}")


def _exact(value: float) -> Decimal:
    return Decimal(repr(float(value)))
''')


###################################################################################################
_LOADER.modules["shared.run"] = ("shared/run.py", r'''"""The frame of every step: configuration, lease, ledger, cache, call log, end of run.

A workflow's first step takes the lease and claims the event; the last one gives the lease back.
The steps between carry the run's id and epoch in their exports. A step that fails closes the run
as failed, so that the next minute is not locked out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from shared import BUILD, cache, clock, config, instance
from shared.calls import CallLog
from shared.config import Config
from shared.errors import ConfigurationError, DataUnavailable, LeaseLost, LedgerUnavailable
from shared.ledger import leases, runs, universes
from shared.ledger.connection import Ledger
from shared.ledger.universes import Universe

Export = dict[str, Any]


@dataclass
class Run:
    """What a step works with.

    Attributes:
        steps: exports of the earlier steps of this run, by step name.
        run_id, epoch: this run's row in the ledger and its fencing token.
        earlier_steps_ms: how long the steps before this one took.
        compared_at: by venue, when this step last found its balances equal to the ledger's.
    """

    config: config.Config
    ledger: Ledger
    cache: cache.Cache
    calls: CallLog
    workflow: str
    step: str
    trace_id: str
    event_at: datetime
    run_id: int
    epoch: int
    earlier_steps_ms: float = 0.0
    steps: dict[str, Any] = field(default_factory=dict)
    compared_at: dict[str, datetime] = field(default_factory=dict)
    _universe: tuple[Config, Universe] | None = field(default=None, repr=False)

    @property
    def universe(self) -> Universe:
        """What this run trades, read once: the steps after the first take over what it has read."""
        if self._universe is None or self._universe[0] is not self.config:
            self._universe = (self.config, universes.in_force(self.ledger, self.config))
        return self._universe[1]

    @property
    def pairs(self) -> tuple[str, ...]:
        """The symbols that this run looks at: the universe, and what is held outside of it."""
        return self.universe.pairs

    def read_universe_again(self) -> Universe:
        """The universe after it was chosen anew in this run."""
        self._universe = None
        return self.universe

    def guard(self) -> None:
        """Inside a transaction: hold the lease, or raise ``LeaseLost``."""
        leases.guard(self.ledger, self.workflow, self.epoch)

    def export_of(self, step: str) -> Export:
        """What an earlier step of this run returned.

        Raises:
            DataUnavailable: the step has returned nothing.
        """
        export = self.steps.get(step, {}).get("$return_value")
        if not isinstance(export, dict):
            raise DataUnavailable(f"steps.{step}: expected an export, was {export!r}")
        return export


def run_step(
    pd: Any,
    *,
    workflow: str,
    step: str,
    body: Callable[[Run], Export],
    first: bool = False,
    last: bool = False,
) -> Any:
    """Run ``body`` inside the frame and return its export, with ``run`` added.

    An event that was worked on already, or that another run is working on, ends the workflow
    by ``pd.flow.exit`` without an error.
    """
    watch = clock.Stopwatch()
    run = _open(pd, workflow, step, first=first)
    if isinstance(run, str):
        return pd.flow.exit(run)
    try:
        export = body(run)
    except LedgerUnavailable:
        raise  # nothing can be written; the lease runs out by itself
    except LeaseLost as lost:
        _close(run, watch, error=f"{step}: {lost}")
        return pd.flow.exit(str(lost))
    except Exception as error:
        _close(run, watch, error=f"{step}: {type(error).__name__}: {error}")
        raise
    run.calls.flush(run.ledger, run.run_id)
    if last:
        _close(run, watch)
    return export | {"run": _identity(run, watch)}


def _open(pd: Any, workflow: str, step: str, *, first: bool) -> Run | str:
    """The run of this step, or the reason why there is nothing to do."""
    opened = instance.opened(pd, workflow=workflow)
    if isinstance(opened, str):
        return opened
    settings, ledger = opened
    context = _trigger(pd)
    if first:
        claimed = _claim(ledger, workflow, context)
        if isinstance(claimed, str):
            return claimed
        (run_id, epoch), elapsed_ms = claimed, 0.0
        universe = None
    else:
        run_id, epoch, elapsed_ms = _carried(pd)
        universe = _carried_universe(pd, settings)
    calls = CallLog()
    redis_url = settings.redis_url.get_secret_value() if settings.redis_url else None
    return Run(
        config=settings,
        ledger=ledger,
        cache=cache.Cache(redis_url, settings.pod, calls),
        calls=calls,
        workflow=workflow,
        step=step,
        trace_id=context["trace_id"],
        event_at=context["at"],
        run_id=run_id,
        epoch=epoch,
        earlier_steps_ms=elapsed_ms,
        steps=dict(pd.steps),
        _universe=None if universe is None else (settings, universe),
    )


def _trigger(pd: Any) -> dict[str, Any]:
    trigger = pd.steps["trigger"]
    context, event = trigger["context"], trigger["event"]
    stamp = event.get("timestamp")
    at = clock.from_ms(int(stamp) * 1000) if stamp is not None else clock.now()
    return {"trace_id": context["trace_id"], "at": at}


def _claim(ledger: Ledger, workflow: str, context: dict[str, Any]) -> tuple[int, int] | str:
    epoch = leases.acquire(ledger, workflow, context["trace_id"])
    if epoch is None:
        return f"LEASE_HELD: workflow={workflow}"
    run_id = runs.start(ledger, workflow, context["trace_id"], context["at"], epoch)
    if run_id is None:
        leases.release(ledger, workflow, epoch)
        return f"EVENT_DONE: workflow={workflow}, trace_id={context['trace_id']}"
    return run_id, epoch


def _carried(pd: Any) -> tuple[int, int, float]:
    for export in reversed(list(pd.steps.values())):
        value = export.get("$return_value") if isinstance(export, dict) else None
        if isinstance(value, dict) and "run" in value:
            run = value["run"]
            if run["build"] != BUILD:
                raise ConfigurationError(
                    f"run: build: expected {BUILD} as in this step, was {run['build']} in an "
                    "earlier one; a deployment is under way or was left half done"
                )
            return int(run["run_id"]), int(run["epoch"]), float(run["elapsed_ms"])
    raise DataUnavailable("run: expected run_id and epoch in the export of an earlier step")


def _carried_universe(pd: Any, settings: config.Config) -> Universe | None:
    """What the steps before have read; ``None`` where none of them has, and it is to be chosen."""
    for export in reversed(list(pd.steps.values())):
        value = export.get("$return_value") if isinstance(export, dict) else None
        carried = value.get("run") if isinstance(value, dict) else None
        if isinstance(carried, dict) and "universe" in carried:
            symbols = carried["universe"]
            return Universe(tuple(symbols["buyable"]), tuple(symbols["leaving"]))
    return None if settings.chooses_symbols else Universe(settings.pairs)


def _identity(run: Run, watch: clock.Stopwatch) -> Export:
    identity = _names(run, watch)
    known = run._universe
    if known is not None and known[1].pairs != run.config.pairs:
        symbols = known[1]
        identity["universe"] = {
            "buyable": list(symbols.buyable),
            "leaving": list(symbols.leaving),
        }
    return identity


def _names(run: Run, watch: clock.Stopwatch) -> Export:
    return {
        "run_id": run.run_id,
        "epoch": run.epoch,
        "workflow": run.workflow,
        "trace_id": run.trace_id,
        "pod": run.config.pod,
        "build": BUILD,
        "at_ms": clock.to_ms(run.event_at),
        "elapsed_ms": round(run.earlier_steps_ms + watch.milliseconds(), 3),
        "trading_mode": run.config.trading_mode,
    }


def _close(run: Run, watch: clock.Stopwatch, *, error: str | None = None) -> None:
    milliseconds = run.earlier_steps_ms + watch.milliseconds()
    shown = None if error is None else _without_secrets(run, error)
    runs.finish(run.ledger, run.run_id, run.epoch, duration_ms=milliseconds, error=shown)
    leases.release(run.ledger, run.workflow, run.epoch)


def _without_secrets(run: Run, text: str) -> str:
    """An error may quote an address or a header: no secret of the configuration is kept with it."""
    for secret in run.config.secrets():
        text = text.replace(secret, "(secret)")
    return text[:2_000]
''')


###################################################################################################
_LOADER.modules["shared.signals"] = ("shared/signals/__init__.py", r'''"""From a scan to one decision: strategies, regime, ensemble, models, the final word."""
''')


###################################################################################################
_LOADER.modules["shared.signals.regime"] = ("shared/signals/regime.py", r'''"""The regime of a market, and how far each strategy is trusted in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.signals.strategies.base import number, timeframe
from shared.signals.types import Market, Regime, RegimeName

TIMEFRAME = "1h"
BASELINE_TIMEFRAME = "1d"
TREND_ADX = 25.0  # Wilder, New Concepts in Technical Trading Systems, 1978
VOLATILE_RATIO = 1.75  # a volatility index of 35 where 20 is normal

EFFECT: dict[RegimeName, dict[str, float]] = {
    "trending": {
        "momentum": 1.25,
        "mean_reversion": 0.4,
        "arbitrage": 1.0,
        "market_making": 0.8,
        "trend_following": 1.5,
    },
    "ranging": {
        "momentum": 0.75,
        "mean_reversion": 1.5,
        "arbitrage": 1.0,
        "market_making": 1.25,
        "trend_following": 0.5,
    },
    "volatile": {
        "momentum": 0.75,
        "mean_reversion": 0.75,
        "arbitrage": 1.25,
        "market_making": 0.5,
        "trend_following": 0.75,
    },
    "unknown": {},
}
"""Factors on the weights: trends favour those who follow, ranges those who fade, and in a storm
only price differences are trusted more than usual. The products are scaled back to a sum of 1."""


def classify(market: Market) -> Regime:
    """``volatile`` where volatility is 1.75 times its usual, else by ADX; else ``unknown``.

    Storms go before trends.
    """
    table = timeframe(market, TIMEFRAME)
    adx = number(table, "adx_14")
    ratio = volatility_ratio(market)
    evidence: dict[str, Any] = {
        "timeframe": TIMEFRAME,
        "adx_14": adx,
        "volatility_ratio": ratio,
        "volatility_baseline": BASELINE_TIMEFRAME,
    }
    if ratio is not None and ratio >= VOLATILE_RATIO:
        return Regime("volatile", evidence)
    missing = [f"{TIMEFRAME}.adx_14"] if adx is None else []
    missing += ["volatility_ratio"] if ratio is None else []
    if missing or adx is None:
        return Regime("unknown", evidence | {"missing": missing})
    return Regime("trending" if adx >= TREND_ADX else "ranging", evidence)


def volatility_ratio(market: Market) -> float | None:
    """Volatility of the last thirty hours over that of the last thirty days, both annualised.

    The scan carries no longer history of volatility that "usual" could be read from.
    """
    present = number(timeframe(market, TIMEFRAME), "volatility_annualised_percent")
    usual = number(timeframe(market, BASELINE_TIMEFRAME), "volatility_annualised_percent")
    return present / usual if present is not None and usual is not None and usual > 0 else None


def adjust(weights: Mapping[str, float], regime: RegimeName) -> dict[str, float]:
    """The weights under a regime; they still sum to one."""
    effect = EFFECT[regime]
    scaled = {name: weight * effect.get(name, 1.0) for name, weight in weights.items()}
    total = sum(scaled.values())
    return {name: weight / total for name, weight in scaled.items()}
''')


###################################################################################################
_LOADER.modules["shared.signals.strategies"] = ("shared/signals/strategies/__init__.py", r'''"""The five strategies, one a file."""

from __future__ import annotations

from shared.signals.strategies.arbitrage import Arbitrage
from shared.signals.strategies.base import Strategy
from shared.signals.strategies.market_making import MarketMaking
from shared.signals.strategies.mean_reversion import MeanReversion
from shared.signals.strategies.momentum import Momentum
from shared.signals.strategies.trend_following import TrendFollowing

ALL: tuple[Strategy, ...] = (
    Momentum(),
    MeanReversion(),
    Arbitrage(),
    MarketMaking(),
    TrendFollowing(),
)
"""In the order of their export; their names are the fields of ``StrategyWeights``."""
''')


###################################################################################################
_LOADER.modules["shared.signals.strategies.arbitrage"] = ("shared/signals/strategies/arbitrage.py", r'''"""Arbitrage: is our venue's price away from other venues' by more than the fees of both sides?

This account holds spot and sends one order a minute, so it cannot lock both legs at once. The
strategy therefore buys where our venue is cheap and sells where it is dear.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.market.fees import ENTRY_TIER
from shared.signals.strategies.base import abstain, number, opinion
from shared.signals.types import Context, Market, Signal, StrategySignal

MAX_QUOTE_SKEW_MS = 5_000  # quotes further apart in time are not compared
FULL_EDGE_BPS = 20.0
Quote = Mapping[str, float]


class Arbitrage:
    """Cross-exchange differences after taker fees; triangles and basis where the scan has them."""

    name = "arbitrage"

    def evaluate(self, market: Market, context: Context) -> StrategySignal:
        own_name = market["venue"]
        if own_name not in ENTRY_TIER:
            return abstain(self.name, market, context, missing=[f"fees.{own_name}"])
        evidence: dict[str, Any] = {
            "triangular": triangular(market, context.quotes),
            "basis": basis(market),
        }
        quotes = {v: q for v, q in market["venues"].items() if usable(q)}
        own = quotes.pop(own_name, None)
        if own is None:
            return abstain(self.name, market, context, missing=[f"venues.{own_name}"], **evidence)
        others = {v: q for v, q in quotes.items() if _comparable(own, q) and v in ENTRY_TIER}
        if not others:
            return abstain(self.name, market, context, missing=["venues.other"], **evidence)
        buy_venue = max(others, key=lambda v: _edge(own_name, own, v, others[v]))
        sell_venue = max(others, key=lambda v: _edge(v, others[v], own_name, own))
        buy_edge = _edge(own_name, own, buy_venue, others[buy_venue])
        sell_edge = _edge(sell_venue, others[sell_venue], own_name, own)
        signal, edge = _signal(buy_edge, sell_edge)
        depth = _depth(market, "ask" if buy_edge >= sell_edge else "bid")
        if depth is not None and depth < context.max_position_quote:
            signal = "HOLD"
        evidence["cross_exchange"] = {
            "buy_here_net_bps": buy_edge,
            "sell_at": buy_venue,
            "sell_here_net_bps": sell_edge,
            "buy_at": sell_venue,
            "depth_quote": depth,
            "depth_needed_quote": context.max_position_quote,
            "missing": [f"{venue}.depth" for venue in others]
            + ([] if depth is not None else [f"{own_name}.depth"]),
        }
        # The other venue's depth is never in the scan, so that an edge is never quite certain.
        confidence = 0.8 if depth is not None else 0.5
        return opinion(
            self.name, market, context, signal, edge / FULL_EDGE_BPS, confidence, evidence
        )


def triangular(market: Market, quotes: Mapping[str, Mapping[str, Quote]]) -> dict[str, Any]:
    """The best round quote > base > bridge > quote on the market's venue, net of three taker fees.

    It needs a cross pair such as ``ETH/BTC`` in the scan, and says so where there is none.
    """
    venue = market["venue"]
    books = {symbol: q for symbol, q in quotes.get(venue, {}).items() if usable(q)}
    base, quote = market["symbol"].split("/")
    rounds = {}
    for cross, book in books.items():
        left, right = cross.split("/")
        if left != base or right == quote or f"{right}/{quote}" not in books:
            continue
        if f"{base}/{quote}" not in books:
            continue
        gross = book["bid"] * books[f"{right}/{quote}"]["bid"] / books[f"{base}/{quote}"]["ask"]
        rounds[cross] = 10_000 * (gross * (1 - _taker(venue)) ** 3 - 1)
    if not rounds:
        return {"missing": [f"{venue}.{base}/<bridge>"]}
    best = max(rounds, key=lambda cross: rounds[cross])
    return {"via": best, "net_bps": rounds[best]}


def basis(market: Market) -> dict[str, Any]:
    """What the perpetual pays over spot in eight hours, net of two taker fees.

    Earning it takes a short perpetual, which a spot account has not: it is evidence, no signal. The
    perpetual's price is read seldom; it is compared with a book of the same seconds only.
    """
    funding = (market.get("derivatives") or {}).get("funding")
    book = market.get("microstructure")
    rate, mark, read_ms = (
        number(funding, key) for key in ("funding_rate_8h", "mark_price", "funding_at_ms")
    )
    if rate is None or mark is None or read_ms is None:
        return {"missing": ["derivatives.funding"]}
    found: dict[str, Any] = {"funding_bps": 10_000 * rate, "tradable": False}
    mid, book_ms = number(book, "mid"), number(book, "at_ms")
    if mid is None or book_ms is None:
        return found | {"missing": ["microstructure.mid"]}
    if abs(book_ms - read_ms) > MAX_QUOTE_SKEW_MS:
        return found | {"missing": ["derivatives.funding.mark_price of the book's time"]}
    premium_bps = 10_000 * (mark / mid - 1)
    fees_bps = 2 * ENTRY_TIER[market["venue"]].taker_bps
    return found | {
        "premium_bps": premium_bps,
        "net_bps": premium_bps + 10_000 * rate - fees_bps,
    }


def usable(quote: Mapping[str, Any] | None) -> bool:
    """Whether a quote has a bid, an ask not below it, and a time."""
    bid, ask, at_ms = (number(quote, key) for key in ("bid", "ask", "at_ms"))
    return bid is not None and ask is not None and at_ms is not None and 0 < bid <= ask


def _comparable(own: Quote, other: Quote) -> bool:
    return abs(own["at_ms"] - other["at_ms"]) <= MAX_QUOTE_SKEW_MS


def _taker(venue: str) -> float:
    return ENTRY_TIER[venue].taker_bps / 10_000


def _edge(buy_at: str, bought: Quote, sell_at: str, sold: Quote) -> float:
    """Net gain in bps of buying at one venue's ask and selling at the other's bid."""
    received = sold["bid"] * (1 - _taker(sell_at))
    return 10_000 * (received / (bought["ask"] * (1 + _taker(buy_at))) - 1)


def _depth(market: Market, side: str) -> float | None:
    book = market.get("microstructure")
    return number(book.get("depth_10bps_quote"), side) if book else None


def _signal(buy_edge: float, sell_edge: float) -> tuple[Signal, float]:
    if buy_edge > 0 and buy_edge >= sell_edge:
        return "BUY", buy_edge
    return ("SELL", sell_edge) if sell_edge > 0 else ("HOLD", 0.0)
''')


###################################################################################################
_LOADER.modules["shared.signals.strategies.base"] = ("shared/signals/strategies/base.py", r'''"""The interface of a strategy, and the two ways to answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol

from shared.signals.types import Context, Market, Signal, StrategySignal


class Strategy(Protocol):
    """Judges one market at a time, from the scan alone; it calls nothing and keeps nothing."""

    name: str

    def evaluate(self, market: Market, context: Context) -> StrategySignal:
        """An opinion, or ``ABSTAIN`` where an input that it needs is missing."""


def opinion(
    name: str,
    market: Market,
    context: Context,
    signal: Signal,
    strength: float,
    confidence: float,
    evidence: dict[str, Any],
) -> StrategySignal:
    """A signal with the strategy's weight and realised profit. HOLD carries no strength."""
    judged = signal in ("BUY", "SELL")
    return StrategySignal(
        symbol=market["symbol"],
        name=name,
        signal=signal,
        strength=clip(strength) if judged else 0.0,
        confidence=clip(confidence) if judged else 0.0,
        weight=context.weights[name],
        evidence=evidence,
        pnl_quote=context.pnl_quote.get(name, Decimal(0)),
    )


def abstain(
    name: str, market: Market, context: Context, *, missing: Sequence[str] = (), **evidence: Any
) -> StrategySignal:
    """No opinion, and why."""
    found = dict(evidence) | ({"missing": list(missing)} if missing else {})
    return opinion(name, market, context, "ABSTAIN", 0, 0, found)


def number(table: Mapping[str, Any] | None, key: str) -> float | None:
    """The finite number under ``key``, or ``None`` where it is absent, null or not finite."""
    value = table.get(key) if table is not None else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def timeframe(market: Market, name: str) -> Mapping[str, Any]:
    """The indicators of a timeframe; empty where the scan has none."""
    return market["indicators"].get(name) or {}


def required(
    table: Mapping[str, Any] | None, prefix: str, *names: str
) -> tuple[dict[str, float], list[str]]:
    """The finite numbers among ``names``, and the others as ``prefix.name``."""
    values = {name: number(table, name) for name in names}
    found = {name: value for name, value in values.items() if value is not None}
    return found, [f"{prefix}.{name}" for name in names if name not in found]


def clip(value: float, low: float = 0.0, high: float = 1.0) -> float:
    return min(high, max(low, value))
''')


###################################################################################################
_LOADER.modules["shared.signals.strategies.market_making"] = ("shared/signals/strategies/market_making.py", r'''"""Market making: quotes around a reservation price that leans against the inventory.

Avellaneda and Stoikov, High-frequency trading in a limit order book, Quantitative Finance 8(3),
2008, equations (29) and (30): ``r = s - q*gamma*sigma^2*(T-t)`` and
``delta_ask + delta_bid = gamma*sigma^2*(T-t) + (2/gamma)*ln(1 + gamma/kappa)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from shared.market.fees import ENTRY_TIER
from shared.signals.strategies.base import abstain, opinion, required, timeframe
from shared.signals.types import Context, Market, Signal, StrategySignal

TIMEFRAME = "5m"
HORIZON_YEARS = 1 / (365 * 24)  # one hour
RISK_AVERSION = 10.0  # per unit of relative price, inventory in units of the largest position


@dataclass(frozen=True)
class Quotes:
    """Prices to quote at. ``half_spread_bps`` is the distance of each from the reservation."""

    reservation_price: float
    bid: float
    ask: float
    half_spread_bps: float


def quotes(
    mid: float,
    inventory: float,
    volatility: float,
    horizon_years: float,
    gamma: float,
    kappa: float,
) -> Quotes:
    """Equations (29) and (30) on relative prices, so that gamma means the same for every symbol.

    Args:
        mid: quote currency.
        inventory: held, in units of the largest allowed position.
        volatility: annualised, as a fraction.
        gamma: risk aversion.
        kappa: decay of fill intensity per unit of relative distance from the mid.
    """
    variance = volatility**2 * horizon_years
    reservation = mid * (1 - inventory * gamma * variance)
    half_spread = (gamma * variance + (2 / gamma) * math.log1p(gamma / kappa)) / 2
    return Quotes(
        reservation_price=reservation,
        bid=reservation - mid * half_spread,
        ask=reservation + mid * half_spread,
        half_spread_bps=10_000 * half_spread,
    )


class MarketMaking:
    """Proposes quotes where their half-spread beats the maker fee; opens no directional trade.

    It asks to SELL only where inventory has pushed the reservation price below the bid by more
    than the taker fee, so that holding on costs more than selling at once.
    """

    name = "market_making"

    def evaluate(self, market: Market, context: Context) -> StrategySignal:
        book, missing = required(
            market.get("microstructure"), "microstructure", "mid", "bid", "spread_bps"
        )
        table, lacking = required(
            timeframe(market, TIMEFRAME), TIMEFRAME, "volatility_annualised_percent"
        )
        missing += lacking
        if market["venue"] not in ENTRY_TIER:
            missing.append(f"fees.{market['venue']}")
        if missing:
            return abstain(self.name, market, context, missing=missing)
        mid, bid, spread_bps = book["mid"], book["bid"], book["spread_bps"]
        volatility = table["volatility_annualised_percent"] / 100
        if spread_bps <= 0 or mid <= 0:
            return abstain(
                self.name, market, context, spread_bps=spread_bps, mid=mid, expected="above 0"
            )
        inventory = _inventory(market, context, mid)
        # Fills are taken to thin out by 1/e at the half-spread that the market shows.
        kappa = 20_000 / spread_bps
        proposed = quotes(mid, inventory, volatility, HORIZON_YEARS, RISK_AVERSION, kappa)
        fees = ENTRY_TIER[market["venue"]]
        excess_bps = 10_000 * (bid - proposed.reservation_price) / mid - fees.taker_bps
        signal: Signal = "SELL" if inventory > 0 and excess_bps > 0 else "HOLD"
        beats_fee = proposed.half_spread_bps > fees.maker_bps
        return opinion(
            self.name,
            market,
            context,
            signal,
            strength=excess_bps / fees.taker_bps,
            confidence=0.6,
            evidence={
                "quotes": {"bid": proposed.bid, "ask": proposed.ask} if beats_fee else None,
                "reservation_price": proposed.reservation_price,
                "half_spread_bps": proposed.half_spread_bps,
                "maker_fee_bps": fees.maker_bps,
                "spread_beats_fee": beats_fee,
                "inventory": inventory,
                "kappa": kappa,
                "gamma": RISK_AVERSION,
            },
        )


def _inventory(market: Market, context: Context, mid: float) -> float:
    position = context.positions.get(market["symbol"])
    return float(position.quantity) * mid / context.max_position_quote if position else 0.0
''')


###################################################################################################
_LOADER.modules["shared.signals.strategies.mean_reversion"] = ("shared/signals/strategies/mean_reversion.py", r'''"""Mean reversion: a touch of a Bollinger band, at least two deviations from the mean."""

from __future__ import annotations

from shared.signals.strategies.base import abstain, clip, number, opinion, required, timeframe
from shared.signals.types import Context, Market, Signal, StrategySignal

TIMEFRAME = "15m"
ENTRY_ZSCORE = 2.0  # where the bands lie
FULL_ZSCORE = 3.0
_INPUTS = ("close", "bollinger_lower", "bollinger_middle", "bollinger_upper", "zscore_20")


class MeanReversion:
    """Bets on the return to the mean, and never against a trend or in an unknown regime."""

    name = "mean_reversion"

    def evaluate(self, market: Market, context: Context) -> StrategySignal:
        if context.regime.name in ("trending", "unknown"):
            return abstain(self.name, market, context, regime=context.regime.name)
        table = timeframe(market, TIMEFRAME)
        found, missing = required(table, TIMEFRAME, *_INPUTS)
        if missing:
            return abstain(self.name, market, context, missing=missing)
        close, lower, middle, upper, zscore = (found[name] for name in _INPUTS)
        if not lower < upper:
            return abstain(self.name, market, context, band_width=upper - lower, expected="above 0")
        rsi = number(table, "rsi_14")
        signal = _direction(close, lower, upper, zscore)
        calm = 0.6 if context.regime.name == "ranging" else 0.4
        return opinion(
            self.name,
            market,
            context,
            signal,
            strength=0.5 + 0.5 * (abs(zscore) - ENTRY_ZSCORE) / (FULL_ZSCORE - ENTRY_ZSCORE),
            confidence=calm + (0.3 if _exhausted(signal, rsi) else 0.0),
            evidence={
                "timeframe": TIMEFRAME,
                "band_touched": _touched(close, lower, upper),
                "zscore_20": zscore,
                "deviation_quote": (upper - lower) / 4,
                "distance_to_mean_percent": 100 * (middle - close) / close,
                "percent_b": clip((close - lower) / (upper - lower), -10, 10),
                "rsi_14": rsi,
            },
        )


def _touched(close: float, lower: float, upper: float) -> str | None:
    if close <= lower:
        return "lower"
    return "upper" if close >= upper else None


def _direction(close: float, lower: float, upper: float, zscore: float) -> Signal:
    touched = _touched(close, lower, upper)
    if touched == "lower" and zscore <= -ENTRY_ZSCORE:
        return "BUY"
    if touched == "upper" and zscore >= ENTRY_ZSCORE:
        return "SELL"
    return "HOLD"


def _exhausted(signal: Signal, rsi: float | None) -> bool:
    if rsi is None:
        return False
    return (signal == "BUY" and rsi < 30) or (signal == "SELL" and rsi > 70)
''')


###################################################################################################
_LOADER.modules["shared.signals.strategies.momentum"] = ("shared/signals/strategies/momentum.py", r'''"""Momentum: RSI and MACD agree on a direction, volume confirms it, a fresh cross more so."""

from __future__ import annotations

from shared.market.types import TIMEFRAME_MS
from shared.signals.strategies.base import abstain, clip, number, opinion, required, timeframe
from shared.signals.types import Context, Market, Signal, StrategySignal

TIMEFRAME = "15m"
OVERBOUGHT, MIDDLE, OVERSOLD = 70.0, 50.0, 30.0  # Wilder, New Concepts in Technical Trading, 1978
FULL_HISTOGRAM_IN_ATR = 0.25  # a MACD histogram of this share of the ATR counts as full strength
FRESH_CROSS_BONUS = 0.1
CONFIRMING_VOLUME_RATIO = 1.0  # at least the usual volume
_INPUTS = ("rsi_14", "macd", "macd_signal", "atr_14", "relative_volume_ratio")


class Momentum:
    """Follows MACD above (below) its signal line while RSI leaves room and volume is usual.

    A line that has crossed within the last candle is trusted more. A move that RSI already calls
    overbought (oversold) is not followed any further.
    """

    name = "momentum"

    def evaluate(self, market: Market, context: Context) -> StrategySignal:
        table = timeframe(market, TIMEFRAME)
        found, missing = required(table, TIMEFRAME, *_INPUTS)
        if missing:
            return abstain(self.name, market, context, missing=missing)
        rsi, macd, signal_line, atr, volume = (found[name] for name in _INPUTS)
        if atr <= 0:
            return abstain(self.name, market, context, atr_14=atr, expected="above 0")
        histogram = macd - signal_line
        confirmed = volume >= CONFIRMING_VOLUME_RATIO
        signal = _direction(rsi, histogram) if confirmed else "HOLD"
        reach = clip(abs(rsi - MIDDLE) / (OVERBOUGHT - MIDDLE))
        crossed = _crossed(market, context, histogram)
        distance = clip(abs(histogram) / (FULL_HISTOGRAM_IN_ATR * atr))
        return opinion(
            self.name,
            market,
            context,
            signal,
            strength=(reach + distance) / 2,
            confidence=0.5
            + 0.4 * clip(volume - CONFIRMING_VOLUME_RATIO)
            + (FRESH_CROSS_BONUS if crossed else 0.0),
            evidence={
                "timeframe": TIMEFRAME,
                "rsi_14": rsi,
                "macd_side": "above_signal" if histogram > 0 else "below_signal",
                "macd_crossed": crossed,
                "macd_histogram_in_atr": histogram / atr,
                "relative_volume_ratio": volume,
                "volume_confirms": confirmed,
            },
        )


def _direction(rsi: float, histogram: float) -> Signal:
    if histogram > 0 and MIDDLE < rsi < OVERBOUGHT:
        return "BUY"
    if histogram < 0 and OVERSOLD < rsi < MIDDLE:
        return "SELL"
    return "HOLD"


def _crossed(market: Market, context: Context, histogram: float) -> bool | None:
    """Whether the line crossed with the newest candle; ``None`` where the one before is unknown."""
    earlier = context.earlier_macd.get(market["symbol"])
    closed_ms = number(timeframe(market, TIMEFRAME), "closed_at_ms")
    if earlier is None or closed_ms != earlier.closed_at_ms + TIMEFRAME_MS[TIMEFRAME]:
        return None
    return histogram * earlier.histogram < 0
''')


###################################################################################################
_LOADER.modules["shared.signals.strategies.trend_following"] = ("shared/signals/strategies/trend_following.py", r'''"""Trend following: the same order of moving averages on several timeframes, with a strong ADX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shared.signals.strategies.base import abstain, clip, opinion, required, timeframe
from shared.signals.types import Context, Market, Signal, StrategySignal

TIMEFRAME_WEIGHTS = {"15m": 0.15, "1h": 0.25, "4h": 0.30, "1d": 0.30}
NO_TREND_ADX, STRONG_ADX = 15.0, 40.0
MIN_TIMEFRAMES = 3
MIN_DIRECTION = 0.25
MIN_AGREEMENT = 0.6


@dataclass(frozen=True)
class _View:
    """One timeframe: 1 where the averages are stacked upwards, -1 downwards, 0 mixed."""

    alignment: int
    adx: float

    @property
    def force(self) -> float:
        return self.alignment * clip((self.adx - NO_TREND_ADX) / (STRONG_ADX - NO_TREND_ADX))


class TrendFollowing:
    """Joins a trend that most timeframes share, the slower ones weighing more."""

    name = "trend_following"

    def evaluate(self, market: Market, context: Context) -> StrategySignal:
        views: dict[str, _View] = {}
        missing: list[str] = []
        for name in TIMEFRAME_WEIGHTS:
            view = _view(market, name)
            if isinstance(view, _View):
                views[name] = view
            else:
                missing += view
        if len(views) < MIN_TIMEFRAMES:
            return abstain(self.name, market, context, missing=missing)
        total = sum(TIMEFRAME_WEIGHTS[name] for name in views)
        direction = sum(TIMEFRAME_WEIGHTS[n] * v.force for n, v in views.items()) / total
        sign = 1 if direction > 0 else -1
        agreement = (
            sum(TIMEFRAME_WEIGHTS[n] for n, v in views.items() if v.alignment == sign) / total
        )
        evidence: dict[str, Any] = {
            "alignment": {n: v.alignment for n, v in views.items()},
            "adx_14": {n: v.adx for n, v in views.items()},
            "direction": direction,
            "agreement": agreement,
        }
        if missing:
            evidence["missing"] = missing
        signal = _signal(direction, agreement)
        return opinion(
            self.name, market, context, signal, abs(direction), 0.9 * agreement, evidence
        )


def _view(market: Market, name: str) -> _View | list[str]:
    table = timeframe(market, name)
    found, missing = required(table, name, "ema_9", "ema_21", "ema_50", "adx_14")
    if missing:
        return missing
    fast, middle, slow = found["ema_9"], found["ema_21"], found["ema_50"]
    alignment = 1 if fast > middle > slow else -1 if fast < middle < slow else 0
    return _View(alignment, found["adx_14"])


def _signal(direction: float, agreement: float) -> Signal:
    if abs(direction) < MIN_DIRECTION or agreement < MIN_AGREEMENT:
        return "HOLD"
    return "BUY" if direction > 0 else "SELL"
''')


###################################################################################################
_LOADER.modules["shared.signals.types"] = ("shared/signals/types.py", r'''"""What strategies see and what they say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

Signal = Literal["BUY", "SELL", "HOLD", "ABSTAIN"]
RegimeName = Literal["trending", "ranging", "volatile", "unknown"]
Market = Mapping[str, Any]
"""One entry of ``signals.markets`` in the scanner's export."""

DIRECTION: dict[str, int] = {"BUY": 1, "SELL": -1, "HOLD": 0, "ABSTAIN": 0}


@dataclass(frozen=True)
class OpenPosition:
    """A tactical position that is open now. Money in quote currency."""

    symbol: str
    strategy: str
    quantity: Decimal
    average_entry_price: Decimal | None
    opened_at_ms: int


@dataclass(frozen=True)
class Regime:
    """The state of a market and the numbers that say so."""

    name: RegimeName
    evidence: dict[str, Any]


@dataclass(frozen=True)
class EarlierMacd:
    """The MACD histogram of an earlier candle, in quote currency, and when that candle closed."""

    histogram: float
    closed_at_ms: int


@dataclass(frozen=True)
class Context:
    """What a strategy may know beside the market itself.

    Attributes:
        weights: shares of the strategies in force for this market, its regime applied.
        pnl_quote: realised profit by strategy over all closed trades; absent means no trade yet.
        quotes: ``{venue: {symbol: {bid, ask, at_ms}}}`` of the whole scan.
        max_position_quote: the largest position that the configuration allows.
        earlier_macd: by symbol, as an earlier scan saw it; absent where there was no such scan.
    """

    now_ms: int
    regime: Regime
    weights: Mapping[str, float]
    pnl_quote: Mapping[str, Decimal]
    positions: Mapping[str, OpenPosition]
    quotes: Mapping[str, Mapping[str, Mapping[str, float]]]
    max_position_quote: float
    earlier_macd: Mapping[str, EarlierMacd] = field(default_factory=dict)


@dataclass(frozen=True)
class StrategySignal:
    """One strategy's opinion about one market.

    ``strength`` is how far the market has moved into the strategy's condition, ``confidence`` how
    well the condition is confirmed; both 0..1. ``ABSTAIN`` means that the strategy cannot judge,
    and its evidence names what is missing; ``HOLD`` means that it judged and wants nothing.
    """

    symbol: str
    name: str
    signal: Signal
    strength: float
    confidence: float
    weight: float
    evidence: dict[str, Any] = field(default_factory=dict)
    pnl_quote: Decimal = Decimal(0)

    @property
    def contribution(self) -> float:
        """The signed, weighted part of the ensemble's score."""
        return self.weight * DIRECTION[self.signal] * self.strength * self.confidence

    def export(self) -> dict[str, Any]:
        return vars(self) | {"pnl_quote": float(self.pnl_quote)}


@dataclass(frozen=True)
class Candidate:
    """A trade that the rules allow. Models may choose among candidates and never change one.

    Attributes:
        odds: what entries of such a score have earned; ``None`` where nobody has measured that.
    """

    id: str
    symbol: str
    action: Literal["BUY", "SELL"]
    score: float
    strategy: str
    mid: float
    ai_score: float | None
    ai_score_rank: float | None
    odds: dict[str, float] | None

    def export(self) -> dict[str, Any]:
        return dict(vars(self))
''')


###################################################################################################
_LOADER.modules["steps.order_execution"] = ("steps/order_execution.py", r'''"""Step 4 of the trading loop: orders that are never lost and never doubled."""

from typing import Any

from shared.execution.execute import execute
from shared.run import run_step


def handler(pd: "pipedream") -> Any:
    return run_step(pd, workflow="trading_loop", step="order_execution", body=execute, last=True)
''')


###################################################################################################
_LOADER.modules.setdefault("steps", ("steps/__init__.py", ""))


def handler(pd: "pipedream"):
    import importlib

    return importlib.import_module("steps.order_execution").handler(pd)
