"""http-01 (RFC 8555 8.3): the key authorization at a well-known path, over port 80."""

from __future__ import annotations

import hmac
import http.client
import ipaddress
import ssl
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from pki.acme.network import Fleeting, Reach, connected
from pki.acme.problems import AcmeProblem
from pki.acme.resolving import Resolver
from pki.names import BadName, IpAddress, canonical_ip, check_dns

MAX_REDIRECTS = 10
MAX_BODY = 1024
SECONDS = 10.0  # for one request
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_AGENT = "keystead-acme"


@dataclass(frozen=True, slots=True)
class _Target:
    scheme: str
    host: str
    path: str


def validate(host: str, token: str, key_authorization: str, resolver: Resolver, reach: Reach) -> None:
    """Raise AcmeProblem unless the host shows the key authorization. `host` is a name or an address."""
    target = _Target("http", host, f"/.well-known/acme-challenge/{token}")
    for _ in range(MAX_REDIRECTS + 1):
        status, location, body = _fetch(target, resolver, reach)
        if status in _REDIRECTS and location:
            target = _redirected(target, location, reach)
            continue
        if status != 200:
            raise AcmeProblem("incorrectResponse", f"{target.host} answered with status {status}")
        # White space at the end is allowed (8.3); nothing of the body is ever shown to anybody.
        if not hmac.compare_digest(body.rstrip(), key_authorization.encode()):
            raise AcmeProblem("incorrectResponse", f"{target.host} did not answer with the key authorization")
        return
    raise AcmeProblem("connection", f"more than {MAX_REDIRECTS} redirects")


def addresses(host: str, resolver: Resolver, reach: Reach) -> list[IpAddress]:
    """Where a host is, each address allowed. Raises AcmeProblem."""
    try:
        found = [canonical_ip(ipaddress.ip_address(host.removeprefix("[").removesuffix("]")))]
    except ValueError:
        found = resolver.addresses(host)
    reach.demand(found)
    return found


def _fetch(target: _Target, resolver: Resolver, reach: Reach) -> tuple[int, str, bytes]:
    found = addresses(target.host, resolver, reach)
    secure = target.scheme == "https"
    port = reach.tls_port if secure else reach.http_port
    with connected(found, port, SECONDS) as opened:
        try:
            stream = (
                _unverified().wrap_socket(opened, server_hostname=_sni(target.host)) if secure else opened
            )
            connection = http.client.HTTPConnection(target.host, port, timeout=SECONDS)
            connection.sock = stream
            name = f"[{target.host}]" if ":" in target.host else target.host
            connection.request(
                "GET", target.path, headers={"Host": name, "User-Agent": _AGENT, "Accept": "*/*"}
            )
            answer = connection.getresponse()
            body = answer.read(MAX_BODY + 1)
        except (OSError, http.client.HTTPException) as error:
            raise Fleeting("connection", f"{target.host} broke off: {type(error).__name__}") from None
    if len(body) > MAX_BODY:
        body = b""  # no key authorization is as long
    return answer.status, answer.headers.get("Location", ""), body


def _redirected(target: _Target, location: str, reach: Reach) -> _Target:
    """Where a redirect leads: http or https, on the ports of validation, to a plain host."""
    refused = AcmeProblem(
        "connection", "the redirect leads where validation does not go: only http and https"
    )
    port = f":{reach.http_port}" if reach.http_port != 80 else ""
    shown = f"[{target.host}]" if ":" in target.host else target.host
    try:
        parts = urlsplit(urljoin(f"{target.scheme}://{shown}{port}{target.path}", location))
        own_port, host = parts.port, parts.hostname or ""
    except ValueError:
        raise refused from None
    if not location.isascii() or not location.isprintable() or " " in location or len(location) > 2000:
        raise refused
    if parts.scheme not in {"http", "https"} or not host or "@" in parts.netloc:
        raise refused
    if own_port not in {None, reach.http_port if parts.scheme == "http" else reach.tls_port}:
        raise AcmeProblem("connection", "the redirect leads to another port")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        try:
            check_dns(host)
        except BadName:
            raise refused from None
    query = f"?{parts.query}" if parts.query else ""
    return _Target(parts.scheme, host, (parts.path or "/") + query)


def _sni(host: str) -> str | None:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host
    return None


def _unverified() -> ssl.SSLContext:
    """What comes after a redirect to https is judged by the key authorization, as over http."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
