"""What the doctor finds: each verdict, and that doubt is never called fine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ccxt
import pytest

from deploy.cli import checks
from shared import clock, config
from shared.config import Config
from shared.errors import ConfigurationError
from shared.ledger.connection import Ledger
from tests.conftest import VirtualClock


class Exchange:
    """Answers every call with ``answer``, or raises it."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            if isinstance(self._answer, Exception):
                raise self._answer
            return self._answer

        return call


@pytest.mark.parametrize(
    ("venue", "answer", "verdict"),
    [
        ("binance", {"enableWithdrawals": False, "ipRestrict": True}, "OK"),
        ("binance", {"enableWithdrawals": True}, "FAIL"),
        ("binance", {}, "WARN"),
        ("binance", {"enableWithdrawals": None}, "WARN"),
        ("binance", {"enableWithdrawals": "false"}, "WARN"),
        ("binanceus", ccxt.BadRequest("404"), "FAIL"),
        ("coinbase", {"can_view": True, "can_trade": True, "can_transfer": False}, "OK"),
        ("coinbase", {"can_transfer": True}, "FAIL"),
        ("coinbase", {"can_trade": True}, "WARN"),
        ("kraken", {"result": {"permissions": ["query-funds", "modify-trades"]}}, "OK"),
        ("kraken", {"result": {"permissions": ["query-funds", "withdraw-funds"]}}, "FAIL"),
        ("kraken", {"result": {"permissions": ["Withdraw"]}}, "FAIL"),
        ("kraken", {"result": {"permissions": []}}, "WARN"),
        ("kraken", {"result": {}}, "WARN"),
        ("kraken", None, "WARN"),
        ("binance", ccxt.AuthenticationError("binance -2015"), "FAIL"),
        ("kraken", ccxt.NetworkError("no line"), "FAIL"),
        ("coinbase", ValueError("a secret that is no key"), "FAIL"),
    ],
)
def test_a_key_that_may_withdraw_fails_and_doubt_is_a_warning(
    venue: str, answer: Any, verdict: str
) -> None:
    assert checks.key_permissions(venue, Exchange(answer)).verdict == verdict


@pytest.mark.parametrize(
    ("ahead_ms", "verdict"), [(0, "OK"), (450, "OK"), (5_000, "FAIL"), (-5_000, "FAIL")]
)
def test_a_clock_that_is_off_fails(
    virtual_clock: VirtualClock, ahead_ms: int, verdict: str
) -> None:
    found = checks.venue_clock("kraken", Exchange(clock.now_ms() + ahead_ms))
    assert found.verdict == verdict


def test_a_venue_that_does_not_answer_fails_with_advice() -> None:
    found = checks.venue_clock("binance", Exchange(ccxt.RequestTimeout("binance GET https://x")))
    assert (found.verdict, found.detail) == ("FAIL", "RequestTimeout")
    assert "check the network" in found.advice


def settings(**variables: str) -> Config:
    return config.load(variables)


def test_a_migrated_database_is_fine_and_an_old_one_is_not(
    ledger: Ledger, database_url: str
) -> None:
    assert checks.database(settings(DATABASE_URL=database_url, POD="test")).verdict == "OK"
    ledger.execute("DELETE FROM schema_migrations WHERE version = 1")
    found = checks.database(settings(DATABASE_URL=database_url, POD="test"))
    assert (found.verdict, found.advice) == ("FAIL", "run `trading-loop migrate`")


def test_a_database_that_is_not_there_fails() -> None:
    found = checks.database(settings(DATABASE_URL="postgresql://127.0.0.1:1/none"))
    assert found.verdict == "FAIL"
    assert checks.database(settings()).verdict == "WARN"


def test_the_cache_is_never_fatal(redis_url: str) -> None:
    assert checks.redis(settings(REDIS_URL=redis_url)).verdict == "OK"
    assert checks.redis(settings(REDIS_URL="redis://127.0.0.1:1")).verdict == "WARN"
    assert checks.redis(settings()).verdict == "WARN"


@pytest.mark.parametrize(
    ("variables", "verdict"),
    [
        ({}, "WARN"),
        ({"OPENAI_API_KEY": "x"}, "WARN"),
        ({"OPENAI_API_KEY": "x", "ANTHROPIC_API_KEY": "y"}, "OK"),
    ],
)
def test_two_model_keys_or_a_warning(variables: dict[str, str], verdict: str) -> None:
    assert checks.model_keys(settings(**variables)).verdict == verdict


def test_live_trading_without_tokens_fails() -> None:
    assert checks.live_tokens(settings()).verdict == "WARN"
    assert checks.live_tokens(settings(ENABLE_LIVE_TRADING="true")).verdict == "FAIL"
    both = {"DASHBOARD_TOKEN": "a", "KILL_SWITCH_TOKEN": "b", "ENABLE_LIVE_TRADING": "true"}
    assert checks.live_tokens(settings(**both)).verdict == "OK"


@pytest.mark.parametrize(
    ("lock", "verdict"),
    [
        ("ccxt==4.5.90 \\\n    --hash=sha256:0\n", "OK"),
        ("ccxt==4.5.89 \\\n", "FAIL"),
        ("no-such-package==1.0 \\\n", "FAIL"),
        ("no-such-package==1.0 ; sys_platform == 'win32' \\\n", "OK"),
    ],
)
def test_packages_are_held_against_their_pins(tmp_path: Path, lock: str, verdict: str) -> None:
    file = tmp_path / "local.txt"
    file.write_text(lock)
    assert checks.packages(file).verdict == verdict


def test_a_bad_configuration_is_told_and_stops_the_rest() -> None:
    def load() -> Config:
        raise ConfigurationError("MAX_POSITIONS: was '0'; expected at least 1")

    found, loaded = checks.configuration(load)
    assert (found.verdict, loaded) == ("FAIL", None)
    assert "MAX_POSITIONS" in found.detail
