"""Dual control, over a real server: what waits, who may consent, and that it happens once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest

from tests.harness.api import Answer, Api
from tests.harness.log import entries
from tests.harness.processes import wait_for
from tests.harness.site import Site

PEOPLE = ("ann", "bob", "joe")
SETTINGS = """
[approvals]
approvals = 2
operations = ["destroy", "export", "rotate-root"]
paths = ["transit/keys/+/config", "transit/keys/+/rotate"]
policies = ["custodian"]
max_ttl = "2h"

[tags]
environment = "test"
"""
CUSTODIAN = """
path "sys/control-group/*" { capabilities = ["update", "list"] }
path "transit/*" { capabilities = ["create", "read", "update", "delete", "list"] }
path "sys/wrapping/*" { capabilities = ["update"] }
path "auth/token/create" { capabilities = ["update"] }
"""
GUARDED = """
path "transit/random/*" { capabilities = ["update"]
  control_group { ttl = "1h"
    factor "peers" { controlled_capabilities = ["update"]
      identity { policy_names = ["custodian"] approvals = 1 } } } }
path "sys/wrapping/*" { capabilities = ["update"] }
path "transit/hash/*" { capabilities = ["update"]
  conditions { tags = { environment = ["test"] } networks = ["127.0.0.0/8"] } }
path "transit/keys" { capabilities = ["list"] pagination_limit = 1 }
path "transit/encrypt/*" { capabilities = ["update", "create"]
  conditions { tags = { environment = ["production"] } } }
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("control-group"), "none", workers=4)
    made.configure()
    with made.configuration.open("a") as file:
        file.write(SETTINGS)
    made.init()
    made.start()
    root = made.api()
    root.ok("POST", "sys/mounts/transit", {"type": "transit"})
    root.ok("POST", "sys/auth/userpass", {"type": "userpass"})
    root.ok("PUT", "sys/policies/acl/custodian", {"policy": CUSTODIAN})
    root.ok("PUT", "sys/policies/acl/guarded", {"policy": GUARDED})
    for name in PEOPLE:
        root.ok(
            "POST", f"auth/userpass/users/{name}", {"password": "pw", "token_policies": "custodian,guarded"}
        )
    root.close()
    yield made
    made.stop()


_open: list[Api] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while _open:
        _open.pop().close()


def client(site: Site, token: str | None = None) -> Api:
    """As root, unless another token is given."""
    _open.append(site.api(token))
    return _open[-1]


def login(site: Site, name: str) -> Api:
    answer = client(site, "").post(f"auth/userpass/login/{name}", {"password": "pw"})
    return client(site, answer.json["auth"]["client_token"])


def text(answer: Answer) -> str:
    return answer.content.decode()


def exportable(site: Site, name: str) -> None:
    body = {"exportable": True, "type": "aes256-gcm96", "protection": "software"}
    client(site).ok("POST", f"transit/keys/{name}", body)


def wrapped(answer: Answer) -> dict[str, Any]:
    assert answer.status == 200, answer
    assert answer.json["data"] is None, answer
    info: dict[str, Any] = answer.json["wrap_info"]
    return info


