"""Every certificate that a server of the tests has issued, and every CRL, shown to others when the tests are over.

Whatever mounts are left are read through the API. Each certificate whose chain ends in a root that is left is judged
by Go and Java, and one of each shape (issuer, key type, kinds of extensions), up to `MOST`, by OpenSSL, GnuTLS, NSS and
pkilint, which cost more. One that is on its issuer's CRL must be refused by those who look into CRLs.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.harness.api import Api
from tests.harness.validators import Case, judge

MOST = 40
REVOKED_MOST = 3
_RESPONDER = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING])  # no usage that NSS's tool knows
LONGEST_CHAIN = 6
THOROUGH = ("go", "java")
SAMPLED = ("openssl", "gnutls", "nss", "pkilint")
SHORTEST_FOR_MINUTES = 180  # seconds of life that a tool needs which knows minutes only


@dataclass
class Harvest:
    """What was found. `problems` says what others saw differently than we do."""

    certificates: int = 0
    judged: Counter[str] = field(default_factory=Counter)
    without_root: int = 0
    refused_revoked: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        judged = ", ".join(f"{name} {count}" for name, count in sorted(self.judged.items()))
        return (
            f"{self.certificates} certificates, {self.without_root} of them without a root that is left; "
            f"judged by {judged or 'nobody'}; {self.refused_revoked} revoked ones refused"
        )


def harvest(api: Api, folder: Path) -> Harvest:
    """Read all and have it judged."""
    found = Harvest()
    mounts = [path for path, row in api.ok("GET", "sys/mounts").items() if row["type"] == "pki"]
    authorities = {der for mount in mounts for der in _issuers(api, mount)}
    parsed = {der: x509.load_der_x509_certificate(der) for der in authorities}
    crls = [crl for mount in mounts for crl in _crls(api, mount)]
    cases: dict[str, list[Case]] = {}
    revoked: list[Case] = []
    for mount in mounts:
        for serial in _listed_under(api, f"{mount}certs"):
            der = _certificate(api, f"{mount}cert/{serial}")
            if der is None or der in parsed or _is_ca(der):
                continue
            found.certificates += 1
            chain = _chain(der, parsed)
            if chain is None:
                found.without_root += 1
                continue
            case = _case(f"{mount}{serial}", der, chain, parsed, crls)
            if _listed(case):
                revoked.append(case)
            else:
                cases.setdefault(_shape(der, chain), []).append(case)
    _judge(found, cases, revoked, folder)
    return found


def _is_ca(der: bytes) -> bool:
    """Whether it is an authority's, which nobody takes for a leaf."""
    extensions = x509.load_der_x509_certificate(der).extensions
    return any(isinstance(each.value, x509.BasicConstraints) and each.value.ca for each in extensions)


def _judge(found: Harvest, cases: dict[str, list[Case]], revoked: list[Case], folder: Path) -> None:
    everything = [case for each in cases.values() for case in each]
    sample = [each[0] for each in cases.values()][:MOST]
    for name in (*THOROUGH, *SAMPLED):
        mine = [case for case in (everything if name in THOROUGH else sample) if _can(name, case)]
        answers = judge(mine, folder, [name]) if mine else {}
        found.judged[name] += len(mine)
        found.problems += [
            f"{name} refuses {case}: {said[name]}" for case, said in answers.items() if said.get(name)
        ]
        gone = [case for case in revoked if _can(name, case)][: None if name in THOROUGH else REVOKED_MOST]
        if name == "pkilint" or not gone:
            continue
        answers = judge(gone, folder, [name])
        found.refused_revoked += len(gone)
        found.problems += [
            f"{name} accepts {case}, which is revoked"
            for case, said in answers.items()
            if said.get(name) == ""
        ]


def _can(validator: str, case: Case) -> bool:
    """Whether a validator knows the kinds of keys, and a time at which it can be asked."""
    keys = [x509.load_der_x509_certificate(der).public_key() for der in (case.leaf, *case.chain, *case.roots)]
    known: tuple[type, ...] = (rsa.RSAPublicKey, ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey)
    if validator == "go":
        return True
    if validator == "nss":
        known = known[:2]
        if not case.purpose:  # it judges for a use
            return False
        leaf = x509.load_der_x509_certificate(case.leaf)
        if leaf.not_valid_after_utc.timestamp() - case.at < SHORTEST_FOR_MINUTES:
            return False
        # It looks for no CRL of its own where the certificate names one, and may not fetch that here.
        named = any(isinstance(one.value, x509.CRLDistributionPoints) for one in leaf.extensions)
        if (named and case.crls) or any(one.value == _RESPONDER for one in leaf.extensions):
            return False
    return all(isinstance(key, known) for key in keys)


