"""The provider of logins with a browser: OpenID Connect Core 1.0, as its relying party. Holds only what discovery said.

The ID token is believed for its signature, for us (`aud`, `azp`), from the issuer, in force, and with the nonce of the
very attempt; the code for PKCE (RFC 7636). What userinfo adds counts only for the same subject, and never instead of
what the ID token says.
"""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from jwt.api_jws import PyJWS

from kms.clock import Clock
from kms.errors import KmsError, invalid
from kms.identity.jwt import token
from kms.identity.jwt.claims import DEFAULT_SKEW
from kms.identity.jwt.grouping import regrouped
from kms.identity.jwt.keys import FRESH_SECONDS, KeySources
from kms.identity.jwt.store import Attempt, JwtConfig, JwtRole
from kms.identity.outward import Answer, UnreachableError, ask, check_url, trusting

_HASHES: Final = {"256": hashlib.sha256, "384": hashlib.sha384, "512": hashlib.sha512}
_FORM: Final = "application/x-www-form-urlencoded"
_DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
_DEVICE_ERRORS: Final = {"authorization_pending", "slow_down", "access_denied", "expired_token"}
Claims = dict[str, Any]


@dataclass(frozen=True)
class Said:
    """What the provider says of whoever logged in.

    Args:
        claims: of the ID token, and of userinfo what that adds.
        handed: the provider's tokens that the role hands on, by the name that they have in a token's metadata.
    """

    claims: Claims
    handed: dict[str, str]


