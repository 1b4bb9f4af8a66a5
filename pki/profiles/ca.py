"""Certificates of CAs: self-signed roots, and intermediates."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509

from kms.errors import invalid
from pki.names import Names
from pki.profiles.draft import Draft, Extensions, new_serial
from pki.profiles.subject import alternative_names
from pki.profiles.usages import ca_key_usage
from pki.schemes import CaPublicKey


@dataclass(frozen=True, slots=True)
class CaRequest:
    """What a new CA certificate shall say.

    Args:
        path_length: pathLenConstraint, None for no limit.
        permitted_dns: name constraint, empty for none.
        ext_key_usages: limits what may be issued below (as relying parties read it), empty for none.
    """

    subject: x509.Name
    names: Names
    path_length: int | None = None
    permitted_dns: tuple[str, ...] = ()
    ext_key_usages: tuple[x509.ObjectIdentifier, ...] = ()
    skid: bytes = b""  # subject key identifier, empty for that of RFC 5280 4.2.1.2 (1)
    digital_signature: bool = False  # it also signs OCSP answers and the like itself
    extensions: Extensions = ()  # of a CSR


def ca_draft(
    request: CaRequest,
    key: tuple[CaPublicKey, bytes],
    window: tuple[int, int],
    issuer: tuple[x509.Name, Extensions, str],
    *,
    root: bool,
    serial: int = 0,
) -> Draft:
    """A root (no URLs: it is its own issuer) or an intermediate.

    `key` is the public key and its SPKI; `issuer` its name, the extensions of all that it issues, and
    the hash of its signatures.

    Raises:
        KmsError(INVALID): no subject (RFC 5280 4.1.2.6).
    """
    if not list(request.subject):
        raise invalid("a CA needs a subject: give common_name")
    public, spki = key
    name, common, hash_name = issuer
    ski = x509.SubjectKeyIdentifier.from_public_key(public)
    if request.skid:
        ski = x509.SubjectKeyIdentifier(request.skid)
    own = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski)
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=True, path_length=request.path_length), True),
        (ca_key_usage(digital_signature=request.digital_signature), True),
        (ski, False),
        *(((own, False),) if root else common),
    ]
    if request.ext_key_usages:
        extensions.append((x509.ExtendedKeyUsage(request.ext_key_usages), False))
    if request.permitted_dns:
        trees = [x509.DNSName(name) for name in request.permitted_dns]
        extensions.append((x509.NameConstraints(permitted_subtrees=trees, excluded_subtrees=None), True))
    extensions += request.extensions
    if request.names.has_sans:
        extensions.append((alternative_names(request.names), False))
    profile = "root" if root else "intermediate"
    serial = serial or new_serial()
    return Draft(
        profile=profile,
        serial=serial,
        issuer=name,
        subject=request.subject,
        not_before=window[0],
        not_after=window[1],
        public_key=public,
        spki=spki,
        extensions=tuple(extensions),
        hash_name=hash_name,
        # CA certificates are rare and live long: each is a shape of its own, so each is linted in full.
        shape=(profile, serial),
    )
