# pipedream add-package annotated-types==0.8.0
# pipedream add-package jinja2==3.1.6
# pipedream add-package markupsafe==3.0.4
# pipedream add-package numpy==2.5.5
# pipedream add-package psycopg2-binary==2.9.13
# pipedream add-package pydantic==2.14.3
# pipedream add-package pydantic-core==2.50.4
# pipedream add-package redis==8.1.0
# pipedream add-package typing-extensions==4.16.0
# pipedream add-package typing-inspection==0.4.5
# The step dashboard of the workflow dashboard.
# autonomous-trading-loop 0.1.0, build 82ee4aba0498: 41 modules.
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
_LOADER.modules["shared.risk.core"] = ("shared/risk/core/__init__.py", r'''"""The core sleeve: held at target weights beside the tactical one, and brought back to them."""
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
_LOADER.modules["shared.ui"] = ("shared/ui/__init__.py", r'''"""To be described."""
''')


###################################################################################################
_LOADER.modules["shared.ui.activity"] = ("shared/ui/activity.py", r'''"""The dashboard's account of what the system does: market, decisions, breaker, runs, alerts."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from shared.ledger.connection import Ledger, Row

_RECENT = 8
_MARKS = {
    "OK": ("\u2713", "up"),
    "HEALTHY": ("\u2713", "up"),
    "WARNING": ("!", "warn"),
    "CRITICAL": ("\u2715", "down"),
    "FAILED": ("\u2715", "down"),
}


def market(ledger: Ledger, at: datetime) -> dict[str, Any]:
    """The newest scan: its score, what it asks for, and each symbol's price and score."""
    row = ledger.one(
        "SELECT at, ai_score, next_action, payload->'missing' AS missing, coalesce(("
        "  SELECT jsonb_agg(jsonb_build_object('symbol', m->'symbol', 'price', m->'price', "
        "    'ai_score', m->'ai_score', 'ai_score_rank', m->'ai_score_rank', "
        "    'spread_bps', m#>'{microstructure,spread_bps}')) "
        "  FROM jsonb_array_elements(CASE jsonb_typeof(payload#>'{signals,markets}') "
        "    WHEN 'array' THEN payload#>'{signals,markets}' ELSE '[]' END) AS m), '[]') AS symbols "
        "FROM scans WHERE pod = %s AND at <= %s ORDER BY at DESC LIMIT 1",
        (ledger.pod, at),
    )
    if row is None:
        return {"at": None, "ai_score": None, "next_action": None, "missing": [], "symbols": []}
    return row | {"missing": row["missing"] or []}


def decisions(ledger: Ledger, at: datetime) -> list[Row]:
    """The newest decision, the newest ones to trade, and what risk management made of those."""
    return ledger.query(
        "WITH chosen AS ("
        "  (SELECT decision_id FROM decisions WHERE pod = %(pod)s AND at <= %(at)s "
        "   ORDER BY at DESC LIMIT 1) UNION "
        "  (SELECT decision_id FROM decisions WHERE pod = %(pod)s AND at <= %(at)s "
        "   AND at > %(since)s AND action <> 'HOLD' ORDER BY at DESC LIMIT %(limit)s)) "
        "SELECT d.at, d.symbol, d.action, d.source, d.strategy, d.confidence, d.reasoning, "
        "  r.approved, r.size_quote, r.reasoning AS risk_reasoning "
        "FROM chosen JOIN decisions d USING (decision_id) "
        "LEFT JOIN risk_checks r ON r.decision_id = d.decision_id AND d.action <> 'HOLD' "
        "ORDER BY d.at DESC LIMIT %(limit)s",
        {"pod": ledger.pod, "at": at, "since": at - timedelta(days=7), "limit": _RECENT},
    )


def decision_counts(ledger: Ledger, since: datetime, until: datetime) -> dict[str, int]:
    """How often each action was decided in the window."""
    rows = ledger.query(
        "SELECT action, count(*) AS times FROM decisions "
        "WHERE pod = %s AND at > %s AND at <= %s GROUP BY action",
        (ledger.pod, since, until),
    )
    return dict.fromkeys(("BUY", "SELL", "HOLD"), 0) | {r["action"]: r["times"] for r in rows}


def breaker(ledger: Ledger, at: datetime) -> dict[str, Any]:
    """The breaker's newest report."""
    row = ledger.one(
        "SELECT at, status, checks, actions, circuit_breaker FROM health "
        "WHERE pod = %s AND at <= %s ORDER BY at DESC LIMIT 1",
        (ledger.pod, at),
    )
    if row is None:
        return {"at": None, "status": None, "checks": [], "actions": []}
    return {
        "at": row["at"],
        "status": row["status"],
        "checks": _checks(row["checks"]),
        "actions": row["actions"],
    }


def _checks(stored: Any) -> list[dict[str, Any]]:
    """Each check as name, status and detail; first those that ask for attention."""
    if isinstance(stored, dict):
        stored = [{"name": name} | value for name, value in stored.items()]
    checks = [_check(entry) for entry in stored]
    return sorted(checks, key=lambda check: (check["tone"] == "up", check["name"]))


def _check(entry: dict[str, Any]) -> dict[str, Any]:
    status = entry["status"]
    mark, tone = _MARKS.get(str(status).upper(), ("?", "warn"))
    return {
        "name": entry["name"],
        "status": status,
        "detail": entry.get("detail"),
        "mark": mark,
        "tone": tone,
    }


def workflows(ledger: Ledger, at: datetime) -> list[Row]:
    """Each workflow's last run and its count of runs and failures in 24 h."""
    return ledger.query(
        "SELECT w.workflow, l.event_at, l.status, l.duration_ms, l.error, "
        "  w.runs, w.failures, w.duration_p95_ms FROM ("
        "  SELECT workflow, count(*) AS runs, "
        "    count(*) FILTER (WHERE status = 'FAILED') AS failures, "
        "    percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms) AS duration_p95_ms "
        "  FROM runs WHERE pod = %(pod)s AND event_at > %(since)s AND event_at <= %(at)s "
        "  GROUP BY workflow) w CROSS JOIN LATERAL ("
        "  SELECT event_at, status, duration_ms, error FROM runs r "
        "  WHERE r.pod = %(pod)s AND r.workflow = w.workflow AND r.event_at <= %(at)s "
        "  ORDER BY event_at DESC LIMIT 1) l ORDER BY w.workflow",
        {"pod": ledger.pod, "since": at - timedelta(hours=24), "at": at},
    )


def services(ledger: Ledger, since: datetime, until: datetime) -> list[Row]:
    """How each outside service answered in the window."""
    return ledger.query(
        "SELECT venue AS service, sum(calls)::int AS calls, sum(failures)::int AS failures, "
        "  sum(rate_limited)::int AS rate_limited, "
        "  sum(mean_latency_ms * calls) / nullif(sum(calls), 0) AS mean_latency_ms, "
        "  max(max_latency_ms) AS max_latency_ms, "
        "  (array_agg(last_error ORDER BY at DESC) FILTER (WHERE last_error IS NOT NULL))[1] "
        "    AS last_error "
        "FROM venue_calls WHERE pod = %s AND at > %s AND at <= %s GROUP BY venue ORDER BY venue",
        (ledger.pod, since, until),
    )


def alerts(ledger: Ledger, at: datetime) -> list[Row]:
    """The newest alerts, and whether each has been sent."""
    return ledger.query(
        "SELECT at, severity, title, body, sent_at, last_error FROM alerts "
        "WHERE pod = %s AND at <= %s ORDER BY at DESC LIMIT %s",
        (ledger.pod, at, _RECENT),
    )
''')


###################################################################################################
_LOADER.modules["shared.ui.charts"] = ("shared/ui/charts.py", r'''"""Small charts as inline SVG: no script, no style attribute, so a strict page policy can hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markupsafe import Markup

_WIDTH, _LEFT, _RIGHT = 860.0, 8.0, 70.0


def equity_chart(points: Sequence[tuple[datetime, float]], height: float = 210) -> Markup | None:
    """Equity over time, with a line at its start. ``None`` for fewer than two points."""
    if len(points) < 2:
        return None
    values = [value for _, value in points]
    low, high = _padded(min(values), max(values))
    frame = _Frame(points[0][0], points[-1][0], low, high, height, bottom=22)
    tone = "up" if values[-1] >= values[0] else "down"
    line = frame.path(points)
    base, right = frame.y(values[0]), _WIDTH - _RIGHT
    body = (
        frame.grid(_number, 4)
        + f'<line class="base" x1="{_LEFT}" x2="{right}" y1="{base:.1f}" y2="{base:.1f}"/>'
        + f'<path class="area {tone}" d="{line}{frame.closing(frame.floor)}"/>'
        + f'<path class="line {tone}" d="{line}"/>'
        + frame.times()
    )
    last = f"{values[-1]:,.2f}"
    return _svg(body, height, f"Equity from {values[0]:,.2f} to {last}")


def drawdown_chart(points: Sequence[tuple[datetime, float]], height: float = 84) -> Markup | None:
    """The fall from the peak in percent, drawn downwards from zero."""
    if len(points) < 2:
        return None
    deepest = max(value for _, value in points)
    falls = [(at, -value) for at, value in points]
    low = min(-deepest * 1.08, -0.1)
    frame = _Frame(points[0][0], points[-1][0], low, 0.0, height, bottom=8)
    line = frame.path(falls)
    body = (
        frame.grid(lambda value: f"{value:g} %".replace("-", "\u2212"), 2)
        + f'<path class="area down" d="{line}{frame.closing(frame.y(0))}"/>'
        + f'<path class="line down" d="{line}"/>'
    )
    return _svg(body, height, f"Drawdown, deepest {deepest:.2f} percent")


def bar(used: float | None, marks: Sequence[float] = (), *, alarming: bool = True) -> Markup:
    """A share of a limit from 0 to 1; without a value the bar stays empty.

    Args:
        marks: further limits on the way, as shares too.
        alarming: whether coming near the limit is bad news, and coloured so.
    """
    from markupsafe import Markup

    width = 0.0 if used is None else 100 * min(max(used, 0.0), 1.0)
    calm = used is None or used < 0.6 or not alarming
    tone = "calm" if calm else "warn" if width < 90 else "down"
    ticks = "".join(
        f'<rect class="tick" x="{100 * mark - 0.4:.1f}" width="0.8" height="6"/>'
        for mark in marks
        if 0 < mark < 1
    )
    return Markup(  # noqa: S704 - numbers only
        f'<svg class="bar" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="track" width="100" height="6" rx="1"/>'
        f'<rect class="fill {tone}" width="{width:.2f}" height="6" rx="1"/>{ticks}</svg>'
    )


class _Frame:
    """Maps times and values to the coordinates of a drawing."""

    def __init__(
        self, start: datetime, end: datetime, low: float, high: float, height: float, bottom: float
    ) -> None:
        self.start, self.end, self.low, self.high = start, end, low, high
        self.top, self.floor = 8.0, height - bottom
        self.height = height

    def x(self, at: datetime) -> float:
        whole = (self.end - self.start).total_seconds() or 1.0
        share = (at - self.start).total_seconds() / whole
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.floor - share * (self.floor - self.top)

    def path(self, points: Sequence[tuple[datetime, float]]) -> str:
        return "M" + "L".join(f"{self.x(at):.1f} {self.y(value):.1f}" for at, value in points)

    def closing(self, y: float) -> str:
        return f"L{self.x(self.end):.1f} {y:.1f}L{self.x(self.start):.1f} {y:.1f}Z"

    def grid(self, label: Callable[[float], str], steps: int) -> str:
        """Lines at round values, about ``steps`` of them, labelled on the right."""
        right = _WIDTH - _RIGHT
        parts = []
        for value in round_values(self.low, self.high, steps):
            y = self.y(value)
            parts.append(
                f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
                f'<text x="{right + 8}" y="{y + 3.5:.1f}">{label(value)}</text>'
            )
        return "".join(parts)

    def times(self) -> str:
        whole = self.end - self.start
        form = "%d %b %H:%M" if whole.total_seconds() > 86_400 else "%H:%M"
        parts = []
        for index, anchor in ((0, "start"), (1, "middle"), (2, "middle"), (3, "end")):
            at = self.start + whole * index / 3
            parts.append(
                f'<text x="{self.x(at):.1f}" y="{self.height - 4:.1f}" text-anchor="{anchor}">'
                f"{at.strftime(form)}</text>"
            )
        return "".join(parts)


def round_values(low: float, high: float, steps: int) -> list[float]:
    """The multiples of 1, 2 or 5 times a power of ten in ``low..high``, about ``steps`` of them."""
    rough = (high - low) / steps
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def _padded(low: float, high: float) -> tuple[float, float]:
    room = (high - low) * 0.08 or abs(high) * 0.001 or 1.0
    return low - room, high + room


def _number(value: float) -> str:
    return f"{value:,.2f}".removesuffix(".00")


def _svg(body: str, height: float, title: str) -> Markup:
    from markupsafe import Markup

    return Markup(  # noqa: S704 - built from numbers and times only
        f'<svg class="chart" viewBox="0 0 {_WIDTH:.0f} {height:.0f}" role="img" '
        f'aria-label="{title}">{body}</svg>'
    )
''')


###################################################################################################
_LOADER.modules["shared.ui.core"] = ("shared/ui/core.py", r'''"""The core sleeve on the dashboard: each weight beside its target."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from shared.config import Config
from shared.ledger import universes
from shared.ledger.connection import Ledger
from shared.risk.core import targets
from shared.risk.core.sleeve import Sleeve


def weights(
    ledger: Ledger, settings: Config, equity_quote: Decimal | None, positions: list[dict[str, Any]]
) -> dict[str, Any] | None:
    """Weights in percent of the sleeve, or ``None`` where there is no core sleeve.

    A weight is ``None`` while the equity or a price is not known.
    """
    held = {p["symbol"]: p["value_quote"] for p in positions if p["sleeve"] == "core"}
    if settings.core_sleeve_percent == 0 and not held:
        return None
    wanted = targets.choose(settings, universes.in_force(ledger, settings).buyable, held)
    if settings.core_sleeve_percent == 0:
        wanted = targets.Targets({})
    shown: list[dict[str, Any]] = [
        {"symbol": symbol, "target_percent": wanted.percents.get(symbol, Decimal(0))}
        for symbol in [*wanted.percents, *(s for s in held if s not in wanted.percents)]
    ]
    known = {symbol: value for symbol, value in held.items() if value is not None}
    sleeve = Sleeve(
        equity_quote or Decimal(0), settings.core_sleeve_percent, known, wanted.percents
    )
    is_known = equity_quote is not None and len(known) == len(held)
    for row in shown:
        row["current_percent"] = sleeve.weight_percent(row["symbol"]) if is_known else None
    return {
        "share_percent": settings.core_sleeve_percent,
        "band_percent": settings.rebalance_band_percent,
        "weights": shown,
        "in_cash": list(wanted.in_cash),
    }
''')


###################################################################################################
_LOADER.modules["shared.ui.dashboard"] = ("shared/ui/dashboard.py", r'''"""What the dashboard shows: a read-only model of one instance, gathered from the ledger.

What is unknown is ``None``, never zero. Money is ``Decimal`` in the quote currency, ratios are
percent where the name ends in ``_percent``, times are aware and in UTC.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from shared import VERSION, clock
from shared.config import Config
from shared.ledger import arming, parameters, state
from shared.ledger.connection import Ledger, Row
from shared.ui import activity, core, execution, money

Model = dict[str, Any]

CHART_DAYS = 7


def gather(ledger: Ledger, settings: Config, as_of: datetime | None = None) -> Model:
    """Everything on the page, as it stood in the ledger.

    Args:
        as_of: the end of all windows such as "24 h"; now, unless the ledger is of a run that has
            ended (see ``newest``).

    Raises:
        LedgerUnavailable: the database does not answer.
    """
    watch = clock.Stopwatch()
    at = as_of or clock.now()
    with ledger.transaction():
        # One snapshot, so that no figure contradicts another.
        ledger.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        model = _read(ledger, settings, at)
    return model | {"gathered_in_ms": round(watch.milliseconds(), 1)}


def _read(ledger: Ledger, settings: Config, at: datetime) -> Model:
    equity = money.equity(ledger, settings.quote_currency, at)
    positions = money.open_positions(ledger)
    trades = money.closed_trades(ledger, at - timedelta(days=CHART_DAYS), at)
    return {
        "version": VERSION,
        "pod": ledger.pod,
        "as_of": at,
        "mode": settings.trading_mode.upper(),
        "armed": _armed(ledger),
        "quote_currency": settings.quote_currency,
        "state": vars(state.read(ledger)),
        "equity": equity,
        "curve": money.curve(ledger, settings.quote_currency, at - timedelta(days=CHART_DAYS), at),
        "positions": positions,
        "performance_24h": money.performance(trades, at - timedelta(hours=24)),
        "trades": trades[:12],
        "strategies": money.by_strategy(trades, _weights(ledger)),
        "risk": money.risk(ledger, settings, equity, positions),
        "core": core.weights(ledger, settings, equity["equity_quote"], positions),
        "execution_24h": execution.day(ledger, at),
        "execution_7d": execution.week(ledger, at - timedelta(days=CHART_DAYS), at),
        "market": activity.market(ledger, at),
        "decisions": activity.decisions(ledger, at),
        "decisions_24h": activity.decision_counts(ledger, at - timedelta(hours=24), at),
        "breaker": activity.breaker(ledger, at),
        "workflows": activity.workflows(ledger, at),
        "services": activity.services(ledger, at - timedelta(hours=1), at),
        "alerts": activity.alerts(ledger, at),
    }


def newest(ledger: Ledger) -> datetime | None:
    """The time of the newest event that a workflow worked on, in the ledger's own time."""
    row: Row | None = ledger.one(
        "SELECT max(event_at) AS at FROM runs WHERE pod = %s", (ledger.pod,)
    )
    return None if row is None else row["at"]


def as_json(value: Any) -> Any:
    """``value`` as JSON types: exact decimals become strings, times ISO 8601 in UTC."""
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return clock.iso(value)
    return value


def _armed(ledger: Ledger) -> dict[str, Any] | None:
    """The arm token in force by the database's clock; without one nothing is bought live."""
    token = arming.current(ledger)
    return None if token is None else {"until": token.expires_at, "by": token.armed_by}


def _weights(ledger: Ledger) -> dict[str, float]:
    return parameters.current(ledger).values.strategy_weights.as_dict()
''')


###################################################################################################
_LOADER.modules["shared.ui.execution"] = ("shared/ui/execution.py", r'''"""The dashboard's account of how orders were executed."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from shared.execution import quality
from shared.ledger.connection import Ledger

_GROUPS = ("by_venue", "by_symbol", "by_hour")


def day(ledger: Ledger, at: datetime) -> dict[str, Any]:
    """All orders of 24 hours together, and how many have an unknown outcome now."""
    figures = quality.of_window(ledger, at - timedelta(hours=24), at)
    total = {name: value for name, value in figures.items() if name not in _GROUPS}
    return total | {"unresolved": _unresolved(ledger)}


def week(ledger: Ledger, since: datetime, until: datetime) -> dict[str, Any]:
    """Quality over a window, by venue, symbol and hour of the day, and the shortfall of parents."""
    figures = quality.of_window(ledger, since, until)
    return figures | {"shortfall": quality.shortfall(ledger, since, until)}


def _unresolved(ledger: Ledger) -> int:
    """Orders in doubt now, however old and whatever they are for."""
    row = ledger.one(
        "SELECT count(*) AS orders FROM intents WHERE pod = %s AND state IN ('SENDING', 'UNKNOWN')",
        (ledger.pod,),
    )
    assert row is not None  # an aggregate without groups has one row
    return int(row["orders"])
''')


###################################################################################################
_LOADER.modules["shared.ui.money"] = ("shared/ui/money.py", r'''"""The dashboard's figures about money: equity, positions, trades, risk, execution."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from decimal import Decimal
from typing import Any

from shared import clock
from shared.config import Config
from shared.ledger import equity as ledger_equity
from shared.ledger.connection import Ledger, Row

_CHART_POINTS = 240
_RESTATED = (
    "WITH flows AS MATERIALIZED ("
    "  SELECT at, amount FROM transfers WHERE pod = %(pod)s AND currency = %(quote)s "
    "  AND at > (SELECT min(at) FROM equity WHERE pod = %(pod)s)), "
    "restated AS NOT MATERIALIZED ("
    "  SELECT at, cash_quote, positions_quote, equity_quote "
    "    + coalesce((SELECT sum(amount) FROM flows f WHERE f.at > e.at), 0) AS value "
    "  FROM equity e WHERE pod = %(pod)s AND at <= %(until)s) "
)


def equity(ledger: Ledger, quote_currency: str, at: datetime) -> dict[str, Any]:
    """What the pod is worth and how that has changed, as the limits themselves see it."""
    standing = ledger_equity.standing(ledger, quote_currency, clock.to_ms(at))
    ends = (
        ledger.one(
            _RESTATED + "SELECT cash_quote, positions_quote, oldest.at AS since, "  # noqa: S608 - constants only
            "  oldest.value AS first_quote "
            "FROM restated, (SELECT at, value FROM restated ORDER BY at LIMIT 1) AS oldest "
            "ORDER BY restated.at DESC LIMIT 1",
            {"pod": ledger.pod, "quote": quote_currency, "until": at},
        )
        or dict.fromkeys(("cash_quote", "positions_quote", "since", "first_quote"))
    )
    day_pnl = _negative(standing.day_loss_quote)
    day_pnl_24h = _negative(standing.rolling_loss_quote)
    total_pnl = _difference(standing.equity_quote, ends["first_quote"])
    return {
        "at": standing.at,
        "equity_quote": standing.equity_quote,
        "cash_quote": ends["cash_quote"],
        "positions_quote": ends["positions_quote"],
        "day_start_quote": standing.day_start_quote,
        "day_pnl_quote": day_pnl,
        "day_return_percent": _percent(day_pnl, standing.day_start_quote),
        "return_24h_percent": _percent(day_pnl_24h, standing.rolling_start_quote),
        "total_pnl_quote": total_pnl,
        "return_total_percent": _percent(total_pnl, ends["first_quote"]),
        "since": ends["since"],
        "peak_quote": standing.high_water_quote,
        "drawdown_percent": standing.drawdown_percent,
    }


def curve(ledger: Ledger, quote_currency: str, since: datetime, until: datetime) -> list[Row]:
    """At most 240 points: the last equity and the deepest drawdown of each interval.

    Equity is restated by later deposits, as in ``shared.ledger.equity``. The drawdown counts from
    the highest equity ever, so a peak before ``since`` is not forgotten.
    """
    return ledger.query(
        _RESTATED + ", span AS ("  # noqa: S608 - constants only
        "  SELECT min(at) AS start, greatest(extract(epoch FROM max(at) - min(at)), 1) AS seconds "
        "  FROM restated WHERE at >= %(since)s), "
        "earlier AS (SELECT max(value) AS peak FROM restated WHERE at < %(since)s), "
        "marks AS ("
        "  SELECT at, value, greatest(max(value) OVER (ORDER BY at), "
        "    (SELECT peak FROM earlier)) AS peak, "
        "    floor(extract(epoch FROM at - (SELECT start FROM span)) "
        "      / (SELECT seconds FROM span) * %(points)s) AS bucket "
        "  FROM restated WHERE at >= %(since)s) "
        "SELECT max(at) AS at, (array_agg(value ORDER BY at DESC))[1] AS equity_quote, "
        "  max(100 * (peak - value) / nullif(peak, 0)) AS drawdown_percent "
        "FROM marks GROUP BY bucket ORDER BY bucket",
        {
            "pod": ledger.pod,
            "quote": quote_currency,
            "since": since,
            "until": until,
            "points": _CHART_POINTS - 1,
        },
    )


def open_positions(ledger: Ledger) -> list[dict[str, Any]]:
    """Open positions with their value and profit at the newest mid of any venue."""
    rows = ledger.query(
        "SELECT s.position_id, s.symbol, s.sleeve, s.strategy, s.opened_at, s.quantity, "
        "  s.average_entry_price, s.cost_quote, s.quote_flow, s.fees_quote, s.stop_price, "
        "  s.target_price, s.time_stop_at, p.mid, p.at AS price_at "
        "FROM position_summary s LEFT JOIN LATERAL ("
        "  SELECT (bid + ask) / 2 AS mid, at FROM prices "
        "  WHERE pod = s.pod AND symbol = s.symbol ORDER BY at DESC LIMIT 1) p ON true "
        "WHERE s.pod = %s AND s.closed_at IS NULL ORDER BY s.cost_quote DESC, s.position_id",
        (ledger.pod,),
    )
    return [row | _valued(row) for row in rows]


def _valued(row: Row) -> dict[str, Any]:
    if row["mid"] is None or row["average_entry_price"] is None:
        return {
            "value_quote": None,
            "pnl_quote": None,
            "pnl_percent": None,
            "to_stop_percent": None,
        }
    value = row["quantity"] * row["mid"]
    pnl = row["quote_flow"] + value
    return {
        "value_quote": value,
        "pnl_quote": pnl,
        "pnl_percent": _percent(pnl, row["cost_quote"]),
        "to_stop_percent": _percent(row["mid"] - row["stop_price"], row["mid"])
        if row["stop_price"]
        else None,
    }


def closed_trades(ledger: Ledger, since: datetime, until: datetime) -> list[Row]:
    """Trades closed in the window, the newest first."""
    return ledger.query(
        "SELECT symbol, sleeve, strategy, opened_at, closed_at, close_reason, bought_quantity, "
        "  average_entry_price, average_exit_price, cost_quote, fees_quote, pnl_quote, "
        "  return_percent FROM trades "
        "WHERE pod = %s AND closed_at > %s AND closed_at <= %s ORDER BY closed_at DESC",
        (ledger.pod, since, until),
    )


def performance(trades: list[Row], since: datetime) -> dict[str, Any]:
    """What the trades closed after ``since`` brought, fees included."""
    chosen = [trade["pnl_quote"] for trade in trades if trade["closed_at"] > since]
    wins = [pnl for pnl in chosen if pnl > 0]
    losses = [pnl for pnl in chosen if pnl < 0]
    return {
        "trades": len(chosen),
        "wins": len(wins),
        "pnl_quote": sum(chosen, Decimal(0)) if chosen else None,
        "win_rate_percent": _percent(Decimal(len(wins)), Decimal(len(chosen))),
        "average_win_quote": sum(wins, Decimal(0)) / len(wins) if wins else None,
        "average_loss_quote": sum(losses, Decimal(0)) / len(losses) if losses else None,
        # Without a loss the factor is not defined, however good the day was.
        "profit_factor": sum(wins, Decimal(0)) / -sum(losses, Decimal(0)) if losses else None,
        "fees_quote": sum(
            (trade["fees_quote"] for trade in trades if trade["closed_at"] > since), Decimal(0)
        )
        if chosen
        else None,
    }


def by_strategy(trades: list[Row], weights: dict[str, float]) -> list[dict[str, Any]]:
    """Each strategy's weight in the ensemble and what its trades brought, best first."""
    grouped: dict[str, list[Row]] = defaultdict(list)
    for trade in trades:
        grouped[trade["strategy"]].append(trade)
    rows = []
    for name in sorted(set(grouped) | set(weights)):
        own = grouped.get(name, [])
        pnl = [trade["pnl_quote"] for trade in own]
        rows.append(
            {
                "strategy": name,
                "weight_percent": None if name not in weights else 100 * weights[name],
                "trades": len(own),
                "pnl_quote": sum(pnl, Decimal(0)) if own else None,
                "win_rate_percent": _percent(
                    Decimal(sum(value > 0 for value in pnl)), Decimal(len(own))
                ),
                "return_percent": _percent(
                    sum(pnl, Decimal(0)),
                    sum((trade["cost_quote"] for trade in own), Decimal(0)),
                ),
            }
        )
    return sorted(rows, key=lambda row: (row["pnl_quote"] is None, -(row["pnl_quote"] or 0)))


def risk(
    ledger: Ledger, settings: Config, mark: dict[str, Any], positions: list[dict[str, Any]]
) -> dict[str, Any]:
    """How much of each limit is used. A value that cannot be known now is ``None``."""
    total = mark["equity_quote"]
    values = [position["value_quote"] for position in positions]
    known = None if any(value is None for value in values) else sum(values, Decimal(0))
    tactical = [p["value_quote"] for p in positions if p["sleeve"] == "tactical"]
    largest = None if None in tactical else max(tactical, default=Decimal(0))
    day_pnl = mark["day_pnl_quote"]
    return {
        "exposure_quote": known,
        "exposure_percent": None if known is None else _percent(known, total),
        "positions": len(tactical),
        "max_positions": settings.max_positions,
        "largest_position_quote": largest,
        "max_position_quote": _smaller(
            settings.max_position_size, settings.position_size_percent, total
        ),
        "day_loss_quote": None if day_pnl is None else max(-day_pnl, Decimal(0)),
        "max_day_loss_quote": _smaller(
            settings.max_daily_loss, settings.daily_loss_percent, mark["day_start_quote"]
        ),
        "drawdown_percent": mark["drawdown_percent"],
        "drawdown_tiers_percent": [
            settings.max_drawdown_percent,
            settings.drawdown_alert_percent,
            settings.drawdown_halt_percent,
        ],
        **_latest_value_at_risk(ledger, mark["at"]),
    }


def _latest_value_at_risk(ledger: Ledger, at: datetime | None) -> dict[str, Any]:
    row = ledger.one(
        "SELECT at, metrics->>'var95_quote' AS var95_quote, "
        "  metrics->>'cvar95_quote' AS cvar95_quote "
        "FROM risk_checks WHERE pod = %s AND metrics->>'var95_quote' IS NOT NULL "
        "AND (%s IS NULL OR at <= %s) ORDER BY at DESC LIMIT 1",
        (ledger.pod, at, at),
    )
    if row is None:
        return {"var95_quote": None, "cvar95_quote": None, "var_at": None}
    cvar = row["cvar95_quote"]
    return {
        "var95_quote": Decimal(row["var95_quote"]),
        "cvar95_quote": None if cvar is None else Decimal(cvar),
        "var_at": row["at"],
    }


def _smaller(limit: Decimal, limit_percent: Decimal, total: Decimal | None) -> Decimal | None:
    return None if total is None else min(limit, total * limit_percent / 100)


def _percent(part: Decimal | None, whole: Decimal | None) -> Decimal | None:
    return None if part is None or not whole else 100 * part / whole


def _difference(later: Decimal | None, earlier: Decimal | None) -> Decimal | None:
    return None if later is None or earlier is None else later - earlier


def _negative(value: Decimal | None) -> Decimal | None:
    return None if value is None else -value
''')


###################################################################################################
_LOADER.modules["shared.ui.page"] = ("shared/ui/page.py", r'''"""The dashboard as one HTML page: no script, nothing loaded from elsewhere, all text escaped."""

from __future__ import annotations

import base64
import functools
import hashlib
from datetime import datetime, timedelta
from decimal import Decimal
from importlib import resources
from typing import Any

from shared.ui import charts

Number = Decimal | float | int
UNKNOWN = "\u2013"
_MINUS = "\u2212"
STALE_AFTER = timedelta(minutes=10)


def render(model: dict[str, Any], *, refresh_seconds: int | None = None) -> str:
    """The page for a model of ``shared.ui.dashboard.gather``.

    Args:
        refresh_seconds: how often a browser is to load the page anew; never if ``None``.
    """
    css = _asset("dashboard.css")
    points = model["curve"]
    return str(
        _template().render(
            model,
            css=css,
            csp=content_security_policy(),
            refresh_seconds=refresh_seconds,
            stale=_is_stale(model),
            equity_chart=charts.equity_chart([(p["at"], float(p["equity_quote"])) for p in points]),
            drawdown_chart=charts.drawdown_chart(
                [(p["at"], float(p["drawdown_percent"] or 0)) for p in points]
            ),
        )
    )


def content_security_policy() -> str:
    """What the page may do: show itself, with exactly its own style sheet."""
    digest = hashlib.sha256(_asset("dashboard.css").encode()).digest()
    style = base64.b64encode(digest).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{style}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def headers() -> dict[str, str]:
    """Response headers that go with the page."""
    return {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": content_security_policy() + "; frame-ancestors 'none'",
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }


def number(value: Number | None, places: int = 2) -> str:
    """``1,234.50``, or a dash where nothing is known."""
    return UNKNOWN if value is None else f"{value:,.{places}f}".replace("-", _MINUS)


def price(value: Number | None) -> str:
    """A price with the places that its size asks for."""
    if value is None:
        return UNKNOWN
    size = abs(float(value))
    return number(value, 2 if size >= 100 else 4 if size >= 1 else 6)


def signed(value: Number | None, places: int = 2) -> str:
    """``+1.50``, ``\u22121.50`` or ``0.00``: the sign says what the colour says."""
    if value is None:
        return UNKNOWN
    text = f"{value:+,.{places}f}"
    return text[1:] if not any(c in text for c in "123456789") else text.replace("-", _MINUS)


def percent(value: Number | None, places: int = 2) -> str:
    return UNKNOWN if value is None else number(value, places) + "\u202f%"


def signed_percent(value: Number | None, places: int = 2) -> str:
    return UNKNOWN if value is None else signed(value, places) + "\u202f%"


def quantity(value: Decimal | None) -> str:
    """A quantity of a base currency, to eight places, without zeros at the end."""
    return UNKNOWN if value is None else f"{value:,.8f}".rstrip("0").rstrip(".")


def tone(value: Number | None) -> str:
    """The class that colours a profit or a loss."""
    return "" if not value else "up" if value > 0 else "down"


def delay(milliseconds: Number | None) -> str:
    """``250 ms``, ``1.5 s`` or ``3 min``."""
    if milliseconds is None:
        return UNKNOWN
    length = float(milliseconds)
    if abs(length) < 1_000:
        return f"{number(length, 0)}\u202fms"
    if abs(length) < 120_000:
        return f"{number(length / 1_000, 1)}\u202fs"
    return duration(timedelta(milliseconds=length))


def clock_time(at: datetime | None) -> str:
    return UNKNOWN if at is None else at.strftime("%H:%M:%S")


def day_time(at: datetime | None) -> str:
    return UNKNOWN if at is None else at.strftime("%d %b %H:%M")


def ago(at: datetime | None, now: datetime) -> str:
    """``12 s``, ``4 min``, ``3 h`` or ``2 d`` between ``at`` and ``now``."""
    return UNKNOWN if at is None else duration(now - at)


def duration(length: timedelta | None) -> str:
    if length is None:
        return UNKNOWN
    seconds = max(int(length.total_seconds()), 0)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size}\u202f{unit}"
    return f"{seconds}\u202fs"


