"""The storage keyring: the AES-256 keys that seal every row, themselves sealed by the HSM.

Term 0 is the derivation secret (token MACs, audit HMACs, state digests); terms from 1 seal rows, the
newest one new rows. A term exists outside the HSM only in the memory of an unsealed process; at rest
it is AES-256-GCM ciphertext of `root-seal`, bound to instance, term and root version.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from kms.errors import ErrorKind, KmsError
from kms.hsm import Hsm
from kms.ids import CkaId
from kms.keys.roots import Root
from kms.sensitive import ACCESS, Sensitive
from kms.tables import Reader, Row, Table, Transaction

TERM_BYTES = 32
FIRST_TERMS = (0, 1)


class Term(msgspec.Struct, frozen=True, kw_only=True):
    """One keyring term at rest. `sealed` is what `Hsm.seal` returned."""

    term: int
    root: str  # hex CKA_ID of the root-seal that sealed it
    root_version: int
    sealed: bytes
    created: float
    recovery: bytes = b""  # under recovery=quorum: the term sealed (HPKE) to the custodians' public key


TERMS = Table("keyring-term", "keyring_terms", Term, index=("root_version",), sealed=False)


def _aad(instance: str, term: int, root_version: int) -> bytes:
    return msgspec.json.encode(["keystead keyring", instance, term, root_version])


def term_key(term: int) -> str:
    """Row key of a term."""
    return f"{term:08d}"


def seal_term(hsm: Hsm, root: Root, instance: str, term: int, key: Sensitive) -> bytes:
    """One term under this root, as stored in `Term.sealed`."""
    return hsm.seal(root.cka_id, key.reveal(ACCESS), _aad(instance, term, root.version))


def open_terms(hsm: Hsm, instance: str, reader: Reader) -> dict[int, Sensitive]:
    """Every term, opened by the HSM.

    Raises:
        KmsError(UNINITIALIZED): there is none. KmsError(INTEGRITY): one does not open.
    """
    rows = reader.scan(TERMS)
    if not rows:
        raise KmsError(ErrorKind.UNINITIALIZED, "the server is not initialized; run 'keystead init'")
    return {row.value.term: _open(hsm, instance, row.value) for row in rows}


def _open(hsm: Hsm, instance: str, term: Term) -> Sensitive:
    aad = _aad(instance, term.term, term.root_version)
    try:
        return Sensitive(hsm.unseal(CkaId(bytes.fromhex(term.root)), term.sealed, aad))
    except KmsError as error:
        if error.kind is not ErrorKind.INVALID:
            raise
        detail = f"keyring term {term.term} does not open under its root; restore the database that belongs to this token"
        raise KmsError(ErrorKind.INTEGRITY, detail) from error


def open_term(hsm: Hsm, instance: str, reader: Reader, term: int) -> Sensitive | None:
    """One term, or None when it does not exist."""
    row = reader.get(TERMS, term_key(term))
    return _open(hsm, instance, row.value) if row is not None else None


def fresh_key(hsm: Hsm, random: Callable[[int], bytes]) -> Sensitive:
    """Fresh key material: the token's and the kernel's randomness, XORed."""
    token, kernel = hsm.random(TERM_BYTES), random(TERM_BYTES)
    return Sensitive(bytes(a ^ b for a, b in zip(token, kernel, strict=True)))


def new_terms(hsm: Hsm, random: Callable[[int], bytes]) -> dict[int, Sensitive]:
    """Keys for the first terms."""
    return {term: fresh_key(hsm, random) for term in FIRST_TERMS}


def reseal(hsm: Hsm, instance: str, reader: Reader, root: Root) -> list[tuple[Row[Term], Term]]:
    """Every term that is not yet under `root`, with its new form. Nothing is written."""
    changed = []
    for row in reader.scan(TERMS):
        old = row.value
        if old.root_version == root.version:
            continue
        sealed = seal_term(hsm, root, instance, old.term, _open(hsm, instance, old))
        new = msgspec.structs.replace(old, root=root.cka_id.hex(), root_version=root.version, sealed=sealed)
        changed.append((row, new))
    return changed


def reseal_known(
    hsm: Hsm, instance: str, rows: Sequence[Row[Term]], keys: Mapping[int, Sensitive], root: Root
) -> list[tuple[Row[Term], Term]]:
    """Every term under `root`, from keys that custodians opened. Nothing is written."""
    changed = []
    for row in rows:
        sealed = seal_term(hsm, root, instance, row.value.term, keys[row.value.term])
        new = msgspec.structs.replace(
            row.value, root=root.cka_id.hex(), root_version=root.version, sealed=sealed
        )
        changed.append((row, new))
    return changed


def store_terms(tx: Transaction, terms: list[Term]) -> None:
    """Insert first terms."""
    for term in terms:
        tx.insert(TERMS, term_key(term.term), term)
