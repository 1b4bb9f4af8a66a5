"""The life of a key through its service: commands, dates, cryptoperiods, history; refusals first."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import kms.operations
from kms.clock import rfc3339
from kms.errors import ErrorKind, KmsError
from kms.keys.store import NAMED_KEYS, name_key
from kms.operation import Result
from tests.keys.rig import MOUNT, Rig

P = "aGVsbG8="
DAY = 86_400.0


def refused(rig: Rig, operation: str, **args: Any) -> str:
    with pytest.raises(KmsError) as caught:
        rig.result(operation, **args)
    assert caught.value.kind is ErrorKind.INVALID
    return caught.value.detail


def date(rig: Rig, days: float) -> str:
    return rfc3339(rig.clock.now() + days * DAY)


def jobs(rig: Rig) -> list[str]:
    """Run what is due as the jobs process does; the operations that it was."""
    rig.store.refresh()
    chores = rig.service.chores(rig.clock.now())
    for chore in chores:
        rig.external(chore.external)
    return [chore.operation for chore in chores]


def states(rig: Rig, name: str = "k") -> list[tuple[str, str]]:
    lines = rig.run("keys.history", name=name)["transitions"]
    return [(line["previous_state"], line["state"]) for line in lines]


REFUSED_FIELDS = [
    ({"activation_date": "tomorrow"}, "activation_date is a time as in"),
    ({"activation_date": "2030-01-01T00:00:00"}, "needs a time zone"),
    ({"activation_date": "2001-01-01T00:00:00Z"}, "lies in the past"),
    ({"deactivation_date": "2001-01-01T00:00:00Z"}, "lies in the past"),
    ({"activation_date": "2031-01-01T00:00:00Z", "deactivation_date": "2030-01-01T00:00:00Z"}, "before"),
    ({"cryptoperiod": 60}, "at least an hour"),
    ({"cryptoperiod": -1}, "at least an hour"),
    ({"owner": "x" * 257}, "owner has at most 256"),
    ({"contact": "a\nb"}, "printable"),
    ({"tags": {"bad name": "x"}}, "name of a tag"),
    ({"tags": {"a": 1}}, "not a string"),
    ({"tags": {f"t{n}": "" for n in range(51)}}, "at most 50 tags"),
]


@pytest.mark.parametrize(("fields", "text"), REFUSED_FIELDS)
def test_a_field_that_makes_no_sense_is_refused(rig: Rig, fields: dict[str, Any], text: str) -> None:
    assert text in refused(rig, "keys.create", name="k", **fields)
    rig.create("other")
    if "activation_date" not in fields:
        assert text in refused(rig, "keys.config", name="other", **fields)


def test_activation_date_is_no_setting_of_an_active_key(rig: Rig) -> None:
    rig.create("k")
    assert "not active yet" in refused(rig, "keys.config", name="k", activation_date=date(rig, 1))


COMMANDS = ("activate", "suspend", "resume", "deactivate", "compromise")
# state -> how it is reached -> commands that lead on from there
REACHED: dict[str, tuple[dict[str, Any], tuple[str, ...], set[str]]] = {
    "pre-activation": ({"pre_activation": True}, (), {"activate", "compromise"}),
    "active": ({}, (), {"suspend", "deactivate", "compromise", "activate", "resume"}),
    "suspended": ({}, ("suspend",), {"suspend", "resume", "deactivate", "compromise"}),
    "deactivated": ({}, ("deactivate",), {"deactivate", "compromise"}),
    "compromised": ({}, ("compromise",), {"compromise"}),
}


def reach(rig: Rig, state: str, name: str = "k", **fields: Any) -> None:
    made, commands, _ = REACHED[state]
    rig.create(name, **(made | fields))
    for command in commands:
        rig.run(f"keys.{command}", name=name, reason="because")


@pytest.mark.parametrize("state", REACHED)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_leads_on_or_is_refused(rig: Rig, state: str, command: str) -> None:
    reach(rig, state)
    before = states(rig)
    if command in REACHED[state][2]:
        rig.run(f"keys.{command}", name="k", reason="because")
    else:
        assert f"in state {state}" in refused(rig, f"keys.{command}", name="k", reason="because")
        assert states(rig) == before


@pytest.mark.parametrize("command", ["suspend", "compromise"])
@pytest.mark.parametrize("reason", ["", "  ", "x" * 257, "a\x00b"])
def test_a_grave_command_needs_a_reason_that_can_be_printed(rig: Rig, command: str, reason: str) -> None:
    rig.create("k")
    assert "reason" in refused(rig, f"keys.{command}", name="k", reason=reason)
    assert rig.run("keys.read", name="k")["state"] == "active"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_to_no_key_is_refused(rig: Rig, command: str) -> None:
    assert "no existing key" in refused(rig, f"keys.{command}", name="none", reason="because")


# What each state refuses and still allows over the real operations. All protected data is from before.
OPENING = {"decrypt", "verify", "check", "unwrap", "decapsulate"}
PROTECTING = {
    "encrypt",
    "batch",
    "rewrap",
    "datakey",
    "sign",
    "hmac",
    "cmac",
    "wrap",
    "encapsulate",
    "derive-key",
}
BEFORE_USE = {"csr", "export", "backup", "rotate"}


class Worn:
    """One key of each kind, with something that each protected while it was active."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        clear = {"exportable": True, "allow_plaintext_backup": True, "protection": "software"}
        for name, type_ in KINDS.items():
            rig.create(name, type_, **clear)
        self.ciphertext = rig.run("encrypt", name="aead", plaintext=P)["ciphertext"]
        self.signature = rig.run("sign", name="ec", input=P)["signature"]
        self.hmac = rig.run("hmac", name="aead", input=P)["hmac"]
        self.cmac = rig.run("cmac", name="cmac", input=P)["cmac"]
        self.wrapped = rig.run("wrap", name="kwp", plaintext=P)["ciphertext"]
        self.kem = rig.run("encapsulate", name="kem")["ciphertext"]
        rig.create("peer", "ecdsa-p256", protection="software")
        self.peer = rig.run("keys.read", name="peer")["keys"]["1"]["public_key"]

    def command(self, command: str, **args: Any) -> None:
        for name in KINDS:
            self.rig.run(f"keys.{command}", name=name, reason="because", **args)

    def work(self, what: str) -> Result:
        table: dict[str, tuple[str, dict[str, Any]]] = {
            "encrypt": ("encrypt", {"name": "aead", "plaintext": P}),
            "batch": ("encrypt", {"name": "aead", "batch_input": [{"plaintext": P}]}),
            "rewrap": ("rewrap", {"name": "aead", "ciphertext": self.ciphertext}),
            "datakey": ("datakey", {"name": "aead", "kind": "plaintext"}),
            "sign": ("sign", {"name": "ec", "input": P}),
            "hmac": ("hmac", {"name": "aead", "input": P}),
            "cmac": ("cmac", {"name": "cmac", "input": P}),
            "wrap": ("wrap", {"name": "kwp", "plaintext": P}),
            "encapsulate": ("encapsulate", {"name": "kem"}),
            "derive-key": (
                "derive-key",
                {"name": "agreed", "base_key_name": "ec", "peer_public_key": self.peer},
            ),
            "decrypt": ("decrypt", {"name": "aead", "ciphertext": self.ciphertext}),
            "verify": ("verify", {"name": "ec", "input": P, "signature": self.signature}),
            "check": ("verify", {"name": "aead", "input": P, "hmac": self.hmac}),
            "unwrap": ("unwrap", {"name": "kwp", "ciphertext": self.wrapped}),
            "decapsulate": ("decapsulate", {"name": "kem", "ciphertext": self.kem}),
            "csr": ("keys.csr", {"name": "ec"}),
            "export": ("export", {"name": "aead", "kind": "encryption-key"}),
            "backup": ("backup", {"name": "aead"}),
            "rotate": ("keys.rotate", {"name": "aead"}),
        }
        operation, args = table[what]
        return self.rig.result(operation, **args)

    def allowed(self, works: set[str]) -> set[str]:
        done, refusals = set(), {}
        for what in sorted(works):
            try:
                self.work(what)
            except KmsError as error:
                refusals[what] = error
            else:
                done.add(what)
        for what, refusal in refusals.items():
            assert refusal.kind is ErrorKind.INVALID, what
            assert "is in state" in refusal.detail, (what, refusal.detail)
        return done