def share(part: Number | None, whole: Number | None) -> float | None:
    """``part`` of ``whole`` from 0 on, or ``None`` where either is unknown."""
    return None if part is None or not whole else float(part) / float(whole)


def words(code: str | None) -> str:
    """``mean_reversion`` as ``mean reversion``."""
    return UNKNOWN if not code else str(code).replace("_", " ")


def _is_stale(model: dict[str, Any]) -> bool:
    marked_at = model["equity"]["at"]
    return marked_at is not None and model["as_of"] - marked_at > STALE_AFTER


@functools.cache
def _asset(name: str) -> str:
    return (resources.files("shared.ui") / "templates" / name).read_text(encoding="utf-8")


@functools.cache
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    filters = (number, price, signed, percent, signed_percent, quantity, tone, delay)
    environment.filters.update({function.__name__: function for function in filters})
    environment.filters.update(clock_time=clock_time, day_time=day_time, ago=ago, words=words)
    environment.filters["duration"] = duration
    environment.globals.update(bar=charts.bar, share=share)
    return environment.from_string(_asset("dashboard.html"))
''')


###################################################################################################
_LOADER.modules["shared.ui.serve"] = ("shared/ui/serve.py", r'''"""The dashboard over HTTP: who may see it, and in which form.

It takes no lease and claims no event, unlike every step that acts: it only reads, two readers
may look at once, and a page must not fill the log of runs.
"""

