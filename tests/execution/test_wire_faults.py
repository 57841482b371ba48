"""Every fault of an order's send on every venue: outcome, orders at the venue, and the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs

import pytest
from wire_bench import OPENING_USDT, ORDER, WireBench

from deploy.local.market.source import SourceSpec
from deploy.local.wire.client import WireProcess, start_wire
from deploy.local.wire.faults import rules
from shared import clock
from shared.execution.venues import clients
from shared.ledger.connection import Ledger
from tests.conftest import DEFAULT_START, VirtualClock

START = DEFAULT_START + timedelta(hours=12)
VENUES = tuple(ORDER)
MOST_MINUTES = 6


@pytest.fixture(scope="module")
def wire() -> Iterator[tuple[WireProcess, int]]:
    """A wire and the snapshot of its beginning."""
    spec = SourceSpec("simulated", ("BTC/USDT",), clock.to_ms(START), 6, 7, None)
    balances = {name: {"USDT": OPENING_USDT} for name in VENUES}
    with start_wire(spec, now_ms=clock.to_ms(START), balances=balances, seed=7) as started:
        yield started, started.snapshot()


@pytest.fixture(params=VENUES)
def bench(
    request: pytest.FixtureRequest,
    wire: tuple[WireProcess, int],
    ledger: Ledger,
    virtual_clock: VirtualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> WireBench:
    process, beginning = wire
    process.restore(beginning)
    virtual_clock.set(START)
    monkeypatch.setattr(clients, "_clients", {})
    return WireBench(ledger, virtual_clock, process, request.param)


def case(kind: str, outcome: str, orders: int, state: str, **fields: Any) -> Any:
    """A fault, the outcome of the send, and at the end: orders at the venue, the intent."""
    name = "-".join([kind, *(str(value) for value in fields.values())])
    return pytest.param(kind, fields, outcome, orders, state, id=name)


CASES = [
    case("lose_request", "UNKNOWN", 0, "DEAD"),
    case("lose_answer", "UNKNOWN", 1, "ACKNOWLEDGED"),
    case("hang", "UNKNOWN", 0, "DEAD"),
    case("hang_after", "UNKNOWN", 1, "ACKNOWLEDGED"),
    case("late", "UNKNOWN", 1, "ACKNOWLEDGED", delay_ms=3_000),
    case("duplicate_rows", "FILLED", 1, "ACKNOWLEDGED"),
    case("status", "UNKNOWN", 0, "DEAD", status=500),
    case("status", "UNKNOWN", 0, "DEAD", status=502),
    case("status", "UNKNOWN", 0, "DEAD", status=503),
    case("status", "UNKNOWN", 0, "DEAD", status=504),
    case("status", "UNKNOWN", 0, "DEAD", status=418, headers={"Retry-After": "30"}),
    case("status_after", "UNKNOWN", 1, "ACKNOWLEDGED", status=502),
    case("status_after", "UNKNOWN", 1, "ACKNOWLEDGED", status=503),
    case("truncate", "UNKNOWN", 1, "ACKNOWLEDGED", share=0.5),
    case("truncate", "UNKNOWN", 1, "ACKNOWLEDGED", bytes=0),
    *(
        case("malformed", "UNKNOWN", int(act), state, form=form, act=act)
        for form in ("html", "empty", "object")
        for act, state in ((True, "ACKNOWLEDGED"), (False, "DEAD"))
    ),
    case("redirect", "UNKNOWN", 0, "DEAD"),
    case("redirect", "UNKNOWN", 1, "ACKNOWLEDGED", act=True),
    case("slow", "FILLED", 1, "ACKNOWLEDGED", delay_ms=20),
    case("slow", "UNKNOWN", 1, "ACKNOWLEDGED", delay_ms=5_000),
    case("drop_fields", "UNKNOWN", 1, "ACKNOWLEDGED", fields=["orderId", "order_id", "txid"]),
]


@pytest.mark.parametrize(("kind", "fields", "outcome", "orders", "state"), CASES)
@pytest.mark.parametrize("bench", ["binance", "coinbase", "kraken"], indirect=True)
def test_a_send_under_a_fault(
    bench: WireBench, kind: str, fields: dict[str, Any], outcome: str, orders: int, state: str
) -> None:
    check_send(bench, kind, fields, outcome, orders, state)


@pytest.mark.parametrize(("kind", "fields", "outcome", "orders", "state"), CASES[:5])
@pytest.mark.parametrize("bench", ["binanceus"], indirect=True)
def test_binance_us_shares_binances_code_and_has_its_own_address(
    bench: WireBench, kind: str, fields: dict[str, Any], outcome: str, orders: int, state: str
) -> None:
    check_send(bench, kind, fields, outcome, orders, state)


def check_send(
    bench: WireBench, kind: str, fields: dict[str, Any], outcome: str, orders: int, state: str
) -> None:
    fault = rules.rule(kind, bench.venue, ORDER[bench.venue], **fields)
    assert send_under(bench, fault) == outcome
    settle(bench)
    account = bench.account()
    assert bench.intents() == [state]
    assert len(account["orders"]) == orders
    assert bench.ledger_totals() == bench.venue_totals()


@pytest.mark.parametrize(
    ("delay_ms", "arriving"),
    [
        (8_000, {"coinbase", "kraken"}),  # recvWindow: 5 s
        (40_000, {"coinbase"}),  # deadline: 10 s
        (125_000, set()),  # a token lives 120 s
    ],
)
def test_a_late_request_can_make_an_order_only_while_it_is_valid(
    bench: WireBench, delay_ms: int, arriving: set[str]
) -> None:
    fault = rules.late(bench.venue, ORDER[bench.venue], delay_ms)
    assert send_under(bench, fault) == "UNKNOWN"
    settle(bench)
    while bench.wire.injected()["late"]["waiting"]:
        assert bench.desk().reconcile().clean
    arrives = bench.venue in arriving
    assert len(bench.account()["orders"]) == int(arrives)
    assert bench.intents() == ["ACKNOWLEDGED" if arrives else "DEAD"]
    assert bench.ledger_totals() == bench.venue_totals()


def test_a_rate_limit_is_a_refusal_where_the_venue_says_so(bench: WireBench) -> None:
    """Kraken's words prove it; Binance and Coinbase might have acted."""
    fault = rules.rate_limited(bench.venue, ORDER[bench.venue], 30)
    refused = bench.venue == "kraken"
    assert send_under(bench, fault) == ("REJECTED" if refused else "UNKNOWN")
    settle(bench)
    assert bench.intents() == ["REJECTED" if refused else "DEAD"]
    assert bench.account()["orders"] == []


