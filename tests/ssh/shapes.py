"""What two answers of an ssh mount have in common: certificates are taken apart, random parts are masked."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.serialization import SSHCertificate, load_ssh_public_identity

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_HASH = re.compile(r"[0-9a-f]{64}")
_LINE = re.compile(r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-\w+) [A-Za-z0-9+/=]+")


def form(document: Any) -> Any:
    """A document without what cannot be the same on two servers."""
    if not isinstance(document, dict):
        return _mask("", document)
    found = {name: value for name, value in document.items() if name != "request_id"}
    if found.get("lease_id"):
        found["lease_id"] = "<lease>"
    return _mask("", found)


def _mask(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        # Lists of issuers are keyed by random ids: what they hold is compared in an order of its own.
        items = [(_text(key), _mask(key, each)) for key, each in value.items()]
        if any(_UUID.fullmatch(key) for key in value):
            return sorted((str(each) for _, each in items))
        return dict(items)
    if isinstance(value, list):
        return [_mask(name, each) for each in value]
    if not isinstance(value, str) or not value:
        return value
    return _OF.get(name, _text)(value)


def _serial(value: str) -> str:
    return "<serial>" if re.fullmatch(r"[1-9a-f][0-9a-f]{0,15}", value) else value


def _text(value: str) -> str:
    value = re.sub(r"ssh-[0-9a-f]{6}/", "ssh/", value)
    return _LINE.sub(r"\1 <key>", _HASH.sub("<hash>", _UUID.sub("<uuid>", value)))


def _certificate(line: str) -> dict[str, Any]:
    read = load_ssh_public_identity(line.encode())
    assert isinstance(read, SSHCertificate)
    read.verify_cert_signature()
    return {
        "kind": line.partition(" ")[0],
        "ends": line[-1],
        "type": read.type.name,
        "key_id": re.sub(r"\b(root|token)\b", "<display name>", _text(read.key_id.decode())),
        "principals": [name.decode() for name in read.valid_principals],
        "seconds": read.valid_before - read.valid_after,
        "critical": {name.decode(): value.decode() for name, value in read.critical_options.items()},
        "extensions": {name.decode(): value.decode() for name, value in read.extensions.items()},
        "algorithm": bytes(read._inner_sig_type).decode(),
    }


_OF: dict[str, Callable[[str], Any]] = {
    "signed_key": _certificate,
    "serial_number": _serial,
    "private_key": lambda value: value.partition("\n")[0],
}
