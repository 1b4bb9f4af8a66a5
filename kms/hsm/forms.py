"""Which objects a token can carry as roots: the mechanism of the seal, and what there is no object for.

The choice of the seal is the operator's (`[hsm] seal`), made when a root is made. It is not guessed from the token's
list of mechanisms: some list AES-GCM and insist on IVs of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pkcs11 import exceptions as p11
from pkcs11.mechanisms import Mechanism

from kms.hsm import templates
from kms.hsm.connection import Connection
from kms.hsm.failures import ckm, lacking
from kms.hsm.mechanisms import SPECS
from kms.hsm.model import KeySpec, Purpose

# What keys of a purpose need for their use, beyond being made: without it a key would be made that can do nothing.
USED_WITH: Final = {
    Purpose.KEY_ENC: Mechanism.AES_GCM,
    Purpose.KEY_CMAC: Mechanism.AES_CMAC,
    Purpose.KEY_AGREE: Mechanism.ECDH1_DERIVE,
    Purpose.KEY_DECRYPT: Mechanism.RSA_PKCS_OAEP,
}
BEST_RSA: Final = (KeySpec.RSA_3072, KeySpec.RSA_2048)


@dataclass(frozen=True)
class Form:
    """How a root stands in the token.

    Args:
        purpose: what its object is made for.
        spec: its key type.
        lacks: the mechanism for want of which there is no object; "" if there is one.
    """

    purpose: Purpose
    spec: KeySpec
    lacks: str = ""


def root_form(connection: Connection, purpose: Purpose, spec: KeySpec) -> Form:
    """The form in which this token carries a root of that purpose and, by choice, that type."""
    if purpose is Purpose.ROOT_SEAL and connection.rsa_seal:
        return Form(Purpose.ROOT_SEAL_RSA, best_rsa(connection))
    if purpose is Purpose.ROOT_SEAL and Mechanism.AES_GCM not in connection.mechanisms:
        raise lacking('CKM_AES_GCM that takes an IV from us; set seal = "rsa-oaep" in [hsm]')
    if purpose in templates.WRAPS and connection.kwp is None:
        return Form(purpose, spec, "CKM_AES_KEY_WRAP_KWP")
    if purpose is Purpose.LOG_SIGN and Mechanism.EDDSA not in connection.mechanisms:
        return Form(purpose, spec, "CKM_EDDSA")
    return Form(purpose, spec)


def demand_use(connection: Connection, purpose: Purpose) -> None:
    """Refuse a new key that this token could not use.

    Raises:
        KmsError(INVALID): names the mechanism.
    """
    mechanism = USED_WITH.get(purpose)
    if mechanism is not None and mechanism not in connection.mechanisms:
        raise lacking(ckm(mechanism))


def best_rsa(connection: Connection) -> KeySpec:
    """The RSA size for roots: 3072 bits, or 2048 where the token makes no more (TPMs)."""
    slot: Any = connection.token.slot
    try:
        limit = slot.get_mechanism_info(Mechanism.RSA_PKCS_KEY_PAIR_GEN).max_key_length
    except p11.PKCS11Error:
        return BEST_RSA[-1]
    return next((spec for spec in BEST_RSA if SPECS[spec].bits <= limit), BEST_RSA[-1])
