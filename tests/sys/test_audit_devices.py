"""Audit devices: the real server's lines, its blocking, and the bounds that no API widens."""

from __future__ import annotations

import http.server
import json
import os
import re
import secrets
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import hvac
import pytest

from tests.harness.bao import Bao
from tests.harness.dev import DevServer
from tests.harness.processes import free_port, wait_for
from tests.sys.sides import Side, device, real_server

HASHED = re.compile(r"hmac-sha256:[0-9a-f]{64}\Z")
# Members of their lines that ours has no fact for, and the other way round.
THEIRS_ONLY = {"token_issue_time", "remote_port", "client_id", "namespace_id", "mount_accessor"}
OURS_ONLY = {"mount_accessor"}
Name = Callable[[str], str]


@pytest.fixture
def ours(server: DevServer) -> Iterator[Side]:
    side = Side(server.address, server.token)
    yield side
    side.close()


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Side]:
    with real_server(tmp_path_factory.mktemp("bao")) as side:
        yield side


def devices_folder(server: DevServer) -> Path:
    return server.data / "devices"


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def about(lines: list[dict[str, Any]], path: str, kind: str) -> dict[str, Any]:
    found = [line for line in lines if line["request"]["path"] == path and line["type"] == kind]
    assert found, (path, kind, [line["request"]["path"] for line in lines])
    return found[-1]


def form(value: Any, without: set[str]) -> Any:
    """Names, types, what is hashed and what is clear; not the values."""
    if isinstance(value, dict):
        return {name: form(each, without) for name, each in sorted(value.items()) if name not in without}
    if isinstance(value, list):
        return [form(each, without) for each in value]
    if isinstance(value, str):
        return "hashed" if HASHED.match(value) else "clear"
    return type(value).__name__


def drive(side: Side, mount: str) -> None:
    side.ask("POST", f"sys/mounts/{mount}", {"type": "transit", "description": "d"})
    side.ask("POST", f"{mount}/keys/k", {"type": "aes256-gcm96"})
    side.ask("POST", f"{mount}/encrypt/k", {"plaintext": "aGVsbG8=", "associated_data": "YWQ="})
    side.ask("LIST", f"{mount}/keys")
    side.ask("GET", f"{mount}/keys/none")
    side.ask("POST", f"{mount}/encrypt/k", {"plaintext": "!"})
    side.ask("GET", "sys/mounts", token="wrong")
    side.ask("GET", f"sys/mounts/{mount}/tune", X_Vault_Wrap_TTL="60")
    side.ask("POST", "cubbyhole/x", {"a": "text", "b": 5, "c": [True, "y"]})
    side.ask("DELETE", f"sys/mounts/{mount}")


def test_lines_are_those_of_the_real_server(
    ours: Side, theirs: Side, server: DevServer, tmp_path: Path
) -> None:
    """The same requests to both: the same lines, but for facts that one of the two does not have."""
    mount = f"m-{secrets.token_hex(3)}"
    here, there = devices_folder(server) / f"{mount}.log", tmp_path / "there.log"
    for side, path in ((ours, here), (theirs, there)):
        with device(side, path):
            drive(side, mount)
    mine, other = lines_of(here), lines_of(there)
    compared = 0
    for asked, kinds in {
        "sys/audit/test": ("request",),
        f"sys/mounts/{mount}": ("request", "response"),
        f"{mount}/keys/k": ("request",),
        f"{mount}/encrypt/k": ("request", "response"),
        f"{mount}/keys/": ("request", "response"),
        f"sys/mounts/{mount}/tune": ("request", "response"),
        "cubbyhole/x": ("request", "response"),
    }.items():
        for kind in kinds:
            a, b = about(mine, asked, kind), about(other, asked, kind)
            a.pop("error", None)  # of the refused encryption; texts have their own test
            b.pop("error", None)
            b.get("response", {}).pop("data", None) if "error" in str(b.get("response")) else None
            left, right = form(a, THEIRS_ONLY), form(b, THEIRS_ONLY)
            assert left == right, (asked, kind)
            compared += 1
    assert compared >= 12
    # A wrong token leaves a line on both; theirs asks before it knows anything.
    refused = [line for line in mine if line.get("error") == "permission denied"]
    assert [line["type"] for line in refused] == ["request", "response"]
    assert refused[0]["auth"] == {"token_type": "default", "policy_results": {"allowed": False}}


