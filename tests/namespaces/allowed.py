"""Where we answer otherwise than the real server, and why. Each entry is needed by an answer, or the test fails."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Otherwise:
    """One deliberate difference.

    Args:
        request: what the request is told as, a regular expression.
        theirs: what the peer's answer holds.
        ours: what ours holds.
        why: the reason.
    """

    request: str
    theirs: str
    ours: str
    why: str

    def covers(self, what: str, their: Any, our: Any) -> bool:
        """Whether this is that difference."""
        return bool(re.search(self.request, what)) and self.theirs in str(their) and self.ours in str(our)


_FOREIGN = "an ID of a namespace beside is what an unknown one is (T-47); the peer tells that it is there"
OTHERWISE = (
    Otherwise(
        r"^POST sys/namespaces/transit .* in t1 ",
        "conflicts with existing mount: t1/transit/",
        "conflicts with existing mount: transit/",
        "a path is told as it is called where it was asked for",
    ),
    Otherwise(
        r"^POST sys/mounts/(kid/x|kid|t1) ",
        "existing mount at t1/",
        "",
        "the same; and one sentence for every path that is taken",
    ),
    Otherwise(
        r"^GET sys/mounts/nothing ",
        "No secret engine mount",
        "no secret engine mount",
        "as in the root namespace",
    ),
    Otherwise(
        r"^GET sys/internal/ui/namespaces ",
        "(200,",
        "(403,",
        "a token is good in its namespace and below, for this path too",
    ),
    Otherwise(
        r"accessor",
        "cannot lookup token in different namespace",
        "invalid accessor",
        _FOREIGN,
    ),
    Otherwise(r"^POST sys/capabilities ", "['deny']", "invalid token", _FOREIGN),
    Otherwise(
        r"^LIST sys/policies/acl  in - ",
        "['all', 'default', 'own', 'root']",
        "'auditor'",
        "a built-in policy that the peer has not; of the root namespace alone",
    ),
    Otherwise(
        r"^GET identity/mfa/method/totp/",
        "(403, {'errors': ['request namespace does not match method namespace']})",
        "(404, None)",
        _FOREIGN,
    ),
    Otherwise(
        r"^POST identity/mfa/method/totp/",
        "request namespace does not match method namespace",
        "does not exist",
        _FOREIGN,
    ),
    Otherwise(
        r"^POST identity/mfa/login-enforcement/e ",
        "is in an incompatible namespace",
        "doesn't exist",
        _FOREIGN,
    ),
    Otherwise(r"^POST sys/leases/lookup ", "permission denied", "invalid lease", _FOREIGN),
    Otherwise(
        r"^POST sys/leases/revoke .* in t2 by a sibling",
        "permission denied",
        "(204, None)",
        "as of an unknown lease; that it goes on is seen by the next request",
    ),
    Otherwise(
        r"^GET (kid/|t1/|t2/)?sys/auth/up ",
        "403",
        "200",
        "reading one auth mount needs no sudo here, in whatever namespace",
    ),
)


def allowed(what: str, their: Any, our: Any) -> Otherwise | None:
    """The entry that allows a difference."""
    return next((entry for entry in OTHERWISE if entry.covers(what, their, our)), None)
