"""The HSM: the only package that talks PKCS#11.

It promises that root, CA and log keys, and every key of protection "hsm", are born in the token and that their
bytes never exist outside it; that each key does one thing only (templates.py) and that this is read back
from the token; that threads and forks are safe; and that a token that has gone is told from a key that does
not exist, and is found again without a restart.

It never creates a key from bytes (no C_CreateObject of a secret or private key), never changes a stored object,
never repeats a generation, never tries a refused PIN twice, and never knows what a key is called in the API: it
is given CKA_IDs and blobs, and the rows that hold them are somebody else's.

Several tokens stand behind the same port (group.py): a use is tried once by another token that holds the key, a birth
never is.

One `Hsm` per process, opened after the fork and shared by all its threads. Keys, operations, audit (through a
signer) and pki (through cryptography's key classes) call it; storage does not know it.
"""

from kms.hsm.group import AwayError, HsmGroup, open_group
from kms.hsm.hsm import Hsm
from kms.hsm.importing import Parcel
from kms.hsm.joint import lacks_for_joint, make_joint
from kms.hsm.model import (
    HsmConfig,
    KeyRef,
    KeySpec,
    Purpose,
    Resident,
    Scheme,
    Seal,
    TokenInfo,
    Wrapped,
)
from kms.hsm.ours import Ours
from kms.hsm.public import oaep_encrypt, point_of
from kms.hsm.token import find_softhsm_module, softhsm_token
from kms.hsm.vectors import SelfTestError

__all__ = [
    "AwayError",
    "Hsm",
    "HsmConfig",
    "HsmGroup",
    "KeyRef",
    "KeySpec",
    "Ours",
    "Parcel",
    "Purpose",
    "Resident",
    "Scheme",
    "Seal",
    "SelfTestError",
    "TokenInfo",
    "Wrapped",
    "find_softhsm_module",
    "lacks_for_joint",
    "make_joint",
    "oaep_encrypt",
    "open_group",
    "point_of",
    "softhsm_token",
]
