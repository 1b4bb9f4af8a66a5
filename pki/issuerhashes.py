"""Which issuers of a mount a CertID means (RFC 6960 4.1.1): by the hashes of their name and key."""

from __future__ import annotations

import hashlib
import threading

from cryptography import x509

from kms.tables import Store
from pki import der
from pki.model import Issuer
from pki.ocspder import CertId
from pki.store import ISSUERS, issuers

_HASHES = ("sha1", "sha256")
_EXPLICIT_VERSION = 0xA0
_SUBJECT, _SPKI = 4, 5  # of TBSCertificate, without the version

Hashes = dict[tuple[str, bytes, bytes], frozenset[str]]


class IssuerHashes:
    """Kept for each mount until its issuers change. One per process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._mounts: dict[str, Hashes] = {}
        self._changes = 0
        self._lock = threading.Lock()
        store.watch(ISSUERS, self)

    def find(self, mount_id: str, certificate: CertId) -> frozenset[str]:
        """Ids of the issuers with this name and key: several when a CA was certified more than once."""
        known = self._mounts.get(mount_id)
        if known is None:
            before = self._changes
            known = _hashes(issuers(self._store.reader(), mount_id))
            with self._lock:
                if self._changes == before:
                    self._mounts[mount_id] = known
        return known.get((certificate.hash_name, certificate.name_hash, certificate.key_hash), frozenset())

    def drop(self, key: str) -> None:
        """Another process, or this one, changed an issuer."""
        with self._lock:
            self._changes += 1
            self._mounts.pop(key.partition("/")[0], None)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._changes += 1
            self._mounts = {}


def _hashes(known: list[Issuer]) -> Hashes:
    found: dict[tuple[str, bytes, bytes], set[str]] = {}
    for issuer in known:
        tbs = x509.load_der_x509_certificate(issuer.certificate).tbs_certificate_bytes
        parts = der.elements(der.content(tbs))
        if parts[0][0] == _EXPLICIT_VERSION:
            parts.pop(0)
        for name in _HASHES:
            key = (name, hashlib.new(name, parts[_SUBJECT]).digest(), key_hash(parts[_SPKI], name))
            found.setdefault(key, set()).add(issuer.id)
    return {key: frozenset(ids) for key, ids in found.items()}


def key_hash(spki: bytes, name: str = "sha1") -> bytes:
    """Digest of a public key's bits, without tag, length and the count of unused bits."""
    bits = der.content(der.element(der.content(spki), 1))[1:]
    return hashlib.new(name, bits, usedforsecurity=False).digest()
