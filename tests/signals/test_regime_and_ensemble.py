"""Regimes by table, the ensemble's score as a property, candidates by table."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.parameters import Parameters
from shared.signals import ensemble, regime
from shared.signals.types import StrategySignal
from tests.signals.builders import WEIGHTS, market

NOTHING = ensemble.Blocks(frozenset(), frozenset(), frozenset())


def _market(adx: float | None, hourly: float | None, daily: float | None) -> dict[str, Any]:
    found = market()
    for name, values in {
        "1h": {"adx_14": adx, "volatility_annualised_percent": hourly},
        "1d": {"volatility_annualised_percent": daily},
    }.items():
        found["indicators"][name] |= values
    return found


@pytest.mark.parametrize(
    ("adx", "hourly", "daily", "expected"),
    [
        (30, 50, 50, "trending"),
        (25, 50, 50, "trending"),
        (24.9, 50, 50, "ranging"),
        (30, 87.5, 50, "volatile"),  # 1.75 times the usual: a volatility index of 35
        (30, 87.4, 50, "trending"),
        (None, 100, 50, "volatile"),
        (None, 50, 50, "unknown"),
        (30, None, 50, "unknown"),
        (30, 50, None, "unknown"),
        (30, 50, 0, "unknown"),
    ],
)
def test_regime(
    adx: float | None, hourly: float | None, daily: float | None, expected: str
) -> None:
    assert regime.classify(_market(adx, hourly, daily)).name == expected


def test_unknown_names_what_is_missing() -> None:
    found = regime.classify(_market(None, None, 50))
    assert found.evidence["missing"] == ["1h.adx_14", "volatility_ratio"]


@pytest.mark.parametrize("name", ["trending", "ranging", "volatile", "unknown"])
def test_weights_under_a_regime_sum_to_one(name: Any) -> None:
    assert sum(regime.adjust(WEIGHTS, name).values()) == pytest.approx(1)


def test_a_regime_shifts_weight_to_the_strategies_that_suit_it() -> None:
    trending, ranging = regime.adjust(WEIGHTS, "trending"), regime.adjust(WEIGHTS, "ranging")
    assert trending["trend_following"] > WEIGHTS["trend_following"] > ranging["trend_following"]
    assert trending["mean_reversion"] < WEIGHTS["mean_reversion"] < ranging["mean_reversion"]
    assert regime.adjust(WEIGHTS, "unknown") == pytest.approx(WEIGHTS)


def _signal(
    name: str, signal: Any, strength: float = 1.0, confidence: float = 1.0, symbol: str = "BTC/USDT"
) -> StrategySignal:
    return StrategySignal(symbol, name, signal, strength, confidence, WEIGHTS[name])


share = st.floats(0, 1)
opinions = st.tuples(
    *(
        st.builds(
            _signal,
            st.just(name),
            st.sampled_from(["BUY", "SELL", "HOLD", "ABSTAIN"]),
            share,
            share,
        )
        for name in WEIGHTS
    )
)


@given(opinions)
@settings(max_examples=60)
def test_the_score_is_bounded(found: tuple[StrategySignal, ...]) -> None:
    value = ensemble.score(found)
    if all(s.signal == "ABSTAIN" for s in found):
        assert value is None
    else:
        assert value is not None
        assert -1 - 1e-9 <= value <= 1 + 1e-9


@given(opinions, st.sampled_from(list(WEIGHTS)), share, share)
@settings(max_examples=60)
def test_a_stronger_buy_never_lowers_the_score(
    found: tuple[StrategySignal, ...], name: str, first: float, second: float
) -> None:
    def with_buy(strength: float) -> float:
        value = ensemble.score(
            [s if s.name != name else _signal(name, "BUY", strength) for s in found]
        )
        assert value is not None
        return value

    assert with_buy(min(first, second)) <= with_buy(max(first, second)) + 1e-12


@given(opinions)
@settings(max_examples=60)
def test_the_score_turns_with_its_signals(found: tuple[StrategySignal, ...]) -> None:
    turned = {"BUY": "SELL", "SELL": "BUY", "HOLD": "HOLD", "ABSTAIN": "ABSTAIN"}
    mirrored = [_signal(s.name, turned[s.signal], s.strength, s.confidence) for s in found]
    value, opposite = ensemble.score(found), ensemble.score(mirrored)
    assert (value is None) == (opposite is None)
    if value is not None and opposite is not None:
        assert opposite == pytest.approx(-value)


def test_who_abstains_does_not_dilute_and_who_holds_does() -> None:
    buy = [_signal("momentum", "BUY"), _signal("trend_following", "BUY")]
    assert ensemble.score([*buy, _signal("mean_reversion", "ABSTAIN")]) == pytest.approx(1)
    assert ensemble.score([*buy, _signal("mean_reversion", "HOLD")]) == pytest.approx(0.55 / 0.75)


def _rank(
    seen: dict[str, Any] | None = None, signal: str = "BUY", **blocks: Any
) -> ensemble.Ranking:
    found = market() if seen is None else seen
    return ensemble.rank(
        {"BTC/USDT": found},
        {"BTC/USDT": [_signal("momentum", signal, 0.8), _signal("arbitrage", "HOLD")]},
        Parameters(),
        ensemble.Blocks(**({"open": frozenset(), "cooling": frozenset(),
                            "unresolved": frozenset()} | blocks)),
    )  # fmt: skip


HERE = frozenset({"BTC/USDT"})


@pytest.mark.parametrize(
    ("seen", "signal", "blocks", "code"),
    [
        (market(), "BUY", {}, None),
        (market(ai_score_rank=0.7), "BUY", {}, "AI_SCORE_LOW"),
        (market(ai_score_rank=None), "BUY", {}, "AI_SCORE_WITHOUT_SKILL"),
        (market(ai_score=None), "BUY", {}, "AI_SCORE_MISSING"),
        (market(anomaly="jump"), "BUY", {}, "MARKET_ANOMALY"),
        (market(microstructure=None, venues={}), "BUY", {}, "MID_MISSING"),
        (market(), "HOLD", {}, "SCORE_LOW"),
        (market(), "ABSTAIN", {}, "SCORE_LOW"),  # arbitrage still holds
        (market(), "BUY", {"open": HERE}, "POSITION_OPEN"),
        (market(), "BUY", {"cooling": HERE}, "COOLDOWN"),
        (market(), "BUY", {"unresolved": HERE}, "ORDER_UNRESOLVED"),
        (market(), "BUY", {"entries_code": "STATE_HALTED"}, "STATE_HALTED"),
        (market(), "SELL", {}, "NOTHING_TO_SELL"),
        (market(ai_score=None, ai_score_rank=None), "SELL", {"open": HERE}, None),
        (
            market(ai_score=None, ai_score_rank=None),
            "SELL",
            {"open": HERE, "entries_code": "STATE_HALTED"},
            None,
        ),
    ],
)
def test_candidates(
    seen: dict[str, Any], signal: str, blocks: dict[str, Any], code: str | None
) -> None:
    found = _rank(seen, signal, **blocks)
    assert found.rejected.get("BTC/USDT") == code
    assert len(found.candidates) == (1 if code is None else 0)


def test_exits_rank_first_and_then_the_higher_score() -> None:
    symbols = {"A/USDT": ("BUY", 0.5), "B/USDT": ("BUY", 0.9), "C/USDT": ("SELL", 0.4)}
    found = ensemble.rank(
        {name: market(name) for name in symbols},
        {
            name: [_signal("momentum", signal, strength, symbol=name)]
            for name, (signal, strength) in symbols.items()
        },
        Parameters(),
        ensemble.Blocks(frozenset({"C/USDT"}), frozenset(), frozenset()),
    )
    assert [(c.id, c.symbol, c.action) for c in found.candidates] == [
        ("c1", "C/USDT", "SELL"),
        ("c2", "B/USDT", "BUY"),
        ("c3", "A/USDT", "BUY"),
    ]


def test_the_candidates_strategy_is_the_one_that_pulls_hardest_its_way() -> None:
    signals = [_signal("momentum", "SELL", 0.1), _signal("trend_following", "BUY", 0.9)]
    found = ensemble.rank({"BTC/USDT": market()}, {"BTC/USDT": signals}, Parameters(), NOTHING)
    assert found.candidates[0].strategy == "trend_following"
    assert found.candidates[0].score == pytest.approx((0.3 * 0.9 - 0.25 * 0.1) / 0.55)


@pytest.mark.parametrize(
    ("value", "expected"), [(0.25, 0.1), (0.5, 0.55), (0.75, 1.0), (1.0, 1.0), (0.2, 0.1)]
)
def test_rule_fraction(value: float, expected: float) -> None:
    assert ensemble.rule_fraction(value, 0.25) == pytest.approx(expected)
