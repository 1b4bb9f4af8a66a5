"""Tokens as the API shows them."""

from __future__ import annotations

import math
from typing import Any

from kms.clock import rfc3339
from kms.identity.model import NEVER, Token
from kms.identity.networks import shown_networks
from kms.operation import ROOT_NAMESPACE, NamespaceRef


def united(own: tuple[str, ...], added: tuple[str, ...]) -> tuple[str, ...]:
    """Policies of a token and of its entity, sorted, each once."""
    return tuple(sorted({*own, *added})) if added else own


def auth_object(token: Token, shown: str, added: tuple[str, ...] = ()) -> dict[str, Any]:
    """The `auth` object of a creation or renewal.

    Args:
        token: of which.
        shown: the token string, "" for accessor calls.
        added: policies that the entity adds at this moment.
    """
    return {
        "client_token": shown,
        "accessor": token.accessor,
        "policies": list(united(token.policies, added)),
        "token_policies": list(token.policies),
        **({"identity_policies": list(added)} if added else {}),
        "metadata": token.meta,
        "lease_duration": token.lease_ttl,
        "renewable": token.renewable,
        "entity_id": token.entity_id,
        "token_type": token.type,
        "orphan": token.orphan,
        "mfa_requirement": None,
        "num_uses": token.num_uses,
    }


def lookup_object(
    token: Token,
    shown: str,
    now: float,
    added: tuple[str, ...] = (),
    namespace: NamespaceRef = ROOT_NAMESPACE,
) -> dict[str, Any]:
    """The `data` object of a lookup; `added` are policies that the entity adds at this moment."""
    expires = token.expires_at < NEVER
    data: dict[str, Any] = {
        "accessor": token.accessor,
        "creation_time": int(token.created),
        "creation_ttl": token.creation_ttl,
        "display_name": token.display_name,
        "entity_id": token.entity_id,
        "expire_time": rfc3339(token.expires_at) if expires else None,
        "explicit_max_ttl": token.explicit_max_ttl,
        "id": shown,
        "issue_time": rfc3339(token.created),
        "meta": token.meta,
        "num_uses": token.num_uses,
        "orphan": token.orphan,
        "path": token.path[len(namespace.path) :],
        "policies": list(token.policies),
        "renewable": token.renewable,
        "ttl": max(0, math.floor(token.expires_at - now)) if expires else 0,
        "type": token.type,
    }
    if namespace.path:
        data["namespace_path"] = namespace.path
    if added:
        data |= {"identity_policies": list(added), "external_namespace_policies": {}}
    if token.last_renewal:
        data |= {"last_renewal": rfc3339(token.last_renewal), "last_renewal_time": int(token.last_renewal)}
    if token.period:
        data["period"] = token.period
    if token.bound_cidrs:
        data["bound_cidrs"] = shown_networks(token.bound_cidrs)
    if token.role:
        data["role"] = token.role
    return data
