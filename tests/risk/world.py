"""A small ledger to judge orders in: rows written directly, as execution would leave them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from shared import clock, config
from shared.cache import Cache
from shared.calls import CallLog
from shared.execution.types import MarketRules, OrderTicket, PriceBand
from shared.ledger import runs
from shared.ledger.connection import Ledger, json
from shared.market.types import Book, Quote
from shared.run import Run

BTC = "BTC/USDT"
ETH = "ETH/USDT"
_numbers = itertools.count(1)


def dec(value: object) -> Decimal:
    return Decimal(str(value))


def make_run(ledger: Ledger, workflow: str = "trading_loop", **variables: str) -> Run:
    """A run in the middle of its minute. ``variables`` are settings, for example MAX_POSITIONS."""
    trace_id = f"trace-{next(_numbers)}"
    calls = CallLog()
    run_id = runs.start(ledger, workflow, trace_id, clock.now(), 1)
    assert run_id is not None
    ledger.execute(
        "INSERT INTO leases (pod, workflow, epoch, holder, expires_at) VALUES "
        "(%s, %s, 1, %s, 'infinity') ON CONFLICT DO NOTHING",
        (ledger.pod, workflow, trace_id),
    )
    return Run(
        config=config.load({"POD": "test", **variables}),
        ledger=ledger,
        cache=Cache(None, "test", calls),
        calls=calls,
        workflow=workflow,
        step="step",
        trace_id=trace_id,
        event_at=clock.now(),
        run_id=run_id,
        epoch=1,
        compared_at=dict.fromkeys(("binance", "binanceus", "coinbase", "kraken"), clock.now()),
    )


@dataclass
class World:
    ledger: Ledger
    run: Run
    variables: dict[str, str] = field(default_factory=dict)

    def configure(self, **variables: str) -> None:
        self.variables |= variables
        settings = config.load({"POD": "test", **self.variables})
        self.run.config = settings

    def now(self) -> datetime:
        return clock.now()

    def transfer(
        self, venue: str, currency: str, amount: object, at: datetime | None = None
    ) -> None:
        self.ledger.execute(
            "INSERT INTO transfers (pod, venue, currency, amount, at, note) "
            "VALUES (%s, %s, %s, %s, %s, %s)",
            ("test", venue, currency, dec(amount), at or clock.now(), f"seed {next(_numbers)}"),
        )

    def equity(self, value: object, at: datetime | None = None) -> None:
        self.ledger.execute(
            "INSERT INTO equity VALUES ('test', %s, %s, %s, 0)",
            (at or clock.now(), dec(value), dec(value)),
        )

    def price(self, venue: str, symbol: str, mid: object, at: datetime | None = None) -> None:
        self.ledger.execute(
            "INSERT INTO prices VALUES ('test', %s, %s, %s, %s, %s) "
            "ON CONFLICT (pod, venue, symbol) DO UPDATE SET bid = excluded.bid, "
            "ask = excluded.ask, at = excluded.at",
            (venue, symbol, dec(mid), dec(mid), at or clock.now()),
        )

    def calm(self, symbol: str = BTC, mid: object = 100, venue: str = "binanceus") -> None:
        """A further venue that shows ``mid`` now, a quiet minute and a volume of 50 million."""
        self.price(venue, symbol, mid)
        self.ledger.execute(
            "UPDATE prices SET low_1m = bid, high_1m = ask, volume_24h_quote = 50e6 "
            "WHERE venue = %s AND symbol = %s",
            (venue, symbol),
        )

    def decision(self, **changes: Any) -> str:
        row: dict[str, Any] = {
            "decision_id": f"decision-{next(_numbers)}",
            "action": "BUY",
            "symbol": BTC,
            "strategy": "momentum",
        } | changes
        self.ledger.execute(
            "INSERT INTO decisions (decision_id, pod, run_id, at, symbol, action, source, "
            "strategy, confidence, size_fraction, mid_price, reasoning, inputs) VALUES "
            "(%s, 'test', %s, %s, %s, %s, 'ensemble', %s, 0.8, 1, 100, 'test', %s)",
            (
                row["decision_id"],
                self.run.run_id,
                clock.now(),
                row["symbol"],
                row["action"],
                row["strategy"],
                json({}),
            ),
        )
        return str(row["decision_id"])

    def position(self, symbol: str = BTC, **changes: Any) -> int:
        """An open position without fills, stop at 98, target at 105, entered around 100."""
        row: dict[str, Any] = {
            "pod": "test",
            "symbol": symbol,
            "sleeve": "tactical",
            "strategy": "momentum",
            "opened_at": clock.now(),
            "closed_at": None,
            "close_reason": None,
            "stop_price": dec(98),
            "target_price": dec(105),
            "trailing_activation_price": dec(103),
            "trailing_distance_percent": dec(1),
            "high_water_price": None,
            "time_stop_at": clock.now() + timedelta(hours=24),
        } | changes
        names = ", ".join(row)
        marks = ", ".join(f"%({name})s" for name in row)
        made = self.ledger.one(
            f"INSERT INTO positions ({names}) VALUES ({marks}) RETURNING position_id",  # noqa: S608
            row,
        )
        assert made is not None
        return int(made["position_id"])

    def intent(
        self,
        position_id: int,
        *,
        state: str = "ACKNOWLEDGED",
        side: str = "buy",
        quantity: object = 1,
        limit_price: object = 100,
        venue: str = "binance",
        symbol: str = BTC,
        order_type: str = "limit",
        sent_at: datetime | None = None,
        order_status: str | None = None,
        filled: object = 0,
        purpose: str | None = None,
    ) -> str:
        """An intent, and its order where ``order_status`` is given."""
        number = next(_numbers)
        purpose = purpose or ("entry" if side == "buy" else "exit")
        sent = sent_at or clock.now()
        self.ledger.execute(
            "INSERT INTO intents (intent_id, logical_key, client_order_id, pod, position_id, "
            "venue, symbol, side, purpose, order_type, time_in_force, quantity, limit_price, "
            "decision_mid, arrival_mid, epoch, sent_at, valid_until, state) VALUES "
            "(%s, %s, %s, 'test', %s, %s, %s, %s, %s, %s, 'GTC', %s, %s, 100, 100, 1, %s, %s, %s)",
            (
                f"i{number}",
                f"k{number}",
                f"c{number}",
                position_id,
                venue,
                symbol,
                side,
                purpose,
                order_type,
                dec(quantity),
                dec(limit_price),
                sent,
                sent + timedelta(seconds=30),
                state,
            ),
        )
        if order_status is not None:
            self.ledger.execute(
                "INSERT INTO orders VALUES (%s, %s, %s, 'test', %s, %s, %s, NULL, %s, %s)",
                (venue, f"v{number}", f"i{number}", order_status, dec(quantity), dec(filled), sent,
                 sent),
            )  # fmt: skip
        return f"i{number}"

    def fill(
        self,
        position_id: int,
        quantity: object,
        *,
        side: str = "buy",
        price: object = 100,
        venue: str = "binance",
        symbol: str = BTC,
        fee_quote: object = 0,
        at: datetime | None = None,
    ) -> None:
        """A recorded execution of a filled order."""
        moment = at or clock.now()
        intent_id = self.intent(
            position_id,
            side=side,
            quantity=quantity,
            limit_price=price,
            venue=venue,
            symbol=symbol,
            sent_at=moment - timedelta(hours=2),
            order_status="filled",
            filled=quantity,
        )
        number = next(_numbers)
        self.ledger.execute(
            "INSERT INTO fills VALUES (%s, %s, %s, %s, %s, 'test', %s, %s, %s, %s, %s, 'USDT', "
            "%s, 'taker', %s, %s)",
            (
                venue,
                f"t{number}",
                f"v{number}",
                intent_id,
                position_id,
                symbol,
                side,
                dec(price),
                dec(quantity),
                dec(fee_quote),
                dec(fee_quote),
                moment,
                moment,
            ),
        )

    def closed_trade(self, pnl_quote: float, symbol: str = BTC, strategy: str = "momentum") -> int:
        """A closed trade of cost 100 that made ``pnl_quote``."""
        position_id = self.position(
            symbol,
            strategy=strategy,
            closed_at=clock.now(),
            close_reason="target" if pnl_quote > 0 else "stop",
        )
        self.fill(position_id, 1, symbol=symbol)
        self.fill(position_id, 1, side="sell", price=100 + pnl_quote, symbol=symbol)
        return position_id


WIDE = PriceBand(dec("0.2"), dec(5), dec("0.2"), dec(5), 5)
"""Of BTC/USDT on Binance."""


def rules(
    venue: str = "binance",
    symbol: str = BTC,
    *,
    is_open: bool = True,
    price_band: PriceBand | None = WIDE,
    max_orders: int | None = 200,
    max_stop_orders: int | None = 5,
    unread_filters: tuple[str, ...] = (),
    **changes: object,
) -> MarketRules:
    """Those of Binance, but for coarser grids."""
    values = {
        "price_tick": "0.01",
        "quantity_step": "0.001",
        "min_quantity": "0.002",
        "min_notional": "5",
        "taker_fee_bps": "10",
        "maker_fee_bps": "10",
    } | changes
    numbers = {name: dec(value) for name, value in values.items()}
    return MarketRules(
        venue, symbol, **numbers, is_open=is_open, price_band=price_band, max_orders=max_orders,
        max_stop_orders=max_stop_orders, unread_filters=unread_filters,
    )  # fmt: skip


def ticket(**changes: Any) -> OrderTicket:
    values: dict[str, Any] = {
        "client_order_id": "mine",
        "venue": "binance",
        "symbol": BTC,
        "side": "buy",
        "order_type": "limit",
        "time_in_force": "IOC",
        "quantity": dec("0.5"),
        "limit_price": dec(100),
    } | changes
    return OrderTicket(**values)


def book(
    bid: float = 99.99, ask: float = 100.01, symbol: str = BTC, at_ms: int | None = None
) -> Book:
    return Book(symbol, ((bid, 10.0),), ((ask, 10.0),), clock.now_ms() if at_ms is None else at_ms)


def quote(mid: float, half_spread: float = 0.0) -> Quote:
    return Quote(mid - half_spread, mid + half_spread, clock.now_ms())
