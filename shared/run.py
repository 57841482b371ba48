"""The frame of every step: configuration, lease, ledger, cache, call log, end of run.

A workflow's first step takes the lease and claims the event; the last one gives the lease back.
The steps between carry the run's id and epoch in their exports. A step that fails closes the run
as failed, so that the next minute is not locked out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from shared import BUILD, cache, clock, config, instance
from shared.calls import CallLog
from shared.config import Config
from shared.errors import ConfigurationError, DataUnavailable, LeaseLost, LedgerUnavailable
from shared.ledger import leases, runs, universes
from shared.ledger.connection import Ledger
from shared.ledger.universes import Universe

Export = dict[str, Any]


@dataclass
class Run:
    """What a step works with.

    Attributes:
        steps: exports of the earlier steps of this run, by step name.
        run_id, epoch: this run's row in the ledger and its fencing token.
        earlier_steps_ms: how long the steps before this one took.
        compared_at: by venue, when this step last found its balances equal to the ledger's.
    """

    config: config.Config
    ledger: Ledger
    cache: cache.Cache
    calls: CallLog
    workflow: str
    step: str
    trace_id: str
    event_at: datetime
    run_id: int
    epoch: int
    earlier_steps_ms: float = 0.0
    steps: dict[str, Any] = field(default_factory=dict)
    compared_at: dict[str, datetime] = field(default_factory=dict)
    _universe: tuple[Config, Universe] | None = field(default=None, repr=False)

    @property
    def universe(self) -> Universe:
        """What this run trades, read once: the steps after the first take over what it has read."""
        if self._universe is None or self._universe[0] is not self.config:
            self._universe = (self.config, universes.in_force(self.ledger, self.config))
        return self._universe[1]

    @property
    def pairs(self) -> tuple[str, ...]:
        """The symbols that this run looks at: the universe, and what is held outside of it."""
        return self.universe.pairs

    def read_universe_again(self) -> Universe:
        """The universe after it was chosen anew in this run."""
        self._universe = None
        return self.universe

    def guard(self) -> None:
        """Inside a transaction: hold the lease, or raise ``LeaseLost``."""
        leases.guard(self.ledger, self.workflow, self.epoch)

    def export_of(self, step: str) -> Export:
        """What an earlier step of this run returned.

        Raises:
            DataUnavailable: the step has returned nothing.
        """
        export = self.steps.get(step, {}).get("$return_value")
        if not isinstance(export, dict):
            raise DataUnavailable(f"steps.{step}: expected an export, was {export!r}")
        return export


def run_step(
    pd: Any,
    *,
    workflow: str,
    step: str,
    body: Callable[[Run], Export],
    first: bool = False,
    last: bool = False,
) -> Any:
    """Run ``body`` inside the frame and return its export, with ``run`` added.

    An event that was worked on already, or that another run is working on, ends the workflow
    by ``pd.flow.exit`` without an error.
    """
    watch = clock.Stopwatch()
    run = _open(pd, workflow, step, first=first)
    if isinstance(run, str):
        return pd.flow.exit(run)
    try:
        export = body(run)
    except LedgerUnavailable:
        raise  # nothing can be written; the lease runs out by itself
    except LeaseLost as lost:
        _close(run, watch, error=f"{step}: {lost}")
        return pd.flow.exit(str(lost))
    except Exception as error:
        _close(run, watch, error=f"{step}: {type(error).__name__}: {error}")
        raise
    run.calls.flush(run.ledger, run.run_id)
    if last:
        _close(run, watch)
    return export | {"run": _identity(run, watch)}


def _open(pd: Any, workflow: str, step: str, *, first: bool) -> Run | str:
    """The run of this step, or the reason why there is nothing to do."""
    opened = instance.opened(pd, workflow=workflow)
    if isinstance(opened, str):
        return opened
    settings, ledger = opened
    context = _trigger(pd)
    if first:
        claimed = _claim(ledger, workflow, context)
        if isinstance(claimed, str):
            return claimed
        (run_id, epoch), elapsed_ms = claimed, 0.0
        universe = None
    else:
        run_id, epoch, elapsed_ms = _carried(pd)
        universe = _carried_universe(pd, settings)
    calls = CallLog()
    redis_url = settings.redis_url.get_secret_value() if settings.redis_url else None
    return Run(
        config=settings,
        ledger=ledger,
        cache=cache.Cache(redis_url, settings.pod, calls),
        calls=calls,
        workflow=workflow,
        step=step,
        trace_id=context["trace_id"],
        event_at=context["at"],
        run_id=run_id,
        epoch=epoch,
        earlier_steps_ms=elapsed_ms,
        steps=dict(pd.steps),
        _universe=None if universe is None else (settings, universe),
    )


def _trigger(pd: Any) -> dict[str, Any]:
    trigger = pd.steps["trigger"]
    context, event = trigger["context"], trigger["event"]
    stamp = event.get("timestamp")
    at = clock.from_ms(int(stamp) * 1000) if stamp is not None else clock.now()
    return {"trace_id": context["trace_id"], "at": at}


def _claim(ledger: Ledger, workflow: str, context: dict[str, Any]) -> tuple[int, int] | str:
    epoch = leases.acquire(ledger, workflow, context["trace_id"])
    if epoch is None:
        return f"LEASE_HELD: workflow={workflow}"
    run_id = runs.start(ledger, workflow, context["trace_id"], context["at"], epoch)
    if run_id is None:
        leases.release(ledger, workflow, epoch)
        return f"EVENT_DONE: workflow={workflow}, trace_id={context['trace_id']}"
    return run_id, epoch


def _carried(pd: Any) -> tuple[int, int, float]:
    for export in reversed(list(pd.steps.values())):
        value = export.get("$return_value") if isinstance(export, dict) else None
        if isinstance(value, dict) and "run" in value:
            run = value["run"]
            if run["build"] != BUILD:
                raise ConfigurationError(
                    f"run: build: expected {BUILD} as in this step, was {run['build']} in an "
                    "earlier one; a deployment is under way or was left half done"
                )
            return int(run["run_id"]), int(run["epoch"]), float(run["elapsed_ms"])
    raise DataUnavailable("run: expected run_id and epoch in the export of an earlier step")


def _carried_universe(pd: Any, settings: config.Config) -> Universe | None:
    """What the steps before have read; ``None`` where none of them has, and it is to be chosen."""
    for export in reversed(list(pd.steps.values())):
        value = export.get("$return_value") if isinstance(export, dict) else None
        carried = value.get("run") if isinstance(value, dict) else None
        if isinstance(carried, dict) and "universe" in carried:
            symbols = carried["universe"]
            return Universe(tuple(symbols["buyable"]), tuple(symbols["leaving"]))
    return None if settings.chooses_symbols else Universe(settings.pairs)


def _identity(run: Run, watch: clock.Stopwatch) -> Export:
    identity = _names(run, watch)
    known = run._universe
    if known is not None and known[1].pairs != run.config.pairs:
        symbols = known[1]
        identity["universe"] = {
            "buyable": list(symbols.buyable),
            "leaving": list(symbols.leaving),
        }
    return identity


def _names(run: Run, watch: clock.Stopwatch) -> Export:
    return {
        "run_id": run.run_id,
        "epoch": run.epoch,
        "workflow": run.workflow,
        "trace_id": run.trace_id,
        "pod": run.config.pod,
        "build": BUILD,
        "at_ms": clock.to_ms(run.event_at),
        "elapsed_ms": round(run.earlier_steps_ms + watch.milliseconds(), 3),
        "trading_mode": run.config.trading_mode,
    }


def _close(run: Run, watch: clock.Stopwatch, *, error: str | None = None) -> None:
    milliseconds = run.earlier_steps_ms + watch.milliseconds()
    shown = None if error is None else _without_secrets(run, error)
    runs.finish(run.ledger, run.run_id, run.epoch, duration_ms=milliseconds, error=shown)
    leases.release(run.ledger, run.workflow, run.epoch)


def _without_secrets(run: Run, text: str) -> str:
    """An error may quote an address or a header: no secret of the configuration is kept with it."""
    for secret in run.config.secrets():
        text = text.replace(secret, "(secret)")
    return text[:2_000]
