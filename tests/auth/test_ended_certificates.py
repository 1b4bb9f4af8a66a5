"""Directories, API servers and issuers whose certificate has ended: nothing is said to them, least of all a password."""

from __future__ import annotations

import secrets
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.harness.api import Api
from tests.harness.issuer import loopback_certificate

PASSWORD = "what-nobody-else-hears"


@contextmanager
def listener(folder: Path, *, ended: bool) -> Iterator[tuple[int, str, list[bytes]]]:
    """(port, its certificate, what came over TLS): hears the beginning of each connection and hangs up."""
    folder.mkdir()
    pem, heard = loopback_certificate(folder, ended=ended), []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "issuer.pem", folder / "issuer.key")

    def listen(sock: socket.socket) -> None:
        while True:
            try:
                plain, _ = sock.accept()
            except OSError:
                return
            with plain, suppress(OSError):
                plain.settimeout(5)
                with context.wrap_socket(plain, server_side=True) as connection:
                    heard.append(connection.recv(65_536))

    with socket.create_server(("127.0.0.1", 0)) as sock:
        thread = threading.Thread(target=listen, args=(sock,))
        thread.start()
        yield sock.getsockname()[1], pem, heard
        sock.shutdown(socket.SHUT_RDWR)
        thread.join()


def _ldap(api: Api, path: str, port: int, pem: str) -> None:
    config = {"url": f"ldaps://127.0.0.1:{port}", "certificate": pem, "userdn": "dc=x", "userattr": "uid"}
    api.ok("POST", f"{path}/config", {**config, "binddn": "cn=search,dc=x", "bindpass": PASSWORD})
    assert api.post(f"{path}/login/ann", {"password": PASSWORD}).status == 400


def _kubernetes(api: Api, path: str, port: int, pem: str) -> None:
    config: dict[str, Any] = {"kubernetes_host": f"https://127.0.0.1:{port}", "kubernetes_ca_cert": pem}
    api.ok("POST", f"{path}/config", {**config, "token_reviewer_jwt": PASSWORD})
    bound = {"bound_service_account_names": "app", "bound_service_account_namespaces": "prod"}
    api.ok("POST", f"{path}/role/app", bound)
    account = {"namespace": "prod", "serviceaccount": {"name": "app", "uid": "u"}}
    claims = {
        "sub": "system:serviceaccount:prod:app",
        "exp": int(time.time()) + 300,
        "kubernetes.io": account,
    }
    token = jwt.encode(claims, ec.generate_private_key(ec.SECP256R1()), "ES256")
    assert api.post(f"{path}/login", {"role": "app", "jwt": token}).status in {400, 403}


def _jwt(api: Api, path: str, port: int, pem: str) -> None:
    config = {"jwks_url": f"https://127.0.0.1:{port}/{PASSWORD}", "jwks_ca_pem": pem}
    assert api.post(f"{path}/config", config).status == 400


@pytest.mark.parametrize("kind", ["ldap", "kubernetes", "jwt"])
def test_nothing_is_said_to_a_server_whose_certificate_has_ended(kind: str, api: Api, tmp_path: Path) -> None:
    ask = {"ldap": _ldap, "kubernetes": _kubernetes, "jwt": _jwt}[kind]
    for ended in (False, True):
        path = f"auth/ended-{secrets.token_hex(3)}"
        api.ok("POST", f"sys/{path}", {"type": kind})
        with listener(tmp_path / str(ended), ended=ended) as (port, pem, heard):
            ask(api, path, port, pem)
            said = b"".join(heard)
        # The one that has not ended hears it: then silence of the other means that it was not trusted.
        assert (PASSWORD.encode() in said) is not ended, (ended, said)
        assert not (ended and said)
        api.ok("DELETE", f"sys/{path}")
