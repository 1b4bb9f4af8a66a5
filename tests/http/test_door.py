"""The door: what a request becomes, and what an answer looks like, byte for byte."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kms.errors import ErrorKind, KmsError
from kms.http.vault.door import Door
from kms.http.vault.errors import TABLE, render_error
from kms.http.vault.render import encode, render
from kms.http.vault.route import Rendered, Route
from kms.operation import Capability, Result
from kms.oplog import OperatorLog
from tests.http.fake import FakeApp
from tests.http.realbao import exchange, real_bao

PEER = "192.0.2.1"
UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


class Asker:
    """A door over a fake App."""

    def __init__(self, log: Path) -> None:
        self.app = FakeApp()
        self.lines = log
        self._file = log.open("wb")
        self.door = Door(self.app, OperatorLog(descriptor=self._file.fileno()))

    def close(self) -> None:
        self._file.close()

    def __call__(
        self, method: str, path: str, body: bytes = b"", token: str = "root", **headers: str
    ) -> Rendered:
        raw, _, query = path.encode().partition(b"?")
        pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        if token:
            pairs.append((b"x-vault-token", token.encode()))
        return self.door.handle(method, raw, query, pairs, body, PEER)


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Asker]:
    asker = Asker(tmp_path / "log")
    yield asker
    asker.close()


def _data(answer: Rendered) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(answer.body)["data"]
    return found


ERRORS: list[tuple[str, str, str, dict[str, str], int, str]] = [
    ("no token", "GET", "/v1/transit/keys/a", {"token": ""}, 403, "permission denied"),
    ("unknown token", "GET", "/v1/transit/keys/a", {"token": "x"}, 403, "permission denied"),
    (
        "no right",
        "GET",
        "/v1/transit/keys/a",
        {"token": "denied"},
        403,
        "1 error occurred:\n\t* permission denied\n\n",
    ),
    (
        "no mount",
        "GET",
        "/v1/nosuch/thing",
        {},
        404,
        'no handler for route "nosuch/thing". route entry not found.',
    ),
    ("no mount, no token", "GET", "/v1/nosuch/thing", {"token": ""}, 403, "permission denied"),
    (
        "no mount, no right",
        "GET",
        "/v1/nosuch/thing",
        {"token": "denied"},
        403,
        "1 error occurred:\n\t* permission denied\n\n",
    ),
    ("no path", "GET", "/v1/transit/nosuch", {}, 404, "1 error occurred:\n\t* unsupported path\n\n"),
    ("no path, no token", "GET", "/v1/transit/nosuch", {"token": ""}, 403, "permission denied"),
    (
        "no verb",
        "DELETE",
        "/v1/transit/encrypt/a",
        {},
        405,
        "1 error occurred:\n\t* unsupported operation\n\n",
    ),
    ("not found", "GET", "/v1/sys/missing", {}, 404, ""),
    ("folder written", "POST", "/v1/transit/keys/", {}, 400, "cannot write to a path ending in '/'"),
    ("dots", "GET", "/v1/transit/../sys/health", {}, 400, "relative paths not supported"),
    ("unknown verb", "FOO", "/v1/transit/keys/a", {}, 405, ""),
    ("TRACE", "TRACE", "/v1/transit/keys/a", {}, 405, ""),
    ("not ours", "GET", "/v2/x", {}, 404, ""),
    ("HEAD of a secret", "HEAD", "/v1/transit/keys/a", {}, 405, ""),
    ("namespace", "GET", "/v1/transit/keys/a", {"x_vault_namespace": "ns1"}, 404, "namespace not found"),
    (
        "PATCH type",
        "PATCH",
        "/v1/sys/echo",
        {"content_type": "application/json"},
        415,
        "PATCH requires Content-Type of application/merge-patch+json, provided application/json",
    ),
]


@pytest.mark.parametrize(
    ("method", "path", "extra", "status", "text"), [e[1:] for e in ERRORS], ids=[e[0] for e in ERRORS]
)
def test_errors(ask: Asker, method: str, path: str, extra: dict[str, str], status: int, text: str) -> None:
    answer = ask(method, path, **extra)  # type: ignore[arg-type]  # a table of keywords
    assert answer.status == status
    assert json.loads(answer.body) == {"errors": [text] if text else []}
    assert answer.body.endswith(b"\n")


@pytest.mark.parametrize(
    ("header", "ttl"), [("60", 60), ("5m", 300), ("1h30m", 5400), ("500ms", 1), ("0", 0), ("0s", 0)]
)
def test_the_wish_for_wrapping_reaches_the_road(ask: Asker, header: str, ttl: int) -> None:
    ask("POST", "/v1/sys/echo", x_vault_wrap_ttl=header)
    assert ask.app.pipeline.calls[-1].wrap_ttl == ttl


@pytest.mark.parametrize("header", ["-5", "-0.5s", "soon", "1x", "999999999h"])
def test_a_bad_wish_for_wrapping_is_refused_rather_than_forgotten(ask: Asker, header: str) -> None:
    assert ask("POST", "/v1/sys/echo", x_vault_wrap_ttl=header).status == 400
    assert not ask.app.pipeline.calls


def test_two_tokens_are_refused(ask: Asker) -> None:
    headers = [(b"x-vault-token", b"root"), (b"x-vault-token", b"bad")]
    assert ask.door.handle("GET", b"/v1/transit/keys/a", b"", headers, b"", PEER).status == 400


def test_who_means_to_log_in_within_a_request_is_not_served_as_somebody_else(ask: Asker) -> None:
    """The peer's inline authentication, a second way in, is none here (CVE-2026-46358, GHSA-rh46)."""
    for token in ("", "root"):
        answer = ask(
            "GET", "/v1/transit/keys/a", token=token, x_vault_inline_auth_path="auth/userpass/login/ann"
        )
        assert answer.status == 400
        assert b"inline authentication is not available" in answer.body
    assert not ask.app.pipeline.calls


