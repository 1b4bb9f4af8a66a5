"""GET shows the form; POST signs in, asks for the code, gives the sign-in's token back, and sends the browser on.

A form counts only from a browser that was shown it: its proof is a MAC over the cookie of that browser, the provider, the
time and every parameter of the request, so neither a page elsewhere nor a form for another request can post it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Callable, Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Final, Protocol
from urllib.parse import quote, urlencode, urlsplit

from kms.clock import Clock
from kms.errors import KmsError
from kms.http.signin.markup import METHODS, page, protecting
from kms.http.signin.request import (
    BadRequestError,
    Headers,
    Place,
    Typed,
    asked,
    bare_provider,
    destination,
    fields,
    provider_of,
    typed,
)
from kms.http.vault.route import Rendered
from kms.sensitive import ACCESS, Sensitive

SECONDS: Final = 600
_FORM: Final = b"application/x-www-form-urlencoded"
_COOKIE: Final = re.compile(r"[A-Za-z0-9_-]{43}\Z")
_FAILED: Final = "That did not work. Check what you typed, and that you may sign in here."
_REFUSED: Final = {
    "access_denied": "You may not sign in to this service with this account.",
    "invalid_client_id": "The service that sent you here is not known.",
    "invalid_redirect_uri": "The service that sent you here may not send you back to that address.",
    "unauthorized_client": "The service that sent you here may not use this provider.",
    "max_age_violation": "The service wants you to sign in anew: use your password instead of a token.",
}


class VaultDoor(Protocol):
    """The one road, as a client sees it."""

    def handle(
        self, method: str, raw_path: bytes, query: bytes, headers: Headers, body: bytes, peer: str
    ) -> Rendered: ...


class SignIn:
    """One per worker, safe to use from several threads.

    Args:
        door: where every step goes.
        key: of the proofs; the same in all workers. Raises KmsError while the server is sealed.
    """

    def __init__(self, door: VaultDoor, key: Callable[[], Sensitive], clock: Clock) -> None:
        self._door = door
        self._key = key
        self._clock = clock

    @staticmethod
    def concerns(method: str, raw_path: bytes, headers: Headers) -> bool:
        """Whether a request is for this door."""
        return raw_path.startswith(b"/ui/") or bare_provider(method, raw_path, headers) is not None

    def handle(
        self,
        method: str,
        raw_path: bytes,
        query: bytes,
        headers: list[tuple[bytes, bytes]],
        body: bytes,
        peer: str,
        *,
        secure: bool,
    ) -> Rendered:
        """The answer; never an error text of anything below."""
        bare = bare_provider(method, raw_path, headers)
        if bare is not None:
            shown = f"/ui/vault/{bare.path}?{query.decode('latin-1')}"
            return Rendered(303, b"", "text/html; charset=utf-8", (("Location", shown),))
        place = provider_of(raw_path)
        if place is None or method not in {"GET", "HEAD", "POST"}:
            return _stop(404, "There is no such page.")
        try:
            if method == "POST":
                return self._post(place, dict(headers), body, peer, secure=secure)
            return self._form(
                place, asked(fields(query)), Typed("userpass", "", "", "", ""), "", secure=secure
            )
        except BadRequestError as error:
            return _stop(400, str(error))
        except KmsError:
            return _stop(503, "The server cannot answer now. Try again later.")

    def _form(
        self, place: Place, wanted: dict[str, str], filled: Typed, said: str, *, secure: bool
    ) -> Rendered:
        cookie, now = secrets.token_urlsafe(32), int(self._clock.now())
        target = destination(wanted["redirect_uri"])
        scopes = [scope for scope in wanted.get("scope", "").split() if scope != "openid"]
        values = {
            "client": wanted["client_id"],
            "destination": urlsplit(wanted["redirect_uri"]).netloc or target,
            "scope": ", ".join(["who you are", *scopes]),
            "said": said,
            "asked": wanted,
            "proof": f"{now}.{self._proof(cookie, place, now, wanted)}",
            "methods": METHODS,
            "method": filled.method,
            "mount": filled.mount,
            "username": filled.username,
        }
        shown = page("form", 400 if said else 200, "Sign in", values, target)
        name = _cookie_name(secure=secure)
        # A new one for each form: what somebody else put there is worth nothing.
        set_cookie = f"{name}={cookie}; Path=/; HttpOnly; SameSite=Strict; Max-Age={SECONDS}"
        shown.headers = (*shown.headers, ("Set-Cookie", set_cookie + ("; Secure" if secure else "")))
        return shown

    def _post(
        self, place: Place, headers: Mapping[bytes, bytes], body: bytes, peer: str, *, secure: bool
    ) -> Rendered:
        if headers.get(b"content-type", b"").split(b";")[0].strip().lower() != _FORM:
            raise BadRequestError("The request cannot be read.")
        found = fields(body)
        wanted, filled = asked(found), typed(found)
        self._check_proof(place, headers, wanted, filled.proof, secure=secure)
        token = filled.secret if filled.method == "token" else self._login(place, filled, peer)
        if not token:
            return self._form(place, wanted, filled, _FAILED, secure=secure)
        try:
            answer = self._call(place.path, wanted, peer, token)
        finally:
            if filled.method != "token":
                self._call("auth/token/revoke-self", {}, peer, token)
        return self._sent_on(place, wanted, filled, answer, secure=secure)

    def _sent_on(
        self, place: Place, wanted: dict[str, str], filled: Typed, answer: Rendered, *, secure: bool
    ) -> Rendered:
        said = _document(answer)
        if answer.status == 200 and isinstance(said.get("code"), str):
            back = {"code": str(said["code"])} | ({"state": wanted["state"]} if wanted.get("state") else {})
            uri = wanted["redirect_uri"]
            uri += ("&" if urlsplit(uri).query else "?") + urlencode(back)
            gone = ("Set-Cookie", f"{_cookie_name(secure=secure)}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0"
                    + ("; Secure" if secure else ""))  # fmt: skip
            none = protecting("default-src 'none'; frame-ancestors 'none'")
            return Rendered(303, b"", "text/html; charset=utf-8", (("Location", uri), gone, *none))
        if answer.status in {401, 403} and "error" not in said:
            return self._form(place, wanted, filled, _FAILED, secure=secure)
        known = _REFUSED.get(str(said.get("error")))
        return _stop(400, known or "The service that sent you here asked for something that is not possible.")

    def _login(self, place: Place, filled: Typed, peer: str) -> str:
        """A token of the person's, or "": whatever was wrong, it reads the same."""
        if not filled.username:
            return ""
        name = quote(filled.username, safe="")
        answer = self._call(
            f"{place.namespace}auth/{filled.mount}/login/{name}", {"password": filled.secret}, peer
        )
        auth = _document(answer).get("auth")
        token = auth.get("client_token") if isinstance(auth, dict) and answer.status == 200 else None
        return str(token or "")

    def _call(self, path: str, body: Mapping[str, str], peer: str, token: str = "") -> Rendered:
        headers = [(b"content-type", b"application/json")]
        if token:
            headers.append((b"x-vault-token", token.encode("utf-8", "replace")))
        return self._door.handle(
            "POST", f"/v1/{path}".encode(), b"", headers, json.dumps(dict(body)).encode(), peer
        )

    def _proof(self, cookie: str, place: Place, at: int, wanted: Mapping[str, str]) -> str:
        text = json.dumps([cookie, place.path, at, sorted(wanted.items())])
        return hmac.new(self._key().reveal(ACCESS), text.encode(), hashlib.sha256).hexdigest()

    def _check_proof(
        self,
        place: Place,
        headers: Mapping[bytes, bytes],
        wanted: Mapping[str, str],
        proof: str,
        *,
        secure: bool,
    ) -> None:
        """Raises BadRequestError unless this browser was shown the form for this very request, not long ago."""
        old = BadRequestError("The form was shown too long ago, or by another page.")
        at, _, mac = proof.partition(".")
        cookie = _cookie(headers.get(b"cookie", b""), _cookie_name(secure=secure))
        if not re.fullmatch(r"[0-9]{1,12}", at) or not _COOKIE.match(cookie):
            raise old
        if not 0 <= self._clock.now() - int(at) <= SECONDS:
            raise old
        expected = self._proof(cookie, place, int(at), wanted)
        if not hmac.compare_digest(expected.encode(), mac.encode("utf-8", "replace")):
            raise old


def _cookie_name(*, secure: bool) -> str:
    # The prefix keeps sub-domains from setting it (RFC 6265bis 4.1.3.2); browsers want TLS for it.
    return "__Host-keystead-sign-in" if secure else "keystead-sign-in"


def _cookie(header: bytes, name: str) -> str:
    try:
        found = SimpleCookie(header.decode("latin-1")).get(name)
    except CookieError:
        return ""
    return found.value if found is not None else ""


def _document(answer: Rendered) -> dict[str, object]:
    try:
        found = json.loads(answer.body or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _stop(status: int, said: str) -> Rendered:
    return page("stop", status, "Sign in", {"said": said})
