"""The theft test (T-02b): with PIN, blobs and database in hand, try to get a key out.

It makes wrapping keys and wrapped keys of its own with the real templates, attacks those, and removes them, so it
may run on a token in production. Its last word goes into doctor's table and into reports:

- `enforced by token`: the token itself refused every attempt;
- `enforced by Keystead only`: at least one attempt worked; only our code stands between PIN and keys;
- `simulated: its files and PIN are the keys`: a software token refused, but whoever reads its files and PIN needs
  no PKCS#11.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from pkcs11 import exceptions as p11
from pkcs11 import types
from pkcs11.constants import DEFAULT, Attribute, ObjectClass
from pkcs11.mechanisms import KeyType, Mechanism

from kms.errors import ErrorKind, KmsError
from kms.hsm import objects, rawops, templates
from kms.hsm.connection import Connection
from kms.hsm.failures import LOST, name_of
from kms.hsm.hsm import Hsm
from kms.hsm.mechanisms import SPECS
from kms.hsm.model import KeySpec, Purpose, Resident, TokenInfo, Wrapped
from kms.hsm.wrapped import usable
from kms.ids import CkaId, new_cka_id

BY_TOKEN: Final = "enforced by token"  # noqa: S105  # a finding, no password
BY_KEYSTEAD: Final = "enforced by Keystead only"
SIMULATED: Final = "simulated: its files and PIN are the keys"
LABEL: Final = "keystead theft test"
_SOFTWARE: Final = ("softhsm", "mozilla", "nss", "kryoptic")
_TRIED: Final = {
    Purpose.KEY_ENC: KeySpec.AES_256,
    Purpose.KEY_MAC: KeySpec.HMAC,
    Purpose.KEY_SIGN: KeySpec.EC_P256,
}


@dataclass(frozen=True)
class Attempt:
    """One way to steal, and how it ended."""

    attempt: str
    refused: bool
    how: str
    by_token: bool  # False: it is Keystead that has to refuse


@dataclass(frozen=True)
class Booty:
    """What the thief has: a session that is logged in, and what lies in the token and in the database."""

    connection: Connection
    session: Any
    root: Any  # the wrapping key
    loaded: Any  # a wrapped key as Keystead loads it
    other_root: Any  # the wrapping key of another purpose
    ref: Wrapped

    def unwrap(self, root: Any, changes: Mapping[Attribute, Any], kind: tuple[ObjectClass, KeyType]) -> Any:
        """Unwrap the blob with a template of the thief's choice."""
        template = templates.secret_half(self.ref.purpose, self.ref.spec, token=False, extractable=False)
        return root.unwrap_key(
            *kind,
            self.ref.blob,
            mechanism=self.connection.kwp,
            capabilities=0,
            template={**template, **changes},
        )

    @property
    def kind(self) -> tuple[ObjectClass, KeyType]:
        """What the blob really is."""
        return SPECS[self.ref.spec].object_class, SPECS[self.ref.spec].key_type


def _give_away(key: Any) -> str:
    """What an unwrapped key lets out; empty if nothing."""
    seen = key.get_attributes([Attribute.SENSITIVE, Attribute.EXTRACTABLE])
    if seen.get(Attribute.SENSITIVE) is True and seen.get(Attribute.EXTRACTABLE) is False:
        return ""
    return "the token gave a readable key"


def _readable(booty: Booty) -> str:
    changes = {Attribute.SENSITIVE: False, Attribute.EXTRACTABLE: True}
    return _give_away(booty.unwrap(booty.root, changes, booty.kind))


def _extractable(booty: Booty) -> str:
    return _give_away(booty.unwrap(booty.root, {Attribute.EXTRACTABLE: True}, booty.kind))


def _stored(booty: Booty) -> str:
    key = booty.unwrap(booty.root, {Attribute.TOKEN: True}, booty.kind)
    stored = key[Attribute.TOKEN]
    key.destroy()
    return "the blob became a token object" if stored else ""


def _other_use(booty: Booty) -> str:
    use = Attribute.UNWRAP if booty.ref.spec.is_pair else Attribute.WRAP
    key = booty.unwrap(booty.root, {use: True}, booty.kind)
    return f"the key got {use.name}" if key[use] else ""


def _bare(booty: Booty) -> str:
    dropped = dict.fromkeys(templates.ALL_USES, DEFAULT) | {Attribute.TOKEN: DEFAULT}
    key = booty.root.unwrap_key(
        *booty.kind, booty.ref.blob, mechanism=booty.connection.kwp, capabilities=0, template=dropped
    )
    wrong = templates.unwrap_attributes(booty.ref.purpose)
    seen = key.get_attributes(list(wrong))
    missing = [name.name for name, value in wrong.items() if seen.get(name) != value]
    return f"the root's template was not applied: {', '.join(missing)}" if missing else ""


