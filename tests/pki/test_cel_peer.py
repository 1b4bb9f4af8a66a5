"""Roles that are programs, at our server and at the real one: the same programs, requests and certificates."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.differential.pkishape import pki_shape
from tests.differential.rules import Comparison, load
from tests.differential.sides import DENIED, Request, Side, ours, theirs
from tests.harness.dev import DevServer
from tests.pki.celcases import SIGNED, WRITTEN, issued, program, template

ALLOWED = Path(__file__).parent / "cel_allowed.toml"
ROOT = {"common_name": "Test Root", "key_type": "ec", "ttl": "8760h"}


def _csr(key: Any) -> str:
    name = [
        x509.NameAttribute(NameOID.COMMON_NAME, "c.example.com"),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Org"),
        x509.NameAttribute(NameOID.SERIAL_NUMBER, "9"),
    ]
    names = [
        x509.DNSName("c.example.com"),
        x509.IPAddress(ipaddress.ip_address("10.0.0.9")),
        x509.RFC822Name("a@example.com"),
        x509.UniformResourceIdentifier("spiffe://td.example/x"),
    ]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(name))
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def _writing() -> Iterator[Request]:
    yield Request("LIST", "cel/roles")
    yield Request("GET", "cel/roles/r")
    for body in WRITTEN:
        yield Request("POST", "cel/roles/r", body, "write")
    yield Request("GET", "cel/roles/r")
    yield Request("POST", "cel/roles/second", program("a", a="'x'", b="true"))
    yield Request("LIST", "cel/roles")
    yield Request("PATCH", "cel/roles/none", program("true"), "patch")
    yield Request("PATCH", "cel/roles/second", {}, "patch")
    yield Request("PATCH", "cel/roles/second", {"cel_program": {"expression": "b"}}, "patch")
    variables = [{"name": "c", "expression": "1"}]
    yield Request("PATCH", "cel/roles/second", {"cel_program": {"variables": variables}}, "patch")
    yield Request("PATCH", "cel/roles/second", program("((("), "patch")
    yield Request("GET", "cel/roles/second")
    for verb in ("GET", "DELETE", "LIST"):
        yield Request(verb, "cel/roles/second" if verb != "LIST" else "cel/roles", token=DENIED)
    yield Request("POST", "cel/issue/second", {}, token=DENIED)
    yield Request("DELETE", "cel/roles/second")
    yield Request("DELETE", "cel/roles/second")
    yield Request("GET", "cel/roles/second")
    yield Request("POST", "cel/issue/none", {})
    yield Request("GET", "cel/issue/none")


def _signing() -> Iterator[Request]:
    good = _csr(ec.derive_private_key(7, ec.SECP256R1()))
    for index, text in enumerate(SIGNED):
        yield Request("POST", f"cel/roles/s{index}", program(text), "role to sign")
        yield Request("POST", f"cel/sign/s{index}", {"csr": good}, f"sign {text}")
    names = template("DNSNames: ['a.example.com']")
    yield Request("POST", "cel/roles/names", program(names))
    weak = _csr(rsa.generate_private_key(65537, 1024))  # noqa: S505  (to be refused)
    broken = good.replace("\n-----END", "AA\n-----END")
    for what, csr in (("none", ""), ("text", "x"), ("weak", weak), ("broken", broken)):
        yield Request("POST", "cel/sign/names", {"csr": csr} if csr else {}, f"csr: {what}")


def _compare(compared: Comparison, request: Request, sides: tuple[Side, Side]) -> None:
    (their_status, their_answer), (status, answer) = (side.ask(request) for side in sides)
    if (their_status, status) == (
        500,
        400,
    ):  # a program's refusal is no fault of the server; the texts must agree
        their_status = 400
    if request.path.startswith("cel/issue/") and isinstance(answer, dict) and answer.get("data"):
        answer["data"].pop("ca_chain", None)  # the peer has it in the answers of cel/sign only
        lease = answer["lease_duration"]  # ends with the certificate; the peer cuts a second off
        assert abs(lease - their_answer.get("lease_duration", lease)) <= 10
        answer["lease_duration"] = their_answer.get("lease_duration", lease)
        assert bool(answer["lease_id"]) == bool(their_answer.get("lease_id"))
        answer["lease_id"] = their_answer.get("lease_id", "")
    shown = Request(request.verb, request.path, None, request.what, request.token)
    compared.add(shown, (their_status, pki_shape(their_answer)), (status, pki_shape(answer)))


@pytest.mark.slow
def test_programs_come_to_the_real_servers_certificates(server: DevServer) -> None:
    compared = Comparison(load(ALLOWED))
    mine = ours(server, "pki")
    with contextlib.closing(mine.client), theirs("pki") as other:
        sides = (other, mine)
        for side in sides:
            side.system("POST", f"{side.mount}/root/generate/internal", ROOT)
        for request in _writing():
            _compare(compared, request, sides)
        for what, role, body in issued():
            for side in sides:
                side.ask(Request("POST", "cel/roles/i", role))
            _compare(compared, Request("POST", "cel/issue/i", body, what), sides)
        for request in _signing():
            _compare(compared, request, sides)
    print(compared.report())
    assert not compared.different, "\n".join(compared.different[:80])
    assert not compared.unused, compared.unused
    assert compared.requests >= 170
