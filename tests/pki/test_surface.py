"""Software, existing and imported CA keys, every key type, and the signing paths beside roles."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509

from kms.errors import ErrorKind, KmsError
from pki.model import KeyState
from pki.store import CERTIFICATES, KEYS, MATERIAL
from tests.pki.bench import YEAR, Bench, Killed, load, make_csr, wire
from tests.system.test_pki_clients import foreign_ca

KINDS = [("rsa", 2048), ("ec", 384), ("ec", 521), ("ed25519", 0), ("mldsa", 44), ("mldsa", 65), ("mldsa", 87)]


def signed_by(leaf: x509.Certificate, issuer: x509.Certificate) -> None:
    leaf.verify_directly_issued_by(issuer)


@pytest.mark.parametrize(("key_type", "bits"), KINDS)
def test_a_ca_of_each_key_type_issues_and_revokes(bench: Bench, key_type: str, bits: int) -> None:
    root = bench.root(key_type=key_type, key_bits=bits)
    key = bench.do("key-read", key_ref=root["key_id"])
    assert key["key_type"] == key_type
    assert key["protection"] == ("software" if key_type == "mldsa" else "hsm")
    bench.role(key_type="any")
    for leaf_type, leaf_bits in (("ec", 256), ("mldsa", 65)):
        leaf = bench.issue(key_type=leaf_type, key_bits=leaf_bits)
        signed_by(load(leaf["certificate"]), load(root["certificate"]))
        bench.do("revoke", serial_number=leaf["serial_number"])
        bench.do("crl-rotate")
        assert leaf["serial_number"] in bench.listed()
    assert bench.crl().is_signature_valid(load(root["certificate"]).public_key())  # type: ignore[arg-type]  # CA keys


def test_pss_is_used_where_asked_for(bench: Bench) -> None:
    root = load(bench.root(key_type="rsa", key_bits=2048, use_pss=True, signature_bits=384)["certificate"])
    assert root.signature_algorithm_oid == x509.SignatureAlgorithmOID.RSASSA_PSS
    signed_by(root, root)
    bench.role(use_pss=True)
    leaf = load(bench.issue()["certificate"])
    assert leaf.signature_algorithm_oid == x509.SignatureAlgorithmOID.RSASSA_PSS
    signed_by(leaf, root)


def test_an_exported_key_signs_from_its_sealed_row_and_is_shown_once(bench: Bench) -> None:
    root = bench.root(exported="exported")
    assert "PRIVATE KEY" in root["private_key"]
    assert bench.token.calls == []  # the HSM never saw it
    bench.role()
    signed_by(load(bench.issue()["certificate"]), load(root["certificate"]))
    assert "private_key" not in bench.do("key-read", key_ref=root["key_id"])
    assert root["private_key"] not in repr(bench.subjects)


def test_an_existing_key_carries_a_second_root_and_a_request(ca: Bench) -> None:
    first = load(ca.raw("ca-pem").decode())
    second = ca.do("root-generate", exported="existing", key_ref="default", common_name="Second", ttl=YEAR)
    assert load(second["certificate"]).public_key() == first.public_key()
    csr = ca.do("intermediate-cross-sign", common_name="Crossed", key_ref="default")["csr"]
    assert x509.load_pem_x509_csr(csr.encode()).public_key() == first.public_key()
    assert len(ca.do("keys-list")["keys"]) == 1


@pytest.mark.parametrize("where", ["begin-commit", "perform", "conclude", "conclude-commit"])
@pytest.mark.parametrize("way", ["exported", "existing"])
def test_a_ceremony_killed_at_each_step_leaves_nothing_that_signs(ca: Bench, way: str, where: str) -> None:
    def killed(step: str) -> None:
        if step == where:
            raise Killed

    before = len(ca.do("issuers-list")["keys"])
    ca.step = killed
    with pytest.raises(Killed):
        ca.do(
            "root-generate",
            exported=way,
            common_name="Killed",
            ttl=YEAR,
            **({"key_type": "ec"} if way == "exported" else {}),
        )
    ca.step = lambda _: None
    ca.resolve_all()
    ca.chores()
    assert len(ca.do("issuers-list")["keys"]) == before
    reader = ca.store.reader()
    assert [row.value.state for row in reader.scan(KEYS)] == [KeyState.ACTIVE]  # the HSM's, as before
    assert reader.keys(MATERIAL) == []
    assert not any(row.value.state == "intent" for row in reader.scan(CERTIFICATES))
    ca.issue()


def test_a_bundle_with_its_key_becomes_a_software_ca(ca: Bench, tmp_path: Path) -> None:
    bundle = foreign_ca(tmp_path)
    with pytest.raises(KmsError, match="private keys found"):
        ca.do("intermediate-set-signed", "other", certificate=bundle)
    certificate = bundle[bundle.index("-----BEGIN CERTIFICATE") :]
    ca.clock.seconds = load(certificate).not_valid_before_utc.timestamp() + 60
    bare = ca.do("import-bundle", "other", pem_bundle=certificate)
    (issuer,) = bare["imported_issuers"]
    assert bare["mapping"] == {issuer: ""}
    key = ca.do(
        "key-import", "other", pem_bundle=bundle[: bundle.index("-----BEGIN CERTIFICATE")], key_name="moved"
    )
    assert ca.do("key-read", "other", key_ref="moved")["protection"] == "software"
    assert ca.do("issuer-read", "other", issuer_ref=issuer)["key_id"] == key["key_id"]
    ca.role("web", "other", issuer_ref=issuer)
    leaf = ca.issue("other")
    signed_by(load(leaf["certificate"]), load(certificate))
    ca.do("revoke", "other", serial_number=leaf["serial_number"])
    again = ca.do("import-bundle", "other", pem_bundle=bundle)
    assert again["existing_issuers"] == [issuer]
    assert again["imported_keys"] is None
    with pytest.raises(KmsError, match=r"encrypted|could not be parsed") as refused:
        ca.do(
            "key-import",
            "other",
            pem_bundle=bundle.replace("MI", "MJ", 1)[:400] + "\n-----END EC PRIVATE KEY-----",
        )
    assert "MJ" not in str(refused.value)


def test_sign_verbatim_copies_the_request_but_makes_no_ca(ca: Bench, tmp_path: Path) -> None:
    csr = make_csr(
        tmp_path, "/O=Any/CN=host.example.net", san="subjectAltName=DNS:host.example.net,URI:spiffe://td/x"
    )
    data = ca.do("sign-verbatim", csr=csr, ext_key_usage=["ServerAuth"])
    leaf = load(data["certificate"])
    assert leaf.subject == x509.load_pem_x509_csr(csr.encode()).subject
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://td/x"]
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    refused = {
        "basicConstraints=critical,CA:TRUE": "use sign-intermediate",
        "keyUsage=keyCertSign": "use sign-intermediate",
        "extendedKeyUsage=OCSPSigning": "not for certificates of this kind",
        "nameConstraints=permitted;DNS:a.b": "not carried over",
        "subjectAltName=DNS:a_b.example.com": "cannot stand in a certificate",
    }
    for extension, text in refused.items():
        with pytest.raises(KmsError, match=text):
            ca.do("sign-verbatim", csr=make_csr(tmp_path, "/CN=x.example.com", extension=extension))


def test_limits_of_the_issuer_hold_for_sign_verbatim_too(bench: Bench, tmp_path: Path) -> None:
    bench.root(permitted_dns_domains=["example.com"])
    with pytest.raises(KmsError, match="outside the name constraints"):
        bench.do("sign-verbatim", csr=make_csr(tmp_path, "/CN=a.bad.org", san="subjectAltName=DNS:a.bad.org"))


def test_a_foreign_root_is_bridged(ca: Bench, tmp_path: Path) -> None:
    bundle = foreign_ca(tmp_path)
    foreign = load(bundle[bundle.index("-----BEGIN CERTIFICATE") :])
    ca.clock.seconds = foreign.not_valid_before_utc.timestamp() + 60
    given = bundle[bundle.index("-----BEGIN CERTIFICATE") :]
    bridged = load(ca.do("sign-self-issued", certificate=given)["certificate"])
    assert bridged.subject == foreign.subject
    assert bridged.public_key() == foreign.public_key()
    signed_by(bridged, load(ca.raw("ca-pem").decode()))
    leaf = ca.issue()
    for text, wanted in ((leaf["certificate"], "not a CA"), ("junk", "could not be PEM-decoded")):
        with pytest.raises(KmsError, match=wanted):
            ca.do("sign-self-issued", certificate=text)


def test_a_revoked_issuer_issues_nothing_and_is_on_its_signers_list(ca: Bench) -> None:
    csr = ca.do("intermediate-generate", common_name="Sub", key_type="ec")["csr"]
    signed = ca.do("sign-intermediate", csr=csr, common_name="Sub", ttl=YEAR // 2)
    (sub,) = ca.do("intermediate-set-signed", certificate=signed["certificate"])["imported_issuers"]
    ca.do("issuer-issue", issuer_ref=sub, role="web", common_name="a.example.com")
    assert ca.do("issuer-revoke", issuer_ref=sub)["revoked"]
    with pytest.raises(KmsError, match="not allowed the usage"):
        ca.do("issuer-issue", issuer_ref=sub, role="web", common_name="a.example.com")
    with pytest.raises(KmsError, match="This issuer was revoked"):
        ca.do("issuer-patch", issuer_ref=sub, usage=["issuing-certificates"])
    ca.do("crl-rotate")
    assert signed["serial_number"] in ca.listed()
    assert ca.do("issuer-revoke", issuer_ref=sub)["revoked"]


def test_revoking_by_the_key_asks_for_the_right_key(ca: Bench) -> None:
    one, two = ca.issue(), ca.issue()
    for key, text in ((two["private_key"], "does not match"), ("x" * 80, "failed to parse")):
        with pytest.raises(KmsError, match=text) as refused:
            ca.do("revoke-with-key", serial_number=one["serial_number"], private_key=key)
        assert key[40:80] not in str(refused.value)
    assert ca.do("revoke-with-key", serial_number=one["serial_number"], private_key=one["private_key"])


def test_a_list_signed_for_a_caller_takes_no_revocation_back(ca: Bench) -> None:
    leaf = ca.issue()
    ca.do("revoke", serial_number=leaf["serial_number"])
    given = [{"serial_number": "11:22", "revocation_time": "2026-01-01T00:00:00Z"}]
    text = ca.do("sign-revocation-list", issuer_ref="default", crl_number=9, revoked_certs=given)["crl"]
    first = x509.load_pem_x509_crl(text.encode())
    assert {wire(entry.serial_number) for entry in first} == {"11:22", leaf["serial_number"]}
    both = ca.do("resign-crls", issuer_ref="default", crl_number=10, crls=[text])["crl"]
    assert len(x509.load_pem_x509_crl(both.encode())) == 2
    ca.root(common_name="Other", issuer_name="other")
    with pytest.raises(KmsError, match="not signed by this issuer"):
        ca.do("resign-crls", issuer_ref="other", crl_number=1, crls=[text])


def test_urls_are_filled_in_or_the_request_is_refused(ca: Bench) -> None:
    ca.do(
        "config-urls-write",
        issuing_certificates=["{{cluster_aia_path}}/issuer/{{issuer_id}}/der"],
        enable_templating=True,
    )
    with pytest.raises(KmsError, match="write it to config/cluster") as refused:
        ca.issue()
    assert refused.value.kind is ErrorKind.INVALID
    ca.do("config-cluster-write", path="https://ca.example.com/v1/pki", aia_path="http://cdn.example.com")
    leaf = load(ca.issue()["certificate"])
    access = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    issuer = ca.do("config-issuers-read")["default"]
    assert access[0].access_location.value == f"http://cdn.example.com/issuer/{issuer}/der"
    with pytest.raises(KmsError, match="unknown template"):
        ca.do("config-urls-write", issuing_certificates=["http://h/{{bogus}}"], enable_templating=True)


def test_tidying_runs_by_itself(ca: Bench) -> None:
    ca.issue(ttl=60)
    ca.do(
        "config-auto-tidy-write", enabled=True, tidy_cert_store=True, safety_buffer=60, interval_duration=3600
    )
    ca.clock.sleep(3_700)
    ca.chores()
    status = ca.do("tidy-status")
    assert status["cert_store_deleted_count"] == 1
    assert status["last_auto_tidy_finished"]
    ca.chores()
    assert ca.do("tidy-status")["cert_store_deleted_count"] == 1  # not due again
