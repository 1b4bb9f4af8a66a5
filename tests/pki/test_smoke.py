from __future__ import annotations

from tests.pki.bench import Bench, load


def test_a_root_an_intermediate_and_a_leaf(ca: Bench) -> None:
    ca.intermediate()
    ca.role("web", "int")
    data = ca.issue("int")
    leaf = load(data["certificate"])
    issuer = load(data["issuing_ca"])
    leaf.verify_directly_issued_by(issuer)
    assert len(data["ca_chain"]) == 2
    ca.do("revoke", "int", serial_number=data["serial_number"])
    assert ca.listed("int") == {data["serial_number"]}
