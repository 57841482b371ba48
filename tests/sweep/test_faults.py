"""Which modes a call has, and that a fault's text names it."""

from __future__ import annotations

import pytest

from deploy.local.sweep.faults import Fault, Mode, Site, is_read, modes_for


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("sql connect", True),
        ("sql SELECT intents", True),
        ("sql BEGIN", True),
        ("sql INSERT intents", False),
        ("sql UPDATE leases", False),
        ("sql COMMIT (INSERT intents)", False),
        ("redis MGET candles", True),
        ("redis SET candles", False),
        ("http GET binance /api/v3/order", True),
        ("http POST binance /api/v3/order", False),
        ("http DELETE binance /api/v3/order", False),
        ("http POST kraken /0/private/QueryOrders", True),
        ("http POST kraken /0/private/AddOrder", False),
        ("http POST kraken /0/private/CancelOrder", False),
        ("http POST openai /v1/chat/completions", True),
        ("http POST slack /api/chat.postMessage", False),
    ],
)
def test_a_call_that_changes_something_has_the_modes_after_its_effect(
    name: str, read: bool
) -> None:
    site = Site(name, 1)
    assert is_read(site) is read
    modes = modes_for(site)
    assert len(set(modes)) == len(modes)
    assert (Mode.KILL_AFTER_EFFECT in modes) is not read
    assert (Mode.EXCEPTION_AFTER in modes) is not read
    assert Mode.KILL_BEFORE in modes


def test_only_a_request_that_changes_something_arrives_late() -> None:
    assert Mode.LATE_ARRIVAL in modes_for(Site("http POST binance /api/v3/order", 1))
    assert Mode.LATE_ARRIVAL not in modes_for(Site("http GET binance /api/v3/order", 1))
    assert Mode.LATE_ARRIVAL not in modes_for(Site("sql INSERT intents", 1))


@pytest.mark.parametrize(
    "fault",
    [
        Fault(Site("sql COMMIT (INSERT orders, UPDATE intents)", 3), Mode.KILL_BEFORE),
        Fault(Site("redis SET candles:binance:BTC/USDT:1m", 1), Mode.TIMEOUT_AFTER),
        Fault(Site("http POST coinbase /api/v3/brokerage/orders", 12), Mode.LATE_ARRIVAL),
    ],
)
def test_a_fault_is_read_back_from_its_text(fault: Fault) -> None:
    assert Fault.parse(str(fault)) == fault


@pytest.mark.parametrize("text", ["", "sql SELECT intents:kill_before", "tcp SYN#1:kill_before"])
def test_a_text_that_names_no_site_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Fault.parse(text)
