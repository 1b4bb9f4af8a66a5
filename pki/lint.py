"""What is looked at before the CA's key signs anything.

Two gates, both on a copy that carries no signature:

- ours, on every CRL, every OCSP answer and every certificate that was built and not spliced (pki.signing): the
  copy is parsed again and each variable field is compared with what was asked for and with RFC 5280 and CA/B BR 7.1;
- pkilint's, which costs milliseconds: once for each new shape of certificate or OCSP answer, on one in `sample`
  after that, on every CA certificate, and on every kind of CRL (decisions: certificates).

A finding refuses the request; nothing has been recorded or signed by then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from functools import cache
from importlib import import_module
from typing import Any, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kms.errors import integrity, invalid
from kms.strangers import CRASHES
from kms.together import aside
from pki.lintocsp import WantedAnswer, check_ocsp_copy
from pki.lintrules import check_rules
from pki.model import CRL_EXPIRY_MAX, PublicCrl
from pki.names import check_dns, check_email, check_uri
from pki.profiles.draft import CA_PROFILES, Draft, Extensions

_SHAPES_KEPT = 10_000
SAMPLE = 1_000

# pkilint reads dNSName and URI by the letter of RFC 1034 and of http: it refuses wildcards, single
# labels and every SPIFFE ID. Our own grammar (pki.names) is stricter and runs on every name.
_OURS = frozenset({"pkix.invalid_domain_name_syntax", "pkix.invalid_uri_syntax"})


class Validators(Protocol):
    """pkilint's part, replaceable by tests."""

    def certificate(self, der: bytes) -> list[str]: ...

    def crl(self, der: bytes) -> list[str]: ...

    def ocsp(self, der: bytes) -> list[str]: ...


class Linter:
    """Keeps which shapes have passed. One per process, safe among threads.

    `sample` is how often pkilint sees a certificate of a known shape: one in that many, 1 for all.
    """

    def __init__(self, sample: int = SAMPLE, validators: Validators | None = None) -> None:
        self._sample = sample
        self._validators = validators if validators is not None else Pkilint()
        self._passed: set[Hashable] = set()
        self._count = 0
        self._lock = threading.Lock()

    def due(self, shape: Hashable) -> bool:
        """Count one certificate; whether it is of a new shape or the one of the sample."""
        with self._lock:
            self._count += 1
            return shape not in self._passed or self._count % self._sample == 0

    def certificate(self, der: bytes, draft: Draft, *, due: bool | None = None) -> None:
        """Judge the unsigned copy of a certificate; `due` if it was counted already.

        Raises:
            KmsError(INTEGRITY): the copy does not say what the draft says: a defect of ours.
            KmsError(INVALID): pkilint reports an error.
        """
        check_copy(der, draft)
        check_rules(x509.load_der_x509_certificate(der), ca=draft.profile in CA_PROFILES)
        if self.due(draft.shape) if due is None else due:
            # Milliseconds, and seldom: the other calls of this thread do not wait for it.
            _refuse(aside(lambda: self._validators.certificate(der)), "certificate")
            self._remember(draft.shape)

    def crl(
        self,
        der: bytes,
        wanted: PublicCrl,
        issuer: x509.Name,
        longest: int = CRL_EXPIRY_MAX,
        *,
        extensions: Extensions = (),
        sample: Callable[[], bytes] | None = None,
    ) -> None:
        """Judge the unsigned copy of a CRL; pkilint sees the first empty and the first full one of each kind.

        `extensions` are all that it must have, if given; `sample` makes a copy with few entries, for pkilint.

        Raises:
            KmsError: as for certificates.
        """
        check_crl_copy(der, wanted, issuer, longest, extensions)
        kind = tuple((value.oid.dotted_string, critical) for value, critical in extensions)
        shape = ("crl", kind, wanted.entries == 0)
        if shape not in self._passed:
            _refuse(self._validators.crl(sample() if sample is not None else der), "CRL")
            self._remember(shape)

    def ocsp(self, der: bytes, wanted: WantedAnswer) -> None:
        """Judge the unsigned copy of an OCSP answer; pkilint sees new shapes and the sample.

        Raises:
            KmsError: as for certificates.
        """
        check_ocsp_copy(der, wanted)
        if self.due(wanted.shape):
            _refuse(self._validators.ocsp(der), "OCSP answer")
            self._remember(wanted.shape)

    def _remember(self, shape: Hashable) -> None:
        with self._lock:
            if len(self._passed) >= _SHAPES_KEPT:
                self._passed.clear()
            self._passed.add(shape)


def check_copy(der: bytes, draft: Draft) -> None:
    """Our own gate. Raises KmsError(INTEGRITY) naming the field."""
    copy = x509.load_der_x509_certificate(der)
    _demand(copy.serial_number == draft.serial, "serial number")
    _demand(draft.serial.bit_length() == 159, "serial number length")
    _demand(int(copy.not_valid_before_utc.timestamp()) == draft.not_before, "notBefore")
    _demand(int(copy.not_valid_after_utc.timestamp()) == draft.not_after, "notAfter")
    _demand(draft.not_before <= draft.not_after, "validity")
    _demand(copy.issuer == draft.issuer, "issuer")
    _demand(copy.subject == draft.subject, "subject")
    spki = copy.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    _demand(spki == draft.spki, "public key")
    # The parser refuses a repeated extension.
    extensions = copy.extensions
    _demand(len(extensions) == len(draft.extensions), "number of extensions")
    for extension, (value, critical) in zip(extensions, draft.extensions, strict=True):
        _demand(extension.value == value and extension.critical == critical, value.oid.dotted_string)
        if isinstance(extension.value, x509.SubjectAlternativeName):
            _check_names(extension.value)
            _demand(critical or bool(list(copy.subject)), "criticality of the alternative name")
        elif isinstance(extension.value, x509.BasicConstraints):
            ca = draft.profile in CA_PROFILES
            _demand(extension.value.ca is ca and critical, "BasicConstraints")


