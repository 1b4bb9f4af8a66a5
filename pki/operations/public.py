"""What anybody may read."""

from __future__ import annotations

from kms.operation import Needs, Operation
from pki.fields import ISSUER, clear
from pki.operations.kinds import document
from pki.service import PkiService


def table(service: PkiService) -> list[Operation]:
    """Operations of this file, for the registry."""
    public, serial = service.public, (clear("serial"),)
    return [
        document("ca", public.ca),
        document("ca-pem", public.ca_pem),
        document("ca-chain", public.ca_chain),
        document("crl", public.crl),
        document("crl-pem", public.crl_pem),
        document("cert-ca", public.cert_ca),
        document("cert-ca-chain", public.cert_ca_chain),
        document("cert-crl", public.cert_crl),
        document("issuer-json", public.issuer_json, ISSUER),
        document("issuer-der", public.issuer_der, ISSUER),
        document("issuer-pem", public.issuer_pem, ISSUER),
        document("issuer-crl-json", public.issuer_crl_json, ISSUER),
        document("issuer-crl", public.crl, ISSUER),
        document("issuer-crl-pem", public.crl_pem, ISSUER),
        # Certificates lie in sealed rows, with what became of them.
        document("cert", public.cert, serial, Needs.UNSEALED),
        document("cert-raw", public.cert_raw, serial, Needs.UNSEALED),
        document("cert-raw-pem", public.cert_raw_pem, serial, Needs.UNSEALED),
    ]
