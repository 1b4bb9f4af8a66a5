"""CA key pairs: planned in the database, made in the HSM, then active.

The row of a key, with our CKA_ID, is committed before the HSM makes the object, so that every object
has a row (I5). A ceremony that fails destroys its object if it can; `pki.leftovers` destroys the rest.
A key of protection software is made in this process and stored, sealed, with the outcome.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from kms.errors import ErrorKind, KmsError, integrity, invalid
from kms.hsm import KeySpec, Purpose
from kms.ids import CkaId, new_cka_id, new_uuid
from kms.operation import Call
from kms.tables import Reader, Store, Transaction
from pki import cakinds, leafkeys, softkeys
from pki.authority import key_ref, pem, resident
from pki.cakinds import KINDS, CaKind, ca_kind
from pki.goodkey import spki_der, spki_hash
from pki.hsmkey import CaRef, CaToken, SoftwareRef
from pki.issuers import find_key
from pki.model import CaKey, KeyMaterial, KeyState, Protection
from pki.schemes import CaPrivateKey, CaPublicKey
from pki.store import DEFAULT, KEYS, MATERIAL, MOUNTS, mount_config, put

_WAYS = ("internal", "exported", "existing", "kms")
_NO_TYPE_OF_EXISTING = "invalid parameter for the kms/existing path parameter, key_type nor key_bits arguments can be set in this mode"
NOT_IN_HSM = "No HSM makes {spec} keys: this one has protection software."


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which key a ceremony is to use: a new one, or one of the mount."""

    key: CaKey
    exported: bool
    existing: bool
    warnings: tuple[str, ...] = ()


def wanted(call: Call, reader: Reader) -> Wanted:
    """The key that `exported`, `key_ref`, `key_type` and `key_bits` ask for.

    Raises:
        KmsError(INVALID): no such way, type, size or key.
    """
    args, mount_id, now = call.args, call.mount.id, int(call.now)
    way = str(args.get("exported") or "internal")
    if way not in _WAYS:
        raise invalid('the "exported" path parameter must be "internal", "existing", "exported" or "kms"')
    if way == "kms":
        raise invalid("there are no external keys here: use internal, which makes the key in the HSM")
    if args.get("external_key_ref"):
        raise invalid(f'cannot specify "external_key_ref" on "{way}"-typed generation requests')
    if way == "existing":
        if call.given & {"key_type", "key_bits"}:
            raise invalid(_NO_TYPE_OF_EXISTING)
        try:
            key = existing_key(reader, mount_id, str(args.get("key_ref") or DEFAULT))
        except KmsError as error:
            raise invalid(f"failed to lookup public key from existing key: {error.detail}") from None
        return Wanted(key, exported=False, existing=True)
    key, warnings = planned(args, now, software=way == "exported")
    return Wanted(key, exported=way == "exported", existing=False, warnings=warnings)


def existing_key(reader: Reader, mount_id: str, ref: str) -> CaKey:
    """A usable key by id, name or "default". Raises KmsError(INVALID, status 500 as the peer)."""
    named = ref
    if ref == DEFAULT:
        named = mount_config(reader, mount_id).default_key
        if not named:
            raise invalid("no default key currently configured")
    key = find_key(reader, mount_id, named)
    if key is None:
        raise KmsError(ErrorKind.INVALID, f"unable to find PKI key for reference: {ref}", status=500)
    return key


def planned(args: Mapping[str, Any], now: int, *, software: bool) -> tuple[CaKey, tuple[str, ...]]:
    """A new key as asked for, and warnings. Raises KmsError(INVALID) for a type that no CA here has."""
    kind = ca_kind(str(args.get("key_type") or "rsa"), int(args.get("key_bits") or 0))
    warnings = () if software or kind.hsm else (NOT_IN_HSM.format(spec=kind.spec),)
    key = new_key(kind, str(args.get("key_name") or ""), now, software=software or kind.hsm is None)
    return key, warnings


def new_key(kind: CaKind, name: str, now: int, *, software: bool) -> CaKey:
    """The row of a key that is about to be made."""
    return CaKey(
        id=new_uuid(),
        name=name,
        spec=kind.spec,
        cka_id=bytes(new_cka_id()),
        state=KeyState.PLANNED,
        created_at=now,
        protection=Protection.SOFTWARE if software else Protection.HSM,
    )


