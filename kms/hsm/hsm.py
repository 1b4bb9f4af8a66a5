"""The verbs of the HSM layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pkcs11.mechanisms import Mechanism

from kms.clock import Clock
from kms.errors import ErrorKind, KmsError, integrity, invalid
from kms.hsm import forms, importing, objects, probe, rawops, sealing, selftest, trials, vectors, wrapped
from kms.hsm.connection import Connection
from kms.hsm.failures import lacking
from kms.hsm.forms import Form
from kms.hsm.gate import Gate, Work
from kms.hsm.importing import Parcel
from kms.hsm.mechanisms import HMACS, SPECS, sign_call
from kms.hsm.model import (
    HsmConfig,
    KeyRef,
    KeySpec,
    Purpose,
    Resident,
    Scheme,
    TokenInfo,
    Wrapped,
)
from kms.hsm.ours import Ours
from kms.ids import CkaId

NONCE_SIZE: Final = 12
CMAC_SIZE: Final = 16
MAX_RANDOM: Final = 1 << 20
_UNREADABLE: Final = "the ciphertext does not decrypt: it was changed, or belongs to another key or context"
_ENCRYPTS: Final = frozenset({Purpose.KEY_ENC})
_SIGNS: Final = frozenset({Purpose.KEY_SIGN, Purpose.CA_SIGN, Purpose.LOG_SIGN})


class Hsm:
    """One token, opened by one process after its fork. Thread safe.

    Every method raises KmsError(HSM_UNAVAILABLE) when the token does not answer; the next call tries to reopen
    it, at most every 0.25 to 2 seconds.
    """

    def __init__(self, gate: Gate) -> None:
        """Use `Hsm.open`."""
        self.gate = gate  # for this package only: theft.py and capabilities.py go through it
        self._wrappable: dict[KeySpec, bool] = {}
        self._oaep: dict[Purpose, tuple[str, ...]] = {}

    @classmethod
    def open(cls, config: HsmConfig, clock: Clock, ours: Ours | None = None) -> Hsm:
        """Load the module, log in once, and run the self-test.

        Args:
            config: where the token is.
            clock: of the process.
            ours: how to tell the token from another one under its label; also at each reopening.

        Raises:
            KmsError(HSM_UNAVAILABLE): with a hint at what to mend.
        """
        vectors.check()
        return cls(Gate(config, clock, accepting(ours)))

    def close(self) -> None:
        """Log out and give the module back. Idempotent; every later call is refused."""
        self.gate.close()

    @property
    def info(self) -> TokenInfo:
        """Facts about token and module."""
        return self.gate.run(lambda connection, _: connection.info, repeat=True)

    def mechanisms(self) -> frozenset[str]:
        """Names of the token's mechanisms, as python-pkcs11 spells them; 0x... for those without a name."""
        found = self.gate.run(lambda connection, _: connection.mechanisms, repeat=True)
        return frozenset(m.name if isinstance(m, Mechanism) else f"0x{int(m):x}" for m in found)

    def check(self) -> None:
        """Use the sentinel key; tries to reopen a lost token."""
        self.gate.run(lambda connection, session: connection.prove_alive(session), repeat=True)

    def self_test(self, *, thorough: bool = False) -> list[str]:
        """Test primitives and token; a line for each thing tested. See selftest.py for what it proves.

        Raises:
            KmsError(HSM_UNAVAILABLE): an answer is wrong.
        """
        vectors.check()
        return self.gate.run(
            lambda connection, session: selftest.token(connection, session, thorough=thorough),
            repeat=True,
            slow=True,
        )

    def random(self, n: int) -> bytes:
        """`n` bytes from the token's generator, at most 1 MiB."""
        if not 0 < n <= MAX_RANDOM:
            raise invalid(f"ask for 1 to {MAX_RANDOM} random bytes")
        return self.gate.run(lambda _, session: bytes(session.generate_random(n * 8)))

    # --- several tokens (group.py) ---

    def at(self, _name: str) -> Hsm:
        """The verbs for one token alone, by its name in the configuration, "" for the first. Here there is one."""
        return self

    def away(self) -> dict[str, str]:
        """Tokens that do not answer, as far as is known, and why. Of one token, it is the calls that tell."""
        return {}

    def order(self, ids: Sequence[CkaId]) -> list[CkaId]:
        """Objects that can stand in for each other: those first whose token answers, the preferred token's before others."""
        return list(ids)

    def reachable(self, _cka_id: CkaId) -> bool:
        """Whether the token that holds the object answers, as far as is known. False also for one that is nowhere."""
        return True

    # --- token objects ---

    def generate(self, purpose: Purpose, spec: KeySpec, cka_id: CkaId, label: str) -> bytes:
        """Make a resident key; durable when it returns. SubjectPublicKeyInfo in DER, or b"".

        Never repeated: after a failure the caller finds out with `exists` what happened.

        Raises:
            KmsError(INVALID): the purpose does not have this key type.
            KmsError(INTEGRITY): the id is taken, or the token made something else than was asked for.
        """

        def work(connection: Connection, session: Any) -> bytes:
            forms.demand_use(connection, purpose)
            connection.ensure_sentinel(session)
            sealing.generate_signer(session, purpose, spec, cka_id, label)
            return objects.generate_resident(session, purpose, spec, cka_id, label, connection.kwp)

        spki = self.gate.run(work, needs=SPECS[spec].generate, slow=True)
        self.gate.files.sync()
        return spki

    def public_key(self, cka_id: CkaId) -> bytes:
        """SubjectPublicKeyInfo in DER of a resident pair.

        Raises:
            KmsError(INTEGRITY): the token answers, but has no such pair, or two.
        """
        return self.gate.run(lambda connection, session: connection.public_key(session, cka_id), repeat=True)

    def attributes(self, ref: Resident) -> dict[str, bool | str]:
        """What the token says of a key that was born in it, by CKA_ names; read back, not remembered.

        Raises:
            KmsError(INTEGRITY): it is not there, or not what its purpose demands.
        """
        return self.gate.run(
            lambda _, session: objects.described(session, ref.purpose, ref.spec, ref.cka_id), repeat=True
        )

    def exists(self, cka_id: CkaId) -> bool:
        """Whether the token holds the key. False only after the sentinel key answered.

        Raises:
            KmsError(INTEGRITY): it holds two.
        """

        def work(connection: Connection, session: Any) -> bool:
            found = objects.search(session, cka_id)
            connection.prove_alive(session)
            return bool(found.secrets)

        return self.gate.run(work, repeat=True)

    def adopt(self, purpose: Purpose, spec: KeySpec, cka_id: CkaId) -> bytes | None:
        """After a crash during `generate`: its answer if the whole key is there; None if nothing is (any more).

        Half a key is destroyed. Only for keys that are planned: one in use must never be judged here.
        """

        def work(connection: Connection, session: Any) -> bytes | None:
            connection.forget(cka_id)
            spki = objects.adopt(session, purpose, spec, cka_id, connection.kwp)
            if not sealing.adopt_signer(session, purpose, spec, cka_id, wanted=spki is not None):
                objects.destroy(session, cka_id)
                spki = None
            if spki is None:
                connection.prove_alive(session)
            return spki

        answer = self.gate.run(work)
        self.gate.files.sync()
        return answer

    def bring(self, parcel: Parcel, ref: Resident, label: str) -> bytes:
        """Unwrap a caller's key inside the token, as a token object; durable when it returns.

        Never repeated, like `generate`. Returns SubjectPublicKeyInfo, or empty. See importing.py.

        Raises:
            KmsError(INVALID): the parcel is not a key of this type for this pair, or the token cannot; names the mechanism.
        """
        hashes = self.oaep(Purpose.IMPORT_UNWRAP)

        def work(connection: Connection, session: Any) -> bytes:
            return importing.bring(connection, session, parcel, ref, label, hashes)

        spki = self.gate.run(work)
        self.gate.files.sync()
        return spki

    def adopt_import(self, ref: Resident, public: bytes) -> bytes | None:
        """`adopt` for a key that `bring` was to take in."""

        def work(connection: Connection, session: Any) -> bytes | None:
            connection.forget(ref.cka_id)
            spki = importing.adopt(session, ref, public)
            if spki is None:
                connection.prove_alive(session)
            return spki

        answer = self.gate.run(work)
        self.gate.files.sync()
        return answer

    def oaep(self, purpose: Purpose, _cka_id: CkaId | None = None) -> tuple[str, ...]:
        """The hashes with which keys of this purpose do RSA-OAEP in this token, tried once per process.

        Of several tokens, in the one that holds `cka_id`, or that would make a new key.

        Args:
            purpose: KEY_DECRYPT, ROOT_SEAL_RSA or IMPORT_UNWRAP. Empty: the token cannot do it at all.
        """
        if purpose not in self._oaep:
            self._oaep[purpose] = self.gate.run(
                lambda connection, session: trials.oaep(connection, session, purpose), repeat=True, slow=True
            )
        return self._oaep[purpose]

    def destroy(self, cka_id: CkaId) -> None:
        """Destroy a resident key and its public half. Nothing there is a success, once the sentinel answered."""

        def work(connection: Connection, session: Any) -> None:
            connection.forget(cka_id)
            if not objects.destroy(session, cka_id):
                connection.prove_alive(session)
            objects.destroy(session, sealing.signer_id(cka_id))

        self.gate.run(work)

    def objects(self, label_prefix: str) -> list[tuple[CkaId, str]]:
        """Id and label of all keys whose label starts with the prefix, for reconciling orphans."""

        def work(connection: Connection, session: Any) -> list[tuple[CkaId, str]]:
            rows = objects.listing(session, label_prefix)
            connection.prove_alive(session)
            return rows

        return self.gate.run(work, repeat=True)

    # --- sealing ---

    def root_form(self, purpose: Purpose, spec: KeySpec) -> Form:
        """How this token carries a root: forms.py."""
        return self.gate.run(lambda connection, _: forms.root_form(connection, purpose, spec), repeat=True)

    def seal(self, root: CkaId, plaintext: bytes, aad: bytes) -> bytes:
        """Encrypt and authenticate under a seal root, in the form that the root has; sealing.py has the formats.

        `aad` must be given again to `unseal`. A root's use is bounded: see the callers, who seal a few keyring
        terms with it.
        """
        oaep = ""
        if self.gate.run(lambda connection, session: sealing.is_pair(connection, session, root), repeat=True):
            oaep = next(iter(self.oaep(Purpose.ROOT_SEAL_RSA)), "")
        return self.gate.run(
            lambda connection, session: sealing.seal(connection, session, root, plaintext, aad, oaep)
        )

    def unseal(self, root: CkaId, sealed: bytes, aad: bytes) -> bytes:
        """Inverse of `seal`.

        Raises:
            KmsError(INTEGRITY): changed, or sealed under another root or `aad`.
        """
        try:
            return self.gate.run(
                lambda connection, session: sealing.unseal(connection, session, root, sealed, aad),
                repeat=True,
                data_refused=_UNREADABLE,
            )
        except KmsError as error:
            if error.kind is ErrorKind.INVALID:
                raise integrity("a sealed value does not open under its root key") from error
            raise

    # --- wrapped keys ---

    def can_wrap(self, spec: KeySpec, _wrapping: CkaId | None = None) -> bool:
        """Whether keys of this type can live outside the token as blobs. Tried once per process.

        Of several tokens, the one that holds the root `wrapping`, or that would make a resident key instead.
        """
        family = wrapped.FAMILY[spec]
        if family not in self._wrappable:
            self._wrappable[family] = self.gate.run(
                lambda connection, session: wrapped.try_wrapping(connection, session, family),
                repeat=True,
                slow=True,
            )
        return self._wrappable[family]

    def generate_wrapped(
        self, purpose: Purpose, spec: KeySpec, wrapping: CkaId, context: bytes, *, joint: bool = False
    ) -> Wrapped:
        """Make a key in the token and wrap it there; loaded once more, and so proven, before it returns.

        Made again if the token is lost on the way: nothing of the first try stays, as it was a session object.

        `joint`: the wrapping key is one that several tokens hold (joint.py).

        Raises:
            KmsError(INVALID): the purpose does not have this key type, or is never wrapped, or the token cannot
                wrap the type (`can_wrap`).
        """

        def work(connection: Connection, session: Any) -> Wrapped:
            forms.demand_use(connection, purpose)
            ref = wrapped.birth(connection, session, purpose, spec, wrapping, context, joint=joint)
            with wrapped.usable(connection, session, ref):
                return ref

        return self.gate.run(work, repeat=True, needs=SPECS[spec].generate, slow=True)

    def retire_unused(self, keep: int = 0) -> None:
        """Destroy all but the `keep` most recently used session objects of wrapped keys."""
        self.gate.run(
            lambda connection, session: connection.destroy_idle(session, connection.loaded.shrink(keep)),
            repeat=True,
        )

    # --- using keys ---

    def encrypt(self, ref: KeyRef, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
        """AES-GCM: ciphertext || tag (16). The nonce has 12 bytes, from the random source, never chosen by a caller."""
        _check_purpose(ref, _ENCRYPTS)
        return self._encrypt(ref, nonce, plaintext, aad)

    def decrypt(self, ref: KeyRef, nonce: bytes, data: bytes, aad: bytes) -> bytes:
        """Inverse of `encrypt`.

        Raises:
            KmsError(INVALID): one and the same for everything that can be wrong with the data.
        """
        _check_purpose(ref, _ENCRYPTS)
        return self._decrypt(ref, nonce, data, aad)

    def _encrypt(self, ref: KeyRef, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
        if len(nonce) != NONCE_SIZE:
            raise invalid(f"a nonce has {NONCE_SIZE} bytes")

        def work(connection: Connection, session: Any) -> bytes:
            with wrapped.usable(connection, session, ref) as key:
                return rawops.encrypt(session, key, nonce, plaintext, aad)

        return self.gate.run(work, needs=Mechanism.AES_GCM)

    def _decrypt(self, ref: KeyRef, nonce: bytes, data: bytes, aad: bytes) -> bytes:
        if len(nonce) != NONCE_SIZE or len(data) < rawops.TAG_SIZE:
            raise invalid(_UNREADABLE)

        def work(connection: Connection, session: Any) -> bytes:
            with wrapped.usable(connection, session, ref) as key:
                return rawops.decrypt(session, key, nonce, data, aad)

        return self.gate.run(work, repeat=True, data_refused=_UNREADABLE, needs=Mechanism.AES_GCM)

    def mac(self, ref: KeyRef, hash_name: str, data: bytes) -> bytes:
        """HMAC with "sha224" to "sha512" or "sha3-224" to "sha3-512".

        Raises:
            KmsError(INVALID): another hash, or data with the mark of a probe (probe.py).
        """
        _check_purpose(ref, frozenset({Purpose.KEY_MAC}))
        if hash_name not in HMACS:
            raise invalid(f"unknown hash for HMAC; known are {', '.join(HMACS)}")
        probe.refuse_marked(data)
        mechanism, size = HMACS[hash_name]

        def work(connection: Connection, session: Any) -> bytes:
            with wrapped.usable(connection, session, ref) as key:
                return rawops.mac(session, key, mechanism, size, data)

        return self.gate.run(work, repeat=True, needs=mechanism)

    def cmac(self, ref: KeyRef, data: bytes) -> bytes:
        """AES-CMAC (SP 800-38B), 16 bytes.

        Raises:
            KmsError(INVALID): the token has no CKM_AES_CMAC.
        """
        _check_purpose(ref, frozenset({Purpose.KEY_CMAC}))

        def work(connection: Connection, session: Any) -> bytes:
            with wrapped.usable(connection, session, ref) as key:
                return rawops.mac(session, key, Mechanism.AES_CMAC, CMAC_SIZE, data)

        return self.gate.run(work, repeat=True, needs=Mechanism.AES_CMAC)

    def decrypt_oaep(self, ref: KeyRef, hash_name: str, block: bytes) -> bytes:
        """RSA-OAEP with MGF1 of the same hash and no label.

        Raises:
            KmsError(INVALID): one and the same for everything that can be wrong with the block. Or the token does
                not have the hash.
        """
        _check_purpose(ref, frozenset({Purpose.KEY_DECRYPT}))
        if hash_name not in self.oaep(Purpose.KEY_DECRYPT):
            raise lacking(f"CKM_RSA_PKCS_OAEP with {hash_name.upper()}")
        if len(block) != SPECS[ref.spec].bits // 8:
            raise invalid(_UNREADABLE)

        def work(connection: Connection, session: Any) -> bytes:
            with wrapped.usable(connection, session, ref) as key:
                return rawops.decrypt_oaep(session, key, hash_name, block)

        return self.gate.run(work, repeat=True, data_refused=_UNREADABLE)

    def agree(self, ref: KeyRef, point: bytes) -> bytes:
        """ECDH with an uncompressed point (SEC 1): the x coordinate (SP 800-56A 5.7.1.2).

        The caller has checked that the point is on the key's curve.

        Raises:
            KmsError(INVALID): the token has no CKM_ECDH1_DERIVE.
        """
        _check_purpose(ref, frozenset({Purpose.KEY_AGREE}))

        def work(connection: Connection, session: Any) -> bytes:
            with wrapped.usable(connection, session, ref) as key:
                return rawops.agree(session, key, point, SPECS[ref.spec].coordinate)

        return self.gate.run(work, repeat=True, needs=Mechanism.ECDH1_DERIVE)

    def sign(self, ref: KeyRef, scheme: Scheme, payload: bytes, *, salt_length: int | None = None) -> bytes:
        """Sign; Scheme says what `payload` is and what comes back.

        Args:
            ref: a key for signing.
            scheme: must belong to the key's type.
            payload: a digest, or for EDDSA the message.
            salt_length: of RSA-PSS in bytes; the hash's size if not given.

        Raises:
            KmsError(INVALID): the scheme or payload does not fit the key, or carries the mark of a probe.
        """
        _check_purpose(ref, _SIGNS)
        probe.refuse_marked(payload)
        mechanism, parameter, data, size = sign_call(ref.spec, scheme, payload, salt_length)

        def work(connection: Connection, session: Any) -> bytes:
            with wrapped.usable(connection, session, ref) as key:
                return rawops.sign(session, key, mechanism, parameter, data, size)

        return self.gate.run(work, needs=mechanism)


def accepting(ours: Ours | None) -> Work[None]:
    """What each new connection has to pass before it is used."""

    def accept(connection: Connection, session: Any) -> None:
        if ours is not None:
            ours.demand(session)
        selftest.token(connection, session)

    return accept


def _check_purpose(ref: KeyRef, allowed: frozenset[Purpose]) -> None:
    if ref.purpose not in allowed:
        raise invalid(f"a key for {ref.purpose} cannot do this")
