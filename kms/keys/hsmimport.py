"""Bringing keys of one's own into the HSM: the mount's second wrapping key, and imports for protection hsm.

The wrapping key is born in the HSM and may only unwrap. What is wrapped for it is unwrapped there into a token
object; this process sees the parcel and never the key. Rows of IMPORT_KEYS: "<mount id>/hsm" is the pair in use,
without a public key while it is being made, "<mount id>/gone/<CKA_ID>" one whose object is to be destroyed.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from msgspec.structs import replace

from kms.errors import ErrorKind, KmsError, invalid
from kms.hsm import KeySpec, Parcel, Purpose
from kms.ids import CkaId, check_name, new_cka_id, new_id
from kms.keys.birth import Birth, facts
from kms.keys.catalogue import Algorithm, Kind, Protection
from kms.keys.core import Core
from kms.keys.lifecycle import Wish, plan
from kms.keys.model import ImportKey, KeyVersion, NamedKey, ResidentMaterial
from kms.keys.store import IMPORT_KEYS, NAMED_KEYS, name_key
from kms.operation import External, Outcome, Result
from kms.tables import Row, Transaction

SPEC: Final = KeySpec.RSA_4096
_RSA_BYTES: Final = 512
_LABEL: Final = "keystead wrapping key"
MAX_CIPHERTEXT_CHARACTERS: Final = 64 * 1024
BUSY_SECONDS: Final = 60.0  # longer than an HSM takes for an RSA-4096 pair
SETTLING_SECONDS: Final = 3_600.0  # how long after a failed attempt its object might still appear


def hsm_row(mount_id: str) -> str:
    """Row key of the pair in use."""
    return f"{mount_id}/hsm"


def gone_row(mount_id: str, cka_id: bytes) -> str:
    """Row key of a pair whose object is to be destroyed."""
    return f"{mount_id}/gone/{cka_id.hex()}"


def put_away(tx: Transaction, mount_id: str, now: float) -> None:
    """The mount has no wrapping key in the HSM any more; its object is destroyed later."""
    row = tx.get(IMPORT_KEYS, hsm_row(mount_id))
    if row is not None:
        tx.delete(IMPORT_KEYS, row)
        _remember(tx, mount_id, replace(row.value, created=now))


def _remember(tx: Transaction, mount_id: str, pair: ImportKey) -> None:
    cka_id = _material(pair).cka_id
    tx.insert(IMPORT_KEYS, gone_row(mount_id, cka_id), pair)


def _material(pair: ImportKey) -> ResidentMaterial:
    if not isinstance(pair.material, ResidentMaterial):
        raise TypeError("a wrapping key of the HSM that is not in the HSM")
    return pair.material


@dataclass(frozen=True, slots=True)
class Sent:
    """What a caller sends: base64 of RSA-OAEP || AES-KWP, perhaps the public key (SPKI DER), and OAEP's hash."""

    ciphertext: str
    public: bytes
    hash_function: str


@dataclass
class Arrival(Birth):
    """A version whose main key is unwrapped in the HSM instead of born there."""

    parcel: Parcel | None = field(default=None, kw_only=True)
    exists: str = field(default="", kw_only=True)  # the refusal when the name is taken

    def _begin(self, tx: Transaction) -> None:
        super()._begin(tx)
        if self.taken:
            raise invalid(self.exists)

    def _perform(self) -> bytes:
        return self.envelope.generate_residents(self.version, self.parcel)

    def conclude(self, tx: Transaction, public: bytes) -> Result:
        """Activate; a first version whose name was taken meanwhile is refused, and abandoned."""
        if self.first and tx.get(NAMED_KEYS, name_key(self.key.mount, self.key.name)) is not None:
            raise invalid(self.exists)
        super().conclude(tx, public)
        return Result(subject=facts(self.key, self.version.version) | {"public_only": 0})


