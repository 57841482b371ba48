"""A bundle as a person pastes it into the editor: alone, with the packages that it names."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from deploy.local import events, manifest
from deploy.local.servers import PROJECT
from deploy.pipedream import build
from deploy.pipedream.build import Build
from shared.ledger import state
from shared.ledger.connection import Ledger

PIN = re.compile(r"^# pipedream add-package (?P<name>\S+?)==(?P<version>\S+)$", re.MULTILINE)

# The documented object, and nothing that only our own stand-ins have.
PASTED = """\
import json, sys

sys.path.append(sys.argv[1])
given = json.loads(sys.argv[2])
answered = []


class Flow:
    def exit(self, reason=""):
        answered.append({"exit": reason})


class Pd:
    steps = given["steps"]
    inputs = given["inputs"]
    context = given["steps"]["trigger"]["context"]
    flow = Flow()

    def export(self, key, value):
        pass

    def respond(self, response):
        answered.append(response)


code = {"__name__": "code"}
with open("entry.py", encoding="utf-8") as file:
    exec(compile(file.read(), "entry.py", "exec"), code)
returned = code["handler"](Pd())
ours = sorted(name for name in sys.modules if name.partition(".")[0] in ("shared", "steps"))
origins = sorted({sys.modules[name].__spec__.loader.__class__.__name__ for name in ours})
print(json.dumps({"returned": returned, "answered": answered, "loaders": origins}))
"""


@pytest.fixture(scope="module")
def built() -> Build:
    return build.build(manifest.load(PROJECT))


def packages(bundle: str, folder: Path) -> Path:
    """A folder of packages that holds what the bundle names, in those versions, and no other."""
    folder.mkdir()
    pins = list(PIN.finditer(bundle))
    assert pins
    for pin in pins:
        distribution = metadata.distribution(pin["name"])
        assert distribution.version == pin["version"]
        for top in {file.parts[0] for file in distribution.files or () if file.parts[0] != ".."}:
            if not (folder / top).exists():
                (folder / top).symlink_to(Path(str(distribution.locate_file(top))))
    return folder


def paste(
    built: Build, step: str, tmp_path: Path, environment: dict[str, str], event: dict[str, Any]
) -> dict[str, Any]:
    """Run a step's bundle in a process that has nothing else."""
    (bundle,) = (one for one in built.bundles if one.namespace == step)
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "entry.py").write_text(bundle.text, encoding="utf-8")
    workflow = manifest.load(PROJECT).workflow(bundle.workflow)
    context = events.context("test", workflow, 1_746_489_600_000)
    given = {"steps": {"trigger": {"event": event, "context": context}}, "inputs": {}}
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", PASTED, str(packages(bundle.text, tmp_path / "site")),
         json.dumps(given)],
        cwd=empty, env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert told["loaders"] == ["BundleLoader"]  # nothing came from the sources
    return told


def variables(database_url: str, **more: str) -> dict[str, str]:
    return {"DATABASE_URL": database_url, "POD": "test", "PATH": "/usr/bin:/bin", **more}


def test_the_circuit_breaker_runs_alone(
    built: Build, tmp_path: Path, ledger: Ledger, database_url: str
) -> None:
    event = {"timestamp": 1_746_489_600, "cron": "* * * * *", "interval_seconds": None}
    told = paste(built, "circuit_breaker", tmp_path, variables(database_url), event)
    assert told["returned"]["status"] in ("STARTING", "DEGRADED", "EMERGENCY_STOP", "HEALTHY")
    assert len(told["returned"]["checks"]) == 13
    assert told["returned"]["run"]["build"] == built.build
    row = ledger.one("SELECT status, workflow, build FROM runs")
    assert row is not None
    assert (row["status"], row["workflow"]) == ("DONE", "circuit_breaker")
    assert row["build"].endswith(f"+{built.build}")


def test_the_kill_switch_answers_and_halts(
    built: Build, tmp_path: Path, ledger: Ledger, database_url: str
) -> None:
    event = {
        "headers": {"authorization": "Bearer right"},
        "body": {"action": "halt", "reason": "pasted by hand"},
    }
    environment = variables(database_url, KILL_SWITCH_TOKEN="right")  # noqa: S106
    told = paste(built, "kill_switch", tmp_path, environment, event)
    assert [answer["status"] for answer in told["answered"]] == [200]
    assert (state.read(ledger).state, state.read(ledger).reason) == ("HALTED", "pasted by hand")


def test_the_dashboard_answers_with_its_page(
    built: Build, tmp_path: Path, ledger: Ledger, database_url: str
) -> None:
    event = {"headers": {}, "query": {}, "method": "GET", "path": "/", "body": None}
    told = paste(built, "dashboard", tmp_path, variables(database_url), event)
    (answer,) = told["answered"]
    assert answer["status"] == 200
    assert "<html" in answer["body"]


def test_every_bundle_can_be_loaded_alone(built: Build, tmp_path: Path) -> None:
    """Its own code imports nothing but Python's until it is called."""
    for one in built.bundles:
        folder = tmp_path / one.namespace
        folder.mkdir()
        (folder / "entry.py").write_text(one.text, encoding="utf-8")
        code = "import entry; assert callable(entry.handler)"
        done = subprocess.run(
            [sys.executable, "-S", "-c", code], cwd=folder, env={"PATH": "/usr/bin:/bin"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{one.path}: {done.stderr}"
