"""One login to the token with everything that hangs on it: sessions, handles, loaded keys, the sentinel.

A connection is made whole and thrown away whole. When the token is lost, all of it is void at once.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from pkcs11 import exceptions as p11
from pkcs11.constants import Attribute, ObjectClass
from pkcs11.mechanisms import Mechanism

from kms.errors import ErrorKind, KmsError
from kms.hsm import failures, objects, rawops
from kms.hsm.failures import AbsentError, TokenLostError, UnseenError
from kms.hsm.loaded import LoadedKeys
from kms.hsm.mechanisms import KWP_CANDIDATES, sign_call
from kms.hsm.model import KeySpec, Purpose, Resident, Scheme, TokenInfo
from kms.hsm.module import Module
from kms.hsm.pool import MAX_SESSIONS, SessionPool
from kms.hsm.turns import turn
from kms.ids import CkaId

SENTINEL_ID: Final = CkaId(b"keystead-sentinl")
SENTINEL_LABEL: Final = "keystead sentinel"
MAX_LOADED: Final = 2048
_PROBE: Final = b"keystead sentinel v1"
_WRONG_DATA: Final = (p11.GeneralError, p11.FunctionFailed, p11.ArgumentsBad)


@dataclass(frozen=True)
class Handle:
    """A resolved token object, its attributes checked against its purpose."""

    number: int
    ref: Resident


def _encrypt_probe(session: Any, sentinel: int) -> bytes:
    # A fixed nonce is right here: the key encrypts this one message and no other.
    return rawops.encrypt(session, sentinel, bytes(12), _PROBE, b"")


def _sign_probe(session: Any, sentinel: int) -> bytes:
    # PKCS #1 v1.5 has no randomness: the same signature for ever.
    call = sign_call(KeySpec.RSA_2048, Scheme.RSA_PKCS1_NONE, _PROBE, None)
    return rawops.sign(session, sentinel, *call)


# Where a token has no AES-GCM that takes our IV, the sentinel signs.
_SENTINELS: Final = {
    ObjectClass.SECRET_KEY: (Purpose.SENTINEL, KeySpec.AES_256, _encrypt_probe),
    ObjectClass.PRIVATE_KEY: (Purpose.SENTINEL_RSA, KeySpec.RSA_2048, _sign_probe),
}
_NUMBERS = itertools.count()


class Connection:
    """Made by `connect`. Its methods take a session leased from `pool`, and let PKCS#11 errors pass."""

    def __init__(self, module: Module, token: Any, first: Any, *, rsa_seal: bool) -> None:
        self.number = next(_NUMBERS)
        self.module = module
        self.token = token
        self.pool = SessionPool(token, first, MAX_SESSIONS if module.os_locking else 1)
        self.mechanisms: frozenset[Any] = frozenset(token.slot.get_mechanisms())
        self.kwp: Mechanism | None = next((m for m in KWP_CANDIDATES if m in self.mechanisms), None)
        self.kwp_settled = False  # the first self-test compares it with RFC 5649
        self.loaded = LoadedKeys(MAX_LOADED)
        self.rsa_seal = rsa_seal  # what new seal roots, and a new sentinel, are
        self.sentinel: int | None = None
        self._asks: Callable[[Any, int], bytes] = _encrypt_probe
        self.answer = b""  # what the sentinel key makes of _PROBE: the same for ever
        self._handles: dict[bytes, Handle] = {}
        self._publics: dict[bytes, bytes] = {}
        self._pairs: dict[bytes, bool] = {}

    def exclude(self, names: Iterable[str]) -> None:
        """Use none of these mechanisms, by their CKM_ names, whatever the token lists."""
        unwanted = {mechanism for mechanism in self.mechanisms if failures.ckm(mechanism) in set(names)}
        self.mechanisms -= unwanted
        if self.kwp in unwanted:
            self.kwp = next((m for m in KWP_CANDIDATES if m in self.mechanisms), None)

    @property
    def info(self) -> TokenInfo:
        """Facts about token and module."""
        token, library = self.token, self.module.library
        return TokenInfo(
            manufacturer=str(token.manufacturer_id),
            model=str(token.model),
            serial=bytes(token.serial).decode("ascii", "replace"),
            label=str(token.label),
            firmware=".".join(str(part) for part in token.firmware_version),
            library=f"{library.library_description} {'.'.join(str(part) for part in library.library_version)}",
            os_locking=self.module.os_locking,
        )

    # --- handles ---

    def resident(self, session: Any, ref: Resident) -> int:
        """The handle of a token object, from memory after the first time.

        Raises:
            AbsentError: not found, for whatever reason.
            KmsError(INTEGRITY): found twice, or made for another purpose.
        """
        handle = self._handles.get(ref.cka_id)
        if handle is None or handle.ref != ref:
            key = objects.one_secret(session, ref.cka_id)
            objects.assert_template(
                key, ref.purpose, ref.spec, token=True, extractable=False, imported=ref.imported
            )
            handle = self._handles[ref.cka_id] = Handle(int(key.handle), ref)
        return handle.number

    def public_key(self, session: Any, cka_id: bytes) -> bytes:
        """SubjectPublicKeyInfo of a resident pair, from memory after the first time."""
        spki = self._publics.get(cka_id)
        if spki is None:
            spki = self._publics[cka_id] = objects.public_key(session, cka_id)
        return spki

    def is_pair(self, session: Any, cka_id: bytes) -> bool:
        """Whether a private key, not a secret one, has this id; from memory after the first time."""
        found = self._pairs.get(cka_id)
        if found is None:
            kind = objects.one_secret(session, cka_id).object_class
            found = self._pairs[cka_id] = kind is ObjectClass.PRIVATE_KEY
        return found

    def forget(self, cka_id: bytes | None = None) -> None:
        """Drop one remembered handle, or all."""
        if cka_id is None:
            self._handles.clear()
            self._publics.clear()
            self._pairs.clear()
        else:
            self._handles.pop(cka_id, None)
            self._publics.pop(cka_id, None)
            self._pairs.pop(cka_id, None)

    def destroy_idle(self, session: Any, handles: list[int]) -> None:
        """Destroy session objects that nobody uses any more; a token that has gone took them along."""
        for handle in handles:
            self.module.destroy_object(session.handle, handle)

    # --- the sentinel ---

    def find_sentinel(self, session: Any, known: bytes = b"") -> bool:
        """Look for the sentinel key and remember what it answers.

        Two processes that start on one fresh token can both make one. Any of them serves, but a process
        stays with its own: the one that gives the `known` answer.
        """
        answers: dict[bytes, tuple[int, Callable[[Any, int], bytes]]] = {}
        with turn(session):
            found: list[Any] = list(session.get_objects({Attribute.ID: SENTINEL_ID}))
        for key in found:
            form = _SENTINELS.get(key.object_class)
            if form is not None:
                purpose, spec, ask = form
                objects.assert_template(key, purpose, spec, token=True, extractable=False)
                answers[ask(session, key.handle)] = (key.handle, ask)
        if not answers:
            return False
        self.answer = known if known in answers else min(answers)
        self.sentinel, self._asks = answers[self.answer]
        return True

    def ensure_sentinel(self, session: Any) -> None:
        """Make the sentinel if the token has none. Called before the first key is made, never later."""
        if self.sentinel is not None or self.find_sentinel(session):
            return
        try:
            kind = ObjectClass.PRIVATE_KEY if self.rsa_seal else ObjectClass.SECRET_KEY
            purpose, spec, _ = _SENTINELS[kind]
            objects.generate_resident(session, purpose, spec, SENTINEL_ID, SENTINEL_LABEL)
        except KmsError:
            # Another process was quicker, and then there is one now.
            if not self.find_sentinel(session):
                raise
        else:
            self.find_sentinel(session)

    def prove_alive(self, session: Any) -> None:
        """Use the sentinel key.

        Raises:
            TokenLostError: it is not there, or answers otherwise than before.
        """
        try:
            if self.sentinel is None:
                # Nobody has made a key in this token yet, so a search that finds nothing tells the truth.
                self.find_sentinel(session)
            elif not secrets.compare_digest(self._asks(session, self.sentinel), self.answer):
                raise TokenLostError
        except p11.PKCS11Error as error:
            raise TokenLostError from error

    def explain(
        self, session: Any, error: p11.PKCS11Error, data_refused: str | None, needs: Mechanism | None = None
    ) -> KmsError:
        """The refusal for an error of a call in this session.

        Args:
            session: the one in which the call failed.
            error: what PKCS#11 said.
            data_refused: what to say (INVALID) when the data must have been wrong, since the token is there.
            needs: the mechanism that was used.

        Raises:
            TokenLostError
        """
        if isinstance(error, failures.LOST):
            raise TokenLostError from error
        if failures.needs_sentinel(error):
            self.prove_alive(session)
            # The token is there, but perhaps another process destroyed the object behind a handle.
            self.forget()
        translated = failures.translate(error, needs)
        if failures.is_unsupported(error):
            return translated
        if data_refused is not None and (
            translated.kind is ErrorKind.INVALID or isinstance(error, _WRONG_DATA)
        ):
            return KmsError(ErrorKind.INVALID, data_refused)
        return translated

    def explain_absent(self, session: Any, error: AbsentError) -> UnseenError:
        """A key that must be there was not found: lost token, lost key, or a memory that is wrong?"""
        self.prove_alive(session)
        return UnseenError(bytes.fromhex(str(error)))