class HsmImports:
    """The verbs. One per process."""

    def __init__(self, core: Core) -> None:
        self._core = core

    # -- the wrapping key -----------------------------------------------------------------------------

    def wrapping_key(self, mount_id: str) -> Outcome:
        """The public half in PEM, and which hashes its OAEP may have here; made when it is asked for first.

        Raises:
            KmsError(INVALID): this HSM takes in no keys. KmsError(CONFLICT): it is being made just now.
        """
        row = self._core.store.reader().get(IMPORT_KEYS, hsm_row(mount_id))
        if row is not None and row.value.public:
            return _shown(row.value, self._hashes(_material(row.value).cka_id))
        if not self._core.hsm().oaep(Purpose.IMPORT_UNWRAP):
            raise invalid(
                "the HSM has no CKM_AES_KEY_WRAP_KWP together with CKM_RSA_PKCS_OAEP, so it unwraps no keys of callers"
            )
        now = self._core.clock.now()
        made = ImportKey(
            created=now,
            material=ResidentMaterial(Purpose.IMPORT_UNWRAP.value, SPEC.value, new_cka_id()),
            public=b"",
        )
        return self._birth(mount_id, made, now)

    def _hashes(self, cka_id: bytes) -> tuple[str, ...]:
        """Of the token that the pair is in."""
        return self._core.hsm().oaep(Purpose.IMPORT_UNWRAP, CkaId(cka_id))

    def _birth(self, mount_id: str, made: ImportKey, now: float) -> External[bytes | None]:
        material = _material(made)

        def begin(tx: Transaction) -> None:
            other = tx.get(IMPORT_KEYS, hsm_row(mount_id))
            if other is not None and (other.value.public or now - other.value.created < BUSY_SECONDS):
                raise KmsError(ErrorKind.CONFLICT, "the wrapping key is being made; ask again in a moment")
            put_away(tx, mount_id, now)
            tx.insert(IMPORT_KEYS, hsm_row(mount_id), made)

        def perform() -> bytes:
            label = f"{_LABEL} {mount_id}"
            return self._core.hsm().generate(Purpose.IMPORT_UNWRAP, SPEC, CkaId(material.cka_id), label)

        return self._steps(mount_id, material.cka_id, begin, perform)

    def _steps(
        self,
        mount_id: str,
        cka_id: bytes,
        begin: Callable[[Transaction], None],
        make: Callable[[], bytes | None],
    ) -> External[bytes | None]:
        hashes: list[str] = []

        def perform() -> bytes | None:
            public = make()
            if public is not None:
                hashes.extend(self._hashes(cka_id))
            return public

        def planned(tx: Transaction) -> Row[ImportKey]:
            row = tx.get(IMPORT_KEYS, hsm_row(mount_id))
            if row is None or row.value.public or _material(row.value).cka_id != cka_id:
                raise KmsError(ErrorKind.CONFLICT, "another request made the wrapping key; ask again")
            return row

        def conclude(tx: Transaction, public: bytes | None) -> Result:
            row = planned(tx)
            if public is None:
                put_away(tx, mount_id, row.value.created)
                return Result(partial=True, subject={"hsm_objects": cka_id.hex()})
            return _shown(
                tx.replace(IMPORT_KEYS, row, replace(row.value, public=public)).value, tuple(hashes)
            )

        def abandon(tx: Transaction, _error: KmsError) -> None:
            row = tx.get(IMPORT_KEYS, hsm_row(mount_id))
            if row is not None and not row.value.public and _material(row.value).cka_id == cka_id:
                put_away(tx, mount_id, row.value.created)

        intent = {"mount": mount_id, "hsm_objects": cka_id.hex()}
        return External(intent=intent, begin=begin, perform=perform, conclude=conclude, abandon=abandon)

    def resolve(self, intent: Mapping[str, str | int]) -> External[bytes | None] | None:
        """Finish or undo a wrapping key that a crash interrupted (`Operation.resolve`)."""
        mount_id, cka_id = str(intent["mount"]), bytes.fromhex(str(intent["hsm_objects"]))
        row = self._core.store.reader().get(IMPORT_KEYS, hsm_row(mount_id))
        if row is None or row.value.public or _material(row.value).cka_id != cka_id:
            return None
        public = self._core.hsm().adopt(Purpose.IMPORT_UNWRAP, SPEC, CkaId(cka_id))
        return self._steps(mount_id, cka_id, lambda _tx: None, lambda: public)

    def destroy_gone(self) -> int:
        """Destroy the objects of wrapping keys that are not used any more; returns how many were looked at."""
        store = self._core.store
        keys = [key for key in store.reader().keys(IMPORT_KEYS) if "/gone/" in key]
        for key in keys:
            row = store.reader().get(IMPORT_KEYS, key)
            if row is None:
                continue
            self._core.hsm().destroy(CkaId(_material(row.value).cka_id))
            if self._core.clock.now() - row.value.created >= SETTLING_SECONDS:
                with store.transaction() as tx:
                    tx.delete(IMPORT_KEYS, row)
        return len(keys)

    # -- imports --------------------------------------------------------------------------------------

    def new(
        self, mount_id: str, name: str, wish: Wish, sent: Sent, *, allow_rotation: bool, exists: str
    ) -> External[bytes]:
        """A new key whose first version is unwrapped in the HSM."""
        check_name(name, "key name")
        if self._core.row(mount_id, name) is not None:
            raise invalid(exists)
        now = self._core.clock.now()
        key = replace(
            plan(new_id(), mount_id, name, wish, now),
            imported=True,
            allow_rotation=allow_rotation,
            rotated=now,
        )
        parcel = self._parcel(mount_id, sent)
        key = replace(key, key_size=_size(key.algorithm, parcel))
        self._core.admit(key)
        return self._arrival(key, 1, parcel, exists)

    def version(self, mount_id: str, key: NamedKey, sent: Sent) -> External[bytes]:
        """A further version that is unwrapped in the HSM."""
        return self._arrival(key, key.allotted + 1, self._parcel(mount_id, sent), "")

    def _arrival(self, key: NamedKey, number: int, parcel: Parcel, exists: str) -> External[bytes]:
        envelope, now = self._core.envelope, self._core.clock.now()
        version: KeyVersion = envelope.make_imported(key, number, now, parcel.public)
        return Arrival(envelope, key, version, first=bool(exists), parcel=parcel, exists=exists).external()

    def _parcel(self, mount_id: str, sent: Sent) -> Parcel:
        if not sent.ciphertext:
            raise invalid("a key of protection hsm needs its private half: send ciphertext")
        if len(sent.ciphertext) > MAX_CIPHERTEXT_CHARACTERS:
            raise invalid("the ciphertext is longer than any key")
        try:
            data = b64decode(sent.ciphertext, validate=True)
        except ValueError:
            raise invalid("the ciphertext is not base64") from None
        row = self._core.store.reader().get(IMPORT_KEYS, hsm_row(mount_id))
        if row is None or not row.value.public:
            raise invalid("this mount has no wrapping key in the HSM; read wrapping_key?protection=hsm first")
        cka_id = CkaId(_material(row.value).cka_id)
        return Parcel(cka_id, sent.hash_function.lower(), data, sent.public)


def _size(algorithm: Algorithm, parcel: Parcel) -> int:
    """Bytes of an HMAC key as far as AES-KWP shows them: up to 7 fewer are possible."""
    return len(parcel.data) - _RSA_BYTES - 8 if algorithm.kind is Kind.MAC else 0


def _shown(key: ImportKey, hashes: tuple[str, ...]) -> Result:
    public = load_der_public_key(key.public)
    data = {
        "public_key": public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
        "protection": Protection.HSM.value,
        "hash_functions": [name.upper() for name in hashes],
    }
    return Result(data=data, subject={"hsm_objects": _material(key).cka_id.hex()})
