"""The listener for documents that anybody may have: CA certificates, CRLs and OCSP answers, over plain HTTP.

They are signed, and relying parties that check them to set up TLS cannot fetch them over TLS (RFC 5280 8). All else is
404 there, whoever asks: no credential has any business on that wire. Which routes serve documents is declared
(`Route.document`).
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from kms.http.asgi import Asgi, Header, Send, Waits, send_answer
from kms.http.bodies import Receive
from kms.http.chains import Chain
from kms.http.crew import Done
from kms.http.vault.errors import nothing
from kms.http.vault.route import Rendered


class DocumentsOnly:
    """The part of an application that this listener shows."""

    def __init__(self, whole: Asgi) -> None:
        self._whole = whole

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """As `Asgi`'s."""
        if scope["type"] == "http" and not self._whole.is_document(
            scope["method"], scope["raw_path"], scope["query_string"]
        ):
            await send_answer(scope, send, nothing(404))
            return
        await self._whole(scope, receive, send)

    def hot(
        self,
        method: str,
        raw_path: bytes,
        query: bytes,
        headers: list[Header],
        body: bytes,
        peer: str,
        done: Done,
        *,
        chain: Chain = (),
    ) -> Rendered | Waits | None:
        """As `Asgi.hot`."""
        if not self._whole.is_document(method, raw_path, query):
            return nothing(404)
        return self._whole.hot(method, raw_path, query, headers, body, peer, done, chain=chain)
