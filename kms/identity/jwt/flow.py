"""Login with a browser: the authorization code flow of OpenID Connect, with the attempt in the database.

    auth_url    an attempt: state, nonce, PKCE; where the browser goes
    callback    what came back: the attempt is taken in the commit of the intent, so a state is answered once, whichever
                worker is asked how often; then the provider is asked, and the token is made in the commit of the outcome
    poll        in direct mode the browser calls back here, and the client fetches its token, once

In client mode the token goes to whoever shows state, code and the client's nonce; in direct mode to whoever began.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Mapping
from hashlib import sha256
from hmac import compare_digest
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

from msgspec.structs import replace

from kms.clock import Clock
from kms.errors import ErrorKind, KmsError, invalid
from kms.identity.jwt import claims, pages
from kms.identity.jwt.fields import MAX_POLL
from kms.identity.jwt.method import JwtMethod, proved
from kms.identity.jwt.provider import Provider, Said, failed
from kms.identity.jwt.store import ATTEMPTS, CONFIGS, OPEN, PROVED, TAKEN, Attempt, JwtConfig, JwtRole
from kms.identity.methods.logins import Logins, Proved, elsewhere
from kms.identity.networks import permits
from kms.ids import base62
from kms.operation import Call, Change, External, MountRef, Outcome, Result
from kms.tables import Reader, Row, Store, Transaction

SECONDS: Final = 600.0
MAX_ATTEMPTS: Final = 20_000
DEFAULT_POLL: Final = 5
_SWEPT: Final = 20
MAX_FIELDS: Final = 32
_NO_CODE: Final = "no_code"
_UNKNOWN_ERROR: Final = "The provider reports an error that OAuth does not know."
_WAITING: Final = {"authorization_pending", "slow_down"}
_EXPIRED: Final = "Expired or missing OAuth state."
_LOCAL: Final = {"localhost", "127.0.0.1", "::1"}
_ERRORS: Final = {  # RFC 6749 4.1.2.1; a word that is none of these is not repeated
    "invalid_request",
    "unauthorized_client",
    "access_denied",
    "unsupported_response_type",
    "invalid_scope",
    "server_error",
    "temporarily_unavailable",
}


class BrowserLogins:
    """Handlers. One per process, safe to use from several threads."""

    def __init__(
        self, store: Store, logins: Logins, method: JwtMethod, provider: Provider, clock: Clock
    ) -> None:
        self._store = store
        self._logins = logins
        self._method = method
        self._provider = provider
        self._clock = clock

    # -- the beginning -----------------------------------------------------------------------------------

    def auth_url(self, call: Call) -> Change | Result:
        """Begin. What an unknown redirect URI was wrong about is not told to strangers: the URL is empty then."""
        config = self._config(call.mount)
        if not config.browser:
            raise invalid("OIDC login is not configured for this mount")
        name = str(call.args.get("role") or config.default_role).lower()
        if not name:
            raise invalid("missing role")
        row = self._method.role(self._store.reader(), call.mount, name)
        if row is None:
            raise invalid(f'role "{name}" could not be found')
        role = row.value
        redirect = str(call.args.get("redirect_uri") or "")
        if role.callback_mode in {"direct", "device"} and not call.args.get("client_nonce"):
            raise invalid("missing client_nonce")
        if role.callback_mode == "device":
            return self._device(call, config, name, role)
        if not redirect:
            raise invalid("missing redirect_uri")
        redirect, namespace = namespace_taken(redirect) if config.namespace_in_state else (redirect, "")
        if role.role_type != "oidc" or not redirect_allowed(redirect, role.allowed_redirect_uris):
            return Result(data={"auth_url": ""})
        if config.oidc_response_mode == "form_post":
            redirect = redirect.replace("ui/vault", "v1", 1)
        state, attempt = _new_attempt(call, name, redirect)
        # Only the provider sees it so; whoever gets the answer there cuts it off, and asks that namespace.
        shown = f"{state},ns={namespace}" if namespace else state
        url = self._provider.authorization_url(call.mount.id, config, role, shown, attempt)
        data = {"auth_url": url}
        if role.callback_mode == "direct":
            data |= {"state": state, "poll_interval": str(role.poll_interval or DEFAULT_POLL)}
        return Change(lambda tx: self._begun(tx, state, attempt, data))

    def _device(self, call: Call, config: JwtConfig, name: str, role: JwtRole) -> Change | Result:
        """The person goes to the provider's page with another device; the client polls here, and we there."""
        if role.role_type != "oidc":
            return Result(data={"auth_url": ""})
        begun = self._provider.device(call.mount.id, config, role)
        state, attempt = _new_attempt(call, name, "")
        attempt = replace(attempt, device_code=str(begun["device_code"]))
        interval = begun.get("interval")
        wait = role.poll_interval or (
            interval if isinstance(interval, int) and 0 < interval <= MAX_POLL else 0
        )
        complete = begun.get("verification_uri_complete")
        data = {"auth_url": str(complete or begun["verification_uri"]), "state": state}
        data["poll_interval"] = str(wait or DEFAULT_POLL)
        if not complete:
            data["user_code"] = str(begun["user_code"])
        return Change(lambda tx: self._begun(tx, state, attempt, data))

    def _begun(self, tx: Transaction, state: str, attempt: Attempt, data: dict[str, str]) -> Result:
        now = self._clock.now()
        for old in tx.find(ATTEMPTS, {}, below=("expires_at", now), limit=_SWEPT):
            tx.delete(ATTEMPTS, old)
        if tx.count(ATTEMPTS, {}) >= MAX_ATTEMPTS:
            raise KmsError(ErrorKind.RATE_LIMITED, "too many logins have begun; try again in some minutes")
        tx.insert(ATTEMPTS, _key(state), attempt)
        return Result(data=data, subject={"role": attempt.role})

    # -- the provider's answer ---------------------------------------------------------------------------

    def posted(self, call: Call) -> Change:
        """form_post: the browser brings the answer; kept for the client's own call, which comes next."""
        if self._config(call.mount).oidc_response_mode != "form_post":
            raise KmsError(ErrorKind.UNSUPPORTED, "unsupported operation")
        key = _key(str(call.args.get("state") or ""))
        code, id_token = (str(call.args.get(name) or "") for name in ("code", "id_token"))

        def write(tx: Transaction) -> Result:
            row = self._open(tx, call.mount, key)
            if row.value.code or row.value.id_token:
                raise failed("The provider's answer is here already.")
            tx.replace(ATTEMPTS, row, replace(row.value, code=code, id_token=id_token))
            return pages.received()

        return Change(write)

    def callback(self, call: Call) -> Outcome:
        """The answer, by the client (client mode) or by the browser itself (direct mode)."""
        config = self._config(call.mount, "OpenBao login failed. Could not load configuration")
        key = _key(str(call.args.get("state") or ""))
        attempt = self._open(self._store.reader(), call.mount, key).value
        row = self._method.role(self._store.reader(), call.mount, attempt.role)
        if row is None:
            raise failed("Role could not be found")
        role = row.value
        if attempt.device_code or role.callback_mode == "device":
            raise failed("This login has no callback.")
        direct = role.callback_mode == "direct"
        if direct and not role.oidc_disable_confirmation and not call.args.get("confirmation"):
            fields = {name: str(call.args.get(name) or "") for name in ("state", "code", "error")}
            return pages.confirmation(attempt.role, attempt.requester, fields)
        taken: list[Attempt] = []

        def begin(tx: Transaction) -> None:
            held = self._open(tx, call.mount, key)
            taken.append(held.value)
            if direct:
                tx.replace(ATTEMPTS, held, replace(held.value, stage=TAKEN))
            else:
                tx.delete(ATTEMPTS, held)

        def perform() -> Proved:
            return self._proved(call, config, role, taken[0])

        def conclude(tx: Transaction, who: Proved) -> Result:
            self._method.unchanged(tx, row)
            return self._waits(tx, key, who) if direct else self._logins.issue(tx, call, who)

        def abandon(tx: Transaction, _error: KmsError) -> None:
            held = tx.get(ATTEMPTS, key)
            if held is not None:
                tx.delete(ATTEMPTS, held)

        return External({"role": attempt.role}, begin, perform, conclude, abandon)

    def _waits(self, tx: Transaction, key: str, who: Proved) -> Result:
        """Direct mode: who it is stays here until the client fetches its token."""
        held = tx.get(ATTEMPTS, key)
        if held is None or held.value.stage != TAKEN:
            raise failed(_EXPIRED)
        done = replace(
            held.value,
            stage=PROVED,
            meta=who.alias_metadata,
            oauth2={name: text for name, text in who.meta.items() if name not in who.alias_metadata},
            display_name=who.display_name,
            alias=who.alias,
            groups=who.groups,
        )
        tx.replace(ATTEMPTS, held, done)
        return pages.success()

    def _proved(self, call: Call, config: JwtConfig, role: JwtRole, attempt: Attempt) -> Proved:
        error = str(call.args.get("error") or "").strip().lower()
        if error:
            known = error if error in _ERRORS else _UNKNOWN_ERROR
            raise failed(known)
        shown = str(call.args.get("client_nonce") or "")
        if role.callback_mode != "direct" and not _same(attempt.client_nonce, shown):
            raise invalid("invalid client_nonce")
        if not permits(role.token_bound_cidrs, call.peer):
            raise elsewhere()
        code = str(call.args.get("code") or "")
        if code in {"", _NO_CODE}:
            code = attempt.code
        said = self._provider.proved(call.mount.id, config, role, attempt, code)
        return _who(call, attempt, role, said)

    # -- the client's poll -------------------------------------------------------------------------------

    def poll(self, call: Call) -> Change:
        """The token of a login in direct or device mode, once."""
        key = _key(str(call.args.get("state") or ""))
        held, row = self._polled(self._store.reader(), call, key)
        if held.value.device_code:
            return self._device_poll(call, key, held.value, row)

        def write(tx: Transaction) -> Result:
            held, row = self._polled(tx, call, key)
            attempt = held.value
            if attempt.stage != PROVED:
                raise invalid("authorization_pending")
            if not permits(row.value.token_bound_cidrs, call.peer):
                raise elsewhere()
            tx.delete(ATTEMPTS, held)
            who = Proved(
                attempt.role,
                row.value,
                {**attempt.meta, **attempt.oauth2},
                attempt.display_name,
                alias=attempt.alias,
                alias_metadata=attempt.meta,
                groups=attempt.groups,
            )
            return self._logins.issue(tx, call, who)

        return Change(write)

    def _polled(self, reader: Reader, call: Call, key: str) -> tuple[Row[Attempt], Row[JwtRole]]:
        """The attempt that a client polls for, and its role. Raises KmsError(INVALID)."""
        held = reader.get(ATTEMPTS, key)
        if held is None or held.value.mount_id != call.mount.id or held.value.expires_at <= call.now:
            raise failed(_EXPIRED)
        if not _same(held.value.client_nonce, str(call.args.get("client_nonce") or "")):
            raise invalid("invalid client_nonce")
        row = self._method.role(reader, call.mount, held.value.role)
        mode = "device" if held.value.device_code else "direct"
        if row is None or row.value.callback_mode != mode:
            raise failed("Role could not be found")
        return held, row

    def _device_poll(self, call: Call, key: str, attempt: Attempt, row: Row[JwtRole]) -> Change:
        """Ask the provider, once for each poll; its yes becomes a token in the commit that ends the attempt."""
        config = self._config(call.mount)
        if not permits(row.value.token_bound_cidrs, call.peer):
            raise elsewhere()
        said = self._provider.agreed(call.mount.id, config, row.value, attempt)
        if isinstance(said, str) and said in _WAITING:
            raise invalid(said)
        who = said if isinstance(said, str) else _who(call, attempt, row.value, said)

        def write(tx: Transaction) -> Result:
            held, _ = self._polled(tx, call, key)
            self._method.unchanged(tx, row)
            tx.delete(ATTEMPTS, held)
            if isinstance(who, str):
                return Result(refusal=invalid(f"authorization failed: {who}"))
            return self._logins.issue(tx, call, who)

        return Change(write)

    # -- parts -------------------------------------------------------------------------------------------

    def _config(self, mount: MountRef, missing: str = "could not load configuration") -> JwtConfig:
        row = self._store.reader().get(CONFIGS, mount.id)
        if row is None:
            raise invalid(missing)
        return row.value

    def _open(self, reader: Reader, mount: MountRef, key: str) -> Row[Attempt]:
        """An attempt that waits for its answer. Raises KmsError(INVALID)."""
        row = reader.get(ATTEMPTS, key)
        if row is None or row.value.mount_id != mount.id or row.value.stage != OPEN:
            raise failed(_EXPIRED)
        if row.value.expires_at <= self._clock.now():
            raise failed(_EXPIRED)
        return row


