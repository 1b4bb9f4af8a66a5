"""What a token can do with RSA-OAEP, found out with a pair that is thrown away.

A session pair where the token has such; else a token object, destroyed at once (TPMs make no other).
"""

from __future__ import annotations

from typing import Any, Final

from pkcs11 import exceptions as p11
from pkcs11.mechanisms import Mechanism

from kms.errors import KmsError
from kms.hsm import objects, proof
from kms.hsm.connection import Connection
from kms.hsm.failures import LOST
from kms.hsm.model import KeySpec, Purpose
from kms.hsm.public import spki_of
from kms.ids import new_cka_id

LABEL: Final = "keystead trial"


def oaep(connection: Connection, session: Any, purpose: Purpose) -> tuple[str, ...]:
    """The hashes, best first, that such a pair of this token works with; empty if it makes none."""
    if not {Mechanism.RSA_PKCS_OAEP, Mechanism.RSA_PKCS_KEY_PAIR_GEN} <= connection.mechanisms:
        return ()
    if purpose is Purpose.IMPORT_UNWRAP and connection.kwp is None:
        return ()  # the second step is missing, and some modules break on nested templates
    for stored in (False, True):
        made = _pair(session, purpose, stored=stored)
        if made is None:
            continue
        try:
            spki = spki_of(made[1], KeySpec.RSA_2048)
            handle = int(made[0].handle)
            if purpose is Purpose.IMPORT_UNWRAP:
                return proof.unwrapping(session, handle, spki, connection.kwp)
            return proof.decrypting(session, handle, spki)
        finally:
            for each in made:
                each.destroy()
    return ()


def _pair(session: Any, purpose: Purpose, *, stored: bool) -> tuple[Any, Any] | None:
    try:
        return objects.make(
            session, purpose, KeySpec.RSA_2048, token=stored, cka_id=new_cka_id(), label=LABEL
        )
    except LOST:
        raise
    except (p11.PKCS11Error, KmsError):
        return None
