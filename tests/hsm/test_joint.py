"""A wrapping root that two tokens hold: what it wraps opens in both, and nobody gets it, or what it wraps, out of either."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pkcs11.constants import Attribute, ObjectClass
from pkcs11.exceptions import PKCS11Error
from pkcs11.mechanisms import KeyType

from kms.errors import ErrorKind, KmsError
from kms.hsm import (
    Hsm,
    HsmGroup,
    KeySpec,
    Purpose,
    Wrapped,
    joint,
    lacks_for_joint,
    make_joint,
    rawops,
    templates,
    theft,
)
from kms.hsm.connection import Connection
from kms.ids import CkaId, new_cka_id
from tests.hsm.parts import further_token, private_token
from tests.hsm.test_group import opened

NAMES = ("first", "second")
BORN = {
    Purpose.KEY_ENC: KeySpec.AES_256,
    Purpose.KEY_MAC: KeySpec.HMAC,
    Purpose.KEY_SIGN: KeySpec.EC_P256,
}


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HsmGroup]:
    folder: Path = tmp_path_factory.mktemp("joint")
    first = private_token(folder)
    with opened({"first": first, "second": further_token(first, "second")}) as both:
        yield both


@pytest.fixture(scope="module")
def shared(group: HsmGroup) -> dict[Purpose, CkaId]:
    roots = {purpose: new_cka_id() for purpose in BORN}
    for purpose, cka_id in roots.items():
        make_joint(places(group), templates.WRAPPED_BY[purpose], cka_id, "shared")
    return roots


def places(group: HsmGroup) -> list[Hsm]:
    return [group.at(name) for name in NAMES]


@pytest.mark.parametrize("purpose", BORN)
@pytest.mark.parametrize("name", NAMES)
def test_every_theft_is_refused_in_each_token(
    group: HsmGroup, shared: dict[Purpose, CkaId], purpose: Purpose, name: str
) -> None:
    """T-02b with the shared root: also that it wraps nothing which the thief knows, as its own was not born there."""
    token = group.at(name)
    other = next(each for each in BORN if each is not purpose)
    root = new_cka_id()
    token.generate(templates.WRAPPED_BY[other], KeySpec.AES_256, root, "other")
    one, two = (born(token, shared, purpose, word) for word in (b"one", b"two"))
    rows = theft._attack_token(token, one, root, templates.WRAPPED_BY[other])
    rows += theft._attack_rows(token, one, two)
    assert [row.attempt for row in rows if not row.refused] == []
    assert len(rows) == len(theft.ATTEMPTS) + 8


def born(token: Hsm, shared: dict[Purpose, CkaId], purpose: Purpose, context: bytes) -> Wrapped:
    return token.generate_wrapped(purpose, BORN[purpose], shared[purpose], context, joint=True)


@pytest.mark.usefixtures("shared")
def test_nothing_of_the_agreement_stays(group: HsmGroup) -> None:
    """No session object, and of token objects the root alone."""
    before = [sessions(token) for token in places(group)]
    held = [len(token.objects("")) for token in places(group)]
    make_joint(places(group), Purpose.ROOT_WRAP_ENC, new_cka_id(), "one more")
    assert [sessions(token) for token in places(group)] == before
    assert [len(token.objects("")) for token in places(group)] == [count + 1 for count in held]


def sessions(token: Hsm) -> int:
    """How many session objects there are that are not public."""

    def count(_connection: Connection, session: Any) -> int:
        return len(list(session.get_objects({Attribute.TOKEN: False, Attribute.PRIVATE: True})))

    return token.gate.run(count)


def test_a_transport_key_does_not_come_out(group: HsmGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read, wrapped under a key of the thief's, made readable, given another use: all refused while it is there."""
    tried: list[str] = []
    agree = joint._agree

    def attacked(session: Any, private: int, point: bytes, use: Attribute) -> int:
        handle = agree(session, private, point, use)
        (key,) = (
            each
            for each in session.get_objects({Attribute.TOKEN: False, Attribute.CLASS: ObjectClass.SECRET_KEY})
            if int(each.handle) == handle
        )
        template = templates.throwaway(Attribute.WRAP, readable=False)
        own = session.generate_key(KeyType.AES, 256, capabilities=0, template=template)
        pair = next(
            iter(session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.TOKEN: False}))
        )
        attempts: dict[str, Callable[[], object]] = {
            "read": lambda: key[Attribute.VALUE],
            "wrap": lambda: rawops.wrap(session, int(own.handle), handle, kwp),
            "flip": lambda: key.__setitem__(Attribute.EXTRACTABLE, True),
            "show": lambda: key.__setitem__(Attribute.SENSITIVE, False),
            "use": lambda: key.__setitem__(Attribute.ENCRYPT, True),
            "copy": lambda: key.copy({Attribute.EXTRACTABLE: True}),
            "pair": lambda: rawops.wrap(session, int(own.handle), int(pair.handle), kwp),
            "scalar": lambda: pair[Attribute.VALUE],
        }
        for name, attempt in attempts.items():
            with pytest.raises(PKCS11Error):
                attempt()
            tried.append(name)
        own.destroy()
        return handle

    kwp: Any = group.at("first").gate.run(lambda connection, _: connection.kwp)
    monkeypatch.setattr(joint, "_agree", attacked)
    make_joint(places(group), Purpose.ROOT_WRAP_MAC, new_cka_id(), "attacked")
    assert len(tried) == 8 * 4  # two that wrap, two that unwrap


