from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
import requests

from deploy.local.market.source import SourceSpec
from deploy.local.wire.client import WireFailed, start_wire
from deploy.local.wire.sentiment import classification
from shared.errors import ConfigurationError
from tests.local.wire.conftest import RunningWire
from tests.local.wire.fakes import MINUTE_MS, START_MS, FakeSource

SPEC = SourceSpec("simulated", ("BTC/USDT",), START_MS, 1.0, 7, None)


def test_a_wire_process_from_start_to_stop() -> None:
    balances = {"kraken": {"USDT": Decimal("3333.33")}}
    with start_wire(SPEC, now_ms=START_MS, balances=balances) as wire:
        assert wire.accounts()["kraken"]["balances"]["USDT"]["free"] == "3333.33000000"
        wire.advance(START_MS + MINUTE_MS)
        answer = requests.get(f"{wire.base_url}/binance/api/v3/time", timeout=5)
        assert answer.json() == {"serverTime": START_MS + MINUTE_MS}
        assert wire.stats()["binance GET /api/v3/time"] == 1
        with pytest.raises(WireFailed, match="now_ms"):
            wire.advance(START_MS)
        process = wire._process
    assert process.returncode == 0
    wire.stop()


def test_the_process_ends_when_its_parent_lets_go_of_it() -> None:
    wire = start_wire(SPEC, now_ms=START_MS, balances={})
    assert wire._process.stdin is not None
    wire._process.stdin.close()
    assert wire._process.wait(10) == 0
    wire.stop()


def test_a_wire_that_cannot_start_says_so() -> None:
    missing = SourceSpec("recorded", ("BTC/USDT",), START_MS, 1.0, 0, "/nowhere")
    with pytest.raises(ConfigurationError, match="expected a folder, /nowhere is none"):
        start_wire(missing, now_ms=START_MS, balances={})


def test_balances_are_checked_before_anything_starts() -> None:
    with pytest.raises(ConfigurationError, match="balances.kraken.USDT"):
        start_wire(SPEC, now_ms=START_MS, balances={"kraken": {"USDT": Decimal(-1)}})


def test_fear_and_greed_as_alternative_me_answers(wire: RunningWire) -> None:
    answer = requests.get(f"{wire.base_url}/fng/", params={"limit": 1}, timeout=5)
    (row,) = answer.json()["data"]
    assert (row["value"], row["value_classification"]) == ("39", "Fear")
    assert int(row["timestamp"]) == START_MS // 1000 - 3_600
    assert int(row["time_until_update"]) == 82_800


def test_unknown_mood_is_an_error_and_not_a_neutral_value(
    start: Callable[..., RunningWire],
) -> None:
    wire = start(FakeSource(fear_greed=None))
    assert requests.get(f"{wire.base_url}/fng/", timeout=5).status_code == 503


@pytest.mark.parametrize(
    ("value", "name"),
    [(0, "Extreme Fear"), (25, "Fear"), (50, "Neutral"), (74, "Greed"), (100, "Extreme Greed")],
)
def test_classification(value: int, name: str) -> None:
    assert classification(value) == name


def test_advance_wants_a_time_that_is_not_past(wire: RunningWire) -> None:
    url = f"{wire.base_url}/_control/advance"
    for now_ms in (START_MS - 1, "soon", None):
        answer = requests.post(url, json={"now_ms": now_ms}, timeout=5)
        assert answer.status_code == 400
        assert "now_ms" in answer.json()["error"]
    assert wire.now_ms == START_MS


@pytest.mark.parametrize(
    "path", ["/openai/v1/chat/completions", "/anthropic/v1/messages", "/slack/api/auth.test"]
)
def test_models_and_slack_are_mounted(wire: RunningWire, path: str) -> None:
    answer = requests.post(wire.base_url + path, data=b"not json", timeout=5)
    assert answer.status_code != 404


def test_unknown_path_of_a_venue(wire: RunningWire) -> None:
    for venue in ("binance", "coinbase", "kraken"):
        assert requests.get(f"{wire.base_url}/{venue}/no/such", timeout=5).status_code == 404
