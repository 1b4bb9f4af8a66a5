"""Renewal information (RFC 9773): when a certificate should be replaced, and that it is replaced once."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509

from kms.errors import ErrorKind, KmsError
from kms.operation import Call, Result
from kms.tables import Reader, Store, Transaction
from pki.acme.directories import Directories
from pki.acme.jwk import base64url, unbase64url
from pki.acme.model import HOUR, Order, Replacement
from pki.acme.problems import AcmeProblem, malformed, not_found
from pki.acme.store import ORDERS, REPLACEMENTS
from pki.model import Certificate
from pki.store import CERTIFICATES
from pki.validity import iso

RETRY_AFTER = 6 * HOUR
_LONGEST = 200


@dataclass(frozen=True)
class RenewalInfo:
    """One per process."""

    store: Store
    directories: Directories

    def read(self, call: Call) -> Result:
        """renewal-info/:certificate: anybody may ask; the answer says nothing that the certificate does not."""
        self.directories.of(call)
        certificate = find(self.store.reader(), call.mount.id, str(call.args["certificate"]))
        if certificate is None:
            raise not_found()
        start, end = _window(certificate)
        body = {"suggestedWindow": {"start": iso(start), "end": iso(end)}}
        return Result(data=body, headers=(("Retry-After", str(RETRY_AFTER)),))


def _window(certificate: Certificate) -> tuple[int, int]:
    """From two thirds to five sixths of its life; at once for what is revoked (RFC 9773 4.2)."""
    if certificate.revoked_at:
        return certificate.revoked_at - HOUR, certificate.revoked_at
    life = certificate.not_after - certificate.not_before
    return certificate.not_before + life * 2 // 3, certificate.not_before + life * 5 // 6


def find(reader: Reader, mount_id: str, name: str) -> Certificate | None:
    """The certificate of this mount that an RFC 9773 4.1 identifier names.

    Raises:
        AcmeProblem(malformed): not such an identifier.
    """
    key_id, dot, serial = name.partition(".")
    if not dot or len(name) > _LONGEST:
        raise malformed("a certificate is named by base64url(authority key id) . base64url(serial number)")
    identifier = unbase64url(key_id, "the authority key identifier")
    number = unbase64url(serial, "the serial number")
    row = reader.get(CERTIFICATES, f"{mount_id}/{number.hex()}")
    if row is None or not row.value.certificate or _key_id(row.value.certificate) != identifier:
        return None
    return row.value


def _key_id(der: bytes) -> bytes:
    certificate = x509.load_der_x509_certificate(der)
    found = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    return found.value.key_identifier or b""


def name_of(der: bytes) -> str:
    """The RFC 9773 identifier of a certificate."""
    serial = x509.load_der_x509_certificate(der).serial_number
    return f"{base64url(_key_id(der))}.{base64url(serial.to_bytes(serial.bit_length() // 8 + 1))}"


def check_replaces(tx: Transaction, order: Order) -> None:
    """RFC 9773 5: a certificate of this account, with a name in common, that nothing has replaced.

    Raises:
        AcmeProblem(malformed, unauthorized, alreadyReplaced).
    """
    certificate = find(tx, order.mount_id, order.replaces)
    if certificate is None:
        raise malformed("replaces names no certificate of this server", 404)
    earlier = [
        row.value for row in tx.find(ORDERS, {"mount_id": order.mount_id, "serial": certificate.serial})
    ]
    if not any(one.account_id == order.account_id for one in earlier):
        raise AcmeProblem("unauthorized", "the certificate to replace was not issued to this account")
    if not any(set(one.identifiers) & set(order.identifiers) for one in earlier):
        raise malformed("the certificate to replace has no name in common with the order")
    if tx.get(REPLACEMENTS, _key(order)) is not None:
        raise _already()


def take(tx: Transaction, order: Order) -> None:
    """This order replaces it, from now on. Raises AcmeProblem(alreadyReplaced)."""
    if not order.replaces:
        return
    try:
        tx.insert(REPLACEMENTS, _key(order), Replacement(order.id, order.delete_after))
    except KmsError as error:
        if error.kind is ErrorKind.CONFLICT:
            raise _already() from None
        raise


def give_back(tx: Transaction, order: Order) -> None:
    """It did not come to a certificate."""
    row = tx.get(REPLACEMENTS, _key(order)) if order.replaces else None
    if row is not None and row.value.order_id == order.id:
        tx.delete(REPLACEMENTS, row)


def keep(tx: Transaction, order: Order, until: int) -> None:
    """Remember it as long as the certificates are."""
    row = tx.get(REPLACEMENTS, _key(order)) if order.replaces else None
    if row is not None:
        tx.replace(REPLACEMENTS, row, Replacement(order.id, until))


def _key(order: Order) -> str:
    return f"{order.mount_id}/{order.replaces}"


def _already() -> AcmeProblem:
    return AcmeProblem("alreadyReplaced", "another order has replaced this certificate")
