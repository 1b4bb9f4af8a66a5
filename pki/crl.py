"""Certificate revocation lists: numbered, signed in the HSM, stored, and served as stored.

The rows of `revocations` are the truth, a CRL is a rendering of them:

(1) whoever changes that truth allocates the next CRL number in the same commit;
(2) then reads all revocations of the issuer, renders, lints and signs, outside any transaction;
(3) then publishes, unless a higher number is there already.

The holder of number n read after allocating it, so CRL n lists everything that was committed with a
number <= n; publishing only higher numbers therefore never loses a revocation, however many requests
overlap. An issuer whose allocated number is above the published one is *dirty*: somebody died on the
way, and the next renewal mends it.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kms.errors import integrity
from kms.tables import Store, Transaction
from pki import schemes
from pki.authority import Authority
from pki.hsmkey import CaToken, DrySigner, HsmSigner, private_key
from pki.lint import Linter
from pki.model import CRL_EXPIRY_MAX, CrlNumber, MountConfig, PublicCrl, Revocation
from pki.profiles.draft import utc
from pki.store import CRL_NUMBERS, PUBLIC_CRLS, REVOCATIONS, put
from pki.validity import parse_go_duration

_REASONS = {reason.value: reason for reason in x509.ReasonFlags}


def allocate(tx: Transaction, mount_id: str, issuer_id: str) -> int:
    """The next CRL number of an issuer; step (1)."""
    key = f"{mount_id}/{issuer_id}"
    row = tx.get(CRL_NUMBERS, key)
    number = (row.value.allocated if row is not None else 0) + 1
    put(tx, CRL_NUMBERS, key, CrlNumber(number))
    return number


def publish(tx: Transaction, mount_id: str, issuer_id: str, crl: PublicCrl) -> None:
    """Store a CRL for everybody to fetch, unless a newer one is there; step (3)."""
    key = f"{mount_id}/{issuer_id}"
    row = tx.get(PUBLIC_CRLS, key)
    if row is None or row.value.number < crl.number:
        put(tx, PUBLIC_CRLS, key, crl)


@dataclass(frozen=True, slots=True)
class _Entry:
    number: int  # the first CRL that must list it
    until: int  # its end, or its revocation if that came later
    entry: x509.RevokedCertificate


class CrlMaker:
    """Step (2). Keeps rendered entries per issuer, so a CRL costs one key scan and one signature."""

    def __init__(self, store: Store, token: CaToken, linter: Linter) -> None:
        self._store = store
        self._token = token
        self._linter = linter
        self._entries: dict[str, dict[str, _Entry]] = {}

    def make(self, authority: Authority, number: int, config: MountConfig, now: int) -> PublicCrl:
        """Render, lint, sign and verify the CRL with this number.

        Each revocation is listed at least once, and until one CRL has been issued after the certificate's
        end (RFC 5280 3.3).

        Raises:
            KmsError: the HSM's, or INTEGRITY when the signature does not verify.
        """
        prefix = f"{authority.mount_id}/{authority.issuer.id}"
        previous = self._store.reader().get(PUBLIC_CRLS, prefix)
        last = previous.value.this_update if previous is not None else 0
        newest = previous.value.number if previous is not None else 0
        entries = [
            entry.entry for entry in self._current(prefix) if entry.number > newest or entry.until >= last
        ]
        this_update = max(now, last)  # a clock that went back must not make an older CRL look newer
        next_update = this_update + parse_go_duration(config.crl_expiry)
        builder = x509.CertificateRevocationListBuilder(
            issuer_name=authority.certificate.subject,
            last_update=utc(this_update).replace(tzinfo=None),
            next_update=utc(next_update).replace(tzinfo=None),
            extensions=[
                x509.Extension(value.oid, False, value)
                for value in (authority.common[0][0], x509.CRLNumber(number))
            ],
            revoked_certificates=entries,
        )
        wanted = PublicCrl(
            number=number, this_update=this_update, next_update=next_update, entries=len(entries), der=b""
        )
        der = sign_list(self._token, self._linter, authority, builder, wanted)
        return msgspec.structs.replace(wanted, der=der)

    def _current(self, prefix: str) -> list[_Entry]:
        """All revocations of an issuer; only rows not seen before are read and decrypted."""
        reader = self._store.reader()
        known = self._entries.get(prefix, {})
        current: dict[str, _Entry] = {}
        for key in reader.keys(REVOCATIONS, f"{prefix}/"):
            entry = known.get(key)
            if entry is None:
                row = reader.get(REVOCATIONS, key)
                if row is None:  # tidied between the two reads
                    continue
                entry = _render(row.value)
            current[key] = entry
        self._entries[prefix] = current
        return list(current.values())


def _render(revocation: Revocation) -> _Entry:
    entry = revoked_entry(revocation.serial, revocation.revoked_at, revocation.reason)
    until = max(revocation.not_after, revocation.revoked_at)
    return _Entry(revocation.crl_number, until, entry)


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
