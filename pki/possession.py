"""Proof by the private key itself that a caller holds the key of a certificate."""

from __future__ import annotations

import hmac

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from kms.errors import invalid
from pki.goodkey import spki_der

_SHORTEST = 64  # characters; the peer's bound for "that was a path, not a file"


def check_possession(certificate: bytes, text: str) -> None:
    """Compare the public half of a PEM private key with the certificate's.

    Raises:
        KmsError(INVALID): it is no private key, or another one. Never quotes the text.
    """
    if len(text) < _SHORTEST:
        raise invalid(
            "Provided data for private_key was too short; perhaps a path was passed to the API rather than the"
            " contents of a PEM file?"
        )
    try:
        private = load_pem_private_key(text.encode(), None)
    except TypeError:
        raise invalid("the private key is encrypted: decrypt it first") from None
    except (ValueError, UnsupportedAlgorithm):
        raise invalid("failed to parse provided private key") from None
    if not certificate:
        raise invalid("nobody got a certificate with this serial number, so nobody has its key")
    own = spki_der(x509.load_der_x509_certificate(certificate).public_key())
    if not hmac.compare_digest(spki_der(private.public_key()), own):
        raise invalid("provided private key does not match the certificate to revoke")
