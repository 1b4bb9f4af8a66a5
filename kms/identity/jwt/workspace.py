"""Groups and custom schemas of Google Workspace (`provider_config` gsuite), asked of Google at each login.

A service account signs for itself (RFC 7523), for the administrator whom it speaks as (domain-wide delegation), and gets
an access token of an hour, which this login alone uses. Then, with it:

    user info   Directory API, users.get: the custom schemas that are configured, as claims; never in place of a signed one
    groups      Directory API, groups.list: of the person, then of those groups, as deep as is configured; by pages

The key's own JSON is configured. A path of a file on the server is refused, as are credentials that the server's machine
might have: whoever may write this configuration may not thereby read the server's files, nor act as its machine.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote, urlencode

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from kms.clock import Clock
from kms.errors import KmsError, invalid
from kms.identity.jwt import claims
from kms.identity.jwt.store import JwtConfig, JwtRole
from kms.identity.jwt.token import LEAST_RSA_BITS
from kms.identity.outward import UnreachableError, ask, check_url, trusting

GSUITE: Final = "gsuite"
KEY_FILE: Final = "gsuite_service_account"
_PRINCIPAL: Final = "impersonate_principal"
_TEXTS: Final = (
    KEY_FILE,
    "gsuite_admin_impersonate",
    _PRINCIPAL,
    "user_custom_schemas",
    "domain",
    "directory_url",
)
_FLAGS: Final = ("fetch_groups", "fetch_user_info")
_DEPTH: Final = "groups_recurse_max_depth"
SETTINGS: Final = frozenset((*_TEXTS, *_FLAGS, _DEPTH))
_DIRECTORY: Final = "https://admin.googleapis.com"
_TOKENS: Final = "https://oauth2.googleapis.com/token"
_SCOPES: Final = (
    "https://www.googleapis.com/auth/admin.directory.group.readonly"
    " https://www.googleapis.com/auth/admin.directory.user.readonly"
)
_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_ASSERTED_SECONDS: Final = 3600
MAX_ACCOUNT: Final = 16 * 1024
MAX_REQUESTS: Final = 200
MAX_SECONDS: Final = 20.0
_MAX_ANSWER: Final = 1024 * 1024


@dataclass(frozen=True)
class Account:
    """A service account, by its key file."""

    email: str
    key_id: str
    key: rsa.RSAPrivateKey = field(repr=False)
    token_uri: str


def check_settings(given: Mapping[str, Any]) -> None:
    """Raise KmsError(INVALID) for settings that cannot work, whose types are wrong, or which nothing reads."""
    unknown = set(given) - SETTINGS - {"provider"}
    if unknown:
        raise _unfit(f'unknown member "{min(unknown)[:32]}"')
    for name, kind, shown in (
        *((name, str, "string") for name in _TEXTS),
        *((name, bool, "bool") for name in _FLAGS),
        (_DEPTH, int, "int"),
    ):
        value = given.get(name)
        if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
            raise _unfit(f"'{name}' expected type '{shown}'")
    if (given.get(_DEPTH) or 0) < 0:
        raise _unfit("'gsuite_recurse_max_depth' must be a positive integer")
    if given.get("directory_url"):
        check_url(given["directory_url"])
    if given.get(KEY_FILE):
        if given.get(_PRINCIPAL):
            raise _unfit(f"'{_PRINCIPAL}' has no effect beside '{KEY_FILE}'")
        account(given[KEY_FILE])
    elif given.get(_PRINCIPAL):
        raise _unfit(f"failed to impersonate principal: {_NO_DEFAULT}")
    else:
        raise _unfit(f"failed to find application default credentials: {_NO_DEFAULT}")


_NO_DEFAULT: Final = (
    f"this server takes no credentials of its machine; give the key file's content as '{KEY_FILE}'"
)


def account(text: str) -> Account:
    """A service account. Raises KmsError(INVALID); nothing of the key file is in the text, but its type."""
    try:
        found = json.loads(text[:MAX_ACCOUNT])
    except (ValueError, RecursionError):
        raise _key_file("the content of a key file is expected, which is JSON; no file is read") from None
    if not isinstance(found, dict):
        raise _key_file("it is no JSON object")
    if found.get("type") != "service_account":
        kind = str(found.get("type", ""))[:32]
        raise _key_file(f'\'type\' field is "{kind}" (expected "service_account")')
    email, key_id, pem = (found.get(name, "") for name in ("client_email", "private_key_id", "private_key"))
    place = found.get("token_uri") or _TOKENS
    if not all(isinstance(each, str) for each in (email, key_id, pem, place)) or not email:
        raise _key_file("client_email, private_key_id, private_key and token_uri are texts")
    try:
        key = load_pem_private_key(pem.encode("utf-8", "surrogatepass"), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _key_file("private_key is no private key in PEM") from None
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < LEAST_RSA_BITS:
        raise _key_file(f"private_key is no RSA key from {LEAST_RSA_BITS} bits on")
    check_url(place)
    return Account(email, key_id, key, place)


def told(said: Mapping[str, Any], config: JwtConfig, role: JwtRole, clock: Clock) -> Mapping[str, Any]:
    """Verified claims, with what Google says of whoever they are of. Asks Google; never inside a transaction.

    Raises:
        KmsError(INVALID): it does not say it.
    """
    settings, person = config.settings, claims.user(said, role)
    schemas = settings.get("user_custom_schemas") if settings.get("fetch_user_info") else ""
    google = Google(config, clock)
    if schemas:
        said = {**google.schemas(person, schemas), **said}
    name = role.groups_claim
    if not name:
        return said
    absent = invalid(f'failed to fetch groups: "{name}" claim not found in token')
    if not settings.get("fetch_groups"):
        raise absent  # as on the peer: groups of a token do not count in place of those that Google would say
    try:
        listed = google.groups(person)
    except KmsError as error:
        raise invalid(f"failed to fetch groups: {error.detail}") from None
    changed = claims.added(said, name, listed)
    if changed is None:
        raise absent
    return changed


class Google:
    """What one login asks of Google: at most `MAX_REQUESTS`, within `MAX_SECONDS`."""

    def __init__(self, config: JwtConfig, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._access = ""
        self._left = MAX_REQUESTS
        self._until = self._clock.monotonic() + MAX_SECONDS

    @cached_property
    def _context(self) -> ssl.SSLContext:
        return trusting(self._config.oidc_discovery_ca_pem)

    def schemas(self, person: str, wanted: str) -> dict[str, Any]:
        """Custom schemas of a person: name -> its fields."""
        asked = {"projection": "custom", "customFieldMask": wanted, "fields": "customSchemas"}
        found = self._directory(f"users/{quote(person, safe='')}", asked).get("customSchemas") or {}
        if not isinstance(found, dict) or not all(isinstance(value, dict) for value in found.values()):
            raise _strange("custom schemas")
        return found

    def groups(self, person: str) -> list[str]:
        """The addresses of a person's groups, nearest first, and of those around them as far as is configured."""
        found: dict[str, None] = {}
        at = [person]
        for _ in range(1 + (self._config.settings.get(_DEPTH) or 0)):
            new = [each for member in at for each in self._groups_of(member)]
            at = [each for each in dict.fromkeys(new) if each not in found]
            found |= dict.fromkeys(at)
            if not at or len(found) > claims.MAX_GROUPS:
                break
        return list(found)

    def _groups_of(self, member: str) -> list[str]:
        asked = {"userKey": member, "fields": "nextPageToken,groups(email)"}
        domain = self._config.settings.get("domain")
        if domain:
            asked["domain"] = domain
        found: list[str] = []
        while True:
            answer = self._directory("groups", asked)
            page, following = answer.get("groups") or [], answer.get("nextPageToken") or ""
            if not isinstance(page, list) or not isinstance(following, str):
                raise _strange("groups")
            for each in page:
                address = each.get("email", "") if isinstance(each, dict) else None
                if not isinstance(address, str):
                    raise _strange("groups")
                found += [address] if address else []
            if not following or len(found) > claims.MAX_GROUPS:
                return found
            asked["pageToken"] = following

    def _directory(self, what: str, asked: Mapping[str, str]) -> dict[str, Any]:
        self._access = self._access or self._granted()
        base = (self._config.settings.get("directory_url") or _DIRECTORY).rstrip("/")
        place = f"{base}/admin/directory/v1/{what}?{urlencode(asked)}"
        return self._asked("Directory API", place, None, {"Authorization": f"Bearer {self._access}"})

    def _granted(self) -> str:
        """An access token, for what the service account signs (RFC 7523 2.1)."""
        who = account(self._config.settings[KEY_FILE])
        now = int(self._clock.now())
        said: dict[str, Any] = {"iss": who.email, "scope": _SCOPES, "aud": who.token_uri}
        said |= {"iat": now, "exp": now + _ASSERTED_SECONDS}
        administrator = self._config.settings.get("gsuite_admin_impersonate")
        if administrator:
            said["sub"] = administrator
        headers = {"kid": who.key_id} if who.key_id else {}
        form = {"grant_type": _GRANT, "assertion": jwt.encode(said, who.key, "RS256", headers)}
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        found = self._asked("token endpoint", who.token_uri, urlencode(form).encode(), kind)
        granted = found.get("access_token")
        if not isinstance(granted, str) or not granted or not granted.isascii() or not granted.isprintable():
            raise _strange("access token")
        return granted

    def _asked(self, what: str, place: str, body: bytes | None, headers: Mapping[str, str]) -> dict[str, Any]:
        self._left -= 1
        if self._left < 0 or self._clock.monotonic() > self._until:
            raise invalid(f"Google says too much: {MAX_REQUESTS} requests in {MAX_SECONDS:.0f} s are asked")
        try:
            answer = ask(
                place,
                context=self._context,
                body=body,
                headers=headers,
                most=_MAX_ANSWER,
                names=self._config.override_allowed_server_names,
            )
            if answer.status != HTTPStatus.OK:
                raise invalid(f"Google's {what} answers {answer.status}")
            return answer.document()
        except UnreachableError as error:
            raise invalid(f"unable to call Google's {what}: {error}") from None


def _strange(what: str) -> KmsError:
    return invalid(f"the {what} that Google says cannot be understood")


def _unfit(reason: str) -> KmsError:
    return invalid(f'invalid provider_config: error initializing "{GSUITE}" provider_config: {reason}')


def _key_file(reason: str) -> KmsError:
    return _unfit(f"error parsing service account JSON: {reason}")
