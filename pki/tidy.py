"""Forgetting certificates, revocations and issuers that no relying party can need any more.

Runs inside the request, or by itself every `interval_duration` (config/auto-tidy): what it deletes is found by an
index, and what one run does not reach the next one does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from kms.clock import rfc3339
from kms.errors import invalid
from kms.operation import Call, Change, External, Result
from kms.tables import Store, Transaction
from pki.issuers import remove_issuer, settle
from pki.marks import complete, journal_key, shard
from pki.model import Revocation, TidyOptions, TidyStatus
from pki.store import (
    CERTIFICATES,
    CRL_JOURNAL,
    CRL_MARKS,
    MOUNTS,
    REVOCATIONS,
    TIDY,
    issuers,
    mount_config,
    put,
)
from pki.validity import parse_go_duration

BATCH = 5_000  # rows of each kind in one run: bounds the transaction

STARTED = (
    "Tidy operation successfully started. Any information from the operation will be printed to OpenBao's"
    " server logs."
)
_COUNT_FIRST = (
    "Can not publish a running storage metrics count to metrics without first maintaining that count.  Enable"
    " `maintain_stored_certificate_counts` to enable `publish_stored_certificate_count_metrics`."
)
KINDS = (
    "tidy_cert_store",
    "tidy_revoked_certs",
    "tidy_invalid_certs",
    "tidy_revoked_cert_issuer_associations",
    "tidy_expired_issuers",
    "tidy_move_legacy_ca_bundle",
    "tidy_acme",
)
NOTHING_ASKED = (
    "Manual tidy requested but no tidy operations were set. Enable at least one tidy operation to be run"
    f" ({' / '.join(KINDS)})."
)
NOTHING_AUTOMATIC = (
    "Auto-tidy enabled but no tidy operations were requested. Enable at least one tidy operation to be run"
    f" ({' / '.join(KINDS)})."
)


@dataclass(frozen=True)
class Tidying:
    """One per process."""

    store: Store

    def tidy(self, call: Call) -> Change:
        """Delete what expired more than the buffers ago."""
        options = tidy_options(TidyOptions(), call.args, call.given)
        now = int(call.now)

        def write(tx: Transaction) -> Result:
            if not options.any:
                return Result(warnings=(NOTHING_ASKED,), items=0)
            done = run(tx, call.mount.id, options, now)
            return Result(warnings=(STARTED,), items=done.items, subject=done.subject)

        return Change(write)

    def cancel(self, call: Call) -> Result:
        """There is never one running between requests."""
        del call
        return Result(warnings=("Tidy operation cannot be cancelled as none is currently running.",))

    def status(self, call: Call) -> Result:
        """What the last tidy did, in the peer's fields."""
        row = self.store.reader().get(TIDY, call.mount.id)
        return Result(data=_status_data(row.value if row is not None else TidyStatus()))

    def auto_read(self, call: Call) -> Result:
        """config/auto-tidy."""
        return Result(data=_auto_data(mount_config(self.store.reader(), call.mount.id).auto_tidy))

    def auto_write(self, call: Call) -> Change:
        """config/auto-tidy; only what is given changes."""

        def write(tx: Transaction) -> Result:
            config = mount_config(tx, call.mount.id)
            options = tidy_options(config.auto_tidy, call.args, call.given)
            if options.enabled and not options.any:
                raise invalid(NOTHING_AUTOMATIC)
            put(tx, MOUNTS, call.mount.id, msgspec.structs.replace(config, auto_tidy=options))
            return Result(data=_auto_data(options))

        return Change(write)

    def due(self, now: int) -> Iterator[tuple[str, External[None]]]:
        """(mount id, run) of the mounts whose interval is over."""
        reader = self.store.reader()
        for row in reader.scan(MOUNTS):
            options = row.value.auto_tidy
            if not options.enabled:
                continue
            last = reader.get(TIDY, row.key)
            if last is None or now - last.value.auto_finished_at >= options.interval_duration:
                yield row.key, self._automatic(row.key, options, now)

    def _automatic(self, mount_id: str, options: TidyOptions, now: int) -> External[None]:
        return External(
            {"mount": mount_id},
            None,
            lambda: None,
            lambda tx, _: run(tx, mount_id, options, now, automatic=True),
            lambda _tx, _error: None,
        )


