"""``make mutation``: try every mutant, print a table, write ``reports/mutation.json``.

It fails where a module's tests notice less than MINIMUM_PERCENT of its mutants.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from deploy.local.servers import EmbeddedServers
from scripts.mutation import campaign, report
from scripts.mutation.targets import PROJECT, TARGETS
from shared.ledger import connection, migrate

MINIMUM_PERCENT = 90.0
REPORT = PROJECT / "reports" / "mutation.json"


def main() -> int:
    arguments = _arguments()
    targets = [target for target in TARGETS if arguments.only in target.path]
    if not targets:
        sys.exit(f"--only {arguments.only}: expected a part of one of {[t.path for t in TARGETS]}")
    modules, known = _reported(), report.Equivalents()
    with tempfile.TemporaryDirectory() as folder, EmbeddedServers(Path(folder), durable=False) as s:
        databases = [_database(s, number) for number in range(arguments.jobs)]
        os.environ["CI"] = "1"  # every session tries the same examples of a property
        for target in targets:
            started = time.monotonic()
            try:
                verdicts = campaign.judge(target, databases, tell=_tell)
            except campaign.Broken as error:
                sys.exit(str(error))
            seconds = time.monotonic() - started
            modules[target.path] = report.of_module(target, verdicts, known, seconds=seconds)
            _write(modules)
    for line in report.table(modules):
        _tell(line)
    tried = [modules[target.path]["score_percent"] for target in targets]
    return int(min(tried) < MINIMUM_PERCENT)


def _reported() -> dict[str, Any]:
    """What an earlier run has found of modules that are still targets."""
    if not REPORT.exists():
        return {}
    modules: dict[str, Any] = json.loads(REPORT.read_text(encoding="utf-8"))["modules"]
    return {target.path: modules[target.path] for target in TARGETS if target.path in modules}


def _write(modules: dict[str, Any]) -> None:
    """After each module, so that a run that is stopped has not been for nothing."""
    REPORT.parent.mkdir(exist_ok=True)
    text = json.dumps(report.whole(dict(sorted(modules.items()))), indent=2)
    REPORT.write_text(text + "\n", encoding="utf-8")


def _database(servers: EmbeddedServers, number: int) -> str:
    """A migrated database for one of the sessions that run at once."""
    url = servers.create_database(f"mutation_{number}")
    migrate.migrate(connection.connect(url, "test"))
    connection.close_all()
    return url


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make mutation", description=__doc__)
    parser.add_argument(
        "--only", default="", help="part of a path; of other modules the report keeps what it has"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="mutants at once")
    return parser.parse_args()


def _tell(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