KINDS = {
    "aead": "aes256-gcm96",
    "ec": "ecdsa-p256",
    "cmac": "aes256-cmac",
    "kwp": "aes256-kwp",
    "kem": "mlkem-768",
}
EVERYTHING = OPENING | PROTECTING | BEFORE_USE


def test_an_active_key_does_everything(rig: Rig) -> None:
    assert Worn(rig).allowed(EVERYTHING) == EVERYTHING


def test_a_suspended_key_does_nothing_until_the_risk_is_accepted(rig: Rig) -> None:
    worn = Worn(rig)
    worn.command("suspend")
    assert worn.allowed(EVERYTHING) == set()
    worn.command("suspend", accept_risk=True)
    assert worn.allowed(EVERYTHING) == OPENING
    worn.command("suspend")  # and withdrawn
    assert worn.allowed(EVERYTHING) == set()
    worn.command("resume")
    assert worn.allowed(EVERYTHING) == EVERYTHING


def test_a_deactivated_key_opens_and_protects_nothing(rig: Rig) -> None:
    worn = Worn(rig)
    worn.command("deactivate")
    assert worn.allowed(EVERYTHING) == OPENING | {"export", "backup"}


def test_a_compromised_key_opens_only_with_the_risk_accepted(rig: Rig) -> None:
    worn = Worn(rig)
    worn.command("compromise")
    assert worn.allowed(EVERYTHING) == set()
    worn.command("compromise", accept_risk=True)
    assert worn.allowed(EVERYTHING) == OPENING


