"""What a new or renewed token is, worked out from the request, the parent and the role. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from msgspec.structs import replace

from kms.errors import invalid
from kms.identity.handing_on import handed_on
from kms.identity.keys import new_accessor
from kms.identity.lifetimes import Lifetime, lifetime
from kms.identity.model import BATCH, NEVER, SERVICE, Token, TokenRole
from kms.identity.roles import permits_alias
from kms.policy import DEFAULT, ROOT

MAX_META = 64  # entries; each part at most MAX_META_TEXT characters
MAX_META_TEXT = 512
_NOT_SHOWN = re.compile(r"[^a-zA-Z0-9-]")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """The arguments of a creation; TTLs in seconds, 0 for not given."""

    path: str
    policies: tuple[str, ...] = ()
    ttl: int = 0
    explicit_max_ttl: int = 0
    period: int = 0
    num_uses: int = 0
    renewable: bool = True
    meta: dict[str, str] | None = None
    display_name: str = ""
    id: str = ""
    type: str = ""
    entity_alias: str = ""
    no_parent: bool = False
    orphan: bool = False
    no_default_policy: bool = False
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class Born:
    """A token that is worth storing, and what its creator should hear."""

    token: Token
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class _Bounds:
    """Period and explicit maximum: the lesser of what the request and the role say."""

    period: int
    explicit_max: int
    warnings: list[str] = field(default_factory=list)


def born(
    request: TokenRequest, parent_key: str, parent: Token, *, role: TokenRole | None, sudo: bool, now: float
) -> Born:
    """The token that `request` describes.

    Args:
        request: as the client sent it.
        parent_key: the caller's row key.
        parent: the caller's token.
        role: for auth/token/create/<role>.
        sudo: the caller's rule for the path carries sudo.
        now: seconds since the epoch.

    Raises:
        KmsError(INVALID): refused; the texts are the peer's.
    """
    if parent.num_uses:
        raise invalid("restricted use token cannot generate child tokens")
    kind = _kind(request, role)
    _check(request, role)
    if request.id and not sudo:
        raise invalid("root or sudo privileges required to specify token id")
    foreign = parent.namespace != request.namespace
    if foreign and ROOT in request.policies:
        raise invalid("root tokens may not be created from a parent namespace")
    if request.id and request.namespace:
        raise invalid("token IDs can only be manually specified in the root namespace")
    # Names of another namespace say nothing here; what is the same by name may be quite another policy.
    held = (DEFAULT,) if foreign else parent.policies
    policies = handed_on(request.policies, held, role=role, sudo=sudo, no_default=request.no_default_policy)
    orphan = role.orphan if role is not None else request.no_parent or request.orphan
    if role is None and request.no_parent and not sudo:
        raise invalid("root or sudo privileges required to create orphan token")
    if request.period and not sudo:
        raise invalid("root or sudo privileges required to create periodic token")
    if kind == BATCH:
        _check_batch(request, role, policies)
    bounds = _bounds(request, role, kind)
    granted = _granted(request, bounds, policies)
    if not granted.ttl and parent.expires_at < NEVER:
        raise invalid("expiring root tokens cannot create non-expiring root tokens")
    token = Token(
        accessor=new_accessor(request.namespace) if kind == SERVICE else "",
        type=kind,
        parent="" if orphan else parent_key,
        expires_at=now + granted.ttl if granted.ttl else NEVER,
        policies=policies,
        path=f"{request.path}/{role.path_suffix}" if role is not None and role.path_suffix else request.path,
        display_name=_shown(request.display_name),
        created=now,
        meta=request.meta,
        creation_ttl=granted.ttl,
        lease_ttl=granted.ttl,
        explicit_max_ttl=request.explicit_max_ttl,
        period=request.period,
        num_uses=_fewer(request.num_uses, role.token_num_uses if role is not None else 0),
        renewable=kind == SERVICE
        and bool(granted.ttl)
        and request.renewable
        and (role is None or role.renewable),
        role=role.name if role is not None else "",
        bound_cidrs=role.token_bound_cidrs if role is not None else (),
        entity_id="" if orphan else parent.entity_id,
        depth=0 if orphan else parent.depth + 1,
        mfa=parent.mfa and not orphan,
        namespace=request.namespace,
        bare=foreign,  # the entity is one of the parent's namespace, and so are its policies
    )
    return Born(token, (*bounds.warnings, *granted.warnings))


def renewed(
    token: Token, increment: int, role: TokenRole | None, now: float, granted: Lifetime | None = None
) -> Born:
    """The token after a renewal by `increment` seconds, 0 for as much as last time.

    Args:
        token: in force.
        increment: the wish; a period overrules it.
        role: the token's role as it is now; its period and maximum count, not those of the creation.
        now: seconds since the epoch.
        granted: what the auth method that made it grants; it decides then.

    Raises:
        KmsError(INVALID): not renewable, or at its end.
    """
    if not token.renewable:
        raise invalid("lease is not renewable")
    if token.role and role is None:
        raise invalid(f'original token role "{token.role}" could not be found, not renewing')
    if granted is None:
        granted = lifetime(
            increment or token.lease_ttl,
            period=role.token_period if role is not None else token.period,
            explicit_max=role.token_explicit_max_ttl if role is not None else token.explicit_max_ttl,
            age=now - token.created,
        )
    expires_at = now + granted.ttl
    if granted.end:
        expires_at = min(expires_at, token.created + granted.end)
    changed = replace(token, expires_at=expires_at, lease_ttl=granted.ttl, last_renewal=now)
    return Born(changed, granted.warnings)


def _kind(request: TokenRequest, role: TokenRole | None) -> str:
    """SERVICE or BATCH: a role may demand one, or say what is made without a wish."""
    if role is not None and role.token_type in {SERVICE, BATCH}:
        return role.token_type
    if request.type not in {"", SERVICE, BATCH}:
        raise invalid("invalid 'token_type' value")
    default = role.token_type.removeprefix("default-") if role is not None else SERVICE
    return request.type or default


def _check_batch(request: TokenRequest, role: TokenRole | None, policies: tuple[str, ...]) -> None:
    """What a token without a row cannot keep, it is not given."""
    if ROOT in policies:
        raise invalid("batch tokens cannot be root tokens")
    limits = {
        "explicit_max_ttl": request.explicit_max_ttl,
        "num_uses": request.num_uses or (role.token_num_uses if role is not None else 0),
        "period": request.period,
    }
    for name, value in limits.items():
        if value:
            raise invalid(f'batch tokens cannot have "{name}" set')


def _check(request: TokenRequest, role: TokenRole | None) -> None:
    if request.num_uses < 0:
        raise invalid("number of uses cannot be negative")
    if request.entity_alias and role is None:
        raise invalid("'entity_alias' is only allowed in combination with token role")
    if request.entity_alias and role is not None and not permits_alias(role, request.entity_alias):
        raise invalid("invalid 'entity_alias' value")
    meta = request.meta or {}
    if len(meta) > MAX_META or any(len(k) > MAX_META_TEXT or len(v) > MAX_META_TEXT for k, v in meta.items()):
        raise invalid(f"meta holds at most {MAX_META} pairs of texts up to {MAX_META_TEXT} characters")


def _bounds(request: TokenRequest, role: TokenRole | None, kind: str) -> _Bounds:
    bounds = _Bounds(request.period, request.explicit_max_ttl)
    if role is not None and role.token_explicit_max_ttl:
        bounds.explicit_max = _fewer(bounds.explicit_max, role.token_explicit_max_ttl)
        if request.explicit_max_ttl:
            bounds.warnings.append(_both("Explicit max TTL", bounds.explicit_max))
    if role is not None and role.token_period and kind == SERVICE:
        bounds.period = _fewer(bounds.period, role.token_period)
        if request.period:
            bounds.warnings.append(_both("Period", bounds.period))
    return bounds


def _granted(request: TokenRequest, bounds: _Bounds, policies: tuple[str, ...]) -> Lifetime:
    if ROOT in policies and not bounds.period and not request.ttl:
        # A root token lives for ever unless told otherwise, and is bound by an explicit maximum only.
        return Lifetime(bounds.explicit_max, bounds.explicit_max)
    return lifetime(request.ttl, period=bounds.period, explicit_max=bounds.explicit_max)


def _both(what: str, seconds: int) -> str:
    return (
        f"{what} specified both during creation call and in role; using the lesser value of {seconds} seconds"
    )


def _fewer(one: int, other: int) -> int:
    """The lesser of two bounds of which 0 is none."""
    return min(one, other) if one and other else one or other


def _shown(name: str) -> str:
    if not name:
        return "token"
    return _NOT_SHOWN.sub("-", f"token-{name}").removesuffix("-")[:256]
