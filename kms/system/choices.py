"""What can be done when the HSM is lost: chosen at init, never changed, and said alike everywhere."""

from __future__ import annotations

from kms.errors import ErrorKind, KmsError
from kms.system.instance import Instance

EXPLAINED = {
    "none": (
        "none: nothing replaces the HSM. If it is lost, every key, secret and CA of this server is lost with it,"
        " and no backup opens"
    ),
    "hsm-backup": (
        "hsm-backup: if the HSM is lost, restore its token from the vendor's backup, then the newest backup of the"
        " storage and audit folders, and start the server; without that token nothing opens"
    ),
    "quorum": (
        "quorum: if the HSM is lost, 'keystead recover' with the custodians' shares and a backup opens software keys"
        " and all other data under a new HSM; keys and CAs born in the lost HSM stay lost"
    ),
}


TO_DO = {
    "none": "nothing else opens what is stored here, for recovery was chosen as none",
    "hsm-backup": "if it is lost, restore it from the vendor's backup",
    "quorum": "if it is lost, run 'keystead recover' with the custodians' shares",
}


def strange_token(instance: Instance) -> KmsError:
    """The HSM answers, and holds none of the keys that open this server."""
    error = KmsError(
        ErrorKind.HSM_UNAVAILABLE,
        "the HSM's token does not hold this server's root keys: it is new, empty, or another server's; name the token"
        f" that the server was initialized with in the configuration; {TO_DO[instance.recovery]}",
    )
    error.for_caller = True  # it names nothing that is secret, and without it nobody knows what to do
    return error


def explain(instance: Instance) -> str:
    """The choice of this server, with the numbers of its custodians."""
    text = EXPLAINED[instance.recovery]
    if instance.recovery == "quorum":
        text += f" ({instance.threshold} of {instance.shares} shares)"
    return text
