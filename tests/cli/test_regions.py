"""Which venues serve whom, and what a venue's refusal means."""

from __future__ import annotations

import ccxt
import pytest

from deploy.cli import checks, regions
from shared import config
from tests.cli.test_checks import Exchange


def verdicts(**variables: str) -> dict[str, tuple[str, str]]:
    found = regions.checks(config.load(variables))
    return {check.name: (check.verdict, check.detail) for check in found}


@pytest.mark.parametrize(
    ("region", "venues", "refused"),
    [
        ("us", "binance,coinbase,kraken", "binance"),
        ("us", "binanceus,coinbase,kraken", None),
        ("eu", "binance,coinbase,kraken", None),
        ("eu", "binanceus", "binanceus"),
        ("ca", "binance,kraken", "binance"),
        ("uk", "binance", "binance"),
        ("other", "binance,kraken", None),
    ],
)
def test_a_venue_that_does_not_serve_the_region_fails(
    region: str, venues: str, refused: str | None
) -> None:
    verdict, detail = verdicts(REGION=region, VENUES=venues)["region"]
    assert verdict == ("OK" if refused is None else "FAIL")
    assert refused is None or detail == f"{refused}: take no customers of {region}"


def test_a_region_that_nobody_has_told_is_a_warning() -> None:
    assert verdicts(VENUES="kraken")["region"] == ("WARN", "REGION is not set")


@pytest.mark.parametrize(
    ("venues", "warned"), [("binance,kraken", True), ("kraken", False), ("binanceus", False)]
)
def test_pipedreams_own_place_is_warned_of_whatever_the_region(venues: str, warned: bool) -> None:
    assert ("US addresses" in verdicts(REGION="other", VENUES=venues)) is warned


@pytest.mark.parametrize(
    ("region", "quote", "warned"),
    [("eu", "USDT", True), ("eu", "USDC", False), ("us", "USDT", False)],
)
def test_tether_in_the_eu_is_warned_of(region: str, quote: str, warned: bool) -> None:
    found = verdicts(REGION=region, QUOTE_CURRENCY=quote, VENUES="kraken")
    assert ("quote currency" in found) is warned


def test_every_venue_stands_in_the_table() -> None:
    assert set(regions.SERVED) == set(config.VenueName.__args__)  # type: ignore[attr-defined]


def refused_by_ccxt(status: int) -> Exception:
    """The error that ccxt itself makes of a status."""
    venue = ccxt.binance()
    with pytest.raises(ccxt.ExchangeNotAvailable) as caught:
        venue.handle_http_status_code(
            status, "Unavailable", "https://api.binance.com/api/v3/time", "GET", '{"code": 0}'
        )
    return caught.value


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (refused_by_ccxt(451), "HTTP 451: the venue does not serve the place"),
        (refused_by_ccxt(403), "HTTP 403: the venue or its firewall refuses this address"),
        (refused_by_ccxt(500), "ExchangeNotAvailable"),
        (ccxt.NetworkError("binance GET https://x 200 order 451"), "NetworkError"),
    ],
)
def test_doctor_says_what_a_refusal_means(error: Exception, told: str) -> None:
    found = checks.venue_clock("binance", Exchange(error))
    assert found.verdict == "FAIL"
    assert found.detail.startswith(told)