def _other_type_only(booty: Booty) -> str:
    wanted = KeyType.AES if booty.ref.spec is KeySpec.HMAC else KeyType.GENERIC_SECRET
    booty.unwrap(booty.root, {}, (ObjectClass.SECRET_KEY, wanted))
    return f"the blob came back as {wanted.name}"


def _other_type(booty: Booty) -> str:
    wanted = KeyType.AES if booty.ref.spec is KeySpec.HMAC else KeyType.GENERIC_SECRET
    changes = {use: use in (Attribute.SIGN, Attribute.VERIFY) for use in templates.ALL_USES}
    booty.unwrap(booty.root, changes, (ObjectClass.SECRET_KEY, wanted))
    return f"the blob came back as {wanted.name}"


def _other_root(booty: Booty) -> str:
    booty.unwrap(booty.other_root, {}, booty.kind)
    return "another root opened the blob"


def _decrypt_blob(booty: Booty) -> str:
    handle = rawops.Handle(booty.session, booty.root.handle)
    handle.decrypt(booty.ref.blob, mechanism=Mechanism.AES_ECB)
    return "the wrapping key decrypts"


def _flip_root(booty: Booty) -> str:
    booty.root[Attribute.DECRYPT] = True
    return "the wrapping key may now decrypt"


def _flip_root_extractable(booty: Booty) -> str:
    booty.root[Attribute.EXTRACTABLE] = True
    return "the wrapping key is extractable"


def _flip_loaded(booty: Booty) -> str:
    booty.loaded[Attribute.EXTRACTABLE] = True
    return "the key is extractable"


def _flip_loaded_sensitive(booty: Booty) -> str:
    booty.loaded[Attribute.SENSITIVE] = False
    return "the key is readable"


def _copy_root(booty: Booty) -> str:
    copy = booty.root.copy({Attribute.TOKEN: False, Attribute.DECRYPT: True})
    copy.destroy()
    return "a copy of the wrapping key decrypts"


def _copy_loaded(booty: Booty) -> str:
    booty.loaded.copy({Attribute.EXTRACTABLE: True})
    return "a copy of the key is extractable"


def _own_wrapping(booty: Booty, victim: Any) -> str:
    template = templates.throwaway(Attribute.WRAP, Attribute.UNWRAP, readable=False)
    own = booty.session.generate_key(
        KeyType.AES, 256, capabilities=0, mechanism=Mechanism.AES_KEY_GEN, template=template
    )
    try:
        own.wrap_key(victim, mechanism=booty.connection.kwp)
    finally:
        own.destroy()
    return "the key came out under the thief's wrapping key"


def _own_wraps_loaded(booty: Booty) -> str:
    return _own_wrapping(booty, booty.loaded)


def _own_wraps_root(booty: Booty) -> str:
    return _own_wrapping(booty, booty.root)


def _root_wraps_loaded(booty: Booty) -> str:
    booty.root.wrap_key(booty.loaded, mechanism=booty.connection.kwp)
    return "a loaded key was wrapped again"


def _wrap_known(booty: Booty) -> str:
    """Plant a key: with it in a row, everything encrypted from then on is the thief's."""
    known, public = objects.make_readable(booty.session, booty.ref.purpose, booty.ref.spec)
    try:
        booty.root.wrap_key(known, mechanism=booty.connection.kwp)
    finally:
        known.destroy()
        if public is not None:
            public.destroy()
    return "the root wraps keys that the thief knows"


def _read_value(booty: Booty) -> str:
    return "the value was read" if booty.loaded[Attribute.VALUE] else ""


ATTEMPTS: Final[dict[str, Callable[[Booty], str]]] = {
    "unwrap the blob as a readable key": _readable,
    "unwrap the blob as an extractable key": _extractable,
    "unwrap the blob into a token object": _stored,
    "unwrap the blob for another use": _other_use,
    "unwrap the blob without saying what it is": _bare,
    "unwrap the blob as another type": _other_type_only,
    "unwrap the blob as another type with its uses": _other_type,
    "unwrap the blob with the root of another purpose": _other_root,
    "decrypt the blob with the wrapping key": _decrypt_blob,
    "let the wrapping key decrypt (flag flip)": _flip_root,
    "make the wrapping key extractable (flag flip)": _flip_root_extractable,
    "make the loaded key extractable (flag flip)": _flip_loaded,
    "make the loaded key readable (flag flip)": _flip_loaded_sensitive,
    "copy the wrapping key with more rights": _copy_root,
    "copy the loaded key with more rights": _copy_loaded,
    "wrap the loaded key with an own wrapping key": _own_wraps_loaded,
    "wrap the wrapping key with an own wrapping key": _own_wraps_root,
    "wrap the loaded key again": _root_wraps_loaded,
    "wrap a key whose value is known": _wrap_known,
    "read the value of the loaded key": _read_value,
}


