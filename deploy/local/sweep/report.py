"""What a sweep has found, in numbers: a table for a person and ``sweep.json``."""

from __future__ import annotations

import statistics
import subprocess
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

from deploy.local.servers import PROJECT
from deploy.local.sweep.campaign import replay_command
from deploy.local.sweep.journal import SWEPT, build

SYSTEMS = {
    "ours": "this system",
    "send_then_write": "send, then write",
    "same_id_resend": "same id, then resend",
}
_KINDS = {
    "duplicate_orders": ("duplicate_order",),
    "orphan_orders": ("orphan_order",),
    "lost_fills": ("lost_fill",),
}
_MOST_LISTED = 200


@dataclass
class Tally:
    """One system's figures so far."""

    sites: set[tuple[str, str]] = field(default_factory=set)
    modes: set[str] = field(default_factory=set)
    cases: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    not_reached: int = 0
    violations: Counter[str] = field(default_factory=Counter)
    missed_entries: int = 0
    soak_minutes: int = 0
    soak_faults: int = 0
    resolve_seconds: list[float] = field(default_factory=list)
    naked_seconds: list[int] = field(default_factory=list)
    wall_ms: list[float] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)
    soak: list[str] = field(default_factory=list)

    def add(self, message: dict[str, Any]) -> None:
        """Count one result."""
        order = message["order"]
        self.cases[order] += 1
        self.runs += message["runs"]
        faults = [*message["fired"], *message["recovery_fired"]]
        if order == "soak":
            self.soak_minutes += message["minutes"]
            self.soak_faults += len(message["recovery_fired"])
            self.soak.append(message["note"])
        else:
            self.not_reached += not message["fired"]
            self.wall_ms.append(message["wall_ms"])
        if order in ("first", "pair"):
            self.modes |= {fault.rpartition(":")[2] for fault in faults}
        self.violations.update(kind for kind, _ in message["violations"])
        self.missed_entries += message["missed_entry"]
        self.resolve_seconds += message["resolve_seconds"]
        if message["naked_seconds"]:
            self.naked_seconds.append(message["naked_seconds"])
        if message["violations"]:
            self.failures.append(
                {
                    "order": order,
                    "scenario": message["scenario"],
                    "violations": message["violations"],
                    "replay": None if order == "soak" else replay_command(message),
                }
            )

    def as_json(self) -> dict[str, Any]:
        """The figures that ``totals`` and each baseline have."""
        counted = {
            name: sum(self.violations[kind] for kind in kinds) for name, kinds in _KINDS.items()
        }
        other = Counter(self.violations)
        for kinds in _KINDS.values():
            for kind in kinds:
                del other[kind]
        return {
            "sites": len(self.sites),
            "modes": len(self.modes),
            "runs": self.runs,
            "cases": sum(self.cases.values()),
            "first_order": self.cases["first"],
            "pairs": self.cases["pair"],
            "overlaps": self.cases["overlap"],
            "virtual_days": round(self.soak_minutes / 1440, 3),
            "soak_faults": self.soak_faults,
            **counted,
            "other_violations": dict(sorted(other.items())),
            "cases_with_violations": len(self.failures),
            "missed_entries": self.missed_entries,
            "faults_not_reached": self.not_reached,
            "resolve_seconds": _spread(self.resolve_seconds),
            "naked_seconds": _spread(self.naked_seconds) | {"cases": len(self.naked_seconds)},
            "milliseconds_a_case": _spread(self.wall_ms),
        }


class Report:
    """Collects the workers' messages. Make it before the workers start: they run the code of
    that moment, and the report names its commit and its build (see ``journal.build``)."""

    def __init__(self) -> None:
        self._commit, self._build = commit(), build()
        self.tallies: dict[str, Tally] = defaultdict(Tally)
        self.unprepared: dict[str, str] = {}
        self.protects: dict[str, bool] = {}

    def add(self, message: dict[str, Any]) -> None:
        """Take up a message of ``campaign.Worker``."""
        if message["kind"] == "stage":
            tally = self.tallies[message["system"]]
            tally.sites |= {(message["stage"], site) for site in message["sites"]}
            if message["system"] == "ours":
                self.protects[message["stage"]] = message["protects"]
        elif message["kind"] == "unprepared":
            self.unprepared[message["stage"]] = message["error"]
        elif message["kind"] == "result":
            self.tallies[message["system"]].add(message)

    @property
    def clean(self) -> bool:
        """Whether this system broke nothing, anywhere, and every scenario could be swept."""
        return not self.unprepared and not self.tallies["ours"].failures

    def as_json(self, arguments: list[str], seconds: float) -> dict[str, Any]:
        """The document ``reports/sweep.json``."""
        ours = self.tallies["ours"]
        return {
            "commit": self._commit,
            "build": self._build,
            "arguments": arguments,
            "wall_seconds": round(seconds, 1),
            "totals": ours.as_json(),
            "baselines": {
                name: tally.as_json() for name, tally in self.tallies.items() if name != "ours"
            },
            "scenarios_unprepared": self.unprepared,
            "scenarios_without_protection": sorted(
                name for name, protected in self.protects.items() if not protected
            ),
            "soak": ours.soak,
            "violations": ours.failures[:_MOST_LISTED],
        }

    def table(self) -> Table:
        """The figures of all systems, side by side."""
        table = Table(title="Crash sweep")
        table.add_column("")
        for system in self.tallies:
            table.add_column(SYSTEMS[system], justify="right")
        figures = [tally.as_json() for tally in self.tallies.values()]
        for title, show in _ROWS.items():
            table.add_row(title, *(show(figure) for figure in figures))
        return table


def _count(name: str) -> Any:
    return lambda figure: f"{figure[name]:,}"


def _pair(name: str) -> Any:
    def show(figure: dict[str, Any]) -> str:
        spread = figure[name]
        return "-" if spread["p50"] is None else f"{spread['p50']:g} / {spread['max']:g}"

    return show


_ROWS: dict[str, Any] = {
    "sites": _count("sites"),
    "modes": _count("modes"),
    "first-order cases": _count("first_order"),
    "pairs": _count("pairs"),
    "overlapping runs": _count("overlaps"),
    "virtual days": _count("virtual_days"),
    "runs": _count("runs"),
    "duplicate orders": _count("duplicate_orders"),
    "orphan orders": _count("orphan_orders"),
    "lost fills": _count("lost_fills"),
    "other violations": lambda figure: f"{sum(figure['other_violations'].values()):,}",
    "missed entries": _count("missed_entries"),
    "unknown resolved, s (p50 / max)": _pair("resolve_seconds"),
    "naked where at all, s (p50 / max)": _pair("naked_seconds"),
    "ms a case (p50 / max)": _pair("milliseconds_a_case"),
}


def _spread(values: list[Any]) -> dict[str, Any]:
    if not values:
        return {"p50": None, "max": None}
    return {"p50": round(statistics.median(values), 1), "max": round(max(values), 1)}


def commit() -> str:
    """The git commit, with ``-dirty`` where code under sweep differs from it."""
    try:
        name = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--", *SWEPT)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{name}-dirty" if changed else name


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(PROJECT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
