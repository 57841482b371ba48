"""Two pods on one account: what belongs to whom, and that neither takes the other for foreign."""

from __future__ import annotations

import copy
from decimal import Decimal

import pytest
from execution_bench import Bench
from scripted_venue import ScriptedVenue

from shared import clock, config
from shared.execution.desk import Desk
from shared.ledger import state
from shared.ledger.connection import json


class Pod(Bench):
    """Another pod of the bench's project, with a part of its cash."""

    def __init__(self, base: Bench, name: str, cash: int, *, may_trade_live: bool = False) -> None:
        self.__dict__ |= copy.copy(base.__dict__)
        self.base, self.name = base, name
        self.ledger = base.ledger.of_pod(name)
        self.config = config.load({"POD": name, "VENUES": ",".join(self.venues)})
        base.ledger.execute(
            "INSERT INTO pods VALUES (%s, 'test', %s, %s, %s, 'test')",
            (name, json({}), may_trade_live, clock.now()),
        )
        base.ledger.execute(
            "INSERT INTO trading_state (pod, since) VALUES (%s, %s)", (name, clock.now())
        )
        for pod, amount in (("test", -cash), (name, cash)):
            base.ledger.execute(
                "INSERT INTO transfers (pod, venue, currency, amount, at, note) "
                "VALUES (%s, 'binance', 'USDT', %s, %s, %s)",
                (pod, amount, clock.now(), f"capital of {name}"),
            )

    def see_prices(self) -> None:
        self.base.see_prices()
        for table in ("prices", "equity"):
            self.ledger.execute(f"DELETE FROM {table} WHERE pod = %s", (self.name,))  # noqa: S608
            self.ledger.execute(
                f"INSERT INTO {table} SELECT (jsonb_populate_record(t, "  # noqa: S608
                f"jsonb_build_object('pod', %s))).* FROM {table} t WHERE pod = 'test'",
                (self.name,),
            )


@pytest.fixture
def venue(bench: Bench) -> ScriptedVenue:
    return bench.venues["binance"]


@pytest.fixture
def alpha(bench: Bench) -> Pod:
    return Pod(bench, "alpha", 2_000)


def buy(pod: Bench, size_quote: str = "60") -> Desk:
    desk = pod.desk()
    assert desk.reconcile().clean
    desk.enter(pod.entry(size_quote))
    assert [(result.outcome, result.detail) for result in desk.work()] == [("FILLED", "")]
    desk.protect()
    return desk


def held(pod: Bench) -> Decimal:
    row = pod.ledger.one(
        "SELECT coalesce(sum(amount), 0) AS held FROM balances WHERE pod = %s AND currency = 'BTC'",
        (pod.ledger.pod,),
    )
    assert row is not None
    found: Decimal = row["held"]
    return found


def test_the_account_is_compared_with_both_and_each_knows_its_own(
    bench: Bench, alpha: Pod, venue: ScriptedVenue
) -> None:
    buy(bench, "60")
    buy(alpha, "80")
    assert held(bench) < held(alpha)
    assert held(bench) + held(alpha) == venue.account["BTC"]
    for pod in (bench, alpha):
        found = pod.desk().reconcile()
        assert found.clean, found
    assert state.read(bench.ledger).state == state.read(alpha.ledger).state == "ACTIVE"


def test_what_nobody_has_bought_is_a_difference_for_both(
    bench: Bench, alpha: Pod, venue: ScriptedVenue
) -> None:
    buy(alpha)
    venue.account["BTC"] += Decimal("0.5")
    for pod in (bench, alpha):
        (difference,) = pod.desk().reconcile().differences
        assert (difference["currency"], Decimal(difference["difference"])) == (
            "BTC",
            Decimal("0.5"),
        )


def test_an_order_of_the_other_that_is_under_way_is_no_difference(
    bench: Bench, alpha: Pod, venue: ScriptedVenue
) -> None:
    desk = alpha.desk()
    desk.reconcile()
    desk.enter(alpha.entry("60"))
    venue.next_submit = "lose answer"
    assert [result.outcome for result in desk.work()] == ["UNKNOWN"]
    found = bench.desk().reconcile()
    assert (found.differences, found.busy) == ([], ["binance"])
    assert alpha.desk().reconcile().resolved
    assert bench.desk().reconcile().clean


def test_a_stop_of_the_other_explains_a_difference_until_it_is_written_and_no_longer(
    bench: Bench, alpha: Pod, venue: ScriptedVenue
) -> None:
    """It rests there all the time: that alone must hide nothing."""
    buy(alpha)
    assert len(venue.stops) == 1
    venue.account["USDT"] -= 7
    (difference,) = bench.desk().reconcile().differences
    assert Decimal(difference["difference"]) == -7
    venue.account["USDT"] += 7
    (stop_id,) = venue.stops
    venue._fill_stop(stop_id, venue.stops[stop_id], Decimal(97), venue.stops[stop_id].quantity)
    found = bench.desk().reconcile()
    assert (found.differences, found.busy) == ([], ["binance"])
    alpha.desk().reconcile()
    assert bench.desk().reconcile().clean


def test_an_exit_sells_its_own_and_leaves_the_other_its_coins(
    bench: Bench, alpha: Pod, venue: ScriptedVenue
) -> None:
    buy(bench, "60")
    buy(alpha, "80")
    before = held(alpha)
    desk = bench.desk()
    row = bench.ledger.one("SELECT position_id FROM positions WHERE pod = 'test'")
    assert row is not None
    assert [r.outcome for r in desk.exit(row["position_id"], reason="stop")] == ["FILLED"]
    assert held(alpha) == before == venue.account["BTC"]
    assert alpha.desk().reconcile().clean


def test_an_exit_after_a_sale_that_nobody_has_written_takes_nothing_of_the_other(
    bench: Bench, alpha: Pod, venue: ScriptedVenue
) -> None:
    venue.takes_stops = False  # nothing of theirs is locked
    buy(bench, "60")
    buy(alpha, "80")
    venue.account["BTC"] -= held(bench)  # sold there, and the ledger has not heard of it
    row = bench.ledger.one("SELECT position_id FROM positions WHERE pod = 'test'")
    assert row is not None
    assert bench.desk().exit(row["position_id"], reason="stop") == []
    assert venue.account["BTC"] == held(alpha)


def test_live_pods_are_compared_without_what_others_trade_on_paper(
    bench: Bench, venue: ScriptedVenue
) -> None:
    paper = Pod(bench, "paper", 500)  # its money is play money
    armed = Pod(bench, "armed", 500, may_trade_live=True)  # real money, on paper meanwhile
    bench.ledger.execute("UPDATE transfers SET amount = 0 WHERE note = 'capital of paper' "
                         "AND pod = 'test'")  # fmt: skip
    venue.account["USDT"] = Decimal(10_500)  # while all is simulated, all of it counts
    for pod in (paper, armed):
        buy(pod)
    bench.ledger.execute("UPDATE intents SET mode = 'paper'")
    venue.account = {"USDT": Decimal(10_000)}
    bench.arm()
    venue.mode = "live"
    assert bench.desk().reconcile().clean


def test_pods_of_another_project_have_accounts_of_their_own(
    bench: Bench, alpha: Pod, venue: ScriptedVenue
) -> None:
    bench.ledger.execute("UPDATE pods SET base = 'elsewhere'")
    (difference,) = bench.desk().reconcile().differences
    assert Decimal(difference["difference"]) == 2000
