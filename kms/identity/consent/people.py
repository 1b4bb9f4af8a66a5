"""Who is who: the names of the person behind a token, and the groups that it is in."""

from __future__ import annotations

from kms.identity.model import MAX_DEPTH
from kms.identity.service import TokenService
from kms.identity.store import TOKENS
from kms.identity.within import namespace_id_of
from kms.namespaces import scoped
from kms.operation import NamespaceRef
from kms.tables import Reader


def persons(tokens: TokenService, reader: Reader, key: str) -> tuple[str, ...]:
    """Every name of the person behind the token with this row key, its parents' among them.

    Whoever logged in, or has an entity, is known by that; any other token is who its first ancestor is.
    """
    names: set[str] = set()
    oldest = ""
    for _ in range(MAX_DEPTH + 1):
        row = reader.get(TOKENS, key)
        if row is None:
            break
        token = row.value
        oldest = token.accessor
        if token.entity_id:
            standing = tokens.directory.standing(token.entity_id)
            names.add(f"entity/{standing.entity.id if standing is not None else token.entity_id}")
        if token.login:
            names.add(f"login/{token.login}")
        if token.orphan:
            break
        key = token.parent
    return tuple(sorted(names)) or (f"token/{oldest}",)


def known(names: tuple[str, ...]) -> bool:
    """Whether these are names of a person, and not only of a token that somebody made for anybody."""
    return not any(name.startswith("token/") for name in names)


def groups_of(tokens: TokenService, entity_id: str) -> tuple[str, ...] | None:
    """Names and ids of the groups that an entity is in now; None for one that is disabled or gone.

    Those of a namespace have its ID in front, as the groups that a policy of it names.
    """
    if not entity_id:
        return ()
    standing = tokens.directory.standing(entity_id)
    if standing is None or standing.entity.disabled:
        return None
    here = NamespaceRef(namespace_id_of(entity_id), "")
    return tuple(scoped(here, name) for group in standing.groups for name in (group.name, group.id))
