"""Root, intermediate, certificate, a real mTLS connection through nginx, and its end by revocation."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from tests.harness.api import Api
from tests.harness.nginx import GREETING, Nginx
from tests.system import authority as ca


@pytest.fixture
def authority(api: Api) -> ca.Authority:
    return ca.build(api)


def test_revoked_certificate_is_refused_by_nginx(
    authority: ca.Authority, nginx: Nginx, tmp_path: Path
) -> None:
    roots = ca.serve(authority, nginx, tmp_path)
    first = ca.save(authority.issue("billing"), tmp_path, "billing")
    second = ca.save(authority.issue("orders"), tmp_path, "orders")
    for identity in (first, second):
        visit = nginx.visit(roots, identity.certificate, identity.key)
        assert GREETING in visit.stdout, visit

    authority.revoke(first.serial)
    nginx.put(crl_pem=authority.crls())
    nginx.reload()
    refused = nginx.visit(roots, first.certificate, first.key)
    assert GREETING not in refused.stdout
    assert "400" in refused.stdout or refused.returncode != 0
    assert GREETING in nginx.visit(roots, second.certificate, second.key).stdout


def test_stranger_is_refused_by_nginx(
    authority: ca.Authority, api: Api, nginx: Nginx, tmp_path: Path
) -> None:
    roots = ca.serve(authority, nginx, tmp_path)
    stranger = ca.save(ca.build(api).issue("billing"), tmp_path, "stranger")
    assert GREETING not in nginx.visit(roots, stranger.certificate, stranger.key).stdout


def test_openssl_verifies_the_chain(authority: ca.Authority, tmp_path: Path) -> None:
    identity = ca.save(authority.issue("billing"), tmp_path, "billing")
    roots, crls = tmp_path / "roots.pem", tmp_path / "crls.pem"
    roots.write_text(authority.roots())

    def verify() -> subprocess.CompletedProcess[str]:
        crls.write_text(authority.crls())
        command = [
            "openssl",
            "verify",
            "-x509_strict",
            "-purpose",
            "sslclient",
            "-crl_check_all",
            "-CRLfile",
            str(crls),
        ]
        command += ["-CAfile", str(roots), "-untrusted", str(identity.certificate), str(identity.certificate)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert verify().returncode == 0, verify()
    authority.revoke(identity.serial)
    assert "certificate revoked" in verify().stderr


def test_leaf_lives_hours_by_default(authority: ca.Authority) -> None:
    leaf = x509.load_pem_x509_certificate(authority.issue("billing")["certificate"].encode())
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc <= timedelta(hours=73)
    assert isinstance(leaf.public_key(), ec.EllipticCurvePublicKey)


def test_issued_certificate_is_listed_and_read_back(authority: ca.Authority) -> None:
    issued = authority.issue("billing")
    serials = authority.api.ok("LIST", f"{authority.issuing}/certs")["keys"]
    assert issued["serial_number"] in [serial.replace("-", ":") for serial in serials]
    read = authority.api.ok("GET", f"{authority.issuing}/cert/{issued['serial_number']}")
    assert read["certificate"].strip() == issued["certificate"].strip()
    assert read["revocation_time"] == 0


def test_private_key_of_a_leaf_is_given_once(authority: ca.Authority) -> None:
    issued = authority.issue("billing")
    read = authority.api.get(f"{authority.issuing}/cert/{issued['serial_number']}")
    assert "PRIVATE KEY" in issued["private_key"]
    assert b"PRIVATE" not in read.content


def test_revoking_twice_changes_nothing(authority: ca.Authority) -> None:
    serial = authority.issue("billing")["serial_number"]
    first = authority.revoke(serial)
    second = authority.revoke(serial)
    assert first["revocation_time"] == second["revocation_time"]
    crl = x509.load_der_x509_crl(authority.api.get(f"{authority.issuing}/crl").content)
    entries = [entry for entry in crl if entry.serial_number == int(serial.replace(":", ""), 16)]
    assert len(entries) == 1
