"""Who a certificate is for. A pure function of role and request: it refuses what would be for everybody."""

from __future__ import annotations

import re
from collections.abc import Mapping

from kms.errors import invalid
from kms.operation import NO_VALUES
from kms.policy.templating import UnrenderableError, render, templated
from pki.ssh.certificate import HOST
from pki.ssh.model import SshRole

MAX_PRINCIPALS = 256  # OpenSSH reads no more (SSHKEY_CERT_MAX_PRINCIPALS)
MAX_PRINCIPAL_CHARACTERS = 256
NOBODY = (
    "refusing to issue unsafe, globally-valid certificate with no principals specified; set valid_principals or"
    " default_user"
)
_UNPRINTABLE = re.compile(r"[^\x21-\x7e]")


def split(text: str) -> list[str]:
    """A comma-separated list, as the peer reads one: trimmed, without empty ones and repetitions, sorted."""
    return sorted({part.strip() for part in text.split(",")} - {""})


def filled(role: SshRole, text: str, values: Mapping[str, str]) -> str:
    """A text of a role with the caller's entity put in. Raises KmsError(INVALID) where that cannot be."""
    signs = ("," if role.allow_commas_in_identity_templates else "") + (
        "*" if role.allow_wildcards_in_identity_templates else ""
    )
    try:
        return render(text, values, signs)
    except UnrenderableError as error:
        raise invalid(f"template '{text}' could not be rendered -> {error}") from None


def principals(
    role: SshRole, kind: str, asked: str | None, values: Mapping[str, str] = NO_VALUES
) -> tuple[str, ...]:
    """The names that the certificate is valid for.

    Args:
        role: what is allowed.
        kind: user or host.
        asked: `valid_principals`, or None for the role's default user.
        values: what templates stand for: of the caller's entity, if he has one.

    Raises:
        KmsError(INVALID): none, or one that the role does not allow.
    """
    wanted = split(asked if asked is not None else _default(role, kind, values))
    if not wanted:
        raise invalid(NOBODY)
    if len(wanted) > MAX_PRINCIPALS:
        raise invalid(f"a certificate has at most {MAX_PRINCIPALS} principals")
    text = role.allowed_domains if kind == HOST else role.allowed_users
    filled_in = role.allowed_domains_template if kind == HOST else role.allowed_users_template
    if filled_in and values:
        text = filled(role, text, values)
    allowed = _allowed(text, filled_in=filled_in)
    if not split(text):
        raise invalid("role is not configured to allow any principals")
    for name in wanted:
        _check(name, kind)
        if text != "*" and not (_host_allowed(role, allowed, name) if kind == HOST else name in allowed):
            raise invalid(f"{name} is not a valid value for valid_principals")
    return tuple(wanted)


def _default(role: SshRole, kind: str, values: Mapping[str, str]) -> str:
    if kind == HOST:
        return ""
    if role.default_user_template and templated(role.default_user):
        return filled(role, role.default_user, values) if values else ""
    return role.default_user


def _allowed(text: str, *, filled_in: bool) -> list[str]:
    """The role's list. A template that is still in it stands for nobody: the caller has no entity."""
    return [name for name in split(text) if not (filled_in and templated(name))]


def _host_allowed(role: SshRole, allowed: list[str], name: str) -> bool:
    return any(
        (role.allow_bare_domains and name == domain)
        or (role.allow_subdomains and name.endswith(f".{domain}"))
        for domain in allowed
    )


def _check(name: str, kind: str) -> None:
    """What no role can allow: ssh matches a host's principals as patterns, and sshd logs all of them."""
    if len(name) > MAX_PRINCIPAL_CHARACTERS or _UNPRINTABLE.search(name):
        raise invalid(
            f"a principal has 1 to {MAX_PRINCIPAL_CHARACTERS} printable ASCII characters and no space"
        )
    if kind == HOST and re.search(r"[*?!]", name.removeprefix("*.")):
        raise invalid(f"{name} is a pattern for too many hosts: at most one leading '*.' is allowed")
