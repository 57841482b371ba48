"""Each kind of fault at the socket: what an unmodified client saw, and what the venue did."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import ccxt
import pytest
import requests

from deploy.local.wire.client import WireFailed, WireProcess
from deploy.local.wire.faults import rules
from tests.local.wire.conftest import CREDENTIALS, RunningWire
from tests.local.wire.fakes import START_MS

SYMBOL = "BTC/USDT"
ORDER = {
    "binance": "POST /api/v3/order",
    "coinbase": "POST /api/v3/brokerage/orders",
    "kraken": "POST /0/private/AddOrder",
}
VENUES = tuple(ORDER)
CLIENT_ID = "tlABCDEFGH12345678"
# Long enough for an answer of this machine when it is busy, short enough to wait for in a test.
GIVE_UP_MS = 300


@pytest.fixture
def control(wire: RunningWire) -> Iterator[WireProcess]:
    """The control interface's client. The wire runs in this process: there is none to stop."""
    port = int(wire.base_url.rpartition(":")[2])
    client = WireProcess(cast(Any, None), port, CREDENTIALS)
    yield client
    client.clear_faults()
    client._session.close()


def ready_client(wire: RunningWire, venue: str) -> Any:
    client = wire.client(venue)
    client.load_markets()
    return client


def buy(client: Any, price: int = 90_000, client_id: str = CLIENT_ID) -> Any:
    """A buy that rests: the market stands at 100,000."""
    name = "client_order_id" if client.id == "coinbase" else "clientOrderId"
    params = {name: client_id}
    return client.create_order(SYMBOL, "limit", "buy", 0.01, price, params)


def outcome(client: Any) -> str:
    """How a send ends for the client: ``accepted``, or the family of the error."""
    client.timeout = GIVE_UP_MS
    try:
        return "accepted" if buy(client)["id"] else "no id"
    except ccxt.OperationFailed:
        return "network"
    except ccxt.ExchangeError:
        return "refused"
    except (TypeError, KeyError, AttributeError, ccxt.BaseError) as error:
        return f"unreadable: {type(error).__name__}"


def orders(control: WireProcess, venue: str) -> int:
    return len(control.accounts()[venue]["orders"])


def sends() -> list[Any]:
    """Kind, arguments, what the client sees, and how many orders the venue then has."""
    return [
        ("lose_request", {}, "network", 0),
        ("lose_answer", {}, "network", 1),
        ("hang", {}, "network", 0),
        ("hang", {"hold_ms": 50}, "network", 0),
        ("hang_after", {}, "network", 1),
        ("late", {"delay_ms": 1_000}, "network", 0),
        ("duplicate_request", {}, "accepted", 1),
        ("status", {"status": 502}, "network", 0),
        ("status_after", {"status": 502}, "network", 1),
        ("redirect", {}, "accepted", 1),
        ("slow", {"delay_ms": 50}, "accepted", 1),
        ("slow", {"delay_ms": 5_000}, "network", 1),
    ]


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize(("kind", "fields", "seen", "placed"), sends())
def test_a_send_under_each_fault(
    wire: RunningWire,
    control: WireProcess,
    venue: str,
    kind: str,
    fields: dict[str, Any],
    seen: str,
    placed: int,
) -> None:
    client = ready_client(wire, venue)
    control.faults([rules.rule(kind, venue, ORDER[venue], **fields)])
    assert outcome(client) == seen
    assert orders(control, venue) == placed
    (told,) = control.injected()["rules"]
    # Following the redirect is a request of its own.
    expected = (2, 1) if kind == "redirect" else (1, 1)
    assert (told["matched"], told["injected"], told["at_ms"]) == (*expected, [START_MS])


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("form", ["html", "empty", "object"])
@pytest.mark.parametrize("acts", [True, False])
def test_a_malformed_answer_gives_no_order_id(
    wire: RunningWire, control: WireProcess, venue: str, form: Any, acts: bool
) -> None:
    client = ready_client(wire, venue)
    control.faults([rules.malformed(venue, ORDER[venue], form, acts=acts)])
    assert outcome(client) != "accepted"
    assert orders(control, venue) == int(acts)


