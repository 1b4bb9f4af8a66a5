"""The index of certificates: what is looked for, as keyed digests in the order of expiry.

Names lie in sealed rows, and the database must not tell them: a line of the index is a keyed digest of one term (a
domain, an address, a key, an issuer) with the expiry and the serial in clear. Who reads the database learns how many
certificates share a term, not which. A line that was removed hides a certificate from searches and from
nothing else; one that was added is noticed, because what it points to is read and compared.

A leaf's lines are written in the commit of its row. Certificates that change or go, and those that have a row before
their signature, wait in `UNINDEXED`, written by triggers; the jobs process takes them from there within a second or
so, and searches look through those that still wait.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import urlsplit

import msgspec
from cryptography import x509
from cryptography.x509.oid import NameOID

from kms.errors import ErrorKind, KmsError
from kms.sensitive import ACCESS, Sensitive
from kms.tables import Reader, Row, Store, Table, Transaction
from pki import der
from pki.model import Certificate
from pki.names import is_hostname
from pki.profiles import Leaf
from pki.store import CERTIFICATES

_SPKI = 6  # its place in the to-be-signed bytes (RFC 5280 4.1)
_LABELS = 10  # of a name, from the right, that can be looked for as a domain
_PORTION, _PORTIONS = 100, 20
_KNOWN = 16_384  # digests of terms that are kept: hosts, domains and issuers come again and again


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of the index. The one that every certificate has (`ALL`) names the digests of the others."""

    terms: tuple[str, ...] = ()


_LINE = Line()


class Waiting(msgspec.Struct, frozen=True):
    """A certificate whose lines are not up to date; the key of the row says which."""


INDEX = Table(tag="pki.index", name="pki_index", model=Line, sealed=False)  # mount/term/expiry/serial
UNINDEXED = Table(
    tag="pki.unindexed", name="pki_unindexed", model=Waiting, sealed=False
)  # mount/serial/expiry, written by triggers on the table of certificates

Term = tuple[str, str]
"""Kind and text: ("domain", "example.com")."""

ALL: Term = ("all", "")


@dataclass(frozen=True, slots=True)
class Looks:
    """What can be looked for in one certificate."""

    common_name: str = ""
    dns: frozenset[str] = frozenset()
    emails: frozenset[str] = frozenset()
    ips: frozenset[str] = frozenset()
    uris: frozenset[str] = frozenset()
    key: str = ""  # SHA-256 of the SubjectPublicKeyInfo, hex

    @property
    def hosts(self) -> Iterator[str]:
        """All host names in it, without the wildcard label."""
        for name in self.dns:
            yield name.removeprefix("*.")
        for address in self.emails:
            yield address.rpartition("@")[2]
        for uri in self.uris:
            yield (urlsplit(uri).hostname or "").lower()
        yield _host(self.common_name)


def looks(certificate: Certificate) -> Looks:
    """Read a stored certificate; one that was never signed has no names here."""
    if not certificate.certificate:
        return Looks()
    parsed = x509.load_der_x509_certificate(certificate.certificate)
    common = parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    spki = der.element(der.content(parsed.tbs_certificate_bytes), _SPKI)
    found = Looks(common_name=str(common[0].value) if common else "", key=hashlib.sha256(spki).hexdigest())
    try:
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return found
    return Looks(
        common_name=found.common_name,
        dns=frozenset(name.lower() for name in names.get_values_for_type(x509.DNSName)),
        emails=frozenset(name.lower() for name in names.get_values_for_type(x509.RFC822Name)),
        ips=frozenset(str(name) for name in names.get_values_for_type(x509.IPAddress)),
        uris=frozenset(names.get_values_for_type(x509.UniformResourceIdentifier)),
        key=found.key,
    )


def looks_of(leaf: Leaf) -> Looks:
    """What `looks` will read in the certificate of this leaf, from the values that it is made of."""
    names = leaf.names
    return Looks(
        common_name=names.common_name,
        dns=frozenset(name.lower() for name in names.dns),
        emails=frozenset(name.lower() for name in names.emails),
        ips=frozenset(str(address) for address in names.ips),
        uris=frozenset(names.uris),
        key=hashlib.sha256(leaf.spki).hexdigest(),
    )


@lru_cache(maxsize=8192)
def domains(host: str) -> tuple[str, ...]:
    """The name and the domains that it lies in: a.b.c, b.c. What has one label holds too much to be one."""
    # Kept, because a mesh asks for the same names for ever.
    labels = host.split(".")[-_LABELS:]
    return tuple(".".join(labels[start:]) for start in range(max(1, len(labels) - 1)))


def terms(certificate: Certificate, seen: Looks) -> set[Term]:
    """Everything under which it is found, beside `ALL`."""
    found: set[Term] = {("issuer", certificate.issuer_id)}
    found |= {("domain", domain) for host in seen.hosts for domain in domains(host) if domain}
    found |= {("email", address) for address in seen.emails}
    found |= {("ip", address) for address in seen.ips}
    found |= {("uri", uri) for uri in seen.uris}
    if seen.key:
        found.add(("key", seen.key))
    if seen.common_name:
        found.add(named(seen.common_name))
    return found


