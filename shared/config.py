"""Every setting of the system: typed, bounded, frozen, read from environment variables.

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
