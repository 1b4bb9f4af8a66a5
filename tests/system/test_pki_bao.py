"""`bao pki`: a hierarchy made, verified, listed, issued anew and looked over by the real client's own commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from cryptography import x509

from tests.harness.api import Api
from tests.harness.bao import Bao


def _certificate(api: Api, issuer: str) -> x509.Certificate:
    pem: str = api.get(issuer).data["certificate"]
    return x509.load_pem_x509_certificate(pem.encode())


def test_a_hierarchy_by_the_clients_own_commands(api: Api, bao: Bao, mount: Callable[[str], str]) -> None:
    top, middle, low = mount("pki"), mount("pki"), mount("pki")
    root = {"common_name": "CLI Root", "key_type": "ec", "ttl": "700h", "issuer_name": "root"}
    api.ok("POST", f"{top}/root/generate/internal", root)
    # A CSR, its signature and its import, into one mount and on into the next.
    for parent, child, name, ttl in (
        (f"{top}/issuer/root", middle, "middle", "600h"),
        (f"{middle}/issuer/middle", low, "low", "500h"),
    ):
        said = [f"common_name=CLI {name}", "key_type=ec", f"ttl={ttl}"]
        bao("pki", "issue", f"-issuer_name={name}", f"/{parent}", f"/{child}/", *said)
    first, last = _certificate(api, f"{middle}/issuer/middle"), _certificate(api, f"{low}/issuer/low")
    last.verify_directly_issued_by(first)

    verified: dict[str, Any] = json.loads(
        bao("pki", "verify-sign", "-format=json", f"{top}/issuer/root", f"{middle}/issuer/middle")
    )
    wanted = ("key_id_match", "path_match", "signature_match", "subject_match", "trust_match")
    assert verified == dict.fromkeys(wanted, True)

    below: dict[str, bool] = json.loads(
        bao("pki", "list-intermediates", "-format=json", f"/{top}/issuer/root", f"/{middle}", f"/{low}")
    )

    def named(path: str, name: str) -> str:
        return f"{path}/issuer/{api.get(f'{path}/issuer/{name}').data['issuer_id']}"

    # What the root itself signed, and not what is further below.
    assert (below[named(middle, "middle")], below[named(low, "low")]) == (True, False)

    # The same subject again, with another key.
    bao(
        "pki",
        "reissue",
        "-issuer_name=again",
        f"/{top}/issuer/root",
        f"/{middle}/issuer/middle",
        f"/{middle}/",
        "ttl=400h",
    )
    again = _certificate(api, f"{middle}/issuer/again")
    assert again.subject == first.subject
    assert again.public_key() != first.public_key()
    assert again.serial_number != first.serial_number


def test_the_health_check_reads_all_that_it_asks_for(api: Api, bao: Bao, mount: Callable[[str], str]) -> None:
    path = mount("pki")
    root = {"common_name": "CLI Root", "key_type": "ec", "ttl": "700h"}
    api.ok("POST", f"{path}/root/generate/internal", root)
    api.ok("POST", f"{path}/roles/web", {"allow_any_name": True, "key_type": "ec", "max_ttl": "24h"})
    leaf = api.ok("POST", f"{path}/issue/web", {"common_name": "a.example.com"})
    done = bao.run("pki", "health-check", "-format=json", path)
    assert done.returncode in {2, 3, 4}, done.stderr  # it has something to say
    found = {check: {one["status"] for one in results} for check, results in json.loads(done.stdout).items()}
    # What it could not read it would report as such.
    expected = {
        "ca_validity_period": {"critical"},  # a root of a month
        "crl_validity_period": {"ok"},
        "enable_auto_tidy": {"informational"},
        "root_issued_leaves": {"warning"},
        "tidy_last_run": {"critical"},
        "too_many_certs": {"ok"},
    }
    assert {check: found[check] for check in expected} == expected
    said = [one["message"] for one in json.loads(done.stdout)["root_issued_leaves"]]
    assert any(leaf["serial_number"] in message for message in said)