def _listed_under(api: Api, path: str) -> list[str]:
    """The keys of a list; an empty one is a 404."""
    answer = api.list(path)
    assert answer.status in {200, 404}, answer
    return list(answer.data["keys"]) if answer.status == 200 else []


def _issuers(api: Api, mount: str) -> Iterable[bytes]:
    for id_ in _listed_under(api, f"{mount}issuers"):
        yield api.get(f"{mount}issuer/{id_}/der").content


def _crls(api: Api, mount: str) -> Iterable[bytes]:
    """The complete CRL of each issuer that has one and is current."""
    for id_ in _listed_under(api, f"{mount}issuers"):
        answer = api.get(f"{mount}issuer/{id_}/crl/der")
        if answer.status != 200 or not answer.content:
            continue
        crl = x509.load_der_x509_crl(answer.content)
        if crl.next_update_utc is not None and crl.next_update_utc.timestamp() > time.time() + 60:
            yield answer.content


def _certificate(api: Api, path: str) -> bytes | None:
    answer = api.get(path)
    text = answer.data.get("certificate", "") if answer.status == 200 else ""
    if not text:
        return None
    return x509.load_pem_x509_certificate(text.encode()).public_bytes(Encoding.DER)


def _chain(der: bytes, known: dict[bytes, x509.Certificate]) -> list[bytes] | None:
    """The issuers up to a root; None when that is not left."""
    chain: list[bytes] = []
    current = x509.load_der_x509_certificate(der)
    while len(chain) < LONGEST_CHAIN:
        above = next(
            (other for other, one in known.items() if other not in chain and _issued(current, one)), None
        )
        if above is None:
            return None
        chain.append(above)
        current = known[above]
        if current.issuer == current.subject:
            return chain
    return None


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    if certificate.issuer != issuer.subject:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _case(
    name: str, der: bytes, chain: Sequence[bytes], known: dict[bytes, x509.Certificate], crls: Sequence[bytes]
) -> Case:
    leaf = x509.load_der_x509_certificate(der)
    path = [leaf, *(known[one] for one in chain)]
    now = int(time.time())
    end = min(int(one.not_valid_after_utc.timestamp()) for one in path)
    # A moment ahead: to Java, what was revoked in the second of the check is not yet revoked.
    at = min(now + 2, end - 1)
    # The status is asked where it is known of every link, and now: CRLs are of now.
    own = [crl for crl in crls if any(_crl_of(crl, known[one]) for one in chain)]
    full = at > now and all(any(_crl_of(crl, known[one]) for crl in own) for one in chain)
    crls = tuple(own) if full else ()
    return Case(name, der, tuple(chain[:-1]), (chain[-1],), at=at, crls=crls, purpose=_purpose(leaf))


def _purpose(leaf: x509.Certificate) -> Literal["server", "client", ""]:
    """What a TLS peer would use it for; "" where that is nothing."""
    try:
        usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        signs = leaf.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    except x509.ExtensionNotFound:
        return ""
    if not signs:
        return ""
    if ExtendedKeyUsageOID.SERVER_AUTH in usages:
        return "server"
    return "client" if ExtendedKeyUsageOID.CLIENT_AUTH in usages else ""


def _crl_of(der: bytes, issuer: x509.Certificate) -> bool:
    crl = x509.load_der_x509_crl(der)
    return crl.issuer == issuer.subject and _signed(crl, issuer)


def _signed(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    try:
        return crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]  # CA keys sign
    except (TypeError, UnsupportedAlgorithm):
        return False


def _listed(case: Case) -> bool:
    """Whether a CRL of the case names its leaf or a link of its chain."""
    links = [x509.load_der_x509_certificate(der) for der in (case.leaf, *case.chain)]
    lists = [x509.load_der_x509_crl(der) for der in case.crls]
    return any(
        crl.issuer == link.issuer and crl.get_revoked_certificate_by_serial_number(link.serial_number)
        for crl in lists
        for link in links
    )


def _shape(der: bytes, chain: Sequence[bytes]) -> str:
    """Equal for certificates of the same issuer that differ in values only."""
    leaf = x509.load_der_x509_certificate(der)
    kinds = [f"{extension.oid.dotted_string}{extension.critical}" for extension in leaf.extensions]
    key = type(leaf.public_key()).__name__
    return " ".join([str(hash(chain[0])), key, leaf.signature_algorithm_oid.dotted_string, *kinds])
