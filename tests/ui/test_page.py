"""The page: how values are written, what it says when it knows nothing, what it never runs."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from shared import config
from shared.ledger import state
from shared.ledger.connection import Ledger
from shared.ui import charts, dashboard, page
from tests import ledger_seed as seed

NOW = datetime(2025, 5, 8, 14, 30, tzinfo=UTC)
SETTINGS = config.load({"POD": "test"})
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"' onmouseover=alert(3)"
CHROMIUM = Path("/usr/bin/chromium")


def render(ledger: Ledger, at: datetime = NOW, **options: Any) -> str:
    return page.render(dashboard.gather(ledger, SETTINGS, at), **options)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "\u2013"),
        (Decimal("1234.5"), "+1,234.50"),
        (Decimal("-0.5"), "\u22120.50"),
        (Decimal(0), "0.00"),
        (Decimal("-0.001"), "0.00"),
    ],
)
def test_signed_money(value: Decimal | None, shown: str) -> None:
    assert page.signed(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(94123.4, "94,123.40"), (1.23456, "1.2346"), (0.00001234, "0.000012"), (None, "\u2013")],
)
def test_prices_have_the_places_that_their_size_asks_for(value: float, shown: str) -> None:
    assert page.price(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [("0.10000000", "0.1"), ("100", "100"), ("0.00000001", "0.00000001"), ("1E+3", "1,000")],
)
def test_quantities_lose_no_digit_and_no_zero_that_counts(value: str, shown: str) -> None:
    assert page.quantity(Decimal(value)) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7_200, "2 h"), (172_800, "2 d"), (-5, "0 s")],
)
def test_durations(seconds: int, shown: str) -> None:
    assert page.duration(timedelta(seconds=seconds)).replace("\u202f", " ") == shown


@pytest.mark.parametrize(
    ("milliseconds", "shown"),
    [(None, "\u2013"), (0, "0 ms"), (Decimal("999.4"), "999 ms"), (1_500.0, "1.5 s"),
     (-20, "\u221220 ms"), (180_000, "3 min")],
)  # fmt: skip
def test_delays(milliseconds: Any, shown: str) -> None:
    assert page.delay(milliseconds).replace("\u202f", " ") == shown


def test_an_empty_ledger_is_told_in_words(ledger: Ledger) -> None:
    html = render(ledger)
    for words in (
        *("No position is open.", "No trade was closed", "No decision has been taken yet."),
        *("The breaker has not reported yet.", "No workflow has run", "No alert has been raised."),
        "No order was sent in the last 7 days.",
        "The curve begins with the second mark",
    ):
        assert words in html


def test_the_page_shows_what_the_ledger_holds(ledger: Ledger) -> None:
    seed.two_days(ledger, NOW)
    html = render(ledger)
    for text in (
        *("10,149.40", "PAPER", "● ACTIVE", "LIMIT ORDERS ONLY", "mean reversion", "BTC/USDT"),
        *("CORRELATION_LIMIT: correlation=0.83", "regulatory limits", "Slippage is high"),
        *("RequestTimeout", "circuit breaker", "08 May 2025 14:30:00", "SWITCH TO LIMIT ORDERS"),
    ):
        assert text in html, text
    assert html.count('<svg class="chart"') == 2
    assert 'http-equiv="refresh"' not in html


def test_a_halt_is_told_with_its_reason_and_its_end(ledger: Ledger) -> None:
    state.tighten(
        ledger, "HALTED", reason="fell 21 %", set_by="circuit_breaker", rearm_required=True
    )
    html = render(ledger, refresh_seconds=5)
    assert "Trading is halted." in html
    assert "fell 21 %" in html
    assert "trading-loop rearm" in html
    assert '<meta http-equiv="refresh" content="5">' in html


def test_execution_quality_has_a_row_for_each_venue_symbol_and_hour(ledger: Ledger) -> None:
    seed.two_days(ledger, NOW)
    html = render(ledger)
    quality = html[html.index("Execution quality") : html.index("Recent decisions")]
    for words in (
        "By venue",
        "binance",
        "By symbol",
        "SOL/USDT",
        "By hour of the day",
        "<b>13</b>",
    ):
        assert words in quality, words
    assert "· 0 orders" in quality  # no parent was worked, so there is no shortfall


def test_live_without_a_token_is_called_paper(ledger: Ledger) -> None:
    model = dashboard.gather(ledger, SETTINGS, NOW) | {"mode": "LIVE"}
    assert "NOT ARMED: PAPER" in page.render(model)
    armed = {"until": NOW + timedelta(hours=3), "by": "ada"}
    assert "ARMED UNTIL 08 May 17:30" in page.render(model | {"armed": armed})
    assert "ARMED" not in page.render(model | {"armed": armed, "mode": "PAPER"})


def test_old_figures_are_called_old(ledger: Ledger) -> None:
    seed.two_days(ledger, NOW)
    assert "These figures are old." in render(ledger, NOW + timedelta(minutes=11))
    assert "These figures are old." not in render(ledger)


class Elements(HTMLParser):
    """Collects the elements and attributes that a browser would act on."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)


