"""Key types, derived keys and convergent encryption, against the real server."""

from __future__ import annotations

import httpx

from tests.keys.rig import Rig
from tests.operations.peer import CLIENT_FAULT, SUPERSET, Case, P, compare, post

C = "Y29udGV4dA=="
TYPES = [
    "aes128-gcm96",
    "xchacha20-poly1305",
    "ecdsa-p521",
    "rsa-3072",
    "mldsa-44",
    "mldsa-65",
    "mldsa-87",
]
SYMMETRIC = ["aes128-gcm96", "aes256-gcm96", "chacha20-poly1305", "xchacha20-poly1305"]
SETUP = [
    *(post(f"keys/{name}", type=name) for name in TYPES),
    *(post(f"keys/d-{name}", type=name, derived=True) for name in [*SYMMETRIC, "ed25519"]),
    *(post(f"keys/c-{name}", type=name, derived=True, convergent_encryption=True) for name in SYMMETRIC),
]
READS = [
    *(Case("GET", f"keys/{name}") for name in TYPES),
    *(Case("GET", f"keys/d-{name}") for name in [*SYMMETRIC, "ed25519"]),
    *(Case("GET", f"keys/c-{name}") for name in SYMMETRIC),
    Case("GET", "keys/d-ed25519", {"context": C}),
    Case("GET", "keys/d-ed25519", {"context": "!!"}),
    Case("GET", "keys/d-aes256-gcm96", {"context": C}),
    post("keys/x", type="ed25519", derived=True, convergent_encryption=True, allowed=CLIENT_FAULT),
    post("keys/x", type="ecdsa-p256", derived=True, convergent_encryption=True, allowed=CLIENT_FAULT),
    post("keys/x", type="hmac", derived=True, key_size=32, allowed=CLIENT_FAULT),
    post("keys/x", type="aes128-cmac", allowed=SUPERSET),
]
DERIVED = [
    case
    for name in ("d-aes256-gcm96", "c-aes256-gcm96", "c-xchacha20-poly1305", "d-aes128-gcm96")
    for case in (
        post(f"encrypt/{name}", plaintext=P),
        post(f"encrypt/{name}", plaintext=P, context=C),
        post(f"encrypt/{name}", plaintext="", context=C),
        post(f"encrypt/{name}", plaintext=P, context="!!"),
        post(f"encrypt/{name}", plaintext=P, context=C, associated_data=P),
        post(f"encrypt/{name}", batch_input=[{"plaintext": P, "context": C}, {"plaintext": P}]),
        post(f"encrypt/{name}", batch_input=[{"plaintext": P}, {"plaintext": P}]),
        post(
            f"encrypt/{name}",
            batch_input=[{"plaintext": P, "context": C}, {"plaintext": P, "context": "!!"}],
        ),
        post(f"decrypt/{name}", ciphertext="vault:v1:" + "A" * 60),
        post(f"decrypt/{name}", ciphertext="vault:v1:" + "A" * 60, context=C),
        post(f"decrypt/{name}", ciphertext="vault:v1:AAAA", context=C),
        post(f"decrypt/{name}", batch_input=[{"ciphertext": "vault:v1:" + "A" * 60}]),
        post(f"rewrap/{name}", ciphertext="vault:v1:" + "A" * 60),
        post(f"rewrap/{name}", ciphertext="vault:v1:" + "A" * 60, context=C),
        post(f"datakey/plaintext/{name}"),
        post(f"datakey/plaintext/{name}", context=C),
        post(f"datakey/wrapped/{name}", context="!!"),
        post(f"hmac/{name}", input=P),
    )
]
UPSERTS = [
    post("encrypt/up1", plaintext=P, context=C),
    Case("GET", "keys/up1"),
    post("encrypt/up2", plaintext=P, context=C, convergent_encryption=True),
    Case("GET", "keys/up2"),
    post("encrypt/up3", plaintext=P, convergent_encryption=True),
    post("encrypt/up4", plaintext=P, type="aes128-gcm96"),
    post("encrypt/up5", plaintext=P, type="xchacha20-poly1305"),
    post("encrypt/up6", batch_input=[{"plaintext": P, "context": C}]),
    Case("GET", "keys/up6"),
]
SIGNING = [
    post("sign/d-ed25519", input=P, allowed=CLIENT_FAULT),
    post("sign/d-ed25519", input=P, context=C),
    post("sign/d-ed25519", input=P, context="!!"),
    post("sign/d-ed25519", batch_input=[{"input": P, "context": C}, {"input": P}]),
    post("verify/d-ed25519", input=P, signature="vault:v1:YQ==", allowed=CLIENT_FAULT),
    post("verify/d-ed25519", input=P, signature="vault:v1:YQ==", context=C),
    post("verify/d-ed25519", input=P, hmac="vault:v1:YQ=="),
    post("hmac/d-ed25519", input=P),
    *(post(f"sign/ecdsa-p521{path}", input=P) for path in ("", "/sha1", "/sha2-512", "/sha3-224")),
    post("sign/ecdsa-p521", input=P, marshaling_algorithm="jws"),
    post("verify/ecdsa-p521", input=P, signature="vault:v1:MAYCAQECAQE="),
    post("sign/rsa-3072", input=P),
    post("sign/rsa-3072", input=P, signature_algorithm="pkcs1v15"),
    post("encrypt/rsa-3072", plaintext=P),
    *(post(f"sign/mldsa-{level}", input=P) for level in (44, 65, 87)),
    post("sign/mldsa-44", input=P, prehashed=True, hash_algorithm="none"),
    post("sign/mldsa-44", input=P, hash_algorithm="bogus"),
    post("sign/mldsa-44", input=P, marshaling_algorithm="jws"),
    post("verify/mldsa-44", input=P, signature="vault:v1:YQ=="),
    post("encrypt/mldsa-44", plaintext=P),
    post("keys/mldsa-44/csr"),
    post("keys/x", type="ml-dsa", allowed=SUPERSET),
    post("encrypt/aes128-gcm96", plaintext=P, associated_data=P),
    post("encrypt/xchacha20-poly1305", plaintext=P, associated_data=P),
    post("decrypt/xchacha20-poly1305", ciphertext="vault:v1:" + "A" * 44),
    post("decrypt/xchacha20-poly1305", ciphertext="vault:v1:" + "A" * 56),
]


def test_every_request_gets_the_real_servers_answer(peer: httpx.Client, hsm_rig: Rig) -> None:
    compare(peer, hsm_rig, SETUP, [*READS, *DERIVED, *UPSERTS, *SIGNING])
