"""Flask for everything that may block: one catch-all over the same door.

The server hands it requests whose operation runs in the pool (key generation, fsync, RSA) with the body
already read, so that a slow client never holds a thread. Under a plain WSGI server it works alone.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import quote

from flask import Flask, Response, request
from werkzeug.datastructures import Headers

from kms.http.vault.body import MAX_BODY_BYTES
from kms.http.vault.door import Door, Prepared, Rendered

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

PREPARED = "keystead.prepared"
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "LIST", "OPTIONS", "SCAN"]


def make_flask(door: Door) -> Flask:
    """The application. It owns no state and no template, and serves no file."""
    application = Flask("keystead", static_folder=None, template_folder=None)
    application.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    application.url_map.merge_slashes = False  # the door redirects; two rules for one path would differ

    def serve(path: str = "") -> Response:
        del path  # decoded by werkzeug; the door reads the raw target
        return _response(_answer(door))

    application.add_url_rule("/", "root", serve, methods=METHODS, provide_automatic_options=False)
    application.add_url_rule("/<path:path>", "door", serve, methods=METHODS, provide_automatic_options=False)
    return application


def _answer(door: Door) -> Rendered:
    scope = request.environ.get("asgi.scope")
    prepared = scope.get(PREPARED) if isinstance(scope, dict) else None
    if isinstance(prepared, Prepared):
        return door.contained(prepared)
    raw_path = quote(request.environ["PATH_INFO"].encode("latin-1"), safe="/:@!$&'()*+,;=~").encode("ascii")
    headers = [(n.lower().encode("latin-1"), v.encode("latin-1")) for n, v in request.headers.items()]
    peer = request.remote_addr or ""
    return door.handle(request.method, raw_path, request.query_string, headers, request.get_data(), peer)


class _Whole(Response):
    """As it was rendered: werkzeug takes Last-Modified from a 304, which RFC 9110 15.4.5 leaves to the server."""

    def get_wsgi_headers(self, environ: WSGIEnvironment) -> Headers:
        headers = super().get_wsgi_headers(environ)
        if self.status_code == HTTPStatus.NOT_MODIFIED and self.last_modified is not None:
            headers["Last-Modified"] = self.headers["Last-Modified"]
        return headers


def _response(answer: Rendered) -> Response:
    response = _Whole(answer.body, status=answer.status, content_type=answer.content_type)
    response.autocorrect_location_header = False
    response.headers["Cache-Control"] = "no-store"
    response.headers["Server"] = "keystead"
    for name, value in answer.headers:
        response.headers[name] = value
    return response
