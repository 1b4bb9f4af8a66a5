"""Issuing leaves, in the order that cannot lose a certificate (Boulder's, with its reasons).

(1) validate: role, names, key, validity, the issuer's own name constraints
(2) make the exact bytes, signed by nobody, and lint them (or splice them into linted ones: pki.signing)
(3) record serial and linted bytes (their hash) in the log: the audit intent
(4) sign in the HSM those bytes and no others; compare and verify
(5) record the certificate, in the commit of the audit outcome; then the answer leaves

Boulder records the serial before it lints. Here (3) carries both, so a refused request leaves no row.
A crash after (3) is closed as unknown and revoked (pki.ledger). For a leaf, (3) is a record of the log without
a commit of its own: a power cut that takes it takes the signature too, which nobody has seen before (5).
CA certificates plan a row as well.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography import x509

from kms.errors import ErrorKind, KmsError, invalid
from kms.leases import LeaseBook
from kms.operation import Call, External, Leased, MountRef, Result
from kms.tables import Row, Store, Transaction
from pki import constraints, leafkeys, ledger
from pki.authority import Authorities, Authority, pem
from pki.goodkey import Blocklist, spki_der, spki_hash
from pki.hsmkey import CaToken
from pki.index import CertificateIndex, Line, Looks, looks, looks_of
from pki.leasing import lease_of
from pki.lint import Linter
from pki.model import Certificate, CertificateState, Role, serial_hex, wire_serial
from pki.names import Names
from pki.profiles import Draft, Leaf, leaf, named
from pki.profiles.draft import CA_PROFILE
from pki.requests import ignored, names_from_api, names_from_csr, parse_csr
from pki.rolebook import ReadyRole, RoleBook
from pki.rolevalues import for_identity
from pki.signing import Prepared, prepare_leaf, sign
from pki.store import KEYS
from pki.validity import Limits, leaf_limits, window

Finish = Callable[[bytes], Mapping[str, Any]]


@dataclass(frozen=True)
class Issuance:
    """Steps (1) and (2) of each kind of request. One per process."""

    store: Store
    token: CaToken
    authorities: Authorities
    roles: RoleBook
    linter: Linter
    blocklist: Blocklist
    leases: LeaseBook
    index: CertificateIndex

    def issue(self, call: Call, issuer_ref: str = "") -> External[bytes]:
        """Make a key and a certificate for it; the private key is in the answer and nowhere else."""
        ready, authority = self._ready(call, issuer_ref)
        if ready.role.profile == CA_PROFILE:
            raise invalid("the key of a CA is not made here and sent away: use sign with a CSR")
        args = call.args
        form = leafkeys.check_format(args)
        names = names_from_api(args)
        self._allow(call, ready, authority, names, "the API")
        key_type, bits, warnings = leafkeys.wanted_key(args, ready.role)
        valid, more = leaf_window(call, ready.role, authority)
        private = leafkeys.generate(key_type, bits)
        public = private.public_key()
        draft = leaf(ready.template, names, (public, key_type, spki_der(public)), valid)

        def finish(der: bytes) -> dict[str, Any]:
            data = answer(
                authority, draft, der, form, without_roots=bool(args.get("remove_roots_from_chain"))
            )
            pkcs8 = args.get("private_key_format") == "pkcs8"
            text = leafkeys.private_text(private, key_type, pkcs8=pkcs8, der=form == "der")
            if form == "pem_bundle":
                data["certificate"] = f"{text}\n{data['certificate']}"
            return {**data, "private_key": text, "private_key_type": key_type}

        return self._external(call, authority, ready, draft, (finish, (*more, *warnings)))

    def sign(self, call: Call, issuer_ref: str = "") -> External[bytes]:
        """Certify the key of a CSR."""
        ready, authority = self._ready(call, issuer_ref)
        args = call.args
        form = leafkeys.check_format(args)
        csr = parse_csr(str(args.get("csr") or ""))
        public, key_type = leafkeys.csr_key(csr, ready.role, self.blocklist, self._reserved(ready, authority))
        names, source = names_from_csr(csr, args, ready.role)
        self._allow(call, ready, authority, names, source)
        valid, warnings = leaf_window(call, ready.role, authority)
        warnings = (*ignored(args, ready.role), *warnings)
        draft = leaf(ready.template, names, (public, key_type, spki_der(public)), valid)

        def finish(der: bytes) -> dict[str, Any]:
            return answer(
                authority, draft, der, form, without_roots=bool(args.get("remove_roots_from_chain"))
            )

        return self._external(call, authority, ready, draft, (finish, warnings))

    def sign_named(
        self,
        call: Call,
        row: Row[Role],
        issuer_ref: str,
        csr: x509.CertificateSigningRequest,
        names: Names,
        source: str = "the order",
    ) -> External[bytes]:
        """Certify the key of a CSR for names that were proven elsewhere (ACME); those of the CSR are not read."""
        form = leafkeys.check_format(call.args)
        authority = self.authorities.get(call.mount.id, issuer_ref)
        ready = self.roles.ready(row, authority)
        public, key_type = leafkeys.csr_key(csr, ready.role, self.blocklist, is_ca_key(self.store))
        self._allow(call, ready, authority, names, source)
        valid, warnings = leaf_window(call, ready.role, authority)
        draft = leaf(ready.template, names, (public, key_type, spki_der(public)), valid)

        def finish(der: bytes) -> dict[str, Any]:
            without_roots = bool(call.args.get("remove_roots_from_chain"))
            return answer(authority, draft, der, form, without_roots=without_roots)

        return self._external(call, authority, ready, draft, (finish, warnings))

    def _ready(self, call: Call, issuer_ref: str) -> tuple[ReadyRole, Authority]:
        row = self.roles.known(call.mount.id, str(call.args["role"]))
        authority = self.authorities.signer(call.mount.id, issuer_ref or row.value.issuer_ref)
        return self.roles.ready(row, authority), authority

    def _allow(self, call: Call, ready: ReadyRole, authority: Authority, names: Names, source: str) -> None:
        rules = for_identity(ready.rules, call.principal.values)
        rules.check(names, call.principal.display_name, source)
        named.check_names(ready.role, names)
        if ready.role.profile == CA_PROFILE:
            names = constraints.of_a_ca(names)
        constraints.check(names, authority.constraints)

    def _reserved(self, ready: ReadyRole, authority: Authority) -> Callable[[str], bool]:
        """Which keys no certificate under this role may carry, by the SHA-256 of their SPKI."""
        if ready.role.profile != CA_PROFILE:
            return is_ca_key(self.store)
        if authority.path_length == 0:
            raise invalid("the issuing CA has a path length of 0: it may sign no CA below itself")
        # Keys of CAs here are what the CAs below have; only the issuer's own would be a loop.
        own = spki_hash(spki_der(authority.public_key))
        return lambda found: hmac.compare_digest(found, own)

    def _external(
        self,
        call: Call,
        authority: Authority,
        ready: ReadyRole,
        draft: Leaf,
        ending: tuple[Finish, tuple[str, ...]],
    ) -> External[bytes]:
        if authority.constraints:  # the subject is put together for them alone
            constraints.check_subject(draft.draft().subject, authority.constraints)
        finish, warnings = ending
        if ready.template.left_out:
            warnings = (*warnings, ready.template.left_out)
        prepared = prepare_leaf(draft, authority.public_key, self.linter)  # (2)
        act = Act(
            mount=call.mount,
            now=int(call.now),
            authority=authority,
            prepared=prepared,
            token=self.token,
            role=str(call.args["role"]),
            stored=not ready.role.no_store,
            index=None if ready.role.profile == CA_PROFILE else self.index,
            finish=finish,
            warnings=warnings,
        )
        if ready.role.generate_lease and act.stored:
            act.lease = lease_of(self.leases, call, act.serial, draft.not_after)
        return act.external()


def leaf_window(
    call: Call, role: Role, authority: Authority, args: Mapping[str, Any] | None = None
) -> tuple[tuple[int, int], tuple[str, ...]]:
    """Validity of a leaf under a role and an issuer, and warnings; `args` in place of those of the call."""
    default, maximum = leaf_limits(role, call.mount)
    limits = Limits(
        now=int(call.now),
        default_ttl=default,
        max_ttl=maximum,
        issuer_from=authority.not_before,
        issuer_until=authority.issuer.not_after,
        truncate=authority.issuer.leaf_not_after_behavior == "truncate",
    )
    valid, warnings = window(call.args if args is None else args, role, limits)
    named.check_life(role, limits.now, valid[1])
    return valid, warnings


def is_ca_key(store: Store) -> Callable[[str], bool]:
    """Whether a public key, by SHA-256 of its SPKI, belongs to a CA of this server."""
    return lambda spki_sha256: store.reader().count(KEYS, {"spki_hash": spki_sha256}) > 0


@dataclass
class Act:
    """Steps (3) to (5) for one certificate of any profile."""

    mount: MountRef
    now: int
    authority: Authority
    prepared: Prepared
    token: CaToken
    finish: Finish
    role: str = ""
    stored: bool = True
    warnings: tuple[str, ...] = ()
    index: CertificateIndex | None = None  # without it: a row, and a commit, before the signature
    row: Row[Certificate] | None = None
    planned: Certificate | None = None
    lease: Callable[[Transaction], Leased] | None = None
    lines: Mapping[str, Line] = field(default_factory=dict)
    signed: bool = False  # a signature exists in this process

    @property
    def serial(self) -> str:
        """Storage form."""
        return serial_hex(self.prepared.draft.serial)

    def external(self) -> External[bytes]:
        """For the pipeline. The intent holds all that closing it later needs."""
        draft = self.prepared.draft
        intent: dict[str, str | int] = {
            "mount": self.mount.id,
            "issuer": self.authority.issuer.id,
            "serial": self.serial,
            "profile": draft.profile,
            "not_before": draft.not_before,
            "not_after": draft.not_after,
            "stored": int(self.stored),
            "shard": draft.shard,
            "tbs_sha256": hashlib.sha256(self.prepared.tbs).hexdigest(),
        }
        begin = self.begin if self.index is None else None
        answer = None if self.stored else self.answer
        return External(intent, begin, self.perform, self.conclude, self.abandon, answer=answer)

    def _row(self) -> Certificate:
        draft = self.prepared.draft
        return Certificate(
            mount_id=self.mount.id,
            serial=self.serial,
            issuer_id=self.authority.issuer.id,
            profile=draft.profile,
            state=CertificateState.INTENT,
            not_before=draft.not_before,
            not_after=draft.not_after,
            role=self.role,
            tbs=self.prepared.tbs,
            created_at=self.now,
            stored=self.stored,
            shard=draft.shard,
        )

    def _looks(self, row: Certificate) -> Looks:
        draft = self.prepared.draft
        return looks_of(draft) if isinstance(draft, Leaf) else looks(row)

    def begin(self, tx: Transaction) -> None:  # (3)
        self.row = ledger.intend(tx, self._row())

    def perform(self) -> bytes:  # (4)
        try:
            der = sign(self.prepared, self.authority.public_key, self.token, self.authority.ref)
        except KmsError as error:
            # When the HSM itself failed, no signature came out of it; a wrong one did.
            self.signed = error.kind is ErrorKind.INTEGRITY
            raise
        self.signed = True
        if self.index is not None and self.stored:
            self.planned = self._row()
            row = ledger.done(self.planned, der)
            self.lines = self.index.lines(row, self._looks(row))
        return der

    def conclude(self, tx: Transaction, der: bytes) -> Result:  # (5)
        if self.row is not None:
            ledger.issued(tx, self.row, der)
        else:
            ledger.store(tx, self.planned or self._row(), der, self.lines)
        result = self.answer(der)
        if self.lease is None:
            return result
        lease = self.lease(tx)
        return replace(result, lease=lease, subject={**result.subject, "lease": lease.id})

    def answer(self, der: bytes) -> Result:
        """What the caller gets, and the facts of the outcome."""
        subject: dict[str, str | int] = {
            "issuer": self.authority.issuer.id,
            "serial": self.serial,
            "profile": self.prepared.draft.profile,
            "not_after": self.prepared.draft.not_after,
            "sha256": hashlib.sha256(der).hexdigest(),
        }
        return Result(data=self.finish(der), subject=subject, warnings=self.warnings)

    def abandon(self, tx: Transaction, error: KmsError) -> None:
        del error
        ledger.unissued(tx, self._row(), self.now, signed=self.signed)


def resolve_issue(intent: Mapping[str, str | int], now: int) -> External[None]:
    """Close the intent of a certificate whose process died: unknown, and revoked."""
    planned = Certificate(
        mount_id=str(intent["mount"]),
        serial=str(intent["serial"]),
        issuer_id=str(intent["issuer"]),
        profile=str(intent["profile"]),
        state=CertificateState.INTENT,
        not_before=int(intent["not_before"]),
        not_after=int(intent["not_after"]),
        created_at=now,
        stored=bool(intent["stored"]),
        shard=int(intent.get("shard", -1)),
    )

    def conclude(tx: Transaction, done: None) -> Result:
        del done
        if ledger.unissued(tx, planned, now, signed=True):
            return Result(subject={**intent, "state": "unknown"}, partial=True)
        return Result(subject=intent)

    return External(intent, lambda _: None, lambda: None, conclude, lambda _tx, _error: None)


def answer(
    authority: Authority, draft: Draft | Leaf, der: bytes, form: str, *, without_roots: bool
) -> dict[str, Any]:
    """The certificate's part of an answer, in the `format` asked for."""
    chain = [
        text
        for text, root in zip(authority.chain, authority.roots, strict=True)
        if not (root and without_roots)
    ]
    data: dict[str, Any] = {
        "certificate": pem(der),
        "issuing_ca": authority.pem,
        "serial_number": wire_serial(serial_hex(draft.serial)),
        "expiration": draft.not_after,
        "not_before": draft.not_before,
    }
    if form == "der":
        data["certificate"] = base64.b64encode(der).decode("ascii")
        data["issuing_ca"] = unpem(authority.pem)
        chain = [unpem(text) for text in chain]
    elif form == "pem_bundle":
        data["certificate"] = "\n".join([data["certificate"], *chain])
    if chain:
        data["ca_chain"] = chain
    return data


def unpem(text: str) -> str:
    """The base64 inside PEM, in one line."""
    return "".join(text.split("\n")[1:-1])
