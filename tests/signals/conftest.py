"""The model stand-ins, started once for each worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.signals.model_server import serve


@pytest.fixture(scope="session")
def wire_url() -> Iterator[str]:
    with serve() as address:
        yield address
