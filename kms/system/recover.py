"""Recovery after the HSM is lost: the custodians' shares open the keyring, and a new HSM seals it again.

    (1) refuse what is no case for it: another recovery choice, an HSM that is not lost, a token with other keys
    (2) shares -> secret; it must be the one of this instance, twice: its public half, and the sealed verifier
    (3) every keyring term, from what was sealed to the custodians when the term was made
    (4) the old log is ended as far as it can be without its key, and described (kms.audit.epochs)
    (5) new roots and a new log key in the new token (kms.keys.roots.Roots.ensure)
    (6) one commit: terms under the new root, old roots lost, what they held lost, a new log that says so
    (7) the old log is put aside; then the instance may serve

Killed anywhere, run again, it carries on: before (6) nothing has changed that counts, after it no shares are
needed. Offline: the caller holds the server's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from kms.audit import Event, recover
from kms.audit.epochs import log_origin, put_aside, succeed, survey
from kms.audit.store import Predecessor
from kms.clock import Clock
from kms.errors import ErrorKind, KmsError, invalid
from kms.hsm import Hsm, Purpose
from kms.ids import CkaId, new_event_id
from kms.keys.keyring import TERMS, Keyring, reseal_known
from kms.keys.lost import lose_keys
from kms.keys.recovery import open_for_custodians, public_half
from kms.keys.roots import ROOTS, ROTATED, Root, Roots, active_row, active_rows, replace_lost
from kms.keys.rotation import give_up_rotation
from kms.keys.tokens import forget_tokens
from kms.sensitive import Sensitive
from kms.system.choices import EXPLAINED
from kms.system.instance import INSTANCE, Instance, check_custody, read_instance
from kms.system.shamir import combine
from kms.system.shares import parse_share
from kms.tables import Store, Transaction

MADE = (*ROTATED, Purpose.LOG_SIGN)
_OURS = "keystead"  # labels of all objects of the service begin so
_WHY = "the HSM with the key of the log before is lost"


@dataclass(frozen=True)
class Recoverer:
    """The steps. `run` does what is left of them.

    Args:
        audit: the audit folder, restored together with the database.
        unlock: opens the store with the keyring.
        lose: marks what other engines had in the HSM, in the commit of (6).
    """

    store: Store
    hsm: Callable[[], Hsm]
    roots: Roots
    clock: Clock
    audit: Path
    unlock: Callable[[str, Keyring], None]
    lose: Callable[[Transaction], None]

    def run(self, shares: Callable[[], Sequence[str]]) -> bool:
        """Recover, or finish a recovery that was cut off.

        Args:
            shares: gives the custodians' shares (hex or base64); asked only when they are needed.

        Returns:
            False when there was nothing left to do: an earlier run finished.

        Raises:
            KmsError(INVALID): no case for a recovery, or shares that do not open this instance; says what to do.
            KmsError(HSM_UNAVAILABLE, INTEGRITY, AUDIT_UNAVAILABLE): mend that, and run it again.
        """
        instance = self._instance()
        if not instance.recovering:
            if self._done(instance):
                return False
            self._check_token()
            self._switch(instance, self._open(instance, shares()))
        self._finish()
        return True

    # -- (1) -----------------------------------------------------------------------------------------

    def _instance(self) -> Instance:
        row = read_instance(self.store.reader())
        if row is None or not row.value.initialized:
            raise invalid("this storage folder holds no initialized server; restore the backup into it first")
        if row.value.recovery != "quorum":
            raise invalid(f"this server was initialized with recovery {EXPLAINED[row.value.recovery]}")
        return row.value

    def _done(self, instance: Instance) -> bool:
        """Whether the token holds the roots already; refuse when it always did."""
        active = active_rows(self.store.reader(), Purpose.ROOT_SEAL)
        if not any(self.hsm().exists(CkaId(bytes.fromhex(row.key))) for row in active):
            return False
        if instance.epoch == 1:
            raise invalid("the HSM is not lost: this token holds the server's root keys; start the server")
        return True

    def _check_token(self) -> None:
        ours = {row.key for row in self.store.reader().scan(ROOTS)}
        hsm = self.hsm()
        strange = [label for cka_id, label in hsm.objects(_OURS) if not _expected(cka_id, label, ours)]
        if strange:
            raise invalid(
                f"the token is not empty: it holds {len(strange)} keys of a server ({strange[0]}, ...);"
                " initialize a new token and name it in the configuration"
            )

    # -- (2), (3) ------------------------------------------------------------------------------------

    def _open(self, instance: Instance, texts: Sequence[str]) -> dict[int, Sensitive]:
        if len(texts) < instance.threshold:
            raise invalid(f"{len(texts)} shares were given; {instance.threshold} are needed, one a line")
        secret = Sensitive(combine([parse_share(text) for text in texts]))
        if public_half(secret) != instance.recovery_public:
            raise invalid("the shares do not open this server: one of them is wrong, or of another server")
        keyring = open_for_custodians(secret, instance.id, self.store.reader().scan(TERMS))
        self.unlock(instance.id, keyring)
        # The public half stands in a row that is not sealed; this one is.
        check_custody(self.store.reader(), secret)
        return keyring.keys

    # -- (4) to (6) ----------------------------------------------------------------------------------

    def _switch(self, instance: Instance, keys: dict[int, Sensitive]) -> None:
        origin = log_origin(instance.id, instance.epoch)
        recover(self.audit, self.store, self.clock, origin=origin)
        before = survey(self.audit, self.store.reader(), instance.epoch, origin, _WHY)
        versions = {purpose: active_row(self.store.reader(), purpose).value.version + 1 for purpose in MADE}
        made = {purpose: self.roots.ensure(purpose, version) for purpose, version in versions.items()}
        rows = self.store.reader().scan(TERMS)
        resealed = reseal_known(self.hsm(), instance.id, rows, keys, made[Purpose.ROOT_SEAL])
        with self.store.transaction() as tx:
            for old, term in resealed:
                tx.replace(TERMS, old, term)
            self._replace_roots(tx, made)
            give_up_rotation(tx, self.clock.now())
            forget_tokens(tx, self.clock.now())
            lose_keys(tx, instance.epoch)
            self.lose(tx)
            event = self._event(instance, before, len(resealed))
            succeed(tx, before, log_origin(instance.id, before.epoch), event, self.clock)
            _begin_epoch(tx, before.epoch)

    def _replace_roots(self, tx: Transaction, made: dict[Purpose, Root]) -> None:
        for purpose, root in made.items():
            replace_lost(tx, purpose, root.version)

    def _event(self, instance: Instance, before: Predecessor, terms: int) -> Event:
        now = self.clock.now()
        subject: dict[str, str | int] = {
            "instance": instance.id,
            "epoch": before.epoch,
            "terms": terms,
            "old_log": before.origin,
            "old_log_size": before.size,
            "old_log_root": before.root,
            "old_log_records_behind": before.records,
            "token": self.hsm().info.serial,
        }
        return Event(
            id=new_event_id(now),
            phase="done",
            operation="sys.recover",
            resource="sys/recover",
            door="cli",
            subject=subject,
            at=now,
        )

    # -- (7) -----------------------------------------------------------------------------------------

    def _finish(self) -> None:
        put_aside(self.audit, self._instance().epoch - 1)
        with self.store.transaction() as tx:
            row = read_instance(tx)
            if row is not None and row.value.recovering:
                tx.replace(INSTANCE, row, msgspec.structs.replace(row.value, recovering=False))


def refuse_unfinished(instance: Instance) -> None:
    """Raise while a recovery is half done. Asked at start, before anything touches the audit folder.

    Raises:
        KmsError(INVALID): says how to go on.
    """
    if instance.recovering:
        raise invalid(
            "a recovery was cut off; run 'keystead recover --config FILE' again, no shares are needed"
        )


def _expected(cka_id: bytes, label: str, ours: set[str]) -> bool:
    return label == f"{_OURS} sentinel" or cka_id.hex() in ours


def _begin_epoch(tx: Transaction, epoch: int) -> None:
    row = read_instance(tx)
    if row is None or row.value.epoch != epoch - 1:
        raise KmsError(ErrorKind.CONFLICT, "another recovery ran at the same time")
    tx.replace(INSTANCE, row, msgspec.structs.replace(row.value, epoch=epoch, recovering=True))
