"""A warm process without connections, and the children that it forks: the runs under test.

``python -m deploy.local.sweep.zygote`` imports what a run needs, 3 s of work, once. For every line
on its standard input, the JSON of a ``ChildSpec``, it forks. A child connects to the harness's
socket, tells its process id, and runs a workflow for every line that it gets. It is a process of
its own with connections of its own, and it dies by SIGKILL like one.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from deploy.local import accounts, events, manifest
from deploy.local.platform import Platform
from deploy.local.servers import PROJECT
from deploy.local.sweep import baselines
from shared import clock, config

_PR_SET_PDEATHSIG = 1
_VENUE_CLASSES = ("binance", "coinbase", "kraken")

Program = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class ChildSpec:
    """A process to fork.

    Attributes:
        variables: its settings; nothing else of the environment that is a setting remains.
        socket_path: where the harness listens.
        program: ``workflows``, or the name of a baseline.
    """

    variables: dict[str, str]
    socket_path: str
    program: str

    def to_json(self) -> str:
        return json.dumps(asdict(self))


class _Workflows:
    """Runs the project's workflows as the local platform does, at the times that it is told."""

    def __init__(self) -> None:
        self._project = manifest.load(PROJECT)
        self._accounts: dict[str, dict[str, str]] = {}
        self._platform = Platform(self._project, self._accounts)
        self._platform.load_all()

    def prepare(self, variables: dict[str, str]) -> None:
        self._accounts |= accounts.connected(variables)
        self._pod = config.load(variables).pod

    def __call__(self, order: dict[str, Any]) -> dict[str, Any]:
        workflow, at_ms = self._project.workflow(order["workflow"]), order["at_ms"]
        result = self._platform.run_workflow(
            workflow,
            events.cron_event(workflow, at_ms),
            events.context(self._pod, workflow, at_ms),
        )
        failed = result.failed_step
        return {
            "exit": result.exit_reason,
            "failed": None if failed is None else f"{failed.namespace}: {failed.error!r}"[:500],
        }


def main() -> None:
    """Fork a child for every line, until standard input ends."""
    workflows = _Workflows()
    _import_all()
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for children: none is a zombie
    print("ready", flush=True)
    for line in sys.stdin:
        spec = ChildSpec(**json.loads(line))
        if os.fork() == 0:
            _live(spec, workflows)


def _live(spec: ChildSpec, workflows: _Workflows) -> None:
    """The whole life of a child; never returns."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        for name in config.VARIABLES:
            os.environ.pop(name, None)
        os.environ.update(spec.variables)
        program: Program = workflows
        if spec.program == "workflows":
            workflows.prepare(spec.variables)
        else:
            program = baselines.PROGRAMS[spec.program](spec.variables)
        _serve(spec.socket_path, program)
    except BaseException as error:
        if not isinstance(error, KeyboardInterrupt):
            traceback.print_exc(limit=-3, chain=False)
        raise
    finally:
        os._exit(0)


def _serve(socket_path: str, program: Program) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(socket_path)
        channel = connection.makefile("rw")
        channel.write(f"{os.getpid()}\n")
        channel.flush()
        for line in channel:
            order = json.loads(line)
            clock.install(lambda now_ms=order["now_ms"]: now_ms)  # type: ignore[misc]
            channel.write(json.dumps(program(order)) + "\n")
            channel.flush()


def _import_all() -> None:
    """Import what runs import where they use it; makes clients, but no connection."""
    import importlib
    import pkgutil

    import anthropic
    import numpy.ma  # noqa: F401
    import openai
    import redis  # noqa: F401

    import shared
    from shared.execution.venues.ccxt_loader import exchange_class
    from shared.market.technical import talib_lean

    for module in pkgutil.walk_packages(shared.__path__, "shared."):
        importlib.import_module(module.name)
    for venue in _VENUE_CLASSES:
        exchange_class(venue)({})
    talib_lean.functions()
    config.load(os.environ)  # looks every name of the environment up, once a process
    assert openai.OpenAI(api_key="none").chat.completions is not None
    assert anthropic.Anthropic(api_key="none").messages is not None


if __name__ == "__main__":
    main()
