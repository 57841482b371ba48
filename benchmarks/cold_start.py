"""The scanner's step in a process of its own, cold: import seconds and peak resident memory.

``python -m benchmarks.cold_start [--symbols BTC,ETH,SOL] [--rounds 3] [--json]``

Each round is a fresh, isolated interpreter that loads the scanner's bundle as Pipedream would and
scans one minute against the local wire with an empty cache. Import seconds are of everything that
the step imports until its scan is over, early or late, as ``python -X importtime`` adds them up,
in rounds that measure nothing else: wall-clock seconds, which other work on the machine stretches.
The processor's seconds, of the whole process, it does not. Peak memory is the kernel's high-water
mark, read when the scan is over.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import timing
from deploy.local import manifest
from deploy.local.market.choose import SIMULATED_FROM_MS
from deploy.local.market.source import HOUR_MS, SourceSpec
from deploy.local.session import LocalSession, SessionOptions
from deploy.pipedream import build
from shared.ledger import connection

IMPORT_SECONDS_BOUND = 2.0
PEAK_MIB_BOUND = 140.0
_PROJECT = Path(__file__).resolve().parents[1]
_MEASURED = (
    "step_import_seconds",
    "scan_seconds",
    "processor_seconds",
    "peak_mib",
    "modules",
    "export_bytes",
)
_IMPORT_TIME = "import time:"

# Runs in the fresh interpreter. ``shared.clock`` belongs to what is measured, so that the time
# comes from the library here.
_CHILD = """
import json, os, runpy, sys, time
from types import SimpleNamespace
step, now_ms = sys.argv[1], int(sys.argv[2])
started = time.perf_counter()
handler = runpy.run_path(step)["handler"]
imported = time.perf_counter()
from shared import clock
clock.install(lambda: now_ms)
def leave(reason):
    raise SystemExit("the step left: " + str(reason))
event = {"timestamp": now_ms // 1000}
trigger = {"event": event, "context": {"trace_id": "cold-" + str(now_ms)}}
pd = SimpleNamespace(steps={"trigger": trigger}, inputs={}, flow=SimpleNamespace(exit=leave))
export = handler(pd)
scanned = time.perf_counter()
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({
    "step_import_seconds": imported - started,
    "scan_seconds": scanned - imported,
    "processor_seconds": time.process_time(),
    "peak_mib": int(peak.split()[1]) / 1024,
    "modules": len(sys.modules),
    "markets": len(export["signals"]["markets"]),
    "unserved": [m["symbol"] for m in export["signals"]["markets"] if m["venue"] is None],
    "export_bytes": len(json.dumps(export)),
}))
# Threads that wait for a slow answer do not hold up the figures.
sys.stdout.flush()
os._exit(0)
"""


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; the exit code is 1 where a bound is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cold_start")
    parser.add_argument("--symbols", default="BTC,ETH,SOL", help="default: BTC,ETH,SOL")
    parser.add_argument("--step", type=Path, help="the file; default: the scanner's bundle")
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(arguments)
    symbols = tuple(f"{base}/USDT" for base in args.symbols.split(","))
    with tempfile.TemporaryDirectory(prefix="cold-") as folder:
        result = measure(symbols, args.step or _bundled(Path(folder)), args.rounds)
    if args.json:
        timing.print_json(result)
    else:
        _print(result)
    return 0 if result["within_bounds"] else 1


def _bundled(folder: Path) -> Path:
    """The scanner's bundle, as it would be deployed now."""
    build.write(build.build(manifest.load(_PROJECT)), folder)
    return folder / "trading_loop" / "market_scanner" / build.ENTRY


def measure(symbols: tuple[str, ...], step: Path, rounds: int) -> dict[str, Any]:
    """Medians of ``rounds`` cold scans, and of as many that time imports.

    Raises:
        RuntimeError: a scan failed, or served not every symbol; holds what the process said.
    """
    spec = SourceSpec("simulated", symbols, SIMULATED_FROM_MS, 2.0 * rounds + 1, 0, None)
    database = f"cold_{os.getpid():012d}"
    scans, imports = [], []
    with LocalSession(SessionOptions(spec, database, fresh=True), dict(os.environ)) as session:
        try:
            for hour in range(2 * rounds):
                now_ms = spec.from_ms + hour * HOUR_MS
                session.advance(now_ms)
                if hour % 2:
                    imports.append(_import_seconds(_run(step, now_ms, "-X", "importtime").stderr))
                else:
                    scans.append(_scan(step, now_ms))
        finally:
            connection.close_all()
            session.servers.drop_database(database)
    medians = {name: statistics.median(scan[name] for scan in scans) for name in _MEASURED}
    import_seconds = statistics.median(imports)
    return medians | {
        "symbols": len(symbols),
        "rounds": rounds,
        "load_average": os.getloadavg()[0],
        "cores": os.cpu_count(),
        "import_seconds": import_seconds,
        "within_bounds": import_seconds <= IMPORT_SECONDS_BOUND
        and medians["peak_mib"] <= PEAK_MIB_BOUND,
    }


def _scan(step: Path, now_ms: int) -> dict[str, Any]:
    said = _run(step, now_ms).stdout.splitlines()[-1]
    scan: dict[str, Any] = json.loads(said)
    if scan["unserved"]:
        raise RuntimeError(f"no venue served {', '.join(scan['unserved'])}: {said}")
    return scan


def _run(step: Path, now_ms: int, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", *options, "-c", _CHILD, str(step), str(now_ms)]
    # A pod of its own has no lease in its way and an empty cache.
    environment = os.environ | {"POD": f"cold-{now_ms // HOUR_MS}"}
    done = subprocess.run(
        command, cwd=_PROJECT, env=environment, capture_output=True, text=True, timeout=120
    )
    if done.returncode:
        raise RuntimeError(f"the scan ended with {done.returncode}: {done.stderr[-2_000:]}")
    return done


def _import_seconds(listing: str) -> float:
    """The sum of what each module took by itself, of ``import time: self [us] | ...`` lines."""
    lines = (
        line.removeprefix(_IMPORT_TIME).partition("|")[0].strip()
        for line in listing.splitlines()
        if line.startswith(_IMPORT_TIME)
    )
    return sum(int(text) for text in lines if text.isdigit()) / 1e6


def _print(result: dict[str, Any]) -> None:
    rows = [
        ("imports, all of a scan", "s", result["import_seconds"], IMPORT_SECONDS_BOUND),
        ("imports before the handler", "s", result["step_import_seconds"], ""),
        ("cold scan, late imports included", "s", result["scan_seconds"], ""),
        ("processor time of the process", "s", result["processor_seconds"], ""),
        ("peak resident memory", "MiB", result["peak_mib"], PEAK_MIB_BOUND),
        ("modules", "", result["modules"], ""),
        ("export", "bytes", result["export_bytes"], ""),
    ]
    title = (
        f"Scanner, cold, {result['symbols']} symbols; medians of {result['rounds']} processes; "
        f"load average {result['load_average']:.1f} on {result['cores']} cores"
    )
    timing.print_table(title, ("", "unit", "median", "bound"), rows)


if __name__ == "__main__":
    sys.exit(main())