def test_an_export_needs_two_others_and_happens_once(site: Site) -> None:
    exportable(site, "once")
    joe, ann, bob = (login(site, name) for name in ("joe", "ann", "bob"))
    info = wrapped(joe.call("GET", "transit/export/encryption-key/once"))
    assert info["ttl"] == 7_200
    assert info["creation_path"] == "transit/export/encryption-key/once"
    accessor, token = {"accessor": info["accessor"]}, {"token": info["token"]}
    refused = joe.call("POST", "sys/wrapping/unwrap", token)
    assert refused.status == 403
    assert "0 of 2" in text(refused)
    assert joe.call("POST", "sys/wrapping/lookup", token).status == 400
    # The one who asked, and a child of that token, are one person.
    child = client(site, joe.post("auth/token/create").json["auth"]["client_token"])
    for own in (joe, child, login(site, "joe")):
        answer = own.call("POST", "sys/control-group/authorize", accessor)
        assert (answer.status, "token owner" in text(answer)) == (403, True)
    assert ann.ok("POST", "sys/control-group/authorize", accessor) == {"approved": False}
    again = login(site, "ann").call("POST", "sys/control-group/authorize", accessor)
    assert (again.status, "already authorized" in text(again)) == (400, True)
    assert client(site).call("POST", "sys/control-group/authorize", accessor).status == 403
    assert joe.call("POST", "sys/wrapping/unwrap", token).status == 403
    assert bob.ok("POST", "sys/control-group/authorize", accessor) == {"approved": True}
    told = bob.ok("POST", "sys/control-group/request", accessor)
    assert (told["approved"], told["request_operation"], len(told["authorizations"])) == (True, "read", 2)
    assert info["accessor"] in bob.ok("LIST", "sys/control-group/request")["keys"]
    # Fifty tries over fresh connections, on all workers.
    answers: list[Answer] = []
    start = threading.Barrier(50)

    def attempt() -> None:
        start.wait()
        answers.append(client(site, joe.token).call("POST", "sys/wrapping/unwrap", token))

    threads = [threading.Thread(target=attempt) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = [answer for answer in answers if answer.status == 200]
    assert len(done) == 1
    assert list(done[0].data["keys"]) == ["1"]
    assert {answer.status for answer in answers} == {200, 400}
    assert joe.call("POST", "sys/control-group/request", accessor).status == 400


def test_root_waits_too(site: Site) -> None:
    root = client(site)
    ann, bob = login(site, "ann"), login(site, "bob")
    info = wrapped(root.call("POST", "sys/hsm/root/rotate"))
    before = root.ok("GET", "sys/hsm/root/rotate")
    for person in (ann, bob):
        person.ok("POST", "sys/control-group/authorize", {"accessor": info["accessor"]})
    assert root.ok("GET", "sys/hsm/root/rotate") == before
    # The wrapping token opens it by itself.
    done = client(site, info["token"]).call("POST", "sys/wrapping/unwrap")
    assert done.status in {200, 204}, text(done)
    assert client(site, info["token"]).call("POST", "sys/wrapping/unwrap").status in {400, 403}
    exportable(site, "root-too")
    wrapped(root.call("DELETE", "transit/keys/root-too"))
    wrapped(root.call("POST", "transit/keys/root-too/config", {"deletion_allowed": True}))
    assert root.ok("GET", "transit/keys/root-too")["deletion_allowed"] is False
    # By a policy that somebody else holds.
    wrapped(root.call("POST", "transit/random/8"))


def test_it_is_decided_anew(site: Site) -> None:
    exportable(site, "anew")
    root, ann, bob = client(site), login(site, "ann"), login(site, "bob")
    root.ok(
        "PUT", "sys/policies/acl/brief", {"policy": 'path "transit/export/*" { capabilities = ["read"] }'}
    )
    asker = root.post("auth/token/create", {"policies": ["brief"]}).json["auth"]
    asks = client(site, asker["client_token"])
    first, second = (wrapped(asks.call("GET", "transit/export/encryption-key/anew")) for _ in range(2))
    for person in (ann, bob):
        for info in (first, second):
            person.ok("POST", "sys/control-group/authorize", {"accessor": info["accessor"]})
    root.ok("PUT", "sys/policies/acl/brief", {"policy": 'path "a" { capabilities = ["read"] }'})
    assert ann.call("POST", "sys/wrapping/unwrap", {"token": first["token"]}).status == 403
    root.ok(
        "PUT", "sys/policies/acl/brief", {"policy": 'path "transit/export/*" { capabilities = ["read"] }'}
    )
    assert ann.call("POST", "sys/wrapping/unwrap", {"token": first["token"]}).status == 200
    root.ok("POST", "auth/token/revoke-accessor", {"accessor": asker["accessor"]})
    gone = ann.call("POST", "sys/wrapping/unwrap", {"token": second["token"]})
    assert (gone.status, "not in force" in text(gone)) == (403, True)


def test_consent_of_a_policy(site: Site) -> None:
    joe, ann = login(site, "joe"), login(site, "ann")
    info = wrapped(joe.call("POST", "transit/random/8", {"format": "hex"}))
    assert info["ttl"] == 3_600
    told = ann.ok("POST", "sys/control-group/request", {"accessor": info["accessor"]})
    assert told["request_path"] == "transit/random/8"
    assert set(told["request_data"]) == {"format"}
    assert ann.ok("POST", "sys/control-group/authorize", {"accessor": info["accessor"]})["approved"]
    data = joe.ok("POST", "sys/wrapping/unwrap", {"token": info["token"]})
    assert len(data["random_bytes"]) == 16


def test_consents_survive_a_killed_server(site: Site) -> None:
    joe, ann = login(site, "joe"), login(site, "ann")
    info = wrapped(joe.call("POST", "transit/random/9"))
    ann.ok("POST", "sys/control-group/authorize", {"accessor": info["accessor"]})
    site.kill_all()
    site.after_kill()
    site.start()
    data = client(site, joe.token).ok("POST", "sys/wrapping/unwrap", {"token": info["token"]})
    assert data["random_bytes"]
    assert client(site, joe.token).call("POST", "sys/wrapping/unwrap", {"token": info["token"]}).status == 400


def test_none_happens_twice_when_the_server_is_killed(site: Site) -> None:
    exportable(site, "turned")
    joe, ann, bob = (login(site, name) for name in ("joe", "ann", "bob"))
    waits = [wrapped(joe.call("POST", "transit/keys/turned/rotate")) for _ in range(12)]
    for info in waits:
        for person in (ann, bob):
            person.ok("POST", "sys/control-group/authorize", {"accessor": info["accessor"]})
    done: list[str] = []

    def unwrap(info: dict[str, Any]) -> None:
        with suppress(httpx.HTTPError), site.api(joe.token) as api:
            if api.call("POST", "sys/wrapping/unwrap", {"token": info["token"]}).status in {200, 204}:
                done.append(info["token"])

    threads = [threading.Thread(target=unwrap, args=(info,)) for info in waits]
    for thread in threads:
        thread.start()
    wait_for(lambda: bool(done) or not any(thread.is_alive() for thread in threads), 60, "the first answer")
    site.kill_all()
    for thread in threads:
        thread.join()
    site.after_kill()
    site.start()
    answered = len(done)
    for info in waits:
        unwrap(info)
    version = client(site, joe.token).ok("GET", "transit/keys/turned")["latest_version"]
    # What was answered happened; what happened without an answer is used up; nothing happened twice.
    assert answered <= len(done) == len(set(done)) <= version - 1 <= len(waits)
    for info in waits:
        assert client(site, joe.token).call("POST", "sys/wrapping/unwrap", info).status == 400


def test_a_batch_token_cannot_wait(site: Site) -> None:
    body = {"policies": ["guarded"], "type": "batch", "ttl": "1h"}
    batch = client(site).post("auth/token/create", body).json["auth"]["client_token"]
    refused = client(site, batch).call("POST", "transit/random/8")
    assert (refused.status, "batch token" in text(refused)) == (403, True)


def test_conditions_and_pages(site: Site) -> None:
    joe = login(site, "joe")
    del joe
    only = client(site).post("auth/token/create", {"policies": ["guarded"], "no_default_policy": True})
    token = client(site, only.json["auth"]["client_token"])
    assert token.call("POST", "transit/hash/sha2-256", {"input": "aGVsbG8="}).status == 200
    assert token.call("POST", "transit/encrypt/once", {"plaintext": "aGVsbG8="}).status == 403
    for name in ("page-a", "page-b"):
        exportable(site, name)
    assert len(token.ok("LIST", "transit/keys")["keys"]) == 1
    assert token.call("LIST", "transit/keys?limit=5").status == 403


def test_each_step_and_every_use_of_root_is_told(site: Site) -> None:
    joe, ann = login(site, "joe"), login(site, "ann")
    info = wrapped(joe.call("POST", "transit/random/10"))
    ann.ok("POST", "sys/control-group/authorize", {"accessor": info["accessor"]})
    joe.ok("POST", "sys/wrapping/unwrap", {"token": info["token"]})
    records = [entry for entry in entries(site.audit) if info["accessor"] in str(entry.event)]
    operations = [entry.operation for entry in sorted(records, key=lambda entry: entry.id)]
    assert operations == ["sys.control_group.asked", "sys.control_group.authorize", "transit.random"]
    released = next(entry.event for entry in records if entry.operation == "transit.random")
    assert released["fields"]["control_group"]["approved_by"] == ["userpass-ann"]
    assert released["principal"]["display_name"] == "userpass-joe"
    client(site).ok("GET", "sys/mounts")
    assert '"root_token_used"' in site.errors.read_text()

    def counted() -> bool:
        client(site).ok("GET", "sys/mounts")
        lines = client(site).call("GET", "sys/metrics?format=prometheus").content.decode().splitlines()
        return any(
            line.startswith('keystead_root_token_uses_total{operation="sys.mounts.list"}') for line in lines
        )

    wait_for(counted, 60, "the count of uses of root")
