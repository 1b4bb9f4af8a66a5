"""What a verified token says, against what the role demands. Pure; the texts are the peer's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from kms.errors import KmsError, invalid
from kms.identity.globs import matches
from kms.identity.jwt.store import JwtConfig, JwtRole

DEFAULT_LEEWAY: Final = 150
DEFAULT_SKEW: Final = 60
MAX_GROUPS: Final = 1_000
_MISSING: Final = object()


def check(
    claims: Mapping[str, Any], config: JwtConfig, role: JwtRole, now: float, *, any_audience: bool = False
) -> None:
    """Raise KmsError(INVALID) unless the token is in force, for us, and from the issuer. `check_bound` says the rest.

    `any_audience`: a program judges the audience.
    """
    _times(claims, role, now)
    if config.bound_issuer and claims.get("iss") != config.bound_issuer:
        raise _bad("invalid issuer (iss) claim")
    if not isinstance(claims.get("sub", ""), str):
        raise _bad("the sub claim is not a string")
    if role.bound_subject and claims.get("sub") != role.bound_subject:
        raise _bad("invalid subject (sub) claim")
    if not any_audience:
        _audience(claims, role)


def check_bound(claims: Mapping[str, Any], role: JwtRole) -> None:
    """Raise KmsError(INVALID) unless the claims that the role binds are as it wants them."""
    for name, wanted in role.bound_claims.items():
        _bound(claims, name, wanted, role.bound_claims_type)


def user(claims: Mapping[str, Any], role: JwtRole) -> str:
    """Who it is. Raises KmsError(INVALID) when the token does not say."""
    name = role.user_claim
    value = _find(claims, name) if role.user_claim_json_pointer else claims.get(name, _MISSING)
    if value is _MISSING:
        raise invalid(f'claim "{name}" not found in token')
    if not isinstance(value, str) or not value:
        raise invalid(f'claim "{name}" could not be converted to string')
    return value


def groups(claims: Mapping[str, Any], role: JwtRole) -> tuple[str, ...]:
    """What it says the caller is in. Raises KmsError(INVALID) when it should and does not."""
    if not role.groups_claim:
        return ()
    value = _find(claims, role.groups_claim)
    if value is _MISSING:
        raise invalid(f'failed to fetch groups: "{role.groups_claim}" claim not found in token')
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or len(listed) > MAX_GROUPS:
        raise invalid(f'"{role.groups_claim}" claim could not be converted to string list')
    for name in listed:
        if not isinstance(name, str):
            raise invalid(f"value {name!r} in groups claim could not be parsed as string"[:200])
    return tuple(name for name in listed if name)


def metadata(claims: Mapping[str, Any], role: JwtRole) -> dict[str, str]:
    """What the token made from it carries. Raises KmsError(INVALID)."""
    found = {}
    for claim, name in role.claim_mappings.items():
        value = _find(claims, claim)
        if value is _MISSING:
            continue
        if not isinstance(value, str):
            raise invalid(f"error converting claim '{claim}' to string")
        found[name] = value
    return found


def _times(claims: Mapping[str, Any], role: JwtRole, now: float) -> None:
    """RFC 7519 4.1.4 to 4.1.6. Without `exp`, a token ends a leeway after it began."""
    expires, starts, issued = (_time(claims, name) for name in ("exp", "nbf", "iat"))
    if expires is None and starts is None and issued is None:
        raise _bad("no issued at (iat), not before (nbf), or expiration time (exp) claims in token")
    skew = _leeway(role.clock_skew_leeway, DEFAULT_SKEW)
    if expires is None:
        expires = max(starts or 0.0, issued or 0.0) + _leeway(role.expiration_leeway, DEFAULT_LEEWAY)
    if starts is None:
        starts = issued if issued is not None else expires - _leeway(role.not_before_leeway, DEFAULT_LEEWAY)
    if now > expires + skew:
        raise _bad("invalid expiration time (exp) claim: token is expired")
    if now < starts - skew:
        raise _bad("invalid not before (nbf) claim: token not yet valid")
    if issued is not None and now < issued - skew:
        raise _bad("invalid issued at (iat) claim: token issued in the future")


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _bad(f"the {name} claim is not a number")
    return float(value)


def _leeway(given: int, default: int) -> float:
    return float(default if given == 0 else max(given, 0))


def _audience(claims: Mapping[str, Any], role: JwtRole) -> None:
    said = claims.get("aud")
    audiences = [said] if isinstance(said, str) else said if isinstance(said, list) else []
    if not role.bound_audiences:
        if audiences:
            raise invalid("audience claim found in JWT but no audiences bound to the role")
        return
    if not any(isinstance(one, str) and one in role.bound_audiences for one in audiences):
        raise _bad("invalid audience (aud) claim: audience claim does not match any expected audience")


def _bound(claims: Mapping[str, Any], name: str, wanted: Any, how: str) -> None:
    value = _find(claims, name)
    if value is _MISSING or value is None:
        raise invalid(f'error validating claims: claim "{name}" is missing')
    said = value if isinstance(value, list) else [value]
    expected = wanted if isinstance(wanted, list) else [wanted]
    if not any(_matches(want, one, how) for want in expected for one in said):
        raise invalid(
            f'error validating claims: claim "{name}" does not match any associated bound claim values'
        )


def _matches(want: Any, said: Any, how: str) -> bool:
    if isinstance(want, str) and isinstance(said, str):
        return matches(want, said) if how == "glob" else want == said
    # true is not 1, and "1" is not 1: what is written in two ways must not mean the same.
    return type(want) is type(said) and not isinstance(want, dict | list) and bool(want == said)


def find(claims: Mapping[str, Any], name: str) -> Any:
    """A claim by its name or JSON pointer; None where there is none."""
    value = _find(claims, name)
    return None if value is _MISSING else value


def replaced(claims: Mapping[str, Any], name: str, value: Any) -> Mapping[str, Any]:
    """The claims with another value of one that is there, by its name or JSON pointer."""
    path = [name] if not name.startswith("/") else list(_pointer(name))
    changed: Mapping[str, Any] = _with(claims, path, value)
    return changed


def added(claims: Mapping[str, Any], name: str, value: Any) -> Mapping[str, Any] | None:
    """The claims with one more, by its name or JSON pointer; None where a pointer's parent is no object."""
    if not name.startswith("/"):
        return {**claims, name: value}
    above = name.rpartition("/")[0]
    if above and not isinstance(find(claims, above), dict):
        return None
    return replaced(claims, name, value)


def _with(at: Any, path: list[str], value: Any) -> Any:
    """`value` at the path; all but the last step of it must be there."""
    if not path:
        return value
    if isinstance(at, list):
        index = int(path[0])
        return [*at[:index], _with(at[index], path[1:], value), *at[index + 1 :]]
    return {**at, path[0]: _with(at[path[0]], path[1:], value) if len(path) > 1 else value}


def _pointer(name: str) -> Iterator[str]:
    for token in name[1:].split("/"):
        yield token.replace("~1", "/").replace("~0", "~")


def _find(claims: Mapping[str, Any], name: str) -> Any:
    """A claim by its name, or by a JSON pointer (RFC 6901) when it begins with a slash."""
    if not name.startswith("/"):
        return claims.get(name, _MISSING)
    at: Any = claims
    for part in _pointer(name):
        if isinstance(at, dict) and part in at:
            at = at[part]
        elif isinstance(at, list) and part.isascii() and part.isdigit() and int(part) < len(at):
            at = at[int(part)]
        else:
            return _MISSING
    return at


def _bad(reason: str) -> KmsError:
    return invalid(f"error validating token: {reason}")
