"""Holding a ceremony: plan, show, confirm, do, record; and going on after an interruption.

For each step of the script, in this order, each line on the disk before the next thing happens:

(1) `plan`       what exactly will be done: CKA_ID and label of a new key, hash of the bytes to be signed
(2) `confirmed`  by each witness, who has been shown the plan
(3) the token makes the key or the signature, and files are written
(4) `done`       what came of it, with the attributes of a key as read back from the token

A crash after (1) leaves a plan; the next run takes it up, shows it again, and asks again. A key that the
token had made by then is adopted, half a key is destroyed (kms.hsm), and a signature is made over the same
bytes. At the end the token's keys are compared with the record, and the transcript is signed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kms import __version__
from kms.audit.layout import sync_folder, write_whole
from kms.clock import Clock
from kms.errors import KmsError, integrity, invalid
from kms.hsm import Hsm
from kms.ids import CkaId
from pki.ceremonies import transcript as lines
from pki.ceremonies.certifying import Certifying, Listing, Revoking
from pki.ceremonies.desk import INPUTS, Desk, public_key
from pki.ceremonies.holdings import Holdings, replay
from pki.ceremonies.keymaking import RootMaking, TranscriptKeyMaking
from pki.ceremonies.script import (
    CrossSign,
    MakeRoot,
    MakeTranscriptKey,
    Revoke,
    Script,
    SignCrl,
    SignIntermediate,
    Step,
    parse,
)
from pki.ceremonies.show import shown
from pki.ceremonies.transcript import Transcript
from pki.ceremonies.verify import SCRIPT, SIGNATURE, SIGNER, unexplained, verify
from pki.hsmkey import HsmSigner
from pki.lint import Linter
from pki.schemes import scheme_for

MAX_INPUT_BYTES = 64 * 1024


class Terminal(Protocol):
    """Where the witnesses sit."""

    def show(self, text: Sequence[str]) -> None:
        """Print lines."""
        ...

    def confirm(self, witness: str) -> str:
        """How a witness agreed to what was shown last: "terminal" or "beforehand"; "" for no."""
        ...


class Act(Protocol):
    """One step."""

    def plan(self) -> dict[str, Any]:
        """What will be done, in values that JSON knows. No effect."""
        ...

    def perform(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Do what was planned; returns what came of it. May be called again after a crash."""
        ...


@dataclass(frozen=True)
class Held:
    """How a ceremony ended."""

    transcript_sha256: str
    signer: str
    files: tuple[str, ...]


