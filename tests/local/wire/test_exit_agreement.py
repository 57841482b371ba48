"""The exits of the table, lived through on a simulated venue: the replay agrees with the live code.

The stop rests on the venue and the loop watches the same price: whichever comes first, the position
is left for the same reason in the same minute, near the same price, and nothing is sold twice.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from deploy.local.wire.client import key_variables, make_credentials
from shared import cache, calls, clock, config
from shared.execution.desk import Desk
from shared.execution.types import EntryOrder, Exits
from shared.ledger import leases, positions, runs
from shared.ledger.connection import Ledger
from shared.market.candles import candle_store
from shared.market.types import Candles
from shared.risk.manage import manage_exits
from shared.run import Run
from tests.conftest import VirtualClock
from tests.local.wire.fakes import START_MS, FakeSource
from tests.peg_rows import tell_worth
from tests.risk.managing import scenarios
from tests.risk.managing.scenarios import Scenario

SYMBOL = "BTC/USDT"
SCALE = 1_000  # the table's 100 is the venue's 100,000
# What the table decides by a cent or by the clock, a book with a spread cannot show.
LIVED = (
    "stop in the second minute",
    "gap through the stop",
    "gap through the stop and back",
    "spike to 90 and back in one candle",
    "target closed above",
    "target in the second minute",
    "stop and target",
    "stop and target, closed at the target",
    "stop and trailing activation",
    "activated and fallen through",
    "follows from high to high",
    "never loosens",
    "gap through it",
    "gap through it and the first stop",
    "close everything",
    "dip while the loop was dead",
    "the raised stop outlives its run",
    "BTC 2018-02-24 06:34, down 8 % in a minute",
    "BTC 2022-01-07 13:36, just before a gap",
    "BTC 2023-03-03 01:30, a bank's news",
)
TABLE = {scenario.name: scenario for scenario in scenarios.read()}


class Pod:
    """A pod on one venue of a wire, entered at the end of a quiet minute."""

    def __init__(self, ledger: Ledger, time: VirtualClock, wire: Any, venue: str) -> None:
        self.ledger, self.time, self.wire, self.venue = ledger, time, wire, venue
        self.closed: list[tuple[int, tuple[float, ...]]] = []
        time.now_ms = START_MS
        self.config = config.load(
            {"POD": "test", "VENUES": venue, "SIMULATED_WIRE_URL": wire.base_url}
            | key_variables(make_credentials(11))
        )
        for currency, parts in self._account()["balances"].items():
            total = Decimal(parts["free"]) + Decimal(parts["locked"])
            ledger.execute(
                "INSERT INTO transfers (pod, venue, currency, amount, at, note) "
                "VALUES ('test', %s, %s, %s, %s, 'opening balance')",
                (venue, currency, total, clock.now()),
            )

    def enter(self) -> None:
        desk = self._desk()
        desk.reconcile()
        at = Decimal(100 * SCALE)
        exits = Exits(
            at * Decimal("0.98"), at * Decimal("1.05"), at * Decimal("1.03"), Decimal(1),
            clock.now() + timedelta(hours=24),
        )  # fmt: skip
        desk.enter(EntryOrder(None, SYMBOL, Decimal(90), at, "momentum", "tactical", "high", exits))
        (result,) = desk.work()
        assert result.outcome == "FILLED", result.detail
        desk.protect()

    def live(self, scenario: Scenario) -> tuple[str | None, int]:
        """Every minute as the loop's last step has it; the reason and the minute of the end."""
        self._minute((100.0, 100.0, 100.0, 100.0), looks=True)
        for minute, candle in enumerate(scenario.candles, 1):
            if minute == int(scenario.given.get("close_all", "0")):
                self.ledger.execute(
                    "INSERT INTO trading_state (pod, state, close_all, reason, set_by, since) "
                    "VALUES ('test', 'HALTED', true, 'test', 'test', %s) ON CONFLICT (pod) DO "
                    "UPDATE SET state = 'HALTED', close_all = true",
                    (clock.now(),),
                )
            prices = (candle.open, candle.high, candle.low, candle.close)
            self._minute(prices, looks=minute not in scenario.dead())
            if not positions.open_positions(self.ledger):
                row = self.ledger.one("SELECT close_reason FROM positions")
                assert row is not None
                return row["close_reason"], minute
        return None, len(scenario.candles)

    def sales(self) -> list[dict[str, Any]]:
        return self.ledger.query("SELECT price, quantity FROM fills WHERE side = 'sell'")

    def bought(self) -> Decimal:
        row = self.ledger.one("SELECT sum(quantity) AS q FROM fills WHERE side = 'buy'")
        assert row is not None
        quantity: Decimal = row["q"]
        return quantity

    def coins_there(self) -> Decimal:
        """What the venue itself holds of the base currency."""
        parts = self._account()["balances"]["BTC"]
        return Decimal(parts["free"]) + Decimal(parts["locked"])

    def _minute(self, candle: tuple[float, ...], *, looks: bool) -> None:
        self.closed.append((self.time.now_ms, tuple(SCALE * price for price in candle)))
        self.time.advance(minutes=1)
        self.wire.advance(1)
        if not looks:
            return
        desk = self._desk()
        desk.reconcile()
        desk.protect()
        manage_exits(self._run, desk)
        desk.protect()
        desk.settle()
        runs.finish(self.ledger, self._run.run_id, self._run.epoch, duration_ms=1.0)

    def _desk(self) -> Desk:
        trace_id = f"trading_loop-{clock.now_ms()}"
        self.ledger.execute("UPDATE leases SET holder = NULL")  # the run before has ended
        epoch = leases.acquire(self.ledger, "trading_loop", trace_id)
        assert epoch is not None
        run_id = runs.start(self.ledger, "trading_loop", trace_id, clock.now(), epoch)
        assert run_id is not None
        log = calls.CallLog()
        self._run = Run(
            self.config, self.ledger, cache.Cache(None, "test", log), log, "trading_loop", "test",
            trace_id, clock.now(), run_id, epoch,
        )  # fmt: skip
        desk = Desk.open(self._run)
        tell_worth(self.ledger)
        quote = desk.venues[self.venue].quotes([SYMBOL])[SYMBOL]
        self.ledger.execute(
            "INSERT INTO prices (pod, venue, symbol, bid, ask, at, low_1m, high_1m, "
            "volume_24h_quote) VALUES ('test', %s, %s, %s, %s, %s, %s, %s, 1e9) "
            "ON CONFLICT (pod, venue, symbol) DO UPDATE SET bid = excluded.bid, "
            "ask = excluded.ask, at = excluded.at",
            (self.venue, SYMBOL, quote.bid, quote.ask, clock.now(), quote.bid, quote.ask),
        )
        return desk

    def _account(self) -> dict[str, Any]:
        import requests

        answer = requests.get(f"{self.wire.base_url}/_control/accounts", timeout=10).json()
        account: dict[str, Any] = answer[self.venue]
        return account

    def window(self, run: Run, venue: Any, symbol: str, timeframe: str) -> Candles | None:
        if timeframe != "1m" or not self.closed:
            return None
        opens = np.array([at for at, _ in self.closed], dtype=np.int64)
        open_, high, low, close = np.array([prices for _, prices in self.closed]).T
        return Candles(symbol, "1m", opens, open_, high, low, close, np.ones(len(opens)))


