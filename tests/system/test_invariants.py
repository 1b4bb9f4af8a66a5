"""The invariants can fail: each kind of damage to a sound world is named by its number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.harness.log import Entry
from tests.invariants import Attempt, Ledger, Observed, Sample, broken

SAMPLE = Sample("a", 1, "bQ==", "vault:v1:x")


NAMES = {
    "transit/keys/a/rotate": "transit.keys.rotate",
    "pki/issue/mesh": "pki.issue",
    "pki/revoke": "pki.revoke",
    "sys/hsm/root/rotate": "sys.root.rotate",
}


def entry(name: str, phase: str, resource: str, **subject: object) -> Entry:
    operation = NAMES.get(resource, "transit.keys.create" if resource.startswith("transit/") else "other")
    return Entry("s", 0, name, phase, operation, resource, "ok", dict(subject), {})


def sound() -> tuple[Ledger, Observed]:
    """Key a with two versions, one certificate, issued and revoked, one rotation of the root."""
    ledger = Ledger()
    ledger.latest = {"a": 2}
    ledger.samples = [SAMPLE]
    ledger.serials = ["4f01"]
    ledger.revoked = ["4f01"]
    log = [
        entry("1", "done", "transit/keys/a"),
        entry("2", "intent", "transit/keys/a/rotate"),
        entry("2", "outcome", "transit/keys/a/rotate"),
        entry("3", "intent", "pki/issue/mesh", serial="4f:01"),
        entry("3", "outcome", "pki/issue/mesh", serial="4f:01"),
        entry("4", "intent", "pki/revoke", serial="4f:01"),
        entry("4", "outcome", "pki/revoke"),
        entry("5", "intent", "sys/hsm/root/rotate"),
        entry("5", "outcome", "sys/hsm/root/rotate", to_version=2),
    ]
    seen = Observed(
        versions={"a": [1, 2]},
        primary={"a": 2},
        log=log,
        certificates=["4f01"],
        revoked=["4f01"],
        root_version=2,
        objects={"aa"},
        rows={"aa": True, "bb": False},
        checkpoints=[(3, "r3", "r3"), (9, "r9", "r9")],
    )
    return ledger, seen


def test_a_sound_world_breaks_nothing() -> None:
    assert broken(*sound()) == []


def without(seen: Observed, name: str, phase: str) -> None:
    seen.log = [e for e in seen.log if (e.id, e.phase) != (name, phase)]


Damage = Callable[[Ledger, Observed], object]
DAMAGES: dict[str, tuple[str, Damage]] = {
    "a version no longer decrypts": ("I1", lambda _, seen: seen.lost.append((SAMPLE, "400"))),
    "an acknowledged version is gone": ("I1", lambda _, seen: seen.versions.update(a=[1])),
    "works with an old version": ("I2", lambda _, seen: seen.primary.update(a=1)),
    "no version at all": ("I2", lambda _, seen: seen.versions.update(a=[])),
    "a number twice": ("I3", lambda _, seen: seen.versions.update(a=[1, 2, 2])),
    "a number goes back": ("I3", lambda _, seen: seen.versions.update(a=[2, 1])),
    "a change recorded twice": ("I4", lambda _, seen: seen.log.append(entry("9", "done", "transit/keys/a"))),
    "an event closed twice": ("I4", lambda _, seen: seen.log.append(entry("1", "done", "elsewhere"))),
    "a change without a record": ("I4", lambda _, seen: without(seen, "1", "done")),
    "a record without a change": (
        "I4",
        lambda _, seen: seen.log.append(entry("9", "done", "transit/keys/b")),
    ),
    "an outcome without intent": ("I4", lambda _, seen: without(seen, "2", "intent")),
    "an open intent": ("I4", lambda _, seen: seen.log.append(entry("9", "intent", "pki/issue/mesh"))),
    "a root without a record": ("I4", lambda _, seen: setattr(seen, "root_version", 3)),
    "a certificate without a record": ("I4", lambda _, seen: without(seen, "3", "outcome")),
    "a lost certificate": ("I4", lambda _, seen: seen.certificates.clear()),
    "a lost revocation": ("I4", lambda _, seen: seen.revoked.clear()),
    "an object without a row": ("I5", lambda _, seen: seen.objects.add("cc")),
    "a row without its object": ("I5", lambda _, seen: seen.objects.clear()),
    "a refused creation": (
        "I6",
        lambda ledger, _: ledger.attempts.append(Attempt("refused-create", "a", "refused")),
    ),
    "a leaked secret": ("I8", lambda _, seen: seen.leaks.append("stderr")),
    "a smaller checkpoint": ("I9", lambda _, seen: seen.checkpoints.append((4, "r4", "r4"))),
    "a rewritten log": ("I9", lambda _, seen: seen.checkpoints.append((12, "r12", "other"))),
    "a serial twice": ("I10", lambda _, seen: seen.certificates.append("4f01")),
    "a certificate without intent": ("I10", lambda _, seen: without(seen, "3", "intent")),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named(name: str) -> None:
    number, damage = DAMAGES[name]
    ledger, seen = sound()
    seen = replace(seen, log=list(seen.log))
    damage(ledger, seen)
    assert number in {text.partition(":")[0] for text in broken(ledger, seen)}, broken(ledger, seen)
