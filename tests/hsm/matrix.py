"""What every operation does with keys of protection hsm on one module: `python -m tests.hsm.matrix NAME FOLDER`.

Prints JSON: cell -> "works", or the PKCS#11 mechanism that a 400 names. Anything else stands there as it is, and no
expectation matches it. In a process of its own, as a module is loaded once per process. The operations are the
ones behind the HTTP API (tests.keys.rig), on the real module and a real database.
"""

from __future__ import annotations

import json
import os
import re
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import keywrap
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)

from kms.clock import SystemClock
from kms.errors import ErrorKind, KmsError
from kms.hsm import Hsm, HsmConfig, KeySpec, Purpose, oaep_encrypt, softhsm_token
from kms.ids import CkaId, new_cka_id
from tests.hsm.modules import far_side, nss_token
from tests.keys.rig import Rig

TEXT = b64encode(b"card 4711").decode()
SIGNING = ("ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "ed25519", "rsa-2048", "rsa-3072", "rsa-4096")
HASHES = ("sha2-224", "sha2-256", "sha2-384", "sha2-512", "sha3-224", "sha3-256", "sha3-384", "sha3-512")
OAEP = ("SHA1", "SHA224", "SHA256", "SHA384", "SHA512")
_NAMED = re.compile(r"CKM_\w+")
Cell = Callable[[Rig], object]


class Roots:
    """The roots that the token can carry, made when they are asked for."""

    def __init__(self, hsm: Hsm) -> None:
        self._hsm = hsm
        self._made: dict[Purpose, CkaId] = {}

    def current(self, purpose: Purpose) -> CkaId:
        if purpose not in self._made:
            form = self._hsm.root_form(purpose, KeySpec.AES_256)
            assert not form.lacks, "a root was asked for that this token cannot carry"
            self._made[purpose] = cka_id = new_cka_id()
            self._hsm.generate(form.purpose, form.spec, cka_id, f"keystead {purpose.value} v1")
        return self._made[purpose]

    def candidates(self, purpose: Purpose) -> list[CkaId]:
        if self._hsm.root_form(purpose, KeySpec.AES_256).lacks:
            return [new_cka_id()]  # as kms.keys.roots: a row is there, and no object
        return [self.current(purpose)]


def _fresh(rig: Rig, type_: str, **more: Any) -> str:
    name = f"k{os.urandom(6).hex()}"
    rig.create(name, type_, protection="hsm", **more)
    return name


def _aead(type_: str) -> Iterator[tuple[str, Cell]]:
    def sealed(rig: Rig) -> tuple[str, str]:
        name = _fresh(rig, type_)
        return name, rig.run("encrypt", name=name, plaintext=TEXT)["ciphertext"]

    def decrypt(rig: Rig) -> None:
        name, ciphertext = sealed(rig)
        assert rig.run("decrypt", name=name, ciphertext=ciphertext)["plaintext"] == TEXT

    def rewrap(rig: Rig) -> None:
        name, ciphertext = sealed(rig)
        rig.run("keys.rotate", name=name)
        newer = rig.run("rewrap", name=name, ciphertext=ciphertext)["ciphertext"]
        assert newer.startswith("vault:v2:")
        assert rig.run("decrypt", name=name, ciphertext=newer)["plaintext"] == TEXT

    yield "encrypt", sealed
    yield "decrypt", decrypt
    yield "rewrap", rewrap
    yield "datakey", lambda rig: rig.run("datakey", name=_fresh(rig, type_), kind="plaintext")
    yield "hmac", lambda rig: rig.run("hmac", name=_fresh(rig, type_), input=TEXT)


def _sign(type_: str, **how: Any) -> Cell:
    def cell(rig: Rig) -> None:
        name = _fresh(rig, type_)
        signature = rig.run("sign", name=name, input=TEXT, **how)["signature"]
        assert rig.run("verify", name=name, input=TEXT, signature=signature, **how)["valid"]

    return cell


def _decrypt(hash_name: str) -> Cell:
    def cell(rig: Rig) -> None:
        name = _fresh(rig, "rsa-2048", purpose="decrypt", hash_function=hash_name)
        ciphertext = rig.run("encrypt", name=name, plaintext=TEXT)["ciphertext"]
        assert rig.run("decrypt", name=name, ciphertext=ciphertext)["plaintext"] == TEXT

    return cell


def _derive(type_: str) -> Cell:
    def cell(rig: Rig) -> None:
        name = _fresh(rig, type_, purpose="derive")
        rig.create(f"{name}-peer", type_, protection="software")
        peer = rig.run("keys.read", name=f"{name}-peer")["keys"]["1"]["public_key"]
        rig.run("derive-key", name=f"{name}-made", base_key_name=name, peer_public_key=peer)

    return cell


def _target(type_: str) -> tuple[bytes, str]:
    private: Any
    if type_.startswith("ecdsa"):
        curve = {"256": ec.SECP256R1(), "384": ec.SECP384R1(), "521": ec.SECP521R1()}[type_[-3:]]
        private = ec.generate_private_key(curve)
    elif type_.startswith("rsa"):
        private = rsa.generate_private_key(65537, int(type_[4:]))
    elif type_ == "ed25519":
        private = Ed25519PrivateKey.generate()
    else:
        return os.urandom({"aes128": 16, "aes192": 24}.get(type_[:6], 32)), ""
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()), public.decode()


