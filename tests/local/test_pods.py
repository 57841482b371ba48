"""Two pods in one ledger over the simulated wire: what happens to one does not reach the other."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deploy.local import events
from deploy.local.market.choose import SIMULATED_FROM_MS
from deploy.local.market.source import SourceSpec
from deploy.local.platform import WorkflowResult
from deploy.local.session import VENUES, LocalSession, SessionOptions
from deploy.pipedream.pods import PodMaker, Wish
from shared import clock
from shared.execution.desk import Desk
from shared.execution.types import EntryOrder, Exits
from shared.ledger import parameters, state, transfers
from shared.ledger.connection import Ledger
from shared.parameters import Parameters
from shared.run import Run, run_step

SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT")
SPEC = SourceSpec("simulated", SYMBOLS, SIMULATED_FROM_MS, 1.0, 3, None)
ALPHA = {
    "SYMBOLS": "BTC,ETH,SOL", "CAPITAL_QUOTE": "3000", "MAX_POSITION_SIZE": "60",
    "MAX_DAILY_LOSS": "0.01",
}  # fmt: skip
BETA = {"SYMBOLS": "ETH,SOL", "CAPITAL_QUOTE": "2000", "MAX_POSITION_SIZE": "40"}
CALM = Parameters(ensemble_threshold=0.6)  # no signal sells what the test has bought
OF_A_POD = (
    "runs", "leases", "scans", "decisions", "risk_checks", "positions", "intents", "orders",
    "fills", "equity", "prices", "health",
)  # fmt: skip


class Pods:
    """A session whose workflows have been copied for alpha and beta."""

    def __init__(self, session: LocalSession) -> None:
        self.session = session
        maker = PodMaker(
            session.project, None, session.ledger,  # type: ignore[arg-type]
            session._variables, person="test",
        )  # fmt: skip
        for name, settings in (("alpha", ALPHA), ("beta", BETA)):
            assert maker.register(Wish(name, settings, may_trade_live=False))
            parameters.put(self.ledger(name), CALM, set_by="test", reason="test", evidence={})
            for workflow in session.project.workflows:
                session.ledger.execute(
                    "INSERT INTO pod_workflows VALUES (%s, %s, %s, %s)",
                    (name, workflow.name, f"p_{name}_{workflow.name}", clock.now()),
                )

    def ledger(self, pod: str) -> Ledger:
        return self.session.ledger.of_pod(pod)

    def run(self, pod: str, name: str, minute: int) -> WorkflowResult:
        session = self.session
        workflow = session.project.workflow(name)
        at_ms = SIMULATED_FROM_MS + minute * 60_000
        if at_ms > session.now_ms:
            session.advance(at_ms)
        context = events.context(session.pod, workflow, at_ms)
        context |= {
            "workflow_id": f"p_{pod}_{name}",
            "workflow_name": f"{name}-{pod}".replace("_", "-"),
        }
        result = session.platform.run_workflow(
            workflow, events.cron_event(workflow, at_ms), context
        )
        failed = result.failed_step
        assert failed is None, f"{pod}/{name}: {failed.traceback or failed.error}"
        return result

    def minutes(self, first: int, last: int, *, of: tuple[str, ...] = ("alpha", "beta")) -> None:
        for minute in range(first, last + 1):
            for pod in of:
                self.run(pod, "circuit_breaker", minute)
                if minute % 5 == 0:
                    self.run(pod, "position_manager", minute)
                self.run(pod, "trading_loop", minute)

    def buy(self, pod: str, symbol: str, size_quote: int) -> list[tuple[str, str]]:
        """What the loop does with an approved decision; outcomes and denials of its orders."""
        context = {"trace_id": f"{pod}-{clock.now_ms()}", "workflow_id": f"p_{pod}_trading_loop"}
        trigger = {"event": {"timestamp": clock.now_ms() // 1000}, "context": context}
        pd: Any = SimpleNamespace(steps={"trigger": trigger}, inputs={})
        results: list[tuple[str, str]] = []

        def body(run: Run) -> dict[str, Any]:
            desk = Desk.open(run)
            assert desk.reconcile().clean
            mid = Decimal(str(desk.venues["binance"].book(symbol).mid))
            leave = Exits(
                mid * Decimal("0.98"), mid * Decimal("1.05"), mid * Decimal("1.03"), Decimal(1),
                clock.now() + timedelta(hours=24),
            )  # fmt: skip
            size = Decimal(size_quote)
            order = EntryOrder(None, symbol, size, mid, "momentum", "tactical", "high", leave)
            desk.enter(order)
            results.extend((done.outcome, done.detail) for done in desk.work())
            desk.protect()
            return {}

        run_step(
            pd, workflow="trading_loop", step="bought by hand", body=body, first=True, last=True
        )
        return results

    def rows(self, table: str, pod: str) -> list[dict[str, Any]]:
        order = {"scans": "scan_id", "runs": "run_id"}.get(table, "1")
        return self.session.ledger.query(
            f"SELECT * FROM {table} WHERE pod = %s ORDER BY {order}",  # noqa: S608 names of tables
            (pod,),
        )


@pytest.fixture
def pods(tmp_path: Path) -> Iterator[Pods]:
    options = SessionOptions(SPEC, "two_pods", fresh=True, models="none", folder=tmp_path)
    with LocalSession(options, {}) as session:
        yield Pods(session)


def test_one_loses_and_is_halted_and_the_other_trades_on(pods: Pods) -> None:
    pods.minutes(1, 2)
    assert {outcome for outcome, _ in pods.buy("alpha", "ETH/USDT", 55)} == {"FILLED"}
    assert {outcome for outcome, _ in pods.buy("beta", "ETH/USDT", 35)} == {"FILLED"}
    pods.minutes(3, 5)

    # Its fees alone were a loss beyond MAX_DAILY_LOSS: its breaker has halted it, and it alone.
    alpha, beta = (state.read(pods.ledger(pod)) for pod in ("alpha", "beta"))
    assert (alpha.state, alpha.set_by) == ("HALTED", "circuit_breaker")
    assert beta.state == "ACTIVE"
    assert state.read(pods.session.ledger).state == "ACTIVE"
    assert "FILLED" not in {outcome for outcome, _ in pods.buy("alpha", "SOL/USDT", 30)}
    assert {outcome for outcome, _ in pods.buy("beta", "SOL/USDT", 30)} == {"FILLED"}

    state.tighten(
        pods.ledger("alpha"), "HALTED", reason="a person", set_by="test",
        rearm_required=True, close_all=True,
    )  # fmt: skip
    pods.minutes(6, 11)
    assert {row["symbol"] for row in pods.rows("intents", "alpha")} == {"ETH/USDT"}
    assert _open(pods, "alpha") == []
    assert _open(pods, "beta") == ["ETH/USDT", "SOL/USDT"]
    assert state.read(pods.ledger("beta")).state == "ACTIVE"
    _each_has_its_own(pods)
    _each_within_its_own_limits(pods)
    _the_account_is_the_sum(pods)


def test_killing_one_leaves_the_other(pods: Pods) -> None:
    pods.minutes(1, 1)
    pods.session.ledger.execute("UPDATE pods SET removed_at = now() WHERE pod = 'alpha'")
    before = {table: len(pods.rows(table, "alpha")) for table in OF_A_POD}
    for minute in range(2, 5):
        assert pods.run("alpha", "trading_loop", minute).exit_reason == "POD_REMOVED: pod=alpha"
        pods.minutes(minute, minute, of=("beta",))
    assert {table: len(pods.rows(table, "alpha")) for table in OF_A_POD} == before
    runs = [row["status"] for row in pods.rows("runs", "beta")]
    assert runs == ["DONE"] * 8  # four minutes of breaker and loop
    assert state.read(pods.ledger("beta")).state == "ACTIVE"


def _each_has_its_own(pods: Pods) -> None:
    for table in OF_A_POD:
        assert pods.rows(table, "alpha"), table
        assert pods.rows(table, "beta"), table
    for pod, symbols in (("alpha", SYMBOLS), ("beta", SYMBOLS[1:])):
        scanned = {
            market["symbol"]
            for row in pods.rows("scans", pod)
            for market in row["payload"]["signals"]["markets"]
        }
        assert scanned == set(symbols)
        assert {row["symbol"] for row in pods.rows("intents", pod)} <= set(symbols)
    # The base pod ran nothing, and nothing was written in its name but what it gave away.
    assert pods.rows("runs", pods.session.pod) == []
    (row,) = pods.session.ledger.query("SELECT count(DISTINCT holder) AS n FROM leases")
    assert row["n"] == 0  # every lease was given back


def _each_within_its_own_limits(pods: Pods) -> None:
    for pod, largest in (("alpha", 60), ("beta", 40)):
        rows = pods.session.ledger.query(
            "SELECT sum(price * quantity) AS bought FROM fills WHERE pod = %s AND side = 'buy' "
            "GROUP BY position_id",
            (pod,),
        )
        assert rows, pod
        assert all(row["bought"] <= largest for row in rows)
    most = max((row["equity_quote"] for row in pods.rows("equity", "beta")), default=Decimal(0))
    assert 1_950 < most < 2_050


def _the_account_is_the_sum(pods: Pods) -> None:
    """The venues hold what all pods hold together, and nobody was taken for a stranger."""
    told = pods.session.ledger.query("SELECT kind FROM events")
    kinds = {row["kind"] for row in told}
    assert not kinds & {"RECONCILE_DIFFERENCE", "FOREIGN_ORDER"}
    accounts = pods.session.wire.accounts()
    for venue in VENUES:
        ledger = sum(
            (transfers.total(pods.ledger(pod), venue, "USDT")
             for pod in ("alpha", "beta", pods.session.pod)),
            Decimal(0),
        )  # fmt: skip
        held = accounts[venue]["balances"]["USDT"]
        assert abs(Decimal(held["free"]) + Decimal(held["locked"]) - ledger) < Decimal("1e-6")


def _open(pods: Pods, pod: str) -> list[str]:
    return sorted(row["symbol"] for row in pods.rows("positions", pod) if not row["closed_at"])
