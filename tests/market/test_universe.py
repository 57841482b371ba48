"""The universe over the minutes: chosen once, kept through failures, the same for a whole run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from shared import clock, config
from shared.errors import ConfigurationError, DataUnavailable
from shared.ledger import events, universes
from shared.ledger.connection import Ledger
from shared.market import universe
from shared.market.scan import scan
from shared.market.universe import histories, refreshing
from shared.market.universe.choosing import Limits
from shared.run import Run
from tests.conftest import VirtualClock
from tests.market.fakes import healthy_venue, make_run
from tests.market.universe_bench import LIMITS, SYMBOLS, ListingVenue, listed, ranked

AUTO: dict[str, Any] = {
    "symbols": "auto",
    "venues": "binance,kraken",
    "universe_size": 2,
    "universe_min_volume_quote": 1_000_000,
}


class World:
    """A pod with two venues, and the runs of its loop."""

    def __init__(self, ledger: Ledger, time: VirtualClock) -> None:
        self.ledger = ledger
        self.time = time
        self.primary = ListingVenue("binance", ranked(*SYMBOLS))
        self.backup = ListingVenue("kraken", ranked(*SYMBOLS))
        self.settings: dict[str, Any] = dict(AUTO)
        self.opened = 0

    def open(self) -> Mapping[str, Any]:
        self.opened += 1
        return {"binance": self.primary, "kraken": self.backup}

    def run(self) -> Run:
        """The run of the next minute."""
        self.time.advance(minutes=1)
        self.ledger.execute("UPDATE leases SET holder = NULL")
        return make_run(self.ledger, **self.settings)

    def minute(self) -> Run:
        run = self.run()
        universe.refresh(run, self.open)
        return run

    def minutes_until_chosen(self, most: int = 20) -> Run:
        for _ in range(most):
            run = self.minute()
            if run.universe.started_at is None and run.universe.chosen_at is not None:
                return run
        raise AssertionError(f"no universe after {most} minutes")

    def hold(self, symbol: str) -> None:
        self.ledger.execute(
            "INSERT INTO positions (pod, symbol, strategy, opened_at, stop_price) "
            "VALUES (%s, %s, 'momentum', %s, 1)",
            (self.ledger.pod, symbol, clock.now()),
        )


@pytest.fixture
def world(ledger: Ledger, virtual_clock: VirtualClock) -> World:
    return World(ledger, virtual_clock)


def test_the_first_minute_chooses_and_the_next_ask_nothing(world: World) -> None:
    run = world.minute()
    assert run.pairs == ("AAA/USDT", "BBB/USDT")
    asked = (len(world.primary.calls), len(world.backup.calls), world.opened)
    assert asked == (1 + 3, 1, 1)  # a listing each, and the histories of 1.5 N symbols
    for _ in range(3):
        assert world.minute().pairs == run.pairs
    assert (len(world.primary.calls), len(world.backup.calls), world.opened) == asked


def test_a_quiet_run_reads_the_universe_in_one_statement(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.minute()
    run, statements, one = world.run(), [], Ledger.one

    def counted(ledger: Ledger, sql: str, values: Any = ()) -> Any:
        statements.append(sql)
        return one(ledger, sql, values)

    monkeypatch.setattr(Ledger, "one", counted)
    universe.refresh(run, world.open)
    assert (run.pairs, run.pairs, run.universe.buyable) == (("AAA/USDT", "BBB/USDT"),) * 3
    assert len(statements) == 1


def test_it_is_chosen_anew_after_a_day_and_told(world: World) -> None:
    world.minute()
    world.primary.symbols = ranked("CCC/USDT", "DDD/USDT", "EEE/USDT", "AAA/USDT")
    world.time.advance(minutes=23 * 60)
    assert world.minute().pairs == ("AAA/USDT", "BBB/USDT")
    world.time.advance(minutes=60)
    assert world.minute().pairs == ("CCC/USDT", "DDD/USDT")
    newest = events.recent(world.ledger, 1)[0]
    assert newest["kind"] == "UNIVERSE_CHANGED"
    assert newest["detail"]["left"] == ["AAA/USDT", "BBB/USDT"]
    history = universes.latest(world.ledger, 5)
    assert [row["symbols"] for row in history] == [
        ["CCC/USDT", "DDD/USDT"],
        ["AAA/USDT", "BBB/USDT"],
    ]
    assert ["BBB/USDT", "LISTING_ABSENT", None, None] in history[0]["excluded"]


def test_other_settings_make_it_due(world: World) -> None:
    world.minute()
    world.settings["universe_size"] = 3
    assert world.minute().pairs == ("AAA/USDT", "BBB/USDT", "CCC/USDT")


def test_many_histories_are_spread_over_minutes(world: World) -> None:
    many = [f"S{number:02}/USDT" for number in range(40)]
    world.primary.symbols = world.backup.symbols = ranked(*many)
    world.minute()
    world.settings["universe_size"] = 20
    calls = []
    for _ in range(3):
        before = len(world.primary.calls)
        run = world.minute()
        calls.append(len(world.primary.calls) - before)
        if run.universe.started_at is not None:
            assert run.pairs == ("S00/USDT", "S01/USDT")  # the old one is traded meanwhile
    assert calls == [1 + 12, 12, 6]
    assert run.pairs == tuple(many[:20])


def test_what_is_known_survives_between_runs_without_a_cache(world: World) -> None:
    world.primary.symbols = world.backup.symbols = ranked(*(f"S{n:02}/USDT" for n in range(40)))
    world.minute()
    world.settings["universe_size"] = 20
    world.minutes_until_chosen()
    asked = [call for call in world.primary.calls if call.startswith("days")]
    assert len(asked) == 3 + 30
    assert world.primary.calls.count("listing") == 2


def test_a_failure_keeps_the_old_one_and_says_so(world: World) -> None:
    world.minute()
    world.time.advance(minutes=24 * 60)
    world.primary.down = True
    run = world.minute()
    assert run.pairs == ("AAA/USDT", "BBB/USDT")
    assert run.universe.failure == "binance: listing: NetworkError"
    assert universe.as_export(run, None)["failure"] == "binance: listing: NetworkError"
    assert events.recent(world.ledger, 1)[0]["kind"] == "UNIVERSE_NOT_CHOSEN"
    alert = world.ledger.one("SELECT severity, body FROM alerts")
    assert alert is not None
    assert alert["severity"] == "WARNING"
    asked = len(world.primary.calls)
    for _ in range(14):
        world.minute()
    assert len(world.primary.calls) == asked  # a listing is heavy: the next try waits
    world.primary.down = False
    world.minute()
    run = world.minute()
    assert run.universe.failure is None
    assert run.universe.chosen_at is not None
    assert clock.now() - run.universe.chosen_at < timedelta(minutes=3)


def test_the_very_first_failure_is_an_error(world: World) -> None:
    world.primary.down = True
    with pytest.raises(DataUnavailable, match=r"^UNIVERSE_MISSING: binance: listing: NetworkError"):
        world.minute()
    assert world.run().pairs == ()
    assert world.ledger.one("SELECT severity FROM alerts") == {"severity": "HIGH"}


def test_without_a_universe_what_is_held_is_still_looked_at(world: World) -> None:
    world.primary.down = True
    world.hold("ZZZ/USDT")
    run = world.minute()
    assert run.pairs == ("ZZZ/USDT",)
    assert run.universe.buyable == ()


@pytest.mark.parametrize(
    ("listing", "why"),
    [
        ([], "binance: listing: expected symbols against USDT"),
        (ranked("CCC/USDT", "DDD/USDT"), "lacks 2"),
        ([listed("AAA/USDT", 1.0), listed("BBB/USDT", 1.0)], "VOLUME_LOW=2"),
    ],
)
def test_an_answer_that_cannot_be_true_changes_nothing(
    world: World, listing: list[Any], why: str
) -> None:
    world.minute()
    world.time.advance(minutes=24 * 60)
    world.primary.symbols = listing
    run = world.minute()
    assert run.pairs == ("AAA/USDT", "BBB/USDT")
    assert why in str(run.universe.failure)


def test_a_history_that_fails_is_tried_again_and_then_left_out(world: World) -> None:
    world.primary.broken = {"BBBUSDT"}
    assert world.minutes_until_chosen().pairs == ("AAA/USDT", "CCC/USDT")
    assert world.primary.calls.count("days BBBUSDT") == 3
    (row,) = universes.latest(world.ledger)
    assert ["BBB/USDT", "HISTORY_MISSING", "binance: candles: NetworkError", None] in row[
        "excluded"
    ]


def test_a_young_symbol_is_left_out_with_its_age(world: World) -> None:
    world.primary.days = {"AAAUSDT": 100}
    assert world.minutes_until_chosen().pairs == ("BBB/USDT", "CCC/USDT")
    (row,) = universes.latest(world.ledger)
    assert row["excluded"][0][:2] == ["AAA/USDT", "AGE_SHORT"]
    assert 99 <= row["excluded"][0][2] <= 100
    assert row["excluded"][0][3] == 180


def test_what_is_held_outside_is_looked_at_and_not_bought(world: World) -> None:
    world.minute()
    world.hold("ZZZ/USDT")
    world.hold("AAA/USDT")
    run = world.run()
    assert run.pairs == ("AAA/USDT", "BBB/USDT", "ZZZ/USDT")
    assert run.universe.buyable == ("AAA/USDT", "BBB/USDT")
    assert run.universe.leaving == ("ZZZ/USDT",)
    world.ledger.execute(
        "UPDATE positions SET closed_at = %s, close_reason = 'stop'", (clock.now(),)
    )
    assert world.run().pairs == ("AAA/USDT", "BBB/USDT")


def test_configured_symbols_are_the_universe(world: World) -> None:
    world.settings = {"symbols": "BTC,ETH"}
    world.hold("ZZZ/USDT")
    run = world.minute()
    assert world.opened == 0
    assert run.universe.buyable == ("BTC/USDT", "ETH/USDT")
    assert run.pairs == ("BTC/USDT", "ETH/USDT", "ZZZ/USDT")
    assert universe.as_export(run, None) == {
        "source": "configured",
        "symbols": ["BTC/USDT", "ETH/USDT"],
        "leaving": ["ZZZ/USDT"],
    }


def test_another_pod_has_a_universe_of_its_own(world: World, database_url: str) -> None:
    from shared.ledger.connection import connect

    world.minute()
    other = config.load({"POD": "other", "SYMBOLS": "auto"})
    assert universes.in_force(connect(database_url, "other"), other).pairs == ()


def test_another_quote_or_venue_is_another_universe(world: World) -> None:
    world.minute()
    world.settings |= {"quote_currency": "USDC"}
    assert world.run().pairs == ()
    world.settings |= {"quote_currency": "USDT", "venues": "kraken,binance"}
    assert world.run().pairs == ()


def test_the_export_of_the_choosing_minute_tells_why(world: World) -> None:
    run = world.run()
    shown = universe.as_export(run, universe.refresh(run, world.open))
    assert shown["symbols"] == ["AAA/USDT", "BBB/USDT"]
    assert shown["chosen_at_ms"] == clock.now_ms()
    assert shown["excluded"][0] == {
        "symbol": "CCC/USDT", "reason": "RANK_LOW", "value": 3.0, "limit": 2.0,
    }  # fmt: skip
    assert shown["excluded_by_reason"] == {"RANK_LOW": 4}


def test_a_run_that_lost_its_lease_keeps_nothing(world: World) -> None:
    from shared.errors import LeaseLost

    run = world.run()
    world.ledger.execute("UPDATE leases SET epoch = epoch + 1")
    with pytest.raises(LeaseLost):
        universe.refresh(run, world.open)
    assert universes.latest(world.ledger) == []
    assert universes.progress(world.ledger) is None


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"SYMBOLS": "auto,BTC"}, "SYMBOLS: expected auto alone"),
        ({"SYMBOLS": "auto", "VENUES": "binance"}, "UNIVERSE_BACKUP_VENUES: expected less than"),
        ({"SYMBOLS": "auto", "UNIVERSE_MIN_VOLATILITY_PERCENT": "300"}, "VOLATILITY_PERCENT"),
        ({"UNIVERSE_SIZE": "41"}, "UNIVERSE_SIZE"),
    ],
)
def test_settings_that_cannot_work_are_refused(variables: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        config.load(variables)


def test_with_auto_no_pair_is_configured() -> None:
    assert config.load({"SYMBOLS": "auto"}).pairs == ()


def test_volatility_is_that_of_thirty_daily_returns(virtual_clock: VirtualClock) -> None:
    assert histories.volatility_percent([100.0] * 30) is None
    closes = [100.0, 110.0] * 16
    # Thirty returns of plus and minus ln 1.1: their sample deviation is ln 1.1 x sqrt(30/29)
    assert histories.volatility_percent(closes) == pytest.approx(185.20, abs=0.01)


def test_the_open_day_counts_for_the_age_and_not_for_the_volatility(
    virtual_clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    venue = ListingVenue("binance", [listed("AAA/USDT")])
    calm = [[row[0], 1.0] for row in venue.daily_closes("AAAUSDT", 182)]
    calm[-1][1] = 50.0  # what the open day says is not known yet
    monkeypatch.setattr(venue, "daily_closes", lambda market_id, count: calm)
    found = histories.look(venue, venue.symbols[0], LIMITS)  # type: ignore[arg-type]
    assert found.volatility_percent == 0
    assert found.pegged
    assert found.age_days is not None
    assert 181 <= found.age_days < 182
    assert "best AAAUSDT" not in venue.calls


def test_a_missing_spread_is_asked_for(virtual_clock: VirtualClock) -> None:
    venue = ListingVenue("coinbase", [listed("AAA/USDT", bid=None, ask=None)])
    found = histories.look(venue, venue.symbols[0], LIMITS)  # type: ignore[arg-type]
    assert found.spread_bps == pytest.approx(2.0)


def test_progress_survives_its_way_through_the_ledger(world: World) -> None:
    run = world.run()
    begun = refreshing._begin(run, world.open())
    begun.backups["coinbase"] = None
    begun.histories["AAA/USDT"] = refreshing.History(failure="timed out")
    universes.keep_progress(world.ledger, begun.as_json(), failure=None)
    kept = universes.progress(world.ledger)
    assert kept is not None
    assert refreshing.Progress.of(kept) == begun


def test_limits_are_those_of_the_configuration() -> None:
    assert Limits.of(config.load({"UNIVERSE_SIZE": "7"})) == replace(
        Limits.of(config.Config()), size=7
    )


def test_a_scan_without_a_universe_waits_and_says_why(world: World) -> None:
    world.primary.down = True
    with pytest.raises(DataUnavailable):
        world.minute()
    run = world.minute()  # the next try waits
    export = scan(run, {"binance": healthy_venue()})
    assert export["signals"]["markets"] == []
    assert export["nextAction"] == "WAIT"
    assert export["missing"] == ["universe:binance: listing: NetworkError"]


def test_what_is_held_outside_is_no_opportunity(world: World) -> None:
    world.minute()
    world.hold("ZZZ/USDT")
    venue = healthy_venue(end_ms=clock.now_ms() // 60_000 * 60_000)
    venue.now_ms = clock.now_ms
    export = scan(world.run(), {"binance": venue})
    seen = [market["symbol"] for market in export["signals"]["markets"]]
    assert seen == ["AAA/USDT", "BBB/USDT", "ZZZ/USDT"]
    assert export["signals"]["markets"][2]["ai_score"] is not None
    ranked_symbols = {one["symbol"] for one in export["signals"]["opportunities"]}
    assert ranked_symbols == {"AAA/USDT", "BBB/USDT"}
    assert export["universe"]["leaving"] == ["ZZZ/USDT"]


def test_a_first_choice_of_many_takes_minutes_in_which_nothing_is_traded(world: World) -> None:
    many = [f"S{number:02}/USDT" for number in range(60)]
    world.primary.symbols = world.backup.symbols = ranked(*many)
    world.settings["universe_size"] = 40
    run = world.minute()
    assert run.pairs == ()
    assert universe.missing(run) == ["universe:being chosen"]
    run = world.minute()
    assert run.pairs == tuple(many[:40])
    assert universe.missing(run) == []
