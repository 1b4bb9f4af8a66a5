"""Rows of EST. Keys begin with the mount's id."""

from __future__ import annotations

from kms.tables import Table
from pki.est.model import EstConfig, EstUser

_DOMAIN = "pki"

CONFIG = Table(
    tag="est.config", name="est_config", model=EstConfig, cached=True, digest=_DOMAIN
)  # key: mount
USERS = Table(tag="est.user", name="est_users", model=EstUser, digest=_DOMAIN)  # mount/name

TABLES = (CONFIG, USERS)
"""All of them; their state digests are compared by the sweep."""