from __future__ import annotations

import hmac
import os
from typing import Any

from shared import config, instance
from shared.config import Config
from shared.errors import LedgerUnavailable
from shared.instance import open_ledger
from shared.run import Export
from shared.ui import dashboard, page

_REFRESH_SECONDS = {"simulated": 5, "paper": 60, "live": 60}
"""On Pipedream each load costs a credit, on this machine none."""


_UNREACHABLE = "The ledger cannot be reached. Trading stops until it can be.\n"


def respond(pd: Any) -> Export:
    """Answer the request with the page, or with its figures for ``?format=json``.

    401 without the token where one is configured, 403 for live trading without one, 503 while
    the ledger cannot be reached.
    """
    event = pd.steps["trigger"]["event"]
    # Tokens are the project's, so that a stranger is refused before the ledger is asked.
    response = _refusal(config.load(os.environ, pd.inputs), event) or _of_instance(pd, event)
    pd.respond(response)
    return {"status": response["status"]}


def _of_instance(pd: Any, event: dict[str, Any]) -> dict[str, Any]:
    try:
        opened = instance.opened(pd)
    except LedgerUnavailable:
        return _text(503, _UNREACHABLE)
    if isinstance(opened, str):
        return _text(410, f"{opened}\n")
    return answer(opened[0], event)


