"""What anybody may fetch: CA certificates, chains, CRLs. Served as stored, signed by nobody anew.

These reads need neither keys nor an unsealed server and cost the same however many certificates
exist; only the PEM armour of a CRL grows with it. The peer's answers while a mount has no CA are kept.
"""

from __future__ import annotations

from typing import Any

from kms.clock import rfc3339
from kms.errors import ErrorKind, KmsError, not_found
from kms.operation import Call, Result
from kms.tables import Cache, Store
from pki.authority import no_default_issuer, pem
from pki.model import PublicCrl, PublicIssuer, parse_serial
from pki.store import CERTIFICATES, DEFAULT, PUBLIC_CRLS, PUBLIC_ISSUERS

PKIX_CERT = "application/pkix-cert"
PEM_CHAIN = "application/pem-certificate-chain"
PKIX_CRL = "application/pkix-crl"
PEM_FILE = "application/x-pem-file"


class PublicDocuments:
    """One per process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._issuers: Cache[PublicIssuer] = Cache(store, PUBLIC_ISSUERS)
        self._crls: Cache[PublicCrl] = Cache(store, PUBLIC_CRLS)

    # -- raw documents ------------------------------------------------------------------------------

    def ca(self, call: Call) -> Result:
        """The issuer's certificate in DER; nothing (204) while there is none."""
        issuer = self._find(call)
        return Result(raw=(issuer.certificate, PKIX_CERT)) if issuer is not None else Result()

    def ca_pem(self, call: Call) -> Result:
        """The same in PEM."""
        issuer = self._find(call)
        return Result(raw=(_armour([issuer.certificate]), PEM_CHAIN)) if issuer is not None else Result()

    def ca_chain(self, call: Call) -> Result:
        """The issuer and what is above it, PEM (under the peer's content type, which says DER)."""
        issuer = self._find(call)
        return Result(raw=(_armour(issuer.chain), PKIX_CERT)) if issuer is not None else Result()

    def crl(self, call: Call) -> Result:
        """The issuer's CRL in DER."""
        crl = self._crl(call)
        return Result(raw=(crl.der, PKIX_CRL)) if crl is not None else Result()

    def crl_pem(self, call: Call) -> Result:
        """The same in PEM."""
        crl = self._crl(call)
        if crl is None:
            return Result()
        return Result(raw=((pem(crl.der, "X509 CRL") + "\n").encode(), PEM_FILE))

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
            }
        )

    def issuer_crl_json(self, call: Call) -> Result:
        """issuer/:ref/crl."""
        crl = self._crl(call)
        return Result(data={"crl": pem(crl.der, "X509 CRL") + "\n" if crl is not None else ""})

    def issuer_der(self, call: Call) -> Result:
        """issuer/:ref/der."""
        return Result(raw=(self._known(call).certificate, PKIX_CERT))

    def issuer_pem(self, call: Call) -> Result:
        """issuer/:ref/pem."""
        return Result(raw=(_armour([self._known(call).certificate]), PEM_CHAIN))

    def cert_ca(self, call: Call) -> Result:
        """cert/ca."""
        return Result(data=_unrevoked(pem(self._known(call).certificate)))

    def cert_ca_chain(self, call: Call) -> Result:
        """cert/ca_chain."""
        chain = "\n".join(pem(der) for der in self._known(call).chain)
        return Result(data={"ca_chain": chain, **_unrevoked(chain)})

    def cert_crl(self, call: Call) -> Result:
        """cert/crl."""
        crl = self._crl(call)
        if crl is None:
            raise no_default_issuer()
        return Result(data=_unrevoked(pem(crl.der, "X509 CRL")))

    def cert(self, call: Call) -> Result:
        """cert/:serial, with the moment of its revocation."""
        certificate = self._certificate(call)
        data: dict[str, Any] = _unrevoked(pem(certificate.certificate))
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

    def _find(self, call: Call) -> PublicIssuer | None:
        ref = str(call.args.get("issuer_ref") or DEFAULT)
        row = self._issuers.get(f"{call.mount.id}/{ref}")
        if row is not None or ref == DEFAULT:
            return row.value if row is not None else None
        for other in self._store.reader().scan(PUBLIC_ISSUERS, f"{call.mount.id}/"):
            if other.value.name == ref:
                return other.value
        raise KmsError(ErrorKind.INVALID, f"unable to find PKI issuer for reference: {ref}", status=500)

    def _known(self, call: Call) -> PublicIssuer:
        issuer = self._find(call)
        if issuer is None:
            raise no_default_issuer()
        return issuer

    def _crl(self, call: Call) -> PublicCrl | None:
        issuer = self._find(call)
        row = self._crls.get(f"{call.mount.id}/{issuer.id}") if issuer is not None else None
        return row.value if row is not None else None

    def _certificate(self, call: Call) -> Any:
        serial = parse_serial(str(call.args["serial"]))
        row = self._store.reader().get(CERTIFICATES, f"{call.mount.id}/{serial}") if serial else None
        # An intent, or one whose outcome nobody knows, has no certificate to show.
        if row is None or not row.value.certificate:
            raise not_found()
        return row.value


def _armour(ders: Any) -> bytes:
    return "".join(pem(der) + "\n" for der in ders).encode("ascii")


def _unrevoked(text: str) -> dict[str, Any]:
    return {"certificate": text, "revocation_time": 0, "revocation_time_rfc3339": ""}
