"""What must be true after any crash, written once.

A `Ledger` is what clients were told while they worked; an `Observed` is what the server, its log and its token
show afterwards, at rest. `broken` compares the two and names each difference by the number of its invariant:

    I1  an acknowledged key version decrypts what it encrypted, or its destruction is in the log
    I2  each key has exactly one primary version
    I3  version numbers never repeat or go back
    I4  each state change has exactly one outcome record, each external effect also an intent, and vice versa
    I5  no object in the token without a row, no active row without an object
    I6  a request that was denied or failed changed nothing
    I7  each lease is active, revoked, or listed as irrevocable (no engine of today gives leases)
    I8  no secret of the run is in the logs, the audit folder, the database file or the process table
    I9  each checkpoint is consistent with the one before
    I10 a serial is in one certificate at most, and each certificate has a stored intent
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from tests.harness.log import Entry

# The names that the log gives to what the clients do.
CREATE, ROTATE, ROTATE_ROOT = "transit.keys.create", "transit.keys.rotate", "sys.root.rotate"
ISSUE, REVOKE = "pki.issue", "pki.revoke"


@dataclass
class Attempt:
    """One request of a client, and what became of it as far as the client knows."""

    operation: str
    subject: str
    state: str = "pending"  # then acknowledged, refused or unknown


@dataclass(frozen=True)
class Sample:
    """Something that a key version made and must be able to undo or confirm."""

    key: str
    version: int
    message: str
    made: str  # a ciphertext, or a signature
    sealed: bool = True  # a ciphertext


class Ledger:
    """What the clients know. Thread safe."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.attempts: list[Attempt] = []
        self.samples: list[Sample] = []
        self.secrets: list[str] = []
        self.serials: list[str] = []
        self.revoked: list[str] = []
        self.latest: dict[str, int] = {}

    def begin(self, operation: str, subject: str) -> Attempt:
        """A request is about to be sent."""
        attempt = Attempt(operation, subject)
        with self.lock:
            self.attempts.append(attempt)
        return attempt

    def in_flight(self) -> Counter[str]:
        """Requests without an answer, per operation."""
        with self.lock:
            return Counter(attempt.operation for attempt in self.attempts if attempt.state == "pending")

    def of(self, operation: str, state: str) -> list[str]:
        """Subjects of attempts."""
        with self.lock:
            return [a.subject for a in self.attempts if a.operation == operation and a.state == state]


@dataclass
class Observed:
    """What is there, at rest.

    Args:
        versions: key -> the version numbers that it lists.
        primary: key -> the version that it encrypts or signs with now.
        lost: samples that the server could not undo or confirm, with its words.
        log: all records.
        certificates: serials of issued leaf certificates that are stored.
        revoked: serials on the CRL.
        root_version: the newest root.
        objects: ids of objects in the token that this project made.
        rows: id -> whether an object must exist.
        leaks: places where a secret was found.
        checkpoints: (size, root recomputed from the leaves, root that the checkpoint said), oldest first.
    """

    versions: dict[str, list[int]] = field(default_factory=dict)
    primary: dict[str, int] = field(default_factory=dict)
    lost: list[tuple[Sample, str]] = field(default_factory=list)
    log: list[Entry] = field(default_factory=list)
    certificates: list[str] = field(default_factory=list)
    revoked: list[str] = field(default_factory=list)
    root_version: int = 1
    objects: set[str] = field(default_factory=set)
    rows: dict[str, bool] = field(default_factory=dict)
    leaks: list[str] = field(default_factory=list)
    checkpoints: list[tuple[int, str, str]] = field(default_factory=list)


def i1(ledger: Ledger, seen: Observed) -> Iterator[str]:
    destroyed = {
        entry.resource for entry in seen.log if entry.closed_well and entry.operation.endswith(".delete")
    }
    for sample, said in seen.lost:
        if f"transit/keys/{sample.key}" not in destroyed:
            yield f"{sample.key} version {sample.version} was acknowledged, and now: {said}"
    for key, version in ledger.latest.items():
        if version not in seen.versions.get(key, []):
            yield f"{key} version {version} was acknowledged and is not listed"


def i2(_ledger: Ledger, seen: Observed) -> Iterator[str]:
    for key, versions in seen.versions.items():
        if not versions or seen.primary.get(key) != max(versions):
            yield f"{key} has versions {versions} and works with {seen.primary.get(key)}"


def i3(ledger: Ledger, seen: Observed) -> Iterator[str]:
    for key, versions in seen.versions.items():
        # A number that an interrupted rotation took may stay unused; none is used twice.
        if any(older >= newer for older, newer in pairwise([0, *versions])):
            yield f"{key} has versions {versions}"
        if max(versions, default=0) < ledger.latest.get(key, 0):
            yield f"{key} went back from {ledger.latest[key]} to {max(versions, default=0)}"


def i4(ledger: Ledger, seen: Observed) -> Iterator[str]:
    closings = Counter((entry.operation, entry.resource) for entry in seen.log if entry.closed_well)
    yield from _events_are_closed_once(seen.log)
    yield from _keys_match_the_log(seen, closings)
    # A request may finish the rotation that another began, so two may name one version; none may be missing.
    good = [entry for entry in seen.log if entry.closed_well and entry.operation == ROTATE_ROOT]
    reached = {int(entry.subject.get("to_version", 0)) for entry in good}
    if reached != set(range(2, seen.root_version + 1)):
        yield f"the root has version {seen.root_version}, and rotations to {sorted(reached)} are recorded"
    yield from _certificates_match_the_log(ledger, seen)


