"""All that Keystead gave to the tests of this process, shown to others: each certificate, CRL and OCSP answer.

What is to be accepted: every certificate whose chain is known, for what it says it is for; every CRL, as its issuer's;
every statement `good` of an OCSP answer, and a certificate that is not on a CRL, by that CRL. What is to be refused:
certificates by a CRL that lists them, and by an answer that says revoked or unknown; and everything by validators that
do not know its algorithms (`unable`), which is checked to be so.

All of tests/pki, 2,119 cases for each of eight validators, takes 17 s of processor time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa, rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.harness.gathered import Gathered
from tests.harness.paths import Path as Chain
from tests.harness.paths import Paths, within
from tests.harness.validators import VALIDATORS, Case, judge, know_mldsa
from tests.harness.validators.case import Use

_MLDSA = (mldsa.MLDSA44PublicKey, mldsa.MLDSA65PublicKey, mldsa.MLDSA87PublicKey)
_USES: tuple[tuple[x509.ObjectIdentifier, Use], ...] = (
    (ExtendedKeyUsageOID.SERVER_AUTH, "server"),
    (ExtendedKeyUsageOID.CLIENT_AUTH, "client"),
    (ExtendedKeyUsageOID.CODE_SIGNING, "code"),
    (ExtendedKeyUsageOID.EMAIL_PROTECTION, "email"),
    (ExtendedKeyUsageOID.OCSP_SIGNING, "ocsp"),
)


@dataclass
class Verdict:
    """What was shown to whom. `problems` says what others saw differently than we do."""

    certificates: int = 0
    crls: int = 0
    answers: int = 0
    accepted: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        def text(counts: Counter[str]) -> str:
            return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"

        return (
            f"{self.certificates} certificates, {self.crls} CRLs, {self.answers} OCSP answers; "
            f"accepted: {text(self.accepted)}; refused, as they must be: {text(self.refused)}; "
            f"not shown: {text(self.left_out)}"
        )


def show(gathered: Gathered, folder: Path) -> Verdict:
    """Everything to everybody."""
    verdict = Verdict(len(gathered.certificates), len(gathered.crls), len(gathered.answers))
    paths = Paths(gathered.certificates)
    good: list[Case] = []
    bad: list[Case] = []
    for case, wanted in (
        *_certificates(gathered, paths, verdict),
        *_crls(gathered, paths, verdict),
        *_answers(gathered, paths, verdict),
    ):
        (good if wanted else bad).append(case)
    for name in VALIDATORS:
        asked = [case for case in good if not _unasked(name, case)]
        hopeless = {case.name for case in asked if unable(name, case)}
        misses = [case for case in bad if name != "pkilint" and not _unasked(name, case)]
        answers = judge([*asked, *misses], folder, [name])
        _count(
            verdict, name, {c.name: answers[c.name].get(name) for c in asked if c.name not in hopeless}, True
        )
        wrong = hopeless | {case.name for case in misses}
        _count(verdict, name, {each: answers[each].get(name) for each in wrong}, False)
    return verdict


def _count(verdict: Verdict, validator: str, answers: dict[str, str | None], wanted: bool) -> None:
    for case, said in answers.items():
        if said is None:
            verdict.left_out[f"{validator} cannot be asked"] += 1
        elif (said == "") is wanted:
            (verdict.accepted if wanted else verdict.refused)[validator] += 1
        else:
            verdict.problems.append(f"{validator} {'refuses' if wanted else 'accepts'} {case}: {said}")


def unable(validator: str, case: Case) -> str:
    """Why a validator refuses a good case: it does not know what it is made with. "" if it should accept."""
    leaf, signers = _key(case.leaf), [_key(der) for der in (*case.chain, *case.roots)]
    if case.listing:
        signers = [leaf]
    elif validator == "gnutls" and case.leaf in case.roots:
        signers = []  # it is trusted as it is
    # What a leaf's key is, GnuTLS and Java do not look at.
    seen = signers if validator in {"gnutls", "java"} else [leaf, *signers]
    if any(isinstance(key, _MLDSA) for key in seen) and validator not in know_mldsa():
        return "it knows no ML-DSA"
    if case.ocsp and validator in {"nss", "java", "java25"}:
        first = next(iter(ocsp.load_der_ocsp_response(case.ocsp).responses))
        if first.hash_algorithm.name != "sha1":
            return "it names issuers by SHA-1 in what it looks for"
    return _unable_nss(case, [leaf, *signers]) if validator == "nss" else ""


def _unable_nss(case: Case, keys: list[object]) -> str:
    if any(isinstance(key, ed25519.Ed25519PublicKey) for key in keys):
        return "it knows no Ed25519 keys in certificates"
    if any(_in_part(der) for der in case.crls):
        return "it takes complete CRLs only"
    extensions = _extensions(case.leaf)
    usage = extensions.get(x509.KeyUsage)
    if case.purpose == "code":
        return "it wants CAs of code signers marked by an extension of Netscape's"
    bound = isinstance(usage, x509.KeyUsage) and not usage.key_encipherment
    if case.purpose == "server" and isinstance(keys[0], rsa.RSAPublicKey) and bound:
        return "it wants servers with RSA keys to be able to decipher keys"
    if case.crls and not case.listing and x509.CRLDistributionPoints in extensions:
        return "it uses only what it fetched where a certificate says where its CRL is"
    return ""


@cache
def _key(der: bytes) -> object:
    return x509.load_der_x509_certificate(der).public_key()


def _extensions(der: bytes) -> dict[type, Any]:
    return {type(each.value): each.value for each in x509.load_der_x509_certificate(der).extensions}


def _unasked(validator: str, case: Case) -> bool:
    """What makes no sense to a validator."""
    if validator == "openssl4":
        return bool(case.ocsp) or case.listing
    if validator == "nss" and not case.purpose and _of_no_use_to_nss(_extensions(case.leaf)):
        return not case.listing  # it judges for a use, and knows none of these
    if validator == "gnutls" and case.purpose == "ca" and case.leaf not in case.roots:
        # It takes the common name of what it is shown for a host name, of a CA too.
        return any(map(_names_hosts, (*case.chain, *case.roots)))
    # Java's checker asks for the status of all CAs, or of none.
    status = bool(case.crls or case.ocsp) and not case.listing
    return validator in {"java", "java25"} and status and case.purpose == "ca" and bool(case.chain)


def _of_no_use_to_nss(extensions: dict[type, Any]) -> bool:
    usage = extensions.get(x509.KeyUsage)
    bits = ("digital_signature", "key_agreement", "key_encipherment", "key_cert_sign")
    connects = usage is None or any(getattr(usage, bit) for bit in bits)
    return x509.ExtendedKeyUsage in extensions or not connects


def _names_hosts(der: bytes) -> bool:
    """Whether a CA constrains host names."""
    found = _extensions(der).get(x509.NameConstraints)
    trees = (*(found.permitted_subtrees or ()), *(found.excluded_subtrees or ())) if found else ()
    return any(isinstance(tree, x509.DNSName) for tree in trees)


@cache
def _in_part(der: bytes) -> bool:
    extensions = x509.load_der_x509_crl(der).extensions
    return any(
        isinstance(each.value, x509.IssuingDistributionPoint | x509.DeltaCRLIndicator) for each in extensions
    )


# -- what is shown ----------------------------------------------------------------------------------


def _case(name: str, path: Chain, at: int) -> Case:
    links = path.links
    between, root = (links[1:-1], links[-1]) if len(links) > 1 else ((), links[0])
    return Case(name, links[0].der, tuple(one.der for one in between), (root.der,), at, purpose=use(path))


def use(path: Chain) -> Use:
    """What the leaf is for: the first of its usages that relying parties have a name for."""
    leaf = path.links[0]
    if leaf.ca:
        return "ca"
    extensions = _extensions(leaf.der)
    usage = extensions.get(x509.KeyUsage)
    named = extensions.get(x509.ExtendedKeyUsage)
    if named is None or (isinstance(usage, x509.KeyUsage) and not usage.digital_signature):
        return ""
    return next((word for oid, word in _USES if oid in named), "")


def _certificates(gathered: Gathered, paths: Paths, verdict: Verdict) -> Iterator[tuple[Case, bool]]:
    for number, (der, seen) in enumerate(gathered.certificates.items()):
        path = paths.of(der)
        if path is None:
            verdict.left_out["certificates without a known root"] += 1
            continue
        at = within(seen + 2, path.window)
        if at is None:
            verdict.left_out["certificates that never lived together with their issuers"] += 1
            continue
        if path.window[0] >= path.window[1] - 1:
            verdict.left_out["certificates of one second, which OpenSSL takes for over"] += 1
            continue
        yield _case(f"certificate {number}, {path.links[0].serial:x}", path, at), True


def _crls(gathered: Gathered, paths: Paths, verdict: Verdict) -> Iterator[tuple[Case, bool]]:
    """Newest first: each certificate by the newest CRL that lists it, and by each CRL one that it lists and one not."""
    done: set[bytes] = set()
    parsed = {der: x509.load_der_x509_crl(der) for der in gathered.crls}
    for der in sorted(parsed, key=lambda one: parsed[one].last_update_utc, reverse=True):
        crl, seen = parsed[der], gathered.crls[der]
        issuer = paths.signer_of(crl)
        if issuer is None or crl.next_update_utc is None:
            verdict.left_out["CRLs of unknown issuers"] += 1
            continue
        number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        name = f"CRL {number} of {issuer.serial:x}"
        window = (int(crl.last_update_utc.timestamp()), int(crl.next_update_utc.timestamp()))
        at = within(seen + 2, window)
        if at is None:
            verdict.left_out["CRLs that were over when they were seen"] += 1
            continue
        yield Case(name, issuer.der, (), (), at, crls=(der,), listing=True), True
        if not _in_part(der):
            yield from _by_crl(name, (der, crl, window), paths, seen, done)


def _by_crl(
    name: str,
    crl: tuple[bytes, x509.CertificateRevocationList, tuple[int, int]],
    paths: Paths,
    seen: int,
    done: set[bytes],
) -> Iterator[tuple[Case, bool]]:
    der, parsed, window = crl
    told: set[bool] = set()
    for leaf in paths.below(parsed):
        listed = parsed.get_revoked_certificate_by_serial_number(leaf.serial) is not None
        if listed in told and (leaf.der in done or not listed):
            continue
        path = paths.of(leaf.der)
        at = within(seen + 2, path.window, window) if path is not None else None
        # One without a root, or whose list is of another time than its own, says nothing here.
        if path is None or at is None or len(path.links) < 2 or at >= path.window[1]:
            continue
        told.add(listed)
        done.add(leaf.der)
        case = _case(f"{leaf.serial:x} by {name}", path, at)
        yield replace(case, crls=(der,), leaf_only=True), not listed


def _answers(gathered: Gathered, paths: Paths, verdict: Verdict) -> Iterator[tuple[Case, bool]]:
    for number, (der, seen) in enumerate(gathered.answers.items()):
        answer = ocsp.load_der_ocsp_response(der)
        if answer.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            verdict.left_out[f"answers {answer.response_status.name.lower()}"] += 1
            continue
        for single in answer.responses:
            leaf = paths.by_serial(single.serial_number)
            path = paths.of(leaf.der) if leaf is not None else None
            if leaf is None or path is None or len(path.links) < 2:
                verdict.left_out["statements about certificates that nobody has"] += 1
                continue
            start = int(single.this_update_utc.timestamp())
            until = single.next_update_utc
            end = int(until.timestamp()) if until is not None else start + 60
            at = within(seen + 2, path.window, (start, end))
            if at is None:
                verdict.left_out["answers that were over when they were seen"] += 1
                continue
            case = _case(f"{leaf.serial:x} by answer {number}", path, at)
            good = single.certificate_status is ocsp.OCSPCertStatus.GOOD
            yield replace(case, ocsp=der), good