def test_lines_name_the_namespace(ours: Side, theirs: Side, server: DevServer, tmp_path: Path) -> None:
    """In a namespace: whose the mount, the path and the policy are, as the real server says it."""
    name = f"n-{secrets.token_hex(3)}"
    here, there = devices_folder(server) / f"{name}.log", tmp_path / "there.log"
    for side, path in ((ours, here), (theirs, there)):
        side.data("POST", f"sys/namespaces/{name}", {})
        with device(side, path):
            body = {"policies": ["default"]}
            made = side.ask("POST", "auth/token/create", body, X_Vault_Namespace=name)[1]["auth"]
            side.ask("GET", f"{name}/auth/token/lookup-self", token=made["client_token"])
            side.ask("GET", "sys/mounts", X_Vault_Namespace=name, token=made["client_token"])
    mine, other = lines_of(here), lines_of(there)
    for asked in ("auth/token/create", "auth/token/lookup-self", "sys/mounts"):
        for kind in ("request", "response"):
            a, b = about(mine, asked, kind), about(other, asked, kind)
            for line in (a, b):
                line.pop("error", None)
                line.get("response", {}).get("auth", {}).pop("display_name", None)
                if asked != "auth/token/create":
                    line.get("response", {}).pop("data", None)
            assert form(a, THEIRS_ONLY | {"token_ttl"}) == form(b, THEIRS_ONLY | {"token_ttl"}), (asked, kind)
            for part in ("mount_point", "mount_type", "mount_class", "path"):
                assert a["request"][part] == b["request"][part], (asked, part)
            assert a["request"]["namespace"]["path"] == b["request"]["namespace"]["path"] == f"{name}/"
    told, real = (about(lines, "auth/token/lookup-self", "request")["auth"] for lines in (mine, other))
    assert told["policies"] == real["policies"] == ["default"]
    (granted,), (theirs_granted,) = (each["policy_results"]["granting_policies"] for each in (told, real))
    assert granted["namespace_path"] == theirs_granted["namespace_path"] == f"{name}/"


def test_audit_hash_finds_a_text_again(ours: Side, server: DevServer) -> None:
    """The HMAC in the line is the one that sys/audit-hash tells; another device has another."""
    path, second = (devices_folder(server) / f"{secrets.token_hex(4)}.log" for _ in range(2))
    with device(ours, path) as name, device(ours, second) as other:
        ours.data("POST", "sys/tools/hash", {"input": "c2VjcmV0"})
        line = about(lines_of(path), "sys/tools/hash", "request")
        told = [
            ours.data("POST", f"sys/audit-hash/{each}", {"input": "c2VjcmV0"})["hash"]
            for each in (name, other)
        ]
    assert line["request"]["data"] == {"input": told[0]}
    assert told[0] != told[1]
    assert "c2VjcmV0" not in path.read_text()
    assert server.token not in path.read_text()


