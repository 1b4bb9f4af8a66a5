"""HAProxy and Envoy beside nginx: each serves mutual TLS, takes a renewed certificate and a new CRL while it runs."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import subprocess
import sys
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tests.harness import processes
from tests.harness.nginx import Nginx

# TLS alerts 42 to 48: about the certificate, and nothing else.
REFUSAL = re.compile(r"ALERT_(BAD_CERTIFICATE|CERTIFICATE_\w+|UNKNOWN_CA)")
HELLO = "hello from a proxy"


@dataclass(frozen=True)
class Papers:
    """What a proxy serves and whom it lets in; PEM.

    Args:
        chain: the server's certificate and its intermediates. key: its private key.
        clients: roots of clients. crls: of every CA of their chains.
        staple: an OCSP response about the server's certificate, in DER, that it passes on.
    """

    chain: str
    key: str
    clients: str
    crls: str
    staple: bytes = b""


class Proxy(Protocol):
    """One of the three."""

    port: int

    def start(self, papers: Papers) -> None:
        """Start and wait until it listens."""
        ...

    def renew(self, papers: Papers) -> None:
        """Give it another certificate without a restart; may return before it is served."""
        ...

    def revoke(self, papers: Papers) -> None:
        """Give it other CRLs without a restart; may return before they count."""
        ...

    def stop(self) -> None:
        """Stop at once."""
        ...


class NginxProxy:
    """nginx: files and SIGHUP."""

    def __init__(self, folder: Path) -> None:
        self.nginx = Nginx(folder)
        self.port = self.nginx.port

    def start(self, papers: Papers) -> None:
        self._put(papers)
        self.nginx.start()

    def renew(self, papers: Papers) -> None:
        self._put(papers)
        self.nginx.reload()

    revoke = renew

    def _put(self, papers: Papers) -> None:
        self.nginx.put(
            server_pem=papers.chain, server_key=papers.key, clients_pem=papers.clients, crl_pem=papers.crls
        )

    def stop(self) -> None:
        self.nginx.stop()


class _Child:
    """A process with its output in a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = processes.free_port()
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _run(self, *command: str) -> None:
        with (self.folder / "out").open("ab") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        processes.wait_for(self._listens, 60, lambda: (self.folder / "out").read_text()[-2000:])

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "out").read_text()[-2000:]
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(15)
            self._process = None


