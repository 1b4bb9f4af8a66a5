"""A private nginx that asks its clients for certificates of one CA and looks into its CRLs."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from tests.harness import processes

GREETING = "hello from nginx"

CONFIGURATION = """
{user}
daemon off;
pid {prefix}/nginx.pid;
error_log {prefix}/error.log info;
worker_processes 1;
events {{ worker_connections 64; }}
http {{
    access_log {prefix}/access.log;
    client_body_temp_path {prefix}/body;
    proxy_temp_path {prefix}/proxy;
    fastcgi_temp_path {prefix}/fastcgi;
    uwsgi_temp_path {prefix}/uwsgi;
    scgi_temp_path {prefix}/scgi;
    ssl_session_cache off;
    ssl_session_tickets off;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_certificate {prefix}/server.pem;
        ssl_certificate_key {prefix}/server.key;
        ssl_client_certificate {prefix}/clients.pem;
        ssl_crl {prefix}/crl.pem;
        ssl_verify_client on;
        ssl_verify_depth 3;
        {more}
        default_type text/plain;
        location / {{ return 200 "{greeting} to $ssl_client_s_dn\\n"; }}
    }}
}}
"""


class Nginx:
    """Write server.pem, server.key, clients.pem and crl.pem with `put`, then start.

    `crl.pem` must hold a current CRL of every authority of the chain, or OpenSSL refuses all clients.
    """

    def __init__(self, prefix: Path) -> None:
        self.prefix = prefix
        self.port = processes.free_port()
        self.address = f"https://localhost:{self.port}/"
        self._process: subprocess.Popen[bytes] | None = None
        prefix.mkdir(mode=0o700, parents=True, exist_ok=True)

    def put(self, **files: str) -> None:
        """Write files: server_pem, server_key, clients_pem, crl_pem."""
        for name, text in files.items():
            path = self.prefix / name.replace("_", ".")
            path.write_text(text)
            path.chmod(0o600)

    def start(self, more: str = "") -> None:
        """Start and wait until it accepts connections; `more` are directives of its server."""
        configuration = self.prefix / "nginx.conf"
        user = "user root;" if os.getuid() == 0 else ""
        configuration.write_text(
            CONFIGURATION.format(prefix=self.prefix, port=self.port, greeting=GREETING, user=user, more=more)
        )
        command = [processes.program("nginx"), "-p", str(self.prefix), "-c", str(configuration)]
        with (self.prefix / "nginx.out").open("ab") as out:
            self._process = subprocess.Popen(
                [*command, "-e", str(self.prefix / "error.log")],
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
            )
        processes.wait_for(self._up, 15, f"nginx\n{(self.prefix / 'nginx.out').read_text()}")

    @property
    def running(self) -> bool:
        """Whether it was started and not stopped."""
        return self._process is not None

    def _up(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"nginx ended: {(self.prefix / 'nginx.out').read_text()}")
        return (self.prefix / "nginx.pid").exists() and len(processes.tree(self._process.pid)) > 1

    def reload(self) -> None:
        """Read the files again; returns when a new worker serves and the old one is gone."""
        assert self._process is not None
        before = {process.pid for process in processes.tree(self._process.pid)[1:]}
        self._process.send_signal(signal.SIGHUP)
        pid = self._process.pid
        processes.wait_for(
            lambda: bool(now := {p.pid for p in processes.tree(pid)[1:]}) and not now & before,
            15,
            "nginx reload",
        )

    def visit(self, ca: Path, certificate: Path, key: Path) -> subprocess.CompletedProcess[str]:
        """One request by curl with a client certificate."""
        command = [processes.program("curl"), "-sS", "--max-time", "10", "--noproxy", "*"]
        identity = ["--cacert", str(ca), "--cert", str(certificate), "--key", str(key)]
        return subprocess.run(
            [*command, *identity, self.address],
            capture_output=True,
            text=True,
            check=False,
        )

    def stop(self) -> None:
        """Stop at once."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(15)
            self._process = None
