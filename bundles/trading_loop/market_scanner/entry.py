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
# The step market_scanner of the workflow trading_loop.
# autonomous-trading-loop 0.1.0, build 82ee4aba0498: 115 modules.
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
_LOADER.modules["shared.market.ages"] = ("shared/market/ages.py", r'''"""How old an input may be before it counts as missing: one table, and the check against it."""

from __future__ import annotations

from types import MappingProxyType

from shared.errors import DataUnavailable

CLOCK_SKEW_MS = 5_000
"""How far ahead of ours a venue's clock may be before its time is taken for false."""

MAX_AGE_MS = MappingProxyType(
    {
        # A book is true for the moment that it was read in; 30 s leave room for a slow scan.
        "microstructure": 30_000,
        # Trades of more than five minutes ago say nothing of who is in a hurry now.
        "order_flow": 300_000,
        # The cumulative delta ends with the last trades that were read: three minutes are two
        # scans that failed.
        "order_flow.cvd": 180_000,
        # Asked for every five minutes (see derivatives.reading); after one failure it is old.
        "liquidations": 600_000,
        # Paid every few hours; its forecast drifts slowly.
        "funding": 3_600_000,
        # Published once a day; a day may be missed.
        "fear_greed": 48 * 3_600_000,
        # Of a headline's weight a sixteenth is left after a day (four half-lives).
        "headlines": 24 * 3_600_000,
        # How long a feed's headlines stand without a newer answer of it: twelve failures.
        "headlines.feed": 2 * 3_600_000,
    }
)


def check(name: str, at_ms: int, now_ms: int) -> None:
    """Refuse an input that is older than its limit, or of the future.

    Raises:
        DataUnavailable: names the input, its time and what was expected.
    """
    if not is_fresh(name, at_ms, now_ms):
        raise DataUnavailable(
            f"{name}: at_ms: was {at_ms}, expected within {MAX_AGE_MS[name]} ms before {now_ms}"
        )


def is_fresh(name: str, at_ms: int, now_ms: int) -> bool:
    """Whether an input of ``at_ms`` may still be used at ``now_ms``."""
    return -CLOCK_SKEW_MS <= now_ms - at_ms <= MAX_AGE_MS[name]
''')