def _who(call: Call, attempt: Attempt, role: JwtRole, said: Said) -> Proved:
    """Who it is, by verified claims, with the provider's tokens that the role hands on."""
    try:
        claims.check_bound(said.claims, role)
        who = proved(call.mount, attempt.role, role, said.claims)
    except KmsError as refusal:
        if refusal.kind is not ErrorKind.INVALID:
            raise
        raise failed(refusal.detail) from None
    return dataclasses.replace(who, meta={**who.meta, **said.handed})


def _new_attempt(call: Call, role: str, redirect: str) -> tuple[str, Attempt]:
    """(state, attempt): 238 random bits each for state and nonce, 384 for the verifier."""
    attempt = Attempt(
        mount_id=call.mount.id,
        role=role,
        redirect_uri=redirect,
        nonce=f"n_{base62(40)}",
        verifier=secrets.token_urlsafe(48),
        client_nonce=str(call.args.get("client_nonce") or ""),
        requester=call.peer,
        expires_at=call.now + SECONDS,
    )
    return f"st_{base62(40)}", attempt


def given_up(intent: Mapping[str, str | int]) -> External[None]:
    """After a crash between intent and outcome: the attempt is spent, and nobody has a token of it."""
    return External(
        intent,
        None,
        lambda: None,
        lambda _tx, _done: Result(partial=True, subject=dict(intent)),
        lambda _tx, _error: None,
    )


