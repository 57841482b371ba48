"""``trading-loop deploy check``: whether Pipedream runs the code that these sources give."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from deploy.cli import deployments, output

EXIT_DIFFERENT = 1


def add_parser(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "check",
        help="whether Pipedream runs these sources; exit code 1 if not",
        description="Compare the hash that every deployed step tells with its bundle's.",
    )
    deployments.add_options(parser)
    output.add_json_option(parser)
    parser.set_defaults(handler=handler)


def handler(args: argparse.Namespace) -> int:
    """Name every step that runs something else."""
    from deploy.local import manifest
    from deploy.local.servers import PROJECT
    from deploy.pipedream import build

    built = build.build(manifest.load(PROJECT))
    with deployments.opened(args) as deployment:
        differences = deployment.check(built)
    if args.json:
        output.print_json({"build": built.build, "differences": [asdict(d) for d in differences]})
    else:
        for difference in differences:
            print(difference)
        print(f"build {built.build}: {len(differences)} of {len(built.bundles)} steps differ")
    return EXIT_DIFFERENT if differences else 0
