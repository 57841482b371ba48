"""``trading-loop deploy push``: new code goes live, and is waited for."""

from __future__ import annotations

import argparse
import sys

from deploy.cli import deployments, output


def add_parser(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "push",
        help="deploy, and wait until every step runs the new code",
        description="Write the bundles into the clone, commit, push the branch production, and ask "
        "Pipedream until every step tells the hash of its new code. Trading is held at REDUCING "
        "meanwhile, and stays there if it does not come to that.",
    )
    deployments.add_options(parser)
    deployments.add_wait_options(parser)
    output.add_json_option(parser)
    parser.set_defaults(handler=handler)


def handler(args: argparse.Namespace) -> int:
    """Deploy. What went wrong is raised, and told by the exit code."""
    from deploy.cli.commands.deploy import plan as plans
    from deploy.local import manifest
    from deploy.local.servers import PROJECT
    from deploy.pipedream import build

    with deployments.opened(args) as deployment:
        plan = deployment.push(build.build(manifest.load(PROJECT)), timeout_s=args.timeout)
        others = deployment.pods_beside()
    if args.json:
        output.print_json(plans.as_json(plan))
    else:
        plans.show(plan)
    for pod in others:
        print(f"pod {pod} still runs other code: deploy push --pod {pod}", file=sys.stderr)
    return 0
