"""How the material of one key version is made and stored.

protection software   bytes of the kernel, or a pair from pyca/cryptography, in a sealed row
protection hsm        born in the HSM: a blob wrapped there (AES-KWP) under the root of its purpose, or,
                      where the token cannot wrap that type, a token object under a CKA_ID of ours

Each version of a key that is not itself an HMAC key gets a second, separate key for HMAC.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import msgspec

from kms.errors import ErrorKind, KmsError, integrity, invalid
from kms.hsm import Hsm, KeySpec, Parcel, Purpose, Resident, Wrapped
from kms.ids import CkaId, new_cka_id
from kms.keys.catalogue import HMAC_BYTES, Duty, Kind, Protection
from kms.keys.model import (
    JointProvider,
    KeyVersion,
    Material,
    NamedKey,
    NoMaterial,
    ResidentMaterial,
    RootProvider,
    SoftwareMaterial,
    VersionState,
    WrappedMaterial,
    to_material,
    wrapping_of,
)
from kms.keys.software import generate

_PURPOSES = {
    Kind.AEAD: Purpose.KEY_ENC,
    Kind.RSA: Purpose.KEY_SIGN,
    Kind.EC: Purpose.KEY_SIGN,
    Kind.EDWARDS: Purpose.KEY_SIGN,
    Kind.MAC: Purpose.KEY_MAC,
    Kind.CMAC: Purpose.KEY_CMAC,
    # No HSM makes these; the purpose only says what their material may not be mistaken for.
    Kind.KWP: Purpose.KEY_ENC,
    Kind.MLDSA: Purpose.KEY_SIGN,
    Kind.MLKEM: Purpose.KEY_ENC,
}
_ROOTS = {
    Purpose.KEY_ENC: Purpose.ROOT_WRAP_ENC,
    Purpose.KEY_MAC: Purpose.ROOT_WRAP_MAC,
    Purpose.KEY_SIGN: Purpose.ROOT_WRAP_SIGN,
}
_LABEL = "keystead key"


_DUTIES = {Duty.DECRYPT: Purpose.KEY_DECRYPT, Duty.DERIVE: Purpose.KEY_AGREE}


def purpose_of(key: NamedKey) -> Purpose:
    """What the main key of a version may do in the HSM."""
    return _DUTIES.get(key.purpose) or _PURPOSES[key.algorithm.kind]


def context(instance: str, key: NamedKey, version: int, purpose: Purpose) -> bytes:
    """What a wrapped blob is bound to by its probe: this place and no other.

    The wrapping key is bound by being the only one that opens the blob. JSON, so that no two
    different lists share one encoding.
    """
    return msgspec.json.encode(
        [_LABEL, instance, key.id, version, purpose.value, key.type, key.protection.value]
    )


class Envelope:
    """Makes versions. Holds no key material.

    Args:
        hsm: gives this process's HSM, or raises KmsError(HSM_UNAVAILABLE, SEALED).
        instance: the server's instance id, part of every context.
        shared: the wrapping roots that several tokens hold.
    """

    def __init__(
        self, hsm: Callable[[], Hsm], roots: RootProvider, instance: str, shared: JointProvider
    ) -> None:
        self._hsm = hsm
        self._roots = roots
        self._instance = instance
        self._shared = shared

    def make(self, key: NamedKey, number: int, created: float) -> KeyVersion:
        """Everything of a new version but its resident objects; nothing persists in the token.

        Returns:
            A version that is ACTIVE, or PLANNED when `generate_residents` must still run.
        """
        algorithm = key.algorithm
        purpose = purpose_of(key)
        if key.protection is Protection.SOFTWARE:
            material: Material
            material, public = generate(key)
            mac: Material | None = SoftwareMaterial(os.urandom(HMAC_BYTES))
        else:
            if algorithm.spec is None:
                raise ValueError(f"{algorithm.name} has no HSM form")
            material, public = self._born(key, number, purpose, algorithm.spec)
            mac = (
                None
                if algorithm.kind is Kind.MAC
                else self._born(key, number, Purpose.KEY_MAC, KeySpec.HMAC)[0]
            )
        if algorithm.kind is Kind.MAC:
            mac = None
        planned = any(isinstance(part, ResidentMaterial) for part in (material, mac))
        return KeyVersion(
            key_id=key.id,
            version=number,
            state=VersionState.PLANNED if planned else VersionState.ACTIVE,
            created=created,
            material=material,
            mac=mac,
            public=public,
            wrapping=wrapping_of(material),
            mac_wrapping=wrapping_of(mac),
        )

    def make_imported(self, key: NamedKey, number: int, created: float, public: bytes) -> KeyVersion:
        """A planned version whose main key is to be unwrapped in the HSM. `public` if the caller gave it."""
        algorithm = key.algorithm
        if algorithm.spec is None:
            raise ValueError(f"{algorithm.name} has no HSM form")
        mac = None
        if algorithm.kind is not Kind.MAC:
            mac = self._born(key, number, Purpose.KEY_MAC, KeySpec.HMAC)[0]
        return KeyVersion(
            key_id=key.id,
            version=number,
            state=VersionState.PLANNED,
            created=created,
            material=ResidentMaterial(
                purpose_of(key).value, algorithm.spec.value, new_cka_id(), imported=True
            ),
            mac=mac,
            public=public,
            mac_wrapping=wrapping_of(mac),
        )

    def generate_residents(self, version: KeyVersion, parcel: Parcel | None = None) -> bytes:
        """Make the token objects that a planned version names. Write-once, so never called twice.

        `parcel` is what an imported one is unwrapped from.

        Returns:
            SubjectPublicKeyInfo DER of the main key, or what the version already had.
        """
        public = version.public
        for part in residents(version):
            label = f"{_LABEL} {version.key_id} v{version.version}"
            ref = resident_ref(part)
            if not ref.imported:
                made = self._hsm().generate(ref.purpose, ref.spec, ref.cka_id, label)
            elif parcel is not None:
                made = self._hsm().bring(parcel, ref, label)
            else:
                raise ValueError("an imported version without what it is unwrapped from")
            public = made or public
        return public

    def find_residents(self, version: KeyVersion) -> bytes | None:
        """What of a planned version is in the token, after a crash. Half a key is destroyed.

        Returns:
            The public key as `generate_residents` would, or None when an object is missing.
        """
        hsm = self._hsm()
        public = version.public
        for part in residents(version):
            ref = resident_ref(part)
            if ref.imported:
                found = hsm.adopt_import(ref, version.public)
            else:
                found = hsm.adopt(ref.purpose, ref.spec, ref.cka_id)
            if found is None:
                return None
            public = found or public
        return public

    def destroy_residents(self, version: KeyVersion) -> None:
        """Destroy the token objects of a version, if it may have any."""
        for part in residents(version):
            hsm = self._hsm()
            if hsm.exists(CkaId(part.cka_id)):
                hsm.destroy(CkaId(part.cka_id))

    def check(self, key: NamedKey, version: KeyVersion) -> None:
        """Refuse material that does not belong to this key, version and protection.

        The row seal already binds the row to its place; this catches a row that was *sealed* wrongly,
        and a blob whose context names another key. The HSM checks the context against the probe.

        Raises:
            KmsError(INTEGRITY)
        """
        main = purpose_of(key)
        for part, purpose in ((version.material, main), (version.mac, Purpose.KEY_MAC)):
            # A public key alone needs no material; whoever uses its private half is told so.
            if part is None or (isinstance(part, NoMaterial) and part is version.material and version.public):
                continue
            software = isinstance(part, SoftwareMaterial)
            wrong = software != (key.protection is Protection.SOFTWARE)
            if isinstance(part, WrappedMaterial):
                wrong = wrong or part.context != context(self._instance, key, version.version, purpose)
            if isinstance(part, WrappedMaterial | ResidentMaterial):
                wrong = wrong or part.purpose != purpose.value
            wrong = wrong or isinstance(part, NoMaterial)
            if wrong:
                raise integrity(f"version {version.version} of key {key.name} holds material of another key")

    def _born(self, key: NamedKey, number: int, purpose: Purpose, spec: KeySpec) -> tuple[Material, bytes]:
        hsm = self._hsm()
        if purpose is Purpose.KEY_DECRYPT and key.oaep_hash not in hsm.oaep(purpose):
            raise lacks_oaep(key.oaep_hash, hsm.oaep(purpose))
        place = context(self._instance, key, number, purpose)
        wrapped = None
        if purpose in _ROOTS:
            if key.multi_token:
                wrapped = self._shared_blob(_ROOTS[purpose], (purpose, spec, place), first=number == 1)
            else:
                wrapped = self._wrapped(purpose, spec, place)
        if wrapped is not None:
            return to_material(wrapped), wrapped.public
        if key.multi_token:
            raise invalid(
                f"multi_token: a key of type {key.type}{_for(key)} lives in one HSM token, which does not wrap it"
            )
        return ResidentMaterial(purpose.value, spec.value, new_cka_id()), b""

    def _shared_blob(
        self, root_purpose: Purpose, what: tuple[Purpose, KeySpec, bytes], *, first: bool
    ) -> Wrapped | None:
        """A new blob under the root that the tokens share, or of one token when there is one left."""
        purpose, spec, place = what
        shared = self._shared.current(root_purpose, first=first)
        if shared is None:
            return self._wrapped(purpose, spec, place)
        hsm = self._hsm()
        if not hsm.can_wrap(spec, shared):
            return None
        return hsm.generate_wrapped(purpose, spec, shared, place, joint=True)

    def _wrapped(self, purpose: Purpose, spec: KeySpec, place: bytes) -> Wrapped | None:
        """A new blob; under the root of another token where the preferred one does not answer: nothing stayed there.

        None where the token does not wrap this type: each is asked for itself.
        """
        hsm = self._hsm()
        *first, last = self._roots.candidates(_ROOTS[purpose])
        for root in first:
            try:
                return hsm.generate_wrapped(purpose, spec, root, place) if hsm.can_wrap(spec, root) else None
            except KmsError as error:
                if error.kind is not ErrorKind.HSM_UNAVAILABLE:
                    raise
        return hsm.generate_wrapped(purpose, spec, last, place) if hsm.can_wrap(spec, last) else None


def _for(key: NamedKey) -> str:
    return f" for {key.purpose.value}" if key.purpose else ""


def lacks_oaep(hash_name: str, offered: tuple[str, ...]) -> KmsError:
    """The refusal of a hash that the token's OAEP does not do."""
    but = f"; it has {', '.join(name.upper() for name in offered)}: set hash_function" if offered else ""
    return invalid(f"the HSM has no CKM_RSA_PKCS_OAEP with {hash_name.upper()}{but}")


def resident_ref(part: ResidentMaterial) -> Resident:
    """The HSM layer's name of a token object."""
    return Resident(CkaId(part.cka_id), Purpose(part.purpose), KeySpec(part.spec), part.imported)


def residents(version: KeyVersion) -> list[ResidentMaterial]:
    """The token objects of a version, main key first."""
    return [part for part in (version.material, version.mac) if isinstance(part, ResidentMaterial)]


__all__ = ["Envelope", "context", "purpose_of", "residents"]
