"""What tokens of an auth method look like: the `token_*` fields that all methods share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from kms.errors import invalid
from kms.identity.model import BATCH, SERVICE
from kms.identity.networks import canonical_networks, shown_networks
from kms.operation import Field, Record, Type
from kms.policy import NOT_ASSIGNABLE, ROOT, canonical_names


class TokenParams(msgspec.Struct, frozen=True, kw_only=True):
    """Fields of a role or user; TTLs in seconds, 0 for none."""

    token_bound_cidrs: tuple[str, ...] = ()
    token_explicit_max_ttl: int = 0
    token_max_ttl: int = 0
    token_no_default_policy: bool = False
    token_num_uses: int = 0
    token_period: int = 0
    token_policies: tuple[str, ...] = ()
    token_strictly_bind_ip: bool = False
    token_ttl: int = 0
    token_type: str = "default"  # noqa: S105  (a kind of token)


class KeptParams(TokenParams, frozen=True, kw_only=True):
    """Of a login whose terms a program chose: a renewal keeps those that the token got."""


NAMES: Final = tuple(sorted(TokenParams.__struct_fields__))
_TYPES = {"", "default", "service", BATCH}

PARAM_FIELDS: Final = (
    Field("token_bound_cidrs", Type.STRINGS, record=Record.CLEAR),
    Field("token_explicit_max_ttl", Type.SECONDS, record=Record.CLEAR),
    Field("token_max_ttl", Type.SECONDS, record=Record.CLEAR),
    Field("token_no_default_policy", Type.BOOL, record=Record.CLEAR),
    Field("token_num_uses", Type.INT, record=Record.CLEAR),
    Field("token_period", Type.SECONDS, record=Record.CLEAR),
    Field("token_policies", Type.STRINGS, record=Record.CLEAR),
    Field("token_strictly_bind_ip", Type.BOOL, record=Record.CLEAR),
    Field("token_ttl", Type.SECONDS, record=Record.CLEAR),
    Field("token_type", record=Record.CLEAR),
)

OLD: Final = {
    "policies": "token_policies",
    "ttl": "token_ttl",
    "max_ttl": "token_max_ttl",
    "period": "token_period",
    "num_uses": "token_num_uses",
    "bound_cidrs": "token_bound_cidrs",
}
"""Names of before there were common ones, which clients still send."""
OLD_FIELDS: Final = tuple(
    Field(old, next(field.type for field in PARAM_FIELDS if field.name == new), record=Record.CLEAR)
    for old, new in OLD.items()
)


def renamed(given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` under the names of today, which win where both stand there."""
    old = {OLD[name]: value for name, value in given.items() if name in OLD}
    return old | {name: value for name, value in given.items() if name not in OLD}


def changes(given: Mapping[str, Any], before: TokenParams) -> dict[str, Any]:
    """The fields of `given` that are ours, checked; for `msgspec.structs.replace`.

    Raises:
        KmsError(INVALID): a value that is not allowed; the texts are the peer's where it has them.
    """
    read = {name: given[name] for name in NAMES if name in given}
    if "token_policies" in read:
        read["token_policies"] = _policies(read["token_policies"])
    if "token_bound_cidrs" in read:
        read["token_bound_cidrs"] = canonical_networks(read["token_bound_cidrs"])
    if read.get("token_num_uses", 0) < 0:
        raise invalid("'token_num_uses' cannot be negative")
    kind = read.get("token_type", "default")
    if kind not in _TYPES:
        raise invalid(f"invalid 'token_type' value \"{kind}\"")
    if "token_type" in read:
        read["token_type"] = kind or "default"
    if read.get("token_type", before.token_type) == BATCH:
        _check_batch(read, before)
    if read.get("token_strictly_bind_ip", before.token_strictly_bind_ip) and read.get(
        "token_bound_cidrs", before.token_bound_cidrs
    ):
        raise invalid("'token_strictly_bind_ip' conflicts with 'token_bound_cidrs'; set only one")
    most = read.get("token_max_ttl", before.token_max_ttl)
    if most and read.get("token_ttl", before.token_ttl) > most:
        raise invalid("'token_ttl' cannot be greater than 'token_max_ttl'")
    return read


def _check_batch(read: Mapping[str, Any], before: TokenParams) -> None:
    what = {"token_period": "periodic tokens", "token_num_uses": "tokens with limited use count"}
    for name, promised in what.items():
        if read.get(name, getattr(before, name)):
            raise invalid(
                f"'token_type' cannot be 'batch' or 'default_batch' when set to generate {promised}"
            )


def kind_of(params: TokenParams, mount_kind: str) -> str:
    """SERVICE or BATCH: the mount may demand one, or say what is made where the role or user does not.

    Raises:
        KmsError(INVALID): the mount demands what the role's other settings rule out.
    """
    if mount_kind in {SERVICE, BATCH}:
        kind = mount_kind
    elif params.token_type in {SERVICE, BATCH}:
        kind = params.token_type
    else:
        kind = mount_kind.removeprefix("default-") or SERVICE
    if kind == BATCH and params.token_num_uses:
        raise invalid(
            "batch tokens cannot have limited uses; change the role or user, or the mount's token_type"
        )
    return kind


def _policies(names: list[str]) -> tuple[str, ...]:
    found = tuple(canonical_names(names))
    if ROOT in found:
        raise invalid("auth methods cannot create root tokens")
    for name in found:
        if name in NOT_ASSIGNABLE:
            raise invalid(f'cannot assign policy "{name}"')
    return found


def shown(params: TokenParams) -> dict[str, Any]:
    """The fields as the API shows them."""
    plain = {name: _plain(getattr(params, name)) for name in NAMES}
    return plain | {"token_bound_cidrs": shown_networks(params.token_bound_cidrs)}


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
