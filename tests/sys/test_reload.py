"""sys/config/reload and SIGHUP: new files are read, such as cannot be used are refused, and nobody is cut off."""

from __future__ import annotations

import os
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path

import hvac
import pytest

from tests.harness.api import Api
from tests.harness.bao import Bao
from tests.harness.dev import ConfiguredServer
from tests.harness.processes import wait_for
from tests.harness.tls import TlsServer, self_signed

UNKNOWN = ["1 error occurred:\n\t* unsupported path\n\n"]
PATIENCE = 30.0


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    server = TlsServer(tmp_path_factory.mktemp("reloaded"))
    blocked = server.folder / "blocked"
    blocked.write_text("00" * 32 + "\n")
    more = f'[pki]\nblocklist = "{blocked}"\n'
    server.setup(more)
    yield server
    server.stop()


def _presented(server: TlsServer) -> str:
    return ssl.get_server_certificate(("127.0.0.1", server.port))


def _processes(server: ConfiguredServer) -> set[int]:
    return {one.pid for one in server.tree()}


def _replaced(server: ConfiguredServer, before: set[int]) -> bool:
    """Whether two workers are others, and the first process, the arbiter and the jobs are not."""
    now = _processes(server)
    return len(now) == len(before) and len(now & before) == len(before) - 2


def test_a_new_certificate_is_served_once_it_is_asked_for(served: TlsServer, tmp_path: Path) -> None:
    first = served.trust.read_text()
    context = served.context()
    self_signed(served.folder / "server.key", served.trust)
    second = served.trust.read_text()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # which one it is, is looked at below
    assert _presented(served) == first
    before = _processes(served)
    trusted = tmp_path / "first.pem"
    trusted.write_text(first)
    bao = Bao(served.address, served.token, tmp_path)
    bao.environment["BAO_CACERT"] = str(trusted)
    bao("write", "-f", "sys/config/reload/tls")

    def all_new() -> bool:
        with Api(served.address, served.token, verify=context) as api:
            api.ok("GET", "sys/mounts")  # every request is answered, by old workers and by new ones
        return [_presented(served) for _ in range(8)] == [second] * 8 and _replaced(served, before)

    wait_for(all_new, PATIENCE, "the new certificate everywhere")


def test_what_cannot_be_used_is_refused_and_changes_nothing(served: TlsServer) -> None:
    context, shown, key = served.context(), _presented(served), served.folder / "server.key"
    blocked = served.folder / "blocked"
    before, kept, listed = _processes(served), key.read_bytes(), blocked.read_text()
    with Api(served.address, served.token, verify=context) as api:
        self_signed(key, served.folder / "other.pem")
        answer = api.post("sys/config/reload/tls", {})
        assert (answer.status, answer.errors) == (
            400,
            ["cannot load tls.certificate and tls.key; do they match?"],
        )
        os.kill(served.pid, signal.SIGHUP)
        wait_for(lambda: "reload_refused" in served.errors.read_text(), PATIENCE, "the refusal in the log")
        key.write_bytes(kept)
        blocked.write_text("no list\n")
        answer = api.post("sys/config/reload/blocklist", {})
        assert answer.status == 400
        assert "pki.blocklist" in answer.errors[0]
        blocked.write_text(listed)
        for name in ("nope", "license", "TLS"):
            answer = api.post(f"sys/config/reload/{name}", {})
            assert (answer.status, answer.errors) == (404, UNKNOWN)
        assert api.call("GET", "sys/config/reload/tls").status == 405
    assert _processes(served) == before
    assert _presented(served) == shown


@pytest.mark.parametrize("subsystem", ["blocklist", "audit"])
def test_other_names_replace_the_workers_too(served: TlsServer, subsystem: str) -> None:
    before = _processes(served)
    client = hvac.Client(served.address, served.token, verify=str(served.trust))
    client.write_data(f"sys/config/reload/{subsystem}", data={})
    client.adapter.close()
    wait_for(lambda: _replaced(served, before), PATIENCE, "other workers")
    wait_for(served.answers, PATIENCE, "an answer")


def test_only_with_sudo(served: TlsServer) -> None:
    policy = 'path "sys/config/reload/*" { capabilities = ["create", "update"] }'
    with served.api() as api:
        api.ok("POST", "sys/policies/acl/reloader", {"policy": policy})
        made = api.post("auth/token/create", {"policies": ["reloader"]}).json["auth"]["client_token"]
    with served.api(made) as api:
        assert api.post("sys/config/reload/tls", {}).status == 403
