"""The conversation with a directory server: verified TLS, binds and searches, all within one deadline; no referral is followed."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from ldap3 import ANONYMOUS, NONE, SIMPLE, SUBTREE, Connection, Server, Tls
from ldap3.core.exceptions import LDAPException, LDAPSASLPrepError

from kms.errors import invalid
from kms.identity.ldap.names import bind_name, group_filter, group_name, user_filter
from kms.identity.ldap.store import Directory
from kms.identity.outward import trusting

MAX_GROUPS: Final = 10_000
_SUCCESS, _NO_OBJECT = 0, 32
_DEREFERENCE: Final = {"never": "NEVER", "finding": "FINDING_BASE", "searching": "SEARCH", "always": "ALWAYS"}
_VERSIONS: Final = {"tls12": ssl.TLSVersion.TLSv1_2, "tls13": ssl.TLSVersion.TLSv1_3}


class UnreachableError(Exception):
    """No server could be asked; nothing is known about the person."""


class NobodyError(Exception):
    """The directory does not know the person, or not this password.

    Args:
        known: a search found the person.
    """

    def __init__(self, *, known: bool = False) -> None:
        super().__init__()
        self.known = known


@dataclass(frozen=True)
class Found:
    """A person, and the groups that the directory says."""

    alias: str
    groups: tuple[str, ...]


class _Verified(Tls):
    """TLS by a context of ours: it verifies the chain and the host's name itself."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(validate=ssl.CERT_REQUIRED)
        self._context = context

    def wrap_socket(self, connection: Any, do_handshake: bool = False) -> None:
        """Put TLS on the connection's socket."""
        connection.socket = self._context.wrap_socket(
            connection.socket, server_hostname=connection.server.host, do_handshake_on_connect=do_handshake
        )


def authenticate(directory: Directory, name: str, password: str) -> Found:
    """The person whose password this is. Never inside a transaction.

    Raises:
        NobodyError: not the password, or nobody of this name.
        UnreachableError: no server could be asked.
    """
    if not password:
        raise NobodyError  # a bind without one is anonymous, and succeeds (RFC 4513 5.1.2)
    with _connected(directory) as connection:
        dn, alias = _person(directory, connection, name)
        if not _bind(connection, dn, password):
            raise NobodyError(known=directory.searches)
        if (
            directory.binddn
            and directory.bindpass
            and not _bind(connection, directory.binddn, directory.bindpass)
        ):
            raise UnreachableError("failed to re-bind with the BindDN user")
        return Found(alias, _groups(directory, connection, _object(directory, connection, dn, name), name))


def look_up(directory: Directory, name: str) -> Found:
    """The person as the directory has them now, without their password; only where people are searched for.

    Raises:
        NobodyError: not there any more.
        UnreachableError: no server could be asked.
    """
    with _connected(directory) as connection:
        dn, alias = _person(directory, connection, name)
        return Found(alias, _groups(directory, connection, _object(directory, connection, dn, name), name))


@contextmanager
def _connected(directory: Directory) -> Iterator[Connection]:
    connection = _dial(directory)
    # Time-outs of ldap3 are per answer; this one is for all of them.
    timer = threading.Timer(directory.request_timeout, _cut, (connection.socket,))
    timer.daemon = True
    timer.start()
    try:
        yield connection
    except (LDAPException, OSError) as error:
        raise UnreachableError(type(error).__name__) from None
    finally:
        timer.cancel()
        with suppress(LDAPException, OSError):
            connection.unbind()


def _cut(connected: socket.socket) -> None:
    with suppress(OSError):  # it ended in the same moment
        connected.shutdown(socket.SHUT_RDWR)


def _dial(directory: Directory) -> Connection:
    """The first server of `url` that answers."""
    trouble = "no url"
    for url in directory.url.split(","):
        parts = urlsplit(url.strip())
        server = Server(
            parts.hostname or "",
            port=parts.port or (636 if parts.scheme == "ldaps" else 389),
            use_ssl=parts.scheme == "ldaps",
            tls=_Verified(context_of(directory)),
            connect_timeout=directory.connection_timeout,
            get_info=NONE,
        )
        connection = Connection(
            server,
            auto_referrals=False,
            receive_timeout=directory.request_timeout,
            check_names=False,
            read_only=True,
        )
        try:
            connection.open()
            if directory.starttls and parts.scheme == "ldap":
                connection.start_tls()  # raises where the server refuses
        except (LDAPException, OSError) as error:
            trouble = type(error).__name__
            if connection.socket is not None:
                connection.socket.close()
            continue
        if directory.starttls and parts.scheme == "ldap" and not connection.tls_started:
            connection.socket.close()
            raise UnreachableError("StartTLS failed")
        return connection
    raise UnreachableError(trouble)


