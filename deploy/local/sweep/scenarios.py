"""What the system is doing when the fault comes: from a quiet start to the minute before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from deploy.local.sweep.faults import Fault, Mode, Site
from shared import config

HISTORY_SEED = 5  # of a past after which the ensemble wants to buy when it is let


@dataclass(frozen=True)
class Scenario:
    """A way to the minute of the fault.

    Attributes:
        subject: the workflow whose run is disturbed.
        quiet_minutes: run first, with thresholds that no market reaches, so that caches are warm.
        open_minutes: run after that with low thresholds: in the first of them the loop buys.
            The subject's minute comes next (0: it is the one that buys).
        closes, other_closes: the market, see ``market.scripted``.
        settings: over the common ones.
        earlier: a fault in the trading loop of the last minute before the subject's.
        models: whether models are asked.
        recovery_minutes: how many go by after the subject's at least, though all is at rest.
    """

    name: str
    about: str
    subject: str = "trading_loop"
    venues: tuple[str, ...] = ("binance", "kraken")
    quiet_minutes: int = 2
    open_minutes: int = 0
    closes: Mapping[int, float] = field(default_factory=dict)
    other_closes: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    earlier: Fault | None = None
    models: bool = False
    limit_orders_only: bool = False
    recovery_minutes: int = 0

    @property
    def minute(self) -> int:
        """The minute of the subject's run, after the start."""
        return self.quiet_minutes + self.open_minutes

    @property
    def rebalance_min_hours(self) -> float:
        """What has to lie between two rebalances of the core sleeve."""
        return config.load(self.settings).rebalance_min_hours


_SEND = {
    "binance": Site("http POST binance /api/v3/order", 1),
    "coinbase": Site("http POST coinbase /api/v3/brokerage/orders", 1),
    "kraken": Site("http POST kraken /0/private/AddOrder", 1),
}

# The whole core sleeve in one symbol, and a tactical one that is too small to buy anything.
_CORE = {
    "CORE_SLEEVE_PERCENT": "1",
    "CORE_WEIGHTS": "BTC:90",
    "REBALANCE_MIN_HOURS": "0",
    "MAX_POSITION_SIZE": "1",
}
_CORE_RISES = {16: 1.03, 17: 1.06, 18: 1.09, 19: 1.12}

# Two symbols that part, by 14 % each, because 15 % in an hour count as a false price: one rebalance
# sells of the first and then buys of the second. Another one within 12 minutes would be churn.
_CORE_OF_TWO = _CORE | {
    "SYMBOLS": "BTC,ETH",
    "CORE_WEIGHTS": "BTC:45,ETH:45",
    "REBALANCE_MIN_HOURS": "0.2",
}
_CORE_PARTS = {minute: 1 + 0.028 * (minute - 14) for minute in range(15, 20)}
_CORE_PARTS_DOWN = {"ETH/USDT": {minute: 1 - 0.028 * (minute - 14) for minute in range(15, 20)}}

_ALL = (
    Scenario("entry", "a decision to buy, its parent, first slice and stop", models=True),
    Scenario("entry_coinbase", "the same on Coinbase alone", venues=("coinbase",)),
    Scenario("entry_kraken", "the same on Kraken alone", venues=("kraken",)),
    Scenario(
        "entry_passive",
        "the same while only limit orders are allowed: partial or no fill",
        limit_orders_only=True,
    ),
    Scenario("twap", "the second slice, with a position held and its stop", open_minutes=1),
    Scenario(
        "exit_target",
        "the price passes the target: stop cancelled, everything sold",
        open_minutes=6,
        closes={7: 1.06},
    ),
    Scenario(
        "exit_stop",
        "the price falls through the stop",
        open_minutes=6,
        closes={7: 0.96},
    ),
    Scenario(
        "trailing",
        "the trailing stop is raised by the trading loop",
        open_minutes=6,
        closes={7: 1.045},
        settings={"TAKE_PROFIT_PERCENT": "40", "TRAILING_ACTIVATION_PERCENT": "3"},
    ),
    Scenario(
        "partial_profit",
        "the position manager sells half",
        subject="position_manager",
        quiet_minutes=2,
        open_minutes=8,
        closes={8: 1.05, 9: 1.12},
        settings={"TAKE_PROFIT_PERCENT": "40", "TRAILING_ACTIVATION_PERCENT": "39"},
    ),
    Scenario(
        "core_plan",
        "the position manager finds the core sleeve off its target and plans a rebalance",
        subject="position_manager",
        quiet_minutes=20,
        closes=_CORE_RISES,
        settings=_CORE,
    ),
    Scenario(
        "core_buy",
        "the core sleeve is funded: the trading loop sends the first slice",
        quiet_minutes=5,
        settings=_CORE,
    ),
    Scenario(
        "core_sale",
        "the trading loop lifts a core position's stop and sells the part that is too much",
        quiet_minutes=20,
        closes=_CORE_RISES,
        settings=_CORE,
    ),
    Scenario(
        "core_swap_plan",
        "one core symbol has risen, another has fallen: the position manager plans a sale and a "
        "purchase, and opens the sale",
        subject="position_manager",
        quiet_minutes=20,
        closes=_CORE_PARTS,
        other_closes=_CORE_PARTS_DOWN,
        settings=_CORE_OF_TWO,
        recovery_minutes=12,  # planned five minutes late, and bought five minutes after that
    ),
    Scenario(
        "core_swap_turn",
        "what was too much is sold: the position manager opens the purchase",
        subject="position_manager",
        quiet_minutes=25,
        closes=_CORE_PARTS,
        other_closes=_CORE_PARTS_DOWN,
        settings=_CORE_OF_TWO,
        recovery_minutes=7,
    ),
    Scenario(
        "halt",
        "the breaker halts on the daily loss while a parent works, and tells Slack",
        subject="circuit_breaker",
        open_minutes=3,
        closes={3: 0.985},
        settings={"MAX_DAILY_LOSS": "0.3", "TWAP_SLICES": "6"},
    ),
    *(
        Scenario(
            f"unknown_{venue}",
            f"an order that {venue} has taken and whose answer was lost is being resolved",
            venues=(venue,),
            open_minutes=1,
            earlier=Fault(site, Mode.TIMEOUT_AFTER),
        )
        for venue, site in _SEND.items()
    ),
    Scenario(
        "unknown_never_arrived",
        "an order that never reached the venue is being resolved",
        venues=("binance",),
        open_minutes=1,
        earlier=Fault(_SEND["binance"], Mode.TIMEOUT_BEFORE),
    ),
)

SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in _ALL}
