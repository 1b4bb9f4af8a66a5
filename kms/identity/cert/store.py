"""Rows of the method, below the mount's id. Nothing secret is among them."""

from __future__ import annotations

import msgspec

from kms.identity.methods.params import TokenParams
from kms.identity.model import NEVER
from kms.tables import Table


class Trusted(TokenParams, frozen=True, kw_only=True):
    """Whom to let in: an authority, or one certificate itself; and what the client's must say.

    Args:
        certificate: PEM; the first decides, whether it is an authority. All of an authority's entry are trusted.
        ocsp_ca_certificates: PEM; whose OCSP responders are believed too. They let nobody in.
    """

    certificate: str = ""
    display_name: str = ""
    allowed_names: tuple[str, ...] = ()
    allowed_common_names: tuple[str, ...] = ()
    allowed_dns_sans: tuple[str, ...] = ()
    allowed_email_sans: tuple[str, ...] = ()
    allowed_uri_sans: tuple[str, ...] = ()
    allowed_organizational_units: tuple[str, ...] = ()
    required_extensions: tuple[str, ...] = ()
    allowed_metadata_extensions: tuple[str, ...] = ()
    ocsp_ca_certificates: str = ""
    ocsp_enabled: bool = False
    ocsp_servers_override: tuple[str, ...] = ()
    ocsp_fail_open: bool = False
    ocsp_query_all_servers: bool = False


class CertConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`ocsp_cache_size` 0 stands for the default."""

    disable_binding: bool = False
    enable_identity_alias_metadata: bool = False
    ocsp_cache_size: int = 0


class RevocationList(msgspec.Struct, frozen=True, kw_only=True):
    """One list.

    Args:
        issuer: DER of its issuer's name: serials of other authorities are not meant.
        serials: decimal.
        url: where it is fetched, "" for one that was given.
        valid_until: seconds since the epoch; a list that is fetched is fetched again then. NEVER for a given one.
    """

    issuer: bytes
    serials: frozenset[str]
    url: str = ""
    valid_until: float = NEVER


CERTS = Table("cert-trusted", "cert_certs", Trusted, digest="identity")
CONFIGS = Table("cert-config", "cert_configs", CertConfig, digest="identity")
LISTS = Table("cert-crl", "cert_crls", RevocationList, index=("valid_until",), cached=True, digest="identity")
TABLES = (CERTS, CONFIGS, LISTS)
