"""Forgetting certificates and revocations that no relying party can need any more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kms.clock import rfc3339
from kms.operation import Call, Change, Result
from kms.tables import Store, Transaction
from pki.marks import complete, journal_key, shard
from pki.model import DAY, Revocation, TidyStatus
from pki.store import CERTIFICATES, CRL_JOURNAL, CRL_MARKS, REVOCATIONS, TIDY, put

BATCH = 5_000  # rows of each kind in one request: bounds the transaction

STARTED = (
    "Tidy operation successfully started. Any information from the operation will be printed to OpenBao's"
    " server logs."
)
NOTHING_ASKED = (
    "Manual tidy requested but no tidy operations were set. Enable at least one tidy operation to be run"
    " (tidy_cert_store / tidy_revoked_certs / tidy_invalid_certs / tidy_revoked_cert_issuer_associations /"
    " tidy_expired_issuers / tidy_move_legacy_ca_bundle / tidy_acme)."
)


@dataclass(frozen=True)
class Tidying:
    """One per process. Runs inside the request: what it deletes is found by an index."""

    store: Store

    def tidy(self, call: Call) -> Change:
        """Delete rows that expired more than `safety_buffer` ago."""
        args, now = call.args, int(call.now)
        certificates = bool(args.get("tidy_cert_store"))
        revocations = bool(args.get("tidy_revoked_certs") or args.get("tidy_revocation_list"))
        buffer = int(args.get("safety_buffer", 3 * DAY))

        def write(tx: Transaction) -> Result:
            if not certificates and not revocations:
                return Result(warnings=(NOTHING_ASKED,), items=0)
            deleted = _delete(tx, call.mount.id, now - buffer, certificates, revocations)
            status = TidyStatus(
                state="Finished",
                started_at=now,
                finished_at=now,
                safety_buffer=buffer,
                cert_store=certificates,
                revoked_certs=revocations,
                certificates_deleted=deleted[0],
                revocations_deleted=deleted[1],
            )
            put(tx, TIDY, call.mount.id, status)
            subject: dict[str, str | int] = {"certificates": deleted[0], "revocations": deleted[1]}
            return Result(warnings=(STARTED,), items=sum(deleted), subject=subject)

        return Change(write)

    def cancel(self, call: Call) -> Result:
        """There is never one running between requests."""
        del call
        return Result(warnings=("Tidy operation cannot be cancelled as none is currently running.",))

    def status(self, call: Call) -> Result:
        """What the last tidy did, in the peer's fields."""
        row = self.store.reader().get(TIDY, call.mount.id)
        status = row.value if row is not None else TidyStatus()
        return Result(data=_status_data(status))


def _delete(
    tx: Transaction, mount_id: str, before: int, certificates: bool, revocations: bool
) -> tuple[int, int]:
    gone = [0, 0]
    if revocations:
        for revocation in tx.find(
            REVOCATIONS, {"mount_id": mount_id}, below=("not_after", before), limit=BATCH
        ):
            if _owed(tx, revocation.value):
                continue
            tx.delete(REVOCATIONS, revocation)
            entry = tx.get(CRL_JOURNAL, journal_key(revocation.value))
            if entry is not None:
                tx.delete(CRL_JOURNAL, entry)
            gone[1] += 1
    if certificates:
        for certificate in tx.find(
            CERTIFICATES, {"mount_id": mount_id}, below=("not_after", before), limit=BATCH
        ):
            tx.delete(CERTIFICATES, certificate)
            gone[0] += 1
    return gone[0], gone[1]


def _owed(tx: Transaction, revocation: Revocation) -> bool:
    """Whether each CRL that lists it must still be issued once after its end (RFC 5280 3.3)."""
    scopes = [complete(revocation.mount_id, revocation.issuer_id)]
    if revocation.shard >= 0:
        scopes.append(shard(revocation.mount_id, revocation.issuer_id, revocation.shard))
    rows = [tx.get(CRL_MARKS, scope.key) for scope in scopes]
    return any(row is not None and row.value.this_update <= revocation.not_after for row in rows)


def _status_data(status: TidyStatus) -> dict[str, Any]:
    ran = bool(status.finished_at)
    return {
        "cert_store_deleted_count": status.certificates_deleted,
        "current_cert_store_count": None,
        "current_revoked_cert_count": None,
        "error": None,
        "message": None,
        "missing_issuer_cert_count": 0,
        "pause_duration": "0s",
        "revoked_cert_deleted_count": status.revocations_deleted,
        "safety_buffer": status.safety_buffer,
        "state": status.state,
        "tidy_cert_store": status.cert_store,
        "tidy_expired_issuers": False,
        "tidy_revoked_cert_issuer_associations": False,
        "tidy_revoked_certs": status.revoked_certs,
        "time_finished": rfc3339(status.finished_at) if ran else None,
        "time_started": rfc3339(status.started_at) if ran else None,
    }
