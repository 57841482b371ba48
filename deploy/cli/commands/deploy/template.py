"""``trading-loop deploy template``: the request that makes a workflow from a shared one."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from shared.errors import ConfigurationError

EXIT_STALE = 1


def add_parser(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "template",
        help="the body of POST /v1/workflows, for a workflow that is made from a template",
        description="Without ids it holds words to be replaced. The copy is made switched off: "
        "deploy push and deploy activate come after it.",
    )
    parser.add_argument("--workflow", default="trading_loop", help="default: trading_loop")
    parser.add_argument("--name", help="of the copy; default: the workflow's")
    parser.add_argument("--org", help="o_...")
    parser.add_argument("--project", help="proj_...")
    parser.add_argument("--template", help="tch_..., of the shared workflow")
    parser.add_argument(
        "--account",
        action="append",
        default=[],
        metavar="APP=ID",
        help="for example postgresql=apn_...; may be repeated",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: print it")
    parser.add_argument(
        "--check", action="store_true", help="exit code 1 if FILE holds something else"
    )
    parser.set_defaults(handler=handler)


def handler(args: argparse.Namespace) -> int:
    """Print, write or compare the body."""
    from deploy.local import manifest
    from deploy.local.servers import PROJECT
    from deploy.pipedream import template

    workflow = manifest.load(PROJECT).workflow(args.workflow)
    blank = template.PLACEHOLDERS
    ids = template.Ids(
        args.org or blank.org_id,
        args.project or blank.project_id,
        args.template or blank.template_id,
        {**blank.accounts, **dict(map(_account, args.account))},
    )
    text = json.dumps(template.body(workflow, ids, name=args.name), indent=2) + "\n"
    if args.out is None:
        print(text, end="")
    elif args.check:
        if not args.out.is_file() or args.out.read_text(encoding="utf-8") != text:
            print(f"{args.out}: is out of date", file=sys.stderr)
            return EXIT_STALE
    else:
        args.out.write_text(text, encoding="utf-8")
    return 0


def _account(text: str) -> tuple[str, str]:
    app, equals, found = text.partition("=")
    if not (app and equals and found):
        raise ConfigurationError(f"--account: expected APP=ID, was {text!r}")
    return app, found
