"""Feeds that are broken, hostile, or not feeds; and addresses that lead where nothing should go."""

from __future__ import annotations

import gzip
import itertools
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import DataUnavailable
from shared.market.sentiment import feeds, web
from tests.market.fakes import NOW_MS
from tests.market.news_server import Site, Write, feed, item, rss, serve

NOW_S = NOW_MS // 1000
ATOM = (
    b'<feed xmlns="http://www.w3.org/2005/Atom"><title>n</title><entry><title type="html">'
    b"&lt;b&gt;Ether&lt;/b&gt; slides</title><updated>2025-05-06T00:00:00Z</updated></entry></feed>"
)
LAUGHS = "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in itertools.pairwise("abcdefghijk"))
BOMB = f'<!DOCTYPE x [<!ENTITY a "lol">{LAUGHS}]>'
LONG = f'<!DOCTYPE x [<!ENTITY k "{"A" * 60_000}">]>'
OUTSIDE = '<!DOCTYPE x [<!ENTITY k SYSTEM "file:/etc/passwd">]>'


@pytest.fixture
def site() -> Iterator[Site]:
    with serve() as started:
        yield started


def titles(body: bytes) -> list[str]:
    return [entry.title for entry in feeds.parse(body)]


def test_rss_and_atom() -> None:
    assert feeds.parse(rss("Bitcoin &amp; <i>Ether</i>", "b", at_ms=NOW_MS)) == [
        feeds.Entry("Bitcoin & Ether", NOW_MS),
        feeds.Entry("b", NOW_MS - 60_000),
    ]
    assert feeds.parse(ATOM) == [feeds.Entry("Ether slides", NOW_MS)]


@pytest.mark.parametrize("encoding", ["utf-8", "iso-8859-1", "utf-16", "windows-1252"])
def test_encodings(encoding: str) -> None:
    text = rss("Sólana à la cárte").decode().replace("utf-8", encoding)
    assert titles(text.encode(encoding)) == ["Sólana à la cárte"]


def test_latin_1_that_says_it_is_utf_8() -> None:
    assert titles(rss("Crédit").decode().encode("latin-1")) == ["Crédit"]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "expected RSS or Atom"),
        (
            b"<!doctype html><html><head><title>503</title></head><body>x</body></html>",
            "RSS or Atom",
        ),
        (b'{"error": "no feed"}', "RSS or Atom"),
        (b"\x00" * 5_000, "expected RSS or Atom"),
        (feed(""), "no entry"),
        (feed("<item><title>Bitcoin</title></item>"), "no entry with a title and a time"),
        (feed("<item><title>B</title><pubDate>soon</pubDate></item>"), "no entry with a title"),
        (feed(item("\u200b", NOW_MS)), "no entry with a title and a time"),
        (feed("<a>" * 20_001), "more than 20000 tags"),
        (feed("&amp;" * 20_001), "more than 20000 tags or entities"),
    ],
)
def test_what_is_no_feed_is_refused_by_name(body: bytes, why: str) -> None:
    with pytest.raises(DataUnavailable, match=why):
        feeds.parse(body)


def test_broken_xml_gives_what_is_whole_in_it() -> None:
    assert titles(rss("Bitcoin", "Ether")[:-40])[:1] == ["Bitcoin"]
    assert titles(feed(item("Bitcoin", NOW_MS) + "<p>&nbsp;<br>")) == ["Bitcoin"]


@pytest.mark.parametrize("declared", [BOMB, LONG, OUTSIDE, BOMB.replace("<!ENTITY", "<!Entity")])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32", "utf-7", "cp037"])
@pytest.mark.parametrize("end", ["", "<p>"])  # `<p>` makes it broken XML
def test_declared_entities_are_never_expanded(declared: str, encoding: str, end: str) -> None:
    title = f"Bitcoin {'&k;' * 2_000}"
    items = f"<item><title>{title}</title><pubDate>2025-05-06T00:00Z</pubDate></item>{end}"
    start = f'<?xml version="1.0" encoding="{encoding}"?>{declared}<rss version="2.0">'
    body = f"{start}<channel>{items}</channel></rss>".encode(encoding)
    with pytest.raises(DataUnavailable, match="declares entities|expected RSS or Atom"):
        feeds.parse(body)


@given(st.binary(max_size=400) | st.lists(st.sampled_from(
    ["<rss>", "<item>", "<title>", "</title>", "<pubDate>", "0000-13-99", "<![CDATA[", "<!", "&#x;",
     "<feed>", "<entry>", "]]>", "<?xml", "\x00", "&lol;", "<a:b>", "9" * 20]), max_size=30)
    .map(lambda parts: "".join(parts).encode()))  # fmt: skip
