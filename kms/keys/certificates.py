"""Certificates for signing keys: requests made with a key version, and the chain that came back for it.

The requests are made here and not with pyca/cryptography's builder, because the private key may be in
the HSM: the builder wants key objects that this package does not have.
"""

from __future__ import annotations

import re
from base64 import b64decode
from typing import Any, Final

from asn1crypto import algos as _algos
from asn1crypto import csr as _csr
from asn1crypto import keys as _keys
from asn1crypto import pem as _pem
from asn1crypto import x509 as _x509
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec.structs import replace

from kms import strangers
from kms.errors import invalid
from kms.keys.birth import facts
from kms.keys.catalogue import Kind, Use
from kms.keys.core import Core, active_version, must
from kms.keys.lifecycle import check_use, check_version_use, refuse_soft_deleted
from kms.keys.model import NamedKey
from kms.keys.signing import How
from kms.keys.states import Act
from kms.keys.store import KEY_VERSIONS
from kms.operation import Change, Result
from kms.tables import Transaction

# asn1crypto has no types; what it makes here is bytes again two lines later.
algos: Any = _algos
csr: Any = _csr
keys: Any = _keys
pem: Any = _pem
asn1_x509: Any = _x509

MAX_PEM_CHARACTERS: Final = 256 * 1024
_BLOCK: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\s([A-Za-z0-9+/=\s]+)-----END \1-----\s*")
_EXTENSION_REQUEST: Final = "extension_request"
# Curve -> how its requests are signed: with the hash of its strength (RFC 5480 section 4).
_EC: Final = {
    "ecdsa-p256": ("sha256_ecdsa", How("sha256")),
    "ecdsa-p384": ("sha384_ecdsa", How("sha384")),
    "ecdsa-p521": ("sha512_ecdsa", How("sha512")),
    "ecdsa-secp256k1": ("sha256_ecdsa", How("sha256")),
}


# RFC 9881 section 2; asn1crypto has no names for them.
_OTHERS: Final = {
    "mldsa-44": "2.16.840.1.101.3.4.3.17",
    "mldsa-65": "2.16.840.1.101.3.4.3.18",
    "mldsa-87": "2.16.840.1.101.3.4.3.19",
}


