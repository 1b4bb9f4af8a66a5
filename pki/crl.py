"""Certificate revocation lists: numbered, signed in the HSM, stored, and served as stored.

The rows of revocations are the truth, a CRL is a rendering of them:

(1) whoever changes that truth gets the issuer's next number in the same commit (pki.marks);
(2) whoever makes a CRL allocates its number, then reads every revocation below it, renders, lints and signs,
    outside any transaction;
(3) then publishes, unless a higher number is there already.

So CRL n lists everything in its scope that was committed before n was, and publishing only higher numbers never
loses a revocation, however many requests overlap. A CRL whose `marked` is above its `built` is *behind*: the
next one who fetches it, or the jobs process, makes it anew (pki.freshness).

Making one costs little however many are revoked: the entries of the published one are taken over, after its
signature was verified, and what came since is read from the journal. Once in half its life each is made from
all rows, which also drops what expired: an entry stays until one CRL has been issued after the certificate's
end (RFC 5280 3.3).
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kms.errors import integrity
from kms.tables import Reader, Store
from pki import crlder, marks, schemes
from pki.authority import Authority
from pki.crlder import Listed
from pki.hsmkey import CaToken, DrySigner, HsmSigner, private_key
from pki.lint import Linter
from pki.marks import Scope
from pki.model import CRL_EXPIRY_MAX, CrlMark, MountConfig, PublicCrl, Revocation, Shards
from pki.profiles.draft import Extensions, utc
from pki.shards import NO_SHARD, shard_url
from pki.store import CRL_JOURNAL, CRL_SHARDS, PUBLIC_CRLS, REVOCATIONS
from pki.validity import parse_go_duration

_REASONS = {reason.value: reason for reason in x509.ReasonFlags}
_PAGE = 500  # rows read at a time
_LINTED_ENTRIES = 20  # more of the same do not tell pkilint more, and cost it a millisecond each


class CrlMaker:
    """Step (2)."""

    def __init__(self, store: Store, token: CaToken, linter: Linter) -> None:
        self._store = store
        self._token = token
        self._linter = linter

    def first(self, authority: Authority, config: MountConfig, now: int) -> PublicCrl:
        """The empty CRL of a new issuer."""
        scope = marks.complete(authority.mount_id, authority.issuer.id)
        return self._make(authority, scope, _blank(1, config, now), Listed(b"", 0), ())

    def make(
        self, authority: Authority, scope: Scope, number: int, config: MountConfig, now: int, *, whole: bool
    ) -> tuple[PublicCrl, tuple[str, ...]]:
        """Render, lint, sign and verify the CRL with this number; and the URLs that it was issued under.

        `whole` makes it from all rows, and not by adding to the published one.

        Raises:
            KmsError: the HSM's, or INTEGRITY when the signature does not verify.
        """
        reader = self._store.reader()
        mark = marks.mark_of(reader, scope)
        row = reader.get(CRL_SHARDS, scope.issuer_key)
        shards = row.value if row is not None else Shards(count=0, places=())
        # A clock that went back must not make an older CRL look newer.
        now = max(now, mark.this_update)
        wanted = _blank(number, config, now)
        if scope.name == marks.DELTA:
            base = marks.mark_of(reader, marks.complete(scope.mount_id, scope.issuer_id))
            wanted = msgspec.structs.replace(wanted, base=base.built)
            revoked = crlder.listed(_since(reader, scope, shards, base.built, number))
        else:
            revoked = self._listed(reader, authority, scope, (mark, shards, number), whole=whole)
        places = shards.places if scope.shard is not None else ()
        return self._make(authority, scope, wanted, revoked, places), places

    def _listed(
        self,
        reader: Reader,
        authority: Authority,
        scope: Scope,
        state: tuple[CrlMark, Shards, int],
        *,
        whole: bool,
    ) -> Listed:
        mark, shards, number = state
        if not whole and mark.built:
            published = reader.get(PUBLIC_CRLS, scope.public_key)
            if published is not None and published.value.number == mark.built:
                before = x509.load_der_x509_crl(published.value.der)
                if before.is_signature_valid(authority.public_key):
                    held = crlder.listed_in(before)
                    new = crlder.listed(_since(reader, scope, shards, mark.built, number))
                    return Listed(held.entries + new.entries, held.count + new.count)
        return crlder.listed(
            revocation
            for revocation in _every(reader, scope)
            # Listed at least once, and until one CRL has been issued after its end.
            if revocation.crl_number < number
            and (
                revocation.crl_number > mark.built
                or max(revocation.not_after, revocation.revoked_at) >= mark.this_update
            )
        )

    def _make(
        self,
        authority: Authority,
        scope: Scope,
        wanted: PublicCrl,
        revoked: Listed,
        places: tuple[str, ...],
    ) -> PublicCrl:
        wanted = msgspec.structs.replace(wanted, entries=revoked.count)
        scheme, key = authority.crl_scheme, authority.public_key
        algorithm = crlder.signature_algorithm(key, scheme)
        window = (wanted.this_update, wanted.next_update)
        subject, extensions = authority.certificate.subject, _extensions(authority, scope, wanted, places)
        tbs = crlder.to_be_signed(algorithm, subject, window, revoked, extensions)
        filler = DrySigner(key).sign(tbs, scheme)
        dry = crlder.signed(tbs, algorithm, filler)

        def sample() -> bytes:
            few = crlder.few(revoked, _LINTED_ENTRIES)
            some = crlder.to_be_signed(algorithm, subject, window, few, extensions)
            return crlder.signed(some, algorithm, filler)

        self._linter.crl(dry, wanted, authority.certificate.subject, extensions=extensions, sample=sample)
        signature = HsmSigner(self._token, authority.ref, only=tbs).sign(tbs, scheme)
        made = crlder.signed(tbs, algorithm, signature)
        crl = x509.load_der_x509_crl(made)
        if crl.tbs_certlist_bytes != tbs or not crl.is_signature_valid(key):
            raise integrity("the HSM's signature over a CRL does not verify")
        return msgspec.structs.replace(wanted, der=made)


def revoked_entry(serial: str, revoked_at: int, reason: str) -> x509.RevokedCertificate:
    """One line of a CRL: serial in hex, Unix seconds, and RFC 5280 5.3.1 name or "" for no reason."""
    builder = (
        x509.RevokedCertificateBuilder()
        .serial_number(int(serial, 16))
        .revocation_date(utc(revoked_at).replace(tzinfo=None))
    )
    if reason:
        builder = builder.add_extension(x509.CRLReason(_REASONS[reason]), critical=False)
    return builder.build()


def sign_list(
    token: CaToken,
    linter: Linter,
    authority: Authority,
    builder: x509.CertificateRevocationListBuilder,
    wanted: PublicCrl,
    longest: int = CRL_EXPIRY_MAX,
) -> bytes:
    """Lint a CRL, have the HSM sign the linted bytes and no others, and verify it; DER.

    `longest` is how many seconds it may be from thisUpdate to nextUpdate.
    """
    scheme = authority.crl_scheme
    dry: x509.CertificateRevocationList = schemes.build(
        builder, private_key(authority.public_key, DrySigner(authority.public_key)), scheme
    )
    linter.crl(dry.public_bytes(Encoding.DER), wanted, authority.certificate.subject, longest)
    tbs = dry.tbs_certlist_bytes
    signer = HsmSigner(token, authority.ref, only=tbs)
    crl: x509.CertificateRevocationList = schemes.build(
        builder, private_key(authority.public_key, signer), scheme
    )
    if crl.tbs_certlist_bytes != tbs or not crl.is_signature_valid(authority.public_key):
        raise integrity("the HSM's signature over a CRL does not verify")
    return crl.public_bytes(Encoding.DER)


def _blank(number: int, config: MountConfig, now: int) -> PublicCrl:
    until = now + parse_go_duration(config.crl_expiry)
    return PublicCrl(number=number, this_update=now, next_update=until, entries=0, der=b"")


def _extensions(authority: Authority, scope: Scope, wanted: PublicCrl, places: tuple[str, ...]) -> Extensions:
    """RFC 5280 5.2: AKI and number; what makes a delta a delta, and a shard a shard, is critical."""
    extensions: Extensions = ((authority.common[0][0], False), (x509.CRLNumber(wanted.number), False))
    if scope.name == marks.DELTA:
        return (*extensions, (x509.DeltaCRLIndicator(wanted.base), True))
    if scope.shard is not None:
        names = [
            x509.UniformResourceIdentifier(shard_url(place, scope.issuer_id, scope.shard)) for place in places
        ]
        return (*extensions, (_distribution_point(names), True))
    if authority.freshest is not None:
        return (*extensions, (authority.freshest, False))
    return extensions


def _distribution_point(names: list[x509.UniformResourceIdentifier]) -> x509.IssuingDistributionPoint:
    return x509.IssuingDistributionPoint(
        full_name=names,
        relative_name=None,
        only_contains_user_certs=False,
        only_contains_ca_certs=False,
        only_some_reasons=None,
        indirect_crl=False,
        only_contains_attribute_certs=False,
    )


def _every(reader: Reader, scope: Scope) -> Iterator[Revocation]:
    """All revocations of a scope, a page at a time."""
    table = REVOCATIONS if scope.shard is None else CRL_JOURNAL
    prefix = f"{scope.issuer_key}/" if scope.shard is None else f"{scope.key}/"
    after = ""
    while rows := reader.scan(table, prefix, after=after, limit=_PAGE):
        for row in rows:
            yield row.value
        after = rows[-1].key


def _since(reader: Reader, scope: Scope, shards: Shards, number: int, below: int) -> Iterator[Revocation]:
    """Revocations of a scope with numbers between these two."""
    if scope.shard is not None:
        names = [scope.name]
    else:
        names = [marks.shard_name(shard) for shard in (NO_SHARD, *range(shards.count))]
    for name in names:
        prefix = f"{scope.issuer_key}/{name}/"
        after = f"{prefix}{number:016d}"
        while rows := reader.scan(CRL_JOURNAL, prefix, after=after, limit=_PAGE):
            yield from (row.value for row in rows if row.value.crl_number < below)
            after = rows[-1].key
