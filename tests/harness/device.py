"""A provider with the device flow (RFC 8628), made of authlib's server: its endpoint, its grant, its client check."""

from __future__ import annotations

import json
import secrets
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import jwt
from authlib.integrations.flask_oauth2.authorization_server import AuthorizationServer
from authlib.oauth2.rfc6749 import ClientMixin
from authlib.oauth2.rfc8628 import DeviceAuthorizationEndpoint, DeviceCodeGrant, DeviceCredentialDict
from cryptography.hazmat.primitives.asymmetric import rsa
from flask import Flask, jsonify
from werkzeug.serving import make_server

CLIENT, SECRET = "device-client", "device-secret"


class _Client(ClientMixin):
    def get_client_id(self) -> str:
        return CLIENT

    def get_default_redirect_uri(self) -> str:
        return ""

    def get_allowed_scope(self, scope: str) -> str:
        return scope

    def check_client_secret(self, client_secret: str) -> bool:
        return secrets.compare_digest(client_secret, SECRET)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method in {"client_secret_basic", "client_secret_post", "none"} and bool(endpoint)

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == DeviceCodeGrant.GRANT_TYPE

    def check_response_type(self, response_type: str) -> bool:
        return not response_type


@dataclass
class Book:
    """What the provider remembers; a test says who agreed."""

    codes: dict[str, dict[str, Any]] = field(default_factory=dict)
    agreed: dict[str, bool] = field(default_factory=dict)
    slow: bool = False
    claims: dict[str, Any] = field(default_factory=dict)
    complete: bool = True


class DeviceProvider:
    """Runs in a thread of this process. `book` is what a test changes."""

    def __init__(self) -> None:
        self.book = Book()
        self.key = rsa.generate_private_key(65537, 2048)
        self.stray = rsa.generate_private_key(65537, 2048)
        self.signing = self.key
        self._server = make_server("127.0.0.1", 0, self._app(), threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def id_token(self) -> str:
        now = int(time.time())
        said = {
            "iss": self.url,
            "aud": CLIENT,
            "sub": "ann",
            "iat": now,
            "exp": now + 300,
            **self.book.claims,
        }
        kept = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(kept, self.signing, "RS256", {"kid": "one"})

    def _app(self) -> Flask:
        app, provider = Flask("device"), self
        server: Any = AuthorizationServer(app, query_client=lambda name: _Client() if name == CLIENT else None,
                                     save_token=lambda _token, _request: None)  # fmt: skip

        class Endpoint(DeviceAuthorizationEndpoint):
            INTERVAL = 1

            def get_verification_uri(self) -> str:
                return f"{provider.url}/device"

            def save_device_credential(self, client_id: str, scope: str, data: dict[str, Any]) -> None:
                made = {**data, "client_id": client_id, "scope": scope, "expires_at": time.time() + 600}
                provider.book.codes[data["device_code"]] = made

        class Grant(DeviceCodeGrant):
            TOKEN_ENDPOINT_AUTH_METHODS = ["client_secret_basic", "client_secret_post"]  # noqa: RUF012  (authlib's)

            def query_device_credential(self, device_code: str) -> Any:
                found = provider.book.codes.get(device_code)
                return DeviceCredentialDict(found) if found else None

            def query_user_grant(self, user_code: str) -> tuple[str, bool] | None:
                agreed = provider.book.agreed.get(user_code)
                return None if agreed is None else ("ann", agreed)

            def should_slow_down(self, credential: Any) -> bool:
                return bool(credential) and provider.book.slow

        server.register_grant(Grant)
        server.register_endpoint(Endpoint)

        _pages(provider, app, server, Endpoint.ENDPOINT_NAME)
        return app


def _pages(provider: DeviceProvider, app: Flask, server: Any, endpoint: str) -> None:
    @app.get("/.well-known/openid-configuration")
    def discovery() -> Any:
        names = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "jwks"}
        names["device_authorization_endpoint"] = "device_authorization"
        made = {name: f"{provider.url}/{path}" for name, path in names.items()}
        return jsonify({"issuer": provider.url, **made, "id_token_signing_alg_values_supported": ["RS256"],
                        "response_types_supported": ["code"], "subject_types_supported": ["public"]})  # fmt: skip

    @app.get("/jwks")
    def jwks() -> Any:
        made = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(provider.key.public_key()))
        return jsonify({"keys": [{**made, "kid": "one", "use": "sig", "alg": "RS256"}]})

    @app.post("/device_authorization")
    def begin() -> Any:
        answer = server.create_endpoint_response(endpoint)
        if not provider.book.complete and answer.status_code == 200:
            said = answer.get_json()
            del said["verification_uri_complete"]
            return jsonify(said)
        return answer

    @app.post("/token")
    def token() -> Any:
        answer = server.create_token_response()
        if answer.status_code != 200:
            return answer
        said = {
            **answer.get_json(),
            "id_token": provider.id_token(),
            "refresh_token": "the-refresh-token",
        }
        return jsonify(said)