def test_texts_of_the_api(ours: Side, theirs: Side, server: DevServer, tmp_path: Path) -> None:
    """Refusals of sys/audit in the real server's words."""
    refusals: list[list[Any]] = []
    for side, folder in ((ours, devices_folder(server)), (theirs, tmp_path)):
        path = str(folder / f"{secrets.token_hex(4)}.log")
        name = f"t-{secrets.token_hex(3)}"
        side.data("POST", f"sys/audit/{name}", {"type": "file", "options": {"file_path": path}})
        rows: list[Any] = [
            side.ask("POST", target, body)[0:2]
            for target, body in (
                (f"sys/audit/{name}", {"type": "file", "options": {"file_path": path}}),
                (f"sys/audit/{name}/below", {"type": "file", "options": {"file_path": path}}),
                ("sys/audit/new", {"type": "nope"}),
                ("sys/audit/new", {"options": {}}),
                ("sys/audit/new", {"type": "file", "options": {}}),
                ("sys/audit/new", {"type": "socket", "options": {}}),
                ("sys/audit/new", {"type": "http", "options": {}}),
                ("sys/audit/new", {"type": "file", "options": {"file_path": "discard", "format": "jsonx"}}),
                ("sys/audit-hash/no-such-device", {"input": "x"}),
                (f"sys/audit-hash/{name}", {}),
            )
        ]
        rows.append(side.ask("DELETE", "sys/audit/no-such-device")[0])
        rows.append(side.ask("GET", f"sys/audit/{name}")[0:2])
        shown = side.data("GET", "sys/audit")[f"{name}/"]
        assert shown.pop("options") == {"file_path": path}
        rows.append({**shown, "path": "p"})
        side.data("DELETE", f"sys/audit/{name}")
        rows.append(name in str(side.data("GET", "sys/audit")))
        refusals.append(rows)
    assert refusals[0] == refusals[1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"file_path": "/etc/passwd"}, "folders that the configuration names"),
        ({"file_path": "{folder}/../x.log"}, "folders that the configuration names"),
        ({"file_path": "{folder}/a/../../x.log"}, "folders that the configuration names"),
        ({"file_path": "{folder}/.hidden"}, "folders that the configuration names"),
        ({"file_path": "{folder}/below/x.log"}, "folders that the configuration names"),
        ({"file_path": "relative.log"}, "folders that the configuration names"),
        ({"file_path": "{folder}//x.log"}, "folders that the configuration names"),
        ({"file_path": "{folder}/x.log", "mode": "0755"}, "never executable"),
        ({"file_path": "{folder}/x.log", "mode": "0622"}, "never executable"),
        ({"file_path": "{folder}/x.log", "mode": "04600"}, "never executable"),
        ({"file_path": "{folder}/x.log", "mode": "rw"}, "not octal"),
        ({"file_path": "{folder}/x.log", "log_raw": "true"}, "log_raw"),
        ({"file_path": "{folder}/x.log", "prefix": "#!/bin/sh "}, "prefixing"),
        ({"file_path": "{folder}/x.log", "hmac_accessor": "perhaps"}, "true or false"),
        ({"file_path": "{folder}/x.log", "format": "xml"}, "format"),
        ({"file_path": "{folder}/link.log"}, "test message"),
        ({"file_path": "{folder}/fifo.log"}, "test message"),
        ({"file_path": "{folder}/folder.log"}, "test message"),
    ],
)
def test_no_api_chooses_another_place(
    ours: Side, server: DevServer, tmp_path: Path, options: dict[str, str], said: str
) -> None:
    """CVE-2025-6000: nothing is written outside, through links, or so that it could be executed."""
    folder = devices_folder(server)
    outside = tmp_path / "outside"
    link, fifo, below = (folder / name for name in ("link.log", "fifo.log", "folder.log"))
    link.symlink_to(outside)
    if not fifo.exists():
        os.mkfifo(fifo)
    below.mkdir(exist_ok=True)
    filled = {name: value.replace("{folder}", str(folder)) for name, value in options.items()}
    status, body = ours.ask(
        "POST", f"sys/audit/x-{secrets.token_hex(3)}", {"type": "file", "options": filled}
    )
    link.unlink()
    assert (status, said in body["errors"][0]) == (400, True), body
    assert not outside.exists()
    assert not (folder / "x.log").exists()


@pytest.mark.parametrize(
    "address", ["10.0.0.1:80", "169.254.169.254:80", "0.0.0.0:1", "no-port", "[fe80::1]:80"]
)
def test_devices_connect_where_the_configuration_allows(ours: Side, address: str) -> None:
    for body in (
        {"type": "socket", "options": {"address": address}},
        {"type": "http", "options": {"uri": f"http://{address}/"}},
    ):
        status, answer = ours.ask("POST", "sys/audit/outward", body)
        assert status == 400, answer
    assert "outward/" not in ours.data("GET", "sys/audit")


def test_a_request_that_no_device_takes_is_not_served(ours: Side) -> None:
    """The collector goes: 503 and nothing done; with a second device that takes it, service goes on."""
    mount = f"m-{secrets.token_hex(3)}"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepted: list[socket.socket] = []
        threading.Thread(target=lambda: accepted.append(listener.accept()[0]), daemon=True).start()
        options = {"address": f"127.0.0.1:{listener.getsockname()[1]}", "write_timeout": "2s"}
        ours.data("POST", "sys/audit/wire", {"type": "socket", "options": options})
        wait_for(lambda: bool(accepted), 20, "the test line")
    try:
        for each in accepted:
            each.close()
        status, body = ours.ask("POST", f"sys/mounts/{mount}", {"type": "transit"})
        assert (status, body) == (503, {"errors": ["the audit log cannot take a record; try again shortly"]})
        # Health and its kin are not audited, and who mends it gets through.
        assert ours.ask("GET", "sys/health", token="")[0] == 200
        assert (
            ours.ask("POST", "sys/audit/second", {"type": "file", "options": {"file_path": "discard"}})[0]
            == 503
        )
    finally:
        assert ours.ask("DELETE", "sys/audit/wire")[0] == 204
    assert f"{mount}/" not in ours.data("GET", "sys/mounts")