def poison(ledger: Ledger) -> None:
    """Put markup wherever a venue, a model or a person can put text."""
    seed.two_days(ledger, NOW)
    for statement in (
        "UPDATE decisions SET reasoning = %s, strategy = %s",
        "UPDATE positions SET symbol = %s || position_id, strategy = %s",
        "UPDATE alerts SET title = %s, body = %s",
        "UPDATE intents SET venue = %s, symbol = %s",
        "UPDATE venue_calls SET last_error = %s, venue = %s WHERE venue = 'kraken'",
        "UPDATE runs SET error = %s, status = 'FAILED', trace_id = trace_id || %s",
        "UPDATE trading_state SET reason = %s, set_by = %s, state = 'HALTED'",
        "UPDATE health SET status = %s, actions = jsonb_build_array("
        "jsonb_build_object('action', 'X', 'reason', %s::text))",
    ):
        ledger.execute(statement, (HOSTILE, HOSTILE))


def test_hostile_text_stays_text(ledger: Ledger) -> None:
    poison(ledger)
    html = render(ledger)
    elements = Elements()
    elements.feed(html)
    assert not elements.tags & {"script", "img", "iframe", "object", "form"}
    assert not {name for name in elements.attributes if name.startswith("on")}
    assert "style" not in elements.attributes  # the policy would drop it
    assert html.count("&lt;script&gt;alert(1)") > 30


def test_the_policy_names_exactly_the_style_sheet_of_the_page(ledger: Ledger) -> None:
    (css,) = re.findall(r"<style>(.*?)</style>", render(ledger), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    policy = page.headers()["Content-Security-Policy"]
    assert f"style-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize(
    ("low", "high", "steps", "expected"),
    [
        (0, 10, 2, [0, 5, 10]),
        (9_984, 10_183, 4, [10_000, 10_050, 10_100, 10_150]),
        (-1.5, 0, 3, [-1.5, -1.0, -0.5, 0]),
    ],
)
def test_grid_lines_lie_at_round_values(
    low: float, high: float, steps: int, expected: list[float]
) -> None:
    assert charts.round_values(low, high, steps) == expected


def test_one_point_makes_no_chart() -> None:
    assert charts.equity_chart([(NOW, 1.0)]) is None
    assert charts.drawdown_chart([]) is None


def test_a_flat_line_is_drawn() -> None:
    chart = charts.equity_chart([(NOW, 1.0), (NOW + timedelta(minutes=1), 1.0)])
    assert chart is not None
    assert "nan" not in chart


@pytest.mark.parametrize(
    ("used", "tone"), [(None, "calm"), (0.5, "calm"), (0.7, "warn"), (0.95, "down"), (3, "down")]
)
def test_bars_turn_red_near_their_limit(used: float | None, tone: str) -> None:
    assert f'class="fill {tone}"' in charts.bar(used)
    assert 'class="fill calm"' in charts.bar(used, alarming=False)


@pytest.fixture
def browser_page() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip(f"there is no {CHROMIUM}: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser.new_page(viewport={"width": 1440, "height": 900})
        browser.close()


@pytest.mark.browser
def test_a_browser_shows_the_page_runs_nothing_and_asks_nobody(
    ledger: Ledger, tmp_path: Path, browser_page: Any
) -> None:
    poison(ledger)
    file = tmp_path / "dashboard.html"
    file.write_text(render(ledger), encoding="utf-8")
    said: list[str] = []
    asked: list[str] = []
    browser_page.on("console", lambda message: said.append(message.text))
    browser_page.on("pageerror", lambda error: said.append(str(error)))
    browser_page.on("dialog", lambda dialog: said.append(dialog.message) or dialog.dismiss())
    browser_page.on("request", lambda request: asked.append(request.url))
    browser_page.goto(file.as_uri())
    text = browser_page.inner_text("body")
    assert "10,149.40" in text
    assert "Trading is halted." in text
    assert HOSTILE.split(">")[0] in text
    assert browser_page.locator("svg.chart").count() == 2
    # The style sheet is in force although the policy allows no other.
    figure = browser_page.locator(".figures dd.main").first
    assert figure.evaluate("element => getComputedStyle(element).fontSize") == "23px"
    content, window = browser_page.evaluate("[document.body.scrollWidth, window.innerWidth]")
    assert content <= window
    assert (said, asked) == ([], [file.as_uri()])
