"""The server's side of TLS: 1.2 and 1.3, authenticated suites with forward secrecy, no resumption.

A resumed session skips what the handshake checks about a client certificate (SPIRE 1.14.3), so none is
offered: no tickets, and no session cache. The standard library cannot switch the cache off; OpenSSL's
own call does, on the context's pointer. Where that pointer cannot be had, TLS 1.2 (the only version that
uses the cache) is not offered.

Where clients are asked for a certificate, any is taken, or none: an operation that wants one verifies it
against an authority of its own. The standard library takes no certificate that it cannot verify, so OpenSSL
is told to leave the verification out; that the client holds the key it proves in the handshake all the same.

OpenSSL keeps a queue of errors per thread, and tells by it whether a read that found nothing means "wait" or
"broken" (SSL_get_error(3)). A PKCS#11 module that is built on the same OpenSSL may leave an error there, and
the next read of any connection of that thread would end it without an answer. So the queue is emptied first.
"""

from __future__ import annotations

import ctypes
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

SUITES_OF_1_2 = "ECDHE+AESGCM:ECDHE+CHACHA20"

_SET_CACHE_MODE, _GET_CACHE_MODE = 44, 45  # SSL_CTRL_SET_SESS_CACHE_MODE, SSL_CTRL_GET_SESS_CACHE_MODE
_CACHE_OFF, _CACHE_SERVER = 0, 2
_DER = 2  # _ssl.ENCODING_DER
# int (*cert_verify_callback)(X509_STORE_CTX *, void *); kept alive here, OpenSSL calls it at each handshake.
_VERIFY = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_TAKE_ANY = _VERIFY(lambda _store, _argument: 1)
_POINTER_AT = object.__basicsize__  # PySSLContext begins with the object head, then SSL_CTX *ctx


def server_context(_conf: object, default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """Gunicorn's `ssl_context` hook; `default` makes a context with our certificate and key."""
    context = default()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET
    context.num_tickets = 0
    context.set_ciphers(SUITES_OF_1_2)
    library = _libssl()
    if library is not None:  # else OpenSSL is a part of Python itself, and its queue nobody else's
        context.sslobject_class = _clean_object(library.ERR_clear_error)
    if not _switch_cache_off(context):
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def requesting_context(conf: object, default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """`server_context` that asks for a client certificate.

    Raises:
        OSError: OpenSSL cannot be told; refusing to start beats serving without what was configured.
    """
    context = server_context(conf, default)
    library = _libssl()
    if library is None:
        raise OSError("cannot find the loaded libssl, which tls.client_certificates needs")
    context.verify_mode = ssl.CERT_OPTIONAL
    leave_out = library.SSL_CTX_set_cert_verify_callback
    leave_out.argtypes = [ctypes.c_void_p, _VERIFY, ctypes.c_void_p]
    leave_out.restype = None
    leave_out(_pointer(context), _TAKE_ANY, None)
    return context


def presented_chain(ssl_object: Any) -> tuple[bytes, ...]:
    """What the peer of an `ssl.SSLObject` (None without TLS) presented, in DER; nobody has verified it."""
    if ssl_object is None or ssl_object.getpeercert(binary_form=True) is None:
        return ()
    found = ssl_object._sslobj.get_unverified_chain() or ()  # noqa: SLF001  (public from Python 3.13 on)
    return tuple(certificate.public_bytes(_DER) for certificate in found)


def _clean_object(clear: Callable[[], Any]) -> type[ssl.SSLObject]:
    """What asyncio makes of each connection, with an empty queue of errors before each call of OpenSSL."""

    class CleanObject(ssl.SSLObject):
        def do_handshake(self) -> None:
            clear()
            super().do_handshake()

        def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002  (the base class names it so)
            clear()
            return super().read(len, buffer)

        def write(self, data: Any) -> int:
            clear()
            return super().write(data)

        def unwrap(self) -> None:
            clear()
            super().unwrap()

    return CleanObject


def _pointer(context: ssl.SSLContext) -> ctypes.c_void_p:
    return ctypes.c_void_p.from_address(id(context) + _POINTER_AT)


def _switch_cache_off(context: ssl.SSLContext) -> bool:
    library = _libssl()
    if library is None:
        return False
    control = library.SSL_CTX_ctrl
    control.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p]
    control.restype = ctypes.c_long
    pointer = _pointer(context)
    if control(pointer, _GET_CACHE_MODE, 0, None) != _CACHE_SERVER:
        return False
    control(pointer, _SET_CACHE_MODE, _CACHE_OFF, None)
    return bool(control(pointer, _GET_CACHE_MODE, 0, None) == _CACHE_OFF)


def _libssl() -> ctypes.CDLL | None:
    """The very library that the ssl module has loaded; another copy would not know the pointer."""
    try:
        maps = Path("/proc/self/maps").read_text("ascii", "replace")
    except OSError:
        return None
    found = {path for line in maps.splitlines() if "/libssl" in (path := line.rpartition(" ")[2])}
    return ctypes.CDLL(found.pop()) if len(found) == 1 else None
