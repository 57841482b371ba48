"""``trading-loop deploy rollback``: the code of an earlier build goes live again."""

from __future__ import annotations

import argparse

from deploy.cli import deployments, output


def add_parser(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "rollback",
        help="deploy an earlier build again; without a build, list them",
        description="Put the code of an earlier build back as a new commit, push, and wait. The "
        "ledger's tables are not taken back: migrations only ever add.",
    )
    parser.add_argument("build", nargs="?", help="as the list shows it")
    deployments.add_options(parser)
    deployments.add_wait_options(parser)
    output.add_json_option(parser)
    parser.set_defaults(handler=handler)


def handler(args: argparse.Namespace) -> int:
    """List the builds of the branch, newest first, or go back to one."""
    args.without_ledger = args.without_ledger or args.build is None
    with deployments.opened(args) as deployment:
        if args.build is not None:
            deployment.rollback(args.build, timeout_s=args.timeout)
            return 0
        builds = deployment.builds()
    if args.json:
        output.print_json([{"build": build, "commit": commit} for build, commit in builds])
    else:
        for build, commit in builds:
            print(f"{build}  {commit[:12]}")
    return 0
