"""Policies that exist without being written: `default`, and the name `root`.

`default` grants what the peer's grants, path for path (a test compares them). It is an ordinary policy
that an operator may rewrite; `root` has no text at all, it is a property of the token.
"""

from __future__ import annotations

from typing import Final

from kms.policy.auditor import AUDITOR
from kms.policy.model import PolicyDocument, Rule

ROOT: Final = "root"
DEFAULT: Final = "default"

# Internal to response wrapping and control groups: never written, never handed to a token
# by a caller.
RESPONSE_WRAPPING: Final = "response-wrapping"
# Of access tokens that the OpenID Connect provider gives to clients.
OIDC_ACCESS: Final = "oidc-access"
RESERVED: Final = frozenset({RESPONSE_WRAPPING, OIDC_ACCESS, "control-group"})
NOT_ASSIGNABLE: Final = RESERVED
NOT_WRITABLE: Final = RESERVED | {ROOT, AUDITOR}

_DEFAULT: tuple[tuple[str, tuple[tuple[str, tuple[str, ...]], ...]], ...] = (
    (
        "A token may look at itself, renew itself and give itself up.",
        (
            ("auth/token/lookup-self", ("read",)),
            ("auth/token/renew-self", ("update",)),
            ("auth/token/revoke-self", ("update",)),
        ),
    ),
    (
        "It may ask what it is allowed to do.",
        (("sys/capabilities-self", ("update",)), ("sys/internal/ui/resultant-acl", ("read",))),
    ),
    (
        "It may read the entity that it belongs to.",
        (
            ("identity/entity/id/{{identity.entity.id}}", ("read",)),
            ("identity/entity/name/{{identity.entity.name}}", ("read",)),
        ),
    ),
    (
        "It may renew and look up leases whose ids it knows.",
        (("sys/leases/renew", ("update",)), ("sys/leases/lookup", ("update",))),
    ),
    (
        "Its cubbyhole is its own.",
        (("cubbyhole/*", ("create", "delete", "list", "read", "update")),),
    ),
    (
        "It may wrap a value for somebody else, and unwrap one that was wrapped for it.",
        (
            ("sys/wrapping/wrap", ("update",)),
            ("sys/wrapping/lookup", ("update",)),
            ("sys/wrapping/unwrap", ("update",)),
        ),
    ),
    (
        "It may hash.",
        (("sys/tools/hash", ("update",)), ("sys/tools/hash/*", ("update",))),
    ),
    (
        "It may take part in an OIDC login.",
        (("identity/oidc/provider/+/authorize", ("read", "update")),),
    ),
)


def _text() -> str:
    lines = []
    for reason, paths in _DEFAULT:
        lines.append(f"# {reason}")
        for path, grants in paths:
            listed = ", ".join(f'"{grant}"' for grant in grants)
            lines += [f'path "{path}" {{', f"    capabilities = [{listed}]", "}"]
        lines.append("")
    return "\n".join(lines)


DEFAULT_TEXT: Final = _text()
DEFAULT_DOCUMENT: Final = PolicyDocument(
    rules=tuple(Rule(path=path, grants=grants) for _, paths in _DEFAULT for path, grants in paths)
)
WRAPPING_DOCUMENT: Final = PolicyDocument(rules=(Rule(path="sys/wrapping/unwrap", grants=("update",)),))
"""What a wrapping token may do."""
OIDC_DOCUMENT: Final = PolicyDocument(
    rules=(Rule(path="identity/oidc/provider/+/userinfo", grants=("read", "update")),)
)
"""What such an access token may do: its own provider is in the token."""
