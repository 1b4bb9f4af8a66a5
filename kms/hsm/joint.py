"""One wrapping root in several tokens that share nothing: so a key that is wrapped under it opens in each of them.

    (1) seat   each token makes a pair for ECDH (P-521), as session objects that are sensitive and not extractable
    (2) give   one token makes the root and a pair of its own, agrees with each seat on a transport key, and wraps the
               root for each under that; the root's session object is destroyed, so this token takes a parcel too
    (3) take   each token agrees on the same transport key, unwraps its parcel into a token object that is sensitive, not
               extractable, and wraps and unwraps with the nested templates of every root; the seat is destroyed

Between the tokens go points, and parcels of AES-KWP: this process sees no key, and keeps neither. Pairs are new each time and
end with it, so who gets the PINs later opens no parcel that he recorded. Who is in this process at that moment could have
put a pair of his own between, as he could make a root of his own at any birth: SECURITY.md says what that means.

A root that was taken in is not LOCAL and not NEVER_EXTRACTABLE, and cannot be made so: `Wrapped.joint` says that it is one of
these, and it must show everything else. What it wraps is still born in a token (CKA_WRAP_TEMPLATE).

A transport key is the last 32 bytes of the x coordinate (CKD_NULL and CKA_VALUE_LEN, PKCS #11 2.3.7): of 521 bits, so that what
is left over makes them uniform without a hash, which SoftHSM does not offer here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key
from pkcs11.constants import Attribute, ObjectClass
from pkcs11.mechanisms import KDF, KeyType, Mechanism

from kms.errors import ErrorKind, KmsError, integrity, invalid
from kms.hsm import objects, rawops, templates
from kms.hsm.connection import Connection
from kms.hsm.failures import ckm, lacking
from kms.hsm.hsm import Hsm
from kms.hsm.mechanisms import SPECS
from kms.hsm.model import KeySpec, Purpose
from kms.hsm.module import unavailable
from kms.hsm.public import point_of, spki_of
from kms.hsm.turns import turn
from kms.ids import CkaId

SEAT: Final = KeySpec.EC_P521
SPEC: Final = KeySpec.AES_256
_PARCEL_BYTES: Final = 40  # AES-KWP of 32 bytes


@dataclass(frozen=True)
class _Seat:
    """A token's half of the agreement. The handle is good for one connection."""

    number: int
    handle: int
    point: bytes


def make_joint(tokens: Sequence[Hsm], purpose: Purpose, cka_id: CkaId, label: str) -> None:
    """Make a wrapping root, and put it into each of these tokens under the same CKA_ID; durable when it returns.

    Never repeated: after a failure some tokens may hold it, and the caller destroys it in each.

    Raises:
        KmsError(INVALID): a token lacks a mechanism, which is named. KmsError(HSM_UNAVAILABLE): one does not answer.
        KmsError(INTEGRITY): the id is taken.
    """
    if purpose not in templates.WRAPS:
        raise invalid(f"keys for {purpose} are not shared by tokens")
    with ExitStack() as stack:
        seats = [stack.enter_context(_seated(token)) for token in tokens]
        point, parcels = _give(tokens[0], [seat.point for seat in seats])
        for token, seat, parcel in zip(tokens, seats, parcels, strict=True):
            _take(token, seat, point, parcel, (purpose, cka_id, label))


def lacks_for_joint(token: Hsm) -> str:
    """The mechanism for want of which this token cannot hold a wrapping root together with another; "" if it can."""

    def work(connection: Connection, _session: Any) -> str:
        if connection.kwp is None:
            return "CKM_AES_KEY_WRAP_KWP (RFC 5649)"
        missing = {Mechanism.ECDH1_DERIVE, SPECS[SEAT].generate} - connection.mechanisms
        return ", ".join(sorted(ckm(mechanism) for mechanism in missing))

    return token.gate.run(work, repeat=True)


@contextmanager
def _seated(token: Hsm) -> Iterator[_Seat]:
    def sit(connection: Connection, session: Any) -> _Seat:
        _mechanism(connection)
        connection.ensure_sentinel(session)
        return _Seat(connection.number, *_pair(session))

    def leave(connection: Connection, session: Any) -> None:
        if seat.number == connection.number:
            connection.destroy_idle(session, [seat.handle])

    seat = token.gate.run(sit, needs=Mechanism.ECDH1_DERIVE, slow=True)
    try:
        yield seat
    finally:
        try:
            token.gate.run(leave)
        except KmsError as error:
            if error.kind is not ErrorKind.HSM_UNAVAILABLE:
                raise
            # It is a session object: with the connection it has gone too.