@pytest.mark.usefixtures("shared")
def test_a_recorded_parcel_is_worth_nothing_afterwards(
    group: HsmGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both points, both parcels and both PINs: the private halves are gone, and no key of the tokens opens a parcel."""
    recorded: list[bytes] = []
    give = joint._give

    def record(token: Hsm, points: Any) -> tuple[bytes, list[bytes]]:
        point, parcels = give(token, points)
        recorded.extend(parcels)
        return point, parcels

    monkeypatch.setattr(joint, "_give", record)
    make_joint(places(group), Purpose.ROOT_WRAP_ENC, new_cka_id(), "recorded")
    assert len(set(recorded)) == 2

    def open_with_all(connection: Connection, session: Any) -> int:
        kind = (ObjectClass.SECRET_KEY, KeyType.AES)
        readable = templates.throwaway(Attribute.WRAP, readable=True)
        keys = [
            each for each in session.get_objects({Attribute.UNWRAP: True}) if each.key_type is KeyType.AES
        ]
        for key in keys:
            for parcel in recorded:
                with pytest.raises(PKCS11Error):
                    rawops.unwrap(session, int(key.handle), parcel, connection.kwp, kind, readable)  # type: ignore[arg-type]
        return len(keys)

    assert all(token.gate.run(open_with_all) >= 3 for token in places(group))


def test_a_root_that_was_not_born_there_serves_no_row_that_does_not_say_so(
    group: HsmGroup, shared: dict[Purpose, CkaId]
) -> None:
    """Else a thief with the PIN could bring in a key of his own and name it in a row."""
    with pytest.raises(KmsError, match="LOCAL") as caught:
        group.at("first").generate_wrapped(
            Purpose.KEY_ENC, KeySpec.AES_256, shared[Purpose.KEY_ENC], b"context"
        )
    assert caught.value.kind is ErrorKind.INTEGRITY


def test_what_cannot_be_shared(group: HsmGroup, shared: dict[Purpose, CkaId]) -> None:
    assert [lacks_for_joint(token) for token in places(group)] == ["", ""]
    with pytest.raises(KmsError, match="are not shared by tokens"):
        make_joint(places(group), Purpose.ROOT_SEAL, new_cka_id(), "seal")
    with pytest.raises(KmsError, match="already holds"):
        make_joint(places(group), Purpose.ROOT_WRAP_ENC, shared[Purpose.KEY_ENC], "twice")


def test_what_the_token_makes_is_checked(group: HsmGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "transport", lambda use: templates.throwaway(use, readable=True))
    with pytest.raises(KmsError, match="transport key that could be read"):
        make_joint(places(group), Purpose.ROOT_WRAP_ENC, new_cka_id(), "readable")
    monkeypatch.undo()
    held = [len(token.objects("")) for token in places(group)]
    honest = templates.variants
    monkeypatch.setattr(
        templates,
        "variants",
        lambda *given, **more: [{**each, Attribute.SIGN: True} for each in honest(*given, **more)],
    )
    with pytest.raises(KmsError, match="SIGN"):
        make_joint(places(group), Purpose.ROOT_WRAP_ENC, new_cka_id(), "signs")
    monkeypatch.undo()
    monkeypatch.setattr(joint, "_PARCEL_BYTES", 41)
    with pytest.raises(KmsError, match="not the length"):
        make_joint(places(group), Purpose.ROOT_WRAP_ENC, new_cka_id(), "long")
    assert [len(token.objects("")) for token in places(group)] == held


def test_a_token_without_nested_templates_goes_without(
    group: HsmGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = rawops.unwrap
    refused = []

    def picky(*given: Any, **more: Any) -> Any:
        if Attribute.UNWRAP_TEMPLATE in given[5]:
            refused.append(True)
            raise templates.REFUSED[0]
        return honest(*given, **more)

    monkeypatch.setattr(rawops, "unwrap", picky)
    cka_id = new_cka_id()
    make_joint(places(group), Purpose.ROOT_WRAP_ENC, cka_id, "bare")
    assert len(refused) == 4
    assert all(token.exists(cka_id) for token in places(group))


def test_a_token_that_lacks_a_mechanism_names_it(group: HsmGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    token = group.at("second")

    def lose(connection: Connection, _session: Any) -> Connection:
        return connection

    connection = token.gate.run(lose)
    monkeypatch.setattr(connection, "kwp", None)
    assert lacks_for_joint(token) == "CKM_AES_KEY_WRAP_KWP (RFC 5649)"
    with pytest.raises(KmsError, match="shares no wrapping key"):
        make_joint(places(group), Purpose.ROOT_WRAP_ENC, new_cka_id(), "without")
