"""What two answers have in common: status, names, types, and every text that does not vary by nature."""

from __future__ import annotations

import re
from typing import Any

# Values that are random or hold a time: their length and their envelope's version still count.
_VARYING = frozenset(
    {
        "ciphertext",
        "signature",
        "hmac",
        "random_bytes",
        "plaintext",
        "public_key",
        "publickey",
        "backup",
        "csr",
    }
    | {"certificate_chain", "creation_time", "time", "sum"}
)
# DER integers, PEM and RSA numbers differ in length from one key to the next.
_LOOSE = frozenset({"signature", "csr", "certificate_chain", "backup", "public_key", "publickey"})
_TIMES = frozenset({"creation_time", "time"})
_ENVELOPE = re.compile(r"vault:v\d+:")
# Members of a key object and of a batch's result that are ours alone.
OWN = frozenset(
    {"protection", "activation_date", "aliases", "compromised_version", "contact", "cryptoperiod"}
    | {"deactivation_date", "owner", "state", "state_since", "tags", "risk_accepted"}
    | {"allowed_types", "min_strength", "demand_hsm", "require_hsm"}  # of config/keys
)
_MOUNT = re.compile(r"transit-[0-9a-f]{6}")


def shape(document: Any) -> Any:
    """A document without what cannot be the same on two servers."""
    if not isinstance(document, dict):
        return document
    found = {name: value for name, value in document.items() if name != "request_id"}
    data = found.get("data")
    if isinstance(data, dict):
        data = {name: value for name, value in data.items() if name not in OWN}
        keys = data.get("keys")
        if isinstance(keys, dict):
            data["keys"] = {name: _version(value) for name, value in keys.items()}
        found["data"] = data
    masked = _mask("", found)
    if "errors" in masked:
        masked["errors"] = [_MOUNT.sub("transit", text) for text in masked["errors"]]
    return masked


def _version(value: Any) -> Any:
    if isinstance(value, str):  # an exported key
        return value.partition("\n")[0] if value.startswith("-----") else "text"
    return "seconds" if isinstance(value, int) else value


def _mask(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _mask(key, each) for key, each in value.items()}
    if isinstance(value, list):
        return [_mask(name, each) for each in value]
    if name in _VARYING and isinstance(value, str) and value:
        envelope = _ENVELOPE.match(value)
        length = "" if name in _LOOSE or name in _TIMES else f"#{len(value)}"
        return f"{envelope[0] if envelope else ''}<{name}{length}>"
    return value
