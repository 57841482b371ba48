"""Starts the simulated wire as a child process and speaks to its control interface."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import requests

from deploy.local.market.source import SourceSpec
from deploy.local.wire.faults.rules import FaultRule
from shared.errors import ConfigurationError, TradingLoopError

_ROOT = Path(__file__).parents[3]
_START_SECONDS = 60.0
_STOP_SECONDS = 5.0
_CALL_SECONDS = 30.0

VenueCredentials = dict[str, dict[str, str]]


class WireFailed(TradingLoopError):
    """The simulated wire did not start, or no longer answers."""


def make_credentials(seed: int) -> VenueCredentials:
    """Keys for the simulated venues, ``{venue: {"api_key", "secret"}}``, fixed by the seed.

    They open nothing but a simulated venue. Coinbase's is an EC key in PEM form. Binance US takes
    Binance's: the configuration has one pair of keys for the two regions.
    """
    # The keys guard play money on one machine: being reproducible is worth more than being secret.
    source = random.Random(f"wire credentials {seed}")  # noqa: S311
    binance = {"api_key": source.randbytes(32).hex(), "secret": source.randbytes(32).hex()}
    return {
        "binance": binance,
        "binanceus": dict(binance),
        "coinbase": {
            "api_key": f"organizations/{source.randbytes(8).hex()}/apiKeys/simulated",
            "secret": _ec_pem(source),
        },
        "kraken": {
            "api_key": b64encode(source.randbytes(42)).decode(),
            "secret": b64encode(source.randbytes(64)).decode(),
        },
    }


def key_variables(credentials: VenueCredentials) -> dict[str, str]:
    """The keys by the names of the configuration, which has one pair for Binance's two regions."""
    named = {}
    for venue, keys in credentials.items():
        family = "BINANCE" if venue == "binanceus" else venue.upper()
        named[f"{family}_API_KEY"] = keys["api_key"]
        named[f"{family}_SECRET"] = keys["secret"]
    return named


