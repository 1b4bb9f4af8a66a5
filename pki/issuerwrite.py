"""Accepting changed settings of an issuer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from cryptography import x509

from kms.errors import ErrorKind, KmsError, invalid
from pki import capable
from pki.capable import USAGES
from pki.model import Issuer, Urls
from pki.schemes import CaPublicKey, algorithm_name, named_scheme
from pki.urls import changed_urls

_REVOKED = (
    "This issuer was revoked; unable to modify its usage to include certificate signing again. Reissue this"
    " certificate (preferably with a new key) and modify that entry instead."
)
_ALGORITHMS = (
    "sha256withrsa, sha384withrsa, sha512withrsa, ecdsawithsha256, ecdsawithsha384, ecdsawithsha512, pureed25519,"
    " ed25519, sha256withrsapss, sha384withrsapss, sha512withrsapss"
)


def changed_issuer(
    issuer: Issuer, args: Mapping[str, Any], given: frozenset[str] | None, known: Sequence[Issuer]
) -> Issuer:
    """`issuer` with new settings: all of them, or with `given` only those (PATCH).

    Raises:
        KmsError(INVALID): the first thing that is wrong.
    """
    fields: dict[str, tuple[str, Callable[[], Any]]] = {
        "issuer_name": ("name", lambda: str(args.get("issuer_name") or "")),
        "leaf_not_after_behavior": ("leaf_not_after_behavior", lambda: _behavior(args)),
        "usage": ("usage", lambda: _usage(issuer, args)),
        "manual_chain": ("manual_chain", lambda: _manual_chain(issuer, args, known)),
        "revocation_signature_algorithm": (
            "revocation_signature_algorithm",
            lambda: _algorithm(issuer, args),
        ),
    }
    changes = {
        attribute: read() for name, (attribute, read) in fields.items() if given is None or name in given
    }
    urls = issuer.urls if given is not None else Urls()
    changed = msgspec.structs.replace(issuer, urls=issuer_urls(urls, args, given), **changes)
    if issuer.revoked_at and "issuing-certificates" in changed.usage:
        raise invalid(_REVOKED)
    return changed


def issuer_urls(urls: Urls, args: Mapping[str, Any], given: frozenset[str] | None) -> Urls:
    """The issuer's own URLs, changed."""
    return changed_urls(urls, args, given, flag="enable_aia_url_templating")


def _behavior(args: Mapping[str, Any]) -> str:
    behavior = str(args.get("leaf_not_after_behavior") or "err")
    if behavior == "permit":
        raise invalid("leaf_not_after_behavior must be err or truncate: no leaf outlives its issuer here")
    if behavior not in {"err", "truncate"}:
        raise invalid(
            "Unknown value for field `leaf_not_after_behavior`. Possible values are `err` and `truncate`."
        )
    return behavior


def _usage(issuer: Issuer, args: Mapping[str, Any]) -> tuple[str, ...]:
    asked = [str(text).strip() for text in args.get("usage") or () if str(text).strip()]
    if not set(asked) <= set(USAGES):
        raise invalid(
            f"Unable to parse specified usages: [{' '.join(asked)}] - valid values are {','.join(USAGES)}"
        )
    usage = tuple(sorted({*asked, "read-only"}))
    capable.check(x509.load_der_x509_certificate(issuer.certificate), usage)
    return usage


def _manual_chain(issuer: Issuer, args: Mapping[str, Any], known: Sequence[Issuer]) -> tuple[str, ...]:
    chain = []
    for ref in args.get("manual_chain") or ():
        found = next(
            (
                each.id
                for each in known
                if ref in {each.id, each.name} or (ref == "self" and each.id == issuer.id)
            ),
            None,
        )
        if found is None:
            raise KmsError(ErrorKind.INVALID, f"unable to find PKI issuer for reference: {ref}", status=500)
        chain.append(found)
    if chain and chain[0] != issuer.id:
        raise invalid(f"manual_chain must begin with the issuer itself: {issuer.id}")
    return tuple(chain)


def _algorithm(issuer: Issuer, args: Mapping[str, Any]) -> str:
    name = str(args.get("revocation_signature_algorithm") or "")
    if not name:
        return ""
    public = x509.load_der_x509_certificate(issuer.certificate).public_key()
    scheme = named_scheme(public, name) if isinstance(public, CaPublicKey) else None
    if scheme is None or not isinstance(public, CaPublicKey):
        raise invalid(
            f"revocation_signature_algorithm {name} is unknown or not one of this issuer's key -"
            f" valid values are {_ALGORITHMS}"
        )
    return algorithm_name(public, scheme)
