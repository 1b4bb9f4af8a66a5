"""Partitioned CRLs: which shard a certificate belongs to, and the URL that it carries for it.

A leaf's shard is chosen when it is issued, by its serial, and written into its CRL distribution point: the
URL of the mount or issuer, `/shard/`, the issuer's id, and the shard's number. The shard's CRL names the same
URL in its issuingDistributionPoint (RFC 5280 5.2.5), which relying parties compare. So nothing about a shard
that is in certificates may ever change: `Shards` keeps the greatest count and all URLs that were configured.
"""

from __future__ import annotations

import re

from cryptography import x509

from kms.errors import invalid
from kms.tables import Transaction
from pki.model import Issuer, MountConfig, Shards, Urls
from pki.store import CRL_SHARDS, put
from pki.urls import filled

MAX_SHARDS = 1024
MAX_PLACES = 16
NO_SHARD = -1

_URL_END = re.compile(r"/shard/([0-9a-f-]{36})/(0|[1-9][0-9]{0,3})\Z")


def shard_url(place: str, issuer_id: str, shard: int) -> str:
    """Where a shard is found, given the distribution point of the complete CRL."""
    return f"{place}/shard/{issuer_id}/{shard}"


def points(config: MountConfig, urls: Urls, issuer_id: str) -> tuple[x509.CRLDistributionPoints, ...]:
    """The distribution points of each shard; none where the mount has no shards, or no URL."""
    if not urls.crl_distribution_points:
        return ()
    return tuple(
        distribution_points(
            [shard_url(place, issuer_id, shard) for place in urls.crl_distribution_points],
        )
        for shard in range(config.crl_shards)
    )


def distribution_points(urls: list[str]) -> x509.CRLDistributionPoints:
    """One point with several names: the same CRL, wherever it is fetched (RFC 5280 4.2.1.13)."""
    names = [x509.UniformResourceIdentifier(url) for url in urls]
    return x509.CRLDistributionPoints([x509.DistributionPoint(names, None, None, None)])


def note(tx: Transaction, mount_id: str, issuer: Issuer, config: MountConfig) -> None:
    """Keep what certificates issued from now on will name; in the commit of the settings.

    Raises:
        KmsError(INVALID): more URLs than a CRL should name, or a template that nothing fills in.
    """
    if not config.crl_shards or not issuer.key_id:
        return
    places = filled(issuer.urls or config.urls, config, issuer.id).crl_distribution_points
    if not places:
        return
    key = f"{mount_id}/{issuer.id}"
    row = tx.get(CRL_SHARDS, key)
    known = row.value if row is not None else Shards(count=0, places=())
    wanted = Shards(
        count=max(known.count, config.crl_shards),
        places=(*known.places, *(place for place in places if place not in known.places)),
    )
    if len(wanted.places) > MAX_PLACES:
        raise invalid(
            f"the shards of issuer {issuer.id} would have more than {MAX_PLACES} URLs, and those that certificates"
            " name cannot be taken away: make a new issuer"
        )
    if wanted != known:
        put(tx, CRL_SHARDS, key, wanted)


def shard_of(certificate: x509.Certificate, issuer_id: str, shards: Shards | None) -> int:
    """The shard that a certificate names, for one that is on no record."""
    try:
        named = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    except x509.ExtensionNotFound:
        return NO_SHARD
    for point in named:
        for name in point.full_name or ():
            found = _URL_END.search(str(name.value))
            if found is None or found[1] != issuer_id or shards is None:
                continue
            shard = int(found[2])
            return shard if shard < shards.count else NO_SHARD
    return NO_SHARD


def checked_count(count: int) -> int:
    """Raises KmsError(INVALID) outside 0 to `MAX_SHARDS`."""
    if not 0 <= count <= MAX_SHARDS:
        raise invalid(f"shards must be between 0 (none) and {MAX_SHARDS}")
    return count