@pytest.mark.parametrize("venue", ["binance", "kraken"])
@pytest.mark.parametrize("name", LIVED)
def test_the_venue_and_the_loop_agree(
    name: str,
    venue: str,
    start: Callable[..., Any],
    ledger: Ledger,
    virtual_clock: VirtualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scenario = TABLE[name]
    expected = scenario.expected
    assert expected is not None
    flat = (100.0, 100.0, 100.0, 100.0)
    candles = [(c.open, c.high, c.low, c.close) for c in scenario.candles]
    given = [tuple(SCALE * price for price in candle) for candle in (flat, *candles)]
    pod = Pod(ledger, virtual_clock, start(FakeSource({SYMBOL: given})), venue)
    monkeypatch.setattr(candle_store, "window", pod.window)
    before = pod.coins_there()
    pod.enter()
    assert pod.live(scenario) == (expected.reason, expected.minute)
    sales = pod.sales()
    sold = sum((sale["quantity"] for sale in sales), Decimal(0))
    assert sold <= pod.bought()
    assert pod.coins_there() >= before  # nothing that was there before is gone
    paid = sum((sale["quantity"] * sale["price"] for sale in sales), Decimal(0))
    assert float(paid / sold) == pytest.approx(SCALE * expected.price, rel=0.003)
