"""``trading-loop deploy plan``: what a push would change, and nothing else."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from deploy.cli import deployments, output

if TYPE_CHECKING:
    from deploy.pipedream.deployment import Plan


def add_parser(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "plan",
        help="what a push would change",
        description="Take over what was edited in the UI, build, and show the difference.",
    )
    deployments.add_options(parser)
    parser.add_argument("--diff", action="store_true", help="print every changed line")
    output.add_json_option(parser)
    parser.set_defaults(handler=handler)


def handler(args: argparse.Namespace) -> int:
    """Show the plan; nothing is changed but the clone, which is brought up to date."""
    from deploy.local import manifest
    from deploy.local.servers import PROJECT
    from deploy.pipedream import build

    with deployments.opened(args) as deployment:
        plan = deployment.plan(build.build(manifest.load(PROJECT)))
    if args.json:
        output.print_json(as_json(plan))
        return 0
    show(plan)
    if args.diff:
        for change in plan.changes:
            print(change.diff(), end="")
    return 0


def as_json(plan: Plan) -> dict[str, Any]:
    """The plan for a program."""
    return {
        "build": plan.build,
        "workflows": {name: target.workflow_id for name, target in plan.targets.items()},
        "changes": [
            {"path": change.path, "added": change.added, "removed": change.removed}
            for change in plan.changes
        ],
        "remarks": list(plan.remarks),
    }


def show(plan: Plan) -> None:
    """The plan for a person."""
    print(f"build {plan.build}: {len(plan.changes)} of the files change")
    for change in plan.changes:
        print(f"  {change.path}  +{change.added} -{change.removed}")
    for remark in plan.remarks:
        print(f"  look at this in the UI: {remark}")
