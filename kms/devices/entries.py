"""The lines of an audit device: Vault's JSON, with texts replaced by their HMACs.

What is a text and what stays clear follows the real server: names of fields, numbers and truth values stay; every
text in the data of a request or an answer is replaced, unless the mount names its key (audit_non_hmac_*_keys); of
who asked, the token and the accessor are.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from kms.clock import rfc3339
from kms.devices.model import Form
from kms.namespaces import unscoped
from kms.operation import ANONYMOUS, WHOLE_BODY, Call, Capability, Principal, Result

_encode = msgspec.json.Encoder(decimal_format="number").encode
_NAMESPACE: Final = {"id": "root"}
_BORN: Final = frozenset({"system", "token", "cubbyhole", "identity"})
_VERSION: Final = "v1.0.0+builtin"
_TOKENS_KEPT: Final = 512
_BINARY: Final = "http_raw_body"


@dataclass(frozen=True)
class Kept:
    """What a mount keeps in clear: top-level keys."""

    request: Collection[str] = ()
    response: Collection[str] = ()


def digest(key: bytes, text: str) -> str:
    """What stands for a text, as sys/audit-hash tells."""
    return f"hmac-sha256:{hmac.digest(key, text.encode(), 'sha256').hex()}"


@dataclass(frozen=True)
class Known:
    """What a line says of a request, encoded.

    Args:
        principal: who asked, as far as it was known then.
    """

    auth: msgspec.Raw
    request: msgspec.Raw
    principal: Principal


class Writer:
    """Makes the lines of one device. Remembers the HMACs of tokens that ask often; else stateless.

    Args:
        key: of its HMACs.
        form: how it writes.
    """

    def __init__(self, key: bytes, form: Form) -> None:
        self._key = key
        self._form = form
        self._tokens: dict[str, tuple[str, str]] = {}  # row key of a token -> its HMAC and its accessor's

    def test(self, request_id: str, now: float) -> bytes:
        """What a device gets when it is enabled."""
        request = {
            "id": request_id,
            "operation": "update",
            "namespace": _NAMESPACE,
            "path": "sys/audit/test",
        }
        return self._line("request", now, {"auth": {"token_type": "default"}, "request": request})

    def known(self, call: Call, rule: str, kept: Kept) -> Known:
        """Who asks for what: the part that the lines of a request and of its answer share."""
        return Known(
            auth=msgspec.Raw(_encode(self._asker(call, rule))),
            request=msgspec.Raw(_encode(self._asked(call, kept))),
            principal=call.principal,
        )

    def request(self, known: Known, now: float, error: str = "") -> bytes:
        """A request, before anything of it is done; or one that was refused, with the reason."""
        body = {"auth": known.auth, "request": known.request}
        return self._line("request", now, body | ({"error": error} if error else {}))

    def response(
        self, known: Known, call: Call, now: float, kept: Kept, result: Result | None, error: str = ""
    ) -> bytes:
        """What a request came to, before the answer leaves."""
        body = {
            "auth": known.auth,
            "request": known.request,
            "response": self._answered(call, kept, result),
        }
        return self._line("response", now, body | ({"error": error} if error else {}))

    def _line(self, kind: str, now: float, body: Mapping[str, Any]) -> bytes:
        line: bytes = _encode({"time": rfc3339(now), "type": kind, **body})
        return self._form.prefix.encode("ascii") + line + b"\n"

    def _secret(self, text: str) -> str:
        return text if self._form.raw else digest(self._key, text)

    def _accessor(self, text: str) -> str:
        return self._secret(text) if self._form.hmac_accessor else text

    def _token(self, call: Call) -> tuple[str, str]:
        """What stands for the caller's token, and for its accessor."""
        principal = call.principal
        found = self._tokens.get(principal.token_id) if principal.token_id else None
        if found is None:
            found = self._secret(call.credential), self._accessor(principal.accessor)
            if principal.token_id and not self._form.raw:
                if len(self._tokens) >= _TOKENS_KEPT:
                    self._tokens.clear()
                self._tokens[principal.token_id] = found
        return found

    def _asker(self, call: Call, rule: str) -> dict[str, Any]:
        principal = call.principal
        if principal is ANONYMOUS or not principal.accessor:
            return {"token_type": "default", "policy_results": {"allowed": bool(rule)}}
        token, accessor = self._token(call)
        known: dict[str, Any] = {
            "client_token": token,
            "accessor": accessor,
            "display_name": principal.display_name,
            "policies": _names(principal.policies),
            "token_policies": _names(principal.policies),
            "token_type": "service",
        }
        if principal.entity_id:
            known["entity_id"] = principal.entity_id
        granting = [_policy(key, principal) for key in rule.partition(":")[0].split("+") if ":" in rule]
        results: dict[str, Any] = {"allowed": bool(rule)}
        known["policy_results"] = results | ({"granting_policies": granting} if granting else {})
        return known

    def _asked(self, call: Call, kept: Kept) -> dict[str, Any]:
        mount = call.mount
        asked: dict[str, Any] = {"id": call.request_id}
        if call.principal.entity_id:
            asked["client_id"] = call.principal.entity_id
        asked["operation"] = str(call.capability)
        if mount.path:
            asked |= _mounted(call, "mount_running_version")
        if call.principal.accessor:
            asked["client_token"], asked["client_token_accessor"] = self._token(call)
        elif call.credential:
            asked["client_token"] = self._secret(call.credential)
        asked |= {"namespace": _namespace(call), "path": call.place}
        data = {name: call.args[name] for name in call.given - call.bound if name in call.args}
        data |= {**data.pop(WHOLE_BODY, {}), **call.extra}
        if data:
            asked["data"] = self._data(data, kept.request)
        if call.audited_headers:
            asked["headers"] = {
                name: [self._secret(value) if hashed else value for value in values]
                for name, (values, hashed) in call.audited_headers.items()
            }
        asked["remote_address"] = call.peer
        if call.wrap_ttl:
            asked["wrap_ttl"] = call.wrap_ttl
        return asked

    def _answered(self, call: Call, kept: Kept, result: Result | None) -> dict[str, Any]:
        answered: dict[str, Any] = {}
        if result is not None and result.auth is not None:
            answered["auth"] = self._login(result.auth)
        if call.mount.path:
            answered |= _mounted(call, "mount_running_plugin_version")
        if result is None:
            return answered
        if result.lease is not None:
            answered["secret"] = {"lease_id": result.lease.id}
        if result.wrap is not None:
            answered["wrap_info"] = self._wrapped(result.wrap)
        elif result.data is not None:
            listing = self._form.elide_lists and call.capability is Capability.LIST
            data = _elided(result.data) if listing else result.data
            answered["data"] = self._data(data, kept.response)
        elif result.raw is not None:
            body, kind = result.raw
            document = {
                "http_content_type": kind,
                "http_status_code": 200,
                _BINARY: body.decode("latin-1"),
            }
            answered["data"] = self._data(document, kept.response)
        if result.warnings:
            answered["warnings"] = list(result.warnings)
        return answered

    def _login(self, auth: Mapping[str, Any]) -> dict[str, Any]:
        shown: dict[str, Any] = {}
        for name, value in auth.items():
            if name == "client_token" and value:
                shown[name] = self._secret(value)
            elif name == "accessor" and value:
                shown[name] = self._accessor(value)
            elif name in ("lease_duration", "renewable", "mfa_requirement"):
                continue
            elif value:
                shown[name] = value
        if auth.get("lease_duration"):
            shown["token_ttl"] = auth["lease_duration"]
        return shown

    def _wrapped(self, wrap: Mapping[str, Any]) -> dict[str, Any]:
        shown = dict(wrap)
        shown["token"] = self._secret(str(wrap.get("token", "")))
        for name in ("accessor", "wrapped_accessor"):
            if wrap.get(name):
                shown[name] = self._accessor(str(wrap[name]))
        return shown

    def _data(self, data: Mapping[str, Any], kept: Collection[str]) -> dict[str, Any]:
        if self._form.raw:
            return {name: _plain(value, str) for name, value in data.items()}
        return {
            name: _plain(value, str if name in kept else self._secret) for name, value in sorted(data.items())
        }


