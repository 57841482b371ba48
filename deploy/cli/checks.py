"""What ``trading-loop doctor`` looks at, one function a subject."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from deploy.cli import regions
from deploy.cli.check import Check, Verdict
from shared import clock
from shared.config import Config
from shared.errors import ConfigurationError, LedgerUnavailable

MAX_CLOCK_OFFSET_MS = 1_000
"""Binance refuses a signed request whose time runs ahead of its own by more than a second."""


def python_version() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] == (3, 12):
        return Check("Python", "OK", found)
    return Check("Python", "FAIL", found, "use Python 3.12, which is what Pipedream runs")


def packages(lock_file: Path) -> Check:
    """The installed versions against the pins of a requirements file."""
    wrong = list(_differences(lock_file.read_text(encoding="utf-8")))
    if not wrong:
        return Check("packages", "OK", f"as {lock_file.name} pins them")
    return Check("packages", "FAIL", "; ".join(wrong[:5]), "run `make setup`")


def _differences(lock: str) -> Iterator[str]:
    for line in lock.splitlines():
        requirement, _, marker = line.removesuffix("\\").strip().partition(";")
        name, exact, pinned = requirement.strip().partition("==")
        if not exact or line[:1].isspace():
            continue
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            if not marker:  # one with a marker may be for another platform
                yield f"{name}: expected {pinned}, is not installed"
            continue
        if installed != pinned:
            yield f"{name}: expected {pinned}, was {installed}"


def database(settings: Config) -> Check:
    """Reach, version and migrations of the ledger."""
    from shared.ledger import connection, migrate

    if settings.database_url is None:
        return Check(
            "database",
            "WARN",
            "DATABASE_URL is not set",
            "fine on this machine, where `trading-loop run` brings its own; Pipedream needs one",
        )
    try:
        ledger = connection.connect(settings.database_url.get_secret_value(), settings.pod)
        row = ledger.one(
            "SELECT current_setting('server_version_num')::int / 10000 AS major, "
            "to_regclass('schema_migrations') IS NOT NULL AS migrated"
        )
        assert row is not None
        present: set[int] = set()
        if row["migrated"]:
            found = ledger.query("SELECT version FROM schema_migrations")
            present = {entry["version"] for entry in found}
    except LedgerUnavailable as error:
        return Check("database", "FAIL", str(error), "check DATABASE_URL and the server")
    detail = f"PostgreSQL {row['major']}"
    pending = [m.name for m in migrate.known() if m.version not in present]
    if row["major"] < 14:
        return Check("database", "FAIL", detail, "use PostgreSQL 14 or newer")
    if pending:
        missing = f"{detail}, lacks {', '.join(pending)}"
        return Check("database", "FAIL", missing, "run `trading-loop migrate`")
    return Check("database", "OK", f"{detail}, every migration applied")


def redis(settings: Config) -> Check:
    """Whether the cache answers. Without it the loop is slower, not less safe."""
    if settings.redis_url is None:
        return Check(
            "Redis", "WARN", "REDIS_URL is not set", "without a cache each run fetches all"
        )
    import redis as library

    client = library.Redis.from_url(
        settings.redis_url.get_secret_value(),
        retry=None,
        socket_timeout=2,
        socket_connect_timeout=2,
    )
    try:
        watch = clock.Stopwatch()
        client.ping()
        return Check("Redis", "OK", f"answers in {watch.milliseconds():.0f} ms")
    except library.RedisError as error:
        return Check("Redis", "WARN", type(error).__name__, "check REDIS_URL; trading goes on")
    finally:
        client.close()


def model_keys(settings: Config) -> Check:
    names = [
        name
        for name, key in (
            (settings.openai_model, settings.openai_api_key),
            (settings.anthropic_model, settings.anthropic_api_key),
        )
        if key is not None
    ]
    if len(names) == 2:
        return Check("models", "OK", ", ".join(names))
    found = f"only {names[0]}" if names else "no key is set"
    advice = "set OPENAI_API_KEY and ANTHROPIC_API_KEY; without, the ensemble decides alone"
    return Check("models", "WARN", found, advice)


def venue_clock(name: str, exchange: Any) -> Check:
    """Whether a venue's public interface answers, and how far its clock is from ours.

    Half the round trip is taken off, so that a slow line does not look like a wrong clock.
    """
    from shared.execution.venues import ccxt_loader

    watch, before_ms = clock.Stopwatch(), clock.now_ms()
    try:
        server_ms = exchange.fetch_time()
    except ccxt_loader.errors().BaseError as error:
        refused = regions.refusal(error)
        if refused is not None:
            advice = "leave it out of VENUES, or run the loop from a place that it serves"
            return Check(f"{name} clock", "FAIL", refused, advice)
        return Check(f"{name} clock", "FAIL", type(error).__name__, "check the network")
    round_trip_ms = watch.milliseconds()
    offset_ms = server_ms - before_ms - round_trip_ms / 2
    detail = f"offset {offset_ms:+.0f} ms, round trip {round_trip_ms:.0f} ms"
    if abs(offset_ms) > MAX_CLOCK_OFFSET_MS:
        return Check(f"{name} clock", "FAIL", detail, "synchronise this machine's clock (NTP)")
    return Check(f"{name} clock", "OK", detail)


def key_permissions(name: str, exchange: Any) -> Check:
    """What a venue's key may do: it must not be able to withdraw."""
    from shared.execution.venues import ccxt_loader

    title = f"{name} key"
    try:
        withdraw = _may_withdraw(name, exchange)
    except ccxt_loader.errors().BaseError as error:
        return Check(title, "FAIL", type(error).__name__, "check key, secret and IP allow-list")
    except (KeyError, TypeError):
        advice = "look at the key's permissions on the venue's page yourself"
        return Check(title, "WARN", "the venue's answer names no permissions", advice)
    except (ValueError, IndexError) as error:  # before anything was sent: it does not sign
        advice = "expected the key and secret as the venue gave them"
        return Check(title, "FAIL", f"cannot sign: {type(error).__name__}", advice)
    if withdraw:
        return Check(title, "FAIL", "may withdraw", "make a key without permission to withdraw")
    return Check(title, "OK", "cannot withdraw")


