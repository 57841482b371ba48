"""A desk on scripted venues over a real ledger."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from scripted_venue import ScriptedVenue

from shared import cache, calls, clock, config
from shared.execution.desk import Desk
from shared.execution.types import EntryOrder, Exits
from shared.ledger import leases, runs
from shared.ledger.connection import Ledger
from shared.run import Run
from tests.conftest import VirtualClock
from tests.peg_rows import tell_worth


class Bench:
    """One pod with 10,000 USDT on each venue, and runs of its trading loop."""

    def __init__(self, ledger: Ledger, time: VirtualClock, venues: list[ScriptedVenue]) -> None:
        self.ledger = ledger
        self.time = time
        self.venues = {venue.name: venue for venue in venues}
        self.config = config.load({"POD": "test", "VENUES": ",".join(self.venues)})
        for venue in venues:
            ledger.execute(
                "INSERT INTO transfers (pod, venue, currency, amount, at, note) "
                "VALUES ('test', %s, 'USDT', %s, %s, 'opening balance')",
                (venue.name, venue.account["USDT"], clock.now()),
            )
        tell_worth(ledger)
        self.see_prices()

    def see_prices(self) -> None:
        """What the scanner and the equity mark of this minute would write."""
        for venue in self.venues.values():
            self.ledger.execute(
                "INSERT INTO prices VALUES "
                "('test', %(venue)s, 'BTC/USDT', %(bid)s, %(ask)s, %(at)s, %(mid)s, %(mid)s, 5e7) "
                "ON CONFLICT (pod, venue, symbol) DO UPDATE SET at = excluded.at, "
                "low_1m = excluded.low_1m, high_1m = excluded.high_1m",
                {
                    "venue": venue.name,
                    "bid": venue.mid - Decimal("0.05"),
                    "ask": venue.mid + Decimal("0.05"),
                    "at": clock.now(),
                    "mid": venue.mid,
                },
            )
        total = sum(
            venue.account["USDT"] + venue.account.get("BTC", Decimal(0)) * venue.mid
            for venue in self.venues.values()
        )
        self.ledger.execute(
            "INSERT INTO equity VALUES ('test', %s, %s, %s, 0) ON CONFLICT DO NOTHING",
            (clock.now(), total, total),
        )

    def arm(self) -> None:
        """The leave that live venues ask for before each buy."""
        self.ledger.execute(
            "INSERT INTO arm_tokens (pod, armed_by, armed_at, expires_at) "
            "VALUES ('test', 'test', now(), now() + interval '1 hour')"
        )

    def desk(self) -> Desk:
        """The desk of a new run, a minute after the last."""
        self.time.advance(minutes=1)
        self.see_prices()
        return Desk(self.run(), self.venues)

    def run(self, workflow: str = "trading_loop") -> Run:
        trace_id = f"{workflow}-{clock.now_ms()}"
        epoch = leases.acquire(self.ledger, workflow, trace_id)
        if epoch is None:  # the run before has ended
            self.ledger.execute("UPDATE leases SET holder = NULL")
            epoch = leases.acquire(self.ledger, workflow, trace_id)
        assert epoch is not None
        run_id = runs.start(self.ledger, workflow, trace_id, clock.now(), epoch)
        assert run_id is not None
        log = calls.CallLog()
        return Run(
            self.config, self.ledger, cache.Cache(None, "test", log), log, workflow, "test",
            trace_id, clock.now(), run_id, epoch,
            compared_at=dict.fromkeys(self.venues, clock.now()),  # as reconciliation leaves it
        )  # fmt: skip

    def entry(self, size_quote: str = "90", *, urgency: str = "high") -> EntryOrder:
        mid = next(iter(self.venues.values())).mid
        return EntryOrder(
            None, "BTC/USDT", Decimal(size_quote), mid, "momentum", "tactical",
            urgency,  # type: ignore[arg-type]
            Exits(
                mid * Decimal("0.98"), mid * Decimal("1.05"), mid * Decimal("1.03"), Decimal(1),
                clock.now() + timedelta(hours=24),
            ),
        )  # fmt: skip

    def states(self) -> list[str]:
        return [r["state"] for r in self.ledger.query("SELECT state FROM intents ORDER BY sent_at")]

    def held(self) -> Decimal:
        row = self.ledger.one("SELECT coalesce(sum(quantity), 0) AS q FROM position_holdings")
        assert row is not None
        held: Decimal = row["q"]
        return held