def _namespace(call: Call) -> dict[str, str]:
    return {"id": call.namespace.id, "path": call.namespace.path} if call.namespace.id else _NAMESPACE


def _policy(key: str, principal: Principal) -> dict[str, str]:
    namespace, name = unscoped(key)
    if not namespace:
        return {"name": name, "namespace_id": "root", "type": "acl"}
    below = principal.namespace.path
    return {"name": name, "namespace_id": namespace, "namespace_path": below, "type": "acl"}


def _names(keys: Iterable[str]) -> list[str]:
    """Policies by their names; the namespace of a token is in its accessor."""
    return [unscoped(key)[1] for key in keys]


def _plain(value: Any, text: Callable[[str], str]) -> Any:
    """`value` with every text in it replaced."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, msgspec.Raw):
        return _plain(msgspec.json.decode(value), text)
    if isinstance(value, bytes | bytearray):
        return text(value.decode("latin-1"))
    if isinstance(value, Mapping):
        return {str(name): _plain(each, text) for name, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each, text) for each in value]
    return value


def _elided(data: Mapping[str, Any]) -> dict[str, Any]:
    counted = {name: len(data[name]) for name in ("keys", "key_info") if hasattr(data.get(name), "__len__")}
    return {**data, **counted}


def _mounted(call: Call, version: str) -> dict[str, Any]:
    mount = call.mount
    born = mount.namespace.id and mount.type in _BORN
    found = {"mount_point": mount.path, "mount_type": f"ns_{mount.type}" if born else mount.type}
    if mount.accessor:
        found["mount_accessor"] = mount.accessor
    kind = "auth" if mount.place.startswith("auth/") else "secret"
    return {**found, version: _VERSION, "mount_class": kind}
