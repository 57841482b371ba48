"""The processes that share a sweep, and what they report."""

from __future__ import annotations

import multiprocessing
import queue
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import uvloop
from rich.console import Console

from deploy.local.sweep.campaign import Plan, Worker
from deploy.local.sweep.journal import Journal
from deploy.local.sweep.report import Report

_TOLD_EVERY_S = 15.0


def sweep(plan: Plan, console: Console, journal: Journal) -> Report:
    """Let the workers do what ``journal`` does not have yet, and tell how far they are."""
    report = Report()
    for message in journal.earlier:
        report.add(message)
    plan = replace(plan, done=journal.done)
    context = multiprocessing.get_context("spawn")
    messages: multiprocessing.Queue[dict[str, Any]] = context.Queue()
    workers = [
        context.Process(target=_work, args=(plan, share, messages)) for share in range(plan.workers)
    ]
    for worker in workers:
        worker.start()
    told_at, kinds, failed = time.monotonic(), Counter[str](), ""
    while kinds["done"] + kinds["failed"] < plan.workers:
        try:
            message = messages.get(timeout=1.0)
        except queue.Empty:
            if not any(worker.is_alive() for worker in workers):
                failed = failed or "every worker has ended without a word"
                break
            continue
        kinds[message["kind"]] += 1
        report.add(message)
        journal.add(message)
        failed = message.get("error", failed) if message["kind"] == "failed" else failed
        if time.monotonic() - told_at > _TOLD_EVERY_S:
            told_at = time.monotonic()
            _tell(console, report, message)
    for worker in workers:
        worker.join()
    if failed:
        report.unprepared["a worker"] = failed
    return report


def _tell(console: Console, report: Report, message: dict[str, Any]) -> None:
    tally = report.tallies["ours"]
    console.print(
        f"{message.get('scenario', message.get('stage', ''))}: "
        f"{sum(tally.cases.values()):,} cases, {tally.runs:,} runs, "
        f"{len(tally.failures):,} with violations",
        highlight=False,
    )


def _work(plan: Plan, share: int, messages: multiprocessing.Queue[dict[str, Any]]) -> None:
    uvloop.run(Worker(plan, share, messages.put).run())
