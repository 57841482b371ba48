"""``trading-loop run``: the whole loop, over hours of the past or on the present."""

from __future__ import annotations

import argparse

from deploy.cli import run_arguments

EXIT_FAILED_RUNS = 1


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "run",
        help="run the loop over recorded, live or simulated hours",
        description="Run the real workflows minute by minute on a virtual clock, against venues "
        "that are simulated at the wire. Started again with the same arguments it goes on where "
        "it was stopped. With --realtime --source live it follows the present as a service: real "
        "venues' markets, the machine's clock, paper unless everything says live.",
    )
    run_arguments.add(parser)
    parser.set_defaults(handler=handler)


def handler(args: argparse.Namespace) -> int:
    """Serve the present, or replay, report, and tell by the exit code whether any run failed."""
    if run_arguments.is_service(args):
        run_arguments.refuse_of_a_replay(args)
        return _serve(args)
    run_arguments.fill_in(args)
    return _replay(args)


def _serve(args: argparse.Namespace) -> int:
    """Follow the present until a signal comes or the hours are over; 0 in both cases."""
    from deploy.cli import environment, interrupts
    from deploy.local import servers
    from deploy.local.service.service import Service, ServiceOptions

    def say(text: str) -> None:
        print(text, flush=True)

    options = ServiceOptions(
        port=None if args.no_serve else args.port, hours=args.hours, root=servers.PROJECT
    )
    with (
        Service(options, environment.variables(), say) as service,
        interrupts.signals_call(service.stop),
    ):
        service.run()
    return 0


def _replay(args: argparse.Namespace) -> int:
    from rich.console import Console

    from deploy.cli import environment
    from deploy.local import report, servers, summary
    from deploy.local.market.choose import choose_source
    from deploy.local.replay import Replay, ReplayOptions
    from deploy.local.session import LocalSession, SessionOptions
    from shared import clock

    variables = environment.variables()
    spec, reason = choose_source(
        args.data or variables.get("MARKET_DATA_DIR"),
        tuple(f"{base}/{run_arguments.QUOTE}" for base in args.symbols),
        args.hours,
        args.seed,
        kind="recorded" if args.data and args.source is None else args.source,
        from_ms=None if args.start is None else clock.to_ms(args.start),
        live_dir=str(servers.DEFAULT_FOLDER / "market"),
    )
    console = Console(highlight=False)
    console.print(f"Market: {spec.kind}. {reason}", soft_wrap=True, markup=False)
    options = ReplayOptions(
        spec=spec,
        profile=args.profile,
        capital_quote=args.capital,
        models=args.models,
        port=None if args.no_serve else args.port,
        realtime=args.realtime,
        faithful=args.faithful,
        faults=args.schedule_faults,
    )
    session_options = SessionOptions(
        spec=spec,
        database=options.database,
        profile=args.profile,
        capital_quote=args.capital,
        models=args.models,
        fresh=args.fresh,
        faithful=args.faithful,
        paced=args.realtime,
        root=servers.PROJECT,
    )
    with LocalSession(session_options, variables, console.print) as session:
        replay = Replay(session, options, console)
        with replay.serving():
            outcome = replay.run()
            if args.json is not None:
                summary.write(outcome.report, args.json)
            report.show(console, outcome.report, outcome.tally, resumed=outcome.resumed)
            replay.keep_serving()
    befell = outcome.report.get("schedule_faults")
    violated = befell is not None and bool(befell["violations"])
    return EXIT_FAILED_RUNS if outcome.tally.failed_runs or violated else 0
