"""Figures: what is counted as what, and a command for each failure."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.local.sweep.report import Report


def result(**changes: Any) -> dict[str, Any]:
    return {
        "kind": "result",
        "order": "first",
        "system": "ours",
        "scenario": "entry",
        "seed": 3,
        "fired": ["sql INSERT intents#1:kill_before"],
        "recovery_fired": [],
        "violations": [],
        "missed_entry": False,
        "resolve_seconds": [],
        "naked_seconds": 0,
        "minutes": 2,
        "runs": 5,
        "wall_ms": 100.0,
        "note": "",
    } | changes


def totals(*messages: dict[str, Any]) -> dict[str, Any]:
    report = Report()
    for message in messages:
        report.add(message)
    found: dict[str, Any] = report.as_json([], 1.0)["totals"]
    return found


@pytest.mark.parametrize(
    ("kind", "figure"),
    [
        ("duplicate_order", "duplicate_orders"),
        ("orphan_order", "orphan_orders"),
        ("lost_fill", "lost_fills"),
    ],
)
def test_violations_are_counted_by_kind(kind: str, figure: str) -> None:
    found = totals(result(violations=[[kind, "x"], [kind, "y"]]), result())
    assert found[figure] == 2
    assert found["other_violations"] == {}
    assert found["cases_with_violations"] == 1


def test_other_kinds_are_told_by_name() -> None:
    found = totals(result(violations=[["balance_differs", "x"]]))
    assert found["other_violations"] == {"balance_differs": 1}


def test_sites_runs_and_orders_add_up() -> None:
    stage = {"kind": "stage", "system": "ours", "stage": "entry", "protects": True, "cases": 2}
    sites = ["sql COMMIT#1", "sql COMMIT#2"]
    found = totals(
        stage | {"sites": sites},
        stage | {"sites": sites},  # the other worker tells the same
        result(),
        result(order="pair", recovery_fired=["redis SET x#1:timeout_after"], missed_entry=True),
        result(order="overlap", fired=["sql COMMIT#1|same_event"]),
        result(order="soak", minutes=1440, runs=3000, fired=[]),
    )
    assert (found["sites"], found["modes"], found["runs"]) == (2, 2, 3015)
    assert (found["first_order"], found["pairs"], found["overlaps"]) == (1, 1, 1)
    assert (found["virtual_days"], found["missed_entries"]) == (1.0, 1)


def test_a_fault_that_struck_nowhere_is_told() -> None:
    assert totals(result(fired=[]))["faults_not_reached"] == 1


def test_a_failure_names_the_command_that_repeats_it() -> None:
    report = Report()
    report.add(
        result(
            order="pair",
            violations=[["lost_fill", "x"]],
            recovery_fired=["sql COMMIT#2:kill_before"],
        )
    )
    (failure,) = report.as_json([], 1.0)["violations"]
    assert failure["replay"] == (
        'python -m deploy.local.sweep --case "entry; seed=3; '
        'fault=sql INSERT intents#1:kill_before; then=sql COMMIT#2:kill_before"'
    )
    assert not report.clean
