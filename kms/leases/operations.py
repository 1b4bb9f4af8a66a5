"""The operations below sys/leases/."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kms.errors import KmsError, invalid, not_found
from kms.ids import check_name
from kms.leases.desk import LeaseDesk
from kms.operation import Call, Capability, Change, Effect, Field, Leased, Operation, Record, Result, Type
from kms.tables import Transaction

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

    def __init__(self, desk: LeaseDesk, accessor_of: Callable[[str], str]) -> None:
        self._desk = desk
        self._accessor_of = accessor_of

    def lookup(self, call: Call) -> Result:
        """One lease."""
        row = self._desk.live(_asked(call))
        if row is None:
            raise invalid("invalid lease")
        return Result(data=self._desk.shown(row))

    def listing(self, call: Call) -> Result:
        """Names directly below a prefix."""
        prefix = _checked(str(call.args.get("prefix") or "").strip("/"))
        names = self._desk.names(f"{prefix}/" if prefix else "")
        if not names:
            raise not_found()
        return Result(data={"keys": names}, items=len(names))

    def renew(self, call: Call) -> Change:
        """More time."""
        lease_id, wanted = _asked(call), int(call.args.get("increment") or 0)

        def write(tx: Transaction) -> Result:
            row = self._desk.renew(tx, lease_id, wanted)
            lease = Leased(row.key, row.value.ttl, renewable=row.value.renewable)
            return Result(lease=lease, subject={"lease": row.key, "ttl": row.value.ttl})

        return Change(write)

    def revoke(self, call: Call) -> Change:
        """The end of one lease; it is over when this is answered, with `sync` or without."""
        lease_id = _asked(call)

        def write(tx: Transaction) -> Result:
            taken = self._desk.revoke(tx, lease_id)
            return Result(status=_status(call), subject={"lease": lease_id, "revoked": taken})

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

        def write(tx: Transaction) -> Result:
            subject: dict[str, str | int] = {"prefix": asked}
            if role:
                subject["role"] = role
            else:
                subject["revoked"] = self._desk.revoke(tx, asked, force=force)
            count, left = self._desk.revoke_prefix(tx, f"{asked}/", role, force=force)
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

    def count(self, call: Call) -> Result:
        """How many leases wait for an operator, by mount."""
        _demand_irrevocable(call)
        counts: dict[str, int] = {}
        for row in self._desk.irrevocable():
            accessor = self._accessor_of(row.value.mount_id)
            counts[accessor] = counts.get(accessor, 0) + 1
        return Result(data={"counts": counts, "lease_count": sum(counts.values())})

    def irrevocable(self, call: Call) -> Result:
        """Which leases wait for an operator, and why."""
        _demand_irrevocable(call)
        limit = _limit(str(call.args.get("limit") or ""))
        rows = self._desk.irrevocable()
        leases: list[dict[str, Any]] = [
            {
                "lease_id": row.key,
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
            Operation("sys.leases.lookup", update, self.lookup, fields=(LEASE,)),
            Operation("sys.leases.list", listed, self.listing, fields=(PREFIX,), sudo=True),
            Operation("sys.leases.renew", update, self.renew, effect=state, fields=(*given, _INCREMENT)),
            Operation("sys.leases.revoke", update, self.revoke, effect=state, fields=(*given, _SYNC)),
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


def _asked(call: Call) -> str:
    lease_id = str(call.args.get("url_lease_id") or call.args.get("lease_id") or "")
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
