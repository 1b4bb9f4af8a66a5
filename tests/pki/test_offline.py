"""Ceremonies of an offline CA: what they make, what interrupts them, and what the check of a record finds."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from kms.clock import SystemClock
from kms.errors import KmsError
from kms.hsm import Hsm
from kms.hsm.connection import SENTINEL_ID
from pki.ceremonies.holdings import SENTINEL
from pki.ceremonies.run import Ceremony, Held
from pki.ceremonies.script import Script, parse
from pki.ceremonies.verify import Report, verify

HEAD = """
title = "A test"
witnesses = ["Ada", "Grace"]
signer = "{signer}"
previous = "{previous}"
[token]
profile = "softhsm"
token_label = "offline"
"""
ROOT = """
[[step]]
action = "make-root"
name = "root"
common_name = "Offline Root"
organization = ["Example"]
country = ["NL"]
max_path_length = 1
"""
SUB = """
[[step]]
action = "sign-intermediate"
issuer = "root"
name = "sub"
csr = "sub.csr"
max_path_length = 0
crl_distribution_points = ["http://crl.example/root.crl"]
"""
CRL = """
[[step]]
action = "sign-crl"
issuer = "root"
"""
REVOKE = """
[[step]]
action = "revoke"
issuer = "root"
certificate = "sub"
reason = "cACompromise"
"""


class Killed(BaseException):
    """The process dies here."""


@dataclass
class Token:
    """The suite's token, lent for one run; may be killed right after it made something."""

    hsm: Hsm
    kill_at: int = -1
    made: list[str] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.hsm, name)
        if name not in {"generate", "sign"}:
            return method

        def call(*arguments: Any) -> Any:
            answer = method(*arguments)
            self.made.append(name)
            if len(self.made) - 1 == self.kill_at:
                raise Killed
            return answer

        return call

    def close(self) -> None:
        """It is only lent."""


@dataclass
class Room:
    """Witnesses who agree, but for one at one question."""

    no_at: int = -1
    asked: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)

    def show(self, text: Sequence[str]) -> None:
        self.seen += text

    def confirm(self, witness: str) -> str:
        self.asked.append(witness)
        return "" if len(self.asked) - 1 == self.no_at else "terminal"


