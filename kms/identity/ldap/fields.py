"""Fields of the configuration, of groups and of users: what is taken, checked and shown."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec.structs import replace

from kms.errors import invalid
from kms.identity.entities.spelling import policies as assignable
from kms.identity.ldap.directory import context_of
from kms.identity.ldap.names import attribute, check_template, spelled
from kms.identity.ldap.store import Directory, Group, Person
from kms.identity.methods import params
from kms.operation import Field, Record, Type

_TEXTS: Final = (
    "binddn",
    "dereference_aliases",
    "groupattr",
    "groupdn",
    "groupfilter",
    "tls_max_version",
    "tls_min_version",
    "upndomain",
    "url",
    "userattr",
    "userdn",
    "userfilter",
)
_SECRETS: Final = ("bindpass", "certificate", "client_tls_cert", "client_tls_key")
_FLAGS: Final = ("anonymous_group_search", "discoverdn", "starttls", "username_as_alias")
_SECONDS: Final = ("connection_timeout", "request_timeout")
# What is only ever one way here, and how the API shows it.
_FIXED: Final[dict[str, bool]] = {
    "case_sensitive_names": False,
    "deny_null_bind": True,
    "insecure_tls": False,
    "use_pre111_group_cn_behavior": False,
    "use_token_groups": False,
}
_WHY: Final = {
    "case_sensitive_names": "names have one spelling here, as directories see them",
    "deny_null_bind": "a bind without a password is anonymous, and proves nobody",
    "insecure_tls": "give the server's CA in 'certificate' instead",
    "use_pre111_group_cn_behavior": "it is a habit of old versions",
    "use_token_groups": "search with groupfilter and 1.2.840.113556.1.4.1941 instead",
}
_VERSIONS: Final = ("tls12", "tls13")
_MAX_SECONDS: Final = 300
_MAX_PAGE: Final = 10_000

CONFIG_FIELDS: Final = (
    *(Field(name, record=Record.CLEAR) for name in _TEXTS),
    *(Field(name) for name in _SECRETS),
    *(Field(name, Type.BOOL, record=Record.CLEAR) for name in (*_FLAGS, *_FIXED)),
    *(Field(name, Type.SECONDS, record=Record.CLEAR) for name in _SECONDS),
    Field("max_page_size", Type.INT, record=Record.CLEAR),
    *params.PARAM_FIELDS,
)
GROUP_FIELDS: Final = (Field("policies", Type.STRINGS, record=Record.CLEAR),)
PERSON_FIELDS: Final = (
    Field("groups", Type.STRINGS, record=Record.CLEAR),
    Field("policies", Type.STRINGS, record=Record.CLEAR),
)


def changed_config(before: Directory, given: Mapping[str, Any]) -> Directory:
    """The configuration after a write; what is not given stays. Raises KmsError(INVALID)."""
    for name, only in _FIXED.items():
        if name in given and given[name] is not only:
            raise invalid(f"{name} is always {str(only).lower()} here: {_WHY[name]}")
    read = params.changes(given, before)
    names = (*_TEXTS, *_SECRETS, *_FLAGS, *_SECONDS, "max_page_size")
    read |= {name: given[name] for name in names if name in given}
    for name in ("userattr",):
        if name in read:
            read[name] = read[name].lower()
    directory = replace(before, **read)
    _check(directory)
    return directory


def _check(directory: Directory) -> None:
    for url in directory.url.split(","):
        _check_url(url.strip(), secured=directory.starttls)
    attribute(directory.userattr, "userattr")
    attribute(directory.groupattr, "groupattr")
    check_template(directory.userfilter, "userfilter", ("UserAttr", "Username"))
    if directory.groupfilter:
        check_template(directory.groupfilter, "groupfilter", ("UserDN", "Username"))
    if directory.dereference_aliases not in {"never", "finding", "searching", "always"}:
        raise invalid("invalid 'dereference_aliases': never, finding, searching or always")
    for name in _SECONDS:
        if not 0 < getattr(directory, name) <= _MAX_SECONDS:
            raise invalid(f"{name}: 1 to {_MAX_SECONDS} seconds")
    if not 0 <= directory.max_page_size <= _MAX_PAGE:
        raise invalid(f"max_page_size: 0 to {_MAX_PAGE}")
    _check_tls(directory)


def _check_tls(directory: Directory) -> None:
    for name in ("tls_min_version", "tls_max_version"):
        if getattr(directory, name) not in _VERSIONS:
            raise invalid(f"invalid '{name}': use tls12 or tls13")
    if directory.tls_max_version < directory.tls_min_version:
        raise invalid("'tls_max_version' must be greater than or equal to 'tls_min_version'")
    if bool(directory.client_tls_cert) != bool(directory.client_tls_key):
        raise invalid("both client_tls_cert and client_tls_key must be set")
    context_of(directory)


def _check_url(url: str, *, secured: bool) -> None:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        parts.port  # noqa: B018  (raises for what is no port)
    except ValueError:
        parts, host = urlsplit(""), ""
    if parts.scheme not in {"ldap", "ldaps"} or not host or parts.username or parts.path.strip("/"):
        raise invalid(f"invalid LDAP url {url[:200]!r}: ldaps://host:port or ldap://host:port is expected")
    if parts.scheme == "ldap" and not secured and not _loopback(host):
        raise invalid("passwords would travel in clear: use ldaps://, or ldap:// with starttls")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def shown_config(directory: Directory) -> dict[str, Any]:
    """The configuration as the API shows it: without a password or a private key."""
    names = (*_TEXTS, *_FLAGS, *_SECONDS, "max_page_size", "certificate", "client_tls_cert")
    return {**params.shown(directory), **_FIXED, **{name: getattr(directory, name) for name in names}}


def changed_group(_before: Group | None, given: Mapping[str, Any]) -> tuple[Group, tuple[str, ...]]:
    """A group, whole. Raises KmsError(INVALID)."""
    return Group(policies=assignable(given.get("policies") or [])), ()


def shown_group(group: Group) -> dict[str, Any]:
    """The group as the API shows it."""
    return {"policies": list(group.policies)}


def changed_person(_before: Person | None, given: Mapping[str, Any]) -> tuple[Person, tuple[str, ...]]:
    """A user, whole. Raises KmsError(INVALID)."""
    groups = tuple(dict.fromkeys(spelled(name, "group") for name in given.get("groups") or []))
    return Person(groups=groups, policies=assignable(given.get("policies") or [])), ()


def shown_person(person: Person) -> dict[str, Any]:
    """The user as the API shows it: groups are one text there."""
    return {"groups": ",".join(person.groups), "policies": list(person.policies)}