def _import(type_: str) -> Cell:
    def cell(rig: Rig) -> None:
        answer = rig.run("wrapping-key", protection="hsm")
        hash_name = answer["hash_functions"][0]
        wrapping = load_pem_public_key(answer["public_key"].encode())
        assert isinstance(wrapping, rsa.RSAPublicKey)
        target, public = _target(type_)
        once = os.urandom(32)
        parcel = oaep_encrypt(wrapping, hash_name.lower(), once)
        parcel += keywrap.aes_key_wrap_with_padding(once, target)
        sent = {"ciphertext": b64encode(parcel).decode(), "public_key": public, "hash_function": hash_name}
        rig.run("keys.import", name=f"i{os.urandom(6).hex()}", type=type_, protection="hsm", **sent)

    return cell


def _seal(rig: Rig) -> None:
    root = rig.roots.current(Purpose.ROOT_SEAL)
    sealed = rig.hsm().seal(root, bytes(32), b"term")
    assert rig.hsm().unseal(root, sealed, b"term") == bytes(32)


def _mac(operation: str, type_: str, **how: Any) -> Cell:
    return lambda rig: rig.run(operation, name=_fresh(rig, type_), input=TEXT, **how)


def cells() -> Iterator[tuple[str, Cell]]:
    """Every cell by its name."""
    yield "seal", _seal
    yield "random", lambda rig: rig.run("random", source="seal")
    for type_ in ("aes128-gcm96", "aes256-gcm96"):
        yield from ((f"{type_} {name}", cell) for name, cell in _aead(type_))
    for hash_name in HASHES:
        yield f"hmac {hash_name}", _mac("hmac", "hmac", algorithm=hash_name)
    for type_ in ("aes128-cmac", "aes192-cmac", "aes256-cmac"):
        yield f"{type_} cmac", _mac("cmac", type_)
    for type_ in SIGNING:
        yield f"{type_} sign", _sign(type_)
    for algorithm in ("pkcs1v15", "pss"):
        for hash_name in HASHES[:4]:
            how = {"signature_algorithm": algorithm, "hash_algorithm": hash_name}
            yield f"rsa-2048 sign {algorithm} {hash_name}", _sign("rsa-2048", **how)
    yield from ((f"rsa-2048 decrypt {name}", _decrypt(name)) for name in OAEP)
    yield from ((f"{type_} derive", _derive(type_)) for type_ in SIGNING[:3])
    symmetric = ("aes128-gcm96", "aes256-gcm96", "hmac", "aes256-cmac")
    yield from ((f"{type_} import", _import(type_)) for type_ in (*symmetric, *SIGNING))


def outcome(rig: Rig, cell: Cell) -> str:
    """The word "works", the mechanism of a 400, or whatever else happened."""
    try:
        cell(rig)
    except KmsError as error:
        named = _NAMED.search(error.detail)
        if error.kind is ErrorKind.INVALID and named:
            return named[0]
        return f"{error.kind.value}: {error.detail}"
    return "works"


@contextmanager
def opened(name: str, folder: Path) -> Iterator[HsmConfig]:
    """The configuration of a module by its name in the matrix."""
    if name == "softhsm":
        yield softhsm_token(folder / "token")
    elif name == "p11-kit":
        with far_side(folder / "far") as far:
            yield far.config
    else:
        yield nss_token(folder)


def main(name: str, folder: Path) -> None:
    """Fill in the matrix of one module."""
    with opened(name, folder) as config:
        hsm = Hsm.open(config, SystemClock())
        rig = Rig(folder / "db", lambda: hsm, Roots(hsm))
        print(json.dumps({name: outcome(rig, cell) for name, cell in cells()}))
        hsm.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
