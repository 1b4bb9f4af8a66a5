"""Revoking an issuer: it issues nothing any more, and whoever signed it here lists it."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from cryptography import x509

from kms.errors import KmsError
from kms.operation import Call, Change, Outcome, Result
from kms.tables import Store, Transaction
from pki.authority import Authorities, pem
from pki.issuers import issued_by, settle, store_issuer
from pki.issuerview import issuer_data
from pki.model import Certificate, Issuer
from pki.revocation import RevocationDesk, revoke
from pki.store import CERTIFICATES, issuers

_SELF_SIGNED = (
    "This issuer is a self-signed (potentially root) certificate. This means it may not be considered revoked if"
    " there is not an external, cross-signed variant of this certificate. This issuer's serial number will not"
    " appear on its own CRL."
)
_NOT_HERE = (
    "This issuer lacks another parent issuer within the mount. This means it will not appear on any other CRLs and"
    " may not be considered revoked by clients. Consider adding this issuer to its issuer's CRL as well if it is not"
    " self-signed."
)


@dataclass(frozen=True)
class IssuerRevocation:
    """One per process."""

    store: Store
    authorities: Authorities
    desk: RevocationDesk

    def revoke(self, call: Call) -> Outcome:
        """Idempotent; there is no way back."""
        mount_id = call.mount.id
        issuer = self.authorities.issuer(mount_id, str(call.args["issuer_ref"]))
        if issuer.revoked_at:
            return Result(data=issuer_data(self.store.reader(), mount_id, issuer))
        revoked = msgspec.structs.replace(
            issuer,
            revoked_at=int(call.now),
            usage=tuple(usage for usage in issuer.usage if usage != "issuing-certificates"),
        )
        listed = self._listed(mount_id, issuer)
        own = x509.load_der_x509_certificate(issuer.certificate)
        warnings: tuple[str, ...] = ()
        if listed is None:
            warnings = (_SELF_SIGNED, _NOT_HERE) if own.issuer == own.subject else (_NOT_HERE,)

        def mark(tx: Transaction) -> Result:
            if listed is not None:
                revoke(tx, listed, int(call.now))
            return self._mark(tx, mount_id, revoked, warnings)

        return Change(mark)

    def _mark(self, tx: Transaction, mount_id: str, revoked: Issuer, warnings: tuple[str, ...]) -> Result:
        store_issuer(tx, mount_id, revoked)
        settle(tx, mount_id, revoked.revoked_at)
        data = issuer_data(tx, mount_id, revoked)
        return Result(data=data, warnings=warnings, subject={"issuer": revoked.id, "serial": revoked.serial})

    def _listed(self, mount_id: str, issuer: Issuer) -> Certificate | None:
        """Its certificate as one that an issuer of this mount signed and can put on its list."""
        above = self._above(mount_id, issuer)
        if above is None:
            return None
        row = self.store.reader().get(CERTIFICATES, f"{mount_id}/{issuer.serial}")
        if row is not None:
            return row.value
        brought = self.desk.brought(mount_id, pem(issuer.certificate))
        return msgspec.structs.replace(brought, issuer_id=above.id)

    def _above(self, mount_id: str, issuer: Issuer) -> Issuer | None:
        """The issuer of this mount that signed it and can sign a CRL."""
        own = x509.load_der_x509_certificate(issuer.certificate)
        for other in issuers(self.store.reader(), mount_id):
            if other.id == issuer.id or not other.key_id:
                continue
            if issued_by(own, x509.load_der_x509_certificate(other.certificate)):
                try:
                    self.authorities.get(mount_id, other.id, "crl-signing")
                except KmsError:
                    continue
                return other
        return None
