"""Commands and dates that change a key's state, and the history of it.

Each change is one commit: the key's row, and a row of its history with time, actor, reason and the
state before. History rows are never changed or removed; a key that was destroyed keeps them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from kms.clock import rfc3339
from kms.errors import invalid, not_found
from kms.keys.birth import answer, facts, named
from kms.keys.core import Core, must
from kms.keys.life import NEED_REASON, Command, Life, Transition, obey, state_at, turns
from kms.keys.lifefields import text
from kms.keys.model import KeyVersion, NamedKey, RetiredKey, VersionState
from kms.keys.states import State, destroyed
from kms.keys.store import KEY_VERSIONS, NAMED_KEYS, RETIRED_KEYS, TRANSITIONS, name_key, version_key
from kms.operation import Change, External, Result
from kms.tables import Reader, Row, Transaction


class Living:
    """The verbs. One per process."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def command(
        self, mount_id: str, name: str, command: Command, by: str, reason: str, *, accept: bool
    ) -> Change:
        """Change the state of a key; the key object as it then is.

        Args:
            mount_id: of the mount that the name is in.
            name: of the key.
            command: what it shall become.
            by: who says so.
            reason: why; suspending and marking compromised need one.
            accept: accept the risk of opening what the key protected. May also be said later, by
                repeating the command.
        """
        _check_reason(name, command, reason)

        def write(tx: Transaction) -> Result:
            row = must(tx, mount_id, name, f"no existing key named {name} could be found")
            now = self._core.clock.now()
            key, before = _caught_up(tx, row.value, now), state_at(row.value.life, now)
            life = key.life if _repeated(before, command) else obey(name, key.life, command, now)
            if accept and life.state not in (State.SUSPENDED, State.COMPROMISED):
                raise invalid("accept_risk belongs to suspend and to compromise")
            life = replace(life, accepted=accept)
            if life == key.life:
                note = f"key {name} is in state {before.value} already"
                return _unchanged(tx, row, key, note)
            line = Transition(
                at=now, before=before.value, after=life.state.value, by=by, reason=reason, accepted=accept
            )
            return self._written(tx, row, _noted(tx, replace(key, life=life), line), line)

        return Change(write)

    def steal(self, mount_id: str, name: str, version: int, by: str, reason: str, *, accept: bool) -> Change:
        """Mark versions up to this one as compromised, while newer ones of the same name go on.

        Args:
            mount_id: of the mount that the name is in.
            name: of the key.
            version: not the newest, as that is the key: rotate first.
            by: who says so.
            reason: why.
            accept: accept the risk of opening what these versions protected, to rewrap it.
        """
        _check_reason(name, Command.COMPROMISE, reason)

        def write(tx: Transaction) -> Result:
            row = must(tx, mount_id, name, f"no existing key named {name} could be found")
            now = self._core.clock.now()
            key = _caught_up(tx, row.value, now)
            if not 0 < version < key.latest_version:
                raise invalid(
                    f"version is 1 to {key.latest_version - 1}; rotate first if the newest is compromised, "
                    "or leave version out to mark the whole key"
                )
            if version < key.life.stolen:
                raise invalid(f"versions up to {key.life.stolen} are compromised already, for ever")
            life = replace(key.life, stolen=version, stolen_accepted=accept)
            if life == key.life:
                note = f"these versions of key {name} are marked already"
                return _unchanged(tx, row, key, note)
            line = Transition(
                at=now,
                before=state_at(key.life, now).value,
                after=State.COMPROMISED.value,
                by=by,
                reason=reason,
                versions=version,
                accepted=accept,
            )
            return self._written(tx, row, _noted(tx, replace(key, life=life), line), line)

        return Change(write)

    def _written(self, tx: Transaction, row: Row[NamedKey], key: NamedKey, line: Transition) -> Result:
        tx.replace(NAMED_KEYS, row, key)
        done = answer(tx, key, now=self._core.clock.now())
        return Result(
            data=done.data,
            subject={
                **facts(key, line.versions or key.latest_version),
                "state_before": line.before,
                "state": line.after,
                "risk_accepted": int(line.accepted),
            },
        )

    def history(self, mount_id: str, name: str, key_id: str = "") -> Result:
        """Every change of a key's state, from its making on, and the states of its versions.

        A name that no key has any more answers with the key that had it last, destroyed or not; `earlier_keys` are the
        ids of those before, each of which can be asked for.

        Args:
            mount_id: of the mount that the name is in.
            name: of the key.
            key_id: one that has or had this name, "" for the newest.

        Raises:
            KmsError(NOT_FOUND): there never was such a key, as far as the records go.
        """
        reader = self._core.store.reader()
        row = reader.get(NAMED_KEYS, name_key(mount_id, name))
        gone = {item.key.id: item for item in _gone(reader, mount_id, name)}
        wanted = key_id or (row.value.id if row is not None else next(reversed(gone), ""))
        past = gone.get(wanted)
        if row is not None and row.value.id == wanted:
            key = row.value
        elif past is not None:
            key = past.key
        else:
            raise not_found()
        data, subject = self._told(key), facts(key, key.latest_version)
        if past is not None:
            data["deleted_time"] = rfc3339(past.deleted)
            data["destroyed_time"] = rfc3339(past.destroyed) if past.destroyed else ""
        data["earlier_keys"] = [one for one in gone if one != key.id]
        return Result(data=data, items=len(data["transitions"]), subject=subject)

    def _told(self, key: NamedKey) -> dict[str, Any]:
        now = self._core.clock.now()
        lines = history(self._core.store.reader(), key)
        for state, at in turns(key.life, now):  # due, and not yet written down by the jobs process
            lines.append(_line(Transition(at=at, before="", after=state.value, by="", reason="its date")))
            lines[-1]["previous_state"] = lines[-2]["state"]
        return {
            "name": key.name,
            "key_id": key.id,
            "state": state_at(key.life, now).value,
            "transitions": lines,
            "version_states": self._versions(key, now),
        }

    def _versions(self, key: NamedKey, now: float) -> dict[str, str]:
        rows = self._core.store.reader().scan(KEY_VERSIONS, f"{key.id}/")
        return {
            str(row.value.version): _version_state(key, row.value, now)
            for row in rows
            if row.value.state is not VersionState.PLANNED
        }

    # -- dates ------------------------------------------------------------------------------------

    def turn(self, key: NamedKey) -> External[Any]:
        """Write down what dates have brought; for the jobs process. Safe to repeat."""
        subject = facts(key, key.latest_version) | {"mount": key.mount, "name": key.name}

        def conclude(tx: Transaction, _done: None) -> Result:
            row = named(tx, key)
            changed = _caught_up(tx, row.value, self._core.clock.now())
            if changed != row.value:
                tx.replace(NAMED_KEYS, row, changed)
            before = row.value.life.state.value
            return Result(subject=subject | {"state_before": before, "state": changed.life.state.value})

        return External(
            intent=subject,
            begin=lambda _tx: None,
            perform=lambda: None,
            conclude=conclude,
            abandon=lambda _tx, _error: None,
        )

    def resolve(self, intent: Mapping[str, str | int]) -> External[Any] | None:
        """Finish a turn that a crash interrupted (`Operation.resolve`)."""
        row = self._core.row(str(intent["mount"]), str(intent["name"]))
        if row is None or row.value.id != intent["key_id"]:
            return None
        return self.turn(row.value)


