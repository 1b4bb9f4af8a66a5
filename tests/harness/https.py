"""A small HTTPS server on loopback, for counterparts that answer JSON."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.harness.issuer import loopback_certificate

Handle = Callable[[str, str, Mapping[str, str], bytes], tuple[int, Any]]
"""(method, path, headers, body) -> (status, document)"""


class Https:
    """Serves until `stop`. Its certificate is for 127.0.0.1, or for the names given, and its own authority: `ca`."""

    def __init__(self, folder: Path, handle: Handle, *names: str) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(handle))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca = loopback_certificate(folder, *names)
        context.load_cert_chain(folder / "issuer.pem", folder / "issuer.key")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No more answers."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


def _handler(handle: Handle) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            status, document = handle(self.command, self.path, dict(self.headers), self.rfile.read(length))
            body = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _serve  # noqa: N815  (http.server's names)

        def log_message(self, *_arguments: Any) -> None:
            return

    return Handler