def tidy_options(base: TidyOptions, args: Mapping[str, Any], given: frozenset[str]) -> TidyOptions:
    """`base` with what the client sent.

    Raises:
        KmsError(INVALID): a buffer or an interval that makes no sense.
    """
    names = {field.name for field in msgspec.structs.fields(TidyOptions)}
    changes = {name: args[name] for name in names & given if args.get(name) is not None}
    if "tidy_revocation_list" in given and "tidy_revoked_certs" not in given:
        changes["tidy_revoked_certs"] = bool(args["tidy_revocation_list"])  # the old name of the same
    options = msgspec.structs.replace(base, **changes)
    for name in (
        "safety_buffer",
        "issuer_safety_buffer",
        "revoked_safety_buffer",
        "acme_account_safety_buffer",
    ):
        if (name in given or name == "safety_buffer") and getattr(options, name) < 1:
            raise invalid(f"given {name} must be at least one second; got: {getattr(options, name)}")
    if options.interval_duration < 1:
        raise invalid(
            f"given interval_duration must be greater than zero seconds; got: {options.interval_duration}"
        )
    if options.page_size < 5:
        raise invalid("page_size must be at least 5")
    if options.publish_stored_certificate_count_metrics and not options.maintain_stored_certificate_counts:
        raise invalid(_COUNT_FIRST)
    try:
        pause = parse_go_duration(options.pause_duration)
    except ValueError as error:
        raise invalid(f"Error parsing pause_duration: {error}") from None
    if pause > 0:
        raise invalid("pause_duration must be 0: a run is bounded by its batch and holds nobody up")
    return options


def run(tx: Transaction, mount_id: str, options: TidyOptions, now: int, *, automatic: bool = False) -> Result:
    """One run, in the caller's transaction."""
    certificates, revocations = _delete(tx, mount_id, options, now)
    gone = (
        _expired_issuers(tx, mount_id, now - options.issuer_safety_buffer, now)
        if options.tidy_expired_issuers
        else 0
    )
    before = tx.get(TIDY, mount_id)
    last = before.value.auto_finished_at if before is not None else 0
    status = TidyStatus(
        state="Finished",
        started_at=now,
        finished_at=now,
        certificates_deleted=certificates,
        revocations_deleted=revocations,
        options=options,
        auto_finished_at=now if automatic else last,
    )
    put(tx, TIDY, mount_id, status)
    subject: dict[str, str | int] = {
        "mount": mount_id,
        "certificates": certificates,
        "revocations": revocations,
        "issuers": gone,
    }
    return Result(items=certificates + revocations + gone, subject=subject)


def _delete(tx: Transaction, mount_id: str, options: TidyOptions, now: int) -> tuple[int, int]:
    gone = [0, 0]
    where = {"mount_id": mount_id}
    if options.tidy_revoked_certs:
        before = now - (options.revoked_safety_buffer or options.safety_buffer)
        for revocation in tx.find(REVOCATIONS, where, below=("not_after", before), limit=BATCH):
            if _owed(tx, revocation.value):
                continue
            tx.delete(REVOCATIONS, revocation)
            entry = tx.get(CRL_JOURNAL, journal_key(revocation.value))
            if entry is not None:
                tx.delete(CRL_JOURNAL, entry)
            gone[1] += 1
    if options.tidy_cert_store:
        before = now - options.safety_buffer
        for certificate in tx.find(CERTIFICATES, where, below=("not_after", before), limit=BATCH):
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


def _expired_issuers(tx: Transaction, mount_id: str, before: int, now: int) -> int:
    """Issuers that ended before `before`, but for the default; their keys stay."""
    default = mount_config(tx, mount_id).default_issuer
    gone = [
        issuer.id for issuer in issuers(tx, mount_id) if issuer.not_after < before and issuer.id != default
    ]
    for issuer_id in gone:
        remove_issuer(tx, mount_id, issuer_id)
    if gone:
        settle(tx, mount_id, now)
    return len(gone)


def _auto_data(options: TidyOptions) -> dict[str, Any]:
    data = msgspec.structs.asdict(options)
    return {**data, "revoked_safety_buffer": options.revoked_safety_buffer or options.safety_buffer}


_OF_THE_RUN = (*KINDS, "acme_account_safety_buffer", "issuer_safety_buffer", "page_size", "pause_duration")


def _status_data(status: TidyStatus) -> dict[str, Any]:
    ran = bool(status.finished_at)
    count = 0 if ran else None
    shown = (*_OF_THE_RUN, "revoked_safety_buffer", "safety_buffer")
    options = _auto_data(status.options)
    data: dict[str, Any] = {name: options[name] if ran else None for name in shown}
    data |= {
        "acme_account_deleted_count": count,
        "acme_account_revoked_count": count,
        "acme_orders_deleted_count": count,
        "cert_store_deleted_count": status.certificates_deleted if ran else None,
        "current_cert_store_count": None,
        "current_revoked_cert_count": None,
        "error": None,
        "message": None,
        "missing_issuer_cert_count": count,
        "revoked_cert_deleted_count": status.revocations_deleted if ran else None,
        "state": status.state,
        "time_finished": rfc3339(status.finished_at) if ran else None,
        "time_started": rfc3339(status.started_at) if ran else None,
        "total_acme_account_count": count,
    }
    if status.auto_finished_at:
        data["last_auto_tidy_finished"] = rfc3339(status.auto_finished_at)
    return data
