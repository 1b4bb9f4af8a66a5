"""The issuer's keys: given in the configuration, or fetched and kept for a while.

Fetching follows no redirect, reads a bounded answer in bounded time, and verifies TLS with the operator's CA
where one is given; plain HTTP is for loopback only, or whoever is on the way would be the issuer. A token
with an unknown `kid` causes at most one fetch in ten seconds, whoever sends how many.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import ssl
import threading
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, ProxyHandler, Request, build_opener

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from kms.clock import Clock
from kms.errors import KmsError, invalid
from kms.identity.jwt.store import JwtConfig
from kms.identity.jwt.token import PublicKey, fitting

FRESH_SECONDS: Final = 600.0
RETRY_SECONDS: Final = 10.0
FETCH_SECONDS: Final = 5.0
MAX_BYTES: Final = 256 * 1024
MAX_KEYS: Final = 100
_CHUNK: Final = 16 * 1024
_KINDS = (rsa.RSAPublicKey, ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey)


def given_keys(texts: tuple[str, ...]) -> list[PublicKey]:
    """Keys in PEM. Raises KmsError(INVALID) for one that is none, or too weak."""
    found: list[PublicKey] = []
    for text in texts:
        try:
            key = load_pem_public_key(text.encode("utf-8", "surrogatepass"))
        except (ValueError, UnsupportedAlgorithm):
            raise invalid("error parsing public key: data does not contain any valid public keys") from None
        if not isinstance(key, _KINDS) or not fitting(key):
            raise invalid("error parsing public key: take RSA from 2048 bits on, P-256/384/521 or Ed25519")
        found.append(key)
    return found


@dataclass
class _Fetched:
    config: JwtConfig
    at: float
    keys: list[tuple[str, PublicKey]]
    lock: threading.Lock = field(default_factory=threading.Lock)


class KeySources:
    """Keys of every mount, in memory. One per process, safe to use from several threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._held: dict[str, _Fetched] = {}
        self._lock = threading.Lock()

    def keys(self, mount_id: str, config: JwtConfig, kid: str) -> list[PublicKey]:
        """The keys that may have signed a token with this `kid`.

        Raises:
            KmsError(INVALID): they cannot be fetched.
        """
        if config.jwt_validation_pubkeys:
            return given_keys(config.jwt_validation_pubkeys)
        held = self._current(mount_id, config)
        with held.lock:
            age = self._clock.monotonic() - held.at
            unknown = bool(kid) and all(name != kid for name, _ in held.keys)
            if age > FRESH_SECONDS or (unknown and age > RETRY_SECONDS):
                held.at = self._clock.monotonic()  # a failure is not repeated at once either
                held.keys = self.fetch(config)
            return [key for name, key in held.keys if not kid or not name or name == kid]

    def _current(self, mount_id: str, config: JwtConfig) -> _Fetched:
        with self._lock:
            held = self._held.get(mount_id)
            if held is None or held.config != config:
                held = self._held[mount_id] = _Fetched(config, -FRESH_SECONDS, [])
            return held

    def fetch(self, config: JwtConfig) -> list[tuple[str, PublicKey]]:
        """Ask the issuer now; (kid, key) of each key that can be used. Raises KmsError(INVALID)."""
        url, ca = config.jwks_url, config.jwks_ca_pem
        if config.oidc_discovery_url:
            ca = config.oidc_discovery_ca_pem
            place = f"{config.oidc_discovery_url.rstrip('/')}/.well-known/openid-configuration"
            document = self._get(place, ca)
            if document.get("issuer") != config.oidc_discovery_url:
                raise invalid("error checking oidc discovery URL: it speaks for another issuer")
            url = str(document.get("jwks_uri") or "")
        found = self._get(url, ca).get("keys")
        if not isinstance(found, list):
            raise invalid("error checking jwks URL: the answer has no keys")
        return [pair for entry in found[:MAX_KEYS] if (pair := _usable(entry)) is not None]

    def _get(self, url: str, ca: str) -> dict[str, Any]:
        check_url(url)
        try:
            context = ssl.create_default_context(cadata=ca or None)
            opener = build_opener(ProxyHandler({}), _NoRedirect, HTTPSHandler(context=context))
            request = Request(url, headers={"Accept": "application/json"})  # noqa: S310  (checked above)
            with opener.open(request, timeout=FETCH_SECONDS) as answer:
                document = json.loads(self._read(answer))
        except (OSError, URLError, http.client.HTTPException, ssl.SSLError, ValueError) as error:
            raise invalid(f"error checking {url}: {type(error).__name__}") from None
        if not isinstance(document, dict):
            raise invalid(f"error checking {url}: not a JSON object")
        return document

    def _read(self, answer: Any) -> bytes:
        # Time-outs of a socket are per call; a server that sends a byte now and then gets no more than this.
        ends, body = self._clock.monotonic() + FETCH_SECONDS, b""
        while chunk := answer.read1(_CHUNK):
            body += chunk
            if len(body) > MAX_BYTES or self._clock.monotonic() > ends:
                raise ValueError
        return body


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_arguments: Any, **_named: Any) -> None:
        return None  # answered as the error that it is


def check_url(url: str) -> None:
    """Raise KmsError(INVALID) unless keys may be fetched there."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        parts, host = urlsplit(""), ""
    if parts.scheme == "https" and host and "@" not in parts.netloc:
        return
    if parts.scheme == "http" and _loopback(host) and "@" not in parts.netloc:
        return
    raise invalid(f"{url[:200]!r} is no https URL; plain http is for loopback addresses only")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _usable(entry: Any) -> tuple[str, PublicKey] | None:
    """A key of a JWKS (RFC 7517) that may verify signatures; others in the set are none of our business."""
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
        return None
    try:
        key = PyJWK(entry).key
    except (PyJWTError, KmsError, ValueError, TypeError):
        return None
    if not isinstance(key, _KINDS) or not fitting(key):
        return None
    return str(entry.get("kid") or ""), key