def answer(settings: Config, event: dict[str, Any]) -> dict[str, Any]:
    """Status, headers and body for an HTTP ``event``."""
    refusal = _refusal(settings, event)
    if refusal is not None:
        return refusal
    try:
        model = dashboard.gather(open_ledger(settings), settings)
    except LedgerUnavailable:
        return _text(503, _UNREACHABLE)
    if event["query"].get("format") == "json":
        headers = page.headers() | {"Content-Type": "application/json"}
        return {"status": 200, "headers": headers, "body": dashboard.as_json(model)}
    body = page.render(model, refresh_seconds=_REFRESH_SECONDS[settings.trading_mode])
    return {"status": 200, "headers": page.headers(), "body": body}


def _refusal(settings: Config, event: dict[str, Any]) -> dict[str, Any] | None:
    if settings.dashboard_token is None:
        if settings.trading_mode != "live":
            return None
        return _text(403, "DASHBOARD_TOKEN: expected to be set where trading is live.\n")
    given = event["headers"].get("authorization", "")
    scheme, _, token = given.partition(" ")
    if scheme.lower() != "bearer":
        token = event["query"].get("token", "")
    expected = settings.dashboard_token.get_secret_value()
    if hmac.compare_digest(token.strip().encode(), expected.encode()):
        return None
    refused = _text(401, "Expected the header Authorization: Bearer <DASHBOARD_TOKEN>.\n")
    refused["headers"]["WWW-Authenticate"] = "Bearer"
    return refused