def test_a_key_before_activation_only_proves_possession(rig: Rig) -> None:
    worn = Worn(rig)
    for name, type_ in KINDS.items():
        rig.create(f"new-{name}", type_, protection="software", pre_activation=True)
    for operation, args in (
        ("encrypt", {"name": "new-aead", "plaintext": P}),
        ("decrypt", {"name": "new-aead", "ciphertext": worn.ciphertext}),
        ("sign", {"name": "new-ec", "input": P}),
        ("verify", {"name": "new-ec", "input": P, "signature": worn.signature}),
        ("wrap", {"name": "new-kwp", "plaintext": P}),
        ("hmac", {"name": "new-aead", "input": P}),
    ):
        assert "in state pre-activation" in refused(rig, operation, **args)
    assert "CERTIFICATE REQUEST" in rig.run("keys.csr", name="new-ec")["csr"]
    rig.run("keys.activate", name="new-aead")
    rig.run("encrypt", name="new-aead", plaintext=P)


def test_the_record_of_an_accepted_risk_says_the_state(rig: Rig) -> None:
    worn = Worn(rig)
    assert "key_state" not in worn.work("decrypt").subject
    worn.command("compromise", accept_risk=True)
    for what in OPENING:
        assert worn.work(what).subject["key_state"] == "compromised"


def test_other_processes_obey_at_once(rig: Rig) -> None:
    rig.create("k")
    other = rig.another()
    other.run("encrypt", name="k", plaintext=P)
    rig.run("keys.suspend", name="k", reason="because")
    assert "suspended" in refused(other, "encrypt", name="k", plaintext=P)


def test_dates_count_from_their_second_and_are_written_down_later(rig: Rig) -> None:
    rig.create("k", activation_date=date(rig, 1), deactivation_date=date(rig, 3), owner="payments")
    assert "becomes active on 2023-11-15" in refused(rig, "encrypt", name="k", plaintext=P)
    rig.clock.seconds += 1 * DAY - 1
    assert "pre-activation" in refused(rig, "encrypt", name="k", plaintext=P)
    assert jobs(rig) == []
    rig.clock.seconds += 1
    ciphertext = rig.run("encrypt", name="k", plaintext=P)["ciphertext"]
    assert states(rig) == [("", "pre-activation"), ("pre-activation", "active")]
    rig.clock.seconds += 2 * DAY
    shown = rig.run("keys.read", name="k")
    assert (shown["state"], shown["state_since"]) == ("deactivated", shown["deactivation_date"])
    assert "deactivated" in refused(rig, "encrypt", name="k", plaintext=P)
    assert rig.run("decrypt", name="k", ciphertext=ciphertext)["plaintext"] == P
    before = states(rig)
    rig.clock.seconds += 600
    assert jobs(rig) == ["transit.keys.turn"]
    assert jobs(rig) == []
    assert (
        states(rig)
        == before
        == [("", "pre-activation"), ("pre-activation", "active"), ("active", "deactivated")]
    )
    lines = rig.run("keys.history", name="k")["transitions"]
    assert lines[-1]["time"] == shown["deactivation_date"]


def test_a_command_writes_down_first_what_a_date_has_brought(rig: Rig) -> None:
    rig.create("k", activation_date=date(rig, 1))
    rig.clock.seconds += 2 * DAY
    rig.run("keys.resume", name="k")  # says only that it is active already
    rig.run("keys.suspend", name="k", reason="because")
    assert states(rig) == [("", "pre-activation"), ("pre-activation", "active"), ("active", "suspended")]


