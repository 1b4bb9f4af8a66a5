"""Accepting a role: defaults filled in, and nothing stored that could not be honoured later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from kms.errors import invalid
from kms.operation import Field, Record, Type
from pki.model import Role
from pki.profiles import named
from pki.profiles.leaf import SUBJECT_FIELDS
from pki.profiles.policies import certificate_policies
from pki.profiles.subject import fixed_attributes
from pki.profiles.usages import ext_key_usages, leaf_key_usage
from pki.roles import parse_allowed_others, parse_networks
from pki.validity import check_bounds

_SECONDS = {"ttl", "max_ttl", "not_before_duration"}
_SIZES = {
    "rsa": (2048, 3072, 4096, 8192),
    "ec": (256, 384, 521),
    "ed25519": (0,),
    "mldsa": (44, 65, 87),
    "any": (0,),
}


def role_fields() -> tuple[Field, ...]:
    """The API's fields, made from the struct so that they cannot drift apart."""
    fields = []
    for field in msgspec.structs.fields(Role):
        default = field.default
        if isinstance(default, bool):
            kind = Type.BOOL
        elif isinstance(default, int):
            kind = Type.SECONDS if field.name in _SECONDS else Type.INT
        else:
            kind = Type.STRINGS if isinstance(default, tuple) else Type.STRING
        fields.append(
            Field(
                field.name,
                kind,
                list(default) if isinstance(default, tuple) else default,
                record=Record.CLEAR,
            )
        )
    return tuple(fields)


def make_role(args: Mapping[str, Any], base: Role | None = None, given: frozenset[str] | None = None) -> Role:
    """A role from request fields; with `base`, only the `given` fields change (PATCH).

    Raises:
        KmsError(INVALID): the first thing that is wrong.
    """
    names = {field.name for field in msgspec.structs.fields(Role)}
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in args.items()
        if name in names and value is not None and (given is None or name in given)
    }
    role = msgspec.structs.replace(base, **values) if base is not None else Role(**values)
    if not role.cn_validations:
        role = msgspec.structs.replace(role, cn_validations=Role().cn_validations)
    role = named.settled(msgspec.structs.replace(role, key_bits=key_bits(role.key_type, role.key_bits)))
    _check(role)
    return role


def key_bits(key_type: str, bits: int) -> int:
    """The size to use, 0 meaning the default. Raises KmsError(INVALID) for one that does not exist."""
    if key_type not in _SIZES:
        raise invalid(f"unknown key type {key_type}")
    if bits == 0:
        return {"rsa": 2048, "ec": 256, "mldsa": 44}.get(key_type, 0)
    if key_type in {"ed25519", "any"}:
        return bits if key_type == "any" else 0
    if key_type == "rsa" and bits < 2048:
        raise invalid(f"RSA keys < 2048 bits are unsafe and not supported: got {bits}")
    if bits not in _SIZES[key_type]:
        raise invalid(f"unsupported bit length for {key_type.upper()} key: {bits}")
    return bits


def _check(role: Role) -> None:
    if role.max_ttl and role.ttl > role.max_ttl:
        raise invalid('"ttl" value must be less than "max_ttl" value')
    if role.ttl < 0 or role.max_ttl < 0 or role.not_before_duration < 0:
        raise invalid("durations cannot be negative")
    if not role.issuer_ref:
        raise invalid("issuer_ref must name an issuer, or be 'default'")
    if role.signature_bits not in {0, 256, 384, 512}:
        raise invalid(f"signature_bits must be 0, 256, 384 or 512: got {role.signature_bits}")
    _check_cn_validations(role.cn_validations)
    parse_networks(role.allowed_ip_sans_cidr)
    parse_allowed_others(role.allowed_other_sans)
    check_bounds(role)
    leaf_key_usage(role.key_usage, "rsa")
    ext_key_usages(role.ext_key_usage, role.ext_key_usage_oids)
    if role.policy_identifiers:
        certificate_policies(role.policy_identifiers)
    fixed_attributes({field: getattr(role, field) for field in SUBJECT_FIELDS})


def _check_cn_validations(values: tuple[str, ...]) -> None:
    for value in values:
        if value not in {"email", "hostname", "disabled"}:
            raise invalid(f"cn_validations value incorrect: unknown type: `{value}`")
    if "disabled" in values and len(values) > 1:
        raise invalid("cn_validations value incorrect: `disabled` must stand alone")
