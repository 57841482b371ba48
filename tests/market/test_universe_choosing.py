"""Which symbols are chosen, from figures alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.execution.venues.listings import Listed
from shared.market.kinds import kind_of
from shared.market.universe.choosing import Choice, History, Limits, choose
from tests.market.universe_bench import GOOD, LIMITS, SYMBOLS, listed, ranked


def chosen(
    listing: list[Listed],
    histories: dict[str, History] | None = None,
    *,
    inside: tuple[str, ...] = (),
    backups: dict[str, Any] | None = None,
    limits: Limits = LIMITS,
) -> Choice:
    """The choice where every symbol has a good history, and one backup venue lists it."""
    known = {one.symbol: GOOD for one in listing} | (histories or {})
    everywhere = {"kraken": {one.symbol for one in listing}}
    return choose(listing, known, everywhere if backups is None else backups, inside, limits)


def symbols(choice: Choice) -> list[str]:
    return [member.symbol for member in choice.members]


def reason(choice: Choice, symbol: str) -> tuple[str, Any, Any]:
    (found,) = [one for one in choice.excluded if one.symbol == symbol]
    return found.reason, found.value, found.limit


def test_the_most_traded_are_chosen_in_order() -> None:
    listing = ranked(*SYMBOLS)
    choice = chosen(listing[::-1])
    assert symbols(choice) == ["AAA/USDT", "BBB/USDT"]
    assert [member.rank for member in choice.members] == [1, 2]
    assert reason(choice, "CCC/USDT") == ("RANK_LOW", 3.0, 2.0)


X = "XXX/USDT"
HARD = [
    ({"active": False}, {}, ("LISTING_INACTIVE", None, None)),
    ({"quote_volume": None}, {}, ("VOLUME_MISSING", None, 1e6)),
    ({"quote_volume": 999_999.0}, {}, ("VOLUME_LOW", 999_999.0, 1e6)),
    ({"bid": 100.0, "ask": 100.2}, {}, ("SPREAD_WIDE", pytest.approx(19.98, abs=0.01), 10.0)),
    ({"bid": None}, {}, ("SPREAD_MISSING", None, 10.0)),
    ({"bid": 101.0, "ask": 100.0}, {}, ("SPREAD_MISSING", None, 10.0)),
    ({}, {"age_days": 179.9}, ("AGE_SHORT", 179.9, 180.0)),
    ({}, {"volatility_percent": None}, ("VOLATILITY_MISSING", None, 20.0)),
    ({}, {"volatility_percent": 19.0}, ("VOLATILITY_LOW", 19.0, 20.0)),
    ({}, {"volatility_percent": 201.0}, ("VOLATILITY_HIGH", 201.0, 200.0)),
    ({}, {"pegged": True}, ("KIND_PEGGED", 60.0, None)),
    ({}, {"failure": "timed out"}, ("HISTORY_MISSING", "timed out", None)),
]


@pytest.mark.parametrize(("of_listing", "of_history", "expected"), HARD)
def test_each_limit_excludes_with_its_value(
    of_listing: dict[str, Any], of_history: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    listing = [listed(X, **of_listing), listed("AAA/USDT", 5e6)]
    choice = chosen(listing, {X: replace(GOOD, **of_history)})
    assert symbols(choice) == ["AAA/USDT"]
    assert reason(choice, X) == expected


@pytest.mark.parametrize(
    ("of_listing", "of_history", "stays"),
    [
        ({"quote_volume": 700_000.0}, {}, True),
        ({"quote_volume": 600_000.0}, {}, False),
        ({"bid": 100.0, "ask": 100.14}, {}, True),
        ({"bid": 100.0, "ask": 100.16}, {}, False),
        ({}, {"volatility_percent": 17.0}, True),
        ({}, {"volatility_percent": 15.0}, False),
        ({}, {"volatility_percent": 240.0}, True),
        ({}, {"volatility_percent": 260.0}, False),
        ({}, {"failure": "timed out"}, True),
        ({"active": False}, {}, False),
    ],
)
def test_a_member_is_dropped_only_where_it_fails_clearly(
    of_listing: dict[str, Any], of_history: dict[str, Any], stays: bool
) -> None:
    listing = [listed(X, **of_listing)]
    history = {X: replace(GOOD, **of_history)}
    assert (symbols(chosen(listing, history, inside=(X,))) == [X]) is stays


def test_a_member_stays_while_it_ranks_within_one_and_a_half_sizes() -> None:
    listing = ranked(*SYMBOLS)
    assert symbols(chosen(listing, inside=("AAA/USDT", "CCC/USDT"))) == ["AAA/USDT", "CCC/USDT"]
    choice = chosen(listing, inside=("AAA/USDT", "DDD/USDT"))
    assert symbols(choice) == ["AAA/USDT", "BBB/USDT"]
    assert reason(choice, "DDD/USDT") == ("RANK_LOW", None, 3.0)


def test_a_smaller_size_keeps_the_best_members() -> None:
    listing = ranked(*SYMBOLS)
    choice = chosen(listing, inside=SYMBOLS[:3], limits=replace(LIMITS, size=2))
    assert symbols(choice) == list(SYMBOLS[:2])


def test_a_member_that_is_no_longer_listed_is_named() -> None:
    choice = chosen(ranked("AAA/USDT"), inside=("GONE/USDT",))
    assert reason(choice, "GONE/USDT") == ("LISTING_ABSENT", None, None)


def test_only_the_histories_that_decide_are_wanted() -> None:
    listing = [listed("USDC/USDT", 1e9), *ranked(*SYMBOLS), listed("LOW/USDT", 10.0)]
    backups = {"kraken": {one.symbol for one in listing}}
    choice = choose(listing, {}, backups, (), LIMITS)
    assert choice.wanted == SYMBOLS[:3]
    assert choice.members == ()
    young = {SYMBOLS[0]: replace(GOOD, age_days=1.0), SYMBOLS[1]: GOOD}
    assert choose(listing, young, backups, (), LIMITS).wanted == SYMBOLS[2:4]


@pytest.mark.parametrize(
    ("backups", "inside", "expected"),
    [
        ({"kraken": {X}}, False, None),
        ({"kraken": set()}, False, ("BACKUPS_FEW", 0.0, 1.0)),
        ({"kraken": set()}, True, ("BACKUPS_FEW", 0.0, 1.0)),
        ({"kraken": None}, False, ("BACKUPS_UNKNOWN", 0.0, 1.0)),
        ({"kraken": None}, True, None),
        ({"kraken": None, "coinbase": {X}}, False, None),
    ],
)
def test_a_backup_venue_that_does_not_answer_drops_nobody(
    backups: dict[str, Any], inside: bool, expected: tuple[Any, ...] | None
) -> None:
    choice = chosen([listed(X)], backups=backups, inside=(X,) if inside else ())
    if expected is None:
        assert symbols(choice) == [X]
    else:
        assert reason(choice, X) == expected


def test_a_symbol_with_two_markets_counts_once_by_the_larger() -> None:
    listing = [listed(X, 5e6, market_id="small"), listed(X, 6e6, market_id="large")]
    (member,) = chosen(listing).members
    assert member.quote_volume == 6e6


def test_the_books_spread_counts_where_the_listing_has_none() -> None:
    listing = [listed(X, bid=None, ask=None)]
    assert symbols(chosen(listing, {X: replace(GOOD, spread_bps=9.0)})) == [X]
    wide = chosen(listing, {X: replace(GOOD, spread_bps=11.0)})
    assert reason(wide, X) == ("SPREAD_WIDE", 11.0, 10.0)


@pytest.mark.parametrize(
    ("base", "kind"),
    [
        ("BTC", None),
        ("JUP", None),
        ("SYRUP", None),
        ("S", None),
        ("BTCUP", "KIND_LEVERAGED"),
        ("BTCDOWN", "KIND_LEVERAGED"),
        ("ETH3L", "KIND_LEVERAGED"),
        ("ETHBEAR", "KIND_LEVERAGED"),
        ("USDC", "KIND_STABLECOIN"),
        ("EUR", "KIND_FIAT"),
        ("WBTC", "KIND_WRAPPED"),
        ("STETH", "KIND_WRAPPED"),
        ("币安人生", "KIND_NAME"),
        ("A,B", "KIND_NAME"),
        ("", "KIND_NAME"),
    ],
)
def test_kinds(base: str, kind: str | None) -> None:
    assert kind_of(base, {"BTC", "ETH", "JUP", "SYRUP"}) == kind


figures = st.builds(
    History,
    age_days=st.none() | st.floats(0, 1_000),
    volatility_percent=st.none() | st.floats(0, 400),
    failure=st.none() | st.just("timed out"),
)
markets = st.lists(
    st.tuples(
        st.sampled_from(SYMBOLS),
        st.none() | st.floats(0, 1e9),
        st.booleans(),
        st.sampled_from((99.99, None, 90.0)),
        figures,
    ),
    max_size=8,
)


@given(markets, st.sets(st.sampled_from(SYMBOLS)), st.integers(1, 4))
def test_a_choice_is_complete_unique_and_stable(
    rows: list[Any], inside: set[str], size: int
) -> None:
    limits = replace(LIMITS, size=size)
    listing = [listed(s, volume, active=active, bid=bid) for s, volume, active, bid, _ in rows]
    histories = {row[0]: row[4] for row in rows}
    choice = chosen(listing, histories, inside=tuple(inside), limits=limits)
    taken, out = symbols(choice), [one.symbol for one in choice.excluded]
    assert len(taken) <= size
    assert sorted(taken + out) == sorted({row[0] for row in rows} | inside)
    assert symbols(chosen(listing, histories, inside=tuple(taken), limits=limits)) == taken
