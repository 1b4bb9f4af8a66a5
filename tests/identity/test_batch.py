"""Batch tokens: accepted by every process without a row, and over when parent, prefix, entity or time is."""

from __future__ import annotations

from typing import Any

import pytest

from kms.identity.batch import MAX_BATCH, PREFIX
from kms.identity.store import ACCESSORS, TOKENS
from kms.leases.store import LEASES
from kms.tables import Table
from tests.identity.wire import FakeClock, Server

APP = 'path "auth/token/create" { capabilities = ["update"] }'


def batch(server: Server, parent: str | None = None, **fields: Any) -> str:
    return server.token(parent, **{"type": "batch", "policies": ["app"], "ttl": "1h", **fields})


def rows(server: Server) -> list[int]:
    tables: tuple[Table[Any], ...] = (TOKENS, ACCESSORS, LEASES)
    return [server.first.store.reader().count(table, {}) for table in tables]


@pytest.fixture
def app(server: Server) -> Server:
    server.policy("app", APP)
    return server


def test_nothing_is_stored_and_every_process_accepts_it(app: Server) -> None:
    before = rows(app)
    token = batch(app)
    assert token.startswith(PREFIX)
    assert rows(app) == before
    for process in (app.first, app.process(), app.process()):
        assert app.works(token, process)


def test_it_ends_at_its_time(app: Server, clock: FakeClock) -> None:
    token = batch(app)
    clock.time += 3599
    assert app.works(token)
    clock.time += 1
    assert not app.works(token)


def test_it_dies_with_its_parent_unless_it_is_an_orphan(app: Server) -> None:
    parent = app.token(policies=["app"], ttl="2h")
    child = batch(app, parent)
    orphan = batch(app, no_parent=True)
    second = app.process()
    assert app.works(child, second)
    assert app.call("POST", "auth/token/revoke", {"token": parent})[0] == 204
    assert [app.works(one, second) for one in (child, orphan)] == [False, True]


def test_a_revoked_prefix_takes_it_along(app: Server) -> None:
    token = batch(app, no_parent=True)
    barriers = app.first.tokens.book.barriers
    with app.first.store.transaction() as tx:
        barriers.set(tx, "auth/token/", app.clock.now())
    assert not app.works(token, app.process())
    assert app.works(batch(app, no_parent=True))


def test_it_is_refused_from_elsewhere(app: Server) -> None:
    role = {"token_type": "default-batch", "token_bound_cidrs": "10.0.0.0/8", "allowed_policies": "app"}
    assert app.call("POST", "auth/token/roles/far", role)[0] == 204
    status, answer = app.call("POST", "auth/token/create/far", {})
    assert (status, answer["auth"]["token_type"]) == (200, "batch")
    assert not app.works(answer["auth"]["client_token"])


def test_no_other_string_is_one(app: Server) -> None:
    token = batch(app)
    body = token.removeprefix(PREFIX)
    flipped = [body[:at] + ("A" if body[at] != "A" else "B") + body[at + 1 :] for at in range(len(body))]
    others = [
        *flipped,
        body[:-1],
        body + "A",
        body + "=",
        body + "==",
        body + "\n",
        " " + body,
        body.replace("-", "+").replace("_", "/") + "=" * (-len(body) % 4),
        "",
        "A",
        "AQ",
        "\u0410" + body[1:],
        "A" * MAX_BATCH * 2,
    ]
    assert app.works(token)
    assert [other for other in others if other != body and app.works(PREFIX + other)] == []


def test_another_instance_does_not_know_it(app: Server, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = Server(tmp_path_factory.mktemp("other"), app.clock)
    try:
        other.policy("app", APP)
        assert not other.works(batch(app, no_parent=True))
    finally:
        other.close()


def test_a_child_and_an_accessor_are_not_to_be_had(app: Server) -> None:
    token = batch(app)
    assert app.call("POST", "auth/token/create", {}, token)[1]["errors"] == [
        "batch tokens cannot create more tokens"
    ]
    assert app.call("POST", "auth/token/lookup", {"token": token})[1]["data"]["accessor"] == ""
    assert app.call("POST", "auth/token/lookup-accessor", {"accessor": ""})[0] == 400


def test_two_of_the_same_are_different_strings(app: Server) -> None:
    assert len({batch(app) for _ in range(20)}) == 20
