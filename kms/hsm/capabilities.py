"""What the token can do of what Keystead needs, found out by doing it. For `keystead doctor`.

Each row is tried with a throwaway session key; nothing stays in the token.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from pkcs11 import exceptions as p11
from pkcs11.constants import Attribute
from pkcs11.mechanisms import KeyType, Mechanism

from kms.errors import ErrorKind, KmsError
from kms.hsm import objects, rawops
from kms.hsm.connection import Connection
from kms.hsm.failures import LOST, name_of
from kms.hsm.hsm import CMAC_SIZE, Hsm
from kms.hsm.importing import takes
from kms.hsm.mechanisms import HMACS, OAEPS, SPECS, sign_call
from kms.hsm.model import KeySpec, Purpose, Scheme, Seal
from kms.hsm.proof import agrees
from kms.hsm.public import PROOF_SCHEME, PROOF_SIZE, spki_of, verify_proof
from kms.hsm.selftest import Bench
from kms.hsm.trials import oaep
from kms.hsm.wrapped import try_wrapping


@dataclass(frozen=True)
class Capability:
    """One row of doctor's table.

    Args:
        operation: what Keystead does with it.
        spec: the key type.
        works: it was done, and checked in software where that is possible.
        required: without it Keystead cannot run at all.
        mechanism: the PKCS#11 name of what it needs.
        finding: "works", or what the token said.
        advice: what to do about it; empty when it works.
    """

    operation: str
    spec: KeySpec
    works: bool
    required: bool
    mechanism: str
    finding: str
    advice: str


@dataclass(frozen=True)
class Trial:
    """How to find out one capability."""

    operation: str
    spec: KeySpec
    mechanisms: tuple[Mechanism, ...]  # all are needed
    attempt: Callable[[Bench], bool]
    advice: str
    seal: Seal | None = None  # needed if this seal was chosen


def _gcm(spec: KeySpec) -> Callable[[Bench], bool]:
    def attempt(bench: Bench) -> bool:
        bits = SPECS[spec].bits
        key, _ = bench.secret(
            KeyType.AES, Mechanism.AES_KEY_GEN, Attribute.ENCRYPT, Attribute.DECRYPT, bits=bits
        )
        nonce = bytes(bench.session.generate_random(96))
        sealed = rawops.encrypt(bench.session, key, nonce, b"doctor", b"")
        return rawops.decrypt(bench.session, key, nonce, sealed, b"") == b"doctor"

    return attempt


def _mac(name: str) -> Callable[[Bench], bool]:
    def attempt(bench: Bench) -> bool:
        key, _ = bench.secret(
            KeyType.GENERIC_SECRET,
            Mechanism.GENERIC_SECRET_KEY_GEN,
            Attribute.SIGN,
            Attribute.VERIFY,
            bits=SPECS[KeySpec.HMAC].bits,
        )
        mechanism, size = HMACS[name]
        return len(rawops.mac(bench.session, key, mechanism, size, b"doctor")) == size

    return attempt


def _cmac(spec: KeySpec) -> Callable[[Bench], bool]:
    def attempt(bench: Bench) -> bool:
        key, _ = bench.secret(
            KeyType.AES, Mechanism.AES_KEY_GEN, Attribute.SIGN, Attribute.VERIFY, bits=SPECS[spec].bits
        )
        return len(rawops.mac(bench.session, key, Mechanism.AES_CMAC, CMAC_SIZE, b"doctor")) == CMAC_SIZE

    return attempt


def _signature(spec: KeySpec, scheme: Scheme, size: int) -> Callable[[Bench], bool]:
    def attempt(bench: Bench) -> bool:
        key, spki = bench.pair(spec)
        payload = hashlib.sha512(b"doctor").digest()[:size]
        mechanism, parameter, data, length = sign_call(spec, scheme, payload, None)
        signature = rawops.sign(bench.session, key, mechanism, parameter, data, length)
        if scheme is PROOF_SCHEME[spec]:
            return verify_proof(spki, spec, payload, signature)
        return len(signature) == length

    return attempt


def _wrapping(spec: KeySpec) -> Callable[[Bench], bool]:
    return lambda bench: try_wrapping(bench.connection, bench.session, spec)


def _decrypts(name: str) -> Callable[[Bench], bool]:
    return lambda bench: name in oaep(bench.connection, bench.session, Purpose.KEY_DECRYPT)


def _agrees(spec: KeySpec) -> Callable[[Bench], bool]:
    def attempt(bench: Bench) -> bool:
        purpose = Purpose.KEY_AGREE
        secret, public = objects.make(bench.session, purpose, spec, token=False, cka_id=b"", label="")
        bench.made += [secret.handle, public.handle]
        return agrees(bench.session, secret.handle, spki_of(public, spec))

    return attempt


def _imports(spec: KeySpec) -> Callable[[Bench], bool]:
    def attempt(bench: Bench) -> bool:
        able = oaep(bench.connection, bench.session, Purpose.IMPORT_UNWRAP)
        return bool(able) and takes(bench.connection, bench.session, spec)

    return attempt


def _rsa_size(spec: KeySpec) -> Callable[[Bench], bool]:
    """Generating takes seconds, so the larger sizes are looked up and not tried."""

    def attempt(bench: Bench) -> bool:
        info = bench.connection.token.slot.get_mechanism_info(Mechanism.RSA_PKCS_KEY_PAIR_GEN)
        return bool(info.min_key_length <= SPECS[spec].bits <= info.max_key_length)

    return attempt


_RESIDENT: Final = "keys of this type stay resident in the token; mind its capacity"
_SOFTWARE: Final = "use protection `software` for this type, or another token"
_OTHER_SEAL: Final = "the keyring is sealed with one of the two seals; choose the other one: [hsm] seal"
_NO_IMPORT: Final = "callers' keys of this type are imported with protection `software`"
_OAEP: Final = (Mechanism.RSA_PKCS_KEY_PAIR_GEN, Mechanism.RSA_PKCS_OAEP)
_NO_EDDSA: Final = "the key of the audit log is kept under the HSM's seal; use `software` for keys of callers"
_HASH: Final = "HMACs with this hash need protection `software`"


def _trials() -> list[Trial]:
    aes, gcm, kwp = Mechanism.AES_KEY_GEN, Mechanism.AES_GCM, Mechanism.AES_KEY_WRAP_PAD
    trials = [
        Trial(
            "seal aes-gcm", KeySpec.AES_256, (aes, gcm), _gcm(KeySpec.AES_256), _OTHER_SEAL, seal=Seal.AES_GCM
        ),
        Trial(
            "seal rsa-oaep",
            KeySpec.RSA_2048,
            _OAEP,
            lambda bench: bool(oaep(bench.connection, bench.session, Purpose.ROOT_SEAL_RSA)),
            _OTHER_SEAL,
            seal=Seal.RSA_OAEP,
        ),
        Trial("encrypt", KeySpec.AES_256, (aes, gcm), _gcm(KeySpec.AES_256), _SOFTWARE),
        Trial("encrypt", KeySpec.AES_128, (aes, gcm), _gcm(KeySpec.AES_128), _SOFTWARE),
    ]
    generic = Mechanism.GENERIC_SECRET_KEY_GEN
    trials += [
        Trial(f"hmac {name}", KeySpec.HMAC, (generic, mechanism), _mac(name), _HASH)
        for name, (mechanism, _) in HMACS.items()
    ]
    trials += [
        Trial("cmac", spec, (aes, Mechanism.AES_CMAC), _cmac(spec), _SOFTWARE)
        for spec in (KeySpec.AES_128, KeySpec.AES_192, KeySpec.AES_256)
    ]
    for spec, scheme in PROOF_SCHEME.items():
        if spec in (KeySpec.RSA_3072, KeySpec.RSA_4096):
            trials.append(Trial("generate", spec, (SPECS[spec].generate,), _rsa_size(spec), _SOFTWARE))
            continue
        mechanism = sign_call(spec, scheme, bytes(PROOF_SIZE[spec]), None)[0]
        attempt = _signature(spec, scheme, PROOF_SIZE[spec])
        trials.append(
            Trial(
                f"generate and sign {scheme}",
                spec,
                (SPECS[spec].generate, mechanism),
                attempt,
                _NO_EDDSA if spec is KeySpec.ED25519 else _SOFTWARE,
            )
        )
    pss = _signature(KeySpec.RSA_2048, Scheme.RSA_PSS_SHA256, 32)
    trials.append(
        Trial("sign rsa-pss-sha256", KeySpec.RSA_2048, (Mechanism.RSA_PKCS_PSS,), pss, "sign with pkcs1v15")
    )
    trials += [
        Trial(f"decrypt oaep {name}", KeySpec.RSA_2048, _OAEP, _decrypts(name), "set another hash_function")
        for name in OAEPS
    ]
    ecdh = (Mechanism.EC_KEY_PAIR_GEN, Mechanism.ECDH1_DERIVE)
    trials += [
        Trial("derive", spec, ecdh, _agrees(spec), _SOFTWARE)
        for spec in (KeySpec.EC_P256, KeySpec.EC_P384, KeySpec.EC_P521)
    ]
    imports = (KeySpec.AES_256, KeySpec.HMAC, KeySpec.EC_P256, KeySpec.ED25519, KeySpec.RSA_2048)
    trials += [Trial("import", spec, (kwp, *_OAEP), _imports(spec), _NO_IMPORT) for spec in imports]
    families = (KeySpec.AES_256, KeySpec.HMAC, KeySpec.EC_P256, KeySpec.ED25519, KeySpec.RSA_2048)
    trials += [Trial("wrap and unwrap", spec, (kwp,), _wrapping(spec), _RESIDENT) for spec in families]
    return trials


def survey(hsm: Hsm) -> list[Capability]:
    """Try everything, a second or so on SoftHSM (it makes RSA keys).

    Raises:
        KmsError(HSM_UNAVAILABLE): the token was lost meanwhile.
    """
    chosen = hsm.gate.run(lambda c, _: Seal.RSA_OAEP if c.rsa_seal else Seal.AES_GCM, repeat=True)
    rows = [hsm.gate.run(_Row(trial, chosen), repeat=True, slow=True) for trial in _trials()]
    log_key = [row.works for row in rows if row.spec in PROOF_SCHEME and row.operation.startswith("generate")]
    if not any(log_key):
        raise KmsError(
            ErrorKind.UNSUPPORTED, "the token makes no key pair of any type: it cannot sign the audit log"
        )
    return rows


@dataclass(frozen=True)
class _Row:
    trial: Trial
    chosen: Seal

    def __call__(self, connection: Connection, session: Any) -> Capability:
        trial = self.trial
        missing = [m.name for m in trial.mechanisms if m not in _offered(connection)]
        if missing:
            return self._row(f"the token does not have {', '.join(f'CKM_{name}' for name in missing)}")
        bench = Bench(connection, session)
        try:
            return self._row("works" if trial.attempt(bench) else "the token refuses or answers wrongly")
        except LOST:
            raise
        except p11.PKCS11Error as error:
            return self._row(f"the token says {name_of(error)}")
        except KmsError as error:
            return self._row(error.detail)
        finally:
            bench.close()

    def _row(self, finding: str) -> Capability:
        trial, works = self.trial, finding == "works"
        return Capability(
            operation=trial.operation,
            spec=trial.spec,
            works=works,
            required=trial.seal is self.chosen,
            mechanism=" + ".join(m.name for m in trial.mechanisms),
            finding=finding,
            advice="" if works else trial.advice,
        )


def _offered(connection: Connection) -> frozenset[Any]:
    """The mechanisms, with either number of AES-KWP counting for both."""
    kwp = {Mechanism.AES_KEY_WRAP_PAD} if connection.kwp is not None else set()
    return connection.mechanisms | kwp
