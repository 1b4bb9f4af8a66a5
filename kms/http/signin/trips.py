"""To another provider and back: what a browser carries meanwhile, so that nobody else's answer counts here.

A cookie, of ten minutes, holds the authorization request, the mount, the hash of the state that went to the provider, and
the client nonce of that login, under a MAC. It comes back with the provider's answer, which is a navigation from another
site, so it is Lax; who would make somebody's browser bring an answer of his own lacks the state in that browser's cookie. The
login itself, with PKCE and nonce, is the method's: its state is answered once, whichever worker is asked how often.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
import secrets
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from kms.http.signin.proofs import SECONDS, Proofs, Visit, cookie_of, set_cookie
from kms.http.signin.request import BadRequestError, Headers, Place, asked, destination

_NAME: Final = "keystead-upstream"
MAX_COOKIE: Final = 3900  # browsers keep 4096 bytes, name and attributes included
_CALLBACK: Final = re.compile(
    rb"/ui/vault/auth/([A-Za-z0-9_-]{1,64}(?:/[A-Za-z0-9_-]{1,64}){0,4})/oidc/callback\Z"
)
_OVER: Final = "The sign-in that this belongs to is over, or began in another browser."


@dataclass(frozen=True, slots=True)
class Trip:
    """A login at another provider that has begun.

    Args:
        url: where the browser goes.
        state: that comes back.
        mount: of the method.
        nonce: that this server shows with the answer.
    """

    url: str
    state: str
    mount: str
    nonce: str


def new_nonce() -> str:
    """256 random bits."""
    return secrets.token_urlsafe(32)


def callback_mount(raw_path: bytes) -> str:
    """The mount whose answers come to a path, "" for none."""
    match = _CALLBACK.match(raw_path)
    return match[1].decode("ascii") if match else ""


def callback_uri(base: str, mount: str, namespace: str) -> str:
    """Where a provider sends the browser back to; as the peer's own page has it, so roles need list it once."""
    uri = f"{base}/ui/vault/auth/{mount}/oidc/callback"
    return f"{uri}?namespace={namespace.rstrip('/')}" if namespace else uri


def begun(url: str, redirect: str, mount: str, nonce: str) -> Trip:
    """The trip to a provider's page. Raises BadRequestError unless the answer would come back here."""
    query = parse_qs(urlsplit(url).query)
    state, back = (query.get(name, [""])[0] for name in ("state", "redirect_uri"))
    here = redirect.partition("?")[0]
    if not state or back.partition("?")[0] != here or "response_mode" in query:
        raise BadRequestError("This way to sign in does not come back to this page.")
    if not destination(url).startswith(("https://", "http://")):
        raise BadRequestError("That provider has no page.")
    return Trip(url, state.partition(",ns=")[0], mount, nonce)


class Trips:
    """One per worker, safe to use from several threads."""

    def __init__(self, proofs: Proofs) -> None:
        self._proofs = proofs

    def kept(self, visit: Visit, trip: Trip) -> tuple[str, str]:
        """The cookie. Raises BadRequestError where the request is too long for one."""
        place = visit.place
        said = [int(self._proofs.now()), place.namespace, place.provider, visit.wanted, trip.mount,
                sha256(trip.state.encode()).hexdigest(), trip.nonce]  # fmt: skip
        text = base64.urlsafe_b64encode(json.dumps(said, separators=(",", ":")).encode()).decode()
        value = f"{text}.{self._proofs.mac(['trip', text])}"
        if len(value) > MAX_COOKIE:
            raise BadRequestError("The service's request is too long for this way to sign in.")
        return set_cookie(_NAME, value, "Lax", SECONDS, secure=visit.secure)

    def found(
        self, headers: Headers, peer: str, mount: str, state: str, *, secure: bool
    ) -> tuple[Visit, Trip]:
        """The visit that an answer belongs to. Raises BadRequestError unless this browser began it, not long ago."""
        held = dict(headers)
        text, _, mac = cookie_of(held.get(b"cookie", b""), _NAME, secure=secure).partition(".")
        if not text or not hmac.compare_digest(self._proofs.mac(["trip", text]).encode(), mac.encode()):
            raise BadRequestError(_OVER)
        at, namespace, provider, wanted, of, digest, nonce = _read(text)
        bare = state.partition(",ns=")[0]
        if not 0 <= self._proofs.now() - at <= SECONDS or of != mount:
            raise BadRequestError(_OVER)
        if not hmac.compare_digest(sha256(bare.encode()).hexdigest(), digest):
            raise BadRequestError(_OVER)
        visit = Visit(Place(namespace, provider), asked(wanted), held, peer, secure)
        return visit, Trip("", bare, mount, nonce)


def ended(*, secure: bool) -> tuple[str, str]:
    """The header after which the browser carries nothing."""
    return set_cookie(_NAME, "", "Lax", 0, secure=secure)


def _read(text: str) -> Any:
    """What is under a MAC of ours, and so is well-formed."""
    return json.loads(base64.urlsafe_b64decode(text))
