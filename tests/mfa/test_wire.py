"""A second factor before the token, with four workers: each code once, guesses counted, no way around."""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import hvac
import pyotp
import pytest

from tests.harness.api import Answer, Api
from tests.harness.dev import DevServer
from tests.policy.peer import Peer, running

METHOD = "identity/mfa/method/totp"
RULES = "identity/mfa/login-enforcement"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    made = DevServer(tmp_path_factory.mktemp("mfa"))
    made.start()
    yield made
    made.stop()


@dataclass
class Person:
    """Somebody with a password and a second factor at a mount of their own."""

    server: DevServer
    path: str
    method: str
    entity: str
    totp: pyotp.TOTP
    rule: str

    def login(self, *shown: str, **headers: str) -> Answer:
        """Over a new connection; `shown` are codes of the method."""
        if shown:
            headers["X-Vault-MFA"] = f"{self.method}:{shown[0]}"
        with self.server.api("") as api:
            return api.call("POST", f"auth/{self.path}/login/ann", {"password": "pw"}, headers=headers)

    def request(self) -> str:
        """A login that waits; its request ID."""
        return str(self.login().json["auth"]["mfa_requirement"]["mfa_request_id"])

    def validate(self, request: str, code: str) -> Answer:
        """The second step."""
        body = {"mfa_request_id": request, "mfa_payload": {self.method: [code]}}
        with self.server.api("") as api:
            return api.call("POST", "sys/mfa/validate", body)

    def code(self, shift: int = 0) -> str:
        """Now, or so many periods from now."""
        return self.totp.at(int(time.time()) + shift * 30)


@pytest.fixture
def person(server: DevServer) -> Iterator[Person]:
    with server.api() as api:
        path, name = f"up-{secrets.token_hex(4)}", f"rule-{secrets.token_hex(4)}"
        api.ok("POST", f"sys/auth/{path}", {"type": "userpass"})
        api.ok("POST", f"auth/{path}/users/ann", {"password": "pw", "token_policies": "default"})
        accessor = api.get(f"sys/auth/{path}").data["accessor"]
        method = api.ok("POST", METHOD, {"issuer": "Acme"})["method_id"]
        entity = api.post(f"auth/{path}/login/ann", {"password": "pw"}).json["auth"]["entity_id"]
        made = api.ok("POST", f"{METHOD}/admin-generate", {"method_id": method, "entity_id": entity})
        api.ok("POST", f"{RULES}/{name}", {"mfa_method_ids": [method], "auth_method_accessors": [accessor]})
        totp = pyotp.parse_uri(made["url"])
        assert isinstance(totp, pyotp.TOTP)
        yield Person(server, path, method, entity, totp, name)
        api.delete(f"{RULES}/{name}")


