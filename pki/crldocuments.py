"""CRLs as anybody may fetch them: complete, delta and shards, in DER, in PEM and inside JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from kms.errors import not_found
from kms.operation import Call, Result
from pki import marks
from pki.authority import no_default_issuer, pem
from pki.freshness import FreshCrls
from pki.marks import Scope
from pki.model import PublicCrl
from pki.public import PublicDocuments, unrevoked
from pki.unchanged import latest

PKIX_CRL = "application/pkix-crl"
PEM_FILE = "application/x-pem-file"

Kind = Callable[[str, str], Scope]


@dataclass(frozen=True)
class CrlDocuments:
    """One per process."""

    documents: PublicDocuments
    crls: FreshCrls

    def crl(self, call: Call) -> Result:
        """crl: nothing (204) while there is no issuer."""
        return _der(self._crl(call, marks.complete))

    def crl_pem(self, call: Call) -> Result:
        """crl/pem."""
        return _pem(self._crl(call, marks.complete))

    def delta(self, call: Call) -> Result:
        """crl/delta."""
        return _der(self._crl(call, marks.delta))

    def delta_pem(self, call: Call) -> Result:
        """crl/delta/pem."""
        return _pem(self._crl(call, marks.delta))

    def shard(self, call: Call) -> Result:
        """crl/shard/:issuer/:number; what a certificate's distribution point names."""
        number = str(call.args["shard"])
        if not number.isdecimal() or len(number) > 4 or number != str(int(number)):
            raise not_found()
        crl = self.crls.get(marks.shard(call.mount.id, str(call.args["shard_issuer"]), int(number)))
        if crl is None:
            raise not_found()
        return _der(crl)

    def issuer_json(self, call: Call) -> Result:
        """issuer/:ref/crl."""
        return _json(self._crl(call, marks.complete))

    def issuer_delta_json(self, call: Call) -> Result:
        """issuer/:ref/crl/delta."""
        return _json(self._crl(call, marks.delta))

    def cert_crl(self, call: Call) -> Result:
        """cert/crl."""
        return _certificate(self._crl(call, marks.complete))

    def cert_delta(self, call: Call) -> Result:
        """cert/delta-crl."""
        return _certificate(self._crl(call, marks.delta))

    def _crl(self, call: Call, kind: Kind) -> PublicCrl | None:
        issuer = self.documents.find(call)
        crl = self.crls.get(kind(call.mount.id, issuer.id)) if issuer is not None else None
        if issuer is None or crl is None:
            return None
        # The default issuer may change, and with it whose list this is.
        return msgspec.structs.replace(crl, modified=latest(crl.modified, issuer.modified))


def _der(crl: PublicCrl | None) -> Result:
    return Result(raw=(crl.der, PKIX_CRL), modified=crl.modified) if crl is not None else Result()


def _text(crl: PublicCrl) -> str:
    return pem(crl.der, "X509 CRL")


def _pem(crl: PublicCrl | None) -> Result:
    if crl is None:
        return Result()
    return Result(raw=((_text(crl) + "\n").encode(), PEM_FILE), modified=crl.modified)


def _json(crl: PublicCrl | None) -> Result:
    if crl is None:
        return Result(data={"crl": ""})
    return Result(data={"crl": _text(crl) + "\n"}, modified=crl.modified)


def _certificate(crl: PublicCrl | None) -> Result:
    if crl is None:
        raise no_default_issuer()
    data: dict[str, Any] = unrevoked(_text(crl))
    return Result(data=data, modified=crl.modified)