@pytest.mark.parametrize(
    ("authorization", "status"),
    [("Bearer root", 200), ("bearer root", 403), ("Basic root", 403), ("Bearer x", 403)],
)
def test_bearer(ask: Asker, authorization: str, status: int) -> None:
    assert ask("GET", "/v1/transit/keys/a", token="", authorization=authorization).status == status


def test_the_token_header_beats_bearer(ask: Asker) -> None:
    assert ask("GET", "/v1/transit/keys/a", authorization="Bearer x").status == 200


def test_a_call_carries_what_the_client_sent(ask: Asker) -> None:
    answer = ask("POST", "/v1/sys/echo/app", b'{"key_version":"3","ttl":"1h","name":"evil"}')
    call = ask.app.pipeline.calls[-1]
    assert call.args["name"] == "app"
    assert (call.args["key_version"], call.args["ttl"], call.args["plaintext"]) == (3, 3600, None)
    assert call.given == {"name", "key_version", "ttl"}
    assert (call.path, call.peer, call.door, call.credential) == ("sys/echo/app", PEER, "vault", "root")
    assert UUID7.fullmatch(call.request_id)
    assert json.loads(answer.body)["request_id"] == call.request_id


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("LIST", "transit/keys"),
        ("LIST", "transit/keys/"),
        ("GET", "transit/keys?list=true"),
        ("GET", "transit/keys/?list=1"),
    ],
)
def test_lists_have_one_path(ask: Asker, method: str, path: str) -> None:
    assert _data(ask(method, f"/v1/{path}"))["path"] == "transit/keys/"
    assert ask.app.pipeline.calls[-1].operation.capability is Capability.LIST


@pytest.mark.parametrize(
    ("verb", "capability"),
    [
        ("GET", "read"),
        ("LIST", "list"),
        ("POST", "update"),
        ("PUT", "update"),
        ("DELETE", "delete"),
        ("PATCH", "patch"),
    ],
)
def test_what_does_not_exist_asks_policy_for_its_verb(ask: Asker, verb: str, capability: str) -> None:
    ask(verb, "/v1/nosuch/thing", content_type="application/merge-patch+json")
    assert ask.app.pipeline.calls[-1].operation.capability == capability


