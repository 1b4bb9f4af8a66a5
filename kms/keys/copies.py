"""A token that the vendor makes a copy of the first one: proved by use before it serves.

    (1) it holds every object that the first one holds
    (2) each seal root opens a keyring term; each wrapping root loads a sentinel blob that was born in the first token
        just now, and the key in it answers as it does there; each log key signs what its public key verifies

The same is asked of the roots of a rotation before they are activated: copying is the vendor's, so it takes its time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from kms.clock import Clock
from kms.errors import ErrorKind, KmsError, invalid
from kms.hsm import Hsm, KeySpec, Purpose, Resident, Scheme
from kms.ids import CkaId
from kms.keys.keyring import TERMS, open_row, with_forms
from kms.keys.roots import ACTIVE, ROOTS, RootObject
from kms.keys.tokens import ENROLLED, HSM_TOKENS, SAME_KEYS, HsmToken, name_first, put_token
from kms.operation import Change, Result
from kms.tables import Reader, Row, Store, Transaction

_SENTINEL: Final = b"keystead sentinel blob"
_DIGEST: Final = bytes(range(32))


@dataclass(frozen=True)
class Copies:
    """Enrols copies of the first token.

    Args:
        first: its name.
        instance: id of the server.
    """

    store: Store
    hsm: Callable[[], Hsm]
    clock: Clock
    first: str
    instance: Callable[[], str]

    def enrol(self, name: str) -> Change:
        """Prove the copy, and let it serve.

        Raises:
            KmsError(INVALID): it serves already, or is no copy; says what is missing.
            KmsError(HSM_UNAVAILABLE): one of the two does not answer.
        """
        reader = self.store.reader()
        row = reader.get(HSM_TOKENS, name)
        if row is not None and row.value.state == ENROLLED:
            raise invalid(f'the HSM token "{name}" serves already')
        proved = self._prove(name, reader)
        serials = {each: self.hsm().at(each).info.serial for each in (self.first, name)}

        def write(tx: Transaction) -> Result:
            now = self.clock.now()
            name_first(tx, self.first, serials[self.first], now)
            fresh = HsmToken(state=ENROLLED, relation=SAME_KEYS, serial=serials[name], since=now)
            put_token(tx, name, fresh)
            return Result(data={"name": name, "state": ENROLLED, "objects": proved}, subject={"token": name})

        return Change(write)

    def _prove(self, name: str, reader: Reader) -> int:
        first, copy = self.hsm().at(self.first), self.hsm().at(name)
        held = dict(first.objects(""))
        missing = held.keys() - {cka_id for cka_id, _ in copy.objects("")}
        if missing:
            label = held[min(missing)]
            raise invalid(
                f'the HSM token "{name}" is no copy of "{self.first}": it lacks {len(missing)} of {len(held)} objects,'
                f' one of them "{label}"; let the vendor\'s tool copy them'
            )
        roots = [row for row in reader.find(ROOTS, {"state": ACTIVE}) if row.value.home in ("", self.first)]
        for row in roots:
            try:
                self._use(first, copy, row, reader)
            except (KmsError, InvalidSignature) as error:
                if isinstance(error, KmsError) and error.kind is ErrorKind.HSM_UNAVAILABLE:
                    raise
                what = f"{row.value.purpose} v{row.value.version}"
                raise invalid(
                    f'the HSM token "{name}" is no copy of "{self.first}": its {what} is another key'
                ) from error
        return len(held)

    def _use(self, first: Hsm, copy: Hsm, row: Row[RootObject], reader: Reader) -> None:
        if row.value.lacks:
            return
        root, purpose = CkaId(bytes.fromhex(row.key)), Purpose(row.value.purpose)
        if purpose is Purpose.ROOT_SEAL:
            for term in reader.scan(TERMS):
                mine = [form for form in term.value.forms if form.root == row.key]
                if mine:
                    open_row(copy, self.instance(), with_forms(term.value, mine))
        elif purpose is Purpose.LOG_SIGN:
            key = load_der_public_key(row.value.public)
            signature = copy.sign(Resident(root, purpose, KeySpec.ED25519), Scheme.EDDSA, _SENTINEL)
            if isinstance(key, Ed25519PublicKey):
                key.verify(signature, _SENTINEL)
        else:
            load_sentinel(first, copy, purpose, root)


def load_sentinel(first: Hsm, copy: Hsm, purpose: Purpose, root: CkaId, *, joint: bool = False) -> None:
    """A blob that is born under this root in one token opens in the other, and its key answers the same.

    Raises:
        KmsError(INTEGRITY): it is another root.
    """
    if purpose is Purpose.ROOT_WRAP_ENC:
        ref = first.generate_wrapped(Purpose.KEY_ENC, KeySpec.AES_256, root, _SENTINEL, joint=joint)
        sealed = first.encrypt(ref, bytes(12), _SENTINEL, b"")
        copy.decrypt(ref, bytes(12), sealed, b"")
    elif purpose is Purpose.ROOT_WRAP_MAC:
        ref = first.generate_wrapped(Purpose.KEY_MAC, KeySpec.HMAC, root, _SENTINEL, joint=joint)
        if first.mac(ref, "sha256", _SENTINEL) != copy.mac(ref, "sha256", _SENTINEL):
            raise KmsError(ErrorKind.INTEGRITY, "the sentinel blob answers otherwise")
    else:
        ref = first.generate_wrapped(Purpose.KEY_SIGN, KeySpec.EC_P256, root, _SENTINEL, joint=joint)
        copy.sign(ref, Scheme.ECDSA, _DIGEST)
