"""Configuration: typed, bounded, and refused in words that say what to correct."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from shared import config
from shared.errors import ConfigurationError

DOCUMENT = {
    "COINBASE_API_KEY": "xxx",
    "COINBASE_SECRET": "xxx",
    "BINANCE_API_KEY": "xxx",
    "BINANCE_SECRET": "xxx",
    "MAX_POSITION_SIZE": "100",
    "MAX_DAILY_LOSS": "50",
    "MAX_DRAWDOWN_PERCENT": "10",
    "MAX_POSITIONS": "5",
    "MIN_SHARPE_RATIO": "1.5",
    "TARGET_WIN_RATE": "0.55",
    "STOP_LOSS_PERCENT": "2",
    "TAKE_PROFIT_PERCENT": "5",
    "OPENAI_API_KEY": "xxx",
    "ANTHROPIC_API_KEY": "xxx",
    "AI_TEMPERATURE": "0.3",
    "AI_CONFIDENCE_THRESHOLD": "0.7",
    "ENABLE_LIVE_TRADING": "false",
    "ENABLE_CIRCUIT_BREAKER": "true",
    "ENABLE_AUTO_OPTIMIZATION": "true",
    "LOG_LEVEL": "verbose",
}
"""The configuration block of the system's specification, as it stands there."""