def _try(name: str, attempt: Callable[[Booty], str], booty: Booty) -> Attempt:
    try:
        given = attempt(booty)
    except LOST:
        raise
    except p11.PKCS11Error as error:
        return Attempt(name, refused=True, how=name_of(error), by_token=True)
    how = given or "ignored: the token applied its own template"
    return Attempt(name, refused=not given, how=how, by_token=True)


def _attack_token(hsm: Hsm, ref: Wrapped, other: CkaId, other_purpose: Purpose) -> list[Attempt]:
    def work(connection: Connection, session: Any) -> list[Attempt]:
        def find(cka_id: CkaId) -> Any:
            return next(
                key for key in session.get_objects({Attribute.ID: cka_id}) if isinstance(key, types.SecretKey)
            )

        connection.resident(session, Resident(other, other_purpose, KeySpec.AES_256))
        booty = Booty(connection, session, find(ref.wrapping), None, find(other), ref)
        # The thief loads the blob as Keystead does: with its attributes, under its root.
        booty = replace(booty, loaded=booty.unwrap(booty.root, {}, booty.kind))
        return [_try(f"{ref.purpose}: {name}", attempt, booty) for name, attempt in ATTEMPTS.items()]

    return hsm.gate.run(work)


def _attack_rows(hsm: Hsm, one: Wrapped, two: Wrapped) -> list[Attempt]:
    """Edits of the database: whatever is put under another row must not load."""
    edits = {
        "blob of another key": replace(one, blob=two.blob),
        "probe of another key": replace(one, probe=two.probe),
        "blob and probe of another key": replace(one, blob=two.blob, probe=two.probe),
        "blob, probe and public key of another key": replace(
            one, blob=two.blob, probe=two.probe, public=two.public
        ),
        "another context": replace(one, context=one.context + b"!"),
        "a changed blob": replace(one, blob=one.blob[:-1] + bytes([one.blob[-1] ^ 1])),
        "a changed probe": replace(one, probe=one.probe[:-1] + bytes([one.probe[-1] ^ 1])),
        "an empty probe": replace(one, probe=b""),
    }
    rows = []
    for name, edited in edits.items():
        try:
            hsm.gate.run(partial(_load, edited))
            refused, how = False, "it was loaded"
        except KmsError as error:
            if error.kind is ErrorKind.HSM_UNAVAILABLE:
                raise
            refused, how = error.kind is ErrorKind.INTEGRITY, f"KmsError {error.kind}"
        rows.append(Attempt(f"{one.purpose}: a row with {name}", refused, how, by_token=False))
    return rows


def _load(ref: Wrapped, connection: Connection, session: Any) -> None:
    with usable(connection, session, ref):
        pass


def steal(hsm: Hsm) -> list[Attempt]:
    """Commit every theft; the token is left as it was.

    Raises:
        KmsError(HSM_UNAVAILABLE): the token was lost meanwhile.
    """
    for leftover, _ in hsm.objects(LABEL):
        hsm.destroy(leftover)
    roots: dict[Purpose, CkaId] = {}
    try:
        for purpose in templates.WRAPS:
            roots[purpose] = new_cka_id()
            hsm.generate(purpose, KeySpec.AES_256, roots[purpose], LABEL)
        rows = []
        for purpose, spec in _TRIED.items():
            if not hsm.can_wrap(spec):
                continue
            root = templates.WRAPPED_BY[purpose]
            other = next(each for each in roots if each is not root)
            one = hsm.generate_wrapped(purpose, spec, roots[root], b"row one")
            two = hsm.generate_wrapped(purpose, spec, roots[root], b"row two")
            rows += _attack_token(hsm, one, roots[other], other)
            rows += _attack_rows(hsm, one, two)
        return rows
    finally:
        for cka_id in roots.values():
            hsm.destroy(cka_id)


def verdict(rows: list[Attempt], info: TokenInfo) -> str:
    """The one word about who keeps the keys."""
    if not all(row.refused for row in rows if row.by_token):
        return BY_KEYSTEAD
    name = f"{info.manufacturer} {info.model}".lower()
    return SIMULATED if any(word in name for word in _SOFTWARE) else BY_TOKEN
