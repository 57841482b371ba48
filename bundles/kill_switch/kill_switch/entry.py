# pipedream add-package annotated-types==0.8.0
# pipedream add-package psycopg2-binary==2.9.13
# pipedream add-package pydantic==2.14.3
# pipedream add-package pydantic-core==2.50.4
# pipedream add-package redis==8.1.0
# pipedream add-package typing-extensions==4.16.0
# pipedream add-package typing-inspection==0.4.5
# The step kill_switch of the workflow kill_switch.
# autonomous-trading-loop 0.1.0, build 82ee4aba0498: 21 modules.
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
_LOADER.modules["shared.safety"] = ("shared/safety/__init__.py", r'''"""Thirteen checks a minute, what follows from them, and the switch that a person can pull."""
''')


###################################################################################################
_LOADER.modules["shared.safety.kill"] = ("shared/safety/kill.py", r'''"""The switch that a person pulls from outside. It can only reduce risk."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Any

from shared import clock
from shared.config import Config
from shared.ledger import alerts, state
from shared.ledger.connection import Ledger

SET_BY = "kill_switch"
_ACTIONS: dict[str, state.State] = {"halt": "HALTED", "reduce": "REDUCING"}
_REASON_MAX = 500


@dataclass(frozen=True)
class Response:
    """What the HTTP caller gets."""

    status: int
    body: dict[str, Any]


def authorise(config: Config, headers: dict[str, Any]) -> Response | None:
    """``None`` if the bearer token is right, else the refusal.

    Without ``KILL_SWITCH_TOKEN`` everybody is refused. The comparison takes the same time
    wherever the first wrong character is.
    """
    if config.kill_switch_token is None:
        return Response(403, {"error": "KILL_SWITCH_TOKEN: expected to be configured, was not set"})
    given = next((v for k, v in headers.items() if k.lower() == "authorization"), None)
    scheme, _, token = str(given or "").partition(" ")
    expected = config.kill_switch_token.get_secret_value()
    matches = hmac.compare_digest(token.strip().encode(), expected.encode())
    if scheme.lower() != "bearer" or not matches:
        return Response(401, {"error": "Authorization: expected Bearer and the right token"})
    return None


def pull(ledger: Ledger, request: Any) -> Response:
    """Tighten the trading state as ``request`` asks: ``{"action", "reason"}``.

    The state stays until a person re-arms it by another way. Asking for less than what is in
    force already changes nothing.
    """
    refusal = _malformed(request)
    if refusal is not None:
        return Response(400, {"error": refusal})
    action, reason = request["action"], request["reason"].strip()
    with ledger.transaction():
        changed = state.tighten(
            ledger, _ACTIONS[action], reason=reason, set_by=SET_BY, rearm_required=True
        )
        present = state.read(ledger)
        if changed:
            alerts.put(
                ledger,
                f"kill:{action}:{clock.iso(clock.now())}",
                "CRITICAL",
                "Kill switch pulled",
                f"State: {present.state}\nReason: {reason}\nA person has to re-arm.",
            )
    return Response(
        200,
        {
            "state": present.state,
            "changed": changed,
            "since": clock.iso(present.since),
            "rearm_required": present.rearm_required,
        },
    )


def _malformed(request: Any) -> str | None:
    """What is wrong with the request, naming field, value and what was expected."""
    if not isinstance(request, dict):
        return f"body: expected a JSON object, was {type(request).__name__}"
    unknown = sorted(set(request) - {"action", "reason"})
    if unknown:
        return f"{unknown[0]}: expected action and reason only"
    action, reason = request.get("action"), request.get("reason")
    if not isinstance(action, str) or action not in _ACTIONS:
        return f"action: expected one of {', '.join(_ACTIONS)}, was {action!r}"
    if not isinstance(reason, str) or not 0 < len(reason.strip()) <= _REASON_MAX:
        return f"reason: expected a text of 1 to {_REASON_MAX} characters, was {reason!r:.60}"
    return None
''')


###################################################################################################
_LOADER.modules["steps.kill_switch"] = ("steps/kill_switch.py", r'''"""Halt trading from outside. It takes no lease: a halt must not wait for one."""

import os

from shared import config, instance
from shared.run import Export
from shared.safety import kill


def handler(pd: "pipedream") -> Export:
    """Answer the HTTP request, and export the answer."""
    event = pd.steps["trigger"]["event"]
    settings = config.load(os.environ, pd.inputs)
    response = kill.authorise(settings, event["headers"])
    if response is None:
        response = kill.pull(instance.ledger_of(pd, settings), event["body"])
    pd.respond({"status": response.status, "body": response.body})
    return {"status": response.status, **response.body}
''')


###################################################################################################
_LOADER.modules.setdefault("steps", ("steps/__init__.py", ""))


def handler(pd: "pipedream"):
    import importlib

    return importlib.import_module("steps.kill_switch").handler(pd)
