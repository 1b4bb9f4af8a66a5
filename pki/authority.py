"""A CA that can sign, with everything about it that does not change between two requests.

Issuer certificates are parsed once and kept until their row, their key or the mount's settings
change; a request costs three dictionary look-ups.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_public_key
from cryptography.x509.oid import AuthorityInformationAccessOID

from kms.errors import ErrorKind, KmsError, integrity
from kms.hsm import KeySpec, Purpose, Resident
from kms.ids import CkaId
from kms.tables import Cache, Row, Store
from pki import constraints, shards, softkeys
from pki.hsmkey import CaRef, SoftwareRef
from pki.model import CaKey, Issuer, KeyState, MountConfig, Protection, Urls
from pki.profiles import nested
from pki.profiles.draft import Extensions
from pki.schemes import CaPublicKey, named_scheme, scheme_for
from pki.store import DEFAULT, ISSUERS, KEYS, MOUNTS, issuers
from pki.urls import filled


@dataclass(frozen=True)
class Authority:
    """One issuer with its key.

    Args:
        common: extensions of everything it issues: AKI, and AIA and CRL distribution points where
            the mount or the issuer has URLs.
        chain: PEM of the issuer and of what is above it in this mount, issuer first.
        roots: for each of `chain`, whether it is self-issued.
        path_length: pathLenConstraint, None for no limit.
        constraints: name constraints, its own and those of the CAs above it.
        usages: extended key usages that all of them have, None for no limit.
        points: the distribution point of each shard of its CRL; empty without shards.
        freshest: where its delta CRL is, for the complete one.
    """

    mount_id: str
    issuer: Issuer
    certificate: x509.Certificate
    public_key: CaPublicKey
    ref: CaRef
    common: Extensions
    chain: tuple[str, ...]
    roots: tuple[bool, ...]
    path_length: int | None
    constraints: tuple[x509.NameConstraints, ...]
    usages: nested.Usages | None
    points: tuple[x509.CRLDistributionPoints, ...] = ()
    freshest: x509.FreshestCRL | None = None

    @property
    def leaf_common(self) -> Extensions:
        """`common` for leaves: with shards, the distribution point is chosen for each of them."""
        if not self.points:
            return self.common
        return tuple(pair for pair in self.common if not isinstance(pair[0], x509.CRLDistributionPoints))

    @cached_property
    def not_before(self) -> int:
        """The issuer's, in seconds: nothing it issues begins earlier."""
        return int(self.certificate.not_valid_before_utc.timestamp())

    @property
    def pem(self) -> str:
        """The issuer's certificate, without a final line break, as the API shows it."""
        return self.chain[0]

    def hash_name(self, signature_bits: int = 0, *, pss: bool = False) -> str:
        """The scheme of its signatures (pki.schemes): fixed by curve or type; for RSA the caller may choose."""
        return scheme_for(self.public_key, signature_bits, pss=pss)

    @property
    def crl_scheme(self) -> str:
        """The scheme of its CRLs: the issuer's `revocation_signature_algorithm`, or its usual one."""
        named = self.issuer.revocation_signature_algorithm
        return (named_scheme(self.public_key, named) if named else None) or self.hash_name()


class Authorities:
    """Finds issuers by reference and keeps them ready. One per process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._mounts: Cache[MountConfig] = Cache(store, MOUNTS)
        self._issuers: Cache[Issuer] = Cache(store, ISSUERS)
        self._keys: Cache[CaKey] = Cache(store, KEYS)
        self._ready: dict[str, tuple[Row[Issuer], Row[CaKey], Row[MountConfig] | None, Authority]] = {}

    def config(self, mount_id: str) -> MountConfig:
        """The mount's settings, defaults included."""
        row = self._mounts.get(mount_id)
        return row.value if row is not None else MountConfig()

    def issuer(self, mount_id: str, ref: str) -> Issuer:
        """The issuer that `ref` (id, name or "default") means.

        Raises:
            KmsError(INVALID, status 500 as the peer): none.
        """
        if ref == DEFAULT:
            ref = self.config(mount_id).default_issuer
            if not ref:
                raise no_default_issuer()
        row = self._issuers.get(f"{mount_id}/{ref}")
        if row is not None:
            return row.value
        for issuer in issuers(self._store.reader(), mount_id):
            if issuer.name == ref:
                return issuer
        raise KmsError(ErrorKind.INVALID, f"unable to find PKI issuer for reference: {ref}", status=500)

    def get(self, mount_id: str, ref: str, usage: str = "issuing-certificates") -> Authority:
        """A signing issuer by reference.

        Raises:
            KmsError(INVALID): none, without a key, or not for this usage.
        """
        issuer = self.issuer(mount_id, ref)
        key = f"{mount_id}/{issuer.id}"
        issuer_row = self._issuers.get(key)
        key_row = self._keys.get(f"{mount_id}/{issuer.key_id}") if issuer.key_id else None
        if key_row is not None and key_row.value.state == KeyState.LOST:
            raise KmsError(
                ErrorKind.INVALID,
                f"the private key of issuer {ref} was lost with the HSM that it lived in: make a new issuer",
            )
        if issuer_row is None or key_row is None or key_row.value.state != KeyState.ACTIVE:
            raise KmsError(ErrorKind.INVALID, f"issuer {ref} has no private key here: it cannot sign")
        if usage not in issuer_row.value.usage:
            raise KmsError(ErrorKind.INVALID, f"issuer {issuer.id} is not allowed the usage {usage}")
        config_row = self._mounts.get(mount_id)
        ready = self._ready.get(key)
        if ready is not None and ready[0] is issuer_row and ready[1] is key_row and ready[2] is config_row:
            return ready[3]
        config = config_row.value if config_row is not None else MountConfig()
        authority = self._load(mount_id, issuer_row.value, key_row.value, config)
        self._ready[key] = (issuer_row, key_row, config_row, authority)
        return authority

    def signer(self, mount_id: str, ref: str) -> Authority:
        """`get` for the signer of a new certificate, with the peer's words about it."""
        try:
            return self.get(mount_id, ref)
        except KmsError as error:
            text = f"could not fetch the CA certificate (was one set?): {error.detail}"
            raise KmsError(error.kind, text, status=error.status) from None

    def _load(self, mount_id: str, issuer: Issuer, key: CaKey, config: MountConfig) -> Authority:
        ders = [issuer.certificate]
        for above in issuer.chain[1:]:
            row = self._issuers.get(f"{mount_id}/{above}")
            if row is not None:
                ders.append(row.value.certificate)
        ref = key_ref(self._store, mount_id, key)
        urls = filled(issuer.urls or config.urls, config, issuer.id)
        authority = assemble(mount_id, issuer, ref, urls, ders)
        return replace(
            authority, points=shards.points(config, urls, issuer.id), freshest=freshest(config, urls)
        )


