"""A role that is a program replaces limits on names, and nothing else that holds for every certificate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kms.errors import KmsError
from kms.operation import Call, Principal
from pki.celrequest import values
from pki.goodkey import Blocklist, spki_der, spki_hash
from pki.model import CertificateState
from pki.store import CERTIFICATES
from tests.pki.bench import Bench, Killed, load, make_bench, make_csr, pkilint

TIMES = "NotAfter: now + duration('1h')"
ANY = (
    f"ValidationOutput{{template: CertTemplate{{DNSNames: [request.n], ExtKeyUsage: [1], KeyUsage: 1, {TIMES}}},"
    " key_type: 'ec'}"
)


def role(ca: Bench, expression: str, name: str = "web", mount: str = "pki") -> None:
    ca.do("cel-role-write", mount, name=name, cel_program={"expression": expression})


def issue(ca: Bench, name: str, mount: str = "pki", **body: Any) -> dict[str, Any]:
    body = {"n": name, **body}
    return ca.do("cel-issue", mount, role="web", **{"*": body})


def refusal(ca: Bench, name: str, mount: str = "pki") -> str:
    with pytest.raises(KmsError) as refused:
        issue(ca, name, mount)
    return refused.value.detail


def test_a_certificate_is_linted_recorded_and_revocable(ca: Bench) -> None:
    role(ca, ANY)
    made = issue(ca, "any.example.net")
    assert pkilint(load(made["certificate"]).public_bytes(Encoding.DER)) == []
    serial = made["serial_number"]
    assert ca.do("cert", serial=serial)["certificate"].strip() == made["certificate"].strip()
    ca.do("revoke", serial_number=serial)
    ca.chores()
    assert serial in ca.listed()


def test_the_issuers_name_constraints_hold(ca: Bench) -> None:
    ca.intermediate("pki", "int", permitted_dns_domains=["example.com"])
    role(ca, ANY, mount="int")
    assert issue(ca, "a.example.com", "int")["certificate"]
    assert "outside the name constraints" in refusal(ca, "a.example.org", "int")
    # A common name that is a host name counts as one.
    common = ANY.replace("DNSNames: [request.n]", "Subject: PKIX.Name{CommonName: request.n}")
    role(ca, common, mount="int")
    assert "outside the name constraints" in refusal(ca, "a.example.org", "int")


def test_nothing_outlives_its_issuer(ca: Bench) -> None:
    ca.intermediate("pki", "int")
    role(ca, ANY.replace("'1h'", "'8000h'"), mount="int")
    assert "beyond the expiration of the CA" in refusal(ca, "a.example.com", "int")


def test_keys_are_judged(bench: Bench, tmp_path: Path) -> None:
    bench.root()
    program = f"ValidationOutput{{template: CertTemplate{{DNSNames: parsed_csr.DNSNames, {TIMES}}}}}"
    role(bench, program)

    def signed(ca: Bench, csr: str) -> str:
        try:
            return str(ca.do("cel-sign", role="web", csr=csr, **{"*": {"csr": csr}})["certificate"])
        except KmsError as error:
            return error.detail

    san = "subjectAltName=DNS:a.example.com"
    good = make_csr(tmp_path, "/CN=a", san=san)
    assert signed(bench, good).startswith("-----BEGIN")
    assert "2048" in signed(bench, make_csr(tmp_path, "/CN=a", "rsa1024", san=san))
    assert "curve" in signed(bench, make_csr(tmp_path, "/CN=a", "p224", san=san))
    key = spki_hash(spki_der(x509.load_pem_x509_csr(good.encode()).public_key()))
    wary = make_bench(bench.store, bench.token._hsm, Blocklist([key]))
    wary.mounts = bench.mounts
    assert "blocklist" in signed(wary, good)


def test_a_cel_role_is_no_ordinary_role(ca: Bench) -> None:
    """A certificate of the one must not renew itself by the other of the same name."""
    ca.role("web", renewable=True)
    role(ca, ANY)
    made = issue(ca, "elsewhere.example.org")
    key = f"{ca.mount('pki').id}/{load(made['certificate']).serial_number:040x}"
    row = ca.store.reader().get(CERTIFICATES, key)
    assert row is not None
    assert row.value.role == "cel/web"


@pytest.mark.parametrize("step", ["perform", "conclude", "conclude-commit"])
def test_a_certificate_whose_process_died_is_revoked(ca: Bench, step: str) -> None:
    role(ca, ANY)

    def die(at: str) -> None:
        if at == step:
            raise Killed

    ca.step = die
    with pytest.raises(Killed):
        issue(ca, "a.example.com")
    ca.step = lambda _: None
    assert len(ca.intents) == 1
    ca.resolve_all()
    states = [row.value.state for row in ca.store.reader().scan(CERTIFICATES, f"{ca.mount('pki').id}/")]
    assert states.count(CertificateState.UNKNOWN) == 1


def test_no_key_is_signed_for_before_the_program_agreed(ca: Bench) -> None:
    role(ca, "'never'")
    ca.token.calls.clear()
    assert refusal(ca, "x") == "never"
    assert ca.token.calls == []
    assert ca.intents == {}


def test_who_asks_is_what_policy_saw(ca: Bench) -> None:
    operation = ca.operations["pki.cel-issue"]
    known = Principal(
        entity_id="e1",
        values={
            "identity.entity.name": "alice",
            "identity.entity.metadata.team": "red.blue",
            "identity.groups.ids.g1.name": "ops",
            "identity.groups.ids.g1.id": "g1",
            "identity.groups.ids.g1.metadata.floor": "3",
            "identity.groups.names.ops.id": "g1",
        },
    )
    for principal, expected in (
        (known, ("e1", [{"id": "g1", "name": "ops", "metadata": {"floor": "3"}}], "alice")),
        (Principal(), ("", None, None)),
    ):
        call = Call(operation, "pki/cel/issue/web", ca.mount("pki"), {"*": {"role": "x"}, "role": "web"}, "r", "p", "d",
                    principal=principal)  # fmt: skip
        seen = values(call, None)
        info = seen["entity_info"]
        assert (seen["entity_id"], seen["entity_groups"], info and info["name"]) == expected
        assert seen["request"] == {"role": "web"}