def _text(status: int, body: str) -> dict[str, Any]:
    headers = page.headers() | {"Content-Type": "text/plain; charset=utf-8"}
    return {"status": status, "headers": headers, "body": body}
''')


###################################################################################################
_LOADER.modules["steps.dashboard"] = ("steps/dashboard.py", r'''"""The only step of the dashboard: answer a GET with the page. It reads and changes nothing."""

from shared.ui import serve


def handler(pd: "pipedream"):  # type: ignore[no-untyped-def]
    """Respond to the request; the export says with which status."""
    return serve.respond(pd)
''')


###################################################################################################
_LOADER.files["shared/ui/templates/dashboard.css"] = r''':root {
  color-scheme: light dark;
  --page: #f4f5f7; --card: #ffffff; --edge: #e2e5ea; --soft: #eef0f3;
  --text: #161a21; --quiet: #5d6675;
  --up: #0b7a53; --down: #c22f35; --warn: #9a6400; --calm: #3c6fd6;
  --up-wash: #e3f4ec; --down-wash: #fbe9e9; --warn-wash: #fbf1de; --calm-wash: #e8effc;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0a0d12; --card: #11151c; --edge: #1e2530; --soft: #181e27;
    --text: #e5e9f0; --quiet: #8a95a6;
    --up: #3dbd8c; --down: #f0706f; --warn: #e3ac4c; --calm: #6f9df0;
    --up-wash: #10291f; --down-wash: #321a1c; --warn-wash: #2e2412; --calm-wash: #152136;
  }
}
* { box-sizing: border-box; margin: 0; }
body {
  background: var(--page); color: var(--text);
  font: 13px/1.45 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums; padding: 18px 22px 28px;
}
main, header, footer { max-width: 1480px; margin: 0 auto; }
header { display: flex; align-items: center; flex-wrap: wrap; gap: 10px 12px; margin-bottom: 14px; }
h1 { font-size: 17px; font-weight: 650; letter-spacing: -.01em; margin-right: 4px; }
h2 { font-size: 12px; font-weight: 600; color: var(--quiet); letter-spacing: .02em; }
h3 { font-size: 12px; font-weight: 600; color: var(--quiet); margin: 14px 0 4px; }
.quiet { color: var(--quiet); }
.time { margin-left: auto; color: var(--quiet); text-align: right; }
.time b { color: var(--text); font-weight: 600; }
.pill {
  display: inline-block; padding: 2px 9px; border-radius: 999px; font-size: 11px; font-weight: 650;
  letter-spacing: .05em; background: var(--soft); color: var(--quiet); white-space: nowrap;
}
.pill.up { background: var(--up-wash); color: var(--up); }
.pill.down { background: var(--down-wash); color: var(--down); }
.pill.warn { background: var(--warn-wash); color: var(--warn); }
.pill.calm { background: var(--calm-wash); color: var(--calm); }
.banner { border-radius: 8px; padding: 10px 14px; margin-bottom: 12px; }
.banner.down { background: var(--down-wash); color: var(--down); }
.banner.warn { background: var(--warn-wash); color: var(--warn); }
.figures, section { background: var(--card); border: 1px solid var(--edge); border-radius: 10px; }
.figures { display: grid; grid-template-columns: repeat(6, 1fr); margin-bottom: 12px; }
.figures > div { padding: 13px 18px 14px; border-left: 1px solid var(--edge); }
.figures > div:first-child { border-left: 0; }
.figures dt { font-size: 12px; color: var(--quiet); }
.figures dd.main { font-size: 23px; line-height: 1.25; font-weight: 620; letter-spacing: -.02em; margin-top: 2px; }
.figures dd.sub { color: var(--quiet); font-size: 12px; }
.grid { display: grid; grid-template-columns: repeat(12, minmax(0, 1fr)); gap: 12px; }
section { padding: 13px 16px 14px; grid-column: span 12; min-width: 0; overflow-x: auto; }
.w8 { grid-column: span 8; } .w7 { grid-column: span 7; } .w6 { grid-column: span 6; }
.w5 { grid-column: span 5; } .w4 { grid-column: span 4; }
.halves { display: grid; grid-template-columns: repeat(auto-fit, minmax(560px, 1fr)); gap: 0 36px; align-items: start; }
.head { display: flex; align-items: baseline; gap: 10px; margin-bottom: 8px; }
.head .note { margin-left: auto; color: var(--quiet); font-size: 12px; text-align: right; }
table { width: 100%; border-collapse: collapse; }
th { text-align: left; font-size: 11px; font-weight: 500; color: var(--quiet); padding: 4px 10px 6px 0; white-space: nowrap; }
td { padding: 6px 10px 6px 0; border-top: 1px solid var(--edge); vertical-align: top; }
th:last-child, td:last-child { padding-right: 0; }
.n { text-align: right; white-space: nowrap; }
.s { white-space: nowrap; }
.why { color: var(--quiet); overflow-wrap: anywhere; }
.clip { max-width: 34em; display: -webkit-box; -webkit-line-clamp: 2; -webkit-box-orient: vertical; overflow: hidden; }
td b, .strong { font-weight: 620; }
.up { color: var(--up); } .down { color: var(--down); } .warn { color: var(--warn); }
.empty { color: var(--quiet); padding: 14px 0 10px; }
.limits { display: grid; gap: 11px; }
.limits .row { display: flex; justify-content: space-between; gap: 10px; margin-bottom: 4px; }
.pairs { display: grid; grid-template-columns: 1fr auto; gap: 5px 12px; }
.pairs dd { text-align: right; }
.checks { display: grid; grid-template-columns: repeat(auto-fill, minmax(215px, 1fr)); gap: 7px 18px; list-style: none; padding: 0; }
.checks li { display: flex; gap: 8px; align-items: baseline; min-width: 0; }
.checks .why { font-size: 12px; }
.mark { font-weight: 700; width: 1.1em; text-align: center; flex: none; }
svg { display: block; width: 100%; }
svg text { font-size: 10.5px; fill: var(--quiet); font-family: inherit; }
.chart .grid { stroke: var(--edge); stroke-width: 1; }
.chart .base { stroke: var(--quiet); stroke-width: 1; stroke-dasharray: 2 4; opacity: .7; }
.line { fill: none; stroke-width: 1.6; stroke-linejoin: round; }
.line.up { stroke: var(--up); } .line.down { stroke: var(--down); }
.area { stroke: none; opacity: .1; }
.area.up { fill: var(--up); } .area.down { fill: var(--down); }
.bar { height: 6px; }
.track { fill: var(--soft); } .tick { fill: var(--quiet); }
.fill.calm { fill: var(--calm); } .fill.warn { fill: var(--warn); } .fill.down { fill: var(--down); }
footer { margin-top: 14px; color: var(--quiet); font-size: 12px; display: flex; flex-wrap: wrap; gap: 4px 18px; }
@media (max-width: 1020px) {
  .figures { grid-template-columns: repeat(3, 1fr); }
  .figures > div:nth-child(4) { border-left: 0; }
  .figures > div:nth-child(n+4) { border-top: 1px solid var(--edge); }
  .w8, .w7, .w6, .w5, .w4 { grid-column: span 12; }
}
@media (max-width: 560px) {
  .halves { grid-template-columns: 1fr; }
  body { padding: 12px; }
  .figures { grid-template-columns: repeat(2, 1fr); }
  .figures > div { border-left: 0; border-top: 1px solid var(--edge); }
  .figures > div:nth-child(-n+2) { border-top: 0; }
  .time { margin-left: 0; text-align: left; }
}
.n + td:not(.n), .n + th:not(.n) { padding-left: 8px; }
'''


###################################################################################################
_LOADER.files["shared/ui/templates/dashboard.html"] = r'''{% macro dash_pill(text, tone="") %}<span class="pill {{ tone }}">{{ text }}</span>{% endmacro %}
{% macro limit(label, used, whole, shown, marks=[], alarming=true) %}
<div>
  <div class="row"><span>{{ label }}</span><span>{{ shown }}</span></div>
  {{ bar(share(used, whole), marks, alarming=alarming) }}