def assemble(mount_id: str, issuer: Issuer, ref: CaRef, urls: Urls, chain: list[bytes]) -> Authority:
    """An Authority from its parts; also for an issuer that is not stored yet."""
    parsed = [x509.load_der_x509_certificate(der) for der in chain]
    certificate = parsed[0]
    public = certificate.public_key()
    if not isinstance(public, CaPublicKey):
        raise integrity("a stored issuer has a key type that CAs here never have")
    found = {extension.oid: extension.value for extension in certificate.extensions}
    basic = found.get(x509.BasicConstraints.oid)
    return Authority(
        mount_id=mount_id,
        issuer=issuer,
        certificate=certificate,
        public_key=public,
        ref=ref,
        common=((authority_key_identifier(certificate), False), *url_extensions(urls)),
        chain=tuple(pem(der) for der in chain),
        roots=tuple(each.issuer == each.subject for each in parsed),
        path_length=basic.path_length if isinstance(basic, x509.BasicConstraints) else None,
        constraints=constraints.of(parsed),
        usages=nested.of(constraints.path(parsed)),
    )


def key_ref(store: Store, mount_id: str, key: CaKey) -> CaRef:
    """How a signer names a stored CA key."""
    if key.protection == Protection.SOFTWARE:
        return SoftwareRef(key.spec, lambda: softkeys.load(store.reader(), f"{mount_id}/{key.id}"))
    return resident(key)


def resident(key: CaKey) -> Resident:
    """How the HSM layer names a CA key."""
    return Resident(CkaId(key.cka_id), Purpose.CA_SIGN, KeySpec(key.spec))


def authority_key_identifier(certificate: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """The AKI that points at this issuer: its own SKI where it has one."""
    try:
        ski = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        public = certificate.public_key()
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(public)  # type: ignore[arg-type]  # CA keys sign
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski)


def hexed_ski(spki: bytes) -> str:
    """The subject key identifier of a key, aa:bb:..., as key/:ref shows it."""
    public = load_der_public_key(spki)
    ski = x509.SubjectKeyIdentifier.from_public_key(public)  # type: ignore[arg-type]  # CA keys sign
    return ski.digest.hex(":")


def url_extensions(urls: Urls) -> Extensions:
    """AIA and CRL distribution points; nothing where there are no URLs."""
    described = [
        x509.AccessDescription(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(url))
        for url in urls.ocsp_servers
    ] + [
        x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier(url))
        for url in urls.issuing_certificates
    ]
    extensions: list[tuple[x509.ExtensionType, bool]] = []
    if described:
        extensions.append((x509.AuthorityInformationAccess(described), False))
    if urls.crl_distribution_points:
        extensions.append((x509.CRLDistributionPoints(_points(urls.crl_distribution_points)), False))
    if urls.delta_crl_distribution_points:
        extensions.append((x509.FreshestCRL(_points(urls.delta_crl_distribution_points)), False))
    return tuple(extensions)


def freshest(config: MountConfig, urls: Urls) -> x509.FreshestCRL | None:
    """Where the delta CRL is (RFC 5280 5.2.6)."""
    if not config.enable_delta or not urls.delta_crl_distribution_points:
        return None
    return x509.FreshestCRL(_points(urls.delta_crl_distribution_points))


def _points(urls: Iterable[str]) -> list[x509.DistributionPoint]:
    return [x509.DistributionPoint([x509.UniformResourceIdentifier(url)], None, None, None) for url in urls]


def pem(der: bytes, label: str = "CERTIFICATE") -> str:
    """RFC 7468 text without a final line break, as the peer's JSON answers have it."""
    # 48 octets make a line of 64 characters, and its end.
    lines = b"".join([binascii.b2a_base64(der[at : at + 48]) for at in range(0, len(der), 48)])
    return f"-----BEGIN {label}-----\n{lines.decode('ascii')}-----END {label}-----"


def no_default_issuer() -> KmsError:
    """The peer's answer while a mount has no CA."""
    return KmsError(ErrorKind.INVALID, "no default issuer currently configured")
