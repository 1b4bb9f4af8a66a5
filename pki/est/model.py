"""What EST keeps: pure types, no rules."""

from __future__ import annotations

import msgspec

VERBATIM = "sign-verbatim"
AUTHENTICATORS = ("cert", "password", "token", "userpass")


class EstConfig(msgspec.Struct, frozen=True, kw_only=True):
    """config/est of a mount.

    Args:
        default_mount: answers /.well-known/est/ without a label; one mount of a server can.
        default_path_policy: what est/ without a label issues under: "", "sign-verbatim" or "role:NAME".
        label_to_path_policy: the same for est/LABEL/; labels are unique over all mounts.
        authenticators: which proofs are taken.
        userpass_accessor: of the auth mount whose users may enrol, if "userpass" is among them.
        last_updated: seconds.
        namespace: of the mount, "" for the root namespace. /.well-known/est/ is the server's, so no tenant's mount
            answers there; it does at its own path.
    """

    enabled: bool = False
    default_mount: bool = False
    default_path_policy: str = ""
    label_to_path_policy: dict[str, str] = {}
    authenticators: tuple[str, ...] = ("cert", "token")
    userpass_accessor: str = ""
    last_updated: int = 0
    namespace: str = ""


class EstUser(msgspec.Struct, frozen=True, kw_only=True):
    """A device's name and password, the latter as its hash.

    Args:
        sha256: of the password, which is made here: 190 random bits need no slow hash.
        roles: what it may enrol under; "*" for any.
    """

    sha256: bytes
    roles: tuple[str, ...]
    created_at: int
