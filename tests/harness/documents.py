"""A plain HTTP server on loopback that answers everything with the same bytes, as a distribution point does."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Documents:
    """Serves until `stop`."""

    def __init__(self) -> None:
        self.content = b""
        self.asked = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}/document"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No more answers."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def _handler(documents) -> type[BaseHTTPRequestHandler]:  # noqa: N805  (its instance is another)
        class Handler(BaseHTTPRequestHandler):
            def _serve(self) -> None:
                documents.asked += 1
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(200)
                self.send_header("Content-Length", str(len(documents.content)))
                self.end_headers()
                self.wfile.write(documents.content)

            do_GET = do_POST = _serve  # noqa: N815  (http.server's names)

            def log_message(self, *_arguments: Any) -> None:
                return

        return Handler