</div>
{% endmacro %}
{% macro doubts(q) %}<td class="n">{{ q.orders_sent | number(0) }}</td><td class="n {{ "warn" if q.rejected else "quiet" }}">{{ q.rejected | number(0) }}</td><td class="n {{ "down" if q.unknown else "quiet" }}">{{ q.unknown | number(0) }}</td>{% endmacro %}
{% macro slippage(q) %}{% for bps in (q.slippage_bps, q.arrival_slippage_bps) %}<td class="n {{ "up" if bps is not none and bps < 0 else "" }}">{{ bps | signed(1) }}</td>{% endfor %}{% endmacro %}
{% set state_tone = {"ACTIVE": "up", "REDUCING": "warn", "HALTED": "down"} %}
{% set mode_tone = {"LIVE": "down", "SIMULATED": "calm", "PAPER": ""} %}
{% set state_words = {"ACTIVE": "● ACTIVE", "REDUCING": "◐ REDUCING", "HALTED": "■ HALTED"} %}
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{{ csp }}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="robots" content="noindex">
{% if refresh_seconds %}
<meta http-equiv="refresh" content="{{ refresh_seconds }}">
{% endif %}
<title>{{ state.state }} · {{ equity.equity_quote | number }} {{ quote_currency }} · {{ pod }}</title>
<link rel="icon" href="data:,">
<style>{{ css | safe }}</style>
</head>
<body>
<header>
  <h1>Trading loop</h1>
  <span class="quiet">{{ pod }}</span>
  {{ dash_pill(mode, mode_tone[mode]) }}
  {% if mode == "LIVE" %}{{ dash_pill("ARMED UNTIL " ~ (armed.until | day_time) if armed else "NOT ARMED: PAPER", "down" if armed else "") }}{% endif %}
  {{ dash_pill(state_words[state.state], state_tone[state.state]) }}
  {% if state.size_factor != 1 %}{{ dash_pill("SIZES × " ~ state.size_factor.normalize(), "warn") }}{% endif %}
  {% if state.limit_orders_only %}{{ dash_pill("LIMIT ORDERS ONLY", "warn") }}{% endif %}
  <div class="time"><b>{{ as_of.strftime("%d %b %Y %H:%M:%S") }}</b> UTC</div>
</header>
<main>
{% if state.state != "ACTIVE" %}
<p class="banner {{ state_tone[state.state] }}" role="status">
  <b>{{ "Trading is halted." if state.state == "HALTED" else "Only orders that reduce risk are sent." }}</b>
  {{ state.reason }} — {{ state.set_by }}, {{ state.since | day_time }} UTC.
  {% if state.rearm_required %}It stays so until a person re-arms it: trading-loop rearm --reason "…"
  {% elif state.pause_until %}It ends after {{ state.pause_until | day_time }} UTC, once every check is healthy.{% endif %}
  {% if state.close_all %}Open positions are being closed.{% endif %}
</p>
{% endif %}
{% if stale %}
<p class="banner warn" role="status"><b>These figures are old.</b> Equity was last marked {{ equity.at | ago(as_of) }} before the time of this page.</p>
{% endif %}
<dl class="figures">
  <div><dt>Equity</dt><dd class="main">{{ equity.equity_quote | number }}</dd>
    <dd class="sub">{{ quote_currency }} · cash {{ equity.cash_quote | number }}</dd></div>
  <div><dt>Profit today</dt><dd class="main {{ equity.day_pnl_quote | tone }}">{{ equity.day_pnl_quote | signed }}</dd>
    <dd class="sub">{{ equity.day_return_percent | signed_percent }} since 00:00 UTC</dd></div>
  <div><dt>Last 24 hours</dt><dd class="main {{ equity.return_24h_percent | tone }}">{{ equity.return_24h_percent | signed_percent }}</dd>
    <dd class="sub">{{ equity.return_total_percent | signed_percent }} since {{ equity.since | day_time }}</dd></div>
  <div><dt>Drawdown</dt><dd class="main">{{ equity.drawdown_percent | percent }}</dd>
    <dd class="sub">from the peak of {{ equity.peak_quote | number }}</dd></div>
  <div><dt>Exposure</dt><dd class="main">{{ risk.exposure_percent | percent(1) }}</dd>
    <dd class="sub">{{ risk.positions }} of {{ risk.max_positions }} tactical positions</dd></div>
  <div><dt>Won, 24 hours</dt><dd class="main">{{ performance_24h.win_rate_percent | percent(0) }}</dd>
    <dd class="sub">{{ performance_24h.wins }} of {{ performance_24h.trades }} trades closed</dd></div>
</dl>
<div class="grid">

