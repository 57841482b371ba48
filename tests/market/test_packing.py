"""Tables without names, and back: nothing is lost, nothing is invented."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.market import packing

values = st.floats(allow_nan=False) | st.text(max_size=3) | st.lists(st.integers(), max_size=2)
tables = st.dictionaries(st.sampled_from("abcdef"), values, max_size=6)
deep = st.dictionaries(st.sampled_from(("1m", "1h")), tables.filter(bool), max_size=2)
markets = st.lists(
    st.fixed_dictionaries(
        {"symbol": st.text(max_size=3), "indicators": deep, "order_flow": st.none() | tables},
        optional={"anomaly": st.text(max_size=3), "settling": deep, "missing": st.just(["x"])},
    ),
    max_size=5,
)


@given(markets)
def test_what_was_packed_comes_back(found: list[dict[str, Any]]) -> None:
    carried = json.loads(json.dumps(packing.pack(found)))
    assert packing.unpack(carried) == found


def test_a_name_is_written_once() -> None:
    row = {"symbol": "X", "indicators": {"1m": {"rsi_14": 50.0}}}
    packed = packing.pack([row] * 20)
    assert json.dumps(packed).count("rsi_14") == 1
    assert packed["columns"] == {"indicators": ["1m.rsi_14"]}
    assert packed["markets"][0] == {"symbol": "X", "indicators": [50.0]}


def test_signals_of_before_are_read_as_they_are() -> None:
    assert packing.unpack({"markets": [{"symbol": "X"}]}) == [{"symbol": "X"}]


def test_a_name_with_a_dot_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a\.b: expected a name without a dot"):
        packing.pack([{"indicators": {"a.b": 1.0}}])


def test_brief_keeps_prices_and_the_first_notes() -> None:
    market = {
        "symbol": "X",
        "indicators": {"1h": {"close": 104_765.1449, "closed_at_ms": 1_747_744_200_000}},
        "microstructure": {"mid": 104_765.1449},
        "missing": [f"note {number} {'x' * 200}" for number in range(11)],
    }
    shown = packing.brief(market)
    assert shown["microstructure"] == market["microstructure"]
    assert shown["indicators"] == {"1h": {"close": 104_765.0, "closed_at_ms": 1_747_744_200_000}}
    assert len(shown["missing"]) == 9
    assert shown["missing"][0] == ("note 0 " + "x" * 200)[:90]
    assert shown["missing"][-1] == "and 3 more"
    assert len(market["missing"]) == 11