def _pair(session: Any) -> tuple[int, bytes]:
    """Handle of the private half, and the public point; a session object that can only derive."""
    private, public = objects.make_passing(session, Purpose.KEY_AGREE, SEAT)
    try:
        spki = spki_of(public, SEAT)
    finally:
        public.destroy()
    key = load_der_public_key(spki)
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise integrity("the HSM made a pair of another type")
    return int(private.handle), point_of(key)


def _give(token: Hsm, points: Sequence[bytes]) -> tuple[bytes, list[bytes]]:
    def work(connection: Connection, session: Any) -> tuple[bytes, list[bytes]]:
        kwp = _mechanism(connection)
        made: list[int] = []
        try:
            root = session.generate_key(
                KeyType.AES,
                256,
                capabilities=0,
                mechanism=SPECS[SPEC].generate,
                template=templates.fitting(session, templates.throwaway(readable=False)),
            )
            made.append(int(root.handle))
            mine, point = _pair(session)
            made.append(mine)
            parcels = []
            for other in points:
                transport = _agree(session, mine, other, Attribute.WRAP)
                made.append(transport)
                parcels.append(rawops.wrap(session, transport, root.handle, kwp))
            return point, parcels
        finally:
            connection.destroy_idle(session, made)

    return token.gate.run(work, needs=Mechanism.ECDH1_DERIVE, slow=True)


def _take(token: Hsm, seat: _Seat, point: bytes, parcel: bytes, what: tuple[Purpose, CkaId, str]) -> None:
    purpose, cka_id, _ = what
    if len(parcel) != _PARCEL_BYTES:
        raise integrity("a parcel between two HSM tokens has not the length of a root")

    def work(connection: Connection, session: Any) -> None:
        if seat.number != connection.number:
            raise unavailable(
                "the HSM was opened anew meanwhile, so its half of the agreement is gone; try again"
            )
        kwp = _mechanism(connection)
        with turn(session):
            present = objects.search(session, cka_id)
            if present.secrets or present.publics:
                raise integrity(f"the HSM already holds a key with CKA_ID {cka_id.hex()}")
            transport = _agree(session, seat.handle, point, Attribute.UNWRAP)
            try:
                key = _unwrap(session, transport, parcel, kwp, what)
            finally:
                connection.destroy_idle(session, [transport])
        accepted = False
        try:
            objects.assert_template(key, purpose, SPEC, token=True, extractable=False, imported=True)
            accepted = True
        finally:
            if not accepted:
                with turn(session):
                    key.destroy()
        connection.forget(cka_id)

    token.gate.run(work)
    token.gate.files.sync()


def _unwrap(
    session: Any, transport: int, parcel: bytes, kwp: Mechanism, what: tuple[Purpose, CkaId, str]
) -> Any:
    purpose, cka_id, label = what
    kind = (ObjectClass.SECRET_KEY, KeyType.AES)
    *full, last = templates.variants(purpose, SPEC, token=True, extractable=False)

    def attempt(template: templates.Template) -> Any:
        fitting = templates.fitting(session, template)
        return rawops.unwrap(
            session, transport, parcel, kwp, kind, fitting, id=cka_id, label=label, store=True
        )

    for template in full:
        try:
            return attempt(template)
        except templates.REFUSED:
            continue  # nothing was made; the theft test says what the token does not enforce
    return attempt(last)


def _agree(session: Any, private: int, point: bytes, use: Attribute) -> int:
    """A transport key that does this one thing, and never comes out."""
    key = rawops.Handle(session, private).derive_key(
        KeyType.AES,
        256,
        mechanism=Mechanism.ECDH1_DERIVE,
        mechanism_param=(KDF.NULL, None, point),
        capabilities=0,
        template=templates.fitting(session, templates.transport(use)),
    )
    seen = key.get_attributes([Attribute.SENSITIVE, Attribute.EXTRACTABLE])
    if seen != {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False}:
        key.destroy()
        raise integrity("the HSM derived a transport key that could be read")
    return int(key.handle)


def _mechanism(connection: Connection) -> Mechanism:
    if connection.kwp is None:
        raise lacking("CKM_AES_KEY_WRAP_KWP (RFC 5649), so it shares no wrapping key")
    return connection.kwp


__all__ = ["lacks_for_joint", "make_joint"]
