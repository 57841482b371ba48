"""Replays of a small project: every tick once, whatever happens in between."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from deploy.local import postgres, report, summary
from deploy.local.manifest import Project
from deploy.local.replay import Outcome, Replay, ReplayOptions
from deploy.local.session import LocalSession, SessionOptions
from shared import clock
from shared.errors import LedgerUnavailable
from tests.local.conftest import MakeProject, spec

MINUTES = 12

# Writes one event a run; at minute 7 it does what its file `trouble.py` says, once.
_STEP = """
from pathlib import Path
from shared import clock
from shared.ledger import events
from shared.run import run_step

def body(run):
    minute = run.event_at.minute
    trouble = Path(__file__).with_name("trouble.py")
    if minute == 7 and trouble.exists():
        source = trouble.read_text()
        trouble.unlink()
        exec(source)
    run.cache.set("key", b"value", 60)
    run.ledger.execute(
        "INSERT INTO events (pod, at, kind) VALUES (%s, %s, %s)",
        (run.ledger.pod, run.event_at, run.workflow.upper()),
    )
    return {"minute": minute}

def handler(pd):
    name = pd.steps["trigger"]["context"]["workflow_name"]
    return run_step(pd, workflow=name, step="step_0", body=body, first=True, last=True)
"""


@pytest.fixture
def project(make_project: MakeProject) -> Project:
    triggers = {"manager": {"type": "cron", "cron": "*/5 * * * *"}}
    return make_project(loop=[_STEP], manager=[_STEP], triggers=triggers)


def _options(**changed: Any) -> ReplayOptions:
    values = {"spec": spec(MINUTES), "profile": "conservative", "capital_quote": Decimal(1000)}
    return ReplayOptions(**values | {"models": "none", "port": None, "realtime": False} | changed)


def _replay(
    project: Project, variables: dict[str, str], *, fresh: bool = False, **changed: Any
) -> tuple[Outcome, dict[str, int], str]:
    """The outcome, the events that the ledger has by kind, and what was printed."""
    options = _options()
    session_options = SessionOptions(
        spec=options.spec,
        database=options.database,
        capital_quote=options.capital_quote,
        models="none",
        fresh=fresh,
        root=project.root,
        **changed,
    )
    printed = io.StringIO()
    with LocalSession(session_options, variables) as session:
        outcome = Replay(session, options, Console(file=printed, width=120)).run()
        rows = session.ledger.query("SELECT kind, count(*) AS n FROM events GROUP BY kind")
    report.show(Console(file=printed), outcome.report, outcome.tally, resumed=outcome.resumed)
    return outcome, {row["kind"]: row["n"] for row in rows}, printed.getvalue()


def _trouble(project: Project, source: str) -> None:
    (project.root / "steps" / "trouble.py").write_text(source)


_ALL = {"LOOP": MINUTES, "MANAGER": 3, "REPLAY_FINISHED": 1}


@pytest.mark.usefixtures("fake_wire")
def test_every_tick_once_and_a_second_replay_gives_the_same_document(
    project: Project, variables: dict[str, str], tmp_path: Path
) -> None:
    documents = []
    for number in (1, 2):
        outcome, events, _ = _replay(project, variables)  # a finished replay starts anew
        assert events == _ALL and not outcome.resumed
        file = tmp_path / f"{number}.json"
        summary.write(outcome.report, file)
        document = json.loads(file.read_text())
        assert document.pop("wall_seconds") > 0 and document.pop("peak_rss_mib") > 0
        assert document.pop("usage")["loop"]["runs"] == MINUTES
        documents.append(document)
    assert documents[0] == documents[1]
    assert documents[0]["runs"] == {"loop": MINUTES, "manager": 3}
    assert documents[0]["credits"] == {"loop": MINUTES, "manager": 3, "per_day": 15 * 24 * 60 / 12}
    assert documents[0]["failures"] == [] and documents[0]["ledger_matches_venue"]
    assert documents[0]["equity"] == {"start": 1000.0, "end": None}  # no step has marked it


@pytest.mark.usefixtures("fake_wire")
def test_a_failed_run_is_counted_shown_and_does_not_stop_the_rest(
    project: Project, variables: dict[str, str]
) -> None:
    _trouble(project, "raise ValueError('price is missing')")
    outcome, events, printed = _replay(project, variables, fresh=True)
    assert outcome.tally.failed_runs == outcome.report["failed_runs"] == 1
    assert outcome.report["failures"] == [
        {"workflow": "loop", "error": "step_0: ValueError: price is missing", "runs": 1}
    ]
    assert events["LOOP"] == MINUTES - 1
    assert "FAILED 1 x loop: step_0: ValueError: price is missing" in printed


@pytest.mark.usefixtures("fake_wire")
def test_an_interrupted_replay_goes_on_where_it_was(
    project: Project, variables: dict[str, str]
) -> None:
    _trouble(project, "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        _replay(project, variables, fresh=True)
    outcome, events, printed = _replay(project, variables)
    assert outcome.resumed and "Going on at 2025-05-06T00:06:00Z" in printed
    assert events == _ALL
    assert outcome.report["runs"] == {"loop": MINUTES, "manager": 3}
    assert outcome.tally.times["loop", "step_0"].runs == MINUTES - 7


@pytest.mark.usefixtures("fake_wire")
def test_fresh_forgets_what_was_there(project: Project, variables: dict[str, str]) -> None:
    _trouble(project, "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        _replay(project, variables, fresh=True)
    outcome, events, _ = _replay(project, variables, fresh=True)
    assert not outcome.resumed and events == _ALL


_KILL = """
import os, signal
from deploy.local import processes
pid = int((Path(FOLDER) / "postgres/data/postmaster.pid").read_text().split()[0])
os.kill(pid, signal.SIGQUIT)
while processes.is_alive(pid):
    pass