def test_the_specifications_values_are_taken_and_are_the_defaults() -> None:
    loaded = config.load(DOCUMENT)
    assert loaded.max_position_size == Decimal(100)
    assert loaded.trading_mode == "paper"
    keys = {name: value for name, value in DOCUMENT.items() if value == "xxx"}
    assert loaded == config.load(keys)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"MAX_POSITIONS": "many"}, ["MAX_POSITIONS", "'many'", "integer"]),
        ({"MAX_POSITIONS": "0"}, ["MAX_POSITIONS", "'0'", "greater than or equal to 1"]),
        ({"STOP_LOSS_PERCENT": "0"}, ["STOP_LOSS_PERCENT", "'0'", "greater than 0"]),
        ({"STOP_LOSS_PERCENT": "101"}, ["STOP_LOSS_PERCENT", "'101'", "100"]),
        ({"MAX_DAILY_LOSS": "nan"}, ["MAX_DAILY_LOSS", "'nan'", "finite"]),
        ({"AI_CONFIDENCE_THRESHOLD": "1.01"}, ["AI_CONFIDENCE_THRESHOLD", "'1.01'"]),
        ({"ENABLE_LIVE_TRADING": "maybe"}, ["ENABLE_LIVE_TRADING", "'maybe'", "boolean"]),
        ({"VENUES": "binance,ftx"}, ["VENUES", "'binance,ftx'", "kraken"]),
        ({"SYMBOLS": "BTC,eth/usd"}, ["SYMBOLS", "pattern"]),
        ({"LOG_LEVEL": "loud"}, ["LOG_LEVEL", "'loud'", "verbose"]),
        ({"PROFILE": "reckless"}, ["PROFILE", "'reckless'", "conservative"]),
        ({"MAX_DRAWDOWN_PERCENT": "30"}, ["MAX_DRAWDOWN_PERCENT <= DRAWDOWN_ALERT_PERCENT", "30"]),
        ({"MAX_POSITON_SIZE": "5"}, ["MAX_POSITON_SIZE", "did you mean MAX_POSITION_SIZE?"]),
        ({"MAX_POSITIONS": "0", "LOG_LEVEL": "loud"}, ["MAX_POSITIONS", "LOG_LEVEL"]),
        ({"CORE_SLEEVE_PERCENT": "101"}, ["CORE_SLEEVE_PERCENT", "'101'", "100"]),
        ({"CORE_WEIGHTS": "BTC:60,ETH:41"}, ["CORE_WEIGHTS", "at most 100 percent", "101"]),
        ({"CORE_WEIGHTS": "BTC:60,btc:10"}, ["CORE_WEIGHTS", "each name once", "BTC,BTC"]),
        ({"CORE_WEIGHTS": "BTC:0"}, ["CORE_WEIGHTS", "'BTC:0'", "greater than 0"]),
        ({"CORE_WEIGHTS": "BTC"}, ["CORE_WEIGHTS", "'BTC'"]),
        ({"CORE_WEIGHTS": "BTC:half"}, ["CORE_WEIGHTS", "'BTC:half'"]),
        ({"SIMULATED_WIRE_URL": "http://10.0.0.1:80"}, ["SIMULATED_WIRE_URL", "this machine"]),
        (
            {"SIMULATED_WIRE_URL": "http://127.0.0.1:80", "ENABLE_LIVE_TRADING": "true"},
            ["SIMULATED_WIRE_URL", "ENABLE_LIVE_TRADING"],
        ),
    ],
)  # fmt: skip
def test_a_bad_value_names_variable_value_and_bound(
    variables: dict[str, str], words: list[str]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        config.load(variables)
    for word in words:
        assert word in str(caught.value)


def test_a_secret_never_stands_in_an_error_or_a_repr() -> None:
    secret = "sk-very-secret-canary"
    loaded = config.load({"OPENAI_API_KEY": secret})
    assert secret not in repr(loaded) + str(loaded.model_dump())
    assert loaded.secrets() == (secret,)
    with pytest.raises(ConfigurationError) as caught:
        config.load({"OPENAI_API_KEY": secret, "MAX_POSITIONS": "x"})
    assert secret not in str(caught.value)


def test_other_programs_variables_are_none_of_our_business() -> None:
    config.load({"PATH": "/bin", "HOME": "/", "SYMBOLIC": "1", "DATABASE": "x", "LANG": "C"})


def test_a_profile_changes_defaults_and_a_variable_wins_over_it() -> None:
    loaded = config.load({"PROFILE": "aggressive", "MAX_POSITIONS": "7"})
    assert loaded.max_position_size == Decimal(500)
    assert loaded.max_positions == 7


def test_core_weights_are_pairs_of_a_name_and_its_percent() -> None:
    loaded = config.load({"CORE_WEIGHTS": " btc : 50, OTHERS:12.5"})
    assert loaded.core_weights == (("BTC", Decimal(50)), ("OTHERS", Decimal("12.5")))
    assert config.Config().core_sleeve_percent == 0
    assert config.load({"PROFILE": "aggressive"}).core_sleeve_percent == 20


def test_the_profiles_hold_only_valid_settings() -> None:
    for name in config.PROFILES:
        config.load({"PROFILE": name})


def test_an_unknown_name_in_a_file_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigurationError, match=r"STOP_LOSS: not a known.*STOP_LOSS_PERCENT"):
        config.load_file_values({"STOP_LOSS": "2"}, Path(".env"))


def test_connected_accounts_fill_what_no_variable_sets() -> None:
    inputs = {
        "postgresql": {
            "$auth": {
                "user": "u@x", "password": "p/w", "host": "db", "port": 5432, "database": "d"
            }
        },
        "openai": {"$auth": {"api_key": "from account"}},
        "anthropic": {"$auth": {"api_key": "from account"}},
    }  # fmt: skip
    loaded = config.load({"ANTHROPIC_API_KEY": "from variable"}, inputs)
    assert loaded.database_url is not None
    assert loaded.openai_api_key is not None
    assert loaded.anthropic_api_key is not None
    assert loaded.database_url.get_secret_value() == "postgresql://u%40x:p%2Fw@db:5432/d"
    assert loaded.openai_api_key.get_secret_value() == "from account"
    assert loaded.anthropic_api_key.get_secret_value() == "from variable"


def test_an_account_that_lacks_a_field_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"account postgresql: expected .*password"):
        config.load({}, {"postgresql": {"$auth": {"user": "u", "host": "h"}}})
