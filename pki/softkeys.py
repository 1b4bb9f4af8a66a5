"""CA keys of protection software: read for the moment of a signature, and read from what a client brings."""

from __future__ import annotations

import re

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
)

from kms.errors import integrity, invalid
from kms.tables import Reader
from pki.cakinds import kind_of
from pki.schemes import CaPrivateKey
from pki.store import MATERIAL

PEM_KEY = re.compile(r"-----BEGIN (?P<label>[A-Z ]*PRIVATE KEY)-----.*?-----END (?P=label)-----", re.DOTALL)


def pkcs8(private: CaPrivateKey) -> bytes:
    """The stored form."""
    return private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def load(reader: Reader, key: str) -> CaPrivateKey:
    """The private half of a stored key; `key` is mount/id.

    Raises:
        KmsError(INTEGRITY): it is not there, or not what was stored.
    """
    row = reader.get(MATERIAL, key)
    if row is None:
        raise integrity("the private half of a software CA key is missing")
    # The consistency of the pair was checked when it came, and the row is sealed.
    private = load_der_private_key(row.value.pkcs8, None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(private, CaPrivateKey):
        raise integrity("a stored CA key has a type that CAs here never have")
    return private


def parse(text: str) -> CaPrivateKey:
    """One private key in PEM, not encrypted.

    Raises:
        KmsError(INVALID): it is not one, or of a type or size that no CA here has. Never quotes the text.
    """
    try:
        private = load_pem_private_key(text.encode(), None)
    except TypeError:
        raise invalid("the private key is encrypted: decrypt it first") from None
    except (ValueError, UnsupportedAlgorithm):
        raise invalid("the private key could not be parsed") from None
    if not isinstance(private, CaPrivateKey) or kind_of(private) is None:
        raise invalid("this type or size of private key is not supported for CAs")
    return private