def test_one_device_of_two_is_enough(ours: Side, server: DevServer) -> None:
    path = devices_folder(server) / f"{secrets.token_hex(4)}.log"
    port = free_port()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", port))
        receiver.settimeout(20)
        options = {"address": f"127.0.0.1:{port}", "socket_type": "udp"}
        ours.data("POST", "sys/audit/datagrams", {"type": "socket", "options": options})
        assert json.loads(receiver.recv(65_536))["request"]["path"] == "sys/audit/test"
    try:
        with device(ours, path):
            for _ in range(8):
                assert ours.ask("GET", "sys/policies/acl/default", Connection="close")[0] == 200
            assert (
                len([1 for line in lines_of(path) if line["request"]["path"] == "sys/policies/acl/default"])
                == 16
            )
    finally:
        ours.data("DELETE", "sys/audit/datagrams")


def test_every_worker_writes_whole_lines_at_once(ours: Side, server: DevServer) -> None:
    """200 requests on connections of their own, by 16 at a time: two whole lines each, from the first request on."""
    path = devices_folder(server) / f"{secrets.token_hex(4)}.log"
    marks = [secrets.token_hex(8) for _ in range(200)]
    with device(ours, path), ThreadPoolExecutor(16) as pool:

        def once(mark: str) -> int:
            return ours.ask("POST", f"sys/tools/hash/{mark}", {"input": "YWJj" * 200}, Connection="close")[0]

        assert set(pool.map(once, marks)) == {400}
        lines = lines_of(path)
    for kind in ("request", "response"):
        seen = [line["request"]["path"].rpartition("/")[2] for line in lines if line["type"] == kind]
        assert sorted(mark for mark in seen if mark in marks) == sorted(marks)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_stays_clear(ours: Side, server: DevServer) -> None:
    """hmac_accessor, elide_list_responses, keys that the mount names, and request headers."""
    path = devices_folder(server) / f"{secrets.token_hex(4)}.log"
    mount = f"m-{secrets.token_hex(3)}"
    keys = {"audit_non_hmac_request_keys": ["context"], "audit_non_hmac_response_keys": "key_version,name"}
    ours.data("POST", f"sys/mounts/{mount}", {"type": "transit", "config": keys})
    ours.data("POST", f"{mount}/keys/k", {"derived": True})
    ours.data("POST", "sys/config/auditing/request-headers/x-plain", {})
    ours.data("POST", "sys/config/auditing/request-headers/x-hidden", {"hmac": True})
    options = {"hmac_accessor": "false", "elide_list_responses": "true"}
    accessor = ours.data("GET", "auth/token/lookup-self")["accessor"]
    try:
        with device(ours, path, options=options):
            body = {"plaintext": "aGVsbG8=", "context": "Y29udGV4dA=="}
            ours.ask("POST", f"{mount}/encrypt/k", body, X_Plain="seen", X_Hidden="unseen", X_Other="x")
            ours.ask("LIST", f"{mount}/keys")
            lines = lines_of(path)
    finally:
        for name in ("x-plain", "x-hidden"):
            ours.data("DELETE", f"sys/config/auditing/request-headers/{name}")
    line = about(lines, f"{mount}/encrypt/k", "response")
    assert line["request"]["data"]["context"] == "Y29udGV4dA=="
    assert HASHED.match(line["request"]["data"]["plaintext"])
    assert line["auth"]["accessor"] == line["request"]["client_token_accessor"] == accessor
    assert line["request"]["headers"]["x-plain"] == ["seen"]
    assert HASHED.match(line["request"]["headers"]["x-hidden"][0])
    assert set(line["request"]["headers"]) == {"x-plain", "x-hidden"}
    assert about(lines, f"{mount}/keys/", "response")["response"]["data"] == {"keys": 1}


