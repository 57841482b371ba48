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
# The step risk_management of the workflow trading_loop.
# autonomous-trading-loop 0.1.0, build 82ee4aba0498: 94 modules.
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
_LOADER.modules["shared.ledger.parameters"] = ("shared/ledger/parameters.py", r'''"""Versions of the tunable parameters. The newest version is the one in force."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shared import clock
from shared.errors import DataUnavailable
from shared.ledger.connection import Ledger, json
from shared.parameters import Parameters


@dataclass(frozen=True)
class ParameterVersion:
    """A version and its values. Version 0 is the defaults, before anything was written."""

    version: int
    values: Parameters


def current(ledger: Ledger) -> ParameterVersion:
    """The parameters in force.

    Raises:
        DataUnavailable: what the ledger holds does not fit the bounds of this build.
    """
    row = ledger.one(
        "SELECT version, parameters FROM parameters WHERE pod = %s ORDER BY version DESC LIMIT 1",
        (ledger.pod,),
    )
    if row is None:
        return ParameterVersion(0, Parameters())
    try:
        return ParameterVersion(row["version"], Parameters.model_validate(row["parameters"]))
    except ValueError as error:
        raise DataUnavailable(f"parameters version {row['version']}: {error}") from error


def put(
    ledger: Ledger, values: Parameters, *, set_by: str, reason: str, evidence: dict[str, Any]
) -> ParameterVersion:
    """Write the next version; it is in force from the next read on."""
    with ledger.transaction():
        ledger.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (f"parameters:{ledger.pod}",))
        version = current(ledger).version + 1
        ledger.execute(
            "INSERT INTO parameters VALUES (%s, %s, %s, %s, %s, %s, %s)",
            (
                ledger.pod,
                version,
                json(values.model_dump()),
                set_by,
                reason,
                json(evidence),
                clock.now(),
            ),
        )
    return ParameterVersion(version, values)
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
_LOADER.modules["shared.parameters"] = ("shared/parameters.py", r'''"""What the optimiser may move, and how far. Limits of money are not here: they are configuration.

Rule 9 of the design: a parameter may move only inside its bounds, and no parameter can loosen a
limit.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

Weight = Annotated[float, Field(ge=0.02, le=0.6)]


class StrategyWeights(BaseModel):
    """Shares of the five strategies in the ensemble; they sum to one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    momentum: Weight = 0.25
    mean_reversion: Weight = 0.20
    arbitrage: Weight = 0.15
    market_making: Weight = 0.10
    trend_following: Weight = 0.30

    @model_validator(mode="after")
    def _sum_to_one(self) -> StrategyWeights:
        total = sum(self.as_dict().values())
        if abs(total - 1) > 1e-6:
            raise ValueError(f"strategy_weights: expected a sum of 1, was {total:.6f}")
        return self

    def as_dict(self) -> dict[str, float]:
        return dict(self.model_dump())


class Parameters(BaseModel):
    """One version of the tunable parameters, frozen and bounded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    strategy_weights: StrategyWeights = StrategyWeights()
    ai_score_threshold: Annotated[float, Field(ge=0.55, le=0.9)] = 0.7
    """Of the score's rank: an entry has to be better than this share of ordinary ones."""
    ensemble_threshold: Annotated[float, Field(ge=0.05, le=0.8)] = 0.12
    cooldown_minutes: Annotated[int, Field(ge=0, le=24 * 60)] = 60
    size_multiplier: Annotated[float, Field(gt=0, le=1)] = 1.0
''')


###################################################################################################
_LOADER.modules["shared.risk"] = ("shared/risk/__init__.py", r'''"""To be described."""
''')


###################################################################################################
_LOADER.modules["shared.risk.answer"] = ("shared/risk/answer.py", r'''"""What risk management says of a decision."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from shared.errors import DataUnavailable
from shared.run import Export

Decision = dict[str, Any]


@dataclass
class Answer:
    """What risk management says; starts as a refusal without a reason."""

    approved: bool = False
    size_quote: Decimal = Decimal(0)
    exits: Export | None = None
    metrics: Export = field(default_factory=dict)
    reasoning: list[str] = field(default_factory=list)
    adjustments: dict[str, dict[str, float]] = field(default_factory=dict)


def price_of(decision: Decision) -> Decimal:
    """The mid that a decision was made at.

    Raises:
        DataUnavailable: it has none.
    """
    mid = decision["mid"]
    if mid is None:
        raise DataUnavailable(f"decision {decision['decision_id']}: expected a mid, was null")
    return Decimal(str(mid))
''')


###################################################################################################
_LOADER.modules["shared.risk.assess"] = ("shared/risk/assess.py", r'''"""The body of the step ``risk_management``: whether to act on a decision, and how large.

A HOLD is answered at once. A SELL is always allowed: it can only shrink. A BUY is judged by
``shared.risk.buying``.
"""

from __future__ import annotations

from decimal import Decimal

from shared import clock
from shared.errors import DataUnavailable, OrderDenied
from shared.ledger.connection import json
from shared.risk import buying
from shared.risk.answer import Answer, Decision, price_of
from shared.run import Export, Run


def assess(run: Run) -> Export:
    """Judge the final decision of ``signal_generator``; the first answer to a decision stands.

    Raises:
        DataUnavailable: there is no final decision to judge.
        LeaseLost: another run has taken over; nothing was written.
    """
    decision = run.export_of("signal_generator")["finalDecision"]
    answer = _judge(run, decision)
    export = {
        "approved": answer.approved,
        "decision_id": decision["decision_id"],
        "action": decision["action"],
        "symbol": decision["symbol"],
        "size": float(answer.size_quote),
        "exits": answer.exits,
        "metrics": answer.metrics,
        "reasoning": answer.reasoning,
        "adjustments": answer.adjustments,
    }
    return _kept(run, export, answer)


def _judge(run: Run, decision: Decision) -> Answer:
    judges = {"HOLD": _hold, "SELL": _sell, "BUY": buying.judge}
    try:
        return judges[decision["action"]](run, decision)
    except (OrderDenied, DataUnavailable) as refused:
        code = "" if isinstance(refused, OrderDenied) else "DATA_MISSING: "
        return Answer(reasoning=[f"{code}{refused}"])


def _hold(run: Run, decision: Decision) -> Answer:
    return Answer(reasoning=[f"ACTION_HOLD: source={decision['source']}"])


def _sell(run: Run, decision: Decision) -> Answer:
    """A sale of all that is held, valued at the decision's mid."""
    row = run.ledger.one(
        "SELECT position_id FROM positions WHERE pod = %s AND symbol = %s "
        "AND sleeve = 'tactical' AND closed_at IS NULL",
        (run.ledger.pod, decision["symbol"]),
    )
    held = None if row is None else _held_quantity(run, row["position_id"])
    if not held:
        raise OrderDenied("POSITION_MISSING", symbol=decision["symbol"])
    worth = held * price_of(decision)
    return Answer(True, worth, reasoning=[f"SELL_HOLDING: quantity={held}, worth={worth:.2f}"])


def _held_quantity(run: Run, position_id: int) -> Decimal:
    row = run.ledger.one(
        "SELECT sum(quantity) AS quantity FROM position_holdings WHERE position_id = %s",
        (position_id,),
    )
    return (
        Decimal(0) if row is None or row["quantity"] is None else max(row["quantity"], Decimal(0))
    )


def _kept(run: Run, export: Export, answer: Answer) -> Export:
    """Write the answer once; a repeat of the decision gets the answer that was written."""
    if export["decision_id"] is None:
        return export
    with run.ledger.transaction():
        run.guard()
        written = run.ledger.execute(
            "INSERT INTO risk_checks (decision_id, pod, at, approved, size_quote, exits, metrics, "
            "reasoning, adjustments) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) "
            "ON CONFLICT (decision_id) DO NOTHING",
            (
                export["decision_id"],
                run.ledger.pod,
                clock.now(),
                answer.approved,
                answer.size_quote,
                json(answer.exits),
                json(answer.metrics),
                json(answer.reasoning),
                json(answer.adjustments),
            ),
        )
        if written:
            return export
        row = run.ledger.one(
            "SELECT approved, size_quote::float8 AS size, exits, metrics, reasoning, adjustments "
            "FROM risk_checks WHERE decision_id = %s",
            (export["decision_id"],),
        )
    return export if row is None else export | row
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
_LOADER.modules["shared.risk.buying"] = ("shared/risk/buying.py", r'''"""Whether a purchase is made, and how large: every limit, the odds, the caps, the portfolio.

It passes the limits, is sized by Kelly and every cap, and is approved only if the portfolio with it
stays within what the drawdown limit still allows to lose in a day.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from shared import clock
from shared.errors import OrderDenied
from shared.ledger import equity, parameters, state, throttles
from shared.ledger.equity import Standing
from shared.ledger.state import TradingState
from shared.risk import budget, context, exits, limits, measures, portfolio
from shared.risk.answer import Answer, Decision, price_of
from shared.risk.exits import EntryExits
from shared.risk.staking import caps, kelly, probe, sizing
from shared.run import Run


def judge(run: Run, decision: Decision) -> Answer:
    """The answer to a decision to buy.

    Raises:
        OrderDenied, DataUnavailable: refused before anything could be reckoned.
    """
    symbol, mid = str(decision["symbol"]), price_of(decision)
    trading = state.read(run.ledger)
    standing = equity.standing(run.ledger, run.config.quote_currency, clock.now_ms())
    refused = _refusals(
        lambda: _deny_unless_active(trading),
        lambda: _deny_unless_traded(run, symbol),
        lambda: limits.deny_at_daily_loss(run.config, standing),
        lambda: limits.deny_at_weekly_loss(run.config, standing),
        lambda: limits.deny_at_drawdown(run.config, standing),
        lambda: throttles.deny(run.ledger, symbol, decision["strategy"]),
        lambda: _deny_beyond_positions(run, symbol),
    )
    if refused:
        return Answer(reasoning=refused)
    hourly = context.hourly_candles(run, {symbol} | _open_symbols(run, "tactical", "core"))
    returns = portfolio.aligned_returns(hourly)
    exposure = context.exposure(run, hourly)
    odds = _odds(run, decision)
    volatility = portfolio.volatility_annualised_percent(returns[symbol])
    scales = run.config.exit_scaling == "volatility"
    ratio = exits.volatility_ratio(hourly[symbol]) if scales else None
    planned = exits.for_entry(run.config, mid, clock.now_ms(), volatility_ratio=ratio)
    stake = _stake(run, decision, trading, standing, odds, volatility, planned)
    sized = sizing.size(stake, caps.of(run, symbol, exposure, standing, planned))
    weighed = measures.weigh(symbol, sized.size_quote, exposure, returns)
    metrics = measures.of_trade(run, weighed, returns, stake, odds)
    wanted = sized.size_quote > 0
    denied = budget.refusals(run.config, standing, weighed) if wanted else []
    approved = wanted and not denied
    return Answer(
        approved,
        sized.size_quote if approved else Decimal(0),
        exits.as_export(planned),
        metrics | {"size_bound_by": sized.bound_by},
        [*sized.reasons, *map(str, denied)],
        sized.adjustments,
    )


def _refusals(*rules: Callable[[], None]) -> list[str]:
    """What every rule says against it; all of them are asked."""
    found = []
    for rule in rules:
        try:
            rule()
        except OrderDenied as denied:
            found.append(str(denied))
    return found


def _deny_unless_active(trading: TradingState) -> None:
    if not trading.allows_new_risk:
        raise OrderDenied(f"STATE_{trading.state}", reason=trading.reason)


def _deny_unless_traded(run: Run, symbol: str) -> None:
    if symbol not in run.universe.buyable:
        raise OrderDenied("SYMBOL_NOT_ALLOWED", symbol=symbol)


def _deny_beyond_positions(run: Run, symbol: str) -> None:
    """A symbol that only the core sleeve holds may be bought: the limits are the tactical ones."""
    open_symbols = _open_symbols(run, "tactical")
    if symbol in open_symbols:
        # Adding to a winner is the position manager's business.
        raise OrderDenied("POSITION_OPEN", symbol=symbol)
    if len(open_symbols) + 1 > run.config.max_positions:
        raise OrderDenied(
            "POSITION_COUNT", after=len(open_symbols) + 1, limit=run.config.max_positions
        )


def _open_symbols(run: Run, *sleeves: str) -> set[str]:
    rows = run.ledger.query(
        "SELECT DISTINCT symbol FROM positions WHERE pod = %s AND closed_at IS NULL "
        "AND sleeve = ANY(%s)",
        (run.ledger.pod, list(sleeves)),
    )
    return {row["symbol"] for row in rows}


def _odds(run: Run, decision: Decision) -> kelly.Odds:
    return kelly.odds(
        run.config,
        context.history(run),
        measured=decision["odds"],
        model_win_probability=decision["win_probability"],
        model_win_loss_ratio=decision["win_loss_ratio"],
    )


def _stake(
    run: Run,
    decision: Decision,
    trading: TradingState,
    standing: Standing,
    odds: kelly.Odds,
    volatility: float,
    planned: EntryExits,
) -> sizing.Stake:
    worth = standing.worth_quote
    if worth is None or worth <= 0:
        raise OrderDenied("EQUITY_MISSING", pod=run.config.pod)
    return sizing.Stake(
        worth_quote=worth,
        kelly=odds.kelly,
        kelly_share=run.config.kelly_fraction,
        trust=odds.trust,
        probe_quote=probe.quote(run.config, odds, worth),
        stop_scale=float(run.config.stop_loss_percent / planned.stop_distance_percent),
        size_multiplier=parameters.current(run.ledger).values.size_multiplier,
        size_factor=trading.size_factor,
        decision_size=float(decision["size"]),
        volatility_annualised_percent=volatility,
    )
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
_LOADER.modules["shared.risk.staking.caps"] = ("shared/risk/staking/caps.py", r'''"""What each limit leaves for a purchase, in quote currency: the smallest binds."""

from __future__ import annotations

from decimal import Decimal

from shared.errors import OrderDenied
from shared.ledger import stages
from shared.ledger.equity import Standing
from shared.risk import context
from shared.risk.context import Exposure
from shared.risk.exits import EntryExits
from shared.risk.staking import gaps
from shared.run import Run

BOOK_SHARE = Decimal("0.1")
"""Of the depth within 50 bps: a position that the book can take back at once, ten times over."""


def of(
    run: Run, symbol: str, exposure: Exposure, standing: Standing, planned: EntryExits
) -> dict[str, Decimal]:
    """By the limit's name; negative where it is passed already.

    Raises:
        OrderDenied: ``EQUITY_MISSING``.
        DataUnavailable: cash or the depth of the book is not known.
    """
    config, worth = run.config, standing.worth_quote
    if worth is None:
        raise OrderDenied("EQUITY_MISSING", pod=config.pod)
    tactical = exposure.tactical_quote
    taken, under_way = tactical.get(symbol, Decimal(0)), sum(tactical.values(), Decimal(0))
    found = {
        "POSITION_SIZE": config.max_position_size - taken,
        "POSITION_SHARE": worth * config.position_size_percent / 100 - taken,
        "EXPOSURE_TACTICAL": config.max_positions * config.max_position_size - under_way,
        "EXPOSURE_GROSS": worth - exposure.gross_quote,
        "VENUES": _room_on_venues(run, exposure, worth),
        "BOOK_DEPTH": context.book_depth_quote(run, symbol) * BOOK_SHARE,
        "GAP": gaps.cap_quote(
            config,
            standing,
            worth_quote=worth,
            held_loss_quote=gaps.held_loss_quote(exposure.open_positions, exposure.prices),
            pending_quote=sum(exposure.tactical_pending_quote.values(), Decimal(0)),
            stop_distance_percent=planned.stop_distance_percent,
        ),
    }
    if config.trading_mode == "live":  # of one position the configuration has the stage's bounds
        most = stages.in_force(run.ledger).stage.exposure_quote
        if most is not None:
            found["STAGE_EXPOSURE"] = most - exposure.gross_quote
    return found


def _room_on_venues(run: Run, exposure: Exposure, worth: Decimal) -> Decimal:
    """On each venue its cash, as far as its share of the equity is not held there already."""
    most = worth * run.config.max_venue_exposure_percent / 100
    cash, held = context.cash_by_venue(run), context.held_by_venue(run, exposure.prices)
    room = sum(
        (
            max(min(amount, most - held.get(venue, Decimal(0))), Decimal(0))
            for venue, amount in cash.items()
            if venue in run.config.venues
        ),
        Decimal(0),
    )
    return room - sum(exposure.pending_quote.values(), Decimal(0))
''')


###################################################################################################
_LOADER.modules["shared.risk.staking.gaps"] = ("shared/risk/staking/gaps.py", r'''"""What a fall through the stops would cost, which a stop cannot prevent.

A stop is a price at which selling begins, not one at which it ends: on 10 October 2025 prices fell
far past it. Sizes are therefore cut so that all tactical positions together, each sold three times
as far away as its stop, lose no more than the rest of what a day may lose. The core sleeve is not
counted here: its stops are far away on purpose, and value at risk bounds it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from shared.config import Config
from shared.errors import OrderDenied
from shared.ledger.equity import Standing
from shared.ledger.positions import Position
from shared.risk.exits import GAP_MULTIPLE
from shared.risk.limits import daily_loss_limit


def held_loss_quote(positions: Sequence[Position], prices: Mapping[str, float]) -> Decimal:
    """The loss of open tactical positions from ``prices`` down to three times their stop distance.

    A price at its stop or below loses what is left between it and nothing better known: the
    distance is then that of the stop from the entry.
    """
    total = Decimal(0)
    for position in positions:
        if position.sleeve != "tactical" or not position.is_held:
            continue
        price = Decimal(repr(float(prices[position.symbol])))
        distance = price - position.stop_price
        if distance <= 0 and position.average_entry_price is not None:
            distance = abs(position.average_entry_price - position.stop_price)
        total += position.quantity * min(price, GAP_MULTIPLE * distance)
    return total


def cap_quote(
    config: Config,
    standing: Standing,
    *,
    worth_quote: Decimal,
    held_loss_quote: Decimal,
    pending_quote: Decimal,
    stop_distance_percent: Decimal,
) -> Decimal:
    """The largest notional whose gap loss still fits into the day's; may be negative.

    Args:
        held_loss_quote: from ``held_loss_quote``. pending_quote: notional of purchases under way,
            taken to have the configured stop.
        stop_distance_percent: of the new position, from its entry.

    Raises:
        OrderDenied: ``EXIT_STOP_DISTANCE``, where the stop does not lie below the entry.
    """
    if not (stop_distance_percent.is_finite() and stop_distance_percent > 0):
        raise OrderDenied("EXIT_STOP_DISTANCE", stop_distance_percent=stop_distance_percent)
    pending_loss = pending_quote * _gap_share(config.stop_loss_percent)
    left = _left_of_the_day(config, standing, worth_quote) - held_loss_quote - pending_loss
    return left / _gap_share(stop_distance_percent)


def _gap_share(stop_distance_percent: Decimal) -> Decimal:
    return min(Decimal(1), GAP_MULTIPLE * stop_distance_percent / 100)


def _left_of_the_day(config: Config, standing: Standing, worth_quote: Decimal) -> Decimal:
    """What the UTC day and the last 24 hours may still lose; a gain adds nothing to it."""
    windows = (
        (standing.day_start_quote, standing.day_loss_quote),
        (standing.rolling_start_quote, standing.rolling_loss_quote),
    )
    left = daily_loss_limit(config, worth_quote)
    for start, loss in windows:
        if start is not None and loss is not None:
            left = min(left, daily_loss_limit(config, start) - max(loss, Decimal(0)))
    return left
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
_LOADER.modules["shared.risk.staking.probe"] = ("shared/risk/staking/probe.py", r'''"""Small purchases on paper, to learn the odds that nobody has measured.

A pod whose odds show no edge stakes nothing, so it would never see a trade of its own, and its
odds would stay the prior's for ever. On paper a trade costs nothing: there a pod buys a small fixed
share of its equity as long as its few trades leave an edge possible. It stops by itself: once
``PROBE_TRADES`` trades are closed their odds decide alone. With real money nothing is probed.
"""

from __future__ import annotations

from decimal import Decimal

from shared.config import Config
from shared.risk.staking.kelly import Odds

PROBE_TRADES = 100
"""By then the deviation of the win probability is under 0.05, a quarter of it the prior's."""


def quote(config: Config, odds: Odds, worth_quote: Decimal) -> Decimal | None:
    """What a probe spends, or ``None`` where there is none.

    Nothing is probed with real money, after ``PROBE_TRADES`` trades, where the trades so far rule
    an edge out, or where the validating model's own odds are against the trade.
    """
    if config.trading_mode == "live" or config.paper_probe_percent == 0:
        return None
    if odds.trades >= PROBE_TRADES or odds.model_objects or not odds.may_have_an_edge:
        return None
    return worth_quote * config.paper_probe_percent / 100
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
_LOADER.modules["steps.risk_management"] = ("steps/risk_management.py", r'''"""Step 3 of the trading loop: whether to act on the decision, and how large."""

from typing import Any

from shared.risk.assess import assess
from shared.run import run_step


def handler(pd: "pipedream") -> Any:
    return run_step(pd, workflow="trading_loop", step="risk_management", body=assess)
''')


###################################################################################################
_LOADER.modules.setdefault("steps", ("steps/__init__.py", ""))


def handler(pd: "pipedream"):
    import importlib

    return importlib.import_module("steps.risk_management").handler(pd)