def check_crl_copy(
    der: bytes,
    wanted: PublicCrl,
    issuer: x509.Name,
    longest: int = CRL_EXPIRY_MAX,
    extensions: Extensions = (),
) -> None:
    """Our own gate for CRLs. Raises KmsError(INTEGRITY) naming the field."""
    copy = x509.load_der_x509_crl(der)
    number = copy.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    next_update = copy.next_update_utc
    _demand(number == wanted.number and 0 < number < 1 << 159, "CRL number")
    _demand(copy.issuer == issuer, "issuer")
    _demand(int(copy.last_update_utc.timestamp()) == wanted.this_update, "thisUpdate")
    _demand(next_update is not None and int(next_update.timestamp()) == wanted.next_update, "nextUpdate")
    _demand(0 < wanted.next_update - wanted.this_update <= longest, "life of the CRL")
    _demand(len(copy) == wanted.entries, "number of entries")
    found = tuple((extension.value, extension.critical) for extension in copy.extensions)
    _demand(not extensions or found == extensions, "extensions")


def _check_names(names: x509.SubjectAlternativeName) -> None:
    for name in names:
        try:
            if isinstance(name, x509.DNSName):
                check_dns(name.value)
            elif isinstance(name, x509.RFC822Name):
                check_email(name.value)
            elif isinstance(name, x509.UniformResourceIdentifier):
                check_uri(name.value)
        except ValueError as bad:
            raise invalid(f"{name.value!r} cannot stand in a certificate: {bad}") from None


def _demand(holds: bool, what: str) -> None:
    if not holds:
        raise integrity(f"the document to sign is not the one asked for: {what}")


def _refuse(findings: list[str], what: str) -> None:
    if findings:
        raise invalid(f"this {what} would break X.509 rules: {'; '.join(findings)}")


class Pkilint:
    """The RFC 5280 and RFC 6960 validators of pkilint, loaded when first needed (0.15 s)."""

    def certificate(self, der: bytes) -> list[str]:
        """Findings of severity ERROR and worse, as text."""
        loader: Any = import_module("pkilint.loader")
        return _findings(_certificate_validator(), lambda: loader.load_certificate(der, "certificate"))

    def crl(self, der: bytes) -> list[str]:
        """Findings of severity ERROR and worse, as text."""
        loader: Any = import_module("pkilint.loader")
        lists = loader.RFC5280CertificateListDocumentLoader()
        return _findings(_crl_validator(), lambda: lists.load_der_document(der, "crl"))

    def ocsp(self, der: bytes) -> list[str]:
        """Findings of severity ERROR and worse, as text."""
        loader: Any = import_module("pkilint.loader")
        answers = loader.RFC6960OCSPResponseDocumentLoader()
        return _findings(_ocsp_validator(), lambda: answers.load_der_document(der, "ocsp"))


@cache
def _certificate_validator() -> Any:
    certificate: Any = import_module("pkilint.pkix.certificate")
    mappings = _name_mappings(), _extension_mappings()
    return certificate.create_pkix_certificate_validator_container(
        certificate.create_decoding_validators(*mappings),
        [
            certificate.create_issuer_validator_container([]),
            certificate.create_validity_validator_container(),
            certificate.create_subject_validator_container([]),
            certificate.create_extensions_validator_container([]),
            certificate.create_spki_validator_container([]),
        ],
    )


@cache
def _crl_validator() -> Any:
    pkix: Any = import_module("pkilint.pkix")
    crl: Any = import_module("pkilint.pkix.crl")
    return crl.create_pkix_crl_validator_container(
        [
            pkix.create_attribute_decoder(_name_mappings()),
            pkix.create_extension_decoder(_extension_mappings()),
        ],
        [
            crl.create_issuer_validator_container([]),
            crl.create_validity_validator_container([]),
            crl.create_extensions_validator_container([]),
        ],
    )


@cache
def _ocsp_validator() -> Any:
    pkix: Any = import_module("pkilint.pkix")
    ocsp: Any = import_module("pkilint.pkix.ocsp")
    decoders = [
        ocsp.create_response_decoder(),
        pkix.create_attribute_decoder(_name_mappings()),
        pkix.create_extension_decoder(_extension_mappings()),
    ]
    return ocsp.create_pkix_ocsp_response_validator_container(decoders, [])


def _name_mappings() -> Any:
    return import_module("pkilint.pkix.name").ATTRIBUTE_TYPE_MAPPINGS


def _extension_mappings() -> Any:
    return import_module("pkilint.pkix.extension").EXTENSION_MAPPINGS


def _findings(validator: Any, load: Callable[[], Any]) -> list[str]:
    """What it says of a document; that it cannot read one is a finding too."""
    try:
        return _read_findings(validator, load())
    except CRASHES as error:  # names of a CSR in odd encodings break its decoders
        return [f"pkilint cannot read it: {type(error).__name__}"]


def _read_findings(validator: Any, document: Any) -> list[str]:
    worst_allowed = import_module("pkilint.validation").ValidationFindingSeverity.WARNING
    found = []
    for result in validator.validate(document.root):
        for description in result.finding_descriptions:
            finding = description.finding
            if finding.severity >= worst_allowed or finding.code in _OURS:  # FATAL is 0, DEBUG is 5
                continue
            found.append(f"{finding.code} ({description.message})" if description.message else finding.code)
    return found
