"""What ties a form to the browser that was shown it: a cookie, and a MAC over it and all that the form will do."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Final

from kms.clock import Clock
from kms.http.signin.request import BadRequestError, Place
from kms.sensitive import ACCESS, Sensitive

SECONDS: Final = 600
_COOKIE: Final = re.compile(r"[A-Za-z0-9_-]{43}\Z")
_FORM: Final = "keystead-sign-in"


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of one browser, on its way to one provider.

    Args:
        place: the provider.
        wanted: the parameters of the authorization request.
        headers: of the browser's request.
        peer: its address.
        secure: whether it came by TLS.
    """

    place: Place
    wanted: dict[str, str]
    headers: Mapping[bytes, bytes]
    peer: str
    secure: bool


class Proofs:
    """Makes and checks them. One per worker, safe to use from several threads.

    Args:
        key: the same in all workers. Raises KmsError while the server is sealed.
    """

    def __init__(self, key: Callable[[], Sensitive], clock: Clock) -> None:
        self._key = key
        self._clock = clock

    def made(self, visit: Visit, *also: str) -> tuple[str, tuple[str, str]]:
        """(the proof for a form, the cookie that goes with it). `also`: what else the form will say."""
        cookie, now = secrets.token_urlsafe(32), int(self._clock.now())
        proof = f"{now}.{self._form(cookie, now, visit, also)}"
        # A new one for each form: what somebody else put there is worth nothing.
        return proof, set_cookie(_FORM, cookie, "Strict", SECONDS, secure=visit.secure)

    def check(self, visit: Visit, proof: str, *also: str) -> None:
        """Raises BadRequestError unless this browser was shown the form for this very request, not long ago."""
        old = BadRequestError("The form was shown too long ago, or by another page.")
        at, _, mac = proof.partition(".")
        cookie = cookie_of(visit.headers.get(b"cookie", b""), _FORM, secure=visit.secure)
        if not re.fullmatch(r"[0-9]{1,12}", at) or not _COOKIE.match(cookie):
            raise old
        if not 0 <= self._clock.now() - int(at) <= SECONDS:
            raise old
        if not hmac.compare_digest(
            self._form(cookie, int(at), visit, also).encode(), mac.encode("utf-8", "replace")
        ):
            raise old

    def _form(self, cookie: str, at: int, visit: Visit, also: tuple[str, ...]) -> str:
        return self.mac([cookie, visit.place.path, at, sorted(visit.wanted.items()), *also])

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._clock.now()

    def mac(self, said: list[object]) -> str:
        """Of what a browser carries for us."""
        return hmac.new(self._key().reveal(ACCESS), json.dumps(said).encode(), hashlib.sha256).hexdigest()


def forgotten(*, secure: bool) -> tuple[str, str]:
    """The header after which the browser has no cookie of a form."""
    return set_cookie(_FORM, "", "Strict", 0, secure=secure)


def set_cookie(name: str, value: str, site: str, seconds: int, *, secure: bool) -> tuple[str, str]:
    """The header of a cookie; `site` is its SameSite."""
    text = f"{_named(name, secure=secure)}={value}; Path=/; HttpOnly; SameSite={site}; Max-Age={seconds}"
    return "Set-Cookie", text + ("; Secure" if secure else "")


def _named(name: str, *, secure: bool) -> str:
    # The prefix keeps sub-domains from setting it (RFC 6265bis 4.1.3.2); browsers want TLS for it.
    return f"__Host-{name}" if secure else name


def cookie_of(header: bytes, name: str, *, secure: bool) -> str:
    """A cookie of the header, "" for none."""
    try:
        found = SimpleCookie(header.decode("latin-1")).get(_named(name, secure=secure))
    except CookieError:
        return ""
    return found.value if found is not None else ""
