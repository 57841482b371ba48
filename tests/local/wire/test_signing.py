"""Signatures against the examples that the venues publish."""

from __future__ import annotations

from deploy.local.wire.venues.signing import hmac_sha256_hex, kraken_signature


def test_binance_example() -> None:
    """Binance spot API, "SIGNED endpoint examples for POST /api/v3/order", HMAC keys."""
    secret = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"
    payload = (
        b"symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1"
        b"&recvWindow=5000&timestamp=1499827319559"
    )
    expected = "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71"
    assert hmac_sha256_hex(secret, payload) == expected


def test_kraken_example() -> None:
    """Kraken REST API, "Authentication", the table of test values."""
    secret = (
        "kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg=="
    )
    body = b"nonce=1616492376594&ordertype=limit&pair=XBTUSD&price=37500&type=buy&volume=1.25"
    expected = (
        "4/dpxb3iT4tp/ZCVEwSnEsLxx0bqyhLpdfOpc6fn7OR8+UClSV5n9E6aSS8MPtnRfp32bAb0nmbRn6H8ndwLUQ=="
    )
    assert kraken_signature(secret, "/0/private/AddOrder", "1616492376594", body) == expected
