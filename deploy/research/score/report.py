"""The report on a model: words and tables for a person, a document for a program."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from deploy.research.score.judge import Group, Judgement
from deploy.research.score.measures import Interval
from deploy.research.score.odds import Checked
from deploy.research.score.plan import Plan
from deploy.research.score.train import Trained

NOT_IN_THE_MODEL = (
    "Order flow, headlines and other sentiment are not in the model: no recording of them beside "
    "the candles is long enough to learn from. The order book enters through the costs alone, "
    "for the same reason. Chart patterns are not in it either, because they told it next to "
    "nothing: python -m deploy.research.score.pattern_votes measures that."
)


def as_document(trained: Trained, plan: Plan) -> dict[str, Any]:
    """The whole report as JSON."""
    return {
        "model": trained.document["model"],
        "skill": trained.skill,
        "verdict": list(verdict(trained)),
        "shown_cost_bps": plan.shown_cost_bps,
        "exits": trained.document["exits"],
        "trained": trained.document["trained"],
        "features": trained.document["features"],
        "walk_forward": trained.history.as_dict(),
        "unseen": trained.unseen.as_dict(),
        "odds": [asdict(group) for group in trained.odds],
    }


def verdict(trained: Trained) -> Iterator[str]:
    """What the figures mean, in sentences."""
    unseen, history = trained.unseen, trained.history
    if not trained.skill:
        yield (
            "No skill: an interval of the Brier skill includes 0 (walk-forward "
            f"{_interval(history.skill)}, unseen {_interval(unseen.skill)}). The model that is "
            "written knows the base rate of the costs and nothing of the market, and ranks nothing."
        )
        return
    yield (
        f"Skill: the Brier score beats the base rate by {_interval(unseen.skill)} on unseen data "
        f"and by {_interval(history.skill)} in the walk-forward (95 % intervals)."
    )
    yield (
        "A model that is told volatility and nothing else has a skill of "
        f"{unseen.volatility_skill:+.4f} on unseen data and {history.volatility_skill:+.4f} in "
        "the walk-forward; among entries of like volatility the AUC is "
        f"{_figure(unseen.auc_at_equal_volatility)} and "
        f"{_figure(history.auc_at_equal_volatility)}, where 0.5 is nothing."
    )
    if history.volatility_skill > history.skill.value / 2:
        yield "So the model mostly knows how much the price will move, and little of where to."
    if unseen.net_return_percent_top <= 0 or history.net_return_percent_top <= 0:
        yield (
            "It is no edge by itself: after costs the tenth of entries with the highest chances "
            f"earned {unseen.net_return_percent_top:+.3f} % each on unseen data and "
            f"{history.net_return_percent_top:+.3f} % in the walk-forward (all entries: "
            f"{unseen.net_return_percent:+.3f} % and {history.net_return_percent:+.3f} %)."
        )
    exits = trained.document["exits"]
    needed = exits["stop_percent"] / (exits["stop_percent"] + exits["take_profit_percent"])
    yield (
        f"Were there no time stop, {needed:.3f} would be the break-even chance; the highest tenth "
        f"came true in {unseen.observed_top:.3f} of unseen entries."
    )
    yield (
        f"Of the unseen entries {unseen.ranked_high:.1%} had a timing that ranks above the "
        f"threshold. They earned {_percent(unseen.net_return_percent_ranked_high)} each after "
        f"costs (walk-forward {_percent(history.net_return_percent_ranked_high)}), and "
        f"{_figure(unseen.observed_ranked_high)} of them came true ({unseen.observed:.3f} of all)."
    )


def as_text(trained: Trained, plan: Plan) -> str:
    """The report for a terminal."""
    exits = plan.exits
    lines = [
        f"AI score, model {trained.document['model']}: chance of "
        f"+{exits.take_profit_percent:g} % before -{exits.stop_percent:g} % within "
        f"{exits.hours:g} h, net of {plan.shown_cost_bps} bps of costs",
        "",
        *verdict(trained),
        NOT_IN_THE_MODEL,
        "",
        *_summary([("walk-forward", trained.history), ("unseen", trained.unseen)]),
        "",
        "Reliability on unseen data (equally many entries a line)",
        *_table(
            ("entries", "predicted", "observed"),
            [
                (f"{b.count}", f"{b.predicted:.3f}", f"{b.observed:.3f}")
                for b in trained.unseen.reliability
            ],
        ),
        "",
        f"Odds by chance at {plan.shown_cost_bps} bps (walk-forward), and what unseen entries of "
        "like chances earned",
        *_odds(trained.odds),
        "",
        *_by("Unseen, by symbol", trained.unseen.by_symbol),
        "",
        *_by("Unseen, by costs of a round trip", trained.unseen.by_cost),
        "",
        *_by("Walk-forward, by symbol", trained.history.by_symbol),
        "",
        *_by("Walk-forward, by year", trained.history.by_year),
        "",
        "Base rates of the training: "
        + ", ".join(f"{cost:g} bps {rate:.3f}" for cost, rate in trained.document["base_rates"]),
        "",
        "Weights (standardised)",
        *_table(
            ("feature", "coefficient"),
            [
                (feature["name"], f"{feature['coefficient']:+.3f}")
                for feature in sorted(
                    trained.document["features"], key=lambda f: -abs(f["coefficient"])
                )
            ],
        ),
    ]
    return "\n".join(lines)


def _odds(groups: Sequence[Checked]) -> list[str]:
    header = ("chance", "won", "win", "loss", "expected", "unseen", "earned")
    return _table(
        header,
        [
            (
                f"{group.chance:.3f}",
                f"{group.win_share:.3f}",
                f"{group.average_win_percent:.3f} %",
                f"{group.average_loss_percent:.3f} %",
                f"{group.expected_percent:+.3f} %",
                f"{group.unseen:,}",
                _percent(group.unseen_percent),
            )
            for group in groups
        ],
    )


def _summary(stretches: Sequence[tuple[str, Judgement]]) -> list[str]:
    rows = [
        ("from", [j.from_day for _, j in stretches]),
        ("to", [j.to_day for _, j in stretches]),
        ("entries", [f"{j.entries:,}" for _, j in stretches]),
        ("came true", [f"{j.observed:.4f}" for _, j in stretches]),
        ("mean chance", [f"{j.predicted:.4f}" for _, j in stretches]),
        ("base rate known before", [f"{j.base_rate:.4f}" for _, j in stretches]),
        ("Brier", [f"{j.brier:.5f}" for _, j in stretches]),
        ("Brier of the base rate", [f"{j.brier_of_base_rate:.5f}" for _, j in stretches]),
        ("Brier skill", [_interval(j.skill) for _, j in stretches]),
        ("... in hindsight", [_interval(j.skill_in_hindsight) for _, j in stretches]),
        ("log loss", [f"{j.log_loss:.5f}" for _, j in stretches]),
        ("log loss of the base rate", [f"{j.log_loss_of_base_rate:.5f}" for _, j in stretches]),
        ("AUC", [_figure(j.auc) for _, j in stretches]),
        ("volatility alone: skill", [f"{j.volatility_skill:+.4f}" for _, j in stretches]),
        ("volatility alone: AUC", [_figure(j.volatility_auc) for _, j in stretches]),
        ("AUC at equal volatility", [_figure(j.auc_at_equal_volatility) for _, j in stretches]),
        ("boosted trees: skill", [f"{j.boosting_skill:+.4f}" for _, j in stretches]),
        ("boosted trees: AUC", [_figure(j.boosting_auc) for _, j in stretches]),
        ("an hour late: skill", [f"{j.skill_an_hour_late:+.4f}" for _, j in stretches]),
        ("an hour late: AUC", [_figure(j.auc_an_hour_late) for _, j in stretches]),
        ("net return, all", [f"{j.net_return_percent:+.3f} %" for _, j in stretches]),
        ("net return, top tenth", [f"{j.net_return_percent_top:+.3f} %" for _, j in stretches]),
        ("timing alone: AUC", [_figure(j.timing_auc) for _, j in stretches]),
        ("timing ranks high", [f"{j.ranked_high:.1%}" for _, j in stretches]),
        (
            "net return, timing high",
            [_percent(j.net_return_percent_ranked_high) for _, j in stretches],
        ),
        ("came true, timing high", [_figure(j.observed_ranked_high) for _, j in stretches]),
        ("came true, top tenth", [f"{j.observed_top:.3f}" for _, j in stretches]),
    ]
    return _table(("", *(name for name, _ in stretches)), [(name, *cells) for name, cells in rows])


def _by(title: str, groups: Sequence[Group]) -> list[str]:
    rows = [
        (
            group.name,
            f"{group.entries:,}",
            f"{group.observed:.3f}",
            f"{group.predicted:.3f}",
            f"{group.skill:+.4f}",
            _figure(group.auc),
        )
        for group in groups
    ]
    return [title, *_table(("", "entries", "came true", "mean chance", "skill", "AUC"), rows)]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    return [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (header, *rows)
    ]


def _interval(interval: Interval) -> str:
    return f"{interval.value:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f} %"
