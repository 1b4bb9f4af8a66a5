"""What another user of OpenSSL leaves in a thread's queue of errors ends no connection of that thread."""

from __future__ import annotations

import ctypes
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from kms.server.tls import requesting_context, server_context
from tests.server.test_tls import _certificate


def _leave_an_error() -> None:
    """As a PKCS#11 module does when a key does not unwrap: OpenSSL's call fails, and nobody asks why."""
    library = ctypes.CDLL("libcrypto.so.3")
    library.ERR_new()
    library.ERR_set_error(6, 100, None)  # ERR_LIB_EVP, EVP_R_BAD_DECRYPT
    assert library.ERR_peek_error() != 0


class Pair:
    """A server's and a client's end of TLS in memory, shaken."""

    def __init__(self, context: ssl.SSLContext) -> None:
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        client.verify_mode = ssl.CERT_NONE
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.server = context.wrap_bio(to_server, to_client, server_side=True)
        self.client = client.wrap_bio(to_client, to_server)
        for end in (self.client, self.server, self.client, self.server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue

    def ask(self) -> bytes:
        """One request; an error is left behind while it is served."""
        self.client.write(b"request")
        asked: bytes = self.server.read(100)
        _leave_an_error()
        with pytest.raises(ssl.SSLWantReadError):  # and not "bad decrypt", which ends the connection
            self.server.read(100)
        _leave_an_error()
        self.server.write(b"answer")
        assert self.client.read(100) == b"answer"
        return asked


def _context(
    folder: Path, make: Callable[[object, Callable[[], ssl.SSLContext]], ssl.SSLContext]
) -> ssl.SSLContext:
    _certificate(folder, "127.0.0.1")

    def default() -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "tls.pem", folder / "tls.key")
        return context

    return make(None, default)


@pytest.mark.parametrize("make", [server_context, requesting_context])
def test_an_error_of_somebody_else_ends_no_connection(
    tmp_path: Path, make: Callable[[object, Callable[[], ssl.SSLContext]], ssl.SSLContext]
) -> None:
    pair = Pair(_context(tmp_path, make))
    for _ in range(3):
        assert pair.ask() == b"request"
    _leave_an_error()
    with pytest.raises(ssl.SSLWantReadError):
        pair.server.unwrap()


def test_without_the_care_it_would(tmp_path: Path) -> None:
    pair = Pair(_context(tmp_path, lambda _conf, default: default()))
    pair.client.write(b"request")
    assert pair.server.read(100) == b"request"
    _leave_an_error()
    with pytest.raises(ssl.SSLError, match="bad decrypt"):
        pair.server.read(100)
