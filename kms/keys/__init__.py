"""Named keys: what they are, where their bytes may exist, and what may be done with them when.

Promises: a key has exactly one primary version, and version numbers never repeat or go back; an
acknowledged version decrypts what it encrypted until its destruction is on record; the bytes of an
`hsm` key never exist outside the HSM; a name's protection never changes.
Never: performs a cryptographic request of a caller (kms.operations does, with what `KeyService.get`
hands out), opens a transaction across an HSM call, or stores key bytes unsealed.
Used by: kms.operations, kms.jobs, kms.app. Roots, keyring and their rotation are in roots.py,
keyring.py and rotation.py.
"""

from kms.keys.catalogue import ALGORITHMS, Algorithm, Kind, Protection, Use
from kms.keys.lifecycle import Wish
from kms.keys.live import LiveKey
from kms.keys.model import RootProvider
from kms.keys.ready import ReadyVersion
from kms.keys.service import KeyService
from kms.keys.store import TABLES

__all__ = [
    "ALGORITHMS",
    "TABLES",
    "Algorithm",
    "KeyService",
    "Kind",
    "LiveKey",
    "Protection",
    "ReadyVersion",
    "RootProvider",
    "Use",
    "Wish",
]