class Certificates:
    """The verbs. One per process."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def request(self, mount_id: str, name: str, number: int | None, template: str) -> Result:
        """A PKCS#10 request (RFC 2986) signed by a key version.

        Args:
            mount_id: of the mount that the name is in.
            name: of the key.
            number: of the version; None for the newest.
            template: a request in PEM whose subject and extensions are taken over, or "".
        """
        key = self._signing_key(mount_id, name)
        live = self._core.live.get(f"{mount_id}/{name}")
        if live is None:
            raise invalid(f"key with provided name '{name}' not found")
        wanted = key.latest_version if number is None else number
        missing = "could not create the csr: no such key version"
        if wanted < key.min_decryption_version:
            raise invalid(missing)  # it is not in use any more: nothing new is to rest on it
        row = active_version(self._core.store.reader(), key, wanted, missing)
        check_version_use(key, row.value, Act.CERTIFY, self._core.clock.now())
        signer = live.version(wanted).signer
        if signer is None:
            raise invalid("could not create the csr: private key not imported for key version selected")
        algorithm, how = _scheme(key)
        info = _request_info(row.value.public, template)
        body = csr.CertificationRequest(
            {
                "certification_request_info": info,
                "signature_algorithm": algos.SignedDigestAlgorithm({"algorithm": algorithm}),
                "signature": signer.sign(info.dump(), how),
            }
        )
        text = pem.armor("CERTIFICATE REQUEST", body.dump()).decode()
        data = {"name": key.name, "type": key.type, "csr": text}
        return Result(data=data, subject=facts(key, wanted))

    def set_chain(self, mount_id: str, name: str, number: int | None, chain: str) -> Change:
        """Keep a chain beside a version: its own certificate first, then its issuers."""

        def write(tx: Transaction) -> Result:
            key = must(tx, mount_id, name, f"key with provided name '{name}' not found").value
            _check_signing(key)
            certificates = read_chain(chain)
            wanted = key.latest_version if number is None else number
            missing = "failed to persist certificate chain: no such key version"
            row = active_version(tx, key, wanted, missing)
            _check_leaf(row.value.public, certificates)
            text = "".join(each.public_bytes(Encoding.PEM).decode() for each in certificates).strip()
            tx.replace(KEY_VERSIONS, row, replace(row.value, certificate_chain=text))
            data = {"name": key.name, "type": key.type, "certificate_chain": text + "\n"}
            return Result(data=data, subject=facts(key, wanted) | {"certificates": len(certificates)})

        return Change(write)

    def _signing_key(self, mount_id: str, name: str) -> NamedKey:
        row = self._core.row(mount_id, name)
        if row is None:
            raise invalid(f"key with provided name '{name}' not found")
        _check_signing(row.value)
        refuse_soft_deleted(row.value)
        check_use(row.value, Act.CERTIFY, self._core.clock.now())
        return row.value


def _check_signing(key: NamedKey) -> None:
    if not key.allows(Use.SIGN):
        raise invalid(f"key type '{key.type}' does not support signing")
    if key.derived:
        raise invalid("operation not supported for keys with derivation enabled")


def _scheme(key: NamedKey) -> tuple[str, How]:
    if key.algorithm.kind is Kind.EC:
        return _EC[key.type]
    if key.algorithm.kind is Kind.RSA:
        return "sha256_rsa", How("sha256", pkcs1v15=True)
    return _OTHERS.get(key.type, "ed25519"), How()


def _request_info(public: bytes, template: str) -> Any:
    subject, attributes = asn1_x509.Name.build({}), []
    if template:
        given = _read_template(template)["certification_request_info"]
        subject = given["subject"]
        # Extensions only: a challenge password or another attribute belongs to the template's own key.
        attributes = [each for each in given["attributes"] if each["type"].native == _EXTENSION_REQUEST]
    return csr.CertificationRequestInfo(
        {
            "version": "v1",
            "subject": subject,
            "subject_pk_info": keys.PublicKeyInfo.load(public),
            "attributes": csr.CRIAttributes(attributes),
        }
    )


def _read_template(text: str) -> Any:
    if len(text) > MAX_PEM_CHARACTERS:
        raise invalid("the csr is longer than any request")
    block = _BLOCK.search(text)
    if block is None:
        raise invalid("could not decode PEM CSR")
    try:
        der = b64decode(re.sub(r"\s", "", block[2]), validate=True)
        # This parser is strict about all of it; the other one then only copies.
        given = strangers.request(der)
    except ValueError:
        raise invalid("the csr is not a PKCS#10 certificate request") from None
    return csr.CertificationRequest.load(given.public_bytes(Encoding.DER))


def read_chain(text: str) -> list[x509.Certificate]:
    """The certificates of a PEM text, which holds nothing else but them.

    Raises:
        KmsError(INVALID): it does.
    """
    if len(text) > MAX_PEM_CHARACTERS:
        raise invalid("the certificate chain is longer than any chain")
    certificates, at = [], 0
    while at < len(text):
        block = _BLOCK.match(text, at)
        if block is None:
            raise invalid("could not decode a PEM block in the certificate chain")
        at = block.end()
        if block[1] != "CERTIFICATE":
            continue
        try:
            certificates.append(strangers.certificate(b64decode(re.sub(r"\s", "", block[2]), validate=True)))
        except ValueError:
            raise invalid(
                "could not parse a certificate in the certificate chain: x509: malformed certificate"
            ) from None
    if not certificates:
        raise invalid("provided certificate chain did not contain any valid PEM encoded certificate")
    return certificates


def _check_leaf(public: bytes, certificates: list[x509.Certificate]) -> None:
    found = certificates[0].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if found != public:
        raise invalid(
            "failed to persist certificate chain: "
            "leaf certificate public key does not match the selected key version"
        )


__all__ = ["Certificates", "read_chain"]