###################################################################################################
_LOADER.modules["shared.market.calm"] = ("shared/market/calm.py", r'''"""What the gate asks of a market before anything is bought: a quiet minute, a day's volume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shared.market.types import Candles

_MINUTE_MAX_AGE_MS = 3 * 60_000  # since it closed; venues leave minutes without trades out
_HOUR_MS = 3_600_000
_DAY_HOURS = 24
_HOURS_MAX_AGE_MS = 2 * _HOUR_MS


@dataclass(frozen=True)
class Calm:
    """How a symbol has traded on one venue; ``None`` where its candles do not tell.

    Attributes:
        low_1m, high_1m: of the last closed minute.
        volume_24h_quote: of the last 24 closed hours, each valued at its typical price.
    """

    low_1m: float | None
    high_1m: float | None
    volume_24h_quote: float | None


def measure(minutes: Candles | None, hours: Candles | None, now_ms: int) -> Calm:
    """Read it from one venue's closed candles of one minute and of one hour."""
    low, high = _last_minute(minutes, now_ms)
    return Calm(low, high, _volume_24h(hours, now_ms))


def _last_minute(minutes: Candles | None, now_ms: int) -> tuple[float | None, float | None]:
    if minutes is None or not len(minutes):
        return None, None
    if not 0 <= now_ms - minutes.closed_ms <= _MINUTE_MAX_AGE_MS:
        return None, None
    return float(minutes.low[-1]), float(minutes.high[-1])


def _volume_24h(hours: Candles | None, now_ms: int) -> float | None:
    """The value of 24 closed hours. An hour that a venue leaves out had no trade in it."""
    if hours is None or not len(hours):
        return None
    until_ms = hours.closed_ms
    since_ms = until_ms - _DAY_HOURS * _HOUR_MS
    is_recent = 0 <= now_ms - until_ms <= _HOURS_MAX_AGE_MS
    if not is_recent or int(hours.open_ms[0]) > since_ms:
        return None
    day = hours.open_ms >= since_ms
    typical = (hours.high[day] + hours.low[day] + hours.close[day]) / 3
    return float(np.sum(typical * hours.volume[day]))
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
_LOADER.modules["shared.market.candles.history"] = ("shared/market/candles/history.py", r'''"""Closed candles in PostgreSQL: written each hour from the windows, read when those are lost.

The minute writes none. Windows in the cache hold the newest 1,600 candles of each series, which is
a day of minutes; once an hour the analysis copies what the ledger lacks of them. So a candle is
written once, in one statement for all series, and an hour that was missed is made up for by the
next. A window that the cache lost is read from here, and the venue is asked for the last hour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shared.ledger.connection import Ledger, Row
from shared.market.candles.candle_rows import COLUMNS, WINDOW, find_problem, sliced
from shared.market.types import TIMEFRAME_MS, TIMEFRAMES, Candles

Series = tuple[str, str]
"""Symbol and timeframe."""

KEPT_AT_ONCE = 30_000
"""Three symbols' windows whole; an hour of 20 symbols brings 1,600."""
PRUNED_AT_ONCE = 20_000
_MOST_ABSENT = 10
"""A longer hole in what was kept ends the part that a window is filled from."""
_NEWEST = """
    SELECT s.symbol, s.timeframe, c.* FROM candle_series s
    JOIN unnest(%s::text[], %s::text[], %s::bigint[]) AS wanted (symbol, timeframe, last_ms)
        USING (symbol, timeframe)
    CROSS JOIN LATERAL (
        SELECT array_agg(open_ms ORDER BY open_ms) AS open_ms,
            array_agg(open ORDER BY open_ms) AS open, array_agg(high ORDER BY open_ms) AS high,
            array_agg(low ORDER BY open_ms) AS low, array_agg(close ORDER BY open_ms) AS close,
            array_agg(volume ORDER BY open_ms) AS volume
        FROM (SELECT * FROM candles WHERE series_id = s.series_id AND open_ms <= wanted.last_ms
              ORDER BY open_ms DESC LIMIT %s) AS newest
    ) AS c WHERE s.venue = %s AND c.open_ms IS NOT NULL
"""
_BETWEEN = """
    SELECT open_ms, open, high, low, close, volume FROM candles
    JOIN candle_series USING (series_id) WHERE venue = %s AND symbol = %s AND timeframe = %s
    AND open_ms >= %s AND open_ms < %s ORDER BY open_ms
"""


def keep(ledger: Ledger, venue: str, windows: Sequence[Candles]) -> int:
    """Write the candles of ``windows`` that are newer than the newest kept one of their series.

    Returns:
        How many were written: at most ``KEPT_AT_ONCE``, of each series the oldest first, so that a
        later call goes on there. A candle that was revised after it was written stays as it was.
    """
    if not windows:
        return 0
    _ensure_series(ledger, venue, windows)
    known = {(row["symbol"], row["timeframe"]): row for row in _series(ledger, venue)}
    columns: list[list[Any]] = [[] for _ in range(1 + len(COLUMNS))]
    share = KEPT_AT_ONCE // len(windows)
    for window in windows:
        row = known[window.symbol, window.timeframe]
        newest_ms = -1 if row["newest_ms"] is None else int(row["newest_ms"])
        first = int(np.searchsorted(window.open_ms, newest_ms, "right"))
        part = sliced(window, slice(first, first + share))
        columns[0] += [row["series_id"]] * len(part)
        for values, name in zip(columns[1:], COLUMNS, strict=True):
            values += getattr(part, name).tolist()
    if not columns[0]:
        return 0
    return ledger.execute(
        "INSERT INTO candles (series_id, open_ms, open, high, low, close, volume) "
        "SELECT * FROM unnest(%s::integer[], %s::bigint[], %s::float8[], %s::float8[], "
        "%s::float8[], %s::float8[], %s::float8[]) ON CONFLICT DO NOTHING",
        columns,
    )


def newest(
    ledger: Ledger, venue: str, series: Sequence[Series], now_ms: int, limit: int = WINDOW
) -> dict[Series, Candles]:
    """The newest kept candles of each series that were closed by ``now_ms``, without long holes.

    A series that was never kept, or whose values cannot be right, is absent.
    """
    if not series:
        return {}
    symbols, timeframes = zip(*series, strict=True)
    rows = ledger.query(
        _NEWEST,
        (
            list(symbols),
            list(timeframes),
            [now_ms - TIMEFRAME_MS[timeframe] for timeframe in timeframes],
            limit,
            venue,
        ),
    )
    found = {(row["symbol"], row["timeframe"]): _candles(row) for row in rows}
    return {key: _unbroken(kept) for key, kept in found.items() if find_problem(kept) is None}


def read(
    ledger: Ledger, venue: str, symbol: str, timeframe: str, from_ms: int, to_ms: int
) -> Candles:
    """The kept candles that open from ``from_ms`` to before ``to_ms``, holes and all."""
    rows = ledger.query(_BETWEEN, (venue, symbol, timeframe, from_ms, to_ms))
    columns = {name: [row[name] for row in rows] for name in COLUMNS}
    return _candles(columns | {"symbol": symbol, "timeframe": timeframe})


def prune(ledger: Ledger, now_ms: int, retention_days: int) -> int:
    """Delete candles older than ``retention_days``, but never those that a window may need.

    At most ``PRUNED_AT_ONCE`` of a timeframe go at a time, the oldest first.
    """
    deleted = 0
    for timeframe in TIMEFRAMES:
        needed_ms = max(retention_days * 86_400_000, WINDOW * TIMEFRAME_MS[timeframe])
        deleted += ledger.execute(
            "DELETE FROM candles WHERE (series_id, open_ms) IN (SELECT series_id, open_ms "
            "FROM candles JOIN candle_series USING (series_id) WHERE timeframe = %s "
            "AND open_ms < %s ORDER BY open_ms LIMIT %s)",
            (timeframe, now_ms - needed_ms, PRUNED_AT_ONCE),
        )
    return deleted


def _ensure_series(ledger: Ledger, venue: str, windows: Sequence[Candles]) -> None:
    ledger.execute(
        "INSERT INTO candle_series (venue, symbol, timeframe) "
        "SELECT %s, * FROM unnest(%s::text[], %s::text[]) ON CONFLICT DO NOTHING",
        (venue, [w.symbol for w in windows], [w.timeframe for w in windows]),
    )


def _series(ledger: Ledger, venue: str) -> list[Row]:
    """Every series of ``venue`` with its newest candle, each by one look into the index."""
    return ledger.query(
        "SELECT series_id, symbol, timeframe, (SELECT open_ms FROM candles c "
        "WHERE c.series_id = s.series_id ORDER BY open_ms DESC LIMIT 1) AS newest_ms "
        "FROM candle_series s WHERE venue = %s",
        (venue,),
    )


def _candles(row: Mapping[str, Any]) -> Candles:
    columns = (np.array(row[name], dtype=np.float64) for name in COLUMNS[1:])
    opens = np.array(row["open_ms"], dtype=np.int64)
    return Candles(row["symbol"], row["timeframe"], opens, *columns)


def _unbroken(candles: Candles) -> Candles:
    """The part after the newest hole that is too long to be a quiet time."""
    step = TIMEFRAME_MS[candles.timeframe]
    long_holes = np.flatnonzero(np.diff(candles.open_ms) > (1 + _MOST_ABSENT) * step)
    return sliced(candles, slice(int(long_holes[-1]) + 1, None)) if len(long_holes) else candles
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
_LOADER.modules["shared.market.crosscheck"] = ("shared/market/crosscheck.py", r'''"""Is this price true? Venues against each other, and the price against its own last hour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from shared.market.candles.flash_prints import FlashPrint
from shared.market.types import Candles, Quote

VENUES_DISAGREE_PERCENT = 2.0
JUMP_PERCENT = 15.0
_HOUR_OF_MINUTES = 60
_MIN_MINUTES = 10


@dataclass(frozen=True)
class Verdict:
    """``anomaly`` says what is wrong, ``trusted`` which venues' prices may be believed."""

    anomaly: str | None
    trusted: tuple[str, ...]


def judge(
    quotes: Mapping[str, Quote],
    minutes: Candles | None,
    flash_prints: Sequence[FlashPrint] = (),
) -> Verdict:
    """Judge the venues' mids and the newest candles.

    Venues that disagree by more than 2 %, and a price or close more than 15 % away from the
    median close of the last hour, are an anomaly, and so is a flash print in the newest candle of
    any timeframe. A venue is trusted if it lies within 2 % of the median of all venues and the
    newest closes, and within 15 % of the hour's median.

    Args:
        minutes: without flash prints.
        flash_prints: those of the newest candles.
    """
    mids = {venue: quote.mid for venue, quote in quotes.items()}
    hour = None if minutes is None else minutes.close[-_HOUR_OF_MINUTES:]
    usual = None if hour is None or len(hour) < _MIN_MINUTES else float(np.median(hour))
    lately = [] if usual is None or hour is None else [float(np.median(hour[-5:]))]
    return Verdict(
        anomaly=_disagreement(mids) or _jump(mids, minutes, usual) or _printed(flash_prints),
        trusted=tuple(v for v in mids if _is_plausible(mids[v], [*mids.values(), *lately], usual)),
    )


def _disagreement(mids: Mapping[str, float]) -> str | None:
    if len(mids) < 2:
        return None
    low, high = min(mids, key=mids.__getitem__), max(mids, key=mids.__getitem__)
    apart = 100 * (mids[high] / mids[low] - 1)
    if apart <= VENUES_DISAGREE_PERCENT:
        return None
    return f"venues disagree by {apart:.4g} %: {low}={mids[low]:.8g}, {high}={mids[high]:.8g}"


def _jump(mids: Mapping[str, float], minutes: Candles | None, usual: float | None) -> str | None:
    if usual is None or minutes is None:
        return None
    seen = {"close": float(minutes.close[-1])} | {f"{v} mid": mid for v, mid in mids.items()}
    for name, price in seen.items():
        away = 100 * (price / usual - 1)
        if abs(away) > JUMP_PERCENT:
            return f"{name} {price:.8g} is {away:.4g} % from the hour's median {usual:.8g}"
    return None


def _printed(flash_prints: Sequence[FlashPrint]) -> str | None:
    return "; ".join(f"{p.timeframe} {p.told()}" for p in flash_prints) or None


def _is_plausible(mid: float, votes: list[float], usual: float | None) -> bool:
    near = abs(mid / median(votes) - 1) <= VENUES_DISAGREE_PERCENT / 100
    return near and (usual is None or abs(mid / usual - 1) <= JUMP_PERCENT / 100)
''')


###################################################################################################
_LOADER.modules["shared.market.derivatives"] = ("shared/market/derivatives/__init__.py", r'''"""What perpetual contracts tell of the spot market: funding rates and forced liquidations.

From Gate's public REST interface, without keys, through ccxt. Why Gate: of the exchanges whose
public liquidations ccxt 4.5.90 knows (Bitfinex, Deribit, Gate, HTX), it answers for all contracts
in one request, and so it does for funding rates; it lists a perpetual of nearly every coin.
Bitfinex trades little and lets one ask three times a minute, HTX wants a request a contract, and
what Deribit tells are bankruptcies of its insurance. Binance and Bybit answer no address in the
United States; OKX's call is not in ccxt any more. Importing Gate's class beside the others costs
6 ms and 2 MiB.
"""

from __future__ import annotations

from shared.market.derivatives.reading import Derivatives, read

__all__ = ["Derivatives", "read"]
''')


###################################################################################################
_LOADER.modules["shared.market.derivatives.funding"] = ("shared/market/derivatives/funding.py", r'''"""Funding rates as positioning: what longs pay shorts for holding a perpetual contract.

A rate above zero means that longs pay: they are more, or more eager, than shorts.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from shared.errors import DataUnavailable
from shared.market import ages

HOUR_MS = 3_600_000
_EIGHT_HOURS_MS = 8 * HOUR_MS
_YEAR_MS = 365 * 24 * HOUR_MS

Rate = Annotated[float, Field(ge=-0.1, le=0.1)]
"""A rate of one period, as a fraction. Venues cap it at a few percent: ten are an error."""


class Contract(BaseModel):
    """What a venue tells of one perpetual contract.

    Attributes:
        rate: of the period under way, as far as it is known; paid at ``next_at_ms``.
        interval_ms: how long a period is.
        size: what one contract holds, in base currency.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    rate: Rate
    interval_ms: Annotated[int, Field(ge=HOUR_MS, le=24 * HOUR_MS)]
    next_at_ms: Annotated[int, Field(gt=0, lt=10**14)]
    mark_price: Annotated[float, Field(gt=0)]
    size: Annotated[float, Field(gt=0)]


class Paid(BaseModel):
    """A rate that was paid, and when."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    rate: Rate
    at_ms: Annotated[int, Field(gt=0)]


def is_last(paid: Paid | None, contract: Contract) -> bool:
    """Whether ``paid`` is the payment before the one under way.

    Venues stamp a payment with the second that it was made in, which may lie a little after the
    hour.
    """
    return paid is not None and contract.next_at_ms - paid.at_ms <= contract.interval_ms


def export(contract: Contract, paid: Paid | None, fetched_ms: int, now_ms: int) -> dict[str, Any]:
    """Funding as the scan exports it; the yearly rate is simple, not compounded.

    Raises:
        DataUnavailable: it was read too long ago, or its period is over.
    """
    ages.check("funding", fetched_ms, now_ms)
    if now_ms >= contract.next_at_ms:
        raise DataUnavailable(
            f"funding: next_at_ms: was {contract.next_at_ms}, expected after {now_ms}"
        )
    last = paid if paid is not None and is_last(paid, contract) else None
    return {
        "funding_rate_8h": contract.rate * _EIGHT_HOURS_MS / contract.interval_ms,
        "funding_last_rate_8h": (
            None if last is None else last.rate * _EIGHT_HOURS_MS / contract.interval_ms
        ),
        "funding_annualised_percent": 100 * contract.rate * _YEAR_MS / contract.interval_ms,
        "funding_next_at_ms": contract.next_at_ms,
        "funding_at_ms": fetched_ms,
        "mark_price": contract.mark_price,
    }
''')


###################################################################################################
_LOADER.modules["shared.market.derivatives.gate"] = ("shared/market/derivatives/gate.py", r'''"""Gate's public futures endpoints, settled in USDT.

Requests, errors and addresses are ccxt's (its implicit methods); its unified calls would first load
all of Gate's spot, futures and option markets. Sources: Gate API v4, "Query all futures contracts",
"Futures market historical funding rate" and "Query liquidation order history" (at most 1,000 rows
of at most one hour).

A contract is named by its coin, ``BTC_USDT``. ``size`` of a liquidation is the position's, in
contracts: above zero it was long. ``left`` of it was not closed by the order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from shared.calls import CallLog
from shared.config import Config
from shared.errors import DataUnavailable
from shared.execution.venues import ccxt_loader, clients
from shared.market.ages import CLOCK_SKEW_MS
from shared.market.derivatives.funding import Contract, Paid
from shared.market.derivatives.liquidations import LONGEST_MS, Liquidation

NAME = "gate"
MOST_ROWS = 1_000
_METHODS = {
    "contracts": "publicFuturesGetSettleContracts",
    "funding_rate": "publicFuturesGetSettleFundingRate",
    "liq_orders": "publicFuturesGetSettleLiqOrders",
}
_ABSURD = 1e15  # no price, size, rate or time in seconds comes near it
_TIMEOUT_MS = 4_000  # an optional source must not use up the scan's deadline


class Gate:
    """Each call is one request. What is malformed or does not come raises ``DataUnavailable``."""

    def __init__(self, config: Config, calls: CallLog) -> None:
        self._client = clients.client(config, NAME, private=False)
        self._client.timeout = min(_TIMEOUT_MS, config.request_timeout_ms)
        self._calls = calls

    def contracts(self, bases: Sequence[str]) -> tuple[dict[str, Contract], list[str]]:
        """The contracts of ``bases``, and what is wrong with others; one not listed is left out."""
        rows = self._rows("contracts", {})
        by_name = _by_contract(rows, "name")
        found: dict[str, Contract] = {}
        problems = []
        for base in bases:
            if _contract(base) not in by_name:
                continue
            try:
                found[base] = _parse_contract(by_name[_contract(base)][-1])
            except DataUnavailable as error:
                problems.append(f"{base}: {error}")
        return found, problems

    def last_funding(self, base: str) -> Paid:
        """The newest funding rate of ``base`` that was paid."""
        rows = self._rows("funding_rate", {"contract": _contract(base), "limit": 1})
        newest = max(rows, key=lambda row: _number(row, "t"), default=None)
        if newest is None:
            raise DataUnavailable(f"{NAME}: funding_rate of {base}: expected one, was none")
        return _valid(
            lambda: Paid(rate=_number(newest, "r"), at_ms=round(_number(newest, "t") * 1000))
        )

    def liquidations(
        self, sizes: Mapping[str, float], now_ms: int
    ) -> tuple[list[Liquidation], int]:
        """Liquidations of the last hour, and since when all of them are known.

        Args:
            sizes: what a contract holds, in base currency, by the coins to look for.
        """
        until_s = now_ms // 1000
        span = {"from": until_s - LONGEST_MS // 1000, "to": until_s, "limit": MOST_ROWS}
        rows = self._rows("liq_orders", span)
        by_contract = _by_contract(rows, "contract")
        found = [
            _parse_liquidation(base, size, row, now_ms)
            for base, size in sizes.items()
            for row in by_contract.get(_contract(base), [])
        ]
        return found, _complete_from_ms(rows, now_ms)

    def _rows(self, endpoint: str, parameters: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The objects of an answer's list."""
        errors = ccxt_loader.errors()
        ask = getattr(self._client, _METHODS[endpoint])
        with self._calls.timed(NAME) as call:
            try:
                answer = ask({"settle": "usdt", **parameters})
            except errors.BaseError as error:
                limited = isinstance(error, errors.RateLimitExceeded | errors.DDoSProtection)
                call.fail(type(error).__name__, rate_limited=limited)
                raise DataUnavailable(f"{NAME}: {endpoint}: {type(error).__name__}") from error
            if not isinstance(answer, list) or not all(isinstance(row, dict) for row in answer):
                call.fail("malformed answer")
                raise DataUnavailable(f"{NAME}: {endpoint}: expected a list of objects")
        return answer


def _contract(base: str) -> str:
    return f"{base}_USDT"


def _by_contract(
    rows: Sequence[Mapping[str, Any]], field: str
) -> dict[str, list[Mapping[str, Any]]]:
    """The rows of each contract; one that names none belongs to nobody."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        name = row.get(field)
        if isinstance(name, str):
            found.setdefault(name, []).append(row)
    return found


def _parse_contract(row: Mapping[str, Any]) -> Contract:
    return _valid(
        lambda: Contract(
            rate=_number(row, "funding_rate"),
            interval_ms=round(_number(row, "funding_interval") * 1000),
            next_at_ms=round(_number(row, "funding_next_apply") * 1000),
            mark_price=_number(row, "mark_price"),
            size=_number(row, "quanto_multiplier"),
        )
    )


def _parse_liquidation(
    base: str, contract_size: float, row: Mapping[str, Any], now_ms: int
) -> Liquidation:
    size = _number(row, "size")
    closed = abs(size) - abs(_number(row, "left"))
    price, at_ms = _number(row, "fill_price"), round(_number(row, "time") * 1000)
    if size == 0 or closed < 0 or price <= 0 or at_ms > now_ms + CLOCK_SKEW_MS:
        raise DataUnavailable(
            f"{NAME}: liquidation of {base}: size, left, fill_price, time: was {size}, "
            f"{row['left']}, {price}, {at_ms}, expected a position, a part of it, a price > 0 "
            f"and a time by {now_ms}"
        )
    side = "long" if size > 0 else "short"
    return Liquidation(base, at_ms, side, closed * contract_size * price)  # type: ignore[arg-type]


def _complete_from_ms(rows: Sequence[Mapping[str, Any]], now_ms: int) -> int:
    """Since when an answer holds everything: a full one may have left out what is older."""
    if len(rows) < MOST_ROWS:
        return now_ms - LONGEST_MS
    newest_s, oldest_s = _number(rows[0], "time"), _number(rows[-1], "time")
    if newest_s < oldest_s:
        raise DataUnavailable(
            f"{NAME}: liq_orders: was full and oldest first, expected the newest first"
        )
    return round(oldest_s * 1000) + 1000  # of that second some may be lacking


def _number(row: Mapping[str, Any], field: str) -> float:
    """A field that Gate sends as a number or, to keep its digits, as text."""
    try:
        value = float(row[field])
    except (KeyError, TypeError, ValueError, OverflowError):
        value = math.nan
    if not abs(value) < _ABSURD:
        raise DataUnavailable(f"{NAME}: {field}: was {row.get(field)!r}, expected a number")
    return value


def _valid[Model](build: Callable[[], Model]) -> Model:
    try:
        return build()
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, problem["loc"]))
        raise DataUnavailable(
            f"{NAME}: {field}: was {problem['input']!r}, {problem['msg']}"
        ) from error
''')


###################################################################################################
_LOADER.modules["shared.market.derivatives.liquidations"] = ("shared/market/derivatives/liquidations.py", r'''"""Forced liquidations of the last hour: who was thrown out of the market, and how much.

A long position that is liquidated is sold into the market, a short one is bought back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.market import ages

MINUTE_MS = 60_000
WINDOWS_MINUTES = (5, 60)
LONGEST_MS = max(WINDOWS_MINUTES) * MINUTE_MS

Notional = Annotated[float, Field(ge=0)]


@dataclass(frozen=True)
class Liquidation:
    """A position that was closed by force; ``side`` is what it was."""

    base: str
    at_ms: int
    side: Literal["long", "short"]
    notional_usdt: float


class Totals(BaseModel):
    """What was liquidated of one coin, by window in minutes, up to the time of the answer.

    A window that the answer does not reach back over is absent.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    long_usdt: dict[int, Notional]
    short_usdt: dict[int, Notional]
    largest_usdt: Notional
    newest_at_ms: int | None


def total(found: Sequence[Liquidation], from_ms: int, until_ms: int) -> Totals:
    """Sums of one coin's liquidations, of which all since ``from_ms`` are known."""
    seen = [one for one in found if until_ms - LONGEST_MS < one.at_ms <= until_ms]
    windows = [m for m in WINDOWS_MINUTES if until_ms - m * MINUTE_MS >= from_ms]

    def summed(side: str, minutes: int) -> float:
        since_ms = until_ms - minutes * MINUTE_MS
        return sum(o.notional_usdt for o in seen if o.side == side and o.at_ms > since_ms)

    return Totals(
        long_usdt={minutes: summed("long", minutes) for minutes in windows},
        short_usdt={minutes: summed("short", minutes) for minutes in windows},
        largest_usdt=max((one.notional_usdt for one in seen), default=0.0),
        newest_at_ms=max((one.at_ms for one in seen), default=None),
    )


def export(totals: Totals, fetched_ms: int, now_ms: int) -> dict[str, Any]:
    """Liquidations as the scan exports them; windows end at ``at_ms``, when they were read.

    Zero means that the venue was asked and knows of none; a window that is not known is null.

    Raises:
        DataUnavailable: they were read too long ago.
    """
    ages.check("liquidations", fetched_ms, now_ms)
    sums = {
        f"{side}_{minutes}m_usdt": by_window.get(minutes)
        for side, by_window in (("long", totals.long_usdt), ("short", totals.short_usdt))
        for minutes in WINDOWS_MINUTES
    }
    return sums | {
        "largest_usdt": totals.largest_usdt,
        "newest_at_ms": totals.newest_at_ms,
        "at_ms": fetched_ms,
    }
''')


###################################################################################################
_LOADER.modules["shared.market.derivatives.reading"] = ("shared/market/derivatives/reading.py", r'''"""When the derivatives venue is asked, what is kept, and what is made of it for each symbol.

Funding rates are asked for every 15 minutes and when a period ends, liquidations every 5 minutes;
between that, the process's memory or Redis answers. After a failure there is a minute's rest. The
last rate that was paid takes a request a coin: three of them a run, until all are known, and a coin
at most once in five minutes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from shared import clock
from shared.errors import DataUnavailable
from shared.market.derivatives import funding, liquidations
from shared.market.derivatives.funding import Contract, Paid
from shared.market.derivatives.gate import NAME, Gate
from shared.market.derivatives.liquidations import Totals
from shared.run import Run

FUNDING_EVERY_MS = 900_000
LIQUIDATIONS_EVERY_MS = 300_000
REST_MS = 60_000
PAID_REST_MS = 300_000
PAID_A_RUN = 3
_KEY = f"derivatives:{NAME}"
_TTL_SECONDS = 2 * 3_600

Export = dict[str, Any]


class Kept(BaseModel):
    """What is known of the venue. Times are when an answer came; 0 for never.

    Attributes:
        bases: the coins that were asked for; one without a contract is not listed.
        funding_tried_ms, paid_tried_ms, liquidations_tried_ms: when the venue was asked last,
            whether it answered or not.
    """

    model_config = ConfigDict(frozen=True)

    bases: tuple[str, ...] = ()
    contracts: dict[str, Contract] = {}
    funding_ms: int = 0
    funding_tried_ms: int = 0
    paid: dict[str, Paid] = {}
    paid_tried_ms: dict[str, int] = {}
    totals: dict[str, Totals] = {}
    liquidations_ms: int = 0
    liquidations_tried_ms: int = 0


@dataclass(frozen=True)
class Derivatives:
    """By symbol ``{"venue", "funding", "liquidations"}``, each of both null where it is missing.

    Attributes:
        missing: by symbol, what is lacking and why.
        failures: what went wrong in this run, for the whole scan.
    """

    by_symbol: dict[str, Export] = field(default_factory=dict)
    missing: dict[str, list[str]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


_remembered: dict[str, Kept] = {}


def read(run: Run, symbols: Sequence[str]) -> Derivatives | None:
    """What is known of the perpetuals of ``symbols`` now; ``None`` where nobody wants to know.

    It never fails: what is lacking is named.
    """
    if run.config.derivatives_venue == "off":
        return None
    now_ms, failures = clock.now_ms(), list[str]()
    bases = tuple(sorted({symbol.split("/")[0] for symbol in symbols}))
    place = f"{run.config.simulated_wire_url}:{run.config.pod}"
    before = _known(run, place, bases, now_ms)
    kept = _refreshed(run, before, bases, now_ms, failures)
    _remembered[place] = kept
    if kept is not before:
        run.cache.set(_KEY, kept.model_dump_json().encode(), _TTL_SECONDS)
    found = Derivatives(failures=failures)
    for symbol in symbols:
        found.by_symbol[symbol], found.missing[symbol] = _export(kept, symbol, now_ms)
    return found


def _known(run: Run, place: str, bases: Sequence[str], now_ms: int) -> Kept:
    """This process's memory; Redis where another process may know more."""
    mine = _remembered.get(place, Kept())
    if not _wants_funding(mine, bases, now_ms) and not _wants_liquidations(mine, now_ms):
        return mine
    blob = run.cache.get(_KEY)
    if blob is None:
        return mine
    try:
        shared = Kept.model_validate_json(blob)
    except ValidationError:
        return mine  # whatever the cache holds, the venue can be asked instead
    return shared if _last_tried_ms(shared) > _last_tried_ms(mine) else mine


def _last_tried_ms(kept: Kept) -> int:
    return max(kept.funding_tried_ms, kept.liquidations_tried_ms)


def _refreshed(
    run: Run, kept: Kept, bases: tuple[str, ...], now_ms: int, failures: list[str]
) -> Kept:
    """``kept`` with what is due; the same object where nothing is."""
    lacking = _lacking_last(kept, now_ms)
    if _wants_funding(kept, bases, now_ms):
        kept = _with_funding(Gate(run.config, run.calls), kept, bases, now_ms, failures)
    elif lacking:
        kept = _with_paid(Gate(run.config, run.calls), kept, lacking[:PAID_A_RUN], now_ms, failures)
    if kept.contracts and _wants_liquidations(kept, now_ms):
        kept = _with_liquidations(Gate(run.config, run.calls), kept, now_ms, failures)
    return kept


def _wants_funding(kept: Kept, bases: Sequence[str], now_ms: int) -> bool:
    if 0 <= now_ms - kept.funding_tried_ms < REST_MS:
        return False
    is_over = any(contract.next_at_ms <= now_ms for contract in kept.contracts.values())
    is_old = not 0 <= now_ms - kept.funding_ms < FUNDING_EVERY_MS
    return is_over or is_old or not set(bases) <= set(kept.bases)


def _wants_liquidations(kept: Kept, now_ms: int) -> bool:
    rests = 0 <= now_ms - kept.liquidations_tried_ms < REST_MS
    is_old = not 0 <= now_ms - kept.liquidations_ms < LIQUIDATIONS_EVERY_MS
    return is_old and not rests


def _lacking_last(kept: Kept, now_ms: int) -> list[str]:
    """The coins whose last payment is not known, and was not asked for just now."""
    return [
        base
        for base, contract in kept.contracts.items()
        if not funding.is_last(kept.paid.get(base), contract)
        and not 0 <= now_ms - kept.paid_tried_ms.get(base, 0) < PAID_REST_MS
    ]


def _with_funding(
    gate: Gate, kept: Kept, bases: tuple[str, ...], now_ms: int, failures: list[str]
) -> Kept:
    tried = {"bases": bases, "funding_tried_ms": now_ms}
    try:
        contracts, problems = gate.contracts(bases)
    except DataUnavailable as error:
        failures.append(f"derivatives.funding:{error}")
        return kept.model_copy(update=tried)
    failures += [f"derivatives.funding:{problem}" for problem in problems]
    return kept.model_copy(update=tried | {"contracts": contracts, "funding_ms": now_ms})


def _with_paid(
    gate: Gate, kept: Kept, bases: Sequence[str], now_ms: int, failures: list[str]
) -> Kept:
    paid, tried_ms = dict(kept.paid), dict(kept.paid_tried_ms)
    for base in bases:
        tried_ms[base] = now_ms
        try:
            paid[base] = gate.last_funding(base)
        except DataUnavailable as error:
            failures.append(f"derivatives.funding_last:{error}")
            break
    return kept.model_copy(update={"paid": paid, "paid_tried_ms": tried_ms})


def _with_liquidations(gate: Gate, kept: Kept, now_ms: int, failures: list[str]) -> Kept:
    tried = {"liquidations_tried_ms": now_ms}
    sizes = {base: contract.size for base, contract in kept.contracts.items()}
    try:
        found, from_ms = gate.liquidations(sizes, now_ms)
    except DataUnavailable as error:
        failures.append(f"derivatives.liquidations:{error}")
        return kept.model_copy(update=tried)
    totals = {
        base: liquidations.total([one for one in found if one.base == base], from_ms, now_ms)
        for base in sizes
    }
    return kept.model_copy(update=tried | {"totals": totals, "liquidations_ms": now_ms})


def _export(kept: Kept, symbol: str, now_ms: int) -> tuple[Export, list[str]]:
    base, missing = symbol.split("/")[0], list[str]()
    shown: Export = {"venue": NAME, "funding": None, "liquidations": None}
    contract, totals = kept.contracts.get(base), kept.totals.get(base)
    if contract is None:
        missing.append(f"derivatives:no contract of {base} is known")
        return shown, missing
    try:
        shown["funding"] = funding.export(contract, kept.paid.get(base), kept.funding_ms, now_ms)
    except DataUnavailable as error:
        missing.append(f"derivatives.{error}")
    if totals is None:
        missing.append("derivatives.liquidations")
        return shown, missing
    try:
        shown["liquidations"] = liquidations.export(totals, kept.liquidations_ms, now_ms)
    except DataUnavailable as error:
        missing.append(f"derivatives.{error}")
    return shown, missing + _nulls(shown)


def _nulls(shown: Mapping[str, Any]) -> list[str]:
    """Parts of what was read that are not known."""
    return [
        f"derivatives.{name}"
        for part in ("funding", "liquidations")
        for name, value in (shown[part] or {}).items()
        if value is None and name != "newest_at_ms"  # there may have been none
    ]
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
_LOADER.modules["shared.market.flow"] = ("shared/market/flow/__init__.py", r'''"""Who is in a hurry: public trades of a minute, and what they add up to over minutes."""
''')


###################################################################################################
_LOADER.modules["shared.market.flow.flow_state"] = ("shared/market/flow/flow_state.py", r'''"""What the public trades of the last hour add up to, carried from run to run.

An answer holds the newest trades only, and two answers overlap or leave a hole between them. Here
each trade is counted once, in the minute that it happened in, and each minute knows how much of it
was seen. Losing this state loses the past and nothing else: a new one knows since when it sees.

A trade is known by the venue's number where it tells one, and by its time where it does not; then
a trade in the very millisecond of the last one that was counted is taken for counted. Two answers
join without a hole if the newer one reaches back to what was counted, or goes on with the next
number: Binance's aggregate trades, Coinbase's and Kraken's trades are numbered without holes,
symbol by symbol.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from shared.market.types import PublicTrade

MINUTE_MS = 60_000
MINUTES = 64
"""Rows of the ring: an hour of whole minutes, the one under way, and some to spare."""

LEAST_TRADES = 100
MOST_TRADES = 1_000
"""How many trades are asked for: the venues' caps are Binance 1,000, Coinbase and Kraken 1,000."""

LARGE_PERCENTILE = 99
_LEAST_WEIGHT = 100.0  # a 99th percentile of fewer trades than this is noise
_HALF_LIFE_MS = 1_800_000  # of a trade's weight in the distribution of sizes
_BINS_PER_DECADE = 16
SIZE_BINS = 8 * _BINS_PER_DECADE  # from 1 to 100 million in quote currency

# Columns of a minute's row.
(
    MINUTE,
    BUY,
    SELL,
    TRADES,
    COVERED_MS,
    MISSED,
    LARGE_BUY,
    LARGE_SELL,
    LARGE_TRADES,
    COLUMNS,
) = range(10)

Rows = NDArray[np.float64]


def _no_minutes() -> Rows:
    rows = np.zeros((MINUTES, COLUMNS))
    rows[:, MINUTE] = -1
    return rows


def _no_sizes() -> NDArray[np.float32]:
    return np.zeros(SIZE_BINS, dtype=np.float32)


@dataclass(frozen=True)
class Flow:
    """The trades of one symbol on one venue, minute by minute.

    Attributes:
        minutes: a ring of rows, by the number of the minute since 1970 modulo ``MINUTES``. Volumes
            are in quote currency; ``MISSED`` counts trades that fell into a hole.
        sizes: how many trades there were of each notional, by powers of ten; old ones fade.
        last_id, last_ms: the newest trade that was counted; 0 before the first.
        covered_until_ms: when the last answer was asked for.
        stretch_from_ms: since when there has been no hole.
        judged_from_ms: since when large trades are told from others; 0 where too few are known.
        limit: how many trades the next answer should hold.
        gap: trades that the last answer has missed; -1 where a hole has an unknown number.
    """

    minutes: Rows = field(default_factory=_no_minutes)
    sizes: NDArray[np.float32] = field(default_factory=_no_sizes)
    last_id: int = 0
    last_ms: int = 0
    covered_until_ms: int = 0
    stretch_from_ms: int = 0
    judged_from_ms: int = 0
    limit: int = LEAST_TRADES
    gap: int = 0

    @property
    def large_from_quote(self) -> float | None:
        """The notional from which a trade is large, or ``None`` where too few are known.

        It is the 99th percentile of the trades counted so far, each weighing half as much after
        30 minutes.
        """
        total = float(self.sizes.sum())
        if total < _LEAST_WEIGHT:
            return None
        cumulated = np.cumsum(self.sizes, dtype=np.float64)
        wanted = total * LARGE_PERCENTILE / 100
        bin_at = min(int(np.searchsorted(cumulated, wanted)), SIZE_BINS - 1)
        inside = 1 - (float(cumulated[bin_at]) - wanted) / float(self.sizes[bin_at])
        return float(10 ** ((bin_at + min(max(inside, 0.0), 1.0)) / _BINS_PER_DECADE))


def fold(flow: Flow, trades: Sequence[PublicTrade], asked_ms: int) -> Flow:
    """Count what is new in an answer that was asked for at ``asked_ms``.

    ``trades`` are valid (see ``order_flow.check``), oldest first. An answer without a trade tells
    nothing, since a venue that knows none may have forgotten them.
    """
    if not trades:
        return replace(flow, gap=0)
    new = _new(flow, trades)
    started = flow.covered_until_ms > 0
    gap = _gap(flow, trades, new) if started else 0
    broken = gap != 0 or not started
    from_ms = trades[0].at_ms if broken else flow.covered_until_ms
    until_ms = max(asked_ms, flow.covered_until_ms, trades[-1].at_ms)
    minutes = flow.minutes.copy()
    _cover(minutes, max(from_ms, flow.covered_until_ms), until_ms)
    if gap:
        _row(minutes, new[0].at_ms)[MISSED] += max(gap, 1)
    counted = replace(
        flow,
        minutes=minutes,
        last_id=(new[-1].trade_id or 0) if new else flow.last_id,
        last_ms=max(flow.last_ms, trades[-1].at_ms),
        covered_until_ms=until_ms,
        stretch_from_ms=from_ms if broken else flow.stretch_from_ms,
        limit=_next_limit(flow.limit, len(new), gap),
        gap=gap,
    )
    oldest_ms = _oldest_ms(until_ms)
    kept = [trade for trade in new if trade.at_ms >= oldest_ms]
    return _counted(counted, kept, until_ms - flow.covered_until_ms) if kept else counted


def _new(flow: Flow, trades: Sequence[PublicTrade]) -> list[PublicTrade]:
    """What was not counted yet: by number, or by time where numbers are lacking or begin anew."""
    numbers = [trade.trade_id for trade in trades if trade.trade_id is not None]
    begin_anew = bool(numbers) and max(numbers) < flow.last_id and trades[-1].at_ms > flow.last_ms
    if flow.last_id and len(numbers) == len(trades) and not begin_anew:
        return [t for t, number in zip(trades, numbers, strict=True) if number > flow.last_id]
    return [trade for trade in trades if trade.at_ms > flow.last_ms]


def _gap(flow: Flow, trades: Sequence[PublicTrade], new: Sequence[PublicTrade]) -> int:
    """How many trades lie between what was counted and ``new``: 0 for none, -1 for unknown."""
    if len(new) < len(trades):
        return 0
    first = new[0].trade_id
    if flow.last_id and first is not None and first > flow.last_id:
        return first - flow.last_id - 1
    return -1


def _next_limit(limit: int, new: int, gap: int) -> int:
    """More after a hole, less again where most of an answer is known already."""
    if gap:
        wanted = 1.5 * (new + max(gap, new))
        return min(MOST_TRADES, max(limit, int(-(-wanted // LEAST_TRADES)) * LEAST_TRADES))
    return max(LEAST_TRADES, limit // 2) if new < limit // 4 else limit


def _counted(flow: Flow, new: Sequence[PublicTrade], elapsed_ms: int) -> Flow:
    """``flow`` with the volumes of ``new``; its arrays are changed, so they are not shared."""
    at_ms = np.array([trade.at_ms for trade in new], dtype=np.int64)
    notional = np.array([trade.price * trade.quantity for trade in new])
    bought = np.array([trade.side == "buy" for trade in new])
    sizes = flow.sizes * np.float32(0.5 ** (max(elapsed_ms, 0) / _HALF_LIFE_MS))
    bins = np.clip(np.log10(notional) * _BINS_PER_DECADE, 0, SIZE_BINS - 1).astype(np.int64)
    np.add.at(sizes, bins, np.float32(1))
    sized = replace(flow, sizes=sizes)
    threshold = sized.large_from_quote
    large = np.zeros(len(new), dtype=bool) if threshold is None else notional >= threshold
    _add(flow.minutes, at_ms, notional, bought, large)
    judged_from_ms = 0 if threshold is None else flow.judged_from_ms or int(at_ms[0])
    return replace(sized, judged_from_ms=judged_from_ms)


def _add(
    minutes: Rows,
    at_ms: NDArray[np.int64],
    notional: Rows,
    bought: NDArray[np.bool_],
    large: NDArray[np.bool_],
) -> None:
    for minute in np.unique(at_ms // MINUTE_MS):
        inside = at_ms // MINUTE_MS == minute
        row = _row(minutes, int(minute) * MINUTE_MS)
        buys, sells = inside & bought, inside & ~bought
        row[BUY] += notional[buys].sum()
        row[SELL] += notional[sells].sum()
        row[TRADES] += inside.sum()
        row[LARGE_BUY] += notional[buys & large].sum()
        row[LARGE_SELL] += notional[sells & large].sum()
        row[LARGE_TRADES] += (inside & large).sum()


def _cover(minutes: Rows, from_ms: int, to_ms: int) -> None:
    """Note that the time from ``from_ms`` to ``to_ms`` was seen."""
    at_ms = max(from_ms, _oldest_ms(to_ms))
    while at_ms < to_ms:
        end_ms = min((at_ms // MINUTE_MS + 1) * MINUTE_MS, to_ms)
        _row(minutes, at_ms)[COVERED_MS] += end_ms - at_ms
        at_ms = end_ms


def _oldest_ms(now_ms: int) -> int:
    """The beginning of the oldest minute that the ring has room for."""
    return (now_ms // MINUTE_MS - MINUTES + 1) * MINUTE_MS


def _row(minutes: Rows, at_ms: int) -> Rows:
    """The row of a minute; what stood there an hour ago is wiped out."""
    minute = at_ms // MINUTE_MS
    row = minutes[minute % MINUTES]
    if row[MINUTE] < minute:
        row[:] = 0
        row[MINUTE] = minute
    return row
''')


###################################################################################################
_LOADER.modules["shared.market.flow.flow_store"] = ("shared/market/flow/flow_store.py", r'''"""The flow of trades in Redis: a fixed form of five kilobytes a symbol, with a checksum.

Redis is a cache. What is lost, cut or of another form counts as not there: the flow begins anew
and tells since when it sees.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from shared.cache import Cache
from shared.market.flow.flow_state import COLUMNS, MINUTES, SIZE_BINS, Flow

_HEAD = struct.Struct("<4sI7q")
_MAGIC = b"TLF1"
_MINUTES_BYTES = MINUTES * COLUMNS * 8
_SIZE = _HEAD.size + _MINUTES_BYTES + SIZE_BINS * 4
_TTL_SECONDS = 2 * 3_600


class FlowStore:
    """The flows of a pod, by venue and symbol."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def read(self, venue: str, symbols: Sequence[str]) -> dict[str, Flow]:
        """What the cache holds; a new flow where it holds none."""
        blobs = self._cache.get_many([_key(venue, symbol) for symbol in symbols])
        return {
            symbol: (None if blob is None else decode(blob)) or Flow()
            for symbol, blob in zip(symbols, blobs, strict=True)
        }

    def write(self, venue: str, flows: Mapping[str, Flow]) -> None:
        """Keep ``flows`` for two hours, after which nothing of them is of use."""
        values = {_key(venue, symbol): encode(flow) for symbol, flow in flows.items()}
        self._cache.set_many(values, _TTL_SECONDS)


def encode(flow: Flow) -> bytes:
    """The flow as bytes."""
    numbers = (
        flow.last_id, flow.last_ms, flow.covered_until_ms, flow.stretch_from_ms,
        flow.judged_from_ms, flow.limit, flow.gap,
    )  # fmt: skip
    arrays = flow.minutes.astype("<f8").tobytes() + flow.sizes.astype("<f4").tobytes()
    check = zlib.crc32(struct.pack("<7q", *numbers) + arrays)
    return _HEAD.pack(_MAGIC, check, *numbers) + arrays


def decode(blob: bytes) -> Flow | None:
    """The flow of ``encode``, or ``None`` where the bytes are not one."""
    if len(blob) != _SIZE:
        return None
    magic, check, *numbers = _HEAD.unpack_from(blob)
    if magic != _MAGIC or check != zlib.crc32(blob[8:]):
        return None
    end = _HEAD.size + _MINUTES_BYTES
    minutes = np.frombuffer(blob[_HEAD.size : end], dtype="<f8").reshape(MINUTES, COLUMNS)
    return Flow(minutes, np.frombuffer(blob[end:], dtype="<f4"), *numbers)


def _key(venue: str, symbol: str) -> str:
    return f"flow:{venue}:{symbol}"
''')


###################################################################################################
_LOADER.modules["shared.market.flow.order_flow"] = ("shared/market/flow/order_flow.py", r'''"""Who is in a hurry: signed volume of public trades, of this minute and of the last hour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from shared.errors import DataUnavailable
from shared.market import ages
from shared.market.flow.flow_state import (
    BUY,
    COVERED_MS,
    LARGE_BUY,
    LARGE_SELL,
    LARGE_TRADES,
    MINUTE,
    MINUTE_MS,
    MINUTES,
    MISSED,
    SELL,
    TRADES,
    Flow,
    Rows,
)
from shared.market.types import PublicTrade

WINDOWS_MINUTES = (5, 15, 60)
LARGE_MINUTES = 60


def measure(trades: Sequence[PublicTrade], now_ms: int) -> dict[str, Any]:
    """Taker buys against taker sells over the trades of the last five minutes, in quote currency.

    ``cumulative_delta_quote`` is the sum of signed volume over ``window_ms``, the time that the
    trades span; ``delta_ratio`` is that sum over the whole volume, -1 to 1. Venues tell at most a
    few hundred trades, so that the window of a busy symbol is short; ``cumulative`` sees further.

    Raises:
        DataUnavailable: there is no recent trade, or a trade is malformed.
    """
    most = ages.MAX_AGE_MS["order_flow"]
    recent = [trade for trade in trades if now_ms - trade.at_ms <= most]
    if not recent:
        raise DataUnavailable(f"trades: expected one within {most} ms, was none")
    check(recent, now_ms)
    bought = sum(trade.price * trade.quantity for trade in recent if trade.side == "buy")
    sold = sum(trade.price * trade.quantity for trade in recent if trade.side == "sell")
    times = [trade.at_ms for trade in recent]
    return {
        "taker_buy_quote": bought,
        "taker_sell_quote": sold,
        "delta_ratio": (bought - sold) / (bought + sold),
        "cumulative_delta_quote": bought - sold,
        "trades": len(recent),
        "window_ms": max(times) - min(times),
        "at_ms": max(times),
    }


def cumulative(flow: Flow, now_ms: int) -> dict[str, Any]:
    """Cumulative volume delta of the last 5, 15 and 60 closed minutes, and large trades.

    ``cvd`` has for each window the taker buys less the taker sells (``delta_quote``), their sum
    (``volume_quote``), and the share of the window's time that was seen (``covered_share``): what
    was not seen is not in the sums. A window of which nothing was seen is null. ``missed_trades``
    is there where some fell into a hole between two answers; at least so many, where the venue
    does not number them. ``large`` are trades at or above the 99th percentile of sizes
    (``from_quote``), over the last 60 minutes or since ``since_ms``; null while too few are known.

    Raises:
        DataUnavailable: the newest trades were read too long ago.
    """
    ages.check("order_flow.cvd", flow.covered_until_ms, now_ms)
    until_ms = now_ms // MINUTE_MS * MINUTE_MS
    rows = _newest(flow, until_ms, max(WINDOWS_MINUTES))
    return {
        "cvd": {f"{minutes}m": _window(rows[-minutes:], minutes) for minutes in WINDOWS_MINUTES},
        "cvd_at_ms": until_ms,
        "large": _large(flow, rows[-LARGE_MINUTES:], until_ms),
    }


def lacking(measured: dict[str, Any], flow: Flow) -> list[str]:
    """What ``cumulative`` could not see, for ``missing``: holes, and windows not seen whole."""
    found = []
    if flow.gap:
        number = flow.gap if flow.gap > 0 else "an unknown number of"
        found.append(f"order_flow.gap:{number} trades before {flow.stretch_from_ms}")
    shares = {
        name: 0.0 if window is None else window["covered_share"]
        for name, window in measured["cvd"].items()
    }
    if min(shares.values()) < 1:
        seen = " ".join(f"{name}={share:g}" for name, share in shares.items())
        found.append(f"order_flow.cvd:covered {seen}, whole since {flow.stretch_from_ms}")
    if measured["large"] is None:
        found.append("order_flow.large:too few trades known")
    return found


def check(trades: Sequence[PublicTrade], now_ms: int) -> None:
    """Refuse trades that cannot be true.

    Raises:
        DataUnavailable: names the field, its value and what was expected.
    """
    for trade in trades:
        if trade.side not in ("buy", "sell"):
            raise DataUnavailable(f"trade.side: was {trade.side!r}, expected buy or sell")
        if trade.at_ms > now_ms + ages.CLOCK_SKEW_MS:
            raise DataUnavailable(f"trade.at_ms: was {trade.at_ms}, expected <= {now_ms}")
        for name, value in (("price", trade.price), ("quantity", trade.quantity)):
            if not (value > 0 and math.isfinite(value)):
                raise DataUnavailable(f"trade.{name}: was {value}, expected a finite number > 0")


def _window(rows: Rows, minutes: int) -> dict[str, Any] | None:
    sums = rows.sum(axis=0).tolist()
    covered = sums[COVERED_MS] / (minutes * MINUTE_MS)
    if covered <= 0:
        return None
    window = {
        "delta_quote": sums[BUY] - sums[SELL],
        "volume_quote": sums[BUY] + sums[SELL],
        "trades": int(sums[TRADES]),
        "covered_share": min(1.0, round(covered, 3)),
    }
    missed = int(sums[MISSED])
    return window | ({"missed_trades": missed} if missed else {})


def _large(flow: Flow, rows: Rows, until_ms: int) -> dict[str, Any] | None:
    threshold = flow.large_from_quote
    if threshold is None or not flow.judged_from_ms:
        return None
    sums = rows.sum(axis=0).tolist()
    net = sums[LARGE_BUY] - sums[LARGE_SELL]
    from_ms = until_ms - LARGE_MINUTES * MINUTE_MS
    return {
        "from_quote": threshold,
        "trades": int(sums[LARGE_TRADES]),
        "notional_quote": sums[LARGE_BUY] + sums[LARGE_SELL],
        "net_quote": net,
        "net_side": None if net == 0 else "buy" if net > 0 else "sell",
        "since_ms": max(from_ms, flow.judged_from_ms, flow.stretch_from_ms),
    }


def _newest(flow: Flow, until_ms: int, minutes: int) -> Rows:
    """The rows of the minutes before ``until_ms``, oldest first; one that was not seen is zero."""
    until = until_ms // MINUTE_MS
    wanted = np.arange(until - minutes, until)
    rows = flow.minutes[wanted % MINUTES]
    return np.where((rows[:, MINUTE] == wanted)[:, np.newaxis], rows, 0.0)
''')


###################################################################################################
_LOADER.modules["shared.market.gathering"] = ("shared/market/gathering/__init__.py", r'''"""All inputs of a scan, side by side and within one deadline."""
''')


###################################################################################################
_LOADER.modules["shared.market.gathering.gather"] = ("shared/market/gathering/gather.py", r'''"""Everything the scan needs from outside, side by side and within one deadline.

The first venue is asked for everything, the others for quotes, and for the symbols that the first
could not serve. What came in time is used, and the rest is named. A thread that is still waiting
when the time is up is left alone: its own request time-out ends it, and what it brings is not read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from typing import Any

from shared import clock
from shared.errors import DataUnavailable, VenueError
from shared.execution.venues.base import PublicVenue
from shared.execution.venues.clients import SIDE_BY_SIDE
from shared.market import derivatives, microstructure, peg, sentiment
from shared.market.derivatives import Derivatives
from shared.market.gathering.serving import SymbolInputs, serve
from shared.market.sentiment import Sentiment
from shared.market.types import Quote
from shared.run import Run

__all__ = ["Gathered", "SymbolInputs", "gather"]

DEADLINE_S = 10.0
_PRIMARY_SHARE = 0.6  # of the deadline; the rest is for the venues that take over


@dataclass
class Gathered:
    """All inputs of a scan, and what is lacking.

    Attributes:
        by_symbol: absent where no venue could serve a symbol.
        quotes: by venue, then symbol; only from the venues besides the primary one.
        pegs: by venue, then pair; what tells the worth of the quote currency.
        missing: what is lacking for the whole scan; ``missing_by_symbol`` for one symbol.
    """

    by_symbol: dict[str, SymbolInputs] = field(default_factory=dict)
    quotes: dict[str, dict[str, Quote]] = field(default_factory=dict)
    pegs: dict[str, dict[str, Quote]] = field(default_factory=dict)
    sentiment: Sentiment | None = None
    derivatives: Derivatives | None = None
    missing: list[str] = field(default_factory=list)
    missing_by_symbol: dict[str, list[str]] = field(default_factory=dict)


def gather(
    run: Run,
    venues: Mapping[str, PublicVenue],
    symbols: Sequence[str],
    *,
    deadline_s: float = DEADLINE_S,
) -> Gathered:
    """Ask all sources side by side; the first venue for everything, the others for quotes.

    The pairs of the quote currency's peg are asked for with the quotes. A venue that is alone is
    asked for them itself; a primary one is not, because while all others are silent nothing is
    bought anyway, for want of a second price.
    """
    watch = clock.Stopwatch()
    pegs = peg.pairs(run.config.quote_currency)
    gathered = Gathered(missing_by_symbol={symbol: [] for symbol in symbols})
    primary, *others = venues.values()
    # Each venue has threads of its own, so that one that hangs takes none from another.
    besides = ThreadPoolExecutor(len(venues) + 1, thread_name_prefix="scan")
    try:
        asked = {other.name: besides.submit(other.quotes, [*symbols, *pegs]) for other in others}
        alone = None if others else besides.submit(primary.quotes, pegs)
        mood = besides.submit(sentiment.read, run)
        perpetuals = besides.submit(derivatives.read, run, symbols)
        _serve(run, primary, symbols, gathered, _PRIMARY_SHARE * deadline_s)
        for name, future in asked.items():
            left_s = _PRIMARY_SHARE * deadline_s - watch.seconds()
            answer = _told(gathered, name, future, left_s)
            if answer is not None:
                _collect_quotes(gathered, name, answer)
                _collect_pegs(gathered, name, answer, pegs)
        if alone is not None:
            answer = _told(gathered, primary.name, alone, deadline_s - watch.seconds())
            _collect_pegs(gathered, primary.name, answer or {}, pegs)
        if pegs and not any(gathered.pegs.values()):
            gathered.missing.append(f"quote_peg:no venue tells {' or '.join(pegs)}")
        # One that has not even told its quotes in time would hang again.
        backups = [other for other in others if asked[other.name].done()]
        for place, other in enumerate(backups):
            left = [symbol for symbol in symbols if symbol not in gathered.by_symbol]
            if not left:
                break
            seconds = (deadline_s - watch.seconds()) / (len(backups) - place)
            _serve(run, other, left, gathered, seconds)
        _collect_sentiment(gathered, mood, deadline_s - watch.seconds())
        _collect_derivatives(gathered, perpetuals, deadline_s - watch.seconds())
    finally:
        besides.shutdown(wait=False, cancel_futures=True)
    return gathered


def _serve(
    run: Run, venue: PublicVenue, symbols: Sequence[str], gathered: Gathered, seconds: float
) -> None:
    """Let ``venue`` serve ``symbols``, and name those that it has not served."""
    if seconds <= 0:
        _note(gathered, symbols, f"{venue.name}: no time left")
        return
    pool: Executor = ThreadPoolExecutor(
        min(SIDE_BY_SIDE, len(symbols)), thread_name_prefix=f"scan-{venue.name}"
    )
    try:
        served = serve(run, pool, venue, symbols, seconds)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    gathered.by_symbol |= served.inputs
    for symbol, why in served.refused.items():
        gathered.missing_by_symbol[symbol].append(f"{venue.name}: {why}")


def _told(
    gathered: Gathered, venue: str, future: Future[dict[str, Quote]], seconds: float
) -> dict[str, Quote] | None:
    """The quotes of a venue; ``None``, with a word of why, where there are none in time."""
    try:
        return future.result(timeout=max(seconds, 0))
    except FutureTimeout:
        gathered.missing.append(f"quotes.{venue}:no answer in time")
    except (DataUnavailable, VenueError) as error:
        gathered.missing.append(f"quotes.{venue}:{error}")
    return None


def _collect_quotes(gathered: Gathered, venue: str, answer: Mapping[str, Quote]) -> None:
    now_ms, good = clock.now_ms(), {}
    for symbol, missing in gathered.missing_by_symbol.items():
        quote: Any = answer.get(symbol)
        if quote is None:
            missing.append(f"venues.{venue}:no quote")
            continue
        try:
            microstructure.check_quote(f"venues.{venue}", quote, now_ms)
            good[symbol] = quote
        except DataUnavailable as error:
            missing.append(str(error))
    gathered.quotes[venue] = good


def _collect_pegs(
    gathered: Gathered, venue: str, answer: Mapping[str, Quote], pegs: Sequence[str]
) -> None:
    """Few venues list every pair: one that is absent is no news."""
    now_ms, good = clock.now_ms(), {}
    for pair in pegs:
        if pair not in answer:
            continue
        try:
            microstructure.check_quote(f"venues.{venue}.{pair}", answer[pair], now_ms)
            good[pair] = answer[pair]
        except DataUnavailable as error:
            gathered.missing.append(str(error))
    gathered.pegs[venue] = good


def _collect_sentiment(gathered: Gathered, future: Future[Sentiment], seconds: float) -> None:
    try:
        gathered.sentiment = future.result(timeout=max(seconds, 0))
        gathered.missing += gathered.sentiment.missing
    except FutureTimeout:
        gathered.missing.append("sentiment:no answer in time")


def _collect_derivatives(
    gathered: Gathered, future: Future[Derivatives | None], seconds: float
) -> None:
    try:
        gathered.derivatives = future.result(timeout=max(seconds, 0))
    except FutureTimeout:
        gathered.missing.append("derivatives:no answer in time")
        return
    if gathered.derivatives is None:
        return
    gathered.missing += gathered.derivatives.failures
    for symbol, lacking in gathered.derivatives.missing.items():
        gathered.missing_by_symbol[symbol] += lacking


def _note(gathered: Gathered, symbols: Sequence[str], why: str) -> None:
    for symbol in symbols:
        gathered.missing_by_symbol[symbol].append(why)
''')


###################################################################################################
_LOADER.modules["shared.market.gathering.serving"] = ("shared/market/gathering/serving.py", r'''"""What one venue tells of the symbols that it serves in a minute, asked for side by side.

First every symbol gets its newest minute, book and trades, in a thread a symbol; then come candles
that can wait: timeframes that are lacking whole, holes, and windows that are still short. A thread
that still waits when the time is up is left alone, and nobody reads what it brings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass, field, replace

from shared import clock
from shared.errors import DataUnavailable, VenueError
from shared.execution.venues.base import PublicVenue
from shared.ledger import events
from shared.market import microstructure
from shared.market.candles import candle_check, candle_refresh, candle_upkeep, flash_prints, history
from shared.market.candles.candle_source import Allowance
from shared.market.candles.candle_store import CandleStore, Refreshed, Windows
from shared.market.candles.candle_upkeep import Notes
from shared.market.candles.flash_prints import FlashPrint
from shared.market.candles.history import Series
from shared.market.flow import order_flow
from shared.market.flow.flow_state import Flow, fold
from shared.market.flow.flow_store import FlowStore
from shared.market.types import TIMEFRAMES, Book, PublicTrade
from shared.run import Run

CANDLE_REQUESTS = 60
"""How many requests a run makes at most for candles that can wait."""
_FEWER_CANDLE_REQUESTS = {"coinbase": 40}  # of the 116 that its budget leaves a minute
_UPKEEP_SHARE = 0.8  # of the time; after that no further request is begun
_PRINT_IS_NEWS_MS = 3_600_000  # after its candle has closed; by then the next hour has settled it


@dataclass(frozen=True)
class SymbolInputs:
    """One symbol's inputs from the one venue that serves it in this minute.

    Attributes:
        refreshed: its windows, without flash prints.
        flash_prints: those in candles that have just closed, which nothing may be bought on.
    """

    venue: str
    refreshed: Refreshed
    book: Book
    trades: list[PublicTrade] | None
    flow: Flow
    missing: list[str]
    flash_prints: tuple[FlashPrint, ...] = ()


@dataclass
class Served:
    """What came in time by symbol, and why the rest did not."""

    inputs: dict[str, SymbolInputs] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def serve(
    run: Run, pool: Executor, venue: PublicVenue, symbols: Sequence[str], seconds: float
) -> Served:
    """Let ``venue`` serve ``symbols`` for at most ``seconds``, and keep its candles and flows."""
    watch, now_ms, store = clock.Stopwatch(), clock.now_ms(), CandleStore(run.cache)
    cached, restored = _cached(run, store, venue.name, symbols, now_ms)
    flows = FlowStore(run.cache).read(venue.name, symbols)
    due = candle_check.due(symbols, now_ms)

    def has_time() -> bool:
        return watch.seconds() < seconds

    futures = {
        symbol: pool.submit(
            _inputs,
            venue,
            symbol,
            cached[symbol],
            flows[symbol],
            due[1] if due is not None and due[0] == symbol else None,
            has_time,
        )
        for symbol in symbols
    }
    served = _collected(futures, seconds)
    refreshed = {symbol: inputs.refreshed for symbol, inputs in served.inputs.items()}
    requests = _FEWER_CANDLE_REQUESTS.get(venue.name, CANDLE_REQUESTS)
    allowance = Allowance(requests, lambda: watch.seconds() < _UPKEEP_SHARE * seconds)
    _complete(pool, venue, cached, refreshed, now_ms, allowance, seconds - watch.seconds())
    notes = _keep_up(pool, venue, store, refreshed, now_ms, allowance, seconds - watch.seconds())
    for symbol, timeframe in restored:
        if symbol in refreshed:
            refreshed[symbol].keep(timeframe)
    store.write(venue.name, refreshed)
    _report(run, venue.name, refreshed)
    kept_flows = {symbol: inputs.flow for symbol, inputs in served.inputs.items()}
    FlowStore(run.cache).write(venue.name, kept_flows)
    served.inputs = {
        symbol: _finished(inputs, refreshed[symbol], notes.get(symbol, {}), now_ms)
        for symbol, inputs in served.inputs.items()
    }
    return served


def _cached(
    run: Run, store: CandleStore, venue: str, symbols: Sequence[str], now_ms: int
) -> tuple[dict[str, Windows], list[Series]]:
    """The windows of the cache, and of the ledger's history where the cache has none: which."""
    cached = store.read(venue, symbols, now_ms)
    lost = [(s, name) for s in symbols for name in TIMEFRAMES if name not in cached[s]]
    restored = history.newest(run.ledger, venue, lost, now_ms)
    for (symbol, timeframe), kept in restored.items():
        cached[symbol][timeframe] = kept
    return cached, list(restored)


def _inputs(
    venue: PublicVenue,
    symbol: str,
    cached: Windows,
    flow: Flow,
    check: str | None,
    has_time: Callable[[], bool],
) -> SymbolInputs:
    if not has_time():
        raise DataUnavailable("no time left")
    refreshed = candle_refresh.begin(venue, symbol, cached, clock.now_ms(), check=check)
    book = venue.book(symbol)
    microstructure.check(book, clock.now_ms())
    missing: list[str] = []
    trades: list[PublicTrade] | None = None
    asked_ms = clock.now_ms()
    try:
        answer = venue.trades(symbol, flow.limit)
        order_flow.check(answer, clock.now_ms())
        trades, flow = answer, fold(flow, answer, asked_ms)
    except (DataUnavailable, VenueError) as error:
        missing.append(f"order_flow:{error}")
    return SymbolInputs(venue.name, refreshed, book, trades, flow, missing)


def _collected(futures: Mapping[str, Future[SymbolInputs]], seconds: float) -> Served:
    wait(futures.values(), timeout=seconds)
    served = Served()
    for symbol, future in futures.items():
        if not future.done():
            future.cancel()
            served.refused[symbol] = "no answer in time"
            continue
        try:
            served.inputs[symbol] = future.result()
        except (DataUnavailable, VenueError) as error:
            served.refused[symbol] = str(error)
    return served


def _complete(
    pool: Executor,
    venue: PublicVenue,
    cached: Mapping[str, Windows],
    refreshed: dict[str, Refreshed],
    now_ms: int,
    allowance: Allowance,
    seconds: float,
) -> None:
    """Timeframes that only the venue can give; what does not come in time is named."""
    asked = {
        symbol: pool.submit(_completed, venue, symbol, result, cached[symbol], now_ms, allowance)
        for symbol, result in refreshed.items()
        if result.pending
    }
    wait(asked.values(), timeout=max(0.0, seconds))
    for symbol, future in asked.items():
        if future.done():
            refreshed[symbol] = future.result()
        else:
            late = [f"{timeframe}:no answer in time" for timeframe in refreshed[symbol].pending]
            refreshed[symbol].missing += late


def _completed(
    venue: PublicVenue,
    symbol: str,
    result: Refreshed,
    cached: Windows,
    now_ms: int,
    allowance: Allowance,
) -> Refreshed:
    """A copy, so that a thread that comes too late changes nothing that others read."""
    own = result.copy()
    candle_refresh.complete(venue, symbol, own, cached, now_ms, allowance)
    return own


def _keep_up(
    pool: Executor,
    venue: PublicVenue,
    store: CandleStore,
    refreshed: Mapping[str, Refreshed],
    now_ms: int,
    allowance: Allowance,
    seconds: float,
) -> dict[str, Notes]:
    """Make windows whole; the notes of those that are not, by symbol.

    Without a cache nothing would come of it: the next run would have to begin anew.
    """
    wanting = candle_upkeep.wanting(venue.name, refreshed)
    if not wanting or not store.is_there:
        return {}
    notes = store.read_notes(venue.name, wanting)
    changed = candle_upkeep.keep_up(
        venue,
        {symbol: refreshed[symbol] for symbol in wanting},
        notes,
        now_ms,
        allowance,
        pool,
        seconds,
    )
    store.write_notes(venue.name, changed)
    return notes | changed


def _report(run: Run, venue: str, refreshed: Mapping[str, Refreshed]) -> None:
    """An event for each window that was not the venue's."""
    for result in refreshed.values():
        for found in result.differences:
            detail = {
                "venue": venue,
                "symbol": found.symbol,
                "timeframe": found.timeframe,
                "candles": found.candles,
                "first_open_ms": found.first_open_ms,
                "largest_percent": found.largest_percent,
            }
            events.record(run.ledger, "CANDLES_DIFFER", detail)


def _finished(inputs: SymbolInputs, result: Refreshed, notes: Notes, now_ms: int) -> SymbolInputs:
    """The inputs with what is lacking in their windows, and without flash prints."""
    missing = [*result.missing, *inputs.missing, *candle_upkeep.lacking(result, notes)]
    newest: list[FlashPrint] = []
    windows: Windows = {}
    for timeframe, window in result.windows.items():
        cleaned = flash_prints.newest(inputs.venue, window)
        windows[timeframe] = cleaned.candles
        missing += [f"{timeframe}:{found.told()}, left out" for found in cleaned.prints]
        if cleaned.newest is not None and now_ms - window.closed_ms < _PRINT_IS_NEWS_MS:
            newest.append(cleaned.newest)
    return replace(
        inputs,
        refreshed=replace(result, windows=windows),
        missing=missing,
        flash_prints=tuple(newest),
    )
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
_LOADER.modules["shared.market.microstructure"] = ("shared/market/microstructure.py", r'''"""What an order book says about the cost and the pressure of this minute."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from shared.config import Config
from shared.errors import DataUnavailable
from shared.market import ages
from shared.market.types import Book, Quote

BANDS_BPS = (10, 25, 50)

Levels = tuple[tuple[float, float], ...]


def typical_notionals(config: Config) -> tuple[int, ...]:
    """Order sizes of a pod in quote currency: its two limits of a position, and all its capital."""
    percent = config.capital_quote * config.position_size_percent / 100
    return tuple(
        sorted(
            {math.ceil(size) for size in (config.max_position_size, percent, config.capital_quote)}
        )
    )


def measure(book: Book, now_ms: int, notionals: Sequence[int] = ()) -> dict[str, Any]:
    """Spread, depth, imbalance and micro-price of a book, and what orders of some sizes would pay.

    Depth is the quote value of all levels within a band around mid. ``reach_bps`` tells how far
    the levels go that the venue has sent: in a wider band than that, depth is a lower bound.
    ``imbalance_ratio`` is (bid - ask) / (bid + ask) of the depth within 10 bps, -1 to 1, or null
    where nothing lies in it. ``micro_price`` weighs each side's price by the other's quantity.
    ``slippage_bps`` is for each notional how far above mid a buyer at market would pay on average,
    half the spread included and fees not; null where the levels sent do not hold so much.

    Raises:
        DataUnavailable: the book is old, crossed, empty on a side or malformed.
    """
    check(book, now_ms)
    (bid, bid_quantity), (ask, ask_quantity) = book.bids[0], book.asks[0]
    mid = book.mid
    depths = {
        f"depth_{band}bps_quote": {
            "bid": _depth(book.bids, mid, band),
            "ask": _depth(book.asks, mid, band),
        }
        for band in BANDS_BPS
    }
    nearest = depths[f"depth_{BANDS_BPS[0]}bps_quote"]
    total = nearest["bid"] + nearest["ask"]
    weight = bid_quantity + ask_quantity
    return {
        "bid": bid,
        "ask": ask,
        "mid": mid,
        "spread_bps": 10_000 * (ask - bid) / mid,
        **depths,
        "reach_bps": {"bid": _distance_bps(book.bids, mid), "ask": _distance_bps(book.asks, mid)},
        "imbalance_ratio": (nearest["bid"] - nearest["ask"]) / total if total > 0 else None,
        "micro_price": (bid * ask_quantity + ask * bid_quantity) / weight,
        "slippage_bps": {str(size): buying_slippage_bps(book, size) for size in notionals},
        "at_ms": book.at_ms,
    }


def buying_slippage_bps(book: Book, notional_quote: float) -> float | None:
    """What a buyer who spends ``notional_quote`` at once pays above mid, on average, in bps.

    Returns:
        ``None`` where the asks are not worth that much.
    """
    left, bought = notional_quote, 0.0
    for price, quantity in book.asks:
        taken = min(quantity, left / price)
        bought += taken
        left -= taken * price
        if taken < quantity or left <= 0:
            return 10_000 * (notional_quote / bought / book.mid - 1)
    return None


def lacking(measured: dict[str, Any]) -> list[str]:
    """What a book could not tell, for ``missing``."""
    found = [] if measured["imbalance_ratio"] is not None else ["microstructure.imbalance_ratio"]
    slippage = measured["slippage_bps"].items()
    return found + [f"microstructure.slippage_bps.{size}" for size, bps in slippage if bps is None]


def check(book: Book, now_ms: int) -> None:
    """Refuse a book that cannot be true or is too old.

    Raises:
        DataUnavailable: names the field, its value and what was expected.
    """
    for name, levels in (("bids", book.bids), ("asks", book.asks)):
        if not levels:
            raise DataUnavailable(f"{book.symbol} book.{name}: was empty, expected a level")
        for price, quantity in levels:
            if not (price > 0 and quantity > 0 and math.isfinite(price * quantity)):
                raise DataUnavailable(
                    f"{book.symbol} book.{name}: was ({price}, {quantity}), "
                    "expected finite numbers > 0"
                )
    check_quote(f"{book.symbol} book", best(book), now_ms)


def best(book: Book) -> Quote:
    """The best bid and ask of a book."""
    return Quote(book.bids[0][0], book.asks[0][0], book.at_ms)


def check_quote(label: str, quote: Quote, now_ms: int) -> None:
    """Refuse a quote that is crossed, malformed or older than 30 s.

    Raises:
        DataUnavailable: names the field, its value and what was expected.
    """
    if not (0 < quote.bid <= quote.ask < math.inf):
        raise DataUnavailable(
            f"{label}: bid, ask: was {quote.bid}, {quote.ask}, expected 0 < bid <= ask"
        )
    if not ages.is_fresh("microstructure", quote.at_ms, now_ms):
        most = ages.MAX_AGE_MS["microstructure"]
        raise DataUnavailable(
            f"{label}: at_ms: was {quote.at_ms}, expected within {most} ms before {now_ms}"
        )


def _depth(levels: Levels, mid: float, band_bps: int) -> float:
    reach = mid * band_bps / 10_000
    return sum(price * quantity for price, quantity in levels if abs(price - mid) <= reach)


def _distance_bps(levels: Levels, mid: float) -> float:
    return 10_000 * abs(levels[-1][0] - mid) / mid
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
_LOADER.modules["shared.market.patterns"] = ("shared/market/patterns/__init__.py", r'''"""Chart patterns in one window of closed candles, each with the points that define it."""

from __future__ import annotations

from typing import Any

from shared.market.candles.memo import Memo
from shared.market.patterns import confidence, levels, shoulders, triangles
from shared.market.patterns.confidence import MIN_CONFIDENCE, Coefficients, Features
from shared.market.patterns.pivots import find_pivots, looked_at
from shared.market.types import Candles

TIMEFRAMES: tuple[str, ...] = ("15m", "1h", "4h")
KINDS: tuple[str, ...] = (*triangles.KINDS, *shoulders.KINDS, *levels.KINDS)

Pattern = dict[str, Any]


def find(candles: Candles) -> list[Pattern]:
    """The patterns that the newest 250 candles show at their end.

    Each has ``kind``, ``timeframe``, ``direction`` (``bullish``, ``bearish`` or ``neutral``, as
    the textbook has it), ``points`` as ``[[ms, price]]`` (the opens of the candles, oldest first)
    and ``confidence``: the measured share of such shapes that are no chance, see ``confidence``.
    Less than 0.1 is not reported. Of triangles and of head and shoulders the best one is told. A
    window too short for an ATR shows none.
    """
    told = told_of(measured(candles))
    return [{"timeframe": candles.timeframe} | pattern for pattern in told]


def measured(candles: Candles) -> list[tuple[Pattern, Features]]:
    """Every candidate and the features from which its confidence is calculated."""
    view = looked_at(candles)
    if view is None or view.last_atr <= 0:
        return []
    scales = find_pivots(view)
    return triangles.find(view, scales) + shoulders.find(view, scales) + levels.find(view, scales)


def told_of(
    candidates: list[tuple[Pattern, Features]], coefficients: Coefficients | None = None
) -> list[Pattern]:
    """The candidates that are worth being told, with their confidence."""
    told = [
        {"confidence": sure} | pattern
        for pattern, features in candidates
        if (sure := confidence.of(pattern["kind"], features, coefficients)) >= MIN_CONFIDENCE
    ]
    best = [_best(told, kinds) for kinds in (triangles.KINDS, shoulders.KINDS)]
    others = [pattern for pattern in told if pattern["kind"] in levels.KINDS]
    return [pattern for pattern in best if pattern is not None] + others


def _best(told: list[Pattern], kinds: tuple[str, ...]) -> Pattern | None:
    among = (pattern for pattern in told if pattern["kind"] in kinds)
    return max(among, key=lambda pattern: pattern["confidence"], default=None)


newest: Memo[list[Pattern]] = Memo(find)
"""``find``, once for each window of a venue."""
''')


###################################################################################################
_LOADER.modules["shared.market.patterns.confidence"] = ("shared/market/patterns/confidence.py", r'''"""What a pattern's confidence means: of 100 shapes scored 0.7, 70 were drawn and not chance.

It is measured. ``trading-loop patterns calibrate`` draws shapes with noise into random walks and
lets the detectors search both these and as many plain walks, half of which have volatility
clusters and fat tails. A logistic regression then tells from the features of what was found how
often it was a drawn shape. Its coefficients, and how they came about, are in ``confidence.json``.

The measure assumes that every second stretch of 250 candles holds a shape of the kind. Its odds,
``c / (1 - c)``, are therefore the weight of the evidence for a shape against chance; whoever
believes that shapes are rarer multiplies them by his own odds. It is no probability that the
price will rise or fall.

On 320 other drawings and 160 other walks (``trading-loop patterns report --shapes 8 --plain 160``)
it kept its word below 0.4 and above 0.8, and was too sure by 0.05 to 0.15 between.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from importlib import resources

Features = dict[str, float]

MIN_CONFIDENCE = 0.1
"""Below it a shape is not worth being told: nine of ten are chance."""

FAMILIES: dict[str, str] = {
    "ascending_triangle": "triangle_with_level_side",
    "descending_triangle": "triangle_with_level_side",
    "symmetrical_triangle": "symmetrical_triangle",
    "head_and_shoulders": "shoulders",
    "inverse_head_and_shoulders": "shoulders",
    "support": "level",
    "resistance": "level",
    "breakout": "breakout",
}
"""Kinds that are each other's mirror image are measured together."""

Coefficients = Mapping[str, Mapping[str, float]]
"""By family: ``intercept`` and the weight of each feature."""


@functools.cache
def _coefficients() -> Coefficients:
    text = (resources.files("shared.market.patterns") / "confidence.json").read_text("utf-8")
    families: Coefficients = json.loads(text)["coefficients"]
    return families


def of(kind: str, features: Features, coefficients: Coefficients | None = None) -> float:
    """The share of such shapes that were drawn, 0 to 1; from the file unless others are given."""
    weights = (_coefficients() if coefficients is None else coefficients)[FAMILIES[kind]]
    logit = weights["intercept"]
    for name, value in features.items():
        logit += weights[name] * value
    return 1 / (1 + math.exp(-logit))
''')


###################################################################################################
_LOADER.modules["shared.market.patterns.levels"] = ("shared/market/patterns/levels.py", r'''"""Support and resistance, and breakouts through them.

A level is a price at which the market has turned before and which it has not left behind since:
lows (or highs) that lie within one average true range of each other, without a close beyond
them in between. The more touches, the better known it is (Osler, Support for Resistance, FRBNY
Economic Policy Review 6 (2000): published levels do stop prices more often than arbitrary ones).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from shared.market.patterns.confidence import Features
from shared.market.patterns.pivots import Pivot, View, points

KINDS = ("support", "resistance", "breakout")

_WIDTH_ATRS = 1.0  # touches lie within it
_MIN_TOUCHES = 2
_MAX_LEVELS_A_SIDE = 3
_BREAK_ATRS = 0.5  # a close has to be this far beyond a level to break it
_VOLUME_BASELINE = 20
_CONFIRMING_VOLUME_RATIO = 1.5


@dataclass(frozen=True)
class Level:
    """A price, and the pivots of one kind that touched it, oldest first."""

    price: float
    pivots: list[Pivot]

    @property
    def sign(self) -> int:
        """1 for a resistance, which highs touch; -1 for a support."""
        return 1 if self.pivots[0].kind == "high" else -1


def find(view: View, scales: list[list[Pivot]]) -> list[tuple[dict[str, Any], Features]]:
    """Up to three levels on each side, nearest first, and the breakouts that the newest candle
    made through any."""
    close = view.close[-1]
    found = []
    for kind, direction in (("low", "bullish"), ("high", "bearish")):
        levels = _unbroken([pivot for pivot in scales[0] if pivot.kind == kind], view)
        broken = [level for level in levels if _is_beyond(view, level, close)]
        found += _breakouts(view, broken)
        standing = [level for level in levels if level not in broken]
        standing.sort(key=lambda level: abs(level.price - close))
        found += [_described(view, level, direction) for level in standing[:_MAX_LEVELS_A_SIDE]]
    return found


def _unbroken(pivots: list[Pivot], view: View) -> list[Level]:
    """The levels of some highs, or lows, that stood until the newest candle."""
    standing: list[Pivot] = []
    later = len(view.close) - 1
    extreme = -math.inf  # the farthest close after a pivot, before the newest candle
    for pivot in reversed(pivots):
        sign = 1 if pivot.kind == "high" else -1
        closes = view.close[pivot.index : later]
        if closes:
            extreme = max(extreme, max(closes) if sign > 0 else -min(closes))
        later = pivot.index
        if extreme <= sign * pivot.price + _BREAK_ATRS * view.atr[pivot.index]:
            standing.append(pivot)
    levels = cluster(standing, _WIDTH_ATRS * view.last_atr)
    return [level for level in levels if not _was_broken(view, level)]


def cluster(pivots: list[Pivot], width: float) -> list[Level]:
    """Groups of at least two pivots that lie within ``width`` of each other, largest first."""
    rest = sorted(pivots, key=lambda pivot: pivot.price)
    levels: list[Level] = []
    while True:
        first, size, end = 0, 1, 0
        for start, lowest in enumerate(rest):
            while end < len(rest) and rest[end].price - lowest.price <= width:
                end += 1
            if end - start > size:
                first, size = start, end - start
        if size < _MIN_TOUCHES:
            return levels
        group = sorted(rest[first : first + size], key=lambda pivot: pivot.index)
        del rest[first : first + size]
        levels.append(Level(sum(pivot.price for pivot in group) / size, group))


def _is_beyond(view: View, level: Level, close: float) -> bool:
    # The average true range of the last touch, so that a level once broken stays broken.
    margin = _BREAK_ATRS * view.atr[level.pivots[-1].index]
    return level.sign * (close - level.price) >= margin


def _was_broken(view: View, level: Level) -> bool:
    closes = view.close[level.pivots[0].index : -1]
    farthest = max(closes) if level.sign > 0 else min(closes)
    return _is_beyond(view, level, farthest)


def _described(view: View, level: Level, direction: str) -> tuple[dict[str, Any], Features]:
    pattern = {
        "kind": "resistance" if level.sign > 0 else "support",
        "direction": direction,
        "points": points(view, level.pivots),
        "price": level.price,
        "touches": len(level.pivots),
    }
    return pattern, _features(view, level)


def _features(view: View, level: Level) -> Features:
    first, last = level.pivots[0].index, level.pivots[-1].index
    distances = (abs(pivot.price - level.price) for pivot in level.pivots)
    return {
        "touches": min(len(level.pivots), 5),
        "spread_atrs": max(distances) / view.last_atr,
        "duration_log": math.log(last - first),
        "waited": min((len(view.close) - 1 - last) / (last - first), 2.0),
        "bounce_log_atrs": math.log(max(_smallest_bounce(view, level) / view.last_atr, 0.1)),
    }


def _smallest_bounce(view: View, level: Level) -> float:
    """How far the price went away from the level between two touches, at least."""
    between = zip(level.pivots, level.pivots[1:], strict=False)
    if level.sign > 0:
        return min(level.price - min(view.low[a.index : b.index + 1]) for a, b in between)
    return min(max(view.high[a.index : b.index + 1]) - level.price for a, b in between)


def _breakouts(view: View, levels: list[Level]) -> list[tuple[dict[str, Any], Features]]:
    """The best known of the levels that the newest candle has broken.

    ``volume_confirmed`` says whether its volume was at least 1.5 times the mean of the 20 candles
    before; without a baseline there is nothing to tell, and no breakout is reported.
    """
    baseline = view.volume[-_VOLUME_BASELINE - 1 : -1]
    if not levels or len(baseline) < _VOLUME_BASELINE or sum(baseline) <= 0:
        return []
    ratio = view.volume[-1] / (sum(baseline) / len(baseline))
    level = max(levels, key=lambda level: len(level.pivots))
    pattern = {
        "kind": "breakout",
        "direction": "bullish" if level.sign > 0 else "bearish",
        "points": [*points(view, level.pivots), [view.open_ms[-1], view.close[-1]]],
        "price": level.price,
        "touches": len(level.pivots),
        "volume_ratio": ratio,
        "volume_confirmed": ratio >= _CONFIRMING_VOLUME_RATIO,
    }
    move = level.sign * (view.close[-1] - view.close[-2]) / view.last_atr
    return [
        (
            pattern,
            _features(view, level)
            | {"volume_ratio_log": math.log(max(ratio, 0.1)), "move_atrs": min(move, 4.0)},
        )
    ]
''')


###################################################################################################
_LOADER.modules["shared.market.patterns.pivots"] = ("shared/market/patterns/pivots.py", r'''"""Turning points of a price series: a zigzag whose threshold is the market's own noise.

A high is a pivot once the price has fallen from it by so many average true ranges (Wilder, New
Concepts in Technical Trading Systems, 1978) as that candle had, a low likewise: the directional
change of Guillaume et al., Finance and Stochastics 1 (1997), which confirms a turn by price. A
price beyond the pivot before confirms one too, so that pivots are the extremes between them. Lo,
Mamaysky and Wang (Journal of Finance 55, 2000) find extrema of a kernel regression instead. Its
smoothing looks to both sides, so that extrema near the newest candle still move, and they stand
beside the price, not on it. Here a pivot is a price that was traded, is known only when it is
confirmed, and never moves afterwards.

Shapes are sought at several scales: the noise on a large triangle has turns of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from shared.market.candles.candle_rows import sliced
from shared.market.technical.talib_lean import functions
from shared.market.types import Candles

LOOKBACK = 250
"""Candles in which a pattern has to lie."""
SCALES_ATRS = (2.0, 3.0, 4.5)
"""How far the price has to turn back at each scale, in average true ranges."""

_ATR_LENGTH = 14
_SETTLING = 150  # candles before, after which zigzag and ATR have forgotten where they started
_SHORTEST = 2 * _ATR_LENGTH


@dataclass(frozen=True)
class View:
    """The newest candles as plain numbers, which a loop reads faster than an array.

    Patterns lie in the last ``LOOKBACK`` of them; those before only settle the zigzag.
    """

    open_ms: list[int]
    high: list[float]
    low: list[float]
    close: list[float]
    volume: list[float]
    atr: list[float]

    @property
    def last_atr(self) -> float:
        return self.atr[-1]


@dataclass(frozen=True, slots=True)
class Pivot:
    """A turning point: ``index`` in the view, ``price`` the candle's extreme."""

    index: int
    price: float
    kind: Literal["high", "low"]


def looked_at(candles: Candles) -> View | None:
    """The part of the window in which patterns are sought; ``None`` if it is too short.

    It is always the same number of newest candles, so that a longer window shows the same.
    """
    if len(candles) < _SHORTEST:
        return None
    newest = sliced(candles, slice(-(LOOKBACK + _SETTLING + _ATR_LENGTH), None))
    atr = functions().ATR(newest.high, newest.low, newest.close, _ATR_LENGTH)
    part = sliced(newest, slice(_ATR_LENGTH, None))
    return View(
        part.open_ms.tolist(),
        part.high.tolist(),
        part.low.tolist(),
        part.close.tolist(),
        part.volume.tolist(),
        atr[_ATR_LENGTH:].tolist(),
    )


def find_pivots(view: View) -> list[list[Pivot]]:
    """The confirmed pivots of each scale, finest first; oldest first, highs and lows alternating.

    The first turn of a scale depends on where the view starts and is left out.
    """
    turns = _zigzag(view, SCALES_ATRS[0])
    scales = [turns[1:-1]]
    scales += [_coarser(turns, view.atr, scale)[1:] for scale in SCALES_ATRS[1:]]
    first = max(0, len(view.close) - LOOKBACK)
    return [[pivot for pivot in pivots if pivot.index >= first] for pivots in scales]


def _zigzag(view: View, scale: float) -> list[Pivot]:
    """The confirmed turns and, last, the extreme since then, which is not confirmed.

    A candle that makes a new extreme does not confirm it: what came first within it is unknown.
    """
    turns: list[Pivot] = []
    rising, at = not _rises_first(view, scale), 0
    extreme = view.high[0] if rising else view.low[0]
    before = -math.inf if rising else math.inf  # the pivot before
    turned = extreme + (-scale if rising else scale) * view.atr[0]  # confirms the extreme
    for i, (high, low) in enumerate(zip(view.high, view.low, strict=True)):
        if rising:
            if high > extreme:
                extreme, at, turned = high, i, high - scale * view.atr[i]
                if turned < before:
                    turned = before
            elif low <= turned < extreme:
                turns.append(Pivot(at, extreme, "high"))
                before, rising = extreme, False
                extreme, at, turned = low, i, min(before, low + scale * view.atr[i])
        elif low < extreme:
            extreme, at, turned = low, i, low + scale * view.atr[i]
            if turned > before:
                turned = before
        elif high >= turned > extreme:
            turns.append(Pivot(at, extreme, "low"))
            before, rising = extreme, True
            extreme, at, turned = high, i, max(before, high - scale * view.atr[i])
    return [*turns, Pivot(at, extreme, "high" if rising else "low")]


def _rises_first(view: View, scale: float) -> bool:
    top, bottom = view.high[0], view.low[0]
    for high, low, atr in zip(view.high, view.low, view.atr, strict=True):
        if high - bottom >= scale * atr:
            return True
        if top - low >= scale * atr:
            return False
        top = high if high > top else top
        bottom = low if low < bottom else bottom
    return False


def _coarser(turns: list[Pivot], atr: list[float], scale: float) -> list[Pivot]:
    """The confirmed turns of a coarser zigzag; its extremes are among the finer one's."""
    confirmed: list[Pivot] = []
    candidate = turns[0]
    for turn in turns[1:]:
        sign = 1 if candidate.kind == "high" else -1
        back = sign * (candidate.price - turn.price)  # how far the price has turned back
        if turn.kind == candidate.kind:
            candidate = turn if back < 0 else candidate
        elif back >= scale * atr[candidate.index] or (
            confirmed and sign * (confirmed[-1].price - turn.price) >= 0
        ):
            confirmed.append(candidate)
            candidate = turn
    return confirmed


def points(view: View, pivots: list[Pivot]) -> list[list[float]]:
    """``[[ms, price]]`` of some pivots."""
    return [[view.open_ms[pivot.index], pivot.price] for pivot in pivots]
''')


###################################################################################################
_LOADER.modules["shared.market.patterns.shoulders"] = ("shared/market/patterns/shoulders.py", r'''"""Head and shoulders, and its inverse.

Five alternating extrema E1..E5 with E3 beyond E1 and E5, the shoulders E1 and E5 near each other
and the neckline's points E2 and E4 near each other: Lo, Mamaysky and Wang (2000), definition 1.
They ask for 1.5 % of the price; here it is a share of the head's height, which suits every
timeframe.
"""

from __future__ import annotations

import math
from typing import Any

from shared.market.patterns.confidence import Features
from shared.market.patterns.pivots import Pivot, View, points

KINDS = ("head_and_shoulders", "inverse_head_and_shoulders")

_TOLERANCE = 0.4  # of the head's height over the neckline
_HEAD_RISE = 0.15  # of it, by which the head has to surpass both shoulders


def find(view: View, scales: list[list[Pivot]]) -> list[tuple[dict[str, Any], Features]]:
    """Head and shoulders, upright or inverse, among the last six pivots of each scale.

    ``neckline`` is the price of its line at the newest candle; ``confirmed`` tells whether that
    candle closed beyond it. A shape whose head the price has passed again is over.
    """
    found = []
    for pivots in scales:
        for end in (len(pivots), len(pivots) - 1):
            shape = _shoulders(view, pivots[end - 5 : end]) if end >= 5 else None
            if shape is not None:
                found.append(shape)
    return found


def _shoulders(view: View, five: list[Pivot]) -> tuple[dict[str, Any], Features] | None:
    upright = five[0].kind == "high"
    sign = 1.0 if upright else -1.0
    left, trough_1, head, trough_2, right = (sign * pivot.price for pivot in five)
    height = head - (trough_1 + trough_2) / 2
    uneven = (abs(left - right) / height, abs(trough_1 - trough_2) / height)
    close, now = sign * view.close[-1], len(view.close) - 1
    shaped = head - max(left, right) >= _HEAD_RISE * height and max(uneven) < _TOLERANCE
    if not shaped or close > head:
        return None
    slope = (trough_2 - trough_1) / (five[3].index - five[1].index)
    neckline = trough_2 + slope * (now - five[3].index)
    pattern = {
        "kind": "head_and_shoulders" if upright else "inverse_head_and_shoulders",
        "direction": "bearish" if upright else "bullish",
        "points": points(view, five),
        "neckline": sign * neckline,
        "confirmed": close < neckline,
    }
    before, after = five[2].index - five[0].index, five[4].index - five[2].index
    width = before + after
    return pattern, {
        "shoulders_uneven": uneven[0],
        "neck_uneven": uneven[1],
        "shoulder_height": abs((left + right - trough_1 - trough_2) / 2 / height - 0.6),
        "lopsided": abs(math.log(before / after)),
        "height_log_atrs": math.log(height / view.last_atr),
        "waited": min((now - five[4].index) / width, 2.0),
    }
''')


###################################################################################################
_LOADER.modules["shared.market.patterns.triangles"] = ("shared/market/patterns/triangles.py", r'''"""Triangles: two lines through alternating highs and lows that draw together.

After Edwards and Magee, Technical Analysis of Stock Trends, chapter 8: an ascending triangle has
a level top and rising lows (bullish), a descending one a level bottom and falling highs
(bearish), a symmetrical one both slopes (neutral until it breaks).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from shared.market.patterns.confidence import Features
from shared.market.patterns.pivots import Pivot, View, points

KINDS = ("ascending_triangle", "descending_triangle", "symmetrical_triangle")

_MIN_PIVOTS, _MAX_PIVOTS = 5, 7
_LEVEL = 0.15  # a line is level if it moves less than this share of the opening's height
_SLOPED = 0.25  # and sloped if it moves more than this
_CLOSED_IN = 0.75  # the lines have drawn together to less than this share of it
_MAX_MISFIT = 0.2  # RMS distance of the pivots from their lines, as a share of it


@dataclass(slots=True)
class _Line:
    slope: float
    intercept: float

    def at(self, index: float) -> float:
        return self.intercept + self.slope * index


def find(view: View, scales: list[list[Pivot]]) -> list[tuple[dict[str, Any], Features]]:
    """The triangles that the newest pivots of each scale form and that the newest close is in."""
    found = []
    for index, pivots in enumerate(scales):
        if index and pivots[-_MAX_PIVOTS:] == scales[index - 1][-_MAX_PIVOTS:]:
            continue
        for count in range(_MIN_PIVOTS, min(_MAX_PIVOTS, len(pivots)) + 1):
            triangle = _triangle(view, pivots[-count:])
            if triangle is not None:
                found.append(triangle)
    return found


def _triangle(view: View, pivots: list[Pivot]) -> tuple[dict[str, Any], Features] | None:
    upper = _fitted([pivot for pivot in pivots if pivot.kind == "high"])
    lower = _fitted([pivot for pivot in pivots if pivot.kind == "low"])
    first, last, now = pivots[0].index, pivots[-1].index, len(view.close) - 1
    height = upper.at(first) - lower.at(first)
    closing = upper.at(last) - lower.at(last)
    if height <= 0 or not 0 < closing < _CLOSED_IN * height:
        return None
    if not lower.at(now) <= view.close[-1] <= upper.at(now):
        return None
    kind = _kind(upper, lower, last - first, height)
    misfit = _rms_distance(pivots, upper, lower) / height
    if kind is None or misfit >= _MAX_MISFIT:
        return None
    name, direction = kind
    pattern = {
        "kind": name,
        "direction": direction,
        "points": points(view, pivots),
        "upper": [upper.at(first), upper.at(now)],
        "lower": [lower.at(first), lower.at(now)],
    }
    return pattern, {
        "misfit": misfit,
        "pivots": len(pivots),
        "closing": closing / height,
        "height_log_atrs": math.log(height / view.last_atr),
        "waited": (now - last) / (last - first),
        "unevenness": _unevenness(pivots),
        "outside": _outside(view, upper, lower, first, last) / height,
    }


def _kind(upper: _Line, lower: _Line, width: int, height: float) -> tuple[str, str] | None:
    top, bottom = upper.slope * width / height, lower.slope * width / height
    if abs(top) < _LEVEL and bottom > _SLOPED:
        return "ascending_triangle", "bullish"
    if abs(bottom) < _LEVEL and top < -_SLOPED:
        return "descending_triangle", "bearish"
    if top < -_LEVEL and bottom > _LEVEL:
        return "symmetrical_triangle", "neutral"
    return None


def _fitted(pivots: list[Pivot]) -> _Line:
    """The least-squares line through at least two pivots."""
    count = len(pivots)
    index_sum = price_sum = 0.0
    for pivot in pivots:
        index_sum += pivot.index
        price_sum += pivot.price
    mean_index, mean_price = index_sum / count, price_sum / count
    spread = product = 0.0
    for pivot in pivots:
        away = pivot.index - mean_index
        spread += away * away
        product += away * (pivot.price - mean_price)
    slope = product / spread
    return _Line(slope, mean_price - slope * mean_index)


def _rms_distance(pivots: list[Pivot], upper: _Line, lower: _Line) -> float:
    squares = (
        (pivot.price - (upper if pivot.kind == "high" else lower).at(pivot.index)) ** 2
        for pivot in pivots
    )
    return float((sum(squares) / len(pivots)) ** 0.5)


def _unevenness(pivots: list[Pivot]) -> float:
    """The longest leg as a share of the whole time, times the legs: 1 if all are equal."""
    legs = [b.index - a.index for a, b in zip(pivots, pivots[1:], strict=False)]
    return max(legs) * len(legs) / sum(legs)


def _outside(view: View, upper: _Line, lower: _Line, first: int, last: int) -> float:
    """The farthest close outside of the lines."""
    beyond = 0.0
    top, bottom = upper.at(first), lower.at(first)
    for close in view.close[first : last + 1]:
        if close - top > beyond:
            beyond = close - top
        elif bottom - close > beyond:
            beyond = bottom - close
        top += upper.slope
        bottom += lower.slope
    return beyond
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
_LOADER.modules["shared.market.scan"] = ("shared/market/scan.py", r'''"""The market scanner: from the venues' answers to one table of what this minute is like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from shared import clock
from shared.execution.venues.base import PublicVenue
from shared.ledger import parameters, state
from shared.ledger.connection import Ledger, json
from shared.market import calm, microstructure, packing, peg, symbol_table, universe
from shared.market.calm import Calm
from shared.market.gathering.gather import Gathered, gather
from shared.market.packing import Market
from shared.market.score import entry_score
from shared.market.symbol_table import Price
from shared.run import Export, Run

_UNTOLD = Calm(None, None, None)


def scan_market(run: Run) -> Export:
    """Look at every symbol, score it, keep what was seen in the ledger, and export it.

    Raises:
        DataUnavailable: there is no universe yet, and none can be chosen.
        LedgerUnavailable, LeaseLost: nothing was kept.
    """
    from shared.execution.venues.registry import open_venues

    chosen = universe.refresh(run, lambda: open_venues(run))
    return scan(run, open_venues(run), chosen)


def scan(
    run: Run, venues: Mapping[str, PublicVenue], chosen: universe.Choice | None = None
) -> Export:
    """``scan_market`` over given venues, the first of which is the primary one.

    Args:
        chosen: the universe, where this run has put a new one in force.
    """
    in_force, trading = parameters.current(run.ledger), state.read(run.ledger)
    gathered = gather(run, venues, run.pairs) if run.pairs else Gathered()
    now_ms, sizes = clock.now_ms(), microstructure.typical_notionals(run.config)
    markets, prices = [], []
    for symbol in run.pairs:
        market, trusted = symbol_table.build(symbol, gathered, run.config, sizes, now_ms)
        markets.append(market)
        prices += trusted
    prices += symbol_table.pegs(gathered)
    scored = [market["calibrated"] for market in markets if market["ai_score"] is not None]
    buyable = run.universe.buyable  # what is held besides is looked at, and no opportunity
    opportunities = _ranked([market for market in markets if market["symbol"] in buyable])
    best = opportunities[0] if opportunities else {"ai_score": None, "ai_score_rank": None}
    rank = best["ai_score_rank"]
    wants_trade = rank is not None and rank > in_force.values.ai_score_threshold
    export = packing.compact(
        {
            "signals": {
                "timestamp": now_ms,
                "markets": markets,
                "opportunities": opportunities,
                "headlines": _headlines(gathered, run.pairs),
            },
            "aiScore": best["ai_score"],
            "aiScoreRank": rank,
            "nextAction": "TRADE" if wants_trade else "WAIT",
            "calibrated": any(scored) and all(scored),
            "model": entry_score.identity(),
            "parameters": {
                "version": in_force.version,
                "values": in_force.values.model_dump(mode="json"),
            },
            "trading_state": {
                "state": trading.state,
                "size_factor": float(trading.size_factor),
                "limit_orders_only": trading.limit_orders_only,
            },
            "quote_worth": _quote_worth(gathered, run.config.quote_currency),
            "universe": universe.as_export(run, chosen),
            "missing": [*gathered.missing, *universe.missing(run)],
        }
    )
    _keep(run, export, prices, _calm(gathered, now_ms))
    # The ledger keeps names, which SQL looks for; the next steps get rows.
    shown = packing.pack([packing.brief(market) for market in export["signals"]["markets"]])
    return export | {"signals": export["signals"] | shown}


def _calm(gathered: Gathered, now_ms: int) -> dict[tuple[str, str], Calm]:
    """By venue and symbol, on the venues whose candles were read."""
    found = {}
    for symbol, inputs in gathered.by_symbol.items():
        windows = inputs.refreshed.windows
        found[inputs.venue, symbol] = calm.measure(windows.get("1m"), windows.get("1h"), now_ms)
    return found


def _quote_worth(gathered: Gathered, currency: str) -> dict[str, float]:
    """By venue and pair, for example ``{"kraken USDT/USD": 0.9998}``."""
    return {
        f"{price.venue} {price.symbol}": round(
            float(peg.worth(currency, price.symbol, Decimal(repr(float(price.quote.mid))))), 6
        )
        for price in symbol_table.pegs(gathered)
    }


def _headlines(gathered: Gathered, symbols: Sequence[str]) -> list[dict[str, Any]]:
    return [] if gathered.sentiment is None else gathered.sentiment.newest(symbols)


def _ranked(markets: Sequence[Market]) -> list[dict[str, Any]]:
    scored = [market for market in markets if market["ai_score"] is not None]
    scored.sort(key=lambda market: -market["ai_score"])
    return [
        {
            "symbol": market["symbol"],
            "ai_score": market["ai_score"],
            "ai_score_rank": market["ai_score_rank"],
            "rank": rank,
        }
        for rank, market in enumerate(scored, start=1)
    ]


def _keep(
    run: Run, export: Export, prices: Sequence[Price], quiet: Mapping[tuple[str, str], Calm]
) -> None:
    """The prices that may be believed, and the whole scan, in one transaction."""
    with run.ledger.transaction():
        run.guard()
        _keep_prices(run.ledger, prices, quiet)
        run.ledger.execute(
            "INSERT INTO scans (pod, run_id, at, parameters_version, ai_score, next_action, "
            "payload) VALUES (%s, %s, %s, %s, %s, %s, %s)",
            (
                run.ledger.pod,
                run.run_id,
                clock.from_ms(export["signals"]["timestamp"]),
                export["parameters"]["version"],
                export["aiScore"],
                export["nextAction"],
                json(export),
            ),
        )


def _keep_prices(
    ledger: Ledger, prices: Sequence[Price], quiet: Mapping[tuple[str, str], Calm]
) -> None:
    """One row a venue and symbol; an older price never replaces a newer one."""
    if not prices:
        return
    rows = ", ".join(["(%s, %s, %s, %s, %s, %s, %s, %s, %s)"] * len(prices))
    values: list[Any] = []
    for price in prices:
        bid, ask = Decimal(str(price.quote.bid)), Decimal(str(price.quote.ask))
        at = clock.from_ms(price.quote.at_ms)
        told = quiet.get((price.venue, price.symbol), _UNTOLD)
        numbers = (told.low_1m, told.high_1m, told.volume_24h_quote)
        exact = (None if number is None else Decimal(str(number)) for number in numbers)
        values += (ledger.pod, price.venue, price.symbol, bid, ask, at, *exact)
    ledger.execute(
        "INSERT INTO prices AS p (pod, venue, symbol, bid, ask, at, low_1m, high_1m, "  # noqa: S608 - only placeholders
        f"volume_24h_quote) VALUES {rows} "
        "ON CONFLICT (pod, venue, symbol) DO UPDATE SET bid = excluded.bid, ask = excluded.ask, "
        "at = excluded.at, low_1m = excluded.low_1m, high_1m = excluded.high_1m, "
        "volume_24h_quote = excluded.volume_24h_quote WHERE excluded.at >= p.at",
        values,
    )
''')


###################################################################################################
_LOADER.modules["shared.market.score"] = ("shared/market/score/__init__.py", r'''"""The AI score: features, costs, the model, and what it says of an entry now."""
''')


###################################################################################################
_LOADER.modules["shared.market.score.barrier"] = ("shared/market/score/barrier.py", r'''"""The event that the AI score is about, and what chance it has where prices have no drift.

A long entry is paid for at the mid price ``m`` of the moment. With round-trip costs ``c`` (fees
both ways, spread and slippage) and exits at a profit of ``T`` and a loss of ``S``, all as shares
of ``m``, the event is that the mid price reaches ``m (1 + T + c)`` before it falls to
``m (1 - S + c)``, and within the time stop. So both levels are net of costs: an event is a profit
of ``T`` in the account, and the opposite is a loss of ``S``, or the result at the time stop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from shared.config import Config

Floats = NDArray[np.float64]

BPS = 10_000
_TERMS = 48
_NOTHING = 1e-18  # a term that changes no chance
_LOWEST_SPREAD = 0.05  # of a day's volatility over the corridor; below it the series needs more
_LOWEST_CHANCE = 1e-3  # tails are fatter than the normal's: less than this is no information


@dataclass(frozen=True)
class ExitRules:
    """How a long position ends: at a net profit, at a net loss, or after a time."""

    take_profit_percent: float
    stop_percent: float
    hours: float

    @classmethod
    def of(cls, config: Config) -> ExitRules:
        """The exits that a pod is configured for."""
        return cls(
            float(config.take_profit_percent),
            float(config.stop_loss_percent),
            float(config.time_stop_hours),
        )

    def rise(self, cost_bps: float) -> float:
        """How far the mid price has to rise, as a share, to earn the profit and the costs."""
        return self.take_profit_percent / 100 + cost_bps / BPS

    def fall(self, cost_bps: float) -> float:
        """How far it may fall until the loss is reached; 0 or less: costs alone are the loss."""
        return self.stop_percent / 100 - cost_bps / BPS


def driftless_logit(volatility: Floats, cost_bps: Floats, exits: ExitRules) -> Floats:
    """Log-odds of the event for a Brownian motion without drift; never below a chance of 0.001.

    The chance to leave a corridor at its upper end within a time is an eigenfunction series (Cox
    and Miller, The Theory of Stochastic Processes, 1965, section 5.7).

    Args:
        volatility: standard deviation of a day's log return.
        cost_bps: round-trip costs; where they reach the stop the event is impossible, and the
            lowest chance is given.
    """
    costs = cost_bps / BPS
    up = np.log1p(exits.take_profit_percent / 100 + costs)
    down = -np.log1p(np.minimum(costs - exits.stop_percent / 100, 0.0))
    corridor = up + down
    spread = volatility * math.sqrt(exits.hours / 24) / corridor
    spread = np.maximum(spread, _LOWEST_SPREAD)
    start = down / corridor
    chance = np.array(start, dtype=np.float64)
    for n in range(1, _TERMS):
        angle = n * math.pi
        decay = np.exp(-0.5 * (angle * spread) ** 2)
        if decay.max() < _NOTHING:
            break
        chance += (-1) ** n * 2 / angle * np.sin(angle * start) * decay
    chance = np.clip(chance, _LOWEST_CHANCE, 1 - _LOWEST_CHANCE)
    return np.asarray(np.log(chance / (1 - chance)), dtype=np.float64)
''')


###################################################################################################
_LOADER.modules["shared.market.score.entry_score"] = ("shared/market/score/entry_score.py", r'''"""The AI score: the chance that a long entry now ends at its target, after costs.

The event is the one of ``shared.market.score.barrier``. The chance comes from a logistic model that
``trading-loop train`` fits to recorded candles and judges on later ones; its file tells how good
it is. Candles enter through ``shared.market.score.features``, the order book through the costs of a
round trip. The contributions, intercept included, sum to the logit.

A feature without a value contributes nothing, as if it were average, and is named; where the
absent ones hold more than a quarter of all weight, or the costs are not known, there is no score.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from shared.market.score.barrier import ExitRules, driftless_logit
from shared.market.score.features import Newest
from shared.market.score.score_model import (
    COST_FEATURES,
    VOLATILITY_FEATURES,
    CostOdds,
    ScoreModel,
    shipped,
)

MAX_MISSING_SHARE = 0.25  # of the sum of absolute coefficients


@dataclass(frozen=True)
class Evidence:
    """What a score is made of: features of candles, and the costs of a round trip."""

    market: Newest
    cost_bps: float | None


@dataclass(frozen=True)
class Odds:
    """What entries of such a chance, at such costs, have earned: measured, not promised.

    An entry wins where anything is left after costs, however it ended; both averages are
    positive, in percent of what was paid.
    """

    win_probability: float
    average_win_percent: float
    average_loss_percent: float


@dataclass(frozen=True)
class Score:
    """A chance, and how it came about.

    Attributes:
        value: the probability; ``None`` where too much was missing.
        rank: the share of ordinary entries whose timing was worse, 0 to 1. It leaves out what the
            volatility and the costs say: by these a coin that moves little would never be
            bought, and a wild one at any time. ``None`` without a value, and where the model has
            no skill, because then all entries are alike; 0 where the costs are higher than any
            that were learned.
        contributions: to the logit, by feature.
        missing: the features without a value, or ``cost``.
        odds: ``None`` unless ``calibrated``.
        calibrated: whether ``value`` may be read as a frequency.
        uncalibrated_because: why not.
        at_ms: the close of the newest candle that it knows.
        model: which model spoke.
    """

    value: float | None
    rank: float | None
    odds: Odds | None
    contributions: dict[str, float]
    missing: list[str]
    calibrated: bool
    uncalibrated_because: list[str]
    at_ms: int | None
    model: str


def score(evidence: Evidence, exits: ExitRules, model: ScoreModel | None = None) -> Score:
    """Score a symbol's moment for a long entry.

    Args:
        exits: the pod's own. The probability is always that of the model's exits; where the
            pod's differ, it is not ``calibrated``.
        model: the shipped one unless told.
    """
    model = shipped() if model is None else model
    values = evidence.market.values | _of_costs(evidence, model)
    contributions, missing, lacking = {"intercept": model.intercept}, [], 0.0
    for feature in model.features:
        if feature.name in values:
            contributions[feature.name] = feature.contribution(values[feature.name])
        else:
            missing.append(feature.name)
            lacking += abs(feature.coefficient)
    if evidence.cost_bps is None:
        missing.insert(0, "cost")
    total = sum(abs(feature.coefficient) for feature in model.features)
    known = evidence.cost_bps is not None and lacking <= MAX_MISSING_SHARE * total
    value = _probability(sum(contributions.values())) if known else None
    reasons = _reasons(evidence.cost_bps, missing, exits, model)
    calibrated = value is not None and not reasons
    return Score(
        value=value,
        rank=None if value is None else _rank(contributions, evidence.cost_bps, model),
        odds=_odds(value, evidence.cost_bps, model) if calibrated else None,
        contributions=contributions,
        missing=missing,
        calibrated=calibrated,
        uncalibrated_because=reasons,
        at_ms=evidence.market.at_ms,
        model=model.model,
    )


def identity() -> str:
    """Which model scores."""
    return shipped().model


def base_rate_logit(cost_bps: float, model: ScoreModel) -> float:
    """Log-odds of all training entries at some costs, between the costs that were looked at."""
    costs, rates = zip(*model.base_rates, strict=True)
    logits = [math.log(rate / (1 - rate)) for rate in rates]
    return float(np.interp(cost_bps, costs, logits))


def _odds(chance: float | None, cost_bps: float | None, model: ScoreModel) -> Odds | None:
    """In proportion between the groups of like chances, and between the two nearest costs."""
    if chance is None or cost_bps is None:
        return None
    tables = model.odds
    costs = [table.cost_bps for table in tables]
    above = min(max(bisect_left(costs, cost_bps), 1), len(costs) - 1)
    below = above - 1
    share = float(np.clip((cost_bps - costs[below]) / (costs[above] - costs[below]), 0, 1))
    cheap, dear = (_at_chance(tables[number], chance) for number in (below, above))
    return Odds(*((1 - share) * a + share * b for a, b in zip(cheap, dear, strict=True)))


def _at_chance(table: CostOdds, chance: float) -> tuple[float, float, float]:
    return tuple(  # type: ignore[return-value]
        float(np.interp(chance, table.chance, column))
        for column in (table.win_share, table.average_win_percent, table.average_loss_percent)
    )


def _of_costs(evidence: Evidence, model: ScoreModel) -> dict[str, float]:
    """``COST_FEATURES``, as far as they can be had, at costs that the model has learned."""
    if evidence.cost_bps is None:
        return {}
    base_rate, driftless_odds = COST_FEATURES
    cost = min(max(evidence.cost_bps, model.base_rates[0][0]), model.base_rates[-1][0])
    values = {base_rate: base_rate_logit(cost, model)}
    volatility = evidence.market.values.get("volatility")
    if volatility is not None:
        share = np.array([math.exp(volatility) / 100])
        logit = driftless_logit(share, np.array([cost]), model.exits.rules())
        values[driftless_odds] = float(logit[0])
    return values


def _reasons(
    cost_bps: float | None, missing: list[str], exits: ExitRules, model: ScoreModel
) -> list[str]:
    reasons = []
    expected = model.exits.rules()
    if exits != expected:
        reasons.append(f"exits: expected {_shown(expected)}, was {_shown(exits)}")
    lowest, highest = model.base_rates[0][0], model.base_rates[-1][0]
    if cost_bps is not None and not lowest <= cost_bps <= highest:
        reasons.append(f"cost_bps: expected {lowest:g}..{highest:g}, was {cost_bps:.4g}")
    if missing:
        reasons.append(f"missing: {', '.join(missing)}")
    return reasons


def _shown(exits: ExitRules) -> str:
    return f"+{exits.take_profit_percent:g} % -{exits.stop_percent:g} % {exits.hours:g} h"


def timing(contributions: Mapping[str, float]) -> float:
    """The part of the logit that neither volatility nor costs have made."""
    apart = ("intercept", *VOLATILITY_FEATURES)
    return sum(part for name, part in contributions.items() if name not in apart)


def _rank(
    contributions: Mapping[str, float], cost_bps: float | None, model: ScoreModel
) -> float | None:
    """Where the timing stands among the quantiles, in proportion between two of them."""
    if cost_bps is None or not model.skill:
        return None
    if cost_bps > model.base_rates[-1][0]:
        return 0.0
    quantiles, value = model.rank_quantiles, timing(contributions)
    if quantiles[0] == quantiles[-1]:  # it knows volatility and nothing else
        return None
    above = bisect_left(quantiles, value)
    if above == 0:
        return 0.0
    if above == len(quantiles):
        return 1.0
    low, high = quantiles[above - 1], quantiles[above]
    return (above - 1 + (value - low) / (high - low)) / (len(quantiles) - 1)


def _probability(logit: float) -> float:
    return 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0
''')


###################################################################################################
_LOADER.modules["shared.market.score.features"] = ("shared/market/score/features.py", r'''"""What the AI score looks at: numbers without a scale, from closed candles of 1h, 4h and 1d.

Training computes them for every hour of a history (``table``), the scanner for the newest one
(``newest``); both call the same functions, and a test holds them together. Each timeframe has a
function of its own candles alone, whose row *i* knows nothing after candle *i*. Rows without
enough candles before them are NaN: there a feature is missing.

Distances are in average true ranges or in standard deviations, so that a feature means the same
for every symbol; volatilities are logarithms of a day's standard deviation in percent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from shared.market.candles.candle_rows import closed_by, is_stale, sliced
from shared.market.candles.memo import Memo
from shared.market.technical.talib_lean import functions
from shared.market.types import TIMEFRAME_MS, Candles

Floats = NDArray[np.float64]
Columns = dict[str, Floats]

_HOUR_MS = 3_600_000
_DAY_MS = 86_400_000
_WILDER_WARM_UP = 250  # (13/14)^236: what is left of the seed of a Wilder average of 14
_NEWEST_NEEDS = 500  # candles; what is older moves no newest value by as much as 1e-9
_RANGE = 14


@dataclass(frozen=True)
class Table:
    """Features by the hour: ``at_ms`` is the close of the 1h candle that a row knows last."""

    at_ms: NDArray[np.int64]
    columns: Columns


@dataclass(frozen=True)
class Newest:
    """The features of one moment, the ones that could not be had absent."""

    at_ms: int | None
    values: dict[str, float]


def table(windows: Mapping[str, Candles]) -> Table:
    """The features at the close of every 1h candle.

    A candle of 4h or 1d counts from its close on, and until the next one should have closed.
    """
    hours = windows["1h"]
    at_ms = hours.open_ms + TIMEFRAME_MS["1h"]
    columns: Columns = {}
    for timeframe, compute in FRAMES.items():
        columns |= _aligned(compute(windows[timeframe]), windows[timeframe], at_ms)
    return Table(at_ms, columns | _clock(at_ms) | _combined(columns))


def newest(venue: str, windows: Mapping[str, Candles], now_ms: int) -> Newest:
    """The features at the newest 1h close.

    A timeframe that is absent, stale, or lacks the candle that closed last, gives none.
    """
    hours = windows.get("1h")
    if hours is None or not len(hours) or is_stale(hours, now_ms):
        return Newest(None, {})
    at_ms = hours.closed_ms
    found: dict[str, float] = {}
    for timeframe, memo in _NEWEST.items():
        candles = windows.get(timeframe)
        known = None if candles is None else closed_by(candles, at_ms)
        if known is not None and len(known) and known.closed_ms == _last_close(timeframe, at_ms):
            found |= memo(venue, known)
    columns = {name: np.array([value]) for name, value in found.items()}
    others = _clock(np.array([at_ms])) | _combined(columns)
    return Newest(at_ms, found | _finite({name: float(c[0]) for name, c in others.items()}))


def _hours(candles: Candles) -> Columns:
    close, volume = candles.close, candles.volume
    returns = _log_returns(close)
    day, week = _root_mean_square(returns, 24), _root_mean_square(returns, 168)
    return _shape(candles, "1h") | {
        "momentum_24h": _change(close, 24) / (week * math.sqrt(24)),
        "momentum_72h": _change(close, 72) / (week * math.sqrt(72)),
        "volatility_6h": _log_percent(_root_mean_square(returns, 6) * math.sqrt(24)),
        "volatility_24h": _log_percent(day * math.sqrt(24)),
        "volatility_7d": _log_percent(week * math.sqrt(24)),
        "range_24h": _log_percent(_parkinson(candles, 24) * math.sqrt(24)),
        "volume_1h": np.log(volume / _mean(volume, 24)),
        "below_high_7d": np.log(_highest(candles.high, 168) / close) / (week * math.sqrt(24)),
        "above_low_7d": np.log(close / _lowest(candles.low, 168)) / (week * math.sqrt(24)),
        "breakout_1h": _breakout(candles, 20),
    }


def _four_hours(candles: Candles) -> Columns:
    returns = _log_returns(candles.close)
    month = _root_mean_square(returns, 180)
    return _shape(candles, "4h") | {
        "momentum_7d": _change(candles.close, 42) / (month * math.sqrt(42)),
        "volatility_30d": _log_percent(month * math.sqrt(6)),
    }


def _days(candles: Candles) -> Columns:
    close = candles.close
    returns = _log_returns(close)
    quarter = _root_mean_square(returns, 90)
    true_range = _mean(_true_range(candles), _RANGE)
    return {
        "trend_1d": (_mean(close, 20) - _mean(close, 50)) / true_range,
        "momentum_30d": _change(close, 30) / (quarter * math.sqrt(30)),
        "volatility_90d": _log_percent(quarter),
        "below_high_90d": np.log(_highest(candles.high, 90) / close) / quarter,
    }


def _shape(candles: Candles, timeframe: str) -> Columns:
    """Trend, RSI, directed strength and Bollinger position of one timeframe."""
    ta, close = functions(), candles.close
    if len(candles) < _WILDER_WARM_UP:
        nothing = np.full(len(candles), np.nan)
        names = ("trend", "rsi", "directed_strength", "bollinger")
        return {f"{name}_{timeframe}": nothing for name in names}
    bars = (candles.high, candles.low, close)
    atr, rsi = ta.ATR(*bars, _RANGE), ta.RSI(close, _RANGE)
    rsi[_mean(np.abs(_log_returns(close)), _RANGE) == 0] = np.nan  # TA-Lib's 0 would mean a fall
    plus, minus, adx = ta.PLUS_DI(*bars, _RANGE), ta.MINUS_DI(*bars, _RANGE), ta.ADX(*bars, _RANGE)
    mean = _mean(close, 20)
    deviation = _root_mean_square_about(close, mean, 20)
    return {
        f"trend_{timeframe}": (mean - _mean(close, 50)) / _warmed(atr),
        f"rsi_{timeframe}": _warmed(rsi - 50) / 50,
        f"directed_strength_{timeframe}": _warmed((plus - minus) / (plus + minus) * adx) / 100,
        f"bollinger_{timeframe}": (close - mean) / (2 * deviation),
    }


def _combined(columns: Mapping[str, Floats]) -> Columns:
    """A day's volatility to be expected: horizons of a day, a week and a month weigh the same.

    Corsi, A Simple Approximate Long-Memory Model of Realized Volatility, Journal of Financial
    Econometrics 7 (2009), forecasts by the same three horizons.
    """
    parts = [columns.get(name) for name in ("volatility_24h", "volatility_7d", "volatility_30d")]
    known = [part for part in parts if part is not None]
    return {} if len(known) < len(parts) else {"volatility": np.asarray(sum(known) / len(known))}


def _clock(at_ms: NDArray[np.int64]) -> Columns:
    angle = 2 * math.pi * (at_ms % _DAY_MS) / _DAY_MS
    weekday = (at_ms // _DAY_MS + 3) % 7  # the epoch was a Thursday; Monday is 0
    return {
        "hour_sine": np.sin(angle),
        "hour_cosine": np.cos(angle),
        "weekend": (weekday >= 5).astype(np.float64),
    }


def _aligned(columns: Columns, candles: Candles, at_ms: NDArray[np.int64]) -> Columns:
    """Each hour's row of a coarser timeframe: the candle that closed last, if it is there."""
    step = TIMEFRAME_MS[candles.timeframe]
    closes = candles.open_ms + step
    row = np.searchsorted(closes, at_ms, side="right") - 1
    fresh = (row >= 0) & (closes[np.maximum(row, 0)] == at_ms // step * step)
    return {name: np.where(fresh, values[row], np.nan) for name, values in columns.items()}


def _last_close(timeframe: str, at_ms: int) -> int:
    step = TIMEFRAME_MS[timeframe]
    return at_ms // step * step


def _newest_of(compute: Callable[[Candles], Columns]) -> Memo[dict[str, float]]:
    def values(candles: Candles) -> dict[str, float]:
        columns = compute(sliced(candles, slice(-_NEWEST_NEEDS, None)))
        return _finite({name: float(column[-1]) for name, column in columns.items()})

    return Memo(values)


def _finite(values: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _quiet(compute: Callable[[Candles], Columns]) -> Callable[[Candles], Columns]:
    """``compute`` with what has no value (a market that stands still) as NaN, not as a warning."""

    def columns(candles: Candles) -> Columns:
        with np.errstate(divide="ignore", invalid="ignore"):
            found = compute(candles)
        return {name: np.where(np.isfinite(c), c, np.nan) for name, c in found.items()}

    return columns


def _windows(values: Floats, count: int) -> Floats | None:
    return sliding_window_view(values, count) if len(values) >= count else None


def _rolling(values: Floats, count: int, reduce: Callable[[Floats], Floats]) -> Floats:
    """``reduce`` over the last ``count`` values of each row; NaN before there are so many."""
    result = np.full(len(values), np.nan)
    windows = _windows(values, count)
    if windows is not None:
        result[count - 1 :] = reduce(windows)
    return result


def _mean(values: Floats, count: int) -> Floats:
    return _rolling(values, count, lambda windows: windows.mean(axis=1))


def _highest(values: Floats, count: int) -> Floats:
    return _rolling(values, count, lambda windows: windows.max(axis=1))


def _lowest(values: Floats, count: int) -> Floats:
    return _rolling(values, count, lambda windows: windows.min(axis=1))


def _root_mean_square(values: Floats, count: int) -> Floats:
    """Volatility about zero: the mean of a few returns is mostly noise."""
    return np.sqrt(_mean(values**2, count))


def _root_mean_square_about(values: Floats, mean: Floats, count: int) -> Floats:
    result = np.full(len(values), np.nan)
    windows = _windows(values, count)
    if windows is not None:
        centred = windows - mean[count - 1 :, None]
        result[count - 1 :] = np.sqrt((centred**2).mean(axis=1))
    return result


def _parkinson(candles: Candles, count: int) -> Floats:
    """Volatility of a candle by its range (Parkinson, Journal of Business 53, 1980)."""
    squares = np.log(candles.high / candles.low) ** 2 / (4 * math.log(2))
    return np.sqrt(_mean(squares, count))


def _true_range(candles: Candles) -> Floats:
    before = np.append(np.nan, candles.close[:-1])
    top, bottom = np.maximum(candles.high, before), np.minimum(candles.low, before)
    return np.asarray(top - bottom)


def _log_returns(close: Floats) -> Floats:
    return np.append(np.nan, np.diff(np.log(close)))


def _change(close: Floats, count: int) -> Floats:
    result = np.full(len(close), np.nan)
    result[count:] = np.log(close[count:] / close[:-count])
    return result


def _breakout(candles: Candles, count: int) -> Floats:
    """How far the close lies outside the ``count`` candles before, in true ranges; 0 inside."""
    top, bottom = np.full((2, len(candles)), np.nan)
    top[1:] = _highest(candles.high, count)[:-1]
    bottom[1:] = _lowest(candles.low, count)[:-1]
    beyond = np.maximum(candles.close - top, 0) + np.minimum(candles.close - bottom, 0)
    return np.asarray(beyond / _mean(_true_range(candles), _RANGE))


def _log_percent(share: Floats) -> Floats:
    return np.asarray(np.log(100 * share))


def _warmed(values: Floats) -> Floats:
    result = values.copy()
    result[: _WILDER_WARM_UP - 1] = np.nan
    return np.asarray(result)


FRAMES: dict[str, Callable[[Candles], Columns]] = {
    "1h": _quiet(_hours),
    "4h": _quiet(_four_hours),
    "1d": _quiet(_days),
}
_NEWEST = {timeframe: _newest_of(compute) for timeframe, compute in FRAMES.items()}
''')


###################################################################################################
_LOADER.modules["shared.market.score.round_trip"] = ("shared/market/score/round_trip.py", r'''"""What it costs now to buy and to sell again at once, from a book and a fee."""

from __future__ import annotations

from shared.errors import DataUnavailable
from shared.market.score.barrier import BPS
from shared.market.types import Book

Levels = tuple[tuple[float, float], ...]


def cost_bps(book: Book, taker_bps: float, notional_quote: float) -> float:
    """Round-trip cost of a market order of ``notional_quote``, in basis points of the mid.

    Both taker fees, the spread and the slippage: the quantity is bought through the asks and
    sold through the bids as they stand. Later depth is not known; the present one stands for it.

    Raises:
        DataUnavailable: the book does not reach so far.
        ValueError: a fee below 0, or a notional that is not above 0.
    """
    if not 0 <= taker_bps < BPS:
        raise ValueError(f"taker_bps: expected 0..{BPS}, was {taker_bps}")
    if not notional_quote > 0:
        raise ValueError(f"notional_quote: expected above 0, was {notional_quote}")
    quantity = notional_quote / book.mid
    paid = _value(book.symbol, "asks", book.asks, quantity)
    received = _value(book.symbol, "bids", book.bids, quantity)
    return 2 * taker_bps + BPS * (paid - received) / (quantity * book.mid)


def _value(symbol: str, side: str, levels: Levels, quantity: float) -> float:
    """What ``quantity`` comes to when it is taken from ``levels``, in quote currency."""
    left, value = quantity, 0.0
    for price, available in levels:
        taken = min(left, available)
        value += taken * price
        left -= taken
        if left <= 0:
            return value
    raise DataUnavailable(
        f"{symbol} book.{side}: expected a depth of {quantity:.8g}, was {quantity - left:.8g}"
    )
''')


###################################################################################################
_LOADER.modules["shared.market.score.score_model"] = ("shared/market/score/score_model.py", r'''"""The AI score's model as a file: what training writes and the scanner reads."""

from __future__ import annotations

import functools
import hashlib
import json
from importlib import resources
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared.errors import ConfigurationError
from shared.market.score.barrier import ExitRules

SCHEMA = 3
COST_FEATURES = ("base_rate", "driftless_odds")
"""Made of the costs: ``base_rate`` is the log-odds of all training entries at these costs,
``driftless_odds`` those of ``shared.market.score.barrier`` at the present volatility."""

VOLATILITY_FEATURES = (
    *COST_FEATURES,
    "volatility_6h",
    "range_24h",
    "volatility_7d",
    "volatility_30d",
    "volatility_90d",
)
"""How much the price will move, and what it costs. All others are the timing: whether this moment
is a better one than others in which the price moves as much."""

_FILE = "score_model.json"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FeatureWeight(_Part):
    """How one feature enters: cut to ``low..high``, less ``mean``, over ``scale``."""

    name: str
    low: float
    high: float
    mean: float
    scale: float = Field(gt=0)
    coefficient: float

    def contribution(self, value: float) -> float:
        """What a value adds to the logit."""
        cut = min(max(value, self.low), self.high)
        return self.coefficient * (cut - self.mean) / self.scale


class Exits(_Part):
    take_profit_percent: float = Field(gt=0)
    stop_percent: float = Field(gt=0)
    hours: float = Field(gt=0)

    def rules(self) -> ExitRules:
        return ExitRules(self.take_profit_percent, self.stop_percent, self.hours)


class Training(_Part):
    """Where a model comes from: ``until_ms`` is the newest moment that it has learned from."""

    exchange: str
    symbols: list[str]
    from_ms: int
    until_ms: int
    entries: int
    command: str
    seed: int


class CostOdds(_Part):
    """What entries of like chances earned at some costs, in ascending order of their chance.

    Attributes:
        cost_bps: of a round trip.
        chance: mean AI score of each group; the other lists go along with it.
        win_share: entries that earned anything after costs.
        average_win_percent, average_loss_percent: what these earned and the others lost, both
            positive, in percent of what was paid.
    """

    cost_bps: float = Field(gt=0)
    chance: list[float] = Field(min_length=1)
    entries: list[int]
    win_share: list[float]
    average_win_percent: list[float]
    average_loss_percent: list[float]

    @model_validator(mode="after")
    def _is_a_table(self) -> CostOdds:
        columns = (
            self.entries,
            self.win_share,
            self.average_win_percent,
            self.average_loss_percent,
        )
        if any(len(column) != len(self.chance) for column in columns):
            raise ValueError("odds: expected columns of the same length")
        if sorted(self.chance) != self.chance:
            raise ValueError(f"odds: expected ascending chances, was {self.chance}")
        if not all(0 < share < 1 for share in self.win_share):
            raise ValueError(f"odds: expected shares within 0..1, was {self.win_share}")
        if not all(size > 0 for size in self.average_win_percent + self.average_loss_percent):
            raise ValueError("odds: expected averages above 0")
        return self


class ScoreModel(_Part):
    """A logistic model over ``features``.

    Attributes:
        model: the beginning of the SHA-256 of the rest.
        skill: whether unseen data showed any; without it ``base_rate`` alone has a weight, and
            the score is the base rate of the costs.
        base_rates: share of training entries that ended with the event, by costs in bps.
        rank_quantiles: of the timing's part of the logit, over all entries that it has learned
            from, from the lowest to the highest in equal shares.
        odds: measured in the walk-forward, by ascending costs.
        out_of_sample: figures of the report, for people.
    """

    schema_version: Literal[3]
    model: str
    skill: bool
    exits: Exits
    intercept: float
    features: list[FeatureWeight] = Field(min_length=1)
    base_rates: list[tuple[float, float]] = Field(min_length=2)
    rank_quantiles: list[float] = Field(min_length=2)
    odds: list[CostOdds] = Field(min_length=2)
    trained: Training
    out_of_sample: dict[str, Any]

    @model_validator(mode="after")
    def _in_order(self) -> ScoreModel:
        costs = [cost for cost, _ in self.base_rates]
        if any(later <= sooner for sooner, later in zip(costs, costs[1:], strict=False)):
            raise ValueError(f"base_rates: expected ascending costs, was {costs}")
        if not all(0 < rate < 1 for _, rate in self.base_rates):
            raise ValueError(f"base_rates: expected rates within 0..1, was {self.base_rates}")
        priced = [odds.cost_bps for odds in self.odds]
        if any(later <= sooner for sooner, later in zip(priced, priced[1:], strict=False)):
            raise ValueError(f"odds: expected ascending costs, was {priced}")
        if sorted(self.rank_quantiles) != self.rank_quantiles:
            raise ValueError("rank_quantiles: expected ascending values")
        return self


def parse(text: str) -> ScoreModel:
    """A model from its JSON.

    Raises:
        ConfigurationError: names the field, its value and what was expected.
    """
    try:
        document = json.loads(text)
        model = ScoreModel.model_validate(document)
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"score model: expected JSON, {error}") from None
    except ValidationError as error:
        problems = (
            f"{'.'.join(map(str, problem['loc'])) or 'document'}: {problem['msg']}, "
            f"was {problem['input']!r:.80}"
            for problem in error.errors()
        )
        raise ConfigurationError(f"score model: {'; '.join(problems)}") from None
    if model.model != identity(document):
        raise ConfigurationError(
            f"score model: model: expected {identity(document)}, was {model.model}: "
            "the file was changed after training"
        )
    return model


def identity(document: dict[str, Any]) -> str:
    """What a model is called: the beginning of a hash over everything but the name."""
    rest = {key: value for key, value in document.items() if key != "model"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()[:12]


@functools.cache
def shipped() -> ScoreModel:
    """The model that belongs to this version of the code."""
    return parse((resources.files("shared.market.score") / _FILE).read_text(encoding="utf-8"))
''')


###################################################################################################
_LOADER.modules["shared.market.sentiment"] = ("shared/market/sentiment/__init__.py", r'''"""The crowd's mood from outside: the fear-and-greed index and scored headlines.

Every source is optional. Those that are due are asked side by side and not waited for longer than
``BUDGET_S``; in most minutes none is due, and nothing outside this process is touched.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from shared import clock
from shared.errors import DataUnavailable
from shared.market.sentiment import assets, fear_greed, headlines, web
from shared.market.sentiment.headlines import Headline
from shared.run import Run

BUDGET_S = 4.5
_EXPORTED = 10


@dataclass(frozen=True)
class Sentiment:
    """What could be read of the mood, at ``at_ms``.

    Attributes:
        fear_greed: ``fear_greed_index`` with its times; ``None`` where it is missing.
        headlines: newest first, of the last 24 hours.
        fetched_ms: when the newest answer came that they are from.
        missing: which source is missing, or has failed lately, and why.
    """

    at_ms: int
    fear_greed: dict[str, int] | None
    headlines: tuple[Headline, ...]
    fetched_ms: int
    missing: tuple[str, ...]

    @functools.cached_property
    def _overall(self) -> dict[str, Any] | None:
        return headlines.summary(self.headlines, self.at_ms)

    def of(self, symbol: str) -> dict[str, Any] | None:
        """The mood as one market's entry tells it; ``None`` where nothing is known."""
        told: dict[str, Any] = dict(self.fear_greed or {})
        if self._overall is not None:
            asset = symbol.partition("/")[0]
            own = [h for h in self.headlines if assets.names(h.title, asset)]
            told["headlines"] = self._overall | {
                "fetched_at_ms": self.fetched_ms,
                "symbol": headlines.summary(own, self.at_ms),
            }
        return told or None

    def newest(self, symbols: Sequence[str]) -> list[dict[str, Any]]:
        """The newest headlines in full, with those of ``symbols`` that each one names."""
        return [
            {
                "title": h.title,
                "at_ms": h.at_ms,
                "score": h.score,
                "symbols": [s for s in symbols if assets.names(h.title, s.partition("/")[0])],
            }
            for h in self.headlines[:_EXPORTED]
        ]


def read(run: Run) -> Sentiment:
    """The mood in force. Never raises for a source; what is missing is named."""
    now_ms = clock.now_ms()
    _refresh(run, now_ms)
    told, fetched_ms, missing = headlines.current(run, now_ms)
    if not headlines.urls(run):
        missing.append("sentiment.headlines:NEWS_FEEDS is off")
    elif not told and not missing:
        missing.append("sentiment.headlines:none of the last 24 h")
    index: dict[str, int] | None = None
    try:
        index = fear_greed.current(run.config, now_ms)
    except DataUnavailable as error:
        missing.append(f"sentiment.{error}")
    return Sentiment(now_ms, index, tuple(told), fetched_ms, tuple(missing))


def _refresh(run: Run, now_ms: int) -> None:
    """Ask the sources that are due, side by side, and keep what they say."""
    source = fear_greed.url(run.config)
    wants_index, feeds = fear_greed.is_due(run, now_ms), headlines.due(run, now_ms)
    if not wants_index and not feeds:
        return
    fence = web.fence(headlines.urls(run), stand_in=run.config.simulated_wire_url is not None)
    pool = ThreadPoolExecutor(1 + len(feeds), thread_name_prefix="sentiment")
    try:
        asked = {url: pool.submit(headlines.ask, run.calls, url, fence, now_ms) for url in feeds}
        index = pool.submit(fear_greed.ask, run.calls, source, now_ms) if wants_index else None
        everything: list[Future[Any]] = [*asked.values(), *([] if index is None else [index])]
        wait(everything, timeout=BUDGET_S)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    if index is not None:
        fear_greed.keep(run, _result(index, fear_greed.no_answer(source, now_ms)))
    if asked:
        answers = {
            url: _result(future, headlines.no_answer(url, now_ms)) for url, future in asked.items()
        }
        headlines.keep(run, answers)


def _result[T](future: Future[T], otherwise: T) -> T:
    return future.result() if future.done() and not future.cancelled() else otherwise
''')


###################################################################################################
_LOADER.modules["shared.market.sentiment.assets"] = ("shared/market/sentiment/assets.py", r'''"""Which assets a headline names.

A name counts within word borders. Names that are words of everyday English count with a capital
only. A ticker counts in capitals only, and in a headline that is all capitals only behind ``$`` or
in brackets: ``NEAR`` in ``BITCOIN NEAR RECORD HIGH`` is no asset.
"""

from __future__ import annotations

import functools
import re

_NAMES: dict[str, tuple[str, ...]] = {
    "BTC": (r"bitcoin(?! cash\b| sv\b| gold\b)", "btc"),
    "ETH": (r"ethereum(?! classic\b)", "ether"),
    "SOL": ("solana",),
    "BCH": ("bitcoin cash",),
    "ETC": ("ethereum classic",),
    "XRP": ("ripple",),
    "BNB": ("binance coin",),
    "ADA": ("cardano",),
    "DOGE": ("dogecoin",),
    "SHIB": ("shiba inu",),
    "DOT": ("polkadot",),
    "LINK": ("chainlink",),
    "LTC": ("litecoin",),
    "UNI": ("uniswap",),
    "AAVE": ("aave",),
    "FIL": ("filecoin",),
    "ALGO": ("algorand",),
    "HBAR": ("hedera",),
    "XMR": ("monero",),
    "USDT": ("tether",),
    "USDC": ("usd coin", "usdc"),
    "SUI": ("sui network",),
    "ARB": ("arbitrum",),
    "PEPE": ("pepe coin",),
    "TON": ("toncoin",),
}
_CAPITALISED: dict[str, tuple[str, ...]] = {
    "AVAX": ("Avalanche",),
    "MATIC": ("Polygon",),
    "POL": ("Polygon",),
    "ATOM": ("Cosmos",),
    "NEAR": ("NEAR Protocol", "Near Protocol"),
    "XLM": ("Stellar",),
    "TRX": ("Tron", "TRON"),
    "OP": ("Optimism",),
    "APT": ("Aptos",),
    "INJ": ("Injective",),
}


@functools.lru_cache(maxsize=8_192)
def names(title: str, asset: str) -> bool:
    """Whether ``title`` is about ``asset``, for example ``BTC``."""
    by_name, by_ticker, by_marked_ticker = _patterns(asset)
    if by_name is not None and by_name.search(title):
        return True
    return (by_marked_ticker if title.isupper() else by_ticker).search(title) is not None


@functools.lru_cache(maxsize=256)
def _patterns(
    asset: str,
) -> tuple[re.Pattern[str] | None, re.Pattern[str], re.Pattern[str]]:
    ticker = re.escape(asset)
    words = [f"(?i:{name})" for name in _NAMES.get(asset, ())]
    words += [re.escape(name) for name in _CAPITALISED.get(asset, ())]
    by_name = re.compile(rf"\b(?:{'|'.join(words)})\b") if words else None
    return by_name, re.compile(rf"\b{ticker}\b"), re.compile(rf"\${ticker}\b|\({ticker}\)")
''')


###################################################################################################
_LOADER.modules["shared.market.sentiment.fear_greed"] = ("shared/market/sentiment/fear_greed.py", r'''"""The fear-and-greed index, 0 (extreme fear) to 100 (extreme greed), of alternative.me.

Published once a day. Asked for at most once an hour, and in vain at most once in ten minutes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

from shared.calls import CallLog
from shared.config import Config
from shared.errors import DataUnavailable
from shared.market import ages
from shared.run import Run

_MAX_AGE_MS = ages.MAX_AGE_MS["fear_greed"]
_ASK_AFTER_MS = 3_600_000
_RETRY_AFTER_MS = 10 * 60_000
_TIMEOUT_S = 2.0
_MAX_BYTES = 65_536
_KEY = "sentiment:fear_greed"
_SERVICE = "fear_greed"


@dataclass(frozen=True)
class Index:
    """What is known of the index.

    Attributes:
        url: the source.
        asked_ms: when it was last asked, in vain or not.
        fetched_ms: when it last answered as it should; 0 where it never has.
        value, at_ms: the index and the time it is of, where it has answered.
        error: why the last attempt was in vain; empty where it was not.
    """

    url: str
    asked_ms: int
    fetched_ms: int = 0
    value: int = -1
    at_ms: int = 0
    error: str = ""


_known: dict[str, Index] = {}


def url(config: Config) -> str:
    """The source in force: the stand-in where there is one, else the configured one."""
    if config.simulated_wire_url is not None:
        return f"{config.simulated_wire_url.rstrip('/')}/fng/?limit=1"
    return config.fear_greed_url


def is_due(run: Run, now_ms: int) -> bool:
    """Whether to ask now, after a look at what other processes have kept."""
    source = url(run.config)
    if _is_recent(_known.get(source), now_ms):
        return False
    kept = _kept(run, now_ms)
    if kept is None or kept.url != source or not _is_recent(kept, now_ms):
        return True
    _known[source] = kept
    return False


def ask(calls: CallLog, source: str, now_ms: int) -> Index:
    """The index after one attempt; what failed is told by ``error``."""
    try:
        value, at_ms = parse(_get(calls, source), now_ms)
    except DataUnavailable as error:
        return replace(_before(source), asked_ms=now_ms, error=str(error))
    return Index(source, now_ms, now_ms, value, at_ms)


def no_answer(source: str, now_ms: int) -> Index:
    """The index after an attempt that was not waited for any longer."""
    return replace(_before(source), asked_ms=now_ms, error="fear_greed: no answer in time")


def keep(run: Run, asked: Index) -> None:
    """Remember the answer, here and for other processes."""
    _known[asked.url] = asked
    run.cache.set(_KEY, json.dumps(asdict(asked)).encode(), _MAX_AGE_MS // 1000)


def current(config: Config, now_ms: int) -> dict[str, int]:
    """The index in force, the time it is of, and when it was fetched.

    Raises:
        DataUnavailable: none is known, or the newest one is stale.
    """
    index = _known[url(config)]
    if not index.fetched_ms:
        raise DataUnavailable(index.error)
    if now_ms - index.at_ms > _MAX_AGE_MS:
        raise DataUnavailable(f"fear_greed: stale since {index.at_ms}")
    return {
        "fear_greed_index": index.value,
        "fear_greed_at_ms": index.at_ms,
        "fear_greed_fetched_at_ms": index.fetched_ms,
    }


def parse(body: bytes, now_ms: int) -> tuple[int, int]:
    """The index and its time from an answer of ``/fng/``.

    Raises:
        DataUnavailable: names the field, its value and what was expected.
    """
    try:
        newest = json.loads(body)["data"][0]
        index, at_ms = int(newest["value"]), int(newest["timestamp"]) * 1000
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise DataUnavailable(
            f"fear_greed: {type(error).__name__}: expected data[0].value and .timestamp"
        ) from error
    _check(index, at_ms, now_ms)
    return index, at_ms


def _before(source: str) -> Index:
    return _known.get(source) or Index(source, 0)


def _is_recent(index: Index | None, now_ms: int) -> bool:
    if index is None:
        return False
    return 0 <= now_ms - index.asked_ms < (_RETRY_AFTER_MS if index.error else _ASK_AFTER_MS)


def _kept(run: Run, now_ms: int) -> Index | None:
    blob = run.cache.get(_KEY)
    if blob is None:
        return None
    try:
        kept = Index(**json.loads(blob))
        if kept.fetched_ms:
            _check(kept.value, kept.at_ms, now_ms)
        return kept if isinstance(kept.error, str) and kept.asked_ms > 0 else None
    except (ValueError, TypeError, DataUnavailable):
        return None  # whatever the cache holds, the source can be asked instead


def _check(value: int, at_ms: int, now_ms: int) -> None:
    if not 0 <= value <= 100:
        raise DataUnavailable(f"fear_greed: value: was {value}, expected 0 to 100")
    if not 0 < at_ms <= now_ms:
        raise DataUnavailable(f"fear_greed: timestamp: was {at_ms}, expected <= {now_ms}")


def _get(calls: CallLog, source: str) -> bytes:
    import requests

    with calls.timed(_SERVICE) as call:
        try:
            with requests.get(source, timeout=_TIMEOUT_S, stream=True) as answer:
                answer.raise_for_status()
                return next(answer.iter_content(_MAX_BYTES), b"")
        except requests.RequestException as error:
            call.fail(type(error).__name__)
            raise DataUnavailable(f"fear_greed: {type(error).__name__}") from error
''')


###################################################################################################
_LOADER.modules["shared.market.sentiment.feeds"] = ("shared/market/sentiment/feeds.py", r'''"""Dated titles from the bytes of an RSS or Atom feed, whatever else these bytes may be.

feedparser 6.0.14 takes broken XML and loads nothing from outside. Two things are bounded here: its
work grows in step with the number of tags, about 15 us each; and it expands entities that a
document declares within itself (a "billion laughs" of 7 kB kept it busy for 5 s), which no
feed has use for, so that such a document is refused.
"""

from __future__ import annotations

import calendar
import io
from dataclasses import dataclass
from typing import Any

from shared.errors import DataUnavailable
from shared.market.sentiment import text

_MAX_TAGS = 20_000  # full-text feeds have some thousands


@dataclass(frozen=True)
class Entry:
    """A title and when it was published."""

    title: str
    at_ms: int


def parse(body: bytes) -> list[Entry]:
    """The entries that have a title and a time, newest first.

    What has no time is left out: nobody can tell how old it is.

    Raises:
        DataUnavailable: this is no feed, holds no such entry, or would take too long to parse.
    """
    found = _parsed(_harmless(body))
    if not found.get("version"):
        raise DataUnavailable("expected RSS or Atom")
    entries = [entry for entry in map(_entry, found.entries) if entry is not None]
    if not entries:
        raise DataUnavailable("no entry with a title and a time")
    return sorted(entries, key=lambda entry: -entry.at_ms)


def _harmless(body: bytes) -> bytes:
    """``body`` in UTF-8 as feedparser itself would convert it, so that nothing hides in another."""
    from feedparser.encodings import convert_to_utf8

    try:
        converted: bytes = convert_to_utf8({}, body, {})
    except Exception as error:  # of a converter whose input strangers write, any kind is possible
        raise DataUnavailable(f"feedparser: {type(error).__name__}") from error
    if max(converted.count(b"<"), converted.count(b"&")) > _MAX_TAGS:
        raise DataUnavailable(f"more than {_MAX_TAGS} tags or entities")
    if b"<!entity" in converted.lower():
        raise DataUnavailable("declares entities")
    return converted


def _parsed(body: bytes) -> Any:
    import feedparser

    # A stream, since a str or bytes would also be tried as the name of a file. Titles are cleaned
    # by ``text``, so feedparser need not do so to everything else in the feed.
    stream = io.BytesIO(body)
    try:
        return feedparser.parse(stream, sanitize_html=False, resolve_relative_uris=False)
    except Exception as error:  # of a parser whose input strangers write, any kind is possible
        raise DataUnavailable(f"feedparser: {type(error).__name__}") from error


def _entry(item: Any) -> Entry | None:
    title = text.clean(str(item.get("title", "")))
    # `dict.get`, since its own takes one name for the other and warns that it will not any more.
    moment = dict.get(item, "published_parsed") or dict.get(item, "updated_parsed")
    if not title or moment is None:
        return None
    try:
        return Entry(title, calendar.timegm(moment) * 1000)
    except (ValueError, OverflowError):  # a year 0, a month 13
        return None
''')


###################################################################################################
_LOADER.modules["shared.market.sentiment.headlines"] = ("shared/market/sentiment/headlines.py", r'''"""Scored headlines of the configured feeds: asked for seldom, kept with their scores.

A feed is asked at most once in ten minutes, well or not. Its headlines count for 24 hours after
they were published, as long as the feed itself has answered within two hours.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from shared.calls import CallLog
from shared.errors import DataUnavailable
from shared.market import ages
from shared.market.sentiment import feeds, lexicon, text, web
from shared.run import Run

ASK_AFTER_MS = 10 * 60_000
_MAX_SILENCE_MS = ages.MAX_AGE_MS["headlines.feed"]
_MAX_AGE_MS = ages.MAX_AGE_MS["headlines"]
HALF_LIFE_MS = 6 * 3_600_000
"""Of a headline's weight. Prices answer news within minutes to hours; what was written in the
morning should still be heard in the afternoon, but not as loud as what came since."""
MAX_ENTRIES = 30
"""The newest ones are kept, of each feed."""
_KEY = "sentiment:headlines"
_WIRE_PATH = "/news/rss"


@dataclass(frozen=True)
class Headline:
    """A cleaned title, its time, and its score from -1 to 1 where the lexicon has one."""

    title: str
    at_ms: int
    score: float | None


@dataclass(frozen=True)
class Feed:
    """What is known of one feed.

    Attributes:
        asked_ms: when it was last asked, in vain or not.
        fetched_ms: when it last answered as it should.
        error: why the last attempt was in vain; empty where it was not.
        digest: of the last good answer, so that the same one is not parsed again.
    """

    asked_ms: int
    fetched_ms: int = 0
    error: str = ""
    digest: str = ""
    headlines: tuple[Headline, ...] = ()


_known: dict[str, Feed] = {}


def urls(run: Run) -> tuple[str, ...]:
    """The feeds in force: the stand-in's where there is one, else the configured ones."""
    wire = run.config.simulated_wire_url
    return run.config.news_feeds if wire is None else (f"{wire.rstrip('/')}{_WIRE_PATH}",)


def due(run: Run, now_ms: int) -> list[str]:
    """The feeds to be asked now, after a look at what other processes have kept."""
    waiting = [url for url in urls(run) if not _is_recent(_known.get(url), now_ms)]
    if waiting:
        for url, feed in _kept(run).items():
            if url in waiting and _is_recent(feed, now_ms):
                _known[url] = feed
    return [url for url in waiting if not _is_recent(_known.get(url), now_ms)]


def ask(calls: CallLog, url: str, fence: web.Fence, now_ms: int) -> Feed:
    """The feed after one attempt; what failed is told by ``error``."""
    before = _known.get(url) or Feed(0)
    try:
        with calls.timed(f"news:{urlsplit(url).hostname}") as call:
            try:
                return _read(before, web.get(url, fence), now_ms)
            except DataUnavailable as error:
                call.fail(str(error))
                raise
    except DataUnavailable as error:
        return replace(before, asked_ms=now_ms, error=str(error))


def no_answer(url: str, now_ms: int) -> Feed:
    """The feed after an attempt that was not waited for any longer."""
    return replace(_known.get(url) or Feed(0), asked_ms=now_ms, error="no answer in time")


def keep(run: Run, asked: dict[str, Feed]) -> None:
    """Remember the answers, here and for other processes."""
    _known.update(asked)
    feeds_in_force = {url: asdict(_known[url]) for url in urls(run) if url in _known}
    blob = json.dumps(feeds_in_force, separators=(",", ":")).encode()
    run.cache.set(_KEY, blob, _MAX_SILENCE_MS // 1000)


def current(run: Run, now_ms: int) -> tuple[list[Headline], int, list[str]]:
    """What may be used now.

    Returns:
        the headlines, newest first and each story once; when the last of their feeds answered;
        and which feed is missing or has failed, and why.
    """
    by_story: dict[str, Headline] = {}
    fetched_ms, missing = 0, []
    for url in urls(run):
        feed = _known.get(url)
        if feed is None or now_ms - feed.fetched_ms > _MAX_SILENCE_MS:
            missing.append(_complaint(url, feed))
            continue
        if feed.error:
            missing.append(_complaint(url, feed))
        fetched_ms = max(fetched_ms, feed.fetched_ms)
        for headline in feed.headlines:
            if 0 <= now_ms - headline.at_ms <= _MAX_AGE_MS:
                # Of the same story the first report counts.
                kept = by_story.setdefault(text.same_story(headline.title), headline)
                if headline.at_ms < kept.at_ms:
                    by_story[text.same_story(headline.title)] = headline
    return sorted(by_story.values(), key=lambda h: -h.at_ms), fetched_ms, missing


def summary(headlines: Sequence[Headline], now_ms: int) -> dict[str, Any] | None:
    """Their mean score by recency, how many there are, and how many of them have a score.

    The score is ``None`` where no headline has one: words that the lexicon does not know are not
    neutral. The whole is ``None`` where there are no headlines.
    """
    if not headlines:
        return None
    weights = {
        headline: 0.5 ** ((now_ms - headline.at_ms) / HALF_LIFE_MS)
        for headline in headlines
        if headline.score is not None
    }
    total = sum(weights.values())
    return {
        "score": sum(w * (h.score or 0.0) for h, w in weights.items()) / total if weights else None,
        "count": len(headlines),
        "scored": len(weights),
        "newest_at_ms": max(headline.at_ms for headline in headlines),
    }


def _complaint(url: str, feed: Feed | None) -> str:
    why = (feed and feed.error) or "no answer yet"
    if feed is not None and feed.fetched_ms:
        why += f", last answer at {feed.fetched_ms}"
    return f"sentiment.headlines.{urlsplit(url).hostname}:{why}"


def _is_recent(feed: Feed | None, now_ms: int) -> bool:
    return feed is not None and 0 <= now_ms - feed.asked_ms < ASK_AFTER_MS


def _read(before: Feed, body: bytes, now_ms: int) -> Feed:
    digest = hashlib.sha256(body).hexdigest()[:16]
    if digest == before.digest:
        return replace(before, asked_ms=now_ms, fetched_ms=now_ms, error="")
    entries = feeds.parse(body)
    come = [entry for entry in entries if entry.at_ms <= now_ms]
    if not come:
        raise DataUnavailable("no entry whose time has come")
    if len(come) < len(entries):
        digest = ""  # the same answer will hold more when their time has come
    scored = {headline.title: headline.score for headline in before.headlines}
    headlines = tuple(_scored(entry, scored) for entry in come[:MAX_ENTRIES])
    return Feed(now_ms, now_ms, "", digest, headlines)


def _scored(entry: feeds.Entry, known: dict[str, float | None]) -> Headline:
    if entry.title not in known:
        known[entry.title] = lexicon.score(entry.title)
    return Headline(entry.title, entry.at_ms, known[entry.title])


def _kept(run: Run) -> dict[str, Feed]:
    blob = run.cache.get(_KEY)
    if blob is None:
        return {}
    try:
        return {str(url): _feed(given) for url, given in json.loads(blob).items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}  # whatever the cache holds, the feeds can be asked instead


def _feed(given: dict[str, Any]) -> Feed:
    return Feed(
        asked_ms=int(given["asked_ms"]),
        fetched_ms=int(given["fetched_ms"]),
        error=str(given["error"]),
        digest=str(given["digest"]),
        headlines=tuple(_headline(one) for one in given["headlines"]),
    )


def _headline(given: dict[str, Any]) -> Headline:
    score = None if given["score"] is None else float(given["score"])
    return Headline(str(given["title"]), int(given["at_ms"]), score)
''')


###################################################################################################
_LOADER.modules["shared.market.sentiment.lexicon"] = ("shared/market/sentiment/lexicon.py", r'''"""The mood of a headline's words, by VADER's lexicon and rules and a few terms of finance.

VADER (Hutto and Gilbert, ICWSM 2014) was rated by people on messages of everyday life. Of the
words that markets move by it knows few, and of some it knows another meaning: in "shares", "trust",
"security" and "United States" it hears praise. Both are corrected here, and nothing else: the
terms are common words of market reports in their usual sense, rated on VADER's own scale (-4 to 4)
beside related words that it has ("crash" -1.7, "gain" 2.4, "fraud" -2.8). They were set down
before they were compared with any price.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

# Rating, and the words that have it.
_TERMS: tuple[tuple[float, str], ...] = (
    (2.3, "soar soars soared soaring skyrocket skyrockets surge surges surged surging"),
    (1.9, "bullish rally rallies rallied rallying breakout outperform outperforms"),
    (
        1.5,
        "rise rises rose rising climb climbs climbed climbing jump jumps jumped rebound rebounds",
    ),
    (1.5, "rebounded recover recovers recovered recovery inflow inflows adoption upgrade upgrades"),
    (-1.5, "fall falls fell falling drops dropped decline declines declined slide slides slid dip"),
    (-1.5, "dips dipped outflow outflows volatility outage halts halted delist delists delisted"),
    (-1.9, "bearish slump slumps slumped tumble tumbles tumbled selloff sell-off liquidated"),
    (-1.9, "liquidation liquidations sues sued probe probes downgrade downgrades depeg depegs"),
    (-2.3, "plunge plunges plunged plunging plummet plummets plummeted crashes crashed crashing"),
    (-2.3, "hack hacks hacker hackers breach breached seized bans ponzi insolvent insolvency"),
    (-2.6, "bankruptcy"),
)
# Words of everyday warmth, coldness or worth that in market reports name a thing.
_PLAIN = (
    "share shares security securities trust trusts united treasury treasuries interest interests "
    "asset assets value values energy credit gross block fork token play top stable like novel"
)


def score(title: str) -> float | None:
    """From -1, bad news, to 1, good news; ``None`` where the lexicon knows none of the words."""
    found = _analyser().polarity_scores(title)
    if found["pos"] == 0 and found["neg"] == 0:
        return None
    return round(float(found["compound"]), 4)


def terms() -> dict[str, float]:
    """Our own terms and their ratings, added to VADER's."""
    return {word: rating for rating, words in _TERMS for word in words.split()}


@functools.cache
def _analyser() -> SentimentIntensityAnalyzer:
    """Loaded when there is something new to score: 15 to 30 ms and 3 MiB, once a process."""
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    analyser = SentimentIntensityAnalyzer()
    for word in _PLAIN.split():
        analyser.lexicon.pop(word, None)
    analyser.lexicon.update(terms())
    return analyser
''')


###################################################################################################
_LOADER.modules["shared.market.sentiment.text"] = ("shared/market/sentiment/text.py", r'''"""Text from strangers, made harmless: it is shown and scored, and never obeyed.

What is taken out: markup and entities; control, format, zero-width, bidirectional and tag
characters, variation selectors and blank letters, by which text can be hidden from a person and
shown to a model (Unicode Technical Report 36, "Unicode Security Considerations", and UTS 39);
combining marks beyond two on a letter. What is left is in Unicode's form NFKC.
"""

from __future__ import annotations

import functools
import html
import re
import unicodedata

MAX_LENGTH = 200
"""Characters of a cleaned text. Headlines are shorter; what is longer is cut."""

_MAX_RAW = 4_000  # the work on one text is bounded before it begins
_MAX_LAYERS = 5
_MAX_MARKS = 2
_MARKUP = re.compile(
    r"<!--.*?-->|<(script|style)\b.*?</\1\s*>|<[!/?a-z][^<>]*>", re.DOTALL | re.IGNORECASE
)
_BLANK_LETTERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
_HIDING_MARKS = (
    (0x034F, 0x034F),  # combining grapheme joiner
    (0x17B4, 0x17B5),  # Khmer inherent vowels
    (0x180B, 0x180F),  # Mongolian variation selectors
    (0xFE00, 0xFE0F),  # variation selectors
    (0xE0100, 0xE01EF),  # variation selectors supplement
)


def clean(raw: str) -> str:
    """One line of plain visible text, at most ``MAX_LENGTH`` characters; perhaps an empty one.

    Markup may hide in entities and entities in full-width letters, so the steps are repeated
    until nothing changes. What is wrapped more than five layers deep was not meant for a reader
    and becomes the empty text. ``clean`` of a cleaned text is the same text.
    """
    text = raw[:_MAX_RAW]
    for _ in range(_MAX_LAYERS):
        before, text = text, _unwrapped(text)
        if text == before:
            return text[:MAX_LENGTH].rstrip()
    return ""


@functools.lru_cache(maxsize=1_024)  # the same headlines come with every minute
def same_story(text: str) -> str:
    """A key that headlines share if they differ in case, punctuation and spaces only."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def _unwrapped(text: str) -> str:
    text = unicodedata.normalize("NFKC", html.unescape(text))
    text = _MARKUP.sub(" ", _visible(text))
    return " ".join(text.split())


def _visible(text: str) -> str:
    kept: list[str] = []
    marks = 0
    for character in text:
        category = unicodedata.category(character)
        if category in ("Cc", "Zl", "Zp"):
            kept.append(" ")
        elif category[0] != "C" and not _hides(character):
            marks = marks + 1 if category[0] == "M" else 0
            if marks <= _MAX_MARKS:
                kept.append(character)
    return "".join(kept)


def _hides(character: str) -> bool:
    if character < "\u034f":
        return False
    code = ord(character)
    return character in _BLANK_LETTERS or any(low <= code <= high for low, high in _HIDING_MARKS)
''')


###################################################################################################
_LOADER.modules["shared.market.sentiment.web"] = ("shared/market/sentiment/web.py", r'''"""A careful GET for addresses whose answers come from strangers.

An answer may lead only to the origins that the configuration names, over TLS, at most three times,
and the connection must end at a public address: what a name resolves to is judged where it counts,
at the socket, so that no later resolution can differ. Size and time are bounded in all.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from shared import clock
from shared.errors import DataUnavailable

if TYPE_CHECKING:
    import requests

MAX_BYTES = 512 * 1024
TIMEOUT_S = 2.0
"""For connecting and for each silence within an answer."""
TOTAL_S = 4.0
"""For all redirects and the whole body."""
_MAX_REDIRECTS = 3
_CHUNK_BYTES = 65_536
_REDIRECTS = (301, 302, 303, 307, 308)
_HEADERS = {
    "Accept": "application/rss+xml, application/atom+xml, application/xml;q=0.9, text/xml;q=0.9",
    "Accept-Encoding": "identity",  # a compressed answer could be larger than it seems
    "User-Agent": "autonomous-trading-loop/0.1 (headlines, at most once in ten minutes)",
}

Origin = tuple[str, str, int]
IsAllowed = Callable[[str], bool]


@dataclass(frozen=True)
class Fence:
    """Where requests may go.

    Attributes:
        origins: scheme, host and port of each address that is configured.
        is_allowed: judges the IP address that a connection has reached.
    """

    origins: frozenset[Origin]
    is_allowed: IsAllowed


def is_public(address: str) -> bool:
    """Whether an IP address is none of a private, local or reserved network."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None)
    return (mapped or ip).is_global and not ip.is_multicast


def is_this_machine(address: str) -> bool:
    """Whether an IP address is a loopback one, where the local stand-ins listen."""
    return ipaddress.ip_address(address).is_loopback


def fence(urls: Iterable[str], *, stand_in: bool = False) -> Fence:
    """The fence around ``urls``; with ``stand_in`` around stand-ins on this machine."""
    is_allowed = is_this_machine if stand_in else is_public
    return Fence(frozenset(_origin(url) for url in urls), is_allowed)


def get(url: str, within: Fence) -> bytes:
    """The body at ``url``.

    Raises:
        DataUnavailable: says why in words of our own; nothing of the answer is quoted.
    """
    import requests
    from urllib3.exceptions import HTTPError

    watch = clock.Stopwatch()
    with requests.Session() as session:
        session.trust_env = False  # behind a proxy nobody could judge where a connection ends
        session.mount("https://", _adapter(within.is_allowed, "https"))
        session.mount("http://", _adapter(within.is_allowed, "http"))
        try:
            for _ in range(1 + _MAX_REDIRECTS):
                _check_origin(url, within)
                with session.get(
                    url, headers=_HEADERS, timeout=TIMEOUT_S, stream=True, allow_redirects=False
                ) as answer:
                    if answer.status_code not in _REDIRECTS:
                        return _body(answer, watch)
                    url = urljoin(url, answer.headers.get("Location", ""))
        except (requests.RequestException, HTTPError, OSError) as error:
            raise DataUnavailable(type(error).__name__) from error
        except ValueError as error:  # an address that cannot be taken apart
            raise DataUnavailable("malformed address") from error
    raise DataUnavailable(f"more than {_MAX_REDIRECTS} redirects")


def _origin(url: str) -> Origin:
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    return parts.scheme, parts.hostname or "", port


def _check_origin(url: str, within: Fence) -> None:
    if _origin(url) not in within.origins:
        raise DataUnavailable("leads to an address that is not configured")


def _body(answer: requests.Response, watch: clock.Stopwatch) -> bytes:
    if answer.status_code != 200:
        raise DataUnavailable(f"HTTP {answer.status_code}")
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise DataUnavailable("compressed, though asked not to be")
    body = bytearray()
    # `read1` returns what has come; `read` would wait for the rest of a chunk, drop by drop.
    while chunk := answer.raw.read1(_CHUNK_BYTES):
        body += chunk
        if len(body) > MAX_BYTES:
            raise DataUnavailable(f"longer than {MAX_BYTES} bytes")
        if watch.seconds() > TOTAL_S:
            raise DataUnavailable(f"not complete after {TOTAL_S:g} s")
    return bytes(body)


def _adapter(is_allowed: IsAllowed, scheme: str) -> Any:
    """An adapter of requests whose connections end where ``is_allowed`` lets them.

    Built when it is needed, since requests and urllib3 are not loaded with this module.
    """
    from requests.adapters import HTTPAdapter

    class Fenced(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, **kwargs)
            self.poolmanager.pool_classes_by_scheme = {scheme: _pool_class(is_allowed, scheme)}

    return Fenced()


@functools.cache
def _pool_class(is_allowed: IsAllowed, scheme: str) -> type[Any]:
    from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
    from urllib3.connection import HTTPConnection, HTTPSConnection

    plain: Any = HTTPConnection if scheme == "http" else HTTPSConnection
    pool: Any = HTTPConnectionPool if scheme == "http" else HTTPSConnectionPool

    class Connection(plain):
        def _new_conn(self) -> Any:
            connected = super()._new_conn()
            if not is_allowed(connected.getpeername()[0]):
                connected.close()
                raise DataUnavailable("resolves to an internal address")
            return connected

    return type("FencedPool", (pool,), {"ConnectionCls": Connection})
''')


###################################################################################################
_LOADER.modules["shared.market.symbol_table"] = ("shared/market/symbol_table.py", r'''"""One symbol's part of a scan: everything that its inputs say, and what is lacking."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from shared.config import Config
from shared.errors import DataUnavailable
from shared.market import crosscheck, fees, microstructure, packing, patterns
from shared.market.flow import order_flow
from shared.market.gathering.gather import Gathered, SymbolInputs
from shared.market.packing import Market
from shared.market.score import entry_score, features, round_trip
from shared.market.score.barrier import ExitRules
from shared.market.score.entry_score import Odds, Score
from shared.market.technical import indicators
from shared.market.types import Quote


@dataclass(frozen=True)
class _Seen:
    """What one symbol's inputs say; whatever could not be had is absent or ``None``."""

    indicators: dict[str, dict[str, float]]
    patterns: list[patterns.Pattern]
    order_flow: dict[str, Any] | None
    microstructure: dict[str, Any] | None


@dataclass(frozen=True)
class Price:
    """A venue's price of a symbol, as it goes into the ledger."""

    venue: str
    symbol: str
    quote: Quote


def build(
    symbol: str, gathered: Gathered, config: Config, sizes: Sequence[int], now_ms: int
) -> tuple[Market, list[Price]]:
    """The table of ``symbol``, and the venues' prices of it that may be believed.

    Args:
        sizes: orders of the pod in quote currency, the smallest of which an entry would be.
    """
    inputs, missing = gathered.by_symbol.get(symbol), list(gathered.missing_by_symbol[symbol])
    quotes = {venue: found[symbol] for venue, found in gathered.quotes.items() if symbol in found}
    if inputs is not None:
        quotes = {inputs.venue: microstructure.best(inputs.book)} | quotes
        missing += inputs.missing
    minutes = None if inputs is None else inputs.refreshed.windows.get("1m")
    prints = () if inputs is None else inputs.flash_prints
    verdict = crosscheck.judge(quotes, minutes, prints)
    seen = _seen(inputs, missing, sizes, now_ms)
    scored = _score(inputs, config, sizes[0], missing, now_ms)
    mood = None if gathered.sentiment is None else gathered.sentiment.of(symbol)
    if mood is None:
        missing.append("sentiment")
    if inputs is None:
        missing.insert(0, "price")
    market: Market = {
        "symbol": symbol,
        "venue": None if inputs is None else inputs.venue,
        "price": None if inputs is None else inputs.book.mid,
        "price_at_ms": None if inputs is None else inputs.book.at_ms,
        "indicators": seen.indicators,
        "patterns": seen.patterns,
        "order_flow": seen.order_flow,
        "microstructure": seen.microstructure,
        "venues": {v: {"bid": q.bid, "ask": q.ask, "at_ms": q.at_ms} for v, q in quotes.items()},
        "sentiment": mood,
        "derivatives": _derivatives(symbol, gathered),
        **_scores(None if verdict.anomaly else scored),
        "missing": missing,
    }
    if inputs is not None and (settling := _settling(inputs, seen)):
        market["settling"] = settling
    if verdict.anomaly:
        market["anomaly"] = verdict.anomaly
    return market, [Price(venue, symbol, quotes[venue]) for venue in verdict.trusted]


def pegs(gathered: Gathered) -> list[Price]:
    """What the venues tell of the quote currency's worth: kept with the prices, no market of ours.

    None of them is sorted out as an untrusted one would be: a peg that one venue alone shows broken
    may be the first to break.
    """
    return [
        Price(venue, pair, quote)
        for venue, told in gathered.pegs.items()
        for pair, quote in told.items()
    ]


def _derivatives(symbol: str, gathered: Gathered) -> dict[str, Any] | None:
    return None if gathered.derivatives is None else gathered.derivatives.by_symbol[symbol]


def _score(
    inputs: SymbolInputs | None, config: Config, notional: float, missing: list[str], now_ms: int
) -> Score | None:
    """The chance of a long entry of ``notional`` quote at the venue that serves the symbol."""
    if inputs is None:
        missing.append("ai_score")
        return None
    taker_bps = fees.ENTRY_TIER[inputs.venue].taker_bps
    cost = _or_missing(
        "cost", missing, lambda: round_trip.cost_bps(inputs.book, taker_bps, notional)
    )
    candles = features.newest(inputs.venue, inputs.refreshed.windows, now_ms)
    scored = entry_score.score(entry_score.Evidence(candles, cost), ExitRules.of(config))
    missing += [f"ai_score.{name}" for name in scored.missing]
    return scored


def _scores(scored: Score | None) -> dict[str, Any]:
    """What of the score is exported; the sum of the contributions is the logit of the value.

    Rounded before the rank is compared with the threshold, so that the export tells why.
    """
    if scored is None:
        return {
            "ai_score": None,
            "ai_score_rank": None,
            "odds": None,
            "contributions": {},
            "calibrated": False,
        }
    return {
        "ai_score": packing.compact(scored.value),
        "ai_score_rank": packing.compact(scored.rank),
        "ai_score_at_ms": scored.at_ms,
        "odds": None if scored.odds is None else _odds(scored.odds),
        "contributions": {name: round(part, 5) for name, part in scored.contributions.items()},
        "calibrated": scored.calibrated,
        "uncalibrated_because": scored.uncalibrated_because,
    }


def _odds(odds: Odds) -> dict[str, float]:
    return {name: round(value, 4) for name, value in vars(odds).items()}


def _seen(
    inputs: SymbolInputs | None, missing: list[str], sizes: Sequence[int], now_ms: int
) -> _Seen:
    """What the inputs say; what they do not say is added to ``missing``."""
    if inputs is None:
        missing += ["indicators", "patterns", "order_flow", "microstructure"]
        return _Seen({}, [], None, None)
    windows = inputs.refreshed.windows
    by_timeframe = {}
    for timeframe, candles in windows.items():
        by_timeframe[timeframe] = values = indicators.newest(inputs.venue, candles)
        missing += [f"{timeframe}:{name}" for name in indicators.absent(values, len(candles))]
    flow = _or_missing("order_flow", missing, lambda: _order_flow(inputs, missing, now_ms))
    book = _or_missing(
        "microstructure", missing, lambda: microstructure.measure(inputs.book, now_ms, sizes)
    )
    missing += [] if book is None else microstructure.lacking(book)
    absent_shapes = [timeframe for timeframe in patterns.TIMEFRAMES if timeframe not in windows]
    missing += [f"patterns.{timeframe}" for timeframe in absent_shapes]
    return _Seen(by_timeframe, _patterns(inputs), flow, book)


def _order_flow(inputs: SymbolInputs, missing: list[str], now_ms: int) -> dict[str, Any]:
    """This minute's pressure, and what it adds up to over the minutes before."""
    newest = order_flow.measure(inputs.trades or [], now_ms)
    summed = _or_missing(
        "order_flow.cvd", missing, lambda: order_flow.cumulative(inputs.flow, now_ms)
    )
    if summed is None:
        return newest
    missing += order_flow.lacking(summed, inputs.flow)
    return newest | summed


def _settling(inputs: SymbolInputs, seen: _Seen) -> dict[str, dict[str, float]]:
    """By timeframe, the share of the start in indicators that have not forgotten it yet."""
    found = {
        timeframe: indicators.settling(seen.indicators[timeframe], len(candles))
        for timeframe, candles in inputs.refreshed.windows.items()
    }
    return {timeframe: weights for timeframe, weights in found.items() if weights}


def _patterns(inputs: SymbolInputs) -> list[patterns.Pattern]:
    windows = inputs.refreshed.windows
    looked_at = (windows[timeframe] for timeframe in patterns.TIMEFRAMES if timeframe in windows)
    return [pattern for candles in looked_at for pattern in patterns.newest(inputs.venue, candles)]


def _or_missing[Measured](
    name: str, missing: list[str], measure: Callable[[], Measured]
) -> Measured | None:
    try:
        return measure()
    except DataUnavailable as error:
        missing.append(f"{name}:{error}")
        return None
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
_LOADER.modules["shared.market.universe"] = ("shared/market/universe/__init__.py", r'''"""Which symbols are traded where ``SYMBOLS`` is ``auto``.

``choosing`` decides from figures alone, ``histories`` and ``refreshing`` gather them over the
minutes and put a choice in force.
"""

from shared.market.universe.choosing import Choice
from shared.market.universe.exporting import as_export, missing
from shared.market.universe.refreshing import refresh

__all__ = ["Choice", "as_export", "missing", "refresh"]
''')


###################################################################################################
_LOADER.modules["shared.market.universe.choosing"] = ("shared/market/universe/choosing.py", r'''"""Choose the universe from figures: filters, ranks and hysteresis. Asks nobody anything.

Candidates are looked at from the most traded down. The rank of a symbol is its place among those
that pass every filter. The N first are the universe, except that a member of the last one stays
while it ranks within 1.5 N and fails no filter clearly, so that the universe does not churn.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from shared.config import Config
from shared.execution.venues.listings import Listed
from shared.market.kinds import kind_of

_STAYS_WITHIN = 1.5  # times N
# By how much a member may miss a limit before it fails it clearly. A day's turnover and a spread
# at one moment are noisy; ages only grow, and a backup venue is there or not.
_VOLUME_SLACK, _SPREAD_SLACK = 2 / 3, 1.5
_LOW_VOLATILITY_SLACK, _HIGH_VOLATILITY_SLACK = 0.8, 1.25


@dataclass(frozen=True)
class Limits:
    """What a symbol must pass. See ``UNIVERSE_*`` for the units."""

    size: int
    min_age_days: int
    min_volume_quote: float
    max_spread_bps: float
    min_volatility_percent: float
    max_volatility_percent: float
    backup_venues: int

    @classmethod
    def of(cls, config: Config) -> Limits:
        return cls(
            size=config.universe_size,
            min_age_days=config.universe_min_age_days,
            min_volume_quote=float(config.universe_min_volume_quote),
            max_spread_bps=float(config.universe_max_spread_bps),
            min_volatility_percent=config.universe_min_volatility_percent,
            max_volatility_percent=config.universe_max_volatility_percent,
            backup_venues=config.universe_backup_venues,
        )

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class History:
    """What a symbol's daily candles say.

    Attributes:
        age_days: since the first of those that were asked for: at least so old.
        volatility_percent: of 30 daily returns, annualised; ``None`` with fewer of them.
        pegged: its price stays at one quote, as a stablecoin's does.
        spread_bps: of its book, where the listing does not tell it.
        failure: why the candles could not be had; then the rest is not known.
    """

    age_days: float | None = None
    volatility_percent: float | None = None
    pegged: bool = False
    spread_bps: float | None = None
    failure: str | None = None


@dataclass(frozen=True)
class Excluded:
    """A symbol that is not taken, with the first limit that it misses."""

    symbol: str
    reason: str
    value: float | str | None
    limit: float | None


@dataclass(frozen=True)
class Member:
    """A symbol that is taken, with its figures; ``None`` where it stays without being known."""

    symbol: str
    rank: int
    quote_volume: float | None
    spread_bps: float | None
    age_days: float | None
    volatility_percent: float | None
    backups: tuple[str, ...]


@dataclass(frozen=True)
class Choice:
    """A universe, or what is still to be asked for.

    Attributes:
        members: in the order of their rank; empty while something is wanted.
        excluded: everything else that is listed, most traded first.
        wanted: symbols whose history decides, most traded first.
    """

    members: tuple[Member, ...]
    excluded: tuple[Excluded, ...]
    wanted: tuple[str, ...]


Backups = Mapping[str, Collection[str] | None]
"""The symbols that each venue besides the primary one trades; ``None`` where it did not answer."""


def choose(
    listing: Sequence[Listed],
    histories: Mapping[str, History],
    backups: Backups,
    inside: Collection[str],
    limits: Limits,
) -> Choice:
    """Choose among ``listing``; ``inside`` are the members of the universe in force."""
    bases = {listed.symbol.split("/")[0] for listed in listing}
    ordered = _most_traded_first(listing)
    enough = math.ceil(_STAYS_WITHIN * limits.size)
    passing: list[Member] = []
    excluded: list[Excluded] = []
    wanted: list[str] = []
    for listed in ordered:
        judge = _Judge(listed, backups, listed.symbol in inside, limits)
        problem = judge.by_listing(bases)
        if problem is None and len(passing) + len(wanted) >= enough:
            # None of these can reach the ranks that matter: their histories are not asked for.
            problem = Excluded(listed.symbol, "RANK_LOW", None, float(enough))
        if problem is None and listed.symbol not in histories:
            wanted.append(listed.symbol)
            continue
        if problem is None:
            problem = judge.by_history(histories[listed.symbol])
        if problem is None:
            passing.append(judge.member(len(passing) + 1, histories[listed.symbol]))
        else:
            excluded.append(problem)
    if wanted:
        return Choice((), (), tuple(wanted))
    members = _seated(passing, inside, limits.size)
    taken = {member.symbol for member in members}
    excluded += [
        Excluded(one.symbol, "RANK_LOW", float(one.rank), float(limits.size))
        for one in passing
        if one.symbol not in taken
    ]
    listed_symbols = {listed.symbol for listed in listing}
    excluded += [
        Excluded(symbol, "LISTING_ABSENT", None, None)
        for symbol in sorted(inside)
        if symbol not in listed_symbols
    ]
    place = {listed.symbol: number for number, listed in enumerate(ordered)}
    excluded.sort(key=lambda one: place.get(one.symbol, -1))
    return Choice(tuple(members), tuple(excluded), ())


def _most_traded_first(listing: Sequence[Listed]) -> list[Listed]:
    """Each symbol once, by its larger market where a venue has two."""
    ordered = sorted(listing, key=lambda listed: (-(listed.quote_volume or 0), listed.symbol))
    once: dict[str, Listed] = {}
    for listed in ordered:
        once.setdefault(listed.symbol, listed)
    return list(once.values())


def _seated(passing: Sequence[Member], inside: Collection[str], size: int) -> list[Member]:
    """Members keep their seats as far as they are ranked here; the best others take the rest."""
    staying = [member for member in passing if member.symbol in inside][:size]
    others = [member for member in passing if member.symbol not in inside]
    return sorted(staying + others[: size - len(staying)], key=lambda member: member.rank)


class _Judge:
    """One symbol against the limits, with slack where it is a member already."""

    def __init__(self, listed: Listed, backups: Backups, inside: bool, limits: Limits) -> None:
        self._listed = listed
        self._inside = inside
        self._limits = limits
        self._backups = tuple(v for v, known in backups.items() if known and self._on(known))
        self._silent = sum(known is None for known in backups.values())

    def _on(self, known: Collection[str]) -> bool:
        return self._listed.symbol in known

    def by_listing(self, bases: Collection[str]) -> Excluded | None:
        """The first limit that the listing shows to be missed."""
        listed, limits = self._listed, self._limits
        kind = kind_of(listed.symbol.split("/")[0], bases)
        if kind is not None:
            return self._out(kind, None, None)
        if not listed.active:
            return self._out("LISTING_INACTIVE", None, None)
        if listed.quote_volume is None:
            return self._out("VOLUME_MISSING", None, limits.min_volume_quote)
        least = limits.min_volume_quote * (_VOLUME_SLACK if self._inside else 1)
        if listed.quote_volume < least:
            return self._out("VOLUME_LOW", listed.quote_volume, least)
        spread_bps = spread_of(listed.bid, listed.ask)
        return self._by_backups() or (self._by_spread(spread_bps) if spread_bps else None)

    def by_history(self, history: History) -> Excluded | None:
        """The first limit that its candles, and its book where that was asked for, miss."""
        limits = self._limits
        if history.failure is not None:
            # What could not be looked at is no reason to drop a member, nor one to take a stranger.
            return None if self._inside else self._out("HISTORY_MISSING", history.failure, None)
        if history.age_days is None or history.age_days < limits.min_age_days:
            return self._out("AGE_SHORT", history.age_days, float(limits.min_age_days))
        spread_bps = spread_of(self._listed.bid, self._listed.ask) or history.spread_bps
        problem = self._by_spread(spread_bps)
        if problem is not None:
            return problem
        if history.volatility_percent is None:
            return self._out("VOLATILITY_MISSING", None, limits.min_volatility_percent)
        if history.pegged:
            return self._out("KIND_PEGGED", history.volatility_percent, None)
        return self._by_volatility(history.volatility_percent)

    def member(self, rank: int, history: History) -> Member:
        listed = self._listed
        spread_bps = spread_of(listed.bid, listed.ask) or history.spread_bps
        return Member(
            listed.symbol,
            rank,
            listed.quote_volume,
            spread_bps,
            history.age_days,
            history.volatility_percent,
            self._backups,
        )

    def _by_backups(self) -> Excluded | None:
        needed, known = self._limits.backup_venues, len(self._backups)
        if known >= needed or (self._inside and known + self._silent >= needed):
            return None
        unsure = known + self._silent >= needed
        reason = "BACKUPS_UNKNOWN" if unsure else "BACKUPS_FEW"
        return self._out(reason, float(known), float(needed))

    def _by_spread(self, spread_bps: float | None) -> Excluded | None:
        most = self._limits.max_spread_bps * (_SPREAD_SLACK if self._inside else 1)
        if spread_bps is None:
            return self._out("SPREAD_MISSING", None, most)
        return self._out("SPREAD_WIDE", spread_bps, most) if spread_bps > most else None

    def _by_volatility(self, percent: float) -> Excluded | None:
        least = self._limits.min_volatility_percent * (_LOW_VOLATILITY_SLACK if self._inside else 1)
        most = self._limits.max_volatility_percent * (_HIGH_VOLATILITY_SLACK if self._inside else 1)
        if percent < least:
            return self._out("VOLATILITY_LOW", percent, least)
        return self._out("VOLATILITY_HIGH", percent, most) if percent > most else None

    def _out(self, reason: str, value: float | str | None, limit: float | None) -> Excluded:
        return Excluded(self._listed.symbol, reason, value, limit)


def spread_of(bid: float | None, ask: float | None) -> float | None:
    """In bps of the middle; ``None`` where a side is missing or they cross."""
    if bid is None or ask is None or ask <= bid:
        return None
    return (ask - bid) / (ask + bid) * 20_000
''')


###################################################################################################
_LOADER.modules["shared.market.universe.exporting"] = ("shared/market/universe/exporting.py", r'''"""What a scan tells of its universe."""

from __future__ import annotations

from collections import Counter
from typing import Any

from shared import clock
from shared.market.universe.choosing import Choice
from shared.run import Run

_MOST_EXCLUDED = 40  # the most traded ones; the ledger and `trading-loop universe` have them all


def as_export(run: Run, chosen: Choice | None) -> dict[str, Any]:
    """Where the symbols come from, and in the run of a choice what was left out and why.

    ``failure`` says why the choice that is due could not be made; the universe is then the old one.
    """
    universe = run.universe
    shown: dict[str, Any] = {
        "source": "chosen" if run.config.chooses_symbols else "configured",
        "symbols": list(universe.buyable),
        "leaving": list(universe.leaving),
    }
    if not run.config.chooses_symbols:
        return shown
    at = universe.chosen_at
    shown["chosen_at_ms"] = None if at is None else clock.to_ms(at)
    shown["is_being_chosen"] = universe.started_at is not None
    shown["failure"] = universe.failure
    if chosen is not None:
        shown["excluded"] = [
            {"symbol": x.symbol, "reason": x.reason, "value": x.value, "limit": x.limit}
            for x in chosen.excluded[:_MOST_EXCLUDED]
        ]
        shown["excluded_by_reason"] = dict(Counter(x.reason for x in chosen.excluded))
    return shown


def missing(run: Run) -> list[str]:
    """What a scan lacks where nothing may be bought because nothing has been chosen yet."""
    if run.universe.buyable:
        return []
    return [f"universe:{run.universe.failure or 'being chosen'}"]
''')


###################################################################################################
_LOADER.modules["shared.market.universe.histories"] = ("shared/market/universe/histories.py", r'''"""A symbol's age and volatility, from its daily candles."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import pairwise

from shared import clock
from shared.errors import VenueUnavailable
from shared.execution.venues.base import PublicVenue
from shared.execution.venues.listings import DAY_MS, Listed
from shared.market.kinds import is_pegged
from shared.market.universe.choosing import History, Limits, spread_of

_RETURNS = 30
_DAYS_A_YEAR = 365
_SPARE_DAYS = 2  # the open candle, and one that a venue may leave out


def look(venue: PublicVenue, listed: Listed, limits: Limits) -> History:
    """Ask for the days that the age limit needs, and for the book where the listing told no spread.

    Raises:
        VenueUnavailable: the venue did not answer as it should.
    """
    count = max(limits.min_age_days, _RETURNS + 1) + _SPARE_DAYS
    days = venue.daily_closes(listed.market_id, count)
    if not days:
        raise VenueUnavailable(f"{venue.name}: {listed.symbol}: days: expected some, was none")
    now_ms = clock.now_ms()
    closes = [close for open_ms, close in days if open_ms + DAY_MS <= now_ms]
    spread_bps = None
    if spread_of(listed.bid, listed.ask) is None:
        spread_bps = spread_of(*venue.best_of(listed.market_id))
    volatility = volatility_percent(closes)
    return History(
        age_days=(now_ms - days[0][0]) / DAY_MS,
        volatility_percent=volatility,
        pegged=volatility is not None and is_pegged(closes[-1], volatility),
        spread_bps=spread_bps,
    )


def volatility_percent(closes: Sequence[float]) -> float | None:
    """Standard deviation of the newest 30 daily log returns, annualised by 365 days."""
    newest = closes[-_RETURNS - 1 :]
    if len(newest) <= _RETURNS:
        return None
    returns = [math.log(after / before) for before, after in pairwise(newest)]
    return 100 * statistics.stdev(returns) * math.sqrt(_DAYS_A_YEAR)
''')


###################################################################################################
_LOADER.modules["shared.market.universe.refreshing"] = ("shared/market/universe/refreshing.py", r'''"""Keep the universe chosen: gather its figures over the minutes, and put a choice in force.

A choice begins with one look at each venue's listing and goes on with a few daily histories a run,
so that no minute is late for it. What it knows lies in the ledger between the runs. Until it is
made, and where it fails, the universe in force stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any

from shared import clock
from shared.errors import DataUnavailable, VenueError
from shared.execution.venues.base import PublicVenue
from shared.execution.venues.listings import Listed
from shared.ledger import alerts, events, universes
from shared.ledger.universes import Universe
from shared.market.universe import histories
from shared.market.universe.choosing import Choice, History, Limits, choose
from shared.run import Run

RETRY_AFTER = timedelta(minutes=15)
"""The pause after a failure: a listing weighs as much as twenty books."""

_MOST_HISTORIES, _MOST_SECONDS = 12, 4.0  # of one run that scans as well
_FIRST_HISTORIES, _FIRST_SECONDS = 40, 12.0  # of one that has nothing to scan yet
_MOST_TRIES = 3
_LISTING_MAX_AGE_MS = 3_600_000


@dataclass
class Progress:
    """A choice that is being made, as it lies in the ledger between two runs.

    Attributes:
        at_ms: when the listing was read.
        venue, quote: what it is the listing of.
        backups: by venue, the listed symbols that it trades too; ``None`` where it did not answer.
        tries: failed requests by symbol.
    """

    at_ms: int
    venue: str
    quote: str
    listing: list[Listed]
    backups: dict[str, list[str] | None]
    histories: dict[str, History] = field(default_factory=dict)
    tries: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Progress:
        return cls(
            at_ms=kept["at_ms"],
            venue=kept["venue"],
            quote=kept["quote"],
            listing=[Listed(**row) for row in kept["listing"]],
            backups=dict(kept["backups"]),
            histories={name: History(**row) for name, row in kept["histories"].items()},
            tries=dict(kept["tries"]),
        )

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def refresh(run: Run, open_venues: Callable[[], Mapping[str, PublicVenue]]) -> Choice | None:
    """Go on with the choice of the universe where one is due.

    Args:
        open_venues: the venues, the primary one first; asked for only where a choice is due.

    Returns:
        The choice, if it was put in force in this run.

    Raises:
        DataUnavailable: the very first choice has failed, so that there is nothing to trade. Later
            failures are kept, told, and leave the universe as it is.
        LedgerUnavailable, LeaseLost: nothing was kept.
    """
    if not is_due(run):
        return None
    before = run.universe
    try:
        return advance(run, open_venues())
    except (VenueError, DataUnavailable) as error:
        _note_failure(run, before, str(error))
        if not before.pairs:
            raise DataUnavailable(f"UNIVERSE_MISSING: {error}") from error
        return None
    finally:
        run.read_universe_again()


def is_due(run: Run) -> bool:
    """Whether this run should work on a choice; reads nothing but ``run.universe``."""
    if not run.config.chooses_symbols:
        return False
    universe, now = run.universe, clock.now()
    if universe.failed_at is not None and now < universe.failed_at + RETRY_AFTER:
        return False
    if universe.started_at is not None or universe.chosen_at is None:
        return True
    if universe.limits != Limits.of(run.config).as_json():
        return True
    return now >= universe.chosen_at + timedelta(hours=run.config.universe_refresh_hours)


def advance(
    run: Run,
    venues: Mapping[str, PublicVenue],
    *,
    patient: bool = False,
    guard: Callable[[], None] | None = None,
) -> Choice | None:
    """One run's part of a choice; the choice where this part was the last.

    Args:
        patient: go on to the end, however many requests it takes.
        guard: proves inside each transaction that this run may write; its lease, if not given.

    Raises:
        DataUnavailable, VenueUnavailable: it cannot be made now; what is known is kept.
    """
    limits, inside = Limits.of(run.config), run.universe.buyable
    guard = guard or run.guard
    progress = _kept_progress(run) or _begin(run, venues)
    choice = choose(progress.listing, progress.histories, progress.backups, inside, limits)
    try:
        left = _Allowance(first=not inside, patient=patient)
        while choice.wanted and left.any():
            _ask(venues[progress.venue], progress, choice.wanted, limits, left)
            choice = choose(progress.listing, progress.histories, progress.backups, inside, limits)
    finally:
        with run.ledger.transaction():
            guard()
            universes.keep_progress(run.ledger, progress.as_json(), failure=None)
    if choice.wanted:
        return None
    _refuse_implausible(choice, progress, inside)
    _put_in_force(run, choice, limits, guard)
    return choice


def _kept_progress(run: Run) -> Progress | None:
    """What earlier runs have gathered, as long as it is fresh and of the same market."""
    kept = universes.progress(run.ledger)
    if kept is None:
        return None
    progress = Progress.of(kept)
    market = (run.config.venues[0], run.config.quote_currency)
    fresh = clock.now_ms() - progress.at_ms <= _LISTING_MAX_AGE_MS
    return progress if fresh and (progress.venue, progress.quote) == market else None


def _begin(run: Run, venues: Mapping[str, PublicVenue]) -> Progress:
    """Read the listings. Only the primary venue's is needed to begin."""
    primary, *others = venues.values()
    quote = run.config.quote_currency
    listing = primary.listing(quote)
    if not listing:
        raise DataUnavailable(f"{primary.name}: listing: expected symbols against {quote}")
    symbols = {listed.symbol for listed in listing}
    backups: dict[str, list[str] | None] = {}
    for other in others:
        try:
            there = other.listing(quote)
            backups[other.name] = sorted({x.symbol for x in there if x.active} & symbols)
        except VenueError:
            backups[other.name] = None  # counted in the call log; nobody is dropped for it
    return Progress(clock.now_ms(), primary.name, quote, listing, backups)


class _Allowance:
    """How much one run may still ask for a choice."""

    def __init__(self, *, first: bool, patient: bool) -> None:
        self._watch = clock.Stopwatch()
        self._requests = _FIRST_HISTORIES if first else _MOST_HISTORIES
        self._seconds = _FIRST_SECONDS if first else _MOST_SECONDS
        self._patient = patient

    def any(self) -> bool:
        used_up = self._requests <= 0 or self._watch.seconds() > self._seconds
        return self._patient or not used_up

    def take(self) -> None:
        self._requests -= 1


def _ask(
    venue: PublicVenue,
    progress: Progress,
    wanted: tuple[str, ...],
    limits: Limits,
    left: _Allowance,
) -> None:
    """Histories of ``wanted``, as many as may be asked for.

    Raises:
        VenueUnavailable: several failed and none came.
    """
    by_symbol = {listed.symbol: listed for listed in progress.listing}
    failed: list[VenueError] = []
    came = 0
    for symbol in wanted:
        if not left.any():
            break
        left.take()
        try:
            progress.histories[symbol] = histories.look(venue, by_symbol[symbol], limits)
            came += 1
        except VenueError as error:
            failed.append(error)
            progress.tries[symbol] = progress.tries.get(symbol, 0) + 1
            if progress.tries[symbol] >= _MOST_TRIES:
                progress.histories[symbol] = History(failure=str(error))
    if len(failed) >= _MOST_TRIES and not came:
        raise failed[-1]


def _refuse_implausible(choice: Choice, progress: Progress, inside: tuple[str, ...]) -> None:
    """An answer that was cut looks as if most symbols had been delisted."""
    listed = {one.symbol for one in progress.listing}
    gone = [symbol for symbol in inside if symbol not in listed]
    if 2 * len(gone) > len(inside):
        raise DataUnavailable(
            f"{progress.venue}: listing: expected most of the {len(inside)} members of the "
            f"universe, lacks {len(gone)}"
        )
    if not choice.members:
        reasons = Counter(excluded.reason for excluded in choice.excluded)
        shown = ", ".join(f"{reason}={count}" for reason, count in reasons.most_common())
        raise DataUnavailable(f"universe: expected a symbol that passes UNIVERSE_*, was {shown}")


def _put_in_force(run: Run, choice: Choice, limits: Limits, guard: Callable[[], None]) -> None:
    before, now = run.universe.buyable, [member.symbol for member in choice.members]
    joined = [symbol for symbol in now if symbol not in before]
    left = [symbol for symbol in before if symbol not in now]
    with run.ledger.transaction():
        guard()
        universes.store(
            run.ledger,
            run.config,
            members=[asdict(member) for member in choice.members],
            excluded=[[x.symbol, x.reason, x.value, x.limit] for x in choice.excluded],
            limits=limits.as_json(),
        )
        if joined or left:
            detail = {"joined": joined, "left": left, "symbols": now}
            events.record(run.ledger, "UNIVERSE_CHANGED", detail)


def _note_failure(run: Run, before: Universe, why: str) -> None:
    """Keep the failure beside the progress, and tell it once a day."""
    with run.ledger.transaction():
        run.guard()
        universes.keep_progress(run.ledger, universes.progress(run.ledger), failure=why)
        events.record(run.ledger, "UNIVERSE_NOT_CHOSEN", {"why": why})
        standing = (
            f"The one of {clock.iso(before.chosen_at)} stays in force."
            if before.chosen_at
            else "Nothing can be bought until one is chosen."
        )
        alerts.put(
            run.ledger,
            f"universe:{clock.now():%Y-%m-%d}",
            "WARNING" if before.chosen_at else "HIGH",
            "The universe could not be chosen",
            f"{why}. {standing} The next try is in {RETRY_AFTER.seconds // 60} minutes.",
        )
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
_LOADER.modules["steps.market_scanner"] = ("steps/market_scanner.py", r'''"""First step of the trading loop: look at the market."""

from shared.market.scan import scan_market
from shared.run import run_step


def handler(pd: "pipedream"):  # type: ignore[no-untyped-def]
    """Scan all symbols; other steps read the result as ``steps.market_scanner``."""
    return run_step(
        pd, workflow="trading_loop", step="market_scanner", body=scan_market, first=True
    )
''')


###################################################################################################
_LOADER.files["shared/market/patterns/confidence.json"] = r'''{
  "provenance": {
    "command": "trading-loop patterns calibrate --shapes 12 --plain 300 --seed 20180101",
    "drawings": 480,
    "plain_stretches": 300,
    "candles_a_stretch": 250,
    "noises_atr": [
      0.1,
      0.25,
      0.5,
      0.75,
      1.0
    ]
  },
  "coefficients": {
    "breakout": {
      "intercept": -9.68926,
      "touches": 2.84673,
      "spread_atrs": -1.15686,
      "duration_log": -1.84069,
      "waited": -0.681727,
      "bounce_log_atrs": 4.39288,
      "volume_ratio_log": 2.50011,
      "move_atrs": -1.05829
    },
    "level": {
      "intercept": -6.59321,
      "touches": 1.97996,
      "spread_atrs": -2.40487,
      "duration_log": -0.833083,
      "waited": -0.929032,
      "bounce_log_atrs": 2.18232
    },
    "shoulders": {
      "intercept": -4.96577,
      "shoulders_uneven": -5.41128,
      "neck_uneven": -4.71267,
      "shoulder_height": -12.5081,
      "lopsided": -1.82049,
      "height_log_atrs": 3.02834,
      "waited": 0.251241
    },
    "symmetrical_triangle": {
      "intercept": -12.6773,
      "misfit": -23.451,
      "pivots": 1.27324,
      "closing": 8.82271,
      "height_log_atrs": 2.63588,
      "waited": 0.339609,
      "unevenness": -2.43327,
      "outside": -5.71622
    },
    "triangle_with_level_side": {
      "intercept": -9.18878,
      "misfit": -29.3492,
      "pivots": 1.21409,
      "closing": 4.65871,
      "height_log_atrs": 2.4479,
      "waited": 0.0764866,
      "unevenness": -3.0242,
      "outside": 1.2354
    }
  }
}
'''


###################################################################################################
_LOADER.files["shared/market/score/score_model.json"] = r'''{
 "schema_version": 3,
 "skill": true,
 "exits": {
  "take_profit_percent": 5,
  "stop_percent": 2,
  "hours": 24
 },
 "intercept": -2.493534,
 "features": [
  {
   "name": "base_rate",
   "low": -3.897507,
   "high": -1.684693,
   "mean": -2.273403,
   "scale": 0.7246797,
   "coefficient": 0.6266983
  },
  {
   "name": "driftless_odds",
   "low": -6.906755,
   "high": -0.9529297,
   "mean": -2.623175,
   "scale": 1.492666,
   "coefficient": 0.3305057
  },
  {
   "name": "volatility_6h",
   "low": -0.7677714,
   "high": 3.109842,
   "mean": 1.145119,
   "scale": 0.7170723,
   "coefficient": 0.1072007
  },
  {
   "name": "range_24h",
   "low": -0.07834608,
   "high": 3.106024,
   "mean": 1.396522,
   "scale": 0.5602746,
   "coefficient": 0.06328017
  },
  {
   "name": "volatility_7d",
   "low": 0.1823771,
   "high": 2.91802,
   "mean": 1.425614,
   "scale": 0.4954734,
   "coefficient": 0.1008301
  },
  {
   "name": "volatility_30d",
   "low": 0.3578829,
   "high": 2.596156,
   "mean": 1.467836,
   "scale": 0.4295745,
   "coefficient": -0.001651462
  },
  {
   "name": "volatility_90d",
   "low": 0.5986202,
   "high": 2.735372,
   "mean": 1.526989,
   "scale": 0.3825733,
   "coefficient": 0.1097342
  },
  {
   "name": "volume_1h",
   "low": -1.537941,
   "high": 1.591033,
   "mean": -0.1637497,
   "scale": 0.5674206,
   "coefficient": 0.07287311
  },
  {
   "name": "trend_1h",
   "low": -3.58806,
   "high": 3.511861,
   "mean": 0.01820053,
   "scale": 1.381378,
   "coefficient": -0.01455985
  },
  {
   "name": "rsi_1h",
   "low": -0.6013074,
   "high": 0.6257446,
   "mean": 0.00373372,
   "scale": 0.2319964,
   "coefficient": 0.02611
  },
  {
   "name": "directed_strength_1h",
   "low": -0.4397395,
   "high": 0.404286,
   "mean": -0.009928834,
   "scale": 0.1248,
   "coefficient": 0.07319378
  },
  {
   "name": "momentum_24h",
   "low": -2.983404,
   "high": 3.130215,
   "mean": 0.01746552,
   "scale": 0.9718214,
   "coefficient": -0.12523
  },
  {
   "name": "momentum_72h",
   "low": -2.499033,
   "high": 2.666968,
   "mean": 0.0328819,
   "scale": 0.946902,
   "coefficient": 0.04916253
  },
  {
   "name": "below_high_7d",
   "low": 0.05324938,
   "high": 6.072676,
   "mean": 1.992293,
   "scale": 1.299643,
   "coefficient": -0.0122098
  },
  {
   "name": "above_low_7d",
   "low": 0.1075339,
   "high": 6.816105,
   "mean": 2.281841,
   "scale": 1.402762,
   "coefficient": 0.002800932
  },
  {
   "name": "breakout_1h",
   "low": -1.217257,
   "high": 1.394191,
   "mean": 0.005103721,
   "scale": 0.1985829,
   "coefficient": 0.01727921
  },
  {
   "name": "rsi_4h",
   "low": -0.6193694,
   "high": 0.6642648,
   "mean": 0.006367465,
   "scale": 0.2443352,
   "coefficient": 0.08288273
  },
  {
   "name": "directed_strength_4h",
   "low": -0.4000688,
   "high": 0.4105626,
   "mean": -0.006816708,
   "scale": 0.1230333,
   "coefficient": -0.07238998
  },
  {
   "name": "bollinger_4h",
   "low": -1.551959,
   "high": 1.581388,
   "mean": 0.01176663,
   "scale": 0.6675974,
   "coefficient": 0.1197666
  },
  {
   "name": "momentum_7d",
   "low": -2.950125,
   "high": 3.274062,
   "mean": 0.06025991,
   "scale": 1.015746,
   "coefficient": 0.05278853
  },
  {
   "name": "trend_1d",
   "low": -5.263443,
   "high": 3.216737,
   "mean": -0.149758,
   "scale": 1.634143,
   "coefficient": -0.008695265
  },
  {
   "name": "momentum_30d",
   "low": -2.325292,
   "high": 3.374241,
   "mean": 0.1203887,
   "scale": 1.063259,
   "coefficient": 0.09847889
  },
  {
   "name": "below_high_90d",
   "low": 0.144729,
   "high": 22.01612,
   "mean": 7.467894,
   "scale": 4.898494,
   "coefficient": 0.1378936
  },
  {
   "name": "hour_sine",
   "low": -1.0,
   "high": 1.0,
   "mean": -0.001007477,
   "scale": 0.7067797,
   "coefficient": 0.02383201
  },
  {
   "name": "hour_cosine",
   "low": -1.0,
   "high": 1.0,
   "mean": 0.001037409,
   "scale": 0.7074323,
   "coefficient": 0.002056402
  },
  {
   "name": "weekend",
   "low": 0.0,
   "high": 1.0,
   "mean": 0.286932,
   "scale": 0.4523295,
   "coefficient": -0.1131506
  }
 ],
 "base_rates": [
  [
   10.0,
   0.156475
  ],
  [
   20.0,
   0.147844
  ],
  [
   30.0,
   0.1399546
  ],
  [
   50.0,
   0.123318
  ],
  [
   80.0,
   0.09960508
  ],
  [
   120.0,
   0.06904809
  ],
  [
   180.0,
   0.01988885
  ]
 ],
 "trained": {
  "symbols": [
   "ADA/USDT",
   "AVAX/USDT",
   "BTC/USDT",
   "DOGE/USDT",
   "ETH/USDT",
   "LINK/USDT",
   "LTC/USDT",
   "SOL/USDT",
   "XRP/USDT"
  ],
  "from_ms": 1522893600000,
  "until_ms": 1735596000000,
  "entries": 111922,
  "exchange": "binance",
  "command": "trading-loop train --exchange binance --seed 1",
  "seed": 1
 },
 "rank_quantiles": [
  -0.9278907,
  -0.5804027,
  -0.5232112,
  -0.4855578,
  -0.4545326,
  -0.4290208,
  -0.4087938,
  -0.3896633,
  -0.3728493,
  -0.3563167,
  -0.3419075,
  -0.3270383,
  -0.3141156,
  -0.3012631,
  -0.289288,
  -0.2778369,
  -0.267452,
  -0.2568411,
  -0.2473113,
  -0.2384712,
  -0.2293104,
  -0.2202623,
  -0.2111168,
  -0.2028354,
  -0.1945233,
  -0.1860572,
  -0.1776264,
  -0.1699251,
  -0.1619086,
  -0.1543855,
  -0.1467308,
  -0.1393366,
  -0.1314333,
  -0.1241327,
  -0.1165566,
  -0.1096303,
  -0.10242,
  -0.09516869,
  -0.08817083,
  -0.08119131,
  -0.07433852,
  -0.06739749,
  -0.06086576,
  -0.05424373,
  -0.04736643,
  -0.04023944,
  -0.03375974,
  -0.02712463,
  -0.02051685,
  -0.01366669,
  -0.006703814,
  0.0002293722,
  0.007281487,
  0.01447511,
  0.02150516,
  0.02837147,
  0.03563087,
  0.0427465,
  0.05001414,
  0.05705295,
  0.06430245,
  0.07171589,
  0.07873408,
  0.08589775,
  0.09335406,
  0.100915,
  0.1083653,
  0.11585,
  0.123789,
  0.1319443,
  0.1393681,
  0.1474061,
  0.1555427,
  0.1635759,
  0.1721037,
  0.1804791,
  0.1892496,
  0.1981933,
  0.2077969,
  0.217789,
  0.2273511,
  0.2377833,
  0.2478617,
  0.2582393,
  0.2688833,
  0.2803901,
  0.2923923,
  0.3049912,
  0.3177202,
  0.3313648,
  0.3465072,
  0.362673,
  0.3812597,
  0.4021018,
  0.4227981,
  0.4469348,
  0.4736675,
  0.5089747,
  0.555118,
  0.6290337,
  1.123174
 ],
 "odds": [
  {
   "cost_bps": 10.0,
   "chance": [
    0.05419435,
    0.08953043,
    0.1124731,
    0.1319238,
    0.1493852,
    0.1664994,
    0.1845323,
    0.2054193,
    0.2319524,
    0.2851236
   ],
   "entries": [
    9031,
    9031,
    9031,
    9031,
    9031,
    9031,
    9031,
    9031,
    9031,
    9031
   ],
   "win_share": [
    0.4466836,
    0.4173403,
    0.3637471,
    0.3717196,
    0.3640793,
    0.3525634,
    0.3282029,
    0.3135865,
    0.2988595,
    0.2767135
   ],
   "average_win_percent": [
    1.547101,
    2.03252,
    2.426479,
    2.758709,
    3.021887,
    3.368363,
    3.675251,
    3.994594,
    4.324368,
    4.702148
   ],
   "average_loss_percent": [
    1.361292,
    1.623692,
    1.745412,
    1.823879,
    1.8737,
    1.90144,
    1.933789,
    1.953197,
    1.968717,
    1.988596
   ]
  },
  {
   "cost_bps": 20.0,
   "chance": [
    0.05041007,
    0.08393725,
    0.1059976,
    0.1247601,
    0.1416891,
    0.1582481,
    0.175764,
    0.196071,
    0.2219249,
    0.2738471
   ],
   "entries": [
    9031,
    9031,
    9031,
    9031,
    9031,
    9031,
    9031,
    9031,
    9031,
    9031
   ],
   "win_share": [
    0.4119145,
    0.3882184,
    0.343705,
    0.3499059,
    0.3454767,
    0.3369505,
    0.3103754,
    0.2948732,
    0.2828037,
    0.2607685
   ],
   "average_win_percent": [
    1.573058,
    2.040135,
    2.425375,
    2.751503,
    2.997831,
    3.346445,
    3.667056,
    3.969443,
    4.332215,
    4.693299
   ],
   "average_loss_percent": [
    1.364109,
    1.624407,
    1.758286,
    1.827635,
    1.873455,
    1.904705,
    1.937329,
    1.958535,
    1.970846,
    1.990709
   ]
  },
  {
   "cost_bps": 30.0,
   "chance": [
    0.0469099,
    0.07864082,
    0.0997896,
    0.1178184,
    0.1341483,
    0.1501311,
    0.1670739,
    0.1867591,
    0.2118634,
    0.262577
   ],
   "entries": [
    9031,
    9031,
    9031,
    9031,
    9031,
    9031,
    9031,
    9031,
    9031,
    9031
   ],
   "win_share": [
    0.3794707,
    0.3616432,
    0.316244,
    0.3340715,
    0.3258775,
    0.3153582,
    0.2952054,
    0.2791496,
    0.2684088,
    0.2485882
   ],
   "average_win_percent": [
    1.59497,
    2.04673,
    2.445477,
    2.735286,
    3.02053,
    3.306559,
    3.689672,
    3.960633,
    4.344677,
    4.682124
   ],
   "average_loss_percent": [
    1.37454,
    1.641345,
    1.762606,
    1.838393,
    1.881204,
    1.909483,
    1.937458,
    1.958065,
    1.972293,
    1.990952
   ]
  },
  {
   "cost_bps": 50.0,
   "chance": [
    0.04023856,
    0.06828774,
    0.08752342,
    0.1040102,
    0.1191103,
    0.1338911,
    0.1496232,
    0.1680235,
    0.1915334,
    0.239314
   ],
   "entries": [
    9031,
    9031,
    9031,
    9031,
    9031,
    9031,
    9031,
    9031,
    9031,
    9031
   ],
   "win_share": [
    0.3172406,
    0.3153582,
    0.2766028,
    0.2948732,
    0.2883402,
    0.2736131,
    0.258111,
    0.2486989,
    0.2377367,
    0.2196877
   ],
   "average_win_percent": [
    1.635052,
    2.060754,
    2.463347,
    2.705585,
    3.012008,
    3.331792,
    3.648146,
    3.965215,
    4.355488,
    4.649444
   ],
   "average_loss_percent": [
    1.418955,
    1.677027,
    1.795011,
    1.859178,
    1.888912,
    1.915294,
    1.942088,
    1.961687,
    1.977095,
    1.992523
   ]
  },
  {
   "cost_bps": 80.0,
   "chance": [
    0.03122414,
    0.05360997,
    0.0696272,
    0.08348084,
    0.09637579,
    0.1091269,
    0.1227872,
    0.1389303,
    0.1597037,
    0.2026927
   ],
   "entries": [
    9031,
    9031,
    9031,
    9031,
    9031,
    9031,
    9031,
    9031,
    9031,
    9031
   ],
   "win_share": [
    0.2413908,
    0.2495848,
    0.2206843,
    0.2357435,
    0.2278817,
    0.2238955,
    0.2108294,
    0.2010852,
    0.1942199,
    0.1725169
   ],
   "average_win_percent": [
    1.685875,
    2.04312,
    2.475379,
    2.705998,
    3.031918,
    3.293024,
    3.625606,
    3.947059,
    4.32785,
    4.660413
   ],
   "average_loss_percent": [
    1.530217,
    1.747361,
    1.841194,
    1.883126,
    1.914036,
    1.936638,
    1.9589,
    1.96974,
    1.985657,
    1.993299
   ]
  },
  {
   "cost_bps": 120.0,
   "chance": [
    0.02080374,
    0.03584633,
    0.04721568,
    0.05731199,
    0.06698987,
    0.07675077,
    0.08735422,
    0.09998997,
    0.116551,
    0.1512529
   ],
   "entries": [
    9031,
    9031,
    9031,
    9031,
    9031,
    9031,
    9031,
    9031,
    9031,
    9031
   ],
   "win_share": [
    0.1550216,
    0.1642122,
    0.144613,
    0.1579006,
    0.1505924,
    0.1490422,
    0.1419555,
    0.1369726,
    0.1302181,
    0.1179271
   ],
   "average_win_percent": [
    1.78166,
    2.108623,
    2.558462,
    2.740543,
    3.156582,
    3.343783,
    3.551582,
    3.959118,
    4.355239,
    4.708904
   ],
   "average_loss_percent": [
    1.703882,
    1.82755,
    1.904229,
    1.929271,
    1.944908,
    1.960326,
    1.971701,
    1.97862,
    1.989861,
    1.996123
   ]
  },
  {
   "cost_bps": 180.0,
   "chance": [
    0.006154536,
    0.009778718,
    0.0131,
    0.01620726,
    0.0195256,
    0.02334638,
    0.02784104,
    0.03327237,
    0.04052879,
    0.05563522
   ],
   "entries": [
    9031,
    9031,
    9031,
    9031,
    9031,
    9031,
    9031,
    9031,
    9031,
    9031
   ],
   "win_share": [
    0.04196656,
    0.03709445,
    0.03720518,
    0.04229875,
    0.04130218,
    0.03665153,
    0.03698372,
    0.0357657,
    0.03676226,
    0.03155797
   ],
   "average_win_percent": [
    1.981317,
    2.278692,
    2.723022,
    2.966287,
    3.250402,
    3.61985,
    3.580562,
    4.097334,
    4.406576,
    4.694757
   ],
   "average_loss_percent": [
    1.941722,
    1.968816,
    1.97918,
    1.987564,
    1.988487,
    1.99129,
    1.994341,
    1.996028,
    1.998815,
    1.99997
   ]
  }
 ],
 "out_of_sample": {
  "walk_forward": {
   "from_day": "2020-03-08",
   "to_day": "2024-12-29",
   "entries": 90310,
   "observed": 0.1400066,
   "predicted": 0.1455711,
   "base_rate": 0.1508044,
   "brier": 0.1171304,
   "brier_of_base_rate": 0.120685,
   "skill": {
    "value": 0.02945405,
    "low": 0.0227454,
    "high": 0.0366728
   },
   "skill_in_hindsight": {
    "value": 0.02719501,
    "low": 0.02107471,
    "high": 0.03323343
   },
   "log_loss": 0.3896812,
   "log_loss_of_base_rate": 0.4060709,
   "auc": 0.6432386,
   "volatility_skill": 0.02744548,
   "volatility_auc": 0.6352642,
   "auc_at_equal_volatility": 0.5479899,
   "boosting_skill": 0.03061173,
   "boosting_auc": 0.6446348,
   "skill_an_hour_late": 0.0284117,
   "auc_an_hour_late": 0.6405416,
   "net_return_percent": -0.3036985,
   "net_return_percent_top": -0.3400016,
   "observed_top": 0.2174009,
   "timing_auc": 0.5600488,
   "ranked_high": 0.2348245,
   "net_return_percent_ranked_high": -0.2162331,
   "observed_ranked_high": 0.169378
  },
  "unseen": {
   "from_day": "2025-01-01",
   "to_day": "2025-06-29",
   "entries": 9720,
   "observed": 0.1378601,
   "predicted": 0.1358738,
   "base_rate": 0.1399546,
   "brier": 0.1150941,
   "brier_of_base_rate": 0.1188591,
   "skill": {
    "value": 0.03167601,
    "low": 0.02032617,
    "high": 0.04396857
   },
   "skill_in_hindsight": {
    "value": 0.03164027,
    "low": 0.02012803,
    "high": 0.0437029
   },
   "log_loss": 0.3833517,
   "log_loss_of_base_rate": 0.4010781,
   "auc": 0.651684,
   "volatility_skill": 0.02677193,
   "volatility_auc": 0.6348329,
   "auc_at_equal_volatility": 0.5607112,
   "boosting_skill": 0.03596729,
   "boosting_auc": 0.6575676,
   "skill_an_hour_late": 0.02630592,
   "auc_an_hour_late": 0.6375936,
   "net_return_percent": -0.3275988,
   "net_return_percent_top": -0.03696104,
   "observed_top": 0.2397119,
   "timing_auc": 0.5656397,
   "ranked_high": 0.2509259,
   "net_return_percent_ranked_high": -0.1930319,
   "observed_ranked_high": 0.1664617
  }
 },
 "model": "b364a1be2167"
}
'''


###################################################################################################
_LOADER.modules.setdefault("steps", ("steps/__init__.py", ""))


def handler(pd: "pipedream"):
    import importlib

    return importlib.import_module("steps.market_scanner").handler(pd)
