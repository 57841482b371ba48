"""The figures of a campaign, for people and for ``reports/mutation.json``."""

from __future__ import annotations

import subprocess
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scripts.mutation.campaign import Verdict
from scripts.mutation.targets import PROJECT, Target

EQUIVALENT = Path(__file__).with_name("equivalent.toml")


class Equivalents:
    """Mutants that nobody can observe, each with its reason; kept in ``equivalent.toml``.

    They are known by file, line of code and change, so that an edit elsewhere does not lose them
    and an edit of theirs does.
    """

    def __init__(self, path: Path = EQUIVALENT) -> None:
        entries = tomllib.loads(path.read_text(encoding="utf-8")).get("equivalent", [])
        self._known = {(e["path"], e["code"], e["change"]): e["why"] for e in entries}

    def why(self, target: Target, verdict: Verdict) -> str | None:
        """Why a survivor cannot be noticed; ``None`` where it could be."""
        code = target.source().splitlines()[verdict.mutant.line - 1].strip()
        return self._known.get((target.path, code, verdict.mutant.change))


def of_module(
    target: Target, verdicts: Sequence[Verdict], known: Equivalents, *, seconds: float
) -> dict[str, Any]:
    """The figures of one module, with every survivor by name and the commit that they are about."""
    survivors = [
        {
            "line": verdict.mutant.line,
            "in": verdict.mutant.symbol,
            "kind": verdict.mutant.kind,
            "change": verdict.mutant.change,
            "equivalent": known.why(target, verdict),
        }
        for verdict in verdicts
        if verdict.fate == "survived"
    ]
    equivalent = sum(survivor["equivalent"] is not None for survivor in survivors)
    kinds = sorted({verdict.mutant.kind for verdict in verdicts})
    return {
        **_figures(Counter(verdict.fate for verdict in verdicts), equivalent),
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted": _git("status", "--porcelain", "--", "shared", "tests").splitlines(),
        "seconds": round(seconds, 1),
        "kinds": {
            kind: _figures(Counter(v.fate for v in verdicts if v.mutant.kind == kind))
            for kind in kinds
        },
        "survivors": survivors,
    }


def whole(modules: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The report of all modules."""
    fates = Counter(
        killed=_sum(modules, "killed"),
        timeout=_sum(modules, "timeouts"),
        survived=_sum(modules, "survived"),
    )
    return {
        "mutmut": version("mutmut"),
        "seconds": round(_sum(modules, "seconds"), 1),
        "totals": _figures(fates, _sum(modules, "equivalent")),
        "modules": modules,
    }


def _figures(fates: Mapping[str, int], equivalent: int | None = None) -> dict[str, Any]:
    """``score_percent`` counts every mutant; a mutant that never ends is noticed."""
    total = sum(fates.values())
    noticed = fates["killed"] + fates["timeout"]
    figures: dict[str, Any] = {
        "mutants": total,
        "killed": fates["killed"],
        "survived": fates["survived"],
        "timeouts": fates["timeout"],
        "score_percent": round(100 * noticed / total, 1),
    }
    if equivalent is not None:
        figures["equivalent"] = equivalent
        figures["score_without_equivalent_percent"] = round(
            100 * noticed / max(1, total - equivalent), 1
        )
    return figures


def table(modules: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    """The lines of a table for the terminal."""
    head = ("module", "mutants", "killed", "timeouts", "survived", "score %")
    yield f"{head[0]:<34}" + "".join(f"{name:>10}" for name in head[1:])
    for path, figures in modules.items():
        names = ("mutants", "killed", "timeouts", "survived", "score_percent")
        yield f"{path:<34}" + "".join(f"{figures[name]:>10}" for name in names)


def _sum(modules: Mapping[str, Mapping[str, Any]], name: str) -> Any:
    return sum(figures[name] for figures in modules.values())


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    return done.stdout.strip("\n")
