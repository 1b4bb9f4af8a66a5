"""What reaches the token, as OpenSC's pkcs11-spy writes it down: keys are born inside, none is put in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from pki.goodkey import spki_der, spki_hash
from tests.harness.api import Api
from tests.harness.dev import ConfiguredServer
from tests.system import defective

BLOCKED = ec.generate_private_key(ec.SECP256R1())
SPY = Path("/usr/lib/x86_64-linux-gnu/pkcs11-spy.so")
VALUES = r"CKA_(VALUE|PRIVATE_EXPONENT|PRIME_\d)\s"
SECRET_CLASSES = ("CKO_SECRET_KEY", "CKO_PRIVATE_KEY")
HSM_KEYS = {
    "aes256-gcm96": "C_GenerateKey",
    "hmac": "C_GenerateKey",
    "ecdsa-p256": "C_GenerateKeyPair",
    "ecdsa-p384": "C_GenerateKeyPair",
    "ed25519": "C_GenerateKeyPair",
    "rsa-2048": "C_GenerateKeyPair",
}


@dataclass(frozen=True)
class SpyCall:
    """One call that the spy saw."""

    name: str
    text: str

    @property
    def good(self) -> bool:
        return "CKR_OK" in self.text


def calls(output: Path) -> list[SpyCall]:
    blocks = re.split(r"(?m)^\d+: (?=C_)", output.read_text(errors="replace"))
    return [SpyCall(block.split(maxsplit=1)[0], block) for block in blocks if block.startswith("C_")]


def generated(output: Path, before: int) -> list[str]:
    """Names of the calls that made keys, after the first `before` calls."""
    return [
        call.name for call in calls(output)[before:] if call.good and call.name.startswith("C_GenerateKey")
    ]


@pytest.fixture(scope="module")
def spied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ConfiguredServer, Path]]:
    assert SPY.exists(), "pkcs11-spy is not installed; run scripts/setup"
    folder = tmp_path_factory.mktemp("spied")
    output = folder / "spy.log"
    environment = {"PKCS11SPY": "/usr/lib/softhsm/libsofthsm2.so", "PKCS11SPY_OUTPUT": str(output)}
    running = ConfiguredServer(folder / "server", workers=1, environment=environment)
    blocked = folder / "blocked-keys"
    blocked.write_text(f"{spki_hash(spki_der(BLOCKED.public_key()))}  # leaked\n")

    def configure(text: str) -> str:
        return re.sub(r'module = ".*"', f'module = "{SPY}"', text) + f'\n[pki]\nblocklist = "{blocked}"\n'

    running.prepare(configure)
    try:
        running.start()
        with running.api() as api:  # a worker tests the token once, with keys of its own
            api.ok("POST", "sys/mounts/transit", {"type": "transit"})
            for kind in HSM_KEYS:
                api.ok("POST", f"transit/keys/first-{kind}", {"type": kind, "protection": "hsm"})
        yield running, output
    finally:
        running.stop()


@pytest.fixture
def api(spied: tuple[ConfiguredServer, Path]) -> Iterator[Api]:
    with spied[0].api() as client:
        yield client


@pytest.mark.parametrize("kind", HSM_KEYS)
def test_hsm_key_is_generated_by_the_token(kind: str, api: Api, spied: tuple[ConfiguredServer, Path]) -> None:
    before = len(calls(spied[1]))
    api.ok("POST", f"transit/keys/spied-{kind}", {"type": kind, "protection": "hsm"})
    assert HSM_KEYS[kind] in generated(spied[1], before)
    before = len(calls(spied[1]))
    api.ok("POST", f"transit/keys/spied-{kind}/rotate")
    assert HSM_KEYS[kind] in generated(spied[1], before)


def test_software_key_is_not_generated_by_the_token(api: Api, spied: tuple[ConfiguredServer, Path]) -> None:
    seen = []
    for number in range(5):  # a process that starts meanwhile tests the token with keys of its own
        before = len(calls(spied[1]))
        api.ok("POST", f"transit/keys/soft-{number}", {"type": "aes256-gcm96", "protection": "software"})
        seen.append(generated(spied[1], before))
    assert [] in seen


def test_authority_key_is_generated_by_the_token(api: Api, spied: tuple[ConfiguredServer, Path]) -> None:
    api.ok("POST", "sys/mounts/pki-spied", {"type": "pki"})
    before = len(calls(spied[1]))
    api.ok("POST", "pki-spied/root/generate/internal", {"common_name": "Spied Root", "key_type": "ec"})
    assert "C_GenerateKeyPair" in generated(spied[1], before)


def certificate_signatures(output: Path) -> int:
    """How often a key of a CA was asked to sign; the log's key is of another kind."""
    return sum(call.name == "C_SignInit" and "CKM_ECDSA" in call.text for call in calls(output))


def test_defective_certificates_are_refused_before_anything_is_signed(
    api: Api, spied: tuple[ConfiguredServer, Path]
) -> None:
    defective.setup(api)
    found = [*defective.keys(api, BLOCKED), *defective.names(), *defective.rules()]
    assert len({defect.rule for defect in found}) == len(found) >= 40
    before = certificate_signatures(spied[1])
    for defect in found:
        answer = api.post(defect.path, defect.body)
        assert answer.status == 400, (defect.rule, answer)
        assert defect.why in answer.errors[0], (defect.rule, answer.errors)
    assert certificate_signatures(spied[1]) == before
    api.ok("POST", f"{defective.PKI}/issue/web", {"common_name": "a.example.com", "key_type": "ec"})
    assert certificate_signatures(spied[1]) == before + 1
    print(f"{len(found)} defective requests, no C_Sign")


def test_no_secret_is_put_into_the_token(api: Api, spied: tuple[ConfiguredServer, Path]) -> None:
    for kind in ("aes256-gcm96", "ecdsa-p256", "rsa-2048"):
        for protection in ("hsm", "software"):
            name = f"put-{kind}-{protection}"
            api.ok("POST", f"transit/keys/{name}", {"type": kind, "protection": protection})
            verb, field = ("encrypt", "plaintext") if kind == "aes256-gcm96" else ("sign", "input")
            api.ok("POST", f"transit/{verb}/{name}", {field: "aGVsbG8="})
    api.ok("POST", "sys/hsm/root/rotate")
    seen = calls(spied[1])
    assert len(seen) > 100
    created = [
        call for call in seen if call.name in {"C_CreateObject", "C_CopyObject", "C_SetAttributeValue"}
    ]
    assert not [call for call in created if any(kind in call.text for kind in SECRET_CLASSES)]
    assert not [call for call in created if call.name != "C_CreateObject"]


def test_no_value_of_a_kept_key_is_read(spied: tuple[ConfiguredServer, Path]) -> None:
    """The self-test reads back throw-away session keys that it made readable, and nothing else is read."""
    made: dict[str, SpyCall] = {}
    reads = 0
    for call in calls(spied[1]):
        if call.good and (born := re.search(r"\[out\] h(?:Private)?Key = (0x\w+)", call.text)):
            made[born[1]] = call
        if call.name != "C_GetAttributeValue" or not call.good or not re.search(VALUES, call.text):
            continue
        asked = re.search(r"hObject = (0x\w+)", call.text)
        assert asked is not None
        source = made[asked[1]].text
        assert re.search(r"CKA_SENSITIVE +False", source), source
        assert re.search(r"CKA_TOKEN +False", source), source
        reads += 1
    assert reads
