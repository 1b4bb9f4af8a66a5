"""OpenSSL 4 with X509_V_FLAG_X509_STRICT, as pyOpenSSL drives the one in cryptography's wheel: it knows ML-DSA.

The binding asks for no names, purposes or OCSP answers; the machine's OpenSSL is asked for those.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from OpenSSL import crypto

from tests.harness.validators.case import Case

_EXTENDED_CRL, _USE_DELTAS = 0x1000, 0x2000  # X509_V_FLAG_*, which the binding does not name
_FLAGS = crypto.X509StoreFlags


def judge(cases: Sequence[Case], folder: Path) -> dict[str, str]:
    """Every case with neither OCSP answer nor a CRL alone."""
    del folder
    return {case.name: _one(case) for case in cases if not case.ocsp and not case.listing}


def _one(case: Case) -> str:
    store = crypto.X509Store()
    flags = _FLAGS.X509_STRICT | _FLAGS.CHECK_SS_SIGNATURE
    if case.crls:
        flags |= _FLAGS.CRL_CHECK if case.leaf_only else _FLAGS.CRL_CHECK | _FLAGS.CRL_CHECK_ALL
        flags |= _EXTENDED_CRL | _USE_DELTAS
    store.set_flags(flags)
    store.set_time(datetime.fromtimestamp(case.at, UTC))
    try:
        for root in case.roots:
            store.add_cert(_certificate(root))
        for crl in case.crls:
            store.add_crl(x509.load_der_x509_crl(crl))
        chain = [_certificate(der) for der in case.chain]
        crypto.X509StoreContext(store, _certificate(case.leaf), chain).verify_certificate()
    except (crypto.X509StoreContextError, crypto.Error, ValueError) as refused:
        return str(refused) or "refused"
    return ""


def _certificate(der: bytes) -> Any:
    return crypto.X509.from_cryptography(x509.load_der_x509_certificate(der))
