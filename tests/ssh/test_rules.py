"""What no certificate says, whoever asks; keys that are none; one-time passwords."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given, settings
from hypothesis import strategies as st

from kms.errors import KmsError
from pki.ssh.model import SshRole
from pki.ssh.principals import principals
from pki.ssh.wire import PublicKey, mpint, of_key, parse_public_key, string, u64
from tests.harness.sshd import keygen, shown
from tests.pki.bench import Bench

LINE = of_key(ed25519.Ed25519PrivateKey.generate().public_key()).line
CA: dict[str, Any] = {"key_type": "ca", "allow_user_certificates": True, "allow_host_certificates": True}


@pytest.mark.parametrize(
    ("role", "kind", "asked"),
    [
        # CVE-2024-7594: a certificate for nobody in particular is one for everybody.
        ({"allowed_users": "*"}, "user", None),
        ({"allowed_users": "*"}, "user", ""),
        ({"allowed_users": "*", "default_user": "deploy"}, "user", " , "),
        ({"allowed_domains": "*"}, "host", None),
        ({"allowed_domains": "*", "default_user": "deploy"}, "host", None),
        ({"allowed_domains": "*"}, "host", "*"),
        ({"allowed_domains": "*"}, "host", "*.*"),
        ({"allowed_domains": "*"}, "host", "a?.example.test"),
        ({"allowed_domains": "*"}, "host", "!a.example.test"),
        ({"allowed_domains": "example.test", "allow_subdomains": True}, "host", "example.test"),
        ({"allowed_domains": "example.test", "allow_bare_domains": True}, "host", "a.example.test"),
        ({"allowed_domains": "example.test", "allow_subdomains": True}, "host", "aexample.test"),
        ({"allowed_users": "deploy"}, "user", "deploy,root"),
        ({"allowed_users": "deploy"}, "user", "Deploy"),
        ({"allowed_users": "*"}, "user", "a b"),
        ({"allowed_users": "*"}, "user", "a\nb"),
        ({"allowed_users": "*"}, "user", "r\u043eot"),
        ({"allowed_users": "*"}, "user", "a" * 257),
        ({"allowed_users": "*"}, "user", ",".join(f"u{number}" for number in range(257))),
        ({}, "user", "deploy"),
        # A template stands for something of the caller's entity; without one it stands for nothing (T-46).
        ({"allowed_users": "{{identity.entity.name}}", "allowed_users_template": True}, "user", "{{identity.entity.name}}"),
        ({"allowed_users": "*", "default_user": "{{identity.entity.name}}", "default_user_template": True}, "user", None),
    ],
)  # fmt: skip
def test_principals_that_nobody_gets(role: dict[str, Any], kind: str, asked: str | None) -> None:
    with pytest.raises(KmsError):
        principals(SshRole(**{**CA, **role}), kind, asked)


def test_principals_that_a_role_allows() -> None:
    users = SshRole(**{**CA, "allowed_users": "deploy, ops,{{x.y}}", "default_user": "deploy"})
    assert principals(users, "user", None) == ("deploy",)
    assert principals(users, "user", "ops,deploy,ops") == ("deploy", "ops")
    hosts = SshRole(**{**CA, "allowed_domains": "example.test", "allow_subdomains": True})
    assert principals(hosts, "host", "*.example.test,a.example.test") == ("*.example.test", "a.example.test")


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40), st.sampled_from(["user", "host"]), st.text(max_size=20), st.booleans())
def test_never_empty_and_never_beyond_the_role(asked: str, kind: str, allowed: str, flag: bool) -> None:
    role = SshRole(**{**CA, "allowed_users": allowed, "allowed_domains": allowed, "allow_bare_domains": flag})
    try:
        found = principals(role, kind, asked)
    except KmsError:
        return
    assert found
    assert all(name.isascii() and name.isprintable() and " " not in name for name in found)
    assert allowed == "*" or set(found) <= {part.strip() for part in allowed.split(",")}


def test_a_certificate_is_no_key(bench: Bench, tmp_path: Path) -> None:
    """CVE-2025-49825: not to be signed, not to be a CA, not to be revoked as one."""
    made = bench.do("sign", role="users", public_key=LINE)["signed_key"]
    private = keygen(tmp_path / "ca") and (tmp_path / "ca").read_text()
    for name, more in (
        ("sign", {"role": "users", "public_key": made}),
        ("ca-write", {"public_key": made, "private_key": private}),
        ("issuer-import", {"public_key": made, "private_key": private, "issuer_name": "x"}),
        ("revoke", {"public_key": made}),
    ):
        with pytest.raises(KmsError, match="a certificate is not a key"):
            bench.do(name, **more)


def test_a_cas_own_key_is_not_certified(bench: Bench) -> None:
    with pytest.raises(KmsError, match="belongs to a CA"):
        bench.do("sign", role="users", public_key=bench.raw("public-key").decode())


def _fido(kind: str) -> str:
    """A security key's public key, as ssh-keygen -t ed25519-sk writes one."""
    if "ecdsa" in kind:
        inner = of_key(ec.generate_private_key(ec.SECP256R1()).public_key()).blob
        rest = inner[len(string(b"ecdsa-sha2-nistp256")) :]
    else:
        rest = of_key(ed25519.Ed25519PrivateKey.generate().public_key()).blob[len(string(b"ssh-ed25519")) :]
    key = PublicKey(
        kind,
        string(kind.encode()) + rest + string(b"ssh:"),
        ed25519.Ed25519PrivateKey.generate().public_key(),
    )
    return key.line