class HaProxy(_Child):
    """HAProxy: the runtime API (`set ssl cert`, `set ssl crl-file`, `commit`)."""

    CONFIGURATION = """
global
    stats socket {folder}/admin.sock mode 600 level admin
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 5s
frontend mutual
    bind 127.0.0.1:{port} ssl crt {folder}/server.pem ca-file {folder}/clients.pem crl-file {folder}/crl.pem verify required
    http-request return status 200 content-type text/plain string "{hello}"
"""

    def start(self, papers: Papers) -> None:
        for name, text in self._files(papers).items():
            path = self.folder / name
            path.write_text(text)
            path.chmod(0o600)
        if papers.staple:
            (self.folder / "server.pem.ocsp").write_bytes(papers.staple)
        configuration = self.folder / "haproxy.cfg"
        configuration.write_text(
            self.CONFIGURATION.format(folder=self.folder, port=self.port, hello=HELLO).lstrip()
        )
        self._run(processes.program("haproxy"), "-db", "-f", str(configuration))

    def _files(self, papers: Papers) -> dict[str, str]:
        return {
            "server.pem": papers.chain + papers.key,
            "clients.pem": papers.clients,
            "crl.pem": papers.crls,
        }

    def renew(self, papers: Papers) -> None:
        self._replace("cert", "server.pem", papers)

    def revoke(self, papers: Papers) -> None:
        self._replace("crl-file", "crl.pem", papers)

    def staple(self, papers: Papers) -> None:
        """Give it another OCSP response."""
        said = self._ask(f"set ssl ocsp-response {b64encode(papers.staple).decode()}")
        assert "OCSP Response updated" in said, said

    def _replace(self, kind: str, name: str, papers: Papers) -> None:
        path, text = self.folder / name, self._files(papers)[name]
        path.write_text(text)  # for the next start
        # An empty line ends the payload, so there is none within it.
        payload = "\n".join(line for line in text.splitlines() if line.strip())
        said = self._ask(f"set ssl {kind} {path} <<\n{payload}\n")
        assert "transaction" in said.lower(), said
        said = self._ask(f"commit ssl {kind} {path}")
        assert "Success" in said, said

    def _ask(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(str(self.folder / "admin.sock"))
            admin.sendall(command.encode() + b"\n")
            said = b""
            while part := admin.recv(65536):
                said += part
        return said.decode()


class Envoy(_Child):
    """Envoy: SDS from files that are moved into a watched folder."""

    def start(self, papers: Papers) -> None:
        (self.folder / "sds").mkdir()
        self.renew(papers)
        self.revoke(papers)
        configuration = self.folder / "envoy.json"
        configuration.write_text(json.dumps(self._bootstrap()))
        command = [str(Path(sys.prefix) / "bin" / "envoy"), "-c", str(configuration), "--concurrency", "1"]
        self._run(*command, "--disable-hot-restart", "--log-level", "warning")

    def renew(self, papers: Papers) -> None:
        secret = {
            "certificate_chain": {"inline_string": papers.chain},
            "private_key": {"inline_string": papers.key},
        }
        if papers.staple:
            secret["ocsp_staple"] = {"inline_bytes": b64encode(papers.staple).decode()}
        self._move("server", {"tls_certificate": secret})

    staple = renew

    def revoke(self, papers: Papers) -> None:
        context = {"trusted_ca": {"inline_string": papers.clients}, "crl": {"inline_string": papers.crls}}
        self._move("clients", {"validation_context": context})

    def _move(self, name: str, secret: Mapping[str, Any]) -> None:
        kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
        answer = {"resources": [{"@type": kind, "name": name, **secret}]}
        fresh = self.folder / f"{name}.new"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(answer, file)
        fresh.rename(self.folder / "sds" / f"{name}.json")

    def _source(self, name: str) -> dict[str, Any]:
        path = {"path": str(self.folder / "sds" / f"{name}.json")}
        path_source = {**path, "watched_directory": {"path": str(self.folder / "sds")}}
        return {"name": name, "sds_config": {"path_config_source": path_source, "resource_api_version": "V3"}}

    def _bootstrap(self) -> dict[str, Any]:
        tls = {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": True,
            "common_tls_context": {
                "tls_certificate_sds_secret_configs": [self._source("server")],
                "validation_context_sds_secret_config": self._source("clients"),
            },
        }
        route = {
            "match": {"prefix": "/"},
            "direct_response": {"status": 200, "body": {"inline_string": HELLO}},
        }
        manager = {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3."
            "HttpConnectionManager",
            "stat_prefix": "mutual",
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
            "http_filters": [
                {
                    "name": "router",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
                    },
                }
            ],
        }
        chain = {
            "transport_socket": {"name": "tls", "typed_config": tls},
            "filters": [{"name": "http", "typed_config": manager}],
        }
        address = {"socket_address": {"address": "127.0.0.1", "port_value": self.port}}
        listener = {"name": "mutual", "address": address, "filter_chains": [chain]}
        return {"static_resources": {"listeners": [listener]}, "node": {"id": "test", "cluster": "test"}}


PROXIES: dict[str, type[NginxProxy | HaProxy | Envoy]] = {
    "nginx": NginxProxy,
    "haproxy": HaProxy,
    "envoy": Envoy,
}


@dataclass(frozen=True)
class Visitor:
    """A client with a certificate; a new connection for each visit.

    Args:
        roots: file of roots. certificate: file with its chain. key: file.
    """

    port: int
    roots: Path
    certificate: Path
    key: Path

    def visit(self, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> tuple[bool, int]:
        """Whether it was greeted, and the serial number of the server's certificate (0: none was seen).

        Raises:
            OSError: the handshake or the connection failed for another reason than a refusal.
        """
        context = ssl.create_default_context(cafile=str(self.roots))
        context.maximum_version = version
        context.load_cert_chain(self.certificate, self.key)
        with (
            socket.create_connection(("127.0.0.1", self.port), 30) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as wire,
        ):
            shown = wire.getpeercert() or {}
            wire.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            said = b""
            while b"hello from" not in said and (part := wire.recv(65536)):
                said += part
        return b" 200 " in said and b"hello from" in said, int(str(shown["serialNumber"]), 16)

    def refused(self) -> bool:
        """Whether it is not let in: an alert about the certificate, or nginx's 400."""
        try:
            # Under TLS 1.3 a client may have sent its request, and lose the alert, before it is refused.
            return not self.visit(ssl.TLSVersion.TLSv1_2)[0]
        except ssl.SSLError as error:
            if not REFUSAL.search(str(error.reason)):
                raise
            return True
