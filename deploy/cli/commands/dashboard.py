"""``trading-loop dashboard``: the page as a file."""

from __future__ import annotations

import argparse
from pathlib import Path

from deploy.cli import output


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "dashboard",
        help="write the dashboard as an HTML file",
        description="Write the page that the workflow dashboard serves. The file needs nothing "
        "else: it holds no script and loads nothing.",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.html")
    output.add_json_option(parser)
    parser.set_defaults(handler=handler)


def handler(args: argparse.Namespace) -> int:
    """Write the page; with ``--json`` its figures are printed as well."""
    from deploy.cli import ledgers
    from shared.errors import ConfigurationError
    from shared.ui import dashboard, page

    with ledgers.open_ledger() as opened:
        model = dashboard.gather(opened.ledger, opened.settings, opened.as_of)
    try:
        args.out.write_text(page.render(model), encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"--out: {args.out}: {error.strerror}") from None
    if args.json:
        output.print_json(model)
    else:
        print(f"Wrote {args.out} ({opened.name}, as of {model['as_of']:%Y-%m-%d %H:%M:%S} UTC).")
    return 0
