"""Groups and custom schemas of Google Workspace (`provider_config` gsuite), asked of Google at each login.

A service account signs for itself (RFC 7523), for the administrator whom it speaks as (domain-wide delegation), and gets
an access token of an hour, which this login alone uses. Then, with it:

    user info   Directory API, users.get: the custom schemas that are configured, as claims; never in place of a signed one
    groups      Directory API, groups.list: of the person, then of those groups, as deep as is configured; by pages

The key's own JSON is configured; a path of a file on the server is refused: whoever may write this configuration may not thereby
read the server's files. Without a key, the account counts that the server was started with (`serviceaccount.MACHINE`), or
one that this may sign for (`impersonate_principal`, by Google's IAM): for mounts of the root namespace alone, as a tenant would
otherwise act as the server's machine.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from functools import cached_property
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote, urlencode

from kms.clock import Clock
from kms.errors import KmsError, invalid
from kms.identity.jwt import claims
from kms.identity.jwt.serviceaccount import (
    ASSERTED_SECONDS,
    GSUITE,
    MACHINE,
    Account,
    account,
    claims_of,
    granting,
    machine,
    signed,
    unfit,
)
from kms.identity.jwt.store import JwtConfig, JwtRole
from kms.identity.outward import UnreachableError, ask, check_url, trusting
from kms.operation import ROOT_NAMESPACE, NamespaceRef

KEY_FILE: Final = "gsuite_service_account"
_ADMIN: Final = "gsuite_admin_impersonate"
_PRINCIPAL: Final = "impersonate_principal"
_TEXTS: Final = (
    KEY_FILE,
    _ADMIN,
    _PRINCIPAL,
    "user_custom_schemas",
    "domain",
    "directory_url",
    "iam_credentials_url",
)
_FLAGS: Final = ("fetch_groups", "fetch_user_info")
_DEPTH: Final = "groups_recurse_max_depth"
SETTINGS: Final = frozenset((*_TEXTS, *_FLAGS, _DEPTH))
_DIRECTORY: Final = "https://admin.googleapis.com"
_FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}
_IAM: Final = "https://iamcredentials.googleapis.com"
_CLOUD: Final = "https://www.googleapis.com/auth/cloud-platform"
_SCOPES: Final = (
    "https://www.googleapis.com/auth/admin.directory.group.readonly"
    " https://www.googleapis.com/auth/admin.directory.user.readonly"
)
MAX_REQUESTS: Final = 200
MAX_SECONDS: Final = 20.0
_MAX_ANSWER: Final = 1024 * 1024


def check_settings(given: Mapping[str, Any]) -> None:
    """Raise KmsError(INVALID) for settings that cannot work, whose types are wrong, or which nothing reads."""
    _check_types(given)
    for name in ("directory_url", "iam_credentials_url"):
        if given.get(name):
            check_url(given[name])
    if given.get(KEY_FILE):
        if given.get(_PRINCIPAL):
            raise unfit(f"'{_PRINCIPAL}' has no effect beside '{KEY_FILE}'")
        account(given[KEY_FILE])
        return
    if not given.get(_PRINCIPAL) and given.get(_ADMIN):
        raise unfit(f"'{_ADMIN}' has no effect without '{KEY_FILE}' or '{_PRINCIPAL}'")
    if machine() is None:
        wanted = "impersonate principal" if given.get(_PRINCIPAL) else "find application default credentials"
        raise unfit(
            f"failed to {wanted}: this server was started without {MACHINE}; give the key file's content as"
            f" '{KEY_FILE}'"
        )


def _check_types(given: Mapping[str, Any]) -> None:
    unknown = set(given) - SETTINGS - {"provider"}
    if unknown:
        raise unfit(f'unknown member "{min(unknown)[:32]}"')
    for name, kind, shown in (
        *((name, str, "string") for name in _TEXTS),
        *((name, bool, "bool") for name in _FLAGS),
        (_DEPTH, int, "int"),
    ):
        value = given.get(name)
        if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
            raise unfit(f"'{name}' expected type '{shown}'")
    if (given.get(_DEPTH) or 0) < 0:
        raise unfit("'gsuite_recurse_max_depth' must be a positive integer")


def check_place(config: JwtConfig, namespace: NamespaceRef) -> None:
    """Raise KmsError(INVALID) where a tenant would act as the machine of the server."""
    if config.provider == GSUITE and not config.settings.get(KEY_FILE) and namespace != ROOT_NAMESPACE:
        raise unfit(f"a mount of a namespace needs a '{KEY_FILE}' of its own")


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
        """An access token for the Directory API."""
        settings = self._config.settings
        administrator, principal = settings.get(_ADMIN) or "", settings.get(_PRINCIPAL) or ""
        if settings.get(KEY_FILE):
            return self._exchanged(account(settings[KEY_FILE], checked=True), _SCOPES, administrator)
        own = machine()
        if own is None:
            raise invalid(f"this server was started without {MACHINE}")
        return self._for(own, principal, administrator) if principal else self._exchanged(own, _SCOPES, "")

    def _exchanged(self, who: Account, scope: str, subject: str) -> str:
        said = claims_of(who.email, scope, subject, who.token_uri, self._clock.now())
        return self._token_for(who, signed(who, said))

    def _token_for(self, who: Account, assertion: str) -> str:
        found = self._asked("token endpoint", who.token_uri, granting(assertion), _FORM)
        return _granted_text(found.get("access_token"))

    def _for(self, own: Account, principal: str, administrator: str) -> str:
        """As another account, which the machine's may sign for or be (IAM Service Account Credentials API)."""
        cloud = {
            "Authorization": f"Bearer {self._exchanged(own, _CLOUD, '')}",
            "Content-Type": "application/json",
        }
        base = (self._config.settings.get("iam_credentials_url") or _IAM).rstrip("/")
        place = f"{base}/v1/projects/-/serviceAccounts/{quote(principal, safe='@')}"
        if not administrator:
            body = {"lifetime": f"{ASSERTED_SECONDS}s", "scope": _SCOPES.split(" ")}
            found = self._asked("IAM", f"{place}:generateAccessToken", json.dumps(body).encode(), cloud)
            return _granted_text(found.get("accessToken"))
        said = claims_of(principal, _SCOPES, administrator, own.token_uri, self._clock.now())
        body = {"payload": json.dumps(said)}
        found = self._asked("IAM", f"{place}:signJwt", json.dumps(body).encode(), cloud)
        return self._token_for(own, _granted_text(found.get("signedJwt")))

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


def _granted_text(found: Any) -> str:
    if not isinstance(found, str) or not found or not found.isascii() or not found.isprintable():
        raise _strange("access token")
    return found
