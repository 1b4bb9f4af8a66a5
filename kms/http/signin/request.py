"""What the browser sent, read strictly: known names, once each, bounded."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlsplit

ASKED: Final = (
    "client_id",
    "scope",
    "redirect_uri",
    "response_type",
    "state",
    "nonce",
    "max_age",
    "code_challenge",
    "code_challenge_method",
    "request",
    "request_uri",
)
"""Parameters of an authorization request (OpenID Connect Core 3.1.2.1, RFC 7636 4.3) that are handed on."""
TYPED: Final = ("method", "mount", "username", "secret", "proof")
MAX_VALUE: Final = 4096
MAX_BODY: Final = 64 * 1024
# Namespaces as `kms.system.namespaces` lets them be called; whether there is one of the name, the door knows.
_PROVIDER: Final = rb"((?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}/){0,16})identity/oidc/provider/([A-Za-z0-9_.-]{1,128})/authorize\Z"
_PLACE: Final = re.compile(rb"/ui/vault/" + _PROVIDER)
_BARE: Final = re.compile(rb"/v1/" + _PROVIDER)
_MOUNT: Final = re.compile(r"[A-Za-z0-9_-]{1,64}(?:/[A-Za-z0-9_-]{1,64}){0,4}\Z")
_HOST: Final = re.compile(r"[A-Za-z0-9.-]{1,253}\Z|\[[0-9A-Fa-f:.]{2,45}\]\Z")
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]{0,63}\Z")
_ACTIVE: Final = {"javascript", "data", "vbscript", "blob", "file", "filesystem", "about"}

Headers = Iterable[tuple[bytes, bytes]]


class BadRequestError(Exception):
    """It cannot be one of ours; the text is ours, and for the person."""


@dataclass(frozen=True, slots=True)
class Typed:
    """What the person filled in."""

    method: str
    mount: str
    username: str
    secret: str
    proof: str


@dataclass(frozen=True, slots=True)
class Place:
    """A provider. `namespace` is the full path of its namespace, which ends in '/'; "" for the root namespace."""

    namespace: str
    provider: str

    @property
    def path(self) -> str:
        """Of its authorization endpoint, below /v1/."""
        return f"{self.namespace}identity/oidc/provider/{self.provider}/authorize"


def _place(match: re.Match[bytes] | None) -> Place | None:
    return Place(match[1].decode("ascii"), match[2].decode("ascii")) if match else None


def provider_of(raw_path: bytes) -> Place | None:
    """The provider whose page a path is, or None."""
    return _place(_PLACE.match(raw_path))


def bare_provider(method: str, raw_path: bytes, headers: Headers) -> Place | None:
    """The provider that a browser without a token came to the API of, or None."""
    match = _BARE.match(raw_path) if method == "GET" else None
    if match is None:
        return None
    held = dict(headers)
    if b"x-vault-token" in held or b"authorization" in held or b"text/html" not in held.get(b"accept", b""):
        return None
    return _place(match)


def fields(text: bytes) -> dict[str, str]:
    """A query or a form. Raises BadRequestError."""
    try:
        pairs = parse_qsl(
            text.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(text),
            errors="strict",
            max_num_fields=32,
        )
    except ValueError:
        raise BadRequestError("The request cannot be read.") from None
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadRequestError("The request says something twice.")
    if any(len(value) > MAX_VALUE or "\0" in value for value in found.values()):
        raise BadRequestError("The request has a value that is too long.")
    return found


def asked(found: Mapping[str, str]) -> dict[str, str]:
    """The parameters of the authorization request; others are not ours. Raises BadRequestError."""
    kept = {name: found[name] for name in ASKED if name in found}
    for name in ("client_id", "redirect_uri"):
        if not kept.get(name):
            raise BadRequestError(f"The service that sent you here did not say its {name}.")
    destination(kept["redirect_uri"])
    return kept


def destination(uri: str) -> str:
    """The source expression (CSP 3) of where the browser goes afterwards. Raises BadRequestError.

    Whether the client may ask for it, `authorize` judges; here it must be nothing that runs in this page's place, and
    nothing that would be more than one word of the policy.
    """
    try:
        parts = urlsplit(uri)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        raise BadRequestError("The service that sent you here gave no address to go back to.") from None
    if not uri.isascii() or not uri.isprintable() or " " in uri or not _SCHEME.match(parts.scheme):
        raise BadRequestError("The service that sent you here gave no address to go back to.")
    if parts.scheme in _ACTIVE:
        raise BadRequestError("The service that sent you here gave an address that runs as a program.")
    if parts.scheme not in {"http", "https"}:
        return f"{parts.scheme}:"  # an app on this device
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    if not _HOST.match(host) or parts.username is not None:
        raise BadRequestError("The service that sent you here gave no address to go back to.")
    return f"{parts.scheme}://{host}{port}"


def factors(named: str) -> tuple[tuple[str, str], ...]:
    """(ID, name) of each second factor, as a form that is ours names them. Raises BadRequestError."""
    try:
        return tuple((str(each), str(name)) for each, name in json.loads(named))
    except (ValueError, TypeError, RecursionError):
        raise BadRequestError("The request cannot be read.") from None


def codes(found: Mapping[str, str], asked_for: Iterable[tuple[str, str]]) -> dict[str, str]:
    """ID of a second factor -> the code that the person filled in; digits may be typed in groups."""
    shown = {each: found.get(f"code{at}", "").replace(" ", "") for at, (each, _) in enumerate(asked_for)}
    return {each: code for each, code in shown.items() if code}


def typed(found: Mapping[str, str]) -> Typed:
    """What the person filled in. Raises BadRequestError."""
    values = {name: found.get(name, "") for name in TYPED}
    if values["method"] not in {"userpass", "ldap", "oidc", "token"}:
        raise BadRequestError("There is no such way to sign in.")
    values["mount"] = values["mount"].strip().strip("/") or values["method"]
    if not _MOUNT.match(values["mount"]):
        raise BadRequestError("The name of the mount is not one.")
    return Typed(**values)
