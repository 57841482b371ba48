"""JSON Web Tokens as Coinbase wants them: ES256 or EdDSA, two minutes long, one request each."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

Verify = Callable[[bytes, bytes], None]


class BadToken(Exception):
    """A token that does not authenticate the request that it came with."""


class TokenCheck:
    """Checks tokens against the one key; ``secret`` is an EC key in PEM or Ed25519 in Base64."""

    def __init__(self, api_key: str, secret: str) -> None:
        self._api_key = api_key
        self._algorithm, self._verify = _verifier(secret)

    def check(self, authorization: str, method: str, url: str, now_seconds: float) -> None:
        """Check the header of one request, by the clock of the venue.

        Raises:
            BadToken: key, algorithm, signature, times or address are not right.
        """
        scheme, _, token = authorization.partition(" ")
        signed, _, signature = token.rpartition(".")
        head, _, body = signed.partition(".")
        if scheme != "Bearer" or not body:
            raise BadToken("Authorization: expected a bearer token")
        header, claims = _decoded(head), _decoded(body)
        if header.get("kid") != self._api_key or header.get("alg") != self._algorithm:
            raise BadToken("kid, alg: expected those of the key")
        try:
            self._verify(_raw(signature), signed.encode())
        except (InvalidSignature, ValueError) as error:
            raise BadToken("signature: does not fit the key") from error
        if not _begins(claims) <= now_seconds < _ends(claims):
            raise BadToken("nbf, exp: the token is not valid now")
        uri = f"{method} {url}"
        given = claims.get("uris") or [claims.get("uri")]
        if not {uri, uri.replace("http://", "", 1)} & set(given):
            raise BadToken(f"uri: expected {uri}")


def _begins(claims: dict[str, Any]) -> float:
    return float(claims.get("nbf", "inf"))


def _ends(claims: dict[str, Any]) -> float:
    return float(claims.get("exp", "-inf"))


def _verifier(secret: str) -> tuple[str, Verify]:
    if not secret.startswith("-----BEGIN"):
        seed = base64.b64decode(secret)[:32]
        public = ed25519.Ed25519PrivateKey.from_private_bytes(seed).public_key()
        return "EdDSA", public.verify
    key = load_pem_private_key(secret.encode(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("secret: expected an EC private key in PEM form")
    point, algorithm = key.public_key(), ec.ECDSA(hashes.SHA256())

    def verify(signature: bytes, signed: bytes) -> None:
        r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
        point.verify(encode_dss_signature(r, s), signed, algorithm)

    return "ES256", verify


def _raw(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _decoded(part: str) -> dict[str, Any]:
    try:
        value = json.loads(_raw(part))
    except (ValueError, binascii.Error) as error:
        raise BadToken("token: expected JSON in Base64") from error
    if not isinstance(value, dict):
        raise BadToken("token: expected an object")
    return value