@dataclass
class NewKey:
    """One key of one mount on its way into the HSM, or into its row.

    Args:
        private: of protection software only: the private half, once it is there.
    """

    token: CaToken
    mount_id: str
    key: CaKey
    private: CaPrivateKey | None = field(default=None, repr=False)

    @property
    def label(self) -> str:
        """CKA_LABEL: lets an operator, and the search for leftovers, tell whose object it is."""
        return f"pki/{self.mount_id}/{self.key.id}"

    @property
    def new_name(self) -> str:
        """The name that the key brings into the mount."""
        return self.key.name

    @property
    def software(self) -> bool:
        """Whether the private half is held by this process."""
        return self.key.protection == Protection.SOFTWARE

    @property
    def ref(self) -> CaRef:
        """For signatures of the ceremony, before the key is stored."""
        return SoftwareRef(self.key.spec, self._held) if self.software else resident(self.key)

    def _held(self) -> CaPrivateKey:
        if self.private is None:
            raise integrity("a software key signs before it is made")
        return self.private

    def plan(self, tx: Transaction) -> None:
        """Commit the row first."""
        tx.insert(KEYS, f"{self.mount_id}/{self.key.id}", self.key)

    def generate(self) -> tuple[bytes, CaPublicKey]:
        """Make the object. Returns SubjectPublicKeyInfo and public key."""
        kind = KINDS[self.key.spec]
        if self.software:
            self.private = cakinds.generate(kind)
            spki = spki_der(self.private.public_key())
        else:
            spec, cka_id = KeySpec(self.key.spec), CkaId(self.key.cka_id)
            spki = self.token.generate(Purpose.CA_SIGN, spec, cka_id, self.label)
        public = load_der_public_key(spki)
        if not isinstance(public, CaPublicKey) or cakinds.kind_of(public) is not kind:
            raise integrity("the HSM made a key of another type than asked for")
        return spki, public

    def activate(self, tx: Transaction, spki: bytes) -> None:
        """The object exists and has signed.

        Raises:
            KmsError(CONFLICT): somebody gave the plan up meanwhile.
        """
        row = tx.get(KEYS, f"{self.mount_id}/{self.key.id}")
        if row is None or row.value.state != KeyState.PLANNED:
            raise KmsError(ErrorKind.CONFLICT, "the making of this key was given up meanwhile; start again")
        if self.software:
            tx.insert(MATERIAL, row.key, KeyMaterial(softkeys.pkcs8(self._held())))
        tx.replace(
            KEYS,
            row,
            msgspec.structs.replace(row.value, state=KeyState.ACTIVE, spki=spki, spki_hash=spki_hash(spki)),
        )
        config = mount_config(tx, self.mount_id)
        if not config.default_key and not self.key.responds:
            put(tx, MOUNTS, self.mount_id, msgspec.structs.replace(config, default_key=self.key.id))

    def discard(self) -> None:
        """Destroy the object of a failed ceremony; if the HSM does not answer, leftovers do it later."""
        if self.software:
            return
        try:
            if self.token.exists(CkaId(self.key.cka_id)):
                self.token.destroy(CkaId(self.key.cka_id))
        except KmsError as error:
            if error.kind is not ErrorKind.HSM_UNAVAILABLE:
                raise

    def abandon(self, tx: Transaction) -> None:
        """Leave a note: an object may be there that nobody wants."""
        row = tx.get(KEYS, f"{self.mount_id}/{self.key.id}")
        if row is not None and row.value.state == KeyState.PLANNED:
            tx.replace(KEYS, row, msgspec.structs.replace(row.value, state=KeyState.ABANDONED))


@dataclass
class ExistingKey(NewKey):
    """A key that the mount has already: the ceremony only uses it."""

    store: Store | None = None

    @property
    def new_name(self) -> str:
        return ""

    @property
    def ref(self) -> CaRef:
        if self.store is None:
            raise integrity("a stored key without its store")
        return key_ref(self.store, self.mount_id, self.key)

    def plan(self, tx: Transaction) -> None:
        self._check(tx)

    def generate(self) -> tuple[bytes, CaPublicKey]:
        public = load_der_public_key(self.key.spki)
        if not isinstance(public, CaPublicKey):
            raise integrity("a stored CA key has a type that CAs here never have")
        return self.key.spki, public

    def activate(self, tx: Transaction, spki: bytes) -> None:
        del spki
        self._check(tx)

    def _check(self, tx: Transaction) -> None:
        row = tx.get(KEYS, f"{self.mount_id}/{self.key.id}")
        if row is None or row.value.state != KeyState.ACTIVE:
            raise KmsError(ErrorKind.CONFLICT, "this key was deleted meanwhile")

    def discard(self) -> None:
        """It was there before the ceremony, and stays."""

    def abandon(self, tx: Transaction) -> None:
        """It was there before the ceremony, and stays."""


def ceremony_key(token: CaToken, store: Store, mount_id: str, wish: Wanted) -> NewKey:
    """What a ceremony works with."""
    if wish.existing:
        return ExistingKey(token, mount_id, wish.key, store=store)
    return NewKey(token, mount_id, wish.key)


def key_intent(new: NewKey) -> dict[str, str | int]:
    """The facts of a key that is about to be made or used."""
    return {
        "mount": new.mount_id,
        "key": new.key.id,
        "cka_id": new.key.cka_id.hex(),
        "spec": str(new.key.spec),
        "protection": str(new.key.protection),
    }


@dataclass(frozen=True, slots=True)
class KeyForm:
    """How an answer shows documents, and the private half of an exported key.

    Args:
        form: pem, der or pem_bundle.
        exported: whether the private half is shown at all.
    """

    form: str
    exported: bool
    as_pkcs8: bool

    @classmethod
    def of(cls, args: Mapping[str, Any], *, exported: bool) -> KeyForm:
        """Raises KmsError(INVALID) for a format that does not exist."""
        return cls(leafkeys.check_format(args), exported, leafkeys.check_private_format(args) == "pkcs8")

    def document(self, der: bytes, label: str = "CERTIFICATE") -> str:
        """PEM, or base64 of DER."""
        return base64.b64encode(der).decode("ascii") if self.form == "der" else pem(der, label)

    def add_private(self, data: dict[str, Any], new: NewKey, document: str) -> None:
        """Put the private half in, beside (and in a bundle before) the named document."""
        if not self.exported or new.private is None:
            return
        key_type = KINDS[new.key.spec].key_type
        text = leafkeys.private_text(new.private, key_type, pkcs8=self.as_pkcs8, der=self.form == "der")
        data |= {"private_key": text, "private_key_type": key_type}
        if self.form == "pem_bundle":
            data[document] = f"{text}\n{data[document]}"