def test_a_turn_that_a_crash_interrupted_goes_on(rig: Rig) -> None:
    rig.create("k", deactivation_date=date(rig, 1))
    rig.clock.seconds += 2 * DAY
    chore = rig.service.chores(rig.clock.now())[0]
    resolved = rig.table["transit.keys.turn"].resolve
    assert resolved is not None
    again = resolved(chore.external.intent)
    assert again is not None
    rig.external(again)
    assert states(rig)[-1] == ("active", "deactivated")
    rig.run("keys.config", name="k", deletion_allowed=True)
    rig.run("keys.delete", name="k")
    assert resolved(chore.external.intent) is None


def test_a_version_protects_for_its_cryptoperiod(rig: Rig) -> None:
    rig.create("k", cryptoperiod=7200)
    ciphertext = rig.run("encrypt", name="k", plaintext=P)["ciphertext"]
    rig.clock.seconds += 7200
    text = refused(rig, "encrypt", name="k", plaintext=P)
    assert "cryptoperiod of version 1 of key k ended" in text
    assert "keys/k/rotate" in text
    assert "cryptoperiod" in refused(rig, "hmac", name="k", input=P)
    assert rig.run("decrypt", name="k", ciphertext=ciphertext)["plaintext"] == P
    rig.run("keys.rotate", name="k")
    assert rig.run("rewrap", name="k", ciphertext=ciphertext)["key_version"] == 2
    assert "version 1" in refused(rig, "encrypt", name="k", plaintext=P, key_version=1)
    assert rig.run("keys.history", name="k")["version_states"] == {"1": "deactivated", "2": "active"}


def test_stolen_versions_are_named_while_newer_ones_go_on(rig: Rig) -> None:
    rig.create("k")
    old = rig.run("encrypt", name="k", plaintext=P)["ciphertext"]
    assert "rotate first" in refused(rig, "keys.compromise", name="k", version=1, reason="leak")
    rig.run("keys.rotate", name="k")
    for version in (0, -1, 2, 3):
        assert "version is 1 to 1" in refused(
            rig, "keys.compromise", name="k", version=version, reason="leak"
        )
    rig.run("keys.compromise", name="k", version=1, reason="leak")
    assert rig.run("keys.read", name="k")["state"] == "active"
    rig.run("encrypt", name="k", plaintext=P)
    assert "version 1 of key k is compromised" in refused(
        rig, "encrypt", name="k", plaintext=P, key_version=1
    )
    assert "accept_risk=true" in refused(rig, "decrypt", name="k", ciphertext=old)
    assert "compromised" in refused(rig, "rewrap", name="k", ciphertext=old)
    rig.run("keys.compromise", name="k", version=1, reason="rewrap it all", accept_risk=True)
    newer = rig.run("rewrap", name="k", ciphertext=old)["ciphertext"]
    assert rig.run("decrypt", name="k", ciphertext=newer)["plaintext"] == P
    assert rig.run("keys.history", name="k")["version_states"] == {"1": "compromised", "2": "active"}


def test_a_stolen_version_goes_nowhere_and_vouches_for_nothing(rig: Rig) -> None:
    rig.create("aead", exportable=True)
    rig.create("ec", "ecdsa-p256", protection="software")
    rig.create("target", "rsa-2048")
    public = rig.run("keys.read", name="ec")["keys"]["1"]["public_key"]
    for name in ("aead", "ec"):
        rig.run("keys.rotate", name=name)
        rig.run("keys.compromise", name=name, version=1, reason="leak")
    agreed = {"name": "agreed", "base_key_name": "ec", "base_key_version": 1, "peer_public_key": public}
    for operation, args in (
        ("export", {"name": "aead", "kind": "encryption-key", "version": "1"}),
        ("export", {"name": "aead", "kind": "hmac-key"}),
        ("byok-export", {"destination": "target", "source": "aead", "version": "1"}),
        ("keys.csr", {"name": "ec", "version": 1}),
        ("derive-key", agreed),
    ):
        assert "version 1 of key" in refused(rig, operation, **args), operation
    rig.run("export", name="aead", kind="encryption-key", version="latest")
    rig.run("keys.csr", name="ec")


def test_nothing_uses_a_version_past_its_key_s_state() -> None:
    """Operations take versions from the verbs of LiveKey that look at the state, never from the key itself."""
    found = [
        f"{path.name}: {line.strip()}"
        for path in Path(kms.operations.__file__).parent.glob("*.py")
        for line in path.read_text().splitlines()
        if re.search(r"live\.version\(|\b(protecting|processing|mac)_version\(", line)
    ]
    assert found == ["encrypt.py: allowance = live.version(version).allowance"]


