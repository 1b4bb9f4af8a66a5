"""A service account: as its token says, and as the API server says. Pure; the texts are the peer's where it has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from kms.errors import ErrorKind, KmsError, invalid
from kms.identity.globs import among
from kms.identity.kubernetes.store import BY_NAME, Cluster, ClusterRole

_LEEWAY: Final = 150  # seconds, as the peer's
_OLD: Final = "kubernetes.io/serviceaccount/"
MAX_LABELS: Final = 64


@dataclass(frozen=True)
class Account:
    """One service account. `secret` is the name of the secret that an old, endless token lies in."""

    name: str
    namespace: str
    uid: str
    secret: str = ""
    audiences: tuple[str, ...] = ()

    @property
    def same_as(self) -> tuple[str, str, str]:
        """What the API server must agree to."""
        return self.name, self.namespace, self.uid

    def alias(self, role: ClusterRole) -> str:
        """What the role calls it."""
        return f"{self.namespace}/{self.name}" if role.alias_name_source == BY_NAME else self.uid


def said(claims: Mapping[str, Any]) -> Account:
    """Who the token says it is, in its old form (a secret's) or the projected one.

    Raises:
        KmsError(UNAUTHENTICATED): it is not of a service account.
    """
    audiences = claims.get("aud")
    listed = [audiences] if isinstance(audiences, str) else audiences if isinstance(audiences, list) else []
    inner = claims.get("kubernetes.io")
    if isinstance(inner, dict):
        account = inner.get("serviceaccount")
        account = account if isinstance(account, dict) else {}
        found = (account.get("name"), inner.get("namespace"), account.get("uid"), "")
    else:
        found = (
            claims.get(f"{_OLD}service-account.name"),
            claims.get(f"{_OLD}namespace"),
            claims.get(f"{_OLD}service-account.uid"),
            claims.get(f"{_OLD}secret.name") or "",
        )
    name, namespace, uid, secret = (part if isinstance(part, str) else "" for part in found)
    if not uid:
        raise refused("could not parse UID from claims")
    if not name or not namespace or ":" in name + namespace:
        raise refused("could not parse name and namespace from claims")
    return Account(name, namespace, uid, secret, tuple(one for one in listed if isinstance(one, str)))


def check_claims(claims: Mapping[str, Any], cluster: Cluster, role: ClusterRole, now: float) -> None:
    """Raise KmsError(UNAUTHENTICATED) unless the token says that it is in force and for us."""
    if not cluster.disable_iss_validation and claims.get("iss") != (
        cluster.issuer or "kubernetes/serviceaccount"
    ):
        raise refused("invalid issuer (iss) claim")
    if role.audience:
        audiences = claims.get("aud")
        listed = audiences if isinstance(audiences, list) else [audiences]
        if role.audience not in listed:
            raise refused("invalid audience (aud) claim: audience claim does not match any expected audience")
    expires, starts, issued = (_time(claims, name) for name in ("exp", "nbf", "iat"))
    if expires is not None and now > expires + _LEEWAY:
        raise refused("invalid expiration time (exp) claim: token is expired")
    if starts is not None and now < starts - _LEEWAY:
        raise refused("invalid not before (nbf) claim: token not yet valid")
    if issued is not None and now < issued - _LEEWAY:
        raise refused("invalid issued at (iat) claim: token issued in the future")


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refused(f"the {name} claim is not a number")
    return float(value)


def reviewed(review: Mapping[str, Any], wanted: tuple[str, ...]) -> Account:
    """Who the API server says it is (TokenReview of authentication.k8s.io/v1).

    Args:
        review: the answer.
        wanted: the audiences that were asked for; one of them must be confirmed.

    Raises:
        KmsError(UNAUTHENTICATED): it says no, or nothing that can be understood.
    """
    status = review.get("status")
    if review.get("kind") != "TokenReview" or not isinstance(status, dict):
        raise denied()
    if status.get("error") or status.get("authenticated") is not True:
        raise denied()
    confirmed = status.get("audiences") or []
    if wanted and not (isinstance(confirmed, list) and set(wanted) & {one for one in confirmed if one}):
        raise denied()  # an API server that does not look at audiences confirms none
    user = status.get("user")
    user = user if isinstance(user, dict) else {}
    parts = str(user.get("username") or "").split(":")
    if len(parts) != 4 or parts[:2] != ["system", "serviceaccount"]:
        raise denied()
    return Account(parts[3], parts[2], str(user.get("uid") or ""))


def names_permit(role: ClusterRole, account: Account) -> None:
    """Raise KmsError(UNAUTHENTICATED) unless the role is for an account of this name."""
    if not among(role.bound_service_account_names, [account.name]):
        raise refused("service account name not authorized")


def namespace_listed(role: ClusterRole, account: Account) -> bool:
    """Whether the role lists its namespace; else the selector decides."""
    return among(role.bound_service_account_namespaces, [account.namespace])


def selector_labels(text: str) -> dict[str, str]:
    """The labels that a selector (JSON or YAML, `matchLabels` alone) asks for.

    Raises:
        KmsError(INVALID): it is none.
    """
    bad = invalid('invalid "bound_service_account_namespace_selector" configured')
    if len(text) > 16 * 1024 or "*" in text or "&" in text:
        raise bad  # labels hold neither; anchors of YAML could make much out of little
    try:
        selector = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError):
        raise bad from None
    labels = selector.get("matchLabels") if isinstance(selector, dict) else None
    if not isinstance(labels, dict) or not labels or set(selector) != {"matchLabels"}:
        raise bad  # also matchExpressions, which the peer refuses too; an empty one would take every namespace
    if len(labels) > MAX_LABELS or not all(
        isinstance(name, str) and isinstance(value, str) for name, value in labels.items()
    ):
        raise bad
    return labels


def refused(text: str) -> KmsError:
    """The token does not do, and why: nothing of it is a secret of somebody else."""
    error = KmsError(ErrorKind.UNAUTHENTICATED, text)
    error.for_caller = True
    return error


def denied() -> KmsError:
    """The API server does not vouch for it."""
    return refused("permission denied")
