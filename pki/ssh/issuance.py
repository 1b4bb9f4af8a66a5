"""Signing user and host keys, in the order that cannot lose a certificate (pki.issuance has the reasons).

(1) validate: role, key, principals, options, lifetime
(2) make the exact bytes
(3) serial and hash of the bytes in the log: the audit intent
(4) sign in the HSM those bytes and no others; read the result with another parser, compare, verify
(5) record the certificate, in the commit of the audit outcome; then the answer leaves

A crash after (3) is closed as unknown, and its serial goes on the KRL.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kms.errors import ErrorKind, KmsError, invalid
from kms.operation import Call, External, MountRef, Result
from kms.tables import Store, Transaction
from pki import goodkey
from pki.goodkey import Blocklist
from pki.hsmkey import CaToken
from pki.model import DAY, SYSTEM_MAX_TTL, CertificateState
from pki.ssh import ledger
from pki.ssh.authorities import SshAuthorities, SshAuthority
from pki.ssh.certificate import HOST, NONCE_BYTES, USER, Draft, finished, to_be_signed
from pki.ssh.model import SshCertificate, SshRole, storage_serial, wire_serial
from pki.ssh.newkeys import check_allowed, generate, private_text, wanted
from pki.ssh.options import critical_options, extensions
from pki.ssh.principals import principals
from pki.ssh.roles import CA, SshRoles
from pki.ssh.signers import algorithm_for
from pki.ssh.wire import PublicKey, of_key, parse_public_key
from pki.store import KEYS

MAX_KEY_ID_CHARACTERS = 1024
_PLACE = re.compile(r"{{(token_display_name|role_name|public_key_hash)}}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class SshIssuance:
    """One per process."""

    store: Store
    token: CaToken
    authorities: SshAuthorities
    roles: SshRoles
    blocklist: Blocklist

    def sign(self, call: Call) -> External[str]:
        """Certify a key that the caller has."""
        role = self._role(call, "Unknown role: {}")
        text = str(call.args["public_key"])
        if not text:
            raise invalid("missing public_key")
        try:
            key = parse_public_key(text)
        except KmsError as error:
            raise invalid(f"failed to parse public_key as SSH key: {error.detail}") from None
        check_allowed(role, key)
        goodkey.check(key.key, self.blocklist, self._is_ca_key)
        return self._external(call, role, key, {})

    def issue(self, call: Call) -> External[str]:
        """Make a key and certify it; the private half is in the answer and nowhere else."""
        role = self._role(call, "unknown role: {}")
        private = generate(*wanted(role, call.args))
        more = {"private_key": private_text(private), "private_key_type": str(call.args["key_type"])}
        return self._external(call, role, of_key(private.public_key()), more)

    def _role(self, call: Call, unknown: str) -> SshRole:
        name = str(call.args["role"])
        role = self.roles.get(call.mount.id, name)
        if role is None:
            raise invalid(unknown.format(name))
        if role.key_type != CA:
            raise invalid(f"role key type '{role.key_type}' not allowed to issue key pairs")
        return role

    def _is_ca_key(self, spki_sha256: str) -> bool:
        return self.store.reader().count(KEYS, {"spki_hash": spki_sha256}) > 0

    def _external(self, call: Call, role: SshRole, key: PublicKey, more: Mapping[str, str]) -> External[str]:
        args, now = call.args, int(call.now)
        key_id = _key_id(call, role, key)  # (1)
        kind = _kind(args, role)
        asked = str(args["valid_principals"]) if "valid_principals" in call.given else None
        names = principals(role, kind, asked, call.principal.values)
        ttl = _ttl(call, role)
        critical = critical_options(role, args["critical_options"])
        extended, warnings = extensions(role, args["extensions"], call.principal.values)
        authority = self.authorities.get(call.mount.id, role.issuer_ref)
        algorithm = algorithm_for(authority.public, role.algorithm_signer)
        draft = Draft(
            subject=key,
            serial=_new_serial(),
            kind=kind,
            key_id=key_id,
            principals=names,
            valid_after=now - role.not_before_duration,
            valid_before=now + ttl,
            critical_options=critical,
            extensions=extended,
            issuer=authority.public,
            nonce=secrets.token_bytes(NONCE_BYTES),
        )
        act = SignAct(
            mount=call.mount,
            now=now,
            authority=authority,
            draft=draft,
            signed_bytes=to_be_signed(draft),  # (2)
            algorithm=algorithm,
            token=self.token,
            role=str(args["role"]),
            more=more,
            warnings=warnings,
        )
        return act.external()


def _new_serial() -> int:
    # Not 0: OpenSSH cannot revoke that one by its number (PROTOCOL.krl).
    return secrets.randbits(64) or 1


def _kind(args: Mapping[str, Any], role: SshRole) -> str:
    kind = str(args["cert_type"])
    allowed = {USER: role.allow_user_certificates, HOST: role.allow_host_certificates}.get(kind)
    if allowed is None:
        raise invalid("cert_type must be either 'user' or 'host'")
    if not allowed:
        raise invalid(f"cert_type '{kind}' is not allowed by role")
    return kind


def _key_id(call: Call, role: SshRole, key: PublicKey) -> str:
    """What sshd logs: it must not be able to write a line of its own there."""
    asked = str(call.args["key_id"])
    if asked and not role.allow_user_key_ids:
        raise invalid("setting key_id is not allowed by role")
    values = {
        "token_display_name": call.principal.display_name,
        "role_name": str(call.args["role"]),
        "public_key_hash": key.sha256.hex(),
    }
    form = role.key_id_format or "vault-{{token_display_name}}-{{public_key_hash}}"
    text = asked or _PLACE.sub(lambda match: values[match[1]], form)
    if len(text) > MAX_KEY_ID_CHARACTERS or _CONTROL.search(text):
        raise invalid(f"a key_id has at most {MAX_KEY_ID_CHARACTERS} characters and no control characters")
    return text


def _ttl(call: Call, role: SshRole) -> int:
    specified = "ttl" in call.given
    ttl = int(call.args["ttl"]) if specified else role.ttl
    ttl = ttl or call.mount.default_lease_ttl or DAY
    maximum = role.max_ttl or call.mount.max_lease_ttl or SYSTEM_MAX_TTL
    if ttl > maximum and specified:
        raise invalid(f"ttl is larger than maximum allowed {maximum}")
    return min(ttl, maximum)


@dataclass
class SignAct:
    """Steps (3) to (5)."""

    mount: MountRef
    now: int
    authority: SshAuthority
    draft: Draft
    signed_bytes: bytes
    algorithm: str
    token: CaToken
    role: str
    more: Mapping[str, str]
    warnings: tuple[str, ...]
    signed: bool = False  # a signature exists in this process

    def external(self) -> External[str]:
        """For the pipeline. The intent holds all that closing it later needs."""
        draft = self.draft
        intent: dict[str, str | int] = {
            "mount": self.mount.id,
            "issuer": self.authority.issuer.id,
            "serial": storage_serial(draft.serial),
            "profile": f"ssh-{draft.kind}",
            "role": self.role,
            "not_before": draft.valid_after,
            "not_after": draft.valid_before,
            "tbs_sha256": hashlib.sha256(self.signed_bytes).hexdigest(),
        }
        return External(intent, None, self.perform, self.conclude, self.abandon)  # (3)

    def _row(self) -> SshCertificate:
        draft = self.draft
        return SshCertificate(
            mount_id=self.mount.id,
            issuer_id=self.authority.issuer.id,
            serial=storage_serial(draft.serial),
            state=CertificateState.INTENT,
            role=self.role,
            kind=draft.kind,
            key_id=draft.key_id,
            principals=draft.principals,
            valid_after=draft.valid_after,
            valid_before=draft.valid_before,
            public_key=draft.subject.sha256.hex(),
            created_at=self.now,
        )

    def perform(self) -> str:  # (4)
        signer = self.authority.signer(self.token, self.algorithm, self.signed_bytes)
        try:
            line = finished(self.draft, self.signed_bytes, signer.sign(self.signed_bytes))
        except KmsError as error:
            # When the HSM itself failed, no signature came out of it; a wrong one did.
            self.signed = error.kind is ErrorKind.INTEGRITY
            raise
        self.signed = True
        return line

    def conclude(self, tx: Transaction, line: str) -> Result:  # (5)
        row = self._row()
        ledger.store(tx, row, line)
        subject: dict[str, str | int] = {
            "issuer": row.issuer_id,
            "serial": row.serial,
            "profile": f"ssh-{row.kind}",
            "not_after": row.valid_before,
            "sha256": hashlib.sha256(line.encode("ascii")).hexdigest(),
        }
        data = {
            "serial_number": wire_serial(row.serial),
            "signed_key": f"{line}\n",
            "issuer_id": row.issuer_id,
            **self.more,
        }
        return Result(data=data, subject=subject, warnings=self.warnings)

    def abandon(self, tx: Transaction, error: KmsError) -> None:
        del error
        ledger.unissued(tx, self._row(), self.authority.issuer.public_key, self.now, signed=self.signed)
