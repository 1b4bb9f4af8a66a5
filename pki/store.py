"""Rows of the CA. Keys begin with the mount's id, so that mounts share nothing."""

from __future__ import annotations

from kms.tables import Reader, Row, T, Table, Transaction
from pki.model import (
    CaKey,
    CelRole,
    Certificate,
    CrlMark,
    CrlNumber,
    Issuer,
    KeyMaterial,
    MountConfig,
    PublicCrl,
    PublicIssuer,
    Responder,
    Revocation,
    Role,
    Shards,
    TidyStatus,
)

_DOMAIN = "pki"  # the state digest: an old or missing row of these is found by the sweep

MOUNTS = Table(
    tag="pki.mount", name="pki_mounts", model=MountConfig, cached=True, digest=_DOMAIN
)  # key: mount
ROLES = Table(tag="pki.role", name="pki_roles", model=Role, cached=True, digest=_DOMAIN)  # mount/name
CEL_ROLES = Table(
    tag="pki.cel-role", name="pki_cel_roles", model=CelRole, cached=True, digest=_DOMAIN
)  # mount/name
KEYS = Table(
    tag="pki.key",
    name="pki_keys",
    model=CaKey,
    index=("state", "spki_hash"),
    cached=True,
    digest=_DOMAIN,
)  # mount/id
MATERIAL = Table(
    tag="pki.material", name="pki_material", model=KeyMaterial, digest=_DOMAIN
)  # mount/id of a key
ISSUERS = Table(tag="pki.issuer", name="pki_issuers", model=Issuer, cached=True, digest=_DOMAIN)  # mount/id
CERTIFICATES = Table(
    tag="pki.certificate", name="pki_certificates", model=Certificate, index=("mount_id", "not_after")
)  # mount/serial
REVOCATIONS = Table(
    tag="pki.revocation",
    name="pki_revocations",
    model=Revocation,
    index=("mount_id", "not_after"),
    digest=_DOMAIN,
)  # mount/issuer/serial
CRL_NUMBERS = Table(
    tag="pki.crl-number", name="pki_crl_numbers", model=CrlNumber, digest=_DOMAIN
)  # mount/issuer
CRL_JOURNAL = Table(
    tag="pki.crl-journal", name="pki_crl_journal", model=Revocation, digest=_DOMAIN
)  # mount/issuer/shard/number
CRL_MARKS = Table(
    tag="pki.crl-mark", name="pki_crl_marks", model=CrlMark, cached=True, digest=_DOMAIN
)  # mount/issuer/scope
CRL_SHARDS = Table(
    tag="pki.crl-shards", name="pki_crl_shards", model=Shards, cached=True, digest=_DOMAIN
)  # mount/issuer
RESPONDERS = Table(
    tag="pki.ocsp-responder", name="pki_ocsp_responders", model=Responder, cached=True, digest=_DOMAIN
)  # mount/issuer
PUBLIC_ISSUERS = Table(
    tag="pki.public-issuer", name="pki_public_issuers", model=PublicIssuer, sealed=False, cached=True
)  # mount/issuer and mount/default
PUBLIC_CRLS = Table(
    tag="pki.public-crl", name="pki_public_crls", model=PublicCrl, sealed=False, cached=True
)  # mount/issuer; mount/issuer/scope for others than the complete one
TIDY = Table(tag="pki.tidy", name="pki_tidy", model=TidyStatus)  # key: mount

TABLES = (
    MOUNTS,
    ROLES,
    CEL_ROLES,
    KEYS,
    MATERIAL,
    ISSUERS,
    REVOCATIONS,
    CRL_NUMBERS,
    CRL_JOURNAL,
    CRL_MARKS,
    CRL_SHARDS,
    RESPONDERS,
)
"""Those whose state digests the sweep compares."""

DEFAULT = "default"


def put(tx: Transaction, table: Table[T], key: str, value: T) -> Row[T]:
    """Insert, or replace whatever is there."""
    row = tx.get(table, key)
    return tx.insert(table, key, value) if row is None else tx.replace(table, row, value)


def mount_config(reader: Reader, mount_id: str) -> MountConfig:
    """The settings of a mount; the defaults where nothing was ever set."""
    row = reader.get(MOUNTS, mount_id)
    return row.value if row is not None else MountConfig()


def issuers(reader: Reader, mount_id: str) -> list[Issuer]:
    """All issuers of a mount."""
    return [row.value for row in reader.scan(ISSUERS, f"{mount_id}/")]


def active_keys(reader: Reader, mount_id: str) -> list[CaKey]:
    """All usable CA keys of a mount; not those of its responders."""
    keys = (row.value for row in reader.scan(KEYS, f"{mount_id}/"))
    return [key for key in keys if key.state == "active" and not key.responds]
