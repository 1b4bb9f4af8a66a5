"""Google, as far as groups of a Workspace are concerned: the token endpoint (RFC 7523) and the Directory API, on loopback.

It judges each signed assertion by what Google documents: key, algorithm, issuer, audience, scopes, whom it is for, at most
an hour. `broken` and `answers` make it refuse or talk nonsense.
"""

from __future__ import annotations

import json
import re
import socket
import socketserver
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.harness.https import Https

ACCOUNT = "reader@project.iam.gserviceaccount.com"
MACHINE = "machine@project.iam.gserviceaccount.com"  # a server's own, which may sign for the other
ADMIN = "admin@example.test"
CLOUD = "https://www.googleapis.com/auth/cloud-platform"
SCOPES = (
    "https://www.googleapis.com/auth/admin.directory.group.readonly",
    "https://www.googleapis.com/auth/admin.directory.user.readonly",
)
HOSTS = ("oauth2.googleapis.com", "admin.googleapis.com", "iamcredentials.googleapis.com")
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_OLD_GRANT = (
    "http://oauth.net/grant_type/jwt/1.0/bearer"  # from before the RFC; Google's own libraries still say it
)
_PAGE = 2


class Google:
    """Serves until `stop`. `groups` is of whom -> their groups, `schemas` of whom -> their custom schemas.

    Args:
        folder: for its certificate.
        public: whether it goes by Google's own names; else by its address.
    """

    def __init__(self, folder: Path, *, public: bool = False) -> None:
        self._https = Https(folder, self._handle, *(HOSTS if public else ()))
        self.ca = self._https.ca
        self.port = int(self._https.url.rpartition(":")[2])
        self.directory = "https://admin.googleapis.com" if public else self._https.url
        self.address = self._https.url
        self.token_uri = f"https://{HOSTS[0]}/token" if public else f"{self._https.url}/token"
        self.key = rsa.generate_private_key(65537, 2048)
        self.groups: dict[str, list[Any]] = {}
        self.schemas: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.assertions: list[dict[str, Any]] = []
        self.answers: dict[str, tuple[int, Any]] = {}
        self.admin = ADMIN
        self._given = 0
        self._cloud = False  # whether the last token was the machine's, for all of Google's cloud

    def account(self, **changed: Any) -> str:
        """A service account's key file, with what a test changes; None leaves a member out."""
        pem = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        made = {
            "type": "service_account",
            "project_id": "project",
            "private_key_id": "key-1",
            "private_key": pem,
            "client_email": ACCOUNT,
            "client_id": "1",
            "token_uri": self.token_uri,
            **changed,
        }
        return json.dumps({name: value for name, value in made.items() if value is not None})

    def clear(self) -> None:
        """Forget what was asked."""
        self.asked.clear()
        self.assertions.clear()

    def stop(self) -> None:
        """No more answers."""
        self._https.stop()

    def _handle(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Any]:
        parts = urlsplit(target)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        place = f"{method} {unquote(parts.path)}"
        self.asked.append((place, asked))
        for prefix, answer in self.answers.items():
            if place.startswith(prefix):
                return answer
        if place == "POST /token":
            return self._token(body)
        if headers.get("Authorization") != f"Bearer access-{self._given}":
            return 401, {"error": {"code": 401, "message": "Invalid Credentials"}}
        if place.startswith("POST /v1/projects/-/serviceAccounts/"):
            return self._iam(place.rpartition("/")[2], json.loads(body))
        if place == "GET /admin/directory/v1/groups":
            return self._groups(asked)
        found = re.fullmatch(r"GET /admin/directory/v1/users/(.+)", place)
        return self._user(found[1], asked) if found else (404, {"error": {"code": 404}})

    def _token(self, body: bytes) -> tuple[int, Any]:
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        refusal = self._wrong(form)
        if refusal:
            return 400, {"error": "invalid_grant", "error_description": refusal}
        self._given += 1
        return 200, {"access_token": f"access-{self._given}", "expires_in": 3599, "token_type": "Bearer"}

    def _iam(self, what: str, asked: Any) -> tuple[int, Any]:
        """What the machine may do as the account: sign for it, or be it (IAM Service Account Credentials API)."""
        if not self._cloud:
            return 403, {"error": {"code": 403, "status": "PERMISSION_DENIED"}}
        if what == f"{ACCOUNT}:signJwt":
            return 200, {"keyId": "key-1", "signedJwt": self._signed(json.loads(asked["payload"]))}
        if what == f"{ACCOUNT}:generateAccessToken" and sorted(asked["scope"]) == sorted(SCOPES):
            self._given += 1
            return 200, {"accessToken": f"access-{self._given}", "expireTime": "2100-01-01T00:00:00Z"}
        return 404, {"error": {"code": 404}}

    def _signed(self, said: dict[str, Any]) -> str:
        return jwt.encode(said, self.key, "RS256", {"kid": "key-1"})

    def _wrong(self, form: Mapping[str, str]) -> str:
        """What is wrong with an assertion, "" for nothing."""
        if form.get("grant_type") != _GRANT and form.get("assertion_type") != _OLD_GRANT:
            return "no such grant"
        try:
            read = jwt.decode_complete(
                form.get("assertion", ""),
                self.key.public_key(),
                ["RS256"],
                audience=[self.token_uri, f"{self.address}/token"],
            )
        except jwt.PyJWTError as error:
            return f"Invalid JWT: {error}"
        said, header = read["payload"], read["header"]
        self.assertions.append(said)
        now, own = time.time(), said.get("iss") == MACHINE
        self._cloud = own and said.get("scope") == CLOUD and "sub" not in said
        fits = {
            "key": header.get("kid") == "key-1" and header.get("typ") == "JWT",
            "issuer": own or said.get("iss") == ACCOUNT,
            "subject": said.get("sub") == (None if own else self.admin),
            "scope": self._cloud or sorted(str(said.get("scope")).split(" ")) == sorted(SCOPES),
            "times": now - 30 <= said.get("iat", 0) <= now + 5 and 0 < said["exp"] - said["iat"] <= 3610,
        }
        return ", ".join(name for name, good in fits.items() if not good)

    def _groups(self, asked: Mapping[str, str]) -> tuple[int, Any]:
        """Two at a time, as Google gives 200."""
        who, at = asked.get("userKey", ""), int(asked.get("pageToken") or 0)
        if who not in self.groups:
            return 404, {"error": {"code": 404, "message": "Resource Not Found: userKey"}}
        wanted = asked.get("domain")
        found = [each for each in self.groups[who] if not wanted or str(each).endswith(f"@{wanted}")]
        page: dict[str, Any] = {"groups": [{"email": each} for each in found[at : at + _PAGE]]}
        if at + _PAGE < len(found):
            page["nextPageToken"] = str(at + _PAGE)
        return 200, page

    def _user(self, who: str, asked: Mapping[str, str]) -> tuple[int, Any]:
        if who not in self.schemas:
            return 404, {"error": {"code": 404, "message": "Resource Not Found: userKey"}}
        mask = asked.get("customFieldMask", "").split(",")
        shown = asked.get("projection") == "custom"
        kept = {name: fields for name, fields in self.schemas[who].items() if shown and name in mask}
        return 200, {"customSchemas": kept}


class Tunnel:
    """An HTTP proxy whose every CONNECT ends at one port of this machine, whatever was asked for."""

    def __init__(self, port: int) -> None:
        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while self.rfile.readline().strip():
                    pass
                with socket.create_connection(("127.0.0.1", port)) as far:
                    self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
                    back = threading.Thread(target=_pour, args=(far, self.connection), daemon=True)
                    back.start()
                    _pour(self.connection, far)
                    back.join(10)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No more connections."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


def _pour(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return
