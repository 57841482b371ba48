"""A desk whose venue is on the simulated wire: adapter, ccxt client and HTTP are the real ones."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from deploy.local.wire.client import WireProcess, key_variables
from shared import cache, calls, clock, config
from shared.errors import VenueUnavailable
from shared.execution.desk import Desk
from shared.execution.types import EntryOrder, Exits
from shared.ledger import leases, runs
from shared.ledger.connection import Ledger
from shared.run import Run
from tests.conftest import VirtualClock
from tests.peg_rows import tell_worth

SYMBOL = "BTC/USDT"
ORDER = {
    "binance": "POST /api/v3/order",
    "binanceus": "POST /api/v3/order",
    "coinbase": "POST /api/v3/brokerage/orders",
    "kraken": "POST /0/private/AddOrder",
}
"""Where each venue takes orders."""
OPENING_USDT = Decimal(10_000)
# Time enough for an answer of a busy machine; the silent ones cost a test as much each.
GIVE_UP_MS = 400


class WireBench:
    """One pod with 10,000 USDT on one venue of a wire, and runs of its trading loop."""

    def __init__(
        self, ledger: Ledger, time: VirtualClock, wire: WireProcess, venue_name: str
    ) -> None:
        self.ledger = ledger
        self.time = time
        self.wire = wire
        self.venue = venue_name
        self.config = config.load(
            {
                "POD": "test",
                "VENUES": venue_name,
                "SIMULATED_WIRE_URL": wire.base_url,
                "REQUEST_TIMEOUT_MS": str(GIVE_UP_MS),
            }
            | key_variables(wire.credentials)
        )
        tell_worth(ledger)
        ledger.execute(
            "INSERT INTO transfers (pod, venue, currency, amount, at, note) "
            "VALUES ('test', %s, 'USDT', %s, %s, 'opening balance')",
            (venue_name, OPENING_USDT, clock.now()),
        )

    def desk(self) -> Desk:
        """The desk of a new run, a minute after the last; the market has moved on with it."""
        self.time.advance(minutes=1)
        self.wire.advance(clock.now_ms())
        desk = Desk.open(self._run())
        self._see_prices(desk)
        return desk

    def entry(self, desk: Desk, size_quote: str = "90") -> EntryOrder:
        quote = desk.quotes([SYMBOL])[SYMBOL]
        mid = (Decimal(str(quote.bid)) + Decimal(str(quote.ask))) / 2
        return EntryOrder(
            None, SYMBOL, Decimal(size_quote), mid, "momentum", "tactical", "high",
            Exits(
                mid * Decimal("0.98"), mid * Decimal("1.05"), mid * Decimal("1.03"), Decimal(1),
                clock.now() + timedelta(hours=24),
            ),
        )  # fmt: skip

    def intents(self) -> list[str]:
        """The states of all intents, in the order of their sending."""
        return [r["state"] for r in self.ledger.query("SELECT state FROM intents ORDER BY sent_at")]

    def account(self) -> dict[str, Any]:
        """What the venue itself knows: balances, orders and fills."""
        account: dict[str, Any] = self.wire.accounts()[self.venue]
        return account

    def venue_totals(self) -> dict[str, Decimal]:
        """What the venue holds for us, by currency."""
        totals = {
            name: Decimal(part["free"]) + Decimal(part["locked"])
            for name, part in self.account()["balances"].items()
        }
        return {name: total for name, total in totals.items() if total}

    def ledger_totals(self) -> dict[str, Decimal]:
        """What the ledger believes that it holds."""
        rows = self.ledger.query("SELECT currency, amount FROM balances WHERE amount <> 0")
        return {row["currency"]: row["amount"] for row in rows}

    def _see_prices(self, desk: Desk) -> None:
        """What the scanner and the equity mark of this minute would write."""
        try:
            quote = desk.venues[self.venue].quotes([SYMBOL])[SYMBOL]
        except VenueUnavailable:
            return  # it has banned us: there are no newer prices than the last
        self.ledger.execute(
            "INSERT INTO prices VALUES ('test', %s, %s, %s, %s, %s, %s, %s, 5e7) "
            "ON CONFLICT (pod, venue, symbol) DO UPDATE SET at = excluded.at, "
            "low_1m = excluded.low_1m, high_1m = excluded.high_1m",
            (self.venue, SYMBOL, quote.bid, quote.ask, clock.now(), quote.bid, quote.ask),
        )
        self.ledger.execute(
            "INSERT INTO equity VALUES ('test', %s, %s, %s, 0) ON CONFLICT DO NOTHING",
            (clock.now(), OPENING_USDT, OPENING_USDT),
        )

    def _run(self) -> Run:
        trace_id = f"trading_loop-{clock.now_ms()}"
        self.ledger.execute("UPDATE leases SET holder = NULL")  # the run before has ended
        epoch = leases.acquire(self.ledger, "trading_loop", trace_id)
        assert epoch is not None
        run_id = runs.start(self.ledger, "trading_loop", trace_id, clock.now(), epoch)
        assert run_id is not None
        log = calls.CallLog()
        return Run(
            self.config, self.ledger, cache.Cache(None, "test", log), log, "trading_loop", "test",
            trace_id, clock.now(), run_id, epoch,
        )  # fmt: skip
