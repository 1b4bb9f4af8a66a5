"""One question to a validator."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pki.authority import pem

PURPOSES = {
    "server": "1.3.6.1.5.5.7.3.1",
    "client": "1.3.6.1.5.5.7.3.2",
    "code": "1.3.6.1.5.5.7.3.3",
}


@dataclass(frozen=True)
class Case:
    """A leaf, and how a relying party would look at it. Documents are DER.

    Args:
        chain: intermediates as a server sends them, the leaf's issuer first.
        crls: when there are any, the status of every certificate of the chain must be known from them.
        ocsp: an answer about the leaf; then its status must be known from it.
        host: the DNS name that it must be good for; "" asks for none.
        at: Unix seconds of the check.
        purpose: "" asks for none.
    """

    name: str
    leaf: bytes
    chain: tuple[bytes, ...]
    roots: tuple[bytes, ...]
    at: int
    crls: tuple[bytes, ...] = ()
    ocsp: bytes = b""
    host: str = ""
    purpose: Literal["server", "client", "code", ""] = ""

    def as_json(self) -> dict[str, Any]:
        """For the programs in Java and Go."""

        def text(data: bytes) -> str:
            return base64.b64encode(data).decode("ascii")

        return {
            "name": self.name,
            "leaf": text(self.leaf),
            "chain": [text(one) for one in self.chain],
            "roots": [text(one) for one in self.roots],
            "crls": [text(one) for one in self.crls],
            "ocsp": text(self.ocsp),
            "host": self.host,
            "at": self.at,
            "purpose": PURPOSES.get(self.purpose, ""),
        }


def write_pem(path: Path, ders: Sequence[bytes], label: str = "CERTIFICATE") -> str:
    """Store documents one after the other; the path as text."""
    path.write_text("".join(pem(der, label) + "\n" for der in ders))
    return str(path)


def clocked(at: int) -> list[str]:
    """A command's beginning that makes it see another time: some tools judge by the clock alone."""
    return ["env", "TZ=UTC", "faketime", "-f", datetime.fromtimestamp(at, UTC).strftime("@%Y-%m-%d %H:%M:%S")]


def run(*command: str, data: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """One process, its end not judged."""
    return subprocess.run(
        list(command),
        capture_output=True,
        input=data,
        stdin=subprocess.DEVNULL if data is None else None,
        check=False,
    )