"""


@pytest.mark.usefixtures("fake_wire")
def test_without_postgresql_it_stops_and_goes_on_later(project: Project, tmp_path: Path) -> None:
    folder = tmp_path / "local"
    _trouble(project, _KILL.replace("FOLDER", repr(str(folder))))
    with pytest.raises(LedgerUnavailable, match="stopped at 2025-05-06T00:07:00Z"):
        _replay(project, {}, folder=folder)
    outcome, events, _ = _replay(project, {}, folder=folder)
    assert outcome.resumed and events == _ALL
    assert outcome.report["failures"] == []


@pytest.mark.usefixtures("fake_wire")
def test_a_slow_statement_is_a_failed_run_not_the_end(
    project: Project, variables: dict[str, str]
) -> None:
    slow = (
        "run.ledger.execute('SET statement_timeout = 20'); run.ledger.query('SELECT pg_sleep(9)')"
    )
    _trouble(project, slow)
    outcome, _, _ = _replay(project, variables, fresh=True)
    assert outcome.tally.failed_runs == 1
    assert "LedgerUnavailable" in outcome.report["failures"][0]["error"]


@pytest.mark.usefixtures("fake_wire")
def test_without_redis_it_goes_on(project: Project, tmp_path: Path) -> None:
    _trouble(
        project,
        "import redis; from shared import config; import os\n"
        "redis.Redis.from_url(os.environ['REDIS_URL'], retry=None).shutdown(nosave=True)\n",
    )
    outcome, events, _ = _replay(project, {}, folder=tmp_path / "local")
    assert events == _ALL and outcome.report["failures"] == []


def test_with_real_stand_ins_the_ledger_matches(
    project: Project, variables: dict[str, str]
) -> None:
    outcome, events, _ = _replay(project, variables, fresh=True)
    assert events == _ALL
    assert outcome.report["differences"] == []
    assert outcome.report["benchmarks"]["buy_and_hold"]["equity_end"] > 0
    for benchmark in outcome.report["benchmarks"].values():
        assert set(outcome.report["metrics"]) < set(benchmark)


@pytest.mark.usefixtures("fake_wire")
def test_at_real_pace_a_minute_takes_a_minute(
    project: Project, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    class Watch:
        """Time passes only while the replay sleeps."""

        def seconds(self) -> float:
            return sum(slept)

        def milliseconds(self) -> float:
            return 1000 * sum(slept)

    monkeypatch.setattr("shared.clock.Stopwatch", Watch)
    options = _options(realtime=True)
    session_options = SessionOptions(
        spec=options.spec, database=options.database, fresh=True, root=project.root
    )
    with LocalSession(session_options, variables) as session:
        outcome = Replay(session, options, Console(file=io.StringIO()), sleep=slept.append).run()
        assert clock.now_ms() == options.spec.to_ms  # virtual again
    assert slept == [60.0] * (MINUTES - 1)
    assert outcome.report["runs"] == {"loop": MINUTES, "manager": 3}


def test_replays_of_other_arguments_have_other_ledgers() -> None:
    def name(**changed: Any) -> str:
        return _options(**changed).database

    names = {
        name(),
        name(spec=spec(2)),
        name(profile="aggressive"),
        name(capital_quote=Decimal(2)),
        name(models="stand-in"),
    }
    assert len(names) == 5
    assert name(port=2, realtime=True) == name()


def test_old_replays_are_dropped(project: Project, variables: dict[str, str]) -> None:
    from deploy.local import resume
    from deploy.local.servers import EmbeddedServers

    servers = EmbeddedServers(
        database_url=variables["DATABASE_URL"], redis_url=variables["REDIS_URL"]
    )
    names = [f"replay_old_{number}" for number in range(8)]
    for name in names:
        resume.prepare(servers, name, "main", fresh=True)
    url = variables["DATABASE_URL"]
    assert not postgres.database_exists(url, names[0])
    assert postgres.database_exists(url, names[-1])
    for name in names:
        servers.drop_database(name)


@pytest.mark.usefixtures("fake_wire")
def test_a_run_that_ended_early_is_named(project: Project, variables: dict[str, str]) -> None:
    hold = (
        "UPDATE leases SET holder = 'another', epoch = epoch + 1, "
        "expires_at = expires_at + interval '80 seconds' WHERE workflow = 'loop'"
    )
    _trouble(project, f'run.ledger.execute("{hold}")')
    outcome, _, printed = _replay(project, variables, fresh=True)
    assert outcome.report["exits"] == [{"workflow": "loop", "code": "LEASE_HELD", "runs": 2}]
    assert "2 x loop ended early: LEASE_HELD" in printed
