"""How the CA's operations of each effect are declared."""

from __future__ import annotations

from kms.operation import External, Result
from pki.declaring import Facts, Kinds

PKI = Kinds("pki")
external, state, read, listing = PKI.external, PKI.state, PKI.read, PKI.listing


def nothing_happened(intent: Facts) -> External[None]:
    """An import that died left no state behind; its CRL was never published."""
    return External(
        intent,
        lambda _: None,
        lambda: None,
        lambda _tx, _done: Result(subject=intent, partial=True),
        lambda _tx, _error: None,
    )
