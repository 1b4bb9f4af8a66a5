"""The life of a lease: granted, found, renewed, taken back once."""

from __future__ import annotations

import pytest

from kms.errors import KmsError
from kms.leases.model import MAX_ATTEMPTS
from kms.leases.store import BARRIERS, LEASES
from kms.operation import ROOT_NAMESPACE
from tests.leases.conftest import Rig

APP = 'path "*" { capabilities = ["read"] }'


def token(rig: Rig, ttl: str) -> str:
    rig.server.policy("app", APP)
    return rig.server.token(policies=["app"], ttl=ttl)


def test_a_lease_ends_at_its_time_once(rig: Rig) -> None:
    owner = token(rig, ttl="2h")
    first, second = rig.issue(owner, "u1", ttl=60), rig.issue(owner, "u2", ttl=120)
    assert not rig.desk.due()
    rig.clock.time += 60
    assert rig.desk.live(first) is None
    assert rig.desk.live(second) is not None
    rig.run()
    rig.run()
    assert rig.engine.taken == ["u1"]
    assert {"count": 1, "failed": 0, "revoked": "u1"} in rig.records
    assert rig.server.first.store.reader().get(LEASES, first) is None


def test_a_lease_dies_with_its_token_and_with_the_tokens_ancestors(rig: Rig) -> None:
    parent = token(rig, ttl="2h")
    rig.server.policy("app", APP + '\npath "auth/token/create" { capabilities = ["update"] }')
    child = rig.server.token(parent, policies=["app"])
    held, other = rig.issue(child, "of the child"), rig.issue(rig.server.root, "of root")
    rig.server.call("POST", "auth/token/revoke", {"token": parent})
    assert rig.desk.live(held) is None, "before anything was cleaned up"
    rig.run()
    assert rig.engine.taken == ["of the child"]
    assert rig.desk.live(other) is not None


def test_many_leases_of_one_token_are_given_up_in_portions(rig: Rig) -> None:
    owner = token(rig, ttl="2h")
    for number in range(450):
        rig.issue(owner, f"u{number}")
    rig.server.call("POST", "auth/token/revoke", {"token": owner})
    assert not rig.server.works(owner)
    rig.run()
    assert sorted(rig.engine.taken) == sorted(f"u{number}" for number in range(450))
    assert rig.server.first.store.reader().count(LEASES, {}) == 0


def test_renewal_goes_to_the_maximum_and_no_further(rig: Rig) -> None:
    lease = rig.issue(token(rig, ttl="200h"), "u", ttl=100, max_ttl=250)
    rig.clock.time += 50
    rig.write(lambda tx: rig.desk.renew(tx, lease, 0))
    row = rig.desk.live(lease)
    assert row is not None
    assert rig.desk.shown(row, ROOT_NAMESPACE)["ttl"] == 100
    rig.clock.time += 90
    rig.write(lambda tx: rig.desk.renew(tx, lease, 500))
    row = rig.desk.live(lease)
    assert row is not None
    assert row.value.ttl == 110
    rig.clock.time += 110
    with pytest.raises(KmsError, match="lease not found"):
        rig.write(lambda tx: rig.desk.renew(tx, lease, 10))


def test_the_lease_of_a_token_is_not_renewed_here(rig: Rig) -> None:
    token(rig, ttl="1h")
    (name,) = rig.names("auth/token/create/")
    with pytest.raises(KmsError, match="cannot be renewed through this endpoint"):
        rig.write(lambda tx: rig.desk.renew(tx, f"auth/token/create/{name}", 10))


def test_what_cannot_be_taken_back_waits_for_an_operator_and_is_let_go_by_force(rig: Rig) -> None:
    lease = rig.issue(token(rig, ttl="700h"), "u", ttl=60)
    rig.engine.broken = True
    for _ in range(MAX_ATTEMPTS):
        rig.clock.time += 3600
        rig.run()
    (row,) = rig.desk.irrevocable()
    assert (row.key, row.value.error) == (lease, "the database is away")
    assert not rig.desk.due()
    with pytest.raises(KmsError, match="away"):
        rig.write(lambda tx: rig.desk.revoke(tx, lease))
    rig.write(lambda tx: rig.desk.revoke_prefix(tx, "db/", force=True))
    assert rig.desk.irrevocable() == []
    rig.run()
    assert rig.engine.taken == []


def test_names_are_listed_folder_by_folder(rig: Rig) -> None:
    owner = token(rig, ttl="1h")
    leases = [rig.issue(owner, "u", f"db/creds/{role}") for role in ("a", "a", "b", "b-c", "b.d")]
    assert rig.names("") == ["auth/", "db/"]
    assert sorted(rig.names("db/creds/")) == ["a/", "b-c/", "b.d/", "b/"]
    assert sorted(rig.names("db/creds/a/")) == sorted(lease.split("/")[-1] for lease in leases[:2])
    assert rig.names("db/creds/none/") == []


def test_a_revoked_prefix_ends_what_was_issued_before_and_nothing_after(rig: Rig) -> None:
    owner = token(rig, ttl="1h")
    old, beside = rig.issue(owner, "old"), rig.issue(owner, "beside", "db/creds-2/app")
    rig.write(lambda tx: rig.desk.revoke_prefix(tx, "db/creds/"))
    # The clock stands still, so what is new has the very same time.
    new = rig.issue(owner, "new")
    assert rig.engine.taken == ["old"]
    assert [rig.desk.live(lease) is not None for lease in (old, beside, new)] == [False, True, True]
    rig.run()
    assert rig.engine.taken == ["old"]
    assert rig.desk.live(new) is not None


def test_a_prefix_of_more_than_one_commit_is_out_of_force_at_once(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kms.leases.desk.AT_ONCE", 3)
    owner = token(rig, ttl="1h")
    leases = [rig.issue(owner, f"u{number}") for number in range(250)]
    rig.write(lambda tx: rig.desk.revoke_prefix(tx, "db/"))
    assert len(rig.engine.taken) == 3
    assert not any(rig.desk.live(lease) for lease in leases)
    assert rig.names("") == ["auth/"]
    rig.run()
    assert sorted(rig.engine.taken) == sorted(f"u{number}" for number in range(250))


def test_tokens_below_a_revoked_prefix_are_refused_by_every_process(rig: Rig) -> None:
    second = rig.server.process()
    before = token(rig, ttl="1h")
    child = rig.server.token(rig.server.root, ttl="1h")
    assert rig.server.works(before, second)
    rig.write(lambda tx: rig.desk.revoke_prefix(tx, "auth/token/create/"))
    after = token(rig, ttl="1h")
    works = [rig.server.works(one, second) for one in (before, child, after, rig.server.root)]
    assert works == [False, False, True, True]
    rig.run()
    assert [rig.server.works(one) for one in (before, child, after, rig.server.root)] == works
    names = rig.names("auth/token/create/")
    assert len(names) == 1


def test_a_barrier_goes_when_no_token_can_be_older(rig: Rig) -> None:
    rig.write(lambda tx: rig.desk.revoke_prefix(tx, "db/"))
    rig.run()
    rig.write(rig.desk.forget)
    assert len(rig.server.first.store.reader().scan(BARRIERS)) == 1
    rig.clock.time += 768 * 3600 + 3601
    rig.write(rig.desk.forget)
    assert rig.server.first.store.reader().scan(BARRIERS) == []
