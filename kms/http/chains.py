"""The certificate that a client presented: in this server's handshake, or as a trusted front proxy says.

A chain here is evidence of one thing: the client holds the first certificate's private key. Nobody has
looked at who issued it; whoever uses it verifies it against authorities of its own.

A header counts only from the networks that the operator named, and there it counts instead of what the
proxy presented for itself. From anybody else it is as if it were not there: else every client could claim
every certificate.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

from kms.config import ProxyConfig
from kms.errors import invalid

Chain = tuple[bytes, ...]
"""DER certificates as presented, the client's own first."""

MAX_HEADER_BYTES = 8190  # gunicorn's bound of a field, too
_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"


class ClientChains:
    """Picks the chain of each request. Stateless after construction.

    Args:
        proxy: which networks are trusted, and the header that they set.
    """

    def __init__(self, proxy: ProxyConfig | None = None) -> None:
        self._header = b""
        self._networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
        if proxy is not None:
            self._header = proxy.client_certificate_header.lower().encode("ascii")
            self._networks = tuple(ipaddress.ip_network(text) for text in proxy.trusted)

    def pick(self, peer: str, headers: Iterable[tuple[bytes, bytes]], presented: Chain) -> Chain:
        """The client's chain; empty when it has none.

        Args:
            peer: the address of whoever is connected.
            headers: names in lower case.
            presented: what the peer presented in the handshake.

        Raises:
            KmsError(INVALID): a trusted proxy sent something that is not one certificate.
        """
        if not self._networks or not self._trusted(peer):
            return presented
        values = [value for name, value in headers if name == self._header]
        if len(values) > 1:
            raise invalid("the client certificate's header is given twice")
        text = values[0].strip() if values else b""
        return (_certificate(text),) if text else ()

    def _trusted(self, peer: str) -> bool:
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:  # a call inside this machine has no address
            return False
        return any(address in network for network in self._networks)


def _certificate(text: bytes) -> bytes:
    """DER from RFC 9440 (`:base64:`), URL-encoded PEM (nginx `$ssl_client_escaped_cert`) or bare base64."""
    if len(text) <= MAX_HEADER_BYTES:
        if text[:1] == b":" == text[-1:] and len(text) > 1:
            text = text[1:-1]
        elif b"%" in text:
            text = unquote_to_bytes(text)
        if text.lstrip().startswith(_BEGIN):
            inner = text.strip().removeprefix(_BEGIN).removesuffix(_END)
            text = b"".join(inner.split())
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error:
            pass
    raise invalid("the client certificate's header must hold one certificate: :base64: or URL-encoded PEM")
