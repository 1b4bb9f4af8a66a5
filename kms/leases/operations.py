"""The operations below sys/leases/."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kms.errors import KmsError, invalid, not_found
from kms.ids import check_name
from kms.leases.desk import LeaseDesk
from kms.leases.model import Lease
from kms.leases.naming import Places, shown
from kms.operation import (
    Call,
    Capability,
    Change,
    Effect,
    Field,
    Leased,
    NamespaceRef,
    Operation,
    Record,
    Result,
    Type,
)
from kms.tables import Row, Transaction

_MAX_ID = 1024
_LIMIT = 10_000
_EXPIRED = "leases.expire"
_TIDY = "Tidy operation successfully started. What is over is taken back step by step."

LEASE = Field("lease_id", record=Record.CLEAR)
URL_LEASE = Field("url_lease_id", record=Record.CLEAR)
PREFIX = Field("prefix", record=Record.CLEAR)
_SYNC = Field("sync", Type.BOOL, default=True, record=Record.CLEAR)
_INCREMENT = Field("increment", Type.SECONDS, default=0, record=Record.CLEAR)
_ROLE = Field("role", default="", record=Record.CLEAR)
_TYPE = Field("type", default="", record=Record.CLEAR)


class LeaseHandlers:
    """Handlers; each takes a Call."""

    def __init__(self, desk: LeaseDesk, accessor_of: Callable[[str], str], places: Places) -> None:
        self._desk = desk
        self._accessor_of = accessor_of
        self._places = places

    def _asked(self, call: Call) -> tuple[NamespaceRef, str]:
        """The namespace of the lease that a call is about, and its row key."""
        lease_id = _asked(call)
        namespace = self._places.target(call, lease_id)
        return namespace, self._places.key(namespace, lease_id)

    def target(self, call: Call) -> NamespaceRef:
        """The namespace in which a call about a lease is decided on."""
        return self._places.target(call, _given(call))

    def lookup(self, call: Call) -> Result:
        """One lease."""
        namespace, key = self._asked(call)
        row = self._desk.live(key)
        if row is None:
            raise invalid("invalid lease")
        return Result(data=self._desk.shown(row, namespace))

    def listing(self, call: Call) -> Result:
        """Names directly below a prefix."""
        prefix = _checked(str(call.args.get("prefix") or "").strip("/"))
        if self._apart(call, prefix):
            raise not_found()
        names = self._desk.names(
            call.namespace,
            f"{prefix}/" if prefix else "",
            lambda path: self._places.of_path(path).path == path,
        )
        if not names:
            raise not_found()
        return Result(data={"keys": names}, items=len(names))

    def _apart(self, call: Call, prefix: str) -> bool:
        """Whether a prefix reaches into a namespace below the caller's: what is there is asked for there."""
        return self._places.of_path(f"{call.namespace.path}{prefix}/") != call.namespace

    def renew(self, call: Call) -> Change:
        """More time."""
        (namespace, key), wanted = self._asked(call), int(call.args.get("increment") or 0)

        def write(tx: Transaction) -> Result:
            row = self._desk.renew(tx, key, wanted)
            lease = Leased(shown(namespace, row.key), row.value.ttl, renewable=row.value.renewable)
            return Result(lease=lease, subject={"lease": row.key, "ttl": row.value.ttl})

        return Change(write)

    def revoke(self, call: Call) -> Change:
        """The end of one lease; it is over when this is answered, with `sync` or without."""
        _, key = self._asked(call)

        def write(tx: Transaction) -> Result:
            taken = self._desk.revoke(tx, key)
            return Result(status=_status(call), subject={"lease": key or _given(call), "revoked": taken})

        return Change(write)

    def revoke_prefix(self, call: Call) -> Change:
        """The end of all below a prefix, or of what one user or role got there."""
        return self._revoke_prefix(call, force=False)

    def revoke_force(self, call: Call) -> Change:
        """The same; what cannot be taken back is forgotten."""
        return self._revoke_prefix(call, force=True)

    def _revoke_prefix(self, call: Call, *, force: bool) -> Change:
        asked = _checked(str(call.args["prefix"]).strip("/"))
        role = str(call.args.get("role") or "")
        if role:
            check_name(role, "role")
        if self._apart(call, asked):
            raise invalid("this prefix is that of another namespace: ask there (X-Vault-Namespace)")
        prefix = call.namespace.path + asked

        def write(tx: Transaction) -> Result:
            subject: dict[str, str | int] = {"prefix": prefix}
            if role:
                subject["role"] = role
            else:
                subject["revoked"] = self._desk.revoke(
                    tx, self._places.key(call.namespace, asked), force=force
                )
            count, left = self._desk.revoke_prefix(tx, f"{prefix}/", role, force=force)
            notes = ("The rest of the leases below this prefix is being revoked in the background.",)
            return Result(
                status=_status(call), subject=subject | {"count": count}, warnings=notes if left else ()
            )

        return Change(write)

    def tidy(self, _call: Call) -> Change:
        """Take back what is over, a batch of it at once; the periodic task does the rest."""

        def write(tx: Transaction) -> Result:
            return Result(warnings=(_TIDY,), subject=expired(self._desk, tx))

        return Change(write)

    def _irrevocable(self, call: Call) -> list[Row[Lease]]:
        rows = self._desk.irrevocable()
        return [row for row in rows if self._places.of_path(row.value.path) == call.namespace]

    def count(self, call: Call) -> Result:
        """How many leases wait for an operator, by mount."""
        _demand_irrevocable(call)
        counts: dict[str, int] = {}
        for row in self._irrevocable(call):
            accessor = self._accessor_of(row.value.mount_id)
            counts[accessor] = counts.get(accessor, 0) + 1
        return Result(data={"counts": counts, "lease_count": sum(counts.values())})

    def irrevocable(self, call: Call) -> Result:
        """Which leases wait for an operator, and why."""
        _demand_irrevocable(call)
        limit = _limit(str(call.args.get("limit") or ""))
        rows = self._irrevocable(call)
        leases: list[dict[str, Any]] = [
            {
                "lease_id": shown(call.namespace, row.key),
                "mount_id": self._accessor_of(row.value.mount_id),
                "error": row.value.error,
            }
            for row in rows[:limit]
        ]
        return Result(data={"lease_count": len(rows), "leases": leases}, items=len(leases))

    def expire(self, _call: Call) -> Result:
        """Only the jobs process does this; the operation names it in the records."""
        raise not_found()

    def table(self) -> list[Operation]:
        """All of them."""
        read, update, listed = Capability.READ, Capability.UPDATE, Capability.LIST
        state = Effect.STATE
        given = (LEASE, URL_LEASE)
        return [
            Operation("sys.leases.lookup", update, self.lookup, fields=(LEASE,), belongs=self.target),
            Operation("sys.leases.list", listed, self.listing, fields=(PREFIX,), sudo=True),
            Operation(
                "sys.leases.renew",
                update,
                self.renew,
                effect=state,
                fields=(*given, _INCREMENT),
                belongs=self.target,
            ),
            Operation(
                "sys.leases.revoke",
                update,
                self.revoke,
                effect=state,
                fields=(*given, _SYNC),
                belongs=self.target,
            ),
            Operation(
                "sys.leases.revoke_prefix",
                update,
                self.revoke_prefix,
                effect=state,
                fields=(PREFIX, _SYNC, _ROLE),
                sudo=True,
            ),
            Operation(
                "sys.leases.revoke_force",
                update,
                self.revoke_force,
                effect=state,
                fields=(PREFIX,),
                sudo=True,
            ),
            Operation("sys.leases.tidy", update, self.tidy, effect=state),
            Operation("sys.leases.count", read, self.count, fields=(_TYPE,)),
            Operation("sys.leases", read, self.irrevocable, fields=(_TYPE, Field("limit")), sudo=True),
            Operation(_EXPIRED, update, self.expire, effect=state),
        ]


def expired(desk: LeaseDesk, tx: Transaction) -> dict[str, str | int]:
    """Take back a batch of what is over; facts for the record."""
    taken, count, failed = desk.expire(tx)
    return {"count": count, "failed": failed, "revoked": ",".join(taken)}


def _given(call: Call) -> str:
    return str(call.args.get("url_lease_id") or call.args.get("lease_id") or "")


def _asked(call: Call) -> str:
    lease_id = _given(call)
    if not lease_id:
        raise invalid("lease_id must be specified")
    return _checked(lease_id)


def _checked(text: str) -> str:
    if len(text) > _MAX_ID or not text.isprintable():
        raise invalid("a lease ID or prefix is at most 1,024 printable characters")
    return text


def _status(call: Call) -> int | None:
    return None if call.args.get("sync", True) else 202


def _demand_irrevocable(call: Call) -> None:
    if call.args.get("type") != "irrevocable":
        raise not_found()


def _limit(text: str) -> int:
    if text in {"", "none"}:
        return _LIMIT
    try:
        return max(0, int(text))
    except ValueError:
        error: KmsError = invalid(f"invalid 'limit' provided: {text!r} is no number")
        raise error from None
