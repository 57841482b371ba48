"""Paper trading: fills against the book, an account in the ledger, and nothing private called."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from execution_bench import Bench
from hypothesis import given
from hypothesis import strategies as st
from scripted_venue import ScriptedVenue

from shared import clock, config
from shared.errors import ConfigurationError, OrderRejected
from shared.execution.types import OrderTicket
from shared.execution.venues import clients, registry
from shared.execution.venues.paper import PaperVenue
from shared.ledger.connection import Ledger
from shared.market.types import Book

PRIVATE = ("submit", "find_order", "order", "cancel", "open_orders", "fills", "balances")
LEVELS = ((100.0, 1.0), (101.0, 2.0), (103.0, 5.0))


class PublicOnly(ScriptedVenue):
    """A venue on which every private call is an error."""

    def __getattribute__(self, name: str) -> Any:
        if name in PRIVATE:
            raise AssertionError(f"paper made the private call {name}")
        return super().__getattribute__(name)


class ThreeLevels(PublicOnly):
    """A venue with a thin book."""

    def book(self, symbol: str, depth: int = 50) -> Book:
        return Book(symbol, ((99.0, 1.0), (98.0, 4.0)), LEVELS, clock.now_ms())


def order(side: str, quantity: str, limit: str, **changes: Any) -> OrderTicket:
    values: dict[str, Any] = {
        "client_order_id": "id", "venue": "binance", "symbol": "BTC/USDT", "side": side,
        "order_type": "limit", "time_in_force": "IOC", "quantity": Decimal(quantity),
        "limit_price": Decimal(limit),
    }  # fmt: skip
    return OrderTicket(**(values | changes))


@pytest.mark.parametrize(
    ("side", "quantity", "limit", "filled", "average", "status"),
    [
        ("buy", "0.5", "100", "0.5", "100", "filled"),
        ("buy", "2", "101", "2", "100.5", "filled"),  # walks into the second level
        ("buy", "4", "101", "3", "100.6666666666666666666666667", "expired"),
        ("buy", "1", "99.9", "0", None, "expired"),
        ("sell", "3", "98", "3", "98.33333333333333333333333333", "filled"),
        ("sell", "9", "98.5", "1", "99", "expired"),
    ],
)
def test_fills_walk_the_book_within_the_limit(
    ledger: Ledger,
    virtual_clock: object,
    side: str,
    quantity: str,
    limit: str,
    filled: str,
    average: str | None,
    status: str,
) -> None:
    venue = PaperVenue(ThreeLevels(), ledger)
    result = venue.submit(order(side, quantity, limit))
    assert (result.filled_quantity, result.status) == (Decimal(filled), status)
    assert result.average_price == (None if average is None else Decimal(average))
    fees = sum(fill.fee_cost for fill in venue.fills("BTC/USDT", clock.now()))
    paid = sum(fill.price * fill.quantity for fill in venue.fills("BTC/USDT", clock.now()))
    assert fees == paid * Decimal("0.001")
    assert venue.find_order("id", "BTC/USDT", clock.now()) == result


@pytest.mark.parametrize("changes", [{"time_in_force": "GTC"}, {"order_type": "market"}])
def test_what_would_rest_or_has_no_limit_is_refused(
    ledger: Ledger, virtual_clock: object, changes: dict[str, Any]
) -> None:
    with pytest.raises(OrderRejected):
        PaperVenue(ThreeLevels(), ledger).submit(order("buy", "1", "100", **changes))


@given(quantity=st.decimals("0.001", "12", places=3), limit=st.decimals("98", "105", places=2))
def test_no_fill_is_beyond_the_limit_or_the_quantity(quantity: Decimal, limit: Decimal) -> None:
    venue = PaperVenue(ThreeLevels(), None)  # type: ignore[arg-type]
    result = venue.submit(order("buy", str(quantity), str(limit)))
    assert result.filled_quantity <= min(quantity, Decimal(8))
    assert result.average_price is None or result.average_price <= limit


def test_a_desk_on_paper_trades_and_agrees_with_the_ledger(bench: Bench) -> None:
    order_ = bench.entry("60")
    desk = bench.desk()
    paper = PaperVenue(PublicOnly(), bench.ledger)
    desk.venues = {"binance": paper}
    assert desk.reconcile().clean
    desk.enter(order_)
    assert [result.outcome for result in desk.work()] == ["FILLED"]
    assert desk.reconcile().clean
    assert paper.balances()["BTC"].total == bench.held() > 0


@pytest.mark.parametrize("live_switch", ["false", "true"])
def test_without_an_arm_token_every_venue_is_paper(bench: Bench, live_switch: str) -> None:
    run = bench.run()
    run.config = config.load({"POD": "test", "ENABLE_LIVE_TRADING": live_switch})
    clock.install(None)
    assert all(isinstance(v, PaperVenue) for v in registry.open_venues(run).values())


def arm(bench: Bench, *, expires: str, revoked: str | None = None) -> None:
    bench.ledger.execute(
        "INSERT INTO arm_tokens (pod, armed_by, armed_at, expires_at, revoked_at) "
        "VALUES ('test', 'a person', now() - interval '1 hour', now() + %s::interval, "
        "now() + %s::interval)",
        (expires, revoked),
    )


@pytest.mark.parametrize(
    ("expires", "revoked", "paper"),
    [("1 hour", None, False), ("-1 second", None, True), ("1 hour", "-1 minute", True)],
)
def test_an_arm_token_counts_until_it_expires_or_is_revoked(
    bench: Bench, expires: str, revoked: str | None, paper: bool
) -> None:
    run = bench.run()
    keys = {f"{venue}_{part}": "x" for venue in ("BINANCE",) for part in ("API_KEY", "SECRET")}
    run.config = config.load(
        {"POD": "test", "ENABLE_LIVE_TRADING": "true", "VENUES": "binance"} | keys
    )
    arm(bench, expires=expires, revoked=revoked)
    clock.install(None)
    assert isinstance(registry.open_venues(run)["binance"], PaperVenue) == paper


def test_live_without_keys_is_refused_by_name(bench: Bench) -> None:
    run = bench.run()
    run.config = config.load({"POD": "test", "ENABLE_LIVE_TRADING": "true", "VENUES": "kraken"})
    arm(bench, expires="1 hour")
    clock.install(None)
    with pytest.raises(ConfigurationError, match="KRAKEN_API_KEY, KRAKEN_SECRET"):
        registry.open_venues(run)


def test_on_a_virtual_clock_nothing_is_live(bench: Bench) -> None:
    run = bench.run()
    run.config = config.load({"POD": "test", "ENABLE_LIVE_TRADING": "true", "VENUES": "kraken"})
    arm(bench, expires="1 hour")
    assert isinstance(registry.open_venues(run)["kraken"], PaperVenue)


def test_clients_never_retry_by_themselves(bench: Bench) -> None:
    for venue in ("binance", "binanceus", "coinbase", "kraken"):
        client = clients.client(bench.config, venue)
        assert client.options["maxRetriesOnFailure"] == 0
        adapter = client.session.get_adapter("https://example.invalid")
        assert adapter.max_retries.total == 0
        assert client.timeout == bench.config.request_timeout_ms


def test_a_client_that_paces_itself_is_not_used_on_a_clock_that_stands_still(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process may first serve the present and then a replay."""
    monkeypatch.setattr(clients, "_clients", {})
    settings = config.load({"POD": "pacing"})
    assert clients.client(settings, "binance").enableRateLimit is True
    clock.install(lambda: 1_746_500_000_000)
    try:
        assert clients.client(settings, "binance").enableRateLimit is False
    finally:
        clock.install(None)
