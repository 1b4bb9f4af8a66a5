"""Who a certificate is for. A pure function of role and request: it refuses what would be for everybody."""

from __future__ import annotations

import re

from kms.errors import invalid
from pki.ssh.certificate import HOST
from pki.ssh.model import SshRole

MAX_PRINCIPALS = 256  # OpenSSH reads no more (SSHKEY_CERT_MAX_PRINCIPALS)
MAX_PRINCIPAL_CHARACTERS = 256
NOBODY = (
    "refusing to issue unsafe, globally-valid certificate with no principals specified; set valid_principals or"
    " default_user"
)
_TEMPLATE = re.compile(r"{{.+?}}")
_UNPRINTABLE = re.compile(r"[^\x21-\x7e]")


def split(text: str) -> list[str]:
    """A comma-separated list, as the peer reads one: trimmed, without empty ones and repetitions, sorted."""
    return sorted({part.strip() for part in text.split(",")} - {""})


def templated(text: str) -> bool:
    """Whether an identity template stands in it."""
    return _TEMPLATE.search(text) is not None


def principals(role: SshRole, kind: str, asked: str | None) -> tuple[str, ...]:
    """The names that the certificate is valid for.

    Args:
        role: what is allowed.
        kind: user or host.
        asked: `valid_principals`, or None for the role's default user.

    Raises:
        KmsError(INVALID): none, or one that the role does not allow.
    """
    wanted = split(asked if asked is not None else _default(role, kind))
    if not wanted:
        raise invalid(NOBODY)
    if len(wanted) > MAX_PRINCIPALS:
        raise invalid(f"a certificate has at most {MAX_PRINCIPALS} principals")
    text = role.allowed_domains if kind == HOST else role.allowed_users
    allowed = _allowed(
        text, filled_in=role.allowed_domains_template if kind == HOST else role.allowed_users_template
    )
    if not split(text):
        raise invalid("role is not configured to allow any principals")
    for name in wanted:
        _check(name, kind)
        if text != "*" and not (_host_allowed(role, allowed, name) if kind == HOST else name in allowed):
            raise invalid(f"{name} is not a valid value for valid_principals")
    return tuple(wanted)


def _default(role: SshRole, kind: str) -> str:
    if kind == HOST or (role.default_user_template and templated(role.default_user)):
        return ""
    return role.default_user


def _allowed(text: str, *, filled_in: bool) -> list[str]:
    """The role's list. A template stands for something about the caller's entity, and nobody here has one."""
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
