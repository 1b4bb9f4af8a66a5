"""Critical options and extensions of a certificate (PROTOCOL.certkeys)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from kms.errors import invalid
from kms.operation import NO_VALUES
from kms.policy.templating import templated
from pki.ssh.certificate import Options
from pki.ssh.model import SshRole
from pki.ssh.principals import filled

MAX_OPTIONS = 64
MAX_VALUE_CHARACTERS = 4096
TEMPLATE_SKIPPED = (
    "default_extension templating enabled with at least one extension requiring identity templating. However,"
    " this request lacked identity entity information, causing one or more extensions to be skipped from the"
    " generated certificate."
)
_NAME = re.compile(r"[\x21-\x2b\x2d-\x7e]{1,128}\Z")  # printable, no space, no comma: lists are split at it
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def checked(values: Mapping[str, Any], what: str) -> dict[str, str]:
    """Names and values as text.

    Raises:
        KmsError(INVALID): one that sshd could misread, or that it would refuse every certificate for.
    """
    if len(values) > MAX_OPTIONS:
        raise invalid(f"a certificate has at most {MAX_OPTIONS} {what}")
    found = {}
    for name, value in values.items():
        if not _NAME.match(name):
            raise invalid(f"{what}: a name has 1 to 128 printable characters, no space and no comma")
        found[name] = _text(name, value, what)
    if "source-address" in found:
        _check_networks(found["source-address"])
    if found.get("force-command") == "":
        raise invalid("force-command needs a command")
    return found


def _text(name: str, value: object, what: str) -> str:
    if isinstance(value, bool):
        value = "true" if value else "false"
    if not isinstance(value, str | int):
        raise invalid(f"{what}: the value of {name} must be a string")
    text = str(value)
    if len(text) > MAX_VALUE_CHARACTERS or _CONTROL.search(text):
        raise invalid(f"{what}: the value of {name} is too long or has control characters")
    return text


def _check_networks(text: str) -> None:
    for part in text.split(","):
        try:
            ipaddress.ip_network(part.strip(), strict=False)
        except ValueError:
            raise invalid(f'source-address must be networks like 10.0.0.0/8, not "{part.strip()}"') from None


def critical_options(role: SshRole, asked: Mapping[str, Any]) -> Options:
    """Those that were asked for, if the role allows them, or the role's own."""
    if not asked:
        return _sorted(role.default_critical_options)
    found = checked(asked, "critical options")
    allowed = role.allowed_critical_options.split(",")
    refused = sorted(set(found) - set(allowed)) if role.allowed_critical_options else []
    if refused:
        raise invalid(f"critical options not on allowed list: [{' '.join(refused)}]")
    return _sorted(found)


def extensions(
    role: SshRole, asked: Mapping[str, Any], values: Mapping[str, str] = NO_VALUES
) -> tuple[Options, tuple[str, ...]]:
    """Those that were asked for, if the role allows them, or the role's own; and warnings."""
    if asked:
        found = checked(asked, "extensions")
        refused = sorted(set(found) - set(role.allowed_extensions.split(",")))
        if refused and role.allowed_extensions != "*":
            raise invalid(f"extensions [{' '.join(refused)}] are not on allowed list")
        return _sorted(found), ()
    if not role.default_extensions_template:
        return _sorted(role.default_extensions), ()
    if values:
        # The values are no lists and no patterns, so nothing is let in that is not let in elsewhere.
        done = {name: filled(role, value, values) for name, value in role.default_extensions.items()}
        return _sorted(done), ()
    plain = {name: value for name, value in role.default_extensions.items() if not templated(value)}
    skipped = len(plain) < len(role.default_extensions)
    return _sorted(plain), (TEMPLATE_SKIPPED,) if skipped else ()


def _sorted(values: Mapping[str, str]) -> Options:
    return tuple(sorted(values.items()))
