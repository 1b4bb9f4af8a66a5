"""CA certificates and keys from elsewhere, in PEM.

An intermediate's signed certificate, what completes its chain, and whole CAs with their keys. A private key that
was somewhere else can never be one of the HSM, so it comes in with protection software.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kms.errors import KmsError, invalid
from kms.ids import new_uuid
from kms.operation import Call, External, Outcome, Result
from kms.tables import Store, Transaction
from pki import capable, goodkey, marks, softkeys
from pki.authority import assemble, key_ref
from pki.bundle import MAX_PEM, parse_certificate
from pki.cakeys import new_key
from pki.cakinds import kind_of
from pki.ceremony import NO_URLS, install
from pki.crl import CrlMaker
from pki.goodkey import Blocklist, spki_der, spki_hash
from pki.hsmkey import CaRef, SoftwareRef
from pki.issuers import check_new_names, settle, store_issuer
from pki.model import CaKey, Issuer, KeyMaterial, KeyState, PublicCrl, Urls, serial_hex
from pki.schemes import CaPrivateKey
from pki.store import (
    ISSUERS,
    KEYS,
    MATERIAL,
    MOUNTS,
    active_keys,
    issuers,
    mount_config,
    put,
)

_SHORTEST = 75  # characters; the peer's bound for "that was a path, not a file"
_BLOCK = re.compile(r"-----BEGIN (?P<label>[A-Z0-9 ]+)-----.*?-----END (?P=label)-----", re.DOTALL)
_CERTIFICATES = {"CERTIFICATE", "X509 CERTIFICATE"}
_IGNORED = {"CRL", "X509 CRL", "EC PARAMS", "EC PARAMETERS"}
_KNOWN_KEY = "Key already imported, use key/ endpoint to update name."
_KEYS_ELSEWHERE = (
    "private keys found in the PEM bundle but not allowed by the path; use /issuers/import/bundle"
)


@dataclass
class _Plan:
    """What an import adds to a mount. `refs` sign the first CRLs of issuers that have a key now."""

    mount_id: str
    keys: list[tuple[CaKey, CaPrivateKey]] = field(default_factory=list)
    issuers: list[Issuer] = field(default_factory=list)
    linked: list[Issuer] = field(default_factory=list)  # known before, without their key
    known_keys: list[str] = field(default_factory=list)
    known_issuers: list[str] = field(default_factory=list)
    mapping: dict[str, str] = field(default_factory=dict)
    refs: dict[str, CaRef] = field(default_factory=dict)  # by key id

    @property
    def facts(self) -> dict[str, str | int]:
        """Of the intent and the record."""
        return {
            "mount": self.mount_id,
            "issuers": ",".join(self.mapping),
            "keys": ",".join(key.id for key, _ in self.keys),
        }


@dataclass(frozen=True)
class Imports:
    """One per process."""

    store: Store
    crls: CrlMaker
    blocklist: Blocklist

    def certificates(self, call: Call) -> Outcome:
        """Add each CA certificate of the bundle that is not known yet; private keys are refused.

        One whose key is in this mount becomes a signing issuer and gets its first CRL.
        """
        return self._import(call, keys_allowed=False)

    def bundle(self, call: Call) -> Outcome:
        """The same, and private keys with protection software."""
        return self._import(call, keys_allowed=True)

    def key(self, call: Call) -> Outcome:
        """One private key, with protection software; issuers that wait for it can sign from now on."""
        text, name = str(call.args.get("pem_bundle") or ""), str(call.args.get("key_name") or "")
        _check_length(text)
        check_new_names(self.store.reader(), call.mount.id, "", name)
        blocks = [match[0] for match in _BLOCK.finditer(text) if match["label"] not in _IGNORED]
        if not blocks:
            raise invalid("error when parsing block 1: invalid PEM data")
        if len(blocks) != 1 or "PRIVATE KEY" not in blocks[0]:
            raise invalid("only a single key can be present within the pem_bundle for importing")
        plan = self._plan(call, blocks, [], name)
        wanted = (plan.known_keys or [plan.keys[0][0].id])[0]
        known = {key.id: key for key in (*active_keys(self.store.reader(), call.mount.id), *_new(plan))}
        key = known[wanted]
        data = {"key_id": key.id, "key_name": key.name, "key_type": key.spec.partition("-")[0]}
        warnings = (_KNOWN_KEY,) if plan.known_keys else ()
        result = Result(data=data, subject={**plan.facts, "key": key.id}, warnings=warnings)
        return self._outcome(call, plan, result)

    def _import(self, call: Call, *, keys_allowed: bool) -> Outcome:
        bundle, certificate = str(call.args.get("pem_bundle") or ""), str(call.args.get("certificate") or "")
        if not bundle and not certificate:
            raise invalid("'pem_bundle' and 'certificate' parameters were empty")
        if bundle and certificate:
            raise invalid("'pem_bundle' and 'certificate' parameters were both provided")
        text = bundle or certificate
        _check_length(text)
        found = list(_BLOCK.finditer(text))
        if not found or text.count("-----BEGIN ") != len(
            found
        ):  # one that was cut off is not left out in silence
            raise invalid(f"error when parsing block {len(found) + 1}: invalid PEM data")
        certificates = [match[0] for match in found if match["label"] in _CERTIFICATES]
        keys = [match[0] for match in found if match["label"] not in _CERTIFICATES | _IGNORED]
        if keys and (certificate or not keys_allowed):
            raise invalid(_KEYS_ELSEWHERE)
        parsed = [parse_certificate(each) for each in certificates]
        for each in parsed:
            _check_ca(each)
        plan = self._plan(call, keys, parsed)
        config = mount_config(self.store.reader(), call.mount.id)
        data = {
            "existing_issuers": plan.known_issuers or None,
            "existing_keys": plan.known_keys or None,
            "imported_issuers": [issuer.id for issuer in plan.issuers] or None,
            "imported_keys": [key.id for key in _new(plan)] or None,
            "mapping": plan.mapping,
        }
        result = Result(
            data=data,
            items=len(plan.issuers) + len(plan.keys),
            subject=plan.facts,
            warnings=() if config.urls else (NO_URLS,),
        )
        return self._outcome(call, plan, result)

    # -- what there is to do ------------------------------------------------------------------------

    def _plan(
        self, call: Call, keys: list[str], certificates: list[x509.Certificate], key_name: str = ""
    ) -> _Plan:
        mount_id, reader = call.mount.id, self.store.reader()
        plan = _Plan(mount_id)
        by_spki = {key.spki_hash: key for key in active_keys(reader, mount_id)}
        for text in keys:
            self._plan_key(plan, by_spki, softkeys.parse(text), (key_name, int(call.now)))
        stored = issuers(reader, mount_id)
        known = {issuer.certificate: issuer for issuer in stored}
        for certificate in certificates:
            der = certificate.public_bytes(Encoding.DER)
            issuer = known.get(der)
            if issuer is not None:
                plan.known_issuers.append(issuer.id)
            else:
                key = by_spki.get(spki_hash(spki_der(certificate.public_key())))
                issuer = known[der] = _issuer(certificate, der, key, int(call.now))
                plan.issuers.append(issuer)
            plan.mapping[issuer.id] = issuer.key_id
        self._link(plan, stored, by_spki)
        used = {issuer.key_id for issuer in (*plan.issuers, *plan.linked)}
        for key in by_spki.values():
            if key.id in used and key.id not in plan.refs:
                plan.refs[key.id] = key_ref(self.store, mount_id, key)
        return plan

    def _plan_key(
        self, plan: _Plan, by_spki: dict[str, CaKey], private: CaPrivateKey, how: tuple[str, int]
    ) -> None:
        kind = kind_of(private)
        if kind is None:
            raise invalid("this type or size of private key is not supported for CAs")
        public = goodkey.check(private.public_key(), self.blocklist, lambda _: False)
        spki = spki_der(public)
        known = by_spki.get(spki_hash(spki))
        if known is not None:
            plan.known_keys.append(known.id)
            return
        key = msgspec.structs.replace(
            new_key(kind, how[0], how[1], software=True),
            state=KeyState.ACTIVE,
            spki=spki,
            spki_hash=spki_hash(spki),
        )
        by_spki[key.spki_hash] = key
        plan.keys.append((key, private))
        plan.refs[key.id] = SoftwareRef(key.spec, lambda: private)

    def _link(self, plan: _Plan, stored: list[Issuer], by_spki: dict[str, CaKey]) -> None:
        """Issuers of the mount that came before their keys."""
        for issuer in stored:
            if issuer.key_id:
                continue
            public = x509.load_der_x509_certificate(issuer.certificate).public_key()
            key = by_spki.get(spki_hash(spki_der(public)))
            if key is not None:
                plan.linked.append(msgspec.structs.replace(issuer, key_id=key.id))
                if issuer.id in plan.mapping:
                    plan.mapping[issuer.id] = key.id

    # -- doing it -----------------------------------------------------------------------------------

    def _outcome(self, call: Call, plan: _Plan, result: Result) -> Outcome:
        if not (plan.keys or plan.issuers or plan.linked):
            return result
        mount_id, config = plan.mount_id, mount_config(self.store.reader(), plan.mount_id)

        def perform() -> dict[str, PublicCrl]:
            made = {}
            for issuer in (*plan.issuers, *plan.linked):
                if issuer.key_id and "crl-signing" in issuer.usage:
                    ref = plan.refs[issuer.key_id]
                    authority = assemble(mount_id, issuer, ref, Urls(), [issuer.certificate])
                    made[issuer.id] = self.crls.first(authority, config, int(call.now))
            return made

        def conclude(tx: Transaction, crls: dict[str, PublicCrl]) -> Result:
            _still_valid(tx, plan)
            for key, private in plan.keys:
                tx.insert(KEYS, f"{mount_id}/{key.id}", key)
                tx.insert(MATERIAL, f"{mount_id}/{key.id}", KeyMaterial(softkeys.pkcs8(private)))
            for issuer in plan.linked:
                store_issuer(tx, mount_id, issuer)
                if issuer.id in crls:
                    marks.introduce(tx, mount_id, issuer.id, crls[issuer.id])
            for issuer in plan.issuers:
                install(tx, mount_id, issuer, crls.get(issuer.id))
            _default_key(tx, plan)
            settle(tx, mount_id, int(call.now))
            return result

        return External(plan.facts, _nothing, perform, conclude, _no_trace)


def _new(plan: _Plan) -> list[CaKey]:
    return [key for key, _ in plan.keys]


def _nothing(_: Transaction) -> None:
    """No state is planned: until the end an import leaves nothing behind."""


def _no_trace(_tx: Transaction, _error: KmsError) -> None:
    """A CRL that was signed lists nothing and was never published."""


def _default_key(tx: Transaction, plan: _Plan) -> None:
    config = mount_config(tx, plan.mount_id)
    if not config.default_key and plan.keys:
        put(tx, MOUNTS, plan.mount_id, msgspec.structs.replace(config, default_key=plan.keys[0][0].id))


def _still_valid(tx: Transaction, plan: _Plan) -> None:
    stored = {row.value.certificate for row in tx.scan(ISSUERS, f"{plan.mount_id}/")}
    active = {key.spki_hash: key.id for key in active_keys(tx, plan.mount_id)}
    for key, _ in plan.keys:
        if key.spki_hash in active:
            raise invalid("this key was imported by another request just now")
        check_new_names(tx, plan.mount_id, "", key.name)
    new = {key.id for key in _new(plan)}
    for issuer in plan.issuers:
        if issuer.certificate in stored:
            raise invalid("this certificate was imported by another request just now")
    for issuer in (*plan.issuers, *plan.linked):
        if issuer.key_id and issuer.key_id not in new and issuer.key_id not in active.values():
            raise invalid("the key of this certificate was deleted just now")


def _issuer(certificate: x509.Certificate, der: bytes, key: CaKey | None, now: int) -> Issuer:
    return Issuer(
        id=new_uuid(),
        name="",
        key_id=key.id if key is not None else "",
        certificate=der,
        serial=serial_hex(certificate.serial_number),
        not_after=int(certificate.not_valid_after_utc.timestamp()),
        created_at=now,
        usage=capable.usages(certificate),
    )


def _check_length(text: str) -> None:
    if len(text) < _SHORTEST:
        raise invalid(
            "provided data for import was too short; perhaps a path was passed to the API"
            " rather than the contents of a PEM file"
        )
    if len(text) > MAX_PEM:
        raise invalid(f"the bundle has more than {MAX_PEM} characters")


def _check_ca(certificate: x509.Certificate) -> None:
    try:
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        raise invalid("Refusing to import non-CA certificate") from None
    if not basic.ca or not list(certificate.subject):
        raise invalid("Refusing to import non-CA certificate")
