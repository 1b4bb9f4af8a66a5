"""Names, and filters made from them. Pure.

A directory takes `Bob`, `bob` and `bob ` for the same person, so here only one of them is a name (CVE-2025-6013): lower case,
without spaces at its ends or two in a row, and in the form that Unicode calls normal. What is put into a filter or a DN is
escaped (RFC 4515, RFC 4514), whatever it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from ldap3.core.exceptions import LDAPInvalidDnError, LDAPInvalidFilterError
from ldap3.operation.search import parse_filter
from ldap3.utils.conv import escape_filter_chars
from ldap3.utils.dn import escape_rdn, parse_dn

from kms.errors import invalid
from kms.identity.entities.spelling import checked
from kms.identity.ldap.store import Directory

_SLOT: Final = re.compile(r"\{\{-?\s*\.([A-Za-z]+)\s*-?\}\}")
_ATTRIBUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,127}|[0-9]+(\.[0-9]+)+")
MAX_NAME: Final = 256


def spelled(name: str, what: str = "username") -> str:
    """The one spelling. Raises KmsError(INVALID) for what could be taken for another name."""
    checked(name, what)
    if len(name) > MAX_NAME or "  " in name or "/" in name:
        raise invalid(f"invalid {what}: at most {MAX_NAME} characters, no slash, no two spaces in a row")
    return name.lower()


def attribute(name: str, field: str) -> str:
    """An attribute's name. Raises KmsError(INVALID) for what is none."""
    if not _ATTRIBUTE.fullmatch(name):
        raise invalid(f"{field} is not the name of an attribute")
    return name


def check_template(template: str, field: str, known: tuple[str, ...]) -> None:
    """Raise KmsError(INVALID) unless it is a filter once its slots are filled."""
    rendered = _filled(template, field, dict.fromkeys(known, "x"))
    try:
        parse_filter(rendered, None, False, None, None, False)  # type: ignore[no-untyped-call]  # not in its stubs
    except (LDAPInvalidFilterError, ValueError, IndexError):
        raise invalid(f"invalid {field}: not a search filter (RFC 4515)") from None


def user_filter(directory: Directory, name: str) -> str:
    """Finds one person."""
    value = escape_filter_chars(name)
    attr = directory.userattr
    if directory.upndomain:
        attr, value = "userPrincipalName", f"{value}@{escape_filter_chars(directory.upndomain)}"
    return _filled(directory.userfilter, "userfilter", {"UserAttr": attr, "Username": value})


def group_filter(directory: Directory, dn: str, name: str) -> str:
    """Finds the groups of one person."""
    values = {"UserDN": escape_filter_chars(dn), "Username": escape_filter_chars(name)}
    return _filled(directory.groupfilter, "groupfilter", values)


def _filled(template: str, field: str, values: Mapping[str, str]) -> str:
    rest = _SLOT.sub("", template)
    unknown = {slot for slot in _SLOT.findall(template) if slot not in values}
    if unknown or "{{" in rest or "}}" in rest:
        names = ", ".join("{{." + name + "}}" for name in values)
        raise invalid(f"invalid {field}: of templates there are {names}, and nothing else")
    return _SLOT.sub(lambda slot: values[slot[1]], template)


def bind_name(directory: Directory, name: str) -> str:
    """As whom a person binds where nobody searches: `name@upndomain`, or a DN below `userdn`."""
    if directory.upndomain:
        return f"{name}@{directory.upndomain}"
    return f"{directory.userattr}={escape_rdn(name)},{directory.userdn}"


def group_name(value: str) -> str:
    """The common name where the value is a DN, else the value itself."""
    try:
        parts = parse_dn(value)
    except LDAPInvalidDnError:
        return value
    return next((str(text) for attr, text, _ in parts if attr.lower() == "cn"), value)