@pytest.mark.parametrize("answer", ["first", "second"])
@pytest.mark.parametrize("bench", ["coinbase", "kraken"], indirect=True)
def test_a_request_that_arrives_twice(bench: WireBench, answer: Any) -> None:
    """Coinbase knows the client id and Kraken the nonce; what they do with the second differs."""
    fault = rules.duplicate_request(bench.venue, ORDER[bench.venue], answer=answer)
    refused = (bench.venue, answer) == ("kraken", "second")
    assert send_under(bench, fault) == ("REJECTED" if refused else "FILLED")
    amended = settle(bench)
    assert len(amended) == int(refused), "an order of ours that was thought to be refused"
    assert len(bench.account()["orders"]) == 1
    assert bench.ledger_totals() == bench.venue_totals()


@pytest.mark.parametrize("answer", ["first", "second"])
@pytest.mark.parametrize("bench", ["binance"], indirect=True)
def test_binance_takes_a_filled_order_twice_and_nothing_more_is_risked(
    bench: WireBench, answer: Any
) -> None:
    """Its client ids are unique among open orders only, and an IOC order is never open.

    No client can prevent that a proxy of the venue repeats a request. The difference is told, and
    stands in the way of all new risk until a person has looked.
    """
    fault = rules.duplicate_request(bench.venue, ORDER[bench.venue], answer=answer)
    assert send_under(bench, fault) == "FILLED"
    for _ in range(3):
        desk = bench.desk()
        found = desk.reconcile()
        assert not found.clean
        assert {one["currency"] for one in found.differences} == {"BTC", "USDT"}
        desk.enter(bench.entry(desk))
        assert desk.work() == []
    assert len(bench.account()["orders"]) == 2


def test_an_answer_with_values_of_other_types(bench: WireBench) -> None:
    fault = rules.malformed(bench.venue, ORDER[bench.venue], "wrong_types")
    outcome = send_under(bench, fault)
    if outcome == "UNKNOWN":
        settle(bench)
        assert bench.ledger_totals() == bench.venue_totals()
    else:
        # Binance's answer has an order id, and it is a word: the order cannot be read by it.
        assert outcome == "OPEN"
        found = bench.desk().reconcile()
        assert not found.clean
        assert bench.venue in found.busy
    assert len(bench.account()["orders"]) == 1


@pytest.mark.parametrize("bench", ["kraken"], indirect=True)
def test_krakens_nonce_grows_however_many_requests_a_moment_has(bench: WireBench) -> None:
    """ccxt reads its last nonce back as a float, which does not hold one of ours."""
    client = clients.client(bench.config, "kraken")
    bodies = [client.sign("Balance", ["private"], "POST", {})["body"] for _ in range(300)]
    nonces = [int(parse_qs(body)["nonce"][0]) for body in bodies]
    assert nonces == sorted(set(nonces))


def send_under(bench: WireBench, fault: rules.FaultRule) -> str:
    """The outcome of an entry whose order meets the fault, once."""
    desk = bench.desk()
    assert desk.reconcile().clean
    desk.enter(bench.entry(desk))
    bench.wire.faults([fault])
    (result,) = desk.work()
    (told,) = bench.wire.injected()["rules"]
    assert told["injected"] == 1
    bench.wire.clear_faults()
    return result.outcome


def settle(bench: WireBench) -> list[str]:
    """Runs without faults until all is clear; before that none of them sends anything.

    Returns the intents that were amended on the way.
    """
    amended = []
    for _ in range(MOST_MINUTES):
        desk = bench.desk()
        found = desk.reconcile()
        amended += found.amended
        if found.clean:
            break
        assert desk.work() == []
    assert found.clean, found
    return amended
