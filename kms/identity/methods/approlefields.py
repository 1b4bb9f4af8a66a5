"""Fields of an AppRole: reading, checking, showing, and the paths that stand for one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kms.errors import invalid
from kms.identity.methods import params
from kms.identity.methods.store import AppRole
from kms.identity.networks import canonical_networks
from kms.operation import Field, Record, Type

OLD: Final = {
    "policies": "token_policies",
    "period": "token_period",
    "bound_cidr_list": "secret_id_bound_cidrs",
}
"""Names of old clients, and what they mean."""

SINGLE: Final = {
    "policies": "token_policies",
    "period": "token_period",
    "token-ttl": "token_ttl",
    "token-max-ttl": "token_max_ttl",
    "token-num-uses": "token_num_uses",
    "token-bound-cidrs": "token_bound_cidrs",
    "secret-id-ttl": "secret_id_ttl",
    "secret-id-num-uses": "secret_id_num_uses",
    "secret-id-bound-cidrs": "secret_id_bound_cidrs",
    "bound-cidr-list": "secret_id_bound_cidrs",
    "bind-secret-id": "bind_secret_id",
    "local-secret-ids": "local_secret_ids",
}
"""`role/NAME/<path>` -> the field that it reads, writes and resets."""

_OWN: Final = (
    Field("bind_secret_id", Type.BOOL, record=Record.CLEAR),
    Field("local_secret_ids", Type.BOOL, record=Record.CLEAR),
    Field("secret_id_bound_cidrs", Type.STRINGS, record=Record.CLEAR),
    Field("secret_id_num_uses", Type.INT, record=Record.CLEAR),
    Field("secret_id_ttl", Type.SECONDS, record=Record.CLEAR),
    Field("bound_cidr_list", Type.STRINGS, record=Record.CLEAR),
    Field("policies", Type.STRINGS, record=Record.CLEAR),
    Field("period", Type.SECONDS, record=Record.CLEAR),
)
ROLE_FIELDS: Final = (*_OWN, *params.PARAM_FIELDS)
_SHOWN: Final = (
    "bind_secret_id",
    "local_secret_ids",
    "secret_id_bound_cidrs",
    "secret_id_num_uses",
    "secret_id_ttl",
)


def changes(given: Mapping[str, Any], before: AppRole) -> dict[str, Any]:
    """What `given` changes in a role, checked. Raises KmsError(INVALID)."""
    named = {OLD.get(name, name): value for name, value in sorted(given.items())}
    read = params.changes(named, before)
    for name in _SHOWN:
        if name in named:
            read[name] = named[name]
    if "secret_id_bound_cidrs" in read:
        read["secret_id_bound_cidrs"] = canonical_networks(read["secret_id_bound_cidrs"])
    if read.get("secret_id_num_uses", 0) < 0:
        raise invalid("secret_id_num_uses cannot be negative")
    if read.get("local_secret_ids", before.local_secret_ids) != before.local_secret_ids:
        raise invalid("local_secret_ids can only be false: this server is not replicated")
    return read


def check(role: AppRole) -> AppRole:
    """The role, if something has to be proved to use it. Raises KmsError(INVALID)."""
    if not (role.bind_secret_id or role.secret_id_bound_cidrs or role.token_bound_cidrs):
        raise invalid("at least one constraint should be enabled on the role")
    return role


def shown(role: AppRole) -> dict[str, Any]:
    """The role as the API shows it."""
    own = {name: getattr(role, name) for name in _SHOWN}
    own["secret_id_bound_cidrs"] = list(role.secret_id_bound_cidrs) or None
    return params.shown(role) | own
