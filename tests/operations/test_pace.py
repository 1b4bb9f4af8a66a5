"""Which calls may run on an event loop: only what is in memory already, small and quick."""

from __future__ import annotations

from typing import Any

import pytest

from kms.operation import Runs
from tests.keys.rig import Rig

P = "aGVsbG8="
BIG = "A" * (256 * 1024 + 4)
KEYS = {
    "aes": ("aes256-gcm96", "software"),
    "hsm": ("aes256-gcm96", "hsm"),
    "p256": ("ecdsa-p256", "hsm"),
    "p384": ("ecdsa-p384", "hsm"),
    "ed": ("ed25519", "hsm"),
    "rsa": ("rsa-2048", "software"),
}
# operation, arguments, whether it may run inline once the key is in memory
CASES: list[tuple[str, dict[str, Any], bool]] = [
    ("encrypt", {"name": "aes", "plaintext": P}, True),
    ("encrypt", {"name": "aes", "plaintext": BIG}, False),
    ("encrypt", {"name": "aes", "batch_input": [{"plaintext": P}] * 400}, True),
    ("encrypt", {"name": "aes", "batch_input": [{"plaintext": P}] * 401}, False),
    ("encrypt", {"name": "hsm", "plaintext": P}, True),
    ("encrypt", {"name": "hsm", "batch_input": [{"plaintext": P}] * 100}, False),
    ("decrypt", {"name": "aes", "ciphertext": "x"}, True),
    ("decrypt", {"name": "aes", "ciphertext": BIG}, False),
    ("rewrap", {"name": "aes", "ciphertext": "x"}, True),
    ("datakey", {"name": "aes", "kind": "wrapped"}, True),
    ("sign", {"name": "p256", "input": P}, True),
    ("sign", {"name": "p256", "batch_input": [{"input": P}] * 50}, False),
    ("sign", {"name": "ed", "input": P}, True),
    ("sign", {"name": "p384", "input": P}, False),
    ("sign", {"name": "rsa", "input": P}, False),
    ("verify", {"name": "rsa", "input": P, "signature": "x"}, True),
    ("verify", {"name": "p384", "input": P, "signature": "x"}, True),
    ("verify", {"name": "p384", "batch_input": [{"input": P, "signature": "x"}] * 3}, False),
    ("verify", {"name": "p256", "input": BIG, "signature": "x"}, False),
    ("verify", {"name": "aes", "batch_input": [{"input": P, "hmac": "x"}] * 100}, True),
    ("verify", {"name": "hsm", "batch_input": [{"input": P, "hmac": "x"}] * 100}, False),
    ("hmac", {"name": "p256", "input": P}, True),
    ("hmac", {"name": "aes", "input": BIG}, False),
    ("hmac", {"name": "aes", "input": None}, True),
    ("hash", {"input": P}, True),
    ("hash", {"input": BIG}, False),
]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory, token: Any) -> Rig:
    rig = Rig(tmp_path_factory.mktemp("db"), lambda: token.hsm, token.roots)
    for name, (type_, protection) in KEYS.items():
        rig.create(name, type_, protection=protection)
    rig.store.refresh()
    return rig


def judge(rig: Rig, operation: str, args: dict[str, Any]) -> bool:
    call = rig.call(operation, **args)
    assert call.operation.runs is Runs.INLINE
    assert call.operation.inline_if is not None
    return call.operation.inline_if(call)


@pytest.mark.parametrize("case", range(len(CASES)))
def test_only_small_and_quick_calls_run_inline(loaded: Rig, case: int) -> None:
    operation, args, inline = CASES[case]
    if "name" in args:
        live = loaded.service.get("mount-1", args["name"])
        assert live is not None
        version = live.version(1)
        if version.allowance is not None and not version.allowance.covers(400):
            version.allowance.spend(1)
    assert judge(loaded, operation, args) is inline


def test_a_key_that_is_not_in_memory_is_loaded_elsewhere(loaded: Rig) -> None:
    loaded.service._live.clear()
    for operation, args, _ in CASES:
        if "name" in args:
            loaded.service._live.clear()  # making the call asks whether the key exists
            found = loaded.table[f"transit.{operation}"]
            call = loaded.call(operation, **args)
            loaded.service._live.clear()
            assert found.inline_if is not None
            assert found.inline_if(call) is False
            live = loaded.service.get("mount-1", args["name"])  # the name alone is not enough
            assert live is not None
            assert found.inline_if(call) is False


def test_drawing_an_allowance_is_not_done_inline(rig: Rig) -> None:
    rig.create("k")
    live = rig.service.get("mount-1", "k")
    assert live is not None
    live.version(1)
    assert judge(rig, "encrypt", {"name": "k", "plaintext": P}) is False
    rig.run("encrypt", name="k", plaintext=P)
    assert judge(rig, "encrypt", {"name": "k", "plaintext": P}) is True
