"""A sweep that was stopped goes on where it was, and only for the very same sources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploy.local.sweep import journal
from deploy.local.sweep.campaign import Plan, Worker
from deploy.local.sweep.journal import Journal


def message(key: str) -> dict[str, Any]:
    return {"kind": "result", "key": key, "runs": 3}


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def open_as(build: str | None, *, fresh: bool = False) -> Journal:
        monkeypatch.setattr(journal, "build", lambda: build)
        return Journal.open(fresh=fresh, folder=tmp_path)

    return open_as


def test_what_was_said_is_there_again(opened: Any) -> None:
    first = opened("a")
    first.add({"kind": "stage", "stage": "entry"})
    first.add(message("1 entry first x"))
    first.add({"kind": "done"})
    first.end(12.5)
    again = opened("a")
    assert again.earlier[:2] == [{"kind": "stage", "stage": "entry"}, message("1 entry first x")]
    assert (again.done, again.seconds) == ({"1 entry first x"}, 12.5)


def test_other_sources_begin_anew_and_uncommitted_ones_are_not_kept(opened: Any) -> None:
    opened("a").add(message("k"))
    assert opened("b").done == frozenset()
    loose = opened(None)
    loose.add(message("k"))
    assert opened(None).done == frozenset()
    assert opened("a").done == {"k"}
    assert opened("a", fresh=True).done == frozenset()


def test_a_line_that_was_cut_is_left_out(opened: Any, tmp_path: Path) -> None:
    opened("a").add(message("k"))
    (path,) = (tmp_path / "sweep").iterdir()
    path.write_text(path.read_text() + '{"kind": "result", "key": "cu')
    assert opened("a").done == {"k"}


def shares(plan: Plan) -> list[list[str]]:
    workers = [Worker(plan, share, lambda said: None) for share in range(plan.workers)]
    return [[key for key, _ in worker._mine("entry first", "abcdef")] for worker in workers]


def test_workers_share_what_is_left_without_a_case_twice() -> None:
    keys = [f"1 entry first {letter}" for letter in "abcdef"]
    assert shares(Plan(workers=2)) == [keys[::2], keys[1::2]]
    left = shares(Plan(workers=2, done=frozenset(keys[:3])))
    assert left == [[keys[3], keys[5]], [keys[4]]]


def test_nothing_is_begun_after_the_time_is_over() -> None:
    assert shares(Plan(workers=1, minutes=0.0)) == [[]]
