"""Two keys under one id are believed only when a new connection sees them as well.

Seen in a chaos run: a worker stored a key while another thread of it read SoftHSM's folder anew, because
a second worker had stored something. From then on that worker saw the key twice, though there was one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kms.errors import ErrorKind, KmsError
from kms.hsm import Hsm, HsmConfig, KeySpec, Purpose, Resident, Scheme, objects
from kms.hsm.connection import Connection
from kms.hsm.failures import SeenTwiceError
from kms.ids import CkaId, new_cka_id
from tests.hsm.parts import opened


@pytest.fixture
def own(config: HsmConfig) -> Iterator[Hsm]:
    with opened(config) as private:
        yield private


@pytest.fixture
def pair(own: Hsm) -> CkaId:
    cka_id = new_cka_id()
    own.generate(Purpose.KEY_SIGN, KeySpec.ED25519, cka_id, "seen twice")
    return cka_id


def number(hsm: Hsm) -> int:
    return hsm.gate.run(lambda connection, _session: connection.number)


def see_double(monkeypatch: pytest.MonkeyPatch, hsm: Hsm, cka_id: CkaId, *, for_ever: bool) -> None:
    """The connection of now, or each one, sees this key twice."""
    now, search = number(hsm), objects.search
    current: list[int] = []
    run = hsm.gate.run

    def searched(session: Any, wanted: bytes) -> objects.Found:
        if wanted == cka_id and (for_ever or current[-1] == now):
            raise SeenTwiceError(bytes(wanted))
        return search(session, wanted)

    def noted(work: Any, **options: Any) -> Any:
        def with_number(connection: Connection, session: Any) -> Any:
            current.append(connection.number)
            return work(connection, session)

        return run(with_number, **options)

    monkeypatch.setattr(objects, "search", searched)
    monkeypatch.setattr(hsm.gate, "run", noted)


def test_key_that_one_connection_sees_twice_is_used_on_the_next(
    own: Hsm, pair: CkaId, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = number(own)
    see_double(monkeypatch, own, pair, for_ever=False)
    assert own.sign(Resident(pair, Purpose.KEY_SIGN, KeySpec.ED25519), Scheme.EDDSA, b"message")
    assert number(own) == before + 1


def test_two_keys_that_are_there_are_refused_without_reopening_again(
    own: Hsm, pair: CkaId, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = number(own)
    see_double(monkeypatch, own, pair, for_ever=True)
    for _ in range(3):
        with pytest.raises(KmsError, match="more than one") as caught:
            own.exists(pair)
        assert caught.value.kind is ErrorKind.INTEGRITY
    assert number(own) == before + 1
