"""Rows of the method, below the mount's id. The account that searches has a password: rows are sealed, no answer shows it."""

from __future__ import annotations

import msgspec

from kms.identity.methods.params import TokenParams
from kms.tables import Table

GROUP_FILTER = "(|(memberUid={{.Username}})(member={{.UserDN}})(uniqueMember={{.UserDN}}))"
USER_FILTER = "({{.UserAttr}}={{.Username}})"


class Directory(TokenParams, frozen=True, kw_only=True):
    """How the directory is asked, and what its people's tokens look like. Timeouts in seconds."""

    anonymous_group_search: bool = False
    binddn: str = ""
    bindpass: str = ""
    certificate: str = ""
    client_tls_cert: str = ""
    client_tls_key: str = ""
    connection_timeout: int = 30
    dereference_aliases: str = "never"
    discoverdn: bool = False
    groupattr: str = "cn"
    groupdn: str = ""
    groupfilter: str = GROUP_FILTER
    max_page_size: int = 0
    request_timeout: int = 90
    starttls: bool = False
    tls_max_version: str = "tls13"
    tls_min_version: str = "tls12"
    upndomain: str = ""
    url: str = "ldap://127.0.0.1"
    userattr: str = "cn"
    userdn: str = ""
    userfilter: str = USER_FILTER
    username_as_alias: bool = False

    @property
    def searches(self) -> bool:
        """Whether people are found by a search, and not by a DN that is made from their name."""
        return self.discoverdn or bool(self.binddn and self.bindpass)


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """What a group of the directory gets here."""

    policies: tuple[str, ...] = ()


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """What a person gets here, beside what the directory says."""

    groups: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()


DIRECTORIES = Table("ldap-config", "ldap_configs", Directory, digest="identity")
GROUPS = Table("ldap-group", "ldap_groups", Group, digest="identity")
PEOPLE = Table("ldap-user", "ldap_users", Person, digest="identity")
TABLES = (DIRECTORIES, GROUPS, PEOPLE)
