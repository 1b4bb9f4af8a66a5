"""Named keys of identity tokens: made, changed, rotated, ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec.structs import replace

from kms.clock import Clock
from kms.errors import ErrorKind, KmsError, invalid, not_found
from kms.identity.oidc.model import ANY, CLIENTS, DEFAULT, KEYS, ROLES, OidcKey, RingEntry
from kms.identity.oidc.signing import ALGORITHMS, Born, SigningKeys, due_of
from kms.identity.within import Within, Writing
from kms.keys.retirement import Chore
from kms.operation import Call, Change, External, Outcome, Result
from kms.tables import Reader, Row, Store, Transaction

ROTATE: Final = "identity.oidc.key.rotate-due"
_LEAST_PERIOD: Final = 60
_PROTECTIONS: Final = frozenset({"", "software", "hsm"})


def named(reader: Reader, name: str) -> OidcKey | None:
    """A named key; `default` is there before it was ever written, without a signing key."""
    row = reader.get(KEYS, name)
    if row is not None:
        return row.value
    return OidcKey(allowed_client_ids=(ANY,)) if name == DEFAULT else None


class OidcKeys:
    """One per process, safe to use from several threads."""

    def __init__(self, store: Store, clock: Clock, signing: SigningKeys) -> None:
        self._store = store
        self._clock = clock
        self._signing = signing

    def _own(self, call: Call) -> Within:
        return Within(self._store.reader(), call.namespace)

    def exists(self, call: Call) -> bool:
        """Whether the key is there: creating and updating are different rights."""
        return named(self._own(call), call.args["name"]) is not None

    def read(self, call: Call) -> Result:
        """One key's settings."""
        key = named(self._own(call), call.args["name"])
        if key is None:
            raise not_found()
        return Result(data=_shown(key))

    def listing(self, call: Call) -> Result:
        """All names."""
        names = sorted({*self._own(call).keys(KEYS), DEFAULT})
        return Result(data={"keys": names}, items=len(names))

    def write(self, call: Call) -> Outcome:
        """Make or change a named key; a new one, and one with a new algorithm, gets two signing keys."""
        reader, name = self._own(call), call.args["name"]
        row = reader.get(KEYS, name)
        before = named(reader, name)
        key = _changed(before or OidcKey(), call.args, call.given)
        if before is not None:
            _demand_longer(reader, name, key.verification_ttl)
        anew = before is None or not before.signing or key.algorithm != before.algorithm
        if before is not None and not before.signing and name == DEFAULT:
            anew = (
                key.algorithm != before.algorithm
            )  # it gets one when it is first needed, as the peer has it
        born: list[Born] = []
        if anew:
            born = [self._signing.conceive(key), self._signing.conceive(key)]
            key = self._with(key, born)
        key = self._scheduled(key)

        def write(tx: Transaction) -> Result:
            _put(Writing(tx, call.namespace), name, row, key)
            return Result(subject={"key": name})

        return self._signing.bear(born, write)

    def _with(self, key: OidcKey, born: list[Born]) -> OidcKey:
        """The key with two new signing keys; one that signed before ends after its verification time."""
        end = self._clock.now() + key.verification_ttl
        ring = tuple(replace(entry, expires_at=entry.expires_at or end) for entry in key.ring)
        kids = [one.name for one, _ in born]
        fresh = tuple(RingEntry(kid, key.algorithm) for kid in kids)
        return replace(key, ring=(*ring, *fresh), signing=kids[0], next=kids[1])

    def _scheduled(self, key: OidcKey) -> OidcKey:
        at = min(key.next_rotation, self._clock.now() + key.rotation_period)
        return replace(key, next_rotation=at, due=due_of(key.ring, at))

    def _born_default(self, own: Within) -> tuple[list[Born], OidcKey, Row[OidcKey] | None] | None:
        """What `default` needs before it can sign; None when it has it."""
        row = own.get(KEYS, DEFAULT)
        key = named(own, DEFAULT) or OidcKey()
        if key.signing:
            return None
        born = [self._signing.conceive(key), self._signing.conceive(key)]
        return born, self._scheduled(self._with(key, born)), row

    def needed(self, own: Within, name: str, write: Change) -> Outcome:
        """`write`, which makes a named key used; a namespace's `default` gets its signing keys in the same commit."""
        missing = self._born_default(own) if name == DEFAULT else None
        if missing is None:
            return write
        born, key, row = missing

        def both(tx: Transaction) -> Result:
            _put(Writing(tx, own.namespace), DEFAULT, row, key)
            return write.write(tx)

        return self._signing.bear(born, both)

    def delete(self, call: Call) -> Change:
        """Delete a named key that nothing refers to; its signing keys end at once."""
        name = call.args["name"]
        if name == DEFAULT:
            raise invalid(f'deletion of key "{DEFAULT}" not allowed')

        def write(rows: Transaction) -> Result:
            tx = Writing(rows, call.namespace)
            for what, names in (("roles", _roles(tx, name)), ("clients", _clients(tx, name))):
                if names:
                    raise invalid(
                        f'unable to delete key "{name}" because it is currently referenced by these {what}: '
                        f"{', '.join(names)}"
                    )
            row = tx.get(KEYS, name)
            if row is not None:
                for entry in row.value.ring:
                    self._signing.retire(rows, entry.kid)
                tx.delete(KEYS, row)
            return Result(subject={"key": name})

        return Change(write)

    # -- rotation ----------------------------------------------------------------------------------------

    def rotate(self, call: Call) -> Outcome:
        """The key that was announced signs from now on, and another is announced."""
        name, own = call.args["name"], self._own(call)
        row = own.get(KEYS, name)
        if row is None and name != DEFAULT:
            raise invalid(f'no named key found at "{name}"')
        if row is None or not row.value.signing:
            return self.needed(own, name, Change(lambda _tx: Result(subject={"key": name})))
        ttl = call.args["verification_ttl"] if "verification_ttl" in call.given else None
        return self._rotated(own.stored(row), ttl)

    def _rotated(self, row: Row[OidcKey], ttl: int | None) -> Change | External[list[bytes]]:
        now, key = self._clock.now(), row.value
        born = self._signing.conceive(key)
        end = now + (key.verification_ttl if ttl is None else ttl)
        ring = tuple(
            replace(entry, expires_at=max(end, 1.0)) if entry.kid == key.signing else entry
            for entry in key.ring
        )
        new = replace(
            key,
            ring=(*ring, RingEntry(born[0].name, key.algorithm)),
            signing=key.next,
            next=born[0].name,
            next_rotation=now + key.rotation_period,
        )

        def write(tx: Transaction) -> Result:
            tx.replace(KEYS, row, self._trimmed(tx, new, now))
            return Result(subject={"key": row.key, "kid": new.signing})

        return self._signing.bear([born], write)

    def _trimmed(self, tx: Transaction, key: OidcKey, now: float) -> OidcKey:
        """The key without the entries whose time is over, of which the material goes too."""
        kept = []
        for entry in key.ring:
            if 0 < entry.expires_at <= now:
                self._signing.retire(tx, entry.kid)
            else:
                kept.append(entry)
        return replace(key, ring=tuple(kept), due=due_of(kept, key.next_rotation))

    def chores(self, now: float) -> list[Chore]:
        """Rotations and ends that have come due, for the jobs process."""
        rows = self._store.reader().find(KEYS, {}, below=("due", now), limit=16)
        return [Chore(ROTATE, row.key, self._chore(row, now)) for row in rows]

    def _chore(self, row: Row[OidcKey], now: float) -> External[Any]:
        if row.value.next_rotation <= now and row.value.signing:
            work = self._rotated(row, None)
            if isinstance(work, External):
                return work
            change = work
        else:
            change = Change(lambda tx: self._end(tx, row, now))
        return External(
            intent={"key": row.key, "keys": ""},
            begin=lambda _tx: None,
            perform=lambda: None,
            conclude=lambda tx, _done: change.write(tx),
            abandon=lambda _tx, _error: None,
        )

    def _end(self, tx: Transaction, row: Row[OidcKey], now: float) -> Result:
        key = row.value
        if not key.signing:
            key = replace(key, next_rotation=now + key.rotation_period)  # nobody has needed it yet
        tx.replace(KEYS, row, self._trimmed(tx, key, now))
        return Result(subject={"key": row.key})