<section class="w8">
  <div class="head"><h2>Equity</h2><span class="note">last 7 days, or since the start · {{ quote_currency }}, UTC</span></div>
  {% if equity_chart %}{{ equity_chart }}
  <h3>Drawdown from the peak</h3>
  {{ drawdown_chart }}
  {% else %}<p class="empty">The curve begins with the second mark of the equity.</p>{% endif %}
</section>

<section class="w4">
  <div class="head"><h2>Risk against its limits</h2><span class="note">{{ quote_currency }}</span></div>
  <div class="limits">
    {{ limit("Loss today", risk.day_loss_quote, risk.max_day_loss_quote, (risk.day_loss_quote | number) ~ " of " ~ (risk.max_day_loss_quote | number)) }}
    {% set tiers = risk.drawdown_tiers_percent %}
    {{ limit("Drawdown", risk.drawdown_percent, tiers[2], (risk.drawdown_percent | percent) ~ " of " ~ tiers | join(" / ") ~ " %", [share(tiers[0], tiers[2]), share(tiers[1], tiers[2])]) }}
    {{ limit("Open tactical positions", risk.positions, risk.max_positions, risk.positions ~ " of " ~ risk.max_positions, alarming=false) }}
    {{ limit("Largest tactical position", risk.largest_position_quote, risk.max_position_quote, (risk.largest_position_quote | number) ~ " of " ~ (risk.max_position_quote | number), alarming=false) }}
    {{ limit("Exposure", risk.exposure_quote, equity.equity_quote, (risk.exposure_quote | number) ~ " of " ~ (equity.equity_quote | number), alarming=false) }}
  </div>
  {% if core %}
  <h3>Core sleeve, {{ core.share_percent | percent(0) }} of the equity</h3>
  <div class="limits">
  {% for w in core.weights %}
    {{ limit(w.symbol, w.current_percent, w.target_percent + core.band_percent, (w.current_percent | percent(1)) ~ ", target " ~ (w.target_percent | percent(1)), [share(w.target_percent, w.target_percent + core.band_percent)], alarming=false) }}
  {% endfor %}
  </div>
  {% endif %}
  <h3>Value at risk, 95 %</h3>
  <dl class="pairs">
    <dt>Loss not exceeded in 19 of 20 cases</dt><dd>{{ risk.var95_quote | number }}</dd>
    <dt>Mean of the losses beyond it</dt><dd>{{ risk.cvar95_quote | number }}</dd>
    <dt class="quiet">Estimated</dt><dd class="quiet">{{ risk.var_at | day_time }}</dd>
  </dl>
</section>

<section>
  <div class="head"><h2>Open positions</h2><span class="note">valued at the newest mid of any venue, fees included</span></div>
  {% if positions %}
  <table><thead><tr><th>Symbol</th><th>Strategy</th><th>Opened</th><th class="n">Quantity</th><th class="n">Entry</th><th class="n">Mid</th><th class="n">Value</th><th class="n">Profit</th><th class="n">Profit %</th><th class="n">Stop</th><th class="n">To stop</th><th class="n">Target</th></tr></thead><tbody>
  {% for p in positions %}
  <tr><td><b>{{ p.symbol }}</b></td><td>{{ p.strategy | words }}{% if p.sleeve == "core" and p.strategy != "core" %} <span class="quiet">core</span>{% endif %}</td>
    <td class="s quiet">{{ p.opened_at | ago(as_of) }} ago</td><td class="n">{{ p.quantity | quantity }}</td>
    <td class="n">{{ p.average_entry_price | price }}</td><td class="n">{{ p.mid | price }}</td><td class="n">{{ p.value_quote | number }}</td>
    <td class="n {{ p.pnl_quote | tone }}">{{ p.pnl_quote | signed }}</td><td class="n {{ p.pnl_quote | tone }}">{{ p.pnl_percent | signed_percent }}</td>
    <td class="n">{{ (p.stop_price or none) | price }}</td><td class="n">{{ p.to_stop_percent | percent }}</td><td class="n">{{ p.target_price | price }}</td></tr>
  {% endfor %}
  </tbody></table>
  {% else %}<p class="empty">No position is open.</p>{% endif %}
</section>

<section class="w7">
  <div class="head"><h2>Recent trades</h2><span class="note">24 h: {{ performance_24h.pnl_quote | signed }} · profit factor {{ performance_24h.profit_factor | number }} · fees {{ performance_24h.fees_quote | number }}</span></div>
  {% if trades %}
  <table><thead><tr><th>Closed</th><th>Symbol</th><th>Strategy</th><th>Reason</th><th class="n">Entry</th><th class="n">Exit</th><th class="n">Profit</th><th class="n">%</th><th class="n">Held</th></tr></thead><tbody>
  {% for t in trades %}
  <tr><td class="s quiet">{{ t.closed_at | day_time }}</td><td><b>{{ t.symbol }}</b></td><td>{{ t.strategy | words }}</td><td class="why">{{ t.close_reason | words }}</td>
    <td class="n">{{ t.average_entry_price | price }}</td><td class="n">{{ t.average_exit_price | price }}</td>
    <td class="n {{ t.pnl_quote | tone }}">{{ t.pnl_quote | signed }}</td><td class="n {{ t.pnl_quote | tone }}">{{ t.return_percent | signed }}</td><td class="n quiet">{{ (t.closed_at - t.opened_at) | duration }}</td></tr>
  {% endfor %}
  </tbody></table>
  {% else %}<p class="empty">No trade was closed in the last 7 days.</p>{% endif %}
</section>

<section class="w5">
  <div class="head"><h2>Strategies</h2><span class="note">trades of 7 days · weight in the ensemble</span></div>
  <table><thead><tr><th>Strategy</th><th class="n">Weight</th><th class="n">Trades</th><th class="n">Won</th><th class="n">Profit</th><th class="n">Return</th></tr></thead><tbody>
  {% for s in strategies %}
  <tr><td>{{ s.strategy | words }}</td><td class="n quiet">{{ s.weight_percent | percent(0) }}</td><td class="n">{{ s.trades }}</td><td class="n">{{ s.win_rate_percent | percent(0) }}</td>
    <td class="n {{ s.pnl_quote | tone }}">{{ s.pnl_quote | signed }}</td><td class="n {{ s.return_percent | tone }}">{{ s.return_percent | signed_percent }}</td></tr>
  {% endfor %}
  </tbody></table>
  <h3>Execution, 24 hours</h3>
  <dl class="pairs">
    <dt>Orders sent, filled, rejected</dt><dd>{{ execution_24h.orders_sent }} / {{ execution_24h.orders_filled }} / {{ execution_24h.rejected }}</dd>
    <dt>Outcome unknown now</dt><dd class="{{ "down" if execution_24h.unresolved else "" }}">{{ execution_24h.unresolved }}</dd>
    <dt>Filled of what was ordered</dt><dd>{{ execution_24h.fill_rate_percent | percent(1) }}</dd>
    <dt>Slippage against the decision's mid</dt><dd>{{ execution_24h.slippage_bps | signed(1) }} bps</dd>
    <dt>Slippage against the mid on arrival</dt><dd>{{ execution_24h.arrival_slippage_bps | signed(1) }} bps</dd>
    <dt>Traded, fees, as maker</dt><dd>{{ execution_24h.filled_quote | number }} / {{ execution_24h.fees_quote | number }} / {{ execution_24h.maker_percent | percent(0) }}</dd>
  </dl>
</section>

