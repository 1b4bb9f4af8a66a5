"""GET shows the form; POST signs in, asks for the code, gives the sign-in's token back, and sends the browser on.

Where a login lacks a second factor, a second form asks for its code; nothing is kept here meanwhile: the login waits where
logins wait, and the form names it. A form counts only from a browser that was shown it: its proof is a MAC over the cookie
of that browser, the provider, the time and all that the form will do, so neither a page elsewhere nor a form for another
request can post it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import urlencode, urlsplit

from kms.clock import Clock
from kms.errors import KmsError
from kms.http.signin.markup import METHODS, page, protecting
from kms.http.signin.proofs import Proofs, Visit, forgotten
from kms.http.signin.request import (
    BadRequestError,
    Headers,
    Typed,
    asked,
    bare_provider,
    codes,
    destination,
    factors,
    fields,
    provider_of,
    typed,
)
from kms.http.signin.steps import Steps, VaultDoor, Waiting, document
from kms.http.signin.trips import Trips, callback_mount, ended
from kms.http.vault.route import Rendered
from kms.sensitive import Sensitive

_FORM: Final = b"application/x-www-form-urlencoded"
_FAILED: Final = "That did not work. Check what you typed, and that you may sign in here."
_WRONG: Final = (
    "That is not the code, or it was used already, or there were too many tries. Wait for the next one."
)
_OVER: Final = "That took too long. Sign in again."
_EMPTY: Final = Typed("userpass", "", "", "", "")
_REFUSED: Final = {
    "access_denied": "You may not sign in to this service with this account.",
    "invalid_client_id": "The service that sent you here is not known.",
    "invalid_redirect_uri": "The service that sent you here may not send you back to that address.",
    "unauthorized_client": "The service that sent you here may not use this provider.",
    "max_age_violation": "The service wants you to sign in anew: use your password instead of a token.",
}


class SignIn:
    """One per worker, safe to use from several threads.

    Args:
        door: where every step goes.
        key: of the proofs; the same in all workers. Raises KmsError while the server is sealed.
    """

    def __init__(self, door: VaultDoor, key: Callable[[], Sensitive], clock: Clock) -> None:
        self._steps = Steps(door)
        self._proofs = Proofs(key, clock)
        self._trips = Trips(self._proofs)

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
        if place is None and method == "GET" and callback_mount(raw_path):
            return self._back(raw_path, query, headers, peer, secure=secure)
        if place is None or method not in {"GET", "HEAD", "POST"}:
            return _stop(404, "There is no such page.")
        try:
            found = fields(_body(dict(headers), body) if method == "POST" else query)
            visit = Visit(place, asked(found), dict(headers), peer, secure)
            return self._post(visit, found) if method == "POST" else self._form(visit, _EMPTY)
        except BadRequestError as error:
            return _stop(400, str(error))
        except KmsError:
            return _stop(503, "The server cannot answer now. Try again later.")

    # -- another provider ----------------------------------------------------------------------------------

    def _away(self, visit: Visit, filled: Typed) -> Rendered:
        """A page that leads there: what a form may be sent on to, the policy of the form would have to know before."""
        trip = self._steps.upstream(visit, filled)
        if trip is None:
            return self._failed(visit, filled)
        cookie = self._trips.kept(visit, trip)
        values = {"url": trip.url, "host": urlsplit(trip.url).netloc}
        shown = page("onward", 200, "Sign in elsewhere", values)
        shown.headers = (*shown.headers, cookie, forgotten(secure=visit.secure))
        return shown

    def _back(self, raw_path: bytes, query: bytes, headers: Headers, peer: str, *, secure: bool) -> Rendered:
        """The answer of another provider, brought by the browser."""
        try:
            answer = fields(query)
            mount, state = callback_mount(raw_path), answer.get("state", "")
            visit, trip = self._trips.found(headers, peer, mount, state, secure=secure)
            filled = Typed("oidc", trip.mount, "", "", "")
            shown = self._went(visit, filled, self._steps.answered(visit, trip, answer))
        except BadRequestError as error:
            return _stop(400, str(error))  # the cookie stays: a stranger's answer must not end a trip
        except KmsError:
            return _stop(503, "The server cannot answer now. Try again later.")
        shown.headers = (*shown.headers, ended(secure=secure))
        return shown

    # -- the forms -----------------------------------------------------------------------------------------

    def _form(self, visit: Visit, filled: Typed, said: str = "") -> Rendered:
        scopes = [scope for scope in visit.wanted.get("scope", "").split() if scope != "openid"]
        proof, cookie = self._proofs.made(visit)
        values = {
            "scope": ", ".join(["who you are", *scopes]),
            "proof": proof,
            "methods": METHODS,
            "method": filled.method,
            "mount": filled.mount,
            "username": filled.username,
        }
        return _shown("form", visit, values, said, cookie)

    def _second_form(self, visit: Visit, waiting: Waiting, said: str = "") -> Rendered:
        named = json.dumps(waiting.factors)
        proof, cookie = self._proofs.made(visit, waiting.request_id, named)
        values = {
            "proof": proof,
            "waiting": waiting.request_id,
            "named": named,
            "factors": [name for _, name in waiting.factors],
        }
        return _shown("second", visit, values, said, cookie)

    # -- what they send ------------------------------------------------------------------------------------

    def _post(self, visit: Visit, found: dict[str, str]) -> Rendered:
        if found.get("waiting"):
            return self._second(visit, found)
        filled = typed(found)
        self._proofs.check(visit, filled.proof)
        if filled.method == "oidc":
            return self._away(visit, filled)
        if filled.method == "token":
            return (
                self._sent_on(visit, filled, filled.secret) if filled.secret else self._failed(visit, filled)
            )
        return self._went(visit, filled, self._steps.login(visit, filled))

    def _second(self, visit: Visit, found: dict[str, str]) -> Rendered:
        named = found.get("named", "")
        self._proofs.check(visit, found.get("proof", ""), found["waiting"], named)
        waiting = Waiting(found["waiting"], factors(named))
        token = self._steps.second(visit, waiting.request_id, codes(found, waiting.factors))
        if token is None:
            return self._form(visit, _EMPTY, _OVER)
        return self._signed_in(visit, _EMPTY, token) if token else self._second_form(visit, waiting, _WRONG)

    def _went(self, visit: Visit, filled: Typed, outcome: str | Waiting) -> Rendered:
        """On from a first factor."""
        if isinstance(outcome, Waiting):
            return self._second_form(visit, outcome)
        return self._signed_in(visit, filled, outcome) if outcome else self._failed(visit, filled)

    def _signed_in(self, visit: Visit, filled: Typed, token: str) -> Rendered:
        """The code for a token that is of this sign-in alone, and ends with it."""
        try:
            return self._sent_on(visit, filled, token)
        finally:
            self._steps.give_back(visit, token)

    def _sent_on(self, visit: Visit, filled: Typed, token: str) -> Rendered:
        answer = self._steps.authorize(visit, token)
        said, wanted = document(answer), visit.wanted
        if answer.status == HTTPStatus.OK and isinstance(said.get("code"), str):
            back = {"code": str(said["code"])} | ({"state": wanted["state"]} if wanted.get("state") else {})
            uri = wanted["redirect_uri"]
            uri += ("&" if urlsplit(uri).query else "?") + urlencode(back)
            gone = forgotten(secure=visit.secure)
            none = protecting("default-src 'none'; frame-ancestors 'none'")
            return Rendered(303, b"", "text/html; charset=utf-8", (("Location", uri), gone, *none))
        if answer.status in {401, 403} and "error" not in said:
            return self._failed(visit, filled)
        known = _REFUSED.get(str(said.get("error")))
        return _stop(400, known or "The service that sent you here asked for something that is not possible.")

    def _failed(self, visit: Visit, filled: Typed) -> Rendered:
        return self._form(visit, filled, _FAILED)


def _body(headers: dict[bytes, bytes], body: bytes) -> bytes:
    if headers.get(b"content-type", b"").split(b";")[0].strip().lower() != _FORM:
        raise BadRequestError("The request cannot be read.")
    return body


def _shown(
    name: str, visit: Visit, values: Mapping[str, object], said: str, cookie: tuple[str, str]
) -> Rendered:
    """A form, which may end up here and where the client wants the browser back."""
    target = destination(visit.wanted["redirect_uri"])
    values = {
        **values,
        "client": visit.wanted["client_id"],
        "destination": urlsplit(visit.wanted["redirect_uri"]).netloc or target,
        "asked": visit.wanted,
        "said": said,
    }
    shown = page(name, 400 if said else 200, "Sign in", values, target)
    shown.headers = (*shown.headers, cookie)
    return shown


def _stop(status: int, said: str) -> Rendered:
    return page("stop", status, "Sign in", {"said": said})