def at_once(act: Callable[[], Answer], times: int) -> list[int]:
    """Statuses of the same request, many times at the same time."""
    said: list[int] = []
    threads = [threading.Thread(target=lambda: said.append(act().status)) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(said)


def test_no_token_without_the_second_factor(person: Person) -> None:
    asked = person.login().json
    assert asked["auth"]["client_token"] == asked["auth"]["accessor"] == ""
    constraint = asked["auth"]["mfa_requirement"]["mfa_constraints"][person.rule]
    assert constraint == {"any": [{"type": "totp", "id": person.method, "uses_passcode": True, "name": ""}]}
    request = asked["auth"]["mfa_requirement"]["mfa_request_id"]
    assert person.validate(request, "000000").status == 403
    done = person.validate(request, person.code())
    assert done.status == 200
    with person.server.api(done.json["auth"]["client_token"]) as api:
        assert api.get("auth/token/lookup-self").data["entity_id"] == person.entity
    assert person.validate(request, person.code(1)).errors == ["invalid request ID"]


def test_a_code_is_good_once_over_all_workers(person: Person) -> None:
    code, requests = person.code(), [person.request() for _ in range(12)]
    pending = iter(requests)
    assert at_once(lambda: person.validate(next(pending), code), 12) == [200] + [403] * 11


def test_a_request_is_good_once_over_all_workers(person: Person) -> None:
    request, codes = person.request(), [person.code(), person.code(1)]
    shown = iter(codes * 4)
    said = at_once(lambda: person.validate(request, next(shown)), 8)
    assert said.count(200) == 1
    assert set(said) <= {200, 400, 403}


def test_the_header_does_it_in_one_step_and_once(person: Person) -> None:
    code = person.code()
    assert at_once(lambda: person.login(code), 4) == [200] + [403] * 3
    assert person.login(person.code(1)).json["auth"]["client_token"].startswith("hvs.")


def test_other_spellings_of_a_code_are_no_codes(person: Person) -> None:
    code = person.code()
    assert person.login(code).status == 200
    for other in (f" {code}", f"{code[:3]} {code[3:]}", f"{code},"):
        assert person.login(other).status == 403
    request = person.request()
    wide = "".join(chr(0xFF10 + int(digit)) for digit in person.code(1))
    assert person.validate(request, wide).status == 403


def test_guesses_are_counted_over_all_workers_and_both_ways(person: Person) -> None:
    request = person.request()
    assert at_once(lambda: person.validate(request, "000000"), 6) == [403] * 6
    told = person.validate(request, person.code()).errors[0]
    assert "maximum TOTP validation attempts" in told
    assert person.login(person.code(1)).status == 403


def test_a_batch_token_and_a_wrapped_one_need_it_too(person: Person, server: DevServer) -> None:
    with server.api() as api:
        api.ok("POST", f"sys/auth/{person.path}/tune", {"token_type": "batch"})
    assert person.login().json["auth"]["client_token"] == ""
    assert person.login(person.code()).json["auth"]["token_type"] == "batch"
    wrapped = person.login(**{"X-Vault-Wrap-TTL": "60"}).json["wrap_info"]
    with server.api(wrapped["token"]) as api:
        opened = api.post("sys/wrapping/unwrap").json["auth"]
    assert opened["client_token"] == ""
    assert opened["mfa_requirement"]["mfa_request_id"]


def test_policies_may_ask_whether_it_was_shown(person: Person, server: DevServer) -> None:
    rules = 'path "cubbyhole/only" { capabilities = ["create", "update"] conditions { mfa = true } }'
    with server.api() as api:
        api.ok("PUT", "sys/policies/acl/confirmed", {"policy": rules})
        body = {"token_policies": "confirmed", "token_no_default_policy": True}
        api.ok("POST", f"auth/{person.path}/users/ann", body)
        with_it = person.login(person.code()).json["auth"]["client_token"]
        api.delete(f"{RULES}/{person.rule}")
    without = person.login().json["auth"]["client_token"]
    said = []
    for token in (with_it, without):
        with server.api(token) as api:
            said.append(api.post("cubbyhole/only", {"a": "b"}).status)
    assert said == [204, 403]


def test_a_disabled_entity_gets_no_token_for_its_code(person: Person, server: DevServer) -> None:
    request = person.request()
    with server.api() as api:
        api.ok("POST", f"identity/entity/id/{person.entity}", {"disabled": True})
    assert person.validate(request, person.code()).status == 403


def test_rules_by_type_entity_and_group(person: Person, server: DevServer) -> None:
    with server.api() as api:
        group = api.post("identity/group", {"member_entity_ids": [person.entity]}).data["id"]
        for field, value in (
            ("auth_method_types", "userpass"),
            ("identity_entity_ids", person.entity),
            ("identity_group_ids", group),
        ):
            api.ok("DELETE", f"{RULES}/{person.rule}")
            assert person.login().json["auth"]["client_token"]
            api.ok("POST", f"{RULES}/{person.rule}", {"mfa_method_ids": [person.method], field: [value]})
            assert not person.login().json["auth"]["client_token"], field


def test_hvac_goes_both_ways(person: Person) -> None:
    client = hvac.Client(person.server.address)
    asked = client.write_data(f"auth/{person.path}/login/ann", data={"password": "pw"})
    request = asked["auth"]["mfa_requirement"]["mfa_request_id"]
    payload = {person.method: [person.code()]}
    body = {"mfa_request_id": request, "mfa_payload": payload}
    client.token = client.write_data("sys/mfa/validate", data=body)["auth"]["client_token"]
    assert client.is_authenticated()


# -- beside the real server ------------------------------------------------------------------------------

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_FRESH = re.compile(r"(?:hvs|s)\.[A-Za-z0-9]{24}|secret=[A-Z2-7]+|auth_userpass_[0-9a-f]{8}")


def form(value: Any) -> Any:
    """An answer without what is new each time."""
    if isinstance(value, dict):
        skipped = {"request_id", "accessor", "barcode", "lease_duration", "key_info", "keys"}
        return {form(key): form(inner) for key, inner in value.items() if key not in skipped}
    if isinstance(value, list):
        return [form(each) for each in value]
    return _FRESH.sub("fresh", _UUID.sub("uuid", value)) if isinstance(value, str) else value


SETTINGS: tuple[dict[str, Any], ...] = (
    {},
    {"issuer": "I"},
    {"issuer": "I", "digits": 7},
    {"issuer": "I", "digits": 8},
    {"issuer": "I", "algorithm": "MD5"},
    {"issuer": "I", "algorithm": "SHA256"},
    {"issuer": "I", "algorithm": "SHA512"},
    {"issuer": "I", "period": 0},
    {"issuer": "I", "period": "1m"},
    {"issuer": "I", "skew": 2},
    {"issuer": "I", "skew": 0},
    {"issuer": "I", "skew": -1},
    {"issuer": "I", "key_size": 0},
    {"issuer": "I", "key_size": 32},
    {"issuer": "I", "qr_size": 0},
    {"issuer": "I", "max_validation_attempts": -1},
    {"issuer": "I", "max_validation_attempts": 3},
    {"issuer": "I", "method_name": "named"},
    {"issuer": "J", "method_name": "named"},
)


Ask = Callable[..., Any]


def rules(ask: Ask, method: str, accessor: str) -> None:
    """Which logins need it."""
    rule = {"mfa_method_ids": [method]}
    ask("LIST", RULES)
    for body in (
        {},
        rule,
        {"mfa_method_ids": ["nope"], "auth_method_accessors": [accessor]},
        rule | {"auth_method_accessors": ["nope"]},
        rule | {"auth_method_types": ["nope"]},
        rule | {"identity_entity_ids": ["nope"]},
        rule | {"identity_group_ids": ["nope"]},
        rule | {"auth_method_accessors": [accessor]},
    ):
        ask("POST", f"{RULES}/e1", body)
    ask("GET", f"{RULES}/e1")
    ask("LIST", RULES)
    ask("DELETE", f"{RULES}/nope")


def logins(ask: Ask, method: str, totp: pyotp.TOTP) -> None:
    """Both steps, wrong and right."""

    def asked() -> str:
        answer = ask("POST", "auth/mu/login/ann", {"password": "pw"}, "")
        return str(answer["auth"]["mfa_requirement"]["mfa_request_id"])

    def validate(request: str, payload: Any) -> None:
        ask("POST", "sys/mfa/validate", {"mfa_request_id": request, "mfa_payload": payload}, "")

    ask("POST", "sys/mfa/validate", {}, "")
    validate("nope", {})
    request, code = asked(), totp.at(int(time.time()))
    wrong: list[dict[str, list[str]]] = [{}, {method: []}, {method: ["000000"]}, {"m2": [code]}]
    for payload in (*wrong, {method: [code]}, {method: [code]}):
        validate(request, payload)
    request = asked()
    for payload in ({method: [code]}, {"m1": [totp.at(int(time.time()) + 30)]}):
        validate(request, payload)


def played(call: Callable[..., tuple[int, Any]]) -> list[tuple[str, Any]]:
    """All of it on one server; what was asked and what was answered."""
    told: list[tuple[str, Any]] = []

    def ask(verb: str, path: str, body: Any = None, token: str | None = None) -> Any:
        status, answer = call(verb, path, body) if token is None else call(verb, path, body, token)
        told.append((f"{verb} {form(path)} {form(str(body))}", (status, form(answer))))
        return answer

    ask("LIST", METHOD)
    for settings in SETTINGS:
        made = ask("POST", METHOD, settings)
        if "data" in made:
            ask("GET", f"{METHOD}/{made['data']['method_id']}")
    call("POST", "sys/auth/mu", {"type": "userpass"})
    call("POST", "auth/mu/users/ann", {"password": "pw", "token_policies": "default"})
    accessor = call("GET", "sys/auth/mu")[1]["data"]["accessor"]
    entity = call("POST", "auth/mu/login/ann", {"password": "pw"}, "")[1]["auth"]["entity_id"]
    method = ask("POST", METHOD, {"issuer": "Acme", "method_name": "m1"})["data"]["method_id"]
    ids = {"method_id": method, "entity_id": entity}
    for body in (
        ids,
        ids,
        ids | {"method_id": "nope"},
        ids | {"entity_id": "nope"},
        {"method_id": method},
        {},
    ):
        for verb in ("admin-generate", "admin-destroy"):
            ask("POST", f"{METHOD}/{verb}", body)
    ask("POST", f"{METHOD}/generate", {"method_id": method})
    url = call("POST", f"{METHOD}/admin-generate", ids)[1]["data"]["url"]
    totp = pyotp.parse_uri(url)
    assert isinstance(totp, pyotp.TOTP)
    rules(ask, method, accessor)
    logins(ask, method, totp)
    call("DELETE", f"{RULES}/e1")
    ask("POST", "auth/mu/login/ann", {"password": "pw"}, "")
    ask("DELETE", f"{METHOD}/{method}")
    ask("GET", f"{METHOD}/{method}")
    return told


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    with running() as started:
        yield started


def test_both_servers_answer_alike(tmp_path_factory: pytest.TempPathFactory, peer: Peer) -> None:
    own = DevServer(tmp_path_factory.mktemp("beside"), workers=1)
    own.start()
    try:

        def ours(verb: str, path: str, body: object = None, token: str | None = None) -> tuple[int, Any]:
            with own.api(token) as api:
                answer = api.call(verb, path, body)
            return answer.status, answer.json or None

        theirs, told = played(peer.call), played(ours)
    finally:
        own.stop()
    different = [
        (what, their, our) for (what, their), (_, our) in zip(theirs, told, strict=True) if their != our
    ]
    for what, their, our in different:
        print(f"\n{what}\n   peer {their}\n   ours {our}")
    assert not different, f"{len(different)} of {len(theirs)} answers differ"
    assert len(told) >= 70


def test_a_method_in_use_is_not_removed(person: Person, server: DevServer) -> None:
    with server.api() as api:
        assert "still used" in api.delete(f"{METHOD}/{person.method}").errors[0]
        assert isinstance(api, Api)
