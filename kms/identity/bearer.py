"""Who a token stands for."""

from __future__ import annotations

from contextvars import ContextVar

from kms.identity.entities.model import Standing
from kms.identity.model import Token
from kms.identity.shown import united
from kms.namespaces import scoped
from kms.operation import NO_VALUES, NamespaceRef, Principal
from kms.policy import ROOT

# What this request used up, by its row key: it may still look at itself.
last_use: ContextVar[tuple[str, Token | None]] = ContextVar("last_use", default=("", None))


def principal_of(key: str, token: Token, standing: Standing | None, namespace: NamespaceRef) -> Principal:
    """The principal behind a token in force.

    Args:
        key: the token's row key.
        token: of whom.
        standing: the entity's, None for a token without one; it is of the token's namespace.
        namespace: the token's.
    """
    added = standing.policies if standing is not None and not token.bare else ()
    names = united(token.policies, added)
    return Principal(
        accessor=token.accessor,
        token_id=key,
        display_name=token.display_name,
        policies=tuple([scoped(namespace, name) for name in names]),
        entity_id=standing.entity.id if standing is not None else "",
        root=ROOT in token.policies and not namespace.id,
        namespace=namespace,
        values=standing.values if standing is not None else NO_VALUES,
        mfa=token.mfa,
        # What a token without a row gets belongs to its parent, and ends with itself at the latest.
        lease_owner=token.parent if token.batch else key,
        until=token.expires_at if token.batch else 0.0,
    )
