"""Published vectors (NIST CAVP, RFC 8032, RFC 4231) through the operations' own code (T-03).

The keys of vectors cannot be asked for through the API, so each vector gets a `LiveKey` whose one
version holds the vector's key.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cryptography_vectors
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kms.errors import KmsError
from kms.keys.aead import XChaCha20Poly1305, hchacha20
from kms.keys.catalogue import Protection
from kms.keys.live import LiveKey
from kms.keys.model import NamedKey
from kms.keys.ready import ReadyVersion, SoftwareCmac, SoftwareMac
from kms.keys.signing import HASHES, How, SoftwareEdwards, verify
from kms.operations.formats import encode
from kms.operations.mac import check_cmac, check_mac
from kms.operations.sealing import Opener
from kms.operations.sign import Parameters, _verify

VECTORS = Path(cryptography_vectors.__file__).parent
CURVES = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
SHAS = {f"SHA-{bits}": f"sha{bits}" for bits in (1, 224, 256, 384, 512)}


def live(type_: str, **parts: Any) -> LiveKey:
    key = NamedKey(id="0" * 32, mount="m", name="k", type=type_, protection=Protection.SOFTWARE, created=0.0)
    ready = ReadyVersion(1, parts.pop("mac", SoftwareMac(bytes(32))), **parts)
    return LiveKey(key, 0.0, lambda _key, _number: ready)


def blocks(path: str) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """Sections and records of a CAVP file: `[name = value]` lines, then `name = value` records."""
    section: dict[str, str] = {}
    record: dict[str, str] = {}
    fresh = True
    for line in [*(VECTORS / path).read_text().splitlines(), ""]:
        text = line.strip()
        if text.startswith("["):
            section = {} if fresh is False else section
            fresh = True
            name, _, value = text.strip("[]").partition(" = ")
            section[name] = value
        elif not text:
            if record:
                yield section, record
                fresh = False
            record = {}
        elif not text.startswith("#"):
            name, _, value = text.partition(" =")
            record[name] = value.strip()


@pytest.mark.parametrize("bits", [128, 256])
def test_gcm_vectors_of_nist(bits: int) -> None:
    good = bad = 0
    for section, record in blocks(f"ciphers/AES/GCM/gcmDecrypt{bits}.rsp"):
        if (section.get("IVlen"), section.get("Taglen")) != ("96", "128"):
            continue
        names = ("Key", "IV", "CT", "Tag", "AAD")
        key, iv, ct, tag, aad = (bytes.fromhex(record[name]) for name in names)
        opener = Opener(live(f"aes{bits}-gcm96", aead=AESGCM(key)))
        text = f"vault:v1:{encode(iv + ct + tag)}"
        if "FAIL" in record:
            bad += 1
            with pytest.raises(KmsError, match=r"cipher: message authentication failed\Z"):
                opener.open(text, encode(aad))
        else:
            good += 1
            assert opener.open(text, encode(aad)) == bytes.fromhex(record["PT"])
    assert good > 100
    assert bad > 100


def test_ecdsa_vectors_of_nist() -> None:
    seen = {True: 0, False: 0}
    for section, record in blocks("asymmetric/ECDSA/FIPS_186-3/SigVer.rsp"):
        curve_name, _, sha = next(iter(section)).partition(",")
        if curve_name not in CURVES:
            continue
        names = ("Qx", "Qy", "R", "S")
        x, y, r, s = (int(record[name], 16) for name in names)
        expected = record["Result"].startswith("P")
        try:
            public = ec.EllipticCurvePublicNumbers(x, y, CURVES[curve_name]).public_key()
        except ValueError:
            assert not expected  # a point off the curve never becomes a key
            continue
        key = live(f"ecdsa-{curve_name.lower().replace('-', '')}", public=public)
        text = f"vault:v1:{encode(utils.encode_dss_signature(r, s))}"
        how = Parameters(How(SHAS[sha]), jws=False)
        assert _verify(key, text, bytes.fromhex(record["Msg"]), how, b"") is expected
        seen[expected] += 1
    assert seen[True] > 20
    assert seen[False] > 50


def test_ed25519_vectors_of_rfc_8032() -> None:
    lines = (VECTORS / "asymmetric/Ed25519/sign.input").read_text().split()
    assert len(lines) == 1024
    for line in lines[::8]:
        secret, public, message, signed = line.split(":")[:4]
        key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret)[:32])
        assert key.public_key().public_bytes_raw().hex() == public
        data = bytes.fromhex(message)
        signature = bytes.fromhex(signed)[:64]
        assert SoftwareEdwards(key).sign(data, How()) == signature
        verify(key.public_key(), signature, data, How())


@pytest.mark.parametrize("name", ["sha224", "sha256", "sha384", "sha512"])
def test_hmac_vectors_of_rfc_4231(name: str) -> None:
    count = 0
    for _, record in blocks(f"HMAC/rfc-4231-{name}.txt"):
        if "MD" not in record:
            continue
        secret, message, expected = (bytes.fromhex(record[field]) for field in ("Key", "Msg", "MD"))
        mac = SoftwareMac(secret)
        assert mac.compute(name, message)[: len(expected)] == expected
        full = f"vault:v1:{b64encode(mac.compute(name, message)).decode()}"
        assert check_mac(live("hmac", mac=mac), full, message, name)
        count += 1
    assert count >= 6


@pytest.mark.parametrize("bits", [128, 192, 256])
def test_cmac_vectors_of_nist(bits: int) -> None:
    count = 0
    for _, record in blocks(f"CMAC/nist-800-38b-aes{bits}.txt"):
        secret, message, expected = (bytes.fromhex(record[field]) for field in ("KEY", "MESSAGE", "OUTPUT"))
        key = live(f"aes{bits}-cmac", cmac=SoftwareCmac(secret))
        assert check_cmac(key, f"vault:v1:{encode(expected)}", message, 16)
        assert check_cmac(key, f"vault:v1:{encode(expected[:8])}", message, 8)
        assert not check_cmac(key, f"vault:v1:{encode(expected[:8])}", message, 16)
        count += 1
    assert count == 4


def test_xchacha_vectors_of_the_draft() -> None:
    """draft-irtf-cfrg-xchacha-03, 2.2.1 and A.3.1."""
    subkey = hchacha20(bytes(range(32)), bytes.fromhex("000000090000004a0000000031415927"))
    assert subkey.hex() == "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc"
    message = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
        b"sunscreen would be it."
    )
    cipher = XChaCha20Poly1305(bytes(range(0x80, 0xA0)))
    nonce, aad = bytes(range(0x40, 0x58)), bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
    sealed = cipher.encrypt(nonce, message, aad)
    assert sealed[-16:].hex() == "c0875924c1c7987947deafd8780acf49"
    assert cipher.decrypt(nonce, sealed, aad) == message


def test_every_hash_is_the_one_it_is_called() -> None:
    for name, algorithm in HASHES.items():
        assert algorithm.name.replace("-", "_") == name
