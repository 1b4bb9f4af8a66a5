"""Fields of a role of jwt: what is taken, checked and shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kms.errors import invalid
from kms.identity.creation import MAX_META
from kms.identity.jwt.store import JwtRole
from kms.identity.methods import params
from kms.operation import Field, Record, Type

_OWN: Final = (
    "user_claim",
    "user_claim_json_pointer",
    "bound_audiences",
    "bound_claims",
    "bound_claims_type",
    "bound_subject",
    "claim_mappings",
    "clock_skew_leeway",
    "expiration_leeway",
    "groups_claim",
    "not_before_leeway",
)
# What only logins in a browser need; empty values of it are taken, as clients send them.
_ABSENT: Final = ("allowed_redirect_uris", "oidc_scopes", "max_age", "cel_program")
_SCALARS: Final = (str, bool, int)

ROLE_FIELDS: Final = (
    Field("role_type", record=Record.CLEAR),
    Field("user_claim", record=Record.CLEAR),
    Field("user_claim_json_pointer", Type.BOOL, record=Record.CLEAR),
    Field("bound_audiences", Type.STRINGS, record=Record.CLEAR),
    Field("bound_claims", Type.MAP, record=Record.CLEAR),
    Field("bound_claims_type", record=Record.CLEAR),
    Field("bound_subject", record=Record.CLEAR),
    Field("claim_mappings", Type.MAP, record=Record.CLEAR),
    Field("clock_skew_leeway", Type.INT, record=Record.CLEAR),
    Field("expiration_leeway", Type.INT, record=Record.CLEAR),
    Field("groups_claim", record=Record.CLEAR),
    Field("not_before_leeway", Type.INT, record=Record.CLEAR),
    Field("verbose_oidc_logging", Type.BOOL),
    *(Field(name, Type.ANY) for name in _ABSENT),
    *params.PARAM_FIELDS,
)


def role_changes(given: Mapping[str, Any], before: JwtRole) -> dict[str, Any]:
    """What `given` changes in a role, checked. Raises KmsError(INVALID)."""
    for name in _ABSENT:
        if given.get(name):
            raise invalid(f"{name} is not available on this server")
    kind = given.get("role_type", "jwt")
    if kind != "jwt":
        if kind in {"", "oidc"}:
            raise invalid("role_type must be 'jwt': logins in a browser (oidc) are not available")
        raise invalid(f"invalid 'role_type': {kind}")
    read = params.changes(given, before)
    read |= {name: given[name] for name in _OWN if name in given}
    if "bound_audiences" in read:
        read["bound_audiences"] = tuple(read["bound_audiences"])
    if read.get("bound_claims_type", "string") not in {"string", "glob"}:
        raise invalid(f"invalid 'bound_claims_type': {read['bound_claims_type']}")
    for name, value in (read.get("bound_claims") or {}).items():
        values = value if isinstance(value, list) else [value]
        if not values or not all(isinstance(one, _SCALARS) for one in values):
            raise invalid(
                f'bound_claims: "{name}" must be a text, a number, true or false, or a list of these'
            )
    read |= _mappings(read)
    return read


def _mappings(read: Mapping[str, Any]) -> dict[str, Any]:
    if "claim_mappings" not in read:
        return {}
    found = read["claim_mappings"] or {}
    names = list(found.values())
    if len(found) > MAX_META or not all(isinstance(name, str) and name for name in names):
        raise invalid(f"claim_mappings holds at most {MAX_META} names of claims and of metadata")
    if len(set(names)) != len(names) or "role" in names:
        raise invalid("claim_mappings: each metadata key is for one claim, and 'role' is the role's")
    return {"claim_mappings": found}


def shown_role(role: JwtRole) -> dict[str, Any]:
    """The role as the API shows it."""
    own = {name: getattr(role, name) for name in _OWN}
    own["bound_audiences"] = list(role.bound_audiences) or None
    absent = {
        "allowed_redirect_uris": None,
        "max_age": 0,
        "oidc_scopes": None,
        "verbose_oidc_logging": False,
    }
    return {**params.shown(role), **absent, **own, "role_type": "jwt"}
