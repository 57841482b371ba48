"""The report of a followed replay, as text for a person and as figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

from deploy.local.market.source import SourceSpec
from deploy.research.core.following import Followed, Rebalanced, Sample
from shared import clock

PICTURE = "weights.png"


def as_json(
    followed: Followed, spec: SourceSpec, settings: Mapping[str, str], command: str
) -> dict[str, Any]:
    """Every figure of the report. Money in quote currency, weights in percent of the sleeve."""
    return {
        "command": command,
        "source": spec.kind,
        "symbols": list(spec.symbols),
        "from": clock.iso(clock.from_ms(spec.from_ms)),
        "to": clock.iso(clock.from_ms(spec.to_ms)),
        "settings": dict(settings),
        "band_percent": float(followed.band_percent),
        "minimum_hours": followed.minimum_hours,
        "nearest_hours": _nearest_hours(followed),
        "samples": len(followed.samples),
        "beyond_band_samples": sum(_is_beyond(s, followed) for s in followed.samples),
        "farthest_points": max((s.farthest_points for s in _funded(followed)), default=None),
        "postponed": followed.postponed,
        "rebalances": [_rebalance(rebalanced) for rebalanced in followed.rebalances],
        "naked_seconds": followed.naked_seconds,
        "failures": list(followed.failures),
        "differences": list(followed.differences),
    }


def as_markdown(document: Mapping[str, Any]) -> str:
    """The text, from the figures of ``as_json``."""
    settings = ", ".join(f"{name}={value}" for name, value in document["settings"].items())
    nearest, books = document["nearest_hours"], document["differences"]
    postponed = ", ".join(f"{n} by {code}" for code, n in document["postponed"].items())
    lines = [
        f"# The core sleeve from {document['from']} to {document['to']}",
        "",
        f"`{document['command']}`",
        "",
        f"The whole loop on {document['source']} minutes of {', '.join(document['symbols'])}, its "
        f"orders against simulated venues. Settings beside the defaults: {settings}. Weights are "
        "percent of the sleeve, which is its share of the equity, invested or not; what is no "
        "symbol's target stays in cash. Distances are in points of the sleeve, money in quote "
        "currency, slippage against the mid of the plan.",
        "",
        f"![distance of each weight from its target]({PICTURE})",
        "",
        *_rebalance_table(document["rebalances"]),
        "",
        *_trade_table(document["rebalances"]),
        "",
        f"- Farthest off once funded: {_number(document['farthest_points'], 2)} points; the band "
        f"is {document['band_percent']:g}. {document['beyond_band_samples']} of "
        f"{document['samples']} looks, five minutes apart, found a weight outside of it.",
        f"- Needed and not done: {postponed or 'never'}.",
        "- Between two rebalances: "
        + (f"{nearest:.1f} h at least" if nearest is not None else "there was only one")
        + f"; {document['minimum_hours']:g} h are demanded.",
        f"- Without a resting stop: {document['naked_seconds']:.0f} s, all core positions and "
        "venues together. The replay's time stands still within a run, so that only gaps between "
        "runs are seen.",
        f"- Failed runs: {len(document['failures'])}. Ledger and venues "
        + ("agree to the last digit." if not books else f"differ: {'; '.join(books)}."),
    ]
    return "\n".join(lines) + "\n"


def _rebalance_table(rebalances: list[dict[str, Any]]) -> list[str]:
    head = (
        *("planned", "reason", "minutes", "turnover", "% of the sleeve", "fees", "slippage"),
        *("cost, bps", "farthest off before", "after", "r.m.s. off before", "after"),
    )
    rows = [
        (
            r["at"],
            r["reason"],
            _number(r["minutes"], 0),
            _number(r["turnover_quote"], 2),
            _number(r["turnover_percent"], 2),
            _number(r["fees_quote"], 2),
            _number(r["slippage_quote"], 2),
            _number(r["cost_bps"], 1),
            _number(r["farthest_points_before"], 2),
            _number(r["farthest_points_after"], 2),
            _number(r["rms_points_before"], 2),
            _number(r["rms_points_after"], 2),
        )
        for r in rebalances
    ]
    return _table(head, rows, words=2)


def _trade_table(rebalances: list[dict[str, Any]]) -> list[str]:
    head = ("planned", "trade", "notional", "weight before", "after", "target")
    rows = [
        (
            r["at"],
            f"{t['side']} {t['symbol']}",
            _number(t["notional_quote"], 2),
            _number(t["weight_before"], 2),
            _number(t["weight_after"], 2),
            _number(t["target"], 2),
        )
        for r in rebalances
        for t in r["trades"]
    ]
    return _table(head, rows, words=2)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, words: int) -> list[str]:
    """A table whose first ``words`` columns are words and the others numbers."""
    rule = "|---" * words + "|--:" * (len(head) - words) + "|"
    return [f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(row)} |" for row in rows)]


def _rebalance(rebalanced: Rebalanced) -> dict[str, Any]:
    turnover = rebalanced.turnover_quote
    fees = sum((trade.fee_quote for trade in rebalanced.trades), Decimal(0))
    slippage = sum((trade.slippage_quote for trade in rebalanced.trades), Decimal(0))
    took = None if rebalanced.ended_at is None else rebalanced.ended_at - rebalanced.at
    before, after = rebalanced.before, rebalanced.after
    return {
        "at": clock.iso(rebalanced.at),
        "reason": rebalanced.reason,
        "state": rebalanced.state,
        "minutes": None if took is None else took / timedelta(minutes=1),
        "turnover_quote": float(turnover),
        "turnover_percent": float(100 * turnover / rebalanced.sleeve_quote),
        "fees_quote": float(fees),
        "slippage_quote": float(slippage),
        "cost_bps": float(10_000 * rebalanced.cost_quote / turnover) if turnover else None,
        "farthest_points_before": None if before is None else before.farthest_points,
        "farthest_points_after": None if after is None else after.farthest_points,
        "rms_points_before": None if before is None else before.rms_points,
        "rms_points_after": None if after is None else after.rms_points,
        "trades": [
            {
                "side": trade.side,
                "symbol": trade.symbol,
                "notional_quote": float(trade.notional_quote),
                "weight_before": _weight(before, trade.symbol),
                "weight_after": _weight(after, trade.symbol),
                "target": None if before is None else before.targets[trade.symbol],
            }
            for trade in rebalanced.trades
        ],
    }


def _weight(sample: Sample | None, symbol: str) -> float | None:
    """``None`` too where the symbol has left the sleeve."""
    return None if sample is None else sample.weights.get(symbol)


def _funded(followed: Followed) -> list[Sample]:
    return [s for s in followed.samples if s.is_of_the_moment and any(s.weights.values())]


def _is_beyond(sample: Sample, followed: Followed) -> bool:
    funded = sample.is_of_the_moment and any(sample.weights.values())
    return funded and sample.farthest_points >= float(followed.band_percent)


def _nearest_hours(followed: Followed) -> float | None:
    apart = (after.at - before.at for before, after in pairwise(followed.rebalances))
    return min((gap / timedelta(hours=1) for gap in apart), default=None)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
