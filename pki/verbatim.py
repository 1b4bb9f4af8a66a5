"""sign-verbatim: what a CSR asks for, without a role's limits on names; for callers whom policy trusts with that.

Still no CA certificate, no name or key that no certificate of ours may carry, nothing outside the issuer's
constraints, and nothing dropped in silence: an extension that is not carried over is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from cryptography import x509

from kms.errors import invalid
from kms.operation import Call, External
from kms.tables import Store
from pki import constraints, goodkey, leafkeys
from pki.authority import Authorities, Authority
from pki.goodkey import Blocklist, LeafPublicKey, spki_der
from pki.hsmkey import CaToken
from pki.index import CertificateIndex
from pki.issuance import Act, answer, is_ca_key, leaf_window
from pki.judging import copied, judged, judged_subject, with_common_names
from pki.lint import Linter
from pki.model import Role
from pki.names import Names
from pki.profiles import Draft, nested, new_serial
from pki.profiles.draft import Extensions
from pki.profiles.usages import ext_key_usages, leaf_key_usage, refuse_usages
from pki.requests import ignored, parse_csr
from pki.rolebook import RoleBook
from pki.signing import prepare

_ROLE = Role(require_cn=False, key_type="any")
_KEPT = (x509.SubjectAlternativeName, x509.CertificatePolicies, x509.TLSFeature)


@dataclass(frozen=True)
class Verbatim:
    """One per process."""

    store: Store
    token: CaToken
    authorities: Authorities
    roles: RoleBook
    linter: Linter
    blocklist: Blocklist
    index: CertificateIndex

    def sign(self, call: Call, issuer_ref: str = "") -> External[bytes]:
        """Certify subject, alternative names and usages of a CSR as they are.

        A role gives lifetimes, storing and the issuer, nothing else.
        """
        args = call.args
        name = str(args.get("role") or "")
        role = self.roles.known(call.mount.id, name).value if name else _ROLE
        form = leafkeys.check_format(args)
        csr = parse_csr(str(args.get("csr") or ""))
        authority = self.authorities.signer(call.mount.id, issuer_ref or role.issuer_ref)
        public = goodkey.check(csr.public_key(), self.blocklist, is_ca_key(self.store))
        names = _names(csr)
        constraints.check(names, authority.constraints)
        constraints.check_subject(csr.subject, authority.constraints)
        valid, warnings = leaf_window(
            call, msgspec.structs.replace(role, not_before_bound="permit"), authority
        )
        warnings = (*ignored(args, _ROLE), *warnings)
        pss = bool(args.get("use_pss"))
        serial = new_serial(valid[0])
        draft = Draft(
            profile="verbatim",
            serial=serial,
            issuer=authority.certificate.subject,
            subject=csr.subject,
            not_before=valid[0],
            not_after=valid[1],
            public_key=public,
            spki=spki_der(public),
            extensions=_extensions(csr, args, public, authority),
            hash_name=authority.hash_name(int(args.get("signature_bits") or 0), pss=pss),
            shape=("verbatim", serial),  # whoever wrote the CSR chose the shape: each is linted in full
        )

        nested.check(draft.extensions, authority.usages)

        def finish(der: bytes) -> dict[str, Any]:
            without_roots = bool(args.get("remove_roots_from_chain"))
            return answer(authority, draft, der, form, without_roots=without_roots)

        return Act(
            mount=call.mount,
            now=int(call.now),
            authority=authority,
            prepared=prepare(draft, authority.public_key, self.linter),
            token=self.token,
            role=name,
            stored=not role.no_store,
            index=self.index,
            finish=finish,
            warnings=warnings,
        ).external()


def _names(csr: x509.CertificateSigningRequest) -> Names:
    """The CSR's names, each checked against the one grammar. Raises KmsError(INVALID)."""
    judged_subject(csr.subject)
    try:
        names = copied(csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        names = Names()
    return with_common_names(csr.subject, judged(csr.subject, names))


def _extensions(
    csr: x509.CertificateSigningRequest, args: Mapping[str, Any], public: LeafPublicKey, authority: Authority
) -> Extensions:
    key_type, _ = goodkey.key_type_and_bits(public)
    usage: tuple[x509.ExtensionType, bool] = (leaf_key_usage(args.get("key_usage") or (), key_type), True)
    asked = ext_key_usages(args.get("ext_key_usage") or (), args.get("ext_key_usage_oids") or ())
    extended: list[tuple[x509.ExtensionType, bool]] = [(x509.ExtendedKeyUsage(asked), False)] if asked else []
    kept: list[tuple[x509.ExtensionType, bool]] = []
    for extension in csr.extensions:
        value = extension.value
        if isinstance(value, x509.KeyUsage):
            usage = (_leaf_usage(value), True)
        elif isinstance(value, x509.ExtendedKeyUsage):
            refuse_usages(value)
            extended = [(value, extension.critical)]
        elif isinstance(value, x509.SubjectAlternativeName):
            kept.append((value, extension.critical or not list(csr.subject)))
        elif isinstance(value, x509.BasicConstraints):
            if value.ca:
                raise invalid("the CSR asks for a CA certificate: use sign-intermediate")
        elif isinstance(value, _KEPT):
            kept.append((value, extension.critical))
        elif not isinstance(value, x509.SubjectKeyIdentifier):  # that one is ours to compute
            raise invalid(
                f"the CSR asks for an extension that is not carried over: {value.oid.dotted_string}"
            )
    ski = x509.SubjectKeyIdentifier.from_public_key(public)
    basic = x509.BasicConstraints(ca=False, path_length=None)
    return ((basic, True), usage, *extended, *authority.common, (ski, False), *kept)


def _leaf_usage(value: x509.KeyUsage) -> x509.KeyUsage:
    if value.key_cert_sign or value.crl_sign:
        raise invalid("the CSR asks for key usages of a CA: use sign-intermediate")
    return value
