"""Logins of a directory's people: a real slapd, hvac and bao, TLS, groups, and every name that is not quite the name."""

# mypy: allow-untyped-calls
# The stubs of ldap3 type half of its calls.

from __future__ import annotations

import json
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import hvac
import pytest
from ldap3 import MODIFY_REPLACE

from tests.harness.api import Answer, Api
from tests.harness.bao import Bao
from tests.harness.dev import DevServer
from tests.harness.slapd import BASE, GROUPS, PEOPLE, SEARCHER, Slapd

BAD = "ldap operation failed: failed to bind as user"
SEARCH = {"binddn": SEARCHER, "bindpass": "searcher-password"}
UPN = {"upndomain": "corp.test"}


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    running = Slapd(tmp_path_factory.mktemp("slapd"))
    yield running
    running.stop()


@dataclass
class Method:
    """The method, mounted and configured for the directory."""

    api: Api
    server: DevServer
    path: str
    slapd: Slapd

    def configure(self, **fields: Any) -> None:
        self.api.ok("POST", f"auth/{self.path}/config", fields)

    def login(self, name: str, password: str = "ann-password") -> Answer:
        with self.server.api("") as anybody:
            return anybody.post(f"auth/{self.path}/login/{quote(name, safe='')}", {"password": password})

    def refused(self, name: str, password: str = "ann-password", text: str = BAD) -> None:
        answer = self.login(name, password)
        assert answer.status == 400, answer.content
        assert text in answer.errors[0], answer.errors

    def unlock(self) -> None:
        """Failures of the cases before are no business of the next one."""
        for row in self.api.get("sys/locked-users").data.get("by_namespace") or []:
            for mount in row.get("mount_accessors") or []:
                for name in mount["alias_identifiers"]:
                    self.api.post(f"sys/locked-users/{mount['mount_accessor']}/unlock/{quote(name, safe='')}")


@pytest.fixture
def method(api: Api, server: DevServer, slapd: Slapd) -> Method:
    path = f"ldap-{secrets.token_hex(4)}"
    api.ok("POST", f"sys/auth/{path}", {"type": "ldap"})
    tune = {"user_lockout_config": {"lockout_disable": True}}
    api.ok("POST", f"sys/auth/{path}/tune", tune)
    made = Method(api, server, path, slapd)
    made.configure(url=slapd.url, userdn=PEOPLE, userattr="uid", groupdn=GROUPS, **SEARCH)
    api.ok("POST", f"auth/{path}/groups/devs", {"policies": "dev"})
    api.ok("POST", f"auth/{path}/groups/Ops", {"policies": "ops,pager"})
    return made


def test_hvac_and_bao_log_in(method: Method, root: hvac.Client, server: DevServer, bao: Bao) -> None:
    ldap = root.auth.ldap
    ldap.configure(
        userdn=PEOPLE,
        groupdn=GROUPS,
        url=method.slapd.url,
        userattr="uid",
        binddn=SEARCHER,
        bindpass="searcher-password",
        token_policies=["everybody"],
        mount_point=method.path,
    )
    ldap.create_or_update_user("ann", policies=["mine"], groups=["local"], mount_point=method.path)
    ldap.create_or_update_group("local", policies=["here"], mount_point=method.path)
    assert ldap.list_groups(mount_point=method.path)["data"]["keys"] == ["devs", "local", "ops"]
    assert ldap.read_user("ann", mount_point=method.path)["data"] == {"groups": "local", "policies": ["mine"]}
    shown = ldap.read_configuration(mount_point=method.path)["data"]
    assert (shown["binddn"], shown["userattr"], shown["deny_null_bind"]) == (SEARCHER, "uid", True)
    assert "bindpass" not in shown
    client = hvac.Client(url=server.address)
    auth = client.auth.ldap.login("Ann", "ann-password", mount_point=method.path)["auth"]
    assert auth["policies"] == ["default", "dev", "everybody", "here", "mine"]
    assert auth["metadata"] == {"username": "ann"}
    assert client.lookup_token()["data"]["display_name"] == f"{method.path}-ann"
    assert client.auth.token.renew_self()["auth"]["policies"] == auth["policies"]
    client.adapter.close()
    told = bao("write", "-format=json", f"auth/{method.path}/login/bob", "password=bob-password")
    assert json.loads(told)["auth"]["token_policies"] == ["default", "everybody", "ops", "pager"]


def test_ways_to_find_a_person(method: Method) -> None:
    nobody: dict[str, Any] = {"binddn": "", "bindpass": ""}
    for fields in (
        nobody,
        {**nobody, "discoverdn": True},
        {**SEARCH, "discoverdn": False},
        UPN,
        {"upndomain": ""},
    ):
        method.configure(**fields)
        answer = method.login("ann")
        assert answer.status == 200, (fields, answer.content)
        assert "dev" in answer.json["auth"]["token_policies"]
    method.configure(userfilter="(&(objectClass=inetOrgPerson)(mail={{.Username}}))")
    method.refused("ann")
    method.configure(
        userfilter="(&(objectClass=inetOrgPerson)({{.UserAttr}}={{.Username}}))", max_page_size=1
    )
    assert method.login("ann").status == 200
    method.configure(anonymous_group_search=True)
    assert "dev" in method.login("ann").json["auth"]["token_policies"]
    method.configure(url=f"ldap://127.0.0.1:1,{method.slapd.url}")
    assert method.login("ann").status == 200, "the second server"


