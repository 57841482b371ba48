"""A core sleeve on scripted venues: minutes of the trading loop and of the position manager.

What the scanner would write is written: prices, a scan with volatilities, equity. Hourly candles
are given, so that no venue is asked for a history.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from shared import cache, calls, clock, config
from shared.errors import VenueUnavailable
from shared.execution.desk import Desk
from shared.ledger import leases, positions, runs
from shared.ledger.connection import Ledger, json
from shared.ledger.positions import Position
from shared.market.types import Book, Candles, Quote
from shared.risk import context, looks, manage
from shared.run import Export, Run
from tests.conftest import VirtualClock
from tests.execution.scripted_venue import ScriptedVenue
from tests.peg_rows import tell_worth

PRICES = {"BTC": "1000", "ETH": "500", "SOL": "100", "XRP": "50"}


class ManyMarkets(ScriptedVenue):
    """A scripted venue on which each symbol has a price of its own."""

    def __init__(self, name: str = "binance", *, cash: str = "10000") -> None:
        super().__init__(name, cash=cash)
        self.mids = {f"{base}/USDT": Decimal(price) for base, price in PRICES.items()}

    def book(self, symbol: str, depth: int = 50) -> Book:
        if symbol not in self.mids:
            raise VenueUnavailable(f"{self.name}: {symbol}: BadSymbol")
        self.mid = self.mids[symbol]
        return super().book(symbol, depth)

    def quotes(self, symbols: Sequence[str]) -> dict[str, Quote]:
        found: dict[str, Quote] = {}
        for symbol in symbols:
            self.mid = self.mids[symbol]
            found |= super().quotes([symbol])
        return found

    def submit(self, ticket: Any) -> Any:
        self.mid = self.mids[ticket.symbol]
        return super().submit(ticket)


class CoreBench:
    """One pod with 10,000 USDT in all; ``minute`` is one of the trading loop's.

    Attributes:
        exports: what the position manager has returned, oldest first.
        market: changes to the scan's table of a symbol, for example an anomaly.
    """

    def __init__(
        self, ledger: Ledger, time: VirtualClock, monkeypatch: Any, *names: str, **variables: str
    ) -> None:
        names = names or ("binance",)
        self.ledger, self.time = ledger, time
        each = str(Decimal(10_000) / len(names))
        self.venues: dict[str, Any] = {name: ManyMarkets(name, cash=each) for name in names}
        self.configure(**variables)
        self.exports: list[Export] = []
        self.market: dict[str, dict[str, Any]] = {}
        for venue in self.venues.values():
            ledger.execute(
                "INSERT INTO transfers (pod, venue, currency, amount, at, note) "
                "VALUES ('test', %s, 'USDT', %s, %s, 'opening balance')",
                (venue.name, each, clock.now()),
            )
        tell_worth(ledger)
        monkeypatch.setattr(context, "hourly_candles", self._hourly)
        monkeypatch.setattr(looks, "_seen", lambda *arguments: None)
        monkeypatch.setattr("shared.execution.desk.Desk.open", lambda run: Desk(run, self.venues))

    def configure(self, **variables: str) -> None:
        settings = {
            "POD": "test",
            "SYMBOLS": "BTC,ETH,SOL,XRP",
            "VENUES": ",".join(self.venues),
            "CORE_SLEEVE_PERCENT": "20",
            "MAX_DAILY_LOSS": "2000",
            "DAILY_LOSS_PERCENT": "50",
            "TWAP_SLICES": "3",
        }
        self.config = config.load(settings | variables)

    def move(self, **prices: str | float) -> None:
        """Set the mids of some coins on every venue; stops trigger where they are reached."""
        for venue in self.venues.values():
            for base, price in prices.items():
                symbol = f"{base}/USDT"
                others = {k: t for k, t in venue.stops.items() if t.symbol != symbol}
                venue.stops = {k: t for k, t in venue.stops.items() if t.symbol == symbol}
                venue.mids[symbol] = Decimal(str(price))
                venue.move(str(price))
                venue.stops |= others

    def minute(self, *, scan: bool = True) -> None:
        """The position manager where it is due, then what the trading loop does with orders."""
        self.time.advance(minutes=1)
        self._see_prices()
        if scan:
            self._scan()
        if clock.now().minute % 5 == 0:
            self.exports.append(manage.manage(self.run("position_manager")))
        self.loop()

    def loop(self) -> None:
        run = self.run("trading_loop")
        desk = Desk(run, self.venues)
        desk.reconcile()
        desk.protect()
        manage.manage_exits(run, desk)
        desk.work()
        desk.protect()
        desk.settle()

    def minutes(self, count: int) -> None:
        for _ in range(count):
            self.minute()

    def hours(self, count: float) -> None:
        """Nothing happens meanwhile, and nobody looks."""
        self.time.advance(hours=count)

    def run(self, workflow: str) -> Run:
        trace_id = f"{workflow}-{clock.now_ms()}"
        self.ledger.execute("UPDATE leases SET holder = NULL")
        epoch = leases.acquire(self.ledger, workflow, trace_id)
        assert epoch is not None
        run_id = runs.start(self.ledger, workflow, trace_id, clock.now(), epoch)
        assert run_id is not None
        log = calls.CallLog()
        return Run(
            self.config, self.ledger, cache.Cache(None, "test", log), log, workflow, "test",
            trace_id, clock.now(), run_id, epoch,
        )  # fmt: skip

    @property
    def rebalancing(self) -> Export:
        """What the newest run of the position manager has said of the sleeve."""
        told: Export = self.exports[-1]["rebalancing"]
        return told

    @property
    def reason(self) -> str:
        return str(self.rebalancing["reason"]).split(":")[0]

    def held(self) -> dict[str, Position]:
        return {p.symbol: p for p in positions.open_positions(self.ledger) if p.is_held}

    def worth(self, base: str) -> float:
        """What the core holds of a coin, at its mid."""
        position = self.held().get(f"{base}/USDT")
        mid = next(iter(self.venues.values())).mids[f"{base}/USDT"]
        return 0.0 if position is None else float(position.quantity * mid)

    def states(self) -> list[tuple[str, str]]:
        rows = self.ledger.query("SELECT state, reason FROM rebalances ORDER BY at")
        return [(row["state"], row["reason"].split(":")[0]) for row in rows]

    def traded(self, side: str) -> list[Any]:
        """The tickets that a venue got for the core, without stops."""
        sent = [ticket for venue in self.venues.values() for ticket in venue.sent]
        return [t for t in sent if t.side == side and t.stop_price is None]

    def agree(self) -> None:
        """What the ledger holds is what the venues hold, and every stop covers what is there."""
        for name, venue in self.venues.items():
            rows = self.ledger.query(
                "SELECT currency, amount FROM balances WHERE pod = 'test' AND venue = %s", (name,)
            )
            told = {row["currency"]: row["amount"] for row in rows if row["amount"]}
            really = {currency: held for currency, held in venue.account.items() if held}
            assert told == really

    def _see_prices(self) -> None:
        worth = Decimal(0)
        for venue in self.venues.values():
            for symbol, mid in venue.mids.items():
                self.ledger.execute(
                    "INSERT INTO prices VALUES ('test', %(venue)s, %(symbol)s, %(bid)s, %(ask)s, "
                    "%(at)s, %(mid)s, %(mid)s, 5e9) ON CONFLICT (pod, venue, symbol) DO UPDATE SET "
                    "bid = excluded.bid, ask = excluded.ask, at = excluded.at, "
                    "low_1m = excluded.low_1m, high_1m = excluded.high_1m",
                    {
                        "venue": venue.name,
                        "symbol": symbol,
                        "bid": mid - Decimal("0.05"),
                        "ask": mid + Decimal("0.05"),
                        "at": clock.now(),
                        "mid": mid,
                    },
                )
                worth += venue.account.get(symbol.split("/")[0], Decimal(0)) * mid
            worth += venue.account["USDT"]
        self.ledger.execute(
            "INSERT INTO equity VALUES ('test', %s, %s, %s, 0) ON CONFLICT DO NOTHING",
            (clock.now(), worth, worth),
        )

    def _scan(self) -> None:
        calm = {"volatility_annualised_percent": 60.0}
        markets = [
            {"symbol": f"{base}/USDT", "indicators": {"1h": calm, "1d": calm}}
            | self.market.get(base, {})
            for base in PRICES
        ]
        run = self.run("trading_loop")
        self.ledger.execute(
            "INSERT INTO scans (pod, run_id, at, parameters_version, next_action, payload) "
            "VALUES ('test', %s, %s, 1, 'WAIT', %s)",
            (run.run_id, clock.now(), json({"signals": {"markets": markets}})),
        )
        self.time.advance(seconds=1)  # the next run of the minute has a trace of its own

    def _hourly(self, run: Run, symbols: set[str], venues: object = None) -> dict[str, Candles]:
        """400 hours of a random walk of 0.7 % an hour, half of it common to all."""
        rng = np.random.default_rng(3)
        common = rng.standard_normal(400) * 0.005
        times = np.arange(400, dtype=np.int64) * 3_600_000 + clock.now_ms() // 3_600_000 * 3_600_000
        found = {}
        for symbol in sorted(f"{base}/USDT" for base in PRICES):
            steps = common + rng.standard_normal(400) * 0.005
            mid = float(next(iter(self.venues.values())).mids[symbol])
            close = np.exp(np.cumsum(steps) - steps.sum()) * mid
            found[symbol] = Candles(symbol, "1h", times, close, close, close, close, close)
        return {symbol: found[symbol] for symbol in symbols}