@dataclass
class Place:
    """A folder with inputs, and ceremonies in it."""

    folder: Path
    hsm: Hsm

    def hold(
        self,
        steps: str,
        name: str = "record",
        *,
        token: Token | None = None,
        room: Room | None = None,
        previous: str = "",
        signer: str = "root",
        give_up: bool = False,
    ) -> Held:
        record = self.folder / name
        record.mkdir(mode=0o700, exist_ok=True)
        script = (HEAD.format(previous=previous, signer=signer) + steps).encode()

        def lend(_: Script) -> Any:
            return token or Token(self.hsm)

        work = Ceremony(script, self.folder, record, lend, SystemClock(), room or Room(), give_up=give_up)
        return work.run()

    def check(self, name: str = "record") -> Report:
        return verify(self.folder / name, (self.folder / name / "transcript.pub").read_bytes())

    def lines(self, name: str = "record") -> list[dict[str, Any]]:
        text = (self.folder / name / "transcript.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def certificate(self, name: str, record: str = "record") -> x509.Certificate:
        return x509.load_pem_x509_certificate((self.folder / record / f"{name}.crt").read_bytes())


@pytest.fixture
def place(tmp_path: Path, hsm: Hsm) -> Place:
    (tmp_path / "sub.csr").write_bytes(request("Issuing CA"))
    return Place(tmp_path, hsm)


def request(name: str) -> bytes:
    """The request of an intermediate."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return csr.public_bytes(Encoding.PEM)


def test_a_whole_ceremony_and_its_check(place: Place) -> None:
    room = Room()
    held = place.hold(ROOT + SUB + REVOKE + CRL, room=room)
    assert held.files == ("root-1.crl", "root.crt", "sub.crt")
    report = place.check()
    assert (report.pinned, report.steps, report.given_up, report.stops) == (True, 4, (), 0)
    assert report.sha256 == held.transcript_sha256
    assert room.asked == ["Ada", "Grace"] * 4
    assert "  subject         CN=Issuing CA" in room.seen
    root, sub = place.certificate("root"), place.certificate("sub")
    sub.verify_directly_issued_by(root)
    basic = sub.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.path_length) == (True, 0)
    assert len(sub.extensions.get_extension_for_class(x509.CRLDistributionPoints).value) == 1
    crl = x509.load_pem_x509_crl((place.folder / "record" / "root-1.crl").read_bytes())
    entry = crl.get_revoked_certificate_by_serial_number(sub.serial_number)
    assert entry is not None
    assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value == "cACompromise"


def test_a_later_ceremony_goes_on_with_keys_numbers_and_revocations(place: Place) -> None:
    place.hold(ROOT + SUB + CRL, "first")
    (place.folder / "sub2.csr").write_bytes(request("Issuing CA 2"))
    second = SUB.replace('"sub"', '"sub2"').replace("sub.csr", "sub2.csr")
    place.hold(REVOKE + second + CRL, "second", previous="first")
    assert "make-root" not in {line.get("action") for line in place.lines("second")}
    report = place.check("second")
    assert report.previous == place.check("first").sha256
    root = report.holdings.roots["root"]
    assert (root.crl_number, [one.name for one in root.issued]) == (2, ["sub", "sub2"])
    crl = x509.load_pem_x509_crl((place.folder / "second" / "root-2.crl").read_bytes())
    assert [entry.serial_number for entry in crl] == [place.certificate("sub", "first").serial_number]
    with pytest.raises(KmsError, match="sub is revoked already"):
        place.hold(REVOKE, "third", previous="second")
    with pytest.raises(KmsError, match="the name root is taken"):
        place.hold(ROOT, "fourth", previous="second")


def test_a_transcript_key_signs_instead_of_the_root_and_roots_cross_sign(place: Place) -> None:
    steps = '[[step]]\naction = "make-transcript-key"\nname = "scribe"\n'
    other = ROOT.replace('"root"', '"next"').replace("Offline Root", "Next Root")
    cross = '[[step]]\naction = "cross-sign"\nissuer = "root"\nname = "bridge"\nroot = "next"\n'
    place.hold(steps + ROOT + other + cross, signer="scribe")
    assert place.check().signer == "scribe"
    bridge, new = place.certificate("bridge"), place.certificate("next")
    bridge.verify_directly_issued_by(place.certificate("root"))
    assert bridge.subject == new.subject
    assert bridge.public_key() == new.public_key()


class Dying:
    """An fsync that kills the process when it is called for the `at`-th time.

    It is put in for the whole process, but counts this thread only: what tests before left running syncs too.
    """

    def __init__(self, at: int) -> None:
        self._real, self._at, self._count = os.fsync, at, 0
        self._thread = threading.get_ident()

    def __call__(self, descriptor: int) -> None:
        if threading.get_ident() != self._thread:
            self._real(descriptor)
            return
        self._count += 1
        if self._count == self._at:
            raise Killed
        self._real(descriptor)


def _dying(place: Place, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Run a ceremony that dies at its `at`-th fsync. How many it has depends on what the token holds."""
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", Dying(at))
        place.hold(ROOT + SUB + CRL)


def _keys(place: Place) -> set[str]:
    return {bytes(cka_id).hex() for cka_id, _ in place.hsm.objects("ceremony/")}


def test_killed_anywhere_it_goes_on_with_the_same_key_and_serials(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.hold(ROOT + SUB + CRL)
    at, alive = -1, False
    while not alive:
        at += 2  # each second one: which they are depends on what the token holds, so all come in turn
        shutil.rmtree(place.folder / "record")
        before = _keys(place)
        try:
            _dying(place, monkeypatch, at)
            alive = True  # it has fewer syncs than that
        except Killed:
            place.hold(ROOT + SUB + CRL)
        report = place.check()
        assert report.given_up == ()
        assert _keys(place) - before == {report.holdings.keys["root"].cka_id}
        assert len([line for line in place.lines() if line["kind"] == "plan"]) == 3
    assert at > 20


@pytest.mark.parametrize("at", range(5))
def test_killed_right_after_the_token_made_something(place: Place, at: int) -> None:
    before = _keys(place)
    token = Token(place.hsm, kill_at=at)
    with pytest.raises(Killed):
        place.hold(ROOT + SUB + CRL, token=token)
    place.hold(ROOT + SUB + CRL)
    assert _keys(place) - before == {place.check().holdings.keys["root"].cka_id}


def test_half_a_line_of_a_power_cut_is_cut_off_and_told(place: Place) -> None:
    with pytest.raises(Killed):
        place.hold(ROOT + CRL, token=Token(place.hsm, kill_at=0))
    with (place.folder / "record" / "transcript.jsonl").open("ab") as file:
        file.write(b'{"action":"make-r')
    place.hold(ROOT + CRL)
    assert place.check().steps == 2
    assert [line["unfinished_bytes"] for line in place.lines() if line["kind"] == "resumed"] == [17]


def test_a_witness_who_does_not_agree_stops_it_before_anything_is_done(place: Place) -> None:
    token = Token(place.hsm)
    with pytest.raises(KmsError, match="stopped at step 1 of 3: Grace did not confirm"):
        place.hold(ROOT + SUB + CRL, token=token, room=Room(no_at=1))
    assert token.made == []
    with pytest.raises(KmsError, match="is not finished"):
        verify(place.folder / "record")
    place.hold(ROOT + SUB + CRL)
    assert place.check().stops == 1


def test_what_was_begun_can_be_given_up_and_its_key_goes(place: Place) -> None:
    before = _keys(place)
    scribe = '[[step]]\naction = "make-transcript-key"\nname = "scribe"\n'
    with pytest.raises(Killed):
        place.hold(scribe + ROOT + CRL, token=Token(place.hsm, kill_at=1), signer="scribe")
    assert len(_keys(place) - before) == 2
    place.hold(scribe + ROOT + CRL, give_up=True, signer="scribe")
    report = place.check()
    assert report.given_up == (2, 3)
    assert _keys(place) - before == {report.holdings.keys["scribe"].cka_id}


@pytest.mark.parametrize(("kind", "bits"), [("ec", 256), ("ec", 521), ("rsa", 2048), ("ed25519", 0)])
def test_roots_of_every_type(place: Place, kind: str, bits: int) -> None:
    place.hold(ROOT + f'key_type = "{kind}"\nkey_bits = {bits}\n' + SUB + CRL)
    assert place.check().steps == 3


def test_a_signer_that_is_never_made_is_found_before_anything_is_done(place: Place) -> None:
    token = Token(place.hsm)
    with pytest.raises(KmsError, match="the signer rooot is a key that no step makes"):
        place.hold(ROOT, signer="rooot", token=token)
    assert token.made == []
    with pytest.raises(Killed):
        place.hold(ROOT + CRL, "other", token=Token(place.hsm, kill_at=0))
    before = _keys(place)
    with pytest.raises(KmsError, match="nobody can sign the record"):
        place.hold(ROOT + CRL, "other", give_up=True)
    assert len(before - _keys(place)) == 1


def test_killed_before_the_first_line_it_takes_what_the_ceremony_before_left(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.hold(ROOT + SUB + CRL, "first")
    for at in (1, 3, 5, 7, 9, 11):
        shutil.rmtree(place.folder / "second", ignore_errors=True)
        with monkeypatch.context() as patched, pytest.raises(Killed):
            patched.setattr(os, "fsync", Dying(at))
            place.hold(REVOKE + CRL, "second", previous="first")
        place.hold(REVOKE + CRL, "second", previous="first")
        assert place.check("second").holdings.roots["root"].crl_number == 2


def test_another_script_or_a_foreign_key_in_the_token_is_refused(place: Place) -> None:
    with pytest.raises(Killed):
        place.hold(ROOT + CRL, token=Token(place.hsm, kill_at=0))
    with pytest.raises(KmsError, match="by another script"):
        place.hold(ROOT + SUB)

    class Crowded(Token):
        def objects(self, prefix: str) -> list[tuple[bytes, str]]:
            return [*self.hsm.objects(prefix), (b"\x01" * 16, "whose")]

    with pytest.raises(KmsError, match=f"keys that no step made: {'01' * 16}"):
        place.hold(ROOT + CRL, token=Crowded(place.hsm))


def test_a_request_that_breaks_a_rule_costs_no_signature(place: Place) -> None:
    token = Token(place.hsm)
    with pytest.raises(KmsError, match="country must have 1 to 2"):
        place.hold(ROOT.replace('"NL"', '"Netherlands"'), "a", token=token)
    assert token.made == []
    with pytest.raises(KmsError, match="is not the request that the script pins"):
        place.hold(ROOT + SUB + f'csr_sha256 = "{"0" * 64}"', "b", token=token)
    with pytest.raises(KmsError, match="max_path_length must be below"):
        place.hold(ROOT + SUB.replace("= 0", "= 1"), "c")
    with pytest.raises(KmsError, match="twelve months at most"):
        place.hold(ROOT + CRL + 'next_update = "9000h"', "d")


Damage = Callable[[Path], None]


def _edit(name: str, old: str, new: str) -> Damage:
    def damage(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return damage


def _drop_line(number: int) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / "transcript.jsonl"
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[:number] + lines[number + 1 :]))

    return damage


def _swap(one: str, other: str) -> Damage:
    def damage(folder: Path) -> None:
        shutil.copy(folder / other, folder / one)

    return damage


DAMAGES: dict[str, tuple[Damage, str]] = {
    "a witness renamed": (_edit("transcript.jsonl", '"by":"Ada"', '"by":"Eve"'), "does not follow"),
    "a line dropped": (_drop_line(2), "is not a line|does not follow"),
    "a space": (_edit("transcript.jsonl", '"by":', '"by": '), "is not a line"),
    "the last line": (_drop_line(-1), "not finished|is not"),
    "the first line": (_edit("transcript.jsonl", "A test", "B test"), "does not follow"),
    "another script": (_edit("script.toml", "Ada", "Eve"), "is not the script"),
    "another request": (_edit("inputs/sub.csr", "A", "B"), "is not the file"),
    "another certificate": (_swap("sub.crt", "root.crt"), "is not the certificate"),
    "no CRL": (lambda folder: (folder / "root-1.crl").unlink(), "is missing"),
    "no signature": (lambda folder: (folder / "transcript.sig").unlink(), "is missing"),
    "a broken signature": (_swap("transcript.sig", "script.toml"), "is not the signer's signature"),
}


def test_the_check_names_what_was_changed(place: Place) -> None:
    place.hold(ROOT + SUB + CRL)
    trusted = (place.folder / "record" / "root.crt").read_bytes()
    assert verify(place.folder / "record", trusted).pinned
    for name, (damage, told) in DAMAGES.items():
        copy = place.folder / name.replace(" ", "-")
        shutil.copytree(place.folder / "record", copy)
        damage(copy)
        with pytest.raises(KmsError, match=told):
            verify(copy, trusted)
    place.hold(ROOT, "other")
    with pytest.raises(KmsError, match="another key than the trusted one"):
        verify(place.folder / "other", trusted)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("signer", "sginer"), "sginer"),
        (('action = "make-root"', 'action = "make-toor"'), "make-toor"),
        (("max_path_length", "max_path_lenght"), "max_path_lenght"),
        (('["Ada", "Grace"]', "[]"), "witnesses"),
        (('"Grace"', '"Ada"'), "named once"),
        (('token_label = "offline"', 'token_label = "offline"\npin_file = "/x"'), "names no pin_file"),
        (('name = "root"', 'name = "../root"'), "name"),
    ],
)
def test_a_script_is_strict(change: tuple[str, str], told: str) -> None:
    text = HEAD.format(signer="root", previous="") + ROOT
    assert change[0] in text
    with pytest.raises(KmsError, match=told):
        parse(text.replace(*change).encode(), "s.toml")


def test_the_sentinel_of_a_token_is_known_by_its_id() -> None:
    assert bytes.fromhex(SENTINEL) == SENTINEL_ID
