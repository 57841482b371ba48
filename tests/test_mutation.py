"""Mutation testing: what becomes of SQL texts, and what its committed report says."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from scripts.mutation import sql

PROJECT = Path(__file__).resolve().parents[1]
REPORT = PROJECT / "reports" / "mutation.json"
EQUIVALENT = PROJECT / "scripts" / "mutation" / "equivalent.toml"


def mutated(text: str) -> list[str]:
    source = f'"""Not this SELECT 1 = 1."""\nNAME = "not this one = 1"\nSQL = """{text}"""\n'
    return [
        (source[: change.start] + change.after + source[change.end :]).split('"""')[3]
        for change in sql.changes(source)
    ]


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("SELECT a WHERE b >= %s", ["SELECT a WHERE b > %s"]),
        ("SELECT a WHERE b <> 'x'", ["SELECT a WHERE b = 'x'"]),
        ("SELECT a - b AS c", ["SELECT a + b AS c"]),
        ("SELECT count(*) FROM a", []),
        ("SELECT a WHERE b AND c", ["SELECT a WHERE b OR c"]),
        ("SELECT a WHERE b BETWEEN 1 AND 2", []),
        ("SELECT a WHERE b IN ('x')", ["SELECT a WHERE b NOT IN ('x')"]),
        ("SELECT a WHERE NOT b", ["SELECT a WHERE b"]),
        ("SELECT a WHERE b IS NULL", ["SELECT a WHERE b IS NOT NULL"]),
        ("SELECT coalesce(a, 0)", ["SELECT coalesce(a, 1)"]),
        ("SELECT now() > interval '90 s'", ["SELECT now() >= interval '90 s'",
                                            "SELECT now() > interval '91 s'"]),
        ("UPDATE a SET b = %s, c = %s WHERE d = %s", ["UPDATE a SET b = %s, c = %s WHERE d <> %s"]),
    ],
)  # fmt: skip
def test_one_token_changes_at_a_time(text: str, changes: list[str]) -> None:
    assert mutated(text) == changes


@pytest.fixture
def report() -> Any:
    return json.loads(REPORT.read_text(encoding="utf-8"))


def test_the_report_adds_up_and_hides_no_survivor(report: Any) -> None:
    for figures in report["modules"].values():
        noticed = figures["killed"] + figures["timeouts"]
        assert noticed + figures["survived"] == figures["mutants"]
        assert len(figures["survivors"]) == figures["survived"]
        assert figures["score_percent"] == round(100 * noticed / figures["mutants"], 1)
    for name in ("mutants", "killed", "timeouts", "survived", "equivalent"):
        assert report["totals"][name] == sum(m[name] for m in report["modules"].values())


def test_nine_of_ten_mutants_of_each_module_are_noticed(report: Any) -> None:
    scores = {path: figures["score_percent"] for path, figures in report["modules"].items()}
    assert {path: score for path, score in scores.items() if score < 90} == {}


def test_mutants_called_equivalent_are_few_and_of_code_that_is_there() -> None:
    entries = tomllib.loads(EQUIVALENT.read_text(encoding="utf-8"))["equivalent"]
    assert 0 < len(entries) <= 12
    for entry in entries:
        lines = (PROJECT / entry["path"]).read_text(encoding="utf-8").splitlines()
        assert entry["code"] in [line.strip() for line in lines]
        assert len(entry["why"]) > 20
