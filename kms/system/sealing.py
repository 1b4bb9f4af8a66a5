"""Seal and unseal. Sealing sets a latch that outlives restarts; only a quorum of custodians lifts it.

After a seal every worker leaves the HSM and exits: CPython cannot wipe memory, and a fresh process is
the honest wipe. The shares that custodians give one by one live in the shared page, never on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from kms import __version__
from kms.errors import KmsError, invalid
from kms.operation import Call, Change, Result
from kms.sensitive import Sensitive
from kms.system.instance import INSTANCE, check_custody, read_instance
from kms.system.shamir import combine
from kms.system.shares import parse_share
from kms.system.state import Board, Phase, ServerState
from kms.tables import Store, Transaction

# What clients gate their features on: Terraform parses it as semver, hvac compares it.
API_VERSION = "1.16.3"


class Sealing:
    """seal, unseal and seal-status.

    Args:
        open_keyring, close_keyring: as for ServerState.
    """

    def __init__(
        self,
        store: Store,
        state: ServerState,
        board: Board,
        *,
        open_keyring: Callable[[str], None],
        close_keyring: Callable[[], None],
    ) -> None:
        self._store = store
        self._state = state
        self._board = board
        self._open_keyring = open_keyring
        self._close_keyring = close_keyring

    def seal(self, _call: Call) -> Change:
        """Set the latch. When it returns, no process serves a key any more."""

        def write(tx: Transaction) -> Result:
            row = read_instance(tx)
            if row is None:
                raise invalid("the server is not initialized")
            tx.replace(INSTANCE, row, msgspec.structs.replace(row.value, sealed=True))
            return Result()

        return Change(write, after=self._board.bump_seal_epoch)

    def unseal(self, call: Call) -> Result | Change:
        """Take one share; with enough of them lift the latch. On an unsealed server: the status.

        Raises:
            KmsError(INVALID): no share, not a share, or shares that do not open this server.
        """
        phase = self._state.phase
        if phase is Phase.UNINITIALIZED:
            raise invalid("server is not yet initialized")
        if call.args.get("reset"):
            self._board.reset_quorum()
            return Result(self.status())
        if phase is Phase.OPEN:
            return Result(self.status())
        instance = self._state.instance
        if instance is None:
            raise invalid("server is not yet initialized")
        self._board.add_quorum_share(parse_share(str(call.args.get("key") or "")))
        _, shares = self._board.quorum_shares()
        if len(shares) < instance.threshold:
            return Result(self.status(), subject={"progress": len(shares)})
        self._board.reset_quorum()
        self._verify(instance.id, shares[: instance.threshold])
        return Change(self._lift, after=self._board.bump_seal_epoch)

    def _verify(self, instance_id: str, shares: list[bytes]) -> None:
        secret = Sensitive(combine(shares))
        # The verifier is a sealed row, so the HSM must open the keyring before it can be compared.
        self._open_keyring(instance_id)
        try:
            check_custody(self._store.reader(), secret)
        except KmsError:
            self._close_keyring()
            raise

    def _lift(self, tx: Transaction) -> Result:
        row = read_instance(tx)
        if row is None:
            raise invalid("the server is not initialized")
        tx.replace(INSTANCE, row, msgspec.structs.replace(row.value, sealed=False))
        return Result(self.status() | {"sealed": False, "progress": 0})

    def status(self) -> dict[str, Any]:
        """The body of sys/seal-status."""
        phase = self._state.phase
        instance = self._state.instance
        initialized = phase is not Phase.UNINITIALIZED
        sealed = not self._state.serving
        nonce, shares = self._board.quorum_shares()
        body: dict[str, Any] = {
            "type": "pkcs11",
            "initialized": initialized,
            "sealed": sealed,
            "t": instance.threshold if instance is not None else 0,
            "n": instance.shares if instance is not None else 0,
            "progress": len(shares),
            "nonce": nonce,
            "version": API_VERSION,
            "build_date": "",
            "migration": False,
            "recovery_seal": True,
            "storage_type": "sqlite",
            "keystead_version": __version__,
            "recovery": instance.recovery if initialized and instance is not None else "",
        }
        if not sealed and instance is not None:
            body |= {"cluster_name": instance.cluster_name, "cluster_id": instance.id}
        return body
