"""``trading-loop deploy build``: one self-contained file a step, or whether they are current."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.cli import output

if TYPE_CHECKING:
    from deploy.pipedream.build import Build

EXIT_STALE = 1


def add_parser(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "build",
        help="bundle every step into one file",
        description="Write one self-contained entry.py for each step of each workflow. Any of "
        "them can be pasted into a Python step on Pipedream as it is.",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: bundles/")
    parser.add_argument(
        "--check",
        action="store_true",
        help="write nothing; exit code 1 if what DIR holds is not what the sources give",
    )
    output.add_json_option(parser)
    parser.set_defaults(handler=handler)


def handler(args: argparse.Namespace) -> int:
    """Build all bundles, then write or compare them."""
    from deploy.local import manifest
    from deploy.local.servers import PROJECT
    from deploy.pipedream import build

    built = build.build(manifest.load(PROJECT))
    folder = args.out or PROJECT / build.FOLDER
    changed = build.stale(built, folder) if args.check else build.write(built, folder)
    if args.json:
        output.print_json(_as_json(built, changed))
    else:
        _print(built)
    if not changed:
        print(f"{folder}: up to date", file=sys.stderr)
        return 0
    verb = "is out of date" if args.check else "written"
    for path in changed:
        print(f"{folder / path}: {verb}", file=sys.stderr)
    return EXIT_STALE if args.check else 0


def _as_json(built: Build, changed: list[str]) -> dict[str, object]:
    return {
        "build": built.build,
        "changed": changed,
        "bundles": [
            {
                "path": one.path,
                "workflow": one.workflow,
                "namespace": one.namespace,
                "size_bytes": one.size_bytes,
                "modules": one.modules,
                "pins": [str(pin) for pin in one.pins],
                "sha256": one.sha256,
            }
            for one in built.bundles
        ],
    }


def _print(built: Build) -> None:
    from rich.table import Table

    table = Table(title=f"build {built.build}")
    for heading in ("workflow", "step"):
        table.add_column(heading)
    for heading in ("kB", "modules", "pins"):
        table.add_column(heading, justify="right")
    table.add_column("sha256")
    for one in built.bundles:
        kilobytes = f"{one.size_bytes / 1000:.0f}"
        counts = (str(one.modules), str(len(one.pins)))
        table.add_row(one.workflow, one.namespace, kilobytes, *counts, one.sha256[:16])
    output.console().print(table)