def test_groups_of_groups(method: Method) -> None:
    """MemberOf of the directory's own making, also through groups in groups."""
    method.configure(groupdn=PEOPLE, groupfilter="(uid={{.Username}})", groupattr="memberOf")
    method.api.ok("POST", f"auth/{method.path}/groups/staff", {"policies": "staff"})
    assert method.login("ann").json["auth"]["token_policies"] == ["default", "dev", "staff"]
    none = method.login("o'neil (x)", "odd")
    assert none.json["auth"]["token_policies"] == ["default"]
    method.configure(groupdn="")
    assert "no LDAP groups found" in method.login("ann").json["warnings"][0]


def test_groups_of_identity_follow_the_directory(method: Method, api: Api) -> None:
    accessor = api.get(f"sys/auth/{method.path}").data["accessor"]
    name = f"ldap-devs-{secrets.token_hex(3)}"
    group = api.post("identity/group", {"name": name, "type": "external", "policies": ["outer"]}).data["id"]
    alias = {"name": "Devs", "mount_accessor": accessor, "canonical_id": group}
    api.ok("POST", "identity/group-alias", alias)
    auth = method.login("ann").json["auth"]
    assert auth["identity_policies"] == ["outer"]
    with method.slapd.admin() as directory, method.server.api(auth["client_token"]) as owner:
        dn = f"cn=Devs,{GROUPS}"
        api.ok("POST", f"auth/{method.path}/groups/devs", {"policies": ""})
        assert owner.post("auth/token/renew-self").errors == ["policies have changed, not renewing"]
        api.ok("POST", f"auth/{method.path}/groups/devs", {"policies": "dev"})
        assert owner.post("auth/token/renew-self").status == 200
        assert directory.modify(dn, {"member": [(MODIFY_REPLACE, [f"uid=bob,{PEOPLE}"])]})
        try:
            api.ok("POST", f"auth/{method.path}/users/ann", {"policies": "dev"})
            assert owner.post("auth/token/renew-self").status == 200, "the same policies, by another way"
            assert "outer" not in owner.get("auth/token/lookup-self").data.get("identity_policies", [])
        finally:
            assert directory.modify(dn, {"member": [(MODIFY_REPLACE, [f"uid=ann,{PEOPLE}"])]})


def test_who_has_left_is_not_renewed(method: Method) -> None:
    dn = f"uid=gone,{PEOPLE}"
    with method.slapd.admin() as directory:
        entry = {"uid": "gone", "cn": "Gone", "sn": "Gone", "userPassword": "gone-password"}
        assert directory.add(dn, ["inetOrgPerson"], entry)
        token = method.login("gone", "gone-password").json["auth"]["client_token"]
        with method.server.api(token) as owner:
            assert owner.post("auth/token/renew-self").status == 200
            assert directory.delete(dn)
            answer = owner.post("auth/token/renew-self")
            assert answer.errors == ["the user is not in the directory any more, not renewing"]
            method.configure(binddn="", bindpass="")
            assert "log in again" in owner.post("auth/token/renew-self").errors[0]
    method.refused("gone", "gone-password")


def test_names_that_are_not_quite_the_name(method: Method) -> None:
    """CVE-2025-6013: one spelling, or a directory's one person is many here."""
    first = method.login("ann").json["auth"]
    assert method.login("ANN").json["auth"]["entity_id"] == first["entity_id"]
    for name in (
        " ann",
        "ann ",
        "\u200bann",
        "\uff41nn",
        "ann\x00",
        "ann\n",
        "a/b",
        "x" * 300,
        "o'neil  (x)",
    ):
        answer = method.login(name)
        assert answer.status in {400, 404}, name
        assert "auth" not in answer.json
    for name, password in (("o'neil (x)", "odd"), ("a,b", "comma")):
        assert method.login(name, password).status == 200
        method.configure(binddn="", bindpass="")
        assert method.login(name, password).status == 200, "as a DN, too"
        method.configure(**SEARCH)
    for name in ("*", "a*", "ann)(uid=*", "ann))(|(uid=*", "ann,ou=people", "ann+uid=bob", "uid=ann"):
        method.refused(name)
        method.configure(binddn="", bindpass="")
        method.refused(name)
        method.configure(**SEARCH)
    method.configure(userdn=BASE)
    method.refused("twin", "one")  # two of that name: nobody says which
    method.refused("twin", "two")


def test_passwords(method: Method) -> None:
    method.refused("ann", "wrong")
    method.refused("nobody", "x")
    method.refused("ann", "", "password cannot be of zero length")
    method.configure(binddn="", bindpass="")
    method.refused("ann", "", "password cannot be of zero length")
    method.refused("ann", "\x00")