def test_query_parameters_are_the_fields_of_a_read(ask: Asker) -> None:
    answer = ask("GET", "/v1/transit/keys/a?x=1")
    assert json.loads(answer.body)["warnings"] == ["Endpoint ignored these unrecognized parameters: [x]"]


def test_serials_are_free_and_names_are_not(ask: Asker) -> None:
    assert ask("POST", "/v1/sys/serial/aa:bb").status == 200
    assert ask("POST", "/v1/sys/echo/aa:bb").status == 400


ANSWERS = [
    ("POST", "sys/nothing", 204, b""),
    ("GET", "sys/raw", 200, b'{"a":{"c":null,"z":1},"b":"\\u003c\\u0026\\u003e\\u2028"}\n'),
    (
        "GET",
        "sys/quoting",
        200,
        (
            b'{"request_id":"ID","lease_id":"","renewable":false,"lease_duration":0,'
            b'"data":{"a":{"c":null,"z":1},"b":"\\u003c\\u0026\\u003e\\u2028"},'
            b'"wrap_info":null,"warnings":null,"auth":null}\n'
        ),
    ),
    (
        "POST",
        "sys/warn",
        200,
        (
            b'{"request_id":"ID","lease_id":"","renewable":false,"lease_duration":0,"data":null,'
            b'"wrap_info":null,"warnings":["careful"],"auth":null}\n'
        ),
    ),
    (
        "POST",
        "sys/auth",
        200,
        (
            b'{"request_id":"ID","lease_id":"","renewable":false,"lease_duration":0,"data":null,"wrap_info":null,'
            b'"warnings":null,"auth":{"client_token":"hvs.x","accessor":"acc","policies":["root"],"renewable":false}}\n'
        ),
    ),
    ("GET", "sys/document", 200, b"-----BEGIN"),
]


@pytest.mark.parametrize(("method", "path", "status", "body"), ANSWERS, ids=[a[1] for a in ANSWERS])
def test_answers(ask: Asker, method: str, path: str, status: int, body: bytes) -> None:
    answer = ask(method, f"/v1/{path}")
    assert answer.status == status
    assert UUID7.sub("ID", answer.body.decode()).encode() == body


def test_injected_keys(ask: Asker) -> None:
    body = json.loads(ask("GET", "/v1/sys/injected").body)
    assert body["b"] == body["data"]["b"]
    assert body["auth"] is None


def test_a_document_keeps_its_type(ask: Asker) -> None:
    assert ask("GET", "/v1/sys/document").content_type == "application/pem-certificate-chain"


def test_partial_failure(ask: Asker) -> None:
    answer = ask("POST", "/v1/sys/partial")
    assert (answer.status, _data(answer)) == (400, {"batch_results": [{"error": "x"}]})


def test_receipts(ask: Asker) -> None:
    assert ("X-Keystead-Receipt", "keystead/test,seg,1,00") in ask("POST", "/v1/sys/nothing").headers
    assert not ask("GET", "/v1/sys/health").headers


def test_a_crash_is_generic_recorded_and_logged_without_its_text(ask: Asker) -> None:
    answer = ask("POST", "/v1/sys/crash")
    (text,) = json.loads(answer.body)["errors"]
    crashed = ask.app.pipeline.crashes[-1]
    assert answer.status == 500
    assert crashed.request_id in text
    line = json.loads(ask.lines.read_bytes())
    assert (line["error"], line["request_id"]) == ("ZeroDivisionError", crashed.request_id)
    assert "canary" not in ask.lines.read_text() + answer.body.decode()
    assert any("fake.py" in frame for frame in line["stack"])


def test_every_kind_of_error_has_a_form() -> None:
    assert set(TABLE) == set(ErrorKind)


def test_errors_may_carry_data_and_a_code() -> None:
    answer = render_error(KmsError(ErrorKind.INVALID, "x", data={"a": 1}, status=422))
    assert (answer.status, answer.body) == (422, b'{"data":{"a":1},"errors":["x"]}\n')


