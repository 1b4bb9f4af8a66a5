"""Signing the request of an intermediate CA with an issuer of this mount."""

from __future__ import annotations

import dataclasses
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from kms.errors import invalid
from kms.operation import Call, External
from pki import cafields, cawishes, constraints, goodkey, leafkeys
from pki.authority import Authorities, Authority, pem
from pki.ceremony import NO_URLS, PATH_LENGTH_ZERO
from pki.goodkey import Blocklist, spki_der, spki_hash
from pki.hsmkey import CaToken
from pki.issuance import Act, answer
from pki.lint import Linter
from pki.profiles import ca_draft, nested
from pki.profiles.ca import CaRequest
from pki.requests import parse_csr
from pki.schemes import CaPublicKey
from pki.signing import prepare
from pki.validity import Limits, ca_limits, window


@dataclass(frozen=True)
class Subordinates:
    """One per process."""

    token: CaToken
    authorities: Authorities
    linter: Linter
    blocklist: Blocklist

    def sign(self, call: Call, issuer_ref: str) -> External[bytes]:
        """A CA certificate for the key of a CSR, never more powerful than its issuer.

        Subject and names come from the API, or from the CSR with `use_csr_values`, and so do its extensions then.
        """
        args = call.args
        form = leafkeys.check_format(args)
        csr = parse_csr(str(args.get("csr") or ""))
        authority = self.authorities.signer(call.mount.id, issuer_ref)
        public = self._key(csr, authority)
        request, left = _request(args, csr, authority)
        constraints.check(constraints.of_a_ca(request.names), authority.constraints)
        constraints.check_subject(request.subject, authority.constraints)
        default, maximum = ca_limits(call.mount)
        limits = Limits(
            now=int(call.now),
            default_ttl=default,
            max_ttl=maximum,
            issuer_from=int(authority.certificate.not_valid_before_utc.timestamp()),
            issuer_until=authority.issuer.not_after,
            truncate=authority.issuer.leaf_not_after_behavior == "truncate",
        )
        valid, warnings = window(args, cafields.ca_role(args), limits)
        hash_name = authority.hash_name(int(args.get("signature_bits") or 0), pss=bool(args.get("use_pss")))
        issuer = (authority.certificate.subject, authority.common, hash_name)
        draft = ca_draft(request, (public, spki_der(public)), valid, issuer, root=False)

        nested.check(draft.extensions, authority.usages)

        def finish(der: bytes) -> dict[str, Any]:
            data = answer(authority, draft, der, form, without_roots=False)
            own = data["certificate"] if form == "der" else pem(der)
            data["ca_chain"] = [own, *data["ca_chain"]]
            del data["not_before"]
            return data

        act = Act(
            mount=call.mount,
            now=int(call.now),
            authority=authority,
            prepared=prepare(draft, authority.public_key, self.linter),
            token=self.token,
            finish=finish,
            warnings=(*_warnings(request, authority), *left, *warnings),
        )
        return act.external()

    def _key(self, csr: x509.CertificateSigningRequest, authority: Authority) -> CaPublicKey:
        own = spki_hash(spki_der(authority.public_key))
        # Keys of other CAs here are what intermediates have; only the issuer's own would be a loop.
        public = goodkey.check(
            csr.public_key(), self.blocklist, lambda found: hmac.compare_digest(found, own)
        )
        if not isinstance(public, CaPublicKey):
            raise invalid("a CA key must be RSA, EC, Ed25519 or ML-DSA")
        return public


def _warnings(request: CaRequest, authority: Authority) -> tuple[str, ...]:
    urls = () if len(authority.common) > 1 else (NO_URLS,)
    return (*urls, PATH_LENGTH_ZERO.replace("generated", "signed")) if request.path_length == 0 else urls


def _request(
    args: Mapping[str, Any], csr: x509.CertificateSigningRequest, authority: Authority
) -> tuple[CaRequest, tuple[str, ...]]:
    """What the certificate shall say, and warnings about what the CSR says in vain."""
    wanted = dict(args)
    if not wanted.get("common_name"):
        names = csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        wanted["common_name"] = str(names[0].value) if names else ""
    left: tuple[str, ...] = ()
    if args.get("use_csr_values"):
        request = cafields.ca_request({**wanted, "common_name": ""})
        request, left = cawishes.with_csr(request, csr, length_given=request.path_length is not None)
    else:
        request = cafields.ca_request(wanted)
    length = path_length_below(request.path_length, authority.path_length)
    return dataclasses.replace(request, path_length=length), left


def path_length_below(asked: int | None, issuer: int | None) -> int | None:
    """What is left of the issuer's pathLenConstraint (RFC 5280 4.2.1.9)."""
    if issuer is None:
        return asked
    if issuer == 0:
        raise invalid("the issuing CA has a path length of 0: it may sign no CA below itself")
    if asked is not None and asked >= issuer:
        raise invalid(f"max_path_length must be below the issuing CA's, which is {issuer}")
    return issuer - 1 if asked is None else asked
