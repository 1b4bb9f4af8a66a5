"""A leaf renews itself with its own certificate, and with nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from kms.errors import KmsError
from pki.model import DAY
from tests.pki.bench import START, Bench, load, make_csr

NAMES: dict[str, Any] = {
    "common_name": "a.example.com",
    "alt_names": ["b.example.com", "*.c.example.com", "me@example.com"],
    "ip_sans": ["10.0.0.1"],
    "uri_sans": ["spiffe://td.example/x"],
    "user_ids": ["u1", "u2"],
    "serial_number": "7",
    "ttl": 7200,
}
ROLE: dict[str, Any] = {
    "renewable": True,
    "allow_bare_domains": True,
    "allowed_uri_sans": ["spiffe://td.example/*"],
    "allowed_user_ids": ["*"],
    "allowed_serial_numbers": ["*"],
    "max_ttl": 10 * DAY,
}


@pytest.fixture
def old(ca: Bench) -> dict[str, Any]:
    ca.role(**ROLE)
    return ca.issue(**NAMES)


def chain(data: dict[str, Any]) -> tuple[bytes, ...]:
    return (load(data["certificate"]).public_bytes(Encoding.DER),)


def new_request(common_name: str = "", *names: x509.GeneralName) -> str:
    attributes = [x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)] if common_name else []
    builder = x509.CertificateSigningRequestBuilder(x509.Name(attributes))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    key = ec.generate_private_key(ec.SECP256R1())
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def renew(bench: Bench, data: dict[str, Any], csr: str = "", /, **more: Any) -> dict[str, Any]:
    return bench.do("renew", chain=chain(data), csr=csr or new_request(), **more)


def names_of(certificate: x509.Certificate) -> tuple[object, object]:
    return certificate.subject, certificate.extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    ).value


def test_the_same_names_for_another_key_and_as_long(ca: Bench, old: dict[str, Any]) -> None:
    ca.clock.seconds += 3600
    data = renew(ca, old)
    before, after = load(old["certificate"]), load(data["certificate"])
    assert names_of(after) == names_of(before)
    assert after.public_key() != before.public_key()
    assert data["expiration"] == START + 3600 + 7200 - 1
    assert ca.subjects[-1]["serial"] == data["serial_number"].replace(":", "")
    again = renew(ca, data)  # and so on for ever, as long as its role lets it
    assert names_of(load(again["certificate"])) == names_of(before)
    assert ca.do("cert", serial=old["serial_number"])["revocation_time"] == 0


def test_the_old_key_may_stay_and_the_csr_may_repeat_the_names(ca: Bench, old: dict[str, Any]) -> None:
    key = load_pem_private_key(old["private_key"].encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    before = load(old["certificate"])
    builder = x509.CertificateSigningRequestBuilder(before.subject).add_extension(
        before.extensions.get_extension_for_class(x509.SubjectAlternativeName).value, critical=False
    )
    csr = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
    after = load(renew(ca, old, csr)["certificate"])
    assert after.public_key() == before.public_key()


def test_a_shorter_life_may_be_asked_for(ca: Bench, old: dict[str, Any]) -> None:
    assert renew(ca, old, ttl=60)["expiration"] == START + 59
    assert renew(ca, old, ttl=100 * DAY)["expiration"] == START + 10 * DAY - 1


@pytest.mark.parametrize("profile", ["tls-server", "tls-client", "mtls", "spiffe", "code-signing"])
def test_each_profile_keeps_its_form(ca: Bench, profile: str) -> None:
    ca.role(**ROLE, profile=profile)
    names = {"common_name": "", "uri_sans": ["spiffe://td.example/x"]} if profile == "spiffe" else {}
    data = ca.issue(**names)
    after = load(renew(ca, data)["certificate"])
    same = x509.ExtendedKeyUsage
    assert after.extensions.get_extension_for_class(same) == load(
        data["certificate"]
    ).extensions.get_extension_for_class(same)
    assert after.subject == load(data["certificate"]).subject


def test_a_mesh_moves_to_the_issuer_that_the_role_names_now(ca: Bench, old: dict[str, Any]) -> None:
    second = ca.root(issuer_name="second", common_name="Second Root")
    ca.do("role-patch", name="web", issuer_ref="second")
    assert load(renew(ca, old)["certificate"]).issuer == load(second["certificate"]).subject


def refused(bench: Bench, why: str, status: int | None = 401, **asked: Any) -> None:
    before = bench.token.calls.count("sign")
    with pytest.raises(KmsError, match=why) as error:
        bench.do("renew", **{"csr": new_request(), **asked})
    assert error.value.status == status
    assert bench.token.calls.count("sign") == before


def test_without_a_certificate_of_ours(ca: Bench, old: dict[str, Any]) -> None:
    refused(ca, "no client certificate")
    refused(ca, "cannot be read", chain=(b"\x30\x00",))
    key = ec.generate_private_key(ec.SECP256R1())
    before = load(old["certificate"])
    forged = (
        x509.CertificateBuilder()
        .subject_name(before.subject)
        .issuer_name(before.issuer)
        .public_key(key.public_key())
        .serial_number(before.serial_number)
        .not_valid_before(before.not_valid_before_utc)
        .not_valid_after(before.not_valid_after_utc)
        .sign(key, hashes.SHA256())
    )
    refused(ca, "not on record", chain=(forged.public_bytes(Encoding.DER),))
    # Only the first of a chain is the caller's own.
    refused(ca, "not on record", chain=(forged.public_bytes(Encoding.DER), *chain(old)))
    ca.root("other")
    with pytest.raises(KmsError, match="not on record"):
        ca.do("renew", "other", chain=chain(old), csr=new_request())


def test_one_that_is_over(ca: Bench, old: dict[str, Any]) -> None:
    ca.clock.seconds = old["expiration"]
    renew(ca, old)
    ca.clock.seconds += 1
    refused(ca, "not valid now", chain=chain(old))


def test_one_that_was_revoked(ca: Bench, old: dict[str, Any]) -> None:
    ca.do("revoke", serial_number=old["serial_number"])
    refused(ca, "revoked", chain=chain(old))


def test_one_that_is_not_kept(ca: Bench) -> None:
    ca.role(**ROLE, no_store=True)
    refused(ca, "not on record", chain=chain(ca.issue()))


@pytest.mark.parametrize("change", ["off", "gone", "names", "no uris"])
def test_a_role_that_no_longer_lets_it(ca: Bench, old: dict[str, Any], change: str) -> None:
    why = {
        "off": "set renewable=true",
        "gone": "unknown role",
        "names": "not allowed by this role",
        "no uris": "URI Subject Alternative Names",
    }[change]
    if change == "gone":
        ca.do("role-delete", name="web")
    else:
        given: dict[str, dict[str, Any]] = {
            "off": {"renewable": False},
            "names": {"allowed_domains": ["example.org"]},
        }
        ca.role(**{**ROLE, **given.get(change, {"allowed_uri_sans": []})})
    refused(ca, why, None, chain=chain(old))


def test_roles_let_nothing_renew_itself_unless_told(ca: Bench) -> None:
    ca.role()
    refused(ca, "set renewable=true", None, chain=chain(ca.issue()))


@pytest.mark.parametrize(
    ("csr", "why"),
    [
        (new_request("evil.example.com"), "common name"),
        (new_request("", x509.DNSName("evil.example.com")), "alternative names"),
        (new_request("", x509.DNSName("b.example.com")), "alternative names"),
        ("", "empty"),
    ],
)
def test_a_request_for_something_else(ca: Bench, old: dict[str, Any], csr: str, why: str) -> None:
    refused(ca, why, None, chain=chain(old), csr=csr)


def test_a_bad_key_is_bad_here_too(ca: Bench, old: dict[str, Any], tmp_path: Path) -> None:
    refused(ca, "224 bits", None, chain=chain(old), csr=make_csr(tmp_path, "/", "p224"))


def test_cas_and_responders_do_not_renew_themselves(ca: Bench) -> None:
    for profile in ("ca", "ocsp"):
        ca.role(profile=profile, renewable=True, key_type="any", allow_any_name=True, enforce_hostnames=False)
        made = ca.do("sign", role="web", csr=new_request("Some CA"))
        refused(ca, "not renewed by their holder", None, chain=chain(made))
    csr = new_request("a.example.com")
    refused(ca, "not renewed", None, chain=chain(ca.do("sign-verbatim", role="web", csr=csr)))


def test_a_renewal_sent_twice_is_one(ca: Bench, old: dict[str, Any]) -> None:
    csr = new_request()
    first = renew(ca, old, csr, idempotency_key="1")
    assert renew(ca, old, csr, idempotency_key="1") == first
    with pytest.raises(KmsError) as other:
        renew(ca, old, idempotency_key="1")
    assert other.value.status == 422
    assert renew(ca, first, csr, idempotency_key="1") != first  # the key of another caller
