"""The issuer's keys: given in the configuration, or fetched, from one place or several, and kept for a while.

A token with an unknown `kid` causes at most one fetch of each place in ten seconds, whoever sends how many.

While a place is down its keys stay good, for an hour from when it last answered: an outage of minutes should keep nobody
out, and whoever can keep us from the place should not thereby keep a key alive that was withdrawn. (The peer's library
asks again only for keys that it does not know: there a withdrawn key is good until the server restarts.)
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt import PyJWK
from jwt.exceptions import PyJWTError
from msgspec.structs import replace

from kms.clock import Clock
from kms.errors import KmsError, invalid
from kms.identity.jwt import pod
from kms.identity.jwt.store import JwtConfig
from kms.identity.jwt.token import PublicKey, fitting
from kms.identity.outward import UnreachableError, ask, check_url, trusting

FRESH_SECONDS: Final = 600.0
RETRY_SECONDS: Final = 10.0
STALE_SECONDS: Final = 3600.0
MAX_KEYS: Final = 100
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
    at: float  # monotonic, of the last try
    good_at: float  # and of the last that succeeded
    keys: list[tuple[str, PublicKey]]
    failure: str = ""  # why the last try was none
    lock: threading.Lock = field(default_factory=threading.Lock)


class KeySources:
    """Keys of every mount, in memory. One per process, safe to use from several threads."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._held: dict[str, _Fetched] = {}
        self._lock = threading.Lock()

    def keys(self, mount_id: str, config: JwtConfig, kid: str) -> list[PublicKey]:
        """The keys that may have signed a token with this `kid`.

        Raises:
            KmsError(INVALID): they cannot be fetched.
        """
        if config.jwt_validation_pubkeys:
            return given_keys(config.jwt_validation_pubkeys)
        places = [self._current(f"{mount_id}/{at}", each) for at, each in enumerate(_places(config))]
        held, failure = self._held_by(places, FRESH_SECONDS)
        if all(name != kid for name, _ in held) if kid else not held:
            held, failure = self._held_by(places, RETRY_SECONDS)
        found = [key for name, key in held if not kid or not name or name == kid]
        if failure is not None and not found:
            raise failure  # the place that did not answer may be the one
        return found

    def _held_by(
        self, places: list[_Fetched], oldest: float
    ) -> tuple[list[tuple[str, PublicKey]], KmsError | None]:
        """Keys of all places, each asked again after `oldest` seconds; and why a place could not be asked.

        One that is down keeps out its own tokens and nobody else's.
        """
        found: list[tuple[str, PublicKey]] = []
        failure = None
        for held in places:
            with held.lock:
                if self.clock.monotonic() - held.at > oldest:
                    held.at = self.clock.monotonic()  # a failure is not repeated at once either
                    try:
                        held.keys = self._fetched(held.config)
                        held.good_at, held.failure = self.clock.monotonic(), ""
                    except KmsError as error:
                        held.failure = error.detail
                if self.clock.monotonic() - held.good_at > STALE_SECONDS:
                    held.keys = []
                if held.failure:
                    failure = invalid(held.failure)
                found += held.keys
        return found, failure

    def _current(self, mount_id: str, config: JwtConfig) -> _Fetched:
        with self._lock:
            held = self._held.get(mount_id)
            if held is None or held.config != config:
                held = self._held[mount_id] = _Fetched(config, -FRESH_SECONDS, -STALE_SECONDS, [])
            return held

    def fetch(self, config: JwtConfig) -> list[tuple[str, PublicKey]]:
        """Ask the issuer now; (kid, key) of each key that can be used. Raises KmsError(INVALID)."""
        return [pair for place in _places(config) for pair in self._fetched(place)]

    def _fetched(self, config: JwtConfig) -> list[tuple[str, PublicKey]]:
        if config.provider == pod.KUBERNETES:
            return _listed(self._in_cluster(config))
        url, ca = config.jwks_url, config.jwks_ca_pem
        if config.oidc_discovery_url:
            url, ca = str(self.discover(config).get("jwks_uri") or ""), config.oidc_discovery_ca_pem
        return _listed(self._get(url, ca, config))

    def _in_cluster(self, config: JwtConfig) -> dict[str, Any]:
        """The JWKS of the cluster that we run in. Its issuer may be called anything (`bound_issuer` says it)."""
        place = f"{pod.api_server()}/.well-known/openid-configuration"
        url = str(self._get(place, pod.authorities(), config, pod.bearer()).get("jwks_uri") or "")
        if not url.startswith("https://"):
            raise invalid("error checking the API server: its jwks_uri is no https URL")
        return self._get(url, pod.authorities(), config, pod.bearer())

    def discover(self, config: JwtConfig) -> dict[str, Any]:
        """The provider's metadata (OpenID Connect Discovery). Raises KmsError(INVALID)."""
        place = f"{config.oidc_discovery_url.rstrip('/')}/.well-known/openid-configuration"
        document = self._get(place, config.oidc_discovery_ca_pem, config)
        if document.get("issuer") != config.oidc_discovery_url:
            raise invalid("error checking oidc discovery URL: it speaks for another issuer")
        return document

    def _get(self, url: str, ca: str, config: JwtConfig, bearer: str = "") -> dict[str, Any]:
        check_url(url)
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        try:
            answer = ask(
                url, context=trusting(ca), headers=headers, names=config.override_allowed_server_names
            )
            if answer.status != HTTPStatus.OK:
                raise invalid(f"error checking {url}: it answers {answer.status}")
            return answer.document()
        except UnreachableError as error:
            raise invalid(f"error checking {url}: {error}") from None


def _places(config: JwtConfig) -> list[JwtConfig]:
    """A configuration for each place that has keys: one place, or one of each pair."""
    if not config.jwks_pairs:
        return [config]
    return [
        replace(config, jwks_pairs=(), jwks_url=pair.jwks_url, jwks_ca_pem=pair.jwks_ca_pem)
        for pair in config.jwks_pairs
    ]


def _listed(document: dict[str, Any]) -> list[tuple[str, PublicKey]]:
    """(kid, key) of each key of a JWKS that can be used. Raises KmsError(INVALID)."""
    found = document.get("keys")
    if not isinstance(found, list):
        raise invalid("error checking jwks URL: the answer has no keys")
    return [pair for entry in found[:MAX_KEYS] if (pair := _usable(entry)) is not None]


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
