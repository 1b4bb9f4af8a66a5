"""Dry runs: `dry_run=true` on anything that uses or changes a key decides and validates, and does not act.

policy, name, state, version, type,   as in the real call, by the same code: the table of operations
parameters, formats                   is built a second time over a service whose keys are mute
a use                                 the keys of the rehearsal hold no material: a tag, a signature or a
                                      plaintext is never computed, so a rehearsal tells nobody whether
                                      a ciphertext is genuine, and draws nothing of the 2^32 bound
a change                              runs to its end in a transaction that is rolled back
an HSM object, a birth, an agreement  is planned and not made; the HSM is not asked for anything, so that what the
                                      token alone can say (an OAEP hash it lacks) shows in the real call only
the record                            is written as for the real call, with `dry_run` among its fields
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from kms.errors import invalid
from kms.hsm import Hsm, KeyRef, KeySpec, Purpose
from kms.ids import new_cka_id
from kms.keys.aead import TAG_BYTES, ContextKey, Derivation
from kms.keys.agreement import Agreements
from kms.keys.birth import facts
from kms.keys.core import check_no_alias
from kms.keys.envelope import Envelope
from kms.keys.importing import Imports
from kms.keys.lifecycle import Wish, check_rotation
from kms.keys.live import LiveKey
from kms.keys.model import Material, NamedKey, ResidentMaterial
from kms.keys.ready import HsmOaep, Kem, KeyWrapper, Oaep, ReadyVersion
from kms.keys.service import KeyService
from kms.keys.signing import NO_HASH, How, PublicKey, digest
from kms.operation import Call, Capability, Change, Field, Operation, Outcome, Record, Result, Type
from kms.tables import Transaction

DRY_RUN: Final = Field("dry_run", Type.BOOL, default=False, record=Record.CLEAR)
# What has no key, or makes something for its answer alone; and what no caller can ask for.
_WITHOUT: Final = frozenset(
    {
        "transit.random",
        "transit.hash",
        "transit.keys.csr",
        "transit.keys.turn",
        "transit.pending.destroy",
        "transit.cache.update",
    }
)
_LOOKING: Final = frozenset({Capability.READ, Capability.LIST})


class _Cipher:
    """An AEAD that gives lengths only."""

    def encrypt(self, _nonce: bytes, data: bytes, _associated_data: bytes | None) -> bytes:
        return bytes(len(data) + TAG_BYTES)

    def decrypt(self, _nonce: bytes, _data: bytes, _associated_data: bytes | None) -> bytes:
        return b""


class _Block(Oaep):
    """RSA encryption, which is public, and no decryption."""

    __slots__ = ("_real",)
    _real: Any  # any that ReadyVersion.oaep holds

    def __init__(self, real: Any) -> None:
        object.__setattr__(self, "_real", real)

    def encrypt(self, plaintext: bytes) -> bytes:
        block: bytes = self._real.encrypt(plaintext)
        return block

    def decrypt(self, ciphertext: bytes) -> bytes:
        # Of a key in the HSM there is no private half here either, and it would really be asked.
        if (
            isinstance(self._real, Oaep)
            and not isinstance(self._real, HsmOaep)
            and self._real.private is None
        ):
            self._real.decrypt(ciphertext)  # refuses
        return b""


class _Wrapper(KeyWrapper):
    def wrap(self, target: bytes, *, padded: bool) -> bytes:
        del padded
        return target

    def unwrap(self, wrapped: bytes, *, padded: bool) -> bytes:
        del padded
        return wrapped


class _Kem(Kem):
    def encapsulate(self) -> tuple[bytes, bytes]:
        return b"", b""

    def decapsulate(self, ciphertext: bytes) -> bytes:
        return super().decapsulate(ciphertext) if self.private is None else b""


@dataclass(frozen=True)
class _Signer:
    public: PublicKey | None

    def sign(self, data: bytes, how: How) -> bytes:
        if how.hash_name != NO_HASH:
            digest(data, how)
        return encode_dss_signature(1, 1) if isinstance(self.public, ec.EllipticCurvePublicKey) else b""


class _Mac:
    def compute(self, _hash_name: str, _data: bytes) -> bytes:
        return b""


class _Cmac:
    def compute(self, _data: bytes) -> bytes:
        return b""


class _Derivation(Derivation):
    def __init__(self) -> None:
        """Hold nothing."""

    def cipher(self, context: bytes) -> ContextKey:
        del context
        return ContextKey(_Cipher(), None)

    def signer(self, context: bytes) -> Ed25519PrivateKey:
        del context
        return Ed25519PrivateKey.generate()


def mute(version: ReadyVersion) -> ReadyVersion:
    """The version without its material: it can do the same things, and does none of them."""
    return replace(
        version,
        mac=_Mac(),
        aead=_Cipher() if version.aead else None,
        oaep=_Block(version.oaep) if version.oaep else None,
        signer=_Signer(version.public) if version.signer else None,
        cmac=_Cmac() if version.cmac else None,
        derivation=_Derivation() if version.derivation else None,
        wrapper=_Wrapper(b"") if version.wrapper else None,
        kem=_Kem(version.kem.public, version.kem.private) if version.kem else None,
        allowance=None,
    )


class _Still(Hsm):
    """The HSM of a rehearsal: agrees on zeros. Made without a token, so whatever else is asked of it fails."""

    def __init__(self) -> None:
        """Open nothing."""

    def agree(self, ref: KeyRef, point: bytes) -> bytes:
        del ref
        return bytes(len(point) // 2)


class _Planner(Envelope):
    """Plans versions of `hsm` keys: what would be born is an object that is not there yet."""

    def __init__(self, real: Envelope) -> None:
        vars(self).update(vars(real))

    def _born(self, key: NamedKey, number: int, purpose: Purpose, spec: KeySpec) -> tuple[Material, bytes]:
        del key, number
        return ResidentMaterial(purpose.value, spec.value, new_cka_id()), b""


class Rehearsal(KeyService):
    """The service with mute keys and without an HSM. Shares everything else with the real one."""

    def __init__(self, real: KeyService) -> None:
        vars(self).update(vars(real))
        self.core = replace(real.core, hsm=_Still, envelope=_Planner(real.core.envelope))
        self.imports = Imports(self.core, self.exports)
        self.agreements = Agreements(self.core)

    def get(self, mount_id: str, name: str) -> LiveKey | None:
        live = super().get(mount_id, name)
        return live.changed(mute) if live is not None else None

    def hsm_random(self, count: int) -> bytes:
        return bytes(count)

    def create(self, mount_id: str, name: str, wish: Wish) -> Outcome:
        if self.core.row(mount_id, name) is not None:
            return super().create(mount_id, name, wish)
        check_no_alias(self.core.store.reader(), mount_id, name)
        return Result(subject=facts(self.core.intend(mount_id, name, wish), 1))

    def rotate(self, mount_id: str, name: str) -> Outcome:
        row = self.core.row(mount_id, name)
        if row is None:
            raise invalid("key not found")
        check_rotation(row.value, self.core.clock.now())
        return Result(subject=facts(row.value, row.value.allotted + 1))


class _RolledBack(Exception):  # noqa: N818  (not an error: how a transaction of a rehearsal ends)
    def __init__(self, result: Result) -> None:
        self.result = result


def with_dry_run(service: KeyService, table: Callable[[KeyService], list[Operation]]) -> list[Operation]:
    """The operations of a service, those that use or change a key with the field `dry_run`."""
    rehearsals = {operation.name: operation for operation in table(Rehearsal(service))}
    return [
        operation
        if operation.name in _WITHOUT or operation.capability in _LOOKING
        else replace(
            operation,
            act=_choose(operation.act, rehearsals[operation.name].act, service),
            fields=(*operation.fields, DRY_RUN),
        )
        for operation in table(service)
    ]


def _choose(
    act: Callable[[Call], Outcome], rehearsed: Callable[[Call], Outcome], service: KeyService
) -> Callable[[Call], Outcome]:
    def chosen(call: Call) -> Outcome:
        if call.args["dry_run"]:
            return _mere(_undone(service, rehearsed(call)))
        return act(call)

    return chosen


def _undone(service: KeyService, outcome: Outcome) -> Result:
    if isinstance(outcome, Result):
        return outcome

    def write(tx: Transaction) -> Result:
        if isinstance(outcome, Change):
            return outcome.write(tx)
        if outcome.begin is not None:
            outcome.begin(tx)
        return Result(subject=outcome.intent)

    try:
        with service.core.store.transaction() as tx:
            raise _RolledBack(write(tx))  # noqa: TRY301  (the way to roll back is to raise through it)
    except _RolledBack as end:
        return end.result


def _mere(result: Result) -> Result:
    """What a rehearsal answers: that it would work, item by item, and nothing of what it would give."""
    data: dict[str, Any] = {"dry_run": True}
    batch = result.data.get("batch_results") if result.data else None
    if batch is not None:
        data["batch_results"] = [_item(item) for item in batch]
    kept = {name: value for name, value in result.subject.items() if name != "valid"}
    return replace(result, data=data, auth=None, raw=None, subject=kept)


def _item(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: item[name] for name in ("error", "reference") if name in item}
