"""Nothing is bought with a quote currency that has lost its peg, or of which nobody knows."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from shared import clock
from shared.errors import OrderDenied
from shared.risk import lately
from shared.risk.controls import prices
from shared.risk.lately import Lately
from tests.peg_rows import tell_worth
from tests.risk.gate_bench import judge
from tests.risk.gate_case import case, verdict
from tests.risk.world import World, dec, ticket

USDC_2023 = "1m-2023-03-earlier.parquet"


@pytest.mark.parametrize(
    ("direct", "crosses", "code"),
    [
        (["1"], None, None),
        (["0.99"], None, None),
        (["0.98999"], None, "QUOTE_PEG"),
        (["1.01"], None, None),
        (["1.01001"], None, "QUOTE_PEG"),
        (["1", "0.98"], None, "QUOTE_PEG"),  # one source is enough to doubt
        (["1"], ["0.9"], None),  # the other stablecoin's fault, as USDT/USD shows
        (None, ["0.99"], None),
        (None, ["1.02"], "QUOTE_PEG"),
        (None, None, "QUOTE_PEG_UNKNOWN"),
        (["0"], None, "MARKET_NUMBER"),
        (["NaN"], None, "MARKET_NUMBER"),
    ],
)
def test_the_limit(direct: list[str] | None, crosses: list[str] | None, code: str | None) -> None:
    def numbers(told: list[str] | None) -> list[Decimal] | None:
        return None if told is None else [dec(worth) for worth in told]

    worths = {"quote_worths": numbers(direct), "quote_cross_worths": numbers(crosses)}
    assert verdict(case(**worths)) == code
    assert verdict(case("exit", **worths)) is None
    assert verdict(case("protect", **worths)) is None


def test_a_currency_of_a_state_has_no_peg_to_lose() -> None:
    untold = {"quote_worths": None, "quote_cross_worths": None}
    assert paid_in("USD", untold) is None
    assert paid_in("USDC", untold) == "QUOTE_PEG_UNKNOWN"


def paid_in(currency: str, worths: dict[str, Any]) -> str | None:
    """The verdict of this control alone over an entry that ``currency`` pays for."""
    try:
        prices.quote_peg(case(settings={"quote_currency": currency}, **worths))
    except OrderDenied as denied:
        return denied.code
    return None


def asked(world: World, position_id: int) -> Lately:
    return lately.fetch(world.run, ticket(), position_id, None, clock.now_ms())


def test_worths_are_read_from_either_side_and_by_pod(world: World, position: int) -> None:
    tell_worth(world.ledger, "0.98", venue="coinbase")
    tell_worth(world.ledger, "1.25", venue="binance", pair="USDC/USDT")
    tell_worth(world.ledger, "0.7", venue="kraken", pair="USDT/USDC")
    tell_worth(world.ledger, "0.5", venue="kraken", pair="USDC/USD")  # of another currency
    tell_worth(world.ledger, "0.5", venue="binance", pair="USDT/USD", pod="other")
    found = asked(world, position)
    assert sorted(found.quote_worths or []) == [dec("0.98"), dec(1)]
    assert sorted(found.quote_cross_worths or []) == [dec("0.7"), dec("0.8")]


@pytest.mark.parametrize(("age_s", "code"), [(599, None), (600, "QUOTE_PEG_UNKNOWN")])
def test_what_was_told_long_ago_proves_nothing(
    world: World, position: int, age_s: int, code: str | None
) -> None:
    tell_worth(world.ledger, at=clock.now() - timedelta(seconds=age_s))
    assert judge(world, position_id=position) == code


def test_the_gate_reads_the_ledger(world: World, position: int) -> None:
    tell_worth(world.ledger, "0.9899")
    assert judge(world, position_id=position) == "QUOTE_PEG"
    tell_worth(world.ledger, "0.9901")
    assert judge(world, position_id=position) is None


@pytest.mark.recorded_data
def test_usdc_in_march_2023(market_data_dir: Path) -> None:
    """Circle told of 3.3 billion in the failed bank at midnight UTC of 11 March (Reuters), the peg
    broke by 4:00 (CNBC), and Kraken traded down to 0.874."""
    import pandas as pd

    def closes(pair: str) -> pd.Series:
        rows = pd.read_parquet(market_data_dir / "kraken" / pair / USDC_2023)
        return rows.set_index(pd.to_datetime(rows["timestamp"], unit="ms"))["close"]

    def denied(pair: str, currency: str, since: str, until: str) -> float:
        """The share of minutes with trades in which nothing may be bought."""
        told = closes(pair).loc[since:until]
        verdicts = [paid_in(currency, {"quote_worths": [dec(close)]}) for close in told.unique()]
        bad = {c for c, v in zip(told.unique(), verdicts, strict=True) if v == "QUOTE_PEG"}
        assert set(verdicts) <= {None, "QUOTE_PEG"}
        return float(told.isin(bad).mean())

    assert denied("USDC-USD", "USDC", "2023-03-01", "2023-03-10 20:00") == 0
    assert denied("USDC-USD", "USDC", "2023-03-11 04:00", "2023-03-11 23:59") == 1
    # Who fled into tethers paid up to 1.3 % above their dollar: for some hours that is no peg.
    assert 0 < denied("USDT-USD", "USDT", "2023-03-11", "2023-03-11 23:59") < 0.5
