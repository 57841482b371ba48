"""The AI score: its arithmetic, what is missing, where it stands, and the file it comes from."""

from __future__ import annotations

import json
import math
from importlib import resources
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ConfigurationError
from shared.market.score.barrier import ExitRules
from shared.market.score.entry_score import Evidence, Score, base_rate_logit, score
from shared.market.score.features import Newest
from shared.market.score.score_model import identity, parse, shipped

EXITS = ExitRules(5, 2, 24)
NAMES = [f.name for f in shipped().features if f.name not in ("base_rate", "driftless_odds")]
ORDINARY = {f.name: f.mean for f in shipped().features if f.name in NAMES} | {"volatility": 1.4}


def odds(cost_bps: float, win_share: list[float]) -> dict[str, Any]:
    return {
        "cost_bps": cost_bps,
        "chance": [0.1, 0.2],
        "entries": [100, 100],
        "win_share": win_share,
        "average_win_percent": [2.0, 4.0],
        "average_loss_percent": [1.0, 2.0],
    }


def document(**changed: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "schema_version": 3,
        "skill": True,
        "exits": {"take_profit_percent": 5, "stop_percent": 2, "hours": 24},
        "intercept": -2.0,
        "features": [
            {"name": "a", "low": -1, "high": 2, "mean": 0.5, "scale": 0.5, "coefficient": 0.4},
            {"name": "b", "low": -1, "high": 1, "mean": 0, "scale": 1, "coefficient": -0.1},
        ],
        "base_rates": [[10, 0.2], [110, 0.1]],
        "rank_quantiles": [-0.4, -0.1, 0.0, 0.0, 0.4],
        "odds": [odds(10, [0.3, 0.5]), odds(110, [0.1, 0.2])],
        "trained": {
            "exchange": "binance",
            "symbols": ["BTC/USDT"],
            "from_ms": 0,
            "until_ms": 1,
            "entries": 10,
            "command": "trading-loop train",
            "seed": 1,
        },
        "out_of_sample": {},
    }
    made |= changed
    return made | {"model": identity(made)}


MODEL = parse(json.dumps(document()))


def scored(cost_bps: float | None = 20, exits: ExitRules = EXITS, **values: float) -> Score:
    return score(Evidence(Newest(1_000, values), cost_bps), exits, MODEL)


def test_the_arithmetic_by_hand() -> None:
    result = scored(a=1.0, b=5.0)  # b is cut to 1
    expected = {"intercept": -2.0, "a": 0.4, "b": -0.1}
    assert result.contributions == pytest.approx(expected)
    assert result.value == pytest.approx(1 / (1 + math.exp(1.7)))
    assert result.calibrated and result.at_ms == 1_000 and result.model == MODEL.model


numbers = st.floats(-50, 50)


@given(
    values=st.fixed_dictionaries(dict.fromkeys([*NAMES, "volatility"], numbers)),
    cost_bps=st.floats(0, 500),
)
def test_the_contributions_sum_to_the_logit(values: dict[str, float], cost_bps: float) -> None:
    result = score(Evidence(Newest(0, values), cost_bps), EXITS)
    assert result.value is not None and 0 < result.value < 1
    logit = math.log(result.value / (1 - result.value))
    assert logit == pytest.approx(sum(result.contributions.values()), abs=1e-9)
    assert len(result.contributions) == 1 + len(shipped().features)
    assert result.rank is not None and 0 <= result.rank <= 1


@given(costs=st.lists(st.floats(0, 300), min_size=2, max_size=5), volatility=st.floats(-1, 3))
def test_dearer_is_never_likelier(costs: list[float], volatility: float) -> None:
    market = Newest(0, ORDINARY | {"volatility": volatility})
    results = [score(Evidence(market, cost), EXITS).value for cost in sorted(costs)]
    chances = [value for value in results if value is not None]
    assert len(chances) == len(costs)
    assert all(later <= sooner + 1e-12 for sooner, later in zip(chances, chances[1:], strict=False))


def test_the_book_moves_the_score() -> None:
    cheap, dear = (score(Evidence(Newest(0, ORDINARY), cost), EXITS) for cost in (21, 60))
    assert cheap.value is not None and dear.value is not None
    assert cheap.value > 1.2 * dear.value
    assert cheap.rank is not None and cheap.rank == dear.rank


