"""Pins: read whole, closed over what they bring along, and refused by line where they are wrong."""

from __future__ import annotations

from importlib import metadata

import pytest
from packaging.utils import canonicalize_name

from deploy.local.servers import PROJECT
from deploy.pipedream.pins import IMPORTED_AS, Pins
from shared.errors import ConfigurationError
from tests.pipedream.conftest import LOCK

ASKED_FOR = "requests==2.34.2  # http\n\npsycopg2-binary==2.9.13\n"


def test_a_pin_brings_along_what_it_needs_on_linux() -> None:
    pins = Pins(ASKED_FOR, LOCK)
    assert [str(pin) for pin in pins.closure(["requests"])] == [
        "requests==2.34.2",
        "urllib3==2.8.0",
    ]
    assert [str(pin) for pin in pins.closure(["psycopg2-binary"])] == ["psycopg2-binary==2.9.13"]


def test_only_what_is_asked_for_may_be_imported() -> None:
    pins = Pins(ASKED_FOR, LOCK)
    assert pins.distribution("psycopg2") == "psycopg2-binary"
    assert pins.distribution("requests") == "requests"
    assert pins.distribution("urllib3") is None


@pytest.mark.parametrize(
    ("asked_for", "lock", "message"),
    [
        ("requests>=2\n", LOCK, r"runtime.in:1: requests: expected one exact version"),
        ("requests==2.*\n", LOCK, r"runtime.in:1: requests: expected one exact version"),
        ("requests\n", LOCK, r"runtime.in:1: requests: expected one exact version"),
        ("not a requirement!\n", LOCK, r"runtime.in:1: expected name==version, was 'not a"),
        (
            "requests==2.34.2\nRequests==2.34.1\n",
            LOCK,
            r"runtime.in:2: requests: expected one pin, was 2.34.2 before and 2.34.1 here",
        ),
        ("requests==2.34.9\n", LOCK, r"requests: expected 2.34.9 as in runtime.in, was 2.34.2"),
        ("nowhere==1.0\n", LOCK, r"nowhere: expected 1.0 as in runtime.in, was nothing"),
        (ASKED_FOR, LOCK + "urllib3==2.7.0 \\\n", r"urllib3: expected one pin, was 2.8.0 before"),
    ],
)
def test_a_wrong_pin_is_named(asked_for: str, lock: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Pins(asked_for, lock)


def test_every_pin_of_the_project_is_known_by_the_name_it_is_imported_as() -> None:
    pins = Pins.read(PROJECT / "requirements")
    provided = metadata.packages_distributions()
    for root, distribution in IMPORTED_AS.items():
        assert distribution in [name.lower() for name in provided[root]]
    for line in (PROJECT / "requirements" / "runtime.in").read_text().splitlines():
        name = canonicalize_name(line.partition("==")[0])
        if line.startswith("#"):
            continue
        roots = [root for root, by in provided.items() if name in map(canonicalize_name, by)]
        assert any(pins.distribution(root) == name for root in roots), line
