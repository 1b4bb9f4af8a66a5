"""How long a certificate lives: pure rules over what was asked, the role, the mount and the issuer.

notAfter is the last second of validity, so a TTL of N seconds ends at now + N - 1 (CA/B BR 7.2, and the
Let's Encrypt incident of the extra second). Nothing ever outlives its issuer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kms.errors import invalid
from kms.operation import MountRef
from pki.model import DEFAULT_LEAF_TTL, SYSTEM_MAX_TTL, Role
from pki.profiles.named import SHORT_LIVED_MAX

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)\Z")
_TIME_BOUNDS = ("permit", "ttl-limited", "forbid")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a window must keep to.

    Args:
        now: whole seconds.
        issuer_from: the issuer's notBefore. issuer_until: its notAfter, None for a self-signed root.
        truncate: shorten to the issuer's end instead of refusing.
    """

    now: int
    default_ttl: int
    max_ttl: int
    issuer_from: int = 0
    issuer_until: int | None = None
    truncate: bool = False


def leaf_limits(role: Role, mount: MountRef) -> tuple[int, int]:
    """Default and maximum TTL of leaves under a role."""
    maximum = role.max_ttl or mount.max_lease_ttl or SYSTEM_MAX_TTL
    if role.no_rev_avail:
        maximum = min(maximum, SHORT_LIVED_MAX)
    return role.ttl or mount.default_lease_ttl or DEFAULT_LEAF_TTL, maximum


def ca_limits(mount: MountRef) -> tuple[int, int]:
    """Default and maximum TTL of CA certificates: the mount's, as in the peer."""
    maximum = mount.max_lease_ttl or SYSTEM_MAX_TTL
    return mount.default_lease_ttl or min(SYSTEM_MAX_TTL, maximum), maximum


def window(args: Mapping[str, Any], role: Role, limits: Limits) -> tuple[tuple[int, int], tuple[str, ...]]:
    """NotBefore and notAfter for a request under a role, and warnings.

    `args` holds `ttl` (seconds, 0 for none), `not_after` and `not_before` (RFC 3339 or "").

    Raises:
        KmsError(INVALID): a time that the role, the mount or the issuer does not allow.
    """
    not_before = _not_before(str(args.get("not_before") or ""), role, limits)
    not_after, warnings = _not_after(args, role, limits)
    if limits.issuer_until is not None and not_after > limits.issuer_until:
        if not limits.truncate:
            raise invalid(
                f"cannot satisfy request, as TTL would result in notAfter of {iso(not_after)} that is beyond"
                f" the expiration of the CA certificate at {iso(limits.issuer_until)}"
            )
        not_after = limits.issuer_until
    if not_before > not_after:
        raise invalid(
            f"The certificate's Not Before ({iso(not_before)}) is later than"
            f" the certificate's Not After ({iso(not_after)})"
        )
    return (not_before, not_after), warnings


def _not_after(args: Mapping[str, Any], role: Role, limits: Limits) -> tuple[int, tuple[str, ...]]:
    ttl, asked = int(args.get("ttl") or 0), str(args.get("not_after") or "")
    if ttl and (asked or role.not_after):
        raise invalid(
            "Either ttl or not_after should be provided. Both should not be provided in the same request."
        )
    if asked:
        moment = parse_time(asked)
        _check_asked_end(moment, role, limits)
        return moment, ()
    if role.not_after:
        return parse_time(role.not_after), ()
    ttl = ttl or limits.default_ttl
    if ttl <= limits.max_ttl:
        return limits.now + ttl - 1, ()
    warning = (
        f'TTL "{go_duration(ttl)}" is longer than permitted maxTTL "{go_duration(limits.max_ttl)}",'
        " so maxTTL is being used"
    )
    return limits.now + limits.max_ttl - 1, (warning,)


def _check_asked_end(moment: int, role: Role, limits: Limits) -> None:
    bound = role.not_after_bound
    text = f"not_after_bound is set to {bound}. "
    if bound == "forbid":
        raise invalid(text + "not_after cannot be provided.")
    if bound not in _TIME_BOUNDS and moment > parse_time(bound):
        raise invalid(
            text + f"Cannot satisfy request as that would result in notAfter of {iso(moment)}"
            f" that is beyond the maximum timestamp of {bound}"
        )
    # The peer lets not_after pass max_ttl unless told otherwise; here a maximum is a maximum.
    if bound in {"permit", "ttl-limited"} and moment > limits.now + limits.max_ttl - 1:
        raise invalid(
            text + f"Cannot satisfy request as that would result in notAfter of {iso(moment)}"
            f" that is beyond the TTL of {go_duration(limits.max_ttl)}"
        )


def _not_before(asked: str, role: Role, limits: Limits) -> int:
    earliest = limits.now - role.not_before_duration
    if not asked and not role.not_before:
        return max(earliest, limits.issuer_from)
    bound, moment = role.not_before_bound, parse_time(asked or role.not_before)
    if asked and bound == "forbid":
        raise invalid("not_before_bound is set to forbid. not_before cannot be provided.")
    if asked and bound == "duration" and moment < earliest:
        raise invalid(
            f"not_before_bound is set to {bound}. Cannot satisfy request as it would result in notBefore of"
            f" {iso(moment)} that is older than the allowed not_before_duration of"
            f" {go_duration(role.not_before_duration)}"
        )
    if moment < limits.issuer_from:
        raise invalid(f"notBefore of {iso(moment)} is before that of the CA certificate")
    return moment


def parse_time(text: str) -> int:
    """RFC 3339 to whole seconds, cut down. Raises KmsError(INVALID)."""
    if _RFC3339.match(text):
        try:
            return int(datetime.fromisoformat(text.upper()).timestamp())
        except (ValueError, OverflowError):
            pass
    raise invalid(f'cannot parse "{text}" as a time: write it as 2006-01-02T15:04:05Z')


def check_bounds(role: Role) -> None:
    """Refuse a role whose fixed times or bounds mean nothing."""
    for text in (role.not_after, role.not_before):
        if text:
            parse_time(text)
    if role.not_before_bound not in {"permit", "duration", "forbid"}:
        raise invalid(
            "Unknown value for field `not_before_bound`. Possible values are `permit` `duration` or `forbid`"
        )
    if role.not_after_bound not in _TIME_BOUNDS and not _RFC3339.match(role.not_after_bound):
        raise invalid(
            "Unknown value for field `not_after_bound`."
            " Possible values are `permit`, `ttl-limited`, `forbid`, or an explicit timestamp."
        )


def iso(seconds: int) -> str:
    """2006-01-02T15:04:05Z."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def go_duration(seconds: int) -> str:
    """As Go prints a time.Duration of whole seconds: 48h0m0s, 1m30s, 5s."""
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def parse_go_duration(text: str) -> int:
    """Go duration text ("72h", "1h30m", "90s", also "3d" and plain seconds) to seconds.

    Raises:
        ValueError: anything else.
    """
    if re.fullmatch(r"\d{1,10}", text):
        return int(text)
    parts = re.fullmatch(r"(?:(\d{1,5})d)?(?:(\d{1,7})h)?(?:(\d{1,9})m)?(?:(\d{1,10})s)?", text)
    if parts is None or not text:
        raise ValueError(f'time: invalid duration "{text}"')
    days, hours, minutes, seconds = (int(part or 0) for part in parts.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