def test_guessing_locks_the_one_spelling(method: Method, api: Api) -> None:
    api.ok("POST", f"sys/auth/{method.path}/tune", {"user_lockout_config": {"lockout_disable": False}})
    for name in ("ann", "nobody"):
        for spelling in (name, name.upper(), name.title(), name, name.upper()):
            assert method.login(spelling, "bad").status == 400
        locked = method.login(name, "ann-password")
        assert (locked.status, locked.errors) == (403, ["permission denied"])


def test_tls_is_verified(method: Method, tmp_path: Path) -> None:
    ca = method.slapd.ca
    for fields, good in (
        ({"url": method.slapd.tls_url, "certificate": ca}, True),
        ({"url": method.slapd.tls_url, "certificate": ""}, False),
        ({"url": method.slapd.url, "starttls": True, "certificate": ""}, False),
        ({"url": method.slapd.url, "starttls": True, "certificate": ca, "tls_min_version": "tls13"}, True),
    ):
        method.configure(**fields)
        answer = method.login("ann")
        assert (answer.status == 200) is good, (fields, answer.content)
    named = method.slapd.tls_url.replace("127.0.0.1", "localhost")
    method.configure(url=named, starttls=False, certificate=ca)
    assert method.login("ann").status == 400, "its certificate is for 127.0.0.1"
    del tmp_path


def test_a_directory_that_does_not_answer(method: Method) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        method.configure(
            url=f"ldap://127.0.0.1:{silent.getsockname()[1]}", request_timeout=1, connection_timeout=1
        )
        began = time.monotonic()
        method.refused("ann", text="ldap operation failed")
        assert time.monotonic() - began < 60
    method.configure(url="ldap://127.0.0.1:1")
    method.refused("ann", text="ldap operation failed")
    method.configure(url=method.slapd.url, binddn=SEARCHER, bindpass="wrong")
    method.refused("ann", text="LDAP bind (service) failed")


def test_a_server_that_drips_gets_one_deadline(method: Method) -> None:
    """A byte now and then keeps no thread of ours."""
    stop = threading.Event()

    def drip(listener: socket.socket) -> None:
        accepted, _ = listener.accept()
        with accepted:
            while not stop.wait(0.2):
                try:
                    accepted.sendall(b"\x30")
                except OSError:
                    return

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        thread = threading.Thread(target=drip, args=(listener,), daemon=True)
        thread.start()
        method.configure(url=f"ldap://127.0.0.1:{listener.getsockname()[1]}", request_timeout=2)
        began = time.monotonic()
        method.refused("ann", text="ldap operation failed")
        assert time.monotonic() - began < 60
        stop.set()
        thread.join(10)


def test_referrals_are_not_followed(method: Method) -> None:
    method.configure(userdn=f"ou=elsewhere,{BASE}")
    method.refused("ann", text="ldap operation failed")


def test_configuration_is_checked(method: Method, api: Api) -> None:
    config = f"auth/{method.path}/config"
    before = api.get(config).data
    for body, text in (
        ({"url": "http://127.0.0.1"}, "invalid LDAP url"),
        ({"url": "ldap://u:p@127.0.0.1"}, "invalid LDAP url"),
        ({"url": "ldap://ldap.example.test"}, "in clear"),
        ({"url": f"ldaps://a.test,{method.slapd.url},ldap://b.test"}, "in clear"),
        ({"userattr": "u*d"}, "not the name of an attribute"),
        ({"userfilter": "(uid={{.Username}}"}, "not a search filter"),
        ({"userfilter": "(uid={{.UserDN}})"}, "of templates there are"),
        ({"groupfilter": '({{ printf "x" }}={{.UserDN}})'}, "of templates there are"),
        ({"insecure_tls": True}, "always false"),
        ({"deny_null_bind": False}, "always true"),
        ({"case_sensitive_names": True}, "always false"),
        ({"use_token_groups": True}, "always false"),
        ({"tls_min_version": "tls10"}, "invalid 'tls_min_version'"),
        ({"tls_min_version": "tls13", "tls_max_version": "tls12"}, "greater than or equal"),
        ({"dereference_aliases": "maybe"}, "invalid 'dereference_aliases'"),
        ({"request_timeout": 0}, "1 to 300 seconds"),
        ({"certificate": "x"}, "cannot be read"),
        ({"client_tls_cert": "x"}, "both client_tls_cert and"),
        ({"client_tls_cert": "x", "client_tls_key": "y"}, "X509 key pair"),
        ({"token_policies": "root"}, "root"),
    ):
        answer = api.post(config, body)
        assert answer.status == 400, body
        assert text in answer.errors[0], answer.errors
    assert api.get(config).data == before
    for name in ("root ", "\uff32OOT", "a  b"):
        assert api.post(f"auth/{method.path}/groups/{quote(name)}", {"policies": "x"}).status == 400
    assert api.post(f"auth/{method.path}/groups/g", {"policies": "root"}).status == 400
    assert api.get(f"auth/{method.path}/groups/g").status == 404
