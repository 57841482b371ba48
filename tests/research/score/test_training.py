"""Training on generated candles: what can be known is found, what cannot is not claimed."""

from __future__ import annotations

import dataclasses
import functools
import json

import numpy as np
import pytest

from deploy.research.score import dataset
from deploy.research.score.fit import Fitted, calibrated
from deploy.research.score.plan import QUICK
from deploy.research.score.report import as_text, verdict
from deploy.research.score.train import Trained, train_model
from shared.errors import DataUnavailable
from shared.market.candles.candle_rows import sliced
from shared.market.score.entry_score import Evidence, score
from shared.market.score.features import Newest
from shared.market.score.score_model import parse
from shared.market.types import Candles
from tests.research.score.market import END_MS, HOUR_MS, candles

DAYS = 900


def hours(*, regimes: bool, symbols: int = 2, days: int = DAYS) -> dict[str, Candles]:
    names = [f"S{number}/USDT" for number in range(symbols)]
    made = [candles(name, days, seed=n + 1, regimes=regimes) for n, name in enumerate(names)]
    return dict(zip(names, made, strict=True))


@functools.cache
def trained(*, regimes: bool) -> Trained:
    return train_model(hours(regimes=regimes), QUICK, exchange="made", command="a test", seed=7)


def test_a_planted_signal_is_found() -> None:
    found = trained(regimes=True)
    assert found.skill
    assert found.unseen.skill.above_zero and found.unseen.skill.value > 0.03
    assert found.unseen.auc is not None and found.unseen.auc > 0.6
    # The regime tells how far the price moves and never where to.
    assert found.unseen.auc_at_equal_volatility == pytest.approx(0.5, abs=0.06)
    assert "Skill: the Brier score beats the base rate" in next(verdict(found))


def test_noise_leaves_the_base_rate() -> None:
    found = trained(regimes=False)
    assert not found.skill
    assert "No skill" in next(verdict(found))
    model = parse(json.dumps(found.document))
    base = dict(model.base_rates)[20]
    for volatility in (0.2, 1.4, 2.5):
        market = Newest(END_MS, {"volatility": volatility, "rsi_1h": volatility})
        scored = score(Evidence(market, 20), model.exits.rules(), model)
        assert scored.value == pytest.approx(base)
        assert scored.rank is None and scored.calibrated


def test_the_model_is_the_one_that_was_judged() -> None:
    """The written model gives the chances of the report to the same entries."""
    found = trained(regimes=True)
    model = parse(json.dumps(found.document))
    data = dataset.build(hours(regimes=True), QUICK)
    rows = np.flatnonzero(data.at_ms >= QUICK.unseen_from_ms)
    values = []
    for row in rows:
        market = Newest(0, {name: float(column[row]) for name, column in data.columns.items()})
        value = score(Evidence(market, QUICK.shown_cost_bps), QUICK.exits, model).value
        assert value is not None
        values.append(value)
    assert np.mean(values) == pytest.approx(found.unseen.predicted, abs=1e-6)


def test_the_same_seed_gives_the_same_bytes() -> None:
    again = train_model(hours(regimes=True), QUICK, exchange="made", command="a test", seed=7)
    assert json.dumps(again.document) == json.dumps(trained(regimes=True).document)


def test_the_file_is_small_and_tells_where_it_comes_from() -> None:
    document = trained(regimes=True).document
    assert len(json.dumps(document, indent=1)) < 20_000
    told = document["trained"]
    assert (told["symbols"], told["seed"]) == (["S0/USDT", "S1/USDT"], 7)
    assert told["until_ms"] + QUICK.embargo_ms <= QUICK.unseen_from_ms


def test_the_report_names_what_it_is_about() -> None:
    text = as_text(trained(regimes=True), QUICK)
    for words in ("Brier skill", "boosted trees", "S1/USDT", "2025", "Order flow", "base_rate"):
        assert words in text


def test_later_candles_change_no_entry() -> None:
    """Neither a feature nor a label looks further ahead than the time stop."""
    whole = hours(regimes=True, symbols=1)["S0/USDT"]
    shorter = sliced(whole, slice(0, len(whole) - 500))
    ours, theirs = (dataset.build({"S0/USDT": part}, QUICK) for part in (whole, shorter))
    count = len(theirs)
    assert count > 500
    assert theirs.at_ms[-1] + QUICK.horizon_ms <= shorter.closed_ms
    assert np.array_equal(ours.at_ms[:count], theirs.at_ms)
    assert np.array_equal(ours.won[:count], theirs.won)
    for name, column in theirs.columns.items():
        assert np.array_equal(ours.columns[name][:count], column), name


def test_entries_take_every_hour_of_the_day_in_turn() -> None:
    data = dataset.build(hours(regimes=False, symbols=1), QUICK)
    assert set((data.at_ms // HOUR_MS % 24).tolist()) == set(range(24))


def test_calibration_is_folded_into_the_weights() -> None:
    fitted = Fitted(
        names=("rsi_1h",),
        low=np.array([-1.0]),
        high=np.array([1.0]),
        mean=np.array([0.1]),
        scale=np.array([0.5]),
        coefficients=np.array([2.0]),
        intercept=-1.0,
        base_rates=np.array([0.1, 0.1, 0.1]),
        strength=1.0,
    )
    data = dataset.build(hours(regimes=False, symbols=1), QUICK)
    rows = np.arange(50)
    before = fitted.logits(data, rows, 0, QUICK)
    after = calibrated(fitted, 0.8, 0.3).logits(data, rows, 0, QUICK)
    assert after == pytest.approx(0.8 * before + 0.3)


@pytest.mark.parametrize(
    ("days", "changed", "named"),
    [
        (150, {}, "S0/USDT 1h: expected at least 4800 candles, was 3600"),
        (320, {}, "entries to learn from: expected at least 300"),
        (DAYS, {"unseen_from_ms": END_MS}, "to judge the model: expected at least 75, was 0"),
    ],
)
def test_too_little_data_is_refused_by_name(days: int, changed: dict[str, int], named: str) -> None:
    plan = dataclasses.replace(QUICK, **changed)
    with pytest.raises(DataUnavailable, match=named):
        train_model(
            hours(regimes=False, symbols=1, days=days), plan, exchange="made", command="", seed=1
        )