def _changed(before: OidcKey, args: Mapping[str, Any], given: frozenset[str]) -> OidcKey:
    names = ("algorithm", "rotation_period", "verification_ttl", "protection")
    changes: dict[str, Any] = {name: args[name] for name in names if name in given}
    if "allowed_client_ids" in given:
        changes["allowed_client_ids"] = tuple(args["allowed_client_ids"])
    key = replace(before, **changes)
    if key.rotation_period < _LEAST_PERIOD:
        raise invalid("rotation_period must be at least one minute")
    if key.verification_ttl > 10 * key.rotation_period:
        raise invalid("verification_ttl cannot be longer than 10x rotation_period")
    if key.algorithm not in ALGORITHMS:
        raise invalid(f'unknown signing algorithm "{key.algorithm}"')
    if key.protection not in _PROTECTIONS:
        raise invalid("protection must be 'software' or 'hsm'")
    if before.signing and key.protection != before.protection and key.algorithm == before.algorithm:
        raise invalid("protection is chosen with a new key, or with another algorithm")
    return key


def _demand_longer(reader: Reader, name: str, ttl: int) -> None:
    if any(row.value.key == name and row.value.ttl > ttl for row in reader.scan(ROLES)):
        raise invalid(
            f'unable to update key "{name}" because it is currently referenced by one or more roles with a token ttl '
            f"greater than {ttl} seconds"
        )
    if any(row.value.key == name and row.value.id_token_ttl > ttl for row in reader.scan(CLIENTS)):
        raise invalid(
            f'unable to update key "{name}" because it is currently referenced by one or more clients with an '
            f"id_token_ttl greater than {ttl} seconds"
        )


def _roles(reader: Reader, name: str) -> list[str]:
    return [row.key for row in reader.scan(ROLES) if row.value.key == name]


def _clients(reader: Reader, name: str) -> list[str]:
    return [row.key for row in reader.scan(CLIENTS) if row.value.key == name]


def _put(tx: Transaction, name: str, row: Row[OidcKey] | None, key: OidcKey) -> None:
    if row is not None:
        tx.replace(KEYS, row, key)
        return
    if tx.get(KEYS, name) is not None:
        raise KmsError(ErrorKind.CONFLICT, "the key was made by another request; read it and try again")
    tx.insert(KEYS, name, key)


def _shown(key: OidcKey) -> dict[str, Any]:
    return {
        "algorithm": key.algorithm,
        "allowed_client_ids": list(key.allowed_client_ids),
        "protection": key.protection,
        "rotation_period": key.rotation_period,
        "verification_ttl": key.verification_ttl,
    }
