"""Whether the server answers, asked the way a client would."""

from __future__ import annotations

import http.client
import ssl

from kms.config import Config

_SECONDS = 2.0
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (what an operator may listen on)


def answers(config: Config) -> bool:
    """Whether sys/health answers in whatever state; sealed and uninitialised servers do."""
    host, port = config.address
    host = _WILDCARDS.get(host, host)
    connection: http.client.HTTPConnection
    if config.tls is None:
        connection = http.client.HTTPConnection(host, port, timeout=_SECONDS)
    else:
        # Our own certificate on our own socket: there is nobody to authenticate.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, port, timeout=_SECONDS, context=context)
    try:
        connection.request("GET", "/v1/sys/health")
        return bool(connection.getresponse().read())
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