def _ec_pem(source: random.Random) -> str:
    """A P-256 private key in the form of Coinbase's key files."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.derive_private_key(source.getrandbits(255) | 1, ec.SECP256R1())
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    ).decode()


class WireProcess:
    """A running wire. Use as a context manager, or call ``stop``.

    Attributes:
        base_url: ``http://127.0.0.1:PORT``, what ``SIMULATED_WIRE_URL`` is set to.
        credentials: the keys that its venues accept.
    """

    def __init__(
        self, process: subprocess.Popen[str], port: int, credentials: VenueCredentials
    ) -> None:
        self._process = process
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy has no business between two local processes
        self.base_url = f"http://127.0.0.1:{port}"
        self.credentials = credentials

    def advance(self, now_ms: int) -> None:
        """Move the market's time on; resting orders are matched on the way.

        Raises:
            WireFailed: the process does not answer, or ``now_ms`` lies in its past.
        """
        self._call("POST", "/_control/advance", {"now_ms": now_ms})

    def accounts(self) -> dict[str, Any]:
        """Balances, orders and fills of every venue, amounts as text. Raises ``WireFailed``."""
        return self._call("GET", "/_control/accounts")

    def stats(self) -> dict[str, int]:
        """Requests served, by route. Raises ``WireFailed``."""
        return self._call("GET", "/_control/stats")

    def faults(self, rules: Sequence[FaultRule], seed: int = 0) -> None:
        """Replace the rules of the fault layer; ``faults.rules`` writes them.

        Raises:
            WireFailed: a rule is wrong; the message names its field.
        """
        self._call("POST", "/_control/faults", {"seed": seed, "rules": list(rules)})

    def injected(self) -> dict[str, Any]:
        """Each rule with its counts, and late requests; see ``FaultLayer.report``."""
        return self._call("GET", "/_control/faults")

    def clear_faults(self) -> None:
        """End all faults. Requests that are late still arrive."""
        self._call("DELETE", "/_control/faults")

    def configure_venue(self, venue: str, **settings: Any) -> None:
        """Change how a venue behaves; see ``Personality.configure``.

        Raises:
            WireFailed: there is no such venue or setting; the message names it.
        """
        self._call("POST", "/_control/venue", {"venue": venue, **settings})

    def snapshot(self) -> int:
        """Keep the state of all venues in the process; the id to go back to it by."""
        return int(self._call("POST", "/_control/snapshot")["id"])

    def restore(self, snapshot_id: int) -> None:
        """Put venues, time, late requests and fault counters back to a snapshot.

        Raises:
            WireFailed: it is not one of the newest that the process keeps.
        """
        self._call("POST", "/_control/restore", {"id": snapshot_id})

    def stop(self) -> None:
        """End the process; more than once does no harm."""
        self._session.close()
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def __enter__(self) -> WireProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        try:
            answer = self._session.request(
                method, self.base_url + path, json=body, timeout=_CALL_SECONDS
            )
        except requests.RequestException as error:
            raise WireFailed(f"{method} {path}: no answer, {error}") from error
        if answer.status_code != 200:
            raise WireFailed(f"{method} {path}: HTTP {answer.status_code}, {answer.text[:200]}")
        return answer.json()


def start_wire(
    spec: SourceSpec,
    *,
    now_ms: int,
    balances: Mapping[str, Mapping[str, Decimal]],
    seed: int = 0,
    credentials: VenueCredentials | None = None,
    port: int = 0,
) -> WireProcess:
    """Start the wire and wait until it listens.

    Args:
        spec: the market that its venues show.
        now_ms: the virtual time to start at.
        balances: by venue and currency, for example ``{"binance": {"USDT": Decimal(1000)}}``.
        seed: of what the source does not know: bases, books, public trades, made-up keys.
        credentials: the keys to accept; made from the seed where absent.
        port: 0 for any that is free.

    Raises:
        ConfigurationError: an amount is not finite or is negative, or the market source that
            ``spec`` names cannot be opened.
        WireFailed: the process ended, or did not listen in time.
    """
    keys = make_credentials(seed) if credentials is None else credentials
    command = [
        *(sys.executable, "-m", "deploy.local.wire.server"),
        *("--spec", spec.to_json(), "--port", str(port), "--seed", str(seed)),
        *("--balances", json.dumps(_balances(balances)), "--credentials", json.dumps(keys)),
        *("--now-ms", str(now_ms)),
    ]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
        start_new_session=True,  # Ctrl-C reaches this process alone, which stops the wire in turn
    )
    try:
        listening_port = _wait_for_port(process)
    except BaseException:
        process.kill()
        process.wait()
        raise
    return WireProcess(process, listening_port, keys)


def _balances(balances: Mapping[str, Mapping[str, Decimal]]) -> dict[str, dict[str, str]]:
    for venue, amounts in balances.items():
        for currency, amount in amounts.items():
            if not amount.is_finite() or amount < 0:
                raise ConfigurationError(
                    f"balances.{venue}.{currency}: expected 0 or more, was {amount}"
                )
    return {
        venue: {currency: format(amount, "f") for currency, amount in amounts.items()}
        for venue, amounts in balances.items()
    }


def _wait_for_port(process: subprocess.Popen[str]) -> int:
    """The port that the process announces in its first line."""
    import selectors

    assert process.stdout is not None
    deadline = time.monotonic() + _START_SECONDS
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        ready = selector.select(max(0.0, deadline - time.monotonic()))
    line = process.stdout.readline() if ready else ""
    if not line:
        process.kill()
        process.wait()
        raise WireFailed(
            f"the simulated wire did not start within {_START_SECONDS:.0f} s, "
            f"exit code {process.returncode}"
        )
    announced = json.loads(line)
    if "error" in announced:
        process.wait()
        raise ConfigurationError(announced["error"])
    return int(announced["port"])
