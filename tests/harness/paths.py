"""Chains among many certificates, found by name, key identifier and signature."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

_LONGEST = 6
_Signer = tuple[x509.Name, bytes]  # by name and key identifier


@dataclass(frozen=True)
class Link:
    """One certificate."""

    der: bytes

    @cached_property
    def certificate(self) -> x509.Certificate:
        """Parsed."""
        return x509.load_der_x509_certificate(self.der)

    @cached_property
    def serial(self) -> int:
        """Its number."""
        return self.certificate.serial_number

    @cached_property
    def ca(self) -> bool:
        """Whether it says so."""
        return any(
            isinstance(each.value, x509.BasicConstraints) and each.value.ca
            for each in self.certificate.extensions
        )

    @cached_property
    def root(self) -> bool:
        """Whether it signed itself."""
        return issued(self, self)

    @cached_property
    def window(self) -> tuple[int, int]:
        """When it lives, Unix seconds."""
        one = self.certificate
        return int(one.not_valid_before_utc.timestamp()), int(one.not_valid_after_utc.timestamp())


@dataclass(frozen=True)
class Path:
    """The leaf first, the root last."""

    links: tuple[Link, ...]

    @property
    def window(self) -> tuple[int, int]:
        """When all of them live."""
        return max(one.window[0] for one in self.links), min(one.window[1] for one in self.links)


def issued(below: Link, above: Link) -> bool:
    """Whether one signed the other, and was meant to by its name."""
    try:
        below.certificate.verify_directly_issued_by(above.certificate)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def within(wanted: int, *windows: tuple[int, int]) -> int | None:
    """The second nearest to the wanted one that lies in all windows, away from their ends where that can be."""
    start, end = max(one[0] for one in windows), min(one[1] for one in windows)
    if start > end:
        return None
    return max(min(wanted, end - 1), start)


class Paths:
    """All certificates that there are."""

    def __init__(self, certificates: Iterable[bytes]) -> None:
        self._links = {der: Link(der) for der in certificates}
        self._authorities: dict[_Signer, list[Link]] = defaultdict(list)
        self._signed: dict[_Signer, list[Link]] = defaultdict(list)
        self._by_serial: dict[int, Link] = {}
        for link in self._links.values():
            one = link.certificate
            self._signed[one.issuer, _identifier(one, x509.AuthorityKeyIdentifier)].append(link)
            self._by_serial[link.serial] = link
            if link.ca:
                self._authorities[one.subject, _identifier(one, x509.SubjectKeyIdentifier)].append(link)
        self._found: dict[bytes, Path | None] = {}

    def by_serial(self, serial: int) -> Link | None:
        """The certificate with a number; they are random, so there is one."""
        return self._by_serial.get(serial)

    def of(self, der: bytes) -> Path | None:
        """A chain to a root, if one is known: rather one whose parts live at the same time."""
        if der not in self._found:
            chains = list(self._chains((self._links[der],)))
            together = [one for one in chains if one.window[0] <= one.window[1]]
            self._found[der] = next(iter(together or chains), None)
        return self._found[der]

    def _chains(self, links: tuple[Link, ...]) -> Iterator[Path]:
        last = links[-1]
        if last.root:
            yield Path(links)
        elif len(links) < _LONGEST:
            for above in self._above(last):
                if above not in links:
                    yield from self._chains((*links, above))

    def _above(self, link: Link) -> Iterator[Link]:
        one = link.certificate
        for above in self._authorities.get((one.issuer, _identifier(one, x509.AuthorityKeyIdentifier)), ()):
            if issued(link, above):
                yield above

    def below(self, crl: x509.CertificateRevocationList) -> Iterator[Link]:
        """The certificates that a CRL speaks about."""
        signer = self.signer_of(crl)
        if signer is None:
            return
        for link in self._signed.get((crl.issuer, _identifier(crl, x509.AuthorityKeyIdentifier)), ()):
            if not link.root and issued(link, signer):
                yield link

    def signer_of(self, crl: x509.CertificateRevocationList) -> Link | None:
        """Whose CRL it is."""
        for above in self._authorities.get((crl.issuer, _identifier(crl, x509.AuthorityKeyIdentifier)), ()):
            try:
                if crl.is_signature_valid(above.certificate.public_key()):  # type: ignore[arg-type]  # of a CA
                    return above
            except (TypeError, UnsupportedAlgorithm):
                continue
        return None


def _identifier(
    document: x509.Certificate | x509.CertificateRevocationList,
    kind: type[x509.AuthorityKeyIdentifier | x509.SubjectKeyIdentifier],
) -> bytes:
    """Of its key, or of the key that signed it: every certificate and CRL of ours has them, but a root the latter."""
    for each in document.extensions:
        value = each.value
        if isinstance(value, x509.SubjectKeyIdentifier) and kind is x509.SubjectKeyIdentifier:
            return value.digest
        if isinstance(value, x509.AuthorityKeyIdentifier) and kind is x509.AuthorityKeyIdentifier:
            return value.key_identifier or b""
    return b""