def test_any_bytes_are_a_feed_or_unavailable(body: bytes) -> None:
    try:
        assert all(entry.title for entry in feeds.parse(b"<rss version='2.0'>" + body))
    except DataUnavailable:
        return


# Fetching


def inside(site: Site) -> web.Fence:
    return web.fence([f"{site.base}/news/rss"], stand_in=True)


def fetch(site: Site) -> bytes:
    return web.get(f"{site.base}/news/rss", inside(site))


def test_the_body_is_what_was_sent_whatever_its_type(site: Site) -> None:
    assert fetch(site) == site.body


def test_a_body_of_100_mb_is_left_after_512_kb(site: Site) -> None:
    sent: list[int] = []

    def pour(write: Write) -> None:
        for _ in range(1_600):
            write(b"x" * 65_536)
            sent.append(65_536)

    site.stream = pour
    with pytest.raises(DataUnavailable, match="longer than 524288 bytes"):
        fetch(site)
    assert sum(sent) < 20_000_000  # what lies in the buffers of two sockets
    site.stream, site.body = None, b"x" * web.MAX_BYTES
    assert len(fetch(site)) == web.MAX_BYTES


def test_a_body_that_drips_is_left_when_the_time_is_up(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "TOTAL_S", 0.0)
    site.stream = lambda write: [write(b"<") for _ in range(100_000)]
    with pytest.raises(DataUnavailable, match="not complete after"):
        fetch(site)


def test_silence_is_left_after_the_time_out(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "TIMEOUT_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as mute:  # takes connections and says nothing
        url = f"http://127.0.0.1:{mute.getsockname()[1]}/"
        with pytest.raises(DataUnavailable, match="ReadTimeout"):
            web.get(url, web.fence([url], stand_in=True))


def test_a_compressed_body_is_not_unpacked(site: Site) -> None:
    site.headers["Content-Encoding"], site.body = "gzip", gzip.compress(b"x" * 10_000_000)
    with pytest.raises(DataUnavailable, match="compressed, though asked not to be"):
        fetch(site)


def test_a_body_that_is_cut_is_refused(site: Site) -> None:
    site.headers["Content-Length"] = "9999"
    site.stream = lambda write: write(b"<rss>")
    with pytest.raises(DataUnavailable, match="ProtocolError|IncompleteRead"):
        fetch(site)


@pytest.mark.parametrize("status", [204, 304, 403, 404, 429, 500])
def test_any_status_but_200_is_refused(site: Site, status: int) -> None:
    site.status, site.body = status, b""
    with pytest.raises(DataUnavailable, match=f"HTTP {status}"):
        fetch(site)


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/",
        "https://elsewhere.example/rss",
        "file:/etc/passwd",
        "http://localhost/news/rss",
        "https://127.0.0.1/news/rss",
        "//evil.example/rss",
        "http://127.0.0.1:99999999/",
        "http://[::1",
    ],
)
def test_a_redirect_leads_to_configured_addresses_only(site: Site, location: str) -> None:
    site.status, site.headers["Location"] = 302, location
    with pytest.raises(DataUnavailable, match="not configured|malformed address"):
        fetch(site)
    assert len(site.asked) == 1


def test_redirects_within_the_site_are_followed_three_times(site: Site) -> None:
    site.status, site.headers["Location"] = 308, "/elsewhere"
    with pytest.raises(DataUnavailable, match="more than 3 redirects"):
        fetch(site)
    assert site.asked == ["/news/rss", "/elsewhere", "/elsewhere", "/elsewhere"]


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_name_that_ends_at_an_internal_address_hears_nothing(
    site: Site, scheme: str, host: str
) -> None:
    url = f"{scheme}://{host}:{site.port}/news/rss"
    with pytest.raises(DataUnavailable, match="resolves to an internal address"):
        web.get(url, web.fence([url]))
    assert site.asked == []


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("1.1.1.1", True),
        ("2606:4700::1111", True),
        ("10.0.0.1", False),
        ("172.16.3.4", False),
        ("192.168.1.1", False),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),  # noqa: S104 - an address to refuse
        ("224.0.0.1", False),
        ("::1", False),
        ("fd00::1", False),
        ("fe80::1%eth0", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:1.1.1.1", True),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert web.is_public(address) is public


def test_an_environments_proxy_is_not_used(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    assert fetch(site) == site.body
