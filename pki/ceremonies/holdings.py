"""What an offline token holds and has signed, as its transcripts tell it. Pure.

The first line of a transcript carries what the ceremony before it left; the `done` lines change it.
Serials and CKA_IDs are hex, times are whole seconds, hashes are SHA-256 of DER.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from kms.errors import integrity, invalid
from pki.ceremonies.transcript import Entry

# The key by which Keystead tells "the token is there" from "no such key": made before the first key of a token.
SENTINEL = b"keystead-sentinl".hex()


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate below a root."""

    name: str
    serial: str
    not_after: int
    sha256: str


class Revoked(msgspec.Struct, frozen=True, kw_only=True):
    """A serial that the root's CRLs list."""

    serial: str
    revoked_at: int
    not_after: int
    reason: str = ""


class HeldKey(msgspec.Struct, frozen=True, kw_only=True):
    """A pair in the token. `purpose` and `spec` as in kms.hsm."""

    name: str
    cka_id: str
    purpose: str
    spec: str
    spki: str  # DER, hex


class HeldRoot(msgspec.Struct, frozen=True, kw_only=True):
    """A root and all that it signed. Its key has the same name."""

    name: str
    serial: str
    not_before: int
    not_after: int
    sha256: str
    crl_number: int = 0
    crl_at: int = 0
    issued: tuple[Issued, ...] = ()
    revoked: tuple[Revoked, ...] = ()


class Holdings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything, by name."""

    keys: dict[str, HeldKey] = {}
    roots: dict[str, HeldRoot] = {}

    def root(self, name: str) -> HeldRoot:
        """Raises KmsError(INVALID): there is none."""
        if name not in self.roots:
            known = ", ".join(sorted(self.roots)) or "none"
            raise invalid(
                f"there is no root {name}; a step makes it, or `previous` brings it. Known: {known}"
            )
        return self.roots[name]

    def key(self, name: str) -> HeldKey:
        """Raises KmsError(INVALID): there is none."""
        if name not in self.keys:
            known = ", ".join(sorted(self.keys)) or "none"
            raise invalid(f"there is no key {name} in the token; known are {known}")
        return self.keys[name]

    def after(self, done: Entry) -> Holdings:
        """What is held after one `done` line.

        Raises:
            KmsError(INTEGRITY): the line does not say what a step leaves.
        """
        try:
            return _CHANGES[str(done["action"])](self, done)
        except (KeyError, msgspec.ValidationError) as error:
            raise integrity(f"line {int(done['n']) + 1} of the transcript is incomplete: {error}") from None


def replay(carried: Any, entries: Iterable[Entry]) -> Holdings:
    """The holdings after the `done` lines among `entries`, beginning with what the first line carries.

    Raises:
        KmsError(INTEGRITY): they do not say what steps leave.
    """
    try:
        held = msgspec.convert(carried, Holdings)
    except msgspec.ValidationError as error:
        raise integrity(f"the first line of the transcript is incomplete: {error}") from None
    for entry in entries:
        if entry["kind"] == "done":
            held = held.after(entry)
    return held


def _new_key(held: Holdings, done: Entry) -> Holdings:
    key = msgspec.convert(done["key"], HeldKey)
    return msgspec.structs.replace(held, keys={**held.keys, key.name: key})


def _new_root(held: Holdings, done: Entry) -> Holdings:
    root = msgspec.convert(done["root"], HeldRoot)
    return _put(_new_key(held, done), root)


def _issued(held: Holdings, done: Entry) -> Holdings:
    root = held.root(str(done["issuer"]))
    made = msgspec.convert(done["certificate"], Issued)
    return _put(held, msgspec.structs.replace(root, issued=(*root.issued, made)))


def _revoked(held: Holdings, done: Entry) -> Holdings:
    root = held.root(str(done["issuer"]))
    gone = msgspec.convert(done["revoked"], Revoked)
    return _put(held, msgspec.structs.replace(root, revoked=(*root.revoked, gone)))


def _listed(held: Holdings, done: Entry) -> Holdings:
    root = held.root(str(done["issuer"]))
    crl = done["crl"]
    return _put(
        held,
        msgspec.structs.replace(root, crl_number=int(crl["number"]), crl_at=int(crl["this_update"])),
    )


def _put(held: Holdings, root: HeldRoot) -> Holdings:
    return msgspec.structs.replace(held, roots={**held.roots, root.name: root})


_CHANGES = {
    "make-root": _new_root,
    "make-transcript-key": _new_key,
    "sign-intermediate": _issued,
    "cross-sign": _issued,
    "revoke": _revoked,
    "sign-crl": _listed,
}
