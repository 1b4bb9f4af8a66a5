"""Token roles: reading, and checked updates of single fields."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from kms.errors import invalid
from kms.identity.entities.spelling import checked, folded
from kms.identity.lifetimes import MAX_TTL
from kms.identity.model import BATCH, TokenRole
from kms.identity.networks import canonical_networks, shown_networks
from kms.identity.store import ROLES
from kms.ids import check_name
from kms.namespaces import scoped, scoped_prefix
from kms.operation import NamespaceRef
from kms.policy import canonical_names
from kms.tables import Reader, Transaction

_GLOB = re.compile(r"[a-z0-9_.*-]{1,128}\Z")
_SUFFIX = re.compile(r"\w[\w.-]{1,126}\w\Z", re.ASCII)
_TYPES = ("service", "batch", "default-service", "default-batch")
# The names of old clients, and the fields they fill. Times are shown again only to who used them.
_OLD_CIDRS = "bound_cidrs"
_OLD = {"period": "token_period", "explicit_max_ttl": "token_explicit_max_ttl"}


def read_role(reader: Reader, name: str, namespace: NamespaceRef) -> TokenRole | None:
    """The role, or None."""
    row = reader.get(ROLES, scoped(namespace, name))
    return row.value if row is not None else None


def role_names(reader: Reader, namespace: NamespaceRef) -> list[str]:
    """The names of a namespace's roles, sorted."""
    prefix = scoped_prefix(namespace)
    keys = (key.removeprefix(prefix) for key in reader.keys(ROLES, prefix))
    return [name for name in keys if "/" not in name]


def write_role(
    tx: Transaction, name: str, given: Mapping[str, Any], namespace: NamespaceRef
) -> tuple[str, ...]:
    """Create or update a role; only the fields in `given` change. Returns warnings.

    Raises:
        KmsError(INVALID): a value that is not allowed, or a restriction that is not enforced here.
    """
    check_name(name, "role name")
    key = scoped(namespace, name)
    held = tx.get(ROLES, key)
    before = held.value if held is not None else TokenRole(name=name)
    changes, warnings = _changes(given)
    after = replace(before, **changes)
    _check_batch(after)
    if after.token_explicit_max_ttl > MAX_TTL:
        warnings.append(
            f"Given explicit max TTL of {after.token_explicit_max_ttl} is greater than system/mount allowed "
            f"value of {MAX_TTL} seconds; tokens of this role end at the allowed value"
        )
    if held is None:
        tx.insert(ROLES, key, after)
    else:
        tx.replace(ROLES, held, after)
    return tuple(warnings)


def delete_role(tx: Transaction, name: str, namespace: NamespaceRef) -> None:
    """Delete a role; one that is not there is no error. Its tokens live on and cannot be renewed."""
    held = tx.get(ROLES, scoped(namespace, name))
    if held is not None:
        tx.delete(ROLES, held)


def describe(role: TokenRole) -> dict[str, Any]:
    """The role as the API shows it."""
    shown = {
        "name": role.name,
        "allowed_entity_aliases": list(role.allowed_entity_aliases) or None,
        "allowed_policies": list(role.allowed_policies),
        "allowed_policies_glob": list(role.allowed_policies_glob),
        "disallowed_policies": list(role.disallowed_policies),
        "disallowed_policies_glob": list(role.disallowed_policies_glob),
        "explicit_max_ttl": role.explicit_max_ttl,
        "orphan": role.orphan,
        "path_suffix": role.path_suffix,
        "period": role.period,
        "renewable": role.renewable,
        "token_explicit_max_ttl": role.token_explicit_max_ttl,
        "token_no_default_policy": role.token_no_default_policy,
        "token_period": role.token_period,
        "token_type": role.token_type,
    }
    rare = {
        "token_bound_cidrs": shown_networks(role.token_bound_cidrs),
        "token_num_uses": role.token_num_uses,
    }
    return shown | {name: value for name, value in rare.items() if value}


def _changes(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    read = {name: _READERS.get(name, _same)(value) for name, value in given.items()}
    if _OLD_CIDRS in read:
        read.setdefault("token_bound_cidrs", read.pop(_OLD_CIDRS))
        read.pop(_OLD_CIDRS, None)
    warnings = []
    for old, new in _OLD.items():
        if new in given:
            if old in given:
                warnings.append(
                    f"Both '{new}' and deprecated '{old}' value supplied, ignoring the deprecated value"
                )
            read[old] = 0
        elif old in given:
            read[new] = read[old]
    return read, warnings


def _check_batch(role: TokenRole) -> None:
    """A role of batch tokens promises nothing that they cannot keep."""
    broken = {
        "non-orphan tokens": not role.orphan,
        "periodic tokens": role.token_period,
        "renewable tokens": role.renewable,
        "tokens with an explicit max TTL": role.token_explicit_max_ttl,
    }
    for what, wanted in broken.items():
        if role.token_type == BATCH and wanted:
            raise invalid(f"'token_type' cannot be 'batch' when role is set to generate {what}")


def _same(value: Any) -> Any:
    return value


def _names(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(canonical_names(names))


def _uses(uses: int) -> int:
    if uses < 0:
        raise invalid("error parsing role fields: 'token_num_uses' cannot be negative")
    return uses


def _type(kind: str) -> str:
    if kind not in _TYPES:
        raise invalid(f"invalid 'token_type' value \"{kind}\"")
    return kind


def _suffix(suffix: str) -> str:
    if suffix and (not _SUFFIX.match(suffix) or ".." in suffix):
        raise invalid("given role path suffix contains invalid characters; must match \\w[\\w-.]+\\w")
    return suffix


def _aliases(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted({folded(checked(name, "entity alias")) for name in names}))


def permits_alias(role: TokenRole, alias: str) -> bool:
    """Whether tokens of the role may belong to the entity of this alias; `*` stands at an end of what is allowed."""
    return any(_like(pattern, folded(alias)) for pattern in role.allowed_entity_aliases)


def _like(pattern: str, alias: str) -> bool:
    bare = pattern.strip("*")
    if pattern.startswith("*") and pattern.endswith("*"):
        return bare in alias
    if pattern.startswith("*"):
        return alias.endswith(bare)
    return alias.startswith(bare) if pattern.endswith("*") else alias == pattern


def _globs(globs: Sequence[str]) -> tuple[str, ...]:
    lowered = sorted({glob.lower() if glob.isascii() else glob for glob in globs if glob})
    for glob in lowered:
        if not _GLOB.match(glob):
            raise invalid(f"invalid policy glob {glob!r}")
    return tuple(lowered)


_READERS: dict[str, Callable[[Any], Any]] = {
    "allowed_entity_aliases": _aliases,
    "allowed_policies": _names,
    "disallowed_policies": _names,
    "allowed_policies_glob": _globs,
    "disallowed_policies_glob": _globs,
    "token_num_uses": _uses,
    "token_bound_cidrs": canonical_networks,
    "bound_cidrs": canonical_networks,
    "token_type": _type,
    "path_suffix": _suffix,
}
