"""How requests to the venues are signed, as their documentation describes it."""

from __future__ import annotations

import base64
import hashlib
import hmac


def hmac_sha256_hex(secret: str, payload: bytes) -> str:
    """Binance: HMAC-SHA256 of the query string followed by the body, in hexadecimal."""
    return hmac.new(secret.encode(), payload, hashlib.sha256).hexdigest()


def kraken_signature(secret: str, path: str, nonce: str, body: bytes) -> str:
    """Kraken: HMAC-SHA512 of the path and of SHA-256(nonce + body), both in Base64."""
    digest = hashlib.sha256(nonce.encode() + body).digest()
    mac = hmac.new(base64.b64decode(secret), path.encode() + digest, hashlib.sha512)
    return base64.b64encode(mac.digest()).decode()


def same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())
