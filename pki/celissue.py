"""Issuing under a role that is a program: it sees the request and answers with a certificate's template, or with why not.

The program replaces the role's limits on names and nothing else. The template goes the way of every leaf: the grammar
of names, good keys, the issuer's and the mount's times, its name constraints, the full linter, intent, signature,
record (pki.issuance).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography import x509

from kms.cel import Outcome
from kms.errors import KmsError, invalid
from kms.leases import LeaseBook
from kms.operation import Call, External
from kms.tables import Store
from pki import celrequest, celtemplate, constraints, goodkey, leafkeys
from pki.authority import Authorities, Authority
from pki.celroles import DIALECT, CelRoles
from pki.goodkey import Blocklist, LeafPublicKey, spki_der
from pki.hsmkey import CaToken
from pki.index import CertificateIndex
from pki.issuance import Act, Finish, answer, is_ca_key, leaf_window
from pki.judging import with_common_names
from pki.leasing import lease_of
from pki.lint import Linter
from pki.model import Role
from pki.profiles import Draft, nested, new_serial
from pki.requests import parse_csr
from pki.rolewrite import key_bits
from pki.signing import prepare
from pki.store import DEFAULT
from pki.validity import iso

_OUTPUT = "openbao.pki.ValidationOutput"
_SIGNATURE_BITS = (0, 256, 384, 512)


@dataclass(frozen=True)
class CelIssuance:
    """One per process."""

    store: Store
    token: CaToken
    authorities: Authorities
    roles: CelRoles
    linter: Linter
    blocklist: Blocklist
    leases: LeaseBook
    index: CertificateIndex

    def issue(self, call: Call) -> External[bytes]:
        """Make a key of the type that the program says, RSA with 2048 bits where it says none."""
        output = self._decide(call, None)
        key_type = str(output.get("key_type") or "rsa")
        bits = _checked_bits(key_type, int(output.get("key_bits", 0)))
        authority = self._begin(call, output)
        private = leafkeys.generate(key_type, bits)
        text = leafkeys.private_text(private, key_type, pkcs8=False, der=False)
        more = {"private_key": text, "private_key_type": key_type}
        return self._external(call, output, authority, private.public_key(), more)

    def sign(self, call: Call) -> External[bytes]:
        """Certify the key of a CSR; its wishes are what the program makes of `parsed_csr`."""
        csr = parse_csr(str(call.args["csr"])) if call.args.get("csr") else None
        output = self._decide(call, csr)
        if csr is None:
            raise invalid("csr contains no data")
        authority = self._begin(call, output)
        public = goodkey.check(csr.public_key(), self.blocklist, is_ca_key(self.store))
        return self._external(call, output, authority, public, {"private_key": "", "private_key_type": ""})

    def _decide(self, call: Call, csr: x509.CertificateSigningRequest | None) -> Mapping[str, Any]:
        """The program's ValidationOutput. Raises KmsError(INVALID) with whatever else it said."""
        program = self.roles.known(call)
        seen = celrequest.values(call, csr)
        outcome: Outcome = self.roles.programs.run(DIALECT, program, seen, "error evaluating mainProgram: ")
        if outcome.kind == "string":
            raise invalid(outcome.value or "request denied")
        if outcome.kind == "bool":
            raise invalid("request denied")
        if outcome.kind != "message":
            raise invalid(f"unexpected mainProgram result type {outcome.name}")
        if outcome.name != _OUTPUT or "template" not in outcome.value:
            raise invalid("template is nil")
        output: Mapping[str, Any] = outcome.value
        return output

    def _begin(self, call: Call, output: Mapping[str, Any]) -> Authority:
        if output.get("subject_key_id"):
            raise invalid("ValidationOutput.subject_key_id is computed from the key: leave it out")
        if call.args.get("ttl") and call.args.get("not_after"):
            raise invalid(
                "Either ttl or not_after should be provided. Both should not be provided in the same request."
            )
        if output.get("signature_bits", 0) not in _SIGNATURE_BITS:
            raise invalid(f"signature_bits must be 0, 256, 384 or 512: got {output['signature_bits']}")
        return self.authorities.signer(call.mount.id, str(output.get("issuer_ref") or DEFAULT))

    def _external(
        self,
        call: Call,
        output: Mapping[str, Any],
        authority: Authority,
        public: Any,
        more: Mapping[str, str],
    ) -> External[bytes]:
        draft, warnings = _draft(call, output, authority, public)
        nested.check(draft.extensions, authority.usages)
        finish = _finish(call, authority, draft, more)
        act = Act(
            mount=call.mount,
            now=int(call.now),
            authority=authority,
            prepared=prepare(draft, authority.public_key, self.linter),
            token=self.token,
            role=f"cel/{call.args['role']}",  # an ordinary role of that name is another one
            stored=not output.get("no_store"),
            index=self.index,
            finish=finish,
            warnings=(*output.get("warnings", ()), *warnings),
        )
        if output.get("generate_lease") and act.stored:
            act.lease = lease_of(self.leases, call, act.serial, draft.not_after)
        return act.external()


def _draft(
    call: Call, output: Mapping[str, Any], authority: Authority, public: LeafPublicKey
) -> tuple[Draft, tuple[str, ...]]:
    """Steps (1) and the draft of (2)."""
    template: Mapping[str, Any] = output["template"]
    celtemplate.refuse_rest(template)
    subject, names = celtemplate.holder(template)
    constraints.check(with_common_names(subject, names), authority.constraints)
    constraints.check_subject(subject, authority.constraints)
    (not_before, not_after), warnings = _window(call, template, authority)
    key_type, _ = goodkey.key_type_and_bits(public)
    serial = new_serial(not_before)
    ski = x509.SubjectKeyIdentifier.from_public_key(public)
    draft = Draft(
        profile="cel",
        serial=serial,
        issuer=authority.certificate.subject,
        subject=subject,
        not_before=not_before,
        not_after=not_after,
        public_key=public,
        spki=spki_der(public),
        extensions=(
            *celtemplate.extensions(template, subject, names, key_type),
            *authority.common,
            (ski, False),
        ),
        hash_name=authority.hash_name(
            int(output.get("signature_bits", 0)), pss=bool(output.get("use_pss", False))
        ),
        shape=("cel", serial),  # the program chose the shape: each is linted in full
    )
    return draft, warnings


def _window(
    call: Call, template: Mapping[str, Any], authority: Authority
) -> tuple[tuple[int, int], tuple[str, ...]]:
    """The template's times within those of the issuer and the mount; where it has none, those of the request."""
    args = dict(call.args)
    if "NotAfter" in template:
        args |= {"ttl": 0, "not_after": iso(template["NotAfter"])}
    if "NotBefore" in template:
        args["not_before"] = iso(template["NotBefore"])
    role = Role(not_before_duration=int(call.args.get("not_before_duration") or 30))
    return leaf_window(call, role, authority, args)


def _finish(call: Call, authority: Authority, draft: Draft, more: Mapping[str, str]) -> Finish:
    def finish(der: bytes) -> dict[str, Any]:
        without_roots = bool(call.args.get("remove_roots_from_chain"))
        return {**answer(authority, draft, der, "pem", without_roots=without_roots), **more}

    return finish


def _checked_bits(key_type: str, bits: int) -> int:
    if key_type == "any":
        raise invalid("unknown key type: any")
    try:
        return key_bits(key_type, bits)
    except KmsError as error:
        text = "invalid cel response for key type, key bits, or signature bits"
        raise invalid(f"{text}: {error.detail}") from None
