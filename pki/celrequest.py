"""What a program sees of a request: `request`, `now`, `parsed_csr`, and who asks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from kms.operation import WHOLE_BODY, Call, Principal

_SUBJECT = {
    "Country": NameOID.COUNTRY_NAME,
    "Organization": NameOID.ORGANIZATION_NAME,
    "OrganizationalUnit": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "Locality": NameOID.LOCALITY_NAME,
    "Province": NameOID.STATE_OR_PROVINCE_NAME,
    "StreetAddress": NameOID.STREET_ADDRESS,
    "PostalCode": NameOID.POSTAL_CODE,
}
_SIGNATURES = {
    "sha256WithRSAEncryption": "SHA256-RSA",
    "sha384WithRSAEncryption": "SHA384-RSA",
    "sha512WithRSAEncryption": "SHA512-RSA",
    "ecdsa-with-SHA256": "ECDSA-SHA256",
    "ecdsa-with-SHA384": "ECDSA-SHA384",
    "ecdsa-with-SHA512": "ECDSA-SHA512",
    "ed25519": "Ed25519",
}


def values(call: Call, csr: x509.CertificateSigningRequest | None) -> dict[str, Any]:
    """The body as it was sent, with the role of the path; identity is what policy saw."""
    found: dict[str, Any] = {
        "request": {**call.args[WHOLE_BODY], "role": call.args["role"]},
        "now": datetime.fromtimestamp(call.now, UTC),
        **_identity(call.principal),
    }
    if csr is not None:
        found["parsed_csr"] = parsed(csr)
    return found


def _identity(principal: Principal) -> dict[str, Any]:
    """Of a token without an entity, groups and info are null."""
    if not principal.entity_id:
        return {"entity_id": "", "entity_groups": None, "entity_info": None}
    info: dict[str, Any] = {"id": principal.entity_id, "metadata": {}}
    groups: dict[str, dict[str, Any]] = {}
    for name, value in principal.values.items():
        if name == "identity.entity.name":
            info["name"] = value
        elif name.startswith("identity.entity.metadata."):
            info["metadata"][name.removeprefix("identity.entity.metadata.")] = value
        elif name.startswith("identity.groups.ids."):
            group_id, _, what = name.removeprefix("identity.groups.ids.").partition(".")
            group = groups.setdefault(group_id, {"metadata": {}})
            if what.startswith("metadata."):
                group["metadata"][what.removeprefix("metadata.")] = value
            else:
                group[what] = value
    return {
        "entity_id": principal.entity_id,
        "entity_groups": [{"id": group_id, **group} for group_id, group in groups.items()],
        "entity_info": info,
    }


def parsed(csr: x509.CertificateSigningRequest) -> dict[str, Any]:
    """A CSR in the peer's members; its signature holds already. `PublicKey` is the key in DER."""
    public = csr.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return {
        "Raw": csr.public_bytes(Encoding.DER),
        "RawTBSCertificateRequest": csr.tbs_certrequest_bytes,
        "RawSubjectPublicKeyInfo": public,
        "RawSubject": csr.subject.public_bytes(),
        "Version": 0,
        "Signature": csr.signature,
        "SignatureAlgorithm": _SIGNATURES.get(
            csr.signature_algorithm_oid._name,  # noqa: SLF001  (its only readable name)
            csr.signature_algorithm_oid.dotted_string,
        ),
        "PublicKeyAlgorithm": _algorithm(csr),
        "PublicKey": public,
        "Subject": _subject(csr.subject),
        "Extensions": {each.oid.dotted_string: each.value.public_bytes() for each in csr.extensions},
        "ExtraExtensions": None,
        **_alternatives(csr),
    }


def _algorithm(csr: x509.CertificateSigningRequest) -> str:
    key = csr.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return "RSA"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return "ECDSA"
    return "Ed25519" if isinstance(key, ed25519.Ed25519PublicKey) else "0"


def _subject(name: x509.Name) -> dict[str, Any]:
    def texts(oid: x509.ObjectIdentifier) -> list[str]:
        return [str(each.value) for each in name.get_attributes_for_oid(oid)]

    found: dict[str, Any] = {member: texts(oid) for member, oid in _SUBJECT.items()}
    common, serial = texts(NameOID.COMMON_NAME), texts(NameOID.SERIAL_NUMBER)
    # The last of several counts, as in the peer.
    found["CommonName"] = common[-1] if common else ""
    found["SerialNumber"] = serial[-1] if serial else ""
    found["ExtraNames"] = []
    return found


def _alternatives(csr: x509.CertificateSigningRequest) -> dict[str, list[str]]:
    try:
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return {"DNSNames": [], "EmailAddresses": [], "IPAddresses": [], "URIs": []}
    return {
        "DNSNames": names.get_values_for_type(x509.DNSName),
        "EmailAddresses": names.get_values_for_type(x509.RFC822Name),
        "IPAddresses": [str(ip) for ip in names.get_values_for_type(x509.IPAddress)],
        "URIs": names.get_values_for_type(x509.UniformResourceIdentifier),
    }
