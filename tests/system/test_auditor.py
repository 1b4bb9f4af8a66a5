"""An auditor over the API: copies the log, checks it, reads all metadata, and no secret."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.harness.api import Api
from tests.harness.dev import KEYSTEAD, DevServer, clean_environment
from tests.harness.log import entries


def test_an_auditor_proves_the_log_without_the_machine(
    server: DevServer, api: Api, mount: Callable[[str], str], tmp_path: Path
) -> None:
    path = mount("transit")
    body = {"exportable": True, "protection": "software", "type": "aes256-gcm96"}
    api.ok("POST", f"{path}/keys/audited", body)
    api.ok("PUT", "sys/policies/acl/silencer", {"policy": 'path "*" { capabilities = ["deny"] }'})
    created = api.post("auth/token/create", {"policies": ["auditor", "silencer"], "no_default_policy": True})
    with api.as_token(created.json["auth"]["client_token"]) as auditor:
        assert auditor.ok("GET", f"{path}/keys/audited")["name"] == "audited"
        assert "audited" in auditor.ok("LIST", f"{path}/keys")["keys"]
        assert auditor.ok("GET", "sys/mounts")
        told = auditor.ok(
            "POST", "sys/policies/explain", {"path": "a", "capability": "read", "policies": ["silencer"]}
        )
        assert told["why"] == "deny"
        for verb, where in (
            ("GET", f"{path}/export/encryption-key/audited"),
            ("POST", f"{path}/encrypt/audited"),
            ("DELETE", f"{path}/keys/audited"),
            ("GET", "sys/policies/password/x/generate"),
            ("DELETE", "sys/policies/acl/silencer"),
            ("GET", "cubbyhole/x"),
        ):
            assert auditor.call(verb, where).status == 403, where
        copy = tmp_path / "copy"
        info = auditor.ok("LIST", "sys/evidence")["key_info"]
        # The log grows meanwhile: the checkpoint is fetched before what it is about.
        for name in sorted(info, key=lambda name: ("segments/" in name, name)):
            target = copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            answer = auditor.call("GET", f"sys/evidence/{name}")
            assert answer.status == 200, name
            target.write_bytes(answer.content)
    assert (copy / "log.pub").read_bytes() == (server.audit / "log.pub").read_bytes()
    done = subprocess.run(
        [str(KEYSTEAD), "audit", "verify", "--trust", str(server.audit / "log.pub"), str(copy)],
        capture_output=True,
        text=True,
        env=clean_environment(tmp_path),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_log_goes_on_whatever_is_asked_of_the_api(server: DevServer, api: Api) -> None:
    for path in ("file", "log", "tamper-evident", "sys"):
        api.delete(f"sys/audit/{path}")
        api.call("POST", f"sys/audit/{path}", {"type": "file", "options": {"file_path": "discard"}})
        api.delete(f"sys/audit/{path}")
    answer = api.call("GET", "auth/token/lookup-self")
    assert answer.status == 200
    _origin, segment, seq, _leaf = answer.headers["x-keystead-receipt"].split(";")
    assert any((entry.segment, str(entry.seq)) == (segment, seq) for entry in entries(server.audit))