def test_volatility_moves_the_score_and_not_the_rank() -> None:
    calm, wild = (
        score(Evidence(Newest(0, ORDINARY | {"volatility": v, "volatility_6h": v}), 21), EXITS)
        for v in (0.3, 2.5)
    )
    assert calm.value is not None and wild.value is not None and wild.value > 2 * calm.value
    assert calm.rank is not None and calm.rank == wild.rank


def test_a_missing_feature_is_named_and_contributes_nothing() -> None:
    result = scored(a=1.0)
    assert result.missing == ["b"]
    assert result.contributions == pytest.approx({"intercept": -2.0, "a": 0.4})
    assert result.value is not None
    assert not result.calibrated and result.uncalibrated_because == ["missing: b"]


def test_with_too_much_missing_there_is_no_score() -> None:
    result = scored(b=1.0)  # a has four fifths of the weight
    assert result.value is None and result.rank is None and not result.calibrated
    assert result.missing == ["a"]


def test_without_costs_there_is_no_score() -> None:
    result = score(Evidence(Newest(0, ORDINARY), None), EXITS)
    assert result.value is None and result.rank is None
    assert result.missing == ["cost", "base_rate", "driftless_odds"]
    # Also where all of the model's features are there: a chance without its costs is none.
    assert scored(cost_bps=None, a=1.0, b=0.0).value is None


def test_without_candles_there_is_no_score() -> None:
    result = score(Evidence(Newest(None, {}), 20), EXITS)
    assert result.value is None and result.at_ms is None
    assert set(NAMES) < set(result.missing)


@pytest.mark.parametrize(
    ("exits", "named"),
    [
        (ExitRules(8, 2, 24), "exits: expected +5 % -2 % 24 h, was +8 % -2 % 24 h"),
        (ExitRules(5, 3, 24), "exits: expected +5 % -2 % 24 h, was +5 % -3 % 24 h"),
        (ExitRules(5, 2, 12), "exits: expected +5 % -2 % 24 h, was +5 % -2 % 12 h"),
    ],
)
def test_other_exits_are_another_event(exits: ExitRules, named: str) -> None:
    result = scored(exits=exits, a=1.0, b=0.0)
    assert result.value == scored(a=1.0, b=0.0).value
    assert not result.calibrated and result.uncalibrated_because == [named]


@pytest.mark.parametrize("cost_bps", [9.9, 111.0])
def test_costs_that_were_not_learned_are_named(cost_bps: float) -> None:
    result = scored(cost_bps=cost_bps, a=1.0, b=0.0)
    assert result.value is not None and not result.calibrated
    assert "cost_bps: expected 10..110" in result.uncalibrated_because[0]
    assert result.rank is not None
    assert (result.rank == 0) == (cost_bps > 110)


@pytest.mark.parametrize(
    ("timing", "rank"),
    [(-0.9, 0.0), (-0.25, 0.125), (-0.1, 0.25), (-0.05, 0.375), (0.2, 0.875), (0.4, 1.0), (0.9, 1)],
)
def test_the_rank_is_the_share_of_entries_with_a_worse_timing(timing: float, rank: float) -> None:
    a = 0.5 + timing * 0.5 / 0.4
    result = scored(a=a, b=0.0)
    if -1 <= a <= 2:
        assert result.contributions["a"] == pytest.approx(timing)
    assert result.rank == pytest.approx(rank)


def test_a_model_of_volatility_alone_ranks_nothing() -> None:
    features = [f | {"name": n} for f, n in zip(document()["features"], ("range_24h", "base_rate"))]  # noqa: B905
    model = parse(json.dumps(document(features=features, rank_quantiles=[0.0, 0.0])))
    result = score(Evidence(Newest(0, {"range_24h": 1.0, "volatility": 1.0}), 20), EXITS, model)
    assert result.value is not None and result.rank is None


def test_a_model_without_skill_ranks_nothing() -> None:
    model = parse(json.dumps(document(skill=False)))
    result = score(Evidence(Newest(0, {"a": 0.5, "b": 0.0}), 20), EXITS, model)
    assert result.value is not None and result.rank is None


def test_base_rates_are_drawn_between_the_costs() -> None:
    assert base_rate_logit(10, MODEL) == pytest.approx(math.log(0.2 / 0.8))
    middle = (math.log(0.2 / 0.8) + math.log(0.1 / 0.9)) / 2
    assert base_rate_logit(60, MODEL) == pytest.approx(middle)


