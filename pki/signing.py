"""Prepare, then sign: the two steps of the irreversible act (Boulder's issuanceToken).

`prepare` and `prepare_leaf` are the only makers of a `Prepared`, and `sign` takes nothing else, so nothing
is signed that was not linted, or spliced of checked values into the parts of a linted certificate of the
same shape. The HSM is asked to sign exactly the linted bytes: `HsmSigner(only=...)` compares before
C_Sign, and the result is compared and verified again after it (a faulty HSM is caught here, T-15).
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from kms.errors import integrity
from pki import schemes
from pki.der import BIT_STRING, SEQUENCE, content, element, tlv
from pki.hsmkey import CaRef, CaToken, DrySigner, HsmSigner, private_key
from pki.lint import Linter
from pki.profiles import Draft, Leaf, builder
from pki.schemes import CaPublicKey

_SPKI = 6  # version, serial, signature, issuer, validity, subject, then the key (RFC 5280 4.1)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A linted draft and its to-be-signed bytes. Made by `prepare` and `prepare_leaf` only."""

    draft: Draft | Leaf
    tbs: bytes
    algorithm: bytes  # the AlgorithmIdentifier of the signature, DER


def prepare_leaf(leaf: Leaf, issuer_key: CaPublicKey, linter: Linter) -> Prepared:
    """Splice a leaf of a known shape; build and lint the first of each shape and one in `sample`.

    Those that are built must be what the splice makes of them, byte for byte.

    Raises:
        KmsError(INVALID): it breaks a rule of X.509. KmsError(INTEGRITY): it is not what the leaf says.
    """
    due = linter.due(leaf.shape)
    shared = leaf.template.splices.get(leaf.shape)
    if shared is not None and not due and leaf.plain:
        return Prepared(leaf, leaf.tbs(shared), shared.signature)
    built = prepare(leaf.draft(), issuer_key, linter, due=due)
    if leaf.plain:
        shared = shared or leaf.learn(built.tbs)
        algorithm = shared.signature  # which one it names; no signature is in there
        if leaf.tbs(shared) != built.tbs or algorithm != built.algorithm:
            raise integrity("a spliced certificate differs from the built one")
        leaf.template.keep(leaf.shape, shared)
    return built


def prepare(draft: Draft, issuer_key: CaPublicKey, linter: Linter, *, due: bool | None = None) -> Prepared:
    """Build the certificate without a signature and lint it; `due` as in `Linter.certificate`.

    Raises:
        KmsError(INVALID): it breaks a rule of X.509. KmsError(INTEGRITY): it is not what the draft says.
    """
    signer = private_key(issuer_key, DrySigner(issuer_key))
    dry: x509.Certificate = schemes.build(builder(draft), signer, draft.hash_name)
    der, tbs = dry.public_bytes(Encoding.DER), dry.tbs_certificate_bytes
    linter.certificate(der, draft, due=due)
    return Prepared(draft, tbs, _algorithm(der, tbs, dry.signature))


def sign(prepared: Prepared, issuer_key: CaPublicKey, token: CaToken, ref: CaRef) -> bytes:
    """The certificate in DER: the linted bytes, their algorithm, and the HSM's signature.

    Raises:
        KmsError: the HSM's; INTEGRITY when what came back is not the linted certificate, well signed.
    """
    signer = HsmSigner(token, ref, only=prepared.tbs)
    signature = signer.sign(prepared.tbs, prepared.draft.hash_name)
    # Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signature BIT STRING } (RFC 5280 4.1).
    # Put together here and parsed by another's code: building it twice would cost more than signing it.
    body = prepared.tbs + prepared.algorithm + tlv(BIT_STRING, b"\x00" + signature)
    der = tlv(SEQUENCE, body)
    try:
        signed = x509.load_der_x509_certificate(der)
        same = signed.tbs_certificate_bytes == prepared.tbs
        says = _says(signed, prepared.draft)
    except (ValueError, UnsupportedAlgorithm):
        raise integrity("the signed certificate cannot be read") from None
    if not (same and says):
        raise integrity("the signed certificate is not the one that was checked")
    if not schemes.verifies(issuer_key, signed.signature, prepared.tbs, prepared.draft.hash_name):
        raise integrity("the HSM's signature over a certificate does not verify")
    return der


def _says(signed: x509.Certificate, draft: Draft | Leaf) -> bool:
    """Whether it can be read in it what a splice should have written; all but the key by another's code.

    The key is looked for in its place: having it decoded costs as much as making one, and those that are
    built as well (`prepare_leaf`) are compared in every byte.
    """
    return (
        signed.serial_number == draft.serial
        and signed.not_valid_before_utc.timestamp() == draft.not_before
        and signed.not_valid_after_utc.timestamp() == draft.not_after
        and element(content(signed.tbs_certificate_bytes), _SPKI) == draft.spki
    )


def _algorithm(der: bytes, tbs: bytes, filler: bytes) -> bytes:
    """What stands between the to-be-signed bytes and the signature of the unsigned copy."""
    start = der.index(tbs) + len(tbs)
    end = len(der) - len(tlv(BIT_STRING, b"\x00" + filler))
    return der[start:end]