def test_history_says_who_when_and_why(rig: Rig) -> None:
    rig.create("k")
    rig.clock.seconds += 5
    rig.run("keys.suspend", name="k", reason="laptop lost", accept_risk=True)
    lines = rig.run("keys.history", name="k")["transitions"]
    assert lines[1] == {
        "time": "2023-11-14T22:13:25.000000Z",
        "previous_state": "active",
        "state": "suspended",
        "by": "anonymous",
        "reason": "laptop lost",
        "versions": 0,
        "risk_accepted": True,
    }
    assert (lines[0]["state"], lines[0]["by"]) == ("active", "anonymous")


def test_a_key_that_is_not_active_does_not_rotate_by_itself(rig: Rig) -> None:
    rig.create("k", auto_rotate_period=3600)
    rig.run("keys.suspend", name="k", reason="because")
    rig.clock.seconds += 4000
    assert jobs(rig) == []
    rig.run("keys.resume", name="k")
    assert jobs(rig) == ["transit.keys.rotate"]


def test_destruction_ends_the_life_and_keeps_the_history(rig: Rig) -> None:
    for name in ("plain", "leaked"):
        rig.create(name)
        rig.run("keys.config", name=name, deletion_allowed=True)
    rig.run("keys.compromise", name="leaked", reason="seen in a paste")
    ids = {}
    for name in ("plain", "leaked"):
        row = rig.store.reader().get(NAMED_KEYS, name_key(MOUNT.id, name))
        assert row is not None
        ids[name] = row.value.id
        rig.run("keys.delete", name=name)
    rig.clock.seconds += 31 * DAY
    assert jobs(rig) == ["transit.pending.destroy"] * 2
    shown = {name: rig.run("pending.read", pending_id=which) for name, which in ids.items()}
    assert shown["plain"]["key_state"] == "destroyed"
    assert shown["leaked"]["key_state"] == "destroyed-compromised"
    told = rig.run("keys.history", name="leaked")
    assert [line["state"] for line in told["transitions"]] == [
        "active",
        "compromised",
        "destroyed-compromised",
    ]
    assert (told["state"], told["key_id"]) == ("destroyed-compromised", ids["leaked"])
    assert told["version_states"] == {"1": "destroyed-compromised"}
    assert told["deleted_time"] < told["destroyed_time"]
    assert rig.run("keys.history", name="plain")["version_states"] == {"1": "destroyed"}


def test_a_name_used_again_tells_of_each_key_that_had_it(rig: Rig) -> None:
    ids = []
    for _ in range(3):
        rig.create("k")
        rig.run("keys.config", name="k", deletion_allowed=True)
        ids.append(rig.run("keys.history", name="k")["key_id"])
        rig.run("keys.delete", name="k")
        rig.clock.seconds += 1
    assert rig.run("keys.history", name="k")["key_id"] == ids[2]
    rig.create("k")
    told = rig.run("keys.history", name="k")
    assert told["earlier_keys"] == ids
    assert "deleted_time" not in told
    old = rig.run("keys.history", name="k", key_id=ids[1])
    assert (old["key_id"], old["state"], old["destroyed_time"]) == (ids[1], "active", "")
    rig.create("other")
    for name, which in (("other", ids[0]), ("k", "nosuch"), ("never", "")):
        with pytest.raises(KmsError) as caught:
            rig.run("keys.history", name=name, key_id=which)
        assert caught.value.kind is ErrorKind.NOT_FOUND


def test_a_backup_does_not_undo_what_happened_to_the_key(rig: Rig) -> None:
    rig.create("k", exportable=True, allow_plaintext_backup=True, owner="payments", tags={"env": "prod"})
    rig.run("keys.deactivate", name="k")
    text = rig.run("backup", name="k")["backup"]
    rig.run("restore", name="copy", backup=text)
    assert "deactivated" in refused(rig, "encrypt", name="copy", plaintext=P)
    shown = rig.run("keys.read", name="copy")
    assert (shown["state"], shown["owner"], shown["tags"]) == ("deactivated", "payments", {"env": "prod"})


def test_settings_are_kept_and_shown(rig: Rig) -> None:
    rig.create("k", owner="payments", contact="keys@example.test", tags={"env": "test", "a": "1"})
    rig.run("keys.config", name="k", deactivation_date=date(rig, 9), cryptoperiod=86400, tags={"env": "prod"})
    shown = rig.run("keys.read", name="k")
    assert (shown["owner"], shown["contact"], shown["tags"]) == (
        "payments",
        "keys@example.test",
        {"env": "prod"},
    )
    assert shown["cryptoperiod"] == 86400
    rig.run("keys.config", name="k", deactivation_date="", tags={}, owner="")
    shown = rig.run("keys.read", name="k")
    assert (shown["deactivation_date"], shown["tags"], shown["owner"]) == ("", {}, "")
