"""Asking somebody else over HTTP: an issuer of tokens for its keys, an API server for its opinion.

TLS is verified, with the operator's authorities where some are given; plain HTTP is for loopback only, or whoever is on
the way would be the other side. No redirect is followed, no proxy of the environment is used, and answers are
bounded in size and in time. Never called while a transaction is open.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import re
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from kms.errors import invalid

SECONDS: Final = 5.0
MAX_BYTES: Final = 256 * 1024
_LABEL: Final = "[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?"
_HOST: Final = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*")


class UnreachableError(Exception):
    """No answer that could be used; the text names the kind of trouble and nothing that was sent."""


@dataclass(frozen=True)
class Answer:
    """What came back, whatever its status."""

    status: int
    body: bytes

    def document(self) -> dict[str, Any]:
        """The body as a JSON object. Raises UnreachableError when it is none."""
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError):
            raise UnreachableError("the answer is not JSON") from None
        if not isinstance(found, dict):
            raise UnreachableError("the answer is not a JSON object")
        return found


def ask(
    url: str,
    *,
    context: ssl.SSLContext,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    most: int = MAX_BYTES,
    guarded: bool = False,
    names: Sequence[str] = (),
) -> Answer:
    """GET, or POST where there is a body.

    Args:
        url: passed `check_url`.
        context: what the other side's certificate is verified against (`trusting`).
        body: what is posted.
        headers: of the request; none has a default but Accept.
        most: bytes of an answer.
        guarded: the address was chosen by somebody else than the operator, so nothing on this machine or link is asked.
        names: whose certificate is taken, in place of the URL's host: names or addresses of `check_server_name`. That
            it leads to an authority of the context is verified as ever.

    Raises:
        UnreachableError: no connection, no TLS, no answer within `SECONDS`, or one that is too long.
    """
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    host, port = parts.hostname or "", parts.port
    if names:
        context.check_hostname = False  # whose it is, `_check_names` says instead
    connection = (
        http.client.HTTPSConnection(host, port, timeout=SECONDS, context=context)
        if secure
        else http.client.HTTPConnection(host, port, timeout=SECONDS)
    )
    if guarded:
        address = _elsewhere(host, port or connection.default_port)
        # The name is not resolved again: what was judged is what is connected to.
        connection._create_connection = lambda _name, timeout, source: socket.create_connection(  # type: ignore[attr-defined]  # noqa: SLF001  (http.client offers no other way in)
            address, timeout, source
        )
    target = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
    try:
        connection.connect()
        if names and secure:
            _check_names(connection.sock, names)
        with _deadline(connection):
            connection.request(
                "GET" if body is None else "POST",
                target,
                body=body,
                headers={"Accept": "application/json", **(headers or {})},
            )
            answer = connection.getresponse()
            found = answer.read(most + 1)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UnreachableError(_kind(error)) from None
    finally:
        connection.close()
    if len(found) > most:
        raise UnreachableError("the answer is too long")
    return Answer(answer.status, found)


def _check_names(connected: socket.socket, names: Sequence[str]) -> None:
    """Raise UnreachableError unless the certificate, whose path was verified, is for one of the names (RFC 6125)."""
    shown: Any = connected.getpeercert() if isinstance(connected, ssl.SSLSocket) else None
    found = (shown or {}).get("subjectAltName", ())
    if not any(_is_for(kind, value, name) for kind, value in found for name in names):
        raise UnreachableError("its certificate is for none of the names that are allowed")


def _is_for(kind: str, value: str, name: str) -> bool:
    address = _address(name)
    if address is not None:
        return kind == "IP Address" and _address(value) == address
    if kind != "DNS":
        return False
    said, wanted = value.lower().split("."), name.lower().split(".")
    if said[0] == "*" and len(said) > 2:  # one whole label, never a whole top-level domain
        said, wanted = said[1:], wanted[1:]
    return said == wanted


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def check_server_name(name: str) -> None:
    """Raise KmsError(INVALID) unless it is a host name or an address, as a certificate has them."""
    if _address(name) is None and not _HOST.fullmatch(name):
        raise invalid(f"{name[:64]!r} is no host name or address of a certificate")


def _elsewhere(host: str, port: int) -> tuple[str, int]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise UnreachableError(type(error).__name__) from None
    addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    for address in addresses:
        mapped = getattr(address, "ipv4_mapped", None) or address
        if mapped.is_loopback or mapped.is_link_local or mapped.is_multicast or mapped.is_unspecified:
            raise UnreachableError("it has an address of this machine or link")
        if mapped.is_reserved:
            raise UnreachableError("it has a reserved address")
    return str(addresses[0]), port


@contextmanager
def _deadline(connection: http.client.HTTPConnection) -> Iterator[None]:
    """Time-outs of a socket are per call; a server that sends a byte now and then gets no more than this."""
    timer = threading.Timer(SECONDS, _cut, (connection.sock,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _cut(connected: socket.socket) -> None:
    with suppress(OSError):  # it ended in the same moment
        connected.shutdown(socket.SHUT_RDWR)


def trusting(ca_pem: str) -> ssl.SSLContext:
    """Verifies servers against these authorities, or against the system's where none is given.

    Raises:
        KmsError(INVALID): no certificate in PEM.
    """
    try:
        return ssl.create_default_context(cadata=ca_pem or None)
    except ssl.SSLError:
        raise invalid("the CA certificates cannot be read: PEM is expected") from None


def check_url(url: str) -> None:
    """Raise KmsError(INVALID) unless we may ask there."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        parts.port  # noqa: B018  (raises for what is no port)
    except ValueError:
        parts, host = urlsplit(""), ""
    plain = url.isascii() and url.isprintable() and " " not in url and "@" not in parts.netloc
    if plain and host and (parts.scheme == "https" or (parts.scheme == "http" and _loopback(host))):
        return
    raise invalid(f"{url[:200]!r} is no https URL; plain http is for loopback addresses only")


def check_signed_url(url: str) -> None:
    """Raise KmsError(INVALID) unless a document that is signed may be fetched there: plain HTTP is fine for those."""
    parts = urlsplit(url) if url.isascii() and url.isprintable() and " " not in url else urlsplit("")
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
        raise invalid(f"{url[:200]!r} is no http or https URL")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _kind(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate does not verify: {error.verify_message}"
    return type(error).__name__
