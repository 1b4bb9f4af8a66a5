"""The certificate that a client presents: ours, in force, and by these very bytes.

The TLS handshake, or a trusted front proxy, proves that the client holds its key; the record of the mount says that it was
issued here, to whom, and what became of it. So no chain is verified, and nothing is believed but the record.
"""

from __future__ import annotations

from cryptography import x509

from kms.errors import ErrorKind, KmsError
from kms.operation import Call
from kms.tables import Row, Store
from pki.model import Certificate, CertificateState, serial_hex
from pki.store import CERTIFICATES


def in_force(store: Store, call: Call) -> Row[Certificate]:
    """The record of the presented certificate.

    Raises:
        KmsError(INVALID, status 401): none was presented, it is not of this mount, or not in force.
    """
    if not call.unverified_chain:
        raise _unproven(
            "no client certificate was presented: connect with the one that is to be renewed"
            ' (the server asks for one with client_certificates = "request" in [tls])'
        )
    der = call.unverified_chain[0]
    try:
        serial = serial_hex(x509.load_der_x509_certificate(der).serial_number)
    except ValueError:
        raise _unproven("the client certificate cannot be read") from None
    row = store.reader().get(CERTIFICATES, f"{call.mount.id}/{serial}")
    # Not only the serial: these very bytes were signed here.
    if row is None or row.value.certificate != der:
        raise _unproven("the client certificate is not on record here")  # or its role keeps none
    held = row.value
    if held.state != CertificateState.ISSUED or held.revoked_at:
        raise _unproven("the client certificate is revoked")
    if not held.not_before <= call.now < held.not_after + 1:
        raise _unproven("the client certificate is not valid now")
    return row


def _unproven(detail: str) -> KmsError:
    return KmsError(ErrorKind.INVALID, detail, status=401)
