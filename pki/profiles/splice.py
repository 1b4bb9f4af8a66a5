"""To-be-signed bytes of leaves by replacing the variable parts of a certificate of the same shape.

What a role and an issuer fix is taken from a certificate that cryptography built and that was linted;
serial, times, subject, key, SKI and alternative names are written from the checked values. It costs a
tenth of building. Whoever learns a splice compares its first output, and samples after that, with
cryptography's, byte for byte (pki.signing).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography.x509.oid import ExtensionOID, NameOID

from kms.errors import integrity, invalid
from pki import der
from pki.names import Names, check_dns, check_email, check_uri

_COMMON_NAME = der.oid(NameOID.COMMON_NAME.dotted_string)
_SERIAL_NUMBER = der.oid(NameOID.SERIAL_NUMBER.dotted_string)
_USER_ID = der.oid(NameOID.USER_ID.dotted_string)
_SKI = der.oid(ExtensionOID.SUBJECT_KEY_IDENTIFIER.dotted_string)
_SAN = der.oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME.dotted_string)


@dataclass(frozen=True, slots=True)
class Splice:
    """What all certificates of one shape share, in DER.

    Args:
        signature: AlgorithmIdentifier, inside the to-be-signed bytes and after them.
        issuer: the issuer's Name.
        constant: the extensions that do not vary; they come first.
    """

    signature: bytes
    issuer: bytes
    constant: bytes

    def tbs(self, serial: int, window: tuple[int, int], subject: bytes, spki: bytes, added: bytes) -> bytes:
        """TBSCertificate (RFC 5280 4.1). `subject` is a whole Name, `added` are whole Extensions, or empty."""
        validity = der.time(window[0]) + der.time(window[1])
        extensions = self.constant + key_identifier(spki) + added
        return der.tlv(
            der.SEQUENCE,
            b"".join(
                (
                    _VERSION_3,
                    der.integer(serial),
                    self.signature,
                    self.issuer,
                    der.tlv(der.SEQUENCE, validity),
                    subject,
                    spki,
                    der.tlv(der.EXTENSIONS, der.tlv(der.SEQUENCE, extensions)),
                )
            ),
        )


_VERSION_3 = b"\xa0\x03\x02\x01\x02"


def learn(tbs: bytes, constants: int) -> Splice:
    """The shared parts of a built and linted certificate, of whose extensions the first `constants` are fixed.

    Raises:
        KmsError(INTEGRITY): it does not look like a leaf of ours.
    """
    parts = der.elements(der.content(tbs))
    if len(parts) != 8 or parts[7][0] != der.EXTENSIONS:
        raise integrity("a certificate to learn from has other parts than expected")
    extensions = der.elements(der.content(der.content(parts[7])))
    return Splice(signature=parts[2], issuer=parts[3], constant=b"".join(extensions[:constants]))


def key_identifier(spki: bytes) -> bytes:
    """SubjectKeyIdentifier extension: SHA-1 over the key's bits (RFC 5280 4.2.1.2, method 1)."""
    bits = der.content(der.element(der.content(spki), 1))[1:]  # the first octet counts unused bits
    digest = hashlib.sha1(bits, usedforsecurity=False).digest()
    return der.extension(_SKI, der.tlv(der.OCTET_STRING, digest))


def subject_name(fixed: bytes, names: Names) -> bytes:
    """A Name from the encoded attributes of the role and what the request adds; texts are bounded already."""
    added = fixed
    if names.common_name:
        added += der.attribute(_COMMON_NAME, names.common_name)
    if names.serial_number:
        added += der.attribute(_SERIAL_NUMBER, names.serial_number, der.PRINTABLE_STRING)
    for user_id in names.user_ids:
        added += der.attribute(_USER_ID, user_id)
    return der.tlv(der.SEQUENCE, added)


def alternative_names(names: Names, *, critical: bool) -> bytes:
    """SubjectAltName extension without other names; empty when there are none.

    Raises:
        KmsError(INVALID): a name that pki.names refuses. Roles have looked; nothing looks after this.
    """
    try:
        general = [der.tlv(der.DNS_NAME, check_dns(name).encode("ascii")) for name in names.dns]
        general += [der.tlv(der.RFC822_NAME, check_email(name).encode("ascii")) for name in names.emails]
        general += [der.tlv(der.IP_ADDRESS, address.packed) for address in names.ips]
        general += [der.tlv(der.URI, check_uri(name).encode("ascii")) for name in names.uris]
    except ValueError as bad:
        raise invalid(f"a name cannot stand in a certificate: {bad}") from None
    if not general:
        return b""
    return der.extension(_SAN, der.tlv(der.SEQUENCE, b"".join(general)), critical=critical)
