"""The steps of a sign-in, each a call of the Vault door: with its limits, lockouts, policy and records."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Protocol
from urllib.parse import quote, urlencode

from kms.http.signin.proofs import Visit
from kms.http.signin.request import Headers, Typed
from kms.http.signin.trips import Trip, begun, callback_uri, new_nonce
from kms.http.vault.route import Rendered

MAX_FACTORS: Final = 8
_DISCOVERY: Final = "/.well-known/openid-configuration"


class VaultDoor(Protocol):
    """The one road, as a client sees it."""

    def handle(
        self, method: str, raw_path: bytes, query: bytes, headers: Headers, body: bytes, peer: str
    ) -> Rendered: ...


@dataclass(frozen=True, slots=True)
class Waiting:
    """A login that lacks a second factor.

    Args:
        request_id: by which it goes on, once.
        factors: (ID, what it is called) of each method that may be shown.
    """

    request_id: str
    factors: tuple[tuple[str, str], ...]


class Steps:
    """One per worker, safe to use from several threads. Nothing of an error gets further than its status."""

    def __init__(self, door: VaultDoor) -> None:
        self._door = door

    def login(self, visit: Visit, filled: Typed) -> str | Waiting:
        """A token of the person's, or what it waits for; "" whatever was wrong."""
        if not filled.username:
            return ""
        path = f"auth/{filled.mount}/login/{quote(filled.username, safe='')}"
        return _proved(self._post(visit, path, {"password": filled.secret}))

    def upstream(self, visit: Visit, filled: Typed) -> Trip | None:
        """Begin a login at another provider; None where that is not possible. Raises BadRequestError."""
        known = document(self._get(visit, visit.place.path.removesuffix("/authorize") + _DISCOVERY, {}))
        base = str(known.get("authorization_endpoint") or "").partition("/v1/")[0]
        if not base:
            return None
        redirect, nonce = callback_uri(base, filled.mount, visit.place.namespace), new_nonce()
        body = {"role": filled.username, "redirect_uri": redirect, "client_nonce": nonce}
        found = document(self._post(visit, f"auth/{filled.mount}/oidc/auth_url", body)).get("data")
        url = found.get("auth_url") if isinstance(found, dict) else None
        return begun(url, redirect, filled.mount, nonce) if isinstance(url, str) and url else None

    def answered(self, visit: Visit, trip: Trip, answer: Mapping[str, str]) -> str | Waiting:
        """As `login`, for what the other provider answered."""
        query = {"state": trip.state, "client_nonce": trip.nonce}
        query |= {name: answer[name] for name in ("code", "error") if name in answer}
        return _proved(self._get(visit, f"{visit.place.namespace}auth/{trip.mount}/oidc/callback", query))

    def second(self, visit: Visit, request_id: str, codes: Mapping[str, str]) -> str | None:
        """The token of a login that waited; "" where the codes do not do, None where it waits no more."""
        payload = {method: [code] for method, code in codes.items()}
        body = {"mfa_request_id": request_id, "mfa_payload": payload}
        answer = self._post(visit, "sys/mfa/validate", body)
        if answer.status == HTTPStatus.BAD_REQUEST:
            return None
        found = _proved(answer)
        return found if isinstance(found, str) else None

    def authorize(self, visit: Visit, token: str) -> Rendered:
        """The provider's answer to the authorization request, for whoever has the token."""
        return self._call(visit, visit.place.path, visit.wanted, token)

    def give_back(self, visit: Visit, token: str) -> None:
        """End the token of a sign-in, where it was issued: one of a namespace is none above."""
        self._post(visit, "auth/token/revoke-self", {}, token)

    def _get(self, visit: Visit, path: str, query: Mapping[str, str]) -> Rendered:
        return self._door.handle(
            "GET", f"/v1/{path}".encode(), urlencode(query).encode(), [], b"", visit.peer
        )

    def _post(self, visit: Visit, path: str, body: Mapping[str, Any], token: str = "") -> Rendered:
        return self._call(visit, f"{visit.place.namespace}{path}", body, token)

    def _call(self, visit: Visit, path: str, body: Mapping[str, Any], token: str) -> Rendered:
        headers = [(b"content-type", b"application/json")]
        if token:
            headers.append((b"x-vault-token", token.encode("utf-8", "replace")))
        sent = json.dumps(dict(body)).encode()
        return self._door.handle("POST", f"/v1/{path}".encode(), b"", headers, sent, visit.peer)


def document(answer: Rendered) -> dict[str, Any]:
    """The answer's JSON; empty where it has none."""
    try:
        found = json.loads(answer.body or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _proved(answer: Rendered) -> str | Waiting:
    auth = document(answer).get("auth")
    if not isinstance(auth, dict) or answer.status != HTTPStatus.OK:
        return ""
    asked = auth.get("mfa_requirement")
    if not isinstance(asked, dict):
        return str(auth.get("client_token") or "")
    factors: dict[str, str] = {}
    for each in asked["mfa_constraints"].values():
        factors |= {one["id"]: one["name"] or one["type"] for one in each["any"]}
    return Waiting(asked["mfa_request_id"], tuple(factors.items())[:MAX_FACTORS])