def test_logins_and_what_they_answer(ours: Side, server: DevServer) -> None:
    path = devices_folder(server) / f"{secrets.token_hex(4)}.log"
    mount = f"up-{secrets.token_hex(3)}"
    ours.data("POST", f"sys/auth/{mount}", {"type": "userpass"})
    ours.data("POST", f"auth/{mount}/users/kim", {"password": "correct horse 9", "policies": "default"})
    with device(ours, path) as name:
        good = ours.ask("POST", f"auth/{mount}/login/kim", {"password": "correct horse 9"}, token="")
        ours.ask("POST", f"auth/{mount}/login/kim", {"password": "wrong horse"}, token="")
        token = good[1]["auth"]["client_token"]
        told = ours.data("POST", f"sys/audit-hash/{name}", {"input": token})["hash"]
    lines = [line for line in lines_of(path) if line["request"]["path"] == f"auth/{mount}/login/kim"]
    assert [line["type"] for line in lines] == ["request", "response"] * 2
    assert lines[1]["response"]["auth"]["client_token"] == told
    assert lines[1]["response"]["auth"]["policies"] == ["default"]
    assert lines[3]["error"]
    for secret in (token, "correct horse 9", "wrong horse"):
        assert secret not in path.read_text()


def test_anonymous_refusals_do_not_fill_a_disk(ours: Side, server: DevServer) -> None:
    """The first of a source are written in full, and no more in the same minute; those of known callers all are."""
    path = devices_folder(server) / f"{secrets.token_hex(4)}.log"
    with device(ours, path):
        for _ in range(200):
            ours.ask("GET", "sys/mounts", token="nobody")
        written = len([1 for line in lines_of(path) if line.get("error") == "permission denied"])
    assert written <= 2 * 20 * 4  # each of four workers counts its own


def enough(lines: list[bytes], mark: str) -> bool:
    """Whether each of the eight requests is there with its answer."""
    return b"".join(lines).count(b'/hash/%b"' % mark.encode()) == 16


class _Collector(http.server.BaseHTTPRequestHandler):
    received: list[bytes]

    def do_POST(self) -> None:
        """Keep the line."""
        self.received.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Quiet."""


def test_http_and_unix_sockets(ours: Side, server: DevServer) -> None:
    """Both get every line, from threads and not on an event loop."""
    received: list[bytes] = []
    handler = type("Handler", (_Collector,), {"received": received, "protocol_version": "HTTP/1.1"})
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    place = devices_folder(server) / "collector.sock"
    place.unlink(missing_ok=True)
    streamed: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen(16)

        def take() -> None:
            while True:
                try:
                    one, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=drain, args=(one,), daemon=True).start()

        def drain(one: socket.socket) -> None:
            with one, one.makefile("rb") as stream:
                streamed.extend(stream)

        threading.Thread(target=take, daemon=True).start()
        uri = f"http://127.0.0.1:{web.server_address[1]}/lines?from=test"
        headers = json.dumps({"X-Collector": "yes"})
        try:
            ours.data("POST", "sys/audit/web", {"type": "http", "options": {"uri": uri, "headers": headers}})
            unix = {"address": str(place), "socket_type": "unix"}
            ours.data("POST", "sys/audit/unix", {"type": "socket", "options": unix})
            mark = secrets.token_hex(8)
            for _ in range(8):  # over all workers
                ours.ask("POST", f"sys/tools/hash/{mark}", {}, Connection="close")
                ours.ask("GET", "auth/token/lookup-self", Connection="close")
            for lines in (received, streamed):
                wait_for(partial(enough, lines, mark), 30, "lines")
        finally:
            ours.data("DELETE", "sys/audit/web")
            ours.data("DELETE", "sys/audit/unix")
            web.shutdown()
            web.server_close()
    place.unlink()


def test_the_commands_and_the_library(bao: Bao, root: hvac.Client, server: DevServer) -> None:
    path = devices_folder(server) / f"{secrets.token_hex(4)}.log"
    bao("audit", "enable", "-path=cli", "file", f"file_path={path}")
    assert "cli/" in bao("audit", "list")
    assert root.sys.list_enabled_audit_devices()["data"]["cli/"]["type"] == "file"
    told = root.sys.calculate_hash(path="cli", input_to_hash="abc")["data"]["hash"]
    assert HASHED.match(told)
    bao("audit", "disable", "cli")
    root.sys.enable_audit_device("file", path="lib", options={"file_path": str(path)})
    root.sys.disable_audit_device("lib")
    assert "lib/" not in root.sys.list_enabled_audit_devices()["data"]