def context_of(directory: Directory) -> ssl.SSLContext:
    """What servers are verified against, and what we show them. Raises KmsError(INVALID)."""
    context = trusting(directory.certificate)
    context.minimum_version = _VERSIONS[directory.tls_min_version]
    context.maximum_version = _VERSIONS[directory.tls_max_version]
    if directory.client_tls_cert:
        _present(context, directory.client_tls_cert, directory.client_tls_key)
    return context


def _present(context: ssl.SSLContext, certificate: str, key: str) -> None:
    # The standard library reads files only; this one exists in memory and has no name.
    number = os.memfd_create("client", os.MFD_CLOEXEC)
    try:
        os.write(number, f"{key}\n{certificate}\n".encode("utf-8", "surrogatepass"))
        context.load_cert_chain(f"/proc/self/fd/{number}")
    except (ssl.SSLError, OSError):
        raise invalid("failed to parse client X509 key pair") from None
    finally:
        os.close(number)


def _bind(connection: Connection, dn: str, password: str) -> bool:
    try:
        return bool(connection.rebind(user=dn, password=password, authentication=SIMPLE))
    except LDAPSASLPrepError:
        return False  # RFC 4013: no password has such characters


def _anonymous(connection: Connection) -> bool:
    connection.user = connection.password = None  # else ldap3 takes those of the bind before
    return bool(connection.rebind(authentication=ANONYMOUS))


def _person(directory: Directory, connection: Connection, name: str) -> tuple[str, str]:
    """(DN to bind as, alias)."""
    if not directory.searches:
        made = bind_name(directory, name)
        return made, name if directory.username_as_alias else made
    bound = (
        _bind(connection, directory.binddn, directory.bindpass)
        if directory.binddn and directory.bindpass
        else _anonymous(connection)
    )
    if not bound:
        raise UnreachableError("LDAP bind (service) failed")
    entries = _search(
        directory, connection, directory.userdn, user_filter(directory, name), [directory.userattr], 2
    )
    if len(entries) != 1:
        raise NobodyError  # none, or more than one: nobody says which was meant
    if directory.username_as_alias:
        return entries[0].dn, name
    values = entries[0].values
    if len(values) != 1:
        raise NobodyError
    return entries[0].dn, values[0]


def _object(directory: Directory, connection: Connection, dn: str, name: str) -> str:
    """The DN of the person's entry, where the name that binds is none (userPrincipalName)."""
    if not directory.upndomain or directory.searches:
        return dn
    entries = _search(directory, connection, directory.userdn, user_filter(directory, name), [], 2)
    if len(entries) != 1:
        raise NobodyError
    return entries[0].dn


def _groups(directory: Directory, connection: Connection, dn: str, name: str) -> tuple[str, ...]:
    if not directory.groupdn or not directory.groupfilter:
        return ()
    if directory.anonymous_group_search and not _anonymous(connection):
        raise UnreachableError("anonymous bind failed")
    wanted = group_filter(directory, dn, name)
    entries = _search(directory, connection, directory.groupdn, wanted, [directory.groupattr], MAX_GROUPS)
    names = [group_name(value) for entry in entries for value in entry.values or (entry.dn,)]
    return tuple(dict.fromkeys(names))


@dataclass(frozen=True)
class _Entry:
    dn: str
    values: tuple[str, ...]


def _search(
    directory: Directory, connection: Connection, base: str, wanted: str, attributes: list[str], most: int
) -> list[_Entry]:
    fields = attributes or ["1.1"]
    options: dict[str, Any] = {
        "search_base": base,
        "search_filter": wanted,
        "search_scope": SUBTREE,
        "attributes": fields,
        "dereference_aliases": _DEREFERENCE[directory.dereference_aliases],
        "time_limit": directory.request_timeout,
    }
    if directory.max_page_size and most > directory.max_page_size:
        pages = connection.extend.standard.paged_search(
            **options, paged_size=directory.max_page_size, generator=True
        )
        found = [entry for entry, _ in zip(pages, range(most), strict=False)]
    else:
        connection.search(**options, size_limit=most)
        if connection.result["result"] not in (_SUCCESS, _NO_OBJECT):
            raise UnreachableError(f"search: {connection.result['description']}")
        found = connection.response or []
    return [_entry(one, fields[0]) for one in found if one.get("type") == "searchResEntry"]


def _entry(raw: Any, attribute: str) -> _Entry:
    held: list[bytes] = next(
        (v for n, v in raw["raw_attributes"].items() if n.lower() == attribute.lower()), []
    )
    return _Entry(str(raw["dn"]), tuple(bytes(each).decode("utf-8", "replace") for each in held))
