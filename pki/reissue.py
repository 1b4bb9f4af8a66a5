"""A leaf renews itself: its own certificate, presented over TLS, stands where others have a token.

    (1) presented   the TLS handshake, or a trusted front proxy, proves that the caller holds the certificate's key
    (2) ours        the very bytes are on record in this mount: nobody's word for who issued it is needed
    (3) alive       signed and answered, not revoked, within its validity
    (4) role        it still exists and says `renewable`; what its holder must not prolong has no such role
    (5) names       those of the old certificate, and no others; the role and the issuer must still allow each of them
    (6) key         that of the CSR, new or the old one, as good as any

Then it is issued like any other, for as long as the old one was (the role's maximum holds), by the issuer that the
role names now: so a mesh moves to a new issuer by itself. The old certificate stays valid until it ends.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from kms.errors import invalid
from kms.operation import Call, External, Outcome, Principal
from kms.tables import Store
from pki.issuance import Issuance
from pki.model import Certificate, wire_serial
from pki.names import Names
from pki.presented import in_force
from pki.profiles.named import PROFILES
from pki.requests import common_name, names_in, parse_csr

# Of others (CAs, responders, sign-verbatim) somebody decides each time.
_RENEWED = {"leaf", *PROFILES} - {"ca", "ocsp"}


@dataclass(frozen=True)
class Reissue:
    """One per process."""

    store: Store
    issuance: Issuance

    def renew(
        self, call: Call, once: Callable[[Callable[[Call], External[Any]]], Callable[[Call], Outcome]]
    ) -> Outcome:
        """Certify the key of a CSR for the names of the certificate that the caller presents.

        `once` is `Idempotency.guard`, which needs to know who calls.

        Raises:
            KmsError(INVALID): status 401 for steps (1) to (3), 400 for the rest.
        """
        old = self.holder(call)
        return once(lambda inner: self._renew(inner, old))(call)

    def holder(self, call: Call) -> Certificate:
        """Steps (1) to (3); the caller is the certificate's holder from here on."""
        held = in_force(self.store, call).value
        call.principal = Principal(
            accessor=held.serial, display_name=f"certificate-{wire_serial(held.serial)}"
        )
        return held

    def _renew(self, call: Call, old: Certificate) -> External[bytes]:
        if old.profile not in _RENEWED or not old.role:
            raise invalid("certificates of this kind are not renewed by their holder")
        row = self.issuance.roles.known(call.mount.id, old.role)  # (4)
        role = row.value
        if not role.renewable:
            raise invalid(f"the role {old.role} lets no certificate renew itself: set renewable=true")
        names = _names(x509.load_der_x509_certificate(old.certificate))  # (5)
        csr = parse_csr(str(call.args.get("csr") or ""))
        _check_request(csr, names)
        life = old.not_after - old.created_at + 1
        args: Mapping[str, Any] = {
            **call.args,
            "role": old.role,
            "ttl": 0 if role.not_after else int(call.args.get("ttl") or life),
        }
        inner = dataclasses.replace(call, args=dict(args))
        signing = self.issuance.sign_named(inner, row, role.issuer_ref, csr, names, source="the certificate")
        return dataclasses.replace(signing, intent={**signing.intent, "renews": old.serial})


def _names(certificate: x509.Certificate) -> Names:
    """What the certificate says about its holder, as it was asked for then."""
    try:
        names = names_in(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        names = Names()
    subject = {
        oid: tuple(str(attribute.value) for attribute in certificate.subject.get_attributes_for_oid(oid))
        for oid in (NameOID.COMMON_NAME, NameOID.SERIAL_NUMBER, NameOID.USER_ID)
    }
    return dataclasses.replace(
        names,
        common_name="".join(subject[NameOID.COMMON_NAME]),
        serial_number="".join(subject[NameOID.SERIAL_NUMBER]),
        user_ids=subject[NameOID.USER_ID],
    )


def _check_request(csr: x509.CertificateSigningRequest, names: Names) -> None:
    """A CSR that asks for other names is refused, and not answered with what it did not ask for."""
    asked = common_name(csr)
    if asked and asked != names.common_name:
        raise invalid("the CSR's common name is not that of the certificate: a renewal changes no name")
    try:
        wanted = names_in(csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return
    for kind in ("dns", "emails", "ips", "uris", "others"):
        if set(getattr(wanted, kind)) != set(getattr(names, kind)):
            raise invalid("the CSR's alternative names are not those of the certificate: leave them out")