@pytest.mark.parametrize("ca", ["ed25519", "ec", "rsa"])
@pytest.mark.parametrize("kind", ["sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"])
def test_security_keys_are_certified(bench: Bench, tmp_path: Path, kind: str, ca: str) -> None:
    bench.do("ca-write", key_type=ca, key_bits=2048 if ca == "rsa" else 0)
    made = bench.do("sign", role="users", public_key=_fido(kind))
    text = shown(made["signed_key"], tmp_path)
    bench.token.spoil = True
    with pytest.raises(KmsError, match=r"does not verify|cannot be read"):
        bench.do("sign", role="users", public_key=_fido(kind))
    assert f"{kind.removesuffix('@openssh.com')}-cert-v01@openssh.com user certificate" in text


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ({"key_id": "a\nAccepted publickey for root"}, "control characters"),
        ({"critical_options": {"source-address": "10.0.0.0/33"}}, "must be networks"),
        ({"critical_options": {"force-command": ""}}, "needs a command"),
        ({"critical_options": {"force-command": "a\nb"}}, "control characters"),
        ({"extensions": {"permit-pty,x": ""}}, "no comma"),
        ({"extensions": {f"e{number}": "" for number in range(65)}}, "at most 64"),
    ],
)
def test_what_sshd_could_misread_is_refused(bench: Bench, more: dict[str, Any], complaint: str) -> None:
    role: dict[str, Any] = {**CA, "allowed_users": "*", "allowed_extensions": "*", "allow_user_key_ids": True}
    bench.result("role-write", role="any", **role)
    with pytest.raises(KmsError, match=complaint):
        bench.do("sign", role="any", public_key=LINE, valid_principals="x", **more)


def test_imported_keys(bench: Bench, tmp_path: Path) -> None:
    one, two = (keygen(tmp_path / name, "ecdsa") for name in ("one", "two"))
    keygen(tmp_path / "locked")
    change = ["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", str(tmp_path / "locked")]
    subprocess.run(change, check=True)
    private = (tmp_path / "one").read_text()
    for public, text, complaint in (
        (two, private, "do not belong together"),
        (one, "nonsense", "not a private key"),
        (one, "n\u00f6nsense", "not a private key"),
        ((tmp_path / "locked.pub").read_text(), (tmp_path / "locked").read_text(), "passphrase"),
    ):
        with pytest.raises(KmsError, match=complaint) as caught:
            bench.do("ca-write", public_key=public, private_key=text)
        assert private[60:120] not in str(caught.value)
    bench.do("ca-write", public_key=one, private_key=private)
    text = shown(bench.do("sign", role="users", public_key=LINE)["signed_key"], tmp_path)
    assert "using ecdsa-sha2-nistp256" in text


def test_a_password_works_once_and_for_an_hour(bench: Bench) -> None:
    otp: dict[str, Any] = {"key_type": "otp", "default_user": "ubuntu", "cidr_list": "10.0.0.0/8"}
    bench.result("role-write", role="otp", **otp)
    first, second = (bench.do("creds", role="otp", ip="10.1.2.3")["key"] for _ in range(2))
    assert bench.do("verify", otp=first) == {"username": "ubuntu", "ip": "10.1.2.3", "role_name": "otp"}
    with pytest.raises(KmsError, match="OTP not found"):
        bench.do("verify", otp=first)
    bench.clock.sleep(3601)
    with pytest.raises(KmsError, match="OTP not found"):
        bench.do("verify", otp=second)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=60), st.binary(max_size=80).map(lambda raw: f"ssh-ed25519 {raw.hex()}")))
def test_any_text_is_a_key_or_a_refusal(text: str) -> None:
    try:
        found = parse_public_key(text)
    except KmsError:
        return
    assert found.line.split()[1] in text


def test_numbers_on_the_wire() -> None:
    """RFC 4251 5, its examples."""
    assert mpint(0) == bytes(4)
    assert mpint(0x80).hex() == "000000020080"
    assert mpint(0x09A378F9B2E332A7).hex() == "0000000809a378f9b2e332a7"
    assert u64(1 << 63).hex() == "8000000000000000"