def changed_feature(**changed: Any) -> dict[str, Any]:
    first, *rest = document()["features"]
    return document(features=[first | changed, *rest])


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        (document(schema_version=2), "schema_version: Input should be 3, was 2"),
        (document(features=[]), "features: List should have at least 1 item"),
        (document(intercept="high"), "intercept: Input should be a valid number.*was 'high'"),
        (document(intercept=float("inf")), "intercept: Input should be a finite number"),
        (changed_feature(scale=0), r"features\.0\.scale: Input should be greater than 0, was 0"),
        (changed_feature(weight=1), r"features\.0\.weight: Extra inputs are not permitted"),
        (document(base_rates=[[20, 0.1], [10, 0.2]]), "base_rates: expected ascending costs"),
        (document(base_rates=[[10, 0.0], [20, 0.2]]), "base_rates: expected rates within 0..1"),
        (document(rank_quantiles=[0.2, 0.1]), "rank_quantiles: expected ascending values"),
        (document() | {"model": "x"}, "model: expected .* the file was changed after training"),
        ({}, "schema_version: Field required"),
        ([], "document: Input should be a valid dictionary"),
    ],
)
def test_a_wrong_file_is_refused_by_name(broken: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        parse(json.dumps(broken))


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="score model: expected JSON"):
        parse("{")


def test_the_shipped_model_is_small_and_was_not_trained_on_what_judged_it() -> None:
    text = (resources.files("shared.market.score") / "score_model.json").read_text(encoding="utf-8")
    assert len(text) < 20_000
    model = shipped()
    assert model.exits.rules() == EXITS
    assert model.trained.until_ms < 1_735_689_600_000  # 2025-01-01, where the unseen data begin
    assert model.skill == (model.out_of_sample["unseen"]["skill"]["low"] > 0)


def test_odds_lie_between_their_groups_and_costs() -> None:
    """A chance of 0.154: 54 % of the way between the groups; 60 bps: half of the way in costs."""
    result = scored(cost_bps=60, a=1.0, b=1.0)
    assert result.value is not None
    share = (result.value - 0.1) / 0.1
    assert 0.5 < share < 0.6
    assert result.odds is not None
    cheap, dear = 0.3 + 0.2 * share, 0.1 + 0.1 * share
    assert result.odds.win_probability == pytest.approx((cheap + dear) / 2)
    assert result.odds.average_win_percent == pytest.approx(2 + 2 * share)
    assert result.odds.average_loss_percent == pytest.approx(1 + share)


def test_beyond_the_groups_the_last_one_holds() -> None:
    low, high = scored(10, a=-9.0, b=1.0), scored(10, a=9.0, b=-1.0)
    assert low.value is not None and low.value < 0.1
    assert high.value is not None and high.value > 0.2
    assert low.odds is not None and low.odds.win_probability == pytest.approx(0.3)
    assert high.odds is not None and high.odds.win_probability == pytest.approx(0.5)


@pytest.mark.parametrize(
    "result",
    [
        scored(a=1.0),  # b is missing
        scored(cost_bps=300, a=1.0, b=1.0),  # dearer than anything that was learned
        scored(exits=ExitRules(8, 3, 24), a=1.0, b=1.0),  # odds of other exits
    ],
)
def test_uncalibrated_scores_have_no_odds(result: Score) -> None:
    assert result.value is not None and not result.calibrated
    assert result.odds is None


def test_the_shipped_odds_have_no_edge_at_ordinary_costs() -> None:
    """What the report says in words: no group of chances earned anything at 30 bps."""
    shown = next(table for table in shipped().odds if table.cost_bps == 30)
    for share, win, loss in zip(
        shown.win_share, shown.average_win_percent, shown.average_loss_percent, strict=True
    ):
        assert share * win < (1 - share) * loss


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        ({"chance": [0.2, 0.1]}, "expected ascending chances"),
        ({"win_share": [0.0, 0.5]}, "expected shares within 0..1"),
        ({"average_win_percent": [2.0]}, "expected columns of the same length"),
        ({"average_loss_percent": [0.0, 1.0]}, "expected averages above 0"),
    ],
)
def test_broken_odds_are_refused(broken: dict[str, Any], expected: str) -> None:
    tables = [odds(10, [0.3, 0.5]) | broken, odds(110, [0.1, 0.2])]
    with pytest.raises(ConfigurationError, match=expected):
        parse(json.dumps(document(odds=tables)))
