"""Whether the server's certificate and key can be used, asked before those who serve must read them."""

from __future__ import annotations

import ssl

from kms.config import Config, check_private
from kms.errors import invalid


def check_tls(config: Config) -> None:
    """Raise KmsError(INVALID) unless the server could serve with its TLS files as they are now."""
    if config.tls is None:
        return
    check_private(config.tls.key, "tls.key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # A key that is encrypted must not ask at the terminal.
        context.load_cert_chain(config.tls.certificate, config.tls.key, password=lambda: "")
    except OSError:
        raise invalid("cannot load tls.certificate and tls.key; do they match?") from None