def _may_withdraw(name: str, exchange: Any) -> bool:
    """Ask the venue about the key itself.

    Sources: docs.kraken.com, Get API Key Info; docs.cdp.coinbase.com, Get API Key Permissions;
    developers.binance.com, wallet, API Key Permission. Binance US documents no such endpoint:
    it is asked for all the same, and an error is a failed check.
    """
    if name == "coinbase":
        return _flag(exchange.v3PrivateGetBrokerageKeyPermissions()["can_transfer"])
    if name == "kraken":
        granted = exchange.privatePostGetApiKeyInfo()["result"]["permissions"]
        if not isinstance(granted, list) or not granted:
            raise TypeError("permissions: expected a list of names")
        return any("withdraw" in str(name).lower() for name in granted)
    return _flag(exchange.sapiGetAccountApiRestrictions()["enableWithdrawals"])


def _flag(value: Any) -> bool:
    """A permission as the venue tells it; nothing but true and false is an answer."""
    if not isinstance(value, bool):
        raise TypeError(f"permission: expected true or false, was {value!r}")
    return value


def alerting(settings: Config) -> Check:
    if settings.slack_bot_token is None:
        advice = "set SLACK_BOT_TOKEN, or alerts stay in the ledger"
        return Check("alerts", "WARN", "SLACK_BOT_TOKEN is not set", advice)
    return Check("alerts", "OK", f"Slack, channel {settings.slack_channel}")


def live_tokens(settings: Config) -> Check:
    """The credentials that live trading needs beside the keys."""
    missing = [
        name.upper()
        for name in ("dashboard_token", "kill_switch_token")
        if getattr(settings, name) is None
    ]
    if not missing:
        return Check("tokens", "OK", "dashboard and kill switch")
    verdict: Verdict = "FAIL" if settings.trading_mode == "live" else "WARN"
    return Check("tokens", verdict, f"{', '.join(missing)} not set", "set them before live trading")


def configuration(load: Any) -> tuple[Check, Config | None]:
    """The configuration, or what is wrong with it."""
    try:
        settings: Config = load()
    except ConfigurationError as error:
        return Check("configuration", "FAIL", str(error), "correct it; .env.example explains"), None
    detail = f"{settings.trading_mode}, profile {settings.profile}, pod {settings.pod}"
    return Check("configuration", "OK", detail), settings