<section>
  <div class="head"><h2>Execution quality</h2><span class="note">7 days, resting stops left out · slippage in bps of what was filled, a cost is positive · times are medians, and the 95th percentile</span></div>
  {% if execution_7d.orders_sent %}
  <table><thead><tr><th></th><th class="n">Orders</th><th class="n">Rejected</th><th class="n">Unknown</th><th class="n">Filled</th><th class="n">Traded</th><th class="n">Mean price</th><th class="n">Fees</th><th class="n">Fees, bps</th><th class="n">As maker</th><th class="n">To decision</th><th class="n">To arrival</th><th class="n">First fill</th><th class="n">Last fill</th><th class="n">95 %</th></tr></thead>
  {% for title, rows in (("", {"all orders": execution_7d}), ("By venue", execution_7d.by_venue), ("By symbol", execution_7d.by_symbol)) %}
  <tbody>{% if title %}<tr><th colspan="15" scope="rowgroup">{{ title }}</th></tr>{% endif %}
  {% for name, q in rows.items() %}
  <tr><td><b>{{ name }}</b></td>{{ doubts(q) }}<td class="n">{{ q.fill_rate_percent | percent(1) }}</td><td class="n">{{ q.filled_quote | number }}</td><td class="n">{{ q.average_price | price }}</td><td class="n">{{ q.fees_quote | number }}</td><td class="n">{{ q.fee_bps | number(1) }}</td><td class="n">{{ q.maker_percent | percent(0) }}</td>{{ slippage(q) }}<td class="n">{{ q.time_to_first_fill_ms | delay }}</td><td class="n">{{ q.time_to_fill_ms | delay }}</td><td class="n">{{ q.time_to_fill_p95_ms | delay }}</td></tr>
  {% endfor %}
  </tbody>
  {% endfor %}
  </table>
  <h3>By hour of the day, UTC</h3>
  <div class="halves">
  {% for hours in execution_7d.by_hour.items() | slice(2) if hours %}
  <table><thead><tr><th>Hour</th><th class="n">Orders</th><th class="n">Rejected</th><th class="n">Unknown</th><th class="n">Filled</th><th class="n">Traded</th><th class="n">Fees, bps</th><th class="n">To decision</th><th class="n">To arrival</th><th class="n">Last fill</th></tr></thead><tbody>
  {% for hour, q in hours %}
  <tr><td><b>{{ hour }}</b></td>{{ doubts(q) }}<td class="n">{{ q.fill_rate_percent | percent(1) }}</td><td class="n">{{ q.filled_quote | number(0) }}</td><td class="n">{{ q.fee_bps | number(1) }}</td>{{ slippage(q) }}<td class="n">{{ q.time_to_fill_ms | delay }}</td></tr>
  {% endfor %}
  </tbody></table>
  {% endfor %}
  </div>
  {% set short = execution_7d.shortfall %}
  <h3>Implementation shortfall of ended parent orders</h3>
  <p>{{ short.shortfall_bps | signed(1) }} bps of what was wanted, {{ short.shortfall_quote | signed }} {{ quote_currency }} <span class="why">by price {{ short.execution_quote | signed }}, fees {{ short.fees_quote | signed }}, what was not filled {{ short.missed_quote | signed }} · {{ short.parents }} orders{% if short.parents_unvalued %}, {{ short.parents_unvalued }} of which cannot be valued{% endif %}{% if execution_7d.fees_unknown %} · the fees of {{ execution_7d.fees_unknown }} orders have no known value yet{% endif %}</span></p>
  {% else %}<p class="empty">No order was sent in the last 7 days.</p>{% endif %}
</section>

<section class="w7">
  <div class="head"><h2>Recent decisions</h2><span class="note">24 h: {{ decisions_24h.BUY }} BUY, {{ decisions_24h.SELL }} SELL, {{ decisions_24h.HOLD | number(0) }} HOLD · the newest, and those to trade</span></div>
  {% if decisions %}
  <table><thead><tr><th>Time</th><th>Decision</th><th class="n">Confidence</th><th>Reason</th><th class="n">Risk</th></tr></thead><tbody>
  {% for d in decisions %}
  <tr><td class="s quiet">{{ d.at | day_time }}</td>
    <td class="s"><b>{{ d.action }}</b> {{ d.symbol or "" }}<br><span class="quiet">{{ d.strategy | words if d.strategy else d.source }}</span></td>
    <td class="n">{{ (100 * d.confidence) | percent(0) }}</td>
    <td class="why"><span class="clip">{{ d.reasoning }}{% if d.approved is false and d.risk_reasoning %} — {{ d.risk_reasoning | join("; ") }}{% endif %}</span></td>
    <td class="n">{% if d.approved is none %}<span class="quiet">–</span>{% elif d.approved %}<span class="up">✓ {{ d.size_quote | number }}</span>{% else %}<span class="down">✕ refused</span>{% endif %}</td></tr>
  {% endfor %}
  </tbody></table>
  {% else %}<p class="empty">No decision has been taken yet.</p>{% endif %}
</section>

<section class="w5">
  <div class="head"><h2>Circuit breaker</h2><span class="note">{% if breaker.at %}{{ breaker.status | words }} · checked {{ breaker.at | ago(as_of) }} ago{% endif %}</span></div>
  {% if breaker.checks %}
  <ul class="checks">
  {% for c in breaker.checks %}
  <li><span class="mark {{ c.tone }}" aria-hidden="true">{{ c.mark }}</span><span>{{ c.name | words }}<span class="quiet"> {{ c.status | lower }}</span>{% if c.detail and c.tone != "up" %}<br><span class="why">{{ c.detail }}</span>{% endif %}</span></li>
  {% endfor %}
  </ul>
  {% else %}<p class="empty">The breaker has not reported yet.</p>{% endif %}
  {% if breaker.actions %}<h3>What it did</h3>{% for a in breaker.actions %}<p>{{ a.action | words }}{% if a.reason %} <span class="why">{{ a.reason }}</span>{% endif %}</p>{% endfor %}{% endif %}
  <h3>Market at the last scan{% if market.at %}, {{ market.at | ago(as_of) }} ago: {{ market.next_action | lower }}{% endif %}</h3>
  {% if market.symbols %}
  <table><thead><tr><th>Symbol</th><th class="n">Price</th><th class="n">Spread, bps</th><th class="n">Chance of target</th><th class="n">Rank</th></tr></thead><tbody>
  {% for m in market.symbols %}
  <tr><td>{{ m.symbol }}</td><td class="n">{{ m.price | price }}</td><td class="n">{{ m.spread_bps | number(1) }}</td><td class="n">{{ m.ai_score | number(3) }}</td><td class="n">{{ m.ai_score_rank | number(2) }}</td></tr>
  {% endfor %}
  </tbody></table>
  {% else %}<p class="empty">No scan has been made yet.</p>{% endif %}
</section>

<section class="w7">
  <div class="head"><h2>System</h2><span class="note">workflows over 24 h, services over 1 h</span></div>
  {% if workflows %}
  <table><thead><tr><th>Workflow</th><th class="n">Last run</th><th>Ended</th><th class="n">Took</th><th class="n">95th percentile</th><th class="n">Runs</th><th class="n">Failed</th></tr></thead><tbody>
  {% for w in workflows %}
  <tr><td>{{ w.workflow | words }}</td><td class="n quiet">{{ w.event_at | ago(as_of) }} ago</td>
    <td>{% if w.status == "DONE" %}<span class="up">✓ done</span>{% elif w.status == "FAILED" %}<span class="down">✕ failed</span><br><span class="why clip">{{ w.error or "" }}</span>{% else %}<span class="quiet">… running</span>{% endif %}</td>
    <td class="n">{{ w.duration_ms | number(0) }} ms</td><td class="n">{{ w.duration_p95_ms | number(0) }} ms</td><td class="n">{{ w.runs }}</td><td class="n {{ "down" if w.failures else "" }}">{{ w.failures }}</td></tr>
  {% endfor %}
  </tbody></table>
  {% else %}<p class="empty">No workflow has run in the last 24 hours.</p>{% endif %}
  {% if services %}
  <table><thead><tr><th>Service</th><th class="n">Calls</th><th class="n">Failed</th><th class="n">Slowed by limits</th><th class="n">Mean</th><th class="n">Slowest</th><th>Last error</th></tr></thead><tbody>
  {% for s in services %}
  <tr><td>{{ s.service }}</td><td class="n">{{ s.calls }}</td><td class="n {{ "down" if s.failures else "" }}">{{ s.failures }}</td><td class="n">{{ s.rate_limited }}</td><td class="n">{{ s.mean_latency_ms | number(0) }} ms</td><td class="n">{{ s.max_latency_ms | number(0) }} ms</td><td class="why">{{ s.last_error or "" }}</td></tr>
  {% endfor %}
  </tbody></table>
  {% endif %}
</section>

<section class="w5">
  <div class="head"><h2>Alerts</h2></div>
  {% if alerts %}
  <table><tbody>
  {% for a in alerts %}
  <tr><td class="s quiet">{{ a.at | day_time }}</td><td class="s">{{ dash_pill(a.severity, {"CRITICAL": "down", "HIGH": "down", "WARNING": "warn"}.get(a.severity, "")) }}</td>
    <td>{{ a.title }}<br><span class="why clip">{{ a.body }}</span></td><td class="n quiet">{{ "sent" if a.sent_at else "waiting" }}</td></tr>
  {% endfor %}
  </tbody></table>
  {% else %}<p class="empty">No alert has been raised.</p>{% endif %}
</section>

</div>
</main>
<footer><span>Version {{ version }}</span><span>All times UTC, all money in {{ quote_currency }}; a dash is a value that is not known.</span><span>Read in {{ gathered_in_ms }} ms</span></footer>
</body>
</html>
'''


###################################################################################################
_LOADER.modules.setdefault("steps", ("steps/__init__.py", ""))


def handler(pd: "pipedream"):
    import importlib

    return importlib.import_module("steps.dashboard").handler(pd)
