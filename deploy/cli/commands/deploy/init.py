"""``trading-loop deploy init``: what a person has to do once, and how far it is done."""

from __future__ import annotations

import argparse
import json
import os
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.cli import output
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from deploy.pipedream.checklist import Progress

EXIT_OPEN = 1
_MARKS = {"done": "\u2713 seen", "confirmed": "\u2713 confirmed", "open": "\u2022 to do"}


def add_parser(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "init",
        help="what to do once in Pipedream's UI, and how far it is done",
        description="Print the exact list, look at whatever the API and the clone show of it, and "
        "go on where it was left. The exit code is 1 while something is open.",
    )
    parser.add_argument("--clone", type=Path, metavar="DIR", help="of the synced repository")
    parser.add_argument(
        "--confirm",
        action="append",
        default=[],
        metavar="ITEM",
        help="you have done what cannot be seen from here; may be repeated",
    )
    output.add_json_option(parser)
    parser.set_defaults(handler=handler)


def handler(args: argparse.Namespace) -> int:
    """Show the list; what is confirmed is kept in ``.local``."""
    from deploy.local import manifest
    from deploy.local.servers import DEFAULT_FOLDER, PROJECT
    from deploy.pipedream import checklist, looking

    project = manifest.load(PROJECT)
    kept = DEFAULT_FOLDER / "deploy" / "confirmed.json"
    confirmed = _confirm(kept, args.confirm, {item.name for item in checklist.items(project)})
    seen = looking.look(project, os.environ, args.clone)
    found = checklist.progress(project, seen, confirmed)
    if args.json:
        output.print_json([_as_json(one) for one in found])
    else:
        _print(found)
    return EXIT_OPEN if any(one.status == "open" for one in found) else 0


def _confirm(kept: Path, names: list[str], known: set[str]) -> frozenset[str]:
    confirmed = set(json.loads(kept.read_text())) if kept.exists() else set()
    for name in names:
        if name not in known:
            raise ConfigurationError(
                f"--confirm: expected one of {', '.join(sorted(known))}, was {name!r}"
            )
    if names:
        confirmed |= set(names)
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(sorted(confirmed)))
    return frozenset(confirmed)


def _as_json(one: Progress) -> dict[str, Any]:
    return {
        "name": one.item.name,
        "title": one.item.title,
        "status": one.status,
        "lacking": one.lacking,
        "visible": one.item.visible,
        "do": list(one.item.lines),
    }


def _print(found: list[Progress]) -> None:
    for number, one in enumerate(found, start=1):
        print(f"{number:>2}. {one.item.title}  [{_MARKS[one.status]}]")
        if one.status != "open":
            continue
        for line in one.item.lines:
            print(textwrap.fill(line, 96, initial_indent="      - ", subsequent_indent="        "))
        if one.lacking:
            print(f"      ({one.lacking})")
        if not one.item.visible:
            print(f"      done? trading-loop deploy init --confirm {one.item.name}")
    left = sum(one.status == "open" for one in found)
    print(f"{left} of {len(found)} to do." if left else "All of it is there.")
