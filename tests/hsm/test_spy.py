"""Seen through OpenSC's pkcs11-spy.so: keys are generated in the token, never put into it."""

from __future__ import annotations

from pathlib import Path

from tests.hsm.parts import Spy, run_python

PROGRAM = """
import threading
from tests.hsm.parts import make_roots

hsm = Hsm.open(config, SystemClock())
roots = make_roots(hsm)
hsm.generate(Purpose.LOG_SIGN, KeySpec.ED25519, new_cka_id(), "log")
ec = hsm.generate_wrapped(Purpose.KEY_SIGN, KeySpec.EC_P256, roots[Purpose.ROOT_WRAP_SIGN], b"c")
aes = hsm.generate_wrapped(Purpose.KEY_ENC, KeySpec.AES_256, roots[Purpose.ROOT_WRAP_ENC], b"c")
mac = hsm.generate_wrapped(Purpose.KEY_MAC, KeySpec.HMAC, roots[Purpose.ROOT_WRAP_MAC], b"c")

def use():
    hsm.sign(ec, Scheme.ECDSA, bytes(32))
    hsm.decrypt(aes, bytes(12), hsm.encrypt(aes, bytes(12), b"x", b""), b"")
    hsm.mac(mac, "sha256", b"x")

threads = [threading.Thread(target=use) for _ in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
print("generated", flush=True)
hsm.retire_unused()
hsm.self_test()
hsm.close()
"""


def test_no_secret_is_ever_put_into_the_token(tmp_path: Path) -> None:
    spy = Spy(tmp_path)
    done = run_python(PROGRAM, tmp_path / "token", environment=spy.environment)
    assert done.stdout.strip() == "generated", done.stderr
    assert done.stderr == ""
    # 4 roots, the sentinel, 2 secret keys; the log key and the EC pair. Self-tests make more.
    assert spy.count("C_GenerateKey") >= 7
    assert spy.count("C_GenerateKeyPair") >= 2
    assert spy.count("C_WrapKey") >= 3
    assert spy.count("C_UnwrapKey") >= 3
    # H4: nothing is put in, copied or changed.
    for never in ("C_CreateObject", "C_CopyObject", "C_SetAttributeValue", "C_SetPIN"):
        assert spy.count(never) == 0, never
    # H5: one login for all threads, and no session is closed one by one afterwards.
    assert spy.text.count("CKU_USER") == 1
    assert "C_CloseSession" not in spy.text.split("CKU_USER")[1]


DOCTOR = """
from kms.hsm import theft
from kms.hsm.capabilities import survey

hsm = Hsm.open(config, SystemClock())
print(len(theft.steal(hsm)) > 50, len(survey(hsm)) > 15)
hsm.close()
"""


def test_not_even_doctor_puts_a_key_into_the_token(tmp_path: Path) -> None:
    spy = Spy(tmp_path)
    done = run_python(DOCTOR, tmp_path / "token", environment=spy.environment)
    assert done.stdout.strip() == "True True", done.stderr
    assert spy.count("C_SetAttributeValue") > 0, "the theft was tried"
    assert spy.count("C_CreateObject") == 0
