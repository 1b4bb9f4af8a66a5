"""Checking the record of a ceremony, offline: no token, no server, public keys only.

(1) the transcript is whole: canonical lines, each with the hash of the one before, `closed` the last
(2) it is signed by the key that it names as its signer, or by the one that the caller trusts
(3) script and inputs in the folder are those that it began with
(4) each step of the script was planned, confirmed by every witness, and only then done, in order; what was
    given up stands at the end
(5) every certificate and CRL is the one recorded: its hash, the planned bytes, its issuer's signature
(6) every key was born in the token and never could leave it, as the token said of it
(7) the token holds no key at the end that it did not hold before and that no step made

It does not prove that the witnesses were awake, nor that the token told the truth about itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from kms.errors import integrity, invalid
from pki.ceremonies import transcript as lines
from pki.ceremonies.holdings import SENTINEL, HeldRoot, Holdings, replay
from pki.ceremonies.script import Script, parse
from pki.ceremonies.transcript import Entry, found
from pki.schemes import CaPublicKey, scheme_for, verifies

SCRIPT = "script.toml"
SIGNATURE = "transcript.sig"
SIGNER = "transcript.pub"
_BORN_IN_THE_TOKEN = {
    **dict.fromkeys(("CKA_TOKEN", "CKA_PRIVATE", "CKA_SENSITIVE", "CKA_ALWAYS_SENSITIVE", "CKA_SIGN"), True),
    **dict.fromkeys(("CKA_EXTRACTABLE", "CKA_DECRYPT", "CKA_UNWRAP", "CKA_DERIVE"), False),
    "CKA_NEVER_EXTRACTABLE": True,
}


@dataclass(frozen=True)
class Report:
    """What a sound record says.

    Args:
        pinned: whether the signer's key is the one that the caller trusts, and not only the record's own.
        given_up: steps of the script, from 1, that were not done.
    """

    title: str
    witnesses: tuple[str, ...]
    opened: str
    closed: str
    sha256: str
    previous: str
    token: str
    signer: str
    signer_sha256: str
    pinned: bool
    steps: int
    given_up: tuple[int, ...]
    stops: int
    holdings: Holdings


def verify(folder: Path, trusted: bytes | None = None) -> Report:
    """Check the record of a ceremony.

    Args:
        folder: the record.
        trusted: PEM of the signer's certificate or public key, from elsewhere.

    Raises:
        KmsError(INTEGRITY): the first thing that does not hold. KmsError(INVALID): not a record at all.
    """
    path = folder / lines.NAME
    if not path.is_file():
        raise invalid(f"{folder} holds no {lines.NAME}: it is not the record of a ceremony")
    entries, torn = lines.read(path)  # (1)
    if not entries or entries[0]["kind"] != "opened" or entries[-1]["kind"] != "closed" or torn:
        raise invalid(f"the ceremony in {folder} is not finished: run it to its end first")
    opened, closed = entries[0], entries[-1]
    held = replay(opened["held"], entries)
    signer = held.key(str(closed["signer"]))
    content = path.read_bytes()
    pinned = _check_signature(folder, content, bytes.fromhex(signer.spki), trusted)  # (2)
    script = _check_inputs(folder, opened)  # (3)
    given_up = _check_steps(script, entries)  # (4)
    _check_documents(folder, opened, entries)  # (5)
    for done in found(entries, "done"):  # (6)
        if "key" in done:
            _check_attributes(done)
    strange = unexplained(opened["objects"], closed["objects"], held)  # (7)
    if strange:
        raise integrity(f"the token holds keys that no step made: {', '.join(strange)}")
    return Report(
        title=str(opened["title"]),
        witnesses=tuple(opened["witnesses"]),
        opened=str(opened["at"]),
        closed=str(closed["at"]),
        sha256=hashlib.sha256(content).hexdigest(),
        previous=str(opened["previous"]),
        token=f"{opened['token']['label']}, serial {opened['token']['serial']}",
        signer=signer.name,
        signer_sha256=hashlib.sha256(bytes.fromhex(signer.spki)).hexdigest(),
        pinned=pinned,
        steps=len(script.step),
        given_up=given_up,
        stops=len(list(found(entries, "stopped"))),
        holdings=held,
    )


def unexplained(before: Mapping[str, str], after: Mapping[str, str], held: Holdings) -> list[str]:
    """CKA_IDs of keys that came into the token and that the record does not know."""
    known = {*before, SENTINEL, *(key.cka_id for key in held.keys.values())}
    return sorted(set(after) - known)


def _check_signature(folder: Path, content: bytes, spki: bytes, trusted: bytes | None) -> bool:
    key = _key(load_der_public_key(spki))
    try:
        signature = (folder / SIGNATURE).read_bytes()
        shown = load_pem_public_key((folder / SIGNER).read_bytes())
    except (OSError, ValueError):
        raise integrity(f"{SIGNATURE} or {SIGNER} is missing or cannot be read") from None
    if _spki(shown) != spki:
        raise integrity(f"{SIGNER} is not the key that the transcript names as its signer")
    if not verifies(key, signature, content, scheme_for(key)):
        raise integrity(f"{SIGNATURE} is not the signer's signature over {lines.NAME}")
    if trusted is None:
        return False
    try:
        if b"BEGIN CERTIFICATE" in trusted:
            wanted = _spki(x509.load_pem_x509_certificate(trusted).public_key())
        else:
            wanted = _spki(load_pem_public_key(trusted))
    except ValueError as error:
        raise invalid(f"what is to be trusted is no certificate and no public key: {error}") from None
    if wanted != spki:
        raise integrity("the transcript is signed by another key than the trusted one")
    return True


def _check_inputs(folder: Path, opened: Entry) -> Script:
    data = (folder / SCRIPT).read_bytes() if (folder / SCRIPT).is_file() else b""
    if hashlib.sha256(data).hexdigest() != opened["script_sha256"]:
        raise integrity(f"{SCRIPT} is not the script of this ceremony")
    for name, sha256 in opened["inputs"].items():
        path = folder / "inputs" / Path(name).name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            raise integrity(f"inputs/{name} is not the file that the ceremony was begun with")
    script = parse(data, SCRIPT)
    if list(script.witnesses) != opened["witnesses"] or len(script.step) != opened["steps"]:
        raise integrity("the first line of the transcript does not fit its script")
    return script


def _check_steps(script: Script, entries: Sequence[Entry]) -> tuple[int, ...]:
    given_up = []
    last = 0
    for number, step in enumerate(script.step):
        action = step.__struct_config__.tag
        own = [entry for entry in entries if entry.get("step") == number]
        plans, dones = ([e for e in own if e["kind"] == kind] for kind in ("plan", "done"))
        if not dones:
            if not any(entry["kind"] == "abandoned" for entry in own):
                raise integrity(f"step {number + 1} was neither done nor given up")
            given_up.append(number + 1)
            continue
        if len(plans) != 1 or len(dones) != 1 or given_up:
            raise integrity(f"step {number + 1} was not done once, in its turn")
        plan, done = plans[0], dones[0]
        agreed = {
            str(entry["by"])
            for entry in own
            if entry["kind"] == "confirmed"
            and entry["plan"] == plan["n"]
            and plan["n"] < entry["n"] < done["n"]
        }
        if not last < plan["n"] or agreed != set(script.witnesses):
            raise integrity(
                f"step {number + 1} was done without its plan or before every witness confirmed it"
            )
        if plan["action"] != action or done["action"] != action:
            raise integrity(f"step {number + 1} is not the {action} of the script")
        last = done["n"]
    return tuple(given_up)


def _check_documents(folder: Path, opened: Entry, entries: Sequence[Entry]) -> None:
    held = replay(opened["held"], ())
    for root in held.roots.values():
        _check_certificate(folder, root.name, root.sha256, root.name, None)
    for done in found(list(entries), "done"):
        plan = next(found(list(entries), "plan", int(done["step"])))["facts"]
        held = held.after(done)
        if "root" in done:
            name = str(done["root"]["name"])
            _check_certificate(folder, name, done["root"]["sha256"], name, done["tbs_sha256"])
            if plan["cka_id"] != done["key"]["cka_id"]:
                raise integrity(f"the key of {name} is not the planned one")
        elif "certificate" in done:
            made = done["certificate"]
            _check_certificate(folder, made["name"], made["sha256"], str(done["issuer"]), plan["tbs_sha256"])
        elif "crl" in done:
            _check_crl(folder, done, plan, held.root(str(done["issuer"])))


def _check_certificate(folder: Path, name: str, sha256: str, issuer: str, tbs_sha256: str | None) -> None:
    certificate, above = _read(folder, name), _read(folder, issuer)
    if hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest() != sha256:
        raise integrity(f"{name}.crt is not the certificate that was recorded")
    planned = hashlib.sha256(certificate.tbs_certificate_bytes).hexdigest()
    if tbs_sha256 is not None and planned != tbs_sha256:
        raise integrity(f"{name}.crt is not the certificate that was planned")
    try:
        certificate.verify_directly_issued_by(above)
    except (ValueError, TypeError, InvalidSignature):
        raise integrity(f"{name}.crt was not signed by {issuer}.crt") from None


def _check_crl(folder: Path, done: Entry, plan: Mapping[str, Any], root: HeldRoot) -> None:
    number = int(done["crl"]["number"])
    path = folder / f"{root.name}-{number}.crl"
    try:
        crl = x509.load_pem_x509_crl(path.read_bytes())
    except (OSError, ValueError):
        raise integrity(f"{path.name} is missing or cannot be read") from None
    if hashlib.sha256(crl.public_bytes(Encoding.DER)).hexdigest() != done["crl"]["sha256"]:
        raise integrity(f"{path.name} is not the CRL that was recorded")
    if hashlib.sha256(crl.tbs_certlist_bytes).hexdigest() != plan["tbs_sha256"]:
        raise integrity(f"{path.name} is not the CRL that was planned")
    if not crl.is_signature_valid(_key(_read(folder, root.name).public_key())):
        raise integrity(f"{path.name} was not signed by {root.name}.crt")
    listed = {f"{entry.serial_number:x}" for entry in crl}
    if not listed <= {one.serial.lstrip("0") for one in root.revoked}:
        raise integrity(f"{path.name} names a certificate that no step revoked")


def _check_attributes(done: Entry) -> None:
    seen = done["attributes"]
    wrong = sorted(name for name, value in _BORN_IN_THE_TOKEN.items() if seen.get(name) is not value)
    if wrong or seen.get("CKA_ID") != done["key"]["cka_id"]:
        raise integrity(
            f"the token said of key {done['key']['name']} what no CA key may be: {', '.join(wrong)}"
        )


def _read(folder: Path, name: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())
    except (OSError, ValueError):
        raise integrity(f"{name}.crt is missing or cannot be read") from None


def _spki(key: Any) -> bytes:
    spki: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return spki


def _key(key: object) -> CaPublicKey:
    if not isinstance(key, CaPublicKey):
        raise integrity("a key of a type that CAs here never have")
    return key
