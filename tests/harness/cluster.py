"""An API server of Kubernetes, as far as logins need it: it signs tokens of service accounts and reviews them for real.

A review verifies signature, expiry and audience, and that account, pod and token are still there, as the
TokenReview of kube-apiserver does; who asks must be a service account that may ask, or the token itself.
"""

from __future__ import annotations

import json
import secrets
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from tests.harness.https import Https

DEFAULT = "https://kubernetes.default.svc.cluster.local"
ISSUER = "https://cluster.example.test"


class Cluster:
    """Serves until `stop`. Accounts are (namespace, name) -> uid; take one away to delete it."""

    def __init__(self, folder: Path) -> None:
        self.key = rsa.generate_private_key(65537, 2048)
        self.accounts: dict[tuple[str, str], str] = {}
        self.labels: dict[str, dict[str, str]] = {}
        self.gone: set[str] = set()
        self.reviewers: set[str] = set()
        self.answer: tuple[int, Any] | None = None
        self.reviews = 0
        self.asked: list[tuple[str, str]] = []
        self.closed = False  # whether strangers may not have its keys
        self._https = Https(folder, self._handle)
        self.url, self.ca = self._https.url, self._https.ca
        self.stop = self._https.stop

    def account(self, namespace: str, name: str) -> str:
        """A new service account; its uid."""
        uid = self.accounts[(namespace, name)] = str(uuid.uuid4())
        self.labels.setdefault(namespace, {"kubernetes.io/metadata.name": namespace})
        return uid

    def token(
        self,
        namespace: str,
        name: str,
        *,
        audiences: list[str] | None = None,
        key: rsa.RSAPrivateKey | None = None,
        uid: str = "",
        **claims: Any,
    ) -> str:
        """A projected token of ten minutes, as the TokenRequest API gives one."""
        now = int(time.time())
        uid = uid or self.accounts.get((namespace, name), "none")
        body = {
            "aud": audiences or [DEFAULT],
            "exp": now + 600,
            "iat": now,
            "nbf": now,
            "iss": self.url,
            "jti": secrets.token_hex(8),
            "kubernetes.io": {
                "namespace": namespace,
                "pod": {"name": f"{name}-0", "uid": str(uuid.uuid4())},
                "serviceaccount": {"name": name, "uid": uid},
            },
            "sub": f"system:serviceaccount:{namespace}:{name}",
            **claims,
        }
        return jwt.encode(body, key or self.key, "RS256", {"kid": "cluster"})

    def reviewer(self) -> str:
        """A token that may review others (system:auth-delegator)."""
        if ("kube-system", "reviewer") not in self.accounts:
            self.account("kube-system", "reviewer")
        self.reviewers.add("system:serviceaccount:kube-system:reviewer")
        return self.token("kube-system", "reviewer")

    @property
    def pem(self) -> str:
        """The public key in PEM."""
        public = self.key.public_key()
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def _handle(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Any]:
        self.asked.append((path, (headers.get("Authorization") or "").removeprefix("Bearer ")))
        if (method, path) == ("GET", "/openid/v1/jwks") and (not self.closed or self._bearer(headers)):
            entry = json.loads(RSAAlgorithm.to_jwk(self.key.public_key()))
            return 200, {"keys": [{**entry, "kid": "cluster", "use": "sig", "alg": "RS256"}]}
        who = self._bearer(headers)
        if who is None:
            return 401, _status(401, "Unauthorized")
        if (method, path) == ("GET", "/.well-known/openid-configuration"):
            return self.answer or (200, {"issuer": ISSUER, "jwks_uri": f"{self.url}/openid/v1/jwks"})
        if path.startswith("/api/v1/namespaces/") and method == "GET":
            return self._namespace(path.rpartition("/")[2], who)
        if (method, path) == ("POST", "/apis/authentication.k8s.io/v1/tokenreviews"):
            self.reviews += 1
            return self.answer or self._review(json.loads(body), who, headers)
        return 404, _status(404, "NotFound")

    def _bearer(self, headers: Mapping[str, str]) -> dict[str, Any] | None:
        token = (headers.get("Authorization") or "").removeprefix("Bearer ")
        found, _ = self._judge(token, [])
        return found

    def _namespace(self, name: str, who: dict[str, Any]) -> tuple[int, Any]:
        if who["username"] not in self.reviewers:
            return 403, _status(403, "Forbidden")
        if name not in self.labels:
            return 404, _status(404, "NotFound")
        metadata = {"name": name, "labels": self.labels[name]}
        return 200, {"kind": "Namespace", "apiVersion": "v1", "metadata": metadata}

    def _review(
        self, asked: dict[str, Any], who: dict[str, Any], headers: Mapping[str, str]
    ) -> tuple[int, Any]:
        spec = asked["spec"]
        itself = headers.get("Authorization") == f"Bearer {spec['token']}"
        if who["username"] not in self.reviewers and not itself:
            return 403, _status(403, "Forbidden")
        user, told = self._judge(spec["token"], spec.get("audiences") or [])
        status = (
            {"authenticated": True, "user": user, "audiences": told} if user else {"user": {}, "error": told}
        )
        return 201, {**asked, "status": status}

    def _judge(self, token: str, audiences: list[str]) -> tuple[dict[str, Any] | None, Any]:
        """(user, audiences), or (None, why not)."""
        try:
            claims = jwt.decode(
                token, self.key.public_key(), ["RS256"], options={"verify_aud": False, "require": ["exp"]}
            )
        except jwt.PyJWTError as error:
            return None, f"[invalid bearer token, {error}]"
        common = [one for one in audiences or [DEFAULT] if one in claims["aud"]]
        if not common and (audiences or DEFAULT not in claims["aud"]):
            # An API server without the audience in its own list takes tokens for itself only; tests that have the
            # token speak for itself put the default beside their own.
            return None, "[invalid bearer token, token audiences do not match]"
        inner = claims["kubernetes.io"]
        name = (inner["namespace"], inner["serviceaccount"]["name"])
        if self.accounts.get(name) != inner["serviceaccount"]["uid"] or claims["jti"] in self.gone:
            return None, "[invalid bearer token, service account token has been invalidated]"
        username = f"system:serviceaccount:{name[0]}:{name[1]}"
        return {"username": username, "uid": inner["serviceaccount"]["uid"], "groups": []}, common


def _status(code: int, reason: str) -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code}