def _events_are_closed_once(log: list[Entry]) -> Iterator[str]:
    intents = {entry.id: entry.operation for entry in log if entry.phase == "intent"}
    closed = Counter(entry.id for entry in log if entry.phase in {"done", "outcome"})
    without = sorted({entry.id for entry in log if entry.phase == "outcome"} - set(intents))
    yield from (f"the outcome {name} has no intent" for name in without)
    yield from (f"event {name} is closed {count} times" for name, count in closed.items() if count != 1)
    yield from (f"intent {name} ({intents[name]}) is open" for name in sorted(set(intents) - set(closed)))


def _keys_match_the_log(seen: Observed, closings: Counter[tuple[str, str]]) -> Iterator[str]:
    for key, versions in seen.versions.items():
        made, rotated = (
            closings[CREATE, f"transit/keys/{key}"],
            closings[ROTATE, f"transit/keys/{key}/rotate"],
        )
        if made != 1:
            yield f"{key} exists, and its creation is recorded {made} times"
        if rotated != len(versions) - 1:
            yield f"{key} has {len(versions)} versions, and {rotated} recorded rotations"
    recorded = {resource.split("/")[2] for operation, resource in closings if operation in {CREATE, ROTATE}}
    yield from (f"{key} is on record and does not exist" for key in sorted(recorded - set(seen.versions)))


def _certificates_match_the_log(ledger: Ledger, seen: Observed) -> Iterator[str]:
    intended = {entry.id: serial_of(entry) for entry in seen.log if entry.phase == "intent"}

    def serials(operation: str, outcome: str) -> set[str]:
        found = [
            e
            for e in seen.log
            if e.phase in {"done", "outcome"} and (e.operation, e.outcome) == (operation, outcome)
        ]
        return {serial_of(entry) or intended.get(entry.id, "") for entry in found}

    # A signature may have been made whose certificate nobody got: it stays known, and is revoked at once.
    undone = serials(ISSUE, "undone")
    issued = serials(ISSUE, "ok") | undone
    if issued != set(seen.certificates):
        different = sorted(issued ^ set(seen.certificates))
        yield f"{len(issued)} recorded and {len(seen.certificates)} stored certificates differ in {different[:3]}"
    revoked = serials(REVOKE, "ok")
    # The undone ones get onto the CRL with its next edition.
    if not revoked <= set(seen.revoked) <= revoked | undone:
        yield f"recorded and effective revocations differ in {sorted(revoked ^ set(seen.revoked))[:3]}"
    for what, acknowledged, there in (
        ("certificate", ledger.serials, seen.certificates),
        ("revocation", ledger.revoked, seen.revoked),
    ):
        missing = sorted(set(acknowledged) - set(there))
        yield from (f"the {what} {serial} was acknowledged and is not there" for serial in missing)


def i5(_ledger: Ledger, seen: Observed) -> Iterator[str]:
    yield from (f"object {name} has no row" for name in sorted(seen.objects - set(seen.rows)))
    needed = {name for name, needs in seen.rows.items() if needs}
    yield from (f"the object of row {name} is gone" for name in sorted(needed - seen.objects))


def i6(ledger: Ledger, seen: Observed) -> Iterator[str]:
    for name in ledger.of("refused-create", "refused"):
        if name in seen.versions:
            yield f"creating {name} was refused, and it exists"
    for name in ledger.of("create", "refused"):
        if name in seen.versions and not ledger.latest.get(name):
            yield f"creating {name} failed, and it exists"


def i8(_ledger: Ledger, seen: Observed) -> Iterator[str]:
    yield from (f"a secret of the run is in {place}" for place in seen.leaks)


def i9(_ledger: Ledger, seen: Observed) -> Iterator[str]:
    size = 0
    for next_size, recomputed, said in seen.checkpoints:
        if next_size < size:
            yield f"a checkpoint of {next_size} leaves follows one of {size}"
        if recomputed != said:
            yield f"the first {next_size} leaves no longer give the root that was signed for them"
        size = next_size


def i10(ledger: Ledger, seen: Observed) -> Iterator[str]:
    for serials in (seen.certificates, ledger.serials):
        twice = [(serial, count) for serial, count in Counter(serials).items() if count > 1]
        yield from (f"serial {serial} was given {count} times" for serial, count in twice)
    intended = {
        serial_of(entry) for entry in seen.log if entry.phase == "intent" and entry.operation == ISSUE
    }
    yield from (
        f"the certificate {serial} has no intent" for serial in seen.certificates if serial not in intended
    )


def serial_of(entry: Entry) -> str:
    """The serial that a record names, in the spelling of the log."""
    return str(entry.subject.get("serial", entry.subject.get("serial_number", ""))).replace(":", "").lower()


INVARIANTS: dict[str, Callable[[Ledger, Observed], Iterator[str]]] = {
    "I1": i1, "I2": i2, "I3": i3, "I4": i4, "I5": i5, "I6": i6, "I8": i8, "I9": i9, "I10": i10,
}  # fmt: skip


def broken(ledger: Ledger, seen: Observed) -> list[str]:
    """All violations, each starting with the number of its invariant."""
    return [f"{name}: {text}" for name, check in INVARIANTS.items() for text in check(ledger, seen)]
