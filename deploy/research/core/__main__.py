"""``python -m deploy.research.core``: replay recorded hours with a core sleeve, and report on it.

Sets the limits on daily losses so wide that the tactical sleeve's do not pause the core.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.cli.arguments import minute
from deploy.local import resume
from deploy.local.market.choose import choose_source
from deploy.local.session import LocalSession, SessionOptions
from deploy.research.core import plots, report
from deploy.research.core.following import follow
from shared import clock
from shared.errors import ConfigurationError

WIDE_LIMITS = {"MAX_DAILY_LOSS": "1000", "DAILY_LOSS_PERCENT": "10"}
_SERVERS = ("DATABASE_URL", "REDIS_URL")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1 where a run failed, or ledger and venues differ.

    Raises:
        ConfigurationError: no folder of candles, or a setting is wrong.
        DataUnavailable: the folder lacks the hours.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    if not options.data:
        raise ConfigurationError("--data: expected a folder; MARKET_DATA_DIR is not set either")
    symbols = tuple(f"{base.strip().upper()}/USDT" for base in options.symbols.split(","))
    spec, _ = choose_source(
        options.data,
        symbols,
        options.hours,
        0,
        kind="recorded",
        from_ms=clock.to_ms(options.start),
    )
    settings = {"CORE_SLEEVE_PERCENT": options.share} | WIDE_LIMITS
    settings |= {} if options.band is None else {"REBALANCE_BAND_PERCENT": options.band}
    own_servers = {name: os.environ[name] for name in _SERVERS if name in os.environ}
    database = resume.database_name("core", spec.to_json(), json.dumps(settings))
    session_options = SessionOptions(spec=spec, database=database, models="none", fresh=True)
    with LocalSession(session_options, settings | own_servers) as session:
        followed = follow(session)
    command = shlex.join(["python", "-m", "deploy.research.core", *given])
    document = report.as_json(followed, spec, settings, command)
    text = report.as_markdown(document)
    print(text, end="")
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "README.md").write_text(text, encoding="utf-8")
        (options.out / "report.json").write_text(f"{json.dumps(document, indent=1)}\n")
        plots.drift(followed, options.out / report.PICTURE)
    return 1 if followed.failures or followed.differences else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.research.core",
        description="Replay recorded hours with a core sleeve, and report how it drifted and was "
        "brought back.",
    )
    parser.add_argument("--data", default=os.environ.get("MARKET_DATA_DIR"), metavar="DIR")
    parser.add_argument("--from", dest="start", type=minute, required=True, metavar="ISO")
    parser.add_argument("--hours", type=float, default=48.0)
    parser.add_argument("--symbols", default="BTC,ETH,SOL")
    parser.add_argument("--share", default="60", help="CORE_SLEEVE_PERCENT; default: 60")
    parser.add_argument("--band", help="REBALANCE_BAND_PERCENT; default: the loop's own")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write report and picture here")
    return parser


if __name__ == "__main__":
    sys.exit(main())
