"""URLs that go into certificates: where the issuer, its CRLs and its responder are found.

With `enable_templating` they may hold {{issuer_id}}, {{cluster_path}} and {{cluster_aia_path}}, which are filled in
when a certificate is made.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from kms.errors import invalid
from pki.model import MountConfig, Urls

URL_FIELDS = (
    "issuing_certificates",
    "crl_distribution_points",
    "ocsp_servers",
    "delta_crl_distribution_points",
)
_MARK = re.compile(r"\{\{\s*([a-z_]+)\s*\}\}")
_MARKS = {"issuer_id", "cluster_path", "cluster_aia_path"}


def changed_urls(urls: Urls, args: Mapping[str, Any], given: frozenset[str] | None, *, flag: str) -> Urls:
    """`urls` with those of `args`; with `given` only those that the client sent.

    `flag` is the name of the field that switches templates on.

    Raises:
        KmsError(INVALID): not a URL, or a template that nothing fills in.
    """
    if given is None:
        given = frozenset((*URL_FIELDS, flag))
    templating = bool(args.get(flag)) if flag in given else urls.enable_templating
    changes = {name: tuple(args.get(name) or ()) for name in URL_FIELDS if name in given}
    changed = msgspec.structs.replace(urls, enable_templating=templating, **changes)
    for name in URL_FIELDS:
        checked_urls(name, getattr(changed, name), templating=templating)
    return changed


def checked_urls(name: str, values: Iterable[str], *, templating: bool = False) -> tuple[str, ...]:
    """Absolute http, https or ldap URLs. Raises KmsError(INVALID)."""
    checked = tuple(values)
    for value in checked:
        sample = value
        if templating:
            unknown = set(_MARK.findall(value)) - _MARKS
            if unknown:
                raise invalid(f"unknown template {min(unknown)} in {name}: {value}")
            sample = _MARK.sub(lambda mark: "x" if mark[1] == "issuer_id" else "http://h/p", value)
        if not is_url(sample):
            raise invalid(
                f"invalid URL found in Authority Information Access (AIA) parameter {name}: {value}"
            )
    return checked


def filled(urls: Urls, config: MountConfig, issuer_id: str) -> Urls:
    """`urls` as certificates of this issuer carry them.

    Raises:
        KmsError(INVALID): a template needs a setting of config/cluster that is empty, or gives no URL.
    """
    if not urls.enable_templating:
        return urls
    values = {
        "issuer_id": issuer_id,
        "cluster_path": config.cluster_path,
        "cluster_aia_path": config.cluster_aia_path,
    }

    def fill(mark: re.Match[str]) -> str:
        value = values.get(mark[1], "")
        if not value:
            raise invalid(f"unable to template AIA URLs: {mark[1]} is not set: write it to config/cluster")
        return value

    made = {name: tuple(_MARK.sub(fill, each) for each in getattr(urls, name)) for name in URL_FIELDS}
    for name, each in made.items():
        checked_urls(name, each)
    return msgspec.structs.replace(urls, **made)


def is_url(value: str) -> bool:
    """Whether it is an absolute http, https or ldap URL."""
    if not value.isascii() or not value.isprintable() or " " in value:
        return False
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return parts.scheme in {"http", "https", "ldap"} and bool(parts.hostname)