@pytest.mark.parametrize("venue", VENUES)
def test_a_truncated_answer_is_whole_for_http_and_no_json(
    wire: RunningWire, control: WireProcess, venue: str
) -> None:
    client = ready_client(wire, venue)
    control.faults([rules.truncate(venue, ORDER[venue], to_bytes=20)])
    assert outcome(client) != "accepted"
    assert orders(control, venue) == 1


def test_truncation_by_bytes_and_by_share_with_the_length_of_what_is_left(
    wire: RunningWire, control: WireProcess
) -> None:
    url = f"{wire.base_url}/binance/api/v3/time"
    whole = requests.get(url, timeout=5).content
    control.faults(
        [
            rules.truncate("binance", "/api/v3/time", to_bytes=4),
            rules.truncate("binance", "/api/v3/time", share=0.5),
        ]
    )
    for size in (4, len(whole) // 2):
        answer = requests.get(url, timeout=5)
        assert answer.content == whole[:size]
        assert answer.headers["Content-Length"] == str(size)
        with pytest.raises(ValueError, match="JSON|Expecting|Unterminated"):
            answer.json()


def test_a_lost_answer_is_a_reset_and_a_lost_request_a_close(
    wire: RunningWire, control: WireProcess
) -> None:
    control.faults(
        [
            rules.lose_answer("binance", "GET /api/v3/time"),
            rules.lose_request("binance", "GET /api/v3/time"),
        ]
    )
    for words in ("reset by peer", "without response"):
        with pytest.raises(requests.ConnectionError, match=words):
            requests.get(f"{wire.base_url}/binance/api/v3/time", timeout=5)
    assert control.stats()["binance GET /api/v3/time"] == 1


@pytest.mark.parametrize("venue", VENUES)
def test_the_second_answer_to_a_doubled_request(
    wire: RunningWire, control: WireProcess, venue: str
) -> None:
    """A retry in between makes an accepted order look refused, except on Coinbase."""
    client = ready_client(wire, venue)
    control.faults([rules.duplicate_request(venue, ORDER[venue], answer="second")])
    expected = {"binance": "refused", "coinbase": "accepted", "kraken": "network"}
    seen = outcome(client)
    assert (seen == "accepted") == (expected[venue] == "accepted")
    assert orders(control, venue) == 1


def test_doubled_rows_have_each_order_twice(wire: RunningWire, control: WireProcess) -> None:
    for venue in ("binance", "coinbase"):
        client = ready_client(wire, venue)
        placed = buy(client)
        control.faults([rules.duplicate_rows(venue, "GET *")])
        ids = [order["id"] for order in client.fetch_open_orders(SYMBOL)]
        assert ids == [placed["id"]] * 2
        assert [order["id"] for order in client.fetch_open_orders(SYMBOL)] == [placed["id"]]


def test_dropped_fields_are_gone_at_every_depth(wire: RunningWire, control: WireProcess) -> None:
    control.faults([rules.drop_fields("binance", "/api/v3/exchangeInfo", ["symbol", "filters"])])
    url = f"{wire.base_url}/binance/api/v3/exchangeInfo"
    spoilt, whole = (requests.get(url, timeout=5).json() for _ in range(2))
    assert spoilt["symbols"][0].keys() == whole["symbols"][0].keys() - {"symbol", "filters"}
    assert spoilt.keys() == whole.keys()


def test_wrong_types_keep_the_keys(wire: RunningWire, control: WireProcess) -> None:
    control.faults([rules.malformed("binance", "/api/v3/depth", "wrong_types")])
    url = f"{wire.base_url}/binance/api/v3/depth?symbol=BTCUSDT"
    spoilt, whole = (requests.get(url, timeout=5).json() for _ in range(2))
    assert spoilt.keys() == whole.keys()
    assert all(type(spoilt[key]) is not type(whole[key]) for key in whole)


def test_a_stale_answer_repeats_the_last_to_the_same_question(
    wire: RunningWire, control: WireProcess
) -> None:
    client = ready_client(wire, "binance")
    control.faults([rules.stale("binance", "GET /api/v3/openOrders", after=1, times=1)])
    assert client.fetch_open_orders(SYMBOL) == []
    placed = buy(client)
    wire.advance(1)  # another timestamp and signature, the same question
    before = control.stats()
    assert client.fetch_open_orders(SYMBOL) == []
    assert control.stats() == before
    assert [order["id"] for order in client.fetch_open_orders(SYMBOL)] == [placed["id"]]


def test_a_question_that_was_never_answered_cannot_be_stale(
    wire: RunningWire, control: WireProcess
) -> None:
    client = ready_client(wire, "binance")
    placed = buy(client)
    control.faults([rules.stale("binance", "GET /api/v3/openOrders")])
    assert client.fetch_open_orders(SYMBOL)[0]["id"] == placed["id"]
    assert control.injected()["rules"][0]["injected"] == 0
    client.cancel_order(placed["id"], SYMBOL)
    assert client.fetch_open_orders(SYMBOL)[0]["id"] == placed["id"]
    assert control.injected()["rules"][0]["injected"] == 1


@pytest.mark.parametrize(
    ("venue", "status", "error"),
    [
        ("binance", 429, ccxt.DDoSProtection),
        ("binance", 418, ccxt.DDoSProtection),
        ("binance", 502, ccxt.ExchangeNotAvailable),
        ("binance", 503, ccxt.ExchangeError),  # ccxt does not know -1008
        ("binance", 504, ccxt.RequestTimeout),
        ("coinbase", 429, ccxt.RateLimitExceeded),
        ("coinbase", 500, ccxt.ExchangeError),
        ("coinbase", 502, ccxt.ExchangeNotAvailable),
        ("kraken", 429, ccxt.DDoSProtection),
        ("kraken", 503, ccxt.ExchangeNotAvailable),
        ("kraken", 520, ccxt.ExchangeNotAvailable),
    ],
)
def test_statuses_in_the_venues_own_words(
    wire: RunningWire, control: WireProcess, venue: str, status: int, error: type[Exception]
) -> None:
    client = ready_client(wire, venue)
    headers = {"Retry-After": "30"}
    control.faults([rules.status(venue, ORDER[venue], status, headers=headers)])
    with pytest.raises(error):
        buy(client)
    assert client.last_response_headers["Retry-After"] == "30"
    assert orders(control, venue) == 0


def test_a_ban_tells_when_it_ends(wire: RunningWire, control: WireProcess) -> None:
    control.faults([rules.rate_limited("binance", "/api/v3/*", 90, banned=True)])
    answer = requests.get(f"{wire.base_url}/binance/api/v3/time", timeout=5)
    assert (answer.status_code, answer.headers["Retry-After"]) == (418, "90")
    assert f"banned until {START_MS + 90_000}" in answer.json()["msg"]


@pytest.mark.parametrize(
    ("service", "method", "path"),
    [
        ("openai", "POST", "/v1/chat/completions"),
        ("anthropic", "POST", "/v1/messages"),
        ("slack", "POST", "/api/chat.postMessage"),
        ("fng", "GET", "/"),
    ],
)
def test_every_service_has_faults(
    wire: RunningWire, control: WireProcess, service: str, method: str, path: str
) -> None:
    control.faults(
        [
            rules.status(service, f"{method} {path}", 503),
            rules.lose_request(service, path),
            rules.status(service, path, 200, body='{"told": true}'),
        ]
    )
    url = f"{wire.base_url}/{service}{path}"
    assert requests.request(method, url, timeout=5).status_code == 503
    with pytest.raises(requests.ConnectionError):
        requests.request(method, url, timeout=5)
    assert requests.request(method, url, timeout=5).json() == {"told": True}


def test_a_message_that_slack_took_twice(wire: RunningWire, control: WireProcess) -> None:
    control.faults([rules.duplicate_request("slack", "POST /api/chat.postMessage")])
    requests.post(
        f"{wire.base_url}/slack/api/chat.postMessage",
        json={"channel": "C1", "text": "hello"},
        headers={"Authorization": "Bearer xoxb-1"},
        timeout=5,
    )
    posted = requests.get(f"{wire.base_url}/slack/_messages", timeout=5).json()
    assert [message["text"] for message in posted] == ["hello", "hello"]


def test_clearing_lets_go_of_a_silent_connection(wire: RunningWire, control: WireProcess) -> None:
    import threading

    control.faults([rules.hang("binance", "/api/v3/time", hold_ms=60_000)])
    seen: list[str] = []

    def ask() -> None:
        try:
            requests.get(f"{wire.base_url}/binance/api/v3/time", timeout=30)
        except requests.ConnectionError as error:
            seen.append(type(error).__name__)

    thread = threading.Thread(target=ask)
    thread.start()
    while not control.injected()["rules"][0]["injected"]:
        pass
    control.clear_faults()
    thread.join(5)
    assert seen == ["ConnectionError"]


# Late arrival


@pytest.mark.parametrize(
    ("venue", "delay_ms", "status", "placed"),
    [
        ("binance", 4_000, 200, 1),
        ("binance", 6_000, 400, 0),  # ccxt sends a recvWindow of 10 s
        ("kraken", 3_600_000, 200, 1),  # without a deadline nothing ever ends
        ("coinbase", 60_000, 200, 1),
        ("coinbase", 130_000, 401, 0),  # the token has expired
    ],
)
def test_a_late_request_is_judged_by_the_venues_time_at_arrival(
    wire: RunningWire, control: WireProcess, venue: str, delay_ms: int, status: int, placed: int
) -> None:
    client = ready_client(wire, venue)
    client.options["recvWindow"] = 5_000
    control.faults([rules.late(venue, ORDER[venue], delay_ms)])
    assert outcome(client) == "network"
    (waiting,) = control.injected()["late"]["waiting"]
    assert (waiting["venue"], waiting["due_ms"]) == (venue, START_MS + delay_ms)
    control.clear_faults()
    control.advance(START_MS + delay_ms - 1)
    assert orders(control, venue) == 0
    control.advance(START_MS + delay_ms)
    assert orders(control, venue) == placed
    told = control.injected()["late"]
    assert [one["status"] for one in told["arrived"]] == [status]
    assert told["waiting"] == []


def test_late_requests_arrive_in_the_order_of_time_within_one_step(
    wire: RunningWire, control: WireProcess
) -> None:
    client = ready_client(wire, "coinbase")
    control.faults(
        [
            rules.late("coinbase", ORDER["coinbase"], 50_000),
            rules.late("coinbase", ORDER["coinbase"], 20_000),
        ]
    )
    for name in ("second", "first"):
        with pytest.raises(ccxt.NetworkError):
            buy(client, client_id=name)
    wire.advance(3)
    found = control.accounts()["coinbase"]["orders"]
    assert [(one["client_order_id"], one["created_ms"] - START_MS) for one in found] == [
        ("first", 20_000),
        ("second", 50_000),
    ]


def test_a_late_order_rests_and_is_matched_from_the_minute_after(
    wire: RunningWire, control: WireProcess
) -> None:
    """The price goes to 98,900 in the first minute and to 97,900 in the second."""
    client = ready_client(wire, "binance")
    control.faults([rules.late("binance", ORDER["binance"], 4_000, times=2)])
    for price, name in ((98_950, "in the first"), (98_000, "in the second")):
        with pytest.raises(ccxt.NetworkError):
            buy(client, price, name.replace(" ", "-"))
    wire.advance(1)
    assert [one["status"] for one in control.accounts()["binance"]["orders"]] == ["open", "open"]
    wire.advance(1)
    assert {one["status"] for one in control.accounts()["binance"]["orders"]} == {"filled"}


# Which requests a rule is for


def strikes(control: WireProcess, wire: RunningWire, seed: int) -> list[bool]:
    control.faults(
        [rules.status("binance", "/api/v3/time", 503, times=None, probability=0.5)], seed=seed
    )
    url = f"{wire.base_url}/binance/api/v3/time"
    return [requests.get(url, timeout=5).status_code == 503 for _ in range(40)]


def test_the_same_seed_and_requests_meet_the_same_faults(
    wire: RunningWire, control: WireProcess
) -> None:
    first = strikes(control, wire, 7)
    assert strikes(control, wire, 7) == first
    assert strikes(control, wire, 8) != first
    assert 10 <= sum(first) <= 30


def test_after_and_times(wire: RunningWire, control: WireProcess) -> None:
    control.faults([rules.status("binance", "/api/v3/time", 503, after=2, times=3)])
    url = f"{wire.base_url}/binance/api/v3/time"
    seen = [requests.get(url, timeout=5).status_code for _ in range(7)]
    assert seen == [200, 200, 503, 503, 503, 200, 200]
    (told,) = control.injected()["rules"]
    assert (told["matched"], told["injected"]) == (7, 3)


def test_method_prefix_service_and_contents_choose(wire: RunningWire, control: WireProcess) -> None:
    url = f"{wire.base_url}/binance/api/v3"
    for rule, hit, missed in (
        (rules.rule("status", "binance", "POST /api/v3/time", status=503), None, f"{url}/time"),
        (rules.status("kraken", "/api/v3/time", 503), None, f"{url}/time"),
        (rules.status("binance", "/api/v3/ti*", 503), f"{url}/time", f"{url}/ping"),
        (
            rules.status("binance", "/api/v3/depth", 503, contains="symbol=ETHUSDT"),
            f"{url}/depth?symbol=ETHUSDT",
            f"{url}/depth?symbol=BTCUSDT",
        ),
    ):
        control.faults([rule | {"times": None}])
        assert requests.get(missed, timeout=5).status_code == 200
        assert hit is None or requests.get(hit, timeout=5).status_code == 503


def test_the_control_interface_has_no_faults(wire: RunningWire, control: WireProcess) -> None:
    for service in ("binance", "slack"):
        control.faults([rules.lose_request(service, "/*", times=None)])
        assert control.stats() == {}


# Rules that are wrong


GOOD = rules.lose_answer("binance", "POST /api/v3/order")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "explode"}, "rules[0].kind: expected one of lose_request"),
        ({"service": "mtgox"}, "rules[0].service: expected one of binance"),
        ({"method": "FETCH"}, "rules[0].method: expected one of"),
        ({"path": "api"}, "rules[0].path: expected an exact path"),
        ({"path": "/api/*/order"}, "rules[0].path: expected an exact path"),
        ({"times": 0}, "rules[0].times: expected an integer of at least 1, was 0"),
        ({"times": True}, "rules[0].times: expected an integer"),
        ({"after": -1}, "rules[0].after: expected an integer of at least 0, was -1"),
        ({"probability": 1.5}, "rules[0].probability: expected a number from 0 to 1, was 1.5"),
        ({"delay_ms": 5}, "rules[0].delay_ms: expected one of kind"),
        ({"kind": "slow"}, "rules[0].delay_ms: expected an integer from 0 to 30000, was None"),
        ({"kind": "slow", "delay_ms": 90_000}, "rules[0].delay_ms: expected an integer from 0 to"),
        ({"kind": "late", "service": "slack", "delay_ms": 1}, "rules[0].service: expected a venue"),
        ({"kind": "status", "status": 99}, "rules[0].status: expected an integer from 200 to 599"),
        ({"kind": "status", "status": 500, "headers": {"a": 1}}, "rules[0].headers: expected"),
        ({"kind": "truncate"}, "rules[0].bytes: expected either bytes or share"),
        ({"kind": "truncate", "bytes": 1, "share": 0.5}, "rules[0].bytes: expected either"),
        ({"kind": "malformed", "form": "xml"}, "rules[0].form: expected one of html"),
        ({"kind": "malformed", "form": "wrong_types", "act": False}, "rules[0].act: expected true"),
        ({"kind": "drop_fields", "fields": []}, "rules[0].fields: expected a list of names"),
        ({"kind": "duplicate_request", "answer": "third"}, "rules[0].answer: expected one of"),
    ],
)
def test_a_bad_rule_is_told_by_its_field(
    control: WireProcess, change: dict[str, Any], words: str
) -> None:
    control.faults([GOOD])
    with pytest.raises(WireFailed) as caught:
        control.faults([GOOD | change])
    assert words in str(caught.value)
    assert control.injected()["rules"][0]["kind"] == "lose_answer", "the old rules stay"


@pytest.mark.parametrize(
    ("body", "words"),
    [({"rules": {}}, "rules: expected a list"), ({"rules": [1]}, "rules[0]: expected an object"),
     ({"rules": [], "seed": "x"}, "seed: expected an integer"), ([], "body: expected an object")],
)  # fmt: skip
def test_a_bad_body_is_told(wire: RunningWire, body: Any, words: str) -> None:
    answer = requests.post(f"{wire.base_url}/_control/faults", json=body, timeout=5)
    assert answer.status_code == 400
    assert words in answer.json()["error"]
