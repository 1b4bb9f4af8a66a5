"""The storage keyring: the AES-256 keys that seal every row, themselves sealed by the HSM.

Term 0 is the derivation secret (token MACs, audit HMACs, state digests); terms from 1 seal rows, the
newest one new rows. A term exists outside the HSM only in the memory of an unsealed process; at rest
it is AES-256-GCM ciphertext of `root-seal`, bound to instance, term and root version.

After a theft (kms.system.compromise) a term brings a new derivation secret behind its key, and once no row is left
under the terms before it, it ends them: it says so inside what the HSM sealed, and their rows are gone. A copy of
such a row put back opens, as long as its root does, but the newer term's word stands against it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from kms.errors import ErrorKind, KmsError, integrity
from kms.hsm import Hsm
from kms.ids import CkaId
from kms.keys.roots import Root
from kms.sensitive import ACCESS, Sensitive
from kms.tables import Reader, Row, Table, Transaction

TERM_BYTES = 32
ANEW_BYTES = 2 * TERM_BYTES  # a term's key, and a derivation secret
FIRST_TERMS = (0, 1)


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """A term sealed by one token: the first three fields of `Term`."""

    root: str
    root_version: int
    sealed: bytes


class Term(msgspec.Struct, frozen=True, kw_only=True):
    """One keyring term at rest. `sealed` is what `Hsm.seal` returned.

    Args:
        copies: the same term under the roots of other tokens.
        anew: it carries a derivation secret.
        ended: terms from 1 to below this are ended. Terms made later repeat it.
    """

    term: int
    root: str  # hex CKA_ID of the root-seal that sealed it
    root_version: int
    sealed: bytes
    created: float
    recovery: bytes = b""  # under recovery=quorum: the term sealed (HPKE) to the custodians' public key
    anew: bool = False
    ended: int = 0
    copies: tuple[Form, ...] = ()

    @property
    def forms(self) -> tuple[Form, ...]:
        """The term as each token sealed it."""
        return (Form(root=self.root, root_version=self.root_version, sealed=self.sealed), *self.copies)


TERMS = Table("keyring-term", "keyring_terms", Term, index=("root_version",), sealed=False)


@dataclass(frozen=True)
class Keyring:
    """The terms, opened.

    Args:
        keys: term -> key.
        endings: term -> what it ended (`Term.ended`), as verified in opening it.
    """

    keys: dict[int, Sensitive]
    endings: dict[int, int]

    @property
    def ended(self) -> int:
        """Terms from 1 to below this are ended; 0 when none is."""
        return max(self.endings.values(), default=0)


def _aad(instance: str, term: int, root_version: int, ended: int) -> bytes:
    parts: list[str | int] = ["keystead keyring", instance, term, root_version]
    return msgspec.json.encode([*parts, ended] if ended else parts)


def term_key(term: int) -> str:
    """Row key of a term."""
    return f"{term:08d}"


def seal_term(hsm: Hsm, root: Root, instance: str, term: int, key: Sensitive, ended: int = 0) -> bytes:
    """One term under this root, as stored in `Term.sealed`."""
    return hsm.seal(root.cka_id, key.reveal(ACCESS), _aad(instance, term, root.version, ended))


def seal_forms(
    hsm: Hsm, roots: Sequence[Root], instance: str, term: Term, key: Sensitive, kept: Sequence[Form] = ()
) -> Term:
    """`term` under each of these roots whose token answers, beside the forms that are kept.

    Raises:
        KmsError(HSM_UNAVAILABLE): none of them does.
    """
    forms: list[Form] = []
    failure: KmsError | None = None
    for root in roots:
        try:
            sealed = seal_term(hsm, root, instance, term.term, key, term.ended)
        except KmsError as error:
            if error.kind is not ErrorKind.HSM_UNAVAILABLE:
                raise
            failure = error  # it is sealed there when that token is back (kms.keys.enrolment)
        else:
            forms.append(Form(root=root.cka_id.hex(), root_version=root.version, sealed=sealed))
    if failure is not None and not forms:
        raise failure
    return with_forms(term, [*forms, *kept])


def with_forms(term: Term, forms: Sequence[Form]) -> Term:
    """`term` in these forms and no others."""
    first = forms[0]
    return msgspec.structs.replace(
        term,
        root=first.root,
        root_version=first.root_version,
        sealed=first.sealed,
        copies=tuple(forms[1:]),
    )


def open_keyring(hsm: Hsm, instance: str, reader: Reader) -> Keyring:
    """Every term, opened by the HSM.

    Raises:
        KmsError(UNINITIALIZED): there is none. KmsError(INTEGRITY): one does not open.
    """
    rows = reader.scan(TERMS)
    if not rows:
        raise KmsError(ErrorKind.UNINITIALIZED, "the server is not initialized; run 'keystead init'")
    return keyring_of({row.value.term: open_row(hsm, instance, row.value) for row in rows}, rows)


def keyring_of(keys: dict[int, Sensitive], rows: Sequence[Row[Term]]) -> Keyring:
    """Opened keys with the rows that they were opened from."""
    return Keyring(keys, {row.value.term: row.value.ended for row in rows})


def open_terms(hsm: Hsm, instance: str, reader: Reader) -> dict[int, Sensitive]:
    """The keys of `open_keyring`."""
    return open_keyring(hsm, instance, reader).keys


def open_ending(hsm: Hsm, instance: str, reader: Reader, known: int) -> int:
    """As `Keyring.ended`; the HSM is asked only when a row says more than `known`.

    Raises:
        KmsError(INTEGRITY): a row claims it that does not open.
    """
    claims = [row.value for row in reader.scan(TERMS) if row.value.ended > known]
    for term in claims:
        open_row(hsm, instance, term)
    return max((term.ended for term in claims), default=known)


def open_row(hsm: Hsm, instance: str, term: Term) -> Sensitive:
    """The key of this row, by the first token that answers; KmsError(INTEGRITY) when it is not what the HSM sealed."""
    forms = {CkaId(bytes.fromhex(form.root)): form for form in term.forms}
    failure: KmsError | None = None
    for root in hsm.order(list(forms)):
        try:
            return _open_form(hsm, instance, term, root, forms[root])
        except KmsError as error:
            if error.kind is not ErrorKind.HSM_UNAVAILABLE:
                raise
            failure = failure or error
    raise failure or integrity(f"keyring term {term.term} has no form")


def _open_form(hsm: Hsm, instance: str, term: Term, root: CkaId, form: Form) -> Sensitive:
    aad = _aad(instance, term.term, form.root_version, term.ended)
    try:
        return Sensitive(hsm.unseal(root, form.sealed, aad))
    except KmsError as error:
        if error.kind is not ErrorKind.INVALID:
            raise
        detail = f"keyring term {term.term} does not open under its root; restore the database that belongs to this token"
        raise KmsError(ErrorKind.INTEGRITY, detail) from error


def open_term(hsm: Hsm, instance: str, reader: Reader, term: int) -> Sensitive | None:
    """One term, or None when it does not exist."""
    row = reader.get(TERMS, term_key(term))
    return open_row(hsm, instance, row.value) if row is not None else None


def fresh_key(hsm: Hsm, random: Callable[[int], bytes], size: int = TERM_BYTES) -> Sensitive:
    """Fresh key material: the token's and the kernel's randomness, XORed."""
    token, kernel = hsm.random(size), random(size)
    return Sensitive(bytes(a ^ b for a, b in zip(token, kernel, strict=True)))


def new_terms(hsm: Hsm, random: Callable[[int], bytes]) -> dict[int, Sensitive]:
    """Keys for the first terms."""
    return {term: fresh_key(hsm, random) for term in FIRST_TERMS}


def reseal(
    hsm: Hsm,
    instance: str,
    reader: Reader,
    roots: Sequence[Root],
    replaced: Collection[str] = (),
    sealer: Hsm | None = None,
) -> list[tuple[Row[Term], Term]]:
    """Every term that is not yet under all of `roots`, with its new forms. Nothing is written.

    Args:
        hsm: opens, and seals unless there is a `sealer`: a token that does not serve yet.
        instance: id of the server.
        reader: of the database.
        roots: of one or several tokens.
        replaced: hex CKA_IDs of the roots of the same tokens before: forms under them go, all others stay.
        sealer: see `hsm`.
    """
    changed = []
    wanted = {root.cka_id.hex() for root in roots}
    for row in reader.scan(TERMS):
        old = row.value
        if wanted <= {form.root for form in old.forms}:
            continue
        kept = [form for form in old.forms if form.root not in replaced and form.root not in wanted]
        new = seal_forms(sealer or hsm, roots, instance, old, open_row(hsm, instance, old), kept)
        changed.append((row, new))
    return changed


def reseal_known(
    hsm: Hsm, instance: str, rows: Sequence[Row[Term]], keys: Mapping[int, Sensitive], root: Root
) -> list[tuple[Row[Term], Term]]:
    """Every term under `root` alone, from keys that custodians opened. Nothing is written."""
    return [(row, seal_forms(hsm, [root], instance, row.value, keys[row.value.term])) for row in rows]


def store_terms(tx: Transaction, terms: list[Term]) -> None:
    """Insert first terms."""
    for term in terms:
        tx.insert(TERMS, term_key(term.term), term)
