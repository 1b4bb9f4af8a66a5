"""The SSH CA of one process: builds the parts.

Built after the fork, with the process's own store and HSM. Nothing here decides; each part is a file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kms.clock import Clock
from kms.tables import Store, Table, Transaction
from pki.goodkey import Blocklist
from pki.hsmkey import CaToken, LateToken
from pki.leftovers import Leftovers, delete_all, retire_key
from pki.ssh.authorities import SshAuthorities
from pki.ssh.ceremony import SshCeremonies
from pki.ssh.issuance import SshIssuance
from pki.ssh.issuersadmin import SshIssuersAdmin
from pki.ssh.otp import SshPasswords
from pki.ssh.revocation import SshRevocations
from pki.ssh.roles import SshRoles
from pki.ssh.store import ISSUERS, MOUNTS, OTPS, REVOCATIONS, ROLES, issuers


class SshService:
    """All verbs of the SSH CA.

    Args:
        get_token: gives the open HSM, or says why there is none.
        demand: "hsm" when the operator allows no software keys.
    """

    def __init__(
        self,
        store: Store,
        get_token: Callable[[], CaToken],
        clock: Clock,
        *,
        demand: str = "",
        blocklist: Blocklist | None = None,
    ) -> None:
        blocked = blocklist if blocklist is not None else Blocklist()
        token = LateToken(get_token)
        self.clock = clock
        self.authorities = SshAuthorities(store)
        self.roles = SshRoles(store)
        self.ceremonies = SshCeremonies(store, token, blocked, demand)
        self.issuers = SshIssuersAdmin(store, self.authorities)
        self.issuance = SshIssuance(store, token, self.authorities, self.roles, blocked)
        self.revocations = SshRevocations(store, self.authorities)
        self.passwords = SshPasswords(store, self.roles, self.authorities)
        self.leftovers = Leftovers(store, token)

    def retire_mount(self, tx: Transaction, mount_id: str) -> int:
        """A mount is being removed: nothing of it signs or is served any more. Returns how many keys.

        The keys' objects stay in the HSM for a waiting time; rows of certificates stay for the record.
        """
        found = [issuer.key_id for issuer in issuers(tx, mount_id) if issuer.key_id]
        for key_id in found:
            retire_key(tx, mount_id, key_id, int(self.clock.now()))
        tables: tuple[Table[Any], ...] = (ISSUERS, ROLES, REVOCATIONS, OTPS)
        for table in tables:
            delete_all(tx, table, f"{mount_id}/")
        delete_all(tx, MOUNTS, mount_id)
        return len(found)
