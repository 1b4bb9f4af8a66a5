"""OpenSSH's key revocation list (PROTOCOL.krl): what sshd reads as RevokedKeys and ssh as RevokedHostKeys.

It is not signed: OpenSSH never asked for a signature and has dropped the code since. Fetch it over TLS.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable

from pki.ssh.model import By, SshRevocation
from pki.ssh.wire import string, u32, u64

MAGIC = 0x5353484B524C0A00  # "SSHKRL\n\0"
_FORMAT = 1
_CERTIFICATES, _EXPLICIT_KEY, _FINGERPRINT_SHA256 = 1, 2, 5
_SERIAL_LIST, _KEY_ID = 0x20, 0x23
_OF_CERTIFICATES = (By.SERIAL, By.KEY_ID)


def render(version: int, generated: int, revocations: Iterable[SshRevocation]) -> bytes:
    """The list. The same rows give the same bytes.

    Args:
        version: grows with each change.
        generated: of the last change, in seconds.
        revocations: in any order.
    """
    rows = list(revocations)
    head = u64(MAGIC) + u32(_FORMAT) + u64(version) + u64(generated) + u64(0) + string(b"") + string(b"")
    keys = sorted(base64.b64decode(row.value) for row in rows if row.by == By.KEY)
    prints = sorted(bytes.fromhex(row.value) for row in rows if row.by == By.FINGERPRINT)
    sections = [
        *(_certificates(ca, rows) for ca in sorted({row.ca for row in rows if row.by in _OF_CERTIFICATES})),
        *([_section(_EXPLICIT_KEY, b"".join(map(string, keys)))] if keys else []),
        *([_section(_FINGERPRINT_SHA256, b"".join(map(string, prints)))] if prints else []),
    ]
    return head + b"".join(sections)


def _certificates(ca: str, rows: list[SshRevocation]) -> bytes:
    """What is revoked of one CA; "" means of any."""
    serials = sorted({int(row.value, 16) for row in rows if row.ca == ca and row.by == By.SERIAL})
    key_ids = sorted({row.value.encode() for row in rows if row.ca == ca and row.by == By.KEY_ID})
    parts = [string(base64.b64decode(ca.partition(" ")[2])), string(b"")]
    if serials:
        parts.append(_section(_SERIAL_LIST, b"".join(map(u64, serials))))
    if key_ids:
        parts.append(_section(_KEY_ID, b"".join(map(string, key_ids))))
    return _section(_CERTIFICATES, b"".join(parts))


def _section(kind: int, data: bytes) -> bytes:
    return bytes([kind]) + string(data)