def named(common_name: str) -> Term:
    """The term of a common name: its host, which has one anyway, or the text."""
    host = _host(common_name)
    return ("domain", host) if host else ("cn", common_name)


def _host(common_name: str) -> str:
    host = common_name.lower().rpartition("@")[2].removeprefix("*.")
    return host if is_hostname(host) else ""


def position(certificate: Certificate) -> str:
    """Where it stands in every list: by expiry, then by serial."""
    return f"{certificate.not_after:012d}/{certificate.serial}"


@dataclass(frozen=True)
class CertificateIndex:
    """One per process.

    Args:
        derive: keys of this instance; called while it is unsealed.
    """

    store: Store
    derive: Callable[[str], Sensitive]
    _known: dict[tuple[str, Term], str] = field(default_factory=dict, repr=False)

    def prefix(self, mount_id: str, term: Term) -> str:
        """What the lines of a term begin with."""
        return f"{mount_id}/{self._digest(mount_id, term)}/"

    def lines(self, certificate: Certificate, seen: Looks) -> dict[str, Line]:
        """All lines of a new certificate, by their keys."""
        place, mount_id = position(certificate), certificate.mount_id
        digests = self._digests(certificate, seen)
        found = {f"{mount_id}/{digest}/{place}": _LINE for digest in digests}
        found[f"{self.prefix(mount_id, ALL)}{place}"] = Line(digests)
        return found

    def waiting(self, reader: Reader, mount_id: str, limit: int) -> list[str]:
        """Keys of certificates that are not in the index yet, at most `limit`."""
        return [key.rpartition("/")[0] for key in reader.keys(UNINDEXED, f"{mount_id}/", limit=limit)]

    def due(self) -> bool:
        """Whether any certificate waits."""
        return bool(self.store.reader().keys(UNINDEXED, limit=1))

    def step(self) -> int:
        """Take a portion from those that wait; returns how many. For the jobs process."""
        taken = 0
        for _ in range(_PORTIONS):
            rows = self.store.reader().scan(UNINDEXED, limit=_PORTION)
            if not rows:
                break
            self._take(rows)
            taken += len(rows)
        return taken

    def _take(self, waiting: list[Row[Waiting]]) -> None:
        reader = self.store.reader()
        read: dict[str, tuple[str, ...] | None] = {}
        damaged: KmsError | None = None
        for row in waiting:
            read[row.key] = None
            try:
                found = reader.get(CERTIFICATES, row.key.rpartition("/")[0])
            except KmsError as error:
                if error.kind is not ErrorKind.INTEGRITY:
                    raise
                damaged = damaged or error  # it must not keep the others waiting
                continue
            if found is not None:
                read[row.key] = self._digests(found.value, looks(found.value))
        with self.store.transaction() as tx:
            for row in waiting:
                try:
                    tx.delete(UNINDEXED, row)
                except KmsError as error:
                    if error.kind is not ErrorKind.CONFLICT:
                        raise
                    continue  # it changed since it was read, and waits for the next portion
                first = self.prefix(row.key.partition("/")[0], ALL)
                _write(tx, row.key, first, read[row.key])
        if damaged is not None:
            raise damaged

    def _digests(self, certificate: Certificate, seen: Looks) -> tuple[str, ...]:
        return tuple(sorted([self._digest(certificate.mount_id, term) for term in terms(certificate, seen)]))

    def _digest(self, mount_id: str, term: Term) -> str:
        known = self._known.get((mount_id, term))
        if known is not None:
            return known
        kind, text = term
        secret = self.derive("pki-index").reveal(ACCESS)
        # BLAKE2 with a key is a MAC by itself (RFC 7693 2.9), at a fifth of what HMAC costs.
        found = hashlib.blake2b(
            f"{mount_id}\0{kind}\0{text}".encode(), digest_size=16, key=secret
        ).hexdigest()
        if kind != "key":  # each leaf has its own
            if len(self._known) >= _KNOWN:
                self._known.clear()
            self._known[mount_id, term] = found
        return found


def _write(tx: Transaction, waiting: str, prefix: str, digests: tuple[str, ...] | None) -> None:
    """Bring the lines of one certificate to what `digests` says; None when it is gone."""
    mount_id, serial, expiry = waiting.split("/")
    first = f"{prefix}{expiry}/{serial}"
    old = tx.get(INDEX, first)
    had = set(old.value.terms) if old is not None else set()
    want = set(digests or ())
    for digest in had - want:
        line = tx.get(INDEX, f"{mount_id}/{digest}/{expiry}/{serial}")
        if line is not None:
            tx.delete(INDEX, line)
    for digest in want - had:
        tx.insert(INDEX, f"{mount_id}/{digest}/{expiry}/{serial}", _LINE)
    if old is not None and digests is None:
        tx.delete(INDEX, old)
    elif old is None and digests is not None:
        tx.insert(INDEX, first, Line(digests))
    elif old is not None and digests is not None and had != want:
        tx.replace(INDEX, old, Line(digests))
