"""What anybody may fetch: CA certificates and chains. Served as stored, signed by nobody anew.

These reads need neither keys nor an unsealed server and cost the same however many certificates
exist. The peer's answers while a mount has no CA are kept. CRLs are in pki.crldocuments.
"""

from __future__ import annotations

from typing import Any

import msgspec

from kms.clock import rfc3339
from kms.errors import ErrorKind, KmsError, not_found
from kms.operation import Call, Result
from kms.tables import Cache, Store
from pki.authority import no_default_issuer, pem
from pki.model import PublicIssuer, parse_serial
from pki.store import CERTIFICATES, DEFAULT, PUBLIC_ISSUERS

PKIX_CERT = "application/pkix-cert"
PEM_CHAIN = "application/pem-certificate-chain"


class PublicDocuments:
    """One per process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._issuers: Cache[PublicIssuer] = Cache(store, PUBLIC_ISSUERS)

    # -- raw documents ------------------------------------------------------------------------------

    def ca(self, call: Call) -> Result:
        """The issuer's certificate in DER; nothing (204) while there is none."""
        issuer = self.find(call)
        return _raw(issuer.certificate, PKIX_CERT, issuer) if issuer is not None else Result()

    def ca_pem(self, call: Call) -> Result:
        """The same in PEM."""
        issuer = self.find(call)
        return _raw(_armour([issuer.certificate]), PEM_CHAIN, issuer) if issuer is not None else Result()

    def ca_chain(self, call: Call) -> Result:
        """The issuer and what is above it, PEM (under the peer's content type, which says DER)."""
        issuer = self.find(call)
        return Result(raw=(_armour(issuer.chain), PKIX_CERT)) if issuer is not None else Result()

    # -- the same inside JSON -----------------------------------------------------------------------

    def issuer_json(self, call: Call) -> Result:
        """issuer/:ref/json."""
        issuer = self._known(call)
        return Result(
            data={
                "certificate": pem(issuer.certificate) + "\n",
                "ca_chain": [pem(der) + "\n" for der in issuer.chain],
                "issuer_id": issuer.id,
                "issuer_name": issuer.name,
            },
            modified=issuer.modified,
        )

    def issuer_der(self, call: Call) -> Result:
        """issuer/:ref/der."""
        issuer = self._known(call)
        return _raw(issuer.certificate, PKIX_CERT, issuer)

    def issuer_pem(self, call: Call) -> Result:
        """issuer/:ref/pem."""
        issuer = self._known(call)
        return _raw(_armour([issuer.certificate]), PEM_CHAIN, issuer)

    def cert_ca(self, call: Call) -> Result:
        """cert/ca."""
        issuer = self._known(call)
        return Result(data=unrevoked(pem(issuer.certificate)), modified=issuer.modified)

    def cert_ca_chain(self, call: Call) -> Result:
        """cert/ca_chain."""
        chain = "\n".join(pem(der) for der in self._known(call).chain)
        return Result(data={"ca_chain": chain, **unrevoked(chain)})

    def cert(self, call: Call) -> Result:
        """cert/:serial, with the moment of its revocation."""
        certificate = self._certificate(call)
        data: dict[str, Any] = unrevoked(pem(certificate.certificate))
        if certificate.revoked_at:
            data["issuer_id"] = certificate.issuer_id
            data["revocation_time"] = certificate.revoked_at
            data["revocation_time_rfc3339"] = rfc3339(certificate.revoked_at)
        return Result(data=data)

    def cert_raw(self, call: Call) -> Result:
        """cert/:serial/raw."""
        return Result(raw=(self._certificate(call).certificate, PKIX_CERT))

    def cert_raw_pem(self, call: Call) -> Result:
        """cert/:serial/raw/pem."""
        return Result(raw=(_armour([self._certificate(call).certificate]), PEM_CHAIN))

    # -- looking up ---------------------------------------------------------------------------------

    def find(self, call: Call) -> PublicIssuer | None:
        """The issuer that is asked for, or the default one; None while there is none."""
        ref = str(call.args.get("issuer_ref") or DEFAULT)
        row = self._issuers.get(f"{call.mount.id}/{ref}")
        if row is not None or ref == DEFAULT:
            return row.value if row is not None else None
        for other in self._store.reader().scan(PUBLIC_ISSUERS, f"{call.mount.id}/"):
            if other.value.name == ref:
                # A name may move to another issuer, whose document is older than what somebody fetched before.
                return msgspec.structs.replace(other.value, modified=0)
        raise KmsError(ErrorKind.INVALID, f"unable to find PKI issuer for reference: {ref}", status=500)

    def _known(self, call: Call) -> PublicIssuer:
        issuer = self.find(call)
        if issuer is None:
            raise no_default_issuer()
        return issuer

    def _certificate(self, call: Call) -> Any:
        serial = parse_serial(str(call.args["serial"]))
        row = self._store.reader().get(CERTIFICATES, f"{call.mount.id}/{serial}") if serial else None
        # An intent, or one whose outcome nobody knows, has no certificate to show.
        if row is None or not row.value.certificate:
            raise not_found()
        return row.value


def _raw(body: bytes, kind: str, issuer: PublicIssuer) -> Result:
    return Result(raw=(body, kind), modified=issuer.modified)


def _armour(ders: Any) -> bytes:
    return "".join(pem(der) + "\n" for der in ders).encode("ascii")


def unrevoked(text: str) -> dict[str, Any]:
    """A document as cert/:serial shows what was not revoked."""
    return {"certificate": text, "revocation_time": 0, "revocation_time_rfc3339": ""}