class Ceremony:
    """One run of `keystead ca ceremony`.

    Args:
        script: the bytes of the script. source: its folder, where inputs are looked for.
        folder: of the record; private and new, or that of an interrupted run of the same script.
        open_token: called once, with the script's [token].
        give_up: do no further step: end the ceremony where it stands, and say so on the record.
    """

    def __init__(
        self,
        script: bytes,
        source: Path,
        folder: Path,
        open_token: Callable[[Script], Hsm],
        clock: Clock,
        terminal: Terminal,
        *,
        give_up: bool = False,
    ) -> None:
        self._bytes = script
        self.script = parse(script, "the script")
        self._source = source
        self._folder = folder
        self._open_token = open_token
        self._clock = clock
        self._terminal = terminal
        self._give_up = give_up

    def run(self) -> Held:
        """From the first step that is not done to the signature.

        Raises:
            KmsError: what stopped it. The transcript says at which step, and the next run goes on there.
        """
        record = Transcript(self._folder / lines.NAME, self._clock)
        try:
            # Nothing is begun before the first line: until then, inputs are taken anew.
            carried = Holdings() if record.entries else self._take_inputs()
            with closing(self._open_token(self.script)) as hsm:
                if record.entries:
                    self._resume(record, hsm)
                else:
                    self._open(record, hsm, carried)
                self._steps(record, hsm)
                return self._close(record, hsm)
        finally:
            record.close()

    # -- beginning ------------------------------------------------------------------------------------

    def _take_inputs(self) -> Holdings:
        """Copy everything that the script names into the folder. Begins again when it was cut off."""
        inputs = self._folder / INPUTS
        inputs.mkdir(mode=0o700, exist_ok=True)
        for given in self.script.inputs():
            self._copy(self._source / given, inputs / Path(given).name)
        held = self._previous() if self.script.previous else Holdings()
        sync_folder(inputs)
        self._write(SCRIPT, self._bytes)
        if self.script.signer not in {*held.keys, *self.script.made_keys()}:
            raise invalid(
                f"the signer {self.script.signer} is a key that no step makes and that is not there yet"
            )
        return held

    def _previous(self) -> Holdings:
        """What the ceremony before left; its certificates come along."""
        before = self._source / self.script.previous
        report = verify(before)
        for name in report.holdings.roots:
            self._copy(before / f"{name}.crt", self._folder / f"{name}.crt")
        return report.holdings

    def _copy(self, source: Path, target: Path) -> None:
        try:
            with source.open("rb") as file:
                data = file.read(MAX_INPUT_BYTES + 1)
        except OSError as error:
            raise invalid(f"cannot read {source}: {error.strerror}") from None
        if len(data) > MAX_INPUT_BYTES:
            raise invalid(f"{source} is larger than {MAX_INPUT_BYTES} bytes")
        write_whole(target, data, target.with_name(target.name + ".tmp"))

    def _write(self, name: str, data: bytes) -> None:
        write_whole(self._folder / name, data, self._folder / f"{name}.tmp")

    def _open(self, record: Transcript, hsm: Hsm, held: Holdings) -> None:
        before = self._source / self.script.previous / lines.NAME
        inputs = self._folder / INPUTS
        record.append(
            "opened",
            title=self.script.title,
            witnesses=list(self.script.witnesses),
            script_sha256=hashlib.sha256(self._bytes).hexdigest(),
            inputs={
                path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(inputs.iterdir())
            },
            steps=len(self.script.step),
            previous=hashlib.sha256(before.read_bytes()).hexdigest() if self.script.previous else "",
            held=msgspec.to_builtins(held),
            version=__version__,
            token=_token(hsm),
            objects=_objects(hsm),
        )

    def _resume(self, record: Transcript, hsm: Hsm) -> None:
        opened = record.entries[0]
        if opened.get("script_sha256") != hashlib.sha256(self._bytes).hexdigest():
            raise invalid(
                f"{self._folder} holds a ceremony by another script; run it with {SCRIPT} of that folder, or"
                " name a new folder"
            )
        if any(record.find("closed")):
            return
        record.append("resumed", token=_token(hsm), unfinished_bytes=record.torn, version=__version__)

    # -- steps ----------------------------------------------------------------------------------------

    def _steps(self, record: Transcript, hsm: Hsm) -> None:
        held = replay(record.entries[0]["held"], record.entries)
        desk = Desk(self._folder, hsm, Linter(), self._clock, held)
        for number, step in enumerate(self.script.step):
            if any(record.find("done", number)) or any(record.find("abandoned", number)):
                continue
            if self._give_up:
                _abandon(record, hsm, number)
                continue
            try:
                self._step(record, desk, number, step)
            except KmsError as error:
                record.append("stopped", step=number, why=error.detail)
                total = len(self.script.step)
                text = f"stopped at step {number + 1} of {total}: {error.detail}; run the same command to go on there"
                raise KmsError(error.kind, text) from error

    def _step(self, record: Transcript, desk: Desk, number: int, step: Step) -> None:
        act = act_for(step, desk)
        action = str(type(step).__struct_config__.tag)
        planned = next(record.find("plan", number), None)
        if planned is None:
            planned = record.append("plan", step=number, action=action, facts=act.plan())
        self._terminal.show(
            [
                "",
                f"step {number + 1} of {len(self.script.step)}: {action}",
                *shown(planned["facts"]),
            ]
        )
        for witness in self.script.witnesses:
            how = self._terminal.confirm(witness)
            if not how:
                raise invalid(f"{witness} did not confirm")
            record.append("confirmed", step=number, plan=planned["n"], by=witness, how=how)
        done = record.append("done", step=number, action=action, **act.perform(planned["facts"]))
        desk.held = desk.held.after(done)

    # -- end ------------------------------------------------------------------------------------------

    def _close(self, record: Transcript, hsm: Hsm) -> Held:
        held = replay(record.entries[0]["held"], record.entries)
        if self.script.signer not in held.keys:
            raise invalid(
                f"nobody can sign the record: its signer {self.script.signer} was not made; begin anew in another folder"
            )
        if not any(record.find("closed")):
            objects = _objects(hsm)
            strange = unexplained(record.entries[0]["objects"], objects, held)
            if strange:
                raise integrity(
                    f"the token holds keys that no step made: {', '.join(strange)}; find out whose they are"
                )
            record.append("closed", objects=objects, signer=self.script.signer)
        content = record.path.read_bytes()
        key = held.key(self.script.signer)
        public = public_key(bytes.fromhex(key.spki))
        desk = Desk(self._folder, hsm, Linter(), self._clock, held)
        if not (self._folder / SIGNATURE).exists():
            # It begins with "{", and what a CA signs with 0x30: neither passes for the other.
            signature = HsmSigner(hsm, desk.ref(key)).sign(content, scheme_for(public))
            text = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            self._write(SIGNER, text)
            self._write(SIGNATURE, signature)
        verify(self._folder)
        names = (path.name for path in self._folder.iterdir() if path.suffix in {".crt", ".crl"})
        return Held(hashlib.sha256(content).hexdigest(), self.script.signer, tuple(sorted(names)))


def act_for(step: Step, desk: Desk) -> Act:
    """The code of a step."""
    match step:
        case MakeRoot():
            return RootMaking(step, desk)
        case MakeTranscriptKey():
            return TranscriptKeyMaking(step, desk)
        case SignIntermediate() | CrossSign():
            return Certifying(step, desk)
        case Revoke():
            return Revoking(step, desk)
        case SignCrl():
            return Listing(step, desk)


def _abandon(record: Transcript, hsm: Hsm, number: int) -> None:
    """Give a step up. A key that an interrupted run may have made for it is destroyed."""
    planned = next(record.find("plan", number), None)
    cka_id = str(planned["facts"].get("cka_id", "")) if planned is not None else ""
    if cka_id:
        hsm.destroy(CkaId(bytes.fromhex(cka_id)))
    record.append("abandoned", step=number, destroyed=cka_id)


def _token(hsm: Hsm) -> dict[str, str]:
    info = hsm.info
    names = ("manufacturer", "model", "serial", "label", "firmware", "library")
    return {name: str(getattr(info, name)) for name in names}


def _objects(hsm: Hsm) -> dict[str, str]:
    """CKA_ID in hex -> label of every secret and private key of the token."""
    return {bytes(cka_id).hex(): label for cka_id, label in hsm.objects("")}
