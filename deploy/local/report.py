"""The tables that a person reads after a replay."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from deploy.local.tally import Tally

_FIGURES = (
    ("total_return_percent", "return %"),
    ("sharpe", "Sharpe"),
    ("sortino", "Sortino"),
    ("calmar", "Calmar"),
    ("max_drawdown_percent", "max drawdown %"),
    ("volatility_percent", "volatility % a year"),
)


def show(console: Console, report: dict[str, Any], tally: Tally, *, resumed: bool) -> None:
    """Print what came of it, where the time went, and every failure."""
    console.print()
    console.print(_results(report))
    console.print(_lines(report), highlight=False, soft_wrap=True)
    console.print(_times(tally, resumed=resumed))
    for ended in report["exits"]:
        text = f"{ended['runs']} x {ended['workflow']} ended early: {ended['code']}"
        console.print(text, markup=False, soft_wrap=True)
    for workflow, runs in sorted(tally.overran.items()):
        if runs:
            text = f"{runs} x {workflow} took longer than its timeout on Pipedream"
            console.print(text, style="red", soft_wrap=True)
    if "schedule_faults" in report:
        console.print(_faults(report["schedule_faults"]), markup=False, soft_wrap=True)
    for failure in report["failures"]:
        text = f"FAILED {failure['runs']} x {failure['workflow']}: {failure['error']}"
        console.print(text, style="red", markup=False, soft_wrap=True)
    for difference in report["differences"]:
        console.print(f"DIFFERENCE {difference}", style="red", markup=False, soft_wrap=True)


def _faults(befell: dict[str, Any]) -> str:
    """What befell the schedule, one kind a line, and what was wrong in the end."""
    lines = [f"Faults of the schedule: {befell['rates']}"]
    lines += [
        f"  {count['happened']} of {count['asked']} {kind}"
        for kind, count in befell["faults"].items()
    ]
    lines.append("Trading state at the end: {state}, {reason}".format(**befell["trading_state"]))
    violations = befell["violations"]
    if violations is None:
        lines.append("The books were not judged: the replay was stopped in between.")
    else:
        lines.append(f"Invariants violated: {len(violations)}")
        lines += [f"  VIOLATION {found['kind']}: {found['what']}" for found in violations]
    return "\n".join(lines)


def _results(report: dict[str, Any]) -> Table:
    table = Table(title=f"{report['from']} to {report['to']}", title_justify="left")
    table.add_column("")
    for name in ("the loop", "buy and hold", "target allocation"):
        table.add_column(name, justify="right")
    held, allocated = (report["benchmarks"][n] for n in ("buy_and_hold", "target_allocation"))
    for name, label in _FIGURES:
        table.add_row(label, *(_figure(c[name]) for c in (report["metrics"], held, allocated)))
    equity = report["equity"]["end"], held["equity_end"], allocated["equity_end"]
    table.add_row("equity at the end", *(_figure(value) for value in equity))
    return table


def _lines(report: dict[str, Any]) -> str:
    figures, orders = report["metrics"], report["orders"]
    counts = "  ".join(f"{name} {n}" for name, n in report["decisions"].items())
    matches = "yes" if report["ledger_matches_venue"] else "NO"
    return "\n".join(
        (
            "runs         " + ", ".join(f"{n} {name}" for name, n in report["runs"].items()),
            f"failed runs  {report['failed_runs']}",
            f"decisions    {counts}",
            "orders       " + ", ".join(f"{n} {name}" for name, n in orders.items() if n),
            f"trades       {figures['trades']}, win rate {_figure(figures['win_rate_percent'])} %, "
            f"profit factor {_figure(figures['profit_factor'])}, "
            f"expectancy {_figure(figures['expectancy_quote'])}",
            f"costs        fees {_figure(report['fees_quote'])}, "
            f"slippage {_figure(report['slippage_bps'])} bps, "
            f"fill rate {_figure(report['fill_rate_percent'])} %",
            f"ledger matches venues: {matches}",
            f"credits      {report['credits']['per_day']:.0f} a day on Pipedream",
            f"took         {report['wall_seconds']:.1f} s, {report['peak_rss_mib']:.0f} MiB",
        )
    )


def _times(tally: Tally, *, resumed: bool) -> Table:
    title = "where the time went" + (", since it went on" if resumed else "")
    table = Table(title=title, title_justify="left")
    for name in ("workflow", "step"):
        table.add_column(name)
    for name in ("runs", "mean ms", "longest ms", "total s"):
        table.add_column(name, justify="right")
    for (workflow, step), spent in sorted(tally.times.items(), key=lambda item: -item[1].total_ms):
        table.add_row(
            workflow,
            step,
            str(spent.runs),
            f"{spent.mean_ms:.2f}",
            f"{spent.longest_ms:.0f}",
            f"{spent.total_ms / 1000:.1f}",
        )
    return table


def _figure(value: float | None) -> str:
    return "undefined" if value is None else f"{value:,.2f}"