class Provider:
    """One per process, safe to use from several threads."""

    def __init__(self, sources: KeySources, clock: Clock) -> None:
        self._sources = sources
        self._clock = clock
        self._known: dict[str, tuple[JwtConfig, float, dict[str, Any]]] = {}
        self._lock = threading.Lock()

    def authorization_url(
        self, mount_id: str, config: JwtConfig, role: JwtRole, state: str, attempt: Attempt
    ) -> str:
        """Where the browser goes. Raises KmsError(INVALID) when the provider cannot be asked."""
        endpoint = self._endpoint(mount_id, config, "authorization_endpoint")
        asked = {
            "client_id": config.oidc_client_id,
            "nonce": attempt.nonce,
            "redirect_uri": attempt.redirect_uri,
            "response_type": "id_token" if config.implicit else "code",
            "scope": " ".join(dict.fromkeys(("openid", *role.oidc_scopes))),
            "state": state,
        }
        if not config.implicit:
            digest = hashlib.sha256(attempt.verifier.encode("ascii")).digest()
            asked |= {"code_challenge": _text(digest), "code_challenge_method": "S256"}
        if config.oidc_response_mode == "form_post":
            asked["response_mode"] = "form_post"
        if role.max_age:
            asked["max_age"] = str(role.max_age)
        return f"{endpoint}{'&' if urlsplit(endpoint).query else '?'}{urlencode(asked)}"

    def proved(self, mount_id: str, config: JwtConfig, role: JwtRole, attempt: Attempt, code: str) -> Said:
        """What is said of whoever logged in. Asks the provider; never inside a transaction.

        Raises:
            KmsError(INVALID): the code or the token proves nothing.
        """
        tokens = (
            {"id_token": attempt.id_token}
            if config.implicit
            else self._exchanged(mount_id, config, attempt, code)
        )
        return self._said(mount_id, config, role, tokens, attempt.nonce)

    def device(self, mount_id: str, config: JwtConfig, role: JwtRole) -> Mapping[str, Any]:
        """Begin the device flow (RFC 8628 3.1); the provider's answer, with its members checked.

        Raises:
            KmsError(INVALID): the provider has no such flow, or does not begin one.
        """
        scope = " ".join(dict.fromkeys(("openid", *role.oidc_scopes)))
        answer = self._posted(mount_id, config, "device_authorization_endpoint", {"scope": scope})
        if answer[0] != HTTPStatus.OK:
            raise failed("The provider does not begin a device flow.")
        found = answer[1]
        for name in ("device_code", "user_code", "verification_uri"):
            if not isinstance(found.get(name), str) or not found[name]:
                raise failed(f"The provider's answer has no {name}.")
        for name in ("verification_uri", "verification_uri_complete"):
            if name in found and urlsplit(str(found[name])).scheme not in {"https", "http"}:
                raise failed(f"The provider's {name} is no address of a page.")
        return found

    def agreed(self, mount_id: str, config: JwtConfig, role: JwtRole, attempt: Attempt) -> Said | str:
        """What is said of whoever agreed in the device flow, or the provider's word for why nobody has (RFC 8628 3.5).

        The peer believes this ID token without looking at its signature; here it is verified as every other, but for
        the nonce, which the flow does not have.
        """
        grant = {"grant_type": _DEVICE_GRANT, "device_code": attempt.device_code}
        status, tokens = self._posted(mount_id, config, "token_endpoint", grant)
        if status != HTTPStatus.OK:
            word = str(tokens.get("error") or "")
            return word if word in _DEVICE_ERRORS else "invalid_grant"
        return self._said(mount_id, config, role, tokens, None)

    def _said(
        self,
        mount_id: str,
        config: JwtConfig,
        role: JwtRole,
        tokens: Mapping[str, Any],
        nonce: str | None,
    ) -> Said:
        id_token, access = (str(tokens.get(name) or "") for name in ("id_token", "access_token"))
        if not id_token:
            raise failed("No code or id_token received.")
        said = self._verified(mount_id, config, role, nonce, id_token, access)
        handed = {f"oauth2_{name}": str(tokens.get(name) or "") for name in role.oauth2_metadata}
        told = {**self._userinfo(mount_id, config, access, said), **said}
        try:
            return Said(dict(regrouped(told, config, role, self._clock, access)), handed)
        except KmsError as error:
            raise failed(error.detail) from None

    def _exchanged(self, mount_id: str, config: JwtConfig, attempt: Attempt, code: str) -> Mapping[str, Any]:
        if not code:
            raise failed("No code or id_token received.")
        body = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": attempt.redirect_uri,
            "code_verifier": attempt.verifier,
        }
        status, document = self._posted(mount_id, config, "token_endpoint", body)
        if status != HTTPStatus.OK:
            raise failed("Error exchanging oidc code: the provider refuses it.")
        return document

    def _posted(
        self, mount_id: str, config: JwtConfig, endpoint: str, body: dict[str, str]
    ) -> tuple[int, Mapping[str, Any]]:
        """Post as the client that we are. Raises KmsError(INVALID) when there is no answer."""
        headers = {"Content-Type": _FORM}
        methods = self._metadata(mount_id, config).get("token_endpoint_auth_methods_supported")
        if (
            isinstance(methods, list)
            and "client_secret_basic" not in methods
            and "client_secret_post" in methods
        ):
            body = body | {"client_id": config.oidc_client_id, "client_secret": config.oidc_client_secret}
        else:  # the default of OpenID Connect Discovery; the parts are form-encoded first (RFC 6749 2.3.1)
            if endpoint == "device_authorization_endpoint":
                body = body | {"client_id": config.oidc_client_id}  # RFC 8628 3.1 wants it there as well
            pair = f"{quote(config.oidc_client_id, safe='')}:{quote(config.oidc_client_secret, safe='')}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        place = self._endpoint(mount_id, config, endpoint)
        try:
            answer = self._ask(place, config, body=urlencode(body).encode(), headers=headers)
            return answer.status, answer.document()
        except UnreachableError as error:
            raise failed(f"Error exchanging oidc code: {error}.") from None

    def _verified(
        self,
        mount_id: str,
        config: JwtConfig,
        role: JwtRole,
        nonce: str | None,
        id_token: str,
        access: str,
    ) -> Claims:
        keys = self._sources.keys(mount_id, config, token.key_id(id_token))
        said = token.verified(id_token, keys, config.jwt_supported_algs)
        if said.get("iss") != config.oidc_discovery_url:
            raise _bad("invalid issuer")
        if said.pop("nonce", None) != nonce and nonce is not None:
            raise _bad("invalid ID token nonce.")
        _check_audience(said, config, role)
        _check_times(said, role, self._clock.now())
        if role.bound_subject and said.get("sub") != role.bound_subject:
            raise failed("sub claim does not match bound subject")
        if access and "at_hash" in said and said["at_hash"] != _at_hash(id_token, access):
            raise _bad("invalid access_token hash")
        return said

    def _userinfo(self, mount_id: str, config: JwtConfig, access: str, said: Claims) -> Claims:
        """What userinfo adds; nothing where it cannot be had, as on the peer."""
        if not access or not self._metadata(mount_id, config).get("userinfo_endpoint"):
            return {}
        endpoint = self._endpoint(mount_id, config, "userinfo_endpoint")
        try:
            answer = self._ask(endpoint, config, headers={"Authorization": f"Bearer {access}"})
            found = answer.document()
        except UnreachableError:
            return {}
        same = answer.status == HTTPStatus.OK and found.get("sub") == said.get("sub")
        return found if same and said.get("sub") else {}

    def _endpoint(self, mount_id: str, config: JwtConfig, name: str) -> str:
        found = self._metadata(mount_id, config).get(name)
        if not isinstance(found, str):
            raise invalid(f"error checking oidc discovery URL: it names no {name}")
        check_url(found)
        return found

    def _metadata(self, mount_id: str, config: JwtConfig) -> dict[str, Any]:
        with self._lock:
            known = self._known.get(mount_id)
        now = self._clock.monotonic()
        if known is not None and known[0] == config and now - known[1] < FRESH_SECONDS:
            return known[2]
        found = self._sources.discover(config)
        with self._lock:
            self._known[mount_id] = (config, now, found)
        return found

    def _ask(
        self,
        url: str,
        config: JwtConfig,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        return ask(
            url,
            context=trusting(config.oidc_discovery_ca_pem),
            body=body,
            headers=headers,
            names=config.override_allowed_server_names,
        )


def _check_audience(said: Claims, config: JwtConfig, role: JwtRole) -> None:
    audience = said.get("aud")
    listed = audience if isinstance(audience, list) else [audience]
    if config.oidc_client_id not in listed:
        raise _bad("invalid id_token audiences: we are not among them")
    if role.bound_audiences and not set(role.bound_audiences) & {
        one for one in listed if isinstance(one, str)
    }:
        raise _bad("invalid id_token audiences: none that the role is bound to")
    party = said.get("azp")
    if (party is not None or len(listed) > 1) and party != config.oidc_client_id:
        raise _bad("invalid id_token authorized party (azp)")


def _check_times(said: Claims, role: JwtRole, now: float) -> None:
    skew = DEFAULT_SKEW if role.clock_skew_leeway == 0 else max(role.clock_skew_leeway, 0)
    times = {name: said.get(name) for name in ("exp", "iat", "nbf", "auth_time")}
    for name, value in times.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise _bad(f"the {name} claim is not a number")
    if times["exp"] is None or now > times["exp"] + skew:
        raise _bad("token is expired")
    if times["iat"] is None or now < times["iat"] - skew:
        raise _bad("token was issued in the future, or nobody knows when")
    if times["nbf"] is not None and now < times["nbf"] - skew:
        raise _bad("token is not yet valid")
    if role.max_age and (times["auth_time"] is None or now > times["auth_time"] + role.max_age + skew):
        raise _bad("the user authenticated too long ago (max_age)")


def _at_hash(id_token: str, access: str) -> str:
    """OpenID Connect Core 3.1.3.6; the algorithm is the one whose signature was verified."""
    algorithm = str(PyJWS().get_unverified_header(id_token).get("alg"))
    digest = _HASHES.get(algorithm[-3:], hashlib.sha512)(access.encode("utf-8", "surrogatepass")).digest()
    return _text(digest[: len(digest) // 2])


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def failed(reason: str) -> KmsError:
    """A login that proves nothing. Nothing of what the provider or the browser sent is quoted."""
    return invalid(f"OpenBao login failed. {reason}")


def _bad(reason: str) -> KmsError:
    return invalid(f"Token verification failed. {reason}")