def test_refusals_of_credentials_never_say_more() -> None:
    for kind in (ErrorKind.UNAUTHENTICATED, ErrorKind.DENIED, ErrorKind.SEALED):
        assert b"canary" not in render_error(KmsError(kind, "canary")).body


def test_numbers_come_back_as_they_were_sent(ask: Asker) -> None:
    sent = b'{"b":123456789012345678901234567890,"n":1.50}'
    assert sent in ask("POST", "/v1/sys/echo", b'{"anything":' + sent + b"}").body


def test_custom_renderers_decide_alone() -> None:
    route = Route("GET", "x", "sys.health", render=lambda _result: Rendered(472, b"x"))
    assert render(route, Result({"a": 1}), "id").status == 472


def test_missing_no_route_refuses_to_start() -> None:
    app = FakeApp()
    app.registry = {name: op for name, op in app.registry.items() if name != "sys.no_route"}
    with pytest.raises(ValueError, match=r"sys\.no_route"):
        Door(app, OperatorLog())


SAME = [
    ("GET", "/v1/transit/nosuch", "", b""),
    ("GET", "/v1/nosuch/thing", "", b""),
    ("POST", "/v1/nosuch/thing", "", b"{}"),
    ("DELETE", "/v1/transit/encrypt/a", "", b""),
    ("POST", "/v1/transit/keys/a/", "", b""),
    ("GET", "/v1/transit/keys?list=foo", "", b""),
    ("GET", "/v1/transit/keys/a/", "", b""),
    ("GET", "/v1/transit/keys", "", b""),
    ("GET", "/v1/transit/keys/", "", b""),
    ("GET", "/v1/transit/%2e%2e/sys", "", b""),
    ("FOO", "/v1/transit/keys/a", "", b""),
    ("GET", "/v2/x", "", b""),
    ("GET", "/v1", "", b""),
    ("POST", "/v1/transit/encrypt/a", "", b"bad"),
    ("POST", "/v1/transit/encrypt/a", "", b"{bad"),
    ("POST", "/v1/transit/encrypt/a", "", b'{"a":1,}'),
    ("POST", "/v1/transit/encrypt/a", "", b'{"a":'),
    ("POST", "/v1/transit/encrypt/a", "", b"[]"),
    ("POST", "/v1/transit/encrypt/a", "", b'"x"'),
    ("POST", "/v1/transit/encrypt/a", "", b"5"),
    ("POST", "/v1/transit/encrypt/a", "", b'{"x":' + b"[" * 100_000),
    ("POST", "/v1/transit/encrypt/a", "application/x-www-form-urlencoded", b"%zz"),
    ("PATCH", "/v1/transit/keys/a", "application/json", b"{}"),
]


def test_the_real_server_says_the_same(ask: Asker, tmp_path: Path) -> None:
    differences = []
    with real_bao(tmp_path) as port:
        for method, path, kind, body in SAME:
            headers = {"X-Vault-Token": "root"} | ({"Content-Type": kind} if kind else {})
            status, _, theirs = exchange(port, method, path, headers, body)
            ours = ask(method, path, body, **({"content_type": kind} if kind else {}))
            # A trailing comma is named by its position: they quote the comma, we the brace.
            if (status, theirs) != (ours.status, ours.body):
                differences.append((method, path, body[:20], (status, theirs), (ours.status, ours.body)))
        envelope = exchange(port, "GET", "/v1/transit/keys?list=true", {"X-Vault-Token": "root"})[2]
        redirect = exchange(port, "POST", "/v1/transit//keys/z", {"X-Vault-Token": "root"})
    assert differences == []
    theirs_keys = list(json.loads(envelope))
    assert list(json.loads(ask("GET", "/v1/transit/keys?list=true").body)) == theirs_keys
    ours = ask("POST", "/v1/transit//keys/z")
    assert (ours.status, dict(ours.headers)["Location"]) == (redirect[0], redirect[1]["location"])


def test_escapes_are_those_of_go() -> None:
    assert encode({"a": "<>&\u2028\u2029é"}) == b'{"a":"\\u003c\\u003e\\u0026\\u2028\\u2029\xc3\xa9"}'
