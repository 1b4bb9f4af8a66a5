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
_BROWSER: Final = (
    "allowed_redirect_uris",
    "callback_mode",
    "max_age",
    "oidc_disable_confirmation",
    "oidc_scopes",
    "oauth2_metadata",
    "poll_interval",
    "verbose_oidc_logging",
)
# Empty values of these are taken, as clients send them.
_ABSENT: Final = ("cel_program", "token_policies_template_claims")
_LISTS: Final = ("bound_audiences", "allowed_redirect_uris", "oidc_scopes", "oauth2_metadata")
_MODES: Final = {"client", "direct", "device"}
OAUTH2: Final = ("id_token", "access_token", "refresh_token")
MAX_POLL: Final = 3600
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
    Field("allowed_redirect_uris", Type.STRINGS, record=Record.CLEAR),
    Field("callback_mode", record=Record.CLEAR),
    Field("max_age", Type.SECONDS, record=Record.CLEAR),
    Field("oidc_disable_confirmation", Type.BOOL, record=Record.CLEAR),
    Field("oidc_scopes", Type.STRINGS, record=Record.CLEAR),
    Field("poll_interval", Type.INT, record=Record.CLEAR),
    Field("verbose_oidc_logging", Type.BOOL, record=Record.CLEAR),
    Field("oauth2_metadata", Type.STRINGS, record=Record.CLEAR),
    *(Field(name, Type.ANY) for name in _ABSENT),
    *params.OLD_FIELDS,
    *params.PARAM_FIELDS,
)


def role_changes(given: Mapping[str, Any], before: JwtRole) -> dict[str, Any]:
    """What `given` changes in a role, checked. Raises KmsError(INVALID)."""
    given = params.renamed(given)
    for name in _ABSENT:
        if given.get(name):
            raise invalid(f"{name} is not available on this server")
    kind = given.get("role_type") or "oidc"
    if kind not in {"jwt", "oidc"}:
        raise invalid(f"invalid 'role_type': {kind}")
    read = params.changes(given, before)
    read |= {name: given[name] for name in (*_OWN, *_BROWSER) if name in given}
    read |= {name: tuple(read[name]) for name in _LISTS if name in read}
    read["role_type"] = kind
    read |= _callbacks(given, read)
    if not 0 <= read.get("poll_interval", 0) <= MAX_POLL:
        raise invalid(f"poll_interval: 0 to {MAX_POLL} seconds")
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


def _callbacks(given: Mapping[str, Any], read: Mapping[str, Any]) -> dict[str, Any]:
    # Not sent again, it is the default again, as on the peer.
    mode = given.get("callback_mode") or "client"
    if mode not in _MODES:
        raise invalid(f"invalid 'callback_mode': {mode}")
    for name in read.get("oauth2_metadata", ()):
        if name not in OAUTH2:
            raise invalid(f"Unrecognized oauth2 metadata name {name}")
    return {"callback_mode": mode}


def check_bounds(role: JwtRole) -> None:
    """Raise KmsError(INVALID) for a role that would let in anybody whom the issuer signs for."""
    if not role.user_claim:
        raise invalid("a user claim must be defined on the role")
    if role.role_type == "oidc":
        if not role.allowed_redirect_uris:
            raise invalid("'allowed_redirect_uris' must be set if 'role_type' is 'oidc' or unspecified.")
        return  # the audience is our client id
    if not (role.bound_audiences or role.bound_subject or role.bound_claims or role.token_bound_cidrs):
        raise invalid("must have at least one bound constraint when creating/updating a role")


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
    own |= {name: own[name] or None for name in ("bound_claims", "claim_mappings")}
    browser = {name: getattr(role, name) for name in _BROWSER}
    for name in ("allowed_redirect_uris", "oidc_scopes", "oauth2_metadata"):
        browser[name] = list(browser[name]) or None
    if not browser["poll_interval"]:
        del browser["poll_interval"]
    absent = {"token_policies_template_claims": False}
    return {**params.shown(role), **absent, **own, **browser, "role_type": role.role_type}
