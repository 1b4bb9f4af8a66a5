"""Steps that make keys: a root, and a key for transcripts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from kms.hsm import KeySpec, Purpose, Resident
from kms.ids import CkaId, new_cka_id
from pki import cafields
from pki.ceremonies.desk import Desk, duration, rfc4514, tbs_sha256
from pki.ceremonies.holdings import HeldKey, HeldRoot
from pki.ceremonies.script import MakeRoot, MakeTranscriptKey
from pki.goodkey import spki_der
from pki.hsmkey import CaPublicKey, ca_spec
from pki.model import serial_hex
from pki.profiles import Draft, ca_draft, new_serial
from pki.schemes import scheme_for
from pki.signing import prepare, sign
from pki.validity import Limits, window

Facts = dict[str, Any]


@dataclass
class RootMaking:
    """Make a root. What the certificate will say is linted before there is a key for it."""

    step: MakeRoot
    desk: Desk

    def plan(self) -> Facts:
        self.desk.demand_free(self.step.name)
        ttl = duration(self.step.ttl)
        valid, _ = window({"ttl": ttl}, cafields.CA_ROLE, Limits(self.desk.now, ttl, ttl))
        facts: Facts = {
            "key_type": f"{self.step.key_type} {self.step.key_bits}",
            **_new_key(self.step),
            "serial": serial_hex(new_serial()),
            "not_before": valid[0],
            "not_after": valid[1],
        }
        stand_in = _throwaway(self.step)
        rehearsed = self._draft(stand_in, facts)
        prepare(rehearsed, stand_in, self.desk.linter)
        return {"subject": rfc4514(rehearsed.subject), **facts}

    def perform(self, facts: Facts) -> Facts:
        ref = _ref(facts, Purpose.CA_SIGN)
        spki, public = self.desk.birth(ref, str(facts["label"]))
        prepared = prepare(self._draft(public, facts), public, self.desk.linter)
        der = sign(prepared, public, self.desk.token, ref)
        root = HeldRoot(
            name=self.step.name,
            serial=str(facts["serial"]),
            not_before=int(facts["not_before"]),
            not_after=int(facts["not_after"]),
            sha256=self.desk.write(f"{self.step.name}.crt", der),
        )
        return {
            **_held(self.step.name, facts, ref, spki),
            "root": msgspec.to_builtins(root),
            "attributes": self.desk.token.attributes(ref),
            "tbs_sha256": tbs_sha256(prepared.tbs),
        }

    def _draft(self, public: CaPublicKey, facts: Facts) -> Draft:
        args = msgspec.structs.asdict(self.step)
        request = cafields.ca_request(args)
        valid = int(facts["not_before"]), int(facts["not_after"])
        issuer = (request.subject, (), scheme_for(public))
        serial = int(str(facts["serial"]), 16)
        return ca_draft(request, (public, spki_der(public)), valid, issuer, root=True, serial=serial)


@dataclass
class TranscriptKeyMaking:
    """Make a pair that signs transcripts, so that no CA key signs anything but certificates and CRLs."""

    step: MakeTranscriptKey
    desk: Desk

    def plan(self) -> Facts:
        self.desk.demand_free(self.step.name)
        return {"key_type": f"{self.step.key_type} {self.step.key_bits}", **_new_key(self.step)}

    def perform(self, facts: Facts) -> Facts:
        ref = _ref(facts, Purpose.LOG_SIGN)
        spki, _ = self.desk.birth(ref, str(facts["label"]))
        return {
            **_held(self.step.name, facts, ref, spki),
            "attributes": self.desk.token.attributes(ref),
        }


def _new_key(step: MakeRoot | MakeTranscriptKey) -> Facts:
    return {
        "cka_id": new_cka_id().hex(),
        "label": f"ceremony/{step.name}",
        "spec": str(ca_spec(step.key_type, step.key_bits)),
    }


def _ref(facts: Facts, purpose: Purpose) -> Resident:
    return Resident(CkaId(bytes.fromhex(facts["cka_id"])), purpose, KeySpec(facts["spec"]))


def _held(name: str, facts: Facts, ref: Resident, spki: bytes) -> Facts:
    key = HeldKey(
        name=name, cka_id=facts["cka_id"], purpose=str(ref.purpose), spec=str(ref.spec), spki=spki.hex()
    )
    return {"key": msgspec.to_builtins(key)}


def _throwaway(step: MakeRoot) -> CaPublicKey:
    """A key of the type for the rehearsal; nobody keeps it. RSA of 2048 bits, whatever is asked: quicker."""
    if step.key_type == "rsa":
        return rsa.generate_private_key(65537, 2048).public_key()
    if step.key_type == "ed25519":
        return ed25519.Ed25519PrivateKey.generate().public_key()
    return ec.generate_private_key(ec.SECP384R1()).public_key()