def namespace_taken(uri: str) -> tuple[str, str]:
    """(the redirect URI without `namespace` in its query, what that said), as the peer's page sends it.

    So one redirect URI, registered once at the provider, does for all namespaces (`namespace_in_state`).
    """
    try:
        parts = urlsplit(uri)
        asked = parse_qs(parts.query, keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        return uri, ""
    namespace = asked.pop("namespace", [""])[0]
    if not namespace:
        return uri, ""
    rest = [(name, value) for name in sorted(asked) for value in asked[name]]
    return urlunsplit(parts._replace(query=urlencode(rest))), namespace


def redirect_allowed(uri: str, allowed: tuple[str, ...]) -> bool:
    """Whether it is one of them; on loopback with any port (RFC 8252 7.3)."""
    if uri in allowed:
        return True
    bare = _without_port(uri)
    return bare is not None and any(bare == _without_port(each) for each in allowed)


def _without_port(uri: str) -> tuple[Any, ...] | None:
    """A loopback URI's parts; None for any other."""
    try:
        parts = urlsplit(uri)
        host = parts.hostname
        parts.port  # noqa: B018  (raises for what is no port)
    except ValueError:
        return None
    if host not in _LOCAL or parts.username is not None or not uri.isascii() or not uri.isprintable():
        return None
    return parts.scheme, host, parts.path, parts.query, parts.fragment


def _key(state: str) -> str:
    return sha256(state.encode("utf-8", "surrogatepass")).hexdigest()


def _same(wanted: str, shown: str) -> bool:
    return not wanted or compare_digest(wanted.encode(), shown.encode("utf-8", "surrogatepass"))
