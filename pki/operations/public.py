"""What anybody may read."""

from __future__ import annotations

from functools import partial

from kms.operation import Needs, Operation
from pki.fields import ISSUER, clear
from pki.operations.kinds import PKI
from pki.service import PkiService


def table(service: PkiService) -> list[Operation]:
    """Operations of this file, for the registry."""
    document = partial(PKI.document, needs=Needs.NOTHING)  # rendered when it was signed
    public, crls, serial = service.public, service.crl_documents, (clear("serial"),)
    return [
        document("ca", public.ca),
        document("ca-pem", public.ca_pem),
        document("ca-chain", public.ca_chain),
        document("crl", crls.crl),
        document("crl-pem", crls.crl_pem),
        document("crl-delta", crls.delta),
        document("crl-delta-pem", crls.delta_pem),
        document("crl-shard", crls.shard, (*ISSUER, clear("shard_issuer"), clear("shard"))),
        document("cert-ca", public.cert_ca),
        document("cert-ca-chain", public.cert_ca_chain),
        document("cert-crl", crls.cert_crl),
        document("cert-delta-crl", crls.cert_delta),
        document("issuer-json", public.issuer_json, ISSUER),
        document("issuer-der", public.issuer_der, ISSUER),
        document("issuer-pem", public.issuer_pem, ISSUER),
        document("issuer-crl-json", crls.issuer_json, ISSUER),
        document("issuer-crl", crls.crl, ISSUER),
        document("issuer-crl-pem", crls.crl_pem, ISSUER),
        document("issuer-crl-delta-json", crls.issuer_delta_json, ISSUER),
        document("issuer-crl-delta", crls.delta, ISSUER),
        document("issuer-crl-delta-pem", crls.delta_pem, ISSUER),
        # Certificates lie in sealed rows, with what became of them.
        PKI.document("cert", public.cert, serial),
        PKI.document("cert-raw", public.cert_raw, serial),
        PKI.document("cert-raw-pem", public.cert_raw_pem, serial),
    ]
