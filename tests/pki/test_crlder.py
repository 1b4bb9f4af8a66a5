"""The hand-made CertificateList beside cryptography's."""

from __future__ import annotations

import secrets

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from pki import crlder
from pki.model import DAY, Revocation
from pki.profiles.draft import utc
from tests.pki.bench import START


def test_entries_are_what_cryptography_writes() -> None:
    """The hand-made list, byte for byte, for every reason and both forms of time."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "X")])
    reasons = [
        "",
        *(flag.value for flag in x509.ReasonFlags if flag.value not in {"unspecified", "removeFromCRL"}),
    ]
    given = [
        Revocation(
            mount_id="m",
            issuer_id="i",
            serial="7f" + secrets.token_hex(19) if at % 2 else "81",
            revoked_at=START + at * 300_000_000,
            not_after=START,
            crl_number=at,
            reason=reason,
        )
        for at, reason in enumerate(reasons)
    ]
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer)
        .last_update(utc(START))
        .next_update(utc(START + DAY))
        .add_extension(x509.CRLNumber(7), critical=False)
    )
    for revocation in given:
        entry = (
            x509.RevokedCertificateBuilder()
            .serial_number(int(revocation.serial, 16))
            .revocation_date(utc(revocation.revoked_at))
        )
        if revocation.reason:
            entry = entry.add_extension(x509.CRLReason(x509.ReasonFlags(revocation.reason)), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    built = builder.sign(key, hashes.SHA256())
    algorithm = crlder.signature_algorithm(key.public_key(), "sha256")
    extensions = ((x509.CRLNumber(7), False),)
    window = (START, START + DAY)
    listed = crlder.listed(given)
    assert crlder.to_be_signed(algorithm, issuer, window, listed, extensions) == built.tbs_certlist_bytes
    assert crlder.listed_in(built) == listed
