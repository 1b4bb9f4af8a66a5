"""What a server of the tests has issued and nobody was given: read from it when the tests are over.

Whatever mounts are left are asked for their issuers, their certificates, the CRL of each issuer, and OCSP's word on
each certificate. All of it is gathered (tests.harness.gathered), and shown to others (tests.harness.verdict).
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.ocsp import OCSPRequestBuilder

from tests.harness.api import Api
from tests.harness.gathered import GATHERED


def harvest(api: Api) -> None:
    """Read all of it. CRLs and OCSP answers are gathered as they pass through the client."""
    for mount in [path for path, row in api.ok("GET", "sys/mounts").items() if row["type"] == "pki"]:
        issuers = list(_issuers(api, mount))
        leaves = list(_certificates(api, mount))
        GATHERED.add(issuers + leaves, time.time())
        by_name = {one.subject: one for one in map(x509.load_der_x509_certificate, issuers)}
        for leaf in map(x509.load_der_x509_certificate, leaves):
            if leaf.issuer in by_name and leaf.issuer != leaf.subject:
                _ask(api, mount, leaf, by_name[leaf.issuer])


def _listed_under(api: Api, path: str) -> list[str]:
    """The keys of a list; an empty one is a 404."""
    answer = api.list(path)
    assert answer.status in {200, 404}, answer
    return list(answer.data["keys"]) if answer.status == 200 else []


def _issuers(api: Api, mount: str) -> Iterable[bytes]:
    for id_ in _listed_under(api, f"{mount}issuers"):
        api.get(f"{mount}issuer/{id_}/crl/der")
        yield api.get(f"{mount}issuer/{id_}/der").content


def _certificates(api: Api, mount: str) -> Iterable[bytes]:
    for serial in _listed_under(api, f"{mount}certs"):
        answer = api.get(f"{mount}cert/{serial}")
        text = answer.data.get("certificate", "") if answer.status == 200 else ""
        if text:
            yield x509.load_pem_x509_certificate(text.encode()).public_bytes(Encoding.DER)


def _ask(api: Api, mount: str, leaf: x509.Certificate, issuer: x509.Certificate) -> None:
    """As most clients do: with SHA-1, which names the issuer and protects nothing."""
    asked = OCSPRequestBuilder().add_certificate(leaf, issuer, hashes.SHA1())  # noqa: S303
    request = asked.build().public_bytes(Encoding.DER)
    headers = {"Content-Type": "application/ocsp-request"}
    api.call("POST", f"{mount}ocsp", raw=request, headers=headers)