def _unchanged(tx: Transaction, row: Row[NamedKey], key: NamedKey, note: str) -> Result:
    if key != row.value:  # what a date had brought is written down all the same
        tx.replace(NAMED_KEYS, row, key)
    return answer(tx, key, warnings=(note,))


def bury(tx: Transaction, key: NamedKey, now: float) -> NamedKey:
    """The key after its material was destroyed, with the line of it in its history."""
    key = _caught_up(tx, key, now)
    life = replace(key.life, state=destroyed(key.life.state), since=now, accepted=False)
    line = Transition(
        at=now,
        before=key.life.state.value,
        after=life.state.value,
        by="",
        reason="destroyed after its waiting time",
    )
    return _noted(tx, replace(key, life=life), line)


def history(reader: Reader, key: NamedKey) -> list[dict[str, Any]]:
    """The lines of a key's history. The first is its making, which the key itself remembers."""
    rows = reader.scan(TRANSITIONS, f"{key.id}/")
    first = rows[0].value.before if rows else key.life.state.value
    made = Transition(at=key.created, before="", after=first, by=key.life.created_by, reason="made")
    return [_line(made), *(_line(row.value) for row in rows)]


def _caught_up(tx: Transaction, key: NamedKey, now: float) -> NamedKey:
    """The key with what dates have brought written down, each at its own time."""
    for state, at in turns(key.life, now):
        line = Transition(at=at, before=key.life.state.value, after=state.value, by="", reason="its date")
        key = _noted(tx, replace(key, life=replace(key.life, state=state, since=at, accepted=False)), line)
    return key


def _noted(tx: Transaction, key: NamedKey, line: Transition) -> NamedKey:
    number = key.life.changes + 1
    tx.insert(TRANSITIONS, version_key(key.id, number), line)
    return replace(key, life=replace(key.life, changes=number))


def _check_reason(name: str, command: Command, reason: str) -> None:
    if command in NEED_REASON and not reason.strip():
        raise invalid(f"keys/{name}/{command.value} needs a reason, which is kept in the key's history")
    text("reason", reason)


def _repeated(before: State, command: Command) -> bool:
    return (before, command) in {
        (State.SUSPENDED, Command.SUSPEND),
        (State.COMPROMISED, Command.COMPROMISE),
        (State.DEACTIVATED, Command.DEACTIVATE),
        (State.ACTIVE, Command.ACTIVATE),
        (State.ACTIVE, Command.RESUME),
    }


def _gone(reader: Reader, mount_id: str, name: str) -> list[RetiredKey]:
    """Whole keys that had this name and were deleted, the last one last."""
    rows = reader.scan(RETIRED_KEYS, f"{mount_id}/")
    whole = [row.value for row in rows if row.value.key.name == name and not row.value.last]
    return sorted(whole, key=lambda item: item.deleted)


def _version_state(key: NamedKey, version: KeyVersion, now: float) -> str:
    life, state = key.life, state_at(key.life, now)
    if version.version <= life.stolen:
        state = State.COMPROMISED
    elif state is State.ACTIVE:
        over = bool(life.cryptoperiod) and version.created + life.cryptoperiod <= now
        if over or version.version < max(key.min_encryption_version, key.min_decryption_version):
            state = State.DEACTIVATED
    if version.state is VersionState.DESTROYED and state is not State.DESTROYED_COMPROMISED:
        state = destroyed(state)
    return state.value


def _line(line: Transition) -> dict[str, Any]:
    return {
        "time": rfc3339(line.at),
        "previous_state": line.before,
        "state": line.after,
        "by": line.by,
        "reason": line.reason,
        "versions": line.versions,
        "risk_accepted": line.accepted,
    }


__all__ = ["Command", "Life", "Living", "bury", "history"]
