"""What the CSR of an intermediate says of its certificate, for `use_csr_values`.

It is carried over, or the answer warns that it was left out; what a relying party must understand (critical) and the
CA does not is refused. A name constraint or a path length that got lost would make a CA of more power than asked for.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from cryptography import x509

from kms.errors import invalid
from pki.judging import copied, judged, judged_subject
from pki.names import Names
from pki.profiles.ca import CaRequest
from pki.profiles.draft import Extensions
from pki.profiles.usages import refuse_usages

_KEPT = (x509.NameConstraints, x509.CertificatePolicies, x509.PolicyConstraints, x509.InhibitAnyPolicy)
_OURS = (x509.SubjectKeyIdentifier, x509.AuthorityKeyIdentifier)  # computed from keys
_READ = (x509.SubjectAlternativeName, x509.BasicConstraints, x509.ExtendedKeyUsage)
_NOT_OF_CAS = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")


def with_csr(
    request: CaRequest, csr: x509.CertificateSigningRequest, *, length_given: bool
) -> tuple[CaRequest, tuple[str, ...]]:
    """The request with the CSR's values in place of the API's, and warnings about those that were left out.

    `length_given`: the API says a path length, which then counts.

    Raises:
        KmsError(INVALID): something that no CA certificate of ours carries.
    """
    judged_subject(csr.subject)
    changes: dict[str, Any] = {"subject": csr.subject, "names": Names()}
    for extension in csr.extensions:
        value = extension.value
        if isinstance(value, x509.SubjectAlternativeName):
            changes["names"] = judged(csr.subject, copied(value))
        elif isinstance(value, x509.BasicConstraints) and value.ca and not length_given:
            changes["path_length"] = value.path_length
        elif isinstance(value, x509.KeyUsage):
            changes["digital_signature"] = request.digital_signature or value.digital_signature
        elif isinstance(value, x509.ExtendedKeyUsage):
            refuse_usages(value)
            changes["ext_key_usages"] = tuple(value)
    extensions, left = _rest(csr)
    if request.permitted_dns and any(isinstance(value, x509.NameConstraints) for value, _ in extensions):
        raise invalid("the CSR and permitted_dns_domains both say name constraints: leave one of them out")
    made = dataclasses.replace(request, extensions=extensions, **changes)
    return made, tuple(f"the CSR's {each} was left out" for each in left)


def _rest(csr: x509.CertificateSigningRequest) -> tuple[Extensions, list[str]]:
    """What is carried over as it is, and what not at all."""
    kept: list[tuple[x509.ExtensionType, bool]] = []
    left: list[str] = []
    for extension in csr.extensions:
        value = extension.value
        if isinstance(value, _KEPT):
            kept.append((value, extension.critical or isinstance(value, x509.NameConstraints)))
        elif isinstance(value, x509.KeyUsage):
            left += [f"key usage {name}" for name in _NOT_OF_CAS if getattr(value, name)]
        elif extension.critical and not isinstance(value, _READ):
            raise invalid(
                f"the CSR asks for a critical extension that is not carried over: {value.oid.dotted_string}"
            )
        elif not isinstance(value, (*_READ, *_OURS)):
            left.append(f"extension {value.oid.dotted_string}")
    return tuple(kept), left
