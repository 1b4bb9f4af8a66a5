"""What can be done when the HSM is lost: chosen at init, never changed, and said alike everywhere."""

from __future__ import annotations

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


def explain(instance: Instance) -> str:
    """The choice of this server, with the numbers of its custodians."""
    text = EXPLAINED[instance.recovery]
    if instance.recovery == "quorum":
        text += f" ({instance.threshold} of {instance.shares} shares)"
    return text
