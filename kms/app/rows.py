"""Which tables there are: what a start looks at, what the hourly sweep compares, what is sealed anew after a theft."""

from __future__ import annotations

from typing import Any

from kms.app.engines import DIGESTED as ENGINE_TABLES
from kms.app.engines import SEALED as ENGINE_SEALED
from kms.app.identity import AT_START as IDENTITY_AT_START
from kms.app.identity import DIGESTED as IDENTITY_TABLES
from kms.app.identity import SEALED as IDENTITY_SEALED
from kms.app.methods import DIGESTED as METHOD_TABLES
from kms.app.methods import SEALED as METHOD_SEALED
from kms.app.policing import TABLES as POLICY_TABLES
from kms.app.system import TABLES as SYSTEM_TABLES
from kms.identity.store import ACCESSORS, CUBBYHOLES, TOKENS
from kms.identity.store import ROLES as TOKEN_ROLES
from kms.keys.terms import SETTINGS as KEYRING_SETTINGS
from kms.leases.store import BARRIERS, LEASES
from kms.namespaces import NAMESPACES
from kms.system.instance import CUSTODY
from kms.system.mounts import MOUNTS
from kms.system.quotas import TABLES as QUOTA_TABLES
from kms.tables import Table

_GOVERNING: tuple[Table[Any], ...] = (
    MOUNTS,
    NAMESPACES,
    CUSTODY,
    KEYRING_SETTINGS,
    *POLICY_TABLES,
    TOKENS,
    ACCESSORS,
    TOKEN_ROLES,
    *IDENTITY_AT_START,
    BARRIERS,
    *QUOTA_TABLES,
    *SYSTEM_TABLES,
)
DIGESTED: tuple[Table[Any], ...] = (*_GOVERNING, CUBBYHOLES, *IDENTITY_TABLES, *METHOD_TABLES, *ENGINE_TABLES)
"""Tables of the domains whose state digests the hourly sweep compares."""
_DOMAINS = {table.digest for table in _GOVERNING}
AT_START: tuple[Table[Any], ...] = tuple(table for table in DIGESTED if table.digest in _DOMAINS)
"""Those that decide who may do what, and with them the rest of their domains: a digest is one of a whole domain. An old
or missing row among them refuses the start."""
SEALED: tuple[Table[Any], ...] = (
    *_GOVERNING,
    CUBBYHOLES,
    LEASES,
    *IDENTITY_SEALED,
    *METHOD_SEALED,
    *ENGINE_SEALED,
)
"""Every table whose rows are sealed. One that were not here would keep an old keyring term from being ended."""
