"""Which authorization made in advance an order may use, and that it is used up in the order's own commit."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kms.ids import new_uuid
from pki.acme.model import HOUR, Authorization, Identifier, Order, Status
from pki.acme.preauthorizing import take, whose
from pki.acme.store import AUTHORIZATIONS
from tests.pki.bench import START, Bench, Killed

NAME = Identifier("dns", "a.example.com")
HELD = Authorization(
    mount_id="",
    id="",
    account_id="account",
    order_id="",
    identifier=NAME,
    wildcard=False,
    status=Status.VALID,
    expires_at=START + HOUR,
    challenges=(),
    free_for=whose("account", NAME),
)
ORDER = Order(
    mount_id="",
    id="order",
    account_id="account",
    directory="acme/",
    role="",
    issuer_ref="",
    status=Status.PENDING,
    expires_at=START + HOUR,
    delete_after=START + HOUR,
    identifiers=(NAME,),
    authorizations=(),
    created_at=START,
)


def store(ca: Bench, **changes: Any) -> str:
    """One row with the id that is returned."""
    mount_id, id_ = ca.mount("pki").id, new_uuid()
    row = msgspec.structs.replace(HELD, mount_id=mount_id, id=id_, **changes)
    with ca.store.transaction() as tx:
        tx.insert(AUTHORIZATIONS, f"{mount_id}/{id_}", row)
    return id_


def taken(ca: Bench, wanted: Identifier = NAME, account: str = "account", later: int = 0) -> str:
    """The id of the one that an order got, "" for none."""
    order = msgspec.structs.replace(ORDER, mount_id=ca.mount("pki").id, account_id=account)
    with ca.store.transaction() as tx:
        found = take(tx, order, wanted, START + later)
    return found.id if found is not None else ""


def test_a_valid_one_is_taken_once(ca: Bench) -> None:
    id_ = store(ca)
    assert taken(ca) == id_
    row = ca.store.reader().get(AUTHORIZATIONS, f"{ca.mount('pki').id}/{id_}")
    assert row is not None
    assert (row.value.order_id, row.value.free_for, row.value.status) == ("order", "", Status.VALID)
    assert taken(ca) == ""


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        ({"status": Status.PENDING}, {}),
        ({"status": Status.INVALID}, {}),
        ({"status": Status.DEACTIVATED}, {}),
        ({"free_for": ""}, {}),
        ({}, {"later": 1}),  # it ends before an order could be finished
        ({}, {"later": 2 * HOUR}),
        ({}, {"account": "other"}),
        ({}, {"wanted": Identifier("dns", "b.example.com")}),
        ({}, {"wanted": Identifier("dns", "*.a.example.com")}),
        ({}, {"wanted": Identifier("ip", "a.example.com")}),
    ],
)
def test_others_are_not(ca: Bench, changes: dict[str, Any], asked: dict[str, Any]) -> None:
    id_ = store(ca, **changes)
    assert taken(ca, **asked) == ""
    row = ca.store.reader().get(AUTHORIZATIONS, f"{ca.mount('pki').id}/{id_}")
    assert row is not None
    assert row.value.order_id == ""


def test_one_that_is_over_does_not_hide_a_new_one(ca: Bench) -> None:
    store(ca, expires_at=START - 1)
    assert taken(ca) == ""
    id_ = store(ca)
    assert taken(ca) == id_


def test_a_request_killed_before_its_commit_uses_nothing_up(ca: Bench) -> None:
    id_ = store(ca)
    order = msgspec.structs.replace(ORDER, mount_id=ca.mount("pki").id)
    with pytest.raises(Killed), ca.store.transaction() as tx:
        assert take(tx, order, NAME, START) is not None
        raise Killed
    assert taken(ca) == id_
